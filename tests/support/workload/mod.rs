//! A random but repeatable workload on TiDB: tables of every type, rows and DDL that change them at the same time.

mod ddl;
mod model;
mod rows;
pub mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::model::Model;
use self::rows::Counts;
use super::sql::{self, quote, run};
use super::stack::Stack;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub writers: u64,
    /// Mean time between two transactions of a writer.
    pub row_pace: Duration,
    /// Mean time between two DDL statements; None = no DDL.
    pub ddl_pace: Option<Duration>,
    /// No rows of a table are written while one of its columns is dropped: needed where the Drainer is restarted.
    pub calm_drops: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            writers: 3,
            row_pace: Duration::from_millis(25),
            ddl_pace: Some(Duration::from_millis(250)),
            calm_drops: false,
        }
    }
}

/// A workload with its tables made and filled.
pub struct Workload {
    stack: Stack,
    seed: u64,
    schemas: [String; 2],
    model: Arc<Model>,
}

/// The seed of a run: `TIDEGATE_SEED`, else of the clock. Printed, so that a run can be repeated.
pub fn seed(test: &str) -> u64 {
    let given =
        std::env::var("TIDEGATE_SEED").ok().map(|text| text.parse().expect("TIDEGATE_SEED is a number"));
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    eprintln!("{test}: TIDEGATE_SEED={seed}");
    seed
}

impl Workload {
    /// Makes the schemas `{prefix}_a` and `{prefix}_b` anew, on both sides, and all tables with some rows on the source.
    pub async fn prepare(stack: &Stack, prefix: &str, seed: u64) -> Self {
        let schemas = [format!("{prefix}_a"), format!("{prefix}_b")];
        sql::drop_schemas(stack, &[&schemas[0], &schemas[1]]).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let model = Arc::new(Model::default());
        let mut tidb = session(stack).await;
        for schema in &schemas {
            run(&mut tidb, &[&format!("CREATE DATABASE {}", quote(schema))]).await;
        }
        for (index, template) in template::templates(stack.dialect).enumerate() {
            let schema = &schemas[usize::from(index % 3 == 2)];
            let create =
                format!("CREATE TABLE {}.{} {}", quote(schema), quote(template.name), template.definition);
            run(&mut tidb, &[&create]).await;
            let table = model.add(schema, template.name, template, None);
            for _ in 0..3 {
                // Random rows of a table with a second unique key may be refused.
                let _ = tidb.query_drop(rows::insert(&table, &mut rng, 100)).await;
            }
        }
        run(
            &mut tidb,
            &[
                "SET SESSION cte_max_recursion_depth = 1000000",
                &format!(
                    "INSERT IGNORE INTO {}.{} (id, v, filler) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                     WHERE i < {}) SELECT i, i % 97, CONCAT('row-', i, REPEAT('p', 30)) FROM n",
                    quote(model.schema_of(template::BULK).as_str()),
                    quote(template::BULK),
                    template::BULK_ROWS
                ),
            ],
        )
        .await;
        Self { stack: stack.clone(), seed, schemas, model }
    }

    pub fn schemas(&self) -> [&str; 2] {
        [&self.schemas[0], &self.schemas[1]]
    }

    /// Globs that select every table of the workload, for a spec.
    pub fn include(&self) -> [String; 2] {
        [format!("{}.*", self.schemas[0]), format!("{}.*", self.schemas[1])]
    }

    pub async fn start(&self, options: Options) -> Running {
        let stop = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let mut writers = Vec::new();
        for number in 0..options.writers {
            let connection = session(&self.stack).await;
            let seed = self.seed.wrapping_mul(31).wrapping_add(number + 1);
            let (model, counts) = (Arc::clone(&self.model), Arc::clone(&counts));
            writers.push(tokio::spawn(rows::write(
                connection,
                model,
                counts,
                seed,
                options.row_pace,
                stop.clone(),
            )));
        }
        let ddl = match options.ddl_pace {
            Some(pace) => {
                let (model, schemas) = (Arc::clone(&self.model), self.schemas.clone());
                let dialect = self.stack.dialect;
                let connection = session(&self.stack).await;
                let ddl = ddl::Ddl::new(connection, model, schemas, self.seed, dialect, options.calm_drops);
                Some(tokio::spawn(ddl.run(pace, stop.clone())))
            }
            None => None,
        };
        Running { stop, counts, writers, ddl }
    }
}

/// A workload that goes on until it is stopped.
pub struct Running {
    stop: CancellationToken,
    counts: Arc<Counts>,
    writers: Vec<JoinHandle<()>>,
    ddl: Option<JoinHandle<BTreeMap<&'static str, u32>>>,
}

impl Running {
    /// Lets the statements in flight end; gives what was done, in words.
    pub async fn stop(self) -> String {
        self.stop.cancel();
        for writer in self.writers {
            writer.await.expect("the writers meet no fault");
        }
        let ddl = match self.ddl {
            Some(ddl) => ddl.await.expect("the DDL meets no fault"),
            None => BTreeMap::new(),
        };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} transactions, {} statements ({} refused), DDL {ddl:?}",
            count(&self.counts.transactions),
            count(&self.counts.statements),
            count(&self.counts.refused)
        )
    }
}

async fn session(stack: &Stack) -> Conn {
    let mut tidb = sql::tidb(stack).await;
    run(&mut tidb, &["SET allow_auto_random_explicit_insert = 1"]).await;
    tidb
}

//! One random history: made from its seed, run on the source statement by statement.

use std::collections::BTreeSet;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::ddl::{self, Statement, World};
use super::rows;
use super::table::Table;
use support::sql::{self, quote};
use support::stack::Stack;

/// How the task of a history takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Schema, full and incremental sync, from the middle of the history on.
    Whole,
    /// Incremental sync alone from the history's first message, with a TiDB to ask.
    Beside,
    /// The same without a TiDB.
    Stream,
}

/// One DDL at a time of a TiDB: the Drainer stage wants their schema versions in order (tests/stack/README.md).
static DDL: [tokio::sync::Mutex<()>; 2] = [const { tokio::sync::Mutex::const_new(()) }; 2];

async fn turn(stack: &Stack) -> tokio::sync::MutexGuard<'static, ()> {
    DDL[usize::from(stack.zone != "UTC")].lock().await
}

/// On the source and every target.
pub async fn drop_schemas(stacks: &[Stack], schemas: &[String]) {
    let schemas: Vec<&str> = schemas.iter().map(String::as_str).collect();
    for stack in stacks {
        let _turn = turn(stack).await;
        sql::drop_schemas(stack, &schemas).await;
    }
}

/// Tables of one history.
const MOST: usize = 7;

pub struct History {
    pub seed: u64,
    pub mode: Mode,
    pub schemas: Vec<String>,
    /// What was run, with the server's refusals.
    pub log: Vec<String>,
    /// What the statements that were run are called where stops are excused.
    pub marks: BTreeSet<&'static str>,
    stack: Stack,
    rng: StdRng,
    connection: Conn,
    tables: Vec<Table>,
    gone: Vec<(String, String)>,
}

impl History {
    pub async fn new(stack: &Stack, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mode = [Mode::Whole, Mode::Whole, Mode::Beside, Mode::Stream][rng.random_range(0..4)];
        let suffix = ["b", "B", "é", "b.c", "order", "x`y"].choose(&mut rng).expect("a name");
        let schemas = vec![format!("h{seed}_a"), format!("h{seed}_{suffix}")];
        let connection = sql::tidb(stack).await;
        let (marks, log, tables, gone) = Default::default();
        let stack = stack.clone();
        Self { seed, mode, schemas, log, marks, stack, rng, connection, tables, gone }
    }

    /// Schema and name of every table that is there now.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tables.iter().map(|table| (table.schema.as_str(), table.name.as_str()))
    }

    /// A DDL of each table by itself: after it Drainer calls all of them by their names, whatever was renamed together; with
    /// `placed` also where that was across schemas.
    pub async fn tell_apart(&mut self, placed: bool) {
        for table in self.tables.clone() {
            // A name that is left may come back as that of another table: it is used once.
            let away = format!("{}.`told apart {}`", quote(&table.schema), self.log.len());
            let name = table.quoted();
            let texts = match placed {
                false => vec![format!("ALTER TABLE {name} COMMENT 'told apart'")],
                true => {
                    vec![format!("RENAME TABLE {name} TO {away}"), format!("RENAME TABLE {away} TO {name}")]
                }
            };
            for sql in texts {
                self.ddl(Statement { schema: table.schema.clone(), sql, marks: Vec::new() }).await;
            }
        }
    }

    /// A table that every target takes.
    pub async fn plain(&mut self) {
        let schema = self.schemas[0].clone();
        let sql = format!("CREATE TABLE {}.plain (id INT PRIMARY KEY, v VARCHAR(20), n INT)", quote(&schema));
        self.ddl(Statement { schema, sql, marks: Vec::new() }).await;
    }

    /// Globs that select every table of the history.
    pub fn include(&self) -> Vec<String> {
        self.schemas.iter().map(|schema| format!("{}.*", quote(schema))).collect()
    }

    /// Makes the schemas and the first tables.
    pub async fn begin(&mut self) {
        for schema in self.schemas.clone() {
            let tail =
                ["", "", "", " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", " CHARACTER SET latin1"]
                    .choose(&mut self.rng)
                    .expect("a tail");
            let sql = format!("CREATE DATABASE {}{tail}", quote(&schema));
            let _turn = turn(&self.stack).await;
            assert!(self.execute(&sql).await, "{sql}");
        }
        while self.tables.len() < 2 {
            let statement = {
                let world = World { schemas: &self.schemas, tables: &self.tables, gone: &self.gone };
                ddl::create_table(&world, &mut self.rng)
            };
            self.ddl(statement).await;
        }
    }

    pub async fn steps(&mut self, count: usize) {
        for _ in 0..count {
            if self.rng.random_ratio(1, 3) {
                let world = World { schemas: &self.schemas, tables: &self.tables, gone: &self.gone };
                let statement = match self.tables.len() {
                    0..2 => Some(ddl::create_table(&world, &mut self.rng)),
                    _ => ddl::random(&world, &mut self.rng),
                };
                if let Some(statement) = statement
                    && !(self.tables.len() >= MOST && statement.sql.starts_with("CREATE TABLE"))
                {
                    self.ddl(statement).await;
                }
            } else {
                for statement in rows::transaction(&self.tables, &mut self.rng) {
                    self.execute(&statement).await;
                }
            }
        }
    }

    /// False when the server refuses it.
    async fn execute(&mut self, sql: &str) -> bool {
        match self.connection.query_drop(sql).await {
            Ok(()) => {
                self.log.push(format!("{sql};"));
                true
            }
            Err(mysql_async::Error::Server(error)) => {
                self.log.push(format!("-- {}: {sql};", error.code));
                false
            }
            // TiDB ends a connection whose statement it stumbles over; with it goes the transaction.
            Err(error @ mysql_async::Error::Io(_)) => {
                self.log.push(format!("-- {error}: {sql};"));
                self.connection = sql::tidb(&self.stack).await;
                false
            }
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn ddl(&mut self, statement: Statement) {
        self.execute(&format!("USE {}", quote(&statement.schema))).await;
        {
            let _turn = turn(&self.stack).await;
            if !self.execute(&statement.sql).await {
                return;
            }
        }
        self.marks.extend(statement.marks);
        let mut tables = Vec::new();
        for schema in &self.schemas {
            for name in sql::tables(&mut self.connection, schema).await {
                tables.extend(Table::load(&mut self.connection, schema, &name).await);
            }
        }
        for old in &self.tables {
            if !tables.iter().any(|table| table.schema == old.schema && table.name == old.name) {
                self.gone.push((old.schema.clone(), old.name.clone()));
            }
        }
        self.tables = tables;
    }
}

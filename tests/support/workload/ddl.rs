//! The DDL of the workload: CREATE, DROP, RENAME and TRUNCATE TABLE, ADD and DROP COLUMN, each in all its forms.
//!
//! Kept out is what makes a real Drainer exit or lose names (source-drainer.md 10.4 to 10.8): several names in one RENAME,
//! EXCHANGE PARTITION, FLASHBACK, and a DROP COLUMN with other clauses while rows of the table are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::model::{Column, Model, Table};
use super::rows;
use super::template::{ADDITIONS, templates};
use crate::sql::quote;
use crate::stack::Dialect;

/// Tables that live at least and at most.
const FEWEST: usize = 16;
const MOST: usize = 30;

pub struct Ddl {
    pub connection: Conn,
    pub model: Arc<Model>,
    pub schemas: [String; 2],
    pub rng: StdRng,
    /// No rows of the table are written during a DROP COLUMN: a Drainer that restarts inside such a stretch exits
    /// (source-drainer.md 10.10).
    pub calm_drops: bool,
    /// What the target cannot follow is left out: AnalyticDB moves no table to another database.
    pub dialect: Dialect,
    counter: u32,
    done: BTreeMap<&'static str, u32>,
}

impl Ddl {
    pub fn new(
        connection: Conn,
        model: Arc<Model>,
        schemas: [String; 2],
        seed: u64,
        dialect: Dialect,
        calm_drops: bool,
    ) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { connection, model, schemas, rng, calm_drops, dialect, counter: 0, done: BTreeMap::new() }
    }

    /// Runs statements at random until it is stopped; gives how many of each kind were done.
    pub async fn run(mut self, pace: Duration, stop: CancellationToken) -> BTreeMap<&'static str, u32> {
        while !stop.is_cancelled() {
            self.one().await;
            tokio::time::sleep(pace.mul_f64(self.rng.random_range(0.2..1.8))).await;
        }
        self.done
    }

    async fn one(&mut self) {
        match self.rng.random_range(0..20) {
            0..=3 if self.model.len() < MOST => self.create().await,
            4..=5 if self.model.len() > FEWEST => self.drop().await,
            6..=8 => self.rename().await,
            9..=10 => self.truncate().await,
            11..=15 => self.add_column().await,
            _ => self.drop_column().await,
        }
    }

    /// Runs a statement that TiDB must accept.
    async fn execute(&mut self, kind: &'static str, statement: &str) {
        self.connection.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        *self.done.entry(kind).or_default() += 1;
    }

    async fn use_schema(&mut self, schema: &str) {
        self.connection.query_drop(format!("USE {}", quote(schema))).await.unwrap();
    }

    fn any_schema(&mut self) -> String {
        self.schemas.choose(&mut self.rng).unwrap().clone()
    }

    /// A name that no living table of the schema has; one in four has been in use before.
    fn free_name(&mut self, schema: &str) -> String {
        for _ in 0..8 {
            let number = match self.counter > 2 && self.rng.random_ratio(1, 4) {
                true => self.rng.random_range(1..=self.counter),
                false => {
                    self.counter += 1;
                    self.counter
                }
            };
            let name = format!("n{number}");
            if !self.model.lives(schema, &name) {
                return name;
            }
        }
        self.counter += 1;
        format!("n{}", self.counter)
    }

    async fn create(&mut self) {
        let schema = self.any_schema();
        let name = self.free_name(&schema);
        let target = format!("{}.{}", quote(&schema), quote(&name));
        let table = if self.rng.random_ratio(1, 3) {
            let like = self.model.any(&mut self.rng);
            self.execute("CREATE TABLE LIKE", &format!("CREATE TABLE {target} LIKE {}", like.quoted())).await;
            self.model.add(&schema, &name, like.template, Some(like.columns))
        } else {
            let template = templates(self.dialect).choose(&mut self.rng).unwrap();
            if self.rng.random() {
                self.use_schema(&schema).await;
                self.execute(
                    "CREATE TABLE",
                    &format!("CREATE TABLE {} {}", quote(&name), template.definition),
                )
                .await;
            } else {
                let statement = format!("CREATE TABLE IF NOT EXISTS {target} {}", template.definition);
                self.execute("CREATE TABLE IF NOT EXISTS", &statement).await;
            }
            self.model.add(&schema, &name, template, None)
        };
        let insert = rows::insert(&table, &mut self.rng, 20);
        // May be refused: keys that the template's other unique keys forbid.
        let _ = self.connection.query_drop(insert).await;
    }

    async fn drop(&mut self) {
        let mut tables = self.model.all();
        tables.shuffle(&mut self.rng);
        tables.truncate(self.rng.random_range(1..=2));
        for table in &tables {
            self.model.remove(table.id);
        }
        let names: Vec<_> = tables.iter().map(Table::quoted).collect();
        let (kind, statement) = match (names.len(), self.rng.random_ratio(1, 3)) {
            (1, false) => ("DROP TABLE", format!("DROP TABLE {}", names[0])),
            (1, true) => {
                self.use_schema(&tables[0].schema.clone()).await;
                let name = quote(&tables[0].name);
                ("DROP TABLE IF EXISTS", format!("DROP TABLE IF EXISTS {name}, `never_was`"))
            }
            _ => ("DROP TABLE of several", format!("DROP TABLE {}", names.join(", "))),
        };
        self.execute(kind, &statement).await;
    }

    async fn rename(&mut self) {
        let table = self.model.any(&mut self.rng);
        let schema = match self.dialect {
            Dialect::Mysql => self.any_schema(),
            Dialect::Adb => table.schema.clone(),
        };
        let name = self.free_name(&schema);
        let target = format!("{}.{}", quote(&schema), quote(&name));
        // Without its schema a name says little in the stream; only where it says enough.
        let unqualified = self.model.is_unique(&table.name) && self.rng.random();
        let source = if unqualified {
            self.use_schema(&table.schema).await;
            quote(&table.name)
        } else {
            table.quoted()
        };
        let (kind, statement) = match (self.rng.random_ratio(1, 3), table.schema == schema) {
            (true, _) => ("ALTER TABLE RENAME", format!("ALTER TABLE {source} RENAME TO {target}")),
            (false, true) => ("RENAME TABLE", format!("RENAME TABLE {source} TO {target}")),
            (false, false) => {
                ("RENAME TABLE to another schema", format!("RENAME TABLE {source} TO {target}"))
            }
        };
        self.execute(kind, &statement).await;
        self.model.change(table.id, |table| {
            table.schema = schema;
            table.name = name;
        });
    }

    async fn truncate(&mut self) {
        let table = self.model.any(&mut self.rng);
        self.execute("TRUNCATE TABLE", &format!("TRUNCATE TABLE {}", table.quoted())).await;
        let insert = rows::insert(&table, &mut self.rng, 10);
        let _ = self.connection.query_drop(insert).await;
    }

    async fn add_column(&mut self) {
        let table = self.model.any(&mut self.rng);
        let mut added = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            self.counter += 1;
            let addition = ADDITIONS.choose(&mut self.rng).unwrap();
            added.push((format!("x{}", self.counter), addition));
        }
        let clause = |(name, addition): &(String, &super::template::Addition)| {
            format!("{} {}", quote(name), addition.definition)
        };
        let after = quote(&table.columns[0].name);
        let (kind, clauses) = match (added.len(), self.rng.random_range(0..3)) {
            (1, 0) => ("ADD COLUMN FIRST", format!("ADD COLUMN {} FIRST", clause(&added[0]))),
            (1, 1) => ("ADD COLUMN AFTER", format!("ADD COLUMN {} AFTER {after}", clause(&added[0]))),
            (1, _) => ("ADD COLUMN", format!("ADD COLUMN {}", clause(&added[0]))),
            (_, 0) => {
                ("ADD COLUMN list", format!("ADD COLUMN ({}, {})", clause(&added[0]), clause(&added[1])))
            }
            _ => (
                "ADD COLUMN, ADD COLUMN",
                format!("ADD COLUMN {}, ADD COLUMN {} AFTER {after}", clause(&added[0]), clause(&added[1])),
            ),
        };
        self.execute(kind, &format!("ALTER TABLE {} {clauses}", table.quoted())).await;
        self.model.change(table.id, |table| {
            let columns = added.into_iter().map(|(name, addition)| Column { name, value: addition.value });
            table.columns.extend(columns);
        });
    }

    async fn drop_column(&mut self) {
        let Some(table) = self.model.one_where(&mut self.rng, |table| !table.spare().is_empty()) else {
            return;
        };
        let mut spare = table.spare();
        spare.shuffle(&mut self.rng);
        spare.truncate(2);
        let several = spare.len() == 2 && self.rng.random_ratio(1, 4);
        let gate = Arc::clone(&table.gate);
        let calm = if several || self.calm_drops { Some(gate.write().await) } else { None };
        let statement = if several {
            format!(
                "ALTER TABLE {} DROP COLUMN {}, DROP COLUMN {}",
                table.quoted(),
                quote(&spare[0]),
                quote(&spare[1])
            )
        } else {
            spare.truncate(1);
            format!("ALTER TABLE {} DROP COLUMN {}", table.quoted(), quote(&spare[0]))
        };
        self.model.change(table.id, |table| table.columns.retain(|column| !spare.contains(&column.name)));
        self.execute(if several { "DROP COLUMN, DROP COLUMN" } else { "DROP COLUMN" }, &statement).await;
        drop(calm);
    }
}

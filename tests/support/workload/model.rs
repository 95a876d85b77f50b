//! What the workload knows of its tables: those that live now, their names and columns.

use std::sync::{Arc, Mutex};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::RwLock;

use super::template::{Generate, Template};
use crate::sql::quote;

#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub value: Generate,
}

/// A table as it was when it was looked at.
#[derive(Clone)]
pub struct Table {
    pub id: u64,
    pub schema: String,
    pub name: String,
    pub template: &'static Template,
    /// Columns that can be written; those of the key come first.
    pub columns: Vec<Column>,
    /// Read by writers of rows, written by DDL that must not meet any.
    pub gate: Arc<RwLock<()>>,
}

impl Table {
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub fn key(&self) -> &[Column] {
        &self.columns[..self.template.key]
    }

    /// Columns that DROP COLUMN may take.
    pub fn spare(&self) -> Vec<String> {
        let base = |name: &str| self.template.columns.iter().any(|column| column.name == name);
        let names = self.columns.iter().map(|column| column.name.as_str());
        names.filter(|name| self.template.spare.contains(name) || !base(name)).map(str::to_owned).collect()
    }
}

/// The living tables. Writers of rows look at it and may be late: the server refuses what does not fit any more.
#[derive(Default)]
pub struct Model {
    tables: Mutex<Vec<Table>>,
}

impl Model {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Table>> {
        self.tables.lock().unwrap()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn any(&self, rng: &mut StdRng) -> Table {
        self.lock().choose(rng).expect("tables live").clone()
    }

    /// A table that fits, if there is one.
    pub fn one_where(&self, rng: &mut StdRng, fits: impl Fn(&Table) -> bool) -> Option<Table> {
        let fitting: Vec<_> = self.lock().iter().filter(|table| fits(table)).cloned().collect();
        fitting.choose(rng).cloned()
    }

    pub fn all(&self) -> Vec<Table> {
        self.lock().clone()
    }

    pub fn add(
        &self,
        schema: &str,
        name: &str,
        template: &'static Template,
        columns: Option<Vec<Column>>,
    ) -> Table {
        let columns = columns.unwrap_or_else(|| {
            let columns = template.columns.iter();
            columns.map(|column| Column { name: column.name.to_owned(), value: column.value }).collect()
        });
        let mut tables = self.lock();
        let id = tables.iter().map(|table| table.id).max().unwrap_or(0) + 1;
        let table = Table {
            id,
            schema: schema.to_owned(),
            name: name.to_owned(),
            template,
            columns,
            gate: Arc::default(),
        };
        tables.push(table.clone());
        table
    }

    pub fn remove(&self, id: u64) {
        self.lock().retain(|table| table.id != id);
    }

    pub fn change(&self, id: u64, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.lock().iter_mut().find(|table| table.id == id) {
            change(table);
        }
    }

    pub fn lives(&self, schema: &str, name: &str) -> bool {
        self.lock().iter().any(|table| table.schema == schema && table.name == name)
    }

    pub fn schema_of(&self, name: &str) -> String {
        self.lock().iter().find(|table| table.name == name).expect("the table lives").schema.clone()
    }

    /// True when only one living table of any schema has this name: a statement may leave its schema out.
    pub fn is_unique(&self, name: &str) -> bool {
        self.lock().iter().filter(|table| table.name == name).count() == 1
    }
}

/// A random condition that some rows of the table meet.
pub fn condition(table: &Table, rng: &mut StdRng) -> String {
    let key = table.key();
    if key.is_empty() {
        return format!("{} LIMIT {}", equal(&table.columns[..1], rng), rng.random_range(1..4));
    }
    if rng.random_ratio(3, 5) {
        return equal(key, rng);
    }
    let names: Vec<_> = key.iter().map(|column| quote(&column.name)).collect();
    format!("CRC32(CONCAT_WS('-', {})) % 23 = {}", names.join(", "), rng.random_range(0..23))
}

fn equal(columns: &[Column], rng: &mut StdRng) -> String {
    let parts: Vec<_> =
        columns.iter().map(|column| format!("{} <=> {}", quote(&column.name), (column.value)(rng))).collect();
    parts.join(" AND ")
}

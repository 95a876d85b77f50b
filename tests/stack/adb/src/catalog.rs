//! The tables that were made through this stand-in, and what they look like in `information_schema`: kept in the database `adb_stand_in` of the
//! MariaDB behind, so that they outlive the process. Queries of `information_schema` are turned to its tables and views.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Client;
use crate::table::{Distribution, HIDDEN_KEY, Table};
use crate::token::{Cursor, quote_name, quote_text};
use crate::types::Family;

pub const DATABASE: &str = "adb_stand_in";
/// What of information_schema is answered from here; `processlist` and `collations` are MariaDB's own.
pub const VIEWS: [&str; 7] = [
    "tables",
    "columns",
    "statistics",
    "schemata",
    "table_constraints",
    "key_column_usage",
    "kepler_meta_tables",
];

const LAYOUT: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS adb_stand_in CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS adb_stand_in.definitions (table_schema VARCHAR(64), table_name VARCHAR(127), definition LONGTEXT NOT NULL, \
     table_comment TEXT NOT NULL, PRIMARY KEY (table_schema, table_name))",
    "CREATE TABLE IF NOT EXISTS adb_stand_in.columns (TABLE_CATALOG VARCHAR(9) DEFAULT 'def', TABLE_SCHEMA VARCHAR(64), TABLE_NAME VARCHAR(127), \
     COLUMN_NAME VARCHAR(127), ORDINAL_POSITION INT, COLUMN_DEFAULT TEXT, IS_NULLABLE VARCHAR(3), DATA_TYPE VARCHAR(64), \
     CHARACTER_MAXIMUM_LENGTH BIGINT, NUMERIC_PRECISION BIGINT, NUMERIC_SCALE BIGINT, DATETIME_PRECISION BIGINT, CHARACTER_SET_NAME VARCHAR(32), \
     COLLATION_NAME VARCHAR(64), COLUMN_TYPE TEXT, COLUMN_KEY VARCHAR(3), EXTRA VARCHAR(80), COLUMN_COMMENT TEXT, \
     KEY (TABLE_SCHEMA, TABLE_NAME))",
    "CREATE TABLE IF NOT EXISTS adb_stand_in.statistics (TABLE_SCHEMA VARCHAR(64), TABLE_NAME VARCHAR(127), NON_UNIQUE INT, INDEX_NAME VARCHAR(127), \
     SEQ_IN_INDEX INT, COLUMN_NAME VARCHAR(127), SUB_PART INT, KEY (TABLE_SCHEMA, TABLE_NAME))",
    "CREATE TABLE IF NOT EXISTS adb_stand_in.kepler_meta_tables (table_schema VARCHAR(64), table_name VARCHAR(127), physical_table_schema VARCHAR(64), \
     distribute_type VARCHAR(16), distribute_column TEXT, partition_type VARCHAR(16), partition_column TEXT, primarykey_columns TEXT, \
     partition_count INT, bucket_count INT, table_engine_name VARCHAR(16), KEY (table_schema, table_name))",
    "CREATE OR REPLACE VIEW adb_stand_in.tables AS SELECT 'def' AS TABLE_CATALOG, table_schema AS TABLE_SCHEMA, table_name AS TABLE_NAME, \
     'BASE TABLE' AS TABLE_TYPE, 'XUANWU' AS ENGINE, CAST(NULL AS SIGNED) AS TABLE_ROWS, CAST(NULL AS SIGNED) AS DATA_LENGTH, \
     table_comment AS TABLE_COMMENT, '' AS CREATE_OPTIONS FROM adb_stand_in.definitions",
    "CREATE OR REPLACE VIEW adb_stand_in.schemata AS SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN \
     ('adb_stand_in', 'performance_schema', 'sys')",
    "CREATE OR REPLACE VIEW adb_stand_in.table_constraints AS SELECT DISTINCT TABLE_SCHEMA AS CONSTRAINT_SCHEMA, TABLE_SCHEMA, TABLE_NAME, \
     INDEX_NAME AS CONSTRAINT_NAME, 'PRIMARY KEY' AS CONSTRAINT_TYPE FROM adb_stand_in.statistics WHERE INDEX_NAME = 'PRIMARY'",
    "CREATE OR REPLACE VIEW adb_stand_in.key_column_usage AS SELECT TABLE_SCHEMA AS CONSTRAINT_SCHEMA, TABLE_SCHEMA, TABLE_NAME, \
     INDEX_NAME AS CONSTRAINT_NAME, COLUMN_NAME, SEQ_IN_INDEX AS ORDINAL_POSITION FROM adb_stand_in.statistics WHERE INDEX_NAME = 'PRIMARY'",
];

pub type Name = (String, String);

#[derive(Clone)]
pub struct Catalog {
    state: Arc<Mutex<State>>,
    definitions: Arc<Mutex<()>>,
}

pub struct State {
    tables: BTreeMap<Name, Table>,
    client: Client,
}

impl Catalog {
    pub fn open(port: u16) -> io::Result<Self> {
        let mut client = Client::connect(port)?;
        for statement in LAYOUT {
            client.query(statement)?;
        }
        let mut tables = BTreeMap::new();
        for row in
            client.query("SELECT table_schema, table_name, definition FROM adb_stand_in.definitions")?
        {
            let [Some(schema), Some(name), Some(definition)] = row.as_slice() else { continue };
            let mut cursor = Cursor::new(definition.as_bytes());
            cursor.at = 3;
            let table = Table::parse(&mut cursor).map_err(|refusal| io::Error::other(refusal.text))?;
            tables.insert((schema.clone(), name.clone()), table);
        }
        Ok(Self { state: Arc::new(Mutex::new(State { tables, client })), definitions: Arc::default() })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One definition changes at a time; held while MariaDB changes it.
    pub fn defining(&self) -> MutexGuard<'_, ()> {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub fn table(&self, name: &Name) -> Option<&Table> {
        self.tables.get(name)
    }

    pub fn has_tables(&self, schema: &str) -> bool {
        self.tables.keys().any(|(other, _)| other == schema)
    }

    pub fn put(&mut self, name: &Name, table: Table) -> io::Result<()> {
        self.forget(name)?;
        for statement in rows(name, &table) {
            self.client.query(&statement)?;
        }
        self.tables.insert(name.clone(), table);
        Ok(())
    }

    pub fn remove(&mut self, name: &Name) -> io::Result<()> {
        self.tables.remove(name);
        self.forget(name)
    }

    pub fn rename(&mut self, from: &Name, to: &Name) -> io::Result<()> {
        let Some(table) = self.tables.get(from).cloned() else { return Ok(()) };
        self.remove(from)?;
        self.put(to, table)
    }

    pub fn remove_schema(&mut self, schema: &str) -> io::Result<()> {
        let gone: Vec<_> = self.tables.keys().filter(|(other, _)| other == schema).cloned().collect();
        gone.iter().try_for_each(|name| self.remove(name))
    }

    fn forget(&mut self, (schema, name): &Name) -> io::Result<()> {
        for table in ["definitions", "columns", "statistics", "kepler_meta_tables"] {
            let (schema, name) = (quote_text(schema), quote_text(name));
            self.client.query(&format!(
                "DELETE FROM {DATABASE}.{table} WHERE table_schema = {schema} AND table_name = {name}"
            ))?;
        }
        Ok(())
    }
}

/// The statements that show a table.
fn rows(name: &Name, table: &Table) -> Vec<String> {
    let place = format!("{}, {}", quote_text(&name.0), quote_text(&name.1));
    let mut statements = vec![format!(
        "INSERT INTO adb_stand_in.definitions VALUES ({place}, {}, {})",
        quote_text(&table.show(&name.1)),
        quote_text(&table.comment)
    )];
    let columns: Vec<_> = table.columns.iter().enumerate().map(|(n, column)| {
        let kind = &column.kind;
        let primary = table.primary.iter().any(|key| key.to_lowercase() == column.name.to_lowercase());
        let (digits, scale) = match kind.family {
            Family::Decimal { digits, scale } => (digits.to_string(), scale.to_string()),
            _ => ("NULL".to_owned(), "NULL".to_owned()),
        };
        let (charset, collation) = match kind.family {
            Family::Text => ("'utf8'", "'utf8_bin'"),
            _ => ("NULL", "NULL"),
        };
        let default = match &column.default {
            None => "NULL".to_owned(),
            Some(text) if text.eq_ignore_ascii_case("null") => "NULL".to_owned(),
            Some(text) if text.starts_with(['\'', '"']) => text.clone(),
            Some(text) => quote_text(text),
        };
        format!(
            "('def', {place}, {}, {}, {default}, '{}', '{}', {}, {digits}, {scale}, NULL, {charset}, {collation}, {}, '{}', '{}', {})",
            quote_text(&column.name),
            n + 1,
            if column.not_null || primary { "NO" } else { "YES" },
            kind.name(),
            kind.length.map_or("NULL".to_owned(), |length| length.to_string()),
            quote_text(&kind.text),
            if primary { "PRI" } else { "" },
            if column.auto_increment { "auto_increment" } else { "" },
            quote_text(&column.comment)
        )
    }).collect();
    if !columns.is_empty() {
        statements.push(format!("INSERT INTO adb_stand_in.columns VALUES {}", columns.join(", ")));
    }
    let primary: Vec<String> =
        if table.primary.is_empty() { vec![HIDDEN_KEY.to_owned()] } else { table.primary.clone() };
    let mut keys: Vec<_> = primary
        .iter()
        .enumerate()
        .map(|(n, column)| format!("({place}, 0, 'PRIMARY', {}, {}, NULL)", n + 1, quote_text(column)))
        .collect();
    keys.extend(table.indexes.iter().map(|(index, column)| {
        format!("({place}, 1, {}, 1, {}, NULL)", quote_text(index), quote_text(column))
    }));
    statements.push(format!("INSERT INTO adb_stand_in.statistics VALUES {}", keys.join(", ")));
    let (kind, columns) = match &table.distribution {
        Some(Distribution::Broadcast) => ("BROADCAST", String::new()),
        Some(Distribution::Hash(columns)) => ("HASH", columns.join(",")),
        None => ("HASH", primary.join(",")),
    };
    let partition =
        table.partition.as_ref().map_or("NULL".to_owned(), |partition| quote_text(&partition.column));
    statements.push(format!(
        "INSERT INTO adb_stand_in.kepler_meta_tables VALUES ({place}, {}, '{kind}', {}, {}, {partition}, {}, 1, 1, 'XUANWU')",
        quote_text(&name.0),
        quote_text(&columns),
        if table.partition.is_some() { "'VALUE'" } else { "NULL" },
        quote_text(&primary.join(","))
    ));
    statements
}

/// A table's name for MariaDB.
pub fn quoted(name: &Name) -> String {
    format!("{}.{}", quote_name(&name.0), quote_name(&name.1))
}

//! What the source holds of a selection: few queries for names and sizes, then one SHOW CREATE TABLE per table over several
//! sessions (`information_schema` of TiDB hides prefix lengths of keys, and the schema phase judges by the same text).

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::server::Server;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, Table, TableName};
use crate::sql::ddl::{self, ast::Statement};
use crate::sql::literal;
use crate::task::selection::Selection;
use crate::tidb;

/// Sessions that read definitions.
const SESSIONS: usize = 4;

/// Time for all definitions.
const DEFINITIONS_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Selected base tables, ordered by name.
    pub tables: Vec<SourceTable>,
    /// Tables that the spec names one by one and that are not to be seen.
    pub missing: Vec<TableName>,
    /// Selected views and sequences: no rows of theirs are in the stream.
    pub others: Vec<TableName>,
    /// Foreign keys of the selected tables.
    pub foreign_keys: Vec<String>,
    /// The source compares text by its bytes, whatever its collations say.
    pub bytewise: bool,
}

#[derive(Debug)]
pub(super) struct SourceTable {
    pub name: TableName,
    /// Its name on the target.
    pub target: TableName,
    /// As the statistics have it.
    pub rows: u64,
    pub bytes: u64,
    /// None when it could not be read for lack of a privilege, which `source.privileges` tells.
    pub definition: Option<Result<Table>>,
}

impl Inventory {
    /// Tables whose definition was read and understood.
    pub fn known(&self) -> impl Iterator<Item = (&SourceTable, &Table)> {
        self.tables.iter().filter_map(|table| Some((table, table.definition.as_ref()?.as_ref().ok()?)))
    }
}

pub(super) async fn read(source: &MysqlEndpoint, selection: &Selection) -> Result<Inventory> {
    let mut server = Server::new(source, Endpoint::Source);
    let mut inventory = names(&mut server, selection).await?;
    let definitions = join_all((0..SESSIONS).map(|session| {
        let mut mine: Vec<(usize, TableName)> =
            inventory.tables.iter().map(|table| table.name.clone()).enumerate().collect();
        mine.retain(|(index, _)| index % SESSIONS == session);
        definitions(source, mine)
    }))
    .await;
    for (index, definition) in definitions.into_iter().flatten() {
        if let Some(table) = inventory.tables.get_mut(index) {
            table.definition = definition;
        }
    }
    // Dropped or renamed since they were listed.
    inventory
        .tables
        .retain(|table| !matches!(&table.definition, Some(Err(error)) if error.kind == ErrorKind::Missing));
    server.close().await;
    Ok(inventory)
}

/// `IN (...)` over schemas.
pub(super) fn in_list<'a>(schemas: impl IntoIterator<Item = &'a str>) -> String {
    let list: Vec<String> = schemas.into_iter().map(literal::string).collect();
    format!("IN ({})", list.join(", "))
}

async fn names(server: &mut Server, selection: &Selection) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    // information_schema.SCHEMATA of TiDB leaves out schemas in which a login has privileges on tables alone.
    let schemas: Vec<String> = server
        .rows("SHOW DATABASES")
        .await?
        .iter()
        .map(|row| row.string(0))
        .filter(|schema| selection.could_select_schema(schema))
        .collect();
    if !schemas.is_empty() {
        let list = in_list(schemas.iter().map(String::as_str));
        let rows = server
            .rows(&format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA {list} ORDER BY TABLE_SCHEMA, TABLE_NAME"
            ))
            .await?;
        for row in rows {
            let name = TableName::new(row.string(0), row.string(1));
            if !selection.selects(&name) {
                continue;
            }
            if !row.string(2).eq_ignore_ascii_case("BASE TABLE") {
                inventory.others.push(name);
                continue;
            }
            // TiDB 7.0 may list a table twice (`Source::catalog_at`).
            if inventory.tables.last().is_some_and(|last| last.name == name) {
                continue;
            }
            inventory.tables.push(SourceTable {
                target: selection.target(&name),
                rows: row.number(3).unwrap_or(0),
                bytes: row.number(4).unwrap_or(0),
                definition: None,
                name,
            });
        }
        // Good to know; older versions lack the view.
        let keys = server
            .rows(&format!(
                "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS \
                 WHERE CONSTRAINT_TYPE = 'FOREIGN KEY' AND CONSTRAINT_SCHEMA {list}"
            ))
            .await
            .unwrap_or_default();
        inventory.foreign_keys = keys
            .iter()
            .map(|row| (TableName::new(row.string(0), row.string(1)), row.string(2)))
            .filter(|(table, _)| selection.selects(table))
            .map(|(table, key)| format!("{table} {key}"))
            .collect();
    }
    inventory.bytewise = server.value(tidb::COMPARES_TEXT).await?.as_deref() == Some("0");
    let seen = |name: &TableName| {
        inventory
            .tables
            .iter()
            .map(|table| &table.name)
            .chain(&inventory.others)
            .any(|table| table.key() == *name)
    };
    let mut missing: Vec<TableName> = selection.literals().filter(|name| !seen(name)).cloned().collect();
    missing.sort_unstable();
    inventory.missing = missing;
    Ok(inventory)
}

async fn definitions(
    source: &MysqlEndpoint,
    tables: Vec<(usize, TableName)>,
) -> Vec<(usize, Option<Result<Table>>)> {
    let mut server = Server::new(source, Endpoint::Source);
    let deadline = Instant::now() + DEFINITIONS_TIMEOUT;
    let mut definitions = Vec::with_capacity(tables.len());
    for (index, name) in tables {
        let read = tokio::time::timeout_at(deadline, definition(&mut server, &name)).await;
        let definition = match read {
            Ok(Err(error)) if error.kind == ErrorKind::AccessDenied => None,
            Ok(result) => Some(result.map_err(|error| error.object(&name))),
            Err(_) => Some(Err(Error::new(
                ErrorKind::Unreachable,
                format!("not read within {} s", DEFINITIONS_TIMEOUT.as_secs()),
            )
            .object(&name))),
        };
        definitions.push((index, definition));
    }
    server.close().await;
    definitions
}

async fn definition(server: &mut Server, name: &TableName) -> Result<Table> {
    let rows = server.rows(&format!("SHOW CREATE TABLE {}", literal::table_name(name))).await?;
    let text = rows.first().and_then(|row| row.text(1)).unwrap_or_default();
    match ddl::parse(text.as_bytes())?.pop() {
        Some(Statement::CreateTable { mut table, .. }) => {
            table.name = name.clone();
            Ok(table)
        }
        _ => {
            Err(Error::new(ErrorKind::SchemaMismatch, "SHOW CREATE TABLE gives something else than a table"))
        }
    }
}

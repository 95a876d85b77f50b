//! What the source holds of a selection. Definitions follow with the DDL grammar.

use super::server::Server;
use crate::error::{Endpoint, Result};
use crate::model::{MysqlEndpoint, Table, TableName};
use crate::sql::literal;
use crate::task::selection::Selection;

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
    let inventory = names(&mut server, selection).await?;
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

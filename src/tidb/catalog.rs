//! The source's schemas and tables as of a snapshot, and what its statistics say about their size.
//!
//! information_schema and SHOW follow `tidb_snapshot`: a table created, renamed or altered after it looks as it did then.
//! Statistics are of the present, and may be wrong or missing.

use std::collections::HashMap;

use mysql_async::Row;

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, Table, TableName, Tso};
use crate::mysql::Session;
use crate::sql::ddl::{self, ast::Statement};
use crate::sql::literal;
use crate::tidb::Source;

const SYSTEM_SCHEMAS: [&str; 6] =
    ["information_schema", "performance_schema", "metrics_schema", "inspection_schema", "mysql", "sys"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSchema {
    pub name: String,
    /// Lower case
    pub charset: String,
    pub collation: String,
}

/// What was selected, as of the snapshot.
#[derive(Debug, Clone, Default)]
pub struct SourceCatalog {
    /// Every schema that is not the server's own.
    pub schemas: Vec<SourceSchema>,
    pub tables: Vec<Table>,
}

/// What the source's statistics say; 0 for a table that was never analyzed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    pub rows: u64,
    pub bytes: u64,
}

impl Source {
    /// The base tables that `selects` takes, as of `at`: no views, no sequences, no temporary tables.
    ///
    /// # Errors
    /// `SnapshotLost`; what the DDL grammar says of a definition that it does not understand, naming the table.
    pub async fn tables_at(
        &self,
        at: Tso,
        selects: impl Fn(&TableName) -> bool + Send,
    ) -> Result<Vec<Table>> {
        self.catalog_at(at, selects).await.map(|catalog| catalog.tables)
    }

    /// [`Source::tables_at`], and the schemas with their default character sets.
    pub async fn catalog_at(
        &self,
        at: Tso,
        selects: impl Fn(&TableName) -> bool + Send,
    ) -> Result<SourceCatalog> {
        let mut session = self.snapshot_session(at).await?;
        let mut catalog = SourceCatalog { schemas: schemas(&mut session).await?, tables: Vec::new() };
        for schema in &catalog.schemas {
            let mut names: Vec<(String, String)> = session
                .query(&format!("SHOW FULL TABLES FROM {}", literal::name(&schema.name)))
                .await
                .map_err(|error| error.object(&schema.name))?;
            // A table that a RENAME of several tables brought from another schema may be listed twice (TiDB 7.0).
            names.sort_unstable();
            names.dedup();
            for (table, kind) in names {
                let name = TableName::new(&schema.name, table);
                if kind.eq_ignore_ascii_case("BASE TABLE") && selects(&name) {
                    let table = definition(&mut session, &name).await?;
                    catalog.tables.extend(table.filter(|table| !table.temporary));
                }
            }
        }
        session.close().await;
        Ok(catalog)
    }

    /// Size of each of these tables as the statistics have it now; a table that is gone is missing in the answer.
    pub async fn estimates(&self, tables: &[TableName]) -> Result<HashMap<TableName, Estimate>> {
        let mut wanted: HashMap<TableName, &TableName> =
            tables.iter().map(|name| (name.key(), name)).collect();
        let mut schemas: Vec<&str> = tables.iter().map(|name| name.schema.as_str()).collect();
        schemas.sort_unstable();
        schemas.dedup();
        let mut session = self.session().await?;
        let mut estimates = HashMap::new();
        for schema in schemas {
            let rows: Vec<(String, Option<u64>, Option<u64>)> = session
                .query(&format!(
                    "SELECT TABLE_NAME, TABLE_ROWS, DATA_LENGTH FROM information_schema.tables WHERE TABLE_SCHEMA = {}",
                    literal::string(schema)
                ))
                .await?;
            for (table, rows, bytes) in rows {
                if let Some(name) = wanted.remove(&TableName::new(schema, table).key()) {
                    let estimate = Estimate { rows: rows.unwrap_or(0), bytes: bytes.unwrap_or(0) };
                    estimates.insert(name.clone(), estimate);
                }
            }
        }
        session.close().await;
        Ok(estimates)
    }
}

/// One table as of `at`; None when there was no such table.
pub async fn table_at(source: &MysqlEndpoint, at: Tso, name: &TableName) -> Result<Option<Table>> {
    let mut session = Source::new(source.clone()).snapshot_session(at).await?;
    let found = match definition(&mut session, name).await {
        Ok(found) => found,
        Err(error) if error.code.is_some() && error.kind == ErrorKind::Missing => None,
        Err(error) => return Err(error),
    };
    session.close().await;
    Ok(found)
}

/// The name that the table of this name at `at` had right before; None when there was none, or none that the user may see.
pub async fn name_before(source: &MysqlEndpoint, at: Tso, name: &TableName) -> Result<Option<TableName>> {
    let source = Source::new(source.clone());
    let mut session = source.snapshot_session(at).await?;
    let id: Option<u64> = session
        .first(&format!(
            "SELECT TIDB_TABLE_ID FROM information_schema.tables WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal::string(&name.schema),
            literal::string(&name.table)
        ))
        .await
        .map_err(super::passing)?;
    session.close().await;
    let Some(id) = id else { return Ok(None) };
    let mut session = source.snapshot_session(Tso(at.0.saturating_sub(1))).await?;
    let before: Option<(String, String)> = session
        .first(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.tables WHERE TIDB_TABLE_ID = {id}"
        ))
        .await
        .map_err(super::passing)?;
    session.close().await;
    Ok(before.map(|(schema, table)| TableName::new(schema, table)))
}

/// What any row of the table holds in a column as of `at`, as the bytes of its text in zone +00:00: an ADD COLUMN gives all rows one value. None when it
/// is NULL, or when there are no rows.
pub async fn value_at(
    source: &MysqlEndpoint,
    at: Tso,
    name: &TableName,
    column: &str,
) -> Result<Option<Vec<u8>>> {
    let mut session = Source::new(source.clone()).snapshot_session(at).await?;
    let (table, column) = (literal::table_name(name), literal::name(column));
    let value: Option<Option<Vec<u8>>> =
        session.first(&format!("SELECT CAST({column} AS BINARY) FROM {table} LIMIT 1")).await?;
    session.close().await;
    Ok(value.flatten())
}

async fn schemas(session: &mut Session) -> Result<Vec<SourceSchema>> {
    let rows: Vec<(String, String, String)> = session
        .query(
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.schemata \
             ORDER BY SCHEMA_NAME",
        )
        .await?;
    Ok(rows
        .into_iter()
        .filter(|(name, ..)| !SYSTEM_SCHEMAS.contains(&name.to_lowercase().as_str()))
        .map(|(name, charset, collation)| SourceSchema {
            name,
            charset: charset.to_lowercase(),
            collation: collation.to_lowercase(),
        })
        .collect())
}

/// None: what has this name is no table (a view, a sequence).
async fn definition(session: &mut Session, name: &TableName) -> Result<Option<Table>> {
    let row: Option<Row> = session
        .first(&format!("SHOW CREATE TABLE {}", literal::table_name(name)))
        .await
        .map_err(|error| error.object(name))?;
    let text: Vec<u8> = row
        .and_then(|row| row.get_opt(1).and_then(std::result::Result::ok))
        .ok_or_else(|| refused("SHOW CREATE TABLE gave no definition").object(name))?;
    let mut statements = ddl::parse(&text).map_err(|error| Error::from(error).object(name))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::CreateTable { mut table, .. }), true) => {
            table.name = name.clone();
            Ok(Some(table))
        }
        (Some(Statement::View { .. } | Statement::Harmless { .. }), true) => Ok(None),
        _ => Err(refused("SHOW CREATE TABLE gave something other than CREATE TABLE").object(name)),
    }
}

fn refused(message: &str) -> Error {
    Error::new(ErrorKind::StatementRefused, message).endpoint(Endpoint::Source)
}

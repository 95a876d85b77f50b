//! What is on the target already, in the schemas that a task writes to; and how it compares names and text.

use std::collections::{BTreeSet, HashMap};

use super::inventory::in_list;
use super::server::Server;
use crate::adb::dialect::Collations;
use crate::error::{ErrorKind, Result};
use crate::model::{Dialect, TableName};

/// Tables of the target, to be looked up as the target compares names.
#[derive(Debug, Default)]
pub(super) struct Existing {
    /// Names compare without case.
    folded: bool,
    tables: HashMap<TableName, ExistingTable>,
    /// Collations of the target, where it lists them.
    pub collations: Option<Collations>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct ExistingTable {
    /// Empty until [`read_columns`].
    pub columns: Vec<ExistingColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExistingColumn {
    pub name: String,
    /// A row can be written without it.
    pub optional: bool,
}

impl Existing {
    #[cfg(test)]
    pub fn of(folded: bool, tables: impl IntoIterator<Item = (TableName, ExistingTable)>) -> Self {
        let mut existing = Self { folded, ..Self::default() };
        for (name, table) in tables {
            existing.tables.insert(existing.key(&name), table);
        }
        existing
    }

    /// Two names with one key are one table on the target.
    pub fn key(&self, name: &TableName) -> TableName {
        if self.folded { name.key() } else { name.clone() }
    }

    pub fn get(&self, name: &TableName) -> Option<&ExistingTable> {
        self.tables.get(&self.key(name))
    }
}

/// Names of all tables and views in these schemas.
pub(super) async fn read(
    server: &mut Server,
    dialect: Dialect,
    schemas: &BTreeSet<String>,
) -> Result<Existing> {
    // AnalyticDB keeps names in lower case unless told otherwise; 0 is the default of MySQL on Linux.
    let folded = match dialect {
        Dialect::Adb => true,
        Dialect::Mysql => server.variable("lower_case_table_names").await?.is_some_and(|value| value != "0"),
    };
    let mut existing = Existing { folded, ..Existing::default() };
    if dialect == Dialect::Mysql {
        let names = server.rows("SELECT COLLATION_NAME FROM information_schema.COLLATIONS").await?;
        existing.collations = Some(Collations::new(names.iter().filter_map(|row| row.text(0))));
    }
    if schemas.is_empty() {
        return Ok(existing);
    }
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA {}",
        in_list(schemas.iter().map(String::as_str))
    );
    for row in server.rows(&sql).await? {
        let key = existing.key(&TableName::new(row.string(0), row.string(1)));
        existing.tables.insert(key, ExistingTable::default());
    }
    Ok(existing)
}

/// Adds the columns of these tables.
pub(super) async fn read_columns(
    server: &mut Server,
    existing: &mut Existing,
    schemas: &BTreeSet<String>,
) -> Result<()> {
    let of = |extra: &str| {
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, IS_NULLABLE, COLUMN_DEFAULT{extra} FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA {} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
            in_list(schemas.iter().map(String::as_str))
        )
    };
    let rows = match server.rows(&of(", EXTRA")).await {
        Err(error) if error.kind != ErrorKind::Unreachable => server.rows(&of("")).await?,
        rows => rows?,
    };
    for row in rows {
        let key = existing.key(&TableName::new(row.string(0), row.string(1)));
        let filled_by_server = {
            let extra = row.string(5).to_lowercase();
            extra.contains("auto_increment") || extra.contains("generated")
        };
        if let Some(table) = existing.tables.get_mut(&key) {
            table.columns.push(ExistingColumn {
                name: row.string(2),
                optional: row.string(3).eq_ignore_ascii_case("YES")
                    || row.text(4).is_some()
                    || filled_by_server,
            });
        }
    }
    Ok(())
}

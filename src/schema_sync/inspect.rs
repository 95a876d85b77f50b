//! What is on the target, from its information_schema.
//!
//! MariaDB opens every table of the server for a query whose schema is not a constant, so there is one query per schema and view, whatever the number of
//! tables; a single table is asked for by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::adb::dialect::{Collations, Done};
use crate::error::Result;
use crate::model::{Dialect, TableName};
use crate::mysql::Session;
use crate::sql::literal;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingColumn {
    pub name: String,
    /// `int(10) unsigned`, lower case but for labels.
    pub column_type: String,
    pub nullable: bool,
    pub charset: Option<String>,
    pub collation: Option<String>,
    pub generated: bool,
}

/// A primary or unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingKey {
    pub name: String,
    /// Column (None = an expression) and prefix length.
    pub parts: Vec<(Option<String>, Option<u32>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingTable {
    pub name: TableName,
    pub is_view: bool,
    pub columns: Vec<ExistingColumn>,
    /// None where the target does not tell.
    pub unique_keys: Option<Vec<ExistingKey>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetState {
    pub databases: BTreeSet<String>,
    pub tables: BTreeMap<TableName, ExistingTable>,
    pub collations: Collations,
    /// `Orders` and `orders` are two tables.
    pub case_sensitive: bool,
}

impl TargetState {
    pub fn has_database(&self, name: &str) -> bool {
        self.databases.iter().any(|other| same(other, name, self.case_sensitive))
    }

    pub fn table(&self, name: &TableName) -> Option<&ExistingTable> {
        self.tables.get(name).or_else(|| {
            self.tables
                .iter()
                .find(|(other, _)| {
                    same(&other.schema, &name.schema, self.case_sensitive)
                        && same(&other.table, &name.table, self.case_sensitive)
                })
                .map(|(_, table)| table)
        })
    }
}

fn same(left: &str, right: &str, case_sensitive: bool) -> bool {
    left == right || (!case_sensitive && left.to_lowercase() == right.to_lowercase())
}

/// The databases of the target, and of the named tables those that are there.
///
/// # Errors
/// What the target says.
pub async fn introspect(session: &mut Session, dialect: Dialect, names: &[TableName]) -> Result<TargetState> {
    let case_sensitive = is_case_sensitive(session).await?;
    let databases: Vec<String> = session.query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await?;
    let collations = collations(session, dialect).await?;
    let mut state = TargetState {
        databases: databases.into_iter().collect(),
        tables: BTreeMap::new(),
        collations,
        case_sensitive,
    };
    let mut schemas: BTreeMap<&str, Vec<&TableName>> = BTreeMap::new();
    for name in names {
        schemas.entry(&name.schema).or_default().push(name);
    }
    for (schema, names) in schemas {
        if state.has_database(schema) {
            introspect_schema(session, dialect, schema, &names, &mut state).await?;
        }
    }
    Ok(state)
}

/// The collations that tables of this target may have: for [`crate::adb::dialect::TableOptions`].
///
/// # Errors
/// What the target says.
pub async fn collations(session: &mut Session, dialect: Dialect) -> Result<Collations> {
    match dialect {
        Dialect::Mysql => Ok(Collations::new(
            session.query::<String>("SELECT COLLATION_NAME FROM information_schema.COLLATIONS").await?,
        )),
        Dialect::Adb => Ok(Collations::default()),
    }
}

type ColumnRow =
    (String, String, String, String, Option<String>, Option<String>, Option<String>, Option<String>);

async fn introspect_schema(
    session: &mut Session,
    dialect: Dialect,
    schema: &str,
    names: &[&TableName],
    state: &mut TargetState,
) -> Result<()> {
    let mut place = format!("TABLE_SCHEMA = {}", literal::string(schema));
    if let [only] = names {
        place.push_str(&format!(" AND TABLE_NAME = {}", literal::string(&only.table)));
    }
    let case_sensitive = state.case_sensitive;
    let wanted: BTreeSet<String> = names
        .iter()
        .map(|name| if case_sensitive { name.table.clone() } else { name.table.to_lowercase() })
        .collect();
    let is_wanted =
        |table: &str| wanted.contains(table) || (!case_sensitive && wanted.contains(&table.to_lowercase()));

    let tables: Vec<(String, String)> = session
        .query(&format!("SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE {place}"))
        .await?;
    for (table, kind) in tables.into_iter().filter(|(table, _)| is_wanted(table)) {
        let name = TableName::new(schema, table);
        let existing = ExistingTable {
            name: name.clone(),
            is_view: kind.to_uppercase().contains("VIEW"),
            columns: Vec::new(),
            unique_keys: (dialect == Dialect::Mysql).then(Vec::new),
        };
        state.tables.insert(name, existing);
    }
    let columns: Vec<ColumnRow> = session
        .query(&format!(
            "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, COLUMN_KEY \
             FROM information_schema.COLUMNS WHERE {place} ORDER BY TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for (table, name, column_type, nullable, charset, collation, extra, key) in columns {
        let Some(existing) = state.tables.get_mut(&TableName::new(schema, table)) else { continue };
        // MySQL 8 says DEFAULT_GENERATED of an ordinary column with a computed default.
        let extra = extra.unwrap_or_default().to_uppercase();
        let generated = ["VIRTUAL", "STORED", "PERSISTENT"].iter().any(|word| extra.contains(word));
        if dialect == Dialect::Adb && key.is_some_and(|key| key == "PRI") {
            let keys = existing.unique_keys.get_or_insert_default();
            match keys.first_mut() {
                Some(primary) => primary.parts.push((Some(name.clone()), None)),
                None => keys.push(ExistingKey {
                    name: "PRIMARY".to_owned(),
                    parts: vec![(Some(name.clone()), None)],
                }),
            }
        }
        existing.columns.push(ExistingColumn {
            name,
            column_type,
            nullable: nullable.eq_ignore_ascii_case("YES"),
            charset: charset.map(|name| name.to_lowercase()),
            collation: collation.map(|name| name.to_lowercase()),
            generated,
        });
    }
    if dialect == Dialect::Adb {
        return Ok(());
    }
    let keys: Vec<(String, String, Option<String>, Option<u32>)> = session
        .query(&format!(
            "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE {place} AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    for (table, index, column, prefix) in keys {
        let Some(existing) = state.tables.get_mut(&TableName::new(schema, table)) else { continue };
        let keys = existing.unique_keys.get_or_insert_default();
        match keys.last_mut().filter(|key| key.name == index) {
            Some(key) => key.parts.push((column, prefix)),
            None => keys.push(ExistingKey { name: index, parts: vec![(column, prefix)] }),
        }
    }
    Ok(())
}

/// `lower_case_table_names` is 0. A target that does not know the variable is taken to ignore case.
async fn is_case_sensitive(session: &mut Session) -> Result<bool> {
    let row: Option<(String, String)> = session.first("SHOW VARIABLES LIKE 'lower_case_table_names'").await?;
    Ok(row.is_some_and(|(_, value)| value == "0"))
}

/// Whether a statement took effect: asked after a crash or an unknown outcome.
///
/// # Errors
/// What the target says.
pub async fn done(session: &mut Session, done: &Done) -> Result<bool> {
    Ok(match done {
        Done::Rerun => false,
        Done::DatabaseExists { name } => has_database(session, name).await?,
        Done::DatabaseAbsent { name } => !has_database(session, name).await?,
        Done::TableExists { table } => has_table(session, table).await?,
        Done::TableAbsent { table } => !has_table(session, table).await?,
        Done::TableRenamed { from, to } => !has_table(session, from).await? && has_table(session, to).await?,
        Done::TableMoved { from, to } => !has_table(session, from).await? || has_table(session, to).await?,
        Done::ColumnExists { table, column } => {
            columns(session, table).await?.iter().any(|name| same(name, column, false))
        }
        Done::ColumnAbsent { table, column } => {
            let columns = columns(session, table).await?;
            // Without the table nothing can be said.
            !columns.is_empty() && !columns.iter().any(|name| same(name, column, false))
        }
        Done::ColumnRenamed { table, old, new } => {
            let columns = columns(session, table).await?;
            let case_only = same(old, new, false);
            columns.contains(new) && (case_only || !columns.iter().any(|name| same(name, old, false)))
        }
        Done::IndexExists { table, index } => has_index(session, table, index).await?,
        Done::IndexAbsent { table, index } => {
            has_table(session, table).await? && !has_index(session, table, index).await?
        }
    })
}

async fn has_database(session: &mut Session, name: &str) -> Result<bool> {
    let case_sensitive = is_case_sensitive(session).await?;
    let found: Vec<String> = session
        .query(&format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
            literal::string(name)
        ))
        .await?;
    Ok(found.iter().any(|other| same(other, name, case_sensitive)))
}

pub async fn has_table(session: &mut Session, table: &TableName) -> Result<bool> {
    let case_sensitive = is_case_sensitive(session).await?;
    let found: Vec<String> = session.query(&of_table("TABLE_NAME", "TABLES", table)).await?;
    Ok(found.iter().any(|other| same(other, &table.table, case_sensitive)))
}

pub async fn has_rows(session: &mut Session, table: &TableName) -> Result<bool> {
    let row: Option<u8> =
        session.first(&format!("SELECT 1 FROM {} LIMIT 1", literal::table_name(table))).await?;
    Ok(row.is_some())
}

async fn columns(session: &mut Session, table: &TableName) -> Result<Vec<String>> {
    session.query(&of_table("COLUMN_NAME", "COLUMNS", table)).await
}

async fn has_index(session: &mut Session, table: &TableName, index: &str) -> Result<bool> {
    let found: Vec<String> = session.query(&of_table("INDEX_NAME", "STATISTICS", table)).await?;
    Ok(found.iter().any(|other| same(other, index, false)))
}

fn of_table(column: &str, view: &str, table: &TableName) -> String {
    format!(
        "SELECT {column} FROM information_schema.{view} WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal::string(&table.schema),
        literal::string(&table.table)
    )
}

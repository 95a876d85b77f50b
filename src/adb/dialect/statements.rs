//! Statements for whole tables and databases, each with the predicate by which a restart sees that it was done.
//!
//! One statement is one step: a crash leaves at most one statement of which nobody knows whether it ran, and [`Done`] answers from the target's
//! information_schema. Steps are judged one by one in order, so a predicate need only tell the state right before its statement from the state
//! right after it.

use serde::{Deserialize, Serialize};

use super::columns::adb_name;
use super::create::{create_database, create_table};
use super::problem::Problem;
use super::table::{TargetColumn, TargetTable};
use crate::model::{Dialect, TableName};
use crate::sql::literal;

/// Takes away every row of the table's source: of a merged table, that are its own rows alone.
pub fn empty_table(table: &TargetTable) -> String {
    let name = literal::table_name(&table.name);
    match own_rows(table) {
        Some(condition) => format!("DELETE FROM {name} WHERE {condition}"),
        None => format!("TRUNCATE TABLE {name}"),
    }
}

/// The condition for the rows of one source in a merged table.
pub fn own_rows(table: &TargetTable) -> Option<String> {
    let (column, value) = table.constant()?;
    Some(format!("{} = {}", literal::name(&column.name), literal::string(value)))
}

/// True on the target exactly when the statement took effect. [`crate::schema_sync::done`] asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    DatabaseExists {
        name: String,
    },
    DatabaseAbsent {
        name: String,
    },
    TableExists {
        table: TableName,
    },
    TableAbsent {
        table: TableName,
    },
    /// `from` is gone and `to` is there.
    TableRenamed {
        from: TableName,
        to: TableName,
    },
    /// `from` is gone, or there is something else in its new place.
    TableMoved {
        from: TableName,
        to: TableName,
    },
    ColumnExists {
        table: TableName,
        column: String,
    },
    ColumnAbsent {
        table: TableName,
        column: String,
    },
    /// `old` is gone and `new` is there.
    ColumnRenamed {
        table: TableName,
        old: String,
        new: String,
    },
    /// `PRIMARY` is the primary key.
    IndexExists {
        table: TableName,
        index: String,
    },
    IndexAbsent {
        table: TableName,
        index: String,
    },
    /// Nothing shows it; running it again does no harm.
    Rerun,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatement {
    pub sql: String,
    pub done: Done,
    /// How the effect differs from the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl TargetStatement {
    pub(super) fn new(sql: impl Into<String>, done: Done) -> Self {
        Self { sql: sql.into(), done, warning: None }
    }
}

pub fn create_database_statement(
    dialect: Dialect,
    name: &str,
    charset: Option<&str>,
    collation: Option<&str>,
) -> TargetStatement {
    let done = Done::DatabaseExists { name: name.to_owned() };
    TargetStatement::new(create_database(dialect, name, charset, collation), done)
}

/// Warnings of the table itself are in [`TargetTable::warnings`].
pub fn create_table_statement(table: &TargetTable) -> TargetStatement {
    TargetStatement::new(create_table(table), Done::TableExists { table: table.name.clone() })
}

pub fn drop_database(dialect: Dialect, name: &str) -> TargetStatement {
    let quoted = literal::name(name);
    let sql = match dialect {
        Dialect::Mysql => format!("DROP DATABASE IF EXISTS {quoted}"),
        Dialect::Adb => format!("DROP DATABASE {quoted} CASCADE"),
    };
    TargetStatement::new(sql, Done::DatabaseAbsent { name: name.to_owned() })
}

pub fn drop_table(table: &TableName) -> TargetStatement {
    let sql = format!("DROP TABLE IF EXISTS {}", literal::table_name(table));
    TargetStatement::new(sql, Done::TableAbsent { table: table.clone() })
}

/// For a column that no row carries any more.
pub fn allow_null(table: &TargetTable, column: &TargetColumn) -> TargetStatement {
    let (table, name) = (literal::table_name(&table.name), literal::name(&column.name));
    let sql = format!("ALTER TABLE {table} MODIFY COLUMN {name} {} NULL", column.type_text);
    TargetStatement::new(sql, Done::Rerun)
}

/// At a barrier nothing is written between a first and a second run.
pub fn truncate_table(table: &TableName) -> TargetStatement {
    TargetStatement::new(format!("TRUNCATE TABLE {}", literal::table_name(table)), Done::Rerun)
}

/// The pairs of one RENAME TABLE in its order, each seeing those before it (so a swap by the source brings its own temporary name). A pair
/// that stays in place gives nothing.
///
/// # Errors
/// adb has no documented rename into another database, and does not take every name.
pub fn rename_tables(
    dialect: Dialect,
    pairs: &[(TableName, TableName)],
) -> Result<Vec<TargetStatement>, Problem> {
    let mut statements = Vec::new();
    for (from, to) in pairs.iter().filter(|(from, to)| from != to) {
        if dialect == Dialect::Adb && from.schema != to.schema {
            return Err(Problem::refuse(
                from,
                format!("the target cannot move a table to another database (to {to})"),
                "resync the table under its new name, or map both schemas to one database",
            ));
        }
        if dialect == Dialect::Adb {
            adb_name(&to.table)?;
        }
        statements.push(rename(dialect, from, to));
    }
    Ok(statements)
}

/// Renames a table of which nobody knows whether it is there; None where the target cannot.
pub fn move_if_there(dialect: Dialect, from: &TableName, to: &TableName) -> Option<TargetStatement> {
    let [statement] = rename_tables(dialect, &[(from.clone(), to.clone())]).ok()?.try_into().ok()?;
    let done = Done::TableMoved { from: from.clone(), to: to.clone() };
    Some(TargetStatement { done, ..statement })
}

/// Exchanges two tables of one schema: three steps through a temporary name (a shadow that takes its table's place).
pub fn swap_tables(dialect: Dialect, left: &TableName, right: &TableName) -> Vec<TargetStatement> {
    let temporary = TableName::new(&left.schema, temporary_name(&left.table));
    vec![rename(dialect, left, &temporary), rename(dialect, right, left), rename(dialect, &temporary, right)]
}

/// Statements that put a shadow in its table's place; `old` is where the table goes when there is one. Where one statement can rename
/// several tables nobody ever sees the table missing.
pub fn put_in_place(
    dialect: Dialect,
    shadow: &TableName,
    table: &TableName,
    old: Option<&TableName>,
) -> Vec<String> {
    let quoted = literal::table_name;
    match (dialect, old) {
        (Dialect::Mysql, Some(old)) => vec![
            drop_table(old).sql,
            format!(
                "RENAME TABLE {} TO {}, {} TO {}",
                quoted(table),
                quoted(old),
                quoted(shadow),
                quoted(table)
            ),
        ],
        (Dialect::Adb, Some(_)) => vec![drop_table(table).sql, rename(dialect, shadow, table).sql],
        (_, None) => vec![rename(dialect, shadow, table).sql],
    }
}

fn rename(dialect: Dialect, from: &TableName, to: &TableName) -> TargetStatement {
    let (old, new) = (literal::table_name(from), literal::table_name(to));
    let sql = match dialect {
        Dialect::Mysql => format!("RENAME TABLE {old} TO {new}"),
        Dialect::Adb => format!("ALTER TABLE {old} RENAME {new}"),
    };
    TargetStatement::new(sql, Done::TableRenamed { from: from.clone(), to: to.clone() })
}

/// At most 64 characters; the same on every run, so that a restart finds it.
fn temporary_name(table: &str) -> String {
    let kept: String = table.chars().take(40).collect();
    format!("_tidegate_swap_{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Vec<String> {
        let name = |name: &str| TableName::new("s", name);
        let pairs: Vec<_> = pairs.iter().map(|(from, to)| (name(from), name(to))).collect();
        rename_tables(Dialect::Mysql, &pairs)
            .unwrap()
            .into_iter()
            .map(|statement| statement.sql.replace("`s`.", "").replace('`', ""))
            .collect()
    }

    #[test]
    fn renames_run_pair_by_pair() {
        assert_eq!(texts(&[("a", "b"), ("c", "c")]), ["RENAME TABLE a TO b"]);
        assert_eq!(
            texts(&[("a", "t"), ("b", "a"), ("t", "b")]),
            ["RENAME TABLE a TO t", "RENAME TABLE b TO a", "RENAME TABLE t TO b"]
        );
    }

    #[test]
    fn a_swap_goes_through_a_temporary_name() {
        let steps = swap_tables(Dialect::Adb, &TableName::new("s", "a"), &TableName::new("s", "b"));
        assert_eq!(
            steps.iter().map(|step| step.sql.as_str()).collect::<Vec<_>>(),
            [
                "ALTER TABLE `s`.`a` RENAME `s`.`_tidegate_swap_a`",
                "ALTER TABLE `s`.`b` RENAME `s`.`a`",
                "ALTER TABLE `s`.`_tidegate_swap_a` RENAME `s`.`b`"
            ]
        );
    }

    #[test]
    fn adb_does_not_move_tables_between_databases() {
        let pairs = [(TableName::new("a", "t"), TableName::new("b", "t"))];
        assert!(rename_tables(Dialect::Adb, &pairs).unwrap_err().is_refusal());
        assert!(rename_tables(Dialect::Mysql, &pairs).is_ok());
    }

    #[test]
    fn database_statements() {
        assert_eq!(drop_database(Dialect::Adb, "a`b").sql, "DROP DATABASE `a``b` CASCADE");
        assert_eq!(
            create_database(Dialect::Mysql, "a", Some("latin1"), None),
            "CREATE DATABASE IF NOT EXISTS `a` DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        assert_eq!(
            create_database(Dialect::Adb, "a", Some("utf8mb4"), None),
            "CREATE DATABASE IF NOT EXISTS `a`"
        );
    }
}

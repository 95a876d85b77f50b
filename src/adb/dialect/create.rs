//! CREATE DATABASE and CREATE TABLE.

use super::charset::{self, Collations, SourceText};
use super::table::{TargetKey, TargetTable};
use crate::model::{Dialect, KeyKind};
use crate::sql::literal;

/// `charset` and `collation` are the source's; adb has but one.
pub fn create_database(
    dialect: Dialect,
    name: &str,
    charset: Option<&str>,
    collation: Option<&str>,
) -> String {
    let mut sql = format!("CREATE DATABASE IF NOT EXISTS {}", literal::name(name));
    if let (Dialect::Mysql, Some(source)) = (dialect, SourceText::said(charset, collation)) {
        // Tables and columns say their own; the portable collations do for the schema's.
        let text = charset::map(&source, false, &Collations::default());
        sql.push_str(&format!(" DEFAULT CHARACTER SET {} COLLATE {}", text.charset, text.collation));
    }
    sql
}

/// Fails with 1050 where the table exists: what is there must be looked at, not passed over.
pub fn create_table(table: &TargetTable) -> String {
    let columns = table
        .all_columns()
        .into_iter()
        .map(|(name, definition)| format!("  {} {definition}", literal::name(name)));
    let keys = table.keys.iter().map(|key| format!("  {}", key_clause(key)));
    let lines: Vec<_> = columns.chain(keys).collect();
    let mut sql = format!(
        "CREATE TABLE {} (\n{}\n){}",
        literal::table_name(&table.name),
        lines.join(",\n"),
        table.tail
    );
    if let Some(comment) = &table.comment {
        sql.push_str(" COMMENT=");
        sql.push_str(comment);
    }
    sql
}

/// As in CREATE TABLE and behind ADD in ALTER TABLE.
pub(super) fn key_clause(key: &TargetKey) -> String {
    let parts: Vec<_> = key
        .parts
        .iter()
        .map(|(name, prefix)| match prefix {
            Some(length) => format!("{}({length})", literal::name(name)),
            None => literal::name(name),
        })
        .collect();
    let parts = parts.join(", ");
    match key.kind {
        KeyKind::Primary => format!("PRIMARY KEY ({parts})"),
        KeyKind::Unique => format!("UNIQUE KEY {} ({parts})", literal::name(&key.name)),
        KeyKind::Index | KeyKind::Fulltext => format!("KEY {} ({parts})", literal::name(&key.name)),
    }
}

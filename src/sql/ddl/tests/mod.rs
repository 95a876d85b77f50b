//! What the grammar promises, held to the texts of real TiDBs in tests/fixtures and to tables of its own.

mod alter;
mod apply;
mod conditions;
mod create;
mod fixtures;
mod histories;
mod properties;
mod statements;
mod versions;

use crate::model::{Column, Table};

use super::ast::{AlterClause, Statement};
use super::parse;

/// The only statement of a text.
fn one(sql: &str) -> Statement {
    let mut statements = parse(sql.as_bytes()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0)
}

fn table(sql: &str) -> Table {
    match one(sql) {
        Statement::CreateTable { table, .. } => table,
        other => panic!("{sql}: {other:?}"),
    }
}

fn clauses(sql: &str) -> Vec<AlterClause> {
    match one(sql) {
        Statement::AlterTable { clauses, .. } => clauses,
        other => panic!("{sql}: {other:?}"),
    }
}

/// A column by its definition in CREATE TABLE.
fn column(definition: &str) -> Column {
    table(&format!("CREATE TABLE t (c {definition})")).columns.remove(0)
}

/// Where and with which expectation a text is refused.
fn refused(sql: &str) -> (usize, String) {
    let error = parse(sql.as_bytes()).map(|statements| panic!("{sql}: {statements:?}")).unwrap_err();
    (error.position, error.expected)
}

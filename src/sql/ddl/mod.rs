//! TiDB's DDL text, understood or refused: never guessed.
//!
//! [`parse`] turns the text of one DDL event, or of `SHOW CREATE TABLE`, into [`ast::Statement`]s. What it does not know is a
//! [`DdlError`] that names the byte, what stood there, what was expected and what a person can do. [`apply`] carries a
//! statement's clauses out on a [`crate::model::Table`]; [`kind`] says which policy of a task decides about a statement;
//! [`partition_condition`] says as SQL which rows live in a partition.
//!
//! Everything here is pure. Nothing recurses over the text: expressions are kept as source text, found by their parentheses,
//! so neither depth nor length of a statement can hurt.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

mod alter;
pub mod apply;
mod apply_partitions;
pub mod ast;
mod charset;
mod column;
mod column_type;
mod comments;
mod condition;
mod create;
mod cursor;
mod error;
mod expression;
mod key;
pub mod kind;
pub(in crate::sql) mod literal;
mod partition;
mod statement;
mod table_option;
#[cfg(test)]
mod tests;
pub(in crate::sql) mod token;
mod writer;

pub use charset::default_collation;
pub use condition::{condition_in_front_of, partition_condition};
pub use error::DdlError;
pub use expression::{names_column, replace_columns};

use ast::Statement;
use cursor::Cursor;

/// Every statement of a DDL text, in order; there is at least one.
///
/// Statements are separated by `;`, a last one may stand at the end. Comments anywhere are skipped, except executable ones
/// (`/*! */`, `/*T! */`, `/*T![feature] */`), whose content counts as text whatever version or feature they name: the text
/// comes from a TiDB that has already executed it. Unquoted words are compared without case; names keep their spelling.
///
/// Text is UTF-8. Other bytes are allowed in comments alone; anywhere else they are an error at their position, for a name or
/// a default that holds them cannot be told apart from another.
pub fn parse(text: &[u8]) -> Result<Vec<Statement>, DdlError> {
    let clean = comments::unwrap(text)?;
    let tokens = token::tokens(&clean)?;
    let mut cursor = Cursor::new(&clean, &tokens);
    let mut statements = Vec::new();
    loop {
        while cursor.take_symbol(";") {}
        if cursor.at_end_of_text() {
            break;
        }
        statements.push(statement::statement(&mut cursor)?);
        if !cursor.at_end() {
            return Err(cursor.expected("`;` or the end of the statement"));
        }
    }
    if statements.is_empty() {
        return Err(cursor.expected("a DDL statement"));
    }
    Ok(statements)
}

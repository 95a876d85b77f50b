//! Everything in which targets differ: types, CREATE TABLE, ALTER TABLE, session.
//!
//! [`TargetTable`] is the plan of one table on one target: its columns with their encoders, its identity, its keys. Statement text comes from
//! it alone, so what a table was created as, what rows are written to it and what an ALTER changes cannot disagree. Nothing here does I/O but
//! [`session::verify`].

mod alter;
mod charset;
mod columns;
mod convert;
mod create;
mod default;
#[cfg(test)]
pub(crate) mod fixture;
mod generated;
mod keys;
mod layout;
mod mapping;
mod mysql_limits;
mod partition;
mod plan;
mod problem;
mod session;
mod statements;
mod table;
#[cfg(test)]
mod tests;
mod types;

pub use alter::{AlterContext, alter};
pub use charset::Collations;
pub use convert::{Rewritten, rewritten};
pub use create::{create_database, create_table};
pub use mapping::{CONSTANT_LENGTH, Constant, Mapping};
pub use partition::{PartitionExpression, PartitionFunction};
pub use problem::{Problem, Severity};
pub use session::{RELAXED_MODE, STRICT_MODE, target_session_setup, verify};
pub use statements::{
    Done, TargetStatement, allow_null, create_database_statement, create_table_statement, drop_database,
    drop_table, empty_table, move_if_there, own_rows, put_in_place, rename_tables, swap_tables,
    truncate_table,
};
pub use table::{GeneratedColumn, TableOptions, TargetColumn, TargetKey, TargetTable, unjudged};

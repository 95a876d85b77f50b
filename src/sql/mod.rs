//! SQL as text: reading the source's DDL, writing literals and names for the target.

pub mod ddl;
pub mod filter;
pub mod literal;

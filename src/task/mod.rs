//! What a task is, without I/O: its spec and the names it selects, its states, the connections it uses.

pub mod change;
pub mod connection;
pub mod fault;
mod merge;
pub mod objects;
pub mod pattern;
pub mod selection;
pub mod spec;
pub mod standing;
pub mod status;
mod table_spec;
pub mod turn;
pub mod validate;

//! What a task is, without I/O: its spec and the names it selects.

pub mod selection;
pub mod spec;

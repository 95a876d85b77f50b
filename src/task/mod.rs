//! What a task is, without I/O: its spec and the names it selects.

pub mod fault;
pub mod pattern;
pub mod selection;
pub mod spec;

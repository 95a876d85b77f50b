//! Full sync: copies tables as they were at one timestamp of the source (design.md 6, 10.1, 10.13).

pub mod bounds;
pub mod chunk;
mod text;

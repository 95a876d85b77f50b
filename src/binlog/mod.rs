//! (in work)

pub mod client;

//! (in work)

pub mod classify;

pub use classify::classify;

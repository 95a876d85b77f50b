//! Verbs of the command line that are no server: each reads, prints to standard output, and says whether all was well.

pub mod check;
pub mod decode;

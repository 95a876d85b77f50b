//! TiDB's DDL text, understood or refused: never guessed.

pub mod ast;

//! Row filters: the condition of a WHERE over one table, parsed, bound to the table's types, and evaluated here, so that full and
//! incremental sync cannot disagree about a row.
//!
//! [`Condition::parse`] reads the text; [`Condition::bind`] fits it to a table and refuses every comparison whose outcome on the source
//! it could not repeat exactly; [`Filter::matches`] judges a row by three-valued logic. Docs: docs/tables.md.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

mod bind;
mod eval;
mod like;
mod parse;
mod value;

pub use bind::{Context, Filter, Unfit};
pub use eval::FilterFault;

use crate::sql::ddl::DdlError;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: expected {expected}, found {found}")]
pub struct SyntaxFault {
    pub offset: usize,
    pub expected: String,
    pub found: String,
}

impl From<DdlError> for SyntaxFault {
    fn from(error: DdlError) -> Self {
        Self { offset: error.position, expected: error.expected, found: error.found }
    }
}

/// A condition as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Expr);

impl Condition {
    /// # Errors
    /// The first place that is not understood, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, SyntaxFault> {
        parse::condition(text).map(Self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// With its sides exchanged.
    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }
}

/// A literal as written.
#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    /// `[-]digits[.digits][e..]`
    Number(String),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
    /// DATE'...', TIME'...' or TIMESTAMP'...'
    Temporal(Temporal, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temporal {
    Date,
    Time,
    Timestamp,
}

/// A column; `binary`: compared by its bytes, whatever its collation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Operand {
    column: String,
    binary: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    /// TRUE, FALSE, NULL
    Constant(Option<bool>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    IsNull(Operand),
    Compare(Operand, Comparison, Literal),
    In(Operand, Vec<Literal>),
    Like(Operand, String),
}

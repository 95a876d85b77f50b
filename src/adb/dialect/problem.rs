//! What stands in the way of a table or statement on the target, in words for a person.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Endpoint, Error, ErrorKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is done, and something differs from the source.
    Warn,
    /// It is not done.
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    pub severity: Severity,
    /// `shop.orders`, `shop.orders.note`, `shop.orders index ix`.
    pub object: String,
    pub detail: String,
    /// What a person can do about it.
    pub hint: String,
}

impl Problem {
    pub fn refuse(object: impl fmt::Display, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Severity::Refuse, object, detail, hint)
    }

    pub fn warn(object: impl fmt::Display, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Severity::Warn, object, detail, hint)
    }

    fn new(
        severity: Severity,
        object: impl fmt::Display,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity, object: object.to_string(), detail: detail.into(), hint: hint.into() }
    }

    pub fn is_refusal(&self) -> bool {
        self.severity == Severity::Refuse
    }

    /// Puts `outer.` before the object: a column's problem becomes its table's.
    pub(super) fn inside(mut self, outer: impl fmt::Display) -> Self {
        self.object = format!("{outer}.{}", self.object);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.detail)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error::new(ErrorKind::StatementRefused, problem.detail)
            .endpoint(Endpoint::Target)
            .object(problem.object)
            .hint(problem.hint)
    }
}

//! Why a statement is not run. The numbers are inventions except 1xxx, MySQL's, and 40039 [R]: AnalyticDB's are not documented, so nobody may rest on them.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub text: String,
}

impl From<String> for Refusal {
    /// A statement that is not understood.
    fn from(text: String) -> Self {
        Self { code: 1064, text: format!("[1064] syntax error: {text}") }
    }
}

pub fn refuse(code: u16, text: impl Into<String>) -> Refusal {
    Refusal { code, text: format!("[{code}] {}", text.into()) }
}

/// AnalyticDB does not do that.
pub fn unsupported(text: impl Into<String>) -> Refusal {
    refuse(30009, text)
}

/// Larger than AnalyticDB takes.
pub fn limit(text: impl Into<String>) -> Refusal {
    refuse(30010, text)
}

//! Why a DDL text was refused.

use crate::error::{Error, ErrorKind};

/// A text that is not understood, or understood and impossible to follow. Nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DDL not understood at byte {position}: expected {expected}, found {found}")]
pub struct DdlError {
    /// Offset in bytes into the text that was given.
    pub position: usize,
    /// What stands there, cut to a readable length.
    pub found: String,
    /// What would have been understood.
    pub expected: String,
    /// What a person can do.
    pub hint: String,
}

/// For text that this version does not know.
const HINT: &str = "carry the effect of this statement over to the target by hand and skip the event, or take the table out of the task and add it again";

impl DdlError {
    /// Long texts are cut: an error message is no place for a whole statement.
    const FOUND_LENGTH: usize = 60;

    pub(super) fn new(position: usize, found: &str, expected: impl Into<String>) -> Self {
        let mut excerpt: String = found.chars().take(Self::FOUND_LENGTH).collect();
        if excerpt.len() < found.len() {
            excerpt.push_str("...");
        }
        let found = if found.is_empty() { "the end of the text".to_owned() } else { format!("`{excerpt}`") };
        Self { position, found, expected: expected.into(), hint: HINT.to_owned() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl From<DdlError> for Error {
    fn from(error: DdlError) -> Self {
        Error::new(ErrorKind::StatementRefused, error.to_string()).hint(error.hint)
    }
}

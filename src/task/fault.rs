//! One thing that is wrong with what a user sent, and where.

/// Several of these make a 422: all faults of a body are told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the body (RFC 6901): `/objects/include/0`.
    pub pointer: String,
    /// Stable, snake_case: `unknown_field`, `required`, `invalid`, `not_supported`, ...
    pub code: &'static str,
    /// For people: what is wrong and what would be right.
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// `pointer` one level deeper; `~` and `/` of the key are escaped.
pub fn child(pointer: &str, key: impl std::fmt::Display) -> String {
    format!("{pointer}/{}", key.to_string().replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::child;

    #[test]
    fn keys_are_escaped() {
        assert_eq!(child("/objects/tables", "a/b~c.d"), "/objects/tables/a~1b~0c.d");
    }
}

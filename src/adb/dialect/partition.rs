//! The partition expression that a user asks for on ADB: read and written again, never pasted.

use crate::sql::literal;

/// `column`, `DATE_FORMAT(column, 'format')` or `FROM_UNIXTIME(column, 'format')`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionExpression {
    pub column: String,
    pub function: Option<PartitionFunction>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionFunction {
    DateFormat(String),
    FromUnixtime(String),
}

impl PartitionExpression {
    /// # Errors
    /// Says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let accepted = || {
            "a partition is `column`, `DATE_FORMAT(column, '%Y%m%d')` or `FROM_UNIXTIME(column, '%Y%m%d')`"
                .to_owned()
        };
        let (word, rest) = identifier(text.trim_start()).ok_or_else(accepted)?;
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Self { column: word, function: None });
        }
        let inner = rest.strip_prefix('(').ok_or_else(accepted)?;
        let (column, rest) = identifier(inner.trim_start()).ok_or_else(accepted)?;
        let rest = rest.trim_start().strip_prefix(',').ok_or_else(accepted)?.trim_start();
        let rest = rest.strip_prefix('\'').ok_or_else(accepted)?;
        let (format, rest) = rest.split_once('\'').ok_or_else(accepted)?;
        if rest.trim() != ")" || !is_format(format) {
            return Err(accepted());
        }
        let function = match word.to_ascii_uppercase().as_str() {
            "DATE_FORMAT" => PartitionFunction::DateFormat(format.to_owned()),
            "FROM_UNIXTIME" => PartitionFunction::FromUnixtime(format.to_owned()),
            _ => return Err(accepted()),
        };
        Ok(Self { column, function: Some(function) })
    }

    /// As it stands in PARTITION BY VALUE(...); `column` in the table's own spelling.
    pub(super) fn sql(&self, column: &str) -> String {
        let column = literal::name(column);
        match &self.function {
            None => column,
            Some(PartitionFunction::DateFormat(format)) => {
                format!("DATE_FORMAT({column}, {})", literal::string(format))
            }
            Some(PartitionFunction::FromUnixtime(format)) => {
                format!("FROM_UNIXTIME({column}, {})", literal::string(format))
            }
        }
    }
}

/// A bare or back-quoted name at the start of the text, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(mut rest) = text.strip_prefix('`') {
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('`')?;
            name.push_str(part);
            match after.strip_prefix('`') {
                Some(again) => {
                    name.push('`');
                    rest = again;
                }
                None => return (!name.is_empty()).then_some((name, after)),
            }
        }
    }
    let end = text
        .char_indices()
        .find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '_' | '$')))
        .map_or(text.len(), |(at, _)| at);
    let (name, rest) = text.split_at_checked(end)?;
    (!name.is_empty()).then(|| (name.to_owned(), rest))
}

fn is_format(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '%' | '-' | '_' | '/' | ':' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_are_accepted_and_written_anew() {
        for (text, sql) in [
            ("created_at", "`created_at`"),
            (" `a``b` ", "`a``b`"),
            ("date_format(created_at,'%Y%m')", "DATE_FORMAT(`created_at`, '%Y%m')"),
            ("FROM_UNIXTIME( `ts` , '%Y-%m-%d' ) ", "FROM_UNIXTIME(`ts`, '%Y-%m-%d')"),
        ] {
            let parsed = PartitionExpression::parse(text).unwrap();
            assert_eq!(parsed.sql(&parsed.column.clone()), sql);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "a b",
            "a)",
            "YEAR(a)",
            "DATE_FORMAT(a)",
            "DATE_FORMAT(a, '%Y') LIFECYCLE 1",
            "DATE_FORMAT(a, '%Y'')",
            "DATE_FORMAT(a, '%Y\\')",
            "DATE_FORMAT(a, \"%Y\")",
            "`a",
            "a; DROP TABLE t",
        ] {
            assert!(PartitionExpression::parse(text).is_err(), "{text}");
        }
    }
}

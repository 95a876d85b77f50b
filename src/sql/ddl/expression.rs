//! Column names inside expressions that are kept as source text.

use crate::model::Table;
use crate::sql::literal;

use super::create::same_name;
use super::literal as written;
use super::token::{self, Kind, Token};

/// The expression with every reference to a column replaced by what `replace` gives for its name; None leaves it as it is.
/// A word in front of `(` is a function, a name in front of `.` a qualifier, which is dropped when its column is replaced.
/// None when the text cannot be cut into tokens.
pub fn replace_columns(text: &str, replace: impl Fn(&str) -> Option<String>) -> Option<String> {
    let tokens = token::tokens(text).ok()?;
    let slice = |token: &Token| text.get(token.start..token.end).unwrap_or_default();
    let symbol = |at: Option<&Token>, symbol: &str| {
        at.is_some_and(|token| token.kind == Kind::Symbol && slice(token) == symbol)
    };
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (at, token) in tokens.iter().enumerate() {
        let name = match token.kind {
            Kind::Word if !symbol(tokens.get(at + 1), "(") => slice(token).to_owned(),
            Kind::Name => match written::unquote(slice(token)) {
                Some(name) => name,
                None => continue,
            },
            _ => continue,
        };
        if symbol(tokens.get(at + 1), ".") {
            continue;
        }
        let Some(replacement) = replace(&name) else { continue };
        let mut first = at;
        while first >= 2 && symbol(tokens.get(first - 1), ".") {
            first -= 2;
        }
        let start = tokens.get(first).map_or(token.start, |token| token.start);
        out.push_str(text.get(copied..start).unwrap_or_default());
        out.push_str(&replacement);
        copied = token.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Some(out)
}

/// The expression with its columns in backticks, in the spelling of the table.
pub(super) fn quote_columns(text: &str, table: &Table) -> Option<String> {
    replace_columns(text, |name| table.column(name).map(|column| literal::name(&column.name)))
}

/// The expression after a column got a new name; the text stays as it is when it cannot be read.
pub(super) fn rename_column(text: &str, old: &str, new: &str) -> String {
    replace_columns(text, |name| same_name(name, old).then(|| literal::name(new)))
        .unwrap_or_else(|| text.to_owned())
}

/// True when the expression names the column.
pub fn names_column(text: &str, column: &str) -> bool {
    let found = std::cell::Cell::new(false);
    let _ = replace_columns(text, |name| {
        found.set(found.get() || same_name(name, column));
        None
    });
    found.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_told_from_functions_strings_and_qualifiers() {
        let text = "year(Year) + `t`.`YEAR` - 'year' * a.b.year + yearly";
        assert_eq!(rename_column(text, "year", "y`2"), "year(`y``2`) + `y``2` - 'year' * `y``2` + yearly");
        assert!(names_column(text, "YEARLY"));
        assert!(!names_column("year('a')", "year"));
    }
}

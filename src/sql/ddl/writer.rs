//! Who wrote a text decides what a backslash in some of its strings means.
//!
//! TiDB from v6.0 on writes DDL events anew from its syntax tree, and doubles backslashes in expressions (defaults, column
//! comments, generated columns) but not in labels of ENUM and SET and not in options of a table (seen on v7.0). SHOW CREATE
//! TABLE leaves them bare in labels too, while it writes a line feed there as `\n`, so that both look alike.

use super::token::{Kind, Token};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// A person or a program: every string has MySQL's escapes.
    Statement,
    /// TiDB's own canonical form in a DDL event: labels and table options have no escapes.
    Canonical,
    /// SHOW CREATE TABLE: a label with a backslash can be read in two ways.
    ShowCreate,
}

/// Told by the form: canonical text ends in `;`, has no line break outside strings and every word but a collation's in upper
/// case; SHOW CREATE TABLE begins each definition on a line of its own, indented by two blanks.
pub(super) fn writer(text: &str, tokens: &[Token]) -> Writer {
    if !text.contains('\\') {
        return Writer::Statement;
    }
    let slice = |start: usize, end: usize| text.get(start..end).unwrap_or_default();
    if text.trim_start().starts_with("CREATE ") && text.contains("(\n  `") {
        return Writer::ShowCreate;
    }
    let Some((last, others)) = tokens.split_last() else { return Writer::Statement };
    let mut end = 0;
    let mut collation = false;
    for token in others {
        let word = slice(token.start, token.end);
        let upper = token.kind != Kind::Word || !word.contains(|c: char| c.is_ascii_lowercase()) || collation;
        if !upper || slice(end, token.start).contains(['\n', '\r', '\t']) {
            return Writer::Statement;
        }
        // `COLLATE = name` keeps the name as it was given.
        collation = word == "COLLATE" || (collation && word == "=");
        end = token.end;
    }
    if slice(last.start, last.end) == ";" { Writer::Canonical } else { Writer::Statement }
}

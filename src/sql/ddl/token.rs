//! Tokens with byte positions, from sqlparser's tokenizer for MySQL.
//!
//! Only the tokenizer's cuts are used. Values are read from the text itself (see [`super::literal`]): the tokenizer knows
//! escapes that MySQL does not (`\a`, `\f`), which would change ENUM labels and defaults.

use std::fmt;

use sqlparser::dialect::MySqlDialect;
use sqlparser::tokenizer::{Token as Cut, Tokenizer, Whitespace};

use super::error::DdlError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// `` `name` ``
    Name,
    /// `'text'`, `"text"` or `N'text'`.
    Text,
    Number,
    /// `b'101'`, `x'ff'` or `0xff`.
    Bits,
    /// Operators and punctuation.
    Symbol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Cuts a text whose comments are gone.
pub(in crate::sql) fn tokens(text: &str) -> Result<Vec<Token>, DdlError> {
    let dialect = MySqlDialect {};
    let mut cuts = Vec::new();
    let outcome =
        Tokenizer::new(&dialect, text).with_unescape(false).tokenize_with_location_into_buf(&mut cuts);
    let mut positions = Positions { text, byte: 0, line: 1, column: 1 };
    let mut tokens = Vec::with_capacity(cuts.len());
    for cut in &cuts {
        let start = positions.byte_at(cut.span.start.line, cut.span.start.column);
        let end = positions.byte_at(cut.span.end.line, cut.span.end.column);
        let kind = match &cut.token {
            Cut::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => continue,
            Cut::Whitespace(_) => return Err(refused(text, start, "text without a comment")),
            Cut::Word(word) if word.quote_style.is_some() => Kind::Name,
            Cut::Word(_) | Cut::Placeholder(_) => Kind::Word,
            Cut::SingleQuotedString(_) | Cut::DoubleQuotedString(_) | Cut::NationalStringLiteral(_) => {
                Kind::Text
            }
            Cut::Number(..) => Kind::Number,
            Cut::SingleQuotedByteStringLiteral(_) | Cut::HexStringLiteral(_) => Kind::Bits,
            _ => Kind::Symbol,
        };
        tokens.push(Token { kind, start, end });
    }
    match outcome {
        Ok(()) => Ok(tokens),
        Err(error) => {
            let start = positions.byte_at(error.location.line, error.location.column);
            Err(refused(text, start, lower(&error.message)))
        }
    }
}

fn lower(message: &impl fmt::Display) -> String {
    format!("a readable token ({message})")
}

fn refused(text: &str, position: usize, expected: impl Into<String>) -> DdlError {
    DdlError::new(position, text.get(position..).unwrap_or_default(), expected)
}

/// Turns the tokenizer's lines and columns (in characters) into bytes; asked in rising order, it walks the text once.
struct Positions<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
    column: u64,
}

impl Positions<'_> {
    fn byte_at(&mut self, line: u64, column: u64) -> usize {
        let tail = self.text.get(self.byte..).unwrap_or_default();
        for character in tail.chars() {
            if (self.line, self.column) >= (line, column) {
                break;
            }
            self.byte += character.len_utf8();
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(sql: &str) -> Vec<(Kind, &str)> {
        tokens(sql).unwrap().iter().map(|token| (token.kind, &sql[token.start..token.end])).collect()
    }

    #[test]
    fn cuts_are_the_texts_own_bytes() {
        use Kind::{Bits, Name, Number, Symbol, Text, Word};
        assert_eq!(
            cut("订单\n `a``中`.b=_UTF8MB4'it''s \\' é' 0x1F b'01' X'ff' 1.5e-3 .5 \"d\" N'n' (中)"),
            [
                (Word, "订单"),
                (Name, "`a``中`"),
                (Symbol, "."),
                (Word, "b"),
                (Symbol, "="),
                (Word, "_UTF8MB4"),
                (Text, "'it''s \\' é'"),
                (Bits, "0x1F"),
                (Bits, "b'01'"),
                (Bits, "X'ff'"),
                (Number, "1.5e-3"),
                (Number, ".5"),
                (Text, "\"d\""),
                (Text, "N'n'"),
                (Symbol, "("),
                (Word, "中"),
                (Symbol, ")"),
            ]
        );
        assert_eq!(
            cut("db1.1t 2b $x"),
            [(Word, "db1"), (Symbol, "."), (Word, "1t"), (Word, "2b"), (Word, "$x"),]
        );
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        assert_eq!(tokens("ab 'c").unwrap_err().position, 3);
        assert!(tokens("ab `c").is_err());
    }
}

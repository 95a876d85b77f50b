//! Whether the expression of a generated column means the same on every MySQL-protocol server.
//!
//! The text comes from TiDB and goes into CREATE TABLE of the target, so it is taken apart first: only names of the table's own columns,
//! literals, operators and functions whose results MySQL, MariaDB and TiDB agree on pass. A column whose expression does not
//! pass is left out of the target.

use sqlparser::dialect::MySqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::model::Table;

const FUNCTIONS: [&str; 50] = [
    "ABS",
    "CEIL",
    "CEILING",
    "FLOOR",
    "ROUND",
    "TRUNCATE",
    "MOD",
    "SIGN",
    "POW",
    "POWER",
    "SQRT",
    "GREATEST",
    "LEAST",
    "CONCAT",
    "CONCAT_WS",
    "LOWER",
    "LCASE",
    "UPPER",
    "UCASE",
    "LEFT",
    "RIGHT",
    "SUBSTRING",
    "SUBSTR",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "LENGTH",
    "OCTET_LENGTH",
    "CHAR_LENGTH",
    "REPLACE",
    "REVERSE",
    "LPAD",
    "RPAD",
    "HEX",
    "UNHEX",
    "MD5",
    "SHA1",
    "CRC32",
    "IF",
    "IFNULL",
    "NULLIF",
    "COALESCE",
    "DATE",
    "YEAR",
    "MONTH",
    "DAY",
    "HOUR",
    "MINUTE",
    "JSON_EXTRACT",
    "JSON_UNQUOTE",
];

const WORDS: [&str; 24] = [
    "AND", "OR", "NOT", "XOR", "NULL", "TRUE", "FALSE", "IS", "IN", "BETWEEN", "LIKE", "DIV", "MOD", "CASE",
    "WHEN", "THEN", "ELSE", "END", "_UTF8MB4", "_UTF8", "_LATIN1", "_BINARY", "_ASCII", "_GBK",
];

/// # Errors
/// What the target may not know or may know differently.
pub(super) fn check(expression: &str, table: &Table) -> Result<(), String> {
    let tokens = Tokenizer::new(&MySqlDialect {}, expression)
        .with_unescape(false)
        .tokenize()
        .map_err(|error| format!("its expression cannot be read: {error}"))?;
    let mut tokens = tokens
        .into_iter()
        .filter(|token| !matches!(token, Token::Whitespace(space) if !is_comment(space)))
        .peekable();
    let mut depth = 0_i32;
    while let Some(token) = tokens.next() {
        match &token {
            Token::Word(word) => {
                let upper = word.value.to_uppercase();
                let called = tokens.peek() == Some(&Token::LParen);
                let known = if word.quote_style == Some('`') {
                    // Left as written: a backtick in a name stands twice.
                    !called && table.column(&word.value.replace("``", "`")).is_some()
                } else if word.quote_style.is_some() {
                    false
                } else if called && !WORDS.contains(&upper.as_str()) {
                    FUNCTIONS.contains(&upper.as_str())
                } else {
                    WORDS.contains(&upper.as_str()) || table.column(&word.value).is_some()
                };
                if !known {
                    return Err(format!("`{}` in its expression may mean something else there", word.value));
                }
            }
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::HexStringLiteral(_)
            | Token::Comma
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship
            | Token::Ampersand
            | Token::Pipe
            | Token::ShiftLeft
            | Token::ShiftRight => {}
            other => return Err(format!("`{other}` in its expression is not known everywhere")),
        }
        if depth < 0 {
            return Err("its expression has unbalanced parentheses".to_owned());
        }
    }
    if depth == 0 { Ok(()) } else { Err("its expression has unbalanced parentheses".to_owned()) }
}

fn is_comment(space: &sqlparser::tokenizer::Whitespace) -> bool {
    use sqlparser::tokenizer::Whitespace;
    matches!(space, Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType, TableName, TypeName};

    fn verdict(expression: &str) -> bool {
        let column = |name: &str| Column {
            name: name.to_owned(),
            ty: ColumnType::new(TypeName::Int),
            nullable: true,
            default: None,
            auto_increment: false,
            on_update_now: false,
            generated: None,
            comment: String::new(),
        };
        let table = Table {
            name: TableName::new("s", "t"),
            columns: vec![column("a"), column("b"), column("j"), column("we`ird")],
            keys: Vec::new(),
            charset: None,
            collation: None,
            comment: String::new(),
            partitioning: None,
            temporary: false,
            time_to_live: false,
        };
        check(expression, &table).is_ok()
    }

    #[test]
    fn portable_expressions_pass() {
        for text in [
            "`a` + 1",
            "concat(`b`, _utf8mb4'-', `a`)",
            "json_unquote(json_extract(`j`, _utf8mb4'$.n'))",
            "CASE WHEN `a` > 5 THEN 'x;''y' ELSE NULL END",
            "a IN (1, 2) AND NOT (b = 3)",
            "`we``ird` IS NULL",
        ] {
            assert!(verdict(text), "{text}");
        }
    }

    #[test]
    fn others_do_not() {
        for text in [
            "`j`->'$.n'",
            "`j`->>'$.n'",
            "uuid()",
            "`missing` + 1",
            "cast(`j` as json)",
            "`a` + 1) VIRTUAL, (x",
            "`a`; DROP TABLE t",
            "`a` /* x */",
            "`a` -- x",
            "(select 1)",
            "@@version",
            "sleep (5)",
        ] {
            assert!(!verdict(text), "{text}");
        }
    }
}

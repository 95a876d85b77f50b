//! A column: read from its definition, written as SHOW CREATE TABLE and for the MariaDB behind.

use crate::refusal::{Refusal, limit, unsupported};
use crate::token::{Cursor, Kind, quote_name, quote_text};
use crate::types::{Family, Type};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    pub not_null: bool,
    /// As written behind DEFAULT.
    pub default: Option<String>,
    pub auto_increment: bool,
    pub comment: String,
}

/// Tables and columns: 1 to 127 characters, a letter or `_` first.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let first = name.chars().next().is_some_and(|letter| letter.is_alphabetic() || letter == '_');
    if !first || name.chars().count() > 127 {
        return Err(unsupported(format!(
            "{name}: a name has 1 to 127 characters and starts with a letter or _"
        )));
    }
    Ok(())
}

impl Column {
    /// `name type ...`; says too whether PRIMARY KEY stood there.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<(Self, bool), Refusal> {
        let name = cursor.name()?;
        check_name(&name)?;
        let kind = Type::parse(cursor)?;
        let mut column = Self {
            name,
            kind,
            not_null: false,
            default: None,
            auto_increment: false,
            comment: String::new(),
        };
        let mut primary = false;
        loop {
            if cursor.take("not null") {
                column.not_null = true;
            } else if cursor.take("null") {
                column.not_null = false;
            } else if cursor.take("default") {
                column.default = Some(default(cursor)?);
            } else if cursor.take("auto_increment") {
                if column.kind.family != Family::Integer(8) {
                    return Err(unsupported(format!("{}: AUTO_INCREMENT needs BIGINT", column.name)));
                }
                column.auto_increment = true;
            } else if cursor.take("primary key") {
                primary = true;
            } else if cursor.take("comment") {
                column.comment = comment(cursor)?;
            } else {
                break;
            }
        }
        for word in [
            "first",
            "after",
            "unique",
            "on update",
            "references",
            "check",
            "generated",
            "as",
            "collate",
            "character",
        ] {
            if cursor.starts(word) {
                return Err(unsupported(format!(
                    "{}: {} is not supported",
                    column.name,
                    word.to_uppercase()
                )));
            }
        }
        if column.default.as_deref().is_some_and(|text| !text.eq_ignore_ascii_case("null"))
            && !column.kind.takes_default()
        {
            return Err(unsupported(format!("{}: {} takes no default", column.name, column.kind.text)));
        }
        Ok((column, primary))
    }

    pub fn show(&self) -> String {
        let mut text = format!("{} {}", quote_name(&self.name), self.kind.text);
        text.push_str(if self.not_null { " NOT NULL" } else { " NULL" });
        if let Some(default) = &self.default {
            text.push_str(&format!(" DEFAULT {default}"));
        }
        if self.auto_increment {
            text.push_str(" AUTO_INCREMENT");
        }
        if !self.comment.is_empty() {
            text.push_str(&format!(" COMMENT {}", quote_text(&self.comment)));
        }
        text
    }

    pub fn physical(&self, key_bytes: Option<u32>) -> String {
        let not_null = self.not_null || key_bytes.is_some();
        let mut text = format!("{} {}", quote_name(&self.name), self.kind.physical(key_bytes));
        text.push_str(if not_null { " NOT NULL" } else { " NULL" });
        match &self.default {
            Some(default) if default.to_lowercase().starts_with("current_timestamp") => {
                text.push_str(" DEFAULT CURRENT_TIMESTAMP(3)");
            }
            Some(default) => text.push_str(&format!(" DEFAULT {default}")),
            None => {}
        }
        if self.auto_increment {
            text.push_str(" AUTO_INCREMENT");
        }
        if let Some(check) = self.kind.check(&self.name) {
            text.push_str(&format!(" CHECK ({check})"));
        }
        text
    }
}

/// A literal of at most 127 characters, or CURRENT_TIMESTAMP.
fn default(cursor: &mut Cursor<'_>) -> Result<String, Refusal> {
    let from = cursor.at;
    if cursor.take("current_timestamp") || cursor.take("now") {
        if cursor.peek().is_some_and(|token| token.is("(")) {
            cursor.skip_brackets()?;
        }
    } else {
        let _ = cursor.take("-") || cursor.take("x") || cursor.take("b");
        match cursor.next() {
            Some(token) if matches!(token.kind, Kind::Text) => {
                if token.value().chars().count() > 127 {
                    return Err(limit("a default has more than 127 characters"));
                }
            }
            Some(token)
                if token.kind == Kind::Number
                    || token.is("null")
                    || token.is("true")
                    || token.is("false") => {}
            other => return Err(cursor.unexpected("a literal as default", other).into()),
        }
    }
    Ok(cursor.raw(from, cursor.at))
}

pub fn comment(cursor: &mut Cursor<'_>) -> Result<String, Refusal> {
    match cursor.next() {
        Some(token) if token.kind == Kind::Text => {
            let text = token.value();
            if text.chars().count() > 1024 {
                return Err(limit("a comment has more than 1024 characters"));
            }
            Ok(text)
        }
        other => Err(cursor.unexpected("a comment", other).into()),
    }
}

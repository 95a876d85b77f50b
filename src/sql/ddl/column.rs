//! Column definitions: type, attributes, DEFAULT, generated expressions.

use crate::model::{Column, ColumnDefault, ColumnType, Generated, Key, KeyKind, KeyPart, TypeName};

use super::column_type::{self, WrittenType};
use super::cursor::Cursor;
use super::error::DdlError;
use super::key;
use super::literal;
use super::token::Kind;

/// A column with what its definition says beside it.
#[derive(Debug, Clone)]
pub(super) struct WrittenColumn {
    pub column: Column,
    /// From PRIMARY KEY, UNIQUE and SERIAL.
    pub keys: Vec<Key>,
    pub binary_attribute: bool,
}

impl WrittenColumn {
    /// See [`column_type::settle`].
    pub fn settle(&mut self, table_charset: Option<&str>) {
        column_type::settle(&mut self.column.ty, self.binary_attribute, table_charset);
    }
}

/// `name type attributes...`, up to the first word that is no attribute of a column.
pub(super) fn column(cursor: &mut Cursor<'_>) -> Result<WrittenColumn, DdlError> {
    let name = cursor.name("a column name")?;
    let WrittenType { ty, binary_attribute, serial } = column_type::column_type(cursor)?;
    let column = Column {
        name,
        ty,
        // TiDB runs with explicit_defaults_for_timestamp: a TIMESTAMP is no exception.
        nullable: true,
        default: None,
        auto_increment: false,
        on_update_now: false,
        generated: None,
        comment: String::new(),
    };
    let mut written = WrittenColumn { column, keys: Vec::new(), binary_attribute };
    if serial {
        make_serial(&mut written);
    }
    while attribute(cursor, &mut written)? {}
    if written.keys.iter().any(|key| key.kind == KeyKind::Primary) {
        written.column.nullable = false;
    }
    Ok(written)
}

fn make_serial(written: &mut WrittenColumn) {
    written.column.nullable = false;
    written.column.auto_increment = true;
    push_key(written, KeyKind::Unique, None);
}

fn push_key(written: &mut WrittenColumn, kind: KeyKind, clustered: Option<bool>) {
    written.keys.push(Key {
        name: (kind == KeyKind::Primary).then(|| "PRIMARY".to_owned()),
        kind,
        parts: vec![KeyPart::Column { name: written.column.name.clone(), prefix: None }],
        clustered,
    });
}

/// One attribute where it stands; false when the next word is none.
fn attribute(cursor: &mut Cursor<'_>, written: &mut WrittenColumn) -> Result<bool, DdlError> {
    if cursor.take(&["NOT", "NULL"]) {
        written.column.nullable = false;
    } else if cursor.take(&["NULL"]) {
        written.column.nullable = true;
    } else if cursor.take(&["DEFAULT"]) {
        let number = cursor.is_kind(0, Kind::Number);
        let default = default(cursor)?;
        written.column.default = Some(fitted(default, &written.column.ty, number));
    } else if cursor.take(&["ON", "UPDATE"]) {
        now(cursor)?.ok_or_else(|| cursor.expected("`CURRENT_TIMESTAMP`"))?;
        written.column.on_update_now = true;
    } else if cursor.take(&["AUTO_INCREMENT"]) {
        written.column.auto_increment = true;
    } else if cursor.take(&["AUTO_RANDOM"]) {
        if cursor.is_symbol(0, "(") {
            cursor.group()?;
        }
    } else if cursor.take(&["SERIAL", "DEFAULT", "VALUE"]) {
        make_serial(written);
    } else if cursor.take(&["PRIMARY", "KEY"]) || cursor.take(&["KEY"]) {
        let clustered = key::clustered(cursor);
        push_key(written, KeyKind::Primary, clustered);
        key::scope(cursor);
    } else if cursor.take(&["UNIQUE"]) {
        cursor.take(&["KEY"]);
        push_key(written, KeyKind::Unique, None);
        key::scope(cursor);
    } else if cursor.take(&["COMMENT"]) {
        written.column.comment = cursor.text("a comment")?;
    } else if let Some(collation) = column_type::collation_clause(cursor)? {
        written.column.ty.collation = collation;
    } else if let Some(charset) = column_type::charset_clause(cursor)? {
        written.column.ty.charset = charset;
    } else if cursor.take(&["GENERATED", "ALWAYS", "AS"]) || cursor.take(&["AS"]) {
        let expression = cursor.group()?;
        let stored = cursor.take(&["STORED"]);
        if !stored {
            cursor.take(&["VIRTUAL"]);
        }
        written.column.generated = Some(Generated { expression, stored });
    } else if cursor.take_any(&["COLUMN_FORMAT", "STORAGE"]) {
        if !cursor.take(&["DEFAULT"]) {
            cursor.name("a storage format")?;
        }
    } else if cursor.take_any(&["ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"]) {
        cursor.take_symbol("=");
        cursor.text("an attribute")?;
    } else if cursor.is(0, "REFERENCES") {
        key::references(cursor)?;
    } else if cursor.is(0, "CHECK") {
        key::check(cursor)?;
    } else if cursor.is(0, "CONSTRAINT") && (cursor.is(1, "CHECK") || cursor.is(2, "CHECK")) {
        cursor.advance();
        if !cursor.is(0, "CHECK") {
            cursor.name("a constraint name")?;
        }
        key::check(cursor)?;
    } else if !cursor.take_any(&["VISIBLE", "INVISIBLE"]) {
        return Ok(false);
    }
    Ok(true)
}

/// What follows DEFAULT, in a definition and in ALTER COLUMN SET DEFAULT.
pub(super) fn default(cursor: &mut Cursor<'_>) -> Result<ColumnDefault, DdlError> {
    if let Some(default) = simple_default(cursor)? {
        return Ok(default);
    }
    let mark = cursor.mark();
    if cursor.take_symbol("(") {
        // `(5)` and `(CURRENT_TIMESTAMP)` are no expressions.
        if let Ok(Some(default)) = simple_default(cursor)
            && cursor.take_symbol(")")
        {
            return Ok(default);
        }
        cursor.back(mark);
        cursor.group()?;
        return Ok(ColumnDefault::Expression(cursor.source_since(mark)));
    }
    if cursor.take(&["NEXT", "VALUE", "FOR"]) {
        cursor.object_name("a sequence")?;
        return Ok(ColumnDefault::Expression(cursor.source_since(mark)));
    }
    if cursor.is_kind(0, Kind::Word) && cursor.is_symbol(1, "(") {
        cursor.advance();
        cursor.group()?;
        return Ok(ColumnDefault::Expression(cursor.source_since(mark)));
    }
    if cursor.take_any(&["CURRENT_DATE", "CURRENT_TIME", "CURRENT_USER"]) {
        return Ok(ColumnDefault::Expression(cursor.source_since(mark)));
    }
    Err(cursor.expected("a default"))
}

/// A literal as the server keeps it for a column of this type: bits as text or as a number, a number as labels (of ENUM it
/// counts them from 1, of SET it has a bit for each). `number` says that the literal was no string; a string that is a number
/// and no label can only be one, too.
pub(super) fn fitted(default: ColumnDefault, ty: &ColumnType, number: bool) -> ColumnDefault {
    let labels = matches!(ty.name, TypeName::Enum | TypeName::Set);
    let numeric =
        ty.name.is_integer() || matches!(ty.name, TypeName::Decimal | TypeName::Float | TypeName::Double);
    let text = match &default {
        ColumnDefault::Bits(bytes) if labels || ty.name.is_text() => String::from_utf8(bytes.clone()).ok(),
        ColumnDefault::Bits(bytes) if numeric && bytes.len() <= 8 => {
            Some(bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string())
        }
        ColumnDefault::Literal(text) if labels && (number || !ty.labels.contains(text)) => {
            text.parse().ok().and_then(|number| numbered_labels(ty, number))
        }
        _ => None,
    };
    text.map_or(default, ColumnDefault::Literal)
}

fn numbered_labels(ty: &ColumnType, number: u64) -> Option<String> {
    if ty.name == TypeName::Enum {
        return ty.labels.get(usize::try_from(number).ok()?.checked_sub(1)?).cloned();
    }
    let chosen = ty.labels.iter().enumerate().filter(|(at, _)| *at < 64 && number >> at & 1 == 1);
    Some(chosen.map(|(_, label)| label.as_str()).collect::<Vec<_>>().join(","))
}

/// A literal or the current time.
fn simple_default(cursor: &mut Cursor<'_>) -> Result<Option<ColumnDefault>, DdlError> {
    if let Some(fsp) = now(cursor)? {
        return Ok(Some(ColumnDefault::CurrentTimestamp { fsp }));
    }
    if cursor.is_introducer() {
        cursor.advance();
    }
    let default = match cursor.peek(0).map(|token| token.kind) {
        Some(Kind::Text) => return Ok(Some(ColumnDefault::Literal(cursor.text("a default")?))),
        Some(Kind::Bits) => bits(cursor)?,
        Some(Kind::Number) => ColumnDefault::Literal(cursor.raw(0).to_owned()),
        Some(Kind::Symbol) if matches!(cursor.raw(0), "-" | "+") && cursor.is_kind(1, Kind::Number) => {
            let sign = if cursor.is_symbol(0, "-") { "-" } else { "" };
            cursor.advance();
            ColumnDefault::Literal(format!("{sign}{}", cursor.raw(0)))
        }
        Some(Kind::Word) if !cursor.is_symbol(1, "(") => match cursor.word(0).as_str() {
            "NULL" => ColumnDefault::Null,
            "TRUE" => ColumnDefault::Literal("1".to_owned()),
            "FALSE" => ColumnDefault::Literal("0".to_owned()),
            // The tokenizer has no binary numbers.
            word if word.starts_with("0B") => bits(cursor)?,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    cursor.advance();
    Ok(Some(default))
}

fn bits(cursor: &Cursor<'_>) -> Result<ColumnDefault, DdlError> {
    literal::bits(cursor.raw(0))
        .map(ColumnDefault::Bits)
        .ok_or_else(|| cursor.expected("a bit or hexadecimal literal"))
}

/// CURRENT_TIMESTAMP and its synonyms where they stand, with their fractional digits.
fn now(cursor: &mut Cursor<'_>) -> Result<Option<u32>, DdlError> {
    if cursor.is(0, "NOW") && cursor.is_symbol(1, "(") {
        cursor.advance();
    } else if !cursor.take_any(&["CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"]) {
        return Ok(None);
    }
    if cursor.is_symbol(0, "(") && cursor.is_symbol(1, ")") {
        cursor.advance();
        cursor.advance();
        return Ok(Some(0));
    }
    Ok(Some(cursor.length()?.unwrap_or(0)))
}

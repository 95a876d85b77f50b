//! Column types: synonyms resolved, attributes that are part of the type read with it.

use crate::model::{ColumnType, TypeName};

use super::charset;
use super::cursor::Cursor;
use super::error::DdlError;
use super::literal;
use super::token::Kind;

/// A type as written. [`settle`] turns it into what the server makes of it once the table's character set is known.
#[derive(Debug, Clone)]
pub(super) struct WrittenType {
    pub ty: ColumnType,
    /// `BINARY` after a text type: the `_bin` collation of whatever its character set is.
    pub binary_attribute: bool,
    /// `SERIAL`: BIGINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE.
    pub serial: bool,
}

impl WrittenType {
    fn plain(ty: ColumnType) -> Self {
        Self { ty, binary_attribute: false, serial: false }
    }
}

pub(super) fn column_type(cursor: &mut Cursor<'_>) -> Result<WrittenType, DdlError> {
    let mark = cursor.mark();
    let word = cursor.word(0);
    cursor.advance();
    let name = match word.as_str() {
        "TINYINT" | "INT1" => TypeName::TinyInt,
        "SMALLINT" | "INT2" => TypeName::SmallInt,
        "MEDIUMINT" | "INT3" | "MIDDLEINT" => TypeName::MediumInt,
        "INT" | "INTEGER" | "INT4" => TypeName::Int,
        "BIGINT" | "INT8" => TypeName::BigInt,
        "BOOL" | "BOOLEAN" => {
            let length = Some(1);
            return Ok(WrittenType::plain(ColumnType { length, ..ColumnType::new(TypeName::TinyInt) }));
        }
        "SERIAL" => {
            let ty = ColumnType { unsigned: true, ..ColumnType::new(TypeName::BigInt) };
            return Ok(WrittenType { serial: true, ..WrittenType::plain(ty) });
        }
        "FLOAT" | "FLOAT4" => TypeName::Float,
        "DOUBLE" => {
            cursor.take(&["PRECISION"]);
            TypeName::Double
        }
        "REAL" | "FLOAT8" => TypeName::Double,
        "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => TypeName::Decimal,
        "BIT" => TypeName::Bit,
        "YEAR" => TypeName::Year,
        "DATE" => TypeName::Date,
        "TIME" => TypeName::Time,
        "DATETIME" => TypeName::DateTime,
        "TIMESTAMP" => TypeName::Timestamp,
        "CHAR" | "CHARACTER" | "NCHAR" => varying(cursor),
        "NATIONAL" if cursor.take_any(&["CHAR", "CHARACTER"]) => varying(cursor),
        "NATIONAL" if cursor.take_any(&["VARCHAR", "VARCHARACTER"]) => TypeName::VarChar,
        "VARCHAR" | "VARCHARACTER" | "NVARCHAR" => TypeName::VarChar,
        "TINYTEXT" => TypeName::TinyText,
        "TEXT" => TypeName::Text,
        "MEDIUMTEXT" => TypeName::MediumText,
        "LONGTEXT" => TypeName::LongText,
        "LONG" if cursor.take(&["VARBINARY"]) => TypeName::MediumBlob,
        "LONG" => {
            if cursor.take_any(&["CHAR", "CHARACTER"]) {
                cursor.expect(&["VARYING"])?;
            } else {
                cursor.take_any(&["VARCHAR", "VARCHARACTER"]);
            }
            TypeName::MediumText
        }
        "BINARY" => TypeName::Binary,
        "VARBINARY" => TypeName::VarBinary,
        "TINYBLOB" => TypeName::TinyBlob,
        "BLOB" => TypeName::Blob,
        "MEDIUMBLOB" => TypeName::MediumBlob,
        "LONGBLOB" => TypeName::LongBlob,
        "ENUM" => TypeName::Enum,
        "SET" => TypeName::Set,
        "JSON" => TypeName::Json,
        _ => {
            cursor.back(mark);
            let error = cursor.expected("a column type");
            return Err(match word.as_str() {
                "VECTOR" | "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT"
                | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" => {
                    error.hint(format!("columns of type {word} cannot be carried over: leave this table out"))
                }
                _ => error,
            });
        }
    };
    let mut written = WrittenType::plain(ColumnType::new(name));
    sizes(cursor, &mut written.ty)?;
    match name {
        _ if name.is_integer() => signs(cursor, &mut written.ty),
        TypeName::Float | TypeName::Double | TypeName::Decimal => signs(cursor, &mut written.ty),
        _ if name.is_text() || matches!(name, TypeName::Enum | TypeName::Set) => {
            text_attributes(cursor, &mut written)?;
        }
        _ => {}
    }
    Ok(written)
}

fn varying(cursor: &mut Cursor<'_>) -> TypeName {
    if cursor.take_any(&["VARYING", "VARCHAR", "VARCHARACTER"]) { TypeName::VarChar } else { TypeName::Char }
}

fn sizes(cursor: &mut Cursor<'_>, ty: &mut ColumnType) -> Result<(), DdlError> {
    match ty.name {
        TypeName::Enum | TypeName::Set => {
            cursor.expect_symbol("(")?;
            ty.labels = cursor.list(label)?;
            cursor.expect_symbol(")")?;
        }
        TypeName::Float | TypeName::Double | TypeName::Decimal => {
            if cursor.take_symbol("(") {
                ty.length = Some(cursor.number("a precision")?);
                if cursor.take_symbol(",") {
                    ty.scale = Some(cursor.number("a scale")?);
                }
                cursor.expect_symbol(")")?;
            }
            if ty.name == TypeName::Decimal {
                ty.length = Some(ty.length.unwrap_or(10));
                ty.scale = Some(ty.scale.unwrap_or(0));
            } else if ty.scale.is_none() {
                // FLOAT(p) only chooses between the two types.
                if ty.length.is_some_and(|bits| bits > 24) {
                    ty.name = TypeName::Double;
                }
                ty.length = None;
            }
        }
        TypeName::Year => {
            // YEAR(4) is the only year there is.
            cursor.length()?;
        }
        TypeName::Time | TypeName::DateTime | TypeName::Timestamp => {
            ty.length = cursor.length()?.filter(|digits| *digits > 0);
        }
        TypeName::VarChar | TypeName::VarBinary => {
            ty.length = Some(cursor.length()?.ok_or_else(|| cursor.expected("`(` and a length"))?);
        }
        TypeName::Char | TypeName::Binary | TypeName::Bit => {
            ty.length = Some(cursor.length()?.unwrap_or(1));
        }
        TypeName::Date | TypeName::Json => {}
        _ => ty.length = cursor.length()?,
    }
    Ok(())
}

/// A label of ENUM or SET; the server cuts blanks at its end.
fn label(cursor: &mut Cursor<'_>) -> Result<String, DdlError> {
    let label = if cursor.is_kind(0, Kind::Bits) {
        let label = literal::bits(cursor.raw(0))
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| cursor.expected("a label in UTF-8"))?;
        cursor.advance();
        label
    } else {
        cursor.label()?
    };
    Ok(label.trim_end_matches(' ').to_owned())
}

fn signs(cursor: &mut Cursor<'_>, ty: &mut ColumnType) {
    loop {
        if cursor.take(&["UNSIGNED"]) {
            ty.unsigned = true;
        } else if cursor.take(&["ZEROFILL"]) {
            ty.zerofill = true;
            ty.unsigned = true;
        } else if !cursor.take(&["SIGNED"]) {
            return;
        }
    }
}

fn text_attributes(cursor: &mut Cursor<'_>, written: &mut WrittenType) -> Result<(), DdlError> {
    loop {
        if cursor.take(&["BINARY"]) {
            written.binary_attribute = true;
        } else if cursor.take(&["BYTE"]) {
            written.ty.charset = Some("binary".to_owned());
        } else if cursor.take(&["ASCII"]) {
            written.ty.charset = Some("latin1".to_owned());
        } else if cursor.take(&["UNICODE"]) {
            written.ty.charset = Some("ucs2".to_owned());
        } else if let Some(charset) = charset_clause(cursor)? {
            written.ty.charset = charset;
        } else if let Some(collation) = collation_clause(cursor)? {
            written.ty.collation = collation;
        } else {
            return Ok(());
        }
    }
}

/// `{CHARACTER SET | CHAR SET | CHARSET} [=] name` where it stands; the inner None is `DEFAULT`.
pub(super) fn charset_clause(cursor: &mut Cursor<'_>) -> Result<Option<Option<String>>, DdlError> {
    let here =
        cursor.take(&["CHARACTER", "SET"]) || cursor.take(&["CHAR", "SET"]) || cursor.take(&["CHARSET"]);
    if here { charset_value(cursor, "a character set").map(Some) } else { Ok(None) }
}

/// `COLLATE [=] name` where it stands; the inner None is `DEFAULT`.
pub(super) fn collation_clause(cursor: &mut Cursor<'_>) -> Result<Option<Option<String>>, DdlError> {
    if cursor.take(&["COLLATE"]) { charset_value(cursor, "a collation").map(Some) } else { Ok(None) }
}

pub(super) fn charset_value(cursor: &mut Cursor<'_>, what: &str) -> Result<Option<String>, DdlError> {
    cursor.take_symbol("=");
    if cursor.take(&["DEFAULT"]) {
        return Ok(None);
    }
    let name = if cursor.is_kind(0, Kind::Text) { cursor.text(what)? } else { cursor.name(what)? };
    Ok(Some(charset::canonical(&name)))
}

/// What the server makes of the type in a table with this default character set (None = not known, taken as `utf8mb4`):
/// a collation brings its character set, text in `binary` is a binary type, and TEXT(n) or BLOB(n) is the smallest type that
/// holds n characters or bytes. A second time changes nothing.
pub(super) fn settle(ty: &mut ColumnType, binary_attribute: bool, table_charset: Option<&str>) {
    let has_charset = ty.name.is_text() || matches!(ty.name, TypeName::Enum | TypeName::Set);
    if !has_charset && !ty.name.is_binary() {
        return;
    }
    if ty.charset.is_none() {
        ty.charset = ty.collation.as_deref().map(|collation| charset::of_collation(collation).to_owned());
    }
    let effective = ty.charset.as_deref().or(table_charset).unwrap_or("utf8mb4").to_owned();
    if binary_attribute && ty.collation.is_none() && effective != "binary" {
        ty.collation = Some(format!("{effective}_bin"));
        ty.charset = Some(effective.clone());
    }
    if let (
        Some(length),
        TypeName::Text
        | TypeName::Blob
        | TypeName::TinyText
        | TypeName::TinyBlob
        | TypeName::MediumText
        | TypeName::MediumBlob
        | TypeName::LongText
        | TypeName::LongBlob,
    ) = (ty.length, ty.name)
    {
        let text = ty.name.is_text();
        let bytes = u64::from(length) * if text { charset::bytes_per_character(&effective) } else { 1 };
        ty.name = match (bytes, text) {
            (..=0xff, true) => TypeName::TinyText,
            (..=0xff, false) => TypeName::TinyBlob,
            (..=0xffff, true) => TypeName::Text,
            (..=0xffff, false) => TypeName::Blob,
            (..=0xff_ffff, true) => TypeName::MediumText,
            (..=0xff_ffff, false) => TypeName::MediumBlob,
            (_, true) => TypeName::LongText,
            (_, false) => TypeName::LongBlob,
        };
        ty.length = None;
    }
    if effective == "binary" && has_charset {
        ty.name = match ty.name {
            TypeName::Char => TypeName::Binary,
            TypeName::VarChar => TypeName::VarBinary,
            TypeName::TinyText => TypeName::TinyBlob,
            TypeName::Text => TypeName::Blob,
            TypeName::MediumText => TypeName::MediumBlob,
            TypeName::LongText => TypeName::LongBlob,
            other => other,
        };
        if ty.name.is_binary() {
            ty.charset = None;
            ty.collation = None;
        }
    }
}

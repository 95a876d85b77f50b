//! DEFAULT of a column as text of the target.
//!
//! Rows always carry every value, so a default matters for ADD COLUMN (what existing rows get) and for other writers of the
//! target. What cannot be said is left out, and the reason given.

use crate::adb::encode::{Encoder, has_shape};
use crate::model::{Column, ColumnDefault, ColumnType, Dialect, TypeName, Value, Zone};
use crate::sql::literal;

/// Characters of a default that ADB takes (target-adb-and-dts.md 3.3).
pub(super) const ADB_LONGEST: usize = 127;

/// `DEFAULT ...` of the column, None when there is none.
///
/// # Errors
/// Why the source's default was left out.
pub(super) fn clause(
    dialect: Dialect,
    column: &Column,
    target_type: &str,
    encoder: &Encoder,
) -> Result<Option<String>, String> {
    let Some(default) = &column.default else {
        return Ok(implicit(dialect, column));
    };
    let text = match value(dialect, column, default, target_type, encoder)? {
        Some(text) => text,
        None => return Ok(None),
    };
    if dialect == Dialect::Adb && text.chars().count() > ADB_LONGEST {
        return Err("a default of more than 127 characters".to_owned());
    }
    Ok(Some(format!("DEFAULT {text}")))
}

/// A server without explicit_defaults_for_timestamp gives a TIMESTAMP NOT NULL the default CURRENT_TIMESTAMP and ON UPDATE;
/// a default that is said keeps it from that. The zero date is what TiDB fills in.
fn implicit(dialect: Dialect, column: &Column) -> Option<String> {
    (dialect == Dialect::Mysql && column.ty.name == TypeName::Timestamp && !column.nullable)
        .then(|| "DEFAULT '0000-00-00 00:00:00'".to_owned())
}

/// What stands for the source's value on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Exact,
    /// Another one, by a lossy policy.
    Bent,
    /// The policy refuses the value in rows.
    Refused,
}

/// The literal of what the source puts into a NOT NULL column that has no default and is given none: of a zero date that the target cannot
/// hold, and that no policy bends, it is the first day.
pub(super) fn implicit_value(ty: &ColumnType, encoder: &Encoder) -> (String, Fit) {
    let zeros = |digits: Option<u32>| match digits.unwrap_or(0) as usize {
        0 => String::new(),
        digits => format!(".{}", "0".repeat(digits)),
    };
    let text = match ty.name {
        TypeName::Decimal => format!("0{}", zeros(ty.scale)),
        TypeName::Date => "0000-00-00".to_owned(),
        TypeName::DateTime | TypeName::Timestamp => format!("0000-00-00 00:00:00{}", zeros(ty.length)),
        TypeName::Time => format!("00:00:00{}", zeros(ty.length)),
        TypeName::Json => "null".to_owned(),
        _ => String::new(),
    };
    let padding = vec![0; ty.length.unwrap_or(1) as usize];
    let value = match ty.name {
        TypeName::Binary => Value::Bytes(&padding),
        TypeName::Bit | TypeName::Set | TypeName::Year => Value::UInt(0),
        // Its first label.
        TypeName::Enum => Value::UInt(1),
        TypeName::Float | TypeName::Double => return ("0".to_owned(), Fit::Exact),
        name if name.is_integer() => Value::Int(0),
        _ => Value::Text(text.as_bytes()),
    };
    let mut literal = Vec::new();
    match encoder.push(value, &Zone::Utc, &mut literal) {
        Ok(pushed) => {
            let fit = if pushed.is_exact() { Fit::Exact } else { Fit::Bent };
            (String::from_utf8_lossy(&literal).into_owned(), fit)
        }
        Err(_) if ty.name == TypeName::Date => ("'0001-01-01'".to_owned(), Fit::Refused),
        Err(_) => ("'1970-01-01 00:00:01'".to_owned(), Fit::Refused),
    }
}

/// What stands behind DEFAULT.
pub(super) fn value(
    dialect: Dialect,
    column: &Column,
    default: &ColumnDefault,
    target_type: &str,
    encoder: &Encoder,
) -> Result<Option<String>, String> {
    let ty = column.ty.name;
    let large =
        matches!(
            ty,
            TypeName::TinyText | TypeName::Text | TypeName::MediumText | TypeName::LongText | TypeName::Json
        ) || matches!(ty, TypeName::TinyBlob | TypeName::Blob | TypeName::MediumBlob | TypeName::LongBlob)
            || target_type.contains("text")
            || target_type.contains("blob");
    // The source pads it, as it does in rows.
    let padded = |bytes: &[u8]| {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().max(column.ty.length.unwrap_or(1) as usize), 0);
        let mut hex = Vec::new();
        literal::push_hex(&mut hex, &padded);
        Ok(Some(String::from_utf8_lossy(&hex).into_owned()))
    };
    match default {
        ColumnDefault::Bits(bytes) if dialect == Dialect::Adb && ty == TypeName::Binary => padded(bytes),
        ColumnDefault::Literal(text) if dialect == Dialect::Adb && ty == TypeName::Binary => {
            padded(text.as_bytes())
        }
        ColumnDefault::Null if !column.nullable => Ok(None),
        ColumnDefault::Null => Ok(Some("NULL".to_owned())),
        ColumnDefault::Expression(_) => {
            Err("the source computes the default; rows carry the value, so the target has none".to_owned())
        }
        _ if large => Err("the target takes no default for this type".to_owned()),
        ColumnDefault::CurrentTimestamp { fsp } => match dialect {
            Dialect::Mysql if *fsp > 0 => Ok(Some(format!("CURRENT_TIMESTAMP({fsp})"))),
            Dialect::Adb if target_type.starts_with("varchar") => {
                Err("CURRENT_TIMESTAMP for a column that is text on the target".to_owned())
            }
            Dialect::Mysql | Dialect::Adb => Ok(Some("CURRENT_TIMESTAMP".to_owned())),
        },
        ColumnDefault::Bits(bytes) => bits(dialect, column, bytes).map(Some),
        ColumnDefault::Literal(text) => match dialect {
            // TiDB takes the default 0 of a YEAR for the text '0'.
            _ if ty == TypeName::Year && matches!(text.as_str(), "0" | "00") => Ok(Some("2000".to_owned())),
            Dialect::Mysql => mysql_literal(ty, truth(ty, text)).map(Some),
            Dialect::Adb => adb_literal(column, truth(ty, text), target_type, encoder).map(Some),
        },
    }
}

fn mysql_literal(ty: TypeName, text: &str) -> Result<String, String> {
    match ty {
        // As a string, '5' would be the byte 0x35, and the year '0' would be 2000.
        TypeName::Bit | TypeName::Year => number(text),
        _ => Ok(literal::string(text)),
    }
}

fn adb_literal(column: &Column, text: &str, target_type: &str, encoder: &Encoder) -> Result<String, String> {
    match column.ty.name {
        ty if ty.is_integer() || ty == TypeName::Year => number(text),
        TypeName::Bit => number(text).map(|text| literal::string(&text)),
        TypeName::Float | TypeName::Double | TypeName::Decimal if !target_type.starts_with("varchar") => {
            match bent(column, text, encoder) {
                Ok(Some(bent)) => Ok(bent),
                Ok(None) | Err(_) => number(text),
            }
        }
        TypeName::Date | TypeName::DateTime | TypeName::Timestamp | TypeName::Time
            if !target_type.starts_with("varchar") =>
        {
            match bent(column, text, encoder)? {
                Some(bent) => Ok(bent),
                None if column.ty.name != TypeName::Time
                    && (text.starts_with("0000")
                        || text.get(4..).is_some_and(|rest| rest.contains("-00"))) =>
                {
                    Err("a zero date, which the target does not have".to_owned())
                }
                None => Ok(literal::string(text)),
            }
        }
        _ if target_type.starts_with("varchar") => spelled(column, text)
            .map(|text| literal::string(&text))
            .ok_or_else(|| "text on the target, which would keep the default as it is spelled".to_owned()),
        _ => Ok(literal::string(text)),
    }
}

/// A default of which the task's lossy policies make another value, as they do of rows: that value. None where they leave it as it is, or
/// where its spelling is not that of rows.
///
/// # Errors
/// They refuse it.
pub(super) fn bent(column: &Column, text: &str, encoder: &Encoder) -> Result<Option<String>, String> {
    let temporal =
        matches!(column.ty.name, TypeName::Date | TypeName::DateTime | TypeName::Timestamp | TypeName::Time);
    let Some(spelled) = spelled(column, text).filter(|_| temporal || column.ty.name == TypeName::Decimal)
    else {
        return Ok(None);
    };
    let mut literal = Vec::new();
    match encoder.push(Value::Text(spelled.as_bytes()), &Zone::Utc, &mut literal) {
        Ok(pushed) if pushed.is_exact() => Ok(None),
        Ok(_) => Ok(Some(String::from_utf8_lossy(&literal).into_owned())),
        Err(fault) => Err(fault.reason.to_owned()),
    }
}

/// The default of a number or a time that is text on the target, as its rows spell it: with all digits of its fraction. None where the source
/// makes more of it than that.
fn spelled(column: &Column, text: &str) -> Option<String> {
    let ty = &column.ty;
    let (digits, time) = match ty.name {
        TypeName::Date => return has_shape(text.as_bytes(), b"0000-00-00").then(|| text.to_owned()),
        TypeName::DateTime | TypeName::Timestamp => (ty.length, "0000-00-00 00:00:00"),
        TypeName::Time => (ty.length, "00:00:00"),
        TypeName::Decimal => (ty.scale, ""),
        _ => return Some(text.to_owned()),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    // Rows have no negative zero.
    if unsigned != whole && !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        return None;
    }
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = match ty.name {
        TypeName::Decimal => {
            let leads = unsigned.starts_with('0') && unsigned.len() > 1;
            (plain(unsigned) && !unsigned.is_empty() && !leads).then(|| whole.to_owned())
        }
        // Three digits of hours too.
        TypeName::Time => {
            let hours = unsigned.len().saturating_sub("00:00:00".len()).min(1);
            let rest = unsigned.get(hours..)?;
            let hour = unsigned.get(..hours)?;
            (plain(hour) && hour != "0" && has_shape(rest.as_bytes(), time.as_bytes()))
                .then(|| whole.to_owned())
        }
        _ if has_shape(text.as_bytes(), b"0000-00-00") => Some(format!("{whole} 00:00:00")),
        _ => has_shape(whole.as_bytes(), time.as_bytes()).then(|| whole.to_owned()),
    }?;
    let digits = digits.unwrap_or(0) as usize;
    // More digits than the column has are rounded by the source: not guessed here.
    match plain(fraction) && fraction.len() <= digits {
        true if digits == 0 => Some(whole),
        true => Some(format!("{whole}.{fraction:0<digits$}")),
        false => None,
    }
}

/// TRUE and FALSE of an integer column are numbers.
fn truth(ty: TypeName, text: &str) -> &str {
    match text {
        _ if !ty.is_integer() => text,
        _ if text.eq_ignore_ascii_case("true") => "1",
        _ if text.eq_ignore_ascii_case("false") => "0",
        _ => text,
    }
}

/// A number as it is written in a statement.
fn number(text: &str) -> Result<String, String> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !body.is_empty()
        && body.parse::<f64>().is_ok_and(f64::is_finite)
        && body.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'));
    if plain { Ok(text.to_owned()) } else { Err("a default that is no number".to_owned()) }
}

fn bits(dialect: Dialect, column: &Column, bytes: &[u8]) -> Result<String, String> {
    let as_number = || {
        (bytes.len() <= 8)
            .then(|| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
            .ok_or_else(|| "a default of more than 64 bits".to_owned())
    };
    let hex = || {
        let mut out = Vec::new();
        literal::push_hex(&mut out, bytes);
        String::from_utf8_lossy(&out).into_owned()
    };
    let ty = column.ty.name;
    match dialect {
        Dialect::Mysql if ty == TypeName::Bit => Ok(format!("b'{:b}'", as_number()?)),
        Dialect::Adb if ty == TypeName::Bit => Ok(literal::string(&as_number()?.to_string())),
        _ if ty.is_integer()
            || matches!(ty, TypeName::Year | TypeName::Decimal | TypeName::Double | TypeName::Float) =>
        {
            Ok(as_number()?.to_string())
        }
        _ if ty.is_binary() => Ok(hex()),
        _ => std::str::from_utf8(bytes)
            .map(literal::string)
            .map_err(|_| "a default that is no text".to_owned()),
    }
}

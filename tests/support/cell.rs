//! One spelling for a value, whichever server, protocol or fixture file it comes from.
//!
//! * Integers and years as decimal digits, without zero fill.
//! * FLOAT as the shortest text of its 32 bits, DOUBLE of its 64: servers print them differently (`3.4e38`, `3.4e+38`,
//!   `340000000000000000000...`), the bits must be the same.
//! * DECIMAL as the server prints it, padded to its scale.
//! * Dates, times and intervals with six digits of a second; an interval in hours, zero without a sign.
//! * Binary values in hexadecimal, BIT as a number: a target without the type holds its digits as text.
//! * ENUM and SET by their labels.
//! * JSON parsed, members in order of their names.
//! * Text as it is. TiDB hands out the raw bytes of a latin1 column: what is no UTF-8 is read as what MySQL calls latin1, cp1252,
//!   which a server with real latin1 columns converts to UTF-8.

use mysql_async::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Float,
    Double,
    Date,
    Moment,
    Interval,
    Bit,
    Binary,
    Json,
    /// Text, DECIMAL, ENUM, SET
    Text,
}

impl Kind {
    /// From the type's first word, as in `information_schema.columns.data_type` or SHOW CREATE TABLE.
    pub fn of(data_type: &str) -> Self {
        match data_type.to_ascii_lowercase().as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => Self::Integer,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "datetime" | "timestamp" => Self::Moment,
            "time" => Self::Interval,
            "bit" => Self::Bit,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Binary,
            "json" => Self::Json,
            _ => Self::Text,
        }
    }
}

/// A cell as the binary protocol brings it; None = NULL.
pub fn from_server(kind: Kind, value: &Value) -> Option<String> {
    Some(match value {
        Value::NULL => return None,
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Date(year, month, day, ..) if kind == Kind::Date => format!("{year:04}-{month:02}-{day:02}"),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            interval(*negative, days * 24 + u32::from(*hours), *minutes, *seconds, *micros)
        }
        Value::Bytes(bytes) if kind == Kind::Binary => hexadecimal(bytes),
        Value::Bytes(bytes) if kind == Kind::Bit => {
            bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string()
        }
        Value::Bytes(bytes) => from_text(kind, bytes),
    })
}

/// A cell of a fixture's `.tsv` file (tests/fixtures/histories): `\N` is NULL, binary is `0x...`, other values have
/// backslash, tab, line ends and NUL escaped.
pub fn from_tsv(kind: Kind, cell: &[u8]) -> Option<String> {
    if cell == b"\\N" {
        return None;
    }
    if matches!(kind, Kind::Binary | Kind::Bit) {
        let text = String::from_utf8(cell.to_vec()).unwrap();
        let number = || u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap().to_string();
        return Some(if kind == Kind::Bit { number() } else { text });
    }
    let mut bytes = Vec::with_capacity(cell.len());
    let mut rest = cell.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, true) => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                other => panic!("unknown escape {other:?}"),
            },
            (byte, false) => byte,
        });
    }
    Some(from_text(kind, &bytes))
}

fn from_text(kind: Kind, bytes: &[u8]) -> String {
    let cp1252 = || encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned();
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| cp1252());
    match kind {
        Kind::Integer => match text.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        },
        Kind::Float => text.parse::<f32>().map_or(text, |number| number.to_string()),
        Kind::Double => text.parse::<f64>().map_or(text, |number| number.to_string()),
        Kind::Moment => {
            let (second, fraction) = text.split_once('.').unwrap_or((&text, ""));
            format!("{second}.{fraction:0<6}")
        }
        Kind::Interval => parse_interval(&text).unwrap_or(text),
        Kind::Json => {
            serde_json::from_str(&text).map_or_else(|_| format!("not JSON: {text}"), |value| json(&value))
        }
        Kind::Binary | Kind::Bit | Kind::Date | Kind::Text => text,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn interval(negative: bool, hours: u32, minutes: u8, seconds: u8, micros: u32) -> String {
    let zero = hours == 0 && minutes == 0 && seconds == 0 && micros == 0;
    let sign = if negative && !zero { "-" } else { "" };
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

fn parse_interval(text: &str) -> Option<String> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut parts = whole.split(':');
    let hours = parts.next()?.parse().ok()?;
    let minutes = parts.next()?.parse().ok()?;
    let seconds = parts.next()?.parse().ok()?;
    Some(interval(negative, hours, minutes, seconds, format!("{fraction:0<6}").parse().ok()?))
}

fn json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), json(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

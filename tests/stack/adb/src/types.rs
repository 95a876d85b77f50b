//! AnalyticDB's column types: which there are, and what holds their values in the MariaDB behind.

use crate::refusal::{Refusal, unsupported};
use crate::token::{Cursor, Kind, quote_name};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Integer(u8),
    Float(u8),
    Decimal { digits: u32, scale: u32 },
    Text,
    Binary,
    Json,
    Date,
    Time,
    Moment,
    Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    pub family: Family,
    /// As AnalyticDB shows it: lower case.
    pub text: String,
    /// The declared length of a text or binary; AnalyticDB does not enforce it.
    pub length: Option<u32>,
}

const NAMES: [&str; 20] = [
    "boolean",
    "bool",
    "tinyint",
    "smallint",
    "int",
    "integer",
    "bigint",
    "float",
    "double",
    "decimal",
    "numeric",
    "varchar",
    "varbinary",
    "binary",
    "blob",
    "json",
    "date",
    "time",
    "datetime",
    "timestamp",
];

impl Type {
    /// Reads a type name with its length, and refuses what AnalyticDB does not have.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let name = cursor.name()?.to_lowercase();
        if !NAMES.contains(&name.as_str()) {
            return Err(unsupported(format!("type {name} is not supported")));
        }
        let mut numbers = Vec::new();
        if cursor.take("(") {
            loop {
                match cursor.next() {
                    Some(token) if token.kind == Kind::Number => {
                        numbers.push(
                            token.value().parse::<u32>().map_err(|_| "a length is too large".to_owned())?,
                        );
                    }
                    other => return Err(cursor.unexpected("a number", other).into()),
                }
                if !cursor.take(",") {
                    break;
                }
            }
            cursor.expect(")")?;
        }
        let first = numbers.first().copied();
        let family = match name.as_str() {
            "boolean" | "bool" | "tinyint" => Family::Integer(1),
            "smallint" => Family::Integer(2),
            "int" | "integer" => Family::Integer(4),
            "bigint" => Family::Integer(8),
            "float" => Family::Float(4),
            "double" => Family::Float(8),
            "decimal" | "numeric" => {
                let (digits, scale) = (first.unwrap_or(10), numbers.get(1).copied().unwrap_or(0));
                if digits > 38 || scale > digits {
                    return Err(unsupported(format!("decimal({digits},{scale}): at most 38 digits")));
                }
                Family::Decimal { digits, scale }
            }
            "varchar" => Family::Text,
            "varbinary" | "binary" | "blob" => Family::Binary,
            "json" => Family::Json,
            "date" => Family::Date,
            "time" => Family::Time,
            "datetime" => Family::Moment,
            _ => Family::Stamp,
        };
        if matches!(family, Family::Time | Family::Moment | Family::Stamp)
            && first.is_some_and(|digits| digits > 3)
        {
            return Err(unsupported(format!("{name}({}): milliseconds are the finest", first.unwrap_or(0))));
        }
        for word in [
            "unsigned",
            "zerofill",
            "signed",
            "character set",
            "charset",
            "collate",
            "binary",
            "ascii",
            "unicode",
        ] {
            if cursor.starts(word) {
                return Err(unsupported(format!("{word} is not supported behind a type")));
            }
        }
        let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
        let text = if numbers.is_empty() { name } else { format!("{name}({})", numbers.join(",")) };
        let length = if matches!(family, Family::Text | Family::Binary) { first } else { None };
        Ok(Self { family, text, length })
    }

    /// The type without its length.
    pub fn name(&self) -> &str {
        self.text.split('(').next().unwrap_or_default()
    }

    /// MariaDB's type. `key_bytes` is what a key may take for this column; texts have no limit but that, whatever length they declare.
    pub fn physical(&self, key_bytes: Option<u32>) -> String {
        match (self.family, key_bytes) {
            (Family::Integer(1), _) => "TINYINT".to_owned(),
            (Family::Integer(2), _) => "SMALLINT".to_owned(),
            (Family::Integer(4), _) => "INT".to_owned(),
            (Family::Integer(_), _) => "BIGINT".to_owned(),
            (Family::Float(4), _) => "FLOAT".to_owned(),
            (Family::Float(_), _) => "DOUBLE".to_owned(),
            (Family::Decimal { digits, scale }, _) => format!("DECIMAL({digits},{scale})"),
            (Family::Text, None) => "LONGTEXT".to_owned(),
            (Family::Text, Some(bytes)) => {
                format!("VARCHAR({})", bytes / 4)
            }
            (Family::Binary, None) => "LONGBLOB".to_owned(),
            (Family::Binary, Some(bytes)) => {
                format!("VARBINARY({bytes})")
            }
            (Family::Json, _) => "JSON".to_owned(),
            (Family::Date, _) => "DATE".to_owned(),
            (Family::Time, _) => "TIME(6)".to_owned(),
            (Family::Moment, _) => "DATETIME(6)".to_owned(),
            (Family::Stamp, _) => "TIMESTAMP(6)".to_owned(),
        }
    }

    /// The condition that values must meet beyond MariaDB's own: a finer or longer time is refused, where a server might bend it.
    pub fn check(&self, column: &str) -> Option<String> {
        let name = quote_name(column);
        match self.family {
            Family::Time => Some(format!(
                "{name} BETWEEN '00:00:00' AND '23:59:59.999' AND MICROSECOND({name}) % 1000 = 0"
            )),
            Family::Moment | Family::Stamp => Some(format!("MICROSECOND({name}) % 1000 = 0")),
            Family::Date => Some(format!("{name} >= '0001-01-01'")),
            _ => None,
        }
    }

    /// Whether MODIFY COLUMN may turn this type into the other. [I]: only what cannot lose a value.
    pub fn widens_to(&self, other: &Self) -> bool {
        match (self.family, other.family) {
            (Family::Integer(from), Family::Integer(to)) | (Family::Float(from), Family::Float(to)) => {
                from <= to
            }
            (Family::Decimal { digits: a, scale: s }, Family::Decimal { digits: b, scale: t }) => {
                s <= t && b - t >= a - s
            }
            (Family::Text, Family::Text) | (Family::Binary, Family::Binary) => true,
            (from, to) => from == to,
        }
    }

    pub fn takes_default(&self) -> bool {
        self.family != Family::Json
    }
}

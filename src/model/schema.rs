//! A table as the source defines it: what DDL text and `SHOW CREATE TABLE` say, and nothing of any target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `schema.table` in the spelling of the source. TiDB compares names without case: use [`TableName::key`] to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// The same name folded to lower case, for look-ups.
    pub fn key(&self) -> TableName {
        Self { schema: self.schema.to_lowercase(), table: self.table.to_lowercase() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Base type, after synonyms are resolved (BOOL -> TinyInt with length 1, NUMERIC -> Decimal, NATIONAL VARCHAR -> VarChar).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeName {
    TinyInt,
    SmallInt,
    MediumInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal,
    Bit,
    Year,
    Date,
    Time,
    DateTime,
    Timestamp,
    Char,
    VarChar,
    TinyText,
    Text,
    MediumText,
    LongText,
    Binary,
    VarBinary,
    TinyBlob,
    Blob,
    MediumBlob,
    LongBlob,
    Enum,
    Set,
    Json,
}

impl TypeName {
    pub fn is_integer(self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::MediumInt | Self::Int | Self::BigInt)
    }

    /// CHAR, VARCHAR and the TEXT family: values with a character set.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            Self::Char | Self::VarChar | Self::TinyText | Self::Text | Self::MediumText | Self::LongText
        )
    }

    /// BINARY, VARBINARY and the BLOB family.
    pub fn is_binary(self) -> bool {
        matches!(
            self,
            Self::Binary | Self::VarBinary | Self::TinyBlob | Self::Blob | Self::MediumBlob | Self::LongBlob
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnType {
    pub name: TypeName,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zerofill: bool,
    /// Display width of integers, characters of CHAR/VARCHAR, bytes of BINARY/VARBINARY, bits of BIT,
    /// precision of DECIMAL/FLOAT/DOUBLE, fractional digits of temporal types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Scale of DECIMAL/FLOAT/DOUBLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Lower case; None = the table's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    /// ENUM and SET labels, unquoted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl ColumnType {
    pub fn new(name: TypeName) -> Self {
        Self {
            name,
            unsigned: false,
            zerofill: false,
            length: None,
            scale: None,
            charset: None,
            collation: None,
            labels: Vec::new(),
        }
    }
}

/// DEFAULT of a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    Null,
    /// A string, number or bit literal as its unquoted text (`b'101'` and `x'..'` literals as their bytes, see `Bits`).
    Literal(String),
    /// From a `b''` or `x''` literal: big-endian bytes. Only where the column keeps bytes or bits; text and numbers are a `Literal`.
    Bits(Vec<u8>),
    /// CURRENT_TIMESTAMP[(fsp)] and its synonyms.
    CurrentTimestamp {
        fsp: u32,
    },
    /// Any other expression (`(UUID())`, `NEXTVAL(seq)`), as source text. Rows always carry the value.
    Expression(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generated {
    /// The expression as source text, without the outer parentheses.
    pub expression: String,
    pub stored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: ColumnType,
    pub nullable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ColumnDefault>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_increment: bool,
    /// `ON UPDATE CURRENT_TIMESTAMP`; never created on a target, kept to compare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_update_now: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    Primary,
    Unique,
    Index,
    Fulltext,
}

/// One part of a key: a column (perhaps a prefix of it) or an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    Column {
        name: String,
        /// Prefix length in characters (bytes for binary columns).
        prefix: Option<u32>,
    },
    Expression(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// "PRIMARY" for the primary key; None where the text gives none (the server names it then).
    pub name: Option<String>,
    pub kind: KeyKind,
    pub parts: Vec<KeyPart>,
    /// CLUSTERED / NONCLUSTERED where said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustered: Option<bool>,
}

impl Key {
    /// The columns when every part is a whole or prefixed column; None when a part is an expression.
    pub fn columns(&self) -> Option<Vec<&str>> {
        self.parts
            .iter()
            .map(|part| match part {
                KeyPart::Column { name, .. } => Some(name.as_str()),
                KeyPart::Expression(_) => None,
            })
            .collect()
    }
}

/// Partitioning of the source. Targets are not partitioned the same way: dropping or truncating a partition becomes a
/// DELETE over its rows (source-drainer.md 0.13).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioning {
    /// `RANGE (expr)` or `RANGE COLUMNS (cols)`: each partition's upper bounds as source text, `MAXVALUE` included.
    Range { expression: Vec<String>, columns: bool, partitions: Vec<(String, Vec<String>)> },
    /// `LIST (expr)` or `LIST COLUMNS (cols)`: each partition's values (one inner Vec per value, more than one entry only for
    /// LIST COLUMNS tuples), as source text; `NULL` and `DEFAULT` possible.
    List { expression: Vec<String>, columns: bool, partitions: Vec<(String, Vec<Vec<String>>)> },
    /// `HASH (expr) PARTITIONS n`. `names` is empty where the text gives none: they are `p0`, `p1`, ... then.
    Hash {
        expression: String,
        count: u32,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    },
    /// `KEY (cols) PARTITIONS n`.
    Key { columns: Vec<String>, count: u32 },
    /// Partitioned in a way whose partitions the text does not list (INTERVAL), as source text.
    Other { text: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub name: TableName,
    pub columns: Vec<Column>,
    /// All keys, the primary one among them (column-level PRIMARY KEY and UNIQUE included).
    pub keys: Vec<Key>,
    /// Default character set of the table, lower case; None = the schema's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
    /// GLOBAL TEMPORARY: its rows are in no message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
    /// TTL: the rows that the source deletes by their age are in no message (source-drainer.md 0.20).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub time_to_live: bool,
}

impl Table {
    /// A table of which the name alone is known.
    pub fn empty(name: TableName) -> Self {
        Self {
            name,
            columns: Vec::new(),
            keys: Vec::new(),
            charset: None,
            collation: None,
            comment: String::new(),
            partitioning: None,
            temporary: false,
            time_to_live: false,
        }
    }

    /// Looks a column up without case.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.column_index(name).and_then(|index| self.columns.get(index))
    }

    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| {
            column.name.eq_ignore_ascii_case(name) || column.name.to_lowercase() == name.to_lowercase()
        })
    }

    pub fn primary_key(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.kind == KeyKind::Primary)
    }

    /// The key that identifies a row: the primary key, else the first unique key whose columns are all NOT NULL.
    /// None when there is none, or when it has an expression or a generated column (the stream does not carry those, source-drainer.md 0.2).
    pub fn identity(&self) -> Option<&Key> {
        let usable = |key: &&Key| {
            key.columns().is_some_and(|columns| {
                columns.iter().all(|name| {
                    self.column(name).is_some_and(|column| {
                        column.generated.is_none() && (key.kind == KeyKind::Primary || !column.nullable)
                    })
                })
            })
        };
        self.primary_key()
            .filter(usable)
            .or_else(|| self.keys.iter().filter(|key| key.kind == KeyKind::Unique).find(usable))
    }
}

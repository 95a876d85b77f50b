//! A message in words, for people: the API and `tidegate decode`. Values of rows are left out unless asked for.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::binlog::message::{Counts, Kind, Message, MutationKind, TableChange};
use crate::binlog::row::RowBytes;
use crate::binlog::wire::Malformed;
use crate::model::{Tso, Value};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// No values of rows.
    #[default]
    Shape,
    /// With the values of at most so many mutations.
    Values(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    pub commit_ts: Tso,
    /// The commit's time of day, RFC 3339.
    pub time: Option<String>,
    /// Payload in bytes.
    pub size: usize,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Dml { tables: Vec<TableDescription> },
    Ddl { schema: String, table: String, query: String },
    Resolved,
}

/// All entries of one table in a message with the same columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDescription {
    pub schema: String,
    pub table: String,
    /// `name type`, `*` marks columns of the primary key.
    pub columns: Vec<String>,
    /// `NAME(column, ...)`
    pub unique_keys: Vec<String>,
    pub entries: u64,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
}

/// Names and statements that are not UTF-8 are shown with replacement characters.
pub fn describe(message: &Message<'_>, detail: Detail) -> Result<Description, Malformed> {
    let content = match message.kind {
        Kind::Dml(tables) => {
            let mut left = match detail {
                Detail::Shape => 0,
                Detail::Values(rows) => rows,
            };
            let mut described: Vec<TableDescription> = Vec::new();
            let mut places = HashMap::new();
            for table in tables {
                let table = table?;
                let place = *places
                    .entry((table.schema, table.table, table.columns_bytes()))
                    .or_insert(described.len());
                if place == described.len() {
                    described.push(TableDescription::new(&table)?);
                }
                if let Some(description) = described.get_mut(place) {
                    description.add(&table, &mut left)?;
                }
            }
            Content::Dml { tables: described }
        }
        Kind::Ddl(ddl) => Content::Ddl {
            schema: text(ddl.schema_name),
            table: text(ddl.table_name),
            query: text(ddl.query),
        },
        Kind::Resolved => Content::Resolved,
    };
    let time = DateTime::<Utc>::from_timestamp_millis(message.commit_ts.physical_ms());
    Ok(Description {
        commit_ts: message.commit_ts,
        time: time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        size: message.as_bytes().len(),
        content,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl TableDescription {
    fn new(table: &TableChange<'_>) -> Result<Self, Malformed> {
        let columns = table.columns.iter().map(|column| {
            let mark = if column.is_primary_key { "*" } else { "" };
            format!("{} {}{mark}", text(column.name), text(column.mysql_type))
        });
        let unique_keys = table.unique_keys()?;
        let keys = unique_keys.iter().map(|key| {
            let columns: Vec<String> = key.columns.iter().map(|name| text(name)).collect();
            format!("{}({})", text(key.name), columns.join(", "))
        });
        Ok(Self {
            schema: text(table.schema),
            table: text(table.table),
            columns: columns.collect(),
            unique_keys: keys.collect(),
            entries: 0,
            inserts: 0,
            updates: 0,
            deletes: 0,
            rows: Vec::new(),
        })
    }

    fn add(&mut self, table: &TableChange<'_>, left: &mut usize) -> Result<(), Malformed> {
        self.entries += 1;
        for mutation in table.mutations() {
            let mutation = mutation?;
            let word = match mutation.kind {
                MutationKind::Insert => {
                    self.inserts += 1;
                    "insert"
                }
                MutationKind::Update => {
                    self.updates += 1;
                    "update"
                }
                MutationKind::Delete => {
                    self.deletes += 1;
                    "delete"
                }
            };
            if *left > 0 {
                *left -= 1;
                let old = mutation.old.map(row).transpose()?;
                let was = old.map(|old| format!(" was {old}")).unwrap_or_default();
                self.rows.push(format!("{word} {}{was}", row(mutation.row)?));
            }
        }
        Ok(())
    }
}

fn row(row: RowBytes<'_, '_>) -> Result<String, Malformed> {
    let values: Vec<String> = row.values().map(|v| v.map(value)).collect::<Result<_, _>>()?;
    Ok(format!("({})", values.join(", ")))
}

fn value(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Text(value) => format!("'{}'", value.escape_ascii()),
        Value::Bytes(value) => format!("b'{}'", value.escape_ascii()),
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit_ts {}", self.commit_ts)?;
        if let Some(time) = &self.time {
            write!(f, " ({time})")?;
        }
        write!(f, ", {} bytes: ", self.size)?;
        match &self.content {
            Content::Resolved => f.write_str("watermark, everything up to here was sent"),
            Content::Ddl { schema, table, query } if table.is_empty() => {
                write!(f, "DDL on database {schema}\n  {query}")
            }
            Content::Ddl { schema, table, query } => write!(f, "DDL on {schema}.{table}\n  {query}"),
            Content::Dml { tables } => {
                write!(f, "transaction on {} table(s)", tables.len())?;
                for table in tables {
                    write!(
                        f,
                        "\n  {}.{}: {} inserts, {} updates, {} deletes\n    columns {}",
                        table.schema,
                        table.table,
                        table.inserts,
                        table.updates,
                        table.deletes,
                        table.columns.join(", ")
                    )?;
                    if !table.unique_keys.is_empty() {
                        write!(f, "\n    keys {}", table.unique_keys.join(", "))?;
                    }
                    for row in &table.rows {
                        write!(f, "\n    {row}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} table entries, {} inserts, {} updates, {} deletes",
            self.tables, self.inserts, self.updates, self.deletes
        )
    }
}

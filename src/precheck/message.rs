//! Says in words what a message of the topic holds, or why it is none of Drainer's.
//!
//! The structure is checked by hand, down to the number of columns of each row: field numbers and wire types as in
//! source-drainer.md 1.1. Values are passed over and never shown.

use std::fmt;

use super::finding::{counted, instant};
use crate::model::Tso;

/// Tables named in a description.
const TABLES_SHOWN: usize = 3;

/// 2015-01-01: no TiDB is older.
const FIRST_TSO_MS: i64 = 1_420_070_400_000;

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub commit_ts: Tso,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Rows(Vec<TableRows>),
    /// `name`, and the statement's first words.
    Ddl(String, String),
    Watermark,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TableRows {
    name: String,
    inserts: u64,
    updates: u64,
    deletes: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Rows(tables) => {
                f.write_str("rows of ")?;
                for (index, table) in tables.iter().take(TABLES_SHOWN).enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    table.fmt(f)?;
                }
                if let Some(more) = tables.len().checked_sub(TABLES_SHOWN + 1) {
                    write!(f, " and {}", counted(more as u64 + 1, "more table"))?;
                }
            }
            Content::Ddl(name, words) => write!(f, "DDL on {name} ({words})")?,
            Content::Watermark => f.write_str("a watermark")?,
        }
        write!(f, ", committed {} (commit_ts {})", instant(self.commit_ts.physical_ms()), self.commit_ts)
    }
}

impl fmt::Display for TableRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            [(self.inserts, "insert"), (self.updates, "update"), (self.deletes, "delete")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, noun)| counted(count, noun))
                .collect();
        write!(
            f,
            "{} ({})",
            self.name,
            if counts.is_empty() { "no rows".to_owned() } else { counts.join(", ") }
        )
    }
}

/// # Errors
/// Why the bytes are not a message of Drainer, in words.
pub(super) fn inspect(payload: &[u8]) -> Result<Summary, String> {
    if payload.first().is_some_and(|first| matches!(first, b'{' | b'[')) {
        return Err("it is JSON, as TiCDC's canal-json or another tool writes it".to_owned());
    }
    let (mut kind, mut commit_ts, mut tables, mut ddl) = (None, None, Vec::new(), None);
    let mut fields = Fields(payload);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Number(value)) => kind = Some(value),
            (2, Field::Number(value)) => commit_ts = Some(value),
            (3, Field::Bytes(data)) => rows(data, &mut tables)?,
            (4, Field::Bytes(data)) => ddl = Some(statement(data)?),
            (5, Field::Bytes(_)) => {}
            (number, _) => return Err(format!("field {number} is not one of a binlog's")),
        }
    }
    let commit_ts = commit_ts.map(Tso).ok_or("it has no commit_ts")?;
    if commit_ts.physical_ms() < FIRST_TSO_MS || commit_ts.0 > i64::MAX as u64 {
        return Err(format!("its commit_ts {commit_ts} is no time of a TiDB"));
    }
    let content = match (kind, ddl) {
        (Some(0), None) => Content::Rows(tables),
        (Some(1), Some((name, words))) if tables.is_empty() => Content::Ddl(name, words),
        (Some(2), None) if tables.is_empty() => Content::Watermark,
        (Some(0..=2), _) => return Err("its content does not fit its type".to_owned()),
        (Some(other), _) => return Err(format!("its type {other} is unknown")),
        (None, _) => return Err("it has no type".to_owned()),
    };
    Ok(Summary { commit_ts, content })
}

fn rows(data: &[u8], tables: &mut Vec<TableRows>) -> Result<(), String> {
    let mut fields = Fields(data);
    while let Some((_, field)) = fields.next()? {
        let table = table(field.bytes("a table")?)?;
        // Old Drainers write one entry per row (source-drainer.md 10.15).
        match tables.iter_mut().rev().take(64).find(|known| known.name == table.name) {
            Some(known) => {
                known.inserts += table.inserts;
                known.updates += table.updates;
                known.deletes += table.deletes;
            }
            None => tables.push(table),
        }
    }
    Ok(())
}

fn table(data: &[u8]) -> Result<TableRows, String> {
    let (mut schema, mut name, mut columns) = (String::new(), String::new(), 0);
    let mut table = TableRows::default();
    let mut mutations = Vec::new();
    let mut fields = Fields(data);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => schema = text(field.bytes("a schema name")?),
            2 => name = text(field.bytes("a table name")?),
            3 => columns += 1,
            4 => mutations.push(field.bytes("a row change")?),
            5 => _ = field.bytes("a key")?,
            _ => return Err(format!("field {number} is not one of a table's")),
        }
    }
    if name.is_empty() {
        return Err("a table in it has no name".to_owned());
    }
    table.name = format!("{schema}.{name}");
    for mutation in mutations {
        match mutation_kind(mutation, columns)? {
            0 => table.inserts += 1,
            1 => table.updates += 1,
            2 => table.deletes += 1,
            other => return Err(format!("a row change of {} has the unknown type {other}", table.name)),
        }
    }
    Ok(table)
}

fn mutation_kind(data: &[u8], columns: usize) -> Result<u64, String> {
    let mut kind = None;
    let mut fields = Fields(data);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Number(value)) => kind = Some(value),
            (2 | 3, Field::Bytes(row)) => {
                let mut values = 0;
                let mut cells = Fields(row);
                while cells.next()?.is_some() {
                    values += 1;
                }
                if values != columns {
                    return Err(format!("a row has {values} values for {columns} columns"));
                }
            }
            (number, _) => return Err(format!("field {number} is not one of a row change's")),
        }
    }
    kind.ok_or_else(|| "a row change has no type".to_owned())
}

/// Name of the object and the first two words of the statement: enough to know it by, no literal among them.
fn statement(data: &[u8]) -> Result<(String, String), String> {
    let (mut schema, mut name, mut words) = (String::new(), String::new(), String::new());
    let mut fields = Fields(data);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => schema = text(field.bytes("a schema name")?),
            2 => name = text(field.bytes("a table name")?),
            3 => {
                let query = text(field.bytes("a statement")?);
                let plain = |word: &&str| word.chars().all(|letter| letter.is_ascii_alphabetic());
                words = query.split_whitespace().take(2).take_while(plain).collect::<Vec<_>>().join(" ");
            }
            _ => return Err(format!("field {number} is not one of a DDL's")),
        }
    }
    let name = if name.is_empty() { schema } else { format!("{schema}.{name}") };
    Ok((name, words.to_uppercase()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fields of one protobuf message.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(self, what: &str) -> Result<&'a [u8], String> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            Field::Number(_) | Field::Fixed => Err(format!("a number stands where {what} belongs")),
        }
    }
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err("it is no protobuf message".to_owned()),
        };
        match tag >> 3 {
            0 => Err("it is no protobuf message".to_owned()),
            number => Ok(Some((number, field))),
        }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().unwrap_or(&0);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("it is no protobuf message".to_owned())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) =
            self.0.split_at_checked(count).ok_or("it ends in the middle of a field: bytes are missing")?;
        self.0 = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    const COMMIT_TS: u64 = 470_666_140_698_542_080;

    fn head(kind: u64) -> Vec<u8> {
        [number(1, kind), number(2, COMMIT_TS)].concat()
    }

    fn rows_message(values: usize) -> Vec<u8> {
        let column = bytes(3, &bytes(1, b"id"));
        let row = bytes(1, &number(2, 7)).repeat(values);
        let mutation = |kind| bytes(4, &[number(1, kind), bytes(2, &row)].concat());
        let table =
            [bytes(1, b"shop"), bytes(2, b"orders"), column, mutation(0), mutation(0), mutation(2)].concat();
        [head(0), bytes(3, &bytes(1, &table))].concat()
    }

    #[test]
    fn rows_are_counted_per_table() {
        assert_eq!(
            inspect(&rows_message(1)).unwrap().to_string(),
            "rows of shop.orders (2 inserts, 1 delete), committed 2026-11-23T15:47:20.018Z (commit_ts 470666140698542080)"
        );
    }

    #[test]
    fn ddl_is_named_without_its_text() {
        let ddl =
            [bytes(1, b"shop"), bytes(2, b""), bytes(3, b"create database `shop` /* x */ default 'secret'")]
                .concat();
        let summary = inspect(&[head(1), bytes(4, &ddl)].concat()).unwrap().to_string();
        assert!(summary.starts_with("DDL on shop (CREATE DATABASE), committed 2026-11-23T"), "{summary}");
    }

    #[test]
    fn what_drainer_did_not_write_is_told_apart() {
        let whole = rows_message(1);
        for cut in 1..whole.len() {
            let reason = inspect(&whole[..whole.len() - cut]);
            assert!(reason.is_err() || cut > whole.len() - head(0).len() - 1, "{cut}: {reason:?}");
        }
        assert_eq!(inspect(&rows_message(2)).unwrap_err(), "a row has 2 values for 1 columns");
        assert!(inspect(br#"{"type":"INSERT"}"#).unwrap_err().contains("JSON"));
        assert!(inspect(b"").unwrap_err().contains("commit_ts"));
        assert!(inspect(b"hello world").is_err());
        assert!(inspect(&[number(1, 0), number(2, 5)].concat()).unwrap_err().contains("no time"));
        assert!(inspect(&head(7)).unwrap_err().contains("unknown"));
    }
}

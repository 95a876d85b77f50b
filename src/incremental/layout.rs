//! How the rows of one message table go into one target table: which column where, encoded how.
//!
//! Columns are matched by name. One that the target does not have (generated, hidden, not yet added, already gone) is left
//! out; one that the message does not have keeps its value on the target (the upsert then updates only what it carries).

use std::sync::Arc;

use super::catalog::Tracked;
use crate::adb::dialect::TargetColumn;
use crate::adb::encode::{Encoder, Pushed};
use crate::binlog::message::ColumnInfo;
use crate::binlog::row::RowBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TableName, Value, Zone};
use crate::sql::literal::{push_name, table_name};

#[derive(Debug)]
pub struct LayoutColumn {
    pub encoder: Encoder,
    /// Place of this column in the key; None = not part of it.
    pub key_place: Option<usize>,
    /// The target column's quoted name.
    pub quoted: Vec<u8>,
    /// `CAST(column AS CHAR) COLLATE utf8mb4_bin`, for types that do not compare with text.
    as_text: Vec<u8>,
    zone: Arc<Zone>,
    text: bool,
}

impl LayoutColumn {
    /// Appends the value as a literal.
    pub fn push(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        Ok(self.encoder.push(value, &self.zone, out)?)
    }

    /// Appends a condition that holds for exactly this value.
    pub fn push_match(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        let (column, equals): (&[u8], &[u8]) =
            if self.encoder.is_comparable() { (&self.quoted, b" <=> ") } else { (&self.as_text, b" <=> ") };
        out.extend_from_slice(column);
        out.extend_from_slice(equals);
        let from = out.len();
        let pushed = self.push(value, out)?;
        if self.text && value != Value::Null {
            // The collation may take another spelling for the same.
            let literal = out.get(from..).unwrap_or_default().to_vec();
            out.extend_from_slice(b" AND CAST(CONVERT(");
            out.extend_from_slice(&self.quoted);
            out.extend_from_slice(b" USING utf8mb4) AS BINARY) <=> CAST(");
            out.extend_from_slice(&literal);
            out.extend_from_slice(b" AS BINARY)");
        }
        Ok(pushed)
    }
}

#[derive(Debug)]
pub struct Layout {
    pub source: TableName,
    pub target: TableName,
    /// By column of the message; None = left out.
    columns: Vec<Option<LayoutColumn>>,
    pub key_width: usize,
    /// No usable key: rows are matched by all their columns.
    pub keyless: bool,
    /// The key holds text: bytes that differ may be one key for the target.
    pub deletes_first: bool,
    pub upsert_head: Vec<u8>,
    pub upsert_tail: Vec<u8>,
    /// Up to and with the opening parenthesis of the key list.
    pub delete_head: Vec<u8>,
    /// `DELETE FROM t WHERE `
    pub match_delete_head: Vec<u8>,
    /// `INSERT INTO t (...) VALUES `
    pub insert_head: Vec<u8>,
}

impl Layout {
    /// Fits a message's columns to the target table.
    ///
    /// # Errors
    /// `SchemaMismatch` when a column of the key is not in the message.
    pub fn new(tracked: &Tracked, columns: &[ColumnInfo<'_>], zone: &Arc<Zone>) -> Result<Self> {
        let (source, table) = (&tracked.table.name, &tracked.target);
        let source_column = |column: &TargetColumn| tracked.table.columns.get(column.source_index);
        let identity = table.identity.as_deref().unwrap_or_default();
        let mut fitted: Vec<Option<LayoutColumn>> = Vec::with_capacity(columns.len());
        let mut names = Vec::new();
        for info in columns {
            let name = String::from_utf8_lossy(info.name).to_lowercase();
            let found = table.columns.iter().enumerate().find(|(_, column)| {
                source_column(column).is_some_and(|source| source.name.to_lowercase() == name)
            });
            fitted.push(found.map(|(place, column)| {
                let mut quoted = Vec::new();
                push_name(&mut quoted, &column.name);
                names.push(quoted.clone());
                LayoutColumn {
                    encoder: column.encoder.clone(),
                    key_place: identity.iter().position(|key| *key == place),
                    as_text: [b"CAST(", &quoted[..], b" AS CHAR) COLLATE utf8mb4_bin"].concat(),
                    quoted,
                    zone: Arc::clone(zone),
                    text: source_column(column).is_some_and(|source| source.ty.name.is_text()),
                }
            }));
        }
        let found_keys = fitted.iter().flatten().filter(|column| column.key_place.is_some()).count();
        if found_keys < identity.len() {
            return Err(Error::new(ErrorKind::SchemaMismatch, "a row without a column of the table's key")
                .object(source)
                .hint("the message's layout does not fit the table as we know it; resync the table"));
        }
        if names.is_empty() {
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                "a row without any column of the target's table",
            )
            .object(source)
            .hint("the message's layout does not fit the table as we know it; resync the table"));
        }
        let whole = names.len() == table.columns.len() && !tracked.keep_other_columns;
        let target = table_name(&table.name);
        let list = names.join(&b","[..]);
        let into = [target.as_bytes(), b" (", &list, b") VALUES "].concat();
        let upsert_tail = if whole {
            Vec::new()
        } else {
            let sets: Vec<Vec<u8>> =
                names.iter().map(|name| [&name[..], b"=VALUES(", &name[..], b")"].concat()).collect();
            [b" ON DUPLICATE KEY UPDATE ".to_vec(), sets.join(&b","[..])].concat()
        };
        let verb: &[u8] = if whole { b"REPLACE INTO " } else { b"INSERT INTO " };
        let keys: Vec<Vec<u8>> = identity
            .iter()
            .filter_map(|key| table.columns.get(*key))
            .map(|column| {
                let mut quoted = Vec::new();
                push_name(&mut quoted, &column.name);
                quoted
            })
            .collect();
        let key_list = keys.join(&b","[..]);
        let key_list = if keys.len() > 1 { [b"(", &key_list[..], b")"].concat() } else { key_list };
        let deletes_first = table.columns.iter().enumerate().any(|(place, column)| {
            identity.contains(&place) && source_column(column).is_some_and(|source| source.ty.name.is_text())
        });
        Ok(Self {
            source: source.clone(),
            target: table.name.clone(),
            columns: fitted,
            key_width: identity.len(),
            keyless: identity.is_empty(),
            deletes_first,
            upsert_head: [verb, &into].concat(),
            upsert_tail,
            delete_head: [b"DELETE FROM ", target.as_bytes(), b" WHERE ", &key_list, b" IN ("].concat(),
            match_delete_head: [b"DELETE FROM ", target.as_bytes(), b" WHERE "].concat(),
            insert_head: [b"INSERT INTO ", &into[..]].concat(),
        })
    }

    /// Calls `each` for every value that goes to the target, in the message's order.
    pub fn each_value(
        &self,
        row: &RowBytes<'_, '_>,
        mut each: impl FnMut(&LayoutColumn, Value<'_>) -> Result<()>,
    ) -> Result<()> {
        for (column, value) in self.columns.iter().zip(row.values()) {
            let value = value.map_err(|fault| Error::new(ErrorKind::CorruptMessage, fault.to_string()))?;
            if let Some(column) = column {
                each(column, value)?;
            }
        }
        Ok(())
    }

    /// Calls `each` for every value of the key, in the key's order.
    pub fn each_key_value(
        &self,
        row: &RowBytes<'_, '_>,
        mut each: impl FnMut(&LayoutColumn, Value<'_>) -> Result<()>,
    ) -> Result<()> {
        // Keys are short and mostly lead the row: one walk per key column costs less than collecting.
        for place in 0..self.key_width {
            let found =
                self.columns.iter().zip(row.values()).find(|(column, _)| {
                    column.as_ref().is_some_and(|column| column.key_place == Some(place))
                });
            if let Some((Some(column), value)) = found {
                each(
                    column,
                    value.map_err(|fault| Error::new(ErrorKind::CorruptMessage, fault.to_string()))?,
                )?;
            }
        }
        Ok(())
    }
}

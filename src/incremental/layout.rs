//! How the rows of one message table go into one target table: which column where, encoded how.
//!
//! Columns are matched by name. One that the target does not have (generated, hidden, not yet added, already gone) is left
//! out; one that the message does not have keeps its value on the target (the upsert then updates only what it carries).

use crate::adb::dialect::TargetTable;
use crate::adb::encode::{Encoder, Pushed};
use crate::binlog::message::{ColumnInfo, RowBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TableName, TypeName, Value};
use crate::sql::literal::{push_name, table_name};

use std::sync::Arc;

use crate::model::zone::Zone;

#[derive(Debug)]
pub struct LayoutColumn {
    pub encoder: Encoder,
    /// Place of this column in the key; None = not part of it.
    pub key_place: Option<usize>,
    /// The target column's quoted name.
    pub quoted: Vec<u8>,
    name: String,
    zone: Arc<Zone>,
    float: bool,
}

impl LayoutColumn {
    /// Appends the value as a literal.
    pub fn push(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        self.encoder.push(value, &self.zone, out).map_err(|fault| {
            Error::new(ErrorKind::ValueRefused, format!("column {}: {fault}", self.name))
                .hint("see the task's lossy policies, or repair the value at the source")
        })
    }

    /// Appends ` = literal` in a form that finds the stored value.
    pub fn push_match(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        if !self.float {
            out.extend_from_slice(b" = ");
            return self.push(value, out);
        }
        // A FLOAT column never equals the decimal literal it was written with; the cast rounds the same way.
        out.extend_from_slice(b" = CAST(");
        let pushed = self.push(value, out)?;
        out.extend_from_slice(b" AS FLOAT)");
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
    pub fn new(
        source: &TableName,
        table: &TargetTable,
        columns: &[ColumnInfo<'_>],
        zone: &Arc<Zone>,
        keep_other_columns: bool,
    ) -> Result<Self> {
        let identity = table.identity.as_deref().unwrap_or_default();
        let mut fitted: Vec<Option<LayoutColumn>> = Vec::with_capacity(columns.len());
        let mut names = Vec::new();
        for info in columns {
            let name = String::from_utf8_lossy(info.name);
            let found = table.columns.iter().enumerate().find(|(_, column)| {
                column.written && column.source_name.to_lowercase() == name.to_lowercase()
            });
            fitted.push(found.map(|(place, column)| {
                let mut quoted = Vec::new();
                push_name(&mut quoted, &column.name);
                names.push(quoted.clone());
                LayoutColumn {
                    encoder: column.encoder.clone(),
                    key_place: identity.iter().position(|key| *key == place),
                    quoted,
                    name: column.name.clone(),
                    zone: Arc::clone(zone),
                    float: column.source_type == TypeName::Float,
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
            return Err(Error::new(ErrorKind::SchemaMismatch, "a row without any column of the target's table")
                .object(source)
                .hint("the message's layout does not fit the table as we know it; resync the table"));
        }
        let written = table.columns.iter().filter(|column| column.written).count();
        let whole = names.len() == written && !keep_other_columns;
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
        let deletes_first = table
            .columns
            .iter()
            .enumerate()
            .any(|(place, column)| identity.contains(&place) && column.source_type.is_text());
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
        row: &RowBytes<'_>,
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
        row: &RowBytes<'_>,
        mut each: impl FnMut(&LayoutColumn, Value<'_>) -> Result<()>,
    ) -> Result<()> {
        // Keys are short and mostly lead the row: one walk per key column costs less than collecting.
        for place in 0..self.key_width {
            let found = self
                .columns
                .iter()
                .zip(row.values())
                .find(|(column, _)| column.as_ref().is_some_and(|column| column.key_place == Some(place)));
            if let Some((Some(column), value)) = found {
                each(column, value.map_err(|fault| Error::new(ErrorKind::CorruptMessage, fault.to_string()))?)?;
            }
        }
        Ok(())
    }
}

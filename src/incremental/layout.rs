//! How the rows of one message table go into one target table: which column where, encoded how.
//!
//! Columns are matched by name. One that the target does not have (generated, hidden, not yet added, already gone) is left
//! out; one that the message does not have keeps its value on the target (the upsert then updates only what it carries).

use std::sync::Arc;

use super::catalog::Tracked;
use crate::adb::dialect::{TargetColumn, unjudged};
use crate::adb::encode::{Encoder, Pushed};
use crate::adb::parameters::Template;
use crate::binlog::message::ColumnInfo;
use crate::binlog::row::RowBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Dialect, Key, KeyPart, TableName, Value, Zone};
use crate::sql::filter::Filter;
use crate::sql::literal::{push_name, push_string, table_name};
use crate::task::spec::Operations;

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
    gbk: bool,
}

impl LayoutColumn {
    /// Appends the value as a literal.
    ///
    /// # Errors
    /// The target cannot hold it; in a key also when it may stand for two values: two rows would become one.
    pub fn push(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        let pushed = self.encoder.push(value, &self.zone, out)?;
        if self.key_place.is_some() && pushed.contains(Pushed::AMBIGUOUS) {
            let column = self.encoder.column();
            return Err(Error::new(
                ErrorKind::ValueRefused,
                format!("column `{column}`: a TIMESTAMP of the key in the hour that the Drainer's zone repeats: it may be either of two"),
            )
            .hint("run the Drainer with TZ=UTC, set source.time_zone to UTC and copy the tables again; or exclude the table"));
        }
        Ok(pushed)
    }

    /// Appends the value as it stands in a list of keys: in the column's own character set, or MariaDB finds no row by a list of
    /// several tuples.
    pub fn push_in_list(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Pushed> {
        if !self.gbk {
            return self.push(value, out);
        }
        out.extend_from_slice(b"CONVERT(");
        let pushed = self.push(value, out)?;
        out.extend_from_slice(b" USING gbk)");
        Ok(pushed)
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

/// A row filter over the columns of a message.
#[derive(Debug)]
struct RowFilter {
    filter: Filter,
    /// By column of the message: where the filter wants its value.
    slots: Vec<Vec<usize>>,
    zone: Arc<Zone>,
}

#[derive(Debug)]
pub struct Layout {
    pub source: TableName,
    pub target: TableName,
    /// By column of the message; None = left out.
    columns: Vec<Option<LayoutColumn>>,
    filter: Option<RowFilter>,
    pub operations: Operations,
    /// Literal of the column that the source does not have, behind all others in rows and keys.
    pub constant: Option<Vec<u8>>,
    /// Key columns of the message.
    pub key_width: usize,
    /// Their names at the source.
    pub key_columns: Vec<String>,
    /// No usable key: rows are matched by all their columns.
    pub keyless: bool,
    /// The key holds text: bytes that differ may be one key for the target.
    pub deletes_first: bool,
    /// What is written of rows with other keys is the same in any order.
    pub independent_rows: bool,
    pub upsert_head: Vec<u8>,
    /// What follows the message's values in a row: those of columns that must have one and that the message lacks.
    pub filler: Vec<u8>,
    pub upsert_tail: Vec<u8>,
    /// Of upserts, where the target's dialect has parameters.
    pub template: Option<Template>,
    /// Up to and with the opening parenthesis of the key list.
    pub delete_head: Vec<u8>,
    /// What follows the list, up to and with the opening parenthesis of the same list: where the key is a text's prefix, its collation may take
    /// other rows' whole texts for this one's ('ss' and 'ß').
    pub delete_exactly: Option<Vec<u8>>,
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
        let is_constant =
            |place: &usize| table.columns.get(*place).is_some_and(|column| column.constant.is_some());
        let constant = table.columns.iter().find(|column| column.constant.is_some());
        let mut identity = table.identity.clone().unwrap_or_default();
        identity.retain(|place| !is_constant(place));
        let mut fitted: Vec<Option<LayoutColumn>> = Vec::with_capacity(columns.len());
        let mut names = Vec::new();
        for info in columns {
            let name = String::from_utf8_lossy(info.name).to_lowercase();
            let found = table.columns.iter().enumerate().find(|(_, column)| {
                source_column(column).is_some_and(|source| source.name.to_lowercase() == name)
            });
            fitted.push(found.map(|(place, column)| {
                let quoted = quoted(&column.name);
                names.push(quoted.clone());
                let text = source_column(column).is_some_and(|source| source.ty.name.is_text());
                LayoutColumn {
                    encoder: column.encoder.clone(),
                    key_place: identity.iter().position(|key| *key == place),
                    as_text: [b"CAST(", &quoted[..], b" AS CHAR) COLLATE utf8mb4_bin"].concat(),
                    quoted,
                    zone: Arc::clone(zone),
                    text,
                    // Not an ENUM or SET, which go as numbers.
                    gbk: text && column.type_text.contains(" CHARACTER SET gbk "),
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
        if let Some(column) = constant {
            names.push(quoted(&column.name));
        }
        let whole = names.len() == table.columns.len() && !tracked.keep_other_columns;
        // ON DUPLICATE KEY UPDATE changes whichever row has one of the unique values. Where there are several unique keys a row is
        // replaced: a column that the message lacks is about to go, or has its default.
        let replace = whole || (table.has_other_unique_keys && !tracked.keep_other_columns);
        let (mut filled, mut filler) = (names.clone(), Vec::new());
        if !whole {
            for column in &table.columns {
                let mut quoted = Vec::new();
                push_name(&mut quoted, &column.name);
                if let Some(value) = column.required_value()
                    && !names.contains(&quoted)
                {
                    filled.push(quoted);
                    filler.push(b',');
                    filler.extend_from_slice(value.as_bytes());
                }
            }
        }
        let target = table_name(&table.name);
        let into = [target.as_bytes(), b" (", &filled.join(&b","[..]), b") VALUES "].concat();
        let keys: Vec<Vec<u8>> = identity
            .iter()
            .filter_map(|key| table.columns.get(*key))
            .chain(constant)
            .map(|column| quoted(&column.name))
            .collect();
        // AnalyticDB compares keys by their bytes, so there they stay as they are; and it refuses to set them. Without anything to set, an
        // INSERT does nothing to a row that is there.
        let sets: Vec<Vec<u8>> = names
            .iter()
            .filter(|name| table.dialect == Dialect::Mysql || !keys.contains(name))
            .map(|name| [&name[..], b"=VALUES(", &name[..], b")"].concat())
            .collect();
        let upsert_tail = if replace || sets.is_empty() {
            Vec::new()
        } else {
            [b" ON DUPLICATE KEY UPDATE ".to_vec(), sets.join(&b","[..])].concat()
        };
        let verb: &[u8] = if replace { b"REPLACE INTO " } else { b"INSERT INTO " };
        let upsert_head = [verb, &into].concat();
        let constant = constant.and_then(|column| column.constant.as_ref()).map(|value| {
            let mut literal = Vec::new();
            push_string(&mut literal, value.as_bytes());
            literal
        });
        let template = match table.dialect {
            Dialect::Adb => None,
            Dialect::Mysql => {
                let parameters = fitted.iter().flatten().map(|column| column.encoder.parameter()).collect();
                let mut rest =
                    constant.as_deref().map_or_else(Vec::new, |constant| [b",", constant].concat());
                rest.extend_from_slice(&filler);
                Template::new(&upsert_head, parameters, &rest, &upsert_tail)
            }
        };
        let listed = |keys: &[Vec<u8>]| {
            let list = keys.join(&b","[..]);
            if keys.len() > 1 { [b"(", &list[..], b")"].concat() } else { list }
        };
        let key_list = listed(&keys);
        let has_prefix =
            |key: &Key| key.parts.iter().any(|part| matches!(part, KeyPart::Column { prefix: Some(_), .. }));
        let is_prefix = table.dialect == Dialect::Mysql && tracked.table.identity().is_some_and(has_prefix);
        let delete_exactly = is_prefix.then(|| {
            let by_place =
                |place: usize| fitted.iter().flatten().find(move |column| column.key_place == Some(place));
            let bytes = |(place, key): (usize, &Vec<u8>)| match by_place(place).filter(|column| column.text) {
                Some(column) if column.gbk => [b"CAST(", &key[..], b" AS BINARY)"].concat(),
                Some(_) => [b"CAST(CONVERT(", &key[..], b" USING utf8mb4) AS BINARY)"].concat(),
                None => key.clone(),
            };
            let keys: Vec<_> = keys.iter().enumerate().map(bytes).collect();
            [b" AND ", &listed(&keys)[..], b" IN ("].concat()
        });
        let deletes_first = table.columns.iter().enumerate().any(|(place, column)| {
            identity.contains(&place) && source_column(column).is_some_and(|source| source.ty.name.is_text())
        });
        Ok(Self {
            source: source.clone(),
            target: table.name.clone(),
            columns: fitted,
            filter: filter(tracked, columns, zone)?,
            operations: table.operations,
            constant,
            key_width: identity.len(),
            key_columns: identity
                .iter()
                .filter_map(|key| table.columns.get(*key).and_then(source_column))
                .map(|column| column.name.clone())
                .collect(),
            keyless: identity.is_empty(),
            deletes_first,
            independent_rows: !identity.is_empty() && !deletes_first && !table.has_other_unique_keys,
            upsert_head,
            upsert_tail,
            template,
            filler,
            delete_head: [b"DELETE FROM ", target.as_bytes(), b" WHERE ", &key_list, b" IN ("].concat(),
            delete_exactly,
            match_delete_head: [b"DELETE FROM ", target.as_bytes(), b" WHERE "].concat(),
            insert_head: [b"INSERT INTO ", &into[..]].concat(),
        })
    }

    /// Whether the target gets this row.
    pub fn takes(&self, row: &RowBytes<'_, '_>) -> Result<bool> {
        let Some(RowFilter { filter, slots, zone }) = &self.filter else { return Ok(true) };
        let mut values = vec![Value::Null; filter.columns().len()];
        for (slots, value) in slots.iter().zip(row.values()) {
            let value = value.map_err(|fault| Error::new(ErrorKind::CorruptMessage, fault.to_string()))?;
            for slot in slots {
                if let Some(place) = values.get_mut(*slot) {
                    *place = value;
                }
            }
        }
        filter.matches(&values, zone).map_err(|fault| unjudged(filter, fault.column))
    }

    /// True when the deletion of a key is written as a tuple.
    pub fn key_is_tuple(&self) -> bool {
        self.key_width + usize::from(self.constant.is_some()) > 1
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

fn quoted(name: &str) -> Vec<u8> {
    let mut quoted = Vec::new();
    push_name(&mut quoted, name);
    quoted
}

fn filter(tracked: &Tracked, columns: &[ColumnInfo<'_>], zone: &Arc<Zone>) -> Result<Option<RowFilter>> {
    let Some(filter) = &tracked.target.filter else { return Ok(None) };
    let mut slots = vec![Vec::new(); columns.len()];
    for (slot, (_, name)) in filter.columns().iter().enumerate() {
        let wanted = name.to_lowercase();
        let found = columns
            .iter()
            .zip(&mut slots)
            .find(|(info, _)| String::from_utf8_lossy(info.name).to_lowercase() == wanted);
        match found {
            Some((_, slots)) => slots.push(slot),
            None => {
                return Err(Error::new(
                    ErrorKind::SchemaMismatch,
                    format!("a row without `{name}`, a column of the table's filter"),
                )
                .object(&tracked.table.name)
                .hint("the column was dropped or renamed at the source: copy the table with a new task whose filter does without it"));
            }
        }
    }
    Ok(Some(RowFilter { filter: filter.clone(), slots, zone: Arc::clone(zone) }))
}

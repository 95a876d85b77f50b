//! Rows of a table by their keys, from the source and from the target: pages in the order of the key, and the rows of given keys. What
//! verification compares, and where a repair takes its rows from.
//!
//! A key is a row of its columns' values as the stream would carry them (`binlog::encode::Row`, encoded), whichever side it came from.
//! The servers compare keys by their own collations, so what they find is matched by canonical bytes.

use std::collections::HashSet;

use mysql_async::Value as Cell;

use crate::adb::dialect::{TargetColumn, TargetTable, own_rows};
use crate::adb::encode::Encoder;
use crate::binlog::encode::{Encode, Row};
use crate::binlog::row::cells;
use crate::error::{Error, ErrorKind, Result};
use crate::full::bounds::{Bounds, Literal, Operator};
use crate::full::rows::{self, CellType, RowEncoder, RowFilter, source_column, value};
use crate::model::{Column, Dialect, Table, TypeName, Value, Zone};
use crate::sql::literal;
use crate::store::LetterColumn;

/// A row of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// Encoded [`Row`] of the key's values.
    pub key: Vec<u8>,
    /// Spelling of every column's value on the target, each behind its length; empty where only the key was read.
    pub content: Vec<u8>,
}

/// A column of the key.
struct KeyColumn<'a> {
    /// Among the target's columns.
    place: usize,
    source: &'a Column,
    target: &'a TargetColumn,
}

/// How a table is read on both sides.
pub struct KeyedTable<'a> {
    table: &'a Table,
    target: &'a TargetTable,
    key: Vec<KeyColumn<'a>>,
    /// Of the source, by the target's columns.
    types: Vec<(CellType, &'a Encoder)>,
    filter: Option<RowFilter<'a>>,
    select: String,
    text: Vec<u8>,
}

/// Bytes of a statement that writes several rows.
const STATEMENT: usize = 4 << 20;

const LOST: &str = "a key that cannot be read";

impl<'a> KeyedTable<'a> {
    pub fn new(table: &'a Table, target: &'a TargetTable) -> Result<Self> {
        let key = target
            .identity
            .iter()
            .flatten()
            .filter_map(|place| Some((*place, target.columns.get(*place)?)))
            .filter(|(_, column)| column.constant.is_none())
            .map(|(place, column)| {
                Ok(KeyColumn { place, source: source_column(table, column.source_index)?, target: column })
            })
            .collect::<Result<Vec<_>>>()?;
        let types = target
            .columns
            .iter()
            .map(|column| match column.constant {
                Some(_) => Ok((CellType::TEXT, &column.encoder)),
                None => Ok((CellType::of(source_column(table, column.source_index)?), &column.encoder)),
            })
            .collect::<Result<Vec<_>>>()?;
        let (filter, select) = (RowFilter::new(table, target)?, rows::select(table, target)?);
        Ok(Self { table, target, key, types, filter, select, text: Vec::new() })
    }

    /// Whether rows can be looked up by their keys on both sides. A key of labels or bits that are text on the target cannot.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty() && !self.key.iter().any(|column| column.target.encoder.is_text_of_numbers())
    }

    /// Whether the source finds a row by a key that was read from the target.
    pub fn found_from_target(&self) -> bool {
        self.key.iter().all(|column| column.target.encoder.finds_on_both())
    }

    /// Names and types of the key's columns at the source.
    pub fn key_columns(&self) -> Vec<LetterColumn> {
        let letter = |column: &KeyColumn<'_>| LetterColumn {
            name: column.source.name.clone(),
            ty: format!("{:?}", column.source.ty.name).to_lowercase(),
        };
        self.key.iter().map(letter).collect()
    }

    /// The next rows of the source from a key on, that one included.
    ///
    /// # Errors
    /// The key is not one of this table.
    pub fn source_page(&self, from: Option<&[u8]>, limit: usize) -> Result<String> {
        let names = self.source_names();
        let bounds = from.map(|key| self.source_literals(key)).transpose()?;
        let condition = Bounds { lower: bounds, ..Bounds::default() }.sql(&names);
        Ok(page(&self.select, &literal::table_name(&self.table.name), condition, &names, limit))
    }

    /// The keys of the next rows of the target, of those that come from this source.
    ///
    /// # Errors
    /// The key is not one of this table.
    pub fn target_keys_page(&self, from: Option<&[u8]>, limit: usize) -> Result<String> {
        let names = self.target_names();
        let bounds = from.map(|key| self.target_literals(key)).transpose()?;
        let bounds = bounds.map(|literals| literals.into_iter().map(Literal::Number).collect());
        let condition = Bounds { lower: bounds, ..Bounds::default() }.sql(&names);
        let condition = match condition {
            Some(condition) => Some(self.own(condition)),
            None => own_rows(self.target),
        };
        let select: Vec<String> = self.key.iter().map(|column| held(column.target)).collect();
        Ok(page(&select.join(", "), &literal::table_name(&self.target.name), condition, &names, limit))
    }

    /// Rows of the source with these keys.
    ///
    /// # Errors
    /// A key is not one of this table.
    pub fn source_rows<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Result<String> {
        let names = self.source_names();
        let keys = keys.map(|key| self.source_literals(key)).collect::<Result<Vec<_>>>()?;
        let condition = if keys.iter().flatten().any(|literal| *literal == Literal::NoLabel) {
            let equal = |(name, literal): (&String, &Literal)| literal.compared(name, Operator::Equal);
            let all = |key: &Vec<Literal>| names.iter().zip(key).map(equal).collect::<Vec<_>>().join(" AND ");
            keys.iter().map(|key| format!("({})", all(key))).collect::<Vec<_>>().join(" OR ")
        } else {
            let keys: Vec<Vec<String>> =
                keys.iter().map(|key| key.iter().map(Literal::sql).collect()).collect();
            any_of(Dialect::Mysql, &names, &keys)
        };
        let table = literal::table_name(&self.table.name);
        Ok(format!("SELECT {} FROM {table} WHERE {condition}", self.select))
    }

    /// Rows of the target with these keys, of those that come from this source.
    ///
    /// # Errors
    /// A key is not one of this table.
    pub fn target_rows<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Result<String> {
        let names = self.target_names();
        let keys = keys.map(|key| self.target_literals(key)).collect::<Result<Vec<_>>>()?;
        let condition = self.own(any_of(self.target.dialect, &names, &keys));
        Ok(format!("{} WHERE {condition}", self.target_all()))
    }

    /// What [`KeyedTable::of_source_key`] reads of the source's rows with these keys: no more than their keys, unless there is a filter.
    ///
    /// # Errors
    /// A key is not one of this table.
    pub fn source_keys<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Result<String> {
        let rows = self.source_rows(keys)?;
        if self.filter.is_some() {
            return Ok(rows);
        }
        let names: Vec<String> = self.key.iter().map(|column| rows::expression(column.source)).collect();
        let behind = rows.get("SELECT ".len() + self.select.len()..).unwrap_or_default();
        Ok(format!("SELECT {}{behind}", names.join(", ")))
    }

    /// Every row of the source.
    pub fn source_all(&self) -> String {
        format!("SELECT {} FROM {}", self.select, literal::table_name(&self.table.name))
    }

    /// Every row of the target.
    pub fn target_all(&self) -> String {
        let select: Vec<String> = self.target.columns.iter().map(held).collect();
        format!("SELECT {} FROM {}", select.join(", "), literal::table_name(&self.target.name))
    }

    /// A row of the source under its canonical key; None when the filter does not take it.
    ///
    /// # Errors
    /// The key, or what the filter looks at, has a value that its column cannot have.
    pub fn of_source(&mut self, row: &[Cell]) -> Result<Option<(Vec<u8>, Keyed)>> {
        if let Some(filter) = &mut self.filter
            && !filter.takes(row)?
        {
            return Ok(None);
        }
        self.row(row, false).map(Some)
    }

    /// Canonical and encoded key of a row, whether the filter takes it or not.
    ///
    /// # Errors
    /// The key has a value that its column cannot have.
    pub fn key_of_source(&mut self, row: &[Cell]) -> Result<(Vec<u8>, Vec<u8>)> {
        let cells: Vec<&Cell> = self.key.iter().filter_map(|column| row.get(column.place)).collect();
        self.key_of(cells.into_iter())
    }

    /// Canonical key of a row of [`KeyedTable::source_keys`]; None when the filter does not take it.
    ///
    /// # Errors
    /// The key, or what the filter looks at, has a value that its column cannot have.
    pub fn of_source_key(&mut self, row: &[Cell]) -> Result<Option<Vec<u8>>> {
        if self.filter.is_none() {
            return Ok(Some(self.key_of(row.iter())?.0));
        }
        Ok(self.of_source(row)?.map(|(canonical, _)| canonical))
    }

    /// A row of the target under its canonical key.
    ///
    /// # Errors
    /// The key has a value that its column cannot have.
    pub fn of_target(&mut self, row: &[Cell]) -> Result<(Vec<u8>, Keyed)> {
        self.row(row, true)
    }

    /// A row of [`KeyedTable::target_keys_page`].
    ///
    /// # Errors
    /// It has a value that its column cannot have.
    pub fn of_target_key(&mut self, row: &[Cell]) -> Result<(Vec<u8>, Keyed)> {
        let (canonical, key) = self.key_of(row.iter())?;
        Ok((canonical, Keyed { key, content: Vec::new() }))
    }

    fn row(&mut self, row: &[Cell], held: bool) -> Result<(Vec<u8>, Keyed)> {
        let (canonical, key) =
            if self.has_key() { self.key_of_source(row)? } else { (Vec::new(), Vec::new()) };
        let mut content = Vec::new();
        for ((ty, encoder), cell) in self.types.iter().zip(row) {
            let start = content.len();
            content.extend_from_slice(&[0; 4]);
            // What cannot be sent is not there: it equals nothing.
            if encoder.push_held(value(cell, *ty, &mut self.text), held, &mut content).is_err() {
                content.push(u8::from(held));
            }
            let length = u32::try_from(content.len() - start - 4).unwrap_or(u32::MAX);
            if let Some(place) = content.get_mut(start..start + 4) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok((canonical, Keyed { key, content }))
    }

    fn key_of<'c>(&mut self, cells: impl Iterator<Item = &'c Cell>) -> Result<(Vec<u8>, Vec<u8>)> {
        let (mut canonical, mut key) = (Vec::new(), Row::default());
        for (column, cell) in self.key.iter().zip(cells) {
            let value = value(cell, CellType::of(column.source), &mut self.text);
            column.target.encoder.push_held_key(value, &mut canonical)?;
            key.columns.push(value.into());
        }
        Ok((canonical, key.encode_to_vec()))
    }

    /// Statements that give the target these rows of the source, and no other row with one of these keys; with each whether it has values that
    /// strict mode refuses.
    ///
    /// # Errors
    /// A row cannot be sent.
    pub fn write_again<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        rows: &[Vec<Cell>],
    ) -> Result<Vec<(Vec<u8>, bool)>> {
        let target = literal::table_name(&self.target.name);
        let names = self.target_names();
        let mut there = HashSet::new();
        for row in rows {
            there.extend(self.of_source(row)?.map(|(canonical, _)| canonical));
        }
        let mut gone = Vec::new();
        for key in keys {
            let parts = self.key_values(key, |column, value| {
                let mut canonical = Vec::new();
                column.target.encoder.push_held_key(value, &mut canonical)?;
                Ok(canonical)
            })?;
            if !there.contains(&parts.concat()) {
                gone.push(self.target_literals(key)?);
            }
        }
        let mut statements = Vec::new();
        if !gone.is_empty() {
            let condition = self.own(any_of(self.target.dialect, &names, &gone));
            let exactly = self.exact_names().map(|names| any_of(self.target.dialect, &names, &gone));
            let exactly = exactly.map_or_else(String::new, |exactly| format!(" AND ({exactly})"));
            statements
                .push((format!("DELETE FROM {target} WHERE ({condition}){exactly}").into_bytes(), false));
        }
        let columns: Vec<String> =
            self.target.columns.iter().map(|column| literal::name(&column.name)).collect();
        let head = format!("REPLACE INTO {target} ({}) VALUES ", columns.join(","));
        let mut encoder = RowEncoder::new(self.table, self.target)?;
        for row in rows {
            let mut tuple = Vec::new();
            let Some(relaxed) = encoder.push(row, &mut tuple)? else { continue };
            match statements.last_mut() {
                Some((sql, false))
                    if relaxed == 0 && sql.starts_with(b"REPLACE") && sql.len() + tuple.len() < STATEMENT =>
                {
                    sql.push(b',');
                    sql.extend_from_slice(&tuple);
                }
                _ => statements.push(([head.as_bytes(), &tuple[..]].concat(), relaxed > 0)),
            }
        }
        Ok(statements)
    }

    /// Names of the target's columns whose values differ.
    pub fn differing(&self, one: &[u8], other: &[u8]) -> Vec<String> {
        let (one, other) = (parts(one), parts(other));
        self.target
            .columns
            .iter()
            .enumerate()
            .filter(|(at, _)| one.get(*at) != other.get(*at))
            .map(|(_, column)| column.name.clone())
            .collect()
    }

    fn source_names(&self) -> Vec<String> {
        self.key.iter().map(|column| literal::name(&column.source.name)).collect()
    }

    fn target_names(&self) -> Vec<String> {
        self.key.iter().map(|column| literal::name(&column.target.name)).collect()
    }

    /// What the key's columns hold byte by byte, where the target may take another row's key for the same.
    fn exact_names(&self) -> Option<Vec<String>> {
        let is_text = |column: &KeyColumn<'_>| column.source.ty.name.is_text();
        (self.target.dialect == Dialect::Mysql && self.key.iter().any(is_text)).then(|| {
            let bytes = |(column, name): (&KeyColumn<'_>, String)| match is_text(column) {
                true => format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY)"),
                false => name,
            };
            self.key.iter().zip(self.target_names()).map(bytes).collect()
        })
    }

    /// A condition for rows of the target, of those that come from this source.
    fn own(&self, condition: String) -> String {
        match own_rows(self.target) {
            Some(own) => format!("{own} AND ({condition})"),
            None => condition,
        }
    }

    fn key_values<T>(
        &self,
        key: &[u8],
        literal: impl Fn(&KeyColumn<'_>, Value<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let lost = || Error::internal(LOST).object(&self.table.name);
        let mut values = cells(key);
        self.key
            .iter()
            .map(|column| {
                let value = values.next().and_then(std::result::Result::ok).ok_or_else(lost)?;
                literal(column, value.unwrap_or(Value::Text(b"")))
            })
            .collect()
    }

    fn source_literals(&self, key: &[u8]) -> Result<Vec<Literal>> {
        self.key_values(key, |column, value| {
            let ty = column.source.ty.name;
            Ok(match value {
                Value::Null => Literal::Number("NULL".to_owned()),
                Value::Int(0) | Value::UInt(0) if ty == TypeName::Enum => Literal::NoLabel,
                Value::Int(number) => Literal::Number(number.to_string()),
                Value::UInt(number) => Literal::Number(number.to_string()),
                Value::Double(number) => Literal::Number(format!("{number:e}")),
                Value::Bytes(bits) | Value::Text(bits) if ty == TypeName::Bit => Literal::Number(
                    bits.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string(),
                ),
                Value::Bytes(bytes) => Literal::of_bytes(bytes),
                Value::Text(text) if ty == TypeName::Decimal => {
                    Literal::Number(String::from_utf8_lossy(text).into_owned())
                }
                Value::Text(text) => Literal::of_text(text),
            })
        })
    }

    /// As SQL.
    fn target_literals(&self, key: &[u8]) -> Result<Vec<String>> {
        self.key_values(key, |column, value| {
            let mut literal = Vec::new();
            column.target.encoder.push(value, &Zone::Utc, &mut literal)?;
            // Of the target's own text, which is UTF-8.
            String::from_utf8(literal).map_err(|_| {
                Error::new(ErrorKind::ValueRefused, "a key that is no UTF-8 text").object(&self.table.name)
            })
        })
    }
}

/// How a column of the target is read.
fn held(column: &TargetColumn) -> String {
    let name = literal::name(&column.name);
    if column.encoder.is_label_number() { format!("{name} | 0") } else { name }
}

fn page(select: &str, table: &str, condition: Option<String>, order: &[String], limit: usize) -> String {
    let condition = condition.map_or(String::new(), |condition| format!(" WHERE {condition}"));
    format!("SELECT {select} FROM {table}{condition} ORDER BY {} LIMIT {limit}", order.join(", "))
}

/// AnalyticDB counts the items of a condition and takes 256 of them, but 2,000 in a list. MariaDB finds no rows by tuples of gbk or latin1 text.
fn any_of(dialect: Dialect, names: &[String], keys: &[Vec<String>]) -> String {
    let list = |parts: Vec<String>, between: &str| parts.join(between);
    match (names, dialect) {
        ([name], _) => format!("{name} IN ({})", list(keys.iter().map(|key| key.join(",")).collect(), ",")),
        (_, Dialect::Adb) => {
            let tuples = keys.iter().map(|key| format!("({})", key.join(","))).collect();
            format!("({}) IN ({})", names.join(","), list(tuples, ","))
        }
        (_, Dialect::Mysql) => {
            let all = |key: &Vec<String>| {
                let terms = names.iter().zip(key).map(|(name, value)| format!("{name} = {value}")).collect();
                format!("({})", list(terms, " AND "))
            };
            list(keys.iter().map(all).collect(), " OR ")
        }
    }
}

fn parts(content: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut rest) = (Vec::new(), content);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = (u32::from_be_bytes(*length) as usize).min(behind.len());
        let (part, behind) = behind.split_at(length);
        found.push(part);
        rest = behind;
    }
    found
}

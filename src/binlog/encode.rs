//! Writes Drainer's messages: the double of Drainer for tests and load generators, never used to sync.
//!
//! The structs are the protocol (source-drainer.md 1.1) in prost's words with every string as bytes. Their encoding is
//! Drainer's, byte for byte: ascending field numbers, nothing skipped that Drainer writes (`Some(empty)` is written,
//! `None` is not). `Binlog::try_from(&Message)` turns what the walker reads back into this form, which is how tests hold
//! the walker to `encode(decode(x)) == x`.

use crate::binlog::message::{ColumnInfo, KeyInfo, Kind, Message, MutationKind, TableChange};
use crate::binlog::row::RowBytes;
use crate::binlog::wire::Malformed;
use crate::model::Value;

pub use prost::Message as Encode;

pub const DML: i32 = 0;
pub const DDL: i32 = 1;
pub const RESOLVED: i32 = 2;

pub const INSERT: i32 = 0;
pub const UPDATE: i32 = 1;
pub const DELETE: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Binlog {
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    #[prost(int64, required, tag = "2")]
    pub commit_ts: i64,
    #[prost(message, optional, tag = "3")]
    pub dml_data: Option<DmlData>,
    #[prost(message, optional, tag = "4")]
    pub ddl_data: Option<DdlData>,
    /// No Drainer sets it.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub time_zone: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DmlData {
    #[prost(message, repeated, tag = "1")]
    pub tables: Vec<Table>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DdlData {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub schema_name: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub table_name: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub ddl_query: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Table {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub schema_name: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub table_name: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub column_info: Vec<Column>,
    #[prost(message, repeated, tag = "4")]
    pub mutations: Vec<Mutation>,
    #[prost(message, repeated, tag = "5")]
    pub unique_keys: Vec<Key>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Column {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub mysql_type: Vec<u8>,
    #[prost(bool, required, tag = "3")]
    pub is_primary_key: bool,
    #[prost(int32, optional, tag = "4")]
    pub flen: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub decimal: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Key {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub name: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub column_names: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Mutation {
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    #[prost(message, required, tag = "2")]
    pub row: Row,
    #[prost(message, optional, tag = "3")]
    pub change_row: Option<Row>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Row {
    #[prost(message, repeated, tag = "1")]
    pub columns: Vec<Cell>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Cell {
    #[prost(bool, optional, tag = "1")]
    pub is_null: Option<bool>,
    #[prost(int64, optional, tag = "2")]
    pub int64_value: Option<i64>,
    #[prost(uint64, optional, tag = "3")]
    pub uint64_value: Option<u64>,
    #[prost(double, optional, tag = "4")]
    pub double_value: Option<f64>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub bytes_value: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub string_value: Option<Vec<u8>>,
}

impl Binlog {
    pub fn dml(commit_ts: u64, tables: Vec<Table>) -> Self {
        Self { kind: DML, commit_ts: commit_ts as i64, dml_data: Some(DmlData { tables }), ..Self::default() }
    }

    pub fn ddl(commit_ts: u64, schema: &str, table: &str, query: &str) -> Self {
        let ddl = DdlData {
            schema_name: Some(schema.into()),
            table_name: Some(table.into()),
            ddl_query: Some(query.into()),
        };
        Self { kind: DDL, commit_ts: commit_ts as i64, ddl_data: Some(ddl), ..Self::default() }
    }
}

impl Table {
    /// A table without rows. Types as in source-drainer.md 3.2; the columns named in `primary` become its PRIMARY key.
    pub fn new(schema: &str, table: &str, columns: &[(&str, &str)], primary: &[&str]) -> Self {
        let column_info = columns
            .iter()
            .map(|(name, mysql_type)| Column {
                name: (*name).into(),
                mysql_type: (*mysql_type).into(),
                is_primary_key: primary.contains(name),
                flen: Some(-1),
                decimal: Some(-1),
            })
            .collect();
        let key = Key {
            name: Some("PRIMARY".into()),
            column_names: primary.iter().map(|name| (*name).into()).collect(),
        };
        Self {
            schema_name: Some(schema.into()),
            table_name: Some(table.into()),
            column_info,
            mutations: Vec::new(),
            unique_keys: if primary.is_empty() { Vec::new() } else { vec![key] },
        }
    }

    pub fn insert(mut self, row: &[Value<'_>]) -> Self {
        self.mutations.push(Mutation { kind: INSERT, row: row.into(), change_row: None });
        self
    }

    pub fn update(mut self, old: &[Value<'_>], new: &[Value<'_>]) -> Self {
        self.mutations.push(Mutation { kind: UPDATE, row: new.into(), change_row: Some(old.into()) });
        self
    }

    pub fn delete(mut self, row: &[Value<'_>]) -> Self {
        self.mutations.push(Mutation { kind: DELETE, row: row.into(), change_row: None });
        self
    }
}

impl From<&[Value<'_>]> for Row {
    fn from(values: &[Value<'_>]) -> Self {
        Self { columns: values.iter().map(|value| Cell::from(*value)).collect() }
    }
}

impl From<Value<'_>> for Cell {
    fn from(value: Value<'_>) -> Self {
        let mut cell = Self::default();
        match value {
            Value::Null => cell.is_null = Some(true),
            Value::Int(value) => cell.int64_value = Some(value),
            Value::UInt(value) => cell.uint64_value = Some(value),
            Value::Double(value) => cell.double_value = Some(value),
            Value::Bytes(value) => cell.bytes_value = Some(value.into()),
            Value::Text(value) => cell.string_value = Some(value.into()),
        }
        cell
    }
}

impl TryFrom<&Message<'_>> for Binlog {
    type Error = Malformed;

    fn try_from(message: &Message<'_>) -> Result<Self, Malformed> {
        let mut binlog = Self { commit_ts: message.commit_ts.0 as i64, ..Self::default() };
        match &message.kind {
            Kind::Dml(tables) => {
                let tables = tables.iter().map(|table| Table::try_from(&table?)).collect::<Result<_, _>>()?;
                binlog.dml_data = Some(DmlData { tables });
            }
            Kind::Ddl(ddl) => {
                binlog.kind = DDL;
                binlog.ddl_data = Some(DdlData {
                    schema_name: Some(ddl.schema_name.into()),
                    table_name: Some(ddl.table_name.into()),
                    ddl_query: Some(ddl.query.into()),
                });
            }
            Kind::Resolved => binlog.kind = RESOLVED,
        }
        Ok(binlog)
    }
}

impl TryFrom<&TableChange<'_>> for Table {
    type Error = Malformed;

    fn try_from(table: &TableChange<'_>) -> Result<Self, Malformed> {
        let row = |row: RowBytes<'_, '_>| -> Result<Row, Malformed> {
            Ok(Row { columns: row.values().map(|value| value.map(Cell::from)).collect::<Result<_, _>>()? })
        };
        let mut mutations = Vec::new();
        for mutation in table.mutations() {
            let mutation = mutation?;
            let kind = match mutation.kind {
                MutationKind::Insert => INSERT,
                MutationKind::Update => UPDATE,
                MutationKind::Delete => DELETE,
            };
            let change_row = mutation.old.map(row).transpose()?;
            mutations.push(Mutation { kind, row: row(mutation.row)?, change_row });
        }
        Ok(Self {
            schema_name: Some(table.schema.into()),
            table_name: Some(table.table.into()),
            column_info: table.columns.iter().map(Column::from).collect(),
            mutations,
            unique_keys: table.unique_keys()?.iter().map(Key::from).collect(),
        })
    }
}

impl From<&ColumnInfo<'_>> for Column {
    fn from(column: &ColumnInfo<'_>) -> Self {
        Self {
            name: column.name.into(),
            mysql_type: column.mysql_type.into(),
            is_primary_key: column.is_primary_key,
            flen: column.flen,
            decimal: column.decimal,
        }
    }
}

impl From<&KeyInfo<'_>> for Key {
    fn from(key: &KeyInfo<'_>) -> Self {
        Self {
            name: Some(key.name.into()),
            column_names: key.columns.iter().map(|name| (*name).into()).collect(),
        }
    }
}

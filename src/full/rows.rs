//! Rows of the source's binary protocol as rows of a target statement.
//!
//! ENUM and SET are read as numbers, as the stream carries them; everything else in its own type. Generated columns are not
//! among the target's columns. Behind the target's columns come those that only the filter reads.

use mysql_async::Value as Cell;

use crate::adb::dialect::{TargetTable, unjudged};
use crate::adb::encode::{Encoder, Pushed};
use crate::binlog::encode::{Encode, Row};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::text;
use crate::model::{Column, LossyCounts, Table, Tso, TypeName, Value, Zone};
use crate::sql::filter::Filter;
use crate::sql::literal;
use crate::store::{Letter, LetterColumn};

/// Select expressions for the target's columns, in their order, and for the filter's that are not among them.
pub fn select(table: &Table, target: &TargetTable) -> Result<String> {
    let mut expressions = target
        .columns
        .iter()
        .map(|column| match &column.constant {
            Some(value) => Ok(literal::string(value)),
            None => Ok(expression(source_column(table, column.source_index)?)),
        })
        .collect::<Result<Vec<String>>>()?;
    for place in more_columns(target) {
        expressions.push(expression(source_column(table, place)?));
    }
    Ok(expressions.join(", "))
}

pub(super) fn source_column(table: &Table, place: usize) -> Result<&Column> {
    table.columns.get(place).ok_or_else(|| {
        Error::new(ErrorKind::SchemaMismatch, "the target's plan has a column that the source has not")
            .object(&table.name)
    })
}

fn place_in_target(target: &TargetTable, place: usize) -> Option<usize> {
    target.columns.iter().position(|column| column.constant.is_none() && column.source_index == place)
}

/// Columns that the filter reads and the target does not get, each once.
fn more_columns(target: &TargetTable) -> Vec<usize> {
    let mut more = Vec::new();
    for (place, _) in target.filter.iter().flat_map(Filter::columns) {
        if place_in_target(target, *place).is_none() && !more.contains(place) {
            more.push(*place);
        }
    }
    more
}

/// Bits of a whole number that a double holds.
const EXACT_BITS: usize = 53;

pub(super) fn expression(column: &Column) -> String {
    let name = literal::name(&column.name);
    match column.ty.name {
        // As a number it goes through a double, also by `| 0`: bits would be lost, or the server says that it overflows (TiDB 7.0).
        TypeName::Set if column.ty.labels.len() > EXACT_BITS => {
            let bit = |(bit, label): (usize, &String)| {
                format!("(FIND_IN_SET({}, {name}) > 0) << {bit}", literal::string(label))
            };
            column.ty.labels.iter().enumerate().map(bit).collect::<Vec<_>>().join(" | ")
        }
        TypeName::Enum | TypeName::Set => format!("{name} | 0"),
        _ => name,
    }
}

/// How a cell is read.
#[derive(Clone, Copy)]
pub(super) struct CellType {
    name: TypeName,
    /// Fractional digits of temporal types.
    fsp: u32,
}

impl CellType {
    /// Of a column that has the same value in every row.
    pub(super) const TEXT: Self = Self { name: TypeName::VarChar, fsp: 0 };

    pub(super) fn of(column: &Column) -> Self {
        Self { name: column.ty.name, fsp: column.ty.length.unwrap_or(0) }
    }
}

struct CellEncoder<'a> {
    ty: CellType,
    encoder: &'a Encoder,
}

/// The table's filter over the cells of a row.
pub(super) struct RowFilter<'a> {
    filter: &'a Filter,
    /// Which cell each of the filter's columns is, and memory to print it in.
    cells: Vec<(usize, CellType, Vec<u8>)>,
}

/// Writes rows of one query.
pub struct RowEncoder<'a> {
    columns: Vec<CellEncoder<'a>>,
    text: Vec<u8>,
    filter: Option<RowFilter<'a>>,
    /// Cells of a row: those of the target's columns, and those that only the filter reads.
    cells: usize,
    lossy: LossyCounts,
}

impl<'a> RowEncoder<'a> {
    pub fn new(table: &'a Table, target: &'a TargetTable) -> Result<Self> {
        let columns = target
            .columns
            .iter()
            .map(|column| {
                let ty = match column.constant {
                    Some(_) => CellType::TEXT,
                    None => CellType::of(source_column(table, column.source_index)?),
                };
                Ok(CellEncoder { ty, encoder: &column.encoder })
            })
            .collect::<Result<Vec<_>>>()?;
        let cells = columns.len() + more_columns(target).len();
        let filter = RowFilter::new(table, target)?;
        Ok(Self { columns, text: Vec::with_capacity(32), filter, cells, lossy: LossyCounts::default() })
    }

    /// What the rows so far have lost.
    pub fn into_lossy(self) -> LossyCounts {
        self.lossy
    }

    /// Appends `(1,'a',NULL)`. Gives the number of values that strict mode refuses; None, and nothing appended, for a row that
    /// the filter does not take.
    pub fn push(&mut self, cells: &[Cell], out: &mut Vec<u8>) -> Result<Option<u64>> {
        if cells.len() != self.cells {
            return Err(Error::new(ErrorKind::SchemaMismatch, "the source sent another number of columns")
                .endpoint(Endpoint::Source));
        }
        if let Some(filter) = &mut self.filter
            && !filter.takes(cells)?
        {
            return Ok(None);
        }
        let mut relaxed = 0;
        out.push(b'(');
        for (at, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let value = value(cell, column.ty, &mut self.text);
            let pushed = column.encoder.push(value, &Zone::Utc, out)?;
            relaxed += u64::from(pushed.contains(Pushed::RELAXED));
            column.encoder.count(pushed, &mut self.lossy);
        }
        out.push(b')');
        Ok(Some(relaxed))
    }
}

/// A row as it is set aside: its columns, its image as the stream would carry it, and its key. None where the table has none.
pub fn letter(
    table: &Table,
    target: &TargetTable,
    cells: &[Cell],
    (snapshot, error): (Tso, Error),
) -> Result<Option<Letter>> {
    let Some(identity) = &target.identity else { return Ok(None) };
    let mut columns = Vec::new();
    let mut row = Row::default();
    let (mut text, mut temporal) = (Vec::new(), false);
    let mut keys = vec![Vec::new(); identity.len()];
    for (at, (column, cell)) in target.columns.iter().zip(cells).enumerate() {
        if column.constant.is_some() {
            continue;
        }
        let source = source_column(table, column.source_index)?;
        let value = value(cell, CellType::of(source), &mut text);
        if let Some(place) = identity.iter().position(|key| *key == at)
            && let Some(key) = keys.get_mut(place)
        {
            column.encoder.push_key(value, key)?;
            temporal |= source.ty.name == TypeName::Timestamp;
        }
        columns.push(LetterColumn {
            name: source.name.clone(),
            ty: format!("{:?}", source.ty.name).to_lowercase(),
        });
        row.columns.push(value.into());
    }
    let key_columns = identity
        .iter()
        .filter_map(|key| target.columns.get(*key))
        .filter_map(|column| table.columns.get(column.source_index))
        .map(|column| column.name.clone())
        .collect();
    Ok(Some(Letter {
        table: table.name.clone(),
        phase: "full",
        operation: "insert",
        key_columns,
        key: keys.concat(),
        columns,
        new_row: Some(row.encode_to_vec()),
        old_row: None,
        offset: -1,
        nth: 0,
        commit_ts: snapshot,
        error,
        // The stream has it in Drainer's zone: a later change would not be known as one of this row.
        blocked: temporal.then(|| {
            "a TIMESTAMP is part of the key: compare the row, then discard the letter or resync the table"
                .to_owned()
        }),
    }))
}

impl<'a> RowFilter<'a> {
    /// None where the table has none.
    pub(super) fn new(table: &'a Table, target: &'a TargetTable) -> Result<Option<Self>> {
        let Some(filter) = &target.filter else { return Ok(None) };
        let more = more_columns(target);
        let mut cells = Vec::new();
        for (place, _) in filter.columns() {
            let behind = || more.iter().position(|other| other == place).map(|at| target.columns.len() + at);
            let cell = place_in_target(target, *place).or_else(behind).unwrap_or(usize::MAX);
            cells.push((cell, CellType::of(source_column(table, *place)?), Vec::new()));
        }
        Ok(Some(Self { filter, cells }))
    }

    /// Whether the target gets the row with these cells, in the order of [`select`].
    pub(super) fn takes(&mut self, cells: &[Cell]) -> Result<bool> {
        let values: Vec<Value<'_>> = self
            .cells
            .iter_mut()
            .map(|(at, ty, text)| cells.get(*at).map_or(Value::Null, |cell| value(cell, *ty, text)))
            .collect();
        self.filter.matches(&values, &Zone::Utc).map_err(|fault| unjudged(self.filter, fault.column))
    }
}

/// The cell as the stream would carry it; `text` holds it where it has to be printed.
pub(super) fn value<'a>(cell: &'a Cell, ty: CellType, text: &'a mut Vec<u8>) -> Value<'a> {
    let CellType { name: ty, fsp } = ty;
    match cell {
        Cell::NULL => Value::Null,
        Cell::Bytes(bytes) if ty.is_binary() || matches!(ty, TypeName::Json | TypeName::Bit) => {
            Value::Bytes(bytes)
        }
        Cell::Bytes(bytes) => Value::Text(bytes),
        Cell::Int(number) => Value::Int(*number),
        Cell::UInt(number) => Value::UInt(*number),
        Cell::Float(number) => Value::Double(f64::from(*number)),
        Cell::Double(number) => Value::Double(*number),
        Cell::Date(year, month, day, hour, minute, second, micros) => {
            text.clear();
            if ty == TypeName::Date {
                text::push_date(text, *year, *month, *day);
            } else {
                text::push_datetime(text, (*year, *month, *day), (*hour, *minute, *second), *micros, fsp);
            }
            Value::Text(text)
        }
        Cell::Time(negative, days, hours, minutes, seconds, micros) => {
            text.clear();
            text::push_time(text, *negative, *days, (*hours, *minutes, *seconds), *micros, fsp);
            Value::Text(text)
        }
    }
}

//! Rows of the source's binary protocol as rows of a target statement.
//!
//! ENUM and SET are read as numbers, as the stream carries them; everything else in its own type. Generated columns are not
//! among the target's columns.

use mysql_async::{Row, Value as Cell};

use crate::adb::dialect::TargetTable;
use crate::adb::encode::{Encoder, Pushed};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::text;
use crate::model::{Column, LossyCounts, Table, TypeName, Value, Zone};
use crate::sql::literal;

/// Select expressions for the target's columns, in their order.
pub fn select(table: &Table, target: &TargetTable) -> Result<String> {
    let expressions: Vec<String> =
        columns(table, target)?.into_iter().map(|(column, _)| expression(column)).collect();
    Ok(expressions.join(", "))
}

fn columns<'a>(table: &'a Table, target: &'a TargetTable) -> Result<Vec<(&'a Column, &'a Encoder)>> {
    target
        .columns
        .iter()
        .map(|column| {
            let source = table.columns.get(column.source_index).ok_or_else(|| {
                Error::new(
                    ErrorKind::SchemaMismatch,
                    "the target's plan has a column that the source has not",
                )
                .object(&table.name)
            })?;
            Ok((source, &column.encoder))
        })
        .collect()
}

fn expression(column: &Column) -> String {
    let name = literal::name(&column.name);
    match column.ty.name {
        // `+ 0` would go through a double and lose bits of a SET
        TypeName::Enum | TypeName::Set => format!("{name} | 0"),
        _ => name,
    }
}

struct CellEncoder<'a> {
    ty: TypeName,
    /// Fractional digits of temporal types.
    fsp: u32,
    encoder: &'a Encoder,
}

/// Writes rows of one query.
pub struct RowEncoder<'a> {
    columns: Vec<CellEncoder<'a>>,
    text: Vec<u8>,
    lossy: LossyCounts,
}

impl<'a> RowEncoder<'a> {
    pub fn new(table: &'a Table, target: &'a TargetTable) -> Result<Self> {
        let columns = columns(table, target)?
            .into_iter()
            .map(|(column, encoder)| CellEncoder {
                ty: column.ty.name,
                fsp: column.ty.length.unwrap_or(0),
                encoder,
            })
            .collect();
        Ok(Self { columns, text: Vec::with_capacity(32), lossy: LossyCounts::default() })
    }

    /// What the rows so far have lost.
    pub fn into_lossy(self) -> LossyCounts {
        self.lossy
    }

    /// Appends `(1,'a',NULL)`. Gives the number of values that strict mode refuses.
    pub fn push(&mut self, row: Row, out: &mut Vec<u8>) -> Result<u64> {
        let cells = row.unwrap();
        if cells.len() != self.columns.len() {
            return Err(Error::new(ErrorKind::SchemaMismatch, "the source sent another number of columns")
                .endpoint(Endpoint::Source));
        }
        let mut relaxed = 0;
        out.push(b'(');
        for (at, (column, cell)) in self.columns.iter().zip(&cells).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let value = value(cell, column.ty, column.fsp, &mut self.text);
            let pushed = column.encoder.push(value, &Zone::Utc, out)?;
            relaxed += u64::from(pushed.contains(Pushed::RELAXED));
            column.encoder.count(pushed, &mut self.lossy);
        }
        out.push(b')');
        Ok(relaxed)
    }
}

/// The cell as the stream would carry it; `text` holds it where it has to be printed.
fn value<'a>(cell: &'a Cell, ty: TypeName, fsp: u32, text: &'a mut Vec<u8>) -> Value<'a> {
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

//! One row image, read cell by cell from the bytes of its message.
//!
//! [`RowBytes`] can be kept for the price of a slice: `Bytes::slice_ref(row.as_bytes())` holds the payload, and
//! [`cells`] reads the values again later.

use crate::binlog::message::ColumnInfo;
use crate::binlog::wire::{Field, Malformed, Reader, Slice};
use crate::model::Value;

/// A serialized `Row` (source-drainer.md 1.1) and the columns that its cells belong to, by position.
#[derive(Debug, Clone, Copy)]
pub struct RowBytes<'r, 'a> {
    pub(super) slice: Slice<'a>,
    pub(super) columns: &'r [ColumnInfo<'a>],
}

impl<'r, 'a> RowBytes<'r, 'a> {
    /// The row as it lies in the message.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.slice.bytes
    }

    pub fn columns(&self) -> &'r [ColumnInfo<'a>] {
        self.columns
    }

    /// The values in the order of `columns()`. A row with more or fewer cells than columns ends in an error, and nothing
    /// comes after an error.
    pub fn values(&self) -> Values<'r, 'a> {
        Values { cells: Cells { reader: self.slice.reader() }, columns: self.columns.iter() }
    }
}

/// The cells of a row given as bytes (see [`RowBytes::as_bytes`]); offsets of errors count from the row.
/// `None` is a cell without any field, which stands for the empty value of its type (source-drainer.md 3.1).
pub fn cells(row: &[u8]) -> Cells<'_> {
    Cells { reader: Slice { bytes: row, start: 0 }.reader() }
}

/// See [`cells`].
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    reader: Reader<'a>,
}

impl<'a> Cells<'a> {
    #[inline]
    fn step(&mut self) -> Result<Option<Option<Value<'a>>>, Malformed> {
        while let Some(field) = self.reader.field()? {
            if field.tag == 1 {
                return Ok(Some(cell(field.bytes()?)?));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Result<Option<Value<'a>>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.step().inspect_err(|_| self.reader.stop()).transpose()
    }
}

/// NULL beats everything; of several value fields the last one counts.
#[inline(always)]
fn cell(slice: Slice<'_>) -> Result<Option<Value<'_>>, Malformed> {
    let mut reader = slice.reader();
    let Some(field) = reader.field()? else { return Ok(None) };
    let value = cell_field(&field)?;
    if reader.is_empty() {
        return Ok(value);
    }
    further_fields(value, reader)
}

#[inline(always)]
fn cell_field<'a>(field: &Field<'a>) -> Result<Option<Value<'a>>, Malformed> {
    Ok(Some(match field.tag {
        1 if field.varint()? != 0 => Value::Null,
        2 => Value::Int(field.varint()? as i64),
        3 => Value::UInt(field.varint()?),
        4 => Value::Double(f64::from_bits(field.fixed64()?)),
        5 => Value::Bytes(field.bytes()?.bytes),
        6 => Value::Text(field.bytes()?.bytes),
        _ => return Ok(None),
    }))
}

/// Not what any Drainer writes, but legal protobuf.
#[cold]
fn further_fields<'a>(
    mut value: Option<Value<'a>>,
    mut reader: Reader<'a>,
) -> Result<Option<Value<'a>>, Malformed> {
    // `is_null` is one field: its own last occurrence counts, and then it beats the values.
    let mut null = value == Some(Value::Null);
    if null {
        value = None;
    }
    while let Some(field) = reader.field()? {
        if field.tag == 1 {
            null = field.varint()? != 0;
        } else {
            value = cell_field(&field)?.or(value);
        }
    }
    Ok(if null { Some(Value::Null) } else { value })
}

/// See [`RowBytes::values`].
#[derive(Debug, Clone)]
pub struct Values<'r, 'a> {
    cells: Cells<'a>,
    columns: std::slice::Iter<'r, ColumnInfo<'a>>,
}

impl<'a> Iterator for Values<'_, 'a> {
    type Item = Result<Value<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match (self.cells.next(), self.columns.next()) {
            (Some(Ok(Some(value))), Some(_)) => Some(Ok(value)),
            (Some(Ok(None)), Some(column)) => Some(Ok(column.empty_value())),
            (Some(Err(malformed)), _) => Some(Err(self.end(malformed))),
            (None, None) => None,
            (Some(Ok(_)), None) => Some(Err(self.miscounted("a row with more cells than columns"))),
            (None, Some(_)) => Some(Err(self.miscounted("a row with fewer cells than columns"))),
        }
    }
}

impl Values<'_, '_> {
    #[cold]
    fn miscounted(&mut self, what: &'static str) -> Malformed {
        let offset = self.cells.reader.position();
        self.end(Malformed { offset, what })
    }

    fn end(&mut self, malformed: Malformed) -> Malformed {
        self.cells.reader.stop();
        self.columns = [].iter();
        malformed
    }
}

//! Limits of InnoDB that TiDB does not have: 65,535 bytes of a row, 3,072 bytes of a key.
//!
//! A VARCHAR that makes the row too large becomes TEXT of the right size: it takes the same values.

use super::charset::TargetText;
use super::types;
use crate::model::{ColumnType, TypeName};

pub(super) const COLUMNS: usize = 1017;
pub(super) const KEY_BYTES: u64 = 3072;
pub(super) const KEY_PARTS: usize = 16;
pub(super) const SECONDARY_KEYS: usize = 64;
const ROW_BYTES: u64 = 65_535;
/// A pointer and a length for what lies outside the row.
const LARGE: u64 = 12;

/// Bytes of a column in a row, or of a whole column in a key.
pub(super) fn width(ty: &ColumnType, text: &TargetText) -> u64 {
    let length = u64::from(ty.length.unwrap_or(1));
    match ty.name {
        TypeName::TinyInt | TypeName::Year => 1,
        TypeName::SmallInt => 2,
        TypeName::MediumInt | TypeName::Date => 3,
        TypeName::Int | TypeName::Float => 4,
        TypeName::BigInt | TypeName::Double | TypeName::Set => 8,
        TypeName::Decimal => u64::from(types::decimal(ty).0) / 2 + 5,
        TypeName::Bit => length / 8 + 1,
        TypeName::Time | TypeName::Timestamp | TypeName::DateTime => 8,
        TypeName::Enum => 2,
        TypeName::Char => length * text.width(),
        TypeName::VarChar => length * text.width() + 2,
        TypeName::Binary => length,
        TypeName::VarBinary => length + 2,
        TypeName::TinyText
        | TypeName::Text
        | TypeName::MediumText
        | TypeName::LongText
        | TypeName::TinyBlob
        | TypeName::Blob
        | TypeName::MediumBlob
        | TypeName::LongBlob
        | TypeName::Json => LARGE,
    }
}

/// Turns the widest VARCHAR and VARBINARY that may change (`movable`) into TEXT and BLOB until a row fits. Gives the indexes of those
/// that were changed, and false when the row is still too large.
pub(super) fn fit_row(columns: &mut [(ColumnType, TargetText)], movable: &[bool]) -> (Vec<usize>, bool) {
    let mut changed = Vec::new();
    loop {
        // One bit each for NULL.
        let total: u64 =
            columns.iter().map(|(ty, text)| width(ty, text)).sum::<u64>() + columns.len() as u64 / 8 + 1;
        if total <= ROW_BYTES {
            return (changed, true);
        }
        let widest = columns
            .iter_mut()
            .zip(movable)
            .enumerate()
            .filter(|(_, ((ty, text), movable))| {
                **movable
                    && matches!(ty.name, TypeName::VarChar | TypeName::VarBinary)
                    && width(ty, text) > LARGE
            })
            .max_by_key(|(index, ((ty, text), _))| (width(ty, text), std::cmp::Reverse(*index)));
        let Some((index, ((ty, _), _))) = widest else { return (changed, false) };
        // The declared length stays and gives the size.
        ty.name = if ty.name == TypeName::VarChar { TypeName::TinyText } else { TypeName::TinyBlob };
        changed.push(index);
    }
}

//! Limits of InnoDB that TiDB does not have: 65,535 bytes of a row, 8,126 of them in one page, 3,072 bytes of a key.
//!
//! A VARCHAR that makes the row too large becomes TEXT of the right size: it takes the same values. In the page a column of at most
//! 255 bytes counts whole, a longer one and TEXT with 40 bytes at most (MariaDB: 20), so there it is the short ones that move.

use super::charset::TargetText;
use super::types;
use crate::model::{ColumnType, TypeName};

pub(super) const COLUMNS: usize = 1017;
pub(super) const KEY_BYTES: u64 = 3072;
pub(super) const KEY_PARTS: usize = 16;
pub(super) const SECONDARY_KEYS: usize = 64;
const ROW_BYTES: u64 = 65_535;
/// Half a page of 16 KiB.
const PAGE_BYTES: u64 = 8126;
/// A column outside the page: its first bytes or its pointer, and its length.
const OUTSIDE: u64 = 42;
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

/// In a key, where InnoDB counts no length bytes: VARCHAR(768) of utf8mb4 is exactly the 3,072 bytes allowed (MariaDB, measured).
pub(super) fn width_in_key(ty: &ColumnType, text: &TargetText) -> u64 {
    match ty.name {
        TypeName::VarChar | TypeName::VarBinary => width(ty, text) - 2,
        _ => width(ty, text),
    }
}

/// Turns the widest VARCHAR and VARBINARY that may change (`movable`) into TEXT and BLOB until a row fits. Gives the indexes of those
/// that were changed, and false when the row is still larger than a server allows. Many hundreds of columns may still be more than a page holds:
/// there the servers differ, and CREATE TABLE says so.
pub(super) fn fit_row(columns: &mut [(ColumnType, TargetText)], movable: &[bool]) -> (Vec<usize>, bool) {
    let mut changed = Vec::new();
    // One bit each for NULL.
    let overhead = columns.len() as u64 / 8 + 1;
    for (limit, size) in [(ROW_BYTES, width as fn(&ColumnType, &TargetText) -> u64), (PAGE_BYTES, in_page)] {
        loop {
            let total: u64 = columns.iter().map(|(ty, text)| size(ty, text)).sum();
            if total + overhead <= limit {
                break;
            }
            let widest = columns
                .iter_mut()
                .zip(movable)
                .enumerate()
                .filter(|(_, ((ty, text), movable))| {
                    **movable
                        && matches!(ty.name, TypeName::VarChar | TypeName::VarBinary)
                        && size(ty, text) > OUTSIDE
                })
                .max_by_key(|(index, ((ty, text), _))| (size(ty, text), std::cmp::Reverse(*index)));
            let Some((index, ((ty, _), _))) = widest else { break };
            // The declared length stays and gives the size.
            ty.name = if ty.name == TypeName::VarChar { TypeName::TinyText } else { TypeName::TinyBlob };
            changed.push(index);
        }
    }
    let total: u64 = columns.iter().map(|(ty, text)| width(ty, text)).sum();
    (changed, total + overhead <= ROW_BYTES)
}

/// Bytes of a column that may have to stay in its row's page.
fn in_page(ty: &ColumnType, text: &TargetText) -> u64 {
    match width(ty, text) {
        LARGE if ty.name.is_text() || ty.name.is_binary() || ty.name == TypeName::Json => OUTSIDE,
        257.. => OUTSIDE,
        short => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::dialect::charset::{Collations, SourceText, map};

    fn fitted(count: usize, length: u32) -> (usize, bool) {
        let text = map(&SourceText::default(), false, &Collations::default());
        let ty = ColumnType { length: Some(length), ..ColumnType::new(TypeName::VarChar) };
        let mut columns = vec![(ty, text); count];
        let (changed, fits) = fit_row(&mut columns, &vec![true; count]);
        (changed.len(), fits)
    }

    #[test]
    fn only_as_many_columns_move_as_must() {
        assert_eq!(fitted(10, 50), (0, true));
        assert_eq!(fitted(4, 4000), (0, true));
        assert_eq!(fitted(5, 4000), (1, true));
        assert_eq!(fitted(1, 20_000), (1, true));
        // 40 of 202 bytes fit a page; of 60 columns those move that make room.
        assert_eq!(fitted(40, 50), (0, true));
        assert_eq!(fitted(60, 50), (26, true));
    }
}

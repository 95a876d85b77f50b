//! How a table's key space is cut into chunks, pure.
//!
//! Rows are cut along the handle that the source stores them by: a clustered primary key, else `_tidb_rowid`. Dense integer
//! handles are cut by arithmetic, all others by walking the key in steps of `chunk_rows` rows, each boundary from the one before
//! it, so that a plan can go on where it was left. Partitioned tables are cut partition by partition: across partitions the source
//! would sort.

use serde::{Deserialize, Serialize};

use crate::full::bounds::{Bounds, Literal};
use crate::model::{Column, KeyKind, Table, TypeName};
use crate::sql::literal;

/// A part of a table that is read and written as one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    pub bounds: Bounds,
}

/// What the rows of a table are stored and cut by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// `_tidb_rowid`: tables without a clustered primary key.
    RowId,
    /// The columns of the clustered primary key.
    Key(Vec<HandleColumn>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandleColumn {
    pub name: String,
    pub ty: TypeName,
}

const ROW_ID: &str = "_tidb_rowid";

impl Handle {
    /// `has_row_id`: whether `SELECT _tidb_rowid` works on the table (source-drainer.md 9.1). None when the table has neither.
    pub fn of(table: &Table, has_row_id: bool) -> Option<Self> {
        if has_row_id {
            return Some(Self::RowId);
        }
        let key = table.keys.iter().find(|key| key.kind == KeyKind::Primary)?;
        let columns = key
            .columns()?
            .into_iter()
            .map(|name| table.column(name).map(HandleColumn::of))
            .collect::<Option<Vec<_>>>()?;
        (!columns.is_empty()).then_some(Self::Key(columns))
    }

    /// Quoted column names for conditions and ORDER BY.
    pub fn columns(&self) -> Vec<String> {
        match self {
            Self::RowId => vec![ROW_ID.to_owned()],
            Self::Key(columns) => columns.iter().map(|column| literal::name(&column.name)).collect(),
        }
    }

    /// Select expressions that give the values of a bound.
    pub fn expressions(&self) -> Vec<String> {
        match self {
            Self::RowId => self.columns(),
            Self::Key(columns) => columns.iter().map(HandleColumn::expression).collect(),
        }
    }

    /// True for one integer column, whose range can be cut by arithmetic.
    pub fn is_integer(&self) -> bool {
        match self {
            Self::RowId => true,
            Self::Key(columns) => matches!(columns.as_slice(), [column] if column.ty.is_integer()),
        }
    }

    /// The values that [`Handle::expressions`] gave over the text protocol as literals.
    pub fn literals(&self, values: &[Vec<u8>]) -> Vec<Literal> {
        let number = |value: &[u8]| Literal::Number(String::from_utf8_lossy(value).into_owned());
        match self {
            Self::RowId => values.iter().map(|value| number(value)).collect(),
            Self::Key(columns) => columns
                .iter()
                .zip(values)
                .map(|(column, value)| match column.ty {
                    ty if ty.is_binary() => Literal::of_bytes(value),
                    ty if is_quoted(ty) => Literal::of_text(value),
                    TypeName::Enum if value == b"0" => Literal::NoLabel,
                    _ => number(value),
                })
                .collect(),
        }
    }
}

/// Types whose bounds are written in quotes; the rest are numbers.
fn is_quoted(ty: TypeName) -> bool {
    ty.is_text()
        || matches!(
            ty,
            TypeName::Date | TypeName::Time | TypeName::DateTime | TypeName::Timestamp | TypeName::Json
        )
}

impl HandleColumn {
    fn of(column: &Column) -> Self {
        Self { name: column.name.clone(), ty: column.ty.name }
    }

    /// ENUM, SET and BIT compare as numbers, FLOAT must not be rounded on its way.
    fn expression(&self) -> String {
        let name = literal::name(&self.name);
        match self.ty {
            TypeName::Enum | TypeName::Set | TypeName::Bit => format!("{name} | 0"),
            TypeName::Float => format!("CAST({name} AS DOUBLE)"),
            _ => name,
        }
    }
}

/// No more rows than this many times `chunk_rows` in a chunk cut by arithmetic.
const SPREAD: u64 = 4;
/// So few steps that the density of the keys does not matter.
const FEW_STEPS: i128 = 64;

/// Keys per chunk when the handles `min..=max` may be cut by arithmetic: when they are dense enough that no chunk is much
/// smaller or larger than the others. None = walk the key. `rows` is an estimate, 0 = unknown.
pub fn integer_step(min: i128, max: i128, rows: u64, chunk_rows: u64) -> Option<i128> {
    let chunk_rows = i128::from(chunk_rows.max(1));
    let span = max - min + 1;
    if span <= chunk_rows.saturating_mul(FEW_STEPS) {
        return Some(chunk_rows);
    }
    let rows = i128::from(rows);
    (rows > 0 && span <= rows * i128::from(SPREAD))
        .then(|| (chunk_rows.saturating_mul(span) / rows).max(chunk_rows))
}

/// Upper bounds of integer chunks: `min + step`, `min + 2 step`, ... up to `max`; the last chunk has no upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerSteps {
    pub next: i128,
    pub max: i128,
    pub step: i128,
}

impl Iterator for IntegerSteps {
    type Item = Literal;

    fn next(&mut self) -> Option<Literal> {
        let bound = self.next.checked_add(self.step.max(1))?;
        if bound > self.max {
            return None;
        }
        self.next = bound;
        Some(Literal::Number(bound.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(min: i128, max: i128, step: i128) -> Vec<i128> {
        IntegerSteps { next: min, max, step }
            .map(|literal| match literal {
                Literal::Number(digits) => digits.parse().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn sparse_and_unknown_handles_are_walked() {
        assert_eq!(integer_step(1, 1_000_000, 1_000_000, 1000), Some(1000));
        assert_eq!(integer_step(1, 1_000_000, 500_000, 1000), Some(2000));
        assert_eq!(integer_step(1, 1_000_000, 100_000, 1000), None);
        assert_eq!(integer_step(1, 1_000_000, 0, 1000), None);
        assert_eq!(integer_step(1, 60_000, 0, 1000), Some(1000));
        assert_eq!(integer_step(i128::from(i64::MIN), i128::from(u64::MAX), u64::MAX, 1), Some(1));
        // statistics far too high do not make tiny chunks
        assert_eq!(integer_step(1, 1_000_000, 900_000_000, 1000), Some(1000));
    }

    proptest! {
        #[test]
        fn integer_chunks_cover_every_key_once(
            keys in prop::collection::vec(prop_oneof![
                any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from), (0i128..1000)
            ], 1..50),
            pieces in 1i128..60,
        ) {
            let (min, max) = (*keys.iter().min().unwrap(), *keys.iter().max().unwrap());
            let step = ((max - min) / pieces).max(1);
            prop_assume!((max - min) / step < 10_000);
            let bounds = steps(min, max, step);
            prop_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
            let mut edges = vec![i128::MIN];
            edges.extend(&bounds);
            edges.push(i128::MAX);
            for key in keys {
                let holding = edges.windows(2).filter(|edge| edge[0] <= key && key < edge[1]).count();
                prop_assert_eq!(holding, 1);
            }
            prop_assert!(bounds.iter().all(|bound| *bound <= max), "no chunk beyond the last key");
        }
    }
}

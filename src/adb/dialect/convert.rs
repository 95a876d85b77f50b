//! Does a MySQL-protocol target turn the values of a column into another type as TiDB does?
//!
//! For a MODIFY COLUMN beyond a wider type of the same family TiDB writes every row anew, by rules of its own, and no message carries
//! them. Only the changes that [`alike`] lists come out the same on both sides (tests/conversions.rs measures them with edge values); a value that does
//! not fit fails there, and stops the DDL. After any other change the table is copied again. Where nobody can be asked for a copy, the changes that
//! [`near`] lists are left to the target, and the DDL's record says so: ordinary values come out the same.

use super::charset::{self, SourceText};
use super::table::TableOptions;
use crate::model::{ColumnType, Dialect, Table, TypeName};
use crate::sql::ddl::ast::AlterClause;

/// Rows that must come from the source after a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    pub reason: String,
    /// The target's own conversion gives ordinary values the same.
    pub near: bool,
}

/// Whether the rows that are there must come from the source after this clause; None when the target's own conversion does.
pub fn rewritten(
    dialect: Dialect,
    before: &Table,
    clause: &AlterClause,
    after: &Table,
    options: &TableOptions,
) -> Option<Rewritten> {
    let AlterClause::ChangeColumn { old, column, .. } = clause else { return None };
    // AnalyticDB refuses what it cannot follow, and a column that is left out has no values.
    if dialect == Dialect::Adb || matches!(options.mapping.clause(clause, before), Ok(None)) {
        return None;
    }
    let (from, to) = (before.column(old)?, after.column(&column.name)?);
    if from.generated.is_some() || to.generated.is_some() {
        return None;
    }
    let schema = SourceText::said(options.schema_charset.as_deref(), options.schema_collation.as_deref());
    let read = |table: &Table, ty: &ColumnType| {
        let said = SourceText::said(table.charset.as_deref(), table.collation.as_deref());
        let text = charset::of_column(ty, said.as_ref(), schema.as_ref());
        let mut ty = ty.clone();
        if text.charset == "binary" {
            ty.name = charset::binary_twin(ty.name);
        }
        (ty, text.charset)
    };
    let ((from, from_charset), (to, to_charset)) = (read(before, &from.ty), read(after, &to.ty));
    if alike(&from, &to) && converts(&from, &from_charset, &to_charset) {
        return None;
    }
    let reason = format!(
        "values of `{}` become {} by TiDB's own rules, which the target's need not be, and no message carries them",
        column.name,
        format!("{:?}", to.name).to_uppercase()
    );
    Some(Rewritten { reason, near: near(&from, &to) })
}

fn near(from: &ColumnType, to: &ColumnType) -> bool {
    use TypeName as T;
    let is_number = |name: T| name.is_integer() || matches!(name, T::Decimal | T::Float | T::Double);
    match (from.name, to.name) {
        (old, new) if alike(from, to) || old.is_text() && new.is_text() => true,
        (old, new) if is_number(old) && is_number(new) => true,
        // Text that is no number fails on both sides.
        (old, new) if old.is_text() && is_number(new) => true,
        (T::Time, T::Time) | (T::DateTime, T::DateTime | T::Date) | (T::Timestamp, T::Timestamp) => true,
        (T::Date, T::DateTime) => true,
        (T::Enum, T::Enum) => from.labels.iter().all(|label| to.labels.contains(label)),
        (T::Decimal | T::Enum | T::Set | T::Date, new) if new.is_text() => true,
        (old, new) => old.is_binary() && new.is_binary() && old != T::Binary && new != T::Binary,
    }
}

/// Text keeps its characters where the new character set has room for all of the old one.
fn converts(from: &ColumnType, old: &str, new: &str) -> bool {
    let textual = from.name.is_text() || matches!(from.name, TypeName::Enum | TypeName::Set);
    !textual || old == new || new == "utf8mb4" || (new == "utf8" && old == "ascii")
}

/// Whether TiDB writes other values where ADB has one type for both; `as_text`: it holds them as their text.
pub(super) fn rewrites(from: &ColumnType, to: &ColumnType, as_text: bool) -> bool {
    use TypeName as T;
    let digits = |ty: &ColumnType| ty.length.unwrap_or(0);
    match (from.name, to.name) {
        (T::Time, T::Time) | (T::DateTime, T::DateTime) | (T::Timestamp, T::Timestamp) => {
            digits(to) < digits(from) || (as_text && digits(to) != digits(from))
        }
        (T::Decimal, T::Decimal) => as_text && to.scale != from.scale,
        (T::Float | T::Double, T::Float | T::Double) => to.scale.is_some() && to.scale != from.scale,
        // Padded, or without the spaces at its end.
        (T::Binary, T::Binary) => to.length != from.length,
        (old, T::Binary) => old.is_binary(),
        (old, T::Char) => old.is_text() && old != T::Char,
        _ => false,
    }
}

/// Whether a value may be one that the new type has not, where ADB has one type for both. The source then refuses the change, or
/// cuts the value in a session without strict mode.
pub(super) fn narrows(from: &ColumnType, to: &ColumnType, as_text: bool) -> bool {
    use TypeName as T;
    let bits = |ty: &ColumnType| ty.length.unwrap_or(1);
    if let (Some((low, high)), Some((least, most))) = (integers(from), integers(to)) {
        return least > low || most < high;
    }
    let loses_sign = to.unsigned && !from.unsigned;
    match (from.name, to.name) {
        (T::Bit, T::Bit) => bits(to) < bits(from),
        (T::Decimal, T::Decimal) => {
            let whole = |ty: &ColumnType| ty.length.unwrap_or(10).saturating_sub(ty.scale.unwrap_or(0));
            loses_sign || (as_text && whole(to) < whole(from))
        }
        (T::Float | T::Double, T::Float | T::Double) => {
            let digits = |ty: &ColumnType| ty.length.filter(|_| ty.scale.is_some()).unwrap_or(u32::MAX);
            loses_sign || digits(to) < digits(from)
        }
        (old, new) if (old.is_text() && new.is_text()) || (old.is_binary() && new.is_binary()) => {
            match (large(old), large(new)) {
                (Some(from), Some(to)) => to < from,
                _ => room(to).0 < room(from).1,
            }
        }
        _ => false,
    }
}

/// Statements' parts, value and condition, that cut a column's values as the source does; None where its rules are not that plain.
pub(super) fn cuts(name: &str, from: &ColumnType, to: &ColumnType) -> Option<Vec<(String, String)>> {
    if let (Some((low, high)), Some((least, most))) = (integers(from), integers(to)) {
        // The nearest one, also of a negative number that loses its sign (seen with TiDB 7.0).
        let above = (most < high).then(|| (most.to_string(), format!("{name} > {most}")));
        let below = (least > low).then(|| (least.to_string(), format!("{name} < {least}")));
        return Some(above.into_iter().chain(below).collect());
    }
    let length = to.length.filter(|_| from.name.is_text() && to.name == TypeName::VarChar)?;
    Some(vec![(format!("LEFT({name}, {length})"), format!("CHAR_LENGTH({name}) > {length}"))])
}

/// The least and the most number of an integer type.
fn integers(ty: &ColumnType) -> Option<(i128, i128)> {
    let bits = match ty.name {
        TypeName::TinyInt => 8,
        TypeName::SmallInt => 16,
        TypeName::MediumInt => 24,
        TypeName::Int => 32,
        TypeName::BigInt => 64,
        _ => return None,
    };
    let half = 1_i128 << (bits - 1);
    Some(if ty.unsigned { (0, 2 * half - 1) } else { (-half, half - 1) })
}

/// How long a value there is room for at least, and how long one may be at most: characters, or bytes of binary types.
fn room(ty: &ColumnType) -> (u64, u64) {
    match large(ty.name) {
        // A character has up to four bytes.
        Some(bytes) if ty.name.is_text() => (bytes / 4, bytes),
        Some(bytes) => (bytes, bytes),
        None => {
            let length = u64::from(ty.length.unwrap_or(1));
            (length, length)
        }
    }
}

/// Bytes that the TEXT and BLOB families have room for.
fn large(name: TypeName) -> Option<u64> {
    use TypeName as T;
    Some(match name {
        T::TinyText | T::TinyBlob => 255,
        T::Text | T::Blob => 65_535,
        T::MediumText | T::MediumBlob => 16_777_215,
        T::LongText | T::LongBlob => u64::from(u32::MAX),
        _ => return None,
    })
}

fn alike(from: &ColumnType, to: &ColumnType) -> bool {
    use TypeName as T;
    let digits = |ty: &ColumnType| ty.length.unwrap_or(0);
    let is_large =
        |name: T| matches!(name, T::VarBinary | T::TinyBlob | T::Blob | T::MediumBlob | T::LongBlob);
    match (from.name, to.name) {
        _ if from == to => true,
        (old, new) if old.is_integer() && new.is_integer() => true,
        (old, T::Decimal) if old.is_integer() => true,
        (old, T::Double) if old.is_integer() && old != T::BigInt => to.scale.is_none(),
        (old, new) if old.is_integer() && new.is_text() => !from.zerofill,
        (T::Decimal, T::Decimal) => to.scale.unwrap_or(0) >= from.scale.unwrap_or(0),
        (T::Bit, T::Bit) => to.length.unwrap_or(1) >= from.length.unwrap_or(1),
        (T::Year, T::Year) => true,
        (T::Time, T::Time) | (T::DateTime, T::DateTime) | (T::Timestamp, T::Timestamp) => {
            digits(to) >= digits(from)
        }
        // CHAR loses the spaces at its end, by rules that differ.
        (old, T::Char) if old.is_text() => old == T::Char && to.length >= from.length,
        (old, new) if old.is_text() && new.is_text() => true,
        (old, new) if is_large(old) && is_large(new) => true,
        (T::Enum, T::Enum) | (T::Set, T::Set) => to.labels.starts_with(&from.labels),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::ddl::{self, ast::Statement};

    fn table(definition: &str) -> Table {
        let text = format!("CREATE TABLE t (id INT PRIMARY KEY, c {definition})");
        match ddl::parse(text.as_bytes()).unwrap().pop() {
            Some(Statement::CreateTable { table, .. }) => table,
            other => panic!("{other:?}"),
        }
    }

    fn of(from: &str, to: &str) -> Option<Rewritten> {
        let (before, mut after) = (table(from), table(from));
        let text = format!("ALTER TABLE t MODIFY COLUMN c {to}");
        let Some(Statement::AlterTable { clauses, .. }) = ddl::parse(text.as_bytes()).unwrap().pop() else {
            panic!("{text}")
        };
        crate::sql::ddl::apply::alter(&mut after, &clauses[0]).unwrap();
        rewritten(Dialect::Mysql, &before, &clauses[0], &after, &TableOptions::default())
    }

    #[test]
    fn only_changes_within_a_family_are_left_to_the_target() {
        for (from, to) in [
            ("INT", "BIGINT UNSIGNED"),
            ("INT", "VARCHAR(20)"),
            ("INT", "DECIMAL(10,2)"),
            ("DECIMAL(10,2)", "DECIMAL(12,4)"),
            ("VARCHAR(10) CHARACTER SET gbk", "TEXT"),
            ("VARCHAR(10)", "VARCHAR(3) COLLATE utf8mb4_general_ci NOT NULL DEFAULT 'x'"),
            ("CHAR(10)", "VARCHAR(3)"),
            ("VARBINARY(10)", "BLOB"),
            ("DATETIME", "DATETIME(6)"),
            ("ENUM('a','b')", "ENUM('a','b','c') NOT NULL"),
            ("BIT(3)", "BIT(64)"),
            ("JSON", "JSON NOT NULL"),
        ] {
            assert_eq!(of(from, to), None, "{from} to {to}");
        }
        for (from, to, near) in [
            ("BIT(3)", "LONGTEXT", false),
            ("INT(6) ZEROFILL", "VARCHAR(20)", false),
            ("VARCHAR(20)", "INT", true),
            ("VARCHAR(20)", "CHAR(20)", true),
            ("VARCHAR(20)", "VARCHAR(20) CHARACTER SET gbk", true),
            ("VARCHAR(20)", "VARBINARY(20)", false),
            ("BINARY(3)", "BINARY(5)", false),
            ("DECIMAL(10,2)", "DECIMAL(10,1)", true),
            ("DATETIME(6)", "DATETIME", true),
            ("DATETIME", "TIMESTAMP", false),
            ("ENUM('a','b')", "ENUM('b','a')", true),
            ("ENUM('a','b')", "ENUM('b','c')", false),
            ("ENUM('a','b')", "VARCHAR(20)", true),
            ("DOUBLE", "FLOAT", true),
            ("BIGINT", "DOUBLE", true),
            ("JSON", "TEXT", false),
        ] {
            assert_eq!(of(from, to).map(|rewritten| rewritten.near), Some(near), "{from} to {to}");
        }
    }
}

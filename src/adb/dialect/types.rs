//! The type of a column on the target, and how its values are written.
//!
//! mysql: the same type. Exceptions: latin1 TEXT one size larger (its characters may need three bytes here), TEXT(n) and BLOB(n) by
//! their size, CHAR and TEXT with the character set `binary` as BINARY and BLOB, no display width but ZEROFILL's and `tinyint(1)`,
//! DOUBLE(m,d) without its digits (the source has rounded; MariaDB rounds -0.001 to -0.0010000000000000009).
//!
//! adb (target-adb-and-dts.md 3.2), where the left side does not exist:
//!
//! | source | adb | | source | adb |
//! |---|---|---|---|---|
//! | TINYINT UNSIGNED | smallint | | BIT | varchar (digits) |
//! | SMALLINT UNSIGNED, MEDIUMINT | int | | YEAR | int |
//! | INT UNSIGNED | bigint | | ENUM, SET | varchar (labels) |
//! | BIGINT UNSIGNED | decimal(20,0) | | CHAR, VARCHAR, TEXT | varchar |
//! | DECIMAL beyond 38 digits | `lossy.decimal` | | BINARY, BLOB | varbinary |
//! | more than milliseconds | `lossy.fraction` | | JSON, FLOAT, DOUBLE, temporal | the same |

use super::charset::TargetText;
use super::problem::Problem;
use crate::adb::encode::{DecimalLimit, Form, Temporal, TemporalKind, ZeroDate};
use crate::model::{Column, ColumnType, TypeName};
use crate::sql::literal;
use crate::task::spec::{LossyPolicies, LossyPolicy};

/// Text of a type, and the form of its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapped {
    pub(super) text: String,
    pub(super) form: Form,
}

/// Digits that a DECIMAL of ADB has.
const ADB_DIGITS: u32 = 38;

fn mapped(text: impl Into<String>, form: Form) -> Mapped {
    Mapped { text: text.into(), form }
}

/// `text`: character set and collation of a text, ENUM or SET column.
pub(super) fn mysql(ty: &ColumnType, text: &TargetText) -> Mapped {
    let length = |default: u32| ty.length.unwrap_or(default);
    let with_charset =
        |name: String| format!("{name} CHARACTER SET {} COLLATE {}", text.charset, text.collation);
    let temporal = |name: &str, kind: TemporalKind| {
        let name = match ty.length.unwrap_or(0) {
            0 => name.to_owned(),
            digits => format!("{name}({digits})"),
        };
        mapped(name, Form::Temporal(Temporal::exact(kind)))
    };
    let form_text = Form::Text { latin1: text.latin1 };
    let form_binary = Form::Binary { long_as_string: true };
    match ty.name {
        TypeName::TinyInt | TypeName::SmallInt | TypeName::MediumInt | TypeName::Int | TypeName::BigInt => {
            let name = integer_name(ty.name);
            let width = match (ty.name, ty.length) {
                (_, Some(width)) if ty.zerofill => format!("({width})"),
                (TypeName::TinyInt, Some(1)) => "(1)".to_owned(),
                _ => String::new(),
            };
            mapped(format!("{name}{width}{}", sign(ty)), Form::Integer)
        }
        TypeName::Float | TypeName::Double => {
            // FLOAT(p) with p > 24 is a double.
            let double = ty.name == TypeName::Double || (ty.scale.is_none() && length(0) > 24);
            let name = if double { "double" } else { "float" };
            let digits = match (ty.length, ty.scale) {
                (Some(digits), Some(scale)) if !double => format!("({digits},{scale})"),
                _ => String::new(),
            };
            let form = if double { Form::Double } else { Form::Float };
            mapped(format!("{name}{digits}{}", sign(ty)), form)
        }
        TypeName::Decimal => {
            let (digits, scale) = decimal(ty);
            mapped(
                format!("decimal({digits},{scale}){}", sign(ty)),
                Form::Decimal { limit: None, quoted: false },
            )
        }
        TypeName::Bit => mapped(format!("bit({})", length(1)), Form::Bits { quoted: false }),
        TypeName::Year => mapped("year", Form::Year),
        TypeName::Date => mapped("date", Form::Temporal(Temporal::exact(TemporalKind::Date))),
        TypeName::Time => temporal("time", TemporalKind::Time),
        TypeName::DateTime => temporal("datetime", TemporalKind::DateTime),
        TypeName::Timestamp => temporal("timestamp", TemporalKind::Timestamp),
        TypeName::Char => mapped(with_charset(format!("char({})", length(1))), form_text),
        TypeName::VarChar => mapped(with_charset(format!("varchar({})", length(1))), form_text),
        TypeName::TinyText | TypeName::Text | TypeName::MediumText | TypeName::LongText => {
            let size = large_size(ty, text.width()) + usize::from(text.latin1);
            let name =
                ["tinytext", "text", "mediumtext", "longtext"].get(size).copied().unwrap_or("longtext");
            mapped(with_charset(name.to_owned()), form_text)
        }
        TypeName::Binary => mapped(format!("binary({})", length(1)), form_binary),
        TypeName::VarBinary => mapped(format!("varbinary({})", length(1)), form_binary),
        TypeName::TinyBlob | TypeName::Blob | TypeName::MediumBlob | TypeName::LongBlob => {
            let name = ["tinyblob", "blob", "mediumblob", "longblob"]
                .get(large_size(ty, 1))
                .copied()
                .unwrap_or("longblob");
            mapped(name, form_binary)
        }
        TypeName::Enum => mapped(
            with_charset(format!("enum({})", label_list(ty))),
            Form::EnumNumber { labels: ty.labels.len() as u64 },
        ),
        TypeName::Set => {
            mapped(with_charset(format!("set({})", label_list(ty))), Form::SetNumber { mask: set_mask(ty) })
        }
        TypeName::Json => mapped("json", Form::Json),
    }
}

/// `exact`: the column is part of the identity, distribution or partition, where no value may be changed.
///
/// # Errors
/// A policy refuses the type, or would change values of an `exact` column.
pub(super) fn adb(
    column: &Column,
    latin1: bool,
    lossy: &LossyPolicies,
    exact: bool,
) -> Result<Mapped, Problem> {
    let ty = &column.ty;
    let varchar = |length: Option<u32>| length.map_or("varchar".to_owned(), |n| format!("varchar({n})"));
    let varbinary =
        |length: Option<u32>| length.map_or("varbinary".to_owned(), |n| format!("varbinary({n})"));
    let form_text = Form::Text { latin1 };
    let form_binary = Form::Binary { long_as_string: false };
    let labels = || ty.labels.iter().map(|label| label.as_str().into()).collect();
    Ok(match ty.name {
        TypeName::TinyInt | TypeName::SmallInt | TypeName::MediumInt | TypeName::Int | TypeName::BigInt => {
            let name = match (ty.name, ty.unsigned || ty.zerofill) {
                (TypeName::TinyInt, false) => "tinyint",
                (TypeName::TinyInt, true) | (TypeName::SmallInt, false) => "smallint",
                (TypeName::SmallInt, true) | (TypeName::MediumInt, _) | (TypeName::Int, false) => "int",
                (TypeName::Int, true) | (_, false) => "bigint",
                _ => "decimal(20,0)",
            };
            mapped(name, Form::Integer)
        }
        TypeName::Float if ty.scale.is_some() || ty.length.unwrap_or(0) <= 24 => mapped("float", Form::Float),
        TypeName::Float | TypeName::Double => mapped("double", Form::Double),
        TypeName::Decimal => adb_decimal(column, lossy.decimal, exact)?,
        TypeName::Bit => mapped("varchar(20)", Form::Bits { quoted: true }),
        TypeName::Year => mapped("int", Form::Year),
        TypeName::Date => adb_temporal(column, "date", TemporalKind::Date, lossy, exact)?,
        TypeName::Time => adb_temporal(column, "time", TemporalKind::Time, lossy, exact)?,
        TypeName::DateTime => adb_temporal(column, "datetime", TemporalKind::DateTime, lossy, exact)?,
        TypeName::Timestamp => adb_temporal(column, "timestamp", TemporalKind::Timestamp, lossy, exact)?,
        TypeName::Char | TypeName::VarChar => mapped(varchar(Some(ty.length.unwrap_or(1))), form_text),
        TypeName::TinyText | TypeName::Text | TypeName::MediumText | TypeName::LongText => {
            mapped(varchar(None), form_text)
        }
        TypeName::Binary | TypeName::VarBinary => {
            mapped(varbinary(Some(ty.length.unwrap_or(1))), form_binary)
        }
        TypeName::TinyBlob | TypeName::Blob | TypeName::MediumBlob | TypeName::LongBlob => {
            mapped(varbinary(None), form_binary)
        }
        TypeName::Enum => {
            let longest = ty.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(1);
            mapped(format!("varchar({longest})"), Form::EnumLabel(labels()))
        }
        TypeName::Set => {
            let all: usize = ty.labels.iter().map(|label| label.chars().count() + 1).sum();
            mapped(format!("varchar({})", all.saturating_sub(1).max(1)), Form::SetLabels(labels()))
        }
        TypeName::Json => mapped("json", Form::Json),
    })
}

fn adb_decimal(column: &Column, policy: LossyPolicy, exact: bool) -> Result<Mapped, Problem> {
    let (digits, scale) = decimal(&column.ty);
    if digits <= ADB_DIGITS {
        return Ok(mapped(
            format!("decimal({digits},{scale})"),
            Form::Decimal { limit: None, quoted: false },
        ));
    }
    let detail = format!("decimal({digits},{scale}) has more than the {ADB_DIGITS} digits of the target");
    match policy {
        LossyPolicy::Refuse => Err(Problem::refuse(
            &column.name,
            detail,
            "set lossy.decimal to `varchar` (exact, as text) or `clamp` (rounded, counted)",
        )),
        LossyPolicy::Clamp if exact => Err(Problem::refuse(&column.name, detail, EXACT_DECIMAL)),
        LossyPolicy::Clamp => {
            let integer = (digits - scale).min(ADB_DIGITS);
            let scale = ADB_DIGITS - integer;
            Ok(mapped(
                format!("decimal({ADB_DIGITS},{scale})"),
                Form::Decimal { limit: Some(DecimalLimit { integer, scale }), quoted: false },
            ))
        }
        LossyPolicy::Varchar => Ok(mapped(
            // sign and point
            format!("varchar({})", digits + 2),
            Form::Decimal { limit: None, quoted: true },
        )),
    }
}

/// Nothing that identifies a row may be clamped: two rows could become one.
const EXACT_DECIMAL: &str = "a key, distribution or partition column cannot be clamped: set lossy.decimal to `varchar` (exact, as text)";
const EXACT_FRACTION: &str = "a key, distribution or partition column cannot be clamped: set lossy.fraction to `varchar` (exact, as text)";

fn adb_temporal(
    column: &Column,
    name: &str,
    kind: TemporalKind,
    lossy: &LossyPolicies,
    exact: bool,
) -> Result<Mapped, Problem> {
    let digits = column.ty.length.unwrap_or(0);
    let fine = kind != TemporalKind::Date && digits > 3;
    let day = kind != TemporalKind::Time;
    let as_text = (fine && lossy.fraction == LossyPolicy::Varchar)
        || (day && lossy.zero_date == LossyPolicy::Varchar)
        || (!day && lossy.time == LossyPolicy::Varchar);
    if as_text {
        return Ok(mapped("varchar(26)", Form::Temporal(Temporal::exact(kind))));
    }
    if fine && (exact || lossy.fraction == LossyPolicy::Refuse) {
        let hint = if exact {
            EXACT_FRACTION
        } else {
            "set lossy.fraction to `clamp` (cut to milliseconds, counted) or `varchar`"
        };
        let detail = format!("{name}({digits}) is finer than the milliseconds of the target");
        return Err(Problem::refuse(&column.name, detail, hint));
    }
    let strict = |policy: LossyPolicy| if exact { LossyPolicy::Refuse } else { policy };
    let zero_date = match (day, strict(lossy.zero_date), column.nullable) {
        (false, ..) => ZeroDate::Keep,
        (true, LossyPolicy::Clamp, true) => ZeroDate::Null,
        (true, LossyPolicy::Clamp, false) => ZeroDate::FirstDay,
        (true, ..) => ZeroDate::Refuse,
    };
    let temporal = Temporal {
        kind,
        zero_date,
        time: (!day).then(|| strict(lossy.time)),
        fraction: Some(strict(lossy.fraction)),
    };
    Ok(mapped(name, Form::Temporal(temporal)))
}

fn integer_name(name: TypeName) -> &'static str {
    match name {
        TypeName::TinyInt => "tinyint",
        TypeName::SmallInt => "smallint",
        TypeName::MediumInt => "mediumint",
        TypeName::BigInt => "bigint",
        _ => "int",
    }
}

/// ZEROFILL implies UNSIGNED.
fn sign(ty: &ColumnType) -> &'static str {
    match (ty.zerofill, ty.unsigned) {
        (true, _) => " unsigned zerofill",
        (false, true) => " unsigned",
        (false, false) => "",
    }
}

/// Precision and scale.
pub(super) fn decimal(ty: &ColumnType) -> (u32, u32) {
    (ty.length.unwrap_or(10), ty.scale.unwrap_or(0))
}

pub(super) fn label_list(ty: &ColumnType) -> String {
    ty.labels.iter().map(|label| literal::string(label)).collect::<Vec<_>>().join(",")
}

fn set_mask(ty: &ColumnType) -> u64 {
    match ty.labels.len() {
        64.. => u64::MAX,
        labels => (1 << labels) - 1,
    }
}

/// 0 tiny, 1 plain, 2 medium, 3 long: of the name, or of `TEXT(n)`'s length where that is larger.
pub(super) fn large_size(ty: &ColumnType, width: u64) -> usize {
    let named = match ty.name {
        TypeName::TinyText | TypeName::TinyBlob => 0,
        TypeName::Text | TypeName::Blob => 1,
        TypeName::MediumText | TypeName::MediumBlob => 2,
        _ => 3,
    };
    let said = match u64::from(ty.length.unwrap_or(0)) * width {
        0..=255 => 0,
        256..=65_535 => 1,
        65_536..=16_777_215 => 2,
        _ => 3,
    };
    named.max(said)
}

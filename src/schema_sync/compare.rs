//! Whether a table that is on the target takes every row that the source may send, and keeps rows apart that the source keeps apart.
//!
//! | existing | verdict |
//! |---|---|
//! | a column is missing, narrower, NOT NULL where the source allows NULL, or generated | refuse |
//! | a wider type, nullable where the source is not, other defaults, comments, plain indexes | use |
//! | a column more than the source has (REPLACE would reset it) | refuse; a generated one: use |
//! | ENUM or SET with other labels in the source's places (rows carry numbers) | refuse; more labels behind them: use |
//! | no key over exactly the columns that identify a row | refuse; where the target does not tell: warn |
//! | a unique key that the source does not have | refuse, unless it contains the identity |
//! | a key column compared more loosely than at the source | refuse |

use std::collections::BTreeSet;

use super::inspect::{ExistingColumn, ExistingKey, ExistingTable, TargetState};
use super::shape::Shape;
use crate::adb::dialect::{Problem, TargetColumn, TargetTable};
use crate::model::Dialect;

/// Reasons against writing `wanted` into `existing`.
pub fn compare(wanted: &TargetTable, existing: &ExistingTable) -> Vec<Problem> {
    let mut problems = Vec::new();
    let object = |column: &str| format!("{}.{column}", existing.name);
    let mut refuse = |column: &str, detail: String, hint: &str| {
        problems.push(Problem::refuse(object(column), detail, hint));
    };
    if existing.is_view {
        return vec![Problem::refuse(
            &existing.name,
            "is a view on the target",
            "drop it, or map the table to another name",
        )];
    }
    let unique = unique_columns(wanted);
    for column in &wanted.columns {
        let Some(found) = find(existing, &column.name) else {
            refuse(&column.name, format!("is missing; the source has {}", column.type_text), CHANGE);
            continue;
        };
        if found.generated {
            refuse(
                &column.name,
                "is a generated column on the target, an ordinary one at the source".to_owned(),
                CHANGE,
            );
            continue;
        }
        if column.nullable && !found.nullable {
            refuse(&column.name, "is NOT NULL, the source's column may be NULL".to_owned(), CHANGE);
        }
        if let Err(why) = fits(wanted.dialect, column, found, unique.contains(&column.name.to_lowercase())) {
            refuse(
                &column.name,
                format!("is {}, the source needs {}: {why}", found.column_type, column.type_text),
                CHANGE,
            );
        }
    }
    for column in &wanted.generated {
        if find(existing, &column.name).is_some_and(|found| !found.generated) {
            refuse(
                &column.name,
                "is an ordinary column on the target, a generated one at the source: nobody would write it"
                    .to_owned(),
                CHANGE,
            );
        }
    }
    for found in existing.columns.iter().filter(|column| !column.generated) {
        let name = found.name.to_lowercase();
        let known = wanted
            .columns
            .iter()
            .map(|column| &column.name)
            .chain(wanted.generated.iter().map(|column| &column.name));
        if !known.into_iter().any(|other| other.to_lowercase() == name) {
            refuse(
                &found.name,
                "is not a column of the source: every REPLACE would reset it".to_owned(),
                "drop it, or make it a generated column",
            );
        }
    }
    problems.extend(compare_keys(wanted, existing));
    problems
}

/// Reasons against writing `wanted` into the target's table of that name; None where there is none. With `keep_other_columns` the target may
/// have columns that the source has not, by policy.
pub fn refusals(
    wanted: &TargetTable,
    state: &mut TargetState,
    keep_other_columns: bool,
) -> Option<Vec<Problem>> {
    if keep_other_columns && let Some(existing) = state.tables.get_mut(&wanted.name) {
        existing.columns.retain(|column| wanted.column(&column.name).is_some());
    }
    let existing = state.table(&wanted.name)?;
    Some(compare(wanted, existing).into_iter().filter(Problem::is_refusal).collect())
}

const CHANGE: &str = "change the table on the target, or drop it so that it is created";

fn find<'a>(existing: &'a ExistingTable, name: &str) -> Option<&'a ExistingColumn> {
    existing.columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase())
}

/// Lower-case names of the columns of all unique keys.
fn unique_columns(wanted: &TargetTable) -> BTreeSet<String> {
    wanted
        .keys
        .iter()
        .filter(|key| key.is_unique())
        .flat_map(|key| key.parts.iter().map(|(name, _)| name.to_lowercase()))
        .collect()
}

type Parts = BTreeSet<(String, Option<u32>)>;

fn identity_parts(wanted: &TargetTable) -> Option<Parts> {
    wanted.identity.as_ref()?;
    let names: BTreeSet<String> =
        wanted.identity_columns().map(|column| column.name.to_lowercase()).collect();
    // The key as the target would be given it: with its prefixes.
    let key = wanted
        .keys
        .iter()
        .filter(|key| key.is_unique())
        .map(wanted_parts)
        .find(|parts| parts.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>() == names);
    Some(key.unwrap_or_else(|| names.into_iter().map(|name| (name, None)).collect()))
}

fn wanted_parts(key: &crate::adb::dialect::TargetKey) -> Parts {
    key.parts.iter().map(|(name, prefix)| (name.to_lowercase(), *prefix)).collect()
}

/// None for a key with an expression.
fn existing_parts(key: &ExistingKey) -> Option<Parts> {
    key.parts.iter().map(|(name, prefix)| name.as_ref().map(|name| (name.to_lowercase(), *prefix))).collect()
}

fn compare_keys(wanted: &TargetTable, existing: &ExistingTable) -> Vec<Problem> {
    let mut problems = Vec::new();
    let identity = identity_parts(wanted);
    let Some(keys) = &existing.unique_keys else {
        problems.push(Problem::warn(
            &existing.name,
            "the target does not tell the table's primary key",
            "make sure that it is the one which /plan would create",
        ));
        return problems;
    };
    if let Some(identity) = &identity
        && !keys.iter().any(|key| existing_parts(key).as_ref() == Some(identity))
    {
        let columns: Vec<_> = wanted.identity_columns().map(|column| column.name.as_str()).collect();
        problems.push(Problem::refuse(
            &existing.name,
            format!("has no primary or unique key over exactly ({})", columns.join(", ")),
            CHANGE,
        ));
    }
    for key in keys {
        let parts = existing_parts(key);
        let known = parts.as_ref().is_some_and(|parts| {
            identity.as_ref().is_some_and(|identity| identity.is_subset(parts))
                || wanted
                    .keys
                    .iter()
                    .filter(|key| key.is_unique())
                    .any(|key| wanted_parts(key).is_subset(parts))
        });
        if !known {
            problems.push(Problem::refuse(
                format!("{} index {}", existing.name, key.name),
                "is a unique key that the source does not have: its rows would displace each other",
                "drop this index on the target",
            ));
        }
    }
    problems
}

/// Whether the existing table enforces unique keys besides the identity. One that contains the identity cannot collide before it.
pub(super) fn has_other_unique_keys(wanted: &TargetTable, existing: &ExistingTable) -> bool {
    let identity = identity_parts(wanted);
    existing.unique_keys.iter().flatten().any(|key| match (existing_parts(key), &identity) {
        (Some(parts), Some(identity)) => !identity.is_subset(&parts),
        _ => true,
    })
}

/// Whether every value of the wanted column has its place in the existing one.
fn fits(
    dialect: Dialect,
    column: &TargetColumn,
    found: &ExistingColumn,
    unique: bool,
) -> Result<(), &'static str> {
    let wanted = Shape::parse(&column.type_text);
    let existing = Shape::parse(&found.column_type);
    let (want, have) = (wanted.base.as_str(), existing.base.as_str());
    let fraction = |shape: &Shape| shape.number(0, 0);
    match want {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => match (wanted.range(), existing.range()) {
            (Some(wanted), Some(existing)) if existing.0 <= wanted.0 && existing.1 >= wanted.1 => Ok(()),
            (_, Some(_)) => Err("a smaller range"),
            _ => Err("another type"),
        },
        "decimal" => {
            let digits =
                |shape: &Shape| (shape.number(0, 10).saturating_sub(shape.number(1, 0)), shape.number(1, 0));
            let (integer, scale) = digits(&wanted);
            match have {
                "decimal" if existing.unsigned && !wanted.unsigned => Err("a smaller range"),
                "decimal" if digits(&existing).0 >= integer && digits(&existing).1 >= scale => Ok(()),
                "decimal" => Err("fewer digits"),
                _ => Err("another type"),
            }
        }
        "float" | "double" => match have {
            _ if existing.unsigned && !wanted.unsigned => Err("a smaller range"),
            "double" if existing.numbers.is_empty() || existing.numbers == wanted.numbers => Ok(()),
            "float"
                if want == "float" && (existing.numbers.len() < 2 || existing.numbers == wanted.numbers) =>
            {
                Ok(())
            }
            "float" | "double" => Err("less precise"),
            _ => Err("another type"),
        },
        "bit" if have == "bit" => at_least(existing.number(0, 1), wanted.number(0, 1)),
        "year" => match (have, existing.range()) {
            ("year", _) => Ok(()),
            (_, Some((low, high))) if low <= 0 && high >= 2155 => Ok(()),
            _ => Err("another type"),
        },
        "date" if matches!(have, "date" | "datetime") => Ok(()),
        // Both are UTC text to us; TIMESTAMP holds fewer years.
        "timestamp" if matches!(have, "timestamp" | "datetime") => {
            coarser(dialect, fraction(&wanted), fraction(&existing))
        }
        "time" | "datetime" if want == have => coarser(dialect, fraction(&wanted), fraction(&existing)),
        "enum" | "set" if want == have => {
            if existing.labels.starts_with(&wanted.labels) {
                Ok(())
            } else {
                Err("other labels, or in another order: rows carry their numbers")
            }
        }
        "json" if have == "json" || have == "longtext" => Ok(()),
        _ if wanted.is_binary() => match existing.bytes(1) {
            Some(_) if !existing.is_binary() => Err("another type"),
            // BINARY pads with zero bytes.
            Some(_) if have == "binary" && have != want => Err("pads values"),
            Some(bytes) if dialect == Dialect::Adb || Some(bytes) >= wanted.bytes(1) => Ok(()),
            Some(_) => Err("shorter"),
            None => Err("another type"),
        },
        _ if wanted.is_text() => text_fits(dialect, &wanted, &existing, found, unique),
        _ => Err("another type"),
    }
}

fn text_fits(
    dialect: Dialect,
    wanted: &Shape,
    existing: &Shape,
    found: &ExistingColumn,
    unique: bool,
) -> Result<(), &'static str> {
    if !existing.is_text() {
        return Err("another type");
    }
    if existing.base == "char" && wanted.base != "char" {
        return Err("strips trailing spaces");
    }
    if dialect == Dialect::Adb {
        // Lengths are not enforced, there is one character set and one way to compare.
        return Ok(());
    }
    let same_kind = matches!(existing.base.as_str(), "char" | "varchar")
        && matches!(wanted.base.as_str(), "char" | "varchar");
    let enough = if same_kind {
        existing.number(0, 1) >= wanted.number(0, 1)
    } else if matches!(existing.base.as_str(), "char" | "varchar") {
        // A TEXT may be all one-byte characters.
        existing.bytes(1) >= wanted.bytes(1)
    } else {
        existing.bytes(4) >= wanted.bytes(4)
    };
    if !enough {
        return Err("shorter");
    }
    let plain = |name: &str| name.replace("utf8mb3", "utf8");
    let charset = found.charset.as_deref().map(plain).unwrap_or_default();
    let needed = wanted.charset.as_deref().map(plain).unwrap_or_default();
    if charset != "utf8mb4" && charset != needed {
        return Err("a character set that lacks characters of the source's");
    }
    let collation = found.collation.as_deref().map(plain).unwrap_or_default();
    let needed = wanted.collation.as_deref().map(plain).unwrap_or_default();
    let pads = |name: &str| !name.contains("nopad") && !name.contains("0900");
    let loose =
        (needed.ends_with("_bin") && !collation.ends_with("_bin")) || (!pads(&needed) && pads(&collation));
    if unique && collation != needed && loose {
        return Err("a collation in which different keys of the source are equal");
    }
    Ok(())
}

fn at_least(existing: u64, wanted: u64) -> Result<(), &'static str> {
    if existing >= wanted { Ok(()) } else { Err("shorter") }
}

/// Fractional digits; ADB has but one kind.
fn coarser(dialect: Dialect, wanted: u64, existing: u64) -> Result<(), &'static str> {
    if dialect == Dialect::Adb || existing >= wanted { Ok(()) } else { Err("fewer fractional digits") }
}

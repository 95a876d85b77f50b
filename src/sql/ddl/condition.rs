//! Which rows live in a partition, as SQL: targets are not partitioned like the source, so dropping or truncating a partition
//! becomes a DELETE over its rows (source-drainer.md 0.13).

use crate::model::{Partitioning, Table, TypeName};
use crate::sql::literal;

use super::apply::ApplyError;
use super::apply_partitions;
use super::create::same_name;
use super::expression;

/// A condition in MySQL's syntax that holds for exactly the rows of the named partitions; it is never NULL for one of them.
/// Put it in parentheses when joining it with other conditions.
///
/// `table` is the table before the statement: a RANGE partition begins where the one before it ends. Columns are in backticks
/// in the source's spelling. NULL belongs to the lowest RANGE partition and to HASH partition 0, as in TiDB.
///
/// Strings are compared in the target's collation; a target whose collation differs from the source's may draw the border
/// elsewhere. KEY and interval partitioning, and bounds that depend on the session's time zone, are
/// [`ApplyError::Unsupported`]: nothing says which rows are meant.
pub fn partition_condition(table: &Table, names: &[String]) -> Result<String, ApplyError> {
    let Some(partitioning) = &table.partitioning else {
        return Err(ApplyError::contradiction(format!("{} is not partitioned", table.name)));
    };
    if names.is_empty() {
        return Err(ApplyError::Missing { what: "a partition to select".to_owned() });
    }
    let known = apply_partitions::names(partitioning).unwrap_or_default();
    let mut alternatives = Vec::with_capacity(names.len());
    for name in names {
        let at = known.iter().position(|other| same_name(other, name));
        alternatives.push(match partitioning {
            Partitioning::Range { expression, columns, partitions } => {
                let operands = operands(table, expression, *columns)?;
                let at = found(at, name)?;
                let below = at.checked_sub(1).and_then(|below| partitions.get(below));
                let (_, upper) = partitions.get(at).ok_or_else(|| ApplyError::missing("partition", name))?;
                range(&operands, below.map(|(_, bound)| bound.as_slice()), upper)?
            }
            Partitioning::List { expression, columns, partitions } => {
                let operands = operands(table, expression, *columns)?;
                let at = found(at, name)?;
                let (_, values) = partitions.get(at).ok_or_else(|| ApplyError::missing("partition", name))?;
                let all: Vec<&Vec<String>> = partitions.iter().flat_map(|(_, values)| values).collect();
                list(&operands, values, &all)?
            }
            Partitioning::Hash { expression, count, .. } => {
                hash(table, expression, *count, found(at, name)?)?
            }
            Partitioning::Key { .. } => {
                return Err(unsupported("rows of a KEY partition cannot be told by a condition"));
            }
            Partitioning::Other { .. } => {
                return Err(unsupported("the partitions of this table are not listed in its definition"));
            }
        });
    }
    Ok(join(alternatives, "OR"))
}

/// The same for the partitions in front of the one with this bound.
pub fn condition_in_front_of(table: &Table, bound: &[String]) -> Result<String, ApplyError> {
    let known = table.partitioning.as_ref().and_then(|known| apply_partitions::in_front_of(known, bound));
    match known {
        Some(names) if names.is_empty() => Ok(FALSE.to_owned()),
        Some(names) => partition_condition(table, &names),
        None => Err(unsupported("no partition with this bound is listed in the table's definition")),
    }
}

fn found(at: Option<usize>, name: &str) -> Result<usize, ApplyError> {
    at.ok_or_else(|| ApplyError::missing("partition", name))
}

fn unsupported(what: &str) -> ApplyError {
    ApplyError::Unsupported {
        what: what.to_owned(),
        hint: "delete the partition's rows on the target by hand and skip the event, or take the table out of the task and add it again".to_owned(),
    }
}

/// A side of a comparison: a column or an expression over columns.
struct Operand {
    sql: String,
    nullable: bool,
}

impl Operand {
    fn is_null(&self) -> String {
        format!("{} IS NULL", self.sql)
    }
}

fn operands(table: &Table, expression: &[String], columns: bool) -> Result<Vec<Operand>, ApplyError> {
    if columns {
        return expression
            .iter()
            .map(|name| {
                let column = table.column(name).ok_or_else(|| ApplyError::missing("column", name))?;
                Ok(Operand { sql: literal::name(&column.name), nullable: column.nullable })
            })
            .collect();
    }
    let sql = expression.first().and_then(|text| expression::quote_columns(text, table));
    let sql = sql.ok_or_else(|| unsupported("the partitioning expression cannot be read"))?;
    let column = table.columns.iter().find(|column| literal::name(&column.name) == sql);
    Ok(vec![match column {
        Some(column) => Operand { sql, nullable: column.nullable },
        // Functions give NULL for odd values too.
        None => Operand { sql: format!("({sql})"), nullable: true },
    }])
}

fn join(mut parts: Vec<String>, with: &str) -> String {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let parts: Vec<String> = parts.into_iter().map(|part| format!("({part})")).collect();
    parts.join(&format!(" {with} "))
}

fn is_word(value: &str, word: &str) -> bool {
    value.eq_ignore_ascii_case(word)
}

/// A bound or value is copied into the statement, so it must mean the same there.
fn constant(value: &str) -> Result<&str, ApplyError> {
    let upper = value.to_ascii_uppercase();
    if upper.contains("UNIX_TIMESTAMP") || upper.contains("FROM_UNIXTIME") {
        return Err(unsupported("a partition's bound depends on the session's time zone at its creation"));
    }
    Ok(value)
}

const TRUE: &str = "1 = 1";
const FALSE: &str = "1 = 0";

fn range(operands: &[Operand], lower: Option<&[String]>, upper: &[String]) -> Result<String, ApplyError> {
    let mut parts = Vec::new();
    if let Some(lower) = lower {
        parts.push(not_below(operands, lower)?);
    }
    let unbounded = upper.first().is_some_and(|bound| is_word(bound, "MAXVALUE"));
    if !unbounded {
        // Above a lower bound nothing is NULL in the first place.
        parts.push(below(operands, upper, lower.is_none() || operands.len() > 1)?);
    }
    Ok(if parts.is_empty() { TRUE.to_owned() } else { join(parts, "AND") })
}

/// `operands < bound` in the order of tuples, NULL lowest. True or false, never NULL, when `nulls` is set.
fn below(operands: &[Operand], bound: &[String], nulls: bool) -> Result<String, ApplyError> {
    check_width(operands, bound)?;
    let mut condition: Option<String> = None;
    for (operand, value) in operands.iter().zip(bound).rev() {
        if is_word(value, "MAXVALUE") {
            condition = Some(TRUE.to_owned());
            continue;
        }
        let value = constant(value)?;
        let mut parts = vec![format!("{} < {value}", operand.sql)];
        if nulls && operand.nullable {
            parts.push(operand.is_null());
        }
        if let Some(rest) = condition.filter(|rest| rest != FALSE) {
            parts.push(format!("{} = {value} AND ({rest})", operand.sql));
        }
        condition = Some(join(parts, "OR"));
    }
    Ok(condition.unwrap_or_else(|| FALSE.to_owned()))
}

fn not_below(operands: &[Operand], bound: &[String]) -> Result<String, ApplyError> {
    check_width(operands, bound)?;
    if bound.first().is_some_and(|value| is_word(value, "MAXVALUE")) {
        return Ok(FALSE.to_owned());
    }
    if let ([operand], [value]) = (operands, bound) {
        return Ok(format!("{} >= {}", operand.sql, constant(value)?));
    }
    Ok(format!("NOT ({})", below(operands, bound, true)?))
}

fn check_width(operands: &[Operand], values: &[String]) -> Result<(), ApplyError> {
    if operands.len() == values.len() {
        return Ok(());
    }
    Err(ApplyError::contradiction(format!(
        "{} partitioning columns against {} values",
        operands.len(),
        values.len()
    )))
}

fn list(operands: &[Operand], values: &[Vec<String>], all: &[&Vec<String>]) -> Result<String, ApplyError> {
    let is_default = |tuple: &[String]| matches!(tuple, [value] if is_word(value, "DEFAULT"));
    let mut parts = Vec::new();
    let own: Vec<&[String]> = values.iter().map(Vec::as_slice).filter(|tuple| !is_default(tuple)).collect();
    if !own.is_empty() {
        parts.push(one_of(operands, &own)?);
    }
    if values.iter().any(|tuple| is_default(tuple)) {
        let listed: Vec<&[String]> =
            all.iter().map(|tuple| tuple.as_slice()).filter(|tuple| !is_default(tuple)).collect();
        parts.push(if listed.is_empty() {
            TRUE.to_owned()
        } else {
            format!("NOT ({})", one_of(operands, &listed)?)
        });
    }
    Ok(if parts.is_empty() { FALSE.to_owned() } else { join(parts, "OR") })
}

/// True when the operands are one of the tuples, false otherwise, never NULL.
fn one_of(operands: &[Operand], tuples: &[&[String]]) -> Result<String, ApplyError> {
    let mut parts = Vec::new();
    if let [operand] = operands {
        let mut values = Vec::new();
        let mut null = false;
        for tuple in tuples {
            check_width(operands, tuple)?;
            for value in *tuple {
                if is_word(value, "NULL") {
                    null = true;
                } else {
                    values.push(constant(value)?);
                }
            }
        }
        if !values.is_empty() {
            let known = format!("{} IN ({})", operand.sql, values.join(", "));
            let guard = operand.nullable && !null;
            parts.push(if guard { format!("{} IS NOT NULL AND {known}", operand.sql) } else { known });
        }
        if null {
            parts.push(operand.is_null());
        }
        return Ok(join(parts, "OR"));
    }
    for tuple in tuples {
        check_width(operands, tuple)?;
        let mut equal = Vec::new();
        for (operand, value) in operands.iter().zip(*tuple) {
            equal.push(if is_word(value, "NULL") {
                operand.is_null()
            } else if operand.nullable {
                format!("{} IS NOT NULL AND {} = {}", operand.sql, operand.sql, constant(value)?)
            } else {
                format!("{} = {}", operand.sql, constant(value)?)
            });
        }
        parts.push(join(equal, "AND"));
    }
    Ok(join(parts, "OR"))
}

/// TiDB takes the expression as a signed 64-bit number, its remainder, and the absolute value of that
/// (`locateHashPartition`); NULL is in partition 0.
fn hash(table: &Table, text: &str, count: u32, at: usize) -> Result<String, ApplyError> {
    let operand = operands(table, &[text.to_owned()], false)?;
    let Some(operand) = operand.first() else { return Err(unsupported("no partitioning expression")) };
    // Numbers above the signed range wrap around.
    let wraps = table.columns.iter().any(|column| {
        column.ty.name == TypeName::BigInt
            && column.ty.unsigned
            && expression::names_column(text, &column.name)
    });
    let number = if wraps { format!("CAST({} AS SIGNED)", operand.sql) } else { operand.sql.clone() };
    let condition = format!("ABS(MOD({number}, {count})) = {at}");
    if at == 0 && operand.nullable {
        return Ok(format!("{condition} OR {}", operand.is_null()));
    }
    Ok(condition)
}

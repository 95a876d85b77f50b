//! PARTITION BY and partition definitions.

use crate::model::Partitioning;

use super::ast::PartitionDefinitions;
use super::cursor::Cursor;
use super::error::DdlError;
use super::table_option;

/// What follows `PARTITION BY`, with the options that belong to it.
pub(super) fn partitioning(cursor: &mut Cursor<'_>) -> Result<Partitioning, DdlError> {
    let mark = cursor.mark();
    // TiDB takes LINEAR for nothing.
    cursor.take(&["LINEAR"]);
    let partitioning = if cursor.take(&["HASH"]) {
        let expression = cursor.group()?;
        let (count, names) = count_and_names(cursor)?;
        Partitioning::Hash { expression, count, names }
    } else if cursor.take(&["KEY"]) {
        if cursor.take(&["ALGORITHM"]) {
            table_option::value(cursor)?;
        }
        let columns = if cursor.is_symbol(0, "(") && cursor.is_symbol(1, ")") {
            cursor.group()?;
            Vec::new()
        } else {
            cursor.names_in_parentheses("a column name")?
        };
        let (count, _) = count_and_names(cursor)?;
        Partitioning::Key { columns, count }
    } else if cursor.take(&["RANGE"]) {
        range(cursor, mark)?
    } else if cursor.take(&["LIST"]) {
        let (expression, columns) = expression_or_columns(cursor)?;
        partitions_clause(cursor)?;
        refuse_subpartitions(cursor)?;
        match definitions(cursor)? {
            PartitionDefinitions::List(partitions) => Partitioning::List { expression, columns, partitions },
            _ => return Err(cursor.expected("partitions with `VALUES IN`")),
        }
    } else {
        return Err(cursor.expected("`RANGE`, `LIST`, `HASH` or `KEY`"));
    };
    update_indexes(cursor)?;
    Ok(partitioning)
}

/// `UPDATE INDEXES (...)` where it stands: which indexes are global.
pub(super) fn update_indexes(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    if cursor.take(&["UPDATE", "INDEXES"]) {
        cursor.group()?;
    }
    Ok(())
}

fn range(cursor: &mut Cursor<'_>, mark: usize) -> Result<Partitioning, DdlError> {
    let (expression, columns) = expression_or_columns(cursor)?;
    partitions_clause(cursor)?;
    refuse_subpartitions(cursor)?;
    let interval = cursor.take(&["INTERVAL"]);
    if interval {
        cursor.group()?;
        for bound in ["FIRST", "LAST"] {
            if cursor.take(&[bound, "PARTITION", "LESS", "THAN"]) {
                cursor.group()?;
            }
        }
        cursor.take(&["NULL", "PARTITION"]);
        cursor.take(&["MAXVALUE", "PARTITION"]);
    }
    if interval && !cursor.is_symbol(0, "(") {
        return Ok(Partitioning::Other { text: cursor.source_since(mark) });
    }
    match definitions(cursor)? {
        PartitionDefinitions::Range(partitions) => {
            Ok(Partitioning::Range { expression, columns, partitions })
        }
        _ => Err(cursor.expected("partitions with `VALUES LESS THAN`")),
    }
}

fn expression_or_columns(cursor: &mut Cursor<'_>) -> Result<(Vec<String>, bool), DdlError> {
    if cursor.take(&["COLUMNS"]) {
        return Ok((cursor.names_in_parentheses("a column name")?, true));
    }
    Ok((vec![cursor.group()?], false))
}

fn partitions_clause(cursor: &mut Cursor<'_>) -> Result<Option<u32>, DdlError> {
    if !cursor.take(&["PARTITIONS"]) {
        return Ok(None);
    }
    cursor.number("a number of partitions").map(Some)
}

fn refuse_subpartitions(cursor: &Cursor<'_>) -> Result<(), DdlError> {
    if cursor.is(0, "SUBPARTITION") {
        return Err(cursor.expected("a table without subpartitions"));
    }
    Ok(())
}

fn count_and_names(cursor: &mut Cursor<'_>) -> Result<(u32, Vec<String>), DdlError> {
    let count = partitions_clause(cursor)?;
    refuse_subpartitions(cursor)?;
    if !cursor.is_symbol(0, "(") {
        return Ok((count.unwrap_or(1), Vec::new()));
    }
    match definitions(cursor)? {
        PartitionDefinitions::Named(names) => {
            let named = u32::try_from(names.len()).unwrap_or(u32::MAX);
            Ok((named, names))
        }
        _ => Err(cursor.expected("partitions without values")),
    }
}

enum Values {
    LessThan(Vec<String>),
    In(Vec<Vec<String>>),
    None,
}

/// `(PARTITION name VALUES ..., ...)`: all of one kind.
pub(super) fn definitions(cursor: &mut Cursor<'_>) -> Result<PartitionDefinitions, DdlError> {
    let (mut range, mut list, mut named) = (Vec::new(), Vec::new(), Vec::new());
    let mark = cursor.mark();
    cursor.expect_symbol("(")?;
    for (name, values) in cursor.list(definition)? {
        match values {
            Values::LessThan(bound) => range.push((name, bound)),
            Values::In(values) => list.push((name, values)),
            Values::None => named.push(name),
        }
    }
    cursor.expect_symbol(")")?;
    match (range.is_empty(), list.is_empty(), named.is_empty()) {
        (false, true, true) => Ok(PartitionDefinitions::Range(range)),
        (true, false, true) => Ok(PartitionDefinitions::List(list)),
        (true, true, false) => Ok(PartitionDefinitions::Named(named)),
        _ => {
            cursor.back(mark);
            Err(cursor.expected("partitions of one kind"))
        }
    }
}

fn definition(cursor: &mut Cursor<'_>) -> Result<(String, Values), DdlError> {
    cursor.expect(&["PARTITION"])?;
    let name = cursor.name("a partition name")?;
    let values = if cursor.take(&["VALUES", "LESS", "THAN"]) {
        if cursor.take(&["MAXVALUE"]) {
            Values::LessThan(vec!["MAXVALUE".to_owned()])
        } else {
            Values::LessThan(cursor.group_items()?)
        }
    } else if cursor.take(&["VALUES", "IN"]) {
        Values::In(value_list(cursor)?)
    } else if cursor.take(&["DEFAULT"]) {
        Values::In(vec![vec!["DEFAULT".to_owned()]])
    } else {
        Values::None
    };
    while table_option::table_option(cursor)?.is_some() {}
    if cursor.is_symbol(0, "(") {
        return Err(cursor.expected("a partition without subpartitions"));
    }
    Ok((name, values))
}

/// `(value, ...)` where a value in parentheses of its own is a tuple of LIST COLUMNS. A TiDB that does not know DEFAULT
/// partitions yet takes the word and prints `()`: a partition without rows.
fn value_list(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<String>>, DdlError> {
    cursor.expect_symbol("(")?;
    if cursor.take_symbol(")") {
        return Ok(Vec::new());
    }
    let values = cursor.list(|cursor| {
        if cursor.is_symbol(0, "(") {
            return cursor.group_items();
        }
        let mark = cursor.mark();
        while !cursor.at_end() && !cursor.is_symbol(0, ",") && !cursor.is_symbol(0, ")") {
            if cursor.is_symbol(0, "(") {
                cursor.group()?;
            } else {
                cursor.advance();
            }
        }
        if cursor.mark() == mark {
            return Err(cursor.expected("a value"));
        }
        Ok(vec![cursor.source_since(mark)])
    })?;
    cursor.expect_symbol(")")?;
    Ok(values)
}

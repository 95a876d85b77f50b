//! ALTER TABLE: one action, on one column.

use crate::catalog::{State, quoted};
use crate::column::{Column, check_name};
use crate::plan::{Change, Plan, missing, resolve};
use crate::refusal::{Refusal, refuse, unsupported};
use crate::table::{Table, index, partition};
use crate::token::{Cursor, quote_name};

fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

pub fn alter(cursor: &mut Cursor<'_>, database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    if !cursor.take("alter table") {
        let what = cursor.tokens.get(1).map(|token| token.value()).unwrap_or_default();
        return Err(unsupported(format!("ALTER {what} is not supported")));
    }
    let name = resolve(cursor.table()?, database)?;
    let before = state.table(&name).ok_or_else(|| missing(&name))?;
    if cursor.take("rename column") {
        let old = cursor.name()?;
        cursor.expect("to")?;
        let new = cursor.name()?;
        at_end(cursor)?;
        return rename_column(&name, before, &old, &new);
    }
    if cursor.take("rename") {
        let _ = cursor.take("to") || cursor.take("as");
        let (schema, table) = cursor.table()?;
        at_end(cursor)?;
        check_name(&table)?;
        if schema.as_ref().is_some_and(|schema| *schema != name.0) {
            return Err(unsupported("a table cannot be renamed into another database"));
        }
        let to = (name.0.clone(), table);
        let statement = format!("RENAME TABLE {} TO {}", quoted(&name), quoted(&to));
        return Ok(Plan::define(statement, Change::Rename(name, to)));
    }
    let mut table = before.clone();
    let action = act(cursor, before, &mut table)?;
    at_end(cursor)?;
    table.judge()?;
    let statements =
        action.map(|action| format!("ALTER TABLE {} {action}", quoted(&name))).into_iter().collect();
    Ok(Plan::Define { statements, change: Change::Put(name, Box::new(table)) })
}

fn at_end(cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    match cursor.next() {
        None => Ok(()),
        Some(token) if token.is(",") => Err(unsupported("one column and one action in an ALTER TABLE")),
        Some(token) if token.is("first") || token.is("after") => {
            Err(unsupported("FIRST and AFTER are not supported"))
        }
        Some(token) => Err(cursor.unexpected("the end", Some(token)).into()),
    }
}

fn retype(column: &str) -> Refusal {
    refuse(40039, format!("modify column type is not supported, col={column}"))
}

/// Changes the table; gives the action for MariaDB if it needs one.
fn act(cursor: &mut Cursor<'_>, before: &Table, table: &mut Table) -> Result<Option<String>, Refusal> {
    let refused = [
        "add primary",
        "add unique",
        "add constraint",
        "add foreign",
        "add spatial",
        "add fulltext",
        "add ann",
        "add partition",
        "drop primary",
        "drop partition",
        "drop foreign",
        "drop constraint",
        "change",
        "alter",
        "convert",
        "default",
        "character",
        "charset",
        "collate",
        "comment",
        "order",
        "auto_increment",
        "add column if",
        "drop column if",
    ];
    if let Some(words) = refused.iter().find(|words| cursor.starts(words)) {
        return Err(unsupported(format!("ALTER TABLE ... {} is not supported", words.to_uppercase())));
    }
    if cursor.take("add index") || cursor.take("add key") || cursor.take("add clustered key") {
        let (name, column) = index(cursor)?;
        if table.indexes.iter().any(|(other, _)| same(other, &name)) {
            return Err(refuse(1061, format!("Duplicate key name '{name}'")));
        }
        table.indexes.push((name, column));
        return Ok(None);
    }
    if cursor.take("drop index") || cursor.take("drop key") {
        let name = cursor.name()?;
        if !table.indexes.iter().any(|(other, _)| same(other, &name)) {
            return Err(refuse(1091, format!("Can't DROP INDEX '{name}'; check that it exists")));
        }
        table.indexes.retain(|(other, _)| !same(other, &name));
        return Ok(None);
    }
    if cursor.take("add") {
        let _ = cursor.take("column");
        let bracket = cursor.take("(");
        let (column, primary) = Column::parse(cursor)?;
        if primary {
            return Err(unsupported("ALTER TABLE cannot change the primary key"));
        }
        if bracket {
            if cursor.starts(",") {
                return Err(unsupported("one column and one action in an ALTER TABLE"));
            }
            cursor.expect(")")?;
        }
        let action = format!("ADD COLUMN {}", column.physical(None));
        table.columns.push(column);
        return Ok(Some(action));
    }
    if cursor.take("drop") {
        let _ = cursor.take("column");
        let name = cursor.name()?;
        if before.is_key(&name) {
            return Err(unsupported(format!("key column {name} cannot be dropped")));
        }
        if before.column(&name).is_none() {
            return Err(refuse(1091, format!("Can't DROP COLUMN '{name}'; check that it exists")));
        }
        table.columns.retain(|column| !same(&column.name, &name));
        table.indexes.retain(|(_, column)| !same(column, &name));
        return Ok(Some(format!("DROP COLUMN {}", quote_name(&name))));
    }
    if cursor.take("modify") {
        let _ = cursor.take("column");
        return modify(cursor, before, table).map(Some);
    }
    if cursor.take("partition by value") {
        let new = partition(cursor)?;
        match &mut table.partition {
            Some(old) if old.column == new.column && old.text == new.text => old.lifecycle = new.lifecycle,
            _ => return Err(unsupported("only the lifecycle of the partitions can change")),
        }
        return Ok(None);
    }
    for option in ["index_all", "storage_policy", "hot_partition_count"] {
        if cursor.take(option) {
            let _ = cursor.take("=");
            let Some(value) = cursor.next() else { return Err(format!("{option} has no value").into()) };
            table.set_option(&option.to_uppercase(), &String::from_utf8_lossy(value.raw));
            return Ok(None);
        }
    }
    let next = cursor.peek();
    Err(cursor.unexpected("an action", next).into())
}

fn modify(cursor: &mut Cursor<'_>, before: &Table, table: &mut Table) -> Result<String, Refusal> {
    let (new, primary) = Column::parse(cursor)?;
    let Some(old) = before.column(&new.name) else {
        return Err(refuse(1054, format!("Unknown column '{}'", new.name)));
    };
    if before.is_key(&old.name) || primary {
        return Err(refuse(
            40039,
            format!("modify column type is not supported, col={} is primary key", old.name),
        ));
    }
    if new.not_null && !old.not_null {
        return Err(unsupported(format!("{}: NULL cannot become NOT NULL", old.name)));
    }
    if !old.kind.widens_to(&new.kind) {
        return Err(retype(&old.name));
    }
    let action = format!("MODIFY COLUMN {}", new.physical(None));
    if let Some(place) = table.columns.iter_mut().find(|column| same(&column.name, &new.name)) {
        *place = new;
    }
    Ok(action)
}

fn rename_column(name: &(String, String), before: &Table, old: &str, new: &str) -> Result<Plan, Refusal> {
    check_name(new)?;
    if before.is_key(old) {
        return Err(unsupported(format!("key column {old} cannot be renamed")));
    }
    let mut table = before.clone();
    let Some(column) = table.columns.iter_mut().find(|column| same(&column.name, old)) else {
        return Err(refuse(1054, format!("Unknown column '{old}'")));
    };
    new.clone_into(&mut column.name);
    let action = format!("CHANGE COLUMN {} {}", quote_name(old), column.physical(None));
    for (_, indexed) in table.indexes.iter_mut().filter(|(_, column)| same(column, old)) {
        new.clone_into(indexed);
    }
    table.judge()?;
    Ok(Plan::define(
        format!("ALTER TABLE {} {action}", quoted(name)),
        Change::Put(name.clone(), Box::new(table)),
    ))
}

//! Carries DDL out on a table as we know it. Pure: names of tables are resolved by the caller.
//!
//! An error leaves the table as it was. It also answers whether a statement that comes a second time is already satisfied:
//! [`ApplyError::AlreadyThere`] for what adds, [`ApplyError::Missing`] for what removes. `IF [NOT] EXISTS` turns that into
//! success, as it did on the source.

use crate::error::{Error, ErrorKind};
use crate::model::{Column, ColumnDefault, Key, KeyKind, KeyPart, Partitioning, Table, TableName, TypeName};

use super::apply_partitions as partitions;
use super::ast::{AlterClause, ColumnPosition};
use super::column::fitted;
use super::column_type;
use super::create::{require_primary_key_columns, same_name, spell_as_columns};
use super::expression;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// What should be added is there.
    #[error("{what} is already there")]
    AlreadyThere { what: String },
    /// What the statement works on is not there.
    #[error("{what} is not there")]
    Missing { what: String },
    /// The table we know cannot take this statement, so we know another table than the source has; or the effect cannot be
    /// expressed.
    #[error("{what}")]
    Unsupported { what: String, hint: String },
}

impl ApplyError {
    pub(super) fn there(kind: &str, name: &str) -> Self {
        Self::AlreadyThere { what: format!("{kind} `{name}`") }
    }

    pub(super) fn missing(kind: &str, name: &str) -> Self {
        Self::Missing { what: format!("{kind} `{name}`") }
    }

    /// The table we know contradicts the statement.
    pub(super) fn contradiction(what: String) -> Self {
        Self::Unsupported {
            what,
            hint: "the table is not what it was on the source: read it again from there".to_owned(),
        }
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::AlreadyThere { .. } | ApplyError::Missing { .. } => {
                Error::new(ErrorKind::SchemaMismatch, message)
            }
            ApplyError::Unsupported { hint, .. } => {
                Error::new(ErrorKind::StatementRefused, message).hint(hint)
            }
        }
    }
}

/// Carries out one clause of ALTER TABLE. Clauses of one statement are given in their order.
///
/// `Rename` gives the table its new name in its old schema unless the text says another; harmless clauses and
/// `ExchangePartition` change nothing. Keys without a name get the one that the server gives them.
pub fn alter(table: &mut Table, clause: &AlterClause) -> Result<(), ApplyError> {
    name_keys(table);
    match clause {
        AlterClause::AddColumn { column, position, keys, if_not_exists } => {
            if table.column(&column.name).is_some() {
                return satisfied(*if_not_exists, ApplyError::there("column", &column.name));
            }
            add_column(table, column, position.as_ref())?;
            for key in keys {
                add_key(table, key)?;
            }
            Ok(())
        }
        AlterClause::DropColumn { name, if_exists } => drop_column(table, name, *if_exists),
        AlterClause::ChangeColumn { old, column, position, if_exists } => {
            change_column(table, old, column, position.as_ref(), *if_exists)
        }
        AlterClause::RenameColumn { old, new } => {
            check_rename(table, old, new)?;
            let column = table.columns.iter_mut().find(|column| same_name(&column.name, old));
            if let Some(column) = column {
                column.name.clone_from(new);
            }
            rename_references(table, old, new);
            Ok(())
        }
        AlterClause::SetDefault { column, default } => {
            set_default(column_mut(table, column)?, default.as_ref());
            Ok(())
        }
        AlterClause::AddKey { key, if_not_exists } => match add_key(table, key) {
            Err(error @ ApplyError::AlreadyThere { .. }) => satisfied(*if_not_exists, error),
            outcome => outcome,
        },
        AlterClause::DropPrimaryKey => drop_index(table, "PRIMARY"),
        AlterClause::DropKey { name, if_exists } => match drop_index(table, name) {
            Err(error @ ApplyError::Missing { .. }) => satisfied(*if_exists, error),
            outcome => outcome,
        },
        AlterClause::RenameKey { old, new } => rename_key(table, old, new),
        AlterClause::Rename { to } => {
            table.name = to.or_schema(&table.name.schema);
            Ok(())
        }
        AlterClause::ConvertCharset { charset, collation } => {
            convert_charset(table, charset, collation.as_ref());
            Ok(())
        }
        AlterClause::DefaultCharset { charset, collation } => {
            default_charset(table, charset.as_ref(), collation.as_ref());
            Ok(())
        }
        AlterClause::Comment { text } => {
            table.comment.clone_from(text);
            Ok(())
        }
        AlterClause::SetPartitioning { partitioning } => {
            table.partitioning.clone_from(partitioning);
            Ok(())
        }
        AlterClause::AddPartitions { .. }
        | AlterClause::DropPartitions { .. }
        | AlterClause::FirstPartition { .. }
        | AlterClause::TruncatePartitions { .. }
        | AlterClause::ReorganizePartitions { .. }
        | AlterClause::ChangePartitionCount { .. } => partitions::alter(&mut table.partitioning, clause),
        AlterClause::Harmless { what } => {
            match what.as_str() {
                "ttl" => table.time_to_live = true,
                "remove ttl" => table.time_to_live = false,
                _ => {}
            }
            Ok(())
        }
        AlterClause::ExchangePartition { .. } => Ok(()),
    }
}

/// CREATE INDEX.
pub fn create_index(table: &mut Table, key: &Key) -> Result<(), ApplyError> {
    name_keys(table);
    add_key(table, key)
}

/// DROP INDEX; the primary key goes by the name `PRIMARY`. Its columns stay NOT NULL.
pub fn drop_index(table: &mut Table, name: &str) -> Result<(), ApplyError> {
    name_keys(table);
    let before = table.keys.len();
    table.keys.retain(|key| !is_named(key, name));
    if table.keys.len() == before { Err(ApplyError::missing("key", name)) } else { Ok(()) }
}

/// CREATE TABLE LIKE: everything of the source but its name. Whether it is temporary is for the statement to say.
pub fn create_like(source: &Table, name: TableName) -> Table {
    let mut table = Table { name, temporary: false, ..source.clone() };
    name_keys(&mut table);
    table
}

/// Gives every key without a name the one that TiDB gives it: its first column, then `column_2`, `column_3`, ...
/// CREATE TABLE texts may leave names out, and a later DROP INDEX or RENAME INDEX uses them.
pub fn name_keys(table: &mut Table) {
    let mut taken: Vec<String> =
        table.keys.iter().filter_map(|key| key.name.as_ref()).map(|name| name.to_lowercase()).collect();
    for key in table.keys.iter_mut().filter(|key| key.name.is_none()) {
        let base = match key.parts.first() {
            Some(KeyPart::Column { name, .. }) => name.clone(),
            _ => "expression_index".to_owned(),
        };
        let mut name = base.clone();
        let mut suffix = 2;
        while taken.contains(&name.to_lowercase()) || name.eq_ignore_ascii_case("PRIMARY") {
            name = format!("{base}_{suffix}");
            suffix += 1;
        }
        taken.push(name.to_lowercase());
        key.name = Some(name);
    }
}

fn satisfied(allowed: bool, error: ApplyError) -> Result<(), ApplyError> {
    if allowed { Ok(()) } else { Err(error) }
}

fn is_named(key: &Key, name: &str) -> bool {
    key.name.as_deref().is_some_and(|own| same_name(own, name))
}

fn column_mut<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Column, ApplyError> {
    table
        .columns
        .iter_mut()
        .find(|column| same_name(&column.name, name))
        .ok_or_else(|| ApplyError::missing("column", name))
}

fn add_column(
    table: &mut Table,
    column: &Column,
    position: Option<&ColumnPosition>,
) -> Result<(), ApplyError> {
    let at = match position {
        None => table.columns.len(),
        Some(ColumnPosition::First) => 0,
        Some(ColumnPosition::After(name)) => {
            let before = table.column_index(name).ok_or_else(|| ApplyError::missing("column", name))?;
            before + 1
        }
    };
    let mut column = column.clone();
    column_type::settle(&mut column.ty, false, table.charset.as_deref());
    table.columns.insert(at.min(table.columns.len()), column);
    Ok(())
}

fn drop_column(table: &mut Table, name: &str, if_exists: bool) -> Result<(), ApplyError> {
    let Some(at) = table.column_index(name) else {
        return satisfied(if_exists, ApplyError::missing("column", name));
    };
    table.columns.remove(at);
    for key in &mut table.keys {
        key.parts.retain(|part| match part {
            KeyPart::Column { name: column, .. } => !same_name(column, name),
            KeyPart::Expression(_) => true,
        });
    }
    table.keys.retain(|key| !key.parts.is_empty());
    Ok(())
}

fn check_rename(table: &Table, old: &str, new: &str) -> Result<(), ApplyError> {
    let other = table.column(new).is_some_and(|column| !same_name(&column.name, old));
    match (table.column(old).is_some(), other) {
        (true, false) => Ok(()),
        (true, true) => Err(ApplyError::contradiction(format!("columns `{old}` and `{new}` are both there"))),
        (false, true) => Err(ApplyError::there("column", new)),
        (false, false) => Err(ApplyError::missing("column", old)),
    }
}

fn change_column(
    table: &mut Table,
    old: &str,
    column: &Column,
    position: Option<&ColumnPosition>,
    if_exists: bool,
) -> Result<(), ApplyError> {
    match check_rename(table, old, &column.name) {
        Err(error @ ApplyError::Missing { .. }) => return satisfied(if_exists, error),
        outcome => outcome?,
    }
    let Some(at) = table.column_index(old) else { return Err(ApplyError::missing("column", old)) };
    if let Some(ColumnPosition::After(name)) = position
        && (table.column(name).is_none() || same_name(name, old))
    {
        return Err(ApplyError::missing("column", name));
    }
    table.columns.remove(at);
    // Without a position the column stays where it was.
    add_column(table, column, position)?;
    if position.is_none()
        && let Some(column) = table.columns.pop()
    {
        table.columns.insert(at.min(table.columns.len()), column);
    }
    rename_references(table, old, &column.name);
    require_primary_key_columns(table);
    Ok(())
}

/// Keys, generated columns and partitioning follow a column's new name.
fn rename_references(table: &mut Table, old: &str, new: &str) {
    if old == new {
        return;
    }
    let rename = |name: &mut String| {
        if same_name(name, old) {
            new.clone_into(name);
        }
    };
    let rewrite = |text: &mut String| *text = expression::rename_column(text, old, new);
    for part in table.keys.iter_mut().flat_map(|key| key.parts.iter_mut()) {
        match part {
            KeyPart::Column { name, .. } => rename(name),
            KeyPart::Expression(text) => rewrite(text),
        }
    }
    for column in &mut table.columns {
        if let Some(generated) = &mut column.generated {
            rewrite(&mut generated.expression);
        }
        if let Some(ColumnDefault::Expression(text)) = &mut column.default {
            rewrite(text);
        }
    }
    match &mut table.partitioning {
        Some(
            Partitioning::Range { expression, columns, .. } | Partitioning::List { expression, columns, .. },
        ) => {
            for text in expression {
                if *columns {
                    rename(text);
                } else {
                    rewrite(text);
                }
            }
        }
        Some(Partitioning::Hash { expression, .. }) => rewrite(expression),
        Some(Partitioning::Key { columns, .. }) => columns.iter_mut().for_each(rename),
        Some(Partitioning::Other { text }) => rewrite(text),
        None => {}
    }
}

fn set_default(column: &mut Column, default: Option<&ColumnDefault>) {
    column.default = default.map(|default| fitted(default.clone(), &column.ty, false));
}

fn add_key(table: &mut Table, key: &Key) -> Result<(), ApplyError> {
    for part in &key.parts {
        if let KeyPart::Column { name, .. } = part
            && table.column(name).is_none()
        {
            return Err(ApplyError::missing("column", name));
        }
    }
    let existing = key.name.as_deref().and_then(|name| table.keys.iter().find(|other| is_named(other, name)));
    if let Some(existing) = existing {
        let name = key.name.as_deref().unwrap_or_default();
        let same = existing.kind == key.kind && same_parts(&existing.parts, &key.parts);
        return Err(if same {
            ApplyError::there("key", name)
        } else {
            ApplyError::contradiction(format!("another key `{name}` is there"))
        });
    }
    let mut key = key.clone();
    spell_as_columns(&mut key, &table.columns);
    if key.kind == KeyKind::Primary {
        table.keys.insert(0, key);
        require_primary_key_columns(table);
    } else {
        table.keys.push(key);
    }
    name_keys(table);
    Ok(())
}

fn same_parts(one: &[KeyPart], other: &[KeyPart]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| match (one, other) {
            (
                KeyPart::Column { name: one, prefix: first },
                KeyPart::Column { name: other, prefix: second },
            ) => same_name(one, other) && first == second,
            (one, other) => one == other,
        })
}

fn rename_key(table: &mut Table, old: &str, new: &str) -> Result<(), ApplyError> {
    let taken = !same_name(old, new) && table.keys.iter().any(|key| is_named(key, new));
    match (table.keys.iter_mut().find(|key| is_named(key, old)), taken) {
        (Some(key), false) => {
            key.name = Some(new.to_owned());
            Ok(())
        }
        (Some(_), true) => Err(ApplyError::contradiction(format!("keys `{old}` and `{new}` are both there"))),
        (None, true) => Err(ApplyError::there("key", new)),
        (None, false) => Err(ApplyError::missing("key", old)),
    }
}

fn has_charset(column: &Column) -> bool {
    column.ty.name.is_text() || matches!(column.ty.name, TypeName::Enum | TypeName::Set)
}

/// CONVERT TO CHARACTER SET: the columns follow the table from now on.
fn convert_charset(table: &mut Table, charset: &str, collation: Option<&String>) {
    // DEFAULT is the schema's.
    table.charset = (charset != "default").then(|| charset.to_owned());
    table.collation = collation.cloned();
    for column in table.columns.iter_mut().filter(|column| has_charset(column)) {
        column.ty.charset = None;
        column.ty.collation = None;
        column_type::settle(&mut column.ty, false, table.charset.as_deref());
    }
}

/// A new default is for later columns: those that follow the table now keep what they have. Where the table's own is not
/// known (the schema's, which the caller had better fill in when the table is created) it is TiDB's `utf8mb4`.
fn default_charset(table: &mut Table, charset: Option<&String>, collation: Option<&String>) {
    for column in table.columns.iter_mut().filter(|column| has_charset(column)) {
        if column.ty.charset.is_none() {
            column.ty.charset = Some(table.charset.clone().unwrap_or_else(|| "utf8mb4".to_owned()));
            if column.ty.collation.is_none() {
                column.ty.collation.clone_from(&table.collation);
            }
        }
    }
    table.charset = charset.cloned();
    table.collation = collation.cloned();
}

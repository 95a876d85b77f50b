//! CREATE TABLE, in all its forms and as SHOW CREATE TABLE prints it.

use crate::model::{Column, ColumnDefault, Key, KeyKind, KeyPart, Table, TableName};

use super::ast::{ObjectName, Statement};
use super::charset;
use super::column::WrittenColumn;
use super::cursor::Cursor;
use super::error::DdlError;
use super::key::{self, Element};
use super::partition;
use super::table_option::{self, TableOption};

/// What follows `CREATE [GLOBAL TEMPORARY] TABLE`.
pub(super) fn table(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Statement, DdlError> {
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.object_name("a table name")?;
    if let Some(source) = like(cursor)? {
        on_commit(cursor);
        return Ok(Statement::CreateTableLike { name, source, if_not_exists, temporary });
    }
    let mut elements = Elements::default();
    cursor.expect_symbol("(")?;
    for element in cursor.list(key::element)? {
        elements.push(element);
    }
    cursor.expect_symbol(")")?;
    if elements.columns.is_empty() {
        return Err(cursor.expected("a table with a column"));
    }
    let mut table = Table {
        name: TableName::new(name.schema.clone().unwrap_or_default(), &name.name),
        columns: Vec::new(),
        keys: Vec::new(),
        charset: None,
        collation: None,
        comment: String::new(),
        partitioning: None,
        temporary,
        time_to_live: false,
    };
    options(cursor, &mut table)?;
    if cursor.take(&["PARTITION", "BY"]) {
        table.partitioning = Some(partition::partitioning(cursor)?);
    }
    on_commit(cursor);
    elements.fill(&mut table);
    Ok(Statement::CreateTable { name, if_not_exists, table })
}

/// `LIKE source` or `(LIKE source)` where it stands.
fn like(cursor: &mut Cursor<'_>) -> Result<Option<ObjectName>, DdlError> {
    if cursor.take(&["LIKE"]) {
        return cursor.object_name("a table name").map(Some);
    }
    if cursor.is_symbol(0, "(") && cursor.is(1, "LIKE") {
        cursor.advance();
        cursor.advance();
        let source = cursor.object_name("a table name")?;
        cursor.expect_symbol(")")?;
        return Ok(Some(source));
    }
    Ok(None)
}

fn on_commit(cursor: &mut Cursor<'_>) {
    let _ = cursor.take(&["ON", "COMMIT", "DELETE", "ROWS"])
        || cursor.take(&["ON", "COMMIT", "PRESERVE", "ROWS"]);
}

fn options(cursor: &mut Cursor<'_>, table: &mut Table) -> Result<(), DdlError> {
    while let Some(option) = table_option::table_option(cursor)? {
        match option {
            TableOption::Charset(charset) => table.charset = charset,
            TableOption::Collation(collation) => table.collation = collation,
            TableOption::Comment(comment) => table.comment = comment,
            TableOption::TimeToLive(on) => table.time_to_live = on,
            TableOption::Harmless(_) => {}
        }
        cursor.take_symbol(",");
    }
    if table.charset.is_none() {
        table.charset =
            table.collation.as_deref().map(|collation| charset::of_collation(collation).to_owned());
    }
    Ok(())
}

#[derive(Default)]
struct Elements {
    columns: Vec<WrittenColumn>,
    keys: Vec<Key>,
    foreign_keys: Vec<(Option<String>, Vec<String>)>,
}

impl Elements {
    fn push(&mut self, element: Element) {
        match element {
            Element::Column(column) => self.columns.push(column),
            Element::Key { key, .. } => self.keys.push(key),
            Element::ForeignKey { name, columns } => self.foreign_keys.push((name, columns)),
            Element::Check => {}
        }
    }

    /// Keys in TiDB's order, which decides the names of those without one: the table's own, then those of the columns, then
    /// the indexes of foreign keys. The primary key comes first.
    fn fill(self, table: &mut Table) {
        let mut keys = self.keys;
        for mut column in self.columns {
            column.settle(table.charset.as_deref());
            keys.append(&mut column.keys);
            table.columns.push(column.column);
        }
        keys.sort_by_key(|key| key.kind != KeyKind::Primary);
        let foreign_names: Vec<String> = self
            .foreign_keys
            .iter()
            .filter_map(|(name, _)| name.as_ref())
            .map(|name| name.to_lowercase())
            .collect();
        let mut number = 0;
        for (name, columns) in self.foreign_keys {
            // TiDB's own names, counted whether the index is needed or not.
            let name = name.unwrap_or_else(|| {
                loop {
                    number += 1;
                    let name = format!("fk_{number}");
                    if !foreign_names.contains(&name) {
                        break name;
                    }
                }
            });
            let covered = keys.iter().filter_map(Key::columns).any(|key| {
                key.len() >= columns.len()
                    && key.iter().zip(&columns).all(|(key, column)| same_name(key, column))
            });
            if !covered {
                let parts = columns.into_iter().map(|name| KeyPart::Column { name, prefix: None }).collect();
                keys.push(Key { name: Some(name), kind: KeyKind::Index, parts, clustered: None });
            }
        }
        for key in &mut keys {
            spell_as_columns(key, &table.columns);
        }
        table.keys = keys;
        require_primary_key_columns(table);
    }
}

/// Names compare without case.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

/// A key names its columns in their own spelling, however its text does.
pub(super) fn spell_as_columns(key: &mut Key, columns: &[Column]) {
    for part in &mut key.parts {
        if let KeyPart::Column { name, .. } = part
            && let Some(column) = columns.iter().find(|column| same_name(&column.name, name))
        {
            name.clone_from(&column.name);
        }
    }
}

/// The columns of a primary key are NOT NULL, whatever their definition says.
pub(super) fn require_primary_key_columns(table: &mut Table) {
    let names: Vec<String> = table
        .primary_key()
        .and_then(Key::columns)
        .unwrap_or_default()
        .into_iter()
        .map(str::to_owned)
        .collect();
    for column in
        table.columns.iter_mut().filter(|column| names.iter().any(|name| same_name(name, &column.name)))
    {
        column.nullable = false;
        if column.default == Some(ColumnDefault::Null) {
            column.default = None;
        }
    }
}

/// Character set and collation of CREATE and ALTER DATABASE; the other options mean nothing to a target.
pub(super) fn database_options(
    cursor: &mut Cursor<'_>,
) -> Result<(Option<String>, Option<String>), DdlError> {
    let (mut charset, mut collation) = (None, None);
    loop {
        if cursor.take(&["SET", "TIFLASH", "REPLICA"]) {
            tiflash_replica(cursor)?;
        } else if cursor.take(&["READ", "ONLY"]) {
            table_option::value(cursor)?;
        } else {
            let mark = cursor.mark();
            cursor.take(&["DEFAULT"]);
            match table_option::table_option(cursor)? {
                Some(TableOption::Charset(name)) => charset = name,
                Some(TableOption::Collation(name)) => collation = name,
                Some(TableOption::Comment(_) | TableOption::Harmless(_) | TableOption::TimeToLive(_)) => {}
                None => {
                    cursor.back(mark);
                    break;
                }
            }
        }
    }
    if charset.is_none() {
        charset = collation.as_deref().map(|collation| charset::of_collation(collation).to_owned());
    }
    Ok((charset, collation))
}

/// `n [LOCATION LABELS 'a', 'b']`
pub(super) fn tiflash_replica(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    cursor.number("a number of replicas")?;
    if cursor.take(&["LOCATION", "LABELS"]) {
        cursor.list(|cursor| cursor.text("a label"))?;
    }
    Ok(())
}

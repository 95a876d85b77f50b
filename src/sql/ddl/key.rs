//! Keys and constraints: PRIMARY KEY, UNIQUE, INDEX, FULLTEXT, FOREIGN KEY, CHECK.

use crate::model::{Key, KeyKind, KeyPart};

use super::column::{self, WrittenColumn};
use super::cursor::Cursor;
use super::error::DdlError;
use super::table_option;

/// One entry of a table's parenthesised definition.
#[derive(Debug)]
pub(super) enum Element {
    Column(WrittenColumn),
    Key {
        key: Key,
        if_not_exists: bool,
    },
    /// The server adds an index over `columns` unless a key begins with them.
    ForeignKey {
        name: Option<String>,
        columns: Vec<String>,
    },
    Check,
}

pub(super) fn element(cursor: &mut Cursor<'_>) -> Result<Element, DdlError> {
    match constraint(cursor)? {
        Some(element) => Ok(element),
        None => column::column(cursor).map(Element::Column),
    }
}

/// A key or constraint where one begins; None when a column stands there.
pub(super) fn constraint(cursor: &mut Cursor<'_>) -> Result<Option<Element>, DdlError> {
    let mut symbol = None;
    let named = cursor.take(&["CONSTRAINT"]);
    if named && cursor.is_name(0) {
        symbol = Some(cursor.name("a constraint name")?);
    }
    let vector = ["VECTOR", "COLUMNAR", "SPATIAL"].iter().any(|word| cursor.is(0, word));
    if vector && (cursor.is(1, "INDEX") || cursor.is(1, "KEY")) {
        return Err(cursor
            .expected("a key that targets know")
            .hint("vector, columnar and spatial indexes are not supported"));
    }
    let kind = if cursor.take(&["PRIMARY", "KEY"]) {
        KeyKind::Primary
    } else if cursor.take(&["UNIQUE"]) {
        cursor.take_any(&["KEY", "INDEX"]);
        KeyKind::Unique
    } else if cursor.take(&["FULLTEXT"]) {
        cursor.take_any(&["KEY", "INDEX"]);
        KeyKind::Fulltext
    } else if cursor.take(&["FOREIGN", "KEY"]) {
        return foreign_key(cursor, symbol).map(Some);
    } else if cursor.is(0, "CHECK") {
        check(cursor)?;
        return Ok(Some(Element::Check));
    } else if named {
        return Err(cursor.expected("`PRIMARY KEY`, `UNIQUE`, `FOREIGN KEY` or `CHECK`"));
    } else if cursor.take_any(&["INDEX", "KEY"]) {
        KeyKind::Index
    } else {
        return Ok(None);
    };
    let if_not_exists = cursor.if_not_exists();
    let mut name = None;
    if cursor.is_name(0) && !is_using(cursor) {
        name = Some(cursor.name("a key name")?);
    }
    // TiDB lets CONSTRAINT's name win over the key's.
    let name = if kind == KeyKind::Primary { Some("PRIMARY".to_owned()) } else { symbol.or(name) };
    let key = parts_and_options(cursor, name, kind)?;
    Ok(Some(Element::Key { key, if_not_exists }))
}

/// `[USING x] (part, ...) option...`
pub(super) fn parts_and_options(
    cursor: &mut Cursor<'_>,
    name: Option<String>,
    kind: KeyKind,
) -> Result<Key, DdlError> {
    let mut key = Key { name, kind, parts: Vec::new(), clustered: None };
    using(cursor)?;
    cursor.expect_symbol("(")?;
    key.parts = cursor.list(part)?;
    cursor.expect_symbol(")")?;
    while option(cursor, &mut key)? {}
    Ok(key)
}

fn part(cursor: &mut Cursor<'_>) -> Result<KeyPart, DdlError> {
    let part = if cursor.is_symbol(0, "(") {
        KeyPart::Expression(cursor.group()?)
    } else {
        KeyPart::Column { name: cursor.name("a column name")?, prefix: cursor.length()? }
    };
    cursor.take_any(&["ASC", "DESC"]);
    Ok(part)
}

const METHODS: &[&str] = &["BTREE", "HASH", "RTREE", "HYPO"];

/// True at `USING` and at `TYPE BTREE`; TYPE alone may be the key's name.
fn is_using(cursor: &Cursor<'_>) -> bool {
    cursor.is(0, "USING") || cursor.is(0, "TYPE") && METHODS.iter().any(|method| cursor.is(1, method))
}

/// `USING BTREE` or `TYPE BTREE` where it stands.
pub(super) fn using(cursor: &mut Cursor<'_>) -> Result<bool, DdlError> {
    if !is_using(cursor) {
        return Ok(false);
    }
    cursor.advance();
    if cursor.take_any(METHODS) { Ok(true) } else { Err(cursor.expected("`BTREE`, `HASH` or `RTREE`")) }
}

fn option(cursor: &mut Cursor<'_>, key: &mut Key) -> Result<bool, DdlError> {
    if let Some(clustered) = clustered(cursor) {
        key.clustered = Some(clustered);
    } else if cursor.take(&["COMMENT"]) {
        cursor.text("a comment")?;
    } else if cursor.take(&["KEY_BLOCK_SIZE"]) {
        cursor.take_symbol("=");
        cursor.number("a block size")?;
    } else if cursor.take(&["WITH", "PARSER"]) {
        cursor.name("a parser")?;
    } else if cursor.take(&["PRE_SPLIT_REGIONS"]) {
        cursor.take_symbol("=");
        if cursor.is_symbol(0, "(") {
            cursor.group()?;
        } else {
            cursor.number("a number of regions")?;
        }
    } else if cursor.take_any(&["ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"]) {
        cursor.take_symbol("=");
        cursor.text("an attribute")?;
    } else if cursor.is(0, "WHERE") {
        return Err(cursor
            .expected("a key over all rows")
            .hint("keys over a part of the rows are not supported"));
    } else {
        return Ok(using(cursor)? || cursor.take_any(&["VISIBLE", "INVISIBLE"]) || scope(cursor));
    }
    Ok(true)
}

/// CLUSTERED or NONCLUSTERED where it stands.
pub(super) fn clustered(cursor: &mut Cursor<'_>) -> Option<bool> {
    if cursor.take(&["CLUSTERED"]) {
        Some(true)
    } else if cursor.take(&["NONCLUSTERED"]) {
        Some(false)
    } else {
        None
    }
}

/// GLOBAL or LOCAL (over all partitions or inside one) where it stands.
pub(super) fn scope(cursor: &mut Cursor<'_>) -> bool {
    cursor.take_any(&["GLOBAL", "LOCAL"])
}

fn foreign_key(cursor: &mut Cursor<'_>, symbol: Option<String>) -> Result<Element, DdlError> {
    cursor.if_not_exists();
    let mut name = symbol;
    if cursor.is_name(0) {
        let index = cursor.name("a key name")?;
        name = name.or(Some(index));
    }
    cursor.expect_symbol("(")?;
    let parts = cursor.list(part)?;
    cursor.expect_symbol(")")?;
    references(cursor)?;
    let columns = parts
        .into_iter()
        .filter_map(|part| match part {
            KeyPart::Column { name, .. } => Some(name),
            KeyPart::Expression(_) => None,
        })
        .collect();
    Ok(Element::ForeignKey { name, columns })
}

/// `REFERENCES table (columns) [MATCH x] [ON DELETE x] [ON UPDATE x]`. The reference is not kept: rows arrive grouped by
/// table, so targets run without foreign keys.
pub(super) fn references(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    cursor.expect(&["REFERENCES"])?;
    cursor.object_name("a table name")?;
    if cursor.is_symbol(0, "(") {
        cursor.group()?;
    }
    if cursor.take(&["MATCH"]) && !cursor.take_any(&["FULL", "PARTIAL", "SIMPLE"]) {
        return Err(cursor.expected("`FULL`, `PARTIAL` or `SIMPLE`"));
    }
    while cursor.take(&["ON", "DELETE"]) || cursor.take(&["ON", "UPDATE"]) {
        let action = cursor.take_any(&["RESTRICT", "CASCADE"])
            || cursor.take(&["SET", "NULL"])
            || cursor.take(&["SET", "DEFAULT"])
            || cursor.take(&["NO", "ACTION"]);
        if !action {
            return Err(cursor.expected("a referential action"));
        }
    }
    Ok(())
}

/// `CHECK (expression) [[NOT] ENFORCED]`. Not kept: the source has checked its rows.
pub(super) fn check(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    cursor.expect(&["CHECK"])?;
    cursor.group()?;
    enforced(cursor);
    Ok(())
}

pub(super) fn enforced(cursor: &mut Cursor<'_>) -> bool {
    // NOT alone may begin NOT NULL of the column that the check belongs to.
    cursor.take(&["NOT", "ENFORCED"]) || cursor.take(&["ENFORCED"])
}

/// The whole of a key of CREATE INDEX after its table: parts, options, and the options of the statement.
pub(super) fn created_index(
    cursor: &mut Cursor<'_>,
    name: Option<String>,
    kind: KeyKind,
) -> Result<Key, DdlError> {
    let mut key = parts_and_options(cursor, name, kind)?;
    while table_option::algorithm_or_lock(cursor)? || option(cursor, &mut key)? {}
    Ok(key)
}

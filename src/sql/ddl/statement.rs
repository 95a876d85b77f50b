//! Which statement it is, and the statements that are short enough to live here.

use crate::model::KeyKind;

use super::alter;
use super::ast::{ObjectName, Statement};
use super::create;
use super::cursor::Cursor;
use super::error::DdlError;
use super::key;
use super::table_option;
use super::token::Kind;

/// One statement, up to its `;` or the end of the text.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    let first = cursor.word(0);
    match first.as_str() {
        "CREATE" => create(cursor),
        "ALTER" => alter(cursor),
        "DROP" => drop(cursor),
        "TRUNCATE" => {
            cursor.advance();
            cursor.take(&["TABLE"]);
            Ok(Statement::TruncateTable { name: cursor.object_name("a table name")? })
        }
        "RENAME" if cursor.is(1, "TABLE") || cursor.is(1, "TABLES") => {
            cursor.advance();
            cursor.advance();
            let pairs = cursor.list(|cursor| {
                let from = cursor.object_name("a table name")?;
                cursor.expect(&["TO"])?;
                Ok((from, cursor.object_name("a table name")?))
            })?;
            Ok(Statement::RenameTable { pairs })
        }
        "RECOVER" | "FLASHBACK" => recover(cursor),
        "LOCK" | "UNLOCK" if cursor.is(1, "TABLE") || cursor.is(1, "TABLES") => harmless(cursor, 2),
        "ANALYZE" if cursor.is(1, "TABLE") => harmless(cursor, 2),
        "RENAME" if cursor.is(1, "USER") => harmless(cursor, 2),
        "GRANT" | "REVOKE" => harmless(cursor, 1),
        "SPLIT" => harmless(cursor, 1),
        // How TiDB logs a change of a sequence.
        "SELECT" if cursor.is(1, "SETVAL") => harmless(cursor, 2),
        _ => Err(cursor.expected("a DDL statement")),
    }
}

/// A known statement without effect on rows or layout, called by its first words.
fn harmless(cursor: &mut Cursor<'_>, words: usize) -> Result<Statement, DdlError> {
    let what: Vec<String> = (0..words).map(|ahead| cursor.word(ahead).to_ascii_lowercase()).collect();
    cursor.skip_statement();
    Ok(Statement::Harmless { what: what.join(" ") })
}

/// Objects that a target never gets: `VERB OBJECT ...` with OBJECT at `ahead`.
fn harmless_object(cursor: &Cursor<'_>) -> Option<usize> {
    match cursor.word(1).as_str() {
        "SEQUENCE" | "USER" | "ROLE" | "STATISTICS" | "STATS" | "INSTANCE" => Some(2),
        "PLACEMENT" if cursor.is(2, "POLICY") => Some(3),
        "RESOURCE" if cursor.is(2, "GROUP") => Some(3),
        "BINDING" => Some(2),
        "GLOBAL" | "SESSION" if cursor.is(2, "BINDING") => Some(3),
        "MASKING" if cursor.is(2, "POLICY") => Some(3),
        _ => None,
    }
}

fn create(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    if let Some(words) = harmless_object(cursor) {
        return harmless(cursor, words);
    }
    cursor.advance();
    let replace = cursor.take(&["OR", "REPLACE"]);
    if replace && cursor.take(&["PLACEMENT", "POLICY"]) {
        cursor.skip_statement();
        return Ok(Statement::Harmless { what: "create placement policy".to_owned() });
    }
    if replace || cursor.take_view_attributes()? || cursor.is(0, "VIEW") {
        cursor.take_view_attributes()?;
        return view(cursor);
    }
    if cursor.take_any(&["DATABASE", "SCHEMA"]) {
        let if_not_exists = cursor.if_not_exists();
        let name = cursor.name("a database name")?;
        let (charset, collation) = create::database_options(cursor)?;
        return Ok(Statement::CreateDatabase { name, if_not_exists, charset, collation });
    }
    if cursor.take(&["TABLE"]) {
        return create::table(cursor, false);
    }
    if cursor.take(&["GLOBAL", "TEMPORARY", "TABLE"]) || cursor.take(&["TEMPORARY", "TABLE"]) {
        return create::table(cursor, true);
    }
    create_index(cursor)
}

fn create_index(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    let kind = if cursor.take(&["UNIQUE"]) {
        KeyKind::Unique
    } else if cursor.take(&["FULLTEXT"]) {
        KeyKind::Fulltext
    } else {
        KeyKind::Index
    };
    if !cursor.take(&["INDEX"]) {
        return Err(cursor.expected("`DATABASE`, `TABLE`, `INDEX`, `VIEW`, `SEQUENCE` or `PLACEMENT POLICY`"));
    }
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.name("an index name")?;
    key::using(cursor)?;
    cursor.expect(&["ON"])?;
    let table = cursor.object_name("a table name")?;
    let key = key::created_index(cursor, Some(name), kind)?;
    Ok(Statement::CreateIndex { table, key, if_not_exists })
}

impl Cursor<'_> {
    /// `[ALGORITHM = x] [DEFINER = user] [SQL SECURITY x]` where they stand in front of VIEW.
    fn take_view_attributes(&mut self) -> Result<bool, DdlError> {
        let mut any = false;
        loop {
            if self.take(&["ALGORITHM"]) {
                table_option::value(self)?;
            } else if self.take(&["SQL", "SECURITY"]) {
                if !self.take_any(&["DEFINER", "INVOKER"]) {
                    return Err(self.expected("`DEFINER` or `INVOKER`"));
                }
            } else if self.take(&["DEFINER"]) {
                // A user is up to five tokens, cut differently with every way to quote it.
                self.expect_symbol("=")?;
                while !(self.at_end() || self.is(0, "VIEW") || self.are(&["SQL", "SECURITY"])) {
                    self.advance();
                }
            } else {
                return Ok(any);
            }
            any = true;
        }
    }
}

/// `VIEW name [(columns)] AS select`: the select is not read.
fn view(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    cursor.expect(&["VIEW"])?;
    cursor.if_not_exists();
    let name = cursor.object_name("a view name")?;
    if cursor.is_symbol(0, "(") {
        cursor.names_in_parentheses("a column name")?;
    }
    cursor.expect(&["AS"])?;
    if cursor.at_end() {
        return Err(cursor.expected("a query"));
    }
    cursor.skip_statement();
    Ok(Statement::View { names: vec![name] })
}

fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    if let Some(words) = harmless_object(cursor) {
        return harmless(cursor, words);
    }
    if cursor.is(1, "RANGE") {
        return harmless(cursor, 2);
    }
    cursor.advance();
    if cursor.take_any(&["DATABASE", "SCHEMA"]) {
        return alter_database(cursor);
    }
    if cursor.take(&["IGNORE", "TABLE"]) || cursor.take(&["TABLE"]) {
        cursor.if_exists();
        let name = cursor.object_name("a table name")?;
        return Ok(Statement::AlterTable { name, clauses: alter::clauses(cursor)? });
    }
    cursor.take_view_attributes()?;
    if cursor.is(0, "VIEW") {
        return view(cursor);
    }
    Err(cursor.expected("`DATABASE`, `TABLE`, `VIEW`, `SEQUENCE` or `PLACEMENT POLICY`"))
}

fn alter_database(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    let options = [
        &["DEFAULT"][..],
        &["CHARACTER", "SET"],
        &["CHAR", "SET"],
        &["CHARSET"],
        &["COLLATE"],
        &["ENCRYPTION"],
        &["PLACEMENT", "POLICY"],
        &["SET", "TIFLASH"],
        &["READ", "ONLY"],
    ];
    let unnamed = options.iter().any(|words| cursor.are(words));
    let name = if unnamed { None } else { Some(cursor.name("a database name")?) };
    if cursor.at_end() {
        return Err(cursor.expected("an option of a database"));
    }
    let (charset, collation) = create::database_options(cursor)?;
    Ok(Statement::AlterDatabase { name, charset, collation })
}

fn drop(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    if let Some(words) = harmless_object(cursor) {
        return harmless(cursor, words);
    }
    cursor.advance();
    if cursor.take_any(&["DATABASE", "SCHEMA"]) {
        let if_exists = cursor.if_exists();
        return Ok(Statement::DropDatabase { name: cursor.name("a database name")?, if_exists });
    }
    if cursor.take(&["VIEW"]) {
        let (_, names) = dropped(cursor, "a view name")?;
        return Ok(Statement::View { names });
    }
    if cursor.take(&["INDEX"]) {
        let if_exists = cursor.if_exists();
        let name = cursor.name("an index name")?;
        cursor.expect(&["ON"])?;
        let table = cursor.object_name("a table name")?;
        while table_option::algorithm_or_lock(cursor)? {}
        return Ok(Statement::DropIndex { table, name, if_exists });
    }
    let temporary = cursor.take(&["GLOBAL", "TEMPORARY"]) || cursor.take(&["TEMPORARY"]);
    if cursor.take_any(&["TABLE", "TABLES"]) {
        let (if_exists, names) = dropped(cursor, "a table name")?;
        return Ok(Statement::DropTable { names, if_exists, temporary });
    }
    Err(cursor.expected("`DATABASE`, `TABLE`, `INDEX`, `VIEW`, `SEQUENCE` or `PLACEMENT POLICY`"))
}

fn dropped(cursor: &mut Cursor<'_>, what: &str) -> Result<(bool, Vec<ObjectName>), DdlError> {
    let if_exists = cursor.if_exists();
    let names = cursor.list(|cursor| cursor.object_name(what))?;
    cursor.take_any(&["RESTRICT", "CASCADE"]);
    Ok((if_exists, names))
}

/// `RECOVER TABLE {name [n] | BY JOB n}`, `FLASHBACK {TABLE | DATABASE} names [TO ...]`, `FLASHBACK CLUSTER TO ...`. The
/// names are those that come back; for FLASHBACK ... TO a new name, the new one follows the old.
fn recover(cursor: &mut Cursor<'_>) -> Result<Statement, DdlError> {
    let flashback = cursor.is(0, "FLASHBACK");
    cursor.advance();
    let mut names = Vec::new();
    if flashback && cursor.take(&["CLUSTER"]) {
        cursor.expect(&["TO"])?;
        cursor.skip_statement();
        return Ok(Statement::Recover { names });
    }
    let database = flashback && cursor.take_any(&["DATABASE", "SCHEMA"]);
    if !database {
        cursor.expect(&["TABLE"])?;
    }
    if !flashback && cursor.take(&["BY", "JOB"]) {
        cursor.number("a job")?;
        return Ok(Statement::Recover { names });
    }
    names = cursor.list(|cursor| {
        if database {
            Ok(ObjectName { schema: None, name: cursor.name("a database name")? })
        } else {
            cursor.object_name("a table name")
        }
    })?;
    if flashback && cursor.take(&["TO"]) {
        if cursor.is(0, "TIMESTAMP") || cursor.is(0, "TSO") {
            cursor.skip_statement();
        } else {
            names.push(cursor.object_name("a name")?);
        }
    } else if !flashback && cursor.is_kind(0, Kind::Number) {
        cursor.advance();
    }
    Ok(Statement::Recover { names })
}

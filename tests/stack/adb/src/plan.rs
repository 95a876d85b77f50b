//! What becomes of a statement: refused, run on the MariaDB behind as it is or changed, or a definition.

use crate::catalog::{DATABASE, Name, State, VIEWS, quoted};
use crate::column::check_name;
use crate::refusal::{Refusal, limit, refuse, unsupported};
use crate::table::{Table, check_database};
use crate::token::{Cursor, Token, quote_name, quote_text, tokens};
use crate::{alter, rows};

const STATEMENT_BYTES: usize = 16 << 20;
pub const VERSION: &str = "5.7.0-stand-in";
const ADB_VERSION: &str = "3.2.1";

#[derive(Debug)]
pub enum Plan {
    /// `sql` is None when the client's own text is run.
    Run { sql: Option<Vec<u8>>, writes: bool, one_affected: bool },
    /// Statements for MariaDB, and what they make of the catalog.
    Define { statements: Vec<String>, change: Change },
}

#[derive(Debug)]
pub enum Change {
    Nothing,
    Put(Name, Box<Table>),
    Remove(Name),
    Rename(Name, Name),
    RemoveSchema(String),
}

impl Plan {
    fn read(sql: Option<Vec<u8>>) -> Self {
        Self::Run { sql, writes: false, one_affected: false }
    }

    pub fn define(statement: String, change: Change) -> Self {
        Self::Define { statements: vec![statement], change }
    }
}

pub fn resolve(name: (Option<String>, String), database: Option<&str>) -> Result<Name, Refusal> {
    match name.0.or_else(|| database.map(str::to_owned)) {
        Some(schema) => Ok((schema, name.1)),
        None => Err(refuse(1046, "No database selected")),
    }
}

/// Writes are what a locked disk stops.
pub fn is_write(sql: &[u8]) -> bool {
    tokens(sql).next().is_some_and(|first| {
        ["insert", "replace", "update", "delete", "create", "drop", "alter", "truncate", "load"]
            .iter()
            .any(|word| first.is(word))
    })
}

pub fn is_definition(sql: &[u8]) -> bool {
    tokens(sql)
        .next()
        .is_some_and(|first| ["create", "drop", "alter", "truncate"].iter().any(|word| first.is(word)))
}

pub fn plan(sql: &[u8], database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    if sql.len() > STATEMENT_BYTES {
        return Err(limit(format!("a statement of {} bytes, at most {STATEMENT_BYTES}", sql.len())));
    }
    let Some(first) = tokens(sql).next() else { return Err("an empty statement".to_owned().into()) };
    let word = String::from_utf8_lossy(first.raw).to_lowercase();
    match word.as_str() {
        "insert" | "replace" => rows::insert(sql, database, state),
        "update" => rows::update(sql, database, state),
        "delete" => {
            rows::judge_conditions(sql)?;
            Ok(Plan::Run { sql: None, writes: true, one_affected: false })
        }
        "select" | "with" | "(" | "explain" | "desc" | "describe" => {
            rows::judge_conditions(sql)?;
            query(sql)
        }
        "show" => show(sql, database, state),
        "use" | "kill" => Ok(Plan::read(None)),
        "set" => set(sql),
        "create" => create(&mut Cursor::new(sql), database, state),
        "drop" => drop(&mut Cursor::new(sql), database, state),
        "alter" => alter::alter(&mut Cursor::new(sql), database, state),
        "truncate" => truncate(&mut Cursor::new(sql), database),
        "begin" | "start" | "commit" | "rollback" | "savepoint" | "release" | "lock" | "unlock" | "xa" => {
            Err(unsupported(format!("{word}: there are no transactions and no locks")))
        }
        other => Err(unsupported(format!("statement {other} is not supported"))),
    }
}

/// What tells one server from another, and information_schema, are answered as AnalyticDB would.
fn query(sql: &[u8]) -> Result<Plan, Refusal> {
    let all: Vec<Token<'_>> = tokens(sql).collect();
    let mut changed = Vec::new();
    let mut kept = 0;
    let mut put = |from: usize, to: usize, text: &str| {
        changed.extend_from_slice(&sql[kept..from]);
        changed.extend_from_slice(text.as_bytes());
        kept = to;
    };
    for (n, token) in all.iter().enumerate() {
        let next = |by: usize, word: &str| all.get(n + by).is_some_and(|token| token.is(word));
        if token.value().eq_ignore_ascii_case("information_schema") && next(1, ".") {
            let Some(view) = all.get(n + 2) else { continue };
            let name = view.value().to_lowercase();
            if VIEWS.contains(&name.as_str()) {
                put(token.at, view.end(), &format!("{DATABASE}.{name}"));
            } else if name != "processlist" && name != "collations" {
                return Err(refuse(1109, format!("Unknown table '{name}' in information_schema")));
            }
        } else if next(1, "(") && next(2, ")") && (token.is("version") || token.is("adb_version")) {
            put(
                token.at,
                all[n + 2].end(),
                &quote_text(if token.is("version") { VERSION } else { ADB_VERSION }),
            );
        } else if token.is("@@version_comment") {
            put(token.at, token.end(), "'AnalyticDB stand-in'");
        }
    }
    if kept == 0 {
        return Ok(Plan::read(None));
    }
    changed.extend_from_slice(&sql[kept..]);
    Ok(Plan::read(Some(changed)))
}

fn show(sql: &[u8], database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    let mut cursor = Cursor::new(sql);
    if !cursor.take("show create table") {
        return Ok(Plan::read(None));
    }
    let name = resolve(cursor.table()?, database)?;
    let Some(table) = state.table(&name) else { return Err(missing(&name)) };
    let text = format!(
        "SELECT {} AS `Table`, {} AS `Create Table`",
        quote_text(&name.1),
        quote_text(&table.show(&name.1))
    );
    Ok(Plan::read(Some(text.into_bytes())))
}

pub fn missing(name: &Name) -> Refusal {
    refuse(1146, format!("Table '{}.{}' doesn't exist", name.0, name.1))
}

/// Names and time zone; the knobs of MySQL's engine are not there.
fn set(sql: &[u8]) -> Result<Plan, Refusal> {
    let absent = [
        "sql_mode",
        "autocommit",
        "foreign_key_checks",
        "unique_checks",
        "transaction",
        "sql_safe_updates",
        "sql_log_bin",
    ];
    for token in tokens(sql) {
        let name = token.value().to_lowercase();
        if let Some(absent) = absent.iter().find(|absent| name.trim_start_matches('@').ends_with(**absent)) {
            return Err(refuse(1193, format!("Unknown system variable '{absent}'")));
        }
    }
    Ok(Plan::read(None))
}

fn create(cursor: &mut Cursor<'_>, database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    if cursor.take("create database") || cursor.take("create schema") {
        let gentle = cursor.take("if not exists");
        let name = cursor.name()?;
        check_database(&name)?;
        let clause = if gentle { "IF NOT EXISTS " } else { "" };
        // Charset and collation are taken and mean nothing.
        return Ok(Plan::define(
            format!(
                "CREATE DATABASE {clause}{} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                quote_name(&name)
            ),
            Change::Nothing,
        ));
    }
    if !cursor.take("create table") {
        let what = cursor.tokens.get(1).map(|token| token.value()).unwrap_or_default();
        return Err(unsupported(format!("CREATE {what} is not supported")));
    }
    let gentle = cursor.take("if not exists");
    let name = resolve(cursor.table()?, database)?;
    check_name(&name.1)?;
    let bracket = cursor.starts("( like");
    let table = if bracket || cursor.starts("like") {
        let _ = cursor.take("(");
        cursor.expect("like")?;
        let other = resolve(cursor.table()?, database)?;
        let _ = cursor.take(")");
        if let Some(token) = cursor.next() {
            return Err(cursor.unexpected("the end", Some(token)).into());
        }
        state.table(&other).cloned().ok_or_else(|| missing(&other))?
    } else {
        Table::parse(cursor)?
    };
    if gentle && state.table(&name).is_some() {
        return Ok(Plan::Define { statements: Vec::new(), change: Change::Nothing });
    }
    Ok(Plan::define(table.physical(&quoted(&name)), Change::Put(name, Box::new(table))))
}

fn drop(cursor: &mut Cursor<'_>, database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    if cursor.take("drop database") || cursor.take("drop schema") {
        let clause = if cursor.take("if exists") { "IF EXISTS " } else { "" };
        let name = cursor.name()?;
        let cascade = cursor.take("cascade");
        if !cursor.is_at_end() {
            let next = cursor.peek();
            return Err(cursor.unexpected("the end", next).into());
        }
        if name == DATABASE {
            return Err(unsupported("this database is the stand-in's own"));
        }
        if !cascade && state.has_tables(&name) {
            return Err(unsupported(format!("database {name} is not empty: empty it or say CASCADE")));
        }
        return Ok(Plan::define(
            format!("DROP DATABASE {clause}{}", quote_name(&name)),
            Change::RemoveSchema(name),
        ));
    }
    if !cursor.take("drop table") {
        let what = cursor.tokens.get(1).map(|token| token.value()).unwrap_or_default();
        return Err(unsupported(format!("DROP {what} is not supported")));
    }
    let clause = if cursor.take("if exists") { "IF EXISTS " } else { "" };
    let name = resolve(cursor.table()?, database)?;
    if !cursor.is_at_end() {
        return Err(unsupported("DROP TABLE takes one table"));
    }
    Ok(Plan::define(format!("DROP TABLE {clause}{}", quoted(&name)), Change::Remove(name)))
}

fn truncate(cursor: &mut Cursor<'_>, database: Option<&str>) -> Result<Plan, Refusal> {
    cursor.expect("truncate")?;
    let _ = cursor.take("table");
    let name = resolve(cursor.table()?, database)?;
    if !cursor.is_at_end() {
        return Err(unsupported("the stand-in does not truncate partitions"));
    }
    Ok(Plan::define(format!("TRUNCATE TABLE {}", quoted(&name)), Change::Nothing))
}

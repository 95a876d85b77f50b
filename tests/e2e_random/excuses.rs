//! Stops that Tidegate documents: the history holds what causes them, and the task says what cures them.

use std::collections::BTreeMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

use super::history::History;
use support::sql;
use support::stack::Dialect;

/// What a person does when a task stops.
#[derive(Debug, Clone, Copy)]
pub enum Cure {
    /// Changes the spec and resumes.
    Patch(&'static str),
    /// Has Drainer learn the names of tables that were renamed together, and resumes.
    TellApart,
    /// Has Drainer learn the columns of the tables, has them copied again, and resumes.
    CopyAgain,
}

/// A part of the error, the cure's name, the cure.
const CURES: &[(&str, &str, Cure)] = &[
    ("source.renames", "renames during the start", Cure::TellApart),
    (UNHEARD, "a column that Drainer never heard of", Cure::CopyAgain),
    (
        "source.tidb",
        "a tidb connection for a task without one",
        Cure::Patch(r#"{"source": {"tidb": "tidb"}}"#),
    ),
    (
        "set ddl.modify_column to rebuild",
        "rebuild at MODIFY COLUMN",
        Cure::Patch(r#"{"ddl": {"modify_column": "rebuild"}}"#),
    ),
    (
        "set ddl.rename_column to rebuild",
        "rebuild at RENAME COLUMN",
        Cure::Patch(r#"{"ddl": {"rename_column": "rebuild"}}"#),
    ),
    (
        "set ddl.add_column to rebuild",
        "rebuild at ADD COLUMN",
        Cure::Patch(r#"{"ddl": {"add_column": "rebuild"}}"#),
    ),
    (
        "set ddl.drop_column to rebuild",
        "rebuild at DROP COLUMN",
        Cure::Patch(r#"{"ddl": {"drop_column": "rebuild"}}"#),
    ),
];

/// Drainer was restarted amid an ADD COLUMN.
pub const UNHEARD: &str = "it never heard of it";

pub fn cure(error: &Value) -> Option<(&'static str, Cure)> {
    let text = error.to_string();
    CURES.iter().find(|(part, ..)| text.contains(part)).map(|(_, name, cure)| (*name, *cure))
}

/// A part of the error, the mark of the statement that causes it, the reason.
const STOPS: &[(&str, Option<&str>, &str)] = &[
    // The Drainer stage sent it late (/drainer/reorder): nothing can be said of the rows between.
    ("came after newer changes", None, "a DDL that came late"),
    // TiDB computes a virtual column when it is read, and then fails itself.
    ("out of range in", None, OVERFLOW),
    // TiDB 7.0 lists it after a RENAME of several tables across schemas.
    (r#""kind":"contention","message":"Table '"#, None, "a table that TiDB lists and has not"),
    // There is no source to copy it from.
    (UNHEARD, None, "a column that Drainer never heard of"),
    ("has no schema in this statement", None, "an old name without its schema that fits several tables"),
];

pub fn of_stop(error: &Value, history: &History) -> Option<&'static str> {
    let text = error.to_string();
    STOPS
        .iter()
        .find(|(part, mark, _)| text.contains(part) && mark.is_none_or(|mark| history.marks.contains(mark)))
        .map(|(.., reason)| *reason)
}

const OVERFLOW: &str = "a generated column that overflows";

const UNTOLD: &str = "a table to copy again, and no source to copy it from";

pub const TAKEN: &str = "a name that a table which is not followed keeps";

/// The place on the target that another table has than the one which comes there.
pub fn taken_place(error: &Value) -> Option<&str> {
    let (_, rest) = error["message"].as_str()?.split_once("the target has a table ")?;
    rest.strip_suffix(" that is not the task's")
}

/// What no target can follow, by a part of the error.
const TABLES: &[(&str, &str)] = &[
    ("give the task a tidb connection in source.tidb", UNTOLD),
    ("to rebuild and resume: the table is then copied again", UNTOLD),
    ("out of range in", OVERFLOW),
    // Every column is generated.
    ("no column of this table can be on the target", "no column that the stream carries"),
];

/// What AnalyticDB cannot hold or follow.
const ADB: &[(&str, &str)] = &[
    ("no primary key, and no unique key", "no key that identifies a row"),
    ("without a primary key or a unique key", "no key that identifies a row"),
    ("names of 1 to 127 characters", "a name that AnalyticDB does not take"),
    ("columns that identify a row", "another key"),
];

pub fn of_table(error: &Value, dialect: Dialect) -> Option<&'static str> {
    let text = error.to_string();
    let adb = if dialect == Dialect::Adb { ADB } else { &[] };
    TABLES.iter().chain(adb).find(|(part, _)| text.contains(part)).map(|(_, reason)| *reason)
}

/// Whether rows of the source break a unique key of theirs. TiDB 7.0 takes an ENUM's index 0 and its label '' for the same when it asks
/// whether a row changes, and for two when it looks for duplicates.
pub async fn breaks_its_keys(source: &mut Conn, schema: &str, table: &str) -> bool {
    let keys = "SELECT s.index_name, s.column_name, s.sub_part, c.data_type \
                FROM information_schema.statistics s JOIN information_schema.columns c \
                ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name \
                WHERE s.table_schema = ? AND s.table_name = ? AND s.non_unique = 0 ORDER BY s.index_name, s.seq_in_index";
    let columns: Vec<(String, String, Option<u32>, String)> =
        source.exec(keys, (schema, table)).await.expect("its keys");
    let mut keys: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (index, column, prefix, kind) in columns {
        let column = sql::quote(&column);
        let value = match (kind.as_str(), prefix) {
            ("enum", _) => format!("{column} + 0"),
            (_, Some(prefix)) => format!("LEFT({column}, {prefix})"),
            _ => column.clone(),
        };
        let (there, values) = keys.entry(index).or_default();
        there.push(format!("{column} IS NOT NULL"));
        values.push(value);
    }
    let name = format!("{}.{}", sql::quote(schema), sql::quote(table));
    for (there, values) in keys.into_values() {
        let twice = format!(
            "SELECT COUNT(*) FROM {name} USE INDEX () WHERE {} GROUP BY {} HAVING COUNT(*) > 1",
            there.join(" AND "),
            values.join(", ")
        );
        match source.query_first::<u64, _>(&twice).await {
            Ok(found) if found.is_some() => return true,
            Ok(_) => {}
            // TiDB 7.0 does not find every column that it lists: then nothing excuses the table.
            Err(error) => eprintln!("{name}: {error}: {twice}"),
        }
    }
    false
}

pub const BROKEN_KEY: &str = "a source that breaks its own unique key";

/// Of a table that the source itself cannot read.
pub fn of_read(error: &str) -> Option<&'static str> {
    error.contains("out of range in").then_some(OVERFLOW)
}

/// Of a failed item.
pub fn of_precheck(item: &Value, dialect: Dialect) -> Option<&'static str> {
    of_table(item, dialect)
}

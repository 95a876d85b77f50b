//! Dead letters: row changes that the target refused, set aside in the transaction that makes the position behind them durable.
//!
//! A letter is known by its place, so a batch that is repeated after a crash sets nothing aside twice; one that is refused again
//! is open again, whatever became of it before.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::rows::{json, to_json};
use super::writer::Write;
use super::{Store, now_ms};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Epoch, TableName, TaskId, Tso};

/// Letters that are open no more are kept so long: they hold images of rows.
const KEPT_MS: i64 = 15 * 86_400_000;
/// A task keeps at most so many numbers of letters that are open no more; the oldest go first.
const CLOSED_MAX: i64 = 10_000;

/// A column as the stream names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
}

/// A row change to be set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    pub table: TableName,
    /// full, incremental
    pub phase: &'static str,
    /// insert, update, delete
    pub operation: &'static str,
    pub key_columns: Vec<String>,
    pub key: Vec<u8>,
    pub columns: Vec<LetterColumn>,
    pub new_row: Option<Vec<u8>>,
    pub old_row: Option<Vec<u8>>,
    pub offset: i64,
    pub nth: u64,
    pub commit_ts: Tso,
    pub error: Error,
    /// Why a retry could do harm.
    pub blocked: Option<String>,
}

impl Letter {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let images = [&self.new_row, &self.old_row];
        self.key.len() + images.iter().map(|row| row.as_ref().map_or(0, Vec::len)).sum::<usize>() + 256
    }
}

/// A row change that was set aside.
#[derive(Debug, Clone)]
pub struct LetterRow {
    pub n: i64,
    pub table: TableName,
    pub phase: String,
    pub operation: String,
    pub key_columns: Vec<String>,
    pub key: Vec<u8>,
    pub columns: Vec<LetterColumn>,
    pub new_row: Option<Vec<u8>>,
    pub old_row: Option<Vec<u8>>,
    pub offset: i64,
    pub nth: u64,
    pub commit_ts: i64,
    pub error: Error,
    pub state: String,
    pub asked: bool,
    pub attempts: i64,
    pub blocked: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

/// An open letter, as the stream watches for later changes of its row.
#[derive(Debug, Clone)]
pub struct OpenLetter {
    pub n: i64,
    /// Folded.
    pub table: TableName,
    pub key: Vec<u8>,
    pub key_columns: Vec<String>,
    pub offset: i64,
    pub nth: u64,
}

/// Which letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    All,
    Numbers(Vec<i64>),
    Tables(Vec<TableName>),
}

fn read(row: &SqliteRow) -> Result<LetterRow> {
    Ok(LetterRow {
        n: row.try_get("n")?,
        table: TableName::new(
            row.try_get::<String, _>("schema_name")?,
            row.try_get::<String, _>("table_name")?,
        ),
        phase: row.try_get("phase")?,
        operation: row.try_get("operation")?,
        key_columns: json(row, "key_columns")?,
        key: row.try_get("key_bytes")?,
        columns: json(row, "columns")?,
        new_row: row.try_get("new_row")?,
        old_row: row.try_get("old_row")?,
        offset: row.try_get("offset")?,
        nth: row.try_get::<i64, _>("nth")?.cast_unsigned(),
        commit_ts: row.try_get("commit_ts")?,
        error: json(row, "error")?,
        state: row.try_get("state")?,
        asked: row.try_get("asked")?,
        attempts: row.try_get("attempts")?,
        blocked: row.try_get("blocked")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// More rows are refused than the task may set aside. It names no object: it stops the task, whatever becomes of a table's errors.
pub fn over_limit(limit: i64, error: &Error) -> Error {
    Error::new(
        ErrorKind::ValueRefused,
        format!("more rows are refused than errors.dead_letter_limit allows ({limit}); the last: {error}"),
    )
    .endpoint(Endpoint::Target)
    .hint("cure the cause and retry or discard the dead letters, or raise errors.dead_letter_limit; then resume the task")
}

/// Sets letters aside within the transaction that moves the position over them.
pub(super) async fn put_letters(transaction: &mut Write, task: &TaskId, letters: &[Letter]) -> Result<()> {
    for letter in letters {
        let key = letter.table.key();
        sqlx::query(
            "insert into dead_letters (task_id, n, schema_name, table_name, schema_key, table_key, phase, operation, key_columns,
                 key_bytes, columns, new_row, old_row, offset, nth, commit_ts, error, blocked, state, created_at, updated_at)
             select ?1, coalesce(max(n), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 'open', ?18, ?18
             from dead_letters where task_id = ?1
             on conflict (task_id, phase, schema_key, table_key, offset, nth, key_bytes)
             do update set state = 'open', asked = 0, error = excluded.error, new_row = excluded.new_row,
                 old_row = excluded.old_row, columns = excluded.columns, attempts = attempts + 1, updated_at = excluded.updated_at",
        )
        .bind(&task.0)
        .bind(&letter.table.schema)
        .bind(&letter.table.table)
        .bind(&key.schema)
        .bind(&key.table)
        .bind(letter.phase)
        .bind(letter.operation)
        .bind(to_json(&letter.key_columns)?)
        .bind(&letter.key)
        .bind(to_json(&letter.columns)?)
        .bind(&letter.new_row)
        .bind(&letter.old_row)
        .bind(letter.offset)
        .bind(letter.nth.cast_signed())
        .bind(letter.commit_ts.0.cast_signed())
        .bind(to_json(&letter.error)?)
        .bind(&letter.blocked)
        .bind(now_ms())
        .execute(&mut **transaction)
        .await?;
    }
    if let (Some(first), count) = (letters.first(), letters.len()) {
        let message = format!("{count} row changes set aside");
        let detail = serde_json::json!({
            "count": count, "table": first.table.to_string(), "offset": first.offset.to_string(), "error": first.error,
        });
        super::events::insert(transaction, Some(&task.0), "dead_letter", None, &message, &detail).await?;
    }
    Ok(())
}

/// A later change of their rows is in the target.
pub(super) async fn supersede(transaction: &mut Write, task: &TaskId, numbers: &[i64]) -> Result<()> {
    for n in numbers {
        sqlx::query(
            "update dead_letters set state = 'superseded', asked = 0, updated_at = ? where task_id = ? and n = ? and state = 'open'",
        )
        .bind(now_ms())
        .bind(&task.0)
        .bind(n)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Open letters of a task, as its stream watches them.
    pub async fn open_letters(&self, task: &TaskId) -> Result<Vec<OpenLetter>> {
        sqlx::query(
            "select n, schema_key, table_key, key_bytes, key_columns, offset, nth from dead_letters where task_id = ? and state = 'open'",
        )
        .bind(&task.0)
        .fetch_all(&self.reader)
        .await?
        .iter()
        .map(|row| {
            let (schema, table): (String, String) = (row.try_get("schema_key")?, row.try_get("table_key")?);
            Ok(OpenLetter {
                n: row.try_get("n")?,
                table: TableName::new(schema, table),
                key: row.try_get("key_bytes")?,
                key_columns: json(row, "key_columns")?,
                offset: row.try_get("offset")?,
                nth: row.try_get::<i64, _>("nth")?.cast_unsigned(),
            })
        })
        .collect()
    }

    /// Number of open letters of these tasks, and since when; tasks without any are left out.
    pub async fn letter_counts(&self, tasks: &[&TaskId]) -> Result<HashMap<TaskId, (i64, i64)>> {
        let ids: Vec<_> = tasks.iter().map(|task| task.0.as_str()).collect();
        let rows = sqlx::query(
            "select task_id, count(*) as count, min(created_at) as since from dead_letters
             where state = 'open' and task_id in (select value from json_each(?)) group by task_id",
        )
        .bind(to_json(&ids)?)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| Ok((TaskId(row.try_get("task_id")?), (row.try_get("count")?, row.try_get("since")?))))
            .collect()
    }

    /// Letters above a number in their order; in one state, of one table, when they are given.
    pub async fn letters_after(
        &self,
        task: &TaskId,
        n: i64,
        state: Option<&str>,
        table: Option<&TableName>,
        limit: u32,
    ) -> Result<Vec<LetterRow>> {
        let key = table.map(TableName::key);
        let rows = sqlx::query(
            "select * from dead_letters where task_id = ?1 and n > ?2 and (?3 is null or state = ?3)
             and (?4 is null or (schema_key = ?4 and table_key = ?5)) order by n limit ?6",
        )
        .bind(&task.0)
        .bind(n)
        .bind(state)
        .bind(key.as_ref().map(|key| &key.schema))
        .bind(key.as_ref().map(|key| &key.table))
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read).collect()
    }

    pub async fn letter(&self, task: &TaskId, n: i64) -> Result<Option<LetterRow>> {
        let row = sqlx::query("select * from dead_letters where task_id = ? and n = ?")
            .bind(&task.0)
            .bind(n)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Numbers of the open letters that are meant.
    pub async fn open_numbers(&self, task: &TaskId, which: &Which) -> Result<Vec<i64>> {
        let (numbers, tables) = match which {
            Which::All => (None, None),
            Which::Numbers(numbers) => (Some(to_json(numbers)?), None),
            Which::Tables(tables) => {
                let keys: Vec<_> = tables
                    .iter()
                    .map(|name| name.key())
                    .map(|key| format!("{}\0{}", key.schema, key.table))
                    .collect();
                (None, Some(to_json(&keys)?))
            }
        };
        Ok(sqlx::query_scalar(
            "select n from dead_letters where task_id = ?1 and state = 'open'
             and (?2 is null or n in (select value from json_each(?2)))
             and (?3 is null or schema_key || char(0) || table_key in (select value from json_each(?3))) order by n",
        )
        .bind(&task.0)
        .bind(numbers)
        .bind(tables)
        .fetch_all(&self.reader)
        .await?)
    }

    /// Asks for a retry of open letters, or discards them. Gives how many there were.
    pub async fn decide_letters(
        &self,
        task: &TaskId,
        numbers: &[i64],
        discard: bool,
        actor: Option<&str>,
    ) -> Result<u64> {
        let mut transaction = self.writer.begin().await?;
        let update = if discard {
            "update dead_letters set state = 'discarded', asked = 0, updated_at = ?1
             where task_id = ?2 and state = 'open' and n in (select value from json_each(?3))"
        } else {
            "update dead_letters set asked = 1, updated_at = ?1
             where task_id = ?2 and state = 'open' and n in (select value from json_each(?3))"
        };
        let done = sqlx::query(update)
            .bind(now_ms())
            .bind(&task.0)
            .bind(to_json(&numbers)?)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if done > 0 {
            let word = if discard { "discard" } else { "retry" };
            let message = format!("{word} of {done} dead letters");
            let detail = serde_json::json!({"command": format!("dead_letters_{word}"), "numbers": numbers});
            super::events::insert(&mut transaction, Some(&task.0), "command", actor, &message, &detail)
                .await?;
        }
        transaction.commit().await?;
        Ok(done)
    }

    /// Open letters whose retry is asked for.
    pub async fn asked_letters(&self, task: &TaskId) -> Result<Vec<LetterRow>> {
        let rows = sqlx::query(
            "select * from dead_letters where task_id = ? and state = 'open' and asked = 1 order by n limit 1000",
        )
        .bind(&task.0)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read).collect()
    }

    /// How a retry ended. Nothing happens when the letter is open no more.
    pub async fn letter_tried(
        &self,
        task: &TaskId,
        epoch: Epoch,
        n: i64,
        outcome: std::result::Result<(), &Error>,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        let (state, error) = match outcome {
            Ok(()) => ("retried", None),
            Err(error) => ("open", Some(to_json(error)?)),
        };
        sqlx::query(
            "update dead_letters set state = ?1, asked = 0, attempts = attempts + 1, error = coalesce(?2, error), updated_at = ?3
             where task_id = ?4 and n = ?5 and state = 'open'",
        )
        .bind(state)
        .bind(error)
        .bind(now_ms())
        .bind(&task.0)
        .bind(n)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Forgets letters that are open no more, where they are too old or too many. The newest of each task stays: numbers are not
    /// given twice.
    pub async fn trim_letters(&self) -> Result<()> {
        self.writer
            .execute(
                sqlx::query(
                    "with newest (task_id, n) as (select task_id, max(n) from dead_letters group by task_id)
                     delete from dead_letters where state <> 'open' and exists (select 1 from newest
                     where newest.task_id = dead_letters.task_id and dead_letters.n < newest.n
                     and (dead_letters.updated_at < ?1 or dead_letters.n <= newest.n - ?2))",
                )
                .bind(now_ms() - KEPT_MS)
                .bind(CLOSED_MAX),
            )
            .await?;
        Ok(())
    }

    /// What a DDL does to open letters of its tables: `moved` from a name to another, in order; `gone`: their rows are no more;
    /// `blocked`: rows may be no more.
    pub async fn letters_met_ddl(
        &self,
        task: &TaskId,
        epoch: Epoch,
        moved: &[(TableName, TableName)],
        gone: &[TableName],
        blocked: &[(TableName, String)],
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        for (from, to) in moved {
            let (from, key) = (from.key(), to.key());
            sqlx::query(
                "update dead_letters set schema_name = ?, table_name = ?, schema_key = ?, table_key = ?
                 where task_id = ? and state = 'open' and schema_key = ? and table_key = ?",
            )
            .bind(&to.schema)
            .bind(&to.table)
            .bind(&key.schema)
            .bind(&key.table)
            .bind(&task.0)
            .bind(&from.schema)
            .bind(&from.table)
            .execute(&mut *transaction)
            .await?;
        }
        for name in gone {
            let key = name.key();
            sqlx::query(
                "update dead_letters set state = 'superseded', asked = 0, updated_at = ?
                 where task_id = ? and state = 'open' and schema_key = ? and table_key = ?",
            )
            .bind(now_ms())
            .bind(&task.0)
            .bind(&key.schema)
            .bind(&key.table)
            .execute(&mut *transaction)
            .await?;
        }
        for (name, why) in blocked {
            let key = name.key();
            sqlx::query(
                "update dead_letters set blocked = ?, asked = 0 where task_id = ? and state = 'open' and schema_key = ? and table_key = ?",
            )
            .bind(why)
            .bind(&task.0)
            .bind(&key.schema)
            .bind(&key.table)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}

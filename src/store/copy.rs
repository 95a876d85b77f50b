//! What full sync keeps: its tables, the chunk plan as it is made, and which chunks are in the target.
//!
//! Every write is fenced by the task's epoch: an older worker gets `Fenced` and changes nothing.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::Error;
use crate::model::{Epoch, LossyCounts, TableName, TaskId, Tso};
use crate::store::letters::{Letter, over_limit, put_letters};
use crate::store::lossy::add_lossy;
use crate::store::{Store, now_ms};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    Copying,
    Done,
    /// Stopped by `errors.table = stop_table`; tried again by the next run.
    Failed,
}

/// A table of full sync as the store knows it.
#[derive(Debug, Clone)]
pub struct CopyTable {
    pub name: TableName,
    pub state: CopyState,
    pub snapshot: Tso,
    pub had_rows: bool,
    pub planned: bool,
    pub rows_estimated: Option<u64>,
    pub rows_expected: Option<u64>,
    pub rows_copied: u64,
    /// By the table's filter.
    pub rows_left_out: u64,
    pub bytes_copied: u64,
    pub error: Option<Error>,
}

/// A planned chunk; `n` counts from 0 in the order of the plan.
#[derive(Debug, Clone)]
pub struct CopyChunk {
    pub n: u32,
    /// full::chunk::Chunk as JSON
    pub chunk: String,
    pub done: bool,
    pub rows: u64,
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("a record of full sync in the store cannot be read: {error}"))
}

fn table(row: &SqliteRow) -> Result<CopyTable, Error> {
    let count = |column: &str| row.try_get::<Option<i64>, _>(column).map(|n| n.map(i64::cast_unsigned));
    let error: Option<String> = row.try_get("error")?;
    Ok(CopyTable {
        name: TableName::new(
            row.try_get::<String, _>("schema_name")?,
            row.try_get::<String, _>("table_name")?,
        ),
        state: match row.try_get::<String, _>("state")?.as_str() {
            "done" => CopyState::Done,
            "failed" => CopyState::Failed,
            _ => CopyState::Copying,
        },
        snapshot: Tso(row.try_get::<i64, _>("snapshot_tso")?.cast_unsigned()),
        had_rows: row.try_get::<i64, _>("had_rows")? != 0,
        planned: row.try_get::<i64, _>("planned")? != 0,
        rows_estimated: count("rows_estimated")?,
        rows_expected: count("rows_expected")?,
        rows_copied: count("rows_copied")?.unwrap_or(0),
        rows_left_out: count("rows_left_out")?.unwrap_or(0),
        bytes_copied: count("bytes_copied")?.unwrap_or(0),
        error: error.map(|json| serde_json::from_str(&json)).transpose().map_err(broken)?,
    })
}

impl Store {
    /// Every table of the task's full sync, also of former snapshots.
    pub async fn copy_tables(&self, task: &TaskId) -> Result<Vec<CopyTable>, Error> {
        sqlx::query("select * from copy_tables where task_id = ? order by schema_name, table_name")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?
            .iter()
            .map(table)
            .collect()
    }

    pub async fn copy_table(&self, task: &TaskId, name: &TableName) -> Result<Option<CopyTable>, Error> {
        sqlx::query("select * from copy_tables where task_id = ? and schema_name = ? and table_name = ?")
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .fetch_optional(&self.reader)
            .await?
            .as_ref()
            .map(table)
            .transpose()
    }

    /// The chunk plan of a table as far as it was made, in order.
    pub async fn copy_chunks(&self, task: &TaskId, name: &TableName) -> Result<Vec<CopyChunk>, Error> {
        let rows = sqlx::query(
            "select n, chunk, done, rows from copy_chunks where task_id = ? and schema_name = ? and table_name = ? \
             order by n",
        )
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(CopyChunk {
                    n: row.try_get("n")?,
                    chunk: row.try_get("chunk")?,
                    done: row.try_get::<i64, _>("done")? != 0,
                    rows: row.try_get::<i64, _>("rows")?.cast_unsigned(),
                })
            })
            .collect()
    }

    /// Starts, or starts again, the copy of a table: its former plan is forgotten.
    pub async fn begin_copy(
        &self,
        task: &TaskId,
        epoch: Epoch,
        name: &TableName,
        snapshot: Tso,
        had_rows: bool,
        rows_estimated: Option<u64>,
    ) -> Result<(), Error> {
        let mut transaction = self.fenced(task, epoch).await?;
        for kept in ["copy_tables", "lossy_counts"] {
            sqlx::query(sqlx::AssertSqlSafe(format!(
                "delete from {kept} where task_id = ? and schema_name = ? and table_name = ?"
            )))
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "insert into copy_tables (task_id, schema_name, table_name, state, snapshot_tso, had_rows, rows_estimated, \
             updated_at) values (?, ?, ?, 'copying', ?, ?, ?, ?)",
        )
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .bind(snapshot.0.cast_signed())
        .bind(had_rows)
        .bind(rows_estimated.map(u64::cast_signed))
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Adds a chunk to the plan. `last`: the plan is complete with it.
    pub async fn add_copy_chunk(
        &self,
        task: &TaskId,
        epoch: Epoch,
        name: &TableName,
        (n, chunk): (u32, &str),
        last: bool,
    ) -> Result<(), Error> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "insert into copy_chunks (task_id, schema_name, table_name, n, chunk) values (?, ?, ?, ?, ?)",
        )
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .bind(n)
        .bind(chunk)
        .execute(&mut *transaction)
        .await?;
        if last {
            sqlx::query(
                "update copy_tables set planned = 1 where task_id = ? and schema_name = ? and table_name = ?",
            )
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// The rows of a chunk are in the target, or left out by the filter.
    pub async fn finish_copy_chunk(
        &self,
        task: &TaskId,
        epoch: Epoch,
        name: &TableName,
        n: u32,
        (rows, bytes, left_out): (u64, u64, u64),
        (lossy, letters, limit): (&LossyCounts, &[Letter], i64),
    ) -> Result<(), Error> {
        let mut transaction = self.fenced(task, epoch).await?;
        put_letters(&mut transaction, task, letters).await?;
        if let Some(last) = letters.last() {
            let open: i64 =
                sqlx::query_scalar("select count(*) from dead_letters where task_id = ? and state = 'open'")
                    .bind(&task.0)
                    .fetch_one(&mut *transaction)
                    .await?;
            if open > limit {
                return Err(over_limit(limit, &last.error));
            }
        }
        let changed = sqlx::query(
            "update copy_chunks set done = 1, rows = ?, bytes = ?, left_out = ? \
             where task_id = ? and schema_name = ? and table_name = ? and n = ? and done = 0",
        )
        .bind(rows.cast_signed())
        .bind(bytes.cast_signed())
        .bind(left_out.cast_signed())
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .bind(n)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed != 1 {
            return Err(Error::internal("a chunk was finished twice, or is not in the plan").object(name));
        }
        add_lossy(&mut transaction, task, name, lossy).await?;
        sqlx::query(
            "update copy_tables set rows_copied = rows_copied + ?, bytes_copied = bytes_copied + ?, \
             rows_left_out = rows_left_out + ?, updated_at = ? where task_id = ? and schema_name = ? and table_name = ?",
        )
        .bind(rows.cast_signed())
        .bind(bytes.cast_signed())
        .bind(left_out.cast_signed())
        .bind(now_ms())
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Rows of the table's copy that were set aside, whatever became of them.
    pub async fn copy_letters(&self, task: &TaskId, name: &TableName, snapshot: Tso) -> Result<u64, Error> {
        let key = name.key();
        let count: i64 = sqlx::query_scalar(
            "select count(*) from dead_letters where task_id = ? and phase = 'full' and schema_key = ? and table_key = ?
             and commit_ts = ?",
        )
        .bind(&task.0)
        .bind(&key.schema)
        .bind(&key.table)
        .bind(snapshot.0.cast_signed())
        .fetch_one(&self.reader)
        .await?;
        Ok(count.max(0).cast_unsigned())
    }

    /// Number of rows that the table has at the snapshot.
    pub async fn set_copy_expected(
        &self,
        task: &TaskId,
        epoch: Epoch,
        name: &TableName,
        rows: u64,
    ) -> Result<(), Error> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "update copy_tables set rows_expected = ? where task_id = ? and schema_name = ? and table_name = ?",
        )
        .bind(rows.cast_signed())
        .bind(&task.0)
        .bind(&name.schema)
        .bind(&name.table)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Ends a table: done, or failed with its error. `rows` replaces the count of tables that are copied as one unit.
    pub async fn end_copy(
        &self,
        task: &TaskId,
        epoch: Epoch,
        name: &TableName,
        outcome: Result<(u64, u64), &Error>,
    ) -> Result<(), Error> {
        let mut transaction = self.fenced(task, epoch).await?;
        let update = match outcome {
            Ok((rows, bytes)) => sqlx::query(
                "update copy_tables set state = 'done', error = null, rows_copied = ?, bytes_copied = ?, updated_at = ? \
                 where task_id = ? and schema_name = ? and table_name = ?",
            )
            .bind(rows.cast_signed())
            .bind(bytes.cast_signed()),
            Err(error) => sqlx::query(
                "update copy_tables set state = 'failed', error = ?, updated_at = ? \
                 where task_id = ? and schema_name = ? and table_name = ?",
            )
            .bind(serde_json::to_string(error).map_err(Error::internal)?),
        };
        update
            .bind(now_ms())
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}

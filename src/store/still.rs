//! What an operator changes of a task that stands still: its position, or everything at once by a reset.
//!
//! No run can be while a task is paused or at its end, so the API writes here what otherwise a worker writes. Every write names
//! the state in which the task was judged and changes nothing when it is no longer so.

use serde_json::Value;
use sqlx::Row;

use super::rows::{to_json, word};
use super::tasks::TaskRow;
use super::writer::Write;
use super::{DdlDecision, Store, now_ms};
use crate::error::Result;
use crate::model::{Epoch, Offset, Position, TableName, TaskId, Tso};
use crate::task::status::Status;

/// A table of the target that the task made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTable {
    pub name: TableName,
    pub state: OwnState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnState {
    /// It was not there, and its CREATE TABLE may have run.
    Making,
    Made,
    /// A reset has still to empty it.
    Truncate,
    /// A reset has still to drop it.
    Drop,
}

impl OwnState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Made => "made",
            Self::Truncate => "truncate",
            Self::Drop => "drop",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Making, Self::Made, Self::Truncate, Self::Drop]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// A checkpoint as an operator moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub position: Position,
    pub snapshot: Tso,
    pub start_offset: Offset,
    pub watermark: Tso,
}

impl Store {
    /// Begins a write about a task that stands still. None when it is no longer as it was judged.
    pub(super) async fn still(&self, task: &TaskRow) -> Result<Option<Write>> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "update tasks set updated_at = ? where id = ? and status = ? and desired = ? and epoch = ? and spec_version = ?",
        )
        .bind(now_ms())
        .bind(&task.id.0)
        .bind(task.status.as_str())
        .bind(task.desired.as_str())
        .bind(task.epoch.0)
        .bind(task.spec_version)
        .execute(&mut *transaction)
        .await?;
        Ok((done.rows_affected() == 1).then_some(transaction))
    }

    /// Moves the checkpoint to another place of the topic. False when the task or its position is no longer as it was judged.
    pub async fn move_checkpoint(
        &self,
        task: &TaskRow,
        from: Position,
        to: &Moved,
        actor: Option<&str>,
        detail: &Value,
    ) -> Result<bool> {
        let Some(mut transaction) = self.still(task).await? else { return Ok(false) };
        let done = sqlx::query(
            "update checkpoints set next_offset = ?, commit_ts = ?, snapshot_tso = ?, start_offset = ?, watermark_tso = ?,
             anchor = case when start_offset = ? then anchor else null end, updated_at = ? where task_id = ? and next_offset = ? and commit_ts = ?",
        )
        .bind(to.position.next_offset.0)
        .bind(to.position.commit_ts.0.cast_signed())
        .bind(to.snapshot.0.cast_signed())
        .bind(to.start_offset.0)
        .bind(to.watermark.0.cast_signed())
        .bind(to.start_offset.0)
        .bind(now_ms())
        .bind(&task.id.0)
        .bind(from.next_offset.0)
        .bind(from.commit_ts.0.cast_signed())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        let message = format!("checkpoint moved from {} to {}", from.next_offset, to.position.next_offset);
        super::events::insert(&mut transaction, Some(&task.id.0), "checkpoint", actor, &message, detail)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Keeps what is decided about a DDL at which the task stands; a failed task goes on with it. False when the task is no longer as
    /// it was judged.
    pub async fn decide_ddl(
        &self,
        task: &TaskRow,
        n: i64,
        decision: Option<&DdlDecision>,
        actor: Option<&str>,
        (message, detail): (&str, &Value),
    ) -> Result<bool> {
        let Some(mut transaction) = self.still(task).await? else { return Ok(false) };
        let done = sqlx::query(
            "update ddl set decision = ? where task_id = ? and n = ? and state in ('failed', 'pending')",
        )
        .bind(decision.map(to_json).transpose()?)
        .bind(&task.id.0)
        .bind(n)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        if task.status == Status::Failed {
            // As `resume` does: no run can be.
            sqlx::query("update tasks set desired = 'running', status = 'paused' where id = ?")
                .bind(&task.id.0)
                .execute(&mut *transaction)
                .await?;
        }
        super::events::insert(&mut transaction, Some(&task.id.0), "command", actor, message, detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Makes a task what it was before its first start, but for its spec. `own` is what is still to be done on the target; the
    /// next run does what this process cannot. False when the task is no longer as it was judged.
    pub async fn reset_task(
        &self,
        task: &TaskRow,
        own: &[OwnTable],
        actor: Option<&str>,
        detail: &Value,
    ) -> Result<bool> {
        let Some(mut transaction) = self.still(task).await? else { return Ok(false) };
        for table in [
            "checkpoints",
            "catalog",
            "catalog_schemas",
            "ddl",
            "table_states",
            "table_commands",
            "lossy_counts",
            "copy_tables",
            "own_tables",
            "dead_letters",
        ] {
            sqlx::query(sqlx::AssertSqlSafe(format!("delete from {table} where task_id = ?")))
                .bind(&task.id.0)
                .execute(&mut *transaction)
                .await?;
        }
        for table in own {
            put_own(&mut transaction, &task.id, &table.name, table.state).await?;
        }
        sqlx::query(
            "update tasks set desired = 'none', status = 'created', phase = null, applied_spec_version = null, last_error = null,
             last_error_at = null, retry = null, precheck = null, plan = null, started_at = null, finished_at = null
             where id = ?",
        )
        .bind(&task.id.0)
        .execute(&mut *transaction)
        .await?;
        let message = format!("reset {}", task.name());
        super::events::insert(&mut transaction, Some(&task.id.0), "command", actor, &message, detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Tables that the task made, or that a reset has still to see to.
    pub async fn own_tables(&self, task: &TaskId) -> Result<Vec<OwnTable>> {
        sqlx::query("select * from own_tables where task_id = ? order by schema_name, table_name")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?
            .iter()
            .map(|row| {
                let (schema, table): (String, String) =
                    (row.try_get("schema_name")?, row.try_get("table_name")?);
                Ok(OwnTable {
                    name: TableName::new(schema, table),
                    state: word(row, "state", OwnState::parse)?,
                })
            })
            .collect()
    }

    /// Says before their CREATE TABLE that these tables are not on the target: what is there afterwards is the task's own.
    pub async fn making_tables(&self, task: &TaskId, epoch: Epoch, names: &[TableName]) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        for name in names {
            put_own(&mut transaction, task, name, OwnState::Making).await?;
        }
        transaction.commit().await
    }

    /// Tables that the task has made now.
    pub async fn made_tables(&self, task: &TaskId, epoch: Epoch, names: &[TableName]) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        for name in names {
            put_own(&mut transaction, task, name, OwnState::Made).await?;
        }
        transaction.commit().await
    }

    /// A table is dropped.
    pub async fn own_table_gone(&self, task: &TaskId, epoch: Epoch, name: &TableName) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query("delete from own_tables where task_id = ? and schema_name = ? and table_name = ?")
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}

async fn put_own(transaction: &mut Write, task: &TaskId, name: &TableName, state: OwnState) -> Result<()> {
    sqlx::query(
        "insert or replace into own_tables (task_id, schema_name, table_name, state) values (?, ?, ?, ?)",
    )
    .bind(&task.0)
    .bind(&name.schema)
    .bind(&name.table)
    .bind(state.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

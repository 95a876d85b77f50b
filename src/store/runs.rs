//! What runs write about their task, each under its own epoch: where no row changes, a newer run has taken over.

use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteQueryResult};

use super::events::insert;
use super::rows::{to_json, word};
use super::tasks::Retry;
use super::{Store, now_ms};
use crate::engine::progress::Phase;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, TaskId};
use crate::task::status::{Desired, Status};

/// What the supervisor compares with what runs.
#[derive(Debug, Clone)]
pub struct RunState {
    pub id: TaskId,
    pub desired: Desired,
    pub status: Status,
    pub epoch: Epoch,
    pub spec_version: i64,
}

fn fenced(task: &TaskId, done: &SqliteQueryResult) -> Result<()> {
    if done.rows_affected() == 0 {
        return Err(Error::new(ErrorKind::Fenced, "a newer run of this task has taken over").object(task));
    }
    Ok(())
}

async fn transition(
    connection: &mut SqliteConnection,
    task: &TaskId,
    message: &str,
    detail: serde_json::Value,
) -> Result<()> {
    insert(connection, Some(&task.0), "transition", None, message, &detail).await
}

impl Store {
    /// State of every task that was ever commanded and is not at its end.
    pub async fn run_states(&self) -> Result<Vec<RunState>> {
        let rows = sqlx::query(
            "select id, desired, status, epoch, spec_version from tasks where desired <> 'none' and status <> 'stopped'
             and not (status = 'finished' and desired <> 'stopped')",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RunState {
                    id: TaskId(row.try_get("id")?),
                    desired: word(row, "desired", Desired::parse)?,
                    status: word(row, "status", Status::parse)?,
                    epoch: Epoch(row.try_get("epoch")?),
                    spec_version: row.try_get("spec_version")?,
                })
            })
            .collect()
    }

    /// Begins a run: the next epoch, status running. None when the task is no longer one to start.
    pub async fn begin_run(&self, task: &TaskId) -> Result<Option<Epoch>> {
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query(
            "update tasks set epoch = epoch + 1, status = 'running', applied_spec_version = spec_version,
             last_error = null, last_error_at = null, retry = null, started_at = coalesce(started_at, ?1), updated_at = ?1
             where id = ?2 and desired = 'running' and status not in ('failed', 'stopped', 'finished') returning epoch",
        )
        .bind(now_ms())
        .bind(&task.0)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let epoch: i64 = row.try_get("epoch")?;
        transition(&mut transaction, task, "running", json!({"status": "running", "epoch": epoch})).await?;
        transaction.commit().await?;
        Ok(Some(Epoch(epoch)))
    }

    /// Writes the status of a run. Failed brings its error; other states keep the last one.
    pub async fn set_status(
        &self,
        task: &TaskId,
        epoch: Epoch,
        status: Status,
        error: Option<&Error>,
    ) -> Result<()> {
        let error_json = error.map(to_json).transpose()?;
        let ended = matches!(status, Status::Stopped | Status::Finished);
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "update tasks set status = ?1, updated_at = ?2, last_error = coalesce(?3, last_error),
             last_error_at = case when ?3 is null then last_error_at else ?2 end,
             retry = case when ?1 in ('pausing', 'stopping') then retry else null end,
             phase = case when ?4 then null else phase end, finished_at = case when ?4 then ?2 else finished_at end
             where id = ?5 and epoch = ?6",
        )
        .bind(status.as_str())
        .bind(now_ms())
        .bind(error_json)
        .bind(ended)
        .bind(&task.0)
        .bind(epoch.0)
        .execute(&mut *transaction)
        .await?;
        fenced(task, &done)?;
        match error {
            Some(error) => {
                let message = format!("failed: {error}");
                insert(
                    &mut transaction,
                    Some(&task.0),
                    "error",
                    None,
                    &message,
                    &json!({"status": status.as_str(), "error": error}),
                )
                .await?;
            }
            None => {
                transition(&mut transaction, task, status.as_str(), json!({"status": status.as_str()}))
                    .await?
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The worker has entered a phase.
    ///
    /// # Errors
    /// `Fenced` when a newer run has taken over, as for every write of a worker.
    pub async fn worker_phase(&self, task: &TaskId, epoch: Epoch, phase: Phase) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query("update tasks set phase = ?, updated_at = ? where id = ? and epoch = ?")
            .bind(phase.as_str())
            .bind(now_ms())
            .bind(&task.0)
            .bind(epoch.0)
            .execute(&mut *transaction)
            .await?;
        fenced(task, &done)?;
        let message = format!("phase {}", phase.as_str());
        transition(&mut transaction, task, &message, json!({"phase": phase.as_str()})).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The run works with this version of the spec.
    pub async fn spec_applied(&self, task: &TaskId, epoch: Epoch, version: i64) -> Result<()> {
        let done = self.writer.execute(sqlx::query(
            "update tasks set applied_spec_version = ?1, updated_at = ?2 where id = ?3 and epoch = ?4",
        )
        .bind(version)
        .bind(now_ms())
        .bind(&task.0)
        .bind(epoch.0))
        .await?;
        fenced(task, &done)
    }

    /// The worker waits before it tries again. `since_ms`: since when nothing went through; times in milliseconds since the
    /// epoch. Only the first attempt makes an event.
    pub async fn worker_retry(
        &self,
        task: &TaskId,
        epoch: Epoch,
        error: &Error,
        attempt: u32,
        since_ms: i64,
        retry_at_ms: i64,
    ) -> Result<()> {
        let retry = to_json(&Retry { attempt, since_ms, retry_at_ms })?;
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "update tasks set retry = ?1, last_error = ?2, last_error_at = ?3, updated_at = ?3 where id = ?4 and epoch = ?5",
        )
        .bind(retry)
        .bind(to_json(error)?)
        .bind(now_ms())
        .bind(&task.0)
        .bind(epoch.0)
        .execute(&mut *transaction)
        .await?;
        fenced(task, &done)?;
        if attempt <= 1 {
            let message = format!("retrying: {error}");
            insert(&mut transaction, Some(&task.0), "retry", None, &message, &json!({"error": error}))
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The worker made progress again; nothing happens when it was not retrying.
    pub async fn worker_recovered(&self, task: &TaskId, epoch: Epoch) -> Result<()> {
        // Almost always there is nothing to write.
        let row = sqlx::query("select epoch, retry is not null as retrying from tasks where id = ?")
            .bind(&task.0)
            .fetch_optional(&self.reader)
            .await?;
        let retrying = match row {
            Some(row) if row.try_get::<i64, _>("epoch")? == epoch.0 => row.try_get::<bool, _>("retrying")?,
            _ => {
                return Err(
                    Error::new(ErrorKind::Fenced, "a newer run of this task has taken over").object(task)
                );
            }
        };
        if retrying {
            let mut transaction = self.writer.begin().await?;
            let done = sqlx::query(
                "update tasks set retry = null, last_error = null, last_error_at = null, updated_at = ?
                 where id = ? and epoch = ?",
            )
            .bind(now_ms())
            .bind(&task.0)
            .bind(epoch.0)
            .execute(&mut *transaction)
            .await?;
            fenced(task, &done)?;
            insert(&mut transaction, Some(&task.0), "retry", None, "recovered", &json!({})).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

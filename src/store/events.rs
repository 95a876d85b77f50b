//! What happened, in one increasing order: commands, transitions, DDL, errors, retries.

use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::rows::json;
use super::{Store, now_ms};
use crate::error::{Error, Result};
use crate::model::TaskId;

#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: i64,
    pub at: i64,
    pub task_id: Option<String>,
    /// None for tasks that are gone.
    pub task_name: Option<String>,
    pub kind: String,
    pub actor: Option<String>,
    pub message: String,
    pub detail: Value,
}

/// Writes an event within a transaction.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    task: Option<&str>,
    kind: &str,
    actor: Option<&str>,
    message: &str,
    detail: &Value,
) -> Result<(), Error> {
    sqlx::query("insert into events (at, task_id, kind, actor, message, detail) values (?, ?, ?, ?, ?, ?)")
        .bind(now_ms())
        .bind(task)
        .bind(kind)
        .bind(actor)
        .bind(message)
        .bind(detail.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// Writes an event. `kind` is one of command, transition, ddl, error, retry, ...; `detail` is a JSON object.
    pub async fn event(
        &self,
        task: Option<&TaskId>,
        kind: &str,
        actor: Option<&str>,
        message: &str,
        detail: Value,
    ) -> Result<()> {
        let mut connection = self.writer.acquire().await?;
        insert(&mut connection, task.map(|task| task.0.as_str()), kind, actor, message, &detail).await
    }

    /// Events above an id in their order; of one task when it is given.
    pub async fn events_after(&self, task: Option<&TaskId>, after: i64, limit: u32) -> Result<Vec<EventRow>> {
        let rows = sqlx::query(
            "select e.*, t.name as task_name from events e left join tasks t on t.id = e.task_id
             where e.id > ?1 and (?2 is null or e.task_id = ?2) order by e.id limit ?3",
        )
        .bind(after)
        .bind(task.map(|task| task.0.as_str()))
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(EventRow {
                    id: row.try_get("id")?,
                    at: row.try_get("at")?,
                    task_id: row.try_get("task_id")?,
                    task_name: row.try_get("task_name")?,
                    kind: row.try_get("kind")?,
                    actor: row.try_get("actor")?,
                    message: row.try_get("message")?,
                    detail: json(row, "detail")?,
                })
            })
            .collect()
    }
}

//! What happened, in one increasing order: commands, transitions, DDL, errors, retries.

use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::rows::json;
use super::{Store, now_ms};
use crate::access::Caller;
use crate::error::{Error, Result};
use crate::model::TaskId;

/// Events that are trimmed in one transaction.
const TRIM_ROWS: u32 = 2000;

#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: i64,
    pub at: i64,
    pub task_id: Option<String>,
    /// None for tasks that are gone.
    pub task_name: Option<String>,
    pub kind: String,
    pub actor: Option<String>,
    /// Address from which the actor called.
    pub peer: Option<String>,
    pub message: String,
    pub detail: Value,
}

/// Writes an event within a transaction. Where a request is answered its caller is the actor, unless another one is named.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    task: Option<&str>,
    kind: &str,
    actor: Option<&str>,
    message: &str,
    detail: &Value,
) -> Result<(), Error> {
    let caller = Caller::current();
    let actor = actor.or(caller.as_ref().map(|caller| &*caller.name));
    let peer = caller.as_ref().and_then(|caller| caller.peer.as_deref());
    sqlx::query(
        "insert into events (at, task_id, kind, actor, peer, message, detail) values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(now_ms())
    .bind(task)
    .bind(kind)
    .bind(actor)
    .bind(peer)
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
        let mut write = self.writer.begin().await?;
        insert(&mut write, task.map(|task| task.0.as_str()), kind, actor, message, &detail).await?;
        write.commit().await
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
                    peer: row.try_get("peer")?,
                    message: row.try_get("message")?,
                    detail: json(row, "detail")?,
                })
            })
            .collect()
    }

    /// Id of the newest event; 0 before the first.
    pub async fn newest_event(&self) -> Result<i64> {
        let row =
            sqlx::query("select coalesce(max(id), 0) as id from events").fetch_one(&self.reader).await?;
        Ok(row.try_get("id")?)
    }

    /// Events up to this id were trimmed; 0 = none.
    pub async fn events_trimmed_to(&self) -> Result<i64> {
        let row = sqlx::query(
            "select coalesce((select min(id) - 1 from events),
             (select seq from sqlite_sequence where name = 'events'), 0) as id",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(row.try_get("id")?)
    }

    /// Trims events that are older than so many days, and all but the newest `rows`. Ids are dense and grow with time, so a
    /// range of ids is what goes, in parts that leave the writer free in between.
    pub async fn trim_events(&self, days: u32, rows: u32) -> Result<u64> {
        let oldest = now_ms() - i64::from(days) * 24 * 60 * 60 * 1000;
        let mut trimmed = 0;
        loop {
            let done = self.writer.execute(sqlx::query(
                "delete from events where id <= (select max(id) from (select id, at from events order by id limit ?1)
                 where at < ?2 or id <= (select max(id) from events) - ?3)",
            )
            .bind(TRIM_ROWS)
            .bind(oldest)
            .bind(rows))
            .await?;
            trimmed += done.rows_affected();
            if done.rows_affected() < u64::from(TRIM_ROWS) {
                return Ok(trimmed);
            }
        }
    }
}

//! What the API shows of the stream: checkpoint, DDL record, known tables. Written by incremental sync (store/stream.rs).

use std::collections::HashMap;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::rows::{optional_json, to_json};
use super::{DdlDecision, Store};
use crate::error::{Error, Result};
use crate::model::TaskId;

#[derive(Debug, Clone)]
pub struct CheckpointRow {
    pub snapshot_tso: i64,
    pub start_offset: i64,
    pub next_offset: i64,
    pub commit_ts: i64,
    pub cluster_id: String,
    pub topic: String,
    pub watermark_tso: i64,
    pub updated_at: i64,
}

#[derive(Debug, Clone)]
pub struct DdlRow {
    pub n: i64,
    pub commit_ts: i64,
    pub offset: i64,
    pub schema: String,
    pub table: String,
    pub source_text: String,
    /// JSON array of statements.
    pub statements: String,
    /// JSON array of texts.
    pub notes: String,
    pub steps_done: i64,
    pub state: String,
    pub decision: Option<DdlDecision>,
    pub error: Option<Error>,
    pub created_at: i64,
    pub finished_at: Option<i64>,
}

/// A DDL that is not applied and that the stream waits at.
#[derive(Debug, Clone)]
pub struct StoppedDdl {
    pub n: i64,
    /// `schema.table`, or the schema.
    pub object: String,
    pub error: Option<Error>,
    pub since_ms: i64,
}

fn read_ddl(row: &SqliteRow) -> Result<DdlRow> {
    Ok(DdlRow {
        n: row.try_get("n")?,
        commit_ts: row.try_get("commit_ts")?,
        offset: row.try_get("offset")?,
        schema: row.try_get("schema_name")?,
        table: row.try_get("table_name")?,
        source_text: row.try_get("source_text")?,
        statements: row.try_get("statements")?,
        notes: row.try_get("notes")?,
        steps_done: row.try_get("steps_done")?,
        state: row.try_get("state")?,
        decision: optional_json(row, "decision")?,
        error: optional_json(row, "error")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

impl Store {
    /// Checkpoints of these tasks; tasks without one are left out.
    pub async fn checkpoint_views(&self, tasks: &[&TaskId]) -> Result<HashMap<TaskId, CheckpointRow>> {
        let ids: Vec<_> = tasks.iter().map(|task| task.0.as_str()).collect();
        // A task that follows no topic has a snapshot on record, and no position in one.
        let rows = sqlx::query(
            "select * from checkpoints where topic <> '' and task_id in (select value from json_each(?))",
        )
        .bind(to_json(&ids)?)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                let checkpoint = CheckpointRow {
                    snapshot_tso: row.try_get("snapshot_tso")?,
                    start_offset: row.try_get("start_offset")?,
                    next_offset: row.try_get("next_offset")?,
                    commit_ts: row.try_get("commit_ts")?,
                    cluster_id: row.try_get("cluster_id")?,
                    topic: row.try_get("topic")?,
                    watermark_tso: row.try_get("watermark_tso")?,
                    updated_at: row.try_get("updated_at")?,
                };
                Ok((TaskId(row.try_get("task_id")?), checkpoint))
            })
            .collect()
    }

    /// DDL records above a number in their order; in one state when it is given.
    pub async fn ddl_after(
        &self,
        task: &TaskId,
        n: i64,
        state: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DdlRow>> {
        let rows = sqlx::query(
            "select * from ddl where task_id = ?1 and n > ?2 and (?3 is null or state = ?3) order by n limit ?4",
        )
        .bind(&task.0)
        .bind(n)
        .bind(state)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_ddl).collect()
    }

    /// The failed DDL of these tasks.
    pub async fn stopped_ddl(&self, tasks: &[&TaskId]) -> Result<HashMap<TaskId, StoppedDdl>> {
        let ids: Vec<_> = tasks.iter().map(|task| task.0.as_str()).collect();
        let rows = sqlx::query(
            "select task_id, n, schema_name, table_name, error, created_at from ddl
             where state = 'failed' and task_id in (select value from json_each(?)) order by n",
        )
        .bind(to_json(&ids)?)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                let (schema, table): (String, String) =
                    (row.try_get("schema_name")?, row.try_get("table_name")?);
                let ddl = StoppedDdl {
                    n: row.try_get("n")?,
                    object: if table.is_empty() { schema } else { format!("{schema}.{table}") },
                    error: optional_json(row, "error")?,
                    since_ms: row.try_get("created_at")?,
                };
                Ok((TaskId(row.try_get("task_id")?), ddl))
            })
            .collect()
    }

    pub async fn ddl_one(&self, task: &TaskId, n: i64) -> Result<Option<DdlRow>> {
        let row = sqlx::query("select * from ddl where task_id = ? and n = ?")
            .bind(&task.0)
            .bind(n)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read_ddl).transpose()
    }

    /// Names of the tables that the catalog knows now, as the source spells them. Dropped names and aliases are left out.
    pub async fn known_tables(&self, task: &TaskId) -> Result<Vec<(String, String)>> {
        // The definition is incremental::catalog::Entry as JSON: only a table has these paths. SQLite takes the other columns
        // from the row of the maximum.
        let rows = sqlx::query(
            "select max(commit_ts), definition ->> '$.table.table.name.schema' as schema_name,
             definition ->> '$.table.table.name.table' as table_name
             from catalog where task_id = ? group by schema_key, table_key",
        )
        .bind(&task.0)
        .fetch_all(&self.reader)
        .await?;
        let mut tables = Vec::new();
        for row in &rows {
            let schema: Option<String> = row.try_get("schema_name")?;
            let table: Option<String> = row.try_get("table_name")?;
            tables.extend(schema.zip(table));
        }
        Ok(tables)
    }
}

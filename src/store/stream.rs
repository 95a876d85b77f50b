//! What incremental sync keeps: checkpoints, the schema catalog, the record of DDL, open target sessions.
//!
//! Every write names the epoch of the worker that makes it and is refused (`Fenced`) when a newer run exists, so a worker that
//! was thought dead can do no harm here.

use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::tables::write_state;
use super::writer::Write;
use super::{Store, now_ms};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Epoch, Offset, Position, TableName, TaskId, Tso};

/// Records of DDL that a task keeps; the oldest go first.
const DDL_KEPT: i64 = 10_000;

/// A durable position and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// T: full sync's timestamp; 0 without full sync. Only transactions after it are applied.
    pub snapshot: Tso,
    /// E0: where incremental sync began.
    pub start_offset: Offset,
    pub position: Position,
    pub cluster_id: String,
    pub topic: String,
    pub watermark: Tso,
    pub schema_done: bool,
    pub full_done: bool,
    /// The source compares text by its bytes ([`crate::tidb::Source::compares_bytes`]).
    pub bytewise: bool,
    /// Number of the last marker on the target that belongs to the position.
    pub mark: u64,
    /// Hash of the message before the start offset; None where there is none.
    pub anchor: Option<String>,
    pub updated_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DdlState {
    /// Recorded; being applied, or cut off while it was.
    Pending,
    Done,
    /// Passed over: by policy, not selected, or without effect on the target.
    Ignored,
    Failed,
}

impl DdlState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "pending" => Ok(Self::Pending),
            "done" => Ok(Self::Done),
            "ignored" => Ok(Self::Ignored),
            "failed" => Ok(Self::Failed),
            other => Err(Error::internal(format!("unknown DDL state {other:?} in the store"))
                .endpoint(Endpoint::Store)),
        }
    }
}

/// What an operator decided about a DDL at which the task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DdlDecision {
    /// The target does not get it.
    Skip,
    /// The target gets these statements instead.
    Replace { statements: Vec<String> },
}

/// One DDL event of the stream and what became of it.
#[derive(Debug, Clone)]
pub struct DdlRecord {
    /// What a person should know: written when the DDL is through.
    pub notes: Vec<String>,
    pub n: i64,
    pub commit_ts: Tso,
    pub offset: Offset,
    pub schema_name: String,
    pub table_name: String,
    pub source_text: String,
    pub statements: Vec<String>,
    pub steps_done: usize,
    pub state: DdlState,
    /// Taken up when the task goes on.
    pub decision: Option<DdlDecision>,
    pub error: Option<Error>,
    pub created_at_ms: i64,
    pub finished_at_ms: Option<i64>,
}

/// A new version of one table in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogVersion {
    /// Folded name.
    pub key: TableName,
    pub commit_ts: Tso,
    /// JSON
    pub definition: String,
}

/// What a session of the target was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Full sync or the stream.
    Task,
    /// The new copy of a table, beside the stream.
    Resync,
}

#[derive(Debug, Clone)]
pub struct CatalogSchema {
    pub name: String,
    pub charset: Option<String>,
    pub collation: Option<String>,
    pub dropped: bool,
}

fn tso(value: i64) -> Tso {
    Tso(value.max(0) as u64)
}

impl Store {
    /// Begins a write of the worker of this epoch.
    pub(super) async fn fenced(&self, task: &TaskId, epoch: Epoch) -> Result<Write> {
        let mut transaction = self.writer.begin().await?;
        let current: Option<i64> = sqlx::query_scalar("select epoch from tasks where id = ?")
            .bind(&task.0)
            .fetch_optional(&mut *transaction)
            .await?;
        if current != Some(epoch.0) {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!("run {} of the task has been replaced by run {current:?}", epoch.0),
            )
            .endpoint(Endpoint::Store));
        }
        Ok(transaction)
    }

    /// The task's durable position; None before the first.
    pub async fn checkpoint(&self, task: &TaskId) -> Result<Option<Checkpoint>> {
        let row = sqlx::query("select * from checkpoints where task_id = ?")
            .bind(&task.0)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| {
            Ok(Checkpoint {
                snapshot: tso(row.try_get("snapshot_tso")?),
                start_offset: Offset(row.try_get("start_offset")?),
                position: Position {
                    next_offset: Offset(row.try_get("next_offset")?),
                    commit_ts: tso(row.try_get("commit_ts")?),
                },
                cluster_id: row.try_get("cluster_id")?,
                topic: row.try_get("topic")?,
                watermark: tso(row.try_get("watermark_tso")?),
                schema_done: row.try_get("schema_done")?,
                full_done: row.try_get("full_done")?,
                bytewise: row.try_get("bytewise")?,
                mark: row.try_get::<i64, _>("mark")?.cast_unsigned(),
                anchor: row.try_get("anchor")?,
                updated_at_ms: row.try_get("updated_at")?,
            })
        })
        .transpose()
    }

    /// Starts the task at a new position and forgets what belonged to an older one (catalog, DDL record). That a table is paused or
    /// skipped was a person's word: it is asked again of the new catalog, unless there is a newer word.
    pub async fn begin(&self, task: &TaskId, epoch: Epoch, checkpoint: &Checkpoint) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "insert or ignore into table_commands (task_id, schema_key, table_key, command, created_at)
             select task_id, schema_key, table_key,
                 case standing ->> '$.state' when 'paused' then 'pause' else 'skip' end, since
             from table_states where task_id = ? and (standing ->> '$.state') in ('paused', 'skipped')",
        )
        .bind(&task.0)
        .execute(&mut *transaction)
        .await?;
        for table in ["checkpoints", "catalog", "catalog_schemas", "ddl", "table_states", "lossy_counts"] {
            sqlx::query(sqlx::AssertSqlSafe(format!("delete from {table} where task_id = ?")))
                .bind(&task.0)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "insert into checkpoints (task_id, snapshot_tso, start_offset, next_offset, commit_ts, cluster_id, topic,
                 watermark_tso, schema_done, full_done, bytewise, anchor, updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&task.0)
        .bind(checkpoint.snapshot.0 as i64)
        .bind(checkpoint.start_offset.0)
        .bind(checkpoint.position.next_offset.0)
        .bind(checkpoint.position.commit_ts.0 as i64)
        .bind(&checkpoint.cluster_id)
        .bind(&checkpoint.topic)
        .bind(checkpoint.watermark.0 as i64)
        .bind(checkpoint.schema_done)
        .bind(checkpoint.full_done)
        .bind(checkpoint.bytewise)
        .bind(&checkpoint.anchor)
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// The first version of the catalog, as the snapshot shows it, and that the schema phase is through.
    pub async fn schema_done(
        &self,
        task: &TaskId,
        epoch: Epoch,
        schemas: &[CatalogSchema],
        tables: &[CatalogVersion],
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        write_catalog(&mut transaction, task, schemas, tables).await?;
        sqlx::query("update checkpoints set schema_done = 1, updated_at = ? where task_id = ?")
            .bind(now_ms())
            .bind(&task.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Every row of the snapshot is in the target: the target is complete up to T.
    /// `aside` are the entries of tables that were given up.
    pub async fn full_done(&self, task: &TaskId, epoch: Epoch, aside: &[CatalogVersion]) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        write_catalog(&mut transaction, task, &[], aside).await?;
        sqlx::query(
            "update checkpoints set full_done = 1, watermark_tso = max(watermark_tso, snapshot_tso), updated_at = ? where task_id = ?",
        )
        .bind(now_ms())
        .bind(&task.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Moves the checkpoint from one position to the next.
    ///
    /// # Errors
    /// `Fenced` when the stored position is not `from`: somebody else moved it.
    pub async fn advance(
        &self,
        task: &TaskId,
        epoch: Epoch,
        from: Position,
        to: Position,
        watermark: Tso,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        advance(&mut transaction, task, from, to, watermark).await?;
        transaction.commit().await
    }

    /// The marker on the target has this number; the position follows.
    pub async fn set_mark(&self, task: &TaskId, epoch: Epoch, mark: u64) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        write_mark(&mut transaction, task, mark).await?;
        transaction.commit().await
    }

    /// The target was restored from an older copy: what came after this position is to be applied again, and the watermark is
    /// that of then.
    pub async fn rewind(
        &self,
        task: &TaskId,
        epoch: Epoch,
        (to, watermark): (Position, Tso),
        mark: u64,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "update checkpoints set next_offset = ?, commit_ts = ?, watermark_tso = ?, updated_at = ? where task_id = ?",
        )
        .bind(to.next_offset.0)
        .bind(to.commit_ts.0 as i64)
        .bind(watermark.0 as i64)
        .bind(now_ms())
        .bind(&task.0)
        .execute(&mut *transaction)
        .await?;
        write_mark(&mut transaction, task, mark).await?;
        transaction.commit().await
    }

    /// The newest version of every table, and all schemas.
    pub async fn catalog(&self, task: &TaskId) -> Result<(Vec<CatalogSchema>, Vec<CatalogVersion>)> {
        let schemas = sqlx::query("select name, charset, collation from catalog_schemas where task_id = ?")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?
            .into_iter()
            .map(|row| {
                Ok(CatalogSchema {
                    name: row.try_get("name")?,
                    charset: row.try_get("charset")?,
                    collation: row.try_get("collation")?,
                    dropped: false,
                })
            })
            .collect::<Result<_>>()?;
        let tables = sqlx::query(
            "select schema_key, table_key, max(commit_ts) as commit_ts, definition from catalog where task_id = ?
             group by schema_key, table_key",
        )
        .bind(&task.0)
        .fetch_all(&self.reader)
        .await?
        .into_iter()
        .map(|row| {
            Ok(CatalogVersion {
                key: TableName::new(row.try_get::<String, _>("schema_key")?, row.try_get::<String, _>("table_key")?),
                commit_ts: tso(row.try_get("commit_ts")?),
                definition: row.try_get("definition")?,
            })
        })
        .collect::<Result<_>>()?;
        Ok((schemas, tables))
    }

    /// Records a DDL before its first statement runs. A record of the same commit_ts that is there already is returned as it is
    /// (when its statements are the same) with the number of steps known to be done.
    pub async fn ddl_begin(&self, task: &TaskId, epoch: Epoch, record: &DdlRecord) -> Result<(i64, usize)> {
        let mut transaction = self.fenced(task, epoch).await?;
        let known =
            sqlx::query("select n, steps_done, statements from ddl where task_id = ? and commit_ts = ?")
                .bind(&task.0)
                .bind(record.commit_ts.0 as i64)
                .fetch_optional(&mut *transaction)
                .await?;
        let statements = to_json(&record.statements)?;
        if let Some(row) = known {
            let n: i64 = row.try_get("n")?;
            // A policy changed since then may have taken steps out behind those that are done.
            let before: Vec<String> =
                serde_json::from_str(&row.try_get::<String, _>("statements")?).map_err(Error::internal)?;
            let common = before.iter().zip(&record.statements).take_while(|(old, new)| old == new).count();
            let steps = (row.try_get::<i64, _>("steps_done")?.max(0) as usize).min(common);
            sqlx::query("update ddl set state = 'pending', error = null, statements = ?, steps_done = ? where task_id = ? and n = ?")
                .bind(&statements)
                .bind(steps as i64)
                .bind(&task.0)
                .bind(n)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            return Ok((n, steps));
        }
        let n = insert_ddl(&mut transaction, task, record, &statements).await?;
        transaction.commit().await?;
        Ok((n, 0))
    }

    /// One more statement of a DDL is known to be applied.
    pub async fn ddl_step(&self, task: &TaskId, epoch: Epoch, n: i64, steps_done: usize) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query("update ddl set steps_done = ? where task_id = ? and n = ?")
            .bind(steps_done as i64)
            .bind(&task.0)
            .bind(n)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// A DDL is through: its record, the new catalog and the position after it become durable together.
    /// `moved` is None for a DDL that was applied ahead of its place in the stream.
    pub async fn ddl_finish(
        &self,
        task: &TaskId,
        epoch: Epoch,
        record: &DdlRecord,
        schemas: &[CatalogSchema],
        tables: &[CatalogVersion],
        moved: Option<(Position, Position, Tso)>,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        let statements = to_json(&record.statements)?;
        // It may be on record as failed, and pass now that its policy was changed.
        let known: Option<i64> = sqlx::query_scalar("select n from ddl where task_id = ? and commit_ts = ?")
            .bind(&task.0)
            .bind(record.commit_ts.0 as i64)
            .fetch_optional(&mut *transaction)
            .await?;
        let n = match known {
            Some(n) => n,
            None => insert_ddl(&mut transaction, task, record, &statements).await?,
        };
        sqlx::query("update ddl set state = ?, error = null, statements = ?, notes = ?, finished_at = ?, steps_done = ? where task_id = ? and n = ?")
            .bind(record.state.as_str())
            .bind(&statements)
            .bind(to_json(&record.notes)?)
            .bind(now_ms())
            .bind(record.statements.len() as i64)
            .bind(&task.0)
            .bind(n)
            .execute(&mut *transaction)
            .await?;
        write_catalog(&mut transaction, task, schemas, tables).await?;
        if let Some((from, to, watermark)) = moved {
            advance(&mut transaction, task, from, to, watermark).await?;
        }
        transaction.commit().await
    }

    /// A DDL could not be applied or understood; the task stops at it.
    pub async fn ddl_failed(
        &self,
        task: &TaskId,
        epoch: Epoch,
        record: &DdlRecord,
        error: &Error,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        let known: Option<i64> = sqlx::query_scalar("select n from ddl where task_id = ? and commit_ts = ?")
            .bind(&task.0)
            .bind(record.commit_ts.0 as i64)
            .fetch_optional(&mut *transaction)
            .await?;
        let n = match known {
            Some(n) => n,
            None => insert_ddl(&mut transaction, task, record, &to_json(&record.statements)?).await?,
        };
        sqlx::query("update ddl set state = 'failed', error = ? where task_id = ? and n = ?")
            .bind(to_json(error)?)
            .bind(&task.0)
            .bind(n)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Forgets the oldest DDL of tasks that have met very much of it. What comes again in the topic is recognised from the topic
    /// (`binlog::seen`), and a checkpoint is not moved back behind what is kept: nothing is applied twice for want of a record.
    pub async fn trim_ddl(&self) -> Result<()> {
        self.writer
            .execute(
                sqlx::query(
                    "delete from ddl where rowid in (select old.rowid from tasks cross join ddl old on old.task_id = tasks.id
                     and old.n <= (select max(n) from ddl where task_id = tasks.id) - ?)",
                )
                .bind(DDL_KEPT),
            )
            .await?;
        Ok(())
    }

    /// The record of the DDL with this commit_ts. DDL is deduplicated by it as long as it is kept ([`Store::trim_ddl`]).
    pub async fn ddl_by_commit_ts(&self, task: &TaskId, commit_ts: Tso) -> Result<Option<DdlRecord>> {
        let row = sqlx::query("select * from ddl where task_id = ? and commit_ts = ?")
            .bind(&task.0)
            .bind(commit_ts.0 as i64)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| ddl_record(&row)).transpose()
    }

    /// Whether a DDL of a later commit is on record.
    pub async fn has_ddl_since(&self, task: &TaskId, commit_ts: Tso) -> Result<bool> {
        let row = sqlx::query("select 1 from ddl where task_id = ? and commit_ts > ? limit 1")
            .bind(&task.0)
            .bind(commit_ts.0 as i64)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }

    /// One DDL by its number.
    pub async fn ddl(&self, task: &TaskId, n: i64) -> Result<Option<DdlRecord>> {
        let row = sqlx::query("select * from ddl where task_id = ? and n = ?")
            .bind(&task.0)
            .bind(n)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| ddl_record(&row)).transpose()
    }

    /// DDL with numbers above `after`, in the order in which it was met.
    pub async fn ddl_list(&self, task: &TaskId, after: i64, limit: u32) -> Result<Vec<DdlRecord>> {
        sqlx::query("select * from ddl where task_id = ? and n > ? order by n limit ?")
            .bind(&task.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.reader)
            .await?
            .iter()
            .map(ddl_record)
            .collect()
    }

    /// Remembers a session of the target, so that a later run can end it before it writes.
    pub async fn session_opened(&self, task: &TaskId, epoch: Epoch, id: u64, of: Use) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "insert or replace into target_sessions (task_id, connection_id, resync) values (?, ?, ?)",
        )
        .bind(&task.0)
        .bind(id.cast_signed())
        .bind(of == Use::Resync)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Sessions that an earlier run opened: those of one use, or all.
    pub async fn sessions(&self, task: &TaskId, of: Option<Use>) -> Result<Vec<u64>> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "select connection_id from target_sessions where task_id = ?1 and (?2 is null or resync = ?2)",
        )
        .bind(&task.0)
        .bind(of.map(|of| of == Use::Resync))
        .fetch_all(&self.reader)
        .await?;
        Ok(ids.into_iter().map(i64::cast_unsigned).collect())
    }

    /// These sessions are known to be gone.
    pub async fn sessions_gone(&self, task: &TaskId, epoch: Epoch, ids: &[u64]) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        for id in ids {
            sqlx::query("delete from target_sessions where task_id = ? and connection_id = ?")
                .bind(&task.0)
                .bind(id.cast_signed())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

pub(super) async fn write_mark(transaction: &mut Write, task: &TaskId, mark: u64) -> Result<()> {
    sqlx::query("update checkpoints set mark = ? where task_id = ?")
        .bind(mark.cast_signed())
        .bind(&task.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn advance(
    transaction: &mut Write,
    task: &TaskId,
    from: Position,
    to: Position,
    watermark: Tso,
) -> Result<()> {
    let changed = sqlx::query(
        "update checkpoints set next_offset = ?, commit_ts = ?, watermark_tso = max(watermark_tso, ?), updated_at = ?
         where task_id = ? and next_offset = ?",
    )
    .bind(to.next_offset.0)
    .bind(to.commit_ts.0 as i64)
    .bind(watermark.0 as i64)
    .bind(now_ms())
    .bind(&task.0)
    .bind(from.next_offset.0)
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if changed == 1 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Fenced, format!("the checkpoint is no longer at offset {}", from.next_offset))
        .endpoint(Endpoint::Store))
}

pub(super) async fn write_catalog(
    transaction: &mut Write,
    task: &TaskId,
    schemas: &[CatalogSchema],
    tables: &[CatalogVersion],
) -> Result<()> {
    for schema in schemas {
        let key = schema.name.to_lowercase();
        if schema.dropped {
            sqlx::query("delete from catalog_schemas where task_id = ? and schema_key = ?")
                .bind(&task.0)
                .bind(key)
                .execute(&mut **transaction)
                .await?;
            continue;
        }
        sqlx::query("insert or replace into catalog_schemas (task_id, schema_key, name, charset, collation) values (?, ?, ?, ?, ?)")
            .bind(&task.0)
            .bind(key)
            .bind(&schema.name)
            .bind(&schema.charset)
            .bind(&schema.collation)
            .execute(&mut **transaction)
            .await?;
    }
    for version in tables {
        // The order in which DDL is applied is the truth, also when one is taken ahead of its place: what was before is never read again.
        sqlx::query("delete from catalog where task_id = ? and schema_key = ? and table_key = ?")
            .bind(&task.0)
            .bind(&version.key.schema)
            .bind(&version.key.table)
            .execute(&mut **transaction)
            .await?;
        sqlx::query("insert into catalog (task_id, schema_key, table_key, commit_ts, definition) values (?, ?, ?, ?, ?)")
            .bind(&task.0)
            .bind(&version.key.schema)
            .bind(&version.key.table)
            .bind(version.commit_ts.0 as i64)
            .bind(&version.definition)
            .execute(&mut **transaction)
            .await?;
        write_state(transaction, task, version).await?;
    }
    Ok(())
}

async fn insert_ddl(
    transaction: &mut Write,
    task: &TaskId,
    record: &DdlRecord,
    statements: &str,
) -> Result<i64> {
    let n: i64 = sqlx::query_scalar("select coalesce(max(n), 0) + 1 from ddl where task_id = ?")
        .bind(&task.0)
        .fetch_one(&mut **transaction)
        .await?;
    sqlx::query(
        "insert into ddl (task_id, n, commit_ts, offset, schema_name, table_name, source_text, statements, state, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&task.0)
    .bind(n)
    .bind(record.commit_ts.0 as i64)
    .bind(record.offset.0)
    .bind(&record.schema_name)
    .bind(&record.table_name)
    .bind(&record.source_text)
    .bind(statements)
    .bind(record.state.as_str())
    .bind(now_ms())
    .execute(&mut **transaction)
    .await?;
    Ok(n)
}

fn ddl_record(row: &sqlx::sqlite::SqliteRow) -> Result<DdlRecord> {
    let json = |text: String| serde_json::from_str(&text).map_err(Error::internal);
    let error: Option<String> = row.try_get("error")?;
    Ok(DdlRecord {
        n: row.try_get("n")?,
        commit_ts: tso(row.try_get("commit_ts")?),
        offset: Offset(row.try_get("offset")?),
        schema_name: row.try_get("schema_name")?,
        table_name: row.try_get("table_name")?,
        source_text: row.try_get("source_text")?,
        statements: json(row.try_get("statements")?)?,
        notes: serde_json::from_str(&row.try_get::<String, _>("notes")?).map_err(Error::internal)?,
        steps_done: row.try_get::<i64, _>("steps_done")?.max(0) as usize,
        state: DdlState::parse(&row.try_get::<String, _>("state")?)?,
        decision: super::rows::optional_json(row, "decision")?,
        error: error.map(|text| serde_json::from_str(&text).map_err(Error::internal)).transpose()?,
        created_at_ms: row.try_get("created_at")?,
        finished_at_ms: row.try_get("finished_at")?,
    })
}

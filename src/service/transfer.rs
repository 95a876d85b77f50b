//! Export and import: a task leaves one server and goes on in another, with its place in the stream and all that it knows.
//!
//! The exported task is stopped for good in the same transaction that reads it, so it never runs in two places; the document can be had
//! again from the stopped task when an answer was lost. It holds no secret: connections are named, and must be there under the same
//! names where it is imported. The id stays: rows of the target bear it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::changed_meanwhile;
use super::{Answer, Refusal, Service};
use crate::error::{Error, ErrorKind};
use crate::incremental::catalog::Entry;
use crate::model::TaskId;
use crate::store::tasks::TaskRow;
use crate::store::{Rows, now_ms};
use crate::task::fault::Fault;
use crate::task::spec::Spec;
use crate::task::status::Status;

/// What the document says it is.
const FORMAT: &str = "tidegate.task";
const VERSION: u32 = 1;

/// A created task is not one to move; a stopped one was exported before, or ended.
const EXPORT_FROM: &[Status] =
    &[Status::Created, Status::Paused, Status::Failed, Status::Stopped, Status::Finished];

/// Everything that a server keeps of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskExport {
    /// `tidegate.task`
    pub format: String,
    /// 1
    pub version: u32,
    /// `t_` + ULID; it stays the task's.
    pub task_id: String,
    /// Number of its last run.
    pub run: i64,
    #[schema(format = DateTime)]
    pub exported_at: String,
    #[schema(value_type = Object)]
    pub spec: Value,
    /// Checkpoint, catalog, states of tables, DDL, dead letters, chunks: rows by the names of their columns.
    #[schema(value_type = Object)]
    pub tables: Rows,
    /// SHA-256 of spec and tables, in hex.
    pub checksum: String,
}

impl TaskExport {
    fn sum(&self) -> Answer<String> {
        let text = serde_json::to_string(&(&self.task_id, self.run, &self.spec, &self.tables))
            .map_err(Error::internal)?;
        Ok(Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Service {
    /// Gives the document of a task and stops the task for good. With `dry_run` it is not stopped, and the document not given.
    pub async fn export_task(
        &self,
        id_or_name: &str,
        dry_run: bool,
    ) -> Answer<(TaskRow, Option<TaskExport>)> {
        let task = self.standing_task(id_or_name, "export", EXPORT_FROM).await?;
        if dry_run {
            return Ok((task, None));
        }
        let exported = self.store.export_task(&task, None).await?;
        let tables = exported.ok_or_else(|| changed_meanwhile("the task"))?;
        self.registry.forget(&task.id);
        self.registry.announce();
        tracing::info!(task.id = %task.id, "task exported");
        let exported_at = chrono::DateTime::from_timestamp_millis(now_ms()).unwrap_or_default();
        let mut export = TaskExport {
            format: FORMAT.to_owned(),
            version: VERSION,
            task_id: task.id.0.clone(),
            run: task.epoch.0,
            exported_at: exported_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            spec: serde_json::to_value(&task.spec).map_err(Error::internal)?,
            tables,
            checksum: String::new(),
        };
        export.checksum = export.sum()?;
        Ok((self.task(&task.id.0).await?, Some(export)))
    }

    /// Takes a task over from a document; `spec` is the document's own, already judged.
    pub async fn import_task(
        &self,
        export: &TaskExport,
        spec: &Spec,
        dry_run: bool,
    ) -> Answer<Option<TaskRow>> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let fault =
            |pointer: &str, detail: String| Refusal::Invalid(vec![Fault::new(pointer, "invalid", detail)]);
        if export.format != FORMAT {
            return Err(fault("/format", format!("must be {FORMAT}: this is not an exported task")));
        }
        if export.version != VERSION {
            return Err(fault("/version", format!("this server reads version {VERSION}")));
        }
        if export.sum()? != export.checksum {
            let detail = "does not fit: the document was changed since its export; only name and waivers of a task may be changed, after its import";
            return Err(fault("/checksum", detail.to_owned()));
        }
        let ulid = export.task_id.strip_prefix("t_").unwrap_or_default();
        if ulid.parse::<ulid::Ulid>().is_err() {
            return Err(fault("/task_id", "must be t_ and a ULID".to_owned()));
        }
        for row in export.tables.get("catalog").into_iter().flatten() {
            let text = row.get("definition").and_then(Value::as_str).unwrap_or_default();
            if serde_json::from_str::<Entry>(text).is_err() {
                return Err(fault("/tables/catalog", "holds a definition that cannot be read".to_owned()));
            }
        }
        let id = TaskId(export.task_id.clone());
        if self.store.task(&id.0).await?.is_some() {
            return Err(Refusal::InUse(format!("task {id} is in this server: delete it first")));
        }
        if self.store.task(&spec.name).await?.is_some() {
            return Err(Refusal::NameTaken(format!("another task is called {}", spec.name)));
        }
        if dry_run {
            return Ok(None);
        }
        // The exported run was fenced by the number after its own.
        let imported =
            self.store.import_task(&id, spec, export.run.saturating_add(1), &export.tables, None).await;
        match imported {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::NameTaken(format!("another task is called {}", spec.name))),
            Err(error) if error.kind == ErrorKind::Configuration => {
                return Err(fault("/tables", error.message));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(task.id = %id, name = spec.name, "task imported");
        Ok(Some(self.task(&id.0).await?))
    }
}

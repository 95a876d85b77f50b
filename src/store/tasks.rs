//! Tasks as users see and change them: spec, desired state, reports. What a run writes is in store/runs.rs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::rows::{json as read_json, optional_json, to_json, word};
use super::{Store, now_ms};
use crate::engine::progress::Phase;
use crate::error::{Error, Result};
use crate::model::{Epoch, TaskId};
use crate::task::spec::Spec;
use crate::task::status::{Command, Decision, Desired, Status, decide};

/// What a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub attempt: u32,
    /// Since when nothing went through.
    pub since_ms: i64,
    pub retry_at_ms: i64,
}

#[derive(Debug, Clone)]
pub struct TaskRow {
    pub id: TaskId,
    pub spec: Spec,
    pub spec_version: i64,
    pub applied_spec_version: Option<i64>,
    pub desired: Desired,
    pub status: Status,
    pub phase: Option<Phase>,
    pub epoch: Epoch,
    pub last_error: Option<Error>,
    pub last_error_at: Option<i64>,
    pub retry: Option<Retry>,
    pub created_at: i64,
    pub updated_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

impl TaskRow {
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

/// What a list of tasks is narrowed to; everything that is said must hold.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// One of these; empty = any.
    pub status: Vec<Status>,
    pub phase: Option<Phase>,
    /// Labels with their value; None = any value.
    pub labels: Vec<(String, Option<String>)>,
    pub name_prefix: String,
    /// Ids or names.
    pub names: Option<Vec<String>>,
}

/// The last report of a kind that a task keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Precheck,
    Plan,
}

/// How a command ended; the task is as it was just after.
#[derive(Debug)]
pub enum Commanded {
    NotFound,
    Refused(Box<TaskRow>),
    /// Done, or it was so already.
    Done(Box<TaskRow>),
    Deleted,
}

/// What a [`TaskRow`] is read from: the reports are left out.
macro_rules! columns {
    () => {
        "id, name, spec, spec_version, applied_spec_version, desired, status, phase, epoch, last_error, last_error_at, retry, \
         created_at, updated_at, started_at, finished_at"
    };
}

/// `select` ... of tasks, as [`read`] wants them.
macro_rules! select {
    ($rest:literal) => {
        concat!("select ", columns!(), " from tasks ", $rest)
    };
}

pub(super) fn phase(word: &str) -> Option<Phase> {
    [Phase::Precheck, Phase::Schema, Phase::Full, Phase::Incremental]
        .into_iter()
        .find(|phase| phase.as_str() == word)
}

pub(super) fn read(row: &SqliteRow) -> Result<TaskRow> {
    let phase_word: Option<String> = row.try_get("phase")?;
    Ok(TaskRow {
        id: TaskId(row.try_get("id")?),
        spec: read_json(row, "spec")?,
        spec_version: row.try_get("spec_version")?,
        applied_spec_version: row.try_get("applied_spec_version")?,
        desired: word(row, "desired", Desired::parse)?,
        status: word(row, "status", Status::parse)?,
        phase: phase_word.as_deref().and_then(phase),
        epoch: Epoch(row.try_get("epoch")?),
        last_error: optional_json(row, "last_error")?,
        last_error_at: row.try_get("last_error_at")?,
        retry: optional_json(row, "retry")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

impl Store {
    /// Creates a task. None when the name is taken.
    pub async fn create_task(&self, spec: &Spec) -> Result<Option<TaskRow>> {
        let id = TaskId(format!("t_{}", ulid::Ulid::new()));
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query(
            "insert into tasks (id, name, spec, created_at, updated_at) values (?1, ?2, ?3, ?4, ?4)
             on conflict (name) do nothing returning *",
        )
        .bind(&id.0)
        .bind(&spec.name)
        .bind(to_json(spec)?)
        .bind(now_ms())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let message = format!("task {} created", spec.name);
        super::events::insert(&mut transaction, Some(&id.0), "created", None, &message, &json!({})).await?;
        transaction.commit().await?;
        read(&row).map(Some)
    }

    /// A task by its id or its name (which never looks like an id).
    pub async fn task(&self, id_or_name: &str) -> Result<Option<TaskRow>> {
        let row = sqlx::query(select!("where id = ?1 or name = ?1"))
            .bind(id_or_name)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Tasks that a filter takes, in the order of their creation, after the given id.
    pub async fn tasks_page(&self, after: &str, filter: &TaskFilter, limit: u32) -> Result<Vec<TaskRow>> {
        let status: Vec<_> = filter.status.iter().map(|status| status.as_str()).collect();
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(select!("where id > "));
        sql.push_bind(after);
        if !status.is_empty() {
            sql.push(" and status in (select value from json_each(").push_bind(to_json(&status)?).push("))");
        }
        if let Some(phase) = filter.phase {
            sql.push(" and phase = ").push_bind(phase.as_str());
        }
        if !filter.name_prefix.is_empty() {
            sql.push(" and substr(name, 1, length(").push_bind(&filter.name_prefix);
            sql.push(")) = ").push_bind(&filter.name_prefix);
        }
        if let Some(names) = &filter.names {
            let names = to_json(names)?;
            sql.push(" and (id in (select value from json_each(").push_bind(names.clone());
            sql.push(")) or name in (select value from json_each(").push_bind(names).push(")))");
        }
        for (key, value) in &filter.labels {
            sql.push(" and id in (select task_id from task_labels where key = ").push_bind(key);
            if let Some(value) = value {
                sql.push(" and value = ").push_bind(value);
            }
            sql.push(")");
        }
        sql.push(" order by id limit ").push_bind(limit);
        let rows = sql.build().fetch_all(&self.reader).await?;
        rows.iter().map(read).collect()
    }

    /// Number of tasks by status.
    pub async fn task_counts(&self) -> Result<Vec<(Status, i64)>> {
        let rows = sqlx::query("select status, count(*) as n from tasks group by status")
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| Ok((word(row, "status", Status::parse)?, row.try_get("n")?))).collect()
    }

    /// Replaces the spec if its version is still the expected one and the task's status is still the one that was judged.
    /// None when somebody else was faster.
    ///
    /// # Errors
    /// A unique-name violation is told by `name_taken`.
    pub async fn update_spec(
        &self,
        task: &TaskRow,
        spec: &Spec,
        fields: &[String],
    ) -> Result<Option<TaskRow>> {
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query(
            "update tasks set spec = ?1, name = ?2, spec_version = spec_version + 1, updated_at = ?3
             where id = ?4 and spec_version = ?5 and status = ?6 and desired = ?7
             and not exists (select 1 from tasks other where other.name = ?2 and other.id <> ?4) returning *",
        )
        .bind(to_json(spec)?)
        .bind(&spec.name)
        .bind(now_ms())
        .bind(&task.id.0)
        .bind(task.spec_version)
        .bind(task.status.as_str())
        .bind(task.desired.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let message = format!("spec changed: {}", fields.join(", "));
        let detail = json!({"fields": fields, "spec_version": task.spec_version + 1});
        super::events::insert(&mut transaction, Some(&task.id.0), "spec", None, &message, &detail).await?;
        transaction.commit().await?;
        read(&row).map(Some)
    }

    /// Judges a command against the task's state and carries it out, in one transaction.
    pub async fn command(
        &self,
        id_or_name: &str,
        command: Command,
        actor: Option<&str>,
    ) -> Result<Commanded> {
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query(select!("where id = ?1 or name = ?1"))
            .bind(id_or_name)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(Commanded::NotFound) };
        let task = read(&row)?;
        let id = task.id.0.as_str();
        let message = format!("{} {}", command.as_str(), task.name());
        let detail = json!({"command": command.as_str(), "status": task.status.as_str()});
        let outcome = match decide(command, task.status, task.desired) {
            Decision::Refused => return Ok(Commanded::Refused(Box::new(task))),
            Decision::Nothing => {
                // What made it so may be in the same group, and shall be on the disk before anybody says so.
                transaction.commit().await?;
                return Ok(Commanded::Done(Box::new(task)));
            }
            Decision::Delete => {
                sqlx::query("delete from tasks where id = ?").bind(id).execute(&mut *transaction).await?;
                Commanded::Deleted
            }
            Decision::Set { desired, status } => {
                let row = sqlx::query(
                    "update tasks set desired = ?1, status = coalesce(?2, status), updated_at = ?3 where id = ?4 returning *",
                )
                .bind(desired.as_str())
                .bind(status.map(Status::as_str))
                .bind(now_ms())
                .bind(id)
                .fetch_one(&mut *transaction)
                .await?;
                Commanded::Done(Box::new(read(&row)?))
            }
        };
        super::events::insert(&mut transaction, Some(id), "command", actor, &message, &detail).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    pub async fn save_report(&self, task: &TaskId, report: Report, value: &Value) -> Result<()> {
        let sql = match report {
            Report::Precheck => "update tasks set precheck = ? where id = ?",
            Report::Plan => "update tasks set plan = ? where id = ?",
        };
        self.writer.execute(sqlx::query(sql).bind(value.to_string()).bind(&task.0)).await?;
        Ok(())
    }

    pub async fn report(&self, task: &TaskId, report: Report) -> Result<Option<Value>> {
        let sql = match report {
            Report::Precheck => "select precheck as report from tasks where id = ?",
            Report::Plan => "select plan as report from tasks where id = ?",
        };
        let row = sqlx::query(sql).bind(&task.0).fetch_optional(&self.reader).await?;
        row.map_or(Ok(None), |row| optional_json(&row, "report"))
    }
}

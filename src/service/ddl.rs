//! DDL at which a task stands: skip it, put other statements in its place, or try it again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::changed_meanwhile;
use super::still::STANDS;
use super::{Answer, Refusal, Service};
use crate::adb;
use crate::crash;
use crate::error::Result;
use crate::incremental::catalog::Catalog;
use crate::incremental::decided;
use crate::incremental::plan::Event;
use crate::model::TableName;
use crate::schema_sync;
use crate::store::tasks::TaskRow;
use crate::store::{DdlDecision, DdlRecord, DdlState};
use crate::task::fault::Fault;
use crate::task::selection::Selection;
use crate::task::standing::{Standing, TableCommand};
use crate::task::status::Status;

/// Time between two looks at whether the effect is reached.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is asked about a DDL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DdlCommand {
    Retry,
    Decide(DdlDecision),
}

impl DdlCommand {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Decide(DdlDecision::Skip) => "skip",
            Self::Decide(DdlDecision::Replace { .. }) => "replace",
        }
    }
}

/// A task after a decision about a DDL.
#[derive(Debug)]
pub struct DdlDecided {
    pub task: TaskRow,
    /// The DDL is through.
    pub reached: bool,
    pub effects: Vec<String>,
}

impl Service {
    /// Decides about the DDL at which the task stands. A failed task goes on with it; a paused one takes it up when it is resumed.
    /// A table that a DDL stopped alone has passed its rows over since: retry copies it again, and nothing else brings it back.
    pub async fn command_ddl(
        &self,
        id_or_name: &str,
        n: i64,
        command: &DdlCommand,
        wait: Duration,
        dry_run: bool,
    ) -> Answer<DdlDecided> {
        let task = self.task(id_or_name).await?;
        let record = self.store.ddl(&task.id, n).await?;
        let record = record.ok_or_else(|| Refusal::NotFound(format!("the task has met no DDL {n}")))?;
        if let Some(table) = self.stopped_table(&task, &record).await? {
            return self.resync_stopped(&task, n, command, &table, wait, dry_run).await;
        }
        let what = format!("{} of a DDL", command.as_str());
        let task = self.standing_task(id_or_name, &what, STANDS).await?;
        if matches!(record.state, DdlState::Done | DdlState::Ignored) {
            let detail =
                format!("DDL {n} is through: only the one at which the task stands can be decided about");
            return Err(Refusal::Tables { detail, status: task.status });
        }
        let mut effects = self.judge_ddl(&task, &record, command).await?;
        effects.push(match task.status {
            Status::Failed => "the task goes on".to_owned(),
            _ => "taken up when the task is resumed".to_owned(),
        });
        if dry_run {
            return Ok(DdlDecided { task, reached: false, effects });
        }
        let decision = match command {
            DdlCommand::Retry => None,
            DdlCommand::Decide(decision) => Some(decision),
        };
        let detail = json!({
            "command": format!("ddl_{}", command.as_str()), "n": n, "source": record.source_text, "decision": decision,
        });
        let message = format!("{} DDL {n}", command.as_str());
        if !self.store.decide_ddl(&task, n, decision, None, (&message, &detail)).await? {
            return Err(changed_meanwhile("the task"));
        }
        crash::point("decision.saved");
        tracing::info!(task.id = %task.id, n, command = command.as_str(), "DDL decided");
        self.wake.notify_one();
        self.registry.announce();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let now = self.task(&task.id.0).await?;
            let record = self.store.ddl(&task.id, n).await?;
            let reached = record
                .as_ref()
                .is_some_and(|record| matches!(record.state, DdlState::Done | DdlState::Ignored));
            if reached || wait.is_zero() || now.status == Status::Paused && task.status == Status::Paused {
                return Ok(DdlDecided { task: now, reached, effects });
            }
            if now.status == Status::Failed {
                return Err(Refusal::TaskFailed(Box::new(now)));
            }
            if tokio::time::Instant::now() >= deadline || self.shutdown.is_cancelled() {
                return Ok(DdlDecided { task: now, reached, effects });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the decision does, in words.
    async fn judge_ddl(
        &self,
        task: &TaskRow,
        record: &DdlRecord,
        command: &DdlCommand,
    ) -> Answer<Vec<String>> {
        let statements = match command {
            DdlCommand::Retry => {
                return Ok(vec![format!("DDL {} is tried again as the policies say", record.n)]);
            }
            DdlCommand::Decide(DdlDecision::Skip) => {
                if record.steps_done > 0 {
                    let detail = format!(
                        "{} of {} statements of DDL {} ran already: replace it with what brings the target's table where it shall be",
                        record.steps_done,
                        record.statements.len(),
                        record.n
                    );
                    return Err(Refusal::Tables { detail, status: task.status });
                }
                let catalog = self.catalog_of(task).await?;
                let event = Event { schema: &record.schema_name, table: &record.table_name };
                let steps =
                    decided::skipped(event, record.source_text.as_bytes(), &catalog).map_err(|error| {
                        let detail = format!("DDL {} cannot be skipped: {error}; replace it", record.n);
                        Refusal::Tables { detail, status: task.status }
                    })?;
                return Ok(steps.notes);
            }
            DdlCommand::Decide(DdlDecision::Replace { statements }) => statements,
        };
        let selection = Selection::new(&task.spec).map_err(Refusal::Invalid)?;
        let tables = decided::concerned(record, &selection);
        let mut faults = Vec::new();
        if statements.is_empty() {
            faults.push(Fault::new("/statements", "empty", "give at least one statement, or skip the DDL"));
        }
        for (at, text) in statements.iter().enumerate() {
            if let Err(why) = decided::statement(text, &tables) {
                faults.push(Fault::new(format!("/statements/{at}"), "refused", why));
            }
        }
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        let mut effects: Vec<String> =
            statements.iter().map(|text| format!("on the target: {text}")).collect();
        effects.push(
            "then the target's table must take the rows that follow, or the task stops again".to_owned(),
        );
        Ok(effects)
    }

    /// The catalog of a task that stands still, as its worker has it.
    async fn catalog_of(&self, task: &TaskRow) -> Answer<Catalog> {
        let endpoints = self.endpoints(task).await?;
        let mut session = adb::connect(&endpoints.target, endpoints.dialect).await?;
        let collations = schema_sync::collations(&mut session, endpoints.dialect).await?;
        session.close().await;
        let selection = Selection::new(&task.spec).map_err(Refusal::Invalid)?;
        let bytewise = self.store.checkpoint(&task.id).await?.is_some_and(|checkpoint| checkpoint.bytewise);
        let mut catalog =
            Catalog::new(Arc::new(task.spec.clone()), Arc::new(selection), endpoints.dialect, collations)
                .bytewise(bytewise);
        let (schemas, tables) = self.store.catalog(&task.id).await?;
        catalog.load(schemas, tables)?;
        Ok(catalog)
    }

    /// The table that this DDL stopped while the others went on.
    async fn stopped_table(&self, task: &TaskRow, record: &DdlRecord) -> Result<Option<TableName>> {
        let passed = self
            .store
            .checkpoint(&task.id)
            .await?
            .is_some_and(|checkpoint| checkpoint.position.next_offset > record.offset);
        if record.state != DdlState::Failed || !passed {
            return Ok(None);
        }
        let name = TableName::new(&record.schema_name, &record.table_name).key();
        let states = self.store.table_states(&[&task.id]).await?.remove(&task.id).unwrap_or_default();
        Ok(states
            .into_iter()
            .find(|state| state.name.key() == name && matches!(state.standing, Standing::Stopped { .. }))
            .map(|state| state.name))
    }

    async fn resync_stopped(
        &self,
        task: &TaskRow,
        n: i64,
        command: &DdlCommand,
        table: &TableName,
        wait: Duration,
        dry_run: bool,
    ) -> Answer<DdlDecided> {
        if *command != DdlCommand::Retry {
            let detail = format!(
                "DDL {n} stopped {table} alone, and its rows were passed over since: only a new copy brings it back (retry, or /tables/resync)"
            );
            return Err(Refusal::Tables { detail, status: task.status });
        }
        let tables = [table.clone()];
        let asked = self.ask_of_tables(&task.id.0, TableCommand::Resync, &tables, wait, dry_run).await?;
        let effects = vec![format!("{table} is copied again as the source has it after the DDL")];
        Ok(DdlDecided { task: asked.task, reached: asked.reached, effects })
    }
}

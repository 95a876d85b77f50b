//! Tasks: create, precheck, plan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, Refusal, Service};
use crate::adb;
use crate::engine::endpoints::{self, Endpoints};
use crate::error::Error;
use crate::incremental::catalog::{Catalog, Change};
use crate::model::{Epoch, TableName, TaskId};
use crate::precheck::{self, CheckOutcome, PrecheckInput, PrecheckItem};
use crate::schema_sync;
use crate::store::tasks::{Report, TaskRow};
use crate::store::{OwnTable, now_ms};
use crate::task::selection::{Selection, canonicalize};
use crate::task::spec::Spec;
use crate::task::status::{Desired, Status};
use crate::tidb::Source;

const PRECHECK_PATIENCE: Duration = Duration::from_secs(120);

/// The last precheck of a task; times in milliseconds since the epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrecheckRun {
    pub at_ms: i64,
    pub duration_ms: u64,
    pub spec_version: i64,
    pub outcome: CheckOutcome,
    pub items: Vec<PrecheckItem>,
}

/// What will happen to one table of the target.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanTable {
    /// `schema.table`
    pub source: String,
    pub target: String,
    pub action: PlanAction,
    /// Exactly what will be sent to the target.
    pub statements: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    Create,
    /// The table is there and fits.
    Use,
    Refuse,
}

/// The last plan of a task; times in milliseconds since the epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanRun {
    pub at_ms: i64,
    pub spec_version: i64,
    pub tables: Vec<PlanTable>,
}

impl Service {
    /// Keeps a new task. The spec has been judged. With `dry_run` the task is shown and not kept.
    pub async fn create_task(&self, mut spec: Spec, dry_run: bool) -> Answer<TaskRow> {
        canonicalize(&mut spec);
        let taken = || Refusal::NameTaken(format!("another task is called {}", spec.name));
        if dry_run {
            if self.store.task(&spec.name).await?.is_some() {
                return Err(taken());
            }
            return Ok(unkept(spec));
        }
        let task = self.store.create_task(&spec).await?.ok_or_else(taken)?;
        tracing::info!(task.id = %task.id, name = task.name(), "task created");
        Ok(task)
    }

    /// The endpoints of a task, with their secrets opened.
    pub async fn endpoints(&self, task: &TaskRow) -> Answer<Endpoints> {
        Ok(endpoints::of_spec(&self.store, &self.keyring, &task.spec).await?)
    }

    /// Runs the precheck now and keeps its report.
    pub async fn run_precheck(&self, task: &TaskRow) -> Answer<PrecheckRun> {
        let endpoints = self.endpoints(task).await?;
        let own = self.store.own_tables(&task.id).await?;
        let input = PrecheckInput {
            own: own.into_iter().map(|own| own.name).collect(),
            spec: Arc::new(task.spec.clone()),
            source: endpoints.source,
            kafka: endpoints.kafka,
            target: endpoints.target,
            dialect: endpoints.dialect,
        };
        let start = Instant::now();
        let at_ms = now_ms();
        let items = tokio::time::timeout(PRECHECK_PATIENCE, precheck::run(input)).await.map_err(|_| {
            Refusal::EndpointTimeout(format!(
                "the precheck did not end within {} s",
                PRECHECK_PATIENCE.as_secs()
            ))
        })?;
        let run = PrecheckRun {
            at_ms,
            duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            spec_version: task.spec_version,
            outcome: worst(&items),
            items,
        };
        let value = serde_json::to_value(&run).map_err(Error::internal)?;
        self.store.save_report(&task.id, Report::Precheck, &value).await?;
        Ok(run)
    }

    pub async fn last_precheck(&self, task: &TaskRow) -> Answer<Option<PrecheckRun>> {
        let value = self.store.report(&task.id, Report::Precheck).await?;
        Ok(value.map(serde_json::from_value).transpose().map_err(Error::internal)?)
    }

    /// Works out what schema sync would do now, and keeps the plan.
    pub async fn run_plan(&self, task: &TaskRow) -> Answer<PlanRun> {
        let endpoints = self.endpoints(task).await?;
        let own = self.store.own_tables(&task.id).await?;
        let tables = plan_tables(task, &endpoints, &own).await?;
        let run = PlanRun { at_ms: now_ms(), spec_version: task.spec_version, tables };
        let value = serde_json::to_value(&run).map_err(Error::internal)?;
        self.store.save_report(&task.id, Report::Plan, &value).await?;
        Ok(run)
    }

    pub async fn last_plan(&self, task: &TaskRow) -> Answer<Option<PlanRun>> {
        let value = self.store.report(&task.id, Report::Plan).await?;
        Ok(value.map(serde_json::from_value).transpose().map_err(Error::internal)?)
    }
}

/// The tables that `selects` takes as the source has them now, as a task of this spec would see them.
pub(super) async fn catalog_now(
    spec: &Spec,
    endpoints: &Endpoints,
    source: &Source,
    selects: impl Fn(&TableName) -> bool + Send,
) -> Answer<Catalog> {
    let selection = Selection::new(spec)
        .map_err(|faults| Error::internal(format!("a stored spec does not compile: {faults:?}")))?;
    let now = source.current_tso().await?;
    let bytewise = source.compares_bytes().await?;
    let found = source.catalog_at(now, selects).await?;
    let mut session = adb::connect(&endpoints.target, endpoints.dialect).await?;
    let collations = schema_sync::collations(&mut session, endpoints.dialect).await?;
    session.close().await;
    let change = Change::from_source(found, &selection);
    let mut catalog =
        Catalog::new(Arc::new(spec.clone()), Arc::new(selection), endpoints.dialect, collations)
            .bytewise(bytewise);
    catalog.apply(&change);
    Ok(catalog)
}

/// The tables as the source has them now, held against the target.
async fn plan_tables(task: &TaskRow, endpoints: &Endpoints, own: &[OwnTable]) -> Answer<Vec<PlanTable>> {
    let Some(source) = &endpoints.source else {
        // The stream's own DDL makes the tables.
        return Ok(Vec::new());
    };
    let selection = Selection::new(&task.spec)
        .map_err(|faults| Error::internal(format!("a stored spec does not compile: {faults:?}")))?;
    let source = Source::new(source.clone());
    let catalog = catalog_now(&task.spec, endpoints, &source, |name| selection.selects(name)).await?;
    let mut session = adb::connect(&endpoints.target, endpoints.dialect).await?;
    let mut wanted = catalog.wanted();
    for wanted in &mut wanted {
        wanted.ours = own.iter().any(|own| own.name == wanted.target);
    }
    let names: Vec<TableName> = wanted.iter().map(|wanted| wanted.target.clone()).collect();
    let state = schema_sync::introspect(&mut session, endpoints.dialect, &names).await?;
    session.close().await;
    let plan = schema_sync::plan(endpoints.dialect, &wanted, &state, task.spec.existing_tables);
    let mut databases: Vec<String> = plan.databases.into_iter().map(|statement| statement.sql).collect();
    let tables = plan.tables.into_iter().map(|table| PlanTable {
        source: table.source.to_string(),
        target: table.target.to_string(),
        action: match table.action {
            schema_sync::Action::Create => PlanAction::Create,
            schema_sync::Action::Use => PlanAction::Use,
            schema_sync::Action::Refuse => PlanAction::Refuse,
        },
        // Databases are made before the first table.
        statements: databases.drain(..).chain(table.statements).collect(),
        warnings: table.problems.iter().map(ToString::to_string).collect(),
    });
    Ok(tables.collect())
}

/// Fail, else warn that is not waived, else pass.
fn worst(items: &[PrecheckItem]) -> CheckOutcome {
    if items.iter().any(|item| item.outcome == CheckOutcome::Fail) {
        CheckOutcome::Fail
    } else if items.iter().any(|item| item.outcome == CheckOutcome::Warn && !item.waived) {
        CheckOutcome::Warn
    } else {
        CheckOutcome::Pass
    }
}

fn unkept(spec: Spec) -> TaskRow {
    let now = now_ms();
    TaskRow {
        id: TaskId(format!("t_{}", ulid::Ulid::new())),
        spec,
        spec_version: 1,
        applied_spec_version: None,
        desired: Desired::None,
        status: Status::Created,
        phase: None,
        epoch: Epoch(0),
        last_error: None,
        last_error_at: None,
        retry: None,
        created_at: now,
        updated_at: now,
        started_at: None,
        finished_at: None,
    }
}

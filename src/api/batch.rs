//! `/tasks/commands` and `/tasks/summary`: many tasks at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::health::{CONDITIONS, Health};
use super::problem::{Problem, ProblemCode};
use super::request::{JsonBody, Params};
use super::shape::check;
use super::task_filter::{Filter, Select};
use super::task_view::Beside;
use crate::engine::progress::Phase;
use crate::model::TaskId;
use crate::observe::measure::lag_ms;
use crate::service::{Refusal, Service};
use crate::task::status::{Command, Status};

/// Commands under way.
const AT_ONCE: usize = 64;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(command_tasks)).routes(routes!(get_summary))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchCommand {
    Start,
    Pause,
    Resume,
    Stop,
    Delete,
}

impl From<BatchCommand> for Command {
    fn from(command: BatchCommand) -> Self {
        match command {
            BatchCommand::Start => Self::Start,
            BatchCommand::Pause => Self::Pause,
            BatchCommand::Resume => Self::Resume,
            BatchCommand::Stop => Self::Stop,
            BatchCommand::Delete => Self::Delete,
        }
    }
}

/// A command for many tasks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchInput {
    pub command: BatchCommand,
    pub select: Select,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchOutcome {
    /// The effect is there.
    Reached,
    /// The effect is on its way.
    Accepted,
    /// It was so already.
    Unchanged,
    /// Not done; `code` and `detail` say why.
    Refused,
}

/// What became of the command for one task.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// null when nothing is called so.
    pub task_id: Option<String>,
    /// As it was asked for, when nothing is called so.
    pub name: String,
    pub outcome: BatchOutcome,
    /// After the command.
    pub task_status: Option<Status>,
    pub code: Option<ProblemCode>,
    pub detail: Option<String>,
    /// States in which a refused command means something.
    pub allowed_from: Option<Vec<Status>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    pub command: BatchCommand,
    /// Tasks that are selected, with names that nothing is called.
    pub selected: usize,
    /// Results that are not `refused`.
    pub accepted: usize,
    pub refused: usize,
    /// In the order of the tasks' creation.
    pub results: Vec<BatchResult>,
}

impl BatchResult {
    fn refused(task_id: Option<String>, name: String, status: Option<Status>, problem: Problem) -> Self {
        // A fault of ours is told by its code; the log has its cause.
        if let Some(cause) = &problem.cause {
            tracing::error!(cause, task = name, "a command of many failed");
        }
        Self {
            task_id,
            name,
            outcome: BatchOutcome::Refused,
            task_status: problem.task_status.or(status),
            code: Some(problem.code),
            detail: Some(problem.detail),
            allowed_from: problem.allowed_from.map(<[Status]>::to_vec),
        }
    }
}

/// Gives one command to every task of a selection, and tells of each what became of it. A task that refuses does not keep the
/// others from it. With `wait_ms` all effects together are waited for.
#[utoipa::path(post, path = "/tasks/commands", tag = "tasks",
    params(
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for the effects"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    request_body = BatchInput,
    responses((status = 200, body = BatchAnswer)))]
async fn command_tasks(
    State(service): State<Service>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Json<BatchAnswer>, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let checked = check::<BatchInput>(body).map_err(Problem::invalid)?;
    let more = checked.value.select.faults();
    let input = checked.and(more).finish().map_err(Problem::invalid)?;
    let filter = input.select.filter();
    let rows = filter.all(&service).await?;

    let mut results = Vec::with_capacity(rows.len());
    let unknown = filter.stored.names.iter().flatten();
    for name in unknown {
        // Named, but left out by another field: not selected. Named, and not there: said.
        let there = rows.iter().any(|row| row.id.0 == *name || row.name() == name)
            || service.store.task(name).await?.is_some();
        if !there {
            let problem = Problem::not_found(format!("there is no task {name}"));
            results.push(BatchResult::refused(None, name.clone(), None, problem));
        }
    }
    let command = Command::from(input.command);
    // Before the commands, or an effect could be missed.
    let mut changes = service.registry.changes();
    let deadline = tokio::time::Instant::now() + wait;
    let mut waiting = Vec::new();
    // Side by side, so that they go to the disk together.
    let mut given = futures_util::stream::iter(rows)
        .map(|row| {
            let service = &service;
            async move {
                let id = &row.id.0;
                let done = if command == Command::Delete {
                    service.delete_task(id, None, dry_run).await.map(|()| None)
                } else {
                    service.command(id, command, Duration::ZERO, dry_run).await.map(Some)
                };
                (row, done)
            }
        })
        .buffered(AT_ONCE);
    while let Some((row, done)) = given.next().await {
        let (id, name, before) = (row.id.0.clone(), row.name().to_owned(), row.status);
        let result = match done {
            Err(Refusal::ShuttingDown) => return Err(Refusal::ShuttingDown.into()),
            Err(refusal) => BatchResult::refused(Some(id), name, Some(before), refusal.into()),
            Ok(accepted) => {
                let outcome = match &accepted {
                    None => BatchOutcome::Reached,
                    Some(accepted) if accepted.reached && !accepted.changed => BatchOutcome::Unchanged,
                    Some(accepted) if accepted.reached => BatchOutcome::Reached,
                    Some(accepted) if !accepted.changed && dry_run => BatchOutcome::Unchanged,
                    Some(_) => BatchOutcome::Accepted,
                };
                if outcome == BatchOutcome::Accepted {
                    waiting.push((results.len(), TaskId(id.clone())));
                }
                BatchResult {
                    task_id: Some(id),
                    name,
                    outcome,
                    task_status: accepted.map(|accepted| accepted.task.status),
                    code: None,
                    detail: None,
                    allowed_from: None,
                }
            }
        };
        results.push(result);
    }
    if !dry_run && !wait.is_zero() {
        for (at, id) in waiting {
            let Some(result) = results.get_mut(at) else { continue };
            let name = std::mem::take(&mut result.name);
            *result = match service.reach(command, &id, deadline, &mut changes).await {
                Ok((task, reached)) => BatchResult {
                    name,
                    outcome: if reached { BatchOutcome::Reached } else { BatchOutcome::Accepted },
                    task_status: Some(task.status),
                    task_id: Some(id.0),
                    code: None,
                    detail: None,
                    allowed_from: None,
                },
                Err(refusal) => BatchResult::refused(Some(id.0), name, None, refusal.into()),
            };
        }
    }
    let refused = results.iter().filter(|result| result.outcome == BatchOutcome::Refused).count();
    Ok(Json(BatchAnswer {
        command: input.command,
        selected: results.len(),
        accepted: results.len() - refused,
        refused,
        results,
    }))
}

/// The task that is furthest behind.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorstLag {
    pub lag_ms: i64,
    pub task_id: String,
    pub name: String,
}

/// All tasks in a few numbers. Every word is there, also with 0.
#[derive(Debug, Serialize, ToSchema)]
pub struct Summary {
    pub total: usize,
    pub status: BTreeMap<String, usize>,
    /// `none` = no phase.
    pub phase: BTreeMap<String, usize>,
    pub health: BTreeMap<String, usize>,
    /// Tasks that have the condition.
    pub conditions: BTreeMap<String, usize>,
    /// null = no lag is known.
    pub worst_lag: Option<WorstLag>,
}

/// How many tasks are in which state, and the one that is furthest behind; of all, or of those that the filters leave.
#[utoipa::path(get, path = "/tasks/summary", tag = "tasks",
    params(
        ("status" = Option<Status>, Query),
        ("phase" = Option<Phase>, Query),
        ("health" = Option<Health>, Query),
        ("condition" = Option<String>, Query, description = "type of a condition that the task has"),
        ("label" = Option<String>, Query, description = "`key` or `key=value`; may come several times, all must hold"),
        ("name_prefix" = Option<String>, Query),
    ),
    responses((status = 200, body = Summary)))]
async fn get_summary(State(service): State<Service>, mut params: Params) -> Result<Json<Summary>, Problem> {
    let filter = Filter::take(&mut params);
    params.finish()?;
    let rows = filter.all(&service).await?;
    let zero = |words: &[&str]| words.iter().map(|word| ((*word).to_owned(), 0)).collect();
    let statuses: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let mut summary = Summary {
        total: rows.len(),
        status: zero(&statuses),
        phase: zero(&["none", "precheck", "schema", "full", "incremental"]),
        health: zero(&["ok", "degraded", "blocked", "failed"]),
        conditions: zero(&CONDITIONS),
        worst_lag: None,
    };
    let count = |counts: &mut BTreeMap<String, usize>, word: &str| {
        *counts.entry(word.to_owned()).or_default() += 1;
    };
    for batch in rows.chunks(500) {
        let beside = Beside::of(&service, batch).await?;
        for row in batch {
            count(&mut summary.status, row.status.as_str());
            count(&mut summary.phase, row.phase.map_or("none", Phase::as_str));
            let seen = service.registry.seen(&row.id);
            let (health, conditions) = beside.judge(row, seen.as_ref());
            count(&mut summary.health, health.as_str());
            for kind in conditions.iter().map(|condition| condition.r#type).collect::<BTreeSet<_>>() {
                count(&mut summary.conditions, kind);
            }
            let progress = seen.as_ref().map(|seen| &*seen.progress);
            let lag = lag_ms(row, progress, beside.checkpoints.get(&row.id));
            if let Some(lag_ms) = lag
                && summary.worst_lag.as_ref().is_none_or(|worst| worst.lag_ms < lag_ms)
            {
                let (task_id, name) = (row.id.0.clone(), row.name().to_owned());
                summary.worst_lag = Some(WorstLag { lag_ms, task_id, name });
            }
        }
    }
    Ok(Json(summary))
}

//! `/tasks`: create, list, read, delete, command.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::health::Health;
use super::page::{Page, decode};
use super::problem::Problem;
use super::request::{JsonBody, Params, Segments, etag};
use super::shape::check;
use super::task_view::Task;
use crate::engine::progress::Phase;
use crate::service::Service;
use crate::store::TableState;
use crate::store::tasks::TaskRow;
use crate::task::change::{Effect, EffectKind};
use crate::task::spec::Spec;
use crate::task::status::{Command, Status};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(create_task, list_tasks))
        .routes(routes!(get_task, patch_task, delete_task))
        .routes(routes!(start_task))
        .routes(routes!(pause_task))
        .routes(routes!(resume_task))
        .routes(routes!(stop_task))
}

/// Creates a task; `start` begins it.
#[utoipa::path(post, path = "/tasks", tag = "tasks",
    params(("dry_run" = Option<bool>, Query, description = "true judges the spec and keeps nothing")),
    request_body = Spec,
    responses((status = 201, body = Task), (status = 200, body = Task, description = "with dry_run")))]
async fn create_task(
    State(service): State<Service>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let spec = checked_spec(&service, body).await?;
    let row = service.create_task(spec, dry_run).await?;
    let version = etag(row.spec_version);
    let task = Task::view(&service, row).await?;
    if dry_run {
        return Ok((version, Json(task)).into_response());
    }
    let location: [(HeaderName, String); 1] = [(header::LOCATION, task.links.itself.clone())];
    Ok((StatusCode::CREATED, version, location, Json(task)).into_response())
}

/// Reads a spec and tells every fault of it: of shape, of meaning, of the connections it names.
pub async fn checked_spec(service: &Service, body: serde_json::Value) -> Result<Spec, Problem> {
    let checked = check::<Spec>(body).map_err(Problem::invalid)?;
    let more = service.spec_faults(&checked.value).await?;
    checked.and(more).finish().map_err(Problem::invalid)
}

/// What a list of tasks is narrowed to.
#[derive(Debug, Default)]
struct Filter {
    status: Option<Status>,
    phase: Option<Phase>,
    health: Option<Health>,
    /// `key` or `key=value`
    labels: Vec<String>,
    name_prefix: String,
}

impl Filter {
    fn take(params: &mut Params) -> Self {
        let words: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        let status = params.parsed("status", &format!("one of {}", words.join(", ")), Status::parse);
        let phase = params.parsed("phase", "one of precheck, schema, full, incremental", |text| match text {
            "precheck" => Some(Phase::Precheck),
            "schema" => Some(Phase::Schema),
            "full" => Some(Phase::Full),
            "incremental" => Some(Phase::Incremental),
            _ => None,
        });
        let health = params.parsed("health", "one of ok, degraded, blocked, failed", Health::parse);
        let labels = std::iter::from_fn(|| params.text("label")).collect();
        Self { status, phase, health, labels, name_prefix: params.text("name_prefix").unwrap_or_default() }
    }

    fn takes(
        &self,
        service: &Service,
        row: &TaskRow,
        aside: &[TableState],
        letters: Option<(i64, i64)>,
    ) -> bool {
        let label = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => row.spec.labels.get(key).is_some_and(|found| found == value),
            None => row.spec.labels.contains_key(wanted),
        };
        self.phase.is_none_or(|phase| row.phase == Some(phase))
            && self.labels.iter().all(label)
            && self.health.is_none_or(|health| Task::health_of(service, row, aside, letters) == health)
    }
}

/// Lists tasks in the order of their creation.
#[utoipa::path(get, path = "/tasks", tag = "tasks",
    params(
        ("status" = Option<Status>, Query),
        ("phase" = Option<Phase>, Query),
        ("health" = Option<Health>, Query),
        ("label" = Option<String>, Query, description = "`key` or `key=value`; may come several times, all must hold"),
        ("name_prefix" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Task>)))]
async fn list_tasks(State(service): State<Service>, mut params: Params) -> Result<Json<Page<Task>>, Problem> {
    let filter = Filter::take(&mut params);
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let bound = format!("tasks {filter:?}");
    let mut after = decode(&bound, cursor.as_deref())?;
    let mut rows = Vec::new();
    while rows.len() <= limit as usize {
        let batch = service.store.tasks_after(&after, filter.status, &filter.name_prefix, limit + 1).await?;
        let Some(last) = batch.last() else { break };
        after = last.id.0.clone();
        let is_last = batch.len() <= limit as usize;
        let ids: Vec<_> = batch.iter().map(|row| &row.id).collect();
        let aside = service.store.table_states(&ids).await?;
        let letters = service.store.letter_counts(&ids).await?;
        let aside = |row: &TaskRow| aside.get(&row.id).map_or(&[][..], Vec::as_slice);
        rows.extend(
            batch
                .into_iter()
                .filter(|row| filter.takes(&service, row, aside(row), letters.get(&row.id).copied())),
        );
        if is_last {
            break;
        }
    }
    let page = Page::cut(rows, limit, &bound, |row| row.id.0.clone());
    let items = Task::views(&service, page.items).await?;
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

#[utoipa::path(get, path = "/tasks/{task}", tag = "tasks",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = Task)))]
async fn get_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<Task>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok(Json(Task::view(&service, row).await?))
}

/// Changes the spec by a merge patch, as `PATCH /tasks/{task}/spec` does.
#[utoipa::path(patch, path = "/tasks/{task}", tag = "tasks",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the spec's version"),
    ),
    request_body(content = serde_json::Value, description = "The fields of the spec to change; null = default"),
    responses((status = 200, body = super::specs::SpecAnswer)))]
async fn patch_task(
    state: State<Service>,
    segments: Segments<String>,
    params: Params,
    headers: axum::http::HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    super::specs::patch_spec(state, segments, params, headers, body).await
}

/// Deletes a task with everything kept of it; its events stay, the target is not touched.
#[utoipa::path(delete, path = "/tasks/{task}", tag = "tasks",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query),
    ),
    responses((status = 204)))]
async fn delete_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<StatusCode, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    service.delete_task(&task, dry_run).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The task after a command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandAnswer {
    #[serde(flatten)]
    pub task: Task,
    /// Empty when it was so already.
    pub effects: Vec<Effect>,
}

async fn command(
    service: &Service,
    task: &str,
    command: Command,
    mut params: Params,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let accepted = service.command(task, command, wait, dry_run).await?;
    let status =
        if dry_run || (accepted.reached && !wait.is_zero()) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let wanted = match command {
        Command::Start | Command::Resume => "running",
        Command::Pause => "paused",
        Command::Stop | Command::Delete => "stopped",
    };
    let effect = Effect {
        field: "/desired".to_owned(),
        effect: EffectKind::Now,
        detail: format!("the task is wanted {wanted}"),
    };
    let effects = if accepted.changed { vec![effect] } else { Vec::new() };
    let task = Task::view(service, accepted.task).await?;
    Ok((status, Json(CommandAnswer { task, effects })).into_response())
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $command:ident;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "tasks",
            params(
                ("task" = String, Path, description = "id or name"),
                ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for the effect"),
                ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
            ),
            responses(
                (status = 202, body = CommandAnswer, description = "on its way"),
                (status = 200, body = CommandAnswer, description = "the effect is reached (with wait_ms), or dry_run"),
            ))]
        async fn $name(
            State(service): State<Service>,
            Segments(task): Segments<String>,
            params: Params,
        ) -> Result<Response, Problem> {
            command(&service, &task, Command::$command, params).await
        }
    )+};
}

commands! {
    /// Starts a created task: precheck, then its phases.
    start_task, "/tasks/{task}/start", Start;
    /// Stops writing within seconds and keeps the checkpoint.
    pause_task, "/tasks/{task}/pause", Pause;
    /// Goes on from the checkpoint.
    resume_task, "/tasks/{task}/resume", Resume;
    /// Ends a task for good.
    stop_task, "/tasks/{task}/stop", Stop;
}

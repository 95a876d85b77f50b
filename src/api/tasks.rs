//! `/tasks`: create, list, read, delete, command.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::effects::Effects;
use super::health::Health;
use super::page::{Page, decode};
use super::problem::Problem;
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::shape::check;
use super::task_filter::Filter;
use super::task_view::Task;
use super::time::rfc3339;
use crate::engine::progress::Phase;
use crate::service::Service;
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
    responses((status = 201, body = CommandAnswer), (status = 200, body = CommandAnswer, description = "with dry_run")))]
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
    let detail = format!("task {} is created; `start` begins it", row.name());
    let effects = vec![Effect { field: String::new(), effect: EffectKind::Now, detail }];
    let task = Task::view(&service, row).await?;
    let location: [(HeaderName, String); 1] = [(header::LOCATION, task.links.itself.clone())];
    let answer = Json(CommandAnswer { task, effects });
    if dry_run {
        return Ok((version, answer).into_response());
    }
    Ok((StatusCode::CREATED, version, location, answer).into_response())
}

/// Reads a spec and tells every fault of it: of shape, of meaning, of the connections it names.
pub async fn checked_spec(service: &Service, body: serde_json::Value) -> Result<Spec, Problem> {
    let checked = check::<Spec>(body).map_err(Problem::invalid)?;
    let more = service.spec_faults(&checked.value).await?;
    checked.and(more).finish().map_err(Problem::invalid)
}

/// Lists tasks in the order of their creation.
#[utoipa::path(get, path = "/tasks", tag = "tasks",
    params(
        ("status" = Option<Status>, Query),
        ("phase" = Option<Phase>, Query),
        ("health" = Option<Health>, Query),
        ("condition" = Option<String>, Query, description = "type of a condition that the task has"),
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
    let after = decode(&bound, cursor.as_deref())?;
    let (rows, beside) = filter.page(&service, after, limit).await?;
    let page = Page::cut(rows, limit, &bound, |row| row.id.0.clone());
    let items = Task::views(&service, page.items, beside).await?;
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One task on one page: state, health, checkpoint, lag, rates, last error.
#[utoipa::path(get, path = "/tasks/{task}", tag = "tasks",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = Task, headers(("etag" = String, description = "the spec's version")))))]
async fn get_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let version = etag(row.spec_version);
    Ok((version, Json(Task::view(&service, row).await?)).into_response())
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
        ("dry_run" = Option<bool>, Query, description = "true answers with the effects and does nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the spec's version"),
    ),
    responses((status = 204), (status = 200, body = Effects, description = "with dry_run")))]
async fn delete_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    service.delete_task(&task, if_match(&headers)?, dry_run).await?;
    Ok(Effects::of_delete(dry_run, || {
        format!(
            "task {task} is deleted with its checkpoint and reports; its events stay, the target is not touched"
        )
    }))
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
    let kept = match command {
        Command::Pause => service.snapshot_kept_until(&accepted.task).await?,
        _ => None,
    };
    let task = Task::view(service, accepted.task).await?;
    let mut detail = format!("the task is wanted {wanted}");
    if let Some(kept) = kept {
        let kept = rfc3339(kept);
        detail.push_str(&format!(
            "; the source is sure to keep the snapshot of its full sync until {kept}: a resume after that may begin the copy again"
        ));
    }
    let effect = Effect { field: "/desired".to_owned(), effect: EffectKind::Now, detail };
    let effects = if accepted.changed { vec![effect] } else { Vec::new() };
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

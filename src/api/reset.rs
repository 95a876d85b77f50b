//! `/tasks/{task}/reset`: a task becomes what it was before its first start.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::task_view::Task;
use super::tasks::CommandAnswer;
use crate::service::Service;
use crate::service::reset::TargetTables;
use crate::task::change::{Effect, EffectKind};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(reset_task))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// What becomes of the tables that the task made on the target; others are never touched.
    #[serde(default)]
    pub target_tables: TargetTables,
}

/// Forgets everything but the spec and the events of a task that is paused, failed, stopped or finished: its next start begins with
/// the precheck and a full copy.
#[utoipa::path(post, path = "/tasks/{task}/reset", tag = "tasks",
    params(
        ("task" = String, Path, description = "id or name"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "the effect is there with the answer"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    request_body = ResetRequest,
    responses(
        (status = 202, body = CommandAnswer, description = "reset"),
        (status = 200, body = CommandAnswer, description = "reset (with wait_ms), or dry_run"),
    ))]
async fn reset_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let wanted =
        check::<ResetRequest>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let reset = service.reset_task(&task, wanted.target_tables, dry_run).await?;
    let effects = reset
        .effects
        .into_iter()
        .map(|detail| Effect { field: "/target_tables".to_owned(), effect: EffectKind::Now, detail })
        .collect();
    let status = if dry_run || !wait.is_zero() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let task = Task::view(&service, reset.task).await?;
    Ok((status, Json(CommandAnswer { task, effects })).into_response())
}

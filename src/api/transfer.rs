//! `/tasks/{task}/export` and `/tasks/import`: a task leaves one server and goes on in another.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{IMPORT_BYTES_MAX, JsonBody, Params, Segments, etag};
use super::shape::check;
use super::task_view::Task;
use super::tasks::checked_spec;
use crate::service::Service;
use crate::service::transfer::TaskExport;

pub fn routes() -> OpenApiRouter<Service> {
    let import =
        OpenApiRouter::new().routes(routes!(import_task)).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX));
    OpenApiRouter::new().routes(routes!(export_task)).merge(import)
}

/// Gives everything that this server keeps of a task that stands still, and stops the task here for good: it goes on where the document
/// is imported. A stopped task gives its document again. No secret is in it, but images of dead letters are.
#[utoipa::path(post, path = "/tasks/{task}/export", tag = "tasks",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true tells whether it can be, with 204, and does nothing"),
    ),
    responses(
        (status = 200, body = TaskExport),
        (status = 204, description = "with dry_run"),
    ))]
async fn export_task(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let (_, export) = service.export_task(&task, dry_run).await?;
    Ok(match export {
        Some(export) => Json(export).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Takes a task over from another server. Its connections must be here under the same names; it starts paused, and resume goes on from
/// its checkpoint.
#[utoipa::path(post, path = "/tasks/import", tag = "tasks",
    params(("dry_run" = Option<bool>, Query, description = "true judges the document, with 204, and keeps nothing")),
    request_body = TaskExport,
    responses(
        (status = 201, body = Task),
        (status = 204, description = "with dry_run"),
    ))]
async fn import_task(
    State(service): State<Service>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let export = check::<TaskExport>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let spec = checked_spec(&service, export.spec.clone()).await.map_err(|mut problem| {
        for pointer in problem.errors.iter_mut().filter_map(|error| error.pointer.as_mut()) {
            pointer.insert_str(0, "/spec");
        }
        problem
    })?;
    let Some(row) = service.import_task(&export, &spec, dry_run).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let version = etag(row.spec_version);
    let task = Task::view(&service, row).await?;
    let location: [(HeaderName, String); 1] = [(header::LOCATION, task.links.itself.clone())];
    Ok((StatusCode::CREATED, version, location, Json(task)).into_response())
}

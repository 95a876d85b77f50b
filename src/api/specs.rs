//! `/tasks/{task}/spec`, `/precheck`, `/plan`: what a task is asked to do, and what that meets.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::tasks::checked_spec;
use super::time::rfc3339;
use crate::precheck::{CheckOutcome, PrecheckItem};
use crate::service::Service;
use crate::service::objects::TableTurn;
use crate::service::tasks::{PlanRun, PlanTable, PrecheckRun};
use crate::store::tasks::TaskRow;
use crate::task::change::{Effect, merge_patch};
use crate::task::spec::Spec;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(get_spec, put_spec, patch_spec))
        .routes(routes!(get_precheck, run_precheck))
        .routes(routes!(get_plan, run_plan))
}

/// A spec after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct SpecAnswer {
    pub spec: Spec,
    pub spec_version: i64,
    /// What the change does, field by field; empty when nothing changed.
    pub effects: Vec<Effect>,
    /// What the change does to single tables of a task that has begun: which are copied, copied again, or no longer followed, and why.
    pub tables: Vec<TableTurn>,
}

/// The spec with every default filled in.
#[utoipa::path(get, path = "/tasks/{task}/spec", tag = "spec",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = Spec, headers(("etag" = String)))))]
async fn get_spec(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok((etag(row.spec_version), Json(row.spec)).into_response())
}

async fn keep(
    service: &Service,
    row: TaskRow,
    body: serde_json::Value,
    headers: &HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let spec = checked_spec(service, body).await?;
    let changed = service.put_spec(row, spec, if_match(headers)?, dry_run).await?;
    let version = changed.task.spec_version;
    let answer = SpecAnswer {
        spec: changed.task.spec,
        spec_version: version,
        effects: changed.effects,
        tables: changed.tables,
    };
    Ok((etag(version), Json(answer)).into_response())
}

/// Replaces the spec; what `GET` gave changes nothing.
#[utoipa::path(put, path = "/tasks/{task}/spec", tag = "spec",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to replace"),
    ),
    request_body = Spec,
    responses((status = 200, body = SpecAnswer, headers(("etag" = String)))))]
async fn put_spec(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let row = service.task(&task).await?;
    keep(&service, row, body, &headers, params).await
}

/// Changes the spec by a merge patch (RFC 7396): lists replace, null brings the default back.
#[utoipa::path(patch, path = "/tasks/{task}/spec", tag = "spec",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to change"),
    ),
    request_body(content = serde_json::Value, description = "The fields of the spec to change; null = default"),
    responses((status = 200, body = SpecAnswer, headers(("etag" = String)))))]
pub async fn patch_spec(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(patch): JsonBody,
) -> Result<Response, Problem> {
    let row = service.task(&task).await?;
    let mut body = serde_json::to_value(&row.spec).map_err(Problem::internal)?;
    merge_patch(&mut body, patch, |_| false);
    keep(&service, row, body, &headers, params).await
}

/// What was asked of source, Kafka and target, and what they answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct PrecheckReport {
    /// null = it never ran.
    #[schema(format = DateTime)]
    pub ran_at: Option<String>,
    pub duration_ms: Option<u64>,
    pub spec_version: Option<i64>,
    /// fail blocks the start; so does warn, unless the spec waives the item.
    pub outcome: Option<CheckOutcome>,
    pub items: Vec<PrecheckItem>,
}

impl PrecheckReport {
    fn new(run: Option<PrecheckRun>) -> Self {
        match run {
            None => {
                Self { ran_at: None, duration_ms: None, spec_version: None, outcome: None, items: Vec::new() }
            }
            Some(run) => Self {
                ran_at: Some(rfc3339(run.at_ms)),
                duration_ms: Some(run.duration_ms),
                spec_version: Some(run.spec_version),
                outcome: Some(run.outcome),
                items: run.items,
            },
        }
    }
}

/// Runs the precheck now; nothing is changed anywhere.
#[utoipa::path(post, path = "/tasks/{task}/precheck", tag = "spec",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = PrecheckReport)))]
async fn run_precheck(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<PrecheckReport>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok(Json(PrecheckReport::new(Some(service.run_precheck(&row).await?))))
}

/// The last precheck.
#[utoipa::path(get, path = "/tasks/{task}/precheck", tag = "spec",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = PrecheckReport)))]
async fn get_precheck(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<PrecheckReport>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok(Json(PrecheckReport::new(service.last_precheck(&row).await?)))
}

/// What schema sync would do to each table of the target.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanReport {
    /// null = it was never worked out.
    #[schema(format = DateTime)]
    pub planned_at: Option<String>,
    pub spec_version: Option<i64>,
    pub tables: Vec<PlanTable>,
}

impl PlanReport {
    fn new(run: Option<PlanRun>) -> Self {
        match run {
            None => Self { planned_at: None, spec_version: None, tables: Vec::new() },
            Some(run) => Self {
                planned_at: Some(rfc3339(run.at_ms)),
                spec_version: Some(run.spec_version),
                tables: run.tables,
            },
        }
    }
}

/// Works out the plan now; nothing is changed anywhere.
#[utoipa::path(post, path = "/tasks/{task}/plan", tag = "spec",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = PlanReport)))]
async fn run_plan(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<PlanReport>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok(Json(PlanReport::new(Some(service.run_plan(&row).await?))))
}

/// The last plan.
#[utoipa::path(get, path = "/tasks/{task}/plan", tag = "spec",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = PlanReport)))]
async fn get_plan(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<PlanReport>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok(Json(PlanReport::new(service.last_plan(&row).await?)))
}

//! `/tasks/{task}/checkpoint` and `/ddl`: where incremental sync stands, and which DDL it met.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode};
use super::request::{Params, Segments};
use super::task_view::{CheckpointView, ErrorView};
use super::time::{of_tso, rfc3339};
use crate::service::Service;
use crate::store::views::DdlRow;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(get_checkpoint)).routes(routes!(list_ddl)).routes(routes!(get_ddl))
}

/// The checkpoint of a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointAnswer {
    /// null before the first one is saved.
    pub checkpoint: Option<CheckpointView>,
}

/// Where incremental sync stands: everything before it is in the target.
#[utoipa::path(get, path = "/tasks/{task}/checkpoint", tag = "progress",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = CheckpointAnswer)))]
async fn get_checkpoint(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<CheckpointAnswer>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let checkpoints = service.store.checkpoint_views(&[&row.id]).await?;
    Ok(Json(CheckpointAnswer { checkpoint: checkpoints.get(&row.id).map(CheckpointView::from) }))
}

/// One DDL of the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct DdlView {
    pub n: i64,
    pub commit_tso: String,
    #[schema(format = DateTime)]
    pub commit_time: Option<String>,
    pub offset: String,
    pub schema: String,
    pub table: String,
    /// As the source ran it.
    pub source_text: String,
    /// As the target runs it.
    pub statements: Vec<String>,
    /// What the target gets otherwise than the source, or not at all, and why.
    pub notes: Vec<String>,
    /// Statements known to be applied.
    pub statements_done: i64,
    /// pending, done, ignored, failed; more may come.
    pub state: String,
    pub error: Option<ErrorView>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
}

impl From<DdlRow> for DdlView {
    fn from(row: DdlRow) -> Self {
        Self {
            n: row.n,
            commit_tso: row.commit_ts.to_string(),
            commit_time: of_tso(row.commit_ts),
            offset: row.offset.to_string(),
            schema: row.schema,
            table: row.table,
            source_text: row.source_text,
            statements: serde_json::from_str(&row.statements).unwrap_or_default(),
            notes: serde_json::from_str(&row.notes).unwrap_or_default(),
            statements_done: row.steps_done,
            state: row.state,
            error: row.error.as_ref().map(|error| ErrorView::new(error, None)),
            created_at: rfc3339(row.created_at),
            finished_at: row.finished_at.map(rfc3339),
        }
    }
}

/// Lists the DDL that the task met, in the order of the stream.
#[utoipa::path(get, path = "/tasks/{task}/ddl", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("state" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<DdlView>)))]
async fn list_ddl(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<DdlView>>, Problem> {
    let (state, limit, cursor) = (params.text("state"), params.limit(), params.text("cursor"));
    params.finish()?;
    let row = service.task(&task).await?;
    let filter = format!("ddl {} {state:?}", row.id);
    let after = decode(&filter, cursor.as_deref())?.parse().unwrap_or(i64::MIN);
    let rows = service.store.ddl_after(&row.id, after, state.as_deref(), limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, &filter, |row| row.n.to_string()).map(DdlView::from)))
}

/// One DDL that the task met.
#[utoipa::path(get, path = "/tasks/{task}/ddl/{n}", tag = "progress",
    params(("task" = String, Path, description = "id or name"), ("n" = i64, Path)),
    responses((status = 200, body = DdlView)))]
async fn get_ddl(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    params: Params,
) -> Result<Json<DdlView>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let n: i64 = n.parse().map_err(|_| Problem::new(ProblemCode::InvalidParameter, "n must be a number"))?;
    let found = service.store.ddl_one(&row.id, n).await?;
    found
        .map(|row| Json(row.into()))
        .ok_or_else(|| Problem::not_found(format!("the task has met no DDL {n}")))
}

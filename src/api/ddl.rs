//! `/tasks/{task}/ddl`: which DDL incremental sync met.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode};
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::task_view::{ErrorView, Task};
use super::tasks::CommandAnswer;
use super::time::{of_tso, rfc3339};
use crate::service::Service;
use crate::service::ddl::DdlCommand;
use crate::store::DdlDecision;
use crate::store::views::DdlRow;
use crate::task::change::{Effect, EffectKind};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list_ddl))
        .routes(routes!(get_ddl))
        .routes(routes!(retry_ddl))
        .routes(routes!(skip_ddl))
        .routes(routes!(replace_ddl))
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
    /// What an operator decided about it; null = nothing.
    pub decision: Option<DdlDecision>,
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
            decision: row.decision,
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
    let n = number(&n)?;
    let found = service.store.ddl_one(&row.id, n).await?;
    found
        .map(|row| Json(row.into()))
        .ok_or_else(|| Problem::not_found(format!("the task has met no DDL {n}")))
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::new(ProblemCode::InvalidParameter, "n must be a number"))
}

async fn command(
    service: &Service,
    (task, n): (String, String),
    command: &DdlCommand,
    mut params: Params,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let n = number(&n)?;
    let decided = service.command_ddl(&task, n, command, wait, dry_run).await?;
    let status = if dry_run || decided.reached { StatusCode::OK } else { StatusCode::ACCEPTED };
    let effects = decided
        .effects
        .into_iter()
        .map(|detail| Effect { field: format!("/ddl/{n}"), effect: EffectKind::NextStart, detail })
        .collect();
    let task = Task::view(service, decided.task).await?;
    Ok((status, Json(CommandAnswer { task, effects })).into_response())
}

/// Tries the DDL at which the task stands once more, by the policies as they are now. For a table that a DDL stopped alone: copies it
/// again.
#[utoipa::path(post, path = "/tasks/{task}/ddl/{n}/retry", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"), ("n" = i64, Path),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until the DDL is through"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    responses(
        (status = 202, body = CommandAnswer, description = "on its way"),
        (status = 200, body = CommandAnswer, description = "the DDL is through, or dry_run"),
    ))]
async fn retry_ddl(
    State(service): State<Service>,
    Segments(path): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    command(&service, path, &DdlCommand::Retry, params).await
}

/// Passes the DDL at which the task stands over: the target stays as it is, and what comes behind is fitted to that.
#[utoipa::path(post, path = "/tasks/{task}/ddl/{n}/skip", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"), ("n" = i64, Path),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until the DDL is through"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    responses(
        (status = 202, body = CommandAnswer, description = "on its way"),
        (status = 200, body = CommandAnswer, description = "the DDL is through, or dry_run"),
    ))]
async fn skip_ddl(
    State(service): State<Service>,
    Segments(path): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    command(&service, path, &DdlCommand::Decide(DdlDecision::Skip), params).await
}

/// What the target gets in the place of a DDL.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DdlReplacement {
    /// One statement each, on the tables that the DDL concerns, with their names on the target: ALTER TABLE of columns and indexes,
    /// CREATE TABLE, TRUNCATE TABLE, RENAME TABLE, CREATE INDEX, DROP INDEX.
    #[schema(min_items = 1, max_items = 100)]
    pub statements: Vec<String>,
}

/// Runs other statements in the place of the DDL at which the task stands; then the target's table must take the rows that follow.
#[utoipa::path(post, path = "/tasks/{task}/ddl/{n}/replace", tag = "progress", extensions(("x-role" = json!("admin"))),
    params(
        ("task" = String, Path, description = "id or name"), ("n" = i64, Path),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until the DDL is through"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    request_body = DdlReplacement,
    responses(
        (status = 202, body = CommandAnswer, description = "on its way"),
        (status = 200, body = CommandAnswer, description = "the DDL is through, or dry_run"),
    ))]
async fn replace_ddl(
    State(service): State<Service>,
    Segments(path): Segments<(String, String)>,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let wanted =
        check::<DdlReplacement>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let decision = DdlDecision::Replace { statements: wanted.statements };
    command(&service, path, &DdlCommand::Decide(decision), params).await
}

//! `/tasks/{task}/objects/{add, remove}`: tables that come to a task and leave it while the others go on.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::shape::{Checked, check};
use super::table_commands::NamedTable;
use super::task_view::Task;
use crate::model::TableName;
use crate::service::Service;
use crate::service::objects::TableTurn;
use crate::service::specs::Changed;
use crate::store::tasks::TaskRow;
use crate::task::change::Effect;
use crate::task::fault::Fault;
use crate::task::objects;
use crate::task::spec::{Objects, TableSpec};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(add_objects)).routes(routes!(remove_objects))
}

/// `"shop.orders"`, a pattern such as `"shop.*"`, or `{"schema": "shop", "table": "orders"}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TableRef {
    Pattern(String),
    Table(NamedTable),
}

impl TableRef {
    fn text(self) -> String {
        match self {
            Self::Pattern(text) => text,
            Self::Table(table) => objects::quoted(&TableName::new(table.schema, table.table)),
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddedObjects {
    pub tables: Vec<TableRef>,
    /// Rules of single tables, as in `objects.tables` of a spec.
    #[serde(default)]
    pub rules: BTreeMap<String, TableSpec>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemovedObjects {
    pub tables: Vec<TableRef>,
}

/// The task after a change of its tables.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectsAnswer {
    #[serde(flatten)]
    pub task: Task,
    /// What changes in the spec; empty when nothing does.
    pub effects: Vec<Effect>,
    /// What becomes of single tables.
    pub tables: Vec<TableTurn>,
}

/// Takes tables into a task: each is copied beside the stream with its own snapshot, catches up and joins; the others go on.
#[utoipa::path(post, path = "/tasks/{task}/objects/add", tag = "spec",
    params(
        ("task" = String, Path, description = "id or name"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until they follow"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the spec's version"),
    ),
    request_body = AddedObjects,
    responses(
        (status = 202, body = ObjectsAnswer, description = "on its way"),
        (status = 200, body = ObjectsAnswer, description = "they follow (with wait_ms), or dry_run"),
    ))]
async fn add_objects(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let asked = check::<AddedObjects>(body).and_then(Checked::finish).map_err(Problem::invalid)?;
    let names: Vec<String> = asked.tables.into_iter().map(TableRef::text).collect();
    let change = |of: &mut Objects| objects::add(of, &names, asked.rules);
    keep(&service, &task, params, &headers, change).await
}

/// Takes tables out of a task: they are no longer followed, their data stays. When they come back they are copied again.
#[utoipa::path(post, path = "/tasks/{task}/objects/remove", tag = "spec",
    params(
        ("task" = String, Path, description = "id or name"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until they are no longer followed"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the spec's version"),
    ),
    request_body = RemovedObjects,
    responses(
        (status = 202, body = ObjectsAnswer, description = "on its way"),
        (status = 200, body = ObjectsAnswer, description = "they are out (with wait_ms), or dry_run"),
    ))]
async fn remove_objects(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let asked = check::<RemovedObjects>(body).and_then(Checked::finish).map_err(Problem::invalid)?;
    let names: Vec<String> = asked.tables.into_iter().map(TableRef::text).collect();
    keep(&service, &task, params, &headers, |of| objects::remove(of, &names)).await
}

async fn keep(
    service: &Service,
    task: &str,
    mut params: Params,
    headers: &HeaderMap,
    change: impl FnOnce(&mut Objects) -> Result<(), Vec<Fault>>,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let row = service.task(task).await?;
    let before = row.clone();
    let mut spec = row.spec.clone();
    change(&mut spec.objects).map_err(Problem::invalid)?;
    let faults = service.spec_faults(&spec).await?;
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let changed = service.put_spec(row, spec, if_match(headers)?, dry_run).await?;
    let (task, reached) = if dry_run || changed.effects.is_empty() {
        (before, true)
    } else {
        service.tables_turned(&changed, wait).await?
    };
    answer(service, task, changed, dry_run || (reached && !wait.is_zero())).await
}

async fn answer(service: &Service, task: TaskRow, changed: Changed, done: bool) -> Result<Response, Problem> {
    let version = etag(task.spec_version);
    let task = Task::view(service, task).await?;
    let body = ObjectsAnswer { task, effects: changed.effects, tables: changed.tables };
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, version, Json(body)).into_response())
}

//! `/events`: what happened, in one increasing order.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{Page, decode};
use super::problem::Problem;
use super::request::{Params, Segments};
use super::time::rfc3339;
use crate::model::TaskId;
use crate::service::Service;
use crate::store::events::EventRow;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(list_events)).routes(routes!(list_task_events))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Increases; also what `after` takes.
    pub id: i64,
    #[schema(format = DateTime)]
    pub at: String,
    pub task_id: Option<String>,
    /// null for a task that is gone.
    pub task_name: Option<String>,
    /// command, transition, created, spec, connection, ddl, error, retry, ...; more may come.
    pub kind: String,
    /// Who did it; null = the server itself, or unknown.
    pub actor: Option<String>,
    pub message: String,
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            at: rfc3339(row.at),
            task_id: row.task_id,
            task_name: row.task_name,
            kind: row.kind,
            actor: row.actor,
            message: row.message,
            detail: row.detail,
        }
    }
}

async fn page(
    service: &Service,
    task: Option<TaskId>,
    mut params: Params,
) -> Result<Json<Page<Event>>, Problem> {
    let after = params.parsed("after", "the id of an event", |text| text.parse::<i64>().ok());
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let filter = format!("events {task:?}");
    let from = decode(&filter, cursor.as_deref())?.parse().ok().or(after).unwrap_or(0);
    let rows = service.store.events_after(task.as_ref(), from, limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, &filter, |row| row.id.to_string()).map(Event::from)))
}

/// Events of all tasks and connections.
#[utoipa::path(get, path = "/events", tag = "events",
    params(
        ("after" = Option<i64>, Query, description = "only events with a larger id"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Event>)))]
async fn list_events(State(service): State<Service>, params: Params) -> Result<Json<Page<Event>>, Problem> {
    page(&service, None, params).await
}

/// Events of one task. By its id they can be read after it was deleted.
#[utoipa::path(get, path = "/tasks/{task}/events", tag = "events",
    params(
        ("task" = String, Path, description = "id or name"),
        ("after" = Option<i64>, Query, description = "only events with a larger id"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Event>)))]
async fn list_task_events(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<Page<Event>>, Problem> {
    let id = match service.store.task(&task).await? {
        Some(row) => row.id,
        None => {
            let id = TaskId(task);
            if service.store.events_after(Some(&id), 0, 1).await?.is_empty() {
                return Err(Problem::not_found(format!("there is no task {id}")));
            }
            id
        }
    };
    page(&service, Some(id), params).await
}

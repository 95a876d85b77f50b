//! `/events`: what happened, in one increasing order; a list, or a stream that goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response, sse};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::LAST_EVENT_ID;
use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode, ProblemError};
use super::request::{Params, Segments};
use super::time::rfc3339;
use crate::access::Caller;
use crate::error::Error;
use crate::model::TaskId;
use crate::service::Service;
use crate::service::events::STREAMS_MAX;
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
    /// Who did it: the name of a token, or `local` where there are none; null = the server itself.
    pub actor: Option<String>,
    /// Address from which the actor called; behind a proxy, the proxy's.
    pub peer: Option<String>,
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
            peer: row.peer,
            message: row.message,
            detail: row.detail,
        }
    }
}

/// Which events are asked for, and in which form.
enum Asked {
    Page(Params),
    /// As they come, from above this id; None = from the oldest that is kept.
    Stream(Option<After>),
}

#[derive(Debug, Clone, Copy)]
enum After {
    Id(i64),
    Latest,
}

impl After {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        text.parse().ok().filter(|id| *id >= 0).map(Self::Id)
    }
}

const AFTER: &str = "the id of an event, or latest";

impl Asked {
    fn read(mut params: Params, headers: &HeaderMap) -> Result<Self, Problem> {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut media = ranges.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
        if !media.any(|range| range.trim().eq_ignore_ascii_case("text/event-stream")) {
            return Ok(Self::Page(params));
        }
        let after = params.parsed("after", AFTER, After::parse);
        params.finish()?;
        // A client that comes back says how far it came; the path is as it was at first.
        let Some(last) = headers.get(LAST_EVENT_ID) else { return Ok(Self::Stream(after)) };
        match last.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|id| *id >= 0) {
            Some(id) => Ok(Self::Stream(Some(After::Id(id)))),
            None => Err(Problem::faults(
                ProblemCode::InvalidParameter,
                vec![ProblemError::header("last-event-id", "invalid", "must be the id of an event")],
            )),
        }
    }
}

async fn answer(
    service: Service,
    caller: Caller,
    task: Option<TaskId>,
    params: Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    match Asked::read(params, headers)? {
        Asked::Page(params) => Ok(page(&service, task, params).await?.into_response()),
        Asked::Stream(after) => stream(service, caller, task, after).await,
    }
}

async fn page(
    service: &Service,
    task: Option<TaskId>,
    mut params: Params,
) -> Result<Json<Page<Event>>, Problem> {
    let after = params.parsed("after", AFTER, After::parse);
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let filter = format!("events {task:?}");
    let from = match (decode(&filter, cursor.as_deref())?.parse().ok(), after) {
        (Some(id), _) | (None, Some(After::Id(id))) => id,
        (None, Some(After::Latest)) => service.store.newest_event().await?,
        (None, None) => 0,
    };
    let rows = service.store.events_after(task.as_ref(), from, limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, &filter, |row| row.id.to_string()).map(Event::from)))
}

/// Events that are read at once for a stream.
const STREAM_ROWS: u32 = 100;
/// A comment keeps the connection alive, and the caller's token is looked at again.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// A stream of events as it stands between two reads.
struct Tail {
    service: Service,
    caller: Caller,
    task: Option<TaskId>,
    after: i64,
    newest: watch::Receiver<i64>,
    ready: VecDeque<sse::Event>,
    _place: OwnedSemaphorePermit,
}

async fn stream(
    service: Service,
    caller: Caller,
    task: Option<TaskId>,
    after: Option<After>,
) -> Result<Response, Problem> {
    let (place, newest) = service.events.join().ok_or_else(|| {
        let detail = format!("{STREAMS_MAX} streams of events are open already");
        Problem::new(ProblemCode::TooManyStreams, detail).header(RETRY_AFTER, HeaderValue::from_static("15"))
    })?;
    let after = match after {
        Some(After::Id(id)) => id,
        Some(After::Latest) => service.store.newest_event().await?,
        // Nothing is missing for who asks for all that there is.
        None => service.store.events_trimmed_to().await?,
    };
    let tail = Tail { service, caller, task, after, newest, ready: VecDeque::new(), _place: place };
    let events = futures_util::stream::unfold(tail, |mut tail| async {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    let comments = sse::KeepAlive::new().interval(COMMENT_EVERY).text("nothing new");
    let mut response = sse::Sse::new(events).keep_alive(comments).into_response();
    // Proxies of one kind hold answers back unless they are told.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Tail {
    /// The next event, whenever it comes. None ends the stream: the process stops, or the token is no longer valid. A client
    /// that comes back with `Last-Event-ID` misses nothing.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.service.shutdown.is_cancelled()
                || !self.service.access.still_holds(&self.caller.name, self.caller.role)
            {
                return None;
            }
            self.newest.mark_unchanged();
            match self.read().await {
                Ok(()) if !self.ready.is_empty() => continue,
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "a stream of events ends: they cannot be read");
                    return None;
                }
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                () = tokio::time::sleep(COMMENT_EVERY) => {}
                () = self.service.shutdown.cancelled() => return None,
            }
        }
    }

    async fn read(&mut self) -> crate::error::Result<()> {
        let rows = self.service.store.events_after(self.task.as_ref(), self.after, STREAM_ROWS).await?;
        // After the rows: what was trimmed before they were read is seen here.
        let trimmed = self.service.store.events_trimmed_to().await?;
        if trimmed > self.after {
            let gap = serde_json::json!({"from": self.after + 1, "to": trimmed});
            self.ready
                .push_back(sse::Event::default().event("gap").id(trimmed.to_string()).data(gap.to_string()));
            self.after = trimmed;
        }
        for row in rows.into_iter().filter(|row| row.id > trimmed) {
            self.after = row.id;
            let id = row.id.to_string();
            let data = serde_json::to_string(&Event::from(row)).map_err(Error::internal)?;
            self.ready.push_back(sse::Event::default().id(id).data(data));
        }
        Ok(())
    }
}

/// Events of all tasks and connections, as a list; with `Accept: text/event-stream` as they come, from `after` on. A stream
/// sends `event: gap` where events were trimmed meanwhile.
#[utoipa::path(get, path = "/events", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "only events with a larger id; `latest` = only new ones"),
        ("last-event-id" = Option<i64>, Header, description = "of a stream: instead of `after`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "of a list"),
        ("cursor" = Option<String>, Query, description = "of a list"),
    ),
    responses((status = 200, content(
        (Page<Event> = "application/json"),
        (String = "text/event-stream"),
    ))))]
async fn list_events(
    State(service): State<Service>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(service, caller, None, params, &headers).await
}

/// Events of one task, as a list or as they come (see `/events`). By its id they can be read after it was deleted.
#[utoipa::path(get, path = "/tasks/{task}/events", tag = "events",
    params(
        ("task" = String, Path, description = "id or name"),
        ("after" = Option<String>, Query, description = "only events with a larger id; `latest` = only new ones"),
        ("last-event-id" = Option<i64>, Header, description = "of a stream: instead of `after`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "of a list"),
        ("cursor" = Option<String>, Query, description = "of a list"),
    ),
    responses((status = 200, content(
        (Page<Event> = "application/json"),
        (String = "text/event-stream"),
    ))))]
async fn list_task_events(
    State(service): State<Service>,
    caller: Caller,
    Segments(task): Segments<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
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
    answer(service, caller, Some(id), params, &headers).await
}

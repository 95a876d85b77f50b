//! `/tasks/{task}/logs`: what the server logged about a task.

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
use super::time::{parse_time, rfc3339};
use crate::observe::lines::LogLevel;
use crate::service::Service;
use crate::store::logs::{LogFilter, LogRow};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(list_logs))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LogLine {
    #[schema(format = DateTime)]
    pub at: String,
    pub level: LogLevel,
    pub message: String,
    /// The part of the server that wrote it.
    pub target: String,
    /// What belongs to it: table, offset, error, attempt, ...
    #[schema(value_type = Object)]
    pub fields: Value,
}

impl From<LogRow> for LogLine {
    fn from(row: LogRow) -> Self {
        Self {
            at: rfc3339(row.at),
            level: row.level,
            message: row.message,
            target: row.target,
            fields: row.fields,
        }
    }
}

/// The task's own log lines, from the newest.
///
/// The last 5,000 lines at info or above of the last 15 days, also of before a restart of the server; they are there within a
/// second. They hold no secrets and no values of rows.
#[utoipa::path(get, path = "/tasks/{task}/logs", tag = "events",
    params(
        ("task" = String, Path, description = "id or name"),
        ("level" = Option<LogLevel>, Query, description = "of this level and graver"),
        ("from" = Option<String>, Query, description = "RFC 3339; in"),
        ("to" = Option<String>, Query, description = "RFC 3339; out"),
        ("text" = Option<String>, Query, description = "part of the message or of a field, in any case"),
        ("order" = Option<String>, Query, description = "newest (default) or oldest first"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<LogLine>)))]
async fn list_logs(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<LogLine>>, Problem> {
    let filter = LogFilter {
        level: params.parsed("level", "one of error, warn, info", LogLevel::parse),
        from: params.parsed("from", "a time in RFC 3339, with `+` of a zone written as %2B", parse_time),
        to: params.parsed("to", "a time in RFC 3339, with `+` of a zone written as %2B", parse_time),
        text: params.text("text").filter(|text| !text.is_empty()),
        oldest_first: params
            .parsed("order", "newest or oldest", |text| match text {
                "newest" => Some(false),
                "oldest" => Some(true),
                _ => None,
            })
            .unwrap_or(false),
    };
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let row = service.task(&task).await?;
    let bound = format!("logs {} {filter:?}", row.id);
    let behind = decode(&bound, cursor.as_deref())?.parse().ok();
    let rows = service.store.log_lines(&row.id, &filter, behind, limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, &bound, |row| row.id.to_string()).map(LogLine::from)))
}

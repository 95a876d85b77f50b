//! `/tasks/{task}/throttle`, `/connections/{name}/throttle`: how fast rows may go, live.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::shape::check;
use crate::service::Service;
use crate::task::change::Effect;
use crate::task::spec::Throttle;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(get_task_throttle, put_task_throttle))
        .routes(routes!(get_connection_throttle, put_connection_throttle))
}

/// Names for what many need: rows per second of full and of incremental sync, as the classes of Alibaba Cloud's DTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// No limit.
    None,
    /// 200 rows per second.
    Micro,
    /// 2,000 rows per second.
    Small,
    /// 5,000 rows per second.
    Medium,
}

impl Preset {
    const ALL: [Self; 4] = [Self::None, Self::Micro, Self::Small, Self::Medium];

    fn rows(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Micro => Some(200),
            Self::Small => Some(2000),
            Self::Medium => Some(5000),
        }
    }

    /// What it means for something that has these parts of a throttle.
    fn throttle(self, parts: Parts) -> Throttle {
        Throttle {
            full_rows_per_second: self.rows().filter(|_| parts.full),
            incremental_rows_per_second: self.rows().filter(|_| parts.incremental),
            ..Throttle::default()
        }
    }
}

/// The kinds of sync that something takes part in.
#[derive(Debug, Clone, Copy)]
struct Parts {
    full: bool,
    incremental: bool,
}

impl Parts {
    const ALL: Self = Self { full: true, incremental: true };

    fn of(kind: &str) -> Self {
        Self { full: kind != "kafka", incremental: kind != "tidb" }
    }
}

/// null = no limit, 0 = stopped. A preset sets the rows per second; fields that are sent beside it win.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(
    dead_code,
    reason = "the document's schema of the body; its fields are read as JSON, for absent is not null"
)]
pub struct ThrottleInput {
    preset: Option<Preset>,
    full_rows_per_second: Option<u64>,
    full_bytes_per_second: Option<u64>,
    incremental_rows_per_second: Option<u64>,
    incremental_bytes_per_second: Option<u64>,
    connections: Option<u32>,
}

/// null = no limit, 0 = stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThrottleView {
    /// The preset that has these values; null = none.
    pub preset: Option<Preset>,
    pub full_rows_per_second: Option<u64>,
    /// Bytes of statements.
    pub full_bytes_per_second: Option<u64>,
    pub incremental_rows_per_second: Option<u64>,
    pub incremental_bytes_per_second: Option<u64>,
    /// Statements under way at one time.
    pub connections: Option<u32>,
}

impl ThrottleView {
    fn new(throttle: &Throttle, parts: Parts) -> Self {
        Self {
            preset: Preset::ALL.into_iter().find(|preset| preset.throttle(parts) == *throttle),
            full_rows_per_second: throttle.full_rows_per_second,
            full_bytes_per_second: throttle.full_bytes_per_second,
            incremental_rows_per_second: throttle.incremental_rows_per_second,
            incremental_bytes_per_second: throttle.incremental_bytes_per_second,
            connections: throttle.connections,
        }
    }
}

/// A throttle after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThrottleAnswer {
    #[serde(flatten)]
    pub throttle: ThrottleView,
    /// Empty when nothing changed.
    pub effects: Vec<Effect>,
}

fn read(mut body: Value, parts: Parts) -> Result<Throttle, Problem> {
    if let Some(fields) = body.as_object_mut() {
        // What reading gave may come back.
        fields.remove("effects");
    }
    check::<ThrottleInput>(body.clone()).and_then(super::shape::Checked::finish).map_err(Problem::invalid)?;
    let preset = body.as_object_mut().and_then(|fields| fields.remove("preset")).unwrap_or(Value::Null);
    let preset: Option<Preset> = serde_json::from_value(preset).map_err(Problem::internal)?;
    let base = preset.map_or(Throttle::default(), |preset| preset.throttle(parts));
    let mut throttle = serde_json::to_value(base).map_err(Problem::internal)?;
    if let (Some(throttle), Some(fields)) = (throttle.as_object_mut(), body.as_object()) {
        throttle.extend(fields.clone());
    }
    serde_json::from_value(throttle).map_err(Problem::internal)
}

/// The throttle of a task; a part of its spec, whose version is its ETag.
#[utoipa::path(get, path = "/tasks/{task}/throttle", tag = "throttle",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = ThrottleView, headers(("etag" = String)))))]
async fn get_task_throttle(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    Ok((etag(row.spec_version), Json(ThrottleView::new(&row.spec.throttle, Parts::ALL))).into_response())
}

/// Sets the throttle of a task; a run in progress goes at the new rate at once.
#[utoipa::path(put, path = "/tasks/{task}/throttle", tag = "throttle",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to replace"),
    ),
    request_body = ThrottleInput,
    responses((status = 200, body = ThrottleAnswer, headers(("etag" = String)))))]
async fn put_task_throttle(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let row = service.task(&task).await?;
    let throttle = read(body, Parts::ALL)?;
    let changed = service.put_task_throttle(row, throttle, if_match(&headers)?, dry_run).await?;
    let throttle = ThrottleView::new(&changed.task.spec.throttle, Parts::ALL);
    let answer = ThrottleAnswer { throttle, effects: changed.effects };
    Ok((etag(changed.task.spec_version), Json(answer)).into_response())
}

/// The throttle of a connection, which all its tasks share.
#[utoipa::path(get, path = "/connections/{name}/throttle", tag = "throttle",
    params(("name" = String, Path)),
    responses((status = 200, body = ThrottleView, headers(("etag" = String)))))]
async fn get_connection_throttle(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.connection(&name).await?;
    let view = ThrottleView::new(&row.throttle, Parts::of(row.settings.kind()));
    Ok((etag(row.version), Json(view)).into_response())
}

/// Sets the throttle of a connection: all tasks that use it go at the new rate together, at once.
#[utoipa::path(put, path = "/connections/{name}/throttle", tag = "throttle",
    params(
        ("name" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to replace"),
    ),
    request_body = ThrottleInput,
    responses((status = 200, body = ThrottleAnswer, headers(("etag" = String)))))]
async fn put_connection_throttle(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let before = service.connection(&name).await?;
    let parts = Parts::of(before.settings.kind());
    let throttle = read(body, parts)?;
    let users = service.store.connection_users(&name).await?;
    let row = service.put_connection_throttle(&name, throttle, if_match(&headers)?, dry_run).await?;
    let effects = match row.throttle == before.throttle {
        true => Vec::new(),
        false => vec![Effect::now(
            "",
            match users.is_empty() {
                true => "no task uses the connection".to_owned(),
                false => format!("in force now for {}", users.join(", ")),
            },
        )],
    };
    let answer = ThrottleAnswer { throttle: ThrottleView::new(&row.throttle, parts), effects };
    Ok((etag(row.version), Json(answer)).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preset_sets_rows_and_fields_beside_it_win() {
        let throttle = |body: Value| serde_json::to_value(read(body, Parts::ALL).unwrap()).unwrap();
        let expected = |full: Value, incremental: Value, connections: Value| {
            json!({"full_rows_per_second": full, "full_bytes_per_second": null, "incremental_rows_per_second": incremental,
                "incremental_bytes_per_second": null, "connections": connections})
        };
        assert_eq!(throttle(json!({"preset": "small"})), expected(json!(2000), json!(2000), Value::Null));
        let body = json!({"preset": "micro", "full_rows_per_second": null, "connections": 3});
        assert_eq!(throttle(body), expected(Value::Null, json!(200), json!(3)));
        assert_eq!(throttle(json!({})), expected(Value::Null, Value::Null, Value::Null));
        let medium = Preset::Medium.throttle(Parts::of("tidb"));
        assert_eq!((medium.full_rows_per_second, medium.incremental_rows_per_second), (Some(5000), None));
        assert_eq!(ThrottleView::new(&medium, Parts::of("tidb")).preset, Some(Preset::Medium));
        assert_eq!(ThrottleView::new(&medium, Parts::ALL).preset, None);
    }
}

//! `/alert-rules` and `/alerts`: what is watched, and what was found.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::connections::{SecretView, is_name};
use super::effects::Effects;
use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode, ProblemError};
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::shape::check;
use super::time::rfc3339;
use crate::model::TaskId;
use crate::observe::rule::{AlertKind, AlertRuleInput};
use crate::service::Service;
use crate::store::alerts::{AlertEvent, AlertRow, AlertState, DeliveryRow, DeliveryState, RuleRow};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list_rules))
        .routes(routes!(get_rule, put_rule, delete_rule))
        .routes(routes!(test_rule))
        .routes(routes!(list_alerts))
        .routes(routes!(get_alert))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    pub url: String,
    pub secret: SecretView,
}

/// An alert rule as it is read.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertRule {
    pub name: String,
    pub kind: AlertKind,
    pub labels: BTreeMap<String, String>,
    pub threshold_ms: Option<u64>,
    pub threshold_count: Option<u64>,
    pub for_ms: u64,
    pub repeat_ms: Option<u64>,
    pub recovered: bool,
    pub enabled: bool,
    pub webhook: Option<Webhook>,
    pub version: i64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<RuleRow> for AlertRule {
    fn from(row: RuleRow) -> Self {
        let RuleRow { name, rule, secret, version, created_at, updated_at } = row;
        Self {
            name,
            kind: rule.kind,
            labels: rule.labels,
            threshold_ms: rule.threshold_ms,
            threshold_count: rule.threshold_count,
            for_ms: rule.for_ms,
            repeat_ms: rule.repeat_ms,
            recovered: rule.recovered,
            enabled: rule.enabled,
            webhook: rule.url.map(|url| Webhook { url, secret: SecretView { set: secret.is_some() } }),
            version,
            created_at: rfc3339(created_at),
            updated_at: rfc3339(updated_at),
        }
    }
}

/// What was or is to be told to a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Also the header `tidegate-delivery`.
    pub id: i64,
    pub event: AlertEvent,
    pub state: DeliveryState,
    pub attempts: i64,
    /// Why the last try came to nothing.
    pub error: Option<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// While it is pending.
    #[schema(format = DateTime)]
    pub next_try_at: Option<String>,
    #[schema(format = DateTime)]
    pub delivered_at: Option<String>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            event: row.event,
            state: row.state,
            attempts: row.attempts,
            error: row.error,
            created_at: rfc3339(row.created_at),
            next_try_at: (row.state == DeliveryState::Pending).then(|| rfc3339(row.next_at)),
            delivered_at: row.delivered_at.map(rfc3339),
        }
    }
}

/// A rule with the last that was told by it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertRuleAnswer {
    #[serde(flatten)]
    pub rule: AlertRule,
    /// The newest 20, tests among them.
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Alert {
    pub id: i64,
    pub rule: String,
    pub kind: AlertKind,
    pub task_id: String,
    /// As it was called then.
    pub task_name: String,
    pub state: AlertState,
    /// Since when the task breaks the rule.
    #[schema(format = DateTime)]
    pub since: String,
    #[schema(format = DateTime)]
    pub resolved_at: Option<String>,
    /// When it was raised, or told again.
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub unit: Option<&'static str>,
    pub detail: String,
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        Self {
            id: row.id,
            rule: row.rule,
            kind: row.kind,
            task_id: row.task_id.0,
            task_name: row.task_name,
            state: row.state,
            since: rfc3339(row.since),
            resolved_at: row.resolved_at.map(rfc3339),
            value: row.breach.value,
            threshold: row.breach.threshold,
            unit: row.kind.unit(),
            detail: row.breach.detail,
        }
    }
}

/// An alert with what was told of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertAnswer {
    #[serde(flatten)]
    pub alert: Alert,
    pub deliveries: Vec<Delivery>,
}

async fn answer(service: &Service, row: RuleRow) -> Result<AlertRuleAnswer, Problem> {
    let deliveries = service.store.deliveries_of_rule(&row.name).await?;
    Ok(AlertRuleAnswer { rule: row.into(), deliveries: deliveries.into_iter().map(Delivery::from).collect() })
}

/// Lists alert rules by name.
#[utoipa::path(get, path = "/alert-rules", tag = "alerts",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 500), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<AlertRule>)))]
async fn list_rules(
    State(service): State<Service>,
    mut params: Params,
) -> Result<Json<Page<AlertRule>>, Problem> {
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let after = decode("alert-rules", cursor.as_deref())?;
    let rows = service.store.alert_rules_after(&after, limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, "alert-rules", |row| row.name.clone()).map(AlertRule::from)))
}

/// An alert rule, with the last that was told by it.
#[utoipa::path(get, path = "/alert-rules/{name}", tag = "alerts",
    params(("name" = String, Path)),
    responses((status = 200, body = AlertRuleAnswer, headers(("etag" = String)))))]
async fn get_rule(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.alert_rule(&name).await?;
    Ok((etag(row.version), Json(answer(&service, row).await?)).into_response())
}

/// What reads carry beside what can be written: taken back without a word.
const READ_ONLY: [&str; 5] = ["name", "version", "created_at", "updated_at", "deliveries"];

/// Creates or replaces an alert rule. It is judged every ten seconds for every task in its scope.
///
/// A webhook gets a POST with `{"event": "firing" | "repeated" | "resolved" | "test", "at", "text", "alert": {...}}` and the headers
/// `tidegate-delivery` (the same in every try), `tidegate-timestamp` (seconds since the epoch) and, with a secret,
/// `tidegate-signature: sha256=<HMAC-SHA256 of "<timestamp>.<body>" in hexadecimal>`. Any 2xx within ten seconds takes it; else it
/// is sent again with growing pauses for a day, in order.
#[utoipa::path(put, path = "/alert-rules/{name}", tag = "alerts",
    params(
        ("name" = String, Path, pattern = "^[a-z0-9-]{1,63}$"),
        ("dry_run" = Option<bool>, Query, description = "true judges the rule and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to replace"),
    ),
    request_body = AlertRuleInput,
    responses((status = 200, body = AlertRuleAnswer), (status = 201, body = AlertRuleAnswer)))]
async fn put_rule(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    if !is_name(&name) {
        let error = ProblemError::parameter("name", "invalid", "must match ^[a-z0-9-]{1,63}$");
        return Err(Problem::faults(ProblemCode::InvalidParameter, vec![error]));
    }
    if let Value::Object(fields) = &mut body {
        for field in READ_ONLY {
            fields.remove(field);
        }
    }
    let input: AlertRuleInput =
        check(body).and_then(super::shape::Checked::finish).map_err(Problem::invalid)?;
    let kept = service.put_alert_rule(&name, input, if_match(&headers)?, dry_run).await?;
    let status = if kept.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, etag(kept.row.version), Json(answer(&service, kept.row).await?)).into_response())
}

/// Deletes a rule; its alerts are resolved without a word.
#[utoipa::path(delete, path = "/alert-rules/{name}", tag = "alerts",
    params(
        ("name" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "true tells what would be gone"),
        ("if-match" = Option<String>, Header, description = "ETag of the rule's version"),
    ),
    responses((status = 204), (status = 200, body = Effects, description = "with dry_run")))]
async fn delete_rule(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    service.delete_alert_rule(&name, if_match(&headers)?, dry_run).await?;
    Ok(Effects::of_delete(dry_run, || format!("alert rule {name}, and what it has still to tell")))
}

/// Sends a test message to the rule's webhook; `deliveries` of the rule tells what became of it.
#[utoipa::path(post, path = "/alert-rules/{name}/test", tag = "alerts",
    params(("name" = String, Path)),
    responses((status = 202, body = AlertRuleAnswer)))]
async fn test_rule(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<(StatusCode, Json<AlertRuleAnswer>), Problem> {
    params.finish()?;
    service.test_alert_rule(&name).await?;
    let row = service.alert_rule(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(answer(&service, row).await?)))
}

/// Lists alerts, from the newest; those that are over stay for 15 days.
#[utoipa::path(get, path = "/alerts", tag = "alerts",
    params(
        ("state" = Option<AlertState>, Query),
        ("rule" = Option<String>, Query, description = "name of a rule"),
        ("task" = Option<String>, Query, description = "id or name; the id also of a task that is gone"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Alert>)))]
async fn list_alerts(
    State(service): State<Service>,
    mut params: Params,
) -> Result<Json<Page<Alert>>, Problem> {
    let state = params.parsed("state", "firing or resolved", AlertState::parse);
    let (rule, task) = (params.text("rule"), params.text("task"));
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let bound = format!("alerts {state:?} {rule:?} {task:?}");
    let before = decode(&bound, cursor.as_deref())?.parse().unwrap_or(i64::MAX);
    let task = match task {
        None => None,
        Some(task) => Some(service.store.task(&task).await?.map_or(TaskId(task), |row| row.id)),
    };
    let rows = service.store.alerts_before(before, state, rule.as_deref(), task.as_ref(), limit + 1).await?;
    Ok(Json(Page::cut(rows, limit, &bound, |row| row.id.to_string()).map(Alert::from)))
}

/// One alert, and what was told of it to the webhook.
#[utoipa::path(get, path = "/alerts/{id}", tag = "alerts",
    params(("id" = i64, Path)),
    responses((status = 200, body = AlertAnswer)))]
async fn get_alert(
    State(service): State<Service>,
    Segments(id): Segments<String>,
    params: Params,
) -> Result<Json<AlertAnswer>, Problem> {
    params.finish()?;
    let found = match id.parse() {
        Ok(id) => service.store.alert(id).await?,
        Err(_) => None,
    };
    let row = found.ok_or_else(|| Problem::not_found(format!("there is no alert {id}")))?;
    let deliveries = service.store.deliveries_of(row.id).await?;
    Ok(Json(AlertAnswer {
        alert: row.into(),
        deliveries: deliveries.into_iter().map(Delivery::from).collect(),
    }))
}

//! `/system`, the document, health, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use chrono::Utc;
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{BODY_BYTES_MAX, IMPORT_BYTES_MAX, PAGE_MAX, Params, WAIT_MS_MAX};
use super::time::rfc3339;
use crate::error::Error;
use crate::observe::measure::{full_is_through, lag_ms, retention_left_ms};
use crate::service::Service;
use crate::store::now_ms;
use crate::store::tasks::TaskFilter;
use crate::task::status::Status;
use crate::telemetry::{self, TaskFigures};

/// A copy of the store travels in parts of this size.
const PART_BYTES: usize = 64 * 1024;

/// Under `/api/v1`.
pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(get_system))
        .routes(routes!(get_document))
        .routes(routes!(post_backup))
}

/// At the root.
pub fn root_routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(get_healthz)).routes(routes!(get_readyz)).routes(routes!(get_metrics))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Limits {
    pub page_limit_max: u32,
    pub wait_ms_max: u64,
    pub body_bytes_max: usize,
    /// Of `/tasks/import`.
    pub import_bytes_max: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct System {
    pub version: &'static str,
    #[schema(format = DateTime)]
    pub started_at: String,
    pub uptime_ms: u64,
    /// Number of tasks by status.
    pub tasks: BTreeMap<String, i64>,
    pub limits: Limits,
}

/// This process: version, uptime, limits.
#[utoipa::path(get, path = "/system", tag = "system", responses((status = 200, body = System)))]
async fn get_system(State(service): State<Service>, params: Params) -> Result<Json<System>, Problem> {
    params.finish()?;
    let uptime_ms = u64::try_from(service.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut tasks: BTreeMap<String, i64> =
        Status::ALL.iter().map(|status| (status.as_str().to_owned(), 0)).collect();
    for (status, count) in service.store.task_counts().await? {
        tasks.insert(status.as_str().to_owned(), count);
    }
    Ok(Json(System {
        version: env!("CARGO_PKG_VERSION"),
        started_at: rfc3339(now_ms().saturating_sub_unsigned(uptime_ms)),
        uptime_ms,
        tasks,
        limits: Limits {
            page_limit_max: PAGE_MAX,
            wait_ms_max: WAIT_MS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            import_bytes_max: IMPORT_BYTES_MAX,
        },
    }))
}

/// A consistent copy of the store as of one moment: connections (their secrets sealed), tasks, checkpoints, events.
///
/// The server goes on meanwhile. `tidegate restore` puts the copy back; the key file is not in it and is kept apart.
#[utoipa::path(post, path = "/system/backup", tag = "system", extensions(("x-role" = json!("admin"))),
    responses((status = 200, body = String, content_type = "application/vnd.sqlite3")))]
async fn post_backup(State(service): State<Service>, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let copy = service.store.copy().await?;
    let bytes = copy.metadata().map_err(Error::internal)?.len();
    service.store.event(None, "backup", None, "the store was copied", json!({"bytes": bytes})).await?;
    let name = format!("tidegate-{}.db", Utc::now().format("%Y%m%dT%H%M%SZ"));
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let parts = stream::try_unfold(tokio::fs::File::from_std(copy), |mut file| async move {
        let mut part = BytesMut::with_capacity(PART_BYTES);
        let read = file.read_buf(&mut part).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (part.freeze(), file)))
    });
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", extensions(("x-role" = json!("public"))), responses((status = 200, body = serde_json::Value)))]
async fn get_document() -> Json<&'static serde_json::Value> {
    std::future::ready(Json(super::document())).await
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// `ok`
    pub status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "system", extensions(("x-role" = json!("public"))), responses((status = 200, body = HealthAnswer)))]
async fn get_healthz() -> Json<HealthAnswer> {
    std::future::ready(Json(HealthAnswer { status: "ok" })).await
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// The store answers.
    pub store: bool,
    /// The supervisor of tasks runs.
    pub supervisor: bool,
    /// The process was asked to end.
    pub stopping: bool,
}

/// The process can do its work. Says nothing about tasks or endpoints.
#[utoipa::path(get, path = "/readyz", tag = "system", extensions(("x-role" = json!("public"))),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn get_readyz(State(service): State<Service>) -> Response {
    let store = service.store.is_open().await;
    let supervisor = service.supervisor_alive.load(Ordering::Relaxed);
    let stopping = service.shutdown.is_cancelled();
    let ready = store && supervisor && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(Readiness { ready, store, supervisor, stopping })).into_response();
    // The answer is the report itself, not a problem.
    response.extensions_mut().insert(super::frame::NotAProblem);
    response
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
async fn get_metrics(State(service): State<Service>) -> Result<Response, Problem> {
    let mut figures = Vec::new();
    let mut after = String::new();
    loop {
        let rows = service.store.tasks_page(&after, &TaskFilter::default(), 500).await?;
        let Some(last) = rows.last() else { break };
        after = last.id.0.clone();
        let ids: Vec<_> = rows.iter().map(|row| &row.id).collect();
        let checkpoints = service.store.checkpoint_views(&ids).await?;
        let mut lossy = service.store.lossy_totals(&ids).await?;
        let mut aside = service.store.table_states(&ids).await?;
        let letters = service.store.letter_counts(&ids).await?;
        for row in &rows {
            let seen = service.registry.seen(&row.id);
            let progress = seen.as_ref().map(|seen| &seen.progress);
            let checkpoint = checkpoints.get(&row.id);
            let lag_ms = lag_ms(row, progress.map(|progress| &**progress), checkpoint);
            figures.push(TaskFigures {
                name: row.name().to_owned(),
                status: row.status,
                lag_ms,
                checkpoint_age_ms: checkpoint.map(|checkpoint| (now_ms() - checkpoint.updated_at).max(0)),
                retention_left_ms: progress.and_then(|progress| retention_left_ms(progress, now_ms())),
                retrying: row.retry.is_some(),
                dead_letters: letters.get(&row.id).map_or(0, |(open, _)| *open),
                full_is_through: row.spec.phases.full.then(|| full_is_through(row)),
                aside: aside.remove(&row.id).unwrap_or_default(),
                progress: progress.cloned(),
                lossy: lossy.remove(&row.id).unwrap_or_default(),
            });
        }
    }
    let firing = service.store.firing_counts().await?;
    let text = telemetry::render(&figures, &firing, service.started.elapsed());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

//! `/tasks/{task}/watermark`, `/diagnosis` and `/messages`: is it there, why is it not, and what is in the way.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, ProblemCode};
use super::request::{Params, Segments};
use super::task_view::WatermarkView;
use super::time::{of_tso, rfc3339};
use crate::access::{Caller, Role};
use crate::binlog::{Description, Detail, Message, describe};
use crate::model::{Offset, Tso};
use crate::observe::diagnosis::{Bottleneck, Evidence};
use crate::service::Service;
use crate::service::watch::AtLeast;
use crate::store::now_ms;
use crate::task::status::Status;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(get_watermark))
        .routes(routes!(get_diagnosis))
        .routes(routes!(get_message))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WatermarkAnswer {
    /// Source time up to which the target is complete; null = not known yet.
    pub watermark: Option<WatermarkView>,
    /// What was asked for, as a TSO of the source.
    pub at_least: Option<String>,
    /// Everything up to `at_least` is in the target; null when nothing was asked for.
    pub reached: Option<bool>,
    /// Tables that do not follow (stopped, paused, skipped, being copied again): the watermark does not speak for them.
    pub tables_aside: usize,
    pub lag_ms: Option<i64>,
    pub task_status: Status,
}

/// Is everything up to here in the target?
///
/// `at_least=now` asks TiDB for its time, then waits (`wait_ms`) until everything that was committed before is in the target: after
/// a write to the source, this is how to know that it can be read at the target.
#[utoipa::path(get, path = "/tasks/{task}/watermark", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("at_least" = Option<String>, Query, description = "`now`, or a TSO of the source"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until it is reached"),
    ),
    responses((status = 200, body = WatermarkAnswer)))]
async fn get_watermark(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<WatermarkAnswer>, Problem> {
    let at_least = params.parsed("at_least", "`now` or a TSO", |text| match text {
        "now" => Some(AtLeast::Now),
        tso => tso.parse().ok().filter(|tso| *tso > 0 && *tso < 1 << 63).map(|tso| AtLeast::Tso(Tso(tso))),
    });
    let wait = params.wait();
    params.finish()?;
    let found = service.await_watermark(&task, at_least, wait).await?;
    Ok(Json(WatermarkAnswer {
        watermark: found.watermark.map(|(ms, tso)| WatermarkView { tso: tso.to_string(), time: rfc3339(ms) }),
        at_least: found.at_least.map(|tso| tso.to_string()),
        reached: found.reached,
        tables_aside: found.tables_aside,
        lag_ms: found.lag_ms,
        task_status: found.row.status,
    }))
}

/// When the task will have caught up with its source.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatchUp {
    /// 0 = it has; null = it cannot be told.
    pub eta_ms: Option<u64>,
    #[schema(format = DateTime)]
    pub estimated_end: Option<String>,
    /// What the estimate rests on, or why there is none.
    pub detail: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DiagnosisAnswer {
    /// What holds the task back; null = nothing, or it does not run.
    pub bottleneck: Option<Bottleneck>,
    /// In words, with the cure where there is one.
    pub summary: String,
    /// What it was told from: figures of the last ten seconds, errors.
    pub evidence: Vec<Evidence>,
    pub catch_up: CatchUp,
}

/// Why a task lags: what it waited for in the last ten seconds, and when it will have caught up.
#[utoipa::path(get, path = "/tasks/{task}/diagnosis", tag = "progress",
    params(("task" = String, Path, description = "id or name")),
    responses((status = 200, body = DiagnosisAnswer)))]
async fn get_diagnosis(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    params: Params,
) -> Result<Json<DiagnosisAnswer>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let found = service.diagnosis(&row).await?;
    let end =
        found.catch_up_ms.and_then(|eta| i64::try_from(eta).ok()).map(|eta| now_ms().saturating_add(eta));
    Ok(Json(DiagnosisAnswer {
        bottleneck: found.bottleneck,
        summary: found.summary,
        evidence: found.evidence,
        catch_up: CatchUp {
            eta_ms: found.catch_up_ms,
            estimated_end: end.map(rfc3339),
            detail: found.catch_up,
        },
    }))
}

/// A message of the topic in words.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAnswer {
    pub topic: String,
    /// null = the topic ends before the offset.
    pub offset: Option<String>,
    pub bytes: Option<usize>,
    pub commit_tso: Option<String>,
    #[schema(format = DateTime)]
    pub commit_time: Option<String>,
    /// In one text, as `tidegate decode` prints it.
    pub text: Option<String>,
    /// Kind, tables, columns, counts; with `values` rows.
    #[schema(value_type = Option<Object>)]
    pub content: Option<Description>,
    /// Why it is not a message of Drainer.
    pub malformed: Option<String>,
    /// The offset to go on with.
    pub next_offset: Option<String>,
}

/// Rows shown with their values.
const ROWS: usize = 100;

/// A message of the task's topic in words: kind, commit time, tables, columns, counts; values of rows only with `values=true`.
#[utoipa::path(get, path = "/tasks/{task}/messages", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("offset" = Option<String>, Query, description = "the message there or the next behind it; default: the one that the task takes next"),
        ("values" = Option<bool>, Query, description = "true shows the first 100 rows with their values; needs the role admin"),
    ),
    responses((status = 200, body = MessageAnswer)))]
async fn get_message(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<MessageAnswer>, Problem> {
    let offset = params.parsed("offset", "an offset of the topic", |text| {
        text.parse().ok().filter(|offset| *offset >= 0).map(Offset)
    });
    let values = params.flag("values", false);
    params.finish()?;
    if values && caller.role < Role::Admin {
        let detail =
            format!("values of rows need the role admin; token \"{}\" is a {}'s", caller.name, caller.role);
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let row = service.task(&task).await?;
    let (_, found) = service.topic_message(&row, offset).await?;
    let topic = row.spec.source.topic.unwrap_or_default();
    let Some(raw) = found else {
        return Ok(Json(MessageAnswer {
            topic,
            offset: None,
            bytes: None,
            commit_tso: None,
            commit_time: None,
            text: None,
            content: None,
            malformed: None,
            next_offset: None,
        }));
    };
    let detail = if values { Detail::Values(ROWS) } else { Detail::Shape };
    let described = Message::parse(&raw.payload).and_then(|message| {
        message.validate()?;
        describe(&message, detail)
    });
    let (content, malformed) = match described {
        Ok(content) => (Some(content), None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    let commit = content.as_ref().map(|content| content.commit_ts.0.cast_signed());
    Ok(Json(MessageAnswer {
        topic,
        offset: Some(raw.offset.to_string()),
        bytes: Some(raw.payload.len()),
        commit_tso: commit.map(|tso| tso.to_string()),
        commit_time: commit.and_then(of_tso),
        text: content.as_ref().map(ToString::to_string),
        content,
        malformed,
        next_offset: Some((raw.offset.0 + 1).to_string()),
    }))
}

//! `/tasks/{task}/checkpoint`: where incremental sync stands, and moving it by hand.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::task_view::CheckpointView;
use super::time::{of_tso, tso};
use crate::model::{Offset, Position, Tso};
use crate::observe::measure::{snapshot_kept_until, stands_since};
use crate::service::checkpoint::{CheckpointMoved, To};
use crate::service::{Refusal, Service};
use crate::store::tasks::TaskRow;
use crate::task::change::{Effect, EffectKind};
use crate::task::fault::Fault;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(get_checkpoint, move_checkpoint))
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
    let checkpoint = view(&service, &row).await?;
    Ok(Json(CheckpointAnswer { checkpoint }))
}

async fn view(service: &Service, row: &TaskRow) -> Result<Option<CheckpointView>, Problem> {
    let checkpoints = service.store.checkpoint_views(&[&row.id]).await?;
    let seen = service.registry.seen(&row.id);
    let progress = seen.as_ref().map(|seen| &*seen.progress);
    Ok(checkpoints.get(&row.id).map(|checkpoint| {
        CheckpointView::new(checkpoint, snapshot_kept_until(row, progress, checkpoint, stands_since(row)))
    }))
}

/// Where to move: exactly one of the three.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointMove {
    /// The next message to apply.
    #[serde(default)]
    pub offset: Option<String>,
    /// Everything committed up to here stays or is taken as applied.
    #[serde(default)]
    pub tso: Option<String>,
    /// The same by the clock, RFC 3339.
    #[serde(default)]
    pub time: Option<String>,
}

impl CheckpointMove {
    fn to(&self) -> Result<To, Vec<Fault>> {
        let wrong = |pointer: &str, detail: &str| vec![Fault::new(pointer, "invalid", detail)];
        match (&self.offset, &self.tso, &self.time) {
            (Some(text), None, None) => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(To::Offset(Offset(offset))),
                _ => Err(wrong("/offset", "must be a decimal number, as a string")),
            },
            (None, Some(text), None) => match text.parse::<u64>() {
                Ok(tso) if i64::try_from(tso).is_ok() => Ok(To::After(Tso(tso))),
                _ => Err(wrong("/tso", "must be a TSO in decimal, as a string")),
            },
            (None, None, Some(text)) => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(time) => Ok(To::After(Tso::from_physical_ms(time.timestamp_millis()))),
                Err(_) => Err(wrong("/time", "must be a time like 2024-05-01T00:00:00Z")),
            },
            _ => Err(wrong("", "name exactly one of offset, tso and time")),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Place {
    pub next_offset: String,
    /// Commit TSO of the newest transaction before `next_offset`.
    pub commit_tso: Option<String>,
    #[schema(format = DateTime)]
    pub commit_time: Option<String>,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        let commit_ts = position.commit_ts.0.cast_signed();
        Self {
            next_offset: position.next_offset.to_string(),
            commit_tso: tso(commit_ts),
            commit_time: of_tso(commit_ts),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It stands there already.
    None,
    Forward,
    Back,
}

/// Messages that a move leaves out or applies again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stretch {
    /// Offsets; a topic may have holes.
    pub messages: i64,
    /// Source time between the two places; null when one of them has none.
    pub duration_ms: Option<i64>,
}

/// What the topic holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Range {
    pub start_offset: String,
    /// Behind the newest message.
    pub end_offset: String,
}

/// A move of the checkpoint and what it means.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointMoveAnswer {
    pub checkpoint: Option<CheckpointView>,
    pub direction: Direction,
    pub from: Place,
    pub to: Place,
    /// Never applied: going forward.
    pub skipped: Option<Stretch>,
    /// Applied once more: going back.
    pub replayed: Option<Stretch>,
    pub range: Range,
    /// Numbers of DDL that is applied and whose rows are applied again.
    pub ddl: Vec<i64>,
    /// Empty when it stands there already.
    pub effects: Vec<Effect>,
}

/// Moves the checkpoint of a paused or failed task to an offset, a TSO or a time. Forward leaves messages out for good, back applies
/// them once more; resume goes on from there.
#[utoipa::path(put, path = "/tasks/{task}/checkpoint", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and moves nothing"),
    ),
    request_body = CheckpointMove,
    responses((status = 200, body = CheckpointMoveAnswer)))]
async fn move_checkpoint(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Json<CheckpointMoveAnswer>, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let wanted =
        check::<CheckpointMove>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let to = wanted.to().map_err(Problem::invalid)?;
    let moved = service.move_checkpoint(&task, to, dry_run).await.map_err(|refusal| match refusal {
        Refusal::OutsideRetention(fault) if wanted.time.is_some() => {
            Refusal::OutsideRetention(Fault { pointer: "/time".to_owned(), ..fault })
        }
        other => other,
    })?;
    let checkpoint = view(&service, &moved.task).await?;
    Ok(Json(answer(&moved, checkpoint)))
}

fn answer(moved: &CheckpointMoved, checkpoint: Option<CheckpointView>) -> CheckpointMoveAnswer {
    let (from, to) = (moved.from, moved.to);
    let by = to.next_offset.0 - from.next_offset.0;
    let known = from.commit_ts > Tso(0) && to.commit_ts > Tso(0);
    let stretch = || {
        Some(Stretch {
            messages: by.abs(),
            duration_ms: known.then(|| (to.commit_ts.physical_ms() - from.commit_ts.physical_ms()).abs()),
        })
    };
    let (direction, detail) = match by {
        0 => (Direction::None, String::new()),
        1.. => (Direction::Forward, format!("{by} messages are never applied")),
        _ => (Direction::Back, format!("{} messages are applied once more", -by)),
    };
    let effects = match direction {
        Direction::None => Vec::new(),
        Direction::Forward | Direction::Back => {
            vec![Effect { field: "/checkpoint".to_owned(), effect: EffectKind::NextStart, detail }]
        }
    };
    CheckpointMoveAnswer {
        checkpoint,
        direction,
        from: from.into(),
        to: to.into(),
        skipped: if direction == Direction::Forward { stretch() } else { None },
        replayed: if direction == Direction::Back { stretch() } else { None },
        range: Range { start_offset: moved.range.start.to_string(), end_offset: moved.range.end.to_string() },
        ddl: moved.passed_ddl.clone(),
        effects,
    }
}

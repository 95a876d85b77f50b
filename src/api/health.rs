//! How a task is: its health, and the conditions behind it.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339;
use crate::adb::throttle::Holder;
use crate::engine::progress::{Phase, Progress};
use crate::engine::registry::Window;
use crate::error::ErrorKind;
use crate::observe::measure::{retention_left_ms, retry};
use crate::observe::rule::words;
use crate::store::tasks::TaskRow;
use crate::store::views::StoppedDdl;
use crate::store::{LossyTotal, TableState, now_ms};
use crate::task::standing::Standing;
use crate::task::status::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Ok,
    /// It works, not as it should: retrying, or a table is stopped.
    Degraded,
    /// It waits for something outside: a locked target.
    Blocked,
    Failed,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "ok" => Some(Self::Ok),
            "degraded" => Some(Self::Degraded),
            "blocked" => Some(Self::Blocked),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Types of conditions.
pub const CONDITIONS: [&str; 12] = [
    "retrying",
    "target_locked",
    "table_stopped",
    "table_retrying",
    "dead_letters",
    "ddl_stopped",
    "schema_drift",
    "retention_short",
    "source_idle_unknown",
    "late_transactions",
    "lossy_values",
    "throttled",
];

/// Something that keeps a task from being well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Condition {
    /// retrying, target_locked, table_stopped, table_retrying, dead_letters, ddl_stopped, schema_drift, retention_short,
    /// source_idle_unknown, late_transactions, lossy_values, throttled; more may come.
    pub r#type: &'static str,
    #[schema(format = DateTime)]
    pub since: Option<String>,
    pub object: Option<String>,
    pub attempt: Option<u32>,
    #[schema(format = DateTime)]
    pub retry_at: Option<String>,
    pub detail: String,
    pub hint: Option<String>,
}

/// Says that values were changed to fit the target. Known, asked for, and yet not to be forgotten.
pub fn lossy_condition(totals: &[LossyTotal]) -> Option<Condition> {
    if totals.is_empty() {
        return None;
    }
    let parts: Vec<_> = totals
        .iter()
        .map(|total| {
            let columns = if total.columns == 1 { "column" } else { "columns" };
            format!("{} by {} in {} {columns}", total.count, total.rule.as_str(), total.columns)
        })
        .collect();
    Some(Condition {
        r#type: "lossy_values",
        since: None,
        object: None,
        attempt: None,
        retry_at: None,
        detail: format!("values that the target does not have as the source has them: {}", parts.join(", ")),
        hint: Some(
            "the tables of the task tell the columns; the spec's lossy policies tell what else can be done"
                .to_owned(),
        ),
    })
}

/// Says that row changes wait for a person.
pub fn letters_condition(open: i64, since: i64) -> Condition {
    let rows = if open == 1 { "row change" } else { "row changes" };
    Condition {
        r#type: "dead_letters",
        since: Some(rfc3339(since)),
        object: None,
        attempt: None,
        retry_at: None,
        detail: format!("{open} {rows} that the target refused are set aside"),
        hint: Some("see /dead-letters of the task: cure the cause, then retry or discard them".to_owned()),
    }
}

/// A DDL that the target refused, or that nobody may carry out: the stream waits at it.
pub fn ddl_condition(row: &TaskRow, ddl: &StoppedDdl) -> Option<Condition> {
    // Once the task goes on, the DDL is tried again and no longer in the way.
    if row.status != Status::Failed && row.retry.is_none() {
        return None;
    }
    let error = ddl.error.as_ref();
    Some(Condition {
        r#type: "ddl_stopped",
        since: Some(rfc3339(ddl.since_ms)),
        object: Some(ddl.object.clone()),
        attempt: None,
        retry_at: None,
        detail: format!(
            "DDL {} is not applied: {}",
            ddl.n,
            error.map_or_else(|| "it failed".to_owned(), ToString::to_string)
        ),
        hint: Some(
            error.map_or_else(
                || format!("see /tasks/{}/ddl/{}", row.name(), ddl.n),
                crate::error::Error::cure,
            ),
        ),
    })
}

/// What keeps a task from being well, from its state and the counters of its run.
pub fn conditions(
    row: &TaskRow,
    progress: Option<&Progress>,
    window: Option<&Window>,
    aside: &[TableState],
) -> Vec<Condition> {
    let mut found = Vec::new();
    let plain = |r#type, detail: String, hint: Option<String>| Condition {
        r#type,
        since: None,
        object: None,
        attempt: None,
        retry_at: None,
        detail,
        hint,
    };
    if let (Some(retry), Some(error)) = (retry(row, progress), &row.last_error) {
        let locked = error.kind == ErrorKind::TargetLocked;
        found.push(Condition {
            since: Some(rfc3339(retry.since_ms)),
            object: error.object.clone(),
            attempt: Some(retry.attempt),
            retry_at: Some(rfc3339(retry.retry_at_ms)),
            ..plain(
                if locked { "target_locked" } else { "retrying" },
                error.message.clone(),
                Some(error.cure()),
            )
        });
    }
    let broken = row.status == Status::Failed || row.retry.is_some();
    if let Some(error) =
        row.last_error.as_ref().filter(|error| broken && error.kind == ErrorKind::SchemaMismatch)
    {
        found.push(drift(error.object.clone(), error, row.last_error_at));
    }
    for state in aside {
        if let Standing::Stopped { error } = &state.standing
            && error.kind == ErrorKind::SchemaMismatch
        {
            found.push(drift(Some(state.name.to_string()), error, Some(state.since_ms)));
        }
        let (r#type, error) = match &state.standing {
            Standing::Stopped { error } => ("table_stopped", error),
            Standing::Resync { error: Some(error), .. } => ("table_retrying", error),
            _ => continue,
        };
        found.push(Condition {
            since: Some(rfc3339(state.since_ms)),
            object: Some(state.name.to_string()),
            ..plain(r#type, error.to_string(), error.hint.clone())
        });
    }
    let incremental = row.phase == Some(Phase::Incremental) && row.status == Status::Running;
    if incremental && row.spec.source.tidb.is_none() {
        let detail =
            "without a tidb connection an idle source cannot be told from a stopped Drainer".to_owned();
        found.push(plain(
            "source_idle_unknown",
            detail,
            Some("name a tidb connection in source.tidb".to_owned()),
        ));
    }
    let Some(progress) = progress else { return found };
    if let Some((holder, since_ms)) = progress.waits.now().filter(|_| row.status == Status::Running) {
        found.push(throttled(row, holder, since_ms));
    }
    if let Some((since_ms, problems)) = progress.drift().filter(|_| incremental) {
        for problem in problems {
            found.push(Condition {
                since: Some(rfc3339(since_ms)),
                object: Some(problem.object),
                ..plain("schema_drift", problem.detail, Some(problem.hint))
            });
        }
    }
    found.extend(retention(row.status, progress, window));
    let late = progress.late_transactions.load(Ordering::Relaxed);
    if late > 0 {
        let detail =
            format!("{late} transactions of this run came after newer ones and were applied with care");
        found.push(plain("late_transactions", detail, None));
    }
    found
}

/// Something is slower than it could be because it was asked for.
fn throttled(row: &TaskRow, holder: Holder, since_ms: i64) -> Condition {
    let connection = match holder {
        Holder::Task => None,
        Holder::Source => row.spec.source.tidb.as_deref(),
        Holder::Kafka => row.spec.source.kafka.as_deref(),
        Holder::Target => Some(row.spec.target.as_str()),
    };
    let (object, resource) = match connection {
        None => (format!("task {}", row.name()), format!("/tasks/{}/throttle", row.name())),
        Some(name) => (format!("connection {name}"), format!("/connections/{name}/throttle")),
    };
    Condition {
        r#type: "throttled",
        since: Some(rfc3339(since_ms)),
        detail: format!("held back by the throttle of {object}"),
        object: Some(object),
        attempt: None,
        retry_at: None,
        hint: Some(format!("PUT {resource} sets it while the task runs")),
    }
}

/// A table that is not as it was when the task knew it.
fn drift(object: Option<String>, error: &crate::error::Error, since_ms: Option<i64>) -> Condition {
    Condition {
        r#type: "schema_drift",
        since: since_ms.map(rfc3339),
        object,
        attempt: None,
        retry_at: None,
        detail: error.message.clone(),
        hint: Some(error.cure()),
    }
}

/// The topic has dropped what the task needs next, or will have before it comes to it.
fn retention(status: Status, progress: &Progress, window: Option<&Window>) -> Option<Condition> {
    let (start, next) = (progress.start_offset()?, progress.next_offset()?);
    let condition = |detail: String, hint: &str| Condition {
        r#type: "retention_short",
        since: None,
        object: None,
        attempt: None,
        retry_at: None,
        detail,
        hint: Some(hint.to_owned()),
    };
    if start > next {
        let detail = format!("the topic begins at offset {start}; the task stands at {next}");
        return Some(condition(detail, "lengthen the topic's retention; copy the tables anew"));
    }
    let lag = now_ms() - progress.watermark_ms()?;
    let left = retention_left_ms(progress, Some(lag))?;
    // A task that stands still comes no nearer.
    let stands = matches!(status, Status::Paused | Status::Failed);
    let runs_out = if stands { left } else { runs_out_ms(left, window)? };
    let kept = progress.retention_ms()?;
    // Far from the edge a slow minute is no alarm.
    if left > kept / 2 || (left > kept / 10 && runs_out > DAY_MS) {
        return None;
    }
    let detail = format!(
        "the topic keeps messages for {}; at this pace it drops what the task needs next in {}",
        words(kept as f64),
        words(runs_out as f64)
    );
    Some(condition(
        detail,
        "lengthen the topic's retention now; the task's diagnosis tells what holds it back",
    ))
}

const DAY_MS: i64 = 86_400_000;

/// Time until the position is lost, when source time goes by in the target as it did in the window; None = it catches up.
fn runs_out_ms(left_ms: i64, window: Option<&Window>) -> Option<i64> {
    let window = window?;
    let moved = (window.last.watermark_ms? - window.first.watermark_ms?) as f64 / 1000.0;
    let pace = moved / window.seconds;
    (pace < 1.0).then(|| (left_ms as f64 / (1.0 - pace)) as i64)
}

/// Whether the position is lost already.
fn is_lost(progress: Option<&Progress>) -> bool {
    progress.is_some_and(|progress| {
        progress.start_offset().zip(progress.next_offset()).is_some_and(|(start, next)| start > next)
    })
}

pub fn health(row: &TaskRow, progress: Option<&Progress>, conditions: &[Condition]) -> Health {
    let has = |wanted: &str| conditions.iter().any(|condition| condition.r#type == wanted);
    if row.status == Status::Failed {
        Health::Failed
    } else if has("target_locked") || is_lost(progress) {
        Health::Blocked
    } else if [
        "retention_short",
        "retrying",
        "table_stopped",
        "table_retrying",
        "dead_letters",
        "schema_drift",
    ]
    .into_iter()
    .any(has)
    {
        Health::Degraded
    } else {
        Health::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::progress::Counters;

    fn window(moved_ms: i64) -> Window {
        let of = |ms| Counters { watermark_ms: Some(ms), ..Counters::default() };
        Window { seconds: 10.0, first: of(1_000_000), last: of(1_000_000 + moved_ms) }
    }

    #[test]
    fn the_end_of_retention_is_foreseen() {
        let hour = 3_600_000;
        // Standing still, half the pace, the source's pace, catching up.
        for (moved, expected) in [(0, Some(hour)), (5_000, Some(2 * hour)), (10_000, None), (30_000, None)] {
            assert_eq!(runs_out_ms(hour, Some(&window(moved))), expected, "{moved}");
        }
        let day = 86_400_000;
        let of = |lag: i64, kept: i64, moved: i64| {
            let progress = Progress::default();
            progress.set_log_range(0, 1000);
            progress.set_next_offset(10);
            progress.set_retention_ms(Some(kept));
            progress.advance_watermark(crate::model::Tso::from_physical_ms(now_ms() - lag));
            let running = retention(Status::Running, &progress, Some(&window(moved)));
            // At rest no pace helps.
            let paused = retention(Status::Paused, &progress, None).is_some();
            assert_eq!(paused, lag > 6 * day, "{lag}");
            running.map(|condition| condition.r#type)
        };
        let short = Some("retention_short");
        assert_eq!(of(day, 7 * day, 0), None, "most of it is left");
        assert_eq!(of(5 * day, 7 * day, 0), None, "two days are left");
        assert_eq!(of(13 * day / 2, 7 * day, 0), short, "half a day is left");
        assert_eq!(of(13 * day / 2, 7 * day, 20_000), None, "it catches up in time");
        assert_eq!(of(8 * day, 7 * day, 0), short);
    }
}

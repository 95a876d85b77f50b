//! How a task is: its health, and the conditions behind it.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339;
use crate::adb::throttle::Holder;
use crate::engine::progress::{Phase, Progress};
use crate::engine::registry::Window;
use crate::error::{Error, ErrorKind};
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
pub const CONDITIONS: [&str; 13] = [
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
    "second_drainer",
    "lossy_values",
    "throttled",
];

/// Something that keeps a task from being well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Condition {
    /// retrying, target_locked, table_stopped, table_retrying, dead_letters, ddl_stopped, schema_drift, retention_short,
    /// source_idle_unknown, late_transactions, second_drainer, lossy_values, throttled; more may come.
    pub r#type: &'static str,
    #[schema(format = DateTime)]
    pub since: Option<String>,
    pub object: Option<String>,
    pub attempt: Option<u32>,
    #[schema(format = DateTime)]
    pub retry_at: Option<String>,
    pub detail: String,
    pub hint: Option<String>,
    /// The page with cause and cure, where there is one.
    pub help: Option<String>,
}

impl Condition {
    fn new(r#type: &'static str, detail: String) -> Self {
        Self {
            r#type,
            since: None,
            object: None,
            attempt: None,
            retry_at: None,
            detail,
            hint: None,
            help: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The name of the page.
    fn help(mut self, page: &str) -> Self {
        self.help = Some(format!("/problems/{page}"));
        self
    }

    /// What can be done about this error.
    fn cure(self, error: &Error) -> Self {
        self.hint(error.cure()).help(error.page())
    }

    fn since(mut self, ms: i64) -> Self {
        self.since = Some(rfc3339(ms));
        self
    }

    fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }
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
    let detail = format!("values that the target does not have as the source has them: {}", parts.join(", "));
    let hint =
        "the tables of the task tell the columns; the spec's lossy policies tell what else can be done";
    Some(Condition::new("lossy_values", detail).hint(hint))
}

/// Says that row changes wait for a person.
pub fn letters_condition(open: i64, since: i64) -> Condition {
    let rows = if open == 1 { "row change" } else { "row changes" };
    Condition::new("dead_letters", format!("{open} {rows} that the target refused are set aside"))
        .since(since)
        .hint("see /dead-letters of the task: cure the cause, then retry or discard them")
        .help("value-refused")
}

/// A DDL that the target refused, or that nobody may carry out: the stream waits at it.
pub fn ddl_condition(row: &TaskRow, ddl: &StoppedDdl) -> Option<Condition> {
    // Once the task goes on, the DDL is tried again and no longer in the way.
    if row.status != Status::Failed && row.retry.is_none() {
        return None;
    }
    let why = ddl.error.as_ref().map_or_else(|| "it failed".to_owned(), ToString::to_string);
    let condition = Condition::new("ddl_stopped", format!("DDL {} is not applied: {why}", ddl.n))
        .since(ddl.since_ms)
        .object(&ddl.object);
    Some(match &ddl.error {
        Some(error) => condition.cure(error),
        None => condition.hint(format!("see /tasks/{}/ddl/{}", row.name(), ddl.n)),
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
    if let (Some(retry), Some(error)) = (retry(row, progress), &row.last_error) {
        let locked = error.kind == ErrorKind::TargetLocked;
        let r#type = if locked { "target_locked" } else { "retrying" };
        let condition = Condition::new(r#type, error.message.clone()).since(retry.since_ms).cure(error);
        found.push(Condition {
            object: error.object.clone(),
            attempt: Some(retry.attempt),
            retry_at: Some(rfc3339(retry.retry_at_ms)),
            ..condition
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
        let condition = Condition::new(r#type, error.to_string()).since(state.since_ms).cure(error);
        found.push(condition.object(state.name.to_string()));
    }
    let incremental = row.phase == Some(Phase::Incremental) && row.status == Status::Running;
    if incremental && row.spec.source.tidb.is_none() {
        let detail = "without a tidb connection an idle source cannot be told from a stopped Drainer";
        found.push(
            Condition::new("source_idle_unknown", detail.to_owned())
                .hint("name a tidb connection in source.tidb"),
        );
    }
    let Some(progress) = progress else { return found };
    if let Some((holder, since_ms)) = progress.waits.now().filter(|_| row.status == Status::Running) {
        found.push(throttled(row, holder, since_ms));
    }
    if let Some((since_ms, problems)) = progress.drift().filter(|_| incremental) {
        for problem in problems {
            let condition = Condition::new("schema_drift", problem.detail).since(since_ms);
            found.push(condition.object(problem.object).hint(problem.hint).help("schema-mismatch"));
        }
    }
    found.extend(retention(row.status, progress, window));
    if let Some(since_ms) = progress.twins_since_ms() {
        let detail = "transactions keep coming twice: two Drainers seem to write this topic";
        found.push(
            Condition::new("second_drainer", detail.to_owned())
                .since(since_ms)
                .hint("give each Drainer a topic of its own")
                .help("corrupt-message"),
        );
    }
    let late = progress.late_transactions.load(Ordering::Relaxed);
    if late > 0 {
        let detail =
            format!("{late} transactions of this run came after newer ones and were applied with care");
        found.push(Condition::new("late_transactions", detail));
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
    Condition::new("throttled", format!("held back by the throttle of {object}"))
        .since(since_ms)
        .object(object)
        .hint(format!("PUT {resource} sets it while the task runs"))
}

/// A table that is not as it was when the task knew it.
fn drift(object: Option<String>, error: &Error, since_ms: Option<i64>) -> Condition {
    let condition = Condition::new("schema_drift", error.message.clone()).cure(error);
    Condition { object, since: since_ms.map(rfc3339), ..condition }
}

/// The topic has dropped what the task needs next, or will have before it comes to it.
fn retention(status: Status, progress: &Progress, window: Option<&Window>) -> Option<Condition> {
    let (start, next) = (progress.start_offset()?, progress.next_offset()?);
    let condition = |detail: String, hint: &str| {
        Condition::new("retention_short", detail).hint(hint).help("position-lost")
    };
    if start > next {
        let detail = format!("the topic begins at offset {start}; the task stands at {next}");
        return Some(condition(detail, "lengthen the topic's retention; copy the tables anew"));
    }
    let left = retention_left_ms(progress, now_ms())?;
    // A task that stands still comes no nearer, nor does a copy before it is through.
    let stands = matches!(status, Status::Paused | Status::Failed) || progress.watermark_ms().is_none();
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
        "second_drainer",
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
            let copying = Progress::default();
            copying.set_log_range(0, 1000);
            copying.set_next_offset(10);
            copying.set_retention_ms(Some(kept));
            assert!(retention(Status::Running, &copying, None).is_none(), "nobody knows how old it is");
            copying.set_snapshot_ms(now_ms() - lag);
            assert_eq!(retention(Status::Running, &copying, None).is_some(), lag > 6 * day, "{lag}");
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

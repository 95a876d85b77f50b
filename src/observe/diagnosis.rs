//! Why a task lags: what holds it back, by what it was seen to wait for in the last ten seconds. No I/O.

use serde::Serialize;
use utoipa::ToSchema;

use super::measure::retry;
use super::rule::words;
use crate::engine::progress::{Phase, Progress};
use crate::engine::registry::{Seen, Window};
use crate::error::{Endpoint, ErrorKind};
use crate::store::tasks::TaskRow;
use crate::task::status::Status;

/// With everything applied, a watermark this far behind is the Drainer's.
const SOURCE_LAG_MS: i64 = 10_000;
/// A DDL that takes longer than this is what the task waits for.
const DDL_MS: i64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// TiDB, Pump or Drainer: rows or messages do not come faster.
    Source,
    /// The broker hands out messages slowly, or not at all.
    Kafka,
    /// Reading messages and folding rows, here.
    Decode,
    /// The target takes writes slowly, or not at all.
    Apply,
    /// A DDL is being applied; the stream waits for it.
    Ddl,
    /// A throttle of the spec.
    Throttle,
    /// The target is locked: it takes no writes.
    Locked,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Evidence {
    /// `messages_behind`, `time_blocked`, `error`, ...; more may come.
    pub name: &'static str,
    pub value: Option<f64>,
    pub unit: Option<&'static str>,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    pub bottleneck: Option<Bottleneck>,
    pub summary: String,
    pub evidence: Vec<Evidence>,
    pub catch_up_ms: Option<u64>,
    /// Why there is no end to tell.
    pub catch_up: String,
}

/// What is held against each other.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub row: &'a TaskRow,
    pub seen: Option<&'a Seen>,
    pub lag_ms: Option<i64>,
    /// Statement of the DDL that is under way.
    pub ddl: Option<&'a str>,
    pub now_ms: i64,
}

fn number(name: &'static str, value: f64, unit: &'static str, detail: impl Into<String>) -> Evidence {
    let value = (value * 1000.0).round() / 1000.0;
    Evidence { name, value: Some(value), unit: Some(unit), detail: detail.into() }
}

fn said(name: &'static str, detail: impl Into<String>) -> Evidence {
    Evidence { name, value: None, unit: None, detail: detail.into() }
}

/// Shares of the time of a window that went into one thing.
struct Shares {
    reading: f64,
    decoding: f64,
    blocked: f64,
    ddl: f64,
    throttled: f64,
}

fn shares(window: &Window) -> Shares {
    let (first, last) = (&window.first, &window.last);
    let share = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6 / window.seconds;
    let ddl = share(first.ddl_us, last.ddl_us);
    Shares {
        reading: share(first.reading_us, last.reading_us),
        // DDL is met while messages are read.
        decoding: (share(first.decoding_us, last.decoding_us) - ddl).max(0.0),
        blocked: share(first.blocked_us, last.blocked_us),
        ddl,
        throttled: share(first.throttled_us, last.throttled_us),
    }
}

pub fn diagnose(input: Input<'_>) -> Diagnosis {
    let mut evidence = Vec::new();
    if let Some(lag) = input.lag_ms {
        let detail = format!("the target is complete up to {} ago", words(lag as f64));
        evidence.push(number("lag_ms", lag as f64, "ms", detail));
    }
    let progress = input.seen.map(|seen| &*seen.progress);
    let window = input.seen.and_then(|seen| seen.window.as_ref());
    let behind = progress.and_then(behind);
    if let Some(behind) = behind {
        evidence.push(number(
            "messages_behind",
            behind as f64,
            "messages",
            "of the topic that are not applied yet",
        ));
    }
    let (bottleneck, summary) = cause(&input, progress, window, behind, &mut evidence);
    let (catch_up_ms, catch_up) = end(&input, progress, window, behind, &mut evidence);
    Diagnosis { bottleneck, summary, evidence, catch_up_ms, catch_up }
}

fn behind(progress: &Progress) -> Option<i64> {
    Some((progress.end_offset()? - progress.next_offset()?).max(0))
}

fn cause(
    input: &Input<'_>,
    progress: Option<&Progress>,
    window: Option<&Window>,
    behind: Option<i64>,
    evidence: &mut Vec<Evidence>,
) -> (Option<Bottleneck>, String) {
    let row = input.row;
    if row.status != Status::Running {
        if let Some(error) = row.last_error.as_ref().filter(|_| row.status == Status::Failed) {
            evidence.push(said("error", error.to_string()));
        }
        return (None, format!("the task is {}: nothing works on it", row.status.as_str()));
    }
    if let (Some(retry), Some(error)) = (retry(row, progress), &row.last_error) {
        evidence.push(said("error", error.to_string()));
        evidence.push(number(
            "retrying_ms",
            (input.now_ms - retry.since_ms).max(0) as f64,
            "ms",
            format!("attempt {}", retry.attempt),
        ));
        let place = match (error.kind, error.endpoint) {
            (ErrorKind::TargetLocked, _) => Bottleneck::Locked,
            (_, Some(Endpoint::Source)) => Bottleneck::Source,
            (_, Some(Endpoint::Kafka)) => Bottleneck::Kafka,
            _ => Bottleneck::Apply,
        };
        let what =
            if place == Bottleneck::Locked { "the target takes no writes" } else { "it waits to try again" };
        return (Some(place), format!("{what}: {error}. {}", error.cure()));
    }
    if let Some(since) =
        progress.and_then(Progress::ddl_since_ms).filter(|since| input.now_ms - since > DDL_MS)
    {
        let took = (input.now_ms - since) as f64;
        evidence.push(number("ddl_ms", took, "ms", input.ddl.unwrap_or("a DDL of the stream")));
        let summary = format!("a DDL has been running for {}; the stream waits for it", words(took));
        return (Some(Bottleneck::Ddl), summary);
    }
    let throttle = row.spec.throttle;
    let limits = if row.phase == Some(Phase::Full) {
        [throttle.full_rows_per_second, throttle.full_bytes_per_second]
    } else {
        [throttle.incremental_rows_per_second, throttle.incremental_bytes_per_second]
    };
    if limits.contains(&Some(0)) {
        evidence.push(said("throttle", "a limit of this phase is 0"));
        return (Some(Bottleneck::Throttle), "the throttle is 0: nothing is let through".to_owned());
    }
    let Some(window) = window else {
        return (None, "the run has just begun: look again in some seconds".to_owned());
    };
    let shares = shares(window);
    for (name, share, detail) in [
        ("time_reading", shares.reading, "waiting for the source's rows or the topic's messages"),
        ("time_decoding", shares.decoding, "reading messages and folding rows"),
        ("time_blocked", shares.blocked, "waiting for the target with full buffers"),
        ("time_ddl", shares.ddl, "with DDL"),
        ("time_throttled", shares.throttled, "held back by the throttle"),
    ] {
        evidence.push(number(name, share, "ratio", detail));
    }
    match row.phase {
        Some(Phase::Full) => of_full(&shares),
        Some(Phase::Incremental) => of_stream(input, &shares, behind),
        phase => {
            let phase = phase.map_or("start", Phase::as_str);
            (None, format!("the task is in its {phase}: nothing is copied yet"))
        }
    }
}

fn of_full(shares: &Shares) -> (Option<Bottleneck>, String) {
    // Writers side by side wait each for itself.
    if shares.throttled > shares.reading.max(0.5) {
        return (Some(Bottleneck::Throttle), "full sync is held back by its throttle".to_owned());
    }
    if shares.blocked > shares.reading {
        (Some(Bottleneck::Apply), "full sync: rows are read faster than the target takes them".to_owned())
    } else if shares.reading > 0.0 {
        (
            Some(Bottleneck::Source),
            "full sync: the target takes rows faster than the source gives them".to_owned(),
        )
    } else {
        (None, "full sync: nothing was read in the last seconds".to_owned())
    }
}

fn of_stream(input: &Input<'_>, shares: &Shares, behind: Option<i64>) -> (Option<Bottleneck>, String) {
    let lag = input.lag_ms.unwrap_or(0);
    match behind {
        None => return (None, "the topic's end is not known yet".to_owned()),
        Some(0) if lag > SOURCE_LAG_MS && input.row.spec.source.tidb.is_some() => {
            let summary = format!(
                "everything in the topic is applied; the Drainer has told of nothing newer for {}: look at Pump and Drainer",
                words(lag as f64)
            );
            return (Some(Bottleneck::Source), summary);
        }
        Some(0) if lag > SOURCE_LAG_MS => {
            let summary = "everything in the topic is applied; without a tidb connection an idle source cannot be told from a stopped Drainer";
            return (None, summary.to_owned());
        }
        Some(0) => return (None, "the target is in step".to_owned()),
        Some(_) => {}
    }
    // Writers side by side wait each for itself, and what waits at the throttle fills the buffers before it.
    if shares.throttled > shares.reading.max(0.5) {
        return (Some(Bottleneck::Throttle), "the stream is held back by its throttle".to_owned());
    }
    let parts = [
        (shares.throttled, Bottleneck::Throttle, "the stream is held back by its throttle"),
        (shares.blocked, Bottleneck::Apply, "messages are read faster than the target takes their changes"),
        (shares.ddl, Bottleneck::Ddl, "DDL holds up the stream most of the time"),
        (shares.decoding, Bottleneck::Decode, "reading messages takes most of the time: a processor's work"),
        (
            shares.reading,
            Bottleneck::Kafka,
            "messages wait in the topic, and the broker hands them out slowly",
        ),
    ];
    let most = parts.iter().max_by(|(a, ..), (b, ..)| a.total_cmp(b)).filter(|(share, ..)| *share > 0.0);
    match most {
        Some((_, bottleneck, summary)) => (Some(*bottleneck), (*summary).to_owned()),
        None => (None, "nothing moved in the last seconds".to_owned()),
    }
}

/// When the task will have caught up, or why that cannot be told.
fn end(
    input: &Input<'_>,
    progress: Option<&Progress>,
    window: Option<&Window>,
    behind: Option<i64>,
    evidence: &mut Vec<Evidence>,
) -> (Option<u64>, String) {
    if input.row.status != Status::Running {
        return (None, "the task does not run".to_owned());
    }
    let Some(window) = window else { return (None, "not known yet".to_owned()) };
    let per_second = |from: Option<i64>, to: Option<i64>| Some((to? - from?) as f64 / window.seconds);
    if input.row.phase == Some(Phase::Full) {
        let rate = window.last.rows.saturating_sub(window.first.rows) as f64 / window.seconds;
        evidence.push(number("rows_per_second", rate, "rows/s", "copied"));
        let totals = progress.map(Progress::table_totals);
        let left = totals
            .and_then(|totals| totals.rows_estimated)
            .map(|rows| rows.saturating_sub(window.last.rows) as f64);
        return match left {
            Some(left) if rate > 0.0 => (
                Some((left / rate * 1000.0) as u64),
                "of full sync; the stream is followed after it".to_owned(),
            ),
            _ => (None, "no rows were copied in the last seconds, or their number is not known".to_owned()),
        };
    }
    let Some(behind) = behind else { return (None, "the topic's end is not known".to_owned()) };
    if behind == 0 {
        return (Some(0), "nothing is waiting in the topic".to_owned());
    }
    let applied = per_second(window.first.next_offset, window.last.next_offset);
    let arriving = per_second(window.first.end_offset, window.last.end_offset);
    let (Some(applied), Some(arriving)) = (applied, arriving) else {
        return (None, "not known yet".to_owned());
    };
    evidence.push(number("applied_per_second", applied, "messages/s", "messages applied"));
    evidence.push(number("arriving_per_second", arriving, "messages/s", "messages that came into the topic"));
    if applied > arriving {
        let ms = behind as f64 / (applied - arriving) * 1000.0;
        (Some(ms as u64), "if messages come and go as in the last seconds".to_owned())
    } else {
        (None, "never at this pace: messages come as fast as they are applied, or faster".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::progress::Counters;
    use crate::error::Error;
    use crate::model::{Epoch, TaskId};
    use crate::store::tasks::Retry;
    use crate::task::spec::Spec;
    use crate::task::status::Desired;

    fn row(phase: Phase) -> TaskRow {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "name": "a", "source": {"tidb": "tidb", "kafka": "kafka", "topic": "t"}, "target": "target",
            "objects": {"include": ["shop.*"]},
        }))
        .unwrap();
        TaskRow {
            id: TaskId("t_1".to_owned()),
            spec,
            spec_version: 1,
            applied_spec_version: Some(1),
            desired: Desired::Running,
            status: Status::Running,
            phase: Some(phase),
            epoch: Epoch(1),
            last_error: None,
            last_error_at: None,
            retry: None,
            created_at: 0,
            updated_at: 0,
            started_at: Some(0),
            finished_at: None,
        }
    }

    /// Ten seconds with so much time in each, at this distance from the end.
    fn seen(behind: i64, arriving: i64, spend: impl Fn(&mut Counters)) -> Seen {
        let progress = Progress::default();
        progress.set_next_offset(1000);
        progress.set_log_range(0, 1000 + behind);
        let first = Counters {
            next_offset: Some(900),
            end_offset: Some(1000 + behind - arriving),
            ..Counters::default()
        };
        let mut last =
            Counters { next_offset: Some(1000), end_offset: Some(1000 + behind), ..Counters::default() };
        spend(&mut last);
        let window = Window { seconds: 10.0, first, last };
        Seen { progress: Arc::new(progress), running: true, ran: true, rates: None, window: Some(window) }
    }

    fn of(row: &TaskRow, seen: &Seen, lag_ms: i64) -> Diagnosis {
        diagnose(Input { row, seen: Some(seen), lag_ms: Some(lag_ms), ddl: None, now_ms: 100_000 })
    }

    const MOST_US: u64 = 8_000_000;

    #[test]
    fn what_takes_most_of_the_time_is_the_bottleneck() {
        type Spend = fn(&mut Counters);
        let cases: [(Phase, Spend, Bottleneck); 8] = [
            (
                Phase::Incremental,
                |now| (now.blocked_us, now.throttled_us) = (MOST_US + 1, MOST_US),
                Bottleneck::Throttle,
            ),
            (Phase::Incremental, |now| now.blocked_us = MOST_US, Bottleneck::Apply),
            (Phase::Incremental, |now| now.reading_us = MOST_US, Bottleneck::Kafka),
            (Phase::Incremental, |now| now.decoding_us = MOST_US, Bottleneck::Decode),
            (Phase::Incremental, |now| (now.decoding_us, now.ddl_us) = (MOST_US, MOST_US), Bottleneck::Ddl),
            (Phase::Incremental, |now| now.throttled_us = MOST_US, Bottleneck::Throttle),
            (Phase::Full, |now| now.reading_us = MOST_US, Bottleneck::Source),
            (Phase::Full, |now| now.blocked_us = MOST_US, Bottleneck::Apply),
        ];
        for (phase, spend, expected) in cases {
            let found = of(&row(phase), &seen(500, 0, spend), 60_000);
            assert_eq!(found.bottleneck, Some(expected), "{found:?}");
            assert!(!found.evidence.is_empty());
        }
    }

    #[test]
    fn a_task_in_step_has_none_and_a_silent_drainer_is_the_source() {
        let row = row(Phase::Incremental);
        let idle = seen(0, 0, |now| now.reading_us = MOST_US);
        assert_eq!(of(&row, &idle, 900).bottleneck, None);
        assert_eq!(of(&row, &idle, 900).catch_up_ms, Some(0));
        assert_eq!(of(&row, &idle, 60_000).bottleneck, Some(Bottleneck::Source));
    }

    #[test]
    fn the_end_of_catching_up_is_told_where_there_is_one() {
        let row = row(Phase::Incremental);
        // 10 a second are applied; 500 wait.
        assert_eq!(of(&row, &seen(500, 0, |_| {}), 1).catch_up_ms, Some(50_000));
        assert_eq!(of(&row, &seen(500, 50, |_| {}), 1).catch_up_ms, Some(100_000));
        let never = of(&row, &seen(500, 100, |_| {}), 1);
        assert_eq!(never.catch_up_ms, None);
        assert!(never.catch_up.starts_with("never"), "{never:?}");
    }

    #[test]
    fn an_error_names_its_place() {
        let mut row = row(Phase::Incremental);
        row.retry = Some(Retry { attempt: 3, since_ms: 90_000, retry_at_ms: 101_000 });
        for (kind, endpoint, expected) in [
            (ErrorKind::TargetLocked, Endpoint::Target, Bottleneck::Locked),
            (ErrorKind::Unreachable, Endpoint::Target, Bottleneck::Apply),
            (ErrorKind::Unreachable, Endpoint::Kafka, Bottleneck::Kafka),
            (ErrorKind::Unreachable, Endpoint::Source, Bottleneck::Source),
        ] {
            row.last_error = Some(Error::new(kind, "no").endpoint(endpoint));
            let found = of(&row, &seen(5, 0, |_| {}), 1);
            assert_eq!(found.bottleneck, Some(expected));
            assert!(found.evidence.iter().any(|evidence| evidence.name == "retrying_ms"));
        }
    }

    #[test]
    fn a_long_ddl_and_a_throttle_of_zero_come_first() {
        let mut row = row(Phase::Incremental);
        let seen = seen(5, 0, |now| now.blocked_us = MOST_US);
        seen.progress.set_ddl_since(Some(90_000));
        let found = of(&row, &seen, 1);
        assert_eq!(found.bottleneck, Some(Bottleneck::Ddl));
        assert!(found.summary.contains("10 s"), "{found:?}");
        seen.progress.set_ddl_since(None);
        row.spec.throttle.incremental_rows_per_second = Some(0);
        assert_eq!(of(&row, &seen, 1).bottleneck, Some(Bottleneck::Throttle));
        row.status = Status::Paused;
        assert_eq!(of(&row, &seen, 1).bottleneck, None);
    }
}

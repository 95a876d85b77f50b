//! Reads one task at one moment: its lag, the sample for the series, and the facts that alert rules are judged by.

use std::collections::HashMap;
use std::sync::Arc;

use super::figures::{Figure, Sample};
use super::rule::Facts;
use crate::engine::progress::{Counters, Phase, Progress};
use crate::engine::registry::Seen;
use crate::model::{TaskId, Tso};
use crate::store::tasks::{Retry, TaskRow};
use crate::store::views::CheckpointRow;
use crate::store::{TableState, now_ms};
use crate::task::standing::Standing;
use crate::task::status::Status;

/// Watermark in milliseconds and TSO: of the run, else as last saved.
pub fn watermark(progress: Option<&Progress>, checkpoint: Option<&CheckpointRow>) -> Option<(i64, u64)> {
    let live = progress.and_then(|progress| Some((progress.watermark_ms()?, progress.watermark_tso()?)));
    let saved = checkpoint
        .and_then(|row| u64::try_from(row.watermark_tso).ok())
        .filter(|tso| *tso != 0)
        .map(|tso| (Tso(tso).physical_ms(), tso));
    live.max(saved)
}

/// `lag_ms` of a task; None where nothing is to be in step.
pub fn lag_ms(row: &TaskRow, progress: Option<&Progress>, checkpoint: Option<&CheckpointRow>) -> Option<i64> {
    lag_at(row, progress, checkpoint, now_ms())
}

fn lag_at(
    row: &TaskRow,
    progress: Option<&Progress>,
    checkpoint: Option<&CheckpointRow>,
    now_ms: i64,
) -> Option<i64> {
    if matches!(row.status, Status::Stopped | Status::Finished) {
        return None;
    }
    watermark(progress, checkpoint).map(|(ms, _)| (now_ms - ms).max(0))
}

/// Percent of full sync. An estimate never says 100 before the end does.
pub fn percent(copied: u64, estimated: Option<u64>, through: bool) -> Option<f64> {
    if through {
        return Some(100.0);
    }
    let estimated = estimated.filter(|rows| *rows > 0)?;
    let percent = copied as f64 / estimated as f64 * 100.0;
    Some(((percent * 10.0).floor() / 10.0).min(99.9))
}

/// True when full sync is behind the task.
pub fn full_is_through(row: &TaskRow) -> bool {
    row.spec.phases.full && (row.phase == Some(Phase::Incremental) || row.status == Status::Finished)
}

/// Until when the source is sure to keep the snapshot of a full sync that stands still since then, in milliseconds since the epoch: a
/// run's open transactions hold it, and end with the run. None = not in that phase, or not known.
pub fn snapshot_kept_until(
    row: &TaskRow,
    progress: Option<&Progress>,
    checkpoint: &CheckpointRow,
    stands_since_ms: Option<i64>,
) -> Option<i64> {
    if row.phase != Some(Phase::Full) {
        return None;
    }
    let taken = Tso(u64::try_from(checkpoint.snapshot_tso).ok()?).physical_ms();
    Some((taken + progress?.gc_life_ms()?).max(stands_since_ms?))
}

/// What the task waits for: the store knows whether it does and since when, the run which attempt is next.
pub fn retry(row: &TaskRow, progress: Option<&Progress>) -> Option<Retry> {
    let saved = row.retry?;
    let live = progress.and_then(Progress::retry);
    Some(live.map_or(saved, |(attempt, retry_at_ms)| Retry { attempt, retry_at_ms, ..saved }))
}

/// Since when no run works on the task, if that is so.
pub fn stands_since(row: &TaskRow) -> Option<i64> {
    matches!(row.status, Status::Pausing | Status::Paused | Status::Failed).then_some(row.updated_at)
}

/// Time until the topic drops the message that the task needs next: it is about as old as the watermark, in full sync as the
/// snapshot. 0 = it is gone; None = not known, or nothing is waiting there.
pub fn retention_left_ms(progress: &Progress, now_ms: i64) -> Option<i64> {
    if let (Some(start), Some(next)) = (progress.start_offset(), progress.next_offset())
        && start > next
    {
        return Some(0);
    }
    let (kept, age) = (progress.retention_ms()?, (now_ms - progress.needs_from_ms()?).max(0));
    let waiting = progress.end_offset()? > progress.next_offset()?;
    // Whole segments go at a time: the message may live longer, never shorter.
    waiting.then(|| (kept - age).max(1))
}

/// What is read of one task.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub row: &'a TaskRow,
    pub checkpoint: Option<&'a CheckpointRow>,
    pub seen: Option<&'a Seen>,
    pub aside: &'a [TableState],
    pub dead_letters: u64,
}

/// What was seen of a run when it was looked at last.
#[derive(Debug)]
struct Before {
    /// Keeps the run's address from being taken by another one.
    run: Arc<Progress>,
    at_ms: i64,
    counters: Counters,
    /// When something moved last.
    moved_ms: i64,
}

/// Takes samples; remembers of each task the counters of the last one.
#[derive(Debug, Default)]
pub struct Sampler {
    before: HashMap<TaskId, Before>,
}

/// What one look at a task gives.
#[derive(Debug)]
pub struct Measured {
    /// None for a task that is not at work and has no lag.
    pub sample: Option<Sample>,
    pub facts: Facts,
}

fn moves(counters: &Counters) -> (u64, u64, u64, u64, Option<i64>, Option<i64>) {
    (
        counters.rows,
        counters.transactions,
        counters.ddl,
        counters.batches,
        counters.next_offset,
        counters.watermark_ms,
    )
}

impl Sampler {
    /// Forgets tasks that are no longer there.
    pub fn keep(&mut self, wanted: impl Fn(&TaskId) -> bool) {
        self.before.retain(|task, _| wanted(task));
    }

    pub fn measure(&mut self, subject: Subject<'_>, now_ms: i64) -> Measured {
        let Subject { row, checkpoint, seen, aside, dead_letters } = subject;
        let progress = seen.map(|seen| &seen.progress);
        let lag = lag_at(row, progress.map(|progress| &**progress), checkpoint, now_ms);
        let running = seen.is_some_and(|seen| seen.running);
        let mut sample = Sample::default();
        let at_rest = matches!(row.status, Status::Created | Status::Stopped | Status::Finished);
        sample.push(Figure::Running, f64::from(u8::from(running)));
        sample.push_known(Figure::Lag, lag.map(|lag| lag as f64));
        let stopped = aside.iter().filter(|table| matches!(table.standing, Standing::Stopped { .. })).count();
        sample.push(Figure::TablesAside, aside.len() as f64);
        sample.push(Figure::TablesStopped, stopped as f64);
        sample.push(Figure::DeadLetters, dead_letters as f64);
        sample.push_known(
            Figure::CheckpointAge,
            checkpoint.map(|checkpoint| (now_ms - checkpoint.updated_at).max(0) as f64),
        );
        let left = progress.filter(|_| !at_rest).and_then(|progress| retention_left_ms(progress, now_ms));
        sample.push_known(Figure::RetentionLeft, left.map(|ms| ms as f64));
        let mut still_ms = None;
        if let Some(progress) = progress {
            still_ms = self.of_run(row, progress, running, now_ms, &mut sample);
        }
        let full_ms = (row.spec.phases.full && !full_is_through(row) && !at_rest)
            .then(|| row.started_at.map(|started| now_ms - started))
            .flatten();
        let facts = Facts {
            status: row.status,
            lag_ms: lag,
            still_ms,
            full_ms,
            retention_left_ms: left,
            dead_letters,
            last_error: row.last_error.as_ref().map(ToString::to_string),
        };
        Measured { sample: (!at_rest).then_some(sample), facts }
    }

    /// Figures of a run; gives since how long nothing has moved.
    fn of_run(
        &mut self,
        row: &TaskRow,
        progress: &Arc<Progress>,
        running: bool,
        now_ms: i64,
        sample: &mut Sample,
    ) -> Option<i64> {
        let counters = progress.counters();
        let totals = progress.table_totals();
        let through = full_is_through(row);
        sample.push(Figure::Tables, totals.tables as f64);
        if row.spec.phases.full {
            sample.push(Figure::RowsCopied, counters.rows as f64);
            sample.push_known(Figure::RowsEstimated, totals.rows_estimated.map(|rows| rows as f64));
            sample.push_known(Figure::Percent, percent(counters.rows, totals.rows_estimated, through));
        }
        sample.push(Figure::ChangesApplied, counters.changes as f64);
        if let (Some(end), Some(next)) = (counters.end_offset, counters.next_offset) {
            sample.push(Figure::Behind, (end - next).max(0) as f64);
        }
        if let (Some(start), Some(next)) = (progress.start_offset(), counters.next_offset) {
            sample.push(Figure::Spare, (next - start) as f64);
        }
        let before = self.before.get(&row.id).filter(|before| Arc::ptr_eq(&before.run, progress));
        if !running {
            self.before.remove(&row.id);
            return None;
        }
        let buffered = progress.buffered_bytes.load(std::sync::atomic::Ordering::Relaxed);
        sample.push(Figure::Memory, buffered as f64);
        let slowest = progress.take_slowest_batch_us();
        let mut moved_ms = now_ms;
        if let Some(before) = before {
            // With nothing left to apply, standing still is as it should be; an idle source shows in the lag.
            let idle = counters.end_offset.is_some() && counters.end_offset <= counters.next_offset;
            if !idle && moves(&before.counters) == moves(&counters) {
                moved_ms = before.moved_ms;
            }
            rates(sample, before, &counters, now_ms);
            if slowest > 0 {
                sample.push(Figure::BatchMax, slowest as f64 / 1000.0);
            }
        }
        self.before
            .insert(row.id.clone(), Before { run: Arc::clone(progress), at_ms: now_ms, counters, moved_ms });
        Some(now_ms - moved_ms)
    }
}

/// What lies between two looks at the same run.
fn rates(sample: &mut Sample, before: &Before, now: &Counters, now_ms: i64) {
    let seconds = (now_ms - before.at_ms) as f64 / 1000.0;
    if seconds <= 0.0 {
        return;
    }
    let then = &before.counters;
    // A restarted table counts down, a seeded one up at once: never below zero.
    let added = |then: u64, now: u64| now.saturating_sub(then) as f64;
    for (figure, then, now) in [
        (Figure::Rows, then.rows, now.rows),
        (Figure::Bytes, then.bytes, now.bytes),
        (Figure::Changes, then.changes, now.changes),
        (Figure::Transactions, then.transactions, now.transactions),
        (Figure::StreamBytes, then.stream_bytes, now.stream_bytes),
        (Figure::Batches, then.batches, now.batches),
    ] {
        sample.push(figure, added(then, now) / seconds);
    }
    for (figure, then, now) in [
        (Figure::Retries, then.retries, now.retries),
        (Figure::Duplicates, then.duplicates, now.duplicates),
        (Figure::Late, then.late, now.late),
        (Figure::Ddl, then.ddl, now.ddl),
    ] {
        sample.push(figure, added(then, now));
    }
    // DDL is met while messages are read.
    let decoding = |counters: &Counters| counters.decoding_us.saturating_sub(counters.ddl_us);
    for (figure, then, now) in [
        (Figure::Reading, then.reading_us, now.reading_us),
        (Figure::Decoding, decoding(then), decoding(now)),
        (Figure::Blocked, then.blocked_us, now.blocked_us),
        (Figure::InDdl, then.ddl_us, now.ddl_us),
        (Figure::Throttled, then.throttled_us, now.throttled_us),
    ] {
        sample.push(figure, added(then, now) / 1e6 / seconds);
    }
    let batches = added(then.batches, now.batches);
    if batches > 0.0 {
        sample.push(Figure::BatchMean, added(then.applying_us, now.applying_us) / 1000.0 / batches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_streams_time_add_up_to_one() {
        let run = Arc::new(Progress::default());
        let then = run.counters();
        let before = Before { run, at_ms: 0, counters: then, moved_ms: 0 };
        let second = 1_000_000;
        let now = Counters {
            reading_us: 2 * second,
            // Three of them with DDL.
            decoding_us: 5 * second,
            ddl_us: 3 * second,
            blocked_us: 3 * second,
            ..before.run.counters()
        };
        let mut sample = Sample::default();
        rates(&mut sample, &before, &now, 10_000);
        let share = |wanted| sample.0.iter().find(|(figure, _)| *figure == wanted).map(|(_, value)| *value);
        assert_eq!(share(Figure::Decoding), Some(0.2));
        let parts = [Figure::Reading, Figure::Decoding, Figure::Blocked, Figure::InDdl];
        let sum: f64 = parts.iter().filter_map(|part| share(*part)).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}

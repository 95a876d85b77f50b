//! Counters of one running task: written by its worker, read by the API and the metrics. Lost with the process; what must
//! survive is in the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::adb::dialect::Problem;
use crate::adb::throttle::Waits;
use crate::model::TableName;

/// Sentinel of the atomics that may be unknown.
const UNKNOWN: i64 = i64::MIN;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Precheck,
    Schema,
    Full,
    Incremental,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Precheck => "precheck",
            Self::Schema => "schema",
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// Where the new copy of a table stands while it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Copying,
    CatchingUp,
    Swapping,
}

/// What one table has seen in this run of the task (`rows_*` of full sync are seeded from the store at the start).
#[derive(Debug, Clone, Copy, Default)]
pub struct TableCounters {
    pub rows_estimated: Option<u64>,
    pub rows_copied: u64,
    pub bytes_copied: u64,
    pub changes_applied: u64,
    /// Row changes passed over because the table does not follow.
    pub changes_passed: u64,
    /// Of its resync, while one is under way.
    pub stage: Option<Stage>,
    /// Commit time of the last change applied, milliseconds since the epoch.
    pub last_commit_ms: Option<i64>,
}

/// Where a run spends its time, in microseconds. What runs side by side (readers, writers) adds up.
#[derive(Debug, Default)]
pub struct TimeSpent {
    /// Waiting for rows of the source, or for messages of the topic.
    pub reading_us: AtomicU64,
    /// Reading messages and folding rows into a batch.
    pub decoding_us: AtomicU64,
    /// With a full batch, waiting for the target to take the one before.
    pub blocked_us: AtomicU64,
    /// Under way to the target.
    pub applying_us: AtomicU64,
    /// With DDL as a barrier.
    pub ddl_us: AtomicU64,
}

/// Adds the time since `start` to a counter of [`TimeSpent`].
pub fn spent(counter: &AtomicU64, start: std::time::Instant) {
    counter.fetch_add(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// All counters at one moment. Differences of two give rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub rows: u64,
    pub bytes: u64,
    pub changes: u64,
    pub transactions: u64,
    pub stream_bytes: u64,
    pub duplicates: u64,
    pub late: u64,
    pub ddl: u64,
    pub retries: u64,
    pub batches: u64,
    pub reading_us: u64,
    pub decoding_us: u64,
    pub blocked_us: u64,
    pub applying_us: u64,
    pub ddl_us: u64,
    /// Held back by a throttle.
    pub throttled_us: u64,
    pub next_offset: Option<i64>,
    pub end_offset: Option<i64>,
    pub watermark_ms: Option<i64>,
}

/// Sums over the tables of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableTotals {
    pub tables: u64,
    pub rows_estimated: Option<u64>,
    /// Resyncs under way.
    pub copying: u64,
    pub changes_passed: u64,
}

#[derive(Debug)]
pub struct Progress {
    pub rows_copied: AtomicU64,
    pub bytes_copied: AtomicU64,
    /// Row changes of the stream that are in the target.
    pub changes_applied: AtomicU64,
    pub transactions_applied: AtomicU64,
    /// Bytes of topic messages that are in the target.
    pub bytes_applied: AtomicU64,
    pub duplicates_skipped: AtomicU64,
    pub late_transactions: AtomicU64,
    pub ddl_applied: AtomicU64,
    pub retries: AtomicU64,
    /// What it waits for, if it does: number in a row, and when it begins, milliseconds since the epoch.
    retry: Mutex<Option<(u32, i64)>>,
    /// At the gate of its throttles.
    pub waits: Arc<Waits>,
    /// Where the time of this run went.
    pub time: TimeSpent,
    /// Batches (statements of full sync) that the target acknowledged.
    pub batches: AtomicU64,
    /// The slowest of them since somebody last asked, microseconds.
    slowest_batch_us: AtomicU64,
    /// Rows and changes that wait in memory for the target, in bytes.
    pub buffered_bytes: AtomicU64,
    /// When the DDL began that is being applied, milliseconds since the epoch.
    ddl_since: AtomicI64,
    twins_since: AtomicI64,
    /// `retention.ms` of the topic.
    retention_ms: AtomicI64,
    gc_life_ms: AtomicI64,
    snapshot_ms: AtomicI64,
    /// Next offset to apply; UNKNOWN before incremental sync.
    next_offset: AtomicI64,
    /// End offset of partition 0 as last seen.
    end_offset: AtomicI64,
    /// Offset of the oldest message still in the topic.
    start_offset: AtomicI64,
    /// Source time up to which the target is complete, milliseconds since the epoch.
    watermark_ms: AtomicI64,
    /// The same as TSO.
    watermark_tso: AtomicU64,
    tables: Mutex<HashMap<TableName, TableCounters>>,
    /// Where the target's tables are no longer as the task needs them, and when that was seen; None = not looked yet.
    drift: Mutex<Option<(i64, Vec<Problem>)>>,
    /// Something may have been asked of single tables.
    asked: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            rows_copied: AtomicU64::new(0),
            bytes_copied: AtomicU64::new(0),
            changes_applied: AtomicU64::new(0),
            transactions_applied: AtomicU64::new(0),
            bytes_applied: AtomicU64::new(0),
            duplicates_skipped: AtomicU64::new(0),
            late_transactions: AtomicU64::new(0),
            ddl_applied: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            retry: Mutex::default(),
            waits: Arc::default(),
            time: TimeSpent::default(),
            batches: AtomicU64::new(0),
            slowest_batch_us: AtomicU64::new(0),
            buffered_bytes: AtomicU64::new(0),
            ddl_since: AtomicI64::new(UNKNOWN),
            twins_since: AtomicI64::new(UNKNOWN),
            retention_ms: AtomicI64::new(UNKNOWN),
            gc_life_ms: AtomicI64::new(UNKNOWN),
            snapshot_ms: AtomicI64::new(UNKNOWN),
            next_offset: AtomicI64::new(UNKNOWN),
            end_offset: AtomicI64::new(UNKNOWN),
            start_offset: AtomicI64::new(UNKNOWN),
            watermark_ms: AtomicI64::new(UNKNOWN),
            watermark_tso: AtomicU64::new(0),
            tables: Mutex::new(HashMap::new()),
            drift: Mutex::default(),
            // Perhaps before this run.
            asked: AtomicBool::new(true),
        }
    }
}

fn known(value: i64) -> Option<i64> {
    (value != UNKNOWN).then_some(value)
}

impl Progress {
    pub fn set_next_offset(&self, offset: i64) {
        self.next_offset.store(offset, Ordering::Relaxed);
    }

    pub fn set_log_range(&self, start: i64, end: i64) {
        self.start_offset.store(start, Ordering::Relaxed);
        self.end_offset.store(end, Ordering::Relaxed);
    }

    /// Moves the watermark forward; an older value is ignored.
    /// The target was restored from an older copy.
    pub fn set_back_watermark(&self, tso: crate::model::Tso) {
        self.watermark_tso.store(tso.0, Ordering::Relaxed);
        self.watermark_ms.store(tso.physical_ms(), Ordering::Relaxed);
    }

    pub fn advance_watermark(&self, tso: crate::model::Tso) {
        self.watermark_tso.fetch_max(tso.0, Ordering::Relaxed);
        self.watermark_ms.fetch_max(tso.physical_ms(), Ordering::Relaxed);
    }

    pub fn next_offset(&self) -> Option<i64> {
        known(self.next_offset.load(Ordering::Relaxed))
    }

    pub fn end_offset(&self) -> Option<i64> {
        known(self.end_offset.load(Ordering::Relaxed))
    }

    pub fn start_offset(&self) -> Option<i64> {
        known(self.start_offset.load(Ordering::Relaxed))
    }

    /// Milliseconds since the epoch; None = unknown.
    pub fn watermark_ms(&self) -> Option<i64> {
        known(self.watermark_ms.load(Ordering::Relaxed))
    }

    pub fn watermark_tso(&self) -> Option<u64> {
        Some(self.watermark_tso.load(Ordering::Relaxed)).filter(|tso| *tso != 0)
    }

    /// A number that changes whenever rows have got into the target.
    pub fn done(&self) -> u64 {
        // Not changes: parts of a transaction that always fails at its end are no progress.
        let counters = [&self.rows_copied, &self.transactions_applied, &self.ddl_applied];
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub fn counters(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            rows: of(&self.rows_copied),
            bytes: of(&self.bytes_copied),
            changes: of(&self.changes_applied),
            transactions: of(&self.transactions_applied),
            stream_bytes: of(&self.bytes_applied),
            duplicates: of(&self.duplicates_skipped),
            late: of(&self.late_transactions),
            ddl: of(&self.ddl_applied),
            retries: of(&self.retries),
            batches: of(&self.batches),
            reading_us: of(&self.time.reading_us),
            decoding_us: of(&self.time.decoding_us),
            blocked_us: of(&self.time.blocked_us),
            applying_us: of(&self.time.applying_us),
            ddl_us: of(&self.time.ddl_us),
            throttled_us: self.waits.waited_ms() * 1000,
            next_offset: self.next_offset(),
            end_offset: self.end_offset(),
            watermark_ms: self.watermark_ms(),
        }
    }

    /// The target has acknowledged a batch, for which it was asked for so long.
    pub fn batch_acknowledged(&self, time: std::time::Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.time.applying_us.fetch_add(us, Ordering::Relaxed);
        self.slowest_batch_us.fetch_max(us, Ordering::Relaxed);
    }

    /// The slowest batch since the last call, in microseconds; 0 = there was none.
    pub fn take_slowest_batch_us(&self) -> u64 {
        self.slowest_batch_us.swap(0, Ordering::Relaxed)
    }

    /// Two Drainers seem to write the topic, since now (milliseconds since the epoch).
    pub fn set_twins_since(&self, ms: i64) {
        self.twins_since.store(ms, Ordering::Relaxed);
    }

    pub fn twins_since_ms(&self) -> Option<i64> {
        known(self.twins_since.load(Ordering::Relaxed))
    }

    /// A DDL begins (milliseconds since the epoch), or has come to its end.
    pub fn set_ddl_since(&self, ms: Option<i64>) {
        self.ddl_since.store(ms.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub fn ddl_since_ms(&self) -> Option<i64> {
        known(self.ddl_since.load(Ordering::Relaxed))
    }

    /// None: it works again. Gives what it was before.
    pub fn set_retry(&self, retry: Option<(u32, i64)>) -> Option<(u32, i64)> {
        let mut known = self.retry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut known, retry)
    }

    /// Number and time of the retry that the run waits for.
    pub fn retry(&self) -> Option<(u32, i64)> {
        *self.retry.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How long the topic keeps its messages; None = for ever, or not to be seen.
    pub fn set_retention_ms(&self, ms: Option<i64>) {
        self.retention_ms.store(ms.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub fn retention_ms(&self) -> Option<i64> {
        known(self.retention_ms.load(Ordering::Relaxed))
    }

    /// How long the source keeps old versions that no open transaction holds; None = not to be seen.
    pub fn set_gc_life_ms(&self, ms: Option<i64>) {
        self.gc_life_ms.store(ms.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub fn gc_life_ms(&self) -> Option<i64> {
        known(self.gc_life_ms.load(Ordering::Relaxed))
    }

    /// When the snapshot was taken that is being copied, milliseconds since the epoch.
    pub fn set_snapshot_ms(&self, ms: i64) {
        self.snapshot_ms.store(ms, Ordering::Relaxed);
    }

    /// About when the message was written that the task needs next, milliseconds since the epoch.
    pub fn needs_from_ms(&self) -> Option<i64> {
        self.watermark_ms().or(known(self.snapshot_ms.load(Ordering::Relaxed)))
    }

    /// Rows estimated of all tables (None when of none), number of tables, and of those that are being copied anew.
    pub fn table_totals(&self) -> TableTotals {
        let tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut totals = TableTotals { tables: tables.len() as u64, ..TableTotals::default() };
        for table in tables.values() {
            if let Some(rows) = table.rows_estimated {
                *totals.rows_estimated.get_or_insert(0) += rows;
            }
            totals.copying += u64::from(table.stage.is_some());
            totals.changes_passed += table.changes_passed;
        }
        totals
    }

    /// A comparison of the target's tables has ended with this. What was found before keeps its time.
    pub fn set_drift(&self, found: Vec<Problem>) {
        let mut drift = self.drift.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let since = match &*drift {
            Some((since, before)) if !before.is_empty() && !found.is_empty() => *since,
            _ => crate::store::now_ms(),
        };
        *drift = Some((since, found));
    }

    pub fn drift(&self) -> Option<(i64, Vec<Problem>)> {
        self.drift.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Tells the worker that the store has commands for single tables.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// True once after [`Progress::ask`], and once at the start.
    pub fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// Changes the counters of a table.
    pub fn table(&self, name: &TableName, change: impl FnOnce(&mut TableCounters)) {
        let mut tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match tables.get_mut(name) {
            Some(counters) => change(counters),
            None => change(tables.entry(name.clone()).or_default()),
        }
    }

    /// A copy of every table's counters.
    pub fn tables(&self) -> HashMap<TableName, TableCounters> {
        self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

//! Counters of one running task: written by its worker, read by the API and the metrics. Lost with the process; what must
//! survive is in the store.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

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
            next_offset: AtomicI64::new(UNKNOWN),
            end_offset: AtomicI64::new(UNKNOWN),
            start_offset: AtomicI64::new(UNKNOWN),
            watermark_ms: AtomicI64::new(UNKNOWN),
            watermark_tso: AtomicU64::new(0),
            tables: Mutex::new(HashMap::new()),
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

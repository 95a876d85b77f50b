//! One table of full sync: how it is read and written, and what was counted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::adb::LARGEST_BATCH;
use crate::adb::dialect::TargetTable;
use crate::adb::parameters::Template;
use crate::engine::progress::Progress;
use crate::error::Error;
use crate::full::batch::Frame;
use crate::full::chunk::{Chunk, Handle};
use crate::full::plan::from_clause;
use crate::full::rows;
use crate::model::{Dialect, Table};
use crate::sql::literal;
use crate::task::spec::{ExistingTables, Tuning};

/// How rows meet those that are already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Rows of the source win; writing the same chunk twice changes nothing.
    Replace,
    /// Rows already there win (`existing_tables = keep`); writing twice changes nothing.
    Keep,
    /// No row identity: every write counts, so the table is copied as one unit into an empty table.
    Insert,
}

#[derive(Debug)]
pub struct TableJob {
    pub table: Table,
    pub target: TargetTable,
    pub mode: Mode,
    /// Select expressions in the order of the target's columns.
    select: String,
    pub frame: Frame,
    /// In the target, of this snapshot.
    rows: AtomicI64,
    bytes: AtomicI64,
    /// Read, and not taken by the filter.
    left_out: AtomicI64,
}

impl TableJob {
    pub fn new(
        table: Table,
        target: TargetTable,
        existing: ExistingTables,
        tuning: &Tuning,
    ) -> Result<Self, Error> {
        let mode = match (target.identity.is_none(), existing) {
            (true, _) => Mode::Insert,
            (false, ExistingTables::Keep) => Mode::Keep,
            (false, ExistingTables::Refuse | ExistingTables::Replace) => Mode::Replace,
        };
        let select = rows::select(&table, &target)?;
        let frame = frame(&target, mode, tuning);
        Ok(Self {
            table,
            target,
            mode,
            select,
            frame,
            rows: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
            left_out: AtomicI64::new(0),
        })
    }

    /// Copied as one unit: no chunk of it is finished before all are.
    pub fn is_unit(&self) -> bool {
        self.mode == Mode::Insert
    }

    /// The query that reads a chunk.
    pub fn query(&self, handle: &Handle, chunk: &Chunk) -> String {
        let select = &self.select;
        let from = from_clause(&self.table.name, chunk.partition.as_deref());
        match chunk.bounds.sql(&handle.columns()) {
            Some(condition) => format!("SELECT {select} FROM {from} WHERE {condition}"),
            None => format!("SELECT {select} FROM {from}"),
        }
    }

    /// Adds to the counts of the table and of the task.
    pub fn count(&self, progress: &Progress, rows: i64, bytes: i64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // two's complement: adding a negative number as u64 subtracts
        progress.rows_copied.fetch_add(rows.cast_unsigned(), Ordering::Relaxed);
        progress.bytes_copied.fetch_add(bytes.cast_unsigned(), Ordering::Relaxed);
        progress.table(&self.table.name, |counters| {
            counters.rows_copied = counters.rows_copied.wrapping_add_signed(rows);
            counters.bytes_copied = counters.bytes_copied.wrapping_add_signed(bytes);
        });
    }

    /// Counts rows that the filter does not take.
    pub fn leave_out(&self, rows: i64) {
        self.left_out.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows that were read and not sent.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed).max(0).cast_unsigned()
    }

    /// Forgets what was counted: the copy of the table starts again.
    pub fn forget(&self, progress: &Progress) {
        self.count(progress, -self.rows.load(Ordering::Relaxed), -self.bytes.load(Ordering::Relaxed));
        self.left_out.store(0, Ordering::Relaxed);
    }

    /// Rows and bytes in the target.
    pub fn counted(&self) -> (u64, u64) {
        let counted = |counter: &AtomicI64| counter.load(Ordering::Relaxed).max(0).cast_unsigned();
        (counted(&self.rows), counted(&self.bytes))
    }
}

fn frame(target: &TargetTable, mode: Mode, tuning: &Tuning) -> Frame {
    let columns: Vec<String> = target.columns.iter().map(|column| literal::name(&column.name)).collect();
    let verb = match (mode, target.dialect) {
        (Mode::Replace, _) => "REPLACE INTO",
        (Mode::Keep, Dialect::Adb) => "INSERT IGNORE INTO",
        (Mode::Keep | Mode::Insert, _) => "INSERT INTO",
    };
    let head = format!("{verb} {} ({}) VALUES ", literal::table_name(&target.name), columns.join(","));
    // IGNORE would also let bad values pass; AnalyticDB has no other way and drops them by itself
    let tail = match (mode, target.dialect, columns.first()) {
        (Mode::Keep, Dialect::Mysql, Some(column)) => format!(" ON DUPLICATE KEY UPDATE {column}={column}"),
        _ => String::new(),
    };
    // Parts of a statement that is sent again would be there twice without a row identity.
    let template = match (target.dialect, mode) {
        (Dialect::Adb, _) | (_, Mode::Insert) => None,
        (Dialect::Mysql, Mode::Replace | Mode::Keep) => {
            let parameters = target.columns.iter().map(|column| column.encoder.parameter()).collect();
            Template::new(head.as_bytes(), parameters, b"", tail.as_bytes()).map(Arc::new)
        }
    };
    Frame {
        head: Arc::from(head.into_bytes()),
        tail: Arc::from(tail.into_bytes()),
        template,
        max_rows: u64::from(tuning.batch_rows.max(1)),
        max_bytes: (tuning.batch_bytes as usize).min(LARGEST_BATCH),
    }
}

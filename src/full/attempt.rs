//! What ties the statements of a chunk together: a chunk is finished when it is read to its end and every statement of it was
//! acknowledged; an attempt at a table is over when all its chunks are.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mysql_async::Value as Cell;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::progress::Progress;
use crate::error::{Error, Result};
use crate::full::chunk::{Chunk, Handle};
use crate::full::rows;
use crate::full::table::TableJob;
use crate::model::{LossyCounts, Tso};
use crate::store::{Letter, over_limit};

/// One try at copying a table. The first failure ends it: what is still under way for it is dropped.
#[derive(Debug)]
pub struct Attempt {
    pub stop: CancellationToken,
    failure: Mutex<Option<Error>>,
}

impl Attempt {
    pub fn new(parent: &CancellationToken) -> Self {
        Self { stop: parent.child_token(), failure: Mutex::new(None) }
    }

    pub fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.cancel();
    }

    /// The failure, or `Cancelled` when the run ended.
    pub fn outcome(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None if self.stop.is_cancelled() => Err(Error::cancelled()),
            None => Ok(()),
        }
    }
}

/// Held by everything that belongs to an attempt; the attempt has settled when all are dropped.
pub type Hold = mpsc::Sender<Infallible>;

/// A chunk to be read.
pub struct ChunkJob {
    pub table: Arc<TableJob>,
    pub attempt: Arc<Attempt>,
    pub handle: Arc<Handle>,
    pub n: u32,
    pub chunk: Chunk,
    /// No row of it can be in the target yet.
    pub fresh: bool,
    pub hold: Hold,
}

/// One reading of a chunk.
pub struct Ticket {
    pub table: Arc<TableJob>,
    pub attempt: Arc<Attempt>,
    pub n: u32,
    pub fresh: bool,
    progress: Arc<Progress>,
    /// Statements under way, and one for the reader.
    open: AtomicUsize,
    rows: AtomicU64,
    bytes: AtomicU64,
    left_out: AtomicU64,
    /// What its rows have lost; known once it is read to its end.
    lossy: OnceLock<LossyCounts>,
    /// Rows that the target refused, where they are set aside.
    letters: Mutex<Vec<Letter>>,
    /// How many of them there may be; 0 where they stop the copy.
    most: usize,
    abandoned: AtomicBool,
    counting: Mutex<()>,
    _hold: Hold,
}

impl Ticket {
    pub fn new(job: &ChunkJob, first: bool, progress: &Arc<Progress>, most: usize) -> Self {
        Self {
            table: Arc::clone(&job.table),
            attempt: Arc::clone(&job.attempt),
            n: job.n,
            fresh: job.fresh && first,
            progress: Arc::clone(progress),
            open: AtomicUsize::new(1),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            lossy: OnceLock::new(),
            letters: Mutex::default(),
            most,
            abandoned: AtomicBool::new(false),
            counting: Mutex::new(()),
            _hold: job.hold.clone(),
        }
    }

    /// `shop.orders chunk 12`
    pub fn object(&self) -> String {
        format!("{} chunk {}", self.table.table.name, self.n)
    }

    /// A statement is on its way.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows are in the target.
    pub fn count(&self, rows: u64, bytes: u64) {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.abandoned.load(Ordering::Relaxed) {
            self.rows.fetch_add(rows, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.table.count(&self.progress, rows.cast_signed(), bytes.cast_signed());
        }
    }

    /// A row was read that the table's filter does not take.
    pub fn leave_out(&self) {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.abandoned.load(Ordering::Relaxed) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            self.table.leave_out(1);
        }
    }

    /// Whether refused rows are set aside: their cells are kept until they are acknowledged.
    pub fn keeps_rows(&self) -> bool {
        self.most > 0
    }

    /// Sets a row aside.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_aside(&self, cells: &[Cell], snapshot: Tso, error: Error) -> Result<()> {
        let letter = rows::letter(&self.table.table, &self.table.target, cells, (snapshot, error.clone()))?;
        let Some(letter) = letter else { return Err(error) };
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if letters.len() >= self.most {
            return Err(over_limit(self.most as i64, &error));
        }
        letters.push(letter);
        Ok(())
    }

    pub fn take_letters(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_lossy(&self, lossy: LossyCounts) {
        // Read once.
        let _ = self.lossy.set(lossy);
    }

    pub fn lossy(&self) -> &LossyCounts {
        static NONE: LossyCounts = LossyCounts::NONE;
        self.lossy.get().unwrap_or(&NONE)
    }

    /// True when the chunk is, or will be, read again.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// A statement was acknowledged, or the reader is through. Gives the chunk's rows and bytes, and the rows left
    /// out, to the one that was last.
    pub fn closed(&self) -> Option<(u64, u64, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.open.fetch_sub(1, Ordering::AcqRel) == 1)
            .then(|| (count(&self.rows), count(&self.bytes), count(&self.left_out)))
    }

    /// The chunk will be read again, or not at all: its rows do not count. It is never finished, since the reader's own share stays.
    pub fn abandon(&self) {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.abandoned.swap(true, Ordering::Release) {
            let rows = self.rows.load(Ordering::Relaxed).cast_signed();
            let bytes = self.bytes.load(Ordering::Relaxed).cast_signed();
            self.table.count(&self.progress, -rows, -bytes);
            self.table.leave_out(-self.left_out.load(Ordering::Relaxed).cast_signed());
        }
    }
}

//! Full sync: copies tables as they were at one timestamp of the source (design.md 6, 10.1, 10.13).
//!
//! ```text
//! lane: plan --chunks--> reader: query, encode --statements--> writer: execute --> chunk saved as finished
//! ```
//! Each lane copies one table at a time; readers and writers serve all lanes. Both channels are short, and statements under way
//! are bounded in bytes, so a slow target slows the source down. A chunk is finished when all its statements are acknowledged; a
//! finished chunk is never read again. Chunks carry images of one snapshot, so that writing one twice changes nothing; tables
//! without row identity are copied as one unit into an empty table.
//!
//! What must stay true when [`run`] gives Ok: every row of the snapshot was acknowledged by the target, each table has as many as
//! COUNT(*) says, and no statement of this run is still at work on the target.

mod attempt;
mod batch;
pub mod bounds;
pub mod chunk;
mod copy;
pub mod keyed;
mod memory;
mod plan;
mod read;
mod retry;
mod rows;
mod run;
mod table;
mod text;
mod write;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::adb::dialect::TargetTable;
use crate::adb::throttle::Gate;
use crate::adb::writer::{Use, end_sessions};
use crate::engine::progress::Progress;
use crate::error::{Error, Result};
use crate::full::attempt::ChunkJob;
use crate::full::copy::Copied;
use crate::full::memory::Memory;
use crate::full::run::{Queue, Run};
use crate::full::table::TableJob;
use crate::model::{Dialect, Epoch, MysqlEndpoint, Table, TableName, TaskId, Tso};
use crate::store::{CopyState, Store};
use crate::task::spec::{Spec, TableErrorPolicy, Tuning};
use crate::tidb::{Estimate, Source};

/// Readers of the source at most; they encode, so more of them than processors gain nothing.
const READERS: u32 = 4;

/// A full sync to be run.
#[derive(Clone)]
pub struct FullSync {
    pub store: Store,
    pub task: TaskId,
    pub epoch: Epoch,
    pub source: MysqlEndpoint,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    /// Each table of the source as it was at the snapshot, and what it is on the target. They exist there.
    pub tables: Vec<(Table, TargetTable)>,
    /// T
    pub snapshot: Tso,
    pub spec: Arc<Spec>,
    pub progress: Arc<Progress>,
    /// What its sessions on the target are opened for: at the end only these are ended.
    pub sessions: Use,
    /// Every statement passes it.
    pub gate: Gate,
    /// After a cancel no new statement is issued; those in flight are awaited for ten seconds.
    pub cancel: CancellationToken,
    /// Once cancelled, no further chunk and no further table is begun: [`Summary::drained`] says whether something is left. A table
    /// that is copied as one unit is copied to its end.
    pub drain: CancellationToken,
}

/// What a full sync did. Counts include earlier runs at the same snapshot.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub tables: usize,
    pub rows: u64,
    /// Bytes of statements.
    pub bytes: u64,
    /// Tables set aside under `errors.table = stop_table`, and why.
    pub stopped: Vec<(TableName, Error)>,
    /// It was asked to drain, and left something to do.
    pub drained: bool,
}

/// Copies what is not yet copied at this snapshot. Sessions of earlier runs must have been ended (`adb::writer::end_sessions`): a
/// statement of theirs could fill a table that is being emptied here.
///
/// # Errors
/// `SnapshotLost`: a new snapshot must be taken, and the copy starts again with it. `Cancelled`, `Fenced`. Any other error that
/// policy does not retry or whose retry clock has run out, with the table and chunk it happened to.
pub async fn run(job: FullSync) -> Result<Summary> {
    let connections = job.spec.tuning.connections.max(1);
    let readers = connections.min(READERS) as usize;
    // a statement under way is in our buffer and in that of the connection
    let memory = Memory::new(job.spec.tuning.memory_bytes / 2, connections as usize + readers);
    let mut tuning = job.spec.tuning;
    let share = job.spec.tuning.memory_bytes / (4 * readers as u64);
    tuning.batch_bytes = tuning.batch_bytes.min(u32::try_from(share).unwrap_or(u32::MAX)).max(1);
    let tables = seeded_tables(&job, &tuning).await?;
    let estimates = estimates(&job, &tables).await;
    let queue = ordered(&tables, &estimates);
    let run = Arc::new(Run::new(job, memory, estimates));

    let mut parts = JoinSet::new();
    let (chunk_sender, chunk_receiver) = mpsc::channel(readers);
    let (batch_sender, batch_receiver) = mpsc::channel(connections as usize);
    let lanes =
        Arc::new(Lanes { queue: Mutex::new(queue), stopped: Mutex::default(), left: AtomicBool::new(false) });
    for _ in 0..readers {
        parts.spawn(lane(Arc::clone(&run), Arc::clone(&lanes), chunk_sender.clone()));
    }
    drop(chunk_sender);
    let chunks = Queue::new(chunk_receiver);
    for _ in 0..readers {
        parts.spawn(read::reader(Arc::clone(&run), chunks.clone(), batch_sender.clone()));
    }
    drop((batch_sender, chunks));
    let batches = Queue::new(batch_receiver);
    for _ in 0..connections {
        parts.spawn(write::writer(Arc::clone(&run), batches.clone()));
    }
    drop(batches);
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended {
            run.fail(run::panicked(&error));
        }
    }
    run.outcome()?;
    let job = &run.job;
    end_sessions(&job.target, job.dialect, &job.store, &job.task, job.epoch, Some(job.sessions)).await?;
    let stopped = std::mem::take(&mut *lanes.stopped.lock().unwrap_or_else(PoisonError::into_inner));
    let (rows, bytes) = tables
        .iter()
        .map(|table| table.counted())
        .fold((0, 0), |(rows, bytes), counted| (rows + counted.0, bytes + counted.1));
    let drained = lanes.left.load(Ordering::Relaxed);
    Ok(Summary { tables: tables.len() - stopped.len(), rows, bytes, stopped, drained })
}

/// The tables with the counts of earlier runs at this snapshot, which `progress` then shows.
async fn seeded_tables(job: &FullSync, tuning: &Tuning) -> Result<Vec<Arc<TableJob>>> {
    let saved: HashMap<TableName, _> = job
        .store
        .copy_tables(&job.task)
        .await?
        .into_iter()
        .map(|saved| (saved.name.clone(), saved))
        .collect();
    let mut tables = Vec::with_capacity(job.tables.len());
    for (table, target) in &job.tables {
        let table = TableJob::new(table.clone(), target.clone(), job.spec.existing_tables, tuning)?;
        let name = &table.table.name;
        // a former run in this process has counted too
        job.progress.table(name, |counters| {
            job.progress.rows_copied.fetch_sub(std::mem::take(&mut counters.rows_copied), Ordering::Relaxed);
            job.progress
                .bytes_copied
                .fetch_sub(std::mem::take(&mut counters.bytes_copied), Ordering::Relaxed);
        });
        if let Some(saved) = saved.get(name).filter(|saved| {
            saved.snapshot == job.snapshot && (!table.is_unit() || saved.state == CopyState::Done)
        }) {
            table.count(&job.progress, saved.rows_copied.cast_signed(), saved.bytes_copied.cast_signed());
            table.leave_out(saved.rows_left_out.cast_signed());
            job.progress.table(name, |counters| {
                counters.rows_estimated = saved.rows_expected.or(saved.rows_estimated);
            });
        }
        tables.push(Arc::new(table));
    }
    Ok(tables)
}

/// Statistics only help to cut evenly and to show progress: without them the copy goes on.
async fn estimates(job: &FullSync, tables: &[Arc<TableJob>]) -> HashMap<TableName, Estimate> {
    let names: Vec<TableName> = tables.iter().map(|table| table.table.name.clone()).collect();
    Source::new(job.source.clone()).estimates(&names).await.unwrap_or_else(|error| {
        tracing::warn!(task.id = %job.task, phase = "full", %error, "no row estimates");
        HashMap::new()
    })
}

/// The largest first, so that none of them is left alone at the end.
fn ordered(tables: &[Arc<TableJob>], estimates: &HashMap<TableName, Estimate>) -> VecDeque<Arc<TableJob>> {
    let bytes = |table: &Arc<TableJob>| estimates.get(&table.table.name).map_or(0, |estimate| estimate.bytes);
    let mut tables = tables.to_vec();
    tables.sort_by_key(|table| std::cmp::Reverse(bytes(table)));
    tables.into()
}

/// The tables that lanes take from, and those they set aside.
struct Lanes {
    queue: Mutex<VecDeque<Arc<TableJob>>>,
    stopped: Mutex<Vec<(TableName, Error)>>,
    /// Something is left to do, because the run was asked to drain.
    left: AtomicBool,
}

async fn lane(run: Arc<Run>, lanes: Arc<Lanes>, chunks: mpsc::Sender<ChunkJob>) {
    while !run.stop.is_cancelled() {
        let next = lanes.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(table) = next else { return };
        if run.job.drain.is_cancelled() {
            return lanes.left.store(true, Ordering::Relaxed);
        }
        let name = &table.table.name;
        let error = match copy::copy_table(&run, &table, &chunks).await {
            Ok(Copied::Whole) => continue,
            Ok(Copied::Drained) => return lanes.left.store(true, Ordering::Relaxed),
            Err(error) => error,
        };
        let error = error.object(name);
        if !(run.job.spec.errors.table == TableErrorPolicy::StopTable && error.concerns_one_table()) {
            return run.fail(error);
        }
        tracing::error!(task.id = %run.job.task, phase = "full", table = %name, %error, "table stopped");
        if let Err(error) = run.job.store.end_copy(&run.job.task, run.job.epoch, name, Err(&error)).await {
            return run.fail(error);
        }
        lanes.stopped.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), error));
    }
}

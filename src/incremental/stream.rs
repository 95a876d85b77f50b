//! The loop of incremental sync: read, fold, apply, checkpoint.
//!
//! While one batch is applied the next is folded; a batch leaves as soon as the writer is free. The durable checkpoint
//! moves only over what is acknowledged. DDL is a barrier. Whatever fails ends the loop with an error: the worker starts again
//! from the checkpoint, so there is one path for a crash, a lost connection and a retry.

mod late;
mod look_ahead;
mod messages;
mod standing;
mod tables;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::standing::Resyncs;
use self::tables::Target;
use super::batch::{Batch, Limits, pieces};
use super::catalog::Catalog;
use super::keyless::Keyless;
use super::lag::{Look, Pending};
use crate::adb::LARGEST_BATCH;
use crate::adb::writer::Writer;
use crate::binlog::{ChangeSource, Incoming, Malformed, RawMessage, SeenSet, Topic};
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result};
use crate::model::{LossyCounts, Offset, Position, TableName, Tso, Zone};
use crate::store::Checkpoint;

/// A checkpoint is saved at most this often; a crash repeats that much work.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// Items of one IN list (target-adb-and-dts.md 3.3).
const IN_LIST: usize = 2000;

/// How long the last batch may take once the run is over.
const LAST_BATCH: Duration = Duration::from_secs(10);

type InFlight = JoinHandle<(Writer, Keyless, Batch, Result<()>)>;

/// How far a stream beside the main one may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    pub offset: Offset,
    /// The main stream waits there.
    pub last: bool,
}

/// Incremental sync of one run of a task.
pub struct Stream<S> {
    pub(super) context: WorkerContext,
    pub(super) source: S,
    pub(super) catalog: Catalog,
    pub(super) topic: Topic,
    zone: Arc<Zone>,
    seen: SeenSet,
    /// Transactions up to here are in the snapshot.
    snapshot: Tso,
    writer: Option<(Writer, Keyless)>,
    in_flight: Option<(InFlight, Position)>,
    /// Of a batch that was refused: sent one by one before the position moves.
    parts: VecDeque<Batch>,
    batch: Batch,
    /// Bytes of one batch.
    batch_bytes: usize,
    layouts: HashMap<Vec<u8>, Target>,
    scratch: Vec<u8>,
    /// After the last message read.
    read: Position,
    /// After the last message whose changes are acknowledged.
    applied: Position,
    /// As in the store.
    pub(super) saved: Position,
    saved_watermark: Tso,
    saved_at: Instant,
    /// What applied rows have lost since the checkpoint was saved.
    lossy: HashMap<TableName, LossyCounts>,
    recovered: bool,
    /// Catches one table up beside the main stream: it keeps no position, and DDL is not its business.
    side: bool,
    resyncs: Resyncs,
    looks: watch::Receiver<Look>,
    pending: Pending,
}

impl<S: ChangeSource> Stream<S> {
    /// `seen` holds the messages before the checkpoint as far as they were read back; `source` delivers from the checkpoint.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        context: WorkerContext,
        topic: Topic,
        source: S,
        catalog: Catalog,
        seen: SeenSet,
        writer: Writer,
        checkpoint: &Checkpoint,
        zone: Zone,
        looks: watch::Receiver<Look>,
    ) -> Self {
        let start = format!("{}:{}", checkpoint.snapshot, checkpoint.start_offset);
        let keyless = Keyless::new(&context.task, &start);
        let batch_bytes = (context.spec.tuning.memory_bytes / 16).clamp(1 << 20, 64 << 20) as usize;
        context.progress.set_next_offset(checkpoint.position.next_offset.0);
        if checkpoint.watermark.0 > 0 {
            context.progress.advance_watermark(checkpoint.watermark);
        }
        Self {
            source,
            catalog,
            topic,
            zone: Arc::new(zone),
            seen,
            snapshot: checkpoint.snapshot,
            writer: Some((writer, keyless)),
            in_flight: None,
            parts: VecDeque::new(),
            batch: Batch::default(),
            batch_bytes,
            layouts: HashMap::new(),
            scratch: Vec::new(),
            read: checkpoint.position,
            applied: checkpoint.position,
            saved: checkpoint.position,
            saved_watermark: checkpoint.watermark,
            saved_at: Instant::now(),
            lossy: HashMap::new(),
            recovered: false,
            side: false,
            resyncs: Resyncs::default(),
            looks,
            pending: Pending::default(),
            context,
        }
    }

    /// Follows the stream until cancelled (`Cancelled`, checkpoint saved) or failed.
    pub async fn run(&mut self) -> Result<()> {
        let result = self.follow().await;
        self.end_resync().await;
        // Nothing may be in flight when this run is over; its outcome counts when it is a success.
        if let Some((mut handle, position)) = self.in_flight.take() {
            match tokio::time::timeout(LAST_BATCH, &mut handle).await {
                Ok(Ok((writer, keyless, batch, Ok(())))) if self.parts.is_empty() => {
                    self.writer = Some((writer, keyless));
                    self.acknowledge_rows(&batch);
                    self.acknowledge(position);
                }
                Ok(_) => {}
                // The target holds it: the next run ends its sessions there before it writes.
                Err(_) => handle.abort(),
            }
        }
        // What was read before a message that stops the task is in the target when it stops. Without a writer it was the writing
        // that failed.
        if let Err(error) = &result
            && error.policy() == Policy::Stop
            && self.writer.is_some()
            && let Err(also) = self.flush().await
        {
            tracing::warn!(task.id = %self.context.task, error = %also, "the changes before the stop are not in the target");
        }
        match &result {
            Err(error) if error.kind == ErrorKind::Fenced => {}
            _ => self.save().await?,
        }
        if let Some((writer, _)) = self.writer.take() {
            writer.close().await;
        }
        result
    }

    async fn follow(&mut self) -> Result<()> {
        let cancel = self.context.cancel.clone();
        let mut tick = tokio::time::interval(CHECKPOINT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.finish_swaps().await?;
        self.tidy().await?;
        loop {
            self.dispatch();
            let room = self.batch.bytes() < self.batch_bytes;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                _ = tick.tick() => self.tick().await?,
                landed = landing(&mut self.in_flight) => self.landed(landed).await?,
                Ok(()) = self.looks.changed() => self.look(),
                incoming = self.source.next(), if room => {
                    if let Incoming::Message(message) = incoming? {
                        self.message(message).await?;
                    }
                }
            }
        }
    }

    /// Sends the batch when the writer is free.
    fn dispatch(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        if self.batch.is_empty() {
            // Only messages that change nothing here: they are as good as applied.
            self.count_messages();
            self.applied = self.read;
            self.context.progress.set_next_offset(self.applied.next_offset.0);
            return;
        }
        if self.writer.is_some() {
            let batch = std::mem::take(&mut self.batch);
            self.send(batch, self.read);
        }
    }

    fn send(&mut self, batch: Batch, position: Position) {
        let Some((mut writer, mut keyless)) = self.writer.take() else { return };
        let tuning = self.context.spec.tuning;
        let limits = Limits {
            rows: tuning.batch_rows.max(1) as usize,
            bytes: (tuning.batch_bytes as usize).min(LARGEST_BATCH),
            keys: (tuning.batch_rows.max(1) as usize).min(IN_LIST),
            connections: writer.connections(),
        };
        let handle = tokio::spawn(async move {
            let batch = Arc::new(batch);
            let result = apply(&mut writer, &mut keyless, &batch, limits).await;
            // Every statement has let go of the batch by now.
            let batch = Arc::try_unwrap(batch).unwrap_or_default();
            (writer, keyless, batch, result)
        });
        self.in_flight = Some((handle, position));
    }

    fn count_messages(&mut self) {
        let progress = &self.context.progress;
        progress.transactions_applied.fetch_add(std::mem::take(&mut self.batch.transactions), Relaxed);
        progress.bytes_applied.fetch_add(std::mem::take(&mut self.batch.message_bytes), Relaxed);
    }

    async fn landed(&mut self, landed: Result<(Writer, Keyless, Batch, Result<()>)>) -> Result<()> {
        let Some((_, position)) = self.in_flight.take() else { return Ok(()) };
        let (writer, keyless, mut batch, result) = landed?;
        if let Err(error) = result {
            // Nothing of the batch is under way any more, and all of it but the guilty table's can be sent again.
            let target = error.object.clone().unwrap_or_default();
            if let Some(guilty) = batch.source_of(&target).cloned() {
                self.table_failed(&guilty, error).await?;
                batch.remove(&guilty);
            } else {
                let parts = if self.stops_table(&error) { batch.split(&target) } else { Vec::new() };
                if parts.is_empty() {
                    return Err(error);
                }
                self.parts.extend(parts);
            }
            self.writer = Some((writer, keyless));
            self.send(batch, position);
            return Ok(());
        }
        self.writer = Some((writer, keyless));
        self.acknowledge_rows(&batch);
        match self.parts.pop_front() {
            Some(part) => self.send(part, position),
            None => self.acknowledge(position),
        }
        Ok(())
    }

    fn acknowledge(&mut self, position: Position) {
        self.applied = position;
        self.context.progress.set_next_offset(position.next_offset.0);
    }

    fn acknowledge_rows(&mut self, batch: &Batch) {
        let progress = &self.context.progress;
        progress.changes_applied.fetch_add(batch.changes, Relaxed);
        progress.transactions_applied.fetch_add(batch.transactions, Relaxed);
        progress.bytes_applied.fetch_add(batch.message_bytes, Relaxed);
        for table in &batch.tables {
            progress.table(&table.layout.source, |counters| {
                counters.changes_applied += table.changes;
                counters.last_commit_ms = Some(table.last_commit_ms);
            });
            if !table.lossy.is_empty() {
                self.lossy.entry(table.layout.source.clone()).or_default().merge(&table.lossy);
            }
        }
    }

    /// Follows beside the main stream, never past it, until that waits and both stand at one offset. `reached` hears of every
    /// position. Gives what the rows have lost on their way.
    pub async fn catch_up(
        mut self,
        until: watch::Receiver<Until>,
        reached: impl Fn(Position),
    ) -> Result<LossyCounts> {
        self.side = true;
        let result = self.keep_near(until, reached).await;
        if let Some((handle, _)) = self.in_flight.take() {
            handle.abort();
            // Only its being over counts: nothing may write to the copy of the next try.
            let _ = handle.await;
        }
        if let Some((writer, _)) = self.writer.take() {
            writer.close().await;
        }
        result?;
        let mut lossy = LossyCounts::default();
        self.lossy.values().for_each(|counts| lossy.merge(counts));
        Ok(lossy)
    }

    async fn keep_near(
        &mut self,
        mut until: watch::Receiver<Until>,
        reached: impl Fn(Position),
    ) -> Result<()> {
        let cancel = self.context.cancel.clone();
        let mut held: Option<RawMessage> = None;
        loop {
            let goal = *until.borrow_and_update();
            if let Some(message) = held.take_if(|message| message.offset < goal.offset) {
                self.message(message).await?;
                continue;
            }
            self.dispatch();
            let idle = self.in_flight.is_none();
            if idle {
                reached(self.applied);
            }
            // An offset that no message has is behind the one that is held.
            let there = held.is_some() || self.read.next_offset >= goal.offset;
            if there && idle && goal.last {
                return Ok(());
            }
            let room = !there && self.batch.bytes() < self.batch_bytes;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                landed = landing(&mut self.in_flight) => self.landed(landed).await?,
                Ok(()) = until.changed() => {}
                incoming = self.source.next(), if room => {
                    if let Incoming::Message(message) = incoming? {
                        held = Some(message);
                    }
                }
            }
        }
    }

    /// Waits until everything read so far is acknowledged.
    pub(super) async fn flush(&mut self) -> Result<()> {
        loop {
            self.dispatch();
            if self.in_flight.is_none() {
                return Ok(());
            }
            let cancel = self.context.cancel.clone();
            let landed = tokio::select! {
                biased;
                landed = landing(&mut self.in_flight) => landed,
                () = held(&cancel) => return Err(Error::cancelled()),
            };
            self.landed(landed).await?;
        }
    }

    /// Layouts are made anew after the catalog has changed.
    pub(super) fn catalog_changed(&mut self) {
        self.layouts.clear();
    }

    pub(super) fn writer(&mut self) -> Result<&mut Writer> {
        self.writer
            .as_mut()
            .map(|(writer, _)| writer)
            .ok_or_else(|| Error::internal("DDL while a batch is being written"))
    }

    fn look(&mut self) {
        let look = *self.looks.borrow_and_update();
        self.context.progress.set_log_range(look.start.0, look.end.0);
        self.pending.push(look);
    }

    pub(super) fn watermark(&self) -> Tso {
        Tso(self.context.progress.watermark_tso().unwrap_or(0))
    }

    async fn tick(&mut self) -> Result<()> {
        if let Some(reached) = self.pending.reached(self.applied.next_offset) {
            self.context.progress.advance_watermark(reached);
        }
        // Drainer sends in the order of commit: before this transaction everything is here.
        if self.applied.commit_ts > self.snapshot {
            self.context.progress.advance_watermark(Tso(self.applied.commit_ts.0.saturating_sub(1)));
        }
        if self.saved_at.elapsed() >= CHECKPOINT_EVERY {
            self.save().await?;
        }
        let end = self.context.progress.end_offset();
        if end.is_some_and(|end| self.applied.next_offset.0 >= end) {
            self.recovered().await?;
        }
        self.tend_tables().await
    }

    /// Makes the applied position durable.
    async fn save(&mut self) -> Result<()> {
        let watermark = self.watermark();
        // An idle task saves its watermark about once a minute.
        let idle = self.applied.next_offset == self.saved.next_offset;
        if idle
            && self.lossy.is_empty()
            && watermark.physical_ms() - self.saved_watermark.physical_ms() < 60_000
        {
            return Ok(());
        }
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        store.advance_with(task, epoch, self.saved, self.applied, watermark, &self.lossy).await?;
        self.lossy.clear();
        self.moved(self.applied, watermark);
        self.recovered().await
    }

    /// Retries are over once there is progress, or nothing to do; not with a mere login.
    async fn recovered(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.recovered, true) {
            self.context.store.worker_recovered(&self.context.task, self.context.epoch).await?;
        }
        Ok(())
    }

    /// The store has the position.
    pub(super) fn moved(&mut self, position: Position, watermark: Tso) {
        self.saved = position;
        self.saved_watermark = watermark;
        self.saved_at = Instant::now();
    }
}

/// A while after the run was asked to end.
async fn held(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// The batch in flight, or never.
async fn landing(
    in_flight: &mut Option<(InFlight, Position)>,
) -> Result<(Writer, Keyless, Batch, Result<()>)> {
    match in_flight {
        Some((handle, _)) => {
            handle.await.map_err(|error| Error::internal(format!("the writer ended: {error}")))
        }
        None => std::future::pending().await,
    }
}

async fn apply(writer: &mut Writer, keyless: &mut Keyless, batch: &Arc<Batch>, limits: Limits) -> Result<()> {
    let [first, second] = pieces(batch, limits);
    writer.run(first).await?;
    writer.run(second).await?;
    if batch.has_keyless() {
        keyless.apply(writer, batch, (limits.rows, limits.bytes)).await?;
    }
    Ok(())
}

fn corrupt(fault: Malformed) -> Error {
    Error::new(ErrorKind::CorruptMessage, format!("not a message of Drainer: {fault}"))
        .endpoint(Endpoint::Kafka)
        .hint("look at the message in the topic: only one Drainer may write to it, and nothing else")
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::CorruptMessage, "a table's name is not UTF-8"))
}

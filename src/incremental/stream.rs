//! The loop of incremental sync: read, fold, apply, checkpoint.
//!
//! While one batch is applied the next is folded; a batch leaves as soon as the writer is free. The durable checkpoint
//! moves only over what is acknowledged. DDL is a barrier. Whatever fails ends the loop with an error: the worker starts again
//! from the checkpoint, so there is one path for a crash, a lost connection and a retry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::batch::{Batch, Limits, pieces};
use super::catalog::{Catalog, Resolved};
use super::keyless::Keyless;
use super::lag::{Look, Pending};
use super::layout::Layout;
use crate::adb::writer::Writer;
use crate::binlog::message::{Kind, Message, TableChange};
use crate::binlog::seen::{Observation, SeenSet};
use crate::binlog::source::{ChangeSource, RawMessage};
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::zone::Zone;
use crate::model::{Dialect, Offset, Position, TableName, Tso};
use crate::store::Checkpoint;

/// A checkpoint is saved at most this often; a crash repeats that much work.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// Items of one IN list (target-adb-and-dts.md 3.3).
const IN_LIST: usize = 2000;

/// Mutations between two looks at the batch's size within one message.
const LOOK_EVERY: u64 = 256;

type InFlight = JoinHandle<(Writer, Keyless, Batch, Result<()>)>;

/// Incremental sync of one run of a task.
pub struct Stream<S> {
    pub(super) context: WorkerContext,
    pub(super) source: S,
    pub(super) catalog: Catalog,
    pub(super) topic: String,
    zone: Arc<Zone>,
    seen: SeenSet,
    /// Transactions up to here are in the snapshot.
    snapshot: Tso,
    writer: Option<(Writer, Keyless)>,
    in_flight: Option<(InFlight, Position)>,
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
    looks: watch::Receiver<Look>,
    pending: Pending,
}

/// Where the rows of a message table go.
#[derive(Debug, Clone)]
enum Target {
    Layout(Arc<Layout>),
    Skip,
}

impl<S: ChangeSource> Stream<S> {
    /// `seen` holds the messages before the checkpoint as far as they were read back; `source` delivers from the checkpoint.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        context: WorkerContext,
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
        let batch_bytes = (context.spec.tuning.memory_bytes / 4).clamp(1 << 20, 256 << 20) as usize;
        context.progress.set_next_offset(checkpoint.position.next_offset.0);
        if checkpoint.watermark.0 > 0 {
            context.progress.advance_watermark(checkpoint.watermark);
        }
        Self {
            source,
            catalog,
            topic: checkpoint.topic.clone(),
            zone: Arc::new(zone),
            seen,
            snapshot: checkpoint.snapshot,
            writer: Some((writer, keyless)),
            in_flight: None,
            batch: Batch::default(),
            batch_bytes,
            layouts: HashMap::new(),
            scratch: Vec::new(),
            read: checkpoint.position,
            applied: checkpoint.position,
            saved: checkpoint.position,
            saved_watermark: checkpoint.watermark,
            saved_at: Instant::now(),
            looks,
            pending: Pending::default(),
            context,
        }
    }

    /// Follows the stream until cancelled (`Cancelled`, checkpoint saved) or failed.
    pub async fn run(&mut self) -> Result<()> {
        let result = self.follow().await;
        // Nothing may be in flight when this run is over; its outcome counts when it is a success.
        if let Some((handle, position)) = self.in_flight.take()
            && let Ok((writer, keyless, batch, Ok(()))) = handle.await
        {
            self.writer = Some((writer, keyless));
            self.acknowledge(&batch, position);
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
        loop {
            self.dispatch();
            let room = self.batch.bytes() < self.batch_bytes;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                _ = tick.tick() => self.tick().await?,
                landed = landing(&mut self.in_flight) => self.landed(landed)?,
                Ok(()) = self.looks.changed() => self.look(),
                message = self.source.next(), if room => self.message(message?).await?,
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
        let Some((mut writer, mut keyless)) = self.writer.take() else { return };
        let batch = std::mem::take(&mut self.batch);
        let tuning = self.context.spec.tuning;
        let limits = Limits {
            rows: tuning.batch_rows.max(1) as usize,
            bytes: tuning.batch_bytes as usize,
            keys: (tuning.batch_rows.max(1) as usize).min(IN_LIST),
            connections: writer.connections(),
        };
        let position = self.read;
        let handle = tokio::spawn(async move {
            let batch = Arc::new(batch);
            let result = apply(&mut writer, &mut keyless, &batch, limits, position).await;
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

    fn landed(&mut self, landed: Result<(Writer, Keyless, Batch, Result<()>)>) -> Result<()> {
        let Some((_, position)) = self.in_flight.take() else { return Ok(()) };
        let (writer, keyless, batch, result) = landed?;
        result?;
        self.writer = Some((writer, keyless));
        self.acknowledge(&batch, position);
        Ok(())
    }

    fn acknowledge(&mut self, batch: &Batch, position: Position) {
        let progress = &self.context.progress;
        progress.changes_applied.fetch_add(batch.changes, Relaxed);
        progress.transactions_applied.fetch_add(batch.transactions, Relaxed);
        progress.bytes_applied.fetch_add(batch.message_bytes, Relaxed);
        for table in &batch.tables {
            progress.table(&table.layout.source, |counters| {
                counters.changes_applied += table.changes;
                counters.last_commit_ms = Some(table.last_commit_ms);
            });
        }
        self.applied = position;
        progress.set_next_offset(position.next_offset.0);
    }

    /// Waits until everything read so far is acknowledged.
    pub(super) async fn flush(&mut self) -> Result<()> {
        loop {
            self.dispatch();
            if self.in_flight.is_none() {
                return Ok(());
            }
            let landed = landing(&mut self.in_flight).await;
            self.landed(landed)?;
        }
    }

    async fn message(&mut self, raw: RawMessage) -> Result<()> {
        let offset = raw.offset;
        let place = |error: Error, topic: &str| error.endpoint(Endpoint::Kafka).object(format!("topic {topic} offset {offset}"));
        let corrupt = |fault: String| {
            Error::new(ErrorKind::CorruptMessage, fault)
                .hint("look at the message (/messages?offset=); only a Drainer may write to this topic")
        };
        let payload = raw.payload();
        let message = Message::parse(payload).map_err(|fault| place(corrupt(fault.to_string()), &self.topic))?;
        let counts = message.validate().map_err(|fault| place(corrupt(fault.to_string()), &self.topic))?;
        let commit_ts = message.commit_ts;
        match self.seen.observe(&message, offset, &counts, payload) {
            Observation::New => {}
            Observation::Duplicate => {
                self.context.progress.duplicates_skipped.fetch_add(1, Relaxed);
                self.passed(offset, commit_ts);
                return Ok(());
            }
            Observation::Late | Observation::BelowWindow if commit_ts > self.snapshot => {
                self.context.progress.late_transactions.fetch_add(1, Relaxed);
                return Err(place(
                    Error::new(
                        ErrorKind::PositionLost,
                        format!("transaction {commit_ts} comes after newer ones and was never seen"),
                    )
                    .hint("the broker or Drainer changed the order; copy the tables again with a new task"),
                    &self.topic,
                ));
            }
            Observation::Late | Observation::BelowWindow => {}
            Observation::Conflict => {
                return Err(place(
                    Error::new(ErrorKind::CorruptMessage, format!("a second, different transaction {commit_ts}"))
                        .hint("two Drainers write this topic, or its filter was changed: give each its own topic"),
                    &self.topic,
                ));
            }
        }
        if commit_ts <= self.snapshot {
            self.passed(offset, commit_ts);
            return Ok(());
        }
        match &message.kind {
            Kind::Dml(tables) => {
                for table in tables.iter() {
                    let table = table.map_err(|fault| place(corrupt(fault.to_string()), &self.topic))?;
                    self.table(&table, offset, commit_ts).await.map_err(|error| place(error, &self.topic))?;
                }
                self.batch.transactions += 1;
                self.batch.message_bytes += payload.len() as u64;
                self.passed(offset, commit_ts);
            }
            Kind::Ddl(ddl) => {
                self.flush().await?;
                let after = self.after(offset, commit_ts);
                self.ddl(ddl, offset, commit_ts, Some(after)).await.map_err(|error| place(error, &self.topic))?;
                self.read = after;
                self.applied = after;
                self.context.progress.set_next_offset(after.next_offset.0);
            }
            Kind::Resolved => self.passed(offset, Tso(0)),
        }
        Ok(())
    }

    fn after(&self, offset: Offset, commit_ts: Tso) -> Position {
        Position { next_offset: Offset(offset.0 + 1), commit_ts: self.read.commit_ts.max(commit_ts) }
    }

    fn passed(&mut self, offset: Offset, commit_ts: Tso) {
        self.read = self.after(offset, commit_ts);
    }

    async fn table(&mut self, table: &TableChange<'_>, offset: Offset, commit_ts: Tso) -> Result<()> {
        let Target::Layout(layout) = self.target(table).await? else { return Ok(()) };
        let mut slot = self.slot(&layout).await?;
        let mut until_look = LOOK_EVERY;
        for mutation in table.mutations() {
            let mutation = mutation.map_err(|fault| Error::new(ErrorKind::CorruptMessage, fault.to_string()))?;
            self.batch.fold(slot, &mutation, offset.0, commit_ts.physical_ms())?;
            until_look -= 1;
            if until_look == 0 {
                until_look = LOOK_EVERY;
                // A transaction larger than a batch goes out in parts; the position moves only after the last.
                // What must not be repeated stays in one part.
                if self.batch.bytes() > self.batch_bytes && !self.batch.has_keyless() {
                    self.flush().await?;
                    slot = self.slot(&layout).await?;
                }
            }
        }
        Ok(())
    }

    async fn slot(&mut self, layout: &Arc<Layout>) -> Result<usize> {
        if let Some(slot) = self.batch.slot(layout) {
            return Ok(slot);
        }
        self.flush().await?;
        self.batch.slot(layout).ok_or_else(|| Error::internal("an empty batch has no place for a table"))
    }

    async fn target(&mut self, table: &TableChange<'_>) -> Result<Target> {
        self.scratch.clear();
        for part in [table.schema, table.table, table.columns_bytes()] {
            self.scratch.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.scratch.extend_from_slice(part);
        }
        if let Some(target) = self.layouts.get(&self.scratch) {
            return Ok(target.clone());
        }
        let key = std::mem::take(&mut self.scratch);
        let name = TableName::new(text(table.schema)?, text(table.table)?);
        let target = match self.catalog.resolve(&name)? {
            Resolved::Table(tracked) => Target::Layout(Arc::new(Layout::new(
                &tracked.source,
                &tracked.target,
                &table.columns,
                &self.zone,
                tracked.keep_other_columns,
            )?)),
            Resolved::Unselected | Resolved::Dropped => Target::Skip,
            Resolved::Unknown => {
                return Err(Error::new(ErrorKind::SchemaMismatch, "rows of a table that the task has never seen")
                    .object(name)
                    .hint("it may have been renamed or restored without an event; copy it again with a new task"));
            }
        };
        if let Target::Layout(layout) = &target
            && layout.keyless
            && self.context.dialect == Dialect::Adb
        {
            return Err(Error::new(ErrorKind::Configuration, "AnalyticDB cannot match rows of a table without a key")
                .object(name)
                .hint("give the table a primary key, or exclude it"));
        }
        self.layouts.insert(key, target.clone());
        Ok(target)
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
        Ok(())
    }

    /// Makes the applied position durable.
    async fn save(&mut self) -> Result<()> {
        let watermark = self.watermark();
        // An idle task saves its watermark about once a minute.
        let idle = self.applied.next_offset == self.saved.next_offset;
        if idle && watermark.physical_ms() - self.saved_watermark.physical_ms() < 60_000 {
            return Ok(());
        }
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        store.advance(task, epoch, self.saved, self.applied, watermark).await?;
        self.moved(self.applied, watermark);
        Ok(())
    }

    pub(super) fn moved(&mut self, position: Position, watermark: Tso) {
        self.saved = position;
        self.saved_watermark = watermark;
        self.saved_at = Instant::now();
    }
}

/// The batch in flight, or never.
async fn landing(in_flight: &mut Option<(InFlight, Position)>) -> Result<(Writer, Keyless, Batch, Result<()>)> {
    match in_flight {
        Some((handle, _)) => handle.await.map_err(|error| Error::internal(format!("the writer ended: {error}"))),
        None => std::future::pending().await,
    }
}

async fn apply(
    writer: &mut Writer,
    keyless: &mut Keyless,
    batch: &Arc<Batch>,
    limits: Limits,
    position: Position,
) -> Result<()> {
    let [first, second] = pieces(batch, limits);
    writer.run(first).await?;
    writer.run(second).await?;
    if batch.has_keyless() {
        keyless.apply(writer, batch, position.next_offset.0, (limits.rows, limits.bytes)).await?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::CorruptMessage, "a table's name is not UTF-8"))
}

//! The loop of incremental sync: read, fold, apply, checkpoint.
//!
//! While one batch is applied the next is folded; a batch leaves as soon as the writer is free. The durable checkpoint
//! moves only over what is acknowledged. DDL is a barrier. Whatever fails ends the loop with an error: the worker starts again
//! from the checkpoint, so there is one path for a crash, a lost connection and a retry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Limits, Place, pieces};
use super::catalog::{Catalog, Resolved};
use super::keyless::Keyless;
use super::lag::{Look, Pending};
use super::layout::Layout;
use crate::adb::LARGEST_BATCH;
use crate::adb::writer::Writer;
use crate::binlog::{
    ChangeSource, Ddl, Fingerprint, Incoming, Kind, Malformed, Message, RawMessage, Seen, SeenSet, Shape,
    TableChange, Topic, Verdict,
};
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result};
use crate::model::{Dialect, LossyCounts, Offset, Position, TableName, Tso, Zone};
use crate::store::Checkpoint;

/// A checkpoint is saved at most this often; a crash repeats that much work.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// Items of one IN list (target-adb-and-dts.md 3.3).
const IN_LIST: usize = 2000;

/// How long the last batch may take once the run is over.
const LAST_BATCH: Duration = Duration::from_secs(10);

/// How long a DDL is waited for that Drainer is known to have committed before.
const LOOK_AHEAD: Duration = Duration::from_secs(20);

/// Mutations between two looks at the batch's size within one message.
const LOOK_EVERY: u64 = 256;

type InFlight = JoinHandle<(Writer, Keyless, Batch, Result<()>)>;

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
            looks,
            pending: Pending::default(),
            context,
        }
    }

    /// Follows the stream until cancelled (`Cancelled`, checkpoint saved) or failed.
    pub async fn run(&mut self) -> Result<()> {
        let result = self.follow().await;
        // Nothing may be in flight when this run is over; its outcome counts when it is a success.
        if let Some((mut handle, position)) = self.in_flight.take() {
            match tokio::time::timeout(LAST_BATCH, &mut handle).await {
                Ok(Ok((writer, keyless, batch, Ok(())))) => {
                    self.writer = Some((writer, keyless));
                    self.acknowledge(&batch, position);
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
        loop {
            self.dispatch();
            let room = self.batch.bytes() < self.batch_bytes;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                _ = tick.tick() => self.tick().await?,
                landed = landing(&mut self.in_flight) => self.landed(landed)?,
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
        let Some((mut writer, mut keyless)) = self.writer.take() else { return };
        let batch = std::mem::take(&mut self.batch);
        let tuning = self.context.spec.tuning;
        let limits = Limits {
            rows: tuning.batch_rows.max(1) as usize,
            bytes: (tuning.batch_bytes as usize).min(LARGEST_BATCH),
            keys: (tuning.batch_rows.max(1) as usize).min(IN_LIST),
            connections: writer.connections(),
        };
        let position = self.read;
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
            if !table.lossy.is_empty() {
                self.lossy.entry(table.layout.source.clone()).or_default().merge(&table.lossy);
            }
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
            let cancel = self.context.cancel.clone();
            let landed = tokio::select! {
                biased;
                landed = landing(&mut self.in_flight) => landed,
                () = held(&cancel) => return Err(Error::cancelled()),
            };
            self.landed(landed)?;
        }
    }

    async fn message(&mut self, raw: RawMessage) -> Result<()> {
        let place = format!("topic {} offset {}", self.topic.name(), raw.offset);
        self.judge(&raw).await.map_err(|error| {
            // A row's table, when known, is the better object; the place is never left out.
            match error.object.clone() {
                Some(object) if object != place => {
                    Error { object: Some(format!("{place}, {object}")), ..error }
                }
                _ => error.object(place),
            }
        })
    }

    async fn judge(&mut self, raw: &RawMessage) -> Result<()> {
        let offset = raw.offset;
        let message = Message::parse(&raw.payload).map_err(corrupt)?;
        let counts = message.validate().map_err(corrupt)?;
        let commit_ts = message.commit_ts;
        if commit_ts <= self.snapshot || matches!(message.kind, Kind::Resolved) {
            self.passed(offset, Tso(0));
            return Ok(());
        }
        let seen = Seen::new(&Fingerprint::new(&message, &counts), offset, raw.payload.len());
        match self.seen.judge(&seen) {
            Verdict::New => self.take(&message, offset, raw.payload.len() as u64).await?,
            Verdict::Duplicate { .. } => {
                self.context.progress.duplicates_skipped.fetch_add(1, Relaxed);
                self.passed(offset, commit_ts);
            }
            Verdict::Late { newest } => self.late(&message, raw, newest).await?,
            Verdict::BelowWindow { floor } => {
                return Err(Error::new(
                    ErrorKind::PositionLost,
                    format!("transaction {commit_ts} comes again or late, and transactions up to {floor} are no longer remembered"),
                )
                .endpoint(Endpoint::Kafka)
                .hint("a Drainer was set back a long way; start a new task, or let it catch up and move this task's checkpoint"));
            }
            Verdict::Conflict { first } => {
                return Err(Error::new(
                    ErrorKind::CorruptMessage,
                    format!(
                        "a second, different transaction {commit_ts}; the first is at offset {}",
                        first.offset
                    ),
                )
                .endpoint(Endpoint::Kafka)
                .hint("two Drainers write this topic, or its filter was changed: give each its own topic"));
            }
        }
        self.seen.record(seen);
        Ok(())
    }

    /// A message in its place.
    async fn take(&mut self, message: &Message<'_>, offset: Offset, bytes: u64) -> Result<()> {
        match message.kind {
            Kind::Dml(tables) => {
                let mut nth = 0;
                for table in tables {
                    self.table(&table.map_err(corrupt)?, offset, &mut nth, message.commit_ts).await?;
                }
                self.batch.transactions += 1;
                self.batch.message_bytes += bytes;
                self.passed(offset, message.commit_ts);
            }
            Kind::Ddl(ddl) => {
                self.flush().await?;
                if !self.lossy.is_empty() {
                    // The DDL moves the checkpoint itself.
                    self.save().await?;
                }
                let after = self.after(offset, message.commit_ts);
                self.ddl(&ddl, offset, message.commit_ts, Some(after)).await?;
                self.read = after;
                self.applied = after;
                self.context.progress.set_next_offset(after.next_offset.0);
            }
            Kind::Resolved => {}
        }
        Ok(())
    }

    /// A transaction that newer ones have overtaken on their way (source-drainer.md 0.7). It is applied, and then what was
    /// applied of the newer ones is applied again: every key ends with its newest image, whoever came first. A crash
    /// in between repeats both, for the position moves only afterwards.
    async fn late(&mut self, message: &Message<'_>, raw: &RawMessage, newest: Tso) -> Result<()> {
        let commit_ts = message.commit_ts;
        self.context.progress.late_transactions.fetch_add(1, Relaxed);
        tracing::warn!(task.id = %self.context.task, offset = raw.offset.0, %commit_ts, %newest, "late transaction");
        let refuse = |what: &str| {
            Error::new(
                ErrorKind::PositionLost,
                format!("{what} {commit_ts} comes after newer transactions (up to {newest})"),
            )
            .endpoint(Endpoint::Kafka)
            .hint("the broker or Drainer changed the order; copy the tables again with a new task")
        };
        if matches!(message.kind, Kind::Ddl(_)) {
            return Err(refuse("DDL"));
        }
        if self.seen.newer_than(commit_ts).any(|seen| seen.shape() == Shape::Ddl) {
            return Err(refuse("a transaction that belongs before a DDL:"));
        }
        self.flush().await?;
        let newer: HashSet<(Offset, Tso)> =
            self.seen.newer_than(commit_ts).map(|seen| (seen.offset, seen.commit_ts)).collect();
        let before = self.read;
        self.take(message, raw.offset, raw.payload.len() as u64).await?;
        let after = self.read;
        self.read = before;
        self.flush().await?;
        if let Some(first) = newer.iter().map(|(offset, _)| *offset).min() {
            let mut again = self.topic.open(first).await?;
            while let Incoming::Message(old) = again.next().await? {
                if old.offset >= raw.offset {
                    break;
                }
                let message = Message::parse(&old.payload).map_err(corrupt)?;
                // Only first copies, and only of what is newer: the rest is in the target as it should be.
                if !newer.contains(&(old.offset, message.commit_ts)) {
                    continue;
                }
                match message.kind {
                    Kind::Dml(tables) => {
                        let mut nth = 0;
                        for table in tables {
                            self.table(&table.map_err(corrupt)?, old.offset, &mut nth, message.commit_ts)
                                .await?;
                        }
                    }
                    Kind::Ddl(_) | Kind::Resolved => {}
                }
            }
            self.flush().await?;
        }
        self.read = after;
        let detail =
            serde_json::json!({"offset": raw.offset.to_string(), "commit_ts": commit_ts.to_string()});
        self.context
            .store
            .event(Some(&self.context.task), "late_transaction", None, "late transaction applied", detail)
            .await
    }

    fn after(&self, offset: Offset, commit_ts: Tso) -> Position {
        Position { next_offset: Offset(offset.0 + 1), commit_ts: self.read.commit_ts.max(commit_ts) }
    }

    fn passed(&mut self, offset: Offset, commit_ts: Tso) {
        self.read = self.after(offset, commit_ts);
    }

    /// Folds the changes of one table entry; `nth` counts the message's changes.
    async fn table(
        &mut self,
        table: &TableChange<'_>,
        offset: Offset,
        nth: &mut u64,
        commit_ts: Tso,
    ) -> Result<()> {
        let Target::Layout(layout) = self.target(table).await? else {
            *nth += table.mutations().count() as u64;
            return Ok(());
        };
        let mut slot = self.slot(&layout).await?;
        let mut until_look = LOOK_EVERY;
        for mutation in table.mutations() {
            let mutation = mutation.map_err(corrupt)?;
            self.batch.fold(
                slot,
                &mutation,
                Place { offset: offset.0, nth: *nth },
                commit_ts.physical_ms(),
            )?;
            *nth += 1;
            until_look -= 1;
            if until_look == 0 {
                until_look = LOOK_EVERY;
                // A transaction larger than a batch goes out in parts; the position moves only after the last.
                if self.batch.bytes() > self.batch_bytes {
                    if self.context.cancel.is_cancelled() {
                        // The position is still before this message.
                        return Err(Error::cancelled());
                    }
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
        let mut resolved = self.catalog.resolve(&name)?;
        while !fits(&resolved, table) && self.look_ahead(&name, matches!(resolved, Resolved::Dropped)).await?
        {
            resolved = self.catalog.resolve(&name)?;
        }
        if matches!(resolved, Resolved::Table(_)) && !fits(&resolved, table) {
            // Drainer may be down: it sends the DDL when it is back, and the row waits for it.
            return Err(Error::new(ErrorKind::Contention, "rows in a layout whose DDL is not in the topic yet")
                .endpoint(Endpoint::Kafka)
                .object(name)
                .hint("if Drainer runs and this stays, the table differs from what we know: copy it again with a new task"));
        }
        let target = match resolved {
            Resolved::Table(tracked) => {
                Target::Layout(Arc::new(Layout::new(&tracked, &table.columns, &self.zone)?))
            }
            Resolved::Unselected => Target::Skip,
            Resolved::Dropped => {
                tracing::info!(task.id = %self.context.task, table = %name, "late rows of a dropped table are passed over");
                let detail = serde_json::json!({"table": name.to_string(), "commit_tso": self.read.commit_ts.to_string()});
                let (store, task) = (&self.context.store, &self.context.task);
                store
                    .event(
                        Some(task),
                        "late_rows",
                        None,
                        "late rows of a dropped table are passed over",
                        detail,
                    )
                    .await?;
                Target::Skip
            }
            Resolved::Unknown => {
                return Err(Error::new(
                    ErrorKind::SchemaMismatch,
                    "rows of a table that the task has never seen",
                )
                .object(name)
                .hint(
                    "it may have been renamed or restored without an event; copy it again with a new task",
                ));
            }
        };
        if let Target::Layout(layout) = &target
            && layout.keyless
            && self.context.dialect == Dialect::Adb
        {
            return Err(Error::new(
                ErrorKind::Configuration,
                "AnalyticDB cannot match rows of a table without a key",
            )
            .object(name)
            .hint("give the table a primary key, or exclude it"));
        }
        self.layouts.insert(key, target.clone());
        Ok(target)
    }

    /// After a restart while DDL was pending, Drainer sends rows in the layout or under the name of a DDL that it has not sent
    /// yet (source-drainer.md 10.9). Finds the next DDL of this table in the topic that changes names or columns and applies it
    /// now; its own place in the stream then finds it done. False when there is none. With `renames_only` the table is
    /// known to be dropped: only a rename can bring rows under its name before its own event.
    async fn look_ahead(&mut self, name: &TableName, renames_only: bool) -> Result<bool> {
        self.flush().await?;
        let mut ahead = self.topic.open(self.read.next_offset).await?;
        let patience = if renames_only { LOOK_AHEAD / 10 } else { LOOK_AHEAD };
        let deadline = Instant::now() + patience;
        let wanted = name.key();
        let cancel = self.context.cancel.clone();
        loop {
            let incoming = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                incoming = tokio::time::timeout(patience, ahead.next()) => incoming,
            };
            let Ok(incoming) = incoming else { break };
            let Incoming::Message(raw) = incoming? else {
                // The DDL was committed before Drainer restarted: it is not far.
                if Instant::now() > deadline { break } else { continue }
            };
            if renames_only && Instant::now() > deadline {
                break;
            }
            let message = Message::parse(&raw.payload).map_err(corrupt)?;
            let Kind::Ddl(ddl) = message.kind else { continue };
            let of = TableName::new(text(ddl.schema_name)?, text(ddl.table_name)?).key();
            if of != wanted || message.commit_ts <= self.snapshot || !changes_layout(ddl.query, renames_only)
            {
                continue;
            }
            if let Some(known) =
                self.context.store.ddl_by_commit_ts(&self.context.task, message.commit_ts).await?
                && known.state != crate::store::DdlState::Pending
                && known.state != crate::store::DdlState::Failed
            {
                continue;
            }
            tracing::info!(task.id = %self.context.task, table = %name, offset = raw.offset.0, "DDL taken ahead of its place");
            let query = ddl.query.to_vec();
            let (schema, table) = (ddl.schema_name.to_vec(), ddl.table_name.to_vec());
            let ddl = Ddl { schema_name: &schema, table_name: &table, query: &query };
            self.ddl(&ddl, raw.offset, message.commit_ts, None).await?;
            return Ok(true);
        }
        Ok(false)
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

/// True for DDL that changes names or columns. What removes rows must stay in its place: rows before it would come back.
fn changes_layout(query: &[u8], renames_only: bool) -> bool {
    use crate::sql::ddl::ast::{AlterClause, Statement};
    let Ok(statements) = crate::sql::ddl::parse(query) else { return false };
    statements.iter().any(|statement| match statement {
        Statement::RenameTable { .. } => true,
        Statement::AlterTable { clauses, .. } => {
            let rename = clauses.iter().any(|clause| matches!(clause, AlterClause::Rename { .. }));
            let rows = clauses.iter().any(|clause| {
                matches!(
                    clause,
                    AlterClause::DropPartitions { .. }
                        | AlterClause::TruncatePartitions { .. }
                        | AlterClause::ExchangePartition { .. }
                )
            });
            !rows && (rename || !renames_only)
        }
        Statement::CreateTable { .. } | Statement::CreateTableLike { .. } => !renames_only,
        _ => false,
    })
}

/// False when the table is unknown, or when the message has columns that we do not know *and* lacks columns that we write: a
/// rename of a column is under way. Unknown columns alone are not added yet, missing ones alone are gone already.
fn fits(resolved: &Resolved, change: &TableChange<'_>) -> bool {
    let tracked = match resolved {
        Resolved::Table(tracked) => tracked,
        // The name may be taken again by a rename that is still to come.
        Resolved::Unknown | Resolved::Dropped => return false,
        Resolved::Unselected => return true,
    };
    let sent: Vec<String> =
        change.columns.iter().map(|column| String::from_utf8_lossy(column.name).to_lowercase()).collect();
    let lacks = tracked
        .target
        .columns
        .iter()
        .filter_map(|column| tracked.table.columns.get(column.source_index))
        .any(|column| !sent.contains(&column.name.to_lowercase()));
    // Columns of expression indexes are hidden from every definition.
    let unknown = sent.iter().any(|name| {
        !name.starts_with("_v$_") && !tracked.hidden.contains(name) && tracked.table.column(name).is_none()
    });
    !(lacks && unknown)
}

fn corrupt(fault: Malformed) -> Error {
    Error::new(ErrorKind::CorruptMessage, format!("not a message of Drainer: {fault}"))
        .endpoint(Endpoint::Kafka)
        .hint("look at the message in the topic: only one Drainer may write to it, and nothing else")
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::CorruptMessage, "a table's name is not UTF-8"))
}

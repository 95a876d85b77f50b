//! The loop of incremental sync: read, fold, apply, checkpoint.
//!
//! While one batch is applied the next is folded; a batch leaves as soon as the writer is free, a large one before that (see `flight`). The durable checkpoint
//! moves only over what is acknowledged. DDL is a barrier. Whatever fails ends the loop with an error: the worker starts again
//! from the checkpoint, so there is one path for a crash, a lost connection and a retry.

mod flight;
mod late;
mod look_ahead;
mod messages;
mod renew;
mod repair;
mod save;
mod standing;
mod tables;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::flight::{Flight, Landed};
use self::save::{CHECKPOINT_EVERY, Saved, Saving};
use self::standing::Resyncs;
use self::tables::Target;
use super::batch::Batch;
use super::catalog::Catalog;
use super::keyless::Keyless;
use super::lag::{Look, Pending};
use super::letters::Letters;
use super::marker::Marker;
use crate::adb::throttle::Traffic;
use crate::adb::writer::Writer;
use crate::binlog::{ChangeSource, Incoming, LogRange, Malformed, RawMessage, SeenSet, Topic, position_lost};
use crate::crash;
use crate::engine::progress::spent;
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result};
use crate::model::{LossyCounts, Offset, Position, TableName, Tso, Zone};
use crate::store::Checkpoint;
use crate::task::spec::Spec;

/// Messages taken one after the other before anything else is looked at.
const IN_ONE_GO: usize = 128;

/// How long rows wait for more of their kind while the topic has more messages at hand: what folds away is not sent.
const GATHER: Duration = Duration::from_millis(250);

/// Pause of the loop of a task that has nothing to do; a look at the topic wakes it sooner.
const REST: Duration = Duration::from_secs(2);

/// A task that has written nothing for so long lets its connections to the target go.
const LET_GO: Duration = Duration::from_secs(30);

/// What the loop waits for.
enum Event {
    Tick,
    Landed(Box<Result<Landed>>),
    Saved(Box<Result<Saved>>),
    Look,
    /// Newer ones are there.
    Settings,
    Incoming(Result<Incoming>),
    /// The topic has no further message at hand.
    Drained,
}

/// Tells a second Drainer from one that was restarted: a restart repeats one stretch, a second one repeats this and that between
/// new transactions.
#[derive(Default)]
struct Twins {
    after_new: bool,
    stretches: u32,
}

impl Twins {
    /// So many stretches in one run are no restarts.
    const MANY: u32 = 8;

    fn new_one(&mut self) {
        self.after_new = true;
    }

    /// True once: when it is clear.
    fn repeated(&mut self) -> bool {
        let begins = std::mem::replace(&mut self.after_new, false);
        self.stretches += u32::from(begins);
        begins && self.stretches == Self::MANY
    }
}

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
    /// Those that have nothing to send, over the same connections. Nothing is sent any more where none is left and nothing is in flight.
    writers: Vec<Writer>,
    keyless: Option<Keyless>,
    /// So is the target.
    is_far: bool,
    marker: Option<Marker>,
    /// When something was last written to the target; None since its connections were let go.
    target_used: Option<Instant>,
    /// The target has changed since the marker was set.
    unmarked: bool,
    in_flight: VecDeque<Flight>,
    /// Of batches that did not go well: sent one by one before anything else, each with what is applied after it.
    parts: VecDeque<(Batch, Position)>,
    batch: Batch,
    /// Memory for the next one.
    spare: Option<Batch>,
    /// When its first change came.
    gathering_since: Option<Instant>,
    /// The topic had no further message at hand.
    drained: bool,
    /// Bytes of one batch.
    batch_bytes: usize,
    /// By names and columns as the stream has them: asked for each table of each message.
    layouts: hashbrown::HashMap<Vec<u8>, Target>,
    /// Tables of rows with labels that no DDL in sight adds.
    unlabelled: HashSet<TableName>,
    scratch: Vec<u8>,
    /// After the last message read.
    read: Position,
    /// After the last message whose changes are acknowledged.
    pub(super) applied: Position,
    /// As in the store.
    pub(super) saved: Position,
    saved_watermark: Tso,
    saved_at: Instant,
    saving: Option<Saving>,
    /// What applied rows have lost since the checkpoint was saved.
    lossy: HashMap<TableName, LossyCounts>,
    pub(super) letters: Letters,
    recovered: bool,
    twins: Twins,
    /// Catches one table up beside the main stream: it keeps no position, and DDL is not its business.
    side: bool,
    resyncs: Resyncs,
    looks: watch::Receiver<Look>,
    /// Of the log, as this stream has seen it: a run before it may have seen less.
    end: Option<Offset>,
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
        let batch_bytes = batch_bytes(&context.spec);
        let writers = vec![writer.another(), writer];
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
            writers,
            keyless: Some(keyless),
            is_far: false,
            marker: None,
            target_used: Some(Instant::now()),
            unmarked: false,
            in_flight: VecDeque::new(),
            parts: VecDeque::new(),
            batch: Batch::default(),
            spare: None,
            gathering_since: None,
            drained: true,
            batch_bytes,
            layouts: hashbrown::HashMap::new(),
            unlabelled: HashSet::new(),
            scratch: Vec::new(),
            read: checkpoint.position,
            applied: checkpoint.position,
            saved: checkpoint.position,
            saved_watermark: checkpoint.watermark,
            saved_at: Instant::now(),
            saving: None,
            lossy: HashMap::new(),
            letters: Letters::default(),
            recovered: false,
            twins: Twins::default(),
            side: false,
            resyncs: Resyncs::default(),
            looks,
            end: None,
            pending: Pending::default(),
            context,
        }
    }

    /// Sets this marker on the target before the checkpoint moves.
    pub fn marked(self, marker: Option<Marker>) -> Self {
        Self { marker, ..self }
    }

    /// Follows the stream until cancelled (`Cancelled`, checkpoint saved) or failed. Ok when newer settings need a run of their own
    /// from the checkpoint on.
    pub async fn run(&mut self) -> Result<()> {
        let result = self.follow().await;
        self.end_resync().await;
        self.land_all().await;
        // What was read before a message that stops the task is in the target when it stops. Without a writer it was the writing
        // that failed.
        if let Err(error) = &result
            && error.policy() == Policy::Stop
            && !self.writers.is_empty()
            && let Err(also) = self.flush().await
        {
            self.end_flights().await;
            tracing::warn!(task.id = %self.context.task, error = %also, "the changes before the stop are not in the target");
        }
        match &result {
            // Whatever becomes of it, it must be over.
            Err(error) if error.kind == ErrorKind::Fenced => drop(self.settle().await),
            // What failed first is the cause.
            Err(_) => {
                if let Err(also) = self.save().await {
                    tracing::warn!(task.id = %self.context.task, error = %also, "the checkpoint was not saved at the end");
                }
            }
            Ok(()) => self.save().await?,
        }
        self.close_writers().await;
        if let Some(marker) = self.marker.take() {
            marker.close().await;
        }
        result
    }

    async fn follow(&mut self) -> Result<()> {
        let cancel = self.context.cancel.clone();
        let mut tick = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut rests = false;
        self.load_letters().await?;
        self.finish_swaps().await?;
        self.tidy().await?;
        self.begin_objects().await?;
        let mut settings = self.context.settings.clone();
        loop {
            // What is read is brought to its end first.
            let renews = self.context.newer().is_some();
            if renews || self.is_due() {
                self.dispatch();
            }
            if renews && self.in_flight.is_empty() && self.batch.is_empty() && !self.renew().await? {
                tracing::info!(task.id = %self.context.task, "the run begins again with newer settings");
                return Ok(());
            }
            let room = !renews && self.has_room();
            let waits = Instant::now();
            let event = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                () = &mut tick => Event::Tick,
                landed = Self::landing(&mut self.in_flight) => Event::Landed(Box::new(landed)),
                saved = save::saved(&mut self.saving) => Event::Saved(Box::new(saved)),
                Ok(()) = self.looks.changed() => Event::Look,
                Ok(()) = settings.changed() => Event::Settings,
                incoming = self.source.next(), if room => Event::Incoming(incoming),
                // Nothing else was ready.
                () = std::future::ready(()), if !self.drained && self.in_flight.is_empty() => Event::Drained,
            };
            let time = &self.context.progress.time;
            spent(if room { &time.reading_us } else { &time.blocked_us }, waits);
            // Who rests has a beat of its own in the looks; a message wakes it.
            let message = matches!(event, Event::Incoming(Ok(Incoming::Message(_))));
            if matches!(event, Event::Tick) || (rests && (message || matches!(event, Event::Look))) {
                rests = !message && self.rests();
                let pause = if rests { REST } else { CHECKPOINT_EVERY };
                tick.as_mut().reset(tokio::time::Instant::now() + pause);
            }
            match event {
                Event::Tick => self.tick().await?,
                Event::Landed(landed) => self.landed(*landed).await?,
                Event::Saved(saved) => self.is_saved(*saved).await?,
                Event::Look => {
                    self.look()?;
                    if rests {
                        self.tick().await?;
                    }
                }
                Event::Settings => {}
                Event::Drained => self.drained = true,
                Event::Incoming(incoming) => {
                    let begins = Instant::now();
                    self.take_messages(incoming?).await?;
                    spent(&self.context.progress.time.decoding_us, begins);
                }
            }
        }
    }

    /// Takes a message, and those that are there already.
    async fn take_messages(&mut self, first: Incoming) -> Result<()> {
        self.drained = false;
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(incoming) = next {
            let Incoming::Message(message) = incoming else {
                self.drained = true;
                return Ok(());
            };
            self.message(message).await?;
            taken += 1;
            // One that is asked for must be taken.
            if taken == IN_ONE_GO || !self.has_room() {
                return Ok(());
            }
            next = self.source.next().now_or_never().transpose()?;
        }
        self.drained = true;
        Ok(())
    }

    /// Whether the batch is sent as soon as the writer is free: there is nothing to wait for, or it has waited.
    fn is_due(&self) -> bool {
        self.drained
            || self.batch.is_empty()
            || self.batch.bytes() >= self.full_bytes() / 2
            || !self.has_room()
            || self.gathering_since.is_none_or(|since| since.elapsed() >= GATHER)
    }

    /// Nothing is under way.
    fn is_still(&self) -> bool {
        let unsent = !self.batch.is_empty() || !self.parts.is_empty();
        !unsent && self.in_flight.is_empty() && self.saving.is_none() && self.resyncs.are_quiet()
    }

    /// Nothing is under way, and nothing waits to be read or saved.
    fn rests(&self) -> bool {
        self.drained && self.is_still() && self.nothing_to_save()
    }

    /// A batch is no larger than its bounds, and than what the throttles let through in a second.
    pub(super) fn has_room(&self) -> bool {
        let most = self.context.gate.most(Traffic::Incremental);
        // Behind two that are on their way it need not be larger than what is sent behind one.
        let bytes = if self.in_flight.len() > 1 { self.behind_bytes() } else { self.full_bytes() };
        let bytes = bytes.min(usize::try_from(most.bytes).unwrap_or(usize::MAX));
        self.batch.bytes() < bytes && (most.rows == u64::MAX || self.batch.rows() < most.rows)
    }

    pub(super) fn is_side(&self) -> bool {
        self.side
    }

    pub(super) fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone)
    }

    pub(super) fn count_lossy(&mut self, table: &TableName, counts: &LossyCounts) {
        self.lossy.entry(table.clone()).or_default().merge(counts);
    }

    fn count_messages(&mut self) {
        let progress = &self.context.progress;
        progress.transactions_applied.fetch_add(std::mem::take(&mut self.batch.transactions), Relaxed);
        progress.bytes_applied.fetch_add(std::mem::take(&mut self.batch.message_bytes), Relaxed);
    }

    fn acknowledge(&mut self, position: Position) {
        self.applied = position;
        self.context.progress.set_next_offset(position.next_offset.0);
    }

    fn acknowledge_rows(&mut self, batch: &mut Batch) {
        let progress = &self.context.progress;
        self.unmarked |= batch.changes > 0;
        progress.changes_applied.fetch_add(batch.changes, Relaxed);
        progress.transactions_applied.fetch_add(batch.transactions, Relaxed);
        progress.bytes_applied.fetch_add(batch.message_bytes, Relaxed);
        self.letters.acknowledged(batch);
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
        // Nothing may write to the copy of the next try.
        for flight in std::mem::take(&mut self.in_flight) {
            flight.abort().await;
        }
        self.close_writers().await;
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
            let idle = self.in_flight.is_empty();
            if idle {
                reached(self.applied);
            }
            // An offset that no message has is behind the one that is held.
            let there = held.is_some() || self.read.next_offset >= goal.offset;
            if there && idle && goal.last {
                return Ok(());
            }
            let room = !there && self.has_room();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                landed = Self::landing(&mut self.in_flight) => self.landed(landed).await?,
                Ok(()) = until.changed() => {}
                incoming = self.source.next(), if room => {
                    if let Incoming::Message(message) = incoming? {
                        held = Some(message);
                    }
                }
            }
        }
    }

    /// Layouts are made anew after the catalog has changed.
    pub(super) fn catalog_changed(&mut self) {
        self.layouts.clear();
        self.unlabelled.clear();
    }

    pub(super) fn writer(&mut self) -> Result<&Writer> {
        self.target_used = Some(Instant::now());
        self.writers.last().ok_or_else(|| Error::internal("DDL while a batch is being written"))
    }

    /// # Errors
    /// `PositionLost` when the log ends before what was read of it: the topic was made again, or lost data.
    fn look(&mut self) -> Result<()> {
        let look = *self.looks.borrow_and_update();
        // A look is a moment old: what was read since is none of its business.
        let went_back = self.context.progress.end_offset().is_some_and(|before| look.end.0 < before);
        if went_back && look.end < self.applied.next_offset {
            let range = LogRange { start: look.start, end: look.end };
            return Err(position_lost(self.topic.name(), self.applied.next_offset, Some(range)));
        }
        self.end = Some(look.end);
        self.context.progress.set_log_range(look.start.0, look.end.0);
        self.context.progress.set_retention_ms(look.retention_ms);
        self.pending.push(look);
        Ok(())
    }

    /// Nobody keeps a place on the target that has nothing to write for a while.
    async fn let_go(&mut self) {
        let patience = crash::pause("TIDEGATE_LET_GO_MS", LET_GO);
        if self.target_used.is_none_or(|at| at.elapsed() < patience) {
            return;
        }
        self.target_used = None;
        if let Some(writer) = self.writers.last() {
            writer.rest().await;
        }
        if let Some(marker) = &mut self.marker {
            marker.rest(&self.context).await;
        }
    }

    pub(super) fn watermark(&self) -> Tso {
        Tso(self.context.progress.watermark_tso().unwrap_or(0))
    }

    async fn tick(&mut self) -> Result<()> {
        if self.drained && self.batch.is_empty() {
            self.batch.free_spare();
            self.spare = None;
        }
        if self.in_flight.is_empty() {
            self.context.progress.buffered_bytes.store(self.batch.bytes() as u64, Relaxed);
        }
        if let Some(reached) = self.pending.reached(self.applied.next_offset) {
            self.context.progress.advance_watermark(reached);
        }
        // Drainer sends in the order of commit: before this transaction everything is here.
        if self.applied.commit_ts > self.snapshot {
            self.context.progress.advance_watermark(Tso(self.applied.commit_ts.0.saturating_sub(1)));
        }
        if self.is_still() {
            self.let_go().await;
        }
        self.save_beside().await?;
        if self.end.is_some_and(|end| self.applied.next_offset >= end) {
            self.recovered().await?;
        }
        self.tend_tables().await
    }
}

/// Bytes of one batch for a target that is near.
fn batch_bytes(spec: &Spec) -> usize {
    (spec.tuning.memory_bytes / 64).clamp(1 << 20, 64 << 20) as usize
}

/// A while after the run was asked to end.
async fn held(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
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

//! Batches on their way to the target: two at most, acknowledged in their order.
//!
//! The second does not wait for the first to end, or the target would wait for us at the end of each batch, and over a distance for
//! every round trip. What it changes again of the first one's rows is written once that is in the target whole ([`Batch::behind`]).
//! Where anything goes wrong with the first, the second comes back as it is, and both are sent again one by one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Stream;
use crate::adb::LARGEST_BATCH;
use crate::adb::throttle::Traffic;
use crate::adb::writer::Writer;
use crate::binlog::ChangeSource;
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::incremental::batch::{Batch, Held, Limits, Part, pieces};
use crate::incremental::keyless::Keyless;
use crate::incremental::letters::{self, Refused};
use crate::model::Position;

/// Items of one IN list (target-adb-and-dts.md 3.3).
const IN_LIST: usize = 2000;

/// How long the last batches may take once the run is over.
pub(super) const LAST_BATCH: Duration = Duration::from_secs(10);

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Flight {
    handle: AbortOnDropHandle<Landed>,
    batch: Arc<Batch>,
    /// Applied, once it has landed.
    position: Position,
    /// Whether all of it is in the target and nothing was set aside, for the one behind it.
    done: Option<oneshot::Receiver<bool>>,
}

impl Flight {
    /// Ends it; what the target has begun it may bring to its end.
    pub async fn abort(self) {
        self.handle.abort();
        // Only its being over counts.
        let _ = self.handle.await;
    }
}

/// What comes back from the target, beside the batch.
#[derive(Debug)]
pub(super) struct Landed {
    writer: Writer,
    /// Of one that held such changes.
    keyless: Option<Keyless>,
    /// What the target refused. None: the batch before it did not end well; it is not written whole.
    result: Result<Option<Vec<Refused>>>,
}

/// The batch before one.
struct Earlier {
    held: Held,
    done: oneshot::Receiver<bool>,
}

impl<S: ChangeSource> Stream<S> {
    /// The first to land, or never.
    pub(super) async fn landing(in_flight: &mut VecDeque<Flight>) -> Result<Landed> {
        match in_flight.front_mut() {
            Some(flight) => (&mut flight.handle)
                .await
                .map_err(|error| Error::internal(format!("the writer ended: {error}"))),
            None => std::future::pending().await,
        }
    }

    /// Sends the batch when a writer is free for it.
    pub(super) fn dispatch(&mut self) {
        if !self.in_flight.is_empty() {
            if self.may_follow() {
                self.send_gathered();
            }
            return;
        }
        if self.batch.is_empty() {
            // Only messages that change nothing here: they are as good as applied.
            if self.batch.tables.is_empty() {
                self.count_messages();
            } else {
                // Tables of which nothing is sent hold their layouts, and may get others.
                let mut batch = std::mem::take(&mut self.batch);
                self.acknowledge_rows(&mut batch);
            }
            self.gathering_since = None;
            self.applied = self.read;
            self.context.progress.set_next_offset(self.applied.next_offset.0);
            return;
        }
        self.send_gathered();
    }

    /// Whether the batch is sent behind another one: a large one, for a small one grows meanwhile and costs less so.
    fn may_follow(&self) -> bool {
        self.in_flight.len() == 1
            && self.parts.is_empty()
            && self.batch.bytes() >= self.behind_bytes()
            && !self.batch.has_keyless()
            && self.writers.iter().any(Writer::takes_two)
    }

    /// Bytes of a batch. Over a distance: the fewer the statements, the fewer the round trips.
    pub(super) fn full_bytes(&self) -> usize {
        if self.is_far { 2 * self.batch_bytes } else { self.batch_bytes }
    }

    /// Bytes of a batch behind another one.
    pub(super) fn behind_bytes(&self) -> usize {
        if self.is_far { self.full_bytes() } else { self.batch_bytes / 2 }
    }

    fn send_gathered(&mut self) {
        if !self.writers.is_empty() {
            let batch = std::mem::replace(&mut self.batch, self.spare.take().unwrap_or_default());
            self.gathering_since = None;
            self.send(batch, self.read);
        }
    }

    fn send(&mut self, batch: Batch, position: Position) {
        let Some(mut writer) = self.writers.pop() else { return };
        let mut keyless = if batch.has_keyless() { self.keyless.take() } else { None };
        let (limits, most) = (self.limits(writer.at_once()), self.most_letters());
        self.target_used = Some(Instant::now());
        let earlier = self.in_flight.back_mut().and_then(|earlier| {
            Some(Earlier { held: batch.behind(&earlier.batch), done: earlier.done.take()? })
        });
        let batch = Arc::new(batch);
        let (says, done) = oneshot::channel();
        let (progress, sent) = (Arc::clone(&self.context.progress), Arc::clone(&batch));
        let handle = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut busy = Duration::ZERO;
            let sending = Sending { writer: &mut writer, batch: &sent, limits, most, busy: &mut busy };
            let result = sending.apply(keyless.as_mut(), earlier).await;
            if let Ok(Some(refused)) = &result {
                progress.batch_acknowledged(busy);
                writer.took(sent.rows(), busy);
                // Nobody hears it when there is none behind it.
                let _ = says.send(refused.is_empty() && sent.letters.is_empty());
            }
            Landed { writer, keyless, result }
        }));
        self.in_flight.push_back(Flight { handle, batch, position, done: Some(done) });
        let bytes: usize = self.in_flight.iter().map(|flight| flight.batch.bytes()).sum();
        self.context.progress.buffered_bytes.store(bytes as u64, Relaxed);
    }

    /// Bounds of one statement.
    pub(in crate::incremental) fn limits(&self, connections: usize) -> Limits {
        let tuning = self.context.spec.tuning;
        let most = self.context.gate.most(Traffic::Incremental);
        let bounded = |bound: u64, most: u64| usize::try_from(bound.min(most)).unwrap_or(usize::MAX);
        let rows = bounded(u64::from(tuning.batch_rows.max(1)), most.rows);
        Limits {
            rows,
            bytes: bounded(u64::from(tuning.batch_bytes), most.bytes).min(LARGEST_BATCH),
            keys: rows.min(IN_LIST),
            connections,
        }
    }

    /// The first batch is back.
    ///
    /// # Errors
    /// It is not in the target. Nothing may go out behind it, so nothing is in flight and there is no writer any more.
    pub(super) async fn landed(&mut self, landed: Result<Landed>) -> Result<()> {
        let result = self.take_back(landed).await;
        if result.is_err() {
            self.end_flights().await;
        }
        result
    }

    /// Ends what is in flight; it does not count. Nothing is sent any more.
    pub(super) async fn end_flights(&mut self) {
        let deadline = tokio::time::Instant::now() + LAST_BATCH;
        for mut flight in std::mem::take(&mut self.in_flight) {
            if tokio::time::timeout_at(deadline, &mut flight.handle).await.is_err() {
                // The target holds it: the next run ends its sessions there before it writes.
                flight.abort().await;
            }
        }
        self.close_writers().await;
    }

    async fn take_back(&mut self, landed: Result<Landed>) -> Result<()> {
        let Some(Flight { batch, position, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        let Landed { writer, keyless, result } = landed?;
        let mut batch = whole(batch)?;
        self.take_writer(writer, keyless);
        let refused = match result {
            Ok(Some(refused)) => refused,
            Ok(None) => {
                self.recall().await?;
                self.parts.push_front((batch, position));
                self.send_part();
                return Ok(());
            }
            // Nothing of the batch is under way any more, and all of it but the guilty table's can be sent again.
            Err(error) if !error.concerns_one_table() => return Err(error),
            Err(error) => {
                self.recall().await?;
                let target = error.object.clone().unwrap_or_default();
                let mut again = Vec::new();
                if let Some(guilty) = batch.source_of(&target).cloned() {
                    self.table_failed(&guilty, error).await?;
                    batch.remove(&guilty);
                    self.parts.iter_mut().for_each(|(batch, _)| batch.remove(&guilty));
                } else {
                    if self.stops_table(&error) {
                        again = batch.split(&target);
                    }
                    if again.is_empty() {
                        return Err(error);
                    }
                }
                again.insert(0, batch);
                // Only behind the last of them is all of it applied.
                for (nth, batch) in again.into_iter().rev().enumerate() {
                    self.parts.push_front((batch, if nth == 0 { position } else { self.applied }));
                }
                self.send_part();
                return Ok(());
            }
        };
        if refused.is_empty() {
            self.room_for_letters(&batch).await?;
        } else {
            self.recall().await?;
            self.set_aside(&mut batch, refused).await?;
        }
        self.acknowledge_rows(&mut batch);
        self.acknowledge(position);
        if self.send_part() {
            return Ok(());
        }
        // While there is more to come its memory is used again; an idle task keeps none.
        self.spare = (!self.drained).then(|| batch.again());
        if self.letters.is_saved() || self.side { Ok(()) } else { self.save().await }
    }

    fn send_part(&mut self) -> bool {
        let part = self.parts.pop_front();
        part.map(|(batch, position)| self.send(batch, position)).is_some()
    }

    /// Takes the second batch back, to be sent again behind the first, which did not end well.
    async fn recall(&mut self) -> Result<()> {
        let Some(mut flight) = self.in_flight.pop_front() else { return Ok(()) };
        let cancel = self.context.cancel.clone();
        let landed = tokio::select! {
            biased;
            landed = &mut flight.handle => landed.map_err(Error::internal)?,
            () = super::held(&cancel) => return Err(Error::cancelled()),
            // Its statement may still run, so nothing is sent again over other connections.
            () = tokio::time::sleep(LAST_BATCH) => {
                let error = Error::new(ErrorKind::Contention, "the target holds a batch behind one that it refused");
                return Err(error.endpoint(Endpoint::Target));
            }
        };
        match landed.result {
            // What it says of a table it will say again.
            Err(error) if !error.concerns_one_table() => return Err(error),
            _ => {}
        }
        self.take_writer(landed.writer, landed.keyless);
        self.parts.push_back((whole(flight.batch)?, flight.position));
        Ok(())
    }

    fn take_writer(&mut self, writer: Writer, keyless: Option<Keyless>) {
        self.is_far = writer.is_far();
        self.writers.push(writer);
        if let Some(keyless) = keyless {
            self.keyless = Some(keyless);
        }
    }

    pub(super) async fn close_writers(&mut self) {
        if let Some(writer) = std::mem::take(&mut self.writers).pop() {
            writer.rest().await;
        }
    }

    /// Nothing may be in flight when a run is over: what is in the target whole counts.
    pub(super) async fn land_all(&mut self) {
        let deadline = tokio::time::Instant::now() + LAST_BATCH;
        let mut counts = self.parts.is_empty();
        while let Some(mut flight) = self.in_flight.pop_front() {
            let landed = match tokio::time::timeout_at(deadline, &mut flight.handle).await {
                Ok(landed) => landed,
                Err(_) => {
                    flight.abort().await;
                    counts = false;
                    continue;
                }
            };
            match (landed, whole(flight.batch)) {
                (Ok(Landed { writer, keyless, result: Ok(Some(refused)) }), Ok(mut batch))
                    if refused.is_empty() && counts =>
                {
                    self.take_writer(writer, keyless);
                    self.acknowledge_rows(&mut batch);
                    self.acknowledge(flight.position);
                }
                _ => counts = false,
            }
        }
        if !counts {
            // Nothing may go out behind rows that are not in the target.
            self.close_writers().await;
        }
    }

    /// Waits until everything read so far is acknowledged.
    pub(in crate::incremental) async fn flush(&mut self) -> Result<()> {
        loop {
            self.dispatch();
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.land_one().await?;
        }
    }

    /// Waits until there is room for more.
    pub(super) async fn make_room(&mut self) -> Result<()> {
        loop {
            self.dispatch();
            if self.has_room() || self.in_flight.is_empty() {
                return Ok(());
            }
            self.land_one().await?;
        }
    }

    async fn land_one(&mut self) -> Result<()> {
        let cancel = self.context.cancel.clone();
        let landed = tokio::select! {
            biased;
            landed = Self::landing(&mut self.in_flight) => landed,
            () = super::held(&cancel) => return Err(Error::cancelled()),
        };
        self.landed(landed).await
    }
}

/// A batch that nobody else holds.
fn whole(batch: Arc<Batch>) -> Result<Batch> {
    Arc::try_unwrap(batch).map_err(|_| Error::internal("a batch that is still being written"))
}

struct Sending<'s> {
    writer: &'s mut Writer,
    batch: &'s Arc<Batch>,
    limits: Limits,
    most: usize,
    /// Time without that of waiting for the batch before.
    busy: &'s mut Duration,
}

impl Sending<'_> {
    async fn apply(
        mut self,
        keyless: Option<&mut Keyless>,
        earlier: Option<Earlier>,
    ) -> Result<Option<Vec<Refused>>> {
        crash::point("batch.before");
        self.writer.set_behind(earlier.is_some());
        let mut refused;
        match earlier {
            None => refused = self.part(Part::Whole).await?,
            Some(Earlier { held, done }) => {
                refused = self.part(Part::Free(&held)).await?;
                if !done.await.unwrap_or_default() {
                    return Ok(None);
                }
                self.writer.set_behind(false);
                refused.extend(self.part(Part::Held(&held)).await?);
            }
        }
        crash::point("batch.written");
        if self.batch.has_keyless() {
            let begins = Instant::now();
            let keyless = keyless.ok_or_else(|| Error::internal("rows without a key behind others"))?;
            keyless.apply(self.writer, self.batch, (self.limits.rows, self.limits.bytes)).await?;
            *self.busy += begins.elapsed();
        }
        Ok(Some(refused))
    }

    async fn part(&mut self, part: Part<'_>) -> Result<Vec<Refused>> {
        let begins = Instant::now();
        let [first, second] = pieces(self.batch, self.limits, part);
        let mut refused = letters::send(self.writer, self.batch, first, self.most).await?;
        crash::point("batch.deleted");
        refused.extend(letters::send(self.writer, self.batch, second, self.most).await?);
        *self.busy += begins.elapsed();
        Ok(refused)
    }
}

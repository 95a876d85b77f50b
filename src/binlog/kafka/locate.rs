//! Finding and re-reading places in the log: where a timestamp begins, what came before an offset.
//!
//! commit_ts does not strictly increase along the log: Drainer repeats ranges after a restart, and its producer may swap messages
//! in flight. Still a search by halves finds a place that is safe to start from. It ends between a message with commit_ts <= T
//! and one above. A transaction above T that lies only before that place was either overtaken in flight, and then lies within
//! the margin that is stepped back, or a repetition began after it at or below T; such a repetition contains the transaction
//! again, after the place.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset as RdOffset, TopicPartitionList};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::binlog::fingerprint::Fingerprint;
use crate::binlog::kafka::reader::{STALLED, STALLED_MOST};
use crate::binlog::kafka::settings;
use crate::binlog::kafka::source::RawMessage;
use crate::binlog::kafka::topic::{Inner, Topic};
use crate::binlog::kafka::trouble::{Events, Trouble, lasting, position_lost, trouble};
use crate::binlog::message::{Kind, Message};
use crate::binlog::seen::{Limits, REORDERED, Seen};
use crate::error::{Error, Result};
use crate::model::{Offset, Tso};

/// Where a task wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    At(Offset),
    /// After everything up to this timestamp. For a time of day use [`Tso::from_physical_ms`].
    After(Tso),
}

/// What a producer can have in flight, twice: 5 requests of 1,024 messages, 90 MiB (source-drainer.md 2.1).
const MARGIN: Limits = Limits { payload_bytes: 192 << 20, entries: 2 * REORDERED };

/// After so many messages in a row that are not Drainer's, the topic is not Drainer's.
const STRANGE: i64 = 1000;

/// Messages before an offset, in order of offsets.
#[derive(Debug, Clone)]
pub struct ReadBack {
    pub messages: Vec<Seen>,
    /// Whether it reached `not_before`: nothing of the task's past is missing.
    pub complete: bool,
    /// Messages that are not Drainer's; they can only be ones that were skipped on purpose.
    pub unreadable: u64,
}

impl Topic {
    /// An offset to start from such that every message of the log that belongs to the start lies at or after it.
    ///
    /// For `After(T)` the caller must skip messages with commit_ts <= T, of which a bounded number follows. Costs one message per
    /// halving of the log and reads 192 MiB or 10,240 messages in front of the place to find the margin. A log whose oldest
    /// messages were deleted and that begins after T may lack changes: that is `PositionLost`.
    pub async fn find_start(&self, start: Start) -> Result<Offset> {
        match start {
            Start::Earliest => Ok(self.log_range().await?.start),
            Start::Latest => self.end_offset().await,
            Start::At(offset) => Ok(offset),
            Start::After(tso) => self.blocking(move |topic, stop| topic.find_after(tso, stop)).await,
        }
    }

    /// Hash of the message before this offset; None when the log holds none there.
    pub async fn anchor(&self, before: Offset) -> Result<Option<String>> {
        self.blocking(move |topic, stop| topic.anchor(before, stop)).await
    }

    /// Reads back from `before` (not included) until `limits` are filled, but not beyond `not_before`: the offset that the task
    /// started from. Feed the result to [`crate::binlog::SeenSet::rebuilt`]. The hash of the message before the checkpoint
    /// is that of its last entry (design.md 10.10).
    pub async fn read_back(&self, before: Offset, not_before: Offset, limits: Limits) -> Result<ReadBack> {
        self.blocking(move |topic, stop| topic.read_back(before, not_before, limits, stop)).await
    }
}

/// A DDL on the way from one offset to another.
#[derive(Debug, Clone)]
pub struct PassedDdl {
    pub offset: Offset,
    pub commit_ts: Tso,
    pub schema: String,
    pub table: String,
    pub query: Vec<u8>,
}

impl Topic {
    /// The first message from `from` on whose transaction is newer than `tso`; None when there is none yet.
    pub async fn first_after(&self, from: Offset, tso: Tso) -> Result<Option<(Offset, Tso)>> {
        self.blocking(move |topic, stop| {
            let end = topic.log_range(stop, 0)?.end;
            let mut found = None;
            RangeReader::new(topic, 2 << 20)?.read(
                from,
                end,
                stop,
                |offset, payload| match Message::parse(payload.unwrap_or_default()) {
                    Ok(message) if message.commit_ts > tso && !matches!(message.kind, Kind::Resolved) => {
                        found = Some((offset, message.commit_ts));
                        ControlFlow::Break(())
                    }
                    _ => ControlFlow::Continue(()),
                },
            )?;
            Ok(found)
        })
        .await
    }

    /// The messages at these offsets that the topic still holds, copied.
    pub async fn read_at(&self, offsets: BTreeSet<Offset>) -> Result<Vec<(Offset, Vec<u8>)>> {
        let (Some(first), Some(last)) = (offsets.first().copied(), offsets.last().copied()) else {
            return Ok(Vec::new());
        };
        self.blocking(move |topic, stop| {
            let mut found = Vec::new();
            RangeReader::new(topic, 2 << 20)?.read(first, Offset(last.0 + 1), stop, |offset, payload| {
                if offsets.contains(&offset) {
                    found.push((offset, payload.unwrap_or_default().to_vec()));
                }
                ControlFlow::Continue(())
            })?;
            Ok(found)
        })
        .await
    }

    /// Every DDL from `from` up to `until`, not included, that `wanted` takes by its names and text. Messages that are not
    /// Drainer's are passed over.
    pub async fn ddl_between(
        &self,
        from: Offset,
        until: Offset,
        wanted: impl Fn(&str, &str, &[u8]) -> bool + Send + 'static,
    ) -> Result<Vec<PassedDdl>> {
        self.blocking(move |topic, stop| {
            let mut found = Vec::new();
            RangeReader::new(topic, 2 << 20)?.read(from, until, stop, |offset, payload| {
                if let Ok(message) = Message::parse(payload.unwrap_or_default())
                    && let Kind::Ddl(ddl) = message.kind
                {
                    let schema = String::from_utf8_lossy(ddl.schema_name).into_owned();
                    let table = String::from_utf8_lossy(ddl.table_name).into_owned();
                    if wanted(&schema, &table, ddl.query) {
                        let query = ddl.query.to_vec();
                        found.push(PassedDdl { offset, commit_ts: message.commit_ts, schema, table, query });
                    }
                }
                // As many as a person reads.
                if found.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            Ok(found)
        })
        .await
    }
}

impl Inner {
    /// Copies the first message at `from` or behind it, before `end`.
    pub(super) fn one(
        &self,
        from: Offset,
        end: Offset,
        stop: &CancellationToken,
    ) -> Result<Option<RawMessage>> {
        let mut reader = RangeReader::new(self, 64 << 10)?;
        let mut found = None;
        reader.read(from, end, stop, |offset, payload| {
            let payload = bytes::Bytes::copy_from_slice(payload.unwrap_or_default());
            found = Some(RawMessage { offset, payload, kafka_timestamp_ms: None });
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn find_after(&self, tso: Tso, stop: &CancellationToken) -> Result<Offset> {
        let range = self.log_range(stop, 0)?;
        let mut reader = RangeReader::new(self, 64 << 10)?;
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            let (mut found, mut unreadable) = (None, None);
            reader.read(middle, high, stop, |offset, payload| {
                match Message::parse(payload.unwrap_or_default()) {
                    Ok(message) => found = Some((offset, message.commit_ts)),
                    Err(malformed) => unreadable = Some((offset, malformed)),
                }
                let strange = offset.0 - middle.0 >= STRANGE;
                if found.is_some() || strange { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            match (found, unreadable) {
                (Some((offset, commit_ts)), _) if commit_ts <= tso => low = Offset(offset.0 + 1),
                (None, Some((offset, malformed))) if offset.0 - middle.0 >= STRANGE => {
                    return Err(malformed.at(&self.name, offset));
                }
                _ => high = middle,
            }
        }
        if low == range.start && range.start > Offset(0) {
            let mut error = position_lost(&self.name, low, Some(range));
            error.message = format!(
                "the log begins at offset {} with changes after {tso}; older ones were deleted by its retention",
                range.start
            );
            error.hint = Some(
                "Changes between that time and the log's beginning may be lost. Run a full sync, \
                 or start at \"earliest\" to accept that."
                    .to_owned(),
            );
            return Err(error);
        }
        self.walk_back(low, range.start, MARGIN, stop, |_| ControlFlow::Continue(()))
    }

    fn anchor(&self, before: Offset, stop: &CancellationToken) -> Result<Option<String>> {
        let wanted = Offset(before.0 - 1);
        let range = self.log_range(stop, 0)?;
        if wanted < range.start || before > range.end {
            return Ok(None);
        }
        let mut hash = None;
        RangeReader::new(self, 64 << 10)?.read(wanted, before, stop, |offset, payload| {
            if offset == wanted {
                let digest = Sha256::digest(payload.unwrap_or_default());
                hash = Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect());
            }
            ControlFlow::Continue(())
        })?;
        Ok(hash)
    }

    fn read_back(
        &self,
        before: Offset,
        not_before: Offset,
        limits: Limits,
        stop: &CancellationToken,
    ) -> Result<ReadBack> {
        let range = self.log_range(stop, 0)?;
        if !range.holds(before) {
            return Err(position_lost(&self.name, before, Some(range)));
        }
        let mut unreadable = 0;
        let mut messages: Vec<Seen> = Vec::new();
        let floor = range.start.max(not_before);
        let reached = self.walk_back(before, floor, limits, stop, |(offset, payload)| {
            let payload = payload.unwrap_or_default();
            let read = Message::parse(payload)
                .and_then(|message| Ok(Fingerprint::new(&message, &message.validate()?)));
            match read {
                Ok(fingerprint) => messages.push(Seen::new(&fingerprint, offset, payload.len())),
                Err(_) => unreadable += 1,
            }
            ControlFlow::Continue(())
        })?;
        // The walk goes backwards in steps that each go forwards.
        messages.sort_unstable_by_key(|seen| seen.offset);
        Ok(ReadBack { messages, complete: reached <= not_before, unreadable })
    }

    /// Visits the messages before `before` until `limits` are filled or `floor` is reached, each once, and gives the offset of the
    /// first. Kafka cannot be read backwards: steps grow as far as the size of the messages seen so far allows.
    fn walk_back(
        &self,
        before: Offset,
        floor: Offset,
        limits: Limits,
        stop: &CancellationToken,
        mut visit: impl FnMut((Offset, Option<&[u8]>)) -> ControlFlow<()>,
    ) -> Result<Offset> {
        let mut reader = RangeReader::new(self, 2 << 20)?;
        let (mut from, mut count, mut bytes, mut step) = (before, 0u64, 0u64, 4u64);
        while from > floor && count < limits.entries as u64 && bytes < limits.payload_bytes {
            let until = from;
            from = Offset(from.0.saturating_sub_unsigned(step)).max(floor);
            reader.read(from, until, stop, |offset, payload| {
                count += 1;
                bytes += payload.map_or(0, <[u8]>::len) as u64;
                visit((offset, payload))
            })?;
            let wanted_bytes = limits.payload_bytes.saturating_sub(bytes);
            let average = (bytes / count.max(1)).max(1);
            let wanted = (limits.entries as u64).saturating_sub(count).min(wanted_bytes / average);
            step = wanted.clamp(1, step * 8);
        }
        Ok(from)
    }
}

/// Reads ranges of partition 0 on the calling thread, without copying payloads.
struct RangeReader<'t> {
    topic: &'t Inner,
    fetch_bytes: usize,
    consumer: BaseConsumer<Events>,
}

impl<'t> RangeReader<'t> {
    fn new(topic: &'t Inner, fetch_bytes: usize) -> Result<Self> {
        Ok(Self { topic, fetch_bytes, consumer: Self::client(topic, fetch_bytes)? })
    }

    fn client(topic: &Inner, fetch_bytes: usize) -> Result<BaseConsumer<Events>> {
        settings::jumping(&topic.endpoint, fetch_bytes)
            .create_with_context(Events::default())
            .map_err(|error| lasting(Trouble::Setting, &topic.name, &error.to_string()))
    }

    fn assign(&self, from: Offset) -> Result<()> {
        let setting = |error: KafkaError| lasting(Trouble::Setting, &self.topic.name, &error.to_string());
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment.add_partition_offset(&self.topic.name, 0, RdOffset::Offset(from.0)).map_err(setting)?;
        self.consumer.assign(&assignment).map_err(setting)
    }

    /// Visits the messages from `from` up to `until`, not included, or until `visit` breaks.
    fn read(
        &mut self,
        mut from: Offset,
        until: Offset,
        stop: &CancellationToken,
        mut visit: impl FnMut(Offset, Option<&[u8]>) -> ControlFlow<()>,
    ) -> Result<()> {
        if from >= until {
            return Ok(());
        }
        let topic = self.topic;
        self.assign(from)?;
        let (mut quiet_since, mut asked_at, mut patience) = (Instant::now(), Instant::now(), STALLED);
        loop {
            if stop.is_cancelled() {
                return Err(Error::cancelled());
            }
            let error = match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let offset = Offset(message.offset());
                    if offset >= until
                        || visit(offset, message.payload()).is_break()
                        || offset.0 + 1 == until.0
                    {
                        return Ok(());
                    }
                    from = Offset(offset.0 + 1);
                    (quiet_since, asked_at, patience) = (Instant::now(), Instant::now(), STALLED);
                    continue;
                }
                Some(Err(error)) => Some(error),
                None if asked_at.elapsed() < QUIET => continue,
                None => None,
            };
            if let Some(error) = &error {
                if trouble(error) == Trouble::CaughtUp {
                    return Ok(());
                }
                if let Some(lasts) = topic.lasts(error, self.consumer.context()) {
                    return Err(lasts);
                }
            }
            // Gives the error itself when Kafka is gone; a broker that answers gets more time.
            let range = topic.log_range(stop, 0)?;
            let refused = error.as_ref().is_some_and(|error| trouble(error) == Trouble::OutOfRange);
            if refused || !range.holds(from) {
                return Err(position_lost(&topic.name, from, Some(range)));
            }
            asked_at = Instant::now();
            if quiet_since.elapsed() < patience {
                continue;
            }
            if patience >= STALLED_MOST {
                return Err(lasting(Trouble::Passing, &topic.name, "it answers, but hands out no messages"));
            }
            // As the stream does: its connection may be one that a network swallowed.
            patience = (patience * 2).min(STALLED_MOST);
            quiet_since = Instant::now();
            self.consumer = Self::client(topic, self.fetch_bytes)?;
            self.assign(from)?;
        }
    }
}

const QUIET: Duration = Duration::from_secs(5);

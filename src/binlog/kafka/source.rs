//! The stream of messages from an offset on, alone or together with others.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::reader::Reader;
use super::tail::{Followers, Seat};
use super::topic::{LogRange, Topic};
use crate::error::Result;
use crate::model::Offset;

/// A stream that stands at the end for so long, and has read no more than [`LITTLE`] meanwhile, shares a reader with others.
const CALM: Duration = Duration::from_secs(5);
const LITTLE: usize = 1 << 20;

/// A message as Kafka holds it.
#[derive(Debug, Clone)]
pub struct RawMessage {
    pub offset: Offset,
    pub payload: Bytes,
    /// When the producer sent it, if Drainer's `kafka-version` carries that at all. Not the commit time.
    pub kafka_timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub enum Incoming {
    Message(RawMessage),
    /// Everything that the log holds has been given out, and for a while nothing came: a log that is written to all the time may never say so.
    /// Comes also when the last offsets are holes without messages (see [`KafkaSource::gaps`]).
    CaughtUp,
}

/// Where changes come from: Kafka, or a script in tests.
pub trait ChangeSource: Send {
    /// The next event, in order of offsets. Waits as long as there is none. Dropping the future loses nothing; after an
    /// error the source is of no use any more, except that `Unreachable` may pass.
    fn next(&mut self) -> impl Future<Output = Result<Incoming>> + Send;
}

enum From {
    /// It begins here, over a client of its own, once it is asked.
    Here,
    Own(Box<Reader>),
    Tail(Seat),
}

/// The messages of a topic from an offset on, in order, each once.
///
/// It reads over a client of its own, or, when it follows a topic that others follow too, stands at its end and has little to
/// read, over one that all of them share.
pub struct KafkaSource {
    topic: Topic,
    from: From,
    next: Offset,
    gaps: u64,
    /// `CaughtUp` was given out.
    is_at_end: bool,
    /// None: it does not share.
    followers: Option<Arc<Followers>>,
    /// When it looks next whether it may share, and what it has read since the last look.
    looks_at: Instant,
    bytes: usize,
}

impl KafkaSource {
    /// Does not wait; [`Topic::open`] checks the position first.
    pub(super) fn alone(topic: &Topic, start: Offset) -> Self {
        Self::new(topic, start, From::Here, None)
    }

    /// As `alone`, for one that stays and may share; `range` is what the log holds.
    pub(super) fn following(topic: &Topic, start: Offset, range: LogRange) -> Result<Self> {
        let followers = Followers::of(topic)?;
        let seat = followers.seat(start, Some(range))?;
        Ok(Self::new(topic, start, seat.map_or(From::Here, From::Tail), Some(followers)))
    }

    fn new(topic: &Topic, start: Offset, from: From, followers: Option<Arc<Followers>>) -> Self {
        Self {
            topic: topic.clone(),
            from,
            next: start,
            gaps: 0,
            is_at_end: false,
            followers,
            looks_at: Instant::now() + CALM,
            bytes: 0,
        }
    }

    /// The offset that the next message should have.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Offsets that the log jumped over. Drainer's topic has none: something else writes to it with transactions, or a mirror
    /// or compaction made holes.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Reads over a client that others read over too.
    pub fn is_sharing(&self) -> bool {
        matches!(self.from, From::Tail(_))
    }

    /// Lets its client go where others have one for it.
    fn share(&mut self) {
        self.looks_at = Instant::now() + CALM;
        let is_calm = std::mem::take(&mut self.bytes) <= LITTLE;
        let Some(followers) = self.followers.as_ref().filter(|_| is_calm) else { return };
        match followers.seat(self.next, None) {
            Ok(Some(seat)) => {
                tracing::debug!(topic = self.topic.name(), offset = self.next.0, "reads with others");
                self.from = From::Tail(seat);
            }
            Ok(None) => {}
            // It has a client that works.
            Err(error) => tracing::debug!(topic = self.topic.name(), %error, "cannot read with others"),
        }
    }

    fn took(&mut self, message: &RawMessage) {
        if message.offset > self.next {
            self.gaps += 1;
            if self.gaps == 1 {
                let (wanted, got) = (self.next.0, message.offset.0);
                tracing::warn!(topic = self.topic.name(), wanted, got, "the log jumps over offsets");
            }
        }
        self.next = Offset(message.offset.0 + 1);
        self.bytes = self.bytes.saturating_add(message.payload.len());
        self.is_at_end = false;
    }
}

impl ChangeSource for KafkaSource {
    async fn next(&mut self) -> Result<Incoming> {
        loop {
            let may_share = self.is_at_end && self.followers.is_some();
            let incoming = match &mut self.from {
                From::Here => {
                    self.from = From::Own(Box::new(Reader::start(self.topic.clone(), self.next)?));
                    continue;
                }
                From::Own(reader) => tokio::select! {
                    biased;
                    incoming = reader.next() => incoming?,
                    () = tokio::time::sleep_until(self.looks_at), if may_share => {
                        self.share();
                        continue;
                    }
                },
                From::Tail(seat) => match seat.next(self.next, self.is_at_end).await {
                    Ok(Some(incoming)) => incoming,
                    over => {
                        tracing::debug!(topic = self.topic.name(), offset = self.next.0, "reads alone again");
                        self.from = From::Here;
                        (self.looks_at, self.bytes) = (Instant::now() + CALM, 0);
                        over?;
                        continue;
                    }
                },
            };
            match &incoming {
                Incoming::Message(message) => self.took(message),
                Incoming::CaughtUp => self.is_at_end = true,
            }
            return Ok(incoming);
        }
    }
}

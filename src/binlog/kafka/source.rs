//! The stream of messages from an offset on.
//!
//! Built on rdkafka's `StreamConsumer`: librdkafka's own threads fetch ahead into a queue bounded in bytes (16 MiB, and always one
//! message), and `next` takes from it without a thread of ours in between, so back-pressure is simply not calling it.
//! A payload is copied once out of librdkafka's fetch buffer: a small message would otherwise pin megabytes.
//! Dropping the future of `next` loses nothing.
//!
//! librdkafka repairs connections by itself and is silent about it. So that an outage does not look like an idle topic, a silent
//! stream asks [`Topic`] every 10 seconds, and at once after an error, whether the log is there and where it ends. An outage
//! shows as an error after at most [`QUIET`] plus 10 seconds, a position that the log lost as well.
//!
//! librdkafka waits five minutes for an answer, since one message may be 1 GiB. A connection that a network swallowed is not worth
//! that: when the log has more and nothing arrives, the stream goes on over a new client, which waits twice as long as the last.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset as RdOffset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::binlog::kafka::settings::{self, REQUEST_TIMEOUT};
use crate::binlog::kafka::topic::{LogRange, OffThread, Topic};
use crate::binlog::kafka::trouble::{Events, Trouble, lasting, position_lost, trouble};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::Offset;

/// A stream that says nothing for so long is asked after.
const QUIET: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long the log may have more while a new client gives nothing; doubled for the next one, up to the slowest answer that
/// librdkafka waits for.
pub(super) const STALLED: Duration = Duration::from_secs(20);
pub(super) const STALLED_MOST: Duration = Duration::from_secs(REQUEST_TIMEOUT.as_secs() + 60);

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
    /// Everything that the log holds has been given out. Comes once each time that the end is reached, also when the last
    /// offsets are holes without messages (see [`KafkaSource::gaps`]).
    CaughtUp,
}

/// Where changes come from: Kafka, or a script in tests.
pub trait ChangeSource: Send {
    /// The next event, in order of offsets. Waits as long as there is none. Dropping the future loses nothing; after an
    /// error the source is of no use any more, except that `Unreachable` may pass.
    fn next(&mut self) -> impl Future<Output = Result<Incoming>> + Send;
}

/// See the module.
pub struct KafkaSource {
    topic: Topic,
    consumer: OffThread<StreamConsumer<Events>>,
    next: Offset,
    gaps: u64,
    /// Everything before it was given out: `next`, or the log's end as seen after `CaughtUp`, when holes are at the end.
    delivered: Offset,
    caught_up: bool,
    /// Since when the log is known to have more than was given out.
    waits_since: Option<Instant>,
    /// How long this client may give nothing.
    patience: Duration,
    probe_at: Instant,
    probe: Option<JoinHandle<Result<LogRange>>>,
    /// The broker refused the position; the probe finds out why.
    refused: bool,
}

impl KafkaSource {
    /// Must be called within a tokio runtime. Does not wait; use [`Topic::open`], which checks the position first.
    pub(super) fn start(topic: Topic, start: Offset) -> Result<Self> {
        let consumer = client(&topic, start)?;
        Ok(Self {
            topic,
            consumer,
            next: start,
            gaps: 0,
            delivered: start,
            caught_up: false,
            waits_since: None,
            patience: STALLED,
            probe_at: Instant::now() + QUIET,
            probe: None,
            refused: false,
        })
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

    fn probe_now(&mut self) {
        if self.probe.is_none() {
            let topic = self.topic.clone();
            // A task of its own: it must come to its end although callers drop `next` all the time.
            self.probe = Some(tokio::spawn(async move { topic.log_range().await }));
        }
    }

    fn probed(&mut self, answer: Result<LogRange>) -> Result<()> {
        self.probe = None;
        let lost = |range| Err(position_lost(self.topic.name(), self.next, range));
        let range = match answer {
            Ok(range) => range,
            // It was there when the stream was opened.
            Err(error) if error.kind == ErrorKind::Missing => return lost(None),
            Err(error) => return Err(error),
        };
        if self.refused || !range.holds(self.next) {
            return lost(Some(range));
        }
        if std::mem::take(&mut self.caught_up) {
            self.delivered = range.end;
        }
        if range.end <= self.delivered {
            self.waits_since = None;
        } else if self.waits_since.get_or_insert_with(Instant::now).elapsed() >= self.patience {
            if self.patience >= STALLED_MOST {
                return Err(lasting(
                    Trouble::Passing,
                    self.topic.name(),
                    "the log has more messages, but none arrives",
                ));
            }
            tracing::warn!(
                topic = self.topic.name(),
                offset = self.next.0,
                waited_s = self.patience.as_secs(),
                "the log has more, but nothing arrives: going on over a new connection"
            );
            self.patience = (self.patience * 2).min(STALLED_MOST);
            self.waits_since = None;
            self.consumer = client(&self.topic, self.next)?;
        }
        self.probe_at = Instant::now() + PROBE_EVERY;
        Ok(())
    }

    fn failed(&mut self, error: &KafkaError, events_say: Option<Error>) -> Result<Option<Incoming>> {
        match trouble(error) {
            Trouble::CaughtUp => {
                self.caught_up = true;
                return Ok(Some(Incoming::CaughtUp));
            }
            Trouble::Group => {}
            Trouble::OutOfRange => {
                self.refused = true;
                self.probe_now();
            }
            Trouble::Passing | Trouble::NoTopic => {
                tracing::debug!(topic = self.topic.name(), "kafka trouble: {error}");
                self.probe_now();
            }
            Trouble::Refused | Trouble::BadRecord | Trouble::Setting => {
                return Err(events_say.unwrap_or_else(|| Error::internal(error)));
            }
        }
        Ok(None)
    }
}

impl ChangeSource for KafkaSource {
    async fn next(&mut self) -> Result<Incoming> {
        loop {
            let Some(consumer) = self.consumer.get() else { return Err(Error::cancelled()) };
            let error = tokio::select! {
                biased;
                received = consumer.recv() => match received {
                    Ok(message) => {
                        let message = take(&self.topic, &message)?;
                        if message.offset > self.next {
                            self.gaps += 1;
                            if self.gaps == 1 {
                                let (wanted, got) = (self.next.0, message.offset.0);
                                tracing::warn!(topic = self.topic.name(), wanted, got, "the log jumps over offsets");
                            }
                        }
                        self.next = Offset(message.offset.0 + 1);
                        self.delivered = self.next;
                        self.caught_up = false;
                        self.waits_since = None;
                        self.patience = STALLED;
                        self.probe_at = Instant::now() + QUIET;
                        return Ok(Incoming::Message(message));
                    }
                    Err(error) => error,
                },
                answer = finished(&mut self.probe) => {
                    self.probed(answer)?;
                    continue;
                }
                () = tokio::time::sleep_until(self.probe_at), if self.probe.is_none() => {
                    self.probe_now();
                    continue;
                }
            };
            let lasts = self.topic.0.lasts(&error, consumer.context());
            if let Some(event) = self.failed(&error, lasts)? {
                return Ok(event);
            }
        }
    }
}

/// A client of librdkafka that reads partition 0 from an offset on.
fn client(topic: &Topic, from: Offset) -> Result<OffThread<StreamConsumer<Events>>> {
    let setting = |error: KafkaError| lasting(Trouble::Setting, topic.name(), &error.to_string());
    let consumer: StreamConsumer<Events> =
        settings::streaming(&topic.0.endpoint).create_with_context(Events::default()).map_err(setting)?;
    let mut assignment = TopicPartitionList::with_capacity(1);
    assignment.add_partition_offset(topic.name(), 0, RdOffset::Offset(from.0)).map_err(setting)?;
    consumer.assign(&assignment).map_err(setting)?;
    Ok(OffThread(Some(consumer)))
}

/// Copies the message out of librdkafka's buffer.
fn take(topic: &Topic, message: &BorrowedMessage<'_>) -> Result<RawMessage> {
    let offset = Offset(message.offset());
    let payload = message.payload().ok_or_else(|| {
        Error::new(ErrorKind::CorruptMessage, "a message without a value")
            .endpoint(Endpoint::Kafka)
            .object(format!("topic {} offset {offset}", topic.name()))
            .hint(
                "Drainer writes none. Something else writes to the topic: stop that, \
                 and start the task after this offset.",
            )
    })?;
    Ok(RawMessage {
        offset,
        payload: Bytes::copy_from_slice(payload),
        kafka_timestamp_ms: message.timestamp().to_millis(),
    })
}

/// The answer of a probe; never without one.
async fn finished(probe: &mut Option<JoinHandle<Result<LogRange>>>) -> Result<LogRange> {
    match probe {
        Some(probe) => probe.await.map_err(Error::internal)?,
        None => std::future::pending().await,
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

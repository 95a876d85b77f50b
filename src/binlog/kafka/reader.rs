//! The messages from an offset on, over a client of their own.
//!
//! Built on rdkafka's `StreamConsumer`: librdkafka's own threads fetch ahead into a queue bounded in bytes (4 MiB, and always one
//! message), and `next` takes from it without a thread of ours in between, so back-pressure is simply not calling it.
//! A payload is copied once out of librdkafka's fetch buffer: a small message would otherwise pin megabytes. A large one fills its buffer
//! alone and stays there, for two copies of 1 GiB are one too many.
//! Dropping the future of `next` loses nothing.
//!
//! librdkafka repairs connections by itself and is silent about it. So that an outage does not look like an idle topic, a silent
//! stream asks [`Topic`] every 10 seconds, and at once after an error, whether the log is there and where it ends. An outage
//! shows as an error after at most [`QUIET`] plus 10 seconds, a position that the log lost as well.
//!
//! How it asks depends on how many messages come ([`Pace`]), which librdkafka has no way to change: it goes on over a new client.
//!
//! librdkafka waits five minutes for an answer, since one message may be 1 GiB. A connection that a network swallowed is not worth
//! that: when the log has more and nothing arrives, the stream goes on over a new client, which waits twice as long as the last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset as RdOffset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::binlog::kafka::settings::{self, Pace, REQUEST_TIMEOUT};
use crate::binlog::kafka::source::{ChangeSource, Incoming, RawMessage};
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

/// How long messages are counted, at least, to find the pace; a busy stream that pauses stays busy for a while.
const COUNTED: Duration = Duration::from_secs(2);
const COUNTED_BUSY: Duration = Duration::from_secs(60);
/// Messages a second from which on a stream is busy, and below which it is calm again.
const BUSY: f64 = 500.0;
const CALM: f64 = 100.0;

/// A message from this size on stays where librdkafka has put it: one answer holds little else.
pub(super) const LARGE: usize = 4 << 20;

type Client = OffThread<StreamConsumer<Events>>;

/// A message in librdkafka's buffer, and the client that it belongs to.
#[ouroboros::self_referencing]
struct Held {
    client: Arc<Client>,
    #[borrows(client)]
    #[covariant]
    message: BorrowedMessage<'this>,
}

impl Held {
    /// The next message of the client. Dropping the future loses nothing. None when the client is being closed.
    async fn next(client: &Arc<Client>) -> Option<Result<Self, KafkaError>> {
        client.get()?;
        let next = Self::try_new_async_send(Arc::clone(client), |client| {
            Box::pin(async move {
                match client.get() {
                    Some(client) => client.recv().await,
                    None => Err(KafkaError::Canceled),
                }
            })
        });
        Some(next.await)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.borrow_message().payload().unwrap_or_default()
    }
}

/// See the module.
pub(super) struct Reader {
    topic: Topic,
    client: Arc<Client>,
    pace: Pace,
    /// Messages since then.
    counted_since: Instant,
    counted: u32,
    next: Offset,
    /// Everything before it was given out: `next`, or the log's end as seen after `CaughtUp`, when holes are at the end.
    delivered: Offset,
    caught_up: bool,
    /// Since when the log is known to have more than was given out.
    waits_since: Option<Instant>,
    /// How long this client may give nothing.
    patience: Duration,
    probe_at: Instant,
    probe: Option<JoinHandle<Result<LogRange>>>,
    /// `next` when it began: its answer may be older than what was read meanwhile.
    probed_at: Offset,
    /// The broker refused the position; the probe finds out why.
    refused: bool,
}

impl Reader {
    /// Must be called within a tokio runtime. Does not wait; use [`Topic::open`], which checks the position first.
    pub(super) fn start(topic: Topic, start: Offset) -> Result<Self> {
        let client = client(&topic, start, Pace::Calm)?;
        Ok(Self {
            topic,
            client,
            pace: Pace::Calm,
            counted_since: Instant::now(),
            counted: 0,
            next: start,
            delivered: start,
            caught_up: false,
            waits_since: None,
            patience: STALLED,
            probe_at: Instant::now() + QUIET,
            probe: None,
            probed_at: start,
            refused: false,
        })
    }

    /// Goes on at another pace when so many, or so few, messages come.
    fn keep_pace(&mut self) {
        let time = self.counted_since.elapsed();
        let counted = if self.pace == Pace::Calm { COUNTED } else { COUNTED_BUSY };
        if time < counted {
            return;
        }
        let rate = f64::from(self.counted) / time.as_secs_f64();
        (self.counted_since, self.counted) = (Instant::now(), 0);
        let pace = match self.pace {
            Pace::Calm if rate >= BUSY => Pace::Busy,
            Pace::Busy if rate < CALM => Pace::Calm,
            _ => return,
        };
        match client(&self.topic, self.next, pace) {
            Ok(client) => (self.client, self.pace) = (client, pace),
            // The one that it has works.
            Err(error) => {
                tracing::debug!(topic = self.topic.name(), %error, "no client for another pace");
                return;
            }
        }
        tracing::debug!(topic = self.topic.name(), offset = self.next.0, ?pace, "reads at another pace");
    }

    fn probe_now(&mut self) {
        if self.probe.is_none() {
            let topic = self.topic.clone();
            self.probed_at = self.next;
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
        if self.refused || range.start > self.next || range.end < self.probed_at {
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
            self.client = client(&self.topic, self.next, self.pace)?;
        }
        self.probe_at = Instant::now() + PROBE_EVERY;
        self.keep_pace();
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

impl ChangeSource for Reader {
    async fn next(&mut self) -> Result<Incoming> {
        loop {
            let error = tokio::select! {
                biased;
                received = Held::next(&self.client) => match received {
                    None => return Err(Error::cancelled()),
                    Some(Ok(message)) => {
                        let message = take(&self.topic, message)?;
                        self.next = Offset(message.offset.0 + 1);
                        self.delivered = self.next;
                        self.caught_up = false;
                        self.waits_since = None;
                        self.patience = STALLED;
                        self.probe_at = Instant::now() + QUIET;
                        self.counted += 1;
                        self.keep_pace();
                        return Ok(Incoming::Message(message));
                    }
                    Some(Err(error)) => error,
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
            let Some(client) = self.client.get() else { return Err(Error::cancelled()) };
            let lasts = self.topic.0.lasts(&error, client.context());
            if let Some(event) = self.failed(&error, lasts)? {
                return Ok(event);
            }
        }
    }
}

/// A client of librdkafka that reads partition 0 from an offset on.
fn client(topic: &Topic, from: Offset, pace: Pace) -> Result<Arc<Client>> {
    let setting = |error: KafkaError| lasting(Trouble::Setting, topic.name(), &error.to_string());
    let consumer: StreamConsumer<Events> = settings::streaming(&topic.0.endpoint, pace)
        .create_with_context(Events::default())
        .map_err(setting)?;
    let mut assignment = TopicPartitionList::with_capacity(1);
    assignment.add_partition_offset(topic.name(), 0, RdOffset::Offset(from.0)).map_err(setting)?;
    consumer.assign(&assignment).map_err(setting)?;
    Ok(Arc::new(OffThread(Some(consumer))))
}

/// Copies a message out of librdkafka's buffer, unless it is large.
fn take(topic: &Topic, held: Held) -> Result<RawMessage> {
    let message = held.borrow_message();
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
    let kafka_timestamp_ms = message.timestamp().to_millis();
    let large = payload.len() >= LARGE;
    let payload = if large { Bytes::from_owner(held) } else { Bytes::copy_from_slice(payload) };
    Ok(RawMessage { offset, payload, kafka_timestamp_ms })
}

/// The answer of a probe; never without one.
async fn finished(probe: &mut Option<JoinHandle<Result<LogRange>>>) -> Result<LogRange> {
    match probe {
        Some(probe) => probe.await.map_err(Error::internal)?,
        None => std::future::pending().await,
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KafkaEndpoint, Tls};

    #[tokio::test]
    async fn an_answer_is_judged_by_where_the_stream_stood_when_it_asked() {
        let endpoint =
            KafkaEndpoint { brokers: vec!["127.0.0.1:1".to_owned()], sasl: None, tls: Tls::default() };
        let mut reader = Reader::start(Topic::new(&endpoint, "t").unwrap(), Offset(100)).unwrap();
        reader.probe_now();
        // Fifty messages come before the answer does.
        reader.next = Offset(150);
        let range = |start, end| LogRange { start: Offset(start), end: Offset(end) };
        assert!(reader.probed(Ok(range(0, 120))).is_ok());
        assert!(reader.probed(Ok(range(130, 150))).is_ok(), "retention is behind what was read");
        for lost in [range(0, 99), range(151, 200)] {
            assert_eq!(reader.probed(Ok(lost)).unwrap_err().kind, ErrorKind::PositionLost, "{lost:?}");
        }
    }
}

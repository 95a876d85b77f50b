//! Questions to Kafka about one topic, each bounded in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio_util::sync::CancellationToken;

use crate::binlog::kafka::settings;
use crate::binlog::kafka::source::{KafkaSource, RawMessage};
use crate::binlog::kafka::trouble::{Events, Trouble, cause, lasting, position_lost, trouble};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{KafkaEndpoint, Offset};
use crate::shared::Shared;

/// How long a question may take before Kafka counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one attempt may take: between attempts errors of the connection are looked at, and a cancelled question ends.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A broker that just started may not know a topic yet.
const TOPIC_PATIENCE: Duration = Duration::from_secs(3);

/// Offsets that partition 0 holds: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    pub start: Offset,
    /// The offset that the next message will get.
    pub end: Offset,
}

impl LogRange {
    /// Whether reading can begin at this offset.
    pub fn holds(&self, offset: Offset) -> bool {
        self.start <= offset && offset <= self.end
    }
}

/// A topic in a cluster. Cheap to clone; everything that asks the same endpoint shares one client, whose connection is opened by the
/// first question.
#[derive(Clone)]
pub struct Topic(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub endpoint: KafkaEndpoint,
    pub name: String,
    asking: Arc<Asking>,
}

/// A client that only asks.
struct Asking {
    endpoint: KafkaEndpoint,
    client: OffThread<BaseConsumer<Events>>,
}

static ASKING: Shared<Asking> = Shared::new();

fn asking(endpoint: &KafkaEndpoint) -> KafkaResult<Arc<Asking>> {
    ASKING.get(
        |asking| asking.endpoint.is_same(endpoint),
        || {
            let client = settings::asking(endpoint).create_with_context(Events::default())?;
            Ok(Arc::new(Asking { endpoint: endpoint.clone(), client: OffThread(Some(client)) }))
        },
    )
}

impl Topic {
    /// Checks the settings; does not connect.
    pub fn new(endpoint: &KafkaEndpoint, name: &str) -> Result<Self> {
        let asking = asking(endpoint).map_err(|error| lasting(Trouble::Setting, name, &error.to_string()))?;
        Ok(Self(Arc::new(Inner { endpoint: endpoint.clone(), name: name.to_owned(), asking })))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same topic at the same brokers, with the same login.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.name == other.0.name && self.0.endpoint.is_same(&other.0.endpoint)
    }

    /// The cluster's id, to notice a topic of the same name in another cluster.
    pub async fn cluster_id(&self) -> Result<String> {
        self.blocking(|topic, stop| {
            topic.ask(stop, |client, time| {
                client
                    .client()
                    .fetch_cluster_id(time)
                    .ok_or(KafkaError::MetadataFetch(Code::OperationTimedOut))
            })
        })
        .await
    }

    /// That the topic exists and is one that Drainer can have written: Drainer writes to partition 0 whatever the topic has
    /// (source-drainer.md 2.1), so further partitions may exist, as automatic creation makes them, but must be empty.
    pub async fn verify(&self) -> Result<()> {
        self.blocking(Inner::verify).await
    }

    /// What partition 0 holds now.
    pub async fn log_range(&self) -> Result<LogRange> {
        self.blocking(|topic, stop| topic.log_range(stop, 0)).await
    }

    /// The offset that the next message will get: what is still to be read is `end_offset - next_offset`.
    pub async fn end_offset(&self) -> Result<Offset> {
        Ok(self.log_range().await?.end)
    }

    /// How long the topic keeps a message; None = for ever. Needs DESCRIBE_CONFIGS.
    pub async fn retention_ms(&self) -> Result<Option<i64>> {
        let name = self.name().to_owned();
        let refused = |text: String| lasting(Trouble::Refused, &name, &text);
        let admin: AdminClient<DefaultClientContext> = settings::asking(&self.0.endpoint)
            .create()
            .map_err(|error| lasting(Trouble::Setting, &name, &error.to_string()))?;
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let answer = admin.describe_configs(&[ResourceSpecifier::Topic(&name)], &options).await;
        // Its thread ends with it, which takes a moment.
        drop(OffThread(Some(admin)));
        let found = answer.map_err(|error| refused(error.to_string()))?.pop();
        let resource = found.ok_or_else(|| refused("no answer".to_owned()))?;
        let resource = resource.map_err(|code| refused(code.to_string()))?;
        let setting = resource.entries.into_iter().find(|entry| entry.name == "retention.ms");
        Ok(setting.and_then(|entry| entry.value?.parse().ok()).filter(|ms: &i64| *ms >= 0))
    }

    /// One message as it lies in the log: the first at this offset or behind it. None at the end of the log.
    pub async fn message(&self, offset: Offset) -> Result<Option<RawMessage>> {
        let range = self.log_range().await?;
        if offset < range.start || offset > range.end {
            return Err(position_lost(&self.0.name, offset, Some(range)));
        }
        self.blocking(move |topic, stop| topic.one(offset, range.end, stop)).await
    }

    /// The stream from `start` on, which the log must hold.
    pub async fn open(&self, start: Offset) -> Result<KafkaSource> {
        self.check(start).await?;
        Ok(KafkaSource::alone(self, start))
    }

    /// As [`Self::open`], for one that stays: at the end of the log it shares a client with all others that follow it.
    pub async fn follow(&self, start: Offset) -> Result<KafkaSource> {
        let range = self.check(start).await?;
        KafkaSource::following(self, start, range)
    }

    /// What the log holds, `start` with it.
    async fn check(&self, start: Offset) -> Result<LogRange> {
        self.verify().await?;
        let range = self.log_range().await?;
        if range.holds(start) { Ok(range) } else { Err(position_lost(&self.0.name, start, Some(range))) }
    }

    /// librdkafka's questions block a thread; a dropped future ends the question at its next attempt.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &CancellationToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        tokio::task::spawn_blocking(move || work(&inner, &stop)).await.map_err(Error::internal)?
    }
}

impl Inner {
    fn ask<T>(
        &self,
        stop: &CancellationToken,
        attempt: impl Fn(&BaseConsumer<Events>, Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let Some(client) = self.asking.client.get() else { return Err(Error::cancelled()) };
        let events = client.context();
        let began = Instant::now();
        let mut unknown_since = None;
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let error = match attempt(client, left.min(ATTEMPT)) {
                Ok(answer) => {
                    events.forget();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // Lets the client hand over what happened on its connections.
            while client.poll(Duration::ZERO).is_some() {}
            let (mut trouble, mut text) = cause(&error, events);
            // librdkafka goes on saying so while no broker is there: one that shuts down names no topics any more.
            if matches!(trouble, Trouble::NoTopic)
                && let Err(error) = client.fetch_metadata(Some(&self.name), ATTEMPT)
                && let (of_brokers @ Trouble::Passing, reason) = cause(&error, events)
            {
                (trouble, text) = (of_brokers, reason);
            }
            // A TLS handshake may also fail because the broker just goes down, so that is judged at the end.
            let waits = match trouble {
                Trouble::Passing | Trouble::Group | Trouble::CaughtUp => PATIENCE,
                Trouble::Refused
                    if events.last().is_some_and(|(e, _)| e.rdkafka_error_code() == Some(Code::SSL)) =>
                {
                    PATIENCE
                }
                Trouble::NoTopic => TOPIC_PATIENCE,
                _ => Duration::ZERO,
            };
            if stop.is_cancelled() {
                return Err(Error::cancelled());
            }
            // From its first word on: a broker that was down and comes back knows no topic for a moment.
            let since = match trouble {
                Trouble::NoTopic => *unknown_since.get_or_insert_with(Instant::now),
                _ => {
                    unknown_since = None;
                    began
                }
            };
            if since.elapsed() >= waits {
                return Err(lasting(trouble, &self.name, &text));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn verify(&self, stop: &CancellationToken) -> Result<()> {
        let partitions = self.ask(stop, |client, time| {
            let metadata = client.fetch_metadata(Some(&self.name), time)?;
            let topic = metadata.topics().first().filter(|topic| topic.name() == self.name);
            let missing = KafkaError::MetadataFetch(Code::UnknownTopicOrPartition);
            let Some(topic) = topic else { return Err(missing) };
            if let Some(error) = topic.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
            if partitions.contains(&0) { Ok(partitions) } else { Err(missing) }
        })?;
        for partition in partitions.into_iter().filter(|partition| *partition != 0) {
            let range = self.log_range(stop, partition)?;
            if range.end > Offset(0) {
                let message =
                    format!("partition {partition} holds messages, and Drainer writes to partition 0 only");
                return Err(Error::new(ErrorKind::Configuration, message)
                    .endpoint(Endpoint::Kafka)
                    .object(format!("topic {}", self.name))
                    .hint("Name the topic that Drainer writes; nothing else may write to it."));
            }
        }
        Ok(())
    }

    pub(super) fn log_range(&self, stop: &CancellationToken, partition: i32) -> Result<LogRange> {
        self.ask(stop, |client, time| {
            let (start, end) = client.fetch_watermarks(&self.name, partition, time)?;
            Ok(LogRange { start: Offset(start), end: Offset(end) })
        })
    }

    /// Whether an error of another client of this topic passes by itself, or the error that it is.
    pub(super) fn lasts(&self, error: &KafkaError, events: &Events) -> Option<Error> {
        match trouble(error) {
            Trouble::Passing
            | Trouble::CaughtUp
            | Trouble::Group
            | Trouble::NoTopic
            | Trouble::OutOfRange => None,
            lasts => {
                let reason = events.last().map_or_else(|| error.to_string(), |(_, reason)| reason);
                Some(lasting(lasts, &self.name, &reason))
            }
        }
    }
}

/// A client of librdkafka, which may block while it is dropped: that happens on a thread of its own.
pub(super) struct OffThread<T: Send + 'static>(pub Option<T>);

impl<T: Send> OffThread<T> {
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Send + 'static> Drop for OffThread<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // When no thread can be had, the closure is dropped here, and the client with it.
        let _ = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client));
    }
}

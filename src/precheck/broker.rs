//! Questions to a Kafka cluster.
//!
//! librdkafka blocks and says only "time-out" where a login failed or no broker is there: calls run on the blocking pool, the
//! causes that it reports on the side are collected, and a broker is first tried with a plain TCP connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as At, TopicPartitionList};

use super::message::{Summary, inspect};
use crate::binlog::client::client_config;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{KafkaEndpoint, Offset};

/// Time for a TCP connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for an answer about topics, offsets or settings.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One try of a call; between tries the causes are looked at.
const TRY: Duration = Duration::from_millis(1500);

/// Time for one message, which can be large.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Offsets looked at for a message: the last ones of a topic may be marks of a transaction.
const OFFSETS_TRIED: i64 = 5;

/// For a user that is known and may not do this.
pub(super) const ACL_HINT: &str =
    "give this user READ, DESCRIBE and DESCRIBE_CONFIGS on the topic (kafka-acls)";

pub(super) struct Broker {
    consumer: Arc<BaseConsumer<Causes>>,
    config: ClientConfig,
}

/// What the cluster knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub name: String,
    pub partitions: u32,
    /// `host:port` under which the leader of partition 0 is announced.
    pub leader: Option<String>,
}

/// First offset and the one after the last, of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: Offset,
    pub end: Offset,
}

/// One message, looked at where it lay: a payload of 1 GiB is not copied.
pub(super) struct Record {
    pub offset: Offset,
    /// Of the payload, in bytes.
    pub size: u64,
    /// What it holds, or why it is none of Drainer's.
    pub content: std::result::Result<Summary, String>,
}

/// Collects why librdkafka cannot do what it is asked for.
#[derive(Default)]
struct Causes(Mutex<Vec<(RDKafkaErrorCode, String)>>);

impl ClientContext for Causes {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            causes.push((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Causes {}

impl Causes {
    /// The cause that no waiting will heal.
    fn final_cause(&self) -> Option<(RDKafkaErrorCode, String)> {
        let causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        causes.iter().find(|(code, _)| is_final(*code)).cloned()
    }

    fn last(&self) -> Option<String> {
        let causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let worth = |code: RDKafkaErrorCode| code != RDKafkaErrorCode::AllBrokersDown;
        causes.iter().rev().find(|(code, _)| worth(*code)).map(|(_, reason)| reason.clone())
    }
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL
    )
}

fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).endpoint(Endpoint::Kafka)
}

/// `host:port` pairs that take no TCP connection, each with the cause.
pub(super) async fn unreachable<'a>(places: impl IntoIterator<Item = &'a str>) -> Vec<(String, String)> {
    let tries = places.into_iter().map(|place| async move {
        match tokio::time::timeout(REACH_TIMEOUT, tokio::net::TcpStream::connect(place)).await {
            Ok(Ok(_)) => None,
            Ok(Err(cause)) => Some((place.to_owned(), cause.to_string())),
            Err(_) => Some((place.to_owned(), format!("no answer within {} s", REACH_TIMEOUT.as_secs()))),
        }
    });
    futures_util::future::join_all(tries).await.into_iter().flatten().collect()
}

impl Broker {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// `Configuration` for settings that librdkafka refuses (a certificate that is no PEM, an unknown mechanism).
    pub fn new(endpoint: &KafkaEndpoint) -> Result<Self> {
        let mut config = client_config(endpoint);
        config.set("socket.timeout.ms", "15000");
        let consumer = config
            .clone()
            // Needed to read by assignment; no group is joined and nothing is committed.
            .set("group.id", "tidegate-precheck")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "1024")
            .create_with_context(Causes::default())
            .map_err(|cause| {
                error(ErrorKind::Configuration, cause.to_string())
                    .hint("check tls.ca (PEM) and sasl.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)")
            })?;
        Ok(Self { consumer: Arc::new(consumer), config })
    }

    /// Runs a blocking call again and again until it works, its time is over or a cause is final.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl Fn(&BaseConsumer<Causes>, Duration) -> std::result::Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let consumer = Arc::clone(&self.consumer);
        blocking(move || {
            let started = Instant::now();
            loop {
                let failed = match call(&consumer, TRY) {
                    Ok(value) => return Ok(value),
                    Err(failed) => failed,
                };
                // Events are handed out by polling; no partition is assigned yet, so no message is lost.
                while consumer.poll(Duration::from_millis(10)).is_some() {}
                if let Some((code, reason)) = consumer.context().final_cause() {
                    return Err(refused(code, &reason));
                }
                if started.elapsed() > ANSWER_TIMEOUT || !is_passing(&failed) {
                    let reason = consumer.context().last().unwrap_or_else(|| failed.to_string());
                    return Err(failure(&failed, &reason));
                }
            }
        })
        .await
    }

    /// Topics by name, all of them for None; and the `host:port` pairs under which the brokers announce themselves.
    pub async fn topics(&self, name: Option<&str>) -> Result<(Vec<Topic>, Vec<String>)> {
        let name = name.map(str::to_owned);
        self.ask(move |consumer, limit| {
            let metadata = consumer.fetch_metadata(name.as_deref(), limit)?;
            let places: HashMap<i32, String> = metadata
                .brokers()
                .iter()
                .map(|broker| (broker.id(), place(broker.host(), broker.port())))
                .collect();
            let mut topics = Vec::new();
            for topic in metadata.topics() {
                if let Some(code) = topic.error() {
                    let code = RDKafkaErrorCode::from(code);
                    match code {
                        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                            continue;
                        }
                        RDKafkaErrorCode::LeaderNotAvailable => {}
                        _ if name.is_none() => continue,
                        _ => return Err(KafkaError::MetadataFetch(code)),
                    }
                }
                let leader = topic.partitions().iter().find(|partition| partition.id() == 0);
                topics.push(Topic {
                    name: topic.name().to_owned(),
                    partitions: topic.partitions().len() as u32,
                    leader: leader.and_then(|partition| places.get(&partition.leader()).cloned()),
                });
            }
            let mut places: Vec<String> = places.into_values().collect();
            places.sort_unstable();
            Ok((topics, places))
        })
        .await
    }

    pub async fn range(&self, topic: &str, partition: i32) -> Result<Range> {
        let topic = topic.to_owned();
        self.ask(move |consumer, limit| {
            let (start, end) = consumer.fetch_watermarks(&topic, partition, limit)?;
            Ok(Range { start: Offset(start), end: Offset(end) })
        })
        .await
    }

    /// The settings of topics that this login may see.
    pub async fn settings(&self, topics: &[&str]) -> Result<HashMap<String, HashMap<String, String>>> {
        let admin: AdminClient<DefaultClientContext> =
            self.config.create().map_err(|cause| error(ErrorKind::Configuration, cause.to_string()))?;
        let wanted: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let answer = admin.describe_configs(&wanted, &options).await;
        // Its background thread ends with it, which takes a moment.
        let ended = tokio::task::spawn_blocking(move || drop(admin)).await;
        ended.map_err(Error::internal)?;
        let mut settings = HashMap::new();
        for (topic, resource) in
            topics.iter().zip(answer.map_err(|failed| failure(&failed, &failed.to_string()))?)
        {
            match resource {
                Ok(resource) => {
                    let values =
                        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                    settings.insert((*topic).to_owned(), values.collect());
                }
                Err(code) if topics.len() == 1 => {
                    return Err(failure(&KafkaError::AdminOp(code), &code.to_string()));
                }
                Err(_) => {}
            }
        }
        Ok(settings)
    }

    /// The first message of partition 0 at `from` or after it and before `end`; None when there is none.
    async fn read(&self, topic: &str, from: Offset, end: Offset) -> Result<Option<Record>> {
        if from >= end {
            return Ok(None);
        }
        let consumer = Arc::clone(&self.consumer);
        let topic = topic.to_owned();
        blocking(move || {
            let answer = read_one(&consumer, &topic, from, end);
            // What was fetched beyond the message would wait in memory.
            consumer.unassign().map_err(|failed| failure(&failed, &failed.to_string()))?;
            answer
        })
        .await
    }

    pub async fn first(&self, topic: &str, range: Range) -> Result<Option<Record>> {
        self.read(topic, range.start, range.end).await
    }

    pub async fn last(&self, topic: &str, range: Range) -> Result<Option<Record>> {
        let oldest = (range.end.0 - OFFSETS_TRIED).max(range.start.0);
        for from in (oldest..range.end.0).rev() {
            if let Some(record) = self.read(topic, Offset(from), range.end).await? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Ends the client's threads.
    pub async fn close(self) {
        let consumer = self.consumer;
        // A panic in there is nobody's business any more.
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    }
}

fn read_one(
    consumer: &BaseConsumer<Causes>,
    topic: &str,
    from: Offset,
    end: Offset,
) -> Result<Option<Record>> {
    let failed = |failed: KafkaError| failure(&failed, &failed.to_string());
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, At::Offset(from.0)).map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let started = Instant::now();
    while started.elapsed() < MESSAGE_TIMEOUT {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.offset() >= from.0 && message.topic() == topic => {
                let payload = message.payload().unwrap_or_default();
                return Ok(Some(Record {
                    offset: Offset(message.offset()),
                    size: payload.len() as u64,
                    content: inspect(payload),
                }));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(cause)) if !is_passing(&cause) && !is_of_group(&cause) => return Err(failed(cause)),
            // Nothing below the end: marks of a transaction take offsets and are handed to nobody.
            _ if consumed_to(consumer, topic) >= end.0 => return Ok(None),
            _ => {}
        }
    }
    Err(error(
        ErrorKind::Unreachable,
        format!("the message at offset {from} did not arrive within {} s", MESSAGE_TIMEOUT.as_secs()),
    ))
}

fn consumed_to(consumer: &BaseConsumer<Causes>, topic: &str) -> i64 {
    let position = consumer.position().ok();
    match position.as_ref().and_then(|list| list.find_partition(topic, 0)).map(|element| element.offset()) {
        Some(At::Offset(next)) => next,
        _ => -1,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

fn place(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// True for what may be over in a moment.
fn is_passing(failed: &KafkaError) -> bool {
    failed.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::Resolve
        )
    })
}

/// We are in no group, so that its failures do not matter.
fn is_of_group(failed: &KafkaError) -> bool {
    failed.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::NotCoordinator
        )
    })
}

fn refused(code: RDKafkaErrorCode, reason: &str) -> Error {
    error(ErrorKind::AccessDenied, reason).hint(match code {
        RDKafkaErrorCode::SSL => {
            "check tls.mode and tls.ca of the connection against the certificate of this listener; is it a TLS listener at all?"
        }
        _ if reason.contains("Unsupported SASL mechanism") => {
            "set sasl.mechanism to one that this listener enables (sasl.enabled.mechanisms)"
        }
        _ => "check user, password and mechanism of the connection's sasl against the users of the cluster",
    })
}

fn failure(failed: &KafkaError, reason: &str) -> Error {
    match failed.rdkafka_error_code() {
        Some(code) if is_final(code) => refused(code, reason),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed,
        ) => error(ErrorKind::AccessDenied, reason).hint(ACL_HINT),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            error(ErrorKind::Missing, reason)
        }
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
            error(ErrorKind::PositionLost, reason)
        }
        _ => error(ErrorKind::Unreachable, reason),
    }
}

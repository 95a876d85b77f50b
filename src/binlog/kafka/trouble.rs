//! librdkafka's error codes in our words: the only place that knows them.

use std::sync::Mutex;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::binlog::kafka::LogRange;
use crate::error::{Endpoint, Error, ErrorKind};
use crate::model::Offset;

/// What an error code means for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Connections come and go, leaders move: librdkafka tries again by itself, and a probe decides when it lasts.
    Passing,
    /// The end of the log was reached.
    CaughtUp,
    /// About the consumer group, which we do not use: no join, no commits.
    Group,
    /// The log does not hold the offset.
    OutOfRange,
    /// The topic or its partition 0 is not there.
    NoTopic,
    /// User, password or certificate refused, or a right is missing.
    Refused,
    /// The record itself is broken (checksum, compression).
    BadRecord,
    /// A setting of the client or broker that cannot work.
    Setting,
}

pub(super) fn trouble(error: &KafkaError) -> Trouble {
    if let KafkaError::PartitionEOF(_) = error {
        return Trouble::CaughtUp;
    }
    let Some(code) = error.rdkafka_error_code() else { return Trouble::Setting };
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset | Code::LogTruncation => {
            Trouble::OutOfRange
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Trouble::NoTopic,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Trouble::Refused,
        Code::GroupAuthorizationFailed
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::InvalidGroupId
        | Code::UnknownGroup => Trouble::Group,
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::InvalidMessageSize => {
            Trouble::BadRecord
        }
        Code::InvalidArgument
        | Code::UnsupportedFeature
        | Code::NotImplemented
        | Code::InvalidTopic
        | Code::UnsupportedCompressionType
        | Code::MessageSizeTooLarge => Trouble::Setting,
        _ => Trouble::Passing,
    }
}

/// The error for a trouble that does not pass. `cause` is librdkafka's own text.
pub(super) fn lasting(trouble: Trouble, topic: &str, cause: &str) -> Error {
    let (kind, message, hint) = match trouble {
        Trouble::Passing | Trouble::CaughtUp | Trouble::Group => (
            ErrorKind::Unreachable,
            format!("Kafka does not answer: {cause}"),
            "Check that the brokers run, that their advertised addresses can be reached from here, \
             and whether they want TLS or SASL.",
        ),
        Trouble::NoTopic => (
            ErrorKind::Missing,
            "the topic or its partition 0 does not exist".to_owned(),
            "Take the topic from Drainer's configuration (topic-name, or <cluster-id>_obinlog when it is not set).",
        ),
        Trouble::Refused => (
            ErrorKind::AccessDenied,
            format!("Kafka refuses access: {cause}"),
            "Check user, password, SASL mechanism and certificate of the connection, and that the user may \
             READ and DESCRIBE the topic.",
        ),
        Trouble::OutOfRange => (
            ErrorKind::PositionLost,
            "the log does not hold the wanted offset".to_owned(),
            "Check the topic's retention.",
        ),
        Trouble::BadRecord => (
            ErrorKind::CorruptMessage,
            format!("Kafka hands out a broken record: {cause}"),
            "Check the brokers' disks; a healthy replica may still have the record.",
        ),
        Trouble::Setting => (
            ErrorKind::Configuration,
            format!("the Kafka client cannot work like this: {cause}"),
            "Check the settings of the Kafka connection.",
        ),
    };
    Error::new(kind, message).endpoint(Endpoint::Kafka).object(format!("topic {topic}")).hint(hint)
}

/// The wanted offset is not in the log any more, or the log is not the one it was.
pub fn position_lost(topic: &str, wanted: Offset, range: Option<LogRange>) -> Error {
    let message = match range {
        Some(range) if wanted < range.start => format!(
            "offset {wanted} was deleted by the topic's retention: the log holds {} to {}",
            range.start, range.end
        ),
        Some(range) if wanted > range.end => format!(
            "offset {wanted} is beyond the end of the log ({} to {}): the topic was deleted and made again, \
             or lost data",
            range.start, range.end
        ),
        Some(range) => {
            format!("offset {wanted} is refused, although the log holds {} to {}", range.start, range.end)
        }
        None => format!("offset {wanted} is gone: the topic was deleted"),
    };
    Error::new(ErrorKind::PositionLost, message)
        .endpoint(Endpoint::Kafka)
        .object(format!("topic {topic} offset {wanted}"))
        .hint(
            "Changes were lost. Run the full sync of the task's tables again, and give the topic a retention \
             (retention.ms, retention.bytes) that outlasts a full sync and the longest pause.",
        )
}

/// Listens to a client: keeps the last error for messages to people, and librdkafka's log out of ours.
#[derive(Default)]
pub(super) struct Events {
    last: Mutex<Option<(KafkaError, String)>>,
}

impl Events {
    /// What went wrong last, e.g. `Connect to ipv4#10.0.0.7:9092 failed: Connection refused`.
    pub fn last(&self) -> Option<(KafkaError, String)> {
        self.last.lock().ok()?.clone()
    }

    pub fn forget(&self) {
        if let Ok(mut last) = self.last.lock() {
            *last = None;
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Ok(mut last) = self.last.lock() else { return };
        // "All brokers are down" follows the error that says why and says nothing itself.
        let says_nothing = error.rdkafka_error_code() == Some(Code::AllBrokersDown);
        if last.is_none() || !says_nothing {
            *last = Some((error, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Events {}

/// The cause of an error of a client: the last event if there was one, it knows address and reason.
pub(super) fn cause(error: &KafkaError, events: &Events) -> (Trouble, String) {
    match events.last() {
        Some((event, reason)) if trouble(error) == Trouble::Passing => {
            let lasts = if event.rdkafka_error_code() == Some(Code::SSL) {
                Trouble::Refused
            } else {
                trouble(&event)
            };
            (lasts, reason)
        }
        _ => (trouble(error), error.to_string()),
    }
}

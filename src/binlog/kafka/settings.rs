//! librdkafka's settings for reading one partition of large messages with bounded memory (design.md 10.15).

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::binlog::client::client_config;
use crate::model::KafkaEndpoint;

/// librdkafka gives up a request after this: the whole answer must be there, and a message of 1 GiB takes its time.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Settings of a client that only asks questions.
pub(super) fn asking(endpoint: &KafkaEndpoint) -> ClientConfig {
    let mut config = client_config(endpoint);
    config
        .set("reconnect.backoff.max.ms", "2000")
        // One query of ours times out by itself; a dead connection must not swallow the next ones too.
        .set("socket.timeout.ms", "10000");
    config
}

/// How a stream asks for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// The broker answers as soon as one byte is there: a long wait costs no latency and saves idle requests.
    Calm,
    /// Where messages come one after the other each would be an answer of its own, which costs the broker and us more than the
    /// message: it answers after some milliseconds with what has come, or once there is much.
    Busy,
}

/// Settings of the stream.
pub(super) fn streaming(endpoint: &KafkaEndpoint, pace: Pace) -> ClientConfig {
    let mut config = reading(endpoint, 2 << 20, 4 << 20);
    let (wait_ms, least) = match pace {
        Pace::Calm => ("2000", "1"),
        Pace::Busy => ("10", "1000000"),
    };
    config.set("fetch.wait.max.ms", wait_ms).set("fetch.min.bytes", least);
    config
}

/// Settings of a client that jumps. A request that waits at the end of the log would hold up the next jump.
pub(super) fn jumping(endpoint: &KafkaEndpoint, fetch_bytes: usize) -> ClientConfig {
    let mut config = reading(endpoint, fetch_bytes, fetch_bytes * 4);
    config.set("fetch.wait.max.ms", "5");
    config
}

/// `fetch_bytes` is what one answer holds at most, except that a larger message always comes whole; `queue_bytes` is where
/// it stops to read ahead.
fn reading(endpoint: &KafkaEndpoint, fetch_bytes: usize, queue_bytes: usize) -> ClientConfig {
    let mut config = asking(endpoint);
    config
        // librdkafka does not assign without a name for a group. Nobody joins it and nothing is committed to it.
        .set("group.id", "tidegate")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("fetch.message.max.bytes", fetch_bytes.to_string())
        // librdkafka wants at least its producer's largest message here.
        .set("fetch.max.bytes", (fetch_bytes * 4).max(1_000_000).to_string())
        .set("queued.max.messages.kbytes", (queue_bytes / 1024).to_string())
        .set("socket.timeout.ms", REQUEST_TIMEOUT.as_millis().to_string())
        .set("fetch.min.bytes", "1")
        .set("fetch.error.backoff.ms", "100")
        // How long to stop when the queue is full: 1,000 by default, which is the rate of a small queue.
        .set("fetch.queue.backoff.ms", "5");
    config
}

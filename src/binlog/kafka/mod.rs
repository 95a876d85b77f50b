//! The topic: partition 0 of what Drainer writes, read by offsets that we keep ourselves.
//!
//! [`Topic`] asks questions (what does the log hold, where does a timestamp begin, what came before an offset) over its own
//! connection, so that an answer never waits behind a message of 1 GiB. [`KafkaSource`] is the stream: over a client of its
//! own, or over one that all share which stand at the end of a topic.
//!
//! No consumer group: partition 0 is assigned at an offset, nothing is joined or committed, and a position that the log does not
//! hold is an error, never a jump (`auto.offset.reset = error`). Kafka's timestamps are not commit times (source-drainer.md 2.1).

mod locate;
mod reader;
mod settings;
mod source;
mod tail;
mod topic;
mod trouble;

pub use locate::{PassedDdl, ReadBack, Start};
pub use source::{ChangeSource, Incoming, KafkaSource, RawMessage};
pub use topic::{LogRange, Topic};
pub use trouble::position_lost;

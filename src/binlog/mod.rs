//! Source over Kafka: what Drainer writes, read message by message.
//!
//! [`message`] walks the bytes of one message in place, [`row`] its rows; [`fingerprint`] and [`seen`] recognise what comes
//! twice or late; [`client`] is how to reach Kafka at all and [`kafka`] the topic itself; [`mod@describe`] puts a message into
//! words; [`encode`] is Drainer's double for tests.

pub mod client;
pub mod describe;
pub mod encode;
pub mod fingerprint;
pub mod kafka;
pub mod message;
pub mod row;
pub mod seen;
mod wire;

pub use describe::{Description, Detail, describe};
pub use fingerprint::{Fingerprint, Shape};
pub use kafka::{
    ChangeSource, Incoming, KafkaSource, LogRange, PassedDdl, RawMessage, ReadBack, Start, Topic,
    position_lost,
};
pub use message::{
    ColumnInfo, Counts, Ddl, KeyInfo, Kind, Message, Mutation, MutationKind, TableChange, Tables,
};
pub use row::{RowBytes, Values};
pub use seen::{Seen, SeenSet, Verdict};
pub use wire::Malformed;

//! Newtypes for what must not be mixed: task ids, epochs, timestamps of the source, offsets of the topic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `t_` + ULID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId(pub String);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of the run of a task. A worker writes to the store only under its own epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub i64);

/// A TiDB timestamp: milliseconds since the Unix epoch in the upper 46 bits, a counter in the lower 18
/// (source-drainer.md 9.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tso(pub u64);

impl Tso {
    /// Milliseconds since the Unix epoch.
    pub fn physical_ms(self) -> i64 {
        (self.0 >> 18) as i64
    }

    /// The smallest TSO at this time.
    pub fn from_physical_ms(ms: i64) -> Self {
        Self((ms.max(0) as u64) << 18)
    }
}

impl fmt::Display for Tso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An offset in partition 0 of the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where incremental sync stands: everything before `next_offset` is in the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub next_offset: Offset,
    /// commit_ts of the newest transaction before `next_offset`; 0 when none was seen.
    pub commit_ts: Tso,
}

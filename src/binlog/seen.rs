//! Recognises transactions that come twice or late.
//!
//! commit_ts is not strictly increasing in the topic: Drainer repeats a range after every unclean restart, and its producer may
//! swap messages when it retries (source-drainer.md 0.6, 0.7). So a message is old because *it* was seen, never because a
//! newer one was. [`SeenSet`] remembers every message with commit_ts above a floor and answers exactly there; the floor rises
//! as old entries leave the window, and about anything at or below it the answer is "cannot know".
//!
//! The window is kept in order of commit_ts, which is nearly the order of arrival: an entry costs its 40 bytes, the usual
//! case appends, and no second structure is needed to look one up. Pure; survives restarts by being fed again from the topic
//! ([`SeenSet::rebuilt`]).

use std::collections::VecDeque;

use crate::binlog::fingerprint::{Fingerprint, Shape};
use crate::model::{Offset, Tso};

/// How much a window holds: the newest messages of at least `payload_bytes` together, but never more than `entries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub payload_bytes: u64,
    pub entries: usize,
}

/// Drainer repeats about 3 s of traffic (source-drainer.md 2.2) and swaps at most what its producer has in flight, 90 MiB.
/// A full window takes 40 MiB.
impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: 256 << 20, entries: 1 << 20 }
    }
}

/// A message in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub commit_ts: Tso,
    /// Where its first copy lies in the topic.
    pub offset: Offset,
    pub hash: u64,
    /// Payload in bytes.
    pub size: u32,
    shape: [u32; 3],
}

/// Shapes of messages without rows: three counts of a DML cannot all be the maximum, that is 12 billion rows.
const DDL: [u32; 3] = [u32::MAX, u32::MAX, 1];
const RESOLVED: [u32; 3] = [u32::MAX, u32::MAX, 2];

impl Seen {
    pub fn new(fingerprint: &Fingerprint, offset: Offset, size: usize) -> Self {
        Self {
            commit_ts: fingerprint.commit_ts,
            offset,
            hash: fingerprint.hash,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            shape: match fingerprint.shape {
                Shape::Dml { inserts, updates, deletes } => [inserts, updates, deletes],
                Shape::Ddl => DDL,
                Shape::Resolved => RESOLVED,
            },
        }
    }

    pub fn shape(&self) -> Shape {
        match self.shape {
            DDL => Shape::Ddl,
            RESOLVED => Shape::Resolved,
            [inserts, updates, deletes] => Shape::Dml { inserts, updates, deletes },
        }
    }
}

/// What is known about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Newer than everything seen: the usual case.
    New,
    /// Seen before. Other bytes alone are legitimate (source-drainer.md 10.9).
    Duplicate { first: Seen, same_bytes: bool },
    /// Not seen, but messages with a higher commit_ts were: treat as design.md 10.3 says.
    Late { newest: Tso },
    /// Its commit_ts was seen with other changes: a second Drainer writes to the topic, or a filter was changed.
    Conflict { first: Seen },
    /// Below the window: whether it was seen cannot be known.
    BelowWindow { floor: Tso },
}

#[derive(Debug, Clone)]
pub struct SeenSet {
    /// Strictly increasing commit_ts, all above `floor`.
    window: VecDeque<Seen>,
    payload_bytes: u64,
    floor: Tso,
    limits: Limits,
}

impl SeenSet {
    /// Knows nothing about messages at or below `floor`. For a task that starts at a snapshot TSO this is that TSO: the
    /// caller skips messages up to it without asking.
    pub fn new(floor: Tso, limits: Limits) -> Self {
        Self { window: VecDeque::new(), payload_bytes: 0, floor, limits }
    }

    /// The window as it was before a restart, from messages read back from the topic in order of their offsets.
    /// `floor` is the one that the task began with; it holds if the read-back reached the offset at which the task began
    /// (`complete`). Otherwise the first messages cannot be trusted to have all their neighbours, and the floor rises
    /// above as many of them as a producer's retry can swap.
    pub fn rebuilt(
        floor: Tso,
        limits: Limits,
        messages: impl IntoIterator<Item = Seen>,
        complete: bool,
    ) -> Self {
        let mut messages: Vec<Seen> = messages.into_iter().collect();
        let mut set = Self::new(floor, limits);
        if !complete {
            let doubtful = messages.iter().take(REORDERED.min(messages.len().div_ceil(2)));
            let highest = doubtful.map(|seen| seen.commit_ts).max().unwrap_or_default();
            set.floor = set.floor.max(highest);
        }
        // Stable: of two copies the one with the lower offset stays in front.
        messages.sort_by_key(|seen| seen.commit_ts);
        for seen in messages {
            if set.judge(&seen) == Verdict::New {
                set.record(seen);
            }
        }
        set
    }

    /// What is known about this message; remembers nothing.
    pub fn judge(&self, message: &Seen) -> Verdict {
        if message.commit_ts <= self.floor {
            return Verdict::BelowWindow { floor: self.floor };
        }
        let Some(newest) = self.newest().filter(|newest| message.commit_ts <= *newest) else {
            return Verdict::New;
        };
        match self.find(message.commit_ts) {
            Ok(first) if first.shape == message.shape => {
                Verdict::Duplicate { first, same_bytes: first.hash == message.hash }
            }
            Ok(first) => Verdict::Conflict { first },
            Err(_) => Verdict::Late { newest },
        }
    }

    /// Remembers a new or late message once it is taken over. Duplicates, conflicts and what is below the window change nothing.
    pub fn record(&mut self, message: Seen) {
        if message.commit_ts <= self.floor {
            return;
        }
        if self.newest().is_none_or(|newest| newest < message.commit_ts) {
            self.window.push_back(message);
        } else {
            match self.find(message.commit_ts) {
                Ok(_) => return,
                Err(place) => self.window.insert(place, message),
            }
        }
        self.payload_bytes += u64::from(message.size);
        self.trim();
    }

    /// Messages in the window with a higher commit_ts, oldest first: what may have overtaken a late one.
    pub fn newer_than(&self, commit_ts: Tso) -> impl Iterator<Item = &Seen> {
        let from = self.window.partition_point(|seen| seen.commit_ts <= commit_ts);
        self.window.range(from..)
    }

    pub fn newest(&self) -> Option<Tso> {
        self.window.back().map(|seen| seen.commit_ts)
    }

    pub fn floor(&self) -> Tso {
        self.floor
    }

    pub fn len(&self) -> usize {
        self.window.len()
    }

    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    fn find(&self, commit_ts: Tso) -> Result<Seen, usize> {
        let place = self.window.partition_point(|seen| seen.commit_ts < commit_ts);
        match self.window.get(place) {
            Some(seen) if seen.commit_ts == commit_ts => Ok(*seen),
            _ => Err(place),
        }
    }

    fn trim(&mut self) {
        while let Some(oldest) = self.window.front() {
            let without = self.payload_bytes - u64::from(oldest.size);
            let dispensable = without >= self.limits.payload_bytes || self.window.len() > self.limits.entries;
            if !dispensable || self.window.len() == 1 {
                break;
            }
            self.payload_bytes = without;
            self.floor = oldest.commit_ts;
            self.window.pop_front();
        }
    }
}

/// Messages that a producer's retry can swap: 5 requests in flight of at most 1,024 messages each
/// (source-drainer.md 2.1, 2.6).
pub const REORDERED: usize = 5 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn seen(commit_ts: u64, offset: i64) -> Seen {
        with(commit_ts, offset, commit_ts, 1, 100)
    }

    fn with(commit_ts: u64, offset: i64, hash: u64, inserts: u32, size: usize) -> Seen {
        let shape = Shape::Dml { inserts, updates: 0, deletes: 0 };
        Seen::new(&Fingerprint { commit_ts: Tso(commit_ts), shape, hash }, Offset(offset), size)
    }

    fn take(set: &mut SeenSet, message: Seen) -> Verdict {
        let verdict = set.judge(&message);
        set.record(message);
        verdict
    }

    #[test]
    fn an_entry_takes_forty_bytes() {
        assert_eq!(size_of::<Seen>(), 40);
    }

    #[test]
    fn a_replayed_range_is_duplicate_and_what_follows_is_new() {
        let mut set = SeenSet::new(Tso(10), Limits::default());
        for ts in 11..=15 {
            assert_eq!(take(&mut set, seen(ts, ts as i64)), Verdict::New);
        }
        for ts in 13..=15 {
            let first = seen(ts, ts as i64);
            assert_eq!(take(&mut set, seen(ts, 100)), Verdict::Duplicate { first, same_bytes: true });
        }
        assert_eq!(take(&mut set, seen(16, 103)), Verdict::New);
        assert_eq!(set.len(), 6);
    }

    #[test]
    fn a_late_transaction_is_not_a_duplicate_and_is_remembered() {
        let mut set = SeenSet::new(Tso(10), Limits::default());
        for ts in [11, 13, 14] {
            take(&mut set, seen(ts, ts as i64));
        }
        assert_eq!(take(&mut set, seen(12, 20)), Verdict::Late { newest: Tso(14) });
        let newer: Vec<u64> = set.newer_than(Tso(12)).map(|seen| seen.commit_ts.0).collect();
        assert_eq!(newer, [13, 14]);
        assert!(
            matches!(take(&mut set, seen(12, 21)), Verdict::Duplicate { first, .. } if first.offset == Offset(20))
        );
        assert_eq!(set.newest(), Some(Tso(14)));
    }

    #[test]
    fn other_bytes_are_a_duplicate_other_changes_a_conflict() {
        let mut set = SeenSet::new(Tso(10), Limits::default());
        take(&mut set, with(11, 0, 1, 3, 10));
        let first = with(11, 0, 1, 3, 10);
        assert_eq!(set.judge(&with(11, 5, 2, 3, 12)), Verdict::Duplicate { first, same_bytes: false });
        assert_eq!(set.judge(&with(11, 5, 1, 4, 10)), Verdict::Conflict { first });
        let ddl = Fingerprint { commit_ts: Tso(11), shape: Shape::Ddl, hash: 1 };
        assert_eq!(set.judge(&Seen::new(&ddl, Offset(5), 10)), Verdict::Conflict { first });
        assert_eq!(Seen::new(&ddl, Offset(5), 10).shape(), Shape::Ddl);
    }

    #[test]
    fn the_window_is_bounded_and_its_floor_rises() {
        let mut set = SeenSet::new(Tso(0), Limits { payload_bytes: 1000, entries: 1 << 20 });
        for ts in 1..=100 {
            take(&mut set, seen(ts, ts as i64));
        }
        assert_eq!((set.len(), set.floor()), (10, Tso(90)));
        assert_eq!(set.judge(&seen(90, 0)), Verdict::BelowWindow { floor: Tso(90) });
        assert!(matches!(set.judge(&seen(91, 0)), Verdict::Duplicate { .. }));
        let mut set = SeenSet::new(Tso(0), Limits { payload_bytes: u64::MAX, entries: 4 });
        for ts in 1..=100 {
            take(&mut set, seen(ts, ts as i64));
        }
        assert_eq!((set.len(), set.floor()), (4, Tso(96)));
        // One message larger than the limit is still remembered.
        let mut set = SeenSet::new(Tso(0), Limits { payload_bytes: 10, entries: 4 });
        take(&mut set, with(1, 0, 0, 1, 1 << 30));
        assert!(matches!(set.judge(&with(1, 0, 0, 1, 1 << 30)), Verdict::Duplicate { .. }));
    }

    #[test]
    fn a_rebuilt_window_trusts_its_beginning_only_when_complete() {
        let messages = [seen(11, 0), seen(13, 1), seen(12, 2), seen(14, 3), seen(13, 4), seen(14, 5)];
        let complete = SeenSet::rebuilt(Tso(10), Limits::default(), messages, true);
        assert_eq!((complete.len(), complete.floor()), (4, Tso(10)));
        assert!(
            matches!(complete.judge(&seen(13, 9)), Verdict::Duplicate { first, .. } if first.offset == Offset(1))
        );
        let partial = SeenSet::rebuilt(Tso(10), Limits::default(), messages, false);
        assert_eq!(partial.floor(), Tso(13));
        assert!(matches!(partial.judge(&seen(12, 9)), Verdict::BelowWindow { .. }));
        assert!(matches!(partial.judge(&seen(14, 9)), Verdict::Duplicate { .. }));
        assert_eq!(partial.judge(&seen(15, 9)), Verdict::New);
        assert!(SeenSet::rebuilt(Tso(10), Limits::default(), [], false).is_empty());
    }

    proptest! {
        /// Against a map that remembers everything: above the floor the set is never wrong.
        #[test]
        fn above_the_floor_nothing_is_forgotten(
            stamps in prop::collection::vec((1..60u64, 1..3u32, 1..200usize), 0..200),
            payload_bytes in 1..3000u64,
            entries in 1..40usize,
        ) {
            let mut set = SeenSet::new(Tso(5), Limits { payload_bytes, entries });
            let mut all: BTreeMap<u64, u32> = BTreeMap::new();
            for (offset, (ts, inserts, size)) in stamps.into_iter().enumerate() {
                let message = with(ts, offset as i64, 0, inserts, size);
                let newest = all.last_key_value().map_or(0, |(ts, _)| *ts);
                match set.judge(&message) {
                    Verdict::BelowWindow { floor } => prop_assert!(ts <= floor.0 && floor == set.floor()),
                    Verdict::New => prop_assert!(ts > newest),
                    Verdict::Late { .. } => prop_assert!(ts < newest && !all.contains_key(&ts)),
                    Verdict::Duplicate { .. } => prop_assert_eq!(all.get(&ts), Some(&inserts)),
                    Verdict::Conflict { .. } => prop_assert!(all.get(&ts).is_some_and(|seen| *seen != inserts)),
                }
                if ts > set.floor().0 {
                    all.entry(ts).or_insert(inserts);
                }
                set.record(message);
                prop_assert!(set.len() <= entries.max(1));
            }
        }
    }
}

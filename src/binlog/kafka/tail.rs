//! One reader for all streams that stand at the end of the same topic.
//!
//! A client of librdkafka has threads, buffers and wake-ups of its own, whatever its topic does: that is most of what a task costs that
//! has nothing to do. So streams that have caught up let their clients go and take what comes from a [`Tail`], which reads for
//! all and keeps what it read last. It has no position: who needs what it no longer keeps goes on with a client of their own. Where
//! its client meets an error, all have read everything before it, so that it is the error that each would have met.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::reader::{LARGE, Reader};
use super::source::{ChangeSource, Incoming, RawMessage};
use super::topic::{LogRange, Topic};
use crate::error::{Error, Result};
use crate::model::Offset;
use crate::shared::Shared;

/// What a tail keeps.
const KEPT_BYTES: usize = 4 << 20;
/// One that begins so many messages from the end shares at once.
const NEAR: i64 = 1000;
/// How long the slowest stream may hold up the others before it is left behind.
const HELD_UP: Duration = Duration::from_secs(1);

/// The streams that follow one topic, with the same login.
pub(super) struct Followers {
    topic: Topic,
    tail: Mutex<Weak<Tail>>,
}

static FOLLOWED: Shared<Followers> = Shared::new();

impl Followers {
    /// Of this topic; whoever holds them counts as one.
    pub fn of(topic: &Topic) -> Result<Arc<Self>> {
        FOLLOWED.get(
            |followers| followers.topic.is_same(topic),
            || Ok(Arc::new(Self { topic: topic.clone(), tail: Mutex::default() })),
        )
    }

    /// A seat at the tail for one who reads on from there. None when it does not keep that. Where there is none it begins one
    /// for somebody who is not alone. `log` is what the log was seen to hold by one that has read nothing of it yet: a tail which
    /// has read more may have read a topic that was deleted.
    pub fn seat(self: &Arc<Self>, next: Offset, log: Option<LogRange>) -> Result<Option<Seat>> {
        let mut known = locked(&self.tail);
        let tail = match known.upgrade().filter(|tail| !tail.reading.kept().has_ended) {
            Some(tail) if log.is_some_and(|log| tail.reading.kept().read_to > log.end) => return Ok(None),
            Some(tail) => tail,
            None if log.is_none_or(|log| log.end.0 - next.0 <= NEAR) && Arc::strong_count(self) > 1 => {
                let tail = Tail::begin(Reader::start(self.topic.clone(), next)?, next);
                *known = Arc::downgrade(&tail);
                tail
            }
            None => return Ok(None),
        };
        Ok(tail.seat(next))
    }
}

struct Tail {
    reading: Arc<Reading>,
    _end: DropGuard,
}

struct Reading {
    kept: Mutex<Kept>,
    /// There is something new in it.
    news: watch::Sender<()>,
    /// Somebody took what the tail wants to let go of.
    taken: Notify,
}

struct Kept {
    messages: VecDeque<RawMessage>,
    bytes: usize,
    /// Who reads on from before it has missed something.
    first: Offset,
    /// After the last message read.
    read_to: Offset,
    /// The log has no more than this.
    is_at_end: bool,
    has_ended: bool,
    /// Why, if it had to.
    error: Option<Error>,
    /// What each reads next.
    seats: HashMap<u64, Offset>,
    seats_given: u64,
    /// None of them reads before it.
    slowest: Offset,
    /// Since when the slowest have held up the others without a break.
    held_up_since: Option<Instant>,
}

impl Tail {
    /// Reads on until nobody sits there.
    fn begin(reader: Reader, first: Offset) -> Arc<Self> {
        let reading = Arc::new(Reading::new(first));
        let end = CancellationToken::new();
        let (work, ends) = (read(reader, Ends(Arc::clone(&reading))), end.clone());
        tokio::spawn(async move { ends.run_until_cancelled(work).await });
        Arc::new(Self { reading, _end: end.drop_guard() })
    }

    fn seat(self: Arc<Self>, next: Offset) -> Option<Seat> {
        let id = self.reading.kept().seat(next)?;
        let news = self.reading.news.subscribe();
        Some(Seat { tail: self, id, news })
    }
}

/// However the reading ends, also by a panic: nobody waits for more.
struct Ends(Arc<Reading>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.kept().has_ended = true;
        self.0.news.send_replace(());
    }
}

async fn read(mut reader: Reader, ends: Ends) {
    let reading = &ends.0;
    loop {
        match reader.next().await {
            // Each reads a large one for itself: kept here it would stay until others push it out.
            Ok(Incoming::Message(message)) if message.payload.len() >= LARGE => return,
            Ok(Incoming::Message(message)) => {
                if !reading.make_room(message.payload.len()).await {
                    return;
                }
                reading.kept().push(message);
            }
            Ok(Incoming::CaughtUp) => reading.kept().is_at_end = true,
            Err(error) => {
                reading.kept().error = Some(error);
                return;
            }
        }
        reading.news.send_replace(());
    }
}

impl Reading {
    fn new(first: Offset) -> Self {
        let kept = Kept {
            messages: VecDeque::new(),
            bytes: 0,
            first,
            read_to: first,
            is_at_end: false,
            has_ended: false,
            error: None,
            seats: HashMap::new(),
            seats_given: 0,
            slowest: first,
            held_up_since: None,
        };
        Self { kept: Mutex::new(kept), news: watch::channel(()).0, taken: Notify::new() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    /// Lets the oldest messages go: those that everyone has taken, after a while also the others. False when nobody is left.
    async fn make_room(&self, bytes: usize) -> bool {
        if self.kept().let_go(bytes, false) {
            self.kept().held_up_since = None;
        } else {
            let until = *self.kept().held_up_since.get_or_insert_with(Instant::now) + HELD_UP;
            while !self.kept().let_go(bytes, Instant::now() >= until) {
                // Over or not: the next look tells.
                let _ = tokio::time::timeout_at(until, self.taken.notified()).await;
            }
        }
        !self.kept().seats.is_empty()
    }
}

impl Kept {
    fn seat(&mut self, next: Offset) -> Option<u64> {
        if next < self.first || next.0 - self.read_to.0 > NEAR || self.has_ended {
            return None;
        }
        self.seats_given += 1;
        self.seats.insert(self.seats_given, next);
        self.slowest = self.slowest.min(next);
        Some(self.seats_given)
    }

    fn push(&mut self, message: RawMessage) {
        self.bytes += message.payload.len();
        self.read_to = Offset(message.offset.0 + 1);
        self.is_at_end = false;
        self.messages.push_back(message);
    }

    /// Whether there is room for so many bytes more. `at_any_price`: whoever has not taken what stands in the way is left behind.
    fn let_go(&mut self, bytes: usize, at_any_price: bool) -> bool {
        while self.bytes + bytes > KEPT_BYTES
            && let Some(front) = self.messages.front()
        {
            let behind = Offset(front.offset.0 + 1);
            if self.slowest < behind {
                if at_any_price {
                    self.seats.retain(|_, next| *next >= behind);
                }
                self.slowest = self.seats.values().copied().min().unwrap_or(behind);
                if self.slowest < behind {
                    return false;
                }
            }
            self.first = behind;
            self.bytes -= self.messages.pop_front().map_or(0, |message| message.payload.len());
        }
        true
    }

    /// What comes next for one who reads on from there; `knows_end`: it has heard that the log has no more.
    fn after(&mut self, seat: u64, next: Offset, knows_end: bool) -> After {
        if next < self.first {
            return After::Gone(None);
        }
        let place = self.messages.partition_point(|message| message.offset < next);
        if let Some(message) = self.messages.get(place) {
            self.seats.insert(seat, Offset(message.offset.0 + 1));
            return After::Come(Incoming::Message(message.clone()));
        }
        match (self.has_ended, self.is_at_end && !knows_end) {
            // Who is ahead of it has not read what it has.
            (true, _) => After::Gone(self.error.clone().filter(|_| next <= self.read_to)),
            (false, true) => After::Come(Incoming::CaughtUp),
            (false, false) => After::Nothing,
        }
    }
}

enum After {
    Come(Incoming),
    Nothing,
    /// The tail is of no use any more.
    Gone(Option<Error>),
}

/// A place at a tail.
pub(super) struct Seat {
    tail: Arc<Tail>,
    id: u64,
    news: watch::Receiver<()>,
}

impl Seat {
    /// As [`ChangeSource::next`] for one who reads on from `next`. None when it must go on with a client of its own.
    pub async fn next(&mut self, next: Offset, knows_end: bool) -> Result<Option<Incoming>> {
        let reading = &self.tail.reading;
        loop {
            self.news.mark_unchanged();
            let after = reading.kept().after(self.id, next, knows_end);
            match after {
                After::Come(incoming) => {
                    reading.taken.notify_one();
                    return Ok(Some(incoming));
                }
                After::Gone(error) => return error.map_or(Ok(None), Err),
                // The sender lives as long as the tail, which we hold.
                After::Nothing => drop(self.news.changed().await),
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tail.reading.kept().seats.remove(&self.id);
        self.tail.reading.taken.notify_one();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(offset: i64, bytes: usize) -> RawMessage {
        RawMessage { offset: Offset(offset), payload: Bytes::from(vec![0; bytes]), kafka_timestamp_ms: None }
    }

    fn offset(after: After) -> Option<i64> {
        match after {
            After::Come(Incoming::Message(message)) => Some(message.offset.0),
            _ => None,
        }
    }

    #[test]
    fn each_takes_every_message_from_where_it_stands() {
        let reading = Reading::new(Offset(10));
        let mut kept = reading.kept();
        assert!(kept.seat(Offset(9)).is_none(), "it has missed one");
        let (one, other) = (kept.seat(Offset(10)).unwrap(), kept.seat(Offset(12)).unwrap());
        assert!(matches!(kept.after(one, Offset(10), true), After::Nothing));
        for at in [10, 11, 14] {
            kept.push(message(at, 1));
        }
        assert_eq!(offset(kept.after(one, Offset(10), true)), Some(10));
        assert_eq!(offset(kept.after(one, Offset(11), false)), Some(11));
        assert_eq!(offset(kept.after(other, Offset(12), false)), Some(14));
        assert!(matches!(kept.after(other, Offset(15), false), After::Nothing));
        kept.is_at_end = true;
        assert!(matches!(kept.after(other, Offset(15), false), After::Come(Incoming::CaughtUp)));
        assert!(matches!(kept.after(other, Offset(15), true), After::Nothing));
        assert!(kept.seat(Offset(15 + NEAR + 1)).is_none(), "it would wait long");
        // Its error is that of those who have read what it has.
        (kept.has_ended, kept.error) = (true, Some(Error::cancelled()));
        assert!(matches!(kept.after(one, Offset(12), false), After::Come(Incoming::Message(_))));
        assert!(matches!(kept.after(one, Offset(15), false), After::Gone(Some(_))));
        assert!(matches!(kept.after(other, Offset(16), false), After::Gone(None)));
        assert!(kept.seat(Offset(15)).is_none());
    }

    /// One that takes messages all the time, but fewer than come, holds up the others no longer than one that takes none.
    #[tokio::test]
    async fn who_lags_for_long_is_left_behind_although_it_moves() {
        let reading = Reading::new(Offset(0));
        let (slow, quick) = {
            let mut kept = reading.kept();
            (kept.seat(Offset(0)).unwrap(), kept.seat(Offset(0)).unwrap())
        };
        let begins = Instant::now();
        let mut taken = 0;
        for at in 0.. {
            let room = reading.make_room(1 << 20);
            tokio::pin!(room);
            while tokio::time::timeout(Duration::from_millis(100), room.as_mut()).await.is_err() {
                if offset(reading.kept().after(slow, Offset(taken), false)) == Some(taken) {
                    taken += 1;
                    reading.taken.notify_one();
                }
            }
            reading.kept().push(message(at, 1 << 20));
            assert_eq!(offset(reading.kept().after(quick, Offset(at), false)), Some(at));
            if reading.kept().first > Offset(taken) {
                break;
            }
            assert!(begins.elapsed() < HELD_UP * 10, "it is never left behind");
        }
        assert!(begins.elapsed() >= HELD_UP && taken > 2, "{taken} in {:?}", begins.elapsed());
        assert!(matches!(reading.kept().after(slow, Offset(taken), false), After::Gone(None)));
        reading.kept().seats.remove(&quick);
        reading.kept().push(message(1000, KEPT_BYTES));
        assert!(!reading.make_room(1).await, "it reads for nobody");
    }

    #[test]
    fn what_somebody_needs_is_kept_until_that_takes_too_long() {
        let reading = Reading::new(Offset(0));
        let mut kept = reading.kept();
        let (slow, quick) = (kept.seat(Offset(0)).unwrap(), kept.seat(Offset(0)).unwrap());
        for at in 0..4 {
            assert!(kept.let_go(1 << 20, false));
            kept.push(message(at, 1 << 20));
            assert_eq!(offset(kept.after(quick, Offset(at), false)), Some(at));
        }
        assert!(!kept.let_go(1, false), "the slow one has taken nothing");
        assert_eq!(offset(kept.after(slow, Offset(0), false)), Some(0));
        assert!(kept.let_go(1, false));
        assert_eq!((kept.first, kept.bytes), (Offset(1), 3 << 20));
        assert!(!kept.let_go(2 << 20, false));
        assert!(kept.let_go(2 << 20, true));
        assert!(matches!(kept.after(slow, Offset(1), false), After::Gone(None)), "it was left behind");
        assert!(matches!(kept.after(quick, Offset(4), false), After::Nothing));
        // Nobody waits for one that is gone.
        kept.push(message(4, 2 << 20));
        assert_eq!(offset(kept.after(quick, Offset(4), false)), Some(4));
        assert!(kept.let_go(KEPT_BYTES, false));
    }
}

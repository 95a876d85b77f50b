//! How fast rows go to a target, changeable while they go: rows and bytes per second of each kind of sync, and statements at one
//! time.
//!
//! A [`Limiter`] belongs to a task, or to a connection, which shares it among its tasks. A [`Gate`] is all that one run has to pass
//! before each statement. What waits there holds no statement back on the server and takes no round trip; a cancelled run passes
//! no gate any more, so that pause and stop need not wait for a limit of 0.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::task::spec::Throttle;

/// What a statement carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Full,
    Incremental,
}

/// Shared by all writers of a task (or of a connection). A statement is let through while there is credit and may overdraw it:
/// the next one waits until the debt is paid, so the average holds for statements of any size.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    set: Throttle,
    full: Rate,
    incremental: Rate,
    /// Statements under way.
    busy: u32,
}

#[derive(Debug)]
struct Rate {
    rows: Bucket,
    bytes: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// None = no limit, 0 = stopped
    per_second: Option<u64>,
    credit: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_second: Option<u64>) -> Self {
        Self { per_second, credit: 0.0, at: Instant::now() }
    }

    /// A debt at another rate would be another debt: it is forgiven.
    fn set(&mut self, per_second: Option<u64>) {
        if self.per_second != per_second {
            *self = Self::new(per_second);
        }
    }

    /// Time until there is credit; None = until the limit is changed.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let Some(rate) = self.per_second else { return Some(Duration::ZERO) };
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = rate as f64;
        // at most a fifth of a second is saved up: an idle time is no licence for a burst
        self.credit =
            (self.credit + rate * now.saturating_duration_since(self.at).as_secs_f64()).min(rate / 5.0);
        self.at = now;
        if self.credit >= 0.0 && rate > 0.0 {
            Some(Duration::ZERO)
        } else {
            (rate > 0.0).then(|| Duration::from_secs_f64(-self.credit / rate))
        }
    }

    fn spend(&mut self, amount: u64) {
        if self.per_second.is_some() {
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let amount = amount as f64;
            self.credit -= amount;
        }
    }
}

impl State {
    fn rate(&mut self, traffic: Traffic) -> &mut Rate {
        match traffic {
            Traffic::Full => &mut self.full,
            Traffic::Incremental => &mut self.incremental,
        }
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(Throttle::default())
    }
}

impl Limiter {
    pub fn new(set: Throttle) -> Self {
        let rate = |rows, bytes| Rate { rows: Bucket::new(rows), bytes: Bucket::new(bytes) };
        let state = State {
            full: rate(set.full_rows_per_second, set.full_bytes_per_second),
            incremental: rate(set.incremental_rows_per_second, set.incremental_bytes_per_second),
            busy: 0,
            set,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes effect at once, also for those who wait.
    pub fn set(&self, set: Throttle) {
        let mut state = self.state();
        if state.set == set {
            return;
        }
        state.full.rows.set(set.full_rows_per_second);
        state.full.bytes.set(set.full_bytes_per_second);
        state.incremental.rows.set(set.incremental_rows_per_second);
        state.incremental.bytes.set(set.incremental_bytes_per_second);
        state.set = set;
        drop(state);
        self.changed.notify_waiters();
    }

    /// What it is set to.
    pub fn get(&self) -> Throttle {
        self.state().set
    }

    /// Time until a statement of this size may go, ZERO when it has just been let through; None = until something changes.
    fn try_pass(&self, traffic: Traffic, rows: u64, bytes: u64, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let rate = state.rate(traffic);
        let wait = rate.rows.wait(now)?.max(rate.bytes.wait(now)?);
        if wait.is_zero() {
            rate.rows.spend(rows);
            rate.bytes.spend(bytes);
        }
        Some(wait)
    }

    fn try_begin(&self) -> bool {
        let mut state = self.state();
        let free = state.set.connections.is_none_or(|most| state.busy < most);
        if free {
            state.busy += 1;
        }
        free
    }

    fn end(&self) {
        let mut state = self.state();
        state.busy = state.busy.saturating_sub(1);
        let limited = state.set.connections.is_some();
        drop(state);
        if limited {
            self.changed.notify_waiters();
        }
    }
}

/// Whose limit a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Task,
    Source,
    Kafka,
    Target,
}

impl Holder {
    const ALL: [Self; 4] = [Self::Task, Self::Source, Self::Kafka, Self::Target];
}

/// What a run has waited at its gate; read by the API.
#[derive(Debug, Default)]
pub struct Waits(Mutex<Waited>);

#[derive(Debug, Default)]
struct Waited {
    /// Statements that wait now, and the sum of the times at which they began to.
    waiting: i64,
    begun_ms: i64,
    holder: Option<Holder>,
    /// Milliseconds since the epoch: when the present time of waiting began, when somebody last waited. 0 = never.
    since_ms: i64,
    until_ms: i64,
    /// Time that statements have waited that wait no more, all together.
    waited_ms: i64,
}

/// Between two statements that wait there is one that does not: that is still one time of waiting.
const ONE_WAIT_MS: i64 = 5000;

impl Waits {
    fn state(&self) -> MutexGuard<'_, Waited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, holder: Holder) -> Waiting<'_> {
        let now = now_ms();
        let mut state = self.state();
        if state.waiting == 0 && now - state.until_ms > ONE_WAIT_MS {
            state.since_ms = now;
        }
        state.waiting += 1;
        state.begun_ms += now;
        state.holder = Some(holder);
        Waiting { waits: self, began_ms: now }
    }

    /// Time that statements have waited up to now, all together, in milliseconds.
    pub fn waited_ms(&self) -> u64 {
        let state = self.state();
        let under_way = (state.waiting * now_ms() - state.begun_ms).max(0);
        (state.waited_ms + under_way).unsigned_abs()
    }

    /// Whose limit holds the run back, and since when; None when it is not held back.
    pub fn now(&self) -> Option<(Holder, i64)> {
        let state = self.state();
        if state.waiting == 0 && now_ms() - state.until_ms > ONE_WAIT_MS {
            return None;
        }
        Some((state.holder?, state.since_ms))
    }
}

struct Waiting<'a> {
    waits: &'a Waits,
    began_ms: i64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = now_ms();
        let mut state = self.waits.state();
        state.waited_ms += (now - self.began_ms).max(0);
        state.until_ms = now;
        state.waiting -= 1;
        state.begun_ms -= self.began_ms;
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// All that a statement of one run has to pass. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order of [`Holder::ALL`].
    limiters: [Option<Arc<Limiter>>; 4],
    waits: Arc<Waits>,
    cancel: CancellationToken,
}

/// The most that goes through in a second: statements are made no larger, so that the flow is even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    pub rows: u64,
    pub bytes: u64,
}

/// A statement under way. What it holds is given back with it.
#[derive(Debug)]
pub struct Permit<'a> {
    inner: &'a Inner,
    begun: usize,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.inner.limiters.iter().take(self.begun).flatten().for_each(|limiter| limiter.end());
    }
}

impl Gate {
    /// `cancel` ends the run.
    pub fn new(
        task: Arc<Limiter>,
        source: Option<Arc<Limiter>>,
        kafka: Option<Arc<Limiter>>,
        target: Arc<Limiter>,
        waits: Arc<Waits>,
        cancel: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { limiters: [Some(task), source, kafka, Some(target)], waits, cancel }))
    }

    /// Of a task alone.
    pub fn of_task(throttle: Throttle) -> Self {
        let limiters = [Some(Arc::new(Limiter::new(throttle))), None, None, None];
        Self(Arc::new(Inner { limiters, ..Inner::default() }))
    }

    /// Waits until a statement of this size may go, and holds its place while it runs. Dropping the future takes nothing that matters.
    ///
    /// # Errors
    /// `Cancelled` when it would have to wait and the run is to end.
    pub async fn pass(&self, traffic: Traffic, rows: u64, bytes: u64) -> Result<Permit<'_>> {
        let held = Holder::ALL.into_iter().zip(&self.0.limiters);
        for (holder, limiter) in held.filter_map(|(holder, limiter)| Some((holder, limiter.as_ref()?))) {
            self.wait(holder, limiter, || limiter.try_pass(traffic, rows, bytes, Instant::now())).await?;
        }
        let mut permit = Permit { inner: &self.0, begun: 0 };
        for (holder, limiter) in Holder::ALL.into_iter().zip(&self.0.limiters) {
            if let Some(limiter) = limiter {
                self.wait(holder, limiter, || limiter.try_begin().then_some(Duration::ZERO)).await?;
            }
            permit.begun += 1;
        }
        Ok(permit)
    }

    /// Tries until it is ZERO.
    async fn wait(
        &self,
        holder: Holder,
        limiter: &Limiter,
        mut attempt: impl FnMut() -> Option<Duration>,
    ) -> Result<()> {
        let mut waiting = None;
        loop {
            // Before the attempt, or a change between both could be missed.
            let changed = limiter.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let pause = attempt();
            if pause == Some(Duration::ZERO) {
                return Ok(());
            }
            waiting.get_or_insert_with(|| self.0.waits.begin(holder));
            let sleep = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.0.cancel.cancelled() => return Err(Error::cancelled()),
                () = changed => {}
                () = sleep => {}
            }
        }
    }

    /// The most that a statement should carry.
    pub fn most(&self, traffic: Traffic) -> Most {
        let mut most = Most { rows: u64::MAX, bytes: u64::MAX };
        for limiter in self.0.limiters.iter().flatten() {
            let mut state = limiter.state();
            let rate = state.rate(traffic);
            // While nothing goes at all, one row is as good as any other number.
            most.rows = most.rows.min(rate.rows.per_second.unwrap_or(u64::MAX).max(1));
            most.bytes = most.bytes.min(rate.bytes.per_second.unwrap_or(u64::MAX).max(1024));
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(per_second: Option<u64>) -> Throttle {
        Throttle { full_rows_per_second: per_second, ..Throttle::default() }
    }

    #[test]
    fn the_average_holds_for_statements_larger_than_a_second() {
        let limiter = Limiter::new(rows(Some(1000)));
        let start = Instant::now();
        let mut now = start;
        for _ in 0..5 {
            while let Some(wait) =
                limiter.try_pass(Traffic::Full, 2000, 1, now).filter(|wait| !wait.is_zero())
            {
                now += wait;
            }
        }
        // four debts of two seconds are paid before the fifth statement goes
        let taken = (now - start).as_secs_f64();
        assert!((7.5..8.5).contains(&taken), "{taken}");
        assert_eq!(limiter.try_pass(Traffic::Incremental, 1, 1, now), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn zero_stops_until_the_limit_is_lifted_or_the_run_is_cancelled() {
        let limiter =
            Arc::new(Limiter::new(Throttle { full_bytes_per_second: Some(0), ..Throttle::default() }));
        let later = Instant::now() + Duration::from_secs(600);
        assert_eq!(limiter.try_pass(Traffic::Full, 1, 1, later), None);
        let (waits, cancel) = (Arc::new(Waits::default()), CancellationToken::new());
        let gate = Gate::new(
            Arc::new(Limiter::default()),
            None,
            None,
            Arc::clone(&limiter),
            Arc::clone(&waits),
            cancel.clone(),
        );
        let pass = |gate: Gate| tokio::spawn(async move { gate.pass(Traffic::Full, 1, 1).await.map(drop) });
        let waiting = pass(gate.clone());
        while waits.now().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(waits.now().map(|(holder, _)| holder), Some(Holder::Target));
        assert!(!waiting.is_finished());
        limiter.set(Throttle::default());
        waiting.await.unwrap().unwrap();

        limiter.set(rows(Some(0)));
        let waiting = pass(gate.clone());
        cancel.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind, crate::error::ErrorKind::Cancelled);
    }

    #[tokio::test]
    async fn statements_at_one_time_are_limited_across_runs() {
        let shared = Arc::new(Limiter::new(Throttle { connections: Some(2), ..Throttle::default() }));
        let gate = || {
            let (task, waits) = (Arc::new(Limiter::default()), Arc::default());
            Gate::new(task, None, None, Arc::clone(&shared), waits, CancellationToken::new())
        };
        let (one, other) = (gate(), gate());
        let first = one.pass(Traffic::Incremental, 1, 1).await.unwrap();
        let second = other.pass(Traffic::Full, 1, 1).await.unwrap();
        let mut third = Box::pin(one.pass(Traffic::Incremental, 1, 1));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second);
        let third = third.await.unwrap();
        drop((first, third));
        assert_eq!(shared.state().busy, 0);
    }

    #[test]
    fn statements_are_no_larger_than_a_second() {
        let gate = Gate::of_task(Throttle {
            incremental_rows_per_second: Some(200),
            incremental_bytes_per_second: Some(0),
            ..Throttle::default()
        });
        assert_eq!(gate.most(Traffic::Incremental), Most { rows: 200, bytes: 1024 });
        assert_eq!(gate.most(Traffic::Full), Most { rows: u64::MAX, bytes: u64::MAX });
    }
}

//! Rows and bytes per second of full sync, changeable while it runs.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by all writers of a task (or of a connection). A statement is let through while there is credit and may overdraw it:
/// the next one waits until the debt is paid, so the average holds for statements of any size.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
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

impl Limiter {
    /// None = no limit, 0 = stopped.
    pub fn new(rows_per_second: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        let state = State { rows: Bucket::new(rows_per_second), bytes: Bucket::new(bytes_per_second) };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Takes effect at once, also for those who wait.
    pub fn set(&self, rows_per_second: Option<u64>, bytes_per_second: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = State { rows: Bucket::new(rows_per_second), bytes: Bucket::new(bytes_per_second) };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until a statement of this size may go. Dropping the future takes nothing.
    pub async fn pass(&self, rows: u64, bytes: u64) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_pass(rows, bytes, Instant::now()) {
                Some(Duration::ZERO) => return,
                Some(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn try_pass(&self, rows: u64, bytes: u64, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let wait = state.rows.wait(now)?.max(state.bytes.wait(now)?);
        if wait.is_zero() {
            state.rows.spend(rows);
            state.bytes.spend(bytes);
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_holds_for_statements_larger_than_a_second() {
        let limiter = Limiter::new(Some(1000), None);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..5 {
            while let Some(wait) = limiter.try_pass(2000, 1, now).filter(|wait| !wait.is_zero()) {
                now += wait;
            }
        }
        // four debts of two seconds are paid before the fifth statement goes
        let taken = (now - start).as_secs_f64();
        assert!((7.5..8.5).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn zero_stops_until_the_limit_is_lifted() {
        let limiter = std::sync::Arc::new(Limiter::new(None, Some(0)));
        assert_eq!(limiter.try_pass(1, 1, Instant::now() + Duration::from_secs(600)), None);
        let waiting = tokio::spawn({
            let limiter = std::sync::Arc::clone(&limiter);
            async move { limiter.pass(1, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        limiter.set(None, None);
        waiting.await.unwrap();
    }
}

//! Waiting before the same step is tried again.
//!
//! Short troubles end here. A longer one goes up to the worker, which shows it, waits as the task's retry clocks say and starts
//! the run again: finished chunks are not lost by that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::progress::Progress;
use crate::error::{Error, Policy, Result, RetryClock};
use crate::task::spec::ErrorPolicies;

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// From here on a trouble is the worker's.
const SHORT: Duration = Duration::from_secs(20);

/// What every retry of a run has in common.
#[derive(Clone)]
pub struct RetryRules {
    pub errors: ErrorPolicies,
    pub progress: Arc<Progress>,
}

impl RetryRules {
    /// A clock for one step, started by its first failure.
    pub fn clock(&self) -> Retry<'_> {
        Retry { rules: self, since: None, tries: 0 }
    }
}

/// The clock of one step: a statement, a chunk. It ends with the step, so progress resets it.
pub struct Retry<'a> {
    rules: &'a RetryRules,
    since: Option<Instant>,
    tries: u32,
}

impl Retry<'_> {
    /// Waits with jitter and gives Ok when the step may be tried again.
    ///
    /// # Errors
    /// The error itself where policy says to stop or the clock has run out; `Cancelled`.
    pub async fn wait(&mut self, error: Error, cancel: &CancellationToken) -> Result<()> {
        let Policy::Retry(clock) = error.policy() else { return Err(error) };
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let limit = match clock {
            RetryClock::Connection => Duration::from_millis(self.rules.errors.connection_retry_ms).min(SHORT),
            RetryClock::Other => Duration::from_millis(self.rules.errors.other_retry_ms).min(SHORT),
            // a state to be shown at once
            RetryClock::Unlimited => Duration::ZERO,
        };
        if now - since >= limit {
            return Err(error);
        }
        let delay = delay(self.tries, rand::rng().random_range(0.5..1.0));
        self.tries = self.tries.saturating_add(1);
        self.rules.progress.retries.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(phase = "full", %error, delay_ms = delay.as_millis(), "trying again");
        tokio::select! {
            () = cancel.cancelled() => Err(Error::cancelled()),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }
}

fn delay(tries: u32, jitter: f64) -> Duration {
    FIRST_DELAY.saturating_mul(1 << tries.min(10)).min(LONGEST_DELAY).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_an_end() {
        assert_eq!(delay(0, 1.0), FIRST_DELAY);
        assert_eq!(delay(1, 0.5), FIRST_DELAY);
        assert_eq!(delay(40, 1.0), LONGEST_DELAY);
    }
}

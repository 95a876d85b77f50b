//! What runs in this process: the counters of each task's run and their recent rates. The supervisor writes, the API reads.
//!
//! The counters of an ended run stay until the next one begins, so that a paused task still shows how far it came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::progress::{Counters, Progress};
use crate::adb::throttle::Limiter;
use crate::model::TaskId;
use crate::task::spec::Throttle;

/// Rates are means over this time.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    counters: Counters,
}

/// Means over the last [`RATE_WINDOW`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub rows_per_second: f64,
    pub bytes_per_second: f64,
    pub changes_per_second: f64,
    pub transactions_per_second: f64,
    pub stream_bytes_per_second: f64,
}

#[derive(Debug, Clone)]
struct Entry {
    progress: Arc<Progress>,
    running: bool,
    /// False: only its topic was looked at.
    ran: bool,
    samples: VecDeque<Sample>,
}

/// Counters of one task as the API reads them.
#[derive(Debug, Clone)]
pub struct Seen {
    pub progress: Arc<Progress>,
    pub running: bool,
    /// There was a run in this process.
    pub ran: bool,
    /// None until two samples are there, and when nothing runs.
    pub rates: Option<Rates>,
    /// What the rates are made of.
    pub window: Option<Window>,
}

/// The counters at both ends of the last [`RATE_WINDOW`].
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub seconds: f64,
    pub first: Counters,
    pub last: Counters,
}

/// What a throttle belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Throttled {
    Task(TaskId),
    Connection(String),
}

#[derive(Debug)]
pub struct Registry {
    entries: Mutex<HashMap<TaskId, Entry>>,
    limiters: Mutex<HashMap<Throttled, Arc<Limiter>>>,
    /// Counts changes of any task's status.
    changes: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { entries: Mutex::default(), limiters: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins; gives its counters.
    pub fn begin(&self, task: &TaskId) -> Arc<Progress> {
        let progress = Arc::new(Progress::default());
        let entry =
            Entry { progress: Arc::clone(&progress), running: true, ran: true, samples: VecDeque::new() };
        self.entries().insert(task.clone(), entry);
        progress
    }

    /// The counters of a task that stands still, for what is seen of its topic meanwhile. None when it runs.
    pub fn standing(&self, task: &TaskId) -> Option<Arc<Progress>> {
        let mut entries = self.entries();
        let entry = entries.entry(task.clone()).or_insert_with(|| Entry {
            progress: Arc::default(),
            running: false,
            ran: false,
            samples: VecDeque::new(),
        });
        (!entry.running).then(|| Arc::clone(&entry.progress))
    }

    pub fn end(&self, task: &TaskId) {
        if let Some(entry) = self.entries().get_mut(task) {
            entry.running = false;
            entry.samples.clear();
        }
    }

    pub fn forget(&self, task: &TaskId) {
        self.entries().remove(task);
        self.limiters().remove(&Throttled::Task(task.clone()));
    }

    fn limiters(&self) -> MutexGuard<'_, HashMap<Throttled, Arc<Limiter>>> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one limiter of a task or a connection, set to this from now on.
    pub fn limiter(&self, of: Throttled, set: Throttle) -> Arc<Limiter> {
        let limiter = Arc::clone(self.limiters().entry(of).or_default());
        limiter.set(set);
        limiter
    }

    pub fn seen(&self, task: &TaskId) -> Option<Seen> {
        let entries = self.entries();
        let entry = entries.get(task)?;
        let window = match (entry.samples.front(), entry.samples.back()) {
            (Some(first), Some(last)) if entry.samples.len() > 1 => Some(Window {
                seconds: (last.at - first.at).as_secs_f64().max(0.001),
                first: first.counters,
                last: last.counters,
            }),
            _ => None,
        };
        let rates = window.as_ref().map(Window::rates);
        Some(Seen {
            progress: Arc::clone(&entry.progress),
            running: entry.running,
            ran: entry.ran,
            rates,
            window,
        })
    }

    /// Takes a sample of every running task; called about once a second.
    pub fn sample(&self, now: Instant) {
        for entry in self.entries().values_mut().filter(|entry| entry.running) {
            entry.samples.push_back(Sample { at: now, counters: entry.progress.counters() });
            while entry.samples.front().is_some_and(|oldest| now - oldest.at > RATE_WINDOW) {
                entry.samples.pop_front();
            }
        }
    }

    /// Tells everybody who waits that a task's state may have changed.
    pub fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Window {
    fn rates(&self) -> Rates {
        let (first, last) = (&self.first, &self.last);
        // A seeded counter may jump up once, a restarted table down: never below zero.
        let rate = |from: u64, to: u64| (to.saturating_sub(from) as f64 / self.seconds * 10.0).round() / 10.0;
        Rates {
            rows_per_second: rate(first.rows, last.rows),
            bytes_per_second: rate(first.bytes, last.bytes),
            changes_per_second: rate(first.changes, last.changes),
            transactions_per_second: rate(first.transactions, last.transactions),
            stream_bytes_per_second: rate(first.stream_bytes, last.stream_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn rates_are_means_over_the_window() {
        let registry = Registry::default();
        let task = TaskId("t_1".to_owned());
        let progress = registry.begin(&task);
        let start = Instant::now();
        registry.sample(start);
        assert_eq!(registry.seen(&task).unwrap().rates, None);
        for second in 1..=20 {
            progress.rows_copied.fetch_add(if second <= 10 { 1000 } else { 100 }, Ordering::Relaxed);
            registry.sample(start + Duration::from_secs(second));
        }
        assert_eq!(registry.seen(&task).unwrap().rates.unwrap().rows_per_second, 100.0);
        registry.end(&task);
        let seen = registry.seen(&task).unwrap();
        assert!(!seen.running && seen.rates.is_none());
        assert_eq!(seen.progress.rows_copied.load(Ordering::Relaxed), 11_000);
    }
}

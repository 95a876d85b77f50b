//! How many connections work at one time: as many as help.
//!
//! Beyond what the target can do at once, connections only wait for each other, on locks and processors, and hold memory. What it can
//! do is found by doing it: now and then half or double as many take a few batches, and stay when more rows go through.

use std::time::Duration;

/// Batches between two trials at first. A trial that changes nothing doubles it, up to [`RARELY`]; one that does sets it back.
const OFTEN: u32 = 8;
const RARELY: u32 = 256;
/// Batches of one trial.
const TRIAL: u32 = 3;
/// What more connections must bring, and what fewer may cost: noise is no reason to move.
const MORE: f64 = 1.05;
const FEWER: f64 = 0.98;
/// Rows for each connection that make a batch worth measuring.
const WORTH: u64 = 512;

#[derive(Debug)]
pub struct Width {
    most: usize,
    now: usize,
    measured: Measured,
    every: u32,
    /// Try more the next time, not fewer.
    up: bool,
    trial: Option<(usize, Measured)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Measured {
    batches: u32,
    rows: u64,
    seconds: f64,
}

impl Measured {
    fn add(&mut self, rows: u64, time: Duration) {
        self.batches += 1;
        self.rows += rows;
        self.seconds += time.as_secs_f64();
    }

    fn rate(self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-6)
    }
}

impl Width {
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, now: most, measured: Measured::default(), every: OFTEN, up: false, trial: None }
    }

    /// Connections for the next batch.
    pub fn connections(&self) -> usize {
        self.trial.map_or(self.now, |(width, _)| width)
    }

    /// A batch of so many rows took so long.
    pub fn took(&mut self, rows: u64, time: Duration) {
        if rows < WORTH * self.most as u64 {
            return;
        }
        let Some((width, measured)) = &mut self.trial else {
            self.measured.add(rows, time);
            if self.measured.batches >= self.every {
                self.try_another();
            }
            return;
        };
        measured.add(rows, time);
        if measured.batches < TRIAL {
            return;
        }
        let (width, measured) = (*width, *measured);
        let wanted = if width > self.now { MORE } else { FEWER };
        if measured.rate() >= self.measured.rate() * wanted {
            // Further the same way, soon.
            (self.now, self.every) = (width, OFTEN);
        } else {
            (self.up, self.every) = (!self.up, (self.every * 2).min(RARELY));
        }
        (self.trial, self.measured) = (None, Measured::default());
    }

    fn try_another(&mut self) {
        let other = |up: bool| if up { (self.now * 2).min(self.most) } else { (self.now / 2).max(1) };
        if other(self.up) == self.now {
            self.up = !self.up;
        }
        let width = other(self.up);
        if width == self.now {
            // There is one, and no other.
            self.measured = Measured::default();
        } else {
            self.trial = Some((width, Measured::default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths of so many batches, where each takes as long as `seconds` says of its width.
    fn widths(width: &mut Width, batches: usize, seconds: impl Fn(usize) -> f64) -> Vec<usize> {
        (0..batches)
            .map(|_| {
                let now = width.connections();
                width.took(100_000, Duration::from_secs_f64(seconds(now)));
                now
            })
            .collect()
    }

    fn mostly(widths: &[usize]) -> usize {
        (1..=64).max_by_key(|wanted| widths.iter().filter(|width| *width == wanted).count()).unwrap_or(0)
    }

    #[test]
    fn a_distant_target_gets_all_connections() {
        let mut width = Width::new(8);
        let seen = widths(&mut width, 500, |width| 1.0 / width as f64);
        assert_eq!(mostly(&seen), 8);
        // Trials cost little: they are rare.
        assert!(seen.iter().filter(|width| **width != 8).count() <= 18, "{seen:?}");
    }

    #[test]
    fn a_busy_target_gets_those_that_help() {
        let mut width = Width::new(8);
        // Two at once are as fast as it goes, and each more disturbs.
        let seen = widths(&mut width, 500, |width| if width == 1 { 1.0 } else { 0.5 + 0.02 * width as f64 });
        assert_eq!(mostly(&seen[100..]), 2, "{seen:?}");
    }

    #[test]
    fn it_widens_again_when_the_target_can_do_more() {
        let mut width = Width::new(16);
        widths(&mut width, 300, |width| 1.0 + 0.1 * width as f64);
        assert_eq!(width.connections(), 1);
        let seen = widths(&mut width, 1_500, |width| 1.0 / width as f64);
        assert_eq!(mostly(&seen[1_000..]), 16, "{:?}", &seen[1_000..]);
    }

    #[test]
    fn small_batches_tell_nothing() {
        let mut width = Width::new(4);
        for _ in 0..100 {
            width.took(10, Duration::from_millis(1));
        }
        assert_eq!(width.connections(), 4);
        let mut one = Width::new(1);
        assert!(widths(&mut one, 100, |_| 1.0).iter().all(|width| *width == 1));
    }
}

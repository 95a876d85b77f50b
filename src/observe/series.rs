//! Figures over time: which steps are kept how long, which of them answer a question, and how samples are put together. No I/O.
//!
//! A sample is taken every 10 seconds and kept for hours; each minute's samples become one row that is kept for a day, each ten
//! minutes' one that is kept for 15 days. So a task has at most some 4,800 rows, whatever it does.

use std::collections::HashMap;

use super::figures::{Aggregate, Figure, Sample};

/// Most points of one answer.
pub const POINTS_MAX: i64 = 1500;

/// Steps of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    pub step_s: i64,
    pub kept_s: i64,
}

/// From the finest; each step is a multiple of the one before.
pub const TIERS: [Tier; 3] = [
    Tier { step_s: 10, kept_s: 3 * 3600 },
    Tier { step_s: 60, kept_s: 26 * 3600 },
    Tier { step_s: 600, kept_s: 15 * 86400 },
];

/// Which rows answer a question, and the points of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub tier: Tier,
    pub step_s: i64,
    /// Start of the first step.
    pub from_s: i64,
    /// End of the last step.
    pub to_s: i64,
}

impl Grid {
    /// `step_s` is a wish: the step is as wide as [`POINTS_MAX`] and what is still kept demand. None when there is nothing between `from_s` and `to_s`.
    pub fn new(from_s: i64, to_s: i64, step_s: Option<i64>, now_s: i64) -> Option<Self> {
        if to_s <= from_s {
            return None;
        }
        let least = (to_s - from_s).div_euclid(POINTS_MAX) + 1;
        let wanted = step_s.unwrap_or(1).max(least);
        // The coarsest rows that are fine enough, or the finest that still reach back so far.
        let kept = |tier: &&Tier| from_s >= now_s - tier.kept_s;
        let [.., coarsest] = TIERS;
        let tier = TIERS
            .iter()
            .rev()
            .filter(kept)
            .find(|tier| tier.step_s <= wanted)
            .or_else(|| TIERS.iter().find(kept))
            .copied()
            .unwrap_or(coarsest);
        let mut step_s = round_up(wanted, tier.step_s);
        loop {
            let (from, to) = (from_s.div_euclid(step_s) * step_s, round_up(to_s, step_s));
            if (to - from) / step_s <= POINTS_MAX {
                return Some(Self { tier, step_s, from_s: from, to_s: to });
            }
            // Whole steps at both ends may be one too many.
            step_s += tier.step_s;
        }
    }

    pub fn points(&self) -> usize {
        usize::try_from((self.to_s - self.from_s) / self.step_s).unwrap_or(0)
    }

    /// The point that a row of this time belongs to.
    pub fn point(&self, at_s: i64) -> Option<usize> {
        if at_s < self.from_s || at_s >= self.to_s {
            return None;
        }
        usize::try_from((at_s - self.from_s) / self.step_s).ok()
    }
}

fn round_up(value: i64, step: i64) -> i64 {
    -(-value).div_euclid(step) * step
}

/// Several values on their way to one.
#[derive(Debug, Clone, Copy)]
struct Gathered {
    value: f64,
    weight: f64,
}

/// Samples on their way to one sample.
#[derive(Debug, Clone, Default)]
pub struct Gather(HashMap<Figure, Gathered>);

impl Gather {
    /// Adds a row in the order of time; `weight` is the length of its step.
    pub fn add(&mut self, sample: &Sample, weight: f64) {
        for (figure, value) in &sample.0 {
            let (figure, value) = (*figure, *value);
            let Some(known) = self.0.get_mut(&figure) else {
                self.0.insert(figure, Gathered { value, weight });
                continue;
            };
            match figure.aggregate() {
                Aggregate::Max => known.value = known.value.max(value),
                Aggregate::Min => known.value = known.value.min(value),
                Aggregate::Sum => known.value += value,
                Aggregate::Last => known.value = value,
                Aggregate::Mean => {
                    let total = known.weight + weight;
                    known.value += (value - known.value) * weight / total;
                    known.weight = total;
                }
            }
        }
    }

    pub fn value(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).map(|gathered| (gathered.value * 1000.0).round() / 1000.0)
    }

    pub fn sample(&self) -> Sample {
        let mut values: Vec<_> = self.0.iter().map(|(figure, gathered)| (*figure, gathered.value)).collect();
        values.sort_unstable_by_key(|(figure, _)| *figure);
        Sample(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn the_step_is_as_fine_as_kept_and_asked_for() {
        let day = 86_400;
        for (back, length, asked, tier, step) in [
            // the last hour: every sample
            (3600, 3600, None, 10, 10),
            (3600, 3600, Some(10), 10, 10),
            (3600, 3600, Some(15), 10, 20),
            (3600, 3600, Some(60), 60, 60),
            (3600, 3600, Some(7), 10, 10),
            (3600, 3600, Some(1_000_000), 600, 1_000_200),
            // older than the finest rows
            (6 * 3600, 60, Some(10), 60, 60),
            (day, day, None, 60, 60),
            (2 * day, 60, None, 600, 600),
            (15 * day, 15 * day, None, 600, 1200),
            // longer ago than anything is kept
            (100 * day, 100 * day, None, 600, 6000),
        ] {
            let grid = Grid::new(NOW - back, NOW - back + length, asked, NOW).unwrap();
            assert_eq!((grid.tier.step_s, grid.step_s), (tier, step), "{back} {length} {asked:?}");
            assert!(grid.points() as i64 <= POINTS_MAX);
            assert!(grid.from_s <= NOW - back && grid.to_s >= NOW - back + length);
            assert_eq!(grid.point(grid.from_s), Some(0));
            assert_eq!(grid.point(grid.to_s), None);
            assert_eq!(grid.point(grid.to_s - 1), Some(grid.points() - 1));
        }
        assert_eq!(Grid::new(5, 5, None, NOW), None);
        // Unaligned ends never bring a point too many.
        for shift in 0..200 {
            let grid = Grid::new(NOW - 15_000 + shift, NOW + shift, None, NOW).unwrap();
            assert!(grid.points() as i64 <= POINTS_MAX, "{grid:?}");
        }
    }

    #[test]
    fn tiers_fit_into_each_other() {
        for pair in TIERS.windows(2) {
            assert_eq!(pair[1].step_s % pair[0].step_s, 0);
            assert!(pair[0].kept_s > 2 * pair[1].step_s, "rows live until they are rolled up");
        }
    }

    #[test]
    fn each_aggregate_does_what_its_name_says() {
        let mut gather = Gather::default();
        for (lag, spare, rows, retries, percent) in
            [(5.0, 90.0, 10.0, 1.0, 20.0), (9.0, 80.0, 40.0, 2.0, 10.0)]
        {
            gather.add(
                &Sample(vec![
                    (Figure::Lag, lag),
                    (Figure::Spare, spare),
                    (Figure::Rows, rows),
                    (Figure::Retries, retries),
                    (Figure::Percent, percent),
                ]),
                10.0,
            );
        }
        // A row of a minute weighs as much as six of ten seconds.
        gather.add(&Sample(vec![(Figure::Rows, 1.0)]), 60.0);
        let value = |figure| gather.value(figure);
        assert_eq!(value(Figure::Lag), Some(9.0));
        assert_eq!(value(Figure::Spare), Some(80.0));
        assert_eq!(value(Figure::Rows), Some(7.0));
        assert_eq!(value(Figure::Retries), Some(3.0));
        assert_eq!(value(Figure::Percent), Some(10.0));
        assert_eq!(value(Figure::Memory), None);
    }
}

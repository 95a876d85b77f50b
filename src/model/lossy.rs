//! Values that the target does not have as the source has them: by which rule, in which column, how many.

use serde::Serialize;

/// Why a value on the target differs from the source's (docs/fidelity.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossyRule {
    /// `lossy.time`: a TIME outside a day became the nearer end of the day.
    Time,
    /// `lossy.zero_date`: a date that no calendar has became NULL or the nearest that is.
    ZeroDate,
    /// `lossy.decimal`: rounded, or the largest that fits.
    Decimal,
    /// `lossy.fraction`: cut to milliseconds.
    Fraction,
    /// A TIMESTAMP in the hour that the zone of the Drainer repeats: the stream does not tell which of the two it was.
    RepeatedHour,
}

impl LossyRule {
    pub const ALL: [Self; 5] =
        [Self::Time, Self::ZeroDate, Self::Decimal, Self::Fraction, Self::RepeatedHour];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::ZeroDate => "zero_date",
            Self::Decimal => "decimal",
            Self::Fraction => "fraction",
            Self::RepeatedHour => "repeated_hour",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

/// Values of one column that one rule changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LossyCount {
    pub column: String,
    pub rule: LossyRule,
    pub count: u64,
}

/// Counts of one table. Few columns lose anything, so a list is searched; it grows once per column and rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LossyCounts(Vec<LossyCount>);

impl LossyCounts {
    pub const NONE: Self = Self(Vec::new());

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, column: &str, rule: LossyRule, count: u64) {
        match self.0.iter_mut().find(|known| known.rule == rule && known.column == column) {
            Some(known) => known.count += count,
            None => self.0.push(LossyCount { column: column.to_owned(), rule, count }),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for known in &other.0 {
            self.add(&known.column, known.rule, known.count);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &LossyCount> {
        self.0.iter()
    }
}

//! Whether a row meets a bound filter.

use std::cmp::Ordering;

use super::Comparison;
use super::like::Pattern;
use super::value::{Digits, bytes, double, instant, integer, label, moment, span, without_padding};
use crate::model::{Value, Zone};

/// What a column's values are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Decimal,
    Single,
    Double,
    /// By bytes; `pads`: trailing spaces do not count.
    Text {
        pads: bool,
    },
    Moment,
    /// TIMESTAMP: its text is in the zone of whoever sends it.
    Instant,
    Span,
    Label,
    /// NULL or not is all that can be asked.
    Opaque,
}

/// A literal, read as its column's kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    /// The largest integer not above the number, and whether it is the number.
    Whole(i128, bool),
    Decimal(Vec<u8>),
    Double(f64),
    /// Without padding where the column pads.
    Text(Vec<u8>),
    Moment(u64),
    Span(i64),
    Label(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Constant(Option<bool>),
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
    IsNull(usize),
    Compare(usize, Comparison, Constant),
    /// `null`: the list has a NULL.
    In {
        slot: usize,
        list: Vec<Constant>,
        null: bool,
    },
    Like(usize, Pattern),
}

/// A value that is not of its column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterFault {
    pub column: usize,
}

pub(super) struct Row<'v, 'a> {
    pub(super) kinds: &'v [Kind],
    pub(super) values: &'v [Value<'a>],
    pub(super) zone: &'v Zone,
}

impl Row<'_, '_> {
    /// Three-valued: None is NULL. What decides early leaves the rest unread.
    pub(super) fn test(&self, test: &Test) -> Result<Option<bool>, FilterFault> {
        match test {
            Test::Constant(value) => Ok(*value),
            Test::Not(inner) => Ok(self.test(inner)?.map(|holds| !holds)),
            Test::And(parts) => self.join(parts, false),
            Test::Or(parts) => self.join(parts, true),
            Test::IsNull(slot) => Ok(Some(self.value(*slot)? == Value::Null)),
            Test::Compare(slot, comparison, constant) => {
                Ok(self.order(*slot, constant)?.map(|order| comparison.holds(order)))
            }
            Test::In { slot, list, null } => {
                for constant in list {
                    match self.order(*slot, constant)? {
                        None => return Ok(None),
                        Some(Ordering::Equal) => return Ok(Some(true)),
                        Some(_) => {}
                    }
                }
                let unknown = *null || self.value(*slot)? == Value::Null;
                Ok(if unknown { None } else { Some(false) })
            }
            Test::Like(slot, pattern) => match self.value(*slot)? {
                Value::Null => Ok(None),
                value => {
                    let text = bytes(value).and_then(|text| std::str::from_utf8(text).ok());
                    Ok(Some(pattern.matches(text.ok_or(FilterFault { column: *slot })?)))
                }
            },
        }
    }

    /// AND (`decides` false) or OR (true).
    fn join(&self, parts: &[Test], decides: bool) -> Result<Option<bool>, FilterFault> {
        let mut outcome = Some(!decides);
        for part in parts {
            match self.test(part)? {
                Some(holds) if holds == decides => return Ok(Some(decides)),
                Some(_) => {}
                None => outcome = None,
            }
        }
        Ok(outcome)
    }

    fn value(&self, slot: usize) -> Result<Value<'_>, FilterFault> {
        self.values.get(slot).copied().ok_or(FilterFault { column: slot })
    }

    /// How the value stands to the constant; None for NULL.
    fn order(&self, slot: usize, constant: &Constant) -> Result<Option<Ordering>, FilterFault> {
        let value = self.value(slot)?;
        if value == Value::Null {
            return Ok(None);
        }
        let kind = self.kinds.get(slot).copied().unwrap_or(Kind::Opaque);
        compare(kind, value, constant, self.zone).map(Some).ok_or(FilterFault { column: slot })
    }
}

/// None for a value that is not of the kind.
fn compare(kind: Kind, value: Value<'_>, constant: &Constant, zone: &Zone) -> Option<Ordering> {
    match (kind, constant) {
        (Kind::Integer, Constant::Whole(floor, exact)) => {
            let order = integer(value)?.cmp(floor);
            Some(if order.is_eq() && !exact { Ordering::Less } else { order })
        }
        (Kind::Decimal, Constant::Decimal(other)) => {
            let other = Digits::parse(other)?;
            match value {
                Value::Int(number) => Some(Digits::parse(number.to_string().as_bytes())?.compare(other)),
                Value::UInt(number) => Some(Digits::parse(number.to_string().as_bytes())?.compare(other)),
                value => Some(Digits::parse(bytes(value)?)?.compare(other)),
            }
        }
        (Kind::Single, Constant::Double(other)) => f64::from(double(value)? as f32).partial_cmp(other),
        (Kind::Double, Constant::Double(other)) => double(value)?.partial_cmp(other),
        (Kind::Text { pads }, Constant::Text(other)) => {
            let text = bytes(value)?;
            Some(if pads { without_padding(text) } else { text }.cmp(other))
        }
        (Kind::Moment, Constant::Moment(other)) => Some(moment(bytes(value)?)?.cmp(other)),
        (Kind::Instant, Constant::Moment(other)) => Some(instant(bytes(value)?, zone)?.cmp(other)),
        (Kind::Span, Constant::Span(other)) => Some(span(bytes(value)?)?.cmp(other)),
        (Kind::Label, Constant::Label(other)) => Some(label(value)?.cmp(other)),
        _ => None,
    }
}

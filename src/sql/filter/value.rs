//! Values of rows and of literals, read into what they are compared as.

use std::cmp::Ordering;

use crate::model::{Value, Zone};

/// An exact decimal number: digits without leading zeros, fraction without trailing ones; zero is not negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits<'a> {
    negative: bool,
    pub(super) integer: &'a [u8],
    pub(super) fraction: &'a [u8],
}

impl<'a> Digits<'a> {
    /// `[+-]digits[.digits]`
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let (integer, fraction) = match unsigned.iter().position(|byte| *byte == b'.') {
            Some(at) => (unsigned.get(..at)?, unsigned.get(at + 1..)?),
            None => (unsigned, &[][..]),
        };
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        if (integer.is_empty() && fraction.is_empty()) || !digits(integer) || !digits(fraction) {
            return None;
        }
        let zeros = integer.iter().take_while(|byte| **byte == b'0').count();
        let kept = fraction.iter().rposition(|byte| *byte != b'0').map_or(0, |at| at + 1);
        let (integer, fraction) = (integer.get(zeros..)?, fraction.get(..kept)?);
        let zero = integer.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, integer, fraction })
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        let size = |one: Self, other: Self| {
            (one.integer.len().cmp(&other.integer.len()))
                .then_with(|| one.integer.cmp(other.integer))
                .then_with(|| one.fraction.cmp(other.fraction))
        };
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(self, other),
            (true, true) => size(other, self),
        }
    }

    /// The largest integer that is not above, and whether it is the number itself; beyond i128 its nearest end.
    pub(super) fn floor(self) -> (i128, bool) {
        let text = std::str::from_utf8(self.integer).unwrap_or_default();
        let size = if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
        match (size, self.negative) {
            (None, false) => (i128::MAX, false),
            (None, true) => (i128::MIN, false),
            (Some(size), false) => (size, self.fraction.is_empty()),
            (Some(size), true) if self.fraction.is_empty() => (-size, true),
            (Some(size), true) => (-size - 1, false),
        }
    }
}

pub(super) fn integer(value: Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(number.into()),
        Value::UInt(number) => Some(number.into()),
        // An old Drainer writes MEDIUMINT as text, every Drainer YEAR.
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::Double(_) | Value::Null => None,
    }
}

pub(super) fn double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(number),
        Value::Int(number) => Some(number as f64),
        Value::UInt(number) => Some(number as f64),
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::Null => None,
    }
    .filter(|number| number.is_finite())
}

/// The number of an ENUM's label.
pub(super) fn label(value: Value<'_>) -> Option<u64> {
    match value {
        Value::UInt(number) => Some(number),
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Double(_) | Value::Text(_) | Value::Bytes(_) | Value::Null => None,
    }
}

pub(super) fn bytes(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => Some(bytes),
        Value::Null | Value::Int(_) | Value::UInt(_) | Value::Double(_) => None,
    }
}

/// `YYYY-MM-DD[ HH:MM:SS[.ffffff]]` as a number that rises with time; zero dates are the lowest.
pub(super) fn moment(text: &[u8]) -> Option<u64> {
    let (date, time) = text.split_at_checked(10)?;
    let [y @ .., b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let (year, month, day) = (number(y)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let clock = match time.split_first() {
        None => 0,
        Some((b' ', clock)) => {
            let (hour, rest) = clock.split_at_checked(2)?;
            let hour = number(hour).filter(|hour| *hour < 24)?;
            hour * 3_600_000_000 + minutes(rest)?
        }
        Some(_) => return None,
    };
    (month <= 12 && day <= 31).then_some(((year * 16 + month) * 32 + day) * 86_400_000_000 + clock)
}

/// A TIMESTAMP's text in its zone.
pub(super) fn instant(text: &[u8], zone: &Zone) -> Option<u64> {
    zone.to_utc(text).and_then(|converted| moment(converted.text()))
}

/// `[-]H..H:MM:SS[.ffffff]` in microseconds.
pub(super) fn span(text: &[u8]) -> Option<i64> {
    let (negative, clock) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let (hours, rest) = clock.split_at_checked(clock.iter().position(|byte| *byte == b':')?)?;
    if !(2..=3).contains(&hours.len()) {
        return None;
    }
    let span = i64::try_from(number(hours)? * 3_600_000_000 + minutes(rest)?).ok()?;
    Some(if negative { -span } else { span })
}

/// `:MM:SS[.ffffff]` in microseconds.
fn minutes(text: &[u8]) -> Option<u64> {
    let (whole, fraction) = text.split_at_checked(6)?;
    let [b':', m1, m2, b':', s1, s2] = whole else { return None };
    let (minute, second) = (number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    let micros = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=6).contains(&digits.len()) => {
            number(digits)? * 10_u64.pow(6 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    (minute < 60 && second < 60).then_some((minute * 60 + second) * 1_000_000 + micros)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

pub(super) fn without_padding(mut text: &[u8]) -> &[u8] {
    while let Some((b' ', rest)) = text.split_last() {
        text = rest;
    }
    text
}

//! Numbers as the source carries them: native, or as text.

use super::{Pushed, Reason};
use crate::model::Value;

/// An integer of any of the source's types; from -2^63 to 2^64 - 1.
pub(super) fn integer(value: Value<'_>) -> Result<i128, Reason> {
    match value {
        Value::Int(number) => Ok(i128::from(number)),
        Value::UInt(number) => Ok(i128::from(number)),
        // An old Drainer writes MEDIUMINT as text (source-drainer.md 1.2).
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i128>().ok())
            .filter(|number| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(number))
            .ok_or("not an integer"),
        Value::Double(number) => whole(number).map(i128::from).ok_or("not an integer"),
        Value::Null => Err("NULL where a value is due"),
    }
}

/// Appends the digits of an integer.
pub(super) fn push_integer(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Reason> {
    let mut buffer = itoa::Buffer::new();
    let digits = match value {
        Value::Int(number) => buffer.format(number),
        Value::UInt(number) => buffer.format(number),
        other => buffer.format(integer(other)?),
    };
    out.extend_from_slice(digits.as_bytes());
    Ok(())
}

pub(super) fn double(value: Value<'_>) -> Result<f64, Reason> {
    let number = match value {
        Value::Double(number) => number,
        Value::Int(number) => number as f64,
        Value::UInt(number) => number as f64,
        Value::Text(text) | Value::Bytes(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or("not a number")?
        }
        Value::Null => return Err("NULL where a value is due"),
    };
    if number.is_finite() { Ok(number) } else { Err("not a finite number") }
}

/// BIT, ENUM and SET: a number, or big-endian bytes. TiDB's `enum + 0` is a double, `bit + 0` may be signed.
pub(super) fn bits(value: Value<'_>) -> Result<u64, Reason> {
    match value {
        Value::UInt(number) => Ok(number),
        Value::Int(number) => Ok(number as u64),
        Value::Double(number) => whole(number)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or("not a bit mask or label number"),
        Value::Bytes(bytes) | Value::Text(bytes) if bytes.len() <= 8 => {
            Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        Value::Bytes(_) | Value::Text(_) => Err("more than 64 bits"),
        Value::Null => Err("NULL where a value is due"),
    }
}

/// 0 (the year 0000) or 1901..=2155.
pub(super) fn year(value: Value<'_>) -> Result<i128, Reason> {
    integer(value)
        .ok()
        .filter(|year| *year == 0 || (1901..=2155).contains(year))
        .ok_or("not a year of 0000 or 1901..2155")
}

/// A double that is exactly an integer.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Digits that a DECIMAL of the target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecimalLimit {
    /// Before the point.
    pub(crate) integer: u32,
    /// After the point.
    pub(crate) scale: u32,
}

/// `[+-]digits[.digits]` taken apart; leading zeros stripped.
pub(super) struct Decimal<'a> {
    pub(super) negative: bool,
    pub(super) integer: &'a [u8],
    pub(super) fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let point = unsigned.iter().position(|byte| *byte == b'.');
        let (integer, fraction) = match point {
            Some(at) => (unsigned.get(..at)?, unsigned.get(at + 1..)?),
            None => (unsigned, &[][..]),
        };
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        if (integer.is_empty() && fraction.is_empty()) || !digits(integer) || !digits(fraction) {
            return None;
        }
        let zeros = integer.iter().take_while(|byte| **byte == b'0').count();
        Some(Self { negative, integer: integer.get(zeros..)?, fraction })
    }
}

pub(super) fn push_decimal(
    out: &mut Vec<u8>,
    value: Value<'_>,
    limit: Option<DecimalLimit>,
    quoted: bool,
) -> Result<Pushed, Reason> {
    let text = match value {
        Value::Text(text) | Value::Bytes(text) => text,
        Value::Int(_) | Value::UInt(_) => {
            push_integer(out, value)?;
            return Ok(Pushed::PLAIN);
        }
        Value::Double(_) | Value::Null => return Err("not a decimal number"),
    };
    let decimal = Decimal::parse(text).ok_or("not a decimal number")?;
    match limit {
        Some(limit) => clamp(out, &decimal, limit),
        None if quoted => {
            out.push(b'\'');
            out.extend_from_slice(text);
            out.push(b'\'');
            Ok(Pushed::PLAIN)
        }
        None => {
            out.extend_from_slice(text);
            Ok(Pushed::PLAIN)
        }
    }
}

/// The nearest number within the limit: rounded half away from zero, or the largest of its sign.
fn clamp(out: &mut Vec<u8>, decimal: &Decimal<'_>, limit: DecimalLimit) -> Result<Pushed, Reason> {
    let (places, scale) = (limit.integer as usize, limit.scale as usize);
    if decimal.negative {
        out.push(b'-');
    }
    let start = out.len();
    // One place for the carry.
    out.push(b'0');
    out.extend_from_slice(decimal.integer);
    if scale > 0 {
        out.push(b'.');
        out.extend(decimal.fraction.iter().copied().chain(std::iter::repeat(b'0')).take(scale));
    }
    let cut = decimal.fraction.get(scale..).unwrap_or_default();
    let mut pushed = if cut.iter().any(|byte| *byte != b'0') { Pushed::DECIMAL } else { Pushed::PLAIN };
    let digits = out.get_mut(start..).unwrap_or_default();
    if cut.first().is_some_and(|digit| *digit >= b'5') {
        for digit in digits.iter_mut().rev().filter(|byte| **byte != b'.') {
            if *digit == b'9' {
                *digit = b'0';
            } else {
                *digit += 1;
                break;
            }
        }
    }
    let carried = digits.first().is_some_and(|digit| *digit != b'0');
    if decimal.integer.len() + usize::from(carried) > places {
        out.truncate(start);
        out.extend(std::iter::repeat_n(b'9', places.max(1)));
        if scale > 0 {
            out.push(b'.');
            out.extend(std::iter::repeat_n(b'9', scale));
        }
        pushed = Pushed::DECIMAL;
    }
    Ok(pushed)
}

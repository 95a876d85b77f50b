//! DATE, TIME, DATETIME and TIMESTAMP: text of the source as a quoted literal, within the range of the target.

use super::{Pushed, Reason};
use crate::model::Zone;
use crate::task::spec::LossyPolicy;

pub(super) const OUTSIDE_A_DAY: Reason =
    "a time outside 00:00:00..23:59:59, which is all that the target has";
pub(super) const NO_CALENDAR_DATE: Reason =
    "a zero date, or a day that its month does not have, which the target refuses";
pub(super) const TOO_FINE: Reason = "finer than milliseconds, which is all that the target has";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemporalKind {
    Date,
    Time,
    DateTime,
    /// Text in the source's zone.
    Timestamp,
}

/// What becomes of a date that no calendar has: a zero year, month or day, the 31st of a month with 30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZeroDate {
    Keep,
    Refuse,
    /// `0000-00-00` becomes NULL, any other the nearest day: zero months and days become 01, a day too many the last of its month.
    Null,
    /// The same for a NOT NULL column: `0000-00-00` becomes `0001-01-01`.
    FirstDay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Temporal {
    pub(crate) kind: TemporalKind,
    pub(crate) zero_date: ZeroDate,
    /// Values of TIME outside a day: None keeps them.
    pub(crate) time: Option<LossyPolicy>,
    /// Digits beyond milliseconds: None keeps them.
    pub(crate) fraction: Option<LossyPolicy>,
}

impl Temporal {
    /// Everything as it is.
    pub(crate) fn exact(kind: TemporalKind) -> Self {
        Self { kind, zero_date: ZeroDate::Keep, time: None, fraction: None }
    }

    pub(super) fn push(&self, text: &[u8], zone: &Zone, out: &mut Vec<u8>) -> Result<Pushed, Reason> {
        match self.kind {
            TemporalKind::Date => {
                if !has_shape(text, b"0000-00-00") {
                    return Err("not a date");
                }
                self.push_date(text, &[], out)
            }
            TemporalKind::DateTime => {
                let (date, time) = split(text).ok_or("not a date and time")?;
                self.push_date(date, time, out)
            }
            TemporalKind::Timestamp => {
                split(text).ok_or("not a date and time")?;
                let converted = zone.to_utc(text).ok_or("not a date and time")?;
                let (date, time) = split(converted.text()).ok_or("not a date and time")?;
                let pushed = self.push_date(date, time, out)?;
                Ok(if converted.ambiguous { pushed | Pushed::AMBIGUOUS } else { pushed })
            }
            TemporalKind::Time => self.push_time(text, out),
        }
    }

    /// `time`: empty, or ` HH:MM:SS[.f]`.
    fn push_date(&self, date: &[u8], time: &[u8], out: &mut Vec<u8>) -> Result<Pushed, Reason> {
        let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
        let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
        let zero = (year == b"0000", month == b"00", day == b"00");
        let real = || zero == (false, false, false) && day <= last_day(year, month);
        if self.zero_date == ZeroDate::Keep || real() {
            out.push(b'\'');
            out.extend_from_slice(date);
            let pushed = self.push_clock(time, out)?;
            out.push(b'\'');
            return Ok(pushed);
        }
        if self.zero_date == ZeroDate::Refuse {
            return Err(NO_CALENDAR_DATE);
        }
        if zero == (true, true, true) && self.zero_date == ZeroDate::Null {
            out.extend_from_slice(b"NULL");
        } else if zero.0 {
            out.extend_from_slice(b"'0001-01-01");
            if !time.is_empty() {
                out.extend_from_slice(b" 00:00:00");
            }
            out.push(b'\'');
        } else {
            out.push(b'\'');
            out.extend_from_slice(year);
            out.push(b'-');
            out.extend_from_slice(if zero.1 { b"01" } else { month });
            out.push(b'-');
            out.extend_from_slice(if zero.2 { b"01" } else { day.min(last_day(year, month)) });
            self.push_clock(time, out)?;
            out.push(b'\'');
        }
        Ok(Pushed::ZERO_DATE)
    }

    fn push_time(&self, text: &[u8], out: &mut Vec<u8>) -> Result<Pushed, Reason> {
        let (negative, clock) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let colon = clock.iter().position(|byte| *byte == b':').unwrap_or_default();
        let (hours, rest) = clock.split_at(colon);
        let (minutes, fraction) = rest.split_at_checked(6).unwrap_or_default();
        let whole = (2..=3).contains(&hours.len())
            && hours.iter().all(u8::is_ascii_digit)
            && has_shape(minutes, b":00:00")
            && is_fraction(fraction);
        if !whole {
            return Err("not a time");
        }
        let negative = negative && clock.iter().any(|byte| (b'1'..=b'9').contains(byte));
        let long = hours.len() > 2 || hours > b"23".as_slice();
        out.push(b'\'');
        let pushed = match self.time {
            Some(LossyPolicy::Refuse) if negative || long => {
                return Err(OUTSIDE_A_DAY);
            }
            Some(LossyPolicy::Clamp) if negative || long => {
                out.extend_from_slice(if negative { b"00:00:00" } else { b"23:59:59" });
                if !negative && !fraction.is_empty() {
                    // As fine as the column, up to milliseconds.
                    out.extend(b".999".iter().take(fraction.len()));
                }
                Pushed::TIME
            }
            _ => {
                if negative {
                    out.push(b'-');
                }
                out.extend_from_slice(hours);
                self.push_clock(rest, out)?
            }
        };
        out.push(b'\'');
        Ok(pushed)
    }

    /// What ends in `SS[.f]`, with as many fractional digits as the target keeps.
    fn push_clock(&self, clock: &[u8], out: &mut Vec<u8>) -> Result<Pushed, Reason> {
        let point = clock.iter().position(|byte| *byte == b'.');
        let kept = point.map_or(clock.len(), |at| clock.len().min(at + 4));
        let (kept, cut) = clock.split_at(kept);
        let lost = cut.iter().any(|byte| *byte != b'0');
        match self.fraction {
            Some(LossyPolicy::Refuse) if lost => Err(TOO_FINE),
            Some(LossyPolicy::Refuse | LossyPolicy::Clamp) => {
                out.extend_from_slice(kept);
                Ok(if lost { Pushed::FRACTION } else { Pushed::PLAIN })
            }
            Some(LossyPolicy::Varchar) | None => {
                out.extend_from_slice(clock);
                Ok(Pushed::PLAIN)
            }
        }
    }
}

/// The last day of a month, as digits; 31 where there is no such month.
fn last_day(year: &[u8], month: &[u8]) -> &'static [u8] {
    let number = |digits: &[u8]| digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit & 15));
    match month {
        b"04" | b"06" | b"09" | b"11" => b"30",
        b"02" => {
            let year = number(year);
            if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { b"29" } else { b"28" }
        }
        _ => b"31",
    }
}

/// `YYYY-MM-DD` and ` HH:MM:SS[.f]`.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (whole, fraction) = text.split_at_checked(19)?;
    let fits = has_shape(whole, b"0000-00-00 00:00:00") && is_fraction(fraction);
    fits.then(|| text.split_at_checked(10)).flatten()
}

/// The same punctuation, and a digit wherever the shape has one.
pub(crate) fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

fn is_fraction(text: &[u8]) -> bool {
    match text.split_first() {
        None => true,
        Some((b'.', digits)) => (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

//! The zone in which a source writes TIMESTAMP values as text, and the way from that text to UTC.
//!
//! A Drainer renders TIMESTAMP in the local zone of its process (source-drainer.md 0.3). Every value of such a column passes
//! here, so the conversion allocates nothing: a named zone keeps the offset of each of its days (TIMESTAMP spans only
//! 1970-2038), and only the few days on which the offset changes are asked of the zone database.
//!
//! Two local times have no single answer. In the hour that clocks repeat, the earlier instant is chosen; in the hour that
//! clocks skip (no Drainer writes it), the offset before the change. Both are flagged `ambiguous`.

use std::fmt;
use std::sync::Arc;

use chrono::{LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

const DAY: i64 = 86_400;
/// 2038-01-21, two days behind the last TIMESTAMP.
const LAST_DAY: i64 = 24_857;
/// Marks a day on which the offset changes.
const CHANGES: i32 = i32::MIN;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    Named(NamedZone),
}

/// An IANA zone with the offset of each day since 1970-01-01 (local days).
#[derive(Clone)]
pub struct NamedZone {
    tz: Tz,
    days: Arc<[i32]>,
}

impl PartialEq for NamedZone {
    fn eq(&self, other: &Self) -> bool {
        self.tz == other.tz
    }
}

impl Eq for NamedZone {}

impl fmt::Debug for NamedZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedZone({})", self.tz)
    }
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC.
#[derive(Debug, Clone, Copy)]
pub struct Converted {
    buffer: [u8; 26],
    length: u8,
    /// The local time has two instants, or none.
    pub ambiguous: bool,
}

impl Converted {
    pub fn text(&self) -> &[u8] {
        self.buffer.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Zone {
    /// `UTC`, an offset such as `+08:00`, or an IANA name such as `Asia/Shanghai`.
    ///
    /// # Errors
    /// Says what is accepted, for the answer to a request.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if matches!(text.to_ascii_lowercase().as_str(), "utc" | "z" | "etc/utc" | "+00:00" | "-00:00") {
            return Ok(Self::Utc);
        }
        if let Some(seconds) = parse_offset(text) {
            return Ok(Self::Fixed(seconds));
        }
        text.parse::<Tz>().map(|tz| Self::Named(NamedZone::new(tz))).map_err(|_| {
            format!("`{text}` is neither `UTC`, an offset from -14:00 to +14:00, nor an IANA zone name")
        })
    }

    /// From local text to UTC, with the same number of fractional digits. Zero dates (`0000-00-00 ...`) stay as they are.
    /// None when the text is not a date and time.
    pub fn to_utc(&self, text: &[u8]) -> Option<Converted> {
        let mut out = Converted { buffer: [0; 26], length: text.len() as u8, ambiguous: false };
        let whole = out.buffer.get_mut(..text.len())?;
        whole.copy_from_slice(text);
        let local = parse(text)?;
        if local.zero_date {
            return Some(out);
        }
        let offset = match self {
            Self::Utc => return Some(out),
            Self::Fixed(seconds) => *seconds,
            Self::Named(zone) => {
                let (offset, ambiguous) = zone.offset(local.day, local.second)?;
                out.ambiguous = ambiguous;
                offset
            }
        };
        let seconds = local.day * DAY + local.second - i64::from(offset);
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        let year = u64::try_from(year).ok().filter(|year| *year <= 9999)?;
        digits(&mut out.buffer, 0, 4, year);
        digits(&mut out.buffer, 5, 2, month);
        digits(&mut out.buffer, 8, 2, day);
        digits(&mut out.buffer, 11, 2, (second / 3600) as u64);
        digits(&mut out.buffer, 14, 2, (second / 60 % 60) as u64);
        digits(&mut out.buffer, 17, 2, (second % 60) as u64);
        Some(out)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utc => f.write_str("UTC"),
            Self::Fixed(seconds) => {
                let sign = if *seconds < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", seconds.abs() / 3600, seconds.abs() / 60 % 60)
            }
            Self::Named(zone) => zone.tz.fmt(f),
        }
    }
}

impl NamedZone {
    fn new(tz: Tz) -> Self {
        let at = |seconds: i64| {
            chrono::DateTime::from_timestamp(seconds, 0)
                .map_or(0, |time| tz.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc())
        };
        // A local day lies within the UTC instants of the day before and the day after, whatever the offset; a zone that
        // changes its offset twice within three days does not exist.
        let days = (0..=LAST_DAY)
            .map(|day| {
                let (before, after) = (at((day - 1) * DAY), at((day + 2) * DAY));
                if before == after { before } else { CHANGES }
            })
            .collect();
        Self { tz, days }
    }

    /// Offset in seconds of a local time, and whether it is ambiguous.
    fn offset(&self, day: i64, second: i64) -> Option<(i32, bool)> {
        let known = usize::try_from(day).ok().and_then(|day| self.days.get(day)).copied();
        if let Some(offset) = known.filter(|offset| *offset != CHANGES) {
            return Some((offset, false));
        }
        let local = chrono::DateTime::from_timestamp(day * DAY + second, 0)?.naive_utc();
        Some(match self.tz.offset_from_local_datetime(&local) {
            LocalResult::Single(offset) => (offset.fix().local_minus_utc(), false),
            LocalResult::Ambiguous(earliest, _) => (earliest.fix().local_minus_utc(), true),
            LocalResult::None => (self.before_gap(local)?, true),
        })
    }

    fn before_gap(&self, local: NaiveDateTime) -> Option<i32> {
        // Gaps are at most a day (Samoa skipped 2011-12-30).
        (1..=25).find_map(|hours| {
            let earlier = local.checked_sub_signed(chrono::TimeDelta::try_hours(hours)?)?;
            self.tz.offset_from_local_datetime(&earlier).latest().map(|offset| offset.fix().local_minus_utc())
        })
    }
}

/// `+08:00`, `-3:30`.
fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let plain = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(hours) || !plain(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= 14 * 3600).then_some(sign * seconds)
}

struct Local {
    /// Days since 1970-01-01.
    day: i64,
    /// Seconds of the day.
    second: i64,
    zero_date: bool,
}

/// Reads `YYYY-MM-DD HH:MM:SS[.f]`.
fn parse(text: &[u8]) -> Option<Local> {
    let (whole, fraction) = text.split_at_checked(19)?;
    let shape = |at: usize, byte: u8| whole.get(at) == Some(&byte);
    if !(shape(4, b'-') && shape(7, b'-') && shape(10, b' ') && shape(13, b':') && shape(16, b':')) {
        return None;
    }
    match fraction.split_first() {
        None => {}
        Some((b'.', digits)) if (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {}
        Some(_) => return None,
    }
    let number = |from: usize, to: usize| {
        whole
            .get(from..to)?
            .iter()
            .try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if year == 0 || month == 0 || day == 0 {
        return Some(Local { day: 0, second: 0, zero_date: true });
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month as u32, day as u32)?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    Some(Local { day: days, second: hour * 3600 + minute * 60 + second, zero_date: false })
}

/// Year, month and day of a day since 1970-01-01 (the proleptic Gregorian calendar in eras of 400 years).
fn civil(day: i64) -> (i64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, (of_year - (153 * from_march + 2) / 5 + 1) as u64)
}

fn digits(buffer: &mut [u8; 26], at: usize, width: usize, mut number: u64) {
    for byte in buffer.iter_mut().skip(at).take(width).rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(zone: &str, text: &str) -> (String, bool) {
        let converted = Zone::parse(zone).unwrap().to_utc(text.as_bytes()).unwrap();
        (String::from_utf8(converted.text().to_vec()).unwrap(), converted.ambiguous)
    }

    #[test]
    fn converts_local_text_to_utc() {
        for (zone, local, expected) in [
            ("UTC", "2024-02-29 12:34:56.789012", "2024-02-29 12:34:56.789012"),
            ("+08:00", "1970-01-01 08:00:01", "1970-01-01 00:00:01"),
            ("+08:00", "2024-03-01 07:59:59.5", "2024-02-29 23:59:59.5"),
            ("-3:30", "2023-12-31 23:00:00", "2024-01-01 02:30:00"),
            ("Asia/Shanghai", "2038-01-19 11:14:07.999", "2038-01-19 03:14:07.999"),
            ("Asia/Shanghai", "1988-07-01 09:00:00", "1988-07-01 00:00:00"),
            ("America/New_York", "2024-07-01 00:00:00", "2024-07-01 04:00:00"),
            ("America/New_York", "2024-03-10 03:00:00", "2024-03-10 07:00:00"),
            ("Europe/Berlin", "1970-01-01 01:00:01", "1970-01-01 00:00:01"),
            ("Asia/Shanghai", "0000-00-00 00:00:00.000", "0000-00-00 00:00:00.000"),
        ] {
            assert_eq!(utc(zone, local), (expected.to_owned(), false), "{local} in {zone}");
        }
    }

    #[test]
    fn flags_repeated_and_skipped_hours() {
        // source-drainer.md 10.13: 16:00Z and 17:00Z both arrive as 01:00.
        assert_eq!(utc("Asia/Shanghai", "1991-09-15 01:00:00"), ("1991-09-14 16:00:00".to_owned(), true));
        assert_eq!(utc("America/New_York", "2024-11-03 01:30:00"), ("2024-11-03 05:30:00".to_owned(), true));
        assert_eq!(utc("America/New_York", "2024-03-10 02:30:00"), ("2024-03-10 07:30:00".to_owned(), true));
        assert_eq!(utc("America/New_York", "2024-11-03 00:59:59"), ("2024-11-03 04:59:59".to_owned(), false));
    }

    #[test]
    fn the_day_table_agrees_with_the_zone_database() {
        for name in
            ["Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
        {
            let Ok(Zone::Named(zone)) = Zone::parse(name) else { panic!("{name}") };
            for hour in 0..LAST_DAY * 24 {
                let instant = chrono::DateTime::from_timestamp(hour * 3600 + 1800, 0).unwrap();
                let offset = zone.tz.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc();
                let local = hour * 3600 + 1800 + i64::from(offset);
                let Some((found, ambiguous)) = zone.offset(local.div_euclid(DAY), local.rem_euclid(DAY))
                else {
                    panic!("{name} {instant}")
                };
                assert!(found == offset || ambiguous, "{name} {instant}: {found} is not {offset}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_zone_or_time() {
        assert!(Zone::parse("+15:00").is_err());
        assert!(Zone::parse("Mars/Olympus").is_err());
        assert!(Zone::parse("+8").is_err());
        for text in [
            "",
            "2024-01-01",
            "2024-01-01 24:00:00",
            "2024-13-01 00:00:00",
            "2024-01-01 00:00:00.1234567",
            "2024-02-30 00:00:00",
        ] {
            assert!(Zone::Utc.to_utc(text.as_bytes()).is_none(), "{text}");
        }
    }
}

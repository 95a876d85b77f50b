//! Times and source timestamps as the API writes them.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(ms: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Milliseconds since the epoch of an RFC 3339 time in any zone.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

/// The time of a TSO of the store; None for 0, which means none.
pub fn of_tso(tso: i64) -> Option<String> {
    (tso > 0).then(|| rfc3339(tso >> 18))
}

/// A TSO as a decimal string; None for 0.
pub fn tso(tso: i64) -> Option<String> {
    (tso > 0).then(|| tso.to_string())
}

/// Milliseconds since the epoch of a time in RFC 3339, between the years 1970 and 9999.
pub fn parse_time(text: &str) -> Option<i64> {
    let ms = DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis();
    (0..=253_402_300_799_999).contains(&ms).then_some(ms)
}

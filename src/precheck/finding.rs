//! What one check found, before it becomes an item of the report: an outcome, the objects concerned, what was seen, what to do.

use std::fmt::Display;
use std::time::Duration;

use super::{CheckOutcome, PrecheckItem};
use crate::error::{Error, Result};

/// Objects named in an item; `object_count` tells how many there are.
const OBJECTS_SHOWN: usize = 20;

/// Time for one check. A check that needs longer cannot be told from one that hangs.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub outcome: CheckOutcome,
    pub detail: String,
    pub hint: Option<String>,
    objects: Vec<String>,
    object_count: u64,
    outage: bool,
}

impl Finding {
    fn new(outcome: CheckOutcome, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { outcome, detail: detail.into(), hint, objects: Vec::new(), object_count: 0, outage: false }
    }

    pub fn pass(detail: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Pass, detail, None)
    }

    /// All is well, and yet a person may want to do something.
    pub fn note(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Pass, detail, Some(hint.into()))
    }

    pub fn warn(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Warn, detail, Some(hint.into()))
    }

    pub fn fail(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Fail, detail, Some(hint.into()))
    }

    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Skipped, reason, None)
    }

    /// What the check wanted to read cannot be read. That alone stops nobody: what sync itself needs has checks that fail.
    pub fn unreadable(what: &str, error: &Error) -> Self {
        Self::new(CheckOutcome::Skipped, format!("{what} could not be read: {error}"), error.hint.clone())
    }

    /// It failed because no answer came: it may be over in a moment.
    pub fn outage(self, outage: bool) -> Self {
        Self { outage, ..self }
    }

    pub fn objects<T: Display>(mut self, objects: impl IntoIterator<Item = T>) -> Self {
        for object in objects {
            if self.objects.len() < OBJECTS_SHOWN {
                self.objects.push(object.to_string());
            }
            self.object_count += 1;
        }
        self
    }

    /// The item under which users see the finding. Only a warning can be waived.
    pub fn into_item(self, id: &str, waivers: &[String]) -> PrecheckItem {
        let waivable = self.outcome == CheckOutcome::Warn;
        PrecheckItem {
            id: id.to_owned(),
            outcome: self.outcome,
            objects: self.objects,
            object_count: self.object_count,
            detail: self.detail,
            hint: self.hint,
            waivable,
            outage: self.outage,
            waived: waivable && waivers.iter().any(|waiver| waiver == id),
        }
    }
}

/// Runs one check: an error that it did not foresee makes it `Skipped` when the answer is only good to know, which is for the
/// check to decide (`otherwise`); a check that takes too long fails.
pub(super) async fn bounded(
    check: impl Future<Output = Result<Finding>>,
    otherwise: impl FnOnce(&Error) -> Finding,
) -> Finding {
    match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => otherwise(&error),
        Err(_) => Finding::fail(
            format!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
            "run the precheck again; if it stays so, look at the load and the log of the server",
        )
        .outage(true),
    }
}

/// `1 table`, `2 tables`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Bytes in the largest unit that keeps a digit before the point.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Milliseconds in words, to the unit that matters.
pub(super) fn duration(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A time as users read it, UTC with milliseconds.
pub(super) fn instant(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_can_be_waived() {
        let waivers = ["a".to_owned()];
        let item = Finding::warn("x", "y").into_item("a", &waivers);
        assert!(item.waivable && item.waived);
        let item = Finding::warn("x", "y").into_item("b", &waivers);
        assert!(item.waivable && !item.waived);
        let item = Finding::fail("x", "y").into_item("a", &waivers);
        assert!(!item.waivable && !item.waived);
    }

    #[test]
    fn twenty_objects_are_named_and_all_are_counted() {
        let item = Finding::pass("").objects(0..33).into_item("a", &[]);
        assert_eq!((item.objects.len(), item.object_count), (20, 33));
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!([bytes(0), bytes(1536), bytes(1 << 30)], ["0 B", "1.5 KiB", "1.0 GiB"]);
        assert_eq!([duration(999), duration(61_000), duration(86_400_000)], ["999 ms", "61 s", "24 h"]);
        assert_eq!(instant(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}

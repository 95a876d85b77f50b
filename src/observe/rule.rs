//! What an alert rule is, and whether a task breaks it. No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::task::connection::SecretChange;
use crate::task::fault::Fault;
use crate::task::status::Status;

const HOUR_MS: u64 = 3_600_000;

/// What a rule watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The task has failed and waits for a person.
    Failure,
    /// `lag_ms` is above `threshold_ms` (default one minute). Paused and failed tasks lag too.
    Lag,
    /// The task runs, and for `threshold_ms` (default ten minutes) nothing has reached the target and its watermark stands still.
    NoProgress,
    /// Full sync is not through `threshold_ms` (default a day) after the task's first start.
    FullTimeout,
    /// The topic drops the task's position in less than `threshold_ms` (default a day), or has dropped it. Needs to see
    /// `retention.ms` of the topic.
    Retention,
    /// At least `threshold_count` (default 1) dead letters are open.
    DeadLetters,
}

impl AlertKind {
    pub const ALL: &[Self] =
        &[Self::Failure, Self::Lag, Self::NoProgress, Self::FullTimeout, Self::Retention, Self::DeadLetters];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Lag => "lag",
            Self::NoProgress => "no_progress",
            Self::FullTimeout => "full_timeout",
            Self::Retention => "retention",
            Self::DeadLetters => "dead_letters",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }

    /// Default of `threshold_ms`; None where it means nothing.
    fn threshold_ms(self) -> Option<u64> {
        match self {
            Self::Lag => Some(60_000),
            Self::NoProgress => Some(600_000),
            Self::FullTimeout | Self::Retention => Some(24 * HOUR_MS),
            Self::Failure | Self::DeadLetters => None,
        }
    }

    /// Unit of an alert's `value` and `threshold`.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Failure => None,
            Self::DeadLetters => Some("changes"),
            _ => Some("ms"),
        }
    }
}

fn yes() -> bool {
    true
}

/// Where alerts are told.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookInput {
    /// `http` or `https`; redirects are not followed.
    #[schema(min_length = 1, max_length = 2000)]
    pub url: String,
    /// Signs each request: see `tidegate-signature`. Kept sealed.
    #[serde(default)]
    pub secret: SecretChange,
}

/// A rule as it is written.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRuleInput {
    pub kind: AlertKind,
    /// Tasks that have all of these labels; empty = all tasks.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For lag, no_progress, full_timeout and retention; each has its default.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub threshold_ms: Option<u64>,
    /// For dead_letters; default 1.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub threshold_count: Option<u64>,
    /// It must hold for so long before it is an alert.
    #[serde(default)]
    #[schema(maximum = 2_592_000_000_u64)]
    pub for_ms: u64,
    /// Tell it again after so long, as long as it holds; null = once.
    #[serde(default)]
    #[schema(minimum = 60_000, maximum = 2_592_000_000_u64)]
    pub repeat_ms: Option<u64>,
    /// Tell too when it is over.
    #[serde(default = "yes")]
    pub recovered: bool,
    /// false: nothing is watched, alerts that fire are resolved.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// null: alerts are only to be read under `/alerts`.
    #[serde(default)]
    pub webhook: Option<WebhookInput>,
}

/// A rule as it is kept; the webhook's secret lies beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub kind: AlertKind,
    pub labels: BTreeMap<String, String>,
    pub threshold_ms: Option<u64>,
    pub threshold_count: Option<u64>,
    pub for_ms: u64,
    pub repeat_ms: Option<u64>,
    pub recovered: bool,
    pub enabled: bool,
    pub url: Option<String>,
}

impl AlertRuleInput {
    /// The rule with its defaults, and what becomes of the secret.
    ///
    /// # Errors
    /// All faults.
    pub fn into_parts(self) -> Result<(Rule, SecretChange), Vec<Fault>> {
        let mut faults = Vec::new();
        let kind = self.kind;
        let mut misplaced = |given: bool, means: bool, field: &str| {
            if given && !means {
                let detail = format!("means nothing for kind {}", kind.as_str());
                faults.push(Fault::new(format!("/{field}"), "invalid", detail));
            }
        };
        misplaced(self.threshold_ms.is_some(), kind.threshold_ms().is_some(), "threshold_ms");
        misplaced(self.threshold_count.is_some(), kind == AlertKind::DeadLetters, "threshold_count");
        let (url, secret) = match self.webhook {
            None => (None, SecretChange::Clear),
            Some(webhook) => {
                if let Err(detail) = check_url(&webhook.url) {
                    faults.push(Fault::new("/webhook/url", "invalid", detail));
                }
                (Some(webhook.url), webhook.secret)
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let rule = Rule {
            kind,
            labels: self.labels,
            threshold_ms: self.threshold_ms.or(kind.threshold_ms()),
            threshold_count: self.threshold_count.or((kind == AlertKind::DeadLetters).then_some(1)),
            for_ms: self.for_ms,
            repeat_ms: self.repeat_ms,
            recovered: self.recovered,
            enabled: self.enabled,
            url,
        };
        Ok((rule, secret))
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password: it is shown; use the webhook's secret".to_owned());
    }
    Ok(())
}

/// What rules are judged by: one task at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    pub status: Status,
    pub lag_ms: Option<i64>,
    /// Since when nothing has moved, while it runs.
    pub still_ms: Option<i64>,
    /// Since the first start, while full sync is not through.
    pub full_ms: Option<i64>,
    /// Until the topic drops the position; 0 or less = it has.
    pub retention_left_ms: Option<i64>,
    pub dead_letters: u64,
    pub last_error: Option<String>,
}

/// How a task breaks a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub detail: String,
}

impl Rule {
    /// Whether the labels of a task are in the rule's scope.
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// None when the task keeps the rule, or what the rule asks for is not known.
    pub fn judge(&self, facts: &Facts) -> Option<Breach> {
        let over = |value: Option<i64>| {
            let value = value?;
            let threshold = self.threshold_ms?;
            let breaks = u64::try_from(value).is_ok_and(|value| value > threshold);
            breaks.then_some((value as f64, threshold as f64))
        };
        let breach = |(value, threshold): (f64, f64), detail: String| Breach {
            value: Some(value),
            threshold: Some(threshold),
            detail,
        };
        match self.kind {
            AlertKind::Failure => (facts.status == Status::Failed).then(|| Breach {
                value: None,
                threshold: None,
                detail: facts.last_error.clone().unwrap_or_else(|| "the task failed".to_owned()),
            }),
            AlertKind::Lag => {
                over(facts.lag_ms).map(|found| breach(found, format!("the target lags {}", words(found.0))))
            }
            AlertKind::NoProgress => over(facts.still_ms)
                .map(|found| breach(found, format!("nothing has moved for {}", words(found.0)))),
            AlertKind::FullTimeout => over(facts.full_ms).map(|found| {
                breach(found, format!("full sync is not through {} after the start", words(found.0)))
            }),
            AlertKind::Retention => {
                let (left, threshold) = (facts.retention_left_ms?, self.threshold_ms?);
                let short = i64::try_from(threshold).is_ok_and(|threshold| left < threshold);
                short.then(|| {
                    let detail = if left <= 0 {
                        "the topic no longer holds the task's position".to_owned()
                    } else {
                        format!("the topic drops the task's position in {}", words(left as f64))
                    };
                    breach((left as f64, threshold as f64), detail)
                })
            }
            AlertKind::DeadLetters => {
                let threshold = self.threshold_count?;
                (facts.dead_letters >= threshold).then(|| {
                    let detail = format!("{} dead letters are open", facts.dead_letters);
                    breach((facts.dead_letters as f64, threshold as f64), detail)
                })
            }
        }
    }
}

/// A length of time for people.
pub fn words(ms: f64) -> String {
    let seconds = (ms / 1000.0).max(0.0);
    match seconds {
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<Rule, Vec<Fault>> {
        let input: AlertRuleInput = serde_json::from_str(text).unwrap();
        input.into_parts().map(|(rule, _)| rule)
    }

    fn calm() -> Facts {
        Facts {
            status: Status::Running,
            lag_ms: Some(10),
            still_ms: Some(0),
            full_ms: None,
            retention_left_ms: Some(7 * 86_400_000),
            dead_letters: 0,
            last_error: None,
        }
    }

    #[test]
    fn every_kind_holds_its_threshold() {
        let hour = 3_600_000;
        let broken: [(&str, Facts); 6] = [
            (r#"{"kind": "failure"}"#, Facts { status: Status::Failed, ..calm() }),
            (r#"{"kind": "lag", "threshold_ms": 5000}"#, Facts { lag_ms: Some(5001), ..calm() }),
            (r#"{"kind": "no_progress"}"#, Facts { still_ms: Some(600_001), ..calm() }),
            (
                r#"{"kind": "full_timeout", "threshold_ms": 3600000}"#,
                Facts { full_ms: Some(hour + 1), ..calm() },
            ),
            (r#"{"kind": "retention"}"#, Facts { retention_left_ms: Some(hour), ..calm() }),
            (r#"{"kind": "dead_letters"}"#, Facts { dead_letters: 1, ..calm() }),
        ];
        for (n, (text, _)) in broken.iter().enumerate() {
            let rule = rule(text).unwrap();
            assert_eq!(rule.judge(&calm()), None, "{text}");
            for (m, (_, facts)) in broken.iter().enumerate() {
                assert_eq!(rule.judge(facts).is_some(), n == m, "{text} {facts:?}");
            }
        }
        let lag = rule(r#"{"kind": "lag", "threshold_ms": 5000}"#).unwrap();
        assert_eq!(lag.judge(&Facts { lag_ms: Some(5000), ..calm() }), None);
        assert_eq!(lag.judge(&Facts { lag_ms: None, ..calm() }), None);
        let retention = rule(r#"{"kind": "retention"}"#).unwrap();
        let lost = retention.judge(&Facts { retention_left_ms: Some(0), ..calm() }).unwrap();
        assert_eq!(lost.detail, "the topic no longer holds the task's position");
    }

    #[test]
    fn labels_are_the_scope() {
        let rule = rule(r#"{"kind": "failure", "labels": {"env": "prod"}}"#).unwrap();
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(rule.covers(&labels(&[("env", "prod"), ("team", "a")])));
        assert!(!rule.covers(&labels(&[("env", "test")])));
        assert!(!rule.covers(&labels(&[])));
    }

    #[test]
    fn what_cannot_mean_anything_is_told() {
        for (text, pointer) in [
            (r#"{"kind": "failure", "threshold_ms": 5}"#, "/threshold_ms"),
            (r#"{"kind": "lag", "threshold_count": 5}"#, "/threshold_count"),
            (r#"{"kind": "lag", "webhook": {"url": "ftp://a/b"}}"#, "/webhook/url"),
            (r#"{"kind": "lag", "webhook": {"url": "https://me:word@a/b"}}"#, "/webhook/url"),
            (r#"{"kind": "lag", "webhook": {"url": "somewhere"}}"#, "/webhook/url"),
        ] {
            assert_eq!(rule(text).unwrap_err()[0].pointer, pointer, "{text}");
        }
    }

    #[test]
    fn times_are_told_in_words() {
        for (ms, expected) in [
            (1500.0, "1.5 s"),
            (90_000.0, "90 s"),
            (600_000.0, "10 min"),
            (9e7, "25.0 h"),
            (2.6e8, "3.0 days"),
        ] {
            assert_eq!(words(ms), expected);
        }
    }
}

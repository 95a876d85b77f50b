//! `kafka.*`: is the topic one that Drainer writes and that can be followed from where the task starts?

use std::collections::HashMap;

use super::broker::{ACL_HINT, Broker, Range, Record, Topic, unreachable};
use super::finding::{Finding, bytes, counted, duration, instant};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{KafkaEndpoint, Tso};
use crate::task::spec::{Spec, StartAt};

/// Shorter than this, and a weekend's stop of the task or a long full sync outlives the messages it needs.
const RETENTION_MS: u64 = 24 * 3600 * 1000;

/// A transaction is one message of up to this size (source-drainer.md 2.4).
const LARGEST_MESSAGE: u64 = 1 << 30;

const IDS: [&str; 9] = [
    "kafka.connect",
    "kafka.authentication",
    "kafka.topic",
    "kafka.partitions",
    "kafka.messages",
    "kafka.start_at",
    "kafka.retention",
    "kafka.compaction",
    "kafka.message_size",
];

/// Findings in the order of [`IDS`]; what depends on a failed one is skipped.
struct Findings(Vec<(&'static str, Finding)>);

impl Findings {
    fn push(&mut self, finding: Finding) {
        if let Some(id) = IDS.get(self.0.len()) {
            self.0.push((id, finding));
        }
    }

    fn skip_rest(mut self, reason: &str) -> Vec<(&'static str, Finding)> {
        while self.0.len() < IDS.len() {
            self.push(Finding::skipped(reason));
        }
        self.0
    }
}

pub(super) async fn checks(endpoint: Option<&KafkaEndpoint>, spec: &Spec) -> Vec<(&'static str, Finding)> {
    let mut findings = Findings(Vec::new());
    if !spec.phases.incremental {
        return findings.skip_rest("incremental sync is off");
    }
    let Some(endpoint) = endpoint else {
        findings.push(Finding::fail(
            "incremental sync needs Kafka, and the task names no kafka connection",
            "set source.kafka, or turn phases.incremental off",
        ));
        return findings.skip_rest("no kafka connection");
    };
    let broker = match reach(endpoint).await.and_then(|()| {
        Broker::new(endpoint).map_err(|error| {
            Finding::fail(
                format!("the connection's settings are refused: {error}"),
                error.hint.unwrap_or_default(),
            )
        })
    }) {
        Ok(broker) => broker,
        Err(finding) => {
            findings.push(finding);
            return findings.skip_rest("see kafka.connect");
        }
    };
    let findings = ask(&broker, endpoint, spec, findings).await;
    broker.close().await;
    findings
}

/// At least one bootstrap broker takes a TCP connection.
pub(super) async fn reach(endpoint: &KafkaEndpoint) -> std::result::Result<(), Finding> {
    let lost = unreachable(endpoint.brokers.iter().map(String::as_str)).await;
    if lost.len() < endpoint.brokers.len() {
        return Ok(());
    }
    let causes: Vec<String> = lost.iter().map(|(place, cause)| format!("{place}: {cause}")).collect();
    Err(Finding::fail(
        format!("no broker can be reached: {}", causes.join("; ")),
        "check brokers (host:port) of the connection, that Kafka runs, and that the firewall lets this host in",
    )
    .outage(true)
    .objects(endpoint.brokers.iter()))
}

async fn ask(
    broker: &Broker,
    endpoint: &KafkaEndpoint,
    spec: &Spec,
    mut findings: Findings,
) -> Vec<(&'static str, Finding)> {
    let wanted = spec.source.topic.as_deref();
    let (topics, places) = match broker.topics(wanted).await {
        Ok(answer) => answer,
        Err(error) if is_of_topic(&error) => {
            findings.push(Finding::pass(format!("{} answered", endpoint.brokers.join(", "))));
            findings.push(Finding::pass(login_words(endpoint)));
            let user = endpoint.sasl.as_ref().map_or("a client without login", |sasl| sasl.user.as_str());
            findings.push(Finding::fail(
                format!("{user} may not see topic {}: {}", wanted.unwrap_or_default(), error.message),
                error.hint.unwrap_or_default(),
            ));
            return findings.skip_rest("the topic may not be seen");
        }
        Err(error) => {
            findings.push(Finding::pass(format!("{} took the connection", endpoint.brokers.join(", "))));
            findings.push(no_metadata(&error, endpoint));
            return findings.skip_rest("no login to Kafka");
        }
    };
    let topic = topics.into_iter().find(|topic| Some(topic.name.as_str()) == wanted);
    findings.push(announced(&places, topic.as_ref()).await);
    findings.push(Finding::pass(login_words(endpoint)));
    let Some(topic) = topic else {
        findings.push(missing_topic(broker, wanted).await);
        return findings.skip_rest("no topic");
    };
    findings.push(Finding::pass(format!("topic {} exists", topic.name)));
    let (ranges, range) = match ranges(broker, &topic).await {
        Ok(ranges) => (ranges.clone(), ranges.first().copied()),
        Err(error) => {
            let outage = error.kind == ErrorKind::Unreachable;
            let finding = Finding::fail(
                format!("the offsets of topic {} cannot be read: {error}", topic.name),
                error.hint.unwrap_or_else(|| "look at the state of the topic's leader".to_owned()),
            );
            findings.push(finding.outage(outage));
            return findings.skip_rest("the offsets of the topic cannot be read");
        }
    };
    findings.push(judge_partitions(&topic.name, &ranges));
    let Some(range) = range else {
        return findings.skip_rest("the topic has no partition 0");
    };
    let (last, first) = (broker.last(&topic.name, range).await, broker.first(&topic.name, range).await);
    findings.push(judge_last(&topic.name, range, &last));
    let oldest = first.ok().flatten().and_then(|record| record.content.ok());
    findings.push(judge_start(spec, range, oldest.as_ref().map(|summary| summary.commit_ts)));
    let newest = last.ok().flatten().and_then(|record| record.content.ok());
    let covered = newest.zip(oldest).map(|(new, old)| {
        u64::try_from(new.commit_ts.physical_ms() - old.commit_ts.physical_ms()).unwrap_or(0)
    });
    let settings = settings_of(broker, &topic.name).await;
    for judge in [retention, compaction, message_size] {
        findings.push(match &settings {
            Ok(settings) => judge(settings, covered),
            Err(error) => Finding::unreadable("the topic's settings", error),
        });
    }
    findings.0
}

async fn settings_of(broker: &Broker, topic: &str) -> Result<HashMap<String, String>> {
    Ok(broker.settings(&[topic]).await?.remove(topic).unwrap_or_default())
}

/// The login came about, and an ACL hides the topic.
fn is_of_topic(error: &Error) -> bool {
    error.hint.as_deref() == Some(ACL_HINT)
}

pub(super) fn login_words(endpoint: &KafkaEndpoint) -> String {
    match &endpoint.sasl {
        Some(sasl) => format!("logged in as {} with {}", sasl.user, sasl.mechanism),
        None => "the listener asks for no login".to_owned(),
    }
}

/// The cluster took a TCP connection and then gave no answer.
pub(super) fn no_metadata(error: &Error, endpoint: &KafkaEndpoint) -> Finding {
    let hint = match (&error.hint, &endpoint.sasl) {
        (Some(hint), _) => hint.clone(),
        (None, None) => {
            "does this listener ask for TLS or a login? then set tls.mode and sasl of the connection"
                .to_owned()
        }
        (None, Some(_)) => {
            "does this listener speak TLS, or none? set tls.mode of the connection accordingly".to_owned()
        }
    };
    let what = match error.kind {
        ErrorKind::AccessDenied => "Kafka refuses this connection",
        _ => "the brokers do not answer",
    };
    Finding::fail(format!("{what}: {}", error.message), hint).outage(error.kind == ErrorKind::Unreachable)
}

/// Clients talk to brokers under the names that these announce, not under those of the connection.
pub(super) async fn announced(places: &[String], topic: Option<&Topic>) -> Finding {
    let lost = unreachable(places.iter().map(String::as_str)).await;
    if lost.is_empty() {
        return Finding::pass(format!("{} can be reached", counted(places.len() as u64, "broker")));
    }
    let words: Vec<String> = lost.iter().map(|(place, cause)| format!("{place} ({cause})")).collect();
    let detail = format!(
        "{} of {} cannot be reached under the names they announce: {}",
        lost.len(),
        counted(places.len() as u64, "broker"),
        words.join(", ")
    );
    let hint =
        "set advertised.listeners of the brokers to names that resolve here, or add the names to this host";
    let leader = topic.and_then(|topic| topic.leader.as_ref());
    let finding = match leader {
        Some(leader) if lost.iter().all(|(place, _)| place != leader) => Finding::note(
            format!("{detail}; the leader of partition 0, {leader}, can"),
            format!("the sync stops when leadership moves there: {hint}"),
        ),
        _ => Finding::fail(detail, hint).outage(true),
    };
    finding.objects(lost.into_iter().map(|(place, _)| place))
}

async fn missing_topic(broker: &Broker, wanted: Option<&str>) -> Finding {
    let known = match broker.topics(None).await {
        Ok((topics, _)) => topics,
        Err(_) => Vec::new(),
    };
    let mut names: Vec<&str> =
        known.iter().map(|topic| topic.name.as_str()).filter(|name| !name.starts_with("__")).collect();
    // Drainer's own names first.
    names.sort_unstable_by_key(|name| (!name.contains("binlog"), *name));
    let detail = match wanted {
        Some(wanted) => {
            format!("topic {wanted} does not exist; {} to be seen", counted(names.len() as u64, "topic"))
        }
        None => "the task names no topic".to_owned(),
    };
    Finding::fail(
        detail,
        "set source.topic to Drainer's topic-name ([syncer.to] of its configuration; <cluster-id>_obinlog when it has none)",
    )
    .objects(names)
}

async fn ranges(broker: &Broker, topic: &Topic) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for partition in 0..topic.partitions.min(50) {
        ranges.push(broker.range(&topic.name, partition as i32).await?);
    }
    Ok(ranges)
}

fn judge_partitions(topic: &str, ranges: &[Range]) -> Finding {
    if let [range] = ranges {
        return Finding::pass(format!("one partition, offsets {} to {}", range.start, range.end));
    }
    let counts: Vec<String> = ranges
        .iter()
        .enumerate()
        .map(|(partition, range)| {
            format!("partition {partition} holds {} messages", range.end.0 - range.start.0)
        })
        .collect();
    Finding::fail(
        format!(
            "topic {topic} has {} partitions; Drainer writes partition 0 only and only that one is read",
            ranges.len()
        ),
        "create a topic with one partition, set Drainer's topic-name to it, and set source.topic",
    )
    .objects(counts)
}

fn judge_last(topic: &str, range: Range, last: &Result<Option<Record>>) -> Finding {
    let record = match last {
        Ok(Some(record)) => record,
        Ok(None) => {
            return Finding::note(
                format!("topic {topic} is empty (next offset {}): nothing to look at", range.end),
                "any transaction on the source should make a message appear; if not, look at Drainer's topic-name",
            );
        }
        Err(error) => {
            return Finding::fail(
                format!("the last message of topic {topic} cannot be read: {error}"),
                error.hint.clone().unwrap_or_else(|| "run the precheck again".to_owned()),
            )
            .outage(error.kind == ErrorKind::Unreachable);
        }
    };
    let size = bytes(record.size);
    match &record.content {
        Ok(summary) => Finding::pass(format!("the message at offset {} ({size}) holds {summary}", record.offset)),
        Err(reason) => Finding::fail(
            format!("the message at offset {} ({size}) is none of Drainer's: {reason}", record.offset),
            "use the topic of a Drainer with db-type = \"kafka\"; if it is Drainer's, another producer wrote to it or the \
             message is damaged",
        )
        .objects([format!("{topic} offset {}", record.offset)]),
    }
}

/// Where an incremental-only task starts must still be in the topic. `oldest` is the commit time of the first message.
fn judge_start(spec: &Spec, range: Range, oldest: Option<Tso>) -> Finding {
    let Some(start_at) = spec.start_at.as_ref().filter(|_| !spec.phases.full) else {
        return Finding::pass(format!(
            "incremental sync follows full sync from offset {} or later",
            range.end
        ));
    };
    let lost = |what: String| {
        Finding::fail(
            what,
            "choose a later start_at, or let full sync (phases.full) copy what is there first",
        )
    };
    match start_at {
        StartAt::Earliest => Finding::pass(format!("starts at the first message, offset {}", range.start)),
        StartAt::Latest => Finding::pass(format!("starts at offset {}", range.end)),
        StartAt::Offset(text) => match text.parse::<i64>() {
            Err(_) => {
                Finding::fail(format!("\"{text}\" is no offset"), "write start_at.offset as a decimal number")
            }
            Ok(offset) if offset < range.start.0 => {
                lost(format!("offset {offset} is no longer in the topic: its first one is {}", range.start))
            }
            Ok(offset) if offset > range.end.0 => Finding::fail(
                format!("offset {offset} is not in the topic yet: its next one is {}", range.end),
                "is this the right topic, and was it created anew? choose an earlier start_at",
            ),
            Ok(offset) => {
                Finding::pass(format!("offset {offset} is within {} to {}", range.start, range.end))
            }
        },
        StartAt::Tso(text) => match text.parse() {
            Ok(tso) => judge_start_time(Tso(tso), range, oldest, lost),
            Err(_) => {
                Finding::fail(format!("\"{text}\" is no TSO"), "write start_at.tso as a decimal number")
            }
        },
        StartAt::Time(text) => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => judge_start_time(Tso::from_physical_ms(time.timestamp_millis()), range, oldest, lost),
            Err(_) => Finding::fail(format!("\"{text}\" is no time"), "write start_at.time as RFC 3339"),
        },
    }
}

fn judge_start_time(
    start: Tso,
    range: Range,
    oldest: Option<Tso>,
    lost: impl Fn(String) -> Finding,
) -> Finding {
    let wanted = instant(start.physical_ms());
    match oldest {
        Some(oldest) if oldest.physical_ms() <= start.physical_ms() => Finding::pass(format!(
            "the topic reaches back to {}, before {wanted}",
            instant(oldest.physical_ms())
        )),
        // Nothing was ever deleted, so that nothing can be missing.
        _ if range.start.0 == 0 => {
            Finding::pass(format!("the topic still holds everything, before {wanted} too"))
        }
        Some(oldest) => lost(format!(
            "the topic reaches back only to {} (offset {}), the start is {wanted}",
            instant(oldest.physical_ms()),
            range.start
        )),
        None => lost(format!(
            "the topic holds nothing before offset {}: whether changes since {wanted} are missing cannot be told",
            range.start
        )),
    }
}

type Settings = HashMap<String, String>;

/// `covered`: commit time from the first to the last message.
fn retention(settings: &Settings, covered: Option<u64>) -> Finding {
    let number = |name: &str| settings.get(name).and_then(|text| text.parse::<i64>().ok());
    let limit = |name: &str| number(name).and_then(|value| u64::try_from(value).ok());
    let Some(_) = number("retention.ms") else {
        return Finding::skipped("the topic tells no retention.ms");
    };
    let covers = covered.map_or_else(String::new, |ms| format!("; it holds {} now", duration(ms)));
    let by_size = limit("retention.bytes").map(|size| format!(" or {}", bytes(size))).unwrap_or_default();
    let hint = "kafka-configs --alter --entity-type topics --entity-name <topic> --add-config retention.ms=604800000: messages \
                must outlive the full sync and every pause";
    match limit("retention.ms") {
        Some(ms) if ms < RETENTION_MS => {
            Finding::warn(format!("the topic keeps messages for {}{by_size}{covers}", duration(ms)), hint)
        }
        Some(ms) if !by_size.is_empty() => {
            Finding::note(format!("the topic keeps messages for {}{by_size}{covers}", duration(ms)), hint)
        }
        Some(ms) => Finding::pass(format!("the topic keeps messages for {}{covers}", duration(ms))),
        None if !by_size.is_empty() => {
            Finding::note(format!("the topic keeps{}{covers}", by_size.replace(" or", "")), hint)
        }
        None => Finding::pass(format!("the topic keeps messages for ever{covers}")),
    }
}

fn compaction(settings: &Settings, _covered: Option<u64>) -> Finding {
    match settings.get("cleanup.policy") {
        None => Finding::skipped("the topic tells no cleanup.policy"),
        Some(policy) if policy.contains("compact") => Finding::fail(
            format!(
                "cleanup.policy is {policy}: a compacted topic loses messages, and refuses those of Drainer, which have no key"
            ),
            "set cleanup.policy=delete on the topic; if messages were compacted away, start anew with a full sync",
        ),
        Some(policy) => Finding::pass(format!("cleanup.policy is {policy}")),
    }
}

fn message_size(settings: &Settings, _covered: Option<u64>) -> Finding {
    let Some(size) = settings.get("max.message.bytes").and_then(|text| text.parse::<u64>().ok()) else {
        return Finding::skipped("the topic tells no max.message.bytes");
    };
    let detail = format!("the topic takes messages of up to {}", bytes(size));
    if size >= LARGEST_MESSAGE {
        return Finding::pass(detail);
    }
    Finding::note(
        format!("{detail}; a larger transaction makes Drainer stop"),
        "a transaction is one message: set max.message.bytes of the topic, and replica.fetch.max.bytes of the brokers, to \
         1073741824",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;
    use crate::precheck::CheckOutcome::{Fail, Pass, Skipped, Warn};

    fn spec(start_at: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({
            "name": "t", "source": {"kafka": "k", "topic": "x"}, "target": "d", "objects": {"include": ["a.*"]},
            "phases": {"full": false, "schema": false}, "start_at": start_at,
        }))
        .unwrap()
    }

    fn range(start: i64, end: i64) -> Range {
        Range { start: Offset(start), end: Offset(end) }
    }

    #[test]
    fn more_or_fewer_than_one_partition_fails_with_the_counts() {
        assert_eq!(judge_partitions("t", &[range(0, 5)]).outcome, Pass);
        let item = judge_partitions("t", &[range(2, 5), range(0, 0)]).into_item("x", &[]);
        assert_eq!(item.outcome, Fail);
        assert_eq!(item.objects, ["partition 0 holds 3 messages", "partition 1 holds 0 messages"]);
    }

    #[test]
    fn the_start_must_be_in_the_topic() {
        let day = 86_400_000;
        let at = |ms: i64| Some(Tso::from_physical_ms(ms));
        let offset = |text: &str| spec(serde_json::json!({"offset": text}));
        let of = |spec: &Spec, range, oldest| judge_start(spec, range, oldest).outcome;
        assert_eq!(of(&spec(serde_json::json!("earliest")), range(5, 9), None), Pass);
        assert_eq!(of(&offset("4"), range(5, 9), None), Fail);
        assert_eq!(of(&offset("5"), range(5, 9), None), Pass);
        assert_eq!(of(&offset("9"), range(5, 9), None), Pass);
        assert_eq!(of(&offset("10"), range(5, 9), None), Fail);
        assert_eq!(of(&offset("x"), range(5, 9), None), Fail);
        let tso = spec(serde_json::json!({"tso": Tso::from_physical_ms(day).to_string()}));
        assert_eq!(of(&tso, range(5, 9), at(day)), Pass);
        assert_eq!(of(&tso, range(5, 9), at(day + 1)), Fail);
        assert_eq!(of(&tso, range(0, 9), at(day + 1)), Pass);
        assert_eq!(of(&tso, range(5, 5), None), Fail);
        let time = spec(serde_json::json!({"time": "1970-01-02T00:00:00Z"}));
        assert_eq!(of(&time, range(5, 9), at(day)), Pass);
        assert_eq!(of(&time, range(5, 9), at(day + 1)), Fail);
    }

    #[test]
    fn settings_are_judged() {
        let settings = |name: &str, value: &str| Settings::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(retention(&settings("retention.ms", "604800000"), Some(5)).outcome, Pass);
        assert_eq!(retention(&settings("retention.ms", "-1"), None).outcome, Pass);
        assert_eq!(retention(&settings("retention.ms", "3600000"), None).outcome, Warn);
        assert_eq!(retention(&Settings::new(), None).outcome, Skipped);
        assert_eq!(compaction(&settings("cleanup.policy", "compact,delete"), None).outcome, Fail);
        assert_eq!(compaction(&settings("cleanup.policy", "delete"), None).outcome, Pass);
        let small = message_size(&settings("max.message.bytes", "1048588"), None);
        assert!(small.outcome == Pass && small.hint.is_some());
    }
}

//! Tests of one connection, step by step; a step that fails makes the later ones be skipped.

use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::broker::{Broker, unreachable};
use super::finding::{Finding, bounded, counted};
use super::server::{Server, clock_words, login_failure};
use super::{CheckOutcome, source, stream, target};
use crate::error::{Endpoint, Result};
use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint};

/// Round trips that are timed; the middle one counts.
const ROUND_TRIPS: usize = 5;

/// Privileges without which a login is of no use, before any task says what it needs.
const OF_TARGET: [&str; 7] = ["SELECT", "INSERT", "DELETE", "CREATE", "ALTER", "DROP", "INDEX"];

/// One step of a connection test.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TestStep {
    /// `reach`, `log_in`, `version`, `privileges`, `clock`, `latency`; for Kafka `reach`, `log_in`, `brokers`, `topics`, `latency`.
    pub id: String,
    pub outcome: CheckOutcome,
    pub detail: String,
    pub hint: Option<String>,
    pub duration_ms: u64,
}

#[derive(Default)]
struct Steps {
    steps: Vec<TestStep>,
    failed: bool,
}

impl Steps {
    /// Runs a step unless an earlier one failed.
    async fn step(&mut self, id: &str, step: impl Future<Output = Finding>) {
        let started = Instant::now();
        let finding = if self.failed { Finding::skipped("an earlier step failed") } else { step.await };
        self.failed |= finding.outcome == CheckOutcome::Fail;
        self.steps.push(TestStep {
            id: id.to_owned(),
            outcome: finding.outcome,
            detail: finding.detail,
            hint: finding.hint,
            duration_ms: started.elapsed().as_millis() as u64,
        });
    }
}

/// Tests a TiDB (`dialect` None) or a target.
pub async fn test_mysql(endpoint: &MysqlEndpoint, side: Endpoint, dialect: Option<Dialect>) -> Vec<TestStep> {
    let mut server = Server::new(endpoint, side);
    let mut steps = Steps::default();
    let place = if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        server.place()
    };
    steps.step("reach", reach(&place)).await;
    steps.step("log_in", log_in(&mut server)).await;
    steps
        .step(
            "version",
            bounded(version(&mut server, dialect), |error| Finding::unreadable("the version", error)),
        )
        .await;
    let privileges =
        bounded(privileges(&mut server, dialect), |error| Finding::unreadable("the privileges", error));
    steps.step("privileges", privileges).await;
    steps.step("clock", bounded(clock(&mut server), |error| Finding::unreadable("the clock", error))).await;
    steps
        .step("latency", bounded(latency(&mut server), |error| Finding::unreadable("the round trip", error)))
        .await;
    server.close().await;
    steps.steps
}

async fn reach(place: &str) -> Finding {
    match unreachable([place]).await.into_iter().next() {
        None => Finding::pass(format!("{place} takes connections")),
        Some((_, cause)) => Finding::fail(
            format!("{place} cannot be reached: {cause}"),
            "check host and port, that the server runs, and that firewall and whitelist let this host in",
        ),
    }
}

async fn log_in(server: &mut Server) -> Finding {
    match server.connect().await {
        Ok(()) => Finding::pass(format!("logged in as {}", server.user())),
        Err(error) => login_failure(&error, server),
    }
}

async fn version(server: &mut Server, dialect: Option<Dialect>) -> Result<Finding> {
    match dialect {
        None => source::any_version(server).await,
        Some(dialect) => target::version(server, dialect).await,
    }
}

async fn privileges(server: &mut Server, dialect: Option<Dialect>) -> Result<Finding> {
    let wanted: &[&str] = if dialect.is_some() { &OF_TARGET } else { &["SELECT"] };
    let grants = server.grants().await?;
    if grants.is_empty() {
        return Ok(Finding::skipped("SHOW GRANTS gives nothing that is understood"));
    }
    let scopes = grants.scopes(wanted);
    let (wanted, user) = (wanted.join(", "), server.user());
    if scopes.is_empty() {
        return Ok(Finding::warn(
            format!("{user} has {wanted} together on no schema"),
            "grant them on the schemas of your tasks; the precheck of a task names what is missing",
        ));
    }
    Ok(Finding::pass(format!("{user} has {wanted} on {}", scopes.join(", "))))
}

async fn clock(server: &mut Server) -> Result<Finding> {
    Ok(match server.clock().await? {
        Some((ahead, round_trip)) => Finding::pass(clock_words(ahead, round_trip)),
        None => Finding::skipped("the server does not tell its time"),
    })
}

async fn latency(server: &mut Server) -> Result<Finding> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        server.value("SELECT 1").await?;
        times.push(started.elapsed());
    }
    Ok(Finding::pass(format!("a round trip takes {}", middle(times))))
}

fn middle(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("{:.1} ms", middle.as_secs_f64() * 1000.0)
}

/// Tests a Kafka cluster; no topic is needed.
pub async fn test_kafka(endpoint: &KafkaEndpoint) -> Vec<TestStep> {
    let mut steps = Steps::default();
    let words = || async {
        match stream::reach(endpoint).await {
            Ok(()) => Finding::pass(format!("{} takes connections", endpoint.brokers.join(", "))),
            Err(finding) => finding,
        }
    };
    steps.step("reach", words()).await;
    let mut broker = None;
    let mut places = Vec::new();
    let mut topics = Vec::new();
    let log_in = async {
        match Broker::new(endpoint) {
            Err(error) => Finding::fail(error.to_string(), error.hint.unwrap_or_default()),
            Ok(client) => {
                let finding = match client.topics(None).await {
                    Ok(answer) => {
                        (topics, places) = answer;
                        Finding::pass(stream::login_words(endpoint))
                    }
                    Err(error) => stream::no_metadata(&error, endpoint),
                };
                broker = Some(client);
                finding
            }
        }
    };
    steps.step("log_in", log_in).await;
    steps.step("brokers", stream::announced(&places, None)).await;
    let visible = async {
        let own: Vec<&str> =
            topics.iter().map(|topic| topic.name.as_str()).filter(|name| !name.starts_with("__")).collect();
        if own.is_empty() {
            Finding::note(
                "no topic is to be seen",
                "there is none yet, or this user lacks DESCRIBE and READ on it (kafka-acls)",
            )
        } else {
            Finding::pass(format!("{} to be seen", counted(own.len() as u64, "topic")))
        }
    };
    steps.step("topics", visible).await;
    let round_trips = async {
        let Some(broker) = &broker else { return Finding::skipped("no login") };
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let started = Instant::now();
            if let Err(error) = broker.topics(None).await {
                return Finding::unreadable("the round trip", &error);
            }
            times.push(started.elapsed());
        }
        Finding::pass(format!("an answer takes {}", middle(times)))
    };
    steps.step("latency", round_trips).await;
    if let Some(broker) = broker {
        broker.close().await;
    }
    steps.steps
}

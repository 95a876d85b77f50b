//! Placeholder of the control branch: the types are those of the precheck branch, whose file replaces this one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint};
use crate::task::spec::Spec;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Pass,
    Warn,
    Fail,
    Skipped,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PrecheckItem {
    pub id: String,
    pub outcome: CheckOutcome,
    pub objects: Vec<String>,
    pub object_count: u64,
    pub detail: String,
    pub hint: Option<String>,
    pub waivable: bool,
    pub waived: bool,
}

pub struct PrecheckInput {
    pub spec: Arc<Spec>,
    pub source: Option<MysqlEndpoint>,
    pub kafka: Option<KafkaEndpoint>,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TestStep {
    pub id: String,
    pub outcome: CheckOutcome,
    pub detail: String,
    pub hint: Option<String>,
    pub duration_ms: u64,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CatalogTable {
    pub schema: String,
    pub table: String,
    pub kind: String,
    pub rows_estimated: Option<u64>,
    pub data_bytes: Option<u64>,
    pub primary_key: Vec<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CatalogTopic {
    pub topic: String,
    pub partitions: u32,
    pub start_offset: Option<String>,
    pub end_offset: Option<String>,
    pub retention_ms: Option<i64>,
    pub first_message: Option<String>,
    pub last_message: Option<String>,
}

async fn reach(host: &str, port: u16) -> TestStep {
    let start = Instant::now();
    let connect = tokio::net::TcpStream::connect((host, port));
    let failure = match tokio::time::timeout(Duration::from_secs(5), connect).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("{host}:{port}: {error}")),
        Err(_) => Some(format!("{host}:{port}: no answer within 5 s")),
    };
    TestStep {
        id: "reach".to_owned(),
        outcome: if failure.is_some() { CheckOutcome::Fail } else { CheckOutcome::Pass },
        hint: failure.is_some().then(|| "check host, port and firewall".to_owned()),
        detail: failure.unwrap_or_else(|| format!("{host}:{port} accepts connections")),
        duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

pub async fn run(input: PrecheckInput) -> Vec<PrecheckItem> {
    let step = reach(&input.target.host, input.target.port).await;
    vec![PrecheckItem {
        id: "target.reach".to_owned(),
        outcome: step.outcome,
        objects: Vec::new(),
        object_count: 0,
        detail: step.detail,
        hint: step.hint,
        waivable: false,
        waived: false,
    }]
}

pub async fn test_mysql(endpoint: &MysqlEndpoint, _: Endpoint, _: Option<Dialect>) -> Vec<TestStep> {
    vec![reach(&endpoint.host, endpoint.port).await]
}

pub async fn test_kafka(endpoint: &KafkaEndpoint) -> Vec<TestStep> {
    let first = endpoint.brokers.first().and_then(|broker| broker.rsplit_once(':'));
    let (host, port) = first.unwrap_or_default();
    vec![reach(host, port.parse().unwrap_or_default()).await]
}

pub async fn catalog_mysql(
    endpoint: &MysqlEndpoint,
    side: Endpoint,
    _: Option<&str>,
) -> Result<Vec<CatalogTable>> {
    let step = reach(&endpoint.host, endpoint.port).await;
    Err(Error::new(ErrorKind::Unreachable, step.detail).endpoint(side))
}

pub async fn catalog_kafka(endpoint: &KafkaEndpoint, _: Option<&str>) -> Result<Vec<CatalogTopic>> {
    let steps = test_kafka(endpoint).await;
    let detail = steps.into_iter().next().map(|step| step.detail).unwrap_or_default();
    Err(Error::new(ErrorKind::Unreachable, detail).endpoint(Endpoint::Kafka))
}

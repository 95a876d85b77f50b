//! What a connection holds: tables with their sizes and keys, topics with their range and, for one topic, its first and last
//! message in words.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::broker::{Broker, Record, Topic};
use super::server::Server;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{KafkaEndpoint, MysqlEndpoint, TableName};
use crate::sql::literal;
use crate::task::pattern::is_system_schema;

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CatalogTable {
    pub schema: String,
    pub table: String,
    /// `table`, `view`, `sequence`, or what else the server says, in lower case.
    pub kind: String,
    /// As the server's statistics have it.
    pub rows_estimated: Option<u64>,
    pub data_bytes: Option<u64>,
    /// In the order of the key.
    pub primary_key: Vec<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CatalogTopic {
    pub topic: String,
    pub partitions: u32,
    /// First offset of partition 0.
    pub start_offset: Option<String>,
    /// Offset of the next message in partition 0.
    pub end_offset: Option<String>,
    /// null = for ever, or not to be seen.
    pub retention_ms: Option<i64>,
    /// In words: kind, tables, commit time; never values. Read only when the topic was asked for by name.
    pub first_message: Option<String>,
    pub last_message: Option<String>,
}

/// Tables and views by name, those of the server itself left out; of one schema when it is given.
///
/// # Errors
/// A login that failed, an unanswered query; `Missing` for a schema that is not there.
pub async fn catalog_mysql(
    endpoint: &MysqlEndpoint,
    side: Endpoint,
    schema: Option<&str>,
) -> Result<Vec<CatalogTable>> {
    let mut server = Server::new(endpoint, side);
    let of_schema =
        schema.map_or_else(String::new, |schema| format!(" AND TABLE_SCHEMA = {}", literal::string(schema)));
    let rows = server
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
             WHERE 1 = 1{of_schema} ORDER BY TABLE_SCHEMA, TABLE_NAME"
        ))
        .await?;
    let keys = server
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE INDEX_NAME = 'PRIMARY'{of_schema} ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX"
        ))
        .await;
    // AnalyticDB may show no such view; a dead connection is an error all the same.
    let keys = match keys {
        Err(error) if error.kind == ErrorKind::Unreachable => return Err(error),
        keys => keys.unwrap_or_default(),
    };
    let mut primary_keys: HashMap<TableName, Vec<String>> = HashMap::new();
    for row in keys {
        primary_keys.entry(TableName::new(row.string(0), row.string(1))).or_default().extend(row.text(2));
    }
    let tables: Vec<CatalogTable> = rows
        .iter()
        .map(|row| (TableName::new(row.string(0), row.string(1)), row))
        .filter(|(name, _)| !is_system_schema(&name.schema))
        .map(|(name, row)| CatalogTable {
            kind: match row.string(2).to_uppercase().as_str() {
                "BASE TABLE" | "TABLE" => "table".to_owned(),
                other => other.to_lowercase(),
            },
            rows_estimated: row.number(3),
            data_bytes: row.number(4),
            primary_key: primary_keys.remove(&name).unwrap_or_default(),
            schema: name.schema,
            table: name.table,
        })
        .collect();
    if let Some(schema) = schema.filter(|_| tables.is_empty()) {
        // information_schema.SCHEMATA of TiDB leaves out schemas in which a login has privileges on tables alone.
        let known = server.rows("SHOW DATABASES").await?;
        if !known.iter().any(|row| row.string(0).eq_ignore_ascii_case(schema)) {
            return Err(Error::new(
                ErrorKind::Missing,
                "there is no such schema, or this login may not see it",
            )
            .endpoint(side)
            .object(schema));
        }
    }
    server.close().await;
    Ok(tables)
}

/// All topics but Kafka's own, or one with its first and last message.
///
/// # Errors
/// A login that failed, an unanswered question; `Missing` for a topic that is not there.
pub async fn catalog_kafka(endpoint: &KafkaEndpoint, topic: Option<&str>) -> Result<Vec<CatalogTopic>> {
    let broker = Broker::new(endpoint)?;
    let answer = read_topics(&broker, topic).await;
    broker.close().await;
    answer
}

async fn read_topics(broker: &Broker, wanted: Option<&str>) -> Result<Vec<CatalogTopic>> {
    let (mut topics, _) = broker.topics(wanted).await?;
    topics.retain(|topic| match wanted {
        Some(wanted) => topic.name == wanted,
        None => !topic.name.starts_with("__"),
    });
    topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(wanted) = wanted.filter(|_| topics.is_empty()) {
        return Err(Error::new(ErrorKind::Missing, "there is no such topic, or this user may not see it")
            .endpoint(Endpoint::Kafka)
            .object(format!("topic {wanted}")));
    }
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    // Good to know: a user without DESCRIBE_CONFIGS sees the rest.
    let settings =
        if names.is_empty() { HashMap::new() } else { broker.settings(&names).await.unwrap_or_default() };
    let mut catalog = Vec::with_capacity(topics.len());
    for topic in &topics {
        let retention = settings.get(&topic.name).and_then(|of_topic| of_topic.get("retention.ms"));
        let retention_ms = retention.and_then(|text| text.parse().ok()).filter(|ms: &i64| *ms >= 0);
        catalog.push(read_topic(broker, topic, retention_ms, wanted.is_some()).await);
    }
    Ok(catalog)
}

async fn read_topic(
    broker: &Broker,
    topic: &Topic,
    retention_ms: Option<i64>,
    messages: bool,
) -> CatalogTopic {
    let range = broker.range(&topic.name, 0).await.ok();
    let (mut first, mut last) = (None, None);
    if let Some(range) = range.filter(|_| messages) {
        first = words(broker.first(&topic.name, range).await);
        last = words(broker.last(&topic.name, range).await);
    }
    CatalogTopic {
        topic: topic.name.clone(),
        partitions: topic.partitions,
        start_offset: range.map(|range| range.start.to_string()),
        end_offset: range.map(|range| range.end.to_string()),
        retention_ms,
        first_message: first,
        last_message: last,
    }
}

fn words(record: Result<Option<Record>>) -> Option<String> {
    match record {
        Ok(None) => None,
        Ok(Some(record)) => Some(match record.content {
            Ok(summary) => format!("offset {}: {summary}", record.offset),
            Err(reason) => format!("offset {}: not a message of Drainer: {reason}", record.offset),
        }),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

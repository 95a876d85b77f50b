//! One transaction of a million rows: applied to the last row, within 1.5 times the message and 128 MiB. TIDEGATE_GIANT makes the message about so many
//! MiB large (100); 1034 is the most that Kafka takes, and wants KAFKA_HEAP=8g.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::json;
use support::server::Server;
use support::sql;
use support::stack::Stack;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::model::Value;

const ROWS: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(600);

/// Puts messages into the topic as Drainer does, each after the one before it is there; gives the size of the largest.
fn produce(stack: &Stack, topic: &str, messages: &[Binlog]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut largest = 0;
    for message in messages {
        let payload = message.encode_to_vec();
        largest = largest.max(payload.len());
        std::fs::write(path, &payload).unwrap();
        // A broker that has no memory for a large one just now says so.
        let taken = (0..10).any(|_| match stack.try_produce(topic, &["-raw-file", path]) {
            Ok(_) => true,
            Err(error) => {
                eprintln!("a message of {} bytes was not taken: {error}", payload.len());
                std::thread::sleep(Duration::from_secs(2));
                false
            }
        });
        assert!(taken, "the broker takes no message of {} bytes", payload.len());
    }
    largest
}

/// Most memory that the process has had, in bytes.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A TSO of 2024.
const FIRST: u64 = 446_700_000_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_a_million_rows_fits_into_bounded_memory() {
    let Some(stack) = Stack::utc("a_transaction_of_a_million_rows_fits_into_bounded_memory") else { return };
    let schema = "giant";
    sql::drop_schemas(&stack, &[schema]).await;
    let topic = format!("giant_{}", std::process::id());
    stack.create_topic(&topic, 1);
    let mib: usize = std::env::var("TIDEGATE_GIANT").map_or(100, |mib| mib.parse().unwrap());
    let filler = "x".repeat(((mib << 20) / ROWS as usize).saturating_sub(100));
    let mut rows = Table::new(schema, "t", &[("id", "bigint"), ("v", "varchar")], &["id"]);
    for id in 0..ROWS {
        let text = format!("the row with the number {id} of a transaction that is far too large{filler}");
        rows = rows.insert(&[Value::Int(id), Value::Text(text.as_bytes())]);
    }
    let messages = [
        Binlog::ddl(FIRST, schema, "", &format!("CREATE DATABASE {schema}")),
        Binlog::ddl(
            FIRST + 1,
            schema,
            "t",
            &format!("CREATE TABLE {schema}.t (id BIGINT PRIMARY KEY, v VARCHAR(2000))"),
        ),
        Binlog::dml(FIRST + 2, vec![rows]),
    ];
    let bytes = produce(&stack, &topic, &messages) as u64;
    drop(messages);
    let server = Server::start().await;
    server.api.connect(&stack).await;
    server
        .api
        .create_task(&json!({
            "name": "task",
            "source": {"kafka": "kafka", "topic": topic},
            "target": "target",
            "phases": {"schema": false, "full": false, "incremental": true},
            "start_at": {"offset": "0"},
            "objects": {"include": [format!("{schema}.*")]},
        }))
        .await;
    server.api.start("task").await;
    server.api.wait_for_offset("task", 3, PATIENCE).await;
    let most = most_memory(server.pid());
    let mib = |bytes: u64| bytes >> 20;
    eprintln!("a message of {} MiB with {ROWS} rows took {} MiB", mib(bytes), mib(most));
    assert!(most <= bytes * 3 / 2 + (128 << 20), "{} MiB for a message of {} MiB", mib(most), mib(bytes));
    let mut target = sql::target(&stack).await;
    let found: (i64, i64) =
        target.query_first(format!("SELECT COUNT(*), SUM(id) FROM {schema}.t")).await.unwrap().unwrap();
    assert_eq!(found, (ROWS, ROWS * (ROWS - 1) / 2));
    sql::drop_schemas(&stack, &[schema]).await;
}

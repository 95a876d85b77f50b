//! Messages that no Drainer writes, in the topic of a task that runs: it goes on behind them or stops at them with their place and a cause, at
//! once, and the server has not panicked. Seeded by TIDEGATE_SEED; `make fuzz` reads more of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value as Json, json};
use support::bend::bend;
use support::server::Server;
use support::sql;
use support::stack::Stack;
use support::workload;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::model::Value;

const PATIENCE: Duration = Duration::from_secs(120);
/// A TSO of 2024.
const FIRST: u64 = 446_700_000_000_000_000;
/// Where the bent message is, between good ones.
const PLACE: u64 = 2;

fn row(schema: &str, id: i64, text: &[u8]) -> Table {
    let table = Table::new(schema, "things", &[("id", "bigint"), ("value", "varchar")], &["id"]);
    table.insert(&[Value::Int(id), Value::Text(text)])
}

/// The same bytes with one name in them spoilt.
fn spoilt(message: &Binlog, name: &str) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    let at = bytes.windows(name.len()).rposition(|window| window == name.as_bytes()).unwrap();
    bytes[at + 1] = 0xff;
    bytes
}

/// Name, payload, and the kind of the error at which the task stops (empty: it goes on; None: either).
type Case = (String, Vec<u8>, Option<&'static str>);

fn cases(schema: &str, rng: &mut StdRng) -> Vec<Case> {
    let commit_ts = FIRST + PLACE;
    let dml = |text: &[u8]| Binlog::dml(commit_ts, vec![row(schema, 2, text)]);
    let ddl = |schema: &str, text: &str| Binlog::ddl(commit_ts, schema, "deep", text).encode_to_vec();
    let deep = |schema: &str| {
        let expression = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
        format!("CREATE TABLE {schema}.deep (id INT PRIMARY KEY, v INT AS ({expression}))")
    };
    let columns = (0..5_000).map(|n| format!(", `c{n}` VARCHAR(20) DEFAULT '{}'", "x".repeat(20)));
    let wide = format!("CREATE TABLE {schema}.deep (id INT PRIMARY KEY{})", columns.collect::<String>());
    let comment = spoilt(
        &Binlog::ddl(
            commit_ts,
            schema,
            "deep",
            &format!("CREATE TABLE {schema}.deep (id INT PRIMARY KEY) COMMENT 'comment'"),
        ),
        "comment",
    );
    let mut cases: Vec<Case> = vec![
        ("a schema's name that is not UTF-8".into(), spoilt(&dml(b"two"), schema), Some("corrupt_message")),
        ("a table's name".into(), spoilt(&dml(b"two"), "things"), Some("corrupt_message")),
        // Its DDL may come yet, and is waited for as long as the task's clock says.
        ("a column's name".into(), spoilt(&dml(b"two"), "value"), Some("contention")),
        ("a comment of a DDL".into(), comment, Some("statement_refused")),
        ("a value".into(), dml(b"two \xff\xfe").encode_to_vec(), Some("value_refused")),
        ("nothing".into(), Vec::new(), Some("corrupt_message")),
        ("text".into(), b"hello, is this the topic of the orders?".to_vec(), Some("corrupt_message")),
        ("a deep DDL".into(), ddl(schema, &deep(schema)), Some("statement_refused")),
        ("a deep DDL of another schema".into(), ddl("bent_others", &deep("bent_others")), Some("")),
        ("a wide DDL".into(), ddl(schema, &wide), None),
        ("a DDL of a megabyte".into(), ddl(schema, &"x".repeat(1 << 20)), Some("statement_refused")),
    ];
    let whole = dml(b"two").encode_to_vec();
    for n in 0..16 {
        let mut bytes = whole.clone();
        bend(&mut bytes, rng, &[]);
        cases.push((format!("bent {n}"), bytes, None));
    }
    for n in 0..4 {
        let end = rng.random_range(1..whole.len());
        cases.push((format!("cut {n}"), whole[..end].to_vec(), None));
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_drainer_writes_stops_one_task_with_its_place_or_nothing() {
    let Some(stack) =
        Stack::on_mysql_alone("what_no_drainer_writes_stops_one_task_with_its_place_or_nothing")
    else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(workload::seed("e2e_bent"));
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &stack.kafka)
        .set("message.max.bytes", "10000000")
        .create()
        .unwrap();
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let schemas: Vec<String> =
        (0..cases("bent_0", &mut StdRng::seed_from_u64(0)).len()).map(|n| format!("bent_{n}")).collect();
    let names: Vec<&str> = schemas.iter().map(String::as_str).collect();
    sql::drop_schemas(&stack, &names).await;
    let mut target = sql::target(&stack).await;
    let mut tried = Vec::new();
    for (n, schema) in schemas.iter().enumerate() {
        let (case, bent, expected) = cases(schema, &mut rng).swap_remove(n);
        target.query_drop(format!("CREATE DATABASE {schema}")).await.unwrap();
        let topic = format!("{schema}_{}", std::process::id());
        stack.create_topic(&topic, 1);
        let definition = format!("CREATE TABLE {schema}.things (id BIGINT PRIMARY KEY, value VARCHAR(100))");
        let payloads = [
            Binlog::ddl(FIRST, schema, "things", &definition).encode_to_vec(),
            Binlog::dml(FIRST + 1, vec![row(schema, 1, b"one")]).encode_to_vec(),
            bent,
            Binlog::dml(FIRST + 3, vec![row(schema, 3, b"three")]).encode_to_vec(),
        ];
        for payload in &payloads {
            let record = FutureRecord::<(), [u8]>::to(&topic).partition(0).payload(payload);
            producer.send(record, PATIENCE).await.unwrap();
        }
        let name = schema.replace('_', "-");
        let spec = json!({
            "name": name,
            "source": {"kafka": "kafka", "topic": topic},
            "target": "target",
            "phases": {"schema": false, "full": false, "incremental": true},
            "start_at": {"offset": "0"},
            "objects": {"include": [format!("{schema}.*")]},
            "errors": {"other_retry_ms": 0},
        });
        api.create_task(&spec).await;
        api.start(&name).await;
        tried.push((schema, name, case, expected));
    }
    for (schema, name, case, expected) in tried {
        let is_through = |task: &Json| {
            task["status"] == "failed"
                || task["checkpoint"]["next_offset"].as_str() == Some(&(PLACE + 2).to_string())
        };
        let task = api.wait_for(&name, "through or failed", PATIENCE, is_through).await;
        let stopped = task["status"] == "failed";
        let kind = if stopped { task["last_error"]["kind"].as_str().unwrap() } else { "" };
        assert!(expected.is_none_or(|expected| expected == kind), "{case}: {kind:?} {task:#}");
        let ids: Vec<i64> =
            target.query(format!("SELECT id FROM {schema}.things ORDER BY id")).await.unwrap();
        if stopped {
            // With its place and a cause, and nothing of what is behind it.
            let error = &task["last_error"];
            let known = [
                "corrupt_message",
                "contention",
                "schema_mismatch",
                "value_refused",
                "statement_refused",
                "missing",
                // A bent commit timestamp makes rows late.
                "position_lost",
            ];
            assert!(known.contains(&kind), "{case}: {task:#}");
            let text = error.to_string();
            assert!(text.contains(&format!("offset {PLACE}")), "{case}: {error:#}");
            assert!(text.len() < 14_000, "{case}: {} bytes", text.len());
            assert!(!ids.contains(&3), "{case}: {ids:?}");
        } else {
            assert!(ids.contains(&1) && ids.contains(&3), "{case}: {ids:?}");
        }
    }
    assert!(!server.log().contains("panicked"), "the server panicked");
    sql::drop_schemas(&stack, &names).await;
}

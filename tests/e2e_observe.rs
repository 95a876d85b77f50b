//! What a person sees of a task that really runs: watermark, messages, series, logs, diagnosis; and the verbs that look.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};
use support::api::spec;
use support::server::Server;
use support::sql;
use support::stack::Stack;

const LONG: Duration = Duration::from_secs(120);

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn until(server: &Server, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        let found = server.api.get(path).await;
        if wanted(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{path} never became so: {found:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_can_be_looked_into() {
    let Some(stack) = Stack::utc("a_running_task_can_be_looked_into") else { return };
    sql::drop_schemas(&stack, &["seen_by", "seen_by_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE seen_by",
            "CREATE TABLE seen_by.orders (id INT PRIMARY KEY, word VARCHAR(20))",
            "INSERT INTO seen_by.orders VALUES (1, 'before')",
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let more = json!({"objects": {"schemas": {"seen_by": {"target": "seen_by_copy"}}}});
    server.api.create_task(&spec("seen", &stack, &["seen_by.*"], &more)).await;
    server.api.start("seen").await;
    server.api.wait_for("seen", "incremental", LONG, |task| task["phase"] == "incremental").await;

    // After a write: once the watermark is there, so is the row.
    for n in 2..5 {
        sql::run(&mut source, &[&format!("INSERT INTO seen_by.orders VALUES ({n}, 'secret-word')")]).await;
        let mut reached = Value::Null;
        while reached["reached"] != true {
            reached = server.api.get("/tasks/seen/watermark?at_least=now&wait_ms=60000").await;
            assert_eq!(reached["task_status"], "running", "{reached}");
        }
        let found: Option<i32> =
            target.query_first(format!("SELECT id FROM seen_by_copy.orders WHERE id = {n}")).await.unwrap();
        assert_eq!(found, Some(n), "{reached}");
    }

    // The message of the last write, in words; with values only when they are asked for.
    let mut end = stack.end_offset(&stack.topic).await;
    let next = server.api.get("/tasks/seen").await["checkpoint"]["next_offset"].as_str().unwrap().to_owned();
    let mut looks = 0;
    while server.api.get(&format!("/tasks/seen/messages?offset={end}")).await["offset"] != Value::Null {
        looks += 1;
        assert!(looks < 100, "there is always a message behind the end");
        end = stack.end_offset(&stack.topic).await;
    }
    let mut ours = None;
    for offset in (0..end).rev() {
        let message = server.api.get(&format!("/tasks/seen/messages?offset={offset}")).await;
        assert_eq!(message["malformed"], Value::Null, "{message}");
        if message["text"].as_str().unwrap().contains("seen_by.orders: 1 inserts") {
            ours = Some((offset, message));
            break;
        }
    }
    let (offset, message) = ours.expect("the message of the insert");
    assert_eq!(message["content"]["tables"][0]["inserts"], 1);
    assert!(message["commit_time"].is_string());
    assert!(!message.to_string().contains("secret-word"), "{message}");
    let values = server.api.get(&format!("/tasks/seen/messages?offset={offset}&values=true")).await;
    assert!(values.to_string().contains("secret-word"), "{values}");
    server.api.get(&format!("/tasks/seen/messages?offset={next}")).await;
    let beyond =
        server.api.send(Method::GET, &format!("/tasks/seen/messages?offset={}", end + 1000), None).await;
    assert_eq!((beyond.status.as_u16(), &beyond.body["code"]), (404, &json!("not-found")));

    // Figures come by themselves, every ten seconds.
    let series = until(
        &server,
        "/tasks/seen/series?names=lag_ms,running,transactions_per_second,messages_behind",
        |found| {
            found["series"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["values"].as_array().unwrap().iter().any(|value| !value.is_null()))
        },
    )
    .await;
    assert_eq!(series["step_ms"], 10_000);
    let diagnosis = until(&server, "/tasks/seen/diagnosis", |found| found["catch_up"]["eta_ms"] == 0).await;
    assert!(diagnosis["evidence"].as_array().unwrap().len() > 3, "{diagnosis}");
    let logs = server.api.get("/tasks/seen/logs?order=oldest").await;
    let lines = logs["items"].as_array().unwrap();
    assert_eq!(lines[0]["message"], "task created");
    assert!(lines.iter().any(|line| line["message"] == "table copied"), "{logs}");
    assert!(!logs.to_string().contains("secret-word"));
    let metrics = server.api.text("/metrics").await;
    for name in [
        "tidegate_task_lag_seconds",
        "tidegate_task_checkpoint_age_seconds",
        "tidegate_task_busy_seconds_total",
        "tidegate_task_batches_total",
        "tidegate_task_messages_spare",
    ] {
        assert!(metrics.contains(&format!("{name}{{task=\"seen\"")), "{name}: {metrics}");
    }
    // The same message by the verb, and the last ones of the topic.
    let one = tidegate(&[
        "decode",
        "--brokers",
        &stack.kafka,
        "--topic",
        &stack.topic,
        "--offset",
        &offset.to_string(),
        "--values",
    ]);
    assert!(one.status.success(), "{}", said(&one));
    assert!(said(&one).starts_with(&format!("offset {offset}: commit_ts ")), "{}", said(&one));
    assert!(said(&one).contains("secret-word"), "{}", said(&one));
    let tso = message["commit_tso"].as_str().unwrap().parse::<u64>().unwrap() - 1;
    let by_tso = tidegate(&[
        "decode",
        "--brokers",
        &stack.kafka,
        "--topic",
        &stack.topic,
        "--tso",
        &tso.to_string(),
        "--json",
    ]);
    let found: Value = serde_json::from_slice(&by_tso.stdout).unwrap_or_else(|_| panic!("{}", said(&by_tso)));
    assert_eq!(found["commit_ts"], message["commit_tso"]);
    let some = tidegate(&["decode", "--brokers", &stack.kafka, "--topic", &stack.topic, "--count", "3"]);
    assert_eq!(said(&some).lines().filter(|line| line.starts_with("offset ")).count(), 3, "{}", said(&some));
    let none = tidegate(&["decode", "--brokers", &stack.kafka, "--topic", "no-such-topic"]);
    assert!(!none.status.success() && said(&none).contains("no-such-topic"), "{}", said(&none));

    // A data folder in use, and a connection as it would be written.
    let folder = server.data_folder();
    let data = tidegate(&["check", "data", "--data-dir", folder.to_str().unwrap()]);
    assert!(data.status.success(), "{}", said(&data));
    for line in ["pass  store", "pass  version", "pass  key", "pass  tasks: 1 running"] {
        assert!(said(&data).contains(line), "{}", said(&data));
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, body: Value| {
        let path = scratch.path().join(name);
        std::fs::write(&path, body.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("kafka.json", json!({"kind": "kafka", "brokers": [stack.kafka]}));
    let good = tidegate(&["check", "connection", &good]);
    assert!(good.status.success() && said(&good).contains("pass  log_in"), "{}", said(&good));
    let bad = file("away.json", json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "root"}));
    let bad = tidegate(&["check", "connection", &bad]);
    assert!(!bad.status.success() && said(&bad).contains("FAIL  reach"), "{}", said(&bad));
    sql::drop_schemas(&stack, &["seen_by", "seen_by_copy"]).await;
}

/// A table of the target that somebody changes is told, and no more once it is put right; the task runs on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_table_of_the_target_is_told_until_it_is_put_right() {
    let Some(stack) = Stack::on_mysql_alone("a_changed_table_of_the_target_is_told_until_it_is_put_right")
    else {
        return;
    };
    sql::drop_schemas(&stack, &["drifts", "drifts_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE drifts",
            "CREATE TABLE drifts.orders (id INT PRIMARY KEY, word VARCHAR(20), note VARCHAR(20))",
            "CREATE TABLE drifts.things (id INT PRIMARY KEY)",
        ],
    )
    .await;
    let server = Server::start_with(&[("TIDEGATE_DRIFT_MS".to_owned(), "100".to_owned())]).await;
    server.api.connect(&stack).await;
    let more = json!({"objects": {"schemas": {"drifts": {"target": "drifts_copy"}}}});
    server.api.create_task(&spec("drifts", &stack, &["drifts.*"], &more)).await;
    server.api.start("drifts").await;
    server.api.wait_for("drifts", "incremental", LONG, |task| task["phase"] == "incremental").await;
    let told = |task: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = task["conditions"].as_array().unwrap().iter();
        let drifted = conditions.filter(|condition| condition["type"] == "schema_drift");
        drifted.map(|condition| (text(&condition["object"]), text(&condition["detail"]))).collect()
    };
    for (change, table, word, cure) in [
        (
            "ALTER TABLE drifts_copy.orders DROP COLUMN note",
            "drifts_copy.orders",
            "note",
            "ALTER TABLE drifts_copy.orders ADD COLUMN note VARCHAR(20)",
        ),
        (
            "RENAME TABLE drifts_copy.things TO drifts_copy.away",
            "drifts_copy.things",
            "no longer",
            "RENAME TABLE drifts_copy.away TO drifts_copy.things",
        ),
    ] {
        sql::run(&mut target, &[change]).await;
        let task = server.api.wait_for("drifts", "drifted", LONG, |task| !told(task).is_empty()).await;
        let found = told(&task);
        let [(object, detail)] = &found[..] else { panic!("one difference: {found:?}") };
        assert!(object.starts_with(table) && format!("{object} {detail}").contains(word), "{found:?}");
        assert_eq!((&task["status"], &task["health"]), (&json!("running"), &json!("degraded")));
        sql::run(&mut target, &[cure]).await;
        server.api.wait_for("drifts", "put right", LONG, |task| told(task).is_empty()).await;
    }
    // A DDL of the stream is no drift: the target's table follows it.
    sql::run(
        &mut source,
        &[
            "ALTER TABLE drifts.orders ADD COLUMN more INT",
            "INSERT INTO drifts.orders VALUES (1, 'a', 'b', 2)",
        ],
    )
    .await;
    let task = server.api.wait_caught_up("drifts", &stack, LONG).await;
    assert_eq!(told(&task), []);
    sql::drop_schemas(&stack, &["drifts", "drifts_copy"]).await;
}

#[test]
fn specs_and_folders_are_judged_without_a_server() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, body: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, body).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file(
        "good.json",
        r#"{"name": "a", "source": {"tidb": "t", "kafka": "k", "topic": "x"}, "target": "w", "objects": {"include": ["shop.*"]}}"#,
    );
    let good = tidegate(&["check", "spec", &good]);
    assert!(good.status.success(), "{}", said(&good));
    assert_eq!(said(&good), "pass  a: the spec is sound\n");
    let bad = file(
        "bad.json",
        r#"{"name": "A", "source": {"tidb": "t", "topics": "x"}, "target": "w", "objects": {"include": ["shop"]}}"#,
    );
    let bad = tidegate(&["check", "spec", &bad]);
    assert_eq!(bad.status.code(), Some(1));
    for place in ["FAIL  /name: ", "FAIL  /source/topics: ", "FAIL  /objects/include/0: "] {
        assert!(said(&bad).contains(place), "{}", said(&bad));
    }
    let no_json = tidegate(&["check", "spec", &file("x", "{")]);
    assert!(!no_json.status.success() && said(&no_json).contains("is not JSON"), "{}", said(&no_json));
    let nothing = tidegate(&["check", "data", "--data-dir", scratch.path().to_str().unwrap()]);
    assert!(!nothing.status.success() && said(&nothing).contains("FAIL  store"), "{}", said(&nothing));
    assert!(!scratch.path().join("tidegate.db").exists(), "a look makes nothing");
    for verb in [&["decode", "--help"][..], &["check", "--help"], &["check", "data", "--help"]] {
        let help = tidegate(verb);
        assert!(help.status.success() && said(&help).len() > 300, "{}", said(&help));
    }
}

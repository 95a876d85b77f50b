//! Gaps in the stream: what the topic lost, or never got, stops the task or is told; it is never passed over.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use support::api;
use support::history::History;
use support::server::Server;
use support::sql;
use support::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(120);

/// What they do to the stack's own topic and Drainer is no business of the others.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn admin(stack: &Stack) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &stack.kafka).create().unwrap()
}

/// As retention does.
async fn delete_before(stack: &Stack, topic: &str, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    admin(stack).delete_records(&list, &AdminOptions::new()).await.unwrap();
}

async fn make_again(stack: &Stack, topic: &str) {
    let admin = admin(stack);
    admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap();
        if made[0].is_ok() {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{made:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Messages of a captured history: so many after so many.
fn produce(stack: &Stack, topic: &str, skip: u32, count: u32) -> i64 {
    let file = History::open("A/UTC").messages();
    let (skip, count) = (skip.to_string(), count.to_string());
    let arguments = ["-file", file.to_str().unwrap(), "-skip", &skip, "-count", &count];
    stack.produce(topic, &arguments).last_offset + 1
}

/// A task that follows a topic of its own.
async fn follow(stack: &Stack, topic: &str, schema: &str) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    server
        .api
        .create_task(&json!({
            "name": "task",
            "source": {"kafka": "kafka", "topic": topic},
            "target": "target",
            "phases": {"schema": false, "full": false, "incremental": true},
            "start_at": {"offset": "0"},
            "objects": {"include": ["a_types.num"], "schemas": {"a_types": {"target": schema}}},
        }))
        .await;
    server.api.start("task").await;
    server
}

async fn lost(server: &Server, words: &[&str]) -> Value {
    let task = server.api.wait_for_status("task", "failed", PATIENCE).await;
    let error = &task["last_error"];
    assert_eq!(error["kind"], "position_lost", "{error:#}");
    assert_eq!(error["help"], "/problems/position-lost");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_deleted_while_a_task_was_paused_stops_it() {
    let Some(stack) = Stack::on_mysql_alone("what_retention_deleted_while_a_task_was_paused_stops_it") else {
        return;
    };
    let topic = format!("lost_paused_{}", std::process::id());
    let end = produce(&stack, &topic, 0, 8);
    let mut server = follow(&stack, &topic, "lost_paused").await;
    server.api.wait_for_offset("task", end, PATIENCE).await;
    server.api.complete("task", "pause").await;
    produce(&stack, &topic, 8, 8);
    delete_before(&stack, &topic, end + 1).await;
    // It is told before anybody resumes it, also by a process in which it never ran.
    server.stop().await;
    server.restart().await;
    let told = server.api.wait_for("task", "told", PATIENCE, |task| task["health"] == "blocked").await;
    assert_eq!((&told["status"], &told["progress"]), (&json!("paused"), &Value::Null), "{told:#}");
    let conditions = told["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|found| found["type"] == "retention_short"), "{told:#}");
    // The event comes right after what it tells of.
    let end_of_patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let events = server.api.get("/tasks/task/events?limit=500").await;
        let events = events["items"].as_array().unwrap();
        if events.iter().any(|event| event["kind"] == "position_lost") {
            break;
        }
        assert!(tokio::time::Instant::now() < end_of_patience, "{events:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.api.command("task", "resume").await;
    let task = lost(&server, &["retention", &format!("offset {end}")]).await;
    assert_eq!(api::next_offset(&task), Some(end), "the position is kept");
    sql::drop_schemas(&stack, &["lost_paused"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_stops_the_task() {
    let Some(stack) = Stack::on_mysql_alone("a_topic_that_was_made_again_stops_the_task") else { return };
    for (round, state) in ["paused, shorter", "paused, longer", "running"].into_iter().enumerate() {
        let topic = format!("lost_again_{round}_{}", std::process::id());
        let schema = format!("lost_again_{round}");
        let end = produce(&stack, &topic, 0, 8);
        let server = follow(&stack, &topic, &schema).await;
        server.api.wait_for_offset("task", end, PATIENCE).await;
        if state == "running" {
            make_again(&stack, &topic).await;
            // Gone, empty, or another one: whatever the first look meets.
            lost(&server, &["topic"]).await;
            continue;
        }
        server.api.complete("task", "pause").await;
        make_again(&stack, &topic).await;
        // Offsets that go back, or that hold other transactions.
        produce(&stack, &topic, 20, if state == "paused, longer" { 30 } else { 3 });
        server.api.command("task", "resume").await;
        let words = if state == "paused, longer" { "is not the one that was read" } else { "beyond the end" };
        lost(&server, &[words]).await;
        sql::drop_schemas(&stack, &[&schema]).await;
    }
}

/// Also before the first message of a task was read: the message before its start is remembered.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_before_the_first_message_stops_the_task() {
    let Some(stack) = Stack::utc("a_topic_that_was_made_again_before_the_first_message") else { return };
    let topic = format!("lost_first_{}", std::process::id());
    let end = produce(&stack, &topic, 0, 8);
    sql::drop_schemas(&stack, &["lost_first"]).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    server
        .api
        .create_task(&json!({
            "name": "task",
            "source": {"kafka": "kafka", "topic": topic},
            "target": "target",
            "phases": {"schema": false, "full": false, "incremental": true},
            "start_at": "latest",
            "objects": {"include": ["a_types.num"], "schemas": {"a_types": {"target": "lost_first"}}},
        }))
        .await;
    server.api.start("task").await;
    server.api.wait_for_offset("task", end, PATIENCE).await;
    server.api.complete("task", "pause").await;
    make_again(&stack, &topic).await;
    produce(&stack, &topic, 100, 20);
    server.api.command("task", "resume").await;
    lost(&server, &["is not the one that was read"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_deletes_during_full_sync_stops_it_at_once() {
    let Some(stack) = Stack::utc("what_retention_deletes_during_full_sync_stops_it_at_once") else { return };
    let stack = stack.on_adb();
    let _turn = TURN.lock().await;
    let schema = "lost_full";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let values: Vec<_> = (0..3000).map(|id| format!("({id}, 'row')")).collect();
    sql::run(
        &mut source,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(10))"),
            &format!("INSERT INTO {schema}.t VALUES {}", values.join(",")),
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    // Each write takes two seconds.
    let slow = stack.adb_fault(&format!("do=slow&ms=2000&match={schema}")).await;
    let more = json!({"tuning": {"batch_rows": 10, "chunk_rows": 100, "connections": 1}});
    server.api.create_task(&api::spec("task", &stack, &[&format!("{schema}.*")], &more)).await;
    server.api.start("task").await;
    server.api.wait_for("task", "copying", PATIENCE, |task| task["phase"] == "full").await;
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET v = 'later' WHERE id < 10")]).await;
    stack.settle().await;
    delete_before(&stack, &stack.topic, stack.end_offset(&stack.topic).await).await;
    let task = lost(&server, &["retention"]).await;
    assert_eq!(task["phase"], "full", "{task:#}");
    stack.adb_clear(slow).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// The evidence of rows: one without a key that should be there is not. That of schemas (rows in a layout that no DDL brought) is
/// held by e2e_tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_drainer_that_skipped_a_transaction_stops_the_task() {
    let Some(stack) = Stack::on_mysql_alone("a_drainer_that_skipped_a_transaction_stops_the_task") else {
        return;
    };
    let _turn = TURN.lock().await;
    let schema = "lost_skip";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let create =
        [format!("CREATE DATABASE {schema}"), format!("CREATE TABLE {schema}.n (a INT, b VARCHAR(10))")];
    sql::run(&mut source, &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    stack.settle().await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let include = format!("{schema}.*");
    server.api.create_task(&api::spec("task", &stack, &[&include], &api::policies(&stack))).await;
    server.api.start("task").await;
    server.api.wait_caught_up("task", &stack, PATIENCE).await;
    stack.drainer(reqwest::Method::POST, "/drainer/pause").await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.n VALUES (1, 'one')")]).await;
    let last: String = source.query_first("SELECT @@tidb_last_txn_info").await.unwrap().unwrap();
    let commit_ts = serde_json::from_str::<Value>(&last).unwrap()["commit_ts"].as_u64().unwrap();
    let skip = format!("/drainer/restart?back_messages=0&ignore_commit_ts={commit_ts}");
    stack.drainer(reqwest::Method::POST, &skip).await;
    sql::run(&mut source, &[&format!("DELETE FROM {schema}.n WHERE a = 1")]).await;
    let failed = server.api.wait_for_status("task", "failed", PATIENCE).await;
    assert_eq!(failed["last_error"]["kind"], "schema_mismatch", "{failed:#}");
    assert_eq!(failed["last_error"]["help"], "/problems/schema-mismatch");
    stack.drainer(reqwest::Method::POST, "/drainer/restart?back_messages=0").await;
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_drainers_on_one_topic_are_told() {
    let Some(stack) = Stack::utc("two_drainers_on_one_topic_are_told") else { return };
    let _turn = TURN.lock().await;
    let schema = "lost_twins";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let create =
        [format!("CREATE DATABASE {schema}"), format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT)")];
    sql::run(&mut source, &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    server.api.create_task(&api::spec("task", &stack, &[&format!("{schema}.*")], &json!({}))).await;
    server.api.start("task").await;
    server.api.wait_caught_up("task", &stack, PATIENCE).await;
    stack.drainer(reqwest::Method::POST, "/drainer/second?count=30").await;
    for id in 0..30 {
        sql::run(&mut source, &[&format!("INSERT INTO {schema}.t VALUES ({id}, 1)")]).await;
    }
    server.api.wait_caught_up("task", &stack, PATIENCE).await;
    let events = server.api.get("/tasks/task/events?limit=500").await;
    let told =
        events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "second_drainer").count();
    assert_eq!(told, 1, "{events:#}");
    let told = server.api.get("/tasks?condition=second_drainer&health=degraded").await;
    assert_eq!(told["items"][0]["name"], "task", "{told:#}");
    sql::drop_schemas(&stack, &[schema]).await;
}

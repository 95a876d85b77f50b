//! Single tables beside the others: resync under load, through DDL and through kill -9; errors of one table; commands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Error;
use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// A task "tables" over the schema, which has the tables `t` (with rows) and `other`.
async fn begin(stack: &Stack, schema: &str, rows: u32, more: &Value) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    let create = [
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60), n INT)"),
        format!("CREATE TABLE {schema}.other (id INT PRIMARY KEY, v VARCHAR(60))"),
        format!("INSERT INTO {schema}.other VALUES (1, 'one')"),
    ];
    sql::run(&mut source, &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for start in (0..rows).step_by(1000) {
        let values: Vec<_> =
            (start..rows.min(start + 1000)).map(|id| format!("({id},'row {id}',{id})")).collect();
        let insert = format!("INSERT INTO {schema}.t VALUES {}", values.join(","));
        sql::run(&mut source, &[&insert]).await;
    }
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec("tables", stack, &[&format!("{schema}.*")], more)).await;
    server.api.start("tables").await;
    server
        .api
        .wait_for("tables", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    server
}

async fn finish(stack: &Stack, server: &Server, schema: &str) {
    server.api.wait_caught_up("tables", stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(stack, &[schema]).await;
}

async fn table(server: &Server, schema: &str, table: &str) -> Value {
    let path = format!("/tasks/tables/tables/{schema}/{table}");
    match server.api.try_send(Method::GET, &path, None).await {
        Some(answer) if answer.status.is_success() => answer.body,
        _ => Value::Null,
    }
}

/// Waits until the table is in one of the states; gives it.
async fn wait_for_state(server: &Server, schema: &str, name: &str, states: &[&str]) -> Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let table = table(server, schema, name).await;
        if table["state"].as_str().is_some_and(|state| states.contains(&state)) {
            return table;
        }
        let task = server.api.task("tables").await;
        assert_ne!(task["status"], "failed", "the task failed: {task:#}");
        assert!(
            tokio::time::Instant::now() < end,
            "{schema}.{name} is never {states:?}: {table:#}\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(server: &Server, command: &str, schema: &str, name: &str) -> (StatusCode, Value) {
    let body = json!({"tables": [{"schema": schema, "table": name}]});
    let answer = server.api.send(Method::POST, &format!("/tasks/tables/tables/{command}"), Some(&body)).await;
    (answer.status, answer.body)
}

async fn resync(server: &Server, schema: &str, name: &str) {
    let (status, body) = ask(server, "resync", schema, name).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body:#}");
}

/// How often a resync was merged.
async fn resyncs(server: &Server) -> usize {
    let events = server.api.get("/tasks/tables/events?limit=500").await;
    let events = events["items"].as_array().unwrap().clone();
    events.iter().filter(|event| event["kind"] == "table_resynced").count()
}

async fn wait_for_resyncs(server: &Server, wanted: usize) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while resyncs(server).await < wanted {
        let task = server.api.task("tables").await;
        assert_ne!(task["status"], "failed", "the task failed: {task:#}");
        assert!(tokio::time::Instant::now() < end, "the resync does not end\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes to both tables until told to stop.
fn load(stack: &Stack, schema: &str, end: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (stack, schema) = (stack.clone(), schema.to_owned());
    tokio::spawn(async move {
        let mut source = sql::tidb(&stack).await;
        let mut round = 0_u64;
        while !end.load(Ordering::Relaxed) {
            round += 1;
            let id = 100_000 + round;
            let statements = [
                format!("INSERT INTO {schema}.t (id, v, n) VALUES ({id}, 'new', 0)"),
                format!("UPDATE {schema}.t SET v = CONCAT('round ', {round}) WHERE id % 97 = {}", round % 97),
                format!("DELETE FROM {schema}.t WHERE id = {}", round * 7),
                format!("UPDATE {schema}.t SET id = id + 1000000 WHERE id = {}", round * 11 + 1),
                format!("REPLACE INTO {schema}.other VALUES ({}, 'x{round}')", round % 50),
            ];
            for statement in statements {
                match source.query_drop(&statement).await {
                    // TiDB refuses what meets a change of the schema (1105: EncodeRow, data and column count).
                    Err(Error::Server(error)) if [1105, 8028].contains(&error.code) => {}
                    other => other.unwrap_or_else(|error| panic!("{statement}: {error}")),
                }
            }
        }
        round
    })
}

/// Makes the target's table differ in every way.
async fn damage(stack: &Stack, schema: &str) {
    let mut target = sql::target(stack).await;
    let statements = [
        format!("DELETE FROM {schema}.t WHERE id < 50"),
        format!("REPLACE INTO {schema}.t (id, v, n) VALUES (60, 'wrong', 1)"),
        format!("REPLACE INTO {schema}.t (id, v, n) VALUES (99999, 'a ghost', 1)"),
    ];
    sql::run(&mut target, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn resync_under_load(stack: &Stack, schema: &str) {
    let server = begin(stack, schema, 5000, &json!({})).await;
    damage(stack, schema).await;
    let end = Arc::new(AtomicBool::new(false));
    let writer = load(stack, schema, Arc::clone(&end));
    resync(&server, schema, "t").await;
    wait_for_resyncs(&server, 1).await;
    // A DDL in the middle: the copy begins again.
    let mut source = sql::tidb(stack).await;
    resync(&server, schema, "t").await;
    wait_for_state(&server, schema, "t", &["copying", "catching_up"]).await;
    sql::run(&mut source, &[&format!("ALTER TABLE {schema}.t ADD COLUMN more INT DEFAULT 3")]).await;
    wait_for_resyncs(&server, 2).await;
    end.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert_eq!(wait_for_state(&server, schema, "t", &["following"]).await["error"], Value::Null);
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET more = 4 WHERE id > 4000")]).await;
    finish(stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_under_load_ends_equal() {
    let Some(stack) = Stack::utc("a_resync_under_load_ends_equal") else { return };
    resync_under_load(&stack, "ft_load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_under_load_ends_equal_on_adb() {
    let Some(stack) = Stack::utc("a_resync_under_load_ends_equal_on_adb") else { return };
    resync_under_load(&stack.on_adb(), "ft_load_adb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_is_killed_in_any_state_begins_again_and_ends_equal() {
    let Some(stack) = Stack::utc("a_resync_that_is_killed_in_any_state_begins_again_and_ends_equal") else {
        return;
    };
    let schema = "ft_kill";
    let mut server = begin(&stack, schema, 5000, &json!({})).await;
    damage(&stack, schema).await;
    let end = Arc::new(AtomicBool::new(false));
    let writer = load(&stack, schema, Arc::clone(&end));
    for round in 0..4 {
        let merged = resyncs(&server).await;
        resync(&server, schema, "t").await;
        // The shorter states may be missed: then it is killed in a later one.
        let states = ["resync", "copying", "catching_up", "swapping"];
        let wanted = &states[round..];
        // The shortest may be over between two looks.
        while !table(&server, schema, "t").await["state"].as_str().is_some_and(|now| wanted.contains(&now))
            && resyncs(&server).await <= merged
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill9();
        server.restart().await;
        wait_for_resyncs(&server, merged + 1).await;
    }
    end.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    wait_for_state(&server, schema, "t", &["following"]).await;
    let left: Vec<_> = sql::tables(&mut sql::target(&stack).await, schema).await;
    assert_eq!(left, ["other", "t"], "nothing is left of the copies");
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_table_stops_that_table_and_a_resync_brings_it_back() {
    let Some(stack) = Stack::utc("an_error_of_one_table_stops_that_table_and_a_resync_brings_it_back") else {
        return;
    };
    let schema = "ft_stop";
    let server = begin(&stack, schema, 100, &json!({"errors": {"table": "stop_table"}})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    sql::run(&mut target, &[&format!("ALTER TABLE {schema}.t MODIFY v VARCHAR(10)")]).await;
    // One batch, one transaction: the other table's half of it must arrive.
    let both = [
        "BEGIN".to_owned(),
        format!("INSERT INTO {schema}.t VALUES (5000, 'far too long for the target', 1)"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
        "COMMIT".to_owned(),
        format!("INSERT INTO {schema}.other VALUES (3, 'three')"),
        format!("UPDATE {schema}.t SET n = 0"),
    ];
    sql::run(&mut source, &both.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stopped = wait_for_state(&server, schema, "t", &["stopped"]).await;
    assert_eq!(stopped["error"]["kind"], "value_refused", "{stopped:#}");
    assert!(stopped["error"]["object"].as_str().unwrap().contains("t"), "{stopped:#}");
    assert!(!stopped["error"]["message"].as_str().unwrap().contains("far too long for"), "{stopped:#}");
    let task = server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    let conditions = task["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == "table_stopped").unwrap();
    assert_eq!(
        (condition["object"].as_str(), task["health"].as_str()),
        (Some("ft_stop.t"), Some("degraded"))
    );
    assert_eq!(sql::count(&mut target, "ft_stop.other").await, 3);
    // What it cannot come back by.
    let (status, body) = ask(&server, "resume", schema, "t").await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::CONFLICT, Some("invalid-transition")),
        "{body:#}"
    );

    // A DDL that the table cannot take stops it as well, and so does a table that is gone.
    sql::run(&mut target, &[&format!("DROP TABLE {schema}.other")]).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.other VALUES (4, 'four')")]).await;
    wait_for_state(&server, schema, "other", &["stopped"]).await;
    resync(&server, schema, "t").await;
    resync(&server, schema, "other").await;
    wait_for_resyncs(&server, 2).await;
    wait_for_state(&server, schema, "t", &["following"]).await;
    wait_for_state(&server, schema, "other", &["following"]).await;
    sql::run(
        &mut source,
        &[&format!("INSERT INTO {schema}.t VALUES (5001, 'as long as before, and it fits', 1)")],
    )
    .await;
    let task = server.api.task("tables").await;
    assert!(!task["conditions"].to_string().contains("table_stopped"), "{task:#}");
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ddl_that_one_table_cannot_take_stops_that_table() {
    let Some(stack) = Stack::utc("a_ddl_that_one_table_cannot_take_stops_that_table") else { return };
    let schema = "ft_ddl";
    let server = begin(
        &stack,
        schema,
        100,
        &json!({"errors": {"table": "stop_table"}, "ddl": {"add_column": "stop"}}),
    )
    .await;
    let mut source = sql::tidb(&stack).await;
    let statements = [
        format!("ALTER TABLE {schema}.t ADD COLUMN c INT DEFAULT 9"),
        format!("UPDATE {schema}.t SET c = id"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
        format!("TRUNCATE TABLE {schema}.t"),
        format!("INSERT INTO {schema}.t VALUES (1, 'one', 1, 1)"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for_state(&server, schema, "t", &["stopped"]).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::count(&mut sql::target(&stack).await, "ft_ddl.other").await, 2);
    resync(&server, schema, "t").await;
    wait_for_resyncs(&server, 1).await;
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_paused_resumed_and_skipped_while_the_others_go_on() {
    let Some(stack) = Stack::utc("tables_are_paused_resumed_and_skipped_while_the_others_go_on") else {
        return;
    };
    let schema = "ft_pause";
    let mut server = begin(&stack, schema, 100, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    for command in ["pause", "pause"] {
        assert_eq!(ask(&server, command, schema, "t").await.0, StatusCode::ACCEPTED);
        wait_for_state(&server, schema, "t", &["paused"]).await;
    }
    let statements = [
        format!("DELETE FROM {schema}.t WHERE id < 10"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::count(&mut target, "ft_pause.t").await, 100, "a paused table is left alone");
    assert_eq!(sql::count(&mut target, "ft_pause.other").await, 2);
    server.stop().await;
    server.restart().await;
    wait_for_state(&server, schema, "t", &["paused"]).await;
    assert_eq!(ask(&server, "skip", schema, "t").await.0, StatusCode::ACCEPTED);
    wait_for_state(&server, schema, "t", &["skipped"]).await;
    assert_eq!(ask(&server, "pause", schema, "t").await.0, StatusCode::CONFLICT);
    // A table that is renamed keeps its state, and one that the task does not have is told.
    sql::run(&mut source, &[&format!("RENAME TABLE {schema}.t TO {schema}.t2")]).await;
    wait_for_state(&server, schema, "t2", &["skipped"]).await;
    let (status, body) = ask(&server, "resume", schema, "t").await;
    assert_eq!(
        (status, body["errors"][0]["pointer"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("/tables/0")),
        "{body:#}"
    );
    let body = json!({"tables": [{"schema": schema, "table": "t2"}]});
    let path = "/tasks/tables/tables/resume?wait_ms=60000";
    let answer = server.api.send(Method::POST, path, Some(&body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:#}", answer.body);
    sql::run(&mut target, &[&format!("DROP TABLE {schema}.t")]).await;
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_renamed_into_the_selection_is_copied_while_its_rows_change() {
    let Some(stack) = Stack::utc("a_table_renamed_into_the_selection_is_copied_while_its_rows_change") else {
        return;
    };
    let schema = "ft_in";
    sql::drop_schemas(&stack, &["ft_outside"]).await;
    let server = begin(&stack, schema, 100, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let statements = [
        "CREATE DATABASE ft_outside".to_owned(),
        "CREATE TABLE ft_outside.guest (id INT PRIMARY KEY, v VARCHAR(20))".to_owned(),
        "INSERT INTO ft_outside.guest VALUES (1, 'one'), (2, 'two')".to_owned(),
        format!("RENAME TABLE ft_outside.guest TO {schema}.guest"),
        format!("INSERT INTO {schema}.guest VALUES (3, 'three')"),
        format!("UPDATE {schema}.guest SET v = 'changed' WHERE id = 1"),
        // It is renamed again while it is copied, or right after.
        format!("RENAME TABLE {schema}.guest TO {schema}.friend"),
        format!("DELETE FROM {schema}.friend WHERE id = 2"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for_resyncs(&server, 1).await;
    wait_for_state(&server, schema, "friend", &["following"]).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.friend VALUES (4, 'four')")]).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::tables(&mut target, schema).await, ["friend", "other", "t"]);
    finish(&stack, &server, schema).await;
    sql::drop_schemas(&stack, &["ft_outside"]).await;
}

//! Rows that the target refuses: set aside with both their images, in step with the checkpoint through kill -9, tried again in the
//! order of their changes, discarded; and without the policy the place where the task stops.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(180);
/// In no answer, no event and no log.
const LONG: &str = "pl4nted-value-that-is-far-too-long";

async fn write(stack: &Stack, statements: &[String]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// A task "letters" over `t`, whose target column is made too narrow (MySQL), or which holds a TIME (AnalyticDB).
async fn begin(stack: &Stack, schema: &str, errors: Value) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    write(
        stack,
        &[
            format!("CREATE DATABASE {schema}"),
            format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60), at TIME)"),
            format!("INSERT INTO {schema}.t VALUES (1, 'one', NULL), (2, 'two', NULL), (3, 'three', NULL)"),
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    let spec = api::spec("letters", stack, &[&format!("{schema}.*")], &json!({"errors": errors}));
    server.api.create_task(&spec).await;
    server.api.start("letters").await;
    server
        .api
        .wait_for("letters", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    server.api.wait_caught_up("letters", stack, PATIENCE).await;
    narrow(stack, schema, 10).await;
    server
}

async fn narrow(stack: &Stack, schema: &str, length: u32) {
    if stack.dialect == Dialect::Mysql {
        let mut target = sql::target(stack).await;
        sql::run(&mut target, &[&format!("ALTER TABLE {schema}.t MODIFY v VARCHAR({length})")]).await;
    }
}

/// A value that this target refuses.
fn bad(stack: &Stack) -> String {
    match stack.dialect {
        Dialect::Mysql => format!("'{LONG}', NULL"),
        Dialect::Adb => format!("'{LONG}', '-25:00:00'"),
    }
}

/// What makes the target take it.
async fn cure(stack: &Stack, server: &Server, schema: &str) {
    match stack.dialect {
        Dialect::Mysql => narrow(stack, schema, 60).await,
        Dialect::Adb => {
            server.api.complete("letters", "pause").await;
            let clamp = json!({"lossy": {"time": "clamp"}});
            server.api.send(Method::PATCH, "/tasks/letters/spec", Some(&clamp)).await.good("clamp");
            server.api.command("letters", "resume").await;
            server.api.wait_for("letters", "running", PATIENCE, |task| task["status"] == "running").await;
        }
    }
}

async fn letters(server: &Server, query: &str) -> Vec<Value> {
    let body = server.api.get(&format!("/tasks/letters/dead-letters?limit=500{query}")).await;
    body["items"].as_array().unwrap().clone()
}

async fn post(server: &Server, path: &str, body: Value) -> (StatusCode, Value) {
    let answer =
        server.api.send(Method::POST, &format!("/tasks/letters/dead-letters{path}"), Some(&body)).await;
    (answer.status, answer.body)
}

/// Ids and texts on the target.
async fn rows(stack: &Stack, schema: &str) -> Vec<(i32, String)> {
    sql::target(stack).await.query(format!("SELECT id, v FROM {schema}.t ORDER BY id")).await.unwrap()
}

async fn set_aside(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, json!({"row": "dead_letter", "dead_letter_limit": 5})).await;
    let api = &server.api;
    let bad = bad(&stack);
    let many: Vec<String> = (10..60)
        .map(|id| if id == 33 { format!("(33, {bad})") } else { format!("({id}, 'row {id}', NULL)") })
        .collect();
    let (v, at) = bad.split_once(", ").unwrap();
    write(
        &stack,
        &[
            format!("INSERT INTO {schema}.t VALUES {}", many.join(",")),
            format!("UPDATE {schema}.t SET v = {v}, at = {at} WHERE id = 2"),
            format!("UPDATE {schema}.t SET v = 'fine' WHERE id = 3"),
            format!("UPDATE {schema}.t SET v = {v}, at = {at} WHERE id = 1"),
            format!("UPDATE {schema}.t SET id = 100, v = {v}, at = {at} WHERE id = 10"),
        ],
    )
    .await;
    let task = api.wait_caught_up("letters", &stack, PATIENCE).await;
    let condition = task["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "dead_letters");
    assert!(condition.is_some_and(|one| one["detail"].as_str().unwrap().starts_with("4 ")), "{task:#}");
    assert_eq!(task["health"], "degraded");
    let found = rows(&stack, schema).await;
    let ids: Vec<i32> = found.iter().map(|(id, _)| *id).collect();
    let expected: Vec<i32> = [1, 2, 3].into_iter().chain((11..60).filter(|id| *id != 33)).collect();
    assert_eq!(ids, expected, "what can be is in the target");
    assert_eq!(&found[..3], [(1, "one".to_owned()), (2, "two".to_owned()), (3, "fine".to_owned())]);

    // The list tells where and why, the one letter what.
    let open = letters(&server, "&state=open").await;
    assert_eq!(open.len(), 4, "{open:#?}");
    let told: Vec<_> = open.iter().map(|letter| letter["operation"].as_str().unwrap()).collect();
    // A change of the primary key comes as a delete and an insert.
    assert_eq!(told, ["insert", "update", "update", "insert"]);
    for letter in &open {
        assert_eq!((&letter["table"], &letter["phase"]), (&json!("t"), &json!("incremental")));
        assert_eq!(letter["key_columns"], json!(["id"]));
        assert!(letter["offset"].is_string() && letter["commit_tso"].is_string(), "{letter:#}");
        assert!(letter["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{letter:#}");
    }
    assert_eq!(open[0]["position_in_message"], json!(23));
    let update = api.get(&format!("/tasks/letters/dead-letters/{}", open[1]["n"])).await;
    assert_eq!((&update["old"]["v"], &update["new"]["v"]), (&json!("two"), &json!(LONG)), "{update:#}");
    assert_eq!(update["new"]["id"], json!("2"));
    let insert = api.get(&format!("/tasks/letters/dead-letters/{}", open[0]["n"])).await;
    assert_eq!((&insert["old"], &insert["new"]["id"]), (&Value::Null, &json!("33")));
    let events = api.get("/tasks/letters/events?limit=500").await;
    assert!(
        events["items"].as_array().unwrap().iter().any(|event| event["kind"] == "dead_letter"),
        "{events:#}"
    );
    for text in [json!(open).to_string(), events.to_string(), task.to_string(), server.log()] {
        assert!(!text.contains("pl4nted"), "a value is told");
    }

    // Refused again it stays; what the row has become since is never overwritten.
    let n = open[1]["n"].as_i64().unwrap();
    let (status, body) = post(&server, &format!("/{n}/retry?wait_ms=60000"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body:#}");
    assert_eq!(
        (&body["items"][0]["state"], &body["items"][0]["attempts"]),
        (&json!("open"), &json!(2)),
        "{body:#}"
    );
    write(&stack, &[format!("UPDATE {schema}.t SET v = 'newer', at = NULL WHERE id = 2")]).await;
    api.wait_caught_up("letters", &stack, PATIENCE).await;
    let newer = api.get(&format!("/tasks/letters/dead-letters/{n}")).await;
    assert_eq!(newer["state"], "superseded", "{newer:#}");
    let (status, body) = post(&server, &format!("/{n}/retry"), json!({})).await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid-body")),
        "{body:#}"
    );

    // Bad input.
    for (path, body, status) in [
        ("/retry", json!({}), 422),
        ("/retry", json!({"all": true, "numbers": [1]}), 422),
        ("/retry", json!({"numbers": ["x"]}), 422),
        ("/discard", json!({"numbers": [987]}), 422),
        ("/987/retry", json!({}), 404),
        ("/x/discard", json!({}), 400),
    ] {
        let (found, answer) = post(&server, path, body.clone()).await;
        assert_eq!(found.as_u16(), status, "{path} {body}: {answer:#}");
    }
    let unknown = api.send(Method::GET, "/tasks/letters/dead-letters?state=lost", None).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);

    let first = open[0]["n"].as_i64().unwrap();
    let (status, dry) = post(&server, "/discard?dry_run=true", json!({"numbers": [first]})).await;
    assert_eq!((status, &dry["items"][0]["state"]), (StatusCode::OK, &json!("open")), "{dry:#}");
    let (status, gone) = post(&server, "/discard", json!({"numbers": [first]})).await;
    assert_eq!((status, &gone["items"][0]["state"]), (StatusCode::OK, &json!("discarded")), "{gone:#}");

    cure(&stack, &server, schema).await;
    let (status, body) = post(&server, "/retry?wait_ms=60000", json!({"all": true})).await;
    assert_eq!((status, &body["count"]), (StatusCode::OK, &json!(2)), "{body:#}");
    assert!(letters(&server, "&state=open").await.is_empty(), "{:#?}", letters(&server, "").await);
    let now = rows(&stack, schema).await;
    let value = |id: i32| now.iter().find(|row| row.0 == id).map(|row| row.1.as_str());
    assert_eq!((value(1), value(2), value(33), value(100)), (Some(LONG), Some("newer"), None, Some(LONG)));
    let task = api.task("letters").await;
    assert!(!task["conditions"].to_string().contains("dead_letters"), "{task:#}");

    // More than may be: the task stops before them, and goes on when they fit.
    narrow(&stack, schema, 60).await;
    if stack.dialect == Dialect::Mysql {
        write(&stack, &[format!("UPDATE {schema}.t SET v = 'x'")]).await;
        api.wait_caught_up("letters", &stack, PATIENCE).await;
        narrow(&stack, schema, 10).await;
        let six: Vec<String> = (200..206).map(|id| format!("({id}, {bad})")).collect();
        write(&stack, &[format!("INSERT INTO {schema}.t VALUES {}, (300, 'x', NULL)", six.join(","))]).await;
        let task = api.wait_for_status("letters", "failed", PATIENCE).await;
        let error = task["last_error"].to_string();
        assert!(error.contains("dead_letter_limit"), "{error}");
        assert!(letters(&server, "&state=open").await.is_empty(), "none of a batch that stops");
        let more = json!({"errors": {"dead_letter_limit": 6}});
        api.send(Method::PATCH, "/tasks/letters/spec", Some(&more)).await.good("more");
        api.command("letters", "resume").await;
        api.wait_caught_up("letters", &stack, PATIENCE).await;
        assert_eq!(letters(&server, "&state=open").await.len(), 6);
        // A renamed table takes its letters along; a truncated one has none any more.
        write(&stack, &[format!("RENAME TABLE {schema}.t TO {schema}.u")]).await;
        api.wait_caught_up("letters", &stack, PATIENCE).await;
        assert!(letters(&server, "&state=open").await.iter().all(|letter| letter["table"] == "u"));
        write(&stack, &[format!("TRUNCATE TABLE {schema}.u")]).await;
        api.wait_caught_up("letters", &stack, PATIENCE).await;
        assert!(letters(&server, "&state=open").await.is_empty());
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

/// kill -9 while rows are refused: every refused row is a letter, once, and every other row is there.
async fn killed(stack: Stack, schema: &str) {
    let mut server = begin(&stack, schema, json!({"row": "dead_letter"})).await;
    let bad = bad(&stack);
    for round in 0..4 {
        let first = 1000 * (round + 1);
        let mut statements = Vec::new();
        for id in first..first + 40 {
            let value = if id % 10 == 0 { bad.clone() } else { format!("'row {id}', NULL") };
            statements.push(format!("INSERT INTO {schema}.t VALUES ({id}, {value})"));
        }
        write(&stack, &statements).await;
        server.kill9();
        server.restart().await;
    }
    // One of them comes right while the server is down.
    server.api.wait_caught_up("letters", &stack, PATIENCE).await;
    server.kill9();
    write(&stack, &[format!("UPDATE {schema}.t SET v = 'right', at = NULL WHERE id = 1010")]).await;
    server.restart().await;
    server.api.wait_caught_up("letters", &stack, PATIENCE).await;
    let all = letters(&server, "").await;
    assert_eq!(all.len(), 16, "{all:#?}");
    assert_eq!(all.iter().filter(|letter| letter["state"] == "superseded").count(), 1, "{all:#?}");
    let found = rows(&stack, schema).await;
    assert_eq!(found.len(), 3 + 4 * 36 + 1);
    assert!(found.contains(&(1010, "right".to_owned())));
    // A retry that is cut off is done by the next run.
    cure(&stack, &server, schema).await;
    let (_, body) = post(&server, "/retry", json!({"all": true})).await;
    assert_eq!(body["count"], json!(15), "{body:#}");
    server.kill9();
    server.restart().await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while !letters(&server, "&state=open").await.is_empty() {
        assert!(tokio::time::Instant::now() < end, "letters stay open: {:#?}", letters(&server, "").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if stack.dialect == Dialect::Mysql {
        let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
        compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    }
    assert_eq!(rows(&stack, schema).await.len(), 3 + 4 * 40);
    sql::drop_schemas(&stack, &[schema]).await;
}

support::on_both_targets! {
    refused_rows_are_set_aside_and_tried_again => set_aside("dl_aside", "dl_aside_adb");
    refused_rows_and_the_checkpoint_are_one_truth => killed("dl_kill", "dl_kill_adb");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_policy_the_task_stops_and_says_where() {
    let Some(stack) = Stack::on_mysql_alone("without_the_policy_the_task_stops_and_says_where") else {
        return;
    };
    let schema = "dl_stop";
    let server = begin(&stack, schema, json!({})).await;
    let bad = bad(&stack);
    let before = server.api.next_offset("letters").await.unwrap();
    write(
        &stack,
        &[format!("INSERT INTO {schema}.t VALUES (10, 'ten', NULL), (11, {bad}), (12, 'twelve', NULL)")],
    )
    .await;
    let task = server.api.wait_for_status("letters", "failed", PATIENCE).await;
    let error = &task["last_error"];
    let (object, message) = (error["object"].as_str().unwrap(), error["message"].as_str().unwrap());
    assert!(object.contains("dl_stop.t"), "{error:#}");
    let (_, named) = message.split_once("(row change 1 of the message at offset ").expect(message);
    let offset: i64 = named.split(';').next().unwrap().parse().unwrap();
    // A watermark before it may share the batch that was refused.
    let next = api::next_offset(&task).unwrap();
    assert!((before..=offset).contains(&next), "from {before}, {next}: {error:#}");
    assert!(message.contains("key is in id"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("dead_letter"), "{error:#}");
    for text in [task.to_string(), server.api.get("/tasks/letters/events").await.to_string(), server.log()] {
        assert!(!text.contains("pl4nted"), "a value is told");
    }
    assert!(letters(&server, "").await.is_empty());
    // The policy can be changed on the spot.
    let policy = json!({"errors": {"row": "dead_letter"}});
    server.api.send(Method::PATCH, "/tasks/letters/spec", Some(&policy)).await.good("policy");
    server.api.command("letters", "resume").await;
    server.api.wait_caught_up("letters", &stack, PATIENCE).await;
    assert_eq!(letters(&server, "&state=open").await.len(), 1);
    let ids: Vec<i32> = rows(&stack, schema).await.into_iter().map(|row| row.0).collect();
    assert_eq!(ids, [1, 2, 3, 10, 12]);
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_sync_sets_refused_rows_aside_too() {
    let Some(stack) = Stack::on_mysql_alone("full_sync_sets_refused_rows_aside_too") else { return };
    let schema = "dl_full";
    sql::drop_schemas(&stack, &[schema]).await;
    let many: Vec<String> = (1..=500)
        .map(|id| if id % 100 == 0 { format!("({id}, '{LONG}')") } else { format!("({id}, 'row {id}')") })
        .collect();
    write(
        &stack,
        &[
            format!("CREATE DATABASE {schema}"),
            format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60))"),
            format!("INSERT INTO {schema}.t VALUES {}", many.join(",")),
        ],
    )
    .await;
    let mut target = sql::target(&stack).await;
    sql::run(
        &mut target,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(10))"),
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let more = json!({"errors": {"row": "dead_letter"}, "phases": {"schema": false}, "existing_tables": "replace",
        "tuning": {"chunk_rows": 50}});
    server.api.create_task(&api::spec("letters", &stack, &[&format!("{schema}.*")], &more)).await;
    server.api.start("letters").await;
    server.api.wait_for("letters", "copied", PATIENCE, |task| task["phase"] == "incremental").await;
    server.api.wait_caught_up("letters", &stack, PATIENCE).await;
    let open = letters(&server, "&state=open").await;
    assert_eq!(open.len(), 5, "{open:#?}");
    assert!(open.iter().all(|letter| letter["phase"] == "full" && letter["offset"].is_null()), "{open:#?}");
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 495);
    // The stream's word is newer than the copy's.
    write(
        &stack,
        &[
            format!("UPDATE {schema}.t SET v = 'newer' WHERE id = 300"),
            format!("DELETE FROM {schema}.t WHERE id = 400"),
        ],
    )
    .await;
    server.api.wait_caught_up("letters", &stack, PATIENCE).await;
    narrow(&stack, schema, 60).await;
    let (status, body) =
        post(&server, "/retry?wait_ms=60000", json!({"tables": [{"schema": schema, "table": "t"}]})).await;
    assert_eq!((status, &body["count"]), (StatusCode::OK, &json!(3)), "{body:#}");
    let mut source = sql::tidb(&stack).await;
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

//! Tasks that stand where they should not, as an operator meets them: moving the checkpoint, reset, starting in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(180);

/// A task "still" over the schema's table `t` with the rows 1 to 3, in incremental sync.
async fn begin(stack: &Stack, schema: &str, more: &Value) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    let create = [
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60))"),
        format!("INSERT INTO {schema}.t VALUES (1, 'one'), (2, 'two'), (3, 'three')"),
    ];
    sql::run(&mut source, &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec("still", stack, &[&format!("{schema}.*")], more)).await;
    server.api.start("still").await;
    server
        .api
        .wait_for("still", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    server.api.wait_caught_up("still", stack, PATIENCE).await;
    server
}

async fn equal(stack: &Stack, schema: &str) {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
}

async fn put(server: &Server, body: Value, query: &str) -> (StatusCode, Value) {
    let path = format!("/tasks/still/checkpoint{query}");
    let answer = server.api.send(Method::PUT, &path, Some(&body)).await;
    (answer.status, answer.body)
}

async fn write(stack: &Stack, statements: &[String]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn moves(stack: Stack, schema: &str) {
    let mut server = begin(&stack, schema, &json!({})).await;
    let api = server.api.clone();
    let before = api.next_offset("still").await.unwrap();
    let (status, body) = put(&server, json!({"offset": before.to_string()}), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");
    assert_eq!(body["allowed_from"], json!(["paused", "failed"]));
    let middle = sql::current_tso(&mut sql::tidb(&stack).await).await;
    write(
        &stack,
        &[
            format!("UPDATE {schema}.t SET v = 'first' WHERE id = 1"),
            format!("INSERT INTO {schema}.t VALUES (4, 'four')"),
            format!("UPDATE {schema}.t SET v = 'second' WHERE id = 1"),
            format!("DELETE FROM {schema}.t WHERE id = 2"),
        ],
    )
    .await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    api.complete("still", "pause").await;

    // What cannot be.
    for (body, status, code) in [
        (json!({}), 422, "invalid-body"),
        (json!({"offset": "1", "tso": "1"}), 422, "invalid-body"),
        (json!({"offset": "many"}), 422, "invalid-body"),
        (json!({"offset": 1}), 422, "invalid-body"),
        (json!({"time": "yesterday"}), 422, "invalid-body"),
        (json!({"wrong": "1"}), 422, "invalid-body"),
        (json!({"offset": "999999999"}), 422, "outside-retention"),
        (json!({"offset": "0"}), 422, "outside-retention"),
        (json!({"time": "2199-01-01T00:00:00Z"}), 422, "outside-retention"),
    ] {
        let (found, answer) = put(&server, body.clone(), "").await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{body}: {answer:#}");
    }
    // Others write to the topic meanwhile.
    let low = stack.end_offset(&stack.topic).await;
    let (_, answer) = put(&server, json!({"offset": "999999999"}), "").await;
    let high = stack.end_offset(&stack.topic).await;
    let told = answer["detail"].as_str().unwrap();
    assert!((low..=high).any(|end| told.contains(&end.to_string())), "the range is told: {answer:#}");

    // Back, by TSO: the same rows once more, also when the process is killed in the middle. Rows that somebody spoiled come right.
    let stands = api.next_offset("still").await.unwrap();
    let (status, dry) = put(&server, json!({"tso": middle.to_string()}), "?dry_run=true").await;
    assert_eq!((status, &dry["direction"]), (StatusCode::OK, &json!("back")), "{dry:#}");
    let replayed = dry["replayed"]["messages"].as_i64().unwrap();
    assert!(replayed >= 4, "{dry:#}");
    assert_eq!(api.next_offset("still").await, Some(stands), "a dry run moves nothing");
    let mut target = sql::target(&stack).await;
    sql::run(
        &mut target,
        &[
            &format!("REPLACE INTO {schema}.t VALUES (1, 'spoiled'), (2, 'a ghost')"),
            &format!("DELETE FROM {schema}.t WHERE id = 4"),
        ],
    )
    .await;
    let (status, moved) = put(&server, json!({"tso": middle.to_string()}), "").await;
    assert_eq!(status, StatusCode::OK, "{moved:#}");
    assert_eq!((&moved["to"], &moved["replayed"]), (&dry["to"], &dry["replayed"]));
    assert_eq!(api.next_offset("still").await, Some(stands - replayed));
    server.kill9();
    server.restart().await;
    assert_eq!(api.next_offset("still").await, Some(stands - replayed), "the move is durable");
    api.command("still", "resume").await;
    api.wait_for("still", "running", PATIENCE, |task| task["status"] == "running").await;
    server.kill9();
    server.restart().await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    equal(&stack, schema).await;

    // Forward, over what nobody wants: it is never applied, and what follows is.
    api.complete("still", "pause").await;
    write(&stack, &[format!("INSERT INTO {schema}.t VALUES (5, 'unwanted')")]).await;
    stack.settle().await;
    let over = stack.end_offset(&stack.topic).await;
    let (status, moved) = put(&server, json!({"offset": over.to_string()}), "").await;
    assert_eq!((status, &moved["direction"]), (StatusCode::OK, &json!("forward")), "{moved:#}");
    assert!(moved["skipped"]["messages"].as_i64().unwrap() >= 1);
    api.command("still", "resume").await;
    write(&stack, &[format!("INSERT INTO {schema}.t VALUES (6, 'six')")]).await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    let ids: Vec<i32> = target.query(format!("SELECT id FROM {schema}.t ORDER BY id")).await.unwrap();
    assert_eq!(ids, [1, 3, 4, 6]);
    write(&stack, &[format!("DELETE FROM {schema}.t WHERE id = 5")]).await;

    // Not over a DDL forward, and not behind one that changes rows; behind ADD COLUMN rows fit.
    api.wait_caught_up("still", &stack, PATIENCE).await;
    api.complete("still", "pause").await;
    let stands = api.next_offset("still").await.unwrap();
    write(
        &stack,
        &[
            format!("UPDATE {schema}.t SET v = 'before' WHERE id = 1"),
            format!("ALTER TABLE {schema}.t ADD COLUMN n INT DEFAULT 7"),
            format!("UPDATE {schema}.t SET n = 8 WHERE id = 3"),
        ],
    )
    .await;
    stack.settle().await;
    let end = stack.end_offset(&stack.topic).await;
    let (status, body) = put(&server, json!({"offset": end.to_string()}), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("position-blocked")), "{body:#}");
    assert!(body["detail"].as_str().unwrap().contains("DDL"), "{body:#}");
    api.command("still", "resume").await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    api.complete("still", "pause").await;
    let (status, moved) = put(&server, json!({"offset": stands.to_string()}), "").await;
    assert_eq!(status, StatusCode::OK, "{moved:#}");
    assert_eq!(moved["ddl"].as_array().unwrap().len(), 1, "{moved:#}");
    api.command("still", "resume").await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    equal(&stack, schema).await;
    write(
        &stack,
        &[format!("TRUNCATE TABLE {schema}.t"), format!("INSERT INTO {schema}.t VALUES (9, 'nine', 9)")],
    )
    .await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    api.complete("still", "pause").await;
    let (status, body) = put(&server, json!({"offset": stands.to_string()}), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("position-blocked")), "{body:#}");
    // Nor behind DDL of which nobody knows any more: of very many the store keeps the newest.
    let store = format!("sqlite://{}", server.data_folder().join("tidegate.db").display());
    let mut store = sqlx::SqliteConnection::connect(&store).await.unwrap();
    let trim = "delete from ddl where n < (select max(n) from ddl)";
    assert!(sqlx::query(trim).execute(&mut store).await.unwrap().rows_affected() > 0);
    let (status, body) = put(&server, json!({"offset": stands.to_string()}), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("position-blocked")), "{body:#}");
    assert!(body["detail"].as_str().unwrap().contains("no longer on record"), "{body:#}");
    api.command("still", "resume").await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    equal(&stack, schema).await;
    let events = api.get("/tasks/still/events?limit=500").await;
    let told =
        events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "checkpoint").count();
    assert_eq!(told, 3, "every move is an event");
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn reset(stack: Stack, schema: &str) {
    let mut server = begin(&stack, schema, &json!({})).await;
    let api = server.api.clone();
    let post = async |body: Value, query: &str| {
        let answer = api.send(Method::POST, &format!("/tasks/still/reset{query}"), Some(&body)).await;
        (answer.status, answer.body)
    };
    let (status, body) = post(json!({"target_tables": "drop"}), "").await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");
    let (status, body) = post(json!({"target_tables": "burn"}), "").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body:#}");
    // A table by DDL is the task's own too; one that somebody else made is not.
    write(
        &stack,
        &[
            format!("CREATE TABLE {schema}.later (id INT PRIMARY KEY)"),
            format!("INSERT INTO {schema}.later VALUES (1)"),
        ],
    )
    .await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    let mut target = sql::target(&stack).await;
    sql::run(&mut target, &[&format!("CREATE TABLE {schema}.foreigner (id INT PRIMARY KEY)")]).await;
    api.complete("still", "pause").await;
    let (status, dry) = post(json!({"target_tables": "truncate"}), "?dry_run=true").await;
    assert_eq!((status, &dry["status"]), (StatusCode::OK, &json!("paused")), "{dry:#}");
    assert!(dry["effects"].to_string().contains(&format!("truncate {schema}.later")), "{dry:#}");
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 3);

    let (status, done) = post(json!({"target_tables": "truncate"}), "").await;
    assert_eq!(
        (status, &done["status"], &done["checkpoint"]),
        (StatusCode::ACCEPTED, &json!("created"), &Value::Null),
        "{done:#}"
    );
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 0);
    // From full again, with the same tables, killed on the way.
    write(
        &stack,
        &[
            format!("DELETE FROM {schema}.t WHERE id = 2"),
            format!("INSERT INTO {schema}.t VALUES (7, 'seven')"),
        ],
    )
    .await;
    api.start("still").await;
    server.kill9();
    server.restart().await;
    let copied = async || {
        api.wait_for("still", "copied", PATIENCE, |task| task["phase"] == "incremental").await;
        api.wait_caught_up("still", &stack, PATIENCE).await;
    };
    copied().await;
    let sides = async || {
        let ids = format!("SELECT id FROM {schema}.t ORDER BY id");
        let source: Vec<i32> = sql::tidb(&stack).await.query(&ids).await.unwrap();
        let target: Vec<i32> = sql::target(&stack).await.query(&ids).await.unwrap();
        assert_eq!(source, target);
    };
    sides().await;

    api.complete("still", "stop").await;
    let (status, done) = post(json!({"target_tables": "drop"}), "?wait_ms=1000").await;
    assert_eq!((status, &done["status"]), (StatusCode::OK, &json!("created")), "{done:#}");
    assert_eq!(sql::tables(&mut target, schema).await, ["foreigner"], "what is not the task's own stays");
    let (status, again) = post(json!({"target_tables": "drop"}), "").await;
    assert_eq!((status, &again["task_status"]), (StatusCode::CONFLICT, &json!("created")), "{again:#}");
    api.start("still").await;
    copied().await;
    sides().await;

    // Kept tables are anybody's: existing_tables decides.
    api.complete("still", "pause").await;
    post(json!({}), "").await;
    assert_eq!(sql::tables(&mut target, schema).await, ["foreigner", "later", "t"]);
    let precheck = api.post("/tasks/still/precheck", &json!({})).await;
    let failed = api::items(&precheck, &["fail"]);
    assert!(failed.iter().any(|item| item["id"] == "tables.existing"), "{failed:#?}");
    api.send(Method::PATCH, "/tasks/still/spec", Some(&json!({"existing_tables": "replace"})))
        .await
        .good("replace");
    api.start("still").await;
    copied().await;
    sides().await;
    // Now the tables were there before the task: it may not drop them.
    api.complete("still", "pause").await;
    let (_, done) = post(json!({"target_tables": "drop"}), "").await;
    assert!(done["effects"].to_string().contains("stays as it is"), "{done:#}");
    assert_eq!(sql::tables(&mut target, schema).await, ["foreigner", "later", "t"]);
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Every form of `start_at`, over a table that was made before.
async fn starts(stack: Stack, schema: &str) {
    sql::drop_schemas(&stack, &[schema]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let table = format!("{schema}.t (id INT PRIMARY KEY, v VARCHAR(60))");
    for session in [&mut source, &mut target] {
        sql::run(session, &[&format!("CREATE DATABASE {schema}"), &format!("CREATE TABLE {table}")]).await;
    }
    write(&stack, &[format!("INSERT INTO {schema}.t VALUES (1, 'before')")]).await;
    stack.settle().await;
    let tso = sql::current_tso(&mut source).await;
    let offset = stack.end_offset(&stack.topic).await;
    let time = chrono::DateTime::from_timestamp_millis((tso >> 18) as i64 + 1).unwrap().to_rfc3339();
    tokio::time::sleep(Duration::from_millis(50)).await;
    write(&stack, &[format!("INSERT INTO {schema}.t VALUES (2, 'after')")]).await;
    stack.settle().await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    for (name, start_at, expected) in [
        ("by-tso", json!({"tso": tso.to_string()}), vec![2, 3]),
        ("by-offset", json!({"offset": offset.to_string()}), vec![2, 3, 4]),
        ("by-time", json!({"time": time}), vec![2, 3, 4, 5]),
        ("by-latest", json!("latest"), vec![6]),
    ] {
        sql::run(&mut target, &[&format!("DELETE FROM {schema}.t")]).await;
        let more = json!({"phases": {"schema": false, "full": false, "incremental": true}, "start_at": start_at,
            "existing_tables": "keep"});
        api.create_task(&api::spec(name, &stack, &[&format!("{schema}.*")], &more)).await;
        api.start(name).await;
        api.wait_for(name, "a position", PATIENCE, |task| task["checkpoint"].is_object()).await;
        write(&stack, &[format!("INSERT INTO {schema}.t SELECT MAX(id) + 1, '{name}' FROM {schema}.t")])
            .await;
        api.wait_caught_up(name, &stack, PATIENCE).await;
        let ids: Vec<i32> = target.query(format!("SELECT id FROM {schema}.t ORDER BY id")).await.unwrap();
        assert_eq!(ids, expected, "{name}");
        api.complete(name, "stop").await;
    }
    // DDL may come before the first row.
    let more = json!({"phases": {"schema": false, "full": false, "incremental": true}, "start_at": "latest"});
    api.create_task(&api::spec("ddl-first", &stack, &[&format!("{schema}.*")], &more)).await;
    api.start("ddl-first").await;
    api.wait_for("ddl-first", "a position", PATIENCE, |task| task["checkpoint"].is_object()).await;
    write(
        &stack,
        &[
            format!("ALTER TABLE {schema}.t ADD COLUMN n INT"),
            format!("INSERT INTO {schema}.t VALUES (70, 'x', 7)"),
        ],
    )
    .await;
    api.wait_caught_up("ddl-first", &stack, PATIENCE).await;
    let n: Option<i32> = target.query_first(format!("SELECT n FROM {schema}.t WHERE id = 70")).await.unwrap();
    assert_eq!(n, Some(7));
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn wait_for_ddl_failed(server: &Server) -> i64 {
    server.api.wait_for_status("still", "failed", PATIENCE).await;
    let failed = server.api.get("/tasks/still/ddl?state=failed").await;
    failed["items"].as_array().unwrap().last().expect("a failed DDL")["n"].as_i64().unwrap()
}

async fn ddl(stack: Stack, schema: &str) {
    let policies = json!({"ddl": {"add_column": "stop", "modify_column": "stop", "rename_column": "stop"}});
    let mut server = begin(&stack, schema, &policies).await;
    let api = server.api.clone();
    let post = async |path: String, body: Value| {
        let answer = api.send(Method::POST, &format!("/tasks/still/ddl/{path}"), Some(&body)).await;
        (answer.status, answer.body)
    };
    let mut target = sql::target(&stack).await;

    // Skipped: the target has nothing of it, and what follows fits.
    write(
        &stack,
        &[
            format!("ALTER TABLE {schema}.t ADD COLUMN left_out INT"),
            format!("INSERT INTO {schema}.t VALUES (4, 'four', 4)"),
        ],
    )
    .await;
    let n = wait_for_ddl_failed(&server).await;
    let (status, body) = post(format!("{n}/retry?wait_ms=60000"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("task-failed")), "{body:#}");
    let (status, dry) = post(format!("{n}/skip?dry_run=true"), json!({})).await;
    assert_eq!((status, &dry["status"]), (StatusCode::OK, &json!("failed")), "{dry:#}");
    assert!(!dry["effects"].as_array().unwrap().is_empty());
    for (path, status) in [("999/skip", 404), ("x/skip", 400), ("1/replace", 415)] {
        let answer = api.send(Method::POST, &format!("/tasks/still/ddl/{path}"), None).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {:#}", answer.body);
    }
    let (status, body) = post(format!("{n}/skip?wait_ms=60000"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body:#}");
    api.wait_caught_up("still", &stack, PATIENCE).await;
    let v: Option<String> =
        target.query_first(format!("SELECT v FROM {schema}.t WHERE id = 4")).await.unwrap();
    assert_eq!(v.as_deref(), Some("four"));
    let record = api.get(&format!("/tasks/still/ddl/{n}")).await;
    assert_eq!(
        (&record["state"], &record["decision"]["kind"]),
        (&json!("ignored"), &json!("skip")),
        "{record:#}"
    );
    let (status, body) = post(format!("{n}/skip"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");

    // Replaced: what does not do is told, at once or by the comparison; also when the process is killed on the way.
    write(
        &stack,
        &[
            format!("ALTER TABLE {schema}.t ADD COLUMN n INT"),
            format!("INSERT INTO {schema}.t VALUES (5, 'five', 5, 55)"),
        ],
    )
    .await;
    let n = wait_for_ddl_failed(&server).await;
    let bad = json!({"statements": [
        format!("ALTER TABLE {schema}.other ADD COLUMN n INT"), "DROP DATABASE x", "ALTER TABLE t ADD COLUMN n INT",
        format!("ALTER TABLE {schema}.t ADD COLUMN n INT; DROP TABLE {schema}.t")]});
    let (status, body) = post(format!("{n}/replace"), bad).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body:#}");
    let pointers: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert_eq!(pointers, ["/statements/0", "/statements/1", "/statements/2", "/statements/3"], "{body:#}");
    let (status, _) = post(format!("{n}/replace"), json!({"statements": []})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = json!({"statements": [format!("ALTER TABLE {schema}.t ADD COLUMN m INT")]});
    let (status, body) = post(format!("{n}/replace?wait_ms=60000"), wrong).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("task-failed")), "{body:#}");
    assert!(body["detail"].as_str().unwrap().contains("does not take the rows"), "{body:#}");
    let right = json!({"statements": [
        format!("ALTER TABLE {schema}.t ADD COLUMN n BIGINT"), format!("ALTER TABLE {schema}.t DROP COLUMN m")]});
    let (status, body) = post(format!("{n}/replace"), right).await;
    assert!(status.is_success(), "{body:#}");
    server.kill9();
    server.restart().await;
    api.wait_caught_up("still", &stack, PATIENCE).await;
    let found: Option<(i64, String)> =
        target.query_first(format!("SELECT n, v FROM {schema}.t WHERE id = 5")).await.unwrap();
    assert_eq!(found, Some((55, "five".to_owned())));
    let record = api.get(&format!("/tasks/still/ddl/{n}")).await;
    assert_eq!((&record["state"], &record["statements_done"]), (&json!("done"), &json!(2)), "{record:#}");

    // A rename leaves its values nowhere when it is skipped; retried once the policy allows it, it is applied.
    write(
        &stack,
        &[
            format!("ALTER TABLE {schema}.t RENAME COLUMN v TO w"),
            format!("INSERT INTO {schema}.t VALUES (6, 'six', 6, 66)"),
        ],
    )
    .await;
    let n = wait_for_ddl_failed(&server).await;
    let (status, body) = post(format!("{n}/skip"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");
    let apply = json!({"ddl": {"rename_column": "apply"}});
    api.send(Method::PATCH, "/tasks/still/spec", Some(&apply)).await.good("policy");
    let (status, body) = post(format!("{n}/retry?wait_ms=60000"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body:#}");
    api.wait_caught_up("still", &stack, PATIENCE).await;
    let w: Option<String> =
        target.query_first(format!("SELECT w FROM {schema}.t WHERE id = 6")).await.unwrap();
    assert_eq!(w.as_deref(), Some("six"));
    let events = api.get("/tasks/still/events?limit=500").await.to_string();
    for word in ["ddl_skip", "ddl_replace", "ddl_retry"] {
        assert!(events.contains(word), "{word} is an event");
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn transfer(stack: Stack, schema: &str) {
    let mut here = begin(&stack, schema, &json!({})).await;
    let post = async |server: &Server, path: &str, body: &Value| {
        let answer = server.api.send(Method::POST, path, Some(body)).await;
        (answer.status, answer.body)
    };
    let (status, body) = post(&here, "/tasks/still/export", &json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");
    write(
        &stack,
        &[
            format!("ALTER TABLE {schema}.t ADD COLUMN n INT DEFAULT 1"),
            format!("INSERT INTO {schema}.t VALUES (4, 'four', 4)"),
        ],
    )
    .await;
    here.api.wait_caught_up("still", &stack, PATIENCE).await;
    here.api.complete("still", "pause").await;
    // What happens in between is in the topic.
    write(&stack, &[format!("UPDATE {schema}.t SET n = 5"), format!("DELETE FROM {schema}.t WHERE id = 1")])
        .await;
    let (status, _) = post(&here, "/tasks/still/export?dry_run=true", &json!({})).await;
    assert_eq!((status, &here.api.task("still").await["status"]), (StatusCode::NO_CONTENT, &json!("paused")));
    let (status, document) = post(&here, "/tasks/still/export", &json!({})).await;
    assert_eq!((status, &document["format"]), (StatusCode::OK, &json!("tidegate.task")), "{document:#}");
    assert!(!document.to_string().contains("password"));
    // Fenced: it goes on nowhere here, also after a crash, and its document can be had again.
    let (status, body) = post(&here, "/tasks/still/resume", &json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")), "{body:#}");
    here.kill9();
    here.restart().await;
    assert_eq!(here.api.task("still").await["status"], "stopped");
    let (status, again) = post(&here, "/tasks/still/export", &json!({})).await;
    assert_eq!((status, &again["tables"]), (StatusCode::OK, &document["tables"]));
    let (status, body) = post(&here, "/tasks/import", &document).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("in-use")), "{body:#}");

    let there = Server::start().await;
    let (status, body) = post(&there, "/tasks/import", &document).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "its connections are not there: {body:#}");
    assert_eq!(body["errors"][0]["pointer"], "/spec/source/tidb", "{body:#}");
    there.api.connect(&stack).await;
    let spoiled = |change: fn(&mut Value)| {
        let mut document = document.clone();
        change(&mut document);
        document
    };
    for (document, pointer) in [
        (json!({}), "/format"),
        (spoiled(|document| document["format"] = json!("other")), "/format"),
        (spoiled(|document| document["version"] = json!(2)), "/version"),
        (spoiled(|document| document["checksum"] = json!("00")), "/checksum"),
        (spoiled(|document| document["tables"]["checkpoints"][0]["next_offset"] = json!("1")), "/checksum"),
        (spoiled(|document| document["more"] = json!(1)), "/more"),
    ] {
        let (status, body) = post(&there, "/tasks/import", &document).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{pointer}: {body:#}");
        let pointers = body["errors"].to_string();
        assert!(pointers.contains(&format!("\"{pointer}\"")), "{pointer}: {body:#}");
    }
    let (status, _) = post(&there, "/tasks/import?dry_run=true", &document).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, task) = post(&there, "/tasks/import", &document).await;
    assert_eq!(
        (status, &task["status"], &task["desired"]),
        (StatusCode::CREATED, &json!("paused"), &json!("paused")),
        "{task:#}"
    );
    assert_eq!(task["id"], document["task_id"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(there.api.task("still").await["status"], "paused");
    let ddl = there.api.get("/tasks/still/ddl?state=done").await;
    assert_eq!(ddl["items"].as_array().unwrap().len(), 1, "{ddl:#}");
    there.api.command("still", "resume").await;
    there.api.wait_caught_up("still", &stack, PATIENCE).await;
    equal(&stack, schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

support::on_both_targets! {
    a_task_moves_to_another_server => transfer("st_transfer", "st_transfer_adb");
    a_ddl_is_skipped_replaced_and_retried => ddl("st_ddl", "st_ddl_adb");
    a_checkpoint_is_moved_by_offset_and_time => moves("st_move", "st_move_adb");
    a_reset_touches_only_the_tasks_own_tables => reset("st_reset", "st_reset_adb");
    a_task_starts_in_the_middle_of_the_stream => starts("st_start", "st_start_adb");
}

//! What an operator does to a task that stands still, as far as it needs no endpoint: states that forbid it, bodies that are wrong,
//! reset, and a document that goes from one server to another.

use reqwest::Method;
use serde_json::{Value, json};
use tidegate::error::Error;

use crate::app::{Script, TestApp, pointers};

#[tokio::test]
async fn a_running_task_is_not_moved_reset_or_exported() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let problem =
        app.put("/tasks/a/checkpoint", json!({"offset": "1"})).await.problem(409, "invalid-transition");
    assert_eq!(
        (&problem["task_status"], &problem["allowed_from"]),
        (&json!("running"), &json!(["paused", "failed"]))
    );
    for (path, body) in [("reset", json!({})), ("export", json!({}))] {
        let reply = app.request(Method::POST, &format!("/tasks/a/{path}"), Some(body)).await;
        assert_eq!(reply.problem(409, "invalid-transition")["task_status"], "running", "{path}");
    }
    app.post("/tasks/a/ddl/1/skip").await.problem(404, "not-found");
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.put("/tasks/a/checkpoint", json!({"offset": "1"})).await.problem(409, "position-blocked");
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"offset": "1", "time": "2024-05-01T00:00:00Z"}), ""),
        (json!({"offset": "-1"}), "/offset"),
        (json!({"offset": 7}), "/offset"),
        (json!({"tso": "99999999999999999999"}), "/tso"),
        (json!({"time": "noon"}), "/time"),
        (json!({"place": "here"}), "/place"),
    ] {
        let problem = app.put("/tasks/a/checkpoint", body.clone()).await.problem(422, "invalid-body");
        assert_eq!(pointers(&problem)[0].0, pointer, "{body}");
    }
    app.put("/tasks/b/checkpoint", json!({"offset": "1"})).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_reset_task_is_as_before_its_first_start() {
    let app = TestApp::start().await.with_task("a").await;
    let reset = async |query: &str, body: Value| {
        app.request(Method::POST, &format!("/tasks/a/reset{query}"), Some(body)).await
    };
    let problem = reset("", json!({})).await.problem(409, "invalid-transition");
    let from = json!(["paused", "failed", "stopped", "finished"]);
    assert_eq!((&problem["task_status"], &problem["allowed_from"]), (&json!("created"), &from));
    app.stage.set(Script::Fail(Error::internal("x")));
    app.post("/tasks/a/start").await.expect(202);
    app.until_status("a", "failed").await;
    let dry = reset("?dry_run=true", json!({"target_tables": "keep"})).await.expect(200);
    assert_eq!(dry["status"], "failed");
    assert!(!dry["effects"].as_array().unwrap().is_empty());
    let problem = reset("", json!({"target_tables": "burn", "more": 1})).await.problem(422, "invalid-body");
    assert_eq!(pointers(&problem).len(), 2, "{problem:#}");
    let task = reset("", json!({})).await.expect(202);
    assert_eq!(
        (&task["status"], &task["desired"], &task["last_error"], &task["started_at"]),
        (&json!("created"), &json!("none"), &Value::Null, &Value::Null)
    );
    app.stage.set(Script::Work);
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
    assert_eq!(reset("?wait_ms=1000", json!({})).await.expect(200)["status"], "created");
}

/// Who waits for the effect of a command for tables is told when it cannot come any more.
#[tokio::test]
async fn a_wait_for_tables_ends_with_a_newer_command_or_a_failure() {
    let app = TestApp::start().await.with_task("a").await;
    let tables = Some(json!({"tables": [{"schema": "shop", "table": "t"}]}));
    let refused = app.request(Method::POST, "/tasks/a/tables/pause", tables.clone()).await;
    let refused = refused.problem(409, "invalid-transition");
    assert_eq!(refused["allowed_from"], json!(["running", "pausing", "paused", "failed"]));
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", app.database().display())).await.unwrap();
    let known = json!({"table": {"table": {"name": {"schema": "shop", "table": "t"}}}}).to_string();
    sqlx::query("insert into catalog (task_id, schema_key, table_key, commit_ts, definition) values (?, 'shop', 't', 1, ?)")
        .bind(&app.stage.context().task.0)
        .bind(known)
        .execute(&pool)
        .await
        .unwrap();
    // The scripted worker takes up no command for tables.
    let stands = async |command: &str| {
        let known = "select count(*) from table_commands where command = ?";
        while sqlx::query_scalar::<_, i64>(known).bind(command).fetch_one(&pool).await.unwrap() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waits = |command: &'static str| app.request(Method::POST, command, tables.clone());
    let (waited, ()) = tokio::join!(waits("/tasks/a/tables/pause?wait_ms=30000"), async {
        stands("pause").await;
        waits("/tasks/a/tables/skip").await.expect(202);
    });
    let problem = waited.problem(409, "superseded");
    assert!(problem["detail"].as_str().unwrap().contains("skip of shop.t"), "{problem}");

    let (waited, ()) = tokio::join!(waits("/tasks/a/tables/resync?wait_ms=30000"), async {
        stands("resync").await;
        sqlx::query("update tasks set status = 'failed' where name = 'a'").execute(&pool).await.unwrap();
    });
    waited.problem(409, "task-failed");
}

#[tokio::test]
async fn a_task_without_dead_letters_has_none_to_decide_about() {
    let app = TestApp::start().await.with_task("a").await;
    assert_eq!(app.get("/tasks/a/dead-letters").await.expect(200)["items"], json!([]));
    app.get("/tasks/a/dead-letters?state=lost&colour=red").await.problem(400, "invalid-parameter");
    app.get("/tasks/a/dead-letters?schema=s").await.problem(400, "invalid-parameter");
    app.get("/tasks/a/dead-letters/1").await.problem(404, "not-found");
    app.get("/tasks/a/dead-letters/one").await.problem(400, "invalid-parameter");
    app.post("/tasks/a/dead-letters/1/discard").await.problem(404, "not-found");
    let all = Some(json!({"all": true}));
    app.request(Method::POST, "/tasks/a/dead-letters/retry", all.clone())
        .await
        .problem(409, "invalid-transition");
    let done = app.request(Method::POST, "/tasks/a/dead-letters/discard", all).await.expect(200);
    assert_eq!((&done["count"], &done["effects"]), (&json!(0), &json!([])));
    for body in [json!({}), json!({"all": false}), json!({"all": true, "numbers": [1]})] {
        let reply = app.request(Method::POST, "/tasks/a/dead-letters/discard", Some(body)).await;
        reply.problem(422, "invalid-body");
    }
}

#[tokio::test]
async fn an_exported_task_is_stopped_here_and_created_there() {
    let here = TestApp::start().await.with_task("a").await;
    here.post("/tasks/a/export?dry_run=true").await.expect(204);
    let document = here.post("/tasks/a/export").await.expect(200);
    let task = here.get("/tasks/a").await.expect(200);
    assert_eq!((&task["status"], &task["desired"]), (&json!("stopped"), &json!("stopped")));
    here.post("/tasks/a/resume").await.problem(409, "invalid-transition");
    let import = async |app: &TestApp, document: &Value| {
        app.request(Method::POST, "/tasks/import", Some(document.clone())).await
    };
    import(&here, &document).await.problem(409, "in-use");
    let there = TestApp::start().await;
    let problem = import(&there, &document).await.problem(422, "invalid-body");
    assert!(pointers(&problem).iter().all(|(pointer, _)| pointer.starts_with("/spec/")), "{problem:#}");
    let there = there.with_connections().await;
    for garbage in [json!([]), json!({"format": "tidegate.task"}), json!("x")] {
        import(&there, &garbage).await.problem(422, "invalid-body");
    }
    for (field, value) in [
        ("format", json!("x")),
        ("version", json!(9)),
        ("run", json!(7)),
        ("checksum", json!("x")),
        ("tables", json!({"tokens": [{"name": "x"}]})),
    ] {
        let mut spoiled = document.clone();
        spoiled[field] = value;
        import(&there, &spoiled).await.problem(422, "invalid-body");
    }
    let task = import(&there, &document).await.expect(201);
    assert_eq!((&task["status"], &task["id"]), (&json!("created"), &document["task_id"]));
    there.post("/tasks/a/start?wait_ms=10000").await.expect(200);
}

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::error::{Error, ErrorKind};
use tokio::sync::Notify;

use crate::app::{Script, TestApp};

#[tokio::test]
async fn a_task_starts_pauses_resumes_and_stops() {
    let app = TestApp::start().await.with_task("a").await;
    let task = app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    assert_eq!(
        (&task["status"], &task["desired"], &task["run"]),
        (&json!("running"), &json!("running"), &json!(1))
    );
    assert_eq!(task["effects"][0]["field"], "/desired");
    assert!(task["started_at"].is_string());
    let again = app.post("/tasks/a/start").await.expect(202);
    assert_eq!(again["effects"], json!([]), "commands are idempotent");

    let task = app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    assert_eq!(task["status"], "paused");
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    let problem = app.post("/tasks/a/start").await.problem(409, "invalid-transition");
    assert_eq!(problem["task_status"], "paused");
    assert_eq!(problem["allowed_from"], json!(["created"]));

    let task = app.post("/tasks/a/resume?wait_ms=10000").await.expect(200);
    assert_eq!((&task["status"], &task["run"]), (&json!("running"), &json!(2)));
    app.delete("/tasks/a").await.problem(409, "invalid-transition");
    let task = app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
    assert_eq!(
        (&task["status"], &task["phase"], &task["lag_ms"]),
        (&json!("stopped"), &Value::Null, &Value::Null)
    );
    app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
    for command in ["start", "pause", "resume"] {
        app.post(&format!("/tasks/a/{command}")).await.problem(409, "invalid-transition");
    }
    app.delete("/tasks/a").await.expect(204);
    app.post("/tasks/a/start").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_task_that_never_ran_can_be_stopped_and_dry_runs_do_nothing() {
    let app = TestApp::start().await.with_task("a").await;
    let id = app.get("/tasks/a").await.expect(200)["id"].as_str().unwrap().to_owned();
    let dry = app.post("/tasks/a/start?dry_run=true").await.expect(200);
    assert_eq!((&dry["desired"], &dry["effects"][0]["field"]), (&json!("none"), &json!("/desired")));
    app.post("/tasks/a/pause?dry_run=true").await.problem(409, "invalid-transition");
    let dry = app.delete("/tasks/a?dry_run=true").await.expect(200);
    assert!(dry["effects"][0]["detail"].as_str().unwrap().contains("target is not touched"), "{dry}");
    let stale = app.client.delete(app.url("/tasks/a")).header("if-match", "\"7\"");
    app.send(stale).await.problem(412, "precondition-failed");
    assert_eq!(app.post(&format!("/tasks/{id}/stop?wait_ms=10000")).await.expect(200)["status"], "stopped");
}

#[tokio::test]
async fn pausing_lasts_until_the_worker_ends_and_the_newest_word_counts() {
    let app = TestApp::start().await.with_task("a").await;
    let told = Arc::new(Notify::new());
    app.stage.set(Script::Linger(Arc::clone(&told)));
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let (waited, ()) = tokio::join!(app.post("/tasks/a/pause?wait_ms=10000"), async {
        app.until_status("a", "pausing").await;
        let still = app.post("/tasks/a/pause?wait_ms=1").await.expect(202);
        assert_eq!(still["status"], "pausing");
        app.stage.set(Script::Work);
        app.post("/tasks/a/resume").await.expect(202);
    });
    let problem = waited.problem(409, "superseded");
    assert_eq!(problem["task_status"], "pausing");
    assert_eq!(
        app.get("/tasks/a").await.expect(200)["run"],
        1,
        "the next run waits for the end of the old one"
    );
    told.notify_one();
    let task = app.until("a", |task| task["status"] == "running" && task["run"] == 2).await;
    assert_eq!(task["desired"], "running");
}

#[tokio::test]
async fn a_failed_task_waits_for_a_person() {
    let app = TestApp::start().await.with_task("a").await;
    let error = Error::new(ErrorKind::StatementRefused, "no such function")
        .endpoint(tidegate::error::Endpoint::Target)
        .object("shop.orders")
        .hint("create it")
        .code(1305);
    app.stage.set(Script::Fail(error));
    app.post("/tasks/a/start").await.expect(202);
    let task = app.until_status("a", "failed").await;
    assert_eq!((&task["health"], &task["desired"]), (&json!("failed"), &json!("running")));
    let last = &task["last_error"];
    assert_eq!(
        (&last["kind"], &last["endpoint"], &last["object"], &last["server_code"], &last["hint"]),
        (
            &json!("statement_refused"),
            &json!("target"),
            &json!("shop.orders"),
            &json!(1305),
            &json!("create it")
        )
    );
    let problem = app.post("/tasks/a/resume?wait_ms=10000").await;
    // It may be seen running for a moment before it fails again.
    assert!(matches!(problem.status.as_u16(), 200 | 409), "{}", problem.text);
    app.until("a", |task| task["status"] == "failed" && task["run"] == 2).await;

    app.stage.set(Script::Work);
    let task = app.post("/tasks/a/resume?wait_ms=10000").await.expect(200);
    assert_eq!(
        (&task["status"], &task["last_error"], &task["health"]),
        (&json!("running"), &Value::Null, &json!("ok"))
    );

    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Fail(Error::internal("x")));
    app.post("/tasks/a/resume").await.expect(202);
    app.until_status("a", "failed").await;
    let task = app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    assert_eq!((&task["status"], &task["last_error"]["message"]), (&json!("paused"), &json!("x")));
    app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
}

#[tokio::test]
async fn a_worker_that_panics_fails_its_task_only() {
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    app.post("/tasks/b/start?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Panic);
    app.post("/tasks/a/start").await.expect(202);
    let task = app.until_status("a", "failed").await;
    assert_eq!(task["last_error"]["kind"], "internal");
    assert!(!task.to_string().contains("own words"));
    assert_eq!(app.get("/tasks/b").await.expect(200)["status"], "running");
    assert_eq!(app.get("/readyz").await.expect(200)["ready"], true);
}

#[tokio::test]
async fn a_task_without_incremental_finishes() {
    let app = TestApp::start().await.with_task("a").await;
    app.stage.set(Script::Finish);
    app.post("/tasks/a/start").await.expect(202);
    let task = app.until_status("a", "finished").await;
    assert!(task["finished_at"].is_string());
    app.post("/tasks/a/pause").await.problem(409, "invalid-transition");
    app.delete("/tasks/a").await.expect(204);
}

#[tokio::test]
async fn a_spec_whose_connection_is_gone_does_not_start() {
    let app = TestApp::start().await.with_task("a").await;
    // Not through the API, which keeps a connection in use.
    let database = format!("sqlite:{}", app.database().display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query("delete from connections where name = 'kafka'").execute(&pool).await.unwrap();
    pool.close().await;
    let problem = app.post("/tasks/a/start").await.problem(422, "invalid-body");
    assert_eq!(problem["errors"][0]["pointer"], "/source/kafka");
    assert_eq!(app.get("/tasks/a").await.expect(200)["desired"], "none");
}

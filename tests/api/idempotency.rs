use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::app::{Reply, Script, TestApp, spec};

async fn keyed(app: &TestApp, key: &str, path: &str, body: Option<Value>) -> Reply {
    let mut request = app.client.request(Method::POST, app.url(path)).header("idempotency-key", key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    app.send(request).await
}

fn replayed(reply: &Reply) -> bool {
    reply.headers.contains_key("idempotency-replayed")
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_also_after_a_restart() {
    let app = TestApp::start().await.with_connections().await;
    let first = keyed(&app, "k1", "/tasks", Some(spec("a"))).await;
    assert!(!replayed(&first));
    let headers = first.headers.clone();
    let first = first.expect(201);

    let again = keyed(&app, "k1", "/tasks", Some(spec("a"))).await;
    assert!(replayed(&again));
    for name in ["etag", "location", "content-type"] {
        assert_eq!(again.headers[name], headers[name], "{name}");
    }
    assert_ne!(again.headers["x-request-id"], headers["x-request-id"]);
    assert_eq!(again.expect(201), first);
    // Without the key it is another request.
    app.create(spec("a")).await.problem(409, "name-taken");

    keyed(&app, "k1", "/tasks", Some(spec("b"))).await.problem(422, "idempotency-key-reused");
    keyed(&app, "k1", "/tasks?dry_run=true", Some(spec("a"))).await.problem(422, "idempotency-key-reused");
    keyed(&app, "k1", "/tasks/a/start", None).await.problem(422, "idempotency-key-reused");
    app.get("/tasks/b").await.problem(404, "not-found");

    // A refusal is an answer too; it names the request that it answers now.
    keyed(&app, "k2", "/tasks/a/pause", None).await.problem(409, "invalid-transition");
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let again = keyed(&app, "k2", "/tasks/a/pause", None).await;
    assert!(replayed(&again));
    again.problem(409, "invalid-transition");

    let app = app.restart().await;
    let again = keyed(&app, "k1", "/tasks", Some(spec("a"))).await;
    assert!(replayed(&again));
    assert_eq!(again.expect(201), first);
    keyed(&app, "k1", "/tasks", Some(spec("b"))).await.problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn a_request_that_is_worked_on_is_not_begun_twice() {
    let app = TestApp::start().await.with_task("a").await;
    let told = Arc::new(Notify::new());
    app.stage.set(Script::Linger(Arc::clone(&told)));
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let pause = "/tasks/a/pause?wait_ms=30000";
    // The sender gives up; the request goes on.
    let gone = app
        .client
        .post(app.url(pause))
        .header("idempotency-key", "p")
        .timeout(std::time::Duration::from_millis(300));
    gone.send().await.unwrap_err();
    app.until_status("a", "pausing").await;
    let busy = keyed(&app, "p", pause, None).await;
    assert_eq!(busy.headers["retry-after"], "1");
    busy.problem(409, "idempotency-key-in-use");
    told.notify_one();
    for _ in 0..2000 {
        let reply = keyed(&app, "p", pause, None).await;
        if reply.status != 409 {
            assert!(replayed(&reply));
            assert_eq!(reply.expect(200)["status"], "paused");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the first request was never answered");
}

#[tokio::test]
async fn keys_are_checked_and_belong_to_their_caller() {
    let app = TestApp::start().await.with_task("a").await;
    for key in ["", "a b", &"x".repeat(256), "ä"] {
        let request = app.client.post(app.url("/tasks/a/stop?dry_run=true"));
        let value = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).unwrap();
        let problem =
            app.send(request.header("idempotency-key", value)).await.problem(400, "invalid-parameter");
        assert_eq!(problem["errors"][0]["header"], "idempotency-key");
    }
    // What fails on the way in leaves the key free.
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    let request = app.client.post(app.url("/tasks")).header("content-type", "application/json");
    app.send(request.header("idempotency-key", "k").body(large)).await.problem(413, "body-too-large");

    // The first token's secret can be read again by who made it; it is nobody else's.
    let body = json!({"name": "ann", "role": "admin"});
    let made = keyed(&app, "k", "/tokens", Some(body.clone())).await.expect(201);
    let secret = made["secret"].as_str().unwrap().to_owned();
    for entry in std::fs::read_dir(app.folder.path().join("data")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "in a file");
    }
    let app = app.with_token(&secret);
    let other = keyed(&app, "k", "/tokens", Some(body)).await;
    assert!(!replayed(&other));
    other.problem(409, "name-taken");
}

#[tokio::test]
async fn what_was_cut_off_with_the_process_may_be_tried_again() {
    let app = TestApp::start().await.with_task("a").await;
    let TestApp { app: server, stage, folder, .. } = app;
    server.stop().await;
    // As a killed process leaves it: begun, and never answered.
    let database = format!("sqlite:{}", folder.path().join("data/tidegate.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query("insert into idempotency (caller, key, request, created_at) values ('local', 'k', x'00', 0), ('x', 'old', x'00', 0)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let app = TestApp::start_in(folder, stage).await;
    keyed(&app, "k", "/tasks/a/start?wait_ms=10000", None).await.expect(200);
}

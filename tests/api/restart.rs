use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::app::App;
use tidegate::config::Config;
use tidegate::engine::supervisor::worker_runner;
use tidegate::error::Error;
use tokio::sync::Notify;

use crate::app::{Script, TestApp, config};

#[tokio::test]
async fn a_restart_keeps_every_task_as_it_was() {
    let mut app = TestApp::start().await;
    for name in ["created", "running", "paused", "stopped", "failed"] {
        app = app.with_task(name).await;
    }
    for name in ["running", "paused", "stopped"] {
        app.post(&format!("/tasks/{name}/start?wait_ms=10000")).await.expect(200);
    }
    app.post("/tasks/paused/pause?wait_ms=10000").await.expect(200);
    app.post("/tasks/stopped/stop?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Fail(Error::internal("x")));
    app.post("/tasks/failed/start").await.expect(202);
    app.until_status("failed", "failed").await;
    app.stage.set(Script::Work);

    let app = app.restart().await;
    // A second run of what ran, and of nothing else.
    let task = app.until("running", |task| task["run"] == 2).await;
    assert_eq!(task["status"], "running");
    for (name, status, run) in [
        ("created", "created", 0),
        ("paused", "paused", 1),
        ("stopped", "stopped", 1),
        ("failed", "failed", 1),
    ] {
        let task = app.get(&format!("/tasks/{name}")).await.expect(200);
        assert_eq!((&task["status"], &task["run"]), (&json!(status), &json!(run)), "{name}");
    }
    assert_eq!(app.get("/tasks/failed").await.expect(200)["last_error"]["message"], "x");
}

#[tokio::test]
async fn a_worker_that_fails_while_the_process_stops_is_started_again() {
    let app = TestApp::start().await.with_task("a").await;
    app.stage.set(Script::FailAtEnd(Error::internal("cut off")));
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Work);
    let app = app.restart().await;
    app.until("a", |task| task["run"] == 2 && task["status"] == "running").await;
}

/// While tasks finish what is in flight the server can still be read, and says no to what it could not carry out.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_and_takes_no_commands() {
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    let told = Arc::new(Notify::new());
    app.stage.set(Script::Linger(Arc::clone(&told)));
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let TestApp { app: server, client, base, .. } = app;
    let stopping = tokio::spawn(server.stop());
    let at = |path: &str| format!("{base}{path}");
    let end = Instant::now() + Duration::from_secs(10);
    while client.get(at("/readyz")).send().await.unwrap().status() != 503 {
        assert!(Instant::now() < end, "it says that it is ready");
    }
    let select = json!({"command": "start", "select": {"all": true}});
    for (path, body) in [
        ("/tasks/b/start", json!({})),
        ("/tasks/commands", select),
        ("/tasks/b/reset", json!({"target_tables": "keep"})),
        ("/tasks/b/tables/pause", json!({"tables": [{"schema": "shop", "table": "t"}]})),
    ] {
        let answer = client.post(at(&format!("/api/v1{path}"))).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.headers()["retry-after"], "5", "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "shutting-down", "{path}");
    }
    let task: Value = client.get(at("/api/v1/tasks/b")).send().await.unwrap().json().await.unwrap();
    assert_eq!(task["status"], "created", "no command was taken");
    told.notify_one();
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let app = TestApp::start().await;
    let error = App::start(&config(&app.folder), worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("another tidegate process"), "{error}");
    assert!(error.hint.unwrap().contains("--data-dir"));
    app.restart().await;
}

#[tokio::test]
async fn a_foreign_or_lost_key_is_refused() {
    let app = TestApp::start().await.with_connections().await;
    let TestApp { app, folder, .. } = app;
    app.stop().await;
    let key = folder.path().join("data/key");
    let good = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    let error = App::start(&config(&folder), worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("not the key"), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = App::start(&config(&folder), worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert!(!key.exists(), "a lost key is not replaced by a new one");

    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, good).unwrap();
    let with_file = Config { key_file: Some(elsewhere), ..config(&folder) };
    App::start(&with_file, worker_runner()).await.unwrap().stop().await;
}

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::app::{Logs, TestApp, spec};

const SECRET: &str = "s3cr3t-Zwiebelturm-9f2c";

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_secret_is_in_no_answer_no_file_and_no_log() {
    let logs = Logs::of_process();
    let app = TestApp::start().await;
    let mut seen = String::new();
    let mysql = |password: serde_json::Value| json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "sync", "password": password});
    let kafka = json!({"kind": "kafka", "brokers": ["127.0.0.1:1"],
        "sasl": {"mechanism": "SCRAM-SHA-256", "user": "u", "password": SECRET}});
    let tidb = json!({"kind": "tidb", "host": "127.0.0.1", "port": 1, "user": "sync", "password": SECRET});
    for (method, path, body) in [
        (Method::PUT, "/connections/target?verify=false", mysql(json!(SECRET))),
        (Method::PUT, "/connections/tidb?verify=false", tidb),
        (Method::PUT, "/connections/kafka?verify=false", kafka.clone()),
        // Refused in many ways.
        (Method::PUT, "/connections/target", mysql(json!(format!("{SECRET}2")))),
        (Method::PUT, "/connections/other", mysql(json!({"set": SECRET}))),
        (Method::PUT, "/connections/other", mysql(json!([SECRET]))),
        (Method::PUT, "/connections/other", mysql(json!({"value": SECRET}))),
        (Method::PATCH, "/connections/target", json!({"password": SECRET, "host": 5})),
        (Method::POST, "/connections/test", mysql(json!(SECRET))),
        (Method::POST, "/connections/test", kafka),
        (Method::POST, "/tasks", spec("a")),
        (Method::POST, "/tasks", json!({"name": {"password": SECRET}})),
    ] {
        seen.push_str(&app.request(method, path, Some(body)).await.text);
    }
    let broken = app.client.put(app.url("/connections/x")).header("content-type", "application/json");
    seen.push_str(&app.send(broken.body(format!("{{\"password\": \"{SECRET}\" oops"))).await.text);
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    for path in ["/connections/target/test", "/connections/kafka/test", "/tasks/a/precheck", "/tasks/a/plan"]
    {
        seen.push_str(&app.post(path).await.text);
    }
    for path in [
        "/connections",
        "/connections/target",
        "/connections/kafka",
        "/connections/kafka/catalog",
        "/tasks",
        "/tasks/a",
        "/tasks/a/spec",
        "/tasks/a/precheck",
        "/tasks/a/plan",
        "/tasks/a/tables",
        "/tasks/a/events",
        "/events",
        "/system",
        "/metrics",
        "/openapi.json",
    ] {
        seen.push_str(&app.get(path).await.text);
    }
    assert!(seen.contains("\"set\":true"));
    assert!(!seen.contains(SECRET), "in an answer");

    // The worker got it.
    let context = app.stage.context();
    let password = secrecy::ExposeSecret::expose_secret(&context.target.password.get().unwrap()).to_owned();
    assert_eq!(password, SECRET);
    assert!(!format!("{:?} {:?}", context.target, context.kafka).contains(SECRET), "in a debug print");

    let folder = app.folder.path().join("data");
    assert!(files(&folder).iter().any(|path| path.extension().is_some_and(|end| end == "db-wal")));
    for path in files(&folder) {
        assert!(!holds(&std::fs::read(&path).unwrap()), "in {}", path.display());
    }
    let app = app.restart().await;
    for path in files(&folder) {
        assert!(!holds(&std::fs::read(&path).unwrap()), "in {}", path.display());
    }
    // It can still be opened after a restart.
    app.until("a", |task| task["run"] == 2).await;
    let log = logs.text();
    assert!(log.contains("connection kept"), "the log is captured");
    assert!(!log.contains(SECRET), "in the log");
}

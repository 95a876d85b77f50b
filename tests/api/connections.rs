use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, pointers};

#[tokio::test]
async fn a_connection_is_created_read_changed_and_deleted() {
    let app = TestApp::start().await;
    let body = json!({"kind": "tidb", "host": "127.0.0.1", "user": "sync", "password": "x"});
    let mut created = app.put("/connections/prod?verify=false", body.clone()).await.expect(201);
    assert_eq!(created.as_object_mut().unwrap().remove("effects"), Some(json!([])));
    assert_eq!(created["port"], 4000);
    assert_eq!(created["password"], json!({"set": true}));
    assert_eq!(created["tls"], json!({"mode": "disabled", "ca": null}));
    assert_eq!(created["version"], 1);

    let reply = app.get("/connections/prod").await;
    assert_eq!(reply.headers["etag"], "\"1\"");
    let read = reply.expect(200);
    assert_eq!(read, created);

    // What GET gave is taken back and changes nothing; it does not even log in.
    assert_eq!(app.put("/connections/prod", read).await.expect(200)["version"], 1);
    assert_eq!(app.put("/connections/prod", body).await.expect(200)["version"], 1);

    let patched = app.patch("/connections/prod?verify=false", json!({"tls": {"mode": "required"}})).await;
    assert_eq!(patched.expect(200)["version"], 2);
    let cleared = app.patch("/connections/prod?verify=false", json!({"password": null})).await.expect(200);
    assert_eq!(cleared["password"], json!({"set": false}));
    assert_eq!(cleared["tls"]["mode"], "required");

    let stale = app.client.patch(app.url("/connections/prod?verify=false")).header("if-match", "\"1\"");
    app.send(stale.json(&json!({"user": "b"}))).await.problem(412, "precondition-failed");

    app.delete("/connections/prod").await.expect(204);
    app.get("/connections/prod").await.problem(404, "not-found");
    app.delete("/connections/prod").await.problem(404, "not-found");
}

#[tokio::test]
async fn all_faults_of_a_connection_are_told_at_once() {
    let app = TestApp::start().await;
    let body = json!({"kind": "kafka", "brokers": ["a", "b:1"], "sasl": {"mechanism": "GSSAPI"}, "tls": {"mode": 1}, "x": 1});
    let problem = app.put("/connections/k", body).await.problem(422, "invalid-body");
    let expected = [
        ("/sasl/mechanism", "invalid"),
        ("/sasl/user", "required"),
        ("/tls/mode", "wrong_type"),
        ("/x", "unknown_field"),
    ];
    assert_eq!(pointers(&problem), expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));

    let body = json!({"kind": "mysql", "port": 0, "user": ""});
    let problem = app.put("/connections/m", body).await.problem(422, "invalid-body");
    let places: Vec<_> = pointers(&problem).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/host", "/port", "/user"]);

    let problem = app.put("/connections/m", json!({"kind": "oracle"})).await.problem(422, "invalid-body");
    assert!(pointers(&problem).iter().any(|(pointer, _)| pointer == "/kind"), "{problem}");
    let problem = app.put("/connections/k", json!({"kind": "kafka", "brokers": ["a", "b:0"]})).await;
    assert_eq!(pointers(&problem.problem(422, "invalid-body")).len(), 2);
    app.put("/connections/UPPER", json!({"kind": "kafka", "brokers": ["a:1"]}))
        .await
        .problem(400, "invalid-parameter");
    app.put("/connections/a", json!({"name": "b", "kind": "kafka", "brokers": ["a:1"]}))
        .await
        .problem(422, "invalid-body");
    app.put("/connections/a", json!([])).await.problem(422, "invalid-body");
}

#[tokio::test]
async fn a_secret_must_be_sent_again_when_it_would_go_elsewhere() {
    let app = TestApp::start().await;
    let path = "/connections/prod?verify=false";
    let body =
        json!({"kind": "mysql", "host": "a", "user": "u", "password": "x", "tls": {"mode": "verify_full"}});
    app.put(path, body).await.expect(201);
    for change in [
        json!({"host": "b"}),
        json!({"user": "v"}),
        json!({"tls": {"mode": "required"}}),
        json!({"port": 3307}),
    ] {
        let problem = app.patch(path, change.clone()).await.problem(422, "secret-required");
        assert_eq!(pointers(&problem)[0].0, "/password", "{change}");
    }
    app.patch(path, json!({"host": "b", "password": "y"})).await.expect(200);
    app.patch(path, json!({"password": {"set": true}})).await.expect(200);

    let sasl = json!({"kind": "kafka", "brokers": ["a:1"], "sasl": {"mechanism": "PLAIN", "user": "u"}});
    let problem = app.put("/connections/k?verify=false", sasl).await.problem(422, "secret-required");
    assert_eq!(pointers(&problem)[0].0, "/sasl/password");
}

#[tokio::test]
async fn what_cannot_log_in_is_not_kept() {
    let app = TestApp::start().await;
    let body = json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "u"});
    let problem = app.put("/connections/prod", body.clone()).await.problem(502, "endpoint-unreachable");
    assert!(problem["detail"].as_str().unwrap().contains("127.0.0.1:1"), "{problem}");
    app.get("/connections/prod").await.problem(404, "not-found");

    let report = app.request(Method::POST, "/connections/test", Some(body.clone())).await.expect(200);
    assert_eq!(report["outcome"], "fail");
    assert_eq!(report["steps"][0]["outcome"], "fail");
    app.put("/connections/prod?verify=false", body).await.expect(201);
    assert_eq!(app.post("/connections/prod/test").await.expect(200)["outcome"], "fail");
    app.get("/connections/prod/catalog").await.problem(502, "endpoint-unreachable");
    app.get("/connections/none/catalog").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_connection_in_use_is_kept() {
    let app = TestApp::start().await.with_task("a").await;
    let problem = app.delete("/connections/tidb").await.problem(409, "in-use");
    assert!(problem["detail"].as_str().unwrap().contains("used by a"), "{problem}");
    let kafka = app.get("/connections/kafka").await.expect(200);
    assert_eq!((&kafka["used_by"], &kafka["use_count"]), (&json!(["a"]), &json!(1)));
    let other = json!({"kind": "tidb", "host": "127.0.0.1", "port": 1, "user": "sync"});
    app.put("/connections/target?verify=false", other).await.problem(422, "invalid-body");
    app.delete("/tasks/a").await.expect(204);
    app.delete("/connections/tidb").await.expect(204);
}

#[tokio::test]
async fn a_running_task_is_handed_what_changes_of_its_connections() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let held = app.stage.context();
    let path = "/connections/target?verify=false";
    // Read and written back: nothing happens.
    let read = app.get("/connections/target").await.expect(200);
    let same = app.put("/connections/target", read).await.expect(200);
    assert_eq!((&same["effects"], &same["version"]), (&json!([]), &json!(1)));

    let dry = app.patch(&format!("{path}&dry_run=true"), json!({"password": "new"})).await.expect(200);
    assert_eq!(
        (&dry["effects"][0]["field"], &dry["effects"][0]["effect"]),
        (&json!("/password"), &json!("next_batch"))
    );
    assert_eq!(app.get("/connections/target").await.expect(200)["version"], 1, "a dry run keeps nothing");
    let patched = app.patch(path, json!({"password": "new"})).await.expect(200);
    assert_eq!(patched["effects"], dry["effects"]);
    assert!(patched["effects"][0]["detail"].as_str().unwrap().starts_with("a: "), "{patched}");
    // Whoever holds the endpoint logs in with it; the run is the same.
    let secret = |context: &tidegate::engine::worker::WorkerContext| {
        context.target.password.get().map(|text| secrecy::ExposeSecret::expose_secret(&text).to_owned())
    };
    app.until_handed(|_| secret(&held).as_deref() == Some("new")).await;
    assert_eq!(app.get("/tasks/a").await.expect(200)["run"], 1);
    assert!(!held.works_with().moves_to(&held.newer().unwrap()));

    // Another place: it must begin again.
    let moved = app.patch(path, json!({"port": 2, "password": "new"})).await.expect(200);
    assert_eq!(
        (&moved["effects"][0]["field"], &moved["effects"][0]["effect"]),
        (&json!("/port"), &json!("restart"))
    );
    app.until_handed(|context| context.newer().is_some_and(|newer| context.works_with().moves_to(&newer)))
        .await;

    app.stage.set(crate::app::Script::Fail(tidegate::error::Error::internal("x")));
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.post("/tasks/a/resume").await.expect(202);
    app.until("a", |task| task["status"] == "failed").await;
    let failed = app.patch(path, json!({"password": "newer"})).await.expect(200);
    assert_eq!(failed["effects"][0]["effect"], "next_start");
    assert!(failed["effects"][0]["detail"].as_str().unwrap().contains("resume a"), "{failed}");
}

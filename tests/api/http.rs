use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn everything_that_fails_is_a_problem() {
    let app = TestApp::start().await;
    app.get("/api/v1/nothing").await.problem(404, "not-found");
    app.get("/api/nothing").await.problem(404, "not-found");
    app.get("/tasks/none").await.problem(404, "not-found");

    let reply = app.request(Method::DELETE, "/tasks", None).await;
    let allow = reply.headers["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    reply.problem(405, "method-not-allowed");

    let post = || app.client.post(app.url("/tasks"));
    app.send(post().body("{}")).await.problem(415, "unsupported-media-type");
    app.send(post().header("content-type", "text/plain").body("{}"))
        .await
        .problem(415, "unsupported-media-type");
    let json_body =
        |text: String| post().header("content-type", "application/json; charset=utf-8").body(text);
    let problem = app.send(json_body("{\"name\": ".to_owned())).await.problem(400, "malformed-json");
    assert!(problem["detail"].as_str().unwrap().contains("line 1"), "{problem}");
    app.send(json_body(String::new())).await.problem(400, "malformed-json");
    app.send(json_body("[".repeat(10_000))).await.problem(400, "malformed-json");
    app.send(json_body(format!("\"{}\"", "x".repeat(1024 * 1024)))).await.problem(413, "body-too-large");
    app.send(json_body("3".to_owned())).await.problem(422, "invalid-body");

    let get = || app.client.get(app.url("/tasks"));
    app.send(get().header("accept", "text/html")).await.problem(406, "not-acceptable");
    assert_eq!(app.send(get().header("accept", "text/html, application/*;q=0.5")).await.status, 200);
    app.send(get().header("host", "evil.example")).await.problem(403, "host-refused");
    assert_eq!(app.send(get().header("host", "localhost:80")).await.status, 200);
    app.get("/tasks/%ff").await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn all_faults_of_the_query_are_told_at_once() {
    let app = TestApp::start().await;
    let problem =
        app.get("/tasks?limit=0&status=odd&colour=red&cursor=abc").await.problem(400, "invalid-parameter");
    let parameters: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["parameter"].as_str().unwrap())
        .collect();
    assert_eq!(parameters, ["status", "limit", "colour"]);
    app.get("/tasks?cursor=abc").await.problem(400, "invalid-cursor");
    app.get("/events?limit=501").await.problem(400, "invalid-parameter");
    app.post("/tasks/x/start?wait_ms=60001").await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_sane() {
    let app = TestApp::start().await;
    let get = |id: &str| app.client.get(app.url("/tasks/none")).header("x-request-id", id);
    let problem = app.send(get("my-id.1")).await.problem(404, "not-found");
    assert_eq!(problem["request_id"], "my-id.1");
    let problem = app.send(get("no spaces here")).await.problem(404, "not-found");
    assert_eq!(problem["request_id"].as_str().unwrap().len(), 26);
}

#[tokio::test]
async fn the_document_on_disk_is_the_routers() {
    let app = TestApp::start().await;
    let served = app.get("/openapi.json").await.expect(200);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        kept == served,
        "openapi/openapi.json is not what the router says; regenerate it:\n  cargo run -- openapi > openapi/openapi.json"
    );
    // The tools read 3.1; every reference leads somewhere.
    assert_eq!(served["openapi"], "3.1.0");
    let text = served.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(served["components"]["schemas"].get(name).is_some(), "{name}");
    }
    let spec = &served["components"]["schemas"]["Spec"]["properties"];
    assert_eq!(spec["existing_tables"]["default"], "refuse");
    assert_eq!(spec["throttle"]["x-change"], "live");
    let mut operations: Vec<_> = served["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    let all = operations.len();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), all, "operation ids are unique");
}

#[tokio::test]
async fn pages_for_people_and_probes() {
    let app = TestApp::start().await.with_task("a").await;
    assert!(app.get("/").await.text.contains("/docs/"));
    assert!(app.get("/docs/").await.text.contains("swagger"));
    let document = app.get("/openapi.json").await.expect(200);
    for code in document["components"]["schemas"]["ProblemCode"]["enum"].as_array().unwrap() {
        let page = app.get(&format!("/problems/{}", code.as_str().unwrap())).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("Cure"));
    }
    app.get("/problems/none").await.problem(404, "not-found");
    app.get("/healthz").await.expect(200);
    let ready = app.get("/readyz").await.expect(200);
    assert_eq!(ready, json!({"ready": true, "store": true, "supervisor": true, "stopping": false}));
    let system = app.get("/system").await.expect(200);
    assert_eq!(system["tasks"]["created"], 1);
    assert_eq!(system["version"], env!("CARGO_PKG_VERSION"));

    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("tidegate_task_status{task=\"a\",status=\"created\"} 1"), "{metrics}");
    assert!(metrics.contains("tidegate_http_request_duration_seconds_bucket"), "{metrics}");
    app.delete("/tasks/a").await.expect(204);
    assert!(!app.get("/metrics").await.text.contains("task=\"a\""));
}

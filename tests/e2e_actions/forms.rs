//! Section 1, forms: what every request and every answer has, good or bad.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, pointers};

pub async fn of_requests(client: &Client) {
    // The document, and what stands outside of /api/v1.
    let document = client.get("/openapi.json").await.is(200);
    assert_eq!(document["openapi"], "3.1.0");
    for (path, words) in
        [("/", "tidegate"), ("/docs/", "swagger"), ("/metrics", "tidegate_"), ("/problems/not-found", "Cure")]
    {
        let page = client.get(path).await;
        assert!(
            page.status == 200 && page.text.to_lowercase().contains(&words.to_lowercase()),
            "{path}: {}",
            page.text
        );
    }
    client.get("/healthz").await.is(200);
    // About this process, never about tasks or endpoints.
    assert_eq!(client.get("/readyz").await.is(200)["ready"], true);
    let system = client.get("/system").await.is(200);
    assert!(
        system["version"].is_string() && system["limits"].is_object() && system["uptime_ms"].is_u64(),
        "{system}"
    );
    // Each endpoint names its role.
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let role =
                operation["x-role"].as_str().unwrap_or_else(|| panic!("{method} {path} names no role"));
            assert!(["public", "viewer", "operator", "admin"].contains(&role));
        }
    }

    // Everything speaks in problems.
    client.get("/no-such-thing").await.refused(404, "not-found");
    client.get("/api/v2/tasks").await.refused(404, "not-found");
    client.get("/tasks/no-such-task").await.refused(404, "not-found");
    client.get("/tasks/t_00000000000000000000000000").await.refused(404, "not-found");
    let allowed = client.send(client.request(Method::DELETE, "/tasks")).await;
    assert!(allowed.header("allow").contains("GET"));
    allowed.refused(405, "method-not-allowed");
    client.with(Method::GET, "/tasks", ("accept", "text/html"), None).await.refused(406, "not-acceptable");
    let body = |kind: &str, bytes: Vec<u8>| {
        client.request(Method::POST, "/tasks").header("content-type", kind).body(bytes)
    };
    client.send(body("text/plain", b"{}".to_vec())).await.refused(415, "unsupported-media-type");
    client.send(body("application/json", b"{\"name\": ".to_vec())).await.refused(400, "malformed-json");
    client
        .send(body("application/json", b"{\"name\": \"\xff\xfe\"}".to_vec()))
        .await
        .refused(400, "malformed-json");
    let most = usize::try_from(system["limits"]["body_bytes_max"].as_u64().unwrap()).unwrap();
    client.send(body("application/json", vec![b' '; most + 1])).await.refused(413, "body-too-large");
    client.get("/tasks/%ff%fe").await.refused(400, "invalid-parameter");
    client.get("/tasks/a/tables/%c3%28/t").await.refused(400, "invalid-parameter");

    // All faults at once, each with its place; unknown fields by name.
    let bad = json!({"name": "UPPER", "source": {"topic": 7, "colour": "red"}, "target": null, "objects": {"include": []}, "nmae": 1});
    let problem = client.post("/tasks", bad).await.refused(422, "invalid-body");
    let found = pointers(&problem);
    for place in ["/name", "/source/topic", "/source/colour", "/target", "/objects/include", "/nmae"] {
        assert!(found.contains(&place), "{place} is not told: {problem:#}");
    }
    for wrong in [json!([]), json!("a"), json!(7), json!(null)] {
        client.post("/tasks", wrong).await.refused(422, "invalid-body");
    }
    let problem = client.get("/tasks?limit=0&status=odd&colour=red").await.refused(400, "invalid-parameter");
    let parameters: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["parameter"].as_str().unwrap())
        .collect();
    assert_eq!(parameters.len(), 3, "{problem:#}");
    for list in ["/tasks", "/connections", "/events", "/alerts", "/alert-rules"] {
        for limit in ["0", "501", "-1", "x", "1.5", ""] {
            client.get(&format!("{list}?limit={limit}")).await.refused(400, "invalid-parameter");
        }
        client.get(&format!("{list}?cursor=bm90LW91cnM")).await.refused(400, "invalid-cursor");
        client.get(&format!("{list}?cursor=%00")).await.refused(400, "invalid-cursor");
        let page = client.get(&format!("{list}?limit=500")).await.is(200);
        assert!(page["items"].is_array() && page.get("next_cursor").is_some(), "{list}: {page}");
    }

    // Every path that names something says of an unknown one that it is not there.
    let connection = json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "u"});
    let tables = json!({"tables": [{"schema": "a", "table": "b"}]});
    for (method, path, body) in [
        ("GET", "/connections/none", None),
        ("PATCH", "/connections/none", Some(connection)),
        ("DELETE", "/connections/none", None),
        ("POST", "/connections/none/test", None),
        ("GET", "/connections/none/catalog", None),
        ("GET", "/connections/none/throttle", None),
        ("PUT", "/connections/none/throttle", Some(json!({}))),
        ("DELETE", "/tasks/none", None),
        ("GET", "/tasks/none/spec", None),
        ("PATCH", "/tasks/none/spec", Some(json!({}))),
        ("POST", "/tasks/none/objects/add", Some(json!({"tables": ["a.b"]}))),
        ("POST", "/tasks/none/objects/remove", Some(json!({"tables": ["a.b"]}))),
        ("POST", "/tasks/none/precheck", None),
        ("GET", "/tasks/none/precheck", None),
        ("POST", "/tasks/none/plan", None),
        ("GET", "/tasks/none/plan", None),
        ("POST", "/tasks/none/start", None),
        ("POST", "/tasks/none/pause", None),
        ("POST", "/tasks/none/resume", None),
        ("POST", "/tasks/none/stop", None),
        ("POST", "/tasks/none/reset", Some(json!({"target_tables": "keep"}))),
        ("GET", "/tasks/none/tables", None),
        ("GET", "/tasks/none/tables/a/b", None),
        ("POST", "/tasks/none/tables/pause", Some(tables.clone())),
        ("POST", "/tasks/none/tables/resync", Some(tables)),
        ("GET", "/tasks/none/checkpoint", None),
        ("PUT", "/tasks/none/checkpoint", Some(json!({"offset": "1"}))),
        ("GET", "/tasks/none/watermark", None),
        ("GET", "/tasks/none/diagnosis", None),
        ("GET", "/tasks/none/messages?offset=1", None),
        ("GET", "/tasks/none/ddl", None),
        ("GET", "/tasks/none/ddl/1", None),
        ("POST", "/tasks/none/ddl/1/skip", None),
        ("POST", "/tasks/none/ddl/1/replace", Some(json!({"statements": ["SELECT 1"]}))),
        ("POST", "/tasks/none/ddl/1/retry", None),
        ("GET", "/tasks/none/dead-letters", None),
        ("GET", "/tasks/none/dead-letters/1", None),
        ("POST", "/tasks/none/dead-letters/1/retry", None),
        ("POST", "/tasks/none/dead-letters/discard", Some(json!({"all": true}))),
        ("GET", "/tasks/none/throttle", None),
        ("PUT", "/tasks/none/throttle", Some(json!({}))),
        ("GET", "/tasks/none/events", None),
        ("GET", "/tasks/none/logs", None),
        ("GET", "/tasks/none/series", None),
        ("POST", "/tasks/none/export", None),
        ("GET", "/alert-rules/none", None),
        ("DELETE", "/alert-rules/none", None),
        ("POST", "/alert-rules/none/test", None),
        ("GET", "/alerts/999", None),
        ("GET", "/tokens/none", None),
        ("DELETE", "/tokens/none", None),
    ] {
        let mut request = client.request(method.parse().unwrap(), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        client.send(request).await.refused(404, "not-found");
    }

    // No page of another site, and no other name, reaches a server without tokens.
    client
        .with(Method::POST, "/tasks", ("origin", "https://evil.example"), Some(json!({})))
        .await
        .refused(403, "origin-refused");
    client.with(Method::GET, "/tasks", ("host", "evil.example"), None).await.refused(403, "host-refused");
}

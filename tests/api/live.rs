//! Throttles and tables of a task, as far as they can be seen without servers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, pointers};

#[tokio::test]
async fn the_throttle_of_a_task_is_a_part_of_its_spec() {
    let app = TestApp::start().await.with_task("a").await;
    let reply = app.get("/tasks/a/throttle").await;
    assert_eq!(reply.headers["etag"], "\"1\"");
    let none = json!({"preset": "none", "full_rows_per_second": null, "full_bytes_per_second": null,
        "incremental_rows_per_second": null, "incremental_bytes_per_second": null, "connections": null});
    assert_eq!(reply.expect(200), none);

    let dry = app.put("/tasks/a/throttle?dry_run=true", json!({"preset": "small"})).await.expect(200);
    assert_eq!(app.get("/tasks/a/throttle").await.expect(200), none, "a dry run keeps nothing");
    let reply = app.put("/tasks/a/throttle", json!({"preset": "small"})).await;
    assert_eq!(reply.headers["etag"], "\"2\"");
    let small = reply.expect(200);
    assert_eq!(small, dry);
    assert_eq!((&small["preset"], &small["full_rows_per_second"]), (&json!("small"), &json!(2000)));
    let fields: Vec<_> = small["effects"].as_array().unwrap().iter().map(|effect| &effect["field"]).collect();
    assert_eq!(fields, ["/throttle/full_rows_per_second", "/throttle/incremental_rows_per_second"]);
    assert_eq!(app.get("/tasks/a/spec").await.expect(200)["throttle"]["incremental_rows_per_second"], 2000);
    // What reading gave changes nothing; a field beside the preset wins.
    let read = app.get("/tasks/a/throttle").await.expect(200);
    assert_eq!(app.put("/tasks/a/throttle", read).await.expect(200)["effects"], json!([]));
    let mixed = json!({"preset": "micro", "full_rows_per_second": 0, "connections": 2});
    let mixed = app.put("/tasks/a/throttle", mixed).await.expect(200);
    assert_eq!((&mixed["preset"], &mixed["full_rows_per_second"]), (&Value::Null, &json!(0)));
    assert_eq!((&mixed["incremental_rows_per_second"], &mixed["connections"]), (&json!(200), &json!(2)));

    let stale = app.client.put(app.url("/tasks/a/throttle")).header("if-match", "\"1\"");
    app.send(stale.json(&json!({}))).await.problem(412, "precondition-failed");
    let faulty = json!({"preset": "huge", "full_rows_per_second": -1, "rows": 5});
    let problem = app.put("/tasks/a/throttle", faulty).await.problem(422, "invalid-body");
    let places: Vec<_> = pointers(&problem).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/full_rows_per_second", "/preset", "/rows"]);
    app.get("/tasks/b/throttle").await.problem(404, "not-found");

    // Live: in force at once while the task runs.
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let answer = app.put("/tasks/a/throttle", json!({})).await.expect(200);
    assert!(answer["effects"].as_array().unwrap().iter().all(|effect| effect["effect"] == "now"), "{answer}");
}

#[tokio::test]
async fn a_connection_has_a_throttle_for_all_its_tasks() {
    let app = TestApp::start().await.with_task("a").await;
    let answer = app.put("/connections/target/throttle", json!({"preset": "medium"})).await.expect(200);
    assert_eq!((&answer["full_rows_per_second"], &answer["preset"]), (&json!(5000), &json!("medium")));
    assert!(answer["effects"][0]["detail"].as_str().unwrap().contains("for a"), "{answer}");
    let reply = app.get("/connections/target/throttle").await;
    assert_eq!(reply.headers["etag"], "\"2\"");
    assert_eq!(reply.expect(200)["incremental_rows_per_second"], 5000);
    // Kept when the connection is written again.
    app.patch("/connections/target?verify=false", json!({"password": "x"})).await.expect(200);
    assert_eq!(app.get("/connections/target/throttle").await.expect(200)["preset"], "medium");

    let tidb = app.put("/connections/tidb/throttle", json!({"preset": "micro"})).await.expect(200);
    assert_eq!((&tidb["preset"], &tidb["incremental_rows_per_second"]), (&json!("micro"), &Value::Null));
    let wrong = json!({"incremental_rows_per_second": 5, "connections": 1});
    let problem = app.put("/connections/tidb/throttle", wrong).await.problem(422, "invalid-body");
    assert_eq!(pointers(&problem).len(), 2, "{problem}");
    let wrong = json!({"full_rows_per_second": 5, "full_bytes_per_second": 1});
    let problem = app.put("/connections/kafka/throttle", wrong).await.problem(422, "invalid-body");
    assert_eq!(pointers(&problem).len(), 2, "{problem}");
    let stale = app.client.put(app.url("/connections/target/throttle")).header("if-match", "\"1\"");
    app.send(stale.json(&json!({}))).await.problem(412, "precondition-failed");
    app.put("/connections/none/throttle", json!({})).await.problem(404, "not-found");
}

#[tokio::test]
async fn tables_come_and_go_by_name_and_by_pattern() {
    let app = TestApp::start().await.with_task("a").await;
    let post = async |path: &str, body: Value| app.request(Method::POST, path, Some(body)).await;
    let objects = async || app.get("/tasks/a/spec").await.expect(200)["objects"].clone();
    let body = json!({"tables": ["crm.*", {"schema": "log", "table": "a.b"}], "rules": {"crm.c": {"filter": "id > 1"}}});
    let dry = post("/tasks/a/objects/add?dry_run=true", body.clone()).await.expect(200);
    assert_eq!(objects().await["include"], json!(["shop.*"]));
    let answer = post("/tasks/a/objects/add", body).await.expect(202);
    assert_eq!((&answer["effects"], &answer["tables"]), (&dry["effects"], &json!([])));
    assert_eq!(objects().await["include"], json!(["shop.*", "crm.*", "log.`a.b`"]));
    assert_eq!(objects().await["tables"]["crm.c"]["filter"], "id > 1");
    post("/tasks/a/objects/add?wait_ms=1000", json!({"tables": ["crm.x"]})).await.expect(200);

    post("/tasks/a/objects/remove", json!({"tables": [{"schema": "SHOP", "table": "t"}, "crm.*"]}))
        .await
        .expect(202);
    let left = objects().await;
    assert_eq!((&left["include"], &left["exclude"]), (&json!(["shop.*", "log.`a.b`"]), &json!(["SHOP.t"])));
    assert_eq!(left["tables"], json!({}));
    for (path, body, place) in [
        ("add", json!({"tables": []}), "/tables"),
        ("add", json!({"tables": ["a"]}), "/tables/0"),
        ("add", json!({"tables": [5]}), "/tables/0"),
        (
            "add",
            json!({"tables": ["shop.q"], "rules": {"shop.q": {"filter": "id >"}}}),
            "/objects/tables/shop.q/filter",
        ),
        ("remove", json!({"tables": ["shop.*", "log.`a.b`"]}), "/tables"),
        ("remove", json!({}), "/tables"),
    ] {
        let problem = post(&format!("/tasks/a/objects/{path}"), body).await.problem(422, "invalid-body");
        assert_eq!(pointers(&problem)[0].0, place, "{problem}");
    }
    post("/tasks/b/objects/add", json!({"tables": ["a.b"]})).await.problem(404, "not-found");
}

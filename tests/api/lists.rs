use serde_json::{Value, json};

use crate::app::{TestApp, spec};

fn names(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_are_stable_while_rows_come_and_go() {
    let app = TestApp::start().await.with_connections().await;
    for name in ["c", "a", "b", "e", "d"] {
        app.create(spec(name)).await.expect(201);
    }
    let first = app.get("/tasks?limit=2").await.expect(200);
    assert_eq!(names(&first), ["c", "a"]);
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    app.delete("/tasks/c").await.expect(204);
    app.delete("/tasks/a").await.expect(204);
    app.create(spec("z")).await.expect(201);
    let second = app.get(&format!("/tasks?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(names(&second), ["b", "e"]);
    let cursor = second["next_cursor"].as_str().unwrap().to_owned();
    let third = app.get(&format!("/tasks?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(names(&third), ["d", "z"]);
    assert_eq!(third["next_cursor"], Value::Null);
    app.get(&format!("/tasks?status=running&cursor={cursor}")).await.problem(400, "invalid-cursor");

    let first = app.get("/connections?limit=3").await.expect(200);
    assert_eq!(names(&first), ["adb", "kafka", "target"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(names(&app.get(&format!("/connections?limit=3&cursor={cursor}")).await.expect(200)), ["tidb"]);
    assert_eq!(names(&app.get("/connections?kind=adb").await.expect(200)), ["adb"]);
}

#[tokio::test]
async fn tasks_are_found_by_what_they_are() {
    let app = TestApp::start().await.with_connections().await;
    for (name, label) in [("shop-a", "prod"), ("shop-b", "test"), ("crm", "prod")] {
        let mut body = spec(name);
        body["labels"] = json!({"env": label});
        app.create(body).await.expect(201);
    }
    app.post("/tasks/shop-b/start?wait_ms=10000").await.expect(200);
    for (query, expected) in [
        ("name_prefix=shop", vec!["shop-a", "shop-b"]),
        ("label=env%3Dprod", vec!["shop-a", "crm"]),
        ("label=env&label=env%3Dtest", vec!["shop-b"]),
        ("label=none", vec![]),
        ("status=running", vec!["shop-b"]),
        ("status=created&label=env%3Dprod&limit=1", vec!["shop-a"]),
        ("health=ok", vec!["shop-a", "shop-b", "crm"]),
        ("health=failed", vec![]),
        ("phase=full", vec![]),
    ] {
        assert_eq!(names(&app.get(&format!("/tasks?{query}")).await.expect(200)), expected, "{query}");
    }
    // Found by the labels that it has now; none of a task that is gone.
    app.patch("/tasks/crm/spec", json!({"labels": {"env": "stage", "team": "\"a' -- 雪"}})).await.expect(200);
    app.delete("/tasks/shop-a").await.expect(204);
    for (query, expected) in [
        ("label=env%3Dprod", vec![]),
        ("label=env%3Dstage", vec!["crm"]),
        ("label=env", vec!["shop-b", "crm"]),
        ("label=team%3D%22a'%20--%20%E9%9B%AA", vec!["crm"]),
        ("label=%22%27%20or%20true%20--", vec![]),
    ] {
        assert_eq!(names(&app.get(&format!("/tasks?{query}")).await.expect(200)), expected, "{query}");
    }
}

#[tokio::test]
async fn events_tell_what_happened_in_one_order() {
    let app = TestApp::start().await.with_task("a").await;
    let id = app.get("/tasks/a").await.expect(200)["id"].as_str().unwrap().to_owned();
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    let events = app.get("/tasks/a/events").await.expect(200);
    let messages: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["task a created", "start a", "running", "pause a", "pausing", "paused"]);
    let ids: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted());
    let later = app.get(&format!("/tasks/a/events?after={}", ids[3])).await.expect(200);
    assert_eq!(later["items"].as_array().unwrap().len(), 2);
    let page = app.get("/events?limit=5").await.expect(200);
    assert_eq!(page["items"][0]["kind"], "connection");
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = app.get(&format!("/events?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(next["items"][0]["message"], "start a");

    app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
    app.delete("/tasks/a").await.expect(204);
    let kept = app.get(&format!("/tasks/{id}/events")).await.expect(200);
    assert_eq!(kept["items"].as_array().unwrap().last().unwrap()["message"], "delete a");
    app.get("/tasks/a/events").await.problem(404, "not-found");
}

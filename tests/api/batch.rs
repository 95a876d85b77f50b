use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, Script, TestApp, pointers, spec};

async fn three() -> TestApp {
    let app = TestApp::start().await.with_connections().await;
    for (name, label) in [("shop-a", "prod"), ("shop-b", "test"), ("crm", "prod")] {
        let mut body = spec(name);
        body["labels"] = json!({"env": label});
        app.create(body).await.expect(201);
    }
    app
}

async fn command(app: &TestApp, query: &str, command: &str, select: Value) -> Reply {
    let body = json!({"command": command, "select": select});
    app.request(Method::POST, &format!("/tasks/commands{query}"), Some(body)).await
}

fn outcomes(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| (text(&result["name"]), text(&result["outcome"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test]
async fn a_command_for_many_has_a_result_for_each() {
    let app = three().await;
    let dry = command(&app, "?dry_run=true", "start", json!({"all": true})).await.expect(200);
    assert_eq!((&dry["selected"], &dry["accepted"]), (&json!(3), &json!(3)));
    assert_eq!(app.get("/tasks?status=created").await.expect(200)["items"].as_array().unwrap().len(), 3);

    let started =
        command(&app, "?wait_ms=10000", "start", json!({"labels": {"env": "prod"}})).await.expect(200);
    assert_eq!(outcomes(&started), pairs(&[("shop-a", "reached"), ("crm", "reached")]));
    assert_eq!(started["results"][0]["task_status"], "running");
    let again = command(&app, "", "start", json!({"labels": {"env": null}})).await.expect(200);
    let found = outcomes(&again);
    assert_eq!((found[0].1.as_str(), found[2].1.as_str()), ("unchanged", "unchanged"), "{again}");
    app.until_status("shop-b", "running").await;

    app.post("/tasks/shop-b/stop?wait_ms=10000").await.expect(200);
    let names = json!({"names": ["shop-b", "crm", "nobody"]});
    let paused = command(&app, "?wait_ms=10000", "pause", names).await.expect(200);
    assert_eq!(outcomes(&paused), pairs(&[("nobody", "refused"), ("shop-b", "refused"), ("crm", "reached")]));
    let results = paused["results"].as_array().unwrap();
    assert_eq!((&results[0]["code"], &results[0]["task_id"]), (&json!("not-found"), &Value::Null));
    assert_eq!(
        (&results[1]["code"], &results[1]["task_status"], &results[1]["allowed_from"]),
        (&json!("invalid-transition"), &json!("stopped"), &json!(["running", "failed"]))
    );
    assert_eq!(
        (&paused["selected"], &paused["accepted"], &paused["refused"]),
        (&json!(3), &json!(1), &json!(2))
    );

    let gone = command(&app, "", "delete", json!({"status": ["stopped", "finished"]})).await.expect(200);
    assert_eq!(outcomes(&gone), pairs(&[("shop-b", "reached")]));
    app.get("/tasks/shop-b").await.problem(404, "not-found");
    let none = command(&app, "", "pause", json!({"name_prefix": "nothing"})).await.expect(200);
    assert_eq!(none["results"], json!([]));
}

#[tokio::test]
async fn a_task_that_fails_while_it_is_waited_for_is_told() {
    let app = three().await;
    app.stage.set(Script::Fail(tidegate::error::Error::internal("x")));
    let started = command(&app, "?wait_ms=10000", "start", json!({"names": ["crm"]})).await.expect(200);
    // It may be seen running for a moment.
    let result = &started["results"][0];
    assert!(result["code"] == "task-failed" || result["outcome"] == "reached", "{started}");
    app.until_status("crm", "failed").await;
    let failed = command(&app, "", "stop", json!({"health": "failed"})).await.expect(200);
    assert_eq!(failed["selected"], 1);
}

#[tokio::test]
async fn a_selection_says_what_it_means() {
    let app = three().await;
    let problem = command(&app, "", "stop", json!({})).await.problem(422, "invalid-body");
    assert_eq!(pointers(&problem), [("/select".to_owned(), "empty".to_owned())]);
    let bad =
        json!({"command": "explode", "select": {"status": ["odd"], "colour": "red", "names": "a"}, "x": 1});
    let problem = app.request(Method::POST, "/tasks/commands", Some(bad)).await.problem(422, "invalid-body");
    let places: Vec<_> = pointers(&problem).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/command", "/select/colour", "/select/names", "/select/status/0", "/x"]);
    let problem = command(&app, "", "stop", json!({"condition": "tired"})).await.problem(422, "invalid-body");
    assert_eq!(pointers(&problem), [("/select/condition".to_owned(), "invalid".to_owned())]);
    assert_eq!(command(&app, "", "stop", json!({"condition": "retrying"})).await.expect(200)["selected"], 0);
    app.request(Method::POST, "/tasks/commands", Some(json!({}))).await.problem(422, "invalid-body");
    for name in ["summary", "commands", "import"] {
        let problem = app.create(spec(name)).await.problem(422, "invalid-body");
        assert_eq!(pointers(&problem), [("/name".to_owned(), "reserved".to_owned())]);
    }
}

#[tokio::test]
async fn the_summary_counts_by_every_word() {
    let app = three().await;
    app.post("/tasks/crm/start?wait_ms=10000").await.expect(200);
    let progress = app.stage.progress();
    let now = chrono::Utc::now().timestamp_millis();
    progress.advance_watermark(tidegate::model::Tso(u64::try_from(now - 60_000).unwrap() << 18));
    let summary = app.get("/tasks/summary").await.expect(200);
    assert_eq!(summary["total"], 3);
    assert_eq!(summary["status"]["created"], 2);
    assert_eq!(summary["status"]["running"], 1);
    assert_eq!(summary["status"]["failed"], 0);
    assert_eq!(summary["phase"]["none"], 3);
    assert_eq!(summary["health"], json!({"ok": 3, "degraded": 0, "blocked": 0, "failed": 0}));
    assert_eq!(summary["worst_lag"]["name"], "crm");
    assert!(summary["worst_lag"]["lag_ms"].as_i64().unwrap() >= 60_000);
    let part = app.get("/tasks/summary?label=env%3Dtest").await.expect(200);
    assert_eq!((&part["total"], &part["worst_lag"]), (&json!(1), &Value::Null));
    app.get("/tasks/summary?status=odd").await.problem(400, "invalid-parameter");
}

//! Alert rules, alerts, and webhooks that listen, refuse, hang and talk nonsense.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use secrecy::SecretString;
use serde_json::{Value, json};
use tidegate::engine::progress::Phase;
use tidegate::error::{Error, ErrorKind};
use tidegate::model::Tso;
use tidegate::observe::notify::signature;
use tidegate::store::now_ms;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{Logs, Script, TestApp, pointers, spec};

/// A webhook that keeps what it gets and answers as it is told, then 204.
#[derive(Clone, Default)]
struct Hook {
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Hook {
    async fn start(answers: &[u16]) -> (Self, String) {
        let hook = Self::default();
        *hook.answers.lock().unwrap() =
            answers.iter().rev().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(Self::take)).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hook, url)
    }

    async fn take(State(hook): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let text = String::from_utf8(body.to_vec()).unwrap();
        hook.got.lock().unwrap().push((headers, text));
        let answer = hook.answers.lock().unwrap().pop();
        std::future::ready(answer.unwrap_or(StatusCode::NO_CONTENT)).await
    }

    /// Waits for so many calls; gives headers and body of each.
    async fn calls(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        for _ in 0..3000 {
            if self.got.lock().unwrap().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let got = self.got.lock().unwrap();
        assert!(got.len() >= count, "{} calls, {count} wanted", got.len());
        got.iter().map(|(headers, body)| (headers.clone(), serde_json::from_str(body).unwrap())).collect()
    }
}

/// Takes connections and says `words`, then nothing more.
async fn rude(words: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 512];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(words.as_bytes()).await;
            held.push(stream);
        }
    });
    url
}

fn alerts(page: &Value) -> Vec<(String, String, String)> {
    let text = |alert: &Value, field: &str| alert[field].as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap().iter();
    items.map(|alert| (text(alert, "rule"), text(alert, "task_name"), text(alert, "state"))).collect()
}

fn fired(rule: &str, task: &str, state: &str) -> (String, String, String) {
    (rule.to_owned(), task.to_owned(), state.to_owned())
}

#[tokio::test]
async fn open_dead_letters_are_counted_for_charts_and_told() {
    let (hook, url) = Hook::start(&[]).await;
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    app.app.observer().end();
    for task in ["a", "b"] {
        app.post(&format!("/tasks/{task}/start?wait_ms=10000")).await.expect(200);
    }
    let rule = json!({"kind": "dead_letters", "threshold_count": 2, "webhook": {"url": url, "secret": "k"}});
    app.put("/alert-rules/letters", rule).await.expect(201);
    let database = format!("sqlite:{}", app.folder.path().join("data/tidegate.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    // Two are open for `a`, one for `b`; one of `a` is decided already.
    for (task, n, state) in [("a", 1, "open"), ("a", 2, "discarded"), ("a", 3, "open"), ("b", 1, "open")] {
        sqlx::query(
            "insert into dead_letters (task_id, n, schema_name, table_name, schema_key, table_key, phase, operation, key_columns,
             key_bytes, columns, offset, nth, commit_ts, error, state, created_at, updated_at)
             select id, ?2, 's', 't', 's', 't', 'incremental', 'insert', '[]', x'00', '[]', ?2, 0, 1,
             '{\"kind\": \"value_refused\", \"message\": \"no\"}', ?3, 1, 1 from tasks where name = ?1",
        )
        .bind(task)
        .bind(n)
        .bind(state)
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
    app.app.observer().look(now_ms()).await.unwrap();
    assert_eq!(alerts(&app.get("/alerts").await.expect(200)), [fired("letters", "a", "firing")]);
    let told = hook.calls(1).await;
    assert_eq!((&told[0].1["alert"]["value"], &told[0].1["alert"]["threshold"]), (&json!(2.0), &json!(2.0)));
    for (task, open) in [("a", 2.0), ("b", 1.0)] {
        let series = app.get(&format!("/tasks/{task}/series?names=dead_letters")).await.expect(200);
        let values = series["series"][0]["values"].as_array().unwrap();
        assert_eq!(values.iter().rev().find(|value| !value.is_null()), Some(&json!(open)), "{series}");
    }
}

#[tokio::test]
async fn a_failure_is_told_signed_and_again_until_it_is_taken() {
    let (hook, url) = Hook::start(&[500, 302]).await;
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    app.app.observer().end();
    let rule = json!({"kind": "failure", "webhook": {"url": url, "secret": "key of the hook"}});
    let kept = app.put("/alert-rules/failed", rule).await.expect(201);
    assert_eq!(kept["webhook"], json!({"url": url, "secret": {"set": true}}));
    app.post("/tasks/b/start?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Fail(Error::new(ErrorKind::ValueRefused, "too long").object("shop.orders")));
    app.post("/tasks/a/start").await.expect(202);
    app.until_status("a", "failed").await;
    let now = now_ms();
    app.app.observer().look(now).await.unwrap();
    let page = app.get("/alerts").await.expect(200);
    assert_eq!(alerts(&page), [fired("failed", "a", "firing")]);
    assert_eq!(page["items"][0]["detail"], "shop.orders: too long");

    // Refused twice (a redirect is a refusal), taken at the third try; the same message each time.
    let calls = hook.calls(3).await;
    for (headers, body) in &calls {
        assert_eq!(headers["tidegate-delivery"], calls[0].0["tidegate-delivery"]);
        let timestamp: i64 = headers["tidegate-timestamp"].to_str().unwrap().parse().unwrap();
        let sent = hook.got.lock().unwrap()[0].1.clone();
        let expected = signature(&SecretString::from("key of the hook"), timestamp, &sent).unwrap();
        assert_eq!(headers["tidegate-signature"].to_str().unwrap(), expected);
        assert_eq!((&body["event"], &body["alert"]["task_name"]), (&json!("firing"), &json!("a")));
        assert_eq!(body["text"], "[firing] a: shop.orders: too long");
    }
    // One alert is one message, however often it is looked at.
    app.app.observer().look(now + 10_000).await.unwrap();

    app.stage.set(Script::Work);
    app.post("/tasks/a/resume?wait_ms=10000").await.expect(200);
    app.app.observer().look(now + 20_000).await.unwrap();
    let calls = hook.calls(4).await;
    assert_eq!(calls[3].1["event"], "resolved");
    assert_eq!(calls[3].1["alert"]["id"], calls[0].1["alert"]["id"]);
    assert!(alerts(&app.get("/alerts?state=firing").await.expect(200)).is_empty());
    let id = page["items"][0]["id"].as_i64().unwrap();
    let mut alert = Value::Null;
    for _ in 0..1000 {
        alert = app.get(&format!("/alerts/{id}")).await.expect(200);
        if alert["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["state"] == "delivered") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let deliveries = alert["deliveries"].as_array().unwrap();
    let told: Vec<_> = deliveries
        .iter()
        .map(|told| (told["event"].as_str().unwrap(), told["attempts"].as_i64().unwrap()))
        .collect();
    assert_eq!(told, [("resolved", 1), ("firing", 3)], "{alert}");
    assert_eq!(alert["state"], "resolved");
    let events = app.get("/tasks/a/events").await.expect(200).to_string();
    assert!(events.contains("alert failed fires: shop.orders: too long"), "{events}");

    // The secret is nowhere in the clear.
    for path in ["/alert-rules/failed", "/alert-rules", "/alerts", "/events"] {
        assert!(!app.get(path).await.text.contains("key of the hook"), "{path}");
    }
    assert!(!Logs::of_process().text().contains("key of the hook"));
    app.app.stop().await;
    let bytes = std::fs::read(app.folder.path().join("data/tidegate.db")).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"key of the hook"));
}

#[tokio::test]
async fn a_webhook_that_hangs_or_talks_nonsense_stalls_nobody() {
    let (hook, url) = Hook::start(&[]).await;
    let (silent, nonsense) = (rude("").await, rude("\u{7f}garbage\r\n\r\n").await);
    let app = TestApp::start().await.with_task("a").await;
    app.app.observer().end();
    for (name, url) in [
        ("a-silent", silent.as_str()),
        ("b-nonsense", nonsense.as_str()),
        ("c-gone", "http://127.0.0.1:1/"),
        ("d-good", url.as_str()),
    ] {
        app.put(&format!("/alert-rules/{name}"), json!({"kind": "failure", "webhook": {"url": url}}))
            .await
            .expect(201);
    }
    app.stage.set(Script::Fail(Error::new(ErrorKind::ValueRefused, "no")));
    app.post("/tasks/a/start").await.expect(202);
    app.until_status("a", "failed").await;
    app.app.observer().look(now_ms()).await.unwrap();
    let calls = hook.calls(1).await;
    assert!(!calls[0].0.contains_key("tidegate-signature"), "no secret, no signature");
    // The others are tried again, and what went wrong can be read.
    for name in ["b-nonsense", "c-gone"] {
        let mut rule = Value::Null;
        for _ in 0..2000 {
            rule = app.get(&format!("/alert-rules/{name}")).await.expect(200);
            if rule["deliveries"][0]["attempts"].as_i64().unwrap() >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let delivery = &rule["deliveries"][0];
        assert!(delivery["attempts"].as_i64().unwrap() >= 2, "{rule}");
        assert_eq!(delivery["state"], "pending");
        assert!(delivery["error"].is_string() && delivery["next_try_at"].is_string(), "{rule}");
        assert!(!delivery["error"].as_str().unwrap().contains("127.0.0.1:1/"), "{rule}");
    }
    // A rule that is deleted has nothing more to tell.
    app.delete("/alert-rules/a-silent").await.expect(204);
    app.app.observer().look(now_ms() + 10_000).await.unwrap();
    assert_eq!(
        alerts(&app.get("/alerts?rule=a-silent").await.expect(200)),
        [fired("a-silent", "a", "resolved")]
    );
    // It ends in order although a call is in flight.
    app.app.stop().await;
}

#[tokio::test]
async fn rules_have_a_scope_a_period_and_repeats() {
    let (hook, url) = Hook::start(&[]).await;
    let app = TestApp::start().await.with_connections().await;
    app.app.observer().end();
    for (name, env) in [("in", "prod"), ("out", "test")] {
        let mut body = spec(name);
        body["labels"] = json!({"env": env});
        app.create(body).await.expect(201);
        app.post(&format!("/tasks/{name}/start?wait_ms=10000")).await.expect(200);
        let context = app.stage.context();
        context.store.worker_phase(&context.task, context.epoch, Phase::Incremental).await.unwrap();
        context.progress.advance_watermark(Tso::from_physical_ms(now_ms() - 120_000));
    }
    let rule = json!({
        "kind": "lag", "threshold_ms": 60000, "for_ms": 30000, "repeat_ms": 60000, "labels": {"env": "prod"},
        "recovered": false, "webhook": {"url": url},
    });
    app.put("/alert-rules/lag", rule).await.expect(201);
    let now = now_ms();
    let look = async |after: i64| app.app.observer().look(now + after).await.unwrap();
    look(0).await;
    look(20_000).await;
    assert!(alerts(&app.get("/alerts").await.expect(200)).is_empty(), "not for long enough");
    look(30_000).await;
    assert_eq!(alerts(&app.get("/alerts").await.expect(200)), [fired("lag", "in", "firing")]);
    hook.calls(1).await;
    look(80_000).await;
    look(90_000).await;
    let calls = hook.calls(2).await;
    assert_eq!((&calls[0].1["event"], &calls[1].1["event"]), (&json!("firing"), &json!("repeated")));
    assert!(calls[1].1["alert"]["value"].as_f64() > calls[0].1["alert"]["value"].as_f64());
    assert_eq!(calls[1].1["alert"]["labels"], json!({"env": "prod"}));
    assert_eq!(calls[1].1["alert"]["unit"], "ms");
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("tidegate_alerts_firing{rule=\"lag\"} 1"), "{metrics}");

    // Over, and as wished nobody hears of it; a test message is told at once.
    let id = app.get("/tasks/in").await.expect(200)["id"].as_str().unwrap().to_owned();
    app.post("/tasks/in/stop?wait_ms=10000").await.expect(200);
    look(100_000).await;
    let over = app.get("/alerts").await.expect(200);
    assert_eq!(alerts(&over), [fired("lag", "in", "resolved")]);
    app.post("/alert-rules/lag/test").await.expect(202);
    let calls = hook.calls(3).await;
    assert_eq!((&calls[2].1["event"], &calls[2].1["alert"]), (&json!("test"), &Value::Null));
    // Alerts outlive their task.
    app.delete("/tasks/in").await.expect(204);
    assert_eq!(
        app.get(&format!("/alerts?task={id}")).await.expect(200)["items"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn every_kind_of_rule_finds_its_task() {
    let app = TestApp::start().await.with_task("a").await;
    app.app.observer().end();
    for (name, rule) in [
        ("full", json!({"kind": "full_timeout", "threshold_ms": 3_600_000})),
        ("lag", json!({"kind": "lag"})),
        ("retention", json!({"kind": "retention"})),
        ("still", json!({"kind": "no_progress"})),
        ("off", json!({"kind": "lag", "threshold_ms": 1, "enabled": false})),
    ] {
        app.put(&format!("/alert-rules/{name}"), rule).await.expect(201);
    }
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let (context, progress) = (app.stage.context(), app.stage.progress());
    context.store.worker_phase(&context.task, context.epoch, Phase::Full).await.unwrap();
    let now = now_ms();
    let firing = async |after: i64| {
        app.app.observer().look(now + after).await.unwrap();
        let mut rules: Vec<_> = alerts(&app.get("/alerts?state=firing").await.expect(200))
            .into_iter()
            .map(|alert| alert.0)
            .collect();
        rules.sort();
        rules
    };
    assert_eq!(firing(0).await, [""; 0]);
    assert_eq!(firing(700_000).await, ["still"], "nothing has been copied for more than ten minutes");
    progress.rows_copied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(firing(710_000).await, [""; 0]);
    progress.rows_copied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(firing(3_700_000).await, ["full"]);
    context.store.worker_phase(&context.task, context.epoch, Phase::Incremental).await.unwrap();
    progress.advance_watermark(Tso::from_physical_ms(now + 3_720_000));
    progress.set_log_range(0, 100);
    progress.set_next_offset(100);
    progress.set_retention_ms(Some(3 * 86_400_000));
    // At the topic's end nothing is missing, however long nothing comes.
    assert_eq!(firing(3_720_000).await, [""; 0]);
    assert_eq!(firing(3_770_000).await, [""; 0]);
    progress.set_log_range(0, 200);
    assert_eq!(firing(3_780_001).await, ["lag"]);
    assert_eq!(firing(3_721_000 + 2 * 86_400_000).await, ["lag", "retention", "still"]);
    progress.set_log_range(150, 200);
    assert_eq!(firing(3_731_000 + 2 * 86_400_000).await, ["lag", "retention", "still"]);
}

#[tokio::test]
async fn rules_are_written_like_everything_else() {
    let app = TestApp::start().await;
    let url = "https://hooks.example.com/a";
    let body = json!({"kind": "lag", "webhook": {"url": url, "secret": "s"}});
    let dry = app.put("/alert-rules/lag?dry_run=true", body.clone()).await.expect(200);
    assert_eq!(dry["threshold_ms"], 60_000);
    app.get("/alert-rules/lag").await.problem(404, "not-found");
    let created = app.put("/alert-rules/lag", body.clone()).await;
    assert_eq!(created.headers["etag"], "\"1\"");
    created.expect(201);
    // What GET gives can be PUT; nothing changes then.
    let read = app.get("/alert-rules/lag").await.expect(200);
    assert_eq!(app.put("/alert-rules/lag", read.clone()).await.expect(200)["version"], 1);
    assert_eq!(app.put("/alert-rules/lag", body).await.expect(200)["version"], 1);
    let stale = app
        .client
        .put(app.url("/alert-rules/lag"))
        .header("if-match", "\"7\"")
        .json(&json!({"kind": "lag"}))
        .send()
        .await
        .unwrap();
    assert_eq!(stale.status(), 412);
    // The secret stays with its host.
    let moved = json!({"kind": "lag", "webhook": {"url": "https://elsewhere.example.com/a"}});
    app.put("/alert-rules/lag", moved).await.problem(422, "secret-required");
    let path = json!({"kind": "lag", "webhook": {"url": "https://hooks.example.com/b"}});
    let path = app.put("/alert-rules/lag", path).await.expect(200);
    assert_eq!(path["webhook"]["secret"], json!({"set": true}));
    let cleared = json!({"kind": "lag", "webhook": {"url": url, "secret": null}});
    let cleared = app.put("/alert-rules/lag", cleared).await.expect(200);
    assert_eq!(cleared["webhook"]["secret"], json!({"set": false}));

    let bad = app
        .put(
            "/alert-rules/x",
            json!({"kind": "laag", "for_ms": -1, "repeat_ms": 5, "webhook": {"url": "x", "headers": {}}}),
        )
        .await
        .problem(422, "invalid-body");
    let places: Vec<_> = pointers(&bad).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/for_ms", "/kind", "/repeat_ms", "/webhook/headers"]);
    app.put("/alert-rules/X", json!({"kind": "lag"})).await.problem(400, "invalid-parameter");
    app.post("/alert-rules/none/test").await.problem(404, "not-found");
    app.put("/alert-rules/quiet", json!({"kind": "failure"})).await.expect(201);
    app.post("/alert-rules/quiet/test").await.problem(422, "invalid-body");
    let first = app.get("/alert-rules?limit=1").await.expect(200);
    assert_eq!(first["items"][0]["name"], "lag");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = app.get(&format!("/alert-rules?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("quiet"), &Value::Null));
    let gone = app.delete("/alert-rules/quiet?dry_run=true").await.expect(200);
    assert_eq!(gone["effects"].as_array().unwrap().len(), 1);
    app.delete("/alert-rules/quiet").await.expect(204);
    app.delete("/alert-rules/quiet").await.problem(404, "not-found");
    app.get("/alerts/5").await.problem(404, "not-found");
    app.get("/alerts?state=red").await.problem(400, "invalid-parameter");
}

//! Logs, watermark and diagnosis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::engine::progress::Phase;
use tidegate::error::{Endpoint, Error, ErrorKind};
use tidegate::model::Tso;
use tidegate::store::now_ms;

use crate::app::{Script, TestApp};

/// Reads a path until it is as wanted.
async fn until(app: &TestApp, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..2000 {
        last = app.get(path).await.expect(200);
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} never became so: {last}");
}

fn messages(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_task_has_its_own_log_that_outlives_a_restart() {
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    app.post("/tasks/b/start?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Fail(
        Error::new(ErrorKind::ValueRefused, "too long for the column")
            .endpoint(Endpoint::Target)
            .object("shop.orders"),
    ));
    app.post("/tasks/a/start").await.expect(202);
    app.until_status("a", "failed").await;
    let page = until(&app, "/tasks/a/logs", |page| messages(page).contains(&"task failed")).await;
    let line =
        page["items"].as_array().unwrap().iter().find(|line| line["message"] == "task failed").unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["fields"]["error"].as_str().unwrap().contains("shop.orders: too long"), "{line}");
    assert!(line["fields"].get("task.id").is_none());
    // The newest first, nobody else's.
    let all = messages(&page);
    assert_eq!(all.first(), Some(&"task failed"), "{all:?}");
    assert_eq!(all.iter().filter(|message| **message == "task starts").count(), 1);

    let app = app.restart().await;
    let graver = app.get("/tasks/a/logs?level=warn").await.expect(200);
    assert_eq!(messages(&graver), ["task failed"]);
    assert_eq!(messages(&app.get("/tasks/a/logs?text=TOO%20LONG").await.expect(200)), ["task failed"]);
    assert_eq!(messages(&app.get("/tasks/a/logs?text=nothing%20of%20it").await.expect(200)), [""; 0]);
    let at = line["at"].as_str().unwrap();
    assert_eq!(
        messages(&app.get(&format!("/tasks/a/logs?level=error&from={at}")).await.expect(200)).len(),
        1
    );
    assert_eq!(messages(&app.get(&format!("/tasks/a/logs?level=error&to={at}")).await.expect(200)).len(), 0);

    // Pages in both orders hold all lines once.
    let mut backwards: Vec<String> = Vec::new();
    let mut next = String::new();
    loop {
        let page = app.get(&format!("/tasks/a/logs?limit=1{next}")).await.expect(200);
        backwards.extend(messages(&page).into_iter().map(str::to_owned));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    let forwards = app.get("/tasks/a/logs?order=oldest").await.expect(200);
    backwards.reverse();
    assert_eq!(messages(&forwards), backwards);
    assert_eq!(backwards.first().map(String::as_str), Some("task created"));

    for query in ["level=debug", "order=up", "from=now", "lines=5"] {
        app.get(&format!("/tasks/a/logs?{query}")).await.problem(400, "invalid-parameter");
    }
    app.get("/tasks/none/logs").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_log_stays_within_its_bounds() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    let line = |n: usize| {
        std::sync::Arc::new(tidegate::observe::lines::Line {
            task: context.task.0.clone(),
            at_ms: now_ms(),
            level: tidegate::observe::lines::LogLevel::Info,
            target: "tidegate::test".to_owned(),
            message: format!("line {n}"),
            fields: serde_json::Map::new(),
        })
    };
    for batch in 0..6 {
        let lines: Vec<_> = (0..1000).map(|n| line(batch * 1000 + n)).collect();
        context.store.add_log_lines(&lines).await.unwrap();
    }
    let oldest = app.get("/tasks/a/logs?order=oldest&text=line&limit=1").await.expect(200);
    let first: usize = messages(&oldest)[0].strip_prefix("line ").unwrap().parse().unwrap();
    assert!((1000..1100).contains(&first), "{first}");
}

#[tokio::test]
async fn a_watermark_can_be_waited_for() {
    let app = TestApp::start().await.with_task("a").await;
    let plain = app.get("/tasks/a/watermark").await.expect(200);
    assert_eq!(
        plain,
        json!({"watermark": null, "at_least": null, "reached": null, "tables_aside": 0, "lag_ms": null, "task_status": "created"})
    );
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let progress = app.stage.progress();
    let now = now_ms();
    let wanted = Tso::from_physical_ms(now - 1000);
    progress.advance_watermark(Tso::from_physical_ms(now - 2000));
    let not_yet = app.get(&format!("/tasks/a/watermark?at_least={wanted}")).await.expect(200);
    assert_eq!((&not_yet["reached"], &not_yet["at_least"]), (&json!(false), &json!(wanted.to_string())));
    assert_eq!(not_yet["watermark"]["tso"], Tso::from_physical_ms(now - 2000).to_string());
    let waiting = format!("/tasks/a/watermark?at_least={wanted}&wait_ms=60000");
    let (reached, ()) = tokio::join!(app.get(&waiting), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        progress.advance_watermark(wanted);
    });
    assert_eq!(reached.expect(200)["reached"], true);
    let over = app.get(&format!("/tasks/a/watermark?at_least={}&wait_ms=50", wanted.0 + 1)).await.expect(200);
    assert_eq!(over["reached"], false);

    // A task that fails meanwhile is not waited for.
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.stage.set(Script::Fail(Error::new(ErrorKind::AccessDenied, "no")));
    app.post("/tasks/a/resume").await.expect(202);
    let never = format!("/tasks/a/watermark?at_least={}&wait_ms=60000", u64::MAX >> 1);
    let (failed, _) = tokio::join!(app.get(&never), app.until_status("a", "failed"));
    failed.problem(409, "task-failed");
    for query in ["at_least=tomorrow", "at_least=0", "at_least=-5", "wait_ms=60001"] {
        app.get(&format!("/tasks/a/watermark?{query}")).await.problem(400, "invalid-parameter");
    }
    // The source must be asked for its time.
    app.get("/tasks/a/watermark?at_least=now").await.problem(502, "endpoint-unreachable");
}

#[tokio::test]
async fn a_diagnosis_names_what_holds_a_task_back() {
    let app = TestApp::start().await.with_task("a").await;
    let still = app.get("/tasks/a/diagnosis").await.expect(200);
    assert_eq!(still["bottleneck"], Value::Null);
    assert!(still["summary"].as_str().unwrap().contains("created"), "{still}");
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    context.store.worker_phase(&context.task, context.epoch, Phase::Incremental).await.unwrap();
    let progress = app.stage.progress();
    progress.set_log_range(0, 100_000);
    progress.set_next_offset(1);
    let found = until(&app, "/tasks/a/diagnosis", |found| {
        progress.set_next_offset(progress.next_offset().unwrap() + 1);
        progress.time.blocked_us.fetch_add(100_000, Ordering::Relaxed);
        progress.time.reading_us.fetch_add(10, Ordering::Relaxed);
        found["bottleneck"] == "apply" && found["catch_up"]["eta_ms"].is_u64()
    })
    .await;
    let names: Vec<_> = found["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|evidence| evidence["name"].as_str().unwrap())
        .collect();
    for wanted in ["messages_behind", "time_blocked", "applied_per_second"] {
        assert!(names.contains(&wanted), "{found}");
    }
    assert!(found["catch_up"]["estimated_end"].is_string());
    let error = Error::new(ErrorKind::TargetLocked, "the disk is full").endpoint(Endpoint::Target);
    context.store.worker_retry(&context.task, context.epoch, &error, 2, now_ms(), now_ms()).await.unwrap();
    let locked = app.get("/tasks/a/diagnosis").await.expect(200);
    assert_eq!(locked["bottleneck"], "locked");
    assert!(locked["summary"].as_str().unwrap().contains("the disk is full"));
}

#[tokio::test]
async fn a_message_needs_a_topic_and_a_position() {
    let app = TestApp::start().await.with_task("a").await;
    app.get("/tasks/a/messages").await.problem(404, "not-found");
    app.get("/tasks/a/messages?offset=x").await.problem(400, "invalid-parameter");
    app.get("/tasks/a/messages?offset=5").await.problem(502, "endpoint-unreachable");
}

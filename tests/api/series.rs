//! Figures for charts.

use std::sync::atomic::Ordering;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tidegate::engine::progress::Phase;
use tidegate::model::{TableName, Tso};
use tidegate::store::now_ms;

use crate::app::TestApp;

fn time(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Values of a figure in an answer.
fn values<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    let found = answer["series"].as_array().unwrap().iter().find(|series| series["name"] == name);
    found.unwrap_or_else(|| panic!("no series {name}: {answer}"))["values"].as_array().unwrap()
}

/// A running task that is looked at by the test alone.
async fn watched() -> TestApp {
    let app = TestApp::start().await.with_task("a").await;
    app.app.observer().end();
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    context.store.worker_phase(&context.task, context.epoch, Phase::Incremental).await.unwrap();
    app
}

/// Minutes ago, at a whole ten minutes.
fn ago(minutes: i64) -> i64 {
    (now_ms() - minutes * 60_000).div_euclid(600_000) * 600_000
}

#[tokio::test]
async fn a_chart_gets_what_was_sampled_and_null_where_nothing_was() {
    let app = watched().await;
    let progress = app.stage.progress();
    let start = ago(15);
    progress.set_log_range(0, 500);
    progress.table(&TableName::new("shop", "orders"), |counters| counters.rows_estimated = Some(400));
    // Samples at 0, 10 and 30 seconds; none at 20.
    for (second, changes) in [(0, 0), (10, 250), (30, 0)] {
        let now = start + second * 1000;
        progress.advance_watermark(Tso::from_physical_ms(now - 5000 - second));
        progress.changes_applied.fetch_add(changes, Ordering::Relaxed);
        progress.set_next_offset(100 + second);
        app.app.observer().look(now).await.unwrap();
    }
    let (from, to) = (time(start), time(start + 40_000));
    let answer = app.get(&format!("/tasks/a/series?from={from}&to={to}")).await.expect(200);
    assert_eq!(answer["from"], from.as_str());
    assert_eq!(answer["to"], to.as_str());
    assert_eq!(answer["step_ms"], 10_000);
    assert_eq!(answer["times"], json!([start, start + 10_000, start + 20_000, start + 30_000].map(time)));
    assert_eq!(values(&answer, "lag_ms"), [json!(5000.0), json!(5010.0), Value::Null, json!(5030.0)]);
    // A rate needs two samples.
    assert_eq!(values(&answer, "changes_per_second"), [Value::Null, json!(25.0), Value::Null, json!(0.0)]);
    assert_eq!(values(&answer, "messages_behind"), [json!(400.0), json!(390.0), Value::Null, json!(370.0)]);
    assert_eq!(values(&answer, "messages_spare")[1], 110.0);
    assert_eq!(values(&answer, "running")[0], 1.0);
    assert_eq!(values(&answer, "tables")[0], 1.0);
    let lag = &answer["series"].as_array().unwrap().iter().find(|series| series["name"] == "lag_ms").unwrap();
    assert_eq!((&lag["unit"], &lag["aggregate"]), (&json!("ms"), &json!("max")));

    // Every figure is there, has one value per time, and is explained.
    let figures = app.get("/system/series").await.expect(200);
    let names: Vec<_> = figures["items"].as_array().unwrap().iter().map(|figure| &figure["name"]).collect();
    let found: Vec<_> = answer["series"].as_array().unwrap().iter().map(|series| &series["name"]).collect();
    assert_eq!(names, found);
    for series in answer["series"].as_array().unwrap() {
        assert_eq!(series["values"].as_array().unwrap().len(), 4, "{series}");
    }
    let two = app
        .get(&format!("/tasks/a/series?from={from}&to={to}&names=lag_ms,retries&step_ms=20000"))
        .await
        .expect(200);
    assert_eq!(two["series"].as_array().unwrap().len(), 2);
    assert_eq!(values(&two, "lag_ms"), [json!(5010.0), json!(5030.0)]);

    // A paused task lags, and nothing works on it.
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.app.observer().look(start + 60_000).await.unwrap();
    let (from, to) = (time(start + 60_000), time(start + 70_000));
    let answer = app.get(&format!("/tasks/a/series?from={from}&to={to}")).await.expect(200);
    assert_eq!(values(&answer, "running"), [json!(0.0)]);
    assert_eq!(values(&answer, "lag_ms"), [json!(35_030.0)]);
    assert_eq!(values(&answer, "changes_per_second"), [Value::Null]);
}

#[tokio::test]
async fn samples_become_minutes_and_ten_minutes_that_outlive_a_restart() {
    let app = watched().await;
    let progress = app.stage.progress();
    let start = ago(75);
    // An hour and a bit: lag goes up within each minute, every minute retries once.
    for step in 0..=366 {
        let now = start + step * 10_000;
        progress.advance_watermark(Tso::from_physical_ms(now - 1000 * (step % 6 + 1)));
        if step % 6 == 3 {
            progress.retries.fetch_add(1, Ordering::Relaxed);
        }
        app.app.observer().look(now).await.unwrap();
    }
    let app = app.restart().await;
    app.app.observer().end();
    let ask = |from: i64, to: i64, step: i64| {
        format!("/tasks/a/series?from={}&to={}&step_ms={step}", time(from), time(to))
    };
    let minutes = app.get(&ask(start, start + 600_000, 60_000)).await.expect(200);
    assert_eq!(minutes["times"].as_array().unwrap().len(), 10);
    assert_eq!(values(&minutes, "lag_ms"), vec![json!(6000.0); 10]);
    assert_eq!(values(&minutes, "retries"), vec![json!(1.0); 10]);
    assert_eq!(values(&minutes, "running"), vec![json!(1.0); 10]);
    let tens = app.get(&ask(start, start + 3_600_000, 600_000)).await.expect(200);
    assert_eq!(values(&tens, "lag_ms"), vec![json!(6000.0); 6]);
    assert_eq!(values(&tens, "retries"), vec![json!(10.0); 6]);
    // What is not yet rolled up comes from the samples.
    let end = app.get(&ask(start + 3_600_000, start + 4_200_000, 600_000)).await.expect(200);
    assert_eq!(values(&end, "retries"), [json!(1.0)]);

    // Two weeks: at most 1,500 points, and the step says what it became.
    let now = now_ms();
    let wide = app.get(&ask(now - 14 * 86_400_000, now, 1)).await.expect(200);
    assert_eq!(wide["step_ms"], 1_200_000);
    let points = wide["times"].as_array().unwrap().len();
    assert!((1000..=1500).contains(&points), "{points}");
    let retries: f64 = values(&wide, "retries").iter().filter_map(Value::as_f64).sum();
    assert!((60.0..=61.0).contains(&retries), "{retries}");
    assert_eq!(values(&wide, "lag_ms")[0], Value::Null);

    app.delete("/tasks/a").await.problem(409, "invalid-transition");
    app.post("/tasks/a/stop?wait_ms=10000").await.expect(200);
    app.delete("/tasks/a").await.expect(204);
    app.get("/tasks/a/series").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_cannot_be_charted_is_told() {
    let app = TestApp::start().await.with_task("a").await;
    let now = now_ms();
    for query in [
        "names=lag".to_owned(),
        "names=".to_owned(),
        "from=yesterday".to_owned(),
        "step_ms=0".to_owned(),
        "step_ms=-1".to_owned(),
        format!("from={}&to={}", time(now), time(now)),
        format!("from={}", time(now + 60_000)),
        "step=5".to_owned(),
    ] {
        app.get(&format!("/tasks/a/series?{query}")).await.problem(400, "invalid-parameter");
    }
    // A task that has never run has no samples, and that is no fault.
    let answer = app.get("/tasks/a/series").await.expect(200);
    assert!(values(&answer, "lag_ms").iter().all(Value::is_null));
    let ages = app.get("/tasks/a/series?from=1970-01-01T00:00:00Z&to=9999-12-31T23:59:59Z").await.expect(200);
    assert!(ages["times"].as_array().unwrap().len() <= 1500);
}

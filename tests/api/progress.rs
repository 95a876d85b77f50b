use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tidegate::engine::progress::Phase;
use tidegate::error::{Error, ErrorKind};
use tidegate::model::{Offset, Position, TableName, Tso};
use tidegate::store::Checkpoint;

use crate::app::TestApp;

#[tokio::test]
async fn progress_is_what_the_worker_counts() {
    let app = TestApp::start().await.with_task("a").await;
    let before = app.get("/tasks/a").await.expect(200);
    for field in
        ["phase", "checkpoint", "watermark", "lag_ms", "progress", "rates", "retention", "last_error"]
    {
        assert_eq!(before.get(field), Some(&Value::Null), "{field} is there and null");
    }
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    context.store.worker_phase(&context.task, context.epoch, Phase::Full).await.unwrap();
    let progress = app.stage.progress();
    for (table, rows) in [("orders", 50_u64), ("items", 150)] {
        progress.rows_copied.fetch_add(rows, Ordering::Relaxed);
        progress.table(&TableName::new("shop", table), |counters| {
            counters.rows_estimated = Some(400);
            counters.rows_copied = rows;
        });
    }
    let task = app.get("/tasks/a").await.expect(200);
    assert_eq!(task["phase"], "full");
    assert_eq!(task["progress"]["rows_copied"], 200);
    assert_eq!(task["progress"]["rows_estimated"], 800);
    assert_eq!(task["progress"]["percent"], 25.0);

    let tables = app.get("/tasks/a/tables?order=rows").await.expect(200);
    let names: Vec<_> =
        tables["items"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(names, ["items", "orders"]);
    let first = app.get("/tasks/a/tables?order=rows&limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = app.get(&format!("/tasks/a/tables?order=rows&limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(second["items"][0]["table"], "orders");
    assert_eq!(second["next_cursor"], Value::Null);
    let table = app.get("/tasks/a/tables/SHOP/orders").await.expect(200);
    assert_eq!(table["state"], "copying");
    assert_eq!(table["percent"], 12.5);
    assert_eq!(table["target"], json!({"schema": "shop", "table": "orders"}));
    app.get("/tasks/a/tables/shop/none").await.problem(404, "not-found");
    let metrics = app.get("/metrics").await.text;
    for line in ["tidegate_task_rows_estimated{task=\"a\"} 800", "tidegate_task_full_percent{task=\"a\"} 25"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(app.get("/tasks/a/tables?state=following").await.expect(200)["items"], json!([]));

    // Incremental: lag is now minus the watermark, and its counters are there after a pause.
    context.store.worker_phase(&context.task, context.epoch, Phase::Incremental).await.unwrap();
    let now = chrono::Utc::now().timestamp_millis();
    progress.advance_watermark(Tso::from_physical_ms(now - 5000));
    progress.set_next_offset(70);
    progress.set_log_range(10, 100);
    let task = app.get("/tasks/a").await.expect(200);
    let lag = task["lag_ms"].as_i64().unwrap();
    assert!((5000..60_000).contains(&lag), "{lag}");
    assert_eq!(task["watermark"]["tso"], Tso::from_physical_ms(now - 5000).to_string());
    assert_eq!(task["progress"]["percent"], 100.0);
    assert_eq!(task["retention"]["messages_behind"], 30);
    assert_eq!(task["retention"]["end_offset"], "100");
    assert_eq!(
        task["retention"]["left_ms"],
        Value::Null,
        "how long the topic keeps its messages is not known"
    );
    progress.set_retention_ms(Some(3_600_000));
    let left = app.get("/tasks/a").await.expect(200)["retention"]["left_ms"].as_i64().unwrap();
    assert!((3_500_000..3_596_000).contains(&left), "{left}");
    assert_eq!(app.get("/tasks/a/tables/shop/orders").await.expect(200)["state"], "following");
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("tidegate_task_rows_copied_total{task=\"a\"} 200"), "{metrics}");
    assert!(metrics.contains("tidegate_task_messages_behind{task=\"a\"} 30"), "{metrics}");
    assert!(metrics.contains("tidegate_task_dead_letters{task=\"a\"} 0"), "{metrics}");
    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    assert_eq!(app.get("/tasks/a").await.expect(200)["progress"]["rows_copied"], 200);

    progress.set_log_range(71, 100);
    let task = app.get("/tasks/a").await.expect(200);
    assert_eq!(
        (&task["health"], &task["conditions"][0]["type"]),
        (&json!("blocked"), &json!("retention_short"))
    );
}

/// Until when the snapshot of a full sync that stands still is sure to be there: what a pause says before, and the task after it.
#[tokio::test]
async fn a_pause_of_full_sync_says_how_long_the_snapshot_is_kept() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    let now = chrono::Utc::now().timestamp_millis();
    let checkpoint = Checkpoint {
        snapshot: Tso::from_physical_ms(now - 60_000),
        start_offset: Offset(7),
        position: Position::default(),
        cluster_id: "c".to_owned(),
        topic: "t".to_owned(),
        watermark: Tso(0),
        schema_done: true,
        full_done: false,
        bytewise: false,
        mark: 0,
        anchor: None,
        updated_at_ms: now,
    };
    context.store.begin(&context.task, context.epoch, &checkpoint).await.unwrap();
    context.store.worker_phase(&context.task, context.epoch, Phase::Full).await.unwrap();
    let effect = |answer: &Value| answer["effects"][0]["detail"].as_str().unwrap().to_owned();
    let unknown = app.post("/tasks/a/pause?dry_run=true").await.expect(200);
    assert!(!effect(&unknown).contains("snapshot"), "{unknown}");
    app.stage.progress().set_gc_life_ms(Some(600_000));
    let told = effect(&app.post("/tasks/a/pause?dry_run=true").await.expect(200));
    assert!(told.contains("is sure to keep the snapshot of its full sync until 2"), "{told}");
    assert_eq!(app.get("/tasks/a").await.expect(200)["checkpoint"]["snapshot_kept_until"], Value::Null);
    let paused = app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    assert!(effect(&paused).contains("until 2"), "{paused}");
    let until = paused["checkpoint"]["snapshot_kept_until"].as_str().unwrap();
    let until = chrono::DateTime::parse_from_rfc3339(until).unwrap().timestamp_millis();
    assert_eq!(until, now - 60_000 + 600_000);
    let checkpoint = app.get("/tasks/a/checkpoint").await.expect(200);
    assert_eq!(checkpoint["checkpoint"]["snapshot_kept_until"], paused["checkpoint"]["snapshot_kept_until"]);
}

#[tokio::test]
async fn retrying_is_a_condition_and_an_old_run_is_fenced() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let context = app.stage.context();
    let (store, task, epoch) = (&context.store, &context.task, context.epoch);
    let error = Error::new(ErrorKind::Unreachable, "connection refused").hint("check the firewall");
    store.worker_retry(task, epoch, &error, 1, 1_000, 2_000).await.unwrap();
    store.worker_retry(task, epoch, &error, 2, 1_000, 3_000).await.unwrap();
    let read = app.get("/tasks/a").await.expect(200);
    assert_eq!((&read["status"], &read["health"]), (&json!("running"), &json!("degraded")));
    let condition = &read["conditions"][0];
    assert_eq!((&condition["type"], &condition["attempt"]), (&json!("retrying"), &json!(2)));
    assert_eq!(condition["since"], "1970-01-01T00:00:01.000Z");
    assert_eq!(condition["retry_at"], "1970-01-01T00:00:03.000Z");
    assert_eq!(app.get("/tasks?health=degraded").await.expect(200)["items"][0]["name"], "a");
    assert_eq!(app.get("/tasks?condition=retrying").await.expect(200)["items"][0]["name"], "a");
    assert_eq!(app.get("/tasks?condition=retrying&health=ok").await.expect(200)["items"], json!([]));
    assert_eq!(app.get("/tasks?condition=throttled").await.expect(200)["items"], json!([]));
    app.get("/tasks?condition=tired").await.problem(400, "invalid-parameter");
    let summary = app.get("/tasks/summary?condition=retrying").await.expect(200);
    assert_eq!((&summary["total"], &summary["conditions"]["retrying"]), (&json!(1), &json!(1)));
    assert_eq!(summary["conditions"]["throttled"], 0);
    store.worker_recovered(task, epoch).await.unwrap();
    store.worker_recovered(task, epoch).await.unwrap();
    let read = app.get("/tasks/a").await.expect(200);
    assert_eq!((&read["health"], &read["last_error"]), (&json!("ok"), &Value::Null));
    let events = app.get("/tasks/a/events").await.text;
    assert_eq!(events.matches("recovered").count(), 1);
    assert_eq!(events.matches("retrying: connection refused").count(), 1);

    let locked = Error::new(ErrorKind::TargetLocked, "read only");
    store.worker_retry(task, epoch, &locked, 1, 1_000, 2_000).await.unwrap();
    assert_eq!(app.get("/tasks/a").await.expect(200)["health"], "blocked");

    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.post("/tasks/a/resume?wait_ms=10000").await.expect(200);
    let old = [
        store.worker_phase(task, epoch, Phase::Full).await,
        store.worker_retry(task, epoch, &error, 1, 1, 1).await,
        store.worker_recovered(task, epoch).await,
    ];
    for result in old {
        assert_eq!(result.unwrap_err().kind, ErrorKind::Fenced);
    }
    assert_eq!(app.get("/tasks/a").await.expect(200)["phase"], Value::Null);
}

#[tokio::test]
async fn checkpoint_tables_and_ddl_come_from_the_store() {
    let app = TestApp::start().await.with_task("a").await;
    let id = app.get("/tasks/a").await.expect(200)["id"].as_str().unwrap().to_owned();
    assert_eq!(app.get("/tasks/a/checkpoint").await.expect(200), json!({"checkpoint": null}));
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", app.database().display())).await.unwrap();
    let tso = 1_700_000_000_000_i64 << 18;
    sqlx::query(
        "insert into checkpoints (task_id, snapshot_tso, start_offset, next_offset, commit_ts, cluster_id, topic, watermark_tso, updated_at)
         values (?1, ?2, 5, 17, ?2, 'cluster', '7032_obinlog', ?2, 1700000000000)",
    )
    .bind(&id)
    .bind(tso)
    .execute(&pool)
    .await
    .unwrap();
    let error = serde_json::to_string(&Error::new(ErrorKind::StatementRefused, "no").hint("yes")).unwrap();
    for (n, state, error) in [(1, "done", None), (2, "failed", Some(&error))] {
        sqlx::query(
            "insert into ddl (task_id, n, commit_ts, offset, schema_name, table_name, source_text, statements, steps_done, state, error, created_at)
             values (?1, ?2, ?3, 9, 'shop', 't', 'ALTER TABLE t ADD c INT', '[\"ALTER\"]', 1, ?4, ?5, 1)",
        )
        .bind(&id)
        .bind(n)
        .bind(tso + n)
        .bind(state)
        .bind(error)
        .execute(&pool)
        .await
        .unwrap();
    }
    let table = json!({"table": {"table": {"name": {"schema": "shop", "table": "Orders"}, "columns": [], "keys": []}}});
    let alias = json!({"alias": {"of": {"schema": "shop", "table": "orders"}}});
    for (name, commit_ts, definition) in
        [("orders", 1, &table), ("gone", 1, &table), ("gone", 2, &json!("dropped")), ("old", 1, &alias)]
    {
        sqlx::query(
            "insert into catalog (task_id, schema_key, table_key, commit_ts, definition) values (?, 'shop', ?, ?, ?)",
        )
        .bind(&id)
        .bind(name)
        .bind(commit_ts)
        .bind(definition.to_string())
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;

    let checkpoint = app.get("/tasks/a/checkpoint").await.expect(200)["checkpoint"].clone();
    assert_eq!(checkpoint["next_offset"], "17");
    assert_eq!(checkpoint["commit_tso"], tso.to_string());
    assert_eq!(checkpoint["commit_time"], "2023-11-14T22:13:20.000Z");
    let task = app.get("/tasks/a").await.expect(200);
    assert_eq!(task["checkpoint"], checkpoint);
    assert_eq!(task["watermark"]["time"], "2023-11-14T22:13:20.000Z");
    let tables = app.get("/tasks/a/tables").await.expect(200);
    assert_eq!(tables["items"].as_array().unwrap().len(), 1);
    assert_eq!(tables["items"][0]["table"], "Orders");
    assert_eq!(app.get("/tasks/a/ddl?limit=1").await.expect(200)["items"][0]["n"], 1);
    assert_eq!(app.get("/tasks/a/ddl?state=failed").await.expect(200)["items"][0]["n"], 2);
    let failed = app.get("/tasks/a/ddl/2").await.expect(200);
    assert_eq!((&failed["statements"], &failed["error"]["hint"]), (&json!(["ALTER"]), &json!("yes")));
    app.get("/tasks/a/ddl/3").await.problem(404, "not-found");
    app.get("/tasks/a/ddl/x").await.problem(400, "invalid-parameter");
}

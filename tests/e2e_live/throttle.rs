//! Throttles of tasks and connections.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{PATIENCE, assert_same, begin, prepare, wait_for_incremental};
use support::stack::Stack;
use support::{api, sql};

fn held_by(task: &Value) -> Option<&str> {
    let conditions = task["conditions"].as_array()?;
    let throttled = conditions.iter().find(|condition| condition["type"] == "throttled")?;
    throttled["object"].as_str()
}

async fn throttled_seconds(api: &api::Api) -> f64 {
    let name = "tidegate_task_busy_seconds_total{task=\"task\",in=\"throttled\"} ";
    let text = api.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_full_copy_stands_still_at_0_pauses_at_once_and_goes_on_at_the_new_rate() {
    let Some(stack) = Stack::utc("the_full_copy_stands_still_at_0") else { return };
    let schema = "lv_full";
    let server = prepare(&stack, schema, 3000).await;
    let api = &server.api;
    let more = json!({"throttle": {"full_rows_per_second": 0}});
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.t")], &more)).await;
    api.start("task").await;
    let task = api.wait_for("task", "held back", PATIENCE, |task| held_by(task).is_some()).await;
    assert_eq!((held_by(&task), task["health"].as_str()), (Some("task task"), Some("ok")));
    // How long the topic keeps what comes after the copy is seen from its beginning.
    let seen = |task: &Value| task["phase"] == "full" && task["retention"]["end_offset"].is_string();
    api.wait_for("task", "looking at the topic during full sync", PATIENCE, seen).await;
    let paused = Instant::now();
    api.complete("task", "pause").await;
    eprintln!("pause of a task that is held back took {} ms", paused.elapsed().as_millis());
    let mut target = sql::target(&stack).await;
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 0, "0 lets nothing through");
    api.command("task", "resume").await;
    api.wait_for("task", "held back again", PATIENCE, |task| held_by(task).is_some()).await;

    // 3,000 rows at 1,000 per second take two seconds at least, on any machine.
    let begun = Instant::now();
    api.put("/tasks/task/throttle", &json!({"full_rows_per_second": 1000})).await;
    wait_for_incremental(api).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(api.task("task").await["run"], 2, "one run since the pause");
    assert_same(&stack, api, &[("lv_full.t", "lv_full.t")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Bytes, and the connections at both ends of the way: what the source reads out of TiDB and of Kafka is held by its own throttle.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_held_back_by_the_source_and_by_kafka() {
    let Some(stack) = Stack::utc("bytes_are_held_back_by_the_source") else { return };
    let schema = "lv_bytes";
    let server = prepare(&stack, schema, 100).await;
    let api = &server.api;
    // 100 rows of 10,000 bytes.
    let mut source = sql::tidb(&stack).await;
    let widen = format!("ALTER TABLE {schema}.t ADD COLUMN wide MEDIUMTEXT");
    sql::run(&mut source, &[&widen, &format!("UPDATE {schema}.t SET wide = REPEAT('x', 10000)")]).await;
    api.put("/connections/tidb/throttle", &json!({"full_bytes_per_second": 0})).await;
    api.put("/connections/kafka/throttle", &json!({"incremental_bytes_per_second": 0})).await;
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.t")], &json!({}))).await;
    api.start("task").await;
    let held = async |connection: &str| {
        api.wait_for("task", "held back", PATIENCE, |task| held_by(task) == Some(connection)).await
    };
    held("connection tidb").await;
    let mut target = sql::target(&stack).await;
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 0, "0 lets nothing through");

    // A megabyte at 300 KB per second takes two seconds at least, on any machine.
    let begun = Instant::now();
    api.put("/connections/tidb/throttle", &json!({"full_bytes_per_second": 300_000})).await;
    wait_for_incremental(api).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET wide = REPEAT('y', 10000)")]).await;
    held("connection kafka").await;
    let written = format!("{schema}.t WHERE wide LIKE 'y%'");
    assert_eq!(sql::count(&mut target, &written).await, 0, "0 lets nothing through");
    let begun = Instant::now();
    api.put("/connections/kafka/throttle", &json!({"incremental_bytes_per_second": 300_000})).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(api.task("task").await["run"], 1);
    assert_same(&stack, api, &[("lv_bytes.t", "lv_bytes.t")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connections_throttle_holds_all_its_tasks_and_the_watermark_stays_true() {
    let Some(stack) = Stack::utc("a_connections_throttle_holds_all_its_tasks") else { return };
    let schema = "lv_conn";
    let server = begin(&stack, schema, 100, &["t"], &json!({})).await;
    let api = &server.api;
    api.create_task(&api::spec("second", &stack, &[&format!("{schema}.other")], &json!({}))).await;
    api.start("second").await;
    api.wait_for("second", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;

    let answer = api.put("/connections/target/throttle", &json!({"incremental_rows_per_second": 0})).await;
    assert!(answer["effects"][0]["detail"].as_str().unwrap().contains("second, task"), "{answer:#}");
    let mut source = sql::tidb(&stack).await;
    for table in ["t", "other"] {
        let insert = format!("INSERT INTO {schema}.{table} VALUES (500000, 'held', 1)");
        sql::run(&mut source, &[&insert]).await;
    }
    let committed = sql::current_tso(&mut source).await;
    for task in ["task", "second"] {
        let held = api.wait_for(task, "held back", PATIENCE, |task| held_by(task).is_some()).await;
        assert_eq!(held_by(&held), Some("connection target"));
        let watermark: u64 = held["watermark"]["tso"].as_str().unwrap().parse().unwrap();
        assert!(watermark < committed, "what is not there is not said to be there");
    }
    let mut target = sql::target(&stack).await;
    for table in ["t", "other"] {
        let held = format!("{schema}.{table} WHERE id = 500000");
        assert_eq!(sql::count(&mut target, &held).await, 0);
    }
    // Stop is through at once, too.
    api.complete("second", "stop").await;
    api.put("/connections/target/throttle", &json!({"preset": "small", "connections": 1})).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let free = |task: &Value| held_by(task).is_none();
    api.wait_for("task", "no longer held back", PATIENCE, free).await;
    assert_same(&stack, api, &[("lv_conn.t", "lv_conn.t")]).await;
    assert_eq!(api.task("task").await["run"], 1);

    // A large transaction at a low rate, then without one.
    api.put(
        "/tasks/task/throttle",
        &json!({"incremental_rows_per_second": 5, "incremental_bytes_per_second": 4096}),
    )
    .await;
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET v = 'all of them'")]).await;
    api.wait_for("task", "held back", PATIENCE, |task| held_by(task).is_some()).await;
    // Where the time goes is to be seen everywhere: while it goes, not only after.
    let before = throttled_seconds(api).await;
    let end = Instant::now() + PATIENCE;
    loop {
        let diagnosis = api.get("/tasks/task/diagnosis").await;
        let evidence = diagnosis["evidence"].as_array().unwrap();
        let share = evidence.iter().find(|one| one["name"] == "time_throttled");
        if diagnosis["bottleneck"] == "throttle" && share.is_some_and(|one| one["value"].as_f64() > Some(0.5))
        {
            break;
        }
        assert!(Instant::now() < end, "the throttle is not seen: {diagnosis:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while throttled_seconds(api).await <= before {
        assert!(Instant::now() < end, "the throttle is not in the metrics");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(api.task("task").await["progress"]["throttled_ms"].as_u64() > Some(500));
    api.put("/tasks/task/throttle", &json!({"preset": "none"})).await;
    assert_same(&stack, api, &[("lv_conn.t", "lv_conn.t")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

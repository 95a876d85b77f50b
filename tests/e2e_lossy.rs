//! What a task does about values and tables that AnalyticDB cannot take as they are: beyond the matrix of tests/fidelity.rs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::api::{self, Api};
use support::server::Server;
use support::sql;
use support::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);

/// A server with its connections, and an empty schema on the source and both targets.
async fn begin(stack: &Stack, schema: &str) -> (Server, Conn) {
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.put("/connections/adb", &api::mysql("adb", stack.adb_port)).await;
    drop_schema(stack, schema).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")]).await;
    (server, source)
}

async fn drop_schema(stack: &Stack, schema: &str) {
    sql::drop_schemas(stack, &[schema]).await;
    let mut adb = sql::adb(stack).await;
    sql::run(&mut adb, &[&format!("DROP DATABASE IF EXISTS {schema} CASCADE")]).await;
}

async fn follow(api: &Api, stack: &Stack, spec: &Value) -> String {
    let name = spec["name"].as_str().unwrap().to_owned();
    api.create_task(spec).await;
    api.start(&name).await;
    api.wait_for(&name, "in its incremental phase", PATIENCE, |task| task["phase"] == "incremental").await;
    api.wait_caught_up(&name, stack, PATIENCE).await;
    name
}

async fn lossy(api: &Api, task: &str, table: &str) -> Value {
    api.get(&format!("/tasks/{task}/tables/{table}")).await["lossy"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_value_stopped_goes_on_once_its_policy_clamps_and_keeps_its_counts_through_a_kill() {
    let Some(stack) = Stack::utc("a_task_that_a_value_stopped_goes_on_once_its_policy_clamps") else {
        return;
    };
    let (mut server, mut source) = begin(&stack, "el_stop").await;
    let api = server.api.clone();
    sql::run(
        &mut source,
        &["CREATE TABLE t (id INT PRIMARY KEY, at TIME)", "INSERT INTO t VALUES (1, '10:00:00')"],
    )
    .await;
    let spec = api::spec("stop", &stack, &["el_stop.*"], &json!({"target": "adb"}));
    let task = follow(&api, &stack, &spec).await;
    sql::run(&mut source, &["INSERT INTO t VALUES (2, '11:00:00')", "INSERT INTO t VALUES (3, '-25:00:00')"])
        .await;
    let failed = api.wait_for(&task, "stopped", PATIENCE, |task| task["status"] == "failed").await;
    let error = &failed["last_error"];
    assert!(error["object"].as_str().unwrap().contains("el_stop.t"), "{error}");
    assert!(error["message"].as_str().unwrap().contains("`at`"), "{error}");
    assert!(!error.to_string().contains("25:00:00"), "the value is nobody's business: {error}");
    assert!(error["hint"].as_str().unwrap().contains("lossy.time"), "{error}");

    let path = format!("/tasks/{task}/spec");
    let text = api.send(Method::PATCH, &path, Some(&json!({"lossy": {"time": "varchar"}}))).await;
    assert_eq!(text.status, StatusCode::CONFLICT, "the column is there: {}", text.body);
    api.send(Method::PATCH, &path, Some(&json!({"lossy": {"time": "clamp"}}))).await.good("clamp");
    api.command(&task, "resume").await;
    api.wait_caught_up(&task, &stack, PATIENCE).await;
    let mut target = sql::adb(&stack).await;
    let rows: Vec<(i32, String)> =
        target.query("SELECT id, CAST(at AS CHAR) FROM el_stop.t ORDER BY id").await.unwrap();
    let hours: Vec<_> = rows.iter().map(|(id, at)| (*id, &at[..8])).collect();
    assert_eq!(hours, [(1, "10:00:00"), (2, "11:00:00"), (3, "00:00:00")]);
    let counted = json!([{"column": "at", "rule": "time", "count": 1}]);
    assert_eq!(lossy(&api, &task, "el_stop/t").await, counted);

    server.kill9();
    server.restart().await;
    sql::run(&mut source, &["INSERT INTO t VALUES (4, '12:00:00')"]).await;
    api.wait_caught_up(&task, &stack, PATIENCE).await;
    assert_eq!(lossy(&api, &task, "el_stop/t").await, counted, "neither forgotten nor repeated");
    drop_schema(&stack, "el_stop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution_partitions_and_kind_reach_analyticdb_and_a_row_moves_with_its_partition() {
    let Some(stack) = Stack::utc("distribution_partitions_and_kind_reach_analyticdb") else { return };
    let (server, mut source) = begin(&stack, "el_place").await;
    let api = &server.api;
    sql::run(
        &mut source,
        &[
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, user_id INT NOT NULL, made DATETIME NOT NULL, note VARCHAR(20))",
            "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(20))",
            "CREATE TABLE other (id INT, k INT NOT NULL, n INT, PRIMARY KEY (id, k))",
            "INSERT INTO orders VALUES (1, 7, '2024-01-31 23:59:59', 'a'), (2, 7, '2024-02-01 00:00:00', 'b'), (3, 8, '2024-02-02 00:00:00', 'c')",
            "INSERT INTO city VALUES (1, 'x')",
            "INSERT INTO other VALUES (1, 1, 1)",
        ],
    )
    .await;
    let tables = json!({
        "el_place.orders": {"distribute_by": ["user_id"], "partition_by": "DATE_FORMAT(made, '%Y%m')", "lifecycle_partitions": 36},
        "el_place.city": {"kind": "dimension"},
        "el_place.other": {"distribute_by": ["k"]},
    });
    let spec =
        api::spec("place", &stack, &["el_place.*"], &json!({"target": "adb", "objects": {"tables": tables}}));
    let task = follow(api, &stack, &spec).await;
    let mut target = sql::adb(&stack).await;
    for (table, wanted) in [
        (
            "orders",
            &[
                "PRIMARY KEY (`user_id`",
                "DISTRIBUTED BY HASH(`user_id`)",
                "PARTITION BY VALUE(DATE_FORMAT(`made`",
                "LIFECYCLE 36",
            ][..],
        ),
        ("city", &["DISTRIBUTED BY BROADCAST"]),
        ("other", &["PRIMARY KEY (`k`", "DISTRIBUTED BY HASH(`k`)"]),
    ] {
        let (_, definition): (String, String) =
            target.query_first(format!("SHOW CREATE TABLE el_place.{table}")).await.unwrap().unwrap();
        let squeezed = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
        for part in wanted {
            assert!(squeezed(&definition).contains(&squeezed(part)), "{part} is not in {definition}");
        }
    }

    // Partition, distribution and key change, alone and together; what is not deleted would be a second row.
    sql::run(
        &mut source,
        &[
            "UPDATE orders SET made = '2024-03-01 00:00:00' WHERE id = 1",
            "UPDATE orders SET user_id = 9 WHERE id = 2",
            "UPDATE orders SET id = 30, user_id = 10, made = '2024-04-01 00:00:00' WHERE id = 3",
            "INSERT INTO orders VALUES (4, 7, '2024-05-01 00:00:00', 'd')",
            "UPDATE orders SET made = '2024-06-01 00:00:00' WHERE id = 4",
            "DELETE FROM orders WHERE id = 4",
            "UPDATE other SET k = 2",
            "UPDATE city SET name = 'y'",
        ],
    )
    .await;
    api.wait_caught_up(&task, &stack, PATIENCE).await;
    for table in ["orders", "city", "other"] {
        let name = ("el_place".to_owned(), table.to_owned());
        let columns = support::compare::columns(&mut source, &name).await;
        let expected = support::compare::rows(&mut source, &name, &columns).await.unwrap();
        let found = support::compare::rows(&mut target, &name, &columns).await.unwrap();
        assert_eq!(expected, found, "{table}");
    }
    drop_schema(&stack, "el_place").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_options_that_analyticdb_cannot_have_fail_the_precheck_with_a_cure() {
    let Some(stack) = Stack::utc("table_options_that_analyticdb_cannot_have") else { return };
    let (server, mut source) = begin(&stack, "el_wrong").await;
    let api = &server.api;
    sql::run(
        &mut source,
        &["CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, maybe INT, at TIME(6) NOT NULL, g INT AS (a + 1) STORED, name VARCHAR(10) NOT NULL)"],
    )
    .await;
    for (number, (options, said)) in [
        (json!({"distribute_by": ["nobody"]}), "does not have"),
        (json!({"distribute_by": ["maybe"]}), "may be NULL"),
        (json!({"distribute_by": ["g"]}), "generated"),
        (json!({"distribute_by": ["at"]}), "finer than"),
        (json!({"partition_by": "DATE_FORMAT(a, '%Y')"}), "does not fit"),
        (json!({"lifecycle_partitions": 3}), "without partition_by"),
        (json!({"kind": "dimension", "distribute_by": ["a"]}), "dimension table"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("wrong-{number}");
        let more = json!({"target": "adb", "objects": {"tables": {"el_wrong.t": options}}});
        let answer =
            api.send(Method::POST, "/tasks", Some(&api::spec(&name, &stack, &["el_wrong.*"], &more))).await;
        // What the spec alone tells is refused at once.
        let report = if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            answer.body["errors"].clone()
        } else {
            answer.good("create");
            let precheck = api.post(&format!("/tasks/{name}/precheck"), &json!({})).await;
            let failed = api::items(&precheck, &["fail"]);
            assert!(
                failed.iter().all(|item| item["hint"].as_str().is_some_and(|hint| !hint.is_empty())),
                "{failed:#?}"
            );
            json!(failed)
        };
        assert!(report.to_string().contains(said), "{options}: {said} is not in {report:#}");
    }
    drop_schema(&stack, "el_wrong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_larger_than_a_statement_of_analyticdb_stops_the_task_with_its_table_and_passes_on_mysql() {
    let Some(stack) = Stack::utc("a_row_larger_than_a_statement_of_analyticdb_stops_the_task") else {
        return;
    };
    let (server, mut source) = begin(&stack, "el_large").await;
    let api = &server.api;
    // The test stack's TiDB takes rows of 8 MiB: bytes of latin1 that become three of UTF-8 make 18 MB of them.
    let large = "INSERT INTO t VALUES (2, REPEAT(x'80', 6000000))";
    let unchecked = ["SET sql_mode = ''", "SET tidb_skip_utf8_check = 1"];
    sql::run(&mut source, &unchecked).await;
    let create = "CREATE TABLE t (id INT PRIMARY KEY, b LONGTEXT CHARACTER SET latin1)";
    sql::run(&mut source, &[create, "INSERT INTO t VALUES (1, 'x')"]).await;
    let phases = [("stream", "adb"), ("mysql", "target")];
    for (name, target) in phases {
        follow(api, &stack, &api::spec(name, &stack, &["el_large.*"], &json!({"target": target}))).await;
    }
    sql::run(&mut source, &[large]).await;
    api.wait_caught_up("mysql", &stack, PATIENCE).await;
    let mut mariadb = sql::mariadb(&stack).await;
    let length: u64 = mariadb
        .query_first("SELECT LENGTH(b) FROM el_large.t WHERE id = 2 AND b LIKE '€€%'")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(length, 18_000_000);

    let copy = json!({"target": "adb", "objects": {"schemas": {"el_large": {"target": "el_large_copy"}}}});
    api.create_task(&api::spec("copy", &stack, &["el_large.*"], &copy)).await;
    api.start("copy").await;
    for task in ["stream", "copy"] {
        let failed = api.wait_for(task, "stopped", PATIENCE, |task| task["status"] == "failed").await;
        let error = &failed["last_error"];
        assert!(error["object"].as_str().unwrap().contains("el_large"), "{error}");
        assert!(error["message"].as_str().unwrap().contains("16.0 MiB"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("exclude"), "{error}");
    }
    drop_schema(&stack, "el_large").await;
    drop_schema(&stack, "el_large_copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_in_an_hour_that_the_drainer_repeats_is_counted_and_refused_in_a_key() {
    let Some(stack) = Stack::shanghai("a_timestamp_in_an_hour_that_the_drainer_repeats") else {
        return;
    };
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    sql::drop_schemas(&stack, &["el_hour"]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE el_hour",
            "CREATE TABLE el_hour.t (id INT PRIMARY KEY, at TIMESTAMP NULL)",
            "INSERT INTO el_hour.t VALUES (1, '1991-09-14 17:30:00')",
            "CREATE TABLE el_hour.k (at TIMESTAMP PRIMARY KEY)",
        ],
    )
    .await;
    let task = follow(api, &stack, &api::spec("hour", &stack, &["el_hour.t"], &json!({}))).await;
    let keyed = follow(api, &stack, &api::spec("key", &stack, &["el_hour.k"], &json!({}))).await;
    assert_eq!(lossy(api, &task, "el_hour/t").await, json!([]), "full sync reads instants");
    sql::run(
        &mut source,
        &["INSERT INTO el_hour.t VALUES (2, '1991-09-14 16:30:00'), (3, '1991-09-14 17:30:00'), (4, '2024-01-01 00:00:00')"],
    )
    .await;
    api.wait_caught_up(&task, &stack, PATIENCE).await;
    let counted = json!([{"column": "at", "rule": "repeated_hour", "count": 2}]);
    assert_eq!(lossy(api, &task, "el_hour/t").await, counted);
    let mut target = sql::mariadb(&stack).await;
    let stamps: Vec<String> =
        target.query("SELECT CAST(at AS CHAR) FROM el_hour.t ORDER BY id").await.unwrap();
    assert_eq!(
        stamps,
        ["1991-09-14 17:30:00", "1991-09-14 16:30:00", "1991-09-14 16:30:00", "2024-01-01 00:00:00"],
        "the stream's are the earlier of the two"
    );

    // As a key, both would be one row.
    sql::run(&mut source, &["INSERT INTO el_hour.k VALUES ('1991-09-14 16:30:00'), ('1991-09-14 17:30:00')"])
        .await;
    let failed = api.wait_for(&keyed, "stopped", PATIENCE, |task| task["status"] == "failed").await;
    let error = &failed["last_error"];
    assert!(error["object"].as_str().unwrap().contains("el_hour.k"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("UTC"), "{error}");
    sql::drop_schemas(&stack, &["el_hour"]).await;
}

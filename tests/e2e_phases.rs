//! Tasks of one phase, and what is done with tables that the target has already.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::workload::{self, Workload};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_schema_alone_makes_empty_tables_and_finishes() {
    let Some(stack) = Stack::utc("a_task_of_schema_alone_makes_empty_tables_and_finishes") else { return };
    let workload = Workload::prepare(&stack, "ps", workload::seed("phases_schema")).await;
    let server = Server::start().await;
    let task =
        finish(&server, &stack, &workload, &json!({"schema": true, "full": false, "incremental": false}))
            .await;
    assert_eq!(task["checkpoint"], Value::Null, "nothing is followed");
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    for schema in workload.schemas() {
        let made = sql::tables(&mut target, schema).await;
        assert_eq!(made, sql::tables(&mut source, schema).await);
        for table in made {
            let name = format!("{}.{}", sql::quote(schema), sql::quote(&table));
            assert_eq!(sql::count(&mut target, &name).await, 0, "{name} is empty");
        }
    }
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_incremental_sync_needs_no_kafka_copies_everything_and_finishes() {
    let Some(stack) = Stack::utc("a_task_without_incremental_sync_copies_everything") else { return };
    let workload = Workload::prepare(&stack, "pf", workload::seed("phases_full")).await;
    let server = Server::start().await;
    let task =
        finish(&server, &stack, &workload, &json!({"schema": true, "full": true, "incremental": false}))
            .await;
    assert_eq!(task["progress"]["percent"], 100.0);
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    let (_, rows) = compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    assert_eq!(task["progress"]["rows_copied"], rows, "every row is counted once");
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

/// Runs a task over the workload's tables, at rest, until it is finished.
async fn finish(server: &Server, stack: &Stack, workload: &Workload, phases: &Value) -> Value {
    server.api.connect(stack).await;
    let include = workload.include();
    server
        .api
        .create_task(&json!({
            "name": "one-phase",
            "source": {"tidb": "tidb"},
            "target": "target",
            "phases": phases,
            "objects": {"include": include},
            "tables_without_key": "match_row",
            "tuning": {"chunk_rows": 5000},
        }))
        .await;
    server.api.start("one-phase").await;
    server.api.wait_for_status("one-phase", "finished", PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_the_target_has_are_refused_kept_or_replaced_as_the_spec_says() {
    let Some(stack) = Stack::utc("tables_that_the_target_has_are_refused_kept_or_replaced") else { return };
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    sql::drop_schemas(&stack, &["px"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let create = "CREATE TABLE px.t (id INT PRIMARY KEY, v VARCHAR(20))";
    sql::run(
        &mut source,
        &["CREATE DATABASE px", create, "INSERT INTO px.t VALUES (1, 'source'), (2, 'source')"],
    )
    .await;

    let phases = json!({"incremental": false});
    for (policy, expected) in [
        ("keep", [(1, "target"), (2, "source"), (9, "target")]),
        ("replace", [(1, "source"), (2, "source"), (9, "target")]),
    ] {
        let old = ["DROP DATABASE IF EXISTS px", "CREATE DATABASE px", create];
        sql::run(&mut target, &old).await;
        sql::run(&mut target, &["INSERT INTO px.t VALUES (1, 'target'), (9, 'target')"]).await;
        api.create_task(&api::spec(
            policy,
            &stack,
            &["px.*"],
            &json!({"phases": phases, "existing_tables": policy}),
        ))
        .await;
        api.start(policy).await;
        api.wait_for_status(policy, "finished", PATIENCE).await;
        let rows: Vec<(i32, String)> = target.query("SELECT id, v FROM px.t ORDER BY id").await.unwrap();
        let expected: Vec<_> = expected.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        assert_eq!(rows, expected, "existing_tables: {policy}");
    }

    api.create_task(&api::spec("refuse", &stack, &["px.*"], &json!({"phases": phases}))).await;
    let precheck = api.post("/tasks/refuse/precheck", &json!({})).await;
    let failed = api::items(&precheck, &["fail"]);
    let objects: Vec<_> = failed.iter().map(|item| item["objects"].to_string()).collect();
    assert!(objects.iter().any(|objects| objects.contains("px.t")), "the table is named: {failed:#?}");
    api.command("refuse", "start").await;
    let task = api.wait_for_status("refuse", "failed", PATIENCE).await;
    assert!(task["last_error"]["hint"].is_string(), "{:#}", task["last_error"]);
    let kept: u64 = target.query_first("SELECT COUNT(*) FROM px.t").await.unwrap().unwrap();
    assert_eq!(kept, 3, "a refused task writes nothing");
    sql::drop_schemas(&stack, &["px"]).await;
}

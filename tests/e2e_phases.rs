//! Tasks of one phase, and what is done with tables that the target has already.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::workload::{self, Workload};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(90);

support::on_both_targets! {
    a_task_of_schema_alone_makes_empty_tables_and_finishes => schema_alone("ps", "psa");
    a_task_without_incremental_sync_needs_no_kafka_copies_everything_and_finishes => without_incremental("pf", "pfa");
    tables_that_the_target_has_are_refused_kept_or_replaced_as_the_spec_says => existing_tables("px", "pxa");
}

async fn schema_alone(stack: Stack, prefix: &str) {
    let workload = Workload::prepare(&stack, prefix, workload::seed("phases_schema")).await;
    let server = Server::start().await;
    let task =
        finish(&server, &stack, &workload, &json!({"schema": true, "full": false, "incremental": false}))
            .await;
    assert_eq!(task["checkpoint"], Value::Null, "nothing is followed");
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
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

async fn without_incremental(stack: Stack, prefix: &str) {
    let workload = Workload::prepare(&stack, prefix, workload::seed("phases_full")).await;
    let server = Server::start().await;
    let task =
        finish(&server, &stack, &workload, &json!({"schema": true, "full": true, "incremental": false}))
            .await;
    assert_eq!(task["progress"]["percent"], 100.0);
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    let (_, rows) = compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    assert_eq!(task["progress"]["rows_copied"], rows, "every row is counted once");
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

/// Runs a task over the workload's tables, at rest, until it is finished.
async fn finish(server: &Server, stack: &Stack, workload: &Workload, phases: &Value) -> Value {
    server.api.connect(stack).await;
    let mut spec = json!({
        "name": "one-phase",
        "source": {"tidb": "tidb"},
        "target": "target",
        "phases": phases,
        "objects": {"include": workload.include()},
        "tuning": {"chunk_rows": 5000},
    });
    api::merge(&mut spec, &api::policies(stack));
    server.api.create_task(&spec).await;
    server.api.start("one-phase").await;
    server.api.wait_for_status("one-phase", "finished", PATIENCE).await
}

async fn existing_tables(stack: Stack, schema: &str) {
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    sql::drop_schemas(&stack, &[schema]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(20))");
    let create_database = format!("CREATE DATABASE {schema}");
    let include = format!("{schema}.*");
    sql::run(
        &mut source,
        &[&create_database, &create, &format!("INSERT INTO {schema}.t VALUES (1, 'source'), (2, 'source')")],
    )
    .await;

    let phases = json!({"incremental": false});
    for (policy, expected) in [
        ("keep", [(1, "target"), (2, "source"), (9, "target")]),
        ("replace", [(1, "source"), (2, "source"), (9, "target")]),
    ] {
        let insert = format!("INSERT INTO {schema}.t VALUES (1, 'target'), (9, 'target')");
        if policy == "keep" {
            sql::run(&mut target, &[&create_database, &create, &insert]).await;
        } else {
            sql::run(&mut target, &[&format!("TRUNCATE TABLE {schema}.t"), &insert]).await;
        }
        api.create_task(&api::spec(
            policy,
            &stack,
            &[&include],
            &json!({"phases": phases, "existing_tables": policy}),
        ))
        .await;
        api.start(policy).await;
        api.wait_for_status(policy, "finished", PATIENCE).await;
        let rows: Vec<(i32, String)> =
            target.query(format!("SELECT id, v FROM {schema}.t ORDER BY id")).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        assert_eq!(rows, expected, "existing_tables: {policy}");
    }

    api.create_task(&api::spec("refuse", &stack, &[&include], &json!({"phases": phases}))).await;
    let precheck = api.post("/tasks/refuse/precheck", &json!({})).await;
    let failed = api::items(&precheck, &["fail"]);
    let objects: Vec<_> = failed.iter().map(|item| item["objects"].to_string()).collect();
    assert!(
        objects.iter().any(|objects| objects.contains(&format!("{schema}.t"))),
        "the table is named: {failed:#?}"
    );
    api.command("refuse", "start").await;
    let task = api.wait_for_status("refuse", "failed", PATIENCE).await;
    assert!(task["last_error"]["hint"].is_string(), "{:#}", task["last_error"]);
    let kept: u64 = sql::count(&mut target, &format!("{schema}.t")).await;
    assert_eq!(kept, 3, "a refused task writes nothing");
    sql::drop_schemas(&stack, &[schema]).await;
}

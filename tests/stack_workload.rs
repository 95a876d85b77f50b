//! The test stack itself, without the product: the workload runs, and the Drainer stage sends it all.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use support::stack::Stack;
use support::workload::{self, Options, Workload};
use support::{compare, sql};

/// What the end-to-end tests rest on: the workload keeps off what makes a real Drainer exit, also when it is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn the_drainer_stage_survives_the_workload_and_restarts() {
    let Some(stack) = Stack::utc("the_drainer_stage_survives_the_workload_and_restarts") else { return };
    let workload = Workload::prepare(&stack, "stk_wl", workload::seed("stack_workload")).await;
    let before = stack.end_offset(&stack.topic).await;
    let running = workload.start(Options { calm_drops: true, ..Options::default() }).await;
    for back_ms in [500, 3000, 1000] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        eprintln!("restart: {}", stack.restart_drainer(back_ms).await);
    }
    eprintln!("{}", running.stop().await);
    stack.settle().await;
    assert!(stack.end_offset(&stack.topic).await > before, "messages were sent");
    let mut tidb = sql::tidb(&stack).await;
    for schema in workload.schemas() {
        for table in sql::tables(&mut tidb, schema).await {
            let name = (schema.to_owned(), table);
            let columns = compare::columns(&mut tidb, &name).await;
            compare::rows(&mut tidb, &name, &columns).await.unwrap();
        }
    }
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

/// Why the workloads keep off it. TiDB keeps the row and warns, but it has written the Delete of the old key down before it looked at the
/// new one. A follower of the stream deletes the row, and cannot know better. A plain UPDATE that fails leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_update_of_a_primary_key_sends_the_delete_of_a_row_that_stays() {
    let Some(stack) = Stack::utc("an_ignored_update_of_a_primary_key_sends_the_delete_of_a_row_that_stays")
    else {
        return;
    };
    let schema = "stk_ignore";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut tidb = sql::tidb(&stack).await;
    sql::run(
        &mut tidb,
        &[
            "CREATE DATABASE stk_ignore",
            "USE stk_ignore",
            "CREATE TABLE t (name VARCHAR(30), n INT, v VARCHAR(9), PRIMARY KEY (name, n))",
            "INSERT INTO t VALUES ('Kept', 1, 'a'), ('KEPT', 1, 'b'), ('Clean', 1, 'c'), ('CLEAN', 1, 'd')",
        ],
    )
    .await;
    stack.settle().await;
    let from = stack.end_offset(&stack.topic).await;
    sql::run(&mut tidb, &["BEGIN"]).await;
    tidb.query_drop("UPDATE t SET name = UPPER(name) WHERE v = 'c'").await.expect_err("the key is taken");
    sql::run(
        &mut tidb,
        &[
            "UPDATE IGNORE t SET name = UPPER(name) WHERE v = 'a'",
            "INSERT INTO t VALUES ('other', 1, 'e')",
            "COMMIT",
        ],
    )
    .await;
    assert_eq!(sql::count(&mut tidb, "stk_ignore.t").await, 5, "the source keeps every row");
    stack.settle().await;
    let sent = stack.consume(&stack.topic, from);
    assert!(sent.contains("Delete [s:\"Kept\""), "{sent}");
    assert!(sent.contains("Insert [s:\"other\""), "{sent}");
    assert!(!sent.contains("Clean") && !sent.contains("CLEAN"), "{sent}");
    sql::drop_schemas(&stack, &[schema]).await;
}

//! The test stack itself, without the product: the workload runs, and the Drainer stage sends it all.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

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

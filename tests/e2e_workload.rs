//! Tables of every type change, in rows and in form, before, during and after full sync: in the end source and target hold
//! the same. Also when the server is killed and the Drainer sends stretches again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::workload::{self, Options, Workload};
use support::{api, compare, sql};

const CATCH_UP: Duration = Duration::from_secs(180);

/// The runs on one stack go one after the other: a restart of the Drainer is no part of the plain one.
static UTC: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static SHANGHAI: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What happens while the workload runs.
struct Trouble {
    /// SIGKILL to the server, at random moments.
    kills: u32,
    /// Kills of the Drainer, each followed by a stretch that it sends again.
    drainer_restarts: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn full_and_incremental_sync_keep_step_with_rows_and_ddl() {
    let Some(stack) = Stack::utc("full_and_incremental_sync_keep_step_with_rows_and_ddl") else { return };
    let _turn = UTC.lock().await;
    run("workload_plain", &stack, "wp", Trouble { kills: 0, drainer_restarts: 0 }).await;
}

/// Everything that AnalyticDB can follow; nothing that is sent to it breaks one of its rules.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_with_analyticdb_as_the_target() {
    let Some(stack) = Stack::shanghai("the_same_with_analyticdb_as_the_target") else { return };
    let _turn = SHANGHAI.lock().await;
    run("workload_adb", &stack.on_adb(), "wa", Trouble { kills: 0, drainer_restarts: 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_with_a_drainer_in_shanghai() {
    let Some(stack) = Stack::shanghai("the_same_with_a_drainer_in_shanghai") else { return };
    assert_eq!(stack.zone, "Asia/Shanghai");
    let _turn = SHANGHAI.lock().await;
    run("workload_shanghai", &stack, "ws", Trouble { kills: 1, drainer_restarts: 1 }).await;
}

/// `TIDEGATE_KILLS` asks for more than three. The seed says which target it is.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_and_restarts_of_the_drainer_change_nothing_in_the_outcome() {
    let Some(stack) = Stack::utc("kill_9_of_the_server_and_restarts_of_the_drainer") else { return };
    let _turn = UTC.lock().await;
    let kills =
        std::env::var("TIDEGATE_KILLS").map_or(3, |text| text.parse().expect("TIDEGATE_KILLS is a number"));
    let seed = workload::seed("workload_kills");
    let stack = if seed % 2 == 1 { stack.on_adb() } else { stack };
    run_with("workload_kills", &stack, "wk", Trouble { kills, drainer_restarts: 3 }, seed).await;
}

async fn run(test: &str, stack: &Stack, prefix: &str, trouble: Trouble) {
    run_with(test, stack, prefix, trouble, workload::seed(test)).await;
}

async fn run_with(test: &str, stack: &Stack, prefix: &str, trouble: Trouble, seed: u64) {
    let calm = trouble.kills == 0 && trouble.drainer_restarts == 0;
    let workload = Workload::prepare(stack, prefix, seed).await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(stack).await;
    let include = workload.include();
    let mut spec =
        api::spec("workload", stack, &[&include[0], &include[1]], &json!({"tuning": {"chunk_rows": 2000}}));
    api::merge(&mut spec, &api::policies(stack));
    api.create_task(&spec).await;
    let options = Options { calm_drops: trouble.drainer_restarts > 0, ..Options::default() };
    let running = workload.start(options).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.start("workload").await;
    disturb(test, stack, &mut server, &trouble, seed).await;
    eprintln!("{test}: {}", running.stop().await);

    let task = api.wait_caught_up("workload", stack, CATCH_UP).await;
    eprintln!("{test}: {}", task["progress"]);
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    let (tables, rows) = compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    // The product's own eye must see it too.
    let verified = api.verified("workload", &serde_json::json!({})).await;
    let path = format!("/tasks/workload/verifications/{}/differences", verified["n"]);
    assert_eq!(verified["verdict"], "equal", "{verified:#}\n{}", api.get(&path).await);
    assert!(tables >= 16, "only {tables} tables were left to compare");
    eprintln!("{test}: {tables} tables with {rows} rows are the same on both sides");
    if stack.dialect == Dialect::Adb && calm {
        let refused = stack.adb_refused(prefix).await;
        assert!(refused.is_empty(), "AnalyticDB would refuse: {refused:#?}");
    }
    api.complete("workload", "stop").await;
    sql::drop_schemas(stack, &workload.schemas()).await;
}

/// At least 15 s of workload, with kills and restarts at random moments in it.
async fn disturb(test: &str, stack: &Stack, server: &mut Server, trouble: &Trouble, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xD15);
    let mut moments: Vec<(f64, bool)> = Vec::new();
    let span = 15.0_f64.max(4.0 * f64::from(trouble.kills));
    moments.extend((0..trouble.kills).map(|_| (rng.random_range(0.0..span), true)));
    moments.extend((0..trouble.drainer_restarts).map(|_| (rng.random_range(0.0..span), false)));
    moments.sort_by(|left, right| left.0.total_cmp(&right.0));
    let began = tokio::time::Instant::now();
    for (second, is_kill) in moments {
        tokio::time::sleep_until(began + Duration::from_secs_f64(second)).await;
        if is_kill {
            eprintln!("{test}: kill -9 after {second:.1} s");
            server.kill9();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1500))).await;
            server.restart().await;
        } else {
            let restarted = stack.restart_drainer(rng.random_range(200..3000)).await;
            eprintln!("{test}: Drainer restarts after {second:.1} s: {restarted}");
        }
    }
    tokio::time::sleep_until(began + Duration::from_secs_f64(span)).await;
}

//! Faults in random order while a workload runs: connections to TiDB, Kafka and the target are cut, delayed, halved and
//! swallowed, the servers restart, the clock jumps, tidegate is killed. In the end source and target hold the same, row by row, and
//! once the faults are over nothing hangs.
//!
//! `make chaos RUNS=200 SEED=1` is the long form, `RUNS=1 SEED=n` repeats one. Each run prints its seed, its faults and how long it took to
//! recover; TIDEGATE_TALLY names a file that gets a line for each. Most of a run is waiting, so many go on at the same time (TIDEGATE_LANES).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "e2e_chaos/faults.rs"]
mod faults;
#[path = "e2e_chaos/writer.rs"]
mod writer;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use faults::{Clock, Fault, Places};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::json;
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql, workload};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After the faults nothing may stand still for 60 seconds; the rest is for a machine under load, as all of the recovery is.
const STILL: Duration = Duration::from_secs(120);
const RECOVERY: Duration = Duration::from_secs(600);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// What became of a run.
struct Outcome {
    seed: u64,
    faults: Vec<&'static str>,
    /// None for a run that failed.
    recovery: Option<Recovery>,
}

/// Seconds after the last fault's end.
#[derive(Debug, Clone, Copy, Default)]
struct Recovery {
    /// The longest time in which nothing went on.
    still: f64,
    /// Until source and target were the same.
    whole: f64,
}

/// A restart of a server hits whoever uses it: such runs go alone, behind the others.
fn is_alone(seed: u64) -> bool {
    seed % 8 == 3
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_random_order_lose_nothing() {
    let Some(stack) = Stack::utc("faults_in_random_order_lose_nothing") else { return };
    let first = workload::seed("chaos");
    let seeds = first..first + number("TIDEGATE_RUNS", 4);
    let (alone, together): (Vec<u64>, Vec<u64>) = seeds.partition(|seed| is_alone(*seed));
    let mut outcomes = lanes(&stack, together, number("TIDEGATE_LANES", 4)).await;
    outcomes.extend(lanes(&stack, alone, 1).await);
    let mut faults = BTreeMap::<&str, u64>::new();
    outcomes
        .iter()
        .flat_map(|outcome| &outcome.faults)
        .for_each(|fault| *faults.entry(fault).or_default() += 1);
    let failed: Vec<u64> =
        outcomes.iter().filter(|outcome| outcome.recovery.is_none()).map(|outcome| outcome.seed).collect();
    let of = |outcome: &Outcome| outcome.recovery.unwrap_or_default();
    let still = outcomes.iter().map(|outcome| of(outcome).still).fold(0.0, f64::max);
    let whole = outcomes.iter().map(|outcome| of(outcome).whole).fold(0.0, f64::max);
    eprintln!(
        "chaos: {} runs; after the last fault nothing stood still for longer than {still:.1} s, and all was the same after {whole:.1} s at most; faults {faults:?}",
        outcomes.len()
    );
    assert!(failed.is_empty(), "seeds {failed:?} failed: RUNS=1 SEED=n repeats one");
}

async fn lanes(stack: &Stack, seeds: Vec<u64>, lanes: u64) -> Vec<Outcome> {
    let (seeds, next) = (Arc::new(seeds), Arc::new(AtomicUsize::new(0)));
    let lanes: Vec<_> = (0..lanes.min(seeds.len() as u64))
        .map(|_| {
            let (stack, seeds, next) = (stack.clone(), Arc::clone(&seeds), Arc::clone(&next));
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)).copied() {
                    let failed = Outcome { seed, faults: Vec::new(), recovery: None };
                    // A panic has printed itself.
                    let outcome = tokio::spawn(run(stack.clone(), seed)).await.unwrap_or(failed);
                    tally(&outcome);
                    outcomes.push(outcome);
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for lane in lanes {
        outcomes.extend(lane.await.unwrap());
    }
    outcomes
}

fn tally(outcome: &Outcome) {
    let Some(path) = std::env::var_os("TIDEGATE_TALLY") else { return };
    let recovery = match outcome.recovery {
        Some(found) => format!("{:.1}\t{:.1}", found.still, found.whole),
        None => "failed\t".to_owned(),
    };
    let line = format!("{}\t{recovery}\t{}\n", outcome.seed, outcome.faults.join(" "));
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

async fn run(stack: Stack, seed: u64) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    let stack = if rng.random() { stack.on_adb() } else { stack };
    let alone = is_alone(seed);
    let schema = format!("chaos_{seed}");
    writer::prepare(&stack, &schema, &mut rng).await;

    let places = Places::new(&stack).await;
    let clock = Clock::new();
    let mut server = Server::start_with(&clock.settings()).await;
    let api = server.api.clone();
    api.put("/connections/tidb", &api::mysql("tidb", places.tidb.port)).await;
    let brokers = json!({"kind": "kafka", "brokers": [format!("127.0.0.1:{}", places.kafka.port)]});
    api.put("/connections/kafka", &brokers).await;
    api.put("/connections/target", &api::mysql(stack.target().0, places.target.port)).await;
    let more = json!({"tuning": {"chunk_rows": 300, "batch_rows": 100, "connections": 4}});
    let mut spec = api::spec("chaos", &stack, &[&format!("{schema}.*")], &more);
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;

    let stop = CancellationToken::new();
    let writer = tokio::spawn(writer::write(stack.clone(), schema.clone(), rng.random(), stop.clone()));
    api.start("chaos").await;
    // Half of the runs meet their first fault in full sync.
    if rng.random() {
        api.wait_for("chaos", "in incremental sync", RECOVERY, |task| task["phase"] == "incremental").await;
    }
    let (mut story, mut played) = (String::new(), Vec::new());
    let began = Instant::now();
    let count = rng.random_range(3..8);
    for nth in 0..count {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..1800))).await;
        // A run that goes alone has a restart for certain.
        let fault = Fault::choose(&mut rng, stack.dialect, alone, nth + 1 == count);
        let _ = write!(story, "\n  {:.1} s: {fault:?}", began.elapsed().as_secs_f64());
        played.push(fault.name());
        let how = fault.play(&mut rng, &stack, &schema, &places, &clock, &mut server).await;
        let _ = write!(story, " {how}");
    }
    places.heal();
    let over = Instant::now();
    stop.cancel();
    let statements = writer.await.expect("the writer meets no fault");
    let head = format!("chaos seed {seed} on {:?}{}", stack.dialect, if alone { ", alone" } else { "" });
    // A panic below shows it, and so does the log of a good run.
    eprintln!("{head}: {statements} statements{story}");
    stack.settle().await;
    let end = stack.end_offset(&stack.topic).await;
    let still = wait_recovered(&api, &schema, end, over).await.as_secs_f64();
    let took = over.elapsed().as_secs_f64();
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let names = [(schema.as_str(), schema.as_str())];
    let found = compare::schemas(&mut source, &mut target, &names).await;
    let (tables, rows) = match found {
        Ok(found) => found,
        Err(faults) => {
            // Is it lost, or late? And what became of the tables?
            tokio::time::sleep(Duration::from_secs(5)).await;
            let again = compare::schemas(&mut source, &mut target, &names).await;
            let (now, ddl) =
                (stack.end_offset(&stack.topic).await, api.get("/tasks/chaos/ddl?limit=500").await);
            panic!(
                "{head}: {faults}\nfive seconds later: {again:?}, the topic's end at {end}, now {now}\n{}\n{:#}\n{}",
                ddl["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|ddl| ddl["schema"] == schema.as_str())
                    .map(|ddl| format!("{} {} {}\n", ddl["offset"], ddl["state"], ddl["source_text"]))
                    .collect::<String>(),
                api.task("chaos").await,
                server.log_tail()
            )
        }
    };
    let panics = server.log().matches("panicked at").count();
    assert_eq!(panics, 0, "{head}: the server panicked\n{}", server.log_tail());
    eprintln!(
        "{head}: {tables} tables with {rows} rows are the same, {took:.1} s after the last fault; nothing stood still for longer than {still:.1} s"
    );
    drop(server);
    stack.adb_clear_all(&schema).await;
    sql::drop_schemas(&stack, &[&schema]).await;
    Outcome { seed, faults: played, recovery: Some(Recovery { still, whole: took }) }
}

/// Waits until everything before this offset is in the target, and a resync that was asked for is merged, or was lost with the request. Gives the
/// longest time in which the task came no further.
async fn wait_recovered(api: &api::Api, schema: &str, end: i64, over: Instant) -> Duration {
    let (mut longest, mut moved, mut last) = (Duration::ZERO, over, None);
    loop {
        let task = api.task("chaos").await;
        // Not known before the schemas are read.
        let table = api.send(Method::GET, &format!("/tasks/chaos/tables/{schema}/k"), None).await.body;
        let through = task["status"] == "running"
            && task["phase"] == "incremental"
            && api::next_offset(&task).is_some_and(|next| next >= end);
        let (progress, checkpoint) = (&task["progress"], &task["checkpoint"]["next_offset"]);
        let now = json!([
            task["phase"],
            checkpoint,
            progress["rows_copied"],
            progress["changes_applied"],
            progress["ddl_applied"],
            table["state"],
            table["rows_copied"],
        ]);
        if last.as_ref() != Some(&now) {
            last = Some(now);
            moved = Instant::now();
        }
        longest = longest.max(moved.elapsed());
        if through && table["state"] == "following" {
            return longest;
        }
        let hangs = moved.elapsed() > STILL || over.elapsed() > RECOVERY || task["status"] == "failed";
        assert!(
            !hangs,
            "nothing went on for {:?}, {:?} after the faults; wanted: offset {end}\n{table:#}\n{}",
            moved.elapsed(),
            over.elapsed(),
            api.story("chaos", &task).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

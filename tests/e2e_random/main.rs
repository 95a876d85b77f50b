//! Random histories: schemas, rows and DDL made from a seed, run on a real TiDB, followed by a task each; in the end source and
//! target hold the same. Many run at the same time in one server, and the Drainer is restarted, doubled and reordered meanwhile.
//!
//! `make histories RUNS=1000 SEED=1`; `TIDEGATE_SEED=s TIDEGATE_RUNS=1` repeats one. A failure prints the history's statements.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod create;
mod ddl;
mod excuses;
mod follow;
mod history;
mod rows;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod types;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use follow::{Ending, Follow};
use history::History;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::api::Api;
use support::server::Server;
use support::stack::Stack;
use tokio_util::sync::CancellationToken;

/// Of a hundred histories so many must be compared to their end; the rest may stand still for a documented reason.
const LEAST_COMPARED: u64 = 80;

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same() {
    if let Some(stack) = Stack::utc("random_histories_end_the_same") {
        run("random_histories", stack).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same_on_adb() {
    if let Some(stack) = Stack::utc("random_histories_end_the_same_on_adb") {
        run("random_histories_on_adb", stack.on_adb()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same_with_a_drainer_in_shanghai() {
    if let Some(stack) = Stack::shanghai("random_histories_end_the_same_with_a_drainer_in_shanghai") {
        run("random_histories_in_shanghai", stack).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same_on_adb_with_a_drainer_in_shanghai() {
    if let Some(stack) = Stack::shanghai("random_histories_end_the_same_on_adb_with_a_drainer_in_shanghai") {
        run("random_histories_on_adb_in_shanghai", stack.on_adb()).await;
    }
}

/// What became of the histories of a run.
#[derive(Debug, Default)]
struct Tally {
    compared: u64,
    tables: u64,
    rows: u64,
    statements: u64,
    excused: BTreeMap<&'static str, u64>,
    cured: BTreeMap<&'static str, u64>,
    /// Seconds of all lanes.
    spent: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn run(test: &'static str, stack: Stack) {
    let runs = setting("TIDEGATE_RUNS", 12);
    let first = support::workload::seed(test);
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(first));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let stop = CancellationToken::new();
    let troubled = tokio::spawn(trouble(stack.clone(), first, stop.clone()));
    let mut lanes = Vec::new();
    for _ in 0..setting("TIDEGATE_LANES", 8).min(runs) {
        let (stack, api, next, tally) =
            (stack.clone(), server.api.clone(), Arc::clone(&next), Arc::clone(&tally));
        lanes.push(tokio::spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + runs {
                    return;
                }
                one(test, &stack, &api, seed, &tally).await;
            }
        }));
    }
    for lane in lanes {
        lane.await.expect("a lane");
    }
    stop.cancel();
    troubled.await.expect("the Drainer's troubles");
    let tally = tally.lock().unwrap();
    eprintln!(
        "{test}: {runs} histories from seed {first}, {:.1} a minute: {tally:?}",
        runs as f64 * 60.0 / began.elapsed().as_secs_f64()
    );
    if !tally.failed.is_empty() && std::env::var_os("TIDEGATE_LOG").is_some() {
        eprintln!("{}", server.log());
    }
    assert!(tally.failed.is_empty(), "{} of {runs} histories failed: {:?}", tally.failed.len(), tally.failed);
    assert!(
        tally.compared * 100 >= runs * LEAST_COMPARED,
        "only {} of {runs} histories were compared: {:?}",
        tally.compared,
        tally.excused
    );
}

/// One history with a task of its own.
async fn one(test: &str, stack: &Stack, api: &Api, seed: u64, tally: &Mutex<Tally>) {
    let mut history = History::new(stack, seed).await;
    let names: Vec<&str> = history.schemas.iter().map(String::as_str).collect();
    history::drop_schemas(stack, &names).await;
    let steps = usize::try_from(setting("TIDEGATE_STEPS", 30)).unwrap();
    let (outcome, spent) = Follow::new(stack, api, &mut history).run(steps).await;
    let began = Instant::now();
    Follow::clean(stack, api, &history, outcome.is_err() && std::env::var_os("TIDEGATE_KEEP").is_some())
        .await;
    let mut tally = tally.lock().unwrap();
    let count = |counts: &mut BTreeMap<&'static str, u64>, more: BTreeMap<&'static str, u64>| {
        more.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
    };
    count(
        &mut tally.spent,
        spent.into_iter().map(|(name, seconds)| (name, seconds.round() as u64)).collect(),
    );
    *tally.spent.entry("clean").or_default() += began.elapsed().as_secs();
    tally.statements += history.log.len() as u64;
    match outcome {
        Ok(Ending { tables, rows, excused, cured, stopped }) => {
            tally.compared += u64::from(!stopped);
            tally.tables += tables;
            tally.rows += rows;
            count(&mut tally.excused, excused);
            count(&mut tally.cured, cured);
        }
        Err(fault) => {
            tally.failed.push(seed);
            let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("histories");
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join(format!("{test}_{seed}.sql"));
            let text =
                format!("-- seed {seed}, {:?}\n{}\n/*\n{fault}\n*/\n", history.mode, history.log.join("\n"));
            std::fs::write(&file, text).unwrap();
            eprintln!(
                "=== {test}: the history of seed {seed} ({:?}) failed; its statements are in {}\n{fault}\n",
                history.mode,
                file.display()
            );
        }
    }
}

/// Restarts, doubles and reorders what the Drainer sends, at random moments.
async fn trouble(stack: Stack, seed: u64, stop: CancellationToken) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xBAD);
    let quiet = setting("TIDEGATE_TROUBLE", 1) == 0;
    loop {
        let pause = Duration::from_millis(rng.random_range(1500..6000));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if quiet {
            continue;
        }
        let path = match rng.random_range(0..12) {
            // Seldom, for DDL that comes late ends a history early.
            0 => format!("/drainer/reorder?count={}", rng.random_range(1..3)),
            1..=7 => format!("/drainer/restart?back_messages={}", rng.random_range(0..60)),
            _ => format!("/drainer/second?count={}", rng.random_range(1..20)),
        };
        let answer = stack.try_drainer(reqwest::Method::POST, &path).await;
        if let Err(error) = answer {
            eprintln!("{path}: {error}");
        }
    }
}

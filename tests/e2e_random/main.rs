//! Random histories: schemas, rows and DDL made from a seed, run on a real TiDB, followed by a task into each target; in the end source
//! and targets hold the same. Many run at the same time in one server, and the Drainer is restarted, doubled and reordered meanwhile.
//!
//! `make histories RUNS=1000 SEED=1`; `TIDEGATE_SEED=s TIDEGATE_RUNS=1` repeats one. A failure prints the history's statements.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod create;
mod ddl;
mod excuses;
mod follow;
mod history;
mod rows;
mod table;
mod types;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use follow::Ending;
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
async fn random_histories_end_the_same_with_a_drainer_in_shanghai() {
    if let Some(stack) = Stack::shanghai("random_histories_end_the_same_with_a_drainer_in_shanghai") {
        run("random_histories_in_shanghai", stack).await;
    }
}

/// What became of the histories of a run at one target.
#[derive(Debug, Default)]
struct Tally {
    compared: u64,
    tables: u64,
    rows: u64,
    excused: BTreeMap<&'static str, u64>,
    cured: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

/// Of a whole run.
#[derive(Debug, Default)]
struct Tallies {
    /// By the kind of the target.
    targets: BTreeMap<&'static str, Tally>,
    statements: u64,
    /// Seconds of all lanes.
    spent: BTreeMap<&'static str, f64>,
}

fn count(counts: &mut BTreeMap<&'static str, u64>, more: BTreeMap<&'static str, u64>) {
    more.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn run(test: &'static str, stack: Stack) {
    let runs = setting("TIDEGATE_RUNS", 4);
    let first = support::workload::seed(test);
    let server = Server::start().await;
    let wanted = std::env::var("TIDEGATE_TARGET").ok();
    let mut stacks = vec![stack.clone(), stack.clone().on_adb()];
    stacks.retain(|stack| wanted.as_ref().is_none_or(|wanted| stack.target().0 == wanted));
    assert!(!stacks.is_empty(), "TIDEGATE_TARGET is mysql or adb");
    server.api.connect(&stack).await;
    for stack in &stacks {
        let (kind, port) = stack.target();
        server.api.put(&format!("/connections/{kind}"), &support::api::mysql(kind, port)).await;
    }
    let stacks: Arc<[Stack]> = stacks.into();
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(first));
    let tallies = Arc::new(Mutex::new(Tallies::default()));
    let stop = CancellationToken::new();
    let troubled = tokio::spawn(trouble(stack, first, stop.clone()));
    let mut lanes = Vec::new();
    for _ in 0..setting("TIDEGATE_LANES", 8).min(runs) {
        let (stacks, api, next, tallies) =
            (Arc::clone(&stacks), server.api.clone(), Arc::clone(&next), Arc::clone(&tallies));
        lanes.push(tokio::spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + runs {
                    return;
                }
                one(test, &stacks, &api, seed, &tallies).await;
            }
        }));
    }
    for lane in lanes {
        lane.await.expect("a lane");
    }
    stop.cancel();
    troubled.await.expect("the Drainer's troubles");
    let tallies = tallies.lock().unwrap();
    eprintln!(
        "{test}: {runs} histories from seed {first}, {:.1} a minute, {} statements, seconds of all lanes {:.0?}",
        runs as f64 * 60.0 / began.elapsed().as_secs_f64(),
        tallies.statements,
        tallies.spent,
    );
    for (target, tally) in &tallies.targets {
        eprintln!("{test} into {target}: {tally:?}");
    }
    if tallies.targets.values().any(|tally| !tally.failed.is_empty())
        && std::env::var_os("TIDEGATE_LOG").is_some()
    {
        eprintln!("{}", server.log());
    }
    for (target, tally) in &tallies.targets {
        let failed = &tally.failed;
        assert!(failed.is_empty(), "{} of {runs} histories into {target} failed: {failed:?}", failed.len());
        assert!(
            tally.compared * 100 >= runs * LEAST_COMPARED,
            "only {} of {runs} histories into {target} were compared: {:?}",
            tally.compared,
            tally.excused
        );
    }
}

/// One history with its tasks.
async fn one(test: &str, stacks: &[Stack], api: &Api, seed: u64, tallies: &Mutex<Tallies>) {
    let mut history = History::new(&stacks[0], seed).await;
    history::drop_schemas(stacks, &history.schemas).await;
    let steps = usize::try_from(setting("TIDEGATE_STEPS", 30)).unwrap();
    let stops = follow::STOPS.load(Ordering::Relaxed);
    let (outcomes, spent) = follow::history(stacks, api, &mut history, steps).await;
    let gap = follow::STOPS.load(Ordering::Relaxed) > stops;
    let began = Instant::now();
    let failed = outcomes.iter().any(Result::is_err);
    follow::clean(stacks, api, &history, failed && std::env::var_os("TIDEGATE_KEEP").is_some()).await;
    let mut tallies = tallies.lock().unwrap();
    tallies.statements += history.log.len() as u64;
    let clean = [("clean", began.elapsed().as_secs_f64())];
    for (name, seconds) in spent.into_iter().chain(clean) {
        *tallies.spent.entry(name).or_default() += seconds;
    }
    for (stack, outcome) in stacks.iter().zip(outcomes) {
        let target = stack.target().0;
        let tally = tallies.targets.entry(target).or_default();
        match outcome {
            Ok(Ending { tables, rows, excused, cured, stopped }) => {
                tally.compared += u64::from(!stopped);
                tally.tables += tables;
                tally.rows += rows;
                count(&mut tally.excused, excused);
                count(&mut tally.cured, cured);
            }
            Err(_) if gap => {
                *tally.excused.entry("a Drainer that passed over a transaction").or_default() += 1
            }
            Err(fault) => {
                tally.failed.push(seed);
                let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("histories");
                std::fs::create_dir_all(&folder).unwrap();
                let file = folder.join(format!("{test}_{target}_{seed}.sql"));
                let text = format!(
                    "-- seed {seed}, {:?}\n{}\n/*\n{fault}\n*/\n",
                    history.mode,
                    history.log.join("\n")
                );
                std::fs::write(&file, text).unwrap();
                eprintln!(
                    "=== {test}: the history of seed {seed} ({:?}) into {target} failed; its statements are in {}\n{fault}\n",
                    history.mode,
                    file.display()
                );
            }
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

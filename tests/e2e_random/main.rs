//! Random histories: schemas, rows and DDL made from a seed, run on a real TiDB, followed by a task each; in the end source and
//! target hold the same. Many run at the same time in one server, and the Drainer is restarted, doubled and reordered meanwhile.
//!
//! `make histories RUNS=1000 SEED=1`; `TIDEGATE_SEED=s TIDEGATE_RUNS=1` repeats one. A failure prints the history's statements.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod create;
mod ddl;
mod excuses;
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

use history::{History, Mode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::api::{self, Api};
use support::server::Server;
use support::stack::Stack;
use support::{compare, sql};
use tokio_util::sync::CancellationToken;

/// Histories at the same time.
const LANES: u64 = 8;

/// Of a hundred histories so many must end equal; the rest may stop for a documented reason.
const LEAST_EQUAL: u64 = 80;

/// How long a history's task may take to reach its end.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same_on_both_sides() {
    let Some(stack) = Stack::utc("random_histories_end_the_same_on_both_sides") else { return };
    run("random_histories_utc", stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_the_same_with_a_drainer_in_shanghai() {
    let Some(stack) = Stack::shanghai("random_histories_end_the_same_with_a_drainer_in_shanghai") else {
        return;
    };
    run("random_histories_shanghai", stack).await;
}

#[derive(Debug, Default)]
struct Tally {
    equal: u64,
    tables: u64,
    rows: u64,
    statements: u64,
    /// Stops that are documented, by their reason.
    excused: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn run(test: &'static str, stack: Stack) {
    let runs = setting("TIDEGATE_RUNS", 20);
    let first = support::workload::seed(test);
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(first));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let stop = CancellationToken::new();
    let troubled = tokio::spawn(trouble(stack.clone(), first, stop.clone()));
    let mut lanes = Vec::new();
    for _ in 0..LANES.min(runs) {
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
    eprintln!("{test}: {runs} histories from seed {first} in {:.0?}: {tally:?}", began.elapsed());
    assert!(tally.failed.is_empty(), "{} of {runs} histories failed: {:?}", tally.failed.len(), tally.failed);
    assert!(
        tally.equal * 100 >= runs * LEAST_EQUAL,
        "only {} of {runs} histories ended equal: {:?}",
        tally.equal,
        tally.excused
    );
}

/// Follows one history with a task of its own and compares.
async fn one(test: &str, stack: &Stack, api: &Api, seed: u64, tally: &Mutex<Tally>) {
    let mut history = History::new(stack, seed).await;
    let names: Vec<&str> = history.schemas.iter().map(String::as_str).collect();
    history::drop_schemas(stack, &names).await;
    let outcome = follow(stack, api, &mut history).await;
    let task = format!("h{seed}");
    let _ = api
        .try_send(reqwest::Method::POST, &format!("/tasks/{task}/stop?wait_ms=30000"), Some(&json!({})))
        .await;
    let keep = std::env::var_os("TIDEGATE_KEEP").is_some() && outcome.is_err();
    if !keep {
        let names: Vec<&str> = history.schemas.iter().map(String::as_str).collect();
        history::drop_schemas(stack, &names).await;
        let _ = api.try_send(reqwest::Method::DELETE, &format!("/tasks/{task}"), None).await;
    }
    let mut tally = tally.lock().unwrap();
    tally.statements += history.log.len() as u64;
    match outcome {
        Ok(Ending::Equal { tables, rows }) => {
            tally.equal += 1;
            tally.tables += tables;
            tally.rows += rows;
        }
        Ok(Ending::Excused(reason)) => *tally.excused.entry(reason).or_default() += 1,
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

enum Ending {
    Equal { tables: u64, rows: u64 },
    Excused(&'static str),
}

async fn follow(stack: &Stack, api: &Api, history: &mut History) -> Result<Ending, String> {
    let task = format!("h{}", history.seed);
    let steps = usize::try_from(setting("TIDEGATE_STEPS", 30)).unwrap();
    let include = history.include();
    let include: Vec<&str> = include.iter().map(String::as_str).collect();
    let mut spec = json!({
        "tables_without_key": "match_row",
        "ddl": {"drop_database": "apply"},
        "tuning": {"chunk_rows": 50, "connections": 3},
        "labels": {"mode": format!("{:?}", history.mode)},
    });
    if history.mode == Mode::Whole {
        history.begin().await;
        history.steps(steps / 2, true).await;
    } else {
        // Everything of the history comes after this offset.
        stack.settle().await;
        let start = stack.end_offset(&stack.topic).await;
        spec["start_at"] = json!({"offset": start.to_string()});
        spec["phases"] = json!({"schema": false, "full": false, "incremental": true});
    }
    let mut spec = api::spec(&task, stack, &include, &spec);
    if history.mode == Mode::Stream {
        spec["source"].as_object_mut().unwrap().remove("tidb");
    }
    api.create_task(&spec).await;
    if let Some(ending) = begin(api, &task, history).await? {
        return Ok(ending);
    }
    if history.mode == Mode::Stream {
        history.begin().await;
        history.steps(steps / 2, false).await;
    }
    history.steps(steps - steps / 2, false).await;
    stack.settle().await;
    let end = stack.end_offset(&stack.topic).await;
    if let Some(ending) = reach(api, &task, end, history).await? {
        return Ok(ending);
    }
    let (mut source, mut target) = (sql::tidb(stack).await, sql::mariadb(stack).await);
    let schemas: Vec<_> = history.schemas.iter().map(|schema| (schema.as_str(), schema.as_str())).collect();
    let (tables, rows) = compare::schemas(&mut source, &mut target, &schemas).await?;
    Ok(Ending::Equal { tables: tables as u64, rows })
}

/// Precheck and start.
async fn begin(api: &Api, task: &str, history: &History) -> Result<Option<Ending>, String> {
    let precheck = api.post(&format!("/tasks/{task}/precheck"), &json!({})).await;
    let failed = api::items(&precheck, &["fail"]);
    if !failed.is_empty() {
        let text = failed.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        return match excuses::of_precheck(&text, history) {
            Some(reason) => Ok(Some(Ending::Excused(reason))),
            None => Err(format!("the precheck fails:\n{text}")),
        };
    }
    api.start(task).await;
    Ok(None)
}

/// Waits until the task has everything, or has stopped for a reason that is documented.
async fn reach(api: &Api, task: &str, end: i64, history: &History) -> Result<Option<Ending>, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = api.task(task).await;
        let reached = api::next_offset(&state).is_some_and(|next| next >= end);
        if state["status"] == "running" && state["phase"] == "incremental" && reached {
            return Ok(None);
        }
        let late = Instant::now() > deadline;
        if state["status"] == "failed" || late {
            if let Some(reason) = excuses::of_stop(&state["last_error"].to_string(), history) {
                return Ok(Some(Ending::Excused(reason)));
            }
            let what = if late { format!("not at offset {end} in time") } else { "failed".to_owned() };
            return Err(format!("{what}: {}", api.story(task, &state).await));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
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
        let path = match rng.random_range(0..4) {
            0..=1 => format!("/drainer/restart?back_messages={}", rng.random_range(0..60)),
            2 => format!("/drainer/second?count={}", rng.random_range(1..20)),
            _ => format!("/drainer/reorder?count={}", rng.random_range(1..3)),
        };
        let answer = stack.try_drainer(reqwest::Method::POST, &path).await;
        if let Err(error) = answer {
            eprintln!("{path}: {error}");
        }
    }
}

//! The process dies between any two durable steps, and the next one goes on: source and target end the same, row by row, tables
//! without a key included.
//!
//! Every point of `tidegate::crash` is met: one that a run does not come to fails the test. A death is an abort at the point, in the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "e2e_crash/commands.rs"]
mod commands;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use commands::commands;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql};
use tidegate::crash;

const PATIENCE: Duration = Duration::from_secs(120);
const SIGABRT: i32 = 6;

support::on_both_targets! {
    a_death_at_any_step_of_full_sync_costs_only_repeated_work => full("crf", "crfa");
    a_death_at_any_step_of_the_stream_costs_only_repeated_work => stream("crs", "crsa");
    a_death_at_any_step_of_a_command_costs_only_repeated_work => commands("crc", "crca");
    a_death_at_any_step_of_a_resync_costs_only_repeated_work => resync("crr", "crra");
}

/// Tables with a key, with text in it, and with a second unique key or without any key where the target has that.
fn tables(stack: &Stack) -> Vec<&'static str> {
    let mut tables = vec![
        "k (id BIGINT PRIMARY KEY, v INT, note VARCHAR(40))",
        "t (name VARCHAR(30), n INT, v VARCHAR(40), PRIMARY KEY (name, n))",
    ];
    if stack.dialect == Dialect::Mysql {
        tables.push("u (id INT PRIMARY KEY, v INT NOT NULL UNIQUE)");
        tables.push("n (a INT, b VARCHAR(20))");
    }
    tables
}

async fn prepare(stack: &Stack, schema: &str) {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    for table in tables(stack) {
        sql::run(&mut source, &[&format!("CREATE TABLE {schema}.{table}")]).await;
    }
    change(stack, schema, 0).await;
}

/// Rows come, change and go in every table; round by round others.
async fn change(stack: &Stack, schema: &str, round: i64) {
    let mut source = sql::tidb(stack).await;
    let base = round * 100;
    let ids: Vec<i64> = (base..base + 40).collect();
    let values = |row: &dyn Fn(i64) -> String| ids.iter().map(|id| row(*id)).collect::<Vec<_>>().join(",");
    let mut statements = vec![
        format!(
            "INSERT INTO {schema}.k (id, v, note) VALUES {}",
            values(&|id| format!("({id}, {}, 'first')", id % 7))
        ),
        format!(
            "INSERT INTO {schema}.t (name, n, v) VALUES {}",
            values(&|id| format!("('Name{id}', {}, 'x')", id % 3))
        ),
        format!("UPDATE {schema}.k SET v = v + 1000, note = 'second' WHERE id % 3 = 0"),
        format!("UPDATE {schema}.t SET name = UPPER(name) WHERE n = 1"),
        format!("DELETE FROM {schema}.k WHERE id % 10 = 7"),
        format!("DELETE FROM {schema}.t WHERE n = 2 AND name LIKE '%5'"),
        format!("UPDATE {schema}.k SET id = id + 50 WHERE id = {}", base + 1),
    ];
    if stack.dialect == Dialect::Mysql {
        statements.extend([
            format!("INSERT INTO {schema}.u VALUES {}", values(&|id| format!("({id}, {})", id + 100_000))),
            format!("UPDATE {schema}.u SET v = -id WHERE id IN ({}, {})", base + 1, base + 2),
            format!("UPDATE {schema}.u SET v = {} WHERE id = {}", base + 100_001, base + 2),
            format!("INSERT INTO {schema}.n VALUES {}", values(&|id| format!("({}, 'same')", id % 5))),
            format!("DELETE FROM {schema}.n WHERE a = 3 LIMIT 4"),
            format!("UPDATE {schema}.n SET b = 'changed' WHERE a = 2"),
        ]);
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    sql::run(&mut source, &statements).await;
}

fn spec(stack: &Stack, schema: &str, name: &str) -> Value {
    let more = json!({"tuning": {"chunk_rows": 15, "batch_rows": 10, "connections": 3}});
    let mut spec = api::spec(name, stack, &[&format!("{schema}.*")], &more);
    api::merge(&mut spec, &api::policies(stack));
    spec
}

async fn assert_equal(stack: &Stack, schema: &str, when: &str) {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let found = compare::schemas(&mut source, &mut target, &[(schema, schema)]).await;
    let (tables, rows) = found.unwrap_or_else(|faults| panic!("after a death at {when}: {faults}"));
    assert!(tables >= 2 && rows > 20, "{when}: only {tables} tables with {rows} rows");
}

fn crash_at(point: &str) -> Vec<(String, String)> {
    vec![("TIDEGATE_CRASH_AT".to_owned(), point.to_owned())]
}

/// Waits for the death, sees that it was the one that was asked for, and starts the server again.
async fn dies(server: &mut Server, point: &str) {
    let Some(status) = server.ended(PATIENCE).await else {
        panic!("the process never came to {point}\n{}", server.log_tail());
    };
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}\n{}", server.log_tail());
    server.restart().await;
}

/// Points that this target never comes to: there is no table without a key on AnalyticDB, and no transaction.
fn is_met(stack: &Stack, point: &str) -> bool {
    stack.dialect == Dialect::Mysql || !point.starts_with("keyless.")
}

async fn full(stack: Stack, schema: &str) {
    prepare(&stack, schema).await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(&stack).await;
    for (round, point) in crash::FULL.iter().enumerate() {
        // The second passage of what happens many times: the first has left something behind.
        let passage = if point.starts_with("copy.") { 2 } else { 1 };
        let at = format!("{point}:{passage}");
        let task = format!("task{round}");
        let mut target = sql::target(&stack).await;
        let cascade = if stack.dialect == Dialect::Adb { " CASCADE" } else { "" };
        sql::run(&mut target, &[&format!("DROP DATABASE IF EXISTS {schema}{cascade}")]).await;
        server.stop().await;
        server.spawn(&crash_at(&at));
        server.ready().await;
        api.create_task(&spec(&stack, schema, &task)).await;
        // The process may die before it has answered.
        let started = tokio::time::timeout(Duration::from_secs(30), begin(&api, &task));
        let _ = started.await;
        // Rows of the stream meanwhile; `session.*` is the stream's.
        change(&stack, schema, 1 + round as i64).await;
        dies(&mut server, &at).await;
        api.wait_caught_up(&task, &stack, PATIENCE).await;
        assert_equal(&stack, schema, &at).await;
        api.complete(&task, "stop").await;
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Start without looking at the answer.
async fn begin(api: &api::Api, task: &str) {
    let precheck =
        api.try_send(reqwest::Method::POST, &format!("/tasks/{task}/precheck"), Some(&json!({}))).await;
    if let Some(precheck) = precheck {
        let found = api::items(&precheck.body, &["fail", "warn"]);
        let waivers: Vec<_> = found.iter().map(|item| item["id"].clone()).collect();
        if !waivers.is_empty() {
            let waive = json!({"waivers": waivers});
            api.try_send(reqwest::Method::PATCH, &format!("/tasks/{task}/spec"), Some(&waive)).await;
        }
    }
    api.try_send(reqwest::Method::POST, &format!("/tasks/{task}/start"), Some(&json!({}))).await;
}

async fn stream(stack: Stack, schema: &str) {
    prepare(&stack, schema).await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(&stack).await;
    api.create_task(&spec(&stack, schema, "task")).await;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let mut source = sql::tidb(&stack).await;
    let mut round = 0;
    for point in crash::STREAM.iter().chain(&["run.begun"]) {
        // The second one costs as much again: `make chaos` has both.
        let passages = if std::env::var_os("TIDEGATE_ALL").is_some() { 2 } else { 1 };
        for passage in 1..=passages {
            if !is_met(&stack, point) || (passage == 2 && *point == "run.begun") {
                continue;
            }
            round += 1;
            let at = format!("{point}:{passage}");
            server.stop().await;
            change(&stack, schema, round).await;
            // Each kind of DDL in its turn, with rows before it and behind it.
            let statements: &[&str] = match round % 4 {
                0 => &[
                    "ALTER TABLE k ADD COLUMN extra INT DEFAULT 7",
                    "UPDATE k SET extra = id WHERE id % 2 = 0",
                    "ALTER TABLE k DROP COLUMN extra",
                ],
                1 => &[
                    "CREATE TABLE made (id INT PRIMARY KEY, v INT)",
                    "INSERT INTO made VALUES (1, 1), (2, 2)",
                    "DROP TABLE made",
                ],
                2 => &[
                    "TRUNCATE TABLE t",
                    "INSERT INTO t VALUES ('after', 1, 'truncate')",
                    "RENAME TABLE t TO t_other",
                    "RENAME TABLE t_other TO t",
                ],
                _ => &[
                    "CREATE TABLE gone LIKE k",
                    "RENAME TABLE gone TO gone_other",
                    "INSERT INTO gone_other (id, v) VALUES (5, 5)",
                    "DROP TABLE gone_other",
                ],
            };
            sql::run(&mut source, &[&format!("USE {schema}")]).await;
            sql::run(&mut source, statements).await;
            change(&stack, schema, 1000 + round).await;
            server.spawn(&crash_at(&at));
            dies(&mut server, &at).await;
            api.wait_caught_up("task", &stack, PATIENCE).await;
            assert_equal(&stack, schema, &at).await;
        }
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn resync(stack: Stack, schema: &str) {
    prepare(&stack, schema).await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(&stack).await;
    api.create_task(&spec(&stack, schema, "task")).await;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let mut round = 0;
    let all = tables(&stack);
    for point in crash::RESYNC {
        round += 1;
        let table = all[round as usize % all.len()].split(' ').next().unwrap();
        server.stop().await;
        server.spawn(&crash_at(point));
        server.ready().await;
        let asked = json!({"tables": [{"schema": schema, "table": table}]});
        api.try_send(reqwest::Method::POST, "/tasks/task/tables/resync", Some(&asked)).await;
        change(&stack, schema, round).await;
        dies(&mut server, point).await;
        change(&stack, schema, 1000 + round).await;
        wait_following(&api, schema, table).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
        assert_equal(&stack, schema, &format!("{point} of {table}")).await;
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_died_is_done_after_the_restart() {
    let Some(stack) = Stack::utc("a_repair_that_died_is_done_after_the_restart") else { return };
    let schema = "crv";
    prepare(&stack, schema).await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(&stack).await;
    api.create_task(&spec(&stack, schema, "task")).await;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let mut target = sql::target(&stack).await;
    for (round, point) in crash::REPAIR.iter().enumerate() {
        sql::run(&mut target, &[&format!("DELETE FROM {schema}.t LIMIT 3")]).await;
        let found = api.verified("task", &json!({})).await;
        assert_eq!(found["verdict"], "different", "{found:#}");
        server.stop().await;
        server.spawn(&crash_at(point));
        server.ready().await;
        let path = format!("/tasks/task/verifications/{}/repair", found["n"]);
        api.try_send(reqwest::Method::POST, &path, Some(&json!({}))).await;
        dies(&mut server, point).await;
        change(&stack, schema, 2000 + round as i64).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
        let path = format!("/tasks/task/verifications/{}", found["n"]);
        let end = tokio::time::Instant::now() + PATIENCE;
        while api.get(&path).await["repairs"]["repaired"] != found["rows"]["missing"] {
            assert!(tokio::time::Instant::now() < end, "{point}: {}", api.get(&path).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_equal(&stack, schema, point).await;
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn wait_following(api: &api::Api, schema: &str, table: &str) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Not known before it has come to the task.
        let path = format!("/tasks/task/tables/{schema}/{table}");
        let found = api.send(reqwest::Method::GET, &path, None).await.body;
        if found["state"] == "following" {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{table} does not follow again: {found:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The list of points and those in the source are the same: a point that is not listed is never tested.
#[test]
fn every_point_is_listed_once() {
    let listed: Vec<&str> =
        [crash::FULL, crash::STREAM, crash::RESYNC, crash::REPAIR, crash::COMMANDS].concat();
    let names: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(names.len(), listed.len(), "a name is listed twice");
    let mut found = BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("crash::point(\"").skip(1) {
                found.insert(part.split('"').next().unwrap().to_owned());
            }
        }
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, names);
}

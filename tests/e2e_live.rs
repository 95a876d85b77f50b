//! What changes while a task runs: throttles, its spec, its tables, the passwords of its connections. Under a workload, without a
//! restart of the copy, nothing lost and nothing doubled.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "e2e_live/objects.rs"]
mod objects;
#[path = "e2e_live/rest.rs"]
mod rest;
#[path = "e2e_live/secrets.rs"]
mod secrets;
#[path = "e2e_live/spec.rs"]
mod spec;
#[path = "e2e_live/throttle.rs"]
mod throttle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Error;
use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::api::{self, Api};
use support::server::Server;
use support::stack::Stack;
use support::{compare, sql};

pub const PATIENCE: Duration = Duration::from_secs(180);

/// A server with connections to the stack, and a schema with the tables `t` (with rows) and `other`, `later` (with rows) and
/// `later_2` on the source.
pub async fn prepare(stack: &Stack, schema: &str, rows: u32) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    for table in ["t", "other", "later", "later_2"] {
        let create = format!("CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, v VARCHAR(60), n INT)");
        sql::run(&mut source, &[&create]).await;
    }
    for table in ["t", "later"] {
        for start in (0..rows).step_by(1000) {
            let values: Vec<_> =
                (start..rows.min(start + 1000)).map(|id| format!("({id},'row {id}',{id})")).collect();
            let insert = format!("INSERT INTO {schema}.{table} VALUES {}", values.join(","));
            sql::run(&mut source, &[&insert]).await;
        }
    }
    let server = Server::start().await;
    server.api.connect(stack).await;
    server
}

/// A task over these tables, in incremental sync.
pub async fn begin(stack: &Stack, schema: &str, rows: u32, include: &[&str], more: &Value) -> Server {
    let server = prepare(stack, schema, rows).await;
    let names: Vec<String> = include.iter().map(|name| format!("{schema}.{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    server.api.create_task(&api::spec("task", stack, &names, more)).await;
    server.api.start("task").await;
    wait_for_incremental(&server.api).await;
    server
}

pub async fn wait_for_incremental(api: &Api) -> Value {
    api.wait_for("task", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await
}

pub async fn patch(api: &Api, path: &str, body: Value) -> Value {
    api.send(Method::PATCH, path, Some(&body)).await.good(path)
}

/// Waits until the run works with the newest spec.
pub async fn wait_applied(api: &Api) -> Value {
    api.wait_for("task", "working with its newest spec", PATIENCE, |task| {
        task["applied_spec_version"] == task["spec_version"]
    })
    .await
}

/// A writer of all four tables, until told to stop.
pub struct Load {
    end: Arc<AtomicBool>,
    writer: tokio::task::JoinHandle<u64>,
}

impl Load {
    pub fn start(stack: &Stack, schema: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (stack, schema, stop) = (stack.clone(), schema.to_owned(), Arc::clone(&end));
        let writer = tokio::spawn(async move {
            let mut source = sql::tidb(&stack).await;
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                for table in ["t", "other", "later", "later_2"] {
                    let table = format!("{schema}.{table}");
                    for statement in [
                        format!(
                            "REPLACE INTO {table} (id, v, n) VALUES ({}, 'new {round}', {})",
                            100_000 + round % 500,
                            round % 7
                        ),
                        format!(
                            "UPDATE {table} SET v = 'round {round}', n = n + 1 WHERE id % 97 = {}",
                            round % 97
                        ),
                        format!("DELETE FROM {table} WHERE id = {}", round * 7),
                        format!("UPDATE {table} SET id = id + 1000000 WHERE id = {}", round * 11 + 1),
                    ] {
                        match source.query_drop(&statement).await {
                            // TiDB refuses what meets a change of the schema (1105: EncodeRow, data and column count).
                            Err(Error::Server(error)) if [1105, 8028].contains(&error.code) => {}
                            other => other.unwrap_or_else(|error| panic!("{statement}: {error}")),
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            round
        });
        Self { end, writer }
    }

    pub async fn stop(self) {
        self.end.store(true, Ordering::Relaxed);
        assert!(self.writer.await.unwrap() > 0);
    }
}

/// Waits until the task has caught up, and compares these tables.
pub async fn assert_same(stack: &Stack, api: &Api, pairs: &[(&str, &str)]) {
    api.wait_caught_up("task", stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    for (from, to) in pairs {
        let name = |text: &str| {
            let (schema, table) = text.split_once('.').unwrap();
            (schema.to_owned(), table.to_owned())
        };
        let difference = compare::table(&mut source, &name(from), &mut target, &name(to)).await;
        assert_eq!(difference, None, "{from}");
    }
}

pub async fn ask(api: &Api, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = api.send(Method::POST, path, Some(body)).await;
    (answer.status, answer.body)
}

/// The state of one table of the task, null when it is none.
pub async fn state(api: &Api, schema: &str, table: &str) -> Value {
    match api.try_send(Method::GET, &format!("/tasks/task/tables/{schema}/{table}"), None).await {
        Some(answer) if answer.status.is_success() => answer.body["state"].clone(),
        _ => Value::Null,
    }
}

pub async fn wait_for_state(api: &Api, schema: &str, table: &str, wanted: &[&str]) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let state = state(api, schema, table).await;
        if state.as_str().is_some_and(|state| wanted.contains(&state)) {
            return;
        }
        let task = api.task("task").await;
        assert_ne!(task["status"], "failed", "the task failed: {task:#}");
        assert!(
            tokio::time::Instant::now() < end,
            "{schema}.{table} is {state}, never {wanted:?}: {}",
            api.story("task", &task).await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `["schema.table action", ...]` of an answer.
pub fn turns(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tables = answer["tables"].as_array().unwrap_or_else(|| panic!("no tables: {answer:#}"));
    tables.iter().map(|turn| format!("{} {}", text(&turn["table"]), text(&turn["action"]))).collect()
}

/// A body that names tables of a schema.
pub fn named(schema: &str, tables: &[&str]) -> Value {
    let tables: Vec<_> = tables.iter().map(|table| json!({"schema": schema, "table": table})).collect();
    json!({"tables": tables})
}

//! A thin client of the HTTP API, and waiting for what a task says of itself.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::stack::{Dialect, Stack};

const BASE: &str = "/api/v1";
const POLL: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Api {
    origin: String,
    http: reqwest::Client,
}

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must be a success.
    pub fn good(self, what: &str) -> Value {
        assert!(self.status.is_success(), "{what}: {} {:#}", self.status, self.body);
        self.body
    }
}

impl Api {
    pub fn new(origin: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(90)).build().unwrap();
        Self { origin, http }
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub async fn is_ready(&self) -> bool {
        let answer =
            self.http.get(format!("{}/readyz", self.origin)).timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Sends a request below /api/v1. None = no answer (the server is being killed).
    pub async fn try_send(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let mut request = self.http.request(method, format!("{}{BASE}{path}", self.origin));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let bytes = answer.bytes().await.ok()?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Some(Answer { status, body })
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let name = format!("{method} {path}");
        self.try_send(method, path, body).await.unwrap_or_else(|| panic!("no answer to {name}"))
    }

    pub async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.good(path)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.send(Method::POST, path, Some(body)).await.good(path)
    }

    pub async fn put(&self, path: &str, body: &Value) -> Value {
        self.send(Method::PUT, path, Some(body)).await.good(path)
    }

    /// Text of a path outside /api/v1, `/metrics` for example.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.http.get(format!("{}{path}", self.origin)).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.unwrap()
    }

    /// Connections `tidb`, `kafka` and `target` to the stack.
    pub async fn connect(&self, stack: &Stack) {
        self.put("/connections/tidb", &mysql("tidb", stack.tidb_port)).await;
        self.put("/connections/kafka", &json!({"kind": "kafka", "brokers": [stack.kafka]})).await;
        let (kind, port) = stack.target();
        self.put("/connections/target", &mysql(kind, port)).await;
    }

    pub async fn create_task(&self, spec: &Value) -> Value {
        self.post("/tasks", spec).await
    }

    pub async fn command(&self, task: &str, command: &str) -> Value {
        self.post(&format!("/tasks/{task}/{command}"), &json!({})).await
    }

    /// Runs the precheck, waives its warnings, and starts the task.
    ///
    /// # Panics
    /// When an item fails.
    pub async fn start(&self, task: &str) {
        let precheck = self.post(&format!("/tasks/{task}/precheck"), &json!({})).await;
        let found = items(&precheck, &["fail", "warn"]);
        assert!(found.iter().all(|item| item["outcome"] == "warn"), "{task} cannot start: {found:#?}");
        let waivers: Vec<_> = found.iter().map(|item| item["id"].clone()).collect();
        if !waivers.is_empty() {
            self.send(Method::PATCH, &format!("/tasks/{task}/spec"), Some(&json!({"waivers": waivers})))
                .await
                .good("waive");
        }
        self.command(task, "start").await;
    }

    /// Runs a command and waits for its effect.
    pub async fn complete(&self, task: &str, command: &str) -> Value {
        let answer = self
            .send(Method::POST, &format!("/tasks/{task}/{command}?wait_ms=30000"), Some(&json!({})))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{command} {task}: {:#}", answer.body);
        answer.body
    }

    /// A verification of a task, when it is over.
    pub async fn verified(&self, task: &str, body: &Value) -> Value {
        let path = format!("/tasks/{task}/verifications?wait_ms=60000");
        let mut verification =
            self.send(Method::POST, &path, Some(body)).await.good("verification")["verification"].clone();
        let end = Instant::now() + Duration::from_secs(180);
        while ["queued", "running"].iter().any(|state| verification["state"] == *state) {
            assert!(Instant::now() < end, "the verification takes for ever: {verification:#}");
            tokio::time::sleep(POLL).await;
            verification = self.get(&format!("/tasks/{task}/verifications/{}", verification["n"])).await;
        }
        verification
    }

    pub async fn task(&self, task: &str) -> Value {
        self.get(&format!("/tasks/{task}")).await
    }

    /// The next offset of the task's checkpoint.
    pub async fn next_offset(&self, task: &str) -> Option<i64> {
        next_offset(&self.task(task).await)
    }

    /// Waits until the task is as wanted; gives it.
    ///
    /// # Panics
    /// When time is over, and at once when the task has failed and that is not what is wanted: with the task, its precheck
    /// and its last events.
    pub async fn wait_for(
        &self,
        task: &str,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + timeout;
        let mut last = Value::Null;
        loop {
            // A server that is being restarted gives no answer for a while.
            if let Some(answer) = self.try_send(Method::GET, &format!("/tasks/{task}"), None).await {
                last = answer.good(task);
                if wanted(&last) {
                    return last;
                }
                if last["status"] == "failed" {
                    panic!("{task} failed, wanted: {what}\n{}", self.story(task, &last).await);
                }
            }
            if Instant::now() > end {
                panic!("{task} after {timeout:?} is not: {what}\n{}", self.story(task, &last).await);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn wait_for_status(&self, task: &str, status: &str, timeout: Duration) -> Value {
        self.wait_for(task, status, timeout, |task| task["status"] == status).await
    }

    /// Waits until everything that is committed on the source now is in the target.
    pub async fn wait_caught_up(&self, task: &str, stack: &Stack, timeout: Duration) -> Value {
        stack.settle().await;
        let end = stack.end_offset(&stack.topic).await;
        self.wait_for_offset(task, end, timeout).await
    }

    pub async fn wait_for_offset(&self, task: &str, offset: i64, timeout: Duration) -> Value {
        let what = format!("running with its checkpoint at offset {offset}");
        self.wait_for(task, &what, timeout, |task| {
            // The checkpoint is there from the start: before full sync is over it says nothing.
            task["status"] == "running"
                && task["phase"] == "incremental"
                && next_offset(task).is_some_and(|next| next >= offset)
        })
        .await
    }

    /// Waits until every table follows the stream: none is being copied again.
    pub async fn wait_tables_follow(&self, task: &str, timeout: Duration) {
        let end = Instant::now() + timeout;
        loop {
            let tables = self.get(&format!("/tasks/{task}/tables?limit=500")).await["items"].clone();
            let tables = tables.as_array().expect("a list of tables");
            if tables.iter().all(|table| table["state"] == "following") {
                return;
            }
            assert!(Instant::now() < end, "{task} after {timeout:?}: some tables do not follow: {tables:#?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// What there is to know about a task when a test fails: its state, what the precheck held against it, and the last
    /// DDL and events.
    pub async fn story(&self, task: &str, last: &Value) -> String {
        const SHOWN: usize = 30;
        let mut story = String::new();
        for (name, value) in last.as_object().into_iter().flatten() {
            if !["links", "labels", "source", "target"].contains(&name.as_str()) {
                story += &format!("\n  {name}: {value}");
            }
        }
        for part in ["precheck", "ddl?limit=500", "events?limit=500"] {
            let Some(answer) = self.try_send(Method::GET, &format!("/tasks/{task}/{part}"), None).await
            else {
                continue;
            };
            let items = match part {
                "precheck" if answer.body["items"].is_array() => items(&answer.body, &["fail", "warn"]),
                _ => answer.body["items"].as_array().cloned().unwrap_or_default(),
            };
            // DDL of others is most of it where tests share a source.
            let idle = |item: &Value| item["state"] == "ignored" || item["message"] == "DDL passed over";
            let items: Vec<Value> = items.into_iter().filter(|item| !idle(item)).collect();
            story += &format!("\n{part}, {} items:", items.len());
            for item in items.iter().skip(items.len().saturating_sub(SHOWN)) {
                story += &format!("\n  {}", item.to_string().chars().take(700).collect::<String>());
            }
        }
        story
    }
}

/// A connection without a password on this machine.
pub fn mysql(kind: &str, port: u16) -> Value {
    json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": "root"})
}

/// A spec from the stack's TiDB and topic to its target, with `more` merged over it.
pub fn spec(name: &str, stack: &Stack, include: &[&str], more: &Value) -> Value {
    let mut spec = json!({
        "name": name,
        "source": {"tidb": "tidb", "kafka": "kafka", "topic": stack.topic, "time_zone": stack.zone},
        "target": "target",
        "objects": {"include": include},
    });
    merge(&mut spec, more);
    spec
}

/// What a task over the workload's tables says beyond its objects: tables without a key where the target can follow them, and every value
/// exactly, as text where AnalyticDB has no type for it.
pub fn policies(stack: &Stack) -> Value {
    match stack.dialect {
        Dialect::Mysql => json!({"tables_without_key": "match_row"}),
        Dialect::Adb => {
            json!({"lossy": {"time": "varchar", "zero_date": "varchar", "decimal": "varchar", "fraction": "varchar"}})
        }
    }
}

pub fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// The next offset of a task's checkpoint.
pub fn next_offset(task: &Value) -> Option<i64> {
    task["checkpoint"]["next_offset"].as_str()?.parse().ok()
}

/// Items of a precheck with one of the outcomes.
pub fn items(precheck: &Value, outcomes: &[&str]) -> Vec<Value> {
    let items = precheck["items"].as_array().expect("precheck items").iter();
    items
        .filter(|item| item["outcome"].as_str().is_some_and(|outcome| outcomes.contains(&outcome)))
        .cloned()
        .collect()
}

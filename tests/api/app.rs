//! A server on a free port with a folder of its own, and workers that do what the test says.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::app::App;
use tidegate::config::{AccessConfig, Config};
use tidegate::engine::progress::Progress;
use tidegate::engine::supervisor::Runner;
use tidegate::engine::worker::{Outcome, WorkerContext};
use tidegate::error::Error;
use tidegate::observe::lines::TaskLines;
use tidegate::telemetry::LogFormat;
use tokio::sync::Notify;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What a run does.
#[derive(Clone, Default)]
pub enum Script {
    /// Works until it is cancelled.
    #[default]
    Work,
    /// Is cancelled, but ends only when told.
    Linger(Arc<Notify>),
    Fail(Error),
    /// Fails when it is cancelled, as one whose connections are cut does.
    FailAtEnd(Error),
    Finish,
    Panic,
}

/// The scripted worker: what it does next, and the context of its last run.
#[derive(Clone, Default)]
pub struct Stage {
    pub script: Arc<Mutex<Script>>,
    pub last: Arc<Mutex<Option<WorkerContext>>>,
}

impl Stage {
    pub fn set(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.last.lock().unwrap().as_ref().unwrap().progress)
    }

    pub fn context(&self) -> WorkerContext {
        self.last.lock().unwrap().clone().unwrap()
    }

    pub fn runner(&self) -> Runner {
        let stage = self.clone();
        Arc::new(move |context: WorkerContext| {
            let script = stage.script.lock().unwrap().clone();
            let cancel = context.cancel.clone();
            *stage.last.lock().unwrap() = Some(context);
            Box::pin(async move {
                match script {
                    Script::Work => {
                        cancel.cancelled().await;
                        Outcome::Cancelled
                    }
                    Script::Linger(told) => {
                        cancel.cancelled().await;
                        told.notified().await;
                        Outcome::Cancelled
                    }
                    Script::Fail(error) => Outcome::Failed(error),
                    Script::FailAtEnd(error) => {
                        cancel.cancelled().await;
                        Outcome::Failed(error)
                    }
                    Script::Finish => Outcome::Finished,
                    Script::Panic => panic!("a worker's own words"),
                }
            })
        })
    }
}

/// Everything that any server of this test process logged.
#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// The process's log from its first server on.
    pub fn of_process() -> Self {
        static START: Once = Once::new();
        static LOGS: Mutex<Option<Logs>> = Mutex::new(None);
        START.call_once(|| {
            let logs = Logs::default();
            let writer = logs.clone();
            let printed = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
            let _ = tracing_subscriber::registry()
                .with(printed.with_filter(LevelFilter::TRACE))
                .with(TaskLines.with_filter(LevelFilter::INFO))
                .try_init();
            *LOGS.lock().unwrap() = Some(logs);
        });
        LOGS.lock().unwrap().clone().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An answer with its body read.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body of an answer that must have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks the form of a problem and gives it.
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let id = self.headers["x-request-id"].to_str().unwrap().to_owned();
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["type"], format!("/problems/{code}"));
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], id);
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert!(body["errors"].is_array());
        body
    }
}

/// Places of the faults of a problem.
pub fn pointers(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = problem["errors"].as_array().unwrap();
    let mut found: Vec<_> =
        errors.iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect();
    found.sort();
    found
}

pub struct TestApp {
    pub app: App,
    pub stage: Stage,
    pub folder: TempDir,
    pub client: reqwest::Client,
    pub base: String,
}

pub fn config(folder: &TempDir) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: folder.path().join("data"),
        key_file: None,
        log: "info".to_owned(),
        log_format: LogFormat::Text,
        shutdown_ms: 5000,
        event_days: 90,
        event_rows: 1_000_000,
        access: AccessConfig::default(),
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Stage::default()).await
    }

    pub async fn start_in(folder: TempDir, stage: Stage) -> Self {
        let config = config(&folder);
        Self::start_as(folder, stage, &config).await
    }

    /// With a configuration of its own.
    pub async fn start_as(folder: TempDir, stage: Stage, config: &Config) -> Self {
        Logs::of_process();
        let app = App::start(config, stage.runner()).await.unwrap();
        let port = app.address().port();
        let base = format!("http://127.0.0.1:{port}");
        Self { app, stage, folder, client: reqwest::Client::new(), base }
    }

    /// From now on every request carries this token.
    pub fn with_token(self, secret: &str) -> Self {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
        let client = reqwest::Client::builder().default_headers(headers).build().unwrap();
        Self { client, ..self }
    }

    /// Ends the server in order and starts another one on the same folder.
    pub async fn restart(self) -> Self {
        self.restart_after(async || ()).await
    }

    /// Does something to the folder while no server runs on it.
    pub async fn restart_after(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self { app, stage, folder, .. } = self;
        app.stop().await;
        meanwhile().await;
        Self::start_in(folder, stage).await
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("data/tidegate.db")
    }

    /// `path` is under `/api/v1` unless it is one of those outside.
    pub fn url(&self, path: &str) -> String {
        let outside = ["/healthz", "/readyz", "/metrics", "/docs", "/problems", "/api/"];
        if path == "/" || outside.iter().any(|known| path.starts_with(known)) {
            format!("{}{path}", self.base)
        } else {
            format!("{}/api/v1{path}", self.base)
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let reply = Reply { status, headers, text: response.text().await.unwrap() };
        assert!(reply.headers.contains_key("x-request-id"), "every response has an id");
        reply
    }

    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str) -> Reply {
        self.request(Method::POST, path, None).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PATCH, path, Some(body)).await
    }

    pub async fn create(&self, body: Value) -> Reply {
        self.request(Method::POST, "/tasks", Some(body)).await
    }

    /// Connections `tidb`, `kafka`, `adb` and `target` (mysql), kept without logging in.
    pub async fn with_connections(self) -> Self {
        for (name, body) in [
            (
                "tidb",
                json!({"kind": "tidb", "host": "127.0.0.1", "port": 1, "user": "sync", "password": "p"}),
            ),
            ("kafka", json!({"kind": "kafka", "brokers": ["127.0.0.1:1"]})),
            ("adb", json!({"kind": "adb", "host": "127.0.0.1", "port": 1, "user": "sync", "password": "p"})),
            ("target", json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "sync"})),
        ] {
            self.put(&format!("/connections/{name}?verify=false"), body).await.expect(201);
        }
        self
    }

    /// A task of the smallest spec.
    pub async fn with_task(self, name: &str) -> Self {
        let app = if self.get("/connections/tidb").await.status == 404 {
            self.with_connections().await
        } else {
            self
        };
        app.create(spec(name)).await.expect(201);
        app
    }

    /// Reads a task until it is as wanted.
    pub async fn until(&self, task: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..2000 {
            last = self.get(&format!("/tasks/{task}")).await.expect(200);
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the task never became so: {last}");
    }

    /// Waits until the context of the last run is as wanted.
    pub async fn until_handed(&self, wanted: impl Fn(&WorkerContext) -> bool) {
        for _ in 0..2000 {
            if wanted(&self.stage.context()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the run was never handed it");
    }

    pub async fn until_status(&self, task: &str, status: &str) -> Value {
        self.until(task, |found| found["status"] == status).await
    }
}

/// The smallest spec.
pub fn spec(name: &str) -> Value {
    json!({
        "name": name,
        "source": {"tidb": "tidb", "kafka": "kafka", "topic": "7032_obinlog"},
        "target": "target",
        "objects": {"include": ["shop.*"]},
    })
}

//! Sends requests and holds each answer against what section 1 of docs/api.md says of all of them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use regex::Regex;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Maps whose keys are the user's own.
const OWN_KEYS: [&str; 7] = ["labels", "schemas", "tables", "rename", "by", "content", "fields"];

pub struct Client {
    origin: String,
    http: reqwest::Client,
    token: Mutex<Option<String>>,
    /// Requests that were sent: as they were asked, and how they were answered.
    actions: Mutex<BTreeSet<(String, u16)>>,
    codes: Mutex<Vec<String>>,
}

#[derive(Debug)]
pub struct Answer {
    pub asked: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.asked, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// A problem with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        let asked = self.asked.clone();
        let problem = self.is(status);
        assert_eq!(problem["code"], code, "{asked}: {problem:#}");
        problem
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.text))
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> String {
        let value =
            self.headers.get(name).unwrap_or_else(|| panic!("{}: no {name}: {:?}", self.asked, self.headers));
        value.to_str().unwrap().to_owned()
    }
}

/// Places of a problem's faults.
pub fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap_or_default()).collect()
}

impl Client {
    pub fn new(origin: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(90)).build().unwrap();
        Self {
            origin: origin.to_owned(),
            http,
            token: Mutex::default(),
            actions: Mutex::default(),
            codes: Mutex::default(),
        }
    }

    /// Number of actions that differ: in method, path, query or the status of the answer.
    pub fn actions(&self) -> usize {
        self.actions.lock().unwrap().len()
    }

    /// Operations of the document that were never carried out.
    pub fn left_out(&self, document: &Value) -> Vec<String> {
        let actions = self.actions.lock().unwrap();
        let done: Vec<(&str, Vec<&str>)> = actions
            .iter()
            .filter(|(asked, status)| *status < 300 && !asked.contains("dry_run=true"))
            .filter_map(|(asked, _)| asked.split_once(' '))
            .map(|(method, url)| (method, url.split('?').next().unwrap_or(url).split('/').collect()))
            .collect();
        let mut missing = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let parts: Vec<&str> = path.split('/').collect();
            for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
                let called = |(by, path): &(&str, Vec<&str>)| {
                    *by == method
                        && path.len() == parts.len()
                        && path
                            .iter()
                            .zip(&parts)
                            .all(|(part, known)| known.starts_with('{') || part == known)
                };
                if !done.iter().any(called) {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
        missing
    }

    /// From now on this token is sent; None = none.
    pub fn log_in(&self, secret: Option<&str>) {
        *self.token.lock().unwrap() = secret.map(str::to_owned);
    }

    /// A request below `/api/v1`, or of one of the paths outside of it; it is not sent yet.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let outside = ["/healthz", "/readyz", "/metrics", "/docs", "/problems", "/api/"];
        let base =
            if path == "/" || outside.iter().any(|known| path.starts_with(known)) { "" } else { "/api/v1" };
        let request = self.http.request(method, format!("{}{base}{path}", self.origin));
        match &*self.token.lock().unwrap() {
            Some(secret) => request.bearer_auth(secret),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let action = match request.url().query() {
            Some(query) => format!("{} {}?{query}", request.method(), request.url().path()),
            None => format!("{} {}", request.method(), request.url().path()),
        };
        let asked = format!("{} {}", request.method(), request.url().path());
        let path = request.url().path().to_owned();
        let response = self.http.execute(request).await.unwrap_or_else(|error| panic!("{asked}: {error}"));
        let (status, headers) = (response.status(), response.headers().clone());
        self.actions.lock().unwrap().insert((action, status.as_u16()));
        let text = String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned();
        let answer = Answer { asked, status, headers, text };
        self.check(&answer, path.starts_with("/api/"));
        answer
    }

    fn check(&self, answer: &Answer, api: bool) {
        let id = answer.header("x-request-id");
        let kind = answer.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        if answer.status.as_u16() >= 400 {
            assert_eq!(kind, "application/problem+json", "{}: {}", answer.asked, answer.text);
            let problem = answer.json();
            let code = problem["code"].as_str().unwrap();
            assert_eq!(problem["type"], format!("/problems/{code}"));
            assert_eq!(problem["status"], answer.status.as_u16());
            assert_eq!(problem["request_id"], id.as_str());
            for field in ["title", "detail"] {
                assert!(!problem[field].as_str().unwrap().is_empty(), "{problem:#}");
            }
            for error in problem["errors"].as_array().unwrap() {
                let places = ["pointer", "parameter", "header"];
                let given = places.iter().filter(|place| error[**place].is_string()).count();
                assert!(
                    given == 1 && error["code"].is_string() && error["detail"].is_string(),
                    "{problem:#}"
                );
            }
            self.codes.lock().unwrap().push(code.to_owned());
        }
        if api && kind.contains("json") && !answer.asked.ends_with("openapi.json") {
            well_formed(&answer.asked, "", &answer.json());
        }
    }

    /// Codes of all problems so far.
    pub fn codes(&self) -> Vec<String> {
        let mut codes = self.codes.lock().unwrap().clone();
        codes.sort();
        codes.dedup();
        codes
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    /// A command: it has no body.
    pub async fn command(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// With one header more.
    pub async fn with(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.request(method, path).header(header.0, header.1);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    /// Reads until it is as wanted.
    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await.is(200);
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < end, "{path} never became {what}: {found:#}");
            assert!(
                found["status"] != "failed" || what.contains("failed"),
                "{path} failed, wanted {what}: {found:#}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Names, times and positions as section 1 says.
fn well_formed(asked: &str, at: &str, value: &Value) {
    thread_local! {
        static FORMS: [Regex; 4] = [
            Regex::new("^[a-z0-9_]+$").unwrap(),
            Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d").unwrap(),
            Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").unwrap(),
            Regex::new("^[0-9]+$").unwrap(),
        ];
    }
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let path = format!("{at}/{name}");
                // Rows of the store in a form of their own: a document for an import to read.
                if asked.ends_with("/export") && path == "/tables" {
                    continue;
                }
                if !OWN_KEYS.iter().any(|own| at.ends_with(own)) && !at.contains("/detail") {
                    let snake = FORMS.with(|[snake, ..]| snake.is_match(name));
                    assert!(snake, "{asked}: {path} is not snake_case");
                }
                let position =
                    name == "tso" || name.ends_with("_tso") || name.ends_with("_offset") || name == "offset";
                if position && !at.contains("/detail") {
                    let decimal = match inner {
                        Value::Null => true,
                        Value::String(text) => FORMS.with(|[.., decimal]| decimal.is_match(text)),
                        _ => false,
                    };
                    assert!(decimal, "{asked}: {path} = {inner} is no decimal string");
                }
                well_formed(asked, &path, inner);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| well_formed(asked, at, item)),
        Value::String(text) => FORMS.with(|[_, time, exact, _]| {
            assert!(
                !time.is_match(text) || exact.is_match(text),
                "{asked}: {at} = {text} is no time in UTC with ms"
            );
        }),
        _ => {}
    }
}

/// The smallest spec over the source's tables.
pub fn spec(name: &str, stack: &super::Stack, include: &[&str]) -> Value {
    json!({
        "name": name,
        "source": {"tidb": "tidb-prod", "kafka": "kafka-prod", "topic": stack.topic, "time_zone": stack.zone},
        "target": "dw-1",
        "objects": {"include": include, "schemas": {super::SCHEMA: {"target": super::COPY}}},
    })
}

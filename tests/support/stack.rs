//! The running test stack (tests/stack): where its Kafka, MariaDB, TiDB, Drainer stage and stand-in for AnalyticDB listen, and its tools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use super::sql;

/// How long the Drainer stage may take to send what is committed.
const SETTLE: Duration = Duration::from_secs(60);

const STACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../stack/stack.sh");

/// The kind of the target connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Mysql,
    Adb,
}

#[derive(Debug, Clone)]
pub struct Stack {
    /// Which of its targets a test writes to: MariaDB, unless it says [`Stack::on_adb`].
    pub dialect: Dialect,
    pub kafka: String,
    pub mariadb_port: u16,
    pub tidb_port: u16,
    /// Of the stand-in for AnalyticDB.
    pub adb_port: u16,
    /// The topic that the Drainer stage writes to.
    pub topic: String,
    /// Zone of TiDB and of the Drainer stage.
    pub zone: String,
    drainer: String,
    adb: String,
    /// STACK_DIR
    folder: PathBuf,
}

/// What `produce` reports.
#[derive(Debug, serde::Deserialize)]
pub struct Produced {
    pub messages: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

impl Stack {
    /// The stack whose Drainer runs in UTC; None (said on standard error) when there is none and none is required.
    pub fn utc(test: &str) -> Option<Self> {
        Self::find("TIDEGATE_STACK_ENV", test)
    }

    /// The same for a test of what AnalyticDB has not: users, transactions, unique keys, a RENAME of its own.
    pub fn on_mysql_alone(test: &str) -> Option<Self> {
        let stack = Self::utc(test)?;
        if stack.dialect == Dialect::Adb {
            eprintln!("SKIPPED: {test}: not for AnalyticDB");
            return None;
        }
        Some(stack)
    }

    /// The stack whose TiDB and Drainer run in Asia/Shanghai.
    pub fn shanghai(test: &str) -> Option<Self> {
        Self::find("TIDEGATE_STACK_ENV_SHANGHAI", test)
    }

    /// The same with the stand-in for AnalyticDB as the target.
    pub fn on_adb(self) -> Self {
        self.on(Dialect::Adb)
    }

    pub fn on(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Kind and port of the target.
    pub fn target(&self) -> (&'static str, u16) {
        match self.dialect {
            Dialect::Mysql => ("mysql", self.mariadb_port),
            Dialect::Adb => ("adb", self.adb_port),
        }
    }

    fn find(variable: &str, test: &str) -> Option<Self> {
        let Some(path) = std::env::var_os(variable) else {
            assert!(
                std::env::var_os("TIDEGATE_REQUIRE_STACK").is_none_or(|required| required != "1"),
                "{test} needs {variable}, and TIDEGATE_REQUIRE_STACK=1 forbids skipping it"
            );
            // Straight to the terminal: the test harness swallows what a passing test prints.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no stack (make test brings it up)");
            return None;
        };
        let stack = Self::read(Path::new(&path), variable);
        // `make test-adb`
        let adb = std::env::var_os("TIDEGATE_TEST_TARGET").is_some_and(|target| target == "adb");
        Some(if adb { stack.on_adb() } else { stack })
    }

    /// The env file that `variable` names.
    fn read(path: &Path, variable: &str) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{variable} names {}: {error}", path.display()));
        let setting = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("{} has no {name}", path.display()))
                .to_owned()
        };
        let port = |name: &str| setting(name).parse().unwrap_or_else(|_| panic!("{name} is not a port"));
        Self {
            dialect: Dialect::Mysql,
            kafka: setting("KAFKA"),
            mariadb_port: port("MARIADB_PORT"),
            tidb_port: port("TIDB_PORT"),
            adb_port: port("ADB_PORT"),
            topic: setting("TOPIC"),
            zone: setting("TIDB_TZ"),
            drainer: setting("DRAINER_CONTROL"),
            adb: setting("ADB_CONTROL"),
            folder: path.parent().expect("the stack's folder").to_owned(),
        }
    }

    /// A tool of the stack's build folder.
    fn tool(name: &str) -> PathBuf {
        let build = std::env::var_os("STACK_BUILD")
            .map_or_else(|| Path::new(crate::ROOT).join("tests/stack/build"), PathBuf::from);
        build.join("bin").join(name)
    }

    /// The name of the target's part of the stack.
    pub fn target_part(&self) -> &'static str {
        match self.dialect {
            Dialect::Mysql => "mariadb",
            Dialect::Adb => "adb",
        }
    }

    /// Ends a server of the stack in order.
    pub async fn stop_part(&self, part: &str) {
        self.stack("stop", part).await;
    }

    /// Ends a server of the stack in the middle of what it does.
    pub async fn kill_part(&self, part: &str) {
        self.stack("kill", part).await;
    }

    /// Starts a server of the stack and waits until it is ready.
    pub async fn start_part(&self, part: &str) {
        self.stack("start", part).await;
    }

    /// A second TiDB with a Drainer stage, a topic and settings of its own (tests/stack/README.md), beside the stack's other servers. Ends with
    /// the value.
    pub async fn beside(&self, topic: &str, settings: &[(&str, &str)]) -> Beside {
        self.create_topic(topic, 1);
        let folder =
            tempfile::Builder::new().prefix("tidegate-tidb-").tempdir().expect("a folder for the TiDB");
        let mut command = Command::new(STACK);
        command.args(["start", "tidb"]).env("STACK_DIR", folder.path());
        command.env("KAFKA_PORT", self.kafka.rsplit(':').next().expect("a port"));
        command.env("MARIADB_PORT", self.mariadb_port.to_string());
        command.env("ADB_PORT", self.adb_port.to_string());
        for own in ["TIDB_PORT", "TIDB_STATUS_PORT", "DRAINER_CONTROL_PORT"] {
            command.env_remove(own);
        }
        command.env("TOPIC", topic).env("TIDB_TZ", &self.zone).envs(settings.iter().copied());
        let mut beside = Beside { folder, stack: self.clone() };
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("stack.sh runs");
        assert!(output.status.success(), "a second TiDB: {}", String::from_utf8_lossy(&output.stderr));
        let stack = Self::read(&beside.folder.path().join("env"), "STACK_DIR");
        beside.stack = Self { dialect: self.dialect, ..stack };
        beside
    }

    async fn stack(&self, verb: &str, part: &str) {
        let mut command = Command::new(STACK);
        command.args([verb, part]).env("STACK_DIR", &self.folder);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("stack.sh runs");
        assert!(output.status.success(), "{verb} {part}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes messages to partition 0 of a topic, creating it when it is missing; `arguments` as in tests/stack/README.md.
    pub fn produce<S: AsRef<std::ffi::OsStr>>(&self, topic: &str, arguments: &[S]) -> Produced {
        self.try_produce(topic, arguments).unwrap_or_else(|error| panic!("produce: {error}"))
    }

    /// The same; Err says what the broker said.
    pub fn try_produce<S: AsRef<std::ffi::OsStr>>(
        &self,
        topic: &str,
        arguments: &[S],
    ) -> Result<Produced, String> {
        let output = Command::new(Self::tool("produce"))
            .args(["-brokers", &self.kafka, "-topic", topic])
            .args(arguments)
            .output()
            .expect("the stack's produce runs");
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("produce reports as JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What lies in partition 0 of a topic from an offset on, in words.
    pub fn consume(&self, topic: &str, from: i64) -> String {
        let output = Command::new(Self::tool("consume"))
            .args(["-brokers", &self.kafka, "-topic", topic, "-from", &from.to_string(), "-text"])
            .output()
            .expect("the stack's consume runs");
        assert!(output.status.success(), "consume: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Creates an empty topic.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        let status = Command::new(Self::tool("produce"))
            .args([
                "-brokers",
                &self.kafka,
                "-topic",
                topic,
                "-create-only",
                "-partitions",
                &partitions.to_string(),
            ])
            .status()
            .expect("the stack's produce runs");
        assert!(status.success(), "topic {topic} is created");
    }

    /// The offset that the next message of partition 0 will get.
    pub async fn end_offset(&self, topic: &str) -> i64 {
        let (brokers, topic) = (self.kafka.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("allow.auto.create.topics", "false")
                .create()
                .expect("a consumer");
            // A Kafka that takes its time is no fault of a test.
            let mut tries = 0;
            loop {
                match consumer.fetch_watermarks(&topic, 0, Duration::from_secs(10)) {
                    Ok((_, end)) => return end,
                    Err(error) if tries == 5 => panic!("the offsets of {topic}: {error}"),
                    Err(_) => tries += 1,
                }
            }
        })
        .await
        .unwrap()
    }

    /// Calls the Drainer stage's control endpoint.
    ///
    /// # Errors
    /// What it answers when it refuses.
    pub async fn try_drainer(&self, method: reqwest::Method, path: &str) -> Result<Value, Value> {
        call(&self.drainer, method, path).await
    }

    /// Asks the stand-in for AnalyticDB for a fault, as in tests/stack/README.md: `do=lock&match=my_schema`. Gives its id.
    pub async fn adb_fault(&self, query: &str) -> u64 {
        let answer = self.adb(reqwest::Method::POST, &format!("/adb/fault?{query}")).await;
        answer["id"].as_u64().expect("the id of a fault")
    }

    pub async fn adb_clear(&self, fault: u64) {
        self.adb(reqwest::Method::POST, &format!("/adb/clear?id={fault}")).await;
    }

    /// Ends the faults that name a word: a test that failed leaves them.
    pub async fn adb_clear_all(&self, word: &str) {
        self.adb(reqwest::Method::POST, &format!("/adb/clear?match={word}")).await;
    }

    /// How often a fault has happened.
    pub async fn adb_happened(&self, fault: u64) -> u64 {
        let status = self.adb(reqwest::Method::GET, "/adb/status").await;
        let mut faults = status["faults"].as_array().expect("the faults").iter();
        faults.find(|other| other["id"] == fault).and_then(|fault| fault["happened"].as_u64()).unwrap_or(0)
    }

    /// The last writes that AnalyticDB's rules refused and whose text contains all these words, divided by `|`.
    pub async fn adb_refused(&self, words: &str) -> Vec<Value> {
        let status = self.adb(reqwest::Method::GET, &format!("/adb/status?match={words}")).await;
        let refused = status["last_refused"].as_array().expect("what was refused").iter();
        // A deadlock or a lock wait is the MariaDB behind it, no rule: the statement is sent again.
        refused
            .filter(|refusal| ![1205, 1213].contains(&refusal["code"].as_u64().unwrap_or(0)))
            .cloned()
            .collect()
    }

    async fn adb(&self, method: reqwest::Method, path: &str) -> Value {
        call(&self.adb, method, path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn drainer(&self, method: reqwest::Method, path: &str) -> Value {
        self.try_drainer(method, path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Kills the Drainer stage and starts it at its savepoint of some milliseconds ago: that stretch is sent again.
    pub async fn restart_drainer(&self, back_ms: u64) -> Value {
        self.drainer(reqwest::Method::POST, &format!("/drainer/restart?back_ms={back_ms}")).await
    }

    /// Waits until Kafka has everything that is committed in TiDB now.
    ///
    /// # Panics
    /// When the Drainer stage has stopped where a real Drainer would have exited: the test's own SQL is at fault then.
    pub async fn settle(&self) {
        let mut tidb = sql::tidb(self).await;
        let now = sql::current_tso(&mut tidb).await;
        let end = tokio::time::Instant::now() + SETTLE;
        loop {
            let status = self.drainer(reqwest::Method::GET, "/drainer/status").await;
            assert_eq!(status["state"], "running", "the Drainer stage does not run: {status}");
            if status["watermark"].as_u64().unwrap_or(0) >= now {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "the Drainer stage does not reach {now}: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A TiDB of a test's own ([`Stack::beside`]).
pub struct Beside {
    pub stack: Stack,
    folder: tempfile::TempDir,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let mut command = Command::new(STACK);
        command.args(["stop", "--wipe"]).env("STACK_DIR", self.folder.path());
        if !command.status().is_ok_and(|status| status.success()) {
            eprintln!("the TiDB in {} was not ended", self.folder.path().display());
        }
    }
}

/// Calls a control endpoint.
async fn call(endpoint: &str, method: reqwest::Method, path: &str) -> Result<Value, Value> {
    let answer = reqwest::Client::new()
        .request(method, format!("http://{endpoint}{path}"))
        .send()
        .await
        .expect("the control endpoint answers");
    let good = answer.status().is_success();
    let body = answer.json().await.expect("the control endpoint speaks JSON");
    if good { Ok(body) } else { Err(body) }
}

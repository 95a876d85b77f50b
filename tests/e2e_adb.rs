//! What AnalyticDB does to a task, played by its stand-in: a locked disk, busy answers, connections cut in the middle of a statement, statements
//! that run twice, and refusals. In the end source and target hold the same, or the task says what it needs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::workload::{self, Options, Workload};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// A task over one schema of its own, on the stand-in.
struct Bench {
    stack: Stack,
    schema: String,
    server: Server,
    source: mysql_async::Conn,
}

impl Bench {
    async fn new(test: &str, schema: &str, tables: &[&str]) -> Option<Self> {
        let stack = Stack::utc(test)?.on_adb();
        stack.adb_clear_all(schema).await;
        sql::drop_schemas(&stack, &[schema]).await;
        let mut source = sql::tidb(&stack).await;
        sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")]).await;
        sql::run(&mut source, tables).await;
        let server = Server::start().await;
        server.api.connect(&stack).await;
        let include = format!("{schema}.*");
        let more = json!({"tuning": {"connections": 2}});
        server.api.create_task(&api::spec("task", &stack, &[&include], &more)).await;
        Some(Self { stack, schema: schema.to_owned(), server, source })
    }

    async fn run(&mut self, statements: &[&str]) {
        sql::run(&mut self.source, statements).await;
    }

    async fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.server.api.wait_for("task", what, PATIENCE, wanted).await
    }

    async fn incremental(&self) {
        self.wait("in incremental sync", |task| task["phase"] == "incremental").await;
    }

    /// Waits until a fault has happened so often.
    async fn happened(&self, fault: u64, times: u64) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while self.stack.adb_happened(fault).await < times {
            assert!(tokio::time::Instant::now() < end, "the fault has not happened {times} times");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn fault(&self, what: &str) -> u64 {
        self.stack.adb_fault(&format!("do={what}|{}", self.schema)).await
    }

    /// Waits until the task has caught up, and compares.
    async fn equal(&mut self) -> Value {
        let task = self.server.api.wait_caught_up("task", &self.stack, PATIENCE).await;
        let mut target = sql::target(&self.stack).await;
        let schemas = [(self.schema.as_str(), self.schema.as_str())];
        compare::assert_schemas_equal(&mut self.source, &mut target, &schemas).await;
        task
    }

    async fn end(self) {
        sql::drop_schemas(&self.stack, &[&self.schema]).await;
    }
}

fn is_locked(task: &Value) -> bool {
    task["health"] == "blocked" && task["conditions"].to_string().contains("target_locked")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_disk_holds_a_task_up_and_lets_it_go_on_by_itself() {
    let test = "a_locked_disk_holds_a_task_up_and_lets_it_go_on_by_itself";
    let tables = ["CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)"];
    let Some(mut bench) = Bench::new(test, "adb_locked", &tables).await else { return };
    let lock = bench.fault("lock&match=replace").await;
    bench.server.api.start("task").await;
    let task = bench.wait("held up in full sync", is_locked).await;
    assert_eq!(task["status"], "running", "nobody has to start it again: {task:#}");
    bench.stack.adb_clear(lock).await;
    bench.incremental().await;
    bench.equal().await;

    let lock = bench.fault("lock&match=").await;
    bench
        .run(&[
            "INSERT INTO t VALUES (3, 3)",
            "DELETE FROM t WHERE id = 1",
            "ALTER TABLE t ADD COLUMN w INT DEFAULT 7",
        ])
        .await;
    let task = bench.wait("held up in incremental sync", is_locked).await;
    let condition =
        task["conditions"].as_array().unwrap().iter().find(|found| found["type"] == "target_locked");
    assert!(
        condition.is_some_and(|found| found["hint"].is_string()),
        "a person can act: {:#}",
        task["conditions"]
    );
    bench.stack.adb_clear(lock).await;
    let task = bench.equal().await;
    assert_eq!(task["health"], "ok", "{task:#}");
    bench.end().await;
}

/// A session without strict mode: TiDB makes the values fit, and no message says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_cuts_for_a_shorter_type_is_cut() {
    let test = "what_the_source_cuts_for_a_shorter_type_is_cut";
    let tables = [
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), c TEXT, a INT, s SMALLINT, u BIGINT UNSIGNED)",
        "INSERT INTO t VALUES (1, 'three', 'héllo wörld', 70000, -5, 5), (2, 'a    ', 'abc  ', -9000000, 7, 9), (3, NULL, NULL, NULL, NULL, NULL)",
    ];
    let Some(mut bench) = Bench::new(test, "adb_shorter", &tables).await else { return };
    bench.server.api.start("task").await;
    bench.incremental().await;
    bench
        .run(&[
            "INSERT INTO t VALUES (4, '字字字字', '字字字字字', 8388608, -32768, 1)",
            "ALTER TABLE t MODIFY COLUMN v VARCHAR(3)",
            "ALTER TABLE t MODIFY COLUMN c VARCHAR(4)",
            "ALTER TABLE t MODIFY COLUMN a MEDIUMINT",
            "ALTER TABLE t MODIFY COLUMN s SMALLINT UNSIGNED",
            "INSERT INTO t VALUES (5, 'fif', 'fift', 5, 5, 5)",
        ])
        .await;
    bench.equal().await;
    bench.end().await;
}

/// Rows that are there when a column is added get what the policies make of its default.
#[tokio::test(flavor = "multi_thread")]
async fn existing_rows_follow_the_policies_or_stop_the_task() {
    let test = "existing_rows_follow_the_policies_or_stop_the_task";
    let tables = [
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "CREATE TABLE none (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1), (2)",
    ];
    let Some(mut bench) = Bench::new(test, "adb_bent", &tables).await else { return };
    let policies = json!({"lossy": {"zero_date": "refuse", "time": "clamp", "fraction": "clamp"}});
    bench.server.api.send(reqwest::Method::PATCH, "/tasks/task/spec", Some(&policies)).await;
    bench.server.api.start("task").await;
    bench.incremental().await;
    bench
        .run(&[
            "ALTER TABLE t ADD COLUMN f DATETIME(6) NOT NULL DEFAULT '2020-01-02 03:04:05.123456'",
            "ALTER TABLE t ADD COLUMN c TIME DEFAULT '25:00:00'",
            "ALTER TABLE t ADD COLUMN n DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
            "ALTER TABLE none ADD COLUMN d DATE NOT NULL",
            "ALTER TABLE t ADD COLUMN d DATE NOT NULL",
        ])
        .await;
    let task = bench.wait("stopped", |task| task["status"] == "failed").await;
    let error = task["last_error"].to_string();
    assert!(error.contains("zero date") && error.contains("lossy.zero_date"), "{error}");
    let mut target = sql::target(&bench.stack).await;
    let select = "SELECT CAST(f AS CHAR), CAST(c AS CHAR) FROM adb_bent.t WHERE id = 1";
    let found: Option<(String, String)> = target.query_first(select).await.unwrap();
    let (f, c) = found.unwrap();
    assert!(f.starts_with("2020-01-02 03:04:05.123") && c.starts_with("23:59:59"), "{f} {c}");
    let clamp = json!({"lossy": {"zero_date": "clamp"}});
    bench.server.api.send(reqwest::Method::PATCH, "/tasks/task/spec", Some(&clamp)).await;
    bench.server.api.command("task", "resume").await;
    bench.server.api.wait_caught_up("task", &bench.stack, PATIENCE).await;
    let found: Option<String> =
        target.query_first("SELECT CAST(d AS CHAR) FROM adb_bent.t WHERE id = 1").await.unwrap();
    assert_eq!(found.as_deref(), Some("0001-01-01"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_target_is_asked_again() {
    let tables = ["CREATE TABLE t (id INT PRIMARY KEY, v INT)"];
    let Some(mut bench) = Bench::new("a_busy_target_is_asked_again", "adb_busy", &tables).await else {
        return;
    };
    bench.server.api.start("task").await;
    bench.incremental().await;
    for round in 0..3 {
        let busy = bench.fault("busy&times=2&match=").await;
        bench.run(&[&format!("INSERT INTO t VALUES ({round}, 0)"), "UPDATE t SET v = v + 1"]).await;
        bench.happened(busy, 2).await;
        let task = bench.equal().await;
        assert_eq!(task["run"], 1, "it is no reason to begin again: {task:#}");
    }
    bench.end().await;
}

/// Before it runs, after it ran, and with the server still at it: nobody knows which, and it makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_middle_of_a_statement_loses_and_doubles_nothing() {
    let test = "a_connection_cut_in_the_middle_of_a_statement_loses_and_doubles_nothing";
    let many = "INSERT INTO t SELECT a.n * 100 + b.n, 0 FROM n a, n b WHERE a.n < 30";
    let digits: Vec<_> = (0..100).map(|n| format!("({n})")).collect();
    let fill = format!("INSERT INTO n VALUES {}", digits.join(","));
    let tables = [
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE n (n INT PRIMARY KEY)",
        fill.as_str(),
        many,
        "CREATE TABLE d (id INT PRIMARY KEY)",
    ];
    let Some(mut bench) = Bench::new(test, "adb_cut", &tables).await else { return };
    let of_copy = bench.fault("cut_after&match=replace").await;
    bench.server.api.start("task").await;
    bench.happened(of_copy, 1).await;
    bench.incremental().await;
    bench.equal().await;
    for (round, kind) in ["cut_before", "cut_after", "cut_late&ms=1500"].into_iter().enumerate() {
        for word in ["replace", "delete"] {
            let fault = bench.fault(&format!("{kind}&match={word}")).await;
            bench
                .run(&[
                    "UPDATE t SET v = v + 1 WHERE id % 7 < 3",
                    &format!("DELETE FROM t WHERE id % 50 = {round}"),
                    "UPDATE t SET id = id + 100000 WHERE id % 50 = 20 ORDER BY id DESC",
                ])
                .await;
            bench.happened(fault, 1).await;
            // Newer rows while the outcome of the old ones is unknown.
            bench
                .run(&[
                    "UPDATE t SET v = v + 10 WHERE id % 7 < 4",
                    &format!("REPLACE INTO t VALUES ({round}, -1)"),
                ])
                .await;
            bench.equal().await;
        }
        let fault = bench.fault(&format!("{kind}&match=alter")).await;
        bench
            .run(&[
                &format!("ALTER TABLE d ADD COLUMN c{round} INT DEFAULT 5"),
                &format!("INSERT INTO d (id) VALUES ({round})"),
            ])
            .await;
        bench.happened(fault, 1).await;
        bench.equal().await;
        let fault = bench.fault(&format!("{kind}&match=create")).await;
        bench
            .run(&[
                &format!("CREATE TABLE e{round} (id INT PRIMARY KEY)"),
                &format!("INSERT INTO e{round} VALUES (1)"),
            ])
            .await;
        bench.happened(fault, 1).await;
        bench.equal().await;
        let fault = bench.fault(&format!("{kind}&match=rename")).await;
        bench
            .run(&[
                &format!("RENAME TABLE e{round} TO f{round}"),
                &format!("INSERT INTO f{round} VALUES (2)"),
            ])
            .await;
        bench.happened(fault, 1).await;
        bench.equal().await;
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_run_twice_do_no_harm() {
    let Some(stack) = Stack::utc("statements_that_run_twice_do_no_harm") else { return };
    let stack = stack.on_adb();
    stack.adb_clear_all("adb_twice").await;
    let workload = Workload::prepare(&stack, "adb_twice", workload::seed("adb_twice")).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let include = workload.include();
    let spec = api::spec("task", &stack, &[&include[0], &include[1]], &api::policies(&stack));
    server.api.create_task(&spec).await;
    let twice = stack.adb_fault("do=twice&match=adb_twice").await;
    let running = workload.start(Options { writers: 2, ddl_pace: None, ..Options::default() }).await;
    server.api.start("task").await;
    server.api.wait_for("task", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    eprintln!("{}", running.stop().await);
    server.api.wait_caught_up("task", &stack, PATIENCE).await;
    assert!(stack.adb_happened(twice).await > 10);
    stack.adb_clear(twice).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_statement_stops_the_task_which_names_table_cause_and_cure_and_goes_on_after_it() {
    let test = "a_refused_statement_stops_the_task_which_names_table_cause_and_cure";
    let tables = ["CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)"];
    let Some(mut bench) = Bench::new(test, "adb_refused", &tables).await else { return };
    bench.server.api.start("task").await;
    bench.incremental().await;
    for (word, statement) in [
        ("replace", "INSERT INTO t VALUES (2, 2)"),
        ("delete", "DELETE FROM t WHERE id = 1"),
        ("alter", "ALTER TABLE t ADD COLUMN w INT"),
        ("create", "CREATE TABLE u (id INT PRIMARY KEY)"),
    ] {
        let fault =
            bench.fault(&format!("refuse&times=1000&code=30999&text=not+on+a+Monday&match={word}")).await;
        bench.run(&[statement]).await;
        let task = bench.wait("stopped", |task| task["status"] == "failed").await;
        let error = &task["last_error"];
        let table = if word == "create" { "adb_refused.u" } else { "adb_refused.t" };
        let says = |field: &str, part: &str| {
            error[field].as_str().is_some_and(|text| text.replace('`', "").contains(part))
        };
        assert!(says("object", table), "{word}: the table is named: {error:#}");
        assert!(says("message", "not on a Monday"), "{word}: the cause is told: {error:#}");
        assert!(
            error["hint"].as_str().is_some_and(|hint| hint.len() > 10),
            "{word}: there is a cure: {error:#}"
        );
        bench.stack.adb_clear(fault).await;
        bench.server.api.command("task", "resume").await;
        bench.wait("running again", |task| task["status"] == "running").await;
        bench.equal().await;
    }
    bench.end().await;
}

/// What AnalyticDB cannot hold is told before the start, or where it happens; each time with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_analyticdb_cannot_follow_is_refused_with_a_cure() {
    let test = "what_analyticdb_cannot_follow_is_refused_with_a_cure";
    let tables = [
        "CREATE TABLE keyless (a INT)",
        "CREATE TABLE wide (id INT PRIMARY KEY, d DECIMAL(50,2))",
        "CREATE TABLE t (id INT PRIMARY KEY)",
    ];
    let Some(mut bench) = Bench::new(test, "adb_cannot", &tables).await else { return };
    let precheck = bench.server.api.post("/tasks/task/precheck", &json!({})).await;
    for table in ["adb_cannot.keyless", "adb_cannot.wide"] {
        let failed = api::items(&precheck, &["fail"]);
        let item = failed.iter().find(|item| item["objects"].to_string().contains(table));
        let item = item.unwrap_or_else(|| panic!("{table} is refused: {precheck:#}"));
        assert!(item["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{item:#}");
    }
    bench.run(&["DROP TABLE keyless", "DROP TABLE wide"]).await;
    bench.server.api.start("task").await;
    bench.incremental().await;
    bench.run(&["CREATE TABLE keyless (a INT)", "INSERT INTO keyless VALUES (1)"]).await;
    let task = bench.wait("stopped", |task| task["status"] == "failed").await;
    let error = task["last_error"].to_string();
    assert!(error.contains("adb_cannot.keyless"), "{error}");
    assert!(task["last_error"]["hint"].is_string(), "{error}");
    assert!(bench.stack.adb_refused("adb_cannot").await.is_empty(), "nothing of it was sent");
    bench.end().await;
}

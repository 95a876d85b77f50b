//! What an operator does with a running task: pause, resume, restart, look, and find out what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};
use support::api::{self, Api};
use support::history::History;
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::workload::{self, Options, Workload};
use support::{compare, sql};

const PATIENCE: Duration = Duration::from_secs(90);

/// Rows without DDL: what these tests look at is the task.
fn rows_only() -> Options {
    Options { writers: 2, ddl_pace: None, ..Options::default() }
}

/// A server with a task over the workload's tables.
async fn task_over(workload: &Workload, stack: &Stack) -> Server {
    let server = Server::start().await;
    server.api.connect(stack).await;
    let include = workload.include();
    let policies = api::policies(stack);
    server.api.create_task(&api::spec("task", stack, &[&include[0], &include[1]], &policies)).await;
    server
}

async fn assert_equal(workload: &Workload, stack: &Stack) {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
}

async fn wait_for_incremental(api: &Api) -> Value {
    api.wait_for("task", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await
}

support::on_both_targets! {
    pause_stops_writing_and_resume_goes_on_from_the_checkpoint => pause("op", "opa");
    a_restart_of_the_process_resumes_what_ran_and_leaves_paused_what_was => restart("or", "ora");
    a_corrupt_message_stops_the_task_which_names_it_and_has_applied_all_before_it => corrupt("oc", "oca");
    what_the_drainer_sends_again_is_counted_and_applied_once => sent_again("od", "oda");
}

async fn pause(stack: Stack, prefix: &str) {
    let workload = Workload::prepare(&stack, prefix, workload::seed("operate_pause")).await;
    let server = task_over(&workload, &stack).await;
    let api = &server.api;
    api.start("task").await;
    wait_for_incremental(api).await;
    let running = workload.start(rows_only()).await;
    for round in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        api.complete("task", "pause").await;
        eprintln!("pause {round} took {} ms", asked.elapsed().as_millis());
        let before = (api.next_offset("task").await, changes(&stack, &workload).await);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let after = (api.next_offset("task").await, changes(&stack, &workload).await);
        assert_eq!(before, after, "a paused task writes nothing");
        api.command("task", "resume").await;
        let resumed = wait_for_incremental(api).await;
        assert!(
            api::next_offset(&resumed) >= before.0,
            "it goes on from the checkpoint: {:#}",
            resumed["checkpoint"]
        );
    }
    eprintln!("{}", running.stop().await);
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_equal(&workload, &stack).await;
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

/// The target's content, in one number.
async fn changes(stack: &Stack, workload: &Workload) -> Vec<(String, u64)> {
    let mut target = sql::target(stack).await;
    let mut sums = Vec::new();
    for schema in workload.schemas() {
        for table in sql::tables(&mut target, schema).await {
            let name = format!("{}.{}", sql::quote(schema), sql::quote(&table));
            let columns = compare::columns(&mut target, &(schema.to_owned(), table)).await;
            let hashes: Vec<_> = columns
                .iter()
                .map(|column| format!("COALESCE(CRC32({}), 7)", sql::quote(&column.name)))
                .collect();
            let sum =
                format!("SELECT COALESCE(SUM(CRC32(CONCAT_WS(',', {}))), 0) FROM {name}", hashes.join(", "));
            sums.push((name, target.query_first(sum).await.unwrap().unwrap()));
        }
    }
    sums
}

async fn restart(stack: Stack, prefix: &str) {
    let workload = Workload::prepare(&stack, prefix, workload::seed("operate_restart")).await;
    let mut server = task_over(&workload, &stack).await;
    let api = server.api.clone();
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let running = workload.start(rows_only()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    eprintln!("{}", running.stop().await);
    server.restart().await;
    let task = api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(task["desired"], "running");
    assert_equal(&workload, &stack).await;

    api.complete("task", "pause").await;
    server.stop().await;
    server.restart().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.task("task").await["status"], "paused");
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

async fn corrupt(stack: Stack, prefix: &str) {
    const GOOD: i64 = 7;
    let topic = format!("corrupt_{prefix}_{}", std::process::id());
    let messages = History::open("A/UTC").messages();
    let arguments = ["-file".as_ref(), messages.as_os_str(), "-count".as_ref(), "7".as_ref()];
    stack.produce(&topic, &[&arguments[..], &["-raw-hex".as_ref(), "0800deadbeef".as_ref()]].concat());
    stack.produce(
        &topic,
        &[
            "-file".as_ref(),
            messages.as_os_str(),
            "-skip".as_ref(),
            "7".as_ref(),
            "-count".as_ref(),
            "1".as_ref(),
        ],
    );
    let schema = format!("{prefix}_types");
    sql::drop_schemas(&stack, &[&schema]).await;

    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let mut spec = json!({
        "name": "task",
        "source": {"kafka": "kafka", "topic": topic},
        "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": {"offset": "0"},
        "objects": {"include": ["a_types.*"], "schemas": {"a_types": {"target": schema}}},
    });
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;
    api.start("task").await;
    for round in ["at first", "after resume"] {
        let task = api.wait_for_status("task", "failed", PATIENCE).await;
        let error = task["last_error"].to_string();
        assert!(error.contains(&format!("offset {GOOD}")), "{round}: the offset is named: {error}");
        assert_eq!(task["last_error"]["kind"], "corrupt_message", "{error}");
        assert!(task["last_error"]["hint"].is_string(), "{error}");
        assert_eq!(
            api::next_offset(&task),
            Some(GOOD),
            "{round}: everything before is applied, nothing behind"
        );
        assert_eq!(task["health"], "failed");
        if round == "at first" {
            api.command("task", "resume").await;
            api.wait_for("task", "a second run", PATIENCE, |task| task["run"] != json!(1)).await;
        }
    }
    let mut target = sql::target(&stack).await;
    let rows: Vec<(String, Option<String>)> =
        target.query(format!("SELECT id, g1u FROM {schema}.num ORDER BY id")).await.unwrap();
    let numbers: Vec<(u64, Option<u64>)> = rows
        .iter()
        .map(|(id, g1u)| (id.parse().unwrap(), g1u.as_ref().map(|text| text.parse().unwrap())))
        .collect();
    assert_eq!(numbers, [(1, Some(0)), (3, None), (4, Some(0)), (u64::MAX, Some(u64::MAX - 1))]);
    sql::drop_schemas(&stack, &[&schema]).await;
}

/// Each fault of an endpoint is an item that fails, says what was found and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_precheck_tells_what_cannot_work_and_how_to_cure_it() {
    let Some(stack) = Stack::on_mysql_alone("the_precheck_tells_what_cannot_work_and_how_to_cure_it") else {
        return;
    };
    sql::drop_schemas(&stack, &["opc"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let create =
        ["CREATE DATABASE opc", "CREATE TABLE opc.t (id INT PRIMARY KEY)", "INSERT INTO opc.t VALUES (1)"];
    sql::run(&mut source, &create).await;
    let user = ["DROP USER IF EXISTS 'opc_low'@'%'", "CREATE USER 'opc_low'@'%' IDENTIFIED BY 'opc-right'"];
    sql::run(&mut source, &user).await;
    sql::run(&mut target, &user).await;
    stack.create_topic("opc_two_partitions", 2);

    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let low = |kind: &str, port: u16, password: &str| json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": "opc_low", "password": password});
    for (name, connection) in [
        ("source-wrong", low("tidb", stack.tidb_port, "opc-wrong")),
        ("source-low", low("tidb", stack.tidb_port, "opc-right")),
        ("target-wrong", low("mysql", stack.mariadb_port, "opc-wrong")),
        ("target-low", low("mysql", stack.mariadb_port, "opc-right")),
        ("kafka-down", json!({"kind": "kafka", "brokers": ["127.0.0.1:1"]})),
    ] {
        api.put(&format!("/connections/{name}?verify=false"), &connection).await;
    }
    for (name, change, id, words) in [
        ("wrong-password-source", json!({"source": {"tidb": "source-wrong"}}), "source.", "opc_low"),
        ("wrong-password-target", json!({"target": "target-wrong"}), "target.", "opc_low"),
        ("unreachable-kafka", json!({"source": {"kafka": "kafka-down"}}), "kafka.", "127.0.0.1:1"),
        (
            "missing-topic",
            json!({"source": {"topic": "opc_no_such_topic"}}),
            "kafka.topic",
            "opc_no_such_topic",
        ),
        ("two-partitions", json!({"source": {"topic": "opc_two_partitions"}}), "kafka.partitions", "2"),
        ("missing-privilege-source", json!({"source": {"tidb": "source-low"}}), "tables.selected", ""),
        ("missing-privilege-target", json!({"target": "target-low"}), "target.", ""),
    ] {
        api.create_task(&api::spec(name, &stack, &["opc.*"], &change)).await;
        let precheck = api.post(&format!("/tasks/{name}/precheck"), &json!({})).await;
        let failed = api::items(&precheck, &["fail"]);
        let said = failed.iter().find(|item| {
            item["id"].as_str().is_some_and(|found| found.starts_with(id))
                && item["detail"].to_string().contains(words)
        });
        let said = said.unwrap_or_else(|| panic!("{name}: no failing {id} with {words:?} in {precheck:#}"));
        assert!(
            said["hint"].as_str().is_some_and(|hint| hint.len() > 10),
            "{name}: a person can act on {said:#}"
        );
        eprintln!("{name}: {}: {} -> {}", said["id"], said["detail"], said["hint"]);
        api.command(name, "start").await;
        if name == "unreachable-kafka" {
            // An outage is waited for, at the start as later; the task says so.
            let end = Instant::now() + PATIENCE;
            let is_retried = |task: &Value| {
                let mut conditions = task["conditions"].as_array().into_iter().flatten();
                conditions
                    .any(|condition| condition["type"] == "retrying" && condition["retry_at"].is_string())
            };
            while !is_retried(&api.task(name).await) {
                assert!(Instant::now() < end, "{name}: {:#}", api.task(name).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            continue;
        }
        let task = api.wait_for_status(name, "failed", PATIENCE).await;
        assert!(task["last_error"]["message"].is_string(), "{name}: {task:#}");
    }
    sql::run(&mut source, &["DROP USER 'opc_low'@'%'"]).await;
    sql::run(&mut target, &["DROP USER 'opc_low'@'%'"]).await;
    assert!(sql::tables(&mut target, "opc").await.is_empty(), "what cannot start writes nothing");
    sql::drop_schemas(&stack, &["opc"]).await;
}

/// A RENAME of several tables that an open transaction holds up: a snapshot has the new names, Drainer goes on with the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_rename_that_is_under_way() {
    let Some(stack) = Stack::utc("a_start_waits_for_a_rename_that_is_under_way") else { return };
    sql::drop_schemas(&stack, &["orn"]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE orn",
            "CREATE TABLE orn.a (id INT PRIMARY KEY)",
            "CREATE TABLE orn.c (id INT PRIMARY KEY)",
            "INSERT INTO orn.a VALUES (1)",
        ],
    )
    .await;
    let mut holder = sql::tidb(&stack).await;
    sql::run(&mut holder, &["BEGIN", "INSERT INTO orn.c VALUES (1)"]).await;
    let mut renaming = sql::tidb(&stack).await;
    let renaming = tokio::spawn(async move {
        sql::run(&mut renaming, &["RENAME TABLE orn.a TO orn.b, orn.c TO orn.d"]).await;
    });
    let jobs =
        "SELECT STATE FROM information_schema.ddl_jobs WHERE JOB_TYPE = 'rename tables' AND DB_NAME = 'orn'";
    let end = Instant::now() + PATIENCE;
    while source.query_first::<String, _>(jobs).await.unwrap().as_deref() != Some("done") {
        assert!(Instant::now() < end, "the RENAME waits for the transaction");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    api.create_task(&api::spec("task", &stack, &["orn.*"], &json!({}))).await;
    api.command("task", "start").await;
    let waits = |task: &Value| task["conditions"].to_string().contains("is under way");
    api.wait_for("task", "waiting for the RENAME", PATIENCE, waits).await;
    sql::run(&mut holder, &["COMMIT"]).await;
    renaming.await.unwrap();
    let task = api.wait_for_status("task", "failed", PATIENCE).await;
    assert!(task["last_error"].to_string().contains("source.renames"), "{task:#}");
    sql::run(&mut source, &["ALTER TABLE orn.b COMMENT = 'b'", "ALTER TABLE orn.d COMMENT = 'd'"]).await;
    api.command("task", "resume").await;
    wait_for_incremental(api).await;
    sql::run(&mut source, &["INSERT INTO orn.b VALUES (2)", "INSERT INTO orn.d VALUES (3)"]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    compare::assert_schemas_equal(&mut source, &mut sql::target(&stack).await, &[("orn", "orn")]).await;
    sql::drop_schemas(&stack, &["orn"]).await;
}

/// What a DDL would explain that does not come is not waited for as long as there are other messages.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_never_seen_stop_the_task_also_while_the_topic_never_rests() {
    let name = "rows_of_a_table_never_seen_stop_the_task_also_while_the_topic_never_rests";
    let Some(stack) = Stack::utc(name) else { return };
    sql::drop_schemas(&stack, &["ons"]).await;
    let mut source = sql::tidb(&stack).await;
    for statement in [
        "CREATE DATABASE ons",
        "CREATE TABLE ons.a (id INT PRIMARY KEY)",
        "CREATE TABLE ons.c (id INT PRIMARY KEY)",
        "CREATE TABLE ons.busy (id BIGINT PRIMARY KEY AUTO_INCREMENT, n INT)",
        // Drainer goes on to call `b` by its old name.
        "RENAME TABLE ons.a TO ons.b, ons.c TO ons.d",
    ] {
        sql::run(&mut source, &[statement]).await;
    }
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    api.create_task(&api::spec("task", &stack, &["ons.*"], &json!({}))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    let mut writing = sql::tidb(&stack).await;
    let writing = tokio::spawn(async move {
        loop {
            sql::run(&mut writing, &["INSERT INTO ons.busy (n) VALUES (1)"]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    sql::run(&mut source, &["INSERT INTO ons.b VALUES (1)"]).await;
    let task = api.wait_for_status("task", "failed", PATIENCE).await;
    assert!(task["last_error"].to_string().contains("never seen"), "{task:#}");
    writing.abort();
    sql::drop_schemas(&stack, &["ons"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_stays_at_seconds_while_the_source_is_idle() {
    let Some(stack) = Stack::utc("lag_stays_at_seconds_while_the_source_is_idle") else { return };
    let workload = Workload::prepare(&stack, "ol", workload::seed("operate_lag")).await;
    let server = task_over(&workload, &stack).await;
    let api = &server.api;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let small = |task: &Value| task["lag_ms"].as_i64().is_some_and(|lag| lag < 15_000);
    api.wait_for("task", "a lag below 15 s", PATIENCE, small).await;
    let mut worst = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worst = api.task("task").await["lag_ms"].as_i64().expect("the lag is known").max(worst);
    }
    eprintln!("worst lag in 20 idle seconds: {worst} ms");
    assert!(worst < 15_000, "an idle source makes no lag: {worst} ms");
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

async fn sent_again(stack: Stack, schema: &str) {
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let (keyed, keyless) = (format!("{schema}.keyed"), format!("{schema}.keyless"));
    // Only where rows without a key can be followed.
    let holds_keyless = stack.dialect == Dialect::Mysql;
    sql::run(
        &mut source,
        &[&format!("CREATE DATABASE {schema}"), &format!("CREATE TABLE {keyed} (id INT PRIMARY KEY, v INT)")],
    )
    .await;
    if holds_keyless {
        sql::run(&mut source, &[&format!("CREATE TABLE {keyless} (a INT)")]).await;
    }
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let include = format!("{schema}.*");
    api.create_task(&api::spec("task", &stack, &[&include], &api::policies(&stack))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    for i in 0..20 {
        let insert = format!("INSERT INTO {keyed} VALUES ({i}, 0)");
        sql::run(&mut source, &[&insert, &format!("UPDATE {keyed} SET v = v + 1")]).await;
        if holds_keyless {
            sql::run(&mut source, &[&format!("INSERT INTO {keyless} VALUES (1), (1)")]).await;
        }
    }
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let before = api.task("task").await["progress"]["duplicates_skipped"].as_u64().expect("a counter");
    let restarted = stack.drainer(Method::POST, "/drainer/restart?back_messages=30").await;
    let resent = restarted["resent"].as_u64().expect("a number");
    assert!(resent >= 30, "{restarted}");
    if holds_keyless {
        sql::run(&mut source, &[&format!("DELETE FROM {keyless} LIMIT 3")]).await;
    }
    let task = api.wait_caught_up("task", &stack, PATIENCE).await;
    let skipped = task["progress"]["duplicates_skipped"].as_u64().expect("a counter") - before;
    assert!(skipped >= 30, "{resent} messages came again, {skipped} were recognised");
    let mut target = sql::target(&stack).await;
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Times are printed, not judged: a machine of the tests may be busy.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_while_a_sync_runs() {
    let Some(stack) = Stack::utc("the_api_answers_while_a_sync_runs") else { return };
    let workload = Workload::prepare(&stack, "oa", workload::seed("operate_api")).await;
    let server = task_over(&workload, &stack).await;
    let running = workload.start(rows_only()).await;
    server.api.start("task").await;
    let paths = [
        "/tasks/task",
        "/tasks",
        "/tasks/task/tables",
        "/tasks/task/checkpoint",
        "/tasks/task/events",
        "/system",
    ];
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        for path in paths {
            let asked = Instant::now();
            server.api.get(path).await;
            times.push(asked.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await;
    times.sort_unstable();
    let at =
        |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    eprintln!(
        "{} answers while a sync runs: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_answer_no_log_and_no_file() {
    let Some(stack) = Stack::on_mysql_alone("a_secret_is_in_no_answer_no_log_and_no_file") else { return };
    const RIGHT: &str = "pl4nted-right-7d1f";
    const WRONG: &str = "pl4nted-wrong-93ab";
    sql::drop_schemas(&stack, &["os"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    for connection in [&mut source, &mut target] {
        let create = format!("CREATE USER 'os_user'@'%' IDENTIFIED BY '{RIGHT}'");
        let grant = "GRANT ALL PRIVILEGES ON *.* TO 'os_user'@'%'";
        sql::run(connection, &["DROP USER IF EXISTS 'os_user'@'%'", &create, grant]).await;
    }
    sql::run(
        &mut source,
        &["CREATE DATABASE os", "CREATE TABLE os.t (id INT PRIMARY KEY)", "INSERT INTO os.t VALUES (1)"],
    )
    .await;

    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let connection = |kind: &str, port: u16, password: &str| json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": "os_user", "password": password});
    let mut shown = Vec::new();
    let mut ask = async |method: Method, path: String, body: Option<Value>| {
        let answer = api.send(method, &path, body.as_ref()).await;
        shown.push(format!("{path}: {}", answer.body));
        answer.status
    };
    for (name, kind, port) in [("tidb", "tidb", stack.tidb_port), ("target", "mysql", stack.mariadb_port)] {
        let path = format!("/connections/{name}");
        assert!(ask(Method::PUT, path.clone(), Some(connection(kind, port, RIGHT))).await.is_success());
        assert!(
            !ask(Method::PUT, path, Some(connection(kind, port, WRONG))).await.is_success(),
            "it logs in first"
        );
        ask(
            Method::PUT,
            format!("/connections/{name}-wrong?verify=false"),
            Some(connection(kind, port, WRONG)),
        )
        .await;
        ask(Method::POST, format!("/connections/{name}-wrong/test"), None).await;
        ask(Method::POST, "/connections/test".to_owned(), Some(connection(kind, port, WRONG))).await;
        let mut faulty = connection(kind, port, WRONG);
        faulty["pasword"] = json!(WRONG);
        faulty["port"] = json!("many");
        assert_eq!(ask(Method::PUT, "/connections/faulty".to_owned(), Some(faulty)).await.as_u16(), 422);
    }
    let wrong = json!({"source": {"tidb": "tidb-wrong"}, "target": "target-wrong"});
    api.create_task(&api::spec("wrong", &stack, &["os.*"], &wrong)).await;
    api.command("wrong", "start").await;
    api.wait_for_status("wrong", "failed", PATIENCE).await;
    api.create_task(&api::spec("task", &stack, &["os.*"], &json!({}))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    for task in ["task", "wrong"] {
        for part in [
            "",
            "/spec",
            "/precheck",
            "/plan",
            "/tables",
            "/checkpoint",
            "/ddl",
            "/events",
            "/logs",
            "/diagnosis",
            "/series",
        ] {
            ask(Method::GET, format!("/tasks/{task}{part}"), None).await;
        }
    }
    api.complete("task", "pause").await;
    assert!(ask(Method::POST, "/tasks/task/export".to_owned(), None).await.is_success());
    for path in [
        "/connections",
        "/connections/tidb",
        "/connections/target-wrong",
        "/tasks",
        "/events",
        "/system",
        "/system/series",
    ] {
        ask(Method::GET, path.to_owned(), None).await;
    }
    // A copy of the store is among the files.
    assert!(ask(Method::POST, "/system/backup".to_owned(), None).await.is_success());
    shown.push(api.text("/metrics").await);
    shown.push(server.log());
    for secret in [RIGHT, WRONG] {
        for text in &shown {
            assert!(
                !text.contains(secret),
                "{secret} is shown: {}",
                text.chars().take(3000).collect::<String>()
            );
        }
        for file in server.files() {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", file.display());
        }
    }
    for connection in [&mut source, &mut target] {
        sql::run(connection, &["DROP USER 'os_user'@'%'"]).await;
    }
    sql::drop_schemas(&stack, &["os"]).await;
}

//! Errors that a person meets, provoked on real servers: each is named with its kind, object, hint and page, and after its cure the task
//! goes on with nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};
use support::api::{self, Api};
use support::proxy::Proxy;
use support::server::Server;
use support::stack::Stack;
use support::{compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

struct Case {
    what: &'static str,
    /// On the target, as root.
    broken: &'static [&'static str],
    kind: &'static str,
    page: &'static str,
    /// The error names it.
    object: &'static str,
    cure: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        what: "a table was renamed away",
        broken: &["RENAME TABLE err.t TO err.aside"],
        kind: "missing",
        page: "/problems/missing",
        object: "err.t",
        cure: &["RENAME TABLE err.aside TO err.t"],
    },
    Case {
        what: "a column was dropped",
        broken: &["ALTER TABLE err.t DROP COLUMN later"],
        kind: "missing",
        page: "/problems/missing",
        object: "err.t",
        cure: &["ALTER TABLE err.t ADD COLUMN later INT"],
    },
    Case {
        what: "a column is too narrow",
        broken: &["ALTER TABLE err.t MODIFY note VARCHAR(6)"],
        kind: "value_refused",
        page: "/problems/value-refused",
        object: "err.t",
        cure: &["ALTER TABLE err.t MODIFY note VARCHAR(60)"],
    },
    Case {
        what: "a privilege was taken away",
        broken: &["REVOKE INSERT, DELETE ON err.* FROM 'err_user'@'%'"],
        kind: "access_denied",
        page: "/problems/access-denied",
        object: "err.t",
        cure: &["GRANT INSERT, DELETE ON err.* TO 'err_user'@'%'"],
    },
];

async fn row(stack: &Stack, id: i32) {
    // Only the third case has a note: what is narrowed must hold what is there.
    let note = if id == 12 { "'row number twelve'" } else { "NULL" };
    let insert = format!("INSERT INTO err.t (id, v, note) VALUES ({id}, 'row number {id}', {note})");
    sql::run(&mut sql::tidb(stack).await, &[&insert]).await;
}

async fn condition(api: &Api, r#type: &str) -> Value {
    let has = |task: &Value| {
        let mut conditions = task["conditions"].as_array().unwrap().iter();
        conditions.find(|condition| condition["type"] == r#type).cloned()
    };
    let task = api.wait_for("task", r#type, PATIENCE, |task| has(task).is_some()).await;
    has(&task).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_named_and_its_cure_loses_nothing() {
    let Some(stack) = Stack::on_mysql_alone("every_error_is_named_and_its_cure_loses_nothing") else {
        return;
    };
    sql::drop_schemas(&stack, &["err"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE err",
            "CREATE TABLE err.t (id INT PRIMARY KEY, v VARCHAR(60), note VARCHAR(60), later INT)",
        ],
    )
    .await;
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX";
    sql::run(
        &mut target,
        &[
            "SET GLOBAL read_only = OFF",
            "DROP USER IF EXISTS 'err_user'@'%'",
            "CREATE USER 'err_user'@'%' IDENTIFIED BY 'first-word'",
            &format!("GRANT {rights} ON err.* TO 'err_user'@'%'"),
            &format!("GRANT {rights} ON tidegate.* TO 'err_user'@'%'"),
        ],
    )
    .await;
    row(&stack, 0).await;
    let proxy = Proxy::start(stack.mariadb_port).await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let as_user = |password: &str| json!({"kind": "mysql", "host": "127.0.0.1", "port": proxy.port, "user": "err_user", "password": password});
    api.put("/connections/target", &as_user("first-word")).await;
    api.create_task(&api::spec("task", &stack, &["err.*"], &json!({}))).await;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;

    for (nth, case) in CASES.iter().enumerate() {
        sql::run(&mut target, case.broken).await;
        row(&stack, 10 + nth as i32).await;
        let failed = api.wait_for_status("task", "failed", PATIENCE).await;
        let error = &failed["last_error"];
        let what = case.what;
        eprintln!("{what}: {error:#}");
        assert_eq!(error["kind"], case.kind, "{what}: {error:#}");
        assert_eq!(error["help"], case.page, "{what}: {error:#}");
        assert_eq!(error["endpoint"], "target", "{what}: {error:#}");
        assert!(error["object"].as_str().unwrap().contains(case.object), "{what}: {error:#}");
        assert!(error["hint"].as_str().unwrap().len() > 20, "{what}: {error:#}");
        assert!(!error.to_string().contains("row number"), "{what}: a value is shown: {error:#}");
        let page = api.text(case.page).await;
        assert!(page.contains("Cause") && page.contains("Cure"), "{page}");
        sql::run(&mut target, case.cure).await;
        api.command("task", "resume").await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
    }

    // A server that takes no writes: a state of its own, which ends by itself.
    sql::run(&mut target, &["SET GLOBAL read_only = ON"]).await;
    row(&stack, 50).await;
    let locked = condition(api, "target_locked").await;
    sql::run(&mut target, &["SET GLOBAL read_only = OFF"]).await;
    assert!(locked["attempt"].as_u64().unwrap() >= 1 && locked["retry_at"].is_string(), "{locked:#}");
    assert!(locked["since"].is_string() && locked["hint"].is_string(), "{locked:#}");
    api.wait_caught_up("task", &stack, PATIENCE).await;

    // A server that cannot be reached: the clock of connections, with the attempt, the next one and since when.
    proxy.refuse();
    row(&stack, 51).await;
    let first = condition(api, "retrying").await;
    let more = |task: &Value| {
        task["conditions"].as_array().unwrap().iter().any(|condition| {
            condition["type"] == "retrying" && condition["attempt"].as_u64() > first["attempt"].as_u64()
        })
    };
    let again = api.wait_for("task", "a further attempt", PATIENCE, more).await;
    let again = again["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["type"] == "retrying")
        .unwrap()
        .clone();
    assert_eq!(again["since"], first["since"], "since when nothing went through: {again:#}");
    proxy.heal(false);
    api.wait_caught_up("task", &stack, PATIENCE).await;

    // Somebody else holds a row: tried again in place, then by the task's other clock, and it goes on by itself.
    sql::run(&mut target, &["SET GLOBAL innodb_lock_wait_timeout = 1"]).await;
    proxy.cut();
    let mut holder = sql::target(&stack).await;
    sql::run(&mut holder, &["BEGIN", "SELECT * FROM err.t WHERE id = 50 FOR UPDATE"]).await;
    sql::run(&mut sql::tidb(&stack).await, &["UPDATE err.t SET v = 'row number held' WHERE id = 50"]).await;
    let held = |task: &Value| task["last_error"]["kind"] == "contention";
    let task = api.wait_for("task", "held up", PATIENCE, held).await;
    eprintln!("a lock: {:#}", task["last_error"]);
    assert_eq!(
        (&task["status"], &task["last_error"]["help"]),
        (&json!("running"), &json!("/problems/contention"))
    );
    sql::run(&mut holder, &["ROLLBACK"]).await;
    sql::run(&mut target, &["SET GLOBAL innodb_lock_wait_timeout = 50"]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;

    // The password was changed, and the server let go of the old sessions.
    sql::run(&mut target, &["ALTER USER 'err_user'@'%' IDENTIFIED BY 'second-word'"]).await;
    proxy.cut();
    row(&stack, 52).await;
    let failed = api.wait_for_status("task", "failed", PATIENCE).await;
    assert_eq!(failed["last_error"]["kind"], "access_denied", "{failed:#}");
    let patch = json!({"password": "second-word"});
    api.send(Method::PATCH, "/connections/target", Some(&patch)).await.good("a new password");
    api.command("task", "resume").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[("err", "err")]).await;
    for secret in ["first-word", "second-word"] {
        assert!(!server.log().contains(secret), "a password is in the log");
    }
    sql::drop_schemas(&stack, &["err"]).await;
}

/// A task on a silent topic makes no progress that could tell one outage from the next. A clock that runs out ends the task.
#[tokio::test(flavor = "multi_thread")]
async fn each_outage_of_an_idle_task_has_a_clock_of_its_own() {
    let Some(stack) = Stack::utc("each_outage_of_an_idle_task_has_a_clock_of_its_own") else { return };
    let topic = format!("errors_idle_{}", std::process::id());
    stack.create_topic(&topic, 1);
    let kafka = Proxy::kafka(stack.kafka.rsplit(':').next().unwrap().parse().unwrap()).await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let brokers = json!({"kind": "kafka", "brokers": [format!("127.0.0.1:{}", kafka.port)]});
    api.put("/connections/kafka", &brokers).await;
    api.create_task(&json!({
        "name": "task",
        "source": {"kafka": "kafka", "topic": topic},
        "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": {"offset": "0"},
        "objects": {"include": ["errors_idle.*"]},
    }))
    .await;
    api.start("task").await;
    api.wait_for("task", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    let mut began = Vec::new();
    for _ in 0..2 {
        kafka.refuse();
        let retrying = condition(api, "retrying").await;
        assert_eq!(retrying["attempt"], 1, "{retrying:#}");
        assert_eq!(retrying["help"], "/problems/unreachable", "{retrying:#}");
        began.push(retrying["since"].clone());
        kafka.heal(false);
        let well = |task: &Value| !task["conditions"].to_string().contains("retrying");
        api.wait_for("task", "well again", PATIENCE, well).await;
    }
    assert_ne!(began[0], began[1]);
    let events = api.get("/tasks/task/events?limit=500").await;
    let events = events["items"].as_array().unwrap();
    let told = |words: &str| {
        events.iter().filter(|event| event["message"].as_str().unwrap().starts_with(words)).count()
    };
    assert_eq!((told("retrying"), told("recovered")), (2, 2), "{events:#?}");

    // One that lasts longer than the task may wait ends it, and what is done then is up to a person.
    let short = json!({"errors": {"connection_retry_ms": 1500}});
    api.send(Method::PATCH, "/tasks/task/spec", Some(&short)).await.good("a shorter clock");
    kafka.refuse();
    let failed = api.wait_for_status("task", "failed", PATIENCE).await;
    assert_eq!(failed["last_error"]["kind"], "unreachable", "{failed:#}");
    assert_eq!(failed["last_error"]["help"], "/problems/unreachable");
    kafka.heal(false);
    api.command("task", "resume").await;
    let well = |task: &Value| task["status"] == "running" && task["health"] == "ok";
    api.wait_for("task", "well after a resume", PATIENCE, well).await;
}

/// InnoDB ends the transaction that has changed less: the task's statement, which is run again in place.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_run_again_in_place() {
    let Some(stack) = Stack::on_mysql_alone("a_deadlock_is_run_again_in_place") else { return };
    let schema = "err_lock";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let rows: Vec<String> = (1..=9).map(|id| format!("({id}, 0)")).collect();
    let insert = format!("INSERT INTO {schema}.t VALUES {}", rows.join(", "));
    let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT)");
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &create, &insert]).await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.*")], &json!({}))).await;
    api.start("task").await;
    api.wait_for("task", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;

    let (mut target, mut holder) = (sql::target(&stack).await, sql::target(&stack).await);
    let own = format!("CREATE TABLE {schema}.of_the_holder (id INT PRIMARY KEY)");
    let heavy = format!("INSERT INTO {schema}.of_the_holder SELECT seq FROM {schema}.seq_1_to_2000");
    let middle = format!("UPDATE {schema}.t SET v = -1 WHERE id = 5");
    sql::run(&mut holder, &[&own, "BEGIN", &heavy, &middle]).await;
    let deadlocks = "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'";
    let (_, before): (String, u64) = target.query_first(deadlocks).await.unwrap().unwrap();
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET v = id")]).await;
    // It has the rows before the fifth, and waits for that one.
    let waits =
        format!("SELECT COUNT(*) FROM information_schema.innodb_locks WHERE lock_table LIKE '%{schema}%'");
    tokio::time::timeout(PATIENCE, async {
        while target.query_first::<u64, _>(&waits).await.unwrap().unwrap() == 0 {
            // InnoDB shows news to those who have not looked for 100 ms.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("nothing waits for the row");
    let others = format!("UPDATE {schema}.t SET v = -1 WHERE id <> 5");
    sql::run(&mut holder, &[&others, "ROLLBACK"]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let (_, after): (String, u64) = target.query_first(deadlocks).await.unwrap().unwrap();
    assert!(after > before, "there was no deadlock");
    let task = api.task("task").await;
    assert_eq!((&task["run"], &task["progress"]["retries"]), (&json!(1), &json!(0)), "{task:#}");
    sql::run(&mut target, &[&format!("DROP TABLE {schema}.of_the_holder")]).await;
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

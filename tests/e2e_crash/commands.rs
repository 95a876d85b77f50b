//! Deaths in the middle of what an operator asks for: other objects, a decision about a DDL, a reset, rows set aside and tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{PATIENCE, assert_equal, crash_at, dies, wait_following};
use support::api::{self, Api};
use support::server::Server;
use support::sql;
use support::stack::{Dialect, Stack};

/// Points that are still to be met: what is left at the end was not tested.
struct Points(BTreeSet<&'static str>);

impl Points {
    /// The server runs anew and will die there.
    async fn arm(&mut self, server: &mut Server, point: &'static str) {
        assert!(self.0.remove(point), "{point} is not listed");
        server.stop().await;
        server.spawn(&crash_at(point));
        server.ready().await;
    }
}

async fn run(stack: &Stack, statements: &[String]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The process may die before it answers.
async fn ask(api: &Api, path: &str, body: Value) {
    api.try_send(Method::POST, &format!("/tasks/task{path}"), Some(&body)).await;
}

async fn is_running(api: &Api) {
    let wanted = |task: &Value| task["status"] == "running" && task["phase"] == "incremental";
    api.wait_for("task", "running", PATIENCE, wanted).await;
}

pub async fn commands(stack: Stack, schema: &str) {
    let mut points = Points(tidegate::crash::COMMANDS.iter().copied().collect());
    sql::drop_schemas(&stack, &[schema]).await;
    let rows: Vec<_> = (1..=30).map(|id| format!("({id}, 'row {id}')")).collect();
    run(
        &stack,
        &[
            format!("CREATE DATABASE {schema}"),
            format!("CREATE TABLE {schema}.k (id INT PRIMARY KEY, v VARCHAR(60))"),
            format!("CREATE TABLE {schema}.other (id INT PRIMARY KEY, v VARCHAR(60))"),
            format!("INSERT INTO {schema}.k VALUES {}", rows.join(",")),
            format!("INSERT INTO {schema}.other VALUES {}", rows.join(",")),
        ],
    )
    .await;
    let mut server = Server::start().await;
    let api = server.api.clone();
    api.connect(&stack).await;
    let more =
        json!({"errors": {"row": "dead_letter", "dead_letter_limit": 20}, "ddl": {"add_column": "stop"}});
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.k")], &more)).await;
    api.start("task").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;

    objects(&stack, schema, &mut server, &mut points).await;
    // What AnalyticDB refuses it refuses for good: only on MySQL a row can be taken later as it is.
    if stack.dialect == Dialect::Mysql {
        letters(&stack, schema, &mut server, &mut points).await;
    } else {
        points.0.retain(|point| !point.starts_with("letter"));
    }
    resets(&stack, schema, &mut server, &mut points).await;
    decision(&stack, schema, &mut server, &mut points).await;
    assert!(points.0.is_empty(), "never met: {:?}", points.0);
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn objects(stack: &Stack, schema: &str, server: &mut Server, points: &mut Points) {
    let api = server.api.clone();
    let other = json!({"tables": [{"schema": schema, "table": "other"}]});
    for (nth, point) in ["objects.before", "objects.saved"].into_iter().enumerate() {
        points.arm(server, point).await;
        is_running(&api).await;
        ask(&api, "/objects/add", other.clone()).await;
        dies(server, point).await;
        run(stack, &[format!("INSERT INTO {schema}.other VALUES ({}, 'after')", 100 + nth)]).await;
        wait_following(&api, schema, "other").await;
        api.wait_caught_up("task", stack, PATIENCE).await;
        assert_equal(stack, schema, point).await;
        if nth == 0 {
            let path = "/tasks/task/objects/remove?wait_ms=60000";
            api.send(Method::POST, path, Some(&other)).await.good("remove");
        }
    }
}

async fn open_letters(api: &Api) -> Vec<i64> {
    let body = api.get("/tasks/task/dead-letters?state=open&limit=500").await;
    body["items"].as_array().unwrap().iter().map(|letter| letter["n"].as_i64().unwrap()).collect()
}

async fn letters(stack: &Stack, schema: &str, server: &mut Server, points: &mut Points) {
    let api = server.api.clone();
    let mut target = sql::target(stack).await;
    let narrow = |length: u32| format!("ALTER TABLE {schema}.k MODIFY v VARCHAR({length})");
    sql::run(&mut target, &[&narrow(10)]).await;
    let long = "too long for the target's column";
    for (nth, point) in ["letters.refused", "letters.put_back"].into_iter().enumerate() {
        points.arm(server, point).await;
        is_running(&api).await;
        let (update, insert, fits) = (nth + 1, nth + 110, nth + 120);
        run(
            stack,
            &[
                format!(r#"UPDATE {schema}.k SET v = "{long}" WHERE id = {update}"#),
                format!(r#"INSERT INTO {schema}.k VALUES ({insert}, "{long}"), ({fits}, "fits")"#),
            ],
        )
        .await;
        dies(server, point).await;
        api.wait_caught_up("task", stack, PATIENCE).await;
        assert_eq!(open_letters(&api).await.len(), 2 * (nth + 1), "after a death at {point}");
        // The rows as they were before, and those that fit.
        let kept = sql::count(&mut target, &format!("{schema}.k")).await;
        assert_eq!(kept, 31 + nth as u64, "after a death at {point}");
    }
    sql::run(&mut target, &[&narrow(60)]).await;
    for point in ["letter.retried", "letter.tried"] {
        let n = open_letters(&api).await[0];
        points.arm(server, point).await;
        is_running(&api).await;
        ask(&api, &format!("/dead-letters/{n}/retry"), json!({})).await;
        dies(server, point).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while open_letters(&api).await.contains(&n) {
            assert!(tokio::time::Instant::now() < end, "{point}: letter {n} stays open");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    ask(&api, "/dead-letters/retry?wait_ms=60000", json!({"all": true})).await;
    assert_eq!(open_letters(&api).await, Vec::<i64>::new());
    assert_equal(stack, schema, "letters").await;
}

async fn resets(stack: &Stack, schema: &str, server: &mut Server, points: &mut Points) {
    let api = server.api.clone();
    for (nth, point) in ["reset.saved", "reset.table", "reset.forgotten"].into_iter().enumerate() {
        api.complete("task", "pause").await;
        points.arm(server, point).await;
        let what = if nth == 1 { "drop" } else { "truncate" };
        ask(&api, "/reset", json!({"target_tables": what})).await;
        dies(server, point).await;
        let task = api.task("task").await;
        assert_eq!(
            (&task["status"], &task["checkpoint"]),
            (&json!("created"), &Value::Null),
            "after a death at {point}: {task:#}"
        );
        run(stack, &[format!("DELETE FROM {schema}.k WHERE id = {}", nth + 1)]).await;
        api.start("task").await;
        api.wait_caught_up("task", stack, PATIENCE).await;
        assert_equal(stack, schema, point).await;
    }
}

async fn decision(stack: &Stack, schema: &str, server: &mut Server, points: &mut Points) {
    let api = server.api.clone();
    run(
        stack,
        &[
            format!("ALTER TABLE {schema}.k ADD COLUMN more INT"),
            format!("INSERT INTO {schema}.k VALUES (90, 'behind', 1)"),
        ],
    )
    .await;
    api.wait_for_status("task", "failed", PATIENCE).await;
    let failed = api.get("/tasks/task/ddl?state=failed").await;
    let n = failed["items"].as_array().unwrap().last().expect("a failed DDL")["n"].as_i64().unwrap();
    let point = "decision.saved";
    points.arm(server, point).await;
    ask(&api, &format!("/ddl/{n}/skip"), json!({})).await;
    dies(server, point).await;
    api.wait_caught_up("task", stack, PATIENCE).await;
    let record = api.get(&format!("/tasks/task/ddl/{n}")).await;
    assert_eq!(
        (&record["state"], &record["decision"]["kind"]),
        (&json!("ignored"), &json!("skip")),
        "{record:#}"
    );
    let table = format!("{schema}.k");
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    assert_eq!(sql::count(&mut target, &table).await, sql::count(&mut source, &table).await);
}

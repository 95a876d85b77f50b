//! Single tables beside the others: resync under load, through DDL and through kill -9; errors of one table; commands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Error;
use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// A task "tables" over the schema, which has the tables `t` (with rows) and `other`.
async fn begin(stack: &Stack, schema: &str, rows: u32, more: &Value) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    let create = [
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60), n INT)"),
        format!("CREATE TABLE {schema}.other (id INT PRIMARY KEY, v VARCHAR(60))"),
        format!("INSERT INTO {schema}.other VALUES (1, 'one')"),
    ];
    sql::run(&mut source, &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for start in (0..rows).step_by(1000) {
        let values: Vec<_> =
            (start..rows.min(start + 1000)).map(|id| format!("({id},'row {id}',{id})")).collect();
        let insert = format!("INSERT INTO {schema}.t VALUES {}", values.join(","));
        sql::run(&mut source, &[&insert]).await;
    }
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec("tables", stack, &[&format!("{schema}.*")], more)).await;
    server.api.start("tables").await;
    server
        .api
        .wait_for("tables", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    server
}

async fn finish(stack: &Stack, server: &Server, schema: &str) {
    server.api.wait_caught_up("tables", stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(stack, &[schema]).await;
}

async fn table(server: &Server, schema: &str, table: &str) -> Value {
    let path = format!("/tasks/tables/tables/{schema}/{table}");
    match server.api.try_send(Method::GET, &path, None).await {
        Some(answer) if answer.status.is_success() => answer.body,
        _ => Value::Null,
    }
}

/// Waits until the table is in one of the states; gives it.
async fn wait_for_state(server: &Server, schema: &str, name: &str, states: &[&str]) -> Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let table = table(server, schema, name).await;
        if table["state"].as_str().is_some_and(|state| states.contains(&state)) {
            return table;
        }
        let task = server.api.task("tables").await;
        assert_ne!(task["status"], "failed", "the task failed: {task:#}");
        assert!(
            tokio::time::Instant::now() < end,
            "{schema}.{name} is never {states:?}: {table:#}\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(server: &Server, command: &str, schema: &str, name: &str) -> (StatusCode, Value) {
    let body = json!({"tables": [{"schema": schema, "table": name}]});
    let answer = server.api.send(Method::POST, &format!("/tasks/tables/tables/{command}"), Some(&body)).await;
    (answer.status, answer.body)
}

async fn resync(server: &Server, schema: &str, name: &str) {
    let (status, body) = ask(server, "resync", schema, name).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body:#}");
}

/// How often a resync was merged.
async fn resyncs(server: &Server) -> usize {
    let events = server.api.get("/tasks/tables/events?limit=500").await;
    let events = events["items"].as_array().unwrap().clone();
    events.iter().filter(|event| event["kind"] == "table_resynced").count()
}

async fn wait_for_resyncs(server: &Server, wanted: usize) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while resyncs(server).await < wanted {
        let task = server.api.task("tables").await;
        assert_ne!(task["status"], "failed", "the task failed: {task:#}");
        assert!(tokio::time::Instant::now() < end, "the resync does not end\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes to both tables until told to stop.
fn load(stack: &Stack, schema: &str, end: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (stack, schema) = (stack.clone(), schema.to_owned());
    tokio::spawn(async move {
        let mut source = sql::tidb(&stack).await;
        let mut round = 0_u64;
        while !end.load(Ordering::Relaxed) {
            round += 1;
            let id = 100_000 + round;
            let statements = [
                format!("INSERT INTO {schema}.t (id, v, n) VALUES ({id}, 'new', 0)"),
                format!("UPDATE {schema}.t SET v = CONCAT('round ', {round}) WHERE id % 97 = {}", round % 97),
                format!("DELETE FROM {schema}.t WHERE id = {}", round * 7),
                format!("UPDATE {schema}.t SET id = id + 1000000 WHERE id = {}", round * 11 + 1),
                format!("REPLACE INTO {schema}.other VALUES ({}, 'x{round}')", round % 50),
            ];
            for statement in statements {
                match source.query_drop(&statement).await {
                    // TiDB refuses what meets a change of the schema (1105: EncodeRow, data and column count).
                    Err(Error::Server(error)) if [1105, 8028].contains(&error.code) => {}
                    other => other.unwrap_or_else(|error| panic!("{statement}: {error}")),
                }
            }
        }
        round
    })
}

/// Makes the target's table differ in every way.
async fn damage(stack: &Stack, schema: &str) {
    let mut target = sql::target(stack).await;
    let statements = [
        format!("DELETE FROM {schema}.t WHERE id < 50"),
        format!("REPLACE INTO {schema}.t (id, v, n) VALUES (60, 'wrong', 1)"),
        format!("REPLACE INTO {schema}.t (id, v, n) VALUES (99999, 'a ghost', 1)"),
    ];
    sql::run(&mut target, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn resync_under_load(stack: &Stack, schema: &str) {
    let server = begin(stack, schema, 5000, &json!({})).await;
    damage(stack, schema).await;
    let end = Arc::new(AtomicBool::new(false));
    let writer = load(stack, schema, Arc::clone(&end));
    resync(&server, schema, "t").await;
    wait_for_resyncs(&server, 1).await;
    // A DDL in the middle: the copy begins again. It takes seconds, so that nobody misses it.
    let mut source = sql::tidb(stack).await;
    server.api.put("/tasks/tables/throttle", &json!({"full_rows_per_second": 1500})).await;
    resync(&server, schema, "t").await;
    wait_for_state(&server, schema, "t", &["copying", "catching_up"]).await;
    sql::run(&mut source, &[&format!("ALTER TABLE {schema}.t ADD COLUMN more INT DEFAULT 3")]).await;
    server.api.put("/tasks/tables/throttle", &json!({})).await;
    wait_for_resyncs(&server, 2).await;
    end.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert_eq!(wait_for_state(&server, schema, "t", &["following"]).await["error"], Value::Null);
    sql::run(&mut source, &[&format!("UPDATE {schema}.t SET more = 4 WHERE id > 4000")]).await;
    finish(stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_under_load_ends_equal() {
    let Some(stack) = Stack::utc("a_resync_under_load_ends_equal") else { return };
    resync_under_load(&stack, "ft_load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_under_load_ends_equal_on_adb() {
    let Some(stack) = Stack::utc("a_resync_under_load_ends_equal_on_adb") else { return };
    resync_under_load(&stack.on_adb(), "ft_load_adb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_is_killed_in_any_state_begins_again_and_ends_equal() {
    let Some(stack) = Stack::utc("a_resync_that_is_killed_in_any_state_begins_again_and_ends_equal") else {
        return;
    };
    let schema = "ft_kill";
    let mut server = begin(&stack, schema, 5000, &json!({})).await;
    damage(&stack, schema).await;
    let end = Arc::new(AtomicBool::new(false));
    let writer = load(&stack, schema, Arc::clone(&end));
    for round in 0..4 {
        let merged = resyncs(&server).await;
        resync(&server, schema, "t").await;
        // The shorter states may be missed: then it is killed in a later one.
        let states = ["resync", "copying", "catching_up", "swapping"];
        let wanted = &states[round..];
        // The shortest may be over between two looks.
        while !table(&server, schema, "t").await["state"].as_str().is_some_and(|now| wanted.contains(&now))
            && resyncs(&server).await <= merged
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill9();
        server.restart().await;
        wait_for_resyncs(&server, merged + 1).await;
    }
    end.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    wait_for_state(&server, schema, "t", &["following"]).await;
    let left: Vec<_> = sql::tables(&mut sql::target(&stack).await, schema).await;
    assert_eq!(left, ["other", "t"], "nothing is left of the copies");
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_table_stops_that_table_and_a_resync_brings_it_back() {
    let Some(stack) =
        Stack::on_mysql_alone("an_error_of_one_table_stops_that_table_and_a_resync_brings_it_back")
    else {
        return;
    };
    let schema = "ft_stop";
    let server = begin(&stack, schema, 100, &json!({"errors": {"table": "stop_table"}})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    sql::run(&mut target, &[&format!("ALTER TABLE {schema}.t MODIFY v VARCHAR(10)")]).await;
    // One batch, one transaction: the other table's half of it must arrive.
    let both = [
        "BEGIN".to_owned(),
        format!("INSERT INTO {schema}.t VALUES (5000, 'far too long for the target', 1)"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
        "COMMIT".to_owned(),
        format!("INSERT INTO {schema}.other VALUES (3, 'three')"),
        format!("UPDATE {schema}.t SET n = 0"),
    ];
    sql::run(&mut source, &both.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stopped = wait_for_state(&server, schema, "t", &["stopped"]).await;
    assert_eq!(stopped["error"]["kind"], "value_refused", "{stopped:#}");
    assert!(stopped["error"]["object"].as_str().unwrap().contains("t"), "{stopped:#}");
    assert!(!stopped["error"]["message"].as_str().unwrap().contains("far too long for"), "{stopped:#}");
    let task = server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    let conditions = task["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == "table_stopped").unwrap();
    assert_eq!(
        (condition["object"].as_str(), task["health"].as_str()),
        (Some("ft_stop.t"), Some("degraded"))
    );
    assert_eq!(sql::count(&mut target, "ft_stop.other").await, 3);
    // What it cannot come back by.
    let (status, body) = ask(&server, "resume", schema, "t").await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::CONFLICT, Some("invalid-transition")),
        "{body:#}"
    );

    // A DDL that the table cannot take stops it as well, and so does a table that is gone.
    sql::run(&mut target, &[&format!("DROP TABLE {schema}.other")]).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.other VALUES (4, 'four')")]).await;
    wait_for_state(&server, schema, "other", &["stopped"]).await;
    resync(&server, schema, "t").await;
    resync(&server, schema, "other").await;
    wait_for_resyncs(&server, 2).await;
    wait_for_state(&server, schema, "t", &["following"]).await;
    wait_for_state(&server, schema, "other", &["following"]).await;
    sql::run(
        &mut source,
        &[&format!("INSERT INTO {schema}.t VALUES (5001, 'as long as before, and it fits', 1)")],
    )
    .await;
    let task = server.api.task("tables").await;
    assert!(!task["conditions"].to_string().contains("table_stopped"), "{task:#}");
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ddl_that_one_table_cannot_take_stops_that_table() {
    let Some(stack) = Stack::utc("a_ddl_that_one_table_cannot_take_stops_that_table") else { return };
    let schema = "ft_ddl";
    let server = begin(&stack, schema, 100, &json!({"errors": {"table": "stop_table"}})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    // Somebody was there first.
    sql::run(&mut target, &[&format!("ALTER TABLE {schema}.t ADD COLUMN c VARCHAR(5)")]).await;
    let statements = [
        format!("ALTER TABLE {schema}.t ADD COLUMN c INT DEFAULT 9"),
        format!("UPDATE {schema}.t SET c = id"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
        format!("TRUNCATE TABLE {schema}.t"),
        format!("INSERT INTO {schema}.t VALUES (1, 'one', 1, 1)"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for_state(&server, schema, "t", &["stopped"]).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::count(&mut target, "ft_ddl.other").await, 2);
    resync(&server, schema, "t").await;
    wait_for_resyncs(&server, 1).await;
    finish(&stack, &server, schema).await;
}

/// The table that a statement without a schema names is not the one of that name that the task has.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_from_elsewhere_stops_no_table_of_the_old_name() {
    let Some(stack) = Stack::utc("a_rename_from_elsewhere_stops_no_table_of_the_old_name") else { return };
    let (schema, other) = ("ft_else", "ft_else_o");
    let server = begin(&stack, schema, 100, &json!({"errors": {"table": "stop_table"}})).await;
    sql::drop_schemas(&stack, &[other]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    // Somebody's.
    sql::run(
        &mut target,
        &["CREATE TABLE ft_else.t2 (id INT PRIMARY KEY)", "INSERT INTO ft_else.t2 VALUES (1)"],
    )
    .await;
    let statements = [
        "CREATE DATABASE ft_else_o",
        "USE ft_else_o",
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "INSERT INTO t VALUES (7, 'seven')",
        "RENAME TABLE t TO ft_else.t2",
        "INSERT INTO ft_else.t2 VALUES (8, 'eight')",
    ];
    sql::run(&mut source, &statements).await;
    let task = server.api.wait_for_status("tables", "failed", PATIENCE).await;
    assert!(task["last_error"]["message"].as_str().unwrap().contains("is not the task's"), "{task:#}");
    assert_eq!(table(&server, schema, "t").await["state"], "following");
    assert_eq!(sql::count(&mut target, "ft_else.t2").await, 1);
    sql::run(&mut target, &["DROP TABLE ft_else.t2"]).await;
    server.api.command("tables", "resume").await;
    server.api.wait_for_status("tables", "running", PATIENCE).await;
    wait_for_resyncs(&server, 1).await;
    sql::drop_schemas(&stack, &[other]).await;
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_adb_does_not_take_stops_its_table_until_it_has_another() {
    let test = "a_name_that_adb_does_not_take_stops_its_table_until_it_has_another";
    let Some(stack) = Stack::utc(test).map(Stack::on_adb) else { return };
    let schema = "ft_name";
    let server = begin(&stack, schema, 100, &json!({"errors": {"table": "stop_table"}})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let statements = [
        // The session's schema, which the stream does not tell: the source is asked.
        format!("USE {schema}"),
        format!("RENAME TABLE t TO {schema}.`0t`"),
        "UPDATE `0t` SET n = 7".to_owned(),
        "INSERT INTO other VALUES (2, 'two')".to_owned(),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stopped = wait_for_state(&server, schema, "0t", &["stopped"]).await;
    assert!(stopped["error"]["message"].as_str().unwrap().contains("names of 1 to 127"), "{stopped:#}");
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::count(&mut target, "ft_name.other").await, 2);
    assert_eq!(sql::count(&mut target, "ft_name.t").await, 100, "it keeps its place");
    // A copy does not help.
    resync(&server, schema, "0t").await;
    let end = tokio::time::Instant::now() + PATIENCE;
    // Stopped anew: one that still stands as it was would be copied under its next name.
    while wait_for_state(&server, schema, "0t", &["stopped"]).await["error"]["at"] == stopped["error"]["at"] {
        assert!(tokio::time::Instant::now() < end, "the copy was not tried: {stopped:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sql::run(&mut source, &["RENAME TABLE `0t` TO t2"]).await;
    wait_for_state(&server, schema, "t2", &["stopped"]).await;
    resync(&server, schema, "t2").await;
    wait_for_state(&server, schema, "t2", &["following"]).await;
    sql::run(&mut target, &["DROP TABLE ft_name.t"]).await;
    finish(&stack, &server, schema).await;
}

/// `ddl.x = stop` is a question to the operator: the task waits before the statement, and no copy is needed once it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_ddl_that_stops_by_policy_stops_the_task_and_needs_no_copy() {
    let Some(stack) = Stack::utc("a_ddl_that_stops_by_policy_stops_the_task_and_needs_no_copy") else {
        return;
    };
    let schema = "ft_policy";
    let more = json!({"errors": {"table": "stop_table"}, "ddl": {"add_column": "stop"}});
    let server = begin(&stack, schema, 100, &more).await;
    let mut source = sql::tidb(&stack).await;
    let statements = [
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
        format!("ALTER TABLE {schema}.t ADD COLUMN c INT DEFAULT 9"),
        format!("UPDATE {schema}.t SET c = id WHERE id < 50"),
        format!("INSERT INTO {schema}.other VALUES (3, 'three')"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let task = server.api.wait_for_status("tables", "failed", PATIENCE).await;
    assert_eq!(task["last_error"]["kind"], "stopped_by_policy", "{task:#}");
    assert!(task["last_error"]["hint"].as_str().unwrap().contains("ddl.add_column"), "{task:#}");
    // What came before it is there.
    assert_eq!(sql::count(&mut sql::target(&stack).await, "ft_policy.other").await, 2);
    let apply = json!({"ddl": {"add_column": "apply"}});
    server.api.send(Method::PATCH, "/tasks/tables/spec", Some(&apply)).await.good("apply");
    server.api.command("tables", "resume").await;
    server.api.wait_for_status("tables", "running", PATIENCE).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(resyncs(&server).await, 0);
    finish(&stack, &server, schema).await;
}

async fn rename_aside(stack: &Stack, schema: &str) {
    let server = begin(stack, schema, 100, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    assert_eq!(ask(&server, "pause", schema, "t").await.0, StatusCode::ACCEPTED);
    wait_for_state(&server, schema, "t", &["paused"]).await;
    let statements = [
        format!("RENAME TABLE {schema}.t TO {schema}.put_away"),
        // The name is taken again, by a table with other columns.
        format!("CREATE TABLE {schema}.t (k VARCHAR(9) PRIMARY KEY, d DATE)"),
        format!("INSERT INTO {schema}.t VALUES ('a', '2024-02-29')"),
        format!("DELETE FROM {schema}.put_away WHERE id < 50"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.api.wait_caught_up("tables", stack, PATIENCE).await;
    assert_eq!(sql::tables(&mut target, schema).await, ["other", "put_away", "t"]);
    assert_eq!(sql::count(&mut target, &format!("{schema}.put_away")).await, 100, "it is paused");
    assert_eq!(sql::count(&mut target, &format!("{schema}.t")).await, 1);
    // Its next name is taken there: it stays where it is, and that is told.
    sql::run(&mut target, &[&format!("CREATE TABLE {schema}.taken (id INT PRIMARY KEY)")]).await;
    sql::run(&mut source, &[&format!("RENAME TABLE {schema}.put_away TO {schema}.taken")]).await;
    wait_for_state(&server, schema, "taken", &["paused"]).await;
    assert_eq!(sql::tables(&mut target, schema).await, ["other", "put_away", "t", "taken"]);
    let ddl = server.api.get("/tasks/tables/ddl?limit=500").await.to_string();
    let told =
        format!("{schema}.put_away is not followed: on the target it stays {schema}.put_away, in the way");
    assert!(ddl.contains(&told), "{ddl}");
    // Nothing is there to be moved: that is no reason to stop.
    sql::run(&mut target, &[&format!("DROP TABLE {schema}.put_away"), &format!("DROP TABLE {schema}.taken")])
        .await;
    sql::run(&mut source, &[&format!("RENAME TABLE {schema}.taken TO {schema}.back")]).await;
    wait_for_state(&server, schema, "back", &["paused"]).await;
    assert_eq!(ask(&server, "resume", schema, "back").await.0, StatusCode::ACCEPTED);
    wait_for_resyncs(&server, 1).await;
    finish(stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_table_that_is_renamed_is_not_in_the_way() {
    let Some(stack) = Stack::utc("a_paused_table_that_is_renamed_is_not_in_the_way") else { return };
    rename_aside(&stack, "ft_aside").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_table_that_is_renamed_is_not_in_the_way_on_adb() {
    let Some(stack) = Stack::utc("a_paused_table_that_is_renamed_is_not_in_the_way_on_adb") else { return };
    rename_aside(&stack.on_adb(), "ft_aside_adb").await;
}

/// A copy in the making that is wanted no more: its table is paused, and dropped while no server runs.
#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_not_wanted_any_more_are_removed() {
    let Some(stack) = Stack::utc("copies_that_are_not_wanted_any_more_are_removed") else { return };
    let (stack, schema) = (stack.on_adb(), "ft_tidy");
    let mut server = begin(&stack, schema, 3000, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let theirs = format!("CREATE TABLE {schema}._tidegate_resync_theirs (id INT PRIMARY KEY)");
    sql::run(&mut target, &[&theirs]).await;
    stack.adb_clear_all("ft_tidy").await;
    let slow = stack.adb_fault("do=slow&ms=1500&match=ft_tidy|REPLACE|_tidegate_resync_t_").await;
    for round in 0..2 {
        resync(&server, schema, "t").await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while sql::tables(&mut target, schema).await.len() < 4 {
            assert!(tokio::time::Instant::now() < end, "no copy is made\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if round == 0 {
            assert_eq!(ask(&server, "pause", schema, "t").await.0, StatusCode::ACCEPTED);
        } else {
            server.kill9();
            sql::run(&mut source, &[&format!("DROP TABLE {schema}.t")]).await;
            server.restart().await;
        }
        let wanted: &[&str] = if round == 0 {
            &["_tidegate_resync_theirs", "other", "t"]
        } else {
            &["_tidegate_resync_theirs", "other"]
        };
        while sql::tables(&mut target, schema).await != wanted {
            let left = sql::tables(&mut target, schema).await;
            assert!(tokio::time::Instant::now() < end, "{left:?}\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    stack.adb_clear(slow).await;
    // What is not ours stays, whatever its name.
    sql::run(&mut target, &[&format!("DROP TABLE {schema}._tidegate_resync_theirs")]).await;
    finish(&stack, &server, schema).await;
}

/// Of several tables in one the target cannot say whose row it refused: each is tried alone, and the guilty one stops.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_merged_tables_stops_alone() {
    let Some(stack) = Stack::on_mysql_alone("one_of_several_merged_tables_stops_alone") else { return };
    let schemas = ["ft_m1", "ft_m2", "ft_m3"];
    sql::drop_schemas(&stack, &[&schemas[..], &["ft_merged"]].concat()).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    for schema in schemas {
        let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(60))");
        sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &create]).await;
    }
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let places: serde_json::Map<_, _> =
        schemas.iter().map(|schema| ((*schema).to_owned(), json!({"target": "ft_merged"}))).collect();
    let more = json!({
        "objects": {"schemas": places}, "errors": {"table": "stop_table"},
        "merge": {"column": "__source", "value": "{schema}.{table}"},
    });
    let include: Vec<_> = schemas.iter().map(|schema| format!("{schema}.*")).collect();
    let include: Vec<_> = include.iter().map(String::as_str).collect();
    server.api.create_task(&api::spec("tables", &stack, &include, &more)).await;
    server.api.start("tables").await;
    server.api.wait_for("tables", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    sql::run(&mut target, &["ALTER TABLE ft_merged.t MODIFY v VARCHAR(10)"]).await;
    let statements = [
        "BEGIN",
        "INSERT INTO ft_m1.t VALUES (1, 'one')",
        "INSERT INTO ft_m2.t VALUES (1, 'far too long for it')",
        "INSERT INTO ft_m3.t VALUES (1, 'three')",
        "COMMIT",
        "INSERT INTO ft_m2.t VALUES (2, 'two')",
        "INSERT INTO ft_m3.t VALUES (2, 'more')",
    ];
    sql::run(&mut source, &statements).await;
    wait_for_state(&server, "ft_m2", "t", &["stopped"]).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    for schema in ["ft_m1", "ft_m3"] {
        assert_eq!(table(&server, schema, "t").await["state"], "following");
    }
    // What of the stopped one was folded before it stopped may be there.
    let others = "SELECT __source, id, v FROM ft_merged.t WHERE __source <> 'ft_m2.t' ORDER BY 1, 2";
    let rows: Vec<(String, i32, String)> = target.query(others).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|(source, id, v)| format!("{source} {id} {v}")).collect();
    assert_eq!(rows, ["ft_m1.t 1 one", "ft_m3.t 1 three", "ft_m3.t 2 more"]);
    sql::drop_schemas(&stack, &[&schemas[..], &["ft_merged"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_paused_resumed_and_skipped_while_the_others_go_on() {
    let Some(stack) = Stack::utc("tables_are_paused_resumed_and_skipped_while_the_others_go_on") else {
        return;
    };
    let schema = "ft_pause";
    let mut server = begin(&stack, schema, 100, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    for command in ["pause", "pause"] {
        assert_eq!(ask(&server, command, schema, "t").await.0, StatusCode::ACCEPTED);
        wait_for_state(&server, schema, "t", &["paused"]).await;
    }
    let statements = [
        format!("DELETE FROM {schema}.t WHERE id < 10"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::count(&mut target, "ft_pause.t").await, 100, "a paused table is left alone");
    assert_eq!(sql::count(&mut target, "ft_pause.other").await, 2);
    server.stop().await;
    server.restart().await;
    wait_for_state(&server, schema, "t", &["paused"]).await;
    assert_eq!(ask(&server, "skip", schema, "t").await.0, StatusCode::ACCEPTED);
    wait_for_state(&server, schema, "t", &["skipped"]).await;
    assert_eq!(ask(&server, "pause", schema, "t").await.0, StatusCode::CONFLICT);
    // A table that is renamed keeps its state, and one that the task does not have is told.
    sql::run(&mut source, &[&format!("RENAME TABLE {schema}.t TO {schema}.t2")]).await;
    wait_for_state(&server, schema, "t2", &["skipped"]).await;
    let (status, body) = ask(&server, "resume", schema, "t").await;
    assert_eq!(
        (status, body["errors"][0]["pointer"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("/tables/0")),
        "{body:#}"
    );
    let body = json!({"tables": [{"schema": schema, "table": "t2"}]});
    let path = "/tasks/tables/tables/resume?wait_ms=60000";
    let answer = server.api.send(Method::POST, path, Some(&body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:#}", answer.body);
    // It has moved with its source, though nobody looked after it.
    assert_eq!(sql::tables(&mut target, schema).await, ["other", "t2"]);
    finish(&stack, &server, schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_renamed_into_the_selection_is_copied_while_its_rows_change() {
    let Some(stack) = Stack::utc("a_table_renamed_into_the_selection_is_copied_while_its_rows_change") else {
        return;
    };
    let schema = "ft_in";
    sql::drop_schemas(&stack, &["ft_outside"]).await;
    let server = begin(&stack, schema, 100, &json!({})).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let statements = [
        "CREATE DATABASE ft_outside".to_owned(),
        "CREATE TABLE ft_outside.guest (id INT PRIMARY KEY, v VARCHAR(20))".to_owned(),
        "INSERT INTO ft_outside.guest VALUES (1, 'one'), (2, 'two')".to_owned(),
        format!("RENAME TABLE ft_outside.guest TO {schema}.guest"),
        format!("INSERT INTO {schema}.guest VALUES (3, 'three')"),
        format!("UPDATE {schema}.guest SET v = 'changed' WHERE id = 1"),
        // It is renamed again while it is copied, or right after.
        format!("RENAME TABLE {schema}.guest TO {schema}.friend"),
        format!("DELETE FROM {schema}.friend WHERE id = 2"),
        format!("INSERT INTO {schema}.other VALUES (2, 'two')"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for_resyncs(&server, 1).await;
    wait_for_state(&server, schema, "friend", &["following"]).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.friend VALUES (4, 'four')")]).await;
    server.api.wait_caught_up("tables", &stack, PATIENCE).await;
    assert_eq!(sql::tables(&mut target, schema).await, ["friend", "other", "t"]);
    finish(&stack, &server, schema).await;
    sql::drop_schemas(&stack, &["ft_outside"]).await;
}

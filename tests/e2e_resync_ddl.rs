//! DDLs after which a table is copied again, on both targets: the copy runs, and the tables are equal in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

support::on_both_targets! {
    swapped_tables_are_copied_again_once_drainer_tells_them_apart => swap("fy_swap", "fy_swap_adb");
    a_copy_knows_the_name_under_which_rows_come => stale("fy_stale", "fy_stale_adb");
    rebuild_copies_a_table_whose_rows_its_ddl_changed => rebuild("fy_rebuild", "fy_rebuild_adb");
    an_online_ddl_is_followed => follow("fy_follow", "fy_follow_adb");
    an_online_ddl_is_ignored_and_its_table_copied_again => ignore("fy_ignore", "fy_ignore_adb");
    an_online_ddl_stops_the_task_until_its_mode_is_changed => stop("fy_stop", "fy_stop_adb");
    shadow_tables_that_are_there_at_the_start_are_left_out_under_ignore => early("fy_early", "fy_early_adb");
    a_recovered_table_is_copied_again => recover("fy_recover", "fy_recover_adb");
    a_flashed_back_table_is_copied_again => flashback("fy_flash", "fy_flash_adb");
    tables_that_exchanged_a_partition_are_copied_again => exchange("fy_exchange", "fy_exchange_adb");
}

async fn run(stack: &Stack, schema: &str, statements: &[&str]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("USE {schema}")]).await;
    sql::run(&mut source, statements).await;
}

/// The task "again", in incremental sync, over the schema with what the statements make.
async fn begin(stack: &Stack, schema: &str, statements: &[&str], more: &Value) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    run(stack, schema, statements).await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec("again", stack, &[&format!("{schema}.*")], more)).await;
    server.api.start("again").await;
    server.api.wait_for("again", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    server
}

/// Waits for that many copies, and for the end of the stream.
async fn copies(stack: &Stack, server: &Server, wanted: usize) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        server.api.wait_caught_up("again", stack, PATIENCE).await;
        let events = server.api.get("/tasks/again/events?limit=500").await;
        let events = events["items"].as_array().unwrap().clone();
        let found = events.iter().filter(|event| event["kind"] == "table_resynced").count();
        assert!(found <= wanted, "{found} copies instead of {wanted}: {events:#?}");
        if found == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{found} copies of {wanted}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn equal(stack: &Stack, schema: &str) {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(stack, &[schema]).await;
}

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), e ENUM('x','y'))";
const ROWS: &str = "INSERT INTO t VALUES (1, 'one', 'x'), (2, 'two', 'y'), (3, 'three', NULL)";

async fn swap(stack: Stack, schema: &str) {
    let made = [
        TABLE,
        ROWS,
        "CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(20), e ENUM('x','y'))",
        "INSERT INTO u VALUES (7, 'seven', 'x')",
    ];
    let server = begin(&stack, schema, &made, &json!({})).await;
    let swap = ["RENAME TABLE t TO w, u TO t, w TO u"];
    run(&stack, schema, &swap).await;
    let rows = [
        "INSERT INTO t VALUES (8, 'of t', 'x')",
        "INSERT INTO u VALUES (9, 'of u', 'x')",
        "DELETE FROM u WHERE id = 2",
        "UPDATE t SET v = 'changed' WHERE id = 7",
    ];
    run(&stack, schema, &rows).await;
    copies(&stack, &server, 0).await;
    run(&stack, schema, &["ALTER TABLE t COMMENT 'told apart'", "ALTER TABLE u COMMENT 'told apart'"]).await;
    copies(&stack, &server, 2).await;
    run(&stack, schema, &["INSERT INTO t VALUES (10, 'later', 'y')", "DELETE FROM u WHERE id = 1"]).await;
    copies(&stack, &server, 2).await;
    equal(&stack, schema).await;
}

/// Drainer sends the rows of `t` under its name in the schema that it left, until it has a RENAME of its own.
async fn stale(stack: Stack, schema: &str) {
    let other = format!("{schema}_o");
    let made = [
        "CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(20), e ENUM('x','y'))".to_owned(),
        format!("CREATE DATABASE {other}"),
        format!("CREATE TABLE {other}.o {}", TABLE.trim_start_matches("CREATE TABLE t ")),
        format!("INSERT INTO {other}.o {}", ROWS.trim_start_matches("INSERT INTO t ")),
    ];
    sql::drop_schemas(&stack, &[&other]).await;
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    let more = json!({"objects": {"include": [format!("{schema}.*"), format!("{other}.*")]}});
    let server = begin(&stack, schema, &made, &more).await;
    run(&stack, schema, &[&format!("RENAME TABLE u TO w, {other}.o TO t")]).await;
    run(&stack, schema, &["INSERT INTO t VALUES (8, 'of t', 'x')"]).await;
    // AnalyticDB moves no table: it is copied already.
    let moved = usize::from(stack.dialect == support::stack::Dialect::Adb);
    copies(&stack, &server, moved).await;
    let body = json!({"tables": [{"schema": schema, "table": "t"}]});
    server.api.post("/tasks/again/tables/resync", &body).await;
    run(&stack, schema, &["UPDATE t SET v = 'meanwhile' WHERE id = 8"]).await;
    copies(&stack, &server, moved + 1).await;
    run(&stack, schema, &["INSERT INTO t VALUES (10, 'later', 'y')", "DELETE FROM t WHERE id = 1"]).await;
    copies(&stack, &server, moved + 1).await;
    sql::drop_schemas(&stack, &[&other]).await;
    equal(&stack, schema).await;
}

/// Labels in another order: both targets must come to the source's values, by their own way.
async fn rebuild(stack: Stack, schema: &str) {
    let more = json!({"ddl": {"modify_column": "rebuild"}});
    let server = begin(&stack, schema, &[TABLE, ROWS], &more).await;
    let statements = [
        "ALTER TABLE t ADD COLUMN n INT DEFAULT 70",
        "INSERT INTO t VALUES (4, 'four', 'x', 5)",
        "ALTER TABLE t MODIFY COLUMN n VARCHAR(20)",
        "INSERT INTO t VALUES (5, 'five', 'y', 'text')",
        "UPDATE t SET n = 'more text' WHERE id = 1",
    ];
    run(&stack, schema, &statements).await;
    let adb = stack.dialect == support::stack::Dialect::Adb;
    copies(&stack, &server, usize::from(adb)).await;
    run(&stack, schema, &["DELETE FROM t WHERE id = 2"]).await;
    copies(&stack, &server, usize::from(adb)).await;
    equal(&stack, schema).await;
}

/// What gh-ost does, and pt-online-schema-change (TiDB has no triggers: its writes are a row each here).
fn online([shadow, trash]: [&str; 2]) -> Vec<String> {
    [
        "CREATE TABLE {shadow} LIKE t",
        "ALTER TABLE {shadow} ADD COLUMN n INT DEFAULT 6",
        "INSERT INTO {shadow} (id, v, e) SELECT id, v, e FROM t",
        "UPDATE t SET v = 'meanwhile' WHERE id = 1",
        "REPLACE INTO {shadow} (id, v, e) VALUES (1, 'meanwhile', 'x')",
        "RENAME TABLE t TO {trash}, {shadow} TO t",
        "INSERT INTO t VALUES (4, 'four', 'x', 5)",
        "DROP TABLE {trash}",
        "UPDATE t SET n = 9 WHERE id = 2",
    ]
    .map(|statement| statement.replace("{shadow}", shadow).replace("{trash}", trash))
    .to_vec()
}

const TOOLS: [[&str; 2]; 2] = [["_t_gho", "_t_del"], ["_t_new", "_t_old"]];

async fn run_online(stack: &Stack, schema: &str, statements: &[String]) {
    run(stack, schema, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn follow(stack: Stack, schema: &str) {
    for tool in TOOLS {
        let server = begin(&stack, schema, &[TABLE, ROWS], &json!({})).await;
        run_online(&stack, schema, &online(tool)).await;
        copies(&stack, &server, 0).await;
        equal(&stack, schema).await;
    }
}

async fn ignore(stack: Stack, schema: &str) {
    for tool in TOOLS {
        let more = json!({"online_ddl": {"mode": "ignore"}});
        let server = begin(&stack, schema, &[TABLE, ROWS], &more).await;
        run_online(&stack, schema, &online(tool)).await;
        copies(&stack, &server, 1).await;
        equal_but_for_trash(&stack, schema).await;
    }
}

/// What the swap moved aside stays until it is dropped, if it was ever there.
async fn equal_but_for_trash(stack: &Stack, schema: &str) {
    let left = sql::tables(&mut sql::target(stack).await, schema).await;
    let shadows = left.iter().filter(|name| name.ends_with("gho") || name.ends_with("new"));
    assert_eq!(shadows.count(), 0, "{left:?}");
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let name = (schema.to_owned(), "t".to_owned());
    assert_eq!(compare::table(&mut source, &name, &mut target, &name).await, None);
    sql::drop_schemas(stack, &[schema]).await;
}

/// Nothing of it is on the target, and nothing has to be copied again once somebody has decided.
async fn stop(stack: Stack, schema: &str) {
    for tool in TOOLS {
        // It is the operator's word that stops it, no trouble of one table.
        let more = json!({"online_ddl": {"mode": "stop"}, "errors": {"table": "stop_table"}});
        let server = begin(&stack, schema, &[TABLE, ROWS], &more).await;
        run_online(&stack, schema, &online(tool)).await;
        let task = server.api.wait_for_status("again", "failed", PATIENCE).await;
        let error = &task["last_error"];
        assert_eq!(error["kind"], "stopped_by_policy", "{task:#}");
        assert!(error["object"].as_str().unwrap().contains(tool[0]), "{error:#}");
        assert!(error["hint"].as_str().unwrap().contains("online_ddl.mode"), "{error:#}");
        assert_eq!(sql::tables(&mut sql::target(&stack).await, schema).await, ["t"]);
        let follow = json!({"online_ddl": {"mode": "follow"}});
        server.api.send(reqwest::Method::PATCH, "/tasks/again/spec", Some(&follow)).await.good("follow");
        server.api.command("again", "resume").await;
        server.api.wait_for_status("again", "running", PATIENCE).await;
        copies(&stack, &server, 0).await;
        equal(&stack, schema).await;
    }
}

async fn early(stack: Stack, schema: &str) {
    for tool in TOOLS {
        let statements = online(tool);
        let (before, after) = statements.split_at(3);
        let mut made = vec![TABLE, ROWS, "CREATE TABLE _else_gho (id INT PRIMARY KEY)"];
        made.extend(before.iter().map(String::as_str));
        let server = begin(&stack, schema, &made, &json!({"online_ddl": {"mode": "ignore"}})).await;
        // One without a table that it could be a shadow of is a table like any other.
        assert_eq!(sql::tables(&mut sql::target(&stack).await, schema).await, ["_else_gho", "t"]);
        run_online(&stack, schema, after).await;
        copies(&stack, &server, 1).await;
        run(&stack, schema, &["DROP TABLE _else_gho"]).await;
        copies(&stack, &server, 1).await;
        equal_but_for_trash(&stack, schema).await;
    }
}

/// Policies for what moves rows without a message.
fn rows_without_messages() -> Value {
    json!({"ddl": {"other": "apply"}})
}

async fn recover(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, &[TABLE, ROWS], &rows_without_messages()).await;
    run(&stack, schema, &["INSERT INTO t VALUES (4, 'four', 'x')", "DROP TABLE t"]).await;
    copies(&stack, &server, 0).await;
    assert!(sql::tables(&mut sql::target(&stack).await, schema).await.is_empty());
    run(&stack, schema, &["RECOVER TABLE t", "INSERT INTO t VALUES (5, 'five', 'y')"]).await;
    copies(&stack, &server, 1).await;
    run(&stack, schema, &["UPDATE t SET v = 'later' WHERE id = 1", "ALTER TABLE t ADD COLUMN n INT"]).await;
    copies(&stack, &server, 1).await;
    equal(&stack, schema).await;
}

async fn flashback(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, &[TABLE, ROWS], &rows_without_messages()).await;
    let dropped = ["DROP TABLE t", "FLASHBACK TABLE t TO t2", "DELETE FROM t2 WHERE id = 1"];
    run(&stack, schema, &dropped).await;
    copies(&stack, &server, 1).await;
    run(&stack, schema, &["INSERT INTO t2 VALUES (6, 'six', 'y')"]).await;
    copies(&stack, &server, 1).await;
    // The rows of before a TRUNCATE come back beside the table; Drainer sends no more of them (source-drainer.md 10.7).
    let truncated =
        ["TRUNCATE TABLE t2", "FLASHBACK TABLE t2 TO t3", "INSERT INTO t2 VALUES (7, 'seven', 'x')"];
    run(&stack, schema, &truncated).await;
    copies(&stack, &server, 2).await;
    assert_eq!(sql::count(&mut sql::target(&stack).await, &format!("{schema}.t3")).await, 3);
    equal(&stack, schema).await;
}

async fn exchange(stack: Stack, schema: &str) {
    // A Drainer exits at the next change of the plain table, its DROP too: no other run finds it under this name.
    let schema = &format!("{schema}_{}", std::process::id());
    let made = [
        "CREATE TABLE p (id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY RANGE (id) \
         (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "INSERT INTO p VALUES (1, 'one'), (11, 'eleven')",
        "INSERT INTO t VALUES (5, 'five')",
    ];
    let server = begin(&stack, schema, &made, &rows_without_messages()).await;
    let exchange = ["INSERT INTO t VALUES (6, 'six')", "ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t"];
    run(&stack, schema, &exchange).await;
    run(&stack, schema, &["INSERT INTO p VALUES (7, 'seven')", "DELETE FROM p WHERE id = 5"]).await;
    copies(&stack, &server, 2).await;
    run(&stack, schema, &["UPDATE p SET v = 'later' WHERE id = 11"]).await;
    copies(&stack, &server, 2).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    assert_eq!(sql::count(&mut target, &format!("{schema}.p")).await, 3);
}

//! DDLs after which a table is copied again, on both targets: the copy runs, and the tables are equal in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

on_both_targets! {
    swapped_tables_are_copied_again_once_drainer_tells_them_apart => swap("fy_swap", "fy_swap_adb");
    rebuild_copies_a_table_whose_rows_its_ddl_changed => rebuild("fy_rebuild", "fy_rebuild_adb");
    an_online_ddl_is_followed => follow("fy_follow", "fy_follow_adb");
    an_online_ddl_is_ignored_and_its_table_copied_again => ignore("fy_ignore", "fy_ignore_adb");
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

/// What gh-ost does.
const ONLINE: &[&str] = &[
    "CREATE TABLE _t_gho LIKE t",
    "ALTER TABLE _t_gho ADD COLUMN n INT DEFAULT 6",
    "INSERT INTO _t_gho (id, v, e) SELECT id, v, e FROM t",
    "UPDATE t SET v = 'meanwhile' WHERE id = 1",
    "REPLACE INTO _t_gho (id, v, e) VALUES (1, 'meanwhile', 'x')",
    "RENAME TABLE t TO _t_del, _t_gho TO t",
    "INSERT INTO t VALUES (4, 'four', 'x', 5)",
    "DROP TABLE _t_del",
    "UPDATE t SET n = 9 WHERE id = 2",
];

async fn follow(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, &[TABLE, ROWS], &json!({})).await;
    run(&stack, schema, ONLINE).await;
    copies(&stack, &server, 0).await;
    equal(&stack, schema).await;
}

async fn ignore(stack: Stack, schema: &str) {
    let more = json!({"online_ddl": {"mode": "ignore"}});
    let server = begin(&stack, schema, &[TABLE, ROWS], &more).await;
    run(&stack, schema, ONLINE).await;
    copies(&stack, &server, 1).await;
    let left = sql::tables(&mut sql::target(&stack).await, schema).await;
    // What the swap moved aside stays until it is dropped, if it was ever there.
    assert_eq!(left.iter().filter(|name| name.ends_with("gho")).count(), 0, "{left:?}");
    let mut source = sql::tidb(&stack).await;
    let mut target = sql::target(&stack).await;
    let name = (schema.to_owned(), "t".to_owned());
    assert_eq!(compare::table(&mut source, &name, &mut target, &name).await, None);
    sql::drop_schemas(&stack, &[schema]).await;
}

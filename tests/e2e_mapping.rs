//! Rules of single tables through both phases: columns renamed and left out, row filters, kinds of changes, keys, and tables merged into
//! one; with a kill and restarts in between.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Cell};
use serde_json::{Value, json};
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// The rows of a query as text.
async fn rows(connection: &mut Conn, query: &str) -> Vec<String> {
    let rows: Vec<Row> = connection.query(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let cell = |cell: &Cell| match cell {
        Cell::NULL => "NULL".to_owned(),
        Cell::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true),
    };
    rows.into_iter().map(|row| row.unwrap().iter().map(cell).collect::<Vec<_>>().join("|")).collect()
}

async fn columns(connection: &mut Conn, schema: &str, table: &str) -> Vec<String> {
    let query = format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME = '{table}' \
         ORDER BY ORDINAL_POSITION"
    );
    rows(connection, &query).await
}

async fn follow(server: &Server, task: &str) {
    server.api.start(task).await;
    server.api.wait_for(task, "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
}

const FILTER: &str = "state <> 'draft' AND amount >= 10.5 AND (created >= '2024-01-01' OR created IS NULL) AND \
     (seen < '2024-06-01 00:00:00' OR seen IS NULL)";

const TABLES: &[&str] = &[
    "CREATE DATABASE mp",
    "CREATE TABLE mp.orders (id INT PRIMARY KEY, uid BIGINT NOT NULL, note TEXT, state VARCHAR(10) COLLATE utf8mb4_bin NOT NULL, \
     amount DECIMAL(10,2), created DATETIME(3), hidden INT, seen TIMESTAMP NULL, KEY (uid), KEY (hidden))",
    "CREATE TABLE mp.once (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE mp.kept (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE mp.keyed (a INT NOT NULL, b INT)",
    "CREATE TABLE mp.loose (a INT, b INT)",
    "CREATE TABLE mp.parted (id INT PRIMARY KEY, c INT AS (id * 2) VIRTUAL, v INT) PARTITION BY RANGE (id) \
     (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (200))",
    "CREATE TABLE mp.ownddl (id INT PRIMARY KEY)",
    "INSERT INTO mp.orders (id, uid, note, state, amount, created, hidden) VALUES (1, 10, 'a', 'paid', 20, '2024-02-01', 1), (2, 11, 'b', 'draft', 20, NULL, 2), \
     (3, 12, 'c', 'paid', 10.49, NULL, 3), (4, 13, 'd', 'new', 10.5, NULL, 4), (5, 14, 'e', 'paid', NULL, NULL, 5), \
     (6, 15, NULL, 'paid ', 99, '2023-12-31 23:59:59.999', 6), (7, 16, 'g', 'Draft', 99, '2024-01-01', 7)",
    // An hour before and after the border, whatever the zone of the one who sends it.
    "INSERT INTO mp.orders (id, uid, state, amount, seen) VALUES (20, 1, 'x', 11, '2024-05-31 23:00:00'), (21, 1, 'x', 11, '2024-06-01 01:00:00')",
    "INSERT INTO mp.once VALUES (1, 1), (2, 2)",
    "INSERT INTO mp.kept VALUES (1, 1), (2, 2)",
    "INSERT INTO mp.keyed VALUES (1, 1), (2, 2)",
    "INSERT INTO mp.loose VALUES (1, 1), (1, 9), (1, 9), (2, NULL)",
    "INSERT INTO mp.parted (id, v) VALUES (1, 1), (101, 2)",
];

fn rules() -> Value {
    json!({
        "mp.orders": {"target": "mq.facts", "columns": {"exclude": ["NOTE", "hidden"], "rename": {"Uid": "user_id"}}, "filter": FILTER},
        "mp.once": {"operations": ["insert"]},
        "mp.kept": {"operations": ["insert", "update"]},
        "mp.keyed": {"primary_key": ["a"]},
        "mp.loose": {"filter": "b > 5"},
        "mp.parted": {"columns": {"rename": {"id": "v", "v": "id"}}},
        "mp.ownddl": {"ddl": {"truncate_table": "ignore", "add_column": "ignore"}},
    })
}

/// What the target must hold of the tables with a filter, by the source's own judgement.
async fn assert_filtered(adb: bool, source: &mut Conn, target: &mut Conn, uid: &str) {
    let wanted = format!(
        "SELECT id, {uid}, state, amount, DATE_FORMAT(created, '%Y-%m-%d %H:%i:%s.%f') FROM mp.orders WHERE {FILTER} ORDER BY id"
    );
    let name = if uid == "uid" { "user_id" } else { uid };
    let found = format!(
        "SELECT id, {name}, state, amount, DATE_FORMAT(created, '%Y-%m-%d %H:%i:%s.%f') FROM mq.facts ORDER BY id"
    );
    assert_eq!(rows(target, &found).await, rows(source, &wanted).await);
    if adb {
        return;
    }
    let wanted = "SELECT a, b FROM mp.loose WHERE b > 5 ORDER BY a, b";
    let found = "SELECT a, b FROM mp.loose ORDER BY a, b";
    assert_eq!(rows(target, found).await, rows(source, wanted).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_single_tables_hold_through_both_phases() {
    let Some(stack) = Stack::utc("rules_of_single_tables_hold_through_both_phases") else { return };
    rules_hold(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_single_tables_hold_on_analyticdb() {
    let Some(stack) = Stack::shanghai("rules_of_single_tables_hold_on_analyticdb") else { return };
    rules_hold(&stack.on_adb()).await;
}

/// `names` decides how schemas and tables are spelled on the target, for those that come by DDL too.
#[tokio::test(flavor = "multi_thread")]
async fn names_on_the_target_follow_the_case_policy() {
    let Some(stack) = Stack::utc("names_on_the_target_follow_the_case_policy") else { return };
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let mut policies = vec![("lower", "mn_low", "one", "other")];
    if stack.dialect == Dialect::Mysql {
        // AnalyticDB's databases begin with a lower-case letter.
        policies.push(("upper", "MN_LOW", "ONE", "OTHER"));
    }
    for (policy, schema, first, second) in policies {
        sql::drop_schemas(&stack, &["Mn_Low", schema]).await;
        let made = [
            "CREATE DATABASE Mn_Low",
            "CREATE TABLE Mn_Low.One (Id INT PRIMARY KEY)",
            "INSERT INTO Mn_Low.One VALUES (1)",
        ];
        sql::run(&mut source, &made).await;
        let server = Server::start().await;
        server.api.connect(&stack).await;
        let more = json!({"names": policy});
        server.api.create_task(&api::spec("names", &stack, &["Mn_Low.*"], &more)).await;
        follow(&server, "names").await;
        let changed = [
            "INSERT INTO Mn_Low.One VALUES (2)",
            "CREATE TABLE Mn_Low.Two (Id INT PRIMARY KEY)",
            "INSERT INTO Mn_Low.Two VALUES (3)",
            "RENAME TABLE Mn_Low.Two TO Mn_Low.Other",
            "INSERT INTO Mn_Low.Other VALUES (4)",
        ];
        sql::run(&mut source, &changed).await;
        server.api.wait_caught_up("names", &stack, PATIENCE).await;
        assert_eq!(sql::tables(&mut target, schema).await, [first, second], "{policy}");
        assert_eq!(
            rows(&mut target, &format!("SELECT Id FROM {schema}.{first} ORDER BY 1")).await,
            ["1", "2"]
        );
        assert_eq!(
            rows(&mut target, &format!("SELECT Id FROM {schema}.{second} ORDER BY 1")).await,
            ["3", "4"]
        );
        drop(server);
        sql::drop_schemas(&stack, &["Mn_Low", schema]).await;
    }
}

async fn rules_hold(stack: &Stack) {
    let adb = stack.dialect == Dialect::Adb;
    sql::drop_schemas(stack, &["mp", "mq"]).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    sql::run(&mut source, TABLES).await;
    let mut server = Server::start().await;
    server.api.connect(stack).await;
    let mut more = json!({"objects": {"tables": rules()}, "tables_without_key": "match_row", "tuning": {"chunk_rows": 2}});
    if adb {
        // AnalyticDB holds no table without a key.
        more["tables_without_key"] = json!("refuse");
        more["objects"]["exclude"] = json!(["mp.loose"]);
        more["objects"]["tables"].as_object_mut().unwrap().remove("mp.loose");
    }
    server.api.create_task(&api::spec("rules", stack, &["mp.*"], &more)).await;
    let precheck = server.api.post("/tasks/rules/precheck", &json!({})).await;
    let warned = api::items(&precheck, &["warn"]);
    assert!(
        warned.iter().any(|item| item["id"] == "tables.primary_key" && item["objects"][0] == "mp.keyed"),
        "{warned:#?}"
    );
    follow(&server, "rules").await;
    assert_filtered(adb, &mut source, &mut target, "uid").await;
    assert_eq!(
        columns(&mut target, "mq", "facts").await,
        ["id", "user_id", "state", "amount", "created", "seen"]
    );
    assert_eq!(rows(&mut target, "SELECT v, id FROM mp.parted ORDER BY 1").await, ["1|1", "101|2"]);
    if !adb {
        assert_eq!(rows(&mut target, "SELECT c FROM mp.parted ORDER BY 1").await, ["2", "202"]);
    }

    // Each on its own, so that no two of them fold into one.
    for statement in [
        "UPDATE mp.orders SET state = 'draft' WHERE id = 1",
        "UPDATE mp.orders SET state = 'sent' WHERE id = 2",
        "UPDATE mp.orders SET note = 'changed', hidden = 9 WHERE id = 4",
        "UPDATE mp.orders SET id = 40 WHERE id = 4",
        "UPDATE mp.orders SET id = 70, state = 'draft' WHERE id = 7",
        "UPDATE mp.orders SET id = 30, amount = 11 WHERE id = 3",
        "INSERT INTO mp.orders (id, uid, note, state, amount, created, hidden) VALUES (8, 17, 'h', 'new', 10.499, NULL, 1), (9, 18, 'i', 'new', 11, NULL, 1)",
        "DELETE FROM mp.orders WHERE id IN (5, 40)",
        "INSERT INTO mp.orders (id, uid, state, amount, seen) VALUES (22, 1, 'x', 11, '2024-05-31 23:00:00'), (23, 1, 'x', 11, '2024-06-01 01:00:00')",
        "INSERT INTO mp.loose VALUES (3, 6), (3, 5)",
        "UPDATE mp.loose SET b = 3 WHERE a = 1 AND b = 9 LIMIT 1",
        "UPDATE mp.loose SET b = 7 WHERE a = 2",
        "DELETE FROM mp.loose WHERE b = 1",
    ] {
        sql::run(&mut source, &[statement]).await;
    }
    server.kill9();
    server.restart().await;
    server.api.wait_caught_up("rules", stack, PATIENCE).await;
    assert_filtered(adb, &mut source, &mut target, "uid").await;

    sql::run(
        &mut source,
        &[
            "INSERT INTO mp.once VALUES (3, 3)",
            "UPDATE mp.once SET v = 30 WHERE id IN (1, 3)",
            "DELETE FROM mp.once WHERE id = 2",
            "INSERT INTO mp.kept VALUES (3, 3)",
            "UPDATE mp.kept SET v = 30 WHERE id = 3",
            "UPDATE mp.kept SET id = 10 WHERE id = 1",
            "DELETE FROM mp.kept WHERE id = 2",
            "UPDATE mp.keyed SET b = 10 WHERE a = 1",
            "UPDATE mp.keyed SET a = 20 WHERE a = 2",
            "INSERT INTO mp.keyed VALUES (3, NULL)",
            // Columns by their rules: the old name, the new one, and one that is left out.
            "ALTER TABLE mp.orders DROP COLUMN note",
            "ALTER TABLE mp.orders ADD COLUMN note VARCHAR(20) DEFAULT 'back' AFTER id",
            "ALTER TABLE mp.orders ADD COLUMN plus INT NOT NULL DEFAULT 3",
            "ALTER TABLE mp.orders MODIFY COLUMN uid BIGINT NOT NULL DEFAULT 5",
            "INSERT INTO mp.orders (id, state, amount) VALUES (11, 'new', 500)",
            "ALTER TABLE mp.orders DROP COLUMN plus",
            "ALTER TABLE mp.orders RENAME COLUMN uid TO account",
            "INSERT INTO mp.orders (id, account, state, amount) VALUES (12, 6, 'new', 500), (13, 6, 'draft', 500)",
            "INSERT INTO mp.parted (id, v) VALUES (2, 5), (102, 6)",
            "ALTER TABLE mp.parted DROP PARTITION p0",
            "INSERT INTO mp.ownddl VALUES (1)",
            "TRUNCATE TABLE mp.ownddl",
            "ALTER TABLE mp.ownddl ADD COLUMN more INT",
            "INSERT INTO mp.ownddl VALUES (2, 3)",
        ],
    )
    .await;
    server.api.wait_caught_up("rules", stack, PATIENCE).await;
    assert_filtered(adb, &mut source, &mut target, "account").await;
    assert_eq!(
        columns(&mut target, "mq", "facts").await,
        ["id", "account", "state", "amount", "created", "seen"]
    );
    let all = |table: &str| format!("SELECT * FROM mp.{table} ORDER BY 1, 2");
    assert_eq!(rows(&mut target, &all("once")).await, ["1|1", "2|2", "3|3"]);
    assert_eq!(rows(&mut target, &all("kept")).await, ["1|1", "2|2", "3|30", "10|1"]);
    assert_eq!(rows(&mut target, &all("keyed")).await, ["1|10", "3|NULL", "20|2"]);
    assert_eq!(rows(&mut target, "SELECT v, id FROM mp.parted ORDER BY 1").await, ["101|2", "102|6"]);
    assert_eq!(rows(&mut target, "SELECT * FROM mp.ownddl ORDER BY 1").await, ["1", "2"]);

    // Nothing of this change is sent, and then its table gets another layout.
    sql::run(&mut source, &["UPDATE mp.once SET v = 31 WHERE id = 3"]).await;
    server.api.wait_caught_up("rules", stack, PATIENCE).await;
    sql::run(&mut source, &["ALTER TABLE mp.once ADD COLUMN w INT", "INSERT INTO mp.once VALUES (4, 4, 4)"])
        .await;
    server.api.wait_caught_up("rules", stack, PATIENCE).await;
    assert_eq!(rows(&mut target, &all("once")).await, ["1|1|NULL", "2|2|NULL", "3|3|NULL", "4|4|4"]);

    sql::run(
        &mut source,
        &[
            "TRUNCATE TABLE mp.orders",
            "INSERT INTO mp.orders (id, account, state, amount) VALUES (1, 1, 'x', 11)",
        ],
    )
    .await;
    server.stop().await;
    server.restart().await;
    server.api.wait_caught_up("rules", stack, PATIENCE).await;
    assert_filtered(adb, &mut source, &mut target, "account").await;

    // A name that is left out comes to be a name that is not: the target has none of its values.
    sql::run(&mut source, &["ALTER TABLE mp.orders RENAME COLUMN note TO remark"]).await;
    let task = server.api.wait_for_status("rules", "failed", PATIENCE).await;
    let error = task["last_error"].to_string();
    assert!(error.contains("remark") && error.contains("exclude"), "{error}");
    if adb {
        let refused = stack.adb_refused("mp|mq").await;
        assert!(refused.is_empty(), "AnalyticDB would refuse: {refused:#?}");
    }
    sql::drop_schemas(stack, &["mp", "mq"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_merged_into_one_and_kept_apart_in_it() {
    let Some(stack) = Stack::utc("tables_are_merged_into_one_and_kept_apart_in_it") else { return };
    merged(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_merged_into_one_on_analyticdb() {
    let Some(stack) = Stack::shanghai("tables_are_merged_into_one_on_analyticdb") else { return };
    merged(&stack.on_adb()).await;
}

async fn merged(stack: &Stack) {
    sql::drop_schemas(stack, &["ma", "mb", "mz"]).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    for schema in ["ma", "mb"] {
        let create =
            format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(20), u INT, UNIQUE KEY (u))");
        let insert = format!("INSERT INTO {schema}.t VALUES (1, '{schema}', 1), (2, '{schema}', 2)");
        sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &create, &insert]).await;
    }
    let mut server = Server::start().await;
    server.api.connect(stack).await;
    let more = json!({
        "objects": {"schemas": {"ma": {"target": "mz"}, "mb": {"target": "mz"}}},
        "merge": {"column": "__source", "value": "{task}:{schema}.{table}"},
    });
    server.api.create_task(&api::spec("merge", stack, &["ma.*", "mb.*"], &more)).await;
    let plan = server.api.post("/tasks/merge/plan", &json!({})).await;
    let actions: Vec<_> = plan["tables"].as_array().unwrap().iter().map(|table| &table["action"]).collect();
    assert_eq!(actions, ["create", "use"], "{plan:#}");
    follow(&server, "merge").await;
    let all = "SELECT __source, id, v FROM mz.t ORDER BY 1, 2";
    let expected = ["merge:ma.t|1|ma", "merge:ma.t|2|ma", "merge:mb.t|1|mb", "merge:mb.t|2|mb"];
    assert_eq!(rows(&mut target, all).await, expected);

    sql::run(
        &mut source,
        &[
            "UPDATE ma.t SET v = 'new' WHERE id = 1",
            "DELETE FROM mb.t WHERE id = 1",
            "UPDATE mb.t SET id = 3 WHERE id = 2",
            "INSERT INTO ma.t VALUES (3, 'three', 3)",
        ],
    )
    .await;
    server.kill9();
    server.restart().await;
    server.api.wait_caught_up("merge", stack, PATIENCE).await;
    let expected = ["merge:ma.t|1|new", "merge:ma.t|2|ma", "merge:ma.t|3|three", "merge:mb.t|3|mb"];
    assert_eq!(rows(&mut target, all).await, expected);

    // DDL is off, but another table may join.
    sql::run(
        &mut source,
        &[
            "ALTER TABLE ma.t ADD COLUMN w INT DEFAULT 7",
            "CREATE INDEX iv ON ma.t (v)",
            "INSERT INTO ma.t VALUES (4, 'four', 4, 4)",
            "TRUNCATE TABLE mb.t",
            "DROP TABLE mb.t",
            "CREATE TABLE mb.t (id INT PRIMARY KEY, v VARCHAR(20), u INT, UNIQUE KEY (u))",
            "INSERT INTO mb.t VALUES (3, 'again', 1)",
        ],
    )
    .await;
    server.api.wait_caught_up("merge", stack, PATIENCE).await;
    let expected = [
        "merge:ma.t|1|new",
        "merge:ma.t|2|ma",
        "merge:ma.t|3|three",
        "merge:ma.t|4|four",
        "merge:mb.t|3|again",
    ];
    assert_eq!(rows(&mut target, all).await, expected);
    assert_eq!(columns(&mut target, "mz", "t").await, ["id", "v", "u", "__source"]);

    // One that does not fit stops the task, by name.
    sql::run(
        &mut source,
        &["DROP TABLE mb.t", "CREATE TABLE mb.t (id BIGINT PRIMARY KEY, v VARCHAR(20), u INT)"],
    )
    .await;
    let task = server.api.wait_for_status("merge", "failed", PATIENCE).await;
    let error = task["last_error"].to_string();
    assert!(error.contains("mb.t") && error.contains("bigint"), "{error}");
    sql::drop_schemas(stack, &["ma", "mb", "mz"]).await;
}

//! The six DDL kinds of incremental sync, each in every form, one after the other with rows between them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::json;
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// Statements on the source, in order. `USE` changes what unqualified names mean; the stream does not say so.
const STATEMENTS: &[&str] = &[
    "USE fa",
    // --- CREATE TABLE ---
    "CREATE TABLE c1 (id INT PRIMARY KEY, v VARCHAR(20))",
    "INSERT INTO c1 VALUES (1, 'one'), (2, 'two')",
    "CREATE TABLE IF NOT EXISTS c1 (other INT)",
    "CREATE TABLE fb.c2 (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, e ENUM('x','y') NOT NULL DEFAULT 'y', \
     j JSON, ts TIMESTAMP(3) NULL, KEY ke (e)) COMMENT='a; \"comment\"'",
    "INSERT INTO fb.c2 (e, j, ts) VALUES ('x', '{\"a\": 1}', '2024-01-02 03:04:05.678'), ('y', NULL, NULL)",
    "CREATE TABLE c3 LIKE fb.c2",
    "CREATE TABLE fb.c4 LIKE c1",
    "USE fb",
    "CREATE TABLE c5 LIKE c4",
    "INSERT INTO fa.c3 (e) VALUES ('x')",
    "INSERT INTO c4 VALUES (4, 'four')",
    "INSERT INTO c5 VALUES (5, 'five')",
    "CREATE TABLE fa.g1 (id INT PRIMARY KEY, a INT, v INT AS (a + 1) VIRTUAL, s VARCHAR(20) AS (CONCAT('s', a)) STORED)",
    "INSERT INTO fa.g1 (id, a) VALUES (1, 10), (2, NULL)",
    "UPDATE fa.g1 SET a = 11 WHERE id = 1",
    // The same name in both schemas, with other columns.
    "CREATE TABLE fa.same (id INT PRIMARY KEY, a INT)",
    "CREATE TABLE fb.same (id INT PRIMARY KEY, b VARCHAR(9), c INT)",
    "INSERT INTO fa.same VALUES (1, 1)",
    "INSERT INTO fb.same VALUES (1, 'b', 2)",
    // --- ADD COLUMN ---
    "USE fa",
    "ALTER TABLE c1 ADD COLUMN n1 INT NOT NULL DEFAULT 7",
    "UPDATE c1 SET v = 'after' WHERE id = 1",
    "ALTER TABLE c1 ADD COLUMN n2 VARCHAR(20) NOT NULL DEFAULT 'dee' FIRST",
    "ALTER TABLE fa.c1 ADD COLUMN n3 DECIMAL(6,2) NOT NULL DEFAULT 3.1 AFTER id",
    "ALTER TABLE c1 ADD COLUMN (m1 INT, m2 VARCHAR(5) DEFAULT 'm2')",
    "ALTER TABLE c1 ADD COLUMN m3 INT DEFAULT 3, ADD COLUMN m4 DOUBLE NOT NULL DEFAULT 2.5 AFTER id",
    "ALTER TABLE c1 ADD COLUMN ts TIMESTAMP DEFAULT '2020-01-01 00:00:00', ADD COLUMN dt DATETIME(3) DEFAULT '2020-01-01 00:00:00.5'",
    "ALTER TABLE c1 ADD COLUMN en ENUM('p','q') NOT NULL, ADD COLUMN js JSON, ADD COLUMN f FLOAT DEFAULT 1.5",
    "ALTER TABLE c1 ADD COLUMN IF NOT EXISTS m1 INT",
    "INSERT INTO c1 (id, v) VALUES (3, 'three')",
    "UPDATE c1 SET m1 = id, js = '[1]', en = 'q' WHERE id < 3",
    "ALTER TABLE fb.same ADD COLUMN d BIT(4)",
    "UPDATE fb.same SET d = b'101'",
    "ALTER TABLE g1 ADD COLUMN w INT AS (a * 2) VIRTUAL",
    "INSERT INTO g1 (id, a) VALUES (3, 30)",
    // --- DROP COLUMN ---
    "ALTER TABLE c1 DROP COLUMN m3",
    "INSERT INTO c1 (id, v) VALUES (4, 'four')",
    "ALTER TABLE c1 DROP COLUMN m1, DROP COLUMN m2",
    "UPDATE c1 SET v = CONCAT(v, '!')",
    "ALTER TABLE c1 ADD COLUMN m5 INT DEFAULT 5, DROP COLUMN js",
    "DELETE FROM c1 WHERE id = 2",
    "ALTER TABLE c1 DROP COLUMN IF EXISTS never_was",
    "ALTER TABLE g1 DROP COLUMN w",
    "UPDATE g1 SET a = 31 WHERE id = 3",
    // A name comes back with another type.
    "ALTER TABLE c1 DROP COLUMN m5",
    "ALTER TABLE c1 ADD COLUMN m5 VARCHAR(10) DEFAULT 'text'",
    "INSERT INTO c1 (id) VALUES (5)",
    // --- RENAME TABLE ---
    "RENAME TABLE c3 TO r3",
    "INSERT INTO r3 (e) VALUES ('y')",
    "ALTER TABLE r3 RENAME TO r3b",
    "ALTER TABLE r3b RENAME AS fb.r3c",
    "INSERT INTO fb.r3c (e) VALUES ('x')",
    "USE fb",
    "RENAME TABLE r3c TO fa.r3d",
    "UPDATE fa.r3d SET j = '{\"renamed\": true}' LIMIT 1",
    "RENAME TABLE fb.c5 TO fb.r5",
    "INSERT INTO fb.r5 VALUES (6, 'six')",
    // The old name is taken again.
    "CREATE TABLE c5 (other INT PRIMARY KEY)",
    "INSERT INTO c5 VALUES (1)",
    "INSERT INTO r5 VALUES (7, 'seven')",
    // --- TRUNCATE TABLE ---
    "TRUNCATE TABLE r5",
    "INSERT INTO r5 VALUES (8, 'eight')",
    "TRUNCATE fa.r3d",
    "USE fa",
    "TRUNCATE TABLE fb.c4",
    "INSERT INTO fb.c4 VALUES (40, 'forty')",
    // --- DROP TABLE ---
    "CREATE TABLE x1 (a INT PRIMARY KEY)",
    "CREATE TABLE x2 (a INT PRIMARY KEY)",
    "CREATE TABLE fb.x3 (a INT PRIMARY KEY)",
    "INSERT INTO x1 VALUES (1)",
    "INSERT INTO x2 VALUES (2)",
    "INSERT INTO fb.x3 VALUES (3)",
    "DROP TABLE x1, fb.x3",
    "DROP TABLE IF EXISTS x2, no_such",
    "CREATE TABLE x1 (b VARCHAR(5) PRIMARY KEY, c INT)",
    "INSERT INTO x1 VALUES ('back', 1)",
    "DROP TABLE same",
    "INSERT INTO fb.same VALUES (2, 'still', 3, b'1')",
    "DROP TABLE c1",
    "CREATE TABLE c1 (id VARCHAR(10) PRIMARY KEY)",
    "INSERT INTO c1 VALUES ('new')",
    // --- databases ---
    "CREATE DATABASE fa_extra",
    "CREATE TABLE fa_extra.t (id INT PRIMARY KEY)",
    "INSERT INTO fa_extra.t VALUES (1), (2)",
    "CREATE DATABASE fa_gone",
    "CREATE TABLE fa_gone.t (id INT PRIMARY KEY)",
    "INSERT INTO fa_gone.t VALUES (1)",
    "DROP DATABASE fa_gone",
];

/// In place of statements that AnalyticDB cannot follow: it moves no table to another database.
const ON_ADB: &[(&str, &str)] = &[
    ("ALTER TABLE r3b RENAME AS fb.r3c", "ALTER TABLE r3b RENAME AS r3c"),
    ("INSERT INTO fb.r3c (e) VALUES ('x')", "INSERT INTO r3c (e) VALUES ('x')"),
    ("RENAME TABLE r3c TO fa.r3d", "RENAME TABLE fa.r3c TO fa.r3d"),
];

fn statements(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    STATEMENTS.iter().map(move |statement| {
        let other = ON_ADB.iter().find(|(other, _)| dialect == Dialect::Adb && other == statement);
        other.map_or(*statement, |(_, instead)| instead)
    })
}

const SCHEMAS: [&str; 4] = ["fa", "fb", "fa_extra", "fa_gone"];

/// The runs have the same schemas, and the Drainer stage wants DDL one by one.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

support::on_both_targets! {
    every_form_of_the_ddl_kinds_reaches_the_target => at_once("", "");
    a_schema_without_tables_at_the_start_is_made_with_its_first_table => schema_without_tables("fe", "fea");
}

async fn at_once(stack: Stack, _: &str) {
    let _turn = TURN.lock().await;
    let server = begin(&stack).await;
    let mut source = sql::tidb(&stack).await;
    for statement in statements(stack.dialect) {
        sql::run(&mut source, &[statement]).await;
    }
    finish(&stack, &server).await;
}

/// Every statement waits for the one before: what is wrong is found at its statement.
#[tokio::test(flavor = "multi_thread")]
async fn each_form_of_the_ddl_kinds_is_right_by_itself() {
    let Some(stack) = Stack::shanghai("each_form_of_the_ddl_kinds_is_right_by_itself") else { return };
    let server = begin(&stack).await;
    let mut source = sql::tidb(&stack).await;
    for statement in statements(stack.dialect) {
        sql::run(&mut source, &[statement]).await;
        if statement.starts_with("USE") {
            continue;
        }
        server.api.wait_caught_up("forms", &stack, PATIENCE).await;
        let mut target = sql::target(&stack).await;
        let mut schemas = Vec::new();
        for schema in SCHEMAS {
            if !sql::tables(&mut source, schema).await.is_empty() {
                schemas.push((schema, schema));
            }
        }
        eprintln!("compared after: {statement}");
        let mut reader = sql::tidb(&stack).await;
        compare::assert_schemas_equal(&mut reader, &mut target, &schemas).await;
    }
    finish(&stack, &server).await;
}

async fn begin(stack: &Stack) -> Server {
    sql::drop_schemas(stack, &SCHEMAS).await;
    let mut source = sql::tidb(stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE fa",
            "CREATE DATABASE fb",
            "CREATE TABLE fa.first (id INT PRIMARY KEY)",
            "CREATE TABLE fb.first (id INT PRIMARY KEY)",
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    let more = json!({"ddl": {"drop_database": "apply"}});
    let mut spec = api::spec("forms", stack, &["fa.*", "fb.*", "fa_*.*"], &more);
    api::merge(&mut spec, &api::policies(stack));
    server.api.create_task(&spec).await;
    server.api.start("forms").await;
    server
        .api
        .wait_for("forms", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    server
}

async fn finish(stack: &Stack, server: &Server) {
    server.api.wait_caught_up("forms", stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let schemas = [("fa", "fa"), ("fb", "fb"), ("fa_extra", "fa_extra")];
    compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    let gone = sql::tables(&mut target, "fa_gone").await;
    assert!(gone.is_empty(), "a dropped database keeps no tables: {gone:?}");
    // Before the schemas go, which the task may meet while it follows the same.
    if stack.dialect == Dialect::Adb {
        let refused = [stack.adb_refused("`fa").await, stack.adb_refused("`fb").await].concat();
        assert!(refused.is_empty(), "AnalyticDB would refuse: {refused:#?}");
    }
    sql::drop_schemas(stack, &SCHEMAS).await;
}

async fn schema_without_tables(stack: Stack, prefix: &str) {
    let _turn = TURN.lock().await;
    let (full, empty) = (format!("{prefix}_full"), format!("{prefix}_empty"));
    sql::drop_schemas(&stack, &[&full, &empty]).await;
    let mut source = sql::tidb(&stack).await;
    let create = [
        &format!("CREATE DATABASE {full}")[..],
        &format!("CREATE TABLE {full}.t (id INT PRIMARY KEY)"),
        &format!("CREATE DATABASE {empty}"),
    ];
    sql::run(&mut source, &create).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let include = [format!("{full}.*"), format!("{empty}.*")];
    server.api.create_task(&api::spec("forms", &stack, &[&include[0], &include[1]], &json!({}))).await;
    server.api.start("forms").await;
    server
        .api
        .wait_for("forms", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental")
        .await;
    sql::run(
        &mut source,
        &[
            &format!("CREATE TABLE {empty}.t (id INT PRIMARY KEY)"),
            &format!("INSERT INTO {empty}.t VALUES (1)"),
        ],
    )
    .await;
    server.api.wait_caught_up("forms", &stack, PATIENCE).await;
    let mut target = sql::target(&stack).await;
    let schemas = [(&full[..], &full[..]), (&empty[..], &empty[..])];
    compare::assert_schemas_equal(&mut source, &mut target, &schemas).await;
    sql::drop_schemas(&stack, &[&full, &empty]).await;
}

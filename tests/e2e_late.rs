//! What overtakes what on its way to the topic, DDL among it: the tables that this concerns are copied again, once, and no other.
//!
//! Each case is two statements whose messages the Drainer stage sends in the other order, as the retries of a producer do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Method;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(120);

/// The two messages must be the only ones that wait.
static ALONE: Mutex<()> = Mutex::const_new(());

support::on_both_targets! {
    late_ddl_and_rows_from_before_a_ddl_end_equal => late("fz_late", "fz_late_adb");
    rows_in_a_layout_or_under_a_name_of_later_end_equal => early("fz_early", "fz_early_adb");
}

struct Case {
    /// Sent last.
    first: &'static str,
    /// Sent first.
    second: &'static str,
    /// Tables that are copied again.
    copied: &'static [&'static str],
}

const fn case(first: &'static str, second: &'static str, copied: &'static [&'static str]) -> Case {
    Case { first, second, copied }
}

const MADE: &[&str] = &[
    "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(20))",
    "CREATE TABLE b (id INT PRIMARY KEY, v VARCHAR(20))",
    "CREATE TABLE c (id INT PRIMARY KEY, v VARCHAR(20))",
    "CREATE TABLE l (id INT PRIMARY KEY, v ENUM('a', 'b'), s SET('x', 'y', 'z'))",
    "INSERT INTO l VALUES (1, 'a', 'x')",
    "INSERT INTO a VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO b VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO c VALUES (1, 'one'), (2, 'two')",
];

const CASES: &[Case] = &[
    // Rows alone.
    case("UPDATE a SET v = 'first' WHERE id = 1", "UPDATE a SET v = 'second' WHERE id = 1", &[]),
    case("DELETE FROM a WHERE id = 2", "INSERT INTO a VALUES (2, 'again')", &[]),
    // A DDL after rows of the same table, and after those of another.
    case("ALTER TABLE a ADD COLUMN n INT DEFAULT 5", "INSERT INTO a VALUES (3, 'three', 7)", &["a"]),
    case("ALTER TABLE a ADD COLUMN m INT DEFAULT 6", "INSERT INTO b VALUES (3, 'three')", &[]),
    case("TRUNCATE TABLE b", "INSERT INTO b VALUES (1, 'new')", &["b"]),
    case("ALTER TABLE b DROP COLUMN v", "INSERT INTO b VALUES (2)", &["b"]),
    case("ALTER TABLE c MODIFY COLUMN v VARCHAR(40)", "UPDATE c SET v = 'changed' WHERE id = 1", &["c"]),
    // A row after a DDL of its table, and after that of another.
    case("INSERT INTO a VALUES (4, 'four', 8, 9)", "ALTER TABLE a DROP COLUMN m", &["a"]),
    case("INSERT INTO c VALUES (4, 'four')", "TRUNCATE TABLE b", &[]),
    case("INSERT INTO c VALUES (5, 'five')", "TRUNCATE TABLE c", &["c"]),
    case("INSERT INTO c VALUES (6, 'six')", "ALTER TABLE c ADD KEY (v)", &["c"]),
    // The rows wait for their DDL, so it is not late any more.
    case("RENAME TABLE c TO d", "INSERT INTO d VALUES (7, 'seven')", &[]),
    case("CREATE TABLE e (id INT PRIMARY KEY)", "INSERT INTO e VALUES (1)", &[]),
    // A label that the row has and the known column has not.
    case(
        "ALTER TABLE l MODIFY COLUMN v ENUM('a', 'b', 'c')",
        "UPDATE l SET v = 'c', s = 'z' WHERE id = 1",
        &[],
    ),
    case("ALTER TABLE l MODIFY COLUMN s SET('x', 'y', 'z', 'w')", "INSERT INTO l VALUES (2, 'a', 'w')", &[]),
    // A row under the old name.
    case("INSERT INTO d VALUES (8, 'eight')", "RENAME TABLE d TO f", &["f"]),
    // Rows of a table that is gone; a table that comes when it is gone; two DDL of one table.
    case("INSERT INTO e VALUES (2)", "DROP TABLE e", &[]),
    case("CREATE TABLE g (id INT PRIMARY KEY)", "DROP TABLE g", &[]),
    case("ALTER TABLE f ADD COLUMN x INT DEFAULT 1", "ALTER TABLE f ADD COLUMN y INT DEFAULT 2", &["f"]),
    case("ALTER TABLE f DROP COLUMN x", "TRUNCATE TABLE f", &["f"]),
];

async fn run(stack: &Stack, schema: &str, statements: &[&str]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("USE {schema}")]).await;
    sql::run(&mut source, statements).await;
}

/// Runs the first, then the second, and has them sent the other way round.
async fn the_other_way_round(stack: &Stack, schema: &str, first: &str, second: &str) {
    stack.settle().await;
    stack.drainer(Method::POST, "/drainer/pause").await;
    run(stack, schema, &[first, second]).await;
    stack.drainer(Method::POST, "/drainer/reorder?count=1").await;
    stack.drainer(Method::POST, "/drainer/resume").await;
    stack.settle().await;
}

async fn events(server: &Server, kind: &str) -> Vec<Value> {
    let events = server.api.get("/tasks/late/events?limit=500").await;
    let events = events["items"].as_array().unwrap().clone();
    events.into_iter().filter(|event| event["kind"] == kind).collect()
}

/// Tables that were copied again so far, in order.
async fn copied(server: &Server) -> Vec<String> {
    let events = events(server, "table_resynced").await;
    events.iter().map(|event| event["detail"]["table"].as_str().unwrap().to_owned()).collect()
}

/// The tables of [`MADE`] and a task that follows them.
async fn begin(stack: &Stack, schema: &str) -> Server {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    run(stack, schema, MADE).await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec("late", stack, &[&format!("{schema}.*")], &json!({}))).await;
    server.api.start("late").await;
    server.api.wait_for("late", "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
    server
}

async fn late(stack: Stack, schema: &str) {
    let _alone = ALONE.lock().await;
    let server = begin(&stack, schema).await;
    let mut expected: Vec<String> = Vec::new();
    for Case { first, second, copied: tables } in CASES {
        the_other_way_round(&stack, schema, first, second).await;
        expected.extend(tables.iter().map(|table| format!("{schema}.{table}")));
        server.api.wait_caught_up("late", &stack, PATIENCE).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut found = copied(&server).await;
        while found.len() < expected.len() {
            let task = server.api.task("late").await;
            assert_ne!(task["status"], "failed", "{first}; {second}: {task:#}");
            assert!(tokio::time::Instant::now() < end, "{first}; {second}: {found:?}\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
            found = copied(&server).await;
        }
        assert_eq!(found, expected, "{first}; {second}");
        let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
        compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    }
    // The test tests what it says: but for the DDL that rows waited for, each case had its late message.
    assert_eq!(events(&server, "late_transaction").await.len(), CASES.len());
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Statements that are all in the source before the Drainer starts again and sends the first of them with the names and columns of the last
/// (source-drainer.md 10.9).
const AHEAD: &[&[&str]] = &[
    &[
        "INSERT INTO a VALUES (11, 'x')",
        "ALTER TABLE a ADD COLUMN n INT DEFAULT 5",
        "INSERT INTO a VALUES (12, 'y', 6)",
    ],
    // Drainer fills a FLOAT that it does not find with 0, whatever the default.
    &[
        "UPDATE a SET v = 'upd' WHERE id = 1",
        "ALTER TABLE a ADD COLUMN f FLOAT NOT NULL DEFAULT 1.5",
        "INSERT INTO a VALUES (13, 'z', 7, 2.5)",
    ],
    &[
        "INSERT INTO a VALUES (14, 'v', 8, 3.5)",
        "ALTER TABLE a DROP COLUMN v",
        "UPDATE a SET n = 9 WHERE id = 14",
    ],
    &[
        "INSERT INTO a VALUES (15, 8, 3.5)",
        "ALTER TABLE a RENAME COLUMN n TO m",
        "UPDATE a SET m = 1 WHERE id < 13",
    ],
    &[
        "DELETE FROM a WHERE id = 12",
        "ALTER TABLE a ADD COLUMN first INT NOT NULL DEFAULT 3 FIRST",
        "INSERT INTO a VALUES (1, 16, 2, 2.5)",
        "ALTER TABLE a DROP COLUMN m",
        "INSERT INTO a VALUES (2, 17, 4.5)",
    ],
    &["INSERT INTO b VALUES (11, 'x')", "RENAME TABLE b TO b2", "INSERT INTO b2 VALUES (12, 'y')"],
    &[
        "UPDATE b2 SET v = 'old' WHERE id = 11",
        "RENAME TABLE b2 TO b3",
        "CREATE TABLE b2 (id INT PRIMARY KEY, other INT)",
        "INSERT INTO b2 VALUES (1, 1)",
        "UPDATE b3 SET v = 'new' WHERE id = 12",
    ],
    &[
        "INSERT INTO c VALUES (11, 'x')",
        "ALTER TABLE c RENAME TO c2",
        "ALTER TABLE c2 ADD COLUMN n INT",
        "UPDATE c2 SET n = id",
        "ALTER TABLE c2 CHANGE COLUMN n n2 INT",
        "INSERT INTO c2 VALUES (12, 'y', 1)",
    ],
    &[
        "UPDATE c2 SET v = 'longer'",
        "ALTER TABLE c2 MODIFY COLUMN v VARCHAR(60)",
        "UPDATE c2 SET v = REPEAT('l', 55)",
    ],
    &[
        "CREATE TABLE d LIKE c2",
        "INSERT INTO d SELECT * FROM c2",
        "ALTER TABLE d DROP COLUMN n2",
        "DELETE FROM d WHERE id = 1",
    ],
    &["INSERT INTO c2 VALUES (13, 'gone', 1)", "TRUNCATE TABLE c2", "INSERT INTO c2 VALUES (14, 'kept', 2)"],
];

async fn early(stack: Stack, schema: &str) {
    let _alone = ALONE.lock().await;
    let server = begin(&stack, schema).await;
    for statements in AHEAD {
        stack.settle().await;
        stack.drainer(Method::POST, "/drainer/pause").await;
        run(&stack, schema, statements).await;
        stack.drainer(Method::POST, "/drainer/restart?back_messages=0&catalog=history").await;
        server.api.wait_caught_up("late", &stack, PATIENCE).await;
        let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
        let same = compare::schemas(&mut source, &mut target, &[(schema, schema)]).await;
        assert!(same.is_ok(), "{statements:?}: {}", same.unwrap_err());
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Without a TiDB there is nothing to copy from: the task stops before it does harm, and says what would help.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_ddl_stops_a_task_without_a_source() {
    let Some(stack) = Stack::utc("a_late_ddl_stops_a_task_without_a_source") else { return };
    let _alone = ALONE.lock().await;
    let schema = "fz_blind";
    sql::drop_schemas(&stack, &[schema]).await;
    stack.settle().await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let offset = stack.end_offset(&stack.topic).await.to_string();
    let more = json!({
        "source": {"tidb": null},
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": {"offset": offset},
    });
    server.api.create_task(&api::spec("late", &stack, &[&format!("{schema}.*")], &more)).await;
    server.api.start("late").await;
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    run(&stack, schema, MADE).await;
    // One that only its own rows concern is applied here too.
    the_other_way_round(&stack, schema, "ALTER TABLE a ADD COLUMN n INT", "INSERT INTO b VALUES (3, 'x')")
        .await;
    server.api.wait_caught_up("late", &stack, PATIENCE).await;
    the_other_way_round(&stack, schema, "TRUNCATE TABLE b", "INSERT INTO b VALUES (1, 'new')").await;
    let task = server.api.wait_for_status("late", "failed", PATIENCE).await;
    let error = &task["last_error"];
    assert_eq!(error["kind"], "position_lost", "{task:#}");
    assert!(error["object"].as_str().unwrap().contains("fz_blind.b"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("source.tidb"), "{error:#}");
    assert_eq!(sql::count(&mut sql::target(&stack).await, "fz_blind.b").await, 3);
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Writes messages as a Drainer does.
async fn send(stack: &Stack, topic: &str, messages: &[Binlog]) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &stack.kafka).create().unwrap();
    for message in messages {
        let payload = message.encode_to_vec();
        let record = FutureRecord::<(), [u8]>::to(topic).partition(0).payload(&payload);
        producer.send(record, PATIENCE).await.unwrap();
    }
}

/// A row of `t` as a Drainer sends it that knows these columns.
fn row(schema: &str, columns: &[&str], id: i64) -> Table {
    let types: Vec<_> = columns.iter().map(|column| (*column, "int")).collect();
    let values: Vec<_> = columns.iter().map(|_| tidegate::model::Value::Int(id)).collect();
    Table::new(schema, "t", &types, &["id"]).insert(&values)
}

/// Restarted amid an ADD COLUMN a Drainer may never hear of it. Rows that lack a column for that lose a value; those that lack one which is
/// dropped behind them lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_drainer_never_heard_of_stops_the_task() {
    let Some(stack) = Stack::utc("a_column_that_drainer_never_heard_of_stops_the_task") else { return };
    let schema = "fz_unheard";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut target = sql::target(&stack).await;
    sql::run(&mut target, &[&format!("CREATE DATABASE {schema}")]).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let topic = format!("fz_unheard_{}", std::process::id());
    stack.create_topic(&topic, 1);
    let first: u64 = 446_700_000_000_000_000;
    let ddl = |after: u64, text: String| Binlog::ddl(first + after, schema, "t", &text);
    let dml = |after: u64, row| Binlog::dml(first + after, vec![row]);
    let messages = [
        ddl(0, format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, a INT)")),
        dml(1, row(schema, &["id", "a"], 1)),
        // Restarted amid the DROP it knows the columns behind it.
        dml(2, row(schema, &["id"], 2)),
        ddl(3, format!("ALTER TABLE {schema}.t DROP COLUMN a")),
        ddl(4, format!("ALTER TABLE {schema}.t ADD COLUMN b INT")),
        dml(5, row(schema, &["id"], 3)),
    ];
    send(&stack, &topic, &messages).await;
    let spec = json!({
        "name": "late", "source": {"kafka": "kafka", "topic": topic}, "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true}, "start_at": {"offset": "0"},
        "objects": {"include": [format!("{schema}.*")]},
    });
    server.api.create_task(&spec).await;
    server.api.start("late").await;
    let task = server.api.wait_for_status("late", "failed", PATIENCE).await;
    let error = &task["last_error"];
    assert_eq!(error["kind"], "schema_mismatch", "{task:#}");
    assert!(error["message"].as_str().unwrap().contains("without their column b"), "{error:#}");
    assert!(error["object"].as_str().unwrap().contains("offset 5, fz_unheard.t"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("ALTER TABLE fz_unheard.t COMMENT"), "{error:#}");
    let ids: Vec<i64> = target.query("SELECT id FROM fz_unheard.t ORDER BY id").await.unwrap();
    assert_eq!(ids, [1, 2]);
    sql::drop_schemas(&stack, &[schema]).await;
}

/// With a source, and where a table may stop alone, it is copied again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_drainer_never_heard_of_is_copied() {
    let Some(stack) = Stack::utc("a_column_that_drainer_never_heard_of_is_copied") else { return };
    let _alone = ALONE.lock().await;
    let schema = "fz_unheard_too";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    let statements = [
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, a INT)"),
        format!("INSERT INTO {schema}.t VALUES (1, 1)"),
    ];
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let server = Server::start().await;
    server.api.connect(&stack).await;
    let topic = format!("fz_unheard_too_{}", std::process::id());
    stack.create_topic(&topic, 1);
    // Something with which a topic begins.
    let before = sql::current_tso(&mut source).await;
    send(&stack, &topic, &[Binlog::ddl(before, "fz_nobody", "", "CREATE DATABASE fz_nobody")]).await;
    let more = json!({"source": {"topic": topic}, "errors": {"table": "stop_table"}});
    server.api.create_task(&api::spec("late", &stack, &[&format!("{schema}.*")], &more)).await;
    server.api.start("late").await;
    server.api.wait_for("late", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    let add = format!("ALTER TABLE {schema}.t ADD COLUMN b INT");
    sql::run(&mut source, &[&add]).await;
    let added = sql::current_tso(&mut source).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.t VALUES (2, 2, 2)")]).await;
    let inserted = sql::current_tso(&mut source).await;
    let messages =
        [Binlog::ddl(added, schema, "t", &add), Binlog::dml(inserted, vec![row(schema, &["id", "a"], 2)])];
    send(&stack, &topic, &messages).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while copied(&server).await.is_empty() {
        assert!(tokio::time::Instant::now() < end, "it is not copied: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

//! A cluster whose collations compare bytes (`new_collation_enabled = False`, and every cluster from before 4.0), into both targets: what
//! differs in case, accents or trailing spaces alone is two keys there, and stays two.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::json;
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// Values of the key: equal to each other under a collation that is alive.
const KEYS: [&str; 8] = ["a", "A", "a ", "á", "Ab", "aB", "ss", "ß"];

/// Name, type and key of `k`, in a table `(k, n INT NOT NULL, x INT)`.
const TABLES: &[(&str, &str, &str)] = &[
    ("general", "VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL", "PRIMARY KEY (k)"),
    ("loose", "VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL", "PRIMARY KEY (k) NONCLUSTERED"),
    ("old", "VARCHAR(20) CHARACTER SET utf8 COLLATE utf8_general_ci NOT NULL", "PRIMARY KEY (n, k)"),
    ("bin", "VARCHAR(20) NOT NULL", "PRIMARY KEY (k)"),
    ("another", "VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL", "PRIMARY KEY (n), UNIQUE KEY (k)"),
];

fn create(schema: &str, (name, ty, key): (&str, &str, &str)) -> Vec<String> {
    let rows: Vec<_> = KEYS.iter().enumerate().map(|(n, k)| format!("('{k}', {n}, 0)")).collect();
    vec![
        format!("CREATE TABLE {schema}.{name} (k {ty}, n INT NOT NULL, x INT, {key})"),
        format!("INSERT INTO {schema}.{name} VALUES {}", rows.join(", ")),
    ]
}

fn life(schema: &str, name: &str) -> Vec<String> {
    let table = format!("{schema}.{name}");
    vec![
        format!("UPDATE {table} SET x = n + 1 WHERE k = 'A'"),
        format!("DELETE FROM {table} WHERE k = 'a'"),
        format!("UPDATE {table} SET k = 'a' WHERE k = 'A'"),
        "BEGIN".to_owned(),
        format!("UPDATE {table} SET k = 'AB' WHERE k = 'Ab'"),
        format!("UPDATE {table} SET k = 'Ab', x = 7 WHERE k = 'aB'"),
        format!("INSERT INTO {table} VALUES ('A', 20, 20)"),
        format!("DELETE FROM {table} WHERE k = 'a '"),
        "COMMIT".to_owned(),
        format!("REPLACE INTO {table} VALUES ('a  ', 21, 1), ('SS', 22, 2), ('ß', 7, 9)"),
    ]
}

async fn run(stack: &Stack, statements: &[String]) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_compares_bytes_keeps_all_its_keys() {
    let Some(stack) = Stack::utc("a_cluster_that_compares_bytes_keeps_all_its_keys") else { return };
    let topic = format!("bytewise_{}", std::process::id());
    let beside = stack.beside(&topic, &[("TIDB_NEW_COLLATION", "false")]).await;
    let source = &beside.stack;
    let alive: Option<u8> =
        sql::tidb(source).await.query_first("SELECT 'a' = 'A' COLLATE utf8mb4_general_ci").await.unwrap();
    assert_eq!(alive, Some(0), "this TiDB compares bytes");
    for (dialect, schema) in [(Dialect::Mysql, "byte_mysql"), (Dialect::Adb, "byte_adb")] {
        follow(&source.clone().on(dialect), schema).await;
    }
}

async fn follow(stack: &Stack, schema: &str) {
    sql::drop_schemas(stack, &[schema]).await;
    run(stack, &[format!("CREATE DATABASE {schema} COLLATE utf8mb4_general_ci")]).await;
    for table in TABLES {
        run(stack, &create(schema, *table)).await;
    }
    // A row filter and the borders of partitions compare text as the source does.
    run(
        stack,
        &[
            format!("CREATE TABLE {schema}.filtered (id INT PRIMARY KEY, state VARCHAR(10) COLLATE utf8mb4_general_ci)"),
            format!("INSERT INTO {schema}.filtered VALUES (1, 'on'), (2, 'ON'), (3, 'on '), (4, NULL)"),
            format!(
                "CREATE TABLE {schema}.parted (k VARCHAR(10) COLLATE utf8mb4_general_ci PRIMARY KEY, n INT) PARTITION BY RANGE COLUMNS (k) \
                 (PARTITION low VALUES LESS THAN ('a'), PARTITION high VALUES LESS THAN (MAXVALUE))"
            ),
            format!("INSERT INTO {schema}.parted VALUES ('A', 1), ('Z', 2), ('a', 3), ('z', 4), ('é', 5)"),
        ],
    )
    .await;
    let server = Server::start().await;
    server.api.connect(stack).await;
    let filter = format!("{schema}.filtered");
    let mut more = json!({"objects": {"tables": {filter: {"filter": "state = 'on'"}}}});
    api::merge(&mut more, &api::policies(stack));
    server.api.create_task(&api::spec("byte", stack, &[&format!("{schema}.*")], &more)).await;
    server.api.start("byte").await;
    server.api.wait_for("byte", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    for (name, ..) in TABLES {
        run(stack, &life(schema, name)).await;
    }
    run(
        stack,
        &[
            format!("UPDATE {schema}.filtered SET state = 'On' WHERE id = 1"),
            format!("UPDATE {schema}.filtered SET state = 'on' WHERE id = 4"),
            format!("ALTER TABLE {schema}.parted TRUNCATE PARTITION low"),
            format!("INSERT INTO {schema}.parted VALUES ('A', 6), ('B', 7)"),
            format!("ALTER TABLE {schema}.bin MODIFY COLUMN k VARCHAR(30) NOT NULL"),
            format!("ALTER TABLE {schema}.another ADD UNIQUE KEY kx (k, x)"),
        ],
    )
    .await;
    // Tables that come with the stream.
    for (name, ty, key) in TABLES {
        let name = format!("{name}_late");
        run(stack, &create(schema, (&name, ty, key))).await;
        run(stack, &life(schema, &name)).await;
    }
    server.api.wait_caught_up("byte", stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let kept: Vec<(u32, String)> =
        target.query(format!("SELECT id, state FROM {schema}.filtered ORDER BY id")).await.unwrap();
    assert_eq!(kept, [(4, "on".to_owned())]);
    run(stack, &[format!("DELETE FROM {schema}.filtered WHERE id < 4")]).await;
    server.api.wait_caught_up("byte", stack, PATIENCE).await;
    // Which text is in a partition AnalyticDB is not asked: that table is copied again.
    server.api.wait_tables_follow("byte", PATIENCE).await;
    let (tables, rows) = compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
    assert_eq!(tables, 2 * TABLES.len() + 2);
    assert!(rows >= 80, "{rows} rows");
    server.api.complete("byte", "stop").await;
    sql::drop_schemas(stack, &[schema]).await;
}

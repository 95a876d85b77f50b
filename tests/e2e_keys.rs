//! Keys of every type and collation: the row that is meant is the row that is written, moved and deleted.
//!
//! Each table goes through the same life in three ways: every step in a batch of its own, all steps in one transaction (folded
//! together), and one transaction per step without a pause.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

/// Name, type of the key column, and five values: four for rows, the last to move to.
const TYPES: &[(&str, &str, [&str; 5])] = &[
    ("tinyint", "TINYINT", ["-128", "0", "1", "127", "-1"]),
    ("unsigned_int", "INT UNSIGNED", ["4294967295", "0", "1", "2147483648", "7"]),
    ("mediumint", "MEDIUMINT", ["-8388608", "8388607", "0", "1", "-7"]),
    ("zerofill", "INT(6) UNSIGNED ZEROFILL", ["0", "1", "42", "4294967295", "7"]),
    ("bigint", "BIGINT", ["-9223372036854775808", "9223372036854775807", "0", "-1", "9007199254740993"]),
    (
        "unsigned_bigint",
        "BIGINT UNSIGNED",
        ["18446744073709551615", "9223372036854775808", "0", "9007199254740993", "18446744073709551614"],
    ),
    ("decimal_scaled", "DECIMAL(20,6)", ["1.5", "-0.000001", "0", "99999999999999.999999", "1.500001"]),
    (
        "decimal_long",
        "DECIMAL(65,30)",
        [
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
            "0",
            "1",
            "1.000000000000000000000000000001",
        ],
    ),
    ("float", "FLOAT", ["1.1", "-0.0", "1e-40", "3.4028234663852886e38", "16777217"]),
    ("float_scaled", "FLOAT(7,4)", ["1.1", "123.4567", "-999.9999", "0", "0.0001"]),
    ("double", "DOUBLE", ["0.1", "-0.0", "5e-324", "1.7976931348623157e308", "1e16"]),
    ("double_scaled", "DOUBLE(10,3)", ["0.1", "1234567.891", "-0.001", "0", "9999999.999"]),
    ("bit1", "BIT(1)", ["0", "1", "b'0'", "b'1'", "0"]),
    ("bit64", "BIT(64)", ["0", "18446744073709551615", "9223372036854775808", "65", "1"]),
    ("year", "YEAR", ["0", "1901", "2155", "1970", "2070"]),
    ("date", "DATE", ["'0000-00-00'", "'2020-00-00'", "'9999-12-31'", "'1000-01-01'", "'2024-02-29'"]),
    (
        "datetime",
        "DATETIME",
        [
            "'0000-00-00 00:00:00'",
            "'9999-12-31 23:59:59'",
            "'1000-01-01'",
            "'1991-09-14 17:30:00'",
            "'2024-02-29 00:00:01'",
        ],
    ),
    (
        "datetime6",
        "DATETIME(6)",
        [
            "'2024-01-01 00:00:00'",
            "'2024-01-01 00:00:00.5'",
            "'2024-01-01 00:00:00.500001'",
            "'9999-12-31 23:59:59.999999'",
            "'2024-01-01 00:00:00.000001'",
        ],
    ),
    (
        "timestamp3",
        "TIMESTAMP(3)",
        [
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07.999'",
            "'2024-03-31 01:30:00.5'",
            "'2024-10-27 00:30:00'",
            "'2024-10-27 01:30:00.001'",
        ],
    ),
    ("time6", "TIME(6)", ["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:00.5'", "'00:00:00.000001'"]),
    ("enum", "ENUM('b','a','','3')", ["'b'", "'a'", "''", "'3'", "2"]),
    ("set", "SET('x','y','3')", ["''", "'x'", "'x,y'", "'3'", "'x,y,3'"]),
    ("binary", "BINARY(4)", ["'a'", "x'61000001'", "x'00000000'", "x'ffffffff'", "x'61000100'"]),
    ("varbinary", "VARBINARY(300)", ["x'61'", "x'6100'", "''", "x'27225c00'", "REPEAT('z', 300)"]),
    ("text", "VARCHAR(50)", ["'a'", "'b'", "''", "'it''s \\\\ \"quoted\" \\0 \\Z'", "'𝒳'"]),
    ("latin1", "VARCHAR(50) CHARACTER SET latin1", ["'a'", "'B'", "''", "'é'", "'A'"]),
    ("gbk", "VARCHAR(50) CHARACTER SET gbk", ["'a'", "'一'", "''", "'丁'", "'七'"]),
    ("ascii", "CHAR(9) CHARACTER SET ascii", ["'a'", "'B'", "''", "'z'", "'A'"]),
];

/// The life of a table `t (k ..., n INT, x INT)`, step by step.
fn life(table: &str, [a, b, c, d, free]: [&str; 5]) -> Vec<String> {
    vec![
        format!("INSERT INTO {table} VALUES ({b}, 2, 0)"),
        format!("INSERT INTO {table} VALUES ({c}, 3, 0), ({d}, 4, 0)"),
        format!("UPDATE {table} SET x = x + 1"),
        format!("UPDATE {table} SET k = {free} WHERE n = 1"),
        format!("DELETE FROM {table} WHERE n IN (2, 4)"),
        format!("UPDATE {table} SET k = {a}, x = 9 WHERE n = 1"),
        format!("INSERT INTO {table} VALUES ({d}, 4, 5)"),
        format!("DELETE FROM {table} WHERE n = 3"),
    ]
}

/// BIT(1) has two values only.
fn unique_life(table: &str, name: &str, values: [&str; 5]) -> Vec<String> {
    if name == "bit1" {
        return vec![
            format!("INSERT INTO {table} VALUES (1, 2, 0)"),
            format!("UPDATE {table} SET x = x + 1"),
            format!("DELETE FROM {table} WHERE n = 2"),
            format!("UPDATE {table} SET k = 1 WHERE n = 1"),
        ];
    }
    life(table, values)
}

const FORMS: &[(&str, &str)] = &[
    ("single", "PRIMARY KEY (k)"),
    ("loose", "PRIMARY KEY (k) NONCLUSTERED"),
    ("pair", "PRIMARY KEY (k, n)"),
    ("unique", "UNIQUE KEY (k)"),
];

async fn begin(stack: &Stack, task: &str, schema: &str, more: &Value) -> Server {
    let server = Server::start().await;
    server.api.connect(stack).await;
    server.api.create_task(&api::spec(task, stack, &[&format!("{schema}.*")], more)).await;
    server.api.start(task).await;
    server.api.wait_for(task, "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    server
}

async fn same(stack: &Stack, server: &Server, task: &str, schema: &str) {
    server.api.wait_caught_up(task, stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::mariadb(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_found_again() {
    let Some(stack) = Stack::utc("keys_of_every_type_are_found_again") else { return };
    let schema = "ek_types";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "SET sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO'",
            "CREATE DATABASE ek_types",
            "USE ek_types",
        ],
    )
    .await;
    let mut tables = Vec::new();
    for (name, ty, values) in TYPES {
        for (form, key) in FORMS {
            for way in ["steps", "folded"] {
                let table = format!("{name}_{form}_{way}");
                let create = format!("CREATE TABLE {table} (k {ty} NOT NULL, n INT NOT NULL, x INT, {key})");
                let first = format!("INSERT INTO {table} VALUES ({}, 1, 0)", values[0]);
                sql::run(&mut source, &[&create, &first]).await;
                tables.push((way, unique_life(&table, name, *values)));
            }
        }
    }
    let server = begin(&stack, "types", schema, &json!({})).await;
    for (_, steps) in tables.iter().filter(|(way, _)| *way == "folded") {
        sql::run(&mut source, &["BEGIN"]).await;
        for step in steps {
            sql::run(&mut source, &[step]).await;
        }
        sql::run(&mut source, &["COMMIT"]).await;
    }
    let longest = tables.iter().map(|(_, steps)| steps.len()).max().unwrap();
    for nth in 0..longest {
        for (_, steps) in tables.iter().filter(|(way, _)| *way == "steps") {
            if let Some(step) = steps.get(nth) {
                sql::run(&mut source, &[step]).await;
            }
        }
        same(&stack, &server, "types", schema).await;
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

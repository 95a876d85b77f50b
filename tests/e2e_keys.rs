//! Keys of every type and collation: the row that is meant is the row that is written, moved and deleted.
//!
//! Each table goes through the same life in three ways: every step in a batch of its own, all steps in one transaction (folded
//! together), and one transaction per step without a pause.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::{Value, json};
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql};
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(120);

/// One test at a time: so much DDL from several sessions at once is more than the stack's Drainer stage follows.
static ALONE: Mutex<()> = Mutex::const_new(());

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
    ("enum", "ENUM('b','a','','3','z')", ["'b'", "'a'", "''", "'3'", "5"]),
    // Numbers, whatever the character set of the labels.
    ("enumgbk", "ENUM('b','a','','3','z') CHARACTER SET gbk", ["'b'", "'a'", "''", "'3'", "5"]),
    ("setgbk", "SET('x','y','3') CHARACTER SET gbk", ["''", "'x'", "'x,y'", "'3'", "'x,y,3'"]),
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
    let mut spec = api::spec(task, stack, &[&format!("{schema}.*")], &api::policies(stack));
    api::merge(&mut spec, more);
    server.api.create_task(&spec).await;
    server.api.start(task).await;
    server.api.wait_for(task, "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    server
}

async fn same(stack: &Stack, server: &Server, task: &str, schema: &str) {
    server.api.wait_caught_up(task, stack, PATIENCE).await;
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
}

support::on_both_targets! {
    keys_of_every_type_are_found_again => types("ek_types", "ek_types_adb");
    a_key_that_is_spelled_otherwise_stays_one_row => spellings("ek_spell", "ek_spell_adb");
    unique_values_wander_from_row_to_row => unique("ek_unique", "ek_unique_adb");
    rows_that_were_there_get_the_sources_default => added("ek_added", "ek_added_adb");
}

async fn types(stack: Stack, schema: &str) {
    let _alone = ALONE.lock().await;
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "SET sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO'",
            &format!("CREATE DATABASE {schema}"),
            &format!("USE {schema}"),
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

/// Type of the column, its key, and spellings that the source takes for one key (or not: then the key moves).
const SPELLINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "general",
        "VARCHAR(20) COLLATE utf8mb4_general_ci",
        "PRIMARY KEY (k)",
        &["'Ab'", "'aB'", "'AB  '", "'áb'", "'ÄB'", "'ab'", "'other'"],
    ),
    (
        "general3",
        "VARCHAR(20) CHARACTER SET utf8 COLLATE utf8_general_ci",
        "PRIMARY KEY (k) NONCLUSTERED",
        &["'Ab'", "'aB'", "'AB '", "'áb'"],
    ),
    (
        "unicode",
        "VARCHAR(20) COLLATE utf8mb4_unicode_ci",
        "PRIMARY KEY (k)",
        &["'straße'", "'STRASSE'", "'Strasse '", "'ｓｔｒａｓｓｅ'", "'s'"],
    ),
    ("bin", "VARCHAR(20) COLLATE utf8mb4_bin", "PRIMARY KEY (k)", &["'a'", "'a '", "'a   '", "'A'", "'a'"]),
    ("char", "CHAR(20) COLLATE utf8mb4_general_ci", "UNIQUE KEY (k)", &["'a'", "'A '", "'á'"]),
    ("latin1", "VARCHAR(20) CHARACTER SET latin1", "PRIMARY KEY (k)", &["'a'", "'a '", "'A'", "'é'"]),
    ("gbk", "VARCHAR(20) CHARACTER SET gbk", "PRIMARY KEY (k)", &["'a'", "'A'", "'A '", "'Ａ'", "'一'"]),
    ("binary", "VARBINARY(20)", "PRIMARY KEY (k)", &["'a'", "'a '", "'A'", "x'6100'", "'a'"]),
    (
        "text_prefix",
        "TEXT COLLATE utf8mb4_general_ci",
        "PRIMARY KEY (k(4))",
        &["'abcd1'", "'ABCD2'", "'abcd'", "'áBCD 3'"],
    ),
    // As a whole it is 'ss', its first character is not.
    (
        "expansion_prefix",
        "VARCHAR(20) COLLATE utf8mb4_unicode_ci",
        "PRIMARY KEY (k(1))",
        &["'ß'", "'ßa'", "'d'", "'ß'"],
    ),
    ("blob_prefix", "BLOB", "PRIMARY KEY (k(4))", &["'abcd1'", "'abcd2'", "'abcd'", "'abce'"]),
    ("pair", "VARCHAR(20) COLLATE utf8mb4_general_ci", "PRIMARY KEY (k, n)", &["'Ab'", "'aB'", "'AB '"]),
    (
        "prefix_pair",
        "VARCHAR(20) COLLATE utf8mb4_unicode_ci",
        "UNIQUE KEY (n, k(3))",
        &["'Abc1'", "'aBC2'", "'ab'"],
    ),
];

async fn spellings(stack: Stack, schema: &str) {
    let _alone = ALONE.lock().await;
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")]).await;
    for (name, ty, key, spellings) in SPELLINGS {
        for way in ["steps", "folded"] {
            let table = format!("{name}_{way}");
            let create = format!("CREATE TABLE {table} (k {ty} NOT NULL, n INT NOT NULL, x INT, {key})");
            let rows = format!(
                "INSERT INTO {table} VALUES ({}, 1, 0), ('ss', 2, 0), ('zz', 3, 0), ('qq', 4, 0), ('ww', 5, 0)",
                spellings[0]
            );
            sql::run(&mut source, &[&create, &rows]).await;
        }
    }
    let server = begin(&stack, "spell", schema, &json!({})).await;
    // Each new spelling as an update, as a delete and an insert in one transaction, and as a REPLACE.
    let change = |table: &str, spelling: &str| {
        vec![
            format!("UPDATE {table} SET k = {spelling}, x = x + 1 WHERE n = 1"),
            "BEGIN".to_owned(),
            format!("DELETE FROM {table} WHERE n = 1"),
            format!("INSERT INTO {table} VALUES ({spelling}, 1, 50)"),
            "COMMIT".to_owned(),
        ]
    };
    for (name, _, _, spellings) in SPELLINGS {
        sql::run(&mut source, &["BEGIN"]).await;
        for spelling in *spellings {
            let table = format!("{name}_folded");
            for statement in [
                format!("UPDATE {table} SET k = {spelling}, x = x + 1 WHERE n = 1"),
                format!("DELETE FROM {table} WHERE n = 1"),
                format!("REPLACE INTO {table} VALUES ({spelling}, 1, 50)"),
            ] {
                sql::run(&mut source, &[&statement]).await;
            }
        }
        sql::run(&mut source, &["COMMIT"]).await;
    }
    let longest = SPELLINGS.iter().map(|(.., spellings)| spellings.len()).max().unwrap();
    for nth in 0..=longest {
        for (name, _, _, spellings) in SPELLINGS {
            let table = format!("{name}_steps");
            match spellings.get(nth) {
                Some(spelling) => {
                    for statement in change(&table, spelling) {
                        sql::run(&mut source, &[&statement]).await;
                    }
                }
                // MariaDB looks at more than the key where it is asked for several.
                None => sql::run(&mut source, &[&format!("DELETE FROM {table} WHERE n <> 2")]).await,
            }
        }
        same(&stack, &server, "spell", schema).await;
    }
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Unique values wander between rows, within transactions and across them, at random.
async fn unique(stack: Stack, schema: &str) {
    let _alone = ALONE.lock().await;
    // One without a key is not for AnalyticDB.
    let tables: &[&str] = if stack.dialect == Dialect::Mysql { &["a", "b", "c"] } else { &["a", "b"] };
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("USE {schema}"),
            "CREATE TABLE a (id INT PRIMARY KEY, u INT UNIQUE, v VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL UNIQUE, x INT, \
             pad VARCHAR(9000))",
            "CREATE TABLE b (id INT NOT NULL, u INT UNIQUE, v VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, x INT, \
             pad VARCHAR(255), UNIQUE KEY (id), UNIQUE KEY (v(6)))",
        ],
    )
    .await;
    if tables.contains(&"c") {
        let create = "CREATE TABLE c (id INT, u INT UNIQUE, v VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, x INT, pad VARCHAR(255))";
        sql::run(&mut source, &[create]).await;
    }
    for table in tables {
        for id in 1..=12 {
            let row = format!("INSERT INTO {table} VALUES ({id}, {id}, 'v{id:05}', 0, '')");
            sql::run(&mut source, &[&row]).await;
        }
    }
    let more = json!({"tuning": {"memory_bytes": 1 << 24, "batch_bytes": 1 << 20}});
    let server = begin(&stack, "unique", schema, &more).await;
    let seed = support::workload::seed("unique_values");
    let mut random = seed;
    let mut pick = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..120 {
        let table = tables[pick(tables.len() as u64) as usize];
        let (one, other) = (pick(12) + 1, pick(12) + 1);
        let transaction = match pick(5) {
            // Two rows, or a row with itself, change places.
            0 => vec![
                format!("SET @u = (SELECT u FROM {table} WHERE id = {one})"),
                format!("SET @w = (SELECT u FROM {table} WHERE id = {other})"),
                format!("UPDATE {table} SET u = NULL WHERE id IN ({one}, {other})"),
                format!("UPDATE {table} SET u = @w, x = {round} WHERE id = {one}"),
                format!("UPDATE {table} SET u = @u WHERE id = {other} AND id <> {one}"),
            ],
            // A value goes to a row that has none, through a delete.
            1 => vec![
                format!("SET @u = (SELECT u FROM {table} WHERE id = {one})"),
                format!("DELETE FROM {table} WHERE id = {one}"),
                format!("UPDATE {table} SET u = @u, x = {round} WHERE id = {other}"),
                format!("INSERT INTO {table} VALUES ({one}, NULL, 'V{one:05}', {round}, 'new')"),
            ],
            // All move up by one.
            2 => vec![
                format!("UPDATE {table} SET u = -u, x = {round}"),
                format!("UPDATE {table} SET u = 1 - u"),
            ],
            // The same value in another spelling.
            3 => vec![format!("UPDATE {table} SET v = IF(x % 2, UPPER(v), LOWER(v)), x = x + 1")],
            // The key moves, its values stay.
            _ => vec![
                format!("UPDATE {table} SET id = id + 100 WHERE id = {one}"),
                format!("UPDATE {table} SET id = {one}, x = {round} WHERE id = {one} + 100"),
            ],
        };
        let one_by_one = pick(3) == 0;
        if !one_by_one {
            sql::run(&mut source, &["BEGIN"]).await;
        }
        for statement in &transaction {
            sql::run(&mut source, &[statement]).await;
        }
        if !one_by_one {
            sql::run(&mut source, &["COMMIT"]).await;
        }
        if pick(10) == 0 {
            same(&stack, &server, "unique", schema).await;
        }
    }
    // One transaction of more than a batch (1 MiB): its parts leave one after the other.
    sql::run(&mut source, &["BEGIN"]).await;
    for round in 0..12 {
        let wide = format!("UPDATE a SET u = IF(u < 0, u - {round}, -u), pad = REPEAT('{round}', 4000)");
        sql::run(&mut source, &[&wide, "UPDATE a SET u = 1000 - u"]).await;
    }
    sql::run(&mut source, &["COMMIT"]).await;
    same(&stack, &server, "unique", schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// What identifies a row changes in the stream: keys come and go, and with them a table may lose its key altogether.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_ddl_adds_and_drops_are_followed() {
    let Some(stack) = Stack::on_mysql_alone("keys_that_ddl_adds_and_drops_are_followed") else { return };
    let _alone = ALONE.lock().await;
    let schema = "ek_ddl";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE ek_ddl",
            "USE ek_ddl",
            "CREATE TABLE t (a INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, c FLOAT, d INT, \
             PRIMARY KEY (a) NONCLUSTERED, UNIQUE KEY ub (b))",
            "INSERT INTO t VALUES (1, 'a', 1.1, NULL), (2, 'b', 2.2, 2), (3, 'c', NULL, 3), (4, 'd', 0, 4)",
        ],
    )
    .await;
    let server = begin(&stack, "ddl", schema, &json!({"tables_without_key": "match_row"})).await;
    let touch = [
        "UPDATE t SET d = IFNULL(d, 0) + 1",
        "UPDATE t SET b = UPPER(b) WHERE a = 1",
        "DELETE FROM t WHERE a = 4",
        "INSERT INTO t (a, b, c, d) VALUES (4, 'D', 4.4, NULL)",
        "UPDATE t SET b = LOWER(b), c = c * 3 WHERE a IN (1, 4)",
    ];
    for ddl in [
        "ALTER TABLE t DROP PRIMARY KEY",
        "ALTER TABLE t DROP INDEX ub",
        "ALTER TABLE t ADD UNIQUE KEY un (d, a)",
        "ALTER TABLE t ADD PRIMARY KEY (b, a) NONCLUSTERED",
        "ALTER TABLE t DROP PRIMARY KEY",
        "ALTER TABLE t ADD UNIQUE KEY up (b(1), a)",
        "ALTER TABLE t DROP INDEX un",
        "ALTER TABLE t MODIFY a INT NULL",
        "ALTER TABLE t MODIFY a BIGINT NOT NULL",
        "ALTER TABLE t RENAME INDEX up TO renamed",
        "ALTER TABLE t RENAME COLUMN a TO aa",
        "ALTER TABLE t RENAME COLUMN aa TO a",
    ] {
        sql::run(&mut source, &[ddl]).await;
        if ddl.ends_with("aa") {
            sql::run(&mut source, &["UPDATE t SET d = d + 1", "DELETE FROM t WHERE aa = 2"]).await;
        } else {
            sql::run(&mut source, &touch).await;
        }
    }
    same(&stack, &server, "ddl", schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// Rows without a key: each change takes one row that is equal in every column.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_are_found_by_all_their_columns() {
    let Some(stack) = Stack::on_mysql_alone("rows_without_a_key_are_found_by_all_their_columns") else {
        return;
    };
    let _alone = ALONE.lock().await;
    let schema = "ek_none";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "SET sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO'",
            "CREATE DATABASE ek_none",
            "USE ek_none",
        ],
    )
    .await;
    let more = [
        ("json", "JSON", ["'{\"b\": [1, 2.50], \"a\": null}'", "'\"x\"'", "'1'", "'[]'", "'{}'"]),
        ("text_ci", "TEXT COLLATE utf8mb4_general_ci", ["'a'", "'A'", "'a '", "'á'", "''"]),
        ("blob", "BLOB", ["'a'", "'A'", "REPEAT('z', 5000)", "x'00ff'", "''"]),
        ("longtext", "LONGTEXT", ["REPEAT('é', 40000)", "'b'", "'c'", "'d'", "''"]),
    ];
    let mut lives = Vec::new();
    for (name, ty, values) in TYPES.iter().chain(&more) {
        for (form, key) in [("bare", ""), ("nullable", ", UNIQUE KEY (k, n)")] {
            if form == "nullable" && more.iter().any(|(other, ..)| other == name) {
                continue;
            }
            let table = format!("{name}_{form}");
            let create = format!("CREATE TABLE {table} (k {ty}, n INT, x INT{key})");
            let rows = format!(
                "INSERT INTO {table} VALUES ({0}, 1, 0), (NULL, NULL, NULL), (NULL, NULL, NULL), (NULL, 7, 0), (NULL, 7, 0)",
                values[0]
            );
            sql::run(&mut source, &[&create, &rows]).await;
            let mut steps = life(&table, *values);
            steps.push(format!("UPDATE {table} SET x = 5 WHERE k IS NULL LIMIT 1"));
            steps.push(format!("DELETE FROM {table} WHERE k IS NULL AND n IS NULL LIMIT 1"));
            if form == "bare" {
                let [a, b, ..] = values;
                steps.push(format!(
                    "INSERT INTO {table} VALUES ({a}, 8, 8), ({a}, 8, 8), ({b}, 8, 8), ({a}, 8, 8)"
                ));
                steps.push(format!("DELETE FROM {table} WHERE n = 8 LIMIT 2"));
                steps.push(format!("UPDATE {table} SET k = {b} WHERE n = 8 LIMIT 1"));
            }
            lives.push(steps);
        }
    }
    let server = begin(&stack, "none", schema, &json!({"tables_without_key": "match_row"})).await;
    let longest = lives.iter().map(Vec::len).max().unwrap();
    for nth in 0..longest {
        for steps in &lives {
            if let Some(step) = steps.get(nth) {
                sql::run(&mut source, &[step]).await;
            }
        }
        if nth % 3 == 2 {
            same(&stack, &server, "none", schema).await;
        }
    }
    same(&stack, &server, "none", schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// A column that comes with a default gives it to the rows that are there; both sides must have the same.
const ADDED: &[&str] = &[
    "a INT DEFAULT 5",
    "a INT NOT NULL",
    "a INT NOT NULL DEFAULT -7",
    "a BIGINT UNSIGNED NOT NULL DEFAULT 18446744073709551615",
    "a TINYINT(1) DEFAULT TRUE",
    "a INT(6) ZEROFILL NOT NULL DEFAULT 42",
    "a FLOAT DEFAULT 1.1",
    "a DOUBLE NOT NULL DEFAULT -0.1",
    "a DOUBLE NOT NULL",
    "a DECIMAL(12,4) DEFAULT 3.1",
    "a DECIMAL(12,4) NOT NULL",
    "a BIT(4) DEFAULT b'101'",
    "a BIT(9) NOT NULL",
    "a YEAR DEFAULT 1999",
    "a YEAR NOT NULL",
    "a DATE DEFAULT '2020-02-29'",
    "a DATE NOT NULL",
    "a TIME(3) DEFAULT '-12:34:56.789'",
    "a TIME NOT NULL",
    "a DATETIME DEFAULT '2020-01-01'",
    "a DATETIME(6) NOT NULL",
    "a DATETIME DEFAULT CURRENT_TIMESTAMP",
    "a DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
    "a TIMESTAMP DEFAULT '2020-01-01 00:00:00'",
    "a TIMESTAMP(3) NOT NULL DEFAULT '2020-07-01 00:00:00.123'",
    "a TIMESTAMP NULL",
    "a TIMESTAMP NOT NULL",
    "a TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
    "a TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
    "a CHAR(5) DEFAULT 'x'",
    "a CHAR(5) NOT NULL",
    "a VARCHAR(20) NOT NULL DEFAULT 'it''s \\\\ \"q\"'",
    "a VARCHAR(20) CHARACTER SET latin1 DEFAULT 'e'",
    "a VARCHAR(20) CHARACTER SET gbk DEFAULT '一'",
    "a TEXT",
    "a TEXT NOT NULL",
    "a BLOB NOT NULL",
    "a BINARY(4) DEFAULT 'a'",
    "a BINARY(4) NOT NULL",
    "a VARBINARY(9) DEFAULT x'004127'",
    "a VARBINARY(9) NOT NULL",
    "a ENUM('p','q') DEFAULT 'q'",
    "a ENUM('p','q') NOT NULL",
    "a SET('p','q','r') DEFAULT 'p,r'",
    "a SET('p','q','r') NOT NULL",
    "a JSON",
    "a JSON NOT NULL",
];

async fn added(stack: Stack, schema: &str) {
    added_columns(&stack, schema, "Asia/Tokyo").await;
}

async fn added_columns(stack: &Stack, schema: &str, zone: &str) {
    let _alone = ALONE.lock().await;
    let test = "added";
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(
        &mut source,
        &["SET sql_mode = ''", &format!("CREATE DATABASE {schema}"), &format!("USE {schema}")],
    )
    .await;
    for nth in 0..ADDED.len() {
        let (create, rows) = (
            format!("CREATE TABLE t{nth} (id INT PRIMARY KEY, x INT)"),
            format!("INSERT INTO t{nth} VALUES (1, 1), (2, 2), (3, 3)"),
        );
        sql::run(&mut source, &[&create, &rows]).await;
    }
    let server = begin(stack, test, schema, &json!({})).await;
    // The target comes to it when the source's clock has gone on.
    server.api.command(test, "pause").await;
    server.api.wait_for_status(test, "paused", PATIENCE).await;
    sql::run(&mut source, &[&format!("SET time_zone = '{zone}'")]).await;
    for (nth, column) in ADDED.iter().enumerate() {
        for statement in [
            format!("UPDATE t{nth} SET x = 10 WHERE id = 1"),
            format!("ALTER TABLE t{nth} ADD COLUMN {column} FIRST, ADD COLUMN z INT DEFAULT 3"),
            format!("UPDATE t{nth} SET x = 20 WHERE id = 2"),
            format!("INSERT INTO t{nth} (id) VALUES (4)"),
        ] {
            sql::run(&mut source, &[&statement]).await;
        }
    }
    sql::run(
        &mut source,
        &[
            "CREATE TABLE made (id INT PRIMARY KEY, a TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00', \
             b TIMESTAMP(3) NULL DEFAULT '2020-07-01 12:00:00.5')",
            "INSERT INTO made (id) VALUES (1)",
            "DO SLEEP(2.1)",
        ],
    )
    .await;
    server.api.command(test, "resume").await;
    same(stack, &server, test, schema).await;
    // Other writers of the target get the source's defaults.
    let mut target = sql::target(stack).await;
    let made = format!("INSERT INTO {schema}.made (id) VALUES (2)");
    sql::run(&mut target, &[&made]).await;
    sql::run(&mut source, &["SET time_zone = '+00:00'", "INSERT INTO made (id) VALUES (2)"]).await;
    same(stack, &server, test, schema).await;
    sql::drop_schemas(stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_there_get_the_sources_default_also_where_drainer_has_another_zone() {
    let Some(stack) = Stack::shanghai("rows_that_were_there_get_the_sources_default_in_shanghai") else {
        return;
    };
    added_columns(&stack, "ek_added_shanghai", "America/New_York").await;
}

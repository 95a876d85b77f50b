//! MODIFY COLUMN on the real TiDB and the real MariaDB: where the plan leaves the rows that are there to the target's own conversion, they
//! come out as they do on the source; everywhere else the table is copied again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;
use support::stack::Stack;
use support::{compare, sql};
use tidegate::adb::dialect::Collations;
use tidegate::incremental::catalog::Catalog;
use tidegate::incremental::plan::{Event, Facts, Plan, plan, texts};
use tidegate::model::Dialect;
use tidegate::sql::ddl;
use tidegate::task::selection::Selection;
use tidegate::task::spec::Spec;

const SCHEMA: &str = "conv";

/// A type, literals at its edges, and what it is changed to.
const CASES: &[(&str, &[&str], &[&str])] = &[
    (
        "TINYINT",
        &["-128", "127", "0"],
        &["INT", "BIGINT", "DECIMAL(10,3)", "DOUBLE", "CHAR(10)", "VARCHAR(4)", "TEXT"],
    ),
    (
        "INT",
        &["-2147483648", "2147483647", "0", "70"],
        &["BIGINT", "DECIMAL(20,2)", "DOUBLE", "CHAR(20)", "VARCHAR(20)", "LONGTEXT"],
    ),
    ("INT", &["1", "0", "127"], &["TINYINT", "SMALLINT UNSIGNED", "INT(6) ZEROFILL", "BIGINT UNSIGNED"]),
    (
        "BIGINT",
        &["-9223372036854775808", "9223372036854775807", "0"],
        &["DECIMAL(20,0)", "DECIMAL(65,30)", "VARCHAR(20)", "CHAR(30) CHARACTER SET latin1"],
    ),
    ("BIGINT UNSIGNED", &["18446744073709551615", "0"], &["DECIMAL(20,0)", "VARCHAR(20)", "TEXT"]),
    (
        "DECIMAL(10,2)",
        &["12345678.99", "-0.01", "0", "1.50"],
        &["DECIMAL(12,4)", "DECIMAL(65,30)", "DECIMAL(20,2)"],
    ),
    ("BIT(10)", &["1023", "65", "0"], &["BIT(11)", "BIT(64)"]),
    ("TIME", &["'838:59:59'", "'-00:00:01'"], &["TIME(1)", "TIME(6)"]),
    ("DATETIME(1)", &["'9999-12-31 23:59:59.9'", "'1000-01-01 00:00:00'"], &["DATETIME(3)", "DATETIME(6)"]),
    ("TIMESTAMP", &["'2038-01-19 03:14:07'", "'1970-01-02 00:00:00'"], &["TIMESTAMP(6)"]),
    (
        "VARCHAR(20)",
        &["''", "'a'", "'a  '", "'中文😀'", "' b'", "'it''s'"],
        &[
            "VARCHAR(300)",
            "TINYTEXT",
            "TEXT",
            "LONGTEXT",
            "VARCHAR(5)",
            "VARCHAR(20) COLLATE utf8mb4_general_ci",
        ],
    ),
    ("CHAR(20)", &["''", "'a'", "'a  '", "'中文'"], &["CHAR(30)", "VARCHAR(20)", "TEXT"]),
    (
        "VARCHAR(20) CHARACTER SET utf8",
        &["'中文'", "'a '"],
        &["VARCHAR(20) CHARACTER SET utf8mb4", "TEXT CHARACTER SET utf8mb4"],
    ),
    (
        "VARCHAR(20) CHARACTER SET latin1",
        &["'abc'", "'a '"],
        &["VARCHAR(20) CHARACTER SET utf8mb4", "TEXT CHARACTER SET latin1"],
    ),
    (
        "VARCHAR(20) CHARACTER SET gbk",
        &["'中文'", "'a '"],
        &["VARCHAR(30) CHARACTER SET gbk", "TEXT CHARACTER SET gbk"],
    ),
    ("TEXT", &["''", "'a  '", "'中文'"], &["VARCHAR(30)", "MEDIUMTEXT"]),
    ("VARBINARY(9)", &["x''", "x'00ff20'", "x'61'"], &["VARBINARY(12)", "BLOB", "VARBINARY(3)"]),
    ("BLOB", &["x''", "x'00ff20'"], &["LONGBLOB", "VARBINARY(9)", "TINYBLOB"]),
    ("ENUM('a','B','c c')", &["'a'", "'c c'"], &["ENUM('a','B','c c','d')"]),
    ("SET('a','B')", &["''", "'a,B'"], &["SET('a','B','z')"]),
    ("YEAR", &["0", "1901", "2155"], &["YEAR(4)"]),
];

/// What the task does on the target: CREATE, then the change; None when the table is copied again.
fn planned(create: &str, alter: &str) -> Option<(Vec<String>, Vec<String>)> {
    let spec: Spec = serde_json::from_value(json!({
        "name": "t", "source": {"tidb": "d", "kafka": "k", "topic": "x"}, "target": "m", "objects": {"include": ["*.*"]},
    }))
    .unwrap();
    let selection = Arc::new(Selection::new(&spec).unwrap());
    let mut catalog = Catalog::new(Arc::new(spec), selection, Dialect::Mysql, Collations::default());
    let mut all = Vec::new();
    for text in [create, alter] {
        let statements = ddl::parse(text.as_bytes()).unwrap();
        let event = Event { schema: SCHEMA, table: "t" };
        let Plan::Do(steps) = plan(event, &statements, &catalog, &Facts::default()).unwrap() else {
            panic!("{text}")
        };
        if !steps.resync.is_empty() {
            return None;
        }
        catalog.apply(&steps.change);
        all.push(texts(&steps.statements));
    }
    let change = all.pop().unwrap();
    Some((all.pop().unwrap(), change))
}

async fn run(connection: &mut Conn, statements: &[String]) {
    sql::run(connection, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_the_target_comes_out_as_on_the_source() {
    let Some(stack) = Stack::utc("what_is_left_to_the_target_comes_out_as_on_the_source") else { return };
    sql::drop_schemas(&stack, &[SCHEMA]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    sql::run(&mut source, &[&format!("CREATE DATABASE {SCHEMA}"), &format!("USE {SCHEMA}")]).await;
    let table = (SCHEMA.to_owned(), "t".to_owned());
    let (mut faults, mut count) = (Vec::new(), 0);
    for (from, values, to) in CASES {
        for to in *to {
            let what = format!("{from} to {to}");
            let create = format!("CREATE TABLE t (id INT PRIMARY KEY, c {from})");
            let alter = format!("ALTER TABLE t MODIFY COLUMN c {to}");
            let Some((made, changed)) = planned(&create, &alter) else {
                faults.push(format!("{what}: the table would be copied again"));
                continue;
            };
            run(&mut source, &["DROP TABLE IF EXISTS t".to_owned(), create]).await;
            run(&mut target, &[format!("DROP TABLE IF EXISTS {SCHEMA}.t")]).await;
            run(&mut target, &made).await;
            for (id, value) in values.iter().chain(&["NULL"]).enumerate() {
                let insert = format!("INSERT INTO {SCHEMA}.t VALUES ({id}, {value})");
                for connection in [&mut source, &mut target] {
                    run(connection, std::slice::from_ref(&insert)).await;
                }
            }
            run(&mut source, &[alter]).await;
            for statement in changed {
                if let Err(error) = target.query_drop(&statement).await {
                    faults.push(format!("{what}: {error}"));
                }
            }
            faults.extend(
                compare::table(&mut source, &table, &mut target, &table)
                    .await
                    .map(|text| format!("{what}: {text}")),
            );
            count += 1;
        }
    }
    sql::drop_schemas(&stack, &[SCHEMA]).await;
    assert!(faults.is_empty(), "{} of {count} changes differ:\n{}", faults.len(), faults.join("\n"));
}

//! The eye of the end-to-end tests: it sees every difference, and none where only the spelling differs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use support::history::History;
use support::stack::Stack;
use support::{compare, sql};

const TABLE: &str = "CREATE TABLE sc.t (id INT, f FLOAT, d DOUBLE, c DECIMAL(10,4), z INT(6) ZEROFILL, dt DATETIME(3), ts TIMESTAMP NULL, \
                     t TIME(6), y YEAR, b BIT(10), vb VARBINARY(9), e ENUM('a','b'), s SET('x','y'), j JSON, l VARCHAR(9) CHARACTER SET latin1, \
                     v VARCHAR(20), g INT AS (id + 1) VIRTUAL)";
const COLUMNS: &str = "id, f, d, c, z, dt, ts, t, y, b, vb, e, s, j, l, v";
const ROW: &str = "1, 3.4e38, 1e-300, 1.5, 7, '2024-01-02 03:04:05.6', '2024-01-02 03:04:05', '-12:00:00.5', 2024, b'101', x'00ff', \
                   'b', 'y,x', '{\"b\": [1, 2.50], \"a\": \"é\"}', 'é', '中 \\0'";

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_are_equal_on_both_servers_and_every_change_is_seen() {
    let Some(stack) = Stack::utc("equal_rows_are_equal_on_both_servers_and_every_change_is_seen") else {
        return;
    };
    sql::drop_schemas(&stack, &["sc"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let insert = format!("INSERT INTO sc.t ({COLUMNS}) VALUES ({ROW}), ({ROW})");
    for connection in [&mut source, &mut target] {
        sql::run(connection, &["CREATE DATABASE sc", TABLE, &insert, "INSERT INTO sc.t (id) VALUES (NULL)"])
            .await;
    }
    let name = ("sc".to_owned(), "t".to_owned());
    // JSON is text in MariaDB: another order of members and another spelling of a number are the same value.
    let spelling = "UPDATE sc.t SET j = '{ \"a\":\"é\", \"b\":[1,2.5]}'";
    sql::run(&mut target, &[&format!("{spelling} WHERE id = 1")]).await;
    assert_eq!(compare::table(&mut source, &name, &mut target, &name).await, None);
    for change in [
        "f = 3.3e38",
        "d = 1.1e-300",
        "c = 1.4999",
        "z = 8",
        "dt = '2024-01-02 03:04:05.601'",
        "ts = '2024-01-02 11:04:05'",
        "t = '12:00:00.5'",
        "y = 2025",
        "b = b'100'",
        "vb = x'ff'",
        "e = 'a'",
        "s = 'x'",
        "j = '{}'",
        "l = 'e'",
        "v = '中'",
        "v = NULL",
        "id = 2",
    ] {
        sql::run(&mut target, &[&format!("UPDATE sc.t SET {change} WHERE id = 1 LIMIT 1")]).await;
        let found = compare::table(&mut source, &name, &mut target, &name).await;
        assert!(found.is_some_and(|text| text.contains("1 rows only in the source")), "{change} is seen");
        sql::run(&mut target, &["DELETE FROM sc.t WHERE id IS NOT NULL", &insert]).await;
    }
    for change in [
        "DELETE FROM sc.t WHERE id = 1 LIMIT 1",
        "INSERT INTO sc.t (id) VALUES (NULL)",
        "ALTER TABLE sc.t DROP COLUMN y",
    ] {
        sql::run(&mut target, &[change]).await;
        assert!(compare::table(&mut source, &name, &mut target, &name).await.is_some(), "{change} is seen");
    }
    sql::drop_schemas(&stack, &["sc"]).await;
}

#[test]
fn the_final_rows_of_every_history_can_be_read() {
    for (name, least) in
        [("A/UTC", 40), ("A/Asia_Shanghai", 40), ("A_quirks/UTC", 10), ("A_quirks/Asia_Shanghai", 10)]
    {
        let history = History::open(name);
        let tables = history.tables();
        assert!(tables.len() >= least, "{name} has {} tables", tables.len());
        let schemas = history.schemas();
        assert!(tables.iter().all(|table| schemas.contains(&table.schema)), "{name}: {schemas:?}");
        assert!(history.messages().is_file());
    }
}

//! The stand-in for AnalyticDB: each of its rules refuses what it must and lets pass what it should, and its faults do what they say.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use support::sql;
use support::stack::Stack;

/// A session in a database of its own, on the stand-in.
async fn begin(stack: &Stack, name: &str) -> Conn {
    let mut session = sql::adb(stack).await;
    sql::run(
        &mut session,
        &[
            &format!("DROP DATABASE IF EXISTS {name} CASCADE"),
            &format!("CREATE DATABASE {name} CHARACTER SET latin1"),
            &format!("USE {name}"),
        ],
    )
    .await;
    session
}

async fn end(mut session: Conn, name: &str) {
    sql::run(&mut session, &[&format!("DROP DATABASE {name} CASCADE")]).await;
    session.disconnect().await.unwrap();
}

/// The number of the error, 0 for none.
async fn code(session: &mut Conn, statement: &str) -> u16 {
    match session.query_drop(statement).await {
        Ok(()) => 0,
        Err(mysql_async::Error::Server(error)) => error.code,
        Err(other) => panic!("{}: {other}", &statement[..statement.len().min(200)]),
    }
}

/// `(statement, number of the error or 0)`, in order.
async fn hold(session: &mut Conn, cases: &[(&str, u16)]) {
    for (statement, expected) in cases {
        assert_eq!(code(session, statement).await, *expected, "{statement}");
    }
}

#[tokio::test]
async fn definitions_follow_the_rules_of_analyticdb() {
    let Some(stack) = Stack::utc("definitions_follow_the_rules_of_analyticdb") else { return };
    let mut session = begin(&stack, "sa_define").await;
    let long = |length: usize| "x".repeat(length);
    let columns: Vec<_> = (0..4097).map(|n| format!("c{n} INT")).collect();
    let too_many = format!("CREATE TABLE n (id INT PRIMARY KEY, {})", columns[1..].join(", "));
    let many = format!("CREATE TABLE n (id INT PRIMARY KEY, {})", columns[..900].join(", "));
    let defaults = [127, 128]
        .map(|length| format!("CREATE TABLE d{length} (a VARCHAR(200) DEFAULT '{}')", long(length)));
    let comments =
        [1024, 1025].map(|length| format!("CREATE TABLE m{length} (a INT COMMENT '{}')", long(length)));
    let names = [127, 128].map(|length| format!("CREATE TABLE v (a INT, {} INT)", long(length)));
    hold(
        &mut session,
        &[
            ("CREATE TABLE t1 (id BIGINT NOT NULL, d DATE NOT NULL, v VARCHAR(20) NULL DEFAULT 'a' COMMENT 'c', \
              PRIMARY KEY (id, d), KEY kv (v)) DISTRIBUTED BY HASH(id) PARTITION BY VALUE(DATE_FORMAT(d, '%Y%m')) LIFECYCLE 30 \
              INDEX_ALL='Y' STORAGE_POLICY='MIXED' HOT_PARTITION_COUNT=2 BLOCK_SIZE=8192 ENGINE='XUANWU' COMMENT='t'", 0),
            ("CREATE TABLE t2 (id BIGINT AUTO_INCREMENT PRIMARY KEY, f FLOAT, d DOUBLE, n DECIMAL(38,10), b VARBINARY(9) DEFAULT x'00ff', \
              j JSON, t TIME, dt DATETIME(3), ts TIMESTAMP DEFAULT CURRENT_TIMESTAMP, bo BOOLEAN) DISTRIBUTE BY BROADCAST", 0),
            ("CREATE TABLE t3 (a INT, b VARCHAR)", 0),
            ("CREATE TABLE t4 LIKE t1", 0),
            ("CREATE TABLE IF NOT EXISTS t4 (a INT)", 0),
            ("CREATE TABLE t4 (a INT)", 1050),
            ("CREATE TABLE x (a BIT(3))", 30009),
            ("CREATE TABLE x (a INT UNSIGNED)", 30009),
            ("CREATE TABLE x (a ENUM('a'))", 30009),
            ("CREATE TABLE x (a TINYBLOB)", 30009),
            ("CREATE TABLE x (a YEAR)", 30009),
            ("CREATE TABLE x (a DATETIME(6))", 30009),
            ("CREATE TABLE x (a DECIMAL(39,0))", 30009),
            ("CREATE TABLE x (a INT AUTO_INCREMENT PRIMARY KEY)", 30009),
            ("CREATE TABLE x (a VARCHAR(9) COLLATE utf8mb4_bin)", 30009),
            ("CREATE TABLE x (a VARCHAR(9)) DEFAULT CHARSET=utf8mb4", 30009),
            ("CREATE TABLE x (a INT, b INT AS (a + 1))", 30009),
            ("CREATE TABLE x (a INT UNIQUE)", 30009),
            ("CREATE TABLE x (a INT, UNIQUE KEY k (a))", 30009),
            ("CREATE TABLE x (a INT, b INT, KEY k (a, b))", 30009),
            ("CREATE TABLE x (a VARCHAR(99), KEY k (a(10)))", 30009),
            ("CREATE TABLE x (a JSON DEFAULT '{}')", 30009),
            ("CREATE TABLE x (a TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)", 30009),
            ("CREATE TABLE x (a INT PRIMARY KEY, b INT) DISTRIBUTED BY HASH(b)", 30009),
            ("CREATE TABLE x (a INT PRIMARY KEY, b INT) PARTITION BY VALUE(b)", 30009),
            ("CREATE TABLE x (a INT PRIMARY KEY) HOT_PARTITION_COUNT=2", 30009),
            ("CREATE TABLE x (a INT, A INT)", 1060),
            ("CREATE TABLE x (a INT, PRIMARY KEY (b))", 1072),
            ("CREATE TEMPORARY TABLE x (a INT)", 30009),
            ("CREATE TABLE 1x (a INT)", 1064),
            ("CREATE INDEX k ON t1 (v)", 30009),
            (&too_many, 30010),
            (&many, 0),
            (&defaults[0], 0),
            (&defaults[1], 30010),
            (&comments[0], 0),
            (&comments[1], 30010),
            (&names[1], 30009),
            ("CREATE DATABASE sa__x", 30009),
            ("CREATE DATABASE Sa_x", 30009),
            ("DROP TABLE t3, t4", 30009),
            ("DROP TABLE t3", 0),
            ("DROP TABLE IF EXISTS t3", 0),
            ("DROP TABLE t3", 1051),
            ("DROP DATABASE sa_define", 30009),
        ],
    )
    .await;
    let shown: (String, String) = session.query_first("SHOW CREATE TABLE t1").await.unwrap().unwrap();
    for part in
        ["DISTRIBUTED BY HASH(`id`)", "LIFECYCLE 30", "INDEX_ALL='Y'", "KEY `kv` (`v`)", "COMMENT='t'"]
    {
        assert!(shown.1.contains(part), "{part} is shown: {}", shown.1);
    }
    let kept: Vec<(String, String, Option<String>)> = session
        .query(
            "SELECT distribute_type, distribute_column, partition_column FROM information_schema.kepler_meta_tables \
             WHERE table_schema = 'sa_define' AND table_name IN ('t1', 't2') ORDER BY table_name",
        )
        .await
        .unwrap();
    assert_eq!(kept[0], ("HASH".to_owned(), "id".to_owned(), Some("d".to_owned())));
    assert_eq!(kept[1].0, "BROADCAST");
    end(session, "sa_define").await;
}

#[tokio::test]
async fn an_alter_changes_one_column_outside_of_the_key() {
    let Some(stack) = Stack::utc("an_alter_changes_one_column_outside_of_the_key") else { return };
    let mut session = begin(&stack, "sa_alter").await;
    hold(
        &mut session,
        &[
            ("CREATE TABLE t (id INT PRIMARY KEY, a INT, s VARCHAR(9), t TIME, n DECIMAL(5,2))", 0),
            ("CREATE DATABASE IF NOT EXISTS sa_other", 0),
            ("ALTER TABLE t ADD COLUMN b INT NOT NULL DEFAULT 3", 0),
            ("ALTER TABLE t ADD COLUMN (c INT)", 0),
            ("ALTER TABLE t ADD COLUMN x INT, ADD COLUMN y INT", 30009),
            ("ALTER TABLE t ADD COLUMN (x INT, y INT)", 30009),
            ("ALTER TABLE t ADD COLUMN x INT FIRST", 30009),
            ("ALTER TABLE t ADD COLUMN x INT AFTER a", 30009),
            ("ALTER TABLE t ADD COLUMN x BIT(1)", 30009),
            ("ALTER TABLE t ADD COLUMN a INT", 1060),
            ("ALTER TABLE t DROP COLUMN c", 0),
            ("ALTER TABLE t DROP COLUMN c", 1091),
            ("ALTER TABLE t DROP COLUMN id", 30009),
            ("ALTER TABLE t DROP COLUMN a, DROP COLUMN b", 30009),
            ("ALTER TABLE t MODIFY COLUMN a BIGINT", 0),
            ("ALTER TABLE t MODIFY COLUMN a INT", 40039),
            ("ALTER TABLE t MODIFY COLUMN a VARCHAR(9)", 40039),
            ("ALTER TABLE t MODIFY COLUMN a BIGINT NOT NULL", 30009),
            ("ALTER TABLE t MODIFY COLUMN b INT NULL", 0),
            ("ALTER TABLE t MODIFY COLUMN s VARCHAR(99)", 0),
            ("ALTER TABLE t MODIFY COLUMN n DECIMAL(9,4)", 0),
            ("ALTER TABLE t MODIFY COLUMN id BIGINT", 40039),
            ("ALTER TABLE t CHANGE COLUMN a a2 BIGINT", 30009),
            ("ALTER TABLE t RENAME COLUMN t TO u", 0),
            ("ALTER TABLE t RENAME COLUMN id TO i", 30009),
            ("INSERT INTO t (id, u) VALUES (1, '24:00:00')", 4025),
            ("INSERT INTO t (id, u) VALUES (1, '23:59:59.999')", 0),
            ("ALTER TABLE t DROP COLUMN u", 0),
            ("ALTER TABLE t ADD KEY ks (s)", 0),
            ("ALTER TABLE t ADD UNIQUE KEY ku (s)", 30009),
            ("ALTER TABLE t ADD KEY kk (s, a)", 30009),
            ("ALTER TABLE t DROP KEY ks", 0),
            ("ALTER TABLE t DROP PRIMARY KEY", 30009),
            ("ALTER TABLE t COMMENT 'c'", 30009),
            ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", 30009),
            ("ALTER TABLE t INDEX_ALL='N'", 0),
            ("ALTER DATABASE sa_alter CHARACTER SET utf8mb4", 30009),
            ("ALTER TABLE t RENAME sa_other.t", 30009),
            ("RENAME TABLE t TO r", 30009),
            ("ALTER TABLE t RENAME r", 0),
            ("TRUNCATE TABLE r", 0),
            ("ALTER TABLE t ADD COLUMN z INT", 1146),
            ("DROP DATABASE sa_other", 0),
        ],
    )
    .await;
    let columns: Vec<String> = session
        .query(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'sa_alter' AND TABLE_NAME = 'r' \
             ORDER BY ORDINAL_POSITION",
        )
        .await
        .unwrap();
    assert_eq!(columns, ["id", "a", "s", "n", "b"]);
    end(session, "sa_alter").await;
}

#[tokio::test]
async fn rows_go_by_the_primary_key_alone() {
    let Some(stack) = Stack::utc("rows_go_by_the_primary_key_alone") else { return };
    let mut session = begin(&stack, "sa_rows").await;
    let items = |count: usize| vec!["1"; count].join(",");
    let in_lists =
        [2000, 2001].map(|count| format!("DELETE FROM t WHERE id IN ({}) AND v = 'none'", items(count)));
    let conditions =
        [256, 257].map(|count| format!("SELECT * FROM t WHERE {}", vec!["v = 'none'"; count].join(" OR ")));
    let pairs = format!("DELETE FROM w WHERE (a, b) IN ({})", vec!["(1,2)"; 2000].join(","));
    let large = format!("REPLACE INTO t (id, v) VALUES (8, '{}')", "x".repeat(16 << 20));
    hold(
        &mut session,
        &[
            ("CREATE TABLE t (id VARCHAR(20) PRIMARY KEY, v VARCHAR(9), d DATETIME, dd DATE)", 0),
            ("CREATE TABLE w (a INT, b INT, v INT, PRIMARY KEY (a, b)) DISTRIBUTED BY HASH(a)", 0),
            ("CREATE TABLE k (v INT)", 0),
            ("INSERT INTO t (id, v) VALUES ('a', 'first'), ('A', 'upper'), ('a ', 'padded')", 0),
            ("INSERT INTO t (id, v) VALUES ('a', 'second'), ('b', 'longer than nine')", 0),
            ("INSERT IGNORE INTO t (id, v) VALUES ('a', 'third')", 0),
            ("INSERT INTO k VALUES (1), (1)", 0),
            ("REPLACE INTO k VALUES (1)", 30009),
            ("UPDATE k SET v = 2", 30009),
            ("UPDATE t SET v = 'set' WHERE id = 'A'", 0),
            ("UPDATE t SET v = 'set', id = 'c' WHERE id = 'A'", 30009),
            ("INSERT INTO t (id, v) VALUES ('b', 'dup') ON DUPLICATE KEY UPDATE v = VALUES(v)", 0),
            ("INSERT INTO t (id, v) VALUES ('b', 'x') ON DUPLICATE KEY UPDATE id = VALUES(id)", 30009),
            ("INSERT INTO t (id, v) VALUES ('b', 'x') ON DUPLICATE KEY UPDATE v = CONCAT(v, 'x')", 30009),
            ("REPLACE INTO t (id, d) VALUES ('d', '2024-01-01 00:00:00.123')", 0),
            ("REPLACE INTO t (id, d) VALUES ('d', '2024-01-01 00:00:00.1234')", 4025),
            ("REPLACE INTO t (id, d) VALUES ('d', '0000-00-00 00:00:00')", 1292),
            ("REPLACE INTO t (id, dd) VALUES ('d', '2024-02-31')", 1292),
            ("REPLACE INTO t (id, dd) VALUES ('d', '2024-02-00')", 1292),
            ("REPLACE INTO w VALUES (1, 2, 2147483648)", 1264),
            (&in_lists[0], 0),
            (&in_lists[1], 30010),
            (&conditions[0], 0),
            (&conditions[1], 30010),
            (&pairs, 0),
            (&large, 30010),
            ("BEGIN", 30009),
            ("START TRANSACTION", 30009),
            ("COMMIT", 30009),
            ("LOCK TABLES t WRITE", 30009),
            ("SET autocommit = 0", 1193),
            ("SET SESSION sql_mode = ''", 1193),
            ("SELECT 1 FROM information_schema.innodb_trx", 1109),
        ],
    )
    .await;
    let rows: Vec<(String, Option<String>)> = session.query("SELECT id, v FROM t ORDER BY id").await.unwrap();
    let rows: Vec<_> = rows.iter().map(|(id, v)| (id.as_str(), v.as_deref().unwrap_or("NULL"))).collect();
    assert_eq!(rows, [("A", "set"), ("a", "first"), ("a ", "padded"), ("b", "dup"), ("d", "NULL")]);
    session
        .query_drop(
            "INSERT INTO t (id, v) VALUES ('b', 'y'), ('e', 'z') ON DUPLICATE KEY UPDATE v = VALUES(v)",
        )
        .await
        .unwrap();
    assert_eq!(session.affected_rows(), 1, "ON DUPLICATE KEY UPDATE tells of one row, whatever it did");
    // Prepared statements obey the same rules.
    assert!(session.exec_drop("UPDATE t SET id = ? WHERE id = ?", ("x", "a")).await.is_err());
    session.exec_drop("INSERT INTO t (id, v) VALUES (?, ?)", ("a", "kept")).await.unwrap();
    let kept: Option<String> = session.exec_first("SELECT v FROM t WHERE id = ?", ("a",)).await.unwrap();
    assert_eq!(kept.as_deref(), Some("first"));
    end(session, "sa_rows").await;
}

#[tokio::test]
async fn faults_happen_as_they_are_asked_for() {
    let Some(stack) = Stack::utc("faults_happen_as_they_are_asked_for") else { return };
    let mut session = begin(&stack, "sa_faults").await;
    sql::run(
        &mut session,
        &["CREATE TABLE sa_faults.t (id INT PRIMARY KEY)", "CREATE TABLE sa_faults.k (v INT)"],
    )
    .await;
    let insert = |n: u32| format!("INSERT INTO sa_faults.t VALUES ({n})");

    let lock = stack.adb_fault("do=lock&match=sa_faults").await;
    assert_eq!(code(&mut session, &insert(1)).await, 30101);
    assert_eq!(code(&mut session, "SELECT * FROM sa_faults.t").await, 0, "a locked disk can be read");
    stack.adb_clear(lock).await;
    assert_eq!(code(&mut session, &insert(1)).await, 0);

    let second = stack.adb_fault("do=refuse&match=insert|sa_faults&skip=1&code=1105&text=no+way").await;
    for expected in [0, 1105, 0] {
        assert_eq!(code(&mut session, &insert(2)).await, expected);
    }
    assert_eq!(stack.adb_happened(second).await, 1);
    stack.adb_clear(second).await;

    let twice = stack.adb_fault("do=twice&match=sa_faults").await;
    sql::run(&mut session, &["INSERT INTO sa_faults.k VALUES (1)"]).await;
    stack.adb_clear(twice).await;
    assert_eq!(sql::count(&mut session, "sa_faults.k").await, 2);

    for (kind, n, runs) in [("cut_before", 5, 0), ("cut_after", 6, 1)] {
        let fault = stack.adb_fault(&format!("do={kind}&match=sa_faults")).await;
        let mut victim = sql::adb(&stack).await;
        assert!(victim.query_drop(insert(n)).await.is_err(), "{kind} ends the connection");
        stack.adb_clear(fault).await;
        assert_eq!(sql::count(&mut session, &format!("sa_faults.t WHERE id = {n}")).await, runs, "{kind}");
    }

    // A statement that was cut off runs later, unless its session is killed first.
    for (n, killed) in [(7, false), (8, true)] {
        let fault = stack.adb_fault("do=cut_late&ms=700&match=sa_faults").await;
        let mut victim = sql::adb(&stack).await;
        let id: u64 = victim.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        assert!(victim.query_drop(insert(n)).await.is_err());
        if killed {
            sql::run(&mut session, &[&format!("KILL {id}")]).await;
        }
        let alive = format!("information_schema.processlist WHERE id = {id}");
        while sql::count(&mut session, &alive).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        stack.adb_clear(fault).await;
        assert_eq!(
            sql::count(&mut session, &format!("sa_faults.t WHERE id = {n}")).await,
            u64::from(!killed)
        );
    }
    assert!(stack.adb_refused("sa_faults").await.is_empty(), "a fault is no refusal by rule");
    end(session, "sa_faults").await;
}

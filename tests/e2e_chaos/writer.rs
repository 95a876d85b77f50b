//! The workload of a run: rows and tables that change all the time, in statements of every kind.
//!
//! Not `UPDATE IGNORE` where it may meet a primary key that is taken: TiDB keeps the row then, and its binlog has the row's Delete all the
//! same (tests/stack_workload.rs).

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use support::sql;
use support::stack::{Dialect, Stack};

pub async fn prepare(stack: &Stack, schema: &str, rng: &mut StdRng) {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    let mut create = vec![
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.k (id BIGINT PRIMARY KEY, v INT, note VARCHAR(100))"),
        format!("CREATE TABLE {schema}.t (name VARCHAR(30), n INT, v VARCHAR(40), PRIMARY KEY (name, n))"),
    ];
    if stack.dialect == Dialect::Mysql {
        create.push(format!("CREATE TABLE {schema}.u (id INT PRIMARY KEY, v INT NOT NULL UNIQUE)"));
        create.push(format!("CREATE TABLE {schema}.n (a INT, b VARCHAR(20))"));
    }
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    sql::run(&mut source, &create).await;
    let rows = rng.random_range(300..2500);
    let values: Vec<_> = (0..rows).map(|id| format!("({}, {}, 'from the start')", id * 3, id % 11)).collect();
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.k VALUES {}", values.join(","))]).await;
    if stack.dialect == Dialect::Mysql {
        let values: Vec<_> = (0..500).map(|id| format!("({}, 'b{}')", id % 50, id % 7)).collect();
        sql::run(&mut source, &[&format!("INSERT INTO {schema}.n VALUES {}", values.join(","))]).await;
    }
}

/// Statements of every kind until it is told to stop; a source that restarts is met again. What became of a statement that was
/// cut off does not matter: the source itself is compared.
pub async fn write(stack: Stack, schema: String, seed: u64, stop: CancellationToken) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection: Option<Conn> = None;
    let (mut done, mut extra) = (0, false);
    while !stop.is_cancelled() {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match connect(&stack).await {
                Some(open) => open,
                None => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let mut good = true;
        for statement in statements(&stack, &schema, &mut rng, &mut extra) {
            match open.query_drop(&statement).await {
                Ok(()) => done += 1,
                // A duplicate key, a column that is not there: as good as any statement.
                Err(mysql_async::Error::Server(_)) => {}
                Err(_) => {
                    good = false;
                    break;
                }
            }
        }
        if good {
            connection = Some(open);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..100))).await;
    }
    done
}

async fn connect(stack: &Stack) -> Option<Conn> {
    let options = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(stack.tidb_port)
        .user(Some("root"))
        .prefer_socket(false);
    tokio::time::timeout(Duration::from_secs(5), Conn::new(options)).await.ok()?.ok()
}

fn statements(stack: &Stack, schema: &str, rng: &mut StdRng, extra: &mut bool) -> Vec<String> {
    let id = rng.random_range(0..3000);
    let v = rng.random_range(0..100_000);
    let mysql = stack.dialect == Dialect::Mysql;
    // Every server of the stack meets the DDL of all runs.
    let most = if rng.random_range(0..3) == 0 { 100 } else { 88 };
    match rng.random_range(0..most) {
        0..20 => {
            let rows: Vec<_> =
                (0..rng.random_range(1..60)).map(|nth| format!("({}, {v}, 'r{nth}')", id + nth)).collect();
            vec![format!("REPLACE INTO {schema}.k (id, v, note) VALUES {}", rows.join(","))]
        }
        20..30 => vec![format!("UPDATE {schema}.k SET v = v + 1 WHERE id BETWEEN {id} AND {}", id + 50)],
        30..37 => vec![format!("DELETE FROM {schema}.k WHERE id BETWEEN {id} AND {}", id + 10)],
        37..42 => vec![format!("UPDATE {schema}.k SET id = id + 5000 WHERE id = {id}")],
        42..56 => vec![
            "BEGIN".to_owned(),
            format!("INSERT IGNORE INTO {schema}.t VALUES ('Name{}', {}, 'v{v}')", id % 200, v % 5),
            format!(
                "UPDATE {schema}.t SET name = UPPER(name) WHERE n = {} AND name LIKE '%{}'",
                v % 5,
                id % 10
            ),
            format!("UPDATE {schema}.k SET note = 'with t' WHERE id = {id}"),
            "COMMIT".to_owned(),
        ],
        56..62 => vec![format!("DELETE FROM {schema}.t WHERE n = {} LIMIT 5", v % 5)],
        62..72 if mysql => vec![
            format!("INSERT IGNORE INTO {schema}.u VALUES ({}, {v})", id % 300),
            "BEGIN".to_owned(),
            format!("UPDATE IGNORE {schema}.u SET v = -id - 1 WHERE id = {}", id % 300),
            format!("UPDATE IGNORE {schema}.u SET v = {v} WHERE id = {}", v % 300),
            "COMMIT".to_owned(),
        ],
        72..88 if mysql => vec![
            format!("INSERT INTO {schema}.n VALUES ({}, 'b{}'), ({}, NULL)", id % 50, v % 7, v % 50),
            format!("DELETE FROM {schema}.n WHERE a = {} LIMIT 1", v % 50),
            format!("UPDATE {schema}.n SET b = 'u{}' WHERE a = {} LIMIT 2", v % 9, id % 50),
        ],
        88..90 => {
            *extra = !*extra;
            if *extra {
                vec![format!("ALTER TABLE {schema}.k ADD COLUMN extra INT DEFAULT {}", v % 100)]
            } else {
                vec![format!("ALTER TABLE {schema}.k DROP COLUMN extra")]
            }
        }
        90 => vec![format!("TRUNCATE TABLE {schema}.t")],
        91 => vec![
            format!("RENAME TABLE {schema}.t TO {schema}.t2"),
            format!("RENAME TABLE {schema}.t2 TO {schema}.t"),
        ],
        92 => vec![
            format!("CREATE TABLE {schema}.made{v} (id INT PRIMARY KEY, v VARCHAR(9))"),
            format!("INSERT INTO {schema}.made{v} VALUES (1, 'one'), (2, 'two')"),
            format!("DROP TABLE {schema}.made{v}"),
        ],
        93 if mysql => vec![format!("TRUNCATE TABLE {schema}.n")],
        _ => {
            vec![format!("INSERT IGNORE INTO {schema}.k (id, v, note) VALUES ({}, {v}, 'one')", id + 10_000)]
        }
    }
}

//! Input that is bent, cut or made up, on its way through everything that reads it: no panic, an answer soon, and whatever becomes SQL is
//! one statement of the form that was meant. Messages and DDL have more of it beside their code.
//!
//! Seeded by TIDEGATE_SEED. Short in `make test`; `make fuzz TIMES=100` does so many times as much.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use support::bend::bend;
use support::sql as servers;
use support::stack::Stack;
use tidegate::adb::dialect::{TableOptions, TargetTable};
use tidegate::adb::writer::Job;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::binlog::{Kind, Message};
use tidegate::incremental::batch::{Batch, Limits, Part, Place, pieces};
use tidegate::incremental::catalog::Tracked;
use tidegate::incremental::layout::Layout;
use tidegate::model::{Dialect, TableName, Tso, Value, Zone};
use tidegate::sql::ddl::{self, ast::Statement};
use tidegate::sql::filter::Condition;
use tidegate::sql::literal;

/// How long one input may take on a loaded machine; a loop without end is what it finds.
const SOON: Duration = Duration::from_secs(5);

fn times() -> usize {
    std::env::var("TIDEGATE_FUZZ").map_or(1, |times| times.parse().expect("a number"))
}

fn rng(test: &str) -> StdRng {
    StdRng::seed_from_u64(support::workload::seed(test))
}

fn random_bytes(rng: &mut StdRng) -> Vec<u8> {
    const ODD: &[&str] = &[
        "'",
        "\\",
        "\0",
        "\n",
        "\r",
        "\u{1a}",
        "\"",
        "`",
        ";",
        "--",
        "/*",
        "é",
        "中",
        "😀",
        "\u{feff}",
        "\u{202e}",
        "') OR 1=1 -- ",
        "\\'",
        "_utf8",
        "%",
        "?",
    ];
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(0..12) {
        if rng.random() {
            bytes.extend(ODD.choose(rng).unwrap().bytes());
        } else {
            bytes.push(rng.random());
        }
    }
    bytes
}

fn tracked(dialect: Dialect) -> Tracked {
    let text = "CREATE TABLE t (id BIGINT, name VARCHAR(40), n DECIMAL(20,6), at DATETIME(3), ts TIMESTAMP, d DATE, dur TIME, y YEAR, \
                f FLOAT, g DOUBLE, j JSON, b VARBINARY(20), bits BIT(9), e ENUM('a','b'), s SET('x','y'), u BIGINT UNSIGNED, PRIMARY KEY (id, name))";
    let statement = ddl::parse(text.as_bytes()).unwrap().remove(0);
    let Statement::CreateTable { mut table, .. } = statement else { panic!("{text}") };
    table.name = TableName::new("s", "t");
    let options = TableOptions::default();
    let target = TargetTable::new(dialect, &table, TableName::new("s", "t"), &options).unwrap();
    Tracked { table, target, hidden: Vec::new(), keep_other_columns: false, snapshot: Tso(0) }
}

fn message(rng: &mut StdRng) -> Vec<u8> {
    let columns = [
        ("id", "bigint"),
        ("name", "varchar"),
        ("n", "decimal"),
        ("at", "datetime"),
        ("ts", "timestamp"),
        ("d", "date"),
        ("dur", "time"),
        ("y", "year"),
        ("f", "float"),
        ("g", "double"),
        ("j", "json"),
        ("b", "varbinary"),
        ("bits", "bit"),
        ("e", "enum"),
        ("s", "set"),
        ("u", "bigint unsigned"),
    ];
    let (old, new) = (random_bytes(rng), random_bytes(rng));
    let row = |text: &'static [u8], id: i64| {
        [
            Value::Int(id),
            Value::Text(text),
            Value::Text(b"-12.500000"),
            Value::Text(b"2024-02-29 23:59:59.999"),
            Value::Text(b"2024-02-29 23:59:59"),
            Value::Text(b"2024-02-29"),
            Value::Text(b"-838:59:59"),
            Value::Int(1999),
            Value::Double(1.5),
            Value::Double(-0.0),
            Value::Text(br#"{"a": ["b", 1]}"#),
            Value::Bytes(b"\x00\xff'"),
            Value::UInt(3),
            Value::Int(1),
            Value::Int(3),
            Value::UInt(u64::MAX),
        ]
    };
    let named = |text: &[u8]| -> &'static [u8] { Box::leak(text.to_vec().into_boxed_slice()) };
    let (old, new) = (named(&old), named(&new));
    let table = Table::new("s", "t", &columns, &["id", "name"])
        .insert(&row(new, 1))
        .update(&row(old, 2), &row(new, 2))
        .delete(&row(old, 3));
    Binlog::dml(5, vec![table]).encode_to_vec()
}

/// One statement: outside of quotes there is nothing that ends or hides it.
fn is_one_statement(sql: &[u8]) -> bool {
    let mut quote = None;
    let mut bytes = sql.iter();
    let mut before = 0;
    while let Some(byte) = bytes.next() {
        match quote {
            Some(b'`') if *byte == b'`' => quote = None,
            Some(b'\'') if *byte == b'\\' => {
                bytes.next();
            }
            Some(b'\'') if *byte == b'\'' => quote = None,
            Some(_) => {}
            None if matches!(byte, b'\'' | b'`') => quote = Some(*byte),
            None if matches!(byte, b';' | b'#' | b'"' | b'\\')
                || !byte.is_ascii()
                || byte.is_ascii_control() =>
            {
                return false;
            }
            None if (before, *byte) == (b'-', b'-') || (before, *byte) == (b'/', b'*') => return false,
            None => {}
        }
        before = *byte;
    }
    quote.is_none()
}

#[test]
fn bent_rows_are_refused_or_become_one_statement() {
    let mut rng = rng("fuzz_rows");
    let (mut read, mut built) = (0, 0);
    // AnalyticDB has fewer types; both write rows by the same code.
    let tracked = tracked(Dialect::Mysql);
    for _ in 0..2000 * times() {
        let mut payload = message(&mut rng);
        bend(&mut payload, &mut rng, &["'", "\\", "\0"]);
        let began = Instant::now();
        let Ok(message) = Message::parse(&payload) else { continue };
        let Kind::Dml(tables) = message.kind else { continue };
        let mut batch = Batch::default();
        for table in tables {
            let Ok(table) = table else { break };
            let Ok(layout) = Layout::new(&tracked, &table.columns, &Arc::new(Zone::Utc)) else { break };
            let Some(slot) = batch.slot(&Arc::new(layout)) else { break };
            for (nth, mutation) in table.mutations().enumerate() {
                let Ok(mutation) = mutation else { break };
                read += 1;
                // Refused or taken: either is an answer.
                let _ = batch.fold(slot, &mutation, Place { offset: 1, nth: nth as u64 }, 0);
            }
        }
        let limits = Limits { rows: 10, bytes: 1 << 20, keys: 10, connections: 1 };
        for piece in pieces(&Arc::new(batch), limits, Part::Whole).into_iter().flatten() {
            let mut sql = Vec::new();
            piece.build(&mut sql).unwrap();
            assert!(is_one_statement(&sql), "{}", String::from_utf8_lossy(&sql));
            built += 1;
        }
        assert!(began.elapsed() < SOON, "{payload:?}");
    }
    assert!(
        read > 300 * times() && built > 60 * times(),
        "{read} rows read, {built} statements built: the input is bent too much"
    );
}

#[test]
fn bent_filters_get_an_answer_soon() {
    const TEXTS: &[&str] = &[
        "a > 1 AND b LIKE 'x%' ESCAPE '|'",
        "NOT (a IN (1, 2, 3) OR b IS NOT NULL) AND c BETWEEN -1.5e3 AND 7",
        "`odd ``name` <=> 'it''s' XOR d >= '2024-01-01' && e <> x'ff'",
        "a = b'101' OR c REGEXP 'x' OR TRUE IS UNKNOWN",
    ];
    const PIECES: &[&str] = &[
        "(", ")", "NOT ", " AND ", " OR ", "'", "\\", "`", "0x", "-", "--", "/*", "IN (", ",", "é", "1e999",
        "NULL",
    ];
    let mut rng = rng("fuzz_filters");
    for _ in 0..5000 * times() {
        let mut text = TEXTS.choose(&mut rng).unwrap().as_bytes().to_vec();
        bend(&mut text, &mut rng, PIECES);
        let text = String::from_utf8_lossy(&text);
        let began = Instant::now();
        if let Err(fault) = Condition::parse(&text) {
            assert!(fault.offset <= text.len() && !fault.expected.is_empty(), "{text}: {fault}");
        }
        assert!(began.elapsed() < SOON, "{text}");
    }
    for deep in ["(", "NOT ", "NOT(", "- "] {
        let began = Instant::now();
        Condition::parse(&deep.repeat(200_000)).expect_err("too deep, or without an end");
        assert!(began.elapsed() < SOON, "{deep}");
    }
}

/// The servers themselves read our literals back.
#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_come_back_from_a_server_as_they_were_quoted() {
    let Some(stack) = Stack::utc("any_bytes_come_back_from_a_server_as_they_were_quoted") else { return };
    let mut rng = rng("fuzz_literals");
    for mut server in [servers::mariadb(&stack).await, servers::tidb(&stack).await] {
        for _ in 0..3 * times() {
            let all: Vec<Vec<u8>> = (0..200).map(|_| random_bytes(&mut rng)).collect();
            let mut sql = b"SELECT ".to_vec();
            for bytes in &all {
                sql.extend_from_slice(if sql.len() > 7 { b", HEX(_binary" } else { b"HEX(_binary" });
                literal::push_string(&mut sql, bytes);
                sql.extend_from_slice(b"), HEX(");
                literal::push_hex(&mut sql, bytes);
                sql.push(b')');
            }
            let row: mysql_async::Row = server.query_first(sql).await.unwrap().unwrap();
            for (nth, bytes) in all.iter().enumerate() {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
                for at in [2 * nth, 2 * nth + 1] {
                    assert_eq!(row.get::<String, _>(at).unwrap(), hex, "{bytes:?}");
                }
            }
        }
    }
}

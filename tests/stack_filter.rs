//! Row filters are judged here as TiDB judges them: random conditions over rows with every kind of value, against its own SELECT.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value as Cell};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use support::sql;
use support::stack::Stack;
use support::workload;
use tidegate::model::{Table, TableName, TypeName, Value, Zone};
use tidegate::sql::ddl::{self, ast::Statement};
use tidegate::sql::filter::{Condition, Context};

const TABLE: &str = "CREATE TABLE ff.t (id INT PRIMARY KEY, ti TINYINT, bu BIGINT UNSIGNED, bi BIGINT, de DECIMAL(30,10), fl FLOAT, \
     db DOUBLE, vb VARCHAR(20) COLLATE utf8mb4_bin, vc VARCHAR(20) COLLATE utf8mb4_general_ci, la VARCHAR(20) CHARACTER SET latin1, \
     bn VARBINARY(20), bx BINARY(4), bl BLOB, tx TEXT COLLATE utf8mb4_bin, da DATE, dt DATETIME, dm DATETIME(6), ts TIMESTAMP(3) NULL, \
     tm TIME(2), y YEAR, en ENUM('new','Paid','it''s') COLLATE utf8mb4_general_ci)";

/// By column: literals of values, which are compared with literals of the same list.
const LITERALS: &[(&str, &[&str])] = &[
    (
        "ti",
        &[
            "-128",
            "-1",
            "0",
            "1",
            "127",
            "1.5",
            "-1.5",
            "0.0",
            "128",
            "TRUE",
            "FALSE",
            "99999999999999999999999",
            "-0",
        ],
    ),
    (
        "bu",
        &[
            "0",
            "1",
            "18446744073709551615",
            "9223372036854775808",
            "9007199254740993",
            "9007199254740992.5",
            "-1",
            "18446744073709551616",
        ],
    ),
    (
        "bi",
        &[
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
            "9007199254740992",
            "0",
            "-0.5",
            "9223372036854775808",
        ],
    ),
    (
        "de",
        &[
            "0",
            "-0.0000000001",
            "12345678901234567890.0123456789",
            "12345678901234567890.012345679",
            "1",
            "1.0",
            "1.00000000000001",
            "-1",
        ],
    ),
    ("fl", &["0", "0.1", "1.5", "-1.5", "16777216", "16777217", "3.4e38", "1e-30", "0.100000001490116"]),
    ("db", &["0", "0.1", "0.30000000000000004", "1e308", "-1e-300", "9007199254740993", "1.5", "-0"]),
    (
        "vb",
        &[
            "''", "' '", "'a'", "'a '", "'a\\t'", "'A'", "'b'", "'ab'", "'a%b'", "'a_b'", "'é'", "'中文'",
            "'it''s'", "'a\\\\b'",
        ],
    ),
    ("la", &["''", "'a'", "'a '", "'B'", "'ab'"]),
    ("bn", &["''", "x'00'", "x'0000'", "'a'", "'a '", "x'ff'", "x'c3a9'", "0x61"]),
    ("bx", &["''", "'a'", "x'61000000'", "x'ffffffff'", "'abcd'"]),
    ("bl", &["''", "'a'", "x'00ff'", "'long text here'"]),
    ("tx", &["''", "'a'", "'a '", "'Zebra'", "'zebra'"]),
    (
        "da",
        &[
            "'2020-02-29'",
            "'1000-01-01'",
            "'9999-12-31'",
            "DATE'2020-03-01'",
            "'2020-02-29 00:00:00'",
            "'2020-02-29 12:00:00'",
        ],
    ),
    (
        "dt",
        &[
            "'2020-02-29 23:59:59'",
            "'2020-02-29'",
            "'2020-03-01 00:00:00'",
            "TIMESTAMP'2020-02-29 23:59:59'",
            "'2020-02-29 23:59:59.5'",
        ],
    ),
    (
        "dm",
        &["'2020-02-29 23:59:59.999999'", "'2020-02-29 23:59:59.9'", "'2020-02-29 23:59:59'", "'2020-02-29'"],
    ),
    ("ts", &["'2020-02-29 23:59:59.999'", "'2020-02-29 23:59:59'", "'1970-01-02 00:00:00'", "'2037-12-31'"]),
    (
        "tm",
        &[
            "'00:00:00'",
            "'-00:00:01'",
            "'838:59:59'",
            "'-838:59:59'",
            "'12:34:56.78'",
            "'12:34:56.789'",
            "TIME'12:34:56'",
            "'100:00:00'",
        ],
    ),
    ("y", &["1901", "2155", "2020", "1999"]),
    ("en", &["'new'", "'Paid'", "'it\\'s'"]),
];

const PATTERNS: &[&str] = &[
    "'%'",
    "'a%'",
    "'%b'",
    "'_'",
    "'a_b'",
    "'a\\_b'",
    "'a\\%b'",
    "'A%'",
    "'% '",
    "''",
    "'__'",
    "'%a%'",
    "'a\\\\\\\\b'",
];

/// Literals that a column holds: the first that fit its type.
fn value(random: &mut StdRng, column: &str, literals: &[&'static str]) -> String {
    let fits = |literal: &&&str| {
        let out = match column {
            "ti" => ["128", "1.5", "-1.5", "0.0", "99999999999999999999999"].contains(literal),
            "bu" => ["-1", "18446744073709551616", "9007199254740992.5"].contains(literal),
            "bi" => ["-0.5", "9223372036854775808"].contains(literal),
            "de" => ["12345678901234567890.012345679", "1.00000000000001"].contains(literal),
            "da" => literal.len() > 16,
            "dt" => literal.contains(".5"),
            "tm" => literal.contains(".789"),
            _ => false,
        };
        !out
    };
    let literals: Vec<_> = literals.iter().filter(fits).collect();
    match random.random_range(0..8) {
        0 => "NULL".to_owned(),
        _ => (**literals.choose(random).unwrap()).to_owned(),
    }
}

struct Maker<'a> {
    random: &'a mut StdRng,
}

impl Maker<'_> {
    fn pick(&mut self, list: &[&str]) -> String {
        (*list.choose(self.random).unwrap()).to_owned()
    }

    fn condition(&mut self, depth: u32) -> String {
        let choice = if depth == 0 { 9 } else { self.random.random_range(0..10) };
        match choice {
            0 => format!("{} AND {}", self.condition(depth - 1), self.condition(depth - 1)),
            1 => format!("{} OR {}", self.condition(depth - 1), self.condition(depth - 1)),
            2 => format!("NOT {}", self.condition(depth - 1)),
            3 => format!("({})", self.condition(depth - 1)),
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> String {
        let (column, literals) = *LITERALS.choose(self.random).unwrap();
        let mut literal = || {
            if self.random.random_range(0..25) == 0 {
                "NULL".to_owned()
            } else {
                (*literals.choose(self.random).unwrap()).to_owned()
            }
        };
        let (one, two, three) = (literal(), literal(), literal());
        let not = if self.random.random_bool(0.3) { "NOT " } else { "" };
        let ordered = column != "en";
        match self.random.random_range(0..12) {
            0 => format!("{column} IS {not}NULL"),
            1 => format!("{column} {not}IN ({one}, {two}, {three})"),
            2 if ordered => format!("{column} {not}BETWEEN {one} AND {two}"),
            3 => {
                let (column, pattern) = (self.pick(&["vb", "tx", "la"]), self.pick(PATTERNS));
                format!("{column} {not}LIKE {pattern}")
            }
            4 => {
                let (operator, literal) =
                    (self.pick(&["=", "<", ">=", "<>"]), self.pick(&["'a'", "'A'", "'a '", "''", "'é'"]));
                format!("BINARY vc {operator} {literal}")
            }
            5 => self.pick(&["TRUE", "FALSE", "NULL"]),
            6 if ordered => format!("{one} {} {column}", self.pick(&["<", ">", "="])),
            _ if ordered => format!("{column} {} {one}", self.pick(&["=", "!=", "<>", "<", "<=", ">", ">="])),
            _ => format!("{column} {} {one}", self.pick(&["=", "<>"])),
        }
    }
}

/// As the stream carries it.
fn cell<'a>(cell: &'a Cell, ty: TypeName) -> Value<'a> {
    let Cell::Bytes(bytes) = cell else { return Value::Null };
    let text = || std::str::from_utf8(bytes).unwrap();
    match ty {
        _ if ty.is_integer() || ty == TypeName::Enum => match text().parse::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::UInt(text().parse().unwrap()),
        },
        // The source prints FLOAT as the shortest text of its 32 bits.
        TypeName::Float => Value::Double(f64::from(text().parse::<f32>().unwrap())),
        TypeName::Double => Value::Double(text().parse().unwrap()),
        _ if ty.is_binary() => Value::Bytes(bytes),
        _ => Value::Text(bytes),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_agree_with_the_source() {
    let Some(stack) = Stack::utc("filters_agree_with_the_source") else { return };
    let seed = workload::seed("stack_filter");
    let mut random = StdRng::seed_from_u64(seed);
    sql::drop_schemas(&stack, &["ff"]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &["CREATE DATABASE ff", TABLE, "SET time_zone = '+00:00'"]).await;
    for id in 0..60 {
        let mut names = vec!["id".to_owned(), "vc".to_owned()];
        let mut values = vec![
            id.to_string(),
            ["'a'", "'A'", "'a '", "'é'", "NULL"].choose(&mut random).unwrap().to_string(),
        ];
        for (column, literals) in LITERALS {
            names.push((*column).to_owned());
            values.push(value(&mut random, column, literals));
        }
        let insert = format!("INSERT INTO ff.t ({}) VALUES ({})", names.join(", "), values.join(", "));
        sql::run(&mut source, &[&insert]).await;
    }
    let shown: (String, String) = source.query_first("SHOW CREATE TABLE ff.t").await.unwrap().unwrap();
    let Some(Statement::CreateTable { table, .. }) = ddl::parse(shown.1.as_bytes()).unwrap().pop() else {
        panic!()
    };
    let table = Table { name: TableName::new("ff", "t"), ..table };
    let select: Vec<String> = table
        .columns
        .iter()
        .map(|column| if column.name == "en" { "en | 0".to_owned() } else { column.name.clone() })
        .collect();
    let rows: Vec<Row> =
        source.query(format!("SELECT {} FROM ff.t ORDER BY id", select.join(", "))).await.unwrap();
    let rows: Vec<Vec<Cell>> = rows.into_iter().map(Row::unwrap).collect();

    let (mut wrong, mut judged) = (Vec::new(), 0);
    for _ in 0..1500 {
        let text = Maker { random: &mut random }.condition(3);
        let condition =
            Condition::parse(&text).unwrap_or_else(|fault| panic!("seed {seed}: {text}: {fault}"));
        let filter = match condition.bind(&table, &Context::default()) {
            Ok(filter) => filter,
            // Refused because TiDB misjudges it.
            Err(unfit) if unfit.iter().all(|unfit| unfit.reason.contains("cannot hold")) => continue,
            Err(unfit) => panic!("seed {seed}: {text}: {unfit:?}"),
        };
        let mine: BTreeSet<i64> = rows
            .iter()
            .filter(|row| {
                let values: Vec<Value<'_>> = filter
                    .columns()
                    .iter()
                    .map(|(place, _)| cell(&row[*place], table.columns[*place].ty.name))
                    .collect();
                filter
                    .matches(&values, &Zone::Utc)
                    .unwrap_or_else(|fault| panic!("seed {seed}: {text}: {fault:?}"))
            })
            .map(|row| match cell(&row[0], TypeName::Int) {
                Value::Int(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        // As an expression, not as a condition: ranges over keys are another matter.
        let judgement = format!("SELECT id, ({text}) FROM ff.t ORDER BY id");
        let found: Vec<(i64, Option<i64>)> =
            source.query(&judgement).await.unwrap_or_else(|error| panic!("seed {seed}: {text}: {error}"));
        let found: BTreeSet<i64> = found
            .iter()
            .filter(|(_, holds)| holds.is_some_and(|holds| holds != 0))
            .map(|(id, _)| *id)
            .collect();
        judged += 1;
        if mine != found && wrong.len() < 12 {
            let id = *mine.symmetric_difference(&found).next().unwrap();
            wrong.push(format!(
                "{text}: row {id} is {} here: {:?}",
                if mine.contains(&id) { "in" } else { "out" },
                rows[id as usize]
            ));
        }
    }
    assert!(judged > 1000, "seed {seed}: {judged} conditions");
    assert!(wrong.is_empty(), "seed {seed}, of {judged}:\n{}", wrong.join("\n"));
    sql::drop_schemas(&stack, &["ff"]).await;
}

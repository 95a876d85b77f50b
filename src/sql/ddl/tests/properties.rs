//! Any bytes get an answer, soon.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fixtures;
use crate::sql::ddl::ast::Statement;
use crate::sql::ddl::parse;
use crate::sql::ddl::partition_condition;

static TEXTS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| fixtures::all_texts().into_iter().map(String::into_bytes).collect());

/// Pieces that a mutation puts into a text.
const PIECES: &[&str] = &[
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "`",
    "\\",
    "/*",
    "*/",
    "/*T!",
    "/*!90000",
    "--",
    "-- ",
    "#",
    "\n",
    ".",
    "=",
    "\0",
    "é",
    "中",
    "0x",
    "b'",
    "_utf8",
    "DEFAULT",
    "PARTITION",
    "KEY",
    "(((",
    ")))",
    "@",
    "$",
    "%",
    "1e9",
    "99999999999",
];

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_usize, prop::sample::select(PIECES), any::<u8>());
    (prop::sample::select(TEXTS.clone()), prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, what, piece, byte) in edits {
            let at = at.index(text.len() + 1);
            match what {
                0 => text.truncate(at),
                1 => drop(text.splice(at..at, piece.bytes())),
                2 if at < text.len() => text[at] = byte,
                _ if at < text.len() => drop(text.remove(at)),
                _ => {}
            }
        }
        text
    })
}

/// Every answer is whole: an error points into the text, and what was understood can be used.
fn check(text: &[u8]) {
    match parse(text) {
        Err(error) => {
            assert!(error.position <= text.len());
            assert!(!error.expected.is_empty() && !error.found.is_empty() && !error.hint.is_empty());
        }
        Ok(statements) => {
            for statement in statements {
                let _ = statement.kinds();
                if let Statement::CreateTable { table, .. } = statement {
                    assert!(!table.columns.is_empty());
                    let _ = partition_condition(&table, &["p0".to_owned()]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_statements_never_panic(text in mutated()) {
        check(&text);
    }

    #[test]
    fn random_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&text);
    }

    #[test]
    fn random_words_never_panic(words in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        check(format!("ALTER TABLE t ADD c {}", words.join(" ")).as_bytes());
    }
}

#[test]
fn every_prefix_of_a_statement_gets_an_answer() {
    for text in fixtures::statements() {
        for end in 0..text.len() {
            check(&text.as_bytes()[..end]);
        }
    }
}

#[test]
fn depth_and_length_cost_neither_stack_nor_time() {
    let deep = 200_000;
    let (open, close) = ("(".repeat(deep), ")".repeat(deep));
    let many: Vec<String> = (0..20_000).map(|at| format!("c{at} INT DEFAULT (({at}))")).collect();
    let start = Instant::now();
    for text in [
        format!("CREATE TABLE t (a INT DEFAULT {open}1{close})"),
        format!("CREATE TABLE t (a INT DEFAULT {open}1"),
        format!("CREATE TABLE t (a INT AS ({open}1{close}), KEY ({open}a{close}))"),
        format!(
            "CREATE TABLE t (a INT) PARTITION BY RANGE {open}a{close} (PARTITION p VALUES LESS THAN {open}1{close})"
        ),
        format!("CREATE TABLE t (a INT) PARTITION BY LIST (a) (PARTITION p VALUES IN {open}1{close})"),
        format!("CREATE VIEW v AS SELECT {open}1{close}"),
        "/*!".repeat(deep),
        "/*".repeat(deep),
        "'".repeat(deep),
        ";".repeat(deep),
        format!("CREATE TABLE t ({})", many.join(",")),
        format!("ALTER TABLE t ADD {}", many.join(", ADD ")),
    ] {
        check(text.as_bytes());
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

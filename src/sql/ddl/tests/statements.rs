//! Texts to statements.

use std::fmt::Write;

use super::fixtures;
use super::{one, refused};
use crate::sql::ddl::ast::Statement;
use crate::sql::ddl::kind::DdlKind;
use crate::sql::ddl::parse;

/// The one text of ddl.sql that must be refused: VECTOR has no place on any target.
const REFUSED: &str = "VECTOR(3)";

#[test]
fn every_statement_of_the_list_has_its_reading() {
    let mut out = String::new();
    for sql in fixtures::statements() {
        let reading = match parse(sql.as_bytes()) {
            Ok(statements) => {
                assert_eq!(statements.len(), 1, "{sql}");
                serde_json::to_string(&statements[0]).unwrap()
            }
            Err(error) => {
                assert!(sql.contains(REFUSED), "{sql}: {error}");
                format!("{error}; {}", error.hint)
            }
        };
        writeln!(out, "{sql}\n    {reading}").unwrap();
    }
    assert_eq!(fixtures::statements().len(), 104);
    insta::assert_snapshot!(out);
}

#[test]
fn every_recorded_text_is_understood() {
    let mut seen = 0;
    for name in fixtures::HISTORIES.iter().chain(fixtures::RECORDINGS) {
        for event in fixtures::events(name) {
            let statements = parse(&event.query).unwrap_or_else(|error| panic!("{}: {error}", event.text()));
            assert_eq!(statements.len(), 1, "{}", event.text());
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen} events");
}

#[test]
fn a_reading_survives_storage() {
    for sql in fixtures::all_texts() {
        let Ok(statements) = parse(sql.as_bytes()) else { continue };
        let stored = serde_json::to_string(&statements).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Statement>>(&stored).unwrap(), statements, "{sql}");
    }
}

#[test]
fn statements_are_separated_by_semicolons() {
    let statements = parse(b";; TRUNCATE t ; /* ; */ DROP TABLE `a;b`;\n-- end\n").unwrap();
    assert_eq!(statements.len(), 2);
    assert_eq!(refused(" -- nothing"), (11, "a DDL statement".to_owned()));
    assert_eq!(refused("TRUNCATE t DROP TABLE a"), (11, "`;` or the end of the statement".to_owned()));
}

#[test]
fn harmless_statements_are_named() {
    for (sql, expected) in [
        ("CREATE SEQUENCE s", "create sequence"),
        ("ALTER SEQUENCE s INCREMENT BY 3;", "alter sequence"),
        ("DROP PLACEMENT POLICY IF EXISTS p", "drop placement policy"),
        ("CREATE OR REPLACE PLACEMENT POLICY p FOLLOWERS=4", "create placement policy"),
        ("ALTER RESOURCE GROUP g RU_PER_SEC=5", "alter resource group"),
        ("CREATE GLOBAL BINDING FOR SELECT 1 USING SELECT 1", "create global binding"),
        ("LOCK TABLES t WRITE", "lock tables"),
        ("select setval(`s`, 100)", "select setval"),
        ("CREATE USER 'a'@'%' IDENTIFIED BY 'x;y'", "create user"),
        ("ALTER RANGE global PLACEMENT POLICY = 'p'", "alter range"),
    ] {
        assert_eq!(one(sql), Statement::Harmless { what: expected.to_owned() }, "{sql}");
        assert!(one(sql).kinds().is_empty());
    }
}

#[test]
fn views_keep_their_names_whatever_the_query() {
    for sql in [
        "CREATE VIEW v AS SELECT ';'",
        "CREATE OR REPLACE VIEW IF NOT EXISTS `v` (`a`) AS (SELECT 1) WITH CHECK OPTION",
        "CREATE ALGORITHM = MERGE DEFINER = 'SQL'@'VIEW' SQL SECURITY INVOKER VIEW v AS SELECT 1;",
        "CREATE DEFINER=root@localhost VIEW v AS SELECT 1",
        "ALTER DEFINER = CURRENT_USER() VIEW v AS SELECT 1",
        "DROP VIEW v CASCADE",
    ] {
        let Statement::View { names } = one(sql) else { panic!("{sql}") };
        assert_eq!(names[0].name, "v", "{sql}");
        assert_eq!(one(sql).kinds(), [DdlKind::View]);
    }
}

#[test]
fn rows_that_come_back_without_events_are_recover() {
    for (sql, expected) in [
        ("RECOVER TABLE `a`.`t`", vec!["t"]),
        ("RECOVER TABLE BY JOB 53", vec![]),
        ("RECOVER TABLE t 2", vec!["t"]),
        ("FLASHBACK TABLE t TO t1", vec!["t", "t1"]),
        ("FLASHBACK DATABASE d TO e", vec!["d", "e"]),
        ("FLASHBACK CLUSTER TO TIMESTAMP '2022-01-01'", vec![]),
        ("FLASHBACK TABLE a, b TO TIMESTAMP '2022-01-01'", vec!["a", "b"]),
        ("FLASHBACK CLUSTER TO TSO 445494839813079041", vec![]),
    ] {
        let Statement::Recover { names } = one(sql) else { panic!("{sql}") };
        assert_eq!(names.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), expected, "{sql}");
        assert_eq!(one(sql).kinds(), [DdlKind::Other]);
    }
}

#[test]
fn databases_have_their_character_set() {
    let created = |sql: &str| match one(sql) {
        Statement::CreateDatabase { name, charset, collation, .. } => (Some(name), charset, collation),
        Statement::AlterDatabase { name, charset, collation } => (name, charset, collation),
        other => panic!("{other:?}"),
    };
    let some = |text: &str| Some(text.to_owned());
    for (sql, expected) in [
        ("create schema d", (some("d"), None, None)),
        ("CREATE DATABASE d DEFAULT CHARACTER SET = UTF8MB4", (some("d"), some("utf8mb4"), None)),
        ("CREATE DATABASE d COLLATE latin1_bin", (some("d"), some("latin1"), some("latin1_bin"))),
        ("ALTER DATABASE CHARSET 'utf8mb3' COLLATE utf8mb3_bin", (None, some("utf8"), some("utf8_bin"))),
        ("ALTER DATABASE d PLACEMENT POLICY = `p`", (some("d"), None, None)),
        ("ALTER DATABASE d SET TIFLASH REPLICA 2 LOCATION LABELS 'a', 'b'", (some("d"), None, None)),
        ("CREATE DATABASE d /*T![placement] PLACEMENT POLICY=`p` */", (some("d"), None, None)),
    ] {
        assert_eq!(created(sql), expected, "{sql}");
    }
    assert_eq!(refused("ALTER DATABASE d").0, 16);
}

#[test]
fn a_refusal_says_where_what_and_how_to_go_on() {
    let error = parse("ALTER TABLE `订单` FROBNICATE x".as_bytes()).unwrap_err();
    assert_eq!(error.position, 21);
    assert_eq!(error.found, "`FROBNICATE`");
    assert_eq!(error.expected, "a clause of ALTER TABLE");
    assert!(!error.hint.is_empty());
    let error: crate::error::Error = error.into();
    assert_eq!(error.kind, crate::error::ErrorKind::StatementRefused);
    assert!(error.hint.is_some());

    for (sql, position) in [
        ("SELECT 1", 0),
        ("USE d", 0),
        ("INSERT INTO t VALUES (1)", 0),
        ("ADMIN REPAIR TABLE t CREATE TABLE t (a INT)", 0),
        ("CREATE TABLE t AS SELECT 1", 15),
        ("CREATE TABLE t (a INT) AS SELECT 1", 23),
        ("CREATE TABLE t (a VECTOR(3))", 18),
        ("CREATE TABLE t (a GEOMETRY)", 18),
        ("CREATE TABLE t (a INT", 21),
        ("CREATE TABLE t (a INT, PRIMARY KEY)", 34),
        ("CREATE TABLE t (a VARCHAR)", 25),
        ("CREATE TABLE t (PRIMARY KEY (a))", 32),
        ("DROP FUNCTION f", 5),
        ("ALTER TABLE t", 13),
        ("ALTER TABLE t MODIFY c INT UNIQUE", 21),
        ("ALTER TABLE t LAST PARTITION", 14),
        ("CREATE TABLE t (a INT) PARTITION BY SYSTEM_TIME", 36),
        (
            "CREATE TABLE t (a INT) PARTITION BY RANGE (a) SUBPARTITION BY HASH (a) (PARTITION p VALUES LESS THAN (1))",
            46,
        ),
        ("CREATE UNIQUE INDEX i ON t (a) WHERE a > 1", 31),
        ("DROP TABLE a,", 13),
    ] {
        assert_eq!(refused(sql).0, position, "{sql}");
    }
}

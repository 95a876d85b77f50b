//! Clauses carried out on a table.

use super::{clauses, one, table};
use crate::model::{ColumnDefault, Partitioning, Table, TableName};
use crate::sql::ddl::apply::{ApplyError, alter, create_index, create_like, drop_index, name_keys};
use crate::sql::ddl::ast::Statement;

fn try_alter(table: &mut Table, text: &str) -> Result<(), ApplyError> {
    for clause in clauses(&format!("ALTER TABLE t {text}")) {
        let before = table.clone();
        let outcome = alter(table, &clause);
        if outcome.is_err() {
            let mut named = before;
            name_keys(&mut named);
            assert_eq!(*table, named, "an error leaves the table alone: {text}");
            return outcome;
        }
    }
    Ok(())
}

fn altered(create: &str, text: &str) -> Table {
    let mut table = table(create);
    try_alter(&mut table, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    table
}

fn columns(table: &Table) -> String {
    table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(",")
}

fn keys(table: &Table) -> String {
    let describe = |key: &crate::model::Key| {
        format!("{}({})", key.name.as_deref().unwrap_or("?"), key.columns().unwrap_or_default().join(","))
    };
    table.keys.iter().map(describe).collect::<Vec<_>>().join(" ")
}

const ABC: &str =
    "CREATE TABLE t (a INT, b VARCHAR(9), c INT AS (a + 1), PRIMARY KEY (a), UNIQUE (b, a), KEY k (b))";

#[test]
fn columns_go_where_the_text_says() {
    for (text, expected) in [
        ("ADD d INT", "a,b,c,d"),
        ("ADD d INT FIRST", "d,a,b,c"),
        ("ADD d INT AFTER A", "a,d,b,c"),
        ("ADD d INT AFTER c", "a,b,c,d"),
        ("ADD (d INT, e INT), DROP c", "a,b,d,e"),
        ("MODIFY a BIGINT", "a,b,c"),
        ("MODIFY a BIGINT AFTER b", "b,a,c"),
        ("MODIFY c BIGINT AS (a + 1) FIRST", "c,a,b"),
        ("CHANGE b B2 INT AFTER c", "a,c,B2"),
        ("CHANGE b b INT", "a,b,c"),
        ("RENAME COLUMN B TO z", "a,z,c"),
        ("ADD COLUMN IF NOT EXISTS a INT, DROP COLUMN IF EXISTS nosuch", "a,b,c"),
    ] {
        assert_eq!(columns(&altered(ABC, text)), expected, "{text}");
    }
}

#[test]
fn keys_follow_columns() {
    for (text, expected) in [
        ("COMMENT ''", "PRIMARY(a) b(b,a) k(b)"),
        ("DROP b", "PRIMARY(a) b(a)"),
        ("RENAME COLUMN b TO z", "PRIMARY(a) b(z,a) k(z)"),
        ("CHANGE a z BIGINT", "PRIMARY(z) b(b,z) k(b)"),
        ("DROP INDEX b", "PRIMARY(a) k(b)"),
        ("RENAME INDEX B TO k2", "PRIMARY(a) k2(b,a) k(b)"),
        ("ADD KEY (b), ADD INDEX (b)", "PRIMARY(a) b(b,a) k(b) b_2(b) b_3(b)"),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (b)", "PRIMARY(b) b(b,a) k(b)"),
        (
            "ADD d INT UNIQUE, ADD KEY IF NOT EXISTS k (b), DROP KEY IF EXISTS nosuch",
            "PRIMARY(a) b(b,a) k(b) d(d)",
        ),
    ] {
        assert_eq!(keys(&altered(ABC, text)), expected, "{text}");
    }
    let table = altered(ABC, "CHANGE a z BIGINT NULL");
    assert!(!table.columns[0].nullable, "a primary key column stays NOT NULL");
    assert_eq!(table.columns[2].generated.as_ref().unwrap().expression, "`z` + 1");
    assert!(!altered(ABC, "DROP PRIMARY KEY").columns[0].nullable);
}

#[test]
fn keys_without_a_name_get_tidbs() {
    let mut table = table(
        "CREATE TABLE t (a INT UNIQUE, b INT, `Primary` INT, KEY ((a + 1)), KEY (A), UNIQUE a_2 (b), KEY (`Primary`), KEY ((b)))",
    );
    name_keys(&mut table);
    let names: Vec<&str> = table.keys.iter().map(|key| key.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["expression_index", "a", "a_2", "Primary_2", "expression_index_2", "a_3"]);
}

#[test]
fn a_second_time_is_told_apart() {
    let there = |what: &str| ApplyError::AlreadyThere { what: what.to_owned() };
    let missing = |what: &str| ApplyError::Missing { what: what.to_owned() };
    for (text, expected) in [
        ("ADD a INT", there("column `a`")),
        ("ADD d INT AFTER nosuch", missing("column `nosuch`")),
        ("DROP nosuch", missing("column `nosuch`")),
        ("MODIFY nosuch INT", missing("column `nosuch`")),
        ("CHANGE nosuch b INT", there("column `b`")),
        ("MODIFY a INT AFTER a", missing("column `a`")),
        ("RENAME COLUMN nosuch TO a", there("column `a`")),
        ("RENAME COLUMN nosuch TO none", missing("column `nosuch`")),
        ("ALTER nosuch SET DEFAULT 1", missing("column `nosuch`")),
        ("ADD KEY k (b)", there("key `k`")),
        ("ADD KEY n (nosuch)", missing("column `nosuch`")),
        ("ADD PRIMARY KEY (a)", there("key `PRIMARY`")),
        ("DROP KEY nosuch", missing("key `nosuch`")),
        ("RENAME KEY nosuch TO k", there("key `k`")),
        ("RENAME KEY nosuch TO none", missing("key `nosuch`")),
    ] {
        assert_eq!(try_alter(&mut table(ABC), text), Err(expected), "{text}");
    }
    for text in [
        "RENAME COLUMN a TO b",
        "CHANGE a b INT",
        "ADD KEY k (a)",
        "ADD PRIMARY KEY (b)",
        "RENAME KEY b TO k",
    ] {
        let outcome = try_alter(&mut table(ABC), text);
        assert!(matches!(outcome, Err(ApplyError::Unsupported { .. })), "{text}: {outcome:?}");
    }
}

#[test]
fn indexes_and_likes() {
    let mut t = table(ABC);
    let Statement::CreateIndex { key, .. } = one("CREATE INDEX i ON t (a)") else { panic!() };
    create_index(&mut t, &key).unwrap();
    assert!(matches!(create_index(&mut t, &key), Err(ApplyError::AlreadyThere { .. })));
    drop_index(&mut t, "I").unwrap();
    drop_index(&mut t, "primary").unwrap();
    assert!(matches!(drop_index(&mut t, "i"), Err(ApplyError::Missing { .. })));
    let like = create_like(&table(ABC), TableName::new("d", "l"));
    assert_eq!((like.name.to_string().as_str(), keys(&like).as_str()), ("d.l", "PRIMARY(a) b(b,a) k(b)"));
    assert_eq!(altered(ABC, "RENAME d.x").name, TableName::new("d", "x"));
}

#[test]
fn character_sets_of_columns() {
    let create = "CREATE TABLE t (a VARCHAR(9), b VARCHAR(9) CHARSET latin1, c INT, d VARBINARY(9)) CHARSET utf8 COLLATE utf8_general_ci";
    let charsets = |text: &str| {
        let table = altered(create, text);
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                format!(
                    "{}/{}",
                    column.ty.charset.as_deref().unwrap_or("-"),
                    column.ty.collation.as_deref().unwrap_or("-")
                )
            })
            .collect();
        format!("{} {}", table.charset.unwrap_or_default(), columns.join(" "))
    };
    assert_eq!(charsets("COMMENT ''"), "utf8 -/- latin1/- -/- -/-");
    assert_eq!(charsets("CONVERT TO CHARSET utf8mb4"), "utf8mb4 -/- -/- -/- -/-");
    assert_eq!(charsets("DEFAULT CHARSET utf8mb4"), "utf8mb4 utf8/utf8_general_ci latin1/- -/- -/-");
}

#[test]
fn a_new_default_takes_the_form_of_its_column() {
    for (definition, default, expected) in
        [("ENUM('a','b')", "2", "b"), ("ENUM('a','2')", "'2'", "2"), ("INT", "b'11'", "3")]
    {
        let table =
            altered(&format!("CREATE TABLE t (a {definition})"), &format!("ALTER a SET DEFAULT {default}"));
        assert_eq!(
            table.columns[0].default,
            Some(ColumnDefault::Literal(expected.to_owned())),
            "{definition}"
        );
    }
    assert_eq!(altered("CREATE TABLE t (a INT DEFAULT 1)", "ALTER a DROP DEFAULT").columns[0].default, None);
}

#[test]
fn partitions_come_and_go() {
    let range = "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30))";
    let names = |create: &str, text: &str| match altered(create, text).partitioning {
        Some(Partitioning::Range { partitions, .. }) => partitions
            .iter()
            .map(|(name, bound)| format!("{name}<{}", bound.join(",")))
            .collect::<Vec<_>>()
            .join(" "),
        Some(Partitioning::List { partitions, .. }) => {
            partitions.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(" ")
        }
        Some(Partitioning::Hash { count, names, .. }) => format!("{count} {}", names.join(" ")),
        Some(Partitioning::Key { count, .. }) => count.to_string(),
        other => format!("{other:?}"),
    };
    for (text, expected) in [
        ("ADD PARTITION (PARTITION p3 VALUES LESS THAN MAXVALUE)", "p0<10 p1<20 p2<30 p3<MAXVALUE"),
        ("DROP PARTITION P0, p2", "p1<20"),
        ("DROP PARTITION IF EXISTS p0, nosuch", "p1<20 p2<30"),
        ("TRUNCATE PARTITION p0", "p0<10 p1<20 p2<30"),
        (
            "REORGANIZE PARTITION p0, p1 INTO (PARTITION p0 VALUES LESS THAN (5), PARTITION x VALUES LESS THAN (20))",
            "p0<5 x<20 p2<30",
        ),
        ("REORGANIZE PARTITION p2 INTO (PARTITION p2 VALUES LESS THAN (40))", "p0<10 p1<20 p2<40"),
        ("REMOVE PARTITIONING", "None"),
        ("PARTITION BY HASH (a) PARTITIONS 2, COMMENT 'x'", "2 "),
    ] {
        assert_eq!(names(range, text), expected, "{text}");
    }
    let list =
        "CREATE TABLE t (a INT) PARTITION BY LIST (a) (PARTITION x VALUES IN (1), PARTITION y VALUES IN (2))";
    assert_eq!(names(list, "REORGANIZE PARTITION y INTO (PARTITION z VALUES IN (2))"), "x z");
    let hash = "CREATE TABLE t (a INT) PARTITION BY HASH (a) PARTITIONS 3";
    assert_eq!(names(hash, "ADD PARTITION PARTITIONS 2, COALESCE PARTITION 1"), "4 ");
    assert_eq!(
        names(hash, "ADD PARTITION (PARTITION x), COALESCE PARTITION 2, ADD PARTITION PARTITIONS 1"),
        "3 p0 p1 p2"
    );
    let key = "CREATE TABLE t (a INT) PARTITION BY KEY (a) PARTITIONS 3";
    assert_eq!(names(key, "COALESCE PARTITION 2, TRUNCATE PARTITION p0"), "1");

    for (create, text) in [
        (range, "COALESCE PARTITION 1"),
        (hash, "COALESCE PARTITION 3"),
        (hash, "DROP PARTITION p0"),
        (range, "ADD PARTITION (PARTITION x VALUES IN (1))"),
        (ABC, "DROP PARTITION p0"),
    ] {
        let outcome = try_alter(&mut table(create), text);
        assert!(matches!(outcome, Err(ApplyError::Unsupported { .. })), "{text}: {outcome:?}");
    }
    for text in [
        "DROP PARTITION nosuch",
        "TRUNCATE PARTITION nosuch",
        "REORGANIZE PARTITION nosuch INTO (PARTITION x VALUES LESS THAN (1))",
    ] {
        assert!(matches!(try_alter(&mut table(range), text), Err(ApplyError::Missing { .. })), "{text}");
    }
    for text in [
        "ADD PARTITION (PARTITION p1 VALUES LESS THAN (50))",
        "REORGANIZE PARTITION p0 INTO (PARTITION p1 VALUES LESS THAN (10))",
    ] {
        assert!(matches!(try_alter(&mut table(range), text), Err(ApplyError::AlreadyThere { .. })), "{text}");
    }
}

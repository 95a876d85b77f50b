//! Partitions as conditions.

use super::{clauses, table};
use crate::model::Partitioning;
use crate::sql::ddl::apply::ApplyError;
use crate::sql::ddl::{self, condition_in_front_of, partition_condition};

fn condition(partition_by: &str, names: &[&str]) -> Result<String, ApplyError> {
    let table = table(&format!(
        "CREATE TABLE t (Id INT NOT NULL, a INT, b VARCHAR(9) NOT NULL, c INT, u BIGINT UNSIGNED, d DATETIME) PARTITION BY {partition_by}"
    ));
    partition_condition(&table, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
}

#[test]
fn rows_of_partitions() {
    let range = "RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN MAXVALUE)";
    let nullable = "RANGE (`a`) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))";
    let function =
        "RANGE (YEAR(d)) (PARTITION p0 VALUES LESS THAN (2000), PARTITION p1 VALUES LESS THAN (2001))";
    let tuple = "RANGE COLUMNS (a, b) (PARTITION p0 VALUES LESS THAN (1, 'm'), PARTITION p1 VALUES LESS THAN (5, MAXVALUE), PARTITION p2 VALUES LESS THAN (MAXVALUE, MAXVALUE))";
    let list = "LIST (a) (PARTITION p0 VALUES IN (1, 2), PARTITION p1 VALUES IN (3, NULL), PARTITION p2 VALUES IN (NULL), PARTITION p3 DEFAULT)";
    let plain = "LIST COLUMNS (b) (PARTITION p0 VALUES IN ('x', 'y'), PARTITION p1 VALUES IN (DEFAULT, 'z'))";
    let tuples = "LIST COLUMNS (a, b) (PARTITION p0 VALUES IN ((1, 'x'), (NULL, 'y')), PARTITION p1 DEFAULT)";
    for (by, names, expected) in [
        (range, &["p0"][..], "`Id` < 10"),
        (range, &["P1"], "(`Id` >= 10) AND (`Id` < 20)"),
        (range, &["p2"], "`Id` >= 20"),
        (range, &["p0", "p2"], "(`Id` < 10) OR (`Id` >= 20)"),
        ("RANGE (a) (PARTITION p VALUES LESS THAN MAXVALUE)", &["p"], "1 = 1"),
        (nullable, &["p0"], "(`a` < 10) OR (`a` IS NULL)"),
        (nullable, &["p1"], "(`a` >= 10) AND (`a` < 20)"),
        (function, &["p0"], "((YEAR(`d`)) < 2000) OR ((YEAR(`d`)) IS NULL)"),
        (function, &["p1"], "((YEAR(`d`)) >= 2000) AND ((YEAR(`d`)) < 2001)"),
        (tuple, &["p0"], "(`a` < 1) OR (`a` IS NULL) OR (`a` = 1 AND (`b` < 'm'))"),
        (
            tuple,
            &["p1"],
            "(NOT ((`a` < 1) OR (`a` IS NULL) OR (`a` = 1 AND (`b` < 'm')))) AND ((`a` < 5) OR (`a` IS NULL) OR (`a` = 5 AND (1 = 1)))",
        ),
        (tuple, &["p2"], "NOT ((`a` < 5) OR (`a` IS NULL) OR (`a` = 5 AND (1 = 1)))"),
        (list, &["p0"], "`a` IS NOT NULL AND `a` IN (1, 2)"),
        (list, &["p1"], "(`a` IN (3)) OR (`a` IS NULL)"),
        (list, &["p2"], "`a` IS NULL"),
        (list, &["p3"], "NOT ((`a` IN (1, 2, 3)) OR (`a` IS NULL))"),
        (plain, &["p0"], "`b` IN ('x', 'y')"),
        (plain, &["p1"], "(`b` IN ('z')) OR (NOT (`b` IN ('x', 'y', 'z')))"),
        (
            tuples,
            &["p0"],
            "((`a` IS NOT NULL AND `a` = 1) AND (`b` = 'x')) OR ((`a` IS NULL) AND (`b` = 'y'))",
        ),
        ("LIST (a) (PARTITION p DEFAULT)", &["p"], "1 = 1"),
        ("LIST (a) (PARTITION p VALUES IN ())", &["p"], "1 = 0"),
        ("HASH (id) PARTITIONS 4", &["p0"], "ABS(MOD(`Id`, 4)) = 0"),
        ("HASH (a) PARTITIONS 4", &["p0"], "ABS(MOD(`a`, 4)) = 0 OR `a` IS NULL"),
        ("HASH (a) PARTITIONS 4", &["p3"], "ABS(MOD(`a`, 4)) = 3"),
        ("HASH (u) PARTITIONS 4", &["p1"], "ABS(MOD(CAST(`u` AS SIGNED), 4)) = 1"),
        ("HASH (a + c) PARTITIONS 2 (PARTITION x, PARTITION y)", &["y"], "ABS(MOD((`a` + `c`), 2)) = 1"),
    ] {
        assert_eq!(condition(by, names).as_deref(), Ok(expected), "{by} {names:?}");
    }
}

/// What TiDB writes as DROP, ADD and REORGANIZE PARTITION is understood in its own words too.
#[test]
fn interval_partitions() {
    let by = "RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30))";
    let mut table = table(&format!("CREATE TABLE t (id INT PRIMARY KEY) PARTITION BY {by}"));
    let bound = |text: &str| vec![text.to_owned()];
    assert_eq!(condition_in_front_of(&table, &bound("10")).as_deref(), Ok("1 = 0"));
    assert_eq!(
        condition_in_front_of(&table, &bound("30")).as_deref(),
        Ok("(`id` < 10) OR ((`id` >= 10) AND (`id` < 20))")
    );
    assert!(matches!(condition_in_front_of(&table, &bound("25")), Err(ApplyError::Unsupported { .. })));
    let mut alter = |text: &str| {
        for clause in clauses(&format!("ALTER TABLE t {text}")) {
            ddl::apply::alter(&mut table, &clause).unwrap();
        }
        table.partitioning.clone().unwrap()
    };
    let Partitioning::Range { partitions, .. } = alter("FIRST PARTITION LESS THAN (20)") else { panic!() };
    assert_eq!(partitions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["p1", "p2"]);
    // From here on nobody can say which rows a name means, so nobody may guess.
    for text in [
        "LAST PARTITION LESS THAN (50)",
        "MERGE FIRST PARTITION LESS THAN (30)",
        "SPLIT MAXVALUE PARTITION LESS THAN (60)",
        "DROP PARTITION p1",
        "FIRST PARTITION LESS THAN (30)",
    ] {
        assert!(matches!(alter(text), Partitioning::Other { .. }), "{text}");
    }
    let dropped = partition_condition(&table, &["p2".to_owned()]);
    assert!(matches!(dropped, Err(ApplyError::Unsupported { .. })));
}

#[test]
fn what_cannot_be_told_is_refused() {
    let epoch =
        "RANGE (UNIX_TIMESTAMP(d)) (PARTITION p0 VALUES LESS THAN (UNIX_TIMESTAMP('2020-01-01 00:00:00')))";
    for (by, name) in [
        ("KEY (id) PARTITIONS 4", "p0"),
        ("RANGE (a) INTERVAL (10) FIRST PARTITION LESS THAN (0) LAST PARTITION LESS THAN (90)", "p0"),
        (epoch, "p0"),
        ("RANGE COLUMNS (a, b) (PARTITION p0 VALUES LESS THAN (1))", "p0"),
    ] {
        assert!(matches!(condition(by, &[name]), Err(ApplyError::Unsupported { .. })), "{by}");
    }
    for (by, names) in [
        ("HASH (a) PARTITIONS 4", &["p4"][..]),
        ("LIST (a) (PARTITION p0 VALUES IN (1))", &["p0", "nosuch"]),
        ("LIST (a) (PARTITION p0 VALUES IN (1))", &[]),
    ] {
        assert!(matches!(condition(by, names), Err(ApplyError::Missing { .. })), "{by}");
    }
    let plain = table("CREATE TABLE t (a INT)");
    assert!(matches!(partition_condition(&plain, &["p0".to_owned()]), Err(ApplyError::Unsupported { .. })));
}

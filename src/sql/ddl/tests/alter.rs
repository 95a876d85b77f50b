//! ALTER TABLE: texts to clauses, clauses to policies.

use super::{clauses, one, refused};
use crate::model::{ColumnDefault, KeyKind, Partitioning};
use crate::sql::ddl::ast::{AlterClause, ColumnPosition, PartitionDefinitions, Statement};
use crate::sql::ddl::kind::DdlKind;

fn alter(clauses_text: &str) -> Vec<AlterClause> {
    clauses(&format!("ALTER TABLE t {clauses_text}"))
}

fn kinds(sql: &str) -> Vec<&'static str> {
    one(sql).kinds().into_iter().map(DdlKind::as_str).collect()
}

#[test]
fn harmless_clauses_change_nothing() {
    for text in [
        "ADD CONSTRAINT fk FOREIGN KEY IF NOT EXISTS i (a) REFERENCES p (id) MATCH FULL ON DELETE NO ACTION",
        "DROP FOREIGN KEY IF EXISTS fk",
        "ADD CHECK (a > (0)) ENFORCED",
        "DROP CONSTRAINT ck",
        "ALTER CONSTRAINT ck NOT ENFORCED",
        "ALTER INDEX i VISIBLE",
        "FORCE AUTO_INCREMENT = 5",
        "FORCE",
        "AUTO_INCREMENT 5",
        "ENGINE=InnoDB ROW_FORMAT = DYNAMIC",
        "/*T! SHARD_ROW_ID_BITS = 4 */ /*T! PRE_SPLIT_REGIONS = 2 */",
        "ALGORITHM=INSTANT, LOCK NONE",
        "SET TIFLASH REPLICA 2 LOCATION LABELS 'a', 'b'",
        "COMPACT PARTITION p0 TIFLASH REPLICA",
        "REMOVE TTL",
        "NOCACHE",
        "ATTRIBUTES DEFAULT",
        "PARTITION p0 ATTRIBUTES = 'x'",
        "PARTITION p0 PLACEMENT POLICY = `p`",
        "STATS_OPTIONS = 'x'",
        "ADD STATS_EXTENDED IF NOT EXISTS s1 CORRELATION(a, b)",
        "DROP STATS_EXTENDED s1",
        "ORDER BY a, b DESC",
        "DISABLE KEYS",
        "REORGANIZE PARTITION",
        "ANALYZE PARTITION p0, p1",
        "WITHOUT VALIDATION",
    ] {
        let clauses = alter(text);
        assert!(
            clauses.iter().all(|clause| matches!(clause, AlterClause::Harmless { .. })),
            "{text}: {clauses:?}"
        );
        assert!(clauses.iter().all(|clause| clause.kinds().is_empty()));
    }
}

#[test]
fn columns_are_added_with_position_and_keys() {
    let clauses =
        alter("ADD a INT FIRST, ADD COLUMN IF NOT EXISTS b INT UNIQUE AFTER `a`, ADD (c INT, INDEX (c))");
    let [
        AlterClause::AddColumn {
            column: a, position: Some(ColumnPosition::First), if_not_exists: false, ..
        },
        AlterClause::AddColumn {
            position: Some(ColumnPosition::After(after)),
            keys,
            if_not_exists: true,
            ..
        },
        AlterClause::AddColumn { position: None, .. },
        AlterClause::AddKey { key, .. },
    ] = clauses.as_slice()
    else {
        panic!("{clauses:?}")
    };
    assert_eq!((a.name.as_str(), after.as_str()), ("a", "a"));
    assert_eq!((keys[0].kind, key.kind), (KeyKind::Unique, KeyKind::Index));
    // Words that begin other clauses are names where nothing else fits.
    assert!(matches!(alter("ADD stats_extended INT").as_slice(), [AlterClause::AddColumn { .. }]));
    assert!(matches!(alter("ADD vector INT").as_slice(), [AlterClause::AddColumn { .. }]));
    assert!(matches!(alter("DROP stats_extended").as_slice(), [AlterClause::DropColumn { .. }]));
    assert!(refused("ALTER TABLE t ADD VECTOR INDEX v ((VEC_L2_DISTANCE(e)))").1.contains("key"));
}

#[test]
fn columns_change() {
    let [AlterClause::ChangeColumn { old, column, position, .. }] = &alter("CHANGE a `B` INT NULL FIRST")[..]
    else {
        panic!()
    };
    assert_eq!((old.as_str(), column.name.as_str(), position), ("a", "B", &Some(ColumnPosition::First)));
    let [AlterClause::ChangeColumn { old, .. }] = &alter("MODIFY COLUMN IF EXISTS a INT")[..] else {
        panic!()
    };
    assert_eq!(old, "a");
    assert_eq!(
        alter("ALTER a SET DEFAULT (UUID()), ALTER COLUMN b DROP DEFAULT, RENAME COLUMN c TO d"),
        [
            AlterClause::SetDefault {
                column: "a".to_owned(),
                default: Some(ColumnDefault::Expression("(UUID())".to_owned()))
            },
            AlterClause::SetDefault { column: "b".to_owned(), default: None },
            AlterClause::RenameColumn { old: "c".to_owned(), new: "d".to_owned() },
        ]
    );
}

#[test]
fn character_sets_of_one_statement_are_one_clause() {
    let default = |charset: Option<&str>, collation: Option<&str>| AlterClause::DefaultCharset {
        charset: charset.map(str::to_owned),
        collation: collation.map(str::to_owned),
    };
    for (text, expected) in [
        ("DEFAULT CHARACTER SET = UTF8 COLLATE = utf8_bin", default(Some("utf8"), Some("utf8_bin"))),
        ("CHARSET utf8, COLLATE utf8_bin", default(Some("utf8"), Some("utf8_bin"))),
        ("COLLATE utf8_bin", default(Some("utf8"), Some("utf8_bin"))),
        ("CHARACTER SET DEFAULT", default(None, None)),
        (
            "CONVERT TO CHARSET DEFAULT",
            AlterClause::ConvertCharset { charset: "default".to_owned(), collation: None },
        ),
    ] {
        assert_eq!(alter(text), [expected], "{text}");
    }
}

#[test]
fn partitions_change() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let range = |name: &str, bound: &str| (name.to_owned(), vec![bound.to_owned()]);
    assert_eq!(
        alter("ADD PARTITION IF NOT EXISTS (PARTITION p VALUES LESS THAN (5))"),
        [AlterClause::AddPartitions { partitioning: PartitionDefinitions::Range(vec![range("p", "5")]) }]
    );
    assert_eq!(
        alter("ADD PARTITION (PARTITION p COMMENT 'x')"),
        [AlterClause::AddPartitions { partitioning: PartitionDefinitions::Named(names(&["p"])) }]
    );
    assert_eq!(alter("ADD PARTITION LOCAL PARTITIONS 3"), [AlterClause::ChangePartitionCount { by: 3 }]);
    assert_eq!(alter("COALESCE PARTITION 2"), [AlterClause::ChangePartitionCount { by: -2 }]);
    assert_eq!(
        alter("DROP PARTITION IF EXISTS a, b"),
        [AlterClause::DropPartitions { names: names(&["a", "b"]), if_exists: true }]
    );
    assert_eq!(alter("TRUNCATE PARTITION ALL"), [AlterClause::TruncatePartitions { names: None }]);
    assert_eq!(
        alter("TRUNCATE PARTITION `all`"),
        [AlterClause::TruncatePartitions { names: Some(names(&["all"])) }]
    );
    assert_eq!(
        alter("REORGANIZE PARTITION a INTO (PARTITION b VALUES IN (1))"),
        [AlterClause::ReorganizePartitions {
            names: names(&["a"]),
            partitioning: PartitionDefinitions::List(vec![("b".to_owned(), vec![names(&["1"])])]),
        }]
    );
    let hash = Partitioning::Hash { expression: "a".to_owned(), count: 2, names: vec![] };
    assert_eq!(
        alter("COMMENT 'c' PARTITION BY HASH (a) PARTITIONS 2 UPDATE INDEXES (i GLOBAL)"),
        [
            AlterClause::Comment { text: "c".to_owned() },
            AlterClause::SetPartitioning { partitioning: Some(hash) }
        ]
    );
    assert_eq!(alter("REMOVE PARTITIONING"), [AlterClause::SetPartitioning { partitioning: None }]);
}

#[test]
fn each_clause_asks_its_policy() {
    for (sql, expected) in [
        ("CREATE DATABASE d", &["create_database"][..]),
        ("ALTER DATABASE d CHARSET utf8", &[]),
        ("DROP SCHEMA d", &["drop_database"]),
        ("CREATE TABLE t LIKE s", &["create_table"]),
        ("DROP TABLE t", &["drop_table"]),
        ("TRUNCATE t", &["truncate_table"]),
        ("RENAME TABLE a TO b", &["rename_table"]),
        ("CREATE INDEX i ON t (a)", &[]),
        ("DROP INDEX i ON t", &[]),
        ("ALTER TABLE t RENAME b", &["rename_table"]),
        (
            "ALTER TABLE t ADD a INT, DROP b, ADD c INT, ADD KEY (a), COMMENT 'x'",
            &["add_column", "drop_column"],
        ),
        ("ALTER TABLE t CHANGE a b INT", &["rename_column", "modify_column"]),
        ("ALTER TABLE t CHANGE a a INT, MODIFY b INT", &["modify_column"]),
        ("ALTER TABLE t ALTER a SET DEFAULT 1, CONVERT TO CHARSET utf8", &["modify_column"]),
        ("ALTER TABLE t RENAME COLUMN a TO b", &["rename_column"]),
        ("ALTER TABLE t TRUNCATE PARTITION p", &["partition"]),
        ("ALTER TABLE t REMOVE PARTITIONING", &["partition"]),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", &["other"]),
        ("ALTER TABLE t DEFAULT CHARSET utf8, ADD PRIMARY KEY (a), DROP KEY k, RENAME KEY a TO b", &[]),
    ] {
        assert_eq!(kinds(sql), expected, "{sql}");
    }
}

#[test]
fn indexes() {
    let Statement::CreateIndex { table, key, if_not_exists } = one(
        "CREATE UNIQUE INDEX IF NOT EXISTS i USING BTREE ON d.t (a(3) ASC, (b + 1)) COMMENT 'x' ALGORITHM=INPLACE LOCK = NONE",
    ) else {
        panic!()
    };
    assert!(if_not_exists);
    assert_eq!((table.schema.as_deref(), key.kind, key.parts.len()), (Some("d"), KeyKind::Unique, 2));
    let Statement::DropIndex { name, if_exists, .. } = one("DROP INDEX IF EXISTS `PRIMARY` ON t LOCK=NONE")
    else {
        panic!()
    };
    assert!(if_exists);
    assert_eq!(name, "PRIMARY");
}

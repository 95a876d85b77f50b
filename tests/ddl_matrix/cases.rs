//! The rows of the matrix: one statement kind each.

/// `{t}` is the case's table, `{u}` a second one; what a name begins with tells the case.
pub struct Case {
    pub name: &'static str,
    /// Definition of `{t}` without its name.
    pub table: &'static str,
    /// Further statements before the rows: other tables.
    pub with: &'static [&'static str],
    /// Rows that are there before.
    pub rows: &'static str,
    pub ddl: &'static [&'static str],
    /// Changes of rows afterwards.
    pub after: &'static [&'static str],
    /// A real Drainer breaks on it: planned, not run.
    pub only_planned: bool,
}

const T: &str = "(id INT PRIMARY KEY, a INT NOT NULL DEFAULT 1, v VARCHAR(20), KEY ka (a))";
const ROWS: &str = "INSERT INTO {t} (id, v) VALUES (1, 'one'), (2, NULL), (3, 'three')";
const MORE: &[&str] = &[
    "INSERT INTO {t} (id) VALUES (10)",
    "UPDATE {t} SET id = 11 WHERE id = 1",
    "DELETE FROM {t} WHERE id = 2",
];

const fn case(name: &'static str, ddl: &'static [&'static str]) -> Case {
    Case { name, table: T, with: &[], rows: ROWS, ddl, after: MORE, only_planned: false }
}

const fn on(name: &'static str, table: &'static str, ddl: &'static [&'static str]) -> Case {
    Case { table, ..case(name, ddl) }
}

const fn planned(case: Case) -> Case {
    Case { only_planned: true, ..case }
}

const fn with(case: Case, with: &'static [&'static str]) -> Case {
    Case { with, ..case }
}

/// Rows afterwards are in another table, or nowhere.
const fn then(case: Case, after: &'static [&'static str]) -> Case {
    Case { after, ..case }
}

const RANGE: &str = "(id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (3), PARTITION p1 VALUES LESS THAN (100))";
const COLUMNS: &str = "(id INT, d DATE NOT NULL DEFAULT '2024-01-01', v VARCHAR(20), PRIMARY KEY (id, d)) PARTITION BY RANGE COLUMNS (d) (PARTITION p0 VALUES LESS THAN ('2024-02-01'), PARTITION p1 VALUES LESS THAN (MAXVALUE))";
const LIST: &str = "(id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY LIST (id) (PARTITION p0 VALUES IN (1, 3, 10), PARTITION p1 VALUES IN (2, 11))";
const LIST_COLUMNS: &str = "(id INT, c VARCHAR(5) NOT NULL DEFAULT 'x', v VARCHAR(20), PRIMARY KEY (id, c)) PARTITION BY LIST COLUMNS (c) (PARTITION p0 VALUES IN ('x'), PARTITION p1 VALUES IN ('y'))";
const HASH: &str = "(id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY HASH (id) PARTITIONS 3";
const KEY: &str = "(id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY KEY (id) PARTITIONS 3";
const OTHER: &[&str] =
    &["CREATE TABLE {u} (id INT PRIMARY KEY, a INT NOT NULL DEFAULT 1, v VARCHAR(20), KEY ka (a))"];

pub const CASES: &[Case] = &[
    then(
        case(
            "CREATE TABLE",
            &["CREATE TABLE {u} (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(9) DEFAULT 'x')"],
        ),
        &["INSERT INTO {u} (id) VALUES (1)"],
    ),
    then(case("CREATE TABLE ... LIKE", &["CREATE TABLE {u} LIKE {t}"]), &["INSERT INTO {u} (id) VALUES (1)"]),
    then(
        case(
            "CREATE GLOBAL TEMPORARY TABLE",
            &["CREATE GLOBAL TEMPORARY TABLE {u} (id INT PRIMARY KEY) ON COMMIT DELETE ROWS"],
        ),
        &[],
    ),
    then(case("DROP TABLE", &["DROP TABLE {t}"]), &[]),
    then(with(case("DROP TABLE of two", &["DROP TABLE {t}, {u}"]), OTHER), &[]),
    case(
        "DROP TABLE, then CREATE TABLE with other columns",
        &[
            "DROP TABLE {t}",
            "CREATE TABLE {t} (id VARCHAR(9) PRIMARY KEY, w INT)",
            "INSERT INTO {t} VALUES ('1', 1), ('2', 2)",
        ],
    ),
    case("TRUNCATE TABLE", &["TRUNCATE TABLE {t}"]),
    then(
        case("RENAME TABLE", &["RENAME TABLE {t} TO {u}"]),
        &["INSERT INTO {u} (id) VALUES (10)", "DELETE FROM {u} WHERE id = 2"],
    ),
    then(
        case("ALTER TABLE ... RENAME", &["ALTER TABLE {t} RENAME TO {u}"]),
        &["INSERT INTO {u} (id) VALUES (10)", "DELETE FROM {u} WHERE id = 2"],
    ),
    planned(with(
        case("RENAME TABLE that swaps two", &["RENAME TABLE {t} TO {t}_x, {u} TO {t}, {t}_x TO {u}"]),
        OTHER,
    )),
    case(
        "RENAME TABLE of an online DDL (gh-ost)",
        &[
            "CREATE TABLE _{t}_gho LIKE {t}",
            "ALTER TABLE _{t}_gho ADD COLUMN z INT",
            "INSERT INTO _{t}_gho (id, a, v) SELECT id, a, v FROM {t}",
            "RENAME TABLE {t} TO _{t}_del, _{t}_gho TO {t}",
        ],
    ),
    case("ADD COLUMN", &["ALTER TABLE {t} ADD COLUMN c INT"]),
    case("ADD COLUMN NOT NULL DEFAULT", &["ALTER TABLE {t} ADD COLUMN c VARCHAR(9) NOT NULL DEFAULT 'dee'"]),
    case("ADD COLUMN NOT NULL without a default", &["ALTER TABLE {t} ADD COLUMN c DECIMAL(9,2) NOT NULL"]),
    case("ADD COLUMN FIRST", &["ALTER TABLE {t} ADD COLUMN c INT DEFAULT 5 FIRST"]),
    case("ADD COLUMN AFTER", &["ALTER TABLE {t} ADD COLUMN c INT DEFAULT 5 AFTER id"]),
    case("ADD COLUMN (several)", &["ALTER TABLE {t} ADD COLUMN (c INT DEFAULT 5, d VARCHAR(9) DEFAULT 'd')"]),
    case(
        "ADD COLUMN of several clauses",
        &["ALTER TABLE {t} ADD COLUMN c INT DEFAULT 5, ADD COLUMN d VARCHAR(9) DEFAULT 'd' AFTER a"],
    ),
    case(
        "ADD COLUMN IF NOT EXISTS of one that is there",
        &["ALTER TABLE {t} ADD COLUMN IF NOT EXISTS a INT"],
    ),
    case(
        "ADD COLUMN with a key",
        &["ALTER TABLE {t} ADD COLUMN c INT", "ALTER TABLE {t} ADD UNIQUE KEY uc (c), ADD KEY kc (a, v(5))"],
    ),
    case("ADD COLUMN, generated and virtual", &["ALTER TABLE {t} ADD COLUMN g INT AS (a + 1) VIRTUAL"]),
    case(
        "ADD COLUMN of a FLOAT with a default",
        &["ALTER TABLE {t} ADD COLUMN c FLOAT NOT NULL DEFAULT 1.5"],
    ),
    case("DROP COLUMN", &["ALTER TABLE {t} DROP COLUMN v"]),
    case("DROP COLUMN of an indexed column", &["ALTER TABLE {t} DROP INDEX ka, DROP COLUMN a"]),
    case(
        "DROP COLUMN, then ADD COLUMN of another type",
        &["ALTER TABLE {t} DROP COLUMN v", "ALTER TABLE {t} ADD COLUMN v INT DEFAULT 7"],
    ),
    case("RENAME COLUMN", &["ALTER TABLE {t} RENAME COLUMN v TO w"]),
    then(
        case("RENAME COLUMN of the key", &["ALTER TABLE {t} RENAME COLUMN id TO id2"]),
        &["INSERT INTO {t} (id2) VALUES (10)", "DELETE FROM {t} WHERE id2 = 2"],
    ),
    case("CHANGE COLUMN: name alone", &["ALTER TABLE {t} CHANGE COLUMN v w VARCHAR(20)"]),
    case(
        "CHANGE COLUMN: name and wider type",
        &["ALTER TABLE {t} DROP INDEX ka", "ALTER TABLE {t} CHANGE COLUMN a b BIGINT NOT NULL DEFAULT 1"],
    ),
    case("MODIFY COLUMN: wider integer", &["ALTER TABLE {t} MODIFY COLUMN a BIGINT NOT NULL DEFAULT 1"]),
    case("MODIFY COLUMN: longer text", &["ALTER TABLE {t} MODIFY COLUMN v VARCHAR(200)"]),
    case("MODIFY COLUMN: shorter text", &["ALTER TABLE {t} MODIFY COLUMN v VARCHAR(10)"]),
    case("MODIFY COLUMN: narrower integer", &["ALTER TABLE {t} MODIFY COLUMN a SMALLINT NOT NULL DEFAULT 1"]),
    on(
        "MODIFY COLUMN: integer to text",
        "(id INT PRIMARY KEY, a INT DEFAULT 5, v VARCHAR(20))",
        &["ALTER TABLE {t} MODIFY COLUMN a VARCHAR(20)"],
    ),
    case("MODIFY COLUMN: text to TEXT", &["ALTER TABLE {t} MODIFY COLUMN v TEXT"]),
    on(
        "MODIFY COLUMN: NULL to NOT NULL",
        "(id INT PRIMARY KEY, a INT DEFAULT 5, v VARCHAR(20))",
        &["ALTER TABLE {t} MODIFY COLUMN a INT NOT NULL DEFAULT 5"],
    ),
    case("MODIFY COLUMN: NOT NULL to NULL", &["ALTER TABLE {t} MODIFY COLUMN a INT NULL"]),
    case("MODIFY COLUMN FIRST", &["ALTER TABLE {t} MODIFY COLUMN v VARCHAR(20) FIRST"]),
    case("MODIFY COLUMN: type of the key", &["ALTER TABLE {t} MODIFY COLUMN id BIGINT"]),
    on(
        "MODIFY COLUMN: another label of an ENUM at the end",
        "(id INT PRIMARY KEY, v ENUM('one','three') NULL)",
        &["ALTER TABLE {t} MODIFY COLUMN v ENUM('one','three','four') NULL"],
    ),
    on(
        "MODIFY COLUMN: labels of an ENUM in another order",
        "(id INT PRIMARY KEY, v ENUM('one','three') NULL)",
        &["ALTER TABLE {t} MODIFY COLUMN v ENUM('three','one') NULL"],
    ),
    case("ALTER COLUMN SET DEFAULT", &["ALTER TABLE {t} ALTER COLUMN a SET DEFAULT 9"]),
    case("ALTER COLUMN DROP DEFAULT", &["ALTER TABLE {t} ALTER COLUMN v DROP DEFAULT"]),
    case("ADD INDEX", &["ALTER TABLE {t} ADD INDEX kv (v)"]),
    case("ADD INDEX of a prefix", &["CREATE INDEX kp ON {t} (v(3))"]),
    case("ADD UNIQUE KEY", &["ALTER TABLE {t} ADD UNIQUE KEY uv (v)"]),
    case("ADD INDEX of an expression", &["CREATE INDEX ke ON {t} ((LOWER(v)))"]),
    case("DROP INDEX", &["DROP INDEX ka ON {t}"]),
    case("RENAME INDEX", &["ALTER TABLE {t} RENAME INDEX ka TO kb"]),
    case("ALTER INDEX INVISIBLE", &["ALTER TABLE {t} ALTER INDEX ka INVISIBLE"]),
    on(
        "DROP PRIMARY KEY, ADD PRIMARY KEY",
        "(id INT, a INT NOT NULL DEFAULT 1, v VARCHAR(20), PRIMARY KEY (id) NONCLUSTERED)",
        &["ALTER TABLE {t} DROP PRIMARY KEY", "ALTER TABLE {t} ADD PRIMARY KEY (id, a) NONCLUSTERED"],
    ),
    with(
        case(
            "ADD FOREIGN KEY",
            &["ALTER TABLE {t} ADD CONSTRAINT f_{t} FOREIGN KEY (a) REFERENCES {u} (id)"],
        ),
        &["CREATE TABLE {u} (id INT PRIMARY KEY)", "INSERT INTO {u} VALUES (1)"],
    ),
    case("ADD CHECK", &["ALTER TABLE {t} ADD CONSTRAINT c_{t} CHECK (a > 0)"]),
    case("COMMENT", &["ALTER TABLE {t} COMMENT = 'it''s'"]),
    case(
        "DEFAULT CHARACTER SET",
        &["ALTER TABLE {t} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"],
    ),
    case(
        "CONVERT TO CHARACTER SET",
        &["ALTER TABLE {t} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"],
    ),
    on(
        "TTL, REMOVE TTL",
        "(id INT PRIMARY KEY, at DATETIME DEFAULT '2040-01-01', v VARCHAR(20))",
        &["ALTER TABLE {t} TTL = at + INTERVAL 50 YEAR", "ALTER TABLE {t} REMOVE TTL"],
    ),
    case("AUTO_INCREMENT", &["ALTER TABLE {t} AUTO_INCREMENT = 100"]),
    case("SHARD_ROW_ID_BITS, TiFlash and their like", &["ALTER TABLE {t} AUTO_ID_CACHE = 100"]),
    on("ADD PARTITION", RANGE, &["ALTER TABLE {t} ADD PARTITION (PARTITION p2 VALUES LESS THAN (200))"]),
    on("DROP PARTITION of RANGE", RANGE, &["ALTER TABLE {t} DROP PARTITION p0"]),
    on("TRUNCATE PARTITION of RANGE", RANGE, &["ALTER TABLE {t} TRUNCATE PARTITION p0"]),
    on("DROP PARTITION of RANGE COLUMNS", COLUMNS, &["ALTER TABLE {t} DROP PARTITION p0"]),
    on("TRUNCATE PARTITION of LIST", LIST, &["ALTER TABLE {t} TRUNCATE PARTITION p1"]),
    on(
        "DROP PARTITION of LIST COLUMNS",
        LIST_COLUMNS,
        &["INSERT INTO {t} (id, c) VALUES (50, 'y')", "ALTER TABLE {t} DROP PARTITION p1"],
    ),
    on("TRUNCATE PARTITION of HASH", HASH, &["ALTER TABLE {t} TRUNCATE PARTITION p1"]),
    on("TRUNCATE PARTITION ALL", RANGE, &["ALTER TABLE {t} TRUNCATE PARTITION ALL"]),
    // Later than TiDB 7.0.
    planned(on("ADD PARTITION PARTITIONS", HASH, &["ALTER TABLE {t} ADD PARTITION PARTITIONS 2"])),
    planned(on("COALESCE PARTITION", HASH, &["ALTER TABLE {t} COALESCE PARTITION 1"])),
    planned(on(
        "PARTITION BY, REMOVE PARTITIONING",
        RANGE,
        &["ALTER TABLE {t} REMOVE PARTITIONING", "ALTER TABLE {t} PARTITION BY HASH (id) PARTITIONS 2"],
    )),
    planned(on("TRUNCATE PARTITION of KEY", KEY, &["ALTER TABLE {t} TRUNCATE PARTITION p1"])),
    on(
        "REORGANIZE PARTITION",
        RANGE,
        &[
            "ALTER TABLE {t} REORGANIZE PARTITION p0 INTO (PARTITION n0 VALUES LESS THAN (2), PARTITION n1 VALUES LESS THAN (3))",
        ],
    ),
    planned(with(
        on("EXCHANGE PARTITION", RANGE, &["ALTER TABLE {t} EXCHANGE PARTITION p0 WITH TABLE {u}"]),
        &["CREATE TABLE {u} (id INT PRIMARY KEY, v VARCHAR(20))"],
    )),
    planned(case("RECOVER TABLE", &["RECOVER TABLE {t}"])),
    planned(case("FLASHBACK TABLE", &["FLASHBACK TABLE {t} TO {t}"])),
    case("CREATE VIEW, DROP VIEW", &["CREATE VIEW {u} AS SELECT 1", "DROP VIEW {u}"]),
    case("CREATE SEQUENCE, DROP SEQUENCE", &["CREATE SEQUENCE {u}", "DROP SEQUENCE {u}"]),
];

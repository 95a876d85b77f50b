//! CREATE TABLE: types, defaults, attributes, keys, partitions.

use super::{column, one, refused, table};
use crate::model::{
    ColumnDefault, ColumnType, Generated, Key, KeyKind, KeyPart, Partitioning, Table, TypeName,
};
use crate::sql::ddl::ast::Statement;

fn ty(name: TypeName) -> ColumnType {
    ColumnType::new(name)
}

fn sized(name: TypeName, length: u32) -> ColumnType {
    ColumnType { length: Some(length), ..ty(name) }
}

fn scaled(name: TypeName, length: u32, scale: u32) -> ColumnType {
    ColumnType { scale: Some(scale), ..sized(name, length) }
}

fn in_charset(base: ColumnType, charset: &str, collation: Option<&str>) -> ColumnType {
    ColumnType { charset: Some(charset.to_owned()), collation: collation.map(str::to_owned), ..base }
}

#[test]
fn synonyms_are_resolved() {
    use TypeName::*;
    for (text, expected) in [
        ("BOOL", sized(TinyInt, 1)),
        ("boolean", sized(TinyInt, 1)),
        ("INT1", ty(TinyInt)),
        ("INT2(5)", sized(SmallInt, 5)),
        ("MIDDLEINT", ty(MediumInt)),
        ("INT3", ty(MediumInt)),
        ("INTEGER", ty(Int)),
        ("INT8 SIGNED", ty(BigInt)),
        ("BIGINT(20) UNSIGNED", ColumnType { unsigned: true, ..sized(BigInt, 20) }),
        ("INT ZEROFILL", ColumnType { unsigned: true, zerofill: true, ..ty(Int) }),
        ("FLOAT", ty(Float)),
        ("FLOAT(24)", ty(Float)),
        ("FLOAT(25)", ty(Double)),
        ("FLOAT(7,3)", scaled(Float, 7, 3)),
        ("FLOAT4 UNSIGNED", ColumnType { unsigned: true, ..ty(Float) }),
        ("DOUBLE PRECISION", ty(Double)),
        ("REAL(10,4)", scaled(Double, 10, 4)),
        ("DEC", scaled(Decimal, 10, 0)),
        ("NUMERIC(5)", scaled(Decimal, 5, 0)),
        ("FIXED(10,2)", scaled(Decimal, 10, 2)),
        ("BIT", sized(Bit, 1)),
        ("YEAR(4)", ty(Year)),
        ("DATETIME(0)", ty(DateTime)),
        ("TIMESTAMP(6)", sized(Timestamp, 6)),
        ("CHAR", sized(Char, 1)),
        ("CHARACTER(3)", sized(Char, 3)),
        ("CHARACTER VARYING(3)", sized(VarChar, 3)),
        ("CHAR VARYING (3)", sized(VarChar, 3)),
        ("NATIONAL CHAR(3)", sized(Char, 3)),
        ("NATIONAL CHARACTER VARYING(3)", sized(VarChar, 3)),
        ("NATIONAL VARCHAR(3)", sized(VarChar, 3)),
        ("NCHAR(3)", sized(Char, 3)),
        ("NCHAR VARCHAR(3)", sized(VarChar, 3)),
        ("NVARCHAR(3)", sized(VarChar, 3)),
        ("LONG", ty(MediumText)),
        ("LONG VARCHAR", ty(MediumText)),
        ("LONG CHAR VARYING", ty(MediumText)),
        ("LONG VARBINARY", ty(MediumBlob)),
        ("BINARY", sized(Binary, 1)),
        ("CHAR(3) BYTE", sized(Binary, 3)),
        ("CHAR BYTE", sized(Binary, 1)),
        ("CHAR(5) CHARACTER SET binary", sized(Binary, 5)),
        ("VARCHAR(5) CHARSET=BINARY", sized(VarBinary, 5)),
        ("VARCHAR(5) COLLATE binary", sized(VarBinary, 5)),
        ("TINYTEXT CHARACTER SET binary", ty(TinyBlob)),
        ("TEXT CHAR SET binary", ty(Blob)),
        ("LONGTEXT CHARACTER SET 'binary'", ty(LongBlob)),
        ("TEXT(63)", ty(TinyText)),
        ("TEXT(64)", ty(Text)),
        ("TEXT(255) CHARACTER SET latin1", in_charset(ty(TinyText), "latin1", None)),
        ("TEXT(16384)", ty(MediumText)),
        ("BLOB(255)", ty(TinyBlob)),
        ("BLOB(65535)", ty(Blob)),
        ("BLOB(65536)", ty(MediumBlob)),
        ("BLOB(16777216)", ty(LongBlob)),
        ("VARCHAR(9) CHARACTER SET UTF8MB3", in_charset(sized(VarChar, 9), "utf8", None)),
        (
            "VARCHAR(9) COLLATE Utf8mb4_General_CI",
            in_charset(sized(VarChar, 9), "utf8mb4", Some("utf8mb4_general_ci")),
        ),
        ("VARCHAR(9) NOT NULL COLLATE gbk_bin", in_charset(sized(VarChar, 9), "gbk", Some("gbk_bin"))),
        ("VARCHAR(9) BINARY", in_charset(sized(VarChar, 9), "utf8mb4", Some("utf8mb4_bin"))),
        ("VARCHAR(9) CHARSET latin1 BINARY", in_charset(sized(VarChar, 9), "latin1", Some("latin1_bin"))),
        ("VARCHAR(9) ASCII", in_charset(sized(VarChar, 9), "latin1", None)),
        ("JSON", ty(Json)),
    ] {
        assert_eq!(column(text).ty, expected, "{text}");
    }
}

#[test]
fn labels_are_unquoted_and_cut_at_the_end() {
    for (text, expected) in [
        ("ENUM('a','b,c','it''s','中文', \"d\"\"e\")", vec!["a", "b,c", "it's", "中文", "d\"e"]),
        ("SET('x ', ' y', N'z', _utf8mb4'w')", vec!["x", " y", "z", "w"]),
        (r"ENUM('\f\a', 'C:\\x', 0x61, x'62')", vec!["fa", "C:\\x", "a", "b"]),
    ] {
        assert_eq!(column(text).ty.labels, expected, "{text}");
    }
}

/// Texts as TiDB v7.0 wrote them for `C:\x`, a line feed and a backslash at the end.
#[test]
fn a_backslash_means_what_the_writer_of_the_text_means_by_it() {
    let labels = |sql: &str| table(sql).columns.remove(0).ty.labels;
    let written = r"CREATE TABLE t (b ENUM('C:\\x','it\'s','a\nb'))";
    assert_eq!(labels(written), ["C:\\x", "it's", "a\nb"]);
    let canonical = "CREATE TABLE `t` (`b` ENUM('C:\\x','it''s','a\nb') COLLATE utf8mb4_bin DEFAULT _UTF8MB4'C:\\\\x' COMMENT 'c\\\\x') COMMENT = 't\\u';";
    let table = table(canonical);
    assert_eq!(table.columns[0].ty.labels, ["C:\\x", "it's", "a\nb"]);
    assert_eq!(table.columns[0].default, Some(ColumnDefault::Literal("C:\\x".to_owned())));
    assert_eq!((table.columns[0].comment.as_str(), table.comment.as_str()), ("c\\x", "t\\u"));
    let shown = "CREATE TABLE `t` (\n  `b` enum('C:\\x') DEFAULT NULL\n)";
    assert_eq!(refused(shown).1, "a label without a backslash");
    let shown = "CREATE TABLE `t` (\n  `b` enum('x') DEFAULT NULL COMMENT 'C:\\\\x'\n) COMMENT='t\\\\u'";
    assert_eq!(super::table(shown).comment, "t\\u");
}

#[test]
fn defaults_are_kept_in_the_form_of_their_type() {
    let literal = |text: &str| Some(ColumnDefault::Literal(text.to_owned()));
    for (text, expected) in [
        ("ENUM('a','b') DEFAULT 2", literal("b")),
        ("ENUM('a','2') DEFAULT '2'", literal("2")),
        ("SET('a','b','c') DEFAULT 5", literal("a,c")),
        ("SET('a') DEFAULT 0", literal("")),
        ("ENUM('2','a') DEFAULT 2", literal("a")),
        ("VARCHAR(9) DEFAULT 0x6162", literal("ab")),
        ("TINYINT(1) DEFAULT b'1'", literal("1")),
        ("BIGINT UNSIGNED DEFAULT 0xffffffffffffffff", literal("18446744073709551615")),
    ] {
        assert_eq!(column(text).default, expected, "{text}");
    }
}

#[test]
fn defaults() {
    use ColumnDefault::{Bits, CurrentTimestamp, Expression, Literal, Null};
    let literal = |text: &str| Some(Literal(text.to_owned()));
    let expression = |text: &str| Some(Expression(text.to_owned()));
    for (text, expected) in [
        ("INT", None),
        ("INT DEFAULT NULL", Some(Null)),
        ("INT DEFAULT 5", literal("5")),
        ("INT DEFAULT -5", literal("-5")),
        ("INT DEFAULT + 5", literal("5")),
        ("DOUBLE DEFAULT .5", literal(".5")),
        ("DOUBLE DEFAULT 1.5e-3", literal("1.5e-3")),
        ("INT DEFAULT '0'", literal("0")),
        ("BOOL DEFAULT TRUE", literal("1")),
        ("BOOL DEFAULT false", literal("0")),
        ("VARCHAR(9) DEFAULT ''", literal("")),
        ("VARCHAR(9) DEFAULT _UTF8MB4'it''s'", literal("it's")),
        ("VARCHAR(9) DEFAULT N'x'", literal("x")),
        ("VARCHAR(9) DEFAULT 'a' 'b'", literal("ab")),
        ("VARCHAR(9) DEFAULT 'NOW()'", literal("NOW()")),
        ("INT DEFAULT (5)", literal("5")),
        ("BIT(8) DEFAULT b'101'", Some(Bits(vec![5]))),
        ("BIT(16) DEFAULT 0b100000000", Some(Bits(vec![1, 0]))),
        ("BINARY(2) DEFAULT x'00fF'", Some(Bits(vec![0, 255]))),
        ("BINARY(2) DEFAULT _binary 0xFf", Some(Bits(vec![255]))),
        ("DATETIME DEFAULT CURRENT_TIMESTAMP", Some(CurrentTimestamp { fsp: 0 })),
        ("DATETIME DEFAULT current_timestamp()", Some(CurrentTimestamp { fsp: 0 })),
        ("DATETIME(3) DEFAULT NOW(3)", Some(CurrentTimestamp { fsp: 3 })),
        ("DATETIME DEFAULT LOCALTIME", Some(CurrentTimestamp { fsp: 0 })),
        ("DATETIME(6) DEFAULT LOCALTIMESTAMP(6)", Some(CurrentTimestamp { fsp: 6 })),
        ("DATETIME DEFAULT (NOW())", Some(CurrentTimestamp { fsp: 0 })),
        ("VARCHAR(36) DEFAULT (UUID())", expression("(UUID())")),
        ("VARCHAR(36) DEFAULT uuid()", expression("uuid()")),
        ("JSON DEFAULT (JSON_OBJECT('a', (1 + 2)))", expression("(JSON_OBJECT('a', (1 + 2)))")),
        ("INT DEFAULT NEXTVAL(`a`.`s`)", expression("NEXTVAL(`a`.`s`)")),
        ("INT DEFAULT NEXT VALUE FOR s", expression("NEXT VALUE FOR s")),
        ("DATE DEFAULT (CURRENT_DATE)", expression("(CURRENT_DATE)")),
        ("DATE DEFAULT CURRENT_DATE", expression("CURRENT_DATE")),
    ] {
        assert_eq!(column(text).default, expected, "{text}");
    }
}

#[test]
fn attributes_in_any_order() {
    let c = column("INT COMMENT 'it''s' NOT NULL DEFAULT 1 AUTO_INCREMENT");
    assert!(!c.nullable && c.auto_increment);
    assert_eq!(c.comment, "it's");
    let c = column("TIMESTAMP");
    assert!(c.nullable && c.default.is_none(), "explicit_defaults_for_timestamp is on");
    let c = column("TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3) NULL");
    assert!(c.nullable && c.on_update_now);
    let c =
        column("BIGINT /*T![auto_rand] AUTO_RANDOM(5, 54) */ NOT NULL COLUMN_FORMAT DEFAULT STORAGE DISK");
    assert!(!c.nullable);
    let c = column(
        "INT CHECK (c > 0) NOT ENFORCED CONSTRAINT k CHECK (c < 9) NOT NULL REFERENCES p (a) ON DELETE SET NULL",
    );
    assert!(!c.nullable);
    let generated = |text: &str| column(text).generated;
    let expected = |expression: &str, stored| Some(Generated { expression: expression.to_owned(), stored });
    assert_eq!(generated("INT AS (a + (1))"), expected("a + (1)", false));
    assert_eq!(generated("INT GENERATED ALWAYS AS(`a`+1) VIRTUAL NOT NULL"), expected("`a`+1", false));
    assert_eq!(
        generated("VARCHAR(9) AS (CONCAT(`a`, _UTF8MB4')', _binary'b', /* c */ '\n')) STORED"),
        expected("CONCAT(`a`, ')', _binary'b', '\n')", true)
    );
}

fn key(name: Option<&str>, kind: KeyKind, columns: &[&str]) -> Key {
    let parts =
        columns.iter().map(|name| KeyPart::Column { name: (*name).to_owned(), prefix: None }).collect();
    Key { name: name.map(str::to_owned), kind, parts, clustered: None }
}

#[test]
fn keys_come_from_columns_and_from_the_table() {
    let table = table(
        "CREATE TABLE t (a INT UNIQUE KEY, b INT, c SERIAL, d VARCHAR(9),
            KEY (b) USING BTREE COMMENT 'x' VISIBLE, CONSTRAINT sy UNIQUE INDEX ix (a, b),
            INDEX USING HASH (d), KEY e ((LOWER(d)), d(3) DESC) KEY_BLOCK_SIZE = 4,
            FULLTEXT ft (d) WITH PARSER ngram, PRIMARY KEY pk (b, a) /*T![clustered_index] NONCLUSTERED */,
            CONSTRAINT UNIQUE (d), UNIQUE u (b) /*T![global_index] GLOBAL */)",
    );
    let expected = vec![
        Key { clustered: Some(false), ..key(Some("PRIMARY"), KeyKind::Primary, &["b", "a"]) },
        key(None, KeyKind::Index, &["b"]),
        key(Some("sy"), KeyKind::Unique, &["a", "b"]),
        key(None, KeyKind::Index, &["d"]),
        Key {
            parts: vec![
                KeyPart::Expression("LOWER(d)".to_owned()),
                KeyPart::Column { name: "d".to_owned(), prefix: Some(3) },
            ],
            ..key(Some("e"), KeyKind::Index, &[])
        },
        key(Some("ft"), KeyKind::Fulltext, &["d"]),
        key(None, KeyKind::Unique, &["d"]),
        key(Some("u"), KeyKind::Unique, &["b"]),
        key(None, KeyKind::Unique, &["a"]),
        key(None, KeyKind::Unique, &["c"]),
    ];
    assert_eq!(table.keys, expected);
    let nullable: Vec<bool> = table.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, false, true]);
    assert!(table.columns[2].ty.unsigned && table.columns[2].auto_increment);
    assert_eq!(table.columns[2].ty.name, TypeName::BigInt);
}

#[test]
fn a_foreign_key_brings_its_index_unless_one_begins_with_its_columns() {
    let keys = |sql: &str| table(sql).keys;
    let sql =
        "CREATE TABLE t (a INT, b INT, CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE)";
    assert_eq!(keys(sql), [key(Some("f"), KeyKind::Index, &["a"])]);
    let sql = "CREATE TABLE t (a INT, b INT, UNIQUE x (A, b), FOREIGN KEY (a) REFERENCES p (id))";
    assert_eq!(keys(sql).len(), 1);
    let sql = "CREATE TABLE t (a INT, b INT, c INT, FOREIGN KEY (a) REFERENCES p (id), KEY q (b), FOREIGN KEY (b) REFERENCES p (id), CONSTRAINT fk_3 FOREIGN KEY (c) REFERENCES p (id), FOREIGN KEY (c) REFERENCES p (d))";
    let names: Vec<_> = keys(sql).into_iter().filter_map(|key| key.name).collect();
    assert_eq!(names, ["q", "fk_1", "fk_3"]);
}

#[test]
fn options_of_the_table() {
    let options = |text: &str| {
        let Table { charset, collation, comment, .. } = table(&format!("CREATE TABLE t (a TEXT) {text}"));
        (charset.unwrap_or_default(), collation.unwrap_or_default(), comment)
    };
    let expected = |charset: &str, collation: &str, comment: &str| {
        (charset.to_owned(), collation.to_owned(), comment.to_owned())
    };
    for (text, want) in [
        ("", expected("", "", "")),
        ("DEFAULT CHARSET=UTF8MB4, COLLATE utf8mb4_bin", expected("utf8mb4", "utf8mb4_bin", "")),
        ("COLLATE='latin1_bin' COMMENT 'x' 'y'", expected("latin1", "latin1_bin", "xy")),
        ("CHARACTER SET = DEFAULT ENGINE = InnoDB ROW_FORMAT=COMPACT UNION=(a,b)", expected("", "", "")),
        (
            "/*T! SHARD_ROW_ID_BITS=5 PRE_SPLIT_REGIONS=2 */ /*T![auto_id_cache] AUTO_ID_CACHE=1 */",
            expected("", "", ""),
        ),
        (
            "/*T![ttl] TTL=`t` + INTERVAL 1 YEAR */ /*T![ttl] TTL_ENABLE='OFF' */ /*T![ttl] TTL_JOB_INTERVAL='1h' */",
            expected("", "", ""),
        ),
        (
            "/*T![placement] PLACEMENT POLICY=`p` */ /*T![force_inc] FORCE */ AUTO_INCREMENT=7 COMMENT=''",
            expected("", "", ""),
        ),
        ("/* CACHED ON */ DATA DIRECTORY='/x' STATS_SAMPLE_RATE=0.5 CONNECTION 'c'", expected("", "", "")),
    ] {
        assert_eq!(options(text), want, "{text}");
    }
    assert_eq!(
        table("CREATE TABLE t (a TEXT, b VARCHAR(3)) CHARSET binary").columns[1].ty,
        sized(TypeName::VarBinary, 3)
    );
    let latin = table("CREATE TABLE t (a TEXT(255), b VARCHAR(3) BINARY) CHARSET latin1");
    assert_eq!(latin.columns[0].ty.name, TypeName::TinyText);
    assert_eq!(latin.columns[1].ty.collation.as_deref(), Some("latin1_bin"));
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn partitions() {
    let partitioning = |text: &str| {
        table(&format!("CREATE TABLE t (a INT, b INT) PARTITION BY {text}")).partitioning.unwrap()
    };
    assert_eq!(
        partitioning(
            "RANGE (YEAR(a)) (PARTITION p0 VALUES LESS THAN (1+(2)) ENGINE = InnoDB COMMENT='x', PARTITION `p 1` VALUES LESS THAN MAXVALUE)"
        ),
        Partitioning::Range {
            expression: strings(&["YEAR(a)"]),
            columns: false,
            partitions: vec![
                ("p0".to_owned(), strings(&["1+(2)"])),
                ("p 1".to_owned(), strings(&["MAXVALUE"])),
            ],
        }
    );
    assert_eq!(
        partitioning(
            "RANGE COLUMNS(`a`, b) PARTITIONS 1 (PARTITION p0 VALUES LESS THAN (_UTF8MB4'x,y', MAXVALUE) /*T![placement] PLACEMENT POLICY=`p` */)"
        ),
        Partitioning::Range {
            expression: strings(&["a", "b"]),
            columns: true,
            partitions: vec![("p0".to_owned(), strings(&["'x,y'", "MAXVALUE"]))],
        }
    );
    assert_eq!(
        partitioning(
            "LIST (a) (PARTITION p0 VALUES IN (1, NULL, -3), PARTITION p1 DEFAULT, PARTITION p2 VALUES IN (DEFAULT))"
        ),
        Partitioning::List {
            expression: strings(&["a"]),
            columns: false,
            partitions: vec![
                ("p0".to_owned(), vec![strings(&["1"]), strings(&["NULL"]), strings(&["-3"])]),
                ("p1".to_owned(), vec![strings(&["DEFAULT"])]),
                ("p2".to_owned(), vec![strings(&["DEFAULT"])]),
            ],
        }
    );
    assert_eq!(
        partitioning("LIST COLUMNS (a, b) (PARTITION p0 VALUES IN ((1, f(2, 3)), (NULL, 'x')))"),
        Partitioning::List {
            expression: strings(&["a", "b"]),
            columns: true,
            partitions: vec![("p0".to_owned(), vec![strings(&["1", "f(2, 3)"]), strings(&["NULL", "'x'"])])],
        }
    );
    let hash = |count, names: &[&str]| Partitioning::Hash {
        expression: "a + b".to_owned(),
        count,
        names: strings(names),
    };
    assert_eq!(partitioning("HASH (a + b) PARTITIONS 4"), hash(4, &[]));
    assert_eq!(partitioning("LINEAR HASH (a + b)"), hash(1, &[]));
    assert_eq!(
        partitioning("HASH (a + b) PARTITIONS 2 (PARTITION x, PARTITION y COMMENT 'c')"),
        hash(2, &["x", "y"])
    );
    assert_eq!(
        partitioning("KEY ALGORITHM=2 () PARTITIONS 3"),
        Partitioning::Key { columns: vec![], count: 3 }
    );
    assert_eq!(
        partitioning("RANGE (a) INTERVAL (10) FIRST PARTITION LESS THAN (0) LAST PARTITION LESS THAN (90) MAXVALUE PARTITION"),
        Partitioning::Other {
            text: "RANGE (a) INTERVAL (10) FIRST PARTITION LESS THAN (0) LAST PARTITION LESS THAN (90) MAXVALUE PARTITION".to_owned()
        }
    );
    assert_eq!(
        refused("CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES IN (1))").1,
        "partitions with `VALUES LESS THAN`"
    );
    assert_eq!(
        refused("CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN ())").1,
        "a value"
    );
}

#[test]
fn like_and_temporary_tables() {
    for (sql, expected) in [
        ("CREATE TABLE IF NOT EXISTS a.t LIKE s", (Some("a"), None, true, false)),
        ("CREATE TABLE t (LIKE `b`.`s`)", (None, Some("b"), false, false)),
        ("CREATE GLOBAL TEMPORARY TABLE t LIKE s ON COMMIT DELETE ROWS", (None, None, false, true)),
    ] {
        let Statement::CreateTableLike { name, source, if_not_exists, temporary } = one(sql) else {
            panic!("{sql}")
        };
        assert_eq!(
            (name.schema.as_deref(), source.schema.as_deref(), if_not_exists, temporary),
            expected,
            "{sql}"
        );
        assert_eq!((name.name.as_str(), source.name.as_str()), ("t", "s"));
    }
    assert!(table("CREATE GLOBAL TEMPORARY TABLE t (a INT) ON COMMIT DELETE ROWS").temporary);
}

#[test]
fn names_are_kept_as_written() {
    let table = table(
        "create table `D b`.2024t (`select` int, 编号 int, \"q\" int, `a``b` int, $x int, comment int, `1` int)",
    );
    assert_eq!((table.name.schema.as_str(), table.name.table.as_str()), ("D b", "2024t"));
    let dotted = super::table(
        "CREATE TABLE db.index (a INT, type INT, KEY type USING BTREE (type), KEY TYPE HASH (a))",
    );
    assert_eq!(dotted.name.table, "index");
    assert_eq!(dotted.keys[0].name.as_deref(), Some("type"));
    assert_eq!(dotted.keys[1].name, None);
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["select", "编号", "q", "a`b", "$x", "comment", "1"]);
}

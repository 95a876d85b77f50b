//! Every type with its edge values.

/// One row of the matrix: a column type and some of its values, in tables of their own.
pub struct Case {
    /// As in CREATE TABLE.
    pub ty: &'static str,
    /// What is special about the values; empty for ordinary ones.
    pub what: &'static str,
    /// SQL expressions. A nullable column gets a NULL besides.
    pub values: &'static [&'static str],
    pub column: Column,
    /// Tasks (mysql, refuse, clamp, varchar) that stop at a value of it.
    pub stops: &'static [&'static str],
    /// A lossy policy has a say.
    pub lossy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Nullable,
    NotNull,
    /// The primary key.
    Key,
}

const NOBODY: &[&str] = &[];
const REFUSE: &[&str] = &["refuse"];
const UNLESS_TEXT: &[&str] = &["refuse", "clamp"];
const ALL: &[&str] = &["mysql", "refuse"];

const fn exact(ty: &'static str, what: &'static str, values: &'static [&'static str]) -> Case {
    Case { ty, what, values, column: Column::Nullable, stops: NOBODY, lossy: false }
}

/// Whether it is lossy is for a policy to say.
const fn lossy(ty: &'static str, what: &'static str, values: &'static [&'static str]) -> Case {
    Case { lossy: true, ..exact(ty, what, values) }
}

const fn key(case: Case) -> Case {
    Case { column: Column::Key, ..case }
}

const fn not_null(case: Case) -> Case {
    Case { column: Column::NotNull, ..case }
}

const fn stops(case: Case, stops: &'static [&'static str]) -> Case {
    Case { stops, ..case }
}

const TEXTS: &[&str] = &[
    "''",
    "'a'",
    "'O''Brien; DROP TABLE x; -- \"q\"'",
    "'back\\\\slash % _ `'",
    "CONCAT('line', CHAR(13), CHAR(10), CHAR(9), CHAR(26), 'end')",
    "CONCAT('nul', CHAR(0), 'nul')",
    "'中文é'",
    "'😀'",
    "' leading'",
];
const OCTETS: &[&str] = &["x''", "x'00'", "x'0027225c1a0aff'", "x'e4b8ad'", "x'20'"];
const ZERO_DATES: &[&str] = &[
    "'0000-00-00'",
    "'0000-05-05'",
    "'2020-00-15'",
    "'2020-02-00'",
    "'2020-00-00'",
    "'2021-02-31'",
    "'2023-06-31'",
];
const ZERO_MOMENTS: &[&str] =
    &["'0000-00-00 00:00:00'", "'2020-00-15 01:02:03'", "'2020-02-00 01:02:03'", "'2021-02-31 23:59:59'"];

const SET_OF_64: &str = "SET('l0','l1','l2','l3','l4','l5','l6','l7','l8','l9','l10','l11','l12','l13','l14','l15','l16','l17','l18','l19','l20','l21','l22','l23','l24','l25','l26','l27','l28','l29','l30','l31','l32','l33','l34','l35','l36','l37','l38','l39','l40','l41','l42','l43','l44','l45','l46','l47','l48','l49','l50','l51','l52','l53','l54','l55','l56','l57','l58','l59','l60','l61','l62','l63')";

pub const CASES: &[Case] = &[
    exact("BOOL", "", &["0", "1", "-128", "127"]),
    exact("TINYINT", "", &["-128", "0", "127"]),
    exact("TINYINT UNSIGNED", "", &["0", "255"]),
    exact("SMALLINT", "", &["-32768", "32767"]),
    exact("SMALLINT UNSIGNED", "", &["0", "65535"]),
    exact("MEDIUMINT", "", &["-8388608", "8388607"]),
    exact("MEDIUMINT UNSIGNED", "", &["0", "16777215"]),
    exact("INT", "", &["-2147483648", "2147483647"]),
    exact("INT UNSIGNED", "", &["0", "4294967295"]),
    exact("INT(7) ZEROFILL", "", &["0", "42", "4294967295"]),
    exact("BIGINT", "", &["-9223372036854775808", "9223372036854775807"]),
    exact("BIGINT UNSIGNED", "", &["0", "9223372036854775808", "18446744073709551615"]),
    key(exact("BIGINT UNSIGNED", "primary key", &["0", "18446744073709551615"])),
    exact(
        "FLOAT",
        "",
        &["0", "-0e0", "1.1", "-3.4028234e38", "1.17549435e-38", "1e-45", "16777216", "0.333333343"],
    ),
    exact("FLOAT(7,3)", "", &["1234.567", "-0.001"]),
    exact("FLOAT(53)", "", &["0.1", "1e300"]),
    exact("FLOAT UNSIGNED", "", &["0", "3.4028234e38", "0.1"]),
    exact("DOUBLE UNSIGNED", "", &["0", "1.7976931348623157e308"]),
    exact("DOUBLE(9,3)", "", &["-999999.999", "0.001", "1.5"]),
    exact("DECIMAL(20,4) UNSIGNED", "", &["0", "9999999999999999.9999", "0.0001"]),
    exact(
        "DOUBLE",
        "",
        &[
            "0",
            "-0e0",
            "0.1",
            "1.7976931348623157e308",
            "-2.2250738585072014e-308",
            "5e-324",
            "123456789012345680",
        ],
    ),
    exact("DECIMAL(10,2)", "", &["0", "-99999999.99", "99999999.99", "0.01"]),
    exact("DECIMAL(38,0)", "", &["99999999999999999999999999999999999999", "-1"]),
    exact(
        "DECIMAL(38,30)",
        "",
        &["-99999999.999999999999999999999999999999", "0.000000000000000000000000000001"],
    ),
    key(exact("DOUBLE", "primary key", &["0.1", "-1e300", "0", "5e-324"])),
    key(exact("FLOAT", "primary key", &["0.1", "-3.4028234e38", "16777216"])),
    key(exact("BIT(12)", "primary key", &["0", "5", "4095"])),
    key(exact("YEAR", "primary key", &["0", "1970", "2155"])),
    key(exact("SET('a','b')", "primary key", &["''", "'a,b'"])),
    key(exact("TIMESTAMP(3)", "primary key", &["'1970-01-01 00:00:01.001'", "'2024-02-29 12:34:56.789'"])),
    key(exact("DECIMAL(20,10)", "primary key", &["0", "1.5", "-1.5000000001"])),
    lossy(
        "DECIMAL(65,30)",
        "",
        &[
            "1.5",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "12345678901234567890123456789012345.5555",
            "0.000000000000000000000000000001",
        ],
    ),
    lossy("DECIMAL(65,0)", "", &["-7", "99999999999999999999999999999999999999999999999999999999999999999"]),
    key(lossy(
        "DECIMAL(50,20)",
        "primary key",
        &["1.5", "-123456789012345678901234567890.12345678901234567891"],
    )),
    exact("BIT(1)", "", &["b'0'", "b'1'"]),
    exact("BIT(10)", "", &["0", "1023"]),
    exact("BIT(64)", "", &["0", "18446744073709551615"]),
    exact("YEAR", "", &["0", "1901", "1970", "2155"]),
    exact("ENUM('a','','c,d','é')", "", &["'a'", "''", "'c,d'", "'é'"]),
    exact("ENUM('a','b')", "index 0, the error value", &["'no such label'", "'b'"]),
    key(exact("ENUM('a','b')", "primary key", &["'b'", "'a'"])),
    exact("SET('a','b','c d')", "", &["''", "'a'", "'a,c d'", "7"]),
    exact(SET_OF_64, "64 labels", &["1", "9223372036854775808", "18446744073709551615", "0"]),
    exact("CHAR(40)", "", TEXTS),
    exact("VARCHAR(255)", "", TEXTS),
    exact("VARCHAR(255)", "spaces at the end", &["'a '", "'  '", "'b'"]),
    exact("VARCHAR(255) COLLATE utf8mb4_general_ci", "", TEXTS),
    key(exact("VARCHAR(60)", "primary key, binary collation", &["'a'", "'A'", "'é'", "'中文'", "''"])),
    key(exact("VARCHAR(60) COLLATE utf8mb4_general_ci", "primary key", &["'Abc'", "'d'", "''"])),
    exact("TINYTEXT", "", TEXTS),
    exact("TEXT", "", TEXTS),
    exact("MEDIUMTEXT", "1 and 3 MB", &["REPEAT('é', 500000)", "REPEAT('''', 3000000)"]),
    exact("LONGTEXT", "5 MB", &["REPEAT('x\\\\', 2500000)"]),
    exact("VARCHAR(255) CHARACTER SET utf8", "", &["''", "'中文é'", "'a'"]),
    exact("VARCHAR(255) CHARACTER SET ascii", "", &["''", "'~'", "'a'"]),
    exact("VARCHAR(255) CHARACTER SET latin1", "", &["''", "'plain'", "'é'"]),
    exact("VARCHAR(255) CHARACTER SET latin1", "single bytes", &["x'e9'", "x'ff27'"]),
    exact("VARCHAR(255) CHARACTER SET gbk", "", &["''", "'中文'", "'a'"]),
    stops(exact("VARCHAR(255)", "no UTF-8", &["x'ff41'"]), ALL),
    exact("BINARY(8)", "", &["x''", "x'0027225c1a0aff'", "'abcdefgh'"]),
    exact("VARBINARY(32)", "", OCTETS),
    key(exact("VARBINARY(32)", "primary key", OCTETS)),
    key(exact("BINARY(4)", "primary key", &["x'00'", "x'61'", "x'61ff'"])),
    exact("TINYBLOB", "", OCTETS),
    exact("BLOB", "", OCTETS),
    exact("MEDIUMBLOB", "", OCTETS),
    exact("LONGBLOB", "5 MB", &["REPEAT(x'00ff275c', 1250000)"]),
    exact(
        "JSON",
        "",
        &[
            "'{}'",
            "'[]'",
            "'null'",
            "'\"text\"'",
            "'{\"a\": [1, -2.5, 1e300, true, null], \"b\": {\"中\": \"\\\\u0000 \\\\\" \\\\\\\\ 😀\"}}'",
            "'[18446744073709551615, -9223372036854775808, 0.1]'",
        ],
    ),
    exact("DATE", "", &["'0001-01-01'", "'1000-01-01'", "'2024-02-29'", "'9999-12-31'"]),
    stops(lossy("DATE", "no date of a calendar", ZERO_DATES), REFUSE),
    stops(not_null(lossy("DATE", "no date of a calendar, NOT NULL", ZERO_DATES)), REFUSE),
    key(lossy("DATE", "primary key", &["'2024-02-29'", "'9999-12-31'"])),
    stops(key(lossy("DATE", "primary key, no date of a calendar", ZERO_DATES)), UNLESS_TEXT),
    exact("DATETIME", "", &["'1000-01-01 00:00:00'", "'2024-02-29 23:59:59'", "'9999-12-31 23:59:59'"]),
    stops(lossy("DATETIME", "no date of a calendar", ZERO_MOMENTS), REFUSE),
    exact("DATETIME(3)", "", &["'2024-02-29 23:59:59.999'", "'2024-01-01 00:00:00.001'"]),
    lossy("DATETIME(6)", "whole milliseconds", &["'2024-02-29 23:59:59.999000'", "'2024-01-01 00:00:00'"]),
    lossy(
        "DATETIME(6)",
        "",
        &["'2024-02-29 23:59:59.123456'", "'9999-12-31 23:59:59.999999'", "'2024-01-01 00:00:00'"],
    ),
    key(lossy(
        "DATETIME(6)",
        "primary key",
        &["'2024-02-29 23:59:59.123456'", "'2024-02-29 23:59:59.123457'"],
    )),
    exact("TIMESTAMP", "", &["'1970-01-01 00:00:01'", "'2024-02-29 12:34:56'", "'2038-01-19 03:14:07'"]),
    stops(lossy("TIMESTAMP", "zero", &["'0000-00-00 00:00:00'", "'2024-02-29 12:34:56'"]), REFUSE),
    lossy("TIMESTAMP(6)", "", &["'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'"]),
    exact("TIME", "", &["'00:00:00'", "'12:34:56'", "'23:59:59'"]),
    stops(
        lossy(
            "TIME",
            "outside a day",
            &["'838:59:59'", "'-838:59:59'", "'24:00:00'", "'-00:00:01'", "'01:00:00'"],
        ),
        REFUSE,
    ),
    exact("TIME(3)", "", &["'23:59:59.999'", "'00:00:00.001'"]),
    stops(lossy("TIME(3)", "outside a day", &["'24:00:00.001'", "'-00:00:00.001'"]), REFUSE),
    lossy("TIME(6)", "", &["'23:59:59.999999'", "'00:00:00.000001'", "'12:00:00'"]),
    key(lossy("TIME", "primary key", &["'00:00:00'", "'23:59:59'"])),
    stops(key(lossy("TIME", "primary key, outside a day", &["'-01:00:00'", "'25:00:00'"])), UNLESS_TEXT),
];

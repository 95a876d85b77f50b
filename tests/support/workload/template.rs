//! The tables of the workload: every type, every kind of key, and values for them as SQL literals.
//!
//! Keys come from small ranges, so that rows are met again.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::stack::Dialect;

/// Makes a SQL literal.
pub type Generate = fn(&mut StdRng) -> String;

pub struct Column {
    pub name: &'static str,
    pub value: Generate,
}

pub struct Template {
    pub name: &'static str,
    /// What follows the name in CREATE TABLE.
    pub definition: &'static str,
    /// The columns that are written; generated ones are not among them.
    pub columns: &'static [Column],
    /// So many columns, from the first, are the identity of a row; 0 = it has none.
    pub key: usize,
    /// Columns that DROP COLUMN may take.
    pub spare: &'static [&'static str],
}

const fn column(name: &'static str, value: Generate) -> Column {
    Column { name, value }
}

fn int(rng: &mut StdRng, low: i64, high: i64) -> String {
    rng.random_range(low..=high).to_string()
}

/// One value in eight is NULL.
fn or_null(rng: &mut StdRng, value: Generate) -> String {
    if rng.random_ratio(1, 8) { "NULL".to_owned() } else { value(rng) }
}

fn pick(rng: &mut StdRng, from: &[&str]) -> String {
    (*from.choose(rng).unwrap()).to_owned()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0"))
}

fn word(rng: &mut StdRng, most: usize) -> String {
    const PARTS: &[&str] = &[
        "a", "B", "é", "ü", "中文", "😀", "'", "\\", "\"", "\n", "\t", "%", "_", " ", "0", "--", ";", "`",
        "\0", "x'00'",
    ];
    let text: String = (0..rng.random_range(0..=most)).map(|_| *PARTS.choose(rng).unwrap()).collect();
    let fits: String = text.chars().take(most).collect();
    literal(fits.trim_end_matches(' '))
}

fn plain(rng: &mut StdRng, most: usize) -> String {
    let length = rng.random_range(0..=most);
    literal(&(0..length).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect::<String>())
}

fn bytes(rng: &mut StdRng, most: usize) -> String {
    let length = rng.random_range(0..=most);
    let text: String = (0..length).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
    format!("x'{text}'")
}

fn decimal(rng: &mut StdRng, digits: i64, scale: u32) -> String {
    let limit = 10_i64.pow(u32::try_from(digits).unwrap()) - 1;
    let number = rng.random_range(-limit..=limit);
    let unit = 10_i64.pow(scale);
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", number.abs() / unit, number.abs() % unit, width = scale as usize)
}

fn float(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => pick(rng, &["0", "1.1", "-3.4e38", "1e-10", "16777217", "0.1", "123456.789"]),
        _ => format!("{:e}", rng.random_range(-1.0e6_f32..1.0e6)),
    }
}

fn double(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => pick(
            rng,
            &[
                "0",
                "1.1",
                "-1.7976931348623157e308",
                "1e-300",
                "9007199254740993",
                "0.1",
                "3.141592653589793",
            ],
        ),
        _ => format!("{:e}", rng.random_range(-1.0e12_f64..1.0e12)),
    }
}

fn clock(rng: &mut StdRng, digits: u32) -> String {
    let time = format!(
        "{:02}:{:02}:{:02}",
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60)
    );
    if digits == 0 {
        return time;
    }
    format!("{time}.{:0width$}", rng.random_range(0..10_u32.pow(digits)), width = digits as usize)
}

fn date(rng: &mut StdRng) -> String {
    if rng.random_ratio(1, 10) {
        return pick(rng, &["'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'1969-12-31'"]);
    }
    format!(
        "'{}-{:02}-{:02}'",
        rng.random_range(1950..2060),
        rng.random_range(1..=12),
        rng.random_range(1..=28)
    )
}

fn moment(rng: &mut StdRng, digits: u32) -> String {
    format!("'{} {}'", date(rng).trim_matches('\''), clock(rng, digits))
}

/// Inside what a TIMESTAMP holds, and after 1991, so that no zone of the tests has it twice.
fn timestamp(rng: &mut StdRng, digits: u32) -> String {
    let (year, month, day) =
        (rng.random_range(1992..2038), rng.random_range(1..=12), rng.random_range(1..=28));
    format!("'{year}-{month:02}-{day:02} {}'", clock(rng, digits))
}

fn interval(rng: &mut StdRng, digits: u32) -> String {
    if rng.random_ratio(1, 10) {
        return pick(rng, &["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'"]);
    }
    let sign = if rng.random() { "-" } else { "" };
    let text = clock(rng, digits);
    format!("'{sign}{}{}'", rng.random_range(0..8), text)
}

fn json(rng: &mut StdRng) -> String {
    match rng.random_range(0..6) {
        0 => pick(
            rng,
            &[
                "'null'",
                "'[]'",
                "'{}'",
                "'\"\"'",
                "'1e100'",
                "'-9223372036854775808'",
                "'18446744073709551615'",
            ],
        ),
        1 => format!("'[{}, {}, true]'", int(rng, -9, 9), int(rng, 0, 99)),
        _ => {
            let text = pick(rng, &["x", "中😀", "<&>", "a\\\\\"b", "it''s", "\\\\n"]);
            format!(
                "'{{\"k{}\": {{\"b\": {}, \"a\": \"{text}\"}}, \"n\": null}}'",
                int(rng, 0, 9),
                int(rng, -99, 99)
            )
        }
    }
}

/// Labels of the set, in any order and number.
fn set(rng: &mut StdRng) -> String {
    let labels: Vec<_> = ["x", "y", "z", "ö"].into_iter().filter(|_| rng.random()).collect();
    literal(&labels.join(","))
}

fn id(rng: &mut StdRng) -> String {
    int(rng, 1, 400)
}

fn small(rng: &mut StdRng) -> String {
    or_null(rng, |rng| int(rng, -1000, 1000))
}

fn note(rng: &mut StdRng) -> String {
    or_null(rng, |rng| word(rng, 20))
}

/// The table that full sync copies in many chunks.
pub const BULK: &str = "bulk";
pub const BULK_ROWS: u32 = 60_000;

/// The tables that the workload starts with.
static TEMPLATES: &[Template] = &[
    Template {
        name: "ints",
        definition: "(id INT AUTO_INCREMENT PRIMARY KEY, b BOOL, t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, su SMALLINT UNSIGNED, \
                     m MEDIUMINT, mu MEDIUMINT UNSIGNED, i INT, iu INT UNSIGNED, g BIGINT, gu BIGINT UNSIGNED, \
                     z INT(8) UNSIGNED ZEROFILL)",
        columns: &[
            column("id", id),
            column("b", |rng| int(rng, 0, 1)),
            column("t", |rng| or_null(rng, |rng| int(rng, -128, 127))),
            column("tu", |rng| int(rng, 0, 255)),
            column("s", |rng| int(rng, -32768, 32767)),
            column("su", |rng| int(rng, 0, 65535)),
            column("m", |rng| int(rng, -8_388_608, 8_388_607)),
            column("mu", |rng| int(rng, 0, 16_777_215)),
            column("i", |rng| int(rng, -2_147_483_648, 2_147_483_647)),
            column("iu", |rng| int(rng, 0, 4_294_967_295)),
            column("g", |rng| int(rng, i64::MIN, i64::MAX)),
            column("gu", |rng| or_null(rng, |rng| rng.random::<u64>().to_string())),
            column("z", |rng| int(rng, 0, 99_999_999)),
        ],
        key: 1,
        spare: &["b", "s", "mu"],
    },
    Template {
        name: "unsigned_key",
        definition: "(id BIGINT UNSIGNED PRIMARY KEY, v INT, w VARCHAR(30))",
        columns: &[
            column("id", |rng| (u64::MAX - rng.random_range(0..300)).to_string()),
            column("v", small),
            column("w", note),
        ],
        key: 1,
        spare: &["w"],
    },
    Template {
        name: "numbers",
        definition: "(id INT PRIMARY KEY, f FLOAT, f2 FLOAT(7,3), d DOUBLE, d2 DOUBLE(10,4), c DECIMAL(10,0), c2 DECIMAL(18,6), \
                     c3 DECIMAL(60,30), cu DECIMAL(5,2) UNSIGNED)",
        columns: &[
            column("id", id),
            column("f", |rng| or_null(rng, float)),
            column("f2", |rng| decimal(rng, 7, 3)),
            column("d", |rng| or_null(rng, double)),
            column("d2", |rng| decimal(rng, 10, 4)),
            column("c", |rng| int(rng, -9_999_999_999, 9_999_999_999)),
            column("c2", |rng| or_null(rng, |rng| decimal(rng, 18, 6))),
            column("c3", |rng| {
                pick(
                    rng,
                    &[
                        "0",
                        "-0.000000000000000000000000000001",
                        "123456789012345678901234567890.123456789012345678901234567891",
                    ],
                )
            }),
            column("cu", |rng| decimal(rng, 5, 2).trim_start_matches('-').to_owned()),
        ],
        key: 1,
        spare: &["c"],
    },
    Template {
        name: "times",
        definition: "(id INT PRIMARY KEY, d DATE, dt DATETIME, dt3 DATETIME(3), dt6 DATETIME(6), ts TIMESTAMP NULL, \
                     ts3 TIMESTAMP(3) NULL, ts6 TIMESTAMP(6) NULL, t TIME, t3 TIME(3), t6 TIME(6), y YEAR, \
                     upd TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
        columns: &[
            column("id", id),
            column("d", |rng| or_null(rng, date)),
            column("dt", |rng| or_null(rng, |rng| moment(rng, 0))),
            column("dt3", |rng| moment(rng, 3)),
            column("dt6", |rng| moment(rng, 6)),
            column("ts", |rng| or_null(rng, |rng| timestamp(rng, 0))),
            column("ts3", |rng| timestamp(rng, 3)),
            column("ts6", |rng| timestamp(rng, 6)),
            column("t", |rng| or_null(rng, |rng| interval(rng, 0))),
            column("t3", |rng| interval(rng, 3)),
            column("t6", |rng| interval(rng, 6)),
            column("y", |rng| pick(rng, &["0", "1901", "2155", "1999", "2024", "NULL"])),
        ],
        key: 1,
        spare: &["dt", "t"],
    },
    Template {
        name: "texts",
        definition: "(id INT PRIMARY KEY, c CHAR(10), v VARCHAR(50) COLLATE utf8mb4_general_ci, vb VARCHAR(50), u VARCHAR(20) CHARACTER SET utf8, \
                     l VARCHAR(20) CHARACTER SET latin1, a VARCHAR(20) CHARACTER SET ascii, g VARCHAR(20) CHARACTER SET gbk, \
                     tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT)",
        columns: &[
            column("id", id),
            column("c", |rng| or_null(rng, |rng| plain(rng, 10))),
            column("v", |rng| word(rng, 50)),
            column("vb", note),
            column("u", |rng| pick(rng, &["'é'", "'中文'", "''", "'plain'"])),
            column("l", |rng| plain(rng, 20)),
            column("a", |rng| plain(rng, 20)),
            column("g", |rng| pick(rng, &["'中文GBK'", "''", "'a'"])),
            column("tt", |rng| word(rng, 40)),
            column("tx", |rng| or_null(rng, |rng| format!("REPEAT({}, {})", word(rng, 8), int(rng, 0, 200)))),
            column("mt", |rng| format!("REPEAT({}, {})", word(rng, 8), int(rng, 0, 2000))),
            column("lt", note),
        ],
        key: 1,
        spare: &["lt", "a"],
    },
    Template {
        name: "binaries",
        definition: "(id INT PRIMARY KEY, b BINARY(8), vb VARBINARY(20), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB, \
                     b1 BIT(1), b10 BIT(10), b64 BIT(64))",
        columns: &[
            column("id", id),
            column("b", |rng| bytes(rng, 8)),
            column("vb", |rng| or_null(rng, |rng| bytes(rng, 20))),
            column("tb", |rng| bytes(rng, 40)),
            column("bl", |rng| or_null(rng, |rng| bytes(rng, 200))),
            column("mb", |rng| format!("REPEAT({}, {})", bytes(rng, 9), int(rng, 0, 300))),
            column("lb", |rng| bytes(rng, 30)),
            column("b1", |rng| int(rng, 0, 1)),
            column("b10", |rng| or_null(rng, |rng| int(rng, 0, 1023))),
            column("b64", |rng| rng.random::<u64>().to_string()),
        ],
        key: 1,
        spare: &["tb", "b10"],
    },
    Template {
        name: "labels",
        definition: "(id INT PRIMARY KEY, e ENUM('a','b','c,d','it''s','中文'), en ENUM('p','q') NOT NULL, s SET('x','y','z','ö'), j JSON)",
        columns: &[
            column("id", id),
            column("e", |rng| or_null(rng, |rng| pick(rng, &["'a'", "'b'", "'c,d'", "'it''s'", "'中文'"]))),
            column("en", |rng| pick(rng, &["'p'", "'q'"])),
            column("s", |rng| or_null(rng, set)),
            column("j", |rng| or_null(rng, json)),
        ],
        key: 1,
        spare: &["e"],
    },
    Template {
        name: "generated",
        definition: "(id INT PRIMARY KEY, a INT, b VARCHAR(20), j JSON, v INT AS (a + 1) VIRTUAL, st INT AS (a * 2) STORED, \
                     full_name VARCHAR(40) AS (CONCAT(b, '-', a)) STORED, jv VARCHAR(20) AS (JSON_UNQUOTE(JSON_EXTRACT(j, '$.n'))) VIRTUAL, \
                     KEY kv (v))",
        columns: &[
            column("id", id),
            column("a", small),
            column("b", |rng| plain(rng, 20)),
            column("j", |rng| pick(rng, &["'{\"n\": \"one\"}'", "'{}'", "NULL", "'{\"n\": \"zwei\"}'"])),
        ],
        key: 1,
        spare: &[],
    },
    Template {
        name: "range_parts",
        definition: "(id INT, v VARCHAR(20), n INT, PRIMARY KEY (id)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), \
                     PARTITION p1 VALUES LESS THAN (250), PARTITION p2 VALUES LESS THAN MAXVALUE)",
        columns: &[column("id", id), column("v", note), column("n", small)],
        key: 1,
        spare: &["n"],
    },
    Template {
        name: "hash_parts",
        definition: "(a INT, b INT, v VARCHAR(20), PRIMARY KEY (a, b) NONCLUSTERED) PARTITION BY HASH (a) PARTITIONS 3",
        columns: &[column("a", |rng| int(rng, 0, 40)), column("b", |rng| int(rng, 0, 9)), column("v", note)],
        key: 2,
        spare: &[],
    },
    Template {
        name: "composite",
        definition: "(a VARCHAR(20), b INT, c DATETIME, d VARCHAR(20), e INT, PRIMARY KEY (a, b, c) CLUSTERED)",
        columns: &[
            column("a", |rng| pick(rng, &["'k1'", "'K1'", "''", "'é'", "'中'", "'a b'", "'it''s'"])),
            column("b", |rng| int(rng, 0, 9)),
            column("c", |rng| {
                pick(rng, &["'2020-01-01 00:00:00'", "'1999-12-31 23:59:59'", "'2024-02-29 12:00:00'"])
            }),
            column("d", note),
            column("e", small),
        ],
        key: 3,
        spare: &["e"],
    },
    Template {
        name: "text_key",
        definition: "(k VARCHAR(40) PRIMARY KEY, v INT, w VARCHAR(20))",
        columns: &[
            column("k", |rng| {
                literal(&format!("key-{}-{}", int(rng, 0, 60), pick(rng, &["a", "A", "é", "中"])))
            }),
            column("v", small),
            column("w", note),
        ],
        key: 1,
        spare: &["w"],
    },
    Template {
        name: "ci_key",
        definition: "(k VARCHAR(20) COLLATE utf8mb4_general_ci, v INT, PRIMARY KEY (k) CLUSTERED)",
        columns: &[
            column("k", |rng| {
                literal(&format!(
                    "{}{}",
                    pick(rng, &["Abc", "aBC", "ABC", "déf", "DEF", "x"]),
                    int(rng, 0, 30)
                ))
            }),
            column("v", small),
        ],
        key: 1,
        spare: &[],
    },
    Template {
        name: "nonclustered",
        definition: "(a VARCHAR(20), b INT, d VARCHAR(20), PRIMARY KEY (a, b) NONCLUSTERED)",
        columns: &[
            column("a", |rng| pick(rng, &["'x'", "'y'", "'z'", "'Z'"])),
            column("b", |rng| int(rng, 0, 60)),
            column("d", note),
        ],
        key: 2,
        spare: &[],
    },
    Template {
        name: "keyless",
        definition: "(a INT, b VARCHAR(10), c DATETIME)",
        columns: &[
            column("a", |rng| or_null(rng, |rng| int(rng, 0, 20))),
            column("b", |rng| or_null(rng, |rng| pick(rng, &["'dup'", "'one'", "''"]))),
            column("c", |rng| pick(rng, &["NULL", "'2020-01-01 00:00:00'"])),
        ],
        key: 0,
        spare: &[],
    },
    Template {
        name: "unique_not_null",
        definition: "(a INT NOT NULL, b INT NOT NULL, c VARCHAR(10) NOT NULL DEFAULT 'd', UNIQUE KEY (a, b))",
        columns: &[
            column("a", |rng| int(rng, 0, 30)),
            column("b", |rng| int(rng, 0, 9)),
            column("c", |rng| plain(rng, 10)),
        ],
        key: 2,
        spare: &[],
    },
    Template {
        name: "second_unique",
        definition: "(id INT PRIMARY KEY, a INT, b VARCHAR(10), UNIQUE KEY ua (a), KEY kb (b(3)))",
        columns: &[
            column("id", id),
            column("a", |rng| or_null(rng, |rng| int(rng, 0, 300))),
            column("b", |rng| plain(rng, 10)),
        ],
        key: 1,
        spare: &[],
    },
    Template {
        name: "date_key",
        definition: "(d DATE, n DECIMAL(10,3), ts TIMESTAMP(3) NULL, v INT, PRIMARY KEY (d, n))",
        columns: &[
            column("d", |rng| format!("'2024-01-{:02}'", rng.random_range(1..=20))),
            column("n", |rng| pick(rng, &["0", "1.5", "-1.5", "2.125", "1000000"])),
            column("ts", |rng| or_null(rng, |rng| timestamp(rng, 3))),
            column("v", small),
        ],
        key: 2,
        spare: &["v"],
    },
    Template {
        name: "binary_key",
        definition: "(k VARBINARY(16) PRIMARY KEY, e ENUM('on','off'), v INT)",
        columns: &[
            column("k", |rng| format!("x'{:02x}{}'", rng.random_range(0..40), pick(rng, &["", "00", "ff"]))),
            column("e", |rng| pick(rng, &["'on'", "'off'", "NULL"])),
            column("v", small),
        ],
        key: 1,
        spare: &["e"],
    },
    Template {
        name: "random_key",
        definition: "(id BIGINT PRIMARY KEY AUTO_RANDOM(5), v INT, t TEXT)",
        columns: &[
            column("id", id),
            column("v", small),
            column("t", |rng| or_null(rng, |rng| word(rng, 60))),
        ],
        key: 1,
        spare: &["t"],
    },
    Template {
        name: BULK,
        definition: "(id INT PRIMARY KEY, v INT, filler VARCHAR(60), KEY kv (v))",
        columns: &[
            column("id", |rng| int(rng, 1, i64::from(BULK_ROWS))),
            column("v", small),
            column("filler", |rng| plain(rng, 60)),
        ],
        key: 1,
        spare: &["filler"],
    },
    Template {
        name: "odd `name`; --",
        definition: "(`id col` INT PRIMARY KEY, `sel ect` VARCHAR(10), `中文列` INT, `a``b` INT)",
        columns: &[
            column("id col", id),
            column("sel ect", |rng| plain(rng, 10)),
            column("中文列", small),
            column("a`b", small),
        ],
        key: 1,
        spare: &["a`b"],
    },
];

/// The tables that a target of this kind can hold: AnalyticDB knows rows by their key alone.
pub fn templates(dialect: Dialect) -> impl Iterator<Item = &'static Template> {
    TEMPLATES.iter().filter(move |template| dialect == Dialect::Mysql || template.key > 0)
}

/// A column that ALTER TABLE adds.
pub struct Addition {
    pub definition: &'static str,
    pub value: Generate,
}

/// Drainer fills rows that are older than the column with zero where FLOAT, DOUBLE or ENUM have a default or are NOT NULL
/// (source-drainer.md 0.19): such columns are added where nothing races only.
pub static ADDITIONS: &[Addition] = &[
    Addition { definition: "INT NOT NULL DEFAULT 11", value: |rng| int(rng, 0, 99) },
    Addition { definition: "VARCHAR(20) DEFAULT 'it''s'", value: note },
    Addition { definition: "DECIMAL(8,2) NOT NULL DEFAULT 3.1", value: |rng| decimal(rng, 8, 2) },
    Addition {
        definition: "DATETIME(3) DEFAULT '2020-01-01 00:00:00'",
        value: |rng| or_null(rng, |rng| moment(rng, 3)),
    },
    Addition { definition: "TIMESTAMP NULL", value: |rng| or_null(rng, |rng| timestamp(rng, 0)) },
    Addition { definition: "JSON", value: |rng| or_null(rng, json) },
    Addition { definition: "BIGINT UNSIGNED", value: |rng| rng.random::<u64>().to_string() },
    Addition { definition: "VARBINARY(12)", value: |rng| bytes(rng, 12) },
    Addition { definition: "ENUM('p','q')", value: |rng| pick(rng, &["'p'", "'q'", "NULL"]) },
    Addition { definition: "TEXT COMMENT 'a; \"comment\" /* not one */'", value: note },
];

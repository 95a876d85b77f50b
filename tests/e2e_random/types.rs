//! Random column types, and values of a type as SQL literals: many at the edges of what the type holds.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::table::Column;

pub fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).expect("something to choose from")
}

pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0"))
}

/// A type for a column of a key.
pub fn key_type(rng: &mut StdRng) -> String {
    match rng.random_range(0..24) {
        0..=4 => pick(rng, &["INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT"]).to_owned(),
        5..=6 => {
            pick(rng, &["INT UNSIGNED", "BIGINT UNSIGNED", "TINYINT UNSIGNED", "INT(6) ZEROFILL"]).to_owned()
        }
        7..=8 => format!("{}({})", pick(rng, &["VARCHAR", "CHAR"]), rng.random_range(3..40)),
        9..=12 => format!(
            "{}({}) {}",
            pick(rng, &["VARCHAR", "CHAR"]),
            rng.random_range(3..40),
            pick(rng, CHARSETS)
        ),
        13 => format!("{}({})", pick(rng, &["VARBINARY", "BINARY"]), rng.random_range(2..20)),
        14 => "DATE".to_owned(),
        15 => format!("DATETIME{}", fraction(rng)),
        16 => format!("TIMESTAMP{}", fraction(rng)),
        17 => format!("TIME{}", fraction(rng)),
        18 => format!("DECIMAL({},{})", rng.random_range(6..20), rng.random_range(0..5)),
        19 => "YEAR".to_owned(),
        20 => "ENUM('a','B','c c','d''e')".to_owned(),
        21 => "SET('x','Y','z')".to_owned(),
        22 => format!("BIT({})", rng.random_range(1..=64)),
        _ => pick(rng, &["DOUBLE", "FLOAT", "INT"]).to_owned(),
    }
}

const CHARSETS: &[&str] = &[
    "COLLATE utf8mb4_general_ci",
    "COLLATE utf8mb4_unicode_ci",
    "COLLATE utf8mb4_bin",
    "CHARACTER SET utf8 COLLATE utf8_general_ci",
    "CHARACTER SET utf8",
    "CHARACTER SET latin1",
    "CHARACTER SET ascii",
    "CHARACTER SET gbk",
    "CHARACTER SET gbk COLLATE gbk_bin",
    "CHARACTER SET binary",
];

fn fraction(rng: &mut StdRng) -> &'static str {
    pick(rng, &["", "", "(3)", "(6)", "(1)"])
}

/// A type for a column outside of keys.
pub fn any_type(rng: &mut StdRng) -> String {
    match rng.random_range(0..20) {
        0..=9 => key_type(rng),
        10 => "JSON".to_owned(),
        11 => pick(rng, &["TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "TEXT(300)"]).to_owned(),
        12 => format!("{} {}", pick(rng, &["TEXT", "TINYTEXT", "LONGTEXT"]), pick(rng, CHARSETS)),
        13 => pick(rng, &["BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"]).to_owned(),
        14 => {
            pick(rng, &["FLOAT", "DOUBLE", "FLOAT(7,3)", "DOUBLE(12,4)", "FLOAT UNSIGNED", "DOUBLE UNSIGNED"])
                .to_owned()
        }
        15 => pick(
            rng,
            &["DECIMAL(65,30)", "DECIMAL(38,0)", "DECIMAL(5,5)", "DECIMAL(10,2) UNSIGNED", "NUMERIC"],
        )
        .to_owned(),
        16 => pick(rng, &["BOOL", "BOOLEAN", "TINYINT(1)", "BIT", "YEAR(4)"]).to_owned(),
        17 => format!("VARCHAR({}) {}", rng.random_range(1..300), pick(rng, CHARSETS)),
        18 => format!("ENUM('', 'on', 'Öff', 'c,d') {}", pick(rng, &["", "COLLATE utf8mb4_general_ci"])),
        _ => "SET('a','b','ü','d d')".to_owned(),
    }
}

/// A DEFAULT clause that may fit the type, or nothing.
pub fn default_for(rng: &mut StdRng, column_type: &str) -> String {
    let upper = column_type.to_uppercase();
    let starts = |names: &[&str]| names.iter().any(|name| upper.starts_with(name));
    if !rng.random_ratio(1, 3)
        || starts(&["JSON", "TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"])
        || upper.contains("BLOB")
    {
        return String::new();
    }
    if rng.random_ratio(1, 6) {
        return "DEFAULT NULL".to_owned();
    }
    if starts(&["DATETIME", "TIMESTAMP"]) {
        let digits = upper.split(['(', ')']).nth(1).filter(|digits| digits.len() == 1).unwrap_or("0");
        match rng.random_range(0..4) {
            0 => format!("DEFAULT CURRENT_TIMESTAMP({digits})"),
            1 => format!("DEFAULT CURRENT_TIMESTAMP({digits}) ON UPDATE CURRENT_TIMESTAMP({digits})"),
            _ => "DEFAULT '2020-02-29 12:34:56'".to_owned(),
        }
    } else if starts(&["DATE"]) {
        "DEFAULT '2024-02-29'".to_owned()
    } else if starts(&["TIME"]) {
        "DEFAULT '-01:02:03'".to_owned()
    } else if starts(&["YEAR"]) {
        format!("DEFAULT {}", pick(rng, &["2024", "'1999'", "0"]))
    } else if starts(&["ENUM('A'"]) {
        "DEFAULT 'c c'".to_owned()
    } else if starts(&["ENUM"]) {
        "DEFAULT 'on'".to_owned()
    } else if starts(&["SET"]) {
        String::new()
    } else if starts(&["BIT"]) {
        format!("DEFAULT {}", pick(rng, &["b'1'", "0", "1"]))
    } else if starts(&["CHAR", "VARCHAR", "BINARY", "VARBINARY"]) {
        format!("DEFAULT {}", pick(rng, &["''", "'d'", "'it''s'", "\"q\"", "'a\\\\b'", "'0'"]))
    } else if starts(&["FLOAT", "DOUBLE"]) {
        format!("DEFAULT {}", pick(rng, &["1.5", "0", "1e3", "'2'"]))
    } else {
        format!("DEFAULT {}", pick(rng, &["0", "1", "'1'", "7"]))
    }
}

/// A value for the column as a literal. Those of key columns come from few, so that rows are met again.
pub fn value(rng: &mut StdRng, column: &Column, key: bool) -> String {
    if column.nullable && rng.random_ratio(1, 7) {
        return "NULL".to_owned();
    }
    let unsigned = column.column_type.contains("unsigned");
    let length = column.length();
    match column.data_type.as_str() {
        "tinyint" => integer(rng, 8, unsigned, key),
        "smallint" => integer(rng, 16, unsigned, key),
        "mediumint" => integer(rng, 24, unsigned, key),
        "int" => integer(rng, 32, unsigned, key),
        "bigint" => integer(rng, 64, unsigned, key),
        "decimal" => decimal(rng, length.unwrap_or(10), column.scale(), unsigned, key),
        "float" | "double" => float(rng, &column.data_type, column.scale_given(), unsigned, key),
        "bit" => {
            let bits = length.unwrap_or(1).min(64);
            let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let number = if key { rng.random_range(0..20).min(most) } else { rng.random_range(0..=most) };
            number.to_string()
        }
        "year" => pick(rng, &["0", "1901", "2155", "1999", "2024", "1970", "70"]).to_owned(),
        "date" => date(rng, key),
        "datetime" => {
            format!("'{} {}'", date(rng, key).trim_matches('\''), clock(rng, column.fraction(), key))
        }
        "timestamp" => {
            let (year, month) =
                if key { (2024, 1) } else { (rng.random_range(1992..2038), rng.random_range(1..=12)) };
            let day = rng.random_range(1..=if key { 4 } else { 28 });
            format!("'{year}-{month:02}-{day:02} {}'", clock(rng, column.fraction(), key))
        }
        "time" => {
            if rng.random_ratio(1, 8) {
                return pick(
                    rng,
                    &["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'", "'100:00:00'"],
                )
                .to_owned();
            }
            let sign = if rng.random_ratio(1, 3) { "-" } else { "" };
            format!("'{sign}{}'", clock(rng, column.fraction(), key))
        }
        "enum" => match rng.random_ratio(1, 3) {
            true => rng.random_range(1..=column.labels().max(1)).to_string(),
            false => pick(rng, &["'a'", "'B'", "'b'", "'c c'", "'on'", "'Öff'", "''", "'c,d'", "'d''e'"])
                .to_owned(),
        },
        "set" => match rng.random_ratio(1, 2) {
            true => rng.random_range(0..1_u64 << column.labels().min(10)).to_string(),
            false => pick(rng, &["''", "'x'", "'x,z'", "'a,b'", "'ü'", "'a,d d'", "'Y'", "'y'"]).to_owned(),
        },
        "json" => json(rng),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            bytes(rng, length.unwrap_or(40), key)
        }
        _ => text(rng, column, length.unwrap_or(60), key),
    }
}

fn integer(rng: &mut StdRng, bits: u32, unsigned: bool, key: bool) -> String {
    let (low, high) = match unsigned {
        true => (0_i128, (1_i128 << bits) - 1),
        false => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
    };
    match rng.random_range(0..20) {
        0 => low,
        1 => high,
        2 => high - 1,
        3 => 0,
        _ if key => rng.random_range(1..40),
        4..=9 => rng.random_range(low..=high),
        _ => rng.random_range(low.max(-1000)..=high.min(1000)),
    }
    .to_string()
}

fn decimal(rng: &mut StdRng, digits: u64, scale: u64, unsigned: bool, key: bool) -> String {
    if key {
        return pick(rng, &["0", "1", "1.5", "2.5", "3", "-1", "10", "-0", "0.25", "1.50"]).to_owned();
    }
    let whole = digits.saturating_sub(scale);
    let mut nines = |count: u64| -> String {
        let all = rng.random_ratio(1, 5);
        (0..count).map(|_| if all { '9' } else { char::from(rng.random_range(b'0'..=b'9')) }).collect()
    };
    let (whole, part) = (nines(whole), nines(scale));
    let sign = if !unsigned && rng.random() { "-" } else { "" };
    let whole = if whole.is_empty() { "0".to_owned() } else { whole };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

fn float(rng: &mut StdRng, data_type: &str, fixed: bool, unsigned: bool, key: bool) -> String {
    let text = if key || fixed {
        pick(rng, &["0", "1", "1.5", "-2.25", "-0", "100", "0.5"]).to_owned()
    } else if rng.random_ratio(1, 3) {
        let edges: &[&str] = match data_type {
            "float" => &[
                "0",
                "-0.0",
                "1.1",
                "-3.4e38",
                "3.4028234e38",
                "1e-38",
                "16777217",
                "0.1",
                "123456.789",
                "1e-45",
            ],
            _ => &[
                "0",
                "-0.0",
                "-1.7976931348623157e308",
                "1e-300",
                "9007199254740993",
                "0.1",
                "3.141592653589793",
                "5e-324",
            ],
        };
        pick(rng, edges).to_owned()
    } else if data_type == "float" {
        format!("{:e}", rng.random_range(-1.0e6_f32..1.0e6))
    } else {
        format!("{:e}", rng.random_range(-1.0e12_f64..1.0e12))
    };
    if unsigned { text.trim_start_matches('-').to_owned() } else { text }
}

fn clock(rng: &mut StdRng, digits: u32, key: bool) -> String {
    let time = match key {
        true => pick(rng, &["00:00:00", "12:00:00", "23:59:59"]).to_owned(),
        false => format!(
            "{:02}:{:02}:{:02}",
            rng.random_range(0..24),
            rng.random_range(0..60),
            rng.random_range(0..60)
        ),
    };
    if digits == 0 {
        return time;
    }
    let most = if key { 2 } else { 10_u32.pow(digits) };
    format!("{time}.{:0width$}", rng.random_range(0..most), width = digits as usize)
}

fn date(rng: &mut StdRng, key: bool) -> String {
    if key {
        return format!("'2024-01-{:02}'", rng.random_range(1..=9));
    }
    if rng.random_ratio(1, 6) {
        return pick(rng, &["'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'1969-12-31'", "'1582-10-10'"])
            .to_owned();
    }
    format!(
        "'{}-{:02}-{:02}'",
        rng.random_range(1900..2100),
        rng.random_range(1..=12),
        rng.random_range(1..=28)
    )
}

fn json(rng: &mut StdRng) -> String {
    const TEXTS: &[&str] = &[
        "null",
        "[]",
        "{}",
        "\"\"",
        "1e100",
        "-9223372036854775808",
        "18446744073709551615",
        "true",
        "1.5",
        "[1, [2, {\"a\": []}]]",
        "{\"b\": 1, \"a\": {\"z\": null, \"y\": \"it's\"}}",
        "\"中😀\"",
        "\"<&>\\u0000\\n\\\"\"",
        "{\"\": 0, \"k.k\": [false]}",
        "0.1",
        "-0.0",
    ];
    literal(pick(rng, TEXTS))
}

fn bytes(rng: &mut StdRng, most: u64, key: bool) -> String {
    if key {
        return pick(rng, &["x''", "x'00'", "x'61'", "x'41'", "x'6100'", "x'ff'", "x'6120'", "x'2061'"])
            .to_owned();
    }
    let length = rng.random_range(0..=most.min(60));
    let text: String = (0..length).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
    format!("x'{text}'")
}

const PARTS: &[&str] = &[
    "a", "B", "é", "ü", "中文", "😀", "'", "\\", "\"", "\n", "\t", "%", "_", " ", "0", "--", ";", "`", "\0",
    "x'00'", "ß", "ı", "İ", "\u{200b}", "e\u{301}", "ﬀ", "\r", "\u{1a}",
];
const KEYS: &[&str] = &[
    "a", "A", "b", "B", "ab", "AB", "aB", "abc", "abd", "ABC", "", " ", "a ", "é", "E", "e", "ß", "ss", "S",
    "中", "中文", "0", "00", "Ａ", "b\0", "'", "\\", "b  ", "É",
];

fn text(rng: &mut StdRng, column: &Column, most: u64, key: bool) -> String {
    let plain = matches!(column.charset.as_str(), "latin1" | "ascii");
    let narrow = matches!(column.charset.as_str(), "utf8" | "utf8mb3" | "gbk");
    let text: String = if key {
        pick(rng, KEYS).to_owned()
    } else {
        (0..rng.random_range(0..12)).map(|_| pick(rng, PARTS)).collect()
    };
    let fits = |c: &char| match (plain, narrow) {
        (true, _) => c.is_ascii(),
        (_, true) => c.is_ascii() || ('\u{4e00}'..='\u{9fa5}').contains(c),
        _ => true,
    };
    let text: String = text.chars().filter(fits).take(most as usize).collect();
    if !key && most > 2000 && rng.random_ratio(1, 30) {
        return format!("REPEAT({}, {})", literal(&text), rng.random_range(100..6000));
    }
    literal(&text)
}

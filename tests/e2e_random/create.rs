//! Random CREATE TABLE: every shape of key, generated columns, partitions, odd names.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::types::{self, pick};
use support::sql::quote;

const COLUMNS: &[&str] = &[
    "a", "b", "c", "d", "e", "Id", "UserName", "select", "from", "order", "a b", "c.d", "x`y", "ünï", "列",
    "values", "key", "it's", "\"q\"", "_x", "1st", "group", "n", "m", "ts", "val", "default", "%", "a-b",
    "A1",
];

/// Names that begin with no letter are rare: AnalyticDB refuses their tables.
fn plain_mostly<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    loop {
        let name = pick(rng, from);
        if name.starts_with(|c: char| c.is_alphabetic() || c == '_') || rng.random_ratio(1, 4) {
            return name;
        }
    }
}

pub fn column_name(rng: &mut StdRng, taken: &mut Vec<String>) -> String {
    loop {
        let mut name = plain_mostly(rng, COLUMNS).to_owned();
        if rng.random_ratio(1, 3) {
            name = format!("{name}{}", rng.random_range(1..30));
        }
        if !taken.iter().any(|other| other.to_lowercase() == name.to_lowercase()) {
            taken.push(name.clone());
            return name;
        }
    }
}

const TABLES: &[&str] = &[
    "t", "T", "orders", "Users", "order", "a.b", "表", "x`y", "sel ect", "t-1", "table", "Ü", "it's", "_t_",
    "q\"q", "0t", "%s",
];

pub fn table_name(rng: &mut StdRng) -> String {
    let base = plain_mostly(rng, TABLES);
    if rng.random_ratio(1, 4) { base.to_owned() } else { format!("{base}{}", rng.random_range(0..12)) }
}

/// Type, NOT NULL, DEFAULT and COMMENT of a column outside of keys.
pub fn definition(rng: &mut StdRng) -> String {
    let column_type = types::any_type(rng);
    let default = types::default_for(rng, &column_type);
    let null = match (default.as_str(), rng.random_range(0..4)) {
        ("DEFAULT NULL", _) => "",
        (_, 0) => "NOT NULL",
        (_, 1) => "NULL",
        _ if column_type.starts_with("TIMESTAMP") => "NULL",
        _ => "",
    };
    let comment = if rng.random_ratio(1, 10) { "COMMENT 'a; \"c\" /* x */ it''s -- `'" } else { "" };
    [&column_type, null, &default, comment]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What follows the name in CREATE TABLE.
pub fn table(rng: &mut StdRng) -> String {
    let mut taken = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let mut tail = String::new();
    let clustered = pick(rng, &["", "", " CLUSTERED", " NONCLUSTERED"]);
    let null = |rng: &mut StdRng| if rng.random_ratio(1, 3) { " NOT NULL" } else { "" };
    // A column that a partition may go by; it is in the key.
    let mut partition_by: Option<(String, bool)> = None;
    match rng.random_range(0..20) {
        0..=4 => {
            let name = column_name(rng, &mut taken);
            match rng.random_range(0..6) {
                0..=1 => parts.push(format!(
                    "{} {} AUTO_INCREMENT PRIMARY KEY{clustered}",
                    quote(&name),
                    pick(rng, &["INT", "BIGINT", "INT UNSIGNED"])
                )),
                2 => parts.push(format!(
                    "{} BIGINT PRIMARY KEY AUTO_RANDOM({})",
                    quote(&name),
                    rng.random_range(1..6)
                )),
                _ => {
                    parts.push(format!(
                        "{} {}",
                        quote(&name),
                        pick(rng, &["INT", "BIGINT", "INT UNSIGNED", "SMALLINT", "BIGINT UNSIGNED"])
                    ));
                    keys.push(format!("PRIMARY KEY ({}){clustered}", quote(&name)));
                    partition_by = Some((name, true));
                }
            }
        }
        5..=8 => {
            let names: Vec<String> =
                (0..rng.random_range(2..=3)).map(|_| column_name(rng, &mut taken)).collect();
            for name in &names {
                parts.push(format!("{} {}", quote(name), types::key_type(rng)));
            }
            if rng.random_ratio(1, 3) {
                let name = column_name(rng, &mut taken);
                parts.push(format!("{} INT", quote(&name)));
                partition_by = Some((name, true));
            }
            let mut order: Vec<String> = names
                .iter()
                .chain(partition_by.iter().map(|(name, _)| name))
                .map(|name| quote(name))
                .collect();
            order.shuffle(rng);
            keys.push(format!("PRIMARY KEY ({}){clustered}", order.join(", ")));
        }
        9..=11 => {
            let name = column_name(rng, &mut taken);
            let collation = pick(
                rng,
                &[
                    "",
                    "COLLATE utf8mb4_general_ci",
                    "COLLATE utf8mb4_unicode_ci",
                    "CHARACTER SET utf8 COLLATE utf8_general_ci",
                    "CHARACTER SET latin1",
                    "CHARACTER SET gbk",
                ],
            );
            parts.push(format!(
                "{} {}({}) {collation}",
                quote(&name),
                pick(rng, &["VARCHAR", "CHAR"]),
                rng.random_range(4..40)
            ));
            keys.push(format!("PRIMARY KEY ({}){clustered}", quote(&name)));
        }
        12 => {
            let name = column_name(rng, &mut taken);
            parts.push(format!(
                "{} VARCHAR(40) {}",
                quote(&name),
                pick(rng, &["", "COLLATE utf8mb4_general_ci"])
            ));
            keys.push(format!("PRIMARY KEY ({}({})){clustered}", quote(&name), rng.random_range(1..5)));
        }
        13..=15 => {
            let names: Vec<String> =
                (0..rng.random_range(1..=2)).map(|_| column_name(rng, &mut taken)).collect();
            for name in &names {
                parts.push(format!("{} {} NOT NULL", quote(name), types::key_type(rng)));
            }
            let list: Vec<_> = names.iter().map(|name| quote(name)).collect();
            keys.push(format!("UNIQUE KEY ({})", list.join(", ")));
        }
        16 => {
            let name = column_name(rng, &mut taken);
            parts.push(format!("{} VARCHAR(30)", quote(&name)));
            keys.push(format!("UNIQUE KEY u ({})", quote(&name)));
        }
        17 => {
            let name = column_name(rng, &mut taken);
            parts.push(format!("{} INT{}", quote(&name), null(rng)));
            partition_by = Some((name, true));
        }
        _ => {
            let name = column_name(rng, &mut taken);
            parts.push(format!("{} {}", quote(&name), types::key_type(rng)));
            keys.push(format!("PRIMARY KEY ({}){clustered}", quote(&name)));
        }
    }
    let plain: Vec<(String, String)> =
        (0..rng.random_range(0..=7)).map(|_| (column_name(rng, &mut taken), definition(rng))).collect();
    parts.extend(plain.iter().map(|(name, definition)| format!("{} {definition}", quote(name))));
    if let Some((base, definition)) = plain.choose(rng)
        && rng.random_ratio(1, 4)
    {
        let name = column_name(rng, &mut taken);
        parts.push(generated(rng, &name, base, &definition.to_lowercase()));
    }
    if rng.random_ratio(1, 4) {
        parts.shuffle(rng);
    }
    if partition_by.is_none()
        && let Some((name, definition)) = plain.choose(rng)
        && !["TEXT", "BLOB", "JSON"].iter().any(|name| definition.contains(name))
    {
        match rng.random_range(0..6) {
            0 => keys.push(format!("UNIQUE KEY {} ({})", pick(rng, &["", "uq", "`u q`"]), quote(name))),
            1..=2 => keys.push(format!("KEY {} ({})", pick(rng, &["", "ix", "`i x`"]), quote(name))),
            3 if rng.random_ratio(1, 3) => keys.push(format!("KEY ex ((UPPER({})))", quote(name))),
            _ => {}
        }
    }
    if let Some((name, _)) = partition_by.filter(|_| rng.random()) {
        tail = format!(" {}", partitions(rng, &name));
    }
    parts.extend(keys);
    let mut options = Vec::new();
    if rng.random_ratio(1, 5) {
        let charset = pick(
            rng,
            &[
                "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci",
                "CHARSET=latin1",
                "CHARSET utf8",
                "COLLATE utf8mb4_unicode_ci",
                "DEFAULT CHARACTER SET gbk",
                "DEFAULT CHARSET=binary",
            ],
        );
        // Octets as text: TiDB and MariaDB differ in what is not UTF-8.
        let of_text = |part: &String| part.contains(" AS (LEFT(") || part.contains(" AS (CONCAT(");
        let octets_as_text = charset.ends_with("binary") && parts.iter().any(of_text);
        options.extend((!octets_as_text).then_some(charset));
    }
    if rng.random_ratio(1, 6) {
        options.push("COMMENT='it''s; a \"table\"'");
    }
    if rng.random_ratio(1, 8) {
        options.push(pick(
            rng,
            &[
                "AUTO_INCREMENT=100",
                "ENGINE=InnoDB",
                "ROW_FORMAT=COMPACT",
                "AUTO_ID_CACHE 1",
                "SHARD_ROW_ID_BITS=4",
            ],
        ));
    }
    format!("({}) {}{tail}", parts.join(", "), options.join(" "))
}

/// A generated column over another of this definition; expressions that every server computes alike.
pub fn generated(rng: &mut StdRng, name: &str, base: &str, definition: &str) -> String {
    let (name, base) = (quote(name), quote(base));
    let starts = |names: &[&str]| names.iter().any(|name| definition.starts_with(name));
    let (column_type, expression) = if starts(&["varchar"]) && !definition.contains("charac") {
        match rng.random() {
            true => ("VARCHAR(400) CHARACTER SET utf8mb4", format!("CONCAT({base}, '-x')")),
            false => ("VARCHAR(400) COLLATE utf8mb4_bin", format!("LEFT({base}, 3)")),
        }
    } else if starts(&["int", "bigint", "smallint", "mediumint", "tinyint"]) {
        ("DECIMAL(40,0)", format!("{base} + 1"))
    } else {
        // A stored column over CHAR or TIMESTAMP is refused by MariaDB, whatever the expression.
        return format!("{name} INT AS (1 + 1) VIRTUAL");
    };
    format!("{name} {column_type} AS ({expression}) {}", pick(rng, &["VIRTUAL", "STORED"]))
}

/// PARTITION BY of an integer column.
fn partitions(rng: &mut StdRng, name: &str) -> String {
    let name = quote(name);
    match rng.random_range(0..5) {
        0..=1 => format!(
            "PARTITION BY RANGE ({name}) (PARTITION p0 VALUES LESS THAN (10), PARTITION `P 1` VALUES LESS THAN (25), \
             PARTITION p2 VALUES LESS THAN (1000){})",
            pick(rng, &["", ", PARTITION pmax VALUES LESS THAN MAXVALUE"])
        ),
        2 => format!("PARTITION BY HASH ({name}) PARTITIONS 3"),
        3 => {
            let list = |from: i32, to: i32| {
                (from..to).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
            };
            format!(
                "PARTITION BY LIST ({name}) (PARTITION p0 VALUES IN ({}), PARTITION p1 VALUES IN ({}), PARTITION p2 VALUES IN (NULL, 0, 40))",
                list(1, 15),
                list(15, 40)
            )
        }
        _ => format!(
            "PARTITION BY RANGE COLUMNS ({name}) (PARTITION p0 VALUES LESS THAN (12), PARTITION p1 VALUES LESS THAN (30), \
             PARTITION p2 VALUES LESS THAN (MAXVALUE))"
        ),
    }
}

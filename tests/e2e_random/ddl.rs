//! Random DDL over the tables of a history: every form that TiDB runs.
//!
//! Kept out is what makes a real Drainer exit (source-drainer.md 10.6): EXCHANGE PARTITION with later changes of the plain table,
//! FLASHBACK DATABASE and CLUSTER.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::create;
use super::table::Table;
use super::types::{self, pick};
use support::sql::quote;

/// A statement, the schema that is current when it runs, and what it is called where stops are excused.
#[derive(Debug, Default)]
pub struct Statement {
    pub schema: String,
    pub sql: String,
    pub marks: Vec<&'static str>,
}

pub struct World<'a> {
    pub schemas: &'a [String],
    pub tables: &'a [Table],
    /// Names that tables have had, with their schemas.
    pub gone: &'a [(String, String)],
}

impl World<'_> {
    fn schema(&self, rng: &mut StdRng) -> String {
        self.schemas.choose(rng).expect("a schema").clone()
    }

    /// A name that no table of the schema has; often one that has been in use.
    fn free(&self, rng: &mut StdRng, schema: &str) -> String {
        loop {
            let name = match self.gone.choose(rng) {
                Some((_, name)) if rng.random_ratio(1, 3) => name.clone(),
                _ => create::table_name(rng),
            };
            if !self
                .tables
                .iter()
                .any(|table| table.schema == schema && table.name.eq_ignore_ascii_case(&name))
            {
                return name;
            }
        }
    }
}

/// A name as somebody might write it: in other letters at times.
fn spelled(rng: &mut StdRng, name: &str) -> String {
    match rng.random_range(0..12) {
        0 => quote(&name.to_ascii_uppercase()),
        1 => quote(&name.to_ascii_lowercase()),
        2 if name.chars().all(|c| c.is_ascii_lowercase())
            && !["order", "table", "select", "from", "values", "key", "group", "default"].contains(&name) =>
        {
            name.to_owned()
        }
        _ => quote(name),
    }
}

pub fn random(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let roll = rng.random_range(0..100);
    match roll {
        0..=8 => Some(create_table(world, rng)),
        9..=12 => create_like(world, rng),
        13..=17 => drop_table(world, rng),
        18..=25 => rename(world, rng),
        26..=28 => multi_rename(world, rng),
        29..=32 => truncate(world, rng),
        33 => Some(other(world, rng)),
        34..=35 => view(world, rng),
        _ => alter(world, rng),
    }
}

pub fn create_table(world: &World<'_>, rng: &mut StdRng) -> Statement {
    let (schema, current) = (world.schema(rng), world.schema(rng));
    let name = world.free(rng, &schema);
    let exists = if rng.random_ratio(1, 4) { "IF NOT EXISTS " } else { "" };
    let definition = create::table(rng);
    let name = if schema == current && rng.random() {
        quote(&name)
    } else {
        format!("{}.{}", quote(&schema), quote(&name))
    };
    Statement { schema: current, sql: format!("CREATE TABLE {exists}{name} {definition}"), marks: Vec::new() }
}

/// The table as named from the current schema, without its own where that is the same and chance says so.
fn named(rng: &mut StdRng, schema: &str, table: &str, current: &str) -> String {
    let spelled_table = spelled(rng, table);
    if schema == current && rng.random() {
        spelled_table
    } else {
        format!("{}.{spelled_table}", quote(schema))
    }
}

fn create_like(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let source = world.tables.choose(rng)?;
    let (schema, current) = (world.schema(rng), world.schema(rng));
    let name = world.free(rng, &schema);
    let new = if schema == current && rng.random() {
        quote(&name)
    } else {
        format!("{}.{}", quote(&schema), quote(&name))
    };
    let old = named(rng, &source.schema, &source.name, &current);
    let marks = unsure(&new, &old);
    Some(Statement { schema: current, sql: format!("CREATE TABLE {new} LIKE {old}"), marks })
}

fn drop_table(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let count = rng.random_range(1..=3);
    let tables: Vec<_> = world.tables.choose_multiple(rng, count).collect();
    if world.tables.len() <= count + 1 {
        return None;
    }
    let current = world.schema(rng);
    let mut names: Vec<_> =
        tables.iter().map(|table| named(rng, &table.schema, &table.name, &current)).collect();
    let exists = rng.random_ratio(1, 3);
    if exists && rng.random() {
        names.push("never_was".to_owned());
        names.shuffle(rng);
    }
    let exists = if exists { "IF EXISTS " } else { "" };
    Some(Statement {
        schema: current,
        sql: format!("DROP TABLE {exists}{}", names.join(", ")),
        marks: Vec::new(),
    })
}

fn rename(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let table = world.tables.choose(rng)?;
    let (schema, current) = (world.schema(rng), world.schema(rng));
    let name = world.free(rng, &schema);
    let old = named(rng, &table.schema, &table.name, &current);
    let new = if schema == current && rng.random() {
        quote(&name)
    } else {
        format!("{}.{}", quote(&schema), quote(&name))
    };
    let sql = match rng.random_range(0..4) {
        0 => format!("ALTER TABLE {old} RENAME {new}"),
        1 => format!("ALTER TABLE {old} RENAME AS {new}"),
        _ => format!("RENAME TABLE {old} TO {new}"),
    };
    let marks = unsure(&new, &old);
    Some(Statement { schema: current, sql, marks })
}

/// An old name without its schema beside a new name with one: only the session knew what it means.
fn unsure(new: &str, old: &str) -> Vec<&'static str> {
    let qualified = |name: &str| name.contains("`.");
    if qualified(new) && !qualified(old) { vec!["unqualified"] } else { Vec::new() }
}

fn multi_rename(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let [one, other] = world.tables.choose_multiple(rng, 2).collect::<Vec<_>>()[..] else { return None };
    let current = world.schema(rng);
    let (a, b) =
        (named(rng, &one.schema, &one.name, &current), named(rng, &other.schema, &other.name, &current));
    let fresh =
        |rng: &mut StdRng, schema: &str| format!("{}.{}", quote(schema), quote(&world.free(rng, schema)));
    let (sql, marks) = match rng.random_range(0..6) {
        0 => {
            let between = fresh(rng, &one.schema);
            (
                format!("RENAME TABLE {a} TO {between}, {b} TO {a}, {between} TO {b}"),
                vec!["swap", "multi_rename"],
            )
        }
        1 => {
            let back = fresh(rng, &one.schema);
            (format!("RENAME TABLE {a} TO {back}, {b} TO {a}"), vec!["multi_rename", "unqualified"])
        }
        _ => {
            let (schema_a, schema_b) = (world.schema(rng), world.schema(rng));
            let (new_a, new_b) = (fresh(rng, &schema_a), fresh(rng, &schema_b));
            let mut marks = vec!["multi_rename"];
            marks.extend(unsure(&new_a, &a));
            marks.extend(unsure(&new_b, &b));
            (format!("RENAME TABLE {a} TO {new_a}, {b} TO {new_b}"), marks)
        }
    };
    Some(Statement { schema: current, sql, marks })
}

fn truncate(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let table = world.tables.choose(rng)?;
    let current = world.schema(rng);
    let name = named(rng, &table.schema, &table.name, &current);
    Some(Statement { schema: current, sql: format!("TRUNCATE TABLE {name}"), marks: Vec::new() })
}

fn view(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let table = world.tables.choose(rng)?;
    let schema = world.schema(rng);
    let sql = match rng.random_range(0..3) {
        0 => format!("DROP VIEW IF EXISTS {}.v1", quote(&schema)),
        _ => format!("CREATE OR REPLACE VIEW {}.v1 AS SELECT * FROM {}", quote(&schema), table.quoted()),
    };
    Some(Statement { schema, sql, marks: Vec::new() })
}

fn other(world: &World<'_>, rng: &mut StdRng) -> Statement {
    let schema = world.schema(rng);
    let sql = match rng.random_range(0..5) {
        0 => format!("CREATE SEQUENCE IF NOT EXISTS {}.seq1", quote(&schema)),
        1 => format!("ALTER DATABASE {} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", quote(&schema)),
        2 => format!("ALTER DATABASE {} COLLATE utf8mb4_bin", quote(&schema)),
        3 => format!("DROP SEQUENCE IF EXISTS {}.seq1", quote(&schema)),
        _ => format!("CREATE DATABASE IF NOT EXISTS {}", quote(&schema)),
    };
    Statement { schema, sql, marks: Vec::new() }
}

fn alter(world: &World<'_>, rng: &mut StdRng) -> Option<Statement> {
    let table = world.tables.choose(rng)?;
    let current = world.schema(rng);
    let name = named(rng, &table.schema, &table.name, &current);
    let mut taken: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    let count = if rng.random_ratio(1, 6) { rng.random_range(2..=3) } else { 1 };
    let mut clauses = Vec::new();
    for _ in 0..count {
        clauses.push(clause(table, rng, &mut taken)?);
    }
    if count == 1
        && let Some(index) = clauses[0].strip_prefix("ADD KEY ")
        && rng.random()
    {
        let sql = format!("CREATE INDEX {} ON {name} {}", index.split(' ').next()?, index.split_once(' ')?.1);
        return Some(Statement { schema: current, sql, marks: Vec::new() });
    }
    Some(Statement {
        schema: current,
        sql: format!("ALTER TABLE {name} {}", clauses.join(", ")),
        marks: Vec::new(),
    })
}

fn position(table: &Table, rng: &mut StdRng) -> String {
    match rng.random_range(0..5) {
        0 => " FIRST".to_owned(),
        1..=2 => table
            .columns
            .choose(rng)
            .map_or(String::new(), |column| format!(" AFTER {}", spelled(rng, &column.name))),
        _ => String::new(),
    }
}

/// One clause of an ALTER TABLE.
fn clause(table: &Table, rng: &mut StdRng, taken: &mut Vec<String>) -> Option<String> {
    let column = table.columns.choose(rng)?;
    let quoted = spelled(rng, &column.name);
    Some(match rng.random_range(0..60) {
        0..=13 => {
            let new = create::column_name(rng, taken);
            let definition = create::definition(rng);
            match rng.random_range(0..6) {
                0 => {
                    let second = create::column_name(rng, taken);
                    format!(
                        "ADD COLUMN ({} {definition}, {} {})",
                        quote(&new),
                        quote(&second),
                        create::definition(rng)
                    )
                }
                1 => format!(
                    "ADD {}",
                    create::generated(rng, &new, &column.name, &column.definition())
                        .replace("STORED", "VIRTUAL")
                ),
                2 => format!("ADD COLUMN IF NOT EXISTS {} {definition}", quote(&new)),
                _ => format!("ADD COLUMN {} {definition}{}", quote(&new), position(table, rng)),
            }
        }
        14..=21 => format!("DROP COLUMN {}{quoted}", pick(rng, &["", "IF EXISTS "])),
        22..=27 => {
            // Often the same type, wider.
            let definition = match rng.random_range(0..3) {
                0 => create::definition(rng),
                _ => wider(column.column_type.as_str(), rng),
            };
            format!("MODIFY COLUMN {quoted} {definition}{}", position(table, rng))
        }
        28..=30 => {
            let new = create::column_name(rng, taken);
            let definition =
                if rng.random() { wider(&column.column_type, rng) } else { create::definition(rng) };
            format!("CHANGE COLUMN {quoted} {} {definition}{}", quote(&new), position(table, rng))
        }
        31..=33 => format!("RENAME COLUMN {quoted} TO {}", quote(&create::column_name(rng, taken))),
        34..=35 => match rng.random() {
            true => format!("ALTER COLUMN {quoted} DROP DEFAULT"),
            false => {
                let default = types::default_for(rng, &column.column_type);
                let default = default.split(" ON UPDATE").next()?;
                if default.is_empty() || default.contains("CURRENT") {
                    return Some(format!("ALTER COLUMN {quoted} SET DEFAULT NULL"));
                }
                format!("ALTER COLUMN {quoted} SET {default}")
            }
        },
        36..=39 => format!("ADD KEY k{} ({quoted})", rng.random_range(0..20)),
        40..=41 => format!("ADD UNIQUE KEY u{} ({quoted})", rng.random_range(0..20)),
        42..=44 => {
            let index = table.indexes.choose(rng)?;
            match index.name.as_str() {
                "PRIMARY" => "DROP PRIMARY KEY".to_owned(),
                name if rng.random_ratio(1, 3) => {
                    format!("RENAME INDEX {} TO ri{}", quote(name), rng.random_range(0..20))
                }
                name => format!("DROP INDEX {}", quote(name)),
            }
        }
        45 => format!("ADD PRIMARY KEY ({quoted}) NONCLUSTERED"),
        46..=47 => format!("COMMENT = {}", pick(rng, &["''", "'new; comment'", "'it''s'"])),
        48 => format!("AUTO_INCREMENT = {}", rng.random_range(1000..9999)),
        49 => pick(
            rng,
            &[
                "CONVERT TO CHARACTER SET utf8mb4",
                "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
                "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
                "DEFAULT COLLATE utf8mb4_bin",
                "CHARACTER SET latin1",
            ],
        )
        .to_owned(),
        _ => partition(table, rng)?,
    })
}

/// A type of the same family that holds as much or more, or a little less.
fn wider(column_type: &str, rng: &mut StdRng) -> String {
    let base = column_type.split([' ', '(']).next().unwrap_or_default();
    let sign = if column_type.contains("unsigned") { " UNSIGNED" } else { "" };
    let null = pick(rng, &["", "", " NOT NULL", " NULL", " COMMENT 'm'"]);
    let new = match base {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => {
            format!("{}{sign}", pick(rng, &["BIGINT", "INT", "BIGINT", "SMALLINT"]))
        }
        "varchar" | "char" => {
            format!("{}({})", pick(rng, &["VARCHAR", "VARCHAR", "CHAR"]), rng.random_range(20..120))
        }
        "decimal" => format!("DECIMAL({},{}){sign}", rng.random_range(20..40), rng.random_range(2..9)),
        "float" => "DOUBLE".to_owned(),
        "datetime" | "timestamp" | "time" => format!("{base}({})", rng.random_range(0..7)),
        "varbinary" | "binary" => format!("VARBINARY({})", rng.random_range(20..60)),
        "text" | "tinytext" => "LONGTEXT".to_owned(),
        "blob" | "tinyblob" => "LONGBLOB".to_owned(),
        "enum" if column_type.ends_with(')') => column_type.replace(')', ",'more','Mehr')"),
        _ => column_type.to_owned(),
    };
    format!("{new}{null}")
}

fn partition(table: &Table, rng: &mut StdRng) -> Option<String> {
    let name = table.partitions.choose(rng);
    let range = table.create.contains("PARTITION BY RANGE");
    let Some(name) = name else {
        return table.create.contains("PARTITION BY HASH").then(|| match rng.random_range(0..3) {
            0 => "ADD PARTITION PARTITIONS 2".to_owned(),
            1 => "COALESCE PARTITION 1".to_owned(),
            _ => "TRUNCATE PARTITION p0".to_owned(),
        });
    };
    let quoted = quote(name);
    Some(match rng.random_range(0..8) {
        0..=1 => format!("TRUNCATE PARTITION {quoted}"),
        2 => "TRUNCATE PARTITION ALL".to_owned(),
        3 => format!("DROP PARTITION {quoted}"),
        4 if table.partitions.len() > 2 => {
            let other = table.partitions.iter().find(|other| *other != name)?;
            format!("TRUNCATE PARTITION {quoted}, {}", quote(other))
        }
        5 if range => format!(
            "ADD PARTITION (PARTITION pn{} VALUES LESS THAN ({}))",
            rng.random_range(0..99),
            rng.random_range(1001..9999)
        ),
        5 => format!(
            "ADD PARTITION (PARTITION pn{} VALUES IN ({}, {}))",
            rng.random_range(0..99),
            rng.random_range(100..200),
            rng.random_range(200..300)
        ),
        _ if range => {
            let bound = regex::Regex::new(&format!(
                r"PARTITION {} VALUES LESS THAN \(([^)]*)\)",
                regex::escape(&quoted)
            ))
            .ok()?;
            let bound = bound.captures(&table.create)?[1].to_owned();
            let low = rng.random_range(1..30);
            format!(
                "REORGANIZE PARTITION {quoted} INTO (PARTITION r{low} VALUES LESS THAN ({low}), PARTITION {quoted} VALUES LESS THAN ({bound}))"
            )
        }
        _ => format!("TRUNCATE PARTITION {quoted}"),
    })
}

//! Random transactions over the tables of a history.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::table::{Column, Table};
use super::types;
use support::sql::quote;

/// The statements of one transaction; a single one may stand without BEGIN.
pub fn transaction(tables: &[Table], rng: &mut StdRng) -> Vec<String> {
    let Some(table) = tables.choose(rng) else { return Vec::new() };
    if rng.random_ratio(1, 8)
        && let Some(swap) = swap(table, rng)
    {
        return swap;
    }
    let count = rng.random_range(1..=5);
    let mut statements: Vec<String> = (0..count)
        .map(|_| {
            let table = if rng.random_ratio(1, 4) { tables.choose(rng).unwrap_or(table) } else { table };
            statement(table, rng)
        })
        .collect();
    if count > 1 || rng.random() {
        statements.insert(0, pick(rng, &["BEGIN", "BEGIN", "BEGIN OPTIMISTIC"]));
        statements.push(if rng.random_ratio(1, 15) { "ROLLBACK" } else { "COMMIT" }.to_owned());
    }
    statements
}

fn pick(rng: &mut StdRng, from: &[&str]) -> String {
    types::pick(rng, from).to_owned()
}

fn statement(table: &Table, rng: &mut StdRng) -> String {
    if table.writable().next().is_none() {
        return format!("INSERT INTO {} () VALUES ()", table.quoted());
    }
    match rng.random_range(0..20) {
        0 => {
            let rows = rng.random_range(20..120);
            insert(table, rng, rows)
        }
        1..=8 => {
            let rows = rng.random_range(1..=6);
            insert(table, rng, rows)
        }
        9..=13 => update(table, rng),
        14..=16 => update_key(table, rng),
        17 => format!("UPDATE {0} SET {1} = {1}", table.quoted(), any_column(table, rng)),
        _ => format!("DELETE FROM {} WHERE {}", table.quoted(), condition(table, rng)),
    }
}

fn any_column(table: &Table, rng: &mut StdRng) -> String {
    let columns: Vec<&Column> = table.writable().collect();
    quote(&columns.choose(rng).expect("a table has a column").name)
}

fn value(table: &Table, column: &Column, rng: &mut StdRng) -> String {
    types::value(rng, column, table.in_key(&column.name))
}

pub fn insert(table: &Table, rng: &mut StdRng, rows: usize) -> String {
    let shortened = rng.random_ratio(1, 6);
    let columns: Vec<&Column> = table
        .writable()
        .filter(|column| !(shortened && column.has_default && !table.in_key(&column.name) && rng.random()))
        .collect();
    let names: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
    let values: Vec<_> = (0..rows)
        .map(|_| {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| {
                    let free = column.has_default && !column.nullable && rng.random_ratio(1, 10);
                    if free { "DEFAULT".to_owned() } else { value(table, column, rng) }
                })
                .collect();
            format!("({})", cells.join(", "))
        })
        .collect();
    let (names_text, values) = (names.join(", "), values.join(", "));
    let (verb, tail) = match rng.random_range(0..8) {
        0..=2 => ("INSERT IGNORE", String::new()),
        3..=4 => ("REPLACE", String::new()),
        5..=6 => {
            let sets: Vec<_> =
                names.choose_multiple(rng, 2).map(|name| format!("{name} = VALUES({name})")).collect();
            ("INSERT", format!(" ON DUPLICATE KEY UPDATE {}", sets.join(", ")))
        }
        _ => ("INSERT", String::new()),
    };
    format!("{verb} INTO {} ({names_text}) VALUES {values}{tail}", table.quoted())
}

/// Some rows of the table: by the key, by a hash of it, or the first few of any.
fn condition(table: &Table, rng: &mut StdRng) -> String {
    let key = table.key();
    if key.is_empty() {
        return match table.writable().next() {
            Some(column) => format!(
                "{} <=> {} LIMIT {}",
                quote(&column.name),
                value(table, column, rng),
                rng.random_range(1..4)
            ),
            None => "1 = 0".to_owned(),
        };
    }
    if rng.random_ratio(1, 3) {
        let parts: Vec<_> = key
            .iter()
            .map(|column| format!("{} <=> {}", quote(&column.name), value(table, column, rng)))
            .collect();
        return parts.join(" AND ");
    }
    let names: Vec<_> = key.iter().map(|column| format!("HEX({})", quote(&column.name))).collect();
    let (of, rest) = (rng.random_range(2..9), rng.random_range(0..2));
    format!("CRC32(CONCAT_WS('-', {})) % {of} = {rest}", names.join(", "))
}

fn update(table: &Table, rng: &mut StdRng) -> String {
    let columns: Vec<&Column> = table.writable().filter(|column| !table.in_key(&column.name)).collect();
    if columns.is_empty() {
        return update_key(table, rng);
    }
    let count = rng.random_range(1..=3);
    let sets: Vec<_> = columns
        .choose_multiple(rng, count)
        .map(|column| {
            let value =
                if rng.random_ratio(1, 12) { "DEFAULT".to_owned() } else { value(table, column, rng) };
            format!("{} = {value}", quote(&column.name))
        })
        .collect();
    format!("UPDATE {} SET {} WHERE {}", table.quoted(), sets.join(", "), condition(table, rng))
}

/// Changes a column of a key: its value, its case, its trailing spaces.
fn update_key(table: &Table, rng: &mut StdRng) -> String {
    let columns: Vec<&Column> = table.writable().filter(|column| table.in_key(&column.name)).collect();
    let Some(column) = columns.choose(rng) else { return update(table, rng) };
    let name = quote(&column.name);
    let new = match column.data_type.as_str() {
        "varchar" | "char" | "text" => match rng.random_range(0..5) {
            0 => format!("UPPER({name})"),
            1 => format!("LOWER({name})"),
            2 => format!("CONCAT({name}, ' ')"),
            3 => format!("TRIM({name})"),
            _ => value(table, column, rng),
        },
        "int" | "bigint" | "smallint" | "tinyint" | "mediumint" if rng.random() => format!("{name} + 41"),
        _ => value(table, column, rng),
    };
    format!("UPDATE {} SET {name} = {new} WHERE {}", table.quoted(), condition(table, rng))
}

/// Two rows exchange the values of their key column within one transaction.
fn swap(table: &Table, rng: &mut StdRng) -> Option<Vec<String>> {
    let [column] = table.key()[..] else { return None };
    let name = quote(&column.name);
    let (one, other) = (value(table, column, rng), value(table, column, rng));
    let between = types::value(rng, column, false);
    let set =
        |from: &str, to: &str| format!("UPDATE {} SET {name} = {to} WHERE {name} <=> {from}", table.quoted());
    Some(vec![
        "BEGIN".to_owned(),
        set(&one, &between),
        set(&other, &one),
        set(&between, &other),
        "COMMIT".to_owned(),
    ])
}

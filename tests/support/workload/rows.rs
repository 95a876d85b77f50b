//! The writers of rows: transactions of inserts, updates and deletes over whatever tables live.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::model::{Model, Table, condition};
use crate::sql::quote;

#[derive(Debug, Default)]
pub struct Counts {
    pub transactions: AtomicU64,
    pub statements: AtomicU64,
    /// Refused by TiDB: duplicate keys, tables and columns that are gone, deadlocks.
    pub refused: AtomicU64,
}

pub async fn write(
    mut connection: Conn,
    model: Arc<Model>,
    counts: Arc<Counts>,
    seed: u64,
    pace: Duration,
    stop: CancellationToken,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        transaction(&mut connection, &model, &counts, &mut rng).await;
        tokio::time::sleep(pace.mul_f64(rng.random_range(0.2..1.8))).await;
    }
}

async fn transaction(connection: &mut Conn, model: &Model, counts: &Counts, rng: &mut StdRng) {
    let mut tables = vec![model.any(rng)];
    if rng.random_ratio(1, 4) {
        tables.push(model.any(rng));
    }
    tables.sort_by_key(|table| table.id);
    tables.dedup_by_key(|table| table.id);
    let gates: Vec<_> = tables.iter().map(|table| Arc::clone(&table.gate)).collect();
    let mut open = Vec::new();
    for gate in &gates {
        open.push(gate.read().await);
    }
    let mut statements = vec!["BEGIN".to_owned()];
    for _ in 0..rng.random_range(1..=4) {
        statements.push(statement(tables.choose(rng).unwrap(), rng));
    }
    statements.push(if rng.random_ratio(1, 20) { "ROLLBACK".to_owned() } else { "COMMIT".to_owned() });
    for statement in statements {
        counts.statements.fetch_add(1, Ordering::Relaxed);
        match connection.query_drop(&statement).await {
            Ok(()) => {}
            Err(mysql_async::Error::Server(_)) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{}: {error}", statement.chars().take(200).collect::<String>()),
        }
    }
    counts.transactions.fetch_add(1, Ordering::Relaxed);
}

fn statement(table: &Table, rng: &mut StdRng) -> String {
    match rng.random_range(0..20) {
        0 => {
            let rows = rng.random_range(50..150);
            insert(table, rng, rows)
        }
        1..=8 => {
            let rows = rng.random_range(1..=6);
            insert(table, rng, rows)
        }
        9..=15 => update(table, rng),
        _ => format!("DELETE FROM {} WHERE {}", table.quoted(), condition(table, rng)),
    }
}

/// An insert of random rows that never fails for a duplicate key.
pub fn insert(table: &Table, rng: &mut StdRng, rows: usize) -> String {
    // Now and then the columns beyond the key are left to their defaults.
    let shortened = table.template.key > 0 && rng.random_ratio(1, 10);
    let count = if shortened { table.template.key.max(2) } else { table.columns.len() };
    let columns: Vec<_> = table.columns.iter().take(count).collect();
    let names: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
    let values: Vec<_> = (0..rows)
        .map(|_| {
            let cells: Vec<_> = columns.iter().map(|column| (column.value)(rng)).collect();
            format!("({})", cells.join(", "))
        })
        .collect();
    let last = names.last().unwrap();
    let (verb, tail) = match rng.random_range(0..3) {
        0 => ("INSERT IGNORE", String::new()),
        1 => ("REPLACE", String::new()),
        _ => ("INSERT", format!(" ON DUPLICATE KEY UPDATE {last} = VALUES({last})")),
    };
    let (names, values) = (names.join(", "), values.join(", "));
    format!("{verb} INTO {} ({names}) VALUES {values}{tail}", table.quoted())
}

fn update(table: &Table, rng: &mut StdRng) -> String {
    let rest = &table.columns[table.template.key..];
    let mut chosen: Vec<_> = rest.choose_multiple(rng, 3).collect();
    if chosen.is_empty() || (table.template.key > 0 && rng.random_ratio(1, 6)) {
        chosen.push(table.key().choose(rng).unwrap());
    }
    let sets: Vec<_> =
        chosen.iter().map(|column| format!("{} = {}", quote(&column.name), (column.value)(rng))).collect();
    format!("UPDATE {} SET {} WHERE {}", table.quoted(), sets.join(", "), condition(table, rng))
}

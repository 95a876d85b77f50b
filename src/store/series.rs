//! Figures of tasks over time. Written by one transaction per sample for all tasks, read by task.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::Store;
use super::rows::to_json;
use crate::error::Result;
use crate::model::TaskId;
use crate::observe::figures::Sample;
use crate::observe::series::{Gather, TIERS, Tier};

/// Rows of one INSERT: four parameters each, and SQLite takes 32,766.
const ROWS: usize = 1000;

/// A row of a series.
#[derive(Debug, Clone)]
pub struct SeriesRow {
    pub step_s: i64,
    pub at_s: i64,
    pub sample: Sample,
}

async fn insert(
    connection: &mut SqliteConnection,
    step_s: i64,
    at_s: i64,
    rows: &[(i64, Vec<u8>)],
) -> Result<()> {
    for rows in rows.chunks(ROWS) {
        let mut sql: QueryBuilder<Sqlite> =
            QueryBuilder::new("insert or replace into series (step_s, at_s, n, figures) ");
        sql.push_values(rows, |mut row, (n, figures)| {
            row.push_bind(step_s).push_bind(at_s).push_bind(*n).push_bind(figures.as_slice());
        });
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Adds one sample of many tasks, makes rows of the coarser steps that are over, and throws away what is too old: all in one
    /// transaction.
    pub async fn add_samples(&self, at_s: i64, samples: &[(TaskId, Sample)]) -> Result<()> {
        let [finest, ..] = TIERS;
        let mut transaction = self.writer.begin().await?;
        let ids: Vec<_> = samples.iter().map(|(task, _)| task.0.as_str()).collect();
        let ids = to_json(&ids)?;
        // A task that was deleted meanwhile is left out here, and below.
        sqlx::query(
            "insert into series_tasks (task_id) select id from tasks where id in (select value from json_each(?))
             on conflict do nothing",
        )
        .bind(&ids)
        .execute(&mut *transaction)
        .await?;
        let numbers = sqlx::query(
            "select n, task_id from series_tasks where task_id in (select value from json_each(?))",
        )
        .bind(&ids)
        .fetch_all(&mut *transaction)
        .await?;
        let mut known: HashMap<String, i64> = HashMap::with_capacity(numbers.len());
        for row in &numbers {
            known.insert(row.try_get("task_id")?, row.try_get("n")?);
        }
        let rows: Vec<(i64, Vec<u8>)> = samples
            .iter()
            .filter_map(|(task, sample)| Some((*known.get(&task.0)?, sample.encode())))
            .collect();
        insert(&mut transaction, finest.step_s, at_s, &rows).await?;
        for pair in TIERS.windows(2) {
            if let [fine, coarse] = pair {
                roll_up(&mut transaction, fine, coarse, at_s).await?;
            }
        }
        for tier in TIERS {
            sqlx::query("delete from series where step_s = ? and at_s < ?")
                .bind(tier.step_s)
                .bind(at_s - tier.kept_s)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// A task's rows of one tier between two times, in order, and behind the last that was rolled up those of the finest.
    pub async fn series(&self, task: &TaskId, tier: Tier, from_s: i64, to_s: i64) -> Result<Vec<SeriesRow>> {
        let n: Option<i64> = sqlx::query_scalar("select n from series_tasks where task_id = ?")
            .bind(&task.0)
            .fetch_optional(&self.reader)
            .await?;
        let Some(n) = n else { return Ok(Vec::new()) };
        let newest: Option<i64> = sqlx::query_scalar("select max(at_s) from series where step_s = ?")
            .bind(tier.step_s)
            .fetch_one(&self.reader)
            .await?;
        let rolled = newest.map_or(from_s, |newest| newest + tier.step_s).max(from_s);
        let [finest, ..] = TIERS;
        let mut parts = vec![(tier, from_s, to_s.min(rolled))];
        if tier != finest {
            parts.push((finest, rolled, to_s));
        }
        let mut found = Vec::new();
        for (tier, from_s, to_s) in parts {
            // One look-up per step: rows of a task do not lie together.
            let rows = sqlx::query(
                "with recursive step (at_s) as (select ?1 where ?1 < ?2 union all select at_s + ?3 from step where at_s + ?3 < ?2)
                 select series.at_s, series.figures from step cross join series
                 on series.step_s = ?3 and series.at_s = step.at_s and series.n = ?4",
            )
            .bind(-(-from_s).div_euclid(tier.step_s) * tier.step_s)
            .bind(to_s)
            .bind(tier.step_s)
            .bind(n)
            .fetch_all(&self.reader)
            .await?;
            for row in &rows {
                let figures: Vec<u8> = row.try_get("figures")?;
                let sample = Sample::decode(&figures);
                found.push(SeriesRow { step_s: tier.step_s, at_s: row.try_get("at_s")?, sample });
            }
        }
        Ok(found)
    }
}

/// Makes the rows of the coarser steps that have ended by `now_s` and are not there yet, one step after the other.
async fn roll_up(connection: &mut SqliteConnection, fine: &Tier, coarse: &Tier, now_s: i64) -> Result<()> {
    let newest: Option<i64> = sqlx::query_scalar("select max(at_s) from series where step_s = ?")
        .bind(coarse.step_s)
        .fetch_one(&mut *connection)
        .await?;
    let mut from = newest.map_or(i64::MIN, |newest| newest + coarse.step_s);
    loop {
        // Steps in which nothing was sampled are jumped over.
        let first: Option<i64> =
            sqlx::query_scalar("select min(at_s) from series where step_s = ? and at_s >= ?")
                .bind(fine.step_s)
                .bind(from)
                .fetch_one(&mut *connection)
                .await?;
        let Some(first) = first else { return Ok(()) };
        let start = first.div_euclid(coarse.step_s) * coarse.step_s;
        let end = start + coarse.step_s;
        if end > now_s {
            return Ok(());
        }
        let rows = sqlx::query(
            "select n, figures from series where step_s = ? and at_s >= ? and at_s < ? order by at_s",
        )
        .bind(fine.step_s)
        .bind(start)
        .bind(end)
        .fetch_all(&mut *connection)
        .await?;
        let mut gathered: HashMap<i64, Gather> = HashMap::new();
        for row in &rows {
            let figures: Vec<u8> = row.try_get("figures")?;
            gathered.entry(row.try_get("n")?).or_default().add(&Sample::decode(&figures), fine.step_s as f64);
        }
        let mut rows: Vec<_> =
            gathered.into_iter().map(|(n, gather)| (n, gather.sample().encode())).collect();
        rows.sort_unstable_by_key(|(n, _)| *n);
        insert(connection, coarse.step_s, start, &rows).await?;
        from = end;
    }
}

//! What values have lost, counted by table, column and rule: in the transaction that makes their rows durable progress, so
//! that a row whose work is repeated after a crash is not counted twice. The parts of a transaction larger than a batch are the
//! exception: they may be.

use std::collections::HashMap;

use sqlx::Row;

use super::Store;
use super::letters::{Letter, put_letters, supersede};
use super::rows::to_json;
use super::stream::{advance, write_mark};
use super::writer::Write;
use crate::error::Result;
use crate::model::{Epoch, LossyCount, LossyCounts, LossyRule, Position, TableName, TaskId, Tso};

/// Values of a task that one rule changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossyTotal {
    pub rule: LossyRule,
    pub columns: u64,
    pub count: u64,
}

pub(super) async fn add_lossy(
    transaction: &mut Write,
    task: &TaskId,
    table: &TableName,
    counts: &LossyCounts,
) -> Result<()> {
    for counted in counts.iter() {
        sqlx::query(
            "insert into lossy_counts (task_id, schema_name, table_name, column_name, rule, count) values (?, ?, ?, ?, ?, ?)
             on conflict do update set count = count + excluded.count",
        )
        .bind(&task.0)
        .bind(&table.schema)
        .bind(&table.table)
        .bind(&counted.column)
        .bind(counted.rule.as_str())
        .bind(counted.count.cast_signed())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

impl Store {
    /// [`Store::advance`], with what the rows on the way have lost, which of them were set aside, letters whose rows have come since, and
    /// the number of the marker that was set for them.
    pub async fn advance_with(
        &self,
        task: &TaskId,
        epoch: Epoch,
        (from, to, watermark): (Position, Position, Tso),
        lossy: &HashMap<TableName, LossyCounts>,
        (letters, superseded): (&[Letter], &[i64]),
        mark: Option<u64>,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        advance(&mut transaction, task, from, to, watermark).await?;
        supersede(&mut transaction, task, superseded).await?;
        put_letters(&mut transaction, task, letters).await?;
        if let Some(mark) = mark {
            write_mark(&mut transaction, task, mark).await?;
        }
        for (table, counts) in lossy {
            add_lossy(&mut transaction, task, table, counts).await?;
        }
        transaction.commit().await
    }

    /// What the task's tables have lost, each list by column and rule.
    pub async fn lossy_counts(&self, task: &TaskId) -> Result<HashMap<TableName, Vec<LossyCount>>> {
        let rows = sqlx::query("select * from lossy_counts where task_id = ? order by column_name, rule")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?;
        let mut tables: HashMap<TableName, Vec<LossyCount>> = HashMap::new();
        for row in &rows {
            let name = TableName::new(
                row.try_get::<String, _>("schema_name")?,
                row.try_get::<String, _>("table_name")?,
            );
            // A rule of a later version is not ours to show.
            let Some(rule) = LossyRule::parse(&row.try_get::<String, _>("rule")?) else { continue };
            let count = row.try_get::<i64, _>("count")?.cast_unsigned();
            tables.entry(name).or_default().push(LossyCount {
                column: row.try_get("column_name")?,
                rule,
                count,
            });
        }
        Ok(tables)
    }

    /// What these tasks have lost, by rule.
    pub async fn lossy_totals(&self, tasks: &[&TaskId]) -> Result<HashMap<TaskId, Vec<LossyTotal>>> {
        let ids: Vec<_> = tasks.iter().map(|task| task.0.as_str()).collect();
        let rows = sqlx::query(
            "select task_id, rule, count(distinct schema_name || char(0) || table_name || char(0) || column_name) as columns,
             sum(count) as count from lossy_counts where task_id in (select value from json_each(?))
             group by task_id, rule order by rule",
        )
        .bind(to_json(&ids)?)
        .fetch_all(&self.reader)
        .await?;
        let mut totals: HashMap<TaskId, Vec<LossyTotal>> = HashMap::new();
        for row in &rows {
            let Some(rule) = LossyRule::parse(&row.try_get::<String, _>("rule")?) else { continue };
            totals.entry(TaskId(row.try_get("task_id")?)).or_default().push(LossyTotal {
                rule,
                columns: row.try_get::<i64, _>("columns")?.cast_unsigned(),
                count: row.try_get::<i64, _>("count")?.cast_unsigned(),
            });
        }
        Ok(totals)
    }
}

//! The log lines of tasks: the newest of each, as far back as they are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::rows::{json, to_json};
use super::{Store, now_ms};
use crate::error::Result;
use crate::model::TaskId;
use crate::observe::lines::{Line, LogLevel};

/// Lines kept of one task.
const LINES: i64 = 5000;
/// Lines are kept this long.
const KEPT_MS: i64 = 15 * 86_400_000;
/// Old lines that are thrown away in one transaction.
const TRIM_ROWS: u32 = 2000;
/// Rows of one INSERT.
const ROWS: usize = 500;

#[derive(Debug, Clone)]
pub struct LogRow {
    pub id: i64,
    pub at: i64,
    pub level: LogLevel,
    pub target: String,
    pub message: String,
    pub fields: Value,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Of this level or a graver one.
    pub level: Option<LogLevel>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// Part of the message or of a field, in any case.
    pub text: Option<String>,
    pub oldest_first: bool,
}

impl Store {
    /// Keeps lines of tasks that this store knows, and of each of them the newest alone, in one transaction.
    pub async fn add_log_lines(&self, lines: &[Arc<Line>]) -> Result<()> {
        let tasks: BTreeSet<&str> = lines.iter().map(|line| line.task.as_str()).collect();
        let mut transaction = self.writer.begin().await?;
        let known = sqlx::query("select id from tasks where id in (select value from json_each(?))")
            .bind(to_json(&tasks)?)
            .fetch_all(&mut *transaction)
            .await?;
        let known: BTreeSet<String> =
            known.iter().map(|row| row.try_get("id")).collect::<std::result::Result<_, _>>()?;
        let lines: Vec<_> = lines.iter().filter(|line| known.contains(&line.task)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        for lines in lines.chunks(ROWS) {
            let mut sql: QueryBuilder<Sqlite> =
                QueryBuilder::new("insert into task_logs (task_id, at, level, target, message, fields) ");
            sql.push_values(lines, |mut row, line| {
                row.push_bind(&line.task)
                    .push_bind(line.at_ms)
                    .push_bind(line.level.number())
                    .push_bind(&line.target)
                    .push_bind(&line.message)
                    .push_bind(Value::Object(line.fields.clone()).to_string());
            });
            sql.build().execute(&mut *transaction).await?;
        }
        for task in known {
            sqlx::query(
                "delete from task_logs where task_id = ?1 and id <=
                 (select id from task_logs where task_id = ?1 order by id desc limit 1 offset ?2)",
            )
            .bind(task)
            .bind(LINES)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// Throws away lines that are too old, also of tasks that say nothing any more. Ids grow with time, so the oldest lie together.
    pub async fn trim_log_lines(&self) -> Result<()> {
        loop {
            let done = self
                .writer
                .execute(
                    sqlx::query(
                        "delete from task_logs where id <= (select max(id) from
                         (select id, at from task_logs order by id limit ?1) where at < ?2)",
                    )
                    .bind(TRIM_ROWS)
                    .bind(now_ms() - KEPT_MS),
                )
                .await?;
            if done.rows_affected() < u64::from(TRIM_ROWS) {
                return Ok(());
            }
        }
    }

    /// Lines of a task behind a line (its id), in the order of the filter.
    pub async fn log_lines(
        &self,
        task: &TaskId,
        filter: &LogFilter,
        behind: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LogRow>> {
        let (order, edge) = if filter.oldest_first { ("asc", i64::MIN) } else { ("desc", i64::MAX) };
        let compare = if filter.oldest_first { ">" } else { "<" };
        let sql = format!(
            "select id, at, level, target, message, fields from task_logs where task_id = ?1 and id {compare} ?2
             and level <= ?3 and at >= ?4 and at < ?5
             and (?6 is null or instr(lower(message || ' ' || fields), lower(?6)) > 0)
             order by id {order} limit ?7"
        );
        // Only our own words were put into it.
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(&task.0)
            .bind(behind.unwrap_or(edge))
            .bind(filter.level.unwrap_or(LogLevel::Info).number())
            .bind(filter.from.unwrap_or(i64::MIN))
            .bind(filter.to.unwrap_or(i64::MAX))
            .bind(filter.text.as_deref())
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(LogRow {
                    id: row.try_get("id")?,
                    at: row.try_get("at")?,
                    level: LogLevel::of_number(row.try_get("level")?),
                    target: row.try_get("target")?,
                    message: row.try_get("message")?,
                    fields: json(row, "fields")?,
                })
            })
            .collect()
    }
}

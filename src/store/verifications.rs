//! Verifications: what was asked for, what was found, and the rows to be repaired.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::letters::LetterColumn;
use super::rows::{json, optional_json, to_json};
use super::{Store, now_ms};
use crate::error::{Error, Result};
use crate::model::{Epoch, TableName, TaskId, Tso};

/// How much of tables is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Definitions alone.
    Schema,
    /// And the numbers of rows.
    Count,
    /// And every value of every row; what differs is counted.
    Checksum,
    /// And each row that differs is named by its key.
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    Never,
    /// Rows that differ are written again as the source has them.
    Differences,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub mode: Mode,
    /// None: all that the task follows.
    pub tables: Option<Vec<TableName>>,
    pub rows_per_second: Option<u64>,
    pub max_duration_ms: Option<u64>,
    pub repair: Repair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    Different,
    Inconclusive,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Inconclusive => "inconclusive",
        }
    }
}

#[derive(Debug, Clone)]
pub struct VerificationRow {
    pub n: i64,
    pub wanted: Order,
    /// queued, running, finished, cancelled, failed
    pub state: String,
    pub verdict: Option<String>,
    pub tso: Tso,
    pub rows_compared: i64,
    pub error: Option<Error>,
    pub created_at: i64,
    pub ended_at: Option<i64>,
    /// Tables, those of them that are compared, and those that are not equal.
    pub tables: (i64, i64, i64),
    /// Rows: missing, surplus, different, unsettled.
    pub rows: (i64, i64, i64, i64),
}

impl VerificationRow {
    pub fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }
}

/// What was found of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFound {
    pub verdict: Option<Verdict>,
    pub detail: Option<String>,
    pub source_rows: Option<i64>,
    pub target_rows: Option<i64>,
    pub missing: i64,
    pub surplus: i64,
    pub different: i64,
    pub unsettled: i64,
}

#[derive(Debug, Clone)]
pub struct VerifiedTable {
    pub name: TableName,
    pub verdict: Option<String>,
    pub found: TableFound,
}

/// A row that is not the same on both sides.
#[derive(Debug, Clone)]
pub struct Difference {
    /// missing, surplus, different
    pub kind: &'static str,
    /// Of the target.
    pub columns: Vec<String>,
    /// Encoded row of the key's values.
    pub key: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct DifferenceRow {
    pub n: i64,
    pub seq: i64,
    pub table: TableName,
    pub kind: String,
    pub columns: Vec<String>,
    pub key_columns: Vec<LetterColumn>,
    pub key: Vec<u8>,
    /// open, asked, repaired
    pub state: String,
    pub error: Option<Error>,
}

/// Verifications of a task that are kept.
const KEPT: i64 = 20;

const SELECT: &str = "select v.*,
    (select json_array(count(*), count(t.verdict), coalesce(sum(t.verdict <> 'equal'), 0), coalesce(sum(t.missing), 0),
        coalesce(sum(t.surplus), 0), coalesce(sum(t.different), 0), coalesce(sum(t.unsettled), 0))
     from verification_tables t where t.task_id = v.task_id and t.n = v.n) as sums
    from verifications v where v.task_id = ?1 and v.n >= ?2 and v.n < ?3 order by v.n desc limit ?4";

fn verification(row: &SqliteRow) -> Result<VerificationRow> {
    let [tables, done, unequal, missing, surplus, different, unsettled]: [i64; 7] = json(row, "sums")?;
    let tso: i64 = row.try_get("tso")?;
    Ok(VerificationRow {
        n: row.try_get("n")?,
        wanted: json(row, "wanted")?,
        state: row.try_get("state")?,
        verdict: row.try_get("verdict")?,
        tso: Tso(tso.cast_unsigned()),
        rows_compared: row.try_get("rows_compared")?,
        error: optional_json(row, "error")?,
        created_at: row.try_get("created_at")?,
        ended_at: row.try_get("ended_at")?,
        tables: (tables, done, unequal),
        rows: (missing, surplus, different, unsettled),
    })
}

fn name(row: &SqliteRow) -> Result<TableName> {
    Ok(TableName::new(row.try_get::<String, _>("schema_name")?, row.try_get::<String, _>("table_name")?))
}

fn difference(row: &SqliteRow) -> Result<DifferenceRow> {
    Ok(DifferenceRow {
        n: row.try_get("n")?,
        seq: row.try_get("seq")?,
        table: name(row)?,
        kind: row.try_get("kind")?,
        columns: json(row, "columns")?,
        key_columns: json(row, "key_columns")?,
        key: row.try_get("key_row")?,
        state: row.try_get("state")?,
        error: optional_json(row, "error")?,
    })
}

impl Store {
    /// Writes a verification down; older ones than the last [`KEPT`] go. None when one is under way.
    pub async fn add_verification(&self, task: &TaskId, wanted: &Order) -> Result<Option<i64>> {
        let mut transaction = self.writer.begin().await?;
        let n: Option<i64> = sqlx::query_scalar(
            "insert into verifications (task_id, n, wanted, state, created_at)
             select ?1, coalesce((select max(n) from verifications where task_id = ?1), 0) + 1, ?2, 'queued', ?3
             where not exists (select 1 from verifications where task_id = ?1 and state in ('queued', 'running')) returning n",
        )
        .bind(&task.0)
        .bind(to_json(wanted)?)
        .bind(now_ms())
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(n) = n {
            sqlx::query("delete from verifications where task_id = ? and n <= ?")
                .bind(&task.0)
                .bind(n - KEPT)
                .execute(&mut *transaction)
                .await?;
            let message = format!("verification {n} is asked for");
            let detail = serde_json::json!({"command": "verify", "verification": n, "mode": wanted.mode});
            super::events::insert(&mut transaction, Some(&task.0), "command", None, &message, &detail)
                .await?;
        }
        transaction.commit().await?;
        Ok(n)
    }

    pub async fn verification(&self, task: &TaskId, n: i64) -> Result<Option<VerificationRow>> {
        Ok(self.verifications_between(task, n, n.saturating_add(1), 1).await?.pop())
    }

    /// The newest first, those before `before`.
    pub async fn verifications(
        &self,
        task: &TaskId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<VerificationRow>> {
        self.verifications_between(task, 0, before, limit).await
    }

    async fn verifications_between(
        &self,
        task: &TaskId,
        from: i64,
        to: i64,
        limit: u32,
    ) -> Result<Vec<VerificationRow>> {
        let rows =
            sqlx::query(SELECT).bind(&task.0).bind(from).bind(to).bind(limit).fetch_all(&self.reader).await?;
        rows.iter().map(verification).collect()
    }

    /// Those of all tasks that an end of the process has cut off.
    pub async fn open_verifications(&self) -> Result<Vec<(TaskId, i64)>> {
        let rows = sqlx::query(
            "select task_id, n from verifications where state in ('queued', 'running') order by created_at",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((TaskId(row.try_get("task_id")?), row.try_get("n")?))).collect()
    }

    /// It runs: at `tso`, unless it began before, over these tables beside those that it has.
    pub async fn verification_begun(
        &self,
        task: &TaskId,
        n: i64,
        tso: Tso,
        tables: &[TableName],
    ) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "update verifications set state = 'running', tso = case tso when 0 then ?3 else tso end
             where task_id = ?1 and n = ?2 and state in ('queued', 'running')",
        )
        .bind(&task.0)
        .bind(n)
        .bind(tso.0.cast_signed())
        .execute(&mut *transaction)
        .await?;
        for table in tables {
            sqlx::query("insert or ignore into verification_tables (task_id, n, schema_name, table_name) values (?, ?, ?, ?)")
                .bind(&task.0)
                .bind(n)
                .bind(&table.schema)
                .bind(&table.table)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    pub async fn verification_moved(&self, task: &TaskId, n: i64, rows: i64) -> Result<()> {
        self.writer
            .execute(
                sqlx::query(
                    "update verifications set rows_compared = rows_compared + ? where task_id = ? and n = ?",
                )
                .bind(rows)
                .bind(&task.0)
                .bind(n),
            )
            .await?;
        Ok(())
    }

    /// A table is compared, with the rows that differ.
    pub async fn table_verified(
        &self,
        task: &TaskId,
        n: i64,
        table: &TableName,
        found: &TableFound,
        (key_columns, differences): (&[LetterColumn], &[Difference]),
    ) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "update verification_tables set verdict = ?5, detail = ?6, source_rows = ?7, target_rows = ?8, missing = ?9,
             surplus = ?10, different = ?11, unsettled = ?12
             where task_id = ?1 and n = ?2 and schema_name = ?3 and table_name = ?4",
        )
        .bind(&task.0)
        .bind(n)
        .bind(&table.schema)
        .bind(&table.table)
        .bind(found.verdict.map(Verdict::as_str))
        .bind(&found.detail)
        .bind(found.source_rows)
        .bind(found.target_rows)
        .bind(found.missing)
        .bind(found.surplus)
        .bind(found.different)
        .bind(found.unsettled)
        .execute(&mut *transaction)
        .await?;
        for difference in differences {
            sqlx::query(
                "insert into verification_differences (task_id, n, seq, schema_name, table_name, kind, columns, key_columns, key_row)
                 values (?1, ?2, coalesce((select max(seq) from verification_differences where task_id = ?1 and n = ?2), 0) + 1,
                     ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .bind(&task.0)
            .bind(n)
            .bind(&table.schema)
            .bind(&table.table)
            .bind(difference.kind)
            .bind(to_json(&difference.columns)?)
            .bind(to_json(&key_columns)?)
            .bind(&difference.key)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// It is over. False when it was so already.
    pub async fn end_verification(
        &self,
        task: &TaskId,
        n: i64,
        outcome: std::result::Result<Option<Verdict>, &Error>,
    ) -> Result<bool> {
        let (state, verdict, error) = match outcome {
            Ok(Some(verdict)) => ("finished", Some(verdict.as_str()), None),
            Ok(None) => ("cancelled", None, None),
            Err(error) => ("failed", None, Some(to_json(error)?)),
        };
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "update verifications set state = ?3, verdict = ?4, error = ?5, ended_at = ?6
             where task_id = ?1 and n = ?2 and state in ('queued', 'running')",
        )
        .bind(&task.0)
        .bind(n)
        .bind(state)
        .bind(verdict)
        .bind(error)
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?
        .rows_affected()
            > 0;
        if done {
            let message = format!(
                "verification {n} is {state}{}",
                verdict.map_or(String::new(), |word| format!(": {word}"))
            );
            let detail = serde_json::json!({"verification": n, "state": state, "verdict": verdict});
            super::events::insert(&mut transaction, Some(&task.0), "verification", None, &message, &detail)
                .await?;
        }
        transaction.commit().await?;
        Ok(done)
    }

    /// The tables of a verification: those that are not equal first.
    pub async fn verified_tables(&self, task: &TaskId, n: i64, limit: u32) -> Result<Vec<VerifiedTable>> {
        let rows = sqlx::query(
            "select * from verification_tables where task_id = ? and n = ? order by case verdict when 'different' then 0
             when 'inconclusive' then 1 when 'equal' then 3 else 2 end, schema_name, table_name limit ?",
        )
        .bind(&task.0)
        .bind(n)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(VerifiedTable {
                    name: name(row)?,
                    verdict: row.try_get("verdict")?,
                    found: TableFound {
                        verdict: None,
                        detail: row.try_get("detail")?,
                        source_rows: row.try_get("source_rows")?,
                        target_rows: row.try_get("target_rows")?,
                        missing: row.try_get("missing")?,
                        surplus: row.try_get("surplus")?,
                        different: row.try_get("different")?,
                        unsettled: row.try_get("unsettled")?,
                    },
                })
            })
            .collect()
    }

    /// Tables of a verification that are still to be compared.
    pub async fn tables_to_verify(&self, task: &TaskId, n: i64) -> Result<Vec<TableName>> {
        let rows = sqlx::query(
            "select schema_name, table_name from verification_tables where task_id = ? and n = ? and verdict is null
             order by schema_name, table_name",
        )
        .bind(&task.0)
        .bind(n)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(name).collect()
    }

    pub async fn differences(
        &self,
        task: &TaskId,
        n: i64,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DifferenceRow>> {
        let rows = sqlx::query(
            "select * from verification_differences where task_id = ? and n = ? and seq > ? order by seq limit ?",
        )
        .bind(&task.0)
        .bind(n)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(difference).collect()
    }

    /// Rows that are named of each table, and those of them that are open.
    pub async fn named_differences(&self, task: &TaskId, n: i64) -> Result<HashMap<TableName, (i64, i64)>> {
        let rows = sqlx::query(
            "select schema_name, table_name, count(*) as named, count(*) filter (where state = 'open') as open
             from verification_differences where task_id = ? and n = ? group by schema_name, table_name",
        )
        .bind(&task.0)
        .bind(n)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((name(row)?, (row.try_get("named")?, row.try_get("open")?)))).collect()
    }

    /// Differences by state: open, asked, repaired.
    pub async fn difference_counts(&self, task: &TaskId, n: i64) -> Result<(i64, i64, i64)> {
        let row = sqlx::query(
            "select count(*) filter (where state = 'open') as open, count(*) filter (where state = 'asked') as asked,
             count(*) filter (where state = 'repaired') as repaired from verification_differences where task_id = ? and n = ?",
        )
        .bind(&task.0)
        .bind(n)
        .fetch_one(&self.reader)
        .await?;
        Ok((row.try_get("open")?, row.try_get("asked")?, row.try_get("repaired")?))
    }

    /// Asks for the repair of the open rows of a verification, but for those of `others`. Gives their number.
    pub async fn ask_repair(&self, task: &TaskId, n: i64, others: &[TableName]) -> Result<u64> {
        let others: Vec<[&str; 2]> =
            others.iter().map(|name| [name.schema.as_str(), name.table.as_str()]).collect();
        let mut transaction = self.writer.begin().await?;
        let asked = sqlx::query(
            "update verification_differences set state = 'asked' where task_id = ?1 and n = ?2 and state = 'open'
             and not exists (select 1 from json_each(?3) o where o.value ->> 0 = schema_name and o.value ->> 1 = table_name)",
        )
        .bind(&task.0)
        .bind(n)
        .bind(to_json(&others)?)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        let message = format!("repair of {asked} rows of verification {n}");
        let detail = serde_json::json!({"command": "repair", "verification": n, "rows": asked});
        super::events::insert(&mut transaction, Some(&task.0), "command", None, &message, &detail).await?;
        transaction.commit().await?;
        Ok(asked)
    }

    /// Rows whose repair was asked for and not done are open again.
    pub async fn withdraw_repair(&self, task: &TaskId, n: i64) -> Result<()> {
        self.writer
            .execute(
                sqlx::query("update verification_differences set state = 'open' where task_id = ? and n = ? and state = 'asked'")
                    .bind(&task.0)
                    .bind(n),
            )
            .await?;
        Ok(())
    }

    /// Rows whose repair is asked for: of one table of one verification.
    pub async fn asked_differences(&self, task: &TaskId, limit: u32) -> Result<Vec<DifferenceRow>> {
        let rows = sqlx::query(
            "select d.* from verification_differences d join (select task_id, n, schema_name, table_name from verification_differences
             where task_id = ?1 and state = 'asked' order by n, seq limit 1) using (task_id, n, schema_name, table_name)
             where d.state = 'asked' order by d.seq limit ?2",
        )
        .bind(&task.0)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(difference).collect()
    }

    /// How the repair of rows ended.
    pub async fn repaired(
        &self,
        task: &TaskId,
        epoch: Epoch,
        rows: &[DifferenceRow],
        outcome: std::result::Result<(), &Error>,
    ) -> Result<()> {
        let (state, error) = match outcome {
            Ok(()) => ("repaired", None),
            Err(error) => ("open", Some(to_json(error)?)),
        };
        let Some(n) = rows.first().map(|row| row.n) else { return Ok(()) };
        let numbers: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query(
            "update verification_differences set state = ?1, error = ?2
             where task_id = ?3 and n = ?4 and state = 'asked' and seq in (select value from json_each(?5))",
        )
        .bind(state)
        .bind(error)
        .bind(&task.0)
        .bind(n)
        .bind(to_json(&numbers)?)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }
}

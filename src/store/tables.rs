//! Standings of single tables and what was asked of them.
//!
//! A standing lives in the catalog entry of its table (`task::standing`); `table_states` is its copy for readers that need not
//! understand the catalog, written by the same transaction.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::rows::{json, optional_json, to_json, word};
use super::stream::{advance, write_catalog};
use super::writer::Write;
use super::{CatalogSchema, CatalogVersion, Store, now_ms};
use crate::error::Result;
use crate::model::{Epoch, Position, TableName, TaskId, Tso};
use crate::task::spec::Objects;
use crate::task::standing::{Standing, TableCommand};

/// A table that does not simply follow.
#[derive(Debug, Clone)]
pub struct TableState {
    pub name: TableName,
    pub standing: Standing,
    pub since_ms: i64,
}

fn state(row: &SqliteRow) -> Result<TableState> {
    Ok(TableState {
        name: TableName::new(
            row.try_get::<String, _>("schema_name")?,
            row.try_get::<String, _>("table_name")?,
        ),
        standing: json(row, "standing")?,
        since_ms: row.try_get("since")?,
    })
}

/// Brings `table_states` in step with a new version of a catalog entry.
pub(super) async fn write_state(
    transaction: &mut Write,
    task: &TaskId,
    version: &CatalogVersion,
) -> Result<()> {
    let (schema, table) = (&version.key.schema, &version.key.table);
    let before: Option<String> = sqlx::query_scalar(
        "delete from table_states where task_id = ? and schema_key = ? and table_key = ? returning json_array(standing, since)",
    )
    .bind(&task.0)
    .bind(schema)
    .bind(table)
    .fetch_optional(&mut **transaction)
    .await?;
    // Only a table has these paths, and only one that does not follow has a standing.
    sqlx::query(
        "insert into table_states (task_id, schema_key, table_key, schema_name, table_name, standing, since)
         select ?1, ?2, ?3, ?4 ->> '$.table.table.name.schema', ?4 ->> '$.table.table.name.table', ?4 -> '$.table.standing',
             case when (?4 -> '$.table.standing') = (?5 ->> 0) then ?5 ->> 1 else ?6 end
         where (?4 ->> '$.table.standing.state') <> 'following'",
    )
    .bind(&task.0)
    .bind(schema)
    .bind(table)
    .bind(&version.definition)
    .bind(before)
    .bind(now_ms())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

impl Store {
    /// Tables of these tasks that do not simply follow, by name.
    pub async fn table_states(&self, tasks: &[&TaskId]) -> Result<HashMap<TaskId, Vec<TableState>>> {
        let ids: Vec<_> = tasks.iter().map(|task| task.0.as_str()).collect();
        let rows = sqlx::query(
            "select * from table_states where task_id in (select value from json_each(?))
             order by schema_key, table_key",
        )
        .bind(to_json(&ids)?)
        .fetch_all(&self.reader)
        .await?;
        let mut found: HashMap<TaskId, Vec<TableState>> = HashMap::new();
        for row in &rows {
            found.entry(TaskId(row.try_get("task_id")?)).or_default().push(state(row)?);
        }
        Ok(found)
    }

    /// Asks for something of tables; an older word that was not taken yet is replaced.
    pub async fn ask_of_tables(
        &self,
        task: &TaskId,
        command: TableCommand,
        tables: &[TableName],
    ) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        for name in tables {
            let key = name.key();
            sqlx::query(
                "insert or replace into table_commands (task_id, schema_key, table_key, command, created_at)
                 values (?, ?, ?, ?, ?)",
            )
            .bind(&task.0)
            .bind(&key.schema)
            .bind(&key.table)
            .bind(command.as_str())
            .bind(now_ms())
            .execute(&mut *transaction)
            .await?;
            let message = format!("{} {name}", command.as_str());
            let detail = serde_json::json!({"command": command.as_str(), "table": name.to_string()});
            super::events::insert(&mut transaction, Some(&task.0), "command", None, &message, &detail)
                .await?;
        }
        transaction.commit().await
    }

    /// What was asked and not taken yet, in the order in which it was asked; tables by folded name.
    pub async fn table_commands(&self, task: &TaskId) -> Result<Vec<(TableName, TableCommand)>> {
        let rows = sqlx::query("select * from table_commands where task_id = ? order by created_at, rowid")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                let command = word(row, "command", TableCommand::parse)?;
                let (schema, table): (String, String) =
                    (row.try_get("schema_key")?, row.try_get("table_key")?);
                Ok((TableName::new(schema, table), command))
            })
            .collect()
    }

    /// The objects that the catalog answers for; None = those of the spec.
    pub async fn taken_objects(&self, task: &TaskId) -> Result<Option<Objects>> {
        let row = sqlx::query("select objects from checkpoints where task_id = ?")
            .bind(&task.0)
            .fetch_optional(&self.reader)
            .await?;
        row.map_or(Ok(None), |row| optional_json(&row, "objects"))
    }

    /// From here on the catalog answers for these objects; what that changes becomes durable with it.
    pub async fn take_objects(
        &self,
        task: &TaskId,
        epoch: Epoch,
        objects: &Objects,
        schemas: &[CatalogSchema],
        versions: &[CatalogVersion],
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        write_catalog(&mut transaction, task, schemas, versions).await?;
        sqlx::query("update checkpoints set objects = ? where task_id = ?")
            .bind(to_json(objects)?)
            .bind(&task.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// A copy in the making is about to be created on the target.
    pub async fn shadow_made(&self, task: &TaskId, epoch: Epoch, shadow: &TableName) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query("insert or ignore into shadows (task_id, schema_name, table_name) values (?, ?, ?)")
            .bind(&task.0)
            .bind(&shadow.schema)
            .bind(&shadow.table)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// It is in its table's place, or removed.
    pub async fn shadow_gone(&self, task: &TaskId, epoch: Epoch, shadow: &TableName) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        sqlx::query("delete from shadows where task_id = ? and schema_name = ? and table_name = ?")
            .bind(&task.0)
            .bind(&shadow.schema)
            .bind(&shadow.table)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Copies in the making that may be on the target.
    pub async fn shadows(&self, task: &TaskId) -> Result<Vec<TableName>> {
        let rows = sqlx::query("select schema_name, table_name from shadows where task_id = ?")
            .bind(&task.0)
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                let (schema, table): (String, String) =
                    (row.try_get("schema_name")?, row.try_get("table_name")?);
                Ok(TableName::new(schema, table))
            })
            .collect()
    }

    /// New versions of tables without a DDL: their standing or their copy has changed. Commands that this answers are taken
    /// off, and the checkpoint moves, in the same transaction.
    pub async fn change_tables(
        &self,
        task: &TaskId,
        epoch: Epoch,
        versions: &[CatalogVersion],
        taken: &[(TableName, TableCommand)],
        moved: Option<(Position, Position, Tso)>,
    ) -> Result<()> {
        let mut transaction = self.fenced(task, epoch).await?;
        write_catalog(&mut transaction, task, &[], versions).await?;
        for (name, command) in taken {
            // A newer word stays.
            sqlx::query(
                "delete from table_commands where task_id = ? and schema_key = ? and table_key = ? and command = ?",
            )
            .bind(&task.0)
            .bind(&name.schema)
            .bind(&name.table)
            .bind(command.as_str())
            .execute(&mut *transaction)
            .await?;
        }
        if let Some((from, to, watermark)) = moved {
            advance(&mut transaction, task, from, to, watermark).await?;
        }
        transaction.commit().await
    }
}

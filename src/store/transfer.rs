//! Everything that the store keeps of a task, as a document, and back: so a task can go on in another server.
//!
//! Rows are written down by the names of their columns: integers as decimal text, bytes as hex. A document of an older version lacks
//! columns and gets their defaults; a column that this version does not know refuses the document.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::Row;

use super::rows::to_json;
use super::tasks::TaskRow;
use super::writer::Write;
use super::{Store, now_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::model::TaskId;
use crate::task::spec::Spec;
use crate::task::status::Status;

/// In an order in which they can be written.
const TABLES: [&str; 12] = [
    "checkpoints",
    "catalog",
    "catalog_schemas",
    "ddl",
    "table_states",
    "table_commands",
    "lossy_counts",
    "copy_tables",
    "copy_chunks",
    "own_tables",
    "dead_letters",
    "target_sessions",
];

pub type Rows = BTreeMap<String, Vec<Map<String, Value>>>;

/// How bytes are marked.
const HEX: &str = ":hex";

fn unfit(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, what)
}

/// Name and type of the columns but for the task's id.
async fn columns(transaction: &mut Write, table: &str) -> Result<Vec<(String, String)>> {
    let rows =
        sqlx::query("select name, type from pragma_table_info(?) where name <> 'task_id' order by cid")
            .bind(table)
            .fetch_all(&mut **transaction)
            .await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("type")?))).collect()
}

impl Store {
    /// Reads everything of a task and fences it: it is stopped, and no run of this server can go on with it. None when it is no
    /// longer as it was judged.
    pub async fn export_task(&self, task: &TaskRow, actor: Option<&str>) -> Result<Option<Rows>> {
        let Some(mut transaction) = self.still(task).await? else { return Ok(None) };
        let mut found = Rows::new();
        for table in TABLES {
            let fields: Vec<String> = columns(&mut transaction, table)
                .await?
                .into_iter()
                .map(|(name, ty)| match ty.as_str() {
                    "BLOB" => {
                        format!("'{name}{HEX}', case when {name} is null then null else hex({name}) end")
                    }
                    "INTEGER" => format!("'{name}', cast({name} as text)"),
                    _ => format!("'{name}', {name}"),
                })
                .collect();
            let sql = format!("select json_object({}) from {table} where task_id = ?", fields.join(", "));
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(&task.id.0)
                .fetch_all(&mut *transaction)
                .await?;
            let rows = rows.iter().map(|text| serde_json::from_str(text).map_err(Error::internal));
            found.insert(table.to_owned(), rows.collect::<Result<_>>()?);
        }
        if task.status != Status::Stopped {
            sqlx::query(
                "update tasks set desired = 'stopped', status = 'stopped', phase = null, retry = null, epoch = epoch + 1,
                 finished_at = ? where id = ?",
            )
            .bind(now_ms())
            .bind(&task.id.0)
            .execute(&mut *transaction)
            .await?;
        }
        let detail = serde_json::json!({"command": "export", "status": task.status.as_str()});
        let message = format!("exported {}: it goes on elsewhere", task.name());
        super::events::insert(&mut transaction, Some(&task.id.0), "command", actor, &message, &detail)
            .await?;
        transaction.commit().await?;
        Ok(Some(found))
    }

    /// Writes a task down as another server left it; it is paused, or created when it never ran. False when a task of that id or name
    /// is there already.
    ///
    /// # Errors
    /// `Configuration` when the rows are not what an export writes.
    pub async fn import_task(
        &self,
        id: &TaskId,
        spec: &Spec,
        epoch: i64,
        rows: &Rows,
        actor: Option<&str>,
    ) -> Result<bool> {
        if let Some(unknown) = rows.keys().find(|name| !TABLES.contains(&name.as_str())) {
            return Err(unfit(format!("tables.{unknown} is not known to this version")));
        }
        let ran = rows.get("checkpoints").is_some_and(|rows| !rows.is_empty());
        let (desired, status) = if ran { ("paused", "paused") } else { ("none", "created") };
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "insert into tasks (id, name, spec, desired, status, epoch, created_at, updated_at)
             select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7
             where not exists (select 1 from tasks where id = ?1 or name = ?2)",
        )
        .bind(&id.0)
        .bind(&spec.name)
        .bind(to_json(spec)?)
        .bind(desired)
        .bind(status)
        .bind(epoch)
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        for table in TABLES {
            let known = columns(&mut transaction, table).await?;
            for (n, row) in rows.get(table).map_or(&[][..], Vec::as_slice).iter().enumerate() {
                insert(&mut transaction, id, table, &known, row)
                    .await
                    .map_err(|error| unfit(format!("tables.{table}[{n}]: {}", error.message)))?;
            }
        }
        let detail = serde_json::json!({"command": "import", "status": status});
        let message = format!("task {} imported", spec.name);
        super::events::insert(&mut transaction, Some(&id.0), "created", actor, &message, &detail).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

async fn insert(
    transaction: &mut Write,
    id: &TaskId,
    table: &str,
    known: &[(String, String)],
    row: &Map<String, Value>,
) -> Result<()> {
    let mut columns = vec!["task_id".to_owned()];
    let mut values: Vec<Field> = vec![Field::Text(id.0.clone())];
    for (key, value) in row {
        let name = key.strip_suffix(HEX).unwrap_or(key);
        let ty = known.iter().find(|(known, _)| known == name).map(|(_, ty)| ty.as_str());
        let ty = ty.ok_or_else(|| unfit(format!("{name} is not known to this version")))?;
        // The name is one of our own columns now.
        columns.push(name.to_owned());
        values.push(
            field(ty, key.ends_with(HEX), value).ok_or_else(|| unfit(format!("{name} cannot be read")))?,
        );
    }
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!("insert into {table} ({}) values ({places})", columns.join(", "));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for value in values {
        query = match value {
            Field::Null => query.bind(None::<String>),
            Field::Int(number) => query.bind(number),
            Field::Text(text) => query.bind(text),
            Field::Bytes(bytes) => query.bind(bytes),
        };
    }
    query.execute(&mut **transaction).await?;
    Ok(())
}

enum Field {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

fn field(ty: &str, hex: bool, value: &Value) -> Option<Field> {
    match (ty, value) {
        (_, Value::Null) => Some(Field::Null),
        ("INTEGER", Value::String(text)) if !hex => text.parse().ok().map(Field::Int),
        ("TEXT", Value::String(text)) if !hex => Some(Field::Text(text.clone())),
        ("BLOB", Value::String(text)) if hex => bytes(text).map(Field::Bytes),
        _ => None,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

//! Connections: settings in clear, the secret sealed.

use std::collections::HashMap;

use secrecy::ExposeSecret;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::alerts::rule_secret_place;
use super::rows::{json, to_json};
use super::tasks::TaskRow;
use super::{Store, now_ms};
use crate::crypto::Keyring;
use crate::error::{Error, Result};
use crate::task::connection::ConnectionSettings;
use crate::task::spec::Throttle;

/// A kind of sealed secret: what it is of, how it is read and written, and where it is sealed to.
type Sealed = (&'static str, &'static str, &'static str, fn(&str) -> String);

#[derive(Debug, Clone)]
pub struct ConnectionRow {
    pub name: String,
    pub settings: ConnectionSettings,
    /// Sealed for `secret_place(name)`.
    pub secret: Option<Vec<u8>>,
    /// Counts changes, those of the throttle too.
    pub version: i64,
    pub throttle: Throttle,
    pub created_at: i64,
    pub updated_at: i64,
}

/// What a connection's sealed secret is bound to.
pub fn secret_place(name: &str) -> String {
    format!("connection/{name}/secret")
}

/// What a kept answer and its request's fingerprint are bound to.
pub fn answer_place(caller: &str, key: &str) -> String {
    format!("idempotency/{caller}/{key}")
}

fn read(row: &SqliteRow) -> Result<ConnectionRow> {
    Ok(ConnectionRow {
        name: row.try_get("name")?,
        settings: json(row, "settings")?,
        secret: row.try_get("secret")?,
        version: row.try_get("version")?,
        throttle: json(row, "throttle")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

impl Store {
    pub async fn connection(&self, name: &str) -> Result<Option<ConnectionRow>> {
        let row = sqlx::query("select * from connections where name = ?")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Connections in the order of their names, after the given one; of one kind when `kind` is given.
    pub async fn connections_after(
        &self,
        name: &str,
        kind: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConnectionRow>> {
        let rows = sqlx::query(
            "select * from connections where name > ?1 and (?2 is null or kind = ?2) order by name limit ?3",
        )
        .bind(name)
        .bind(kind)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Creates or replaces a connection if its version is still the expected one (None = it does not exist).
    /// False when somebody else was faster.
    pub async fn put_connection(
        &self,
        name: &str,
        settings: &ConnectionSettings,
        secret: Option<&[u8]>,
        expected_version: Option<i64>,
    ) -> Result<bool> {
        let now = now_ms();
        let settings_json = to_json(settings)?;
        let mut transaction = self.writer.begin().await?;
        let done = match expected_version {
            None => {
                sqlx::query(
                    "insert into connections (name, kind, settings, secret, created_at, updated_at)
                     values (?1, ?2, ?3, ?4, ?5, ?5) on conflict (name) do nothing",
                )
                .bind(name)
                .bind(settings.kind())
                .bind(settings_json)
                .bind(secret)
                .bind(now)
                .execute(&mut *transaction)
                .await?
            }
            Some(version) => {
                sqlx::query(
                    "update connections set kind = ?2, settings = ?3, secret = ?4, updated_at = ?5, version = version + 1
                     where name = ?1 and version = ?6",
                )
                .bind(name)
                .bind(settings.kind())
                .bind(settings_json)
                .bind(secret)
                .bind(now)
                .bind(version)
                .execute(&mut *transaction)
                .await?
            }
        };
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let verb = if expected_version.is_none() { "created" } else { "changed" };
        let message = format!("connection {name} {verb}");
        super::events::insert(
            &mut transaction,
            None,
            "connection",
            None,
            &message,
            &serde_json::json!({"connection": name}),
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Version of every connection.
    pub async fn connection_versions(&self) -> Result<HashMap<String, i64>> {
        let rows = sqlx::query("select name, version from connections").fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("version")?))).collect()
    }

    /// Sets the throttle of a connection if its version is still the expected one. None when somebody else was faster.
    pub async fn put_connection_throttle(
        &self,
        name: &str,
        throttle: &Throttle,
        expected_version: i64,
    ) -> Result<Option<ConnectionRow>> {
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query(
            "update connections set throttle = ?, updated_at = ?, version = version + 1
             where name = ? and version = ? returning *",
        )
        .bind(to_json(throttle)?)
        .bind(now_ms())
        .bind(name)
        .bind(expected_version)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (message, detail) = (
            format!("throttle of connection {name} changed"),
            serde_json::json!({"connection": name, "throttle": throttle}),
        );
        super::events::insert(&mut transaction, None, "connection", None, &message, &detail).await?;
        transaction.commit().await?;
        read(&row).map(Some)
    }

    /// Seals all secrets under another key, in one transaction with the value that tells which key it is; gives their number.
    pub async fn reseal(&self, old: &Keyring, new: &Keyring, (key, check): (&str, &[u8])) -> Result<u64> {
        let mut transaction = self.writer.begin().await?;
        let mut count = 0;
        let secrets: [Sealed; 2] = [
            (
                "connection",
                "select name, secret from connections where secret is not null",
                "update connections set secret = ? where name = ?",
                secret_place,
            ),
            (
                "alert rule",
                "select name, secret from alert_rules where secret is not null",
                "update alert_rules set secret = ? where name = ?",
                rule_secret_place,
            ),
        ];
        for (what, select, update, place_of) in secrets {
            for row in &sqlx::query(select).fetch_all(&mut *transaction).await? {
                let name: String = row.try_get("name")?;
                let place = place_of(&name);
                let secret = old
                    .open(&place, &row.try_get::<Vec<u8>, _>("secret")?)
                    .map_err(|error| Error { object: Some(format!("{what} {name}")), ..error })?;
                sqlx::query(update)
                    .bind(new.seal(&place, secret.expose_secret().as_bytes())?)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                count += 1;
            }
        }
        let kept =
            sqlx::query("select n, caller, key, request, answer from idempotency where answer is not null")
                .fetch_all(&mut *transaction)
                .await?;
        for row in &kept {
            let place = answer_place(&row.try_get::<String, _>("caller")?, &row.try_get::<String, _>("key")?);
            let again = |column: &str| -> Result<Vec<u8>> {
                let plain = old.open(&place, &row.try_get::<Vec<u8>, _>(column)?)?;
                new.seal(&place, plain.expose_secret().as_bytes())
            };
            sqlx::query("update idempotency set request = ?, answer = ? where n = ?")
                .bind(again("request")?)
                .bind(again("answer")?)
                .bind(row.try_get::<i64, _>("n")?)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("update meta set value = ? where key = ?")
            .bind(check)
            .bind(key)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(count)
    }

    /// Names of the tasks that use a connection.
    pub async fn connection_users(&self, name: &str) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "select name from tasks where ?1 in
             (spec ->> '$.source.tidb', spec ->> '$.source.kafka', spec ->> '$.target') order by name",
        )
        .bind(name)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }

    /// The tasks that use a connection, by name.
    pub async fn connection_tasks(&self, name: &str) -> Result<Vec<TaskRow>> {
        let rows = sqlx::query(
            "select * from tasks where ?1 in
             (spec ->> '$.source.tidb', spec ->> '$.source.kafka', spec ->> '$.target') order by name",
        )
        .bind(name)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(super::tasks::read).collect()
    }

    /// False when it is not there, or a task uses it.
    pub async fn delete_connection(&self, name: &str) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "delete from connections where name = ?1 and not exists (select 1 from tasks where ?1 in
             (spec ->> '$.source.tidb', spec ->> '$.source.kafka', spec ->> '$.target'))",
        )
        .bind(name)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let message = format!("connection {name} deleted");
        super::events::insert(
            &mut transaction,
            None,
            "connection",
            None,
            &message,
            &serde_json::json!({"connection": name}),
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

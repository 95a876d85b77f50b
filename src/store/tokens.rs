//! Access tokens: name, role and the hash of the secret, never the secret.

use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::rows::word;
use super::{Store, now_ms};
use crate::access::{Caller, Role};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub name: String,
    pub role: Role,
    /// Of the secret (crypto.rs).
    pub hash: Vec<u8>,
    pub created_at: i64,
    pub created_by: Option<String>,
    /// Milliseconds since the epoch; None = never.
    pub expires_at: Option<i64>,
}

impl TokenRow {
    pub fn is_valid(&self, now_ms: i64) -> bool {
        self.expires_at.is_none_or(|end| end > now_ms)
    }
}

fn read(row: &SqliteRow) -> Result<TokenRow> {
    Ok(TokenRow {
        name: row.try_get("name")?,
        role: word(row, "role", Role::parse)?,
        hash: row.try_get("hash")?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: row.try_get("expires_at")?,
    })
}

impl Store {
    /// All tokens by name; there are few.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        let rows = sqlx::query("select * from tokens order by name").fetch_all(&self.reader).await?;
        rows.iter().map(read).collect()
    }

    /// Keeps a token. None when the name is taken and `replace` is not asked for.
    pub async fn put_token(
        &self,
        name: &str,
        role: Role,
        hash: &[u8],
        expires_at: Option<i64>,
        replace: bool,
    ) -> Result<Option<TokenRow>> {
        let mut transaction = self.writer.begin().await?;
        if replace {
            sqlx::query("delete from tokens where name = ?").bind(name).execute(&mut *transaction).await?;
        }
        let row = sqlx::query(
            "insert into tokens (name, role, hash, created_at, created_by, expires_at) values (?, ?, ?, ?, ?, ?)
             on conflict (name) do nothing returning *",
        )
        .bind(name)
        .bind(role.as_str())
        .bind(hash)
        .bind(now_ms())
        .bind(Caller::current().map(|caller| caller.name.to_string()))
        .bind(expires_at)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let message = format!("token {name} created, role {role}");
        let detail = json!({"token": name, "role": role});
        super::events::insert(&mut transaction, None, "token", None, &message, &detail).await?;
        transaction.commit().await?;
        read(&row).map(Some)
    }

    /// False when it is not there.
    pub async fn delete_token(&self, name: &str) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let done =
            sqlx::query("delete from tokens where name = ?").bind(name).execute(&mut *transaction).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let message = format!("token {name} revoked");
        super::events::insert(&mut transaction, None, "token", None, &message, &json!({"token": name}))
            .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

//! Answers that are given again when a request is sent again. What is sealed in them is none of the store's business.

use sqlx::Row;

use super::{Store, now_ms};
use crate::error::Result;

/// Answers are kept this long,
pub const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// and at most so many,
const ROWS_MAX: i64 = 10_000;
/// of so many bytes in all; the oldest go first.
const BYTES_MAX: i64 = 64 * 1024 * 1024;

/// What is known of a key.
#[derive(Debug)]
pub enum Reserved {
    /// It is new, and ours now.
    New(i64),
    Known {
        request: Vec<u8>,
        /// None while the first request is worked on.
        answer: Option<Vec<u8>>,
    },
}

impl Store {
    /// Takes a key for a request, unless it is taken.
    pub async fn reserve_key(&self, caller: &str, key: &str, request: &[u8]) -> Result<Reserved> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query("delete from idempotency where caller = ? and key = ? and created_at < ?")
            .bind(caller)
            .bind(key)
            .bind(now_ms() - KEPT_MS)
            .execute(&mut *transaction)
            .await?;
        let new = sqlx::query(
            "insert into idempotency (caller, key, request, created_at) values (?, ?, ?, ?)
             on conflict (caller, key) do nothing returning n",
        )
        .bind(caller)
        .bind(key)
        .bind(request)
        .bind(now_ms())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(new) = new else {
            let row = sqlx::query("select request, answer from idempotency where caller = ? and key = ?")
                .bind(caller)
                .bind(key)
                .fetch_one(&mut *transaction)
                .await?;
            return Ok(Reserved::Known { request: row.try_get("request")?, answer: row.try_get("answer")? });
        };
        let n: i64 = new.try_get("n")?;
        sqlx::query("delete from idempotency where n <= ? and answer is not null")
            .bind(n - ROWS_MAX)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Reserved::New(n))
    }

    pub async fn keep_answer(&self, n: i64, answer: &[u8]) -> Result<()> {
        self.writer
            .execute(sqlx::query("update idempotency set answer = ? where n = ?").bind(answer).bind(n))
            .await?;
        Ok(())
    }

    /// The key may be used again: its request came to no answer that would hold.
    pub async fn free_key(&self, n: i64) -> Result<()> {
        self.writer.execute(sqlx::query("delete from idempotency where n = ?").bind(n)).await?;
        Ok(())
    }

    /// Frees the keys of requests that ended with the process that worked on them.
    pub async fn free_unanswered_keys(&self) -> Result<()> {
        self.writer.execute(sqlx::query("delete from idempotency where answer is null")).await?;
        Ok(())
    }

    /// Forgets what is too old or too much.
    pub async fn trim_answers(&self) -> Result<()> {
        self.writer
            .execute(
                sqlx::query(
                    "delete from idempotency where created_at < ?1 or (answer is not null and n in (
             select n from (select n, sum(length(answer)) over (order by n desc) as bytes from idempotency
             where answer is not null) where bytes > ?2))",
                )
                .bind(now_ms() - KEPT_MS)
                .bind(BYTES_MAX),
            )
            .await?;
        Ok(())
    }
}

//! The metadata store: one SQLite file, and the only module with sqlx.
//!
//! Every write is one transaction on the single writer connection; WAL with full sync, so what was acknowledged survives a
//! power cut. Reads use their own connections and never wait for the writer.

pub mod alerts;
pub mod connections;
mod copy;
pub mod events;
pub mod idempotency;
mod letters;
pub mod logs;
mod lossy;
mod rows;
pub mod runs;
mod series;
mod still;
mod stream;
mod tables;
pub mod tasks;
pub mod tokens;
mod transfer;
pub mod views;

pub use copy::{CopyChunk, CopyState, CopyTable};
pub use letters::{Letter, LetterColumn, LetterRow, OpenLetter, Which, over_limit};
pub use lossy::LossyTotal;
pub use series::SeriesRow;

use std::path::Path;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use still::{Moved, OwnState, OwnTable};
pub use stream::{CatalogSchema, CatalogVersion, Checkpoint, DdlDecision, DdlRecord, DdlState, Use};
pub use tables::TableState;
pub use transfer::Rows;

use crate::error::{Endpoint, Error, ErrorKind};

/// Handle to the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    reader: SqlitePool,
    /// One connection: SQLite has one writer.
    writer: SqlitePool,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::new(ErrorKind::Internal, format!("the metadata store refused: {error}"))
            .endpoint(Endpoint::Store)
            .hint("check free space, permissions and health of the data folder's tidegate.db")
    }
}

impl Store {
    /// Opens (and creates or migrates) the store at this file.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&writer).await.map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot migrate the metadata store: {error}"))
                .endpoint(Endpoint::Store)
        })?;
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        Ok(Self { reader, writer })
    }

    /// Opens the store at this file to look at it: it is neither made nor migrated, and another process may be using it.
    pub async fn inspect(path: &Path) -> Result<Self, Error> {
        let options =
            SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(10));
        let reader =
            SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(|error| {
                Error::new(ErrorKind::Configuration, format!("cannot be opened: {error}"))
                    .object(path.display())
                    .hint("is this the data folder, and may this user read it?")
            })?;
        Ok(Self { writer: reader.clone(), reader })
    }

    /// What SQLite finds wrong with the file; empty when it is whole.
    pub async fn integrity(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<String> =
            sqlx::query_scalar("pragma integrity_check(10)").fetch_all(&self.reader).await?;
        let mut faults: Vec<String> = rows.into_iter().filter(|row| row != "ok").collect();
        let orphans = sqlx::query("pragma foreign_key_check").fetch_all(&self.reader).await?;
        if !orphans.is_empty() {
            faults.push(format!("{} rows belong to something that is gone", orphans.len()));
        }
        Ok(faults)
    }

    /// Number of changes that this version would make to the store's form; negative when a newer version has written it.
    pub async fn pending_migrations(&self) -> Result<i64, Error> {
        let newest: Option<i64> =
            sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(&self.reader).await?;
        let done: i64 =
            sqlx::query_scalar("select count(*) from _sqlx_migrations").fetch_one(&self.reader).await?;
        let ours = sqlx::migrate!();
        let known = ours.iter().map(|migration| migration.version).max();
        if newest > known {
            return Ok(-1);
        }
        Ok(ours.iter().count() as i64 - done)
    }

    /// A value of the store about itself.
    pub async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("select value from meta where key = ?")
            .bind(key)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Keeps a value unless the key has one.
    pub async fn init_meta(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        sqlx::query("insert into meta (key, value) values (?, ?) on conflict (key) do nothing")
            .bind(key)
            .bind(value)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// True when the store answers.
    pub async fn is_open(&self) -> bool {
        sqlx::query("select 1").execute(&self.reader).await.is_ok()
    }

    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

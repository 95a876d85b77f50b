//! The metadata store: one SQLite file, and the only module with sqlx.
//!
//! Every write is one transaction on the single writer connection; WAL with full sync, so what was acknowledged survives a
//! power cut. Reads use their own connections and never wait for the writer.

pub mod connections;
mod copy;
pub mod events;
pub mod idempotency;
mod letters;
mod lossy;
mod rows;
pub mod runs;
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
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

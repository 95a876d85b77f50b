//! The metadata store: one SQLite file, and the only module with sqlx.
//!
//! Every write happens whole or not at all on the single writer connection (store/writer.rs); WAL with full sync, so what was
//! acknowledged survives a power cut. Reads use their own connections and never wait for the writer.

pub mod alerts;
pub mod backup;
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
mod verifications;
pub mod views;
mod writer;

pub use copy::{CopyChunk, CopyState, CopyTable};
pub use letters::{Letter, LetterColumn, LetterRow, OpenLetter, Which, over_limit};
pub use lossy::LossyTotal;
pub use series::SeriesRow;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row};

pub use still::{Moved, OwnState, OwnTable};
pub use stream::{CatalogSchema, CatalogVersion, Checkpoint, DdlDecision, DdlRecord, DdlState, Use};
pub use tables::TableState;
pub use transfer::Rows;
pub use verifications::{
    Difference, DifferenceRow, Mode, Order, Repair, TableFound, Verdict, VerificationRow, VerifiedTable,
};
use writer::Writer;

use crate::error::{Endpoint, Error, ErrorKind};

/// The store's name in the data folder.
pub const FILE: &str = "tidegate.db";

/// Rows that a reading connection gives in one piece: those of the largest page.
const PAGE_ROWS: usize = 512;

/// Handle to the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    reader: SqlitePool,
    writer: Writer,
    /// Where it lies.
    folder: PathBuf,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // SQLite's result code; the bytes above the first say more of the same.
        let code = match &error {
            sqlx::Error::Database(refused) => refused.code().and_then(|code| code.parse::<u32>().ok()),
            _ => None,
        };
        // A slow disk: all connections wait for it.
        let silent = matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::Io(_));
        let (kind, message, hint) = match code.map(|code| code & 0xff) {
            Some(FULL) => (
                ErrorKind::Unreachable,
                "the disk of the metadata store is full",
                "free space in the data folder; what runs goes on by itself then",
            ),
            Some(READONLY | CANTOPEN | PERM) => (
                ErrorKind::Unreachable,
                "the metadata store cannot be written",
                "make the data folder and its tidegate.db writable for the server's user; what runs goes on by itself then",
            ),
            Some(IOERR | BUSY | LOCKED | NOMEM) => (
                ErrorKind::Unreachable,
                "the metadata store does not answer",
                "check disk and memory of this machine, and that nothing else holds tidegate.db open; what runs goes on by itself",
            ),
            None if silent => (
                ErrorKind::Unreachable,
                "the metadata store does not answer",
                "check disk and load of this machine; what runs goes on by itself",
            ),
            Some(CORRUPT | NOTADB) => (ErrorKind::Internal, "the metadata store is damaged", RESTORE),
            _ => (
                ErrorKind::Internal,
                "the metadata store refused",
                "check free space, permissions and health of the data folder's tidegate.db",
            ),
        };
        Error::new(kind, format!("{message}: {error}")).endpoint(Endpoint::Store).hint(hint)
    }
}

const RESTORE: &str = "stop the server and restore tidegate.db from a backup; docs/problems/store.md says what becomes of the tasks";

const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const NOMEM: u32 = 7;
const READONLY: u32 = 8;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const NOTADB: u32 = 26;

impl Store {
    /// Opens (and creates or migrates) the store at this file, which nobody else may read.
    ///
    /// # Errors
    /// Also when the file is damaged: what it says of checkpoints would be no truth.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let object = || format!("metadata store {}", path.display());
        keep_private(path).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("cannot be opened: {error}"))
                .endpoint(Endpoint::Store)
                .object(object())
                .hint("check permissions and free space of the data folder")
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let mut writer = options.connect().await.map_err(|error| Error::from(error).object(object()))?;
        let health: String = sqlx::query_scalar("pragma quick_check(1)")
            .fetch_one(&mut writer)
            .await
            .map_err(|error| Error::from(error).object(object()))?;
        if health != "ok" {
            return Err(Error::new(ErrorKind::Internal, format!("the metadata store is damaged: {health}"))
                .endpoint(Endpoint::Store)
                .object(object())
                .hint(RESTORE));
        }
        sqlx::migrate!().run(&mut writer).await.map_err(|error| {
            let told = match error {
                MigrateError::VersionMissing(change) => Error::new(
                    ErrorKind::Configuration,
                    format!("was written by a newer version of tidegate: change {change} of its form is not known here"),
                )
                .hint("run that version, or a newer one; to go back to this one, restore the backup from before the upgrade (tidegate restore --help)"),
                error => Error::new(ErrorKind::Internal, format!("cannot migrate the metadata store: {error}")),
            };
            told.endpoint(Endpoint::Store).object(object())
        })?;
        // A file does not go away as a server does, and a page of a list is one piece of work for the connection's thread.
        let reader = SqlitePoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect_with(options.clone().read_only(true).row_buffer_size(PAGE_ROWS))
            .await?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new(".")).to_owned();
        Self::clear_unfinished_copies(&folder).map_err(Error::internal)?;
        Ok(Self { reader, writer: Writer::new(writer, options), folder })
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
        Ok(Self { writer: Writer::none(), reader, folder: PathBuf::new() })
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
        self.writer
            .execute(
                sqlx::query("insert into meta (key, value) values (?, ?) on conflict (key) do nothing")
                    .bind(key)
                    .bind(value),
            )
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

/// The store and what SQLite keeps beside it are for the server's user alone. SQLite makes its further files like the first.
fn keep_private(path: &Path) -> io::Result<()> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for end in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(end);
        match std::fs::set_permissions(PathBuf::from(file), Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis() + crate::crash::clock_offset_ms()
}

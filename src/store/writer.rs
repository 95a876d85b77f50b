//! The one writer of the store: whoever is answered has his write on the disk, and writes that come together share the way there.
//!
//! A write is a savepoint of the transaction that is open. Behind the writes that wait already the transaction is committed for all
//! of them, and only then is any of them answered: what comes while the disk is busy costs one flush together. A write that is
//! dropped is taken back alone. Where SQLite itself takes back everything (a full disk), everybody of the group is told so.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteQueryResult};
use sqlx::{ConnectOptions, Connection, Sqlite};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, mpsc, oneshot};

use crate::error::{Endpoint, Error, ErrorKind, Result};

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    /// None: closed.
    slot: Arc<Mutex<Option<Slot>>>,
    /// Calls who commits; he leaves with the last of these.
    calls: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Slot {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    /// The connection is not to be used again.
    broken: bool,
    /// A transaction is open.
    open: bool,
    /// A write was begun that did not come to its end.
    begun: bool,
    /// Who waits for the commit.
    waiting: Vec<oneshot::Sender<Result<()>>>,
    commits: u64,
}

/// A write under way; taken back unless it is committed.
#[derive(Debug)]
pub struct Write {
    slot: OwnedMappedMutexGuard<Option<Slot>, Slot>,
    calls: mpsc::Sender<()>,
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.slot.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.slot.connection
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        // A call that waits already will do.
        let _ = self.calls.try_send(());
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Unreachable, "the metadata store is closed").endpoint(Endpoint::Store)
}

impl Writer {
    pub fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let slot = Slot {
            connection,
            options,
            broken: false,
            open: false,
            begun: false,
            waiting: Vec::new(),
            commits: 0,
        };
        let slot = Arc::new(Mutex::new(Some(slot)));
        let (calls, mut called) = mpsc::channel(1);
        let shared = Arc::clone(&slot);
        tokio::spawn(async move {
            while called.recv().await.is_some() {
                // The lock is given in the order of asking: first to the writes that wait already.
                if let Some(slot) = shared.lock().await.as_mut() {
                    slot.commit().await;
                }
            }
        });
        Self { slot, calls }
    }

    /// Of a store that is only looked at.
    pub fn none() -> Self {
        Self { slot: Arc::default(), calls: mpsc::channel(1).0 }
    }

    /// Begins a write: what is done with it happens whole, or not at all.
    pub async fn begin(&self) -> Result<Write> {
        let slot = Arc::clone(&self.slot).lock_owned().await;
        let mut slot = OwnedMutexGuard::try_map(slot, Option::as_mut).map_err(|_| closed())?;
        slot.begin().await?;
        Ok(Write { slot, calls: self.calls.clone() })
    }

    /// A write of one statement.
    pub async fn execute(&self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<SqliteQueryResult> {
        let mut write = self.begin().await?;
        let done = statement.execute(&mut *write).await?;
        write.commit().await?;
        Ok(done)
    }

    /// Commits what is under way; no write begins after this.
    pub async fn close(&self) {
        let Some(mut slot) = self.slot.lock().await.take() else { return };
        slot.commit().await;
        if let Err(error) = slot.connection.close().await {
            tracing::warn!(%error, "the metadata store did not close well");
        }
    }
}

impl Write {
    /// Returns when the write is on the disk.
    ///
    /// # Errors
    /// The write is not there, but for a commit of which the disk does not say what became.
    pub async fn commit(mut self) -> Result<()> {
        self.slot.execute("release own").await?;
        self.slot.begun = false;
        let (told, answer) = oneshot::channel();
        self.slot.waiting.push(told);
        drop(self);
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Slot {
    async fn execute(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::query(sql).execute(&mut self.connection).await.map(|_| ())
    }

    async fn begin(&mut self) -> Result<()> {
        self.take_back().await;
        if self.broken {
            self.connection = self.options.connect().await?;
            self.broken = false;
        }
        if !self.open {
            match self.execute("begin").await {
                // One that was sent by somebody who did not wait for it.
                Err(error) if !is_within(&error) => return Err(error.into()),
                _ => self.open = true,
            }
        }
        self.begun = true;
        Ok(self.execute("savepoint own").await?)
    }

    /// Undoes a write that was dropped, or whose begin was.
    async fn take_back(&mut self) {
        if !self.begun {
            return;
        }
        self.begun = false;
        let done = match self.execute("rollback to own").await {
            Ok(()) => self.execute("release own").await,
            Err(error) => Err(error),
        };
        let Err(error) = done else { return };
        // It was never there, or it went with the whole transaction.
        let alive = error.to_string().contains("no such savepoint")
            && self.execute("begin").await.is_err_and(|error| is_within(&error));
        if !alive {
            self.lose("a write was taken back by a fault of another one, and by SQLite all that were under way with it", error).await;
        }
    }

    /// Ends the transaction and tells those who wait for it.
    async fn commit(&mut self) {
        self.take_back().await;
        if !self.open {
            return;
        }
        match self.execute("commit").await {
            Ok(()) => {
                self.open = false;
                self.commits += 1;
                for told in self.waiting.drain(..) {
                    // Who has gone does not want to know.
                    let _ = told.send(Ok(()));
                }
            }
            Err(error) => self.lose("the commit failed", error).await,
        }
    }

    /// Nothing of the transaction will be there.
    async fn lose(&mut self, what: &str, error: sqlx::Error) {
        // It may be over already; the next write has a connection of its own in any case.
        let _ = self.execute("rollback").await;
        (self.open, self.broken) = (false, true);
        let mut error = Error::from(error);
        error.message = format!("{} ({what})", error.message);
        for told in self.waiting.drain(..) {
            let _ = told.send(Err(error.clone()));
        }
    }
}

fn is_within(error: &sqlx::Error) -> bool {
    error.to_string().contains("within a transaction")
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    async fn writer(folder: &tempfile::TempDir) -> Writer {
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("a.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("create table t (n integer primary key, text text)")
            .execute(&mut connection)
            .await
            .unwrap();
        Writer::new(connection, options)
    }

    async fn put(writer: &Writer, n: i64, text: &str) -> Result<()> {
        let mut write = writer.begin().await?;
        sqlx::query("insert into t values (?, ?)").bind(n).bind(text).execute(&mut *write).await?;
        write.commit().await
    }

    /// What another connection sees.
    async fn seen(folder: &tempfile::TempDir) -> Vec<i64> {
        let mut other =
            SqliteConnectOptions::new().filename(folder.path().join("a.db")).connect().await.unwrap();
        sqlx::query_scalar("select n from t order by n").fetch_all(&mut other).await.unwrap()
    }

    async fn commits(writer: &Writer) -> u64 {
        writer.slot.lock().await.as_ref().unwrap().commits
    }

    #[tokio::test]
    async fn writes_that_come_together_share_a_commit_and_are_there_when_they_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let all = join_all((0..200).map(|n| {
            let (writer, folder) = (&writer, &folder);
            async move {
                put(writer, n, "").await.unwrap();
                assert!(n != 0 || seen(folder).await.contains(&0), "answered before it was there");
            }
        }));
        all.await;
        assert_eq!(seen(&folder).await.len(), 200);
        let commits = commits(&writer).await;
        assert!(commits < 20, "{commits} commits for 200 writes");
    }

    #[tokio::test]
    async fn what_fails_or_is_dropped_takes_nothing_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        put(&writer, 7, "").await.unwrap();
        let all = join_all((0..20).map(|n| {
            let writer = &writer;
            async move {
                if n % 3 == 1 {
                    // Dropped with something in it.
                    let mut write = writer.begin().await.unwrap();
                    sqlx::query("insert into t values (?, '')")
                        .bind(n + 100)
                        .execute(&mut *write)
                        .await
                        .unwrap();
                    return Ok(());
                }
                put(writer, n, "").await
            }
        }));
        let failed: Vec<usize> =
            all.await.iter().enumerate().filter(|(_, done)| done.is_err()).map(|(n, _)| n).collect();
        let there: Vec<i64> = (0..20).filter(|n| n % 3 != 1 || *n == 7).collect();
        assert_eq!(failed, Vec::<usize>::new());
        assert_eq!(seen(&folder).await, there);
        put(&writer, 8, "").await.unwrap_err();
        assert!(put(&writer, 7, "").await.unwrap_err().message.contains("UNIQUE"));
        put(&writer, 50, "").await.unwrap();
    }

    #[tokio::test]
    async fn a_begin_that_nobody_waits_for_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        for n in 0..50_i64 {
            // Given up at another step each time.
            let mut begin = Box::pin(put(&writer, 1000 + n, ""));
            for _ in 0..n % 10 {
                if futures_util::poll!(begin.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(begin);
            put(&writer, n, "").await.unwrap();
        }
        assert_eq!(seen(&folder).await.iter().filter(|n| **n < 1000).count(), 50);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_to_the_whole_group_and_the_next_write_goes_through() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        {
            let mut write = writer.begin().await.unwrap();
            let pages: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&mut *write).await.unwrap();
            let limit = format!("pragma max_page_count = {}", pages + 4);
            sqlx::query(sqlx::AssertSqlSafe(limit)).execute(&mut *write).await.unwrap();
        }
        let long = "x".repeat(100_000);
        let (first, second, third) =
            tokio::join!(put(&writer, 1, "a"), put(&writer, 2, &long), put(&writer, 3, "b"));
        let second = second.unwrap_err();
        assert!(second.message.contains("full"), "{second}");
        // What was answered with yes is there, and nothing else.
        let said: Vec<i64> =
            [(1, &first), (3, &third)].into_iter().filter(|(_, done)| done.is_ok()).map(|(n, _)| n).collect();
        assert_eq!(seen(&folder).await, said);
        put(&writer, 4, "c").await.unwrap();
        assert!(seen(&folder).await.contains(&4));
    }

    #[tokio::test]
    async fn a_closed_writer_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let (done, ()) = tokio::join!(put(&writer, 1, ""), async {
            tokio::task::yield_now().await;
            writer.close().await;
        });
        assert_eq!(seen(&folder).await.len(), usize::from(done.is_ok()));
        assert!(put(&writer, 2, "").await.unwrap_err().message.contains("closed"));
    }
}

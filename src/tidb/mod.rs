//! The source over SQL: sessions, timestamps, the hand-over to the stream, the catalog at a snapshot.
//!
//! Every session runs in zone +00:00 with utf8mb4 and an empty SQL mode, so that what it reads and the literals it sends mean
//! the same on every cluster. Facts: source-drainer.md 9.

mod catalog;
pub mod classify;
mod guard;
mod renames;
mod status;

pub use catalog::{Estimate, SourceCatalog, SourceSchema, name_before, table_at, value_at};
pub use classify::classify;
pub use guard::{Guards, HandOver, KeptGuards, hand_over};
pub use renames::{RenamedTogether, renamed_together};
pub use status::{DrainerStatus, drainers, go_seconds, resolved};

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, Tso};
use crate::mysql::Session;

/// What every session needs to read right.
const SETUP: [&str; 4] = [
    "SET NAMES utf8mb4",
    "SET SESSION time_zone = '+00:00'",
    // ANSI_QUOTES, NO_BACKSLASH_ESCAPES and PAD_CHAR_TO_FULL_LENGTH would change literals and values
    "SET SESSION sql_mode = ''",
    // a global limit would cut long reads
    "SET SESSION max_execution_time = 0",
];

/// What helps where the version knows it (error 1193 elsewhere).
const SETUP_WHERE_KNOWN: [&str; 2] = [
    // an idle guard must not be ended by the server (7.6 and later)
    "SET SESSION tidb_idle_transaction_timeout = 0",
    // ranges of the handle are a row store's business (4.0 and later)
    "SET SESSION tidb_isolation_read_engines = 'tikv,tidb'",
];

const UNKNOWN_VARIABLE: u16 = 1193;

/// 1 where collations are alive, 0 where the cluster compares bytes: `new_collation_enabled = False` (chosen once, when a cluster is
/// made; the default before 6.0), and all versions before 4.0. A comparison shows it without a privilege on mysql.tidb.
pub const COMPARES_TEXT: &str = "SELECT _utf8mb4'a' = _utf8mb4'A' COLLATE utf8mb4_general_ci";

/// A TiDB cluster to read from.
#[derive(Debug, Clone)]
pub struct Source {
    endpoint: MysqlEndpoint,
}

impl Source {
    pub fn new(endpoint: MysqlEndpoint) -> Self {
        Self { endpoint }
    }

    /// A session that sees the present.
    pub async fn session(&self) -> Result<Session> {
        let mut session = Session::connect(&self.endpoint, Endpoint::Source, classify, &SETUP).await?;
        for statement in SETUP_WHERE_KNOWN {
            match session.execute(statement).await {
                Err(error) if error.code == Some(UNKNOWN_VARIABLE) => {}
                other => drop(other?),
            }
        }
        Ok(session)
    }

    /// A session that sees rows and schemas as of `at`.
    ///
    /// # Errors
    /// `SnapshotLost` when garbage collection has passed `at`.
    pub async fn snapshot_session(&self, at: Tso) -> Result<Session> {
        let mut session = self.session().await?;
        session.execute(format!("SET SESSION tidb_snapshot = '{at}'")).await.map_err(passing).map_err(
            |error| {
                if error.kind == ErrorKind::SnapshotLost {
                    error
                        .object(format!("snapshot {at}"))
                        .hint("the copy must start again with a new snapshot")
                } else {
                    error.object(format!("snapshot {at}"))
                }
            },
        )?;
        Ok(session)
    }

    /// Whether the cluster compares text by its bytes, whatever collation a column says.
    pub async fn compares_bytes(&self) -> Result<bool> {
        let mut session = self.session().await?;
        let equal: Option<bool> = session.first(COMPARES_TEXT).await?;
        session.close().await;
        Ok(equal == Some(false))
    }

    /// A timestamp that the cluster gives now.
    pub async fn current_tso(&self) -> Result<Tso> {
        let mut session = self.session().await?;
        let tso = begin(&mut session).await?;
        session.close().await;
        Ok(tso)
    }
}

/// While TiDB gathers what there is (information_schema, the schemas of a snapshot), a table or schema of anybody's that goes just then is an
/// error. Asked again it is well, but for one that 7.0 goes on to list after a RENAME of several tables across schemas.
fn passing(error: Error) -> Error {
    const UNKNOWN_SCHEMA: u16 = 1049;
    const UNKNOWN_TABLE: u16 = 1146;
    if !matches!(error.code, Some(UNKNOWN_SCHEMA | UNKNOWN_TABLE)) {
        return error;
    }
    Error { kind: ErrorKind::Contention, ..error }.hint(
        "it went while TiDB listed its tables: the next try is well; if this lasts, TiDB lists a table that it has not, \
         as 7.0 does after a RENAME of several tables across schemas: restart its tidb-server",
    )
}

/// Opens a transaction and gives its start timestamp; outside a transaction the server says 0 (source-drainer.md 9.1).
async fn begin(session: &mut Session) -> Result<Tso> {
    session.execute("BEGIN").await?;
    match transaction_tso(session).await? {
        Tso(0) => {
            Err(Error::new(ErrorKind::StatementRefused, "the server gave no timestamp for a transaction")
                .endpoint(Endpoint::Source)
                .hint("is the tidb connection a TiDB server, and not a proxy that splits transactions?"))
        }
        tso => Ok(tso),
    }
}

/// Start timestamp of the session's open transaction, 0 when there is none.
async fn transaction_tso(session: &mut Session) -> Result<Tso> {
    let text: Option<String> = session.first("SELECT @@tidb_current_ts").await?;
    text.as_deref().unwrap_or_default().parse().map(Tso).map_err(|_| {
        Error::new(ErrorKind::StatementRefused, "the server's @@tidb_current_ts is not a number")
            .endpoint(Endpoint::Source)
    })
}

//! The data plane's one error type and the one place that says what to do about each kind.
//!
//! Server codes become an [`ErrorKind`] at the edge (tidb, binlog, adb) and nowhere else. Everything that a person meets names
//! the object, the cause and the cure. Messages never hold a row's values or a secret.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Cannot connect, connection cut, time-out, server shutting down.
    Unreachable,
    /// Wrong user or password, missing privilege, TLS refused.
    AccessDenied,
    /// A database, table, column or topic that is not there.
    Missing,
    /// Deadlock, lock wait, duplicate-key race, server busy: the same statement may succeed later.
    Contention,
    /// The target takes no writes: locked disk, read-only.
    TargetLocked,
    /// The server refused a value of a row.
    ValueRefused,
    /// The server refused a statement as such, or a DDL that we do not understand or may not apply.
    StatementRefused,
    /// A DDL at which the spec says to stop (`ddl.x = stop`, `online_ddl.mode = stop`): a person decides.
    StoppedByPolicy,
    /// The wanted position is not in the topic (trimmed, re-created, beyond the end).
    PositionLost,
    /// The snapshot's timestamp is older than the source's garbage collection safe point.
    SnapshotLost,
    /// A message that is not what Drainer writes.
    CorruptMessage,
    /// Rows or tables that do not fit the schema we know.
    SchemaMismatch,
    /// The spec or a setting cannot work.
    Configuration,
    /// A newer run of this task, or another instance, has taken over.
    Fenced,
    /// We were asked to stop.
    Cancelled,
    /// A fault of ours, or of the store.
    Internal,
}

/// Which of the two retry clocks of a task runs (target-adb-and-dts.md 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClock {
    /// `errors.connection_retry_ms`
    Connection,
    /// `errors.other_retry_ms`
    Other,
    /// For as long as the condition lasts.
    Unlimited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Retry(RetryClock),
    /// The task fails and waits for a person.
    Stop,
    /// The worker leaves without a word: somebody else owns the task's state now.
    Leave,
}

/// What to do about an error of this kind while a task runs. Unknown means stop.
pub fn policy(kind: ErrorKind) -> Policy {
    match kind {
        ErrorKind::Unreachable => Policy::Retry(RetryClock::Connection),
        ErrorKind::Contention => Policy::Retry(RetryClock::Other),
        ErrorKind::TargetLocked => Policy::Retry(RetryClock::Unlimited),
        ErrorKind::Fenced | ErrorKind::Cancelled => Policy::Leave,
        ErrorKind::AccessDenied
        | ErrorKind::Missing
        | ErrorKind::ValueRefused
        | ErrorKind::StatementRefused
        | ErrorKind::StoppedByPolicy
        | ErrorKind::PositionLost
        | ErrorKind::SnapshotLost
        | ErrorKind::CorruptMessage
        | ErrorKind::SchemaMismatch
        | ErrorKind::Configuration
        | ErrorKind::Internal => Policy::Stop,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    Source,
    Kafka,
    Target,
    Store,
}

/// A failure with its object, cause and cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub kind: ErrorKind,
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// What it happened to: `shop.orders`, `topic tidb_obinlog offset 12`, ...
    #[serde(default)]
    pub object: Option<String>,
    /// The cause, in words; an unknown server error keeps the server's text.
    pub message: String,
    /// What a person can do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The server's own error number.
    #[serde(default)]
    pub code: Option<u16>,
}

/// Bytes of a text of an error. What it quotes may be as large as a message of the topic.
const LONGEST: usize = 4_000;

fn cut(mut text: String) -> String {
    let bytes = text.len();
    if bytes > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        let _ = write!(text, "... ({bytes} bytes)");
    }
    text
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = cut(message.into());
        Self { kind, endpoint: None, object: None, message, hint: None, code: None }
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, message.to_string())
    }

    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "asked to stop")
    }

    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Names the object unless a deeper layer already did.
    pub fn object(mut self, object: impl fmt::Display) -> Self {
        self.object.get_or_insert_with(|| cut(object.to_string()));
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(cut(hint.into()));
        self
    }

    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    pub fn policy(&self) -> Policy {
        policy(self.kind)
    }

    /// True when an error that happened to one table says nothing about the others (`errors.table = stop_table`).
    pub fn concerns_one_table(&self) -> bool {
        match self.kind {
            ErrorKind::Missing
            | ErrorKind::ValueRefused
            | ErrorKind::StatementRefused
            | ErrorKind::SchemaMismatch
            | ErrorKind::Configuration => true,
            ErrorKind::Internal => self.endpoint != Some(Endpoint::Store),
            ErrorKind::Unreachable
            | ErrorKind::AccessDenied
            | ErrorKind::Contention
            | ErrorKind::TargetLocked
            // The task waits at its place in the stream, so that nothing has to be copied again once it is decided.
            | ErrorKind::StoppedByPolicy
            | ErrorKind::PositionLost
            | ErrorKind::SnapshotLost
            | ErrorKind::CorruptMessage
            | ErrorKind::Fenced
            | ErrorKind::Cancelled => false,
        }
    }

    /// The page with cause and cure (docs/problems), by its name below `/problems/`.
    pub fn page(&self) -> &'static str {
        if self.endpoint == Some(Endpoint::Store) && self.kind != ErrorKind::Fenced {
            return "store";
        }
        match self.kind {
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::AccessDenied => "access-denied",
            ErrorKind::Missing => "missing",
            ErrorKind::Contention => "contention",
            ErrorKind::TargetLocked => "target-locked",
            ErrorKind::ValueRefused => "value-refused",
            ErrorKind::StatementRefused => "statement-refused",
            ErrorKind::StoppedByPolicy => "stopped-by-policy",
            ErrorKind::PositionLost => "position-lost",
            ErrorKind::SnapshotLost => "snapshot-lost",
            ErrorKind::CorruptMessage => "corrupt-message",
            ErrorKind::SchemaMismatch => "schema-mismatch",
            ErrorKind::Configuration => "configuration",
            ErrorKind::Fenced | ErrorKind::Cancelled => "fenced",
            ErrorKind::Internal => "internal-error",
        }
    }

    /// What a person can do: the hint of who knew more, else what is true of every error of its kind there.
    pub fn cure(&self) -> String {
        self.hint.clone().unwrap_or_else(|| general_cure(self.kind, self.endpoint).to_owned())
    }
}

fn general_cure(kind: ErrorKind, endpoint: Option<Endpoint>) -> &'static str {
    match kind {
        ErrorKind::Unreachable => {
            "see that the server runs and can be reached from here; the task goes on by itself when it can"
        }
        ErrorKind::AccessDenied => {
            "check the connection's user, password and privileges, then resume the task"
        }
        ErrorKind::Missing => {
            "look whether it was dropped or renamed by somebody else; bring it back, then resume the task"
        }
        ErrorKind::Contention => {
            "the server is busy or a lock is held; if it lasts, look what else runs there"
        }
        ErrorKind::TargetLocked => {
            "free space on the target, enlarge its disk, or end its read-only mode; the task goes on by itself when it takes writes"
        }
        ErrorKind::ValueRefused => {
            "compare the column with the source's; widen it on the target, then resume the task"
        }
        ErrorKind::StatementRefused => {
            "see why the server refuses the statement; make the change there by hand, then resume the task"
        }
        ErrorKind::StoppedByPolicy => {
            "decide about the statement: change its policy in the spec, then resume the task"
        }
        ErrorKind::PositionLost | ErrorKind::SnapshotLost => {
            "copy the tables anew: what is missing cannot be read any more"
        }
        ErrorKind::CorruptMessage => {
            "see who else writes to the topic; what is behind this message cannot be applied without it"
        }
        ErrorKind::SchemaMismatch => {
            "compare the table on both sides; make the target's as the source's, then resume the task"
        }
        ErrorKind::Configuration => "change the spec or the setting, then start the task again",
        ErrorKind::Fenced | ErrorKind::Cancelled => "nothing: another run or a command took over",
        ErrorKind::Internal => match endpoint {
            None | Some(Endpoint::Store) => {
                "resume the task; if it comes again, report it with the server's log"
            }
            Some(Endpoint::Source | Endpoint::Kafka | Endpoint::Target) => {
                "look up the server's message, remove its cause, then resume the task: it repeats what was refused"
            }
        },
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(code) = self.code {
            write!(f, " (server error {code})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_quotes_too_much_is_cut() {
        let error = Error::new(ErrorKind::StatementRefused, "ü".repeat(1 << 20)).hint("x".repeat(LONGEST));
        assert!(error.message.ends_with("ü... (2097152 bytes)"), "{}", error.message);
        assert!(error.message.len() < LONGEST + 30);
        assert_eq!(error.hint.unwrap().len(), LONGEST);
    }
}

//! Use cases: what an operator can do, each one store transaction and then a word to the supervisor. No HTTP, no SQL.

pub mod alerts;
pub mod checkpoint;
pub mod commands;
mod connection_change;
pub mod connections;
pub mod ddl;
pub mod events;
pub mod letters;
pub mod objects;
pub mod reset;
pub mod specs;
mod still;
pub mod tables;
pub mod tasks;
pub mod throttle;
pub mod tokens;
pub mod transfer;
pub mod verifications;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::crypto::Keyring;
use crate::engine::registry::Registry;
use crate::error::{Endpoint, Error, ErrorKind};
use crate::store::Store;
use crate::store::tasks::TaskRow;
use crate::task::fault::Fault;
use crate::task::status::{Command, Status};

/// Everything that the use cases need; cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    pub store: Store,
    pub keyring: Arc<Keyring>,
    pub registry: Arc<Registry>,
    /// Calls the supervisor.
    pub wake: Arc<Notify>,
    /// Cancelled when the process begins to stop: no more commands, no more waiting.
    pub shutdown: CancellationToken,
    pub supervisor_alive: Arc<AtomicBool>,
    pub access: Arc<tokens::Access>,
    pub events: Arc<events::EventTail>,
    pub started: Instant,
    pub verifier: Arc<verifications::Verifier>,
    /// Calls who tells webhooks.
    pub told: Arc<Notify>,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Refusal {
    NotFound(String),
    /// Faults of a body, all of them.
    Invalid(Vec<Fault>),
    SecretRequired(Fault),
    NameTaken(String),
    InUse(String),
    /// What is there forbids it, otherwise than by a task's state.
    Conflict(String),
    /// The task's state forbids the command.
    Transition {
        command: Command,
        status: Status,
        allowed_from: &'static [Status],
    },
    /// The task's state forbids what is asked of it while it stands.
    State {
        what: String,
        status: Status,
        allowed_from: &'static [Status],
    },
    /// The topic does not hold the position that is asked for.
    OutsideRetention(Fault),
    /// The task would lose its tables' layouts on the way to that position.
    PositionBlocked(String),
    /// The state of the task, or of a table, forbids a command for single tables.
    Tables {
        detail: String,
        status: Status,
    },
    /// The task's state forbids a change of these fields.
    Locked {
        faults: Vec<Fault>,
        status: Status,
    },
    /// A connection leads to another cluster than the one its tasks work with.
    IdentityChanged(String),
    /// What is edited is no longer what the caller has seen.
    Stale(String),
    /// A newer command has replaced the one that was waited for.
    Superseded {
        status: Status,
        detail: String,
    },
    /// The task failed before the effect of the command was reached.
    TaskFailed(Box<TaskRow>),
    /// TiDB, Kafka or target: cannot be reached.
    Unreachable(String),
    /// TiDB, Kafka or target: answers, and says no.
    EndpointRefused(String),
    EndpointTimeout(String),
    /// Settings that cannot work, a secret that does not open.
    Configuration(String),
    ShuttingDown,
    /// A fault of ours.
    Internal(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        if let Some(hint) = &error.hint {
            text = format!("{text}; {hint}");
        }
        match (error.kind, error.endpoint) {
            (ErrorKind::Configuration, None) => Self::Configuration(text),
            (_, None | Some(Endpoint::Store)) | (ErrorKind::Internal, _) => Self::Internal(error),
            (ErrorKind::Unreachable, _) => Self::Unreachable(text),
            _ => Self::EndpointRefused(text),
        }
    }
}

pub type Answer<T> = Result<T, Refusal>;

/// What `if-match` asks: that this is still the version that the caller has seen. `now` is None where nothing is there.
fn expect_version(what: &str, if_version: Option<i64>, now: Option<i64>) -> Answer<()> {
    let stale = |detail: String| Err(Refusal::Stale(detail));
    match (if_version, now) {
        (Some(wanted), Some(now)) if wanted != now => {
            stale(format!("{what} is version {now} now, not {wanted}: read it again"))
        }
        (Some(wanted), None) => stale(format!("{what} is not there, so it is not version {wanted}")),
        _ => Ok(()),
    }
}

/// Somebody else was faster.
fn changed_meanwhile(what: &str) -> Refusal {
    Refusal::Stale(format!("{what} was changed at the same time: read it again"))
}

impl Service {
    pub async fn task(&self, id_or_name: &str) -> Answer<TaskRow> {
        self.store
            .task(id_or_name)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("there is no task {id_or_name}")))
    }
}

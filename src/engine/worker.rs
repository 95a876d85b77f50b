//! The worker of one task: runs its phases in order, retries what policy says, writes what it observes to the store under
//! its epoch.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::progress::Progress;
use crate::error::Error;
use crate::model::{Dialect, Epoch, KafkaEndpoint, MysqlEndpoint, TaskId};
use crate::store::Store;
use crate::task::spec::Spec;

/// Everything a run of a task needs; made by the supervisor from the store.
#[derive(Clone)]
pub struct WorkerContext {
    pub store: Store,
    pub task: TaskId,
    pub epoch: Epoch,
    pub spec: Arc<Spec>,
    pub source: Option<MysqlEndpoint>,
    pub kafka: Option<KafkaEndpoint>,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    pub progress: Arc<Progress>,
    /// Cancelled to pause, stop or shut down: the worker finishes or gives up its statements in flight, saves its checkpoint and returns.
    pub cancel: CancellationToken,
}

/// How a run ended. The supervisor turns it into the task's status.
#[derive(Debug)]
pub enum Outcome {
    /// All phases are through (tasks without incremental sync).
    Finished,
    /// `cancel` was honoured; nothing is in flight.
    Cancelled,
    Failed(Error),
}

/// Runs the task until it is finished, cancelled or failed. Retries inside; while it waits for a retry the store's `retry`
/// and `last_error` say so. Never panics for what comes from outside.
pub async fn run(context: WorkerContext) -> Outcome {
    let _ = context;
    Outcome::Failed(Error::internal("not built yet"))
}

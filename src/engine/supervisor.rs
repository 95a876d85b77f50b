//! Reconciles what the API wants (`desired`) with what runs: starts, cancels and buries workers.
//!
//! What must stay true: at most one worker per task in this process, each under an epoch that was committed before it began;
//! a failed task is never started again but by a command; a run that ends because the process stops leaves its task
//! `running`, so that the next process goes on with it. A worker that runs is handed what has changed of its spec and its connections.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::registry::{Registry, Throttled};
use super::settings::Settings;
use super::worker::{self, Outcome, WorkerContext};
use crate::adb::throttle::{Gate, Limiter};
use crate::crash;
use crate::crypto::Keyring;
use crate::engine::endpoints::{self, Endpoints, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, TaskId};
use crate::store::Store;
use crate::store::runs::RunState;
use crate::store::tasks::TaskRow;
use crate::task::status::{Desired, Status};

/// Looks at the store this often even when nobody calls.
const TICK: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Runs one task to its outcome. Tests put their own in.
pub type Runner = Arc<dyn Fn(WorkerContext) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// The runner of the product.
pub fn worker_runner() -> Runner {
    Arc::new(|context| Box::pin(worker::run(context)))
}

struct Worker {
    task: TaskId,
    epoch: Epoch,
    cancel: CancellationToken,
    /// What it was last told to become; None while it shall run.
    told: Option<Status>,
    settings: watch::Sender<Settings>,
}

impl Worker {
    /// Whether it was handed these versions.
    fn knows(&self, spec_version: i64, connections: &HashMap<String, i64>) -> bool {
        let settings = self.settings.borrow();
        settings.spec_version == spec_version
            && settings
                .endpoints
                .named
                .iter()
                .all(|named| connections.get(&named.name) == Some(&named.version))
    }
}

/// What the statements of a run have to pass.
struct Limiters {
    task: Arc<Limiter>,
    source: Option<Arc<Limiter>>,
    kafka: Option<Arc<Limiter>>,
    target: Arc<Limiter>,
}

/// Owns every worker of this process.
pub struct Supervisor {
    store: Store,
    keyring: Arc<Keyring>,
    registry: Arc<Registry>,
    wake: Arc<Notify>,
    runner: Runner,
    set: JoinSet<Outcome>,
    workers: HashMap<Id, Worker>,
}

impl Supervisor {
    pub fn new(
        store: Store,
        keyring: Arc<Keyring>,
        registry: Arc<Registry>,
        wake: Arc<Notify>,
        runner: Runner,
    ) -> Self {
        Self { store, keyring, registry, wake, runner, set: JoinSet::new(), workers: HashMap::new() }
    }

    /// Works until `shutdown`; then cancels all workers and waits for them, at most `patience`.
    pub async fn run(mut self, shutdown: CancellationToken, patience: Duration) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sample = tokio::time::interval(SAMPLE_EVERY);
        sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let look = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.set.join_next_with_id() => { self.bury(ended).await; true }
                () = self.wake.notified() => true,
                _ = tick.tick() => true,
                _ = sample.tick() => { self.registry.sample(Instant::now()); false }
            };
            if look && let Err(error) = self.reconcile().await {
                tracing::error!(%error, "tasks could not be reconciled; trying again");
            }
        }
        self.shut_down(patience).await;
    }

    async fn reconcile(&mut self) -> Result<()> {
        let states = self.store.run_states().await?;
        let connections = match self.workers.is_empty() {
            true => HashMap::new(),
            false => self.store.connection_versions().await?,
        };
        let running: HashMap<TaskId, Id> =
            self.workers.iter().map(|(id, worker)| (worker.task.clone(), *id)).collect();
        for state in states {
            let result = match running.get(&state.id) {
                Some(id) => match self.steer(*id, state.desired).await {
                    Ok(()) => self.renew(*id, state.spec_version, &connections).await,
                    error => error,
                },
                None => self.settle(&state).await,
            };
            // One task's trouble is not the others'.
            if let Err(error) = result {
                tracing::error!(task.id = %state.id, %error, "task could not be reconciled; trying again");
            }
        }
        Ok(())
    }

    /// A worker runs: cancel it when something else is wanted.
    async fn steer(&mut self, id: Id, desired: Desired) -> Result<()> {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let wanted = match desired {
            Desired::Paused => Status::Pausing,
            Desired::Stopped => Status::Stopping,
            Desired::None | Desired::Running => return Ok(()),
        };
        if worker.told != Some(wanted) {
            worker.told = Some(wanted);
            worker.cancel.cancel();
            let (task, epoch) = (worker.task.clone(), worker.epoch);
            self.store.set_status(&task, epoch, wanted, None).await?;
            self.registry.announce();
        }
        Ok(())
    }

    /// Hands a running worker what has changed. Throttles are in force with that.
    async fn renew(&self, id: Id, spec_version: i64, connections: &HashMap<String, i64>) -> Result<()> {
        let Some(worker) = self.workers.get(&id).filter(|worker| !worker.knows(spec_version, connections))
        else {
            return Ok(());
        };
        let row = self.row(&worker.task).await?;
        let endpoints = endpoints::of_spec(&self.store, &self.keyring, &row.spec).await?;
        self.limiters(&row, &endpoints);
        worker.settings.send_modify(|settings| {
            *settings = settings.followed_by(Arc::new(row.spec), row.spec_version, endpoints);
        });
        tracing::info!(task.id = %worker.task, spec_version = row.spec_version, "new settings handed over");
        Ok(())
    }

    async fn row(&self, task: &TaskId) -> Result<TaskRow> {
        self.store
            .task(&task.0)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Fenced, "the task is gone").object(task))
    }

    /// The limiters of a task and of its connections, set as they are to be now.
    fn limiters(&self, row: &TaskRow, endpoints: &Endpoints) -> Limiters {
        let of = |role: Role| {
            let named = endpoints.named.iter().find(|named| named.role == role)?;
            Some(self.registry.limiter(Throttled::Connection(named.name.clone()), named.throttle))
        };
        Limiters {
            task: self.registry.limiter(Throttled::Task(row.id.clone()), row.spec.throttle),
            source: of(Role::Source),
            kafka: of(Role::Kafka),
            target: of(Role::Target).unwrap_or_default(),
        }
    }

    /// No worker runs: start one, or write down the state of rest.
    async fn settle(&mut self, state: &RunState) -> Result<()> {
        let rest = match state.desired {
            Desired::Running
                if matches!(state.status, Status::Failed | Status::Finished | Status::Stopped) =>
            {
                return Ok(());
            }
            Desired::Running => return self.start(&state.id).await,
            Desired::Paused => Status::Paused,
            Desired::Stopped => Status::Stopped,
            Desired::None => return Ok(()),
        };
        if state.status != rest {
            self.store.set_status(&state.id, state.epoch, rest, None).await?;
            self.registry.announce();
        }
        Ok(())
    }

    async fn start(&mut self, task: &TaskId) -> Result<()> {
        let Some(epoch) = self.store.begin_run(task).await? else { return Ok(()) };
        crash::point("run.begun");
        // Read after the epoch was committed: this is the spec that `applied_spec_version` names.
        let (context, settings) = match self.context(task, epoch).await {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(task.id = %task, %error, "task cannot start");
                self.store.set_status(task, epoch, Status::Failed, Some(&error)).await?;
                self.registry.announce();
                return Ok(());
            }
        };
        tracing::info!(task.id = %task, epoch = epoch.0, "task starts");
        let worker =
            Worker { task: task.clone(), epoch, cancel: context.cancel.clone(), told: None, settings };
        let handle = self.set.spawn((self.runner)(context));
        self.workers.insert(handle.id(), worker);
        self.registry.announce();
        Ok(())
    }

    async fn context(&self, task: &TaskId, epoch: Epoch) -> Result<(WorkerContext, watch::Sender<Settings>)> {
        let row = self.row(task).await?;
        let endpoints = endpoints::of_spec(&self.store, &self.keyring, &row.spec).await?;
        let limiters = self.limiters(&row, &endpoints);
        let settings =
            Settings { spec: Arc::new(row.spec), spec_version: row.spec_version, endpoints, serial: 0 };
        let (progress, cancel) = (self.registry.begin(task), CancellationToken::new());
        let gate = Gate::new(
            limiters.task,
            limiters.source,
            limiters.kafka,
            limiters.target,
            Arc::clone(&progress.waits),
            cancel.clone(),
        );
        let (sender, receiver) = watch::channel(settings.clone());
        let context = WorkerContext {
            store: self.store.clone(),
            task: task.clone(),
            epoch,
            spec: settings.spec,
            spec_version: settings.spec_version,
            source: settings.endpoints.source,
            kafka: settings.endpoints.kafka,
            target: settings.endpoints.target,
            dialect: settings.endpoints.dialect,
            progress,
            gate,
            settings: receiver,
            serial: settings.serial,
            cancel,
        };
        Ok((context, sender))
    }

    /// A worker has ended: its outcome becomes the task's status.
    async fn bury(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let id = error.id();
                let cause = if error.is_panic() {
                    "the worker panicked; see the log"
                } else {
                    "the worker was aborted"
                };
                let failure = Error::internal(cause)
                    .hint("a fault of ours: resume the task, and report it with the log");
                (id, Outcome::Failed(failure))
            }
        };
        let Some(worker) = self.workers.remove(&id) else { return };
        self.registry.end(&worker.task);
        let asked = worker.cancel.is_cancelled();
        let (status, error) = match outcome {
            Outcome::Finished => (Some(Status::Finished), None),
            // `settle` writes the state of rest, or starts the next run when the task was resumed meanwhile.
            Outcome::Cancelled if asked => (None, None),
            Outcome::Failed(error) if asked && error.kind == ErrorKind::Cancelled => (None, None),
            // The process stops: what is really broken fails again at the next start.
            Outcome::Failed(error) if asked && worker.told.is_none() => {
                tracing::warn!(task.id = %worker.task, %error, "run failed while the process stops");
                (None, None)
            }
            Outcome::Failed(error) => (Some(Status::Failed), Some(error)),
            // It left because somebody else writes: under a newer epoch the status below is refused, and stays theirs.
            Outcome::Cancelled => {
                let error = Error::new(
                    ErrorKind::Fenced,
                    "the run gave way: another run or instance works on this task",
                )
                .hint("stop the other instance, then resume; the log says where it was met");
                (Some(Status::Failed), Some(error))
            }
        };
        match &error {
            Some(error) => {
                tracing::error!(task.id = %worker.task, error = %error, kind = ?error.kind, hint = error.cure(), "task failed");
            }
            None => tracing::info!(task.id = %worker.task, status = status.map(Status::as_str), "run ended"),
        }
        if let Some(status) = status
            && let Err(error) =
                self.store.set_status(&worker.task, worker.epoch, status, error.as_ref()).await
            && error.kind != ErrorKind::Fenced
        {
            tracing::error!(task.id = %worker.task, %error, "the end of a run could not be written down");
        }
        self.registry.announce();
    }

    async fn shut_down(mut self, patience: Duration) {
        for worker in self.workers.values() {
            worker.cancel.cancel();
        }
        let drained = tokio::time::timeout(patience, async {
            while let Some(ended) = self.set.join_next_with_id().await {
                self.bury(ended).await;
            }
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                left = self.workers.len(),
                "workers did not end in time; their work is repeated at the next start"
            );
            self.set.shutdown().await;
        }
    }
}

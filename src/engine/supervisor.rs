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

use futures_util::StreamExt;
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
use crate::error::{Error, ErrorKind, Policy, Result};
use crate::model::{Epoch, TaskId};
use crate::store::Store;
use crate::store::runs::RunState;
use crate::store::tasks::TaskRow;
use crate::task::status::{Desired, Status};

/// Looks at the store this often even when nobody calls.
const TICK: Duration = Duration::from_secs(5);
/// Steps under way.
const AT_ONCE: usize = 64;
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

/// What is to be done about a task.
enum Step {
    Start,
    Renew(Id),
    Write(Epoch, Status),
}

/// What came of it.
enum Done {
    Nothing,
    Begun(Box<Begun>),
    Renewed(Id, Box<TaskRow>, Box<Endpoints>),
}

/// A run that is written down, and not yet at work.
struct Begun {
    context: WorkerContext,
    settings: watch::Sender<Settings>,
}

/// What steps are taken with. Cheap to clone.
#[derive(Clone)]
struct Hands {
    store: Store,
    keyring: Arc<Keyring>,
    registry: Arc<Registry>,
}

/// Owns every worker of this process.
pub struct Supervisor {
    hands: Hands,
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
        let hands = Hands { store, keyring, registry };
        Self { hands, wake, runner, set: JoinSet::new(), workers: HashMap::new() }
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
                Some(ended) = self.set.join_next_with_id() => {
                    let mut all = vec![ended];
                    all.extend(std::iter::from_fn(|| self.set.try_join_next_with_id()));
                    self.bury_all(all).await;
                    true
                }
                () = self.wake.notified() => true,
                _ = tick.tick() => true,
                _ = sample.tick() => { self.hands.registry.sample(Instant::now()); false }
            };
            if look && let Err(error) = self.reconcile().await {
                tracing::error!(%error, "tasks could not be reconciled; trying again");
            }
        }
        self.shut_down(patience).await;
    }

    async fn reconcile(&mut self) -> Result<()> {
        let states = self.hands.store.run_states().await?;
        let connections = match self.workers.is_empty() {
            true => HashMap::new(),
            false => self.hands.store.connection_versions().await?,
        };
        let running: HashMap<TaskId, Id> =
            self.workers.iter().map(|(id, worker)| (worker.task.clone(), *id)).collect();
        let hands = self.hands.clone();
        let steps: Vec<_> = states
            .into_iter()
            .filter_map(|state| {
                let step = match running.get(&state.id) {
                    Some(id) => self.steer(*id, &state, &connections),
                    None => settle(&state),
                };
                step.map(|step| (state.id, step))
            })
            .collect();
        // Side by side, so that what they write goes to the disk together.
        let mut steps = futures_util::stream::iter(steps)
            .map(|(task, step)| {
                let hands = &hands;
                async move { (hands.take(&task, step).await, task) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((done, task)) = steps.next().await {
            match done {
                Ok(Done::Nothing) => {}
                Ok(Done::Begun(begun)) => self.spawn(*begun),
                Ok(Done::Renewed(id, row, endpoints)) => self.renew(id, *row, *endpoints),
                // One task's trouble is not the others'.
                Err(error) => {
                    tracing::error!(task.id = %task, %error, "task could not be reconciled; trying again");
                }
            }
        }
        Ok(())
    }

    /// A worker runs: cancel it when something else is wanted, else hand it what has changed.
    fn steer(&mut self, id: Id, state: &RunState, connections: &HashMap<String, i64>) -> Option<Step> {
        let worker = self.workers.get_mut(&id)?;
        let wanted = match state.desired {
            Desired::Paused => Status::Pausing,
            Desired::Stopped => Status::Stopping,
            Desired::None | Desired::Running => {
                return (!worker.knows(state.spec_version, connections)).then_some(Step::Renew(id));
            }
        };
        if worker.told == Some(wanted) {
            return None;
        }
        worker.told = Some(wanted);
        worker.cancel.cancel();
        Some(Step::Write(worker.epoch, wanted))
    }

    /// Throttles are in force with that.
    fn renew(&self, id: Id, row: TaskRow, endpoints: Endpoints) {
        let Some(worker) = self.workers.get(&id) else { return };
        self.hands.limiters(&row, &endpoints);
        let spec_version = row.spec_version;
        worker.settings.send_modify(|settings| {
            *settings = settings.followed_by(Arc::new(row.spec), spec_version, endpoints);
        });
        tracing::info!(task.id = %worker.task, spec_version, "new settings handed over");
    }

    fn spawn(&mut self, begun: Begun) {
        let Begun { context, settings } = begun;
        let (task, epoch) = (context.task.clone(), context.epoch);
        tracing::info!(task.id = %task, epoch = epoch.0, "task starts");
        let worker = Worker { task, epoch, cancel: context.cancel.clone(), told: None, settings };
        let handle = self.set.spawn((self.runner)(context));
        self.workers.insert(handle.id(), worker);
        self.hands.registry.announce();
    }
}

/// No worker runs: what is to be done about it.
fn settle(state: &RunState) -> Option<Step> {
    let rest = match state.desired {
        Desired::Running if matches!(state.status, Status::Failed | Status::Finished | Status::Stopped) => {
            return None;
        }
        Desired::Running => return Some(Step::Start),
        Desired::Paused => Status::Paused,
        Desired::Stopped => Status::Stopped,
        Desired::None => return None,
    };
    (state.status != rest).then_some(Step::Write(state.epoch, rest))
}

impl Hands {
    async fn take(&self, task: &TaskId, step: Step) -> Result<Done> {
        match step {
            Step::Start => {
                Ok(self.begin(task).await?.map_or(Done::Nothing, |begun| Done::Begun(Box::new(begun))))
            }
            Step::Renew(id) => {
                let row = self.row(task).await?;
                let endpoints = endpoints::of_spec(&self.store, &self.keyring, &row.spec).await?;
                Ok(Done::Renewed(id, Box::new(row), Box::new(endpoints)))
            }
            Step::Write(epoch, status) => {
                self.store.set_status(task, epoch, status, None).await?;
                self.registry.announce();
                Ok(Done::Nothing)
            }
        }
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

    async fn begin(&self, task: &TaskId) -> Result<Option<Begun>> {
        crash::point("run.before");
        let Some(epoch) = self.store.begin_run(task).await? else { return Ok(None) };
        crash::point("run.begun");
        // Read after the epoch was committed: this is the spec that `applied_spec_version` names.
        match self.context(task, epoch).await {
            Ok((context, settings)) => Ok(Some(Begun { context, settings })),
            // The store's trouble passes, and is nothing of the task's.
            Err(error) if matches!(error.policy(), Policy::Retry(_)) => Err(error),
            Err(error) => {
                tracing::warn!(task.id = %task, %error, "task cannot start");
                self.store.set_status(task, epoch, Status::Failed, Some(&error)).await?;
                self.registry.announce();
                Ok(None)
            }
        }
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
}

impl Supervisor {
    /// Workers have ended: their outcomes become their tasks' status.
    async fn bury_all(&mut self, all: Vec<Result<(Id, Outcome), JoinError>>) {
        let ends: Vec<_> = all.into_iter().filter_map(|ended| self.bury(ended)).collect();
        let (store, registry) = (&self.hands.store, &self.hands.registry);
        let written = ends.into_iter().map(|(worker, status, error)| async move {
            if let Err(error) = store.set_status(&worker.task, worker.epoch, status, error.as_ref()).await
                && error.kind != ErrorKind::Fenced
            {
                tracing::error!(task.id = %worker.task, %error, "the end of a run could not be written down");
            }
        });
        futures_util::future::join_all(written).await;
        registry.announce();
    }

    /// A worker has ended: the status that its task gets by that, where it gets one.
    fn bury(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Option<(Worker, Status, Option<Error>)> {
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
        let worker = self.workers.remove(&id)?;
        self.hands.registry.end(&worker.task);
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
        Some((worker, status?, error))
    }

    async fn shut_down(mut self, patience: Duration) {
        for worker in self.workers.values() {
            worker.cancel.cancel();
        }
        let drained = tokio::time::timeout(patience, async {
            while let Some(ended) = self.set.join_next_with_id().await {
                self.bury_all(vec![ended]).await;
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

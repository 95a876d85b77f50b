//! The worker of one task: runs its phases in order, retries what policy says, writes what it observes to the store under
//! its epoch.
//!
//! Every attempt begins at what is durable: phases that are through are skipped, the snapshot is taken again only when it is lost.
//! So a retry, a resume and a restart after a crash are the same thing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adb::writer::{Use, Writer, end_sessions};
use crate::binlog::{ReadBack, SeenSet, Shape, Start, Topic, seen};
use crate::engine::progress::{Phase, Progress};
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result, RetryClock};
use crate::full::{self, FullSync};
use crate::incremental::catalog::{Catalog, Change};
use crate::incremental::lag;
use crate::incremental::stream::Stream;
use crate::model::{Dialect, Epoch, KafkaEndpoint, MysqlEndpoint, Offset, Position, TaskId, Tso, Zone};
use crate::schema_sync::{self, Wanted};
use crate::store::{Checkpoint, Store, now_ms};
use crate::task::selection::Selection;
use crate::task::spec::{OnlineDdlMode, Spec, StartAt};
use crate::task::standing::{Standing, TableDecision, decide_table};
use crate::tidb::{self, KeptGuards, Source};
use crate::{adb, precheck};

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

/// DDLs that may come between a precheck and the start.
const SINCE_PRECHECK: u32 = 100;

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
    // They outlive an attempt: a copy that was cut off goes on at the same snapshot.
    let mut guards = KeptGuards::default();
    let outcome = attempts(&context, &mut guards).await;
    guards.release().await;
    outcome
}

async fn attempts(context: &WorkerContext, guards: &mut KeptGuards) -> Outcome {
    let mut clock = Clock::default();
    loop {
        let before = context.progress.done();
        let result = Attempt { context, guards: &mut *guards }.phases().await;
        if context.cancel.is_cancelled()
            && !matches!(&result, Ok(()) | Err(Error { kind: ErrorKind::Cancelled, .. }))
        {
            // It was asked to end and could not end cleanly: the next run begins at the checkpoint.
            tracing::info!(task.id = %context.task, error = ?result.err().map(|error| error.to_string()), "gave up while ending");
            return Outcome::Cancelled;
        }
        let error = match result {
            Ok(()) => return Outcome::Finished,
            Err(error) => error,
        };
        let limit = match error.policy() {
            Policy::Leave => return Outcome::Cancelled,
            Policy::Stop if error.kind == ErrorKind::SnapshotLost => Some(RetryClock::Other),
            Policy::Stop => return Outcome::Failed(error),
            Policy::Retry(clock) => Some(clock),
        };
        // Retry clocks start anew with progress, not with a mere reconnect.
        if context.progress.done() != before {
            clock = Clock::default();
        }
        let allowed = match limit {
            Some(RetryClock::Connection) => Some(context.spec.errors.connection_retry_ms),
            Some(RetryClock::Other) => Some(context.spec.errors.other_retry_ms),
            Some(RetryClock::Unlimited) | None => None,
        };
        let Some(pause) = clock.next(allowed) else {
            return Outcome::Failed(error);
        };
        context.progress.retries.fetch_add(1, Relaxed);
        tracing::warn!(task.id = %context.task, %error, attempt = clock.attempt, pause_ms = pause.as_millis() as u64, "retrying");
        let retry_at = now_ms() + pause.as_millis() as i64;
        if let Err(error) = context
            .store
            .worker_retry(&context.task, context.epoch, &error, clock.attempt, clock.since_ms, retry_at)
            .await
        {
            return if error.policy() == Policy::Leave { Outcome::Cancelled } else { Outcome::Failed(error) };
        }
        tokio::select! {
            () = context.cancel.cancelled() => return Outcome::Cancelled,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Back-off of one trouble: 0.2 s doubling to 30 s, with jitter, until the allowed time is over.
#[derive(Default)]
struct Clock {
    attempt: u32,
    since_ms: i64,
}

impl Clock {
    fn next(&mut self, allowed_ms: Option<u64>) -> Option<Duration> {
        let now = now_ms();
        if self.attempt == 0 {
            self.since_ms = now;
        }
        self.attempt += 1;
        if allowed_ms.is_some_and(|allowed| now - self.since_ms >= allowed as i64) {
            return None;
        }
        let base = (200_u64 << self.attempt.min(8)).min(30_000);
        Some(Duration::from_millis(rand::rng().random_range(base / 2..=base)))
    }
}

/// One try at everything that is left to do.
struct Attempt<'a> {
    context: &'a WorkerContext,
    guards: &'a mut KeptGuards,
}

impl Attempt<'_> {
    async fn phases(&mut self) -> Result<()> {
        let context = self.context;
        let phases = context.spec.phases;
        let selection = Arc::new(Selection::new(&context.spec).map_err(|faults| {
            let detail = faults.iter().map(|fault| fault.detail.clone()).collect::<Vec<_>>().join("; ");
            Error::new(ErrorKind::Configuration, detail).hint("correct the task's objects")
        })?);
        let known = context.store.checkpoint(&context.task).await?;
        if known.is_none() {
            self.precheck().await?;
        }
        end_sessions(&context.target, context.dialect, &context.store, &context.task, context.epoch, None)
            .await?;
        let checkpoint = match known {
            Some(checkpoint) => self.still_valid(checkpoint).await?,
            None => self.begin().await?,
        };
        let collations = {
            let mut session = adb::connect(&context.target, context.dialect).await?;
            let collations = schema_sync::collations(&mut session, context.dialect).await?;
            session.close().await;
            collations
        };
        let mut catalog =
            Catalog::new(Arc::clone(&context.spec), Arc::clone(&selection), context.dialect, collations)
                .bytewise(checkpoint.bytewise);
        if checkpoint.schema_done {
            let (schemas, tables) = context.store.catalog(&context.task).await?;
            catalog.load(schemas, tables)?;
        } else {
            self.schema(&selection, &checkpoint, &mut catalog).await?;
        }
        if phases.full && !checkpoint.full_done {
            self.full(&mut catalog, &checkpoint).await?;
        }
        if !phases.incremental {
            return Ok(());
        }
        self.guards.release().await;
        self.incremental(catalog).await
    }

    async fn phase(&self, phase: Phase) -> Result<()> {
        self.context.store.worker_phase(&self.context.task, self.context.epoch, phase).await
    }

    async fn precheck(&self) -> Result<()> {
        self.phase(Phase::Precheck).await?;
        let context = self.context;
        let items = precheck::run(precheck::PrecheckInput {
            spec: Arc::clone(&context.spec),
            source: context.source.clone(),
            kafka: context.kafka.clone(),
            target: context.target.clone(),
            dialect: context.dialect,
        })
        .await;

        if !precheck::blocks(&items) {
            return Ok(());
        }
        let blocking: Vec<String> = items
            .iter()
            .filter(|item| precheck::blocks(std::slice::from_ref(item)))
            .map(|item| format!("{}: {}", item.id, item.detail))
            .collect();
        Err(Error::new(ErrorKind::Configuration, format!("precheck: {}", blocking.join("; ")))
            .hint("see the task's precheck for the cure of each; warnings can be waived in the spec"))
    }

    /// Takes T and E0 (design.md section 4), or the start position of an incremental-only task, and makes them durable.
    async fn begin(&mut self) -> Result<Checkpoint> {
        let context = self.context;
        let phases = context.spec.phases;
        let mut checkpoint = Checkpoint {
            snapshot: Tso(0),
            start_offset: Offset(0),
            position: Position::default(),
            cluster_id: String::new(),
            topic: context.spec.source.topic.clone().unwrap_or_default(),
            watermark: Tso(0),
            schema_done: !(phases.schema || phases.full),
            full_done: !phases.full,
            bytewise: false,
            updated_at_ms: 0,
        };
        if let Some(endpoint) = &context.source {
            checkpoint.bytewise = Source::new(endpoint.clone()).compares_bytes().await?;
        }
        let topic = if phases.incremental { Some(self.topic()?) } else { None };
        if let Some(topic) = &topic {
            topic.verify().await?;
            checkpoint.cluster_id = topic.cluster_id().await?;
        }
        if let Some(endpoint) = context.source.as_ref().filter(|_| context.spec.start_at.is_none()) {
            let source = Source::new(endpoint.clone());
            let end_offset = async {
                match &topic {
                    Some(topic) => topic.end_offset().await,
                    None => Ok(Offset(0)),
                }
            };
            let taken = tidb::hand_over(&source, || end_offset).await?;
            checkpoint.snapshot = taken.snapshot;
            checkpoint.start_offset = taken.start_offset;
            self.guards.keep(context.task.clone(), taken.guards).await;
            self.names_are_known(&source).await?;
        } else if let Some(topic) = &topic {
            let start = start(context.spec.start_at.as_ref())?;
            checkpoint.start_offset = topic.find_start(start).await?;
            if let Start::After(tso) = start {
                checkpoint.snapshot = tso;
            }
        }
        checkpoint.position.next_offset = checkpoint.start_offset;
        context.store.begin(&context.task, context.epoch, &checkpoint).await?;
        let detail = serde_json::json!({
            "snapshot_tso": checkpoint.snapshot.to_string(), "start_offset": checkpoint.start_offset.to_string(),
        });
        context.store.event(Some(&context.task), "start", None, "start position taken", detail).await?;
        Ok(checkpoint)
    }

    /// What the precheck looked at, as of T: a RENAME of several tables in between is in no message after T.
    async fn names_are_known(&self, source: &Source) -> Result<()> {
        let context = self.context;
        let waived = context.spec.waivers.iter().any(|waiver| waiver == precheck::RENAMES);
        let Some(selection) =
            Selection::new(&context.spec).ok().filter(|_| context.spec.phases.incremental && !waived)
        else {
            return Ok(());
        };
        let mut session = source.session().await?;
        let found = tidb::renamed_together(&mut session, SINCE_PRECHECK).await?;
        session.close().await;
        match found.into_iter().find(|stale| stale.concerns(&selection)) {
            None => Ok(()),
            Some(stale) => Err(Error::new(
                ErrorKind::Configuration,
                "was just renamed together with others: Drainer may send its rows under another table's name",
            )
            .object(stale.table)
            .hint("run the precheck, which says what to do (source.renames), then resume the task")),
        }
    }

    /// A checkpoint of an earlier run whose snapshot may be lost by now.
    async fn still_valid(&mut self, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let context = self.context;
        if (checkpoint.schema_done && checkpoint.full_done) || checkpoint.snapshot == Tso(0) {
            return Ok(checkpoint);
        }
        let Some(endpoint) = &context.source else { return Ok(checkpoint) };
        let source = Source::new(endpoint.clone());
        let lost = source.gc_safe_point().await?.is_some_and(|safe_point| safe_point > checkpoint.snapshot);
        if !lost {
            return Ok(checkpoint);
        }
        tracing::warn!(task.id = %context.task, snapshot = %checkpoint.snapshot, "snapshot lost to garbage collection, copying again");
        context
            .store
            .event(
                Some(&context.task),
                "restart",
                None,
                "the snapshot was lost to the source's garbage collection: full sync begins again",
                serde_json::json!({"snapshot_tso": checkpoint.snapshot.to_string()}),
            )
            .await?;
        self.begin().await
    }

    fn topic(&self) -> Result<Topic> {
        let context = self.context;
        let kafka = context.kafka.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "incremental sync without source.kafka")
                .hint("name a kafka connection")
        })?;
        Topic::new(kafka, context.spec.source.topic.as_deref().unwrap_or_default())
    }

    async fn schema(
        &self,
        selection: &Selection,
        checkpoint: &Checkpoint,
        catalog: &mut Catalog,
    ) -> Result<()> {
        self.phase(Phase::Schema).await?;
        let context = self.context;
        let endpoint = context.source.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "schema and full sync without source.tidb")
                .hint("name a tidb connection")
        })?;
        let found = Source::new(endpoint.clone())
            .catalog_at(checkpoint.snapshot, |name| selection.selects(name))
            .await?;
        let mut change = Change::from_source(found, selection);
        if context.spec.online_ddl.mode == OnlineDdlMode::Ignore {
            change.leave_shadows_out(selection);
        }
        catalog.apply(&change);
        if context.spec.phases.schema {
            // Precheck has seen to it that nothing was there: what is there now is of an earlier try.
            let wanted: Vec<Wanted> =
                catalog.wanted().into_iter().map(|wanted| Wanted { ours: true, ..wanted }).collect();
            let mut session = adb::connect(&context.target, context.dialect).await?;
            let policy = context.spec.existing_tables;
            schema_sync::create(&mut session, context.dialect, &wanted, policy, |_| {}).await?;
            session.close().await;
        }
        let (schemas, tables) = change.stored(checkpoint.snapshot)?;
        context.store.schema_done(&context.task, context.epoch, &schemas, &tables).await
    }

    async fn full(&mut self, catalog: &mut Catalog, checkpoint: &Checkpoint) -> Result<()> {
        self.phase(Phase::Full).await?;
        let context = self.context;
        self.leave_out(catalog, checkpoint).await?;
        let endpoint = context
            .source
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Configuration, "full sync without source.tidb"))?;
        let summary = full::run(FullSync {
            store: context.store.clone(),
            task: context.task.clone(),
            epoch: context.epoch,
            source: endpoint.clone(),
            target: context.target.clone(),
            dialect: context.dialect,
            tables: catalog.selected_targets()?,
            snapshot: checkpoint.snapshot,
            spec: Arc::clone(&context.spec),
            progress: Arc::clone(&context.progress),
            sessions: Use::Task,
            cancel: context.cancel.clone(),
        })
        .await?;
        context.store.worker_recovered(&context.task, context.epoch).await?;
        // Half a copy would only look complete: the table is followed again after a resync.
        let mut aside = Change::default();
        for (name, error) in summary.stopped {
            tracing::warn!(task.id = %context.task, table = %name, %error, "table stopped");
            let detail = serde_json::json!({"table": name.to_string(), "error": error});
            context
                .store
                .event(Some(&context.task), "table_stopped", None, "table stopped; the others go on", detail)
                .await?;
            let change = catalog.stand(&name, Standing::Stopped { error }).unwrap_or_default();
            aside.entries.extend(change.entries);
        }
        catalog.apply(&aside);
        let (_, versions) = aside.stored(checkpoint.snapshot)?;
        context.store.full_done(&context.task, context.epoch, &versions).await?;
        context.progress.advance_watermark(checkpoint.snapshot);
        Ok(())
    }

    /// Tables that are to be skipped or paused are not copied at all.
    async fn leave_out(&self, catalog: &mut Catalog, checkpoint: &Checkpoint) -> Result<()> {
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        for (name, command) in store.table_commands(task).await? {
            let known = catalog.table(&name).map(|entry| decide_table(command, &entry.standing));
            let Some(TableDecision::Become(standing @ (Standing::Skipped | Standing::Paused))) = known else {
                continue;
            };
            let change = catalog.stand(&name, standing).unwrap_or_default();
            let (_, versions) = change.stored(checkpoint.snapshot)?;
            store.change_tables(task, epoch, &versions, &[(name, command)], None).await?;
            catalog.apply(&change);
        }
        Ok(())
    }

    async fn incremental(&self, catalog: Catalog) -> Result<()> {
        self.phase(Phase::Incremental).await?;
        let context = self.context;
        let checkpoint = context
            .store
            .checkpoint(&context.task)
            .await?
            .ok_or_else(|| Error::internal("incremental sync without a checkpoint"))?;
        let topic = self.topic()?;
        let cluster = topic.cluster_id().await?;
        if cluster != checkpoint.cluster_id {
            return Err(Error::new(
                ErrorKind::PositionLost,
                format!(
                    "the checkpoint belongs to Kafka cluster {}, this is {cluster}",
                    checkpoint.cluster_id
                ),
            )
            .endpoint(Endpoint::Kafka)
            .object(format!("topic {}", checkpoint.topic))
            .hint("point the connection back to its cluster, or copy the tables again with a new task"));
        }
        let zone = Zone::parse(&context.spec.source.time_zone).map_err(|message| {
            Error::new(ErrorKind::Configuration, message)
                .hint("set source.time_zone to the zone of the Drainer process")
        })?;
        let limits = seen::Limits::default();
        // Without a snapshot, what a Drainer repeats from before the start is recognised by what lies there.
        let not_before = if checkpoint.snapshot == Tso(0) { Offset(0) } else { checkpoint.start_offset };
        let back = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(Error::cancelled()),
            back = topic.read_back(checkpoint.position.next_offset, not_before, limits) => back?,
        };
        same_log(&checkpoint, &back)?;
        let seen = SeenSet::rebuilt(checkpoint.snapshot, limits, back.messages, back.complete);
        let source = topic.open(checkpoint.position.next_offset).await?;
        let writer = Writer::new(
            context.target.clone(),
            context.dialect,
            context.store.clone(),
            context.task.clone(),
            context.epoch,
            Use::Task,
            context.spec.tuning.connections,
        );
        let (looks, seen_looks) = watch::channel(lag::Look::default());
        let end_watch = context.cancel.child_token();
        let watching = tokio::spawn(lag::watch(
            context.source.clone(),
            checkpoint.position.commit_ts.max(checkpoint.snapshot),
            topic.clone(),
            looks,
            end_watch.clone(),
        ));
        let mut stream =
            Stream::new(context.clone(), topic, source, catalog, seen, writer, &checkpoint, zone, seen_looks);
        let result = stream.run().await;
        end_watch.cancel();
        // It only reads, and may wait for a server that does not answer.
        watching.abort();
        result
    }
}

/// The log before the checkpoint must be the one that was read: another topic, or a topic made again, has other transactions
/// at the same offsets.
fn same_log(checkpoint: &Checkpoint, back: &ReadBack) -> Result<()> {
    let newest = back
        .messages
        .iter()
        .filter(|seen| seen.commit_ts > checkpoint.snapshot && seen.shape() != Shape::Resolved)
        .map(|seen| seen.commit_ts)
        .max();
    let read = checkpoint.position.commit_ts;
    if read <= checkpoint.snapshot || newest.is_none_or(|newest| newest == read) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PositionLost,
        format!("the log before offset {} is not the one that was read", checkpoint.position.next_offset),
    )
    .endpoint(Endpoint::Kafka)
    .object(format!("topic {}", checkpoint.topic))
    .hint("the topic was made again, or another one is named: copy the tables again with a new task"))
}

/// Where an incremental-only task begins.
fn start(start_at: Option<&StartAt>) -> Result<Start> {
    let wrong = |what: &str| {
        Error::new(ErrorKind::Configuration, format!("start_at.{what} cannot be read"))
            .hint("correct start_at in the spec")
    };
    Ok(match start_at {
        None | Some(StartAt::Earliest) => Start::Earliest,
        Some(StartAt::Latest) => Start::Latest,
        Some(StartAt::Offset(text)) => Start::At(Offset(text.parse().map_err(|_| wrong("offset"))?)),
        Some(StartAt::Tso(text)) => Start::After(Tso(text.parse().map_err(|_| wrong("tso"))?)),
        Some(StartAt::Time(text)) => {
            let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong("time"))?;
            Start::After(Tso::from_physical_ms(time.timestamp_millis()))
        }
    })
}

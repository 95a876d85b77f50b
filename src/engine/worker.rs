//! The worker of one task: runs its phases in order, retries what policy says, writes what it observes to the store under
//! its epoch.
//!
//! Every attempt begins at what is durable: phases that are through are skipped, the snapshot is taken again only when it is lost.
//! So a retry, a resume and a restart after a crash are the same thing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adb::throttle::Gate;
use crate::adb::writer::{Use, Writer, end_sessions};
use crate::binlog::{
    ChangeSource, Incoming, Kind, Message, ReadBack, SeenSet, Shape, Start, Topic, position_lost, seen,
};
use crate::engine::drift;
use crate::engine::endpoints::Endpoints;
use crate::engine::progress::{Phase, Progress};
use crate::engine::reset;
use crate::engine::settings::Settings;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result, RetryClock};
use crate::full::{self, FullSync, Summary};
use crate::incremental::catalog::{Catalog, Change, Entry};
use crate::incremental::marker::{self, Marker};
use crate::incremental::stream::Stream;
use crate::incremental::{lag, objects};
use crate::model::{
    Dialect, Epoch, KafkaEndpoint, MysqlEndpoint, Offset, Position, TableName, TaskId, Tso, Zone,
};
use crate::schema_sync::{self, Wanted};
use crate::store::{Checkpoint, OwnState, Store, now_ms};
use crate::task::selection::Selection;
use crate::task::spec::{ErrorPolicies, OnlineDdlMode, Spec, StartAt, TableErrorPolicy};
use crate::task::standing::{Standing, TableDecision, decide_table};
use crate::tidb::{self, KeptGuards, Source};
use crate::{adb, crash, precheck};

/// Everything a run of a task needs; made by the supervisor from the store.
#[derive(Clone)]
pub struct WorkerContext {
    pub store: Store,
    pub task: TaskId,
    pub epoch: Epoch,
    pub spec: Arc<Spec>,
    pub spec_version: i64,
    pub source: Option<MysqlEndpoint>,
    pub kafka: Option<KafkaEndpoint>,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    pub progress: Arc<Progress>,
    /// Every statement that carries rows passes it.
    pub gate: Gate,
    /// What the supervisor handed over last; `serial` says what of it is taken up above.
    pub settings: watch::Receiver<Settings>,
    pub serial: u64,
    /// Cancelled to pause, stop or shut down: the worker finishes or gives up its statements in flight, saves its checkpoint and returns.
    pub cancel: CancellationToken,
}

impl WorkerContext {
    /// Newer settings than those taken up, if there are any.
    pub fn newer(&self) -> Option<Settings> {
        let settings = self.settings.borrow();
        (settings.serial != self.serial).then(|| settings.clone())
    }

    /// What it works with.
    pub fn works_with(&self) -> Settings {
        let endpoints = Endpoints {
            source: self.source.clone(),
            kafka: self.kafka.clone(),
            target: self.target.clone(),
            dialect: self.dialect,
            named: Vec::new(),
        };
        let (spec, spec_version) = (Arc::clone(&self.spec), self.spec_version);
        Settings { spec, spec_version, endpoints, serial: self.serial }
    }

    pub fn take(&mut self, settings: Settings) {
        self.spec = settings.spec;
        self.spec_version = settings.spec_version;
        self.source = settings.endpoints.source;
        self.kafka = settings.endpoints.kafka;
        self.target = settings.endpoints.target;
        self.dialect = settings.endpoints.dialect;
        self.serial = settings.serial;
    }

    /// Whatever was tried again works.
    pub async fn recovered(&self) -> Result<()> {
        self.store.worker_recovered(&self.task, self.epoch).await?;
        self.progress.set_retry(None);
        Ok(())
    }

    /// Tells everybody that the run works with its settings now.
    pub async fn applied(&self) -> Result<()> {
        self.store.spec_applied(&self.task, self.epoch, self.spec_version).await
    }
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
pub async fn run(mut context: WorkerContext) -> Outcome {
    // They outlive an attempt: a copy that was cut off goes on at the same snapshot.
    let mut guards = KeptGuards::default();
    let outcome = attempts(&mut context, &mut guards).await;
    guards.release().await;
    outcome
}

/// How an attempt ended well.
enum Ended {
    Finished,
    /// Newer settings want another one.
    Renew,
}

async fn attempts(context: &mut WorkerContext, guards: &mut KeptGuards) -> Outcome {
    let mut clock = Clock::default();
    loop {
        if let Some(settings) = context.newer() {
            context.take(settings);
        }
        let context = &*context;
        let before = context.progress.done();
        let result = Attempt { context, guards: &mut *guards }.phases().await;
        if context.cancel.is_cancelled()
            && !matches!(&result, Ok(_) | Err(Error { kind: ErrorKind::Cancelled, .. }))
        {
            // It was asked to end and could not end cleanly: the next run begins at the checkpoint.
            tracing::info!(task.id = %context.task, error = ?result.err().map(|error| error.to_string()), "gave up while ending");
            return Outcome::Cancelled;
        }
        let error = match result {
            Ok(Ended::Finished) => return Outcome::Finished,
            Ok(Ended::Renew) => continue,
            Err(error) => error,
        };
        let which = match error.policy() {
            Policy::Leave => return Outcome::Cancelled,
            // Another snapshot may live longer.
            Policy::Stop if error.kind == ErrorKind::SnapshotLost => RetryClock::Other,
            Policy::Stop => return Outcome::Failed(error),
            Policy::Retry(clock) => clock,
        };
        // Retry clocks start anew with progress, or when there was nothing to do, not with a mere reconnect.
        if context.progress.done() != before || context.progress.retry().is_none() {
            clock = Clock::default();
        }
        let Some(pause) = clock.next(which, &context.spec.errors, Instant::now()) else {
            return Outcome::Failed(error);
        };
        context.progress.retries.fetch_add(1, Relaxed);
        tracing::warn!(task.id = %context.task, %error, attempt = clock.attempt, pause_ms = pause.as_millis() as u64, "retrying");
        let retry_at = now_ms() + pause.as_millis() as i64;
        let waited = context.progress.set_retry(Some((clock.attempt, retry_at))).is_some();
        if clock.is_news(&error) || !waited {
            let (attempt, since) = (clock.attempt, clock.since_ms);
            match context
                .store
                .worker_retry(&context.task, context.epoch, &error, attempt, since, retry_at)
                .await
            {
                Ok(()) => {}
                Err(error) if error.policy() == Policy::Leave => return Outcome::Cancelled,
                // The trouble may be the store's own: it is waited for like any other.
                Err(error) if matches!(error.policy(), Policy::Retry(_)) => {
                    tracing::warn!(task.id = %context.task, %error, "the store was not told of the retry");
                    clock.told = None;
                }
                Err(error) => return Outcome::Failed(error),
            }
        }
        let mut settings = context.settings.clone();
        tokio::select! {
            () = context.cancel.cancelled() => return Outcome::Cancelled,
            () = tokio::time::sleep(pause) => {}
            // Perhaps they are the cure.
            Ok(_) = settings.wait_for(|settings| settings.serial != context.serial) => {}
        }
    }
}

/// Back-off of one trouble: 0.2 s doubling to [`LONGEST_PAUSE`], with jitter, until the time is over that its kind is allowed. Each
/// kind has a time of its own, which runs from an error of that kind to the next error of any: a lock of the target for a day is no
/// reason to give up at the first time-out behind it. Measured by a clock that does not jump; `since_ms` is for people.
#[derive(Default)]
struct Clock {
    attempt: u32,
    since_ms: i64,
    connection: Duration,
    other: Duration,
    last: Option<(RetryClock, Instant)>,
    /// What the store was told last, and when.
    told: Option<(Error, Instant)>,
}

const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The store hears of the same trouble again after that: an outage of what thousands of tasks need is no reason for hundreds of commits
/// a second.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl Clock {
    /// The pause before the next attempt; None when the time of this kind of trouble is over.
    fn next(&mut self, which: RetryClock, errors: &ErrorPolicies, now: Instant) -> Option<Duration> {
        if self.attempt == 0 {
            self.since_ms = now_ms();
        }
        self.attempt += 1;
        match self.last.replace((which, now)) {
            Some((RetryClock::Connection, at)) => self.connection += now - at,
            Some((RetryClock::Other, at)) => self.other += now - at,
            Some((RetryClock::Unlimited, _)) | None => {}
        }
        let is_over = match which {
            RetryClock::Connection => self.connection >= Duration::from_millis(errors.connection_retry_ms),
            RetryClock::Other => self.other >= Duration::from_millis(errors.other_retry_ms),
            RetryClock::Unlimited => false,
        };
        if is_over {
            return None;
        }
        let base = (200_u64 << self.attempt.min(8)).min(LONGEST_PAUSE.as_millis() as u64);
        Some(Duration::from_millis(rand::rng().random_range(base / 2..=base)))
    }

    /// Whether the store must hear of it.
    fn is_news(&mut self, error: &Error) -> bool {
        // The texts of Kafka and of time-outs have figures in them.
        let what = |error: &Error| (error.kind, error.endpoint, error.code, error.object.clone());
        let known =
            matches!(&self.told, Some((told, at)) if what(told) == what(error) && at.elapsed() < TOLD_EVERY);
        if !known {
            self.told = Some((error.clone(), Instant::now()));
        }
        !known
    }
}

/// One try at everything that is left to do.
struct Attempt<'a> {
    context: &'a WorkerContext,
    guards: &'a mut KeptGuards,
}

impl Attempt<'_> {
    async fn phases(&mut self) -> Result<Ended> {
        let context = self.context;
        let phases = context.spec.phases;
        let selection = Arc::new(Selection::new(&context.spec).map_err(|faults| {
            let detail = faults.iter().map(|fault| fault.detail.clone()).collect::<Vec<_>>().join("; ");
            Error::new(ErrorKind::Configuration, detail).hint("correct the task's objects")
        })?);
        let known = context.store.checkpoint(&context.task).await?;
        if known.is_none() {
            reset::finish(&context.target, context.dialect, &context.store, &context.task, context.epoch)
                .await?;
            // It only asks: whoever ends the run need not wait for the answers.
            tokio::select! {
                biased;
                () = context.cancel.cancelled() => return Err(Error::cancelled()),
                result = self.precheck() => result?,
            }
        }
        end_sessions(&context.target, context.dialect, &context.store, &context.task, context.epoch, None)
            .await?;
        let checkpoint = match known {
            Some(checkpoint) => self.still_valid(checkpoint).await?,
            None => {
                Marker::forget(context).await?;
                self.begin().await?
            }
        };
        let mut marker = if phases.incremental { self.claim(&checkpoint).await? } else { None };
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
            self.take_objects(&mut catalog, &checkpoint).await?;
            context.applied().await?;
            if let Some(marker) = &mut marker {
                marker.rest(context).await;
            }
            if self.full(&mut catalog, &checkpoint).await? {
                return Ok(Ended::Renew);
            }
        }
        if !phases.incremental {
            context.applied().await?;
            return Ok(Ended::Finished);
        }
        // A copy of the target from before the end of full sync is told from those after it.
        if let Some(marker) = &mut marker
            && phases.full
            && marker.number() == 0
        {
            marker.set(context, checkpoint.position).await?;
            marker.keep(context).await?;
        }
        self.guards.release().await;
        self.incremental(catalog, marker).await
    }

    /// Takes the marker row on the target. Where it says that store or target were restored from an older copy, what one of
    /// them lacks is applied again; where that cannot be done the task stops.
    async fn claim(&self, checkpoint: &Checkpoint) -> Result<Option<Marker>> {
        let context = self.context;
        let (mut marker, standing) = Marker::claim(context, checkpoint).await?;
        let (older, position, kind) = match standing {
            marker::Standing::Fits => return Ok(marker),
            marker::Standing::StoreIsOlder(position) => ("the metadata store", position, "store_restored"),
            marker::Standing::TargetIsOlder(position) => ("the target", position, "target_restored"),
        };
        let here = checkpoint.position.next_offset;
        let (low, high) = (here.min(position.next_offset), here.max(position.next_offset));
        let lost = |why: String| {
            Error::new(ErrorKind::PositionLost, format!("{older} was restored from an older copy, and {why}"))
                .object(format!("topic {} offsets {low} to {high}", checkpoint.topic))
                .hint("rows and tables may differ now: copy the tables again with a new task")
        };
        if !checkpoint.full_done {
            return Err(lost("it knows of full sync only".to_owned()));
        }
        let before_the_end = marker.as_ref().is_some_and(|marker| marker.number() == 0);
        if matches!(standing, marker::Standing::TargetIsOlder(_))
            && context.spec.phases.full
            && before_the_end
        {
            return Err(lost("that copy is from before the end of full sync".to_owned()));
        }
        if matches!(standing, marker::Standing::TargetIsOlder(_)) {
            // The stream would pass over rows that it takes for part of the table's later copy.
            for version in context.store.catalog(&context.task).await?.1 {
                if Entry::stored(&version)?.is_copied_beyond(position.commit_ts) {
                    return Err(lost(format!("{} was copied again since", version.key)));
                }
            }
        }
        let limits = seen::Limits { payload_bytes: u64::MAX, entries: 1 << 22 };
        let between = self.topic()?.read_back(high, low, limits).await?;
        if !between.complete {
            return Err(lost("too much was applied since".to_owned()));
        }
        for seen in between.messages.iter().filter(|seen| seen.shape() == Shape::Ddl) {
            if self.is_own_ddl(seen.offset).await? {
                return Err(lost(format!("a DDL came since, at offset {}", seen.offset)));
            }
        }
        if let (marker::Standing::TargetIsOlder(_), Some(marker)) = (standing, &mut marker) {
            let reached = checkpoint.snapshot.max(Tso(position.commit_ts.0.saturating_sub(1)));
            let back = (position, reached);
            context.store.rewind(&context.task, context.epoch, back, marker.number()).await?;
            marker.kept();
            context.progress.set_back_watermark(reached);
        }
        let message = format!("{older} was restored from an older copy: what came since is applied again");
        tracing::warn!(task.id = %context.task, from = low.0, to = high.0, "{message}");
        let detail = serde_json::json!({"from_offset": low.to_string(), "to_offset": high.to_string()});
        context.store.event(Some(&context.task), kind, None, &message, detail).await?;
        Ok(marker)
    }

    async fn phase(&self, phase: Phase) -> Result<()> {
        self.context.store.worker_phase(&self.context.task, self.context.epoch, phase).await
    }

    async fn precheck(&self) -> Result<()> {
        self.phase(Phase::Precheck).await?;
        let context = self.context;
        let own: HashSet<TableName> =
            context.store.own_tables(&context.task).await?.into_iter().map(|own| own.name).collect();
        let run = || {
            precheck::run(precheck::PrecheckInput {
                spec: Arc::clone(&context.spec),
                source: context.source.clone(),
                kafka: context.kafka.clone(),
                target: context.target.clone(),
                dialect: context.dialect,
                own: own.clone(),
            })
        };
        let mut items = run().await;
        if precheck::blocks(&items) {
            // A server out of reach is waited for like at any other time, and one that was for a moment is asked again.
            self.reach().await?;
            items = run().await;
        }
        if !precheck::blocks(&items) {
            return Ok(());
        }
        let blocking: Vec<_> = items.iter().filter(|item| item.blocks()).collect();
        let words: Vec<_> = blocking.iter().map(|item| format!("{}: {}", item.id, item.detail)).collect();
        let words = format!("precheck: {}", words.join("; "));
        // Reached and lost again in between.
        if blocking.iter().all(|item| item.outage) {
            return Err(Error::new(ErrorKind::Unreachable, words));
        }
        Err(Error::new(ErrorKind::Configuration, words)
            .hint("see the task's precheck for the cure of each; warnings can be waived in the spec"))
    }

    /// Whether the DDL at this offset may have changed a table of the task.
    async fn is_own_ddl(&self, offset: Offset) -> Result<bool> {
        let selection = Selection::new(&self.context.spec)
            .map_err(|_| Error::new(ErrorKind::Configuration, "the selection cannot be read"))?;
        let mut log = self.topic()?.open(offset).await?;
        loop {
            let Incoming::Message(raw) = log.next().await? else { continue };
            let Ok(Message { kind: Kind::Ddl(ddl), .. }) = Message::parse(&raw.payload) else {
                return Ok(false);
            };
            let (schema, text) = (std::str::from_utf8(ddl.schema_name), String::from_utf8_lossy(ddl.query));
            // A RENAME may come from another schema.
            return Ok(match schema {
                Ok(schema) if !schema.is_empty() => {
                    selection.could_select_schema(schema) || text.to_lowercase().contains("rename")
                }
                _ => true,
            });
        }
    }

    /// # Errors
    /// `Unreachable` when one of the servers is; what else is wrong with them the precheck says better.
    async fn reach(&self) -> Result<()> {
        let context = self.context;
        let passes = |result: Result<()>| match result {
            Err(error) if error.kind == ErrorKind::Unreachable => Err(error),
            _ => Ok(()),
        };
        if let Some(endpoint) = &context.source {
            passes(Source::new(endpoint.clone()).current_tso().await.map(|_| ()))?;
        }
        if context.spec.phases.incremental {
            passes(self.topic()?.log_range().await.map(|_| ()))?;
        }
        passes(adb::connect(&context.target, context.dialect).await.map(|_| ()))
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
            mark: 0,
            anchor: None,
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
        if let Some(topic) = &topic {
            checkpoint.anchor = topic.anchor(checkpoint.start_offset).await?;
        }
        crash::point("start.before");
        context.store.begin(&context.task, context.epoch, &checkpoint).await?;
        crash::point("start.saved");
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
        let found = tidb::renamed_together(&mut session, &selection, SINCE_PRECHECK).await?;
        session.close().await;
        match found.into_iter().next() {
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
        let unfit = match context.spec.errors.table {
            // They have become so since the precheck.
            TableErrorPolicy::StopTable => catalog.unfit(),
            TableErrorPolicy::StopTask => Vec::new(),
        };
        for (name, error) in &unfit {
            change.stand(name, Standing::Stopped { error: error.clone() });
        }
        catalog.apply(&change);
        if context.spec.phases.schema {
            let made = self.make_tables(catalog).await?;
            change.made(&made, selection);
            catalog.apply(&change);
        }
        // The catalog answers for these; a stop in between begins the phase again.
        context.store.take_objects(&context.task, context.epoch, &context.spec.objects, &[], &[]).await?;
        crash::point("schema.made");
        let (schemas, tables) = change.stored(checkpoint.snapshot)?;
        context.store.schema_done(&context.task, context.epoch, &schemas, &tables).await?;
        crash::point("schema.saved");
        for (name, error) in &unfit {
            self.tell_stopped(name, error).await?;
        }
        Ok(())
    }

    /// Makes the tables that the target lacks; gives those that are the task's own making, also of earlier tries.
    async fn make_tables(&self, catalog: &Catalog) -> Result<HashSet<TableName>> {
        let context = self.context;
        let (store, task, epoch) = (&context.store, &context.task, context.epoch);
        // Precheck has seen to it that nothing was there: what is there now is of an earlier try.
        let wanted: Vec<Wanted> =
            catalog.wanted().into_iter().map(|wanted| Wanted { ours: true, ..wanted }).collect();
        let mut session = adb::connect(&context.target, context.dialect).await?;
        // A CREATE TABLE whose connection is cut must not come after the DROP of a later run.
        let id = session.id();
        store.session_opened(task, epoch, id, Use::Task).await?;
        let names: Vec<TableName> = wanted.iter().map(|wanted| wanted.target.clone()).collect();
        let state = schema_sync::introspect(&mut session, context.dialect, &names).await?;
        let plan = schema_sync::plan(context.dialect, &wanted, &state, context.spec.existing_tables);
        let absent: Vec<TableName> = plan
            .tables
            .iter()
            .filter(|table| table.action == schema_sync::Action::Create)
            .map(|table| table.target.clone())
            .collect();
        let mut made: HashSet<TableName> = absent.iter().cloned().collect();
        for own in store.own_tables(task).await? {
            // The CREATE TABLE of a try that was cut off: ours, if nobody has written to it.
            let there = state.table(&own.name).is_some();
            let ours = own.state == OwnState::Made
                || (there && !schema_sync::has_rows(&mut session, &own.name).await?);
            if ours {
                made.insert(own.name);
            }
        }
        store.making_tables(task, epoch, &absent).await?;
        let mut created = HashSet::new();
        let applied = schema_sync::apply(&mut session, &plan, |name| {
            created.insert(name.clone());
        })
        .await;
        if !session.is_broken() {
            session.close().await;
            store.sessions_gone(task, epoch, &[id]).await?;
        }
        if let Err(error) = applied {
            // What was not made now may be made by somebody else before the next try.
            for name in absent.iter().filter(|name| !created.contains(*name)) {
                store.own_table_gone(task, epoch, name).await?;
            }
            return Err(error);
        }
        store.made_tables(task, epoch, &made.iter().cloned().collect::<Vec<_>>()).await?;
        Ok(made)
    }

    /// Tables that came, went or have other rules since the catalog was made. New ones are copied beside the stream, once it runs.
    async fn take_objects(&self, catalog: &mut Catalog, checkpoint: &Checkpoint) -> Result<()> {
        let context = self.context;
        let Some(taken) = context.store.taken_objects(&context.task).await? else { return Ok(()) };
        if taken == context.spec.objects {
            return Ok(());
        }
        let change = objects::change(context.source.as_ref(), catalog, &taken, checkpoint.snapshot).await?;
        let (schemas, versions) = change.stored(checkpoint.snapshot)?;
        let objects = &context.spec.objects;
        context.store.take_objects(&context.task, context.epoch, objects, &schemas, &versions).await?;
        catalog.apply(&change);
        Ok(())
    }

    /// Copies. True when it made room for newer settings before the end.
    async fn full(&mut self, catalog: &mut Catalog, checkpoint: &Checkpoint) -> Result<bool> {
        self.phase(Phase::Full).await?;
        let context = self.context;
        self.leave_out(catalog, checkpoint).await?;
        let stop = context.cancel.child_token();
        let endpoint = context
            .source
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Configuration, "full sync without source.tidb"))?;
        // Only told: that it cannot be read is no reason to stop.
        let life = Source::new(endpoint.clone()).gc_life_ms().await.inspect_err(|error| {
            tracing::debug!(task.id = %context.task, "how long the source keeps old versions: {error}");
        });
        context.progress.set_gc_life_ms(life.ok().flatten());
        context.progress.set_snapshot_ms(checkpoint.snapshot.physical_ms());
        let drain = context.cancel.child_token();
        let copy = full::run(FullSync {
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
            gate: context.gate.clone(),
            cancel: stop.clone(),
            drain: drain.clone(),
        });
        let topic = if context.spec.phases.incremental { Some(self.topic()?) } else { None };
        let kept = async {
            match &topic {
                Some(topic) => position_kept(topic, checkpoint.start_offset, &context.progress).await,
                None => std::future::pending().await,
            }
        };
        let mut copy = Box::pin(self.watched(copy, &drain));
        let summary = tokio::select! {
            summary = &mut copy => summary?,
            lost = kept => {
                stop.cancel();
                // Nothing may be under way when the run ends.
                let _ = copy.await;
                return Err(lost);
            }
        };
        context.recovered().await?;
        // Half a copy would only look complete: the table is followed again after a resync.
        let mut aside = Change::default();
        for (name, error) in summary.stopped {
            self.tell_stopped(&name, &error).await?;
            let change = catalog.stand(&name, Standing::Stopped { error }).unwrap_or_default();
            aside.entries.extend(change.entries);
        }
        catalog.apply(&aside);
        let (_, versions) = aside.stored(checkpoint.snapshot)?;
        if summary.drained {
            context.store.change_tables(&context.task, context.epoch, &versions, &[], None).await?;
            return Ok(true);
        }
        crash::point("full.before");
        context.store.full_done(&context.task, context.epoch, &versions).await?;
        crash::point("full.saved");
        context.progress.advance_watermark(checkpoint.snapshot);
        Ok(false)
    }

    async fn tell_stopped(&self, name: &TableName, error: &Error) -> Result<()> {
        let (store, task) = (&self.context.store, &self.context.task);
        tracing::warn!(task.id = %task, table = %name, %error, "table stopped");
        let detail = serde_json::json!({"table": name.to_string(), "error": error});
        store.event(Some(task), "table_stopped", None, "table stopped; the others go on", detail).await
    }

    /// Full sync, which is drained when newer settings want it to be another.
    async fn watched(
        &self,
        copy: impl Future<Output = Result<Summary>>,
        drain: &CancellationToken,
    ) -> Result<Summary> {
        let context = self.context;
        let mut settings = context.settings.clone();
        let mut serial = context.serial;
        let before = context.progress.done();
        let mut waits = context.progress.retry().is_some();
        tokio::pin!(copy);
        loop {
            let newer = tokio::select! {
                biased;
                summary = &mut copy => return summary,
                Ok(newer) = settings.wait_for(|settings| settings.serial != serial) => Some(newer.clone()),
                () = moved(&context.progress, before), if waits => None,
            };
            let Some(newer) = newer else {
                // What was tried again works: nobody need wait for the end of the copy to hear it.
                context.recovered().await?;
                waits = false;
                continue;
            };
            serial = newer.serial;
            if context.works_with().changes_copy(&newer) {
                tracing::info!(task.id = %context.task, "the copy makes room for newer settings");
                drain.cancel();
            } else {
                // What else there is means nothing to a copy.
                context.store.spec_applied(&context.task, context.epoch, newer.spec_version).await?;
            }
        }
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

    async fn incremental(&self, catalog: Catalog, marker: Option<Marker>) -> Result<Ended> {
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
        // What retention has deleted since tells nothing.
        let anchor = topic.anchor(checkpoint.start_offset).await?;
        if let (Some(expected), Some(found)) = (&checkpoint.anchor, &anchor)
            && expected != found
        {
            return Err(other_log(&checkpoint, checkpoint.start_offset));
        }
        let seen = SeenSet::rebuilt(checkpoint.snapshot, limits, back.messages, back.complete);
        let source = topic.follow(checkpoint.position.next_offset).await?;
        let writer = Writer::new(
            context.target.clone(),
            context.dialect,
            context.store.clone(),
            context.task.clone(),
            context.epoch,
            Use::Task,
            context.spec.tuning.connections,
        )
        .through(context.gate.clone());
        let (looks, seen_looks) = watch::channel(lag::Look::default());
        let end_watch = context.cancel.child_token();
        let watching = tokio::spawn(lag::watch(
            context.source.clone(),
            checkpoint.position.commit_ts.max(checkpoint.snapshot),
            topic.clone(),
            looks,
            end_watch.clone(),
        ));
        let drifting = tokio::spawn(drift::watch(context.clone(), checkpoint.bytewise, end_watch.clone()));
        let mut stream =
            Stream::new(context.clone(), topic, source, catalog, seen, writer, &checkpoint, zone, seen_looks)
                .marked(marker);
        let result = Box::pin(stream.run()).await;
        end_watch.cancel();
        // It only reads, and may wait for a server that does not answer.
        watching.abort();
        drifting.abort();
        result.map(|()| Ended::Renew)
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
    Err(other_log(checkpoint, checkpoint.position.next_offset))
}

fn other_log(checkpoint: &Checkpoint, before: Offset) -> Error {
    Error::new(
        ErrorKind::PositionLost,
        format!("the log before offset {before} is not the one that was read"),
    )
    .endpoint(Endpoint::Kafka)
    .object(format!("topic {}", checkpoint.topic))
    .hint("the topic was made again, or another one is named: copy the tables again with a new task")
}

/// Time between two looks at the topic during full sync.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Ends with an error when the topic no longer holds what comes after the copy: to go on copying would be in vain. Tells how near
/// that is. An outage is none of its business.
async fn position_kept(topic: &Topic, from: Offset, progress: &Progress) -> Error {
    progress.set_next_offset(from.0);
    loop {
        match topic.log_range().await {
            Ok(range) if !range.holds(from) => return position_lost(topic.name(), from, Some(range)),
            Err(error) if error.kind == ErrorKind::Missing => return position_lost(topic.name(), from, None),
            Ok(range) => {
                progress.set_log_range(range.start.0, range.end.0);
                progress.set_retention_ms(topic.retention_ms().await.ok().flatten());
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends once more is done than `before`.
async fn moved(progress: &Progress, before: u64) {
    while progress.done() == before {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_has_a_time_of_its_own() {
        let errors =
            ErrorPolicies { connection_retry_ms: 100_000, other_retry_ms: 10_000, ..Default::default() };
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let goes_on = |clock: &mut Clock, which, seconds| clock.next(which, &errors, at(seconds)).is_some();
        let (connection, other, unlimited) =
            (RetryClock::Connection, RetryClock::Other, RetryClock::Unlimited);

        let mut clock = Clock::default();
        assert!(goes_on(&mut clock, other, 0));
        assert!(goes_on(&mut clock, other, 9));
        assert!(!goes_on(&mut clock, other, 10));

        // Neither an outage nor a lock before it counts.
        let mut clock = Clock::default();
        assert!(goes_on(&mut clock, unlimited, 0));
        assert!(goes_on(&mut clock, unlimited, 90_000));
        assert!(goes_on(&mut clock, connection, 100_000));
        assert!(goes_on(&mut clock, other, 100_090));
        assert!(goes_on(&mut clock, connection, 100_095));
        assert!(goes_on(&mut clock, connection, 100_104));
        assert!(!goes_on(&mut clock, connection, 100_105), "90 s and 10 s");
        assert_eq!(clock.attempt, 7);

        // Troubles that take turns come to an end too.
        let mut clock = Clock::default();
        let turns = (0..1000).map(|n| (if n % 2 == 0 { connection } else { other }, n));
        assert_eq!(turns.take_while(|(which, at)| goes_on(&mut clock, *which, *at)).count(), 21);

        let none = ErrorPolicies { connection_retry_ms: 0, ..errors };
        assert!(Clock::default().next(connection, &none, begun).is_none());
    }
}

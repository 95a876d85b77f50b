//! Writes to the target over several connections.
//!
//! One call of [`Writer::run`] takes a list of jobs, spreads them over the connections and returns when every one of them is
//! acknowledged or one has failed for good. Two batches that are on their way take turns on the same connections, statement by statement.
//! Statements are built job by job into one buffer per connection, so memory is bounded by connections x statement size. Every statement
//! must be idempotent: a deadlock or lock wait is answered by running it again.
//!
//! A statement whose connection was cut may still run on the server. Nothing is retried here after that: the run of the task
//! starts again from its checkpoint, after [`end_sessions`] has ended every session that an earlier run has opened.

use std::ops::DerefMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::Rng;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::adb::dialect::{RELAXED_MODE, STRICT_MODE};
use crate::adb::parameters::{Sending, Template};
use crate::adb::throttle::{Gate, Traffic};
use crate::adb::width::Width;
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Dialect, Epoch, MysqlEndpoint, TaskId};
use crate::mysql::{Done, Session};
use crate::store::Store;
pub use crate::store::Use;

/// How long a connection that the target has refused is done without.
const SHORT: Duration = Duration::from_secs(10);

/// A round trip from which on a target is far: as many connections as there may be are used, and large batches.
const FAR: Duration = Duration::from_millis(5);

/// Times a statement is run again after a deadlock or lock wait before the task's own retry takes over.
const CONTENTION_TRIES: u32 = 8;

/// A piece of work for one connection.
pub trait Job: Send + Sync {
    /// Appends the statement to the empty buffer.
    fn build(&self, sql: &mut Vec<u8>) -> Result<()>;
    /// For a statement of many rows that may be sent by parameters.
    fn template(&self) -> Option<&Template>;
    /// True when the statement holds a value that strict mode refuses although the source holds it (ENUM index 0).
    fn relaxed(&self) -> bool;
    /// The table, for errors.
    fn object(&self) -> String;
    /// Rows that it writes or deletes.
    fn rows(&self) -> u64;
}

/// Writes for one run of a task. What it writes goes over [`Lanes`], which several writers of a run share.
#[derive(Debug)]
pub struct Writer {
    target: MysqlEndpoint,
    dialect: Dialect,
    store: Store,
    task: TaskId,
    epoch: Epoch,
    sessions: Use,
    gate: Gate,
    lanes: Arc<Lanes>,
    width: Width,
    /// It leaves one connection to the writer before it.
    behind: bool,
}

/// Connections to the target: each is opened when it is first needed, and works on one statement after the other, whoever's it is.
#[derive(Debug)]
struct Lanes {
    /// Those that there may be.
    connections: usize,
    /// Places for a statement, given in the order in which they are asked for. One is kept back for each connection that the target has
    /// refused.
    places: Semaphore,
    /// Held while the first is opened.
    opening: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Open and at rest; the last one was used last.
    idle: Vec<Lane>,
    /// Open, at rest or in use.
    open: usize,
    /// The shortest that one of them has met: what is opened beside much work seems further away.
    round_trip: Option<Duration>,
    /// Places kept back, and when the target may be asked for one of them.
    short: Option<(usize, Instant)>,
    /// One of those may be asked for.
    may_ask: bool,
    /// It has been said that the target gives no more.
    said: bool,
}

/// An open connection.
#[derive(Debug)]
pub struct Lane {
    pub session: Session,
    sql: Vec<u8>,
}

impl Lanes {
    fn new(connections: u32) -> Arc<Self> {
        let connections = connections.max(1) as usize;
        Arc::new(Self {
            connections,
            places: Semaphore::new(connections),
            opening: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes leave to ask the target for a connection: it has not just refused one, or no other is open.
    fn may_ask(&self) -> bool {
        let mut state = self.state();
        state.short.is_none() || state.open == 0 || std::mem::take(&mut state.may_ask)
    }

    /// Keeps a place back for a while.
    fn do_without(&self, place: SemaphorePermit<'_>) {
        place.forget();
        self.state().short.get_or_insert_with(|| (0, Instant::now() + SHORT)).0 += 1;
    }

    /// The target may have room again: one connection is asked for, and the others once it is open.
    fn try_again(&self) {
        let mut state = self.state();
        if let Some((kept, until)) = &mut state.short
            && *kept > 0
            && *until <= Instant::now()
        {
            *kept -= 1;
            *until = Instant::now() + SHORT;
            state.may_ask = true;
            self.places.add_permits(1);
        }
    }

    /// Connections that the target is known or hoped to give.
    fn given(&self) -> usize {
        self.connections - self.state().short.map_or(0, |(kept, _)| kept)
    }

    fn give_back(&self, lane: Lane) {
        let mut state = self.state();
        if lane.session.is_broken() {
            state.lost(1);
        } else {
            state.idle.push(lane);
        }
    }
}

impl State {
    fn lost(&mut self, lanes: usize) {
        self.open -= lanes;
        if self.open == 0 {
            self.round_trip = None;
        }
    }
}

impl Writer {
    /// A writer with this many connections.
    pub fn new(
        target: MysqlEndpoint,
        dialect: Dialect,
        store: Store,
        task: TaskId,
        epoch: Epoch,
        sessions: Use,
        connections: u32,
    ) -> Self {
        let lanes = Lanes::new(connections);
        let width = Self::width(&lanes);
        Self {
            target,
            dialect,
            store,
            task,
            epoch,
            sessions,
            gate: Gate::default(),
            lanes,
            width,
            behind: false,
        }
    }

    /// Half of the connections: two batches are on their way where there is much to write.
    fn width(lanes: &Lanes) -> Width {
        Width::new(lanes.connections.div_ceil(2))
    }

    /// The same, and every statement of [`Writer::run`] passes this gate first.
    pub fn through(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Another one over the same connections, for what is written side by side.
    pub fn another(&self) -> Self {
        Self {
            target: self.target.clone(),
            dialect: self.dialect,
            store: self.store.clone(),
            task: self.task.clone(),
            epoch: self.epoch,
            sessions: self.sessions,
            gate: self.gate.clone(),
            lanes: Arc::clone(&self.lanes),
            width: Self::width(&self.lanes),
            behind: false,
        }
    }

    /// Whether one connection is left to the writer that began before: what stops this one, a lock say, must not stop that one.
    pub fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// The same with this many connections from now on; nothing is on its way.
    pub async fn with_connections(mut self, connections: u32) -> Self {
        let lanes = Lanes::new(connections);
        {
            let (mut before, mut now) = (self.lanes.state(), lanes.state());
            let kept = before.idle.len().saturating_sub(lanes.connections);
            now.idle = before.idle.split_off(kept);
            now.open = now.idle.len();
            now.round_trip = before.round_trip;
            before.lost(now.open);
        }
        self.rest().await;
        self.width = Self::width(&lanes);
        self.lanes = lanes;
        self
    }

    /// The target is far away, as far as it has been met.
    pub fn is_far(&self) -> bool {
        self.lanes.state().round_trip.is_some_and(|time| time >= FAR)
    }

    /// Connections that it may have.
    pub fn connections(&self) -> usize {
        self.lanes.connections
    }

    /// Whether there is a connection for a second batch: one is left to the first.
    pub fn takes_two(&self) -> bool {
        self.lanes.given() > 1
    }

    /// Connections that the statements of the next batch are made for.
    pub fn at_once(&self) -> usize {
        self.width.connections()
    }

    /// A batch of so many rows took so long.
    pub fn took(&mut self, rows: u64, time: Duration) {
        // Over a distance connections wait for the way there and back, not for each other.
        if !self.is_far() {
            self.width.took(rows, time);
        }
        // Those that rest keep no buffer.
        let most = self.most();
        for lane in self.lanes.state().idle.iter_mut().rev().skip(most) {
            lane.sql = Vec::new();
        }
    }

    /// Connections for a batch. Over a distance all of them: what another batch does not use.
    fn most(&self) -> usize {
        let most = if self.is_far() { self.lanes.connections } else { self.width.connections() };
        if self.behind { most.min(self.lanes.given().saturating_sub(1)).max(1) } else { most }
    }

    /// Runs all jobs in any order; returns after the last acknowledgement or with the first error, when no statement is
    /// in flight any more. Jobs that hold a value which the target refuses are given back with its word, and the others go on.
    pub async fn run<J: Job>(&self, jobs: Vec<J>) -> Result<Vec<(J, Error)>> {
        self.lanes.try_again();
        let at_once = self.most().min(jobs.len());
        let queue = Mutex::new(Queue { jobs: jobs.into_iter(), refused: Vec::new(), failed: None });
        let over = CancellationToken::new();
        join_all((0..at_once).map(|_| self.work(&queue, &over))).await;
        let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        match queue.failed {
            None => Ok(queue.refused),
            Some(error) => Err(error),
        }
    }

    /// `over` is when one has failed.
    async fn work<J: Job>(&self, queue: &Mutex<Queue<J>>, over: &CancellationToken) {
        let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(job) = queue().jobs.next() else { return };
            let lane = tokio::select! {
                biased;
                () = over.cancelled() => return,
                lane = self.lane() => lane,
            };
            let mut lane = match lane {
                Ok(lane) => lane,
                Err(error) => {
                    queue().failed.get_or_insert(error);
                    over.cancel();
                    return;
                }
            };
            if let Err(error) = lane.statement(&job, &self.gate).await {
                let error = error.object(job.object());
                let broken = lane.session.is_broken();
                let mut queue = queue();
                if error.kind == ErrorKind::ValueRefused && !broken {
                    queue.refused.push((job, error));
                    continue;
                }
                // A statement whose connection is gone may still be under way: the others' errors hide none such.
                if broken {
                    queue.failed = Some(error);
                } else {
                    queue.failed.get_or_insert(error);
                }
                over.cancel();
                return;
            }
        }
    }

    /// Runs one statement, for DDL.
    pub async fn execute(&self, sql: &str) -> Result<Done> {
        self.lane().await?.session.execute(sql).await
    }

    /// A connection, for statements that belong together; it is given back when it is dropped. Fewer do when the target has no more for this
    /// user and one is open: a limit that is reached, or a password that is just being changed, stops nobody who works.
    pub async fn lane(&self) -> Result<impl DerefMut<Target = Lane>> {
        let lanes = &*self.lanes;
        loop {
            let place = lanes.places.acquire().await.map_err(Error::internal)?;
            match self.idle_or_new().await? {
                None => lanes.do_without(place),
                Some(lane) => {
                    return Ok(scopeguard::guard(lane, move |lane| {
                        lanes.give_back(lane);
                        drop(place);
                    }));
                }
            }
        }
    }

    /// None where the target gives no more and others are open.
    async fn idle_or_new(&self) -> Result<Option<Lane>> {
        let lanes = &*self.lanes;
        let idle = || lanes.state().idle.pop();
        if let Some(lane) = idle() {
            return Ok(Some(lane));
        }
        let first = lanes.opening.lock().await;
        if let Some(lane) = idle() {
            return Ok(Some(lane));
        }
        // Once one is open, the others open side by side: over a distance a login takes a while.
        let _first = (lanes.state().open == 0).then_some(first);
        if !lanes.may_ask() {
            return Ok(None);
        }
        match super::connect(&self.target, self.dialect).await {
            Ok(session) => self.opened(session).await.map(Some),
            Err(error) if lanes.state().open > 0 => {
                if !std::mem::replace(&mut lanes.state().said, true) {
                    tracing::warn!(task.id = %self.task, %error, "works with fewer connections: the target gives no more");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn opened(&self, mut session: Session) -> Result<Lane> {
        crash::point("session.opened");
        // Known to the store before its first write: after a crash the next run can end it.
        self.store.session_opened(&self.task, self.epoch, session.id(), self.sessions).await?;
        crash::point("session.known");
        let mut state = self.lanes.state();
        state.open += 1;
        if let Some((kept, _)) = state.short.take() {
            self.lanes.places.add_permits(kept);
        }
        if state.open == self.lanes.connections {
            state.said = false;
        }
        let round_trip = state.round_trip.map_or(session.round_trip(), |time| time.min(session.round_trip()));
        state.round_trip = Some(round_trip);
        session.set_round_trip(round_trip);
        Ok(Lane { session, sql: Vec::new() })
    }

    /// Closes its connections, as far as none uses them, until they are needed again.
    pub async fn rest(&self) {
        let idle = {
            let mut state = self.lanes.state();
            let idle = std::mem::take(&mut state.idle);
            state.lost(idle.len());
            idle
        };
        let gone: Vec<u64> = idle.iter().map(|lane| lane.session.id()).collect();
        join_all(idle.into_iter().map(|lane| lane.session.close())).await;
        if !gone.is_empty()
            && let Err(error) = self.store.sessions_gone(&self.task, self.epoch, &gone).await
        {
            tracing::debug!(task.id = %self.task, %error, "closed sessions stay on record until the next run");
        }
    }
}

struct Queue<J> {
    jobs: std::vec::IntoIter<J>,
    refused: Vec<(J, Error)>,
    failed: Option<Error>,
}

impl Lane {
    async fn statement<J: Job>(&mut self, job: &J, gate: &Gate) -> Result<()> {
        self.sql.clear();
        job.build(&mut self.sql)?;
        let _permit = gate.pass(Traffic::Incremental, job.rows(), self.sql.len() as u64).await?;
        for attempt in 1.. {
            let result = match job.relaxed() {
                true => relaxed(&mut self.session, &self.sql).await,
                false => send(&mut self.session, Sending::new(&self.sql, job.template(), job.rows())).await,
            };
            match result {
                Err(error) if error.kind == ErrorKind::Contention && attempt < CONTENTION_TRIES => {
                    let pause = rand::rng().random_range(5..=20 * u64::from(attempt));
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                other => {
                    if self.sql.capacity() > 32 << 20 {
                        self.sql = Vec::new();
                    }
                    return other;
                }
            }
        }
        Ok(())
    }
}

async fn send(session: &mut Session, mut statement: Sending<'_>) -> Result<()> {
    while statement.next(session).await?.is_some() {}
    Ok(())
}

/// Runs one statement; a relaxed one outside strict mode, where only the '' of an ENUM may cause a warning.
pub async fn run(session: &mut Session, sql: &[u8], in_relaxed_mode: bool) -> Result<()> {
    if in_relaxed_mode { relaxed(session, sql).await } else { session.execute(sql).await.map(|_| ()) }
}

/// Warning of MariaDB and MySQL for a value outside an ENUM, which is what ENUM index 0 is.
const DATA_TRUNCATED: u16 = 1265;

async fn relaxed(session: &mut Session, sql: &[u8]) -> Result<()> {
    session.execute(RELAXED_MODE).await?;
    let result = session.execute(sql).await;
    let warnings = if result.is_ok() { session.query("show warnings").await } else { Ok(Vec::new()) };
    if let Err(error) = session.execute(STRICT_MODE).await {
        // That the connection is gone is worse than what became of the statement.
        session.give_up();
        return Err(error);
    }
    let (done, warnings): (_, Vec<(String, u16, String)>) = (result?, warnings?);
    // Warnings beyond those that the server keeps (64) are none of ours to pass.
    let unseen = usize::from(done.warnings) > warnings.len();
    match warnings.iter().find(|(_, code, _)| unseen || *code != DATA_TRUNCATED) {
        None => Ok(()),
        Some((_, code, _)) => {
            Err(Error::new(ErrorKind::ValueRefused, "the target changed a value to make it fit")
                .code(*code)
                .endpoint(Endpoint::Target)
                .hint("compare the column's type with the source's"))
        }
    }
}

/// How long a killed session may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the sessions of earlier runs of this task (those of one use, or all) and waits until the server no longer runs them:
/// only then can no statement of the past finish after a newer write.
pub async fn end_sessions(
    target: &MysqlEndpoint,
    dialect: Dialect,
    store: &Store,
    task: &TaskId,
    epoch: Epoch,
    of: Option<Use>,
) -> Result<()> {
    let ids = store.sessions(task, of).await?;
    if ids.is_empty() {
        return Ok(());
    }
    let mut session = super::connect(target, dialect).await?;
    let list = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let running = format!(
        "select id from information_schema.processlist where id in ({list}) and id <> connection_id() \
         and user = substring_index(user(), '@', 1)"
    );
    let deadline = tokio::time::Instant::now() + KILL_TIMEOUT;
    loop {
        let alive: Vec<u64> = session.query(&running).await?;
        if alive.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::Contention,
                format!("{} sessions of an earlier run still work on the target after KILL", alive.len()),
            )
            .endpoint(Endpoint::Target)
            .hint("wait for the target to roll them back, or end them by hand"));
        }
        for id in alive {
            // It may have ended by itself in between.
            if let Err(error) = session.execute(format!("kill {id}")).await
                && error.code != Some(NO_SUCH_THREAD)
            {
                return Err(error);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    session.close().await;
    store.sessions_gone(task, epoch, &ids).await
}

const NO_SUCH_THREAD: u16 = 1094;

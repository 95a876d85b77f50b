//! Writes to the target over several connections.
//!
//! One call of [`Writer::run`] takes a list of jobs, spreads them over the connections and returns when every one of them is
//! acknowledged or one has failed for good. Statements are built job by job into one buffer per connection, so memory is bounded
//! by connections x statement size. Every statement must be idempotent: a deadlock or lock wait is answered by running it again.
//!
//! A statement whose connection was cut may still run on the server. Nothing is retried here after that: the run of the task
//! starts again from its checkpoint, after [`end_sessions`] has ended every session that an earlier run has opened.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::Rng;

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

/// How long a writer does without a connection that the target has refused it.
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

/// Connections to the target of one run of a task.
#[derive(Debug)]
pub struct Writer {
    target: MysqlEndpoint,
    dialect: Dialect,
    store: Store,
    task: TaskId,
    epoch: Epoch,
    sessions: Use,
    gate: Gate,
    lanes: Vec<Lane>,
    width: Width,
    /// The target has refused a further connection, and is not asked again until then.
    short_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lane {
    session: Option<Session>,
    sql: Vec<u8>,
}

impl Writer {
    /// A writer with this many connections; each is opened when it is first needed.
    pub fn new(
        target: MysqlEndpoint,
        dialect: Dialect,
        store: Store,
        task: TaskId,
        epoch: Epoch,
        sessions: Use,
        connections: u32,
    ) -> Self {
        let lanes: Vec<_> = (0..connections.max(1)).map(|_| Lane::default()).collect();
        let width = Width::new(lanes.len());
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
            short_until: None,
        }
    }

    /// The same, and every statement of [`Writer::run`] passes this gate first.
    pub fn through(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Gives half of the connections to a second one; None when there is only one.
    pub fn halve(&mut self) -> Option<Self> {
        let lanes = self.lanes.split_off(self.lanes.len().div_ceil(2));
        if lanes.is_empty() {
            return None;
        }
        self.width = Width::new(self.lanes.len());
        Some(Self {
            target: self.target.clone(),
            dialect: self.dialect,
            store: self.store.clone(),
            task: self.task.clone(),
            epoch: self.epoch,
            sessions: self.sessions,
            gate: self.gate.clone(),
            width: Width::new(lanes.len()),
            lanes,
            short_until: None,
        })
    }

    /// Works with this many connections from now on.
    pub async fn set_connections(&mut self, connections: u32) {
        let wanted = connections.max(1) as usize;
        let surplus = self.lanes.split_off(wanted.min(self.lanes.len()));
        self.lanes.resize_with(wanted, Lane::default);
        self.width = Width::new(wanted);
        self.say_goodbye(surplus).await;
    }

    /// The target is far away, as far as it has been met.
    pub fn is_far(&self) -> bool {
        let mut sessions = self.lanes.iter().filter_map(|lane| lane.session.as_ref());
        sessions.next().is_some_and(|session| session.round_trip() >= FAR)
    }

    pub fn is_open(&self) -> bool {
        self.lanes.iter().any(Lane::is_open)
    }

    /// The target has just refused it a connection.
    pub fn is_short(&self) -> bool {
        self.short_until.is_some_and(|until| Instant::now() < until)
    }

    /// Opens its first connection, when it has none yet. False when the target gives it none.
    pub async fn may_open(&mut self) -> bool {
        if self.is_open() {
            return true;
        }
        let opened = self.open(1).await;
        if let Err(error) = &opened {
            self.does_without(error);
        }
        opened.is_ok()
    }

    /// The target has refused a connection that can be done without for a while.
    fn does_without(&mut self, error: &Error) {
        if self.short_until.replace(Instant::now() + SHORT).is_none() {
            tracing::warn!(task.id = %self.task, %error, "works with fewer connections: the target gives no more");
        }
    }

    /// Connections that it may have.
    pub fn connections(&self) -> usize {
        self.lanes.len()
    }

    /// Connections that work on the next batch.
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
        for lane in self.lanes.iter_mut().skip(self.width.connections()) {
            lane.sql = Vec::new();
        }
    }

    /// Runs all jobs in any order; returns after the last acknowledgement or with the first error, when no statement is
    /// in flight any more. Jobs that hold a value which the target refuses are given back with its word, and the others go on.
    pub async fn run<J: Job>(&mut self, jobs: Vec<J>) -> Result<Vec<(J, Error)>> {
        let needed = self.width.connections().min(jobs.len());
        self.open(needed).await?;
        let queue = Mutex::new(Queue { jobs: jobs.into_iter(), refused: Vec::new(), failed: None });
        let gate = &self.gate;
        let lanes = self.lanes.iter_mut().take(needed).filter(|lane| lane.is_open());
        join_all(lanes.map(|lane| lane.work(&queue, gate))).await;
        let queue = queue.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match queue.failed {
            None => Ok(queue.refused),
            Some(error) => Err(error),
        }
    }

    /// Runs one statement on the first connection, for DDL.
    pub async fn execute(&mut self, sql: &str) -> Result<Done> {
        self.session().await?.execute(sql).await
    }

    /// The first connection, for statements that belong together.
    pub async fn session(&mut self) -> Result<&mut Session> {
        self.open(1).await?;
        self.lanes
            .first_mut()
            .and_then(|lane| lane.session.as_mut())
            .ok_or_else(|| Error::internal("a writer without connections"))
    }

    /// Opens the first connections, or fewer when the target has no more for this user and one is open: a limit that is reached,
    /// or a password that is just being changed, stops nobody who works.
    async fn open(&mut self, count: usize) -> Result<()> {
        for at in 0..count.min(self.lanes.len()) {
            let (others, short) = (self.is_open(), self.is_short());
            let Some(lane) = self.lanes.get_mut(at) else { break };
            if !lane.is_open() {
                let may_wait = others && at > 0;
                if may_wait && short {
                    return Ok(());
                }
                let session = match super::connect(&self.target, self.dialect).await {
                    Ok(session) => session,
                    Err(error) if may_wait => {
                        self.does_without(&error);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                };
                crash::point("session.opened");
                // Known to the store before its first write: after a crash the next run can end it.
                self.store.session_opened(&self.task, self.epoch, session.id(), self.sessions).await?;
                crash::point("session.known");
                lane.session = Some(session);
                self.short_until = None;
            }
        }
        Ok(())
    }

    /// Lets its connections and their buffers go until they are needed again.
    pub async fn rest(&mut self) {
        let idle: Vec<_> = self.lanes.iter_mut().map(std::mem::take).collect();
        self.say_goodbye(idle).await;
    }

    /// Says goodbye on every connection.
    pub async fn close(mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        self.say_goodbye(lanes).await;
    }

    async fn say_goodbye(&self, lanes: Vec<Lane>) {
        let open: Vec<_> = lanes
            .into_iter()
            .filter_map(|lane| lane.session)
            .filter(|session| !session.is_broken())
            .collect();
        let gone: Vec<u64> = open.iter().map(Session::id).collect();
        join_all(open.into_iter().map(Session::close)).await;
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
    fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_broken())
    }

    async fn work<J: Job>(&mut self, queue: &Mutex<Queue<J>>, gate: &Gate) {
        loop {
            let job = {
                let mut queue = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if queue.failed.is_some() {
                    return;
                }
                match queue.jobs.next() {
                    Some(job) => job,
                    None => return,
                }
            };
            if let Err(error) = self.statement(&job, gate).await {
                let error = error.object(job.object());
                let broken = self.session.as_ref().is_none_or(Session::is_broken);
                let mut queue = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
                return;
            }
        }
    }

    async fn statement<J: Job>(&mut self, job: &J, gate: &Gate) -> Result<()> {
        self.sql.clear();
        job.build(&mut self.sql)?;
        let _permit = gate.pass(Traffic::Incremental, job.rows(), self.sql.len() as u64).await?;
        let session = self
            .session
            .as_mut()
            .ok_or_else(|| Error::internal("a connection of the writer was not opened"))?;
        for attempt in 1.. {
            let result = match job.relaxed() {
                true => relaxed(session, &self.sql).await,
                false => send(session, Sending::new(&self.sql, job.template(), job.rows())).await,
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
    let warnings: Vec<(String, u16, String)> =
        if result.is_ok() { session.query("show warnings").await? } else { Vec::new() };
    session.execute(STRICT_MODE).await?;
    let done = result?;
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

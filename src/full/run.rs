//! The run of a full sync: what all its readers, writers and tables share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::adb;
use crate::crash;
use crate::error::{Error, ErrorKind, Result};
use crate::full::FullSync;
use crate::full::attempt::Ticket;
use crate::full::memory::Memory;
use crate::full::retry::RetryRules;
use crate::full::table::TableJob;
use crate::model::TableName;
use crate::mysql::Session;
use crate::task::spec::RowErrorPolicy;
use crate::tidb::{Estimate, Source};

pub struct Run {
    pub job: FullSync,
    pub source: Source,
    pub retry: RetryRules,
    pub memory: Memory,
    /// Cancelled by the job's own token, and by the first error.
    pub stop: CancellationToken,
    /// One COUNT(*) at a time.
    pub counting: tokio::sync::Mutex<()>,
    estimates: HashMap<TableName, Estimate>,
    failure: Mutex<Option<Error>>,
}

impl Run {
    pub fn new(job: FullSync, memory: Memory, estimates: HashMap<TableName, Estimate>) -> Self {
        let retry = RetryRules { errors: job.spec.errors, progress: Arc::clone(&job.progress) };
        Self {
            stop: job.cancel.child_token(),
            retry,
            memory,
            counting: tokio::sync::Mutex::default(),
            estimates,
            source: Source::new(job.source.clone()),
            failure: Mutex::default(),
            job,
        }
    }

    /// Ends the run; the first error is kept.
    pub fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.cancel();
    }

    pub fn outcome(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None if self.job.cancel.is_cancelled() => Err(Error::cancelled()),
            None => Ok(()),
        }
    }

    /// The estimated rows of a table, None when the statistics say nothing.
    pub fn estimated(&self, name: &TableName) -> Option<u64> {
        self.estimates.get(name).map(|estimate| estimate.rows).filter(|rows| *rows > 0)
    }

    /// The kept session at the snapshot, or a new one when there is none that works.
    pub async fn reading<'a>(&self, kept: &'a mut Option<Session>) -> Result<&'a mut Session> {
        if kept.as_ref().is_some_and(Session::is_broken) {
            *kept = None;
        }
        match kept {
            Some(session) => Ok(session),
            None => Ok(kept.insert(self.source.snapshot_session(self.job.snapshot).await?)),
        }
    }

    /// How many rows of a chunk may be set aside: 0 where a refused row stops the copy.
    pub fn most_letters(&self, table: &TableJob) -> usize {
        let errors = self.job.spec.errors;
        // Without a key a row cannot be told, and the copy of a resync is all or nothing.
        let sets_aside = errors.row == RowErrorPolicy::DeadLetter
            && !table.is_unit()
            && self.job.sessions == crate::store::Use::Task;
        if sets_aside { errors.dead_letter_limit as usize } else { 0 }
    }

    /// A session that may write: the store knows its id before it does, so that a later run can end it.
    pub async fn target_session(&self) -> Result<Session> {
        let job = &self.job;
        let session = adb::connect(&job.target, job.dialect).await?;
        job.store.session_opened(&job.task, job.epoch, session.id(), job.sessions).await?;
        Ok(session)
    }
}

/// A statement was acknowledged, or a chunk was read to its end: the last of them saves the chunk as finished.
pub async fn finish_statement(run: &Run, ticket: &Ticket) {
    let Some(counts) = ticket.closed() else { return };
    if ticket.table.is_unit() {
        // Its chunks are not kept. Only MySQL targets have such tables, and they lose nothing of a snapshot.
        return;
    }
    let name = &ticket.table.table.name;
    let (store, lossy) = (&run.job.store, ticket.lossy());
    let letters = ticket.take_letters();
    let limit = i64::from(run.job.spec.errors.dead_letter_limit);
    crash::point("copy.chunk.before");
    let finished = store.finish_copy_chunk(
        &run.job.task,
        run.job.epoch,
        name,
        ticket.n,
        counts,
        (lossy, &letters, limit),
    );
    if let Err(error) = finished.await {
        ticket.attempt.fail(error);
    }
    crash::point("copy.chunk.saved");
}

/// The receiving end of a channel, shared by several workers.
pub struct Queue<T>(Arc<tokio::sync::Mutex<mpsc::Receiver<T>>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send> Queue<T> {
    pub fn new(receiver: mpsc::Receiver<T>) -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(receiver)))
    }

    /// The next item; None when all senders are gone or `stop` is cancelled.
    pub async fn next(&self, stop: &CancellationToken) -> Option<T> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            item = async { self.0.lock().await.recv().await } => item,
        }
    }
}

/// A task that panicked is a fault of ours.
pub fn panicked(error: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, format!("a part of full sync ended unexpectedly: {error}"))
}

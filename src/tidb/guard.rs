//! The hand-over from full to incremental sync (design.md 4, 10.1, 10.12): the topic's end first, then two open transactions
//! that hold back garbage collection, then the snapshot timestamp.
//!
//! What must stay true: every transaction with commit_ts above the snapshot is at or after the start offset, and both guards
//! are older than the snapshot. A lost guard cannot be replaced, since a new one would be younger.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::{Offset, TaskId, Tso};
use crate::mysql::Session;
use crate::tidb::{Source, begin, transaction_tso};

/// Time between two signs of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// An answer to a guard's question takes no longer, or the guard counts as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Guard {
    session: Session,
    started: Tso,
    /// TiDB's ids have 64 bits; the handshake carries only half of one.
    id: u64,
}

impl Guard {
    async fn open(source: &Source) -> Result<Self> {
        let mut session = source.session().await?;
        let started = begin(&mut session).await?;
        let id = session.first("SELECT CONNECTION_ID()").await?.unwrap_or(0);
        Ok(Self { session, started, id })
    }

    /// Ok while the transaction is still the one that was opened.
    async fn check(&mut self) -> Result<()> {
        match tokio::time::timeout(PING_TIMEOUT, transaction_tso(&mut self.session)).await {
            Ok(Ok(tso)) if tso == self.started => Ok(()),
            Ok(Ok(_)) => Err(lost("the source ended its transaction")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(lost("no answer")),
        }
    }
}

fn lost(why: &str) -> Error {
    Error::new(crate::error::ErrorKind::Unreachable, why).endpoint(crate::error::Endpoint::Source)
}

/// Open transactions older than a snapshot. While one of them lives, and for at most `tidb_gc_max_wait_time` (24 h by
/// default), the source keeps what the snapshot needs. Kept through a pause; they end when this is dropped.
#[derive(Debug)]
pub struct Guards {
    open: Vec<Guard>,
}

impl Guards {
    async fn open(source: &Source) -> Result<Self> {
        let (first, second) = tokio::try_join!(Guard::open(source), Guard::open(source))?;
        Ok(Self { open: vec![first, second] })
    }

    pub fn alive(&self) -> usize {
        self.open.len()
    }

    /// Server connection ids, to be seen in the source's process list.
    pub fn connection_ids(&self) -> Vec<u64> {
        self.open.iter().map(|guard| guard.id).collect()
    }

    /// Asks every guard for a sign of life, forgets the lost ones and gives what they died of.
    pub async fn ping(&mut self) -> Vec<Error> {
        let answers = futures_util::future::join_all(self.open.iter_mut().map(Guard::check)).await;
        let mut losses = Vec::new();
        let mut answers = answers.into_iter();
        self.open.retain(|guard| match answers.next() {
            Some(Err(error)) => {
                losses.push(error.object(format!("snapshot guard on connection {}", guard.id)));
                false
            }
            _ => true,
        });
        losses
    }

    /// Pings until `cancel`, reporting each loss with the number of guards left, then ends the guards. Leaves early when none
    /// is left.
    pub async fn keep(
        mut self,
        every: Duration,
        cancel: CancellationToken,
        mut report: impl FnMut(usize, Error) + Send,
    ) {
        while !self.open.is_empty() {
            tokio::select! {
                () = cancel.cancelled() => return self.release().await,
                () = tokio::time::sleep(every) => {}
            }
            for error in self.ping().await {
                report(self.open.len(), error);
            }
        }
    }

    /// Ends the guards: garbage collection may pass the snapshot.
    pub async fn release(self) {
        for guard in self.open {
            guard.session.close().await;
        }
    }
}

/// Guards that are pinged in the background until released.
#[derive(Debug, Default)]
pub struct KeptGuards(Option<(CancellationToken, JoinHandle<()>)>);

impl KeptGuards {
    pub async fn keep(&mut self, task: TaskId, guards: Guards) {
        self.release().await;
        let end = CancellationToken::new();
        let kept = tokio::spawn(guards.keep(PING_EVERY, end.clone(), move |left, error| {
            tracing::warn!(task.id = %task, %error, left, "a guard of the snapshot is lost");
        }));
        self.0 = Some((end, kept));
    }

    pub async fn release(&mut self) {
        if let Some((end, kept)) = self.0.take() {
            end.cancel();
            // The server ends an open transaction with its connection either way.
            let _ = kept.await;
        }
    }
}

impl Drop for KeptGuards {
    fn drop(&mut self) {
        if let Some((end, _)) = &self.0 {
            end.cancel();
        }
    }
}

/// Where full sync reads and where incremental sync starts. Save both before the first row is written.
#[derive(Debug)]
pub struct HandOver {
    /// T: rows are read as of it; incremental sync applies only what committed after it.
    pub snapshot: Tso,
    /// E0: the end of the topic before T was taken.
    pub start_offset: Offset,
    pub guards: Guards,
}

/// Takes E0 by `read_end_offset`, then the guards, then T: in this order and no other.
pub async fn hand_over<F, R>(source: &Source, read_end_offset: F) -> Result<HandOver>
where
    F: FnOnce() -> R + Send,
    R: Future<Output = Result<Offset>> + Send,
{
    let start_offset = read_end_offset().await?;
    let guards = Guards::open(source).await?;
    let snapshot = source.current_tso().await?;
    Ok(HandOver { snapshot, start_offset, guards })
}

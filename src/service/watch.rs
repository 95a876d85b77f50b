//! Looking closely at one task: its watermark, why it lags, messages of its topic.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, Refusal, Service};
use crate::binlog::{RawMessage, Topic};
use crate::error::{Error, ErrorKind};
use crate::model::{Offset, Tso};
use crate::observe::diagnosis::{Diagnosis, Input, diagnose};
use crate::observe::measure::{lag_ms, watermark};
use crate::store::now_ms;
use crate::store::tasks::TaskRow;
use crate::task::status::Status;
use crate::tidb::Source;

/// The source may take so long to tell the time.
const TSO_PATIENCE: Duration = Duration::from_secs(15);
/// A message may take so long to come.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at a watermark.
const POLL: Duration = Duration::from_millis(50);

/// Messages can have 1 GiB: two are looked at at a time, whoever asks.
static LOOKING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// Up to where the target is to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLeast {
    /// The source's time when it is asked.
    Now,
    Tso(Tso),
}

/// A watermark, and what it was waited for.
#[derive(Debug)]
pub struct Reached {
    pub row: TaskRow,
    /// Milliseconds and TSO.
    pub watermark: Option<(i64, u64)>,
    pub at_least: Option<Tso>,
    pub reached: Option<bool>,
    pub lag_ms: Option<i64>,
    /// Tables that do not follow: they are not complete.
    pub tables_aside: usize,
}

impl Service {
    /// Waits until the target is complete up to `at_least`, at most `wait`.
    ///
    /// # Errors
    /// `TaskFailed` when the task fails while it is waited for.
    pub async fn await_watermark(
        &self,
        id_or_name: &str,
        at_least: Option<AtLeast>,
        wait: Duration,
    ) -> Answer<Reached> {
        let mut row = self.task(id_or_name).await?;
        let deadline = Instant::now() + wait;
        let at_least = match at_least {
            None => None,
            Some(AtLeast::Tso(tso)) => Some(tso),
            Some(AtLeast::Now) => Some(self.source_time(&row).await?),
        };
        let mut read = Instant::now();
        loop {
            let seen = self.registry.seen(&row.id);
            let progress = seen.as_ref().map(|seen| &*seen.progress);
            let checkpoints = self.store.checkpoint_views(&[&row.id]).await?;
            let checkpoint = checkpoints.get(&row.id);
            let watermark = watermark(progress, checkpoint);
            let lag_ms = lag_ms(&row, progress, checkpoint);
            let reached = at_least.map(|wanted| watermark.is_some_and(|(_, reached)| reached >= wanted.0));
            let moves =
                matches!(row.status, Status::Running | Status::Pausing | Status::Paused | Status::Created);
            let over = Instant::now() >= deadline || self.shutdown.is_cancelled();
            if reached != Some(false) || over || (!moves && row.status != Status::Failed) {
                let aside = self.store.table_states(&[&row.id]).await?;
                let tables_aside = aside.get(&row.id).map_or(0, Vec::len);
                return Ok(Reached { row, watermark, at_least, reached, lag_ms, tables_aside });
            }
            if row.status == Status::Failed {
                return Err(Refusal::TaskFailed(Box::new(row)));
            }
            tokio::select! {
                () = tokio::time::sleep(POLL.min(deadline - Instant::now())) => {}
                () = self.shutdown.cancelled() => {}
            }
            if read.elapsed() > Duration::from_millis(500) {
                row = self.task(&row.id.0).await?;
                read = Instant::now();
            }
        }
    }

    /// A timestamp that the source gives now; without a TiDB the time of day.
    async fn source_time(&self, row: &TaskRow) -> Answer<Tso> {
        let Some(source) = self.endpoints(row).await?.source else {
            return Ok(Tso::from_physical_ms(now_ms()));
        };
        match tokio::time::timeout(TSO_PATIENCE, Source::new(source).current_tso()).await {
            Ok(tso) => Ok(tso?),
            Err(_) => Err(Refusal::EndpointTimeout(format!(
                "the source did not tell its time within {} s",
                TSO_PATIENCE.as_secs()
            ))),
        }
    }

    /// Why the task lags.
    pub async fn diagnosis(&self, row: &TaskRow) -> Answer<Diagnosis> {
        let seen = self.registry.seen(&row.id);
        let checkpoints = self.store.checkpoint_views(&[&row.id]).await?;
        let progress = seen.as_ref().map(|seen| &*seen.progress);
        let lag_ms = lag_ms(row, progress, checkpoints.get(&row.id));
        let ddl = self.store.ddl_after(&row.id, i64::MIN, Some("pending"), 1).await?;
        Ok(diagnose(Input {
            row,
            seen: seen.as_ref(),
            lag_ms,
            ddl: ddl.first().map(|ddl| ddl.source_text.as_str()),
            now_ms: now_ms(),
        }))
    }

    /// The message of the task's topic at an offset or the next behind it; None at the topic's end. Without an offset the one that the
    /// task takes next.
    pub async fn topic_message(
        &self,
        row: &TaskRow,
        offset: Option<Offset>,
    ) -> Answer<(Offset, Option<RawMessage>)> {
        let kafka = self.endpoints(row).await?.kafka;
        let (Some(kafka), Some(topic)) = (kafka, row.spec.source.topic.as_deref()) else {
            return Err(Refusal::NotFound(format!("task {} follows no topic", row.name())));
        };
        let offset = match offset {
            Some(offset) => offset,
            None => {
                let checkpoint = self.store.checkpoint(&row.id).await?;
                let next = checkpoint.map(|checkpoint| checkpoint.position.next_offset);
                next.ok_or_else(|| {
                    Refusal::NotFound("the task has no position yet: say which offset is wanted".to_owned())
                })?
            }
        };
        let found = tokio::time::timeout(MESSAGE_PATIENCE, async {
            let _one = LOOKING.acquire().await.map_err(Error::internal)?;
            Topic::new(&kafka, topic)?.message(offset).await
        });
        match found.await {
            Ok(Err(error)) if error.kind == ErrorKind::PositionLost => {
                Err(Refusal::NotFound(error.to_string()))
            }
            Ok(found) => Ok((offset, found?)),
            Err(_) => Err(Refusal::EndpointTimeout(format!(
                "the message at offset {offset} did not come within {} s",
                MESSAGE_PATIENCE.as_secs()
            ))),
        }
    }
}

//! Looks at the topics of tasks that stand still: what retention is about to drop of them is told before it is gone.
//!
//! A run watches its own topic (`incremental::lag`). A paused or failed task has no run, and its position grows old all the same. One
//! question per topic, whatever the number of its tasks; what cannot be asked is asked again the next time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::endpoints::{self, Opened};
use super::registry::Registry;
use crate::binlog::{LogRange, Topic};
use crate::crypto::Keyring;
use crate::error::{ErrorKind, Result};
use crate::model::Tso;
use crate::store::Store;
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::store::views::CheckpointRow;
use crate::task::status::Status;

const EVERY: Duration = Duration::from_secs(15);
/// Tasks read at a time.
const PAGE: u32 = 500;

/// See the module.
#[derive(Debug)]
pub struct Resting {
    pub store: Store,
    pub keyring: Arc<Keyring>,
    pub registry: Arc<Registry>,
}

/// What a topic says of itself.
struct Log {
    cluster: String,
    range: LogRange,
    retention_ms: Option<i64>,
}

impl Resting {
    pub async fn run(self, end: CancellationToken) {
        loop {
            let look = async {
                tokio::time::sleep(EVERY).await;
                self.look().await
            };
            tokio::select! {
                () = end.cancelled() => return,
                looked = look => if let Err(error) = looked {
                    tracing::warn!(%error, "the topics of tasks that stand still were not looked at; trying again");
                }
            }
        }
    }

    async fn look(&self) -> Result<()> {
        // By connection and topic.
        let mut topics: HashMap<(String, String), Vec<(TaskRow, CheckpointRow)>> = HashMap::new();
        let mut after = String::new();
        loop {
            let rows = self.store.tasks_page(&after, &TaskFilter::default(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id.0.clone();
            let standing = rows.iter().filter(|row| matches!(row.status, Status::Paused | Status::Failed));
            let ids: Vec<_> = standing.map(|row| &row.id).collect();
            let mut checkpoints = self.store.checkpoint_views(&ids).await?;
            for row in rows {
                let Some(checkpoint) = checkpoints.remove(&row.id) else { continue };
                let Some(kafka) = row.spec.source.kafka.clone() else { continue };
                topics.entry((kafka, checkpoint.topic.clone())).or_default().push((row, checkpoint));
            }
        }
        for ((kafka, topic), tasks) in topics {
            match self.ask(&kafka, &topic).await {
                Ok(Some(log)) => {
                    for (task, checkpoint) in &tasks {
                        self.tell(task, checkpoint, &log).await?;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%topic, %error, "a topic cannot be looked at"),
            }
        }
        Ok(())
    }

    async fn ask(&self, kafka: &str, topic: &str) -> Result<Option<Log>> {
        let Some(row) = self.store.connection(kafka).await? else { return Ok(None) };
        let Opened::Kafka(endpoint) = endpoints::open(&self.keyring, &row)? else { return Ok(None) };
        let topic = Topic::new(&endpoint, topic)?;
        let (cluster, range) = (topic.cluster_id().await?, topic.log_range().await?);
        // Who may not see it knows the offsets at least.
        let retention_ms = topic.retention_ms().await.ok().flatten();
        Ok(Some(Log { cluster, range, retention_ms }))
    }

    async fn tell(&self, task: &TaskRow, checkpoint: &CheckpointRow, log: &Log) -> Result<()> {
        // Another cluster's offsets say nothing.
        if log.cluster != checkpoint.cluster_id {
            return Ok(());
        }
        let Some(progress) = self.registry.standing(&task.id) else { return Ok(()) };
        let (start, next) = (log.range.start.0, checkpoint.next_offset);
        let known = progress.start_offset().is_some_and(|start| start > next);
        progress.set_next_offset(next);
        progress.set_log_range(start, log.range.end.0);
        progress.set_retention_ms(log.retention_ms);
        // Full sync has no watermark yet: what it needs next is as old as its snapshot.
        let tso = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0).map(Tso);
        if let Some(watermark) = tso(checkpoint.watermark_tso) {
            progress.advance_watermark(watermark);
        } else if let Some(snapshot) = tso(checkpoint.snapshot_tso) {
            progress.set_snapshot_ms(snapshot.physical_ms());
        }
        let said = task.last_error.as_ref().is_some_and(|error| error.kind == ErrorKind::PositionLost);
        if start <= next || known || said {
            return Ok(());
        }
        tracing::error!(task.id = %task.id, start, next, "the topic has dropped what a task that stands still needs next");
        let message = format!(
            "the topic begins at offset {start} now and the task stands at {next}: retention has dropped what it needs next"
        );
        let detail = json!({
            "start_offset": start.to_string(), "next_offset": next.to_string(), "topic": checkpoint.topic,
            "hint": "lengthen the topic's retention, and copy the tables anew: what is missing cannot be read any more",
            "help": "/problems/position-lost",
        });
        self.store.event(Some(&task.id), "position_lost", None, &message, detail).await
    }
}

//! The watermark of an idle source (source-drainer.md 2.5).
//!
//! The stream has no heartbeat. But everything up to a Drainer's Max_Commit_Ts is in the topic, so: read W = Max_Commit_Ts,
//! then the topic's end offset E; once everything before E is in the target, the target is complete up to W. Without TiDB there
//! is no W, and an idle source's lag is unknown.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::binlog::Topic;
use crate::model::{MysqlEndpoint, Offset, Tso};
use crate::tidb;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The topic's retention is asked for again after so many looks.
const RETENTION_EVERY: u32 = 600;

/// One look at source and topic, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Max_Commit_Ts; None without TiDB, or when no Drainer answers.
    pub resolved: Option<Tso>,
    pub start: Offset,
    pub end: Offset,
    /// `retention.ms`; None = for ever, or this user may not see it.
    pub retention_ms: Option<i64>,
}

/// Looks once a second until cancelled. `since` is when the task began to follow. A failed look is skipped: reading and applying notice the outage themselves.
pub async fn watch(
    source: Option<MysqlEndpoint>,
    since: Tso,
    topic: Topic,
    looks: watch::Sender<Look>,
    cancel: CancellationToken,
) {
    let mut session = None;
    let (mut looked, mut retention_ms) = (0_u32, None);
    while !cancel.is_cancelled() {
        let resolved = match &source {
            Some(endpoint) => match tidb::max_commit_ts(endpoint, since, &mut session).await {
                Ok(resolved) => resolved,
                Err(error) => {
                    tracing::debug!(%error, "cannot read the Drainer's status");
                    session = None;
                    None
                }
            },
            None => None,
        };
        if let Ok(range) = topic.log_range().await {
            if looked.is_multiple_of(RETENTION_EVERY)
                && let Ok(found) = topic.retention_ms().await
            {
                retention_ms = found;
            }
            looked = looked.wrapping_add(1);
            looks.send_replace(Look { resolved, start: range.start, end: range.end, retention_ms });
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Looks whose end offset has not been reached yet.
#[derive(Debug, Default)]
pub struct Pending(VecDeque<(Offset, Tso)>);

impl Pending {
    /// More looks than this are not remembered: the newest is dropped, the next comes in a second.
    const MOST: usize = 600;

    pub fn push(&mut self, look: Look) {
        if let Some(resolved) = look.resolved
            && self.0.len() < Self::MOST
        {
            self.0.push_back((look.end, resolved));
        }
    }

    /// The newest watermark that holds when everything before `applied` is in the target.
    pub fn reached(&mut self, applied: Offset) -> Option<Tso> {
        let mut reached = None;
        while let Some((end, resolved)) = self.0.front()
            && *end <= applied
        {
            reached = Some(*resolved);
            self.0.pop_front();
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_holds_once_its_end_offset_is_applied() {
        let mut pending = Pending::default();
        for (end, tso) in [(5, 100), (5, 110), (9, 120)] {
            pending.push(Look {
                resolved: Some(Tso(tso)),
                start: Offset(0),
                end: Offset(end),
                retention_ms: None,
            });
        }
        assert_eq!(pending.reached(Offset(4)), None);
        assert_eq!(pending.reached(Offset(5)), Some(Tso(110)));
        assert_eq!(pending.reached(Offset(8)), None);
        assert_eq!(pending.reached(Offset(9)), Some(Tso(120)));
    }
}

//! The watermark of an idle source (source-drainer.md 2.5).
//!
//! The stream has no heartbeat. But everything up to a Drainer's Max_Commit_Ts is in the topic, so: read W = Max_Commit_Ts,
//! then the topic's end offset E; once everything before E is in the target, the target is complete up to W. Without TiDB there
//! is no W, and an idle source's lag is unknown.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::binlog::{LogRange, Topic};
use crate::error::ErrorKind;
use crate::model::{MysqlEndpoint, Offset, Tso};
use crate::shared::Shared;
use crate::tidb::{self, DrainerStatus};

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

/// Gives a look a second until cancelled. `since` is when the task began to follow. A failed look is skipped: reading and applying
/// notice the outage themselves.
pub async fn watch(
    source: Option<MysqlEndpoint>,
    since: Tso,
    topic: Topic,
    looks: watch::Sender<Look>,
    cancel: CancellationToken,
) {
    let joined = Instant::now();
    while !cancel.is_cancelled() {
        let lookout = join(source.as_ref(), &topic);
        let mut seen = lookout.seen.clone();
        while let Some(Ok(())) = cancel.run_until_cancelled(seen.changed()).await {
            let Some(seen) = seen.borrow_and_update().clone() else { continue };
            // One that began before this task read the topic knows less of it than the task does.
            if seen.began >= joined {
                let resolved = tidb::resolved(&seen.drainers, since);
                let LogRange { start, end } = seen.range;
                looks.send_replace(Look { resolved, start, end, retention_ms: seen.retention_ms });
            }
        }
        // It has ended: with the source's login that this task has now there will be another.
        cancel.run_until_cancelled(tokio::time::sleep(EVERY)).await;
    }
}

/// Who looks for all tasks that follow the same topic of the same source: a session, two questions and a thread for a moment, once
/// a second, however many they are.
struct Lookout {
    source: Option<MysqlEndpoint>,
    topic: Topic,
    seen: watch::Receiver<Option<Seen>>,
    /// Somebody came who has seen nothing yet.
    came: Arc<Notify>,
    _end: DropGuard,
}

#[derive(Debug, Clone)]
struct Seen {
    began: Instant,
    drainers: Arc<[DrainerStatus]>,
    range: LogRange,
    retention_ms: Option<i64>,
}

static LOOKOUTS: Shared<Lookout> = Shared::new();

/// Who looks at these already, or from now on.
fn join(source: Option<&MysqlEndpoint>, topic: &Topic) -> Arc<Lookout> {
    let begin = || Ok::<_, Infallible>(begin(source, topic));
    let Ok(lookout) = LOOKOUTS.get(|lookout| lookout.is_at(source, topic), begin);
    // One that was just begun looks at once.
    if lookout.seen.borrow().is_some() {
        lookout.came.notify_one();
    }
    lookout
}

fn begin(source: Option<&MysqlEndpoint>, topic: &Topic) -> Arc<Lookout> {
    let (sender, seen) = watch::channel(None);
    let (came, end) = (Arc::new(Notify::new()), CancellationToken::new());
    let work = look_out(source.cloned(), topic.clone(), sender, Arc::clone(&came));
    let ends = end.clone();
    tokio::spawn(async move { ends.run_until_cancelled(work).await });
    let lookout =
        Lookout { source: source.cloned(), topic: topic.clone(), seen, came, _end: end.drop_guard() };
    Arc::new(lookout)
}

impl Lookout {
    /// Looks at these, with the same logins, and has not ended.
    fn is_at(&self, source: Option<&MysqlEndpoint>, topic: &Topic) -> bool {
        let same_source = || match (&self.source, source) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (None, None) => true,
            _ => false,
        };
        self.topic.is_same(topic) && same_source() && self.seen.has_changed().is_ok()
    }
}

/// Ends when the source refuses the login: it may be that of a task which is gone, and the others have a newer one.
async fn look_out(
    source: Option<MysqlEndpoint>,
    topic: Topic,
    sender: watch::Sender<Option<Seen>>,
    came: Arc<Notify>,
) {
    let mut session = None;
    let (mut looked, mut retention_ms, mut is_refused) = (0_u32, None, false);
    while !is_refused {
        let began = Instant::now();
        let drainers = match &source {
            Some(endpoint) => tidb::drainers(endpoint, &mut session).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "cannot read the Drainer's status");
                is_refused = error.kind == ErrorKind::AccessDenied && session.is_none();
                Vec::new()
            }),
            None => Vec::new(),
        };
        if let Ok(range) = topic.log_range().await {
            if looked.is_multiple_of(RETENTION_EVERY)
                && let Ok(found) = topic.retention_ms().await
            {
                retention_ms = found;
            }
            looked = looked.wrapping_add(1);
            sender.send_replace(Some(Seen { began, drainers: drainers.into(), range, retention_ms }));
        }
        tokio::select! {
            () = came.notified() => {}
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
    use secrecy::SecretString;

    use super::*;
    use crate::model::{KafkaEndpoint, Tls};

    #[tokio::test]
    async fn tasks_of_one_topic_share_who_looks() {
        let kafka =
            KafkaEndpoint { brokers: vec!["127.0.0.1:1".to_owned()], tls: Tls::default(), sasl: None };
        let topic = |name: &str| Topic::new(&kafka, name).unwrap();
        let source = |password: &str| MysqlEndpoint {
            host: "127.0.0.1".to_owned(),
            port: 1,
            user: "sync".to_owned(),
            password: Some(SecretString::from(password)).into(),
            tls: Tls::default(),
        };
        let (one, other) = (source("p"), source("q"));
        let first = join(Some(&one), &topic("lag_a"));
        let at =
            |source: Option<&MysqlEndpoint>, name: &str| Arc::ptr_eq(&first, &join(source, &topic(name)));
        assert!(at(Some(&one), "lag_a") && at(Some(&source("p")), "lag_a"));
        assert!(!at(Some(&one), "lag_b") && !at(None, "lag_a") && !at(Some(&other), "lag_a"));
        // A password that is replaced is another login for all that hold it.
        one.password.replace(&other.password);
        assert!(at(Some(&other), "lag_a") && !at(Some(&source("p")), "lag_a"));
        // Nobody looks for nobody.
        let mut seen = first.seen.clone();
        drop(first);
        assert!(seen.changed().await.is_err());
        assert!(LOOKOUTS.get(|left| left.topic.name() == "lag_a", || Err(())).is_err());
    }

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

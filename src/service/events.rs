//! Who waits for events: one look at the store serves every stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often the store is asked for new events while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Streams at one time; each holds a connection.
pub const STREAMS_MAX: usize = 256;

/// Tells streams that there are new events.
#[derive(Debug)]
pub struct EventTail {
    newest: watch::Sender<i64>,
    streams: Arc<Semaphore>,
}

impl Default for EventTail {
    fn default() -> Self {
        Self { newest: watch::Sender::new(0), streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl EventTail {
    /// A place for one more stream, for as long as it is held, and the id of the newest event as it grows. None = too many.
    pub fn join(&self) -> Option<(OwnedSemaphorePermit, watch::Receiver<i64>)> {
        let place = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some((place, self.newest.subscribe()))
    }

    /// Looks for as long as the process serves.
    pub async fn follow(&self, store: &Store, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.newest.receiver_count() == 0 {
                continue;
            }
            match store.newest_event().await {
                Ok(id) => {
                    self.newest.send_if_modified(|newest| std::mem::replace(newest, id) != id);
                }
                Err(error) => tracing::error!(%error, "events cannot be read; trying again"),
            }
        }
    }
}

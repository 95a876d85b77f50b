//! What is swept in the background so that the store stays bounded: old events, old answers (see the store's own limits).

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

const EVERY: Duration = Duration::from_secs(600);

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub event_days: u32,
    pub event_rows: u32,
}

/// Sweeps at once, and then again and again until the process stops.
pub async fn run(store: Store, retention: Retention, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match store.trim_events(retention.event_days, retention.event_rows).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events trimmed"),
            Err(error) => tracing::error!(%error, "events could not be trimmed; trying again later"),
        }
        if let Err(error) = store.trim_answers().await {
            tracing::error!(%error, "kept answers could not be trimmed; trying again later");
        }
    }
}

//! What is swept in the background so that the store stays bounded, whatever tasks and their users do. docs/operations.md has the bounds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
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
        sweep(&store, retention).await;
    }
}

/// Throws away what is too old or too much. What fails is tried again by the next sweep.
pub async fn sweep(store: &Store, retention: Retention) {
    match store.trim_events(retention.event_days, retention.event_rows).await {
        Ok(0) => {}
        Ok(events) => tracing::info!(events, "old events trimmed"),
        Err(error) => failed("events", &error),
    }
    for (what, done) in [
        ("kept answers", store.trim_answers().await),
        ("log lines", store.trim_log_lines().await),
        ("alerts", store.trim_alerts().await),
        ("dead letters", store.trim_letters().await),
        ("DDL records", store.trim_ddl().await),
    ] {
        if let Err(error) = done {
            failed(what, &error);
        }
    }
}

fn failed(what: &str, error: &Error) {
    tracing::error!(%error, what, "old rows could not be trimmed; trying again later");
}

//! The control plane through HTTP, as a user calls it: the server runs in this process, workers are scripted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api/access.rs"]
mod access;
#[path = "api/alerts.rs"]
mod alerts;
#[path = "api/app.rs"]
mod app;
#[path = "api/backup.rs"]
mod backup;
#[path = "api/batch.rs"]
mod batch;
#[path = "api/connections.rs"]
mod connections;
#[path = "api/document.rs"]
mod document;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/http.rs"]
mod http;
#[path = "api/idempotency.rs"]
mod idempotency;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/live.rs"]
mod live;
#[path = "api/progress.rs"]
mod progress;
#[path = "api/restart.rs"]
mod restart;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/series.rs"]
mod series;
#[path = "api/specs.rs"]
mod specs;
#[path = "api/still.rs"]
mod still;
#[path = "api/stream.rs"]
mod stream;
#[path = "api/thousand.rs"]
mod thousand;
#[path = "api/transitions.rs"]
mod transitions;
#[path = "api/upgrades.rs"]
mod upgrades;
#[path = "api/watch.rs"]
mod watch;

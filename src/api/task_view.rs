//! A task as it is read: one page with everything that an operator asks first.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use serde::Serialize;
use utoipa::ToSchema;

use super::health::{
    Condition, Health, conditions, ddl_condition, health, letters_condition, lossy_condition,
};
use super::problem::Problem;
use super::time::{of_tso, rfc3339, tso};
use crate::engine::progress::{Phase, Progress, TableCounters};
use crate::engine::registry::{Rates, Seen};
use crate::error::Error;
use crate::model::{TableName, TaskId};
use crate::observe::measure::{full_is_through, lag_ms, percent, watermark};
use crate::service::Service;
use crate::store::TableState;
use crate::store::tasks::TaskRow;
use crate::store::views::{CheckpointRow, StoppedDdl};
use crate::store::{LossyTotal, now_ms};
use crate::task::status::{Desired, Status};

/// Where the task reads.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
    pub tidb: Option<String>,
    pub kafka: Option<String>,
    pub topic: Option<String>,
}

/// A durable position: everything before it is in the target.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointView {
    pub topic: String,
    pub partition: i32,
    /// Id of the Kafka cluster that the offsets belong to.
    pub cluster_id: String,
    pub next_offset: String,
    /// Commit TSO of the newest transaction before `next_offset`.
    pub commit_tso: Option<String>,
    #[schema(format = DateTime)]
    pub commit_time: Option<String>,
    /// TSO that full sync read at; null without full sync.
    pub snapshot_tso: Option<String>,
    #[schema(format = DateTime)]
    pub snapshot_time: Option<String>,
    /// Where incremental sync began.
    pub start_offset: String,
    #[schema(format = DateTime)]
    pub saved_at: String,
}

impl From<&CheckpointRow> for CheckpointView {
    fn from(row: &CheckpointRow) -> Self {
        Self {
            topic: row.topic.clone(),
            partition: 0,
            cluster_id: row.cluster_id.clone(),
            next_offset: row.next_offset.to_string(),
            commit_tso: tso(row.commit_ts),
            commit_time: of_tso(row.commit_ts),
            snapshot_tso: tso(row.snapshot_tso),
            snapshot_time: of_tso(row.snapshot_tso),
            start_offset: row.start_offset.to_string(),
            saved_at: rfc3339(row.updated_at),
        }
    }
}

/// Source time up to which the target is complete.
#[derive(Debug, Serialize, ToSchema)]
pub struct WatermarkView {
    pub tso: String,
    #[schema(format = DateTime)]
    pub time: String,
}

/// How far the task came. `rows_*` and `bytes_copied` belong to full sync.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressView {
    pub tables: u64,
    pub rows_estimated: Option<u64>,
    pub rows_copied: u64,
    /// Of full sync, 0 to 100; 100 only when it is through.
    pub percent: Option<f64>,
    pub bytes_copied: u64,
    pub changes_applied: u64,
    pub transactions_applied: u64,
    pub bytes_applied: u64,
    pub ddl_applied: u64,
    pub duplicates_skipped: u64,
    pub late_transactions: u64,
    pub retries: u64,
    /// Time that statements have waited for throttles, all together.
    pub throttled_ms: u64,
    /// Until full sync is through, at the present rate.
    pub eta_ms: Option<u64>,
    #[schema(format = DateTime)]
    pub estimated_end: Option<String>,
}

/// Means over the last 10 seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatesView {
    /// Rows copied by full sync.
    pub rows_per_second: f64,
    pub bytes_per_second: f64,
    /// Row changes of the stream.
    pub changes_per_second: f64,
    pub transactions_per_second: f64,
    /// Bytes of the stream's messages.
    pub stream_bytes_per_second: f64,
}

impl From<Rates> for RatesView {
    fn from(rates: Rates) -> Self {
        Self {
            rows_per_second: rates.rows_per_second,
            bytes_per_second: rates.bytes_per_second,
            changes_per_second: rates.changes_per_second,
            transactions_per_second: rates.transactions_per_second,
            stream_bytes_per_second: rates.stream_bytes_per_second,
        }
    }
}

/// Where the task stands in what the topic still holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionView {
    /// Oldest message in the topic.
    pub start_offset: Option<String>,
    pub next_offset: Option<String>,
    /// Behind the newest message.
    pub end_offset: Option<String>,
    /// Messages not applied yet.
    pub messages_behind: Option<i64>,
    /// Messages that the topic may drop before the task's position is lost.
    pub messages_spare: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorView {
    /// unreachable, access_denied, missing, ...; more may come.
    pub kind: String,
    /// source, kafka, target, store
    pub endpoint: Option<String>,
    /// What it happened to.
    pub object: Option<String>,
    pub message: String,
    pub hint: Option<String>,
    /// Where cause and cure are told at length: a path of this server.
    pub help: String,
    /// The server's own error number.
    pub server_code: Option<u16>,
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

impl ErrorView {
    pub fn new(error: &Error, at_ms: Option<i64>) -> Self {
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|value| value.as_str().map(str::to_owned))
        };
        Self {
            kind: word(serde_json::to_value(error.kind)).unwrap_or_default(),
            endpoint: word(serde_json::to_value(error.endpoint)),
            object: error.object.clone(),
            message: error.message.clone(),
            hint: Some(error.cure()),
            help: format!("/problems/{}", error.page()),
            server_code: error.code,
            at: at_ms.map(rfc3339),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    pub itself: String,
    pub spec: String,
    pub tables: String,
    pub checkpoint: String,
    pub events: String,
    pub ddl: String,
    pub dead_letters: String,
    pub series: String,
    pub logs: String,
    pub watermark: String,
    pub diagnosis: String,
    pub precheck: String,
    pub plan: String,
}

/// A task; its spec is a resource of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub desired: Desired,
    pub status: Status,
    pub phase: Option<Phase>,
    pub health: Health,
    pub conditions: Vec<Condition>,
    pub source: SourceView,
    /// Name of the target's connection.
    pub target: String,
    pub checkpoint: Option<CheckpointView>,
    pub watermark: Option<WatermarkView>,
    /// Now minus watermark, by the clock of the source where it is known; null = unknown.
    pub lag_ms: Option<i64>,
    pub progress: Option<ProgressView>,
    pub rates: Option<RatesView>,
    pub retention: Option<RetentionView>,
    pub last_error: Option<ErrorView>,
    pub spec_version: i64,
    /// Version that the current or last run works with.
    pub applied_spec_version: Option<i64>,
    /// Number of the current or last run.
    pub run: i64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    pub links: Links,
}

fn progress_view(row: &TaskRow, seen: &Seen) -> ProgressView {
    let progress = &*seen.progress;
    let tables: HashMap<TableName, TableCounters> = progress.tables();
    let mut known = tables.values().filter_map(|table| table.rows_estimated).peekable();
    let rows_estimated = known.peek().is_some().then(|| known.sum::<u64>());
    let rows_copied = progress.rows_copied.load(Ordering::Relaxed);
    let through = full_is_through(row);
    let rate = seen.rates.map(|rates| rates.rows_per_second).filter(|rate| *rate > 0.0);
    let eta_ms = match (rows_estimated, rate) {
        (Some(estimated), Some(rate)) if !through => {
            Some((estimated.saturating_sub(rows_copied) as f64 / rate * 1000.0) as u64)
        }
        _ => None,
    };
    ProgressView {
        tables: tables.len() as u64,
        rows_estimated,
        rows_copied,
        percent: percent(rows_copied, rows_estimated, through),
        bytes_copied: progress.bytes_copied.load(Ordering::Relaxed),
        changes_applied: progress.changes_applied.load(Ordering::Relaxed),
        transactions_applied: progress.transactions_applied.load(Ordering::Relaxed),
        bytes_applied: progress.bytes_applied.load(Ordering::Relaxed),
        ddl_applied: progress.ddl_applied.load(Ordering::Relaxed),
        duplicates_skipped: progress.duplicates_skipped.load(Ordering::Relaxed),
        late_transactions: progress.late_transactions.load(Ordering::Relaxed),
        retries: progress.retries.load(Ordering::Relaxed),
        throttled_ms: progress.waits.waited_ms.load(Ordering::Relaxed),
        eta_ms,
        estimated_end: eta_ms
            .and_then(|eta| i64::try_from(eta).ok())
            .map(|eta| rfc3339(now_ms().saturating_add(eta))),
    }
}

fn retention_view(progress: Option<&Progress>, checkpoint: Option<&CheckpointRow>) -> Option<RetentionView> {
    let next = progress.and_then(Progress::next_offset).or(checkpoint.map(|row| row.next_offset))?;
    let start = progress.and_then(Progress::start_offset);
    let end = progress.and_then(Progress::end_offset);
    Some(RetentionView {
        start_offset: start.map(|offset| offset.to_string()),
        next_offset: Some(next.to_string()),
        end_offset: end.map(|offset| offset.to_string()),
        messages_behind: end.map(|end| (end - next).max(0)),
        messages_spare: start.map(|start| next - start),
    })
}

impl Task {
    fn new(
        row: TaskRow,
        checkpoint: Option<&CheckpointRow>,
        seen: Option<&Seen>,
        aside: &[TableState],
        lossy: &[LossyTotal],
        ddl: Option<&StoppedDdl>,
        letters: Option<(i64, i64)>,
    ) -> Self {
        let progress = seen.map(|seen| &*seen.progress);
        let window = seen.and_then(|seen| seen.window.as_ref());
        let mut conditions = conditions(&row, progress, window, aside);
        conditions.extend(ddl.and_then(|ddl| ddl_condition(&row, ddl)));
        conditions.extend(letters.map(|(open, since)| letters_condition(open, since)));
        conditions.extend(lossy_condition(lossy));
        let link = |part: &str| format!("{}/tasks/{}{part}", super::BASE, row.id);
        Self {
            health: health(&row, progress, &conditions),
            conditions,
            checkpoint: checkpoint.map(CheckpointView::from),
            watermark: watermark(progress, checkpoint)
                .map(|(ms, tso)| WatermarkView { tso: tso.to_string(), time: rfc3339(ms) }),
            lag_ms: lag_ms(&row, progress, checkpoint),
            progress: seen.map(|seen| progress_view(&row, seen)),
            rates: seen.and_then(|seen| seen.rates).map(RatesView::from),
            retention: retention_view(progress, checkpoint),
            last_error: row.last_error.as_ref().map(|error| ErrorView::new(error, row.last_error_at)),
            links: Links {
                itself: link(""),
                spec: link("/spec"),
                tables: link("/tables"),
                checkpoint: link("/checkpoint"),
                events: link("/events"),
                ddl: link("/ddl"),
                dead_letters: link("/dead-letters"),
                series: link("/series"),
                logs: link("/logs"),
                watermark: link("/watermark"),
                diagnosis: link("/diagnosis"),
                precheck: link("/precheck"),
                plan: link("/plan"),
            },
            id: row.id.0,
            name: row.spec.name,
            labels: row.spec.labels,
            desired: row.desired,
            status: row.status,
            phase: row.phase,
            source: SourceView {
                tidb: row.spec.source.tidb,
                kafka: row.spec.source.kafka,
                topic: row.spec.source.topic,
            },
            target: row.spec.target,
            spec_version: row.spec_version,
            applied_spec_version: row.applied_spec_version,
            run: row.epoch.0,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            started_at: row.started_at.map(rfc3339),
            finished_at: row.finished_at.map(rfc3339),
        }
    }

    /// Health of a task without the rest of its page.
    pub fn health_of(
        service: &Service,
        row: &TaskRow,
        aside: &[TableState],
        letters: Option<(i64, i64)>,
    ) -> Health {
        let seen = service.registry.seen(&row.id);
        let progress = seen.as_ref().map(|seen| &*seen.progress);
        let window = seen.as_ref().and_then(|seen| seen.window.as_ref());
        let mut found = conditions(row, progress, window, aside);
        found.extend(letters.map(|(open, since)| letters_condition(open, since)));
        health(row, progress, &found)
    }

    pub async fn view(service: &Service, row: TaskRow) -> Result<Self, Problem> {
        let mut views = Self::views(service, vec![row]).await?;
        views.pop().ok_or_else(|| Problem::internal("a task without its page"))
    }

    pub async fn views(service: &Service, rows: Vec<TaskRow>) -> Result<Vec<Self>, Problem> {
        let ids: Vec<&TaskId> = rows.iter().map(|row| &row.id).collect();
        let checkpoints = service.store.checkpoint_views(&ids).await?;
        let aside = service.store.table_states(&ids).await?;
        let lossy = service.store.lossy_totals(&ids).await?;
        let letters = service.store.letter_counts(&ids).await?;
        let ddl = service.store.stopped_ddl(&ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let (checkpoint, seen) = (checkpoints.get(&row.id), service.registry.seen(&row.id));
                let aside = aside.get(&row.id).map_or(&[][..], Vec::as_slice);
                let lossy = lossy.get(&row.id).map(Vec::as_slice).unwrap_or_default();
                let (ddl, letters) = (ddl.get(&row.id), letters.get(&row.id).copied());
                Self::new(row, checkpoint, seen.as_ref(), aside, lossy, ddl, letters)
            })
            .collect())
    }
}

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
use crate::observe::measure::{
    full_is_through, lag_ms, percent, retention_left_ms, snapshot_kept_until, stands_since, watermark,
};
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
    /// While full sync stands still: until when the source is sure to keep the snapshot (its garbage collection's life time); a
    /// resume after that may begin the copy again. null = it does not stand still, or that is not known.
    #[schema(format = DateTime)]
    pub snapshot_kept_until: Option<String>,
    /// Where incremental sync began.
    pub start_offset: String,
    #[schema(format = DateTime)]
    pub saved_at: String,
}

impl CheckpointView {
    pub fn new(row: &CheckpointRow, snapshot_kept_until: Option<i64>) -> Self {
        Self {
            topic: row.topic.clone(),
            partition: 0,
            cluster_id: row.cluster_id.clone(),
            next_offset: row.next_offset.to_string(),
            commit_tso: tso(row.commit_ts),
            commit_time: of_tso(row.commit_ts),
            snapshot_tso: tso(row.snapshot_tso),
            snapshot_time: of_tso(row.snapshot_tso),
            snapshot_kept_until: snapshot_kept_until.map(rfc3339),
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

/// How far the task came. `rows_*`, `bytes_copied` and `percent` belong to full sync; what counts the stream, and `retries`, begins at
/// 0 with each run of the task.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressView {
    /// Tables known to the task.
    pub tables: u64,
    /// Rows that full sync expects to copy; null = not known yet.
    pub rows_estimated: Option<u64>,
    /// Rows that full sync has copied, over all its runs.
    pub rows_copied: u64,
    /// Of full sync, 0 to 100; 100 only when it is through.
    pub percent: Option<f64>,
    /// Bytes of the statements of full sync.
    pub bytes_copied: u64,
    /// Row changes of the stream that are in the target.
    pub changes_applied: u64,
    /// Transactions of the stream that are in the target.
    pub transactions_applied: u64,
    /// Bytes of topic messages that are in the target.
    pub bytes_applied: u64,
    /// DDL of the stream that is in the target.
    pub ddl_applied: u64,
    /// Transactions that a Drainer sent again and that were recognised.
    pub duplicates_skipped: u64,
    /// Transactions that came after newer ones.
    pub late_transactions: u64,
    /// Retries begun.
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
    /// Bytes of the statements of full sync.
    pub bytes_per_second: f64,
    /// Row changes of the stream.
    pub changes_per_second: f64,
    /// Transactions of the stream.
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
    /// Until the topic drops the message that the task needs next; 0 = it is gone, null = not known, or nothing is waiting.
    pub left_ms: Option<i64>,
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
    pub messages: String,
    pub throttle: String,
    pub verifications: String,
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
        throttled_ms: progress.waits.waited_ms(),
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
        left_ms: progress.and_then(|progress| retention_left_ms(progress, now_ms())),
    })
}

/// What the store knows of tasks beside their rows.
#[derive(Default)]
pub struct Beside {
    pub checkpoints: HashMap<TaskId, CheckpointRow>,
    aside: HashMap<TaskId, Vec<TableState>>,
    lossy: HashMap<TaskId, Vec<LossyTotal>>,
    letters: HashMap<TaskId, (i64, i64)>,
    ddl: HashMap<TaskId, StoppedDdl>,
}

impl Beside {
    pub async fn of(service: &Service, rows: &[TaskRow]) -> Result<Self, Problem> {
        let ids: Vec<&TaskId> = rows.iter().map(|row| &row.id).collect();
        let store = &service.store;
        let (checkpoints, aside, lossy, letters, ddl) = tokio::try_join!(
            store.checkpoint_views(&ids),
            store.table_states(&ids),
            store.lossy_totals(&ids),
            store.letter_counts(&ids),
            store.stopped_ddl(&ids),
        )?;
        Ok(Self { checkpoints, aside, lossy, letters, ddl })
    }

    /// Takes in what is known of other tasks.
    pub fn extend(&mut self, other: Self) {
        self.checkpoints.extend(other.checkpoints);
        self.aside.extend(other.aside);
        self.lossy.extend(other.lossy);
        self.letters.extend(other.letters);
        self.ddl.extend(other.ddl);
    }

    /// What keeps a task from being well, and what that makes of it.
    pub fn judge(&self, row: &TaskRow, seen: Option<&Seen>) -> (Health, Vec<Condition>) {
        let progress = seen.map(|seen| &*seen.progress);
        let window = seen.and_then(|seen| seen.window.as_ref());
        let aside = self.aside.get(&row.id).map_or(&[][..], Vec::as_slice);
        let mut found = conditions(row, progress, window, aside);
        found.extend(self.ddl.get(&row.id).and_then(|ddl| ddl_condition(row, ddl)));
        found.extend(self.letters.get(&row.id).map(|(open, since)| letters_condition(*open, *since)));
        found.extend(self.lossy.get(&row.id).and_then(|lossy| lossy_condition(lossy)));
        (health(row, progress, &found), found)
    }
}

impl Task {
    fn new(row: TaskRow, beside: &Beside, seen: Option<&Seen>) -> Self {
        let (health, conditions) = beside.judge(&row, seen);
        let progress = seen.map(|seen| &*seen.progress);
        let checkpoint = beside.checkpoints.get(&row.id);
        let lag = lag_ms(&row, progress, checkpoint);
        let link = |part: &str| [super::BASE, "/tasks/", row.id.0.as_str(), part].concat();
        Self {
            health,
            conditions,
            checkpoint: checkpoint.map(|checkpoint| {
                let kept = snapshot_kept_until(&row, progress, checkpoint, stands_since(&row));
                CheckpointView::new(checkpoint, kept)
            }),
            watermark: watermark(progress, checkpoint)
                .map(|(ms, tso)| WatermarkView { tso: tso.to_string(), time: rfc3339(ms) }),
            lag_ms: lag,
            progress: seen.filter(|seen| seen.ran).map(|seen| progress_view(&row, seen)),
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
                messages: link("/messages"),
                throttle: link("/throttle"),
                verifications: link("/verifications"),
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

    pub async fn view(service: &Service, row: TaskRow) -> Result<Self, Problem> {
        let mut views = Self::views(service, vec![row], None).await?;
        views.pop().ok_or_else(|| Problem::internal("a task without its page"))
    }

    /// The pages of tasks; `beside`: what is known beside their rows, read here where it is not.
    pub async fn views(
        service: &Service,
        rows: Vec<TaskRow>,
        beside: Option<Beside>,
    ) -> Result<Vec<Self>, Problem> {
        let beside = match beside {
            Some(beside) => beside,
            None => Beside::of(service, &rows).await?,
        };
        Ok(rows
            .into_iter()
            .map(|row| {
                let seen = service.registry.seen(&row.id);
                Self::new(row, &beside, seen.as_ref())
            })
            .collect())
    }
}

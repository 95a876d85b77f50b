//! Logs and metrics. Metrics are listed here and nowhere else; docs/metrics.md and the rules in deploy/ are held to the list.
//!
//! Process-wide figures go through the global recorder; figures of tasks are read from their counters at each scrape, so a
//! deleted task leaves no series behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::engine::progress::Progress;
use crate::observe::lines::TaskLines;
use crate::observe::measure::percent;
use crate::store::{LossyTotal, TableState};
use crate::task::status::Status;

/// Kind of a metric, as Prometheus calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric: name, kind, labels and meaning. docs/metrics.md is held to this list.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static str,
    pub about: &'static str,
}

macro_rules! families {
    ($($constant:ident $name:literal $kind:ident $labels:literal $about:literal;)+) => {
        $(pub const $constant: &str = $name;)+

        /// Everything that `/metrics` can show.
        pub const FAMILIES: &[Family] =
            &[$(Family { name: $name, kind: Kind::$kind, labels: $labels, about: $about }),+];
    };
}

families! {
    HTTP_SECONDS "tidegate_http_request_duration_seconds" Histogram "method, route, status" "Time to answer an HTTP request";
    UPTIME_SECONDS "tidegate_uptime_seconds" Gauge "" "Time since the process began";
    BUILD_INFO "tidegate_build_info" Gauge "version" "Always 1";
    LOG_LINES_DROPPED "tidegate_log_lines_dropped_total" Counter "" "Log lines of tasks that came too fast to be kept";
    ALERTS_FIRING "tidegate_alerts_firing" Gauge "rule" "Alerts that fire now";
    TASK_STATUS "tidegate_task_status" Gauge "task, status" "1 for the status that the task is in";
    TASK_LAG_SECONDS "tidegate_task_lag_seconds" Gauge "task" "Now minus the source time up to which the target is complete";
    TASK_MESSAGES_BEHIND "tidegate_task_messages_behind" Gauge "task" "Messages of the topic that are not applied yet";
    TASK_MESSAGES_SPARE "tidegate_task_messages_spare" Gauge "task" "Messages that the topic may drop before the position of the task is lost; below 0 it is";
    TASK_RETENTION_LEFT "tidegate_task_retention_left_seconds" Gauge "task" "Time until the topic drops the position of the task; only while messages wait there";
    TASK_CHECKPOINT_AGE "tidegate_task_checkpoint_age_seconds" Gauge "task" "Since the checkpoint was saved; an idle task saves it about once a minute";
    TASK_RETRYING "tidegate_task_retrying" Gauge "task" "1 while the task waits to try again";
    TASK_TABLES "tidegate_task_tables" Gauge "task" "Tables known to the task";
    TASK_TABLES_ASIDE "tidegate_task_tables_aside" Gauge "task, state" "Tables that do not follow";
    TASK_MEMORY_BYTES "tidegate_task_memory_bytes" Gauge "task" "Rows and changes that wait in memory for the target";
    TASK_DEAD_LETTERS "tidegate_task_dead_letters" Gauge "task" "Row changes that are set aside and still open";
    TASK_ROWS_ESTIMATED "tidegate_task_rows_estimated" Gauge "task" "Rows that full sync expects to copy; not there while unknown";
    TASK_PERCENT "tidegate_task_full_percent" Gauge "task" "How much of full sync is done, 0 to 100; 100 only when it is through";
    TASK_ROWS_COPIED "tidegate_task_rows_copied_total" Counter "task" "Rows written by full sync";
    TASK_BYTES_COPIED "tidegate_task_bytes_copied_total" Counter "task" "Bytes of the statements of full sync";
    TASK_CHANGES "tidegate_task_changes_applied_total" Counter "task" "Row changes of the stream that are in the target";
    TASK_TRANSACTIONS "tidegate_task_transactions_applied_total" Counter "task" "Transactions of the stream that are in the target";
    TASK_STREAM_BYTES "tidegate_task_stream_bytes_applied_total" Counter "task" "Bytes of topic messages that are in the target";
    TASK_DDL "tidegate_task_ddl_applied_total" Counter "task" "DDL of the stream that is in the target";
    TASK_BATCHES "tidegate_task_batches_total" Counter "task" "Batches that the target acknowledged";
    TASK_SECONDS "tidegate_task_busy_seconds_total" Counter "task, in" "Where the time of a run went: reading, decoding, blocked, applying, ddl, throttled; whole seconds";
    TASK_RETRIES "tidegate_task_retries_total" Counter "task" "Retries begun";
    TASK_DUPLICATES "tidegate_task_duplicates_skipped_total" Counter "task" "Transactions that came again and were recognised";
    TASK_LATE "tidegate_task_late_transactions_total" Counter "task" "Transactions that came after newer ones";
    TASK_LOSSY "tidegate_task_lossy_values_total" Counter "task, rule" "Values that the target does not have as the source has them, by rule";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging to standard error. A second call changes nothing.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter: EnvFilter = filter.parse()?;
    let printed = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // The filter is of what is printed; the lines of tasks are kept at info whatever it says.
    let printed = match format {
        LogFormat::Text => printed.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => printed
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    let kept = TaskLines.with_filter(LevelFilter::INFO);
    let _ = tracing_subscriber::registry().with(printed).with(kept).try_init();
    Ok(())
}

fn builder() -> PrometheusBuilder {
    let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
    let builder = PrometheusBuilder::new();
    match builder.set_buckets_for_metric(Matcher::Full(HTTP_SECONDS.to_owned()), &buckets) {
        Ok(builder) => builder,
        Err(_) => PrometheusBuilder::new(),
    }
}

/// The process-wide recorder, installed at the first call.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        // Only a recorder of somebody else's can be in the way; ours is then simply not fed.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

fn describe() {
    for family in FAMILIES {
        match family.kind {
            Kind::Counter => describe_counter!(family.name, family.about),
            Kind::Gauge => describe_gauge!(family.name, family.about),
            Kind::Histogram => describe_histogram!(family.name, family.about),
        }
    }
}

/// What a scrape shows of one task.
#[derive(Debug)]
pub struct TaskFigures {
    pub name: String,
    pub status: Status,
    pub lag_ms: Option<i64>,
    pub checkpoint_age_ms: Option<i64>,
    pub retention_left_ms: Option<i64>,
    pub retrying: bool,
    pub dead_letters: i64,
    /// Whether full sync is behind the task; None of one without.
    pub full_is_through: Option<bool>,
    pub aside: Vec<TableState>,
    pub progress: Option<Arc<Progress>>,
    pub lossy: Vec<LossyTotal>,
}

/// Everything in Prometheus' text format.
pub fn render(tasks: &[TaskFigures], firing: &[(String, i64)], uptime: Duration) -> String {
    let local = builder().build_recorder();
    metrics::with_local_recorder(&local, || {
        describe();
        gauge!(UPTIME_SECONDS).set(uptime.as_secs_f64());
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        for (rule, count) in firing {
            gauge!(ALERTS_FIRING, "rule" => rule.clone()).set(*count as f64);
        }
        for task in tasks {
            record(task);
        }
    });
    recorder().run_upkeep();
    format!("{}{}", recorder().render(), local.handle().render())
}

fn record(task: &TaskFigures) {
    let label = || [("task", task.name.clone())];
    let seconds = |name: &'static str, ms: Option<i64>| {
        if let Some(ms) = ms {
            gauge!(name, &label()).set(ms as f64 / 1000.0);
        }
    };
    gauge!(TASK_STATUS, "task" => task.name.clone(), "status" => task.status.as_str()).set(1.0);
    gauge!(TASK_RETRYING, &label()).set(f64::from(u8::from(task.retrying)));
    seconds(TASK_LAG_SECONDS, task.lag_ms);
    seconds(TASK_CHECKPOINT_AGE, task.checkpoint_age_ms);
    seconds(TASK_RETENTION_LEFT, task.retention_left_ms);
    gauge!(TASK_DEAD_LETTERS, &label()).set(task.dead_letters as f64);
    for table in &task.aside {
        gauge!(TASK_TABLES_ASIDE, "task" => task.name.clone(), "state" => table.standing.as_str())
            .increment(1.0);
    }
    for total in &task.lossy {
        counter!(TASK_LOSSY, "task" => task.name.clone(), "rule" => total.rule.as_str())
            .absolute(total.count);
    }
    let Some(progress) = &task.progress else { return };
    let totals = progress.table_totals();
    gauge!(TASK_TABLES, &label()).set(totals.tables as f64);
    if let Some(through) = task.full_is_through {
        if let Some(rows) = totals.rows_estimated {
            gauge!(TASK_ROWS_ESTIMATED, &label()).set(rows as f64);
        }
        let copied = progress.rows_copied.load(Ordering::Relaxed);
        if let Some(percent) = percent(copied, totals.rows_estimated, through) {
            gauge!(TASK_PERCENT, &label()).set(percent);
        }
    }
    gauge!(TASK_MEMORY_BYTES, &label()).set(progress.buffered_bytes.load(Ordering::Relaxed) as f64);
    for (name, value) in [
        (TASK_ROWS_COPIED, &progress.rows_copied),
        (TASK_BYTES_COPIED, &progress.bytes_copied),
        (TASK_CHANGES, &progress.changes_applied),
        (TASK_TRANSACTIONS, &progress.transactions_applied),
        (TASK_STREAM_BYTES, &progress.bytes_applied),
        (TASK_DDL, &progress.ddl_applied),
        (TASK_BATCHES, &progress.batches),
        (TASK_RETRIES, &progress.retries),
        (TASK_DUPLICATES, &progress.duplicates_skipped),
        (TASK_LATE, &progress.late_transactions),
    ] {
        counter!(name, &label()).absolute(value.load(Ordering::Relaxed));
    }
    let time = &progress.time;
    let of = |us: &AtomicU64| us.load(Ordering::Relaxed);
    for (place, us) in [
        ("reading", of(&time.reading_us)),
        // DDL is met while messages are read.
        ("decoding", of(&time.decoding_us).saturating_sub(of(&time.ddl_us))),
        ("blocked", of(&time.blocked_us)),
        ("applying", of(&time.applying_us)),
        ("ddl", of(&time.ddl_us)),
        ("throttled", progress.waits.waited_ms() * 1000),
    ] {
        counter!(TASK_SECONDS, "task" => task.name.clone(), "in" => place).absolute(us / 1_000_000);
    }
    if let (Some(end), Some(next)) = (progress.end_offset(), progress.next_offset()) {
        gauge!(TASK_MESSAGES_BEHIND, &label()).set((end - next).max(0) as f64);
    }
    if let (Some(start), Some(next)) = (progress.start_offset(), progress.next_offset()) {
        gauge!(TASK_MESSAGES_SPARE, &label()).set((next - start) as f64);
    }
}

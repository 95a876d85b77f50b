//! Logs and metrics. Metric names are constants here and nowhere else.
//!
//! Process-wide figures go through the global recorder; figures of tasks are read from their counters at each scrape, so a
//! deleted task leaves no series behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::engine::progress::Progress;
use crate::store::LossyTotal;
use crate::task::status::Status;

pub const HTTP_SECONDS: &str = "tidegate_http_request_duration_seconds";
pub const UPTIME_SECONDS: &str = "tidegate_uptime_seconds";
pub const TASK_STATUS: &str = "tidegate_task_status";
pub const TASK_LAG_SECONDS: &str = "tidegate_task_lag_seconds";
pub const TASK_ROWS_COPIED: &str = "tidegate_task_rows_copied_total";
pub const TASK_BYTES_COPIED: &str = "tidegate_task_bytes_copied_total";
pub const TASK_CHANGES: &str = "tidegate_task_changes_applied_total";
pub const TASK_TRANSACTIONS: &str = "tidegate_task_transactions_applied_total";
pub const TASK_STREAM_BYTES: &str = "tidegate_task_stream_bytes_applied_total";
pub const TASK_DDL: &str = "tidegate_task_ddl_applied_total";
pub const TASK_RETRIES: &str = "tidegate_task_retries_total";
pub const TASK_DUPLICATES: &str = "tidegate_task_duplicates_skipped_total";
pub const TASK_LATE: &str = "tidegate_task_late_transactions_total";
pub const TASK_LOSSY: &str = "tidegate_task_lossy_values_total";
pub const TASK_MESSAGES_BEHIND: &str = "tidegate_task_messages_behind";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging to standard error. A second call changes nothing.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter: EnvFilter = filter.parse()?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
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
        describe_histogram!(HTTP_SECONDS, "Time to answer an HTTP request");
        handle
    })
}

/// What a scrape shows of one task.
#[derive(Debug)]
pub struct TaskFigures {
    pub name: String,
    pub status: Status,
    pub lag_ms: Option<i64>,
    pub progress: Option<Arc<Progress>>,
    pub lossy: Vec<LossyTotal>,
}

/// Everything in Prometheus' text format.
pub fn render(tasks: &[TaskFigures], uptime: Duration) -> String {
    let local = builder().build_recorder();
    metrics::with_local_recorder(&local, || {
        describe_gauge!(UPTIME_SECONDS, "Time since the process began");
        describe_gauge!(TASK_STATUS, "1 for the status that the task is in");
        describe_gauge!(TASK_LAG_SECONDS, "Now minus the source time up to which the target is complete");
        describe_gauge!(TASK_MESSAGES_BEHIND, "Messages of the topic that are not applied yet");
        describe_counter!(TASK_ROWS_COPIED, "Rows written by full sync");
        describe_counter!(TASK_LOSSY, "Values that the target does not have as the source has them, by rule");
        describe_counter!(TASK_CHANGES, "Row changes of the stream that are in the target");
        gauge!(UPTIME_SECONDS).set(uptime.as_secs_f64());
        for task in tasks {
            record(task);
        }
    });
    recorder().run_upkeep();
    format!("{}{}", recorder().render(), local.handle().render())
}

fn record(task: &TaskFigures) {
    let label = || [("task", task.name.clone())];
    gauge!(TASK_STATUS, "task" => task.name.clone(), "status" => task.status.as_str()).set(1.0);
    if let Some(lag) = task.lag_ms {
        gauge!(TASK_LAG_SECONDS, &label()).set(lag as f64 / 1000.0);
    }
    for total in &task.lossy {
        counter!(TASK_LOSSY, "task" => task.name.clone(), "rule" => total.rule.as_str())
            .absolute(total.count);
    }
    let Some(progress) = &task.progress else { return };
    for (name, value) in [
        (TASK_ROWS_COPIED, &progress.rows_copied),
        (TASK_BYTES_COPIED, &progress.bytes_copied),
        (TASK_CHANGES, &progress.changes_applied),
        (TASK_TRANSACTIONS, &progress.transactions_applied),
        (TASK_STREAM_BYTES, &progress.bytes_applied),
        (TASK_DDL, &progress.ddl_applied),
        (TASK_RETRIES, &progress.retries),
        (TASK_DUPLICATES, &progress.duplicates_skipped),
        (TASK_LATE, &progress.late_transactions),
    ] {
        counter!(name, &label()).absolute(value.load(Ordering::Relaxed));
    }
    if let (Some(end), Some(next)) = (progress.end_offset(), progress.next_offset()) {
        gauge!(TASK_MESSAGES_BEHIND, &label()).set((end - next).max(0) as f64);
    }
}

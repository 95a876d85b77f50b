//! The log lines of tasks: a tracing layer takes those that name a task, a writer keeps them in the store.
//!
//! A line of a task is an event of ours at info or above with a field `task.id`, whatever `--log` prints. The way to the store is
//! bounded: in a storm of lines the oldest are dropped and counted, and nobody who logs ever waits.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::store::{Store, now_ms};

/// Lines on their way.
const UNDER_WAY: usize = 4096;
/// A longer text is cut off.
const TEXT_MAX: usize = 4096;
/// Fields of one line.
const FIELDS_MAX: usize = 32;
/// Lines of one transaction.
const BATCH: usize = 1000;
/// Lines are written at most this often.
const EVERY: Duration = Duration::from_millis(500);

/// Every store of this process takes its own tasks' lines from here: ids are unique.
static LINES: LazyLock<broadcast::Sender<Arc<Line>>> = LazyLock::new(|| broadcast::channel(UNDER_WAY).0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
}

impl LogLevel {
    pub fn number(self) -> i64 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
        }
    }

    pub fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Error,
            2 => Self::Warn,
            _ => Self::Info,
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            _ => None,
        }
    }
}

/// One line of a task.
#[derive(Debug, Clone)]
pub struct Line {
    pub task: String,
    pub at_ms: i64,
    pub level: LogLevel,
    pub target: String,
    pub message: String,
    pub fields: Map<String, Value>,
}

/// Takes the lines of tasks. Lines of tasks that no store of this process knows are forgotten.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskLines;

impl<S: Subscriber> Layer<S> for TaskLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            _ => return,
        };
        // Of ours: nobody else's field of that name is a task.
        if !event.metadata().target().starts_with("tidegate") {
            return;
        }
        let mut gather = Gather::default();
        event.record(&mut gather);
        let Some(task) = gather.task else { return };
        let line = Line {
            task,
            at_ms: now_ms(),
            level,
            target: event.metadata().target().to_owned(),
            message: gather.message,
            fields: gather.fields,
        };
        // Nobody listens before the first server has started.
        let _ = LINES.send(Arc::new(line));
    }
}

#[derive(Default)]
struct Gather {
    task: Option<String>,
    message: String,
    fields: Map<String, Value>,
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Gather {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("task.id", Value::String(text)) => self.task = Some(text),
            ("message", Value::String(text)) => self.message = cut(text),
            // `log` records of other crates bring their place with them.
            (name, _) if name.starts_with("log.") => {}
            (name, value) if self.fields.len() < FIELDS_MAX => {
                self.fields.insert(name.to_owned(), value);
            }
            _ => {}
        }
    }
}

impl Visit for Gather {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::String(cut(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::String(cut(value.to_owned())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
}

/// Keeps the lines of this store's tasks. Made before the first task runs, so that no line is missed.
#[derive(Debug)]
pub struct LineWriter {
    store: Store,
    lines: broadcast::Receiver<Arc<Line>>,
}

impl LineWriter {
    pub fn new(store: Store) -> Self {
        Self { store, lines: LINES.subscribe() }
    }

    /// Writes until `end`, then what is still under way.
    pub async fn run(mut self, end: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                line = self.lines.recv() => line,
                () = end.cancelled() => return,
            };
            let mut batch = Vec::new();
            match first {
                Ok(line) => batch.push(line),
                Err(RecvError::Lagged(lost)) => dropped(lost),
                Err(RecvError::Closed) => return,
            }
            // What comes together is written together.
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = end.cancelled() => {}
            }
            while batch.len() < BATCH {
                match self.lines.try_recv() {
                    Ok(line) => batch.push(line),
                    Err(TryRecvError::Lagged(lost)) => dropped(lost),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if let Err(error) = self.store.add_log_lines(&batch).await {
                // Without a task: this line must not come back here.
                tracing::warn!(%error, lines = batch.len(), "log lines of tasks could not be kept");
                dropped(batch.len() as u64);
            }
        }
    }
}

fn dropped(lines: u64) {
    metrics::counter!(crate::telemetry::LOG_LINES_DROPPED).increment(lines);
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn lines_that_name_a_task_are_taken_with_their_fields() {
        let mut lines = LINES.subscribe();
        let subscriber = tracing_subscriber::registry().with(TaskLines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(offset = 7, "of nobody");
            tracing::debug!(task.id = %"t_of_this_test", "too fine");
            tracing::warn!(task.id = %"t_of_this_test", offset = 7, table = "shop.orders", retry = true, "late");
            let long = "é".repeat(TEXT_MAX);
            tracing::error!(task.id = %"t_of_this_test", long, "end");
        });
        let mut mine = Vec::new();
        while let Ok(line) = lines.try_recv() {
            if line.task == "t_of_this_test" {
                mine.push(line);
            }
        }
        let [late, end] = mine.as_slice() else { panic!("{mine:?}") };
        assert_eq!((late.level, late.message.as_str()), (LogLevel::Warn, "late"));
        assert_eq!(
            Value::Object(late.fields.clone()),
            serde_json::json!({"offset": 7, "table": "shop.orders", "retry": true})
        );
        assert_eq!(end.level, LogLevel::Error);
        assert!(end.fields["long"].as_str().unwrap().len() <= TEXT_MAX + 3);
    }
}

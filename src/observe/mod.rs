//! Looks at every task every ten seconds: keeps its figures for charts, and raises and ends alerts.
//!
//! It only reads what workers count and the store knows. Whatever goes wrong here is logged and leaves the tasks alone; one look
//! is one reading and at most two transactions for all tasks together.

pub mod diagnosis;
pub mod figures;
pub mod lines;
pub mod measure;
pub mod notify;
pub mod rule;
pub mod series;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use self::measure::{Sampler, Subject};
use self::rule::{Breach, Facts};
use crate::engine::registry::Registry;
use crate::error::Result;
use crate::model::TaskId;
use crate::store::alerts::{AlertChange, AlertEvent, AlertRow, AlertState, RuleRow};
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::store::{Store, now_ms};

/// Tasks read at a time.
const PAGE: u32 = 500;
const RULES: u32 = 10_000;

/// See the module.
#[derive(Debug)]
pub struct Observer {
    store: Store,
    registry: Arc<Registry>,
    /// Calls who tells webhooks.
    told: Arc<Notify>,
    state: Mutex<State>,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    sampler: Sampler,
    /// Since when a task breaks a rule for which it is not yet long enough.
    breaks: HashMap<(String, TaskId), i64>,
}

/// A task as rules see it.
struct Looked {
    row: TaskRow,
    facts: Facts,
}

impl Observer {
    pub fn new(store: Store, registry: Arc<Registry>, told: Arc<Notify>) -> Self {
        Self { store, registry, told, state: Mutex::default(), end: CancellationToken::new() }
    }

    /// No look begins after this.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Looks at whole multiples of ten seconds until [`Observer::end`].
    pub async fn run(&self) {
        let [finest, ..] = series::TIERS;
        let every = finest.step_s * 1000;
        loop {
            let wait = every - now_ms().rem_euclid(every);
            tokio::select! {
                () = self.end.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(wait.cast_unsigned())) => {}
            }
            if let Err(error) = self.look(now_ms()).await {
                tracing::error!(%error, "tasks could not be looked at; trying again");
            }
        }
    }

    /// One look at this time: a sample of every task, and what it means for alerts.
    pub async fn look(&self, now_ms: i64) -> Result<()> {
        let mut state = self.state.lock().await;
        let [finest, ..] = series::TIERS;
        let at_s = now_ms.div_euclid(1000 * finest.step_s) * finest.step_s;
        let (mut samples, mut looked) = (Vec::new(), Vec::new());
        let mut after = String::new();
        loop {
            let rows = self.store.tasks_page(&after, &TaskFilter::default(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id.0.clone();
            let ids: Vec<_> = rows.iter().map(|row| &row.id).collect();
            let checkpoints = self.store.checkpoint_views(&ids).await?;
            let aside = self.store.table_states(&ids).await?;
            let letters = self.store.letter_counts(&ids).await?;
            for row in rows {
                let seen = self.registry.seen(&row.id);
                let subject = Subject {
                    row: &row,
                    checkpoint: checkpoints.get(&row.id),
                    seen: seen.as_ref(),
                    aside: aside.get(&row.id).map_or(&[][..], Vec::as_slice),
                    dead_letters: letters.get(&row.id).map_or(0, |(open, _)| open.unsigned_abs()),
                };
                let measured = state.sampler.measure(subject, now_ms);
                if let Some(sample) = measured.sample {
                    samples.push((row.id.clone(), sample));
                }
                looked.push(Looked { row, facts: measured.facts });
            }
        }
        let known: HashSet<&TaskId> = looked.iter().map(|look| &look.row.id).collect();
        state.sampler.keep(|task| known.contains(task));
        let rules = self.store.alert_rules_after("", RULES).await?;
        let firing = self.store.firing_alerts().await?;
        let changes = judge(&rules, &looked, firing, &mut state.breaks, now_ms);
        self.store.add_samples(at_s, &samples).await?;
        if !changes.is_empty() {
            let labels: HashMap<&TaskId, _> =
                looked.iter().map(|look| (&look.row.id, &look.row.spec.labels)).collect();
            let body = |alert: &AlertRow, event| {
                message(Some(alert), event, labels.get(&alert.task_id).map(|labels| json!(labels)))
            };
            self.store.change_alerts(&changes, now_ms, body).await?;
            self.told.notify_one();
        }
        Ok(())
    }
}

/// What begins, goes on for so long that it is told again, or is over.
fn judge(
    rules: &[RuleRow],
    looked: &[Looked],
    firing: Vec<AlertRow>,
    breaks: &mut HashMap<(String, TaskId), i64>,
    now_ms: i64,
) -> Vec<AlertChange> {
    let mut firing: HashMap<(String, TaskId), AlertRow> =
        firing.into_iter().map(|alert| ((alert.rule.clone(), alert.task_id.clone()), alert)).collect();
    let mut changes = Vec::new();
    let mut still = HashMap::new();
    for rule in rules.iter().filter(|rule| rule.rule.enabled) {
        for look in looked.iter().filter(|look| rule.rule.covers(&look.row.spec.labels)) {
            let key = (rule.name.clone(), look.row.id.clone());
            let Some(breach) = rule.rule.judge(&look.facts) else { continue };
            let tell = rule.rule.url.is_some();
            if let Some(alert) = firing.remove(&key) {
                let due =
                    rule.rule.repeat_ms.is_some_and(|every| now_ms - alert.told_at >= every.cast_signed());
                if due {
                    changes.push(AlertChange::Repeat { alert: AlertRow { breach, ..alert }, tell });
                }
                continue;
            }
            let since = breaks.get(&key).copied().unwrap_or(now_ms);
            if now_ms - since >= rule.rule.for_ms.cast_signed() {
                changes.push(AlertChange::Fire { alert: fired(rule, look, breach, since), tell });
            } else {
                still.insert(key, since);
            }
        }
    }
    *breaks = still;
    // What is left no longer breaks its rule, or rule or task are gone.
    for ((name, _), alert) in firing {
        let rule = rules.iter().find(|rule| rule.name == name).map(|rule| &rule.rule);
        let tell = rule.is_some_and(|rule| rule.enabled && rule.recovered && rule.url.is_some());
        changes.push(AlertChange::Resolve { alert, tell });
    }
    changes
}

fn fired(rule: &RuleRow, look: &Looked, breach: Breach, since: i64) -> AlertRow {
    AlertRow {
        id: 0,
        rule: rule.name.clone(),
        kind: rule.rule.kind,
        task_id: look.row.id.clone(),
        task_name: look.row.name().to_owned(),
        state: AlertState::Firing,
        since,
        resolved_at: None,
        breach,
        told_at: since,
    }
}

/// What a webhook gets. `alert` is null in a test.
pub fn message(alert: Option<&AlertRow>, event: AlertEvent, labels: Option<serde_json::Value>) -> String {
    let time = |ms: i64| {
        chrono::DateTime::<chrono::Utc>::from_timestamp_millis(ms)
            .unwrap_or_default()
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    };
    let alert = alert.map(|alert| {
        json!({
            "id": alert.id, "rule": alert.rule, "kind": alert.kind.as_str(),
            "task_id": alert.task_id.0, "task_name": alert.task_name, "labels": labels,
            "since": time(alert.since), "value": alert.breach.value, "threshold": alert.breach.threshold,
            "unit": alert.kind.unit(), "detail": alert.breach.detail,
        })
    });
    json!({
        "event": event.as_str(), "at": time(now_ms()), "alert": alert,
        "text": match &alert {
            Some(alert) => format!("[{}] {}: {}", event.as_str(),
                alert["task_name"].as_str().unwrap_or_default(), alert["detail"].as_str().unwrap_or_default()),
            None => "a test: alerts of this rule come here".to_owned(),
        },
    })
    .to_string()
}

//! How a task is: its health, and the conditions behind it.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339;
use crate::engine::progress::{Phase, Progress};
use crate::error::ErrorKind;
use crate::store::tasks::TaskRow;
use crate::store::{LossyTotal, TableState};
use crate::task::standing::Standing;
use crate::task::status::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Ok,
    /// It works, not as it should: retrying, or a table is stopped.
    Degraded,
    /// It waits for something outside: a locked target.
    Blocked,
    Failed,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "ok" => Some(Self::Ok),
            "degraded" => Some(Self::Degraded),
            "blocked" => Some(Self::Blocked),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Something that keeps a task from being well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Condition {
    /// retrying, target_locked, table_stopped, table_retrying, dead_letters, retention_short, source_idle_unknown, late_transactions,
    /// lossy_values; more may come.
    pub r#type: &'static str,
    #[schema(format = DateTime)]
    pub since: Option<String>,
    pub object: Option<String>,
    pub attempt: Option<u32>,
    #[schema(format = DateTime)]
    pub retry_at: Option<String>,
    pub detail: String,
    pub hint: Option<String>,
}

/// Says that values were changed to fit the target. Known, asked for, and yet not to be forgotten.
pub fn lossy_condition(totals: &[LossyTotal]) -> Option<Condition> {
    if totals.is_empty() {
        return None;
    }
    let parts: Vec<_> = totals
        .iter()
        .map(|total| {
            let columns = if total.columns == 1 { "column" } else { "columns" };
            format!("{} by {} in {} {columns}", total.count, total.rule.as_str(), total.columns)
        })
        .collect();
    Some(Condition {
        r#type: "lossy_values",
        since: None,
        object: None,
        attempt: None,
        retry_at: None,
        detail: format!("values that the target does not have as the source has them: {}", parts.join(", ")),
        hint: Some(
            "the tables of the task tell the columns; the spec's lossy policies tell what else can be done"
                .to_owned(),
        ),
    })
}

/// Says that row changes wait for a person.
pub fn letters_condition(open: i64, since: i64) -> Condition {
    let rows = if open == 1 { "row change" } else { "row changes" };
    Condition {
        r#type: "dead_letters",
        since: Some(rfc3339(since)),
        object: None,
        attempt: None,
        retry_at: None,
        detail: format!("{open} {rows} that the target refused are set aside"),
        hint: Some("see /dead-letters of the task: cure the cause, then retry or discard them".to_owned()),
    }
}

/// What keeps a task from being well, from its state and the counters of its run.
pub fn conditions(row: &TaskRow, progress: Option<&Progress>, aside: &[TableState]) -> Vec<Condition> {
    let mut found = Vec::new();
    let plain = |r#type, detail: String, hint: Option<String>| Condition {
        r#type,
        since: None,
        object: None,
        attempt: None,
        retry_at: None,
        detail,
        hint,
    };
    if let (Some(retry), Some(error)) = (&row.retry, &row.last_error) {
        let locked = error.kind == ErrorKind::TargetLocked;
        found.push(Condition {
            since: Some(rfc3339(retry.since_ms)),
            object: error.object.clone(),
            attempt: Some(retry.attempt),
            retry_at: Some(rfc3339(retry.retry_at_ms)),
            ..plain(
                if locked { "target_locked" } else { "retrying" },
                error.message.clone(),
                Some(error.cure()),
            )
        });
    }
    for state in aside {
        let (r#type, error) = match &state.standing {
            Standing::Stopped { error } => ("table_stopped", error),
            Standing::Resync { error: Some(error), .. } => ("table_retrying", error),
            _ => continue,
        };
        found.push(Condition {
            since: Some(rfc3339(state.since_ms)),
            object: Some(state.name.to_string()),
            ..plain(r#type, error.to_string(), error.hint.clone())
        });
    }
    let incremental = row.phase == Some(Phase::Incremental) && row.status == Status::Running;
    if incremental && row.spec.source.tidb.is_none() {
        let detail =
            "without a tidb connection an idle source cannot be told from a stopped Drainer".to_owned();
        found.push(plain(
            "source_idle_unknown",
            detail,
            Some("name a tidb connection in source.tidb".to_owned()),
        ));
    }
    let Some(progress) = progress else { return found };
    if let (Some(start), Some(next)) = (progress.start_offset(), progress.next_offset())
        && start > next
    {
        let detail = format!("the topic begins at offset {start}; the task stands at {next}");
        found.push(plain(
            "retention_short",
            detail,
            Some("lengthen the topic's retention; copy the tables anew".to_owned()),
        ));
    }
    let late = progress.late_transactions.load(Ordering::Relaxed);
    if late > 0 {
        let detail =
            format!("{late} transactions of this run came after newer ones and were applied with care");
        found.push(plain("late_transactions", detail, None));
    }
    found
}

pub fn health(row: &TaskRow, conditions: &[Condition]) -> Health {
    let has = |wanted: &str| conditions.iter().any(|condition| condition.r#type == wanted);
    if row.status == Status::Failed {
        Health::Failed
    } else if has("target_locked") || has("retention_short") {
        Health::Blocked
    } else if ["retrying", "table_stopped", "table_retrying", "dead_letters"].into_iter().any(has) {
        Health::Degraded
    } else {
        Health::Ok
    }
}

//! Which tasks are meant: by a list's parameters, or by the selection of a command.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::health::Health;
use super::problem::Problem;
use super::request::{PAGE_MAX, Params};
use super::task_view::Task;
use crate::engine::progress::Phase;
use crate::service::Service;
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::task::fault::Fault;
use crate::task::status::Status;

/// What tasks are narrowed to. The store does its part, health is judged here.
#[derive(Debug, Default)]
pub struct Filter {
    pub stored: TaskFilter,
    pub health: Option<Health>,
}

/// A label as a parameter has it: `key` or `key=value`.
fn label(text: String) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text, None),
    }
}

impl Filter {
    pub fn take(params: &mut Params) -> Self {
        let words: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        let status = params.parsed("status", &format!("one of {}", words.join(", ")), Status::parse);
        let phase = params.parsed("phase", "one of precheck, schema, full, incremental", |text| match text {
            "precheck" => Some(Phase::Precheck),
            "schema" => Some(Phase::Schema),
            "full" => Some(Phase::Full),
            "incremental" => Some(Phase::Incremental),
            _ => None,
        });
        let health = params.parsed("health", "one of ok, degraded, blocked, failed", Health::parse);
        let stored = TaskFilter {
            status: status.into_iter().collect(),
            phase,
            labels: std::iter::from_fn(|| params.text("label")).map(label).collect(),
            name_prefix: params.text("name_prefix").unwrap_or_default(),
            names: None,
        };
        Self { stored, health }
    }

    /// Tasks in the order of their creation, after the given id: one more than `limit` when there are more.
    pub async fn page(&self, service: &Service, after: String, limit: u32) -> Result<Vec<TaskRow>, Problem> {
        let mut after = after;
        let mut rows = Vec::new();
        while rows.len() <= limit as usize {
            let batch = service.store.tasks_page(&after, &self.stored, limit + 1).await?;
            let Some(last) = batch.last() else { break };
            after.clone_from(&last.id.0);
            let is_last = batch.len() <= limit as usize;
            match self.health {
                None => rows.extend(batch),
                Some(wanted) => {
                    let ids: Vec<_> = batch.iter().map(|row| &row.id).collect();
                    let aside = service.store.table_states(&ids).await?;
                    let aside = |row: &TaskRow| aside.get(&row.id).map_or(&[][..], Vec::as_slice);
                    let letters = service.store.letter_counts(&ids).await?;
                    let letters = |row: &TaskRow| letters.get(&row.id).copied();
                    let fits =
                        |row: &TaskRow| Task::health_of(service, row, aside(row), letters(row)) == wanted;
                    rows.extend(batch.into_iter().filter(fits));
                }
            }
            if is_last {
                break;
            }
        }
        Ok(rows)
    }

    /// All of them.
    pub async fn all(&self, service: &Service) -> Result<Vec<TaskRow>, Problem> {
        let mut rows: Vec<TaskRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.id.0.clone()).unwrap_or_default();
            let mut page = self.page(service, after, PAGE_MAX).await?;
            let more = page.len() > PAGE_MAX as usize;
            page.truncate(PAGE_MAX as usize);
            rows.append(&mut page);
            if !more {
                return Ok(rows);
            }
        }
    }
}

/// Tasks by what they are. Everything that is named must hold; `{}` selects nothing, so that no command is given to all by mistake.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// true = every task that the other fields leave; needed where there are none.
    pub all: bool,
    /// Ids or names.
    pub names: Option<Vec<String>>,
    /// Labels with their values; null = any value.
    pub labels: BTreeMap<String, Option<String>>,
    /// One of these.
    pub status: Vec<Status>,
    pub phase: Option<Phase>,
    pub health: Option<Health>,
    pub name_prefix: Option<String>,
}

impl Select {
    pub fn faults(&self) -> Option<Fault> {
        let empty = !self.all
            && self.names.is_none()
            && self.labels.is_empty()
            && self.status.is_empty()
            && self.phase.is_none()
            && self.health.is_none()
            && self.name_prefix.is_none();
        let detail = "names nothing: say {\"all\": true} to mean every task";
        empty.then(|| Fault::new("/select", "empty", detail))
    }

    pub fn filter(&self) -> Filter {
        let stored = TaskFilter {
            status: self.status.clone(),
            phase: self.phase,
            labels: self.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            name_prefix: self.name_prefix.clone().unwrap_or_default(),
            names: self.names.clone(),
        };
        Filter { stored, health: self.health }
    }
}

//! Which tasks are meant: by a list's parameters, or by the selection of a command.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::health::{CONDITIONS, Condition, Health};
use super::problem::Problem;
use super::request::{PAGE_MAX, Params};
use super::task_view::Beside;
use crate::engine::progress::Phase;
use crate::service::Service;
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::task::fault::Fault;
use crate::task::status::Status;

/// What tasks are narrowed to. The store does its part, health and conditions are judged here.
#[derive(Debug, Default)]
pub struct Filter {
    pub stored: TaskFilter,
    pub health: Option<Health>,
    /// Type of a condition.
    pub condition: Option<&'static str>,
}

fn condition(word: &str) -> Option<&'static str> {
    CONDITIONS.into_iter().find(|known| *known == word)
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
        let known = format!("one of {}", CONDITIONS.join(", "));
        let condition = params.parsed("condition", &known, condition);
        let stored = TaskFilter {
            status: status.into_iter().collect(),
            phase,
            labels: std::iter::from_fn(|| params.text("label")).map(label).collect(),
            name_prefix: params.text("name_prefix").unwrap_or_default(),
            names: None,
        };
        Self { stored, health, condition }
    }

    fn takes(&self, (health, conditions): &(Health, Vec<Condition>)) -> bool {
        self.health.is_none_or(|wanted| wanted == *health)
            && self.condition.is_none_or(|wanted| conditions.iter().any(|found| found.r#type == wanted))
    }

    /// Tasks in the order of their creation, after the given id: one more than `limit` when there are more. With them what was
    /// read to judge them, if it was.
    pub async fn page(
        &self,
        service: &Service,
        after: String,
        limit: u32,
    ) -> Result<(Vec<TaskRow>, Option<Beside>), Problem> {
        let mut after = after;
        let mut rows = Vec::new();
        let mut judged: Option<Beside> = None;
        while rows.len() <= limit as usize {
            let batch = service.store.tasks_page(&after, &self.stored, limit + 1).await?;
            let Some(last) = batch.last() else { break };
            after.clone_from(&last.id.0);
            let is_last = batch.len() <= limit as usize;
            if self.health.is_none() && self.condition.is_none() {
                rows.extend(batch);
            } else {
                let beside = Beside::of(service, &batch).await?;
                let fits =
                    |row: &TaskRow| self.takes(&beside.judge(row, service.registry.seen(&row.id).as_ref()));
                rows.extend(batch.into_iter().filter(fits));
                judged.get_or_insert_default().extend(beside);
            }
            if is_last {
                break;
            }
        }
        Ok((rows, judged))
    }

    /// All of them.
    pub async fn all(&self, service: &Service) -> Result<Vec<TaskRow>, Problem> {
        let mut rows: Vec<TaskRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.id.0.clone()).unwrap_or_default();
            let (mut page, _) = self.page(service, after, PAGE_MAX).await?;
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
    /// Type of a condition that the task has.
    pub condition: Option<String>,
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
            && self.condition.is_none()
            && self.name_prefix.is_none();
        let detail = "names nothing: say {\"all\": true} to mean every task";
        let unknown = self.condition.as_deref().filter(|word| condition(word).is_none());
        empty.then(|| Fault::new("/select", "empty", detail)).or_else(|| {
            unknown.map(|_| {
                Fault::new("/select/condition", "invalid", format!("one of {}", CONDITIONS.join(", ")))
            })
        })
    }

    pub fn filter(&self) -> Filter {
        let stored = TaskFilter {
            status: self.status.clone(),
            phase: self.phase,
            labels: self.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            name_prefix: self.name_prefix.clone().unwrap_or_default(),
            names: self.names.clone(),
        };
        Filter { stored, health: self.health, condition: self.condition.as_deref().and_then(condition) }
    }
}

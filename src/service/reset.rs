//! Reset: a task becomes what it was before its first start, and says what becomes of the tables that it made on the target.
//!
//! A table is the task's own when the task itself created it: where it was not there right before, or by a DDL of the stream, or
//! as the new copy of a resync. Nothing else on the target is ever touched.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::changed_meanwhile;
use super::{Answer, Service};
use crate::engine::reset;
use crate::incremental::catalog::{Entry, TableEntry};
use crate::incremental::resync::shadow_name;
use crate::model::TableName;
use crate::store::connections::ConnectionRow;
use crate::store::tasks::{TaskFilter, TaskRow};
use crate::store::{OwnState, OwnTable};
use crate::task::connection::ConnectionSettings;
use crate::task::selection::Selection;
use crate::task::status::Status;
use crate::{adb, crash, error::Error};

/// Where a reset means something.
const RESET_FROM: &[Status] = &[Status::Paused, Status::Failed, Status::Stopped, Status::Finished];

/// What becomes of the tables that the task made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetTables {
    /// They stay as they are; `existing_tables` decides about them as about tables of anybody.
    #[default]
    Keep,
    /// They are emptied, and the next start uses them.
    Truncate,
    Drop,
}

/// A task after its reset.
#[derive(Debug)]
pub struct Reset {
    pub task: TaskRow,
    /// What happens, in words.
    pub effects: Vec<String>,
}

impl Service {
    /// Resets a task. With `dry_run` nothing is done.
    pub async fn reset_task(&self, id_or_name: &str, tables: TargetTables, dry_run: bool) -> Answer<Reset> {
        let task = self.standing_task(id_or_name, "reset", RESET_FROM).await?;
        let mut effects = vec![
            "checkpoint, catalog, DDL record, chunks and counts are forgotten; the spec and the events stay"
                .to_owned(),
        ];
        let mut own = Vec::new();
        if tables != TargetTables::Keep {
            let shared = self.tables_of_others(&task).await?;
            for (name, made) in self.target_tables(&task).await? {
                let word = if tables == TargetTables::Drop { "drop" } else { "truncate" };
                if !made {
                    effects.push(format!("{name} stays as it is: the task did not make it"));
                } else if shared.contains(&name) {
                    effects.push(format!("{name} stays as it is: another task writes to it"));
                } else {
                    effects.push(format!("{word} {name} on the target"));
                    let state =
                        if tables == TargetTables::Drop { OwnState::Drop } else { OwnState::Truncate };
                    own.push(OwnTable { name, state });
                }
            }
        }
        if dry_run {
            return Ok(Reset { task, effects });
        }
        let endpoints = if own.is_empty() {
            None
        } else {
            // Before anything is changed: a target that cannot be reached refuses the reset as a whole.
            let endpoints = self.endpoints(&task).await?;
            adb::connect(&endpoints.target, endpoints.dialect).await?.close().await;
            Some(endpoints)
        };
        // Copies of resyncs that never came to their end.
        let shadows: Vec<OwnTable> = own
            .iter()
            .map(|own| OwnTable { name: shadow_name(&task.id.0, &own.name), state: OwnState::Drop })
            .collect();
        let detail = json!({
            "command": "reset",
            "status": task.status.as_str(),
            "target_tables": own.iter().map(|own| own.name.to_string()).collect::<Vec<_>>(),
        });
        own.extend(shadows);
        if !self.store.reset_task(&task, &own, None, &detail).await? {
            return Err(changed_meanwhile("the task"));
        }
        crash::point("reset.saved");
        self.registry.forget(&task.id);
        self.registry.announce();
        tracing::info!(task.id = %task.id, "task reset");
        if let Some(endpoints) = endpoints {
            // What fails here is on record: the next start does it first.
            let (target, dialect) = (&endpoints.target, endpoints.dialect);
            reset::finish(target, dialect, &self.store, &task.id, task.epoch).await?;
        }
        Ok(Reset { task: self.task(&task.id.0).await?, effects })
    }

    /// Tables of the target that the task writes to, and whether it made them.
    async fn target_tables(&self, task: &TaskRow) -> Answer<BTreeMap<TableName, bool>> {
        let mut tables = BTreeMap::new();
        for entry in self.entries(task).await?.values().filter(|entry| !entry.ignored) {
            let selection = Selection::new(&task.spec).map_err(super::Refusal::Invalid)?;
            if selection.selects(&entry.table.name) {
                *tables.entry(selection.target(&entry.table.name)).or_insert(false) |= entry.made;
            }
        }
        // Made in the schema phase, which is not through: the catalog does not tell yet.
        if tables.is_empty() {
            for own in self.store.own_tables(&task.id).await? {
                tables.insert(own.name, own.state != OwnState::Making);
            }
        }
        Ok(tables)
    }

    async fn entries(&self, task: &TaskRow) -> Answer<BTreeMap<TableName, TableEntry>> {
        let (_, versions) = self.store.catalog(&task.id).await?;
        let mut entries = BTreeMap::new();
        for version in versions {
            if let Entry::Table(entry) = serde_json::from_str(&version.definition).map_err(Error::internal)? {
                entries.insert(version.key, *entry);
            }
        }
        Ok(entries)
    }

    /// Tables of the same target server that other tasks write to.
    async fn tables_of_others(&self, task: &TaskRow) -> Answer<HashSet<TableName>> {
        let address = |row: &Option<ConnectionRow>| match row.as_ref().map(|row| &row.settings) {
            Some(ConnectionSettings::Mysql(settings)) => Some((settings.host.clone(), settings.port)),
            _ => None,
        };
        let here = address(&self.store.connection(&task.spec.target).await?);
        let mut found = HashSet::new();
        let mut after = String::new();
        loop {
            let others = self.store.tasks_page(&after, &TaskFilter::default(), 500).await?;
            let Some(last) = others.last() else { return Ok(found) };
            after.clone_from(&last.id.0);
            for other in others.iter().filter(|other| other.id != task.id) {
                if address(&self.store.connection(&other.spec.target).await?) == here {
                    found.extend(self.target_tables(other).await?.into_keys());
                }
            }
        }
    }
}

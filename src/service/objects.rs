//! The tables of a task that has begun: what another selection does to them, said before it happens.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::connections::ENDPOINT_PATIENCE;
use super::specs::Changed;
use super::tasks::catalog_now;
use super::{Answer, Refusal, Service};
use crate::error::{Endpoint, Error, ErrorKind};
use crate::model::{Dialect, TableName};
use crate::precheck;
use crate::store::TableState;
use crate::store::tasks::TaskRow;
use crate::task::fault::{Fault, child};
use crate::task::objects::quoted;
use crate::task::selection::Selection;
use crate::task::spec::{ExistingTables, Spec, TablesWithoutKey};
use crate::task::standing::Standing;
use crate::task::status::Status;
use crate::task::turn::{Turn, turn};
use crate::tidb::Source;

/// Time between two looks at whether the tables are there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableAction {
    /// It comes to the task: copied beside the stream, caught up, merged in. The others go on.
    Copy,
    /// It is copied again beside the stream, by its new rules, and takes its own place.
    CopyAgain,
    /// It is no longer followed; its data stays.
    Remove,
}

/// What becomes of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TableTurn {
    pub schema: String,
    pub table: String,
    pub action: TableAction,
    pub why: String,
}

impl TableTurn {
    fn new(name: &TableName, action: TableAction, why: impl Into<String>) -> Self {
        Self { schema: name.schema.clone(), table: name.table.clone(), action, why: why.into() }
    }

    pub fn name(&self) -> TableName {
        TableName::new(&self.schema, &self.table)
    }
}

impl Service {
    /// What `spec` means for the tables of a task that has begun.
    ///
    /// # Errors
    /// Tables that cannot be copied, each with its cause; an endpoint that has to be asked and does not answer.
    pub async fn table_turns(&self, task: &TaskRow, spec: &Spec) -> Answer<Vec<TableTurn>> {
        let known = self.store.known_tables(&task.id).await?;
        if known.is_empty() && task.phase.is_none() {
            return Ok(Vec::new());
        }
        let known: Vec<TableName> =
            known.into_iter().map(|(schema, table)| TableName::new(schema, table)).collect();
        let (old, new) = (
            Selection::new(&task.spec).map_err(Refusal::Invalid)?,
            Selection::new(spec).map_err(Refusal::Invalid)?,
        );
        let mut turns = Vec::new();
        let mut places: Vec<TableName> = Vec::new();
        for name in &known {
            match turn(&old, &new, name) {
                None => {}
                Some(Turn::Goes) => turns.push(TableTurn::new(
                    name,
                    TableAction::Remove,
                    format!("no longer selected; {} stays as it is", old.target(name)),
                )),
                Some(Turn::Comes) => {
                    places.push(name.clone());
                    turns.push(TableTurn::new(name, TableAction::Copy, "selected now"));
                }
                Some(Turn::Again { why, moved }) => {
                    if moved {
                        places.push(name.clone());
                    }
                    turns.push(TableTurn::new(name, TableAction::CopyAgain, why));
                }
            }
        }
        let before = &task.spec.objects;
        let narrower = spec.objects.include.iter().all(|text| before.include.contains(text))
            && before.exclude.iter().all(|text| spec.objects.exclude.contains(text));
        let copies = turns.iter().any(|turn| turn.action != TableAction::Remove);
        if copies || !narrower {
            self.can_copy(task)?;
        }
        if !narrower {
            let found = self.source_tables(task).await?;
            missing(spec, &new, &old, &found)?;
            let keys: HashSet<TableName> = known.iter().map(TableName::key).collect();
            for name in found.iter().filter(|name| !keys.contains(&name.key())) {
                if turn(&old, &new, name) == Some(Turn::Comes) {
                    places.push(name.clone());
                    turns.push(TableTurn::new(name, TableAction::Copy, "selected now"));
                }
            }
        }
        if spec.existing_tables != ExistingTables::Replace {
            self.places_are_free(task, &new, &places).await?;
        }
        self.target_holds(task, spec, &turns).await?;
        turns.sort_by_key(TableTurn::name);
        Ok(turns)
    }

    /// Tables of a running task are copied from TiDB, beside a stream that they join.
    fn can_copy(&self, task: &TaskRow) -> Answer<()> {
        let why = if task.spec.merge.is_some() {
            "its tables are merged into one, and one of them cannot be copied alone"
        } else if task.spec.source.tidb.is_none() {
            "it has no tidb connection in source.tidb to copy from"
        } else if !task.spec.phases.incremental {
            "it follows no stream that they could join"
        } else {
            return Ok(());
        };
        let detail = format!("tables cannot be added to this task after its start: {why}; make another task");
        Err(Refusal::Locked { faults: vec![Fault::new("/objects", "locked", detail)], status: task.status })
    }

    async fn source_tables(&self, task: &TaskRow) -> Answer<Vec<TableName>> {
        let Some(source) = self.endpoints(task).await?.source else { return Ok(Vec::new()) };
        let tables = bounded(precheck::catalog_mysql(&source, Endpoint::Source, None)).await?;
        let tables = tables.into_iter().filter(|table| table.kind == "table");
        Ok(tables.map(|table| TableName::new(table.schema, table.table)).collect())
    }

    /// A table of the target that is not the task's is not copied over.
    async fn places_are_free(&self, task: &TaskRow, new: &Selection, comes: &[TableName]) -> Answer<()> {
        if comes.is_empty() {
            return Ok(());
        }
        let endpoints = self.endpoints(task).await?;
        let folded = endpoints.dialect == Dialect::Adb;
        let key = |name: &TableName| if folded { name.key() } else { name.clone() };
        let schemas: BTreeSet<String> = comes.iter().map(|name| new.target(name).schema).collect();
        let mut there = HashSet::new();
        for schema in schemas {
            let tables = precheck::catalog_mysql(&endpoints.target, Endpoint::Target, Some(&schema));
            match tokio::time::timeout(ENDPOINT_PATIENCE, tables).await {
                Ok(Ok(tables)) => there
                    .extend(tables.into_iter().map(|table| key(&TableName::new(table.schema, table.table)))),
                Ok(Err(error)) if error.kind == ErrorKind::Missing => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(super::connections::too_slow()),
            }
        }
        let states = self.removed(task).await?;
        let mut faults = Vec::new();
        for name in comes {
            let place = new.target(name);
            let is_ours = matches!(states.get(&name.key()), Some(Standing::Removed { place: Some(of) }) if *of == place);
            if there.contains(&key(&place)) && !is_ours {
                let detail = format!(
                    "the target has a table {place} already, and it is not this task's: rename or drop it there, or give {name} another target"
                );
                faults.push(Fault::new(child("/objects/tables", quoted(name)), "exists", detail));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
    }

    /// That the target can hold the tables that are to be copied, by their rules.
    async fn target_holds(&self, task: &TaskRow, spec: &Spec, turns: &[TableTurn]) -> Answer<()> {
        let copied: HashSet<TableName> = turns
            .iter()
            .filter(|turn| turn.action != TableAction::Remove)
            .map(|turn| turn.name().key())
            .collect();
        let endpoints = self.endpoints(task).await?;
        let Some(source) = endpoints.source.clone().filter(|_| !copied.is_empty()) else { return Ok(()) };
        let source = Source::new(source);
        let catalog = catalog_now(spec, &endpoints, &source, |name| copied.contains(&name.key()));
        let catalog = tokio::time::timeout(ENDPOINT_PATIENCE, catalog)
            .await
            .map_err(|_| super::connections::too_slow())??;
        let mut faults = Vec::new();
        for entry in catalog.live() {
            let name = &entry.table.name;
            let detail = match catalog.target(entry) {
                Err(error) => format!("{error}; {}", error.cure()),
                Ok(target)
                    if target.identity.is_none() && spec.tables_without_key == TablesWithoutKey::Refuse =>
                {
                    format!("{name} has no key that identifies a row: give it one, or leave it out")
                }
                Ok(_) => continue,
            };
            faults.push(Fault::new(child("/objects/tables", quoted(name)), "invalid", detail));
        }
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
    }

    async fn removed(&self, task: &TaskRow) -> Answer<HashMap<TableName, Standing>> {
        let states = self.store.table_states(&[&task.id]).await?.remove(&task.id).unwrap_or_default();
        Ok(states.into_iter().map(|TableState { name, standing, .. }| (name.key(), standing)).collect())
    }

    /// Waits until a running task has taken up what was changed of its tables, at most `wait`.
    pub async fn tables_turned(&self, changed: &Changed, wait: Duration) -> Answer<(TaskRow, bool)> {
        let deadline = tokio::time::Instant::now() + wait;
        let wanted = &changed.task;
        loop {
            let task = self.task(&wanted.id.0).await?;
            let taken = task.applied_spec_version >= Some(wanted.spec_version);
            let states = self.removed(&task).await?;
            let is_under_way = |turn: &TableTurn| {
                turn.action != TableAction::Remove
                    && matches!(
                        states.get(&turn.name().key()),
                        Some(Standing::Resync { .. } | Standing::Swapping { .. })
                    )
            };
            let reached = taken && !changed.tables.iter().any(is_under_way);
            let is_stopped =
                |turn: &TableTurn| matches!(states.get(&turn.name().key()), Some(Standing::Stopped { .. }));
            if reached && changed.tables.iter().any(is_stopped) {
                return Ok((task, false));
            }
            if reached || wait.is_zero() || task.status != Status::Running {
                if !wait.is_zero() && task.status == Status::Failed {
                    return Err(Refusal::TaskFailed(Box::new(task)));
                }
                return Ok((task, reached));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = tokio::time::sleep_until(deadline) => return Ok((task, false)),
                () = self.shutdown.cancelled() => return Ok((task, false)),
            }
        }
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Error>>) -> Answer<T> {
    match tokio::time::timeout(ENDPOINT_PATIENCE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(super::connections::too_slow()),
    }
}

/// A table that is named one by one must be there.
fn missing(spec: &Spec, new: &Selection, old: &Selection, found: &[TableName]) -> Answer<()> {
    let found: HashSet<TableName> = found.iter().map(TableName::key).collect();
    let gone = new.literals().filter(|key| !old.selects(key) && !found.contains(key));
    let faults: Vec<Fault> = gone
        .map(|key| {
            let place = spec.objects.include.iter().position(|text| {
                crate::task::pattern::TablePattern::parse(text)
                    .ok()
                    .and_then(|name| name.literal())
                    .is_some_and(|(schema, table)| TableName::new(schema, table).key() == *key)
            });
            let pointer = place.map_or("/objects/include".to_owned(), |at| child("/objects/include", at));
            Fault::new(
                pointer,
                "not_found",
                format!("the source has no table {key}, or its user may not see it"),
            )
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
}

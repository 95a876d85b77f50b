//! Commands for single tables of a task while the others go on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Answer, Refusal, Service};
use crate::model::TableName;
use crate::store::TableState;
use crate::store::tasks::TaskRow;
use crate::task::fault::Fault;
use crate::task::selection::Selection;
use crate::task::spec::Spec;
use crate::task::standing::{Standing, TableCommand, TableDecision, decide_table};
use crate::task::status::Status;

/// Time between two looks at whether the effect is reached.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The task's status in which its tables may be commanded.
const ALLOWED_FROM: &[Status] = &[Status::Running, Status::Pausing, Status::Paused, Status::Failed];

/// What became of a command.
#[derive(Debug)]
pub struct TablesAsked {
    pub task: TaskRow,
    /// Tables whose state it changes; the others are so already.
    pub changed: Vec<TableName>,
    /// The effect is there.
    pub reached: bool,
}

/// Why no table of the task can be copied again on its own.
fn not_copied_again(spec: &Spec) -> Option<&'static str> {
    if spec.merge.is_some() {
        Some("one table of a merge cannot be copied alone: begin again with a new task")
    } else if spec.source.tidb.is_none() {
        Some("that needs a tidb connection in source.tidb")
    } else {
        None
    }
}

impl Service {
    /// Asks for something of single tables and waits for its effect, at most `wait`.
    pub async fn ask_of_tables(
        &self,
        id_or_name: &str,
        command: TableCommand,
        tables: &[TableName],
        wait: Duration,
        dry_run: bool,
    ) -> Answer<TablesAsked> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let task = self.task(id_or_name).await?;
        if !ALLOWED_FROM.contains(&task.status) {
            let what = format!("{} of tables", command.as_str());
            return Err(Refusal::State { what, status: task.status, allowed_from: ALLOWED_FROM });
        }
        self.known(&task, tables).await?;
        if command != TableCommand::Skip
            && let Some(why) = not_copied_again(&task.spec)
        {
            let detail = format!("{} of tables ends with a new copy of them, and {why}", command.as_str());
            return Err(Refusal::Tables { detail, status: task.status });
        }
        let standings = self.standings(&task).await?;
        let asked: HashMap<TableName, TableCommand> =
            self.store.table_commands(&task.id).await?.into_iter().collect();
        let mut changed = Vec::new();
        for name in tables {
            let now = standings.get(&name.key()).map_or(Standing::Following, |state| state.standing.clone());
            // As it will be when what was asked before is done.
            let then = match asked.get(&name.key()).map(|before| decide_table(*before, &now)) {
                Some(TableDecision::Become(then)) => then,
                _ => now,
            };
            match decide_table(command, &then) {
                TableDecision::Nothing => {}
                TableDecision::Become(_) => changed.push(name.clone()),
                TableDecision::Refused => {
                    let (command, then) = (command.as_str(), then.as_str());
                    return Err(Refusal::Tables {
                        detail: format!("{command} of {name} is not possible while it is {then}"),
                        status: task.status,
                    });
                }
            }
        }
        if !dry_run && !changed.is_empty() {
            self.store.ask_of_tables(&task.id, command, &changed).await?;
            if let Some(seen) = self.registry.seen(&task.id) {
                seen.progress.ask();
            }
        }
        let deadline = tokio::time::Instant::now() + wait;
        let mut reached = changed.is_empty();
        while !reached && !dry_run && !wait.is_zero() {
            let over = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = tokio::time::sleep_until(deadline) => true,
                () = self.shutdown.cancelled() => true,
            };
            reached = self.are_reached(&task, command, tables).await?;
            if over || reached {
                break;
            }
            let now = self.task(&task.id.0).await?;
            if now.status == Status::Failed && task.status != Status::Failed {
                return Err(Refusal::TaskFailed(Box::new(now)));
            }
            let asked = self.store.table_commands(&task.id).await?;
            let newer = |(name, newer): &&(TableName, TableCommand)| {
                *newer != command && changed.iter().any(|asked| asked.key() == *name)
            };
            if let Some((name, newer)) = asked.iter().find(newer) {
                let detail = format!("{} of {name} was asked for since", newer.as_str());
                return Err(Refusal::Superseded { status: now.status, detail });
            }
        }
        Ok(TablesAsked { task: self.task(&task.id.0).await?, changed, reached })
    }

    async fn standings(&self, task: &TaskRow) -> Answer<HashMap<TableName, TableState>> {
        let states = self.store.table_states(&[&task.id]).await?.remove(&task.id).unwrap_or_default();
        Ok(states.into_iter().map(|state| (state.name.key(), state)).collect())
    }

    async fn are_reached(&self, task: &TaskRow, command: TableCommand, tables: &[TableName]) -> Answer<bool> {
        let waiting = self.store.table_commands(&task.id).await?;
        let standings = self.standings(task).await?;
        Ok(tables.iter().map(TableName::key).all(|key| {
            let standing = standings.get(&key).map_or(&Standing::Following, |state| &state.standing);
            !waiting.iter().any(|(name, _)| *name == key) && command.is_reached(standing)
        }))
    }

    /// Every table must be one of the task's.
    pub(super) async fn known(&self, task: &TaskRow, tables: &[TableName]) -> Answer<()> {
        let known: HashSet<TableName> = self
            .store
            .known_tables(&task.id)
            .await?
            .into_iter()
            .map(|(schema, table)| TableName::new(schema, table).key())
            .collect();
        let selection = Selection::new(&task.spec).map_err(Refusal::Invalid)?;
        let mut faults = Vec::new();
        if tables.is_empty() {
            faults.push(Fault::new("/tables", "empty", "name at least one table"));
        }
        for (at, name) in tables.iter().enumerate() {
            if !known.contains(&name.key()) || !selection.selects(name) {
                let detail = format!("the task has no table {name}");
                faults.push(Fault::new(format!("/tables/{at}"), "not_found", detail));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
    }
}

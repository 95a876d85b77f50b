//! From the rows of a message to the layout of their table, and into the batch.

use std::sync::Arc;

use super::{Stream, corrupt, text};
use crate::adb::encode::is_beyond_labels;
use crate::binlog::{ChangeSource, ColumnInfo, TableChange};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::incremental::batch::Place;
use crate::incremental::catalog::{Change, Resolved, TableEntry, Tracked};
use crate::incremental::layout::Layout;
use crate::incremental::letters;
use crate::model::{Dialect, Offset, TableName, Tso};
use crate::tidb;

/// Mutations between two looks at the batch's size within one message.
const LOOK_EVERY: u64 = 256;

/// Where the rows of a message table go.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Layout {
        layout: Arc<Layout>,
        /// Rows up to here are in the target.
        snapshot: Tso,
    },
    /// Not followed now.
    Aside(TableName),
    Skip,
}

impl<S: ChangeSource> Stream<S> {
    /// Folds the changes of one table entry; `nth` counts the message's changes.
    pub(super) async fn table(
        &mut self,
        table: &TableChange<'_>,
        offset: Offset,
        nth: &mut u64,
        commit_ts: Tso,
    ) -> Result<()> {
        let mut layout = match self.target(table, commit_ts).await? {
            Target::Layout { layout, snapshot } if commit_ts > snapshot => layout,
            target => {
                let passed = table.mutations().count() as u64;
                *nth += passed;
                if let Target::Aside(name) = target {
                    self.context.progress.table(&name, |counters| counters.changes_passed += passed);
                }
                return Ok(());
            }
        };
        let first = *nth;
        let mut slot = self.slot(&layout).await?;
        let mut until_look = LOOK_EVERY;
        for mutation in table.mutations() {
            let mutation = mutation.map_err(corrupt)?;
            let place = Place { offset: offset.0, nth: *nth };
            *nth += 1;
            let mut folded = self.batch.fold(slot, &mutation, place, commit_ts.physical_ms());
            while folded.as_ref().is_err_and(is_beyond_labels) && self.looks_for_labels(&layout.source) {
                let name = TableName::new(text(table.schema)?, text(table.table)?);
                if !self.look_ahead_for_labels(&name).await? {
                    self.unlabelled.insert(layout.source.clone());
                    slot = self.slot(&layout).await?;
                    break;
                }
                let Target::Layout { layout: newer, .. } = self.target(table, commit_ts).await? else {
                    // The DDL had the table set aside.
                    *nth = first + table.mutations().count() as u64;
                    return Ok(());
                };
                layout = newer;
                slot = self.slot(&layout).await?;
                folded = self.batch.fold(slot, &mutation, place, commit_ts.physical_ms());
            }
            if let Err(error) = folded {
                if self.sets_aside(&layout, &error) {
                    let letter = letters::letter(&layout, table, &mutation, (place, commit_ts), error)?;
                    self.batch.letters.push(letter);
                } else {
                    self.table_failed(&layout.source, error).await?;
                    // The places of what comes behind must be the same when the message is read again.
                    *nth = first + table.mutations().count() as u64;
                    break;
                }
            }
            until_look -= 1;
            if until_look == 0 {
                until_look = LOOK_EVERY;
                // A transaction larger than a batch goes out in parts; the position moves only after the last.
                if !self.has_room() {
                    if self.context.cancel.is_cancelled() {
                        // The position is still before this message.
                        return Err(Error::cancelled());
                    }
                    self.make_room().await?;
                    slot = self.slot(&layout).await?;
                }
            }
        }
        Ok(())
    }

    /// The DDL that added a label may lie behind the row; where it was not found it is not looked for again.
    fn looks_for_labels(&self, source: &TableName) -> bool {
        !self.side && !self.unlabelled.contains(source)
    }

    async fn slot(&mut self, layout: &Arc<Layout>) -> Result<usize> {
        if let Some(slot) = self.batch.slot(layout) {
            return Ok(slot);
        }
        self.flush().await?;
        self.batch.slot(layout).ok_or_else(|| Error::internal("an empty batch has no place for a table"))
    }

    async fn target(&mut self, table: &TableChange<'_>, commit_ts: Tso) -> Result<Target> {
        self.scratch.clear();
        for part in [table.schema, table.table, table.columns_bytes()] {
            self.scratch.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.scratch.extend_from_slice(part);
        }
        if let Some(target) = self.layouts.get(&self.scratch) {
            return Ok(target.clone());
        }
        let key = std::mem::take(&mut self.scratch);
        let name = TableName::new(text(table.schema)?, text(table.table)?);
        let mut resolved = self.resolve(&name).await?;
        if matches!(resolved, Resolved::Unknown) && self.adopt(&name, commit_ts, Some(table)).await? {
            resolved = self.resolve(&name).await?;
        }
        while !fits(&resolved, table)
            && !self.side
            && self.look_ahead(&name, matches!(resolved, Resolved::Dropped)).await?
        {
            resolved = self.resolve(&name).await?;
        }
        let mut lacking = lacking(&resolved, table);
        // Rows that a copy holds already are of an earlier time.
        let is_copied = matches!(&resolved, Resolved::Table(tracked) if commit_ts <= tracked.snapshot);
        let passing = is_copied && !lacking.is_empty();
        if let Resolved::Table(tracked) = &resolved
            && fits(&resolved, table)
            && !lacking.is_empty()
            && !is_copied
        {
            let known = tracked.table.name.clone();
            lacking = self.lost_columns(&name, &known, lacking, commit_ts).await?;
            if !lacking.is_empty() {
                if self.misfit(&name, &resolved, table, commit_ts).await? {
                    resolved = self.resolve(&name).await?;
                } else {
                    return Err(lost(&known, &lacking));
                }
            }
        }
        if matches!(resolved, Resolved::Table(_) | Resolved::Unknown)
            && !fits(&resolved, table)
            && self.misfit(&name, &resolved, table, commit_ts).await?
        {
            resolved = self.resolve(&name).await?;
        }
        if matches!(resolved, Resolved::Table(_)) && !fits(&resolved, table) {
            // Drainer may be down: it sends the DDL when it is back, and the row waits for it.
            return Err(Error::new(
                ErrorKind::Contention,
                "rows in a layout whose DDL is not in the topic yet",
            )
            .endpoint(Endpoint::Kafka)
            .object(name)
            .hint("if Drainer runs and this stays, the table differs from what we know: resync the table"));
        }
        let target = match resolved {
            Resolved::Table(tracked) => match self.layout(&tracked, table) {
                Ok(layout) => Target::Layout { layout: Arc::new(layout), snapshot: tracked.snapshot },
                Err(error) => {
                    let source = &tracked.table.name;
                    self.table_failed(source, error.object(source)).await?;
                    Target::Aside(source.clone())
                }
            },
            Resolved::Aside(name) => Target::Aside(name),
            Resolved::Unselected => Target::Skip,
            Resolved::Dropped => {
                tracing::info!(task.id = %self.context.task, table = %name, "late rows of a dropped table are passed over");
                let detail = serde_json::json!({"table": name.to_string(), "commit_tso": self.read.commit_ts.to_string()});
                let (store, task) = (&self.context.store, &self.context.task);
                store
                    .event(
                        Some(task),
                        "late_rows",
                        None,
                        "late rows of a dropped table are passed over",
                        detail,
                    )
                    .await?;
                Target::Skip
            }
            Resolved::Unknown => {
                return Err(Error::new(
                    ErrorKind::SchemaMismatch,
                    "rows of a table that the task has never seen",
                )
                .object(name)
                .hint(
                    "it may have been renamed or restored without an event; copy it again with a new task",
                ));
            }
        };
        if !passing {
            self.layouts.insert(key, target.clone());
        }
        Ok(target)
    }

    /// A task that copies nothing and begins in the middle of the stream meets tables that were made before: the source says
    /// what they looked like then or, where its history is gone, what they look like now, if that is what their rows look like.
    pub(in crate::incremental) async fn adopt(
        &mut self,
        name: &TableName,
        commit_ts: Tso,
        table: Option<&TableChange<'_>>,
    ) -> Result<bool> {
        let phases = self.context.spec.phases;
        let ours = self.catalog.entry(name).is_none() && self.catalog.selection().selects(name);
        if self.side || phases.schema || phases.full || !ours {
            return Ok(false);
        }
        let Some(endpoint) = self.context.source.clone() else { return Ok(false) };
        let found = match tidb::table_at(&endpoint, commit_ts, name).await {
            Err(error) if error.kind == ErrorKind::SnapshotLost => {
                let now = tidb::Source::new(endpoint.clone()).current_tso().await?;
                let known = tidb::table_at(&endpoint, now, name).await?;
                known.zip(table).map(|(known, _)| known).filter(|known| {
                    let sent = table.map_or(&[][..], |table| &table.columns);
                    let known_too = |column: &ColumnInfo<'_>| {
                        known.column(&String::from_utf8_lossy(column.name)).is_some()
                    };
                    known.columns.len() == sent.len() && sent.iter().all(known_too)
                })
            }
            found => found?,
        };
        let Some(found) = found else { return Ok(false) };
        let detail = serde_json::json!({"table": name.to_string(), "commit_tso": commit_ts.to_string()});
        self.change_tables(Change::of(TableEntry::new(found)), &[], None).await?;
        self.event("table_met", "a table that was there before the task's start is followed", detail).await?;
        Ok(true)
    }

    async fn resolve(&mut self, name: &TableName) -> Result<Resolved> {
        match self.catalog.resolve(name) {
            Err(error) => {
                self.table_failed(name, error).await?;
                Ok(Resolved::Aside(name.clone()))
            }
            resolved => resolved,
        }
    }

    fn layout(&self, tracked: &Tracked, table: &TableChange<'_>) -> Result<Layout> {
        let layout = Layout::new(tracked, &table.columns, &self.zone)?;
        if layout.keyless && self.context.dialect == Dialect::Adb {
            return Err(Error::new(
                ErrorKind::Configuration,
                "AnalyticDB cannot match rows of a table without a key",
            )
            .hint("give the table a primary key, or exclude it"));
        }
        Ok(layout)
    }
}

/// False when the table is unknown, or when the message has columns that we do not know *and* lacks columns that we write: a
/// rename of a column is under way. Unknown columns alone are not added yet, missing ones alone are gone already.
fn fits(resolved: &Resolved, change: &TableChange<'_>) -> bool {
    let tracked = match resolved {
        Resolved::Table(tracked) => tracked,
        // The name may be taken again by a rename that is still to come.
        Resolved::Unknown | Resolved::Dropped => return false,
        Resolved::Unselected | Resolved::Aside(_) => return true,
    };
    // Columns of expression indexes are hidden from every definition.
    let unknown = sent(change).iter().any(|name| {
        !name.starts_with("_v$_") && !tracked.hidden.contains(name) && tracked.table.column(name).is_none()
    });
    !unknown || lacking(resolved, change).is_empty()
}

/// Names of a message's columns, in lower case.
fn sent(change: &TableChange<'_>) -> Vec<String> {
    change.columns.iter().map(|column| String::from_utf8_lossy(column.name).to_lowercase()).collect()
}

/// Columns that we write and the message does not have.
fn lacking(resolved: &Resolved, change: &TableChange<'_>) -> Vec<String> {
    let Resolved::Table(tracked) = resolved else { return Vec::new() };
    let sent = sent(change);
    let written = tracked.target.columns.iter();
    written
        .filter_map(|column| tracked.table.columns.get(column.source_index))
        .filter(|column| !sent.contains(&column.name.to_lowercase()))
        .map(|column| column.name.clone())
        .collect()
}

fn lost(table: &TableName, columns: &[String]) -> Error {
    let columns = columns.join(", ");
    Error::new(
        ErrorKind::SchemaMismatch,
        format!("Drainer sends rows without their column {columns}: restarted amid a DDL, it never heard of it"),
    )
    .endpoint(Endpoint::Kafka)
    .object(table)
    .hint(format!(
        "at the source run ALTER TABLE {table} COMMENT = '...', which tells Drainer; then copy the table again (POST /tasks/{{task}}/tables/resync) and resume"
    ))
}

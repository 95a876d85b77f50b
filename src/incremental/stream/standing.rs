//! Tables that do not simply follow: what is asked of single tables, errors of one table, resyncs beside the stream.
//!
//! A standing is durable before it means anything, and a table comes back to `following` by one way alone: a resync that is
//! merged at a barrier, with its copy and the checkpoint at one offset.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::flight::LAST_BATCH;
use super::{Stream, Until};
use crate::adb::dialect::drop_table;
use crate::binlog::{ChangeSource, TableChange};
use crate::crash;
use crate::engine::progress::Stage;
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result};
use crate::incremental::catalog::{Change, Entry, Resolved, TableEntry};
use crate::incremental::resync::{self, Reached, Resync, Shadow};
use crate::model::{Position, TableName, Tso};
use crate::task::spec::TableErrorPolicy;
use crate::task::standing::{Standing, TableCommand, TableDecision, decide_table};
use crate::tidb;

/// Pause before a resync that came to nothing is tried again; doubles up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// The resyncs of a stream: one at a time.
#[derive(Default)]
pub(in crate::incremental) struct Resyncs {
    running: Option<Running>,
    /// Tries so far of a table, and when the next may begin.
    waiting: HashMap<TableName, (u32, Instant)>,
    /// Tables that were copied again because their rows did not fit, and the columns of those rows: each layout once, for a copy that does
    /// not help would go on for ever.
    misfits: HashSet<(TableName, String)>,
    /// Copies that came to nothing may lie on the target.
    untidy: bool,
}

struct Running {
    /// Folded name.
    table: TableName,
    /// Under which its rows may come, as its stream knows it.
    names: HashSet<TableName>,
    work: JoinHandle<Result<Shadow>>,
    cancel: CancellationToken,
    until: watch::Sender<Until>,
    reached: watch::Receiver<Option<Reached>>,
}

impl Resyncs {
    /// None runs, and none waits for its time.
    pub(super) fn are_quiet(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty() && !self.untidy
    }
}

impl<S: ChangeSource> Stream<S> {
    /// Looks after tables that do not follow; called a few times a second, once while the task rests.
    pub(super) async fn tend_tables(&mut self) -> Result<()> {
        self.take_commands().await?;
        if self.resyncs.untidy && self.resyncs.running.is_none() {
            self.tidy().await?;
        }
        match &self.resyncs.running {
            None => self.begin_resync(),
            Some(running) if running.work.is_finished() => {
                if let Some(running) = self.resyncs.running.take() {
                    let outcome = running.work.await.map_err(ended)?;
                    let error = outcome.err().unwrap_or_else(Error::cancelled);
                    self.resync_failed(&running.table, error).await?;
                }
                Ok(())
            }
            Some(running) => {
                let told = running.until.send_replace(Until { offset: self.read.next_offset, last: false });
                let reached = *running.reached.borrow();
                // Before the stream has passed T' a DDL of the time before may still come.
                let near = reached.is_some_and(|reached| {
                    reached.position.next_offset >= told.offset && self.watermark() >= reached.snapshot
                });
                if near { self.merge().await } else { Ok(()) }
            }
        }
    }

    async fn take_commands(&mut self) -> Result<()> {
        if !self.context.progress.take_asked() {
            return Ok(());
        }
        let taken = self.take_what_is_asked().await;
        if taken.is_err() {
            // The next stream of this run finds it still to be done, and nobody asks again.
            self.context.progress.ask();
        }
        taken
    }

    async fn take_what_is_asked(&mut self) -> Result<()> {
        for (name, command) in self.context.store.table_commands(&self.context.task).await? {
            let ours = self.catalog.selection().selects(&name);
            let known = self.catalog.table(&name).filter(|entry| ours && !entry.ignored);
            let change = match known.map(|entry| decide_table(command, &entry.standing)) {
                Some(TableDecision::Become(standing)) => self.catalog.stand(&name, standing),
                Some(TableDecision::Nothing | TableDecision::Refused) | None => None,
            };
            tracing::info!(task.id = %self.context.task, table = %name, command = command.as_str(), "command");
            self.resyncs.waiting.remove(&name);
            self.change_tables(change.unwrap_or_default(), &[(name, command)], None).await?;
        }
        self.retry_letters().await?;
        self.repair_rows().await
    }

    /// Makes new versions of tables durable, and then true here. What runs for one of them ends.
    pub(in crate::incremental) async fn change_tables(
        &mut self,
        change: Change,
        taken: &[(TableName, TableCommand)],
        moved: Option<Position>,
    ) -> Result<()> {
        match moved {
            Some(_) => self.mark_rows().await?,
            None => self.settle().await?,
        }
        let watermark = self.watermark();
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        let (_, versions) = change.stored(self.read.commit_ts)?;
        let advance = moved.map(|to| (self.saved, to, watermark));
        store.change_tables(task, epoch, &versions, taken, advance).await?;
        if let Some(to) = moved {
            self.moved(to, watermark);
        }
        self.catalog.apply(&change);
        self.catalog_changed();
        self.touched(&change);
        Ok(())
    }

    /// The next resync of the table need not wait.
    pub(super) fn forget_tries(&mut self, name: &TableName) {
        self.resyncs.waiting.remove(&name.key());
        let key = name.key();
        self.resyncs.misfits.retain(|(table, _)| *table != key);
    }

    /// A resync under way of a table that has changed copies what is no longer so; one of whose names another table has taken
    /// would take that table's rows for its own.
    pub(in crate::incremental) fn touched(&mut self, change: &Change) {
        self.resyncs.untidy = true;
        if let Some(running) = &self.resyncs.running
            && change.entries.iter().any(|(name, _)| running.names.contains(&name.key()))
        {
            running.cancel.cancel();
        }
    }

    /// Stops the table when the error concerns it alone and policy says so.
    ///
    /// # Errors
    /// The error itself otherwise.
    pub(in crate::incremental) async fn table_failed(
        &mut self,
        name: &TableName,
        error: Error,
    ) -> Result<()> {
        if self.stops_table(&error) { self.stop_table(name, error).await } else { Err(error) }
    }

    /// By policy, and because it says nothing about other tables.
    pub(in crate::incremental) fn stops_table(&self, error: &Error) -> bool {
        let by_policy = self.context.spec.errors.table == TableErrorPolicy::StopTable;
        by_policy && !self.side && error.concerns_one_table()
    }

    async fn stop_table(&mut self, name: &TableName, error: Error) -> Result<()> {
        // It may be met under an old name.
        let Some(entry) = self.catalog.table(&self.catalog.followed(&name.key())) else {
            return Err(error.object(name));
        };
        let name = &entry.table.name.clone();
        let error = error.object(name);
        match entry.standing {
            // The first error is the cause.
            Standing::Stopped { .. } | Standing::Paused | Standing::Skipped | Standing::Removed { .. } => {
                return Ok(());
            }
            Standing::Following | Standing::Resync { .. } | Standing::Swapping { .. } => {}
        }
        tracing::error!(task.id = %self.context.task, table = %name, %error, "table stopped");
        let detail = serde_json::json!({"table": name.to_string(), "error": error});
        let change = self.catalog.stand(name, Standing::Stopped { error }).unwrap_or_default();
        self.change_tables(change, &[], None).await?;
        self.event("table_stopped", "table stopped; the others go on", detail).await
    }

    /// Has a table copied again, also one that was not known before.
    pub(super) async fn want_resync(&mut self, entry: TableEntry, reason: String) -> Result<()> {
        let detail = serde_json::json!({"table": entry.table.name.to_string(), "reason": reason});
        let sent_as = self.catalog.sent_as(&entry.table.name);
        let entry = TableEntry { standing: Standing::resync(reason), sent_as, ..entry };
        self.change_tables(Change::of(entry), &[], None).await?;
        self.event("table_resync", "the table is copied again", detail).await
    }

    /// Rows that do not fit the table as we know it, or of a table that we do not know, and no DDL in sight that would tell.
    /// True when the table is set aside for it; the source says what it looked like.
    pub(super) async fn misfit(
        &mut self,
        name: &TableName,
        resolved: &Resolved,
        table: &TableChange<'_>,
        commit_ts: Tso,
    ) -> Result<bool> {
        if self.side || self.context.spec.errors.table != TableErrorPolicy::StopTable {
            return Ok(false);
        }
        let (known, expected) = match resolved {
            Resolved::Table(tracked) => {
                let columns: Vec<_> =
                    tracked.table.columns.iter().map(|column| column.name.as_str()).collect();
                (Some(tracked.table.name.clone()), columns.join(", "))
            }
            _ => (None, "nothing".to_owned()),
        };
        let found: Vec<_> = table.columns.iter().map(|column| String::from_utf8_lossy(column.name)).collect();
        let found = found.join(", ");
        let difference = format!("rows with columns {found} where {expected} was expected");
        let first = self.resyncs.misfits.insert((name.key(), found));
        if first && let Some(source) = &self.context.source {
            let at = match tidb::table_at(source, commit_ts, known.as_ref().unwrap_or(name)).await {
                Err(error) if error.kind != ErrorKind::SnapshotLost => return Err(error),
                other => other.ok().flatten(),
            };
            if let Some(at) = at {
                self.want_resync(TableEntry::new(at), difference).await?;
                return Ok(true);
            }
        }
        let Some(known) = known else { return Ok(false) };
        let error = Error::new(ErrorKind::SchemaMismatch, difference)
            .endpoint(Endpoint::Kafka)
            .hint("resync the table: POST /tasks/{task}/tables/resync");
        self.stop_table(&known, error).await?;
        Ok(true)
    }

    /// Adds to a DDL's change that these tables are copied again after it.
    pub(in crate::incremental) async fn resync_after(
        &self,
        change: &mut Change,
        wanted: &[crate::incremental::plan::Resync],
        commit_ts: Tso,
    ) -> Result<()> {
        let mut catalog = self.catalog.clone();
        catalog.apply(change);
        for resync in wanted {
            let entry = match catalog.table(&resync.table) {
                Some(entry) => entry.clone(),
                None => {
                    let gone = || {
                        Error::new(ErrorKind::SchemaMismatch, resync.reason.clone())
                            .object(&resync.table)
                            .hint("give the task a TiDB connection to copy the table from, or exclude it")
                    };
                    let source = self.context.source.as_ref().ok_or_else(gone)?;
                    TableEntry::new(tidb::table_at(source, commit_ts, &resync.table).await?.ok_or_else(gone)?)
                }
            };
            // What was set aside by a person stays so.
            let standing = match entry.standing {
                Standing::Paused | Standing::Skipped => entry.standing.clone(),
                // The planner lets it come to this only under `stop_table`.
                _ if self.context.source.is_none() => Standing::Stopped {
                    error: Error::new(ErrorKind::SchemaMismatch, resync.reason.clone())
                        .object(&resync.table)
                        .hint("give the task a tidb connection in source.tidb, then resync the table"),
                },
                _ => Standing::resync(&resync.reason),
            };
            change.entries.extend(Change::of(TableEntry { standing, ..entry }).entries);
        }
        Ok(())
    }

    fn begin_resync(&mut self) -> Result<()> {
        let now = Instant::now();
        let waits = |key: &TableName| self.resyncs.waiting.get(key).is_some_and(|(_, at)| *at > now);
        let Some(table) = self
            .catalog
            .aside()
            .into_iter()
            .filter(|entry| entry.standing.is_resync() && !waits(&entry.table.name.key()))
            // Drainer does not tell its rows from those of another table yet.
            .filter(|entry| !self.catalog.is_unclear(entry))
            .map(|entry| entry.table.name.clone())
            .next()
        else {
            return Ok(());
        };
        tracing::info!(task.id = %self.context.task, table = %table, "resync begins");
        crash::point("resync.wanted");
        let cancel = self.context.cancel.child_token();
        let (until, main) = watch::channel(Until { offset: self.read.next_offset, last: false });
        let (progress, reached) = watch::channel(None);
        let resync = Resync {
            context: WorkerContext { cancel: cancel.clone(), ..self.context.clone() },
            topic: self.topic.clone(),
            catalog: self.catalog.clone(),
            table: table.clone(),
            zone: (*self.zone).clone(),
            until: main,
            reached: progress,
        };
        let work = tokio::spawn(resync.run());
        self.resyncs.running = Some(Running {
            names: self.catalog.names_of(&table),
            table: table.key(),
            work,
            cancel,
            until,
            reached,
        });
        Ok(())
    }

    /// Both streams stand at one offset: the copy takes the table's place, and the table follows again.
    async fn merge(&mut self) -> Result<()> {
        self.flush().await?;
        let Some(mut running) = self.resyncs.running.take() else { return Ok(()) };
        running.until.send_replace(Until { offset: self.read.next_offset, last: true });
        let cancel = self.context.cancel.clone();
        let outcome = tokio::select! {
            biased;
            outcome = &mut running.work => outcome.map_err(ended)?,
            () = cancel.cancelled() => {
                self.resyncs.running = Some(running);
                return Err(Error::cancelled());
            }
        };
        let shadow = match outcome {
            Ok(shadow) => shadow,
            Err(error) => return self.resync_failed(&running.table, error).await,
        };
        let name = shadow.entry.table.name.clone();
        // Whatever the flush met: only a table that is still to be copied takes its copy.
        if running.cancel.is_cancelled() || !self.catalog.table(&name).is_some_and(|e| e.standing.is_resync())
        {
            self.resyncs.untidy = true;
            return Ok(());
        }
        if !shadow.lossy.is_empty() {
            self.lossy.entry(name.clone()).or_default().merge(&shadow.lossy);
        }
        let standing = Standing::Swapping { shadow: shadow.name.clone() };
        let entry = TableEntry { standing, snapshot: shadow.snapshot, made: true, ..shadow.entry };
        crash::point("resync.caught_up");
        self.change_tables(Change::of(entry), &[], Some(self.applied)).await?;
        crash::point("swap.recorded");
        self.swap(&name, &shadow.name).await
    }

    /// Swaps that are on record and may have been cut off.
    pub(super) async fn finish_swaps(&mut self) -> Result<()> {
        let found: Vec<(TableName, TableName)> = self
            .catalog
            .aside()
            .into_iter()
            .filter_map(|entry| match &entry.standing {
                Standing::Swapping { shadow } => Some((entry.table.name.clone(), shadow.clone())),
                _ => None,
            })
            .collect();
        for (name, shadow) in found {
            self.swap(&name, &shadow).await?;
        }
        Ok(())
    }

    /// Removes copies in the making that nobody wants any more: their table was dropped, set aside, or left the task.
    pub(super) async fn tidy(&mut self) -> Result<()> {
        self.resyncs.untidy = false;
        let (store, task, epoch) =
            (self.context.store.clone(), self.context.task.clone(), self.context.epoch);
        let wanted: HashSet<TableName> = self
            .catalog
            .aside()
            .into_iter()
            .filter_map(|entry| match &entry.standing {
                Standing::Resync { .. } => {
                    Some(resync::shadow_name(&task.0, &self.catalog.selection().target(&entry.table.name)))
                }
                Standing::Swapping { shadow } => Some(shadow.clone()),
                _ => None,
            })
            .collect();
        for shadow in store.shadows(&task).await? {
            if wanted.contains(&shadow) {
                continue;
            }
            self.flush().await?;
            match self.writer()?.execute(&drop_table(&shadow).sql).await {
                Ok(_) => store.shadow_gone(&task, epoch, &shadow).await?,
                // The next run tries again.
                Err(error) if error.policy() == Policy::Stop => {
                    tracing::warn!(task.id = %task, table = %shadow, %error, "a copy that is not wanted any more stays on the target");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn swap(&mut self, name: &TableName, shadow: &TableName) -> Result<()> {
        self.stage(name, Some(Stage::Swapping));
        let (dialect, task, offset) =
            (self.context.dialect, self.context.task.clone(), self.applied.next_offset);
        let place = self.catalog.selection().target(name);
        self.target_used = Some(Instant::now());
        let without_key = match self.catalog.table(name) {
            Some(entry) => self.catalog.target(entry)?.identity.is_none(),
            None => false,
        };
        let (Some(writer), Some(keyless)) = (self.writers.last(), &mut self.keyless) else {
            return Err(Error::internal("a swap while a batch is being written"));
        };
        let swapped = async {
            resync::swap(&mut writer.lane().await?.session, dialect, &task.0, shadow, &place).await?;
            // What came before this offset is in the copy.
            if without_key { keyless.skip_to(writer, offset).await } else { Ok(()) }
        };
        let swapped = swapped.await;
        self.stage(name, None);
        match swapped {
            Ok(()) => {}
            Err(error) if error.concerns_one_table() => return self.stop_table(name, error).await,
            Err(error) => return Err(error),
        }
        self.letters_copied(name).await?;
        self.mark_change(self.applied).await?;
        let change = self.catalog.stand(name, Standing::Following).unwrap_or_default();
        self.change_tables(change, &[], None).await?;
        crash::point("swap.saved");
        self.context.store.shadow_gone(&self.context.task, self.context.epoch, shadow).await?;
        self.resyncs.waiting.remove(&name.key());
        let snapshot = self.catalog.table(name).map(|entry| entry.snapshot.to_string());
        let detail = serde_json::json!({
            "table": name.to_string(), "snapshot_tso": snapshot, "offset": offset.to_string(),
        });
        self.event("table_resynced", "the table was copied again and follows", detail).await
    }

    async fn resync_failed(&mut self, table: &TableName, error: Error) -> Result<()> {
        self.resyncs.untidy = true;
        let Some(entry) = self.catalog.table(table) else { return Ok(()) };
        let name = entry.table.name.clone();
        self.stage(&name, None);
        let Standing::Resync { reason, .. } = &entry.standing else { return Ok(()) };
        match error.kind {
            // It begins again while it is wanted.
            ErrorKind::Cancelled => Ok(()),
            ErrorKind::Fenced => Err(error),
            _ if error.concerns_one_table() => self.stop_table(&name, error).await,
            _ => {
                let (tries, next) = self.resyncs.waiting.entry(table.clone()).or_insert((0, Instant::now()));
                *next = Instant::now() + RETRY_MOST.min(RETRY * (1 << (*tries).min(6)));
                *tries += 1;
                tracing::warn!(task.id = %self.context.task, table = %name, %error, "resync is tried again");
                let standing = Standing::Resync { reason: reason.clone(), error: Some(error) };
                let change = self.catalog.stand(&name, standing).unwrap_or_default();
                self.change_tables(change, &[], None).await
            }
        }
    }

    /// Ends the resync under way, if any: the next run begins it again.
    pub(super) async fn end_resync(&mut self) {
        let Some(mut running) = self.resyncs.running.take() else { return };
        running.cancel.cancel();
        if tokio::time::timeout(LAST_BATCH, &mut running.work).await.is_err() {
            running.work.abort();
        }
        if let Some(Entry::Table(entry)) = self.catalog.entry(&running.table) {
            self.stage(&entry.table.name.clone(), None);
        }
    }

    fn stage(&self, table: &TableName, stage: Option<Stage>) {
        self.context.progress.table(table, |counters| counters.stage = stage);
    }

    pub(in crate::incremental) async fn event(
        &self,
        kind: &str,
        message: &str,
        detail: serde_json::Value,
    ) -> Result<()> {
        self.context.store.event(Some(&self.context.task), kind, None, message, detail).await
    }
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::internal(format!("a resync ended unexpectedly: {error}"))
}

//! `resync(table)`: one table is copied anew beside the running stream (design.md 10.11).
//!
//! ```text
//! main stream   ... rows of the table passed over ..................| barrier: swap | the table follows again
//! resync        E0' -> T' -> copy into a shadow table -> catch up ->|
//! ```
//! The worker takes the topic's end (E0'), then a snapshot (T'), copies the table as of T' into a shadow table with the code of
//! full sync, and then folds the table's own changes from E0' on (`commit_ts` > T') into the shadow, never past the main
//! stream. At a barrier of the main stream both stand at one offset, and the shadow takes the table's place.
//!
//! What must stay true: a shadow is never more than a copy in the making. Until the swap is on record, whatever goes wrong
//! (a crash, a DDL of the table, a lost snapshot) ends the try, and the next one begins with a new shadow and a later T'.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, TableEntry};
use super::lag::Look;
use super::stream::{Stream, Until};
use crate::adb;
use crate::adb::dialect::{TargetTable, drop_table, put_in_place};
use crate::adb::writer::{Use, Writer, end_sessions};
use crate::binlog::{SeenSet, Topic, seen};
use crate::crash;
use crate::engine::progress::{Progress, Stage};
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::{self, FullSync};
use crate::model::{Dialect, LossyCounts, MysqlEndpoint, Position, TableName, Tso, Zone};
use crate::mysql::Session;
use crate::schema_sync::{self, Wanted};
use crate::store::Checkpoint;
use crate::task::spec::{ExistingTables, RowErrorPolicy, Spec};
use crate::tidb::{self, KeptGuards, Source};

/// A resync to be run.
pub struct Resync {
    /// `cancel` is the resync's own.
    pub context: WorkerContext,
    pub topic: Topic,
    /// As the main stream knows it: for the table's other names and the schemas' defaults.
    pub catalog: Catalog,
    pub table: TableName,
    pub zone: Zone,
    /// How far the main stream has read.
    pub until: watch::Receiver<Until>,
    /// Where the shadow stands, once it is copied.
    pub reached: watch::Sender<Option<Reached>>,
}

/// A shadow that is copied, and how far it has caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// T'
    pub snapshot: Tso,
    pub position: Position,
}

/// A shadow that may take its table's place at the offset that the main stream named last.
#[derive(Debug)]
pub struct Shadow {
    pub name: TableName,
    /// T'
    pub snapshot: Tso,
    /// The table as it was at T'.
    pub entry: TableEntry,
    /// By rows of the stream.
    pub lossy: LossyCounts,
}

impl Resync {
    /// Copies and catches up until the main stream says that it waits.
    ///
    /// # Errors
    /// Anything: the shadow is worth nothing then.
    pub async fn run(self) -> Result<Shadow> {
        let result = Box::pin(self.copy_and_follow()).await;
        // The next try must not meet a statement of this one.
        if result.is_err() {
            self.end_sessions().await?;
        }
        result
    }

    async fn end_sessions(&self) -> Result<()> {
        let context = &self.context;
        let (target, dialect, store) = (&context.target, context.dialect, &context.store);
        end_sessions(target, dialect, store, &context.task, context.epoch, Some(Use::Resync)).await
    }

    fn source(&self) -> Result<&MysqlEndpoint> {
        self.context.source.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "a table can only be copied from TiDB")
                .object(&self.table)
                .hint("name a tidb connection in source.tidb")
        })
    }

    async fn copy_and_follow(&self) -> Result<Shadow> {
        let context = &self.context;
        let endpoint = self.source()?;
        self.stage(Some(Stage::Copying));
        let source = Source::new(endpoint.clone());
        let taken = tidb::hand_over(&source, || self.topic.end_offset()).await?;
        let (snapshot, start) = (taken.snapshot, taken.start_offset);
        let mut guards = KeptGuards::default();
        guards.keep(context.task.clone(), taken.guards).await;
        let copied = self.copy(endpoint, snapshot).await;
        guards.release().await;
        let (entry, target) = copied?;
        crash::point("resync.copied");

        self.stage(Some(Stage::CatchingUp));
        let checkpoint = Checkpoint {
            snapshot,
            start_offset: start,
            position: Position { next_offset: start, commit_ts: snapshot },
            cluster_id: String::new(),
            topic: self.topic.name().to_owned(),
            watermark: Tso(0),
            schema_done: true,
            full_done: true,
            // the catalog knows
            bytewise: false,
            mark: 0,
            anchor: None,
            updated_at_ms: 0,
        };
        let mut shadow = Shadow { name: target.name.clone(), snapshot, entry, lossy: LossyCounts::default() };
        let writer = Writer::new(
            context.target.clone(),
            context.dialect,
            context.store.clone(),
            context.task.clone(),
            context.epoch,
            Use::Resync,
            smaller(&context.spec).tuning.connections,
        )
        .through(context.gate.clone());
        let catalog = self.catalog.only(&shadow.entry, target);
        // What lies before E0' is in the snapshot.
        let seen = SeenSet::rebuilt(snapshot, seen::Limits::default(), Vec::new(), true);
        let changes = self.topic.open(start).await?;
        // Its position and its watermark are nobody's.
        let context = WorkerContext { progress: Arc::new(Progress::default()), ..context.clone() };
        let looks = watch::channel(Look::default()).1;
        let stream = Stream::new(
            context,
            self.topic.clone(),
            changes,
            catalog,
            seen,
            writer,
            &checkpoint,
            self.zone.clone(),
            looks,
        );
        shadow.lossy = stream
            .catch_up(self.until.clone(), |position| {
                self.reached.send_if_modified(|reached| {
                    let now = Some(Reached { snapshot, position });
                    std::mem::replace(reached, now) != now
                });
            })
            .await?;
        Ok(shadow)
    }

    /// The table as of T' in a new shadow table, with the count of its rows checked.
    async fn copy(&self, endpoint: &MysqlEndpoint, snapshot: Tso) -> Result<(TableEntry, TargetTable)> {
        let context = &self.context;
        let table = tidb::table_at(endpoint, snapshot, &self.table).await?.ok_or_else(|| {
            Error::new(ErrorKind::Contention, "the source has no such table now")
                .endpoint(Endpoint::Source)
                .object(&self.table)
                .hint("it was dropped or renamed: the stream will tell")
        })?;
        let sent_as = self.catalog.sent_as(&self.table);
        let entry = TableEntry { sent_as, ..TableEntry::new(table) };
        // Under its own name too: the copy has another one.
        self.catalog.target(&entry)?;
        let place = self.catalog.selection().target(&self.table);
        if let Some(other) = self.catalog.shares_target(&self.table) {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("{other} goes into the same table of the target: a new copy of one would take the rows of the other"),
            )
            .object(&self.table)
            .hint("copy all of them again with a new task"));
        }
        let shadow = shadow_name(&context.task.0, &place);
        let mut session = adb::connect(&context.target, context.dialect).await?;
        context.store.session_opened(&context.task, context.epoch, session.id(), Use::Resync).await?;
        self.place_is_free(&mut session, &place).await?;
        context.store.shadow_made(&context.task, context.epoch, &shadow).await?;
        session.execute(drop_table(&shadow).sql).await?;
        let wanted = Wanted {
            ours: true,
            ..Wanted::new(context.dialect, &entry.table, shadow, &self.catalog.options(&self.table))
        };
        let policy = context.spec.existing_tables;
        let plan = schema_sync::create(&mut session, context.dialect, &[wanted], policy, |_| {}).await?;
        session.close().await;
        crash::point("resync.shadow");
        let target = plan
            .tables
            .into_iter()
            .find_map(|table| table.table)
            .ok_or_else(|| Error::internal("a created table without its layout").object(&self.table))?;
        let summary = full::run(FullSync {
            store: context.store.clone(),
            task: context.task.clone(),
            epoch: context.epoch,
            source: endpoint.clone(),
            target: context.target.clone(),
            dialect: context.dialect,
            tables: vec![(entry.table.clone(), target.clone())],
            snapshot,
            spec: Arc::new(smaller(&context.spec)),
            progress: Arc::clone(&context.progress),
            sessions: Use::Resync,
            gate: context.gate.clone(),
            cancel: context.cancel.clone(),
            drain: CancellationToken::new(),
        })
        .await?;
        match summary.stopped.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok((entry, target)),
        }
    }

    /// Where no copy of ours has been, what is there is kept unless the spec gives it up.
    async fn place_is_free(&self, session: &mut Session, place: &TableName) -> Result<()> {
        let is_new = self.catalog.table(&self.table).is_some_and(|entry| entry.new_place);
        if !is_new
            || self.context.spec.existing_tables == ExistingTables::Replace
            || !schema_sync::has_table(session, place).await?
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Configuration,
            format!("the target has a table {place} already, and it is not the task's"),
        )
        .endpoint(Endpoint::Target)
        .object(&self.table)
        .hint(format!("rename or drop {place} on the target and resync the table, or give it another target in objects.tables")))
    }

    fn stage(&self, stage: Option<Stage>) {
        self.context.progress.table(&self.table, |counters| counters.stage = stage);
    }
}

/// The spec with half of its connections and memory: the main stream goes on.
fn smaller(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.tuning.connections = (spec.tuning.connections / 2).max(1);
    spec.tuning.memory_bytes /= 2;
    // A copy in the making sets nothing aside: it takes every row, or the table stops.
    spec.errors.row = RowErrorPolicy::Stop;
    spec
}

/// The same on every try, so that a left-over is found; within the limits of every target.
pub fn shadow_name(task: &str, table: &TableName) -> TableName {
    beside("_tidegate_resync", task, table)
}

fn beside(prefix: &str, task: &str, table: &TableName) -> TableName {
    let hash = Sha256::digest(format!("{task}\0{}\0{}", table.schema, table.table));
    let hash = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    let kept: String = table.table.chars().take(24).collect();
    TableName::new(&table.schema, format!("{prefix}_{kept}_{hash}"))
}

/// Puts the shadow in the table's place. May be run again after a crash at any point: once the shadow is gone it is in place.
pub async fn swap(
    session: &mut Session,
    dialect: Dialect,
    task: &str,
    shadow: &TableName,
    table: &TableName,
) -> Result<()> {
    let old = beside("_tidegate_old", task, table);
    if schema_sync::has_table(session, shadow).await? {
        let is_there = schema_sync::has_table(session, table).await?;
        for statement in put_in_place(dialect, shadow, table, is_there.then_some(&old)) {
            session.execute(&statement).await.map_err(|error| error.object(table))?;
            crash::point("swap.statement");
        }
    }
    crash::point("swap.swapped");
    session.execute(drop_table(&old).sql).await?;
    crash::point("swap.dropped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shadows_fit_and_differ() {
        let long = "ü".repeat(64);
        let one = shadow_name("t_1", &TableName::new("s", &long));
        assert!(one.table.chars().count() <= 64);
        assert_eq!(one, shadow_name("t_1", &TableName::new("s", &long)));
        assert_ne!(one, shadow_name("t_2", &TableName::new("s", &long)));
        assert_ne!(one, shadow_name("t_1", &TableName::new("s", format!("{long}x"))));
    }
}

//! Applies a DDL event: record, run, look, go on.
//!
//! The record is durable before the first statement; each statement that is known to be applied is counted; the new
//! catalog, the end of the record and the position after the event become durable together. After a crash the one statement
//! in doubt is judged by looking at the target. DDL is recognised for ever by its commit_ts.

use std::time::{Duration, Instant};

use super::catalog::{Catalog, Change, Entry, TableEntry};
use super::plan::{self, Ask, Event, Existing, Facts, Plan, Steps};
use super::stream::{Stream, text};
use crate::adb::dialect::Done;
use crate::binlog::{ChangeSource, Ddl};
use crate::crash;
use crate::error::{Error, ErrorKind, Policy, Result};
use crate::model::{MysqlEndpoint, Offset, Position, Table, TableName, Tso};
use crate::mysql::Session;
use crate::schema_sync;
use crate::sql::ddl::apply::create_like;
use crate::sql::ddl::ast::{AlterClause, Statement};
use crate::sql::{ddl, literal};
use crate::store::{DdlDecision, DdlRecord, DdlState};
use crate::task::spec::{DdlPolicy, ExistingTables};
use crate::task::standing::Standing;
use crate::tidb;

impl<S: ChangeSource> Stream<S> {
    /// Applies one DDL event; everything before it is acknowledged. `after` is None for one taken ahead of its place.
    pub(super) async fn ddl(
        &mut self,
        event: &Ddl<'_>,
        offset: Offset,
        commit_ts: Tso,
        after: Option<Position>,
    ) -> Result<()> {
        self.settle().await?;
        let (store, task, epoch) =
            (self.context.store.clone(), self.context.task.clone(), self.context.epoch);
        let watermark = self.watermark();
        let known = store.ddl_by_commit_ts(&task, commit_ts).await?;
        let decision = known.as_ref().and_then(|known| known.decision.clone());
        if known.is_some_and(|known| matches!(known.state, DdlState::Done | DdlState::Ignored)) {
            if let Some(to) = after {
                self.mark_rows().await?;
                store.advance(&task, epoch, self.saved, to, watermark).await?;
                self.moved(to, watermark);
            }
            return Ok(());
        }
        let mut record = DdlRecord {
            n: 0,
            commit_ts,
            offset,
            schema_name: String::from_utf8_lossy(event.schema_name).into_owned(),
            table_name: String::from_utf8_lossy(event.table_name).into_owned(),
            source_text: String::from_utf8_lossy(event.query).into_owned(),
            statements: Vec::new(),
            notes: Vec::new(),
            steps_done: 0,
            state: DdlState::Pending,
            decision: None,
            error: None,
            created_at_ms: 0,
            finished_at_ms: None,
        };
        // As it was right before.
        let name = TableName::new(&record.schema_name, &record.table_name);
        self.adopt(&name, Tso(commit_ts.0.saturating_sub(1)), None).await?;
        record.decision = decision;
        match self.plan_and_run(event, &mut record).await {
            Ok(mut steps) => {
                self.resync_after(&mut steps.change, &steps.resync, commit_ts).await?;
                // The checkpoint may have moved to right before the DDL.
                let moved = after.map(|after| (self.saved, after, watermark));
                record.notes.clone_from(&steps.notes);
                record.state = if record.statements.is_empty() { DdlState::Ignored } else { DdlState::Done };
                let (schemas, tables) = steps.change.stored(commit_ts)?;
                self.letters_meet(event, &steps).await?;
                crash::point("ddl.before");
                if record.statements.is_empty() {
                    self.mark_rows().await?;
                } else {
                    self.mark_change(after.unwrap_or(self.applied)).await?;
                }
                store.ddl_finish(&task, epoch, &record, &schemas, &tables, moved).await?;
                crash::point("ddl.saved");
                if let Some((_, to, watermark)) = moved {
                    self.moved(to, watermark);
                }
                self.catalog.apply(&steps.change);
                self.catalog_changed();
                self.touched(&steps.change);
                self.context.progress.ddl_applied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let detail = serde_json::json!({
                    "offset": offset.to_string(), "commit_ts": commit_ts.to_string(), "source": record.source_text,
                    "statements": record.statements, "notes": steps.notes,
                    "resync": steps.resync.iter().map(|resync| resync.table.to_string()).collect::<Vec<_>>(),
                });
                let message = if record.statements.is_empty() { "DDL passed over" } else { "DDL applied" };
                store.event(Some(&task), "ddl", None, message, detail).await
            }
            Err(error) => {
                // Only what waits for a person is a failed DDL; a lost connection is tried again.
                if error.policy() == Policy::Stop {
                    store.ddl_failed(&task, epoch, &record, &error).await?;
                }
                match self.only_table(event) {
                    // Rare, and large.
                    Some(entry) => Box::pin(self.stop_at_ddl(entry, event, commit_ts, error, after)).await,
                    None => Err(error),
                }
            }
        }
    }

    /// The one table that a DDL concerns, when it is one: by the catalog, or as the DDL creates it.
    fn only_table(&self, event: &Ddl<'_>) -> Option<TableEntry> {
        let schema = std::str::from_utf8(event.schema_name).ok()?;
        let table = std::str::from_utf8(event.table_name).ok()?;
        let statements = ddl::parse(event.query).ok()?;
        let [statement] = statements.as_slice() else { return None };
        let name = match statement {
            Statement::AlterTable { clauses, .. }
                if clauses.iter().any(|clause| matches!(clause, AlterClause::ExchangePartition { .. })) =>
            {
                return None;
            }
            Statement::RenameTable { pairs } => match pairs.as_slice() {
                [(old, _)] => old,
                _ => return None,
            },
            Statement::AlterTable { name, .. } | Statement::TruncateTable { name } => name,
            Statement::CreateIndex { table, .. } | Statement::DropIndex { table, .. } => table,
            Statement::CreateTable { name, table: created, .. } if name.name.eq_ignore_ascii_case(table) => {
                let name = TableName::new(schema, table);
                return Some(TableEntry::new(Table { name, ..created.clone() }));
            }
            Statement::CreateTableLike { name, source, .. } if name.name.eq_ignore_ascii_case(table) => {
                let mut known = self.catalog.tables_named(&source.name);
                let written = source.or_schema(schema);
                let like = self.catalog.table(&written).or_else(|| self.catalog.table(known.next()?));
                let name = TableName::new(schema, table);
                // Of a table that is not ours the stream tells no layout.
                return Some(TableEntry::new(match like {
                    Some(like) => create_like(&like.table, name),
                    None => Table::empty(name),
                }));
            }
            _ => return None,
        };
        let event = TableName::new(schema, table);
        let named = name.or_schema(schema);
        let known = |name: &TableName| self.catalog.table(&self.catalog.followed(&name.key()));
        if !moves(statement) {
            return known(&named).or_else(|| known(&event)).cloned();
        }
        // The event tells the new place only.
        let alone = || {
            let mut all = self.catalog.tables_named(&name.name);
            let only = all.next().filter(|_| name.schema.is_none() && all.next().is_none());
            known(only?)
        };
        known(&named).or_else(alone).cloned()
    }

    /// The stream goes on behind a DDL that stops its own table only. Its layout from here on is that after the DDL, as far as we
    /// can tell; a resync asks the source.
    async fn stop_at_ddl(
        &mut self,
        entry: TableEntry,
        event: &Ddl<'_>,
        commit_ts: Tso,
        error: Error,
        after: Option<Position>,
    ) -> Result<()> {
        if !self.stops_table(&error) || !entry.standing.is_following() {
            return Err(error);
        }
        let name = entry.table.name.clone();
        let standing = Standing::Stopped { error: error.clone() };
        let mut change = Change::of(TableEntry { standing, ..entry });
        let mut catalog = self.catalog.clone();
        catalog.apply(&change);
        let statements = ddl::parse(event.query).unwrap_or_default();
        let moves = statements.iter().any(moves);
        let names = match moves {
            true => Event { schema: text(event.schema_name)?, table: text(event.table_name)? },
            false => Event { schema: &name.schema, table: &name.table },
        };
        let mut notes = Vec::new();
        // Which table an unqualified name means is a guess above: the plan must move this one.
        let of_this = |steps: &Steps| {
            let mut entries = steps.change.entries.iter();
            entries.any(|(old, entry)| old.key() == name.key() && matches!(entry, Entry::Alias { .. }))
        };
        match self.planned(names, &statements, &catalog, commit_ts).await {
            Ok(steps) if steps.statements.is_empty() && (!moves || of_this(&steps)) => {
                change.entries.extend(steps.change.entries);
                notes = steps.notes;
            }
            Err(other) if other.policy() != Policy::Stop => return Err(other),
            // Where its rows come from here on would be a guess.
            _ if moves => return Err(error),
            _ => {}
        }
        let detail = serde_json::json!({"table": name.to_string(), "error": error, "notes": notes});
        self.change_tables(change, &[], after).await?;
        self.event("table_stopped", "a DDL stopped its table; the others go on", detail).await
    }

    async fn plan_and_run(&mut self, event: &Ddl<'_>, record: &mut DdlRecord) -> Result<Steps> {
        let mut steps = match &record.decision {
            None => self.plan(event, record).await?,
            Some(decision) => self.decided(event, record, decision).await?,
        };
        self.places_are_free(&steps).await?;
        record.statements = plan::texts(&steps.statements);
        if steps.statements.is_empty() {
            return Ok(steps);
        }
        let (store, task, epoch) =
            (self.context.store.clone(), self.context.task.clone(), self.context.epoch);
        // Rows before the DDL are in the target. They must not be applied again once it has run: they would not fit.
        self.save().await?;
        let resumed = store.ddl_by_commit_ts(&task, record.commit_ts).await?.is_some();
        let (n, done) = store.ddl_begin(&task, epoch, record).await?;
        record.n = n;
        crash::point("ddl.pending");
        let mut stays = Vec::new();
        for (at, step) in steps.statements.iter().enumerate().skip(done) {
            // Only the first step after a restart is in doubt.
            let in_doubt = resumed && at == done && !matches!(step.done, Done::Rerun);
            let mut lane = self.writer()?.lane().await?;
            let session = &mut lane.session;
            // A database that is there needs no privilege to make it, and what may be missing need not be moved.
            let look = in_doubt || matches!(step.done, Done::DatabaseExists { .. } | Done::TableMoved { .. });
            let passed = keeps_database(session, &step.done).await?
                || (look && took_effect(session, &step.done).await?);
            if passed
                && let Done::TableMoved { from, to } = &step.done
                && schema_sync::has_table(session, from).await?
            {
                stays.push(plan::stays(from, from, &format!(": {to} is another table there")));
            }
            if !passed {
                let done = session.execute(&step.sql).await;
                done.map_err(|error| error.object(format!("DDL {n} step {}: {}", at + 1, step.sql)))?;
            }
            drop(lane);
            crash::point("ddl.statement");
            // A target from before this step is told from one after it; the last one is marked with the whole.
            if at + 1 < steps.statements.len() {
                self.mark_change(self.applied).await?;
            }
            store.ddl_step(&task, epoch, n, at + 1).await?;
            crash::point("ddl.step");
        }
        if matches!(record.decision, Some(DdlDecision::Replace { .. })) {
            self.takes_rows(&steps).await?;
        }
        steps.notes.extend(stays);
        Ok(steps)
    }

    /// A table that comes to the task by a DDL is copied into its place: what somebody else has there is kept.
    async fn places_are_free(&mut self, steps: &Steps) -> Result<()> {
        if self.catalog.spec().existing_tables == ExistingTables::Replace {
            return Ok(());
        }
        for resync in &steps.resync {
            let place = self.catalog.selection().target(&resync.table);
            if self.catalog.holds(&place) {
                continue;
            }
            let there = schema_sync::has_table(&mut self.writer()?.lane().await?.session, &place).await?;
            if there {
                return Err(Error::new(
                    ErrorKind::StatementRefused,
                    format!(
                        "{} comes to the task, and the target has a table {place} that is not the task's",
                        resync.table
                    ),
                )
                .object(&resync.table)
                .hint("rename or drop that table on the target, or exclude the new name, and resume"));
            }
        }
        Ok(())
    }

    pub(super) async fn plan(&mut self, event: &Ddl<'_>, record: &DdlRecord) -> Result<Steps> {
        let statements = ddl::parse(event.query).map_err(|fault| {
            Error::new(ErrorKind::StatementRefused, format!("DDL that we do not understand: {fault}"))
                .hint("apply it to the target by hand, set ddl.other to ignore and resume, and set it back once it is passed; please report the text")
        });
        let statements = match statements {
            Ok(statements) => statements,
            // What cannot concern the task need not be understood.
            Err(_)
                if !record.schema_name.is_empty()
                    && !self.catalog.selection().could_select_schema(&record.schema_name) =>
            {
                return Ok(Steps::default());
            }
            Err(error) if self.catalog.spec().ddl.other == DdlPolicy::Ignore => {
                let notes = vec![format!("passed over by policy (other): {error}")];
                return Ok(Steps { notes, ..Steps::default() });
            }
            Err(error) => return Err(error),
        };
        let names = Event { schema: &record.schema_name, table: &record.table_name };
        self.planned(names, &statements, &self.catalog, record.commit_ts).await
    }

    /// The plan, with what the source has answered.
    async fn planned(
        &self,
        names: Event<'_>,
        statements: &[Statement],
        catalog: &Catalog,
        commit_ts: Tso,
    ) -> Result<Steps> {
        let mut facts = Facts::default();
        loop {
            match plan::plan(names, statements, catalog, &facts)? {
                Plan::Do(steps) => return Ok(steps),
                Plan::Ask(Ask::Defaults(name)) => {
                    let known = self.answer(|source| tidb::table_at(source, commit_ts, &name)).await?;
                    facts.defaults.insert(name.key(), known);
                }
                Plan::Ask(Ask::Before(name)) => {
                    let known = self.answer(|source| tidb::name_before(source, commit_ts, &name)).await?;
                    facts.before.insert(name.key(), known);
                }
                Plan::Ask(Ask::Existing { table, column }) => {
                    let known = self
                        .answer(async |source| {
                            tidb::value_at(source, commit_ts, &table, &column).await.map(Some)
                        })
                        .await?
                        .map(|value| value.map_or(Existing::Nothing, Existing::Value))
                        .unwrap_or_else(|| Existing::Assumed(commit_time(commit_ts)));
                    facts.existing.insert((table.key(), column.to_lowercase()), known);
                }
                Plan::Ask(Ask::Definition(name)) => {
                    let unknown = || {
                        Error::new(
                            ErrorKind::SchemaMismatch,
                            "the stream does not say what this table looks like",
                        )
                        .object(&name)
                        .hint(
                            "give the task a tidb connection in source.tidb, or exclude the table, and resume",
                        )
                    };
                    let source = self.context.source.as_ref().ok_or_else(unknown)?;
                    let known = self.when_loaded(|| tidb::table_at(source, commit_ts, &name)).await?;
                    facts.tables.insert(name.key(), known.ok_or_else(unknown)?);
                }
            }
        }
    }

    /// The source's answer; None when it cannot be asked: no connection, no privilege, or its history no longer reaches back.
    async fn answer<'a, T, F: Future<Output = Result<Option<T>>>>(
        &'a self,
        ask: impl Fn(&'a MysqlEndpoint) -> F,
    ) -> Result<Option<T>> {
        let Some(source) = &self.context.source else { return Ok(None) };
        match self.when_loaded(|| ask(source)).await {
            Err(error) if error.kind == ErrorKind::SnapshotLost => {
                tracing::warn!(%error, "the source cannot say how it was at a DDL");
                Ok(None)
            }
            answer => answer,
        }
    }

    async fn when_loaded<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<Option<T>> {
        let answer = when_loaded(LOADING, ask);
        self.context.cancel.run_until_cancelled(answer).await.unwrap_or_else(|| Err(Error::cancelled()))
    }
}

/// Whether a table has another name after it.
fn moves(statement: &Statement) -> bool {
    match statement {
        Statement::RenameTable { .. } => true,
        Statement::AlterTable { clauses, .. } => {
            clauses.iter().any(|clause| matches!(clause, AlterClause::Rename { .. }))
        }
        _ => false,
    }
}

/// How long a server of the source may take to load the schema that a DDL made.
const LOADING: Duration = Duration::from_secs(10);

/// Asks again while the answer is that there is no such thing: one of several TiDB servers may not have loaded the schema of a
/// DDL whose event is here already, and shows the one before it, also to a snapshot of the DDL's own time. None: it stayed so.
async fn when_loaded<T, F: Future<Output = Result<Option<T>>>>(
    within: Duration,
    ask: impl Fn() -> F,
) -> Result<Option<T>> {
    let begun = Instant::now();
    loop {
        let missing = match ask().await {
            Ok(None) => None,
            Err(error) if error.kind == ErrorKind::Missing => Some(error),
            answer => return answer,
        };
        if begun.elapsed() >= within {
            let error = missing.map(tracing::field::display);
            tracing::warn!(error, "the source does not show what a DDL made");
            return Ok(None);
        }
        tokio::time::sleep(within / 40).await;
    }
}

/// `2024-01-02 03:04:05`, in UTC
fn commit_time(commit_ts: Tso) -> String {
    chrono::DateTime::from_timestamp_millis(commit_ts.physical_ms())
        .unwrap_or_default()
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// Whether a statement in doubt ran. A table that we made at a barrier is empty: one that holds rows is somebody else's, and the
/// statement says so when it runs again.
async fn took_effect(session: &mut Session, done: &Done) -> Result<bool> {
    if !schema_sync::done(session, done).await? {
        return Ok(false);
    }
    let Done::TableExists { table } = done else { return Ok(true) };
    Ok(!schema_sync::has_rows(session, table).await?)
}

/// True for the DROP of a database that holds tables which are not the task's: it stays, and so do they.
async fn keeps_database(session: &mut Session, done: &Done) -> Result<bool> {
    let Done::DatabaseAbsent { name } = done else { return Ok(false) };
    let others: Option<u64> = session
        .first(&format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {} \
             AND table_name NOT LIKE '\\_tidegate\\_%'",
            literal::string(name)
        ))
        .await?;
    Ok(others.is_some_and(|others| others > 0))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_server_that_has_not_loaded_the_schema_yet_is_asked_again() {
        let asked = &Cell::new(0);
        let answers = async |answer: fn(u32) -> Result<Option<u32>>| {
            asked.set(0);
            when_loaded(Duration::from_millis(60), async || {
                asked.set(asked.get() + 1);
                answer(asked.get())
            })
            .await
        };
        let soon = |times| match times {
            1 => Ok(None),
            2 => Err(Error::new(ErrorKind::Missing, "Unknown column")),
            times => Ok(Some(times)),
        };
        assert_eq!(answers(soon).await.unwrap(), Some(3));
        for never in [|_| Ok(None), |_| Err(Error::new(ErrorKind::Missing, "Unknown column"))] {
            assert_eq!(answers(never).await.unwrap(), None);
            assert!(asked.get() > 1);
        }
        // What was collected does not come back; what cannot be reached is the caller's to try again.
        for kind in [ErrorKind::SnapshotLost, ErrorKind::Unreachable] {
            asked.set(0);
            let gone = when_loaded(LOADING, async || {
                asked.set(asked.get() + 1);
                Err::<Option<u32>, _>(Error::new(kind, "gone"))
            });
            assert_eq!((gone.await.unwrap_err().kind, asked.get()), (kind, 1));
        }
    }
}

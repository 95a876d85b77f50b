//! Transactions that newer ones have overtaken on their way (source-drainer.md 0.7).
//!
//! A late transaction is applied, and then what was applied of the newer ones to its tables is applied again: every key ends with
//! its newest image, whoever came first. Where that cannot be right, because a DDL of a table stands between or the table has no key,
//! that table is copied again; a late DDL has every table copied again that it concerns and that newer messages have
//! changed. Only a task without a TiDB to copy from stops.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use super::{Stream, corrupt, text};
use crate::binlog::{ChangeSource, Ddl, Incoming, Kind, Message, RawMessage};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::incremental::catalog::{Catalog, Entry};
use crate::model::{Offset, TableName, Tso};
use crate::sql::ddl::ast::{AlterClause, ObjectName, Statement};
use crate::store::DdlState;
use crate::task::standing::Standing;

/// What came before a late message and is newer; tables by their folded names of today.
#[derive(Debug, Default)]
struct Newer {
    /// First copies: duplicates of older messages lie between them.
    messages: HashSet<(Offset, Tso)>,
    first: Option<Offset>,
    rows: HashSet<TableName>,
    ddl: HashSet<TableName>,
}

impl<S: ChangeSource> Stream<S> {
    /// A crash in between repeats all of it, for the position moves only at the end.
    pub(super) async fn late(&mut self, message: &Message<'_>, raw: &RawMessage, newest: Tso) -> Result<()> {
        let commit_ts = message.commit_ts;
        self.context.progress.late_transactions.fetch_add(1, Relaxed);
        tracing::warn!(task.id = %self.context.task, offset = raw.offset.0, %commit_ts, %newest, "late transaction");
        self.flush().await?;
        let copied = match &message.kind {
            Kind::Ddl(ddl) => self.late_ddl(message, ddl, raw).await?,
            _ => self.late_rows(message, raw).await?,
        };
        let detail = serde_json::json!({
            "offset": raw.offset.to_string(), "commit_ts": commit_ts.to_string(),
            "resync": copied.iter().map(TableName::to_string).collect::<Vec<_>>(),
        });
        let words = match copied.is_empty() {
            true => "late transaction applied",
            false => "late transaction: the tables that it concerns are copied again",
        };
        self.event("late_transaction", words, detail).await
    }

    async fn late_rows(&mut self, message: &Message<'_>, raw: &RawMessage) -> Result<Vec<TableName>> {
        let newer = self.newer(message.commit_ts, raw.offset).await?;
        let mut mine = HashSet::new();
        note_rows(message, &self.catalog, &mut mine)?;
        // Without a source rows of a table without a key come in the order of the topic: right where none was changed twice.
        let can_copy = self.context.source.is_some();
        let doubtful = mine.iter().filter(|name| {
            newer.ddl.contains(*name) || (can_copy && newer.rows.contains(*name) && self.is_without_key(name))
        });
        let doubtful: Vec<TableName> = doubtful.cloned().collect();
        let copied = self.copy_late(&doubtful, message.commit_ts, "rows").await?;
        let before = self.read;
        self.take(message, None, raw.offset, raw.payload.len() as u64).await?;
        let after = self.read;
        self.read = before;
        self.flush().await?;
        // Copies and tables that the transaction does not have are as they should be.
        mine.retain(|name| newer.rows.contains(name) && !doubtful.contains(name));
        if let Some(first) = newer.first.filter(|_| !mine.is_empty()) {
            self.apply_again(first, raw.offset, &newer, &mine).await?;
        }
        self.read = after;
        Ok(copied)
    }

    async fn apply_again(
        &mut self,
        from: Offset,
        to: Offset,
        newer: &Newer,
        tables: &HashSet<TableName>,
    ) -> Result<()> {
        let mut again = self.topic.open(from).await?;
        while let Incoming::Message(old) = again.next().await? {
            if old.offset >= to {
                break;
            }
            let message = Message::parse(&old.payload).map_err(corrupt)?;
            if !newer.messages.contains(&(old.offset, message.commit_ts)) {
                continue;
            }
            let Kind::Dml(changes) = message.kind else { continue };
            let mut nth = 0;
            for table in changes {
                let table = table.map_err(corrupt)?;
                let name = TableName::new(text(table.schema)?, text(table.table)?);
                if tables.contains(&today(&self.catalog, &name)) {
                    self.table(&table, old.offset, &mut nth, message.commit_ts).await?;
                } else {
                    nth += table.mutations().count() as u64;
                }
            }
        }
        self.flush().await
    }

    async fn late_ddl(
        &mut self,
        message: &Message<'_>,
        ddl: &Ddl<'_>,
        raw: &RawMessage,
    ) -> Result<Vec<TableName>> {
        let bytes = raw.payload.len() as u64;
        let known = self.context.store.ddl_by_commit_ts(&self.context.task, message.commit_ts).await?;
        let done = known.is_some_and(|known| matches!(known.state, DdlState::Done | DdlState::Ignored));
        // Rows have waited for it, and it was taken ahead; or it is the main stream's business.
        if done || self.side {
            self.take(message, None, raw.offset, bytes).await?;
            return Ok(Vec::new());
        }
        let newer = self.newer(message.commit_ts, raw.offset).await?;
        let mut concerned = HashSet::new();
        concerned_by(ddl, &self.catalog, &mut concerned)?;
        let creates = ddl_creates(ddl);
        if creates
            && concerned.iter().any(|name| {
                newer.ddl.contains(name) && matches!(self.catalog.entry(name), Some(Entry::Dropped))
            })
        {
            // It was dropped again since.
            self.passed(raw.offset, message.commit_ts);
            return Ok(Vec::new());
        }
        concerned.retain(|name| newer.rows.contains(name) || newer.ddl.contains(name));
        let doubtful: Vec<TableName> = concerned.into_iter().collect();
        // Set aside first: a crash behind the DDL must not forget them.
        let copied = self.copy_late(&doubtful, message.commit_ts, "a DDL").await?;
        self.take(message, None, raw.offset, bytes).await?;
        Ok(copied)
    }

    /// Reads again what lies before a late message and is newer.
    async fn newer(&self, commit_ts: Tso, late: Offset) -> Result<Newer> {
        let messages: HashSet<_> =
            self.seen.newer_than(commit_ts).map(|seen| (seen.offset, seen.commit_ts)).collect();
        let first = messages.iter().map(|(offset, _)| *offset).min();
        let mut newer = Newer { messages, first, ..Newer::default() };
        let Some(first) = first else { return Ok(newer) };
        let mut again = self.topic.open(first).await?;
        while let Incoming::Message(old) = again.next().await? {
            if old.offset >= late {
                break;
            }
            let message = Message::parse(&old.payload).map_err(corrupt)?;
            if !newer.messages.contains(&(old.offset, message.commit_ts)) {
                continue;
            }
            match &message.kind {
                Kind::Dml(_) => note_rows(&message, &self.catalog, &mut newer.rows)?,
                Kind::Ddl(ddl) => concerned_by(ddl, &self.catalog, &mut newer.ddl)?,
                Kind::Resolved => {}
            }
        }
        Ok(newer)
    }

    fn is_without_key(&self, name: &TableName) -> bool {
        let target = self.catalog.table(name).map(|entry| self.catalog.target(entry));
        target.is_some_and(|target| target.is_ok_and(|target| target.identity.is_none()))
    }

    /// Has those of these tables copied again whose rows go to the target.
    async fn copy_late(
        &mut self,
        tables: &[TableName],
        commit_ts: Tso,
        what: &str,
    ) -> Result<Vec<TableName>> {
        let mut wanted = Vec::new();
        for name in tables {
            let Some(entry) = self.catalog.table(name) else { continue };
            let ours = self.catalog.selection().selects(&entry.table.name) && !entry.ignored;
            let aside =
                matches!(entry.standing, Standing::Paused | Standing::Skipped | Standing::Stopped { .. });
            if ours && !aside && !self.catalog.is_unclear(entry) {
                wanted.push(entry.clone());
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        if self.side {
            // The main stream has begun the copy again.
            return Err(Error::cancelled());
        }
        let reason = format!("{what} of transaction {commit_ts} came after newer changes of the table");
        if self.context.source.is_none() {
            let names: Vec<_> = wanted.iter().map(|entry| entry.table.name.to_string()).collect();
            return Err(Error::new(ErrorKind::PositionLost, reason)
                .endpoint(Endpoint::Kafka)
                .object(names.join(", "))
                .hint("the broker or Drainer changed the order; give the task a tidb connection in source.tidb to copy the tables from, and resume"));
        }
        let names = wanted.iter().map(|entry| entry.table.name.clone()).collect();
        for entry in wanted {
            self.want_resync(entry, reason.clone()).await?;
        }
        Ok(names)
    }
}

fn note_rows(message: &Message<'_>, catalog: &Catalog, into: &mut HashSet<TableName>) -> Result<()> {
    let Kind::Dml(tables) = message.kind else { return Ok(()) };
    for table in tables {
        let table = table.map_err(corrupt)?;
        let name = TableName::new(text(table.schema)?, text(table.table)?);
        into.insert(today(catalog, &name));
    }
    Ok(())
}

/// The table that is meant by a name now, folded.
fn today(catalog: &Catalog, name: &TableName) -> TableName {
    match catalog.senders(name).as_slice() {
        [sender] => sender.table.name.key(),
        _ => catalog.followed(&name.key()),
    }
}

/// Every table that a DDL may mean, rather one too many: unqualified names are of any schema, and so is what cannot be read.
fn concerned_by(ddl: &Ddl<'_>, catalog: &Catalog, into: &mut HashSet<TableName>) -> Result<()> {
    let schema = text(ddl.schema_name)?;
    let event = TableName::new(schema, text(ddl.table_name)?);
    let mut named = vec![event.clone()];
    match crate::sql::ddl::parse(ddl.query) {
        Ok(statements) => {
            for statement in &statements {
                if let Statement::DropDatabase { name, .. } = statement {
                    named.extend(catalog.tables_of(name).map(|entry| entry.table.name.clone()));
                }
                for name in names(statement) {
                    named.push(name.or_schema(schema));
                    if name.schema.is_none() {
                        named.extend(catalog.tables_named(&name.name).cloned());
                    }
                }
            }
        }
        Err(_) => named.extend(catalog.tables_of(schema).map(|entry| entry.table.name.clone())),
    }
    into.extend(named.iter().map(|name| today(catalog, name)));
    Ok(())
}

fn ddl_creates(ddl: &Ddl<'_>) -> bool {
    crate::sql::ddl::parse(ddl.query).is_ok_and(|statements| {
        statements.iter().any(|statement| {
            matches!(statement, Statement::CreateTable { .. } | Statement::CreateTableLike { .. })
        })
    })
}

/// Tables whose rows or layout a statement changes.
fn names(statement: &Statement) -> Vec<&ObjectName> {
    match statement {
        Statement::CreateTable { name, .. }
        | Statement::CreateTableLike { name, .. }
        | Statement::TruncateTable { name } => vec![name],
        Statement::DropTable { names, .. } | Statement::Recover { names } => names.iter().collect(),
        Statement::RenameTable { pairs } => pairs.iter().flat_map(|(old, new)| [old, new]).collect(),
        Statement::AlterTable { name, clauses } => {
            let others = clauses.iter().filter_map(|clause| match clause {
                AlterClause::Rename { to } => Some(to),
                AlterClause::ExchangePartition { table, .. } => Some(table),
                _ => None,
            });
            std::iter::once(name).chain(others).collect()
        }
        Statement::CreateIndex { table, .. } | Statement::DropIndex { table, .. } => vec![table],
        Statement::CreateDatabase { .. }
        | Statement::AlterDatabase { .. }
        | Statement::DropDatabase { .. }
        | Statement::View { .. }
        | Statement::Harmless { .. } => Vec::new(),
    }
}

//! DDL that rows are waiting for, taken ahead of its place.

use std::time::{Duration, Instant};

use super::{Stream, corrupt, text};
use crate::binlog::{ChangeSource, Ddl, Incoming, Kind, Message, PassedDdl};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TableName, Tso};
use crate::sql::ddl;
use crate::sql::ddl::ast::{AlterClause, Statement};
use crate::tidb;

/// How long a DDL is waited for that Drainer is known to have committed before.
const LOOK_AHEAD: Duration = Duration::from_secs(20);

impl<S: ChangeSource> Stream<S> {
    /// After a restart while DDL was pending, Drainer sends rows in the layout or under the name of a DDL that it has not sent
    /// yet (source-drainer.md 10.9). Finds the next DDL of this table in the topic that changes names or columns and applies it
    /// now; its own place in the stream then finds it done. False when there is none. With `renames_only` the table is
    /// known to be dropped: only a rename can bring rows under its name before its own event.
    pub(super) async fn look_ahead(&mut self, name: &TableName, renames_only: bool) -> Result<bool> {
        let patience = if renames_only { LOOK_AHEAD / 10 } else { LOOK_AHEAD };
        let deadline = renames_only.then(|| Instant::now() + patience);
        let wanted = |query: &[u8]| changes_layout(query, renames_only);
        self.apply_ahead(name, patience, deadline, wanted).await
    }

    /// The same for the next ALTER of this table, for a row with a label that its column has not: the producer's retries may have sent it ahead.
    pub(super) async fn look_ahead_for_labels(&mut self, name: &TableName) -> Result<bool> {
        let alters = |query: &[u8]| {
            let statements = ddl::parse(query).unwrap_or_default();
            changes_layout(query, false)
                && statements.iter().all(|statement| matches!(statement, Statement::AlterTable { .. }))
        };
        self.apply_ahead(name, LOOK_AHEAD, None, alters).await
    }

    async fn apply_ahead(
        &mut self,
        name: &TableName,
        patience: Duration,
        deadline: Option<Instant>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let Some(found) = self.find_ahead(name, patience, deadline, wanted).await? else { return Ok(false) };
        tracing::info!(task.id = %self.context.task, table = %name, offset = found.offset.0, "DDL taken ahead of its place");
        let PassedDdl { offset, commit_ts, schema, table, query } = &found;
        let ddl = Ddl { schema_name: schema.as_bytes(), table_name: table.as_bytes(), query };
        self.ddl(&ddl, *offset, *commit_ts, None).await?;
        Ok(true)
    }

    /// The next DDL of this table behind what is read that is not applied yet and whose text `wanted` takes.
    async fn find_ahead(
        &mut self,
        name: &TableName,
        patience: Duration,
        mut deadline: Option<Instant>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<PassedDdl>> {
        self.flush().await?;
        // A log that never rests gives no `CaughtUp`: what comes behind this is waited for, and no longer than that.
        let end = self.topic.end_offset().await?;
        let mut ahead = self.topic.open(self.read.next_offset).await?;
        let key = name.key();
        let cancel = self.context.cancel.clone();
        // The DDL was committed before Drainer restarted: it is not far.
        while deadline.is_none_or(|deadline| Instant::now() <= deadline) {
            let incoming = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                incoming = tokio::time::timeout(patience, ahead.next()) => incoming,
            };
            let Ok(incoming) = incoming else { break };
            let incoming = incoming?;
            if !matches!(&incoming, Incoming::Message(raw) if raw.offset < end) {
                deadline.get_or_insert_with(|| Instant::now() + patience);
            }
            let Incoming::Message(raw) = incoming else { continue };
            let message = Message::parse(&raw.payload).map_err(corrupt)?;
            let Kind::Ddl(ddl) = message.kind else { continue };
            let (schema, table) = (text(ddl.schema_name)?, text(ddl.table_name)?);
            if TableName::new(schema, table).key() != key
                || message.commit_ts <= self.snapshot
                || !wanted(ddl.query)
            {
                continue;
            }
            if let Some(known) =
                self.context.store.ddl_by_commit_ts(&self.context.task, message.commit_ts).await?
                && known.state != crate::store::DdlState::Pending
                && known.state != crate::store::DdlState::Failed
            {
                continue;
            }
            return Ok(Some(PassedDdl {
                offset: raw.offset,
                commit_ts: message.commit_ts,
                schema: schema.to_owned(),
                table: table.to_owned(),
                query: ddl.query.to_vec(),
            }));
        }
        Ok(None)
    }

    /// Columns that a row of this time has at the source and that Drainer does not send. Restarted while an ADD COLUMN was under way, it never
    /// hears of the column, until the next DDL of the table. Rows also lack a column that an ADD COLUMN behind them brings (a
    /// checkpoint that was moved back), or that a DROP COLUMN behind them takes: these lose nothing.
    pub(super) async fn lost_columns(
        &mut self,
        name: &TableName,
        known: &TableName,
        mut lacking: Vec<String>,
        commit_ts: Tso,
    ) -> Result<Vec<String>> {
        let at = match &self.context.source {
            None => None,
            Some(source) => match tidb::table_at(source, commit_ts, known).await {
                Err(error) if error.kind == ErrorKind::SnapshotLost => None,
                at => at?,
            },
        };
        match at {
            Some(at) => lacking.retain(|column| at.column(column).is_some()),
            // What is known of the table is how it was at the row, unless DDL behind the row is applied.
            None if self.context.store.has_ddl_since(&self.context.task, commit_ts).await? => lacking.clear(),
            None => {}
        }
        if lacking.is_empty() {
            return Ok(lacking);
        }
        let drops = |query: &[u8]| drops_one(query, &lacking);
        if self.find_ahead(name, LOOK_AHEAD, None, drops).await?.is_some() {
            lacking.clear();
        }
        Ok(lacking)
    }
}

fn drops_one(query: &[u8], columns: &[String]) -> bool {
    let of = |clause: &AlterClause| match clause {
        AlterClause::DropColumn { name, .. } => {
            columns.iter().any(|column| column.to_lowercase() == name.to_lowercase())
        }
        _ => false,
    };
    ddl::parse(query)
        .unwrap_or_default()
        .iter()
        .any(|statement| matches!(statement, Statement::AlterTable { clauses, .. } if clauses.iter().any(of)))
}

/// True for DDL that changes names or columns. What removes rows must stay in its place: rows before it would come back.
fn changes_layout(query: &[u8], renames_only: bool) -> bool {
    let Ok(statements) = ddl::parse(query) else { return false };
    statements.iter().any(|statement| match statement {
        Statement::RenameTable { .. } => true,
        Statement::AlterTable { clauses, .. } => {
            let rename = clauses.iter().any(|clause| matches!(clause, AlterClause::Rename { .. }));
            let rows = clauses.iter().any(|clause| {
                matches!(
                    clause,
                    AlterClause::DropPartitions { .. }
                        | AlterClause::FirstPartition { .. }
                        | AlterClause::TruncatePartitions { .. }
                        | AlterClause::ExchangePartition { .. }
                )
            });
            !rows && (rename || !renames_only)
        }
        Statement::CreateTable { .. } | Statement::CreateTableLike { .. } => !renames_only,
        _ => false,
    })
}

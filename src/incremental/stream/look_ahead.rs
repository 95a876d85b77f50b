//! DDL that rows are waiting for, taken ahead of its place.

use std::time::{Duration, Instant};

use super::{Stream, corrupt, text};
use crate::binlog::{ChangeSource, Ddl, Incoming, Kind, Message};
use crate::error::{Error, Result};
use crate::model::TableName;

/// How long a DDL is waited for that Drainer is known to have committed before.
const LOOK_AHEAD: Duration = Duration::from_secs(20);

impl<S: ChangeSource> Stream<S> {
    /// After a restart while DDL was pending, Drainer sends rows in the layout or under the name of a DDL that it has not sent
    /// yet (source-drainer.md 10.9). Finds the next DDL of this table in the topic that changes names or columns and applies it
    /// now; its own place in the stream then finds it done. False when there is none. With `renames_only` the table is
    /// known to be dropped: only a rename can bring rows under its name before its own event.
    pub(super) async fn look_ahead(&mut self, name: &TableName, renames_only: bool) -> Result<bool> {
        self.flush().await?;
        // A log that never rests gives no `CaughtUp`: what comes behind this is waited for, and no longer than that.
        let end = self.topic.end_offset().await?;
        let mut ahead = self.topic.open(self.read.next_offset).await?;
        let patience = if renames_only { LOOK_AHEAD / 10 } else { LOOK_AHEAD };
        let mut deadline = renames_only.then(|| Instant::now() + patience);
        let wanted = name.key();
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
            let of = TableName::new(text(ddl.schema_name)?, text(ddl.table_name)?).key();
            if of != wanted || message.commit_ts <= self.snapshot || !changes_layout(ddl.query, renames_only)
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
            tracing::info!(task.id = %self.context.task, table = %name, offset = raw.offset.0, "DDL taken ahead of its place");
            let query = ddl.query.to_vec();
            let (schema, table) = (ddl.schema_name.to_vec(), ddl.table_name.to_vec());
            let ddl = Ddl { schema_name: &schema, table_name: &table, query: &query };
            self.ddl(&ddl, raw.offset, message.commit_ts, None).await?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// True for DDL that changes names or columns. What removes rows must stay in its place: rows before it would come back.
fn changes_layout(query: &[u8], renames_only: bool) -> bool {
    use crate::sql::ddl::ast::{AlterClause, Statement};
    let Ok(statements) = crate::sql::ddl::parse(query) else { return false };
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

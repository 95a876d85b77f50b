//! Rows that a verification found different, written again between two batches.
//!
//! When everything read is acknowledged, the target is as the source was at the stream's position. So what the source had of a row then is
//! what the target must have now, and the stream goes on from there. Writing it twice changes nothing: a repair that was cut off is
//! done again.

use super::super::catalog::Resolved;
use super::Stream;
use crate::adb;
use crate::adb::writer::run;
use crate::binlog::ChangeSource;
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::keyed::KeyedTable;
use crate::model::Tso;
use crate::mysql::{RowSink, Session};
use crate::store::{DifferenceRow, Use};
use crate::task::spec::Operations;
use crate::tidb::Source;

/// Rows that are looked for together, and those of them that are in memory at one time: a row may have many MiB.
const TOGETHER: u32 = 200;
const AT_ONCE: usize = 10;

impl<S: ChangeSource> Stream<S> {
    /// Repairs rows whose repair is asked for.
    pub(super) async fn repair_rows(&mut self) -> Result<()> {
        let (store, task, epoch) =
            (self.context.store.clone(), self.context.task.clone(), self.context.epoch);
        if self.side || store.asked_differences(&task, 1).await?.is_empty() {
            return Ok(());
        }
        self.flush().await?;
        self.save().await?;
        let mut session = adb::connect(&self.context.target, self.context.dialect).await?;
        store.session_opened(&task, epoch, session.id(), Use::Task).await?;
        // Where both are known the later one is what the target has reached.
        let at = self.applied.commit_ts.max(self.watermark());
        let mut reader = self.reader(at).await;
        loop {
            let rows = store.asked_differences(&task, TOGETHER).await?;
            if rows.is_empty() {
                break;
            }
            crash::point("repair.begun");
            for part in rows.chunks(AT_ONCE) {
                let mut outcome = self.repair(&mut session, &mut reader, part).await;
                if part.len() > 1 && outcome.as_ref().is_err_and(Error::concerns_one_table) {
                    // One of them may be the one that the target refuses.
                    for one in part.chunks(1) {
                        outcome = self.repair(&mut session, &mut reader, one).await;
                        self.repaired(one, outcome).await?;
                    }
                } else {
                    self.repaired(part, outcome).await?;
                }
            }
        }
        session.close().await;
        if let Ok(reader) = reader {
            reader.close().await;
        }
        Ok(())
    }

    async fn reader(&self, at: Tso) -> Result<Session> {
        let source = self.context.source.clone().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "the task has no TiDB to take the rows from")
                .endpoint(Endpoint::Source)
        })?;
        Source::new(source).snapshot_session(at).await.map_err(|error| error.endpoint(Endpoint::Source))
    }

    /// What cannot be read at the source stays as it is, and says why: the stream does not wait for it.
    async fn repaired(&self, rows: &[DifferenceRow], outcome: Result<()>) -> Result<()> {
        if let Err(error) = &outcome
            && !error.concerns_one_table()
            && error.endpoint != Some(Endpoint::Source)
        {
            return outcome;
        }
        crash::point("repair.sent");
        let (task, epoch) = (&self.context.task, self.context.epoch);
        if let Some(first) = rows.first() {
            tracing::info!(task.id = %task, table = %first.table, rows = rows.len(), refused = outcome.is_err(), "rows repaired");
        }
        self.context.store.repaired(task, epoch, rows, outcome.as_ref().map(drop)).await
    }

    async fn repair(
        &mut self,
        session: &mut Session,
        reader: &mut Result<Session>,
        rows: &[DifferenceRow],
    ) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let refuse = |what: &str| {
            Error::new(ErrorKind::SchemaMismatch, what)
                .object(&first.table)
                .hint("verify the table again, or resync it: POST .../tables/resync")
        };
        let tracked = match self.catalog.resolve(&first.table)? {
            Resolved::Table(tracked) => tracked,
            _ => return Err(refuse("the table is not followed now")),
        };
        if tracked.keep_other_columns {
            return Err(refuse(
                "the target's table has columns that the source has not: a row written again would lose them",
            ));
        }
        if tracked.target.operations != Operations::default() {
            return Err(refuse(
                "its `operations` leave changes out, so what the source has is not what the target must have",
            ));
        }
        let mut table = KeyedTable::new(&tracked.table, &tracked.target)?;
        if table.key_columns() != first.key_columns {
            return Err(refuse("the table's key has changed since the verification"));
        }
        let reader = reader.as_mut().map_err(|error| error.clone())?;
        let mut found = Found::default();
        let sql = table.source_rows(rows.iter().map(|row| row.key.as_slice()))?;
        reader.stream(&sql, &mut found).await.map_err(|error| error.endpoint(Endpoint::Source))?;
        let statements = table.write_again(rows.iter().map(|row| row.key.as_slice()), &found.0)?;
        for (sql, relaxed) in statements {
            run(session, &sql, relaxed)
                .await
                .map_err(|error| error.object(&first.table).endpoint(Endpoint::Target))?;
            crash::point("repair.statement");
        }
        Ok(())
    }
}

/// Cells of rows.
#[derive(Default)]
struct Found(Vec<Vec<mysql_async::Value>>);

impl RowSink for Found {
    async fn take(&mut self, row: mysql_async::Row) -> Result<()> {
        self.0.push(row.unwrap());
        Ok(())
    }
}

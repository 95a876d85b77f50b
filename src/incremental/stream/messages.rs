//! Takes the messages of the topic: each once, in its place, or late.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Stream, corrupt};
use crate::binlog::{ChangeSource, Fingerprint, Kind, Message, RawMessage, Seen, TableChange, Verdict};
use crate::engine::progress::spent;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Offset, Position, Tso};
use crate::store::now_ms;

impl<S: ChangeSource> Stream<S> {
    pub(super) async fn message(&mut self, raw: RawMessage) -> Result<()> {
        self.judge(&raw).await.map_err(|error| {
            let place = format!("topic {} offset {}", self.topic.name(), raw.offset);
            // A row's table, when known, is the better object; the place is never left out.
            match error.object.clone() {
                Some(object) if object != place => {
                    Error { object: Some(format!("{place}, {object}")), ..error }
                }
                _ => error.object(place),
            }
        })
    }

    async fn judge(&mut self, raw: &RawMessage) -> Result<()> {
        let offset = raw.offset;
        let message = Message::parse(&raw.payload).map_err(corrupt)?;
        let (counts, known) = message.validate_tables().map_err(corrupt)?;
        let commit_ts = message.commit_ts;
        if commit_ts <= self.snapshot || matches!(message.kind, Kind::Resolved) {
            self.passed(offset, Tso(0));
            return Ok(());
        }
        let seen = Seen::new(&Fingerprint::new(&message, &counts), offset, raw.payload.len());
        match self.seen.judge(&seen) {
            Verdict::New => {
                self.twins.new_one();
                self.take(&message, known, offset, raw.payload.len() as u64).await?;
            }
            Verdict::Duplicate { .. } => {
                self.context.progress.duplicates_skipped.fetch_add(1, Relaxed);
                self.passed(offset, commit_ts);
                if self.twins.repeated() && !self.side {
                    self.context.progress.set_twins_since(now_ms());
                    let detail = serde_json::json!({
                        "offset": offset.to_string(), "hint": "give each Drainer a topic of its own", "help": "/problems/corrupt-message",
                    });
                    tracing::warn!(task.id = %self.context.task, offset = offset.0, "transactions keep coming twice: do two Drainers write this topic?");
                    self.event(
                        "second_drainer",
                        "transactions keep coming twice: two Drainers seem to write this topic",
                        detail,
                    )
                    .await?;
                }
            }
            // Rare, and larger than all the rest.
            Verdict::Late { newest } => Box::pin(self.late(&message, raw, newest)).await?,
            Verdict::BelowWindow { floor } => {
                return Err(Error::new(
                    ErrorKind::PositionLost,
                    format!("transaction {commit_ts} comes again or late, and transactions up to {floor} are no longer remembered"),
                )
                .endpoint(Endpoint::Kafka)
                .hint("a Drainer was set back a long way; start a new task, or let it catch up and move this task's checkpoint"));
            }
            Verdict::Conflict { first } => {
                return Err(Error::new(
                    ErrorKind::CorruptMessage,
                    format!(
                        "a second, different transaction {commit_ts}; the first is at offset {}",
                        first.offset
                    ),
                )
                .endpoint(Endpoint::Kafka)
                .hint("two Drainers write this topic, or its filter was changed: give each its own topic"));
            }
        }
        self.seen.record(seen);
        Ok(())
    }

    /// A message in its place; `known` is one of its tables.
    pub(super) async fn take<'a>(
        &mut self,
        message: &Message<'a>,
        known: Option<TableChange<'a>>,
        offset: Offset,
        bytes: u64,
    ) -> Result<()> {
        match message.kind {
            Kind::Dml(tables) => {
                self.gathering_since.get_or_insert_with(Instant::now);
                let mut nth = 0;
                for table in tables.after(known) {
                    self.table(&table.map_err(corrupt)?, offset, &mut nth, message.commit_ts).await?;
                }
                self.batch.transactions += 1;
                self.batch.message_bytes += bytes;
                self.passed(offset, message.commit_ts);
            }
            // The main stream, which is ahead, has seen to it.
            Kind::Ddl(_) if self.side => self.passed(offset, message.commit_ts),
            Kind::Ddl(ddl) => {
                self.flush().await?;
                if !self.lossy.is_empty() {
                    // The DDL moves the checkpoint itself.
                    self.save().await?;
                }
                let after = self.after(offset, message.commit_ts);
                let progress = Arc::clone(&self.context.progress);
                let begins = Instant::now();
                progress.set_ddl_since(Some(now_ms()));
                let applied = Box::pin(self.ddl(&ddl, offset, message.commit_ts, Some(after))).await;
                progress.set_ddl_since(None);
                spent(&progress.time.ddl_us, begins);
                applied?;
                self.read = after;
                self.applied = after;
                self.context.progress.set_next_offset(after.next_offset.0);
            }
            Kind::Resolved => {}
        }
        Ok(())
    }

    pub(super) fn after(&self, offset: Offset, commit_ts: Tso) -> Position {
        Position { next_offset: Offset(offset.0 + 1), commit_ts: self.read.commit_ts.max(commit_ts) }
    }

    pub(super) fn passed(&mut self, offset: Offset, commit_ts: Tso) {
        self.read = self.after(offset, commit_ts);
    }
}

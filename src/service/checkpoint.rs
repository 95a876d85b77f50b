//! Moves the checkpoint of a task that stands still to another place of its topic.
//!
//! Forward: the messages in between are never applied. Back: they are applied once more, which ends in the same rows, for every key
//! gets its newest image again. What comes twice or late at the new place is recognised as ever: the worker reads back from there
//! when it starts. Where DDL lies in between the move is refused unless rows and tables still fit (`incremental::replay`).

use std::time::Duration;

use serde_json::json;

use super::changed_meanwhile;
use super::still::STANDS;
use super::{Answer, Refusal, Service};
use crate::binlog::seen::Limits;
use crate::binlog::{LogRange, Shape, Start, Topic};
use crate::error::{Error, ErrorKind};
use crate::incremental::replay;
use crate::model::{Offset, Position, Tso};
use crate::store::tasks::TaskRow;
use crate::store::{Checkpoint, DdlState, Moved, now_ms};
use crate::task::fault::Fault;
use crate::task::selection::Selection;
use crate::task::spec::TablesWithoutKey;

/// Longest that the topic may be read for a move.
const PATIENCE: Duration = Duration::from_secs(60);
/// The clock of the source may go ahead of ours.
const CLOCKS: i64 = 60_000;

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Offset(Offset),
    /// Behind everything that was committed up to here.
    After(Tso),
}

/// A move, done or only worked out.
#[derive(Debug)]
pub struct CheckpointMoved {
    pub task: TaskRow,
    pub from: Position,
    pub to: Position,
    /// What the topic holds.
    pub range: LogRange,
    /// DDL on the way back that the tables have seen already.
    pub passed_ddl: Vec<i64>,
}

impl Service {
    /// Moves the checkpoint. With `dry_run` only works out what it would do.
    pub async fn move_checkpoint(&self, id_or_name: &str, to: To, dry_run: bool) -> Answer<CheckpointMoved> {
        let task = self.standing_task(id_or_name, "moving the checkpoint", STANDS).await?;
        let checkpoint = self.store.checkpoint(&task.id).await?;
        let Some(checkpoint) =
            checkpoint.filter(|known| known.schema_done && known.full_done && !known.topic.is_empty())
        else {
            let detail = "the task has no position in a topic yet: its full sync is not through, or it has no incremental phase";
            return Err(Refusal::PositionBlocked(detail.to_owned()));
        };
        let planned = tokio::time::timeout(PATIENCE, self.plan_move(&task, &checkpoint, to));
        let (range, moved, passed_ddl) = planned.await.map_err(|_| {
            let (seconds, hint) = (PATIENCE.as_secs(), "try a place that is nearer, and go on from there");
            Refusal::EndpointTimeout(format!("the way could not be read within {seconds} s: {hint}"))
        })??;
        let (from, to) = (checkpoint.position, moved.position);
        if !dry_run && from != to {
            let detail = json!({
                "from_offset": from.next_offset.to_string(), "from_tso": from.commit_ts.to_string(),
                "to_offset": to.next_offset.to_string(), "to_tso": to.commit_ts.to_string(),
            });
            if !self.store.move_checkpoint(&task, from, &moved, None, &detail).await? {
                return Err(changed_meanwhile("the task"));
            }
            // The counters of the last run tell of another place.
            self.registry.forget(&task.id);
            tracing::info!(task.id = %task.id, from = from.next_offset.0, to = to.next_offset.0, "checkpoint moved");
        }
        let task = self.task(&task.id.0).await?;
        Ok(CheckpointMoved { task, from, to, range, passed_ddl })
    }

    async fn plan_move(
        &self,
        task: &TaskRow,
        checkpoint: &Checkpoint,
        to: To,
    ) -> Answer<(LogRange, Moved, Vec<i64>)> {
        let endpoints = self.endpoints(task).await?;
        let kafka = endpoints.kafka.ok_or_else(|| {
            Refusal::Configuration("the task names no kafka connection in source.kafka".to_owned())
        })?;
        let topic = Topic::new(&kafka, task.spec.source.topic.as_deref().unwrap_or_default())?;
        let cluster = topic.cluster_id().await?;
        if cluster != checkpoint.cluster_id {
            return Err(Refusal::PositionBlocked(format!(
                "the checkpoint belongs to Kafka cluster {}, and the connection leads to {cluster}",
                checkpoint.cluster_id
            )));
        }
        let range = topic.log_range().await?;
        let offset = find(&topic, range, to).await?;
        let current = checkpoint.position.next_offset;
        let mut moved = Moved {
            position: Position { next_offset: offset, commit_ts: Tso(0) },
            snapshot: checkpoint.snapshot,
            start_offset: checkpoint.start_offset,
            watermark: Tso(0),
        };
        if offset < checkpoint.start_offset {
            if task.spec.phases.full {
                return Err(outside(
                    pointer(to),
                    format!(
                        "offset {offset} lies before {}, where the task began: what was committed up to then is in its full copy",
                        checkpoint.start_offset
                    ),
                ));
            }
            if task.spec.tables_without_key == TablesWithoutKey::MatchRow {
                let detail = "changes of tables without a key cannot be applied from before the task's start: they may be there already";
                return Err(Refusal::PositionBlocked(detail.to_owned()));
            }
            (moved.snapshot, moved.start_offset) = (Tso(0), offset);
        }
        let passed = if offset < current {
            self.judge_back(task, offset).await?
        } else {
            self.judge_forward(task, &topic, current, offset).await?;
            Vec::new()
        };
        // As the worker will look at it when it starts.
        let not_before = if moved.snapshot == Tso(0) { Offset(0) } else { moved.start_offset };
        let back = topic.read_back(offset, not_before, Limits::default()).await?;
        moved.position.commit_ts = back
            .messages
            .iter()
            .filter(|seen| seen.commit_ts > moved.snapshot && seen.shape() != Shape::Resolved)
            .map(|seen| seen.commit_ts)
            .max()
            .unwrap_or_default();
        if offset == current {
            moved.position = checkpoint.position;
        }
        moved.watermark = Tso(moved.position.commit_ts.0.saturating_sub(1)).max(moved.snapshot);
        Ok((range, moved, passed))
    }

    /// DDL that the tables have seen and that lies behind the new place.
    async fn judge_back(&self, task: &TaskRow, offset: Offset) -> Answer<Vec<i64>> {
        let mut passed = Vec::new();
        let mut texts = Vec::new();
        let mut after = 0;
        loop {
            let records = self.store.ddl_list(&task.id, after, 500).await?;
            let (Some(first), Some(last)) = (records.first(), records.last()) else { break };
            if after == 0 && first.n > 1 && offset <= first.offset {
                return Err(Refusal::PositionBlocked(format!(
                    "the DDL before offset {} is no longer on record: which of it lies behind that position cannot be told",
                    first.offset
                )));
            }
            after = last.n;
            for record in records.into_iter().filter(|record| record.offset >= offset) {
                // What was passed over changed nothing there, and what failed comes again.
                if record.state != DdlState::Done {
                    continue;
                }
                if let Some(why) = replay::blocks_replay(record.source_text.as_bytes()) {
                    let (n, at) = (record.n, record.offset);
                    return Err(Refusal::PositionBlocked(format!(
                        "DDL {n} at offset {at} is applied and lies behind that position: {why}; go back to offset {} at most",
                        at.0 + 1
                    )));
                }
                passed.push(record.n);
                texts.push(record.source_text);
            }
        }
        if replay::adds_and_drops(texts.iter().map(String::as_str)) {
            return Err(Refusal::PositionBlocked(
                "columns were added and others dropped behind that position: rows from before fit the tables no more"
                    .to_owned(),
            ));
        }
        Ok(passed)
    }

    /// DDL that the tables would never see.
    async fn judge_forward(&self, task: &TaskRow, topic: &Topic, from: Offset, until: Offset) -> Answer<()> {
        let selection = Selection::new(&task.spec).map_err(Refusal::Invalid)?;
        let wanted =
            move |schema: &str, table: &str, text: &[u8]| replay::concerns(schema, table, text, &selection);
        for ddl in topic.ddl_between(from, until, wanted).await? {
            let known = self.store.ddl_by_commit_ts(&task.id, ddl.commit_ts).await?;
            if known.is_some_and(|known| matches!(known.state, DdlState::Done | DdlState::Ignored)) {
                continue;
            }
            let name = format!("{}.{}", ddl.schema, ddl.table);
            return Err(Refusal::PositionBlocked(format!(
                "a DDL of {name} at offset {} lies on the way and the target would never see it; go to offset {} at most",
                ddl.offset, ddl.offset
            )));
        }
        Ok(())
    }
}

fn pointer(to: To) -> &'static str {
    match to {
        To::Offset(_) => "/offset",
        To::After(_) => "/tso",
    }
}

fn outside(pointer: &str, detail: String) -> Refusal {
    Refusal::OutsideRetention(Fault::new(pointer, "outside_retention", detail))
}

async fn find(topic: &Topic, range: LogRange, to: To) -> Answer<Offset> {
    match to {
        To::Offset(offset) if range.holds(offset) => Ok(offset),
        To::Offset(offset) => Err(outside(
            "/offset",
            format!(
                "the topic holds offsets {} to {}, and {offset} is not one of them",
                range.start, range.end
            ),
        )),
        To::After(tso) => {
            if tso.physical_ms() > now_ms() + CLOCKS {
                return Err(outside("/tso", "that time is still to come".to_owned()));
            }
            let from = match topic.find_start(Start::After(tso)).await {
                Ok(from) => from,
                Err(error) if error.kind == ErrorKind::PositionLost => {
                    return Err(outside("/tso", held(topic, range, &error).await?));
                }
                Err(error) => return Err(error.into()),
            };
            Ok(topic.first_after(from, tso).await?.map_or(range.end, |(offset, _)| offset))
        }
    }
}

/// What the topic still has, in offsets and times.
async fn held(topic: &Topic, range: LogRange, error: &Error) -> Answer<String> {
    let first = topic.first_after(range.start, Tso(0)).await?;
    let since = first.map_or_else(String::new, |(_, tso)| {
        let time = chrono::DateTime::from_timestamp_millis(tso.physical_ms()).unwrap_or_default();
        format!(
            ", the first committed at {} (TSO {tso})",
            time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        )
    });
    Ok(format!("{}; it holds offsets {} to {}{since}", error.message, range.start, range.end))
}

//! The marker row of a task on its target (design.md 10.2): who writes, and how far it is.
//!
//! Rows are applied, then the marker's number goes up, then the checkpoint takes that number. So at the start of a run the number of the
//! target is that of the store, or one more where a crash came in between. A higher one: the store was restored from an older
//! copy. A lower one: the target was. And each run writes its own name into the row: one that does not find it there any more
//! has been replaced, also by a process with a copy of the same data folder.

use super::keyless::create_database;
use crate::adb;
use crate::crash;
use crate::engine::worker::WorkerContext;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Dialect, Offset, Position, Tso};
use crate::mysql::Session;
use crate::sql::literal;
use crate::store::{Checkpoint, Use};

const MARKS: &str = "`tidegate`.`marks`";

/// What the marker says of the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Fits,
    /// The target has more than the store knows: up to here.
    StoreIsOlder(Position),
    /// The target has less than the store believes: up to here.
    TargetIsOlder(Position),
}

/// The marker row of one run, over a connection of its own.
#[derive(Debug)]
pub struct Marker {
    /// None while nothing is marked.
    session: Option<Session>,
    /// As literals.
    task: String,
    run: String,
    /// On the target.
    number: u64,
    /// In the store.
    kept: u64,
}

struct Row {
    start: String,
    number: u64,
    position: Position,
}

impl Marker {
    /// Takes the row for this run. None when the target's user may not make it.
    pub async fn claim(context: &WorkerContext, checkpoint: &Checkpoint) -> Result<(Option<Self>, Standing)> {
        let mut session = connect(context).await?;
        match make(&mut session, context.dialect).await {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::AccessDenied => {
                tracing::warn!(task.id = %context.task, %error, "no marker row on the target: a restored store or target is not noticed");
                session.close().await;
                return Ok((None, Standing::Fits));
            }
            Err(error) => return Err(error.object(MARKS)),
        }
        let start = format!("{}:{}", checkpoint.snapshot, checkpoint.start_offset);
        let row = read(&mut session, &context.task.0).await?;
        let fresh = |number: u64, position: Position| Row { start: start.clone(), number, position };
        let (row, standing) = match row {
            Some(row) if row.start == start => {
                let standing = judge(checkpoint, &row);
                (row, standing)
            }
            // Of an earlier copy, or somebody dropped it: nothing can be said.
            Some(_) | None => (fresh(checkpoint.mark, checkpoint.position), Standing::Fits),
        };
        let marker = Self {
            task: literal::string(&context.task.0),
            run: literal::string(&ulid::Ulid::new().to_string()),
            number: row.number,
            kept: checkpoint.mark,
            session: None,
        };
        marker.write_first(session, row).await.map(|marker| (Some(marker), standing))
    }

    /// The number and position stay as they were found: until the checkpoint has followed they are found again.
    async fn write_first(mut self, mut session: Session, row: Row) -> Result<Self> {
        session
            .execute(format!(
                "replace into {MARKS} (task, start, run, number, next_offset, commit_ts) values ({}, {}, {}, {}, {}, {})",
                self.task,
                literal::string(&row.start),
                self.run,
                row.number,
                row.position.next_offset.0,
                row.position.commit_ts.0
            ))
            .await
            .map_err(|error| error.object(MARKS))?;
        self.session = Some(session);
        Ok(self)
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number that the store must take with its next position.
    pub fn owed(&self) -> Option<u64> {
        (self.number != self.kept).then_some(self.number)
    }

    /// The store has the number.
    pub fn kept(&mut self) {
        self.kept = self.number;
    }

    /// Has the store take the number, without a position.
    pub async fn keep(&mut self, context: &WorkerContext) -> Result<()> {
        if let Some(number) = self.owed() {
            context.store.set_mark(&context.task, context.epoch, number).await?;
            self.kept();
        }
        Ok(())
    }

    /// Everything before the position is in the target. The store owes the number from here on.
    ///
    /// # Errors
    /// `Fenced` when another run has taken the row.
    pub async fn set(&mut self, context: &WorkerContext, position: Position) -> Result<()> {
        // The target is never more than one ahead.
        self.keep(context).await?;
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(connect(context).await?),
        };
        let next = self.number + 1;
        let done = session
            .execute(format!(
                "update {MARKS} set number = {next}, next_offset = {}, commit_ts = {} where task = {} and run = {}",
                position.next_offset.0, position.commit_ts.0, self.task, self.run
            ))
            .await
            .map_err(|error| error.object(MARKS))?;
        if done.affected_rows != 1 {
            return Err(Error::new(
                ErrorKind::Fenced,
                "another process has taken the task's marker row on the target: a copy of the data folder is in use",
            )
            .endpoint(Endpoint::Target)
            .object(MARKS)
            .hint("stop the other process; only one may use a data folder or a copy of it"));
        }
        self.number = next;
        crash::point("marker.set");
        Ok(())
    }

    /// A task that begins anew has no row: that of an earlier start from the same offset would tell of a restored store.
    pub async fn forget(context: &WorkerContext) -> Result<()> {
        let mut session = adb::connect(&context.target, context.dialect).await?;
        let task = literal::string(&context.task.0);
        match session.execute(format!("delete from {MARKS} where task = {task}")).await {
            Ok(_) => {}
            // There is none, or it may not be made.
            Err(error) if matches!(error.kind, ErrorKind::Missing | ErrorKind::AccessDenied) => {}
            Err(error) => return Err(error.object(MARKS)),
        }
        session.close().await;
        Ok(())
    }

    /// Lets its connection go until it is needed again.
    pub async fn rest(&mut self, context: &WorkerContext) {
        let Some(session) = self.session.take() else { return };
        let id = session.id();
        session.close().await;
        if let Err(error) = context.store.sessions_gone(&context.task, context.epoch, &[id]).await {
            tracing::debug!(task.id = %context.task, %error, "a closed session stays on record until the next run");
        }
    }

    pub async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

/// A session that the next run can end, like every one that writes.
async fn connect(context: &WorkerContext) -> Result<Session> {
    let session = adb::connect(&context.target, context.dialect).await?;
    context.store.session_opened(&context.task, context.epoch, session.id(), Use::Task).await?;
    Ok(session)
}

fn judge(checkpoint: &Checkpoint, row: &Row) -> Standing {
    if row.number > checkpoint.mark + 1 {
        Standing::StoreIsOlder(row.position)
    } else if row.number < checkpoint.mark {
        Standing::TargetIsOlder(row.position)
    } else {
        Standing::Fits
    }
}

async fn make(session: &mut Session, dialect: Dialect) -> Result<()> {
    create_database(session).await?;
    let tail = match dialect {
        Dialect::Adb => " distributed by hash(task)",
        Dialect::Mysql => "",
    };
    session
        .execute(format!(
            "create table if not exists {MARKS} (task varchar(64) not null, start varchar(64) not null, run varchar(32) not null, \
             number bigint not null, next_offset bigint not null, commit_ts bigint not null, primary key (task)){tail} \
             comment 'tidegate: which process writes the tables of a task, and how far it is'"
        ))
        .await
        .map(|_| ())
}

async fn read(session: &mut Session, task: &str) -> Result<Option<Row>> {
    let sql = format!(
        "select start, number, next_offset, commit_ts from {MARKS} where task = {}",
        literal::string(task)
    );
    let row: Option<(String, u64, i64, u64)> =
        session.first(&sql).await.map_err(|error| error.object(MARKS))?;
    Ok(row.map(|(start, number, next_offset, commit_ts)| Row {
        start,
        number,
        position: Position { next_offset: Offset(next_offset), commit_ts: Tso(commit_ts) },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ahead_is_a_crash_in_between_and_more_is_an_older_copy() {
        let position = Position { next_offset: Offset(9), commit_ts: Tso(1) };
        let checkpoint = |mark| Checkpoint {
            snapshot: Tso(1),
            start_offset: Offset(0),
            position,
            cluster_id: String::new(),
            topic: String::new(),
            watermark: Tso(0),
            schema_done: true,
            full_done: true,
            bytewise: false,
            mark,
            anchor: None,
            updated_at_ms: 0,
        };
        let row = |number| Row { start: String::new(), number, position };
        assert_eq!(judge(&checkpoint(5), &row(5)), Standing::Fits);
        assert_eq!(judge(&checkpoint(5), &row(6)), Standing::Fits);
        assert_eq!(judge(&checkpoint(5), &row(7)), Standing::StoreIsOlder(position));
        assert_eq!(judge(&checkpoint(5), &row(4)), Standing::TargetIsOlder(position));
    }
}

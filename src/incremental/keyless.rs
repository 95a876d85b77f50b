//! Tables without a key: every change finds its row by all columns, exactly once.
//!
//! Such changes cannot be repeated, so a batch of them and a position row go into one transaction of the target; a change
//! whose place lies before the position row is there already. MySQL targets only.

use crate::adb::throttle::Traffic;
use crate::adb::writer::Writer;
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Offset, TaskId};
use crate::mysql::Session;
use crate::sql::literal;

use super::batch::{Batch, KeylessChange, Place, TableBatch};

/// Schema and table of the position rows on the target.
pub const POSITIONS: &str = "`tidegate`.`positions`";

/// The position row of one run from one start.
#[derive(Debug)]
pub struct Keyless {
    id: String,
    /// Changes before this place are in the target; None before the first look.
    applied: Option<Place>,
}

impl Keyless {
    /// `start` tells runs of one task from different starts apart: a new copy begins a new row.
    pub fn new(task: &TaskId, start: &str) -> Self {
        Self { id: format!("{task}:{start}"), applied: None }
    }

    /// Applies the batch's keyless changes in stream order.
    pub async fn apply(&mut self, writer: &Writer, batch: &Batch, limits: (usize, usize)) -> Result<()> {
        let Some(last) =
            batch.tables.iter().flat_map(|table| &table.keyless).map(|change| change.place).max()
        else {
            return Ok(());
        };
        let gate = writer.gate();
        let mut lane = writer.lane().await?;
        // One transaction: it passes as a whole.
        let (rows, bytes) = batch.keyless();
        let _permit = gate.pass(Traffic::Incremental, rows, bytes).await?;
        let done = self.transaction(&mut lane.session, batch, last, limits).await;
        if done.is_err()
            && !lane.session.is_broken()
            && let Err(error) = lane.session.execute("rollback").await
        {
            // The transaction may still hold what others wait for: a run of its own ends it.
            lane.session.give_up();
            return Err(error);
        }
        done
    }

    /// `last`: the batch's last change.
    async fn transaction(
        &mut self,
        session: &mut Session,
        batch: &Batch,
        last: Place,
        limits: (usize, usize),
    ) -> Result<()> {
        let after = Place { nth: last.nth + 1, ..last };
        let applied = loop {
            let applied = match self.applied {
                Some(applied) => applied,
                None => self.prepare(session).await?,
            };
            self.applied = Some(applied);
            if last < applied {
                return Ok(());
            }
            session.execute("begin").await?;
            // First the place, which nobody else can move from then on.
            if self.moved(session, applied, after).await? {
                break applied;
            }
            // A process with a copy of the data folder has moved it. Which of the two goes on is said by the marker.
            session.execute("rollback").await?;
            self.applied = None;
        };
        crash::point("keyless.begun");
        self.changes(session, batch, applied, limits).await?;
        crash::point("keyless.before");
        session.execute("commit").await?;
        crash::point("keyless.committed");
        self.applied = Some(after);
        Ok(())
    }

    /// Changes before this offset are in the target by another way: the copy of a table brought them. Late transactions
    /// read the topic again from before it.
    pub async fn skip_to(&mut self, writer: &Writer, offset: Offset) -> Result<()> {
        let after = Place { offset: offset.0, nth: 0 };
        let mut lane = writer.lane().await?;
        let session = &mut lane.session;
        if self.prepare(session).await? < after {
            let id = literal::string(&self.id);
            session
                .execute(format!(
                    "update {POSITIONS} set message_offset = {}, changes = 0 where id = {id}",
                    after.offset
                ))
                .await?;
        }
        self.applied = None;
        Ok(())
    }

    async fn prepare(&self, session: &mut Session) -> Result<Place> {
        create_database(session).await?;
        session
            .execute(format!(
                "create table if not exists {POSITIONS} (id varchar(128) primary key, message_offset bigint not null, changes bigint not null) \
                 comment 'tidegate: changes of tables without a key that are in this server'"
            ))
            .await?;
        let id = literal::string(&self.id);
        session.execute(format!("insert ignore into {POSITIONS} values ({id}, 0, 0)")).await?;
        let row: Option<(i64, u64)> = session
            .first(&format!("select message_offset, changes from {POSITIONS} where id = {id}"))
            .await?;
        let (offset, nth) = row.ok_or_else(|| {
            Error::internal("the position row just written is not there").endpoint(Endpoint::Target)
        })?;
        Ok(Place { offset, nth })
    }

    async fn changes(
        &self,
        session: &mut Session,
        batch: &Batch,
        applied: Place,
        (rows, bytes): (usize, usize),
    ) -> Result<()> {
        for table in &batch.tables {
            let mut insert = Insert { sql: Vec::new(), rows: 0, relaxed: false };
            for change in table.keyless.iter().filter(|change| change.place >= applied) {
                if change.matches.is_some() {
                    insert.send(session, table).await?;
                    remove(session, table, change).await?;
                }
                if let Some(tuple) = &change.tuple {
                    let tuple = table.text(tuple);
                    if insert.rows >= rows
                        || insert.sql.len() + tuple.len() > bytes
                        || insert.relaxed != change.relaxed
                    {
                        insert.send(session, table).await?;
                    }
                    insert.push(table, tuple, change.relaxed);
                }
            }
            insert.send(session, table).await?;
        }
        Ok(())
    }

    /// Moves the place in the open transaction. False when it is another than was believed.
    async fn moved(&self, session: &mut Session, applied: Place, after: Place) -> Result<bool> {
        let id = literal::string(&self.id);
        let done = session
            .execute(format!(
                "update {POSITIONS} set message_offset = {}, changes = {} \
                 where id = {id} and message_offset = {} and changes = {}",
                after.offset, after.nth, applied.offset, applied.nth
            ))
            .await?;
        Ok(done.affected_rows == 1)
    }
}

/// Makes the database of our own tables on the target. One that is there needs no privilege to make it.
pub(super) async fn create_database(session: &mut Session) -> Result<()> {
    let there: Option<u8> =
        session.first("select 1 from information_schema.schemata where schema_name = 'tidegate'").await?;
    if there.is_none() {
        session.execute("create database if not exists `tidegate`").await?;
    }
    Ok(())
}

struct Insert {
    sql: Vec<u8>,
    rows: usize,
    relaxed: bool,
}

impl Insert {
    fn push(&mut self, table: &TableBatch, tuple: &[u8], relaxed: bool) {
        if self.rows == 0 {
            self.sql.clear();
            self.sql.extend_from_slice(&table.layout.insert_head);
        } else {
            self.sql.push(b',');
        }
        self.sql.extend_from_slice(tuple);
        self.rows += 1;
        self.relaxed = relaxed;
    }

    async fn send(&mut self, session: &mut Session, table: &TableBatch) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        crate::adb::writer::run(session, &self.sql, self.relaxed)
            .await
            .map_err(|error| error.object(&table.layout.target))
    }
}

async fn remove(session: &mut Session, table: &TableBatch, change: &KeylessChange) -> Result<()> {
    let Some(matches) = &change.matches else { return Ok(()) };
    let mut sql = table.layout.match_delete_head.clone();
    sql.extend_from_slice(table.text(matches));
    sql.extend_from_slice(b" LIMIT 1");
    let done = session.execute(sql).await.map_err(|error| error.object(&table.layout.target))?;
    if done.affected_rows == 1 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SchemaMismatch,
        format!("the row that the message at offset {} changes is not in the target", change.place.offset),
    )
    .endpoint(Endpoint::Target)
    .object(&table.layout.target)
    .hint("the table has no key and differs from the source; copy it again"))
}

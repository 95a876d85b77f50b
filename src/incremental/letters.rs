//! Rows that the target refuses: found by halving their statement, set aside by policy, tried again by command.
//!
//! A refused row is the newest change of its key in the batch. It is set aside with both its images, in the transaction that moves
//! the position over it, and the target keeps the newest image that it took: the row as it was before the change. What must stay
//! true is the order of a row's images. A letter is watched from then on: when a later change of its key is in the target, the
//! letter is superseded, in the transaction that moves the position over that change. A retry happens between batches, when
//! everything read is acknowledged, and only for letters that are still open: so it writes the newest image that there is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::batch::{Batch, Part, Piece, Place, TableBatch, pieces};
use super::catalog::{Entry, Resolved};
use super::layout::Layout;
use super::plan::Steps;
use super::stream::Stream;
use crate::adb::writer::Writer;
use crate::binlog::encode::{Binlog, Column, Encode, Mutation as Change, Row, Table};
use crate::binlog::message::{Mutation, MutationKind};
use crate::binlog::{ChangeSource, ColumnInfo, Ddl, Kind, Malformed, Message, TableChange};
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Offset, TableName, Tso, Zone};
use crate::sql::ddl;
use crate::sql::ddl::ast::{AlterClause, Statement};
use crate::store::{Letter, LetterColumn, LetterRow, OpenLetter, over_limit};
use crate::task::spec::RowErrorPolicy;

/// A row that the target refused alone.
#[derive(Debug)]
pub struct Refused {
    pub table: usize,
    pub entry: u32,
    pub error: Error,
}

/// What a run of the stream keeps of letters.
#[derive(Debug, Default)]
pub struct Letters {
    /// Open ones, by folded name of their table.
    open: HashMap<TableName, Vec<OpenLetter>>,
    /// Set aside since the position was saved.
    pub new: Vec<Letter>,
    /// Open ones whose row has changed since, in the target.
    pub superseded: Vec<i64>,
}

impl Letters {
    pub fn is_saved(&self) -> bool {
        self.new.is_empty() && self.superseded.is_empty()
    }

    pub fn load(&mut self, open: Vec<OpenLetter>) {
        self.open.clear();
        for letter in open {
            self.open.entry(letter.table.clone()).or_default().push(letter);
        }
    }

    fn knows(&self, letter: &Letter) -> bool {
        self.open.get(&letter.table.key()).is_some_and(|open| {
            open.iter().any(|known| {
                known.offset == letter.offset && known.nth == letter.nth && known.key == letter.key
            })
        })
    }

    /// A batch is in the target, but for what it sets aside.
    pub fn acknowledged(&mut self, batch: &mut Batch) {
        let letters = std::mem::take(&mut batch.letters);
        // What a batch before this one set aside, and is not saved yet.
        self.new.retain(|letter| !is_newer(batch, letter));
        for (at, table) in batch.tables.iter().enumerate() {
            let Some(open) = self.open.get_mut(&table.layout.source.key()) else { continue };
            open.retain(|letter| {
                let since = Place { offset: letter.offset, nth: letter.nth };
                // Its own change too: it was read again, and is taken now or set aside once more.
                let stays = batch.place_of(at, &letter.key).is_none_or(|place| place < since);
                if !stays {
                    self.superseded.push(letter.n);
                }
                stays
            });
        }
        for letter in letters {
            let since = Place { offset: letter.offset, nth: letter.nth };
            // Of two letters of a row the newer stands for it.
            if let Some(open) = self.open.get_mut(&letter.table.key()) {
                open.retain(|older| {
                    let stays =
                        older.key != letter.key || Place { offset: older.offset, nth: older.nth } >= since;
                    if !stays {
                        self.superseded.push(older.n);
                    }
                    stays
                });
            }
            let unsaved = |older: &Letter| {
                older.table == letter.table
                    && older.key == letter.key
                    && Place { offset: older.offset, nth: older.nth } < since
            };
            self.new.retain(|older| !unsaved(older));
            // What the same batch brought behind it is newer.
            if !is_newer(batch, &letter) {
                self.new.push(letter);
            }
        }
    }
}

/// Whether the batch has a later change of the letter's row.
fn is_newer(batch: &Batch, letter: &Letter) -> bool {
    let since = Place { offset: letter.offset, nth: letter.nth };
    batch.tables.iter().enumerate().any(|(at, table)| {
        table.layout.source == letter.table
            && batch.place_of(at, &letter.key).is_some_and(|place| place > since)
    })
}

/// Sends statements; those that hold a refused row are halved until it stands alone. More than `most` of them are an error: the
/// first one's, for which the whole batch is sent again by the next run.
pub async fn send(
    writer: &Writer,
    batch: &Arc<Batch>,
    pieces: Vec<Piece>,
    most: usize,
) -> Result<Vec<Refused>> {
    let mut refused: Vec<Refused> = Vec::new();
    let mut waiting = pieces;
    while !waiting.is_empty() {
        for (piece, error) in writer.run(std::mem::take(&mut waiting)).await? {
            match piece.halves() {
                Ok(halves) => waiting.extend(halves),
                Err(piece) => {
                    let Some((table, entry)) = piece.only() else { continue };
                    let found = Refused { table, entry, error };
                    if refused.len() >= most {
                        return Err(if most == 0 {
                            named(batch, &found)
                        } else {
                            over_limit(most as i64 - 1, &found.error)
                        });
                    }
                    refused.push(found);
                }
            }
        }
    }
    Ok(refused)
}

/// The error with the row's place and the names of its key, never with a value.
fn named(batch: &Batch, refused: &Refused) -> Error {
    let error = refused.error.clone();
    let Some((table, _, place)) = batch.entry(refused.table, refused.entry) else { return error };
    Error {
        message: format!(
            "{} (row change {} of the message at offset {}; its key is in {})",
            error.message,
            place.nth,
            place.offset,
            table.layout.key_columns.join(", ")
        ),
        hint: Some(error.hint.clone().unwrap_or_else(|| {
            "widen the column on the target and resume; or set errors.row to dead_letter, which sets such rows aside and goes on"
                .to_owned()
        })),
        ..error
    }
}

fn corrupt(fault: Malformed) -> Error {
    Error::new(ErrorKind::CorruptMessage, fault.to_string()).endpoint(Endpoint::Kafka)
}

fn columns(columns: &[ColumnInfo<'_>]) -> Vec<LetterColumn> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    columns
        .iter()
        .map(|column| LetterColumn { name: text(column.name), ty: text(column.mysql_type) })
        .collect()
}

/// A row change as it is set aside.
pub fn letter(
    layout: &Layout,
    change: &TableChange<'_>,
    mutation: &Mutation<'_, '_>,
    (place, commit_ts): (Place, Tso),
    error: Error,
) -> Result<Letter> {
    let row = Some(mutation.row.as_bytes().to_vec());
    let old = mutation.old.as_ref().map(|old| old.as_bytes().to_vec());
    let (operation, new_row, old_row) = match mutation.kind {
        MutationKind::Insert => ("insert", row, None),
        MutationKind::Update => ("update", row, old),
        MutationKind::Delete => ("delete", None, row),
    };
    Ok(Letter {
        table: layout.source.clone(),
        phase: "incremental",
        operation,
        key_columns: layout.key_columns.clone(),
        key: TableBatch::key_of(layout, &mutation.row)?,
        columns: columns(&change.columns),
        new_row,
        old_row,
        offset: place.offset,
        nth: place.nth,
        commit_ts,
        error,
        blocked: None,
    })
}

impl<S: ChangeSource> Stream<S> {
    /// How many rows of a batch may be set aside.
    pub(super) fn most_letters(&self) -> usize {
        let errors = self.context.spec.errors;
        if errors.row == RowErrorPolicy::DeadLetter && !self.is_side() {
            // One more than may be: the limit has words of its own.
            errors.dead_letter_limit as usize + 1
        } else {
            0
        }
    }

    /// By policy, and because the row can be told by a key.
    pub(super) fn sets_aside(&self, layout: &Layout, error: &Error) -> bool {
        self.most_letters() > 0 && !layout.keyless && error.kind == ErrorKind::ValueRefused
    }

    /// # Errors
    /// There would be more open letters than the limit allows.
    pub(super) async fn room_for_letters(&self, batch: &Batch) -> Result<()> {
        let Some(first) = batch.letters.first() else { return Ok(()) };
        let task = &self.context.task;
        let open = self.context.store.letter_counts(&[task]).await?.get(task).map_or(0, |(open, _)| *open);
        let new = batch.letters.iter().filter(|letter| !self.letters.knows(letter)).count() as i64;
        let limit = i64::from(self.context.spec.errors.dead_letter_limit);
        if open + new <= limit {
            return Ok(());
        }
        Err(over_limit(limit, &first.error))
    }

    /// Turns refused rows of a batch into letters, with their images from the topic, and puts the target's rows back to what
    /// they were before.
    pub(super) async fn set_aside(&mut self, batch: &mut Batch, refused: Vec<Refused>) -> Result<()> {
        let mut wanted: BTreeMap<Place, Refused> = BTreeMap::new();
        for refused in refused {
            if let Some((_, _, place)) = batch.entry(refused.table, refused.entry) {
                wanted.insert(place, refused);
            }
        }
        let offsets: BTreeSet<Offset> = wanted.keys().map(|place| Offset(place.offset)).collect();
        let mut before = Batch::default();
        for (offset, payload) in self.topic.read_at(offsets).await? {
            let message = Message::parse(&payload).map_err(corrupt)?;
            let Kind::Dml(tables) = message.kind else { continue };
            let mut nth = 0;
            for change in tables {
                let change = change.map_err(corrupt)?;
                for mutation in change.mutations() {
                    let mutation = mutation.map_err(corrupt)?;
                    let place = Place { offset: offset.0, nth };
                    nth += 1;
                    let Some(refused) = wanted.remove(&place) else { continue };
                    let Some((table, _, _)) = batch.entry(refused.table, refused.entry) else { continue };
                    let layout = Arc::clone(&table.layout);
                    let letter =
                        letter(&layout, &change, &mutation, (place, message.commit_ts), refused.error)?;
                    if let Some(old) = mutation.old
                        && TableBatch::key_of(&layout, &old)? == letter.key
                        && let Some(slot) = before.slot(&layout)
                    {
                        let again = Mutation { kind: MutationKind::Update, row: old, old: Some(old) };
                        // An image that cannot be sent was not there either.
                        let _ = before.fold(slot, &again, place, 0);
                    }
                    batch.letters.push(letter);
                }
            }
        }
        if let Some(lost) = wanted.keys().next() {
            return Err(Error::new(
                ErrorKind::PositionLost,
                format!("the message at offset {} holds a refused row and cannot be read again", lost.offset),
            )
            .endpoint(Endpoint::Kafka)
            .hint("the topic's retention ran past it: resync the table"));
        }
        self.room_for_letters(batch).await?;
        crash::point("letters.refused");
        let limits = self.limits(1);
        let before = Arc::new(before);
        let [first, second] = pieces(&before, limits, Part::Whole);
        let writer = self.writer()?;
        for step in [first, second] {
            send(writer, &before, step, usize::MAX).await?;
        }
        crash::point("letters.put_back");
        Ok(())
    }

    /// Tries letters again whose retry is asked for.
    pub(super) async fn retry_letters(&mut self) -> Result<()> {
        let asked = self.context.store.asked_letters(&self.context.task).await?;
        if asked.is_empty() {
            return Ok(());
        }
        // From here on what is on record as open is open: every later change of its row would be in the target.
        self.flush().await?;
        self.save().await?;
        let (store, task, epoch) =
            (self.context.store.clone(), self.context.task.clone(), self.context.epoch);
        for letter in self.context.store.asked_letters(&task).await? {
            let outcome = match self.retry_letter(&letter).await {
                Ok(()) => Ok(()),
                // It says nothing about the letter: the retry stays asked for.
                Err(error) if !error.concerns_one_table() => return Err(error),
                Err(error) => Err(error),
            };
            tracing::info!(task.id = %task, table = %letter.table, n = letter.n, refused = outcome.is_err(), "dead letter tried again");
            crash::point("letter.retried");
            store.letter_tried(&task, epoch, letter.n, outcome.as_ref().map(|_| ())).await?;
            crash::point("letter.tried");
        }
        self.load_letters().await
    }

    async fn retry_letter(&mut self, letter: &LetterRow) -> Result<()> {
        let refuse = |what: &str| Error::new(ErrorKind::ValueRefused, what).object(&letter.table);
        if let Some(why) = &letter.blocked {
            return Err(refuse(why));
        }
        let tracked = match self.catalog.resolve(&letter.table)? {
            Resolved::Table(tracked) => tracked,
            _ => return Err(refuse("the table is not followed now")),
        };
        let message = message(letter)?;
        let message = Message::parse(&message).map_err(corrupt)?;
        let Kind::Dml(tables) = message.kind else { return Err(refuse("the letter holds no row")) };
        // Full sync reads in UTC.
        let zone = if letter.phase == "full" { Arc::new(Zone::Utc) } else { self.zone() };
        let mut batch = Batch::default();
        for change in tables {
            let change = change.map_err(corrupt)?;
            let layout = Arc::new(Layout::new(&tracked, &change.columns, &zone)?);
            let Some(slot) = batch.slot(&layout) else { continue };
            for mutation in change.mutations() {
                let mutation = mutation.map_err(corrupt)?;
                let place = Place { offset: letter.offset, nth: letter.nth };
                batch.fold(
                    slot,
                    &mutation,
                    place,
                    Tso(letter.commit_ts.max(0).cast_unsigned()).physical_ms(),
                )?;
            }
        }
        let limits = self.limits(1);
        let batch = Arc::new(batch);
        let [first, second] = pieces(&batch, limits, Part::Whole);
        let writer = self.writer()?;
        for step in [first, second] {
            send(writer, &batch, step, 0).await?;
        }
        for table in batch.tables.iter().filter(|table| !table.lossy.is_empty()) {
            self.count_lossy(&table.layout.source, &table.lossy);
        }
        Ok(())
    }

    pub(super) async fn load_letters(&mut self) -> Result<()> {
        let open = self.context.store.open_letters(&self.context.task).await?;
        self.letters.load(open);
        Ok(())
    }

    /// What a DDL that is applied means for open letters of its tables. May be repeated.
    pub(super) async fn letters_meet(&mut self, event: &Ddl<'_>, steps: &Steps) -> Result<()> {
        if self.letters.open.values().all(Vec::is_empty) {
            return Ok(());
        }
        let schema = String::from_utf8_lossy(event.schema_name);
        let statements = ddl::parse(event.query).unwrap_or_default();
        let key_columns = |name: &TableName| -> Vec<String> {
            let open = self.letters.open.get(&name.key());
            open.into_iter().flatten().flat_map(|letter| letter.key_columns.clone()).collect()
        };
        let met = meet(&schema, &statements, key_columns);
        let mut gone = met.gone;
        let dropped = steps.change.entries.iter().filter(|(_, entry)| *entry == Entry::Dropped);
        gone.extend(dropped.map(|(name, _)| name.clone()));
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        store.letters_met_ddl(task, epoch, &met.moved, &gone, &met.blocked).await?;
        self.load_letters().await
    }

    /// A new copy of a table holds every row that there is.
    pub(super) async fn letters_copied(&mut self, table: &TableName) -> Result<()> {
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        store.letters_met_ddl(task, epoch, &[], std::slice::from_ref(table), &[]).await?;
        self.load_letters().await
    }
}

/// What DDL means for the letters of its tables.
#[derive(Debug, Default)]
struct Met {
    moved: Vec<(TableName, TableName)>,
    gone: Vec<TableName>,
    blocked: Vec<(TableName, String)>,
}

fn meet(schema: &str, statements: &[Statement], key_columns: impl Fn(&TableName) -> Vec<String>) -> Met {
    let mut met = Met::default();
    for statement in statements {
        match statement {
            Statement::TruncateTable { name } => met.gone.push(name.or_schema(schema)),
            Statement::RenameTable { pairs } => {
                met.moved
                    .extend(pairs.iter().map(|(from, to)| (from.or_schema(schema), to.or_schema(schema))));
            }
            Statement::Recover { names } => {
                let why = "the table was restored since: compare the row, then discard the letter or resync the table";
                met.blocked.extend(names.iter().map(|name| (name.or_schema(schema), why.to_owned())));
            }
            Statement::AlterTable { name, clauses } => {
                let name = name.or_schema(schema);
                let keys = key_columns(&name);
                let in_key = |column: &String| keys.iter().any(|key| key.eq_ignore_ascii_case(column));
                for clause in clauses {
                    let why = match clause {
                        AlterClause::Rename { to } => {
                            met.moved.push((name.clone(), to.or_schema(schema)));
                            continue;
                        }
                        AlterClause::DropPartitions { .. }
                        | AlterClause::TruncatePartitions { .. }
                        | AlterClause::ExchangePartition { .. } => "rows of partitions have gone since",
                        AlterClause::DropPrimaryKey | AlterClause::ConvertCharset { .. } => {
                            "the table's key has changed since"
                        }
                        AlterClause::ChangeColumn { old, .. } if in_key(old) => {
                            "the table's key has changed since"
                        }
                        AlterClause::RenameColumn { old, .. } if in_key(old) => {
                            "the table's key has changed since"
                        }
                        _ => continue,
                    };
                    let why = format!("{why}: compare the row, then discard the letter or resync the table");
                    met.blocked.push((name.clone(), why));
                }
            }
            _ => {}
        }
    }
    met
}

/// A letter as a message of Drainer with one change: its row as it shall be. An update is one of the row to itself, for the row
/// that it was before may be another's by now.
fn message(letter: &LetterRow) -> Result<Vec<u8>> {
    let lost = |_| Error::internal("a dead letter's image in the store cannot be read").object(&letter.table);
    let image = letter.new_row.as_deref().or(letter.old_row.as_deref()).unwrap_or_default();
    let row = Row::decode(image).map_err(lost)?;
    let (kind, change_row) = match letter.operation.as_str() {
        "delete" => (crate::binlog::encode::DELETE, None),
        "insert" => (crate::binlog::encode::INSERT, None),
        _ => (crate::binlog::encode::UPDATE, Some(row.clone())),
    };
    let column = |column: &LetterColumn| Column {
        name: column.name.clone().into_bytes(),
        mysql_type: column.ty.clone().into_bytes(),
        is_primary_key: letter.key_columns.contains(&column.name),
        flen: None,
        decimal: None,
    };
    let table = Table {
        schema_name: Some(letter.table.schema.clone().into_bytes()),
        table_name: Some(letter.table.table.clone().into_bytes()),
        column_info: letter.columns.iter().map(column).collect(),
        mutations: vec![Change { kind, row, change_row }],
        unique_keys: Vec::new(),
    };
    Ok(Binlog::dml(letter.commit_ts.max(1).cast_unsigned(), vec![table]).encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(text: &str) -> Met {
        meet("s", &ddl::parse(text.as_bytes()).unwrap(), |_| vec!["id".to_owned()])
    }

    #[test]
    fn ddl_ends_moves_or_blocks_letters() {
        let name = |table: &str| TableName::new("s", table);
        assert_eq!(met("TRUNCATE TABLE t").gone, [name("t")]);
        assert_eq!(
            met("RENAME TABLE a TO x, b TO a, x TO b").moved,
            [(name("a"), name("x")), (name("b"), name("a")), (name("x"), name("b"))]
        );
        assert_eq!(met("ALTER TABLE a RENAME TO b").moved, [(name("a"), name("b"))]);
        for blocking in [
            "ALTER TABLE t DROP PARTITION p",
            "ALTER TABLE t MODIFY COLUMN id BIGINT",
            "ALTER TABLE t DROP PRIMARY KEY",
        ] {
            assert_eq!(met(blocking).blocked.len(), 1, "{blocking}");
        }
        // The cure of most letters.
        let cure = met("ALTER TABLE t MODIFY COLUMN v VARCHAR(200), ADD COLUMN n INT");
        assert!(cure.blocked.is_empty() && cure.gone.is_empty() && cure.moved.is_empty());
    }
}

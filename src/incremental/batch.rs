//! Folding: many row changes become the last image of each key, ready to be sent.
//!
//! Pure. A row is encoded once, as the SQL tuple that goes into the statement, into the table's arena; folding moves indices,
//! never rows. Keys are compared by canonical bytes; rows that the target's collation takes for one key although their bytes
//! differ are safe because all deletes of a table with text in its key go out before its upserts.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::layout::Layout;
use crate::adb::encode::Pushed;
use crate::adb::parameters::Template;
use crate::adb::writer::Job;
use crate::binlog::message::{Mutation, MutationKind};
use crate::binlog::row::RowBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LossyCounts, TableName};
use crate::store::Letter;

/// The folded change of one key.
#[derive(Debug, Clone)]
struct Entry {
    /// Canonical key in the arena.
    key: Range<usize>,
    /// Upsert: the tuple of the row. Delete: the tuple of the key, in the spelling in which it was deleted.
    tuple: Range<usize>,
    /// Bytes from the tuple's begin that are its own: a later tuple of the key that fits takes its place.
    room: u32,
    delete: bool,
    relaxed: bool,
    /// Of the change that left it so.
    place: Place,
}

/// Where a row change stands in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub offset: i64,
    /// Row changes of the same message before this one.
    pub nth: u64,
}

/// A change of a table without a usable key, in stream order.
#[derive(Debug, Clone)]
pub struct KeylessChange {
    pub place: Place,
    /// Condition that matches the old row, for updates and deletes.
    pub matches: Option<Range<usize>>,
    /// Tuple of the new row, for inserts and updates.
    pub tuple: Option<Range<usize>>,
    pub relaxed: bool,
}

/// Changes of one table in one layout.
#[derive(Debug)]
pub struct TableBatch {
    pub layout: Arc<Layout>,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    index: HashTable<u32>,
    pub keyless: Vec<KeylessChange>,
    /// Row changes of the stream, before folding.
    pub changes: u64,
    /// What their values have lost, before folding.
    pub lossy: LossyCounts,
    pub last_commit_ms: i64,
}

/// What is folded and not yet sent.
#[derive(Debug, Default)]
pub struct Batch {
    pub tables: Vec<TableBatch>,
    /// Memory of an earlier batch, for the tables of this one.
    spare: Vec<Memory>,
    /// Where a layout's changes are in `tables`, by its address.
    slots: HashMap<usize, usize>,
    /// Bytes of what was folded.
    folded: usize,
    hasher: DefaultHashBuilder,
    pub changes: u64,
    pub transactions: u64,
    /// Bytes of the messages folded in.
    pub message_bytes: u64,
    /// Row changes that are set aside with this batch.
    pub letters: Vec<Letter>,
}

/// What a table's changes are folded in.
#[derive(Debug, Default)]
struct Memory {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    index: HashTable<u32>,
}

impl Batch {
    /// An empty batch that uses the memory of one that is done.
    pub fn again(self) -> Self {
        let mut spare = self.spare;
        spare.extend(self.tables.into_iter().map(|table| {
            let TableBatch { mut arena, mut entries, mut index, .. } = table;
            arena.clear();
            entries.clear();
            index.clear();
            Memory { arena, entries, index }
        }));
        Self { spare, ..Self::default() }
    }

    /// Gives back the memory that [`Batch::again`] kept.
    pub fn free_spare(&mut self) {
        self.spare = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
            && self.tables.iter().all(|table| table.entries.is_empty() && table.keyless.is_empty())
    }

    /// True when the batch holds changes that must not be repeated.
    pub fn has_keyless(&self) -> bool {
        self.tables.iter().any(|table| !table.keyless.is_empty())
    }

    /// Rows to be sent.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| (table.entries.len() + table.keyless.len()) as u64).sum()
    }

    /// Changes without a key to be sent, and their bytes.
    pub fn keyless(&self) -> (u64, u64) {
        let changes = self.tables.iter().flat_map(|table| &table.keyless);
        changes.fold((0, 0), |(rows, bytes), change| {
            let parts = [&change.matches, &change.tuple].into_iter().flatten();
            (rows + 1, bytes + parts.map(|part| part.len() as u64).sum::<u64>())
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.folded + self.letters.iter().map(Letter::bytes).sum::<usize>()
    }

    /// The place of this layout's changes; None when the table is in the batch under another layout (send the batch first).
    pub fn slot(&mut self, layout: &Arc<Layout>) -> Option<usize> {
        // No two of them are in one place: the batch holds its layouts.
        let address = Arc::as_ptr(layout).addr();
        if let Some(slot) = self.slots.get(&address) {
            return Some(*slot);
        }
        // Tables that go into one have keys of their own there.
        if self.tables.iter().any(|table| table.layout.source == layout.source) {
            return None;
        }
        self.slots.insert(address, self.tables.len());
        let Memory { arena, entries, index } = self.spare.pop().unwrap_or_default();
        self.tables.push(TableBatch {
            layout: Arc::clone(layout),
            arena,
            entries,
            index,
            keyless: Vec::new(),
            changes: 0,
            lossy: LossyCounts::default(),
            last_commit_ms: 0,
        });
        Some(self.tables.len() - 1)
    }

    /// The source's name of the table that is this one on the target; None when several go into it.
    pub fn source_of(&self, target: &str) -> Option<&TableName> {
        let mut sources = self
            .tables
            .iter()
            .filter(|table| table.layout.target.to_string() == target)
            .map(|table| &table.layout.source);
        let first = sources.next()?;
        sources.all(|other| other == first).then_some(first)
    }

    /// Takes the changes of several sources of one target table out, each as a batch of its own, so that the one to blame can be told: rows of
    /// different sources have different keys there. Empty when there is nothing to tell apart, or what must stay together.
    pub fn split(&mut self, target: &str) -> Vec<Self> {
        let is_part = |table: &TableBatch| table.layout.target.to_string() == target;
        let parts = self.tables.iter().filter(|table| is_part(table));
        if parts.clone().count() < 2 || parts.clone().any(|table| !table.keyless.is_empty()) {
            return Vec::new();
        }
        let parts: Vec<_> = self.tables.extract_if(.., |table| is_part(table)).collect();
        self.recount();
        parts
            .into_iter()
            .map(|table| {
                self.changes = self.changes.saturating_sub(table.changes);
                // Their indexes were made with it.
                let hasher = self.hasher.clone();
                let mut part =
                    Self { changes: table.changes, tables: vec![table], hasher, ..Self::default() };
                part.recount();
                part
            })
            .collect()
    }

    /// After `tables` has changed.
    fn recount(&mut self) {
        let address = |table: &TableBatch| Arc::as_ptr(&table.layout).addr();
        self.slots = self.tables.iter().enumerate().map(|(slot, table)| (address(table), slot)).collect();
        self.folded = self.tables.iter().map(TableBatch::bytes).sum();
    }

    /// Takes the changes of a table out.
    pub fn remove(&mut self, source: &TableName) {
        for table in self.tables.iter().filter(|table| table.layout.source == *source) {
            self.changes = self.changes.saturating_sub(table.changes);
        }
        self.tables.retain(|table| table.layout.source != *source);
        self.recount();
        self.letters.retain(|letter| letter.table != *source);
    }

    /// The place of the newest change of a key that is in the batch.
    pub fn place_of(&self, table: usize, key: &[u8]) -> Option<Place> {
        self.tables.get(table)?.find(key, &self.hasher).map(|entry| entry.place)
    }

    /// What has to wait for a batch that is on its way: changes of its keys, and tables whose rows have an order beyond that.
    pub fn behind(&self, earlier: &Self) -> Held {
        let wait = |table: &TableBatch| {
            let mut same = earlier.tables.iter().filter(|other| other.layout.target == table.layout.target);
            let Some(first) = same.next() else { return Vec::new() };
            if same.next().is_some()
                || !Arc::ptr_eq(&first.layout, &table.layout)
                || !table.layout.independent_rows
            {
                return vec![true; table.entries.len()];
            }
            let waits = |entry: &Entry| {
                let key = table.text(&entry.key);
                first.find(key, &earlier.hasher).is_some()
            };
            table.entries.iter().map(waits).collect()
        };
        Held(self.tables.iter().map(wait).collect())
    }

    /// Key and place of an entry.
    pub fn entry(&self, table: usize, entry: u32) -> Option<(&TableBatch, &[u8], Place)> {
        let table = self.tables.get(table)?;
        let entry = table.entries.get(entry as usize)?;
        Some((table, table.text(&entry.key), entry.place))
    }

    /// Folds one row change into the slot.
    pub fn fold(
        &mut self,
        slot: usize,
        mutation: &Mutation<'_, '_>,
        place: Place,
        commit_ms: i64,
    ) -> Result<()> {
        let Some(table) = self.tables.get_mut(slot) else {
            return Err(Error::internal("a change for a table that is not in the batch"));
        };
        let layout = Arc::clone(&table.layout);
        table.changes += 1;
        table.last_commit_ms = commit_ms;
        self.changes += 1;
        let sent = match mutation.kind {
            MutationKind::Insert => layout.operations.insert,
            MutationKind::Update => layout.operations.update,
            MutationKind::Delete => layout.operations.delete,
        };
        if !sent {
            return Ok(());
        }
        let before = table.bytes();
        table.grow();
        let folded = if layout.keyless {
            table.fold_keyless(&layout, mutation, place)
        } else {
            table.fold_keyed(&layout, mutation, place, &self.hasher)
        };
        self.folded = (self.folded + table.bytes()).saturating_sub(before);
        folded.map_err(|error| error.object(&layout.source))
    }
}

fn missing_old() -> Error {
    Error::new(ErrorKind::CorruptMessage, "an update without its old row")
}

/// What the arena has free before a row comes: most fit.
const ROW: usize = 16 << 10;

impl TableBatch {
    /// Grows a large arena by a quarter and not, as it would by itself, to its double: it is kept for the batches that come.
    fn grow(&mut self) {
        let (length, free) = (self.arena.len(), self.arena.capacity() - self.arena.len());
        if length >= 8 * ROW && free < ROW {
            self.arena.reserve_exact(ROW + length / 4);
        }
    }

    fn bytes(&self) -> usize {
        self.arena.len()
            + self.entries.len() * (size_of::<Entry>() + 6)
            + self.keyless.len() * size_of::<KeylessChange>()
    }

    fn find(&self, key: &[u8], hasher: &DefaultHashBuilder) -> Option<&Entry> {
        let same =
            |at: &u32| self.entries.get(*at as usize).is_some_and(|entry| self.text(&entry.key) == key);
        let at = self.index.find(hasher.hash_one(key), same)?;
        self.entries.get(*at as usize)
    }

    fn fold_keyed(
        &mut self,
        layout: &Layout,
        mutation: &Mutation<'_, '_>,
        place: Place,
        hasher: &DefaultHashBuilder,
    ) -> Result<()> {
        match mutation.kind {
            MutationKind::Insert => self.keep(layout, &mutation.row, place, hasher),
            MutationKind::Delete => self.delete(layout, &mutation.row, place, hasher),
            MutationKind::Update => {
                let old = mutation.old.as_ref().ok_or_else(missing_old)?;
                let start = self.arena.len();
                self.push_key(layout, old)?;
                let middle = self.arena.len();
                self.push_key(layout, &mutation.row)?;
                let moved = self.arena.get(start..middle) != self.arena.get(middle..);
                self.arena.truncate(start);
                if moved && layout.operations.delete {
                    self.delete(layout, old, place, hasher)?;
                }
                self.keep(layout, &mutation.row, place, hasher)
            }
        }
    }

    /// A row as it is now: in the target, or not. What it was before does not matter (design.md 10.16).
    fn keep(
        &mut self,
        layout: &Layout,
        row: &RowBytes<'_, '_>,
        place: Place,
        hasher: &DefaultHashBuilder,
    ) -> Result<()> {
        if layout.takes(row)? {
            self.upsert(layout, row, place, hasher)
        } else if layout.operations.delete {
            self.delete(layout, row, place, hasher)
        } else {
            Ok(())
        }
    }

    fn upsert(
        &mut self,
        layout: &Layout,
        row: &RowBytes<'_, '_>,
        place: Place,
        hasher: &DefaultHashBuilder,
    ) -> Result<()> {
        let start = self.arena.len();
        self.push_key(layout, row)?;
        let key = start..self.arena.len();
        let (tuple, relaxed) = self.push_tuple(layout, row)?;
        self.put(Entry { key, room: tuple.len() as u32, tuple, delete: false, relaxed, place }, hasher);
        Ok(())
    }

    fn delete(
        &mut self,
        layout: &Layout,
        row: &RowBytes<'_, '_>,
        place: Place,
        hasher: &DefaultHashBuilder,
    ) -> Result<()> {
        let start = self.arena.len();
        self.push_key(layout, row)?;
        let key = start..self.arena.len();
        let from = self.arena.len();
        layout.each_key_value(row, |column, value| {
            let separator = if column.key_place == Some(0) {
                if layout.key_is_tuple() { &b"("[..] } else { b"" }
            } else {
                b","
            };
            self.arena.extend_from_slice(separator);
            // What the key has lost was counted with its row.
            column.push_in_list(value, &mut self.arena)?;
            Ok(())
        })?;
        if let Some(constant) = &layout.constant {
            self.arena.push(b',');
            self.arena.extend_from_slice(constant);
        }
        if layout.key_is_tuple() {
            self.arena.push(b')');
        }
        let tuple = from..self.arena.len();
        self.put(Entry { key, room: tuple.len() as u32, tuple, delete: true, relaxed: false, place }, hasher);
        Ok(())
    }

    fn push_key(&mut self, layout: &Layout, row: &RowBytes<'_, '_>) -> Result<()> {
        layout.each_key_value(row, |column, value| Ok(column.encoder.push_key(value, &mut self.arena)?))
    }

    /// The row's tuple, and whether strict mode refuses a value of it.
    fn push_tuple(&mut self, layout: &Layout, row: &RowBytes<'_, '_>) -> Result<(Range<usize>, bool)> {
        let from = self.arena.len();
        let mut relaxed = false;
        self.arena.push(b'(');
        layout.each_value(row, |column, value| {
            let pushed = column.push(value, &mut self.arena)?;
            relaxed |= pushed.contains(Pushed::RELAXED);
            column.encoder.count(pushed, &mut self.lossy);
            self.arena.push(b',');
            Ok(())
        })?;
        if let Some(constant) = &layout.constant {
            self.arena.extend_from_slice(constant);
            self.arena.push(b',');
        }
        // The last comma.
        self.arena.pop();
        self.arena.extend_from_slice(&layout.filler);
        self.arena.push(b')');
        Ok((from..self.arena.len(), relaxed))
    }

    /// Takes an entry whose key and tuple are the last bytes of the arena.
    fn put(&mut self, entry: Entry, hasher: &DefaultHashBuilder) {
        let Self { arena, entries, index, .. } = self;
        let key = arena.get(entry.key.clone()).unwrap_or_default();
        let hash = hasher.hash_one(key);
        let key_of = |at: u32| {
            entries.get(at as usize).and_then(|entry| arena.get(entry.key.clone())).unwrap_or_default()
        };
        let Some(at) = index.find(hash, |at| key_of(*at) == key).copied() else {
            let at = entries.len() as u32;
            index.insert_unique(hash, at, |at| hasher.hash_one(key_of(*at)));
            entries.push(entry);
            return;
        };
        let Some(known) = entries.get_mut(at as usize) else { return };
        // The key's bytes are there already, and mostly there is room for the tuple: a row that changes often takes no more of it.
        let length = entry.tuple.len();
        let (start, end) = if length <= known.room as usize {
            (known.tuple.start, entry.key.start)
        } else {
            known.room = entry.room;
            (entry.key.start, entry.key.start + length)
        };
        arena.copy_within(entry.tuple, start);
        arena.truncate(end);
        known.tuple = start..start + length;
        known.delete = entry.delete;
        known.relaxed = entry.relaxed;
        known.place = entry.place;
    }

    fn fold_keyless(&mut self, layout: &Layout, mutation: &Mutation<'_, '_>, place: Place) -> Result<()> {
        let old = match mutation.kind {
            MutationKind::Insert => None,
            MutationKind::Update => Some(mutation.old.as_ref().ok_or_else(missing_old)?),
            MutationKind::Delete => Some(&mutation.row),
        };
        // Such a row is in the target exactly when its values are taken.
        let old = match old {
            Some(old) if layout.takes(old)? => Some(old),
            _ => None,
        };
        let matches = old.map(|old| self.push_match(layout, old)).transpose()?;
        let (tuple, relaxed) = match mutation.kind {
            MutationKind::Delete => (None, false),
            MutationKind::Insert | MutationKind::Update if !layout.takes(&mutation.row)? => (None, false),
            MutationKind::Insert | MutationKind::Update => {
                let (tuple, relaxed) = self.push_tuple(layout, &mutation.row)?;
                (Some(tuple), relaxed)
            }
        };
        if matches.is_none() && tuple.is_none() {
            return Ok(());
        }
        self.keyless.push(KeylessChange { place, matches, tuple, relaxed });
        Ok(())
    }

    fn push_match(&mut self, layout: &Layout, row: &RowBytes<'_, '_>) -> Result<Range<usize>> {
        let from = self.arena.len();
        layout.each_value(row, |column, value| {
            if self.arena.len() > from {
                self.arena.extend_from_slice(b" AND ");
            }
            column.push_match(value, &mut self.arena)?;
            Ok(())
        })?;
        Ok(from..self.arena.len())
    }

    /// The canonical key of a row, as its entry has it.
    pub fn key_of(layout: &Layout, row: &RowBytes<'_, '_>) -> Result<Vec<u8>> {
        let mut key = Vec::new();
        layout.each_key_value(row, |column, value| Ok(column.encoder.push_key(value, &mut key)?))?;
        Ok(key)
    }

    /// Bytes of a range of the arena.
    pub fn text(&self, range: &Range<usize>) -> &[u8] {
        self.arena.get(range.clone()).unwrap_or_default()
    }
}

/// One statement to send: a run of a table's deletes or upserts.
#[derive(Debug)]
pub struct Piece {
    batch: Arc<Batch>,
    table: usize,
    /// Places in the table's `entries`.
    entries: Vec<u32>,
    delete: bool,
    relaxed: bool,
}

impl Piece {
    /// Both halves; a statement of one row is given back.
    pub fn halves(mut self) -> std::result::Result<[Self; 2], Self> {
        if self.entries.len() < 2 {
            return Err(self);
        }
        let entries = self.entries.split_off(self.entries.len() / 2);
        let second = Self {
            batch: Arc::clone(&self.batch),
            table: self.table,
            entries,
            delete: self.delete,
            relaxed: self.relaxed,
        };
        Ok([self, second])
    }

    fn push_tuples(&self, table: &TableBatch, sql: &mut Vec<u8>) -> Result<()> {
        for (nth, place) in self.entries.iter().enumerate() {
            if nth > 0 {
                sql.push(b',');
            }
            let entry = table
                .entries
                .get(*place as usize)
                .ok_or_else(|| Error::internal("a statement without its row"))?;
            sql.extend_from_slice(table.text(&entry.tuple));
        }
        Ok(())
    }

    /// Table and entry of a statement of one row.
    pub fn only(&self) -> Option<(usize, u32)> {
        self.entries.first().map(|entry| (self.table, *entry))
    }
}

/// Rows of a statement outside strict mode: each causes a warning, and servers keep 64.
const RELAXED_ROWS: usize = 16;

/// Bounds of one statement.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
    /// Items of one IN list.
    pub keys: usize,
    pub connections: usize,
}

/// Entries, by table, that have to wait for a batch before theirs.
#[derive(Debug)]
pub struct Held(Vec<Vec<bool>>);

/// Which entries of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Part<'h> {
    Whole,
    /// Those that need not wait.
    Free(&'h Held),
    Held(&'h Held),
}

impl Part<'_> {
    fn has(self, table: usize, entry: usize) -> bool {
        let waits = |Held(held): &Held| {
            held.get(table).and_then(|entries| entries.get(entry)).copied().unwrap_or_default()
        };
        match self {
            Self::Whole => true,
            Self::Free(held) => !waits(held),
            Self::Held(held) => waits(held),
        }
    }
}

/// The statements of a batch in two steps: everything in the first must be acknowledged before the second is sent.
pub fn pieces(batch: &Arc<Batch>, limits: Limits, part: Part<'_>) -> [Vec<Piece>; 2] {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    // Two for each connection, so that none waits long for the last one; large enough that a round trip pays.
    let rows: usize = batch.tables.iter().map(|table| table.entries.len()).sum();
    let share = (rows / (2 * limits.connections.max(1))).max(256);
    for (at, table) in batch.tables.iter().enumerate() {
        let cut = |delete: bool, relaxed: bool, rows: usize, into: &mut Vec<Piece>| {
            let mut piece = Vec::new();
            let (head, tail) = match delete {
                true => (&table.layout.delete_head, &[b')'][..]),
                false => (&table.layout.upsert_head, &table.layout.upsert_tail[..]),
            };
            let frame = head.len() + tail.len();
            let mut bytes = frame;
            for (place, entry) in table.entries.iter().enumerate() {
                if entry.delete != delete || entry.relaxed != relaxed || !part.has(at, place) {
                    continue;
                }
                if !piece.is_empty() && (piece.len() >= rows || bytes + entry.tuple.len() > limits.bytes) {
                    into.push(Piece {
                        batch: Arc::clone(batch),
                        table: at,
                        entries: std::mem::take(&mut piece),
                        delete,
                        relaxed,
                    });
                    bytes = frame;
                }
                let times = if delete && table.layout.delete_exactly.is_some() { 2 } else { 1 };
                bytes += times * (entry.tuple.len() + 1);
                piece.push(place as u32);
            }
            if !piece.is_empty() {
                into.push(Piece { batch: Arc::clone(batch), table: at, entries: piece, delete, relaxed });
            }
        };
        cut(true, false, share.min(limits.keys), &mut first);
        let upserts = if table.layout.deletes_first { &mut second } else { &mut first };
        cut(false, false, share.min(limits.rows), upserts);
        cut(false, true, RELAXED_ROWS.min(limits.rows), upserts);
    }
    [first, second]
}

impl Job for Piece {
    fn build(&self, sql: &mut Vec<u8>) -> Result<()> {
        let table = self
            .batch
            .tables
            .get(self.table)
            .ok_or_else(|| Error::internal("a statement without its table"))?;
        let layout = &table.layout;
        if !self.delete {
            sql.extend_from_slice(&layout.upsert_head);
            self.push_tuples(table, sql)?;
            sql.extend_from_slice(&layout.upsert_tail);
            return Ok(());
        }
        for head in [Some(&layout.delete_head), layout.delete_exactly.as_ref()].into_iter().flatten() {
            sql.extend_from_slice(head);
            self.push_tuples(table, sql)?;
            sql.push(b')');
        }
        Ok(())
    }

    fn template(&self) -> Option<&Template> {
        let table = self.batch.tables.get(self.table).filter(|_| !self.delete && !self.relaxed)?;
        table.layout.template.as_ref()
    }

    fn relaxed(&self) -> bool {
        self.relaxed
    }

    fn rows(&self) -> u64 {
        self.entries.len() as u64
    }

    fn object(&self) -> String {
        self.batch.tables.get(self.table).map_or_else(String::new, |table: &TableBatch| {
            let name: &TableName = &table.layout.target;
            name.to_string()
        })
    }
}

//! Drainer's message (`slave.binlog.Binlog`, source-drainer.md 1.1), walked in place.
//!
//! [`Message::parse`] reads only the outermost fields; rows are decoded while they are iterated and never held as a list, so a
//! transaction of 1 GiB costs its bytes and nothing more. Because of that an error may show up late: call
//! [`Message::validate`] before anything of a message is applied. After it, no iterator of the message gives an error.
//!
//! Lenient where protobuf is: fields in any order, unknown fields, a repeated `dml_data` or `ddl_data` merges, singular fields
//! are last-wins. Strict where a lenient reader could lose or invent rows: type, commit_ts, names, row images and the number of
//! cells must be there, UPDATE and only UPDATE has an old image, and a row image is given once.
//! Every string is bytes: values in latin1 columns are not UTF-8 (source-drainer.md 0.1).

use std::sync::Arc;

use crate::binlog::row::RowBytes;
use crate::binlog::wire::{Content, Field, Malformed, Reader, Slice};
use crate::model::{Tso, Value};

/// One message of the topic: a transaction, a DDL, or a watermark.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: Kind<'a>,
    pub commit_ts: Tso,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// All rows of one transaction.
    Dml(Tables<'a>),
    Ddl(Ddl<'a>),
    /// Everything up to commit_ts was sent. From an unreleased branch of the protocol; no released Drainer writes it.
    Resolved,
}

/// A finished DDL job. What the names mean depends on the job (source-drainer.md 4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ddl<'a> {
    pub schema_name: &'a [u8],
    /// Empty for statements on a database.
    pub table_name: &'a [u8],
    pub query: &'a [u8],
}

/// What a message holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Table entries. An old Drainer writes one per row (source-drainer.md 10.15).
    pub tables: u64,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
}

impl Counts {
    pub fn mutations(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    /// Row images: two for an update.
    pub fn rows(&self) -> u64 {
        self.mutations() + self.updates
    }
}

const TYPE_DML: u64 = 0;
const TYPE_DDL: u64 = 1;
const TYPE_RESOLVED: u64 = 2;

impl<'a> Message<'a> {
    /// Reads the outermost fields.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let whole = Slice { bytes, start: 0 };
        let malformed = |what| Malformed { offset: bytes.len(), what };
        let (mut kind, mut commit_ts, mut dml, mut ddl) = (None, None, false, None);
        let mut reader = whole.reader();
        while let Some(field) = reader.field()? {
            match field.tag {
                1 => kind = Some(field.varint()?),
                2 => commit_ts = Some(field.varint()? as i64),
                3 => {
                    field.bytes()?;
                    dml = true;
                }
                4 => merge_ddl(field.bytes()?, ddl.get_or_insert_default())?,
                _ => {}
            }
        }
        let kind = match (kind.ok_or(malformed("no type"))?, dml, ddl) {
            (TYPE_DML, true, None) => Kind::Dml(Tables { message: whole }),
            (TYPE_DDL, false, Some((ddl, true))) => Kind::Ddl(ddl),
            (TYPE_DDL, false, Some(_)) => return Err(malformed("a DDL without ddl_query")),
            (TYPE_RESOLVED, false, None) => Kind::Resolved,
            (TYPE_DML | TYPE_DDL | TYPE_RESOLVED, ..) => {
                return Err(malformed("dml_data or ddl_data that does not go with the type"));
            }
            _ => return Err(malformed("an unknown type of message")),
        };
        let commit_ts = commit_ts.and_then(|ts| u64::try_from(ts).ok()).filter(|ts| *ts > 0);
        Ok(Self { kind, commit_ts: Tso(commit_ts.ok_or(malformed("no commit_ts"))?), bytes })
    }

    /// Walks everything once. After it succeeded no iterator of this message gives an error.
    pub fn validate(&self) -> Result<Counts, Malformed> {
        self.validate_tables().map(|(counts, _)| counts)
    }

    /// [`Message::validate`], and the last table entry, from which the next walk takes its columns ([`Tables::after`]).
    pub fn validate_tables(&self) -> Result<(Counts, Option<TableChange<'a>>), Malformed> {
        let (mut counts, mut last) = (Counts::default(), None::<TableChange<'a>>);
        let Kind::Dml(tables) = self.kind else { return Ok((counts, last)) };
        for table in tables {
            let table = table?;
            counts.tables += 1;
            let same_keys = last.as_ref().is_some_and(|last| last.key_fields.bytes == table.key_fields.bytes);
            if !same_keys {
                table.unique_keys()?;
            }
            for mutation in table.mutations() {
                let mutation = mutation?;
                match mutation.kind {
                    MutationKind::Insert => counts.inserts += 1,
                    MutationKind::Update => counts.updates += 1,
                    MutationKind::Delete => counts.deletes += 1,
                }
                for row in [Some(mutation.row), mutation.old].into_iter().flatten() {
                    for value in row.values() {
                        value?;
                    }
                }
            }
            last = Some(table);
        }
        Ok((counts, last))
    }

    /// The whole payload.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

fn merge_ddl<'a>(slice: Slice<'a>, (ddl, has_query): &mut (Ddl<'a>, bool)) -> Result<(), Malformed> {
    let mut reader = slice.reader();
    while let Some(field) = reader.field()? {
        match field.tag {
            1 => ddl.schema_name = field.bytes()?.bytes,
            2 => ddl.table_name = field.bytes()?.bytes,
            3 => {
                ddl.query = field.bytes()?.bytes;
                *has_query = true;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The table entries of a transaction, in order of first touch. Order between tables is lost, order inside a table is kept
/// (source-drainer.md 0.16).
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    message: Slice<'a>,
}

impl<'a> Tables<'a> {
    pub fn iter(&self) -> TableIter<'a> {
        self.after(None)
    }

    /// The same, and lists of columns are not read again where they are those of this entry.
    pub fn after(&self, previous: Option<TableChange<'a>>) -> TableIter<'a> {
        let nothing = Slice { bytes: &[], start: 0 }.reader();
        TableIter { message: self.message.reader(), dml: nothing, previous }
    }
}

impl<'a> IntoIterator for Tables<'a> {
    type Item = Result<TableChange<'a>, Malformed>;
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

/// Gives nothing more after an error.
#[derive(Debug, Clone)]
pub struct TableIter<'a> {
    message: Reader<'a>,
    dml: Reader<'a>,
    previous: Option<TableChange<'a>>,
}

impl<'a> TableIter<'a> {
    fn step(&mut self) -> Result<Option<TableChange<'a>>, Malformed> {
        loop {
            while let Some(field) = self.dml.field()? {
                if field.tag == 1 {
                    let table = TableChange::parse(field.bytes()?, self.previous.as_ref())?;
                    self.previous = Some(table.clone());
                    return Ok(Some(table));
                }
            }
            match self.message.field()? {
                Some(Field { tag: 3, content: Content::Bytes(dml), .. }) => self.dml = dml.reader(),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

impl<'a> Iterator for TableIter<'a> {
    type Item = Result<TableChange<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
            .inspect_err(|_| {
                self.message.stop();
                self.dml.stop();
            })
            .transpose()
    }
}

/// The changes of one table in one transaction.
///
/// `columns` is shared with the previous entry when its bytes are the same: a Drainer that writes one entry per row costs a
/// comparison per row, not a list.
#[derive(Debug, Clone)]
pub struct TableChange<'a> {
    pub schema: &'a [u8],
    pub table: &'a [u8],
    /// By position of the cells. Includes generated and hidden columns (source-drainer.md 3.3).
    pub columns: Arc<[ColumnInfo<'a>]>,
    column_fields: Slice<'a>,
    key_fields: Slice<'a>,
    mutation_fields: Slice<'a>,
}

/// One column as Drainer knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnInfo<'a> {
    pub name: &'a [u8],
    /// source-drainer.md 3.2
    pub mysql_type: &'a [u8],
    pub is_primary_key: bool,
    /// Since Drainer 5.4.0; -1 = unspecified.
    pub flen: Option<i32>,
    /// Since Drainer 5.4.0; -1 = unspecified.
    pub decimal: Option<i32>,
}

/// PRIMARY or a unique key. Prefix lengths and collations are not told (source-drainer.md 0.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo<'a> {
    pub name: &'a [u8],
    pub columns: Vec<&'a [u8]>,
}

/// From the first to the last field of one number.
#[derive(Clone, Copy, Default)]
struct Span(Option<(usize, usize)>);

impl Span {
    fn extend(&mut self, from: usize, to: usize) {
        self.0 = Some((self.0.map_or(from, |(first, _)| first), to));
    }

    fn of<'a>(self, table: Slice<'a>) -> Slice<'a> {
        let (from, to) = self.0.unwrap_or((table.start, table.start));
        table.between(from, to)
    }
}

impl<'a> TableChange<'a> {
    /// One pass over the entry's own fields that steps over mutations by their length: keys come after all rows.
    fn parse(entry: Slice<'a>, previous: Option<&Self>) -> Result<Self, Malformed> {
        let (mut schema, mut table) = (None, None);
        let (mut columns, mut mutations, mut keys) = (Span::default(), Span::default(), Span::default());
        let mut reader = entry.reader();
        while let Some(field) = reader.field()? {
            match field.tag {
                1 => schema = Some(field.bytes()?.bytes),
                2 => table = Some(field.bytes()?.bytes),
                3 => columns.extend(field.start, field.bytes()?.end()),
                4 => mutations.extend(field.start, field.bytes()?.end()),
                5 => keys.extend(field.start, field.bytes()?.end()),
                _ => {}
            }
        }
        let missing = |what| Malformed { offset: entry.start, what };
        // The same bytes hold the same fields, so equal spans mean equal lists even if other fields lie in between.
        let column_fields = columns.of(entry);
        let same_columns = previous.filter(|p| p.column_fields.bytes == column_fields.bytes);
        Ok(Self {
            schema: schema.ok_or(missing("a table without schema_name"))?,
            table: table.ok_or(missing("a table without table_name"))?,
            columns: match same_columns {
                Some(previous) => Arc::clone(&previous.columns),
                None => list(column_fields, 3, ColumnInfo::parse)?,
            },
            column_fields,
            key_fields: keys.of(entry),
            mutation_fields: mutations.of(entry),
        })
    }

    /// The bytes that `columns` was read from: equal bytes mean equal columns, also between messages.
    pub fn columns_bytes(&self) -> &'a [u8] {
        self.column_fields.bytes
    }

    /// PRIMARY and the unique keys; none before Drainer 3.0.9. Read when it is asked for: nothing is applied by them.
    ///
    /// # Errors
    /// They are not what the protocol says; not after [`Message::validate`].
    pub fn unique_keys(&self) -> Result<Arc<[KeyInfo<'a>]>, Malformed> {
        list(self.key_fields, 5, KeyInfo::parse)
    }

    /// In order of execution.
    pub fn mutations(&self) -> Mutations<'_, 'a> {
        Mutations { reader: self.mutation_fields.reader(), columns: &self.columns }
    }
}

fn list<'a, T>(
    fields: Slice<'a>,
    tag: u32,
    parse: impl Fn(Slice<'a>) -> Result<T, Malformed>,
) -> Result<Arc<[T]>, Malformed> {
    let mut items = Vec::new();
    let mut reader = fields.reader();
    while let Some(field) = reader.field()? {
        if field.tag == tag {
            items.push(parse(field.bytes()?)?);
        }
    }
    Ok(items.into())
}

impl<'a> ColumnInfo<'a> {
    fn parse(slice: Slice<'a>) -> Result<Self, Malformed> {
        let (mut name, mut mysql_type, mut is_primary_key, mut flen, mut decimal) =
            (None, None, false, None, None);
        let mut reader = slice.reader();
        while let Some(field) = reader.field()? {
            match field.tag {
                1 => name = Some(field.bytes()?.bytes),
                2 => mysql_type = Some(field.bytes()?.bytes),
                3 => is_primary_key = field.varint()? != 0,
                4 => flen = Some(field.varint()? as i32),
                5 => decimal = Some(field.varint()? as i32),
                _ => {}
            }
        }
        let missing = |what| Malformed { offset: slice.start, what };
        Ok(Self {
            name: name.ok_or(missing("a column without name"))?,
            mysql_type: mysql_type.ok_or(missing("a column without mysql_type"))?,
            is_primary_key,
            flen,
            decimal,
        })
    }

    /// Whether values of this type arrive as `bytes_value` (source-drainer.md 3.1).
    pub fn is_binary(&self) -> bool {
        matches!(
            self.mysql_type,
            b"bit" | b"json" | b"binary" | b"varbinary" | b"tinyblob" | b"blob" | b"mediumblob" | b"longblob"
        )
    }

    #[cold]
    pub(super) fn empty_value(&self) -> Value<'static> {
        if self.is_binary() { Value::Bytes(b"") } else { Value::Text(b"") }
    }
}

impl<'a> KeyInfo<'a> {
    fn parse(slice: Slice<'a>) -> Result<Self, Malformed> {
        let mut key = Self { name: b"", columns: Vec::new() };
        let mut reader = slice.reader();
        while let Some(field) = reader.field()? {
            match field.tag {
                1 => key.name = field.bytes()?.bytes,
                2 => key.columns.push(field.bytes()?.bytes),
                _ => {}
            }
        }
        Ok(key)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MutationKind {
    Insert,
    Update,
    Delete,
}

/// One changed row.
#[derive(Debug, Clone, Copy)]
pub struct Mutation<'r, 'a> {
    pub kind: MutationKind,
    /// The new image of an insert or update, the old image of a delete.
    pub row: RowBytes<'r, 'a>,
    /// The old image of an update.
    pub old: Option<RowBytes<'r, 'a>>,
}

/// Gives nothing more after an error.
#[derive(Debug, Clone)]
pub struct Mutations<'r, 'a> {
    reader: Reader<'a>,
    columns: &'r [ColumnInfo<'a>],
}

impl<'r, 'a> Mutations<'r, 'a> {
    fn step(&mut self) -> Result<Option<Mutation<'r, 'a>>, Malformed> {
        while let Some(field) = self.reader.field()? {
            if field.tag == 4 {
                return mutation(field.bytes()?, self.columns).map(Some);
            }
        }
        Ok(None)
    }
}

impl<'r, 'a> Iterator for Mutations<'r, 'a> {
    type Item = Result<Mutation<'r, 'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().inspect_err(|_| self.reader.stop()).transpose()
    }
}

fn mutation<'r, 'a>(slice: Slice<'a>, columns: &'r [ColumnInfo<'a>]) -> Result<Mutation<'r, 'a>, Malformed> {
    let malformed = |what| Malformed { offset: slice.start, what };
    let (mut kind, mut row, mut old) = (None, None, None);
    let mut reader = slice.reader();
    while let Some(field) = reader.field()? {
        let image = match field.tag {
            1 => {
                kind = Some(field.varint()?);
                continue;
            }
            2 => &mut row,
            3 => &mut old,
            _ => continue,
        };
        if image.replace(RowBytes { slice: field.bytes()?, columns }).is_some() {
            return Err(Malformed { offset: field.start, what: "a row image given twice" });
        }
    }
    let kind = match kind.ok_or(malformed("a mutation without type"))? {
        0 => MutationKind::Insert,
        1 => MutationKind::Update,
        2 => MutationKind::Delete,
        _ => return Err(malformed("an unknown type of mutation")),
    };
    if (kind == MutationKind::Update) != old.is_some() {
        return Err(malformed("an update without its old image, or an old image without an update"));
    }
    Ok(Mutation { kind, row: row.ok_or(malformed("a mutation without row"))?, old })
}

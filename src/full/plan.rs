//! Makes the chunk plan of one table, chunk by chunk, from the source at the snapshot.

use std::collections::VecDeque;

use mysql_async::{Row, Value};

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::bounds::{Bounds, Literal};
use crate::full::chunk::{Chunk, Handle, IntegerSteps, integer_step};
use crate::model::{Table, TableName};
use crate::mysql::Session;
use crate::sql::literal;

const UNKNOWN_COLUMN: u16 = 1054;

#[derive(Debug, Clone, Copy)]
enum Cut {
    Steps(IntegerSteps),
    Walk,
}

/// Gives the chunks of a table in order. A failed call changes nothing and may be repeated on another session.
#[derive(Debug)]
pub struct Planner {
    name: TableName,
    handle: Handle,
    /// The one being cut first; a single None for a table without partitions.
    partitions: VecDeque<Option<String>>,
    /// Estimated rows of one partition, 0 = unknown.
    rows: u64,
    chunk_rows: u64,
    /// Where the next chunk of this partition starts.
    lower: Option<Vec<Literal>>,
    cut: Option<Cut>,
}

impl Planner {
    /// Looks up what the table is stored by. `session` must be at the snapshot.
    pub async fn open(session: &mut Session, table: &Table, rows: u64, chunk_rows: u64) -> Result<Self> {
        let name = &table.name;
        let quoted = literal::table_name(name);
        let has_row_id = match session.execute(format!("SELECT _tidb_rowid FROM {quoted} LIMIT 0")).await {
            Ok(_) => true,
            Err(error) if error.code == Some(UNKNOWN_COLUMN) => false,
            Err(error) => return Err(error.object(name)),
        };
        let handle = Handle::of(table, has_row_id).ok_or_else(|| {
            Error::new(
                ErrorKind::SchemaMismatch,
                "the table has neither _tidb_rowid nor a primary key to read it by",
            )
            .endpoint(Endpoint::Source)
            .object(name)
        })?;
        let mut partitions: VecDeque<Option<String>> = VecDeque::new();
        if table.partitioning.is_some() {
            let mut names: Vec<String> = session
                .query(&format!(
                    "SELECT PARTITION_NAME FROM information_schema.partitions WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} \
                     AND PARTITION_NAME IS NOT NULL ORDER BY PARTITION_ORDINAL_POSITION",
                    literal::string(&name.schema),
                    literal::string(&name.table)
                ))
                .await
                .map_err(|error| error.object(name))?;
            // As its table may be (`Source::catalog_at`), each is listed twice.
            names.dedup();
            partitions.extend(names.into_iter().map(Some));
        }
        if partitions.is_empty() {
            partitions.push_back(None);
        }
        let rows = rows / partitions.len() as u64;
        Ok(Self { name: name.clone(), handle, partitions, rows, chunk_rows, lower: None, cut: None })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Goes on behind this chunk, the last one of a plan made earlier at the same snapshot.
    pub fn resume(&mut self, last: &Chunk) {
        while self.partitions.front().is_some_and(|partition| *partition != last.partition) {
            self.partitions.pop_front();
        }
        self.cut = None;
        self.lower.clone_from(&last.bounds.upper);
        if self.lower.is_none() {
            self.partitions.pop_front();
        }
    }

    /// True when the chunk given last was the table's last.
    pub fn is_done(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The next chunk, None after the last.
    pub async fn next(&mut self, session: &mut Session) -> Result<Option<Chunk>> {
        let Some(partition) = self.partitions.front().cloned() else { return Ok(None) };
        let cut = match self.cut {
            Some(cut) => cut,
            None => self.choose_cut(session).await?,
        };
        let (upper, shared, cut) = match cut {
            Cut::Steps(mut steps) => (steps.next().map(|bound| vec![bound]), 0, Cut::Steps(steps)),
            Cut::Walk => {
                let (upper, shared) = self.walk(session).await?;
                (upper, shared, Cut::Walk)
            }
        };
        self.cut = Some(cut);
        let chunk =
            Chunk { partition, bounds: Bounds { lower: self.lower.take(), upper: upper.clone(), shared } };
        if upper.is_none() {
            self.partitions.pop_front();
            self.cut = None;
        }
        self.lower = upper;
        Ok(Some(chunk))
    }

    /// `schema.table [PARTITION (p)]` of the partition being cut.
    fn from(&self) -> String {
        from_clause(&self.name, self.partitions.front().and_then(Option::as_deref))
    }

    async fn choose_cut(&self, session: &mut Session) -> Result<Cut> {
        if !self.handle.is_integer() {
            return Ok(Cut::Walk);
        }
        let edge = |order: &str| {
            let column = self.handle.columns().join(", ");
            format!("SELECT {column} FROM {} ORDER BY {column} {order} LIMIT 1", self.from())
        };
        let min = self.integer(session, &edge("ASC")).await?;
        let max = self.integer(session, &edge("DESC")).await?;
        let (Some(min), Some(max)) = (min, max) else { return Ok(Cut::Walk) };
        let Some(step) = integer_step(min, max, self.rows, self.chunk_rows) else { return Ok(Cut::Walk) };
        let start = match self.lower.as_deref() {
            Some([Literal::Number(digits)]) => digits.parse().unwrap_or(min),
            _ => min,
        };
        Ok(Cut::Steps(IntegerSteps { next: start, max, step }))
    }

    async fn integer(&self, session: &mut Session, sql: &str) -> Result<Option<i128>> {
        let text: Option<String> = session.first(sql).await.map_err(|error| error.object(&self.name))?;
        text.map(|text| text.parse())
            .transpose()
            .map_err(|_| Error::internal("an integer handle is not an integer").object(&self.name))
    }

    /// The key `chunk_rows` rows behind `lower`, and how many of its leading columns equal those of `lower` for the server.
    async fn walk(&self, session: &mut Session) -> Result<(Option<Vec<Literal>>, usize)> {
        let columns = self.handle.columns();
        let mut select = self.handle.expressions();
        for (column, literal) in columns.iter().zip(self.lower.iter().flatten()) {
            select.push(format!("{column} = {}", literal.sql()));
        }
        let here = Bounds { lower: self.lower.clone(), upper: None, shared: 0 };
        let condition =
            here.sql(&columns).map_or_else(String::new, |condition| format!(" WHERE {condition}"));
        let sql = format!(
            "SELECT {} FROM {}{condition} ORDER BY {} LIMIT 1 OFFSET {}",
            select.join(", "),
            self.from(),
            columns.join(", "),
            self.chunk_rows.max(1),
        );
        let row: Option<Row> = session.first(&sql).await.map_err(|error| error.object(&self.name))?;
        let Some(row) = row else { return Ok((None, 0)) };
        let mut values: Vec<Vec<u8>> = row
            .unwrap()
            .into_iter()
            .map(|value| match value {
                Value::Bytes(bytes) => bytes,
                _ => Vec::new(),
            })
            .collect();
        let flags = values.split_off(columns.len().min(values.len()));
        let shared = flags.iter().take_while(|flag| flag.as_slice() == b"1").count();
        Ok((Some(self.handle.literals(&values)), shared.min(columns.len().saturating_sub(1))))
    }
}

/// `` `schema`.`table` [PARTITION (`p`)] ``
pub fn from_clause(name: &TableName, partition: Option<&str>) -> String {
    let table = literal::table_name(name);
    match partition {
        Some(partition) => format!("{table} PARTITION ({})", literal::name(partition)),
        None => table,
    }
}

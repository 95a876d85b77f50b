//! Rows on their way to the target: one multi-row statement per batch.
//!
//! A batch holds at most `rows` rows and `bytes` bytes; only a single row larger than that goes alone and over. Rows that strict
//! mode refuses (ENUM index 0) travel in statements of their own.

use std::sync::Arc;

use mysql_async::Value as Cell;
use tokio::sync::OwnedSemaphorePermit;

use crate::adb::parameters::Template;
use crate::adb::throttle::Most;
use crate::full::attempt::Ticket;

/// A finished statement.
pub struct Batch {
    pub statement: Vec<u8>,
    pub rows: u64,
    /// Values that strict mode refuses; each gives one warning 1265.
    pub relaxed: u64,
    /// The rows as they were read, where refused ones are set aside; else none.
    pub cells: Vec<Vec<Cell>>,
    pub ticket: Arc<Ticket>,
    /// The statement's share of the task's memory.
    pub _memory: OwnedSemaphorePermit,
}

/// Everything of a statement but its rows.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Up to and with ` VALUES `.
    pub head: Arc<[u8]>,
    /// Behind the last row.
    pub tail: Arc<[u8]>,
    /// Where its rows may go as parameters.
    pub template: Option<Arc<Template>>,
    pub max_rows: u64,
    pub max_bytes: usize,
}

impl Frame {
    /// The same for statements that are no larger than that.
    pub fn within(&self, most: Most) -> Self {
        let max_bytes = self.max_bytes.min(usize::try_from(most.bytes).unwrap_or(usize::MAX));
        Self { max_rows: self.max_rows.min(most.rows), max_bytes, ..self.clone() }
    }
}

/// A statement being written.
#[derive(Debug, Default)]
pub struct Statement {
    pub bytes: Vec<u8>,
    pub rows: u64,
    pub relaxed: u64,
    pub cells: Vec<Vec<Cell>>,
}

/// Collects rows into statements.
#[derive(Debug)]
pub struct Batcher {
    frame: Frame,
    open: Statement,
}

impl Batcher {
    pub fn new(frame: Frame) -> Self {
        Self { frame, open: Statement::default() }
    }

    /// Adds a row, `(1,'a')`. Gives the statement that is full without it, or with it.
    pub fn push(&mut self, row: &[u8], relaxed: u64, cells: Option<Vec<Cell>>) -> Option<Statement> {
        let grown = self.open.bytes.len() + 1 + row.len() + self.frame.tail.len();
        let full = if self.open.rows > 0 && grown > self.frame.max_bytes { self.take() } else { None };
        if self.open.rows == 0 {
            self.open.bytes.extend_from_slice(&self.frame.head);
        } else {
            self.open.bytes.push(b',');
        }
        self.open.bytes.extend_from_slice(row);
        self.open.rows += 1;
        self.open.relaxed += relaxed;
        self.open.cells.extend(cells);
        if full.is_none() && self.open.rows >= self.frame.max_rows { self.take() } else { full }
    }

    /// Ends the open statement, None when it has no rows.
    pub fn take(&mut self) -> Option<Statement> {
        if self.open.rows == 0 {
            return None;
        }
        let mut statement = std::mem::take(&mut self.open);
        statement.bytes.extend_from_slice(&self.frame.tail);
        Some(statement)
    }

    /// Lends memory to the next statement.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.open.bytes.capacity() == 0 {
            buffer.clear();
            self.open.bytes = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(max_rows: u64, max_bytes: usize) -> Frame {
        Frame { head: Arc::from(&b"I "[..]), tail: Arc::from(&b";"[..]), template: None, max_rows, max_bytes }
    }

    proptest! {
        #[test]
        fn every_row_goes_out_once_and_limits_hold(
            rows in prop::collection::vec("[a-z]{1,12}", 0..60), max_rows in 1u64..8, max_bytes in 4usize..40,
        ) {
            let mut batcher = Batcher::new(frame(max_rows, max_bytes));
            let mut statements = Vec::new();
            for row in &rows {
                statements.extend(batcher.push(row.as_bytes(), 0, None));
            }
            statements.extend(batcher.take());
            let mut seen = Vec::new();
            for statement in statements {
                let text = String::from_utf8(statement.bytes).unwrap();
                let inner = text.strip_prefix("I ").unwrap().strip_suffix(';').unwrap();
                let parts: Vec<String> = inner.split(',').map(str::to_owned).collect();
                prop_assert_eq!(parts.len() as u64, statement.rows);
                prop_assert!(statement.rows <= max_rows);
                prop_assert!(text.len() <= max_bytes || statement.rows == 1);
                seen.extend(parts);
            }
            prop_assert_eq!(seen, rows);
        }
    }
}

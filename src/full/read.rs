//! Reads chunks at the snapshot and turns their rows into statements.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mysql_async::Row;
use tokio::sync::mpsc;

use crate::adb::throttle::Traffic;
use crate::engine::progress::spent;
use crate::error::{Error, ErrorKind, Policy, Result};
use crate::full::attempt::{ChunkJob, Ticket};
use crate::full::batch::{Batch, Batcher, Statement};
use crate::full::rows::RowEncoder;
use crate::full::run::{Queue, Run, finish_statement};
use crate::mysql::{RowSink, Session};

/// Takes chunks until there are no more, or the run ends.
pub async fn reader(run: Arc<Run>, chunks: Queue<ChunkJob>, batches: mpsc::Sender<Batch>) {
    let mut session = None;
    while let Some(job) = chunks.next(&run.stop).await {
        let mut clock = run.retry.clock();
        let mut first = true;
        loop {
            let ticket = Arc::new(Ticket::new(&job, first, &run.job.progress, run.most_letters(&job.table)));
            first = false;
            let result = tokio::select! {
                biased;
                () = job.attempt.stop.cancelled() => Err(Error::cancelled()),
                result = read(&run, &mut session, &job, &ticket, &batches) => result,
            };
            let Err(error) = result else {
                finish_statement(&run, &ticket).await;
                break;
            };
            ticket.abandon();
            session = None;
            let error = error.object(ticket.object());
            let again =
                if job.table.is_unit() { Err(error) } else { clock.wait(error, &job.attempt.stop).await };
            if let Err(error) = again {
                job.attempt.fail(error);
                break;
            }
        }
    }
}

async fn read(
    run: &Run,
    session: &mut Option<Session>,
    job: &ChunkJob,
    ticket: &Arc<Ticket>,
    batches: &mpsc::Sender<Batch>,
) -> Result<()> {
    let session = run.reading(session).await?;
    let frame = job.table.frame.within(run.job.gate.most(Traffic::Full));
    let mut sink = Sink {
        run,
        ticket,
        batches,
        encoder: RowEncoder::new(&job.table.table, &job.table.target)?,
        row: Vec::new(),
        strict: Batcher::new(frame.clone()),
        relaxed: Batcher::new(frame),
        reads: Instant::now(),
    };
    session.stream(&job.table.query(&job.handle, &job.chunk), &mut sink).await.map_err(changed)?;
    for statement in [sink.strict.take(), sink.relaxed.take()].into_iter().flatten() {
        sink.send(statement).await?;
    }
    ticket.set_lossy(sink.encoder.into_lossy());
    Ok(())
}

/// A server that answers a read with nonsense for our policy table stays an error of the source.
fn changed(error: Error) -> Error {
    match (error.kind, error.policy()) {
        (ErrorKind::Missing, Policy::Stop) => error
            .hint("the table was there when the copy was planned; was the source user's privilege revoked?"),
        _ => error,
    }
}

/// Collects the rows of one reading.
struct Sink<'a> {
    run: &'a Run,
    ticket: &'a Arc<Ticket>,
    batches: &'a mpsc::Sender<Batch>,
    encoder: RowEncoder<'a>,
    row: Vec<u8>,
    strict: Batcher,
    /// Rows that strict mode refuses.
    relaxed: Batcher,
    /// Since when it waits for rows.
    reads: Instant,
}

impl RowSink for Sink<'_> {
    async fn take(&mut self, row: Row) -> Result<()> {
        self.row.clear();
        let cells = row.unwrap();
        let pushed = match self.encoder.push(&cells, &mut self.row) {
            Err(error) if self.ticket.keeps_rows() && error.kind == ErrorKind::ValueRefused => {
                return self.ticket.set_aside(&cells, self.run.job.snapshot, error);
            }
            pushed => pushed?,
        };
        let Some(relaxed) = pushed else {
            self.ticket.leave_out();
            return Ok(());
        };
        let cells = self.ticket.keeps_rows().then_some(cells);
        let full = if relaxed == 0 {
            self.strict.push(&self.row, 0, cells)
        } else {
            self.relaxed.push(&self.row, relaxed, cells)
        };
        match full {
            Some(statement) => self.send(statement).await,
            None => Ok(()),
        }
    }
}

impl Sink<'_> {
    /// Waits for memory and passes the statement on.
    async fn send(&mut self, statement: Statement) -> Result<()> {
        let progress = &self.run.job.progress;
        spent(&progress.time.reading_us, self.reads);
        let waits = Instant::now();
        // Rows that are kept take about as much again, and half of it.
        let kept = if statement.cells.is_empty() { 0 } else { statement.bytes.len() / 2 * 3 };
        let memory = self.run.memory.take(statement.bytes.len() + kept).await?;
        progress.buffered_bytes.store(self.run.memory.in_use(), Ordering::Relaxed);
        self.ticket.opened();
        let batch = Batch {
            statement: statement.bytes,
            rows: statement.rows,
            relaxed: statement.relaxed,
            cells: statement.cells,
            ticket: Arc::clone(self.ticket),
            _memory: memory,
        };
        self.batches.send(batch).await.map_err(|_| Error::cancelled())?;
        spent(&progress.time.blocked_us, waits);
        self.reads = Instant::now();
        if let Some(buffer) = self.run.memory.buffer() {
            self.strict.reuse(buffer);
        }
        Ok(())
    }
}

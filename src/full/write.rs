//! Writes statements to the target, each until it is acknowledged or policy says to stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::adb::dialect::{RELAXED_MODE, STRICT_MODE};
use crate::adb::parameters::Sending;
use crate::adb::throttle::Traffic;
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::attempt::Ticket;
use crate::full::batch::Batch;
use crate::full::rows::RowEncoder;
use crate::full::run::{Queue, Run, finish_statement};
use crate::full::table::Mode;
use crate::mysql::{Done, Session};

/// After a cancel a statement in flight is awaited for this long, then its session is given up.
const FINISH_GRACE: Duration = Duration::from_secs(10);
/// Data truncated: what a relaxed value gives.
const TRUNCATED: u16 = 1265;
const DUPLICATE: u16 = 1062;

/// Takes statements until there are no more, or the run ends.
pub async fn writer(run: Arc<Run>, batches: Queue<Batch>) {
    let mut session = None;
    while let Some(batch) = batches.next(&run.stop).await {
        let attempt = Arc::clone(&batch.ticket.attempt);
        let progress = &run.job.progress;
        let (begins, passed) = tokio::select! {
            biased;
            () = attempt.stop.cancelled() => continue,
            permit = run.job.gate.pass(Traffic::Full, batch.rows, batch.statement.len() as u64) => {
                let begins = Instant::now();
                match permit {
                    Ok(_permit) => (begins, write(&run, &mut session, &batch).await),
                    Err(error) => (begins, Err(error)),
                }
            }
        };
        let passed = match passed {
            Err(error) if error.kind == ErrorKind::ValueRefused && !batch.cells.is_empty() => {
                isolate(&run, &mut session, &batch, error).await
            }
            passed => passed.map(|()| batch.rows),
        };
        match passed {
            Ok(rows) => {
                progress.batch_acknowledged(begins.elapsed());
                batch.ticket.count(rows, batch.statement.len() as u64);
                finish_statement(&run, &batch.ticket).await;
            }
            Err(error) => attempt.fail(error.object(batch.ticket.object())),
        }
        run.memory.give_back(batch.statement);
        progress.buffered_bytes.store(run.memory.in_use(), Ordering::Relaxed);
    }
    run.job.progress.buffered_bytes.store(run.memory.in_use(), Ordering::Relaxed);
    if let Some(session) = session {
        session.close().await;
    }
}

/// Finds the rows that the target refuses by halving their statement, and sets them aside. Gives the number of those that are in.
async fn isolate(run: &Run, session: &mut Option<Session>, batch: &Batch, error: Error) -> Result<u64> {
    let table = &batch.ticket.table;
    let mut encoder = RowEncoder::new(&table.table, &table.target)?;
    let mut waiting = vec![(batch.cells.as_slice(), error)];
    let mut passed = 0;
    while let Some((cells, error)) = waiting.pop() {
        if let [only] = cells {
            batch.ticket.set_aside(only, run.job.snapshot, error)?;
            continue;
        }
        let (left, right) = cells.split_at(cells.len() / 2);
        for half in [left, right] {
            let (mut statement, mut relaxed) = (table.frame.head.to_vec(), 0);
            for (at, cells) in half.iter().enumerate() {
                if at > 0 {
                    statement.push(b',');
                }
                relaxed += encoder.push(cells, &mut statement)?.unwrap_or(0);
            }
            statement.extend_from_slice(&table.frame.tail);
            let part =
                Part { statement: &statement, rows: half.len() as u64, relaxed, ticket: &batch.ticket };
            match write_part(run, session, &part, false).await {
                Ok(()) => passed += part.rows,
                Err(error) if error.kind == ErrorKind::ValueRefused => waiting.push((half, error)),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(passed)
}

/// A statement, or a part of one.
struct Part<'a> {
    statement: &'a [u8],
    rows: u64,
    relaxed: u64,
    ticket: &'a Ticket,
}

async fn write(run: &Run, session: &mut Option<Session>, batch: &Batch) -> Result<()> {
    let Batch { statement, rows, relaxed, ticket, .. } = batch;
    write_part(run, session, &Part { statement, rows: *rows, relaxed: *relaxed, ticket }, true).await
}

/// Writes one statement, again and again where that is allowed.
async fn write_part(
    run: &Run,
    session: &mut Option<Session>,
    batch: &Part<'_>,
    mut first: bool,
) -> Result<()> {
    let mut clock = run.retry.clock();
    loop {
        let (result, sent) = try_write(run, session, batch).await;
        let error = match result {
            Ok(done) => return check(batch, done, first),
            Err(error) => error,
        };
        if session.as_ref().is_none_or(Session::is_broken) {
            // The server may still be at it, which does no harm while the same images are written again: `run` ends it at last.
            *session = None;
            if sent && batch.ticket.table.is_unit() {
                return Err(error);
            }
        }
        first = false;
        clock.wait(error, &batch.ticket.attempt.stop).await?;
    }
}

/// One try; also says whether the statement may have reached the server.
async fn try_write(run: &Run, session: &mut Option<Session>, batch: &Part<'_>) -> (Result<Done>, bool) {
    let open = match session {
        Some(open) => open,
        None => match run.target_session().await {
            Ok(open) => session.insert(open),
            Err(error) => return (Err(error), false),
        },
    };
    let late = async {
        batch.ticket.attempt.stop.cancelled().await;
        tokio::time::sleep(FINISH_GRACE).await;
    };
    crash::point("copy.statement.before");
    let result = tokio::select! {
        biased;
        result = statement(open, batch) => result,
        () = late => Err(Error::cancelled()),
    };
    crash::point("copy.statement.after");
    (result, true)
}

async fn statement(session: &mut Session, batch: &Part<'_>) -> Result<Done> {
    if batch.relaxed > 0 {
        session.execute(RELAXED_MODE).await?;
    }
    let template = batch.ticket.table.frame.template.as_deref().filter(|_| batch.relaxed == 0);
    let done = send(session, batch, Sending::new(batch.statement, template, batch.rows)).await;
    if batch.relaxed > 0 && !session.is_broken() {
        session.execute(STRICT_MODE).await?;
    }
    done
}

async fn send(session: &mut Session, batch: &Part<'_>, mut statement: Sending<'_>) -> Result<Done> {
    let mut all = Done::default();
    while let Some(done) = statement.next(session).await? {
        all.affected_rows += done.affected_rows;
        if done.warnings > 0 {
            all.warnings = all.warnings.saturating_add(warnings(session, batch, done).await?);
        }
    }
    Ok(all)
}

/// Number of warnings that mean a changed value.
async fn warnings(session: &mut Session, batch: &Part<'_>, done: Done) -> Result<u16> {
    let listed: Vec<(String, u16, String)> = session.query("SHOW WARNINGS").await?;
    let harmless = |level: &str, code: u16| {
        level.eq_ignore_ascii_case("note") || (batch.ticket.table.mode == Mode::Keep && code == DUPLICATE)
    };
    if batch.relaxed > 0 {
        let expected = listed.iter().filter(|(_, code, _)| *code == TRUNCATED).count() == listed.len();
        let fits = u64::from(done.warnings) <= batch.relaxed;
        return Ok(if expected && fits { 0 } else { done.warnings });
    }
    let serious = listed.iter().filter(|(level, code, _)| !harmless(level, *code)).count();
    Ok(u16::try_from(serious).unwrap_or(u16::MAX))
}

/// What an acknowledged statement must have done.
fn check(batch: &Part<'_>, done: Done, first: bool) -> Result<()> {
    let table = &batch.ticket.table;
    if done.warnings > 0 {
        return Err(Error::new(
            ErrorKind::ValueRefused,
            format!("the target changed values of {} rows or more without an error", done.warnings),
        )
        .endpoint(Endpoint::Target)
        .hint("compare the column types of source and target, or set the task's lossy policies"));
    }
    let untouched =
        first && batch.ticket.fresh && !batch.ticket.is_abandoned() && table.mode == Mode::Replace;
    if untouched && done.affected_rows > batch.rows {
        return Err(Error::new(
            ErrorKind::SchemaMismatch,
            format!(
                "{} rows replaced others of the same copy: keys that differ on the source are equal on the target",
                done.affected_rows - batch.rows
            ),
        )
        .endpoint(Endpoint::Target)
        .hint("give the target's key columns the source's collation, and remove unique keys that the source has not"));
    }
    Ok(())
}

//! The copy of one table, from the plan to the final count.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::adb::dialect::{empty_table, own_rows};
use crate::crash;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::full::attempt::{Attempt, ChunkJob, Hold};
use crate::full::chunk::{Chunk, Handle};
use crate::full::plan::{Planner, from_clause};
use crate::full::run::Run;
use crate::full::table::TableJob;
use crate::model::TableName;
use crate::mysql::Session;
use crate::sql::literal;
use crate::store::{CopyState, CopyTable, Use};

/// Where the copy of a table stands when a run takes it up.
struct Standing {
    /// The plan and the finished chunks of an earlier run.
    resumed: Option<CopyTable>,
    /// Rows that are not ours are in the target.
    had_rows: bool,
}

/// How far a table got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    Whole,
    /// The run was asked to drain: chunks are left.
    Drained,
}

/// Copies one table, or what is missing of it.
pub async fn copy_table(run: &Run, table: &Arc<TableJob>, chunks: &mpsc::Sender<ChunkJob>) -> Result<Copied> {
    let saved = run.job.store.copy_table(&run.job.task, &table.table.name).await?;
    let standing = match saved {
        Some(saved) if saved.snapshot == run.job.snapshot && saved.state == CopyState::Done => {
            return Ok(Copied::Whole);
        }
        Some(saved) if saved.snapshot == run.job.snapshot && !table.is_unit() => {
            Standing { had_rows: saved.had_rows, resumed: Some(saved) }
        }
        Some(saved) => {
            start_again(run, table, saved.had_rows).await?;
            Standing { had_rows: false, resumed: None }
        }
        None => Standing { had_rows: start(run, table).await?, resumed: None },
    };
    let attempt = Arc::new(Attempt::new(&run.stop));
    let known = standing.resumed.as_ref().and_then(|saved| saved.rows_expected);
    let drained = run.job.drain.child_token();
    let (copied, expected) = tokio::join!(
        Box::pin(async {
            let copied = copy_chunks(run, table, &attempt, &standing, chunks).await;
            if matches!(copied, Ok(Copied::Drained)) {
                drained.cancel();
            }
            copied
        }),
        Box::pin(async {
            tokio::select! {
                biased;
                () = drained.cancelled(), if !table.is_unit() => None,
                expected = expected_rows(run, table, &attempt, known) => {
                    Some(expected.inspect_err(|error| attempt.fail(error.clone())))
                }
            }
        }),
    );
    match (copied?, expected) {
        (Copied::Whole, Some(expected)) => finish(run, table, expected?).await.map(|()| Copied::Whole),
        _ => Ok(Copied::Drained),
    }
}

/// First copy: what is in the target now is not ours. Gives whether there is anything.
async fn start(run: &Run, table: &TableJob) -> Result<bool> {
    let had_rows = target_has_rows(run, table).await?;
    if had_rows && table.is_unit() {
        return Err(not_ours(
            &table.target.name,
            "the target table has rows already, and without a row identity they cannot be told from copied ones",
        ));
    }
    begin(run, table, had_rows).await?;
    Ok(had_rows)
}

/// Rows of an earlier try, or of an earlier snapshot, are in the target: rows deleted since would stay as ghosts, so the table
/// is emptied (design.md 10.1), but never of rows that were there before the task. An outcome that is not known goes up to the
/// worker, which ends the session before it tries again.
async fn start_again(run: &Run, table: &TableJob, had_rows: bool) -> Result<()> {
    table.forget(&run.job.progress);
    if !had_rows {
        let mut session = run.target_session().await?;
        session
            .execute(empty_table(&table.target))
            .await
            .map_err(|error| error.object(&table.target.name))?;
        session.close().await;
    } else if target_has_rows(run, table).await? {
        return Err(not_ours(
            &table.target.name,
            "the copy must start again with an empty table, but rows were there before the task",
        ));
    }
    begin(run, table, false).await
}

fn not_ours(table: &TableName, message: &str) -> Error {
    Error::new(ErrorKind::Configuration, message)
        .endpoint(Endpoint::Target)
        .object(table)
        .hint("empty or drop the target table if its rows are not needed, then resume the task")
}

async fn begin(run: &Run, table: &TableJob, had_rows: bool) -> Result<()> {
    let name = &table.table.name;
    let estimate = run.estimated(name);
    run.job.progress.table(name, |counters| counters.rows_estimated = estimate);
    if run.job.sessions == Use::Task {
        // What was refused of an earlier copy comes again.
        let (task, epoch) = (&run.job.task, run.job.epoch);
        run.job.store.letters_met_ddl(task, epoch, &[], std::slice::from_ref(name), &[]).await?;
    }
    run.job
        .store
        .begin_copy(&run.job.task, run.job.epoch, name, run.job.snapshot, had_rows, estimate)
        .await?;
    crash::point("copy.begun");
    Ok(())
}

/// Plans chunks, or goes on with the plan of an earlier run, and waits until nothing of the attempt is under way.
async fn copy_chunks(
    run: &Run,
    table: &Arc<TableJob>,
    attempt: &Arc<Attempt>,
    standing: &Standing,
    chunks: &mpsc::Sender<ChunkJob>,
) -> Result<Copied> {
    let (hold, mut settled) = mpsc::channel(1);
    let lane = Lane { run, table, attempt, chunks, hold };
    let planned = tokio::select! {
        biased;
        () = attempt.stop.cancelled() => Ok(Copied::Whole),
        planned = plan(&lane, standing) => planned,
    };
    drop(lane);
    let copied = planned.unwrap_or_else(|error| {
        attempt.fail(error);
        Copied::Drained
    });
    tokio::select! {
        _ = settled.recv() => {}
        () = run.stop.cancelled() => {}
    }
    attempt.outcome().map(|()| copied)
}

/// What sending a chunk takes.
struct Lane<'a> {
    run: &'a Run,
    table: &'a Arc<TableJob>,
    attempt: &'a Arc<Attempt>,
    chunks: &'a mpsc::Sender<ChunkJob>,
    hold: Hold,
}

impl Lane<'_> {
    fn is_draining(&self) -> bool {
        self.run.job.drain.is_cancelled() && !self.table.is_unit()
    }

    async fn send(&self, handle: &Arc<Handle>, n: u32, chunk: Chunk, fresh: bool) -> Result<()> {
        let job = ChunkJob {
            table: Arc::clone(self.table),
            attempt: Arc::clone(self.attempt),
            handle: Arc::clone(handle),
            n,
            chunk,
            fresh,
            hold: self.hold.clone(),
        };
        self.chunks.send(job).await.map_err(|_| Error::cancelled())
    }
}

async fn plan(lane: &Lane<'_>, standing: &Standing) -> Result<Copied> {
    let job = &lane.run.job;
    let name = &lane.table.table.name;
    let mut session = None;
    let mut planner = open_planner(lane, &mut session).await?;
    let handle = Arc::new(planner.handle().clone());
    let mut n = 0;
    if let Some(resumed) = &standing.resumed {
        let mut last = None;
        for saved in job.store.copy_chunks(&job.task, name).await? {
            let chunk: Chunk = serde_json::from_str(&saved.chunk).map_err(|error| {
                Error::internal(format!("a saved chunk cannot be read: {error}")).object(name)
            })?;
            if !saved.done {
                if lane.is_draining() {
                    return Ok(Copied::Drained);
                }
                lane.send(&handle, saved.n, chunk.clone(), false).await?;
            }
            n = saved.n + 1;
            last = Some(chunk);
        }
        if resumed.planned {
            return Ok(Copied::Whole);
        }
        if let Some(last) = last {
            planner.resume(&last);
        }
    }
    loop {
        if lane.is_draining() {
            return Ok(Copied::Drained);
        }
        let Some(chunk) = next_chunk(lane, &mut planner, &mut session).await? else { break };
        if !lane.table.is_unit() {
            let text = serde_json::to_string(&chunk).map_err(Error::internal)?;
            job.store.add_copy_chunk(&job.task, job.epoch, name, (n, &text), planner.is_done()).await?;
            crash::point("copy.planned");
        }
        lane.send(&handle, n, chunk, !standing.had_rows).await?;
        n += 1;
    }
    if let Some(session) = session {
        session.close().await;
    }
    Ok(Copied::Whole)
}

async fn open_planner(lane: &Lane<'_>, session: &mut Option<Session>) -> Result<Planner> {
    let rows = lane.run.estimated(&lane.table.table.name).unwrap_or(0);
    let chunk_rows = lane.run.job.spec.tuning.chunk_rows;
    let mut clock = lane.run.retry.clock();
    loop {
        let opened = async {
            let session = lane.run.reading(session).await?;
            Planner::open(session, &lane.table.table, rows, chunk_rows).await
        };
        match opened.await {
            Ok(planner) => return Ok(planner),
            Err(error) => clock.wait(error, &lane.attempt.stop).await?,
        }
    }
}

async fn next_chunk(
    lane: &Lane<'_>,
    planner: &mut Planner,
    session: &mut Option<Session>,
) -> Result<Option<Chunk>> {
    let mut clock = lane.run.retry.clock();
    loop {
        let planned = async { planner.next(lane.run.reading(session).await?).await };
        match planned.await {
            Ok(chunk) => return Ok(chunk),
            Err(error) => clock.wait(error, &lane.attempt.stop).await?,
        }
    }
}

/// COUNT(*) at the snapshot.
async fn expected_rows(run: &Run, table: &TableJob, attempt: &Attempt, known: Option<u64>) -> Result<u64> {
    let job = &run.job;
    let name = &table.table.name;
    let rows = match known {
        Some(rows) => rows,
        None => {
            let rows = tokio::select! {
                rows = count_rows(run, name, attempt) => rows?,
                () = attempt.stop.cancelled() => return Err(Error::cancelled()),
            };
            job.store.set_copy_expected(&job.task, job.epoch, name, rows).await?;
            rows
        }
    };
    job.progress.table(name, |counters| counters.rows_estimated = Some(rows));
    Ok(rows)
}

async fn count_rows(run: &Run, name: &TableName, attempt: &Attempt) -> Result<u64> {
    let mut clock = run.retry.clock();
    let sql = format!("SELECT COUNT(*) FROM {}", from_clause(name, None));
    loop {
        let counted = async {
            let _one = run.counting.lock().await;
            let mut session = run.source.snapshot_session(run.job.snapshot).await?;
            let rows: Option<u64> = session.first(&sql).await.map_err(|error| error.object(name))?;
            session.close().await;
            rows.ok_or_else(|| Error::internal("COUNT(*) gave no row").object(name))
        };
        match counted.await {
            Ok(rows) => return Ok(rows),
            Err(error) => clock.wait(error, &attempt.stop).await?,
        }
    }
}

async fn finish(run: &Run, table: &TableJob, expected: u64) -> Result<()> {
    let name = &table.table.name;
    let (rows, bytes) = table.counted();
    let left_out = table.left_out();
    let set_aside = run.job.store.copy_letters(&run.job.task, name, run.job.snapshot).await?;
    let set_aside = if run.most_letters(table) > 0 { set_aside } else { 0 };
    if rows + left_out + set_aside != expected {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "{rows} rows were copied, {left_out} left out by the filter and {set_aside} set aside, where the source has {expected} at snapshot {}",
                run.job.snapshot
            ),
        )
        .endpoint(Endpoint::Source)
        .object(name)
        .hint(
            "a fault of ours: please report it with the table's definition; copying the table again may help",
        ));
    }
    crash::point("copy.table.before");
    run.job.store.end_copy(&run.job.task, run.job.epoch, name, Ok((rows, bytes))).await?;
    crash::point("copy.table.saved");
    tracing::info!(task.id = %run.job.task, phase = "full", table = %name, rows, left_out, bytes, "table copied");
    Ok(())
}

async fn target_has_rows(run: &Run, table: &TableJob) -> Result<bool> {
    let own = own_rows(&table.target).map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    let sql = format!("SELECT 1 FROM {}{own} LIMIT 1", literal::table_name(&table.target.name));
    let mut clock = run.retry.clock();
    loop {
        let asked = async {
            let mut session = run.target_session().await?;
            let row: Option<u64> = session.first(&sql).await?;
            session.close().await;
            Ok::<_, Error>(row.is_some())
        };
        match asked.await {
            Ok(found) => return Ok(found),
            Err(error) => clock.wait(error.object(&table.target.name), &run.stop).await?,
        }
    }
}

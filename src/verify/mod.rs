//! Whether source and target hold the same: definitions, numbers of rows, every value of every row.
//!
//! Nothing is stopped for it. A row is read from the source as of a timestamp that the stream has reached, and from the target as it
//! is then; so what differs may merely have changed in between. It is looked at again, each time as of a later timestamp, until it is
//! equal, or until three looks in a row find the same two images, which differ. What never stands still is
//! `unsettled`, and the verdict `inconclusive`.
//!
//! Two passes: the source's rows in the order of their key, each page looked up on the target; then the target's keys, each page
//! looked up at the source. Both sides are asked for rows by key, so it does not matter in which order a server's collation has them.
//! Where the task does not follow the stream the source is read as of the task's own position, and a difference counts if the source
//! still has that row.

mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::Row;
use tokio_util::sync::CancellationToken;

use crate::adb;
use crate::adb::dialect::Collations;
use crate::engine::progress::Phase;
use crate::engine::registry::Registry;
use crate::error::{Endpoint, Error, ErrorKind, Policy, Result};
use crate::incremental::catalog::Catalog;
use crate::model::{Dialect, MysqlEndpoint, TableName, TaskId, Tso};
use crate::mysql::{RowSink, Session};
use crate::observe::measure::watermark;
use crate::schema_sync;
use crate::store::{Mode, Order, Store, TableFound, Verdict};
use crate::task::selection::Selection;
use crate::task::spec::{DdlPolicy, Spec};
use crate::task::standing::Standing;
use crate::task::status::Status;
use crate::tidb::Source;
use table::Planned;

/// A timestamp is read at so long: well within the ten minutes for which a source keeps history by default.
const MOMENT: Duration = Duration::from_secs(60);
/// Time between two looks at the watermark.
const POLL: Duration = Duration::from_millis(50);
/// A watermark that stands still for so long is waited for no more.
const STUCK: Duration = Duration::from_secs(300);
/// Tries at a table whose definition changes, or whose servers are out of reach.
const TRIES: u32 = 5;

/// A verification to be run.
pub struct Verification {
    pub store: Store,
    pub registry: Arc<Registry>,
    pub task: TaskId,
    pub n: i64,
    pub order: Order,
    pub spec: Arc<Spec>,
    pub source: MysqlEndpoint,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    pub cancel: CancellationToken,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Follows,
    /// The target is as the source was then.
    Still(Tso),
}

struct Run {
    job: Verification,
    deadline: Option<Instant>,
    source: Option<Session>,
    target: Option<Session>,
    moment: Option<(Tso, Instant)>,
    collations: Option<Collations>,
    /// Rows that are not on record yet.
    unsaved: i64,
    saved: Instant,
}

/// Compares what was not compared before; the findings are in the store.
///
/// # Errors
/// `Cancelled`, and whatever keeps it from finding anything out.
pub async fn run(job: Verification) -> Result<Verdict> {
    let begun = Instant::now();
    let deadline = job.order.max_duration_ms.map(|limit| begun + Duration::from_millis(limit));
    let cancel = job.cancel.clone();
    let mut run = Run {
        job,
        deadline,
        source: None,
        target: None,
        moment: None,
        collations: None,
        unsaved: 0,
        saved: begun,
    };
    let result = cancel.run_until_cancelled(run.tables()).await.unwrap_or_else(|| Err(Error::cancelled()));
    for session in [run.source.take(), run.target.take()].into_iter().flatten() {
        session.close().await;
    }
    result
}

impl Run {
    async fn tables(&mut self) -> Result<Verdict> {
        let mut tries = 0;
        let (names, tso) = loop {
            tries += 1;
            match self.begin().await {
                Ok(begun) => break begun,
                Err(error) if tries < TRIES && matches!(error.policy(), Policy::Retry(_)) => {
                    self.rest(tries).await
                }
                Err(error) => return Err(error),
            }
        };
        let (store, task, n) = (self.job.store.clone(), self.job.task.clone(), self.job.n);
        store.verification_begun(&task, n, tso, &names).await?;
        for name in store.tables_to_verify(&task, n).await? {
            let (found, key_columns, differences) = if self.is_over() {
                let found = table::inconclusive("the time for the verification was over before it");
                (found, Vec::new(), Vec::new())
            } else {
                self.table(&name).await?
            };
            self.record(true).await?;
            tracing::info!(task.id = %task, table = %name, verification = n, verdict = found.verdict.map(Verdict::as_str),
                missing = found.missing, surplus = found.surplus, different = found.different, "table verified");
            store.table_verified(&task, n, &name, &found, (&key_columns, &differences)).await?;
        }
        let tables = store.verified_tables(&task, n, u32::MAX).await?;
        let any =
            |verdict: Verdict| tables.iter().any(|table| table.verdict.as_deref() == Some(verdict.as_str()));
        Ok(if any(Verdict::Different) {
            Verdict::Different
        } else if any(Verdict::Inconclusive) || tables.is_empty() {
            Verdict::Inconclusive
        } else {
            Verdict::Equal
        })
    }

    /// The tables to be compared, and the first timestamp.
    async fn begin(&mut self) -> Result<(Vec<TableName>, Tso)> {
        let catalog = self.catalog().await?;
        let names = match &self.job.order.tables {
            Some(tables) => tables.clone(),
            None => {
                let left =
                    |standing: &Standing| matches!(standing, Standing::Skipped | Standing::Removed { .. });
                let aside = catalog.aside().into_iter().filter(|entry| !left(&entry.standing));
                let followed = catalog.wanted().into_iter().map(|wanted| wanted.source);
                followed.chain(aside.map(|entry| entry.table.name.clone())).collect()
            }
        };
        let tso = match self.moment(true).await {
            // Every table says so.
            Err(_) if self.is_over() => Tso(0),
            tso => tso?,
        };
        Ok((names, tso))
    }

    /// Before another try, over new sessions.
    async fn rest(&mut self, tries: u32) {
        (self.source, self.target, self.moment) = (None, None, None);
        tokio::time::sleep(Duration::from_millis(200 << tries)).await;
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// One table, again where its definition changes on the way, or a server is out of reach.
    async fn table(&mut self, name: &TableName) -> Result<table::Compared> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, changed) = match self.try_table(name).await {
                Ok((compared, false)) => return Ok(compared),
                Ok((_, true)) => (Error::new(ErrorKind::Contention, "its definition kept changing"), true),
                Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                Err(error) => (error, false),
            };
            let passing = matches!(error.policy(), Policy::Retry(_)) || error.kind == ErrorKind::SnapshotLost;
            // Once in any case: the last timestamp may be older than the table's definition.
            if !(changed || passing || tries == 1) || tries >= TRIES || self.is_over() {
                return Ok((table::inconclusive(error.to_string()), Vec::new(), Vec::new()));
            }
            self.rest(tries).await;
        }
    }

    /// What was found, and whether the definition changed meanwhile.
    async fn try_table(&mut self, name: &TableName) -> Result<(table::Compared, bool)> {
        let before = match self.planned(name).await? {
            Ok(planned) => planned,
            Err(why) => return Ok(((table::inconclusive(why), Vec::new(), Vec::new()), false)),
        };
        let result = self.compare(&before).await;
        let changed = !matches!(self.planned(name).await?, Ok(after) if after == before);
        match result {
            Err(_) if changed => Ok(((TableFound::default(), Vec::new(), Vec::new()), true)),
            result => result.map(|compared| (compared, changed)),
        }
    }

    async fn compare(&mut self, planned: &Planned) -> Result<table::Compared> {
        if let Some(different) = self.definitions(planned).await? {
            return Ok((different, Vec::new(), Vec::new()));
        }
        if self.job.order.mode == Mode::Schema {
            let found = TableFound { verdict: Some(Verdict::Equal), ..TableFound::default() };
            return Ok((found, Vec::new(), Vec::new()));
        }
        table::rows(self, planned).await
    }

    /// What is wrong with the target's table.
    async fn definitions(&mut self, planned: &Planned) -> Result<Option<TableFound>> {
        let dialect = self.job.dialect;
        let target = &planned.target;
        let session = self.target().await?;
        let mut state = schema_sync::introspect(session, dialect, std::slice::from_ref(&target.name)).await?;
        let different = |detail: String| {
            Some(TableFound {
                verdict: Some(Verdict::Different),
                detail: Some(detail),
                ..TableFound::default()
            })
        };
        Ok(match schema_sync::refusals(target, &mut state, planned.keep_other_columns) {
            None => different(format!("{} is not on the target", target.name)),
            Some(refusals) if refusals.is_empty() => None,
            Some(refusals) => {
                let words = refusals.iter().map(|problem| format!("{}: {}", problem.object, problem.detail));
                different(words.collect::<Vec<_>>().join("; "))
            }
        })
    }

    /// What the stream has made of the task's tables.
    async fn catalog(&mut self) -> Result<Catalog> {
        let job = &self.job;
        let dialect = job.dialect;
        let checkpoint = job.store.checkpoint(&job.task).await?;
        let bytewise = checkpoint.is_some_and(|checkpoint| checkpoint.bytewise);
        let selection = Selection::new(&job.spec)
            .map_err(|_| Error::new(ErrorKind::Configuration, "the task's objects cannot be read"))?;
        let (schemas, versions) = job.store.catalog(&job.task).await?;
        let spec = Arc::clone(&job.spec);
        let collations = match self.collations.clone() {
            Some(collations) => collations,
            None => schema_sync::collations(self.target().await?, dialect).await?,
        };
        self.collations = Some(collations.clone());
        let mut catalog = Catalog::new(spec, Arc::new(selection), dialect, collations).bytewise(bytewise);
        catalog.load(schemas, versions)?;
        Ok(catalog)
    }

    /// How a table goes to the target now, or why it does not.
    async fn planned(&mut self, name: &TableName) -> Result<std::result::Result<Planned, String>> {
        let catalog = self.catalog().await?;
        let Some(entry) = catalog.table(name) else {
            return Ok(Err("the task has no such table any more".to_owned()));
        };
        if !entry.is_followed() {
            return Ok(Err(format!("it is {}: the task does not keep it in step", entry.standing.as_str())));
        }
        Ok(Ok(Planned {
            table: entry.visible(),
            target: catalog.target(entry)?,
            keep_other_columns: entry.keep_other_columns,
            keeps_rows: {
                let policies = catalog.ddl_policies(name);
                [policies.truncate_table, policies.partition, policies.drop_table]
                    .contains(&DdlPolicy::Ignore)
            },
        }))
    }

    async fn stand(&self) -> Result<Stand> {
        let job = &self.job;
        let gone = || Error::new(ErrorKind::Missing, "the task is not there any more").object(&job.task);
        let row = job.store.task(&job.task.0).await?.ok_or_else(gone)?;
        let follows = row.status == Status::Running && row.phase == Some(Phase::Incremental);
        if follows {
            return Ok(Stand::Follows);
        }
        let checkpoint = job.store.checkpoint(&job.task).await?.filter(|checkpoint| checkpoint.full_done);
        let Some(checkpoint) = checkpoint else {
            return Err(Error::new(ErrorKind::Configuration, "the task's tables are not copied yet")
                .hint("verify it once it is in its incremental phase, or finished"));
        };
        Ok(Stand::Still(checkpoint.watermark.max(checkpoint.position.commit_ts).max(checkpoint.snapshot)))
    }

    /// The timestamp that the source is read at, which the target has reached: a new one when wanted, or when the last is old.
    async fn moment(&mut self, new: bool) -> Result<Tso> {
        if let Some((tso, at)) = self.moment
            && !new
            && at.elapsed() < MOMENT
        {
            return Ok(tso);
        }
        let tso = match self.stand().await? {
            Stand::Still(tso) => tso,
            Stand::Follows => {
                let tso = Source::new(self.job.source.clone()).current_tso().await?;
                if self.is_reached(tso).await? { tso } else { return Box::pin(self.moment(true)).await }
            }
        };
        self.at(tso).await
    }

    async fn is_still(&self) -> Result<bool> {
        Ok(self.stand().await? != Stand::Follows)
    }

    /// The source is read as it is now, until the next moment.
    async fn now(&mut self) -> Result<()> {
        let tso = Source::new(self.job.source.clone()).current_tso().await?;
        self.at(tso).await?;
        self.moment = None;
        Ok(())
    }

    async fn at(&mut self, tso: Tso) -> Result<Tso> {
        if let Some(session) = self.source.take() {
            session.close().await;
        }
        let session = Source::new(self.job.source.clone()).snapshot_session(tso).await.map_err(|error| {
            if error.kind == ErrorKind::SnapshotLost {
                error.hint("the source no longer keeps rows of the time at which the task stands: resume the task, and verify it while it follows")
            } else {
                error
            }
        })?;
        self.source = Some(session);
        self.moment = Some((tso, Instant::now()));
        Ok(tso)
    }

    /// Waits until the target is complete up to there; false when the task stops following.
    async fn is_reached(&self, tso: Tso) -> Result<bool> {
        let job = &self.job;
        let mut looked = Instant::now();
        let (mut stands, mut since) = (None, Instant::now());
        loop {
            let seen = job.registry.seen(&job.task);
            let checkpoints = job.store.checkpoint_views(&[&job.task]).await?;
            let progress = seen.as_ref().map(|seen| &*seen.progress);
            let now = watermark(progress, checkpoints.get(&job.task)).map(|(_, reached)| reached);
            if now.is_some_and(|reached| reached >= tso.0) {
                return Ok(true);
            }
            if now != stands {
                (stands, since) = (now, Instant::now());
            } else if since.elapsed() > STUCK {
                return Err(Error::new(
                    ErrorKind::Contention,
                    format!("the watermark has not moved for {} minutes", STUCK.as_secs() / 60),
                )
                .hint("GET .../diagnosis says why; on an idle source it moves by Drainer's status alone"));
            }
            if self.is_over() {
                return Err(Error::new(
                    ErrorKind::Contention,
                    "the task did not catch up in the time for the verification",
                ));
            }
            if looked.elapsed() > Duration::from_millis(500) {
                if self.stand().await? != Stand::Follows {
                    return Ok(false);
                }
                looked = Instant::now();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn target(&mut self) -> Result<&mut Session> {
        let session = match self.target.take().filter(|session| !session.is_broken()) {
            Some(session) => session,
            None => adb::connect(&self.job.target, self.job.dialect).await?,
        };
        Ok(self.target.insert(session))
    }

    /// Reads from the source as of the last moment.
    async fn read_source(&mut self, sql: &str, each: impl FnMut(Row) -> Result<()> + Send) -> Result<()> {
        let mut each = self.each(each);
        let session = self.source.as_mut().ok_or_else(|| Error::internal("no timestamp to read at"))?;
        session.stream(sql, &mut each).await.map_err(|error| error.endpoint(Endpoint::Source))
    }

    async fn read_target(&mut self, sql: &str, each: impl FnMut(Row) -> Result<()> + Send) -> Result<()> {
        let mut each = self.each(each);
        self.target().await?.stream(sql, &mut each).await
    }

    fn each<F>(&self, each: F) -> Each<F> {
        let rows_per_second = self.job.order.rows_per_second;
        Each { each, rows_per_second, deadline: self.deadline, rows: 0, since: Instant::now() }
    }

    /// Counts rows that were compared.
    async fn count(&mut self, rows: u64) -> Result<()> {
        self.unsaved += i64::try_from(rows).unwrap_or(i64::MAX);
        self.record(false).await
    }

    async fn record(&mut self, now: bool) -> Result<()> {
        if self.unsaved > 0 && (now || self.saved.elapsed() > Duration::from_secs(1)) {
            let rows = std::mem::take(&mut self.unsaved);
            self.saved = Instant::now();
            self.job.store.verification_moved(&self.job.task, self.job.n, rows).await?;
        }
        Ok(())
    }
}

/// Gives rows to a function, no faster than is allowed and no longer than there is time.
struct Each<F> {
    each: F,
    rows_per_second: Option<u64>,
    deadline: Option<Instant>,
    rows: u64,
    since: Instant,
}

impl<F: FnMut(Row) -> Result<()> + Send> RowSink for Each<F> {
    async fn take(&mut self, row: Row) -> Result<()> {
        self.rows += 1;
        if self.rows.is_multiple_of(100) && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(
                ErrorKind::Contention,
                "the time for the verification was over in the middle of it",
            ));
        }
        if let Some(limit) = self.rows_per_second {
            let due = Duration::from_secs_f64(self.rows as f64 / limit.max(1) as f64);
            tokio::time::sleep(due.saturating_sub(self.since.elapsed())).await;
        }
        (self.each)(row)
    }
}

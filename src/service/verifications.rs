//! Verifications: asked for, run beside the task, ended, and what they found repaired.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Answer, Refusal, Service};
use crate::error::{Error, ErrorKind};
use crate::model::{TableName, TaskId};
use crate::store::tasks::TaskRow;
use crate::store::{Order, Repair, Verdict, VerificationRow};
use crate::task::standing::TableCommand;
use crate::task::status::Status;
use crate::verify::{self, Verification};

/// Verifications that run at one time; the others are queued.
const AT_ONCE: usize = 4;
/// Time between two looks at whether one is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows of one table that are repaired one by one; a table where more of them differ is copied again.
const MOST_REPAIRED: i64 = 10_000;

/// Those of this process.
#[derive(Debug)]
pub struct Verifier {
    running: Mutex<HashMap<(TaskId, i64), CancellationToken>>,
    places: Semaphore,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { running: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

/// What a repair does.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Rows that are written again.
    pub rows: i64,
    /// Tables that are copied again, since their rows cannot be named or are too many.
    pub resync: Vec<TableName>,
}

const ALLOWED: &[Status] =
    &[Status::Running, Status::Pausing, Status::Paused, Status::Failed, Status::Stopped, Status::Finished];
const FOLLOWING: &[Status] = &[Status::Running, Status::Pausing, Status::Paused, Status::Failed];

impl Service {
    /// Begins a verification and waits for its end, at most `wait`.
    pub async fn verify(
        &self,
        id_or_name: &str,
        order: Order,
        wait: Duration,
    ) -> Answer<(TaskRow, VerificationRow)> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let task = self.may_verify(id_or_name, &order).await?;
        let Some(n) = self.store.add_verification(&task.id, &order).await? else {
            return Err(under_way());
        };
        self.spawn_verification(task.id.clone(), n);
        Ok((task.clone(), self.await_verification(&task, n, wait).await?))
    }

    /// Whether a verification could begin.
    pub async fn may_verify(&self, id_or_name: &str, order: &Order) -> Answer<TaskRow> {
        let task = self.task(id_or_name).await?;
        if !ALLOWED.contains(&task.status) {
            return Err(Refusal::State {
                what: "verifying a task".to_owned(),
                status: task.status,
                allowed_from: ALLOWED,
            });
        }
        if task.spec.source.tidb.is_none() {
            return Err(Refusal::Conflict(
                "the task has no tidb connection in source.tidb: there is nothing to compare the target with"
                    .to_owned(),
            ));
        }
        if order.repair == Repair::Differences {
            may_repair(&task)?;
        }
        if self.store.verifications(&task.id, i64::MAX, 1).await?.iter().any(|newest| !newest.is_over()) {
            return Err(under_way());
        }
        if let Some(tables) = &order.tables {
            self.known(&task, tables).await?;
        }
        Ok(task)
    }

    /// Goes on with those that the last end of the process has cut off.
    pub async fn resume_verifications(&self) -> Result<(), Error> {
        for (task, n) in self.store.open_verifications().await? {
            self.spawn_verification(task, n);
        }
        Ok(())
    }

    fn spawn_verification(&self, task: TaskId, n: i64) {
        let cancel = self.shutdown.child_token();
        let mut running = self.verifier.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert((task.clone(), n), cancel.clone());
        let service = self.clone();
        tokio::spawn(async move {
            let work = Box::pin(service.run_verification(&task, n, &cancel));
            let result = cancel.run_until_cancelled(work).await;
            let result = result.unwrap_or_else(|| Err(Error::cancelled()));
            if let Err(error) = service.end_verification(&task, n, result).await {
                tracing::warn!(task.id = %task, verification = n, %error, "the end of a verification is not on record: it is run again after a restart");
            }
            service.verifier.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&(task, n));
        });
    }

    async fn run_verification(
        &self,
        task: &TaskId,
        n: i64,
        cancel: &CancellationToken,
    ) -> Result<Verdict, Error> {
        let _place = self.verifier.places.acquire().await.map_err(Error::internal)?;
        let gone = || Error::new(ErrorKind::Missing, "the task is not there any more").object(task);
        let row = self.store.task(&task.0).await?.ok_or_else(gone)?;
        let found = self.store.verification(task, n).await?.ok_or_else(gone)?;
        let endpoints = crate::engine::endpoints::of_spec(&self.store, &self.keyring, &row.spec).await?;
        let source = endpoints.source.ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "the task has no tidb connection").object(task)
        })?;
        verify::run(Verification {
            store: self.store.clone(),
            registry: Arc::clone(&self.registry),
            task: task.clone(),
            n,
            order: found.wanted,
            spec: Arc::new(row.spec),
            source,
            target: endpoints.target,
            dialect: endpoints.dialect,
            cancel: cancel.clone(),
        })
        .await
    }

    async fn end_verification(
        &self,
        task: &TaskId,
        n: i64,
        result: Result<Verdict, Error>,
    ) -> Result<(), Error> {
        let outcome = match &result {
            Ok(verdict) => Ok(Some(*verdict)),
            // The process ends: the next one goes on with it.
            Err(error) if error.kind == ErrorKind::Cancelled && self.shutdown.is_cancelled() => return Ok(()),
            Err(error) if error.kind == ErrorKind::Cancelled => Ok(None),
            Err(error) => {
                tracing::warn!(task.id = %task, verification = n, %error, "verification failed");
                Err(error)
            }
        };
        if !self.store.end_verification(task, n, outcome).await? {
            return Ok(());
        }
        if result.is_ok_and(|verdict| verdict == Verdict::Different)
            && let Some(found) = self.store.verification(task, n).await?
            && found.wanted.repair == Repair::Differences
            && let Err(refusal) = self.repair(&task.0, n, Duration::ZERO, false).await
        {
            tracing::warn!(task.id = %task, verification = n, ?refusal, "the repair that was asked for with the verification is not possible");
        }
        Ok(())
    }

    pub async fn verification(&self, task: &TaskRow, n: i64) -> Answer<VerificationRow> {
        self.store
            .verification(&task.id, n)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("task {} has no verification {n}", task.name())))
    }

    async fn await_verification(&self, task: &TaskRow, n: i64, wait: Duration) -> Answer<VerificationRow> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let row = self.verification(task, n).await?;
            if row.is_over() || tokio::time::Instant::now() >= deadline || self.shutdown.is_cancelled() {
                return Ok(row);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends a verification; one that is over stays as it is, but for repairs that are still to come: they are withdrawn.
    pub async fn cancel_verification(
        &self,
        id_or_name: &str,
        n: i64,
        dry_run: bool,
    ) -> Answer<(TaskRow, VerificationRow)> {
        let task = self.task(id_or_name).await?;
        self.verification(&task, n).await?;
        if !dry_run {
            let cancel = {
                let running = self.verifier.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.get(&(task.id.clone(), n)).cloned()
            };
            if let Some(cancel) = cancel {
                cancel.cancel();
            }
            self.store.end_verification(&task.id, n, Ok(None)).await?;
            self.store.withdraw_repair(&task.id, n).await?;
        }
        let row = self.verification(&task, n).await?;
        Ok((task, row))
    }

    /// Has what differs written again by the task's run, and waits for it, at most `wait`.
    pub async fn repair(
        &self,
        id_or_name: &str,
        n: i64,
        wait: Duration,
        dry_run: bool,
    ) -> Answer<(TaskRow, VerificationRow, RepairPlan)> {
        let task = self.task(id_or_name).await?;
        let found = self.verification(&task, n).await?;
        may_repair(&task)?;
        if !found.is_over() {
            return Err(Refusal::Conflict("the verification is under way: wait for its end".to_owned()));
        }
        let tables = self.store.verified_tables(&task.id, n, u32::MAX).await?;
        let named = self.store.named_differences(&task.id, n).await?;
        let mut plan = RepairPlan::default();
        for table in
            tables.iter().filter(|table| table.verdict.as_deref() == Some(Verdict::Different.as_str()))
        {
            let all = table.found.missing + table.found.surplus + table.found.different;
            let (rows, open) = named.get(&table.name).copied().unwrap_or_default();
            if all == 0 || rows < all || all >= MOST_REPAIRED {
                plan.resync.push(table.name.clone());
            } else {
                plan.rows += open;
            }
        }
        // Whether it is possible, before anything is asked for.
        if !plan.resync.is_empty() {
            self.ask_of_tables(&task.id.0, TableCommand::Resync, &plan.resync, Duration::ZERO, true).await?;
        }
        if !dry_run {
            if plan.rows > 0 {
                self.store.ask_repair(&task.id, n, &plan.resync).await?;
            }
            if !plan.resync.is_empty() {
                self.ask_of_tables(&task.id.0, TableCommand::Resync, &plan.resync, Duration::ZERO, false)
                    .await?;
            }
            if let Some(seen) = self.registry.seen(&task.id) {
                seen.progress.ask();
            }
            let deadline = tokio::time::Instant::now() + wait;
            while tokio::time::Instant::now() < deadline && !self.shutdown.is_cancelled() {
                if self.store.difference_counts(&task.id, n).await?.1 == 0 {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok((self.task(&task.id.0).await?, self.verification(&task, n).await?, plan))
    }
}

fn under_way() -> Refusal {
    Refusal::Conflict("a verification of this task is under way: wait for its end, or cancel it".to_owned())
}

fn may_repair(task: &TaskRow) -> Answer<()> {
    if FOLLOWING.contains(&task.status) && task.spec.phases.incremental {
        return Ok(());
    }
    Err(Refusal::State {
        what: "a repair, which needs a run that follows the stream,".to_owned(),
        status: task.status,
        allowed_from: FOLLOWING,
    })
}

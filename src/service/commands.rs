//! Commands, and waiting for their effect.

use std::time::Duration;

use tokio::sync::watch;

use super::{Answer, Refusal, Service, expect_version};
use crate::model::TaskId;
use crate::observe::measure;
use crate::store::now_ms;
use crate::store::tasks::{Commanded, TaskRow};
use crate::task::status::{Command, Decision, Desired, Status, allowed_from, decide};

/// A task after a command.
#[derive(Debug)]
pub struct Accepted {
    pub task: TaskRow,
    /// The effect is there; else it is on its way.
    pub reached: bool,
    /// False when the command changed nothing.
    pub changed: bool,
}

fn refused(command: Command, task: &TaskRow) -> Refusal {
    Refusal::Transition { command, status: task.status, allowed_from: allowed_from(command) }
}

/// What a command waits for.
fn is_reached(command: Command, status: Status) -> bool {
    match command {
        Command::Start | Command::Resume => matches!(status, Status::Running | Status::Finished),
        Command::Pause => status == Status::Paused,
        Command::Stop => status == Status::Stopped,
        Command::Delete => false,
    }
}

fn wanted(command: Command) -> Desired {
    match command {
        Command::Start | Command::Resume => Desired::Running,
        Command::Pause => Desired::Paused,
        Command::Stop | Command::Delete => Desired::Stopped,
    }
}

impl Service {
    /// Gives a command and waits for its effect, at most `wait`. Start and resume need a spec that is valid now.
    pub async fn command(
        &self,
        id_or_name: &str,
        command: Command,
        wait: Duration,
        dry_run: bool,
    ) -> Answer<Accepted> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let task = self.task(id_or_name).await?;
        let decision = decide(command, task.status, task.desired);
        if decision == Decision::Refused {
            return Err(refused(command, &task));
        }
        if matches!(command, Command::Start | Command::Resume) && decision != Decision::Nothing {
            let faults = self.spec_faults(&task.spec).await?;
            if !faults.is_empty() {
                return Err(Refusal::Invalid(faults));
            }
        }
        if dry_run {
            let changed = decision != Decision::Nothing;
            return Ok(Accepted { reached: is_reached(command, task.status), task, changed });
        }
        // Before the command, or its effect could be missed.
        let mut changes = self.registry.changes();
        let task = match self.store.command(&task.id.0, command, None).await? {
            Commanded::NotFound | Commanded::Deleted => {
                return Err(Refusal::NotFound(format!("there is no task {id_or_name}")));
            }
            Commanded::Refused(task) => return Err(refused(command, &task)),
            Commanded::Done(task) => task,
        };
        tracing::info!(task.id = %task.id, command = command.as_str(), "command");
        self.wake.notify_one();
        let id = task.id.clone();
        let changed = decision != Decision::Nothing;
        if changed {
            // Who waits for an older command is told that it was replaced.
            self.registry.announce();
        }
        let task = *task;
        let reached = is_reached(command, task.status) && task.desired == wanted(command);
        if wait.is_zero() || reached {
            return Ok(Accepted { task, reached, changed });
        }
        let deadline = tokio::time::Instant::now() + wait;
        let (task, reached) = self.reach(command, &id, deadline, &mut changes).await?;
        Ok(Accepted { task, reached, changed })
    }

    /// Waits for the effect of a command that was given, until `deadline`. `changes` are those since before the command.
    pub async fn reach(
        &self,
        command: Command,
        id: &TaskId,
        deadline: tokio::time::Instant,
        changes: &mut watch::Receiver<u64>,
    ) -> Answer<(TaskRow, bool)> {
        loop {
            changes.mark_unchanged();
            let latest = self.task(&id.0).await?;
            if is_reached(command, latest.status) && latest.desired == wanted(command) {
                return Ok((latest, true));
            }
            if latest.desired != wanted(command) {
                let detail = format!("the task is wanted {} now", latest.desired.as_str());
                return Err(Refusal::Superseded { status: latest.status, detail });
            }
            // A failed task that is to be paused or stopped will be.
            if latest.status == Status::Failed && wanted(command) == Desired::Running {
                return Err(Refusal::TaskFailed(Box::new(latest)));
            }
            let over = tokio::select! {
                _ = changes.changed() => false,
                () = tokio::time::sleep_until(deadline) => true,
                () = self.shutdown.cancelled() => true,
            };
            if over {
                return Ok((latest, false));
            }
        }
    }

    /// Until when the source is sure to keep the snapshot of the task's full sync, in milliseconds since the epoch, if it is paused
    /// now. None = it is not in that phase, or that is not known.
    pub async fn snapshot_kept_until(&self, task: &TaskRow) -> Answer<Option<i64>> {
        let checkpoints = self.store.checkpoint_views(&[&task.id]).await?;
        let seen = self.registry.seen(&task.id);
        let progress = seen.as_ref().map(|seen| &*seen.progress);
        let since = measure::stands_since(task).unwrap_or_else(now_ms);
        Ok(checkpoints
            .get(&task.id)
            .and_then(|checkpoint| measure::snapshot_kept_until(task, progress, checkpoint, Some(since))))
    }

    /// Deletes a task with everything that is kept of it; its events stay. The target is not touched.
    /// `if_version`: only if its spec is still this version.
    pub async fn delete_task(&self, id_or_name: &str, if_version: Option<i64>, dry_run: bool) -> Answer<()> {
        let task = self.task(id_or_name).await?;
        expect_version("the spec", if_version, Some(task.spec_version))?;
        if decide(Command::Delete, task.status, task.desired) != Decision::Delete {
            return Err(refused(Command::Delete, &task));
        }
        if dry_run {
            return Ok(());
        }
        match self.store.command(&task.id.0, Command::Delete, None).await? {
            Commanded::Deleted => {
                self.registry.forget(&task.id);
                tracing::info!(task.id = %task.id, "task deleted");
                Ok(())
            }
            Commanded::Refused(task) => Err(refused(Command::Delete, &task)),
            Commanded::NotFound | Commanded::Done(_) => {
                Err(Refusal::NotFound(format!("there is no task {id_or_name}")))
            }
        }
    }
}

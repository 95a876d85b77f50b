//! Dead letters: what an operator decides about row changes that were set aside.

use std::time::Duration;

use super::{Answer, Refusal, Service};
use crate::store::tasks::TaskRow;
use crate::store::{LetterRow, Which};
use crate::task::fault::Fault;
use crate::task::status::Status;

/// Time between two looks at whether the effect is reached.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterDecision {
    Retry,
    Discard,
}

/// Letters after a decision.
#[derive(Debug)]
pub struct LettersDecided {
    pub task: TaskRow,
    /// As they are now: the first 500 of them.
    pub letters: Vec<LetterRow>,
    pub count: usize,
    /// The effect is there.
    pub reached: bool,
}

impl Service {
    /// Retries or discards open letters and waits for the effect, at most `wait`. A retry is done by the task's own run, in its
    /// place among the changes of the stream: one that stands still does it when it goes on.
    pub async fn decide_letters(
        &self,
        id_or_name: &str,
        which: &Which,
        decision: LetterDecision,
        wait: Duration,
        dry_run: bool,
    ) -> Answer<LettersDecided> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let task = self.task(id_or_name).await?;
        let runs = [Status::Running, Status::Pausing, Status::Paused, Status::Failed];
        if decision == LetterDecision::Retry && !(runs.contains(&task.status) && task.spec.phases.incremental)
        {
            return Err(Refusal::State {
                what: "retrying a dead letter, which needs a run that follows the stream,".to_owned(),
                status: task.status,
                allowed_from: &[Status::Running, Status::Pausing, Status::Paused, Status::Failed],
            });
        }
        let numbers = self.store.open_numbers(&task.id, which).await?;
        if let Which::Numbers(wanted) = which {
            self.all_open(&task, wanted, &numbers).await?;
        }
        if decision == LetterDecision::Retry {
            for letter in self.letters(&task, &numbers).await? {
                if let Some(why) = &letter.blocked {
                    let detail = format!("dead letter {} cannot be retried: {why}", letter.n);
                    return Err(Refusal::Tables { detail, status: task.status });
                }
            }
        }
        let discard = decision == LetterDecision::Discard;
        if !dry_run && !numbers.is_empty() {
            self.store.decide_letters(&task.id, &numbers, discard, None).await?;
            if let Some(seen) = self.registry.seen(&task.id) {
                seen.progress.ask();
            }
        }
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let letters = self.letters(&task, &numbers).await?;
            let reached = letters.iter().all(|letter| !letter.asked);
            let over = wait.is_zero() || dry_run || reached || tokio::time::Instant::now() >= deadline;
            let now = self.task(&task.id.0).await?;
            if over || self.shutdown.is_cancelled() {
                return Ok(LettersDecided { task: now, letters, count: numbers.len(), reached });
            }
            if now.status == Status::Failed && task.status != Status::Failed {
                return Err(Refusal::TaskFailed(Box::new(now)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn letters(&self, task: &TaskRow, numbers: &[i64]) -> Answer<Vec<LetterRow>> {
        let mut found = Vec::new();
        for n in numbers.iter().take(500) {
            found.extend(self.store.letter(&task.id, *n).await?);
        }
        Ok(found)
    }

    async fn all_open(&self, task: &TaskRow, wanted: &[i64], open: &[i64]) -> Answer<()> {
        let mut faults = Vec::new();
        for (at, n) in wanted.iter().enumerate().filter(|(_, n)| !open.contains(n)) {
            let detail = match self.store.letter(&task.id, *n).await? {
                None => format!("the task has no dead letter {n}"),
                Some(letter) => format!("dead letter {n} is {} already", letter.state),
            };
            faults.push(Fault::new(format!("/numbers/{at}"), "not_open", detail));
        }
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
    }
}

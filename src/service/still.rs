//! Tasks that stand still: what an operator may do to them beyond resuming, and when.

use super::{Answer, Refusal, Service};
use crate::store::tasks::TaskRow;
use crate::task::status::{Desired, Status};

/// Where a task may be moved, and where its DDL and dead letters may be decided by hand.
pub const STANDS: &[Status] = &[Status::Paused, Status::Failed];

impl Service {
    /// The task, when it stands in one of these states and nothing else is wanted of it.
    ///
    /// # Errors
    /// What the state forbids, with the states that would do.
    pub async fn standing_task(
        &self,
        id_or_name: &str,
        what: &str,
        from: &'static [Status],
    ) -> Answer<TaskRow> {
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let task = self.task(id_or_name).await?;
        let on_its_way = match task.status {
            Status::Paused => task.desired != Desired::Paused,
            Status::Failed => task.desired == Desired::Stopped,
            Status::Created => task.desired != Desired::None,
            _ => false,
        };
        if !from.contains(&task.status) || on_its_way {
            return Err(Refusal::State { what: what.to_owned(), status: task.status, allowed_from: from });
        }
        Ok(task)
    }
}

//! Throttles of tasks and connections: in force as soon as they are kept.

use super::specs::Changed;
use super::{Answer, Refusal, Service, changed_meanwhile, expect_version};
use crate::engine::registry::Throttled;
use crate::store::connections::ConnectionRow;
use crate::store::tasks::TaskRow;
use crate::task::fault::Fault;
use crate::task::spec::{Spec, Throttle};

impl Service {
    /// Sets a task's throttle, which is a part of its spec.
    pub async fn put_task_throttle(
        &self,
        task: TaskRow,
        throttle: Throttle,
        if_version: Option<i64>,
        dry_run: bool,
    ) -> Answer<Changed> {
        let spec = Spec { throttle, ..task.spec.clone() };
        self.put_spec(task, spec, if_version, dry_run).await
    }

    /// Sets what all tasks that use a connection have to pass together.
    pub async fn put_connection_throttle(
        &self,
        name: &str,
        throttle: Throttle,
        if_version: Option<i64>,
        dry_run: bool,
    ) -> Answer<ConnectionRow> {
        let row = self.connection(name).await?;
        let what = format!("connection {name}");
        expect_version(&what, if_version, Some(row.version))?;
        let faults = unfit(row.settings.kind(), &throttle);
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        if row.throttle == throttle {
            return Ok(row);
        }
        if dry_run {
            return Ok(ConnectionRow { throttle, version: row.version + 1, ..row });
        }
        let kept = self.store.put_connection_throttle(name, &throttle, row.version).await?;
        let row = kept.ok_or_else(|| changed_meanwhile(&what))?;
        // In force with the answer.
        self.registry.limiter(Throttled::Connection(name.to_owned()), throttle);
        self.wake.notify_one();
        Ok(row)
    }
}

/// The source is read by full sync alone, Kafka by incremental sync alone; statements go to the target.
fn unfit(kind: &str, throttle: &Throttle) -> Vec<Fault> {
    let (no_full, no_incremental) = (kind == "kafka", kind == "tidb");
    let mut faults = Vec::new();
    let mut refuse = |is_set: bool, field: &str, why: &str| {
        if is_set {
            faults.push(Fault::new(format!("/{field}"), "invalid", why));
        }
    };
    let why = "full sync does not pass a kafka connection";
    refuse(no_full && throttle.full_rows_per_second.is_some(), "full_rows_per_second", why);
    refuse(no_full && throttle.full_bytes_per_second.is_some(), "full_bytes_per_second", why);
    let why = "incremental sync does not pass a tidb connection";
    refuse(
        no_incremental && throttle.incremental_rows_per_second.is_some(),
        "incremental_rows_per_second",
        why,
    );
    refuse(
        no_incremental && throttle.incremental_bytes_per_second.is_some(),
        "incremental_bytes_per_second",
        why,
    );
    let why = "statements at one time are limited on the target's connection, or on the task";
    refuse((no_full || no_incremental) && throttle.connections.is_some(), "connections", why);
    faults
}

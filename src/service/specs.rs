//! Specs: judged in full before they are kept.

use serde_json::Value;

use super::objects::TableTurn;
use super::{Answer, Refusal, Service, changed_meanwhile, expect_version};
use crate::engine::registry::Throttled;
use crate::error::Result;
use crate::model::Dialect;
use crate::store::tasks::TaskRow;
use crate::task::change::{Effect, differences, judge, retyped};
use crate::task::fault::Fault;
use crate::task::selection::canonicalize;
use crate::task::spec::{Merge, Spec};
use crate::task::status::Status;
use crate::task::validate::{validate, validate_for_target};

/// A spec as it was kept, and what the change does.
#[derive(Debug)]
pub struct Changed {
    pub task: TaskRow,
    pub effects: Vec<Effect>,
    /// What it does to single tables of a task that has begun.
    pub tables: Vec<TableTurn>,
}

impl Service {
    /// All faults of a spec: of its meaning, and of the connections it names.
    pub async fn spec_faults(&self, spec: &Spec) -> Result<Vec<Fault>> {
        let mut faults = validate(spec);
        let places = [
            (spec.source.tidb.as_deref(), "/source/tidb", ["tidb", "tidb"]),
            (spec.source.kafka.as_deref(), "/source/kafka", ["kafka", "kafka"]),
            (Some(spec.target.as_str()), "/target", ["adb", "mysql"]),
        ];
        for (name, pointer, kinds) in places {
            let Some(name) = name else { continue };
            match self.store.connection(name).await? {
                None => {
                    let detail = format!("there is no connection \"{name}\": create it first");
                    faults.push(Fault::new(pointer, "not_found", detail));
                }
                Some(row) if !kinds.contains(&row.settings.kind()) => {
                    let wanted = if kinds[0] == kinds[1] { kinds[0].to_owned() } else { kinds.join(" or ") };
                    let detail = format!(
                        "connection \"{name}\" is of kind {}; {wanted} is needed here",
                        row.settings.kind()
                    );
                    faults.push(Fault::new(pointer, "wrong_kind", detail));
                }
                Some(row) => {
                    if pointer == "/target" {
                        let adb = row.settings.dialect() == Some(Dialect::Adb);
                        faults.extend(validate_for_target(spec, adb));
                    }
                }
            }
        }
        Ok(faults)
    }

    /// Replaces a task's spec. `if_version`: only if it is still this version. With `dry_run` nothing is kept.
    pub async fn put_spec(
        &self,
        task: TaskRow,
        mut spec: Spec,
        if_version: Option<i64>,
        dry_run: bool,
    ) -> Answer<Changed> {
        expect_version("the spec", if_version, Some(task.spec_version))?;
        canonicalize(&mut spec);
        let fields = differences(&to_value(&task.spec)?, &to_value(&spec)?);
        if fields.is_empty() {
            return Ok(Changed { task, effects: Vec::new(), tables: Vec::new() });
        }
        let effects =
            judge(&fields, task.status).map_err(|faults| Refusal::Locked { faults, status: task.status })?;
        let retyped = retyped(&task.spec.lossy, &spec.lossy);
        if task.status != Status::Created && !retyped.is_empty() {
            return Err(Refusal::Locked { faults: retyped, status: task.status });
        }
        if spec.name != task.spec.name
            && task.status != Status::Created
            && task.spec.merge.as_ref().is_some_and(Merge::names_task)
        {
            let detail = "the rows on the target hold this name: merge.value has {task}";
            let faults = vec![Fault::new("/name", "locked", detail)];
            return Err(Refusal::Locked { faults, status: task.status });
        }
        if spec.name != task.spec.name && self.store.task(&spec.name).await?.is_some() {
            return Err(Refusal::NameTaken(format!("another task is called {}", spec.name)));
        }
        let begun = !matches!(task.status, Status::Created | Status::Stopped | Status::Finished);
        let tables = match begun && fields.iter().any(|field| field.starts_with("/objects")) {
            true => self.table_turns(&task, &spec).await?,
            false => Vec::new(),
        };
        if dry_run {
            return Ok(Changed {
                task: TaskRow { spec, spec_version: task.spec_version + 1, ..task },
                effects,
                tables,
            });
        }
        match self.store.update_spec(&task, &spec, &fields).await? {
            Some(task) => {
                // In force with the answer; the rest is for the supervisor to hand to a worker that runs.
                self.registry.limiter(Throttled::Task(task.id.clone()), task.spec.throttle);
                self.wake.notify_one();
                Ok(Changed { task, effects, tables })
            }
            None => Err(changed_meanwhile("the task")),
        }
    }
}

fn to_value(spec: &Spec) -> Answer<Value> {
    serde_json::to_value(spec).map_err(|error| Refusal::Internal(crate::error::Error::internal(error)))
}

//! Looks now and then whether the target's tables are still as the task needs them: somebody may change them behind its back, and
//! the stream would meet that only at the row that no longer fits.
//!
//! What is compared changes with every DDL of the stream. So a difference counts only when it is there twice, each time against a
//! catalog that did not change meanwhile. A look that fails says nothing: reading and writing notice an outage themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::worker::WorkerContext;
use crate::adb;
use crate::adb::dialect::Problem;
use crate::crash;
use crate::error::Result;
use crate::incremental::catalog::Catalog;
use crate::model::TableName;
use crate::schema_sync::{self, Wanted};
use crate::task::selection::Selection;

/// From the begin of incremental sync to the first look.
const FIRST: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_secs(600);
/// For tests.
const PAUSE: &str = "TIDEGATE_DRIFT_MS";
/// From a look that found something to the one that has to find it again.
const AGAIN: Duration = Duration::from_secs(3);

/// Looks until cancelled; what is found is in the run's progress.
pub async fn watch(context: WorkerContext, bytewise: bool, cancel: CancellationToken) {
    let mut pause = FIRST;
    while cancel.run_until_cancelled(tokio::time::sleep(crash::pause(PAUSE, pause))).await.is_some() {
        pause = EVERY;
        // In memory only while it looks.
        match cancel.run_until_cancelled(Box::pin(confirmed(&context, bytewise))).await {
            None => return,
            Some(Ok(found)) => {
                for problem in &found {
                    tracing::warn!(task.id = %context.task, object = problem.object, "the target's table has changed: {}", problem.detail);
                }
                context.progress.set_drift(found);
            }
            Some(Err(error)) => {
                tracing::debug!(task.id = %context.task, %error, "the target's tables could not be compared")
            }
        }
    }
}

/// What is found twice.
async fn confirmed(context: &WorkerContext, bytewise: bool) -> Result<Vec<Problem>> {
    let mut found = look(context, bytewise).await?;
    if !found.is_empty() {
        tokio::time::sleep(crash::pause(PAUSE, AGAIN)).await;
        let again = look(context, bytewise).await?;
        found.retain(|problem| again.contains(problem));
    }
    Ok(found)
}

async fn look(context: &WorkerContext, bytewise: bool) -> Result<Vec<Problem>> {
    let spec = Arc::clone(&context.settings.borrow().spec);
    let Ok(selection) = Selection::new(&spec) else { return Ok(Vec::new()) };
    let mut session = adb::connect(&context.target, context.dialect).await?;
    let collations = schema_sync::collations(&mut session, context.dialect).await?;
    let (schemas, versions) = context.store.catalog(&context.task).await?;
    let mut catalog = Catalog::new(spec, Arc::new(selection), context.dialect, collations).bytewise(bytewise);
    catalog.load(schemas, versions.clone())?;
    let wanted = catalog.wanted();
    let names: BTreeSet<TableName> = wanted.iter().map(|wanted| wanted.target.clone()).collect();
    let names: Vec<TableName> = names.into_iter().collect();
    let mut state = schema_sync::introspect(&mut session, context.dialect, &names).await?;
    session.close().await;
    let (_, now) = context.store.catalog(&context.task).await?;
    if now != versions {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for Wanted { source, target, table, .. } in &wanted {
        let Ok(table) = table else { continue };
        let keep = catalog.table(source).is_some_and(|entry| entry.keep_other_columns);
        match schema_sync::refusals(table, &mut state, keep) {
            Some(refusals) => found.extend(refusals),
            None => found.push(Problem::refuse(
                target,
                "is no longer on the target",
                format!("bring it back, or let the task copy {source} again: POST .../tables/resync"),
            )),
        }
    }
    Ok(found)
}

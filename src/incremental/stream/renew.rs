//! Newer settings in a stream that runs: taken up between two batches, when everything read is in the target.

use std::sync::Arc;

use super::{Stream, batch_bytes};
use crate::binlog::ChangeSource;
use crate::crash;
use crate::error::{Error, Result};
use crate::incremental::objects;
use crate::task::selection::Selection;
use crate::task::spec::Objects;

impl<S: ChangeSource> Stream<S> {
    /// Brings the catalog in step with the spec that this run began with.
    pub(super) async fn begin_objects(&mut self) -> Result<()> {
        let (store, task) = (&self.context.store, &self.context.task);
        match store.taken_objects(task).await? {
            Some(taken) if taken != self.context.spec.objects => self.take_objects(&taken).await?,
            Some(_) => {}
            None => {
                store.take_objects(task, self.context.epoch, &self.context.spec.objects, &[], &[]).await?;
            }
        }
        self.context.applied().await
    }

    /// Takes newer settings up; nothing is in flight. False when they need a run of their own from the checkpoint on.
    pub(super) async fn renew(&mut self) -> Result<bool> {
        let Some(newer) = self.context.newer() else { return Ok(true) };
        let before = self.context.works_with();
        if before.moves_to(&newer) {
            return Ok(false);
        }
        let selection = Selection::new(&newer.spec)
            .map_err(|faults| Error::internal(format!("a kept spec does not compile: {faults:?}")))?;
        self.context.take(newer);
        let spec = Arc::clone(&self.context.spec);
        self.catalog.set_rules(Arc::clone(&spec), Arc::new(selection));
        self.catalog_changed();
        self.batch_bytes = batch_bytes(&spec);
        if spec.objects != before.spec.objects {
            self.take_objects(&before.spec.objects).await?;
        }
        let connections = spec.tuning.connections.max(1) as usize;
        if let Some(writer) = self.writers.pop_if(|writer| writer.connections() != connections) {
            let writer = writer.with_connections(spec.tuning.connections).await;
            self.writers = vec![writer.another(), writer];
        }
        self.context.applied().await?;
        tracing::info!(task.id = %self.context.task, spec_version = self.context.spec_version, "new settings taken up");
        Ok(true)
    }

    async fn take_objects(&mut self, taken: &Objects) -> Result<()> {
        // All DDL up to there is in the catalog.
        let at = self.read.commit_ts.max(self.watermark());
        let change = objects::change(self.context.source.as_ref(), &self.catalog, taken, at).await?;
        let (schemas, versions) = change.stored(self.read.commit_ts)?;
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        crash::point("objects.before");
        store.take_objects(task, epoch, &self.context.spec.objects, &schemas, &versions).await?;
        crash::point("objects.saved");
        self.catalog.apply(&change);
        self.catalog_changed();
        self.touched(&change);
        for entry in change.tables() {
            self.forget_tries(&entry.table.name);
        }
        self.event("objects", "the task's tables have changed", objects::words(&change)).await
    }
}

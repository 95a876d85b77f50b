//! Makes the applied position durable: the marker on the target first, then the store.
//!
//! Between batches this happens beside the loop ([`Stream::save_beside`]): a round trip to the target and a durable commit are no
//! reason to keep rows waiting. Whoever moves the position in another way waits for it first ([`Stream::settle`]).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Stream;
use crate::binlog::ChangeSource;
use crate::crash;
use crate::error::{Error, Result};
use crate::incremental::marker::Marker;
use crate::model::{LossyCounts, Position, TableName, Tso};

/// A checkpoint is saved at most this often; a crash repeats that much work.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// A position on its way into the store.
#[derive(Debug)]
pub(super) struct Saving(JoinHandle<Saved>);

#[derive(Debug)]
pub(super) struct Saved {
    marker: Option<Marker>,
    position: Position,
    watermark: Tso,
    /// Given back when it did not get into the store.
    lossy: HashMap<TableName, LossyCounts>,
    result: Result<()>,
}

/// The save under way, or never.
pub(super) async fn saved(saving: &mut Option<Saving>) -> Result<Saved> {
    match saving {
        Some(Saving(handle)) => {
            handle.await.map_err(|error| Error::internal(format!("saving the position ended: {error}")))
        }
        None => std::future::pending().await,
    }
}

impl<S: ChangeSource> Stream<S> {
    /// An idle task saves its watermark about once a minute.
    pub(super) fn nothing_to_save(&self) -> bool {
        self.applied.next_offset == self.saved.next_offset
            && self.lossy.is_empty()
            && self.letters.is_saved()
            && self.watermark().physical_ms() - self.saved_watermark.physical_ms() < 60_000
    }

    /// Begins to save the applied position, unless that is under way.
    pub(super) async fn save_beside(&mut self) -> Result<()> {
        if self.saving.is_some() || self.saved_at.elapsed() < CHECKPOINT_EVERY || self.nothing_to_save() {
            return Ok(());
        }
        if !self.letters.is_saved() {
            return self.save().await;
        }
        let context = self.context.clone();
        let (from, position, watermark) = (self.saved, self.applied, self.watermark());
        let unmarked = std::mem::take(&mut self.unmarked);
        if unmarked {
            self.target_used = Some(Instant::now());
        }
        let mut marker = self.marker.take();
        let lossy = std::mem::take(&mut self.lossy);
        self.saving = Some(Saving(tokio::spawn(async move {
            let result = async {
                if let Some(marker) = marker.as_mut().filter(|_| unmarked) {
                    marker.set(&context, position).await?;
                }
                let mark = marker.as_ref().and_then(Marker::owed);
                crash::point("checkpoint.before");
                let moved = (from, position, watermark);
                let (store, task) = (&context.store, &context.task);
                store.advance_with(task, context.epoch, moved, &lossy, (&[], &[]), mark).await?;
                if let Some(marker) = &mut marker {
                    marker.kept();
                }
                crash::point("checkpoint.saved");
                Ok(())
            };
            let result = result.await;
            Saved { marker, position, watermark, lossy, result }
        })));
        Ok(())
    }

    /// A save has come to its end.
    pub(super) async fn is_saved(&mut self, saved: Result<Saved>) -> Result<()> {
        self.saving = None;
        let saved = saved?;
        self.marker = saved.marker;
        if let Err(error) = saved.result {
            self.unmarked = true;
            for (table, counts) in &saved.lossy {
                self.lossy.entry(table.clone()).or_default().merge(counts);
            }
            return Err(error);
        }
        self.moved(saved.position, saved.watermark);
        self.recovered().await
    }

    /// Waits for the save under way.
    pub(in crate::incremental) async fn settle(&mut self) -> Result<()> {
        if self.saving.is_none() {
            return Ok(());
        }
        let saved = saved(&mut self.saving).await;
        self.is_saved(saved).await
    }

    /// Makes the applied position durable.
    pub(in crate::incremental) async fn save(&mut self) -> Result<()> {
        self.settle().await?;
        if self.nothing_to_save() {
            return Ok(());
        }
        let watermark = self.watermark();
        if self.unmarked {
            self.mark(self.applied).await?;
        }
        let mark = self.marker.as_ref().and_then(Marker::owed);
        let (store, task, epoch) = (&self.context.store, &self.context.task, self.context.epoch);
        let letters = (self.letters.new.as_slice(), self.letters.superseded.as_slice());
        crash::point("checkpoint.before");
        let moved = (self.saved, self.applied, watermark);
        store.advance_with(task, epoch, moved, &self.lossy, letters, mark).await?;
        if let Some(marker) = &mut self.marker {
            marker.kept();
        }
        crash::point("checkpoint.saved");
        self.lossy.clear();
        self.letters.superseded.clear();
        if !std::mem::take(&mut self.letters.new).is_empty() {
            self.load_letters().await?;
        }
        self.moved(self.applied, watermark);
        self.recovered().await
    }

    /// Sets the marker: everything before the position is in the target.
    async fn mark(&mut self, position: Position) -> Result<()> {
        self.target_used = Some(Instant::now());
        let Some(marker) = &mut self.marker else { return Ok(()) };
        marker.set(&self.context, position).await?;
        self.unmarked = false;
        Ok(())
    }

    /// What a DDL or a swap has done to the target is marked before the store knows of it.
    pub(in crate::incremental) async fn mark_change(&mut self, position: Position) -> Result<()> {
        self.settle().await?;
        self.mark(position).await?;
        match &mut self.marker {
            Some(marker) => marker.keep(&self.context).await,
            None => Ok(()),
        }
    }

    /// The same for rows that no checkpoint has passed yet, before one moves past them with something else.
    pub(in crate::incremental) async fn mark_rows(&mut self) -> Result<()> {
        if self.unmarked { self.mark_change(self.applied).await } else { self.settle().await }
    }

    /// Retries are over once there is progress, or nothing to do; not with a mere login.
    pub(super) async fn recovered(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.recovered, true) {
            self.context.recovered().await?;
        }
        Ok(())
    }

    /// The store has the position.
    pub(in crate::incremental) fn moved(&mut self, position: Position, watermark: Tso) {
        self.saved = position;
        self.saved_watermark = watermark;
        self.saved_at = Instant::now();
    }
}

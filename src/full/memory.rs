//! The memory that statements under way may take, in bytes, and their buffers for reuse.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// One permit stands for this many bytes.
const UNIT: usize = 1024;
/// A buffer that grew beyond this is not kept.
const LARGEST_BUFFER: usize = 32 * 1024 * 1024;

#[derive(Debug)]
pub struct Memory {
    permits: Arc<Semaphore>,
    total: usize,
    buffers: Mutex<Vec<Vec<u8>>>,
    keep: usize,
}

impl Memory {
    /// `keep`: buffers to keep for reuse.
    pub fn new(bytes: u64, keep: usize) -> Self {
        let total = (usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT)
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { permits: Arc::new(Semaphore::new(total)), total, buffers: Mutex::default(), keep }
    }

    /// Waits until so many bytes are free. A statement larger than all memory takes all of it.
    pub async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT).min(self.total)).map_err(Error::internal)?;
        Arc::clone(&self.permits).acquire_many_owned(units).await.map_err(Error::internal)
    }

    /// Bytes that are taken now.
    pub fn in_use(&self) -> u64 {
        (self.total.saturating_sub(self.permits.available_permits()) * UNIT) as u64
    }

    /// A used buffer.
    pub fn buffer(&self) -> Option<Vec<u8>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < self.keep && buffer.capacity() <= LARGEST_BUFFER {
            buffers.push(buffer);
        }
    }
}

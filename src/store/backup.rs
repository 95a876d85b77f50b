//! Copies of the store: taken while it is in use, put back while no server runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::{FILE, Store};
use crate::error::{Endpoint, Error, ErrorKind, Result};

/// Begin of the names of copies that are being made.
const MAKING: &str = "copy-in-the-making-";

fn refused(file: &Path, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message).object(format!("file {}", file.display()))
}

fn store_fault(file: &Path, error: impl std::fmt::Display) -> Error {
    Error::internal(error)
        .endpoint(Endpoint::Store)
        .object(format!("file {}", file.display()))
        .hint("check free space and permissions of the data folder")
}

impl Store {
    /// Everything as of one moment, as a store of its own. The file has no name any more: it goes when it is closed.
    ///
    /// # Errors
    /// `Internal` when the data folder has no room for a second store.
    pub async fn copy(&self) -> Result<File> {
        let path = self.folder.join(format!("{MAKING}{}", ulid::Ulid::new()));
        let text = path.to_str().ok_or_else(|| store_fault(&path, "the folder's name is not UTF-8"))?;
        let made = sqlx::query("vacuum into ?").bind(text).execute(&self.reader).await;
        let file = made
            .map_err(Error::from)
            .and_then(|_| File::open(&path).map_err(|error| store_fault(&path, error)));
        // Also half of one.
        match fs::remove_file(&path) {
            Err(error) if file.is_ok() => Err(store_fault(&path, error)),
            _ => file,
        }
    }

    /// Copies that a killed process left half-made.
    pub(super) fn clear_unfinished_copies(folder: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(MAKING)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Looks at a copy before it is put back: it must be whole, and of no newer version than this one. Gives the value `key` of it.
///
/// # Errors
/// `Configuration` that says what is wrong with the file.
pub async fn inspect(file: &Path, key: &str) -> Result<Option<Vec<u8>>> {
    let unreadable = |error: Error| refused(file, format!("is no copy of a store: {}", error.message));
    let store = Store::inspect(file).await.map_err(unreadable)?;
    let found =
        async { Ok((store.integrity().await?, store.pending_migrations().await?, store.meta(key).await?)) };
    let found = found.await.map_err(unreadable);
    store.close().await;
    let (faults, pending, value) = found?;
    if let Some(fault) = faults.first() {
        return Err(refused(file, format!("is damaged: {fault}")));
    }
    if pending < 0 {
        return Err(
            refused(file, "was made by a newer version of tidegate").hint("put it back with that version")
        );
    }
    Ok(value)
}

/// Puts a copy in the place of the folder's store, which stays beside it under the name that is given back. Whoever calls holds the
/// folder's lock. At every moment one of the two is in place.
pub async fn put_back(folder: &Path, copy: &Path) -> Result<Option<PathBuf>> {
    let place = folder.join(FILE);
    let making = folder.join(format!("{MAKING}{}", ulid::Ulid::new()));
    let fault = |error: std::io::Error| store_fault(&making, error);
    fs::copy(copy, &making).map_err(fault)?;
    File::open(&making).and_then(|file| file.sync_all()).map_err(fault)?;
    let beside = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let old = if place.exists() {
        // Its write-ahead log goes into it; a damaged store may refuse, and keeps its log beside it.
        let options = SqliteConnectOptions::new().filename(&place);
        if let Ok(pool) = SqlitePool::connect_with(options).await {
            let done = sqlx::query("pragma wal_checkpoint(truncate)").execute(&pool).await;
            pool.close().await;
            if let Err(error) = done {
                tracing::warn!(%error, "the replaced store's log stays beside it");
            }
        }
        let old = folder.join(format!("{FILE}.replaced-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ")));
        fs::hard_link(&place, &old).map_err(fault)?;
        for end in ["-wal", "-shm"] {
            match fs::rename(beside(&place, end), beside(&old, end)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
                _ => {}
            }
        }
        Some(old)
    } else {
        None
    };
    fs::rename(&making, &place).map_err(fault)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fault)?;
    Ok(old)
}

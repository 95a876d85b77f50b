//! The composition root: data folder, store, supervisor, router, and their ordered end.

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DataFolder};
use crate::crypto::Keyring;
use crate::engine::registry::Registry;
use crate::engine::resting::Resting;
use crate::engine::supervisor::{Runner, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::housekeeping::{self, Retention};
use crate::listen::{Certificate, Listener};
use crate::observe::Observer;
use crate::observe::lines::LineWriter;
use crate::observe::notify::Notifier;
use crate::service::Service;
use crate::service::tokens::{Access, bootstrap};
use crate::store::{self, Store};
use crate::{api, telemetry};

/// Requests in flight get this long when the process stops.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);
/// A look at the tasks, or the last log lines, may take so long when the process stops.
const WATCHER_PATIENCE: Duration = Duration::from_secs(1);
/// Key in the store's `meta` of what tells the right key from a wrong one.
pub const KEY_CHECK: &str = "key_check";

/// A running server.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    service: Service,
    supervisor: JoinHandle<()>,
    observer: Arc<Observer>,
    /// What looks at tasks and tells of them: each ends when it is told to, and may end before.
    watchers: Vec<JoinHandle<()>>,
    end_watchers: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    close_http: CancellationToken,
    /// Held for as long as the server runs.
    _lock: File,
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

impl App {
    /// Opens the data folder and begins to serve; tasks that were running go on.
    ///
    /// # Errors
    /// `Configuration` with the cure when the folder is in use, the key does not fit, or the address is refused.
    pub async fn start(config: &Config, runner: Runner) -> Result<Self> {
        telemetry::recorder();
        // One provider for everybody; a second call, as in tests, changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lock = lock(&config.data_dir)?;
        let store = Store::open(&config.data_dir.join(store::FILE)).await?;
        store.free_unanswered_keys().await?;
        let keyring = Arc::new(keyring(config, &store).await?);
        let access = access(config, &store).await?;
        let certificate = match (&config.access.tls_cert, &config.access.tls_key) {
            (Some(cert), Some(key)) => Some(Certificate::load(cert, key)?),
            _ => None,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            configuration(format!("cannot listen on {}: {error}", config.listen))
                .hint("another process may use the port: choose another one with --listen")
        })?;
        let address = listener.local_addr().map_err(Error::internal)?;

        let listener = match &certificate {
            Some(certificate) => Listener::tls(listener, Arc::clone(certificate))?,
            None => Listener::plain(listener),
        };

        let service = Service {
            store,
            access: Arc::new(access),
            events: Arc::default(),
            verifier: Arc::default(),
            keyring,
            registry: Arc::new(Registry::default()),
            wake: Arc::new(Notify::new()),
            shutdown: CancellationToken::new(),
            supervisor_alive: Arc::new(AtomicBool::new(true)),
            started: Instant::now(),
            told: Arc::new(Notify::new()),
        };
        // Before the first task runs: it keeps its lines.
        let lines = LineWriter::new(service.store.clone());
        let observer = Arc::new(Observer::new(
            service.store.clone(),
            Arc::clone(&service.registry),
            Arc::clone(&service.told),
        ));
        let notifier =
            Notifier::new(service.store.clone(), Arc::clone(&service.keyring), Arc::clone(&service.told))?;
        let end_watchers = CancellationToken::new();
        let looking = Arc::clone(&observer);
        let resting = Resting {
            store: service.store.clone(),
            keyring: Arc::clone(&service.keyring),
            registry: Arc::clone(&service.registry),
        };
        let watchers = vec![
            tokio::spawn(resting.run(end_watchers.clone())),
            tokio::spawn(async move { looking.run().await }),
            tokio::spawn(notifier.run(end_watchers.clone())),
            tokio::spawn(lines.run(end_watchers.clone())),
        ];
        let supervisor = Supervisor::new(
            service.store.clone(),
            Arc::clone(&service.keyring),
            Arc::clone(&service.registry),
            Arc::clone(&service.wake),
            runner,
        );
        let patience = Duration::from_millis(config.shutdown_ms);
        let supervisor = tokio::spawn(supervisor.run(service.shutdown.clone(), patience));
        let (tail, tail_store, stop) =
            (Arc::clone(&service.events), service.store.clone(), service.shutdown.clone());
        tokio::spawn(async move { tail.follow(&tail_store, stop).await });
        let retention = Retention { event_days: config.event_days, event_rows: config.event_rows };
        tokio::spawn(housekeeping::run(service.store.clone(), retention, service.shutdown.clone()));
        service.resume_verifications().await?;
        let close_http = CancellationToken::new();
        let doors = api::Doors {
            hosts: config.access.allowed_hosts.clone(),
            origins: config.access.cors_origins.clone(),
        };
        let router = api::router(service.clone(), doors);
        let server = axum::serve(listener, router.into_make_service_with_connect_info::<api::Peer>());
        let server = server.with_graceful_shutdown(close_http.clone().cancelled_owned());
        let http = tokio::spawn(async move { server.await });
        let tls = certificate.is_some();
        if let Some(certificate) = certificate {
            let stop = service.shutdown.clone();
            tokio::spawn(async move { stop.run_until_cancelled(certificate.follow()).await });
        }
        tracing::info!(%address, tls, data_dir = %config.data_dir.display(), "serving");
        Ok(Self {
            address,
            service,
            supervisor,
            observer,
            watchers,
            end_watchers,
            http,
            close_http,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What looks at the tasks.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Serves until `stop`, then ends in order. An error when a part ended by itself.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let broken = tokio::select! {
            () = stop => None,
            ended = &mut self.supervisor => Some(format!("the supervisor ended: {ended:?}")),
            ended = &mut self.http => Some(format!("the HTTP server ended: {ended:?}")),
        };
        if let Some(cause) = &broken {
            self.service.supervisor_alive.store(false, Ordering::Relaxed);
            tracing::error!(cause, "a part of the server ended; stopping");
        }
        self.stop().await;
        broken.map_or(Ok(()), |cause| Err(Error::internal(cause)))
    }

    /// Commands are refused, workers finish what is in flight, HTTP closes, the store closes.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.service.shutdown.cancel();
        if !self.supervisor.is_finished() {
            let _ = (&mut self.supervisor).await;
        }
        self.service.supervisor_alive.store(false, Ordering::Relaxed);
        self.observer.end();
        self.end_watchers.cancel();
        for watcher in self.watchers {
            if tokio::time::timeout(WATCHER_PATIENCE, watcher).await.is_err() {
                tracing::warn!("what looks at tasks did not end in time");
            }
        }
        self.close_http.cancel();
        if !self.http.is_finished() && tokio::time::timeout(HTTP_PATIENCE, &mut self.http).await.is_err() {
            tracing::warn!("requests in flight were cut off");
            self.http.abort();
        }
        self.service.store.close().await;
        tracing::info!("stopped");
    }
}

/// The tokens of the store, with the first one where it is asked for. Without any the address must be this machine's own.
async fn access(config: &Config, store: &Store) -> Result<Access> {
    if let Some(file) = &config.access.bootstrap_token_file {
        bootstrap(store, file).await?;
    }
    let access = Access::default();
    access.load(store).await?;
    if config.listen.ip().is_loopback() {
        return Ok(access);
    }
    if access.is_open() {
        return Err(configuration(format!("{} is not a loopback address, and there is no token yet", config.listen))
            .hint(
                "give the first one with --bootstrap-token-file (`openssl rand -hex 32 > token` makes such a file), or start once with \
                 --listen 127.0.0.1:8320 and create it there with `tidegate token create NAME --role admin`",
            ));
    }
    if config.access.tls_cert.is_none() {
        tracing::warn!(
            address = %config.listen,
            "tokens and passwords travel in clear: give --tls-cert and --tls-key, unless a TLS proxy is the only way here"
        );
    }
    Ok(access)
}

/// Puts a copy of the store (`tidegate backup`) in place of the folder's own, which is kept beside it; gives the kept one's path.
///
/// # Errors
/// `Configuration` when a server runs on the folder, the copy is damaged or newer, or its key is not the folder's.
pub async fn restore(place: &DataFolder, copy: &Path) -> Result<Option<PathBuf>> {
    let _lock = lock(&place.data_dir)?;
    let check = store::backup::inspect(copy, KEY_CHECK).await?.ok_or_else(|| {
        configuration("is no copy of a tidegate store").object(format!("file {}", copy.display()))
    })?;
    let key = place.key_file.clone().unwrap_or_else(|| place.data_dir.join("key"));
    if !Keyring::load(&key)?.accepts(&check) {
        return Err(configuration("is not the key that the copy was sealed with")
            .object(format!("key file {}", key.display()))
            .hint("put the key file that belongs to the copy there first, or name it with --key-file"));
    }
    store::backup::put_back(&place.data_dir, copy).await
}

/// Makes the data folder and keeps other processes out of it.
fn lock(folder: &Path) -> Result<File> {
    let object = || format!("data folder {}", folder.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| configuration(format!("cannot be created: {error}")).object(object()))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(|error| configuration(format!("cannot be written: {error}")).object(object()))?;
    fs2::FileExt::try_lock_exclusive(&file).map_err(|_| {
        configuration("another tidegate process uses it")
            .object(object())
            .hint("stop that process, or give this one its own folder with --data-dir")
    })?;
    Ok(file)
}

/// Seals every secret under a new key, which takes the old one's place; gives the number of secrets.
///
/// A crash at any point leaves a store that opens: the new key lies beside the old one before the store is sealed under it, and
/// the next start or rotation takes the one that fits.
pub async fn rotate_key(place: &DataFolder) -> Result<u64> {
    let _lock = lock(&place.data_dir)?;
    let store = Store::open(&place.data_dir.join(store::FILE)).await?;
    let path = place.key_file.clone().unwrap_or_else(|| place.data_dir.join("key"));
    let check = store.meta(KEY_CHECK).await?.ok_or_else(|| {
        configuration("the store has no key yet")
            .object(format!("data folder {}", place.data_dir.display()))
            .hint("start the server once; is it the right folder?")
    })?;
    let old = settled(&path, &check)?;
    let new_path = beside(&path);
    // Left by a rotation that ended before the store was sealed under it: nothing needs it.
    if new_path.exists() {
        std::fs::remove_file(&new_path).map_err(Error::internal)?;
    }
    let new = Keyring::create(&new_path)?;
    let count = store.reseal(&old, &new, (KEY_CHECK, &new.check_value()?)).await?;
    store.close().await;
    take_place(&new_path, &path)?;
    Ok(count)
}

/// Where a new key waits until the store is sealed under it.
fn beside(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    PathBuf::from(new)
}

fn take_place(new: &Path, path: &Path) -> Result<()> {
    let moved = std::fs::rename(new, path)
        .and_then(|()| path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()));
    moved.map_err(|error| {
        configuration(format!("cannot be put in its place: {error}"))
            .object(format!("key file {}", new.display()))
            .hint("move it over the old key by hand: the store is sealed under it")
    })
}

/// The key that the store is sealed under, also when a rotation was cut off.
fn settled(path: &Path, check: &[u8]) -> Result<Keyring> {
    let new_path = beside(path);
    if new_path.exists() {
        let new = Keyring::load(&new_path)?;
        if new.accepts(check) {
            take_place(&new_path, path)?;
            return Ok(new);
        }
    }
    let keyring = Keyring::load(path)?;
    if keyring.accepts(check) {
        return Ok(keyring);
    }
    Err(configuration("is not the key that this data folder was sealed with")
        .object(format!("key file {}", path.display()))
        .hint("give the right key with --key-file or TIDEGATE_KEY_FILE"))
}

/// The key that belongs to the store; a new one only for a new store.
async fn keyring(config: &Config, store: &Store) -> Result<Keyring> {
    let path = config.key_file.clone().unwrap_or_else(|| config.data_dir.join("key"));
    let known = store.meta(KEY_CHECK).await?;
    if !path.exists() && known.is_none() && config.key_file.is_none() {
        let keyring = Keyring::create(&path)?;
        store.init_meta(KEY_CHECK, &keyring.check_value()?).await?;
        return Ok(keyring);
    }
    match known {
        Some(check) => settled(&path, &check),
        None => {
            let keyring = Keyring::load(&path)?;
            store.init_meta(KEY_CHECK, &keyring.check_value()?).await?;
            Ok(keyring)
        }
    }
}

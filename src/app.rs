//! The composition root: data folder, store, supervisor, router, and their ordered end.

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::crypto::Keyring;
use crate::engine::registry::Registry;
use crate::engine::supervisor::{Runner, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::housekeeping::{self, Retention};
use crate::listen::{Certificate, Listener};
use crate::observe::Observer;
use crate::observe::lines::LineWriter;
use crate::observe::notify::Notifier;
use crate::service::Service;
use crate::service::tokens::{Access, bootstrap};
use crate::store::Store;
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
        let store = Store::open(&config.data_dir.join("tidegate.db")).await?;
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
        let watchers = vec![
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
        .open(folder.join("lock"))
        .map_err(|error| configuration(format!("cannot be written: {error}")).object(object()))?;
    fs2::FileExt::try_lock_exclusive(&file).map_err(|_| {
        configuration("another tidegate process uses it")
            .object(object())
            .hint("stop that process, or give this one its own folder with --data-dir")
    })?;
    Ok(file)
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
    let keyring = Keyring::load(&path)?;
    match known {
        Some(check) if !keyring.accepts(&check) => {
            Err(configuration("is not the key that this data folder was sealed with")
                .object(format!("key file {}", path.display()))
                .hint("give the right key with --key-file or TIDEGATE_KEY_FILE"))
        }
        Some(_) => Ok(keyring),
        None => {
            store.init_meta(KEY_CHECK, &keyring.check_value()?).await?;
            Ok(keyring)
        }
    }
}

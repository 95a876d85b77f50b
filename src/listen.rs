//! The address that is listened on, in clear or over TLS.
//!
//! A handshake never holds up the next connection: each is its own asynchronous task, bounded in number and time. A renewed
//! certificate is taken up without a restart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, ErrorKind, Result};

const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How often the files of the certificate are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// What `axum::serve` listens with.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Tls>,
}

struct Tls {
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    done: mpsc::Sender<(Box<dyn Line>, SocketAddr)>,
    ready: mpsc::Receiver<(Box<dyn Line>, SocketAddr)>,
}

impl Listener {
    pub fn plain(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }

    pub fn tls(tcp: TcpListener, certificate: Arc<Certificate>) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (done, ready) = mpsc::channel(HANDSHAKES_MAX);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        Ok(Self { tcp, tls: Some(Tls { acceptor, handshakes, done, ready }) })
    }
}

async fn connection(tcp: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match tcp.accept().await {
            Ok(accepted) => return accepted,
            // Out of file descriptors, mostly: it passes, and spinning would not help.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Box<dyn Line>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let Some(tls) = &mut self.tls else {
            let (stream, peer) = connection(&self.tcp).await;
            return (Box::new(stream), peer);
        };
        loop {
            let free = Arc::clone(&tls.handshakes).acquire_owned();
            let (stream, peer, permit) = tokio::select! {
                Some(ready) = tls.ready.recv() => return ready,
                (stream, peer, permit) = async {
                    let permit = free.await;
                    let (stream, peer) = connection(&self.tcp).await;
                    (stream, peer, permit)
                } => (stream, peer, permit),
            };
            let (acceptor, done) = (tls.acceptor.clone(), tls.done.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        // An error means that nobody listens any more.
                        let _ = done.send((Box::new(stream), peer)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                }
            });
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Certificate chain and key, read from their files again when these change.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// # Errors
    /// `Configuration` with the file and what is wrong with it.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>> {
        let current = RwLock::new(Arc::new(read(cert, key)?));
        Ok(Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), current }))
    }

    /// Watches the files for as long as the process runs. Files that do not fit change nothing.
    pub async fn follow(self: Arc<Self>) {
        let mut seen = self.changed_at();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.changed_at();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok())
    }

    fn reload(&self) {
        match read(&self.cert, &self.key) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(certificate = %self.cert.display(), "the new certificate is in use");
            }
            Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey> {
    let refused = |path: &Path, cause: String| {
        Error::new(ErrorKind::Configuration, cause)
            .object(path.display())
            .hint("--tls-cert takes the chain in PEM, the server's own certificate first, --tls-key its private key")
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| refused(cert, format!("cannot be read: {error}")))?;
    if chain.is_empty() {
        return Err(refused(cert, "holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| refused(key, format!("holds no private key: {error}")))?;
    let provider: CryptoProvider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider)
        .map_err(|error| refused(key, format!("is not the key of {}: {error}", cert.display())))
}

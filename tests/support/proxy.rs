//! A TCP proxy that misbehaves on demand: it cuts, delays, halves and swallows what passes through it.
//!
//! Kafka's clients connect to the address that a broker advertises; a proxy for Kafka puts its own port into those answers, which
//! keep their length.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Each piece waits before it goes on.
    Delay(Duration),
    /// Nothing passes, nothing ends, new connections get no answer.
    Swallow,
    /// New connections end at once.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct Control {
    mode: Mode,
    /// Connections with a lower number have ended.
    cut_below: u64,
    /// Connections with a lower number are swallowed for good.
    stuck_below: u64,
}

/// Ends with everything that passes through it when it is dropped.
pub struct Proxy {
    pub port: u16,
    control: watch::Sender<Control>,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

struct Shared {
    upstream: u16,
    /// Port to be found in a Kafka broker's answers, and that to put there.
    advertised: Option<(u16, u16)>,
    next: AtomicU64,
    /// Pieces that are still to be cut in half, with the end of their connection.
    halve: AtomicU64,
}

impl Proxy {
    /// In front of a server of this machine.
    pub async fn start(upstream: u16) -> Self {
        Self::with(upstream, false).await
    }

    pub async fn kafka(upstream: u16) -> Self {
        Self::with(upstream, true).await
    }

    async fn with(upstream: u16, kafka: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let port = listener.local_addr().unwrap().port();
        let (control, seen) = watch::channel(Control { mode: Mode::Pass, cut_below: 0, stuck_below: 0 });
        let shared = Arc::new(Shared {
            upstream,
            advertised: kafka.then_some((upstream, port)),
            next: AtomicU64::new(0),
            halve: AtomicU64::new(0),
        });
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared), seen));
        Self { port, control, shared, accept }
    }

    /// Ends every connection.
    pub fn cut(&self) {
        let next = self.shared.next.load(Ordering::SeqCst);
        self.control.send_modify(|control| control.cut_below = next);
    }

    /// From now on nothing passes, and nobody is told.
    pub fn swallow(&self) {
        self.control.send_modify(|control| control.mode = Mode::Swallow);
    }

    /// Ends every connection and takes no new one.
    pub fn refuse(&self) {
        self.control.send_modify(|control| control.mode = Mode::Refuse);
        self.cut();
    }

    pub fn delay(&self, by: Duration) {
        self.control.send_modify(|control| control.mode = Mode::Delay(by));
    }

    /// The next pieces of either direction pass by half, and their connections end.
    pub fn halve(&self, pieces: u64) {
        self.shared.halve.store(pieces, Ordering::SeqCst);
    }

    /// All is well again for new connections, and for old ones unless they are `stuck`: those stay open and never pass a byte again.
    pub fn heal(&self, stuck: bool) {
        let next = self.shared.next.load(Ordering::SeqCst);
        self.shared.halve.store(0, Ordering::SeqCst);
        self.control.send_modify(|control| {
            control.mode = Mode::Pass;
            if stuck {
                control.stuck_below = next;
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.control.send_modify(|control| control.cut_below = u64::MAX);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, control: watch::Receiver<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(client, Arc::clone(&shared), control.clone(), number));
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>, mut control: watch::Receiver<Control>, number: u64) {
    if control.borrow_and_update().mode == Mode::Refuse || !free(&mut control, number).await {
        return;
    }
    let upstream = SocketAddr::from(([127, 0, 0, 1], shared.upstream));
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, None, &shared, control.clone(), number) => {}
        () = pump(from_server, to_client, shared.advertised, &shared, control.clone(), number) => {}
    }
}

/// Waits until bytes of this connection may pass; false when it has ended.
async fn free(control: &mut watch::Receiver<Control>, number: u64) -> bool {
    loop {
        let now = *control.borrow_and_update();
        if number < now.cut_below {
            return false;
        }
        if number >= now.stuck_below {
            match now.mode {
                Mode::Pass | Mode::Refuse => return true,
                Mode::Delay(by) => {
                    tokio::time::sleep(by).await;
                    return true;
                }
                Mode::Swallow => {}
            }
        }
        if control.changed().await.is_err() {
            return false;
        }
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    advertised: Option<(u16, u16)>,
    shared: &Shared,
    mut control: watch::Receiver<Control>,
    number: u64,
) {
    let mut piece = vec![0; 64 << 10];
    loop {
        if !free(&mut control, number).await {
            return;
        }
        let length = tokio::select! {
            biased;
            changed = control.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut piece) => match read {
                Ok(length) if length > 0 => length,
                _ => return,
            },
        };
        // What arrived while all was swallowed is swallowed too.
        if !free(&mut control, number).await {
            return;
        }
        let bytes = &mut piece[..length];
        if let Some((old, new)) = advertised {
            readvertise(bytes, old, new);
        }
        let halved = length > 1
            && shared
                .halve
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        let passes = if halved { length / 2 } else { length };
        let written = tokio::select! {
            written = to.write_all(&bytes[..passes]) => written.is_ok(),
            () = ended(control.clone(), number) => false,
        };
        if !written || halved {
            return;
        }
    }
}

async fn ended(mut control: watch::Receiver<Control>, number: u64) {
    while number >= control.borrow_and_update().cut_below {
        if control.changed().await.is_err() {
            return;
        }
    }
}

/// `127.0.0.1` and a port of four bytes, as every answer of a broker that names one has it.
fn readvertise(bytes: &mut [u8], old: u16, new: u16) {
    const HOST: &[u8] = b"127.0.0.1";
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(HOST.len()).position(|window| window == HOST) {
        at += found + HOST.len();
        if let Some(port) = bytes.get_mut(at..at + 4)
            && *port == u32::from(old).to_be_bytes()
        {
            port.copy_from_slice(&u32::from(new).to_be_bytes());
        }
    }
}

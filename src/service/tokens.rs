//! Access: which tokens there are, who a secret belongs to, and how often one may guess.
//!
//! Without any token the server is open to its own machine (app.rs lets it listen nowhere else then). From the first token on,
//! which must be an admin's, every call needs one. The last admin's token cannot be taken away, so nobody is locked out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};

use super::{Answer, Refusal, Service};
use crate::access::Role;
use crate::crypto::{new_token, same_hash, token_hash};
use crate::error::{Error, ErrorKind, Result};
use crate::store::tokens::TokenRow;
use crate::store::{Store, now_ms};
use crate::task::fault::Fault;

/// More tokens than this are refused: every login is compared with all of them.
pub const TOKENS_MAX: usize = 1000;
/// Name of the token that the file of the first one makes.
const BOOTSTRAP: &str = "bootstrap";
/// A token of a file must be at least this long.
const SECRET_CHARS_MIN: usize = 32;
/// Failed logins of one address within [`FAILURES_WINDOW`]; more are answered with 429.
const FAILURES_MAX: u32 = 10;
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const FAILURES_KEPT: usize = 10_000;

/// Tokens as they are now, in memory: the store is asked once, at the start.
#[derive(Debug, Default)]
pub struct Access {
    tokens: RwLock<Vec<TokenRow>>,
    failures: Mutex<Failures>,
    /// One change at a time, or two could each take away the other's last admin.
    changes: tokio::sync::Mutex<()>,
}

impl Access {
    fn with<T>(&self, read: impl FnOnce(&[TokenRow]) -> T) -> T {
        read(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the tokens of the store anew.
    pub async fn load(&self, store: &Store) -> Result<()> {
        let tokens = store.tokens().await?;
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    /// True while there is no token at all: whoever is on this machine is let in.
    pub fn is_open(&self) -> bool {
        self.with(<[TokenRow]>::is_empty)
    }

    /// Name and role of the valid token that this secret is. Takes as long for a wrong one.
    pub fn identify(&self, secret: &str) -> Option<(String, Role)> {
        let hash = token_hash(secret);
        let now = now_ms();
        self.with(|tokens| {
            let mut found = None;
            for token in tokens {
                if same_hash(&token.hash, &hash) && token.is_valid(now) {
                    found = Some(token);
                }
            }
            found.map(|token| (token.name.clone(), token.role))
        })
    }

    /// True while the token of this name has the role and has not ended; for answers that last.
    pub fn still_holds(&self, name: &str, role: Role) -> bool {
        let now = now_ms();
        self.with(|tokens| {
            tokens.is_empty()
                || tokens.iter().any(|token| token.name == name && token.role == role && token.is_valid(now))
        })
    }

    /// Counts a failed login. How long to wait, when there were too many.
    pub fn failed(&self, peer: Option<IpAddr>) -> Option<Duration> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).count(peer, Instant::now())
    }
}

/// Failed logins by address: the first of a window, and how many since.
#[derive(Debug, Default)]
struct Failures {
    by_address: HashMap<Option<IpAddr>, (Instant, u32)>,
}

/// A household of IPv6 has a whole /64 to call from.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
    }
}

impl Failures {
    fn count(&mut self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let peer = peer.map(household);
        if self.by_address.len() >= FAILURES_KEPT && !self.by_address.contains_key(&peer) {
            self.by_address.retain(|_, (first, _)| now.duration_since(*first) < FAILURES_WINDOW);
            // Guessed from everywhere at once: they share one count.
            if self.by_address.len() >= FAILURES_KEPT {
                return self.count_of(None, now);
            }
        }
        self.count_of(peer, now)
    }

    fn count_of(&mut self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let (first, count) = self.by_address.entry(peer).or_insert((now, 0));
        if now.duration_since(*first) >= FAILURES_WINDOW {
            (*first, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > FAILURES_MAX).then(|| FAILURES_WINDOW - now.duration_since(*first))
    }
}

/// Makes the first token from a file, unless a valid admin's token is there already.
///
/// # Errors
/// `Configuration` when the file cannot be read or holds no usable secret.
pub async fn bootstrap(store: &Store, file: &Path) -> Result<()> {
    let refused = |message: String| {
        Error::new(ErrorKind::Configuration, message)
            .object(format!("file of the first token {}", file.display()))
    };
    let admin = |token: &TokenRow| token.role == Role::Admin && token.is_valid(now_ms());
    if store.tokens().await?.iter().any(admin) {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        refused(format!("cannot be read: {error}")).hint("check its place and permissions")
    })?;
    let secret = text.trim();
    if secret.len() < SECRET_CHARS_MIN || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(format!(
            "must hold one secret of at least {SECRET_CHARS_MIN} printable characters without spaces"
        ))
        .hint("`openssl rand -hex 32` makes one"));
    }
    store.put_token(BOOTSTRAP, Role::Admin, &token_hash(secret), None, true).await?;
    tracing::info!(token = BOOTSTRAP, "the first token was made from its file");
    Ok(())
}

/// What a token shall be.
#[derive(Debug)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    /// Milliseconds since the epoch; None = never.
    pub expires_at: Option<i64>,
}

impl Service {
    pub async fn create_token(
        &self,
        new: NewToken,
        dry_run: bool,
    ) -> Answer<(TokenRow, Option<SecretString>)> {
        let _one = self.access.changes.lock().await;
        let mut faults = Vec::new();
        if new.expires_at.is_some_and(|end| end <= now_ms()) {
            faults.push(Fault::new("/expires_at", "invalid", "must be in the future"));
        }
        if self.access.is_open() && new.role != Role::Admin {
            let detail = "the first token must be an admin's: from then on every call needs a token";
            faults.push(Fault::new("/role", "first_token", detail));
        }
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        let tokens = self.store.tokens().await?;
        if tokens.iter().any(|token| token.name == new.name) {
            return Err(Refusal::NameTaken(format!("another token is called {}", new.name)));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Conflict(format!(
                "there are {TOKENS_MAX} tokens already; revoke some first"
            )));
        }
        if dry_run {
            let row = TokenRow {
                name: new.name,
                role: new.role,
                hash: Vec::new(),
                created_at: now_ms(),
                created_by: None,
                expires_at: new.expires_at,
            };
            return Ok((row, None));
        }
        let secret = new_token();
        let hash = token_hash(secret.expose_secret());
        let row = self.store.put_token(&new.name, new.role, &hash, new.expires_at, false).await?;
        let row = row.ok_or_else(|| Refusal::NameTaken(format!("another token is called {}", new.name)))?;
        self.access.load(&self.store).await?;
        tracing::info!(token = row.name, role = row.role.as_str(), "token created");
        Ok((row, Some(secret)))
    }

    pub async fn token(&self, name: &str) -> Answer<TokenRow> {
        let found = self.store.tokens().await?.into_iter().find(|token| token.name == name);
        found.ok_or_else(|| Refusal::NotFound(format!("there is no token {name}")))
    }

    pub async fn delete_token(&self, name: &str, dry_run: bool) -> Answer<()> {
        let _one = self.access.changes.lock().await;
        let token = self.token(name).await?;
        let now = now_ms();
        let admin = |token: &&TokenRow| token.role == Role::Admin && token.is_valid(now);
        let tokens = self.store.tokens().await?;
        if admin(&&token) && tokens.iter().filter(admin).count() == 1 {
            return Err(Refusal::Conflict(format!(
                "{name} is the last valid token of an admin: create another one first, or nobody could make any more"
            )));
        }
        if dry_run {
            return Ok(());
        }
        self.store.delete_token(name).await?;
        self.access.load(&self.store).await?;
        tracing::info!(token = name, "token revoked");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_slowed_down_by_address() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let address = |text: &str| Some(text.parse().unwrap());
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.count(address("10.0.0.1"), start), None);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(failures.count(address("10.0.0.1"), later), Some(Duration::from_secs(40)));
        assert_eq!(failures.count(address("::ffff:10.0.0.1"), later), Some(Duration::from_secs(40)));
        assert_eq!(failures.count(address("10.0.0.2"), later), None, "others are not held to it");
        assert_eq!(failures.count(address("10.0.0.1"), start + FAILURES_WINDOW), None);
        for n in 0..FAILURES_MAX {
            assert_eq!(failures.count(address(&format!("2001:db8::{n}")), start), None);
        }
        assert!(failures.count(address("2001:db8::ffff"), start).is_some(), "one household");
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let mut refused = 0;
        for n in 0..FAILURES_KEPT as u32 + 100 {
            let peer = IpAddr::V4((0x0a00_0000 + n).into());
            refused += u32::from(failures.count(Some(peer), start).is_some());
        }
        assert!(failures.by_address.len() <= FAILURES_KEPT + 1);
        assert_eq!(refused, 100 - FAILURES_MAX);
        assert_eq!(failures.count(address_of(7), start + FAILURES_WINDOW), None, "forgotten with time");
        assert!(failures.by_address.len() <= FAILURES_KEPT + 1);
    }

    fn address_of(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 168, 0, n]))
    }
}

//! Secrets at rest: sealed with XChaCha20-Poly1305 under one key, which lives beside the store or where the operator says.
//!
//! What is sealed is bound to its place (associated data): a sealed password copied to another connection does not open.
//! Access tokens are random enough that their plain hash tells nothing; the hash is all that is kept of them.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, ErrorKind, Result};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// First byte of everything sealed: the format.
const FORMAT: u8 = 1;

/// The key that seals and opens secrets.
#[derive(Clone)]
pub struct Keyring {
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(..)")
    }
}

impl Keyring {
    /// Reads the key file: 64 hexadecimal digits.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            fault(path, format!("cannot be read: {error}")).hint("check its place and permissions")
        })?;
        let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode() & 0o077);
        if mode != 0 {
            tracing::warn!(path = %path.display(), "the key file can be read by others; chmod 600 it");
        }
        let key = from_hex(text.trim()).ok_or_else(|| {
            fault(path, format!("must hold {} hexadecimal digits", KEY_BYTES * 2))
                .hint("restore it from your backup; `openssl rand -hex 32` makes a new one for an empty data folder")
        })?;
        Ok(Self { cipher: XChaCha20Poly1305::new(&key.into()) })
    }

    /// Makes a new key and writes it to a file that only we can read. An existing file is never replaced.
    pub fn create(path: &Path) -> Result<Self> {
        let mut key = [0_u8; KEY_BYTES];
        rand::rng().fill_bytes(&mut key);
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                writeln!(file, "{text}")?;
                file.sync_all()
            })
            .and_then(|()| path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all()))
            .map_err(|error| fault(path, format!("cannot be written: {error}")))?;
        Ok(Self { cipher: XChaCha20Poly1305::new(&key.into()) })
    }

    /// Seals `plain` for the place that `bound_to` names.
    pub fn seal(&self, bound_to: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0_u8; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: bound_to.as_bytes() })
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        let mut out = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        out.push(FORMAT);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Keyring::seal`] made for the same place.
    pub fn open(&self, bound_to: &str, sealed: &[u8]) -> Result<SecretString> {
        let refused = || {
            Error::new(ErrorKind::Configuration, "the sealed secret does not open with this key")
                .object(bound_to)
                .hint("start with the key file that belongs to this data folder, or send the secret again")
        };
        let (format, rest) = sealed.split_first().ok_or_else(refused)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(refused)?;
        if *format != FORMAT {
            return Err(refused());
        }
        let plain = self
            .cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: bound_to.as_bytes() })
            .map_err(|_| refused())?;
        Ok(SecretString::from(String::from_utf8(plain).map_err(|_| refused())?))
    }

    /// Something to keep beside the secrets: opens only under the same key.
    pub fn check_value(&self) -> Result<Vec<u8>> {
        self.seal("key check", b"tidegate")
    }

    pub fn accepts(&self, check_value: &[u8]) -> bool {
        self.open("key check", check_value).is_ok_and(|text| text.expose_secret() == "tidegate")
    }
}

/// A new access token: 256 random bits. The prefix is for people and scanners who find one where it should not be.
pub fn new_token() -> SecretString {
    let mut random = [0_u8; 32];
    rand::rng().fill_bytes(&mut random);
    SecretString::from(format!("tidegate_{}", URL_SAFE_NO_PAD.encode(random)))
}

/// What is kept of an access token.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Compares in a time that does not depend on where they differ.
pub fn same_hash(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn fault(path: &Path, message: String) -> Error {
    Error::new(ErrorKind::Configuration, message).object(format!("key file {}", path.display()))
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if text.len() != KEY_BYTES * 2 {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_at_the_same_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keyring = Keyring::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Keyring::create(&path).is_err(), "an existing key is never replaced");

        let sealed = keyring.seal("connection/a/password", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        let again = Keyring::load(&path).unwrap();
        assert_eq!(again.open("connection/a/password", &sealed).unwrap().expose_secret(), "hunter2");
        assert!(again.open("connection/b/password", &sealed).is_err());
        assert!(again.accepts(&keyring.check_value().unwrap()));

        let other = Keyring::create(&folder.path().join("other")).unwrap();
        assert!(other.open("connection/a/password", &sealed).is_err());
        assert!(!other.accepts(&keyring.check_value().unwrap()));
        for cut in 0..sealed.len() {
            assert!(again.open("connection/a/password", &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn tokens_are_random_and_known_by_their_hash() {
        let (a, b) = (new_token(), new_token());
        let (a, b) = (a.expose_secret(), b.expose_secret());
        assert_ne!(a, b);
        assert_eq!(a.len(), "tidegate_".len() + 43);
        assert!(same_hash(&token_hash(a), &token_hash(a)));
        assert!(!same_hash(&token_hash(a), &token_hash(b)));
        assert!(!same_hash(&token_hash(a), &token_hash(a)[..31]));
    }

    #[test]
    fn a_broken_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "zz").unwrap();
        let error = Keyring::load(&path).unwrap_err();
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
    }
}

//! How to reach a TiDB, Kafka or target: a connection with its secrets opened. Lives in memory only.

use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    #[default]
    Disabled,
    /// Encrypted, the server's certificate is not checked.
    Required,
    /// The certificate must be signed by the given (or a public) authority.
    VerifyCa,
    /// VerifyCa, and the host name must match.
    VerifyFull,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// PEM; None = the built-in public authorities.
    pub ca: Option<String>,
}

/// A password that may be replaced while sessions are open: clones share it, and whoever logs in next sends the newest.
#[derive(Debug, Clone, Default)]
pub struct Password(Arc<RwLock<Option<SecretString>>>);

impl From<Option<SecretString>> for Password {
    fn from(secret: Option<SecretString>) -> Self {
        Self(Arc::new(RwLock::new(secret)))
    }
}

impl Password {
    pub fn get(&self) -> Option<SecretString> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every clone has the other's secret from now on.
    pub fn replace(&self, newer: &Self) {
        let secret = newer.get();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secret;
    }
}

/// TiDB, or any MySQL-protocol target.
#[derive(Debug, Clone)]
pub struct MysqlEndpoint {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Password,
    pub tls: Tls,
}

impl MysqlEndpoint {
    /// The same server, user and line; the password may be another.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |endpoint: &Self| (endpoint.host.clone(), endpoint.port, endpoint.user.clone());
        place(self) == place(other) && self.tls == other.tls
    }

    /// Nothing has changed, the password neither.
    pub fn is_same(&self, other: &Self) -> bool {
        let secret =
            |endpoint: &Self| endpoint.password.get().map(|secret| secret.expose_secret().to_owned());
        self.is_same_place(other) && secret(self) == secret(other)
    }
}

#[derive(Debug, Clone)]
pub struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub mechanism: String,
    pub user: String,
    pub password: SecretString,
}

#[derive(Debug, Clone)]
pub struct KafkaEndpoint {
    pub brokers: Vec<String>,
    pub sasl: Option<Sasl>,
    pub tls: Tls,
}

impl KafkaEndpoint {
    /// Nothing has changed, the password neither.
    pub fn is_same(&self, other: &Self) -> bool {
        let login = |endpoint: &Self| {
            endpoint.sasl.as_ref().map(|sasl| {
                (sasl.mechanism.clone(), sasl.user.clone(), sasl.password.expose_secret().to_owned())
            })
        };
        self.brokers == other.brokers && self.tls == other.tls && login(self) == login(other)
    }
}

/// The SQL that a target speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// AnalyticDB for MySQL 3.0
    Adb,
    /// MySQL, MariaDB, TiDB, PolarDB
    Mysql,
}

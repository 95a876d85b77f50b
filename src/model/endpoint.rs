//! How to reach a TiDB, Kafka or target: a connection with its secrets opened. Lives in memory only.

use secrecy::SecretString;
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

#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub mode: TlsMode,
    /// PEM; None = the built-in public authorities.
    pub ca: Option<String>,
}

/// TiDB, or any MySQL-protocol target.
#[derive(Debug, Clone)]
pub struct MysqlEndpoint {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<SecretString>,
    pub tls: Tls,
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

/// The SQL that a target speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// AnalyticDB for MySQL 3.0
    Adb,
    /// MySQL, MariaDB, TiDB, PolarDB
    Mysql,
}

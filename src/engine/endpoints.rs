//! From the names in a spec to endpoints with their secrets opened.

use crate::crypto::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint};
use crate::store::Store;
use crate::store::connections::{ConnectionRow, secret_place};
use crate::task::connection::{ConnectionSettings, MysqlKind, MysqlSettings};
use crate::task::spec::{Spec, Throttle};

/// The endpoints of a task, opened. They live in memory only.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub source: Option<MysqlEndpoint>,
    pub kafka: Option<KafkaEndpoint>,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    /// The connections that they come from.
    pub named: Vec<Named>,
}

/// A connection of a task as it was read.
#[derive(Debug, Clone)]
pub struct Named {
    pub role: Role,
    pub name: String,
    pub version: i64,
    pub throttle: Throttle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Source,
    Kafka,
    Target,
}

/// One endpoint, opened.
#[derive(Debug, Clone)]
pub enum Opened {
    Tidb(MysqlEndpoint),
    Target(MysqlEndpoint, Dialect),
    Kafka(KafkaEndpoint),
}

/// Puts settings and secret together.
pub fn join(settings: &ConnectionSettings, secret: Option<secrecy::SecretString>) -> Result<Opened> {
    let lost = || Error::internal("a connection's kind and settings do not fit");
    match settings {
        ConnectionSettings::Kafka(_) => settings.kafka_endpoint(secret).map(Opened::Kafka).ok_or_else(lost),
        ConnectionSettings::Mysql(MysqlSettings { kind: MysqlKind::Tidb, .. }) => {
            settings.mysql_endpoint(secret).map(Opened::Tidb).ok_or_else(lost)
        }
        ConnectionSettings::Mysql(_) => {
            let dialect = settings.dialect().ok_or_else(lost)?;
            settings.mysql_endpoint(secret).map(|endpoint| Opened::Target(endpoint, dialect)).ok_or_else(lost)
        }
    }
}

/// Opens the secret of a stored connection.
pub fn open(keyring: &Keyring, row: &ConnectionRow) -> Result<Opened> {
    let secret = match &row.secret {
        None => None,
        Some(sealed) => Some(
            keyring
                .open(&secret_place(&row.name), sealed)
                .map_err(|error| Error { object: Some(format!("connection {}", row.name)), ..error })?,
        ),
    };
    join(&row.settings, secret)
}

/// Opens everything that a spec names.
///
/// # Errors
/// `Configuration` when a connection is not there, is of another kind, or does not open.
pub async fn of_spec(store: &Store, keyring: &Keyring, spec: &Spec) -> Result<Endpoints> {
    let mut named = Vec::new();
    let mut load = async |role: Role, name: &str| -> Result<Opened> {
        let row = store.connection(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "there is no connection of this name")
                .object(format!("connection {name}"))
                .hint("create it, or name another one in the task's spec")
        })?;
        named.push(Named { role, name: row.name.clone(), version: row.version, throttle: row.throttle });
        open(keyring, &row)
    };
    let wrong = |name: &str, wanted: &str| {
        Error::new(ErrorKind::Configuration, format!("the task needs a connection of kind {wanted} here"))
            .object(format!("connection {name}"))
    };
    let source = match &spec.source.tidb {
        None => None,
        Some(name) => match load(Role::Source, name).await? {
            Opened::Tidb(endpoint) => Some(endpoint),
            _ => return Err(wrong(name, "tidb")),
        },
    };
    let kafka = match &spec.source.kafka {
        None => None,
        Some(name) => match load(Role::Kafka, name).await? {
            Opened::Kafka(endpoint) => Some(endpoint),
            _ => return Err(wrong(name, "kafka")),
        },
    };
    let target = load(Role::Target, &spec.target).await?;
    match target {
        Opened::Target(target, dialect) => Ok(Endpoints { source, kafka, target, dialect, named }),
        _ => Err(wrong(&spec.target, "adb or mysql")),
    }
}

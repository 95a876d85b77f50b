//! Connections: kept with their secret sealed, tried before they are kept.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::connection_change::{effects, is_elsewhere};
use super::{Answer, Refusal, Service, changed_meanwhile, expect_version};
use crate::engine::endpoints::{Opened, join, open};
use crate::error::{Endpoint, Error, ErrorKind};
use crate::precheck::{self, CatalogTable, CatalogTopic, CheckOutcome, TestStep};
use crate::store::connections::{ConnectionRow, secret_place};
use crate::task::change::Effect;
use crate::task::connection::{ConnectionInput, ConnectionSettings, SecretChange};
use crate::task::fault::Fault;
use crate::task::spec::Throttle;

/// Longest that a test or a catalog may take.
pub(super) const ENDPOINT_PATIENCE: Duration = Duration::from_secs(60);

/// What an endpoint holds.
#[derive(Debug)]
pub enum Catalog {
    Tables(Vec<CatalogTable>),
    Topics(Vec<CatalogTopic>),
}

/// A connection as it was kept, and whether it is new.
#[derive(Debug)]
pub struct Kept {
    pub row: ConnectionRow,
    pub created: bool,
    /// What it does to the tasks that use it; empty when nothing changed.
    pub effects: Vec<Effect>,
}

impl Service {
    pub async fn connection(&self, name: &str) -> Answer<ConnectionRow> {
        self.store
            .connection(name)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("there is no connection {name}")))
    }

    /// Creates or replaces a connection. `if_version`: only if it is still this version. With `verify` it must log in first, and lead
    /// to where its tasks' data is. With `dry_run` nothing is kept.
    pub async fn put_connection(
        &self,
        name: &str,
        input: ConnectionInput,
        if_version: Option<i64>,
        verify: bool,
        dry_run: bool,
    ) -> Answer<Kept> {
        let current = self.store.connection(name).await?;
        let what = format!("connection {name}");
        expect_version(&what, if_version, current.as_ref().map(|row| row.version))?;
        let (settings, change) = input.into_parts().map_err(Refusal::Invalid)?;
        if let Some(row) = &current
            && row.settings.dialect().is_some() != settings.dialect().is_some()
            && !self.store.connection_users(name).await?.is_empty()
        {
            let detail = "tasks use this connection as what it is: its kind cannot change";
            return Err(Refusal::Invalid(vec![Fault::new("/kind", "in_use", detail)]));
        }
        let secret = self.new_secret(name, current.as_ref(), &settings, change)?;
        let kept_secret = match &current {
            Some(row) => self.secret_of(row)?,
            None => None,
        };
        let same_secret = secret.as_ref().map(|text| text.expose_secret())
            == kept_secret.as_ref().map(|text| text.expose_secret());
        if let Some(row) = &current
            && row.settings == settings
            && same_secret
        {
            return Ok(Kept { row: row.clone(), created: false, effects: Vec::new() });
        }
        let users = self.store.connection_tasks(name).await?;
        if verify {
            let opened = join(&settings, secret.clone())?;
            verified(&test(&opened).await?)?;
            if let Some(row) = &current
                && is_elsewhere(&row.settings, &settings)
            {
                self.same_identity(name, &opened, &users).await?;
            }
        }
        let effects = match &current {
            Some(row) => effects(&row.settings, &settings, same_secret, &users),
            None => Vec::new(),
        };
        if dry_run {
            let now = crate::store::now_ms();
            let row = current.clone().unwrap_or(ConnectionRow {
                name: name.to_owned(),
                settings: settings.clone(),
                secret: None,
                version: 0,
                throttle: Throttle::default(),
                created_at: now,
                updated_at: now,
            });
            // Whether there is one is all that is shown of it.
            let secret = secret.is_some().then(Vec::new);
            let row = ConnectionRow { settings, secret, version: row.version + 1, ..row };
            return Ok(Kept { row, created: current.is_none(), effects });
        }
        let sealed = match &secret {
            None => None,
            Some(text) => Some(self.keyring.seal(&secret_place(name), text.expose_secret().as_bytes())?),
        };
        let version = current.as_ref().map(|row| row.version);
        if !self.store.put_connection(name, &settings, sealed.as_deref(), version).await? {
            return Err(changed_meanwhile(&what));
        }
        tracing::info!(connection = name, kind = settings.kind(), "connection kept");
        // It hands the new one to the tasks that run.
        self.wake.notify_one();
        Ok(Kept { row: self.connection(name).await?, created: current.is_none(), effects })
    }

    fn secret_of(&self, row: &ConnectionRow) -> Answer<Option<SecretString>> {
        let Some(sealed) = &row.secret else { return Ok(None) };
        Ok(Some(self.keyring.open(&secret_place(&row.name), sealed)?))
    }

    fn new_secret(
        &self,
        name: &str,
        current: Option<&ConnectionRow>,
        settings: &ConnectionSettings,
        change: SecretChange,
    ) -> Answer<Option<SecretString>> {
        let required = |detail: String| {
            Refusal::SecretRequired(Fault::new(settings.secret_pointer(), "secret_required", detail))
        };
        let secret = match change {
            SecretChange::Set(text) if text.expose_secret().is_empty() => None,
            SecretChange::Set(text) => Some(text),
            SecretChange::Clear => None,
            SecretChange::Keep => match current.filter(|row| row.secret.is_some()) {
                None => None,
                Some(row) => {
                    if let Some(what) = row.settings.exposes_secret(settings) {
                        return Err(required(format!("changing {what} needs the secret again")));
                    }
                    self.secret_of(row)?
                }
            },
        };
        if secret.is_none() && settings.needs_secret() {
            return Err(required(format!("connection {name} logs in with SASL, which needs a password")));
        }
        Ok(secret)
    }

    /// `if_version`: only if it is still this version.
    pub async fn delete_connection(&self, name: &str, if_version: Option<i64>, dry_run: bool) -> Answer<()> {
        let row = self.connection(name).await?;
        expect_version(&format!("connection {name}"), if_version, Some(row.version))?;
        let users = self.store.connection_users(name).await?;
        if !users.is_empty() {
            return Err(Refusal::InUse(format!("connection {name} is used by {}", users.join(", "))));
        }
        if dry_run {
            return Ok(());
        }
        if !self.store.delete_connection(name).await? {
            return Err(Refusal::InUse(format!(
                "connection {name} has just been taken into use, or is gone"
            )));
        }
        tracing::info!(connection = name, "connection deleted");
        Ok(())
    }

    /// Tries a connection that is kept.
    pub async fn test_connection(&self, name: &str) -> Answer<Vec<TestStep>> {
        let row = self.connection(name).await?;
        test(&open(&self.keyring, &row)?).await
    }

    /// Tries settings that are not kept.
    pub async fn test_settings(&self, input: ConnectionInput) -> Answer<Vec<TestStep>> {
        let (settings, change) = input.into_parts().map_err(Refusal::Invalid)?;
        let secret = self.new_secret("to test", None, &settings, change)?;
        test(&join(&settings, secret)?).await
    }

    /// What is there to be selected: tables (of one schema when `only` names it), or topics (one when `only` names it).
    pub async fn catalog(&self, name: &str, only: Option<&str>) -> Answer<Catalog> {
        let row = self.connection(name).await?;
        let opened = open(&self.keyring, &row)?;
        let catalog = async {
            Ok::<_, Error>(match &opened {
                Opened::Tidb(endpoint) => {
                    Catalog::Tables(precheck::catalog_mysql(endpoint, Endpoint::Source, only).await?)
                }
                Opened::Target(endpoint, _) => {
                    Catalog::Tables(precheck::catalog_mysql(endpoint, Endpoint::Target, only).await?)
                }
                Opened::Kafka(endpoint) => Catalog::Topics(precheck::catalog_kafka(endpoint, only).await?),
            })
        };
        match tokio::time::timeout(ENDPOINT_PATIENCE, catalog).await {
            Ok(Ok(catalog)) => Ok(catalog),
            // Here the connection is the subject: whatever went wrong is the endpoint's word.
            Ok(Err(error)) if error.endpoint.is_none() && error.kind == ErrorKind::Missing => {
                Err(Refusal::EndpointRefused(error.to_string()))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(too_slow()),
        }
    }
}

pub(super) fn too_slow() -> Refusal {
    Refusal::EndpointTimeout(format!("the endpoint did not answer within {} s", ENDPOINT_PATIENCE.as_secs()))
}

/// Reaches an endpoint and tells what it finds, step by step.
pub(crate) async fn test(opened: &Opened) -> Answer<Vec<TestStep>> {
    let steps = async {
        match opened {
            Opened::Tidb(endpoint) => precheck::test_mysql(endpoint, Endpoint::Source, None).await,
            Opened::Target(endpoint, dialect) => {
                precheck::test_mysql(endpoint, Endpoint::Target, Some(*dialect)).await
            }
            Opened::Kafka(endpoint) => precheck::test_kafka(endpoint).await,
        }
    };
    tokio::time::timeout(ENDPOINT_PATIENCE, steps).await.map_err(|_| too_slow())
}

/// Reaching and logging in must work; the other steps are told by a test, they do not keep a connection from being kept.
fn verified(steps: &[TestStep]) -> Answer<()> {
    let Some(failed) = steps.iter().find(|step| step.outcome == CheckOutcome::Fail) else { return Ok(()) };
    let mut text = failed.detail.clone();
    if let Some(hint) = &failed.hint {
        text = format!("{text}; {hint}");
    }
    let text = format!("{text}; ?verify=false keeps the connection without logging in");
    if steps.first().is_some_and(|first| first.outcome == CheckOutcome::Fail) {
        Err(Refusal::Unreachable(text))
    } else {
        Err(Refusal::EndpointRefused(text))
    }
}

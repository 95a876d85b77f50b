//! Tells webhooks: one message of a rule at a time, in order, until the webhook has taken it or a day is over.
//!
//! Only the status of an answer counts; its body is not read. A webhook that hangs costs its own rule ten seconds per try and
//! nobody else anything. A message may come twice (a crash after the call): `tidegate-delivery` tells it apart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::crypto::Keyring;
use crate::error::{Error, Result};
use crate::store::alerts::{DeliveryRow, rule_secret_place};
use crate::store::{Store, now_ms};

/// Longest time of one call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls at the same time.
const CALLS: usize = 16;
/// Looks for messages whose time has come this often.
const TICK: Duration = Duration::from_secs(1);
/// The first pause after a refusal; doubles up to the longest.
const PAUSE_MS: i64 = 1000;
const PAUSE_MOST_MS: i64 = 300_000;
/// After so long a message is given up.
const GIVE_UP_MS: i64 = 86_400_000;

/// See the module.
pub struct Notifier {
    store: Store,
    keyring: Arc<Keyring>,
    told: Arc<Notify>,
    client: reqwest::Client,
}

/// `sha256=` and the HMAC-SHA256, in hexadecimal, of `timestamp`, a dot and the body.
pub fn signature(secret: &SecretString, timestamp: i64, body: &str) -> Result<String> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(Error::internal)?;
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    Ok(format!("sha256={}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Pause before the next try after `attempts` of them.
fn pause_ms(attempts: i64) -> i64 {
    PAUSE_MS.saturating_mul(1 << attempts.clamp(0, 20)).min(PAUSE_MOST_MS)
}

impl Notifier {
    /// # Errors
    /// When the machine's certificates cannot be loaded.
    pub fn new(store: Store, keyring: Arc<Keyring>, told: Arc<Notify>) -> Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            // A webhook that moves is to be written anew: its messages are signed for one place.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| Error::internal(format!("the client for webhooks: {error}")))?;
        Ok(Self { store, keyring, told, client })
    }

    /// Works until `end`. A call in flight is then cut off: its message stays pending.
    pub async fn run(self, end: CancellationToken) {
        let this = Arc::new(self);
        let mut calls: JoinSet<()> = JoinSet::new();
        let mut busy: HashMap<tokio::task::Id, String> = HashMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                Some(ended) = calls.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    };
                    busy.remove(&id);
                }
                () = this.told.notified() => {}
                _ = tick.tick() => {}
            }
            let room = CALLS.saturating_sub(busy.len());
            if room == 0 {
                continue;
            }
            let names: Vec<String> = busy.values().cloned().collect();
            let due = match this.store.due_deliveries(&names, room as u32).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(%error, "alerts that are to be told could not be read; trying again");
                    continue;
                }
            };
            for delivery in due {
                let (this, rule) = (Arc::clone(&this), delivery.rule.clone());
                let handle = calls.spawn(async move { this.deliver(delivery).await });
                busy.insert(handle.id(), rule);
            }
        }
    }

    async fn deliver(&self, delivery: DeliveryRow) {
        let outcome = self.call(&delivery).await;
        let error = outcome.err();
        let now = now_ms();
        let next = (now - delivery.created_at < GIVE_UP_MS).then(|| now + pause_ms(delivery.attempts));
        if let Some(error) = &error {
            tracing::warn!(
                rule = delivery.rule,
                delivery = delivery.id,
                attempts = delivery.attempts + 1,
                error,
                "a webhook did not take an alert"
            );
        }
        if let Err(error) = self.store.delivery_tried(delivery.id, error.as_deref(), next).await {
            tracing::error!(%error, delivery = delivery.id, "the end of a webhook's call could not be kept");
        }
    }

    async fn call(&self, delivery: &DeliveryRow) -> std::result::Result<(), String> {
        let known = self.store.alert_rule(&delivery.rule).await.map_err(|error| error.to_string())?;
        let rule = known.ok_or("the rule is gone")?;
        let url = rule.rule.url.as_deref().ok_or("the rule has no webhook any more")?;
        let timestamp = now_ms() / 1000;
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("tidegate-delivery", delivery.id.to_string())
            .header("tidegate-timestamp", timestamp.to_string());
        if let Some(sealed) = &rule.secret {
            let secret = self
                .keyring
                .open(&rule_secret_place(&rule.name), sealed)
                .map_err(|error| error.to_string())?;
            let signature =
                signature(&secret, timestamp, &delivery.body).map_err(|error| error.to_string())?;
            request = request.header("tidegate-signature", signature);
        }
        // The URL may be known to few: it stays out of logs and of the answer's error.
        let response = request.body(delivery.body.clone()).send().await.map_err(|error| {
            let error = error.without_url();
            if error.is_timeout() {
                format!("no answer within {} s", PATIENCE.as_secs())
            } else {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                format!("{error}{}", cause.unwrap_or_default())
            }
        })?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(format!("it answered {}", response.status().as_u16()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_everybody_calculates() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'key'
        let found = signature(&SecretString::from("key"), 1_700_000_000, r#"{"a":1}"#).unwrap();
        assert_eq!(found, "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
    }

    #[test]
    fn pauses_grow_to_an_end() {
        assert_eq!([0, 1, 2, 100].map(pause_ms), [1000, 2000, 4000, 300_000]);
    }
}

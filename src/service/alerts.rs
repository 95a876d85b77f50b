//! Alert rules: kept with their secret sealed, tried by a test message.

use secrecy::ExposeSecret;

use super::{Answer, Refusal, Service, changed_meanwhile, expect_version};
use crate::observe;
use crate::observe::rule::AlertRuleInput;
use crate::store::alerts::{AlertEvent, RuleRow, rule_secret_place};
use crate::store::now_ms;
use crate::task::connection::SecretChange;
use crate::task::fault::Fault;

/// A rule as it was kept, and whether it is new.
#[derive(Debug)]
pub struct KeptRule {
    pub row: RuleRow,
    pub created: bool,
}

impl Service {
    pub async fn alert_rule(&self, name: &str) -> Answer<RuleRow> {
        self.store
            .alert_rule(name)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("there is no alert rule {name}")))
    }

    /// Creates or replaces a rule. `if_version`: only if it is still this version. With `dry_run` it is judged and shown.
    pub async fn put_alert_rule(
        &self,
        name: &str,
        input: AlertRuleInput,
        if_version: Option<i64>,
        dry_run: bool,
    ) -> Answer<KeptRule> {
        let current = self.store.alert_rule(name).await?;
        let what = format!("alert rule {name}");
        expect_version(&what, if_version, current.as_ref().map(|row| row.version))?;
        let (rule, change) = input.into_parts().map_err(Refusal::Invalid)?;
        let kept = current.as_ref().and_then(|row| row.secret.clone());
        let host = |url: &Option<String>| {
            let url = reqwest::Url::parse(url.as_deref()?).ok()?;
            Some((url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default()))
        };
        let moved = current.as_ref().is_some_and(|row| host(&row.rule.url) != host(&rule.url));
        let secret = match change {
            SecretChange::Keep if kept.is_some() && moved => {
                let detail = "a webhook on another host needs the secret again";
                let fault = Fault::new("/webhook/secret", "secret_required", detail);
                return Err(Refusal::SecretRequired(fault));
            }
            SecretChange::Keep => kept.clone(),
            SecretChange::Clear => None,
            SecretChange::Set(text) if text.expose_secret().is_empty() => None,
            SecretChange::Set(text) => {
                let place = rule_secret_place(name);
                let same = match &kept {
                    Some(sealed) => self
                        .keyring
                        .open(&place, sealed)
                        .is_ok_and(|old| old.expose_secret() == text.expose_secret()),
                    None => false,
                };
                // Sealed anew it would look like a change.
                if same {
                    kept.clone()
                } else {
                    Some(self.keyring.seal(&place, text.expose_secret().as_bytes())?)
                }
            }
        };
        if let Some(row) = &current
            && row.rule == rule
            && row.secret == secret
        {
            return Ok(KeptRule { row: row.clone(), created: false });
        }
        if dry_run {
            let now = now_ms();
            let row = RuleRow {
                name: name.to_owned(),
                rule,
                secret,
                version: current.as_ref().map_or(1, |row| row.version + 1),
                created_at: current.as_ref().map_or(now, |row| row.created_at),
                updated_at: now,
            };
            return Ok(KeptRule { row, created: false });
        }
        let version = current.as_ref().map(|row| row.version);
        if !self.store.put_alert_rule(name, &rule, secret.as_deref(), version).await? {
            return Err(changed_meanwhile(&what));
        }
        tracing::info!(rule = name, kind = rule.kind.as_str(), "alert rule kept");
        Ok(KeptRule { row: self.alert_rule(name).await?, created: current.is_none() })
    }

    /// `if_version`: only if it is still this version. With `dry_run` it is only looked whether it could be.
    pub async fn delete_alert_rule(&self, name: &str, if_version: Option<i64>, dry_run: bool) -> Answer<()> {
        let row = self.alert_rule(name).await?;
        expect_version(&format!("alert rule {name}"), if_version, Some(row.version))?;
        if dry_run {
            return Ok(());
        }
        if self.store.delete_alert_rule(name).await? {
            tracing::info!(rule = name, "alert rule deleted");
            return Ok(());
        }
        Err(Refusal::NotFound(format!("there is no alert rule {name}")))
    }

    /// Sends a test message to the rule's webhook, the same way as an alert.
    pub async fn test_alert_rule(&self, name: &str) -> Answer<()> {
        let row = self.alert_rule(name).await?;
        if row.rule.url.is_none() {
            let fault = Fault::new("/webhook", "required", "the rule has no webhook to be tried");
            return Err(Refusal::Invalid(vec![fault]));
        }
        let body = observe::message(None, AlertEvent::Test, None);
        self.store.enqueue_test(name, &body).await?;
        self.told.notify_one();
        Ok(())
    }
}

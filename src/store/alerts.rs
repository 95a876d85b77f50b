//! Alert rules, alerts, and what is to be told to webhooks.
//!
//! An alert and the message about it are written by one transaction, so neither a crash nor a webhook that does not answer loses
//! one or doubles it; a delivery is pending until the webhook has taken it.

use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::rows::{json as read_json, to_json, word};
use super::{Store, now_ms};
use crate::error::Result;
use crate::model::TaskId;
use crate::observe::rule::{AlertKind, Breach, Rule};

/// Alerts that are over and messages that are told are kept so long,
const KEPT_MS: i64 = 15 * 86_400_000;
/// and at most so many of each; the oldest go first.
const ROWS_MAX: i64 = 100_000;

/// Messages of one rule that may wait for its webhook.
const WAITING: i64 = 1000;

/// What a rule's sealed secret is bound to.
pub fn rule_secret_place(name: &str) -> String {
    format!("alert_rule/{name}/secret")
}

#[derive(Debug, Clone)]
pub struct RuleRow {
    pub name: String,
    pub rule: Rule,
    /// Sealed for `rule_secret_place(name)`.
    pub secret: Option<Vec<u8>>,
    pub version: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

fn read_rule(row: &SqliteRow) -> Result<RuleRow> {
    Ok(RuleRow {
        name: row.try_get("name")?,
        rule: read_json(row, "rule")?,
        secret: row.try_get("secret")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    Firing,
    Resolved,
}

impl AlertState {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "firing" => Some(Self::Firing),
            "resolved" => Some(Self::Resolved),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

#[derive(Debug, Clone)]
pub struct AlertRow {
    pub id: i64,
    pub rule: String,
    pub kind: AlertKind,
    pub task_id: TaskId,
    pub task_name: String,
    pub state: AlertState,
    pub since: i64,
    pub resolved_at: Option<i64>,
    pub breach: Breach,
    pub told_at: i64,
}

fn read_alert(row: &SqliteRow) -> Result<AlertRow> {
    Ok(AlertRow {
        id: row.try_get("id")?,
        rule: row.try_get("rule")?,
        kind: word(row, "kind", AlertKind::parse)?,
        task_id: TaskId(row.try_get("task_id")?),
        task_name: row.try_get("task_name")?,
        state: word(row, "state", AlertState::parse)?,
        since: row.try_get("since")?,
        resolved_at: row.try_get("resolved_at")?,
        breach: Breach {
            value: row.try_get("value")?,
            threshold: row.try_get("threshold")?,
            detail: row.try_get("detail")?,
        },
        told_at: row.try_get("told_at")?,
    })
}

/// Why a webhook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    Firing,
    Repeated,
    Resolved,
    Test,
}

impl AlertEvent {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Firing, Self::Repeated, Self::Resolved, Self::Test]
            .into_iter()
            .find(|event| event.as_str() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up after a day.
    Failed,
}

impl DeliveryState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|state| state.as_str() == word)
    }
}

#[derive(Debug, Clone)]
pub struct DeliveryRow {
    pub id: i64,
    pub rule: String,
    pub event: AlertEvent,
    pub body: String,
    pub state: DeliveryState,
    pub attempts: i64,
    pub next_at: i64,
    pub error: Option<String>,
    pub created_at: i64,
    pub delivered_at: Option<i64>,
}

fn read_delivery(row: &SqliteRow) -> Result<DeliveryRow> {
    Ok(DeliveryRow {
        id: row.try_get("id")?,
        rule: row.try_get("rule")?,
        event: word(row, "event", AlertEvent::parse)?,
        body: row.try_get("body")?,
        state: word(row, "state", DeliveryState::parse)?,
        attempts: row.try_get("attempts")?,
        next_at: row.try_get("next_at")?,
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        delivered_at: row.try_get("delivered_at")?,
    })
}

/// What a look at the tasks changes. `tell` makes the body for the webhook, if there is one.
pub enum AlertChange {
    Fire { alert: AlertRow, tell: bool },
    Repeat { alert: AlertRow, tell: bool },
    Resolve { alert: AlertRow, tell: bool },
}

async fn enqueue(
    connection: &mut SqliteConnection,
    rule: &str,
    alert: Option<i64>,
    event: AlertEvent,
    body: &str,
) -> Result<()> {
    let now = now_ms();
    sqlx::query(
        "insert into alert_deliveries (rule, alert_id, event, body, state, next_at, created_at)
         values (?1, ?2, ?3, ?4, 'pending', ?5, ?5)",
    )
    .bind(rule)
    .bind(alert)
    .bind(event.as_str())
    .bind(body)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    // A webhook that is gone for long does not fill the store.
    sqlx::query(
        "update alert_deliveries set state = 'failed', error = 'too many messages wait for this webhook'
         where state = 'pending' and rule = ?1 and id <= (select id from alert_deliveries where state = 'pending' and rule = ?1
         order by id desc limit 1 offset ?2)",
    )
    .bind(rule)
    .bind(WAITING)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

impl Store {
    pub async fn alert_rule(&self, name: &str) -> Result<Option<RuleRow>> {
        let row = sqlx::query("select * from alert_rules where name = ?")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read_rule).transpose()
    }

    /// Rules in the order of their names, after the given one.
    pub async fn alert_rules_after(&self, name: &str, limit: u32) -> Result<Vec<RuleRow>> {
        let rows = sqlx::query("select * from alert_rules where name > ? order by name limit ?")
            .bind(name)
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read_rule).collect()
    }

    /// Creates or replaces a rule if its version is still the expected one (None = it does not exist). False when somebody else
    /// was faster.
    pub async fn put_alert_rule(
        &self,
        name: &str,
        rule: &Rule,
        secret: Option<&[u8]>,
        expected_version: Option<i64>,
    ) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let sql = match expected_version {
            None => {
                "insert into alert_rules (name, rule, secret, created_at, updated_at) values (?1, ?2, ?3, ?4, ?4)
                 on conflict (name) do nothing"
            }
            Some(_) => {
                "update alert_rules set rule = ?2, secret = ?3, updated_at = ?4, version = version + 1
                 where name = ?1 and version = ?5"
            }
        };
        let mut query = sqlx::query(sql).bind(name).bind(to_json(rule)?).bind(secret).bind(now_ms());
        if let Some(version) = expected_version {
            query = query.bind(version);
        }
        if query.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let verb = if expected_version.is_none() { "created" } else { "changed" };
        let (message, detail) = (format!("alert rule {name} {verb}"), json!({"alert_rule": name}));
        super::events::insert(&mut transaction, None, "alert_rule", None, &message, &detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Deletes a rule, and what is still to be told by it. Its alerts are resolved by the next look.
    pub async fn delete_alert_rule(&self, name: &str) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query("delete from alert_rules where name = ?")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("delete from alert_deliveries where rule = ? and state = 'pending'")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        let (message, detail) = (format!("alert rule {name} deleted"), json!({"alert_rule": name}));
        super::events::insert(&mut transaction, None, "alert_rule", None, &message, &detail).await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub async fn firing_alerts(&self) -> Result<Vec<AlertRow>> {
        let rows = sqlx::query("select * from alerts where state = 'firing'").fetch_all(&self.reader).await?;
        rows.iter().map(read_alert).collect()
    }

    pub async fn alert(&self, id: i64) -> Result<Option<AlertRow>> {
        let row =
            sqlx::query("select * from alerts where id = ?").bind(id).fetch_optional(&self.reader).await?;
        row.as_ref().map(read_alert).transpose()
    }

    /// Alerts with a smaller id, from the newest.
    pub async fn alerts_before(
        &self,
        id: i64,
        state: Option<AlertState>,
        rule: Option<&str>,
        task: Option<&TaskId>,
        limit: u32,
    ) -> Result<Vec<AlertRow>> {
        let rows = sqlx::query(
            "select * from alerts where id < ?1 and (?2 is null or state = ?2) and (?3 is null or rule = ?3)
             and (?4 is null or task_id = ?4) order by id desc limit ?5",
        )
        .bind(id)
        .bind(state.map(AlertState::as_str))
        .bind(rule)
        .bind(task.map(|task| task.0.as_str()))
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_alert).collect()
    }

    /// Number of alerts that fire, by rule.
    pub async fn firing_counts(&self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query(
            "select rule, count(*) as n from alerts where state = 'firing' group by rule order by rule",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("rule")?, row.try_get("n")?))).collect()
    }

    /// Carries out what a look has found, with the messages to be sent, in one transaction. `body` writes a message.
    pub async fn change_alerts(
        &self,
        changes: &[AlertChange],
        now: i64,
        body: impl Fn(&AlertRow, AlertEvent) -> String,
    ) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        for change in changes {
            let (mut alert, event, tell) = match change {
                AlertChange::Fire { alert, tell } => (alert.clone(), AlertEvent::Firing, *tell),
                AlertChange::Repeat { alert, tell } => (alert.clone(), AlertEvent::Repeated, *tell),
                AlertChange::Resolve { alert, tell } => (alert.clone(), AlertEvent::Resolved, *tell),
            };
            match event {
                AlertEvent::Firing => {
                    alert.id = sqlx::query_scalar(
                        "insert into alerts (rule, kind, task_id, task_name, state, since, value, threshold, unit, detail, told_at)
                         values (?, ?, ?, ?, 'firing', ?, ?, ?, ?, ?, ?) returning id",
                    )
                    .bind(&alert.rule)
                    .bind(alert.kind.as_str())
                    .bind(&alert.task_id.0)
                    .bind(&alert.task_name)
                    .bind(alert.since)
                    .bind(alert.breach.value)
                    .bind(alert.breach.threshold)
                    .bind(alert.kind.unit())
                    .bind(&alert.breach.detail)
                    .bind(now)
                    .fetch_one(&mut *transaction)
                    .await?;
                }
                AlertEvent::Repeated => {
                    sqlx::query("update alerts set value = ?, detail = ?, told_at = ? where id = ?")
                        .bind(alert.breach.value)
                        .bind(&alert.breach.detail)
                        .bind(now)
                        .bind(alert.id)
                        .execute(&mut *transaction)
                        .await?;
                }
                AlertEvent::Resolved | AlertEvent::Test => {
                    sqlx::query("update alerts set state = 'resolved', resolved_at = ? where id = ?")
                        .bind(now)
                        .bind(alert.id)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
            if event != AlertEvent::Repeated {
                let verb = if event == AlertEvent::Firing { "fires" } else { "is over" };
                let message = format!("alert {} {verb}: {}", alert.rule, alert.breach.detail);
                let detail = json!({"alert": alert.id, "rule": alert.rule, "kind": alert.kind.as_str()});
                let task = Some(alert.task_id.0.as_str());
                super::events::insert(&mut transaction, task, "alert", None, &message, &detail).await?;
            }
            // A webhook that is behind is not told the same again and again.
            let waiting: bool = sqlx::query_scalar(
                "select exists (select 1 from alert_deliveries where alert_id = ? and state = 'pending')",
            )
            .bind(alert.id)
            .fetch_one(&mut *transaction)
            .await?;
            if tell && !(waiting && event == AlertEvent::Repeated) {
                enqueue(&mut transaction, &alert.rule, Some(alert.id), event, &body(&alert, event)).await?;
            }
        }
        transaction.commit().await
    }

    /// Forgets alerts that are over and messages that wait no more, where they are too old or too many. A message of an alert goes
    /// with it, and earlier where the alert goes on and on.
    pub async fn trim_alerts(&self) -> Result<()> {
        let oldest = now_ms() - KEPT_MS;
        for trim in [
            "delete from alerts where state = 'resolved' and (resolved_at < ?1 or id <= (select max(id) from alerts) - ?2)",
            "delete from alert_deliveries where state <> 'pending'
             and (created_at < ?1 or id <= (select max(id) from alert_deliveries) - ?2)",
        ] {
            self.writer.execute(sqlx::query(trim).bind(oldest).bind(ROWS_MAX)).await?;
        }
        Ok(())
    }

    /// A message that is about no alert.
    pub async fn enqueue_test(&self, rule: &str, body: &str) -> Result<()> {
        let mut write = self.writer.begin().await?;
        enqueue(&mut write, rule, None, AlertEvent::Test, body).await?;
        write.commit().await
    }

    /// Of each rule that is not busy the oldest message that is due.
    pub async fn due_deliveries(&self, busy: &[String], limit: u32) -> Result<Vec<DeliveryRow>> {
        let rows = sqlx::query(
            "select * from alert_deliveries where id in (select min(id) from alert_deliveries where state = 'pending'
             and rule not in (select value from json_each(?1)) group by rule) and next_at <= ?2 order by next_at limit ?3",
        )
        .bind(to_json(&busy)?)
        .bind(now_ms())
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_delivery).collect()
    }

    /// The end of a try: `error` is None when the webhook took the message; `next_at` None gives up.
    pub async fn delivery_tried(&self, id: i64, error: Option<&str>, next_at: Option<i64>) -> Result<()> {
        let state = match (error, next_at) {
            (None, _) => DeliveryState::Delivered,
            (Some(_), Some(_)) => DeliveryState::Pending,
            (Some(_), None) => DeliveryState::Failed,
        };
        let now = now_ms();
        self.writer.execute(sqlx::query(
            "update alert_deliveries set state = ?1, attempts = attempts + 1, error = ?2, next_at = ?3,
             delivered_at = case when ?1 = 'delivered' then ?4 end where id = ?5",
        )
        .bind(state.as_str())
        .bind(error)
        .bind(next_at.unwrap_or(now))
        .bind(now)
        .bind(id))
        .await?;
        Ok(())
    }

    /// What was and is to be told of an alert.
    pub async fn deliveries_of(&self, alert: i64) -> Result<Vec<DeliveryRow>> {
        let rows =
            sqlx::query("select * from alert_deliveries where alert_id = ? order by id desc limit 100")
                .bind(alert)
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(read_delivery).collect()
    }

    /// The last messages of a rule, from the newest: those of its tests too.
    pub async fn deliveries_of_rule(&self, rule: &str) -> Result<Vec<DeliveryRow>> {
        let rows = sqlx::query("select * from alert_deliveries where rule = ? order by id desc limit 20")
            .bind(rule)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read_delivery).collect()
    }
}

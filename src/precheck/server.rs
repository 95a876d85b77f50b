//! Questions to TiDB or a target over one session that is opened again when a question was cut off.
//!
//! Answers are taken as text: converting a column into a Rust type panics in the driver when the server sends another one.

use std::time::{Duration, Instant};

use mysql_async::{Row, Value};

use super::finding::{Finding, duration};
use super::grants::Grants;
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::MysqlEndpoint;
use crate::mysql::{Classify, Session};

/// Time for one answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Server {
    endpoint: MysqlEndpoint,
    side: Endpoint,
    session: Option<Session>,
}

impl Server {
    pub fn new(endpoint: &MysqlEndpoint, side: Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), side, session: None }
    }

    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    pub fn place(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }

    fn classify(&self) -> Classify {
        match self.side {
            Endpoint::Source => crate::tidb::classify,
            Endpoint::Kafka | Endpoint::Target | Endpoint::Store => crate::adb::classify,
        }
    }

    /// ANSI_QUOTES and their like would change what SHOW CREATE TABLE prints.
    fn setup(&self) -> &'static [&'static str] {
        match self.side {
            Endpoint::Source => &["SET SESSION sql_mode = ''"],
            Endpoint::Kafka | Endpoint::Target | Endpoint::Store => &[],
        }
    }

    /// Logs in unless a usable session is there.
    pub async fn connect(&mut self) -> Result<()> {
        self.session().await.map(|_| ())
    }

    /// A usable session, opened again where the last one broke.
    pub async fn session(&mut self) -> Result<&mut Session> {
        let session = match self.session.take() {
            Some(session) if !session.is_broken() => session,
            _ => Session::connect(&self.endpoint, self.side, self.classify(), self.setup()).await?,
        };
        Ok(self.session.insert(session))
    }

    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        let side = self.side;
        let session = self.session().await?;
        match tokio::time::timeout(QUERY_TIMEOUT, session.execute(sql)).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(too_slow(side)),
        }
    }

    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Answer>> {
        let side = self.side;
        let session = self.session().await?;
        match tokio::time::timeout(QUERY_TIMEOUT, session.query::<Row>(sql)).await {
            Ok(result) => result.map(|rows| rows.into_iter().map(Answer).collect()),
            Err(_) => Err(too_slow(side)),
        }
    }

    /// The first column of the first row, as text; None for NULL and for no row.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.rows(sql).await?.first().and_then(|row| row.text(0)))
    }

    /// The value of a system variable; None when the server does not know it.
    pub async fn variable(&mut self, name: &str) -> Result<Option<String>> {
        match self.value(&format!("SELECT @@GLOBAL.{name}")).await {
            Err(error) if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::AccessDenied) => {
                Err(error)
            }
            Err(_) => Ok(None),
            found => found,
        }
    }

    pub async fn version(&mut self) -> Result<String> {
        Ok(self.value("SELECT VERSION()").await?.unwrap_or_default())
    }

    /// What this login may do, roles that are active on login included.
    pub async fn grants(&mut self) -> Result<Grants> {
        let mut grants = self.show_grants("SHOW GRANTS").await?;
        if grants.roles.is_empty() {
            return Ok(grants);
        }
        // TiDB and MySQL leave the privileges of roles out unless they are named; MariaDB shows those of the active role anyway,
        // and answers CURRENT_ROLE() without a host.
        let active = self.value("SELECT CURRENT_ROLE()").await.ok().flatten();
        if let Some(active) = active.filter(|role| role.contains('@'))
            && let Ok(by_role) =
                self.show_grants(&format!("SHOW GRANTS FOR CURRENT_USER() USING {active}")).await
        {
            grants.merge(by_role);
        }
        Ok(grants)
    }

    async fn show_grants(&mut self, sql: &str) -> Result<Grants> {
        let lines: Vec<String> = self.rows(sql).await?.iter().filter_map(|row| row.text(0)).collect();
        Ok(Grants::parse(lines.iter().map(String::as_str)))
    }

    /// Milliseconds by which the server's clock is ahead of ours, and the round trip that the answer took.
    pub async fn clock(&mut self) -> Result<Option<(i64, Duration)>> {
        let (before, started) = (crate::precheck::now_ms(), Instant::now());
        let seconds = match self.value("SELECT UNIX_TIMESTAMP(NOW(6))").await {
            Err(error) if error.kind != ErrorKind::Unreachable => self.value("SELECT UNIX_TIMESTAMP()").await,
            answer => answer,
        }?;
        let round_trip = started.elapsed();
        let server_ms = seconds.and_then(|text| text.parse::<f64>().ok()).map(|s| (s * 1000.0) as i64);
        Ok(server_ms.map(|ms| (ms - before - round_trip.as_millis() as i64 / 2, round_trip)))
    }

    pub async fn close(self) {
        if let Some(session) = self.session {
            // The server closes its side either way; a dead one must not hold us.
            let _ = tokio::time::timeout(Duration::from_secs(2), session.close()).await;
        }
    }
}

fn too_slow(side: Endpoint) -> Error {
    Error::new(ErrorKind::Unreachable, format!("no answer to a query within {} s", QUERY_TIMEOUT.as_secs()))
        .endpoint(side)
}

/// One row.
#[derive(Debug)]
pub(super) struct Answer(Row);

impl Answer {
    pub fn text(&self, index: usize) -> Option<String> {
        match self.0.as_ref(index)? {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        }
    }

    /// Like [`Self::text`], "" for NULL.
    pub fn string(&self, index: usize) -> String {
        self.text(index).unwrap_or_default()
    }

    pub fn number(&self, index: usize) -> Option<u64> {
        self.text(index).and_then(|text| text.parse().ok())
    }

    /// By the column's name, without case: answers of SHOW differ from version to version.
    pub fn named(&self, name: &str) -> Option<String> {
        let is_it = |column: &mysql_async::Column| column.name_str().eq_ignore_ascii_case(name);
        self.text(self.0.columns_ref().iter().position(is_it)?)
    }
}

/// A login that did not come about, in words that name who tried what where.
pub(super) fn login_failure(error: &Error, server: &Server) -> Finding {
    let (user, place) = (server.user(), server.place());
    let (detail, hint) = match (error.kind, error.code) {
        (ErrorKind::AccessDenied, Some(1130)) => (
            format!("{place} takes no logins from this host: {}", error.message),
            "create the account for this host (or '%'), and add this host to the server's whitelist".to_owned(),
        ),
        (ErrorKind::AccessDenied, Some(_)) => (
            format!("{place} refused the login of user {user}: {}", error.message),
            "check user and password of the connection, and that the account may log in from this host".to_owned(),
        ),
        (ErrorKind::AccessDenied, None) => (
            format!("no encrypted connection to {place}: {}", error.message),
            "check tls.mode and tls.ca of the connection against the server's certificate".to_owned(),
        ),
        (ErrorKind::Unreachable, None) => (
            format!("{place} cannot be reached: {}", error.message),
            "check host and port of the connection, that the server runs, and that firewall and whitelist let this host in"
                .to_owned(),
        ),
        _ => (
            format!("{place} did not let user {user} in: {}", error.message),
            error.hint.clone().unwrap_or_else(|| "look at the server's log".to_owned()),
        ),
    };
    Finding::fail(detail, hint).outage(error.kind == ErrorKind::Unreachable)
}

/// `in step with ours` or how far off.
pub(super) fn clock_words(skew_ms: i64, round_trip: Duration) -> String {
    let certain_ms = round_trip.as_millis() as u64 / 2 + 1;
    if skew_ms.unsigned_abs() <= certain_ms.max(500) {
        return format!(
            "the server's clock agrees with ours to {}",
            duration(certain_ms.max(skew_ms.unsigned_abs()))
        );
    }
    let side = if skew_ms > 0 { "ahead of" } else { "behind" };
    format!("the server's clock is {} {side} ours", duration(skew_ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_within_the_round_trip() {
        let rtt = Duration::from_millis(10);
        assert_eq!(clock_words(3, rtt), "the server's clock agrees with ours to 6 ms");
        assert_eq!(clock_words(-90_000, rtt), "the server's clock is 90 s behind ours");
    }
}

//! What the cluster says about itself: the garbage collection safe point and its Drainers.

use mysql_async::Row;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, Tso};
use crate::mysql::Session;
use crate::tidb::Source;

/// ER_UNKNOWN_SYSTEM_VARIABLE.
const UNKNOWN_VARIABLE: u16 = 1193;

/// One line of SHOW DRAINER STATUS. Every transaction up to `max_commit_ts` is in the topic (source-drainer.md 2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainerStatus {
    pub node_id: String,
    /// online, pausing, paused, closing, offline
    pub state: String,
    pub max_commit_ts: Tso,
    /// As the server prints it, in +00:00.
    pub update_time: String,
}

impl Source {
    /// Time below which the source has thrown old versions away; None when it has never collected.
    ///
    /// # Errors
    /// `AccessDenied` without SELECT on mysql.tidb.
    pub async fn gc_safe_point(&self) -> Result<Option<Tso>> {
        let mut session = self.session().await?;
        let text: Option<String> = session
            .first("SELECT VARIABLE_VALUE FROM mysql.tidb WHERE VARIABLE_NAME = 'tikv_gc_safe_point'")
            .await
            .map_err(|error| {
                let denied = error.kind == ErrorKind::AccessDenied;
                let error = error.object("mysql.tidb");
                if denied {
                    error.hint("GRANT SELECT ON mysql.tidb to the source user, so that the age of snapshots can be checked")
                } else {
                    error
                }
            })?;
        session.close().await;
        text.filter(|text| !text.is_empty()).map(|text| safe_point(&text)).transpose()
    }

    /// How long the source keeps old versions that no open transaction holds, in milliseconds; None when it does not tell.
    pub async fn gc_life_ms(&self) -> Result<Option<i64>> {
        let mut session = self.session().await?;
        // A variable since 5.0, before that a row.
        let text: Option<String> = match session.first("SELECT @@GLOBAL.tidb_gc_life_time").await {
            Err(error) if error.code == Some(UNKNOWN_VARIABLE) => {
                session
                    .first("SELECT VARIABLE_VALUE FROM mysql.tidb WHERE VARIABLE_NAME = 'tikv_gc_life_time'")
                    .await?
            }
            told => told?,
        };
        session.close().await;
        Ok(text.and_then(|text| go_seconds(&text)).and_then(|seconds| i64::try_from(seconds * 1000).ok()))
    }
}

/// A duration as Go writes it (`10m0s`, `72h`), in seconds.
pub fn go_seconds(text: &str) -> Option<u64> {
    let mut total = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total += std::mem::take(&mut digits).parse::<u64>().ok()? * unit;
    }
    digits.is_empty().then_some(total)
}

/// The time up to which every Drainer has put all transactions into its topic: the minimum, since which of them feeds the task's
/// topic is not known (design.md 10.16). One that went offline before `since` feeds nothing the task waits for; one that did
/// later may be ours. None without a Drainer.
pub fn resolved(drainers: &[DrainerStatus], since: Tso) -> Option<Tso> {
    drainers
        .iter()
        .filter(|drainer| !drainer.state.eq_ignore_ascii_case("offline") || drainer.max_commit_ts > since)
        .map(|drainer| drainer.max_commit_ts)
        .min()
}

/// What the Drainers of a cluster say of themselves. `session` is opened when it is None, and kept for the next call unless it breaks.
///
/// # Errors
/// Those of the server; `AccessDenied` also without REPLICATION CLIENT, with a session that stays.
pub async fn drainers(source: &MysqlEndpoint, session: &mut Option<Session>) -> Result<Vec<DrainerStatus>> {
    let mut open = match session.take() {
        Some(open) => open,
        None => Source::new(source.clone()).session().await?,
    };
    let told = status(&mut open).await;
    if told.as_ref().err().is_none_or(|error| error.kind == ErrorKind::AccessDenied) {
        *session = Some(open);
    }
    told
}

async fn status(session: &mut Session) -> Result<Vec<DrainerStatus>> {
    let rows: Vec<Row> = session.query("SHOW DRAINER STATUS").await.map_err(|error| {
        let error = error.object("SHOW DRAINER STATUS");
        match error.kind {
            ErrorKind::AccessDenied => error.hint("GRANT REPLICATION CLIENT ON *.* to the source user"),
            ErrorKind::Unreachable => error,
            _ => error.hint(
                "TiDB up to 8.3 knows this statement; without it lag is unknown while the source is idle",
            ),
        }
    })?;
    rows.iter().map(drainer).collect()
}

fn drainer(row: &Row) -> Result<DrainerStatus> {
    let text = |name: &str| row.get_opt::<String, _>(name).and_then(std::result::Result::ok);
    let read = || {
        Some(DrainerStatus {
            node_id: text("NodeID")?,
            state: text("State")?,
            max_commit_ts: Tso(text("Max_Commit_Ts")?.parse().ok()?),
            update_time: text("Update_Time").unwrap_or_default(),
        })
    };
    read().ok_or_else(|| {
        Error::new(ErrorKind::StatementRefused, "SHOW DRAINER STATUS has columns that are not understood")
            .endpoint(crate::error::Endpoint::Source)
    })
}

/// `20240131-12:00:00 +0800`, since 6.x with milliseconds.
fn safe_point(text: &str) -> Result<Tso> {
    chrono::DateTime::parse_from_str(text, "%Y%m%d-%H:%M:%S%.f %z")
        .map(|at| Tso::from_physical_ms(at.timestamp_millis()))
        .map_err(|_| {
            Error::new(ErrorKind::StatementRefused, "tikv_gc_safe_point in mysql.tidb is not a time")
                .endpoint(crate::error::Endpoint::Source)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_points_of_old_and_new_versions_are_read() {
        assert_eq!(safe_point("20240131-12:00:00 +0800").unwrap(), Tso::from_physical_ms(1_706_673_600_000));
        assert_eq!(
            safe_point("20240131-04:00:00.250 +0000").unwrap(),
            Tso::from_physical_ms(1_706_673_600_250)
        );
        assert!(safe_point("soon").is_err());
    }
}

//! What the cluster says about itself: the garbage collection safe point and its Drainers.

use mysql_async::Row;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, Tso};
use crate::mysql::Session;
use crate::tidb::Source;

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

    /// All Drainers that the cluster knows, with where each one stands.
    pub async fn drainer_status(&self) -> Result<Vec<DrainerStatus>> {
        let mut session = self.session().await?;
        let drainers = drainers(&mut session).await?;
        session.close().await;
        Ok(drainers)
    }
}

/// The time up to which every Drainer has put all transactions into its topic: the minimum, since which of them feeds the task's
/// topic is not known (design.md 10.16). One that went offline before `since` feeds nothing the task waits for; one that did
/// later may be ours. None without a Drainer. `session` is opened when it is None and kept for the next call.
pub async fn max_commit_ts(
    source: &MysqlEndpoint,
    since: Tso,
    session: &mut Option<Session>,
) -> Result<Option<Tso>> {
    let mut open = match session.take() {
        Some(open) => open,
        None => Source::new(source.clone()).session().await?,
    };
    let drainers = drainers(&mut open).await?;
    *session = Some(open);
    Ok(drainers
        .iter()
        .filter(|drainer| !drainer.state.eq_ignore_ascii_case("offline") || drainer.max_commit_ts > since)
        .map(|drainer| drainer.max_commit_ts)
        .min())
}

async fn drainers(session: &mut Session) -> Result<Vec<DrainerStatus>> {
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

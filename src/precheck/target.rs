//! `target.*`: will the target take what a task writes?

use std::collections::BTreeSet;

use super::finding::{Finding, bounded, bytes, counted};
use super::server::{Server, clock_words, login_failure};
use crate::adb::ADB_STATEMENT;
use crate::adb::dialect::{target_session_setup, verify};
use crate::error::{ErrorKind, Result};
use crate::model::Dialect;
use crate::sql::literal;
use crate::task::spec::{Spec, TablesWithoutKey};

/// Connections of a task besides its writers: DDL, inspection.
const OTHER_CONNECTIONS: u64 = 2;

/// Ids of [`checks`] but `target.connect`, for when there is no login.
const AFTER_LOGIN: [&str; 6] = [
    "target.version",
    "target.session",
    "target.connections",
    "target.read_only",
    "target.clock",
    "target.disk",
];

/// Everything that needs no list of tables.
pub(super) async fn checks(
    server: &mut Server,
    spec: &Spec,
    dialect: Dialect,
) -> Vec<(&'static str, Finding)> {
    if let Err(error) = server.connect().await {
        let failed = ("target.connect", login_failure(&error, server));
        let skipped = AFTER_LOGIN.map(|id| (id, Finding::skipped("no login to the target")));
        return std::iter::once(failed).chain(skipped).collect();
    }
    let connected = Finding::pass(format!("logged in to {} as {}", server.place(), server.user()));
    let version = bounded(version(server, dialect), |error| Finding::unreadable("the version", error)).await;
    let session = bounded(session(server, spec, dialect), |error| {
        Finding::fail(
            format!("a session cannot be made what every session of a task needs to be: {error}"),
            error.hint.clone().unwrap_or_else(|| {
                "the login must be allowed to set sql_mode, time_zone and foreign_key_checks for its session".to_owned()
            }),
        )
    })
    .await;
    let connections =
        bounded(connections(server, spec), |error| Finding::unreadable("the number of connections", error))
            .await;
    let read_only = bounded(read_only(server), |error| Finding::unreadable("read_only", error)).await;
    let clock = bounded(clock(server), |error| Finding::unreadable("the clock", error)).await;
    vec![
        ("target.connect", connected),
        ("target.version", version),
        ("target.session", session),
        ("target.connections", connections),
        ("target.read_only", read_only),
        ("target.clock", clock),
        ("target.disk", disk(dialect)),
    ]
}

pub(super) async fn version(server: &mut Server, dialect: Dialect) -> Result<Finding> {
    let text = server.version().await?;
    let adb = match server.value("SELECT adb_version()").await {
        Ok(version) => version,
        Err(error) if error.kind == ErrorKind::Unreachable => return Err(error),
        Err(_) => None,
    };
    let comment = server.value("SELECT @@version_comment").await.ok().flatten().unwrap_or_default();
    Ok(judge_version(&text, &comment, adb.as_deref(), dialect))
}

fn judge_version(text: &str, comment: &str, adb: Option<&str>, dialect: Dialect) -> Finding {
    let other =
        [("mariadb", "MariaDB"), ("tidb", "TiDB"), ("percona", "Percona"), ("mysql community", "MySQL")]
            .into_iter()
            .find(|(mark, _)| format!("{text} {comment}").to_lowercase().contains(mark))
            .map(|(_, name)| name);
    match (dialect, adb, other) {
        (Dialect::Adb, Some(version), _) => Finding::pass(format!("AnalyticDB for MySQL {version}")),
        (Dialect::Adb, None, Some(name)) => Finding::fail(
            format!("the connection is of kind adb, the server is {name} {text}"),
            "use a connection of kind mysql for this server",
        ),
        (Dialect::Adb, None, None) => Finding::pass(format!("the server calls itself {text}")),
        (Dialect::Mysql, Some(version), _) => Finding::fail(
            format!("the connection is of kind mysql, the server is AnalyticDB for MySQL {version}"),
            "use a connection of kind adb for this server",
        ),
        (Dialect::Mysql, None, name) => judge_mysql(text, name.unwrap_or("MySQL")),
    }
}

/// Fractional seconds came with MySQL 5.6.4 and MariaDB 5.3, the JSON type with 5.7.8 and 10.2.7.
fn judge_mysql(text: &str, name: &str) -> Finding {
    let mut numbers =
        text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0);
    let version = (next(), next(), next());
    let named = format!("{name} {text}");
    match name {
        "TiDB" => Finding::pass(named),
        "MariaDB" if version < (10, 2, 7) => old(named, "MariaDB 10.2.7"),
        "MariaDB" => Finding::pass(named),
        _ if version < (5, 6, 4) => Finding::fail(
            format!("{named} knows no fractional seconds"),
            "use MySQL 5.7.8 or later as the target",
        ),
        _ if version < (5, 7, 8) => old(named, "MySQL 5.7.8"),
        _ => Finding::pass(named),
    }
}

fn old(named: String, since: &str) -> Finding {
    Finding::note(
        format!("{named} has no JSON type"),
        format!("tables with JSON columns need {since} or later"),
    )
}

async fn session(server: &mut Server, spec: &Spec, dialect: Dialect) -> Result<Finding> {
    for statement in target_session_setup(dialect) {
        server.execute(&statement).await.map_err(|error| error.object(statement))?;
    }
    verify(server.session().await?, dialect).await?;
    let packet = server.variable("max_allowed_packet").await?.and_then(|text| text.parse().ok());
    Ok(judge_session(u64::from(spec.tuning.batch_bytes), packet, dialect))
}

/// A statement grows past `batch_bytes` by its last row and by what is escaped: twice the size is safe.
fn judge_session(batch: u64, packet: Option<u64>, dialect: Dialect) -> Finding {
    let limit = ADB_STATEMENT as u64;
    if dialect == Dialect::Adb && batch > limit {
        return Finding::fail(
            format!(
                "tuning.batch_bytes is {}, AnalyticDB takes statements of {}",
                bytes(batch),
                bytes(limit)
            ),
            format!("set tuning.batch_bytes to at most {limit}"),
        );
    }
    match packet {
        Some(packet) if dialect == Dialect::Mysql && packet < batch.saturating_mul(2) => Finding::warn(
            format!("max_allowed_packet is {}, statements are of {} and more", bytes(packet), bytes(batch)),
            format!(
                "SET GLOBAL max_allowed_packet = {} on the target (and in its configuration), or lower tuning.batch_bytes to {}",
                (batch * 2).next_power_of_two(),
                packet / 2
            ),
        ),
        Some(packet) => Finding::pass(format!(
            "a session can be set up; max_allowed_packet is {} for statements of {}",
            bytes(packet),
            bytes(batch)
        )),
        None => Finding::pass(format!("a session can be set up; statements are of {}", bytes(batch))),
    }
}

async fn connections(server: &mut Server, spec: &Spec) -> Result<Finding> {
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    // 0 stands for no limit.
    let most = number(server.variable("max_connections").await?).filter(|most| *most > 0);
    let of_user = number(server.variable("max_user_connections").await?).filter(|most| *most > 0);
    let used = match server.rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await {
        Err(error) if error.kind == ErrorKind::Unreachable => return Err(error),
        rows => rows.ok().and_then(|rows| rows.first().and_then(|row| row.number(1))),
    };
    Ok(judge_connections(u64::from(spec.tuning.connections) + OTHER_CONNECTIONS, most, of_user, used))
}

fn judge_connections(wanted: u64, most: Option<u64>, of_user: Option<u64>, used: Option<u64>) -> Finding {
    let limit = [("max_connections", most), ("max_user_connections", of_user)]
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)))
        .min_by_key(|(_, limit)| *limit);
    let needs = format!("the task opens up to {}", counted(wanted, "connection"));
    let Some((name, limit)) = limit else {
        return Finding::pass(format!("{needs}; the target tells no limit"));
    };
    let hint = || format!("raise {name} on the target, or lower tuning.connections");
    if limit < wanted {
        return Finding::fail(format!("{needs}, {name} is {limit}"), hint());
    }
    match (most, used) {
        (Some(most), Some(used)) if most.saturating_sub(used) < wanted => {
            Finding::warn(format!("{needs}, {used} of {most} are in use"), hint())
        }
        (_, Some(used)) => Finding::pass(format!("{needs}; {name} is {limit}, {used} are in use")),
        (_, None) => Finding::pass(format!("{needs}; {name} is {limit}")),
    }
}

async fn read_only(server: &mut Server) -> Result<Finding> {
    let mut on = Vec::new();
    for name in ["read_only", "super_read_only", "tidb_restricted_read_only", "tidb_super_read_only"] {
        if matches!(server.variable(name).await?.as_deref(), Some("1" | "ON")) {
            on.push(name);
        }
    }
    let grants = if on.is_empty() { None } else { server.grants().await.ok() };
    let passes = |privilege| grants.as_ref().is_some_and(|grants| grants.allows_global(privilege));
    Ok(match on.as_slice() {
        [] => Finding::pass("the target takes writes"),
        ["read_only"]
            if ["SUPER", "CONNECTION_ADMIN", "READ ONLY ADMIN", "READ_ONLY ADMIN"]
                .into_iter()
                .any(passes) =>
        {
            Finding::note(
                "read_only is on, this login may write all the same",
                "make sure that the target is not a replica of something else",
            )
        }
        names => Finding::fail(
            format!("the target takes no writes: {} is on", names.join(" and ")),
            format!(
                "name the writable server, or SET GLOBAL {} = 0 on the target",
                names.join(" = 0, GLOBAL ")
            ),
        ),
    })
}

async fn clock(server: &mut Server) -> Result<Finding> {
    Ok(match server.clock().await? {
        None => Finding::skipped("the server does not tell its time"),
        Some((ahead, round_trip)) => Finding::pass(clock_words(ahead, round_trip)),
    })
}

fn disk(dialect: Dialect) -> Finding {
    let mut finding = Finding::skipped(match dialect {
        Dialect::Adb => "AnalyticDB tells the use of its nodes' disks only in its console, not over SQL",
        Dialect::Mysql => "free space of the target is not to be seen over SQL",
    });
    if dialect == Dialect::Adb {
        finding.hint = Some(
            "have more free space than TiDB uses for these tables; AnalyticDB locks writes at 80 to 90 % use"
                .to_owned(),
        );
    }
    finding
}

/// Privileges that the task's own statements need on a target schema.
fn wanted_privileges(spec: &Spec, dialect: Dialect) -> Vec<&'static str> {
    let mut wanted = Vec::new();
    if spec.phases.full || spec.phases.incremental {
        wanted.extend(["SELECT", "INSERT", "DELETE"]);
        if dialect == Dialect::Mysql && spec.tables_without_key == TablesWithoutKey::MatchRow {
            wanted.push("UPDATE");
        }
    }
    if spec.phases.schema || spec.phases.incremental {
        wanted.extend(["CREATE", "ALTER", "DROP", "INDEX"]);
    }
    wanted
}

/// `target.privileges` on every schema that the task writes to.
pub(super) async fn privileges(
    server: &mut Server,
    spec: &Spec,
    dialect: Dialect,
    schemas: &BTreeSet<String>,
) -> Finding {
    bounded(read_privileges(server, spec, dialect, schemas), |error| {
        Finding::unreadable("the privileges", error)
    })
    .await
}

async fn read_privileges(
    server: &mut Server,
    spec: &Spec,
    dialect: Dialect,
    schemas: &BTreeSet<String>,
) -> Result<Finding> {
    let grants = server.grants().await?;
    if grants.is_empty() {
        return Ok(Finding::skipped("SHOW GRANTS on the target gives nothing that is understood"));
    }
    let wanted = wanted_privileges(spec, dialect);
    let missing = |schema: &String| -> Vec<&'static str> {
        wanted.iter().filter(|privilege| !grants.allows_schema(privilege, schema)).copied().collect()
    };
    let found: Vec<(&String, Vec<&'static str>)> = schemas
        .iter()
        .map(|schema| (schema, missing(schema)))
        .filter(|(_, missing)| !missing.is_empty())
        .collect();
    let user = server.user();
    if schemas.is_empty() {
        return Ok(Finding::skipped("the schemas on the target are known only once the stream names them"));
    }
    if found.is_empty() {
        return Ok(Finding::pass(format!(
            "{user} has {} on {}",
            wanted.join(", "),
            counted(schemas.len() as u64, "schema")
        )));
    }
    let lacking: BTreeSet<&str> = found.iter().flat_map(|(_, missing)| missing.iter().copied()).collect();
    let statements: Vec<String> = found
        .iter()
        .take(20)
        .map(|(schema, missing)| {
            let on = literal::name(&schema.replace('_', "\\_").replace('%', "\\%"));
            format!("GRANT {} ON {on}.* TO {};", missing.join(", "), literal::string(user))
        })
        .collect();
    Ok(Finding::fail(
        format!("{user} lacks {}", lacking.into_iter().collect::<Vec<_>>().join(", ")),
        format!("on the target: {}", statements.join(" ")),
    )
    .objects(found.iter().map(|(schema, missing)| format!("{schema}: {}", missing.join(", ")))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precheck::CheckOutcome::{Fail, Pass, Warn};

    #[test]
    fn a_server_of_the_other_kind_fails() {
        let of = |text, comment, adb, dialect| judge_version(text, comment, adb, dialect).outcome;
        assert_eq!(of("10.11.6-MariaDB", "Debian 12", None, Dialect::Adb), Fail);
        assert_eq!(of("5.1.34", "", None, Dialect::Adb), Pass);
        assert_eq!(of("5.1.34", "", Some("3.1.9"), Dialect::Adb), Pass);
        assert_eq!(of("5.1.34", "", Some("3.1.9"), Dialect::Mysql), Fail);
        assert_eq!(of("10.11.6-MariaDB", "Debian 12", None, Dialect::Mysql), Pass);
        assert_eq!(of("8.0.36", "MySQL Community Server - GPL", None, Dialect::Mysql), Pass);
        assert_eq!(of("5.5.62", "MySQL Community Server (GPL)", None, Dialect::Mysql), Fail);
        assert_eq!(of("5.7.25-TiDB-v6.5.3", "", None, Dialect::Mysql), Pass);
    }

    #[test]
    fn statements_must_fit_into_a_packet() {
        let of = |batch, packet, dialect| judge_session(batch, packet, dialect).outcome;
        assert_eq!(of(4 << 20, Some(64 << 20), Dialect::Mysql), Pass);
        assert_eq!(of(4 << 20, Some(4 << 20), Dialect::Mysql), Warn);
        assert_eq!(of(32 << 20, None, Dialect::Adb), Fail);
        assert_eq!(of(4 << 20, None, Dialect::Adb), Pass);
    }

    #[test]
    fn connections_must_be_allowed_and_free() {
        assert_eq!(judge_connections(10, Some(151), None, Some(5)).outcome, Pass);
        assert_eq!(judge_connections(10, Some(151), None, Some(145)).outcome, Warn);
        assert_eq!(judge_connections(10, Some(8), None, Some(1)).outcome, Fail);
        assert_eq!(judge_connections(10, Some(151), Some(5), None).outcome, Fail);
        assert_eq!(judge_connections(10, None, None, None).outcome, Pass);
    }
}

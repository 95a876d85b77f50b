//! `source.*`: can TiDB be read at one timestamp, and does its binlog reach Kafka?

use super::CheckOutcome;
use super::finding::{Finding, bounded, counted, duration};
use super::server::{Server, clock_words, login_failure};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TableName, Tso};
use crate::sql::literal;
use crate::task::selection::Selection;
use crate::task::spec::Spec;
use crate::tidb::{self, go_seconds};

/// A Drainer further behind than this stands still or catches up: its position is read twice.
const DRAINER_LAG_MS: i64 = 60_000;

/// Between the two readings. An idle Drainer moves every 3 s (source-drainer.md 0.5).
const DRAINER_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// Tables that are asked one by one whether they can be read.
const PROBED_TABLES: usize = 200;

/// Ids of [`checks`] but `source.connect`, for when there is no login.
const AFTER_LOGIN: [&str; 5] = ["source.version", "source.binlog", "source.gc", "source.clock", RENAMES];

/// Tables that Drainer may call by stale names.
pub const RENAMES: &str = "source.renames";

/// DDLs of the source's history that are looked at, and how long that may take.
const HISTORY: u32 = 2_000;
const HISTORY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Everything that needs no list of tables.
pub(super) async fn checks(server: &mut Server, spec: &Spec) -> Vec<(&'static str, Finding)> {
    if let Err(error) = server.connect().await {
        let failed = ("source.connect", login_failure(&error, server));
        let skipped = AFTER_LOGIN.map(|id| (id, Finding::skipped("no login to the source")));
        return std::iter::once(failed).chain(skipped).collect();
    }
    let connected = Finding::pass(format!("logged in to {} as {}", server.place(), server.user()));
    let version = bounded(version(server, spec), |error| Finding::unreadable("the version", error)).await;
    let binlog = bounded(binlog(server, spec), drainer_unknown).await;
    let gc =
        bounded(gc(server, spec), |error| Finding::unreadable("garbage collection's settings", error)).await;
    let clock = bounded(clock(server), |error| Finding::unreadable("the clock", error)).await;
    let renames =
        bounded(renames(server, spec), |error| Finding::unreadable("the history of DDL", error)).await;
    vec![
        ("source.connect", connected),
        ("source.version", version),
        ("source.binlog", binlog),
        ("source.gc", gc),
        ("source.clock", clock),
        (RENAMES, renames),
    ]
}

/// major, minor, patch
type Version = (u32, u32, u32);

/// The version of TiDB in `VERSION()` (`5.7.25-TiDB-v6.5.3`) or `tidb_version()` (`Release Version: v7.0.0`); None when this
/// text is of no TiDB.
fn tidb_version(text: &str) -> Option<Version> {
    let start =
        ["TiDB-v", "Release Version: v"].iter().find_map(|mark| Some(text.find(mark)? + mark.len()))?;
    let mut numbers =
        text.get(start..)?.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten();
    Some((next()?, next()?, next().unwrap_or(0)))
}

async fn read_version(server: &mut Server) -> Result<(String, Option<Version>)> {
    let text = server.version().await?;
    if let Some(version) = tidb_version(&text) {
        return Ok((text, Some(version)));
    }
    // The suffix can be configured away; only TiDB has this function.
    match server.value("SELECT tidb_version()").await {
        Ok(own) => Ok((text, tidb_version(&own.unwrap_or_default()))),
        Err(error) if error.kind == ErrorKind::Unreachable => Err(error),
        Err(_) => Ok((text, None)),
    }
}

async fn version(server: &mut Server, spec: &Spec) -> Result<Finding> {
    let (text, version) = read_version(server).await?;
    Ok(judge_version(&text, version, spec.phases.incremental))
}

/// For a connection, before any task says whether it follows the stream.
pub(super) async fn any_version(server: &mut Server) -> Result<Finding> {
    let (text, version) = read_version(server).await?;
    let mut finding = judge_version(&text, version, true);
    if finding.outcome == CheckOutcome::Fail && version.is_some() {
        finding.outcome = CheckOutcome::Warn;
    }
    Ok(finding)
}

fn judge_version(text: &str, version: Option<Version>, incremental: bool) -> Finding {
    let Some((major, minor, patch)) = version else {
        return Finding::fail(
            format!("this is no TiDB: the server calls itself {text}"),
            "name a connection of kind tidb that leads to a TiDB server, or follow the topic alone (phases.incremental)",
        );
    };
    let name = format!("TiDB {major}.{minor}.{patch}");
    match (major, minor) {
        _ if !incremental => Finding::pass(name),
        (8, 4..) | (9.., _) => Finding::fail(
            format!("{name} has no TiDB Binlog: it was removed in 8.4"),
            "sync from a TiDB up to 8.3, or turn phases.incremental off",
        ),
        (8, _) | (7, 5..) => Finding::note(
            format!(
                "{name}; its makers support TiDB Binlog for replication only up to 7.4, it works up to 8.3"
            ),
            "plan the way on before an upgrade to 8.4",
        ),
        (5, 0) => Finding::warn(
            format!("{name} writes no binlog for tables with a clustered index"),
            "upgrade to 5.1 or later, or make sure that no selected table has a clustered index",
        ),
        (0..=3, _) => Finding::note(
            format!("{name}; a running transaction does not hold back garbage collection before 4.0"),
            "see source.gc",
        ),
        _ => Finding::pass(name),
    }
}

/// One row of SHOW DRAINER STATUS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Drainer {
    node: String,
    state: String,
    max_commit_ts: Tso,
}

async fn drainers(server: &mut Server) -> Result<Vec<Drainer>> {
    let rows = server.rows("SHOW DRAINER STATUS").await?;
    Ok(rows
        .iter()
        .map(|row| Drainer {
            node: row.named("NodeID").unwrap_or_default(),
            state: row.named("State").unwrap_or_default().to_lowercase(),
            max_commit_ts: Tso(row.named("Max_Commit_Ts").and_then(|ts| ts.parse().ok()).unwrap_or(0)),
        })
        .collect())
}

fn drainer_unknown(error: &Error) -> Finding {
    let mut finding = Finding::unreadable("the state of Drainer", error);
    if error.kind == ErrorKind::AccessDenied {
        finding.hint = Some(
            "grant REPLICATION CLIENT (or SUPER) to see it; without it the lag of an idle source is unknown"
                .to_owned(),
        );
    }
    finding
}

async fn binlog(server: &mut Server, spec: &Spec) -> Result<Finding> {
    if !spec.phases.incremental {
        return Ok(Finding::skipped("incremental sync is off"));
    }
    if matches!(server.variable("log_bin").await?.as_deref(), Some("0" | "OFF")) {
        return Ok(Finding::fail(
            "this TiDB server runs without binlog (log_bin is off): its transactions never reach Kafka",
            "start every TiDB server with `[binlog] enable = true` (or --enable-binlog), with Pump and Drainer deployed",
        ));
    }
    let first = drainers(server).await?;
    let now = now(server).await?;
    if !lags(&first, now) {
        return Ok(judge_drainers(&first, None, now));
    }
    tokio::time::sleep(DRAINER_PAUSE).await;
    let second = drainers(server).await?;
    Ok(judge_drainers(&first, Some(&second), now))
}

/// The source's own time.
async fn now(server: &mut Server) -> Result<i64> {
    let ahead = server.clock().await?.map_or(0, |(ahead, _)| ahead);
    Ok(super::now_ms() + ahead)
}

fn online(drainers: &[Drainer]) -> impl Iterator<Item = &Drainer> {
    drainers.iter().filter(|drainer| drainer.state == "online")
}

fn lag(drainer: &Drainer, now: i64) -> i64 {
    (now - drainer.max_commit_ts.physical_ms()).max(0)
}

fn lags(drainers: &[Drainer], now: i64) -> bool {
    online(drainers).any(|drainer| lag(drainer, now) > DRAINER_LAG_MS)
}

/// `second` is a later reading, where one was needed.
fn judge_drainers(first: &[Drainer], second: Option<&[Drainer]>, now: i64) -> Finding {
    let names = |list: &[Drainer]| -> Vec<String> {
        list.iter().map(|drainer| format!("{} ({})", drainer.node, drainer.state)).collect()
    };
    let Some(worst) = online(first).max_by_key(|drainer| lag(drainer, now)) else {
        let known = if first.is_empty() {
            "no Drainer is registered".to_owned()
        } else {
            format!("no Drainer is online: {} known", counted(first.len() as u64, "Drainer"))
        };
        return Finding::fail(
            known,
            "start a Drainer with db-type = \"kafka\"; SHOW DRAINER STATUS on the source must list it as online",
        )
        .objects(names(first));
    };
    let behind = duration(lag(worst, now) as u64);
    let count = online(first).count();
    if let Some(second) = second {
        let moved = |before: &Drainer| {
            second.iter().any(|now| now.node == before.node && now.max_commit_ts > before.max_commit_ts)
        };
        if let Some(stuck) =
            online(first).find(|drainer| lag(drainer, now) > DRAINER_LAG_MS && !moved(drainer))
        {
            return Finding::warn(
                format!(
                    "Drainer {} stands still, {} behind its source",
                    stuck.node,
                    duration(lag(stuck, now) as u64)
                ),
                "look at Drainer's log: Kafka out of reach, or a DDL that it cannot follow",
            )
            .objects(names(first));
        }
        return Finding::note(
            format!("log_bin is on; Drainer {} is {behind} behind its source and catching up", worst.node),
            "incremental sync can be no nearer to the source than Drainer is",
        );
    }
    if count > 1 {
        return Finding::note(
            format!(
                "log_bin is on; {count} Drainers are online, the last of them {behind} behind the source"
            ),
            "only one of them may write to this task's topic",
        )
        .objects(names(first));
    }
    Finding::pass(format!("log_bin is on; Drainer {} is online, {behind} behind the source", worst.node))
}

async fn gc(server: &mut Server, spec: &Spec) -> Result<Finding> {
    if !spec.phases.full {
        return Ok(Finding::skipped("full sync is off"));
    }
    let (_, version) = read_version(server).await?;
    let mut life = server.variable("tidb_gc_life_time").await?;
    if life.is_none() {
        life = tidb_setting(server, "tikv_gc_life_time").await;
    }
    let max_wait = server.variable("tidb_gc_max_wait_time").await?.and_then(|text| text.parse::<u64>().ok());
    let enabled = server.variable("tidb_gc_enable").await?;
    let safe_point = tidb_setting(server, "tikv_gc_safe_point").await;
    Ok(judge_gc(&Gc {
        guarded: version.is_none_or(|(major, ..)| major >= 4),
        enabled: !matches!(enabled.as_deref(), Some("0" | "OFF")),
        life,
        max_wait_s: max_wait,
        safe_point,
    }))
}

async fn tidb_setting(server: &mut Server, name: &str) -> Option<String> {
    let sql =
        format!("SELECT VARIABLE_VALUE FROM mysql.tidb WHERE VARIABLE_NAME = {}", literal::string(name));
    server.value(&sql).await.ok().flatten()
}

struct Gc {
    /// An open transaction holds garbage collection back (TiDB 4.0).
    guarded: bool,
    enabled: bool,
    life: Option<String>,
    max_wait_s: Option<u64>,
    safe_point: Option<String>,
}

fn judge_gc(gc: &Gc) -> Finding {
    if !gc.enabled {
        return Finding::note(
            "garbage collection is off: a snapshot stays readable for as long as that is so",
            "turn tidb_gc_enable on again after the full sync",
        );
    }
    let mut detail = match &gc.life {
        Some(life) => format!("old versions are kept for {life}"),
        None => "how long old versions are kept cannot be read".to_owned(),
    };
    if let Some(safe_point) = &gc.safe_point {
        detail.push_str(&format!(", the safe point is {safe_point}"));
    }
    if gc.guarded {
        let limit_s = gc.max_wait_s.unwrap_or(86_400);
        detail.push_str(&format!("; our open transaction holds them for up to {}", duration(limit_s * 1000)));
        return Finding::note(
            detail,
            "a full sync that takes longer needs a larger tidb_gc_max_wait_time and tidb_gc_life_time (SET GLOBAL)",
        );
    }
    match gc.life.as_deref().and_then(go_seconds) {
        Some(life) if life >= 3600 => Finding::pass(detail),
        _ => Finding::warn(
            format!(
                "{detail}; this TiDB does not wait for open transactions, a full sync that takes longer fails"
            ),
            "for the time of the full sync: UPDATE mysql.tidb SET VARIABLE_VALUE = '72h' WHERE VARIABLE_NAME = 'tikv_gc_life_time'",
        ),
    }
}

async fn clock(server: &mut Server) -> Result<Finding> {
    Ok(match server.clock().await? {
        None => Finding::skipped("the server does not tell its time"),
        Some((ahead, round_trip)) if ahead.abs() > 60_000 => Finding::note(
            clock_words(ahead, round_trip),
            "lag is measured by the source's clock and stays right; times in logs and events differ",
        ),
        Some((ahead, round_trip)) => Finding::pass(clock_words(ahead, round_trip)),
    })
}

/// Tables that Drainer may call by stale names when the task starts.
async fn renames(server: &mut Server, spec: &Spec) -> Result<Finding> {
    let Ok(selection) = Selection::new(spec) else {
        return Ok(Finding::skipped("the objects of the spec cannot be used"));
    };
    if !spec.phases.incremental {
        return Ok(Finding::skipped("incremental sync is off"));
    }
    let read = tidb::renamed_together(server.session().await?, &selection, HISTORY);
    let Ok(found) = tokio::time::timeout(HISTORY_TIMEOUT, read).await else {
        return Ok(Finding::warn(
            format!("the source's history of DDL cannot be read within {} s", HISTORY_TIMEOUT.as_secs()),
            "run the precheck again; if several tables were renamed in one statement at the source, run ALTER TABLE ... COMMENT = '...' on each of them, then waive this",
        )
        .outage(true));
    };
    let found = found?;
    let ours: Vec<&TableName> = found.iter().map(|stale| &stale.table).collect();
    if ours.is_empty() {
        return Ok(Finding::pass("Drainer calls every table by its name"));
    }
    Ok(Finding::warn(
        format!(
            "{} renamed together with others, and without a DDL of its own that tells Drainer its name: Drainer may send its rows under another table's name",
            counted(ours.len() as u64, "table")
        ),
        "at the source run ALTER TABLE ... COMMENT = '...' on each of them, and RENAME TABLE by itself, away and back, on one that came from another schema; or start Drainer again with load-schema-snapshot = true, and waive this",
    )
    .objects(ours))
}

/// `source.privileges`: SELECT on every selected table. Grants are read as text first; only what they leave open is tried.
pub(super) async fn privileges(server: &mut Server, tables: &[TableName]) -> Finding {
    bounded(read_privileges(server, tables), |error| Finding::unreadable("the privileges", error)).await
}

async fn read_privileges(server: &mut Server, tables: &[TableName]) -> Result<Finding> {
    if tables.is_empty() {
        return Ok(Finding::skipped("no selected table is to be seen"));
    }
    let grants = match server.grants().await {
        Err(error) if error.kind == ErrorKind::Unreachable => return Err(error),
        grants => grants.unwrap_or_default(),
    };
    let open: Vec<&TableName> =
        tables.iter().filter(|name| !grants.allows_table("SELECT", &name.schema, &name.table)).collect();
    let mut refused = Vec::new();
    for name in open.iter().take(PROBED_TABLES) {
        match server.rows(&format!("SELECT 1 FROM {} LIMIT 0", literal::table_name(name))).await {
            Err(error) if error.kind == ErrorKind::AccessDenied => refused.push(*name),
            Err(error) if error.kind == ErrorKind::Unreachable => return Err(error),
            _ => {}
        }
    }
    let user = server.user();
    if refused.is_empty() {
        let count = counted(tables.len() as u64, "selected table");
        return Ok(Finding::pass(format!("{user} may read {count}")));
    }
    let statement = match refused.as_slice() {
        [name] => format!("GRANT SELECT ON {} TO {};", literal::table_name(name), literal::string(user)),
        _ => {
            let mut schemas: Vec<&str> = refused.iter().map(|name| name.schema.as_str()).collect();
            schemas.dedup();
            let grant = |schema: &&str| {
                format!("GRANT SELECT ON {}.* TO {};", literal::name(schema), literal::string(user))
            };
            schemas.iter().map(grant).collect::<Vec<_>>().join(" ")
        }
    };
    let roles = match grants.roles.as_slice() {
        [] => String::new(),
        roles => {
            format!(" (or make its roles active on login: SET DEFAULT ROLE {} TO ...)", roles.join(", "))
        }
    };
    Ok(Finding::fail(
        format!("{user} may not read {}", counted(refused.len() as u64, "selected table")),
        format!("on the source: {statement}{roles}"),
    )
    .objects(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_where_tidb_writes_them() {
        assert_eq!(tidb_version("5.7.25-TiDB-v6.5.3"), Some((6, 5, 3)));
        assert_eq!(tidb_version("8.0.11-TiDB-v8.1.0-alpha-12-gabc"), Some((8, 1, 0)));
        assert_eq!(tidb_version("Release Version: v4.0.16\nEdition: Community"), Some((4, 0, 16)));
        assert_eq!(tidb_version("10.11.6-MariaDB"), None);
    }

    #[test]
    fn versions_without_binlog_fail_only_where_binlog_is_wanted() {
        let outcome = |version, incremental| judge_version("x", version, incremental).outcome;
        assert_eq!(outcome(None, false), CheckOutcome::Fail);
        assert_eq!(outcome(Some((8, 4, 0)), true), CheckOutcome::Fail);
        assert_eq!(outcome(Some((9, 0, 0)), true), CheckOutcome::Fail);
        assert_eq!(outcome(Some((8, 5, 0)), false), CheckOutcome::Pass);
        assert_eq!(outcome(Some((8, 3, 0)), true), CheckOutcome::Pass);
        assert_eq!(outcome(Some((5, 0, 6)), true), CheckOutcome::Warn);
        assert_eq!(outcome(Some((6, 5, 0)), true), CheckOutcome::Pass);
    }

    fn drainer(node: &str, state: &str, ms: i64) -> Drainer {
        Drainer { node: node.to_owned(), state: state.to_owned(), max_commit_ts: Tso::from_physical_ms(ms) }
    }

    #[test]
    fn a_drainer_must_be_online_and_move() {
        let now = 10_000_000;
        let of = |first: &[Drainer], second: Option<&[Drainer]>| judge_drainers(first, second, now).outcome;
        assert_eq!(of(&[], None), CheckOutcome::Fail);
        assert_eq!(of(&[drainer("a", "paused", now)], None), CheckOutcome::Fail);
        assert_eq!(
            of(&[drainer("a", "online", now - 3000), drainer("b", "offline", 0)], None),
            CheckOutcome::Pass
        );
        let late = drainer("a", "online", now - 600_000);
        assert!(lags(std::slice::from_ref(&late), now));
        assert_eq!(of(std::slice::from_ref(&late), Some(std::slice::from_ref(&late))), CheckOutcome::Warn);
        assert_eq!(of(&[late], Some(&[drainer("a", "online", now - 500_000)])), CheckOutcome::Pass);
    }

    #[test]
    fn a_short_life_matters_only_where_transactions_do_not_guard() {
        let gc = |guarded, life: &str| Gc {
            guarded,
            enabled: true,
            life: Some(life.to_owned()),
            max_wait_s: None,
            safe_point: None,
        };
        assert_eq!(judge_gc(&gc(true, "10m0s")).outcome, CheckOutcome::Pass);
        assert_eq!(judge_gc(&gc(false, "10m0s")).outcome, CheckOutcome::Warn);
        assert_eq!(judge_gc(&gc(false, "72h")).outcome, CheckOutcome::Pass);
        assert_eq!(go_seconds("1h30m5s"), Some(5405));
        assert_eq!(go_seconds("soon"), None);
    }
}

//! The target: its SQL, its literals, its errors.

pub mod dialect;
pub mod encode;
pub mod parameters;
pub mod throttle;
mod width;
pub mod writer;

use crate::error::{Endpoint, ErrorKind, Result};
use crate::model::{Dialect, MysqlEndpoint};
use crate::mysql::Session;

/// Bytes of one statement, and so of one row and one field, that AnalyticDB takes (target-adb-and-dts.md 3.3).
pub const ADB_STATEMENT: usize = 16 << 20;

/// Statements of several rows stay below it: what both dialects take without a word.
pub const LARGEST_BATCH: usize = ADB_STATEMENT - 1024;

/// A session that writes may go through: set up as the dialect needs it, and read back.
///
/// # Errors
/// As [`Session::connect`] and [`dialect::verify`].
pub async fn connect(target: &MysqlEndpoint, dialect: Dialect) -> Result<Session> {
    let setup = dialect::target_session_setup(dialect);
    let setup: Vec<&str> = setup.iter().map(String::as_str).collect();
    let mut session = Session::connect(target, Endpoint::Target, classify, &setup).await?;
    if dialect == Dialect::Adb {
        session.limit_statements(ADB_STATEMENT);
    }
    dialect::verify(&mut session, dialect).await?;
    Ok(session)
}

/// As one that writes; `variable`: TIDEGATE_TEST_MARIADB or TIDEGATE_TEST_TIDB, `host:port` with a root that has no password.
#[cfg(test)]
pub(crate) async fn session_for_tests(variable: &str) -> Option<Session> {
    use std::io::Write as _;
    let Ok(place) = std::env::var(variable) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {variable}=host:port");
        return None;
    };
    let (host, port) = place.split_once(':').expect("host:port");
    let endpoint = MysqlEndpoint {
        host: host.to_owned(),
        port: port.parse().expect("a port"),
        user: "root".to_owned(),
        password: Default::default(),
        tls: crate::model::Tls::default(),
    };
    Some(connect(&endpoint, Dialect::Mysql).await.unwrap())
}

/// What a target's error means for us. MySQL and MariaDB numbers; TiDB's own where TiDB is the target; ADB's texts.
///
/// 1062 (duplicate key) is `Contention`: rows go out as REPLACE, which meets it only when another lane holds a unique key for a moment.
/// A key that really is taken twice (CREATE UNIQUE INDEX over a looser collation) fails again until the retry clock ends, and then says so.
pub fn classify(code: u16, text: &str) -> ErrorKind {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let locked = || {
        says(&[
            "read-only",
            "read only",
            "readonly",
            "super-read-only",
            "is locked",
            "been locked",
            "disk is full",
            "disk full",
            "no space left",
            "disk quota",
            "over space",
        ])
    };
    match code {
        // Deadlock, lock wait, record changed, duplicate key, statement time-out; TiDB: write conflict, schema changed, region or store busy.
        1205
        | 1213
        | 1614
        | 1020
        | 1062
        | 1586
        | 1637
        | 3024
        | 1969
        | 3058
        | 3572
        | 8002
        | 8022
        | 8027
        | 8028
        | 8229
        | 9001..=9005
        | 9007 => ErrorKind::Contention,
        // Too many connections, shutdown, aborted, killed, network, gone away, time-out of an idle session.
        1040
        | 1041
        | 1042
        | 1043
        | 1053
        | 1077..=1080
        | 1129
        | 1152
        | 1158..=1161
        | 1184
        | 1203
        | 1226
        | 1317
        | 1927
        | 2002..=2006
        | 2013
        | 2055
        | 4031 => ErrorKind::Unreachable,
        1044 | 1045 | 1130 | 1131 | 1132 | 1142 | 1143 | 1227 | 1251 | 1370 | 1410 | 1419 | 1698 | 1820
        | 1862 | 3118 | 3159 | 3955 | 4151 | 8121 => ErrorKind::AccessDenied,
        // Database, table, column or index that is not there; a thread that KILL does not find.
        1008 | 1049 | 1051 | 1054 | 1072 | 1091 | 1094 | 1109 | 1146 | 1176 => ErrorKind::Missing,
        // Table or disk full, read-only server or transaction.
        1021 | 1114 | 1836 | 1792 | 3100 => ErrorKind::TargetLocked,
        1030 if says(&["28", "122", "no space"]) => ErrorKind::TargetLocked,
        1290 if locked() => ErrorKind::TargetLocked,
        1048
        | 1138
        | 1263..=1266
        | 1292
        | 1300
        | 1366
        | 1367
        | 1406
        | 1411
        | 1441
        | 1452
        | 1526
        | 1690
        | 3140
        | 3141
        | 3143
        | 3156
        | 3819
        | 4025 => ErrorKind::ValueRefused,
        // Our columns are not the target's.
        1110 | 1136 | 1364 | 1906 | 3105 => ErrorKind::SchemaMismatch,
        // Exists already, syntax, limits of a definition, too large a packet, not supported.
        1007
        | 1050
        | 1059..=1061
        | 1063..=1071
        | 1073..=1075
        | 1089
        | 1090
        | 1101
        | 1103
        | 1113
        | 1115..=1118
        | 1121
        | 1153
        | 1163
        | 1170
        | 1171
        | 1193
        | 1231
        | 1235
        | 1273
        | 1290
        | 1293
        | 1294
        | 1295
        | 1305
        | 1149
        | 1846
        | 1901
        | 1903
        | 1904
        | 3102
        | 3106
        | 3107
        | 3109
        | 3675
        | 3719
        | 3730
        | 3761
        | 8200
        | 8214 => ErrorKind::StatementRefused,
        // Unknown numbers, among them ADB's: its texts tell a locked disk; anything else stops the task with the text kept.
        _ if locked() => ErrorKind::TargetLocked,
        _ if says(&["resource busy", "server is busy", "too many requests", "try again later"]) => {
            ErrorKind::Contention
        }
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_become_kinds() {
        for (code, text, kind) in [
            (1205, "Lock wait timeout exceeded", ErrorKind::Contention),
            (1213, "Deadlock found", ErrorKind::Contention),
            (1062, "Duplicate entry", ErrorKind::Contention),
            (1045, "Access denied", ErrorKind::AccessDenied),
            (1142, "INSERT command denied", ErrorKind::AccessDenied),
            (1146, "Table doesn't exist", ErrorKind::Missing),
            (1054, "Unknown column", ErrorKind::Missing),
            (1290, "running with the --read-only option", ErrorKind::TargetLocked),
            (1290, "running with the --secure-file-priv option", ErrorKind::StatementRefused),
            (1836, "Running in read-only mode", ErrorKind::TargetLocked),
            (1030, "Got error 28 \"No space left on device\" from storage engine", ErrorKind::TargetLocked),
            (30101, "cluster is not allowed in readonly mode", ErrorKind::TargetLocked),
            (1264, "Out of range value", ErrorKind::ValueRefused),
            (4025, "CONSTRAINT failed", ErrorKind::ValueRefused),
            (1064, "syntax", ErrorKind::StatementRefused),
            (1050, "exists", ErrorKind::StatementRefused),
            (1317, "Query execution was interrupted", ErrorKind::Unreachable),
            (1105, "Unknown error", ErrorKind::Internal),
            (40039, "modify column type is not supported", ErrorKind::Internal),
        ] {
            assert_eq!(classify(code, text), kind, "{code} {text}");
        }
    }
}

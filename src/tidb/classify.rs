//! What TiDB's error numbers mean for a task: the one place where they become an [`ErrorKind`].
//!
//! Numbers below 8000 are MySQL's, those from 8000 on TiDB's own (pingcap/tidb `errno/errcode.go`).

use crate::error::ErrorKind;

/// Kind of a server error. `text` decides only where TiDB passes a storage error on under 1105 (unknown error).
pub fn classify(code: u16, text: &str) -> ErrorKind {
    match code {
        // Access denied (schema, user, command, column, special), host not allowed, SSL required, account locked, password
        // expired; 1698 and 8121 are TiDB's other words for it.
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 3118 | 3159 | 8121 => {
            ErrorKind::AccessDenied
        }

        // No database selected or known; unknown table, column, variable, function, partition.
        1046 | 1049 | 1051 | 1054 | 1109 | 1146 | 1193 | 1305 | 1735 => ErrorKind::Missing,

        // Shutting down, network trouble, too many connections, connection killed; storage (PD, TiKV, TiFlash) out of reach. 8027 is a
        // server that cannot load its schema from TiKV.
        1040
        | 1053
        | 1077..=1079
        | 1152..=1154
        | 1157..=1161
        | 1203
        | 1226
        | 1927
        | 2006
        | 2013
        | 8027
        | 8120
        | 9001
        | 9002
        | 9005
        | 9008
        | 9010..=9012 => ErrorKind::Unreachable,

        // Lock wait, deadlock, write conflict, query killed, schema changed under a statement, busy store, quota of the moment, time limit.
        1205 | 1213 | 1317 | 3024 | 3572 | 8002 | 8005 | 8020 | 8022 | 8028 | 8113 | 8175 | 8176 | 8229
        | 9003 | 9004 | 9007 | 9013 => ErrorKind::Contention,

        // The snapshot is older than the GC safe point.
        8055 | 9006 => ErrorKind::SnapshotLost,

        1105 => classify_text(text),

        // Read-only variable, wrong value for a variable, TiDB's restricted modes.
        1231 | 1232 | 1238 | 8047 | 8132 => ErrorKind::Configuration,

        _ => ErrorKind::StatementRefused,
    }
}

fn classify_text(text: &str) -> ErrorKind {
    let text = text.to_ascii_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if has(&["gc life time is shorter", "older than gc safe point"]) {
        ErrorKind::SnapshotLost
    } else if has(&[
        "timeout",
        "timed out",
        "unavailable",
        "connection refused",
        "context deadline exceeded",
        "context canceled",
        "no available connections",
        "rpc error",
        "server is closed",
    ]) {
        ErrorKind::Unreachable
    } else if has(&[
        "out of memory quota",
        "memory limit",
        "server is busy",
        "write conflict",
        // A panic of TiDB's own, seen while several sessions changed tables.
        "runtime error: invalid memory address",
    ]) {
        ErrorKind::Contention
    } else {
        ErrorKind::StatementRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_their_kind() {
        for (code, kind) in [
            (1045, ErrorKind::AccessDenied),
            (1142, ErrorKind::AccessDenied),
            (1227, ErrorKind::AccessDenied),
            (8121, ErrorKind::AccessDenied),
            (1049, ErrorKind::Missing),
            (1146, ErrorKind::Missing),
            (1054, ErrorKind::Missing),
            (9006, ErrorKind::SnapshotLost),
            (8055, ErrorKind::SnapshotLost),
            (9001, ErrorKind::Unreachable),
            (9002, ErrorKind::Unreachable),
            (9005, ErrorKind::Unreachable),
            (8027, ErrorKind::Unreachable),
            (9003, ErrorKind::Contention),
            (1205, ErrorKind::Contention),
            (1064, ErrorKind::StatementRefused),
            (9999, ErrorKind::StatementRefused),
        ] {
            assert_eq!(classify(code, ""), kind, "{code}");
        }
    }

    #[test]
    fn an_unknown_error_is_judged_by_its_text() {
        assert_eq!(
            classify(
                1105,
                "[tikv:9006]GC life time is shorter than transaction duration, transaction starts at"
            ),
            ErrorKind::SnapshotLost
        );
        assert_eq!(classify(1105, "[tikv:9001]PD server timeout"), ErrorKind::Unreachable);
        assert_eq!(classify(1105, "Out Of Memory Quota![conn_id=1]"), ErrorKind::Contention);
        let panic = "runtime error: invalid memory address or nil pointer dereference";
        assert_eq!(classify(1105, panic), ErrorKind::Contention);
        assert_eq!(classify(1105, "something new"), ErrorKind::StatementRefused);
    }
}

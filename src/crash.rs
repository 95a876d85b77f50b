//! What tests do to the process from inside. Only builds with debug assertions let them; in a release build all of it is nothing.
//!
//! Places where a test ends the process as a power cut would: between any two durable steps.
//!
//! `TIDEGATE_CRASH_AT=checkpoint.before:3` aborts the process when it comes to that point for the third time;
//! tests/e2e_crash.rs goes through all of them. A wall clock that jumps: `TIDEGATE_CLOCK` names a file with milliseconds to add. And
//! looks at the target's tables that come soon: `TIDEGATE_DRIFT_MS` (engine/drift.rs). And tasks that rest soon: `TIDEGATE_LET_GO_MS`
//! (incremental/stream.rs).

/// Full sync and what leads to it.
pub const FULL: &[&str] = &[
    "run.before",
    "run.begun",
    "start.before",
    "start.saved",
    "schema.made",
    "schema.saved",
    "copy.begun",
    "copy.planned",
    "copy.statement.before",
    "copy.statement.after",
    "copy.chunk.before",
    "copy.chunk.saved",
    "copy.table.before",
    "copy.table.saved",
    "full.before",
    "full.saved",
];

/// The stream.
pub const STREAM: &[&str] = &[
    "session.opened",
    "session.known",
    "batch.before",
    "batch.deleted",
    "batch.written",
    "keyless.begun",
    "keyless.before",
    "keyless.committed",
    "marker.set",
    "checkpoint.before",
    "checkpoint.saved",
    "ddl.pending",
    "ddl.statement",
    "ddl.step",
    "ddl.before",
    "ddl.saved",
];

/// A table that is copied anew beside the stream.
pub const RESYNC: &[&str] = &[
    "resync.wanted",
    "resync.shadow",
    "resync.copied",
    "resync.caught_up",
    "swap.recorded",
    "swap.statement",
    "swap.swapped",
    "swap.dropped",
    "swap.saved",
];

/// Of rows that a verification found different and that are written again.
pub const REPAIR: &[&str] = &["repair.begun", "repair.statement", "repair.sent"];

/// What an operator asks for: other objects, a decision about a DDL, a reset; and rows that are set aside and tried again.
pub const COMMANDS: &[&str] = &[
    "objects.before",
    "objects.saved",
    "letters.refused",
    "letters.put_back",
    "letter.retried",
    "letter.tried",
    "decision.saved",
    "reset.saved",
    "reset.table",
    "reset.forgotten",
];

#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static WANTED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("TIDEGATE_CRASH_AT").ok()?;
        let (name, passage) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(passage.parse().unwrap_or(1))))
    });
    if let Some((wanted, left)) = wanted
        && wanted == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_: &'static str) {}

/// What is added to the wall clock.
#[cfg(debug_assertions)]
pub fn clock_offset_ms() -> i64 {
    use std::sync::OnceLock;
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("TIDEGATE_CLOCK")) else { return 0 };
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn clock_offset_ms() -> i64 {
    0
}

/// How long something is waited for: `usual`, unless a test says otherwise with this variable.
#[cfg(debug_assertions)]
pub fn pause(variable: &str, usual: std::time::Duration) -> std::time::Duration {
    let wanted = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    wanted.map_or(usual, std::time::Duration::from_millis)
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn pause(_variable: &str, usual: std::time::Duration) -> std::time::Duration {
    usual
}

//! `make bench` at a thousandth of its size: every part runs, finds in the target what the generator says, and reaches the page.
//! No figure is judged.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use support::stack::Stack;

/// The sizes that `BENCH_SCALE` does not make.
const SMALL: [(&str, &str); 9] = [
    ("BENCH_SCALE", "0.001"),
    ("BENCH_RUNS", "1"),
    // Arbiter, myloader and the many ways of the target alone are what is measured against, not what is tested.
    ("BENCH_ARBITER", "0"),
    ("BENCH_ONLY", "tidegate,ceiling text x2,ceiling prepared x1,load data x2,source alone x1,50% at 25 ms"),
    ("BENCH_LAG_SECONDS", "1"),
    ("BENCH_BACKLOG_GB", "0.1"),
    ("BENCH_IDLE_SECONDS", "1"),
    ("BENCH_TASKS", "5"),
    ("BENCH_BUSY", "2"),
];

#[test]
fn every_part_of_the_benchmark_runs_and_reaches_the_page() {
    let Some(_stack) = Stack::utc("every_part_of_the_benchmark_runs_and_reaches_the_page") else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("performance.md");
    let output = Command::new("bench/run.sh")
        // `bulk` and `hot` are `oltp` with other numbers.
        .args(["oltp", "full", "lag", "memory", "scale", "page"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .envs(SMALL)
        .env("TIDEGATE_BIN", env!("CARGO_BIN_EXE_tidegate"))
        .env("BENCH_WORK", folder.path())
        .env("BENCH_PAGE", &page)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(&page).unwrap();
    for part in ["| `oltp` |", "### Full sync", "### Lag", "### Memory", "### Scale", "5 idle tasks"] {
        assert!(page.contains(part), "{part} is not on the page:\n{page}");
    }
}

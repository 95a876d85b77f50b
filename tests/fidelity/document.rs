//! What was measured, as the generated part of docs/fidelity.md.

use std::collections::BTreeMap;
use std::path::Path;

use super::cases::{CASES, Case};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Full,
    Incremental,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exact,
    Lossy {
        rule: String,
        count: u64,
        of: u64,
        examples: Vec<(String, String)>,
    },
    Refused {
        by_precheck: bool,
        why: String,
    },
    /// What must not be: a difference that nobody tells.
    Silent(String),
}

type Outcomes = BTreeMap<(usize, Phase), Outcome>;

const BEGIN: &str = "<!-- measured: tests/fidelity.rs writes what follows -->";
/// Characters of a value that are shown.
const SHOWN: usize = 48;
/// Pairs of values that are shown.
const EXAMPLES: usize = 2;

/// Compares the document with what was measured; writes it first when asked to.
pub fn hold(runs: &[(&str, &Outcomes)], columns: &BTreeMap<(String, usize), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fidelity.md");
    let text = std::fs::read_to_string(&path).expect("docs/fidelity.md");
    let (intro, _) = text.split_once(BEGIN).expect("docs/fidelity.md has a generated part");
    let fresh = format!("{intro}{BEGIN}\n\n{}", render(runs, columns));
    if std::env::var_os("TIDEGATE_WRITE_FIDELITY").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let differing: Vec<_> =
        fresh.lines().filter(|line| !committed.lines().any(|other| other == *line)).collect();
    assert!(
        fresh == committed,
        "docs/fidelity.md does not say what was measured; look at the difference, then write it with TIDEGATE_WRITE_FIDELITY=1:\n{}",
        differing.join("\n")
    );
}

fn render(runs: &[(&str, &Outcomes)], columns: &BTreeMap<(String, usize), String>) -> String {
    let outcomes = |run: &str| runs.iter().find(|(name, _)| *name == run).expect("a run").1;
    let column = |policy: &str, number: usize| {
        columns.get(&(policy.to_owned(), number)).map_or(String::new(), |ty| format!("`{ty}`"))
    };
    let mut text = String::from(
        "## Types that no lossy policy touches\n\n| type | values | mysql | adb: column | adb: values |\n|---|---|---|---|---|\n",
    );
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| !case.lossy) {
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            title(case),
            values(case),
            both(outcomes("mysql"), number),
            column("refuse", number),
            both(outcomes("refuse"), number)
        );
    }
    text += "\n## Types with a lossy policy on adb\n\n\
             | type | values | mysql | adb: refuse | adb: clamp | adb: varchar |\n|---|---|---|---|---|---|\n";
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| case.lossy) {
        let adb = ["refuse", "clamp", "varchar"].map(|policy| {
            let cell = both(outcomes(policy), number);
            let ty = column(policy, number);
            if ty.is_empty() { cell } else { format!("{ty}: {cell}") }
        });
        text += &format!(
            "| {} | {} | {} | {} |\n",
            title(case),
            values(case),
            both(outcomes("mysql"), number),
            adb.join(" | ")
        );
    }
    text
}

fn title(case: &Case) -> String {
    let what = if case.what.is_empty() { String::new() } else { format!(", {}", case.what) };
    format!("`{}`{what}", case.ty)
}

fn values(case: &Case) -> String {
    let shown: Vec<_> = case.values.iter().map(|value| code(value)).collect();
    shown.join(" ")
}

/// A value in a cell of a table.
fn code(value: &str) -> String {
    let value: String = match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    };
    let value = value.replace('|', "\\|");
    if value.contains('`') { format!("`` {value} ``") } else { format!("`{value}`") }
}

fn both(outcomes: &Outcomes, number: usize) -> String {
    let of =
        |phase| outcomes.get(&(number, phase)).unwrap_or_else(|| panic!("case {number} was not measured"));
    let (full, incremental) = (cell(of(Phase::Full)), cell(of(Phase::Incremental)));
    if full == incremental { full } else { format!("full: {full}; incremental: {incremental}") }
}

fn cell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exact => "exact".to_owned(),
        Outcome::Lossy { rule, count, of, examples } => {
            let shown: Vec<_> = examples
                .iter()
                .take(EXAMPLES)
                .map(|(from, to)| format!("{} to {}", code(from), code(to)))
                .collect();
            format!("counted as `{rule}`, {count} of {of}: {}", shown.join(", "))
        }
        Outcome::Silent(what) => panic!("{what}"),
        Outcome::Refused { by_precheck: true, why } => format!("refused by precheck: {why}"),
        Outcome::Refused { by_precheck: false, why } => format!("stops the task: {why}"),
    }
}

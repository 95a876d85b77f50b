//! Every kind of DDL on both targets, with rows before it and after it in the same stream: the tables are equal in the end, or the
//! plan says that the table is copied again, or the task stops with the cure. docs/ddl.md is written from what is measured here
//! (`TIDEGATE_WRITE_DDL=1`), and must say it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "ddl_matrix/cases.rs"]
mod cases;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cases::{CASES, Case};
use mysql_async::prelude::Queryable;
use serde_json::json;
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};
use tidegate::adb::dialect::Collations;
use tidegate::incremental::catalog::Catalog;
use tidegate::incremental::plan::{Event, Facts, Plan, plan};
use tidegate::model::{Dialect, TableName};
use tidegate::sql::ddl;
use tidegate::task::selection::Selection;
use tidegate::task::spec::Spec;

const PATIENCE: Duration = Duration::from_secs(180);

/// What the plan says of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Planned {
    /// With its notes.
    Applied(Vec<String>),
    /// With the reason.
    CopiedAgain(String),
    /// With the message and the cure.
    Stops(String),
}

/// Rows before the DDL alone, or after it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Before,
    After,
}

fn filled(text: &str, number: usize, rows: Rows) -> String {
    let prefix = if rows == Rows::Before { "b" } else { "a" };
    text.replace("{t}", &format!("{prefix}{number:02}_t")).replace("{u}", &format!("{prefix}{number:02}_u"))
}

fn create(case: &Case) -> String {
    format!("CREATE TABLE {{t}} {}", case.table)
}

/// The plan of the case by itself, under the default policies.
fn planned(dialect: Dialect, case: &Case) -> Planned {
    let spec: Spec = serde_json::from_value(json!({
        "name": "t", "source": {"tidb": "d", "kafka": "k", "topic": "x"}, "target": "m", "objects": {"include": ["s.*"]},
    }))
    .unwrap();
    let selection = Arc::new(Selection::new(&spec).unwrap());
    let mut catalog = Catalog::new(Arc::new(spec), selection, dialect, Collations::default());
    let mut notes = Vec::new();
    let mut texts = vec![create(case)];
    texts.extend(case.with.iter().chain(case.ddl).map(|text| (*text).to_owned()));
    for (at, text) in texts.iter().enumerate() {
        let text = text.replace("{t}", "t").replace("{u}", "u");
        if text.starts_with("INSERT") {
            continue;
        }
        let statements = ddl::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let table = if text.contains("TABLE u") { "u" } else { "t" };
        match plan(Event { schema: "s", table }, &statements, &catalog, &Facts::default()) {
            Err(error) => {
                let cure = error.hint.clone().unwrap_or_default();
                return Planned::Stops(format!(
                    "{}: {}",
                    error.message,
                    cure.split(". By hand").next().unwrap_or_default()
                ));
            }
            Ok(Plan::Ask(name)) => panic!("{text} asks for {name:?}"),
            Ok(Plan::Do(steps)) => {
                catalog.apply(&steps.change);
                if let Some(resync) = steps.resync.first() {
                    return Planned::CopiedAgain(resync.reason.clone());
                }
                if at > case.with.len() {
                    notes.extend(steps.notes);
                }
            }
        }
    }
    notes.sort();
    notes.dedup();
    Planned::Applied(notes)
}

/// Differences of the case's tables; None when there are none.
async fn measured(stack: &Stack, schema: &str, number: usize, rows: Rows) -> Option<String> {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    let prefix = filled("{t}", number, rows).trim_end_matches("_t").to_owned();
    let of_case = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| name.trim_start_matches('_').starts_with(&prefix)).collect()
    };
    let wanted: Vec<String> = of_case(sql::tables(&mut source, schema).await);
    let found = of_case(sql::tables(&mut target, schema).await);
    let mut faults = Vec::new();
    for name in &wanted {
        let definition: (String, String) =
            source.query_first(format!("SHOW CREATE TABLE `{schema}`.`{name}`")).await.unwrap().unwrap();
        if definition.1.contains("TEMPORARY") {
            continue;
        }
        let name = (schema.to_owned(), name.clone());
        faults.extend(compare::table(&mut source, &name, &mut target, &name).await);
    }
    faults.extend(
        found
            .iter()
            .filter(|name| !wanted.contains(name))
            .map(|name| format!("{name} is only on the target")),
    );
    (!faults.is_empty()).then(|| faults.join("\n"))
}

/// Runs every case that the plan applies; gives the differences by case.
async fn run(stack: Stack, schema: &str) -> Vec<String> {
    let dialect = if stack.target().0 == "adb" { Dialect::Adb } else { Dialect::Mysql };
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("USE {schema}"),
            "SET sql_mode = ''",
            "CREATE TABLE first (id INT PRIMARY KEY)",
        ],
    )
    .await;
    let server = Server::start().await;
    let task = &schema.replace('_', "-");
    server.api.connect(&stack).await;
    server.api.create_task(&api::spec(task, &stack, &[&format!("{schema}.*")], &json!({}))).await;
    server.api.start(task).await;
    server.api.wait_for(task, "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    let ran: Vec<(usize, &Case)> = CASES
        .iter()
        .enumerate()
        .filter(|(_, case)| !case.only_planned && matches!(planned(dialect, case), Planned::Applied(_)))
        .collect();
    let mut faults = Vec::new();
    for (number, case) in &ran {
        for rows in [Rows::Before, Rows::After] {
            let mut texts = vec![create(case)];
            texts.extend(case.with.iter().map(|text| (*text).to_owned()));
            texts.push(case.rows.to_owned());
            texts.extend(case.ddl.iter().map(|text| (*text).to_owned()));
            if rows == Rows::After {
                texts.extend(case.after.iter().map(|text| (*text).to_owned()));
            }
            let texts: Vec<String> = texts.iter().map(|text| filled(text, *number, rows)).collect();
            for text in texts {
                if let Err(error) = source.query_drop(&text).await {
                    faults.push(format!("{}: the source refuses {text}: {error}", case.name));
                }
            }
        }
    }
    server.api.wait_caught_up(task, &stack, PATIENCE).await;
    for (number, case) in &ran {
        for rows in [Rows::Before, Rows::After] {
            if let Some(difference) = measured(&stack, schema, *number, rows).await {
                faults.push(format!("{} ({rows:?}, {dialect:?}):\n{difference}", case.name));
            }
        }
    }
    sql::drop_schemas(&stack, &[schema]).await;
    faults
}

fn cell(dialect: Dialect, case: &Case) -> String {
    match planned(dialect, case) {
        Planned::Applied(notes) if case.only_planned => notes.join("; "),
        Planned::Applied(notes) if notes.is_empty() => "exact".to_owned(),
        Planned::Applied(notes) => format!("exact; noted: {}", notes.join("; ")),
        Planned::CopiedAgain(reason) => format!("the table is copied again: {reason}"),
        Planned::Stops(text) => format!("stops: {text}"),
    }
    .replace('|', "\\|")
    .replace('\n', " ")
}

fn document() -> String {
    let mut text = "# DDL on both targets\n\n\
        Written by tests/ddl_matrix.rs (`TIDEGATE_WRITE_DDL=1 cargo test --test ddl_matrix`), which fails when this page is not what it finds.\n\n\
        *exact*: run in one stream with rows before the statement alone, and with rows before and after it; the tables were equal in the end, both\n\
        times. Other columns than those of the target's rows (indexes, comments, defaults) are not compared. *Noted*: what the target does not get, as the\n\
        DDL's record and event say. *Copied again* and *stops* are what the plan answers under the default policies; a stop leaves\n\
        everything before it in the target, and resumes once the policy is changed. With `rebuild` a stop that names it copies the table again.\n\n\
        | statement | mysql | adb |\n|---|---|---|\n"
        .to_owned();
    for case in CASES {
        writeln!(text, "| {} | {} | {} |", case.name, cell(Dialect::Mysql, case), cell(Dialect::Adb, case))
            .unwrap();
    }
    text
}

#[test]
fn the_document_says_what_the_plan_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ddl.md");
    let text = document();
    if std::env::var_os("TIDEGATE_WRITE_DDL").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    for (line, expected) in text.lines().enumerate() {
        assert_eq!(
            committed.lines().nth(line),
            Some(expected),
            "docs/ddl.md, line {}: write it anew with TIDEGATE_WRITE_DDL=1",
            line + 1
        );
    }
    assert_eq!(committed.lines().count(), text.lines().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_ddl_leaves_equal_tables() {
    let Some(stack) = Stack::utc("every_kind_of_ddl_leaves_equal_tables") else { return };
    // One after the other: the Drainer stage stops where DDL of several sessions overtakes each other.
    let mysql = run(stack.clone(), "dm_mysql").await;
    let adb = run(stack.on_adb(), "dm_adb").await;
    let faults: Vec<String> = mysql.into_iter().chain(adb).collect();
    assert!(faults.is_empty(), "{} cells differ:\n{}", faults.len(), faults.join("\n\n"));
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<_> = CASES.iter().map(|case| TableName::new("", case.name).table).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
}

//! Compares tables of source and target cell by cell, and holds differences against the counters.

use std::collections::BTreeMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

use super::cases::{Case, Column};
use super::document::{Outcome, Phase};
use super::{Run, SCHEMA, measured, table};
use support::cell::{self, Kind};
use support::sql;
use support::stack::Stack;

/// The error that a value of one of these tables stops its task with names the rule's cure.
const CURES: [&str; 4] = ["lossy.time", "lossy.zero_date", "lossy.fraction", "repair the text"];

/// Compares a phase's tables.
pub async fn judge(
    stack: &Stack,
    source: &mut Conn,
    run: &mut Run,
    phase: Phase,
    tables: &BTreeMap<String, Value>,
) {
    let mut target = match run.target {
        "adb" => sql::adb(stack).await,
        _ => sql::mariadb(stack).await,
    };
    for (number, case) in measured(run) {
        let name = table(number, phase);
        let outcome = if let Some(why) = run.refused.get(&number) {
            Outcome::Refused { by_precheck: true, why: why.clone() }
        } else if case.stops.contains(&run.name) {
            continue;
        } else {
            let known =
                tables.get(&name).unwrap_or_else(|| panic!("{}: {name} is not among the tables", run.name));
            if phase == Phase::Incremental && case.column == Column::Key {
                let copied = table(number, Phase::Full);
                let found = compare(source, &mut target, run, case, &copied, &tables[&copied]).await;
                assert_eq!(found, Outcome::Exact, "rows of full sync that the stream changed");
            }
            compare(source, &mut target, run, case, &name, known).await
        };
        run.outcomes.insert((number, phase), outcome);
    }
}

/// A refusal at run time names table, column and cure, and not the value.
pub fn refusal(error: &Value, table: &str) -> Outcome {
    assert_eq!(error["kind"], "value_refused", "{error}");
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    assert!(text("object").contains(&format!("{SCHEMA}.{table}")), "{error}");
    assert!(text("message").contains("column `v`"), "{error}");
    assert!(CURES.iter().any(|cure| text("hint").contains(cure)), "{error}");
    Outcome::Refused { by_precheck: false, why: text("message").replace("column `v`: ", "") }
}

async fn compare(
    source: &mut Conn,
    target: &mut Conn,
    run: &Run,
    case: &Case,
    name: &str,
    known: &Value,
) -> Outcome {
    let data_type: String = source
        .exec_first(
            "SELECT data_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND column_name = 'v'",
            (SCHEMA, name),
        )
        .await
        .unwrap()
        .unwrap();
    let kind = Kind::of(&data_type);
    let expected: Vec<_> = rows(source, SCHEMA, name)
        .await
        .into_iter()
        .map(|(id, value)| (id, cell::from_server(kind, &value)))
        .collect();
    // There BIT is its digits, as text.
    let kind = if kind == Kind::Bit && run.target == "adb" { Kind::Text } else { kind };
    let found: Vec<_> = rows(target, &run.schema, name)
        .await
        .into_iter()
        .map(|(id, value)| (id, cell::from_server(kind, &value)))
        .collect();
    let what = format!("{} {} ({}, {name})", case.ty, case.what, run.name);
    let ids = |rows: &[(i32, Option<String>)]| rows.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    if ids(&expected) != ids(&found) {
        return Outcome::Silent(format!("{what}: rows {:?} became {:?}", ids(&expected), ids(&found)));
    }
    // 1.50 and 1.5 are one number.
    let number = |text: &Option<String>| match text {
        Some(text) if data_type == "decimal" && text.contains('.') => {
            Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
        }
        text => text.clone(),
    };
    let changed: Vec<_> = expected
        .iter()
        .zip(&found)
        .filter(|(expected, found)| number(&expected.1) != number(&found.1))
        .collect();
    let counts: Vec<(String, u64)> = known["lossy"]
        .as_array()
        .expect("counters of the table")
        .iter()
        .inspect(|count| assert_eq!(count["column"], "v"))
        .map(|count| (count["rule"].as_str().unwrap().to_owned(), count["count"].as_u64().unwrap()))
        .collect();
    let counted: u64 = counts.iter().map(|(_, count)| count).sum();
    if counted != changed.len() as u64 {
        let changed: Vec<_> = changed.iter().map(|pair| shorten(&format!("{pair:?}"))).collect();
        return Outcome::Silent(format!(
            "{what}: {} differences and these counters: {counts:?}{}",
            changed.len(),
            changed.join("")
        ));
    }
    match counts.first() {
        None => Outcome::Exact,
        Some((rule, _)) => {
            let show = |text: &Option<String>| text.clone().unwrap_or_else(|| "NULL".to_owned());
            let examples = changed.iter().map(|(from, to)| (show(&from.1), show(&to.1))).collect();
            Outcome::Lossy { rule: rule.clone(), count: counted, of: case.values.len() as u64, examples }
        }
    }
}

fn shorten(text: &str) -> String {
    let text: String = text.chars().take(300).collect();
    format!("\n    {text}")
}

async fn rows(connection: &mut Conn, schema: &str, name: &str) -> Vec<(i32, mysql_async::Value)> {
    connection
        .exec(format!("SELECT id, v FROM {schema}.{name} ORDER BY id"), ())
        .await
        .unwrap_or_else(|error| panic!("{schema}.{name}: {error}"))
}

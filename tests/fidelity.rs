//! Every type with its edge values, through full and incremental sync, into both dialects and under each lossy policy: a value on
//! the target is the source's, or a counter of its column says by which rule it is not, or it was refused with table, column and
//! cure. docs/fidelity.md is written from what is measured here (`TIDEGATE_WRITE_FIDELITY=1`), and must say it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fidelity/cases.rs"]
mod cases;
#[path = "fidelity/document.rs"]
mod document;
#[path = "fidelity/measure.rs"]
mod measure;

use std::collections::BTreeMap;
use std::time::Duration;

use cases::{CASES, Case, Column};
use document::{Outcome, Phase};
use measure::{judge, refusal};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use support::api::{self, Api};
use support::server::Server;
use support::sql;
use support::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(120);
/// Source schema.
const SCHEMA: &str = "fd";
const POLICIES: [&str; 3] = ["refuse", "clamp", "varchar"];

/// One task of the matrix.
struct Run {
    /// `mysql`, or the policy of all four rules on `adb`.
    name: &'static str,
    target: &'static str,
    /// Of the target.
    schema: String,
    /// Reason for tables that the precheck refuses, by number of case.
    refused: BTreeMap<usize, String>,
    outcomes: BTreeMap<(usize, Phase), Outcome>,
}

/// Rows of full sync are in `f00`, those of the stream in `i00`.
fn table(case: usize, phase: Phase) -> String {
    match phase {
        Phase::Full => format!("f{case:02}"),
        Phase::Incremental => format!("i{case:02}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_is_exact_or_counted_or_refused_as_the_document_says() {
    let Some(stack) = Stack::utc("every_value_is_exact_or_counted_or_refused") else { return };
    let mut source = sql::tidb(&stack).await;
    prepare(&stack, &mut source).await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    api.put("/connections/adb", &api::mysql("adb", stack.adb_port)).await;

    let mut runs = vec![run("mysql", "target", SCHEMA.to_owned())];
    runs.extend(POLICIES.map(|policy| run(policy, "adb", format!("{SCHEMA}_{policy}"))));
    for run in &mut runs {
        begin(api, &stack, run).await;
    }
    let alone = runs.iter().flat_map(|run| {
        measured(run)
            .filter(|(_, case)| case.stops.contains(&run.name))
            .flat_map(|(number, _)| [(number, Phase::Full), (number, Phase::Incremental)])
            .map(|(number, phase)| begin_alone(api, &stack, run, number, phase))
            .collect::<Vec<_>>()
    });
    let stopping = futures_util::future::join_all(alone).await;
    for run in &mut runs {
        api.wait_for(run.name, "in its incremental phase", PATIENCE, |task| task["phase"] == "incremental")
            .await;
        let tables = tables(api, run.name).await;
        judge(&stack, &mut source, run, Phase::Full, &tables).await;
    }
    for alone in stopping.iter().filter(|alone| alone.phase == Phase::Incremental) {
        api.wait_for(&alone.task, "in its incremental phase", PATIENCE, |task| {
            task["phase"] == "incremental"
        })
        .await;
    }
    for (number, case) in CASES.iter().enumerate() {
        insert_and_update(&mut source, case, &table(number, Phase::Incremental)).await;
        if case.column == Column::Key {
            find_by_key(&mut source, number).await;
        }
    }
    for run in &mut runs {
        api.wait_caught_up(run.name, &stack, PATIENCE).await;
        let tables = tables(api, run.name).await;
        judge(&stack, &mut source, run, Phase::Incremental, &tables).await;
        shows_what_was_lost(api, run, &tables).await;
    }
    for alone in stopping {
        let task = api
            .wait_for(&alone.task, "stopped by a value", PATIENCE, |task| task["status"] == "failed")
            .await;
        let outcome = refusal(&task["last_error"], &table(alone.number, alone.phase));
        let run = runs.iter_mut().find(|run| run.name == alone.run).unwrap();
        run.outcomes.insert((alone.number, alone.phase), outcome);
    }
    let silent: Vec<_> = runs
        .iter()
        .flat_map(|run| run.outcomes.values())
        .filter_map(|outcome| match outcome {
            Outcome::Silent(what) => Some(what.as_str()),
            _ => None,
        })
        .collect();
    assert!(silent.is_empty(), "{} silent differences:\n{}", silent.len(), silent.join("\n"));
    document::hold(
        &runs.iter().map(|run| (run.name, &run.outcomes)).collect::<Vec<_>>(),
        &columns(&stack).await,
    );
    drop_all(&stack).await;
}

async fn drop_all(stack: &Stack) {
    sql::drop_schemas(stack, &[SCHEMA]).await;
    let mut adb = sql::adb(stack).await;
    for policy in POLICIES {
        sql::run(&mut adb, &[&format!("DROP DATABASE IF EXISTS {SCHEMA}_{policy} CASCADE")]).await;
    }
}

fn run(name: &'static str, target: &'static str, schema: String) -> Run {
    Run { name, target, schema, refused: BTreeMap::new(), outcomes: BTreeMap::new() }
}

/// The cases of a run: policies matter to some only.
fn measured(run: &Run) -> impl Iterator<Item = (usize, &'static Case)> + use<> {
    let all = matches!(run.name, "mysql" | "refuse");
    CASES.iter().enumerate().filter(move |(_, case)| all || case.lossy)
}

async fn prepare(stack: &Stack, source: &mut Conn) {
    drop_all(stack).await;
    // Not strict: what applications of old have stored is stored.
    sql::run(
        source,
        &[
            &format!("CREATE DATABASE {SCHEMA}"),
            &format!("USE {SCHEMA}"),
            "SET sql_mode = 'ALLOW_INVALID_DATES'",
            "SET tidb_skip_utf8_check = 1",
        ],
    )
    .await;
    for (number, case) in CASES.iter().enumerate() {
        for phase in [Phase::Full, Phase::Incremental] {
            let name = table(number, phase);
            let definition = match case.column {
                Column::Nullable => format!("id INT PRIMARY KEY, v {}", case.ty),
                Column::NotNull => format!("id INT PRIMARY KEY, v {} NOT NULL", case.ty),
                Column::Key => format!("id INT NOT NULL, v {} NOT NULL, PRIMARY KEY (v)", case.ty),
            };
            sql::run(source, &[&format!("CREATE TABLE {name} ({definition})")]).await;
        }
        insert(source, case, &table(number, Phase::Full)).await;
    }
}

async fn insert(source: &mut Conn, case: &Case, table: &str) {
    insert_rows(source, case, table, case.values.iter().copied()).await;
}

async fn insert_rows(source: &mut Conn, case: &Case, table: &str, values: impl Iterator<Item = &str>) {
    let mut rows: Vec<_> = values.enumerate().map(|(at, value)| format!("({at}, {value})")).collect();
    if case.column == Column::Nullable {
        // So many that the values go as parameters where a server takes them.
        rows.extend((200..216).map(|id| format!("({id}, NULL)")));
    }
    sql::run(source, &[&format!("INSERT INTO {table} VALUES {}", rows.join(", "))]).await;
    let (stored,): (usize,) =
        source.query_first(format!("SELECT COUNT(*) FROM {table}")).await.unwrap().unwrap();
    assert_eq!(stored, rows.len(), "{} {}", case.ty, case.what);
}

/// Half of the values of a column that takes NULL come by an update.
async fn insert_and_update(source: &mut Conn, case: &Case, table: &str) {
    if case.column != Column::Nullable {
        return insert(source, case, table).await;
    }
    let inserted = case.values.iter().enumerate().map(|(at, value)| if at % 2 == 0 { value } else { "NULL" });
    insert_rows(source, case, table, inserted).await;
    for (at, value) in case.values.iter().enumerate().filter(|(at, _)| at % 2 == 1) {
        sql::run(source, &[&format!("UPDATE {table} SET v = {value} WHERE id = {at}")]).await;
    }
}

/// The stream changes and deletes rows that it has brought itself, and rows that full sync has: the key must find them.
async fn find_by_key(source: &mut Conn, number: usize) {
    for phase in [Phase::Full, Phase::Incremental] {
        let name = table(number, phase);
        sql::run(
            source,
            &[&format!("UPDATE {name} SET id = id + 100"), &format!("DELETE FROM {name} WHERE id = 101")],
        )
        .await;
    }
}

/// Makes the run's task and starts it, without the tables that its precheck refuses.
async fn begin(api: &Api, stack: &Stack, run: &mut Run) {
    let of_run: Vec<_> = measured(run).collect();
    let draft = format!("{}-draft", run.name);
    let include: Vec<_> =
        of_run.iter().map(|(number, _)| format!("{SCHEMA}.{}", table(*number, Phase::Full))).collect();
    api.create_task(&spec(&draft, stack, run, &include)).await;
    let precheck = api.post(&format!("/tasks/{draft}/precheck"), &json!({})).await;
    if let Some(item) = api::items(&precheck, &["fail"]).iter().find(|item| item["id"] == "tables.types") {
        let objects = item["objects"].as_array().expect("the objects of an item");
        assert_eq!(item["object_count"], objects.len(), "all are shown");
        assert!(item["hint"].as_str().is_some_and(|hint| hint.contains("lossy.")), "{item}");
        for object in objects {
            let (place, why) = object.as_str().unwrap().split_once(": ").expect("object: reason");
            let number = of_run
                .iter()
                .map(|(number, _)| *number)
                .find(|number| place == format!("{SCHEMA}.{}.v", table(*number, Phase::Full)))
                .unwrap_or_else(|| panic!("the refusal names table and column: {object}"));
            run.refused.insert(number, why.to_owned());
        }
    }

    let include: Vec<_> = of_run
        .iter()
        .filter(|(number, case)| !run.refused.contains_key(number) && !case.stops.contains(&run.name))
        .flat_map(|(number, _)| [Phase::Full, Phase::Incremental].map(|phase| table(*number, phase)))
        .map(|name| format!("{SCHEMA}.{name}"))
        .collect();
    api.create_task(&spec(run.name, stack, run, &include)).await;
    api.start(run.name).await;
}

/// A task of one table, which one of its values will stop.
struct Alone {
    task: String,
    run: &'static str,
    number: usize,
    phase: Phase,
}

async fn begin_alone(api: &Api, stack: &Stack, run: &Run, number: usize, phase: Phase) -> Alone {
    assert!(!run.refused.contains_key(&number), "case {number} is refused by its type");
    let table = table(number, phase);
    let task = format!("{}-{table}", run.name);
    api.create_task(&spec(&task, stack, run, &[format!("{SCHEMA}.{table}")])).await;
    api.start(&task).await;
    Alone { task, run: run.name, number, phase }
}

fn spec(name: &str, stack: &Stack, run: &Run, include: &[String]) -> Value {
    let include: Vec<&str> = include.iter().map(String::as_str).collect();
    let mut more = json!({
        "target": run.target,
        "objects": {"schemas": {SCHEMA: {"target": run.schema}}},
        "tuning": {"connections": 4},
    });
    if run.target == "adb" {
        let policy = run.name;
        more["lossy"] = json!({"time": policy, "zero_date": policy, "decimal": policy, "fraction": policy});
    }
    api::spec(name, stack, &include, &more)
}

/// The task's tables by name.
async fn tables(api: &Api, task: &str) -> BTreeMap<String, Value> {
    let page = api.get(&format!("/tasks/{task}/tables?limit=500")).await;
    let items = page["items"].as_array().expect("tables").clone();
    items.into_iter().map(|item| (item["table"].as_str().unwrap().to_owned(), item)).collect()
}

/// What the tables count is on the task's page and among the metrics too.
async fn shows_what_was_lost(api: &Api, run: &Run, tables: &BTreeMap<String, Value>) {
    let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
    for count in tables.values().flat_map(|table| table["lossy"].as_array().unwrap()) {
        *rules.entry(count["rule"].as_str().unwrap()).or_default() += count["count"].as_u64().unwrap();
    }
    let task = api.task(run.name).await;
    let condition = task["conditions"].as_array().unwrap().iter().find(|item| item["type"] == "lossy_values");
    assert_eq!(condition.is_some(), !rules.is_empty(), "{:#}", task["conditions"]);
    let metrics = api.text("/metrics").await;
    for (rule, count) in rules {
        let detail = condition.unwrap()["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("{count} by {rule}")), "{detail}");
        let line =
            format!("tidegate_task_lossy_values_total{{task=\"{}\",rule=\"{rule}\"}} {count}", run.name);
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

/// The type that each case's column has on adb, by task.
async fn columns(stack: &Stack) -> BTreeMap<(String, usize), String> {
    let mut adb = sql::adb(stack).await;
    let mut types = BTreeMap::new();
    for policy in POLICIES {
        for number in 0..CASES.len() {
            let found: Option<String> = adb
                .exec_first(
                    "SELECT column_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND column_name = 'v'",
                    (format!("{SCHEMA}_{policy}"), table(number, Phase::Full)),
                )
                .await
                .unwrap();
            if let Some(found) = found {
                types.insert((policy.to_owned(), number), found);
            }
        }
    }
    types
}

//! Captured histories of a real Drainer, followed from their first message without any TiDB: what the target holds in the end
//! is what the tables of the source held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::json;
use support::history::{FinalTable, History};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn history_a_of_a_drainer_in_utc_ends_in_the_rows_of_its_source() {
    let Some(stack) = Stack::on_mysql_alone("history_a_utc") else { return };
    follow(stack, "history_a_utc", "A/UTC", "UTC", "hu_", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_a_of_a_drainer_in_shanghai_ends_in_the_rows_of_its_source() {
    let Some(stack) = Stack::utc("history_a_shanghai") else { return };
    follow(stack, "history_a_shanghai", "A/Asia_Shanghai", "Asia/Shanghai", "hs_", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_a_ends_in_the_rows_of_its_source_on_analyticdb_too() {
    let Some(stack) = Stack::utc("history_a_adb") else { return };
    follow(stack.on_adb(), "history_a_adb", "A/UTC", "UTC", "ha_", NOT_ON_ADB).await;
}

/// What AnalyticDB cannot follow, by all names of the history: no key, or one of generated or nullable columns; a column that becomes text; a table that
/// moves to another database and back.
const NOT_ON_ADB: &[&str] = &[
    "a_types.genpk",
    "a_keys.nopk",
    "a_keys.uknull",
    "a_ddl.c2",
    "a_ren2.x1",
    "a_ren2.x2",
    "a_ren2.x3",
    "a_part.ph",
    "a_part.pl",
    "a_tidb.sr",
    "a_ddl.c1",
    "a_ren.r1",
    "a_ren.r1b",
    "a_ren.r1c",
    "a_ren2.r1d",
    "a_ren.r1e",
];

/// `prefix` of the target's schemas keeps the tests apart.
async fn follow(stack: Stack, test: &str, history: &str, zone: &str, prefix: &str, without: &[&str]) {
    let history = History::open(history);
    let left_out = |schema: &str, name: &str| without.contains(&format!("{schema}.{name}").as_str());
    let mut tables = history.tables();
    tables.retain(|table| !left_out(&table.schema, &table.name));
    let schemas = history.schemas();
    let target_schemas: Vec<_> = schemas.iter().map(|schema| format!("{prefix}{schema}")).collect();
    sql::drop_schemas(&stack, &target_schemas.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let topic = format!("{test}_{}", std::process::id());
    let produced = stack.produce(&topic, &["-file".as_ref(), history.messages().as_os_str()]);
    assert_eq!(produced.first_offset, 0);

    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let map: BTreeMap<_, _> =
        schemas.iter().zip(&target_schemas).map(|(from, to)| (from, json!({"target": to}))).collect();
    let include: Vec<_> = schemas.iter().map(|schema| format!("{}.*", sql::quote(schema))).collect();
    let mut spec = json!({
        "name": "history",
        "source": {"kafka": "kafka", "topic": topic, "time_zone": zone},
        "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": "earliest",
        "objects": {"include": include, "exclude": without, "schemas": map},
        "ddl": {"drop_database": "apply", "other": "ignore"},
    });
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;
    api.start("history").await;
    api.wait_for_offset("history", produced.last_offset + 1, PATIENCE).await;

    let mut target = sql::target(&stack).await;
    let mut faults = Vec::new();
    for table in &tables {
        faults.extend(differs(&mut target, prefix, table).await);
    }
    for schema in &schemas {
        let expected: BTreeSet<_> = tables
            .iter()
            .filter(|table| table.schema == *schema)
            .map(|table| table.name.to_lowercase())
            .collect();
        for name in sql::tables(&mut target, &format!("{prefix}{schema}")).await {
            // A temporary table's rows are never in the stream; its CREATE is, and says nothing of rows to keep.
            if !expected.contains(&name.to_lowercase()) && name != "gtmp" {
                faults.push(format!("{schema}.{name} is only on the target"));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {} tables differ:\n{}", faults.len(), tables.len(), faults.join("\n"));
    let rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    eprintln!(
        "{test}: {} messages; {} tables with {rows} rows are as on the source",
        produced.messages,
        tables.len()
    );
    api.complete("history", "stop").await;
    sql::drop_schemas(&stack, &target_schemas.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Renames that leave Drainer with wrong names, exchanged partitions, rows that come back without a message: without a TiDB to ask, nobody
/// can follow some of these tables. They stop, each with its reason, and the others end as on the source.
#[tokio::test(flavor = "multi_thread")]
async fn the_quirks_of_a_drainer_stop_only_the_tables_that_nobody_can_follow() {
    let Some(stack) = Stack::on_mysql_alone("history_quirks") else { return };
    for (history, zone, prefix) in
        [("A_quirks/UTC", "UTC", "qu_"), ("A_quirks/Asia_Shanghai", "Asia/Shanghai", "qs_")]
    {
        quirks(&stack, history, zone, prefix).await;
    }
}

/// A name that was taken again while another table's rows still come under it, swapped names, an exchanged partition, RECOVER and FLASHBACK.
const CANNOT_BE_FOLLOWED: &[&str] =
    &["aq.a", "aq.ept", "aq.sw1", "aq.sw2", "aq_inv.rec_fb", "aq_inv.rec_fb2"];

async fn quirks(stack: &Stack, history: &str, zone: &str, prefix: &str) {
    let history = History::open(history);
    let schemas = history.schemas();
    let targets: Vec<_> = schemas.iter().map(|schema| format!("{prefix}{schema}")).collect();
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    sql::drop_schemas(stack, &targets).await;
    let topic = format!("quirks_{prefix}{}", std::process::id());
    let produced = stack.produce(&topic, &["-file".as_ref(), history.messages().as_os_str()]);
    let server = Server::start().await;
    server.api.connect(stack).await;
    let map: BTreeMap<_, _> =
        schemas.iter().zip(&targets).map(|(from, to)| (from, json!({"target": to}))).collect();
    let include: Vec<_> = schemas.iter().map(|schema| format!("{schema}.*")).collect();
    let spec = json!({
        "name": "quirks",
        "source": {"kafka": "kafka", "topic": topic, "time_zone": zone},
        "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": "earliest",
        "objects": {"include": include, "schemas": map},
        "ddl": {"drop_database": "apply", "other": "apply"},
        "errors": {"table": "stop_table"},
    });
    server.api.create_task(&spec).await;
    server.api.start("quirks").await;
    server.api.wait_for_offset("quirks", produced.last_offset + 1, PATIENCE).await;

    let mut target = sql::target(stack).await;
    let (mut faults, mut stopped, mut equal) = (Vec::new(), Vec::new(), 0);
    // FLASHBACK DATABASE is in no message.
    for table in history.tables().iter().filter(|table| table.schema != "aq3b") {
        let path = format!("/tasks/quirks/tables/{}/{}", table.schema, table.name);
        let state = server.api.get(&path).await;
        if state["state"] == "stopped" {
            assert!(state["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{state:#}");
            stopped.push(format!("{}.{}", table.schema, table.name));
            continue;
        }
        equal += 1;
        faults.extend(differs(&mut target, prefix, table).await);
    }
    stopped.sort_unstable();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(stopped, CANNOT_BE_FOLLOWED);
    assert!(equal >= 8, "{equal}");
    server.api.complete("quirks", "stop").await;
    sql::drop_schemas(stack, &targets).await;
}

async fn differs(target: &mut mysql_async::Conn, prefix: &str, table: &FinalTable) -> Option<String> {
    let name = (format!("{prefix}{}", table.schema), table.name.clone());
    let what = format!("{}.{}", table.schema, table.name);
    let mut columns = table.columns.clone();
    if compare::is_adb(target).await {
        columns.retain(|column| !column.generated);
    }
    let expected = table.texts(&columns);
    let found = compare::columns(target, &name).await;
    let columns = compare::as_on(&columns, &found);
    match compare::rows(target, &name, &columns).await {
        Ok(rows) => compare::difference(&expected, &rows).map(|text| format!("{what}{text}")),
        Err(error) => Some(format!("{what}: {error}")),
    }
}

/// The messages of a Drainer of 2019 (tests/fixtures/drainer/v2.1.jsonl): one table entry for each row, no keys, no lengths, the text of DDL as
/// it was typed, names without a schema.
#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_a_drainer_of_2019_end_in_the_rows_of_its_source() {
    let Some(stack) = Stack::on_mysql_alone("the_messages_of_a_drainer_of_2019") else { return };
    for (stack, prefix) in [(stack.clone(), "vm_"), (stack.on_adb(), "va_")] {
        let schemas = ["e1", "e2", "e3"];
        let targets = schemas.map(|schema| format!("{prefix}{schema}"));
        sql::drop_schemas(&stack, &targets.each_ref().map(String::as_str)).await;
        let topic = format!("v21_{prefix}{}", std::process::id());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/drainer/v2.1.jsonl");
        // The first six are of a history that ended early.
        let produced = stack.produce(&topic, &["-file", file, "-skip", "6", "-count", "28"]);
        let server = Server::start().await;
        server.api.connect(&stack).await;
        let map: BTreeMap<_, _> =
            schemas.iter().zip(&targets).map(|(from, to)| (from, json!({"target": to}))).collect();
        let is_adb = stack.dialect == support::stack::Dialect::Adb;
        // Without a key, and one that moves to another database.
        let without: &[&str] = if is_adb { &["e1.nopk", "e1.uknull", "e1.t", "e2.t2"] } else { &[] };
        let mut spec = json!({
            "name": "history",
            "source": {"kafka": "kafka", "topic": topic, "time_zone": "UTC"},
            "target": "target",
            "phases": {"schema": false, "full": false, "incremental": true},
            "start_at": "earliest",
            "objects": {"include": schemas.map(|schema| format!("{schema}.*")), "exclude": without, "schemas": map},
            "ddl": {"drop_database": "apply"},
        });
        api::merge(&mut spec, &api::policies(&stack));
        server.api.create_task(&spec).await;
        server.api.start("history").await;
        server.api.wait_for_offset("history", produced.last_offset + 1, PATIENCE).await;
        let mut target = sql::target(&stack).await;
        assert_eq!(sql::tables(&mut target, &targets[0]).await, ["cpk", "part"]);
        let tables = sql::tables(&mut target, &targets[1]).await;
        assert_eq!(tables, if is_adb { &["tl"][..] } else { &["t2", "tl"] });
        let texts = async |target: &mut mysql_async::Conn, query: String| -> Vec<(String, String)> {
            target.query(query).await.unwrap()
        };
        if !is_adb {
            let rows =
                format!("SELECT CAST(id AS CHAR), CONCAT(a, ' ', f) FROM {}.t2 ORDER BY id", targets[1]);
            let found = texts(&mut target, rows).await;
            assert_eq!(found, [("7".to_owned(), "1 1.5".to_owned()), ("8".to_owned(), "2 1.5".to_owned())]);
        }
        let found = texts(&mut target, format!("SELECT a, CAST(b AS CHAR) FROM {}.cpk", targets[0])).await;
        assert_eq!(found, [("tr".to_owned(), "1".to_owned())]);
        assert_eq!(sql::count(&mut target, &format!("{}.part", targets[0])).await, 2);

        let produced = stack.produce(&topic, &["-file", file, "-skip", "34"]);
        server.api.wait_for_offset("history", produced.last_offset + 1, PATIENCE).await;
        assert!(sql::tables(&mut target, &targets[1]).await.is_empty(), "e2 was dropped");
        let found =
            texts(&mut target, format!("SELECT CAST(id AS CHAR), CAST(a AS CHAR) FROM {}.dup", targets[2]))
                .await;
        assert_eq!(found, [("1".to_owned(), "2".to_owned())]);
        server.api.complete("history", "stop").await;
        sql::drop_schemas(&stack, &targets.each_ref().map(String::as_str)).await;
    }
}

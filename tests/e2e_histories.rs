//! Captured histories of a real Drainer, followed from their first message without any TiDB: what the target holds in the end
//! is what the tables of the source held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use support::history::{FinalTable, History};
use support::server::Server;
use support::stack::Stack;
use support::{compare, sql};

const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn history_a_of_a_drainer_in_utc_ends_in_the_rows_of_its_source() {
    follow("history_a_utc", "A/UTC", "UTC", "hu_").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_a_of_a_drainer_in_shanghai_ends_in_the_rows_of_its_source() {
    follow("history_a_shanghai", "A/Asia_Shanghai", "Asia/Shanghai", "hs_").await;
}

/// `prefix` of the target's schemas keeps the tests apart.
async fn follow(test: &str, history: &str, zone: &str, prefix: &str) {
    let Some(stack) = Stack::utc(test) else { return };
    let history = History::open(history);
    let tables = history.tables();
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
    api.create_task(&json!({
        "name": "history",
        "source": {"kafka": "kafka", "topic": topic, "time_zone": zone},
        "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true},
        "start_at": "earliest",
        "objects": {"include": include, "schemas": map},
        "tables_without_key": "match_row",
        "ddl": {"drop_database": "apply", "other": "ignore"},
    }))
    .await;
    api.start("history").await;
    api.wait_for_offset("history", produced.last_offset + 1, PATIENCE).await;

    let mut target = sql::mariadb(&stack).await;
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

async fn differs(target: &mut mysql_async::Conn, prefix: &str, table: &FinalTable) -> Option<String> {
    let name = (format!("{prefix}{}", table.schema), table.name.clone());
    let what = format!("{}.{}", table.schema, table.name);
    match compare::rows(target, &name, &table.columns).await {
        Ok(rows) => compare::difference(&table.rows, &rows).map(|text| format!("{what}{text}")),
        Err(error) => Some(format!("{what}: {error}")),
    }
}

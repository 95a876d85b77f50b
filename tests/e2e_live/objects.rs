//! Tables that come to a running task, leave it, come back, or get other rules.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::json;

use crate::{
    Load, PATIENCE, ask, assert_same, begin, named, patch, prepare, state, turns, wait_applied,
    wait_for_incremental, wait_for_state,
};
use support::api::mysql;
use support::proxy::Proxy;
use support::stack::{Dialect, Stack};
use support::{api, sql};

support::on_both_targets! {
    tables_come_go_and_come_back_under_load => come_and_go("lv_objects", "lv_objects_a");
    a_new_rule_is_explained_and_copies_the_table_again => rules("lv_rules", "lv_rules_a");
}

async fn come_and_go(stack: Stack, schema: &str) {
    let mut server = begin(&stack, schema, 4000, &["t", "other"], &json!({})).await;
    let api = server.api.clone();
    let load = Load::start(&stack, schema);
    // Dry: what would happen, and nothing happens.
    let body = named(schema, &["later"]);
    let (status, dry) = ask(&api, "/tasks/task/objects/add?dry_run=true", &body).await;
    assert_eq!((status.as_u16(), turns(&dry)), (200, vec!["later copy".to_owned()]), "{dry:#}");
    assert_eq!(api.task("task").await["spec_version"], dry["spec_version"]);

    // kill -9 in the middle of the copy.
    let (status, added) = ask(&api, "/tasks/task/objects/add", &body).await;
    assert_eq!((status.as_u16(), turns(&added)), (202, turns(&dry)), "{added:#}");
    wait_for_state(&api, schema, "later", &["copying", "catching_up", "swapping", "following"]).await;
    server.kill9();
    server.restart().await;
    wait_for_state(&api, schema, "later", &["following"]).await;
    // A pattern, with one more table that matches it.
    let pattern = json!({"tables": [format!("{schema}.later*")]});
    let (status, more) = ask(&api, "/tasks/task/objects/add?wait_ms=60000", &pattern).await;
    assert_eq!(status.as_u16(), 200, "{more:#}");
    assert_eq!(turns(&more), ["later_2 copy"], "the other one is there already");
    assert_eq!(state(&api, schema, "later_2").await, "following");

    // Out: it is no table of the task any more, and its data stays while the source goes on.
    let (status, out) = ask(&api, "/tasks/task/objects/remove?wait_ms=60000", &body).await;
    assert_eq!((status.as_u16(), turns(&out)), (200, vec!["later remove".to_owned()]), "{out:#}");
    assert!(state(&api, schema, "later").await.is_null());
    let mut target = sql::target(&stack).await;
    let sum = format!("SELECT COUNT(*), COALESCE(SUM(CRC32(v)), 0) FROM {schema}.later");
    let left: Option<(u64, u64)> = target.query_first(&sum).await.unwrap();
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(target.query_first::<(u64, u64), _>(&sum).await.unwrap(), left, "nothing reaches it");
    // DDL of the time when it is out must not be lost when it comes back.
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &[&format!("ALTER TABLE {schema}.later ADD COLUMN w INT DEFAULT 5")]).await;
    let (status, back) = ask(&api, "/tasks/task/objects/add?wait_ms=60000", &body).await;
    assert_eq!((status.as_u16(), turns(&back)), (200, vec!["later copy".to_owned()]), "{back:#}");
    load.stop().await;
    let names: Vec<String> =
        ["t", "other", "later", "later_2"].iter().map(|table| format!("{schema}.{table}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_same(&stack, &api, &pairs).await;
    let events = api.get("/tasks/task/events?limit=500").await;
    let kinds: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "objects").count(), 4, "{kinds:?}");
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn rules(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, 3000, &["t", "other"], &json!({})).await;
    let api = &server.api;
    let load = Load::start(&stack, schema);
    let mut target = sql::target(&stack).await;
    // Somebody else's table is in the place of one that is to come: nothing is kept of the request.
    let tail = if stack.dialect == Dialect::Adb { " DISTRIBUTED BY HASH(id)" } else { "" };
    sql::run(&mut target, &[&format!("CREATE TABLE {schema}.later (id INT PRIMARY KEY){tail}")]).await;
    let (status, refused) = ask(api, "/tasks/task/objects/add", &named(schema, &["later"])).await;
    assert_eq!(status.as_u16(), 422, "{refused:#}");
    assert_eq!(refused["errors"][0]["code"], "exists", "{refused:#}");
    let (status, refused) = ask(api, "/tasks/task/objects/add", &named(schema, &["nowhere"])).await;
    assert_eq!((status.as_u16(), &refused["errors"][0]["code"]), (422, &json!("not_found")), "{refused:#}");
    // With a rule of its own it goes elsewhere.
    let other = json!({"tables": [format!("{schema}.later")], "rules": {format!("{schema}.later"): {"target": format!("{schema}.later_copy")}}});
    let (status, added) = ask(api, "/tasks/task/objects/add?wait_ms=60000", &other).await;
    assert_eq!((status.as_u16(), turns(&added)), (200, vec!["later copy".to_owned()]), "{added:#}");

    // A filter, fewer columns, another name: said before it is done.
    let change = json!({"objects": {"tables": {
        format!("{schema}.t"): {"filter": "id >= 1000", "columns": {"exclude": ["n"]}},
        format!("{schema}.other"): {"target": format!("{schema}.renamed")},
    }}});
    let answer = patch(api, "/tasks/task/spec?dry_run=true", change.clone()).await;
    assert_eq!(turns(&answer), ["other copy_again", "t copy_again"], "{answer:#}");
    assert_eq!(answer["tables"][1]["why"], "its columns changed, its filter changed");
    assert!(answer["tables"][0]["why"].as_str().unwrap().contains("stays as it is"), "{answer:#}");
    let kept = patch(api, "/tasks/task/spec", change).await;
    assert_eq!(kept["tables"], answer["tables"]);
    wait_applied(api).await;
    for table in ["t", "other"] {
        wait_for_state(api, schema, table, &["following"]).await;
    }
    load.stop().await;
    let [one, two] = ["later", "other"].map(|table| format!("{schema}.{table}"));
    let [one_copy, two_copy] = ["later_copy", "renamed"].map(|table| format!("{schema}.{table}"));
    assert_same(&stack, api, &[(&one, &one_copy), (&two, &two_copy)]).await;
    let mut source = sql::tidb(&stack).await;
    let expected: Vec<(i32, String)> =
        source.query(format!("SELECT id, v FROM {schema}.t WHERE id >= 1000 ORDER BY id")).await.unwrap();
    let found: Vec<(i32, String)> =
        target.query(format!("SELECT id, v FROM {schema}.t ORDER BY id")).await.unwrap();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "rows by the new rule");
    assert_eq!(sql::tables(&mut target, schema).await, ["later", "later_copy", "other", "renamed", "t"]);
    assert_eq!(api.task("task").await["run"], 1);
    let old = api.send(Method::GET, "/tasks/task/spec", None).await;
    assert!(old.status.is_success());
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_copy_says_so() {
    let Some(stack) = Stack::utc("a_task_that_cannot_copy_says_so") else { return };
    let schema = "lv_cannot";
    let more = json!({"source": {"tidb": null}, "phases": {"schema": false, "full": false, "incremental": true}, "start_at": "latest"});
    let server = begin(&stack, schema, 10, &["t", "other"], &more).await;
    let api = &server.api;
    let (status, refused) = ask(api, "/tasks/task/objects/add", &named(schema, &["later"])).await;
    assert_eq!((status.as_u16(), &refused["code"]), (409, &json!("spec-locked")), "{refused:#}");
    assert!(refused["errors"][0]["detail"].as_str().unwrap().contains("tidb connection"), "{refused:#}");
    let (status, out) =
        ask(api, "/tasks/task/objects/remove?wait_ms=60000", &named(schema, &["other"])).await;
    assert_eq!(status.as_u16(), 200, "{out:#}");
    sql::drop_schemas(&stack, &[schema]).await;
}

/// The command is taken from the store while a checkpoint is being saved, and its taker ends with that.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_taker_breaks_is_carried_out_by_the_next() {
    let Some(stack) = Stack::utc("a_command_whose_taker_breaks_is_carried_out_by_the_next") else { return };
    let (stack, schema) = (stack.on_adb(), "lv_taker");
    let server = prepare(&stack, schema, 100).await;
    let api = &server.api;
    let line = Proxy::start(stack.adb_port).await;
    api.put("/connections/target", &mysql("adb", line.port)).await;
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.t")], &json!({}))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let id = api.task("task").await["id"].as_str().unwrap().to_owned();
    let slow = stack.adb_fault(&format!("do=slow&ms=30000&times=1&match=marks|{id}")).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.t VALUES (500000, 'x', 1)")]).await;
    let end = Instant::now() + PATIENCE;
    while stack.adb_happened(slow).await == 0 {
        assert!(Instant::now() < end, "the place in the target is not marked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, asked) = ask(api, "/tasks/task/tables/resync", &named(schema, &["t"])).await;
    assert_eq!(status.as_u16(), 202, "{asked:#}");
    while !server.log().contains("command=\"resync\"") {
        assert!(Instant::now() < end, "the command is not taken\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stack.adb_clear(slow).await;
    line.cut();
    let resynced = async || {
        let events = api.get("/tasks/task/events?limit=500").await;
        events["items"].as_array().unwrap().iter().any(|event| event["kind"] == "table_resynced")
    };
    while !resynced().await {
        assert!(Instant::now() < end, "the command is forgotten\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for_state(api, schema, "t", &["following"]).await;
    assert_eq!(api.task("task").await["run"], 1, "nobody had to start it again");
    assert_same(&stack, api, &[("lv_taker.t", "lv_taker.t")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

//! Fields of a spec that are live: taken up by a run in progress.

use reqwest::Method;
use serde_json::json;

use crate::{Load, assert_same, begin, patch, prepare, wait_applied, wait_for_incremental};
use support::stack::Stack;
use support::{api, sql};

support::on_both_targets! {
    live_fields_are_taken_up_between_batches => live_fields("lv_spec", "lv_spec_a");
    a_copy_makes_room_for_new_settings_and_goes_on => during_the_copy("lv_copy", "lv_copy_a");
}

async fn live_fields(stack: Stack, schema: &str) {
    let server = begin(&stack, schema, 2000, &["*"], &json!({})).await;
    let api = &server.api;
    let load = Load::start(&stack, schema);
    for (connections, rows) in [(1, 16), (12, 4096), (4, 100)] {
        let change = json!({"tuning": {"connections": connections, "batch_rows": rows}, "labels": {"rows": rows.to_string()}});
        let answer = patch(api, "/tasks/task/spec", change).await;
        let effects: Vec<_> = answer["effects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|effect| effect["effect"].as_str().unwrap())
            .collect();
        assert!(effects.iter().all(|effect| ["now", "next_batch"].contains(effect)), "{answer:#}");
        let task = wait_applied(api).await;
        assert_eq!((&task["run"], &task["labels"]["rows"]), (&json!(1), &json!(rows.to_string())));
    }
    // A policy that the next DDL meets.
    patch(
        api,
        "/tasks/task/spec",
        json!({"ddl": {"add_column": "ignore"}, "errors": {"table": "stop_table"}}),
    )
    .await;
    wait_applied(api).await;
    load.stop().await;
    let mut source = sql::tidb(&stack).await;
    let add = format!("ALTER TABLE {schema}.other ADD COLUMN more INT DEFAULT 3");
    sql::run(&mut source, &[&add, &format!("INSERT INTO {schema}.other VALUES (900000, 'x', 1, 1)")]).await;
    api.wait_caught_up("task", &stack, crate::PATIENCE).await;
    let mut target = sql::target(&stack).await;
    let columns = crate::compare::columns(&mut target, &(schema.to_owned(), "other".to_owned())).await;
    assert!(columns.iter().all(|column| column.name != "more"), "the new policy was met");
    sql::run(&mut source, &[&format!("ALTER TABLE {schema}.other DROP COLUMN more")]).await;

    // What is not live is refused by name, and nothing of the change is kept.
    let change =
        json!({"existing_tables": "keep", "source": {"time_zone": "+01:00"}, "tuning": {"connections": 3}});
    let refused = api.send(Method::PATCH, "/tasks/task/spec", Some(&change)).await;
    assert_eq!(refused.status.as_u16(), 409, "{:#}", refused.body);
    let named: Vec<_> = refused.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["/existing_tables", "/source/time_zone"]);
    assert_eq!(api.get("/tasks/task/spec").await["tuning"]["connections"], 4);
    let names: Vec<String> =
        ["t", "other", "later", "later_2"].iter().map(|table| format!("{schema}.{table}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_same(&stack, api, &pairs).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn during_the_copy(stack: Stack, schema: &str) {
    let server = prepare(&stack, schema, 6000).await;
    let api = &server.api;
    let more =
        json!({"throttle": {"full_rows_per_second": 1500}, "tuning": {"chunk_rows": 200, "batch_rows": 100}});
    let include = [format!("{schema}.t"), format!("{schema}.later")];
    api.create_task(&api::spec("task", &stack, &[&include[0], &include[1]], &more)).await;
    let load = Load::start(&stack, schema);
    api.start("task").await;
    api.wait_for("task", "some rows copied", crate::PATIENCE, |task| {
        task["progress"]["rows_copied"].as_u64().is_some_and(|rows| rows > 500)
    })
    .await;
    let before = api.task("task").await;
    patch(api, "/tasks/task/spec", json!({"tuning": {"connections": 2}})).await;
    // In the middle: the table that goes is not copied to its end, the one that comes waits for the stream.
    let (status, added) =
        crate::ask(api, "/tasks/task/objects/add", &crate::named(schema, &["later_2"])).await;
    assert_eq!(status.as_u16(), 202, "{added:#}");
    assert_eq!(crate::turns(&added), ["later_2 copy"]);
    let (_, removed) = crate::ask(api, "/tasks/task/objects/remove", &crate::named(schema, &["later"])).await;
    assert_eq!(crate::turns(&removed), ["later remove"]);
    let task = wait_applied(api).await;
    assert_eq!(task["run"], before["run"], "the same run");
    let snapshot = |task: &serde_json::Value| task["checkpoint"]["snapshot_tso"].clone();
    api.put("/tasks/task/throttle", &json!({})).await;
    let task = wait_for_incremental(api).await;
    assert_eq!(snapshot(&task), snapshot(&before), "the copy goes on at the same snapshot");
    crate::wait_for_state(api, schema, "later_2", &["following"]).await;
    load.stop().await;
    let names: Vec<String> = ["t", "later_2"].iter().map(|table| format!("{schema}.{table}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_same(&stack, api, &pairs).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

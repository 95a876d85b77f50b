use serde_json::{Value, json};

use crate::app::{TestApp, pointers, spec};

fn expected(faults: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut faults: Vec<_> =
        faults.iter().map(|(pointer, code)| ((*pointer).to_owned(), (*code).to_owned())).collect();
    faults.sort();
    faults
}

#[tokio::test]
async fn all_faults_of_a_spec_are_told_at_once() {
    let app = TestApp::start().await.with_connections().await;
    let body = json!({
        "name": "No Good",
        "colour": "red",
        "source": {"tidb": "kafka", "kafka": 5, "topic": "a b", "time_zone": "Mars"},
        "objects": {"include": ["orders", "shop.*"], "tables": {"shop.a": {"filter": "id >", "columns": {"exclude": ["a"], "rename": {"A": "b"}}, "operations": ["insert", "upsert"], "primary_key": [], "ddl": {"view": "drop"}, "oops": 1}}},
        "existing_tables": "merge",
        "tuning": {"connections": 0, "batch_rows": "many"},
        "ddl": {"drop_database": true},
        "merge": {"column": "c", "value": "v"},
        "throttle": {"full_rows_per_second": -10},
    });
    let problem = app.create(body).await.problem(422, "invalid-body");
    assert_eq!(
        pointers(&problem),
        expected(&[
            ("/name", "invalid"),
            ("/colour", "unknown_field"),
            ("/source/tidb", "wrong_kind"),
            ("/source/kafka", "wrong_type"),
            ("/source/topic", "invalid"),
            ("/source/time_zone", "invalid"),
            ("/target", "required"),
            ("/objects/include/0", "invalid_name"),
            ("/objects/tables/shop.a/filter", "invalid"),
            ("/objects/tables/shop.a/columns/rename/A", "invalid"),
            ("/objects/tables/shop.a/operations/1", "invalid"),
            ("/objects/tables/shop.a/primary_key", "invalid"),
            ("/objects/tables/shop.a/ddl/view", "invalid"),
            ("/objects/tables/shop.a/oops", "unknown_field"),
            ("/existing_tables", "invalid"),
            ("/tuning/connections", "invalid"),
            ("/tuning/batch_rows", "wrong_type"),
            ("/ddl/drop_database", "wrong_type"),
            ("/merge/value", "invalid"),
            ("/throttle/full_rows_per_second", "invalid"),
        ])
    );
    let text = problem.to_string();
    assert!(text.contains("one of \\\"apply\\\", \\\"ignore\\\", \\\"stop\\\""), "{text}");
}

#[tokio::test]
async fn the_contracts_own_example_is_taken() {
    let app = TestApp::start().await.with_connections().await;
    let body = json!({
        "name": "shop-to-adb", "labels": {"env": "prod"},
        "source": {"tidb": "tidb", "kafka": "kafka", "topic": "7032_obinlog", "format": "drainer", "time_zone": "+08:00"},
        "target": "adb",
        "phases": {"schema": true, "full": true, "incremental": true},
        "start_at": null,
        "objects": {
            "include": ["shop.*", "`crm`.customer"], "exclude": ["shop.tmp_*"],
            "schemas": {"shop": {"target": "dw"}},
            "tables": {"shop.orders": {"target": "dw.orders", "columns": {"exclude": ["note"], "rename": {"uid": "user_id"}},
                       "filter": "id > 10", "operations": ["insert", "update", "delete"], "primary_key": null, "ddl": {},
                       "kind": "partitioned", "distribute_by": ["user_id"], "partition_by": "DATE_FORMAT(created_at, '%Y%m')", "lifecycle_partitions": 36}}
        },
        "names": "as_source",
        "existing_tables": "refuse",
        "ddl": {"create_database": "apply", "drop_database": "stop", "create_table": "apply", "drop_table": "apply", "truncate_table": "apply", "rename_table": "apply",
                "add_column": "apply", "drop_column": "apply", "rename_column": "apply", "modify_column": "apply", "partition": "apply", "view": "ignore", "other": "stop"},
        "online_ddl": {"mode": "follow", "shadow_patterns": ["^_(.+)_(gho|ghc|del)$", "^_(.+)_(new|old)$"]},
        "lossy": {"time": "refuse", "zero_date": "refuse", "decimal": "refuse", "fraction": "clamp"},
        "errors": {"row": "stop", "table": "stop_task", "dead_letter_limit": 1000, "connection_retry_ms": 43200000, "other_retry_ms": 600000},
        "tables_without_key": "refuse",
        "merge": null,
        "waivers": [],
        "throttle": {"full_rows_per_second": null, "full_bytes_per_second": null, "incremental_rows_per_second": null, "incremental_bytes_per_second": null},
        "tuning": {"connections": 8, "memory_bytes": 268435456, "chunk_rows": 50000, "batch_rows": 4096, "batch_bytes": 4194304}
    });
    let reply = app.create(body.clone()).await;
    let location = reply.headers["location"].to_str().unwrap().to_owned();
    let task = reply.expect(201);
    assert_eq!(location, format!("/api/v1/tasks/{}", task["id"].as_str().unwrap()));
    assert_eq!(app.get(&location).await.expect(200)["name"], "shop-to-adb");

    // Defaults are stored and shown: the example is all defaults, so it reads as it was written.
    let read = app.get("/tasks/shop-to-adb/spec").await.expect(200);
    let mut written = body;
    written["objects"]["include"][1] = json!("crm.customer");
    // Beyond the contract's example.
    written["throttle"]["connections"] = Value::Null;
    assert_eq!(read, written);
}

#[tokio::test]
async fn a_spec_goes_round_and_changes_by_patch() {
    let app = TestApp::start().await.with_task("a").await;
    let reply = app.get("/tasks/a/spec").await;
    assert_eq!(reply.headers["etag"], "\"1\"");
    let read = reply.expect(200);
    let answer = app.put("/tasks/a/spec", read.clone()).await.expect(200);
    assert_eq!(answer, json!({"spec": read, "spec_version": 1, "effects": [], "tables": []}));

    let patch =
        json!({"tuning": {"connections": 4}, "labels": {"x": "y"}, "objects": {"exclude": ["`shop`.`b`"]}});
    let dry = app.patch("/tasks/a/spec?dry_run=true", patch.clone()).await.expect(200);
    assert_eq!(app.get("/tasks/a/spec").await.expect(200), read, "a dry run keeps nothing");
    let answer = app.patch("/tasks/a/spec", patch).await.expect(200);
    assert_eq!(answer, dry);
    assert_eq!(answer["spec"]["tuning"]["connections"], 4);
    assert_eq!(answer["spec"]["objects"]["exclude"], json!(["shop.b"]));
    let fields: Vec<_> = answer["effects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|effect| effect["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["/labels/x", "/objects/exclude", "/tuning/connections"]);
    let back = app.patch("/tasks/a", json!({"tuning": null, "labels": null})).await.expect(200);
    assert_eq!(back["spec"]["tuning"]["connections"], 8);
    assert_eq!(back["spec_version"], 3);

    let stale = app.client.put(app.url("/tasks/a/spec")).header("if-match", "\"1\"").json(&read);
    app.send(stale).await.problem(412, "precondition-failed");
    app.patch("/tasks/a/spec", json!({"name": "B"})).await.problem(422, "invalid-body");
    app.patch("/tasks/a/spec", json!({"target": null})).await.problem(422, "invalid-body");
    app.create(spec("b")).await.expect(201);
    app.patch("/tasks/a/spec", json!({"name": "b"})).await.problem(409, "name-taken");
    app.patch("/tasks/a/spec", json!({"name": "c"})).await.expect(200);
    assert_eq!(app.get("/tasks/c").await.expect(200)["labels"], json!({}));
    app.get("/tasks/a").await.problem(404, "not-found");
}

#[tokio::test]
async fn state_locks_fields() {
    let app = TestApp::start().await.with_task("a").await;
    app.patch("/tasks/a/spec", json!({"existing_tables": "keep"})).await.expect(200);
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let patch = json!({"existing_tables": "replace", "source": {"time_zone": "+08:00"}, "tuning": {"connections": 2}});
    let problem = app.patch("/tasks/a/spec", patch).await.problem(409, "spec-locked");
    assert_eq!(problem["task_status"], "running");
    assert_eq!(
        pointers(&problem),
        expected(&[("/existing_tables", "locked"), ("/source/time_zone", "locked")])
    );
    let answer = app.patch("/tasks/a/spec", json!({"tuning": {"connections": 2}})).await.expect(200);
    assert_eq!(answer["effects"][0]["effect"], "next_batch");
    let task = app.get("/tasks/a").await.expect(200);
    assert_eq!((&task["spec_version"], &task["applied_spec_version"]), (&json!(3), &json!(2)));
    // The run is handed the new spec; a worker that has not taken it up goes on with the old one.
    app.until_handed(|context| context.newer().is_some_and(|newer| newer.spec.tuning.connections == 2)).await;
    assert_eq!(app.stage.context().spec.tuning.connections, 8);
    let dry = json!({"objects": {"include": ["a.b"]}, "labels": {"x": "y"}});
    let answer = app.patch("/tasks/a/spec?dry_run=true", dry).await.expect(200);
    let effects: Vec<_> =
        answer["effects"].as_array().unwrap().iter().map(|effect| &effect["effect"]).collect();
    assert_eq!(effects, ["now", "next_batch"]);

    app.post("/tasks/a/pause?wait_ms=10000").await.expect(200);
    app.patch("/tasks/a/spec", json!({"source": {"time_zone": "+08:00"}})).await.expect(200);
    app.post("/tasks/a/resume?wait_ms=10000").await.expect(200);
    assert_eq!(app.get("/tasks/a").await.expect(200)["applied_spec_version"], 4);
    assert_eq!(app.stage.context().spec.source.time_zone, "+08:00");
    assert_eq!(app.stage.context().spec.tuning.connections, 2);
}

#[tokio::test]
async fn a_dry_run_creates_nothing() {
    let app = TestApp::start().await.with_connections().await;
    let reply = app.request(reqwest::Method::POST, "/tasks?dry_run=true", Some(spec("a"))).await;
    assert_eq!(reply.expect(200)["status"], "created");
    assert_eq!(app.get("/tasks").await.expect(200)["items"], json!([]));
    app.create(spec("a")).await.expect(201);
    app.create(spec("a")).await.problem(409, "name-taken");
    let reply = app.request(reqwest::Method::POST, "/tasks?dry_run=true", Some(spec("a"))).await;
    reply.problem(409, "name-taken");
}

#[tokio::test]
async fn precheck_and_plan_are_kept_as_reports() {
    let app = TestApp::start().await.with_task("a").await;
    let none = app.get("/tasks/a/precheck").await.expect(200);
    assert_eq!((&none["ran_at"], &none["items"]), (&Value::Null, &json!([])));
    let report = app.post("/tasks/a/precheck").await.expect(200);
    assert_eq!(report["outcome"], "fail", "nothing listens there: {report}");
    assert!(report["items"].as_array().unwrap().iter().all(|item| item["detail"].is_string()));
    assert_eq!(app.get("/tasks/a/precheck").await.expect(200), report);
    assert_eq!(app.get("/tasks/a/plan").await.expect(200)["planned_at"], Value::Null);
}

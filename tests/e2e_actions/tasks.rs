//! Sections 3 and 4: a task before its start, and at its end.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, pointers, spec};
use support::stack::Stack;

pub async fn before_start(client: &Client, stack: &Stack) {
    let mut body = spec("shop-to-dw", stack, &["act.*"]);
    body["labels"] = json!({"env": "prod"});
    body["objects"]["exclude"] = json!(["act.tmp_*", "act.c"]);

    // Nothing is kept of a dry run, everything is said.
    let dry = client.post("/tasks?dry_run=true", body.clone()).await.is(200);
    assert!(!dry["effects"].as_array().unwrap().is_empty(), "{dry:#}");
    client.get("/tasks/shop-to-dw").await.refused(404, "not-found");
    for (change, place) in [
        (json!({"target": "nowhere"}), "/target"),
        (json!({"target": "kafka-prod"}), "/target"),
        (json!({"source": {"tidb": "nowhere"}}), "/source/tidb"),
        (json!({"source": {"time_zone": "Mars"}}), "/source/time_zone"),
        (json!({"objects": {"include": [7]}}), "/objects/include/0"),
        (json!({"objects": {"tables": {"act.a": {"filter": "id >"}}}}), "/objects/tables/act.a/filter"),
        (json!({"ddl": {"add_column": "perhaps"}}), "/ddl/add_column"),
        (json!({"throttle": {"full_rows_per_second": -5}}), "/throttle/full_rows_per_second"),
        (json!({"labels": {"env": 7}}), "/labels/env"),
    ] {
        let mut wrong = body.clone();
        support::api::merge(&mut wrong, &change);
        let problem = client.post("/tasks", wrong).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    // Two keys that mean one table.
    let mut twice = body.clone();
    twice["objects"]["tables"] = json!({"act.a": {"target": "x.a"}, "`act`.`a`": {"target": "y.a"}});
    client.post("/tasks", twice).await.refused(422, "invalid-body");

    // The same key and body: the same answer.
    let create = async |key: &str, body: &Value| {
        client.with(Method::POST, "/tasks", ("idempotency-key", key), Some(body.clone())).await
    };
    let made = create("make-it", &body).await;
    assert_eq!(
        (made.status.as_u16(), made.header("location")),
        (201, "/api/v1/tasks/".to_owned() + made.json()["id"].as_str().unwrap())
    );
    let version = made.header("etag");
    let task = made.is(201);
    let again = create("make-it", &body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.is(201)["id"], task["id"]);
    create("make-it", &spec("other", stack, &["act.*"])).await.refused(422, "idempotency-key-reused");
    for key in ["", &"k".repeat(256)] {
        create(key, &body).await.refused(400, "invalid-parameter");
    }
    client.post("/tasks", body.clone()).await.refused(409, "name-taken");
    let id = task["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 28 && id.starts_with("t_"), "{id}");
    assert_eq!(
        (&task["status"], &task["desired"], &task["phase"]),
        (&json!("created"), &json!("none"), &Value::Null)
    );
    let by_id = client.get(&format!("/tasks/{id}")).await;
    assert_eq!(by_id.header("etag"), version);
    assert_eq!(by_id.is(200)["name"], "shop-to-dw");

    // Reads always carry every field.
    let page = client.get("/tasks/shop-to-dw").await.is(200);
    for field in [
        "desired",
        "status",
        "phase",
        "health",
        "conditions",
        "checkpoint",
        "watermark",
        "lag_ms",
        "rates",
        "retention",
        "last_error",
        "spec_version",
        "applied_spec_version",
        "links",
        "labels",
        "name",
        "id",
    ] {
        assert!(page.get(field).is_some(), "{field} is not there: {page:#}");
    }
    specs(client, &version).await;
    lists(client, stack).await;

    // What the state forbids.
    for command in ["pause", "resume"] {
        let problem =
            client.command(&format!("/tasks/shop-to-dw/{command}")).await.refused(409, "invalid-transition");
        assert_eq!(problem["task_status"], "created");
        assert!(problem["allowed_from"].as_array().unwrap().contains(&json!("paused")) || command == "pause");
    }
    let problem = client
        .post("/tasks/shop-to-dw/reset", json!({"target_tables": "keep"}))
        .await
        .refused(409, "invalid-transition");
    let from = json!(["paused", "failed", "stopped", "finished"]);
    assert_eq!((&problem["task_status"], &problem["allowed_from"]), (&json!("created"), &from));
    client
        .post("/tasks/shop-to-dw/reset", json!({"target_tables": "burn"}))
        .await
        .refused(422, "invalid-body");
    client.command("/tasks/shop-to-dw/start?wait_ms=60001").await.refused(400, "invalid-parameter");
    client.command("/tasks/shop-to-dw/start?wait_ms=soon").await.refused(400, "invalid-parameter");

    // Precheck and plan.
    let report = client.command("/tasks/shop-to-dw/precheck").await.is(200);
    let items = report["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["id"] == "kafka.partitions"), "{report:#}");
    for item in items {
        assert!(["pass", "warn", "fail", "skipped"].contains(&item["outcome"].as_str().unwrap()), "{item}");
        for field in ["objects", "object_count", "detail", "hint", "waivable", "waived"] {
            assert!(item.get(field).is_some(), "{field}: {item}");
        }
        assert_ne!(item["outcome"], "fail", "{item:#}");
    }
    assert_eq!(client.get("/tasks/shop-to-dw/precheck").await.is(200)["items"], report["items"]);
    let warnings: Vec<_> =
        items.iter().filter(|item| item["outcome"] == "warn").map(|item| item["id"].clone()).collect();
    client.patch("/tasks/shop-to-dw/spec", json!({"waivers": warnings})).await.is(200);
    let plan = client.command("/tasks/shop-to-dw/plan").await.is(200);
    let tables = plan["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 2, "{plan:#}");
    for (table, name) in tables.iter().zip(["a", "b"]) {
        assert_eq!(
            (&table["source"], &table["target"]),
            (&json!(format!("act.{name}")), &json!(format!("act_copy.{name}")))
        );
        assert_eq!(table["action"], "create");
        let statements = table["statements"].as_array().unwrap();
        assert!(
            statements.iter().any(|statement| statement.as_str().unwrap().contains("CREATE TABLE")),
            "{table}"
        );
        assert!(table["warnings"].is_array());
    }
    assert_eq!(client.get("/tasks/shop-to-dw/plan").await.is(200)["tables"], plan["tables"]);
}

async fn specs(client: &Client, version: &str) {
    let path = "/tasks/shop-to-dw/spec";
    let read = client.get(path).await;
    assert_eq!(read.header("etag"), version, "ETag = version");
    let full = read.is(200);
    // Every default is stored at creation and shown on reading.
    for (place, value) in [
        ("/phases/full", json!(true)),
        ("/start_at", Value::Null),
        ("/names", json!("as_source")),
        ("/existing_tables", json!("refuse")),
        ("/ddl/drop_database", json!("stop")),
        ("/ddl/view", json!("ignore")),
        ("/online_ddl/mode", json!("follow")),
        ("/lossy/fraction", json!("clamp")),
        ("/errors/dead_letter_limit", json!(1000)),
        ("/errors/connection_retry_ms", json!(43_200_000)),
        ("/tables_without_key", json!("refuse")),
        ("/merge", Value::Null),
        ("/throttle/full_rows_per_second", Value::Null),
        ("/tuning/connections", json!(8)),
        ("/tuning/memory_bytes", json!(268_435_456)),
        ("/source/format", json!("drainer")),
    ] {
        assert_eq!(full.pointer(place), Some(&value), "{place}: {full:#}");
    }
    // PUT of what GET gave is a no-op.
    let same = client.put(path, full.clone()).await;
    assert_eq!(same.header("etag"), version);
    same.is(200);
    // A merge patch: arrays replace, null = default; the effects are told, also before.
    let patch = json!({"objects": {"exclude": ["act.tmp_*"]}, "tuning": {"connections": 4}});
    let told = client.patch(&format!("{path}?dry_run=true"), patch.clone()).await.is(200);
    let fields = |answer: &Value| -> Vec<String> {
        let effects = answer["effects"].as_array().unwrap();
        effects.iter().map(|effect| effect["field"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(fields(&told).len(), 2, "{told:#}");
    assert_eq!(client.get(path).await.header("etag"), version, "nothing done");
    let done = client.with(Method::PATCH, path, ("if-match", version), Some(patch)).await;
    let newer = done.header("etag");
    let done = done.is(200);
    assert_eq!(fields(&done), fields(&told));
    assert_eq!((newer == version, &done["spec"]["objects"]["exclude"]), (false, &json!(["act.tmp_*"])));
    client
        .with(Method::PATCH, path, ("if-match", version), Some(json!({"tuning": {"connections": 2}})))
        .await
        .refused(412, "precondition-failed");
    let back = json!({"objects": {"exclude": ["act.tmp_*", "act.c"]}, "tuning": {"connections": null}});
    assert_eq!(client.patch(path, back).await.is(200)["spec"]["tuning"]["connections"], 8);
    for (patch, place) in [
        (json!({"tuning": {"conections": 1}}), "/tuning/conections"),
        (json!({"tuning": {"connections": "8"}}), "/tuning/connections"),
        (json!({"tuning": {"connections": 0}}), "/tuning/connections"),
        (json!({"names": "UPPER"}), "/names"),
        (json!({"name": null}), "/name"),
    ] {
        let problem = client.patch(path, patch).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    // A name can be changed; the id stays.
    client.patch(path, json!({"name": "renamed"})).await.is(200);
    client.get("/tasks/shop-to-dw").await.refused(404, "not-found");
    client.patch("/tasks/renamed", json!({"name": "shop-to-dw"})).await.is(200);
}

async fn lists(client: &Client, stack: &Stack) {
    for name in ["idle-1", "idle-2"] {
        let mut body = spec(name, stack, &["act.c"]);
        body["labels"] = json!({"env": "test", "owner": name});
        client.post("/tasks", body).await.is(201);
    }
    let names = async |query: &str| -> Vec<String> {
        let page = client.get(&format!("/tasks?{query}")).await.is(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item.get("spec").is_none()), "no specs in a list");
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected) in [
        ("", vec!["shop-to-dw", "idle-1", "idle-2"]),
        ("status=created", vec!["shop-to-dw", "idle-1", "idle-2"]),
        ("status=running", vec![]),
        ("phase=full", vec![]),
        ("health=ok", vec!["shop-to-dw", "idle-1", "idle-2"]),
        ("health=failed", vec![]),
        ("label=env%3Dtest", vec!["idle-1", "idle-2"]),
        ("label=env%3Dtest&label=owner%3Didle-2", vec!["idle-2"]),
        ("label=owner", vec!["idle-1", "idle-2"]),
        ("name_prefix=shop", vec!["shop-to-dw"]),
        ("name_prefix=idle&limit=1", vec!["idle-1"]),
    ] {
        assert_eq!(names(query).await, expected, "{query}");
    }
    // Stable while rows come and go: a task that is deleted meanwhile takes no other one with it.
    let first = client.get("/tasks?limit=2").await.is(200);
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    client
        .with(Method::DELETE, "/tasks/idle-1", ("if-match", "\"77\""), None)
        .await
        .refused(412, "precondition-failed");
    assert!(
        !client.delete("/tasks/idle-1?dry_run=true").await.is(200)["effects"].as_array().unwrap().is_empty()
    );
    client.delete("/tasks/idle-1").await.is(204);
    assert_eq!(names(&format!("limit=2&cursor={cursor}")).await, ["idle-2"]);
    client
        .get(&format!("/tasks?limit=2&status=created&cursor={cursor}"))
        .await
        .refused(400, "invalid-cursor");

    let summary = client.get("/tasks/summary").await.is(200);
    assert_eq!(
        (&summary["total"], &summary["status"]["created"], &summary["health"]["ok"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert!(summary.get("worst_lag").is_some());
    assert_eq!(client.get("/tasks/summary?label=env%3Dtest").await.is(200)["total"], 1);

    // In use by both.
    let connection = client.get("/connections/dw-1").await.is(200);
    assert_eq!(connection["use_count"], 2);
    client.delete("/connections/dw-1").await.refused(409, "in-use");
}

/// Export and import, batch commands, stop, reset, delete.
pub async fn to_the_end(client: &Client) {
    // A command for many, with a result for each.
    client
        .post("/tasks/commands", json!({"command": "pause", "select": {}}))
        .await
        .refused(422, "invalid-body");
    client
        .post("/tasks/commands", json!({"command": "explode", "select": {"all": true}}))
        .await
        .refused(422, "invalid-body");
    client
        .post("/tasks/commands", json!({"command": "pause", "select": {"colour": "red"}}))
        .await
        .refused(422, "invalid-body");
    let select = json!({"names": ["shop-to-dw", "idle-2", "no-such"]});
    let body = json!({"command": "pause", "select": select});
    let dry = client.post("/tasks/commands?dry_run=true", body.clone()).await.is(200);
    assert_eq!(client.get("/tasks/shop-to-dw").await.is(200)["desired"], "running", "{dry}");
    let done = client.post("/tasks/commands?wait_ms=60000", body).await.is(200);
    let outcome = |name: &str| {
        let results = done["results"].as_array().unwrap();
        results
            .iter()
            .find(|result| result["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {done:#}"))
            .clone()
    };
    assert_eq!(outcome("shop-to-dw")["outcome"], "reached", "{done:#}");
    assert_eq!(
        (&outcome("no-such")["outcome"], &outcome("no-such")["code"]),
        (&json!("refused"), &json!("not-found"))
    );
    let refused = outcome("idle-2");
    assert_eq!((&refused["outcome"], &refused["code"]), (&json!("refused"), &json!("invalid-transition")));
    assert!(refused["detail"].is_string() && refused["allowed_from"].is_array(), "{refused}");
    let select = json!({"labels": {"env": "prod"}, "status": ["paused"]});
    let done = client
        .post("/tasks/commands?wait_ms=60000", json!({"command": "resume", "select": select}))
        .await
        .is(200);
    assert_eq!(
        (&done["selected"], &done["results"][0]["outcome"]),
        (&json!(1), &json!("reached")),
        "{done:#}"
    );
    let unchanged = client
        .post(
            "/tasks/commands",
            json!({"command": "resume", "select": {"labels": {"env": null}, "status": ["running"]}}),
        )
        .await
        .is(200);
    assert_eq!(unchanged["results"][0]["outcome"], "unchanged", "{unchanged:#}");

    // The exported task is fenced, the imported one starts paused.
    client.command("/tasks/shop-to-dw/export").await.refused(409, "invalid-transition");
    client.command("/tasks/shop-to-dw/pause?wait_ms=60000").await.is(200);
    let export = client.command("/tasks/shop-to-dw/export").await.is(200);
    assert!(export["spec"]["name"] == "shop-to-dw" && export["checksum"].is_string(), "{export:#}");
    let fenced = client.get("/tasks/shop-to-dw").await.is(200);
    assert_eq!(fenced["status"], "stopped");
    client.command("/tasks/shop-to-dw/resume").await.refused(409, "invalid-transition");
    client.post("/tasks/import", export.clone()).await.refused(409, "in-use");
    client.delete("/tasks/shop-to-dw").await.is(204);
    let mut forged = export.clone();
    forged["spec"]["target"] = json!("dw-2");
    let answer = client.post("/tasks/import", forged).await;
    assert!(matches!(answer.status.as_u16(), 409 | 422), "{}", answer.text);
    let imported = client.post("/tasks/import", export).await.is(201);
    assert_eq!((&imported["status"], &imported["id"]), (&json!("paused"), &fenced["id"]), "{imported:#}");
    client.command("/tasks/shop-to-dw/resume?wait_ms=60000").await.is(200);
    client
        .until("/tasks/shop-to-dw", "in step", |task| task["lag_ms"].as_i64().is_some_and(|lag| lag < 60_000))
        .await;

    // Stop is final but for reset and delete.
    client.delete("/tasks/shop-to-dw").await.refused(409, "invalid-transition");
    let stopped = client.command("/tasks/shop-to-dw/stop?wait_ms=60000").await.is(200);
    assert_eq!(stopped["status"], "stopped");
    client.command("/tasks/shop-to-dw/stop?wait_ms=1").await.is(200);
    for command in ["start", "pause", "resume"] {
        client.command(&format!("/tasks/shop-to-dw/{command}")).await.refused(409, "invalid-transition");
    }
    let dry =
        client.post("/tasks/shop-to-dw/reset?dry_run=true", json!({"target_tables": "drop"})).await.is(200);
    assert!(!dry["effects"].as_array().unwrap().is_empty(), "{dry:#}");
    let reset =
        client.post("/tasks/shop-to-dw/reset?wait_ms=60000", json!({"target_tables": "drop"})).await.is(200);
    assert_eq!(reset["status"], "created", "{reset:#}");
    client.delete("/tasks/shop-to-dw").await.is(204);
    client.get("/tasks/shop-to-dw").await.refused(404, "not-found");
    // Its events stay.
    let events = client.get("/events?limit=500").await.is(200);
    assert!(events["items"].as_array().unwrap().iter().any(|event| event["task_id"] == fenced["id"]));
    client.delete("/tasks/idle-2").await.is(204);
}

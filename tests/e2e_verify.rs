//! Are both sides equal? What the product says of it, on tables that keep changing, that stand still, and that somebody has spoilt.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::api;
use support::server::Server;
use support::stack::Stack;
use support::workload::{self, Workload};
use support::{compare, sql};

const PATIENCE: Duration = Duration::from_secs(90);

support::on_both_targets! {
    tables_that_keep_changing_are_equal_and_a_spoilt_one_is_found_named_and_repaired => alive("ev", "eva");
    every_type_is_equal_after_full_and_after_incremental_sync => types("et", "eta");
    what_stands_still_is_compared_as_of_its_own_position => still("es", "esa");
}

async fn follow(server: &Server, stack: &Stack, name: &str, include: &[&str], more: &Value) {
    let api = &server.api;
    api.connect(stack).await;
    api.create_task(&api::spec(name, stack, include, more)).await;
    api.start(name).await;
    api.wait_for(name, "in its incremental phase", PATIENCE, |task| task["phase"] == "incremental").await;
}

fn table<'a>(verification: &'a Value, name: &str) -> &'a Value {
    let tables = verification["tables"].as_array().unwrap();
    tables
        .iter()
        .find(|table| table["table"] == name)
        .unwrap_or_else(|| panic!("{name} is not in {verification}"))
}

async fn alive(stack: Stack, schema: &str) {
    let server = Server::start().await;
    let api = &server.api;
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("USE {schema}"),
            "CREATE TABLE hot (id INT PRIMARY KEY, n INT NOT NULL, at DATETIME)",
            "CREATE TABLE people (name VARCHAR(40), nr BIGINT, note TEXT, price DECIMAL(12,4), PRIMARY KEY (name, nr))",
            "CREATE TABLE empty (id INT PRIMARY KEY)",
            "CREATE TABLE label (e ENUM('a', 'b', 'long') PRIMARY KEY, v INT)",
            "INSERT INTO label VALUES ('b', 1), ('long', 2)",
            "INSERT INTO hot SELECT a.n * 10 + b.n, 0, NULL FROM (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) a, (SELECT 0 n UNION SELECT 1 UNION SELECT 2) b",
        ],
    )
    .await;
    let values: Vec<_> =
        (0..3000).map(|n| format!("('p{}', {n}, 'it''s \\\\ {n}', {n}.2500)", n % 7)).collect();
    sql::run(&mut source, &[&format!("INSERT INTO people VALUES {}", values.join(","))]).await;
    let include = format!("{schema}.*");
    follow(&server, &stack, schema, &[&include], &json!({})).await;

    // Rows that change while they are compared.
    let (writing_stack, writing_schema) = (stack.clone(), schema.to_owned());
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let mut source = sql::tidb(&writing_stack).await;
        let mut n = 0;
        while !stopped.is_cancelled() {
            n += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let hot =
                format!("UPDATE {writing_schema}.hot SET n = {n}, at = NOW() WHERE id = {}", n % 4 * 10);
            let people = format!("INSERT INTO {writing_schema}.people VALUES ('new', {n}, NULL, 1)");
            let gone =
                format!("DELETE FROM {writing_schema}.people WHERE name = 'p3' AND nr % 700 = {}", n % 50);
            sql::run(&mut source, &[&hot, &people, &gone]).await;
        }
        n
    });
    for mode in ["schema", "count", "rows"] {
        let found = api.verified(schema, &json!({"mode": mode})).await;
        // Four rows may change each time they are looked at; no row is called different.
        assert_ne!(found["verdict"], "different", "{mode}: {found}");
        assert_eq!(table(&found, "empty")["verdict"], "equal", "{mode}: {found}");
        assert_eq!(table(&found, "label")["verdict"], "equal", "{mode}: {found}");
        assert_eq!((&found["state"], &found["tables_total"]), (&json!("finished"), &json!(4)));
        assert!(found["tso"].as_str().is_some_and(|tso| tso.len() > 15), "{found}");
    }
    stop.cancel();
    assert!(writer.await.unwrap() > 10, "rows did change");

    // Somebody writes to the target, with a value that must not show.
    let mut target = sql::target(&stack).await;
    sql::run(
        &mut target,
        &[
            &format!("DELETE FROM {schema}.people WHERE name = 'p1' AND nr = 1"),
            &format!("REPLACE INTO {schema}.people (name, nr, note, price) VALUES ('p2', 2, 'secret', 2.25)"),
            &format!(
                "INSERT INTO {schema}.people (name, nr, note, price) VALUES ('P1', 1, 'more secret', 1)"
            ),
        ],
    )
    .await;
    let found = api.verified(schema, &json!({"tables": [{"schema": schema, "table": "people"}]})).await;
    assert_eq!((&found["verdict"], &found["tables_total"]), (&json!("different"), &json!(1)), "{found}");
    assert_eq!(found["rows"], json!({"missing": 1, "surplus": 1, "different": 1, "unsettled": 0}), "{found}");
    let n = &found["n"];
    let path = format!("/tasks/{schema}/verifications/{n}");
    let mut listed = Vec::new();
    let mut page = api.get(&format!("{path}/differences?limit=2")).await;
    loop {
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        page = api.get(&format!("{path}/differences?limit=2&cursor={cursor}")).await;
    }
    assert!(!json!(listed).to_string().contains("secret"), "values are nobody's business");
    let mut named: Vec<_> = listed
        .iter()
        .map(|row| (row["kind"].as_str().unwrap(), row["key"].clone(), row["columns"].clone()))
        .collect();
    named.sort_by_key(|(kind, ..)| *kind);
    assert_eq!(
        named,
        [
            ("different", json!({"name": "p2", "nr": "2"}), json!(["note"])),
            ("missing", json!({"name": "p1", "nr": "1"}), json!([])),
            ("surplus", json!({"name": "P1", "nr": "1"}), json!([])),
        ]
    );
    let counted = api.verified(schema, &json!({"mode": "checksum"})).await;
    assert_eq!(counted["rows"], found["rows"], "the same, without names");
    let unnamed = format!("/tasks/{schema}/verifications/{}/differences", counted["n"]);
    assert_eq!(api.get(&unnamed).await["items"], json!([]));

    let planned = api.post(&format!("{path}/repair?dry_run=true"), &json!({})).await;
    assert!(planned["effects"][0]["detail"].as_str().unwrap().starts_with("3 rows"), "{planned}");
    assert_eq!(planned["verification"]["repairs"], json!({"open": 3, "pending": 0, "repaired": 0}));
    let repaired = api.post(&format!("{path}/repair?wait_ms=30000"), &json!({})).await;
    assert_eq!(
        repaired["verification"]["repairs"],
        json!({"open": 0, "pending": 0, "repaired": 3}),
        "{repaired}"
    );
    let after = api.verified(schema, &json!({})).await;
    assert_eq!(after["verdict"], "equal", "{after}");
    api.wait_caught_up(schema, &stack, PATIENCE).await;
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;

    // What is not named row by row is copied again.
    let spoilt = format!("{schema}.people WHERE nr < 50");
    let gone: u64 = target.query_first(format!("SELECT COUNT(*) FROM {spoilt}")).await.unwrap().unwrap();
    sql::run(&mut target, &[&format!("DELETE FROM {spoilt}")]).await;
    let wrong = api.verified(schema, &json!({"mode": "count", "repair": "differences"})).await;
    assert_eq!(table(&wrong, "people")["rows"]["missing"], gone, "{wrong}");
    api.wait_for(schema, "copied again", PATIENCE, |task| task["health"] == "ok").await;
    let mut equal = json!(null);
    for _ in 0..60 {
        equal = api.verified(schema, &json!({"mode": "rows"})).await;
        if equal["verdict"] == "equal" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(equal["verdict"], "equal", "{equal}");

    // A definition that somebody has changed.
    sql::run(&mut target, &[&format!("ALTER TABLE {schema}.hot DROP COLUMN at")]).await;
    let found = api.verified(schema, &json!({"mode": "schema"})).await;
    assert_eq!(table(&found, "hot")["verdict"], "different");
    assert!(table(&found, "hot")["detail"].as_str().unwrap().contains("missing"), "{found}");
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn types(stack: Stack, prefix: &str) {
    let workload = Workload::prepare(&stack, prefix, workload::seed("verify_types")).await;
    let server = Server::start().await;
    let include = workload.include();
    follow(&server, &stack, prefix, &[&include[0], &include[1]], &api::policies(&stack)).await;
    let api = &server.api;
    let full = api.verified(prefix, &json!({})).await;
    assert_eq!(full["verdict"], "equal", "{full:#}");
    let running = workload.start(workload::Options { ddl_pace: None, ..workload::Options::default() }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let moving = api.verified(prefix, &json!({"max_duration_ms": 5000})).await;
    assert_ne!(moving["verdict"], "different", "{moving:#}");
    println!("{}", running.stop().await);
    // Rows of before and after an ALTER: the former have the new column's default.
    let mut source = sql::tidb(&stack).await;
    let added = format!("`{}`.added", workload.schemas()[0]);
    sql::run(
        &mut source,
        &[&format!("CREATE TABLE {added} (id INT PRIMARY KEY)"), &format!("INSERT INTO {added} VALUES (1)")],
    )
    .await;
    for (n, addition) in workload::template::ADDITIONS.iter().enumerate() {
        let column = format!("ALTER TABLE {added} ADD COLUMN c{n} {}", addition.definition);
        sql::run(&mut source, &[&column, &format!("INSERT INTO {added} (id) VALUES ({})", n + 2)]).await;
    }
    let incremental = api.verified(prefix, &json!({})).await;
    let rows = api.get(&format!("/tasks/{prefix}/verifications/{}/differences", incremental["n"])).await;
    assert_eq!(incremental["verdict"], "equal", "{}", rows["items"]);
    assert!(incremental["rows_compared"].as_i64().unwrap() > 100, "{incremental}");
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

async fn still(stack: Stack, schema: &str) {
    let server = Server::start().await;
    let api = &server.api;
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            &format!("CREATE DATABASE {schema}"),
            &format!("USE {schema}"),
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        ],
    )
    .await;
    let include = format!("{schema}.*");
    follow(&server, &stack, schema, &[&include], &json!({})).await;
    api.wait_caught_up(schema, &stack, PATIENCE).await;
    api.complete(schema, "pause").await;
    sql::run(&mut source, &["UPDATE t SET v = 'later' WHERE id = 1", "INSERT INTO t VALUES (4, 'later')"])
        .await;
    let paused = api.verified(schema, &json!({})).await;
    assert_eq!(paused["verdict"], "equal", "what came since is not the target's fault: {paused}");
    let mut target = sql::target(&stack).await;
    sql::run(&mut target, &[&format!("DELETE FROM {schema}.t WHERE id IN (1, 2)")]).await;
    let spoilt = api.verified(schema, &json!({"tables": [{"schema": schema, "table": "t"}]})).await;
    let wanted = json!({"missing": 1, "surplus": 0, "different": 0, "unsettled": 1});
    assert_eq!(
        (&spoilt["verdict"], &spoilt["rows"]),
        (&json!("different"), &wanted),
        "row 1 has changed since: {spoilt}"
    );
    // It is asked for now, and done when the task goes on.
    let asked = api.post(&format!("/tasks/{schema}/verifications/{}/repair", spoilt["n"]), &json!({})).await;
    assert_eq!(asked["verification"]["repairs"]["pending"], 1, "{asked}");
    api.complete(schema, "resume").await;
    api.wait_caught_up(schema, &stack, PATIENCE).await;
    let mut found = json!(null);
    for _ in 0..100 {
        found = api.verified(schema, &json!({})).await;
        if found["verdict"] == "equal" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(found["verdict"], "equal", "{found}");

    // Full sync alone: finished, so no run could repair it.
    let phases =
        json!({"phases": {"schema": true, "full": true, "incremental": false}, "existing_tables": "replace"});
    let once = format!("{schema}-once");
    api.complete(schema, "stop").await;
    api.create_task(&api::spec(&once, &stack, &[&include], &phases)).await;
    api.start(&once).await;
    api.wait_for_status(&once, "finished", PATIENCE).await;
    assert_eq!(api.verified(&once, &json!({})).await["verdict"], "equal");
    sql::run(&mut target, &[&format!("DELETE FROM {schema}.t WHERE id = 3")]).await;
    let found = api.verified(&once, &json!({})).await;
    assert_eq!(found["rows"]["missing"], 1, "{found}");
    let refused = api
        .send(Method::POST, &format!("/tasks/{once}/verifications/{}/repair", found["n"]), Some(&json!({})))
        .await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")));
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_and_with_filters_are_compared_as_the_task_has_them() {
    let Some(stack) = Stack::on_mysql_alone("tables_without_a_key_and_with_filters_are_compared") else {
        return;
    };
    let server = Server::start().await;
    let api = &server.api;
    sql::drop_schemas(&stack, &["evk"]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE evk",
            "USE evk",
            "CREATE TABLE plain (a INT, b VARCHAR(20))",
            "INSERT INTO plain VALUES (1, 'x'), (1, 'x'), (2, NULL)",
            "CREATE TABLE part (id INT PRIMARY KEY, n INT, secret VARCHAR(20))",
            "INSERT INTO part VALUES (1, 5, 's'), (2, 50, 's'), (3, 500, 's')",
            "CREATE TABLE odd (f FLOAT PRIMARY KEY, v INT)",
            "INSERT INTO odd VALUES (0.1, 1), (2.5, 2)",
            "CREATE TABLE label (e ENUM('a', 'b', 'c') PRIMARY KEY, v INT)",
            "INSERT INTO label VALUES ('b', 1), ('a', 2)",
            // Pages are cut by bytes: the last row must be looked at, too.
            "CREATE TABLE wide (id INT PRIMARY KEY, v LONGTEXT)",
            "INSERT INTO wide SELECT a, REPEAT('x', 1500000) FROM (SELECT 1 a UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5) n",
            "INSERT INTO wide SELECT id + 5, v FROM wide",
            "INSERT INTO wide SELECT id + 10, v FROM wide",
            "INSERT INTO wide SELECT id + 20, v FROM wide WHERE id < 11",
            "CREATE TABLE cased (name VARCHAR(20) COLLATE utf8mb4_unicode_ci, v INT, PRIMARY KEY (name(1)))",
            "INSERT INTO cased VALUES ('ss', 1), ('d', 2), ('zz', 3)",
        ],
    )
    .await;
    let more = json!({
        "tables_without_key": "match_row",
        "objects": {"tables": {
            "evk.part": {"target": "evk.piece", "filter": "n > 10", "columns": {"exclude": ["secret"], "rename": {"n": "number"}}},
        }},
    });
    follow(&server, &stack, "evk", &["evk.*"], &more).await;
    sql::run(&mut source, &["UPDATE part SET n = 1 WHERE id = 2", "DELETE FROM plain WHERE a = 2"]).await;
    let found = api.verified("evk", &json!({})).await;
    assert_eq!(found["verdict"], "equal", "{found:#}");
    assert_eq!(table(&found, "part")["source_rows"], 1, "one row passes the filter: {found}");
    assert_eq!(api.verified("evk", &json!({"mode": "count"})).await["verdict"], "equal");

    let mut target = sql::target(&stack).await;
    sql::run(
        &mut target,
        &[
            "UPDATE evk.plain SET b = 'y' LIMIT 1",
            "INSERT INTO evk.piece VALUES (9, 99)",
            "INSERT INTO evk.label VALUES ('c', 3)",
            "DELETE FROM evk.wide WHERE id = 30",
            // As a whole the first is another row's name, its first character is not.
            "INSERT INTO evk.cased VALUES ('ß', 8), ('qq', 9)",
        ],
    )
    .await;
    let found = api.verified("evk", &json!({})).await;
    assert_eq!(table(&found, "plain")["verdict"], "different", "as many rows, other ones: {found}");
    assert_eq!(table(&found, "part")["rows"]["surplus"], 1, "{found}");
    assert_eq!(table(&found, "label")["rows"]["surplus"], 1, "counted: {found}");
    assert_eq!(table(&found, "odd")["verdict"], "equal", "{found}");
    assert_eq!(
        (&table(&found, "wide")["rows"]["missing"], &table(&found, "wide")["source_rows"]),
        (&json!(1), &json!(30))
    );
    assert_eq!(
        table(&found, "cased")["rows"],
        json!({"missing": 0, "surplus": 2, "different": 0, "unsettled": 0}),
        "{found}"
    );

    // Rows again, and two tables from new copies: what is not named, or has no key.
    let path = format!("/tasks/evk/verifications/{}/repair?wait_ms=30000", found["n"]);
    api.post(&path, &json!({})).await;
    let mut again = json!(null);
    for _ in 0..60 {
        again = api.verified("evk", &json!({})).await;
        if again["verdict"] == "equal" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(again["verdict"], "equal", "{again:#}");
    sql::drop_schemas(&stack, &["evk"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_outlives_a_kill_is_cancelled_and_says_what_is_wrong_with_an_order() {
    let Some(stack) = Stack::utc("a_verification_outlives_a_kill") else { return };
    let mut server = Server::start().await;
    let api = server.api.clone();
    sql::drop_schemas(&stack, &["evc"]).await;
    let mut source = sql::tidb(&stack).await;
    let rows: Vec<_> = (0..600).map(|n| format!("({n}, {n})")).collect();
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE evc",
            "USE evc",
            "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE b LIKE a",
            &format!("INSERT INTO a VALUES {}", rows.join(",")),
            &format!("INSERT INTO b VALUES {}", rows.join(",")),
        ],
    )
    .await;
    follow(&server, &stack, "evc", &["evc.*"], &json!({})).await;
    let path = "/tasks/evc/verifications";
    let slow = json!({"throttle": {"rows_per_second": 400}});
    let begun = api.send(Method::POST, path, Some(&slow)).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.body);
    let second = api.send(Method::POST, path, Some(&json!({}))).await;
    assert_eq!(second.status, StatusCode::CONFLICT, "{}", second.body);
    let n = begun.body["verification"]["n"].as_i64().unwrap();
    let one = format!("{path}/{n}");
    let mut seen = api.get(&one).await;
    while seen["tables_compared"] == 0 {
        assert_ne!(seen["state"], "finished");
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = api.get(&one).await;
    }
    server.kill9();
    server.restart().await;
    let mut end = api.get(&one).await;
    while end["state"] != "finished" {
        assert!(["queued", "running"].contains(&end["state"].as_str().unwrap()), "{end}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        end = api.get(&one).await;
    }
    assert_eq!(
        (&end["verdict"], &end["tso"]),
        (&json!("equal"), &seen["tso"]),
        "it went on where it was: {end}"
    );

    let begun = api.send(Method::POST, path, Some(&slow)).await.good("begun")["verification"]["n"].clone();
    let ended = api.post(&format!("{path}/{begun}/cancel"), &json!({})).await;
    assert_eq!(ended["verification"]["state"], "cancelled", "{ended}");
    let again = api.post(&format!("{path}/{begun}/cancel"), &json!({})).await;
    assert_eq!((&again["verification"]["state"], &again["effects"]), (&json!("cancelled"), &json!([])));
    let short = api.verified("evc", &json!({"max_duration_ms": 1})).await;
    assert_eq!(short["verdict"], "inconclusive", "{short}");
    assert!(table(&short, "b")["detail"].as_str().unwrap().contains("time"), "{short}");

    for (body, code) in [
        (json!({"mode": "all"}), "invalid"),
        (json!({"tables": [{"schema": "evc", "table": "nobody"}]}), "not_found"),
        (json!({"throttle": {"rows_per_second": 0}}), "too_small"),
        (json!({"repair": true}), "invalid"),
        (json!({"colour": 1}), "unknown_field"),
    ] {
        let refused = api.send(Method::POST, path, Some(&body)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", refused.body);
        assert!(refused.body["errors"][0]["detail"].is_string(), "{code}: {}", refused.body);
    }
    let missing = api.send(Method::GET, &format!("{path}/99"), None).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let list = api.get(path).await;
    let numbers: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| item["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1], "the newest first");
    // The key of a row is a value of the user's.
    let mut target = sql::target(&stack).await;
    let count: u64 = target.query_first("SELECT COUNT(*) FROM evc.a").await.unwrap().unwrap();
    assert_eq!(count, 600, "a verification writes nothing");
    api.send(Method::POST, "/tasks", Some(&api::spec("evn", &stack, &["evc.*"], &json!({}))))
        .await
        .good("create");
    let created = api.send(Method::POST, "/tasks/evn/verifications", Some(&json!({}))).await;
    assert_eq!((created.status, &created.body["code"]), (StatusCode::CONFLICT, &json!("invalid-transition")));
    sql::drop_schemas(&stack, &["evc"]).await;
}

//! Section 3, `/connections`: endpoints and their secrets.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, pointers};
use support::api::mysql;
use support::proxy::Proxy;
use support::sql;
use support::stack::Stack;

pub async fn all(client: &Client, stack: &Stack) {
    let mut target = sql::mariadb(stack).await;
    let user = "CREATE OR REPLACE USER act@'%' IDENTIFIED BY 'secret-1'";
    sql::run(&mut target, &[user, "GRANT ALL ON *.* TO act@'%'"]).await;
    let with_secret = |port: u16| json!({"kind": "mysql", "host": "127.0.0.1", "port": port, "user": "act", "password": "secret-1"});
    let good = with_secret(stack.mariadb_port);

    // PUT logs in before it commits.
    let problem = client.put("/connections/dw-1", with_secret(1)).await.refused(502, "endpoint-unreachable");
    assert!(
        problem["detail"].as_str().unwrap().to_lowercase().contains("refused"),
        "with its cause: {problem:#}"
    );
    let wrong = json!({"kind": "mysql", "host": "127.0.0.1", "port": stack.mariadb_port, "user": "act", "password": "wrong"});
    client.put("/connections/dw-1", wrong).await.refused(502, "endpoint-refused");
    client.get("/connections/dw-1").await.refused(404, "not-found");
    let dry = client.put("/connections/dw-1?dry_run=true", good.clone()).await;
    assert!(dry.status.is_success() && dry.json()["effects"].is_array(), "{}", dry.text);
    client.get("/connections/dw-1").await.refused(404, "not-found");
    let made = client.put("/connections/dw-1", good.clone()).await;
    let version = made.header("etag");
    assert!(!made.text.contains("secret-1"));
    assert_eq!(made.is(201)["password"], json!({"set": true}));
    // An identical PUT is 200 and changes nothing; so is one with the secret left out, or as it is read.
    let mut read = good.clone();
    for secret in [json!("secret-1"), json!({"set": true})] {
        read["password"] = secret;
        let same = client.put("/connections/dw-1", read.clone()).await;
        assert_eq!((same.status.as_u16(), same.header("etag")), (200, version.clone()), "{}", same.text);
    }
    let found = client.get("/connections/dw-1").await;
    assert_eq!(found.header("etag"), version);
    let found = found.is(200);
    assert_eq!((&found["password"], &found["name"]), (&json!({"set": true}), &json!("dw-1")));
    assert!(found.get("use_count").is_some_and(|count| *count == 0), "{found}");

    // Where the secret would go elsewhere, it has to come again.
    for change in [
        json!({"host": "localhost"}),
        json!({"user": "root"}),
        json!({"host": "127.0.0.2", "password": {"set": true}}),
    ] {
        client.patch("/connections/dw-1", change).await.refused(422, "secret-required");
    }
    client.put("/connections/verified?verify=false", json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "a", "password": "p", "tls": {"mode": "required"}}))
        .await
        .is(201);
    client
        .patch("/connections/verified?verify=false", json!({"tls": {"mode": "disabled"}}))
        .await
        .refused(422, "secret-required");
    // null clears.
    let cleared = client.patch("/connections/verified?verify=false", json!({"password": null})).await.is(200);
    assert_eq!(cleared["password"], json!({"set": false}));
    client
        .with(
            Method::PATCH,
            "/connections/dw-1",
            ("if-match", "\"999\""),
            Some(json!({"port": stack.mariadb_port})),
        )
        .await
        .refused(412, "precondition-failed");
    client
        .with(
            Method::PATCH,
            "/connections/dw-1",
            ("if-match", &version),
            Some(json!({"port": stack.mariadb_port})),
        )
        .await
        .is(200);

    // The others, and what cannot be one.
    client.put("/connections/tidb-prod", mysql("tidb", stack.tidb_port)).await.is(201);
    client.put("/connections/kafka-prod", json!({"kind": "kafka", "brokers": [stack.kafka]})).await.is(201);
    for (body, place) in [
        (json!({"kind": "oracle", "host": "h", "port": 1, "user": "u"}), "/kind"),
        (json!({"kind": "mysql", "host": "h", "port": 70_000, "user": "u"}), "/port"),
        (json!({"kind": "mysql", "host": "h", "port": "1", "user": "u"}), "/port"),
        (
            json!({"kind": "mysql", "host": "h", "port": 1, "user": "u", "tls": {"mode": "maybe"}}),
            "/tls/mode",
        ),
        (json!({"kind": "mysql", "host": "h", "port": 1, "user": "u", "pasword": "x"}), "/pasword"),
        (json!({"kind": "kafka", "brokers": []}), "/brokers"),
        (
            json!({"kind": "kafka", "brokers": ["h:1"], "sasl": {"mechanism": "X", "user": "u"}}),
            "/sasl/mechanism",
        ),
    ] {
        let problem = client.put("/connections/odd?verify=false", body).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    for name in ["Upper", "a_b", &"a".repeat(64)] {
        let answer = client.put(&format!("/connections/{name}?verify=false"), good.clone()).await;
        assert!(matches!(answer.status.as_u16(), 400 | 422), "{name}: {}", answer.text);
    }
    lists(client).await;
    looks(client, stack, good).await;

    // Throttles are there for connections, too.
    let throttle =
        client.put("/connections/dw-1/throttle", json!({"full_rows_per_second": 100_000})).await.is(200);
    assert_eq!(throttle["full_rows_per_second"], 100_000);
    assert_eq!(client.get("/connections/dw-1/throttle").await.is(200)["full_bytes_per_second"], Value::Null);
    client
        .put("/connections/dw-1/throttle", json!({"full_rows_per_second": -1}))
        .await
        .refused(422, "invalid-body");
    client.put("/connections/dw-1/throttle", json!({"full_rows_per_second": null})).await.is(200);

    let dry = client.delete("/connections/verified?dry_run=true").await.is(200);
    assert!(!dry["effects"].as_array().unwrap().is_empty());
    client.delete("/connections/verified").await.is(204);
    client.delete("/connections/verified").await.refused(404, "not-found");
}

async fn lists(client: &Client) {
    let names = |page: &Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = names(&client.get("/connections").await.is(200));
    assert_eq!(all, ["dw-1", "kafka-prod", "tidb-prod", "verified"]);
    assert_eq!(names(&client.get("/connections?kind=kafka").await.is(200)), ["kafka-prod"]);
    let mut seen = Vec::new();
    let mut path = "/connections?limit=1".to_owned();
    loop {
        let page = client.get(&path).await.is(200);
        seen.extend(names(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        // Bound to the filter.
        client
            .get(&format!("/connections?limit=1&kind=kafka&cursor={cursor}"))
            .await
            .refused(400, "invalid-cursor");
        path = format!("/connections?limit=1&cursor={cursor}");
    }
    assert_eq!(seen, all);
}

async fn looks(client: &Client, stack: &Stack, good: Value) {
    for path in ["/connections/dw-1/test", "/connections/tidb-prod/test", "/connections/kafka-prod/test"] {
        let report = client.command(path).await.is(200);
        let steps = report["steps"].as_array().unwrap();
        assert!(steps.len() > 2, "{path}: {report}");
        for step in steps {
            let outcome = step["outcome"].as_str().unwrap();
            assert!(["pass", "warn", "fail", "skipped"].contains(&outcome), "{step}");
        }
    }
    let mut wrong = good.clone();
    wrong["password"] = json!("wrong");
    // What is wrong with an endpoint is the answer here, not an error.
    for (body, outcome) in [(good, "pass"), (wrong, "fail")] {
        let report = client.post("/connections/test", body).await.is(200);
        let failed = report["steps"].as_array().unwrap().iter().any(|step| step["outcome"] == "fail");
        assert_eq!(failed, outcome == "fail", "{report:#}");
    }
    client.post("/connections/test", json!({"kind": "mysql"})).await.refused(422, "invalid-body");

    let mut source = sql::tidb(stack).await;
    let (schema, create) = (super::SCHEMA, format!("CREATE DATABASE {}", super::SCHEMA));
    let tables = [
        "a (id INT PRIMARY KEY, v VARCHAR(40), n INT)",
        "b (id INT PRIMARY KEY, v VARCHAR(40), n INT)",
        "c (id INT PRIMARY KEY, v VARCHAR(40), n INT)",
    ];
    let mut statements = vec![create];
    for table in tables {
        statements.push(format!("CREATE TABLE {schema}.{table}"));
        let name = &table[..1];
        statements.push(format!(
            "INSERT INTO {schema}.{name} VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)"
        ));
    }
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    sql::run(&mut source, &statements).await;
    let page = client.get(&format!("/connections/tidb-prod/catalog?schema={schema}&limit=2")).await.is(200);
    let items = page["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["table"]), (2, &json!("a")), "{page:#}");
    assert!(items[0]["primary_key"] == json!(["id"]) && items[0].get("data_bytes").is_some(), "{page:#}");
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/connections/tidb-prod/catalog?schema={schema}&limit=2&cursor={cursor}");
    assert_eq!(client.get(&path).await.is(200)["items"][0]["table"], "c");
    let topics = client.get(&format!("/connections/kafka-prod/catalog?topic={}", stack.topic)).await.is(200);
    let topic = &topics["items"][0];
    assert_eq!((&topic["topic"], &topic["partitions"]), (&json!(stack.topic), &json!(1)), "{topics:#}");
    assert!(topic["last_message"].is_string(), "in words: {topics:#}");
    client.get("/connections/verified/catalog").await.refused(502, "endpoint-unreachable");
    // One that lets everybody in and then takes its time.
    let line = Proxy::start(stack.tidb_port).await;
    let slow = json!({"kind": "tidb", "host": "127.0.0.1", "port": line.port, "user": "root"});
    client.put("/connections/slow", slow).await.is(201);
    let task = json!({"name": "slow", "source": {"tidb": "slow"}, "target": "dw-1", "objects": {"include": ["act.*"]},
        "phases": {"schema": true, "full": true, "incremental": false}});
    client.post("/tasks", task).await.is(201);
    line.delay(Duration::from_millis(1200));
    client.get("/tasks/slow/watermark?at_least=now&wait_ms=1").await.refused(504, "endpoint-timeout");
    client.delete("/tasks/slow").await.is(204);
    client.delete("/connections/slow").await.is(204);
    // AnalyticDB: its own steps, and tables as its dialect has them.
    let adb = json!({"kind": "adb", "host": "127.0.0.1", "port": stack.adb_port, "user": "root"});
    let report = client.post("/connections/test", adb.clone()).await.is(200);
    client.put("/connections/dw-adb", adb).await.is(201);
    for report in [report, client.command("/connections/dw-adb/test").await.is(200)] {
        let steps = report["steps"].as_array().unwrap();
        let of = |name: &str| steps.iter().find(|step| step["id"] == name).unwrap();
        assert!(steps.iter().all(|step| step["outcome"] == "pass"), "{report:#}");
        assert!(of("version")["detail"].as_str().unwrap().starts_with("AnalyticDB"), "{report:#}");
        assert!(of("privileges")["detail"].as_str().unwrap().contains("INSERT"), "{report:#}");
    }
    let mut warehouse = sql::adb(stack).await;
    sql::run(
        &mut warehouse,
        &[
            "DROP DATABASE IF EXISTS act_adb CASCADE",
            "CREATE DATABASE act_adb",
            "CREATE TABLE act_adb.t (id BIGINT, k INT, PRIMARY KEY (id, k)) DISTRIBUTED BY HASH(id)",
        ],
    )
    .await;
    let page = client.get("/connections/dw-adb/catalog?schema=act_adb").await.is(200);
    let items = page["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["table"]), (1, &json!("t")), "{page:#}");
    assert_eq!(items[0]["primary_key"], json!(["id", "k"]), "{page:#}");
    sql::run(&mut warehouse, &["DROP DATABASE act_adb CASCADE"]).await;
    client.delete("/connections/dw-adb").await.is(204);
}

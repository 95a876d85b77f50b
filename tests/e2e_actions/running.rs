//! Section 3: a task while it runs, from its start to a moved checkpoint.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, PATIENCE, pointers};
use support::sql;
use support::stack::Stack;

const TASK: &str = "/tasks/shop-to-dw";

pub async fn all(client: &Client, stack: &Stack) {
    start(client, stack).await;
    looks(client, stack).await;
    events(client).await;
    charts(client).await;
    live(client, stack).await;
    verifications(client, stack).await;
    tables(client, stack).await;
    checkpoint(client, stack).await;
}

/// Everything that is committed now is in the target.
pub async fn complete(client: &Client) {
    let answer = client.get(&format!("{TASK}/watermark?at_least=now&wait_ms=60000")).await.is(200);
    assert_eq!(answer["reached"], true, "{answer:#}");
}

async fn start(client: &Client, stack: &Stack) {
    let dry = client.command(&format!("{TASK}/start?dry_run=true")).await.is(200);
    assert!(dry["status"] == "created" && !dry["effects"].as_array().unwrap().is_empty(), "{dry:#}");
    let started = client.command(&format!("{TASK}/start?wait_ms=60000")).await.is(200);
    assert_eq!((&started["status"], &started["desired"]), (&json!("running"), &json!("running")));
    // Commands are idempotent.
    // It fires while the rest goes on.
    client.put("/alert-rules/behind", json!({"kind": "lag", "threshold_ms": 1})).await.is(201);
    let again = client.command(&format!("{TASK}/start")).await;
    assert!(again.status == 202 || again.status == 200, "{}", again.text);
    assert_eq!(again.json()["effects"], json!([]));
    client.until(TASK, "incremental", |task| task["phase"] == "incremental").await;
    let mut source = sql::tidb(stack).await;
    sql::run(
        &mut source,
        &["INSERT INTO act.a VALUES (4, 'four', 4)", "UPDATE act.b SET v = 'zwei' WHERE id = 2"],
    )
    .await;
    complete(client).await;
    let mut target = sql::mariadb(stack).await;
    assert_eq!(sql::count(&mut target, "act_copy.a").await, 4);
    assert_eq!(sql::count(&mut target, "act_copy.b WHERE v = 'zwei'").await, 1);
}

async fn verifications(client: &Client, stack: &Stack) {
    let path = format!("{TASK}/verifications");
    client.post(&format!("{path}?dry_run=true"), json!({"mode": "count"})).await.is(200);
    let equal = client.post(&format!("{path}?wait_ms=60000"), json!({})).await.is(200);
    assert_eq!(equal["verification"]["verdict"], "equal", "{equal:#}");
    let mut target = sql::mariadb(stack).await;
    let before = sql::count(&mut target, "act_copy.a").await;
    sql::run(&mut target, &["DELETE FROM act_copy.a WHERE id = 4"]).await;
    let found = client.post(&format!("{path}?wait_ms=60000"), json!({"mode": "rows"})).await.is(200);
    assert_eq!(found["verification"]["rows"]["missing"], 1, "{found:#}");
    let one = format!("{path}/{}", found["verification"]["n"]);
    assert_eq!(client.get(&one).await.is(200)["verdict"], "different");
    assert_eq!(client.get(&path).await.is(200)["items"][0]["verdict"], "different");
    let rows = client.get(&format!("{one}/differences")).await.is(200);
    assert_eq!(
        (&rows["items"][0]["kind"], &rows["items"][0]["key"]),
        (&json!("missing"), &json!({"id": "4"}))
    );
    client.command(&format!("{one}/repair?dry_run=true")).await.is(200);
    let repaired = client.command(&format!("{one}/repair?wait_ms=30000")).await.is(200);
    assert_eq!(repaired["verification"]["repairs"]["repaired"], 1, "{repaired:#}");
    assert_eq!(sql::count(&mut target, "act_copy.a").await, before);
    assert_eq!(client.command(&format!("{one}/cancel")).await.is(200)["effects"], json!([]), "it is over");
    client.post(&path, json!({"mode": "some"})).await.refused(422, "invalid-body");
    client.get(&format!("{path}/99")).await.refused(404, "not-found");
}

async fn looks(client: &Client, stack: &Stack) {
    let page = client
        .until(TASK, "in step", |task| {
            task["retention"]["messages_behind"] == "0" || task["retention"]["messages_behind"] == 0
        })
        .await;
    assert_eq!(page["health"], "ok", "{page:#}");
    assert_eq!((&page["checkpoint"]["topic"], &page["last_error"]), (&json!(stack.topic), &Value::Null));
    assert_eq!(page["applied_spec_version"], page["spec_version"]);
    assert!(
        page["lag_ms"].is_i64() && page["watermark"]["time"].is_string() && page["rates"].is_object(),
        "{page:#}"
    );
    for (name, link) in page["links"].as_object().unwrap() {
        let answer = client.get(link.as_str().unwrap()).await;
        assert!(answer.status == 200, "link {name}: {} {}", answer.status, answer.text);
    }
    assert_eq!(
        client.get("/tasks?status=running&phase=incremental").await.is(200)["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let summary = client.get("/tasks/summary").await.is(200);
    assert_eq!(
        (&summary["phase"]["incremental"], &summary["worst_lag"]["name"]),
        (&json!(1), &json!("shop-to-dw"))
    );

    let page = client.get(&format!("{TASK}/tables?order=rows")).await.is(200);
    let names: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{page:#}");
    let table = client.get(&format!("{TASK}/tables/act/a")).await.is(200);
    assert_eq!(table["target"]["schema"], "act_copy", "{table:#}");
    assert_eq!(table["rows_copied"], 3);
    assert!(
        table["changes_applied"].as_u64() >= Some(1)
            && table["last_commit_at"].is_string()
            && table["error"].is_null(),
        "{table:#}"
    );
    for (query, rows) in [
        ("schema=act", 2),
        ("schema=none", 0),
        ("has_error=true", 0),
        ("has_error=false&order=lag", 2),
        ("limit=1", 1),
    ] {
        let page = client.get(&format!("{TASK}/tables?{query}")).await.is(200);
        assert_eq!(page["items"].as_array().unwrap().len(), rows, "{query}: {page:#}");
    }
    client.get(&format!("{TASK}/tables?order=beauty")).await.refused(400, "invalid-parameter");
    client.get(&format!("{TASK}/tables/act/nothing")).await.refused(404, "not-found");

    let checkpoint = client.get(&format!("{TASK}/checkpoint")).await.is(200)["checkpoint"].clone();
    let next: i64 = checkpoint["next_offset"].as_str().unwrap().parse().unwrap();
    let message = client.get(&format!("{TASK}/messages?offset={}", next - 1)).await.is(200);
    assert!(message["text"].is_string(), "in words: {message:#}");
    // Without an offset: the message that the task takes next. There is none.
    let next_one = client.get(&format!("{TASK}/messages")).await.is(200);
    assert_eq!(
        (&next_one["topic"], &next_one["offset"]),
        (&json!(stack.topic), &Value::Null),
        "{next_one:#}"
    );
    client.get(&format!("{TASK}/messages?offset=soon")).await.refused(400, "invalid-parameter");
    let beyond = client.get(&format!("{TASK}/messages?offset={}", next + 1_000_000)).await;
    assert!(beyond.status.is_client_error(), "{} {}", beyond.status, beyond.text);

    let watermark = client.get(&format!("{TASK}/watermark")).await.is(200);
    let tso = watermark["watermark"]["tso"].as_str().unwrap();
    assert_eq!(client.get(&format!("{TASK}/watermark?at_least={tso}")).await.is(200)["reached"], true);
    let later = format!("{TASK}/watermark?at_least=9223372036854775807&wait_ms=10");
    assert_eq!(client.get(&later).await.is(200)["reached"], false);
    client.get(&format!("{TASK}/watermark?at_least=never")).await.refused(400, "invalid-parameter");
    let diagnosis = client.get(&format!("{TASK}/diagnosis")).await.is(200);
    assert!(
        diagnosis["summary"].is_string()
            && diagnosis["evidence"].is_array()
            && diagnosis.get("catch_up").is_some(),
        "{diagnosis:#}"
    );
}

async fn events(client: &Client) {
    let page = client.get(&format!("{TASK}/events?limit=500")).await.is(200);
    let items = page["items"].as_array().unwrap();
    let ids: Vec<_> =
        items.iter().map(|event| event["id"].to_string().trim_matches('"').parse::<i64>().unwrap()).collect();
    assert!(ids.is_sorted() && !ids.is_empty());
    let start = items.iter().find(|event| event["message"] == "start shop-to-dw").unwrap();
    assert_eq!(
        (&start["kind"], &start["actor"], &start["peer"]),
        (&json!("command"), &json!("local"), &json!("127.0.0.1"))
    );
    let own = items.iter().find(|event| event["kind"] == "transition").unwrap();
    assert!(own["actor"].is_null(), "the server itself: {own}");
    let last = ids.last().unwrap();
    assert_eq!(client.get(&format!("{TASK}/events?after={last}")).await.is(200)["items"], json!([]));
    client.get(&format!("{TASK}/events?after=x")).await.refused(400, "invalid-parameter");

    // Live: what comes next, or from an id on.
    let listen = async |path: &str, header: Option<String>| {
        let mut request = client.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(id) = header {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        response
    };
    let mut live = listen(&format!("{TASK}/events?after=latest"), None).await;
    client.patch(&format!("{TASK}/spec"), json!({"labels": {"env": "prod", "heard": "yes"}})).await.is(200);
    let mut text = String::new();
    while !text.contains("spec changed") {
        let part = tokio::time::timeout(PATIENCE, live.chunk()).await.expect("an event").unwrap().unwrap();
        text += &String::from_utf8_lossy(&part);
    }
    assert!(!text.contains("start shop-to-dw"), "only what comes next: {text}");
    let id: i64 = text.lines().find_map(|line| line.strip_prefix("id:")).unwrap().trim().parse().unwrap();
    let mut again = listen("/events", Some((id - 1).to_string())).await;
    let part = tokio::time::timeout(PATIENCE, again.chunk()).await.expect("an event").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&part).contains("spec changed"), "Last-Event-ID equals after");

    let lines = client.get(&format!("{TASK}/logs?level=info&limit=10")).await.is(200);
    for field in ["at", "level", "message"] {
        assert!(lines["items"][0].get(field).is_some(), "{lines:#}");
    }
    client.get(&format!("{TASK}/logs?text=no-such-words")).await.is(200);
    client.get(&format!("{TASK}/logs?level=loud")).await.refused(400, "invalid-parameter");
    client.get(&format!("{TASK}/logs?from=yesterday")).await.refused(400, "invalid-parameter");
}

async fn charts(client: &Client) {
    let figures = client.get("/system/series").await.is(200);
    let path = format!("{TASK}/series");
    let series = client.get(&path).await.is(200);
    let times = series["times"].as_array().unwrap();
    for one in series["series"].as_array().unwrap() {
        assert_eq!(one["values"].as_array().unwrap().len(), times.len());
        assert!(
            one["name"].is_string() && one.get("unit").is_some() && one["aggregate"].is_string(),
            "{one}"
        );
    }
    assert_eq!(series["series"].as_array().unwrap().len(), figures["items"].as_array().unwrap().len());
    // At most 1,500 points: the server may widen the step.
    let long = client
        .get(&format!(
            "{path}?from=2026-01-01T00:00:00.000Z&to=2026-03-01T00:00:00.000Z&step_ms=10000&names=lag_ms"
        ))
        .await
        .is(200);
    assert!(
        long["times"].as_array().unwrap().len() <= 1500 && long["step_ms"].as_i64() > Some(10_000),
        "{}",
        long["step_ms"]
    );
    assert_eq!(long["series"].as_array().unwrap().len(), 1);
    for wrong in
        ["names=beauty", "from=now", "step_ms=0", "from=2026-03-01T00:00:00.000Z&to=2026-01-01T00:00:00.000Z"]
    {
        client.get(&format!("{path}?{wrong}")).await.refused(400, "invalid-parameter");
    }
}

/// What can be changed while it runs, and what cannot.
async fn live(client: &Client, stack: &Stack) {
    let path = format!("{TASK}/throttle");
    let version = client.get(&path).await.header("etag");
    let set = client.put(&path, json!({"incremental_rows_per_second": 5000})).await.is(200);
    assert_eq!(set["incremental_rows_per_second"], 5000);
    client
        .with(Method::PUT, &path, ("if-match", &version), Some(json!({"incremental_rows_per_second": 1})))
        .await
        .refused(412, "precondition-failed");
    for (wrong, place) in [
        (json!({"incremental_rows_per_second": "x"}), "/incremental_rows_per_second"),
        (json!({"rows": 1}), "/rows"),
        (json!({"preset": "gigantic"}), "/preset"),
    ] {
        let problem = client.put(&path, wrong).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{problem:#}");
    }
    // 0 = stopped: a condition says so; null = none.
    client.put(&path, json!({"incremental_rows_per_second": 0})).await.is(200);
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &["INSERT INTO act.a VALUES (5, 'five', 5)"]).await;
    let has = |task: &Value, kind: &str| {
        task["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == kind)
    };
    client.until(TASK, "throttled", |task| has(task, "throttled")).await;
    assert_eq!(client.get(&format!("{TASK}/diagnosis")).await.is(200)["bottleneck"], "throttle");
    client.put(&path, json!({"incremental_rows_per_second": null})).await.is(200);
    complete(client).await;

    let problem = client.patch(&format!("{TASK}/spec"), json!({"start_at": "earliest"})).await;
    assert!(matches!(problem.status.as_u16(), 409 | 422), "before_start: {}", problem.text);
    let problem = client
        .patch(&format!("{TASK}/spec"), json!({"source": {"time_zone": "+08:00"}}))
        .await
        .refused(409, "spec-locked");
    assert_eq!(
        (pointers(&problem), &problem["task_status"]),
        (vec!["/source/time_zone"], &json!("running")),
        "{problem:#}"
    );
    client
        .post(&format!("{TASK}/reset"), json!({"target_tables": "keep"}))
        .await
        .refused(409, "invalid-transition");
    client.delete(TASK).await.refused(409, "invalid-transition");
    // A new secret is taken up by running tasks, and nothing is lost.
    let mut target = sql::mariadb(stack).await;
    sql::run(&mut target, &["ALTER USER act@'%' IDENTIFIED BY 'secret-2'"]).await;
    client.patch("/connections/dw-1", json!({"password": "secret-2"})).await.is(200);
    sql::run(&mut source, &["INSERT INTO act.a VALUES (6, 'six', 6)"]).await;
    complete(client).await;
    assert_eq!(sql::count(&mut target, "act_copy.a").await, 6);
    // Another cluster under the same name.
    let elsewhere = json!({"kind": "tidb", "host": "127.0.0.1", "port": stack.mariadb_port, "user": "root"});
    let refused = client.put("/connections/tidb-prod", elsewhere).await.refused(502, "endpoint-refused");
    assert!(refused["detail"].as_str().unwrap().starts_with("this is no TiDB"), "{refused:#}");
    if let Some(other) = Stack::shanghai("another TiDB cluster under the same name") {
        let elsewhere = json!({"kind": "tidb", "host": "127.0.0.1", "port": other.tidb_port, "user": "root"});
        client.put("/connections/tidb-prod", elsewhere).await.refused(409, "endpoint-identity-changed");
    }
}

async fn tables(client: &Client, stack: &Stack) {
    let one = json!({"tables": [{"schema": "act", "table": "b"}]});
    let state = async |wanted: &str| {
        client.until(&format!("{TASK}/tables/act/b"), wanted, |table| table["state"] == wanted).await
    };
    let mut source = sql::tidb(stack).await;
    let mut target = sql::mariadb(stack).await;
    client.post(&format!("{TASK}/tables/pause?dry_run=true"), one.clone()).await.is(200);
    client.post(&format!("{TASK}/tables/pause?wait_ms=60000"), one.clone()).await.is(200);
    state("paused").await;
    sql::run(
        &mut source,
        &["INSERT INTO act.b VALUES (9, 'later', 9)", "INSERT INTO act.a VALUES (7, 'seven', 7)"],
    )
    .await;
    complete(client).await;
    assert_eq!(sql::count(&mut target, "act_copy.a").await, 7, "the others go on");
    assert_eq!(sql::count(&mut target, "act_copy.b").await, 3);
    let answer = client.get(&format!("{TASK}/watermark?at_least=now&wait_ms=60000")).await.is(200);
    assert!(answer["tables_aside"].to_string().contains('b') || answer["tables_aside"] == 1, "{answer:#}");
    for command in ["resume", "resync"] {
        client.post(&format!("{TASK}/tables/{command}?wait_ms=60000"), one.clone()).await.is(200);
        state("following").await;
    }
    assert_eq!(sql::count(&mut target, "act_copy.b").await, 4);
    client.post(&format!("{TASK}/tables/skip?wait_ms=60000"), one.clone()).await.is(200);
    state("skipped").await;
    client.post(&format!("{TASK}/tables/resync?wait_ms=60000"), one).await.is(200);
    state("following").await;
    for (wrong, place) in [
        (json!({"tables": []}), "/tables"),
        (json!({"tables": ["act.b"]}), "/tables/0"),
        (json!({"tables": [{"schema": "act"}]}), "/tables/0/table"),
        (json!({}), "/tables"),
    ] {
        let problem = client.post(&format!("{TASK}/tables/pause"), wrong).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    let unknown = json!({"tables": [{"schema": "act", "table": "none"}]});
    let answer = client.post(&format!("{TASK}/tables/pause"), unknown).await;
    assert!(matches!(answer.status.as_u16(), 404 | 409 | 422), "{}", answer.text);

    // Tables of a running task come and go.
    let add = json!({"tables": ["act.c"]});
    let dry = client.post(&format!("{TASK}/objects/add?dry_run=true"), add.clone()).await.is(200);
    assert!(!dry["effects"].as_array().unwrap().is_empty(), "{dry:#}");
    assert_eq!(client.get(&format!("{TASK}/tables/act/c")).await.status, 404);
    let added = client.post(&format!("{TASK}/objects/add?wait_ms=60000"), add.clone()).await;
    assert!(added.status.is_success(), "{}", added.text);
    client
        .until(&format!("{TASK}/tables"), "three tables", |page| {
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|table| table["table"] == "c" && table["state"] == "following")
        })
        .await;
    sql::run(&mut source, &["INSERT INTO act.c VALUES (4, 'four', 4)"]).await;
    complete(client).await;
    assert_eq!(sql::count(&mut target, "act_copy.c").await, 4);
    client.post(&format!("{TASK}/objects/remove?wait_ms=60000"), add).await.is(200);
    assert_eq!(sql::count(&mut target, "act_copy.c").await, 4, "data stays");
    for wrong in [json!({"tables": [""]}), json!({"tables": "act.c"}), json!({"table": ["act.c"]})] {
        client.post(&format!("{TASK}/objects/add"), wrong).await.refused(422, "invalid-body");
    }
}

async fn checkpoint(client: &Client, stack: &Stack) {
    let path = format!("{TASK}/checkpoint");
    let now = client.get(&path).await.is(200)["checkpoint"].clone();
    client.put(&path, json!({"offset": now["next_offset"]})).await.refused(409, "invalid-transition");
    let paused = client.command(&format!("{TASK}/pause?wait_ms=60000")).await.is(200);
    assert_eq!(paused["status"], "paused");
    let now = client.get(&path).await.is(200)["checkpoint"].clone();
    let next: i64 = now["next_offset"].as_str().unwrap().parse().unwrap();
    // Outside retention: 422 with the range.
    let outside = client
        .put(&path, json!({"offset": (next + 1_000_000).to_string()}))
        .await
        .refused(422, "outside-retention");
    assert!(
        outside.to_string().contains(&next.to_string()) || outside["detail"].as_str().unwrap().contains("to"),
        "{outside:#}"
    );
    for wrong in [
        json!({"offset": 7}),
        json!({"offset": "-1"}),
        json!({"offset": "1", "tso": "2"}),
        json!({}),
        json!({"time": "noon"}),
        json!({"tso": "x"}),
    ] {
        client.put(&path, wrong).await.refused(422, "invalid-body");
    }
    // It answers what will be replayed or skipped.
    let back = json!({"offset": (next - 1).to_string()});
    let told = client.put(&format!("{path}?dry_run=true"), back.clone()).await.is(200);
    assert_eq!(told["replayed"]["messages"].to_string().trim_matches('"'), "1", "{told:#}");
    assert_eq!(client.get(&path).await.is(200)["checkpoint"], now, "nothing done");
    client.put(&path, back).await.is(200);
    let mut source = sql::tidb(stack).await;
    let tso = sql::current_tso(&mut source).await;
    let by_tso = client.put(&format!("{path}?dry_run=true"), json!({"tso": tso.to_string()})).await.is(200);
    assert!(by_tso["to"]["next_offset"].is_string(), "{by_tso:#}");
    let time = chrono::Utc::now() - chrono::TimeDelta::seconds(2);
    let by_time = json!({"time": time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)});
    client.put(&format!("{path}?dry_run=true"), by_time).await.is(200);
    client.command(&format!("{TASK}/resume?wait_ms=60000")).await.is(200);
    client.command(&format!("{TASK}/resume?wait_ms=60000")).await.is(200);
    complete(client).await;
}

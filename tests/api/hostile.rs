//! Bodies that nobody would send: whatever comes, the answer is a problem with a status below 500, and the server goes on.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, spec};

fn hostile(rng: &mut StdRng) -> Value {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let choices = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("\u{0}\u{feff}\u{202e}`'\";--"),
        json!("(".repeat(50_000)),
        json!("NOT ".repeat(10_000)),
        json!("a".repeat(300_000)),
        json!("%s{{7*7}}$(id)"),
        json!([]),
        json!({}),
        json!({"a": {"b": []}}),
        json!(vec!["*.*"; 5000]),
        deep,
    ];
    choices.choose(rng).unwrap().clone()
}

/// Puts something hostile in the place of some part, or under a new name.
fn mutate(value: &mut Value, rng: &mut StdRng) {
    match value {
        Value::Object(map) if !map.is_empty() && rng.random_bool(0.8) => {
            let names: Vec<_> = map.keys().cloned().collect();
            let name = names.choose(rng).unwrap();
            if rng.random_bool(0.1) {
                map.insert(format!("{name}\u{0}x"), hostile(rng));
            }
            mutate(map.get_mut(name).unwrap(), rng);
        }
        Value::Array(items) if !items.is_empty() && rng.random_bool(0.8) => {
            let nth = rng.random_range(0..items.len());
            mutate(&mut items[nth], rng);
        }
        other => *other = hostile(rng),
    }
}

#[tokio::test]
async fn no_body_breaks_the_server() {
    let app = TestApp::start().await;
    let seed =
        std::env::var("TIDEGATE_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("TIDEGATE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut full = spec("hostile");
    full["tables"] =
        json!([{"match": "s.t", "filter": "a > 1 AND b LIKE 'x%'", "columns": {"exclude": ["c"]}}]);
    let connection = json!({"kind": "mysql", "host": "h", "port": 1, "user": "u", "password": "p", "tls": {"mode": "required"}});
    let app = app.with_task("known").await.with_task("moved").await;
    let moved = app.post("/tasks/moved/export").await.expect(200);
    app.delete("/tasks/moved").await.expect(204);
    let rule = json!({"kind": "lag", "threshold_ms": 5000, "labels": {"a": "b"}, "webhook": {"url": "http://127.0.0.1:1/", "secret": "s"}});
    let bodies = [
        (Method::POST, "/tasks", full.clone()),
        (Method::POST, "/connections/test", connection.clone()),
        (Method::PUT, "/connections/kept?verify=false", connection),
        (Method::PATCH, "/connections/target?verify=false", json!({"password": "p", "port": 1})),
        (Method::PATCH, "/tasks/known/spec", full),
        (
            Method::PUT,
            "/tasks/known/throttle",
            json!({"full_rows_per_second": 10, "incremental_bytes_per_second": null}),
        ),
        (Method::POST, "/tasks/known/tables/resync", json!({"tables": [{"schema": "s", "table": "t"}]})),
        (Method::POST, "/tasks/known/dead-letters/retry", json!({"numbers": [1], "all": false})),
        (Method::PUT, "/tasks/known/checkpoint", json!({"offset": "5"})),
        (Method::POST, "/tasks/known/reset", json!({"target_tables": "drop"})),
        (Method::PUT, "/alert-rules/a", rule),
        (Method::POST, "/tasks/commands", json!({"command": "pause", "select": {"names": ["known"]}})),
        (Method::POST, "/tasks/import", moved),
    ];
    let times: u32 = std::env::var("TIDEGATE_FUZZ").map_or(1, |times| times.parse().unwrap());
    for round in 0..400 * times {
        let (method, path, mut body) = bodies.choose(&mut rng).unwrap().clone();
        for _ in 0..rng.random_range(1..4) {
            mutate(&mut body, &mut rng);
        }
        let mut bytes = serde_json::to_vec(&body).unwrap();
        match rng.random_range(0..6) {
            0 => bytes.truncate(rng.random_range(0..bytes.len() + 1)),
            1 if !bytes.is_empty() => {
                for _ in 0..rng.random_range(1..20) {
                    let nth = rng.random_range(0..bytes.len());
                    bytes[nth] = rng.random();
                }
            }
            2 => bytes = "[".repeat(rng.random_range(1..200_000)).into_bytes(),
            _ => {}
        }
        let request = app.client.request(method, app.url(path));
        let request = request.header("content-type", "application/json").body(bytes.clone());
        let reply = app.send(request).await;
        let shown = String::from_utf8_lossy(&bytes).chars().take(300).collect::<String>();
        let bad = reply.status.is_server_error();
        assert!(!bad, "round {round}: {} for {path} {shown}: {}", reply.status, reply.text);
    }
    app.client.get(app.url("/tasks")).send().await.unwrap().error_for_status().unwrap();
}

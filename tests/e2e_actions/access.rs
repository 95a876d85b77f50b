//! Section 5, and what is not a task's: alert rules, backup, tokens and roles.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, pointers};

pub async fn all(client: &Client) {
    rules(client).await;
    tokens(client).await;
}

async fn rules(client: &Client) {
    let rule = json!({"kind": "lag", "threshold_ms": 60_000, "labels": {"env": "prod"},
        "webhook": {"url": "http://127.0.0.1:9/hook", "secret": "sign-with-this"}});
    let made = client.put("/alert-rules/slow", rule.clone()).await;
    assert!(!made.text.contains("sign-with-this"));
    assert_eq!(made.is(201)["webhook"]["secret"], json!({"set": true}));
    client.put("/alert-rules/slow", rule).await.is(200);
    assert_eq!(client.get("/alert-rules/slow").await.is(200)["kind"], "lag");
    assert_eq!(client.get("/alert-rules").await.is(200)["items"].as_array().unwrap().len(), 2);
    client.command("/alert-rules/slow/test").await.is(202);
    // Nobody is to be told by this one.
    client.command("/alert-rules/behind/test").await.refused(422, "invalid-body");
    for kind in ["failure", "no_progress", "full_timeout", "retention", "dead_letters"] {
        let answer = client.put("/alert-rules/another?dry_run=true", json!({"kind": kind})).await;
        assert!(answer.status.is_success(), "{kind}: {}", answer.text);
    }
    for (wrong, place) in [
        (json!({"kind": "hunger"}), "/kind"),
        (json!({"kind": "lag", "threshold_ms": "x"}), "/threshold_ms"),
        (json!({"kind": "lag", "threshold_ms": 1, "webhook": {"url": "ftp://x"}}), "/webhook/url"),
        (json!({"kind": "lag", "threshold_ms": 1, "colour": 1}), "/colour"),
    ] {
        let problem = client.put("/alert-rules/odd", wrong).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    let told = |page: &Value| page["items"].as_array().is_some_and(|alerts| !alerts.is_empty());
    let page = client.until("/alerts?rule=behind", "told", told).await;
    let alert = &page["items"][0];
    assert_eq!((&alert["task_name"], &alert["kind"]), (&json!("shop-to-dw"), &json!("lag")), "{page:#}");
    let one = client.get(&format!("/alerts/{}", alert["id"])).await.is(200);
    assert_eq!((&one["id"], &one["deliveries"]), (&alert["id"], &json!([])), "{one:#}");
    client.delete("/alert-rules/behind").await.is(204);
    client.get("/alerts?state=odd").await.refused(400, "invalid-parameter");
    client.delete("/alert-rules/slow?dry_run=true").await.is(200);
    client.delete("/alert-rules/slow").await.is(204);
    client.get("/alert-rules/slow").await.refused(404, "not-found");
}

async fn tokens(client: &Client) {
    assert_eq!(client.get("/tokens").await.is(200)["items"], json!([]));
    // The first must be an admin's.
    let answer = client.post("/tokens", json!({"name": "eyes", "role": "viewer"})).await;
    assert!(matches!(answer.status.as_u16(), 409 | 422), "{}", answer.text);
    for (wrong, place) in [
        (json!({"name": "a", "role": "king"}), "/role"),
        (json!({"name": "NO", "role": "admin"}), "/name"),
        (json!({"name": "a", "role": "admin", "expires_at": "yesterday"}), "/expires_at"),
        (json!({"name": "a", "role": "admin", "expires_at": "2001-01-01T00:00:00.000Z"}), "/expires_at"),
        (json!({"name": "a", "role": "admin", "secret": "mine"}), "/secret"),
    ] {
        let problem = client.post("/tokens", wrong).await.refused(422, "invalid-body");
        assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
    }
    client.post("/tokens?dry_run=true", json!({"name": "root", "role": "admin"})).await.is(200);
    let made = client.post("/tokens", json!({"name": "root", "role": "admin"})).await.is(201);
    let root = made["secret"].as_str().unwrap().to_owned();

    // From the first one on every call needs one.
    let refused = client.get("/tasks").await;
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    refused.refused(401, "unauthorized");
    for public in ["/healthz", "/readyz", "/openapi.json"] {
        client.get(public).await.is(200);
    }
    client.log_in(Some(&root));
    let read = client.get("/tokens/root").await;
    assert!(!read.text.contains(&root), "the secret is shown once");
    assert_eq!(read.is(200)["role"], "admin");
    client.post("/tokens", json!({"name": "root", "role": "admin"})).await.refused(409, "name-taken");
    let secret = async |name: &str, role: &str| -> String {
        let body = json!({"name": name, "role": role, "expires_at": "2099-01-01T00:00:00.000Z"});
        client.post("/tokens", body).await.is(201)["secret"].as_str().unwrap().to_owned()
    };
    let (eyes, hands) = (secret("eyes", "viewer").await, secret("hands", "operator").await);

    client.log_in(Some(&eyes));
    client.get("/tasks").await.is(200);
    for (method, path, body) in [
        (Method::POST, "/tasks", json!({})),
        (Method::POST, "/tasks/none/start", json!({})),
        (Method::GET, "/tokens", Value::Null),
        (Method::GET, "/tasks/none/dead-letters/1", Value::Null),
        (Method::POST, "/system/backup", json!({})),
    ] {
        client.send(client.request(method, path).json(&body)).await.refused(403, "forbidden");
    }
    client.log_in(Some(&hands));
    client.post("/tasks", json!({})).await.refused(422, "invalid-body");
    for (method, path) in [
        (Method::GET, "/tokens"),
        (Method::DELETE, "/tokens/eyes"),
        (Method::POST, "/system/backup"),
        (Method::POST, "/tasks/none/ddl/1/replace"),
        (Method::GET, "/tasks/none/messages?offset=1&values=true"),
    ] {
        client.send(client.request(method, path)).await.refused(403, "forbidden");
    }

    // A consistent copy of the store.
    client.log_in(Some(&root));
    let copy = client.command("/system/backup").await;
    assert!(copy.status == 200 && copy.text.starts_with("SQLite format 3"), "{}", copy.status);

    // Who did it is in the event.
    client.delete("/tokens/hands?dry_run=true").await.is(200);
    client.delete("/tokens/hands").await.is(204);
    client.log_in(Some(&hands));
    client.get("/tasks").await.refused(401, "unauthorized");
    client.log_in(Some(&root));
    let events = client.get("/events?limit=500").await.is(200);
    let last = events["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["actor"], &last["peer"]), (&json!("root"), &json!("127.0.0.1")), "{last}");
    client.delete("/tokens/root").await.refused(409, "conflict");

    // Guessing is slowed down; who has a token is served meanwhile.
    client.log_in(Some("a-guess-that-is-long-enough-to-be-one"));
    let mut slowed = None;
    for _ in 0..15 {
        let answer = client.get("/tasks").await;
        if answer.status == 429 {
            slowed = Some(answer);
            break;
        }
        answer.refused(401, "unauthorized");
    }
    let slowed = slowed.expect("more than 10 failed logins in a minute are 429");
    assert!(slowed.header("retry-after").parse::<u32>().is_ok());
    slowed.refused(429, "too-many-attempts");
    client.log_in(Some(&root));
    client.get("/tasks").await.is(200);
    println!("problem codes that were met: {}", client.codes().join(", "));
}

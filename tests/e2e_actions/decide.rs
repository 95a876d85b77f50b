//! Section 3: where a person decides, DDL that the task stops at and rows that the target refuses.

use serde_json::{Value, json};

use super::client::{Client, pointers};
use super::running::complete;
use support::sql;
use support::stack::Stack;

const TASK: &str = "/tasks/shop-to-dw";

pub async fn all(client: &Client, stack: &Stack) {
    ddl(client, stack).await;
    letters(client, stack).await;
}

fn has(task: &Value, kind: &str) -> bool {
    task["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == kind)
}

/// The statement at which the task has stopped.
async fn stopped(client: &Client) -> i64 {
    let failed = client.until(TASK, "failed at a DDL", |task| task["status"] == "failed").await;
    assert!(has(&failed, "ddl_stopped"), "{failed:#}");
    assert!(failed["last_error"]["hint"].is_string(), "{failed:#}");
    let list = client.get(&format!("{TASK}/ddl?limit=500")).await.is(200);
    let open = list["items"].as_array().unwrap().iter().find(|ddl| ddl["state"] == "failed");
    open.unwrap_or_else(|| panic!("{list:#}"))["n"].as_i64().unwrap()
}

async fn ddl(client: &Client, stack: &Stack) {
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &["ALTER TABLE act.a ADD COLUMN plain INT"]).await;
    complete(client).await;
    let list = client.get(&format!("{TASK}/ddl")).await.is(200);
    let applied = &list["items"][0];
    assert!(
        applied["source_text"].as_str().unwrap().contains("plain") && applied["error"].is_null(),
        "{list:#}"
    );
    assert!(!applied["statements"].as_array().unwrap().is_empty() && applied["state"].is_string());
    let path = format!("{TASK}/ddl/{}", applied["n"]);
    assert_eq!(client.get(&path).await.is(200), *applied);
    client.get(&format!("{TASK}/ddl/99999")).await.refused(404, "not-found");
    client.get(&format!("{TASK}/ddl/first")).await.refused(400, "invalid-parameter");
    let answer = client.command(&format!("{path}/skip")).await;
    assert!(answer.status == 409, "it is done already: {} {}", answer.status, answer.text);

    client.patch(&format!("{TASK}/spec"), json!({"ddl": {"add_column": "stop"}})).await.is(200);
    for (column, action) in [("one", "skip"), ("two", "replace"), ("three", "retry")] {
        sql::run(&mut source, &[&format!("ALTER TABLE act.a ADD COLUMN {column} INT")]).await;
        let n = stopped(client).await;
        let path = format!("{TASK}/ddl/{n}/{action}");
        match action {
            "replace" => {
                for (wrong, place) in [
                    (json!({}), "/statements"),
                    (json!({"statements": [7]}), "/statements/0"),
                    (json!({"statements": []}), "/statements"),
                ] {
                    let problem = client.post(&path, wrong).await.refused(422, "invalid-body");
                    assert!(pointers(&problem).contains(&place), "{place}: {problem:#}");
                }
                let own = json!({"statements": ["ALTER TABLE act_copy.a ADD COLUMN two INT DEFAULT 2"]});
                client.post(&format!("{path}?dry_run=true"), own.clone()).await.is(200);
                let done = client.post(&path, own).await;
                assert!(done.status.is_success(), "{}", done.text);
            }
            "retry" => {
                client.patch(&format!("{TASK}/spec"), json!({"ddl": {"add_column": "apply"}})).await.is(200);
                let done = client.command(&path).await;
                assert!(done.status.is_success(), "{}", done.text);
            }
            _ => {
                client.command(&format!("{path}?dry_run=true")).await.is(200);
                let done = client.command(&path).await;
                assert!(done.status.is_success(), "{}", done.text);
            }
        }
        let task = client.get(TASK).await.is(200);
        if task["desired"] != "running" || task["status"] == "failed" {
            client.command(&format!("{TASK}/resume?wait_ms=60000")).await;
        }
        client
            .until(&format!("{TASK}/ddl/{n}"), "decided", |ddl| {
                ddl["state"] != "failed" && ddl["finished_at"].is_string()
            })
            .await;
        client.until(TASK, "running", |task| task["status"] == "running" && !has(task, "ddl_stopped")).await;
    }
    complete(client).await;
    let mut target = sql::mariadb(stack).await;
    use mysql_async::prelude::Queryable;
    let columns: Vec<String> = target.query("SELECT column_name FROM information_schema.columns WHERE table_schema = 'act_copy' AND table_name = 'a' ORDER BY column_name").await.unwrap();
    assert_eq!(columns, ["id", "n", "plain", "three", "two", "v"]);
}

async fn letters(client: &Client, stack: &Stack) {
    let mut source = sql::tidb(stack).await;
    let mut target = sql::mariadb(stack).await;
    client.patch(&format!("{TASK}/spec"), json!({"errors": {"row": "dead_letter"}})).await.is(200);
    sql::run(&mut target, &["ALTER TABLE act_copy.b MODIFY COLUMN v VARCHAR(10)"]).await;
    let long = |id: i32| format!("INSERT INTO act.b VALUES ({id}, 'much too long for the target', {id})");
    sql::run(&mut source, &[&long(21), &long(22), &long(23), "INSERT INTO act.b VALUES (24, 'short', 24)"])
        .await;
    complete(client).await;
    assert_eq!(sql::count(&mut target, "act_copy.b WHERE id > 20").await, 1);
    let task = client.get(TASK).await.is(200);
    assert!(has(&task, "dead_letters") && task["health"] == "degraded", "{task:#}");
    let page = client.get(&format!("{TASK}/dead-letters?state=open&schema=act&table=b")).await.is(200);
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "{page:#}");
    assert!(!page.to_string().contains("much too long"), "no images in a list");
    assert!(
        items[0]["error"].is_object()
            && items[0]["offset"].is_string()
            && items[0]["key_columns"] == json!(["id"]),
        "{page:#}"
    );
    let numbers: Vec<i64> = items.iter().map(|letter| letter["n"].as_i64().unwrap()).collect();
    let one = client.get(&format!("{TASK}/dead-letters/{}", numbers[0])).await.is(200);
    assert!(one.to_string().contains("much too long for the target"), "its images: {one:#}");
    client.get(&format!("{TASK}/dead-letters/99999")).await.refused(404, "not-found");
    client.get(&format!("{TASK}/dead-letters?state=lost")).await.refused(400, "invalid-parameter");
    for wrong in [
        json!({}),
        json!({"numbers": ["x"]}),
        json!({"all": true, "numbers": [1]}),
        json!({"all": true, "colour": 1}),
    ] {
        client.post(&format!("{TASK}/dead-letters/discard"), wrong).await.refused(422, "invalid-body");
    }
    // A list that came out empty means none.
    let none = client.post(&format!("{TASK}/dead-letters/discard"), json!({"numbers": []})).await.is(200);
    assert_eq!((&none["count"], &none["effects"]), (&json!(0), &json!([])));

    let dry =
        client.command(&format!("{TASK}/dead-letters/{}/discard?dry_run=true", numbers[0])).await.is(200);
    assert!(!dry["effects"].as_array().unwrap().is_empty(), "{dry:#}");
    let discarded = client.command(&format!("{TASK}/dead-letters/{}/discard", numbers[0])).await;
    assert!(discarded.status.is_success(), "{}", discarded.text);
    sql::run(&mut target, &["ALTER TABLE act_copy.b MODIFY COLUMN v VARCHAR(40)"]).await;
    client.command(&format!("{TASK}/dead-letters/{}/retry?wait_ms=60000", numbers[1])).await.is(200);
    assert_eq!(sql::count(&mut target, "act_copy.b WHERE id = 22").await, 1);
    let rest = json!({"tables": [{"schema": "act", "table": "b"}]});
    client.post(&format!("{TASK}/dead-letters/retry?wait_ms=60000"), rest).await.is(200);
    assert_eq!(sql::count(&mut target, "act_copy.b WHERE id IN (22, 23)").await, 2);
    let none = client.get(&format!("{TASK}/dead-letters?state=open")).await.is(200);
    assert_eq!(none["items"], json!([]));
    client.until(TASK, "well again", |task| !has(task, "dead_letters")).await;
}

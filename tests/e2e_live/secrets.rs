//! New passwords of connections that are in use, on the real TiDB and the real MariaDB.

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Load, PATIENCE, assert_same, patch, prepare, wait_for_incremental};
use support::stack::Stack;
use support::{api, sql};

const USER: &str = "lv_user";

fn connection(kind: &str, port: u16, password: &str) -> Value {
    json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": USER, "password": password})
}

async fn set_password(stack: &Stack, password: &str) {
    for port in [stack.tidb_port, stack.mariadb_port] {
        sql::set_password(port, USER, password).await;
    }
}

/// Ends the user's sessions on the target; gives how many there were.
async fn cut(stack: &Stack) -> usize {
    let mut target = sql::target(stack).await;
    let list = format!("SELECT id FROM information_schema.processlist WHERE user = '{USER}'");
    let ids: Vec<u64> = target.query(list).await.unwrap();
    for id in &ids {
        // It may have ended by itself.
        let _ = target.query_drop(format!("KILL {id}")).await;
    }
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_taken_up_by_a_running_task() {
    let Some(stack) = Stack::on_mysql_alone("a_new_password_is_taken_up_by_a_running_task") else { return };
    let schema = "lv_secret";
    for mut server in [sql::tidb(&stack).await, sql::target(&stack).await] {
        let create = format!("CREATE USER '{USER}'@'%' IDENTIFIED BY 'first-1'");
        let grant = format!("GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%'");
        sql::users(&mut server, &[&format!("DROP USER IF EXISTS '{USER}'@'%'"), &create, &grant]).await;
    }
    let server = prepare(&stack, schema, 2000).await;
    let api = &server.api;
    api.put("/connections/tidb", &connection("tidb", stack.tidb_port, "first-1")).await;
    api.put("/connections/target", &connection("mysql", stack.mariadb_port, "first-1")).await;
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.*")], &json!({}))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    let load = Load::start(&stack, schema);
    api.wait_for("task", "some changes applied", PATIENCE, |task| {
        task["progress"]["changes_applied"].as_u64().is_some_and(|changes| changes > 100)
    })
    .await;
    // Whoever writes to the target has logged in: with the first rows, and with the first checkpoint after them.
    api.wait_caught_up("task", &stack, PATIENCE).await;

    set_password(&stack, "second-2").await;
    // The old sessions live on; the connection does not log in any more, and is refused as it is.
    let refused = api
        .send(Method::PUT, "/connections/target", Some(&connection("mysql", stack.mariadb_port, "wrong")))
        .await;
    assert_eq!(refused.status.as_u16(), 502, "{:#}", refused.body);
    for (name, kind, port) in [("tidb", "tidb", stack.tidb_port), ("target", "mysql", stack.mariadb_port)] {
        let answer = api.put(&format!("/connections/{name}"), &connection(kind, port, "second-2")).await;
        assert_eq!(answer["effects"][0]["effect"], "next_batch", "{answer:#}");
        assert_eq!(answer["effects"].as_array().unwrap().len(), 1);
        let same = api.put(&format!("/connections/{name}"), &connection(kind, port, "second-2")).await;
        assert_eq!((&same["effects"], &same["version"]), (&json!([]), &answer["version"]));
    }
    let before = api.task("task").await;
    assert_eq!(before["run"], 1);
    // Now they break: the same run logs in with the new one. A resync reads TiDB with it.
    assert!(cut(&stack).await > 0);
    let resync = "/tasks/task/tables/resync?wait_ms=60000";
    let asked = api.send(Method::POST, resync, Some(&crate::named(schema, &["t"]))).await;
    assert_eq!(asked.status.as_u16(), 200, "it is done within the minute: {:#}", asked.body);
    crate::wait_for_state(api, schema, "t", &["following"]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(api.task("task").await["run"], 1, "no run but the first");

    // The other order: the password changes, the sessions break, the task fails; the new password and resume cure it.
    set_password(&stack, "third-3").await;
    cut(&stack).await;
    let failed = loop {
        let task = api.task("task").await;
        if task["status"] == "failed" {
            break task;
        }
        cut(&stack).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!(failed["last_error"]["kind"], "access_denied", "{failed:#}");
    let answer = patch(api, "/connections/target", json!({"password": "third-3"})).await;
    assert!(answer["effects"][0]["detail"].as_str().unwrap().contains("resume task"), "{answer:#}");
    patch(api, "/connections/tidb", json!({"password": "third-3"})).await;
    api.complete("task", "resume").await;
    load.stop().await;
    let names: Vec<String> =
        ["t", "other", "later", "later_2"].iter().map(|table| format!("{schema}.{table}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_same(&stack, api, &pairs).await;

    api.complete("task", "pause").await;
    // Another cluster under the same name, although it has a topic of the task's name.
    if let Some(other) = Stack::shanghai("another Kafka cluster under the same name") {
        let elsewhere = json!({"kind": "kafka", "brokers": [other.kafka]});
        let refused = api.send(Method::PUT, "/connections/kafka", Some(&elsewhere)).await;
        let (status, code) = (refused.status.as_u16(), &refused.body["code"]);
        assert_eq!((status, code), (409, &json!("endpoint-identity-changed")), "{:#}", refused.body);
    }
    // A server that has none of the task's tables is another one.
    sql::drop_schemas(&stack, &[schema]).await;
    let elsewhere = json!({"kind": "mysql", "host": "127.0.0.1", "port": stack.tidb_port, "user": "root", "password": ""});
    let refused = api.send(Method::PUT, "/connections/target", Some(&elsewhere)).await;
    let (status, code) = (refused.status.as_u16(), &refused.body["code"]);
    assert_eq!((status, code), (409, &json!("endpoint-identity-changed")), "{:#}", refused.body);
    let busy = api.send(Method::DELETE, "/connections/target", None).await;
    assert_eq!((busy.status.as_u16(), &busy.body["code"]), (409, &json!("in-use")));
    for mut server in [sql::tidb(&stack).await, sql::target(&stack).await] {
        sql::users(&mut server, &[&format!("DROP USER '{USER}'@'%'")]).await;
    }
}

/// Tasks of one topic share who looks how far the source is. The login that it has may be that of a task which is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_of_an_idle_source_outlives_the_task_that_began_to_look_and_its_password() {
    let Some(stack) = Stack::utc("the_watermark_of_an_idle_source_outlives_the_task") else { return };
    let (schema, user) = ("lv_look", "lv_look_user");
    let mut source = sql::tidb(&stack).await;
    let create = format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'first-1'");
    let grant = format!("GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%'");
    sql::users(&mut source, &[&format!("DROP USER IF EXISTS '{user}'@'%'"), &create, &grant]).await;
    let server = prepare(&stack, schema, 10).await;
    let api = &server.api;
    let login = |password: &str| json!({"kind": "tidb", "host": "127.0.0.1", "port": stack.tidb_port, "user": user, "password": password});
    api.put("/connections/tidb", &login("first-1")).await;
    for (task, table) in [("first", "t"), ("second", "other")] {
        api.create_task(&api::spec(task, &stack, &[&format!("{schema}.{table}")], &json!({}))).await;
        api.start(task).await;
        api.wait_for(task, "incremental", PATIENCE, |task| task["phase"] == "incremental").await;
        api.wait_caught_up(task, &stack, PATIENCE).await;
    }
    api.complete("first", "stop").await;
    sql::set_password(stack.tidb_port, user, "second-2").await;
    patch(api, "/connections/tidb", json!({"password": "second-2"})).await;
    let list = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'");
    let mut killed = 0;
    while killed == 0 {
        for id in source.query::<u64, _>(&list).await.unwrap() {
            // It may have ended by itself.
            let _ = source.query_drop(format!("KILL TIDB {id}")).await;
            killed += 1;
        }
    }
    api.wait_caught_up("second", &stack, PATIENCE).await;
    assert_eq!(api.task("second").await["run"], 1);
    sql::users(&mut source, &[&format!("DROP USER '{user}'@'%'")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

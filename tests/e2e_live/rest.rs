//! The connections that a task has to its target: none when it has nothing to write, fewer where the target gives no more.

use mysql_async::prelude::Queryable;
use serde_json::json;

use crate::{PATIENCE, assert_same, wait_for_incremental};
use support::server::Server;
use support::stack::Stack;
use support::{api, sql};

const USER: &str = "lv_rest_user";

/// Sessions that the task has on the target.
async fn sessions(stack: &Stack) -> u64 {
    let count = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'");
    sql::target(stack).await.query_first(count).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_nothing_to_write_leaves_its_places_on_the_target() {
    let Some(stack) = Stack::on_mysql_alone("a_task_with_nothing_to_write_leaves_its_places_on_the_target")
    else {
        return;
    };
    let schema = "lv_rest";
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    for table in ["t", "of_others"] {
        let create = format!("CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, v INT)");
        sql::run(&mut source, &[&format!("CREATE DATABASE IF NOT EXISTS {schema}"), &create]).await;
    }
    let create = format!("CREATE USER '{USER}'@'%' IDENTIFIED BY 'p'");
    let grant = format!("GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%'");
    let mut target = sql::target(&stack).await;
    sql::users(&mut target, &[&format!("DROP USER IF EXISTS '{USER}'@'%'"), &create, &grant]).await;
    let server = Server::start_with(&[("TIDEGATE_LET_GO_MS".to_owned(), "300".to_owned())]).await;
    let api = &server.api;
    api.connect(&stack).await;
    let login = json!({"kind": "mysql", "host": "127.0.0.1", "port": stack.mariadb_port, "user": USER, "password": "p"});
    api.put("/connections/target", &login).await;
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.t")], &json!({}))).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    // Rows, a DDL and rows, each after a rest, in which the topic brings what is not the task's.
    let mut passed = 0;
    for step in
        ["INSERT INTO {}.t VALUES (1, 1)", "ALTER TABLE {}.t ADD COLUMN n INT", "UPDATE {}.t SET n = 2"]
    {
        tokio::time::timeout(PATIENCE, async {
            while sessions(&stack).await > 0 {
                passed += 1;
                let other = format!("INSERT INTO {schema}.of_others VALUES ({passed}, 1)");
                sql::run(&mut source, &[&other]).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("it keeps its connections");
        sql::run(&mut source, &[&step.replace("{}", schema)]).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
    }
    let table = format!("{schema}.t");
    assert_same(&stack, api, &[(table.as_str(), table.as_str())]).await;
    let task = api.task("task").await;
    assert_eq!((&task["run"], &task["progress"]["retries"]), (&json!(1), &json!(0)), "{task:#}");
    sql::users(&mut target, &[&format!("DROP USER '{USER}'@'%'")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_works_with_fewer_connections_where_the_target_gives_no_more() {
    let Some(stack) = Stack::on_mysql_alone("a_task_works_with_fewer_connections") else { return };
    let (schema, user) = ("lv_fewer", "lv_fewer_user");
    sql::drop_schemas(&stack, &[schema]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    let tables: Vec<String> = (0..4).map(|number| format!("{schema}.t{number}")).collect();
    for table in &tables {
        sql::run(&mut source, &[&format!("CREATE TABLE {table} (id INT PRIMARY KEY)")]).await;
    }
    let mut target = sql::target(&stack).await;
    let create = format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'first-1'");
    let grant = format!("GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%'");
    sql::users(&mut target, &[&format!("DROP USER IF EXISTS '{user}'@'%'"), &create, &grant]).await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(&stack).await;
    let login = json!({"kind": "mysql", "host": "127.0.0.1", "port": stack.mariadb_port, "user": user, "password": "first-1"});
    api.put("/connections/target", &login).await;
    // Small batches: the last rows here are several.
    let small = json!({"tuning": {"memory_bytes": 16 << 20}});
    api.create_task(&api::spec("task", &stack, &[&format!("{schema}.*")], &small)).await;
    api.start("task").await;
    wait_for_incremental(api).await;
    sql::run(&mut source, &[&format!("INSERT INTO {} VALUES (1)", tables[0])]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    // Nobody logs in any more. A batch of four tables would be written over four connections.
    sql::set_password(stack.mariadb_port, user, "second-2").await;
    sql::run(&mut source, &["BEGIN"]).await;
    for table in &tables {
        sql::run(&mut source, &[&format!("INSERT INTO {table} VALUES (2)")]).await;
    }
    sql::run(&mut source, &["COMMIT"]).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    // Batches behind each other take turns on the one that there is.
    let wide = format!("CREATE TABLE {schema}.wide (id INT PRIMARY KEY, v VARCHAR(400))");
    sql::run(&mut source, &[&wide]).await;
    for from in (0..10_000).step_by(1000) {
        let rows: Vec<_> = (from..from + 1000).map(|id| format!("({id}, REPEAT('{id}', 60))")).collect();
        let again = format!("UPDATE {schema}.wide SET v = CONCAT(id, v) WHERE id % 3 = 0");
        let insert = format!("INSERT INTO {schema}.wide VALUES {}", rows.join(", "));
        sql::run(&mut source, &[&insert, &again]).await;
    }
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let wide = format!("{schema}.wide");
    assert_same(&stack, api, &[(wide.as_str(), wide.as_str())]).await;
    let task = api.task("task").await;
    assert_eq!((&task["run"], &task["progress"]["retries"]), (&json!(1), &json!(0)), "{task:#}");
    assert!(server.log().contains("works with fewer connections"), "{}", server.log_tail());
    let pairs: Vec<(&str, &str)> = tables.iter().map(|table| (table.as_str(), table.as_str())).collect();
    assert_same(&stack, api, &pairs).await;
    sql::users(&mut target, &[&format!("DROP USER '{user}'@'%'")]).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

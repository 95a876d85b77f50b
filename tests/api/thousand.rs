use std::collections::HashSet;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Logs, TestApp};

const TASKS: usize = 1000;

/// A server whose store holds a thousand tasks that were running when it stopped.
async fn thousand() -> TestApp {
    let app = TestApp::start().await.with_task("task-0").await;
    let TestApp { app: server, stage, folder, .. } = app;
    server.stop().await;
    let database = format!("sqlite:{}", folder.path().join("data/tidegate.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < ?)
         insert into tasks (id, name, spec, created_at, updated_at)
         select printf('t_%026d', n), 'task-' || n, json_set(spec, '$.name', 'task-' || n, '$.labels.shard', '' || (n % 10)),
         created_at, updated_at from n, tasks where name = 'task-0'",
    )
    .bind(TASKS as i64 - 1)
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("update tasks set desired = 'running', status = 'running', epoch = 1")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    TestApp::start_in(folder, stage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_run_again_are_listed_and_commanded() {
    let begin = Instant::now();
    let app = thousand().await;
    let runs = async |app: &TestApp| -> usize {
        let (mut path, mut runs) = ("/tasks?limit=500".to_owned(), 0);
        loop {
            let page = app.get(&path).await.expect(200);
            runs += page["items"].as_array().unwrap().iter().filter(|task| task["run"] == 2).count();
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/tasks?limit=500&cursor={cursor}"),
                None => return runs,
            }
        }
    };
    while runs(&app).await < TASKS {
        assert!(begin.elapsed().as_secs() < 120, "not every task runs again");
    }
    println!(
        "{TASKS} tasks run again after {:?} (a debug build, with the making of the store)",
        begin.elapsed()
    );

    let summary = app.get("/tasks/summary").await.expect(200);
    assert_eq!((&summary["total"], &summary["status"]["running"]), (&json!(TASKS), &json!(TASKS)));
    let mut seen = HashSet::new();
    let mut path = "/tasks?label=shard%3D3&limit=7".to_owned();
    loop {
        let page = app.get(&path).await.expect(200);
        for task in page["items"].as_array().unwrap() {
            assert_eq!(task["labels"]["shard"], "3");
            assert!(seen.insert(task["name"].clone()), "once");
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/tasks?label=shard%3D3&limit=7&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), TASKS / 10);
    assert_eq!(
        app.get("/tasks?health=ok&limit=500").await.expect(200)["items"].as_array().unwrap().len(),
        500
    );
    assert_eq!(app.get("/tasks?health=failed").await.expect(200)["items"], json!([]));

    // Many callers at once: one writer, and nobody meets its lock.
    let commands = (0..40).map(|n| {
        let app = &app;
        async move {
            match n % 4 {
                0 => {
                    let select = json!({"labels": {"shard": format!("{}", n / 4)}});
                    let body = json!({"command": "pause", "select": select});
                    let done = app
                        .request(Method::POST, "/tasks/commands?wait_ms=60000", Some(body))
                        .await
                        .expect(200);
                    assert_eq!(done["refused"], 0, "{done}");
                }
                1 => drop(app.get("/tasks?limit=500").await.expect(200)),
                2 => {
                    let patch = json!({"labels": {"n": n.to_string()}});
                    let reply = app.patch(&format!("/tasks/task-{n}/spec"), patch).await;
                    // 412: the task was paused between the look at it and the change.
                    assert!(matches!(reply.status.as_u16(), 200 | 412), "{}", reply.text);
                }
                _ => drop(app.get("/events?limit=500").await.expect(200)),
            }
        }
    });
    futures_util::future::join_all(commands).await;
    // How long a thousand of them take is for the bench to say.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(240);
    let summary: Value = loop {
        let summary = app.get("/tasks/summary").await.expect(200);
        if summary["status"]["pausing"] == 0 || std::time::Instant::now() > end {
            break summary;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    // task-0 has no shard.
    assert_eq!(
        (&summary["status"]["paused"], &summary["status"]["running"]),
        (&json!(TASKS - 1), &json!(1)),
        "{summary}"
    );
    let log = Logs::of_process().text();
    assert!(
        !log.contains("database is locked") && !log.contains("the metadata store refused"),
        "a lock was met"
    );
}

//! Stores of every release (tests/fixtures/stores) are opened by this version: nothing is lost, and their tasks go on.

use serde_json::{Value, json};
use sqlx::Connection;
use tidegate::app::App;
use tidegate::store::Store;

use crate::app::{Stage, TestApp, config};

const KEY: &[u8] = include_bytes!("../fixtures/stores/key");

/// A data folder with the store of a release, and its key.
async fn folder(release: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let key = data.join("key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let database = format!("sqlite://{}?mode=rwc", data.join("tidegate.db").display());
    let mut store = sqlx::SqliteConnection::connect(&database).await.unwrap();
    let path = format!("{}/tests/fixtures/stores/{release}.sql", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(&path).unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("pragma foreign_keys = off; {script}")))
        .execute(&mut store)
        .await
        .unwrap();
    store.close().await.unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_every_release_is_taken_over_and_its_tasks_go_on() {
    for release in ["1", "2", "3"] {
        let folder = folder(release).await;
        let before = Store::inspect(&folder.path().join("data/tidegate.db")).await.unwrap();
        assert!(
            before.pending_migrations().await.unwrap() > 0 || release == "3",
            "release {release} is older"
        );
        before.close().await;
        let app = TestApp::start_in(folder, Stage::default()).await;
        let page = app.get("/tasks").await.expect(200);
        let tasks: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
        assert_eq!(tasks, ["running", "paused", "created"], "release {release}");
        // All of them have this label in their spec.
        let labelled = app.get("/tasks?label=env%3Dprod").await.expect(200);
        assert_eq!(labelled["items"].as_array().unwrap().len(), 3, "release {release}");
        // What ran runs again, what stood stands.
        let running = app.until("running", |task| task["run"] == 2).await;
        assert_eq!((&running["status"], &running["phase"]), (&json!("running"), &json!("incremental")));
        assert_eq!(app.get("/tasks/paused").await.expect(200)["status"], "paused");
        // Where each of them stood, and what it knew.
        for task in ["running", "paused"] {
            let checkpoint =
                app.get(&format!("/tasks/{task}/checkpoint")).await.expect(200)["checkpoint"].clone();
            let offset = |field: &str| checkpoint[field].as_str().unwrap().parse::<i64>().unwrap();
            assert!(offset("next_offset") > offset("start_offset"), "release {release}: {checkpoint}");
            assert_eq!(checkpoint["topic"], "tidb_obinlog");
            let tables = app.get(&format!("/tasks/{task}/tables")).await.expect(200);
            let names: Vec<_> = tables["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|table| table["table"].as_str().unwrap())
                .collect();
            assert_eq!(names, ["orders", "things"], "release {release}: {tables:#}");
            let ddl = app.get(&format!("/tasks/{task}/ddl")).await.expect(200);
            assert!(ddl["items"].as_array().unwrap().len() >= 2, "release {release}: {ddl:#}");
            let spec = app.get(&format!("/tasks/{task}/spec")).await.expect(200);
            assert_eq!(
                (&spec["throttle"]["connections"], &spec["labels"]["env"]),
                (&Value::Null, &json!("prod"))
            );
            // As it is read, so it may be put.
            app.put(&format!("/tasks/{task}/spec"), spec).await.expect(200);
            let events = app.get(&format!("/tasks/{task}/events?limit=500")).await.expect(200);
            assert!(
                events["items"].as_array().unwrap().iter().any(|event| event["kind"] == "ddl"),
                "{events:#}"
            );
        }
        // A secret that was sealed then is opened now.
        assert_eq!(app.get("/connections/sealed").await.expect(200)["password"], json!({"set": true}));
        let report = app.post("/connections/sealed/test").await.expect(200);
        assert!(!report.to_string().contains("another key"), "release {release}: {report:#}");
        app.post("/tasks/paused/resume?wait_ms=10000").await.expect(200);
        app.post("/tasks/created/start?wait_ms=10000").await.expect(200);
        let catalog = app.stage.context().store.catalog(&app.stage.context().task).await;
        catalog.unwrap();
        let faults = app.stage.context().store.integrity().await.unwrap();
        assert_eq!(faults, Vec::<String>::new(), "release {release}");
        app.app.stop().await;
    }
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_with_what_to_do() {
    let folder = folder("3").await;
    let path = folder.path().join("data/tidegate.db");
    let mut store = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "insert into _sqlx_migrations values (9999, 'from the future', current_timestamp, 1, x'00', 1)",
    )
    .execute(&mut store)
    .await
    .unwrap();
    store.close().await.unwrap();
    let Err(refused) = App::start(&config(&folder), Stage::default().runner()).await else {
        panic!("a newer store is opened");
    };
    let text = format!("{refused:?}");
    assert!(
        text.contains("newer version of tidegate") && text.contains("backup from before the upgrade"),
        "{text}"
    );
}

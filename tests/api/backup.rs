use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::json;

use crate::app::TestApp;

async fn tidegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn back_up(app: &TestApp, file: &Path) -> Output {
    tidegate(&["backup", "--server", &app.base, file.to_str().unwrap()]).await
}

async fn restore(folder: &Path, file: &Path) -> Output {
    tidegate(&["restore", "--data-dir", folder.to_str().unwrap(), file.to_str().unwrap()]).await
}

#[tokio::test]
async fn a_copy_of_the_store_brings_its_moment_back() {
    let app = TestApp::start().await.with_task("kept").await;
    let file = app.folder.path().join("copy.db");
    let saved = back_up(&app, &file).await;
    assert!(saved.status.success(), "{}", words(&saved));
    let data = app.folder.path().join("data");
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with("copy")), "{left:?}");
    let again = back_up(&app, &file).await;
    assert!(!again.status.success() && words(&again).contains("cannot write"), "{}", words(&again));
    let events = app.get("/events").await.expect(200);
    let last = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["kind"], "backup", "{last}");

    // What comes after the copy is gone with the restore.
    app.delete("/tasks/kept").await.expect(204);
    app.get("/tasks/kept").await.problem(404, "not-found");
    let refused = restore(&data, &file).await;
    assert!(
        !refused.status.success() && words(&refused).contains("another tidegate process"),
        "{}",
        words(&refused)
    );
    let app = app
        .restart_after(async || {
            let done = restore(&data, &file).await;
            assert!(done.status.success(), "{}", words(&done));
            assert!(words(&done).contains("tidegate.db.replaced-"), "{}", words(&done));
        })
        .await;
    app.get("/tasks/kept").await.expect(200);
    let request = json!({"kind": "kafka", "brokers": ["127.0.0.1:1"]});
    app.request(Method::PUT, "/connections/after?verify=false", Some(request)).await.expect(201);
}

#[tokio::test]
async fn what_is_no_copy_is_not_put_back() {
    let app = TestApp::start().await.with_task("kept").await;
    let file = app.folder.path().join("copy.db");
    assert!(back_up(&app, &file).await.status.success());
    let (folder, data) = (app.folder.path().to_owned(), app.folder.path().join("data"));
    let app = app
        .restart_after(async || {
            let garbage = folder.join("garbage.db");
            std::fs::write(&garbage, b"not a database at all").unwrap();
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.truncate(bytes.len() / 2);
            let half = folder.join("half.db");
            std::fs::write(&half, &bytes).unwrap();
            for (copy, cause) in [
                (&garbage, "is no copy of a store"),
                (&half, ""),
                (&folder.join("nothing.db"), "is no copy of a store"),
            ] {
                let done = restore(&data, copy).await;
                assert!(!done.status.success() && words(&done).contains(cause), "{}", words(&done));
            }
            // A folder of its own has another key, or none.
            let other = folder.join("other");
            let done = restore(&other, &file).await;
            assert!(!done.status.success() && words(&done).contains("key"), "{}", words(&done));
            std::fs::write(other.join("key"), "00".repeat(32)).unwrap();
            let done = restore(&other, &file).await;
            assert!(!done.status.success() && words(&done).contains("is not the key"), "{}", words(&done));
            std::fs::copy(data.join("key"), other.join("key")).unwrap();
            let done = restore(&other, &file).await;
            assert!(done.status.success(), "{}", words(&done));
            assert!(other.join("tidegate.db").exists());
        })
        .await;
    app.get("/tasks/kept").await.expect(200);
}

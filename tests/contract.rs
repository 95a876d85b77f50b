//! The API held against its own OpenAPI document by tools that others wrote: a validator, a tester that makes requests from it
//! (schemathesis), and a generated client that drives a task. deploy/deps.sh puts them into target/contract.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mysql_async::prelude::Queryable;
use serde_json::json;
use support::server::Server;
use support::sql;
use support::stack::Stack;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool of target/contract; None (said on standard error) when they are not installed and nothing requires them.
fn tool(name: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TIDEGATE_CONTRACT_TOOLS")
        .map_or_else(|| root().join("target/contract"), PathBuf::from);
    let path = folder.join("bin").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("TIDEGATE_REQUIRE_STACK").is_none_or(|required| required != "1"),
        "{test} needs {}: deploy/deps.sh installs it",
        path.display()
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no {name} (deploy/deps.sh installs it)");
    None
}

fn seed() -> String {
    std::env::var("TIDEGATE_SEED").unwrap_or_else(|_| "1".to_owned())
}

async fn run(mut command: Command, what: &str) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What failed stands below its first line of "=", before it what was tried.
    let failed = text.find("\n====").map_or(text.as_str(), |at| &text[at..]);
    assert!(output.status.success(), "{what}: {}\n{failed}", output.status);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_openapi() {
    let Some(validator) = tool("openapi-spec-validator", "the_document_is_valid_openapi") else { return };
    let mut command = Command::new(validator);
    command.arg(root().join("openapi/openapi.json"));
    run(command, "the document is not valid").await;
}

/// Requests made from the document, good and bad, in every operation: no 500, no answer that the document does not describe,
/// nothing bad that is taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_is_what_happens() {
    let Some(schemathesis) = tool("schemathesis", "what_the_document_says_is_what_happens") else { return };
    let server = Server::start().await;
    // Something to find; nothing of it leads anywhere.
    let put = async |name: &str, body: serde_json::Value| {
        server.api.put(&format!("/connections/{name}?verify=false"), &body).await;
    };
    put("tidb", json!({"kind": "tidb", "host": "127.0.0.1", "port": 1, "user": "sync"})).await;
    put("kafka", json!({"kind": "kafka", "brokers": ["127.0.0.1:1"]})).await;
    put("adb", json!({"kind": "adb", "host": "127.0.0.1", "port": 1, "user": "sync"})).await;
    for name in ["a", "b"] {
        let spec = json!({"name": name, "source": {"tidb": "tidb", "kafka": "kafka", "topic": "t"}, "target": "adb",
            "objects": {"include": ["shop.*"]}});
        server.api.create_task(&spec).await;
    }
    // The tester makes tokens too, and the first one shuts the door: so it comes with one of its own.
    let made = server.api.post("/tokens", &json!({"name": "tester", "role": "admin"})).await;
    let token = made["secret"].as_str().unwrap();
    let mut command = Command::new("timeout");
    command.arg("600").arg(schemathesis);
    command.args(["--config-file"]).arg(root().join("tests/contract/schemathesis.toml"));
    command.arg("run").arg(format!("{}/api/v1/openapi.json", server.api.origin()));
    // Some good and some bad requests to every operation: half a minute. How slow this machine is says nothing about the API.
    // One worker: the AST of Python 3.11 is not safe from two ("AST constructor recursion depth mismatch").
    command.args([
        "--seed",
        &seed(),
        "--phases",
        "fuzzing",
        "--max-examples",
        "4",
        "--workers",
        "1",
        "--no-shrink",
    ]);
    command.args([
        "--generation-database",
        "none",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "120",
    ]);
    // Lasting answers, and what calls servers that a random request would name.
    command.args(["--exclude-operation-id", "test_settings", "--exclude-operation-id", "delete_token"]);
    command.env("TIDEGATE_TOKEN", token);
    command.current_dir(server.data_folder());
    run(command, "the API and its document differ").await;
    assert!(server.api.is_ready().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_client_drives_a_task_from_end_to_end() {
    let test = "a_generated_client_drives_a_task_from_end_to_end";
    let Some(generator) = tool("openapi-python-client", test) else { return };
    let Some(stack) = Stack::utc(test) else { return };
    let Some(python) = tool("python", test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(generator);
    command
        .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(root().join("openapi/openapi.json"));
    command.arg("--output-path").arg(folder.path().join("tidegate_client"));
    command.arg("--config").arg(root().join("tests/contract/client.yml"));
    run(command, "no client can be generated").await;

    sql::drop_schemas(&stack, &["clients", "clients_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let create = "CREATE TABLE clients.items (id INT PRIMARY KEY, name VARCHAR(9))";
    sql::run(&mut source, &["CREATE DATABASE clients", create, "INSERT INTO clients.items VALUES (1, 'a')"])
        .await;
    let server = Server::start().await;
    let mut child = Command::new("timeout")
        .arg("240")
        .arg(python)
        .arg(root().join("tests/contract/drive.py"))
        .env("PYTHONPATH", folder.path())
        .env("BASE", server.api.origin())
        .env("KAFKA", &stack.kafka)
        .env("TOPIC", &stack.topic)
        .env("TIDB_TZ", &stack.zone)
        .env("TIDB_PORT", stack.tidb_port.to_string())
        .env("MARIADB_PORT", stack.mariadb_port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let ended = tokio::task::spawn_blocking(move || {
        for line in BufReader::new(output).lines() {
            let _ = said.send(line.unwrap());
        }
        child.wait().unwrap()
    });
    assert_eq!(heard.recv().await.as_deref(), Some("READY"), "the client's own words are above");
    sql::run(
        &mut source,
        &["INSERT INTO clients.items VALUES (2, 'b')", "UPDATE clients.items SET name = 'c' WHERE id = 1"],
    )
    .await;
    let read = "SELECT id, name FROM clients_copy.items ORDER BY id";
    let wanted = [(1, "c".to_owned()), (2, "b".to_owned())];
    let mut rows: Vec<(i32, String)> = Vec::new();
    for _ in 0..1200 {
        rows = target.query(read).await.unwrap();
        if rows == wanted {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(rows, wanted);
    input.write_all(b"\n").unwrap();
    assert_eq!(heard.recv().await.as_deref(), Some("DONE"), "the client's own words are above");
    assert!(ended.await.unwrap().success());
    sql::drop_schemas(&stack, &["clients", "clients_copy"]).await;
}

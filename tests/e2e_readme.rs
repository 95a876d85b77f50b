//! What the README and the demo tell a newcomer to run, run as they stand there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use mysql_async::prelude::Queryable;
use support::server::Server;
use support::sql;
use support::stack::Stack;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The ```sh blocks of a page, in order.
fn shell_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => *block += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_of_the_readme_works() {
    let Some(stack) = Stack::utc("the_walk_through_of_the_readme_works") else { return };
    sql::drop_schemas(&stack, &["shop", "shop_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let create = "CREATE TABLE shop.orders (id INT PRIMARY KEY, state VARCHAR(9))";
    sql::run(
        &mut source,
        &["CREATE DATABASE shop", create, "INSERT INTO shop.orders VALUES (1, 'new'), (2, 'paid')"],
    )
    .await;
    let server = Server::start().await;
    let blocks = blocks("README.md");
    assert!(blocks.len() >= 6, "the README shows one task from connections to delete");
    walk(&stack, &server, &blocks).await;
    let rows: Vec<(i32, String, String)> =
        target.query("SELECT id, state, note FROM shop_copy.orders ORDER BY id").await.unwrap();
    let row = |id, state: &str| (id, state.to_owned(), "none".to_owned());
    assert_eq!(rows, [row(1, "new"), row(2, "sent"), row(3, "new")]);
    sql::drop_schemas(&stack, &["shop", "shop_copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_rules_for_tables_works() {
    let Some(stack) = Stack::utc("the_page_on_rules_for_tables_works") else { return };
    sql::drop_schemas(&stack, &["parts", "parts_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE parts",
            "CREATE TABLE parts.orders (id INT PRIMARY KEY, uid INT, state VARCHAR(9), amount DECIMAL(9,2), created_at DATETIME, note TEXT)",
            "CREATE TABLE parts.log (id INT NOT NULL, v INT)",
            "CREATE TABLE parts.shard_1 (id INT PRIMARY KEY)",
            "CREATE TABLE parts.shard_2 (id INT PRIMARY KEY)",
            "INSERT INTO parts.orders VALUES (1, 7, 'paid', 11, '2024-05-01', 'x'), (2, 7, 'new', 11, '2024-05-01', 'x')",
            "INSERT INTO parts.shard_1 VALUES (1)",
            "INSERT INTO parts.shard_2 VALUES (1)",
        ],
    )
    .await;
    let server = Server::start().await;
    let connections = blocks("README.md").swap_remove(0);
    walk(&stack, &server, &[&[connections][..], &blocks("docs/tables.md")].concat()).await;
    let facts: Vec<(i32, i32, String)> =
        target.query("SELECT id, user_id, state FROM parts_copy.facts").await.unwrap();
    assert_eq!(facts, [(1, 7, "paid".to_owned())]);
    let shards: Vec<(String, i32)> =
        target.query("SELECT __source, id FROM parts_copy.shards ORDER BY 1").await.unwrap();
    assert_eq!(shards, [("merged:parts.shard_1".to_owned(), 1), ("merged:parts.shard_2".to_owned(), 1)]);
    sql::drop_schemas(&stack, &["parts", "parts_copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_what_changes_while_a_task_runs_works() {
    let Some(stack) = Stack::utc("the_page_on_what_changes_while_a_task_runs_works") else { return };
    sql::drop_schemas(&stack, &["live", "live_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    sql::run(&mut source, &["CREATE DATABASE live"]).await;
    for table in ["orders", "items", "archive"] {
        let create = format!("CREATE TABLE live.{table} (id INT PRIMARY KEY, note TEXT)");
        let insert = format!("INSERT INTO live.{table} VALUES (1, 'a'), (2, 'b')");
        sql::run(&mut source, &[&create, &insert]).await;
    }
    let server = Server::start().await;
    let connections = blocks("README.md").swap_remove(0);
    walk(&stack, &server, &[&[connections][..], &blocks("docs/live.md")].concat()).await;
    let archive: Vec<(i32, String)> = target.query("SELECT id, note FROM live_copy.archive").await.unwrap();
    assert_eq!(archive, [(2, "b".to_owned())]);
    sql::drop_schemas(&stack, &["live", "live_copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_tasks_that_stand_works() {
    let Some(stack) = Stack::utc("the_page_on_tasks_that_stand_works") else { return };
    sql::drop_schemas(&stack, &["standing", "standing_copy"]).await;
    let mut source = sql::tidb(&stack).await;
    sql::run(
        &mut source,
        &[
            "CREATE DATABASE standing",
            "CREATE TABLE standing.t (id INT PRIMARY KEY)",
            "INSERT INTO standing.t VALUES (1)",
        ],
    )
    .await;
    let server = Server::start().await;
    let connections = blocks("README.md").swap_remove(0);
    walk(&stack, &server, &[&[connections][..], &blocks("docs/standing.md")].concat()).await;
    let mut target = sql::mariadb(&stack).await;
    assert!(sql::tables(&mut target, "standing_copy").await.is_empty(), "its own tables are dropped");
    sql::drop_schemas(&stack, &["standing", "standing_copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_with_each_call_once_works() {
    let Some(stack) = Stack::utc("the_page_with_each_call_once_works") else { return };
    sql::drop_schemas(&stack, &["howto", "howto_copy"]).await;
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::mariadb(&stack).await);
    let create = "CREATE TABLE howto.orders (id INT PRIMARY KEY, state VARCHAR(9))";
    sql::run(
        &mut source,
        &["CREATE DATABASE howto", create, "INSERT INTO howto.orders VALUES (1, 'new'), (2, 'paid')"],
    )
    .await;
    let server = Server::start().await;
    let connections = blocks("README.md").swap_remove(0);
    walk(&stack, &server, &[&[connections][..], &blocks("docs/howto.md")].concat()).await;
    let rows: Vec<(i32, String)> =
        target.query("SELECT id, state FROM howto_copy.orders ORDER BY id").await.unwrap();
    let expected = [(1, "new"), (2, "paid"), (3, "new"), (5, "long too")];
    assert_eq!(rows, expected.map(|(id, state)| (id, state.to_owned())));
    sql::drop_schemas(&stack, &["howto", "howto_copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_what_can_be_seen_works() {
    let Some(stack) = Stack::utc("the_page_on_what_can_be_seen_works") else { return };
    sql::drop_schemas(&stack, &["look", "look_copy"]).await;
    let mut source = sql::tidb(&stack).await;
    let create = "CREATE TABLE look.orders (id INT PRIMARY KEY, state VARCHAR(9))";
    sql::run(
        &mut source,
        &["CREATE DATABASE look", create, "INSERT INTO look.orders VALUES (1, 'new'), (2, 'paid')"],
    )
    .await;
    let server = Server::start().await;
    // The README's task runs while the page is read.
    let mut all = blocks("README.md");
    let end = all.iter().position(|block| block.contains("/stop")).unwrap();
    let end = all.split_off(end);
    all.extend(blocks("docs/metrics.md"));
    all.extend(end);
    let all: Vec<String> = all.iter().map(|block| block.replace("shop", "look")).collect();
    walk(&stack, &server, &all).await;
    sql::drop_schemas(&stack, &["look", "look_copy"]).await;
}

fn blocks(page: &str) -> Vec<String> {
    shell_blocks(&std::fs::read_to_string(root().join(page)).unwrap())
}

/// Runs the blocks one after the other.
async fn walk(stack: &Stack, server: &Server, blocks: &[String]) {
    let script = format!("set -euo pipefail\n{}", blocks.join("\n"))
        .replace("target/release/tidegate", env!("CARGO_BIN_EXE_tidegate"));
    let folder = tempfile::tempdir().unwrap();
    let ended = output(
        Command::new("timeout")
            .args(["120", "bash", "-xc", &script])
            .current_dir(&folder)
            .env("TIDEGATE", format!("{}/api/v1", server.api.origin()))
            .env("TIDEGATE_SERVER", server.api.origin())
            .env("KAFKA", &stack.kafka)
            .env("TOPIC", &stack.topic)
            .env("TIDB_TZ", &stack.zone)
            .env("TIDB_PORT", stack.tidb_port.to_string())
            .env("MARIADB_PORT", stack.mariadb_port.to_string()),
    )
    .await;
    assert!(ended.status.success(), "the page's commands fail: {}", words(&ended));
}

/// Pages whose commands are run by the tests above.
const RUN: [&str; 6] =
    ["README.md", "docs/howto.md", "docs/live.md", "docs/metrics.md", "docs/standing.md", "docs/tables.md"];

#[test]
fn no_page_has_commands_that_no_test_runs() {
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|page| page.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "md"));
    let pages = pages.map(|page| page.strip_prefix(root()).unwrap().display().to_string());
    for page in pages.chain(["README.md".to_owned()]) {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        let commands = !shell_blocks(&text).is_empty();
        assert_eq!(commands, RUN.contains(&page.as_str()), "{page}: are its commands run?");
        // Blocks of other kinds are for looking at.
        let others = text.split("```").skip(1).step_by(2).filter(|block| !block.starts_with("sh\n"));
        for block in others {
            assert!(!block.contains("curl -s"), "{page}: this block is not run: {block}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_comes_up_and_its_task_is_well() {
    let Some(_) = Stack::utc("the_demo_comes_up_and_its_task_is_well") else { return };
    let ended = output(
        Command::new("timeout")
            .args(["240", "deploy/demo.sh"])
            .current_dir(root())
            .env("DEMO_SECONDS", "20")
            .env("DEMO_ROWS", "10000")
            .env("TIDEGATE_BIN", env!("CARGO_BIN_EXE_tidegate")),
    )
    .await;
    assert!(ended.status.success(), "the demo fails: {}", words(&ended));
    let shown = String::from_utf8_lossy(&ended.stdout).into_owned();
    for what in
        ["full sync", "changes/s", "lag", "demo_shop.orders", "demo: the task is running incremental ok"]
    {
        assert!(shown.contains(what), "the demo does not show {what:?}: {shown}");
    }
}

/// Runs a command to its end.
async fn output(command: &mut Command) -> std::process::Output {
    let mut child = std::mem::replace(command, Command::new("true"));
    tokio::task::spawn_blocking(move || child.output().expect("the command runs")).await.unwrap()
}

fn words(output: &std::process::Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

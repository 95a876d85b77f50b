//! A batch goes out behind another that is still on its way: what it changes again waits, and whatever becomes of the first, nothing is
//! lost, written twice in the wrong order, or acknowledged before its time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;
use support::{api, compare, sql};

const PATIENCE: Duration = Duration::from_secs(180);

/// Rows of the second batch that have nothing to do with the first.
const BEHIND: u64 = 701;

/// A task whose first batch waits for a lock on row 1 of the target, and whose second one is as far as it can be without it.
struct Overtaken {
    stack: Stack,
    schema: &'static str,
    server: Server,
    lock: Conn,
    before: Option<i64>,
}

impl Overtaken {
    /// `first` and `second` are further statements of the batches' transactions.
    async fn begin(
        stack: Stack,
        schema: &'static str,
        errors: Value,
        first: &[&str],
        second: &[&str],
    ) -> Self {
        sql::drop_schemas(&stack, &[schema]).await;
        let mut source = sql::tidb(&stack).await;
        let create = format!("CREATE DATABASE {schema}");
        let use_it = format!("USE {schema}");
        sql::run(
            &mut source,
            &[
                &create,
                &use_it,
                "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(1200))",
                "CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(60))",
                "CREATE TABLE numbers (n INT PRIMARY KEY)",
                "INSERT INTO numbers VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
                "INSERT INTO t VALUES (1, 'before')",
            ],
        )
        .await;
        let server = Server::start().await;
        server.api.connect(&stack).await;
        // The least memory, so that a batch is small.
        let more = json!({"errors": errors, "tuning": {"memory_bytes": 16 << 20, "connections": 4}});
        let spec = api::spec("overtaken", &stack, &[&format!("{schema}.*")], &more);
        server.api.create_task(&spec).await;
        server.api.start("overtaken").await;
        let incremental = |task: &Value| task["phase"] == "incremental";
        server.api.wait_for("overtaken", "in incremental sync", PATIENCE, incremental).await;
        server.api.wait_caught_up("overtaken", &stack, PATIENCE).await;
        server.api.complete("overtaken", "pause").await;
        let before = server.api.next_offset("overtaken").await;

        let mut lock = sql::target(&stack).await;
        let narrow = format!("ALTER TABLE {schema}.u MODIFY v VARCHAR(10)");
        let hold = format!("SELECT v FROM {schema}.t WHERE id = 1 FOR UPDATE");
        sql::run(&mut lock, &[&narrow, "BEGIN", &hold]).await;
        let many = "numbers a, numbers b, numbers c, numbers d WHERE a.n * 1000 + b.n * 100 + c.n * 10 + d.n";
        let number = "a.n * 1000 + b.n * 100 + c.n * 10 + d.n";
        let rows = |from: u32, letter: &str, condition: &str| {
            format!(
                "INSERT INTO t SELECT {from} + {number}, REPEAT('{letter}', 1000) FROM {many} {condition}"
            )
        };
        let (large, behind) = (rows(10, "a", "< 1200"), rows(5000, "b", &format!("< {BEHIND}")));
        let transaction = |first: &'static str, rows, more: &[&str]| -> Vec<String> {
            let mut all = vec!["BEGIN".to_owned(), first.to_owned(), rows];
            all.extend(more.iter().map(|sql| (*sql).to_owned()));
            all.push("COMMIT".to_owned());
            all
        };
        let statements = [
            transaction("UPDATE t SET v = 'first' WHERE id = 1", large, first),
            transaction("UPDATE t SET v = 'second' WHERE id = 1", behind, second),
        ]
        .concat();
        sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
        server.api.command("overtaken", "resume").await;

        let overtaken = Self { stack, schema, server, lock, before };
        overtaken.wait_for_rows(BEHIND).await;
        overtaken
    }

    /// Waits until so many rows of the second batch are in the target.
    async fn wait_for_rows(&self, wanted: u64) {
        let mut target = sql::target(&self.stack).await;
        let began = Instant::now();
        let count = format!("SELECT COUNT(*) FROM {}.t WHERE id >= 5000", self.schema);
        while target.query_first::<u64, _>(&count).await.unwrap() != Some(wanted) {
            assert!(
                began.elapsed() < PATIENCE,
                "the second batch waits for the first: {}",
                self.server.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The row that both batches change.
    async fn row(&self) -> String {
        let select = format!("SELECT v FROM {}.t WHERE id = 1", self.schema);
        sql::target(&self.stack).await.query_first(select).await.unwrap().unwrap()
    }

    async fn release(&mut self) {
        self.lock.query_drop("ROLLBACK").await.unwrap();
    }

    async fn assert_equal(&self) {
        self.server.api.wait_caught_up("overtaken", &self.stack, PATIENCE).await;
        let (mut source, mut target) = (sql::tidb(&self.stack).await, sql::target(&self.stack).await);
        let names = [(self.schema, self.schema)];
        let (tables, rows) = compare::assert_schemas_equal(&mut source, &mut target, &names).await;
        assert!(tables == 3 && rows > BEHIND, "{tables} tables, {rows} rows");
    }

    async fn end(mut self) {
        self.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_again_waits_and_the_rest_does_not() {
    // AnalyticDB has no locks to hold.
    let Some(stack) = Stack::on_mysql_alone("what_is_changed_again_waits_and_the_rest_does_not") else {
        return;
    };
    let second = ["DELETE FROM t WHERE id = 10", "UPDATE t SET v = 'again' WHERE id = 11"];
    let mut overtaken = Overtaken::begin(stack, "overtake_waits", json!({}), &[], &second).await;
    assert_eq!(overtaken.row().await, "before");
    assert_eq!(
        overtaken.server.api.next_offset("overtaken").await,
        overtaken.before,
        "acknowledged before its time"
    );
    overtaken.release().await;
    overtaken.assert_equal().await;
    assert_eq!(overtaken.row().await, "second");
    overtaken.end().await;
}

/// The second batch is in the target and the first is not: the next run begins before both.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_two_loses_nothing() {
    let Some(stack) = Stack::on_mysql_alone("a_crash_between_the_two_loses_nothing") else { return };
    let second = ["DELETE FROM t WHERE id = 10"];
    let mut overtaken = Overtaken::begin(stack, "overtake_crash", json!({}), &[], &second).await;
    overtaken.server.kill9();
    overtaken.server.restart().await;
    overtaken.release().await;
    overtaken.assert_equal().await;
    assert_eq!(overtaken.row().await, "second");
    overtaken.end().await;
}

/// A pause waits for neither for ever, and what it acknowledges is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_amid_the_two_acknowledges_neither() {
    let Some(stack) = Stack::on_mysql_alone("a_pause_amid_the_two_acknowledges_neither") else { return };
    let mut overtaken = Overtaken::begin(stack, "overtake_pause", json!({}), &[], &[]).await;
    overtaken.server.api.complete("overtaken", "pause").await;
    assert_eq!(overtaken.server.api.next_offset("overtaken").await, overtaken.before);
    overtaken.release().await;
    overtaken.server.api.command("overtaken", "resume").await;
    overtaken.assert_equal().await;
    assert_eq!(overtaken.row().await, "second");
    overtaken.end().await;
}

/// The first batch holds a row that the target refuses: it is set aside, or superseded by what the second brings.
#[tokio::test(flavor = "multi_thread")]
async fn rows_set_aside_from_the_first_keep_their_order() {
    let Some(stack) = Stack::on_mysql_alone("rows_set_aside_from_the_first_keep_their_order") else { return };
    let first = ["INSERT INTO u VALUES (1, 'far too long for it'), (2, 'far too long as well')"];
    let second = ["UPDATE u SET v = 'fits' WHERE id = 1"];
    let errors = json!({"row": "dead_letter"});
    let mut overtaken = Overtaken::begin(stack, "overtake_aside", errors, &first, &second).await;
    overtaken.release().await;
    overtaken.server.api.wait_caught_up("overtaken", &overtaken.stack, PATIENCE).await;
    let letters = overtaken.server.api.get("/tasks/overtaken/dead-letters").await;
    let states: Vec<_> =
        letters["items"].as_array().unwrap().iter().map(|letter| letter["state"].clone()).collect();
    assert!(states.contains(&json!("open")), "{letters:#}");
    let kept: Vec<(i32, String)> = sql::target(&overtaken.stack)
        .await
        .query(format!("SELECT id, v FROM {}.u", overtaken.schema))
        .await
        .unwrap();
    assert_eq!(kept, [(1, "fits".to_owned())]);
    let mut target = sql::target(&overtaken.stack).await;
    let widen = format!("ALTER TABLE {}.u MODIFY v VARCHAR(60)", overtaken.schema);
    sql::run(&mut target, &[&widen]).await;
    let retry = "/tasks/overtaken/dead-letters/retry?wait_ms=60000";
    overtaken.server.api.send(Method::POST, retry, Some(&json!({"all": true}))).await.good("retry");
    overtaken.assert_equal().await;
    assert_eq!(overtaken.row().await, "second");
    overtaken.end().await;
}

/// The first batch holds a row for which its table is stopped; the other tables of both go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stops_in_the_first_takes_nothing_along() {
    let Some(stack) = Stack::on_mysql_alone("a_table_that_stops_in_the_first_takes_nothing_along") else {
        return;
    };
    let first = ["INSERT INTO u VALUES (1, 'far too long for it')"];
    let second = ["INSERT INTO u VALUES (2, 'fits')"];
    let errors = json!({"table": "stop_table"});
    let mut overtaken = Overtaken::begin(stack, "overtake_stops", errors, &first, &second).await;
    overtaken.release().await;
    let stopped = |task: &Value| {
        let mut conditions = task["conditions"].as_array().unwrap().iter();
        conditions.any(|one| one["type"] == "table_stopped" && one["object"] == "overtake_stops.u")
    };
    overtaken.server.api.wait_for("overtaken", "a table has stopped", PATIENCE, stopped).await;
    overtaken.server.api.wait_caught_up("overtaken", &overtaken.stack, PATIENCE).await;
    assert_eq!(overtaken.row().await, "second");
    overtaken.wait_for_rows(BEHIND).await;
    overtaken.end().await;
}

//! Faults in random order while a workload runs: connections to TiDB, Kafka and the target are cut, delayed, halved and
//! swallowed, the servers restart, the clock jumps, tidegate is killed. In the end source and target hold the same, row by row, and
//! once the faults are over nothing hangs.
//!
//! `make chaos RUNS=200 SEED=1` is the long form, `RUNS=1 SEED=n` repeats one. Each run prints its seed and its faults.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use support::proxy::Proxy;
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{api, compare, sql, workload};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing may hang for longer than 60 seconds after the faults; the rest is for a machine under load.
const RECOVERY: Duration = Duration::from_secs(120);

/// Runs that go on at the same time.
const LANES: u64 = 4;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// A restart of a server hits whoever uses it: such a run goes alone.
static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_random_order_lose_nothing() {
    let Some(stack) = Stack::utc("faults_in_random_order_lose_nothing") else { return };
    let first = workload::seed("chaos");
    let runs = number("TIDEGATE_RUNS", 4);
    let next = Arc::new(AtomicU64::new(0));
    let lanes: Vec<_> = (0..LANES.min(runs))
        .map(|_| {
            let (stack, next) = (stack.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                loop {
                    let nth = next.fetch_add(1, Ordering::SeqCst);
                    if nth >= runs {
                        return failed;
                    }
                    let seed = first + nth;
                    let run = tokio::spawn(run(stack.clone(), seed));
                    if run.await.is_err() {
                        failed.push(seed);
                    }
                }
            })
        })
        .collect();
    let mut failed = Vec::new();
    for lane in lanes {
        failed.extend(lane.await.unwrap());
    }
    failed.sort_unstable();
    assert!(failed.is_empty(), "seeds {failed:?} of {runs} runs failed: RUNS=1 SEED=n repeats one");
}

/// The places where connections pass.
struct Places {
    tidb: Proxy,
    kafka: Proxy,
    target: Proxy,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut,
    Refuse,
    Delay,
    Halve,
    /// Then the old connections go on, end, or stay stuck for good.
    Swallow {
        stuck: bool,
        cut: bool,
    },
    Kill,
    /// By so many seconds, either way.
    Clock(i64),
    Restart(&'static str),
    Drainer,
    Resync,
}

fn choose(rng: &mut StdRng, alone: bool) -> Fault {
    match rng.random_range(0..100) {
        0..14 => Fault::Cut,
        14..24 => Fault::Refuse,
        24..34 => Fault::Delay,
        34..50 => Fault::Halve,
        50..72 => Fault::Swallow { stuck: rng.random(), cut: rng.random() },
        72..84 => Fault::Kill,
        84..90 => Fault::Clock(*[-86_400, -3600, -5, 5, 3600, 86_400 * 400].choose(rng).unwrap()),
        90..95 => Fault::Resync,
        _ if alone => match rng.random_range(0..4) {
            0 => Fault::Restart("tidb"),
            1 => Fault::Restart("kafka"),
            2 => Fault::Drainer,
            _ => Fault::Restart("target"),
        },
        _ => Fault::Cut,
    }
}

async fn run(stack: Stack, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let stack = if rng.random() { stack.on_adb() } else { stack };
    let alone = seed % 8 == 3;
    let _turn = if alone { (Some(ALONE.write().await), None) } else { (None, Some(ALONE.read().await)) };
    let schema = format!("chaos_{seed}");
    prepare(&stack, &schema, &mut rng).await;

    let places = Places {
        tidb: Proxy::start(stack.tidb_port).await,
        kafka: Proxy::kafka(stack.kafka.rsplit(':').next().unwrap().parse().unwrap()).await,
        target: Proxy::start(stack.target().1).await,
    };
    let clock = Clock::new();
    let mut server = Server::start_with(&clock.settings()).await;
    let api = server.api.clone();
    api.put("/connections/tidb", &api::mysql("tidb", places.tidb.port)).await;
    let brokers = json!({"kind": "kafka", "brokers": [format!("127.0.0.1:{}", places.kafka.port)]});
    api.put("/connections/kafka", &brokers).await;
    api.put("/connections/target", &api::mysql(stack.target().0, places.target.port)).await;
    let more = json!({"tuning": {"chunk_rows": 300, "batch_rows": 100, "connections": 4}});
    let mut spec = api::spec("chaos", &stack, &[&format!("{schema}.*")], &more);
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;

    let stop = CancellationToken::new();
    let writer = tokio::spawn(write(stack.clone(), schema.clone(), rng.random(), stop.clone()));
    api.start("chaos").await;
    // Half of the runs meet their first fault in full sync.
    if rng.random() {
        api.wait_for("chaos", "in incremental sync", RECOVERY, |task| task["phase"] == "incremental").await;
    }
    let mut story = String::new();
    let began = Instant::now();
    for _ in 0..rng.random_range(3..8) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..2500))).await;
        let fault = choose(&mut rng, alone);
        let place = rng.random_range(0..3);
        let _ = write!(story, "\n  {:.1} s: {fault:?}", began.elapsed().as_secs_f64());
        let proxy = [&places.tidb, &places.kafka, &places.target][place];
        let span = Duration::from_millis(*[300, 1500, 4000, 12_000].choose(&mut rng).unwrap());
        let pause = Duration::from_millis(rng.random_range(0..span.as_millis() as u64 + 1));
        match fault {
            Fault::Cut => proxy.cut(),
            Fault::Halve => proxy.halve(rng.random_range(1..6)),
            Fault::Refuse => {
                proxy.refuse();
                tokio::time::sleep(pause).await;
                proxy.heal(false);
            }
            Fault::Delay => {
                proxy.delay(Duration::from_millis(rng.random_range(5..400)));
                tokio::time::sleep(pause).await;
                proxy.heal(false);
            }
            Fault::Swallow { stuck, cut } => {
                proxy.swallow();
                tokio::time::sleep(pause).await;
                if cut && !stuck {
                    proxy.cut();
                }
                proxy.heal(stuck);
            }
            Fault::Kill => {
                server.kill9();
                tokio::time::sleep(pause / 4).await;
                server.spawn(&clock.settings());
                server.ready().await;
            }
            Fault::Clock(by) => clock.jump(by),
            Fault::Restart(part) => {
                let part = if part == "target" { stack.target_part() } else { part };
                stack.stop_part(part).await;
                tokio::time::sleep(pause / 4).await;
                stack.start_part(part).await;
            }
            Fault::Drainer => {
                let _ = stack.try_drainer(reqwest::Method::POST, "/drainer/restart?back_ms=2000").await;
            }
            Fault::Resync => {
                let body = json!({"tables": [{"schema": schema, "table": "k"}]});
                api.try_send(reqwest::Method::POST, "/tasks/chaos/tables/resync", Some(&body)).await;
            }
        }
        let _ = write!(story, " at {} for {pause:?}", ["tidb", "kafka", "target"][place]);
    }
    for proxy in [&places.tidb, &places.kafka, &places.target] {
        proxy.heal(false);
    }
    let over = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.cancel();
    let statements = writer.await.expect("the writer meets no fault");
    let head = format!("chaos seed {seed} on {:?}{}", stack.dialect, if alone { ", alone" } else { "" });
    // A panic below shows it, and so does the log of a good run.
    eprintln!("{head}: {statements} statements{story}");
    stack.settle().await;
    let end = stack.end_offset(&stack.topic).await;
    api.wait_for_offset("chaos", end, RECOVERY).await;
    wait_following(&api, &schema).await;
    let took = over.elapsed();
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let names = [(schema.as_str(), schema.as_str())];
    let found = compare::schemas(&mut source, &mut target, &names).await;
    let (tables, rows) = match found {
        Ok(found) => found,
        Err(faults) => {
            // Is it lost, or late? And what became of the tables?
            tokio::time::sleep(Duration::from_secs(5)).await;
            let again = compare::schemas(&mut source, &mut target, &names).await;
            let (now, ddl) =
                (stack.end_offset(&stack.topic).await, api.get("/tasks/chaos/ddl?limit=500").await);
            panic!(
                "{head}: {faults}\nfive seconds later: {again:?}, the topic's end at {end}, now {now}\n{}\n{:#}\n{}",
                ddl["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|ddl| ddl["schema"] == schema.as_str())
                    .map(|ddl| format!("{} {} {}\n", ddl["offset"], ddl["state"], ddl["source_text"]))
                    .collect::<String>(),
                api.task("chaos").await,
                server.log_tail()
            )
        }
    };
    let panics = server.log().matches("panicked at").count();
    assert_eq!(panics, 0, "{head}: the server panicked\n{}", server.log_tail());
    eprintln!(
        "{head}: {tables} tables with {rows} rows are the same, {:.1} s after the last fault",
        took.as_secs_f64()
    );
    drop(server);
    sql::drop_schemas(&stack, &[&schema]).await;
}

/// A resync that was asked for is merged, or was lost with the request.
async fn wait_following(api: &api::Api, schema: &str) {
    let end = Instant::now() + RECOVERY;
    loop {
        let table = api.get(&format!("/tasks/chaos/tables/{schema}/k")).await;
        if table["state"] == "following" {
            return;
        }
        assert!(Instant::now() < end, "the table does not follow again: {table:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The wall clock of the server, which jumps; its monotonic clock does not, as on a real machine. It is our own hook: under libfaketime
/// librdkafka waits for hours.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::NamedTempFile::new().unwrap());
        clock.jump(0);
        clock
    }

    fn settings(&self) -> Vec<(String, String)> {
        vec![("TIDEGATE_CLOCK".to_owned(), self.0.path().display().to_string())]
    }

    fn jump(&self, seconds: i64) {
        std::fs::write(self.0.path(), (seconds * 1000).to_string()).unwrap();
    }
}

async fn prepare(stack: &Stack, schema: &str, rng: &mut StdRng) {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    let mut create = vec![
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.k (id BIGINT PRIMARY KEY, v INT, note VARCHAR(100))"),
        format!("CREATE TABLE {schema}.t (name VARCHAR(30), n INT, v VARCHAR(40), PRIMARY KEY (name, n))"),
    ];
    if stack.dialect == Dialect::Mysql {
        create.push(format!("CREATE TABLE {schema}.u (id INT PRIMARY KEY, v INT NOT NULL UNIQUE)"));
        create.push(format!("CREATE TABLE {schema}.n (a INT, b VARCHAR(20))"));
    }
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    sql::run(&mut source, &create).await;
    let rows = rng.random_range(500..4000);
    let values: Vec<_> = (0..rows).map(|id| format!("({}, {}, 'from the start')", id * 3, id % 11)).collect();
    sql::run(&mut source, &[&format!("INSERT INTO {schema}.k VALUES {}", values.join(","))]).await;
    if stack.dialect == Dialect::Mysql {
        let values: Vec<_> = (0..500).map(|id| format!("({}, 'b{}')", id % 50, id % 7)).collect();
        sql::run(&mut source, &[&format!("INSERT INTO {schema}.n VALUES {}", values.join(","))]).await;
    }
}

/// Statements of every kind until it is told to stop; a source that restarts is met again. What became of a statement that was
/// cut off does not matter: the source itself is compared.
async fn write(stack: Stack, schema: String, seed: u64, stop: CancellationToken) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection: Option<Conn> = None;
    let (mut done, mut extra) = (0, false);
    while !stop.is_cancelled() {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match connect(&stack).await {
                Some(open) => open,
                None => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let mut good = true;
        for statement in statements(&stack, &schema, &mut rng, &mut extra) {
            match open.query_drop(&statement).await {
                Ok(()) => done += 1,
                // A duplicate key, a column that is not there: as good as any statement.
                Err(mysql_async::Error::Server(_)) => {}
                Err(_) => {
                    good = false;
                    break;
                }
            }
        }
        if good {
            connection = Some(open);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
    }
    done
}

async fn connect(stack: &Stack) -> Option<Conn> {
    let options = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(stack.tidb_port)
        .user(Some("root"))
        .prefer_socket(false);
    tokio::time::timeout(Duration::from_secs(5), Conn::new(options)).await.ok()?.ok()
}

fn statements(stack: &Stack, schema: &str, rng: &mut StdRng, extra: &mut bool) -> Vec<String> {
    let id = rng.random_range(0..3000);
    let v = rng.random_range(0..100_000);
    let mysql = stack.dialect == Dialect::Mysql;
    match rng.random_range(0..100) {
        0..20 => {
            let rows: Vec<_> =
                (0..rng.random_range(1..60)).map(|nth| format!("({}, {v}, 'r{nth}')", id + nth)).collect();
            vec![format!("REPLACE INTO {schema}.k (id, v, note) VALUES {}", rows.join(","))]
        }
        20..30 => vec![format!("UPDATE {schema}.k SET v = v + 1 WHERE id BETWEEN {id} AND {}", id + 50)],
        30..37 => vec![format!("DELETE FROM {schema}.k WHERE id BETWEEN {id} AND {}", id + 10)],
        37..42 => vec![format!("UPDATE IGNORE {schema}.k SET id = id + 5000 WHERE id = {id}")],
        42..56 => vec![
            "BEGIN".to_owned(),
            format!("INSERT IGNORE INTO {schema}.t VALUES ('Name{}', {}, 'v{v}')", id % 200, v % 5),
            format!(
                "UPDATE IGNORE {schema}.t SET name = UPPER(name) WHERE n = {} AND name LIKE '%{}'",
                v % 5,
                id % 10
            ),
            format!("UPDATE {schema}.k SET note = 'with t' WHERE id = {id}"),
            "COMMIT".to_owned(),
        ],
        56..62 => vec![format!("DELETE FROM {schema}.t WHERE n = {} LIMIT 5", v % 5)],
        62..72 if mysql => vec![
            format!("INSERT IGNORE INTO {schema}.u VALUES ({}, {v})", id % 300),
            "BEGIN".to_owned(),
            format!("UPDATE IGNORE {schema}.u SET v = -id - 1 WHERE id = {}", id % 300),
            format!("UPDATE IGNORE {schema}.u SET v = {v} WHERE id = {}", v % 300),
            "COMMIT".to_owned(),
        ],
        72..88 if mysql => vec![
            format!("INSERT INTO {schema}.n VALUES ({}, 'b{}'), ({}, NULL)", id % 50, v % 7, v % 50),
            format!("DELETE FROM {schema}.n WHERE a = {} LIMIT 1", v % 50),
            format!("UPDATE {schema}.n SET b = 'u{}' WHERE a = {} LIMIT 2", v % 9, id % 50),
        ],
        88..90 => {
            *extra = !*extra;
            if *extra {
                vec![format!("ALTER TABLE {schema}.k ADD COLUMN extra INT DEFAULT {}", v % 100)]
            } else {
                vec![format!("ALTER TABLE {schema}.k DROP COLUMN extra")]
            }
        }
        90 => vec![format!("TRUNCATE TABLE {schema}.t")],
        91 => vec![
            format!("RENAME TABLE {schema}.t TO {schema}.t2"),
            format!("RENAME TABLE {schema}.t2 TO {schema}.t"),
        ],
        92 => vec![
            format!("CREATE TABLE {schema}.made{v} (id INT PRIMARY KEY, v VARCHAR(9))"),
            format!("INSERT INTO {schema}.made{v} VALUES (1, 'one'), (2, 'two')"),
            format!("DROP TABLE {schema}.made{v}"),
        ],
        93 if mysql => vec![format!("TRUNCATE TABLE {schema}.n")],
        _ => {
            vec![format!("INSERT IGNORE INTO {schema}.k (id, v, note) VALUES ({}, {v}, 'one')", id + 10_000)]
        }
    }
}

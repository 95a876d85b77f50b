//! The metadata store in trouble: a full disk, a damaged file, an older copy of it or of the target, a copy of the whole folder in
//! use twice, another key. Nothing is lost, or the task stops and says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};
use support::api::{self, Api};
use support::server::Server;
use support::stack::{Dialect, Stack};
use support::{compare, sql};

const PATIENCE: Duration = Duration::from_secs(120);

support::on_both_targets! {
    a_store_from_an_older_copy_is_noticed_and_what_came_since_is_applied_again => older_store("sto", "stoa");
    a_store_from_before_a_ddl_stops_the_task => before_a_ddl("std", "stda");
    a_copy_of_the_data_folder_in_use_is_noticed => cloned("stc", "stca");
    a_target_from_an_older_copy_is_noticed_and_what_it_lacks_is_applied_again => older_target("stt", "stta");
    a_target_from_before_the_end_of_full_sync_stops_the_task => before_the_end("ste", "stea");
    a_target_from_before_a_resync_stops_the_task => before_a_resync("str", "stra");
    a_task_that_begins_anew_from_the_same_offset_is_no_restored_store => anew("stn", "stna");
}

fn tables(stack: &Stack) -> Vec<&'static str> {
    match stack.dialect {
        Dialect::Mysql => vec!["k (id INT PRIMARY KEY, v VARCHAR(20))", "n (a INT, b VARCHAR(20))"],
        Dialect::Adb => vec!["k (id INT PRIMARY KEY, v VARCHAR(20))"],
    }
}

async fn begin(stack: &Stack, schema: &str) {
    sql::drop_schemas(stack, &[schema]).await;
    let mut source = sql::tidb(stack).await;
    sql::run(&mut source, &[&format!("CREATE DATABASE {schema}")]).await;
    for table in tables(stack) {
        sql::run(&mut source, &[&format!("CREATE TABLE {schema}.{table}")]).await;
    }
    change(stack, schema, 0).await;
}

async fn change(stack: &Stack, schema: &str, round: i32) {
    let mut source = sql::tidb(stack).await;
    for nth in 0..20 {
        let id = round * 100 + nth;
        let mut statements = vec![
            format!("INSERT INTO {schema}.k VALUES ({id}, 'round {round}')"),
            format!("UPDATE {schema}.k SET v = 'changed {round}' WHERE id % 7 = {}", nth % 7),
            format!("DELETE FROM {schema}.k WHERE id = {}", id - 50),
        ];
        if stack.dialect == Dialect::Mysql {
            statements.push(format!("INSERT INTO {schema}.n VALUES ({}, 'x')", id % 5));
            statements.push(format!("DELETE FROM {schema}.n WHERE a = {} LIMIT 1", (id + 3) % 5));
        }
        sql::run(&mut source, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

async fn task(api: &Api, stack: &Stack, schema: &str) {
    api.connect(stack).await;
    let mut spec = api::spec("task", stack, &[&format!("{schema}.*")], &json!({}));
    api::merge(&mut spec, &api::policies(stack));
    api.create_task(&spec).await;
    api.start("task").await;
    api.wait_caught_up("task", stack, PATIENCE).await;
}

/// Tables with rows, and a task that follows them.
async fn following(stack: &Stack, schema: &str) -> (Server, Api) {
    begin(stack, schema).await;
    let server = Server::start().await;
    let api = server.api.clone();
    task(&api, stack, schema).await;
    (server, api)
}

/// Waits until the task has failed because its position is lost; gives the error.
async fn lost(api: &Api) -> Value {
    let error = api.wait_for_status("task", "failed", PATIENCE).await["last_error"].clone();
    assert_eq!(error["kind"], "position_lost", "{error:#}");
    error
}

async fn assert_equal(stack: &Stack, schema: &str) {
    let (mut source, mut target) = (sql::tidb(stack).await, sql::target(stack).await);
    compare::assert_schemas_equal(&mut source, &mut target, &[(schema, schema)]).await;
}

async fn events(api: &Api, kind: &str) -> Vec<Value> {
    let events = api.get("/tasks/task/events?limit=500").await;
    events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).cloned().collect()
}

/// Waits until the run that has just begun has said so; the end of the topic is reached before it has even looked.
async fn until_event(api: &Api, kind: &str) {
    let end = std::time::Instant::now() + PATIENCE;
    while events(api, kind).await.is_empty() {
        assert!(std::time::Instant::now() < end, "no event {kind}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A copy of the target from the middle of full sync has the row of that start, and no mark.
async fn before_the_end(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let id = api.task("task").await["id"].as_str().unwrap().to_owned();
    server.stop().await;
    let unmark = format!("UPDATE tidegate.marks SET number = 0 WHERE task = '{id}'");
    sql::run(&mut sql::target(&stack).await, &[&unmark]).await;
    server.restart().await;
    let error = lost(&api).await;
    assert!(error.to_string().contains("before the end of full sync"), "{error:#}");
    sql::drop_schemas(&stack, &[schema]).await;
}

/// The rows of the table's second copy are gone, and the stream would not bring them.
async fn before_a_resync(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let id = api.task("task").await["id"].as_str().unwrap().to_owned();
    let mut target = sql::target(&stack).await;
    let mark = format!("SELECT number, next_offset, commit_ts FROM tidegate.marks WHERE task = '{id}'");
    let then: (u64, i64, u64) = target.query_first(&mark).await.unwrap().unwrap();
    let table = json!({"tables": [{"schema": schema, "table": "k"}]});
    let resync = "/tasks/task/tables/resync?wait_ms=60000";
    let copied = api.send(Method::POST, resync, Some(&table)).await;
    assert_eq!(copied.status.as_u16(), 200, "{:#}", copied.body);
    api.wait_caught_up("task", &stack, PATIENCE).await;
    server.stop().await;
    let back = format!(
        "UPDATE tidegate.marks SET number = {}, next_offset = {}, commit_ts = {} WHERE task = '{id}'",
        then.0, then.1, then.2
    );
    sql::run(&mut target, &[&back]).await;
    server.restart().await;
    let error = lost(&api).await;
    assert!(error.to_string().contains("copied again since"), "{error:#}");
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn anew(stack: Stack, schema: &str) {
    let (_server, api) = following(&stack, schema).await;
    api.complete("task", "stop").await;
    let start = stack.end_offset(&stack.topic).await;
    let mut spec = api::spec(
        "again",
        &stack,
        &[&format!("{schema}.k")],
        &json!({"phases": {"schema": false, "full": false, "incremental": true}, "start_at": {"offset": start.to_string()}}),
    );
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;
    api.start("again").await;
    // More marks than one, so that the row of this start is ahead of a new one.
    for round in 1..4 {
        change(&stack, schema, round).await;
        api.wait_caught_up("again", &stack, PATIENCE).await;
    }
    api.complete("again", "pause").await;
    api.send(Method::POST, "/tasks/again/reset", Some(&json!({"target_tables": "keep"}))).await.good("reset");
    api.start("again").await;
    api.wait_caught_up("again", &stack, PATIENCE).await;
    let told = api.get("/tasks/again/events?limit=500").await;
    assert!(!told.to_string().contains("store_restored"), "{told:#}");
    let (mut source, mut target) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let table = (schema.to_owned(), "k".to_owned());
    assert_eq!(compare::table(&mut source, &table, &mut target, &table).await, None);
    sql::drop_schemas(&stack, &[schema]).await;
}

fn copy_store(from: &Path, to: &Path) {
    let _ = std::fs::create_dir(to);
    for name in ["tidegate.db", "key"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(to.join(format!("tidegate.db{end}")));
    }
}

async fn older_store(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let copy = tempfile::tempdir().unwrap();
    server.stop().await;
    copy_store(&server.data_folder(), copy.path());
    server.restart().await;
    for round in 1..5 {
        change(&stack, schema, round).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
    }
    server.stop().await;
    change(&stack, schema, 5).await;
    copy_store(copy.path(), &server.data_folder());
    server.restart().await;
    until_event(&api, "store_restored").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(events(&api, "store_restored").await.len(), 1);
    assert_equal(&stack, schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn before_a_ddl(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let copy = tempfile::tempdir().unwrap();
    server.stop().await;
    copy_store(&server.data_folder(), copy.path());
    server.restart().await;
    for round in 1..4 {
        change(&stack, schema, round).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
        let ddl = format!("ALTER TABLE {schema}.k ADD COLUMN c{round} INT");
        sql::run(&mut sql::tidb(&stack).await, &[&ddl]).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
        sql::run(&mut sql::tidb(&stack).await, &[&format!("ALTER TABLE {schema}.k DROP COLUMN c{round}")])
            .await;
    }
    api.wait_caught_up("task", &stack, PATIENCE).await;
    server.stop().await;
    copy_store(copy.path(), &server.data_folder());
    server.restart().await;
    let error = lost(&api).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("store was restored") && message.contains("DDL"), "{message}");
    assert_eq!(error["help"], "/problems/position-lost");
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn cloned(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let mut other = Server::start().await;
    other.stop().await;
    server.stop().await;
    copy_store(&server.data_folder(), &other.data_folder());
    server.restart().await;
    change(&stack, schema, 1).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    other.restart().await;
    other.api.wait_for("task", "in incremental sync", PATIENCE, |task| task["phase"] == "incremental").await;
    // The first to write after that finds that it was replaced.
    let changing = async {
        for round in 2.. {
            change(&stack, schema, round).await;
            if api.task("task").await["status"] == "failed" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, changing).await.expect("the first server gives way");
    let failed = api.task("task").await;
    assert_eq!(failed["last_error"]["kind"], "fenced", "{failed:#}");
    other.api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_equal(&stack, schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

async fn older_target(stack: Stack, schema: &str) {
    let (mut server, api) = following(&stack, schema).await;
    let id = api.task("task").await["id"].as_str().unwrap().to_owned();
    let mut target = sql::target(&stack).await;
    let mark =
        format!("SELECT start, number, next_offset, commit_ts FROM tidegate.marks WHERE task = '{id}'");
    for round in 1..4 {
        let before = stack.end_offset(&stack.topic).await;
        change(&stack, schema, round).await;
        // It does nothing, and the checkpoint moves past it, and past the rows: they must be marked first.
        let ddl = format!("ALTER TABLE {schema}.k ALTER COLUMN v DROP DEFAULT");
        sql::run(&mut sql::tidb(&stack).await, &[&ddl]).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
        let (_, _, marked, _): (String, u64, i64, u64) = target.query_first(&mark).await.unwrap().unwrap();
        assert!(
            marked > before,
            "round {round}: the mark at {marked} is older than the rows, which come after {before}"
        );
    }
    // A DDL behind the mark could not be applied again.
    change(&stack, schema, 4).await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    let then: (String, u64, i64, u64) = target.query_first(&mark).await.unwrap().unwrap();
    let keyed: Vec<(i32, Option<String>)> =
        target.query(format!("SELECT id, v FROM {schema}.k")).await.unwrap();
    let (mut keyless, mut places) = (Vec::<(i32, String)>::new(), Vec::<(String, i64, i64)>::new());
    if stack.dialect == Dialect::Mysql {
        keyless = target.query(format!("SELECT a, b FROM {schema}.n")).await.unwrap();
        places = target
            .query(format!(
                "SELECT id, message_offset, changes FROM tidegate.positions WHERE id LIKE '{id}%'"
            ))
            .await
            .unwrap();
    }
    for round in 5..8 {
        change(&stack, schema, round).await;
        api.wait_caught_up("task", &stack, PATIENCE).await;
    }
    server.stop().await;
    // A backup of the target comes back.
    let mut restore = vec![
        format!("DELETE FROM {schema}.k WHERE 1 = 1"),
        format!(
            "UPDATE tidegate.marks SET number = {}, next_offset = {}, commit_ts = {} WHERE task = '{id}'",
            then.1, then.2, then.3
        ),
    ];
    restore.extend(keyed.iter().map(|(key, v)| {
        format!("INSERT INTO {schema}.k VALUES ({key}, '{}')", v.as_deref().unwrap_or_default())
    }));
    if stack.dialect == Dialect::Mysql {
        restore.push(format!("DELETE FROM {schema}.n"));
        restore.extend(keyless.iter().map(|(a, b)| format!("INSERT INTO {schema}.n VALUES ({a}, '{b}')")));
        restore.push(format!("DELETE FROM tidegate.positions WHERE id LIKE '{id}%'"));
        restore.extend(
            places.iter().map(|(id, offset, n)| {
                format!("INSERT INTO tidegate.positions VALUES ('{id}', {offset}, {n})")
            }),
        );
    }
    sql::run(&mut target, &restore.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.restart().await;
    until_event(&api, "target_restored").await;
    api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(events(&api, "target_restored").await.len(), 1);
    assert_equal(&stack, schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

/// A server whose data folder is a small file system of its own.
struct Cramped {
    child: Child,
    api: Api,
    folder: PathBuf,
    _work: tempfile::TempDir,
    log: PathBuf,
}

impl Cramped {
    fn start(mount: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = work.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new("unshare")
            .args([
                "-rm",
                "sh",
                "-c",
                &format!("{mount} && exec \"$0\" serve"),
                env!("CARGO_BIN_EXE_tidegate"),
            ])
            .env("DATA", &folder)
            .env("TIDEGATE_DATA_DIR", &folder)
            .env("TIDEGATE_LISTEN", format!("127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("unshare runs");
        Self { child, api: Api::new(format!("http://127.0.0.1:{port}")), folder, _work: work, log }
    }

    /// The folder as the server sees it.
    fn inside(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), self.folder.display()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn log_has(&self, words: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(tokio::time::Instant::now() < end, "never {words:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_store_is_waited_out() {
    let Some(stack) = Stack::utc("a_full_disk_under_the_store_is_waited_out") else { return };
    let schema = "st_full";
    begin(&stack, schema).await;
    let server = Cramped::start("mount -t tmpfs -o size=12m none \"$DATA\"");
    let end = tokio::time::Instant::now() + PATIENCE;
    while !server.api.is_ready().await {
        assert!(tokio::time::Instant::now() < end, "not ready:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    task(&server.api, &stack, schema).await;
    let filler = server.inside().join("filler");
    let fill = || {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    // The log of SQLite has room for a while.
    let mut round = 1;
    while !server.log().contains("the disk of the metadata store is full") {
        fill();
        change(&stack, schema, round).await;
        round += 1;
        assert!(round < 200, "the disk is never full:\n{}", server.log());
    }
    // It is full for so long that not even the waiting can be written down.
    fill();
    server.log_has("the store was not told of the retry").await;
    std::fs::remove_file(&filler).unwrap();
    change(&stack, schema, round).await;
    let task = server.api.wait_caught_up("task", &stack, PATIENCE).await;
    assert_eq!(task["status"], "running", "{task:#}");
    assert_equal(&stack, schema).await;
    sql::drop_schemas(&stack, &[schema]).await;
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_named_at_the_start() {
    let mut server = Cramped::start("mount -t tmpfs -o ro none \"$DATA\"");
    assert!(!server.child.wait().unwrap().success());
    server.log_has("data folder").await;
    server.log_has("Read-only file system").await;
}

#[tokio::test]
async fn a_damaged_store_is_named_at_the_start() {
    let mut server = Server::start().await;
    for round in 0..40 {
        let body = json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "u", "password": "p"});
        server.api.put(&format!("/connections/c{round}?verify=false"), &body).await;
    }
    server.stop().await;
    let store = server.data_folder().join("tidegate.db");
    let good = std::fs::read(&store).unwrap();
    let mut bytes = good.clone();
    // Not the first page: the file still looks like a database.
    for byte in &mut bytes[8192..40_960] {
        *byte = byte.wrapping_mul(31).wrapping_add(7);
    }
    for (damaged, what) in [
        (bytes, "scrambled"),
        (good[..good.len() / 2].to_vec(), "cut in half"),
        (vec![b'x'; 5000], "no database"),
    ] {
        std::fs::write(&store, damaged).unwrap();
        server.spawn(&[]);
        let status = server.ended(PATIENCE).await.unwrap_or_else(|| panic!("{what}: it runs"));
        assert!(!status.success(), "{what}");
        let log = server.log_tail();
        assert!(log.contains("metadata store is damaged") && log.contains("backup"), "{what}: {log}");
    }
    std::fs::write(&store, good).unwrap();
    server.restart().await;
}

#[tokio::test]
async fn one_folder_has_one_process_and_nobody_else_reads_it() {
    let server = Server::start().await;
    let body = json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "u", "password": "p"});
    server.api.put("/connections/c?verify=false", &body).await;
    let second = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_folder())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another tidegate process uses it"), "{said}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.data_folder()), 0o700);
    let files = server.files();
    assert!(files.iter().any(|path| path.ends_with("tidegate.db-wal")), "{files:?}");
    for path in files {
        assert_eq!(mode(&path) & 0o077, 0, "{} has mode {:o}", path.display(), mode(&path));
    }
}

#[tokio::test]
async fn a_new_key_seals_the_secrets_wherever_the_rotation_is_cut_off() {
    let mut server = Server::start().await;
    let body = json!({"kind": "mysql", "host": "127.0.0.1", "port": 1, "user": "u", "password": "p4ssw0rd"});
    server.api.put("/connections/c?verify=false", &body).await;
    let rotate = |folder: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["key", "rotate", "--data-dir"])
            .arg(folder)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let folder = server.data_folder();
    let (good, said) = rotate(&folder);
    assert!(!good && said.contains("another tidegate process"), "{said}");
    server.stop().await;
    let (key, new) = (folder.join("key"), folder.join("key.new"));
    let first = std::fs::read(&key).unwrap();
    let (good, said) = rotate(&folder);
    assert!(good && said.contains("1 secret"), "{said}");
    let second = std::fs::read(&key).unwrap();
    assert_ne!(first, second);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!new.exists());
    // Cut off before the store was sealed under the new key: the old one goes on.
    std::fs::write(&new, format!("{}\n", "ab".repeat(32))).unwrap();
    server.restart().await;
    assert_eq!(server.api.get("/connections/c").await["password"]["set"], true);
    server.stop().await;
    // Cut off after it: the new one takes its place.
    std::fs::rename(&key, &new).unwrap();
    std::fs::write(&key, &first).unwrap();
    server.restart().await;
    assert_eq!(std::fs::read(&key).unwrap(), second);
    assert!(!new.exists());
    // The secret opens: a test of the connection comes as far as the network.
    let answer = server.api.send(reqwest::Method::POST, "/connections/c/test", Some(&json!({}))).await;
    assert!(!answer.body.to_string().contains("does not open"), "{:#}", answer.body);
    // And the old key is of no use.
    server.stop().await;
    std::fs::write(&key, &first).unwrap();
    server.spawn(&[]);
    assert!(!server.ended(PATIENCE).await.unwrap().success());
    assert!(server.log_tail().contains("is not the key"), "{}", server.log_tail());
}

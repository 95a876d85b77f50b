//! TLS and SASL against real servers: a MariaDB and a Kafka of this test's own, with certificates made by openssl. Every mode takes
//! what its name says, and refuses the rest with the reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use reqwest::Method;
use serde_json::{Value, json};
use support::server::Server;
use support::sql;
use support::stack::Stack;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::model::Value::Int;

const PATIENCE: Duration = Duration::from_secs(120);

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("a program of this machine");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn openssl(folder: &Path, arguments: &[&str]) {
    run(Command::new("openssl").current_dir(folder).args(arguments));
}

/// `ca.pem` and `other-ca.pem`; `here.pem` (127.0.0.1), `elsewhere.pem` and `nameless.pem`, which names no host, as MySQL makes them for itself; each
/// with its key, signed by the first.
fn certificates(folder: &Path) {
    for ca in ["ca", "other-ca"] {
        let (key, pem, name) = (format!("{ca}.key"), format!("{ca}.pem"), format!("/CN=tidegate test {ca}"));
        let make =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", &key, "-out", &pem];
        openssl(
            folder,
            &[&make[..], &["-subj", &name, "-addext", "keyUsage=critical,keyCertSign,cRLSign"]].concat(),
        );
    }
    for (name, place) in [
        ("here", "subjectAltName=IP:127.0.0.1,DNS:localhost\n"),
        ("elsewhere", "subjectAltName=DNS:elsewhere.example\n"),
        ("nameless", ""),
    ] {
        let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        openssl(
            folder,
            &[
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &request,
                "-subj",
                &format!("/CN={name}"),
            ],
        );
        let extensions = format!("{name}.ext");
        std::fs::write(
            folder.join(&extensions),
            format!("{place}basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"),
        )
        .unwrap();
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-out",
                &pem,
                "-extfile",
                &extensions,
            ],
        );
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        Self(child.expect("a server of this machine"))
    }

    async fn listens(&mut self, port: u16, log: &Path) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = self.0.try_wait().unwrap().is_some();
            let late = tokio::time::Instant::now() > end;
            assert!(!ended && !late, "{}", std::fs::read_to_string(log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn mariadb(folder: &Path, certificate: &str) -> (Process, u16) {
    let (data, port) = (folder.join(format!("mariadb-{certificate}")), free_port());
    let data_argument = format!("--datadir={}", data.display());
    std::fs::create_dir_all(&data).unwrap();
    let user = ["--user=root"];
    // A server that starts removes all temporary tables that it finds, also those of another one.
    let temporary = folder.join(format!("{certificate}.tmp"));
    std::fs::create_dir_all(&temporary).unwrap();
    run(Command::new("mariadb-install-db")
        .env("TMPDIR", &temporary)
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data_argument])
        .args(user));
    let init = folder.join("init.sql");
    std::fs::write(
        &init,
        "CREATE USER 'tls'@'%' IDENTIFIED BY 'right' REQUIRE SSL;\nGRANT ALL ON *.* TO 'tls'@'%';\n",
    )
    .unwrap();
    let log = folder.join(format!("{certificate}.log"));
    let mut server = Process::start(
        Command::new("mariadbd")
            .env("TMPDIR", &temporary)
            .args([
                "--no-defaults",
                &data_argument,
                "--socket=s.sock",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            .args(user)
            .arg(format!("--port={port}"))
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--ssl-ca={}", folder.join("ca.pem").display()))
            .arg(format!("--ssl-cert={}", folder.join(format!("{certificate}.pem")).display()))
            .arg(format!("--ssl-key={}", folder.join(format!("{certificate}.key")).display())),
        &log,
    );
    server.listens(port, &log).await;
    (server, port)
}

fn pem(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

async fn test(server: &Server, settings: &Value) -> (String, String) {
    let answer = server.api.send(Method::POST, "/connections/test", Some(settings)).await;
    let report = answer.good("a test of a connection");
    (report["outcome"].as_str().unwrap_or_default().to_owned(), report.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tls_mode_of_a_mysql_server_takes_what_its_name_says() {
    if Stack::utc("every_tls_mode_of_a_mysql_server_takes_what_its_name_says").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let (_here, here) = mariadb(folder, "here").await;
    let (_elsewhere, elsewhere) = mariadb(folder, "elsewhere").await;
    let (_nameless, nameless) = mariadb(folder, "nameless").await;
    let server = Server::start().await;
    let (ca, other) = (pem(folder, "ca.pem"), pem(folder, "other-ca.pem"));
    let tls = |mode: &str, ca: Option<&str>| match ca {
        Some(ca) => json!({"mode": mode, "ca": ca}),
        None => json!({"mode": mode}),
    };
    for (port, tls, good, word) in [
        (here, tls("disabled", None), false, "denied"),
        (here, tls("required", None), true, ""),
        (here, tls("verify_ca", Some(&ca)), true, ""),
        (here, tls("verify_ca", Some(&other)), false, "TLS"),
        (here, tls("verify_ca", None), false, "TLS"),
        (here, tls("verify_full", Some(&ca)), true, ""),
        (here, tls("verify_full", Some(&other)), false, "TLS"),
        (elsewhere, tls("required", None), true, ""),
        (elsewhere, tls("verify_ca", Some(&ca)), true, ""),
        (elsewhere, tls("verify_ca", Some(&other)), false, "TLS"),
        (elsewhere, tls("verify_ca", None), false, "TLS"),
        (elsewhere, tls("verify_full", Some(&ca)), false, "TLS"),
        (nameless, tls("verify_ca", Some(&ca)), true, ""),
        (nameless, tls("verify_ca", Some(&other)), false, "TLS"),
        (nameless, tls("verify_full", Some(&ca)), false, "TLS"),
    ] {
        for kind in ["mysql", "tidb"] {
            let settings = json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": "tls", "password": "right", "tls": tls});
            let (outcome, report) = test(&server, &settings).await;
            let mut mode = tls.clone();
            mode["ca"] = json!(mode["ca"].as_str().map(|ca| if ca == other { "other" } else { "own" }));
            // MariaDB is no TiDB, but it lets us in.
            let let_in =
                outcome != "fail" || kind == "tidb" && !report.contains("denied") && !report.contains("TLS");
            assert_eq!(let_in, good, "{kind} {mode}: {report}");
            assert!(report.contains(word), "{kind} {mode}: {report}");
            assert!(!report.contains("right"), "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_copies_and_follows_over_tls_on_both_sides() {
    let Some(stack) = Stack::utc("a_task_copies_and_follows_over_tls_on_both_sides") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let (_target, target_port) = mariadb(folder, "here").await;
    let path = |name: &str| folder.join(name).display().to_string();
    let topic = format!("tls_task_{}", std::process::id());
    let (certificate, key) = (path("here.pem"), path("here.key"));
    let beside = stack
        .beside(&topic, &[("TIDB_SSL_CERT", certificate.as_str()), ("TIDB_SSL_KEY", key.as_str())])
        .await;
    let source = &beside.stack;
    let mut tidb = sql::tidb(source).await;
    sql::run(
        &mut tidb,
        &[
            "CREATE USER 'tls'@'%' IDENTIFIED BY 'right' REQUIRE SSL",
            "GRANT ALL ON *.* TO 'tls'@'%'",
            "CREATE DATABASE tlst",
            "CREATE TABLE tlst.t (id INT PRIMARY KEY, v VARCHAR(10))",
            "INSERT INTO tlst.t VALUES (1, 'copied')",
        ],
    )
    .await;
    let server = Server::start().await;
    let api = &server.api;
    api.connect(source).await;
    let (ca, other) = (pem(folder, "ca.pem"), pem(folder, "other-ca.pem"));
    let connection = |kind: &str, port: u16, tls: Value| json!({"kind": kind, "host": "127.0.0.1", "port": port, "user": "tls", "password": "right", "tls": tls});
    for (name, kind, port) in [("tidb", "tidb", source.tidb_port), ("target", "mysql", target_port)] {
        for (tls, word) in [
            (json!({"mode": "disabled"}), "denied"),
            (json!({"mode": "verify_full", "ca": other}), "TLS"),
            (json!({"mode": "verify_full", "ca": ca}), ""),
        ] {
            let (outcome, report) = test(&server, &connection(kind, port, tls.clone())).await;
            assert_eq!(outcome == "fail", !word.is_empty(), "{name}: {report}");
            assert!(report.contains(word), "{name}: {report}");
        }
        api.put(
            &format!("/connections/{name}"),
            &connection(kind, port, json!({"mode": "verify_full", "ca": ca})),
        )
        .await;
    }
    api.create_task(&support::api::spec("tls", source, &["tlst.*"], &json!({}))).await;
    api.start("tls").await;
    api.wait_caught_up("tls", source, PATIENCE).await;
    sql::run(
        &mut tidb,
        &["INSERT INTO tlst.t VALUES (2, 'followed')", "ALTER TABLE tlst.t ADD COLUMN w INT DEFAULT 7"],
    )
    .await;
    api.wait_caught_up("tls", source, PATIENCE).await;
    let found = api.verified("tls", &json!({})).await;
    assert_eq!(found["verdict"], "equal", "{found:#}");
}

/// The jars of the test stack.
fn jars() -> PathBuf {
    let build = std::env::var_os("STACK_BUILD")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack/build"), PathBuf::from);
    build.join("kafka-lib")
}

async fn kafka(folder: &Path) -> (Process, u16) {
    let (port, controller) = (free_port(), free_port());
    let store = folder.join("kafka.pem");
    std::fs::write(&store, format!("{}{}", pem(folder, "here.key"), pem(folder, "here.pem"))).unwrap();
    let login = "org.apache.kafka.common.security";
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=SASL_SSL://127.0.0.1:{port}\n\
         listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=SASL_SSL\ncontroller.listener.names=CONTROLLER\n\
         sasl.mechanism.inter.broker.protocol=PLAIN\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required username=\"broker\" \
         password=\"between\" user_broker=\"between\" user_plain=\"right-plain\";\n\
         listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PEM\nssl.keystore.location={store}\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
         log.dirs={data}\noffsets.topic.replication.factor=1\n",
        store = store.display(),
        ca = folder.join("ca.pem").display(),
        data = folder.join("kafka").display(),
    );
    let file = folder.join("kafka.properties");
    std::fs::write(&file, settings).unwrap();
    let java = || {
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m", "-cp"]).arg(jars().join("*"));
        java
    };
    run(java()
        .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
        .arg(&file)
        .args(["--add-scram", "SCRAM-SHA-256=[name=scram256,password=right-256]"])
        .args(["--add-scram", "SCRAM-SHA-512=[name=scram512,password=right-512]"]));
    let log = folder.join("kafka.log");
    let mut server = Process::start(java().arg("kafka.Kafka").arg(&file), &log);
    server.listens(port, &log).await;
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_over_tls_takes_every_mechanism_and_refuses_a_wrong_password() {
    let test_name = "kafka_over_tls_takes_every_mechanism_and_refuses_a_wrong_password";
    let Some(stack) = Stack::utc(test_name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let (_kafka, port) = kafka(folder).await;
    let server = Server::start().await;
    let (ca, other) = (pem(folder, "ca.pem"), pem(folder, "other-ca.pem"));
    let settings = |mechanism: &str, user: &str, password: &str, tls: Value| {
        json!({"kind": "kafka", "brokers": [format!("127.0.0.1:{port}")], "tls": tls,
            "sasl": {"mechanism": mechanism, "user": user, "password": password}})
    };
    let full = json!({"mode": "verify_full", "ca": ca});
    for (mechanism, user, password) in [
        ("PLAIN", "plain", "right-plain"),
        ("SCRAM-SHA-256", "scram256", "right-256"),
        ("SCRAM-SHA-512", "scram512", "right-512"),
    ] {
        // A broker that has just begun may not know its users yet.
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (outcome, report) = test(&server, &settings(mechanism, user, password, full.clone())).await;
            if outcome != "fail" {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "{mechanism}: {report}");
        }
        let (outcome, report) = test(&server, &settings(mechanism, user, "wrong-one", full.clone())).await;
        assert_eq!(outcome, "fail", "{mechanism}: {report}");
        assert!(!report.contains("wrong-one"), "{report}");
    }
    for (tls, good) in [
        (json!({"mode": "required"}), true),
        (json!({"mode": "verify_ca", "ca": ca}), true),
        (json!({"mode": "verify_ca", "ca": other}), false),
        (json!({"mode": "verify_full", "ca": other}), false),
        (json!({"mode": "disabled"}), false),
    ] {
        let mode = tls["mode"].clone();
        let (outcome, report) = test(&server, &settings("PLAIN", "plain", "right-plain", tls)).await;
        assert_eq!(outcome != "fail", good, "{mode}: {report}");
    }
    let new = |password: &str| settings("SCRAM-SHA-256", "scram256", password, full.clone());
    a_new_password(&stack, &server, &Broker { port, folder }, new).await;
}

/// A broker of this test's own.
struct Broker<'a> {
    port: u16,
    folder: &'a Path,
}

impl Broker<'_> {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.port))
            .set("security.protocol", "sasl_ssl")
            .set("ssl.ca.location", self.folder.join("ca.pem").display().to_string())
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "plain")
            .set("sasl.password", "right-plain");
        config
    }

    fn produce(&self, topic: &str, messages: &[Binlog]) {
        let producer: ThreadedProducer<DefaultProducerContext> = self.client().create().unwrap();
        for message in messages {
            let payload = message.encode_to_vec();
            let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// What an administrator does.
    fn set_password(&self, user: &str, password: &str) {
        let file = self.folder.join("admin.properties");
        let settings = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"plain\" password=\"right-plain\";\n",
            self.folder.join("ca.pem").display(),
        );
        std::fs::write(&file, settings).unwrap();
        run(Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp"])
            .arg(jars().join("*"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &format!("127.0.0.1:{}", self.port)])
            .arg("--command-config")
            .arg(&file)
            .args(["--alter", "--entity-type", "users", "--entity-name", user])
            .args(["--add-config", &format!("SCRAM-SHA-256=[password={password}]")]));
    }
}

/// A running task takes up the new password of its Kafka connection between two batches; nothing is lost or doubled.
async fn a_new_password(
    stack: &Stack,
    server: &Server,
    broker: &Broker<'_>,
    connection: impl Fn(&str) -> Value,
) {
    let (schema, topic) = ("tls_kafka", "renewed");
    sql::drop_schemas(stack, &[schema]).await;
    let admin: AdminClient<_> = broker.client().create().unwrap();
    let (new, options) = (NewTopic::new(topic, 1, TopicReplication::Fixed(1)), AdminOptions::new());
    let made = admin.create_topics(&[new], &options).await.unwrap();
    made[0].as_ref().unwrap();
    let row = |id: i64| {
        let table = Table::new(schema, "t", &[("id", "bigint")], &["id"]);
        Binlog::dml(446_700_000_000_000_100 + id.cast_unsigned(), vec![table.insert(&[Int(id)])])
    };
    let create = format!("CREATE TABLE {schema}.t (id BIGINT PRIMARY KEY)");
    broker.produce(
        topic,
        &[
            Binlog::ddl(446_700_000_000_000_000, schema, "", &format!("CREATE DATABASE {schema}")),
            Binlog::ddl(446_700_000_000_000_001, schema, "t", &create),
            row(1),
        ],
    );
    let api = &server.api;
    api.put("/connections/kafka", &connection("right-256")).await;
    api.put("/connections/target", &support::api::mysql("mysql", stack.mariadb_port)).await;
    api.create_task(&json!({
        "name": "renewed", "source": {"kafka": "kafka", "topic": topic, "time_zone": "UTC"}, "target": "target",
        "phases": {"schema": false, "full": false, "incremental": true}, "start_at": "earliest",
        "objects": {"include": [format!("{schema}.*")]},
    }))
    .await;
    api.start("renewed").await;
    let rows = async |count: u64| {
        let mut target = sql::mariadb(stack).await;
        api.wait_for("renewed", "at its work", PATIENCE, |task| {
            task["checkpoint"]["next_offset"].is_string()
        })
        .await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while sql::tables(&mut target, schema).await.is_empty()
            || sql::count(&mut target, &format!("{schema}.t")).await < count
        {
            assert!(tokio::time::Instant::now() < end, "{:#}", api.task("renewed").await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    rows(1).await;
    broker.set_password("scram256", "newer-256");
    broker.produce(topic, &[row(2)]);
    let refused = api.send(Method::PUT, "/connections/kafka", Some(&connection("wrong-one"))).await;
    assert_eq!(refused.status.as_u16(), 502, "{:#}", refused.body);
    let answer = api.put("/connections/kafka", &connection("newer-256")).await;
    assert_eq!(answer["effects"].as_array().unwrap().len(), 1, "{answer:#}");
    broker.produce(topic, &[row(3)]);
    rows(3).await;
    let task = api.task("renewed").await;
    assert_eq!((&task["status"], &task["last_error"]), (&json!("running"), &Value::Null), "{task:#}");
    assert_eq!(task["progress"]["duplicates_skipped"].as_u64(), Some(0), "{task:#}");
    api.complete("renewed", "stop").await;
    sql::drop_schemas(stack, &[schema]).await;
}

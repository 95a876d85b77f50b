//! TLS and SASL against real servers: a MariaDB and a Kafka of this test's own, with certificates made by openssl. Every mode takes
//! what its name says, and refuses the rest with the reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::server::Server;
use support::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(120);

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("a program of this machine");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn openssl(folder: &Path, arguments: &[&str]) {
    run(Command::new("openssl").current_dir(folder).args(arguments));
}

/// `ca.pem` and `other-ca.pem`; `here.pem` (127.0.0.1) and `elsewhere.pem`, each with its key, signed by the first.
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
    for (name, place) in [("here", "IP:127.0.0.1,DNS:localhost"), ("elsewhere", "DNS:elsewhere.example")] {
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
            format!("subjectAltName={place}\nextendedKeyUsage=serverAuth\n"),
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
    run(Command::new("mariadb-install-db")
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
        // mysql_async 0.37 does not know the form in which today's rustls says that a name does not fit, and checks it here too.
        (elsewhere, tls("verify_ca", Some(&ca)), false, "TLS"),
        (elsewhere, tls("verify_full", Some(&ca)), false, "TLS"),
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
    if Stack::utc("kafka_over_tls_takes_every_mechanism_and_refuses_a_wrong_password").is_none() {
        return;
    }
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
}

use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::app::App;
use tidegate::config::{AccessConfig, Config};
use tidegate::engine::supervisor::worker_runner;

use crate::app::{Logs, Reply, Stage, TestApp, config, pointers};

const FIRST: &str = "5f1c0a9e77b34c2d8e6f5f1c0a9e77b34c2d8e6f";

/// A folder with a file that holds the first token, and the configuration that names it.
fn with_first_token() -> (TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first");
    std::fs::write(&file, format!("{FIRST}\n")).unwrap();
    let access = AccessConfig { bootstrap_token_file: Some(file), ..AccessConfig::default() };
    let config = Config { access, ..config(&folder) };
    (folder, config)
}

async fn protected() -> TestApp {
    let (folder, config) = with_first_token();
    TestApp::start_as(folder, Stage::default(), &config).await
}

/// Sends a request with a token of its own.
async fn as_token(app: &TestApp, secret: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
    let mut request = app.client.request(method, app.url(path)).bearer_auth(secret);
    if let Some(body) = body {
        request = request.json(&body);
    }
    app.send(request).await
}

async fn make_token(app: &TestApp, name: &str, role: &str) -> String {
    let body = json!({"name": name, "role": role});
    let made = as_token(app, FIRST, Method::POST, "/tokens", Some(body)).await.expect(201);
    made["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_token_shuts_the_door() {
    let app = TestApp::start().await.with_task("a").await;
    let problem = app.request(Method::POST, "/tokens", Some(json!({"name": "a", "role": "viewer"}))).await;
    let problem = problem.problem(422, "invalid-body");
    assert_eq!(pointers(&problem), [("/role".to_owned(), "first_token".to_owned())]);
    let body = json!({"name": "ann", "role": "admin"});
    let dry = app.request(Method::POST, "/tokens?dry_run=true", Some(body.clone())).await.expect(200);
    assert_eq!((&dry["role"], &dry["secret"]), (&json!("admin"), &Value::Null));
    app.get("/tasks").await.expect(200);

    let reply = app.request(Method::POST, "/tokens", Some(body)).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["location"], "/api/v1/tokens/ann");
    let made = reply.expect(201);
    assert_eq!(
        (&made["created_by"], &made["expires_at"], &made["expired"]),
        (&json!("local"), &Value::Null, &json!(false))
    );
    let secret = made["secret"].as_str().unwrap();
    let reply = app.get("/tasks").await;
    assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"tidegate\"");
    reply.problem(401, "unauthorized");
    // Not even what there is can be asked for.
    app.get("/nothing").await.problem(401, "unauthorized");
    app.get("/metrics").await.problem(401, "unauthorized");
    for public in ["/", "/healthz", "/readyz", "/docs/", "/openapi.json", "/problems/unauthorized"] {
        assert_eq!(app.get(public).await.status, 200, "{public}");
    }
    // With tokens any name of the server will do, and the Host header tells nothing about the caller.
    let named = app.client.get(app.url("/tasks")).header("host", "sync.example:8320").bearer_auth(secret);
    app.send(named).await.expect(200);

    // It holds after a restart, by its hash alone.
    let folder = app.folder.path().join("data");
    let secret = secret.to_owned();
    let app = app.restart().await;
    app.get("/tasks").await.problem(401, "unauthorized");
    let app = app.with_token(&secret);
    app.get("/tasks").await.expect(200);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret is kept");
    }
    assert!(!Logs::of_process().text().contains(&secret), "the secret is in the log");
    assert!(!app.get("/tokens").await.text.contains(&secret));
    assert!(!app.get("/events").await.text.contains(&secret));
}

#[tokio::test]
async fn tokens_are_made_read_and_revoked() {
    let app = protected().await.with_token(FIRST);
    let viewer = make_token(&app, "dash", "viewer").await;
    let read = app.get("/tokens/dash").await.expect(200);
    assert_eq!((&read["role"], &read["created_by"]), (&json!("viewer"), &json!("bootstrap")));
    assert!(read.get("secret").is_none());
    let names: Vec<_> = app.get("/tokens").await.expect(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["bootstrap", "dash"]);
    let page = app.get("/tokens?limit=1").await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        app.get(&format!("/tokens?limit=1&cursor={next}")).await.expect(200)["items"][0]["name"],
        "dash"
    );

    let create = |body: Value| app.request(Method::POST, "/tokens", Some(body));
    create(json!({"name": "dash", "role": "viewer"})).await.problem(409, "name-taken");
    let problem = create(json!({"name": "No", "role": "root", "expires_at": "soon", "x": 1})).await;
    let problem = problem.problem(422, "invalid-body");
    let places: Vec<_> = pointers(&problem).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/expires_at", "/name", "/role", "/x"]);
    let past = create(json!({"name": "old", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"})).await;
    past.problem(422, "invalid-body");

    as_token(&app, &viewer, Method::GET, "/tasks", None).await.expect(200);
    let dry = app.delete("/tokens/dash?dry_run=true").await.expect(200);
    assert!(dry["effects"][0]["detail"].as_str().unwrap().contains("dash"));
    as_token(&app, &viewer, Method::GET, "/tasks", None).await.expect(200);
    app.delete("/tokens/dash").await.expect(204);
    as_token(&app, &viewer, Method::GET, "/tasks", None).await.problem(401, "unauthorized");
    app.get("/tokens/dash").await.problem(404, "not-found");
    app.delete("/tokens/dash").await.problem(404, "not-found");

    // Nobody is locked out by a last step too many.
    app.delete("/tokens/bootstrap").await.problem(409, "conflict");
    make_token(&app, "ann", "admin").await;
    app.delete("/tokens/bootstrap").await.expect(204);
    app.get("/tasks").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let app = protected().await.with_token(FIRST);
    let end = chrono::Utc::now() + chrono::Duration::milliseconds(700);
    let body = json!({"name": "brief", "role": "viewer", "expires_at": end.to_rfc3339()});
    let made = app.request(Method::POST, "/tokens", Some(body)).await.expect(201);
    let secret = made["secret"].as_str().unwrap().to_owned();
    for _ in 0..1000 {
        if as_token(&app, &secret, Method::GET, "/tasks", None).await.status == 401 {
            assert!(chrono::Utc::now() >= end);
            assert_eq!(app.get("/tokens/brief").await.expect(200)["expired"], true);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the token never ended");
}

/// Walks the document: what it says of an endpoint is what happens, for every role.
#[tokio::test]
async fn every_endpoint_is_held_to_the_role_it_names() {
    let app = protected().await;
    let viewer = make_token(&app, "v", "viewer").await;
    let operator = make_token(&app, "o", "operator").await;
    let document = app.get("/openapi.json").await.expect(200);
    let ranks = ["viewer", "operator", "admin"];
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needed = operation["x-role"].as_str().unwrap();
            let wanted = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            // A name that nothing has: what is let in ends in some other problem.
            let call: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "no-such" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let body = (method != "get" && method != "delete").then(|| json!({"never": "valid"}));
            let send = async |secret: Option<&str>| {
                let mut request = app.client.request(wanted.clone(), format!("{}{call}", app.base));
                if let Some(secret) = secret {
                    request = request.bearer_auth(secret);
                }
                if let Some(body) = &body {
                    request = request.json(body);
                }
                request.send().await.unwrap().status().as_u16()
            };
            let nobody = send(None).await;
            assert_eq!(nobody == 401, needed != "public", "{method} {path} without a token: {nobody}");
            for (rank, secret) in [(0, &viewer), (1, &operator)] {
                let status = send(Some(secret)).await;
                let allowed = ranks.iter().position(|role| *role == needed).is_none_or(|needs| rank >= needs);
                assert_eq!(
                    status != 403 && status != 401,
                    allowed,
                    "{method} {path} as {}: {status}",
                    ranks[rank]
                );
            }
            walked += 1;
        }
    }
    assert!(walked > 30);
}

#[tokio::test]
async fn guessing_ends_in_429_and_locks_nobody_out() {
    let app = protected().await;
    let wrong = "tidegate_0000000000000000000000000000000000000000000";
    let reply = as_token(&app, wrong, Method::GET, "/tasks", None).await;
    assert!(reply.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    reply.problem(401, "unauthorized");
    let basic = app.client.get(app.url("/tasks")).header("authorization", format!("Basic {FIRST}"));
    app.send(basic).await.problem(401, "unauthorized");
    let mut last = as_token(&app, wrong, Method::GET, "/tasks", None).await;
    for _ in 0..20 {
        if last.status == 429 {
            break;
        }
        last = as_token(&app, wrong, Method::GET, "/tasks", None).await;
    }
    let wait: u64 = last.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    last.problem(429, "too-many-attempts");
    as_token(&app, FIRST, Method::GET, "/tasks", None).await.expect(200);
    assert!(!Logs::of_process().text().contains(wrong));
}

#[tokio::test]
async fn events_tell_who_did_it_and_from_where() {
    let app = protected().await.with_token(FIRST).with_task("a").await;
    let operator = make_token(&app, "night-shift", "operator").await;
    as_token(&app, &operator, Method::POST, "/tasks/a/start?wait_ms=10000", None).await.expect(200);
    let patch = json!({"labels": {"env": "prod"}});
    as_token(&app, &operator, Method::PATCH, "/tasks/a/spec", Some(patch)).await.expect(200);
    let events = app.get("/events").await.expect(200);
    let of = |message: &str| {
        let found = events["items"].as_array().unwrap().iter().find(|event| event["message"] == message);
        let found = found.unwrap_or_else(|| panic!("{message}: {events}"));
        (found["actor"].clone(), found["peer"].clone())
    };
    let by = |name: &str| (json!(name), json!("127.0.0.1"));
    assert_eq!(of("token bootstrap created, role admin"), (Value::Null, Value::Null));
    assert_eq!(of("connection tidb created"), by("bootstrap"));
    assert_eq!(of("task a created"), by("bootstrap"));
    assert_eq!(of("token night-shift created, role operator"), by("bootstrap"));
    assert_eq!(of("start a"), by("night-shift"));
    assert_eq!(of("spec changed: /labels/env"), by("night-shift"));
    assert_eq!(of("running"), (Value::Null, Value::Null), "what the server does itself has no actor");
}

#[tokio::test]
async fn a_page_of_another_site_may_not_write_while_there_is_no_token() {
    let app = TestApp::start().await.with_task("a").await;
    let post = |origin: &str| {
        app.client.post(app.url("/tasks/a/stop?dry_run=true")).header("origin", origin.to_owned())
    };
    app.send(post("http://evil.example")).await.problem(403, "origin-refused");
    app.send(post("null")).await.problem(403, "origin-refused");
    app.send(post(&app.base)).await.expect(200);
    let read = app.client.get(app.url("/tasks")).header("origin", "http://evil.example");
    let reply = app.send(read).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"), "no page may read the answer");
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_with_a_token() {
    let (folder, config) = with_first_token();
    let access = AccessConfig {
        cors_origins: vec!["https://console.example".to_owned()],
        allowed_hosts: vec!["sync.example".to_owned()],
        ..config.access.clone()
    };
    let app = TestApp::start_as(folder, Stage::default(), &Config { access, ..config }).await;
    let ask = |origin: &'static str| {
        let ask = app.client.request(Method::OPTIONS, app.url("/tasks")).header("origin", origin);
        ask.header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
    };
    let reply = app.send(ask("https://console.example")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://console.example");
    let reply = app.send(ask("https://evil.example")).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    let get = |host: &'static str| app.client.get(app.url("/tasks")).bearer_auth(FIRST).header("host", host);
    app.send(get("other.example")).await.problem(403, "host-refused");
    app.send(get("sync.example:443")).await.expect(200);
    app.send(get("127.0.0.1:1").header("origin", "https://console.example")).await.expect(200);
}

#[tokio::test]
async fn the_file_of_the_first_token_is_read_while_there_is_no_other() {
    let (folder, config) = with_first_token();
    let file = config.access.bootstrap_token_file.clone().unwrap();
    std::fs::write(&file, "short").unwrap();
    let error = App::start(&config, worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("at least 32"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = App::start(&config, worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");

    std::fs::write(&file, FIRST).unwrap();
    let app = TestApp::start_as(folder, Stage::default(), &config).await;
    let admin = make_token(&app, "ann", "admin").await;
    as_token(&app, &admin, Method::DELETE, "/tokens/bootstrap", None).await.expect(204);
    let TestApp { app, folder, stage, .. } = app;
    app.stop().await;
    let app = TestApp::start_as(folder, stage, &config).await;
    // It was taken away by a person: the file does not bring it back.
    as_token(&app, FIRST, Method::GET, "/tasks", None).await.problem(401, "unauthorized");
    as_token(&app, &admin, Method::GET, "/tasks", None).await.expect(200);
}

#[tokio::test]
async fn beyond_loopback_it_serves_with_a_token_only() {
    let (folder, config) = with_first_token();
    let open = Config { listen: "0.0.0.0:0".parse().unwrap(), ..config.clone() };
    let bare = Config { access: AccessConfig::default(), ..open.clone() };
    let error = App::start(&bare, worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("not a loopback address"), "{error}");
    let cure = error.hint.unwrap();
    assert!(cure.contains("--bootstrap-token-file") && cure.contains("tidegate token create"), "{cure}");

    let app = TestApp::start_as(folder, Stage::default(), &open).await;
    app.get("/tasks").await.problem(401, "unauthorized");
    as_token(&app, FIRST, Method::GET, "/tasks", None).await.expect(200);
    let TestApp { app, folder, stage, .. } = app;
    app.stop().await;
    // The token is in the store now: its file is not needed any more.
    let app = TestApp::start_as(folder, stage, &bare).await;
    as_token(&app, FIRST, Method::GET, "/tasks", None).await.expect(200);
}

/// A certificate of our own for 127.0.0.1 and localhost.
fn certificate(folder: &TempDir, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let path = |end: &str| folder.path().join(format!("{name}.{end}"));
    let (cert, key) = (path("crt"), path("key"));
    let done = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success());
    (cert, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_natively() {
    let (folder, config) = with_first_token();
    let (cert, key) = certificate(&folder, "a");
    let (_, other) = certificate(&folder, "b");
    let access =
        |cert, key| AccessConfig { tls_cert: Some(cert), tls_key: Some(key), ..config.access.clone() };
    let wrong = Config { access: access(cert.clone(), other), ..config.clone() };
    let error = App::start(&wrong, worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("is not the key of"), "{error}");
    let missing = Config { access: access(folder.path().join("none"), key.clone()), ..config.clone() };
    let error = App::start(&missing, worker_runner()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");

    let config = Config { access: access(cert.clone(), key), ..config };
    let app = TestApp::start_as(folder, Stage::default(), &config).await;
    let port = app.app.address().port();
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&cert).unwrap()).unwrap();
    let client = reqwest::Client::builder().add_root_certificate(trusted).build().unwrap();
    let url = format!("https://127.0.0.1:{port}/api/v1/tasks");
    // Lines that never shake hands, or talk in clear, hold nobody up.
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert!(reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await.is_err());
    assert_eq!(client.get(&url).bearer_auth(FIRST).send().await.unwrap().status(), 200);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert!(reqwest::Client::new().get(&url).send().await.is_err(), "an unknown certificate is not trusted");
    let made = client.post(url.replace("/tasks", "/tokens")).bearer_auth(FIRST);
    let made = made.json(&json!({"name": "v", "role": "viewer"})).send().await.unwrap();
    assert_eq!(made.status(), 201);

    // The command line goes the same way.
    let token = app.folder.path().join("first");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["token", "--server", &format!("https://127.0.0.1:{port}"), "--ca-file"])
            .arg(&cert)
            .arg("--token-file")
            .arg(&token)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| run(arguments));
    let (done, secret, note) = run(&["create", "bob", "--role", "operator", "--expires-days", "30"]);
    assert!(done && note.contains("operator"), "{note}");
    assert_eq!(client.get(&url).bearer_auth(&secret).send().await.unwrap().status(), 200);
    let (done, list, _) = run(&["list"]);
    let names: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(done && names == ["NAME", "bob", "bootstrap", "v"], "{list}");
    let (done, out, note) = run(&["create", "bob", "--role", "viewer"]);
    assert!(
        !done
            && out.is_empty()
            && note.contains("another token is called bob")
            && note.contains("/problems/name-taken"),
        "{note}"
    );
    let (done, _, note) = run(&["revoke", "bob"]);
    assert!(done && note.contains("revoked"), "{note}");
    assert_eq!(client.get(&url).bearer_auth(&secret).send().await.unwrap().status(), 401);
    std::fs::write(&token, "wrong").unwrap();
    let (done, _, note) = run(&["list"]);
    assert!(!done && note.contains("not valid"), "{note}");

    // A renewed certificate is taken up while it runs; one that does not fit its key is not.
    let (new_cert, new_key) = certificate(&app.folder, "c");
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&new_cert).unwrap()).unwrap();
    let asked = async |trusted: &reqwest::Certificate| {
        // One of its own for each: a line that is open keeps its certificate.
        let client = reqwest::Client::builder().add_root_certificate(trusted.clone()).build().unwrap();
        client.get(&url).bearer_auth(FIRST).send().await.map(|answer| answer.status().as_u16())
    };
    let logs = Logs::of_process();
    std::fs::copy(&new_cert, &cert).unwrap();
    while !logs.text().contains("the new certificate cannot be used; the old one stays") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(asked(&trusted).await.is_err(), "half of a renewal changes nothing");
    std::fs::copy(&new_key, app.folder.path().join("a.key")).unwrap();
    while asked(&trusted).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(asked(&trusted).await.unwrap(), 200);
    assert!(client.get(&url).bearer_auth(FIRST).send().await.is_ok(), "an open line goes on");
}

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{TestApp, config};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    event: Option<String>,
    id: Option<i64>,
    data: Value,
}

/// A stream of events that is read piece by piece.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(app: &TestApp, path: &str, last: Option<i64>) -> Self {
        let mut request = app.client.get(app.url(path)).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; None when the stream has ended.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                let field = |name: &str| {
                    let found = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                    found.map(str::to_owned)
                };
                let Some(data) = field("data") else { continue };
                let data = serde_json::from_str(&data).unwrap();
                return Some(Sent {
                    event: field("event"),
                    id: field("id").map(|id| id.parse().unwrap()),
                    data,
                });
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.response.chunk()).await;
            match chunk.expect("the stream says something").unwrap() {
                Some(bytes) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                None => return None,
            }
        }
    }

    async fn until(&mut self, message: &str) -> Vec<Sent> {
        let mut seen = Vec::new();
        loop {
            let sent = self.next().await.unwrap_or_else(|| panic!("no {message} in {seen:?}"));
            seen.push(sent);
            if seen.last().unwrap().data["message"] == message {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_goes_on_after_a_break() {
    let app = TestApp::start().await.with_task("a").await.with_task("b").await;
    let listed = app.get("/events").await.expect(200)["items"].as_array().unwrap().clone();
    let mut all = Stream::open(&app, "/events", None).await;
    let seen = all.until("task b created").await;
    assert_eq!(
        seen.iter().map(|sent| sent.data.clone()).collect::<Vec<_>>(),
        listed,
        "the same as the list's"
    );
    assert!(seen.iter().all(|sent| sent.event.is_none() && sent.id == sent.data["id"].as_i64()));

    let mut only_b = Stream::open(&app, "/tasks/b/events?after=latest", None).await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    app.post("/tasks/b/start?wait_ms=10000").await.expect(200);
    let b = only_b.until("running").await;
    assert!(b.iter().all(|sent| sent.data["task_name"] == "b"));
    assert_eq!(b[0].data["message"], "start b");
    let live = all.until("running").await;
    assert_eq!(live[0].data["message"], "start a");

    // A client that comes back with what it has seen misses nothing and gets nothing twice, whatever its path says.
    let last = live[0].id.unwrap();
    let mut back = Stream::open(&app, "/events?after=0", Some(last)).await;
    let first = back.next().await.unwrap();
    assert!(first.id.unwrap() > last && first.data["message"] != "start a");
    let mut after = Stream::open(&app, &format!("/events?after={last}"), None).await;
    assert_eq!(after.next().await.unwrap(), first);
}

#[tokio::test]
async fn bad_words_for_a_stream_are_problems() {
    let app = TestApp::start().await.with_task("a").await;
    let get = |path: &str| app.client.get(app.url(path)).header("accept", "text/event-stream");
    let problem = app.send(get("/events?after=x&limit=3")).await.problem(400, "invalid-parameter");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
    let problem =
        app.send(get("/events").header("last-event-id", "x")).await.problem(400, "invalid-parameter");
    assert_eq!(problem["errors"][0]["header"], "last-event-id");
    app.send(get("/tasks/none/events")).await.problem(404, "not-found");
    app.send(get("/tasks")).await.problem(406, "not-acceptable");
    app.get("/events?after=-1").await.problem(400, "invalid-parameter");
    assert_eq!(app.get("/events?after=latest").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_stream_ends_with_the_server_and_with_its_token() {
    let app = TestApp::start().await;
    let mut open = Stream::open(&app, "/events?after=latest", None).await;
    let made =
        app.request(reqwest::Method::POST, "/tokens", Some(json!({"name": "ann", "role": "admin"}))).await;
    let secret = made.expect(201)["secret"].as_str().unwrap().to_owned();
    // From the first token on nobody listens without one; the event that made it so is told, or the end comes first.
    while let Some(sent) = open.next().await {
        assert_eq!(sent.data["kind"], "token");
    }
    let app = app.with_token(&secret);
    let mut stream = Stream::open(&app, "/events?after=latest", None).await;
    let made =
        app.request(reqwest::Method::POST, "/tokens", Some(json!({"name": "dash", "role": "viewer"}))).await;
    made.expect(201);
    stream.until("token dash created, role viewer").await;
    let TestApp { app: server, folder: _folder, .. } = app;
    let (ended, ()) = tokio::join!(stream.next(), server.stop());
    assert_eq!(ended, None);
}

#[tokio::test]
async fn events_are_kept_within_bounds_and_a_gap_is_told() {
    let app = TestApp::start().await.with_task("a").await;
    app.post("/tasks/a/start?wait_ms=10000").await.expect(200);
    let events = app.get("/events").await.expect(200)["items"].as_array().unwrap().clone();
    let TestApp { app: server, stage, folder, .. } = app;
    server.stop().await;
    let database = format!("sqlite:{}", folder.path().join("data/tidegate.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    // The first three are old; and there are a few thousand more than are to be kept.
    let old = events[2]["id"].as_i64().unwrap();
    sqlx::query("update events set at = 0 where id <= ?").bind(old).execute(&pool).await.unwrap();
    sqlx::query(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 5000)
         insert into events (at, kind, message) select 4000000000000, 'noise', 'noise ' || n from n",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;

    let app = TestApp::start_in(folder, stage).await;
    let first = async |app: &TestApp| {
        app.get("/events?limit=1").await.expect(200)["items"][0]["id"].as_i64().unwrap()
    };
    for _ in 0..2000 {
        if first(&app).await == old + 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(first(&app).await, old + 1, "what is old is trimmed, and no more");
    let mut stream = Stream::open(&app, "/events", Some(1)).await;
    let gap = stream.next().await.unwrap();
    assert_eq!((gap.event.as_deref(), gap.id), (Some("gap"), Some(old)));
    assert_eq!(gap.data, json!({"from": 2, "to": old}));
    assert_eq!(stream.next().await.unwrap().id, Some(old + 1));
    let mut all = Stream::open(&app, "/events", None).await;
    assert_eq!(all.next().await.unwrap().id, Some(old + 1), "who asks for all there is misses nothing");

    let TestApp { app: server, stage, folder, .. } = app;
    server.stop().await;
    let few = tidegate::config::Config { event_rows: 1000, ..config(&folder) };
    let app = TestApp::start_as(folder, stage, &few).await;
    let newest = app.get("/events?after=latest").await;
    newest.expect(200);
    for _ in 0..2000 {
        if first(&app).await > old + 4000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let kept = first(&app).await;
    let page = app.get(&format!("/events?after={}&limit=500", kept + 499)).await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 500, "the newest thousand are there");
}

#[tokio::test]
async fn streams_are_bounded_and_a_place_that_is_left_is_free_again() {
    let app = TestApp::start().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(Stream::open(&app, "/events?after=latest", None).await);
    }
    let more = app.client.get(app.url("/events")).header("accept", "text/event-stream");
    let reply = app.send(more.try_clone().unwrap()).await;
    assert_eq!(reply.headers["retry-after"], "15");
    let problem = reply.problem(429, "too-many-streams");
    assert!(problem["detail"].as_str().unwrap().contains("256"), "{problem:#}");
    // Others are served as before, a page of events too.
    app.get("/events?after=latest").await.expect(200);
    open.pop();
    let end = Instant::now() + Duration::from_secs(30);
    while more.try_clone().unwrap().send().await.unwrap().status() != 200 {
        assert!(Instant::now() < end, "the place is not free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

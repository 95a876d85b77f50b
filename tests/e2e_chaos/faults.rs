//! What can go wrong around a server, and how each of it is played.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::json;

use support::proxy::Proxy;
use support::server::Server;
use support::stack::{Dialect, Stack};

/// The places where connections pass.
pub struct Places {
    pub tidb: Proxy,
    pub kafka: Proxy,
    pub target: Proxy,
}

impl Places {
    pub async fn new(stack: &Stack) -> Self {
        Self {
            tidb: Proxy::start(stack.tidb_port).await,
            kafka: Proxy::kafka(stack.kafka.rsplit(':').next().unwrap().parse().unwrap()).await,
            target: Proxy::start(stack.target().1).await,
        }
    }

    pub fn heal(&self) {
        for proxy in [&self.tidb, &self.kafka, &self.target] {
            proxy.heal(false);
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Fault {
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
    /// SIGTERM: it ends in order.
    Stop,
    /// By so many seconds, either way.
    Clock(i64),
    Restart(&'static str),
    Drainer,
    Resync,
    Pause,
    /// Of AnalyticDB, as tests/stack/README.md has them.
    Adb(&'static str),
}

impl Fault {
    pub fn choose(rng: &mut StdRng, dialect: Dialect, alone: bool, last: bool) -> Self {
        if alone && (last || rng.random_range(0..4) == 0) {
            return match rng.random_range(0..4) {
                0 => Self::Restart("tidb"),
                1 => Self::Restart("kafka"),
                2 => Self::Drainer,
                _ => Self::Restart("target"),
            };
        }
        match rng.random_range(0..100) {
            0..12 => Self::Cut,
            12..20 => Self::Refuse,
            20..28 => Self::Delay,
            28..42 => Self::Halve,
            42..60 => Self::Swallow { stuck: rng.random(), cut: rng.random() },
            60..71 => Self::Kill,
            71..74 => Self::Stop,
            74..80 => Self::Clock(*[-86_400, -3600, -5, 5, 3600, 86_400 * 400].choose(rng).unwrap()),
            80..85 => Self::Resync,
            85..88 => Self::Pause,
            _ if dialect == Dialect::Adb => Self::Adb(
                ["cut_before", "cut_after", "cut_late&ms=700", "cut_late&ms=3000", "twice", "lock", "busy"]
                    .choose(rng)
                    .unwrap(),
            ),
            _ => Self::Cut,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Refuse => "refuse",
            Self::Delay => "delay",
            Self::Halve => "halve",
            Self::Swallow { stuck: true, .. } => "stuck",
            Self::Swallow { .. } => "swallow",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Clock(_) => "clock",
            Self::Restart(part) => part,
            Self::Drainer => "drainer",
            Self::Resync => "resync",
            Self::Pause => "pause",
            Self::Adb(fault) => fault,
        }
    }

    /// Plays it to its end, where it has one; says where and for how long.
    pub async fn play(
        self,
        rng: &mut StdRng,
        stack: &Stack,
        schema: &str,
        places: &Places,
        clock: &Clock,
        server: &mut Server,
    ) -> String {
        // The next fault does not depend on what this one needs.
        let rng = &mut StdRng::seed_from_u64(rng.random());
        let place = rng.random_range(0..3);
        let proxy = [&places.tidb, &places.kafka, &places.target][place];
        let span = *[300, 300, 1500, 1500, 4000, 12_000].choose(rng).unwrap();
        let pause = Duration::from_millis(rng.random_range(0..=span));
        let at = ["tidb", "kafka", "target"][place];
        let at_for = format!("at {at} for {:.1} s", pause.as_secs_f64());
        match self {
            Self::Cut => proxy.cut(),
            Self::Halve => proxy.halve(rng.random_range(1..6)),
            Self::Refuse => {
                proxy.refuse();
                tokio::time::sleep(pause).await;
                proxy.heal(false);
                return at_for;
            }
            Self::Delay => {
                proxy.delay(Duration::from_millis(rng.random_range(5..400)));
                tokio::time::sleep(pause).await;
                proxy.heal(false);
                return at_for;
            }
            Self::Swallow { stuck, cut } => {
                proxy.swallow();
                tokio::time::sleep(pause).await;
                if cut && !stuck {
                    proxy.cut();
                }
                proxy.heal(stuck);
                return at_for;
            }
            Self::Kill | Self::Stop => {
                if matches!(self, Self::Kill) {
                    server.kill9()
                } else {
                    server.stop().await
                }
                tokio::time::sleep(pause / 4).await;
                server.spawn(&clock.settings());
                server.ready().await;
                return String::new();
            }
            Self::Clock(by) => {
                clock.jump(by);
                return String::new();
            }
            Self::Restart(part) => {
                let part = if part == "target" { stack.target_part() } else { part };
                // TiDB keeps its rows in memory until it ends in order.
                let killed = part != "tidb" && rng.random();
                match killed {
                    true => stack.kill_part(part).await,
                    false => stack.stop_part(part).await,
                }
                tokio::time::sleep(pause / 4).await;
                stack.start_part(part).await;
                return if killed { "killed" } else { "in order" }.to_owned();
            }
            Self::Drainer => {
                let _ = stack.try_drainer(Method::POST, "/drainer/restart?back_ms=2000").await;
                return String::new();
            }
            Self::Resync => {
                let body = json!({"tables": [{"schema": schema, "table": "k"}]});
                server.api.try_send(Method::POST, "/tasks/chaos/tables/resync", Some(&body)).await;
                return String::new();
            }
            Self::Pause => {
                server.api.try_send(Method::POST, "/tasks/chaos/pause?wait_ms=20000", Some(&json!({}))).await;
                tokio::time::sleep(pause / 4).await;
                server.api.try_send(Method::POST, "/tasks/chaos/resume", Some(&json!({}))).await;
                return String::new();
            }
            Self::Adb(fault) => {
                let skip = rng.random_range(0..6);
                // More than are tried again in place, and few enough for a DDL that is tried again by the task.
                let times = if fault == "busy" { "&times=9" } else { "" };
                let id = stack.adb_fault(&format!("do={fault}&match={schema}&skip={skip}{times}")).await;
                if fault == "lock" {
                    tokio::time::sleep(pause).await;
                    stack.adb_clear(id).await;
                }
                return format!("after {skip} statements");
            }
        }
        format!("at {at}")
    }
}

/// The wall clock of the server, which jumps; its monotonic clock does not, as on a real machine. It is our own hook: under libfaketime
/// librdkafka waits for hours.
pub struct Clock(tempfile::NamedTempFile);

impl Clock {
    pub fn new() -> Self {
        let clock = Self(tempfile::NamedTempFile::new().unwrap());
        clock.jump(0);
        clock
    }

    pub fn settings(&self) -> Vec<(String, String)> {
        vec![("TIDEGATE_CLOCK".to_owned(), self.0.path().display().to_string())]
    }

    fn jump(&self, seconds: i64) {
        std::fs::write(self.0.path(), (seconds * 1000).to_string()).unwrap();
    }
}

//! `make soak MINUTES=60`: rows, DDL and faults for a long time, while memory, open files, threads, the store's size and the lag
//! of the server are sampled. In the end both sides are the same, and nothing has grown. The samples are drawn to target/soak.svg and
//! written to target/soak.tsv.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use support::proxy::Proxy;
use support::server::Server;
use support::stack::Stack;
use support::workload::{self, Options, Workload};
use support::{api, compare, sql};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(300);

/// Seconds, and a figure for each of [`FIGURES`].
type Sample = (f64, [f64; 5]);
const FIGURES: [&str; 5] = ["resident memory, MiB", "open files", "threads", "store, MiB", "lag, s"];

fn sample(server: &Server, lag_ms: Option<f64>) -> Option<[f64; 5]> {
    let process = format!("/proc/{}", server.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let files = std::fs::read_dir(format!("{process}/fd")).ok()?.count();
    let store: u64 = server.files().iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    let mib = f64::from(1 << 20);
    Some([
        field("VmRSS:")? / 1024.0,
        files as f64,
        field("Threads:")?,
        store as f64 / mib,
        lag_ms.unwrap_or(0.0) / 1000.0,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows() {
    let Some(stack) = Stack::utc("nothing_grows") else { return };
    let minutes: f64 =
        std::env::var("TIDEGATE_MINUTES").map_or(10.0, |text| text.parse().expect("TIDEGATE_MINUTES"));
    let seed = workload::seed("soak");
    let mut rng = StdRng::seed_from_u64(seed);
    let workload = Workload::prepare(&stack, "soak", seed).await;
    let tidb = Proxy::start(stack.tidb_port).await;
    let kafka = Proxy::kafka(stack.kafka.rsplit(':').next().unwrap().parse().unwrap()).await;
    let target = Proxy::start(stack.target().1).await;
    let server = Server::start().await;
    let api = server.api.clone();
    api.put("/connections/tidb", &api::mysql("tidb", tidb.port)).await;
    let brokers = json!({"kind": "kafka", "brokers": [format!("127.0.0.1:{}", kafka.port)]});
    api.put("/connections/kafka", &brokers).await;
    api.put("/connections/target", &api::mysql(stack.target().0, target.port)).await;
    let include = workload.include();
    let mut spec = api::spec("soak", &stack, &[&include[0], &include[1]], &json!({}));
    api::merge(&mut spec, &api::policies(&stack));
    api.create_task(&spec).await;
    let running = workload.start(Options { calm_drops: true, ..Options::default() }).await;
    api.start("soak").await;

    let (began, mut samples) = (Instant::now(), Vec::<Sample>::new());
    let span = Duration::from_secs_f64(minutes * 60.0);
    let mut next_fault = Duration::from_secs(20);
    let mut heal: Option<(Duration, usize)> = None;
    let proxies = [&tidb, &kafka, &target];
    while began.elapsed() < span {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = began.elapsed();
        if let Some((at, place)) = heal
            && now >= at
        {
            proxies[place].heal(false);
            heal = None;
        }
        // The last tenth is calm: what faults have left behind must be gone.
        if heal.is_none() && now >= next_fault && now < span.mul_f64(0.9) {
            let place = rng.random_range(0..3);
            match rng.random_range(0..4) {
                0 => proxies[place].cut(),
                1 => proxies[place].halve(2),
                2 => proxies[place].refuse(),
                _ => proxies[place].swallow(),
            }
            heal = Some((now + Duration::from_millis(rng.random_range(500..15_000)), place));
            next_fault = now + Duration::from_secs(rng.random_range(10..60));
        }
        let task = api.task("soak").await;
        assert_ne!(task["status"], "failed", "{}", api.story("soak", &task).await);
        if let Some(figures) = sample(&server, task["lag_ms"].as_f64()) {
            samples.push((now.as_secs_f64(), figures));
        }
    }
    eprintln!("soak: {}", running.stop().await);
    api.wait_caught_up("soak", &stack, PATIENCE).await;
    write(&samples);
    let (mut source, mut target_side) = (sql::tidb(&stack).await, sql::target(&stack).await);
    let schemas = workload.schemas().map(|schema| (schema, schema));
    let (tables, rows) = compare::assert_schemas_equal(&mut source, &mut target_side, &schemas).await;
    eprintln!("soak: {tables} tables with {rows} rows are the same");
    for (nth, figure) in FIGURES.iter().enumerate() {
        let (early, late) = (median(&samples, nth, 0.2, 0.4), median(&samples, nth, 0.9, 1.0));
        eprintln!("soak: {figure}: {early:.1} early, {late:.1} at the end");
        let allowed = match nth {
            0 => early * 1.25 + 32.0,
            1 | 2 => early * 1.25 + 16.0,
            // The history of DDL, events and figures grows to its limits.
            3 => early * 2.0 + 16.0,
            // A fault's 15 seconds, and what it takes to come back from them.
            _ => 90.0,
        };
        assert!(late <= allowed, "{figure} has grown from {early:.1} to {late:.1}; see target/soak.svg");
    }
    sql::drop_schemas(&stack, &workload.schemas()).await;
}

fn median(samples: &[Sample], nth: usize, from: f64, to: f64) -> f64 {
    let count = samples.len() as f64;
    let range =
        (count * from) as usize..((count * to) as usize).max((count * from) as usize + 1).min(samples.len());
    let mut values: Vec<f64> = samples[range].iter().map(|(_, figures)| figures[nth]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn write(samples: &[Sample]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let mut table = format!("seconds\t{}\n", FIGURES.join("\t"));
    for (second, figures) in samples {
        let figures: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
        let _ = writeln!(table, "{second:.1}\t{}", figures.join("\t"));
    }
    std::fs::write(folder.join("soak.tsv"), table).unwrap();
    std::fs::write(folder.join("soak.svg"), draw(samples)).unwrap();
}

fn draw(samples: &[Sample]) -> String {
    let (width, height) = (800.0, 120.0);
    let last = samples.last().map_or(1.0, |(second, _)| *second);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='{}' font-family='sans-serif' font-size='12'>\
         <rect width='100%' height='100%' fill='white'/>",
        FIGURES.len() * 160
    );
    for (nth, figure) in FIGURES.iter().enumerate() {
        let top = nth as f64 * 160.0 + 25.0;
        let most = samples.iter().map(|(_, figures)| figures[nth]).fold(0.001, f64::max);
        let points: Vec<_> = samples
            .iter()
            .map(|(second, figures)| {
                format!(
                    "{:.1},{:.1}",
                    60.0 + second / last * width,
                    top + height - figures[nth] / most * height
                )
            })
            .collect();
        let _ = write!(
            svg,
            "<text x='60' y='{}'>{figure} (up to {most:.1}, {:.0} minutes)</text>\
             <path d='M60 {top}V{bottom}H{right}' fill='none' stroke='#999'/>\
             <polyline points='{}' fill='none' stroke='#06c'/>",
            top - 6.0,
            last / 60.0,
            points.join(" "),
            bottom = top + height,
            right = 60.0 + width,
        );
    }
    svg + "</svg>\n"
}

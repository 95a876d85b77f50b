//! docs/metrics.md lists all metrics and figures; the alert rules and the dashboard of Grafana speak of ones that are there. Whether
//! the rules are Prometheus' own, and fire when they should, is asked of promtool by deploy/check.sh.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use tidegate::observe::figures::Figure;
use tidegate::telemetry::{FAMILIES, Kind};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The two tables of docs/metrics.md.
fn tables() -> [String; 2] {
    let mut metrics = String::from("| metric | kind | labels | |\n|---|---|---|---|\n");
    for family in FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        metrics += &format!("| `{}` | {kind} | {} | {} |\n", family.name, family.labels, family.about);
    }
    let mut figures = String::from("| name | unit | in a wider step | |\n|---|---|---|---|\n");
    for figure in Figure::ALL {
        let aggregate = serde_json::to_value(figure.aggregate()).unwrap();
        let aggregate = aggregate.as_str().unwrap();
        figures +=
            &format!("| `{}` | {} | {aggregate} | {} |\n", figure.name(), figure.unit(), figure.about());
    }
    [metrics, figures]
}

#[test]
fn the_document_lists_every_metric_and_every_figure() {
    let path = "docs/metrics.md";
    let mut text = read(path);
    if std::env::var_os("TIDEGATE_WRITE_METRICS").is_some_and(|write| write == "1") {
        for (name, table) in ["metrics", "figures"].into_iter().zip(tables()) {
            let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
            let from = text.find(&begin).expect("the mark before the table") + begin.len();
            let to = text.find(&end).expect("the mark after the table");
            text.replace_range(from..to, &table);
        }
        std::fs::write(file(path), &text).unwrap();
    }
    for table in tables() {
        assert!(
            text.contains(&table),
            "{path} is not up to date: TIDEGATE_WRITE_METRICS=1 writes it. Wanted:\n{table}"
        );
    }
}

#[test]
fn rules_and_dashboard_use_metrics_that_are_there() {
    let name = Regex::new(r"tidegate_[a-z_]+").unwrap();
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    for path in [
        "deploy/prometheus/tidegate.rules.yml",
        "deploy/prometheus/tidegate.rules.test.yml",
        "deploy/grafana/tidegate.json",
        "docs/metrics.md",
    ] {
        let text = read(path);
        let mut found = 0;
        for used in name.find_iter(&text).map(|used| used.as_str()) {
            // A histogram has three series.
            let plain = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| used.strip_suffix(end).filter(|plain| known.contains(plain)));
            assert!(known.contains(used) || plain.is_some(), "{path} speaks of {used}, which is no metric");
            found += 1;
        }
        assert!(found > 0, "{path} speaks of no metric");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/tidegate.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

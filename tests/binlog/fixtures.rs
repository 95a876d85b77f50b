//! Captured messages: Drainer v2.1, the translator of v7.5, and two histories under two time zones.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use flate2::read::GzDecoder;
use serde_json::Value;

pub struct Captured {
    pub name: String,
    pub commit_ts: Option<u64>,
    pub payload: Vec<u8>,
}

pub const HISTORIES: [&str; 4] = [
    "histories/A/UTC/messages.jsonl.gz",
    "histories/A/Asia_Shanghai/messages.jsonl.gz",
    "histories/A_quirks/UTC/messages.jsonl.gz",
    "histories/A_quirks/Asia_Shanghai/messages.jsonl.gz",
];

pub fn all() -> Vec<Captured> {
    let mut all = read("drainer/v2.1.jsonl");
    all.extend(read("drainer/v7.5-translator.jsonl"));
    all.extend(HISTORIES.iter().flat_map(|history| read(history)));
    all
}

pub fn read(file: &str) -> Vec<Captured> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let bytes = std::fs::read(&path).unwrap();
    let mut text = String::new();
    if file.ends_with(".gz") {
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let value = line.get("value_base64").or(line.get("value")).unwrap().as_str().unwrap();
            Captured {
                name: format!("{file} offset {}", line["offset"]),
                commit_ts: line.get("commit_ts").and_then(Value::as_u64),
                payload: base64::engine::general_purpose::STANDARD.decode(value).unwrap(),
            }
        })
        .collect()
}

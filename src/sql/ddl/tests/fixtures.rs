//! The DDL events of the recorded topics.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use base64::Engine;
use prost::Message;

pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[derive(Clone, PartialEq, Message)]
struct Binlog {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "4")]
    ddl: Option<Ddl>,
}

#[derive(Clone, PartialEq, Message)]
struct Ddl {
    #[prost(bytes = "vec", optional, tag = "1")]
    schema: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    table: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    query: Option<Vec<u8>>,
}

pub(super) struct Event {
    pub schema: String,
    pub table: String,
    pub query: Vec<u8>,
}

impl Event {
    pub fn text(&self) -> String {
        String::from_utf8(self.query.clone()).unwrap()
    }
}

/// The DDL events of a file of messages, in order.
pub(super) fn events(name: &str) -> Vec<Event> {
    let bytes = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    let mut events = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let value = line.get("value").or_else(|| line.get("value_base64")).unwrap().as_str().unwrap();
        let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
        let Some(ddl) = Binlog::decode(value.as_slice()).unwrap().ddl else { continue };
        let string = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
        events.push(Event {
            schema: string(ddl.schema),
            table: string(ddl.table),
            query: ddl.query.unwrap_or_default(),
        });
    }
    events
}

pub(super) const HISTORIES: &[&str] = &[
    "histories/A/UTC/messages.jsonl.gz",
    "histories/A/Asia_Shanghai/messages.jsonl.gz",
    "histories/A_quirks/UTC/messages.jsonl.gz",
    "histories/A_quirks/Asia_Shanghai/messages.jsonl.gz",
];

pub(super) const RECORDINGS: &[&str] = &["drainer/v2.1.jsonl", "drainer/v7.5-translator.jsonl"];

/// The statements of ddl.sql.
pub(super) fn statements() -> Vec<String> {
    let text = fs::read_to_string(path("ddl.sql")).unwrap();
    text.split("\n;").map(|statement| statement.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// Every DDL text of every fixture.
pub(super) fn all_texts() -> Vec<String> {
    let recorded = HISTORIES.iter().chain(RECORDINGS).flat_map(|name| events(name));
    recorded.map(|event| event.text()).chain(statements()).collect()
}

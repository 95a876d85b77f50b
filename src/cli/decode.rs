//! `tidegate decode`: prints Drainer messages in readable form, from files, from text, or from a topic.

use std::io::{Read, Write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::binlog::{ChangeSource, Detail, Incoming, Message, Start, Topic, describe};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{KafkaEndpoint, Offset, Sasl, Tls, TlsMode, Tso};

/// Rows of one message shown with --values.
const ROWS: usize = 1000;

/// How a file or standard input holds its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// What it looks like: a Drainer message in raw bytes is never text
    Auto,
    /// The bytes of one message
    Raw,
    /// One message in hexadecimal; white space is passed over
    Hex,
    /// One message in base64; white space is passed over
    Base64,
    /// One JSON object per line with the message as base64 in `value` or `value_base64`
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Disabled,
    Required,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate decode message.bin                      one message in a file
  tidegate decode --hex 080110818080eddadf81c406   one message as text
  kcat -C -b kafka:9092 -t 7032_obinlog -o 12 -c 1 -e -q | head -c -1 | tidegate decode -
  tidegate decode --brokers kafka:9092 --topic 7032_obinlog --count 20            the last 20 messages
  tidegate decode --brokers kafka:9092 --topic 7032_obinlog --offset 12 --values  the message at 12, with its rows
  tidegate decode --brokers kafka:9092 --topic 7032_obinlog --tso 470633847670177793 --json | jq .tables

For each message: offset, commit_ts and its time, size; of a DDL its text; of a transaction per table the columns (`*` = primary key),
unique keys and numbers of changes. Nothing is changed: no group is joined, no offset is committed.
The exit code is 1 when a message was not one of Drainer's; the others are printed all the same.")]
pub struct Decode {
    /// Files with messages; `-` is standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How the files hold their messages
    #[arg(long, value_enum, default_value_t = Form::Auto)]
    pub form: Form,
    /// A message in hexadecimal
    #[arg(long, value_name = "DIGITS")]
    pub hex: Vec<String>,
    /// A message in base64
    #[arg(long, value_name = "TEXT")]
    pub base64: Vec<String>,
    /// Brokers to read from, `host:port`, divided by commas
    #[arg(long, value_delimiter = ',', requires = "topic")]
    pub brokers: Vec<String>,
    /// Topic to read
    #[arg(long, requires = "brokers")]
    pub topic: Option<String>,
    /// First offset; without it the end of the topic is shown
    #[arg(long, requires = "topic")]
    pub offset: Option<i64>,
    /// Begin where transactions above this TSO begin
    #[arg(long, requires = "topic", conflicts_with = "offset")]
    pub tso: Option<u64>,
    /// Messages of the topic to print
    #[arg(long, default_value_t = 1)]
    pub count: u64,
    /// User of the brokers (SASL)
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// File with the password; a password on a command line can be seen by everybody on the machine
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, default_value = "SCRAM-SHA-256")]
    pub mechanism: String,
    /// TLS to the brokers
    #[arg(long, value_enum, default_value_t = Mode::Disabled)]
    pub tls: Mode,
    /// PEM file of the authority that signed the brokers' certificates
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Show the values of rows, at most 1,000 per message
    #[arg(long)]
    pub values: bool,
    /// One JSON object per message, on a line of its own
    #[arg(long)]
    pub json: bool,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| wrong(format!("cannot be read: {error}")).object(path.display()))?;
    Ok(bytes)
}

fn read_text(path: &PathBuf) -> Result<String> {
    String::from_utf8(read_file(path)?).map_err(|_| wrong("is not text").object(path.display()))
}

type Decoder = fn(&str) -> Option<Vec<u8>>;

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// The messages of a file, each with the offset that the file gives it.
fn messages(bytes: Vec<u8>, form: Form) -> Result<Vec<(Option<String>, Vec<u8>)>> {
    let text = || std::str::from_utf8(&bytes).map_err(|_| wrong("is not text"));
    let one = |bytes: Option<Vec<u8>>, what: &str| {
        bytes.map(|bytes| vec![(None, bytes)]).ok_or_else(|| wrong(format!("is not {what}")))
    };
    match form {
        Form::Raw => Ok(vec![(None, bytes)]),
        Form::Hex => one(from_hex(text()?), "hexadecimal"),
        Form::Base64 => one(from_base64(text()?), "base64"),
        Form::Jsonl => text()?
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(n, line)| {
                let fault = |what: &str| wrong(format!("line {}: {what}", n + 1));
                let line: Value = serde_json::from_str(line).map_err(|error| fault(&error.to_string()))?;
                let value = line.get("value_base64").or(line.get("value")).and_then(Value::as_str);
                let value = value.ok_or_else(|| fault("has no `value` or `value_base64`"))?;
                let offset = line.get("offset").map(ToString::to_string);
                Ok((offset, from_base64(value).ok_or_else(|| fault("its value is not base64"))?))
            })
            .collect(),
        Form::Auto => {
            let plain = std::str::from_utf8(&bytes).ok();
            if plain.is_some_and(|text| text.trim_start().starts_with('{')) {
                return messages(bytes, Form::Jsonl);
            }
            match plain.and_then(|text| from_hex(text).or_else(|| from_base64(text))) {
                Some(decoded) => Ok(vec![(None, decoded)]),
                None => Ok(vec![(None, bytes)]),
            }
        }
    }
}

/// Prints messages, and remembers whether all were Drainer's.
struct Printer<'a> {
    out: &'a mut dyn Write,
    detail: Detail,
    json: bool,
    good: bool,
}

impl Printer<'_> {
    fn print(&mut self, offset: Option<&str>, payload: &[u8]) -> Result<()> {
        let described = Message::parse(payload).and_then(|message| {
            message.validate()?;
            describe(&message, self.detail)
        });
        let written = match described {
            Ok(description) if self.json => {
                let mut value = serde_json::to_value(&description).map_err(Error::internal)?;
                value["commit_ts"] = description.commit_ts.to_string().into();
                if let Some(offset) = offset {
                    value["offset"] = offset.into();
                }
                writeln!(self.out, "{value}")
            }
            Ok(description) => match offset {
                Some(offset) => writeln!(self.out, "offset {offset}: {description}"),
                None => writeln!(self.out, "{description}"),
            },
            Err(fault) => {
                self.good = false;
                let text = format!("not a message of Drainer: {fault}");
                if self.json {
                    writeln!(
                        self.out,
                        "{}",
                        json!({"offset": offset, "size": payload.len(), "malformed": text})
                    )
                } else {
                    let place = offset.map(|offset| format!("offset {offset}: ")).unwrap_or_default();
                    writeln!(self.out, "{place}{} bytes: {text}", payload.len())
                }
            }
        };
        written.map_err(|error| wrong(format!("standard output: {error}")))
    }
}

/// Prints what is asked for. False when a message was not one of Drainer's.
///
/// # Errors
/// `Configuration` when there is nothing to be read; what the broker says.
pub async fn run(ask: &Decode, out: &mut (dyn Write + Send)) -> Result<bool> {
    let detail = if ask.values { Detail::Values(ROWS) } else { Detail::Shape };
    let nothing = ask.files.is_empty() && ask.hex.is_empty() && ask.base64.is_empty() && ask.topic.is_none();
    if nothing {
        return Err(wrong("nothing to decode").hint(
            "name a file, `-` for standard input, --hex, --base64, or --brokers with --topic; see --help",
        ));
    }
    let mut good = true;
    let mut texts: Vec<(&String, Decoder, &str)> = Vec::new();
    texts.extend(ask.hex.iter().map(|text| (text, from_hex as Decoder, "hexadecimal")));
    texts.extend(ask.base64.iter().map(|text| (text, from_base64 as Decoder, "base64")));
    for (text, decode, what) in texts {
        let bytes = decode(text).ok_or_else(|| wrong(format!("is not {what}")).object(text))?;
        let mut printer = Printer { out: &mut *out, detail, json: ask.json, good: true };
        printer.print(None, &bytes)?;
        good &= printer.good;
    }
    for file in &ask.files {
        for (offset, bytes) in
            messages(read_file(file)?, ask.form).map_err(|error| error.object(file.display()))?
        {
            let mut printer = Printer { out: &mut *out, detail, json: ask.json, good: true };
            printer.print(offset.as_deref(), &bytes)?;
            good &= printer.good;
        }
    }
    if let Some(topic) = &ask.topic {
        good &= of_topic(ask, topic, detail, out).await?;
    }
    Ok(good)
}

fn endpoint(ask: &Decode) -> Result<KafkaEndpoint> {
    let sasl = match (&ask.user, &ask.password_file) {
        (Some(user), Some(file)) => Some(Sasl {
            mechanism: ask.mechanism.clone(),
            user: user.clone(),
            password: SecretString::from(read_text(file)?.trim_end_matches(['\r', '\n']).to_owned()),
        }),
        _ => None,
    };
    let mode = match ask.tls {
        Mode::Disabled => TlsMode::Disabled,
        Mode::Required => TlsMode::Required,
        Mode::VerifyCa => TlsMode::VerifyCa,
        Mode::VerifyFull => TlsMode::VerifyFull,
    };
    let ca = ask.ca.as_ref().map(read_text).transpose()?;
    Ok(KafkaEndpoint { brokers: ask.brokers.clone(), sasl, tls: Tls { mode, ca } })
}

async fn of_topic(ask: &Decode, name: &str, detail: Detail, out: &mut (dyn Write + Send)) -> Result<bool> {
    let topic = Topic::new(&endpoint(ask)?, name)?;
    let range = topic.log_range().await?;
    let start = match (ask.offset, ask.tso) {
        (Some(offset), _) => Offset(offset),
        (None, Some(tso)) => topic.find_start(Start::After(Tso(tso))).await?,
        (None, None) => Offset((range.end.0 - ask.count.min(1 << 40) as i64).max(range.start.0)),
    };
    let (mut left, mut good) = (ask.count, true);
    let mut source = topic.open(start).await?;
    while left > 0 {
        match source.next().await? {
            Incoming::CaughtUp => break,
            Incoming::Message(message) => {
                // The place found for a TSO lies some way before it.
                let early = ask.tso.is_some_and(|tso| {
                    Message::parse(&message.payload).is_ok_and(|message| message.commit_ts <= Tso(tso))
                });
                if early {
                    continue;
                }
                let mut printer = Printer { out: &mut *out, detail, json: ask.json, good: true };
                printer.print(Some(&message.offset.to_string()), &message.payload)?;
                good &= printer.good;
                left -= 1;
            }
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        decode: Decode,
    }

    async fn printed(arguments: &[&str]) -> (Result<bool>, String) {
        let line = Line::parse_from([&["decode"], arguments].concat());
        let mut out = Vec::new();
        let outcome = run(&line.decode, &mut out).await;
        (outcome, String::from_utf8(out).unwrap())
    }

    /// `create database d1` as a Drainer of v2.1 wrote it.
    const CREATE: &str = "CAEQgYCg7drfgcQGIhoKAmQxEgAaEmNyZWF0ZSBkYXRhYmFzZSBkMQ==";

    #[tokio::test]
    async fn a_message_is_the_same_in_every_form() {
        let bytes = STANDARD.decode(CREATE).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (raw, text) = (file("raw", &bytes), file("hex", hex.as_bytes()));
        let lines = file("lines", format!("{{\"offset\": 7, \"value\": \"{CREATE}\"}}\n\n").as_bytes());
        let coded = file("base64", format!("{CREATE}\n").as_bytes());
        let first = printed(&["--base64", CREATE]).await.1;
        assert!(first.starts_with("commit_ts 470633847670177793 (2026-11-2"), "{first}");
        assert!(first.ends_with("40 bytes: DDL on database d1\n  create database d1\n"), "{first}");
        for arguments in [
            &["--hex", hex.as_str()][..],
            &[raw.as_str()],
            &[text.as_str()],
            &[coded.as_str()],
            &["--form", "raw", raw.as_str()],
            &["--form", "hex", text.as_str()],
            &["--form", "base64", coded.as_str()],
        ] {
            let (outcome, text) = printed(arguments).await;
            assert!(outcome.unwrap());
            assert_eq!(text, first, "{arguments:?}");
        }
        assert_eq!(printed(&[&lines]).await.1, format!("offset 7: {first}"));
        let (_, json) = printed(&["--json", &lines]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["offset"], &json["kind"], &json["commit_ts"], &json["query"]),
            (&json!("7"), &json!("ddl"), &json!("470633847670177793"), &json!("create database d1"))
        );
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_and_the_rest_is_printed() {
        let (outcome, text) = printed(&["--hex", "ff", "--base64", CREATE]).await;
        assert!(!outcome.unwrap());
        assert!(text.starts_with("1 bytes: not a message of Drainer: "), "{text}");
        assert!(text.ends_with("create database d1\n"));
        for arguments in [&["--hex", "0x"][..], &["--hex", "abc"], &["--base64", "?"], &["no-such-file"], &[]]
        {
            printed(arguments).await.0.unwrap_err();
        }
    }
}

//! `tidegate check`: is it sound? A task's spec or a connection in a file, or a data folder, before the server meets it.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::app::KEY_CHECK;
use crate::crypto::Keyring;
use crate::engine::endpoints::join;
use crate::error::{Error, ErrorKind, Result};
use crate::precheck::CheckOutcome;
use crate::store::Store;
use crate::task::connection::{ConnectionInput, SecretChange};
use crate::task::fault::Fault;
use crate::{api, service};

#[derive(Debug, Clone, Subcommand)]
pub enum Check {
    /// A task's spec: the JSON of POST /tasks
    ///
    /// Every fault is told with its place. Whether the connections are there and what the servers say is asked by the server:
    /// POST /tasks?dry_run=true and the task's precheck.
    Spec(File),
    /// A connection: the JSON of PUT /connections/{name}, with its password
    ///
    /// Reaches the server, logs in, and tells version, privileges, clock and latency, as the API's test does.
    Connection(File),
    /// A data folder: store, key, and whether they belong together
    ///
    /// Also while a server runs there; nothing is changed.
    Data(Folder),
}

#[derive(Debug, Clone, Args)]
pub struct File {
    /// A JSON file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct Folder {
    /// Folder of the store
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "./tidegate-data")]
    pub data_dir: PathBuf,
    /// File with the key [default: `key` in the data folder]
    #[arg(long, env = "TIDEGATE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

/// One thing that was looked at.
struct Line {
    outcome: CheckOutcome,
    what: String,
    detail: String,
    hint: Option<String>,
}

impl Line {
    fn new(outcome: CheckOutcome, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { outcome, what: what.into(), detail: detail.into(), hint: None }
    }

    fn failed(what: &str, error: &Error) -> Self {
        Self { hint: Some(error.cure()), ..Self::new(CheckOutcome::Fail, what, error.to_string()) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.outcome {
            CheckOutcome::Pass => "pass",
            CheckOutcome::Warn => "warn",
            CheckOutcome::Fail => "FAIL",
            CheckOutcome::Skipped => "skip",
        };
        write!(f, "{word}  {}: {}", self.what, self.detail)?;
        match &self.hint {
            Some(hint) => write!(f, "\n      {hint}"),
            None => Ok(()),
        }
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let fault = |text: String| Error::new(ErrorKind::Configuration, text).object(path.display());
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| fault(format!("is not JSON: {error}")))
}

fn faults(found: Vec<Fault>) -> Vec<Line> {
    let line = |fault: Fault| {
        let place = if fault.pointer.is_empty() { "/".to_owned() } else { fault.pointer };
        Line::new(CheckOutcome::Fail, place, fault.detail)
    };
    found.into_iter().map(line).collect()
}

/// Checks and prints. False when something fails.
///
/// # Errors
/// `Configuration` when the file cannot be read.
pub async fn run(ask: &Check, out: &mut (dyn Write + Send)) -> Result<bool> {
    let lines = match ask {
        Check::Spec(file) => match api::judge_spec(read_json(&file.file)?) {
            Ok(spec) => vec![Line::new(CheckOutcome::Pass, spec.name, "the spec is sound")],
            Err(found) => faults(found),
        },
        Check::Connection(file) => connection(read_json(&file.file)?).await?,
        Check::Data(folder) => data(folder).await,
    };
    for line in &lines {
        writeln!(out, "{line}")
            .map_err(|error| Error::new(ErrorKind::Configuration, format!("standard output: {error}")))?;
    }
    Ok(lines.iter().all(|line| line.outcome != CheckOutcome::Fail))
}

async fn connection(body: Value) -> Result<Vec<Line>> {
    let input: ConnectionInput = match api::judge_connection(body) {
        Ok(input) => input,
        Err(found) => return Ok(faults(found)),
    };
    let (settings, change) = match input.into_parts() {
        Ok(parts) => parts,
        Err(found) => return Ok(faults(found)),
    };
    let secret = match change {
        SecretChange::Set(text) => Some(text),
        SecretChange::Keep | SecretChange::Clear => None,
    };
    let opened = join(&settings, secret)?;
    let steps = service::connections::test(&opened)
        .await
        .map_err(|refusal| Error::new(ErrorKind::Unreachable, format!("{refusal:?}")).object("connection"))?;
    let line = |step: crate::precheck::TestStep| Line {
        outcome: step.outcome,
        what: step.id,
        detail: step.detail,
        hint: step.hint,
    };
    Ok(steps.into_iter().map(line).collect())
}

async fn data(folder: &Folder) -> Vec<Line> {
    let path = folder.data_dir.join("tidegate.db");
    let store = match Store::inspect(&path).await {
        Ok(store) => store,
        Err(error) => return vec![Line::failed("store", &error)],
    };
    let mut lines = Vec::new();
    match store.integrity().await {
        Ok(faults) if faults.is_empty() => {
            lines.push(Line::new(CheckOutcome::Pass, "store", format!("{} is whole", path.display())));
        }
        Ok(faults) => {
            let mut line = Line::new(CheckOutcome::Fail, "store", faults.join("; "));
            line.hint = Some("bring back the last backup; the tasks go on from its checkpoints".to_owned());
            lines.push(line);
        }
        Err(error) => lines.push(Line::failed("store", &error)),
    }
    match store.pending_migrations().await {
        Ok(0) => lines.push(Line::new(CheckOutcome::Pass, "version", "the store is of this version")),
        Ok(pending) if pending > 0 => lines.push(Line::new(
            CheckOutcome::Warn,
            "version",
            format!("an older version wrote it: the next start makes {pending} changes to it, and there is no way back but a backup"),
        )),
        Ok(_) => {
            let mut line = Line::new(CheckOutcome::Fail, "version", "a newer version wrote it");
            line.hint = Some("start that version, or bring back a backup of this one's".to_owned());
            lines.push(line);
        }
        Err(error) => lines.push(Line::failed("version", &error)),
    }
    let key = folder.key_file.clone().unwrap_or_else(|| folder.data_dir.join("key"));
    lines.push(match (Keyring::load(&key), store.meta(KEY_CHECK).await) {
        (Err(error), _) | (_, Err(error)) => Line::failed("key", &error),
        (Ok(keyring), Ok(Some(check))) if keyring.accepts(&check) => {
            Line::new(CheckOutcome::Pass, "key", format!("{} opens the store's secrets", key.display()))
        }
        (Ok(_), Ok(Some(_))) => {
            let mut line = Line::new(
                CheckOutcome::Fail,
                "key",
                format!("{} is not the key that this store was sealed with", key.display()),
            );
            line.hint = Some("give the right one with --key-file".to_owned());
            line
        }
        (Ok(_), Ok(None)) => {
            Line::new(CheckOutcome::Warn, "key", "the store has not been used with a key yet")
        }
    });
    match store.task_counts().await {
        Ok(counts) => {
            let parts: Vec<_> =
                counts.iter().map(|(status, count)| format!("{count} {}", status.as_str())).collect();
            let detail = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            lines.push(Line::new(CheckOutcome::Pass, "tasks", detail));
        }
        Err(error) => lines.push(Line::failed("tasks", &error)),
    }
    store.close().await;
    lines
}

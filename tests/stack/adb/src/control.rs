//! The control endpoint: HTTP/1.0 with queries, answers in JSON. tests/stack/README.md lists the calls.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::refusal::Refusal;
use crate::script::{Action, Fault, Script};

const FOREVER: u64 = u64::MAX;

pub fn serve(listener: &TcpListener, script: &Script) {
    for stream in listener.incoming().flatten() {
        let script = script.clone();
        std::thread::spawn(move || answer(stream, &script));
    }
}

fn answer(mut stream: TcpStream, script: &Script) -> Option<()> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut header = String::from("x");
    while !header.trim().is_empty() {
        header.clear();
        if reader.read_line(&mut header).ok()? == 0 {
            break;
        }
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (status, body) = match call(method, target, script) {
        Ok(body) => ("200 OK", body),
        Err(error) => ("409 Conflict", format!("{{\"error\":{}}}", text(&error))),
    };
    write!(
        stream,
        "HTTP/1.0 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

fn call(method: &str, target: &str, script: &Script) -> Result<String, String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<(String, String)> = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect();
    let get = |name: &str| parts.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let number = |name: &str, other: u64| match get(name) {
        Some(value) => value.parse::<u64>().map_err(|_| format!("{name} is not a number")),
        None => Ok(other),
    };
    match (method, path) {
        ("GET", "/adb/status") => Ok(status(script, &matching(get("match")))),
        ("POST", "/adb/fault") => {
            let pause = Duration::from_millis(number("ms", 1000)?);
            let error = |code: u16, text: &str| -> Result<Action, String> {
                let code = u16::try_from(number("code", u64::from(code))?)
                    .map_err(|_| "code is too large".to_owned())?;
                Ok(Action::Refuse(Refusal { code, text: get("text").unwrap_or(text).to_owned() }))
            };
            let what = get("do").unwrap_or_default();
            let (action, times) = match what {
                "lock" => (
                    error(
                        30101,
                        "[30101] the disk is full, the cluster is locked and not allowed to write in readonly mode",
                    )?,
                    FOREVER,
                ),
                "busy" => (error(30102, "[30102] Resource busy, try again later")?, 1),
                "refuse" => (error(30103, "[30103] the statement was refused")?, 1),
                "slow" => (Action::Slow(pause), FOREVER),
                "cut_before" => (Action::CutBefore, 1),
                "cut_after" => (Action::CutAfter, 1),
                "cut_late" => (Action::CutLate(pause), 1),
                "twice" => (Action::Twice, FOREVER),
                other => return Err(format!("unknown: do={other}")),
            };
            let writes_only = what != "slow" && what != "refuse";
            let (skip, times) = (number("skip", 0)?, number("times", times)?);
            let id = script.add(Fault {
                id: 0,
                matching: matching(get("match")),
                writes_only,
                skip,
                times,
                action,
                met: 0,
            });
            Ok(format!("{{\"id\":{id}}}"))
        }
        ("POST", "/adb/clear") => {
            let id = number("id", 0)?;
            let mut inner = script.lock();
            let words = matching(get("match"));
            inner.faults.retain(|fault| match (id, words.as_slice()) {
                (0, []) => false,
                (0, words) => !words.iter().all(|word| fault.matching.contains(word)),
                (id, _) => fault.id != id,
            });
            Ok(format!("{{\"faults\":{}}}", inner.faults.len()))
        }
        _ => Err(format!("unknown: {method} {path}")),
    }
}

fn matching(words: Option<&str>) -> Vec<String> {
    words
        .unwrap_or_default()
        .to_lowercase()
        .split('|')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn status(script: &Script, matching: &[String]) -> String {
    let inner = script.lock();
    let refused: Vec<_> = inner
        .last_refused
        .iter()
        .filter(|(sql, ..)| matching.iter().all(|word| sql.to_lowercase().contains(word)))
        .map(|(sql, code, why)| format!("{{\"sql\":{},\"code\":{code},\"text\":{}}}", text(sql), text(why)))
        .collect();
    let faults: Vec<_> = inner
        .faults
        .iter()
        .map(|fault| {
            let happened = fault.met.saturating_sub(fault.skip);
            format!(
                "{{\"id\":{},\"match\":{},\"happened\":{happened}}}",
                fault.id,
                text(&fault.matching.join("|"))
            )
        })
        .collect();
    format!(
        "{{\"statements\":{},\"refused\":{},\"last_refused\":[{}],\"faults\":[{}]}}",
        inner.statements,
        inner.refused,
        refused.join(","),
        faults.join(",")
    )
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0);
                (digit() * 16 + digit()) as u8
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As JSON.
fn text(value: &str) -> String {
    let mut quoted = String::from('"');
    for letter in value.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if letter < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

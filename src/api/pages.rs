//! Pages for people: the dashboard, and what a problem means.

use std::fmt::Write;

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;

use super::problem::{Problem, ProblemCode};
use super::request::Segments;
use crate::service::Service;

/// What can happen to a task; the API's own problems are [`ProblemCode`]'s.
const ERRORS: &[(&str, &str)] = &[
    ("unreachable", include_str!("../../docs/problems/unreachable.md")),
    ("access-denied", include_str!("../../docs/problems/access-denied.md")),
    ("missing", include_str!("../../docs/problems/missing.md")),
    ("contention", include_str!("../../docs/problems/contention.md")),
    ("target-locked", include_str!("../../docs/problems/target-locked.md")),
    ("value-refused", include_str!("../../docs/problems/value-refused.md")),
    ("statement-refused", include_str!("../../docs/problems/statement-refused.md")),
    ("stopped-by-policy", include_str!("../../docs/problems/stopped-by-policy.md")),
    ("position-lost", include_str!("../../docs/problems/position-lost.md")),
    ("snapshot-lost", include_str!("../../docs/problems/snapshot-lost.md")),
    ("corrupt-message", include_str!("../../docs/problems/corrupt-message.md")),
    ("schema-mismatch", include_str!("../../docs/problems/schema-mismatch.md")),
    ("configuration", include_str!("../../docs/problems/configuration.md")),
    ("fenced", include_str!("../../docs/problems/fenced.md")),
    ("store", include_str!("../../docs/problems/store.md")),
    ("internal-error", include_str!("../../docs/problems/internal-error.md")),
];

const STYLE: &str = "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}\
code{background:#8882;padding:.1em .3em;border-radius:.2em}</style>";

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/", get(home))
        .route("/problems", get(problems))
        .route("/problems/{code}", get(problem))
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>{STYLE}<h1>{title}</h1>{body}</html>"
    ))
}

/// Tasks, how they are and what their figures were: one file that asks the API for everything, with a token where one is needed.
const DASHBOARD: &str = include_str!("dashboard.html");

/// The page talks to this server alone, and nobody puts it into a frame.
const POLICY: &str = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

async fn home() -> impl IntoResponse {
    std::future::ready(([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(DASHBOARD))).await
}

async fn problems() -> Html<String> {
    let mut body = String::from("<ul>");
    for code in ProblemCode::ALL {
        let word = code.as_str();
        let _ = write!(
            body,
            "<li><a href=/problems/{word}><code>{word}</code></a> {} {}",
            code.status().as_u16(),
            code.title()
        );
    }
    body.push_str("</ul><h2>Errors of tasks</h2><ul>");
    for (name, text) in ERRORS {
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let _ = write!(body, "<li><a href=/problems/{name}><code>{name}</code></a> {title}");
    }
    body.push_str("</ul>");
    std::future::ready(page("Problems", &body)).await
}

async fn problem(Segments(code): Segments<String>) -> Result<Html<String>, Problem> {
    if let Some((_, text)) = ERRORS.iter().find(|(name, _)| *name == code) {
        return Ok(error_page(text));
    }
    let found = ProblemCode::ALL.iter().find(|known| known.as_str() == code);
    let found =
        found.ok_or_else(|| Problem::not_found("there is no problem of this code; /problems lists them"));
    let code = std::future::ready(found).await?;
    Ok(page(
        code.title(),
        &format!(
            "<p><code>{}</code>, status {}</p><h2>Cause</h2><p>{}</p><h2>Cure</h2><p>{}</p><p><a href=/problems>all problems</a></p>",
            code.as_str(),
            code.status().as_u16(),
            code.cause(),
            code.cure()
        ),
    ))
}

/// Headings, paragraphs and lists of a page of docs/problems.
fn error_page(text: &str) -> Html<String> {
    let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    let mut body = String::new();
    for block in text.split("\n\n").skip(1) {
        if let Some(heading) = block.strip_prefix("## ") {
            let _ = write!(body, "<h2>{}</h2>", inline(heading));
        } else if let Some(items) = block.strip_prefix("* ") {
            let _ = write!(body, "<ul>");
            for item in items.split("\n* ") {
                let _ = write!(body, "<li>{}", inline(item));
            }
            body.push_str("</ul>");
        } else {
            let _ = write!(body, "<p>{}</p>", inline(block));
        }
    }
    body.push_str("<p><a href=/problems>all problems</a></p>");
    page(title, &body)
}

/// `code`, **strong** and [links](other.md) of one block.
fn inline(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let mut out = String::new();
    for (nth, part) in text.split('`').enumerate() {
        if nth % 2 == 1 {
            let _ = write!(out, "<code>{part}</code>");
            continue;
        }
        for (nth, part) in part.split("**").enumerate() {
            let part = link(part);
            let _ = if nth % 2 == 1 { write!(out, "<strong>{part}</strong>") } else { write!(out, "{part}") };
        }
    }
    out
}

fn link(text: &str) -> String {
    let found = text.split_once('[').and_then(|(before, rest)| {
        let (words, rest) = rest.split_once("](")?;
        let (place, rest) = rest.split_once(".md)")?;
        Some((before, words, place, rest))
    });
    match found {
        Some((before, words, place, rest)) => {
            format!("{before}<a href=/problems/{place}>{words}</a>{}", link(rest))
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Endpoint, Error, ErrorKind};

    #[test]
    fn every_error_has_its_page_with_cause_and_cure() {
        use ErrorKind as Kind;
        let kinds = [
            Kind::Unreachable,
            Kind::AccessDenied,
            Kind::Missing,
            Kind::Contention,
            Kind::TargetLocked,
            Kind::ValueRefused,
            Kind::StatementRefused,
            Kind::StoppedByPolicy,
            Kind::PositionLost,
            Kind::SnapshotLost,
            Kind::CorruptMessage,
            Kind::SchemaMismatch,
            Kind::Configuration,
            Kind::Fenced,
            Kind::Cancelled,
            Kind::Internal,
        ];
        let mut used = std::collections::BTreeSet::new();
        for kind in kinds {
            for endpoint in [None, Some(Endpoint::Source), Some(Endpoint::Store)] {
                let error = Error { endpoint, ..Error::new(kind, "x") };
                let page = error.page();
                let (_, text) = ERRORS.iter().find(|(name, _)| *name == page).unwrap();
                assert!(text.contains("\n## Cause\n\n* ") && text.contains("\n## Cure\n\n* "), "{page}");
                used.insert(page);
            }
        }
        assert_eq!(used.len(), ERRORS.len(), "a page that no error has");
        // And no page is forgotten.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/problems");
        let files: std::collections::BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let pages: std::collections::BTreeSet<String> =
            ERRORS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, pages);
        for (name, _) in ERRORS {
            assert!(!ProblemCode::ALL.iter().any(|code| code.as_str() == *name), "{name} is a problem's too");
        }
    }

    #[test]
    fn a_page_is_written_out() {
        let Html(page) =
            error_page("# Title\n\n`a<b`: one **two**\n\n## Cause\n\n* see [store](store.md)\n* other");
        for part in [
            "<h1>Title</h1>",
            "<p><code>a&lt;b</code>: one <strong>two</strong></p>",
            "<h2>Cause</h2>",
            "<ul><li>see <a href=/problems/store>store</a><li>other</ul>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
}

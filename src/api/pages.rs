//! Pages for people: the dashboard, and what a problem means.

use std::fmt::Write;

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;

use super::problem::{Problem, ProblemCode};
use super::request::Segments;
use crate::service::Service;

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
    body.push_str("</ul>");
    std::future::ready(page("Problems", &body)).await
}

async fn problem(Segments(code): Segments<String>) -> Result<Html<String>, Problem> {
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

//! Pages for people: what this is, and what a problem means.

use std::fmt::Write;

use axum::Router;
use axum::response::Html;
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

async fn home() -> Html<String> {
    let version = env!("CARGO_PKG_VERSION");
    std::future::ready(page(
        "Tidegate",
        &format!(
            "<p>Keeps AnalyticDB for MySQL, or any MySQL-protocol target, in step with a TiDB cluster. Version {version}.</p>\
             <ul><li><a href=/docs/>API, to read and try</a>\
             <li><a href=/api/v1/openapi.json>OpenAPI document</a>\
             <li><a href=/api/v1/tasks>tasks</a>, <a href=/api/v1/connections>connections</a>, <a href=/api/v1/events>events</a>, <a href=/api/v1/system>system</a>\
             <li><a href=/metrics>metrics</a>, <a href=/readyz>readiness</a>\
             <li><a href=/problems>what problems mean</a></ul>"
        ),
    ))
    .await
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

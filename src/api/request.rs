//! Reading requests: query parameters with all their faults at once, JSON bodies, If-Match.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::problem::{Problem, ProblemCode, ProblemError};

/// Bodies may have this many bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The body of an import holds the catalog of every table of a task.
pub const IMPORT_BYTES_MAX: usize = 512 << 20;
/// Longest `wait_ms`.
pub const WAIT_MS_MAX: u64 = 60_000;
pub const PAGE_MAX: u32 = 500;
const PAGE_DEFAULT: u32 = 100;

/// Segments of the path; what is not UTF-8 after decoding is a 400.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Segments<T>(pub T);

impl From<axum::extract::rejection::PathRejection> for Problem {
    fn from(rejection: axum::extract::rejection::PathRejection) -> Self {
        Self::new(ProblemCode::InvalidParameter, rejection.body_text())
    }
}

/// Query parameters: each is taken by name, then [`Params::finish`] tells every fault, the unknown ones too.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<ProblemError>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(ProblemCode::InvalidParameter, error.body_text()))?;
        Ok(Self { pairs, faults: Vec::new() })
    }
}

impl Params {
    pub fn text(&mut self, name: &str) -> Option<String> {
        let mut found = None;
        self.pairs.retain(|(key, value)| {
            let wanted = key == name;
            if wanted && found.is_none() {
                found = Some(value.clone());
                return false;
            }
            true
        });
        found
    }

    fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.faults.push(ProblemError::parameter(name, "invalid", detail));
    }

    /// A parameter that `parse` must take; `expected` says what it may be.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.fault(name, format!("must be {expected}"));
        }
        value
    }

    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name, "true or false", |text| text.parse().ok()).unwrap_or(default)
    }

    pub fn limit(&mut self) -> u32 {
        let expected = format!("1 to {PAGE_MAX}");
        self.parsed("limit", &expected, |text| {
            text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit))
        })
        .unwrap_or(PAGE_DEFAULT)
    }

    pub fn wait(&mut self) -> std::time::Duration {
        let expected = format!("0 to {WAIT_MS_MAX}");
        let wait =
            self.parsed("wait_ms", &expected, |text| text.parse().ok().filter(|wait| *wait <= WAIT_MS_MAX));
        std::time::Duration::from_millis(wait.unwrap_or(0))
    }

    /// # Errors
    /// Every fault found, and every parameter that nobody took.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.faults.push(ProblemError::parameter(
                &name,
                "unknown_parameter",
                format!("there is no parameter \"{name}\" here, or it came twice"),
            ));
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::faults(ProblemCode::InvalidParameter, self.faults))
    }
}

/// A JSON body, not yet checked against any schema.
pub struct JsonBody(pub Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = media == "application/json"
            || media.strip_prefix("application/").is_some_and(|subtype| subtype.ends_with("+json"));
        if !json {
            let detail = format!("content-type is \"{media}\"; it must be application/json");
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(
                    ProblemCode::BodyTooLarge,
                    format!("a body may have {BODY_BYTES_MAX} bytes, that of an import {IMPORT_BYTES_MAX}"),
                )
            } else {
                Problem::new(ProblemCode::BadRequest, rejection.body_text())
            }
        })?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::new(ProblemCode::MalformedJson, error.to_string()))
    }
}

/// The version that `If-Match` asks for; None when it is not there, or is `*`.
pub fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version =
        text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|text| text.parse().ok());
    // A tag that we never gave matches nothing.
    Ok(Some(version.unwrap_or(-1)))
}

/// A version as an ETag.
pub fn etag(version: i64) -> [(axum::http::HeaderName, String); 1] {
    [(axum::http::header::ETAG, format!("\"{version}\""))]
}

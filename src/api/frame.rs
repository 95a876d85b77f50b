//! The frame around every request: its id, the log line, problems written out.

use std::any::Any;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::problem::{Problem, ProblemCode};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request, for who writes an answer out before the frame does.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Marks an answer that is as it should be, whatever its status.
#[derive(Debug, Clone, Copy)]
pub struct NotAProblem;

/// The caller's id when it is a sane one, else a new one.
fn request_id(request: &Request) -> String {
    let sane = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=64).contains(&id.len()) && id.bytes().all(plain)
    };
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sane);
    given.map_or_else(|| ulid::Ulid::new().to_string(), str::to_owned)
}

/// Outermost layer: gives the request its id, logs it once, writes problems out.
pub async fn frame(mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    // The route, not the path: a path may be long, and is the caller's text.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request.id = id);
    request.extensions_mut().insert(RequestId(id.clone()));
    let response = next.run(request).instrument(span.clone()).await;
    let _entered = span.enter();
    let mut response = finish(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let seconds = start.elapsed().as_secs_f64();
    let route = route.unwrap_or_else(|| "-".to_owned());
    tracing::debug!(%method, route, status, duration_ms = seconds * 1000.0, "request");
    metrics::histogram!(crate::telemetry::HTTP_SECONDS, "method" => method.to_string(), "route" => route, "status" => status.to_string())
        .record(seconds);
    response
}

/// Writes a problem out, once; an error that is none yet becomes one.
pub fn finish(mut response: Response, request_id: &str) -> Response {
    let status = response.status();
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if response.extensions().get::<NotAProblem>().is_some() => return response,
        None if status.is_client_error() || status.is_server_error() => of_status(status),
        None => return response,
    };
    if let Some(cause) = &problem.cause {
        tracing::error!(cause, "request failed");
    }
    let body = serde_json::to_vec(&problem.document(request_id)).unwrap_or_default();
    let allow = response.headers().get(ALLOW).cloned();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(allow) = allow {
        parts.headers.insert(ALLOW, allow);
    }
    parts.status = problem.code.status();
    parts.extensions.insert(NotAProblem);
    Response::from_parts(parts, Body::from(body))
}

fn of_status(status: StatusCode) -> Problem {
    use ProblemCode as Code;
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        status if status.is_client_error() => Code::BadRequest,
        status => return Problem::internal(format!("a response of status {status} without a problem")),
    };
    Problem::new(code, code.title())
}

/// A panic in a handler: told as a fault of ours, its words in the log only.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let words = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words");
    Problem::internal(format!("a handler panicked: {words}")).into_response()
}

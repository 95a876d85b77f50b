//! `Idempotency-Key` on POST: who sends the same request again, because no answer came, gets the answer of the first one.
//!
//! Such a request is carried through even when its sender has gone. Its answer is kept in the store, sealed, for a day; what
//! failed on our side (5xx) is not kept, so it may be tried again under the same key. The answer is kept just after the effect,
//! not with it: a process that is killed in between does the request again, which for commands changes nothing more.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::Instrument;

use super::access::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};
use super::frame::{NotAProblem, RequestId, finish};
use super::problem::{Problem, ProblemCode, ProblemError};
use super::request::{BODY_BYTES_MAX, IMPORT_BYTES_MAX};
use crate::access::Caller;
use crate::error::{Error, Result};
use crate::service::Service;
use crate::store::connections::answer_place;
use crate::store::idempotency::Reserved;

const KEY_CHARS_MAX: usize = 255;
/// Larger answers are not kept: their request is done again.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Headers that belong to an answer.
const HEADERS: [HeaderName; 4] = [CONTENT_TYPE, LOCATION, ETAG, CACHE_CONTROL];

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub async fn once(State(service): State<Service>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    keyed(service, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

fn key_of(request: &Request) -> Option<String> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    let key = values.next()?.to_str().ok()?;
    let sound = (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    (sound && values.next().is_none()).then(|| key.to_owned())
}

async fn keyed(service: Service, request: Request, next: Next) -> std::result::Result<Response, Problem> {
    let key = key_of(&request).ok_or_else(|| {
        let detail =
            format!("must be one key of 1 to {KEY_CHARS_MAX} printable ASCII characters without spaces");
        let error = ProblemError::header("idempotency-key", "invalid", detail);
        Problem::faults(ProblemCode::InvalidParameter, vec![error])
    })?;
    let caller = request.extensions().get::<Caller>().cloned();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let (parts, body) = request.into_parts();
    let is_import = parts.uri.path().trim_end_matches('/').ends_with("/tasks/import");
    let most = if is_import { IMPORT_BYTES_MAX } else { BODY_BYTES_MAX };
    let body = to_bytes(body, most).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if cause.contains("length limit") {
            Problem::new(ProblemCode::BodyTooLarge, format!("a body may have {most} bytes"))
        } else {
            Problem::new(ProblemCode::BadRequest, "the body broke off")
        }
    })?;
    let mut fingerprint = Sha256::new();
    fingerprint.update(parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default());
    fingerprint.update([0]);
    fingerprint.update(parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default());
    fingerprint.update([0]);
    fingerprint.update(&body);
    let fingerprint: String = fingerprint.finalize().iter().map(|byte| format!("{byte:02x}")).collect();

    let name = caller.as_ref().map_or("", |caller| &*caller.name).to_owned();
    let place = answer_place(&name, &key);
    let sealed = service.keyring.seal(&place, fingerprint.as_bytes())?;
    let n = match service.store.reserve_key(&name, &key, &sealed).await? {
        Reserved::New(n) => n,
        Reserved::Known { request, answer } => {
            if service.keyring.open(&place, &request)?.expose_secret() != fingerprint {
                let detail = "this key came with another request before: path, query or body differ";
                return Err(Problem::new(ProblemCode::IdempotencyKeyReused, detail));
            }
            let Some(answer) = answer else {
                let detail = "the first request with this key is still worked on";
                return Err(Problem::new(ProblemCode::IdempotencyKeyInUse, detail)
                    .header(RETRY_AFTER, HeaderValue::from_static("1")));
            };
            let text = service.keyring.open(&place, &answer)?;
            let answer = serde_json::from_str(text.expose_secret()).map_err(Error::internal)?;
            return Ok(replay(answer, &id));
        }
    };
    let work = async move {
        let response = finish(next.run(axum::http::Request::from_parts(parts, Body::from(body))).await, &id);
        match keep(&service, n, &place, response).await {
            Ok(response) => response,
            Err(error) => Problem::internal(error).into_response(),
        }
    };
    let work = work.in_current_span();
    // The sender may leave; what was begun is carried through.
    let done = match caller {
        Some(caller) => tokio::spawn(caller.scope(work)),
        None => tokio::spawn(work),
    };
    done.await.map_err(Problem::internal)
}

async fn keep(service: &Service, n: i64, place: &str, response: Response) -> Result<Response> {
    let small = response.body().size_hint().upper().is_some_and(|bytes| bytes <= ANSWER_BYTES_MAX);
    if response.status().is_server_error() || !small {
        service.store.free_key(n).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(Error::internal)?;
    let headers = HEADERS
        .iter()
        .filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned())))
        .collect();
    let body = String::from_utf8(bytes.to_vec()).map_err(Error::internal)?;
    let answer = Answer { status: parts.status.as_u16(), headers, body };
    let sealed = service.keyring.seal(place, &serde_json::to_vec(&answer).map_err(Error::internal)?)?;
    service.store.keep_answer(n, &sealed).await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// The answer again. A problem names the request that it answers.
fn replay(answer: Answer, id: &str) -> Response {
    let mut body = answer.body;
    if answer.headers.iter().any(|(_, value)| value == "application/problem+json")
        && let Ok(Value::Object(mut problem)) = serde_json::from_str::<Value>(&body)
    {
        problem.insert("request_id".to_owned(), id.into());
        body = Value::Object(problem).to_string();
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response.extensions_mut().insert(NotAProblem);
    response
}

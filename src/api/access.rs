//! Who may call what: the one place where a request's caller is found out and held against the endpoint's role.
//!
//! The role of an endpoint is what the document says of it (`x-role`, api/document.rs), so what is documented is what is checked.
//! `public` needs no token; a path that the document does not know needs a viewer's below `/api/`, and nothing elsewhere (pages).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH, LOCATION, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde_json::Value;
use tower_http::cors::CorsLayer;

use super::frame::REQUEST_ID;
use super::problem::{Problem, ProblemCode};
use crate::access::{Caller, LOCAL, Role};
use crate::listen::Listener;
use crate::service::Service;

/// The other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Which names and origins are served, beside what tokens say.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// Hosts that are served once there are tokens; empty = every host.
    pub hosts: Vec<String>,
    /// Origins whose pages may call; empty = none but the server's own.
    pub origins: Vec<String>,
}

impl Doors {
    /// Answers to what browsers ask before a page of another site may call. Tokens travel in a header, never in a cookie.
    pub fn cross_origin(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins: Vec<_> = self.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
        Some(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
                .allow_headers([
                    AUTHORIZATION,
                    CONTENT_TYPE,
                    IF_MATCH,
                    ACCEPT,
                    IDEMPOTENCY_KEY,
                    LAST_EVENT_ID,
                    REQUEST_ID,
                ])
                .expose_headers([ETAG, LOCATION, RETRY_AFTER, REQUEST_ID, IDEMPOTENCY_REPLAYED])
                .max_age(Duration::from_secs(3600)),
        )
    }
}

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Debug, Clone)]
pub struct Guard {
    pub service: Service,
    pub doors: Arc<Doors>,
}

/// What the document says of an endpoint.
#[derive(Debug)]
struct Rule {
    /// None = public.
    role: Option<Role>,
    /// Media types that it may answer with; empty = it has no body.
    media: Vec<String>,
}

static RULES: LazyLock<HashMap<(Method, String), Rule>> = LazyLock::new(|| rules(super::document()));

fn rules(document: &Value) -> HashMap<(Method, String), Rule> {
    let mut rules = HashMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else { continue };
            let role = match operation["x-role"].as_str() {
                Some("public") => None,
                // A word that is no role closes the door.
                word => Some(word.and_then(Role::parse).unwrap_or(Role::Admin)),
            };
            let responses = operation["responses"].as_object().into_iter().flatten();
            let media = responses
                .filter(|(status, _)| status.starts_with('2'))
                .filter_map(|(_, response)| response["content"].as_object())
                .flat_map(|content| content.keys().cloned())
                .collect();
            rules.insert((method, path.clone()), Rule { role, media });
        }
    }
    rules
}

/// Finds the caller, refuses who may not, and lets the rest through with their [`Caller`].
pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match admit(&guard, &request) {
        Err(problem) => problem.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller.clone());
            caller.scope(next.run(request)).await
        }
    }
}

fn admit(guard: &Guard, request: &Request) -> Result<Option<Caller>, Problem> {
    let access = &guard.service.access;
    let headers = request.headers();
    let open = access.is_open();
    check_host(guard, request, open)?;
    if open && !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        check_origin(headers)?;
    }
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let rule = path.and_then(|path| RULES.get(&(method, path)));
    let inside = request.uri().path().starts_with("/api/");
    let needed = rule.map_or(inside.then_some(Role::Viewer), |rule| rule.role);
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.0.ip());
    let caller = if open {
        let peer = peer.map(|peer| peer.to_canonical().to_string().into());
        Some(Caller { name: LOCAL.into(), role: Role::Admin, peer })
    } else if needed.is_some() {
        Some(login(guard, headers, peer)?)
    } else {
        None
    };
    if let (Some(needed), Some(caller)) = (needed, &caller)
        && caller.role < needed
    {
        let detail =
            format!("this needs the role {needed}; token \"{}\" is a {}'s", caller.name, caller.role);
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    if inside && let Some(rule) = rule {
        check_accept(headers, &rule.media)?;
    }
    Ok(caller)
}

fn login(guard: &Guard, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Problem> {
    let challenge = |detail: &str, header: &'static str| {
        Problem::new(ProblemCode::Unauthorized, detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(header))
    };
    let Some(value) = headers.get(AUTHORIZATION) else {
        let detail = "there is no Authorization header; send `Authorization: Bearer <token>`";
        return Err(challenge(detail, "Bearer realm=\"tidegate\""));
    };
    let secret = value.to_str().ok().and_then(|text| {
        let (scheme, rest) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
    });
    if let Some((name, role)) = secret.and_then(|secret| guard.service.access.identify(secret)) {
        let peer = peer.map(|peer| peer.to_canonical().to_string().into());
        return Ok(Caller { name: name.into(), role, peer });
    }
    // Only failures are slowed down: a secret has 256 random bits, and whoever shares an address with a script that sends an
    // old token must not be locked out with it.
    if let Some(wait) = guard.service.access.failed(peer) {
        let seconds = wait.as_secs().max(1);
        let detail = format!("too many requests with a wrong token from this address; wait {seconds} s");
        return Err(Problem::new(ProblemCode::TooManyAttempts, detail).header(RETRY_AFTER, seconds.into()));
    }
    tracing::warn!(peer = ?peer, "login failed");
    let detail = "this token is not valid: it was revoked, has ended, or never was";
    Err(challenge(detail, "Bearer realm=\"tidegate\", error=\"invalid_token\""))
}

/// The Host header, or a full URI's authority. Without tokens only this machine's own names are served, so that no web page
/// reaches the server under a name of its own.
fn check_host(guard: &Guard, request: &Request, open: bool) -> Result<(), Problem> {
    let given = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = given.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let host = host.unwrap_or_default();
    let known = |name: &str| guard.doors.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if open && !is_loopback(host) {
        let detail = format!("Host \"{host}\" is not this machine's loopback");
        return Err(Problem::new(ProblemCode::HostRefused, detail));
    }
    if !open && !guard.doors.hosts.is_empty() && !is_loopback(host) && !known(name_of(host)) {
        let detail = format!("Host \"{host}\" is not one of --allowed-host");
        return Err(Problem::new(ProblemCode::HostRefused, detail));
    }
    Ok(())
}

/// A browser tells from which site a page writes. Scripts tell nothing.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let site = origin.split_once("://").map_or("", |(_, site)| site);
    if site.is_empty() || !site.eq_ignore_ascii_case(host) {
        let detail = format!("Origin \"{origin}\" is not this server's own");
        return Err(Problem::new(ProblemCode::OriginRefused, detail));
    }
    Ok(())
}

/// Accept must leave one of what the endpoint gives. A problem is told in its own form whatever Accept says.
fn check_accept(headers: &HeaderMap, media: &[String]) -> Result<(), Problem> {
    let mut ranges = headers.get_all(ACCEPT).iter().peekable();
    if media.is_empty() || ranges.peek().is_none() {
        return Ok(());
    }
    let taken = ranges
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| media.iter().any(|media| takes(range, media)));
    if taken {
        return Ok(());
    }
    let detail = format!("this path answers with {}", media.join(" or "));
    Err(Problem::new(ProblemCode::NotAcceptable, detail))
}

/// True when a range of an Accept header takes this media type.
pub fn takes(range: &str, media: &str) -> bool {
    let (wanted, parameters) = range.split_once(';').unwrap_or((range, ""));
    let refused = parameters.split(';').any(|parameter| {
        parameter.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()) == Some(0.0)
    });
    let wanted = wanted.trim().to_ascii_lowercase();
    let media = media.split(';').next().unwrap_or_default();
    let kind = media.split('/').next().unwrap_or_default();
    let json = media == "application/json" && wanted == "application/problem+json";
    !refused && (wanted == "*/*" || wanted == media || wanted == format!("{kind}/*") || json)
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// `127.0.0.1:8320`, `localhost`, `[::1]:80`
fn is_loopback(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// For handlers that give more to some roles than to others.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal("a request without its caller"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_local() {
        for host in ["localhost", "LOCALHOST:8320", "127.0.0.1:1", "127.3.2.1", "[::1]:80", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com", "10.0.0.1:8320", "[::2]:80", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn accept_is_read_with_weights() {
        let json = |range| takes(range, "application/json");
        for range in
            ["*/*", "application/json;charset=utf-8", " application/*;q=0.1", "application/problem+json"]
        {
            assert!(json(range), "{range}");
        }
        for range in ["text/html", "application/json;q=0", "application/xml"] {
            assert!(!json(range), "{range}");
        }
        assert!(takes("text/event-stream", "text/event-stream"));
        assert!(!takes("application/json", "text/event-stream"));
    }

    #[test]
    fn pages_of_other_sites_may_not_write() {
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8320"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            check_origin(&headers).is_ok()
        };
        assert!(check("http://127.0.0.1:8320"));
        for origin in ["http://evil.example", "http://127.0.0.1:1", "null", "", "http://"] {
            assert!(!check(origin), "{origin}");
        }
        assert!(check_origin(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn every_operation_has_a_role_that_is_one() {
        let document = super::super::document();
        for ((method, path), rule) in RULES.iter() {
            let operation = &document["paths"][path][method.as_str().to_ascii_lowercase()];
            let word = operation["x-role"].as_str().unwrap();
            match rule.role {
                Some(role) => assert_eq!(role.as_str(), word, "{method} {path}"),
                None => assert_eq!(word, "public", "{method} {path}"),
            }
            if method != Method::GET {
                assert!(rule.role >= Some(Role::Operator), "{method} {path} changes something");
            }
        }
        assert!(RULES.len() > 30);
    }
}

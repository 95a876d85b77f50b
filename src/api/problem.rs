//! Problems (RFC 9457): the one form in which everything that is not a success is told.
//!
//! A handler gives a [`Problem`]; the outermost layer (api/frame.rs) writes it out with the request's id and logs its cause.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::service::Refusal;
use crate::task::fault::Fault;
use crate::task::status::Status;

/// Status, title, cause and cure of every code; the pages under `/problems/` show them.
macro_rules! problems {
    ($($variant:ident = $code:literal, $status:ident, $title:literal, $cause:literal, $cure:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemCode {
            $($variant),+
        }

        impl ProblemCode {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause),+ }
            }

            pub fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure),+ }
            }
        }
    };
}

problems! {
    MalformedJson = "malformed-json", BAD_REQUEST, "The body is not JSON",
        "The body could not be parsed; `detail` names line and column.",
        "Send one JSON object in UTF-8. A shell may have eaten quotes: try `--data @file.json`.";
    BadRequest = "bad-request", BAD_REQUEST, "The request cannot be understood",
        "The request line, a header or the body is broken.", "See `detail`.";
    InvalidParameter = "invalid-parameter", BAD_REQUEST, "A parameter is not valid",
        "A query or path parameter is unknown or has a value that it cannot have; `errors` names each.",
        "Compare with the endpoint's parameters in the document under /docs.";
    InvalidCursor = "invalid-cursor", BAD_REQUEST, "The cursor does not fit",
        "A cursor belongs to the list, filter and order that gave it.",
        "Send `next_cursor` back unchanged with the same filters, or start again without a cursor.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "A token is needed",
        "This server has tokens, and the request carries none, or one that was revoked, has ended or never was.",
        "Send `Authorization: Bearer <token>`. An admin makes tokens with POST /api/v1/tokens or `tidegate token create`. Nobody has one? Start the server with --bootstrap-token-file.";
    Forbidden = "forbidden", FORBIDDEN, "The token's role does not allow this",
        "Each endpoint names the role it needs (`x-role` in the document); an operator may do what a viewer may, an admin everything.",
        "Use a token of that role, or ask an admin for one.";
    TooManyAttempts = "too-many-attempts", TOO_MANY_REQUESTS, "Too many failed logins",
        "From this address came too many requests with a wrong token.",
        "Wait as long as Retry-After says, and mend the token. Requests with a valid token are served meanwhile.";
    TooManyStreams = "too-many-streams", TOO_MANY_REQUESTS, "Too many open streams",
        "Streams of events each hold a connection; there is a bound for all together.",
        "Close some, or read events as a list with `?after=`.";
    OriginRefused = "origin-refused", FORBIDDEN, "A web page elsewhere sent this",
        "The Origin header names another site. Without tokens the server would do what any page in a browser on this machine asks.",
        "Call from a script or from the server's own pages; or create a token, and name the site in --cors-origin.";
    HostRefused = "host-refused", FORBIDDEN, "This Host is not served",
        "Without tokens the server speaks only to its own machine, and checks the Host header so that a web page cannot reach it through a name of its own.",
        "Use http://127.0.0.1 or http://localhost with the server's port. A server with tokens serves every name, or those of --allowed-host.";
    NotFound = "not-found", NOT_FOUND, "There is nothing here",
        "The path, or what its names stand for, does not exist.",
        "Compare the path with /docs; list the tasks or connections to see their names.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The path does not have this method",
        "The path exists; the method is not one of its own.", "The Allow header lists the methods.";
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "The answer cannot have this form",
        "The Accept header excludes application/json, which is all that this path gives.",
        "Leave Accept out, or allow application/json.";
    NameTaken = "name-taken", CONFLICT, "The name is in use",
        "Names of tasks are unique.", "Choose another name, or delete or rename the other task.";
    InUse = "in-use", CONFLICT, "It is in use",
        "A connection that tasks name cannot be deleted; `detail` lists them.", "Delete those tasks first, or name another connection in their specs.";
    EndpointIdentityChanged = "endpoint-identity-changed", CONFLICT, "It is another cluster",
        "The connection's new address leads to another Kafka cluster, or to a server that has none of the tables of a task that uses the connection.",
        "Correct the address. For another cluster create another connection, and tasks of its own.";
    Conflict = "conflict", CONFLICT, "What is there forbids it",
        "The request is sound, but something that exists stands against it; `detail` says what.", "Change that first.";
    InvalidTransition = "invalid-transition", CONFLICT, "The task's state forbids this command",
        "`task_status` is what the task is, `allowed_from` where the command means something.",
        "Bring the task to one of those states first, for example with pause and `?wait_ms=`.";
    OutsideRetention = "outside-retention", UNPROCESSABLE_ENTITY, "The topic does not hold that position",
        "The position lies before the oldest message that the topic still has, behind its end, or before the task's own start; `detail` has the range.",
        "Name a position within the range. What the topic has lost can only be copied again: resync the tables, or reset the task.";
    PositionBlocked = "position-blocked", CONFLICT, "The checkpoint cannot be moved there",
        "DDL lies between the checkpoint and the wanted position: the rows behind it and the tables of the target would not fit each other.",
        "Move up to that DDL only; decide about it with /ddl/{n}/skip or /replace; or copy the tables again with /tables/resync.";
    SpecLocked = "spec-locked", CONFLICT, "The task's state forbids this change",
        "Some fields change only while the task is paused, some only before its first start (`x-change` in the document).",
        "Pause the task, or create another one with the new spec.";
    Superseded = "superseded", CONFLICT, "A newer command took over",
        "While this request waited for the effect of its command, another one was given.", "Read the task to see where it goes.";
    TaskFailed = "task-failed", CONFLICT, "The task failed",
        "While this request waited for the effect of its command, the task failed; `last_error` of the task says why.",
        "Cure the cause, then resume: the task goes on from its checkpoint.";
    ConfigurationInvalid = "configuration-invalid", CONFLICT, "The configuration cannot work",
        "A connection is missing or of another kind, or its secret does not open with this server's key.",
        "See `detail`; send the connection's secret again when the key file was lost.";
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, "It has changed since you read it",
        "If-Match names another version than the one that is there, or two changes came at the same time.",
        "Read it again, apply your change to what you read, and send it with the new ETag.";
    IdempotencyKeyInUse = "idempotency-key-in-use", CONFLICT, "The same request is still worked on",
        "A request with this Idempotency-Key came before, and has no answer yet.",
        "Send it again after the time of Retry-After: you get the answer of the first one.";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large",
        "A body may have 1 MiB, and that of an import 512 MiB.", "Use globs instead of long lists of tables.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is not declared as JSON",
        "Bodies are read as application/json only.", "Send `content-type: application/json`.";
    InvalidBody = "invalid-body", UNPROCESSABLE_ENTITY, "The body has faults",
        "`errors` lists all of them, each with a JSON pointer to its place.", "Mend each of them; /docs shows every field with its type and default.";
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The key belongs to another request",
        "An Idempotency-Key stands for one request for 24 hours; path, query and body must be the same.",
        "Make a new key for a new request.";
    SecretRequired = "secret-required", UNPROCESSABLE_ENTITY, "The secret must be sent again",
        "A kept secret is not sent to another host or user, or over a weaker line.",
        "Send the password in the same request.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "A fault of the server",
        "Something went wrong that is not yours. The server's log has the cause under the same request id.",
        "Look there, and report it.";
    EndpointUnreachable = "endpoint-unreachable", BAD_GATEWAY, "An endpoint cannot be reached",
        "TiDB, Kafka or the target did not answer; `detail` has the address and the cause.",
        "Check host, port, firewall and that the service runs.";
    EndpointRefused = "endpoint-refused", BAD_GATEWAY, "An endpoint said no",
        "TiDB, Kafka or the target answered and refused; `detail` has its words.",
        "Check user, password, privileges and TLS mode of the connection.";
    ShuttingDown = "shutting-down", SERVICE_UNAVAILABLE, "The server is stopping",
        "The process was asked to end and takes no more commands.", "Try again after its restart; tasks go on by themselves.";
    EndpointTimeout = "endpoint-timeout", GATEWAY_TIMEOUT, "An endpoint took too long",
        "TiDB, Kafka or the target did not answer in time.", "Try again; check load and network of the endpoint.";
}

/// One fault of a request: exactly one of pointer (into the body), parameter and header is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemError {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub header: Option<String>,
    pub code: String,
    pub detail: String,
}

impl From<Fault> for ProblemError {
    fn from(fault: Fault) -> Self {
        Self {
            pointer: Some(fault.pointer),
            code: fault.code.to_owned(),
            detail: fault.detail,
            ..Self::default()
        }
    }
}

impl ProblemError {
    pub fn header(name: &str, code: &str, detail: impl Into<String>) -> Self {
        Self {
            header: Some(name.to_owned()),
            code: code.to_owned(),
            detail: detail.into(),
            ..Self::default()
        }
    }

    pub fn parameter(name: &str, code: &str, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.to_owned()),
            code: code.to_owned(),
            detail: detail.into(),
            ..Self::default()
        }
    }
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// `/problems/<code>`: a page with cause and cure.
    pub r#type: String,
    pub title: &'a str,
    pub status: u16,
    pub detail: &'a str,
    pub code: ProblemCode,
    pub request_id: &'a str,
    /// All faults of the request.
    pub errors: &'a [ProblemError],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_from: Option<&'a [Status]>,
}

#[derive(Debug, Clone)]
pub struct Problem {
    pub code: ProblemCode,
    pub detail: String,
    pub errors: Vec<ProblemError>,
    pub task_status: Option<Status>,
    pub allowed_from: Option<&'static [Status]>,
    /// For the log, never for the answer.
    pub cause: Option<String>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            task_status: None,
            allowed_from: None,
            cause: None,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn internal(cause: impl ToString) -> Self {
        let mut problem =
            Self::new(ProblemCode::Internal, "the server's log has the cause under this request id");
        problem.cause = Some(cause.to_string());
        problem
    }

    pub fn faults(code: ProblemCode, errors: Vec<ProblemError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => only.detail.clone(),
            many => format!("{} faults", many.len()),
        };
        Self { errors, ..Self::new(code, detail) }
    }

    pub fn invalid(faults: Vec<Fault>) -> Self {
        Self::faults(ProblemCode::InvalidBody, faults.into_iter().map(ProblemError::from).collect())
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    pub fn document<'a>(&'a self, request_id: &'a str) -> ProblemDocument<'a> {
        ProblemDocument {
            r#type: format!("/problems/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
            errors: &self.errors,
            task_status: self.task_status,
            allowed_from: self.allowed_from,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.headers_mut().extend(self.headers.iter().cloned());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use ProblemCode as Code;
        match refusal {
            Refusal::NotFound(detail) => Self::not_found(detail),
            Refusal::Invalid(faults) => Self::invalid(faults),
            Refusal::SecretRequired(fault) => Self::faults(Code::SecretRequired, vec![fault.into()]),
            Refusal::NameTaken(detail) => {
                let error = Fault::new("/name", "taken", detail);
                Self::faults(Code::NameTaken, vec![error.into()])
            }
            Refusal::IdentityChanged(detail) => Self::new(Code::EndpointIdentityChanged, detail),
            Refusal::InUse(detail) => Self::new(Code::InUse, detail),
            Refusal::Conflict(detail) => Self::new(Code::Conflict, detail),
            Refusal::Transition { command, status, allowed_from } => {
                let detail =
                    format!("{} is not possible while the task is {}", command.as_str(), status.as_str());
                Self {
                    task_status: Some(status),
                    allowed_from: Some(allowed_from),
                    ..Self::new(Code::InvalidTransition, detail)
                }
            }
            Refusal::State { what, status, allowed_from } => {
                let detail = format!("{what} is not possible while the task is {}", status.as_str());
                Self {
                    task_status: Some(status),
                    allowed_from: Some(allowed_from),
                    ..Self::new(Code::InvalidTransition, detail)
                }
            }
            Refusal::OutsideRetention(fault) => Self::faults(Code::OutsideRetention, vec![fault.into()]),
            Refusal::PositionBlocked(detail) => Self::new(Code::PositionBlocked, detail),
            Refusal::Tables { detail, status } => {
                Self { task_status: Some(status), ..Self::new(Code::InvalidTransition, detail) }
            }
            Refusal::Locked { faults, status } => {
                let errors = faults.into_iter().map(ProblemError::from).collect();
                Self { task_status: Some(status), ..Self::faults(Code::SpecLocked, errors) }
            }
            Refusal::Stale(detail) => Self::new(Code::PreconditionFailed, detail),
            Refusal::Superseded { status, detail } => {
                Self { task_status: Some(status), ..Self::new(Code::Superseded, detail) }
            }
            Refusal::TaskFailed(task) => {
                let detail = task
                    .last_error
                    .as_ref()
                    .map_or_else(|| "the task failed".to_owned(), ToString::to_string);
                Self { task_status: Some(task.status), ..Self::new(Code::TaskFailed, detail) }
            }
            Refusal::Unreachable(detail) => Self::new(Code::EndpointUnreachable, detail),
            Refusal::EndpointRefused(detail) => Self::new(Code::EndpointRefused, detail),
            Refusal::EndpointTimeout(detail) => Self::new(Code::EndpointTimeout, detail),
            Refusal::Configuration(detail) => Self::new(Code::ConfigurationInvalid, detail),
            Refusal::ShuttingDown => Self::new(Code::ShuttingDown, "the process is stopping")
                .header(RETRY_AFTER, HeaderValue::from_static("5")),
            Refusal::Internal(error) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProblemCode;

    #[test]
    fn codes_are_those_of_json() {
        for code in ProblemCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}

//! HTTP only: reads requests, calls the service, writes answers. No SQL and no task logic.
//!
//! The document is the router's own: what is not routed is not documented, and the other way round.
//!
//! Roles: a GET needs a viewer, everything else an operator. An endpoint that needs another role says so where it is declared,
//! and nowhere else:
//!
//! ```text
//! #[utoipa::path(post, path = "/system/backup", tag = "system", extensions(("x-role" = json!("admin"))), ...)]
//! ```
//!
//! (`viewer`, `operator`, `admin`, or `public` for what needs no token.) api/access.rs checks what the document says, before
//! the handler is called. A handler that gives more to some roles takes `caller: Caller` (crate::access) as an argument and asks
//! `caller.role >= Role::Admin`. Events need nothing: `store::events` writes down the caller of the request by itself.
//! An endpoint that answers with something else than JSON names its content type in `responses`: Accept is held against it.

mod access;
mod alerts;
mod batch;
mod checkpoint;
mod connections;
mod ddl;
mod dead_letters;
mod document;
mod effects;
mod events;
mod frame;
mod health;
mod idempotency;
mod logs;
mod objects;
mod page;
mod pages;
mod problem;
mod request;
mod reset;
mod series;
mod shape;
mod specs;
mod system;
mod table_commands;
mod tables;
mod task_filter;
mod task_view;
mod tasks;
mod throttle;
mod time;
mod tokens;
mod transfer;
mod verifications;
mod watch;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::service::Service;
use crate::task::connection::ConnectionInput;
use crate::task::fault::Fault;
use crate::task::spec::Spec;
use crate::task::validate::validate;

/// Where the resources are.
pub const BASE: &str = "/api/v1";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let document = serde_json::to_value(parts().into_openapi()).unwrap_or_default();
    document::complete(document)
});

fn parts() -> OpenApiRouter<Service> {
    let resources = OpenApiRouter::new()
        .merge(connections::routes())
        .merge(tasks::routes())
        .merge(batch::routes())
        .merge(specs::routes())
        .merge(objects::routes())
        .merge(throttle::routes())
        .merge(tables::routes())
        .merge(table_commands::routes())
        .merge(checkpoint::routes())
        .merge(ddl::routes())
        .merge(dead_letters::routes())
        .merge(verifications::routes())
        .merge(reset::routes())
        .merge(transfer::routes())
        .merge(events::routes())
        .merge(series::routes())
        .merge(logs::routes())
        .merge(watch::routes())
        .merge(alerts::routes())
        .merge(tokens::routes())
        .merge(system::routes());
    OpenApiRouter::new().nest(BASE, resources).merge(system::root_routes())
}

/// The OpenAPI document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

pub use access::{Doors, Peer};

/// Everything that is served.
pub fn router(service: Service, doors: Doors) -> Router {
    let (router, _) = parts().split_for_parts();
    let docs = SwaggerUi::new("/docs").config(Config::from(format!("{BASE}/openapi.json")));
    let router = router.merge(pages::routes()).merge(docs).with_state(service.clone());
    let cross_origin = doors.cross_origin();
    let guard = access::Guard { service: service.clone(), doors: Arc::new(doors) };
    let router = inner(router)
        .layer(from_fn_with_state(service, idempotency::once))
        .layer(from_fn_with_state(guard, access::guard));
    match cross_origin {
        Some(layer) => router.layer(layer),
        None => router,
    }
    .layer(from_fn(frame::frame))
}

/// A spec, or every fault that can be told without the store and the servers.
pub fn judge_spec(body: Value) -> Result<Spec, Vec<Fault>> {
    let checked = shape::check::<Spec>(body)?;
    let more = validate(&checked.value);
    checked.and(more).finish()
}

/// A connection as it is written, or every fault of its shape.
pub fn judge_connection(body: Value) -> Result<ConnectionInput, Vec<Fault>> {
    shape::check(body)?.finish()
}

/// What holds for every path, known or not.
fn inner(router: Router) -> Router {
    router
        .fallback(document::unknown_path)
        .method_not_allowed_fallback(document::unknown_method)
        .layer(DefaultBodyLimit::max(request::BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(frame::panicked))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_keeps_its_words() {
        async fn broken() {
            std::future::ready(()).await;
            panic!("the password is hunter2");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(
            listener,
            inner(Router::new().route("/broken", get(broken))).layer(from_fn(frame::frame)),
        );
        let server = tokio::spawn(async move { server.await });
        let response = reqwest::get(format!("http://{address}/broken")).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], "internal");
        assert_eq!(body["request_id"], id);
        assert!(!body.to_string().contains("hunter2"), "{body}");
        server.abort();
    }
}

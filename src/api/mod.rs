//! HTTP only: reads requests, calls the service, writes answers. No SQL and no task logic.
//!
//! The document is the router's own: what is not routed is not documented, and the other way round.

mod checkpoint;
mod connections;
mod ddl;
mod dead_letters;
mod document;
mod events;
mod frame;
mod health;
mod page;
mod pages;
mod problem;
mod request;
mod reset;
mod shape;
mod specs;
mod system;
mod table_commands;
mod tables;
mod task_view;
mod tasks;
mod time;
mod transfer;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::service::Service;

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
        .merge(specs::routes())
        .merge(tables::routes())
        .merge(table_commands::routes())
        .merge(checkpoint::routes())
        .merge(ddl::routes())
        .merge(dead_letters::routes())
        .merge(reset::routes())
        .merge(transfer::routes())
        .merge(events::routes())
        .merge(system::routes());
    OpenApiRouter::new().nest(BASE, resources).merge(system::root_routes())
}

/// The OpenAPI document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Everything that is served.
pub fn router(service: Service) -> Router {
    let (router, _) = parts().split_for_parts();
    let docs = SwaggerUi::new("/docs").config(Config::from(format!("{BASE}/openapi.json")));
    framed(router.merge(pages::routes()).merge(docs).with_state(service))
}

/// What holds for every path, known or not.
fn framed(router: Router) -> Router {
    router
        .fallback(document::unknown_path)
        .method_not_allowed_fallback(document::unknown_method)
        .layer(DefaultBodyLimit::max(request::BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(frame::panicked))
        .layer(axum::middleware::from_fn(frame::frame))
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
        let server = axum::serve(listener, framed(Router::new().route("/broken", get(broken))));
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

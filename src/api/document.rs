//! What the router's own document lacks: defaults, `x-change`, problems, roles. Worked in once, at the first request.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use super::problem::{Problem, ProblemCode, ProblemDocument};
use crate::task::change::change_of;
use crate::task::spec::Spec;

/// Completes the document that the router gave.
pub fn complete(mut document: Value) -> Value {
    document["info"] = json!({
        "title": "Tidegate",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Keeps AnalyticDB for MySQL, or any MySQL-protocol target, in step with a TiDB cluster.\n\n\
            Errors are `application/problem+json` (RFC 9457); `type` leads to a page with cause and cure. \
            Response enums may grow. TSO and offsets are decimal strings, times RFC 3339 in UTC with milliseconds.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/"}]);
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in [
        ("Problem", serde_json::to_value(ProblemDocument::schema())),
        ("ProblemCode", serde_json::to_value(ProblemCode::schema())),
        ("ProblemError", serde_json::to_value(super::problem::ProblemError::schema())),
        ("Status", serde_json::to_value(crate::task::status::Status::schema())),
    ] {
        schemas[name] = schema.unwrap_or_default();
    }
    add_defaults(schemas);
    add_operations(&mut document);
    document
}

/// The smallest spec, read with all its defaults: what the product itself fills in.
fn defaults() -> Value {
    let spec: Result<Spec, _> = serde_json::from_value(json!({
        "name": "", "source": {}, "target": "", "objects": {"include": [], "schemas": {"": {}}, "tables": {"": {}}},
    }));
    spec.ok().and_then(|spec| serde_json::to_value(spec).ok()).unwrap_or_default()
}

fn add_defaults(schemas: &mut Value) {
    let defaults = defaults();
    let parts = [
        ("Spec", "", ""),
        ("SourceSpec", "/source", "/source"),
        ("Objects", "/objects", "/objects"),
        ("SchemaSpec", "/objects/schemas/", "/objects"),
        ("TableSpec", "/objects/tables/", "/objects"),
        ("Phases", "/phases", "/phases"),
        ("DdlPolicies", "/ddl", "/ddl"),
        ("OnlineDdl", "/online_ddl", "/online_ddl"),
        ("LossyPolicies", "/lossy", "/lossy"),
        ("ErrorPolicies", "/errors", "/errors"),
        ("Throttle", "/throttle", "/throttle"),
        ("Tuning", "/tuning", "/tuning"),
    ];
    for (name, place, spec_pointer) in parts {
        let values = defaults.pointer(place);
        let required = schemas[name]["required"].as_array().cloned().unwrap_or_default();
        let Some(properties) = schemas[name]["properties"].as_object_mut() else { continue };
        for (field, property) in properties {
            if let Some(property) = property.as_object_mut() {
                if let Some(value) = values.and_then(|values| values.get(field))
                    && !required.iter().any(|name| name == field)
                {
                    let value = if matches!(field.as_str(), "schemas" | "tables") {
                        json!({})
                    } else {
                        value.clone()
                    };
                    property.insert("default".to_owned(), value);
                }
                let pointer = format!("{spec_pointer}/{field}");
                property.insert("x-change".to_owned(), change_of(&pointer).as_str().into());
            }
        }
    }
}

fn add_operations(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        let Some(operations) = item.as_object_mut() else { continue };
        for (method, operation) in operations {
            let role = if method == "get" || path.ends_with("/test") { "viewer" } else { "operator" };
            if operation["x-role"].is_null() {
                operation["x-role"] = role.into();
            }
            operation["responses"]["default"] = json!({
                "description": "A problem (RFC 9457)",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            });
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            for response in responses.values_mut() {
                if response["description"].as_str().is_none_or(str::is_empty) {
                    response["description"] = "Done".into();
                }
                if !response["headers"].is_object() {
                    response["headers"] = Value::Object(Map::new());
                }
                response["headers"]["x-request-id"] = json!({"schema": {"type": "string"}});
            }
        }
    }
}

/// What a path that is not ours gets.
pub async fn unknown_path(uri: axum::http::Uri) -> Problem {
    std::future::ready(Problem::not_found(format!("there is no path {}", uri.path()))).await
}

/// What a method that a path does not have gets.
pub async fn unknown_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let detail = format!("{} has no method {method}", uri.path());
    std::future::ready(Problem::new(ProblemCode::MethodNotAllowed, detail)).await
}

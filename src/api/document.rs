//! What the router's own document lacks: defaults, `x-change`, problems, roles. Worked in once, at the first request.

use std::collections::BTreeSet;

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
    document["components"]["securitySchemes"] = json!({"bearer": {
        "type": "http", "scheme": "bearer",
        "description": "A token of POST /tokens. While the server has none it listens on loopback only, and needs none.",
    }});
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
    name_items(schemas);
    spread_choices(schemas);
    add_operations(&mut document);
    require_what_is_always_there(&mut document);
    document
}

const REF: &str = "#/components/schemas/";

/// Items of pages by the name of their schema, so that a client generated from the document has one type for a task, wherever
/// it comes from.
fn name_items(schemas: &mut Value) {
    let Some(schemas) = schemas.as_object_mut() else { return };
    let pages: Vec<String> =
        schemas.keys().filter_map(|name| name.strip_prefix("Page_")).map(str::to_owned).collect();
    for item in pages {
        let place = schemas
            .get_mut(&format!("Page_{item}"))
            .and_then(|page| page.pointer_mut("/properties/items/items"));
        let Some(place) = place else { continue };
        let inline = std::mem::replace(place, json!({"$ref": format!("{REF}{item}")}));
        schemas.entry(item).or_insert(inline);
    }
}

/// "One of these, and these fields besides" as one of these with the fields, each under a name of its own: generators of clients
/// cannot read the other form.
fn spread_choices(schemas: &mut Value) {
    let Some(schemas) = schemas.as_object_mut() else { return };
    let mut named = Map::new();
    for (name, schema) in schemas.iter() {
        let Some(parts) = schema["allOf"].as_array() else { continue };
        let choice = parts.iter().enumerate().find_map(|(at, part)| {
            let choice = part["$ref"].as_str()?.strip_prefix(REF)?;
            Some((at, choice, schemas.get(choice)?["oneOf"].as_array()?))
        });
        let Some((at, choice, variants)) = choice else { continue };
        let mut one_of = Vec::new();
        for variant in variants.iter().filter_map(|variant| variant["$ref"].as_str()) {
            let own = name.replace(choice, variant.trim_start_matches(REF));
            let mut parts = parts.clone();
            parts[at] = json!({"$ref": variant});
            one_of.push(json!({"$ref": format!("{REF}{own}")}));
            named.insert(own, json!({"description": schema["description"], "allOf": parts}));
        }
        named.insert(name.clone(), json!({"description": schema["description"], "oneOf": one_of}));
    }
    schemas.extend(named);
}

/// Collects the schemas that a part of the document leads to.
fn reach(part: &Value, schemas: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            if let Some(name) =
                fields.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix(REF))
                && found.insert(name.to_owned())
            {
                reach(&schemas[name], schemas, found);
            }
            fields.values().for_each(|value| reach(value, schemas, found));
        }
        Value::Array(items) => items.iter().for_each(|value| reach(value, schemas, found)),
        _ => {}
    }
}

/// Answers carry every field, null where nothing is known: what is only ever answered has no field that may be missing.
fn require_what_is_always_there(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for operation in document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.values())
        .flat_map(|item| item.as_object().into_iter().flat_map(|operations| operations.values()))
    {
        reach(&operation["requestBody"], &schemas, &mut asked);
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            // Problems leave out what does not apply.
            if status != "default" {
                reach(response, &schemas, &mut answered);
            }
        }
    }
    for name in answered.difference(&asked) {
        let schema = &mut document["components"]["schemas"][name];
        require_all(schema);
        for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
            require_all(part);
        }
    }
}

fn require_all(schema: &mut Value) {
    let names: Vec<_> =
        schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    if !names.is_empty() {
        schema["required"] = names.into();
    }
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
    for item in paths.values_mut() {
        let Some(operations) = item.as_object_mut() else { continue };
        for (method, operation) in operations {
            if operation["x-role"].is_null() {
                operation["x-role"] = if method == "get" { "viewer" } else { "operator" }.into();
            }
            if operation["x-role"] != "public" {
                operation["security"] = json!([{"bearer": []}]);
            }
            if method == "post" {
                let key = json!({
                    "name": "idempotency-key", "in": "header", "required": false,
                    "description": "The same key and request get the same answer for 24 hours",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                });
                match operation["parameters"].as_array_mut() {
                    Some(parameters) => parameters.push(key),
                    None => operation["parameters"] = json!([key]),
                }
            }
            operation["responses"]["default"] = json!({
                "description": "A problem (RFC 9457)",
                "headers": {"retry-after": {"description": "Seconds, with 409, 429 and 503 that pass by themselves", "required": false,
                    "schema": {"type": "string"}}},
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
                if method == "post" {
                    let about =
                        "Says `true` where the answer is that of an earlier request with the same key";
                    response["headers"]["idempotency-replayed"] =
                        json!({"description": about, "required": false, "schema": {"type": "string"}});
                }
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
    let mut detail = format!("{} has no method {method}", uri.path());
    if uri.path() == format!("{}/connections/test", super::BASE) {
        detail.push_str("; `test` is no name for a connection: POST here tries settings that are not kept");
    }
    std::future::ready(Problem::new(ProblemCode::MethodNotAllowed, detail)).await
}

//! Rules of docs/api.md that the document itself can be held to, for every endpoint that there is and that will come.

use std::collections::BTreeSet;

use serde_json::Value;

fn document() -> Value {
    tidegate::api::document().clone()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().clone();
        let path = path.clone();
        operations
            .into_iter()
            .map(move |(method, operation)| (method, path.clone(), operation))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

fn parameters(operation: &Value, place: &str) -> BTreeSet<String> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let here = all.iter().filter(|parameter| parameter["in"] == place);
    here.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

/// Ends of paths whose POST asks, or says of itself what it would do, and changes nothing that a dry run could spare.
const ONLY_ASKS: [&str; 5] = ["/test", "/precheck", "/plan", "/preview", "/backup"];

#[test]
fn every_operation_keeps_the_forms() {
    let document = document();
    let mut faults = Vec::new();
    for (method, path, operation) in operations(&document) {
        let mut fault = |what: &str| faults.push(format!("{method} {path}: {what}"));
        let id = operation["operationId"].as_str().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            fault("the operation id is not in snake_case");
        }
        if operation["tags"].as_array().is_none_or(Vec::is_empty) {
            fault("has no tag");
        }
        if operation["summary"].as_str().is_none_or(str::is_empty) {
            fault("has no summary (a doc comment)");
        }
        let in_path: BTreeSet<String> = path
            .split('/')
            .filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.to_owned()))
            .collect();
        if parameters(&operation, "path") != in_path {
            fault("the parameters in the path are not those that it declares");
        }
        for name in parameters(&operation, "query") {
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                fault(&format!("parameter {name} is not in snake_case"));
            }
        }
        let problem =
            &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
        if problem != "#/components/schemas/Problem" {
            fault("does not say that errors are problems");
        }
        let good = operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2'));
        if !good {
            fault("has no answer for when it works");
        }
        let query = parameters(&operation, "query");
        let page = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        if page.as_str().is_some_and(|page| page.contains("/Page_")) {
            for name in ["limit", "cursor"] {
                if !query.contains(name) {
                    fault(&format!("is a list without {name}"));
                }
            }
        }
        let writes = method != "get" && !ONLY_ASKS.iter().any(|end| path.ends_with(end));
        if writes && !query.contains("dry_run") {
            fault("is a write without dry_run");
        }
        let headers = parameters(&operation, "header");
        if method == "post" && !headers.contains("idempotency-key") {
            fault("is a POST without idempotency-key");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_field_keeps_the_forms() {
    let document = document();
    let mut faults = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let parts = schema["allOf"].as_array().cloned().unwrap_or_default();
        for part in std::iter::once(schema).chain(&parts) {
            for (field, property) in part["properties"].as_object().into_iter().flatten() {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if !field.bytes().all(plain) {
                    faults.push(format!("{name}.{field} is not in snake_case"));
                }
                let is_time = property["format"] == "date-time";
                if field.ends_with("_at") && field != "start_at" && !is_time {
                    faults.push(format!("{name}.{field} is named as a time and is not of format date-time"));
                }
                // 64 bits do not fit into the numbers of JavaScript.
                let counts = property["type"] == "integer" || property["type"][0] == "integer";
                if counts && (field.ends_with("tso") || field.ends_with("offset")) {
                    faults.push(format!("{name}.{field} must be a decimal string"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

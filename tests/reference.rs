//! docs/spec.md is written from the OpenAPI document, so that page and server cannot disagree: `TIDEGATE_WRITE_DOCS=1` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

const HEAD: &str = "\
# The spec of a task, field by field

Written by `tests/reference.rs` from the OpenAPI document (`TIDEGATE_WRITE_DOCS=1 cargo test --test reference`). What a task's spec
holds now, defaults filled in: `GET /api/v1/tasks/{task}/spec`. What the fields of `objects.tables` do: [tables.md](tables.md).

*Change* says when a field of a task can be changed: `live` at any time, also while it runs; `paused` while it is paused or failed;
`before_start` until its first start, and again after a reset.
";

/// Schemas in the order in which one reads a spec; the place of each in it.
const PARTS: &[(&str, &str)] = &[
    ("Spec", ""),
    ("SourceSpec", "source."),
    ("Phases", "phases."),
    ("Objects", "objects."),
    ("SchemaSpec", "objects.schemas.*."),
    ("TableSpec", "objects.tables.*."),
    ("ColumnRules", "objects.tables.*.columns."),
    ("DdlPolicies", "ddl."),
    ("OnlineDdl", "online_ddl."),
    ("LossyPolicies", "lossy."),
    ("ErrorPolicies", "errors."),
    ("Merge", "merge."),
    ("Throttle", "throttle."),
    ("Tuning", "tuning."),
];

#[test]
fn the_page_on_the_spec_is_what_the_document_says() {
    let page = page(tidegate::api::document());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec.md");
    if std::env::var_os("TIDEGATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, page, "docs/spec.md is old: TIDEGATE_WRITE_DOCS=1 cargo test --test reference");
}

fn page(document: &Value) -> String {
    let schemas = &document["components"]["schemas"];
    let mut page = HEAD.to_owned();
    for (name, place) in PARTS {
        let title = if place.is_empty() { "The whole" } else { place.trim_end_matches('.') };
        let about = schemas[name]["description"].as_str().map(one_line).unwrap_or_default();
        write!(page, "\n## {title}\n\n").unwrap();
        if !about.is_empty() {
            write!(page, "{about}\n\n").unwrap();
        }
        page += "| field | type | default | change | |\n|---|---|---|---|---|\n";
        let required = schemas[name]["required"].as_array().cloned().unwrap_or_default();
        for (field, property) in schemas[name]["properties"].as_object().expect(name) {
            let default = match property.get("default") {
                _ if required.iter().any(|name| name == field) => "required".to_owned(),
                Some(Value::Object(fields)) if !fields.is_empty() => "below".to_owned(),
                Some(value) => format!("`{value}`"),
                None => "-".to_owned(),
            };
            let change = property["x-change"].as_str().unwrap_or("as its part");
            let about = property["description"].as_str().map(one_line).unwrap_or_default();
            let cells =
                [format!("`{place}{field}`"), type_of(schemas, property), default, change.to_owned(), about];
            writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")).unwrap();
        }
    }
    page
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A type in words: the values of an enum, the bounds of a number.
fn type_of(schemas: &Value, schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return type_of(schemas, &schemas[reference.rsplit('/').next().unwrap()]);
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(list) = schema[alternatives].as_array() {
            return list.iter().map(|one| type_of(schemas, one)).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let names = match &schema["type"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        _ => vec!["any".to_owned()],
    };
    let bounds = match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (None, None) => String::new(),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (Some(least), Some(most)) => format!(", {least} to {most}"),
    };
    let names = names.iter().map(|name| match name.as_str() {
        "array" => format!("list of {}", type_of(schemas, &schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", type_of(schemas, &schema["additionalProperties"]))
        }
        other => other.to_owned(),
    });
    names.collect::<Vec<_>>().join(" or ") + &bounds
}

/// The calls of the pages' curl lines, as (method, path below /api/v1).
fn calls() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let url = regex::Regex::new(r#"\$(?:TIDEGATE|SERVER)(/[^\s"'|;)]*)"#).unwrap();
    let verb = regex::Regex::new(r"-X ?([A-Z]+)").unwrap();
    let mut calls = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(page).unwrap().replace("\\\n", " ");
        for line in text.lines() {
            // A variable of the pages' own.
            let line = line.replace("$TASK", "$TIDEGATE/tasks/x");
            for call in line.split("curl ").skip(1) {
                let Some(path) = url.captures(call) else { continue };
                let data = call.contains(" -d ") || call.contains(" --data-binary ");
                let method = match verb.captures(call) {
                    Some(found) => found[1].to_owned(),
                    None => if data { "POST" } else { "GET" }.to_owned(),
                };
                calls.push((method, path[1].split('?').next().unwrap().to_owned()));
            }
        }
    }
    calls
}

#[test]
fn every_operation_is_called_on_some_page() {
    let document = tidegate::api::document();
    let calls = calls();
    let mut missing = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts: Vec<_> = path.trim_start_matches("/api/v1").split('/').collect();
        let is = |called: &str| {
            let called: Vec<_> = called.split('/').collect();
            called.len() == parts.len()
                && called.iter().zip(&parts).all(|(called, part)| part.starts_with('{') || called == part)
        };
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            if !calls.iter().any(|(called, path)| *called == method && is(path)) {
                missing.push(format!("{method} {path}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "no page shows how to call {missing:#?}; docs/howto.md is for what has no page of its own"
    );
}

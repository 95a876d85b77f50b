//! The shape of a body, checked against the document's own schema: every unknown field, wrong type, missing field and value
//! out of bounds at once, each with its JSON pointer.
//!
//! A faulty part is replaced by the smallest value of its type, so that the rest of the body can still be parsed and judged:
//! the faults of meaning are then told in the same answer.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::task::fault::{Fault, child};

const REF: &str = "#/components/schemas/";

static SCHEMAS: LazyLock<Value> = LazyLock::new(|| {
    super::document().get("components").and_then(|parts| parts.get("schemas")).cloned().unwrap_or_default()
});

/// A body that has been read as far as it can be, and what is wrong with it.
pub struct Checked<T> {
    pub value: T,
    pub faults: Vec<Fault>,
}

impl<T> Checked<T> {
    /// Adds what else was found; faults inside a part that is already faulty are left out.
    pub fn and(mut self, more: impl IntoIterator<Item = Fault>) -> Self {
        // A body may have tens of thousands of faults: each is looked up by its place and the places around it.
        let mut known: HashSet<String> = self.faults.iter().map(|fault| fault.pointer.clone()).collect();
        for fault in more {
            let around = fault.pointer.match_indices('/').filter_map(|(end, _)| fault.pointer.get(..end));
            if !around.chain([fault.pointer.as_str()]).any(|place| known.contains(place)) {
                known.insert(fault.pointer.clone());
                self.faults.push(fault);
            }
        }
        self
    }

    pub fn finish(self) -> Result<T, Vec<Fault>> {
        if self.faults.is_empty() { Ok(self.value) } else { Err(self.faults) }
    }
}

/// Checks a body against the schema of `T` and reads it.
///
/// # Errors
/// All faults, when not even the repaired body can be read.
pub fn check<T: DeserializeOwned + ToSchema>(mut body: Value) -> Result<Checked<T>, Vec<Fault>> {
    let mut faults = Vec::new();
    let schema = serde_json::json!({ "$ref": format!("{REF}{}", T::name()) });
    walk(&schema, &mut body, "", &mut faults);
    match serde_json::from_value(body) {
        Ok(value) => Ok(Checked { value, faults }),
        Err(error) if faults.is_empty() => Err(vec![Fault::new("", "invalid", error.to_string())]),
        Err(_) => Err(faults),
    }
}

/// Follows `$ref`.
fn resolve(schema: &Value) -> &Value {
    match schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix(REF)) {
        Some(target) => SCHEMAS.get(target).map_or(schema, resolve),
        None => schema,
    }
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

/// Branches of `oneOf`/`anyOf`.
fn branches(schema: &Value) -> &[Value] {
    let one_of = list(schema, "oneOf");
    if one_of.is_empty() { list(schema, "anyOf") } else { one_of }
}

/// What a schema takes, in words.
fn expected(schema: &Value) -> String {
    let schema = resolve(schema);
    let words = list(schema, "enum");
    if !words.is_empty() {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        return if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) };
    }
    let choice = branches(schema);
    if !choice.is_empty() {
        return choice.iter().map(expected).collect::<Vec<_>>().join(" or ");
    }
    let required: Vec<_> = list(schema, "required").iter().filter_map(Value::as_str).collect();
    types(schema)
        .into_iter()
        .map(|word| match word {
            "null" => "null".to_owned(),
            "object" if !required.is_empty() => format!("an object with {}", required.join(", ")),
            "integer" | "array" | "object" => format!("an {word}"),
            other => format!("a {other}"),
        })
        .collect::<Vec<_>>()
        .join(" or ")
}

/// The smallest value that the schema takes, to go on with.
fn smallest(schema: &Value) -> Value {
    let schema = resolve(schema);
    if let Some(word) = list(schema, "enum").first() {
        return word.clone();
    }
    let choice = branches(schema);
    if let Some(first) = choice.iter().find(|branch| types(branch).contains(&"null")).or(choice.first()) {
        return smallest(first);
    }
    let types = types(schema);
    if types.contains(&"null") {
        return Value::Null;
    }
    match types.first().copied() {
        Some("boolean") => Value::Bool(false),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
        Some("string") => Value::String(String::new()),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(
            list(schema, "required")
                .iter()
                .filter_map(|name| {
                    let name = name.as_str()?;
                    let field = schema.get("properties")?.get(name)?;
                    Some((name.to_owned(), smallest(field)))
                })
                .collect(),
        ),
        _ => Value::Null,
    }
}

fn walk(schema: &Value, value: &mut Value, pointer: &str, faults: &mut Vec<Fault>) {
    let schema = resolve(schema);
    for part in list(schema, "allOf") {
        walk(part, value, pointer, faults);
    }
    let choice = branches(schema);
    if !choice.is_empty() {
        return match choose(choice, value) {
            Some(branch) => walk(branch, value, pointer, faults),
            None => {
                faults.push(Fault::new(pointer, "invalid", format!("must be {}", expected(schema))));
                *value = smallest(schema);
            }
        };
    }
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|wanted| is_type(value, wanted)) {
        faults.push(Fault::new(pointer, "wrong_type", format!("must be {}", expected(schema))));
        *value = smallest(schema);
        return;
    }
    let words = list(schema, "enum");
    if !words.is_empty() && !words.contains(value) {
        faults.push(Fault::new(pointer, "invalid", format!("must be {}", expected(schema))));
        *value = smallest(schema);
        return;
    }
    if let Some(detail) = out_of_bounds(schema, value) {
        faults.push(Fault::new(pointer, "invalid", detail));
        *value = smallest(schema);
        return;
    }
    match value {
        Value::Array(items) => {
            if let Some(item_schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(item_schema, item, &child(pointer, index), faults);
                }
            }
        }
        Value::Object(fields) => walk_object(schema, fields, pointer, faults),
        _ => {}
    }
}

fn walk_object(schema: &Value, fields: &mut Map<String, Value>, pointer: &str, faults: &mut Vec<Fault>) {
    let properties = schema.get("properties");
    let others = schema.get("additionalProperties");
    let mut surplus = Vec::new();
    for (key, value) in fields.iter_mut() {
        let place = child(pointer, key);
        if let Some(property) = properties.and_then(|known| known.get(key)) {
            walk(property, value, &place, faults);
        } else if let Some(other) = others.filter(|other| other.is_object()) {
            walk(other, value, &place, faults);
        } else if others == Some(&Value::Bool(false)) {
            faults.push(Fault::new(place, "unknown_field", unknown(key, properties)));
            surplus.push(key.clone());
        }
    }
    for key in surplus {
        fields.remove(&key);
    }
    for key in list(schema, "required").iter().filter_map(Value::as_str) {
        if !fields.contains_key(key) {
            let field = properties.and_then(|known| known.get(key)).unwrap_or(&Value::Null);
            let detail = match expected(field) {
                what if what.is_empty() => "is required".to_owned(),
                what => format!("is required: {what}"),
            };
            faults.push(Fault::new(child(pointer, key), "required", detail));
            fields.insert(key.to_owned(), smallest(field));
        }
    }
}

fn unknown(key: &str, properties: Option<&Value>) -> String {
    let known = properties.and_then(Value::as_object);
    let names: Vec<_> = known.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
    format!("there is no field \"{key}\" here; the fields are {}", names.join(", "))
}

/// The branch that a value means: the only one of its type, else the one whose constants (`kind`) or required fields it has.
fn choose<'a>(choice: &'a [Value], value: &Value) -> Option<&'a Value> {
    let of_type: Vec<_> = choice
        .iter()
        .filter(|branch| {
            let schema = resolve(branch);
            let types = types(schema);
            let words = list(schema, "enum");
            if branches(schema).is_empty() {
                types.iter().any(|wanted| is_type(value, wanted))
                    && (words.is_empty() || words.contains(value))
            } else {
                choose(branches(schema), value).is_some()
            }
        })
        .collect();
    if of_type.len() < 2 {
        // One branch beside null: its own message is better than "must be null or ...".
        let others: Vec<_> = choice.iter().filter(|branch| types(branch) != ["null"]).collect();
        return of_type.first().copied().or(match others.as_slice() {
            [only] => Some(only),
            _ => None,
        });
    }
    let constants_match = |branch: &&&Value| {
        let properties = resolve(branch).get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().all(|(key, property)| {
            let words = list(resolve(property), "enum");
            words.is_empty() || value.get(key).is_none_or(|given| words.contains(given))
        })
    };
    let known_fields = |branch: &&Value| {
        let properties = resolve(branch).get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().filter(|(key, _)| value.get(key.as_str()).is_some()).count()
    };
    let fitting: Vec<_> = of_type.iter().filter(constants_match).copied().collect();
    let candidates = if fitting.is_empty() { of_type } else { fitting };
    candidates.into_iter().rev().max_by_key(known_fields)
}

fn out_of_bounds(schema: &Value, value: &Value) -> Option<String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let length = match value {
        Value::String(text) => text.chars().count() as f64,
        Value::Array(items) => items.len() as f64,
        Value::Number(number) => number.as_f64()?,
        _ => return None,
    };
    let (least, most, unit) = match value {
        Value::String(_) => ("minLength", "maxLength", " characters"),
        Value::Array(_) => ("minItems", "maxItems", " items"),
        _ => ("minimum", "maximum", ""),
    };
    if bound(least).is_some_and(|bound| length < bound) || bound(most).is_some_and(|bound| length > bound) {
        return Some(match (bound(least), bound(most)) {
            (Some(least), Some(most)) => format!("must be {least} to {most}{unit}"),
            (Some(least), None) => format!("must be at least {least}{unit}"),
            (_, most) => format!("must be at most {}{unit}", most.unwrap_or_default()),
        });
    }
    let text = value.as_str()?;
    let pattern = schema.get("pattern")?.as_str()?;
    let fits = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
    (!fits).then(|| format!("must match {pattern}"))
}

//! What must hold for a spec beyond the shape of its fields, and what of the contract this build does not do yet.
//!
//! The shape (types, unknown fields, bounds) is checked against the document's own schema before (api/shape.rs); whether the
//! connections exist is asked by the service.

use std::collections::HashSet;

use super::fault::{Fault, child};
use super::selection::Selection;
use super::spec::{DdlPolicy, OnlineDdlMode, Spec, StartAt, TableDdl, TableSpec, TablesWithoutKey};
use crate::model::Zone;
use crate::sql::filter::Condition;

/// Paths beside `/tasks/{task}`.
const RESERVED_NAMES: [&str; 3] = ["commands", "import", "summary"];

/// Every fault of a spec, with its place.
pub fn validate(spec: &Spec) -> Vec<Fault> {
    let mut faults = Vec::new();
    if RESERVED_NAMES.contains(&spec.name.as_str()) {
        let detail = format!("\"{}\" is part of a path of the API: choose another name", spec.name);
        faults.push(Fault::new("/name", "reserved", detail));
    }
    check_phases(spec, &mut faults);
    check_start_at(spec, &mut faults);
    if let Err(detail) = Zone::parse(&spec.source.time_zone) {
        faults.push(Fault::new("/source/time_zone", "invalid", detail));
    }
    for (index, text) in spec.online_ddl.shadow_patterns.iter().enumerate() {
        let problem = match regex::Regex::new(text) {
            Err(error) => Some(format!("not a regular expression: {error}")),
            Ok(pattern) if pattern.captures_len() < 2 => {
                Some("needs a group that holds the name of the real table".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(detail) = problem {
            faults.push(Fault::new(child("/online_ddl/shadow_patterns", index), "invalid", detail));
        }
    }
    check_copies(spec, &mut faults);
    if spec.tuning.batch_bytes as u64 > spec.tuning.memory_bytes {
        faults.push(Fault::new("/tuning/batch_bytes", "invalid", "must not be above tuning.memory_bytes"));
    }
    check_labels(spec, &mut faults);
    if let Err(found) = Selection::new(spec) {
        faults.extend(found);
    }
    check_merge(spec, &mut faults);
    for (table, rule) in &spec.objects.tables {
        check_table(&child("/objects/tables", table), rule, &mut faults);
    }
    faults
}

fn check_phases(spec: &Spec, faults: &mut Vec<Fault>) {
    let phases = spec.phases;
    if !(phases.schema || phases.full || phases.incremental) {
        faults.push(Fault::new("/phases", "invalid", "at least one phase must be true"));
    }
    let mut needs = |missing: bool, pointer: &str, detail: &str| {
        if missing {
            faults.push(Fault::new(pointer, "required", detail));
        }
    };
    let copies = phases.schema || phases.full;
    needs(
        copies && spec.source.tidb.is_none(),
        "/source/tidb",
        "phases schema and full read from a tidb connection",
    );
    needs(
        phases.incremental && spec.source.kafka.is_none(),
        "/source/kafka",
        "phase incremental reads from a kafka connection",
    );
    needs(
        phases.incremental && spec.source.topic.is_none(),
        "/source/topic",
        "phase incremental needs the topic that Drainer writes, often <cluster id>_obinlog",
    );
    needs(
        phases.incremental && !phases.full && spec.start_at.is_none(),
        "/start_at",
        "without phase full, say where to start: \"earliest\", \"latest\", {\"offset\"}, {\"tso\"} or {\"time\"}",
    );
}

fn check_start_at(spec: &Spec, faults: &mut Vec<Fault>) {
    let Some(start) = &spec.start_at else { return };
    if spec.phases.full || !spec.phases.incremental {
        let detail = "is for incremental alone: with phase full the start is taken before the copy";
        faults.push(Fault::new("/start_at", "invalid", detail));
    }
    let problem = match start {
        StartAt::Earliest | StartAt::Latest => None,
        StartAt::Offset(text) => text
            .parse::<i64>()
            .ok()
            .filter(|offset| *offset >= 0)
            .is_none()
            .then_some(("/start_at/offset", "must be a decimal number, as a string")),
        StartAt::Tso(text) => text
            .parse::<u64>()
            .ok()
            .filter(|tso| i64::try_from(*tso).is_ok())
            .is_none()
            .then_some(("/start_at/tso", "must be a TSO in decimal, as a string")),
        StartAt::Time(text) => chrono::DateTime::parse_from_rfc3339(text)
            .is_err()
            .then_some(("/start_at/time", "must be a time like 2024-05-01T00:00:00Z")),
    };
    if let Some((pointer, detail)) = problem {
        faults.push(Fault::new(pointer, "invalid", detail));
    }
}

const COPIES_COLUMNS: &str = "rebuild is for add_column, drop_column, rename_column and modify_column; apply copies a table again where it must";
const COPIES_NEED_SOURCE: &str = "copies tables from a tidb connection: name one in source.tidb";

/// Policies that copy tables again, of one table.
fn check_table_copies(pointer: &str, ddl: &TableDdl, has_source: bool, faults: &mut Vec<Fault>) {
    let columns = [
        ("add_column", ddl.add_column),
        ("drop_column", ddl.drop_column),
        ("rename_column", ddl.rename_column),
        ("modify_column", ddl.modify_column),
    ];
    let others = [
        ("create_table", ddl.create_table),
        ("drop_table", ddl.drop_table),
        ("truncate_table", ddl.truncate_table),
        ("rename_table", ddl.rename_table),
        ("partition", ddl.partition),
        ("view", ddl.view),
        ("other", ddl.other),
    ];
    let is_rebuild = |policy: Option<DdlPolicy>| policy == Some(DdlPolicy::Rebuild);
    for (name, _) in others.into_iter().filter(|(_, policy)| is_rebuild(*policy)) {
        faults.push(Fault::new(child(pointer, name), "invalid", COPIES_COLUMNS));
    }
    for (name, _) in columns.into_iter().filter(|(_, policy)| !has_source && is_rebuild(*policy)) {
        faults.push(Fault::new(child(pointer, name), "invalid", COPIES_NEED_SOURCE));
    }
}

/// Policies that copy tables again.
fn check_copies(spec: &Spec, faults: &mut Vec<Fault>) {
    for (table, rule) in &spec.objects.tables {
        let pointer = child(&child("/objects/tables", table), "ddl");
        check_table_copies(&pointer, &rule.ddl, spec.source.tidb.is_some(), faults);
    }
    let ddl = &spec.ddl;
    let columns = [
        ("add_column", ddl.add_column),
        ("drop_column", ddl.drop_column),
        ("rename_column", ddl.rename_column),
        ("modify_column", ddl.modify_column),
    ];
    let others = [
        ("create_database", ddl.create_database),
        ("drop_database", ddl.drop_database),
        ("create_table", ddl.create_table),
        ("drop_table", ddl.drop_table),
        ("truncate_table", ddl.truncate_table),
        ("rename_table", ddl.rename_table),
        ("partition", ddl.partition),
        ("view", ddl.view),
        ("other", ddl.other),
    ];
    for (name, _) in others.into_iter().filter(|(_, policy)| *policy == DdlPolicy::Rebuild) {
        faults.push(Fault::new(child("/ddl", name), "invalid", COPIES_COLUMNS));
    }
    if spec.source.tidb.is_some() {
        return;
    }
    for (name, _) in columns.into_iter().filter(|(_, policy)| *policy == DdlPolicy::Rebuild) {
        faults.push(Fault::new(child("/ddl", name), "invalid", COPIES_NEED_SOURCE));
    }
    if spec.online_ddl.mode == OnlineDdlMode::Ignore {
        faults.push(Fault::new("/online_ddl/mode", "invalid", COPIES_NEED_SOURCE));
    }
}

/// Whether a label may have this name.
fn label_name(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/');
    (1..=63).contains(&name.len()) && name.chars().all(plain)
}

fn check_labels(spec: &Spec, faults: &mut Vec<Fault>) {
    if spec.labels.len() > 64 {
        faults.push(Fault::new("/labels", "invalid", "at most 64 labels"));
    }
    for (key, value) in &spec.labels {
        if !label_name(key) {
            let detail = "a label's name has 1 to 63 of A-Z a-z 0-9 _ - . /";
            faults.push(Fault::new(child("/labels", key), "invalid", detail));
        } else if value.len() > 255 {
            faults.push(Fault::new(
                child("/labels", key),
                "invalid",
                "a label's value has at most 255 bytes",
            ));
        }
    }
}

fn check_merge(spec: &Spec, faults: &mut Vec<Fault>) {
    let Some(merge) = &spec.merge else { return };
    if merge.column.is_empty() || merge.column.chars().count() > 64 {
        faults.push(Fault::new("/merge/column", "invalid", "a column's name has 1 to 64 characters"));
    }
    if let Some(detail) = merge.value_fault() {
        faults.push(Fault::new("/merge/value", "invalid", detail));
    }
    if spec.tables_without_key != TablesWithoutKey::Refuse {
        let detail = "tables without a key cannot be merged";
        faults.push(Fault::new("/tables_without_key", "invalid", detail));
    }
}

fn check_table(pointer: &str, rule: &TableSpec, faults: &mut Vec<Fault>) {
    let mut fault = |pointer: String, detail: String| faults.push(Fault::new(pointer, "invalid", detail));
    if let Some(Err(error)) = rule.filter.as_deref().map(Condition::parse) {
        fault(child(pointer, "filter"), error.to_string());
    }
    for (at, operation) in rule.operations.iter().enumerate() {
        if rule.operations.iter().take(at).any(|earlier| earlier == operation) {
            fault(child(&child(pointer, "operations"), at), "is listed twice".to_owned());
        }
    }
    if rule.operations.is_empty() {
        let detail = "list at least one of insert, update, delete, or exclude the table";
        fault(child(pointer, "operations"), detail.to_owned());
    }
    if rule.primary_key.as_ref().is_some_and(Vec::is_empty) {
        fault(child(pointer, "primary_key"), "name at least one column".to_owned());
    }
    let Some(columns) = &rule.columns else { return };
    let columns_pointer = child(pointer, "columns");
    let mut names = HashSet::new();
    for (at, name) in columns.exclude.iter().enumerate() {
        if name.is_empty() || !names.insert(name.to_lowercase()) {
            let detail = if name.is_empty() { "name a column" } else { "is listed twice" };
            fault(child(&child(&columns_pointer, "exclude"), at), detail.to_owned());
        }
    }
    let mut targets = HashSet::new();
    for (from, to) in &columns.rename {
        let detail = if from.is_empty() || !names.insert(from.to_lowercase()) {
            "this column is excluded, or has a rule already"
        } else if to.is_empty() || to.chars().count() > 64 {
            "a column's name has 1 to 64 characters"
        } else if !targets.insert(to.to_lowercase()) {
            "another column gets this name too"
        } else {
            continue;
        };
        fault(child(&child(&columns_pointer, "rename"), from), detail.to_owned());
    }
}

/// Rules between a spec and the kind of its target.
pub fn validate_for_target(spec: &Spec, adb: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    if adb && spec.tables_without_key == TablesWithoutKey::MatchRow {
        let detail = "match_row needs transactions on the target: mysql connections only";
        faults.push(Fault::new("/tables_without_key", "invalid", detail));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(change: impl FnOnce(&mut Value)) -> Vec<(String, &'static str)> {
        let mut body = json!({
            "name": "t", "source": {"tidb": "a", "kafka": "b", "topic": "c"}, "target": "d",
            "objects": {"include": ["shop.*"]},
        });
        change(&mut body);
        let spec: Spec = serde_json::from_value(body).unwrap();
        validate(&spec).into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn the_smallest_spec_is_valid() {
        assert_eq!(faults(|_| {}), []);
    }

    #[test]
    fn incremental_alone_needs_no_tidb_but_a_start() {
        let alone = |body: &mut Value| {
            body["phases"] = json!({"schema": false, "full": false});
            body["source"].as_object_mut().unwrap().remove("tidb");
        };
        assert_eq!(faults(alone), [("/start_at".to_owned(), "required")]);
        for (start, expected) in [
            (json!("earliest"), None),
            (json!({"offset": "12"}), None),
            (json!({"tso": "449000000000000000"}), None),
            (json!({"time": "2024-05-01T00:00:00+08:00"}), None),
            (json!({"offset": "-1"}), Some("/start_at/offset")),
            (json!({"tso": "x"}), Some("/start_at/tso")),
            (json!({"time": "yesterday"}), Some("/start_at/time")),
        ] {
            let found = faults(|body| {
                alone(body);
                body["start_at"] = start.clone();
            });
            assert_eq!(found.first().map(|fault| fault.0.as_str()), expected, "{start}");
        }
    }

    #[test]
    fn phases_say_which_endpoints_are_needed() {
        assert_eq!(
            faults(|body| body["source"] = json!({})),
            [
                ("/source/tidb".to_owned(), "required"),
                ("/source/kafka".to_owned(), "required"),
                ("/source/topic".to_owned(), "required")
            ]
        );
        assert_eq!(
            faults(|body| {
                body["phases"] = json!({"incremental": false});
                body["source"] = json!({"tidb": "a"});
            }),
            []
        );
        let none = json!({"schema": false, "full": false, "incremental": false});
        assert_eq!(faults(|body| body["phases"] = none), [("/phases".to_owned(), "invalid")]);
    }

    #[test]
    fn what_copies_tables_again_needs_a_source_and_is_for_columns() {
        assert_eq!(faults(|body| body["ddl"] = json!({"modify_column": "rebuild"})), []);
        assert_eq!(faults(|body| body["online_ddl"] = json!({"mode": "ignore"})), []);
        assert_eq!(
            faults(|body| body["ddl"] = json!({"drop_table": "rebuild"})),
            [("/ddl/drop_table".to_owned(), "invalid")]
        );
        assert_eq!(
            faults(|body| body["objects"]["tables"] =
                json!({"shop.t": {"ddl": {"view": "rebuild", "add_column": "rebuild"}}})),
            [("/objects/tables/shop.t/ddl/view".to_owned(), "invalid")]
        );
        let alone = |body: &mut Value| {
            body["phases"] = json!({"schema": false, "full": false});
            body["start_at"] = json!("earliest");
            body["source"].as_object_mut().unwrap().remove("tidb");
            body["ddl"] = json!({"add_column": "rebuild"});
            body["online_ddl"] = json!({"mode": "ignore"});
        };
        let pointers = ["/ddl/add_column", "/online_ddl/mode"];
        assert_eq!(faults(alone), pointers.map(|pointer| (pointer.to_owned(), "invalid")));
    }
}

//! Tables taken into a selection of objects, and out of it, by their names or patterns.

use std::collections::BTreeMap;

use super::fault::{Fault, child};
use super::pattern::{NamePattern, TablePattern};
use super::spec::{Objects, TableSpec};
use crate::model::TableName;

/// A table's name as a spec writes it.
pub fn quoted(name: &TableName) -> String {
    let quote = |text: &str| format!("`{}`", text.replace('`', "``"));
    format!("{}.{}", quote(&name.schema), quote(&name.table))
}

/// Parses all names, each with its place in the request.
fn patterns(names: &[String]) -> Result<Vec<TablePattern>, Vec<Fault>> {
    let mut faults = Vec::new();
    if names.is_empty() {
        faults.push(Fault::new("/tables", "empty", "name at least one table, or a pattern such as shop.*"));
    }
    let mut found = Vec::new();
    for (at, text) in names.iter().enumerate() {
        match TablePattern::parse(text) {
            Ok(pattern) => found.push(pattern),
            Err(detail) => faults.push(Fault::new(child("/tables", at), "invalid_name", detail)),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn takes(pattern: &TablePattern, text: &str) -> bool {
    let name = TablePattern::parse(text).ok().and_then(|name| name.literal());
    name.is_some_and(|(schema, table)| {
        pattern.schema.matches_folded(&schema.to_lowercase())
            && pattern.table.matches_folded(&table.to_lowercase())
    })
}

fn any_takes(patterns: &[String], name: &TablePattern) -> bool {
    let text = name.to_string();
    patterns.iter().any(|pattern| TablePattern::parse(pattern).is_ok_and(|pattern| takes(&pattern, &text)))
}

/// Same pattern, whatever its case and quoting.
fn is_same(text: &str, pattern: &TablePattern) -> bool {
    TablePattern::parse(text)
        .is_ok_and(|other| other.to_string().to_lowercase() == pattern.to_string().to_lowercase())
}

/// Takes tables in, with the rules of single ones. What was excluded under just this name no longer is.
///
/// # Errors
/// Names that cannot be parsed, and tables that another pattern goes on excluding.
pub fn add(
    objects: &mut Objects,
    names: &[String],
    rules: BTreeMap<String, TableSpec>,
) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    for (at, pattern) in patterns(names)?.iter().enumerate() {
        objects.exclude.retain(|text| !is_same(text, pattern));
        if pattern.literal().is_some() && any_takes(&objects.exclude, pattern) {
            let detail = format!("objects.exclude takes {pattern} out: narrow the pattern there first");
            faults.push(Fault::new(child("/tables", at), "excluded", detail));
        }
        let is_there = objects.include.iter().any(|text| is_same(text, pattern))
            || (pattern.literal().is_some() && any_takes(&objects.include, pattern));
        if !is_there {
            objects.include.push(pattern.to_string());
        }
    }
    objects.tables.extend(rules);
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Takes tables out, with the rules that name none any more.
///
/// # Errors
/// Names that cannot be parsed, and a selection that would be empty.
pub fn remove(objects: &mut Objects, names: &[String]) -> Result<(), Vec<Fault>> {
    for pattern in patterns(names)? {
        if pattern.schema.is_everything() && pattern.table.is_everything() {
            objects.include.clear();
        }
        let was_listed = objects.include.iter().any(|text| is_same(text, &pattern));
        objects.include.retain(|text| !is_same(text, &pattern) && !takes(&pattern, text));
        let goes_on = match pattern.literal() {
            Some(_) => any_takes(&objects.include, &pattern),
            None => !was_listed,
        };
        if goes_on && !objects.exclude.iter().any(|text| is_same(text, &pattern)) {
            objects.exclude.push(pattern.to_string());
        }
    }
    if objects.include.is_empty() {
        let detail = "no table would be left: stop the task instead";
        return Err(vec![Fault::new("/tables", "empty", detail)]);
    }
    let (include, exclude) = (&objects.include, &objects.exclude);
    objects.tables.retain(|name, _| {
        TablePattern::parse(name).is_ok_and(|name| any_takes(include, &name) && !any_takes(exclude, &name))
    });
    let schemas: Vec<NamePattern> = include
        .iter()
        .filter_map(|text| TablePattern::parse(text).ok().map(|pattern| pattern.schema))
        .collect();
    objects.schemas.retain(|name, _| {
        let folded = super::pattern::parse_name(name).ok().and_then(|name| name.literal());
        folded.is_some_and(|name| schemas.iter().any(|schema| schema.matches_folded(&name.to_lowercase())))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects(body: serde_json::Value) -> Objects {
        serde_json::from_value(body).unwrap()
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tables_come_in_under_their_names() {
        let mut found = objects(json!({"include": ["shop.*"], "exclude": ["shop.old", "log.tmp_*"]}));
        let rules = BTreeMap::from([("crm.a".to_owned(), TableSpec::default())]);
        add(&mut found, &names(&["SHOP.Old", "crm.a", "log.*", "shop.b"]), rules).unwrap();
        assert_eq!(found.include, ["shop.*", "crm.a", "log.*"], "shop.* has the others");
        assert_eq!(found.exclude, ["log.tmp_*"]);
        assert!(found.tables.contains_key("crm.a"));
        let faults = add(&mut found, &names(&["log.tmp_1"]), BTreeMap::new()).unwrap_err();
        assert_eq!((faults[0].pointer.as_str(), faults[0].code), ("/tables/0", "excluded"));
        assert_eq!(add(&mut found, &names(&["a"]), BTreeMap::new()).unwrap_err()[0].code, "invalid_name");
        assert_eq!(quoted(&TableName::new("a.b", "c`d")), "`a.b`.`c``d`");
    }

    #[test]
    fn tables_go_with_their_rules() {
        let mut found = objects(json!({
            "include": ["shop.*", "crm.a", "crm.b", "log.x_*"],
            "schemas": {"shop": {"target": "s"}, "log": {"target": "l"}},
            "tables": {"shop.orders": {}, "crm.a": {}},
        }));
        remove(&mut found, &names(&["crm.*", "shop.Orders", "log.x_*"])).unwrap();
        assert_eq!(found.include, ["shop.*"]);
        assert_eq!(found.exclude, ["crm.*", "shop.Orders"]);
        assert!(found.tables.is_empty());
        assert_eq!(found.schemas.keys().collect::<Vec<_>>(), ["shop"]);
        for all in ["shop.*", "*.*"] {
            assert_eq!(remove(&mut found.clone(), &names(&[all])).unwrap_err()[0].code, "empty");
        }
    }
}

//! What another selection of objects means for one table of a task: it comes, it goes, or its copy must be made again.

use super::selection::Selection;
use super::table_spec::TableSpec;
use crate::model::TableName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Comes,
    /// Its data stays on the target.
    Goes,
    /// What is on the target was made by other rules.
    Again {
        why: String,
        /// It goes to another table of the target.
        moved: bool,
    },
}

/// What becomes of a table; None when nothing does.
pub fn turn(old: &Selection, new: &Selection, name: &TableName) -> Option<Turn> {
    match (old.selects(name), new.selects(name)) {
        (false, false) => None,
        (false, true) => Some(Turn::Comes),
        (true, false) => Some(Turn::Goes),
        (true, true) => again(old, new, name),
    }
}

fn again(old: &Selection, new: &Selection, name: &TableName) -> Option<Turn> {
    let default = TableSpec::default();
    let (before, after) = (old.options(name).unwrap_or(&default), new.options(name).unwrap_or(&default));
    let mut reasons = Vec::new();
    let (from, to) = (old.target(name), new.target(name));
    if from != to {
        reasons.push(format!("it goes to {to} and no longer to {from}, which stays as it is"));
    }
    for (differs, what) in [
        (
            before.columns.clone().unwrap_or_default() != after.columns.clone().unwrap_or_default(),
            "its columns",
        ),
        (before.filter != after.filter, "its filter"),
        (before.primary_key != after.primary_key, "its primary_key"),
        (before.kind != after.kind, "its kind"),
        (before.distribute_by != after.distribute_by, "its distribute_by"),
        (before.partition_by != after.partition_by, "its partition_by"),
        (before.lifecycle_partitions != after.lifecycle_partitions, "its lifecycle_partitions"),
    ] {
        if differs {
            reasons.push(format!("{what} changed"));
        }
    }
    (!reasons.is_empty()).then(|| Turn::Again { why: reasons.join(", "), moved: from != to })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selection(objects: &Value) -> Selection {
        let spec = json!({"name": "t", "source": {}, "target": "d", "objects": objects});
        Selection::new(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    #[test]
    fn a_table_comes_goes_or_is_copied_again() {
        let name = TableName::new("shop", "Orders");
        let all = json!({"include": ["shop.*"]});
        let with = |rule: Value| json!({"include": ["shop.*"], "tables": {"shop.orders": rule}});
        let mapped = json!({"include": ["shop.*"], "schemas": {"shop": {"target": "dw"}}});
        for (old, new, expected) in [
            (all.clone(), json!({"include": ["shop.orders", "shop.*"]}), ""),
            (all.clone(), json!({"include": ["shop.*"], "exclude": ["shop.o*"]}), "goes"),
            (json!({"include": ["crm.*"]}), all.clone(), "comes"),
            (json!({"include": ["crm.*"]}), json!({"include": ["crm.a"]}), ""),
            (all.clone(), with(json!({"operations": ["insert"], "ddl": {"view": "stop"}})), ""),
            (all.clone(), with(json!({"columns": {"exclude": [], "rename": {}}})), ""),
            (all.clone(), with(json!({"columns": {"exclude": ["a"]}})), "its columns changed"),
            (with(json!({"filter": "a > 1"})), all.clone(), "its filter changed"),
            (all, mapped, "moved it goes to dw.Orders and no longer to shop.Orders, which stays as it is"),
        ] {
            let found = match turn(&selection(&old), &selection(&new), &name) {
                None => String::new(),
                Some(Turn::Comes) => "comes".to_owned(),
                Some(Turn::Goes) => "goes".to_owned(),
                Some(Turn::Again { why, moved: false }) => why,
                Some(Turn::Again { why, moved: true }) => format!("moved {why}"),
            };
            assert_eq!(found, expected, "{old} {new}");
        }
    }
}

//! The value that tells the rows of merged tables apart.

use super::spec::Merge;
use crate::model::TableName;

/// What may stand in braces.
const PLACEHOLDERS: [&str; 3] = ["task", "schema", "table"];

impl Merge {
    /// The value of a table's rows.
    pub fn value_of(&self, task: &str, table: &TableName) -> String {
        let mut out = String::new();
        let mut rest = self.value.as_str();
        while let Some((text, behind)) = rest.split_once('{') {
            out.push_str(text);
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            out.push_str(match name {
                "task" => task,
                "schema" => &table.schema,
                "table" => &table.table,
                _ => "",
            });
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// True when the value changes with the task's name.
    pub fn names_task(&self) -> bool {
        self.value.contains("{task}")
    }

    /// What is wrong with the value.
    pub fn value_fault(&self) -> Option<String> {
        let known = || PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
        let mut rest = self.value.as_str();
        let mut used = Vec::new();
        while let Some((text, behind)) = rest.split_once('{') {
            if text.contains('}') {
                return Some(format!("a `}}` without its `{{`; placeholders are {}", known()));
            }
            let Some((name, after)) = behind.split_once('}') else {
                return Some(format!("a `{{` without its `}}`; placeholders are {}", known()));
            };
            if !PLACEHOLDERS.contains(&name) {
                return Some(format!("unknown placeholder {{{name}}}; there are {}", known()));
            }
            used.push(name);
            rest = after;
        }
        if rest.contains('}') {
            return Some(format!("a `}}` without its `{{`; placeholders are {}", known()));
        }
        (!used.contains(&"table"))
            .then(|| "must have {table}: rows of two tables could not be told apart".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(value: &str) -> Merge {
        Merge { column: "__source".to_owned(), value: value.to_owned() }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let table = TableName::new("sho{p", "orders");
        assert_eq!(merge("{task}:{schema}.{table}!").value_of("t", &table), "t:sho{p.orders!");
    }

    #[test]
    fn unknown_placeholders_are_faults() {
        assert_eq!(merge("{task}:{schema}.{table}").value_fault(), None);
        for value in ["{table}{instance}", "{table", "table}", "{table}}", "{schema}", "", "{{table}}"] {
            assert!(merge(value).value_fault().is_some(), "{value}");
        }
    }
}

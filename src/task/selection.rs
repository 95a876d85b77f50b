//! Compiles the names of a spec: which tables it selects and what they are called on the target.
//!
//! Names compare without case, as in TiDB. An exclude wins over every include. Schemas of the server's own (`mysql`,
//! `information_schema`, ...) are never selected, whatever a glob says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use super::fault::{Fault, child};
use super::pattern::{TablePattern, is_system_schema, parse_name};
use super::spec::{NameCase, Spec, TableSpec};
use crate::model::TableName;
use crate::shared::Shared;

/// Patterns of one list, the literal ones ready for look-up.
#[derive(Debug, Clone, Default)]
struct Patterns {
    /// Keys (lower case) of names without globs.
    literal: HashSet<TableName>,
    literal_schemas: HashSet<String>,
    globs: Vec<TablePattern>,
}

impl Patterns {
    fn compile(list: &[String], pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let mut patterns = Self::default();
        for (index, text) in list.iter().enumerate() {
            let pattern = match TablePattern::parse(text) {
                Ok(pattern) => pattern,
                Err(detail) => {
                    faults.push(Fault::new(child(pointer, index), "invalid_name", detail));
                    continue;
                }
            };
            if let Some(schema) = pattern.schema.literal().filter(|schema| is_system_schema(schema)) {
                let detail = format!("{schema} belongs to the server itself and cannot be synchronised");
                faults.push(Fault::new(child(pointer, index), "system_schema", detail));
            } else if let Some((schema, table)) = pattern.literal() {
                let key = TableName::new(schema, table).key();
                patterns.literal_schemas.insert(key.schema.clone());
                patterns.literal.insert(key);
            } else {
                patterns.globs.push(pattern);
            }
        }
        patterns
    }

    fn matches(&self, key: &TableName) -> bool {
        self.literal.contains(key)
            || self
                .globs
                .iter()
                .any(|glob| glob.schema.matches_folded(&key.schema) && glob.table.matches_folded(&key.table))
    }

    fn covers_schema(&self, folded: &str) -> bool {
        self.globs.iter().any(|glob| glob.table.is_everything() && glob.schema.matches_folded(folded))
    }

    fn touches_schema(&self, folded: &str) -> bool {
        self.literal_schemas.contains(folded)
            || self.globs.iter().any(|glob| glob.schema.matches_folded(folded))
    }
}

#[derive(Debug, Clone)]
struct TableRule {
    options: TableSpec,
    target: Option<TableName>,
}

/// The names of one spec, compiled; cheap to ask, made once per run.
#[derive(Debug, Clone)]
pub struct Selection {
    include: Patterns,
    exclude: Patterns,
    everything: bool,
    /// Source schema (lower case) -> target schema.
    schemas: HashMap<String, String>,
    /// By key of the source table.
    tables: HashMap<TableName, TableRule>,
    case: NameCase,
    /// Names of shadow tables of online DDL; validated where the spec is.
    shadows: Vec<String>,
    /// They are asked for few tables, and compiling them is most of what a selection costs.
    compiled_shadows: OnceLock<Vec<Arc<regex::Regex>>>,
}

/// The patterns in use: nearly every task has the same ones.
static SHADOWS: Shared<regex::Regex> = Shared::new();

fn compiled_shadow(text: &str) -> Option<Arc<regex::Regex>> {
    SHADOWS.get(|known| known.as_str() == text, || regex::Regex::new(text).map(Arc::new)).ok()
}

impl Selection {
    /// # Errors
    /// Every name of `objects` that cannot be used, with its place in the spec.
    pub fn new(spec: &Spec) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let objects = &spec.objects;
        if objects.include.is_empty() {
            faults.push(Fault::new(
                "/objects/include",
                "required",
                "name at least one table, for example shop.*",
            ));
        }
        let mut selection = Self {
            include: Patterns::compile(&objects.include, "/objects/include", &mut faults),
            exclude: Patterns::compile(&objects.exclude, "/objects/exclude", &mut faults),
            everything: objects.include.iter().any(|text| text == "*.*") && objects.exclude.is_empty(),
            schemas: HashMap::new(),
            tables: HashMap::new(),
            case: spec.names,
            shadows: spec.online_ddl.shadow_patterns.clone(),
            compiled_shadows: OnceLock::new(),
        };
        let names_compiled = faults.is_empty();
        selection.compile_schemas(spec, names_compiled, &mut faults);
        selection.compile_tables(&objects.tables, spec.merge.is_some(), names_compiled, &mut faults);
        if faults.is_empty() { Ok(selection) } else { Err(faults) }
    }

    fn compile_schemas(&mut self, spec: &Spec, names_compiled: bool, faults: &mut Vec<Fault>) {
        let mut seen = HashSet::new();
        for (text, rule) in &spec.objects.schemas {
            let pointer = child("/objects/schemas", text);
            let Some(schema) = literal_schema(text, &pointer, faults) else { continue };
            let folded = schema.to_lowercase();
            if !seen.insert(folded.clone()) {
                faults.push(Fault::new(pointer, "duplicate_key", format!("another key means {schema} too")));
                continue;
            }
            if names_compiled && !self.could_select_schema(&folded) {
                let detail = format!("no table of {schema} is selected by objects.include");
                faults.push(Fault::new(pointer.as_str(), "not_selected", detail));
            }
            if let Some(target) = &rule.target
                && let Some(target) = literal_schema(target, &child(&pointer, "target"), faults)
            {
                self.schemas.insert(folded, target);
            }
        }
    }

    fn compile_tables(
        &mut self,
        tables: &BTreeMap<String, TableSpec>,
        merged: bool,
        names_compiled: bool,
        faults: &mut Vec<Fault>,
    ) {
        // Folded target -> key of the spec that named it: on a target whose names have no case they would be one table.
        let mut targets: HashMap<TableName, &str> = HashMap::new();
        for (text, options) in tables {
            let pointer = child("/objects/tables", text);
            let source = literal_table(text, &pointer, faults);
            let target = match &options.target {
                None => None,
                Some(target) => literal_table(target, &child(&pointer, "target"), faults),
            };
            let Some(source) = source else { continue };
            if self.tables.contains_key(&source.key()) {
                faults.push(Fault::new(pointer, "duplicate_key", format!("another key means {source} too")));
                continue;
            }
            if names_compiled && !self.selects(&source) {
                let detail = format!("{source} is not selected by objects.include and objects.exclude");
                faults.push(Fault::new(pointer.as_str(), "not_selected", detail));
            }
            if let Some(target) = &target
                && let Some(other) = targets.insert(target.key(), text).filter(|_| !merged)
            {
                let detail = format!("{other} goes to {target} already; many tables into one need `merge`");
                faults.push(Fault::new(child(&pointer, "target"), "duplicate_target", detail));
            }
            self.tables.insert(source.key(), TableRule { options: options.clone(), target });
        }
    }

    /// True when the table is part of the task.
    pub fn selects(&self, name: &TableName) -> bool {
        let key = name.key();
        !is_system_schema(&key.schema) && self.include.matches(&key) && !self.exclude.matches(&key)
    }

    /// True when no table at all is left out: the task knows every one.
    pub fn selects_all(&self) -> bool {
        self.everything
    }

    /// True when a whole schema is selected (`s.*`): tables created later and the schema's own DDL are part of the task.
    /// Single tables of it may still be excluded.
    pub fn selects_schema(&self, schema: &str) -> bool {
        let folded = schema.to_lowercase();
        !is_system_schema(&folded)
            && self.include.covers_schema(&folded)
            && !self.exclude.covers_schema(&folded)
    }

    /// True when a table of this schema may be part of the task.
    pub fn could_select_schema(&self, schema: &str) -> bool {
        let folded = schema.to_lowercase();
        !is_system_schema(&folded)
            && self.include.touches_schema(&folded)
            && !self.exclude.covers_schema(&folded)
    }

    /// True when the table is selected by its own name, whether or not a glob selects it too.
    pub fn is_literal(&self, name: &TableName) -> bool {
        let key = name.key();
        self.include.literal.contains(&key) && !self.exclude.matches(&key)
    }

    /// Selected tables that the spec names one by one, as keys (lower case): they must exist on the source.
    pub fn literals(&self) -> impl Iterator<Item = &TableName> {
        self.include.literal.iter().filter(|key| !self.exclude.matches(key))
    }

    /// Name on the target: the table's own rule, else the schema's, then the case policy. Names that the spec gives for the
    /// target are taken as written.
    pub fn target(&self, name: &TableName) -> TableName {
        match self.tables.get(&name.key()).and_then(|rule| rule.target.as_ref()) {
            Some(target) => target.clone(),
            None => TableName::new(self.target_schema(&name.schema), self.case(&name.table)),
        }
    }

    pub fn target_schema(&self, schema: &str) -> String {
        match self.schemas.get(&schema.to_lowercase()) {
            Some(target) => target.clone(),
            None => self.case(schema),
        }
    }

    /// The selected table that a table of this name would be a shadow of, in an online DDL (gh-ost, pt-online-schema-change).
    pub fn shadow_of(&self, name: &TableName) -> Option<TableName> {
        self.compiled_shadows
            .get_or_init(|| self.shadows.iter().filter_map(|text| compiled_shadow(text)).collect())
            .iter()
            .filter_map(|pattern| pattern.captures(&name.table)?.get(1))
            .map(|real| TableName::new(&name.schema, real.as_str()))
            .find(|real| real.key() != name.key() && self.selects(real))
    }

    /// The table's entry in `objects.tables`.
    pub fn options(&self, name: &TableName) -> Option<&TableSpec> {
        self.tables.get(&name.key()).map(|rule| &rule.options)
    }

    fn case(&self, name: &str) -> String {
        match self.case {
            NameCase::AsSource => name.to_owned(),
            NameCase::Lower => name.to_lowercase(),
            NameCase::Upper => name.to_uppercase(),
        }
    }
}

fn literal_schema(text: &str, pointer: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let result = parse_name(text).and_then(|name| {
        name.literal().ok_or_else(|| format!("\"{text}\" must be one schema: no * or ? here"))
    });
    result.map_err(|detail| faults.push(Fault::new(pointer, "invalid_name", detail))).ok()
}

fn literal_table(text: &str, pointer: &str, faults: &mut Vec<Fault>) -> Option<TableName> {
    let result = TablePattern::parse(text).and_then(|name| {
        name.literal().ok_or_else(|| format!("\"{text}\" must be one table: no * or ? here"))
    });
    result
        .map(|(schema, table)| TableName::new(schema, table))
        .map_err(|detail| faults.push(Fault::new(pointer, "invalid_name", detail)))
        .ok()
}

/// Rewrites every name of `objects` in its canonical spelling; what cannot be parsed stays ([`Selection::new`] refuses it).
pub fn canonicalize(spec: &mut Spec) {
    let table =
        |text: &str| TablePattern::parse(text).map_or_else(|_| text.to_owned(), |name| name.to_string());
    let schema = |text: &str| parse_name(text).map_or_else(|_| text.to_owned(), |name| name.to_string());
    let objects = &mut spec.objects;
    for text in objects.include.iter_mut().chain(&mut objects.exclude) {
        *text = table(text);
    }
    objects.schemas = std::mem::take(&mut objects.schemas)
        .into_iter()
        .map(|(key, mut rule)| {
            rule.target = rule.target.as_deref().map(schema);
            (schema(&key), rule)
        })
        .collect();
    objects.tables = std::mem::take(&mut objects.tables)
        .into_iter()
        .map(|(key, mut rule)| {
            rule.target = rule.target.as_deref().map(table);
            (table(&key), rule)
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(objects: serde_json::Value, names: &str) -> Spec {
        serde_json::from_value(json!({
            "name": "t", "source": {"tidb": "a", "kafka": "b", "topic": "c"}, "target": "d",
            "objects": objects, "names": names,
        }))
        .unwrap()
    }

    fn name(text: &str) -> TableName {
        let (schema, table) = text.split_once('.').unwrap();
        TableName::new(schema, table)
    }

    fn compiled(objects: serde_json::Value) -> Selection {
        Selection::new(&spec(objects, "as_source")).unwrap()
    }

    #[test]
    fn exclude_wins_and_system_schemas_are_never_selected() {
        let selection = compiled(json!({"include": ["*.*"], "exclude": ["shop.tmp_*", "crm.secret"]}));
        assert!(selection.selects(&name("Shop.Orders")));
        assert!(!selection.selects(&name("shop.TMP_1")));
        assert!(!selection.selects(&name("CRM.secret")));
        assert!(!selection.selects(&name("mysql.user")));
        assert!(!selection.selects_schema("INFORMATION_SCHEMA"));
        assert!(selection.selects_schema("shop"));
    }

    #[test]
    fn only_a_glob_over_all_tables_takes_in_the_schema() {
        let selection =
            compiled(json!({"include": ["shop.*", "crm.customer", "log.2024_*"], "exclude": ["old.*"]}));
        assert!(selection.selects_schema("SHOP"));
        assert!(!selection.selects_schema("crm"));
        assert!(!selection.selects_schema("log"));
        assert!(selection.could_select_schema("crm"));
        assert!(selection.could_select_schema("log"));
        assert!(!selection.could_select_schema("old"));
        assert!(selection.is_literal(&name("CRM.Customer")));
        assert!(!selection.is_literal(&name("shop.orders")));
        assert_eq!(selection.literals().collect::<Vec<_>>(), [&name("crm.customer")]);
    }

    #[test]
    fn targets_come_from_the_table_then_the_schema_then_the_case_policy() {
        let objects = json!({
            "include": ["Shop.*", "crm.*"],
            "schemas": {"shop": {"target": "DW"}},
            "tables": {"SHOP.orders": {"target": "`d.w`.Facts", "lifecycle_partitions": 3}, "shop.items": {"kind": "dimension"}},
        });
        let selection = Selection::new(&spec(objects, "lower")).unwrap();
        assert_eq!(selection.target(&name("Shop.Orders")), TableName::new("d.w", "Facts"));
        assert_eq!(selection.target(&name("Shop.Items")), TableName::new("DW", "items"));
        assert_eq!(selection.target(&name("CRM.Customer")), TableName::new("crm", "customer"));
        assert_eq!(selection.target_schema("SHOP"), "DW");
        assert_eq!(selection.options(&name("shop.ORDERS")).unwrap().lifecycle_partitions, Some(3));
        assert!(selection.options(&name("crm.customer")).is_none());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let objects = json!({
            "include": ["orders", "mysql.user"], "exclude": ["a.`b"],
            "schemas": {"s*": {}, "a.b": {}},
            "tables": {"x.*": {}, "x.y": {"target": "z"}, "X.`Y`": {}},
        });
        let faults = Selection::new(&spec(objects, "as_source")).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect();
        assert_eq!(
            found,
            [
                ("/objects/include/0", "invalid_name"),
                ("/objects/include/1", "system_schema"),
                ("/objects/exclude/0", "invalid_name"),
                ("/objects/schemas/a.b", "invalid_name"),
                ("/objects/schemas/s*", "invalid_name"),
                ("/objects/tables/x.*", "invalid_name"),
                ("/objects/tables/x.y/target", "invalid_name"),
                ("/objects/tables/x.y", "duplicate_key"),
            ]
        );
    }

    #[test]
    fn rules_for_what_is_not_selected_and_two_tables_to_one_are_refused() {
        let objects = json!({
            "include": ["a.*"], "exclude": ["a.out"], "schemas": {"b": {"target": "c"}},
            "tables": {"a.out": {}, "a.one": {"target": "t.x"}, "a.two": {"target": "T.X"}},
        });
        let faults = Selection::new(&spec(objects, "as_source")).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect();
        assert_eq!(
            found,
            [
                ("/objects/schemas/b", "not_selected"),
                ("/objects/tables/a.out", "not_selected"),
                ("/objects/tables/a.two/target", "duplicate_target"),
            ]
        );
    }

    #[test]
    fn stored_names_are_canonical() {
        let mut spec = spec(
            json!({"include": ["`a`.`b`", "`c.d`.*"], "tables": {"`a`.b": {"target": "x.`y z`"}}, "schemas": {"`a`": {"target": "`q`"}}}),
            "as_source",
        );
        canonicalize(&mut spec);
        assert_eq!(spec.objects.include, ["a.b", "`c.d`.*"]);
        assert_eq!(spec.objects.tables.keys().collect::<Vec<_>>(), ["a.b"]);
        assert_eq!(spec.objects.tables["a.b"].target.as_deref(), Some("x.`y z`"));
        assert_eq!(spec.objects.schemas["a"].target.as_deref(), Some("q"));
    }
}

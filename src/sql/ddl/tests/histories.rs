//! The strong one: the DDL of a whole history, carried out on an empty catalog, gives the tables that the source ended with.

use std::collections::BTreeMap;
use std::fs;

use super::fixtures::{self, Event};
use super::{one, table};
use crate::model::{Column, ColumnDefault, Key, KeyPart, Partitioning, Table, TableName};
use crate::sql::ddl::apply::{alter, create_index, create_like, drop_index, name_keys};
use crate::sql::ddl::ast::{AlterClause, ObjectName, Statement};
use crate::sql::ddl::default_collation;

/// A catalog just clever enough for the histories.
#[derive(Default)]
struct Catalog {
    charsets: BTreeMap<String, (Option<String>, Option<String>)>,
    tables: BTreeMap<TableName, Table>,
    dropped: BTreeMap<TableName, Table>,
}

impl Catalog {
    /// Events do not say the session's database: the event's own first, else the only table of that name.
    fn resolve(&self, name: &ObjectName, event: &Event) -> TableName {
        let here = name.or_schema(&event.schema).key();
        if name.schema.is_some() || self.tables.contains_key(&here) {
            return here;
        }
        let mut same = self.tables.keys().filter(|other| other.table == here.table);
        match (same.next(), same.next()) {
            (Some(only), None) => only.clone(),
            _ => here,
        }
    }

    fn insert(&mut self, name: TableName, mut table: Table) {
        if table.charset.is_none() {
            let (charset, collation) = self.charsets.get(&name.schema).cloned().unwrap_or_default();
            table.charset = charset.or_else(|| Some("utf8mb4".to_owned()));
            table.collation = collation;
        }
        table.name = name.clone();
        name_keys(&mut table);
        self.tables.insert(name.key(), table);
    }

    fn remove(&mut self, name: &TableName) -> Table {
        self.tables.remove(&name.key()).unwrap_or_else(|| panic!("no {name} in {:?}", self.tables.keys()))
    }

    fn get(&mut self, name: &TableName) -> &mut Table {
        self.tables.get_mut(&name.key()).unwrap_or_else(|| panic!("no {name}"))
    }

    fn run(&mut self, event: &Event) {
        let text = event.text();
        match one(&text) {
            Statement::CreateDatabase { name, charset, collation, .. } => {
                self.charsets.insert(name, (charset, collation));
            }
            Statement::AlterDatabase { name, charset, collation } => {
                self.charsets.insert(name.unwrap_or(event.schema.clone()), (charset, collation));
            }
            Statement::DropDatabase { name, .. } => self.tables.retain(|table, _| table.schema != name),
            Statement::CreateTable { name, table, .. } => self.insert(name.or_schema(&event.schema), table),
            Statement::CreateTableLike { name, source, .. } => {
                let source = self.resolve(&source, event);
                let table = create_like(self.get(&source), name.or_schema(&event.schema));
                self.insert(table.name.clone(), table);
            }
            Statement::DropTable { names, .. } => {
                // One event per table, each with the whole text; after a rename the event's name may be stale.
                let own = names.iter().find(|name| name.name == event.table).unwrap_or(&names[0]);
                let name = self.resolve(own, event);
                let table = self.remove(&name);
                self.dropped.insert(name, table);
            }
            Statement::RenameTable { pairs } => {
                for (old, new) in pairs {
                    let old = self.resolve(&old, event);
                    let table = self.remove(&old);
                    self.insert(new.or_schema(&event.schema), table);
                }
            }
            Statement::AlterTable { name, clauses } => {
                let rename = clauses.iter().any(|clause| matches!(clause, AlterClause::Rename { .. }));
                let old = self.resolve(&name, event);
                let mut table = self.remove(&old);
                for clause in &clauses {
                    alter(&mut table, clause).unwrap_or_else(|error| panic!("{text}: {error}"));
                }
                let new =
                    if rename { TableName::new(&event.schema, &event.table) } else { table.name.clone() };
                self.insert(new, table);
            }
            Statement::CreateIndex { table, key, .. } => {
                let name = self.resolve(&table, event);
                create_index(self.get(&name), &key).unwrap();
            }
            Statement::DropIndex { table, name: index, .. } => {
                let name = self.resolve(&table, event);
                drop_index(self.get(&name), &index).unwrap();
            }
            Statement::Recover { names } => {
                let old = names[0].or_schema(&event.schema).key();
                let new = names.last().unwrap().or_schema(&event.schema);
                let table = self.dropped.remove(&old).or_else(|| self.tables.get(&old).cloned()).unwrap();
                self.insert(new, table);
            }
            Statement::TruncateTable { name } => {
                let name = self.resolve(&name, event);
                let table = self.get(&name).clone();
                self.dropped.insert(name, table);
            }
            Statement::View { .. } | Statement::Harmless { .. } => {}
        }
    }
}

fn plain(expression: &str) -> String {
    let stripped: String =
        expression.chars().filter(|character| !character.is_whitespace() && *character != '`').collect();
    stripped.to_lowercase()
}

/// Without what does not matter (widths of integers, DEFAULT NULL, spelling of expressions), and with character sets in full.
fn comparable(mut table: Table) -> Table {
    name_keys(&mut table);
    let charset = table.charset.clone().unwrap_or_else(|| "utf8mb4".to_owned());
    let collation = table.collation.clone().unwrap_or_else(|| default_collation(&charset));
    for column in &mut table.columns {
        comparable_column(column, &charset, &collation);
    }
    for key in &mut table.keys {
        comparable_key(key);
    }
    table.keys.sort_by_key(|key| key.name.clone());
    match &mut table.partitioning {
        Some(
            Partitioning::Range { expression, .. }
            | Partitioning::List { expression, .. }
            | Partitioning::Key { columns: expression, .. },
        ) => {
            for text in expression {
                *text = plain(text);
            }
        }
        Some(Partitioning::Hash { expression, .. }) => *expression = plain(expression),
        Some(Partitioning::Other { .. }) | None => {}
    }
    table.name = table.name.key();
    table.charset = Some(charset);
    table.collation = Some(collation);
    table
}

fn comparable_column(column: &mut Column, charset: &str, collation: &str) {
    if column.ty.name.is_integer() {
        column.ty.length = None;
    }
    let text = column.ty.name.is_text() || !column.ty.labels.is_empty();
    if text {
        let own = column.ty.charset.clone();
        column.ty.collation.get_or_insert_with(|| match &own {
            Some(own) => default_collation(own),
            None => collation.to_owned(),
        });
        column.ty.charset.get_or_insert_with(|| charset.to_owned());
    }
    if column.nullable && column.default.is_none() && column.generated.is_none() {
        column.default = Some(ColumnDefault::Null);
    }
    if let Some(ColumnDefault::Expression(text)) = &mut column.default {
        // SHOW CREATE TABLE names the schema of a sequence.
        *text = plain(text).replace("a_ren2.", "");
    }
    if let Some(generated) = &mut column.generated {
        generated.expression = plain(&generated.expression);
    }
}

fn comparable_key(key: &mut Key) {
    // Said only sometimes in DDL, always by SHOW CREATE TABLE.
    key.clustered = None;
    for part in &mut key.parts {
        if let KeyPart::Expression(text) = part {
            *text = plain(text);
        }
    }
}

/// The tables at the end of a history, as SHOW CREATE TABLE told them.
fn finals(directory: &str) -> BTreeMap<TableName, Table> {
    let mut tables = BTreeMap::new();
    for entry in fs::read_dir(fixtures::path(directory)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let (schema, _) = path.file_stem().unwrap().to_str().unwrap().split_once('.').unwrap();
        let text = fs::read_to_string(&path).unwrap();
        if let Statement::CreateTable { .. } = one(&text) {
            let mut table = table(&text);
            schema.clone_into(&mut table.name.schema);
            tables.insert(table.name.key(), table);
        }
    }
    tables
}

fn replay(history: &str) -> (BTreeMap<TableName, Table>, BTreeMap<TableName, Table>) {
    let mut catalog = Catalog::default();
    for event in fixtures::events(&format!("histories/{history}/messages.jsonl.gz")) {
        catalog.run(&event);
    }
    (catalog.tables, finals(&format!("histories/{history}/final")))
}

#[test]
fn the_ddl_of_history_a_gives_the_final_tables() {
    for zone in ["UTC", "Asia_Shanghai"] {
        let (replayed, finals) = replay(&format!("A/{zone}"));
        assert_eq!(replayed.keys().collect::<Vec<_>>(), finals.keys().collect::<Vec<_>>());
        assert!(finals.len() > 40);
        for (name, table) in finals {
            assert_eq!(comparable(replayed[&name].clone()), comparable(table), "{zone} {name}");
        }
    }
}

#[test]
fn the_ddl_of_the_quirks_gives_the_final_tables() {
    for zone in ["UTC", "Asia_Shanghai"] {
        let (replayed, mut finals) = replay(&format!("A_quirks/{zone}"));
        // FLASHBACK DATABASE ended that Drainer before it could send the event.
        finals.remove(&TableName::new("aq3b", "f"));
        for (name, table) in finals {
            let ours = replayed.get(&name).unwrap_or_else(|| panic!("{name} is not there"));
            assert_eq!(comparable(ours.clone()), comparable(table), "{zone} {name}");
        }
    }
}

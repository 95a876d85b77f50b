//! From a DDL event to what it does: statements for the target and a change of the catalog.
//!
//! Pure. The traps are in source-drainer.md 0.10 to 0.13, 4 and 10: the event names the table as it is *after* the
//! statement, unqualified names belong to a session schema that nobody recorded, `DROP TABLE a, b` comes once per table, and
//! after a multi-table rename rows go on arriving under old names. Where the text and the catalog cannot decide, the plan asks
//! for the source's own definition ([`Plan::Ask`]) or refuses; it never guesses.

use std::collections::{HashMap, HashSet};

use super::catalog::{Catalog, Change, Entry, SchemaChange};
use crate::adb::dialect::{self, TargetStatement};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Table, TableName};
use crate::sql::ddl::apply;
use crate::sql::ddl::ast::{AlterClause, Statement};
use crate::sql::ddl::kind::DdlKind;

mod again;
mod alter;
mod defaults;
mod names;
mod policy;
mod rename;
mod rules;
mod senders;
mod table;

/// What the stream says of a DDL besides its text.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub schema: &'a str,
    pub table: &'a str,
}

impl Event<'_> {
    fn name(&self) -> TableName {
        TableName::new(self.schema, self.table)
    }
}

pub use defaults::Existing;
pub use rename::stays;

/// What to do for a DDL event.
#[derive(Debug)]
pub enum Plan {
    Do(Steps),
    /// Plan again with the source's answer, as of right after the DDL.
    Ask(Ask),
}

/// What the text and the catalog do not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The table's definition: nothing can be planned without it.
    Definition(TableName),
    /// The table's definition for its TIMESTAMP defaults in UTC, if it can be had.
    Defaults(TableName),
    /// What any row of the table holds in the column, if it can be had.
    Existing { table: TableName, column: String },
    /// The name that a table of this name had right before the DDL, if it can be had.
    Before(TableName),
}

/// What the source has answered, by folded names.
#[derive(Debug, Default)]
pub struct Facts {
    pub tables: HashMap<TableName, Table>,
    /// None: nobody can say.
    pub defaults: HashMap<TableName, Option<Table>>,
    pub existing: HashMap<(TableName, String), Existing>,
    /// None: nobody can say.
    pub before: HashMap<TableName, Option<TableName>>,
}

#[derive(Debug, Default)]
pub struct Steps {
    pub statements: Vec<TargetStatement>,
    pub change: Change,
    /// Tables whose rows the stream does not tell from here on: each is copied again after the statements.
    pub resync: Vec<Resync>,
    /// What a person should know: passed over by policy, detached, ...
    pub notes: Vec<String>,
}

/// A table to be copied again from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resync {
    /// Its name at the source after the DDL.
    pub table: TableName,
    pub reason: String,
}

/// Plans the statements of one event in order.
pub fn plan(event: Event<'_>, statements: &[Statement], catalog: &Catalog, facts: &Facts) -> Result<Plan> {
    let mut planner = Planner {
        event,
        catalog: catalog.clone(),
        facts,
        steps: Steps::default(),
        ask: None,
        transient: HashSet::new(),
        together: false,
        place_is_wanted: false,
    };
    for statement in statements {
        planner.statement(statement)?;
        if let Some(ask) = planner.ask {
            return Ok(Plan::Ask(ask));
        }
    }
    planner.settle_senders(catalog)?;
    let warnings = planner.steps.statements.iter().filter_map(|statement| statement.warning.clone());
    planner.steps.notes.extend(warnings);
    Ok(Plan::Do(planner.steps))
}

struct Planner<'a> {
    event: Event<'a>,
    /// As it is after the statements planned so far.
    catalog: Catalog,
    facts: &'a Facts,
    steps: Steps,
    ask: Option<Ask>,
    /// Names (folded) that exist only within this statement: `RENAME a TO tmp, b TO a, tmp TO b`.
    transient: HashSet<TableName>,
    /// The statement renames several tables.
    together: bool,
    /// And later gives another one the name that the one at hand has now.
    place_is_wanted: bool,
}

const EXPIRED: &str = "ttl: the rows that TiDB deletes by their age are in no message and stay on the target";

fn refuse(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::StatementRefused, message).hint(hint)
}

impl Planner<'_> {
    fn statement(&mut self, statement: &Statement) -> Result<()> {
        match statement {
            Statement::CreateDatabase { name, charset, collation, .. } => {
                self.create_database(name, charset, collation)
            }
            Statement::AlterDatabase { name, charset, collation } => {
                let name = name.as_deref().unwrap_or(self.event.schema).to_owned();
                let mut defaults = self.catalog.schema(&name).cloned().unwrap_or_default();
                defaults.name = name;
                if charset.is_some() {
                    defaults.charset.clone_from(charset);
                }
                // A character set without a collation brings its own default collation.
                if collation.is_some() || charset.is_some() {
                    defaults.collation.clone_from(collation);
                }
                self.change_schema(SchemaChange::Set(defaults));
                Ok(())
            }
            Statement::DropDatabase { name, .. } => self.drop_database(name),
            Statement::CreateTable { name, table, .. } => {
                let mut table = table.clone();
                table.name = self.created_name(name);
                let name = table.name.clone();
                let ours = self.catalog.selection().selects(&name) && !table.temporary;
                if ours && !self.settle_defaults(&mut table, None, &name) {
                    return Ok(());
                }
                self.create_table(table)
            }
            Statement::CreateTableLike { name, source, .. } => {
                let name = self.created_name(name);
                let unqualified_new =
                    matches!(statement, Statement::CreateTableLike { name, .. } if name.schema.is_none());
                // The source knows what the session's schema made of an unqualified name.
                let unsure = source.schema.is_none() && !unqualified_new;
                let asks = unsure
                    && self.catalog.spec().source.tidb.is_some()
                    && self.catalog.selection().selects(&name);
                if asks && !self.facts.tables.contains_key(&name.key()) {
                    self.ask = Some(Ask::Definition(name));
                    return Ok(());
                }
                let Some(found) = self.named_beside(source, unqualified_new, &name)? else { return Ok(()) };
                let table = match self.facts.tables.get(&name.key()) {
                    Some(table) => table.clone(),
                    None => match self.catalog.table(&found) {
                        Some(entry) => apply::create_like(&entry.table, name.clone()),
                        None => {
                            if self.catalog.selection().selects(&name) {
                                self.ask = Some(Ask::Definition(name));
                            }
                            return Ok(());
                        }
                    },
                };
                self.create_table(table)
            }
            Statement::DropTable { names, temporary, .. } => {
                if *temporary {
                    Ok(())
                } else {
                    self.drop_table(names)
                }
            }
            Statement::TruncateTable { name } => {
                let name = self.named(name);
                self.learned(&name, true);
                let Some(entry) = self.selected(&name)? else { return Ok(()) };
                if !entry.standing.is_following() {
                    // A new version without a difference: a copy under way begins again without the rows that go now.
                    self.change_entry(entry.table.name.clone(), Entry::Table(Box::new(entry)));
                } else if self.allowed(DdlKind::TruncateTable, &name)? {
                    let target = self.catalog.selection().target(&entry.table.name);
                    self.steps.statements.push(dialect::truncate_table(&target));
                }
                Ok(())
            }
            Statement::RenameTable { pairs } => self.rename_tables(pairs),
            Statement::AlterTable { name, clauses } => self.alter_table(name, clauses),
            Statement::CreateIndex { table, key, if_not_exists } => {
                let clause = AlterClause::AddKey { key: key.clone(), if_not_exists: *if_not_exists };
                self.alter_table(table, &[clause])
            }
            Statement::DropIndex { table, name, if_exists } => {
                let clause = if name.eq_ignore_ascii_case("PRIMARY") {
                    AlterClause::DropPrimaryKey
                } else {
                    AlterClause::DropKey { name: name.clone(), if_exists: *if_exists }
                };
                self.alter_table(table, &[clause])
            }
            Statement::View { names } => {
                let touches = names.iter().any(|name| {
                    let name = name.or_schema(self.event.schema);
                    self.catalog.selection().selects(&name)
                });
                if touches && self.allowed(DdlKind::View, &self.event.name())? {
                    return Err(refuse("views are not created on the target", "set ddl.view to ignore"));
                }
                Ok(())
            }
            Statement::Recover { names } => self.recover(names),
            Statement::Harmless { what } => {
                self.steps.notes.push(format!("{what}: nothing to do on the target"));
                Ok(())
            }
        }
    }

    fn touches_selection(&self, name: &TableName) -> bool {
        self.catalog.selection().selects(name)
            || (name.table.is_empty() && self.catalog.selection().could_select_schema(&name.schema))
    }

    fn change_schema(&mut self, change: SchemaChange) {
        let change = Change { schemas: vec![change], entries: Vec::new() };
        self.catalog.apply(&change);
        self.steps.change.schemas.extend(change.schemas);
    }

    fn change_entry(&mut self, name: TableName, entry: Entry) {
        let change = Change { schemas: Vec::new(), entries: vec![(name, entry)] };
        self.catalog.apply(&change);
        self.steps.change.entries.extend(change.entries);
    }
}

/// The text of a plan's statements, for messages and tests.
pub fn texts(statements: &[TargetStatement]) -> Vec<String> {
    statements.iter().map(|statement| statement.sql.clone()).collect()
}

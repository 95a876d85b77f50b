//! From a DDL event to what it does: statements for the target and a change of the catalog.
//!
//! Pure. The traps are in source-drainer.md 0.10 to 0.13, 4 and 10: the event names the table as it is *after* the
//! statement, unqualified names belong to a session schema that nobody recorded, `DROP TABLE a, b` comes once per table, and
//! after a multi-table rename rows go on arriving under old names. Where the text and the catalog cannot decide, the plan asks
//! for the source's own definition ([`Plan::Ask`]) or refuses; it never guesses.

use std::collections::{BTreeSet, HashMap};

use super::catalog::{Catalog, Change, Entry, SchemaChange, SchemaDefaults, TableEntry};
use crate::adb::dialect::{self, AlterContext, Done, TargetStatement};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Table, TableName};
use crate::sql::ddl::apply::{self, ApplyError};
use crate::sql::ddl::ast::{AlterClause, ObjectName, Statement};
use crate::sql::ddl::kind::DdlKind;
use crate::sql::ddl::partition_condition;
use crate::task::spec::{DdlPolicies, DdlPolicy};

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

/// What to do for a DDL event.
#[derive(Debug)]
pub enum Plan {
    Do(Steps),
    /// Plan again with the source's definition of this table right after the DDL.
    Ask(TableName),
}

#[derive(Debug, Default)]
pub struct Steps {
    pub statements: Vec<TargetStatement>,
    pub change: Change,
    /// What a person should know: passed over by policy, detached, ...
    pub notes: Vec<String>,
}

/// Plans the statements of one event in order.
pub fn plan(
    event: Event<'_>,
    statements: &[Statement],
    catalog: &Catalog,
    facts: &HashMap<TableName, Table>,
) -> Result<Plan> {
    let mut planner = Planner { event, catalog: catalog.clone(), facts, steps: Steps::default(), ask: None };
    for statement in statements {
        planner.statement(statement)?;
        if let Some(ask) = planner.ask {
            return Ok(Plan::Ask(ask));
        }
    }
    Ok(Plan::Do(planner.steps))
}

struct Planner<'a> {
    event: Event<'a>,
    /// As it is after the statements planned so far.
    catalog: Catalog,
    facts: &'a HashMap<TableName, Table>,
    steps: Steps,
    ask: Option<TableName>,
}

fn refuse(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::StatementRefused, message).hint(hint)
}

fn policy_of(policies: &DdlPolicies, kind: DdlKind) -> DdlPolicy {
    match kind {
        DdlKind::CreateDatabase => policies.create_database,
        DdlKind::DropDatabase => policies.drop_database,
        DdlKind::CreateTable => policies.create_table,
        DdlKind::DropTable => policies.drop_table,
        DdlKind::TruncateTable => policies.truncate_table,
        DdlKind::RenameTable => policies.rename_table,
        DdlKind::AddColumn => policies.add_column,
        DdlKind::DropColumn => policies.drop_column,
        DdlKind::RenameColumn => policies.rename_column,
        DdlKind::ModifyColumn => policies.modify_column,
        DdlKind::Partition => policies.partition,
        DdlKind::View => policies.view,
        DdlKind::Other => policies.other,
    }
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
                self.create_table(table)
            }
            Statement::CreateTableLike { name, source, .. } => {
                let name = self.created_name(name);
                let unqualified_new =
                    matches!(statement, Statement::CreateTableLike { name, .. } if name.schema.is_none());
                let Some(found) = self.other_table(source, unqualified_new, &name)? else { return Ok(()) };
                let table = match self.facts.get(&name.key()) {
                    Some(table) => table.clone(),
                    None => match self.catalog.table(&found) {
                        Some(entry) => apply::create_like(&entry.table, name.clone()),
                        None => {
                            if self.catalog.selection().selects(&name) {
                                self.ask = Some(name);
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
                let Some(entry) = self.selected(&name)? else { return Ok(()) };
                if self.allowed(DdlKind::TruncateTable, &name)? {
                    let target = self.catalog.selection().target(&entry.table.name);
                    self.steps.statements.push(dialect::truncate_table(&target));
                }
                Ok(())
            }
            Statement::RenameTable { pairs } => {
                for (old, new) in pairs {
                    self.rename(old, new)?;
                    if self.ask.is_some() {
                        return Ok(());
                    }
                }
                if pairs.len() > 1 { self.stale_names(pairs) } else { Ok(()) }
            }
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
            Statement::Recover { names } => {
                let name = names.first().map_or_else(|| self.event.name(), |name| self.named(name));
                if self.touches_selection(&name) && self.allowed(DdlKind::Other, &name)? {
                    return Err(refuse(
                        "RECOVER and FLASHBACK bring rows back that the stream does not carry",
                        "copy the table again: stop the task, reset it, start it",
                    ));
                }
                Ok(())
            }
            Statement::Harmless { what } => {
                self.steps.notes.push(format!("{what}: nothing to do on the target"));
                Ok(())
            }
        }
    }

    /// True when the policy says apply; notes what it passes over.
    fn allowed(&mut self, kind: DdlKind, object: &TableName) -> Result<bool> {
        match policy_of(&self.catalog.spec().ddl, kind) {
            DdlPolicy::Apply => Ok(true),
            DdlPolicy::Ignore => {
                self.steps.notes.push(format!("{}: ignored by policy", kind.as_str()));
                Ok(false)
            }
            DdlPolicy::Stop => Err(refuse(
                format!("the task stops at {} by policy", kind.as_str()),
                format!("set ddl.{} to apply or ignore and resume the task", kind.as_str()),
            )
            .object(object)),
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

    fn create_database(
        &mut self,
        name: &str,
        charset: &Option<String>,
        collation: &Option<String>,
    ) -> Result<()> {
        self.change_schema(SchemaChange::Set(SchemaDefaults {
            name: name.to_owned(),
            charset: charset.clone(),
            collation: collation.clone(),
        }));
        if self.catalog.selection().selects_schema(name)
            && self.allowed(DdlKind::CreateDatabase, &TableName::new(name, ""))?
        {
            self.push_database(name);
        }
        Ok(())
    }

    fn push_database(&mut self, source: &str) {
        let defaults = self.catalog.schema(source).cloned().unwrap_or_default();
        let target = self.catalog.selection().target_schema(source);
        self.steps.statements.push(dialect::create_database_statement(
            self.catalog.dialect(),
            &target,
            defaults.charset.as_deref(),
            defaults.collation.as_deref(),
        ));
    }

    /// The first table of ours there: a schema that was empty at the start, or one of which the task has single tables, has
    /// no database on the target yet.
    fn need_database(&mut self, source: &TableName, database: &str) {
        if self.catalog.has_table_in(database) {
            return;
        }
        if database == self.catalog.selection().target_schema(&source.schema) {
            self.push_database(&source.schema);
        } else {
            let dialect = self.catalog.dialect();
            self.steps
                .statements
                .push(dialect::create_database_statement(dialect, database, None, None));
        }
    }

    fn drop_database(&mut self, name: &str) -> Result<()> {
        let tables: Vec<TableName> =
            self.catalog.tables_of(name).map(|entry| entry.table.name.clone()).collect();
        if self.catalog.selection().could_select_schema(name)
            && self.allowed(DdlKind::DropDatabase, &TableName::new(name, ""))?
        {
            for table in tables.iter().filter(|table| self.catalog.selection().selects(table)) {
                let target = self.catalog.selection().target(table);
                self.steps.statements.push(dialect::drop_table(&target));
            }
            // The database itself goes only when nothing else is in it: looked at when the step runs.
            if self.owns_target_schema(name) {
                let target = self.catalog.selection().target_schema(name);
                self.steps.statements.push(dialect::drop_database(self.catalog.dialect(), &target));
            }
        }
        for table in tables {
            self.change_entry(table, Entry::Dropped);
        }
        self.change_schema(SchemaChange::Drop(name.to_owned()));
        Ok(())
    }

    /// The whole schema is the task's, and nothing else of the task goes into its target schema.
    fn owns_target_schema(&self, name: &str) -> bool {
        let selection = self.catalog.selection();
        let target = selection.target_schema(name);
        selection.selects_schema(name)
            && self.catalog.tables_of(name).all(|entry| {
                !selection.selects(&entry.table.name) || selection.target(&entry.table.name).schema == target
            })
            && !self.catalog.any_other_schema_targets(name, &target)
    }

    /// A created table: the event says where it is.
    fn created_name(&self, name: &ObjectName) -> TableName {
        if self.event.table.eq_ignore_ascii_case(&name.name) && !self.event.schema.is_empty() {
            return self.event.name();
        }
        name.or_schema(self.event.schema)
    }

    fn create_table(&mut self, mut table: Table) -> Result<()> {
        let name = table.name.clone();
        // A later ALTER DATABASE does not reach tables that are there.
        if table.charset.is_none()
            && table.collation.is_none()
            && let Some(schema) = self.catalog.schema(&name.schema)
        {
            table.charset.clone_from(&schema.charset);
            table.collation.clone_from(&schema.collation);
        }
        let mut entry = TableEntry::new(table);
        if entry.table.temporary {
            self.steps.notes.push("a temporary table: the stream has none of its rows".to_owned());
            entry.ignored = true;
        } else if self.catalog.selection().selects(&name) {
            if self.allowed(DdlKind::CreateTable, &name)? {
                self.need_database(&name, &self.catalog.selection().target(&name).schema);
                let target = self.catalog.target(&entry)?;
                self.steps.statements.push(dialect::create_table_statement(&target));
            } else {
                entry.ignored = true;
            }
        }
        self.change_entry(name, Entry::Table(Box::new(entry)));
        Ok(())
    }

    fn drop_table(&mut self, names: &[ObjectName]) -> Result<()> {
        let event = self.event.name();
        let listed: Vec<TableName> = names.iter().map(|name| name.or_schema(self.event.schema)).collect();
        // The name of the event may be stale (source-drainer.md 10.5): the statement's own list decides.
        let name = if listed.iter().any(|name| name.key() == event.key()) {
            event
        } else if let Some(Entry::Alias { of }) = self.catalog.entry(&event)
            && listed.iter().any(|name| name.key() == of.key() || name.table.eq_ignore_ascii_case(&of.table))
        {
            of.clone()
        } else {
            let live: Vec<&TableName> =
                listed.iter().filter(|name| self.catalog.table(name).is_some()).collect();
            match live.as_slice() {
                [only] => (*only).clone(),
                _ if !self.touches_selection(&event)
                    && !listed.iter().any(|name| self.touches_selection(name)) =>
                {
                    return Ok(());
                }
                _ => {
                    return Err(refuse(
                        format!(
                            "cannot tell which table of this DROP TABLE is dropped: the event names {event}"
                        ),
                        "drop the table on the target by hand and skip this DDL",
                    ));
                }
            }
        };
        if self.catalog.entry(&name).is_none() {
            // It was disappearing when the snapshot was taken: nothing of it was copied.
            self.steps.notes.push(format!("{name} is not known: nothing to drop"));
            self.change_entry(name, Entry::Dropped);
            return Ok(());
        }
        let Some(entry) = self.selected(&name)? else {
            if self.catalog.table(&name).is_some() {
                self.change_entry(name, Entry::Dropped);
            }
            return Ok(());
        };
        if self.allowed(DdlKind::DropTable, &name)? {
            let target = self.catalog.selection().target(&entry.table.name);
            self.steps.statements.push(dialect::drop_table(&target));
        }
        self.change_entry(entry.table.name, Entry::Dropped);
        Ok(())
    }

    /// A table named in an event about itself: unqualified means the event's schema.
    fn named(&self, name: &ObjectName) -> TableName {
        let written = name.or_schema(self.event.schema);
        if self.catalog.table(&written).is_some() {
            return written;
        }
        let event = self.event.name();
        if name.name.eq_ignore_ascii_case(self.event.table) { event } else { written }
    }

    /// The live, selected, not ignored table of this name; None when it does not belong to the task.
    fn selected(&mut self, name: &TableName) -> Result<Option<TableEntry>> {
        match self.catalog.entry(name) {
            Some(Entry::Table(entry)) => {
                Ok((self.catalog.selection().selects(name) && !entry.ignored).then(|| (**entry).clone()))
            }
            Some(Entry::Alias { of }) => {
                let of = of.clone();
                self.selected(&of)
            }
            Some(Entry::Dropped) => Ok(None),
            None if !self.catalog.selection().selects(name) => Ok(None),
            None => match self.facts.get(&name.key()) {
                Some(table) => Ok(Some(TableEntry::new(table.clone()))),
                None => Err(Error::new(
                    ErrorKind::SchemaMismatch,
                    "DDL on a table that the task has never seen",
                )
                .endpoint(Endpoint::Kafka)
                .object(name)
                .hint(
                    "it may have been renamed or restored without an event; copy it again with a new task",
                )),
            },
        }
    }

    /// A table named beside the event's own (LIKE source, old name of a rename). Unqualified means the session's schema,
    /// which is the event's where the new name is unqualified too; else the only candidate, else nobody knows.
    fn other_table(
        &mut self,
        name: &ObjectName,
        session_is_event: bool,
        asked: &TableName,
    ) -> Result<Option<TableName>> {
        if name.schema.is_some() || session_is_event {
            return Ok(Some(name.or_schema(self.event.schema)));
        }
        if self.facts.contains_key(&asked.key()) {
            return Ok(Some(name.or_schema(self.event.schema)));
        }
        let candidates: Vec<TableName> = self.catalog.tables_named(&name.name).cloned().collect();
        match candidates.as_slice() {
            [only] => Ok(Some(only.clone())),
            [] => Ok(Some(name.or_schema(self.event.schema))),
            several => Err(refuse(
                format!(
                    "`{}` has no schema in this statement, and the tables {} fit",
                    name.name,
                    several.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
                ),
                "apply the statement to the target by hand and skip this DDL",
            )),
        }
    }

    fn rename(&mut self, old: &ObjectName, new: &ObjectName) -> Result<()> {
        let new_name = new.or_schema(self.event.schema);
        let Some(old_name) = self.other_table(old, new.schema.is_none(), &new_name)? else { return Ok(()) };
        let Some(mut entry) = self.catalog.table(&old_name).cloned() else {
            let selection = self.catalog.selection();
            if selection.selects(&old_name) || selection.selects(&new_name) {
                if matches!(self.catalog.entry(&new_name), Some(Entry::Table(_)))
                    && self.catalog.entry(&old_name).is_none()
                {
                    // Seen ahead of its place in the stream.
                    return Ok(());
                }
                return Err(Error::new(ErrorKind::SchemaMismatch, format!("renamed to {new_name}, but never seen before"))
                    .object(old_name)
                    .hint("a table that comes into the selection by RENAME must be copied: create a new task for it"));
            }
            return Ok(());
        };
        let (was, becomes) = (
            self.catalog.selection().selects(&old_name) && !entry.ignored,
            self.catalog.selection().selects(&new_name),
        );
        entry.table.name = new_name.clone();
        if was && becomes {
            if self.allowed(DdlKind::RenameTable, &old_name)? {
                let from = self.catalog.selection().target(&old_name);
                let to = self.catalog.selection().target(&new_name);
                if from != to {
                    self.need_database(&new_name, &to.schema);
                    self.steps
                        .statements
                        .extend(dialect::rename_tables(self.catalog.dialect(), &[(from, to)])?);
                }
            } else {
                return Err(refuse(
                    "a RENAME TABLE passed over by policy leaves rows without a table",
                    "set ddl.rename_table to apply, or exclude both names",
                )
                .object(old_name));
            }
        } else if was {
            self.steps
                .notes
                .push(format!("{old_name} left the selection as {new_name}: its data stays on the target"));
        } else if becomes && !entry.ignored {
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                format!("{old_name} comes into the selection as {new_name}: its rows are in no message"),
            )
            .object(new_name)
            .hint("exclude the new name and resume, then copy it with a task of its own"));
        }
        // A late row under the old name is a row of the same table.
        self.change_entry(old_name, Entry::Alias { of: new_name.clone() });
        self.change_entry(new_name, Entry::Table(Box::new(entry)));
        Ok(())
    }

    /// Names under which Drainer goes on sending rows after a multi-table rename (source-drainer.md 0.12, 10.4).
    ///
    /// # Errors
    /// Tables that swapped their names: their rows arrive under one name and cannot be told apart.
    fn stale_names(&mut self, pairs: &[(ObjectName, ObjectName)]) -> Result<()> {
        let key = |name: &ObjectName| name.or_schema(self.event.schema).key();
        let before: BTreeSet<TableName> = pairs
            .iter()
            .enumerate()
            .filter(|(at, (old, _))| !pairs.iter().take(*at).any(|(_, earlier)| key(earlier) == key(old)))
            .map(|(_, (old, _))| key(old))
            .collect();
        let after: BTreeSet<TableName> = pairs
            .iter()
            .enumerate()
            .filter(|(at, (_, new))| !pairs.iter().skip(at + 1).any(|(later, _)| key(later) == key(new)))
            .map(|(_, (_, new))| key(new))
            .collect();
        if before == after && before.iter().any(|name| self.catalog.selection().selects(name)) {
            let names = before.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ");
            return Err(refuse(
                format!("{names} swap their names: Drainer will send the rows of all of them under one name"),
                "run an ALTER TABLE on each at the source, then copy them again with a new task",
            ));
        }
        let last = pairs.len() - 1;
        for (at, (old, new)) in pairs.iter().enumerate() {
            let new = new.or_schema(self.event.schema);
            let stale = if at == last {
                TableName::new(old.or_schema(self.event.schema).schema, new.table.clone())
            } else {
                old.or_schema(self.event.schema)
            };
            if stale.key() == new.key() || matches!(self.catalog.entry(&stale), Some(Entry::Table(_))) {
                continue;
            }
            if matches!(self.catalog.entry(&new), Some(Entry::Table(_))) {
                self.change_entry(stale, Entry::Alias { of: new });
            }
        }
        Ok(())
    }

    fn alter_table(&mut self, name: &ObjectName, clauses: &[AlterClause]) -> Result<()> {
        let rename = clauses.iter().find_map(|clause| match clause {
            AlterClause::Rename { to } => Some(to),
            _ => None,
        });
        let full = match rename {
            Some(to) => {
                let asked = to.or_schema(self.event.schema);
                match self.other_table(name, to.schema.is_none(), &asked)? {
                    Some(found) => found,
                    None => return Ok(()),
                }
            }
            None => self.named(name),
        };
        if let Some(entry) = self.tracked_entry(&full)? {
            self.alter_entry(entry, clauses)?;
        }
        match rename {
            Some(to) => {
                let qualified = ObjectName { schema: Some(full.schema.clone()), name: full.table.clone() };
                let to = ObjectName {
                    schema: Some(to.or_schema(self.event.schema).schema),
                    name: to.name.clone(),
                };
                self.rename(&qualified, &to)
            }
            None => Ok(()),
        }
    }

    /// The table's entry when its layout is known or must be.
    fn tracked_entry(&mut self, name: &TableName) -> Result<Option<TableEntry>> {
        match self.catalog.table(name) {
            Some(entry) => Ok(Some(entry.clone())),
            None => self.selected(name),
        }
    }

    fn alter_entry(&mut self, mut entry: TableEntry, clauses: &[AlterClause]) -> Result<()> {
        let name = entry.table.name.clone();
        let ours = self.catalog.selection().selects(&name) && !entry.ignored;
        for clause in clauses {
            if matches!(clause, AlterClause::Rename { .. }) {
                continue;
            }
            let before = entry.clone();
            let condition = partitions_of(clause)
                .map(|partitions| partition_condition(&before.table, partitions))
                .transpose();
            match apply::alter(&mut entry.table, clause) {
                Ok(()) => {}
                // A DDL already satisfied is done (source-drainer.md 10.9).
                Err(ApplyError::AlreadyThere { .. } | ApplyError::Missing { .. }) => {
                    self.steps.notes.push("already so in the catalog: nothing to do".to_owned());
                    continue;
                }
                Err(_) if !ours => continue,
                Err(error) => return Err(Error::from(error).object(&name)),
            }
            if !ours {
                continue;
            }
            let mut allowed = true;
            for kind in clause.kinds() {
                allowed &= self.allowed(*kind, &name)?;
            }
            if !allowed {
                passed_over(&before, &mut entry, clause)?;
                continue;
            }
            if matches!(clause, AlterClause::ExchangePartition { .. }) {
                return Err(refuse(
                    "EXCHANGE PARTITION moves rows that the stream does not carry",
                    "copy both tables again with a new task",
                )
                .object(&name));
            }
            let condition = condition.map_err(|error| Error::from(error).object(&name))?;
            let context =
                AlterContext { partition_condition: condition.as_deref(), ..AlterContext::default() };
            let statements = dialect::alter(
                self.catalog.dialect(),
                &before.visible(),
                clause,
                &entry.visible(),
                &self.catalog.selection().target(&name),
                &self.catalog.options(&name),
                &context,
            )?;
            self.steps.statements.extend(statements);
        }
        self.change_entry(name, Entry::Table(Box::new(entry)));
        Ok(())
    }
}

/// The partitions whose rows go; None when none do, or all.
fn partitions_of(clause: &AlterClause) -> Option<&[String]> {
    match clause {
        AlterClause::DropPartitions { names, .. }
        | AlterClause::TruncatePartitions { names: Some(names) } => Some(names),
        _ => None,
    }
}

/// Keeps the catalog true to both sides when a policy passes a clause over.
fn passed_over(before: &TableEntry, entry: &mut TableEntry, clause: &AlterClause) -> Result<()> {
    match clause {
        AlterClause::AddColumn { column, .. } => entry.hidden.push(column.name.clone()),
        AlterClause::DropColumn { .. } => entry.keep_other_columns = true,
        AlterClause::ChangeColumn { old, column, .. } if old.eq_ignore_ascii_case(&column.name) => {}
        AlterClause::ChangeColumn { .. } | AlterClause::RenameColumn { .. } => {
            return Err(refuse(
                "a column rename passed over by policy leaves its values without a column",
                "set ddl.rename_column to apply",
            )
            .object(&before.table.name));
        }
        _ => {}
    }
    Ok(())
}

/// Predicates of a plan's statements, for messages and tests.
pub fn texts(statements: &[TargetStatement]) -> Vec<String> {
    statements.iter().map(|statement| statement.sql.clone()).collect()
}

/// True when running the statement twice does no harm.
pub fn repeatable(statement: &TargetStatement) -> bool {
    matches!(statement.done, Done::Rerun)
}

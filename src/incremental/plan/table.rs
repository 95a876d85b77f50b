//! Databases and whole tables: CREATE and DROP.

use super::{EXPIRED, Planner, refuse};
use crate::adb::dialect;
use crate::error::Result;
use crate::incremental::catalog::{Entry, SchemaChange, SchemaDefaults, TableEntry};
use crate::model::{Table, TableName};
use crate::sql::ddl::ast::ObjectName;
use crate::sql::ddl::kind::DdlKind;

impl Planner<'_> {
    pub(super) fn create_database(
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

    pub(super) fn push_database(&mut self, source: &str) {
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
    pub(super) fn need_database(&mut self, source: &TableName, database: &str) {
        if self.catalog.has_table_in(database) {
            return;
        }
        if database == self.catalog.selection().target_schema(&source.schema) {
            self.push_database(&source.schema);
        } else {
            let dialect = self.catalog.dialect();
            self.steps.statements.push(dialect::create_database_statement(dialect, database, None, None));
        }
    }

    pub(super) fn drop_database(&mut self, name: &str) -> Result<()> {
        let tables: Vec<TableName> =
            self.catalog.tables_of(name).map(|entry| entry.table.name.clone()).collect();
        if self.catalog.selection().could_select_schema(name)
            && self.allowed(DdlKind::DropDatabase, &TableName::new(name, ""))?
        {
            let copied = |table: &TableName| self.catalog.table(table).is_none_or(|entry| !entry.new_place);
            for table in
                tables.iter().filter(|table| self.catalog.selection().selects(table) && copied(table))
            {
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
    pub(super) fn owns_target_schema(&self, name: &str) -> bool {
        let selection = self.catalog.selection();
        let target = selection.target_schema(name);
        selection.selects_schema(name)
            && self.catalog.tables_of(name).all(|entry| {
                !selection.selects(&entry.table.name) || selection.target(&entry.table.name).schema == target
            })
            && !self.catalog.any_other_schema_targets(name, &target)
    }

    pub(super) fn create_table(&mut self, mut table: Table) -> Result<()> {
        let name = table.name.clone();
        // A later ALTER DATABASE does not reach tables that are there, nor does the schema to which one is renamed, or that of a table made LIKE it.
        if table.charset.is_none() && table.collation.is_none() {
            let schema = self.catalog.schema(&name.schema).cloned().unwrap_or_default();
            let said = schema.charset.is_some() || schema.collation.is_some();
            table.charset = if said { schema.charset } else { Some("utf8mb4".to_owned()) };
            table.collation = if said { schema.collation } else { Some("utf8mb4_bin".to_owned()) };
        }
        let mut entry = TableEntry::new(table);
        if entry.table.temporary {
            self.steps.notes.push("a temporary table: the stream has none of its rows".to_owned());
            entry.ignored = true;
        } else if self.catalog.selection().selects(&name) {
            if self.shadow(&name)? {
                entry.ignored = true;
            } else if self.allowed(DdlKind::CreateTable, &name)? {
                self.need_database(&name, &self.catalog.selection().target(&name).schema);
                let target = self.catalog.target(&entry)?;
                self.steps.notes.extend(target.warnings.iter().map(ToString::to_string));
                self.steps.notes.extend(entry.table.time_to_live.then(|| EXPIRED.to_owned()));
                if !self.joins(&name, &target)? {
                    entry.made = true;
                    self.steps.statements.push(dialect::create_table_statement(&target));
                }
            } else {
                entry.ignored = true;
            }
        }
        self.change_entry(name, Entry::Table(Box::new(entry)));
        Ok(())
    }

    pub(super) fn drop_table(&mut self, names: &[ObjectName]) -> Result<()> {
        let event = self.event.name();
        let listed: Vec<TableName> = names.iter().map(|name| name.or_schema(self.event.schema)).collect();
        // The name of the event may be stale (source-drainer.md 10.5), its schema never: the statement's own list decides.
        let so_called = |name: &&TableName| {
            let entry = self.catalog.table(name);
            entry.is_some_and(|entry| {
                TableName::new(&name.schema, &entry.sent_name().table).key() == event.key()
            })
        };
        let name = if let Some(name) = listed.iter().find(so_called) {
            name.clone()
        } else if listed.iter().any(|name| name.key() == event.key()) {
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
                        "drop the table on the target by hand, exclude it, and resume",
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
        if self.allowed(DdlKind::DropTable, &name)? && !entry.new_place {
            let target = self.catalog.selection().target(&entry.table.name);
            self.steps.statements.push(dialect::drop_table(&target));
        }
        self.change_entry(entry.table.name, Entry::Dropped);
        Ok(())
    }
}

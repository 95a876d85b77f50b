//! Which table a statement means: unqualified names, names of events, aliases, tables that are asked for.

use super::{Planner, refuse};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::TableName;
use crate::sql::ddl::ast::ObjectName;

impl Planner<'_> {
    /// A created table: the event says where it is.
    pub(super) fn created_name(&self, name: &ObjectName) -> TableName {
        if self.event.table.eq_ignore_ascii_case(&name.name) && !self.event.schema.is_empty() {
            return self.event.name();
        }
        name.or_schema(self.event.schema)
    }

    /// A table named in an event about itself: unqualified means the event's schema.
    pub(super) fn named(&self, name: &ObjectName) -> TableName {
        let written = name.or_schema(self.event.schema);
        if self.catalog.table(&written).is_some() {
            return written;
        }
        let event = self.event.name();
        if name.name.eq_ignore_ascii_case(self.event.table) { event } else { written }
    }

    /// The live, selected, not ignored table of this name; None when it does not belong to the task.
    pub(super) fn selected(&mut self, name: &TableName) -> Result<Option<TableEntry>> {
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
            None => match self.facts.tables.get(&name.key()) {
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
    pub(super) fn other_table(
        &mut self,
        name: &ObjectName,
        session_is_event: bool,
        asked: &TableName,
    ) -> Result<Option<TableName>> {
        if name.schema.is_some() || session_is_event {
            return Ok(Some(name.or_schema(self.event.schema)));
        }
        if self.facts.tables.contains_key(&asked.key()) {
            return Ok(Some(name.or_schema(self.event.schema)));
        }
        let candidates: Vec<TableName> = self.catalog.tables_named(&name.name).cloned().collect();
        match candidates.as_slice() {
            // The statement is of a schema that we have never heard of: so may the table be, and ours must not go for it.
            [only]
                if self.touches_selection(only)
                    && !self.touches_selection(asked)
                    && self.catalog.schema(&asked.schema).is_none()
                    && self.catalog.tables_of(&asked.schema).next().is_none() =>
            {
                Err(refuse(
                    format!(
                        "`{}` has no schema in this statement: is it {only}, or a table of another schema?",
                        name.name
                    ),
                    "skip this DDL if it is another table; else rename the table with its schema",
                ))
            }
            [only] => Ok(Some(only.clone())),
            [] => Ok(Some(name.or_schema(self.event.schema))),
            // Whichever it is, it is not the task's.
            several
                if !self.touches_selection(asked)
                    && !several.iter().any(|name| self.touches_selection(name)) =>
            {
                Ok(None)
            }
            several => Err(refuse(
                format!(
                    "`{}` has no schema in this statement, and the tables {} fit",
                    name.name,
                    several.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
                ),
                "give the task a tidb connection in source.tidb, so that the source can be asked, and resume",
            )),
        }
    }
}

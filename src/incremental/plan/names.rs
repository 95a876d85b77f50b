//! Which table a statement means: unqualified names, names of events, aliases, tables that are asked for.

use std::collections::BTreeSet;

use super::{Ask, Planner, refuse};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::TableName;
use crate::sql::ddl::ast::ObjectName;
use crate::task::spec::StartAt;

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

    /// The source of a CREATE TABLE LIKE, the other table of an EXCHANGE PARTITION. Unqualified means the session's schema, which is the event's where the new name is
    /// unqualified too; else the source has told, or the only candidate.
    pub(super) fn named_beside(
        &mut self,
        name: &ObjectName,
        session_is_event: bool,
        asked: &TableName,
    ) -> Result<Option<TableName>> {
        if name.schema.is_some() || session_is_event || self.facts.tables.contains_key(&asked.key()) {
            return Ok(Some(name.or_schema(self.event.schema)));
        }
        let candidates: Vec<TableName> = self.catalog.tables_named(&name.name).cloned().collect();
        match candidates.as_slice() {
            [] => Ok(Some(name.or_schema(self.event.schema))),
            several
                if !self.touches_selection(asked)
                    && !several.iter().any(|name| self.touches_selection(name)) =>
            {
                Ok(None)
            }
            [only] if self.knows_all() => Ok(Some(only.clone())),
            several => Err(unclear(&name.name, several, "the source cannot say")),
        }
    }

    /// No table is out of sight: the task has all of them, or it reads the stream from its first message and has seen each one made.
    fn knows_all(&self) -> bool {
        let spec = self.catalog.spec();
        let from_the_first = match &spec.start_at {
            Some(StartAt::Earliest) => true,
            Some(StartAt::Offset(offset)) => offset == "0",
            _ => false,
        };
        self.catalog.selection().selects_all() || (from_the_first && !spec.phases.full)
    }

    /// The pairs of a RENAME with every schema said. An unqualified name is of the session's schema: the event's, where the last
    /// new name is unqualified; else the source is asked which name the table had before, or one reading is left.
    /// None: the statement is not the task's, or the source must be asked first.
    pub(super) fn qualified(
        &mut self,
        pairs: &[(ObjectName, ObjectName)],
    ) -> Result<Option<Vec<(TableName, TableName)>>> {
        let of = |schema: &str| {
            pairs.iter().map(|(old, new)| (old.or_schema(schema), new.or_schema(schema))).collect()
        };
        let open: Vec<&ObjectName> =
            pairs.iter().flat_map(|(old, new)| [old, new]).filter(|name| name.schema.is_none()).collect();
        if open.is_empty() || pairs.last().is_some_and(|(_, new)| new.schema.is_none()) {
            return Ok(Some(of(self.event.schema)));
        }
        let candidates: Vec<TableName> = open
            .iter()
            .flat_map(|name| self.catalog.tables_named(&name.name))
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let new_is_ours = pairs.iter().any(|(_, new)| match new.schema {
            Some(_) => self.catalog.selection().selects(&new.or_schema(self.event.schema)),
            None => true,
        });
        let old_may_be_ours = candidates.iter().any(|name| self.catalog.selection().selects(name));
        match candidates.as_slice() {
            // Of a task with a source the catalog has the selected tables alone.
            [] if pairs.len() == 1 && new_is_ours && self.catalog.spec().source.tidb.is_none() => {
                return Ok(Some(of(self.event.schema)));
            }
            [only]
                if pairs.len() == 1
                    && self.knows_all()
                    && (self.catalog.selection().selects_all()
                        || self.catalog.spec().source.tidb.is_none()) =>
            {
                return Ok(Some(of(&only.schema)));
            }
            _ if !new_is_ours && !old_may_be_ours => return Ok(None),
            _ => {}
        }
        // The last name that the statement gives a table tells which one it was.
        let same = |one: &ObjectName, other: &ObjectName| {
            let schema = |name: &ObjectName| name.schema.as_ref().map(|schema| schema.to_lowercase());
            one.name.to_lowercase() == other.name.to_lowercase() && schema(one) == schema(other)
        };
        let mut moved: Vec<(&ObjectName, &ObjectName)> = Vec::new();
        for (old, new) in pairs {
            match moved.iter_mut().find(|(_, last)| same(last, old)) {
                Some(table) => table.1 = new,
                None => moved.push((old, new)),
            }
        }
        let asked = moved
            .into_iter()
            .find(|(old, new)| old.schema.is_none() && new.schema.is_some())
            .map(|(old, new)| (old, new.or_schema(self.event.schema)));
        let mut said = "the source was not asked".to_owned();
        if let Some((old, new)) = asked.filter(|_| self.catalog.spec().source.tidb.is_some()) {
            match self.facts.before.get(&new.key()) {
                None => {
                    self.ask = Some(Ask::Before(new));
                    return Ok(None);
                }
                Some(Some(before))
                    if before.table.eq_ignore_ascii_case(&old.name) && before.key() != new.key() =>
                {
                    return Ok(Some(of(&before.schema)));
                }
                Some(Some(before)) => said = format!("the source says that {new} was {before}"),
                // Whatever it was, the task does not have it.
                Some(None) if candidates.is_empty() && pairs.len() == 1 && new_is_ours => {
                    return Ok(Some(of(self.event.schema)));
                }
                Some(None) => said = format!("the source cannot say what {new} was"),
            }
        }
        // The session's schema has a table for every unqualified old name that the statement does not make itself.
        let has_all = |schema: &&str| {
            pairs.iter().enumerate().all(|(at, (old, _))| {
                let made =
                    |(_, new): &(ObjectName, ObjectName)| new.or_schema(schema) == old.or_schema(schema);
                old.schema.is_some()
                    || pairs.iter().take(at).any(made)
                    || self.catalog.table(&old.or_schema(schema)).is_some()
            })
        };
        let schemas: BTreeSet<&str> =
            candidates.iter().map(|name| name.schema.as_str()).filter(has_all).collect();
        if let (1, Some(schema), true) = (schemas.len(), schemas.first(), self.knows_all()) {
            return Ok(Some(of(schema)));
        }
        let name = open.first().map(|name| name.name.as_str()).unwrap_or_default();
        Err(unclear(name, &candidates, &said))
    }
}

fn unclear(name: &str, candidates: &[TableName], said: &str) -> Error {
    let known = candidates.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { String::new() } else { format!("{known}, or ") };
    refuse(
        format!(
            "`{name}` has no schema in this statement: is it {known}a table of another schema? The stream does not say; {said}"
        ),
        "give the task a tidb connection in source.tidb that may see all schemas, so that the source can be asked, and resume; \
         or skip this DDL if it is no table of the task, else make a new task that copies the table again",
    )
}

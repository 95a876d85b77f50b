//! RENAME TABLE: within the selection, into it and out of it, and the names under which rows come afterwards.

use std::collections::BTreeSet;

use super::{Planner, refuse};
use crate::adb::dialect;
use crate::error::{Error, ErrorKind, Result};
use crate::incremental::catalog::Entry;
use crate::model::TableName;
use crate::sql::ddl::ast::ObjectName;
use crate::sql::ddl::kind::DdlKind;

impl Planner<'_> {
    pub(super) fn rename(&mut self, old: &ObjectName, new: &ObjectName) -> Result<()> {
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
        // As it is called, not as this statement spells it.
        let old_name = std::mem::replace(&mut entry.table.name, new_name.clone());
        if was && becomes {
            if self.allowed(DdlKind::RenameTable, &old_name)? {
                self.renamed_in_place(&old_name, &new_name)?;
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
    pub(super) fn stale_names(&mut self, pairs: &[(ObjectName, ObjectName)]) -> Result<()> {
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
}

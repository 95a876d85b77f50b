//! RENAME TABLE: within the selection, into it and out of it.

use std::collections::HashMap;

use super::{Planner, refuse};
use crate::adb::dialect;
use crate::error::Result;
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::TableName;
use crate::sql::ddl::ast::ObjectName;
use crate::sql::ddl::kind::DdlKind;
use crate::task::spec::DdlPolicy;
use crate::task::standing::Standing;

impl Planner<'_> {
    /// The pairs of one statement, each seeing those before it.
    pub(super) fn rename_tables(&mut self, pairs: &[(ObjectName, ObjectName)]) -> Result<()> {
        let Some(pairs) = self.qualified(pairs)? else { return Ok(()) };
        let keys: Vec<_> = pairs.iter().map(|(old, new)| (old.key(), new.key())).collect();
        self.transient = keys
            .iter()
            .enumerate()
            .filter(|(at, (_, new))| keys.iter().skip(at + 1).any(|(old, _)| old == new))
            .map(|(_, (_, new))| new.clone())
            .collect();
        let sent: HashMap<TableName, TableName> = keys
            .iter()
            .filter_map(|(old, _)| Some((old.clone(), self.catalog.table(old)?.sent_name().clone())))
            .collect();
        self.together = pairs.len() > 1;
        for (at, (old, new)) in pairs.iter().enumerate() {
            self.place_is_wanted = keys.iter().skip(at + 1).any(|(_, new)| *new == old.key());
            self.rename(old, new)?;
            if self.ask.is_some() {
                return Ok(());
            }
        }
        match pairs.as_slice() {
            [(_, new)] => self.learned(new, true),
            _ => self.sent_under_stale_names(&keys, &sent),
        }
        Ok(())
    }

    /// Whether a table of this name lies on the target.
    fn has_place(&self, name: &TableName) -> bool {
        (self.catalog.selection().selects(name) && !self.is_left_out(name))
            || self.transient.contains(&name.key())
    }

    pub(super) fn rename(&mut self, old_name: &TableName, new_name: &TableName) -> Result<()> {
        let new_name = new_name.clone();
        let Some(mut entry) = self.catalog.table(old_name).cloned() else {
            return self.rename_unknown(old_name, &new_name);
        };
        if self.catalog.selection().selects(&new_name)
            && !self.transient.contains(&new_name.key())
            && !entry.ignored
        {
            self.shadow(&new_name)?;
        }
        let was = self.has_place(old_name) && !entry.ignored;
        let becomes = self.has_place(&new_name);
        // As it is called, not as this statement spells it.
        let old_name = std::mem::replace(&mut entry.table.name, new_name.clone());
        let comes = !was && becomes && !entry.table.temporary;
        if was && becomes {
            self.rename_on_target(&old_name, &new_name, &entry)?;
        } else if was {
            self.steps
                .notes
                .push(format!("{old_name} left the selection as {new_name}: its data stays on the target"));
            // A shadow table that the policy leaves out.
            entry.ignored = self.catalog.selection().selects(&new_name);
        } else if comes {
            let by_policy = self.policy(DdlKind::CreateTable, &new_name) == DdlPolicy::Ignore;
            entry.ignored = entry.ignored && by_policy && self.shadow_of(&old_name).is_none();
        }
        let comes = comes && !entry.ignored;
        // A late row under the old name is a row of the same table.
        self.change_entry(old_name.clone(), Entry::Alias { of: new_name.clone() });
        self.change_entry(new_name.clone(), Entry::Table(Box::new(entry)));
        for resync in &mut self.steps.resync {
            if resync.table.key() == old_name.key() {
                resync.table = new_name.clone();
            }
        }
        if was && !becomes {
            self.steps.resync.retain(|resync| resync.table.key() != new_name.key());
        }
        if comes && self.allowed(DdlKind::RenameTable, &new_name)? {
            self.copy_again(
                &new_name,
                format!("{old_name} came into the selection as {new_name}: its rows are in no message"),
            )?;
        }
        Ok(())
    }

    /// Not a table that we know under its old name.
    fn rename_unknown(&mut self, old_name: &TableName, new_name: &TableName) -> Result<()> {
        if matches!(self.catalog.entry(new_name), Some(Entry::Table(_)))
            && self.catalog.entry(old_name).is_none()
        {
            // Seen ahead of its place in the stream.
            return Ok(());
        }
        // A name in between is nothing to ask the source for: the pair that moves it on says where the table lands.
        if !self.has_place(new_name) || self.transient.contains(&new_name.key()) {
            return Ok(());
        }
        // It comes into the selection, or was made where no message told: the source knows what it is.
        if !self.allowed(DdlKind::RenameTable, new_name)? {
            return Ok(());
        }
        let Some(table) = self.definition(new_name) else { return Ok(()) };
        self.change_entry(new_name.clone(), Entry::Table(Box::new(TableEntry::new(table))));
        self.copy_again(
            new_name,
            format!("{old_name} came into the selection as {new_name}: its rows are in no message"),
        )
    }

    fn rename_on_target(
        &mut self,
        old_name: &TableName,
        new_name: &TableName,
        entry: &TableEntry,
    ) -> Result<()> {
        if !entry.standing.is_following() {
            self.rename_aside(old_name, new_name, entry);
            return Ok(());
        }
        if !self.allowed(DdlKind::RenameTable, old_name)? {
            return Err(refuse(
                "a RENAME TABLE passed over by policy leaves rows without a table",
                "set ddl.rename_table to apply, or exclude both names",
            )
            .object(old_name));
        }
        self.renamed_in_place(old_name, new_name)?;
        let from = self.catalog.selection().target(old_name);
        let to = self.catalog.selection().target(new_name);
        // One that is copied again has no place yet: the copy takes the last name.
        if from == to || self.is_copied_again(old_name) {
            return Ok(());
        }
        let dialect = self.catalog.dialect();
        self.need_database(new_name, &to.schema);
        match dialect::rename_tables(dialect, &[(from.clone(), to)]) {
            Ok(statements) => self.steps.statements.extend(statements),
            // The target cannot move it: it is copied to its new place, and goes from its old one. That it has none there stops the table
            // alone, where policy says so: it stays in its old place, unless another one comes there.
            Err(problem) => {
                let held = self.catalog.target(entry).map(|_| ());
                let has_place = held.is_ok();
                if !(self.together && self.stops_tables()) {
                    held?;
                }
                self.copy_again(new_name, problem.detail)?;
                if has_place || self.place_is_wanted {
                    self.steps.statements.push(dialect::drop_table(&from));
                } else {
                    self.note_that_stays(old_name, &from);
                }
            }
        }
        Ok(())
    }
    /// A table that is not followed now moves all the same: in its old place it would be in the way of the next table of that name. Nobody
    /// looks after its place, so it may be missing there.
    fn rename_aside(&mut self, old_name: &TableName, new_name: &TableName, entry: &TableEntry) {
        let selection = self.catalog.selection();
        let (from, to) = (selection.target(old_name), selection.target(new_name));
        if from == to {
            return;
        }
        let others = [old_name, new_name].map(|name| self.catalog.sharing(name));
        let shared = others.iter().flatten().any(|other| other.table.name.key() != old_name.key());
        if matches!(entry.standing, Standing::Removed { .. }) {
            // It is the task's no more.
            self.note_that_stays(old_name, &from);
            return;
        }
        if entry.standing.is_resync() && !shared && !entry.new_place {
            // The copy to come takes the new name; the source has nothing under the old one any more.
            self.steps.statements.push(dialect::drop_table(&from));
            return;
        }
        let by_policy =
            matches!(self.policy(DdlKind::RenameTable, old_name), DdlPolicy::Apply | DdlPolicy::Rebuild);
        match dialect::move_if_there(self.catalog.dialect(), &from, &to) {
            Some(moved) if by_policy && !shared => {
                if from.schema != to.schema {
                    self.need_database(new_name, &to.schema);
                }
                self.steps.statements.push(moved);
            }
            _ => self.note_that_stays(old_name, &from),
        }
    }

    fn note_that_stays(&mut self, old_name: &TableName, place: &TableName) {
        self.steps.notes.push(stays(old_name, place, ""));
    }
}

/// What is said of a table that is left in its place on the target.
pub fn stays(table: &TableName, place: &TableName, because: &str) -> String {
    format!(
        "{table} is not followed: on the target it stays {place}, in the way of the next table of that name until it is dropped or renamed there{because}"
    )
}

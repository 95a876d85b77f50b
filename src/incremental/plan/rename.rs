//! RENAME TABLE: within the selection, into it and out of it, and the names under which rows come afterwards.

use super::{Planner, refuse};
use crate::adb::dialect;
use crate::error::Result;
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::TableName;
use crate::sql::ddl::ast::ObjectName;
use crate::sql::ddl::kind::DdlKind;
use crate::task::spec::DdlPolicy;

/// A table of a RENAME of several: its name before and after the whole statement (folded).
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    before: TableName,
    after: TableName,
}

/// The tables of a RENAME, each once, and which of them its last pair named.
fn moved(pairs: &[(TableName, TableName)]) -> (Vec<Moved>, usize) {
    let (mut tables, mut last) = (Vec::<Moved>::new(), 0);
    for (old, new) in pairs {
        match tables.iter().position(|table| table.after == *old) {
            Some(at) => {
                if let Some(table) = tables.get_mut(at) {
                    table.after = new.clone();
                }
                last = at;
            }
            None => {
                tables.push(Moved { before: old.clone(), after: new.clone() });
                last = tables.len() - 1;
            }
        }
    }
    (tables, last)
}

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
        for (old, new) in &pairs {
            self.rename(old, new)?;
            if self.ask.is_some() {
                return Ok(());
            }
        }
        if pairs.len() > 1 {
            self.stale_names(&pairs, &keys)?;
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
        entry.stale = None;
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
        if self.transient.contains(&new_name.key()) { Ok(()) } else { self.name_taken_again(&new_name) }
    }

    /// A table has taken a name under which Drainer sends another one's rows. Their columns tell them apart, or nothing does.
    pub(super) fn name_taken_again(&mut self, name: &TableName) -> Result<()> {
        let Some(own) = self.catalog.table(name) else { return Ok(()) };
        let columns = own.column_names();
        let alike = |entry: &&TableEntry| entry.column_names() == columns;
        let rivals: Vec<_> =
            self.catalog.sent_as(name).filter(alike).map(|entry| entry.table.name.clone()).collect();
        if rivals.is_empty() {
            return Ok(());
        }
        let unlearned: Vec<_> = rivals.iter().map(TableName::key).collect();
        let all: Vec<_> = std::iter::once(name.clone()).chain(rivals).collect();
        for table in &all {
            self.cannot_be_told(table, &all, name, &unlearned)?;
        }
        Ok(())
    }

    /// Rows of these tables come under one name: those of `table` are passed over until Drainer has learned the names that it does not
    /// know.
    fn cannot_be_told(
        &mut self,
        table: &TableName,
        all: &[TableName],
        name: &TableName,
        unlearned: &[TableName],
    ) -> Result<()> {
        if !self.catalog.selection().selects(table) {
            return Ok(());
        }
        let names = all.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ");
        if self.catalog.spec().source.tidb.is_none() {
            let reason = format!("Drainer will send the rows of {names} under the one name {name}");
            if !self.stops_tables() {
                return Err(refuse(
                    reason,
                    "give the task a tidb connection in source.tidb to copy them from once they are told apart, set errors.table to stop_table to go on without them, \
                     or exclude them, and resume",
                ));
            }
            return self.copy_again(table, reason);
        }
        let Some(mut entry) = self.catalog.table(table).cloned() else { return Ok(()) };
        let waits_for = unlearned.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ");
        self.steps.notes.push(format!(
            "Drainer will send the rows of {names} under the one name {name}: rows of {} are passed over until an ALTER TABLE (a comment will do) of {waits_for} at the source; then it is copied again",
            entry.table.name
        ));
        entry.unclear = unlearned.to_vec();
        self.change_entry(entry.table.name.clone(), Entry::Table(Box::new(entry)));
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
        if from == to {
            return Ok(());
        }
        let dialect = self.catalog.dialect();
        self.need_database(new_name, &to.schema);
        match dialect::rename_tables(dialect, &[(from.clone(), to)]) {
            Ok(statements) => self.steps.statements.extend(statements),
            // The target cannot move it: it is copied to its new place, and goes from its old one.
            Err(problem) => {
                self.catalog.target(entry)?;
                self.copy_again(new_name, problem.detail)?;
                self.steps.statements.push(dialect::drop_table(&from));
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
        if entry.standing.is_resync() && !shared {
            // The copy to come takes the new name; the source has nothing under the old one any more.
            self.steps.statements.push(dialect::drop_table(&from));
            return;
        }
        let by_policy =
            matches!(self.policy(DdlKind::RenameTable, old_name), DdlPolicy::Apply | DdlPolicy::Rebuild);
        match dialect::move_if_there(self.catalog.dialect(), &from, &to) {
            Some(moved) if by_policy && !shared => {
                self.need_database(new_name, &to.schema);
                self.steps.statements.push(moved);
            }
            _ => self.steps.notes.push(format!("{old_name} is not followed: on the target it stays {from}")),
        }
    }

    /// Names under which Drainer goes on sending rows after a RENAME of several tables (source-drainer.md 0.12, 10.4): the last
    /// one under its new name in its old schema, every other one under its old name. Tables whose rows come under one name are
    /// passed over until Drainer has learned the names.
    fn stale_names(
        &mut self,
        pairs: &[(TableName, TableName)],
        keys: &[(TableName, TableName)],
    ) -> Result<()> {
        let (tables, last) = moved(keys);
        let stale = |at: usize, table: &Moved| match at == last {
            true => TableName::new(&table.before.schema, &table.after.table),
            false => table.before.clone(),
        };
        let mut sent: Vec<(TableName, &Moved)> =
            tables.iter().enumerate().map(|(at, table)| (stale(at, table), table)).collect();
        sent.retain(|(_, table)| self.catalog.table(&table.after).is_some());
        for (name, table) in &sent {
            let together: Vec<&Moved> =
                sent.iter().filter(|(other, _)| other == name).map(|(_, other)| *other).collect();
            // Nobody writes to the table that an online DDL has put away.
            let rivals = together.iter().filter(|other| {
                other.after != table.after && self.catalog.selection().shadow_of(&other.after).is_none()
            });
            if rivals.count() == 0 || self.catalog.selection().shadow_of(&table.after).is_some() {
                if *name != table.after {
                    let put_away = self.catalog.selection().shadow_of(&table.after).is_some();
                    if !matches!(self.catalog.entry(name), Some(Entry::Table(_))) {
                        let of = spelled(pairs, &table.after);
                        self.change_entry(name.clone(), Entry::Alias { of });
                    }
                    let renamed = self.catalog.table(&table.after).filter(|_| !put_away);
                    if let Some(mut entry) = renamed.cloned() {
                        entry.stale = Some(name.clone());
                        self.change_entry(entry.table.name.clone(), Entry::Table(Box::new(entry)));
                        self.name_taken_again(name)?;
                    }
                }
                continue;
            }
            let unlearned: Vec<TableName> = together
                .iter()
                .filter(|other| other.after != *name)
                .map(|other| other.after.clone())
                .collect();
            let all: Vec<TableName> = together.iter().map(|other| other.after.clone()).collect();
            self.cannot_be_told(&table.after, &all, name, &unlearned)?;
        }
        Ok(())
    }
}

/// The name as the statement spells it.
fn spelled(pairs: &[(TableName, TableName)], key: &TableName) -> TableName {
    pairs.iter().map(|(_, new)| new).find(|name| name.key() == *key).unwrap_or(key).clone()
}

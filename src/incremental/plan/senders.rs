//! Under which names Drainer sends the rows of tables that were renamed together (source-drainer.md 0.12, 10.4).
//!
//! Drainer forgets to note such a statement: the last table's rows come under its new name in its old schema, those of every other
//! one under its old name. An ALTER of the table alone tells Drainer its name, a RENAME of it alone, or a TRUNCATE, its schema too. Rows that come under a
//! name that two tables are sent under are passed over, and the tables are copied again once Drainer tells them apart.

use std::collections::HashMap;

use super::{Planner, refuse};
use crate::error::Result;
use crate::incremental::catalog::{Catalog, Entry, TableEntry};
use crate::model::TableName;
use crate::task::standing::Standing;

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
    /// After a RENAME of several tables. `sent`: as their rows were sent before it, by folded name.
    pub(super) fn sent_under_stale_names(
        &mut self,
        keys: &[(TableName, TableName)],
        sent: &HashMap<TableName, TableName>,
    ) {
        let (tables, last) = moved(keys);
        for (at, table) in tables.iter().enumerate() {
            let before = sent.get(&table.before).unwrap_or(&table.before);
            let now = |before: &TableName, own: &str| match at == last {
                true => TableName::new(&before.schema, own),
                false => before.clone(),
            };
            let Some(entry) = self.catalog.table(&table.after) else {
                let before = self.catalog.alias_of(&table.before).unwrap_or(before);
                self.leads_to_stranger(now(before, &table.after.table), &table.after);
                continue;
            };
            let now = now(before, &entry.table.name.table);
            let sent_as = (now.key() != table.after).then_some(now);
            let entry = TableEntry { sent_as, ..entry.clone() };
            self.change_entry(entry.table.name.clone(), Entry::Table(Box::new(entry)));
        }
    }

    /// Rows of a table that is none of the task's come under a name as if they were.
    fn leads_to_stranger(&mut self, name: TableName, stranger: &TableName) {
        let phases = self.catalog.spec().phases;
        // A task that copies nothing asks the source for tables that it meets: there may be one of this name.
        let asks = !phases.schema && !phases.full;
        let selection = self.catalog.selection();
        if !asks
            && self.catalog.entry(&name).is_none()
            && selection.selects(&name)
            && !selection.selects(stranger)
        {
            self.change_entry(name, Entry::Alias { of: stranger.clone() });
        }
    }

    /// After a DDL of `table` alone: Drainer has learned its name, and with `placed` its schema.
    pub(super) fn learned(&mut self, table: &TableName, placed: bool) {
        let Some(entry) = self.catalog.table(table) else {
            if !placed && let Some(sent) = self.catalog.alias_of(table) {
                self.leads_to_stranger(TableName::new(&sent.schema, &table.table), table);
            }
            return;
        };
        let Some(sent) = &entry.sent_as else { return };
        let now = TableName::new(&sent.schema, &entry.table.name.table);
        let sent_as = (!placed && now.key() != entry.table.name.key()).then_some(now);
        let entry = TableEntry { sent_as, ..entry.clone() };
        self.change_entry(entry.table.name.clone(), Entry::Table(Box::new(entry)));
    }

    /// Tables that this event has made unclear are set aside; those that it has told apart are copied again.
    ///
    /// # Errors
    /// Without a TiDB connection there is nothing to copy them from, and `errors.table` stops the task.
    pub(super) fn settle_senders(&mut self, before: &Catalog) -> Result<()> {
        let was: Vec<TableEntry> = before.unclear().into_iter().flatten().cloned().collect();
        let now: Vec<Vec<TableEntry>> =
            self.catalog.unclear().into_iter().map(|group| group.into_iter().cloned().collect()).collect();
        for group in &now {
            for entry in group {
                let known = was.iter().any(|old| {
                    old.sent_name().key() == entry.sent_name().key()
                        && self.catalog.followed(&old.table.name.key()) == entry.table.name.key()
                });
                if !known && !entry.ignored && self.catalog.selection().selects(&entry.table.name) {
                    self.set_aside(entry, group)?;
                }
            }
        }
        for old in was {
            let Some(entry) = self.catalog.table(&self.catalog.followed(&old.table.name.key())) else {
                continue;
            };
            let name = entry.table.name.clone();
            let ours = !entry.ignored && self.catalog.selection().selects(&name);
            if ours && !self.catalog.is_unclear(entry) {
                self.copy_again(
                    &name,
                    "its rows could not be told from another table's since a RENAME of several tables",
                )?;
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, entry: &TableEntry, group: &[TableEntry]) -> Result<()> {
        let all = group.iter().map(|entry| entry.table.name.to_string()).collect::<Vec<_>>().join(", ");
        let what = format!("Drainer will send the rows of {all} under the one name {}", entry.sent_name());
        let cures: Vec<String> = group
            .iter()
            .filter_map(|entry| Some((&entry.table.name, entry.sent_as.as_ref()?)))
            .map(|(name, sent)| match name.schema.to_lowercase() == sent.schema.to_lowercase() {
                true => format!("an ALTER TABLE (a comment will do) of {name}"),
                false => format!("a RENAME TABLE of {name} by itself, to another name and back,"),
            })
            .collect();
        let cure = format!("{} at the source", cures.join(" and "));
        if self.catalog.spec().source.tidb.is_none() {
            if self.stops_tables() {
                return self.copy_again(&entry.table.name, what);
            }
            return Err(refuse(
                what,
                format!("give the task a tidb connection in source.tidb and resume; the tables are then copied again after {cure}"),
            )
            .object(&entry.table.name));
        }
        let name = entry.table.name.clone();
        self.steps
            .notes
            .push(format!("{what}: rows of {name} are passed over until {cure}; then it is copied again"));
        let standing = match &entry.standing {
            // A copy under way ends, and what it waits for now is said.
            Standing::Following | Standing::Resync { .. } => Standing::resync(format!("{what} until {cure}")),
            other => other.clone(),
        };
        self.change_entry(name, Entry::Table(Box::new(TableEntry { standing, ..entry.clone() })));
        Ok(())
    }
}

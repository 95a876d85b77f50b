//! What the rules of single tables and a merge mean for DDL: whose place on the target it is, and whether rows written by the rules of
//! one name may go on under another.

use super::{Planner, refuse};
use crate::adb::dialect::TargetTable;
use crate::error::{Error, ErrorKind, Result};
use crate::incremental::catalog::TableEntry;
use crate::model::TableName;

impl Planner<'_> {
    /// Whether another table of the task made this one's place on the target already.
    ///
    /// # Errors
    /// It did, and rows of both cannot be in one table.
    pub(super) fn joins(&mut self, name: &TableName, target: &TargetTable) -> Result<bool> {
        let Some(other) = self.catalog.sharing(name) else { return Ok(false) };
        let other_name = other.table.name.clone();
        if self.catalog.spec().merge.is_none() {
            return Err(shared(name, &other_name, &target.name));
        }
        if let Some(misfit) = self.catalog.target(other)?.misfit(target) {
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                format!("cannot be merged with {other_name} into {}: {misfit}", target.name),
            )
            .object(name)
            .hint("make the tables alike at the source, or exclude one of them in a new task"));
        }
        self.steps.notes.push(format!("{name} is merged with {other_name} into {}", target.name));
        Ok(true)
    }

    /// The place of a renamed table is free, and the rows there were written by the rules of its new name.
    pub(super) fn renamed_in_place(&self, old: &TableName, new: &TableName) -> Result<()> {
        if let Some(other) = self.catalog.sharing(new).filter(|other| other.table.name.key() != old.key()) {
            return Err(shared(new, &other.table.name, &self.catalog.selection().target(new)));
        }
        let (before, after) = (self.catalog.options(old), self.catalog.options(new));
        let differs = if before.mapping != after.mapping {
            "columns"
        } else if before.filter != after.filter {
            "filter"
        } else if before.operations != after.operations {
            "operations"
        } else if before.primary_key != after.primary_key {
            "primary_key"
        } else {
            return Ok(());
        };
        Err(refuse(
            format!("{old} becomes {new}, which has another `{differs}` in objects.tables"),
            "copy the table under its new name with a new task, or give both names the same rules in it",
        )
        .object(new))
    }

    /// A merged table's key is that of all its sources.
    pub(super) fn same_key(&self, before: &TableEntry, after: &TableEntry) -> Result<()> {
        let key = |entry: &TableEntry| -> Result<Vec<String>> {
            Ok(self.catalog.target(entry)?.identity_columns().map(|column| column.name.clone()).collect())
        };
        if key(before)? == key(after)? {
            return Ok(());
        }
        Err(refuse(
            "the columns that identify a row of a merged table changed",
            "copy the tables again with a new task",
        )
        .object(&before.table.name))
    }
}

/// Two tables that would be written to one without a merge.
fn shared(name: &TableName, other: &TableName, place: &TableName) -> Error {
    Error::new(ErrorKind::SchemaMismatch, format!("goes to {place}, and so does {other}"))
        .object(name)
        .hint("start a new task that gives one of them another place in objects.tables, excludes one, or says `merge`")
}

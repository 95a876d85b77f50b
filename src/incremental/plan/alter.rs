//! ALTER TABLE, clause by clause.

use super::defaults::Existing;
use super::policy::passed_over;
use super::{Planner, refuse};
use crate::adb::dialect::{self, AlterContext};
use crate::error::{Error, Result};
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::TableName;
use crate::sql::ddl::apply::{self, ApplyError};
use crate::sql::ddl::ast::{AlterClause, ObjectName};
use crate::sql::ddl::partition_condition;

impl Planner<'_> {
    pub(super) fn alter_table(&mut self, name: &ObjectName, clauses: &[AlterClause]) -> Result<()> {
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
    pub(super) fn tracked_entry(&mut self, name: &TableName) -> Result<Option<TableEntry>> {
        match self.catalog.table(name) {
            Some(entry) => Ok(Some(entry.clone())),
            None => self.selected(name),
        }
    }

    pub(super) fn alter_entry(&mut self, mut entry: TableEntry, clauses: &[AlterClause]) -> Result<()> {
        let name = entry.table.name.clone();
        let ours = self.catalog.selection().selects(&name) && !entry.ignored;
        let renamed = clauses.iter().find_map(|clause| match clause {
            AlterClause::Rename { to } => Some(to.or_schema(self.event.schema)),
            _ => None,
        });
        let name_after = renamed.unwrap_or_else(|| name.clone());
        for clause in clauses {
            if matches!(clause, AlterClause::Rename { .. }) {
                continue;
            }
            let before = entry.clone();
            let condition = partitions_of(clause)
                .map(|partitions| {
                    let mapping = self.catalog.options(&name).mapping;
                    partition_condition(&mapping.renamed(&before.table), partitions)
                })
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
            if self.catalog.spec().merge.is_some() {
                // Keys have no policy of their own, and the table is not this source's alone.
                allowed = false;
                self.same_key(&before, &entry)?;
            }
            if !allowed {
                passed_over(&before, &mut entry, clause)?;
                if let AlterClause::DropColumn { name: column, .. } = clause {
                    self.keep_column(&before, column)?;
                }
                continue;
            }
            let defaulted = match clause {
                AlterClause::AddColumn { column, .. } | AlterClause::ChangeColumn { column, .. } => {
                    Some(&column.name)
                }
                AlterClause::SetDefault { column, .. } => Some(column),
                _ => None,
            };
            if let Some(column) = defaulted
                && !self.settle_defaults(&mut entry.table, Some(column), &name_after)
            {
                return Ok(());
            }
            let Some(existing) = self.existing_rows(clause, &name_after) else { return Ok(()) };
            if matches!(clause, AlterClause::ExchangePartition { .. }) {
                return Err(refuse(
                    "EXCHANGE PARTITION moves rows that the stream does not carry",
                    "copy both tables again with a new task",
                )
                .object(&name));
            }
            let condition = condition.map_err(|error| Error::from(error).object(&name))?;
            let context = AlterContext {
                partition_condition: condition.as_deref(),
                existing_rows: match &existing {
                    Existing::Value(text) | Existing::Assumed(text) => Some(text),
                    Existing::Nothing => None,
                },
                ..AlterContext::default()
            };
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

    /// Makes a column that the source drops, and the target keeps by policy, one that rows need not carry.
    fn keep_column(&mut self, before: &TableEntry, column: &str) -> Result<()> {
        let target = self.catalog.target(before)?;
        if target.has_other_unique_keys {
            return Err(refuse(
                "a DROP COLUMN passed over by policy, in a table with several unique keys: rows would have to be replaced there, \
                 and the column with them",
                "set ddl.drop_column to apply",
            )
            .object(&before.table.name));
        }
        let required = target.column(column).filter(|column| column.required_value().is_some());
        self.steps.statements.extend(required.map(|column| dialect::allow_null(&target, column)));
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

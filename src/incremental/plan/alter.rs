//! ALTER TABLE, clause by clause.

use super::defaults::Existing;
use super::policy::passed_over;
use super::{EXPIRED, Planner, refuse};
use crate::adb::dialect::{self, AlterContext, TargetStatement};
use crate::error::{Error, Result};
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::{ColumnDefault, Dialect, Partitioning, Table, TableName, TypeName};
use crate::sql::ddl::apply::{self, ApplyError};
use crate::sql::ddl::ast::{AlterClause, ObjectName};
use crate::sql::ddl::{condition_in_front_of, names_column, partition_condition};

/// Items of a condition that AnalyticDB takes, and values of a list (target-adb-and-dts.md 3.3).
const ADB_TERMS: usize = 256;
const ADB_VALUES: usize = 2_000;

impl Planner<'_> {
    pub(super) fn alter_table(&mut self, name: &ObjectName, clauses: &[AlterClause]) -> Result<()> {
        let rename = clauses.iter().find_map(|clause| match clause {
            AlterClause::Rename { to } => Some(to),
            _ => None,
        });
        let (full, to) = match rename {
            Some(to) => {
                let pair = [(name.clone(), to.clone())];
                match self.qualified(&pair)?.and_then(|mut pairs| pairs.pop()) {
                    Some((old, new)) => (old, Some(new)),
                    None => return Ok(()),
                }
            }
            None => (self.named(name), None),
        };
        if let Some(entry) = self.tracked_entry(&full)? {
            self.alter_entry(entry, clauses)?;
        }
        for clause in clauses {
            if let AlterClause::ExchangePartition { table, .. } = clause {
                self.exchange(&full, name, table)?;
            }
        }
        match to {
            Some(to) => {
                self.rename(&full, &to)?;
                self.learned(&to, true);
            }
            None => self.learned(&full, false),
        }
        Ok(())
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
        let ours = self.catalog.selection().selects(&name) && entry.is_followed();
        // What the statement leaves, for its clauses in between may leave less: DROP PRIMARY KEY, ADD PRIMARY KEY.
        let mut end = entry.clone();
        for clause in clauses.iter().filter(|clause| !matches!(clause, AlterClause::Rename { .. })) {
            let _ = apply::alter(&mut end.table, clause);
        }
        let renamed = clauses.iter().find_map(|clause| match clause {
            AlterClause::Rename { to } => Some(to.or_schema(self.event.schema)),
            _ => None,
        });
        let name_after = renamed.unwrap_or_else(|| name.clone());
        for clause in clauses {
            if matches!(clause, AlterClause::Rename { .. } | AlterClause::ExchangePartition { .. }) {
                continue;
            }
            let before = entry.clone();
            let renamed = |table: &Table| self.catalog.options(&name).mapping.renamed(table);
            let condition = match clause {
                AlterClause::DropPartitions { names, .. }
                | AlterClause::TruncatePartitions { names: Some(names) } => {
                    Some(partition_condition(&renamed(&before.table), names))
                }
                AlterClause::FirstPartition { bound } => {
                    Some(condition_in_front_of(&renamed(&before.table), bound))
                }
                // No rows go, or all.
                _ => None,
            };
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
            // It gets its new layout with its new copy.
            if self.is_copied_again(&name) {
                continue;
            }
            let options = self.catalog.options(&name);
            let rewritten = dialect::rewritten(
                self.catalog.dialect(),
                &before.visible(),
                clause,
                &entry.visible(),
                &options,
            );
            if let Some(rewritten) = rewritten {
                if !rewritten.near || self.catalog.spec().source.tidb.is_some() {
                    self.copy_again(&name, rewritten.reason)?;
                    continue;
                }
                self.steps.notes.push(format!(
                    "{}: without a tidb connection to copy them from they are left to the target, which gives ordinary values the same",
                    rewritten.reason
                ));
            }
            let condition = match condition.transpose() {
                Ok(condition) => condition,
                Err(error) => {
                    let reason =
                        format!("which rows the partitions held cannot be said as a condition: {error}");
                    self.copy_again(&name, reason)?;
                    continue;
                }
            };
            if let Some(untold) =
                condition.as_deref().and_then(|condition| self.untold(&before.table, condition))
            {
                self.copy_again(&name, untold)?;
                continue;
            }
            if !self.settle_bytes(&mut entry.table, clause, &name_after) {
                return Ok(());
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
            let context = AlterContext {
                partition_condition: condition.as_deref(),
                existing_rows: match &existing {
                    Existing::Value(text) => std::str::from_utf8(text).ok(),
                    Existing::Assumed(text) => Some(text),
                    Existing::Nothing => None,
                },
                ..AlterContext::default()
            };
            let planned = dialect::alter(
                self.catalog.dialect(),
                &before.visible(),
                clause,
                &entry.visible(),
                &self.catalog.selection().target(&name),
                &options,
                &context,
            );
            let statements = match planned {
                Ok(statements) => statements,
                Err(problem) => {
                    self.impossible(&before, &end, clause, Error::from(problem))?;
                    continue;
                }
            };
            self.note_dropped(clause, &statements);
            self.note_filled(clause);
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

impl Planner<'_> {
    /// Says what of a clause the target does not get.
    fn note_dropped(&mut self, clause: &AlterClause, statements: &[TargetStatement]) {
        let what = match clause {
            AlterClause::AddKey { key, .. } if statements.is_empty() => {
                format!("index {}", key.name.as_deref().unwrap_or("without a name"))
            }
            AlterClause::DropKey { name, .. } if statements.is_empty() => format!("index {name}"),
            AlterClause::RenameKey { old, .. } if statements.is_empty() => format!("index {old}"),
            AlterClause::Harmless { what } if what == "ttl" => {
                self.steps.notes.push(EXPIRED.to_owned());
                return;
            }
            AlterClause::Harmless { what } => what.clone(),
            AlterClause::Comment { .. } if statements.is_empty() => "comment".to_owned(),
            AlterClause::DefaultCharset { .. } | AlterClause::ConvertCharset { .. }
                if statements.is_empty() =>
            {
                "character set".to_owned()
            }
            AlterClause::AddPartitions { .. }
            | AlterClause::ReorganizePartitions { .. }
            | AlterClause::SetPartitioning { .. }
            | AlterClause::ChangePartitionCount { .. } => "partitioning".to_owned(),
            AlterClause::SetDefault { column, .. } if statements.is_empty() => format!("default of {column}"),
            AlterClause::AddColumn { position: Some(_), .. }
            | AlterClause::ChangeColumn { position: Some(_), .. }
                if self.catalog.dialect() == Dialect::Adb =>
            {
                "the column's place".to_owned()
            }
            AlterClause::ChangeColumn { column, .. } if statements.is_empty() => {
                format!("definition of {}", column.name)
            }
            _ => return,
        };
        self.steps.notes.push(format!("{what}: nothing to do on the target"));
    }

    /// Drainer completes rows of transactions that did not know the column yet, and gets these types wrong (source-drainer.md 0.19).
    fn note_filled(&mut self, clause: &AlterClause) {
        let AlterClause::AddColumn { column, .. } = clause else { return };
        let wrong = match column.ty.name {
            TypeName::Float | TypeName::Double => {
                !matches!(&column.default, None | Some(ColumnDefault::Null))
            }
            TypeName::Enum => !column.nullable && column.default.is_none(),
            _ => false,
        };
        if wrong {
            self.steps.notes.push(format!(
                "Drainer writes 0 into `{}` of rows whose transactions did not know the column yet, whatever the source has: verify the table if some were under way",
                column.name
            ));
        }
    }

    /// Why the rows of a partition cannot be told on the target by a condition that tells them at the source.
    fn untold(&self, table: &Table, condition: &str) -> Option<&'static str> {
        if self.catalog.dialect() == Dialect::Mysql {
            return None;
        }
        match &table.partitioning {
            // TiDB compares by the collation, and without the spaces at the end; AnalyticDB compares bytes.
            Some(
                Partitioning::Range { expression, columns: true, .. }
                | Partitioning::List { expression, columns: true, .. },
            ) if expression
                .iter()
                .filter_map(|name| table.column(name))
                .any(|column| column.ty.name.is_text()) =>
            {
                return Some(
                    "the partitions' borders follow a collation that the target compares differently",
                );
            }
            // On the target it is a DECIMAL, whose large numbers do not wrap around.
            Some(Partitioning::Hash { expression, .. })
                if table.columns.iter().any(|column| {
                    column.ty.name == TypeName::BigInt
                        && column.ty.unsigned
                        && names_column(expression, &column.name)
                }) =>
            {
                return Some("the partitions are of a hash that the target computes differently");
            }
            _ => {}
        }
        let counted = |what: &str| condition.matches(what).count();
        (counted(" AND ") + counted(" OR ") >= ADB_TERMS || counted(",") >= ADB_VALUES)
            .then_some("the condition for the rows of the partitions is longer than the target takes")
    }
}

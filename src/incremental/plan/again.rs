//! Tables that are copied again, because a DDL moved rows that no message carries, or asked what the target cannot do.

use super::{Ask, Planner, Resync, refuse};
use crate::adb::dialect;
use crate::error::{Error, Result};
use crate::incremental::catalog::{Entry, TableEntry};
use crate::model::{Dialect, Table, TableName};
use crate::sql::ddl::ast::{AlterClause, ObjectName};
use crate::sql::ddl::kind::DdlKind;
use crate::sql::literal;
use crate::task::spec::{DdlPolicy, TableErrorPolicy};

impl Planner<'_> {
    /// `table` is its name after the DDL. Without a TiDB connection there is nothing to copy from: under `stop_table` the table stops instead.
    ///
    /// # Errors
    /// The task stops.
    pub(super) fn copy_again(&mut self, table: &TableName, reason: impl Into<String>) -> Result<()> {
        let reason = reason.into();
        if self.catalog.spec().source.tidb.is_none() && !self.stops_tables() {
            return Err(refuse(reason, "the table must be copied again: give the task a tidb connection in source.tidb, or exclude the table, and resume").object(table));
        }
        let known = self.steps.resync.iter().any(|resync| resync.table.key() == table.key());
        if !known {
            self.steps.resync.push(Resync { table: table.clone(), reason });
        }
        Ok(())
    }

    pub(super) fn stops_tables(&self) -> bool {
        self.catalog.spec().errors.table == TableErrorPolicy::StopTable
    }

    /// The definition of a table that comes without one. None: the source must be asked first. Where there is none, and the table is to be
    /// stopped, nobody needs to know.
    pub(super) fn definition(&mut self, name: &TableName) -> Option<Table> {
        if let Some(table) = self.facts.tables.get(&name.key()) {
            return Some(table.clone());
        }
        if self.catalog.spec().source.tidb.is_none() && self.stops_tables() {
            return Some(Table::empty(name.clone()));
        }
        self.ask = Some(Ask::Definition(name.clone()));
        None
    }

    pub(super) fn is_copied_again(&self, table: &TableName) -> bool {
        self.steps.resync.iter().any(|resync| resync.table.key() == table.key())
    }

    /// What the target cannot follow: copied again by policy `rebuild`, else a stop with the way to do it by hand.
    pub(super) fn impossible(
        &mut self,
        before: &TableEntry,
        after: &TableEntry,
        clause: &AlterClause,
        problem: Error,
    ) -> Result<()> {
        let name = &after.table.name;
        // Another copy would hold the same values.
        if problem.hint.as_deref().is_some_and(|hint| hint.starts_with("set lossy.")) {
            return Err(problem.object(name));
        }
        let kind = clause.kinds().last().copied().unwrap_or(DdlKind::ModifyColumn);
        let policy = self.policy(kind, name);
        if policy == DdlPolicy::Ignore {
            self.steps.notes.push(format!("{}: passed over by policy: {}", kind.as_str(), problem.message));
            return Ok(());
        }
        // A table that the target cannot hold is not helped by another copy of it.
        let mut wanted = self.catalog.target(after)?;
        if policy == DdlPolicy::Rebuild {
            return self.copy_again(name, problem.message);
        }
        let rebuild =
            format!("set ddl.{} to rebuild and resume: the table is then copied again", kind.as_str());
        let renames = match clause {
            AlterClause::RenameColumn { .. } => true,
            AlterClause::ChangeColumn { old, column, .. } => !old.eq_ignore_ascii_case(&column.name),
            _ => false,
        };
        if renames {
            return Err(problem.object(name).hint(rebuild));
        }
        let have = self.catalog.target(before)?;
        let same = |column: &&str| have.column(column).is_some();
        let columns: Vec<&str> =
            wanted.columns.iter().map(|column| column.name.as_str()).filter(same).collect();
        let columns = columns.into_iter().map(literal::name).collect::<Vec<_>>().join(", ");
        let beside =
            |suffix: &str| TableName::new(&have.name.schema, format!("{}_{suffix}", have.name.table));
        let (new, old) = (beside("new"), beside("old"));
        wanted.name = new.clone();
        let create = dialect::create_table(&wanted);
        let fill = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {}",
            literal::table_name(&new),
            literal::table_name(&have.name)
        );
        let rename = |from: &TableName, to: &TableName| match self.catalog.dialect() {
            Dialect::Adb => {
                format!("ALTER TABLE {} RENAME {}", literal::table_name(from), literal::table_name(to))
            }
            Dialect::Mysql => {
                format!("RENAME TABLE {} TO {}", literal::table_name(from), literal::table_name(to))
            }
        };
        Err(problem.object(name).hint(format!(
            "{rebuild}. By hand: on the target run {create}; {fill}; {swap_out}; {swap_in}; \
             then set ddl.{policy} to ignore, resume, and set it back once this DDL is passed",
            policy = kind.as_str(),
            create = create.replace('\n', " "),
            swap_out = rename(&have.name, &old),
            swap_in = rename(&new, &have.name),
        )))
    }

    /// Rows changed places between a partition and a table without one message.
    pub(super) fn exchange(&mut self, table: &TableName, name: &ObjectName, with: &ObjectName) -> Result<()> {
        let known: Vec<TableName> = self.catalog.tables_named(&with.name).cloned().collect();
        let other = match known.as_slice() {
            // To copy it again does no harm should it be another one.
            [only] if with.schema.is_none() && name.schema.is_some() => Some(only.clone()),
            _ => self.named_beside(with, name.schema.is_none(), table)?,
        };
        for name in [Some(table.clone()), other].into_iter().flatten() {
            if self.selected(&name)?.is_some() && self.allowed(DdlKind::Other, &name)? {
                self.copy_again(&name, "EXCHANGE PARTITION moved rows that no message carries")?;
            }
        }
        self.steps.notes.push(
            "Drainer exits at the next change of the exchanged table (source-drainer.md 10.6): start it again with a new schema snapshot"
                .to_owned(),
        );
        Ok(())
    }

    /// RECOVER and FLASHBACK TABLE: the event says where the table is now.
    pub(super) fn recover(&mut self, names: &[ObjectName]) -> Result<()> {
        let name = match names.last() {
            _ if !self.event.table.is_empty() => self.event.name(),
            Some(name) if name.schema.is_some() => name.or_schema(self.event.schema),
            _ => TableName::new(names.last().map_or(self.event.schema, |name| &name.name), ""),
        };
        // Neither a name nor an event of a table: FLASHBACK CLUSTER, which concerns every task.
        let cluster = names.is_empty() && self.event.table.is_empty();
        if !(cluster || self.touches_selection(&name)) || !self.allowed(DdlKind::Other, &name)? {
            return Ok(());
        }
        if name.table.is_empty() {
            return Err(refuse(
                "a whole database or cluster was set back: rows came back that no message carries",
                "start a new task for its tables; set ddl.other to ignore to pass over this one",
            )
            .object(&name.schema));
        }
        let Some(table) = self.definition(&name) else { return Ok(()) };
        self.change_entry(name.clone(), Entry::Table(Box::new(TableEntry::new(table))));
        self.steps.notes.push(
            "after FLASHBACK of a truncated table Drainer may send no more changes of it (source-drainer.md 10.7)".to_owned(),
        );
        self.copy_again(&name, "the table was brought back with rows that no message carries")
    }
}

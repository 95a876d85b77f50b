//! DDL that an operator decides about: passed over, or other statements in its place.
//!
//! After a skip the target is taken to be as it is: what the source has more is left out, what the target has more is kept, as under
//! the policy `ignore`. After a replacement the catalog has the table as the source's own DDL leaves it, and the target's table must
//! take its rows: it is compared before the stream goes on. Statements of an operator are read by the same grammar as the stream's:
//! one per entry, of few kinds, on the tables that the DDL concerns, and sent as they were read.

use std::collections::HashSet;

use super::catalog::{Catalog, Change, Entry, TableEntry};
use super::plan::{self, Event, Facts, Plan, Steps};
use super::stream::Stream;
use crate::adb::dialect::{Done, TargetStatement};
use crate::binlog::{ChangeSource, Ddl};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Key, KeyKind, TableName};
use crate::schema_sync;
use crate::sql::ddl;
use crate::sql::ddl::apply;
use crate::sql::ddl::ast::{AlterClause, ObjectName, Statement};
use crate::store::{DdlDecision, DdlRecord};
use crate::task::selection::Selection;
use crate::task::spec::DdlPolicy;
use crate::tidb;

/// Tables of the target that a DDL concerns.
pub fn concerned(record: &DdlRecord, selection: &Selection) -> HashSet<TableName> {
    let schema = record.schema_name.as_str();
    let mut names = vec![TableName::new(schema, &record.table_name)];
    for statement in ddl::parse(record.source_text.as_bytes()).unwrap_or_default() {
        let named: Vec<ObjectName> = match statement {
            Statement::CreateTable { name, .. }
            | Statement::CreateTableLike { name, .. }
            | Statement::TruncateTable { name } => vec![name],
            Statement::AlterTable { name, clauses } => {
                let more = clauses.into_iter().filter_map(|clause| match clause {
                    AlterClause::Rename { to } => Some(to),
                    _ => None,
                });
                std::iter::once(name).chain(more).collect()
            }
            Statement::CreateIndex { table, .. } | Statement::DropIndex { table, .. } => vec![table],
            Statement::DropTable { names, .. } | Statement::Recover { names } => names,
            Statement::RenameTable { pairs } => pairs.into_iter().flat_map(|(from, to)| [from, to]).collect(),
            Statement::CreateDatabase { .. }
            | Statement::AlterDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::View { .. }
            | Statement::Harmless { .. } => Vec::new(),
        };
        names.extend(named.iter().map(|name| name.or_schema(schema)));
    }
    names.iter().filter(|name| selection.selects(name)).map(|name| selection.target(name)).collect()
}

/// A statement of an operator as it may be sent, and how to see whether it ran.
///
/// # Errors
/// Why it is not taken.
pub fn statement(text: &str, tables: &HashSet<TableName>) -> std::result::Result<TargetStatement, String> {
    let text = text.trim().trim_end_matches(';').trim_end();
    if ["/*", "--", "#"].iter().any(|mark| text.contains(mark)) {
        return Err("comments are not taken".to_owned());
    }
    let statements = ddl::parse(text.as_bytes()).map_err(|fault| format!("is not understood: {fault}"))?;
    let [statement] = statements.as_slice() else {
        return Err("must be one statement; give each its own entry".to_owned());
    };
    let known = |name: &ObjectName| match &name.schema {
        None => Err(format!("`{}` must be written with its database on the target", name.name)),
        Some(schema) => {
            let table = TableName::new(schema, &name.name);
            if tables.iter().any(|other| other.key() == table.key()) {
                Ok(table)
            } else {
                let allowed: Vec<_> = tables.iter().map(ToString::to_string).collect();
                Err(format!("{table} is not a table that this DDL concerns ({})", allowed.join(", ")))
            }
        }
    };
    let done = match statement {
        Statement::CreateTable { name, .. } => Done::TableExists { table: known(name)? },
        Statement::TruncateTable { name } => {
            known(name)?;
            Done::Rerun
        }
        Statement::CreateIndex { table, key, .. } => {
            Done::IndexExists { table: known(table)?, index: index_name(key)? }
        }
        Statement::DropIndex { table, name, .. } => {
            Done::IndexAbsent { table: known(table)?, index: name.clone() }
        }
        Statement::RenameTable { pairs } => match pairs.as_slice() {
            [(from, to)] => Done::TableRenamed { from: known(from)?, to: known(to)? },
            _ => return Err("may rename one table at a time".to_owned()),
        },
        Statement::AlterTable { name, clauses } => altered(&known(name)?, clauses)?,
        _ => {
            return Err(
                "may be ALTER TABLE, CREATE TABLE, TRUNCATE TABLE, RENAME TABLE, CREATE INDEX or DROP INDEX"
                    .to_owned(),
            );
        }
    };
    Ok(TargetStatement { sql: text.to_owned(), done, warning: None })
}

fn index_name(key: &Key) -> std::result::Result<String, String> {
    if key.kind == KeyKind::Primary {
        return Ok("PRIMARY".to_owned());
    }
    key.name.clone().ok_or_else(|| "must give the index a name".to_owned())
}

/// What shows that an ALTER TABLE ran: the first of its clauses that leaves a trace, for it takes effect as a whole.
fn altered(table: &TableName, clauses: &[AlterClause]) -> std::result::Result<Done, String> {
    let table = || table.clone();
    let mut found = None;
    for clause in clauses {
        let done = match clause {
            AlterClause::AddColumn { column, .. } => {
                Done::ColumnExists { table: table(), column: column.name.clone() }
            }
            AlterClause::DropColumn { name, .. } => {
                Done::ColumnAbsent { table: table(), column: name.clone() }
            }
            AlterClause::RenameColumn { old, new } => {
                Done::ColumnRenamed { table: table(), old: old.clone(), new: new.clone() }
            }
            AlterClause::ChangeColumn { old, column, .. } if !old.eq_ignore_ascii_case(&column.name) => {
                Done::ColumnRenamed { table: table(), old: old.clone(), new: column.name.clone() }
            }
            AlterClause::AddKey { key, .. } => Done::IndexExists { table: table(), index: index_name(key)? },
            AlterClause::DropKey { name, .. } => Done::IndexAbsent { table: table(), index: name.clone() },
            AlterClause::Rename { .. }
            | AlterClause::ExchangePartition { .. }
            | AlterClause::DropPartitions { .. }
            | AlterClause::TruncatePartitions { .. } => {
                return Err("may change columns and indexes alone".to_owned());
            }
            _ => Done::Rerun,
        };
        if found.is_none() && done != Done::Rerun {
            found = Some(done);
        }
    }
    Ok(found.unwrap_or(Done::Rerun))
}

/// What the catalog becomes when a DDL is passed over.
///
/// # Errors
/// The rows behind it could not be understood.
pub fn skipped(event: Event<'_>, text: &[u8], catalog: &Catalog) -> Result<Steps> {
    let Ok(statements) = ddl::parse(text) else {
        let note =
            "skipped by an operator: the DDL is not understood, and the tables are taken to be as before";
        return Ok(Steps { notes: vec![note.to_owned()], ..Steps::default() });
    };
    let passing = catalog.with_policy(DdlPolicy::Ignore);
    let mut steps = match plan::plan(event, &statements, &passing, &Facts::default())? {
        Plan::Do(steps) => steps,
        Plan::Ask(_) => Steps::default(),
    };
    steps.statements.clear();
    steps.resync.clear();
    steps.notes = vec!["skipped by an operator: the target stays as it is".to_owned()];
    Ok(steps)
}

/// What the catalog becomes after the source's DDL, as far as its text tells.
fn after(event: Event<'_>, text: &[u8], catalog: &Catalog) -> Option<Change> {
    let statements = ddl::parse(text).ok()?;
    let applying = catalog.with_policy(DdlPolicy::Apply);
    if let Ok(Plan::Do(steps)) = plan::plan(event, &statements, &applying, &Facts::default()) {
        return Some(steps.change);
    }
    // What the target cannot do by itself.
    let [Statement::AlterTable { name, clauses }] = statements.as_slice() else { return None };
    let mut entry = catalog.table(&name.or_schema(event.schema))?.clone();
    for clause in clauses {
        if matches!(clause, AlterClause::Rename { .. } | AlterClause::ExchangePartition { .. }) {
            return None;
        }
        apply::alter(&mut entry.table, clause).ok()?;
    }
    Some(Change::of(entry))
}

impl<S: ChangeSource> Stream<S> {
    /// The steps of a DDL that an operator has decided about.
    pub(super) async fn decided(
        &mut self,
        event: &Ddl<'_>,
        record: &DdlRecord,
        decision: &DdlDecision,
    ) -> Result<Steps> {
        let names = Event { schema: &record.schema_name, table: &record.table_name };
        let DdlDecision::Replace { statements } = decision else {
            return skipped(names, event.query, &self.catalog);
        };
        let tables = concerned(record, self.catalog.selection());
        let statements = statements
            .iter()
            .map(|text| {
                statement(text, &tables)
                    .map_err(|why| Error::new(ErrorKind::Configuration, format!("{text}: {why}")))
            })
            .collect::<Result<Vec<_>>>()?;
        let change = match after(names, event.query, &self.catalog) {
            Some(change) => change,
            None => self.told_by_source(record).await?,
        };
        let notes = vec!["replaced by an operator".to_owned()];
        Ok(Steps { statements, change, resync: Vec::new(), notes })
    }

    /// The table of the event as the source has it right after the DDL.
    async fn told_by_source(&self, record: &DdlRecord) -> Result<Change> {
        let name = TableName::new(&record.schema_name, &record.table_name);
        let unknown = |why: &str| {
            Error::new(ErrorKind::SchemaMismatch, format!("what the table looks like after this DDL {why}"))
                .object(&name)
                .hint("skip the DDL, and copy the table again with /tables/resync")
        };
        let source = self
            .context
            .source
            .as_ref()
            .ok_or_else(|| unknown("cannot be told by its text, and the task has no tidb connection"))?;
        let table = match tidb::table_at(source, record.commit_ts, &name).await {
            Err(error) if error.kind == ErrorKind::SnapshotLost => {
                return Err(unknown("is no longer in the source's history"));
            }
            found => found?.ok_or_else(|| unknown("is not known to the source"))?,
        };
        let entry = match self.catalog.table(&name) {
            Some(entry) => TableEntry { table, ..entry.clone() },
            None => TableEntry::new(table),
        };
        Ok(Change::of(entry))
    }

    /// The target's tables must take the rows that come now.
    pub(super) async fn takes_rows(&mut self, steps: &Steps) -> Result<()> {
        let mut catalog = self.catalog.clone();
        catalog.apply(&steps.change);
        let dialect = self.context.dialect;
        for (name, entry) in &steps.change.entries {
            let Entry::Table(entry) = entry else { continue };
            if !entry.is_followed() || !catalog.selection().selects(name) {
                continue;
            }
            let wanted = catalog.target(entry)?;
            let session = &mut self.writer()?.lane().await?.session;
            let state = schema_sync::introspect(session, dialect, std::slice::from_ref(&wanted.name)).await?;
            let problem = match state.table(&wanted.name) {
                None => format!("{} is not on the target", wanted.name),
                Some(existing) => {
                    let problems = schema_sync::compare(&wanted, existing);
                    let Some(problem) = problems.iter().find(|problem| problem.is_refusal()) else {
                        continue;
                    };
                    problem.to_string()
                }
            };
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                format!("after the replacement the target does not take the rows of {name}: {problem}"),
            )
            .endpoint(Endpoint::Target)
            .object(name)
            .hint("replace the DDL again with what is still to be done; what ran already is passed over"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_an_operator_are_few_and_about_the_table() {
        let tables = HashSet::from([TableName::new("dw", "t")]);
        let taken = |text: &str| statement(text, &tables);
        for text in [
            "ALTER TABLE dw.t ADD COLUMN c INT",
            "alter table `dw`.`t` modify column c varchar(90);",
            "ALTER TABLE dw.t DROP COLUMN c, ADD INDEX k (d)",
            "CREATE INDEX k ON dw.t (c)",
            "DROP INDEX k ON dw.t",
            "TRUNCATE TABLE dw.t",
            "CREATE TABLE dw.t (id INT PRIMARY KEY)",
        ] {
            assert!(taken(text).is_ok(), "{text}: {:?}", taken(text));
        }
        assert_eq!(taken(" TRUNCATE TABLE dw.t ; ").unwrap().sql, "TRUNCATE TABLE dw.t");
        for (text, why) in [
            ("", "understood"),
            ("ALTER TABLE t ADD COLUMN c INT", "database"),
            ("ALTER TABLE dw.other ADD COLUMN c INT", "concerns"),
            ("ALTER TABLE dw.t ADD COLUMN c INT; DROP TABLE dw.t", "one statement"),
            ("ALTER TABLE dw.t ADD COLUMN c INT -- and more", "comments"),
            ("ALTER TABLE dw.t /*!99999 DROP COLUMN a */", "comments"),
            ("ALTER TABLE dw.t RENAME dw.u", "alone"),
            ("DROP TABLE dw.t", "may be"),
            ("DROP DATABASE dw", "may be"),
            ("DELETE FROM dw.t", "understood"),
            ("GRANT ALL ON *.* TO x", ""),
            ("SET GLOBAL a = 1", ""),
        ] {
            let refused = taken(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}

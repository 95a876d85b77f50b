//! Creates what the target lacks and compares what it has.
//!
//! [`plan`] is pure: the selected tables, the state of the target, the policy; it gives the exact statements and every reason against them, for
//! `/plan` and for the worker alike. [`apply`] runs a plan and may be run again after a crash at any point: databases are created if absent,
//! and a table that is there already must pass the same comparison as one that was there before.

mod compare;
mod inspect;
mod shape;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use compare::{compare, refusals};
pub use inspect::{
    ExistingColumn, ExistingKey, ExistingTable, TargetState, collations, done, has_rows, has_table,
    introspect,
};

use crate::adb::dialect::{
    Problem, TableOptions, TargetStatement, TargetTable, create_database_statement, create_table,
};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Dialect, Table, TableName};
use crate::mysql::Session;
use crate::task::spec::ExistingTables;

/// ER_TABLE_EXISTS_ERROR
const TABLE_EXISTS: u16 = 1050;

/// A selected table and its plan on the target. The plan must be made with the target's own collations ([`TargetState::collations`]), and
/// the same one must write the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub source: TableName,
    pub target: TableName,
    pub table: Result<TargetTable, Vec<Problem>>,
    /// Defaults of the source's schema, for its database.
    pub schema_charset: Option<String>,
    pub schema_collation: Option<String>,
    /// This task created the table in an earlier run: it is used whatever the policy for existing tables says.
    pub ours: bool,
}

impl Wanted {
    pub fn new(dialect: Dialect, source: &Table, target: TableName, options: &TableOptions) -> Self {
        Self {
            source: source.name.clone(),
            target: target.clone(),
            table: TargetTable::new(dialect, source, target, options),
            schema_charset: options.schema_charset.clone(),
            schema_collation: options.schema_collation.clone(),
            ours: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The table is not there.
    Create,
    /// It is there and takes every row of the source.
    Use,
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TablePlan {
    pub source: TableName,
    pub target: TableName,
    pub action: Action,
    /// In order; empty unless `action` is create.
    pub statements: Vec<String>,
    /// Refusals, if any, and warnings.
    pub problems: Vec<Problem>,
    /// For writing to the table. None when it was refused before its layout was known.
    #[serde(skip)]
    pub table: Option<TargetTable>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SchemaPlan {
    pub dialect: Dialect,
    /// CREATE DATABASE for those that are not there.
    pub databases: Vec<TargetStatement>,
    pub tables: Vec<TablePlan>,
}

impl SchemaPlan {
    pub fn refusals(&self) -> impl Iterator<Item = &Problem> {
        self.tables.iter().flat_map(|table| &table.problems).filter(|problem| problem.is_refusal())
    }
}

/// What has to be done so that every wanted table is on the target.
pub fn plan(dialect: Dialect, wanted: &[Wanted], state: &TargetState, policy: ExistingTables) -> SchemaPlan {
    let mut places: BTreeMap<TableName, Vec<&TableName>> = BTreeMap::new();
    for wanted in wanted {
        places.entry(wanted.target.key()).or_default().push(&wanted.source);
    }
    let all = wanted;
    let tables: Vec<_> = wanted
        .iter()
        .map(|wanted| {
            let rivals = places
                .get(&wanted.target.key())
                .into_iter()
                .flatten()
                .filter(|source| **source != &wanted.source)
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            // Of merged tables the first is created; the others go into it.
            let first = places.get(&wanted.target.key()).and_then(|places| places.first());
            let first = first.filter(|first| **first != &wanted.source).and_then(|first| {
                let first = all.iter().find(|wanted| wanted.source == **first)?;
                first.table.as_ref().ok().filter(|table| table.constant().is_some())
            });
            plan_table(dialect, wanted, state, policy, &rivals, first)
        })
        .collect();
    let mut databases: Vec<TargetStatement> = Vec::new();
    for (wanted, table) in wanted.iter().zip(&tables) {
        let name = &wanted.target.schema;
        if table.action != Action::Create || state.has_database(name) {
            continue;
        }
        let statement = create_database_statement(
            dialect,
            name,
            wanted.schema_charset.as_deref(),
            wanted.schema_collation.as_deref(),
        );
        if !databases.iter().any(|other| other.done == statement.done) {
            databases.push(statement);
        }
    }
    SchemaPlan { dialect, databases, tables }
}

fn plan_table(
    dialect: Dialect,
    wanted: &Wanted,
    state: &TargetState,
    policy: ExistingTables,
    rivals: &[String],
    merged_into: Option<&TargetTable>,
) -> TablePlan {
    let name = &wanted.source;
    let mut plan = TablePlan {
        source: name.clone(),
        target: wanted.target.clone(),
        action: Action::Create,
        statements: Vec::new(),
        problems: Vec::new(),
        table: None,
    };
    let merged = wanted.table.as_ref().is_ok_and(|table| table.constant().is_some());
    if !rivals.is_empty() && !merged {
        plan.problems.push(Problem::refuse(
            name,
            format!("{} also goes to {}", rivals.join(", "), wanted.target),
            "give each table its own place on the target",
        ));
    }
    if dialect == Dialect::Adb {
        plan.problems.extend(adb_database_name(&wanted.target));
    }
    match &wanted.table {
        Err(problems) => plan.problems.extend(problems.iter().cloned()),
        Ok(table) => {
            let mut table = table.clone();
            plan.problems.extend(table.warnings.iter().cloned());
            if let Some(misfit) = merged_into.and_then(|first| first.misfit(&table)) {
                plan.problems.push(Problem::refuse(
                    name,
                    format!("cannot be merged into {}: {misfit}", wanted.target),
                    "make the tables alike, by columns.exclude and columns.rename for example, or exclude one",
                ));
            }
            match state.table(&wanted.target) {
                None if merged_into.is_some() => plan.action = Action::Use,
                None => plan.statements.push(create_table(&table)),
                Some(existing) => {
                    plan.action = Action::Use;
                    if policy == ExistingTables::Refuse && !wanted.ours {
                        plan.problems.push(Problem::refuse(
                            name,
                            format!("{} is on the target already", wanted.target),
                            "drop or rename it, or set existing_tables to `keep` or `replace`",
                        ));
                    }
                    let problems = compare(&table, existing);
                    table.has_other_unique_keys = compare::has_other_unique_keys(&table, existing);
                    plan.problems.extend(problems);
                }
            }
            plan.table = Some(table);
        }
    }
    if plan.problems.iter().any(Problem::is_refusal) {
        plan.action = Action::Refuse;
        plan.statements.clear();
    }
    plan
}

/// Begins with a lower-case letter, at most 64 characters, no `__`, not `analyticdb` (target-adb-and-dts.md 3.1).
fn adb_database_name(target: &TableName) -> Option<Problem> {
    let name = &target.schema;
    let fits = name.chars().next().is_some_and(char::is_lowercase)
        && name.chars().count() <= 64
        && !name.contains("__")
        && name != "analyticdb";
    (!fits).then(|| {
        Problem::refuse(
            name,
            "the target takes database names that begin with a lower-case letter, are at most 64 characters long, have no `__` and are not `analyticdb`",
            "map the schema to another name in objects.schemas",
        )
    })
}

/// What [`apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    pub databases: usize,
    pub tables: usize,
}

/// Creates what the plan creates. `created` is called for each table before the next statement runs, so that a restart knows the table as its own.
///
/// # Errors
/// A refused table before anything is done; what the target says; `SchemaMismatch` when a table appeared meanwhile that does not take the source's rows.
pub async fn apply(
    session: &mut Session,
    plan: &SchemaPlan,
    mut created: impl FnMut(&TableName) + Send,
) -> Result<Applied> {
    if let Some(problem) = plan.refusals().next() {
        return Err(Error::from(problem.clone()));
    }
    let mut applied = Applied::default();
    for statement in &plan.databases {
        session.execute(&statement.sql).await?;
        applied.databases += 1;
    }
    for table in plan.tables.iter().filter(|table| table.action == Action::Create) {
        for statement in &table.statements {
            match session.execute(statement).await {
                Ok(_) => applied.tables += 1,
                Err(error) if error.code == Some(TABLE_EXISTS) => {
                    matches(session, plan.dialect, table).await?
                }
                Err(error) => return Err(error.object(&table.target)),
            }
        }
        created(&table.target);
    }
    Ok(applied)
}

/// [`introspect`], [`plan`] and [`apply`] in one: what the schema phase of a worker does. The plans of the tables carry what rows are written with.
///
/// # Errors
/// The first refusal; what the target says.
pub async fn create(
    session: &mut Session,
    dialect: Dialect,
    wanted: &[Wanted],
    policy: ExistingTables,
    created: impl FnMut(&TableName) + Send,
) -> Result<SchemaPlan> {
    let names: Vec<TableName> = wanted.iter().map(|wanted| wanted.target.clone()).collect();
    let state = introspect(session, dialect, &names).await?;
    let plan = plan(dialect, wanted, &state, policy);
    apply(session, &plan, created).await?;
    Ok(plan)
}

/// A table that appeared since the plan was made: most likely our own CREATE TABLE before a crash.
async fn matches(session: &mut Session, dialect: Dialect, plan: &TablePlan) -> Result<()> {
    let state = introspect(session, dialect, std::slice::from_ref(&plan.target)).await?;
    let problem = match (&plan.table, state.table(&plan.target)) {
        (Some(wanted), Some(existing)) => compare(wanted, existing).into_iter().find(Problem::is_refusal),
        _ => None,
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Error::new(ErrorKind::SchemaMismatch, problem.detail)
            .endpoint(Endpoint::Target)
            .object(problem.object)
            .hint(problem.hint)),
    }
}

#[cfg(test)]
mod tests;

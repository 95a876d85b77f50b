//! `tables.types` and `tables.distribution`: what the dialect makes of each table, by the very plan that the schema phase uses.

use std::collections::BTreeSet;

use super::finding::{Finding, counted};
use super::inventory::{Inventory, SourceTable};
use super::rules;
use crate::adb::dialect::{Collations, Problem, TableOptions, TargetTable};
use crate::error::ErrorKind;
use crate::model::{Dialect, Table, TableName};
use crate::task::selection::Selection;
use crate::task::spec::Spec;

/// Different cures that one item names.
const HINTS: usize = 5;

pub(super) struct Plan<'a> {
    pub source: &'a SourceTable,
    pub table: &'a Table,
    pub target: Result<TargetTable, Vec<Problem>>,
}

/// A plan for every table whose definition is understood. `collations` are the target's, where it was asked.
pub(super) fn plans<'a>(
    inventory: &'a Inventory,
    spec: &Spec,
    dialect: Dialect,
    selection: Option<&Selection>,
    collations: Option<&Collations>,
) -> Vec<Plan<'a>> {
    inventory
        .known()
        .map(|(source, table)| {
            let rule = selection.and_then(|selection| selection.options(&source.name));
            let options = TableOptions {
                bytewise: inventory.bytewise,
                collations: collations.cloned().unwrap_or_default(),
                ..TableOptions::new(spec, rule, &source.name)
            };
            Plan { source, table, target: TargetTable::new(dialect, table, source.target.clone(), &options) }
        })
        .collect()
}

/// `told`: tables with a fault that another item tells.
pub(super) fn types(inventory: &Inventory, plans: &[Plan<'_>], told: &BTreeSet<TableName>) -> Finding {
    let (unread, unknown): (Vec<_>, Vec<_>) = inventory
        .tables
        .iter()
        .filter_map(|table| table.definition.as_ref()?.as_ref().err())
        .partition(|error| error.kind == ErrorKind::Unreachable);
    if !unread.is_empty() {
        return Finding::fail(
            format!("the definition of {} could not be read", counted(unread.len() as u64, "table")),
            "run the precheck again",
        )
        .objects(unread)
        .outage(true);
    }
    if !unknown.is_empty() {
        return Finding::fail(
            format!("the definition of {} is not understood", counted(unknown.len() as u64, "table")),
            "exclude them, or report their SHOW CREATE TABLE",
        )
        .objects(unknown);
    }
    let fresh = |plan: &&Plan<'_>| !told.contains(&plan.source.name);
    let refused: Vec<&Problem> = plans
        .iter()
        .filter(fresh)
        .filter_map(|plan| plan.target.as_ref().err())
        .flatten()
        .filter(|problem| problem.is_refusal() && !rules::is_of_filter(problem))
        .collect();
    if !refused.is_empty() {
        return Finding::fail(
            format!(
                "{} in the definitions that the target cannot take",
                counted(refused.len() as u64, "thing")
            ),
            hints(&refused),
        )
        .objects(refused);
    }
    let notes: Vec<&Problem> =
        plans.iter().filter_map(|plan| plan.target.as_ref().ok()).flat_map(|table| &table.warnings).collect();
    let count = counted(plans.len() as u64, "table");
    if notes.is_empty() {
        return Finding::pass(format!("{count} can be on the target as on the source"));
    }
    let differences = counted(notes.len() as u64, "difference");
    Finding::note(format!("{count} can be on the target, with {differences} from the source"), hints(&notes))
        .objects(notes)
}

/// The different cures, in the order in which they come.
fn hints(problems: &[&Problem]) -> String {
    let mut hints: Vec<&str> = Vec::new();
    for problem in problems {
        if !hints.contains(&problem.hint.as_str()) && hints.len() < HINTS {
            hints.push(&problem.hint);
        }
    }
    hints.join("; ")
}

/// AnalyticDB: the primary key holds every distribution and partition column (target-adb-and-dts.md 3.1), and the plan adds
/// those that are not in the source's.
pub(super) fn distribution(plans: &[Plan<'_>], dialect: Dialect) -> Finding {
    if dialect != Dialect::Adb {
        return Finding::skipped("only AnalyticDB distributes tables by columns");
    }
    let mut widened = Vec::new();
    for plan in plans {
        let Ok(target) = &plan.target else { continue };
        let own = plan.table.identity().and_then(|key| key.columns()).unwrap_or_default();
        let is_own = |name: &str| own.iter().any(|column| column.to_lowercase() == name.to_lowercase());
        let added: Vec<&str> = target
            .identity_columns()
            .map(|column| column.name.as_str())
            .filter(|name| !is_own(name))
            .collect();
        if !added.is_empty() && !own.is_empty() {
            widened.push(format!("{}: {}", plan.source.name, added.join(", ")));
        }
    }
    if widened.is_empty() {
        return Finding::pass("every primary key holds its table's distribution and partition columns");
    }
    Finding::note(
        format!(
            "the primary key of {} gets columns on the target that it does not have on the source",
            counted(widened.len() as u64, "table")
        ),
        "nothing to do: an update of such a column becomes a delete and an insert",
    )
    .objects(widened)
}

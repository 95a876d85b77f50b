//! `tables.mapping`, `tables.filter`, `tables.primary_key`, `tables.merge`: do the rules of single tables fit the tables?

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, counted};
use super::plans::Plan;
use crate::adb::dialect::{Problem, TargetTable};
use crate::model::{KeyKind, Table, TableName};
use crate::task::selection::Selection;
use crate::task::spec::{Operations, Spec};

/// What a filter's problems begin with.
const FILTER: &str = "filter: ";

pub(super) fn is_of_filter(problem: &Problem) -> bool {
    problem.detail.starts_with(FILTER)
}

/// Columns renamed and left out.
pub(super) fn mapping(plans: &[Plan<'_>], selection: Option<&Selection>) -> Finding {
    let (mut unknown, mut mapped) = (Vec::new(), Vec::new());
    for plan in plans {
        let rule = selection.and_then(|selection| selection.options(&plan.source.name));
        let Some(columns) = rule.and_then(|rule| rule.columns.as_ref()) else { continue };
        for name in columns.exclude.iter().chain(columns.rename.keys()) {
            if plan.table.column(name).is_none() {
                unknown.push(format!("{}.{name}", plan.source.name));
            }
        }
        mapped.extend(columns.exclude.iter().map(|name| format!("{}.{name}: left out", plan.source.name)));
        mapped.extend(
            columns
                .rename
                .iter()
                .map(|(from, to)| format!("{}.{from}: {to} on the target", plan.source.name)),
        );
    }
    if !unknown.is_empty() {
        return Finding::warn(
            format!(
                "{} named in objects.tables.<table>.columns that the source does not have",
                counted(unknown.len() as u64, "column")
            ),
            "correct the names; waive this item when the columns will come later",
        )
        .objects(unknown);
    }
    if mapped.is_empty() {
        return Finding::pass("every column keeps its name");
    }
    Finding::pass(format!("{} renamed or left out", counted(mapped.len() as u64, "column"))).objects(mapped)
}

pub(super) fn filters(plans: &[Plan<'_>]) -> Finding {
    let refused: Vec<&Problem> = plans
        .iter()
        .filter_map(|plan| plan.target.as_ref().err())
        .flatten()
        .filter(|problem| is_of_filter(problem))
        .collect();
    if !refused.is_empty() {
        let mut hints: Vec<&str> = Vec::new();
        for problem in &refused {
            if !hints.contains(&problem.hint.as_str()) {
                hints.push(&problem.hint);
            }
        }
        return Finding::fail(
            format!("{} that no filter can make", counted(refused.len() as u64, "comparison")),
            hints.join("; "),
        )
        .objects(refused);
    }
    let planned = || plans.iter().filter_map(|plan| Some((&plan.source.name, plan.target.as_ref().ok()?)));
    let filtered: Vec<&TableName> =
        planned().filter(|(_, table)| table.filter.is_some()).map(|(name, _)| name).collect();
    let partial = planned().filter(|(_, table)| table.operations != Operations::default()).count();
    let detail = format!(
        "{} of which the target gets a part of the rows, {} of which it does not get every kind of change",
        counted(filtered.len() as u64, "table"),
        counted(partial as u64, "table")
    );
    Finding::pass(detail).objects(filtered)
}

/// Keys that the spec gives: whether they tell rows apart is not always to be seen.
pub(super) fn primary_keys(plans: &[Plan<'_>], selection: Option<&Selection>) -> Finding {
    let (mut unsure, mut count) = (Vec::new(), 0);
    for plan in plans {
        let rule = selection.and_then(|selection| selection.options(&plan.source.name));
        let (Some(_), Ok(target)) = (rule.and_then(|rule| rule.primary_key.as_ref()), &plan.target) else {
            continue;
        };
        count += 1;
        if !is_unique(plan.table, target) {
            unsure.push(&plan.source.name);
        }
    }
    if unsure.is_empty() {
        return Finding::pass(match count {
            0 => "every table is identified by its own key".to_owned(),
            count => format!("the keys given to {} are unique on the source", counted(count, "table")),
        });
    }
    Finding::warn(
        format!(
            "{} with a primary_key that nothing makes unique on the source: rows that share it become one on the target",
            counted(unsure.len() as u64, "table")
        ),
        "make sure that no two rows share these columns, add a unique key on the source, or name other columns; then waive this item",
    )
    .objects(unsure)
}

/// Whether a unique key of the source lies within the identity on the target.
fn is_unique(source: &Table, target: &TargetTable) -> bool {
    let identity: BTreeSet<String> = target
        .identity_columns()
        .filter_map(|column| source.columns.get(column.source_index))
        .map(|column| column.name.to_lowercase())
        .collect();
    source.keys.iter().filter(|key| matches!(key.kind, KeyKind::Primary | KeyKind::Unique)).any(|key| {
        key.columns().is_some_and(|columns| {
            columns.iter().all(|name| {
                identity.contains(&name.to_lowercase())
                    && source
                        .column(name)
                        .is_some_and(|column| !column.nullable || key.kind == KeyKind::Primary)
            })
        })
    })
}

/// Tables that go into one.
pub(super) fn merge(plans: &[Plan<'_>], spec: &Spec) -> Finding {
    if spec.merge.is_none() {
        return Finding::pass("no tables are merged");
    }
    let mut places: BTreeMap<TableName, Vec<&TargetTable>> = BTreeMap::new();
    for target in plans.iter().filter_map(|plan| plan.target.as_ref().ok()) {
        places.entry(target.name.key()).or_default().push(target);
    }
    let mut misfits = Vec::new();
    for tables in places.values() {
        let Some((first, others)) = tables.split_first() else { continue };
        for other in others {
            if let Some(misfit) = first.misfit(other) {
                misfits.push(format!("{} into {}: {misfit}", other.source, first.name));
            }
        }
    }
    if misfits.is_empty() {
        let count = plans.len() as u64;
        return Finding::note(
            format!(
                "{} go into {} on the target",
                counted(count, "table"),
                counted(places.len() as u64, "table")
            ),
            "DDL is off for tables that are merged: only CREATE TABLE is followed",
        );
    }
    Finding::fail(
        format!("{} that cannot share a table on the target", counted(misfits.len() as u64, "table")),
        "make them alike, by columns.exclude and columns.rename for example, or exclude them",
    )
    .objects(misfits)
}

//! ALTER TABLE clauses on partitions, carried out on a table's [`Partitioning`].

use crate::model::Partitioning;

use super::apply::ApplyError;
use super::ast::{AlterClause, PartitionDefinitions};
use super::create::same_name;

/// Names of the partitions in order; None when they are not listed (KEY, interval partitioning).
pub(super) fn names(partitioning: &Partitioning) -> Option<Vec<String>> {
    match partitioning {
        Partitioning::Range { partitions, .. } => {
            Some(partitions.iter().map(|(name, _)| name.clone()).collect())
        }
        Partitioning::List { partitions, .. } => {
            Some(partitions.iter().map(|(name, _)| name.clone()).collect())
        }
        Partitioning::Hash { count, names, .. } if names.is_empty() => {
            Some((0..*count).map(|at| format!("p{at}")).collect())
        }
        Partitioning::Hash { names, .. } => Some(names.clone()),
        Partitioning::Key { .. } | Partitioning::Other { .. } => None,
    }
}

/// Carries out a clause on partitions; any other clause changes nothing.
pub(super) fn alter(partitioning: &mut Option<Partitioning>, clause: &AlterClause) -> Result<(), ApplyError> {
    let Some(partitioning) = partitioning else {
        return Err(ApplyError::contradiction("the table is not partitioned".to_owned()));
    };
    // What is not listed stays so; whose rows go is asked of the condition, which says that nobody knows.
    if matches!(partitioning, Partitioning::Other { .. }) {
        return Ok(());
    }
    match clause {
        AlterClause::AddPartitions { partitioning: definitions } => add(partitioning, definitions),
        AlterClause::FirstPartition { bound } => {
            match in_front_of(partitioning, bound) {
                Some(names) if names.is_empty() => {}
                Some(names) => drop(partitioning, &names, true)?,
                None => {
                    let text = format!("FIRST PARTITION LESS THAN ({})", bound.join(", "));
                    *partitioning = Partitioning::Other { text };
                }
            }
            Ok(())
        }
        AlterClause::DropPartitions { names, if_exists } => drop(partitioning, names, *if_exists),
        // Layout stays.
        AlterClause::TruncatePartitions { names: None } => Ok(()),
        AlterClause::TruncatePartitions { names: Some(wanted) } => {
            match self::names(partitioning) {
                Some(known) => find(&known, wanted).map(|_| ()),
                // Names of KEY partitions are not kept.
                None => Ok(()),
            }
        }
        AlterClause::ReorganizePartitions { names, partitioning: definitions } => {
            reorganize(partitioning, names, definitions)
        }
        AlterClause::ChangePartitionCount { by } => change_count(partitioning, *by),
        _ => Ok(()),
    }
}

/// Names of the RANGE partitions in front of the one with this bound; None when no listed partition has it.
pub(super) fn in_front_of(partitioning: &Partitioning, bound: &[String]) -> Option<Vec<String>> {
    let Partitioning::Range { partitions, .. } = partitioning else { return None };
    let at = partitions.iter().position(|(_, upper)| upper == bound)?;
    Some(partitions.iter().take(at).map(|(name, _)| name.clone()).collect())
}

/// Where the wanted names stand among the known ones, in rising order.
fn find(known: &[String], wanted: &[String]) -> Result<Vec<usize>, ApplyError> {
    let mut places = Vec::with_capacity(wanted.len());
    for name in wanted {
        let place = known.iter().position(|other| same_name(other, name));
        places.push(place.ok_or_else(|| ApplyError::missing("partition", name))?);
    }
    places.sort_unstable();
    Ok(places)
}

fn unlike(partitioning: &Partitioning) -> ApplyError {
    let kind = match partitioning {
        Partitioning::Range { .. } => "RANGE",
        Partitioning::List { .. } => "LIST",
        Partitioning::Hash { .. } => "HASH",
        Partitioning::Key { .. } => "KEY",
        Partitioning::Other { .. } => "INTERVAL",
    };
    ApplyError::contradiction(format!("the table is partitioned by {kind}, which has no such operation"))
}

fn refuse_known(known: &[String], new: &[String]) -> Result<(), ApplyError> {
    match new.iter().find(|name| known.iter().any(|other| same_name(other, name))) {
        Some(name) => Err(ApplyError::there("partition", name)),
        None => Ok(()),
    }
}

fn first_names<T>(definitions: &[(String, T)]) -> Vec<String> {
    definitions.iter().map(|(name, _)| name.clone()).collect()
}

fn add(partitioning: &mut Partitioning, definitions: &PartitionDefinitions) -> Result<(), ApplyError> {
    let known = names(partitioning).unwrap_or_default();
    match (partitioning, definitions) {
        (Partitioning::Range { partitions, .. }, PartitionDefinitions::Range(new)) => {
            refuse_known(&known, &first_names(new))?;
            partitions.extend(new.iter().cloned());
            Ok(())
        }
        (Partitioning::List { partitions, .. }, PartitionDefinitions::List(new)) => {
            refuse_known(&known, &first_names(new))?;
            partitions.extend(new.iter().cloned());
            Ok(())
        }
        (Partitioning::Hash { names, count, .. }, PartitionDefinitions::Named(new)) => {
            refuse_known(&known, new)?;
            *names = known.into_iter().chain(new.iter().cloned()).collect();
            *count = u32::try_from(names.len()).unwrap_or(u32::MAX);
            Ok(())
        }
        (Partitioning::Key { count, .. }, PartitionDefinitions::Named(new)) => {
            *count = count.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
            Ok(())
        }
        (partitioning, _) => Err(unlike(partitioning)),
    }
}

fn drop(partitioning: &mut Partitioning, wanted: &[String], if_exists: bool) -> Result<(), ApplyError> {
    let known = names(partitioning).unwrap_or_default();
    let keep = |name: &str| !wanted.iter().any(|other| same_name(other, name));
    if !if_exists && matches!(partitioning, Partitioning::Range { .. } | Partitioning::List { .. }) {
        find(&known, wanted)?;
    }
    match partitioning {
        Partitioning::Range { partitions, .. } => partitions.retain(|(name, _)| keep(name)),
        Partitioning::List { partitions, .. } => partitions.retain(|(name, _)| keep(name)),
        other => return Err(unlike(other)),
    }
    Ok(())
}

fn reorganize(
    partitioning: &mut Partitioning,
    wanted: &[String],
    definitions: &PartitionDefinitions,
) -> Result<(), ApplyError> {
    let known = names(partitioning).unwrap_or_default();
    match (partitioning, definitions) {
        (Partitioning::Range { partitions, .. }, PartitionDefinitions::Range(new)) => {
            replace(partitions, &known, wanted, new)
        }
        (Partitioning::List { partitions, .. }, PartitionDefinitions::List(new)) => {
            replace(partitions, &known, wanted, new)
        }
        (partitioning, _) => Err(unlike(partitioning)),
    }
}

/// The new partitions stand where the first of the old ones stood.
fn replace<T: Clone>(
    partitions: &mut Vec<(String, T)>,
    known: &[String],
    wanted: &[String],
    new: &[(String, T)],
) -> Result<(), ApplyError> {
    let places = find(known, wanted)?;
    let others: Vec<String> =
        known.iter().filter(|name| !wanted.iter().any(|old| same_name(old, name))).cloned().collect();
    refuse_known(&others, &first_names(new))?;
    let first = places.first().copied().unwrap_or(partitions.len());
    partitions.retain(|(name, _)| !wanted.iter().any(|old| same_name(old, name)));
    partitions.splice(first..first, new.iter().cloned());
    Ok(())
}

fn change_count(partitioning: &mut Partitioning, by: i64) -> Result<(), ApplyError> {
    let (Partitioning::Hash { count, .. } | Partitioning::Key { count, .. }) = partitioning else {
        return Err(unlike(partitioning));
    };
    let new = i64::from(*count)
        .checked_add(by)
        .and_then(|new| u32::try_from(new).ok())
        .filter(|new| *new > 0)
        .ok_or_else(|| ApplyError::contradiction(format!("{count} partitions cannot change by {by}")))?;
    let old = std::mem::replace(count, new);
    if let Partitioning::Hash { names, .. } = partitioning
        && !names.is_empty()
    {
        // Added partitions are named by their number, removed ones go from the end.
        names.extend((old..new).map(|at| format!("p{at}")));
        names.truncate(usize::try_from(new).unwrap_or(usize::MAX));
    }
    Ok(())
}

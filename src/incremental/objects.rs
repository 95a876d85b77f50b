//! From the objects that a catalog answers for to those of the spec: tables that come to a running task, leave it, or get other
//! rules.
//!
//! Whatever has to be copied is copied by a resync, beside the stream and by its own T; so all that happens here is that
//! entries of the catalog get another standing. A table that leaves keeps its entry, which goes on following the source's DDL.

use super::catalog::{Catalog, Change, SchemaChange, TableEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, TableName, Tso};
use crate::task::selection::Selection;
use crate::task::spec::{Objects, Spec};
use crate::task::standing::Standing;
use crate::task::turn::{Turn, turn};
use crate::tidb::Source;

/// What changes in `catalog`, which has the new objects already, where it answered for `taken` before. Tables that it does not
/// know are asked of the source as of `at`, the place of the stream in time.
pub async fn change(
    source: Option<&MysqlEndpoint>,
    catalog: &Catalog,
    taken: &Objects,
    at: Tso,
) -> Result<Change> {
    let spec = catalog.spec();
    let old = Selection::new(&Spec { objects: taken.clone(), ..spec.clone() })
        .map_err(|faults| Error::internal(format!("the objects of before do not compile: {faults:?}")))?;
    let mut change = known(catalog, &old);
    let wider = taken.include != spec.objects.include || taken.exclude != spec.objects.exclude;
    if let Some(endpoint) = source.filter(|_| wider) {
        let found = unknown(&Source::new(endpoint.clone()), catalog, &old, at).await?;
        change.schemas.extend(found.schemas);
        change.entries.extend(found.entries);
    }
    Ok(change)
}

/// The tables that the catalog knows.
fn known(catalog: &Catalog, old: &Selection) -> Change {
    let new = catalog.selection();
    let mut change = Change::default();
    for entry in catalog.live().filter(|entry| !entry.ignored) {
        let name = &entry.table.name;
        let mut entry = entry.clone();
        match turn(old, new, name) {
            None => continue,
            Some(Turn::Goes) => {
                // Without a copy nothing of it is there.
                let place = (!entry.new_place).then(|| old.target(name));
                entry.standing = Standing::Removed { place };
            }
            Some(Turn::Comes) => {
                let place = new.target(name);
                entry.new_place =
                    !matches!(&entry.standing, Standing::Removed { place: Some(of) } if *of == place);
                entry.standing = Standing::resync("added to the task");
            }
            Some(Turn::Again { why, moved }) => {
                entry.new_place |= moved;
                // What a person set aside stays so: it is copied when it comes back.
                if !matches!(entry.standing, Standing::Paused | Standing::Skipped) {
                    entry.standing = Standing::resync(why);
                }
            }
        }
        change.entries.extend(Change::of(entry).entries);
    }
    change
}

/// The tables that it has never seen, for they were not selected when it was made.
async fn unknown(source: &Source, catalog: &Catalog, old: &Selection, at: Tso) -> Result<Change> {
    let new = catalog.selection();
    let comes = |name: &TableName| turn(old, new, name) == Some(Turn::Comes) && catalog.entry(name).is_none();
    let at = if at == Tso(0) { source.current_tso().await? } else { at };
    let found = match source.catalog_at(at, comes).await {
        // The stream is further behind than the source remembers: what a DDL of the time between did is done already then.
        Err(error) if error.kind == ErrorKind::SnapshotLost => {
            source.catalog_at(source.current_tso().await?, comes).await?
        }
        found => found?,
    };
    let tables = found.tables.clone();
    let mut change = Change { entries: Vec::new(), ..Change::from_source(found, new) };
    change.schemas.retain(|schema| match schema {
        SchemaChange::Set(defaults) => catalog.schema(&defaults.name).is_none(),
        SchemaChange::Drop(_) => false,
    });
    for table in tables {
        let standing = Standing::resync("added to the task");
        let entry = TableEntry { standing, new_place: true, ..TableEntry::new(table) };
        change.entries.extend(Change::of(entry).entries);
    }
    Ok(change)
}

/// What a change of objects does, for the task's events.
pub fn words(change: &Change) -> serde_json::Value {
    let mut copied = Vec::new();
    let mut removed = Vec::new();
    for entry in change.tables() {
        match &entry.standing {
            Standing::Resync { .. } => copied.push(entry.table.name.to_string()),
            Standing::Removed { .. } => removed.push(entry.table.name.to_string()),
            _ => {}
        }
    }
    serde_json::json!({"copied": copied, "removed": removed})
}

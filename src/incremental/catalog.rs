//! What the task knows of the source's tables at its place in the stream.
//!
//! The catalog grows from the snapshot's definitions and the stream's own DDL. It answers one question for every row event:
//! which table is this, and does it belong to the task? "Unknown" is never taken for "not selected".

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adb::dialect::{Collations, Problem, TableOptions, TargetTable};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Dialect, Table, TableName, Tso};
use crate::schema_sync::Wanted;
use crate::store::{CatalogSchema, CatalogVersion};
use crate::task::selection::Selection;
use crate::task::spec::{DdlPolicies, DdlPolicy, OnlineDdlMode, Spec, TableDdl, TablesWithoutKey};
use crate::task::standing::Standing;
use crate::tidb::SourceCatalog;

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    Table(Box<TableEntry>),
    /// The table was renamed to `of`. Rows may still come under this name: late ones, and after a multi-table rename all of
    /// them (source-drainer.md 0.12).
    Alias {
        of: TableName,
    },
    Dropped,
}

impl Entry {
    pub fn stored(version: &CatalogVersion) -> Result<Self> {
        serde_json::from_str(&version.definition).map_err(|error| {
            Error::internal(format!("the stored definition of {} does not read: {error}", version.key))
        })
    }

    /// A table whose rows up to its own T', beyond this point of the stream, are in a copy of it.
    pub fn is_copied_beyond(&self, commit_ts: Tso) -> bool {
        match self {
            Self::Table(entry) => {
                entry.snapshot > commit_ts || matches!(entry.standing, Standing::Swapping { .. })
            }
            Self::Alias { .. } | Self::Dropped => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    pub table: Table,
    /// Columns of the source that the target does not get, by DDL policy.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// The target has columns that the source has not (any more): upserts must not wipe them.
    #[serde(default)]
    pub keep_other_columns: bool,
    /// Passed over by DDL policy: the target does not get this table.
    #[serde(default)]
    pub ignored: bool,
    /// The task itself made the table on the target: a reset may empty or drop it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
    #[serde(default, skip_serializing_if = "Standing::is_following")]
    pub standing: Standing,
    /// Rows up to here are in the table's copy: its own T' after a resync, else 0.
    #[serde(default)]
    pub snapshot: Tso,
    /// The name under which Drainer sends its rows after a RENAME of several tables (source-drainer.md 0.12, 10.4); None = its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_as: Option<TableName>,
    /// The target has no copy of ours where it goes: what is there is somebody else's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_place: bool,
}

impl TableEntry {
    /// The table without its hidden columns.
    pub fn visible(&self) -> Table {
        let mut table = self.table.clone();
        table
            .columns
            .retain(|column| !self.hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(&column.name)));
        table
    }

    pub fn new(table: Table) -> Self {
        Self {
            table,
            hidden: Vec::new(),
            keep_other_columns: false,
            ignored: false,
            made: false,
            sent_as: None,
            standing: Standing::Following,
            snapshot: Tso(0),
            new_place: false,
        }
    }

    /// The name under which its rows come.
    pub fn sent_name(&self) -> &TableName {
        self.sent_as.as_ref().unwrap_or(&self.table.name)
    }

    /// True when its rows and its DDL go to the target.
    pub fn is_followed(&self) -> bool {
        !self.ignored && self.standing.is_following()
    }
}

/// Default character set and collation of a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaDefaults {
    pub name: String,
    pub charset: Option<String>,
    pub collation: Option<String>,
}

/// A table of the task, ready to write to.
#[derive(Debug)]
pub struct Tracked {
    /// Without the columns that the target does not get by policy.
    pub table: Table,
    pub target: TargetTable,
    /// Columns that the target does not get, in lower case.
    pub hidden: Vec<String>,
    pub keep_other_columns: bool,
    /// Rows up to here are in the target.
    pub snapshot: Tso,
}

/// What a name in a row event means.
#[derive(Debug, Clone)]
pub enum Resolved {
    Table(Arc<Tracked>),
    /// Known and not part of the task.
    Unselected,
    /// Part of the task, and not followed now.
    Aside(TableName),
    /// A late row of a table that is gone.
    Dropped,
    Unknown,
}

/// Renames of one table that are followed from an old name.
const MOST_RENAMES: usize = 64;

/// Entries by folded name.
#[derive(Debug, Clone)]
pub struct Catalog {
    spec: Arc<Spec>,
    selection: Arc<Selection>,
    dialect: Dialect,
    /// Of the target.
    collations: Collations,
    /// The source compares text by its bytes.
    bytewise: bool,
    schemas: HashMap<String, SchemaDefaults>,
    entries: HashMap<TableName, Entry>,
    tracked: HashMap<TableName, Arc<Tracked>>,
    /// The name under which a table's rows come, and its own, where they differ.
    stale: Vec<(TableName, TableName)>,
    /// Rows of this table alone are taken, and go here.
    only: Option<(TableName, TargetTable)>,
}

/// A change of the catalog that one DDL makes.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub schemas: Vec<SchemaChange>,
    pub entries: Vec<(TableName, Entry)>,
}

#[derive(Debug, Clone)]
pub enum SchemaChange {
    Set(SchemaDefaults),
    Drop(String),
}

impl Catalog {
    pub fn new(spec: Arc<Spec>, selection: Arc<Selection>, dialect: Dialect, collations: Collations) -> Self {
        Self {
            spec,
            selection,
            dialect,
            collations,
            bytewise: false,
            schemas: HashMap::new(),
            entries: HashMap::new(),
            tracked: HashMap::new(),
            stale: Vec::new(),
            only: None,
        }
    }

    /// A catalog for one table that goes somewhere else, under all the names that it has here.
    pub fn only(&self, entry: &TableEntry, target: TargetTable) -> Self {
        let mut catalog = self.clone();
        let key = entry.table.name.key();
        catalog.tracked.clear();
        catalog.entries.insert(key.clone(), Entry::Table(Box::new(entry.clone())));
        catalog.index();
        catalog.only = Some((key, target));
        catalog
    }

    /// Whether the source compares text by its bytes, whatever its collations say.
    pub fn bytewise(self, bytewise: bool) -> Self {
        Self { bytewise, ..self }
    }

    /// The same catalog where every DDL is applied, or passed over, whatever the task's policies say.
    pub fn with_policy(&self, policy: DdlPolicy) -> Self {
        let mut spec = (*self.spec).clone();
        spec.ddl = DdlPolicies::all(policy);
        spec.online_ddl.mode = OnlineDdlMode::Follow;
        for rule in spec.objects.tables.values_mut() {
            rule.ddl = TableDdl::default();
        }
        let mut catalog = self.clone();
        if let Ok(selection) = Selection::new(&spec) {
            catalog.selection = Arc::new(selection);
        }
        catalog.spec = Arc::new(spec);
        catalog
    }

    /// Fills the catalog from the store.
    pub fn load(&mut self, schemas: Vec<CatalogSchema>, versions: Vec<CatalogVersion>) -> Result<()> {
        for schema in schemas {
            let defaults =
                SchemaDefaults { name: schema.name, charset: schema.charset, collation: schema.collation };
            self.schemas.insert(defaults.name.to_lowercase(), defaults);
        }
        for version in versions {
            let entry = Entry::stored(&version)?;
            self.entries.insert(version.key, entry);
        }
        self.index();
        Ok(())
    }

    /// Works by another spec from now on; entries stay what they are.
    pub fn set_rules(&mut self, spec: Arc<Spec>, selection: Arc<Selection>) {
        self.spec = spec;
        self.selection = selection;
        self.tracked.clear();
    }

    fn index(&mut self) {
        let stale = self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Table(entry) => Some((entry.sent_as.as_ref()?.key(), key.clone())),
            _ => None,
        });
        self.stale = stale.collect();
        self.stale.sort_unstable();
    }

    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn schema(&self, name: &str) -> Option<&SchemaDefaults> {
        self.schemas.get(&name.to_lowercase())
    }

    pub fn entry(&self, name: &TableName) -> Option<&Entry> {
        self.entries.get(&name.key())
    }

    /// The live table of this name, aliases not followed.
    pub fn table(&self, name: &TableName) -> Option<&TableEntry> {
        match self.entry(name) {
            Some(Entry::Table(entry)) => Some(entry),
            _ => None,
        }
    }

    /// Live tables whose name (without schema) is this one.
    pub fn tables_named<'a>(&'a self, table: &str) -> impl Iterator<Item = &'a TableName> + use<'a> {
        let table = table.to_lowercase();
        self.entries.iter().filter_map(move |(key, entry)| match entry {
            Entry::Table(entry) if key.table == table => Some(&entry.table.name),
            _ => None,
        })
    }

    /// Live tables whose rows come under this name. Nobody writes to a table that an online DDL has put away.
    pub fn senders(&self, name: &TableName) -> Vec<&TableEntry> {
        let key = name.key();
        let own = self.table(&key).filter(|entry| entry.sent_as.is_none());
        let stale = self.stale.iter().filter(|(sent, _)| *sent == key);
        let stale = stale.filter_map(|(_, own)| self.table(own));
        let mut senders: Vec<&TableEntry> = own.into_iter().chain(stale).collect();
        if senders.len() > 1 {
            senders.retain(|entry| self.selection.shadow_of(&entry.table.name).is_none());
        }
        senders
    }

    /// Whether rows of another table come under the name under which this one's come.
    pub fn is_unclear(&self, entry: &TableEntry) -> bool {
        if self.stale.is_empty() {
            return false;
        }
        let senders = self.senders(entry.sent_name());
        senders.len() > 1 && senders.iter().any(|other| other.table.name.key() == entry.table.name.key())
    }

    /// Tables that are unclear, together with those that they are taken for.
    pub fn unclear(&self) -> Vec<Vec<&TableEntry>> {
        let mut names: Vec<&TableName> = self.stale.iter().map(|(sent, _)| sent).collect();
        names.dedup();
        names.into_iter().map(|name| self.senders(name)).filter(|senders| senders.len() > 1).collect()
    }

    /// Live tables of a schema.
    pub fn tables_of<'a>(&'a self, schema: &str) -> impl Iterator<Item = &'a TableEntry> + use<'a> {
        let schema = schema.to_lowercase();
        self.entries.iter().filter_map(move |(key, entry)| match entry {
            Entry::Table(entry) if key.schema == schema => Some(&**entry),
            _ => None,
        })
    }

    /// True when another known schema goes into the same target schema.
    pub fn any_other_schema_targets(&self, schema: &str, target: &str) -> bool {
        let schema = schema.to_lowercase();
        self.schemas.keys().any(|other| *other != schema && self.selection.target_schema(other) == target)
            || self.entries.iter().any(|(key, entry)| {
                matches!(entry, Entry::Table(_))
                    && key.schema != schema
                    && self.selection.selects(key)
                    && self.selection.target(key).schema == target
            })
    }

    /// The schema's defaults and the task's options for a table.
    pub fn options(&self, name: &TableName) -> TableOptions {
        let defaults = self.schema(&name.schema);
        TableOptions {
            schema_charset: defaults.and_then(|schema| schema.charset.clone()),
            schema_collation: defaults.and_then(|schema| schema.collation.clone()),
            collations: self.collations.clone(),
            bytewise: self.bytewise,
            ..TableOptions::new(&self.spec, self.selection.options(name), name)
        }
    }

    /// The DDL policies of a table.
    pub fn ddl_policies(&self, name: &TableName) -> DdlPolicies {
        let own = self.selection.options(name).map(|options| options.ddl).unwrap_or_default();
        let policies = self.spec.ddl.overridden(&own);
        if self.spec.merge.is_some() { policies.merged() } else { policies }
    }

    /// The target's table for a source table.
    ///
    /// # Errors
    /// `SchemaMismatch` with the first reason for which the target cannot hold it.
    pub fn target(&self, entry: &TableEntry) -> Result<TargetTable> {
        let table = entry.visible();
        let name = self.selection.target(&table.name);
        TargetTable::new(self.dialect, &table, name, &self.options(&table.name)).map_err(|problems| {
            match problems.into_iter().find(Problem::is_refusal) {
                Some(problem) => Error::from(problem),
                None => Error::new(ErrorKind::SchemaMismatch, "the target cannot hold this table")
                    .object(&table.name),
            }
        })
    }

    /// Another table of the task that goes where this one goes.
    pub fn sharing(&self, name: &TableName) -> Option<&TableEntry> {
        let place = self.selection.target(name).key();
        self.ours().find(|entry| {
            entry.table.name.key() != name.key() && self.selection.target(&entry.table.name).key() == place
        })
    }

    /// True when a table of the task lies here on the target.
    pub fn holds(&self, target: &TableName) -> bool {
        self.ours().any(|entry| self.selection.target(&entry.table.name).key() == target.key())
    }

    /// True when a table of the task lies in this schema of the target. One that stands aside may never have come there.
    pub fn has_table_in(&self, target_schema: &str) -> bool {
        let mut there =
            self.ours().filter(|entry| entry.is_followed() || (entry.made && !entry.standing.is_resync()));
        there.any(|entry| self.selection.target(&entry.table.name).schema == target_schema)
    }

    /// The change that gives a live table another standing; None when there is no such table.
    pub fn stand(&self, name: &TableName, standing: Standing) -> Option<Change> {
        let entry = self.table(name)?;
        let entry = TableEntry { standing, ..entry.clone() };
        Some(Change::of(entry))
    }

    /// The name under which Drainer sends the rows of a live table, where that is not its own: nobody but the stream tells it.
    pub fn sent_as(&self, name: &TableName) -> Option<TableName> {
        self.table(name)?.sent_as.clone()
    }

    /// The name that leads to this one, which is no table of ours: its rows come under it.
    pub fn alias_of(&self, name: &TableName) -> Option<&TableName> {
        let key = name.key();
        self.entries.iter().find_map(|(alias, entry)| match entry {
            Entry::Alias { of } if of.key() == key => Some(alias),
            _ => None,
        })
    }

    /// Tables of the task that do not simply follow, by name.
    pub fn aside(&self) -> Vec<&TableEntry> {
        // Asked several times a second: the patterns of the selection are for the few that stand aside.
        let stands = |entry: &&TableEntry| !entry.standing.is_following() && self.is_ours(entry);
        let mut aside: Vec<_> = self.tables().filter(stands).collect();
        aside.sort_by(|one, other| one.table.name.cmp(&other.table.name));
        aside
    }

    /// Another table of the task that goes into the same table of the target.
    pub fn shares_target(&self, name: &TableName) -> Option<&TableName> {
        let (key, target) = (name.key(), self.selection.target(name));
        self.ours()
            .map(|entry| &entry.table.name)
            .find(|other| other.key() != key && self.selection.target(other) == target)
    }

    /// Followed tables of the task that the target cannot hold, and why.
    pub fn unfit(&self) -> Vec<(TableName, Error)> {
        let followed = self.ours().filter(|entry| entry.is_followed());
        followed.filter_map(|entry| Some((entry.table.name.clone(), self.target(entry).err()?))).collect()
    }

    /// Every followed table of the task as schema sync wants it.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self
            .ours()
            .filter(|entry| entry.is_followed())
            .map(|entry| {
                let table = entry.visible();
                let target = self.selection.target(&table.name);
                Wanted::new(self.dialect, &table, target, &self.options(&table.name))
            })
            .collect();
        wanted.sort_by(|one, other| one.source.cmp(&other.source));
        wanted
    }

    /// All live tables, whether they are the task's or not.
    pub fn live(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Table(entry) => Some(&**entry),
            Entry::Alias { .. } | Entry::Dropped => None,
        })
    }

    fn ours(&self) -> impl Iterator<Item = &TableEntry> {
        self.tables().filter(|entry| self.is_ours(entry))
    }

    fn tables(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Table(entry) => Some(&**entry),
            Entry::Alias { .. } | Entry::Dropped => None,
        })
    }

    fn is_ours(&self, entry: &TableEntry) -> bool {
        !entry.ignored && self.selection.selects(&entry.table.name)
    }

    /// Every followed table of the task with the table that it goes into.
    pub fn selected_targets(&self) -> Result<Vec<(Table, TargetTable)>> {
        let mut tables: Vec<(Table, TargetTable)> = self
            .ours()
            .filter(|entry| entry.is_followed())
            .map(|entry| Ok((entry.visible(), self.target(entry)?)))
            .collect::<Result<_>>()?;
        tables.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(tables)
    }

    /// The folded names under which rows of this live table may come: its own, and aliases that end at it.
    pub fn names_of(&self, table: &TableName) -> HashSet<TableName> {
        let table = table.key();
        let aliases = self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Alias { .. }));
        let names = aliases.filter(|(name, _)| self.followed(name) == table).map(|(name, _)| name.clone());
        let sent = self.table(&table).map(|entry| entry.sent_name().key());
        names.chain(sent).chain([table.clone()]).collect()
    }

    /// The name at the end of a chain of renames.
    pub fn followed(&self, key: &TableName) -> TableName {
        let mut key = key.clone();
        for _ in 0..MOST_RENAMES {
            match self.entries.get(&key) {
                Some(Entry::Alias { of }) => key = of.key(),
                _ => break,
            }
        }
        key
    }

    /// What a row event's name means.
    pub fn resolve(&mut self, name: &TableName) -> Result<Resolved> {
        let mut key = name.key();
        if let Some(tracked) = self.tracked.get(&key) {
            return Ok(Resolved::Table(Arc::clone(tracked)));
        }
        key = match self.senders(&key).as_slice() {
            [] => self.followed(&key),
            [sender] => sender.table.name.key(),
            several => {
                let ours =
                    several.iter().map(|entry| &entry.table.name).find(|name| self.selection.selects(name));
                return Ok(ours.cloned().map_or(Resolved::Unselected, Resolved::Aside));
            }
        };
        if self.only.as_ref().is_some_and(|(only, _)| *only != key) {
            return Ok(Resolved::Unselected);
        }
        match self.entries.get(&key) {
            Some(Entry::Table(entry)) => {
                if entry.ignored || !self.selection.selects(&entry.table.name) {
                    return Ok(Resolved::Unselected);
                }
                if !entry.standing.is_following() {
                    return Ok(Resolved::Aside(entry.table.name.clone()));
                }
                let target = match &self.only {
                    Some((_, target)) => target.clone(),
                    None => self.target(entry)?,
                };
                if target.identity.is_none() && self.spec.tables_without_key == TablesWithoutKey::Refuse {
                    return Err(Error::new(
                        ErrorKind::Configuration,
                        "the table has no key that identifies a row",
                    )
                    .object(&entry.table.name)
                    .hint("give it a primary key, exclude it, or set tables_without_key to match_row"));
                }
                let tracked = Arc::new(Tracked {
                    table: entry.visible(),
                    target,
                    hidden: entry.hidden.iter().map(|name| name.to_lowercase()).collect(),
                    keep_other_columns: entry.keep_other_columns,
                    snapshot: entry.snapshot,
                });
                self.tracked.insert(name.key(), Arc::clone(&tracked));
                Ok(Resolved::Table(tracked))
            }
            Some(Entry::Dropped) => Ok(Resolved::Dropped),
            Some(Entry::Alias { .. }) => Ok(Resolved::Unknown),
            None if !self.selection.selects(&key) => Ok(Resolved::Unselected),
            None => Ok(Resolved::Unknown),
        }
    }

    /// Takes a DDL's change in.
    pub fn apply(&mut self, change: &Change) {
        for schema in &change.schemas {
            match schema {
                SchemaChange::Set(defaults) => {
                    self.schemas.insert(defaults.name.to_lowercase(), defaults.clone());
                }
                SchemaChange::Drop(name) => {
                    self.schemas.remove(&name.to_lowercase());
                }
            }
        }
        for (name, entry) in &change.entries {
            self.entries.insert(name.key(), entry.clone());
        }
        self.index();
        self.tracked.clear();
    }
}

impl Change {
    /// A new version of one table.
    pub fn of(entry: TableEntry) -> Self {
        let name = entry.table.name.clone();
        Self { schemas: Vec::new(), entries: vec![(name, Entry::Table(Box::new(entry)))] }
    }

    /// The tables of which it has a new version.
    pub fn tables(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Table(entry) => Some(&**entry),
            Entry::Alias { .. } | Entry::Dropped => None,
        })
    }

    /// Marks the entries whose table of the target is among these: the task made it.
    pub fn made(&mut self, targets: &HashSet<TableName>, selection: &Selection) {
        for (name, entry) in &mut self.entries {
            if let Entry::Table(entry) = entry
                && selection.selects(name)
            {
                entry.made = targets.contains(&selection.target(name));
            }
        }
    }

    /// Gives an entry that it makes another standing.
    pub fn stand(&mut self, name: &TableName, standing: Standing) {
        for (of, entry) in &mut self.entries {
            if let Entry::Table(entry) = entry
                && of == name
            {
                entry.standing = standing.clone();
            }
        }
    }

    /// Everything that the source shows of a task's schemas and tables.
    pub fn from_source(found: SourceCatalog, selection: &Selection) -> Self {
        let schemas = found
            .schemas
            .into_iter()
            .filter(|schema| selection.could_select_schema(&schema.name))
            .map(|schema| {
                SchemaChange::Set(SchemaDefaults {
                    name: schema.name,
                    charset: Some(schema.charset),
                    collation: Some(schema.collation),
                })
            })
            .collect();
        let entries = found
            .tables
            .into_iter()
            .map(|table| (table.name.clone(), Entry::Table(Box::new(TableEntry::new(table)))))
            .collect();
        Self { schemas, entries }
    }

    /// Tables of online DDLs that are under way, or were given up: as when their CREATE TABLE comes in the stream.
    pub fn leave_shadows_out(&mut self, selection: &Selection) {
        let known: HashSet<TableName> = self.entries.iter().map(|(name, _)| name.key()).collect();
        for (name, entry) in &mut self.entries {
            if let Entry::Table(entry) = entry {
                entry.ignored |= selection.shadow_of(name).is_some_and(|real| known.contains(&real.key()));
            }
        }
    }

    /// The same change as the store keeps it.
    pub fn stored(&self, commit_ts: Tso) -> Result<(Vec<CatalogSchema>, Vec<CatalogVersion>)> {
        let schemas = self
            .schemas
            .iter()
            .map(|change| match change {
                SchemaChange::Set(defaults) => CatalogSchema {
                    name: defaults.name.clone(),
                    charset: defaults.charset.clone(),
                    collation: defaults.collation.clone(),
                    dropped: false,
                },
                SchemaChange::Drop(name) => {
                    CatalogSchema { name: name.clone(), charset: None, collation: None, dropped: true }
                }
            })
            .collect();
        let versions = self
            .entries
            .iter()
            .map(|(name, entry)| {
                Ok(CatalogVersion {
                    key: name.key(),
                    commit_ts,
                    definition: serde_json::to_string(entry).map_err(Error::internal)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok((schemas, versions))
    }
}

//! `tables.*`: does every selected table fit the target, and is there room for it? Judged without I/O but for one look at the
//! target's own tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::existing::{self, Existing};
use super::finding::{CHECK_TIMEOUT, Finding, bytes, counted};
use super::inventory::{Inventory, SourceTable};
use super::plans::{self, Plan};
use super::rules;
use super::server::Server;
use super::{CheckOutcome, PrecheckInput};
use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{Dialect, KeyKind, Table, TableName};
use crate::task::selection::Selection;
use crate::task::spec::{ExistingTables, Spec, TablesWithoutKey};

/// Columns of one table (target-adb-and-dts.md 3.3; InnoDB).
const ADB_COLUMNS: usize = 4096;
const INNODB_COLUMNS: usize = 1017;

/// Characters of a name (target-adb-and-dts.md 3.1; MySQL).
const ADB_NAME: usize = 127;
const MYSQL_NAME: usize = 64;

pub(super) async fn checks(
    input: &PrecheckInput,
    inventory: &std::result::Result<Inventory, Finding>,
    schemas: &BTreeSet<String>,
) -> Vec<(&'static str, Finding)> {
    let inventory = match inventory {
        Ok(inventory) => inventory,
        Err(finding) => {
            let reason = match finding.outcome {
                CheckOutcome::Skipped => finding.detail.clone(),
                _ => "the tables are not known".to_owned(),
            };
            let rest = [
                "tables.key",
                "tables.generated_key",
                "tables.types",
                "tables.mapping",
                "tables.filter",
                "tables.primary_key",
                "tables.merge",
                "tables.names",
                "tables.columns",
                "tables.existing",
                "tables.distribution",
                "tables.foreign_keys",
                "tables.time_to_live",
            ];
            return std::iter::once(("tables.selected", finding.clone()))
                .chain(rest.map(|id| (id, Finding::skipped(reason.clone()))))
                .collect();
        }
    };
    let (spec, dialect) = (&*input.spec, input.dialect);
    let existing = tokio::time::timeout(CHECK_TIMEOUT * 2, look(input, inventory, schemas)).await;
    let existing = existing.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unreachable, "no answer in time").endpoint(Endpoint::Target))
    });
    let selection = Selection::new(spec).ok();
    let selection = selection.as_ref();
    let known = existing.as_ref().ok();
    let plans =
        plans::plans(inventory, spec, dialect, selection, known.and_then(|known| known.collations.as_ref()));
    let key = keys(inventory, spec, dialect, selection);
    let generated_key = generated_keys(inventory, selection);
    let columns = columns(inventory, dialect);
    let told = told(inventory, dialect, selection);
    let types = plans::types(inventory, &plans, &told);
    vec![
        ("tables.selected", selected(inventory)),
        ("tables.key", key),
        ("tables.generated_key", generated_key),
        ("tables.types", types),
        ("tables.mapping", rules::mapping(&plans, selection)),
        ("tables.filter", rules::filters(&plans)),
        ("tables.primary_key", rules::primary_keys(&plans, selection)),
        ("tables.merge", rules::merge(&plans, spec)),
        ("tables.names", names(inventory, spec, dialect, known)),
        ("tables.columns", columns),
        ("tables.existing", existing_tables(inventory, &plans, spec, &input.own, &existing)),
        ("tables.distribution", plans::distribution(&plans, dialect)),
        ("tables.foreign_keys", foreign_keys(inventory)),
        ("tables.time_to_live", time_to_live(inventory)),
    ]
}

/// Tables whose lack of a key or number of columns an item of its own tells.
fn told(inventory: &Inventory, dialect: Dialect, selection: Option<&Selection>) -> BTreeSet<TableName> {
    inventory
        .known()
        .filter(|(source, table)| {
            identity(source, table, selection) != Identity::Key || table.columns.len() > column_limit(dialect)
        })
        .map(|(source, _)| source.name.clone())
        .collect()
}

/// Reads the target's tables, and their columns where they will be written to.
async fn look(input: &PrecheckInput, inventory: &Inventory, schemas: &BTreeSet<String>) -> Result<Existing> {
    let mut server = Server::new(&input.target, Endpoint::Target);
    let mut existing = existing::read(&mut server, input.dialect, schemas).await?;
    let some = inventory.tables.iter().any(|table| existing.get(&table.target).is_some());
    if some && (!refuses_existing(&input.spec) || !input.own.is_empty()) {
        existing::read_columns(&mut server, &mut existing, schemas).await?;
    }
    server.close().await;
    Ok(existing)
}

fn selected(inventory: &Inventory) -> Finding {
    if !inventory.missing.is_empty() {
        return Finding::fail(
            format!(
                "{} of objects.include cannot be found on the source, or this login may not see them",
                counted(inventory.missing.len() as u64, "table")
            ),
            "correct the names, or grant SELECT on these tables to the login of the source",
        )
        .objects(&inventory.missing);
    }
    let schemas: BTreeSet<&str> = inventory.tables.iter().map(|table| table.name.schema.as_str()).collect();
    let mut detail = format!(
        "{} in {}, about {} and {} by the statistics of the source",
        counted(inventory.tables.len() as u64, "table"),
        counted(schemas.len() as u64, "schema"),
        counted(inventory.tables.iter().map(|table| table.rows).sum(), "row"),
        bytes(inventory.tables.iter().map(|table| table.bytes).sum()),
    );
    if inventory.tables.is_empty() {
        return Finding::fail(
            "no table of the source matches objects.include",
            "correct objects.include and objects.exclude, or grant SELECT on the tables to the login of the source",
        );
    }
    if !inventory.others.is_empty() {
        detail
            .push_str(&format!("; {} left out", counted(inventory.others.len() as u64, "view or sequence")));
    }
    Finding::pass(detail)
}

/// How a table's rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Key,
    /// There is a key, with a generated column or an expression in it.
    Generated,
    None,
}

fn identity(source: &SourceTable, table: &Table, selection: Option<&Selection>) -> Identity {
    let options = selection.and_then(|selection| selection.options(&source.name));
    if table.identity().is_some() || options.is_some_and(|options| options.primary_key.is_some()) {
        return Identity::Key;
    }
    let generated = table.keys.iter().any(|key| {
        let hidden = match key.columns() {
            None => true,
            Some(columns) => {
                columns.iter().any(|name| table.column(name).is_some_and(|column| column.generated.is_some()))
            }
        };
        let unique = match key.kind {
            KeyKind::Primary => true,
            KeyKind::Unique => key.columns().is_some_and(|columns| {
                columns.iter().all(|name| table.column(name).is_some_and(|column| !column.nullable))
            }),
            KeyKind::Index | KeyKind::Fulltext => false,
        };
        hidden && unique
    });
    if generated { Identity::Generated } else { Identity::None }
}

fn with_identity<'a>(
    inventory: &'a Inventory,
    selection: Option<&'a Selection>,
    wanted: Identity,
) -> impl Iterator<Item = &'a TableName> {
    inventory
        .known()
        .filter(move |(source, table)| identity(source, table, selection) == wanted)
        .map(|(source, _)| &source.name)
}

fn keys(inventory: &Inventory, spec: &Spec, dialect: Dialect, selection: Option<&Selection>) -> Finding {
    let without: Vec<&TableName> = with_identity(inventory, selection, Identity::None).collect();
    if without.is_empty() {
        return Finding::pass("every table has a primary key, or a unique key without NULL");
    }
    let detail = format!(
        "{} of {} without a primary key or a unique key whose columns are all NOT NULL",
        counted(without.len() as u64, "table"),
        inventory.tables.len()
    );
    let finding = match (spec.tables_without_key, dialect) {
        (TablesWithoutKey::MatchRow, Dialect::Mysql) => Finding::note(
            format!("{detail}: changes find their rows by all columns"),
            "that is slow on large tables; a primary key on the source would help",
        ),
        (TablesWithoutKey::MatchRow, Dialect::Adb) => Finding::fail(
            format!("{detail}: AnalyticDB cannot hold them without doubles"),
            "add a primary key on the source, name columns in objects.tables.<table>.primary_key, or exclude them",
        ),
        (TablesWithoutKey::Refuse, Dialect::Mysql) => Finding::fail(
            detail,
            "add a primary key on the source, name columns in objects.tables.<table>.primary_key, exclude them, or set \
             tables_without_key to match_row",
        ),
        (TablesWithoutKey::Refuse, Dialect::Adb) => Finding::fail(
            detail,
            "add a primary key on the source, name columns in objects.tables.<table>.primary_key, or exclude them",
        ),
    };
    finding.objects(without)
}

fn generated_keys(inventory: &Inventory, selection: Option<&Selection>) -> Finding {
    let found: Vec<&TableName> = with_identity(inventory, selection, Identity::Generated).collect();
    if found.is_empty() {
        return Finding::pass("no table is identified by a generated column alone");
    }
    Finding::fail(
        format!(
            "{} whose only key holds a generated column, which Drainer sends as NULL",
            counted(found.len() as u64, "table")
        ),
        "add a unique key over ordinary NOT NULL columns on the source, name such columns in \
         objects.tables.<table>.primary_key, or exclude them",
    )
    .objects(found)
}

fn names(inventory: &Inventory, spec: &Spec, dialect: Dialect, existing: Option<&Existing>) -> Finding {
    let mut faults = Vec::new();
    let mut targets: HashMap<TableName, &SourceTable> = HashMap::new();
    let folding = Existing::default();
    for table in &inventory.tables {
        let key = match dialect {
            Dialect::Adb => table.target.key(),
            Dialect::Mysql => existing.unwrap_or(&folding).key(&table.target),
        };
        match targets.get(&key) {
            Some(first) if spec.merge.is_none() => {
                faults.push(format!("{} and {} both become {}", first.name, table.name, table.target));
            }
            _ => {
                targets.insert(key, table);
            }
        }
    }
    let schemas: BTreeSet<&str> = inventory.tables.iter().map(|table| table.target.schema.as_str()).collect();
    faults.extend(schemas.into_iter().filter_map(|schema| {
        schema_fault(schema, dialect).map(|fault| format!("database {schema}: {fault}"))
    }));
    for table in &inventory.tables {
        if let Some(fault) = name_fault(&table.target.table, dialect) {
            faults.push(format!("{}: {fault}", table.target));
        }
    }
    for (source, table) in inventory.known() {
        for column in &table.columns {
            if let Some(fault) = name_fault(&column.name, dialect) {
                faults.push(format!("{}.{}: {fault}", source.name, column.name));
            }
        }
    }
    if faults.is_empty() {
        return Finding::pass("every name can be used on the target, and no two tables share one");
    }
    Finding::fail(
        format!("{} cannot be used on the target", counted(faults.len() as u64, "name")),
        "give other names in objects.schemas.<schema>.target and objects.tables.<table>.target, or exclude the tables",
    )
    .objects(faults)
}

fn schema_fault(name: &str, dialect: Dialect) -> Option<&'static str> {
    let system = ["mysql", "information_schema", "performance_schema", "sys"];
    match dialect {
        _ if system.iter().any(|own| own.eq_ignore_ascii_case(name)) => Some("belongs to the server"),
        Dialect::Mysql => too_long(name, MYSQL_NAME),
        Dialect::Adb if name.eq_ignore_ascii_case("analyticdb") => Some("belongs to AnalyticDB"),
        Dialect::Adb if name.contains("__") => Some("AnalyticDB allows no `__` in a database's name"),
        Dialect::Adb if !name.starts_with(|first: char| first.is_ascii_lowercase()) => {
            Some("AnalyticDB's databases start with a lower-case letter")
        }
        Dialect::Adb => too_long(name, MYSQL_NAME),
    }
}

fn name_fault(name: &str, dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::Mysql => too_long(name, MYSQL_NAME),
        Dialect::Adb if name.to_lowercase().starts_with("__adb_") => {
            Some("AnalyticDB uses such names itself")
        }
        Dialect::Adb if !name.starts_with(|first: char| first.is_alphabetic() || first == '_') => {
            Some("AnalyticDB's names start with a letter or `_`")
        }
        Dialect::Adb => too_long(name, ADB_NAME),
    }
}

fn too_long(name: &str, limit: usize) -> Option<&'static str> {
    (name.chars().count() > limit).then_some("the name is too long")
}

fn column_limit(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Adb => ADB_COLUMNS,
        Dialect::Mysql => INNODB_COLUMNS,
    }
}

fn columns(inventory: &Inventory, dialect: Dialect) -> Finding {
    let limit = column_limit(dialect);
    let most = inventory.known().map(|(_, table)| table.columns.len()).max().unwrap_or(0);
    if most <= limit {
        return Finding::pass(format!("no table has more than {}", counted(most as u64, "column")));
    }
    let wide = inventory
        .known()
        .filter(|(_, table)| table.columns.len() > limit)
        .map(|(source, table)| format!("{}: {} columns", source.name, table.columns.len()));
    Finding::fail(
        format!("a table on the target has at most {limit} columns, the widest here has {most}"),
        "exclude the table, or split it on the source",
    )
    .objects(wide)
}

/// True when a table on the target is in the way rather than a place to write to.
fn refuses_existing(spec: &Spec) -> bool {
    spec.existing_tables == ExistingTables::Refuse && (spec.phases.schema || spec.phases.full)
}

fn existing_tables(
    inventory: &Inventory,
    plans: &[Plan<'_>],
    spec: &Spec,
    own: &HashSet<TableName>,
    existing: &Result<Existing>,
) -> Finding {
    let existing = match existing {
        Ok(existing) => existing,
        Err(error) => {
            return Finding::skipped(format!("the tables of the target could not be read: {error}"));
        }
    };
    let (there, absent): (Vec<&SourceTable>, Vec<&SourceTable>) =
        inventory.tables.iter().partition(|table| existing.get(&table.target).is_some());
    let named =
        |tables: &[&SourceTable]| tables.iter().map(|table| table.target.to_string()).collect::<Vec<_>>();
    if !spec.phases.schema && !absent.is_empty() {
        return Finding::fail(
            format!(
                "{} missing on the target, and phases.schema is off",
                counted(absent.len() as u64, "table")
            ),
            "create them, or turn phases.schema on",
        )
        .objects(named(&absent));
    }
    if there.is_empty() {
        return Finding::pass(format!(
            "none of {} is on the target yet",
            counted(absent.len() as u64, "table")
        ));
    }
    let foreign: Vec<&SourceTable> =
        there.iter().copied().filter(|table| !own.contains(&table.target)).collect();
    let count = counted(there.len() as u64, "table");
    if refuses_existing(spec) && !foreign.is_empty() {
        let count = counted(foreign.len() as u64, "table");
        return Finding::fail(
            format!("{count} of the same name on the target already, and existing_tables is refuse"),
            "drop or rename them, route the tables elsewhere (objects.tables.<table>.target), or set existing_tables to keep \
             (rows already there win in full sync) or replace (rows of the source win)",
        )
        .objects(named(&foreign));
    }
    compare(plans, existing, &count)
}

/// Columns of tables that are there against those that rows are written to.
fn compare(plans: &[Plan<'_>], existing: &Existing, count: &str) -> Finding {
    let (mut lacking, mut mandatory, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    for plan in plans {
        let name = &plan.source.target;
        let (Some(there), Ok(target)) = (existing.get(name), &plan.target) else { continue };
        for column in &target.columns {
            let same =
                |other: &existing::ExistingColumn| other.name.to_lowercase() == column.name.to_lowercase();
            if !there.columns.iter().any(same) {
                lacking.push(format!("{name}.{}", column.name));
            }
        }
        let known = |name: &str| {
            target.column(name).is_some()
                || plan.table.column(name).is_some_and(|column| column.generated.is_some())
                || target.generated.iter().any(|column| column.name.to_lowercase() == name.to_lowercase())
        };
        for column in there.columns.iter().filter(|column| !known(&column.name)) {
            let full = format!("{name}.{}", column.name);
            if column.optional { extra.push(full) } else { mandatory.push(full) }
        }
    }
    if !lacking.is_empty() || !mandatory.is_empty() {
        return Finding::fail(
            format!(
                "{count} on the target already; {} of the source missing there, {} there must have a value and the source has none",
                counted(lacking.len() as u64, "column"),
                counted(mandatory.len() as u64, "column")
            ),
            "make the columns alike (a generated column may be left out), or drop the tables and let phases.schema create them",
        )
        .objects(lacking.into_iter().chain(mandatory));
    }
    if !extra.is_empty() {
        return Finding::warn(
            format!(
                "{count} on the target already, with {} that the source does not have: a row that is written again loses its values there",
                counted(extra.len() as u64, "column")
            ),
            "drop these columns on the target, or waive this item when nothing is kept in them",
        )
        .objects(extra);
    }
    Finding::pass(format!("{count} on the target already, with the same columns"))
}

fn foreign_keys(inventory: &Inventory) -> Finding {
    match inventory.foreign_keys.len() {
        0 => Finding::pass("no foreign keys"),
        count => Finding::note(
            format!("{} not created on the target", counted(count as u64, "foreign key")),
            "the source keeps them; changes arrive per table, so that the target could not",
        )
        .objects(&inventory.foreign_keys),
    }
}

fn time_to_live(inventory: &Inventory) -> Finding {
    let expiring = inventory.known().filter(|(_, table)| table.time_to_live).map(|(source, _)| &source.name);
    let expiring: Vec<&TableName> = expiring.collect();
    if expiring.is_empty() {
        return Finding::pass("no table whose rows the source deletes by their age");
    }
    Finding::warn(
        format!(
            "{} with TTL: what the source deletes by it is in no message, and stays on the target",
            counted(expiring.len() as u64, "table")
        ),
        "delete such rows on the target by a job of its own, exclude the tables, or take it on: waive this check",
    )
    .objects(expiring)
}

#[cfg(test)]
mod tests;

//! One clause of the source's ALTER TABLE as statements of the target.
//!
//! The caller applies an ALTER clause by clause to its catalog and gives the table before and after each. What changes on the target is the difference
//! of the two [`TargetTable`]s, not the clause's text: a clause that leaves the target's table as it is gives no statement. One column per
//! statement, so that each is its own step.

use super::convert::{cuts, narrows, rewrites};
use super::create::key_clause;
use super::default::{self, Fit};
use super::problem::Problem;
use super::statements::{Done, TargetStatement, rename_tables, truncate_table};
use super::table::{TableOptions, TargetColumn, TargetKey, TargetTable};
use crate::model::{ColumnDefault, Dialect, KeyKind, Table, TableName, TypeName};
use crate::sql::ddl::ast::{AlterClause, ColumnPosition};
use crate::sql::literal;

/// What an ALTER needs beyond the tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlterContext<'a> {
    /// For DropPartitions and TruncatePartitions: the condition that the partitions' rows meet, in the target's column names.
    pub partition_condition: Option<&'a str>,
    /// For AddColumn: what the source gave to existing rows where the column's default does not say it (CURRENT_TIMESTAMP), as plain text.
    pub existing_rows: Option<&'a str>,
    /// For Rename: the new name on the target.
    pub rename_to: Option<&'a TableName>,
}

/// Statements for `clause`, in order; empty when it means nothing to the target.
///
/// # Errors
/// The target cannot follow: the problem says what a person can do.
pub fn alter(
    dialect: Dialect,
    before: &Table,
    clause: &AlterClause,
    after: &Table,
    target: &TableName,
    options: &TableOptions,
    context: &AlterContext<'_>,
) -> Result<Vec<TargetStatement>, Problem> {
    match clause {
        // Without effect on rows or layout of the target, whatever its plan says.
        AlterClause::AddPartitions { .. }
        | AlterClause::ReorganizePartitions { .. }
        | AlterClause::SetPartitioning { .. }
        | AlterClause::ChangePartitionCount { .. }
        | AlterClause::Harmless { .. } => return Ok(Vec::new()),
        AlterClause::DropPartitions { .. }
        | AlterClause::FirstPartition { .. }
        | AlterClause::TruncatePartitions { names: Some(_) } => {
            return delete_partitions(before, target, context);
        }
        AlterClause::TruncatePartitions { names: None } => return Ok(vec![truncate_table(target)]),
        AlterClause::ExchangePartition { partition, table } => {
            return Err(Problem::refuse(
                &before.name,
                format!(
                    "partition {partition} was exchanged with table {}: rows moved without events",
                    table.name
                ),
                "resync both tables",
            ));
        }
        AlterClause::Rename { .. } => {
            let to = context.rename_to.ok_or_else(|| {
                Problem::refuse(
                    &before.name,
                    "renamed to a name without a place on the target",
                    "select the new name, or resync",
                )
            })?;
            return rename_tables(dialect, &[(target.clone(), to.clone())]);
        }
        _ => {}
    }
    let Some(clause) = &options.mapping.clause(clause, before)? else { return Ok(Vec::new()) };
    let plan = |table: &Table| {
        TargetTable::new(dialect, table, target.clone(), options).map_err(|problems| {
            problems.into_iter().find(Problem::is_refusal).unwrap_or_else(|| {
                Problem::refuse(&table.name, "the table has no place on the target", "exclude the table")
            })
        })
    };
    let (earlier, source) = (&options.mapping.renamed(before), &options.mapping.renamed(after));
    let change = Change { dialect, earlier, source, old: plan(before)?, new: plan(after)?, target };
    if dialect == Dialect::Adb {
        change.identity_stays()?;
    }
    match clause {
        AlterClause::AddColumn { column, position, .. } => {
            let mut statements = change.make_room(&column.name);
            statements.extend(change.add_column(&column.name, position.is_some(), context)?);
            statements.extend(change.added_keys()?);
            Ok(statements)
        }
        AlterClause::DropColumn { name, .. } => change.drop_column(name),
        AlterClause::ChangeColumn { old, column, position, .. } => {
            let mut statements = change.make_room(&column.name);
            statements.extend(change.change_column(old, &column.name, position.as_ref())?);
            Ok(statements)
        }
        AlterClause::RenameColumn { old, new } => change.rename_column(old, new),
        AlterClause::SetDefault { column, .. } => change.set_default(column),
        AlterClause::AddKey { .. } => {
            // Columns of unique keys may need another collation.
            let mut statements = change.recollated();
            statements.extend(change.added_keys()?);
            Ok(statements)
        }
        AlterClause::DropPrimaryKey => change.drop_key("PRIMARY"),
        AlterClause::DropKey { name, .. } => change.drop_key(name),
        AlterClause::RenameKey { old, new } => change.rename_key(old, new),
        AlterClause::ConvertCharset { .. } => Ok(change.convert_charset()),
        AlterClause::DefaultCharset { .. } => Ok(change.default_charset()),
        AlterClause::Comment { .. } => Ok(change.comment()),
        AlterClause::AddPartitions { .. }
        | AlterClause::DropPartitions { .. }
        | AlterClause::FirstPartition { .. }
        | AlterClause::TruncatePartitions { .. }
        | AlterClause::ReorganizePartitions { .. }
        | AlterClause::ExchangePartition { .. }
        | AlterClause::SetPartitioning { .. }
        | AlterClause::ChangePartitionCount { .. }
        | AlterClause::Rename { .. }
        | AlterClause::Harmless { .. } => Ok(Vec::new()),
    }
}

/// The target is not partitioned as the source is: the partitions' rows go one by one.
fn delete_partitions(
    before: &Table,
    target: &TableName,
    context: &AlterContext<'_>,
) -> Result<Vec<TargetStatement>, Problem> {
    let condition = context.partition_condition.ok_or_else(|| {
        Problem::refuse(
            &before.name,
            "partitions were dropped or emptied, and which rows they held cannot be said as a condition",
            "resync the table",
        )
    })?;
    let sql = format!("DELETE FROM {} WHERE {condition}", literal::table_name(target));
    Ok(vec![TargetStatement::new(sql, Done::Rerun)])
}

fn bent_rows(column: &str) -> String {
    format!(
        "existing rows get in `{column}` what the lossy policies make of the source's value; they are not counted"
    )
}

struct Change<'a> {
    dialect: Dialect,
    /// Before the clause.
    earlier: &'a Table,
    /// After it.
    source: &'a Table,
    old: TargetTable,
    new: TargetTable,
    target: &'a TableName,
}

const REBUILD: &str = "create a table with the new layout on the target, fill it from the old one, swap the names, then skip this statement; or resync the table";

impl Change<'_> {
    fn statement(&self, action: String, done: Done) -> TargetStatement {
        TargetStatement::new(format!("ALTER TABLE {} {action}", literal::table_name(self.target)), done)
    }

    fn impossible(&self, column: &str, why: &str) -> Problem {
        Problem::refuse(format!("{}.{column}", self.source.name), why, REBUILD)
    }

    fn table(&self) -> TableName {
        self.target.clone()
    }

    fn is_column(table: &TargetTable, name: &str) -> bool {
        table.definition(name).is_some()
    }

    /// The primary key of ADB is for ever (target-adb-and-dts.md 3.4).
    fn identity_stays(&self) -> Result<(), Problem> {
        let names = |table: &TargetTable| -> Vec<String> {
            table.identity_columns().map(|column| column.name.to_lowercase()).collect()
        };
        if names(&self.old) == names(&self.new) && self.old.tail == self.new.tail {
            return Ok(());
        }
        Err(Problem::refuse(
            &self.source.name,
            "the columns that identify a row changed; the target's primary key and distribution cannot change",
            REBUILD,
        ))
    }

    /// Other columns that become TEXT or BLOB, or the larger row would not fit (mysql_limits).
    fn make_room(&self, except: &str) -> Vec<TargetStatement> {
        if self.dialect == Dialect::Adb {
            return Vec::new();
        }
        let moves = self.new.columns.iter().filter(|column| {
            column.name.to_lowercase() != except.to_lowercase()
                && !column.type_text.starts_with("var")
                && self.old.column(&column.name).is_some_and(|old| old.type_text.starts_with("var"))
        });
        moves.map(|column| self.modify(column)).collect()
    }

    /// What rows that are there get in a column without a default is the target's affair (an ENUM is text on adb, and its first label is not the
    /// empty text): on adb it is said.
    fn said(&self, name: &str, definition: &str) -> Result<String, Problem> {
        let silent = self.source.column(name).is_some_and(|column| column.default.is_none());
        let column = self.new.column(name).filter(|_| self.dialect == Dialect::Adb && silent);
        match column.and_then(TargetColumn::required_value) {
            None | Some("x''") => Ok(definition.to_owned()),
            Some(_) if self.new.column(name).is_some_and(|column| column.type_text == "json") => {
                Ok(definition.to_owned())
            }
            Some(value) if value.chars().count() > default::ADB_LONGEST => Err(self.impossible(
                name,
                "existing rows have more in it on the source than a default of the target takes",
            )),
            Some(value) => Ok(definition.replacen(" NOT NULL", &format!(" NOT NULL DEFAULT {value}"), 1)),
        }
    }

    /// How what [`Change::said`] says stands to what the source has.
    fn implied(&self, name: &str) -> Fit {
        match (self.source.column(name), self.new.column(name)) {
            (Some(source), Some(column))
                if self.dialect == Dialect::Adb && source.default.is_none() && !column.nullable =>
            {
                default::implicit_value(&source.ty, &column.encoder).1
            }
            _ => Fit::Exact,
        }
    }

    fn add_column(
        &self,
        name: &str,
        placed: bool,
        context: &AlterContext<'_>,
    ) -> Result<Vec<TargetStatement>, Problem> {
        let Some(definition) = self.new.definition(name) else { return Ok(Vec::new()) };
        let definition = &self.said(name, definition)?;
        let place = if placed && self.dialect == Dialect::Mysql { self.place(name) } else { String::new() };
        let done = Done::ColumnExists { table: self.table(), column: name.to_owned() };
        let quoted = literal::name(name);
        let source = self.source.column(name);
        let said = source.is_some_and(|column| {
            matches!(column.default, Some(ColumnDefault::Literal(_) | ColumnDefault::Bits(_)))
        });
        if said && self.new.column(name).is_some_and(|column| column.default.is_none()) {
            // They would hold NULL, or whatever the target makes of no value.
            return Err(self.impossible(
                name,
                "existing rows have the new column's default on the source, and the target cannot take that default",
            ));
        }
        let now = source.is_some_and(|column| {
            matches!(column.default, Some(ColumnDefault::CurrentTimestamp { .. }))
                && column.generated.is_none()
        });
        let current = self.new.column(name).and_then(|column| column.default.as_deref());
        // What TiDB gives to rows that are there: without a default it is the JSON null, not an empty text.
        let json = source.is_some_and(|column| {
            column.ty.name == TypeName::Json && !column.nullable && column.generated.is_none()
        });
        if json && self.dialect == Dialect::Mysql && current.is_none() {
            let first = format!("ADD COLUMN {quoted} {definition} DEFAULT 'null'{place}");
            return Ok(vec![
                self.statement(first, done),
                self.statement(format!("MODIFY COLUMN {quoted} {definition}"), Done::Rerun),
            ]);
        }
        let (Some(source), Some(column), true) = (source, self.new.column(name), now) else {
            let mut statement = self.statement(format!("ADD COLUMN {quoted} {definition}{place}"), done);
            let dropped = source.is_some_and(|column| {
                matches!(column.default, Some(ColumnDefault::Expression(_))) && column.generated.is_none()
            });
            // MariaDB fills in an empty text, which is no JSON; AnalyticDB's takes no default.
            if json {
                let table = literal::table_name(self.target);
                let sql = format!("UPDATE {table} SET {quoted} = 'null' WHERE CAST({quoted} AS CHAR) = ''");
                return Ok(vec![statement, TargetStatement::new(sql, Done::Rerun)]);
            }
            if dropped {
                statement.warning =
                    Some(format!("existing rows get no value in `{name}`: the source computed one"));
            }
            let implied = self.implied(name);
            if implied == Fit::Refused && context.existing_rows.is_some() {
                return Err(Problem::refuse(
                    format!("{}.{name}", self.source.name),
                    "existing rows get the zero date in the new column, which the target does not have and lossy.zero_date refuses",
                    "set lossy.zero_date to clamp and resume",
                ));
            }
            let literal = match source.map(|column| &column.default) {
                Some(Some(ColumnDefault::Literal(text))) => Some(text.as_str()),
                _ => None,
            };
            if implied == Fit::Bent || literal.is_some_and(|text| self.bends(name, text)) {
                statement.warning = Some(bent_rows(name));
            }
            return Ok(vec![statement]);
        };
        // What existing rows get is the time of the statement at the source, not now.
        let Some(existing) = context.existing_rows else {
            let mut statement = self.statement(format!("ADD COLUMN {quoted} {definition}{place}"), done);
            statement.warning = Some(format!(
                "existing rows get the target's own time in `{name}`, not the source's: resync the table if it matters"
            ));
            return Ok(vec![statement]);
        };
        let bends = self.bends(name, existing);
        let existing = ColumnDefault::Literal(existing.to_owned());
        let value = default::value(self.dialect, source, &existing, &column.type_text, &column.encoder);
        let value = value.ok().flatten();
        let value = value.ok_or_else(|| {
            self.impossible(
                name,
                "existing rows have a time in it on the source that the target does not take",
            )
        })?;
        let first = match current {
            Some(current) => definition.replacen(current, &format!("DEFAULT {value}"), 1),
            // Text takes no CURRENT_TIMESTAMP.
            None => definition.replacen(" NULL", &format!(" NULL DEFAULT {value}"), 1),
        };
        let mut statement = self.statement(format!("ADD COLUMN {quoted} {first}{place}"), done);
        statement.warning = bends.then(|| bent_rows(name));
        let mut statements = vec![statement];
        if self.dialect == Dialect::Mysql {
            statements.push(self.statement(format!("MODIFY COLUMN {quoted} {definition}"), Done::Rerun));
        }
        Ok(statements)
    }

    /// A lossy policy makes another value of this default.
    fn bends(&self, name: &str, text: &str) -> bool {
        match (self.source.column(name), self.new.column(name)) {
            (Some(source), Some(column)) if self.dialect == Dialect::Adb => {
                default::bent(source, text, &column.encoder).is_ok_and(|bent| bent.is_some())
            }
            _ => false,
        }
    }

    /// ` FIRST` or ` AFTER x`: behind the column that stands before it on the target.
    fn place(&self, name: &str) -> String {
        let mut before = None;
        for (column, _) in self.new.all_columns() {
            if column.to_lowercase() == name.to_lowercase() {
                break;
            }
            before = Some(column);
        }
        before.map_or(" FIRST".to_owned(), |column| format!(" AFTER {}", literal::name(column)))
    }

    fn drop_column(&self, name: &str) -> Result<Vec<TargetStatement>, Problem> {
        if !Self::is_column(&self.old, name) || Self::is_column(&self.new, name) {
            return Ok(Vec::new());
        }
        let done = Done::ColumnAbsent { table: self.table(), column: name.to_owned() };
        Ok(vec![self.statement(format!("DROP COLUMN {}", literal::name(name)), done)])
    }

    fn rename_column(&self, old: &str, new: &str) -> Result<Vec<TargetStatement>, Problem> {
        if old == new || !Self::is_column(&self.old, old) {
            return Ok(Vec::new());
        }
        let done = Done::ColumnRenamed { table: self.table(), old: old.to_owned(), new: new.to_owned() };
        let action = format!("RENAME COLUMN {} TO {}", literal::name(old), literal::name(new));
        Ok(vec![self.statement(action, done)])
    }

    fn change_column(
        &self,
        old: &str,
        new: &str,
        position: Option<&ColumnPosition>,
    ) -> Result<Vec<TargetStatement>, Problem> {
        let (before, after) = match (self.old.definition(old), self.new.definition(new)) {
            (Some(before), Some(after)) => (before, after),
            (None, None) => return Ok(Vec::new()),
            _ => {
                return Err(self.impossible(
                    new,
                    "the column is on the target before or after the change, but not both",
                ));
            }
        };
        if self.dialect == Dialect::Adb {
            let mut statements = self.rename_column(old, new)?;
            statements.extend(self.adb_modify(old, new)?);
            return Ok(statements);
        }
        let place = if position.is_some() { self.place(new) } else { String::new() };
        let quoted = literal::name(new);
        if old != new {
            let done = Done::ColumnRenamed { table: self.table(), old: old.to_owned(), new: new.to_owned() };
            let action = format!("CHANGE COLUMN {} {quoted} {after}{place}", literal::name(old));
            return Ok(vec![self.statement(action, done)]);
        }
        if before == after && place.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![self.statement(format!("MODIFY COLUMN {quoted} {after}{place}"), Done::Rerun)])
    }

    /// ADB widens columns outside the key; defaults and comments mean nothing to rows, a shorter length cuts them where the source has.
    fn adb_modify(&self, old: &str, new: &str) -> Result<Vec<TargetStatement>, Problem> {
        let (Some(before), Some(after)) = (self.old.column(old), self.new.column(new)) else {
            return Ok(Vec::new());
        };
        let source = (self.earlier.column(old), self.source.column(new));
        let as_text = after.type_text.starts_with("varchar");
        let rewritten = matches!(source, (Some(from), Some(to)) if rewrites(&from.ty, &to.ty, as_text));
        let narrowed = match source {
            (Some(from), Some(to)) if from.ty != to.ty && narrows(&from.ty, &to.ty, as_text) => {
                Some(cuts(&literal::name(new), &from.ty, &to.ty))
            }
            _ => None,
        };
        let same_form = before.encoder.writes_like(&after.encoder) && !rewritten;
        let retyped = base(&before.type_text) != base(&after.type_text)
            || decimals(&before.type_text) != decimals(&after.type_text);
        let opened = after.nullable && !before.nullable;
        let exact = self.new.identity_columns().any(|column| column.name == after.name);
        if !retyped && !opened && same_form && narrowed.is_none() {
            return Ok(Vec::new());
        }
        if exact && (retyped || !same_form || narrowed.is_some()) {
            return Err(
                self.impossible(new, "the target cannot change the type of a column of its primary key")
            );
        }
        if retyped && !widens(&before.type_text, &after.type_text) {
            return Err(self.impossible(
                new,
                &format!("the target cannot change {} to {}", before.type_text, after.type_text),
            ));
        }
        // Rows on the target keep what they have; if the source rewrote them (other labels, other meaning of the text), they differ.
        if rewritten || (!same_form && !retyped) {
            return Err(self.impossible(
                new,
                "existing rows change their values at the source, which the target cannot repeat",
            ));
        }
        let mut statements = Vec::new();
        if let Some(cuts) = narrowed {
            let cuts = cuts.ok_or_else(|| {
                self.impossible(
                    new,
                    "values that the new type has no room for are cut by the source's own rules, where it does not refuse them",
                )
            })?;
            let (table, column) = (literal::table_name(self.target), literal::name(new));
            statements.extend(cuts.into_iter().map(|(value, condition)| {
                let sql = format!("UPDATE {table} SET {column} = {value} WHERE {condition}");
                TargetStatement::new(sql, Done::Rerun)
            }));
        }
        if !retyped && !opened {
            return Ok(statements);
        }
        let null = if before.nullable || after.nullable { "NULL" } else { "NOT NULL" };
        let action = format!("MODIFY COLUMN {} {} {null}", literal::name(new), after.type_text);
        statements.push(self.statement(action, Done::Rerun));
        Ok(statements)
    }

    fn set_default(&self, name: &str) -> Result<Vec<TargetStatement>, Problem> {
        let (Some(before), Some(after)) = (self.old.column(name), self.new.column(name)) else {
            return Ok(Vec::new());
        };
        if self.dialect == Dialect::Adb || before.default == after.default {
            return Ok(Vec::new());
        }
        let quoted = literal::name(&after.name);
        let action = match &after.default {
            None => format!("ALTER COLUMN {quoted} DROP DEFAULT"),
            // ALTER COLUMN takes literals only.
            Some(default) if default.contains("CURRENT_TIMESTAMP") => {
                format!("MODIFY COLUMN {quoted} {}", after.definition)
            }
            Some(default) => format!("ALTER COLUMN {quoted} SET {default}"),
        };
        Ok(vec![self.statement(action, Done::Rerun)])
    }

    fn added_keys(&self) -> Result<Vec<TargetStatement>, Problem> {
        if self.dialect == Dialect::Adb {
            // Every column is indexed there; unique keys do not exist.
            return Ok(Vec::new());
        }
        let added = self.new.keys.iter().filter(|key| find(&self.old, &key.name).is_none());
        Ok(added
            .map(|key| {
                let done = Done::IndexExists { table: self.table(), index: key.name.clone() };
                self.statement(format!("ADD {}", key_clause(key)), done)
            })
            .collect())
    }

    fn drop_key(&self, name: &str) -> Result<Vec<TargetStatement>, Problem> {
        let Some(key) = find(&self.old, name) else { return Ok(Vec::new()) };
        if self.dialect == Dialect::Adb || find(&self.new, name).is_some() {
            return Ok(Vec::new());
        }
        let action = match key.kind {
            KeyKind::Primary => "DROP PRIMARY KEY".to_owned(),
            _ => format!("DROP INDEX {}", literal::name(&key.name)),
        };
        let done = Done::IndexAbsent { table: self.table(), index: key.name.clone() };
        let mut statements = vec![self.statement(action, done)];
        statements.extend(self.recollated());
        Ok(statements)
    }

    fn rename_key(&self, old: &str, new: &str) -> Result<Vec<TargetStatement>, Problem> {
        if self.dialect == Dialect::Adb || old == new || find(&self.old, old).is_none() {
            return Ok(Vec::new());
        }
        let done = Done::IndexExists { table: self.table(), index: new.to_owned() };
        let action = format!("RENAME INDEX {} TO {}", literal::name(old), literal::name(new));
        Ok(vec![self.statement(action, done)])
    }

    /// Columns whose type is another one although the source's is the same.
    fn recollated(&self) -> Vec<TargetStatement> {
        if self.dialect == Dialect::Adb {
            return Vec::new();
        }
        let changed = self.new.columns.iter().filter(|column| {
            self.old.column(&column.name).is_some_and(|old| old.type_text != column.type_text)
        });
        changed.map(|column| self.modify(column)).collect()
    }

    fn modify(&self, column: &TargetColumn) -> TargetStatement {
        let action = format!("MODIFY COLUMN {} {}", literal::name(&column.name), column.definition);
        self.statement(action, Done::Rerun)
    }

    fn convert_charset(&self) -> Vec<TargetStatement> {
        if self.dialect == Dialect::Adb
            || (self.old.columns == self.new.columns && self.old.text == self.new.text)
        {
            return Vec::new();
        }
        let (charset, collation) = &self.new.text;
        let mut statements = self.make_room("");
        statements.push(
            self.statement(format!("CONVERT TO CHARACTER SET {charset} COLLATE {collation}"), Done::Rerun),
        );
        // Columns of unique keys may have a collation of their own.
        let apart = self.new.columns.iter().filter(|column| {
            let name = column.type_text.rsplit_once(" COLLATE ").map(|(_, name)| name);
            name.is_some_and(|name| name != collation)
        });
        statements.extend(apart.map(|column| self.modify(column)));
        statements
    }

    fn default_charset(&self) -> Vec<TargetStatement> {
        if self.dialect == Dialect::Adb || self.old.text == self.new.text {
            return Vec::new();
        }
        let (charset, collation) = &self.new.text;
        vec![self.statement(format!("DEFAULT CHARACTER SET {charset} COLLATE {collation}"), Done::Rerun)]
    }

    fn comment(&self) -> Vec<TargetStatement> {
        if self.dialect == Dialect::Adb {
            return Vec::new();
        }
        let comment: String = self.source.comment.chars().take(2048).collect();
        vec![self.statement(format!("COMMENT = {}", literal::string(&comment)), Done::Rerun)]
    }
}

fn find<'a>(table: &'a TargetTable, name: &str) -> Option<&'a TargetKey> {
    table.keys.iter().find(|key| key.name.to_lowercase() == name.to_lowercase())
}

/// `varchar(20)` -> `varchar`.
fn base(text: &str) -> &str {
    text.split('(').next().unwrap_or(text)
}

/// `decimal(20,6)` -> (20, 6).
fn decimals(text: &str) -> Option<(u32, u32)> {
    let inner = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (digits, scale) = inner.split_once(',')?;
    Some((digits.parse().ok()?, scale.parse().ok()?))
}

/// Whether ADB turns the one type into the other without touching a value.
fn widens(from: &str, to: &str) -> bool {
    const INTEGERS: [&str; 4] = ["tinyint", "smallint", "int", "bigint"];
    let rank = |text: &str| INTEGERS.iter().position(|name| *name == text);
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => return from < to,
        (None, None) => {}
        _ => return false,
    }
    match (decimals(from), decimals(to)) {
        (Some((digits, scale)), Some((wider, same))) => scale == same && wider > digits,
        _ => (from, to) == ("float", "double"),
    }
}

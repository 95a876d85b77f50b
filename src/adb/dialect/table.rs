//! The plan of one table on one target.

use std::collections::BTreeSet;

use super::charset::Collations;
use super::mapping::{Constant, Mapping};
use super::plan::Plan;
use super::problem::Problem;
use crate::adb::encode::Encoder;
use crate::error::{Error, ErrorKind};
use crate::model::{Dialect, KeyKind, Table, TableName};
use crate::sql::filter::{Condition, Context, Filter};
use crate::task::spec::{LossyPolicies, Operations, Spec, TableKind, TableSpec};

/// What the spec and the two ends say about one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableOptions {
    pub mapping: Mapping,
    /// The row filter as the spec has it.
    pub filter: Option<String>,
    pub operations: Operations,
    pub kind: TableKind,
    pub primary_key: Option<Vec<String>>,
    pub distribute_by: Option<Vec<String>>,
    pub partition_by: Option<String>,
    pub lifecycle_partitions: Option<u32>,
    pub lossy: LossyPolicies,
    /// Defaults of the source's schema; None = TiDB's.
    pub schema_charset: Option<String>,
    pub schema_collation: Option<String>,
    /// TiDB runs with `new_collation_enabled = False`: all its comparisons are of bytes.
    pub bytewise: bool,
    /// What the target has; the portable ones unless it was asked.
    pub collations: Collations,
}

impl TableOptions {
    /// `rule`: the table's entry in `objects.tables`.
    pub fn new(spec: &Spec, rule: Option<&TableSpec>, source: &TableName) -> Self {
        let constant = spec.merge.as_ref().map(|merge| Constant {
            column: merge.column.clone(),
            value: merge.value_of(&spec.name, source),
        });
        let ordinary = TableSpec::default();
        let rule = rule.unwrap_or(&ordinary);
        Self {
            mapping: Mapping::new(rule.columns.as_ref(), constant),
            filter: rule.filter.clone(),
            operations: Operations::from(rule.operations.as_slice()),
            kind: rule.kind,
            primary_key: rule.primary_key.clone(),
            distribute_by: rule.distribute_by.clone(),
            partition_by: rule.partition_by.clone(),
            lifecycle_partitions: rule.lifecycle_partitions,
            lossy: spec.lossy,
            ..Self::default()
        }
    }
}

/// A column that rows are written to.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetColumn {
    /// Where the source's table has it; beyond its columns for a constant.
    pub source_index: usize,
    pub name: String,
    /// The value of every row, for a column that the source does not have.
    pub constant: Option<String>,
    /// `varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`
    pub type_text: String,
    pub nullable: bool,
    /// What follows the name in CREATE TABLE: type, nullability, default, comment.
    pub definition: String,
    pub encoder: Encoder,
    pub(super) default: Option<String>,
    /// The literal of what the source gives where nothing is said.
    pub(super) implicit: String,
}

impl TargetColumn {
    /// What an INSERT that does not know the column must say; None when the target knows by itself.
    pub fn required_value(&self) -> Option<&str> {
        (!self.nullable && self.default.is_none()).then_some(&self.implicit)
    }
}

/// A column that the target computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedColumn {
    pub source_index: usize,
    pub name: String,
    pub definition: String,
}

/// A key that the target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetKey {
    /// `PRIMARY`, or the index's name (TiDB's own where the statement gave none).
    pub name: String,
    pub kind: KeyKind,
    /// Columns, with the length where only a prefix is indexed.
    pub parts: Vec<(String, Option<u32>)>,
}

impl TargetKey {
    pub fn is_unique(&self) -> bool {
        matches!(self.kind, KeyKind::Primary | KeyKind::Unique)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TargetTable {
    pub dialect: Dialect,
    pub source: TableName,
    pub name: TableName,
    /// Those that rows are written to, in the source's order.
    pub columns: Vec<TargetColumn>,
    pub generated: Vec<GeneratedColumn>,
    /// Indexes into `columns` of the key that identifies a row on the target; None = no such key. On adb the distribution and partition
    /// columns come first: an update that changes one of them is a delete and an insert.
    pub identity: Option<Vec<usize>>,
    pub keys: Vec<TargetKey>,
    /// The target enforces unique keys besides the identity (design.md 5: such tables need a barrier between batches).
    pub has_other_unique_keys: bool,
    /// Rows that the target gets; None = all.
    pub filter: Option<Filter>,
    /// Row changes that are sent.
    pub operations: Operations,
    /// Where the target differs from the source.
    pub warnings: Vec<Problem>,
    /// What follows the closing parenthesis of CREATE TABLE, up to the comment: on adb what no ALTER can change.
    pub(super) tail: String,
    /// As a literal.
    pub(super) comment: Option<String>,
    /// Character set and collation of the table itself.
    pub(super) text: (&'static str, String),
}

impl TargetTable {
    /// # Errors
    /// All problems when one of them is a refusal.
    pub fn new(
        dialect: Dialect,
        source: &Table,
        target: TableName,
        options: &TableOptions,
    ) -> Result<Self, Vec<Problem>> {
        if options.mapping.is_plain() {
            let mut plan = Plan::new(dialect, source, options);
            let table = plan.build(target);
            return table.judged(plan.problems, source, options);
        }
        let mapped = options.mapping.table(source, options.primary_key.is_some());
        let mut options = options.clone();
        let constant = options.mapping.constant.take();
        if let (Some(constant), Some(key)) = (&constant, &mut options.primary_key) {
            key.push(constant.column.clone());
        }
        let mut plan = Plan::new(dialect, &mapped.table, &options);
        plan.problems = mapped.problems;
        let mut table = plan.build(target);
        let problems = plan.problems;
        let place = |index: usize| mapped.places.get(index).copied().flatten();
        for column in &mut table.columns {
            match place(column.source_index) {
                Some(index) => column.source_index = index,
                None => {
                    column.source_index = source.columns.len();
                    column.constant = constant.as_ref().map(|constant| constant.value.clone());
                }
            }
        }
        for column in &mut table.generated {
            column.source_index = place(column.source_index).unwrap_or(column.source_index);
        }
        table.judged(problems, source, &options)
    }

    /// What does not depend on the target's columns, and the verdict.
    fn judged(
        mut self,
        mut problems: Vec<Problem>,
        source: &Table,
        options: &TableOptions,
    ) -> Result<Self, Vec<Problem>> {
        self.operations = options.operations;
        match options.filter.as_deref().map(|text| bind(text, source, options)).transpose() {
            Ok(filter) => self.filter = filter,
            Err(found) => problems.extend(found),
        }
        let alone = Operations { update: false, delete: false, ..Operations::default() };
        if self.identity.is_none() && self.operations != Operations::default() && self.operations != alone {
            problems.push(Problem::refuse(
                "operations",
                "a table without a key finds the row of a change by its old values, which need not be there when changes are left out",
                "list insert, update and delete, or insert alone, or name columns in primary_key",
            ));
        }
        if self.identity.is_none() && self.constant().is_some() {
            problems.push(Problem::refuse(
                "*",
                "tables without a key cannot be merged",
                "add a key at the source, name columns in primary_key, or exclude the table",
            ));
        }
        let problems: Vec<_> = problems.into_iter().map(|problem| problem.inside(&source.name)).collect();
        if problems.iter().any(Problem::is_refusal) {
            return Err(problems);
        }
        Ok(Self { warnings: problems, ..self })
    }

    /// Looks a written column up without case.
    pub fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase())
    }

    /// The column that a merge adds.
    pub fn constant(&self) -> Option<(&TargetColumn, &str)> {
        self.columns.iter().find_map(|column| Some((column, column.constant.as_deref()?)))
    }

    /// Why rows planned for `other` cannot be written to this table, which both go into.
    pub fn misfit(&self, other: &Self) -> Option<String> {
        let lower = |table: &Self| -> BTreeSet<String> {
            table.columns.iter().map(|column| column.name.to_lowercase()).collect()
        };
        let (mine, others) = (lower(self), lower(other));
        if let Some(name) = mine.symmetric_difference(&others).next() {
            let without = if mine.contains(name) { other } else { self };
            return Some(format!("{} has no column `{name}`", without.source));
        }
        for column in &other.columns {
            let Some(own) = self.column(&column.name) else { continue };
            if own.type_text != column.type_text {
                return Some(format!(
                    "`{}` is {} from {} and {} from {}",
                    column.name, own.type_text, self.source, column.type_text, other.source
                ));
            }
            if column.nullable && !own.nullable {
                return Some(format!("`{}` of {} may be NULL", column.name, other.source));
            }
            if !own.encoder.writes_like(&column.encoder) {
                return Some(format!(
                    "the values of `{}` mean something else in {}",
                    column.name, other.source
                ));
            }
        }
        let key = |table: &Self| -> BTreeSet<String> {
            table.identity_columns().map(|column| column.name.to_lowercase()).collect()
        };
        (key(self) != key(other)).then(|| format!("{} is identified by other columns", other.source))
    }

    pub fn identity_columns(&self) -> impl Iterator<Item = &TargetColumn> {
        self.identity.iter().flatten().filter_map(|index| self.columns.get(*index))
    }

    /// Definition of any column of the target.
    pub(super) fn definition(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        self.columns
            .iter()
            .find(|column| column.name.to_lowercase() == name)
            .map(|column| column.definition.as_str())
            .or_else(|| {
                self.generated
                    .iter()
                    .find(|column| column.name.to_lowercase() == name)
                    .map(|column| column.definition.as_str())
            })
    }

    /// Every column of the target in the source's order: name and definition.
    pub(super) fn all_columns(&self) -> Vec<(&str, &str)> {
        let written = self.columns.iter().map(|c| (c.source_index, c.name.as_str(), c.definition.as_str()));
        let computed =
            self.generated.iter().map(|c| (c.source_index, c.name.as_str(), c.definition.as_str()));
        let mut all: Vec<_> = written.chain(computed).collect();
        all.sort_unstable_by_key(|(index, ..)| *index);
        all.into_iter().map(|(_, name, definition)| (name, definition)).collect()
    }
}

fn bind(text: &str, source: &Table, options: &TableOptions) -> Result<Filter, Vec<Problem>> {
    let condition = Condition::parse(text)
        .map_err(|fault| vec![Problem::refuse("filter", fault.to_string(), "correct the filter")])?;
    let context = Context {
        schema_charset: options.schema_charset.clone(),
        schema_collation: options.schema_collation.clone(),
        bytewise: options.bytewise,
    };
    condition.bind(source, &context).map_err(|unfit| {
        unfit
            .into_iter()
            .map(|unfit| Problem::refuse(unfit.column, format!("filter: {}", unfit.reason), unfit.hint))
            .collect()
    })
}

/// A value that is not of its column's type: the row can neither be taken nor left out.
pub fn unjudged(filter: &Filter, slot: usize) -> Error {
    let column = filter.columns().get(slot).map(|(_, name)| name.as_str()).unwrap_or_default();
    Error::new(
        ErrorKind::ValueRefused,
        format!("column `{column}` has a value that the table's filter cannot judge"),
    )
    .hint("repair the value at the source, or filter by another column")
}

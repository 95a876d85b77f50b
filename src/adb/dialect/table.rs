//! The plan of one table on one target.

use super::charset::Collations;
use super::plan::Plan;
use super::problem::Problem;
use crate::adb::encode::Encoder;
use crate::model::{Dialect, KeyKind, Table, TableName};
use crate::task::spec::{LossyPolicies, TableKind, TableSpec};

/// What the spec and the two ends say about one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableOptions {
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
    pub fn new(spec: &TableSpec, lossy: LossyPolicies) -> Self {
        Self {
            kind: spec.kind,
            primary_key: spec.primary_key.clone(),
            distribute_by: spec.distribute_by.clone(),
            partition_by: spec.partition_by.clone(),
            lifecycle_partitions: spec.lifecycle_partitions,
            lossy,
            ..Self::default()
        }
    }
}

/// A column that rows are written to.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetColumn {
    /// Where the source's table has it.
    pub source_index: usize,
    pub name: String,
    /// `varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`
    pub type_text: String,
    pub nullable: bool,
    /// What follows the name in CREATE TABLE: type, nullability, default, comment.
    pub definition: String,
    pub encoder: Encoder,
    pub(super) default: Option<String>,
    /// The literal of what the source gives where nothing is said.
    pub(super) implicit: &'static str,
}

impl TargetColumn {
    /// What an INSERT that does not know the column must say; None when the target knows by itself.
    pub fn required_value(&self) -> Option<&'static str> {
        (!self.nullable && self.default.is_none()).then_some(self.implicit)
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
        let mut plan = Plan::new(dialect, source, options);
        let table = plan.build(target);
        let problems: Vec<_> =
            plan.problems.into_iter().map(|problem| problem.inside(&source.name)).collect();
        if problems.iter().any(Problem::is_refusal) {
            return Err(problems);
        }
        Ok(Self { warnings: problems, ..table })
    }

    /// Looks a written column up without case.
    pub fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase())
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

//! What a spec says of single tables (`objects.tables`): plain data with its defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::{DdlPolicies, DdlPolicy};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// `schema.table` on the target.
    #[serde(default)]
    pub target: Option<String>,
    /// Columns left out, and columns with another name on the target.
    #[serde(default)]
    pub columns: Option<ColumnRules>,
    /// Rows of which the target gets a copy: the condition of a WHERE over this table's columns.
    #[serde(default)]
    pub filter: Option<String>,
    /// Kinds of row changes that incremental sync sends.
    #[serde(default = "all_operations")]
    #[schema(min_items = 1)]
    pub operations: Vec<Operation>,
    /// What differs from the task's `ddl` for this table.
    #[serde(default)]
    pub ddl: TableDdl,
    #[serde(default)]
    pub kind: TableKind,
    /// Columns that identify a row on the target, where they are not the source's key; as the target calls them, like those of
    /// `distribute_by` and `partition_by`.
    #[serde(default)]
    pub primary_key: Option<Vec<String>>,
    #[serde(default)]
    pub distribute_by: Option<Vec<String>>,
    /// `column`, `DATE_FORMAT(column, '%Y%m')` or `FROM_UNIXTIME(column, '...')`.
    #[serde(default)]
    pub partition_by: Option<String>,
    #[serde(default)]
    #[schema(minimum = 1)]
    pub lifecycle_partitions: Option<u32>,
}

impl Default for TableSpec {
    fn default() -> Self {
        Self {
            target: None,
            columns: None,
            filter: None,
            operations: all_operations(),
            ddl: TableDdl::default(),
            kind: TableKind::default(),
            primary_key: None,
            distribute_by: None,
            partition_by: None,
            lifecycle_partitions: None,
        }
    }
}

/// By the source's names; case does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnRules {
    /// Columns that the target does not get.
    pub exclude: Vec<String>,
    /// Source column -> its name on the target.
    pub rename: BTreeMap<String, String>,
}

/// A kind of row change. What is not listed is passed over, in its own place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Insert,
    /// An update writes the whole row.
    Update,
    /// Without it no row of the table is ever deleted on the target by a row change.
    Delete,
}

/// The kinds of row changes of one table that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
}

impl Default for Operations {
    fn default() -> Self {
        Self { insert: true, update: true, delete: true }
    }
}

impl From<&[Operation]> for Operations {
    fn from(listed: &[Operation]) -> Self {
        let has = |operation| listed.contains(&operation);
        Self {
            insert: has(Operation::Insert),
            update: has(Operation::Update),
            delete: has(Operation::Delete),
        }
    }
}

fn all_operations() -> Vec<Operation> {
    vec![Operation::Insert, Operation::Update, Operation::Delete]
}

/// DDL policies of one table; what is left out is as in the task's `ddl`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableDdl {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_table: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_table: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate_table: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rename_table: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_column: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_column: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rename_column: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modify_column: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<DdlPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<DdlPolicy>,
}

impl DdlPolicies {
    /// One policy for every kind.
    pub fn all(policy: DdlPolicy) -> Self {
        Self {
            create_database: policy,
            drop_database: policy,
            create_table: policy,
            drop_table: policy,
            truncate_table: policy,
            rename_table: policy,
            add_column: policy,
            drop_column: policy,
            rename_column: policy,
            modify_column: policy,
            partition: policy,
            view: policy,
            other: policy,
        }
    }

    /// The policies of a table.
    pub fn overridden(self, table: &TableDdl) -> Self {
        Self {
            create_database: self.create_database,
            drop_database: self.drop_database,
            create_table: table.create_table.unwrap_or(self.create_table),
            drop_table: table.drop_table.unwrap_or(self.drop_table),
            truncate_table: table.truncate_table.unwrap_or(self.truncate_table),
            rename_table: table.rename_table.unwrap_or(self.rename_table),
            add_column: table.add_column.unwrap_or(self.add_column),
            drop_column: table.drop_column.unwrap_or(self.drop_column),
            rename_column: table.rename_column.unwrap_or(self.rename_column),
            modify_column: table.modify_column.unwrap_or(self.modify_column),
            partition: table.partition.unwrap_or(self.partition),
            view: table.view.unwrap_or(self.view),
            other: table.other.unwrap_or(self.other),
        }
    }
}

impl DdlPolicies {
    /// Of tables that are merged: what one of them does must not reach the others' rows. They are created; nothing else is applied.
    pub fn merged(self) -> Self {
        let off = |policy| if policy == DdlPolicy::Apply { DdlPolicy::Ignore } else { policy };
        Self {
            create_database: self.create_database,
            create_table: self.create_table,
            drop_database: off(self.drop_database),
            drop_table: off(self.drop_table),
            truncate_table: off(self.truncate_table),
            rename_table: off(self.rename_table),
            add_column: off(self.add_column),
            drop_column: off(self.drop_column),
            rename_column: off(self.rename_column),
            modify_column: off(self.modify_column),
            partition: off(self.partition),
            view: off(self.view),
            other: off(self.other),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    #[default]
    Partitioned,
    Dimension,
}

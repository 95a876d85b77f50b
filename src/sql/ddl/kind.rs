//! Which policy of a task decides about a statement or clause.

use super::ast::{AlterClause, Statement};

/// The fields of [`crate::task::spec::DdlPolicies`], by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DdlKind {
    CreateDatabase,
    DropDatabase,
    CreateTable,
    DropTable,
    TruncateTable,
    RenameTable,
    AddColumn,
    DropColumn,
    RenameColumn,
    ModifyColumn,
    Partition,
    View,
    /// What has no policy of its own and changes rows in a way no message tells.
    Other,
}

impl DdlKind {
    /// The name of the policy in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateDatabase => "create_database",
            Self::DropDatabase => "drop_database",
            Self::CreateTable => "create_table",
            Self::DropTable => "drop_table",
            Self::TruncateTable => "truncate_table",
            Self::RenameTable => "rename_table",
            Self::AddColumn => "add_column",
            Self::DropColumn => "drop_column",
            Self::RenameColumn => "rename_column",
            Self::ModifyColumn => "modify_column",
            Self::Partition => "partition",
            Self::View => "view",
            Self::Other => "other",
        }
    }
}

impl Statement {
    /// The policies that decide about this statement, each once, in the order of its clauses. None for what needs no decision:
    /// harmless statements, indexes, the default character set of a database.
    pub fn kinds(&self) -> Vec<DdlKind> {
        let kind = match self {
            Self::CreateDatabase { .. } => DdlKind::CreateDatabase,
            Self::DropDatabase { .. } => DdlKind::DropDatabase,
            Self::CreateTable { .. } | Self::CreateTableLike { .. } => DdlKind::CreateTable,
            Self::DropTable { .. } => DdlKind::DropTable,
            Self::TruncateTable { .. } => DdlKind::TruncateTable,
            Self::RenameTable { .. } => DdlKind::RenameTable,
            Self::View { .. } => DdlKind::View,
            Self::Recover { .. } => DdlKind::Other,
            Self::AlterTable { clauses, .. } => {
                let mut kinds = Vec::new();
                for kind in clauses.iter().flat_map(AlterClause::kinds) {
                    if !kinds.contains(kind) {
                        kinds.push(*kind);
                    }
                }
                return kinds;
            }
            Self::AlterDatabase { .. }
            | Self::CreateIndex { .. }
            | Self::DropIndex { .. }
            | Self::Harmless { .. } => return Vec::new(),
        };
        vec![kind]
    }
}

impl AlterClause {
    /// The policies that decide about this clause; none for keys, comments, default character sets and harmless clauses.
    ///
    /// A CHANGE COLUMN that gives a new name asks both RENAME and MODIFY: its text does not say whether the type stays.
    pub fn kinds(&self) -> &'static [DdlKind] {
        match self {
            Self::AddColumn { .. } => &[DdlKind::AddColumn],
            Self::DropColumn { .. } => &[DdlKind::DropColumn],
            Self::ChangeColumn { old, column, .. } if *old != column.name => {
                &[DdlKind::RenameColumn, DdlKind::ModifyColumn]
            }
            Self::ChangeColumn { .. } | Self::SetDefault { .. } | Self::ConvertCharset { .. } => {
                &[DdlKind::ModifyColumn]
            }
            Self::RenameColumn { .. } => &[DdlKind::RenameColumn],
            Self::Rename { .. } => &[DdlKind::RenameTable],
            Self::AddPartitions { .. }
            | Self::DropPartitions { .. }
            | Self::FirstPartition { .. }
            | Self::TruncatePartitions { .. }
            | Self::ReorganizePartitions { .. }
            | Self::SetPartitioning { .. }
            | Self::ChangePartitionCount { .. } => &[DdlKind::Partition],
            Self::ExchangePartition { .. } => &[DdlKind::Other],
            Self::AddKey { .. }
            | Self::DropPrimaryKey
            | Self::DropKey { .. }
            | Self::RenameKey { .. }
            | Self::DefaultCharset { .. }
            | Self::Comment { .. }
            | Self::Harmless { .. } => &[],
        }
    }
}

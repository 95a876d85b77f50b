//! What the task's DDL policies allow, and how the catalog stays true to both sides when they pass a clause over.

use super::{Planner, refuse};
use crate::error::Result;
use crate::incremental::catalog::TableEntry;
use crate::model::TableName;
use crate::sql::ddl::ast::AlterClause;
use crate::sql::ddl::kind::DdlKind;
use crate::task::spec::{DdlPolicies, DdlPolicy};

fn policy_of(policies: &DdlPolicies, kind: DdlKind) -> DdlPolicy {
    match kind {
        DdlKind::CreateDatabase => policies.create_database,
        DdlKind::DropDatabase => policies.drop_database,
        DdlKind::CreateTable => policies.create_table,
        DdlKind::DropTable => policies.drop_table,
        DdlKind::TruncateTable => policies.truncate_table,
        DdlKind::RenameTable => policies.rename_table,
        DdlKind::AddColumn => policies.add_column,
        DdlKind::DropColumn => policies.drop_column,
        DdlKind::RenameColumn => policies.rename_column,
        DdlKind::ModifyColumn => policies.modify_column,
        DdlKind::Partition => policies.partition,
        DdlKind::View => policies.view,
        DdlKind::Other => policies.other,
    }
}

impl Planner<'_> {
    /// True when the policy says apply; notes what it passes over.
    pub(super) fn allowed(&mut self, kind: DdlKind, object: &TableName) -> Result<bool> {
        match policy_of(&self.catalog.ddl_policies(object), kind) {
            DdlPolicy::Apply => Ok(true),
            DdlPolicy::Ignore => {
                self.steps.notes.push(format!("{}: ignored by policy", kind.as_str()));
                Ok(false)
            }
            DdlPolicy::Stop => Err(refuse(
                format!("the task stops at {} by policy", kind.as_str()),
                format!(
                    "set ddl.{} (the task's, or the table's own) to apply or ignore and resume the task",
                    kind.as_str()
                ),
            )
            .object(object)),
        }
    }
}

/// Keeps the catalog true to both sides when a policy passes a clause over.
pub(super) fn passed_over(before: &TableEntry, entry: &mut TableEntry, clause: &AlterClause) -> Result<()> {
    match clause {
        AlterClause::AddColumn { column, .. } => entry.hidden.push(column.name.clone()),
        AlterClause::DropColumn { .. } => entry.keep_other_columns = true,
        AlterClause::ChangeColumn { old, column, .. } if old.eq_ignore_ascii_case(&column.name) => {}
        AlterClause::ChangeColumn { .. } | AlterClause::RenameColumn { .. } => {
            return Err(refuse(
                "a column rename passed over by policy leaves its values without a column",
                "set ddl.rename_column to apply",
            )
            .object(&before.table.name));
        }
        _ => {}
    }
    Ok(())
}

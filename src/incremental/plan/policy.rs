//! What the task's DDL policies allow, and how the catalog stays true to both sides when they pass a clause over.

use super::{Planner, refuse};
use crate::error::{Error, ErrorKind, Result};
use crate::incremental::catalog::TableEntry;
use crate::model::TableName;
use crate::sql::ddl::ast::AlterClause;
use crate::sql::ddl::kind::DdlKind;
use crate::task::spec::{DdlPolicies, DdlPolicy, OnlineDdlMode};

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
    pub(super) fn policy(&self, kind: DdlKind, object: &TableName) -> DdlPolicy {
        policy_of(&self.catalog.ddl_policies(object), kind)
    }

    /// True when the policy says apply; notes what it passes over.
    pub(super) fn allowed(&mut self, kind: DdlKind, object: &TableName) -> Result<bool> {
        match self.policy(kind, object) {
            DdlPolicy::Apply | DdlPolicy::Rebuild => Ok(true),
            DdlPolicy::Ignore => {
                self.steps.notes.push(format!("{}: ignored by policy", kind.as_str()));
                Ok(false)
            }
            DdlPolicy::Stop => Err(stopped(
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

impl Planner<'_> {
    /// Whether this is the shadow table of an online DDL that the policy leaves out.
    ///
    /// # Errors
    /// The policy stops at it.
    pub(super) fn shadow(&mut self, name: &TableName) -> Result<bool> {
        let Some(real) = self.shadow_of(name) else { return Ok(false) };
        let what = format!(
            "{name} looks like the shadow table of an online DDL (gh-ost, pt-online-schema-change) of {real}"
        );
        match self.catalog.spec().online_ddl.mode {
            OnlineDdlMode::Follow => {
                self.steps.notes.push(format!("{what}: it is synchronised like any table"));
                Ok(false)
            }
            OnlineDdlMode::Ignore => {
                self.steps.notes.push(format!("{what}: it is left out, and {real} is copied again when it takes its place"));
                Ok(true)
            }
            OnlineDdlMode::Stop => Err(stopped(
                what,
                "set online_ddl.mode to follow (synchronise it like any table) or ignore (copy the real table again at the end), and resume; or change online_ddl.shadow_patterns",
            )
            .object(name)),
        }
    }

    /// The known table that this one is a shadow of.
    pub(super) fn shadow_of(&self, name: &TableName) -> Option<TableName> {
        self.catalog.selection().shadow_of(name).filter(|real| self.catalog.entry(real).is_some())
    }

    /// A shadow table that the policy leaves out.
    pub(super) fn is_left_out(&self, name: &TableName) -> bool {
        self.catalog.spec().online_ddl.mode == OnlineDdlMode::Ignore && self.shadow_of(name).is_some()
    }
}

fn stopped(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::StoppedByPolicy, message).hint(hint)
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

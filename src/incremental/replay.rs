//! Which DDL lies in the way when a checkpoint is moved (design.md 10.6).
//!
//! Going back, rows are applied again to tables that have seen the DDL already. They end equal where each row finds all that it
//! carries, or carries more than is wanted: after ADD COLUMN with a plain default, DROP COLUMN and indexes that are not unique. All
//! else would leave rows that nothing removes (TRUNCATE), put them into another table (RENAME, DROP) or change values (MODIFY).
//! Going forward, the target would never see the DDL: each one of the task's tables is in the way.

use crate::model::{ColumnDefault, KeyKind, TableName};
use crate::sql::ddl;
use crate::sql::ddl::ast::{AlterClause, ObjectName, Statement};
use crate::task::selection::Selection;

/// Why rows from before this DDL cannot be applied again; None when they can.
pub fn blocks_replay(text: &[u8]) -> Option<String> {
    let Ok(statements) = ddl::parse(text) else {
        return Some("it cannot be read".to_owned());
    };
    statements.iter().find_map(|statement| match statement {
        Statement::CreateDatabase { .. }
        | Statement::CreateTable { .. }
        | Statement::CreateTableLike { .. }
        | Statement::DropIndex { .. }
        | Statement::View { .. }
        | Statement::Harmless { .. } => None,
        Statement::CreateIndex { key, .. } => blocking_key(key.kind),
        Statement::AlterTable { clauses, .. } => blocking_clauses(clauses),
        Statement::AlterDatabase { .. } => Some("it changes the defaults of later tables".to_owned()),
        Statement::DropDatabase { .. } | Statement::DropTable { .. } => {
            Some("rows of what was dropped would come back".to_owned())
        }
        Statement::TruncateTable { .. } => Some("rows from before it would come back".to_owned()),
        Statement::RenameTable { .. } => Some("rows from before it carry other names".to_owned()),
        Statement::Recover { .. } => Some("it brings rows that the stream does not carry".to_owned()),
    })
}

fn blocking_key(kind: KeyKind) -> Option<String> {
    matches!(kind, KeyKind::Primary | KeyKind::Unique)
        .then(|| "rows from before it may break its unique key".to_owned())
}

fn blocking_clauses(clauses: &[AlterClause]) -> Option<String> {
    let adds = clauses.iter().any(|clause| matches!(clause, AlterClause::AddColumn { .. }));
    let drops = clauses.iter().any(|clause| matches!(clause, AlterClause::DropColumn { .. }));
    if adds && drops {
        return Some("it adds and drops columns at once".to_owned());
    }
    clauses.iter().find_map(|clause| match clause {
        AlterClause::AddColumn { column, keys, .. } => match &column.default {
            None | Some(ColumnDefault::Null | ColumnDefault::Literal(_) | ColumnDefault::Bits(_)) => {
                keys.iter().find_map(|key| blocking_key(key.kind))
            }
            Some(_) => Some(format!("column {} began with a value of its own in each row", column.name)),
        },
        AlterClause::AddKey { key, .. } => blocking_key(key.kind),
        AlterClause::DropColumn { .. }
        | AlterClause::DropKey { .. }
        | AlterClause::RenameKey { .. }
        | AlterClause::DefaultCharset { .. }
        | AlterClause::Comment { .. }
        | AlterClause::AddPartitions { .. }
        | AlterClause::Harmless { .. } => None,
        _ => Some("it changes names, types or rows".to_owned()),
    })
}

/// Whether one of these adds columns and another drops some: rows from before would lack what the table has and have what it lacks.
pub fn adds_and_drops<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut adds, mut drops) = (false, false);
    for text in texts {
        for statement in ddl::parse(text.as_bytes()).unwrap_or_default() {
            if let Statement::AlterTable { clauses, .. } = statement {
                adds |= clauses.iter().any(|clause| matches!(clause, AlterClause::AddColumn { .. }));
                drops |= clauses.iter().any(|clause| matches!(clause, AlterClause::DropColumn { .. }));
            }
        }
    }
    adds && drops
}

/// Whether a DDL event concerns tables of the task. What cannot be read may.
pub fn concerns(schema: &str, table: &str, text: &[u8], selection: &Selection) -> bool {
    let selected = |name: &ObjectName| {
        let name = name.or_schema(schema);
        selection.selects(&name) || (name.schema.is_empty() && selection.could_select_schema(schema))
    };
    if !table.is_empty() && selection.selects(&TableName::new(schema, table)) {
        return true;
    }
    let Ok(statements) = ddl::parse(text) else {
        return schema.is_empty() || selection.could_select_schema(schema);
    };
    statements.iter().any(|statement| match statement {
        // Their tables come with DDL of their own.
        Statement::CreateDatabase { .. } | Statement::Harmless { .. } | Statement::View { .. } => false,
        Statement::AlterDatabase { name, .. } => {
            selection.could_select_schema(name.as_deref().unwrap_or(schema))
        }
        Statement::DropDatabase { name, .. } => selection.could_select_schema(name),
        Statement::CreateTable { name, .. }
        | Statement::TruncateTable { name }
        | Statement::AlterTable { name, .. } => selected(name),
        Statement::CreateTableLike { name, .. } => selected(name),
        Statement::DropTable { names, .. } | Statement::Recover { names } => names.iter().any(selected),
        Statement::RenameTable { pairs } => pairs.iter().any(|(from, to)| selected(from) || selected(to)),
        Statement::CreateIndex { table, .. } | Statement::DropIndex { table, .. } => selected(table),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rows_from_before_can_meet() {
        for (text, passes) in [
            ("CREATE TABLE a.t (id INT PRIMARY KEY)", true),
            ("ALTER TABLE a.t ADD COLUMN c INT", true),
            ("ALTER TABLE a.t ADD COLUMN c INT NOT NULL DEFAULT 3, ADD INDEX k (c)", true),
            ("ALTER TABLE a.t DROP COLUMN c", true),
            ("CREATE INDEX k ON a.t (c)", true),
            ("ALTER TABLE a.t COMMENT 'x'", true),
            ("ALTER TABLE a.t ADD COLUMN c DATETIME DEFAULT CURRENT_TIMESTAMP", false),
            ("ALTER TABLE a.t ADD COLUMN c INT UNIQUE", false),
            ("ALTER TABLE a.t ADD COLUMN c INT, DROP COLUMN d", false),
            ("CREATE UNIQUE INDEX k ON a.t (c)", false),
            ("ALTER TABLE a.t MODIFY COLUMN c BIGINT", false),
            ("ALTER TABLE a.t RENAME COLUMN c TO d", false),
            ("ALTER TABLE a.t DROP PARTITION p", false),
            ("RENAME TABLE a.t TO a.u", false),
            ("TRUNCATE TABLE a.t", false),
            ("DROP TABLE a.t", false),
            ("not a DDL", false),
        ] {
            assert_eq!(blocks_replay(text.as_bytes()).is_none(), passes, "{text}");
        }
    }
}

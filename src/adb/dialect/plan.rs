//! How the plan of a table is made: identity first, then columns, then keys. Problems are collected, not thrown: a person sees all at once.

use super::charset::{self, SourceText, TargetText};
use super::keys;
use super::problem::Problem;
use super::table::{TableOptions, TargetTable};
use crate::model::{ColumnType, Dialect, Table, TableName};
use crate::sql::literal;
use crate::task::spec::Operations;

/// The work of [`TargetTable::new`]; problems name the object within the table.
pub(super) struct Plan<'a> {
    pub(super) dialect: Dialect,
    pub(super) source: &'a Table,
    pub(super) options: &'a TableOptions,
    pub(super) table_text: Option<SourceText>,
    pub(super) schema_text: Option<SourceText>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(dialect: Dialect, source: &'a Table, options: &'a TableOptions) -> Self {
        Self {
            dialect,
            source,
            options,
            table_text: SourceText::said(source.charset.as_deref(), source.collation.as_deref()),
            schema_text: SourceText::said(
                options.schema_charset.as_deref(),
                options.schema_collation.as_deref(),
            ),
            problems: Vec::new(),
        }
    }

    pub(super) fn warn(&mut self, object: &str, detail: impl Into<String>, hint: &str) {
        self.problems.push(Problem::warn(object, detail, hint));
    }

    pub(super) fn refuse(&mut self, object: &str, detail: impl Into<String>, hint: &str) {
        self.problems.push(Problem::refuse(object, detail, hint));
    }

    pub(super) fn map_text(&self, source: &SourceText) -> TargetText {
        charset::map(source, self.options.bytewise, &self.options.collations)
    }

    pub(super) fn build(&mut self, target: TableName) -> TargetTable {
        let layout = self.layout();
        let texts: Vec<(ColumnType, TargetText)> = self.column_types(&layout);
        let (columns, generated) = match self.dialect {
            Dialect::Mysql => self.mysql_columns(&texts, &layout),
            Dialect::Adb => self.adb_columns(&texts, &layout),
        };
        let index_of = |source: usize| columns.iter().position(|column| column.source_index == source);
        let identity: Option<Vec<usize>> =
            layout.identity.as_ref().map(|sources| sources.iter().filter_map(|at| index_of(*at)).collect());
        let keys = match self.dialect {
            Dialect::Mysql => self.mysql_keys(&texts, &columns, &generated),
            Dialect::Adb => keys::adb_keys(identity.as_deref(), &columns),
        };
        let has_other_unique_keys = keys::other_unique_keys(&keys, identity.as_deref(), &columns);
        let table_text = self
            .table_text
            .clone()
            .or_else(|| self.schema_text.clone())
            .map(|source| self.map_text(&source))
            .unwrap_or_else(|| self.map_text(&SourceText::default()));
        let text = (table_text.charset, table_text.collation);
        let tail = match self.dialect {
            Dialect::Mysql => format!(" DEFAULT CHARACTER SET {} COLLATE {}", text.0, text.1),
            Dialect::Adb => {
                self.check_adb_name(&target.table);
                self.adb_tail(&layout)
            }
        };
        let limit = if self.dialect == Dialect::Mysql { 2048 } else { 1024 };
        let comment = Some(&self.source.comment)
            .filter(|comment| !comment.is_empty())
            .map(|comment| literal::string(&self.comment("*", comment, limit)));
        if columns.is_empty() && !self.problems.iter().any(Problem::is_refusal) {
            self.refuse("*", "no column of this table can be on the target", "exclude the table");
        }
        TargetTable {
            dialect: self.dialect,
            source: self.source.name.clone(),
            name: target,
            columns,
            generated,
            identity,
            keys,
            has_other_unique_keys,
            filter: None,
            operations: Operations::default(),
            warnings: Vec::new(),
            tail,
            comment,
            text,
        }
    }
}

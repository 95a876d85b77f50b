//! Which columns identify a row on the target, and on adb distribute and partition it.

use super::partition::{PartitionExpression, PartitionFunction};
use super::plan::Plan;
use crate::model::{Dialect, Key, TypeName};
use crate::sql::literal;
use crate::task::spec::{LossyPolicy, TableKind};

/// Indexes into the source's columns.
pub(super) struct Layout {
    pub(super) identity: Option<Vec<usize>>,
    pub(super) distribution: Option<Vec<usize>>,
    pub(super) partition: Option<(usize, PartitionExpression)>,
}

impl Layout {
    pub(super) fn is_identity(&self, index: usize) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.contains(&index))
    }
}

impl Plan<'_> {
    pub(super) fn layout(&mut self) -> Layout {
        let key: Option<Vec<usize>> = match &self.options.primary_key {
            Some(names) => Some(self.named_columns("primary_key", names)),
            None => self
                .source
                .identity()
                .and_then(Key::columns)
                .map(|names| names.iter().filter_map(|name| self.source.column_index(name)).collect()),
        };
        let distribution =
            self.options.distribute_by.clone().map(|names| self.named_columns("distribute_by", &names));
        let partition = self.options.partition_by.clone().and_then(|text| self.partition(&text));
        if self.dialect == Dialect::Mysql {
            return Layout { identity: key, distribution: None, partition: None };
        }
        if self.options.kind == TableKind::Dimension && (distribution.is_some() || partition.is_some()) {
            self.refuse(
                "*",
                "a dimension table is on every node: it has no distribution or partition",
                "leave out distribute_by and partition_by, or make it `partitioned`",
            );
        }
        if self.options.lifecycle_partitions.is_some() && partition.is_none() {
            self.refuse("*", "lifecycle_partitions without partition_by", "say partition_by");
        }
        if self.options.lifecycle_partitions == Some(0) {
            self.refuse("*", "lifecycle_partitions is 0", "keep at least one partition");
        }
        let Some(key) = key else {
            self.refuse(
                "*",
                "no primary key, and no unique key of NOT NULL columns that the stream carries: the target would keep every repeated change as a new row",
                "add a key at the source, name one in tables.<t>.primary_key, or exclude the table",
            );
            return Layout { identity: None, distribution, partition };
        };
        // The primary key must contain both, those first (target-adb-and-dts.md 3.1).
        let mut identity = Vec::new();
        for index in distribution.iter().flatten().chain(partition.iter().map(|(index, _)| index)).chain(&key)
        {
            if !identity.contains(index) {
                identity.push(*index);
            }
        }
        let distribution = distribution.or(Some(key));
        Layout { identity: Some(identity), distribution, partition }
    }

    /// Columns that a key is made of: known, not generated, never NULL.
    pub(super) fn named_columns(&mut self, field: &str, names: &[String]) -> Vec<usize> {
        let mut found = Vec::new();
        if names.is_empty() {
            self.refuse("*", format!("{field} names no column"), "name a column, or leave it out");
        }
        for name in names {
            let Some(index) = self.source.column_index(name) else {
                self.refuse(
                    name,
                    format!("{field} names a column that the table does not have"),
                    "correct the spec",
                );
                continue;
            };
            self.check_key_column(field, index);
            if found.contains(&index) {
                self.refuse(name, format!("{field} names a column twice"), "correct the spec");
            } else {
                found.push(index);
            }
        }
        found
    }

    pub(super) fn check_key_column(&mut self, field: &str, index: usize) {
        let Some(column) = self.source.columns.get(index) else { return };
        let name = column.name.clone();
        if column.generated.is_some() {
            self.refuse(
                &name,
                format!("{field} names a generated column, whose values the stream does not carry"),
                "name another column",
            );
        } else if column.nullable && !self.in_primary_key(&name) {
            self.refuse(&name, format!("{field} names a column that may be NULL"), "name a NOT NULL column");
        }
    }

    pub(super) fn in_primary_key(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.source
            .primary_key()
            .and_then(Key::columns)
            .is_some_and(|columns| columns.iter().any(|column| column.to_lowercase() == name))
    }

    pub(super) fn partition(&mut self, text: &str) -> Option<(usize, PartitionExpression)> {
        let expression = match PartitionExpression::parse(text) {
            Ok(expression) => expression,
            Err(accepted) => {
                self.refuse("partition_by", accepted, "correct the spec");
                return None;
            }
        };
        let Some(index) = self.source.column_index(&expression.column) else {
            self.refuse(
                &expression.column,
                "partition_by names a column that the table does not have",
                "correct the spec",
            );
            return None;
        };
        self.check_key_column("partition_by", index);
        let column = self.source.columns.get(index)?;
        let ty = column.ty.name;
        let dated = matches!(ty, TypeName::Date | TypeName::DateTime | TypeName::Timestamp);
        let lossy = &self.options.lossy;
        let fine = ty != TypeName::Date && column.ty.length.unwrap_or(0) > 3;
        let text =
            lossy.zero_date == LossyPolicy::Varchar || (fine && lossy.fraction == LossyPolicy::Varchar);
        let fits = match &expression.function {
            Some(PartitionFunction::DateFormat(_)) => dated && !text,
            Some(PartitionFunction::FromUnixtime(_)) => ty.is_integer(),
            None => ty.is_integer() || dated || matches!(ty, TypeName::Char | TypeName::VarChar),
        };
        if !fits {
            self.refuse(
                &expression.column,
                "partition_by does not fit the column's type on the target",
                "DATE_FORMAT takes dates (that no lossy policy turns into text), FROM_UNIXTIME integers, a bare column integers, dates and text",
            );
        }
        Some((index, expression))
    }

    pub(super) fn adb_tail(&mut self, layout: &Layout) -> String {
        let source = self.source;
        let name =
            |index: &usize| source.columns.get(*index).map(|column| column.name.as_str()).unwrap_or_default();
        let mut tail = match (&layout.distribution, self.options.kind) {
            (_, TableKind::Dimension) => " DISTRIBUTED BY BROADCAST".to_owned(),
            (Some(columns), TableKind::Partitioned) => {
                let names: Vec<_> = columns.iter().map(|index| literal::name(name(index))).collect();
                format!(" DISTRIBUTED BY HASH({})", names.join(", "))
            }
            (None, TableKind::Partitioned) => String::new(),
        };
        if let Some((index, expression)) = &layout.partition {
            tail.push_str(&format!(" PARTITION BY VALUE({})", expression.sql(name(index))));
            if let Some(count) = self.options.lifecycle_partitions {
                tail.push_str(&format!(" LIFECYCLE {count}"));
            }
        }
        tail
    }
}

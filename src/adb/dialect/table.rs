//! The plan of one table on one target.

use std::collections::{BTreeMap, BTreeSet};

use super::charset::{self, Collations, SourceText, TargetText};
use super::partition::{PartitionExpression, PartitionFunction};
use super::problem::Problem;
use super::{default, generated, mysql_limits, types};
use crate::adb::encode::{Encoder, Form};
use crate::model::{Column, ColumnType, Dialect, Key, KeyKind, KeyPart, Table, TableName, TypeName};
use crate::sql::literal;
use crate::task::spec::{LossyPolicies, LossyPolicy, TableKind, TableSpec};

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

/// Names of the keys in order: TiDB's own (the first column, `_2` and so on when taken) where the statement gave none.
pub(super) fn key_names(keys: &[Key]) -> Vec<String> {
    let mut taken: BTreeSet<String> =
        keys.iter().filter_map(|key| key.name.as_ref()).map(|name| name.to_lowercase()).collect();
    keys.iter()
        .map(|key| {
            if key.kind == KeyKind::Primary {
                return "PRIMARY".to_owned();
            }
            if let Some(name) = &key.name {
                return name.clone();
            }
            let base = match key.parts.first() {
                Some(KeyPart::Column { name, .. }) => name.clone(),
                _ => "expression_index".to_owned(),
            };
            let name = std::iter::once(base.clone())
                .chain((2..).map(|number| format!("{base}_{number}")))
                .find(|name| !taken.contains(&name.to_lowercase()) && !name.eq_ignore_ascii_case("primary"))
                .unwrap_or(base);
            taken.insert(name.to_lowercase());
            name
        })
        .collect()
}

/// The work of [`TargetTable::new`]; problems name the object within the table.
struct Plan<'a> {
    dialect: Dialect,
    source: &'a Table,
    options: &'a TableOptions,
    table_text: Option<SourceText>,
    schema_text: Option<SourceText>,
    problems: Vec<Problem>,
}

impl<'a> Plan<'a> {
    fn new(dialect: Dialect, source: &'a Table, options: &'a TableOptions) -> Self {
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

    fn warn(&mut self, object: &str, detail: impl Into<String>, hint: &str) {
        self.problems.push(Problem::warn(object, detail, hint));
    }

    fn refuse(&mut self, object: &str, detail: impl Into<String>, hint: &str) {
        self.problems.push(Problem::refuse(object, detail, hint));
    }

    fn map_text(&self, source: &SourceText) -> TargetText {
        charset::map(source, self.options.bytewise, &self.options.collations)
    }

    fn build(&mut self, target: TableName) -> TargetTable {
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
            Dialect::Adb => adb_keys(identity.as_deref(), &columns),
        };
        let identity_name = self.identity_key_name();
        let has_other_unique_keys = keys
            .iter()
            .any(|key| key.is_unique() && (identity.is_none() || Some(&key.name) != identity_name.as_ref()));
        let table_text = self
            .table_text
            .clone()
            .or_else(|| self.schema_text.clone())
            .map(|source| self.map_text(&source))
            .unwrap_or_else(|| self.map_text(&SourceText::default()));
        let text = (table_text.charset, table_text.collation);
        let tail = match self.dialect {
            Dialect::Mysql => format!(" DEFAULT CHARACTER SET {} COLLATE {}", text.0, text.1),
            Dialect::Adb => self.adb_tail(&layout),
        };
        let limit = if self.dialect == Dialect::Mysql { 2048 } else { 1024 };
        let comment = Some(&self.source.comment)
            .filter(|comment| !comment.is_empty())
            .map(|comment| literal::string(&self.comment("*", comment, limit)));
        if columns.is_empty() {
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
            warnings: Vec::new(),
            tail,
            comment,
            text,
        }
    }

    // Which columns identify, distribute and partition.

    fn layout(&mut self) -> Layout {
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
    fn named_columns(&mut self, field: &str, names: &[String]) -> Vec<usize> {
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

    fn check_key_column(&mut self, field: &str, index: usize) {
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

    fn in_primary_key(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.source
            .primary_key()
            .and_then(Key::columns)
            .is_some_and(|columns| columns.iter().any(|column| column.to_lowercase() == name))
    }

    fn partition(&mut self, text: &str) -> Option<(usize, PartitionExpression)> {
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
        let ty = self.source.columns.get(index).map(|column| column.ty.name)?;
        let dated = matches!(ty, TypeName::Date | TypeName::DateTime | TypeName::Timestamp);
        let fits = match &expression.function {
            Some(PartitionFunction::DateFormat(_)) => {
                dated && self.options.lossy.zero_date != LossyPolicy::Varchar
            }
            Some(PartitionFunction::FromUnixtime(_)) => ty.is_integer(),
            None => ty.is_integer() || dated || matches!(ty, TypeName::Char | TypeName::VarChar),
        };
        if !fits {
            self.refuse(
                &expression.column,
                "partition_by does not fit the column's type on the target",
                "DATE_FORMAT takes dates, FROM_UNIXTIME integers, a bare column integers, dates and text",
            );
        }
        Some((index, expression))
    }

    // Columns.

    /// The source's types with their text, as the target needs them before they are mapped.
    fn column_types(&mut self, layout: &Layout) -> Vec<(ColumnType, TargetText)> {
        let mut texts: Vec<_> = self
            .source
            .columns
            .iter()
            .map(|column| {
                let said =
                    charset::of_column(&column.ty, self.table_text.as_ref(), self.schema_text.as_ref());
                let text = self.map_text(&said);
                let mut ty = column.ty.clone();
                if text.charset == "binary" && column.ty.charset.is_some() {
                    ty.name = charset::binary_twin(ty.name);
                } else if text.charset == "binary" && ty.name.is_text() {
                    ty.name = charset::binary_twin(ty.name);
                }
                (ty, text)
            })
            .collect();
        if self.dialect == Dialect::Adb {
            return texts;
        }
        self.warn_collations(&texts);
        if texts.len() > mysql_limits::COLUMNS {
            self.refuse(
                "*",
                format!("more than the {} columns of the target", mysql_limits::COLUMNS),
                "exclude the table",
            );
        }
        let whole_in_key: BTreeSet<usize> = self
            .source
            .keys
            .iter()
            .flat_map(|key| &key.parts)
            .filter_map(|part| match part {
                KeyPart::Column { name, prefix: None } => self.source.column_index(name),
                _ => None,
            })
            .chain(layout.identity.iter().flatten().copied())
            .collect();
        let movable: Vec<bool> = (0..texts.len()).map(|index| !whole_in_key.contains(&index)).collect();
        let (changed, fits) = mysql_limits::fit_row(&mut texts, &movable);
        for index in changed {
            if let Some(column) = self.source.columns.get(index) {
                let name = column.name.clone();
                self.warn(
                    &name,
                    "becomes TEXT or BLOB: the row would be larger than the 65,535 bytes of the target",
                    "nothing: it takes the same values",
                );
            }
        }
        if !fits {
            self.refuse("*", "rows are larger than the 65,535 bytes of the target", "exclude the table");
        }
        texts
    }

    fn warn_collations(&mut self, texts: &[(ColumnType, TargetText)]) {
        let mut differing: BTreeMap<(String, &'static str), Vec<String>> = BTreeMap::new();
        for (column, (ty, text)) in self.source.columns.iter().zip(texts) {
            let textual = ty.name.is_text() || matches!(ty.name, TypeName::Enum | TypeName::Set);
            if let (true, Some(differs)) = (textual, text.differs) {
                differing.entry((text.collation.clone(), differs)).or_default().push(column.name.clone());
            }
        }
        for ((collation, differs), names) in differing {
            self.warn(
                &names.join(", "),
                format!("gets the collation {collation}: {differs}"),
                "check that no key depends on it, or use a target that has the source's collation",
            );
        }
    }

    fn comment(&mut self, name: &str, comment: &str, limit: usize) -> String {
        match comment.char_indices().nth(limit) {
            None => comment.to_owned(),
            Some((at, _)) => {
                self.warn(
                    name,
                    format!("its comment is cut to the {limit} characters of the target"),
                    "nothing",
                );
                comment.get(..at).unwrap_or_default().to_owned()
            }
        }
    }

    fn default(&mut self, column: &Column, target_type: &str) -> Option<String> {
        default::clause(self.dialect, column, target_type).unwrap_or_else(|reason| {
            self.warn(
                &column.name,
                format!("its default is left out: {reason}"),
                "nothing: rows carry every value",
            );
            None
        })
    }

    fn written(
        &mut self,
        source_index: usize,
        column: &Column,
        type_text: String,
        form: Form,
    ) -> TargetColumn {
        let nullable = column.nullable && !self.in_primary_key(&column.name);
        let default = self.default(column, &type_text);
        let mut definition = format!("{type_text} {}", if nullable { "NULL" } else { "NOT NULL" });
        if let Some(default) = &default {
            definition.push(' ');
            definition.push_str(default);
        }
        self.push_comment(&mut definition, column);
        TargetColumn {
            source_index,
            name: column.name.clone(),
            type_text,
            nullable,
            definition,
            encoder: Encoder::new(&column.name, form),
            default,
        }
    }

    fn push_comment(&mut self, definition: &mut String, column: &Column) {
        if !column.comment.is_empty() {
            let comment = self.comment(&column.name, &column.comment, 1024);
            definition.push_str(" COMMENT ");
            definition.push_str(&literal::string(&comment));
        }
    }

    fn mysql_columns(
        &mut self,
        texts: &[(ColumnType, TargetText)],
        layout: &Layout,
    ) -> (Vec<TargetColumn>, Vec<GeneratedColumn>) {
        let source = self.source;
        let (mut columns, mut computed) = (Vec::new(), Vec::new());
        for (source_index, (column, (ty, text))) in source.columns.iter().zip(texts).enumerate() {
            let mapped = types::mysql(ty, text);
            let Some(expression) = &column.generated else {
                let mut column = column.clone();
                // An override makes the primary key of the target.
                let identity = self.options.primary_key.is_some() && layout.is_identity(source_index);
                column.nullable &= !identity;
                columns.push(self.written(source_index, &column, mapped.text, mapped.form));
                continue;
            };
            if let Err(reason) = generated::check(&expression.expression, source) {
                self.warn(
                    &column.name,
                    format!("this generated column is left out: {reason}"),
                    "add it on the target by hand if it is needed",
                );
                continue;
            }
            // MariaDB takes no NOT NULL here.
            let mut definition = format!(
                "{} GENERATED ALWAYS AS ({}) {}",
                mapped.text,
                expression.expression,
                if expression.stored { "STORED" } else { "VIRTUAL" }
            );
            self.push_comment(&mut definition, column);
            computed.push(GeneratedColumn { source_index, name: column.name.clone(), definition });
        }
        (columns, computed)
    }

    fn adb_columns(
        &mut self,
        texts: &[(ColumnType, TargetText)],
        layout: &Layout,
    ) -> (Vec<TargetColumn>, Vec<GeneratedColumn>) {
        let source = self.source;
        let mut columns = Vec::new();
        for (source_index, (column, (ty, text))) in source.columns.iter().zip(texts).enumerate() {
            self.check_adb_name(&column.name);
            if column.generated.is_some() {
                self.warn(
                    &column.name,
                    "this generated column is left out: the stream does not carry its values",
                    "compute it in queries",
                );
                continue;
            }
            let column = Column { ty: ty.clone(), ..column.clone() };
            let exact = layout.is_identity(source_index);
            match types::adb(&column, text.latin1, &self.options.lossy, exact) {
                Ok(mapped) => {
                    if mapped.text == "time" && self.options.lossy.time == LossyPolicy::Refuse {
                        self.warn(
                            &column.name,
                            "the target holds times from 00:00:00 to 23:59:59; any other stops the task",
                            "set lossy.time to `clamp` or `varchar` if there are others",
                        );
                    }
                    columns.push(self.written(source_index, &column, mapped.text, mapped.form));
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        if columns.len() > 4096 {
            self.refuse("*", "more than the 4,096 columns of the target", "exclude the table");
        }
        columns
            .iter()
            .filter(|column| layout.is_identity(column.source_index) && column.type_text == "json")
            .map(|column| column.name.clone())
            .collect::<Vec<_>>()
            .iter()
            .for_each(|name| {
                self.refuse(name, "a JSON column cannot be part of a key", "name another column")
            });
        (columns, Vec::new())
    }

    /// 1 to 127 characters, a letter or underscore first (target-adb-and-dts.md 3.1).
    fn check_adb_name(&mut self, name: &str) {
        let starts = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        if !starts || name.chars().count() > 127 {
            self.refuse(
                name,
                "the target takes names of 1 to 127 characters that begin with a letter or underscore",
                "rename it at the source, or exclude it",
            );
        }
    }

    // Keys and what follows the columns.

    /// Name of the target's key that is the identity.
    fn identity_key_name(&self) -> Option<String> {
        if self.dialect == Dialect::Adb || self.options.primary_key.is_some() {
            return Some("PRIMARY".to_owned());
        }
        let identity = self.source.identity()?;
        let at = self.source.keys.iter().position(|key| std::ptr::eq(key, identity))?;
        key_names(&self.source.keys).into_iter().nth(at)
    }

    fn mysql_keys(
        &mut self,
        texts: &[(ColumnType, TargetText)],
        columns: &[TargetColumn],
        generated: &[GeneratedColumn],
    ) -> Vec<TargetKey> {
        let mut keys = Vec::new();
        let overridden = self.options.primary_key.is_some();
        if let Some(names) = &self.options.primary_key {
            let parts = names.iter().map(|name| (name.clone(), None)).collect();
            keys.push(TargetKey { name: "PRIMARY".to_owned(), kind: KeyKind::Primary, parts });
        }
        let source = self.source;
        for (key, name) in source.keys.iter().zip(key_names(&source.keys)) {
            let object = format!("index {name}");
            // The rows of an overridden key may come from several tables: what was unique at the source need not be here.
            let (kind, name) = match key.kind {
                KeyKind::Primary if overridden => (KeyKind::Index, "source_primary".to_owned()),
                KeyKind::Unique if overridden => (KeyKind::Index, name),
                kind => (kind, name),
            };
            let present = |name: &str| {
                let same = |other: &str| other.to_lowercase() == name.to_lowercase();
                columns.iter().any(|column| same(&column.name))
                    || generated.iter().any(|column| same(&column.name))
            };
            let mut parts = Vec::new();
            let mut bytes = 0;
            let mut obstacle = None;
            for part in &key.parts {
                match part {
                    KeyPart::Expression(_) => obstacle = Some("it has an expression"),
                    KeyPart::Column { name, .. } if !present(name) => {
                        obstacle = Some("it has a column that is left out");
                    }
                    KeyPart::Column { name, prefix } => {
                        let width =
                            source.column_index(name).and_then(|at| texts.get(at)).map_or(0, |(ty, text)| {
                                match prefix {
                                    Some(length) if ty.name.is_text() => u64::from(*length) * text.width(),
                                    Some(length) => u64::from(*length),
                                    None => mysql_limits::width(ty, text),
                                }
                            });
                        bytes += width;
                        parts.push((name.clone(), *prefix));
                    }
                }
            }
            if kind == KeyKind::Fulltext {
                obstacle = Some("full-text indexes are not kept");
            } else if bytes > mysql_limits::KEY_BYTES {
                obstacle = Some("it is longer than the 3,072 bytes of the target");
            } else if parts.len() > mysql_limits::KEY_PARTS {
                obstacle = Some("it has more than 16 columns");
            } else if keys.len() >= mysql_limits::SECONDARY_KEYS && kind != KeyKind::Primary {
                obstacle = Some("the target has 64 indexes at most");
            }
            match obstacle {
                None => keys.push(TargetKey { name, kind, parts }),
                Some(why) if kind == KeyKind::Primary => self.refuse(
                    &object,
                    format!("this primary key cannot be on the target: {why}"),
                    "name another key in tables.<t>.primary_key, or exclude the table",
                ),
                Some(why) => self.warn(
                    &object,
                    format!("this index is left out: {why}"),
                    "add one on the target by hand if queries need it",
                ),
            }
        }
        keys
    }

    fn adb_tail(&mut self, layout: &Layout) -> String {
        let source = self.source;
        let name =
            |index: &usize| source.columns.get(*index).map(|column| column.name.as_str()).unwrap_or_default();
        self.check_adb_name(&source.name.table);
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

fn adb_keys(identity: Option<&[usize]>, columns: &[TargetColumn]) -> Vec<TargetKey> {
    let Some(identity) = identity else { return Vec::new() };
    let parts = identity
        .iter()
        .filter_map(|index| columns.get(*index))
        .map(|column| (column.name.clone(), None))
        .collect();
    vec![TargetKey { name: "PRIMARY".to_owned(), kind: KeyKind::Primary, parts }]
}

/// Indexes into the source's columns.
struct Layout {
    identity: Option<Vec<usize>>,
    distribution: Option<Vec<usize>>,
    partition: Option<(usize, PartitionExpression)>,
}

impl Layout {
    fn is_identity(&self, index: usize) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.contains(&index))
    }
}

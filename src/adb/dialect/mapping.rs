//! Which columns of a source table the target gets and under which names, and the column that a merge adds.
//!
//! A table is planned in two steps: [`Mapping::table`] gives the source's table as the target is to see it, and all else (types, keys,
//! statements) is worked out from that. Rules go by the source's names as they are now: after a rename at the source, the rule of the
//! new name counts.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::key_names;
use super::problem::Problem;
use crate::model::{Column, ColumnType, Key, KeyKind, KeyPart, Partitioning, Table, TypeName};
use crate::sql::ddl::ast::AlterClause;
use crate::sql::ddl::replace_columns;
use crate::sql::literal;
use crate::task::spec::ColumnRules;

/// Most characters of a merge's value.
pub const CONSTANT_LENGTH: u32 = 255;

/// A column that holds the same text in every row of one source table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    pub column: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    /// In lower case.
    exclude: BTreeSet<String>,
    /// From the name in lower case.
    rename: BTreeMap<String, String>,
    pub constant: Option<Constant>,
}

/// A source table as the target is to see it.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) table: Table,
    /// Where each column is in the source's table; None for the constant.
    pub(super) places: Vec<Option<usize>>,
    pub(super) problems: Vec<Problem>,
}

impl Mapping {
    pub fn new(rules: Option<&ColumnRules>, constant: Option<Constant>) -> Self {
        let Some(rules) = rules else { return Self { constant, ..Self::default() } };
        Self {
            exclude: rules.exclude.iter().map(|name| name.to_lowercase()).collect(),
            rename: rules.rename.iter().map(|(from, to)| (from.to_lowercase(), to.clone())).collect(),
            constant,
        }
    }

    /// Whether the target gets every column under its own name, and no other.
    pub fn is_plain(&self) -> bool {
        self.exclude.is_empty() && self.rename.is_empty() && self.constant.is_none()
    }

    fn excludes(&self, column: &str) -> bool {
        self.exclude.contains(&column.to_lowercase())
    }

    /// Whether an expression with this column must be written anew.
    fn touches(&self, column: &str) -> bool {
        self.excludes(column) || self.rename.contains_key(&column.to_lowercase())
    }

    fn name<'a>(&'a self, column: &'a str) -> &'a str {
        self.rename.get(&column.to_lowercase()).map_or(column, String::as_str)
    }

    /// `keyed`: the spec names the columns that identify a row.
    pub(super) fn table(&self, source: &Table, keyed: bool) -> Mapped {
        let mut problems = Vec::new();
        let identity = source.identity().and_then(Key::columns).unwrap_or_default();
        for column in identity.iter().filter(|column| !keyed && self.excludes(column)) {
            problems.push(Problem::refuse(
                column,
                "is excluded, and it is part of the key that identifies a row",
                "take it out of columns.exclude, or name the columns of another key in primary_key",
            ));
        }
        let (mut columns, mut places) = (Vec::new(), Vec::new());
        for (place, column) in source.columns.iter().enumerate() {
            if self.excludes(&column.name) {
                continue;
            }
            if let Some(mapped) = self.column(column, source, &mut problems) {
                columns.push(mapped);
                places.push(Some(place));
            }
        }
        if let Some(constant) = &self.constant {
            if constant.value.chars().count() > CONSTANT_LENGTH as usize {
                problems.push(Problem::refuse(
                    &constant.column,
                    format!("merge.value is longer than {CONSTANT_LENGTH} characters for this table"),
                    "shorten it",
                ));
            }
            columns.push(constant_column(constant));
            places.push(None);
        }
        let mut seen = BTreeSet::new();
        for column in &columns {
            if !seen.insert(column.name.to_lowercase()) {
                problems.push(Problem::refuse(
                    &column.name,
                    "two columns would have this name on the target",
                    "give one of them another name in columns.rename, or exclude it",
                ));
            }
        }
        let table = Table {
            columns,
            // A key without a name got it from the source's columns.
            keys: source
                .keys
                .iter()
                .zip(key_names(&source.keys))
                .map(|(key, name)| self.key(key, name))
                .collect(),
            partitioning: source.partitioning.as_ref().map(|parts| self.partitioning(parts, source)),
            ..source.clone()
        };
        Mapped { table, places, problems }
    }

    /// None for a generated column of which the target lacks a part.
    fn column(&self, column: &Column, source: &Table, problems: &mut Vec<Problem>) -> Option<Column> {
        let mut mapped = Column { name: self.name(&column.name).to_owned(), ..column.clone() };
        if let Some(generated) = &mut mapped.generated {
            match self.expression(&generated.expression, source) {
                Some(expression) => generated.expression = expression,
                None => {
                    problems.push(Problem::warn(
                        &column.name,
                        "this generated column is left out: it is computed from an excluded column",
                        "compute it in queries",
                    ));
                    return None;
                }
            }
        }
        Some(mapped)
    }

    /// The expression over the target's names; None when it uses a column that the target does not get.
    fn expression(&self, text: &str, source: &Table) -> Option<String> {
        let excluded = std::cell::Cell::new(false);
        let replaced = replace_columns(text, |name| {
            let column = source.column(name).filter(|column| self.touches(&column.name))?;
            excluded.set(excluded.get() || self.excludes(&column.name));
            Some(literal::name(self.name(&column.name)))
        })?;
        (!excluded.get()).then_some(replaced)
    }

    fn key(&self, key: &Key, name: String) -> Key {
        let mut mapped = Key { name: Some(name), ..key.clone() };
        for part in &mut mapped.parts {
            if let KeyPart::Column { name, .. } = part {
                // An excluded name may be the new name of another column.
                *part = if self.excludes(name) {
                    KeyPart::Expression(literal::name(name))
                } else {
                    let KeyPart::Column { name, prefix } = part.clone() else { continue };
                    KeyPart::Column { name: self.name(&name).to_owned(), prefix }
                };
            }
        }
        if let Some(constant) = &self.constant
            && matches!(key.kind, KeyKind::Primary | KeyKind::Unique)
        {
            mapped.parts.push(KeyPart::Column { name: constant.column.clone(), prefix: None });
        }
        mapped
    }

    fn partitioning(&self, partitioning: &Partitioning, source: &Table) -> Partitioning {
        let unknown =
            || Partitioning::Other { text: "over columns that the target does not have".to_owned() };
        let all = |expressions: &[String], columns: bool| -> Option<Vec<String>> {
            expressions
                .iter()
                .map(|text| {
                    if columns {
                        (!self.excludes(text)).then(|| self.name(text).to_owned())
                    } else {
                        self.expression(text, source)
                    }
                })
                .collect()
        };
        match partitioning {
            Partitioning::Range { expression, columns, partitions } => {
                all(expression, *columns).map(|expression| Partitioning::Range {
                    expression,
                    columns: *columns,
                    partitions: partitions.clone(),
                })
            }
            Partitioning::List { expression, columns, partitions } => {
                all(expression, *columns).map(|expression| Partitioning::List {
                    expression,
                    columns: *columns,
                    partitions: partitions.clone(),
                })
            }
            Partitioning::Hash { expression, count, names } => self
                .expression(expression, source)
                .map(|expression| Partitioning::Hash { expression, count: *count, names: names.clone() }),
            Partitioning::Key { .. } | Partitioning::Other { .. } => Some(partitioning.clone()),
        }
        .unwrap_or_else(unknown)
    }

    /// The table by the target's names, for conditions over it.
    pub fn renamed(&self, source: &Table) -> Table {
        if self.is_plain() { source.clone() } else { self.table(source, true).table }
    }

    /// The clause by the target's names; None when it is about a column that the target does not get.
    ///
    /// # Errors
    /// A column would appear on the target without the values of its rows, or vanish from it, by a rename.
    pub(super) fn clause(
        &self,
        clause: &AlterClause,
        source: &Table,
    ) -> Result<Option<AlterClause>, Problem> {
        let mut mapped = clause.clone();
        match &mut mapped {
            AlterClause::AddColumn { column, .. } => {
                if self.excludes(&column.name) {
                    return Ok(None);
                }
                column.name = self.name(&column.name).to_owned();
            }
            AlterClause::DropColumn { name, .. } | AlterClause::SetDefault { column: name, .. } => {
                if self.excludes(name) {
                    return Ok(None);
                }
                *name = self.name(name).to_owned();
            }
            AlterClause::ChangeColumn { old, column, .. } => {
                if self.both(old, &column.name, source)? {
                    return Ok(None);
                }
                *old = self.name(old).to_owned();
                column.name = self.name(&column.name).to_owned();
            }
            AlterClause::RenameColumn { old, new } => {
                if self.both(old, new, source)? {
                    return Ok(None);
                }
                *old = self.name(old).to_owned();
                *new = self.name(new).to_owned();
            }
            _ => {}
        }
        Ok(Some(mapped))
    }

    /// Whether both names are excluded.
    fn both(&self, old: &str, new: &str, source: &Table) -> Result<bool, Problem> {
        let hint = "take the table out of this task and copy it with a task whose columns.exclude has the new name, or rename the column back";
        match (self.excludes(old), self.excludes(new)) {
            (true, false) => Err(Problem::refuse(
                format!("{}.{new}", source.name),
                format!("was `{old}`, which columns.exclude leaves out: the target has none of its values"),
                hint,
            )),
            (false, true) => Err(Problem::refuse(
                format!("{}.{old}", source.name),
                format!(
                    "was renamed to `{new}`, which columns.exclude leaves out: the target has its values"
                ),
                hint,
            )),
            (excluded, _) => Ok(excluded),
        }
    }
}

fn constant_column(constant: &Constant) -> Column {
    let ty = ColumnType {
        length: Some(CONSTANT_LENGTH),
        charset: Some("utf8mb4".to_owned()),
        collation: Some("utf8mb4_bin".to_owned()),
        ..ColumnType::new(TypeName::VarChar)
    };
    Column {
        name: constant.column.clone(),
        ty,
        nullable: false,
        default: None,
        auto_increment: false,
        on_update_now: false,
        generated: None,
        comment: String::new(),
    }
}

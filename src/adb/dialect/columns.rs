//! The columns of a table's plan.

use std::collections::{BTreeMap, BTreeSet};

use super::charset::{self, TargetText};
use super::layout::Layout;
use super::plan::Plan;
use super::problem::Problem;
use super::table::{GeneratedColumn, TargetColumn};
use super::{default, generated, mysql_limits, types};
use crate::adb::encode::{Encoder, Form};
use crate::model::{Column, ColumnType, Dialect, KeyKind, KeyPart, TypeName};
use crate::sql::literal;
use crate::task::spec::LossyPolicy;

impl Plan<'_> {
    /// The source's types with their text, as the target needs them before they are mapped.
    pub(super) fn column_types(&mut self, layout: &Layout) -> Vec<(ColumnType, TargetText)> {
        let in_unique_key: BTreeSet<usize> = self
            .source
            .keys
            .iter()
            .filter(|key| matches!(key.kind, KeyKind::Primary | KeyKind::Unique))
            .flat_map(|key| &key.parts)
            .filter_map(|part| match part {
                KeyPart::Column { name, .. } => self.source.column_index(name),
                KeyPart::Expression(_) => None,
            })
            .chain(layout.identity.iter().flatten().copied())
            .collect();
        let mut texts: Vec<_> = self
            .source
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let said =
                    charset::of_column(&column.ty, self.table_text.as_ref(), self.schema_text.as_ref());
                let (bytewise, collations) = (self.options.bytewise, &self.options.collations);
                let text = if in_unique_key.contains(&index) {
                    charset::map_key(&said, bytewise, collations)
                } else {
                    charset::map(&said, bytewise, collations)
                };
                let mut ty = column.ty.clone();
                if text.charset == "binary" {
                    ty.name = charset::binary_twin(ty.name);
                }
                let labelled = matches!(ty.name, TypeName::Enum | TypeName::Set);
                let text = if labelled && !ty.labels.iter().all(|label| text.holds(label)) {
                    TargetText::default()
                } else {
                    text
                };
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

    pub(super) fn warn_collations(&mut self, texts: &[(ColumnType, TargetText)]) {
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
                "use a target that has the source's collation if it matters",
            );
        }
    }

    pub(super) fn comment(&mut self, name: &str, comment: &str, limit: usize) -> String {
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

    fn default(&mut self, column: &Column, target_type: &str, encoder: &Encoder) -> Option<String> {
        default::clause(self.dialect, column, target_type, encoder).unwrap_or_else(|reason| {
            self.warn(
                &column.name,
                format!("its default is left out: {reason}"),
                "nothing: rows carry every value",
            );
            None
        })
    }

    pub(super) fn written(
        &mut self,
        source_index: usize,
        column: &Column,
        type_text: String,
        form: Form,
    ) -> TargetColumn {
        let nullable = column.nullable && !self.in_primary_key(&column.name);
        let encoder = Encoder::new(&column.name, form);
        let default = self.default(column, &type_text, &encoder);
        let mut definition = format!("{type_text} {}", if nullable { "NULL" } else { "NOT NULL" });
        if let Some(default) = &default {
            definition.push(' ');
            definition.push_str(default);
        }
        self.push_comment(&mut definition, column);
        let (implicit, _) = default::implicit_value(&column.ty, &encoder);
        TargetColumn {
            source_index,
            name: column.name.clone(),
            constant: None,
            type_text,
            nullable,
            definition,
            encoder,
            default,
            implicit,
        }
    }

    pub(super) fn push_comment(&mut self, definition: &mut String, column: &Column) {
        if !column.comment.is_empty() {
            let comment = self.comment(&column.name, &column.comment, 1024);
            definition.push_str(" COMMENT ");
            definition.push_str(&literal::string(&comment));
        }
    }

    pub(super) fn mysql_columns(
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
                let mut column = self.written(source_index, &column, mapped.text, mapped.form);
                column.encoder = column.encoder.refusing_trailing_spaces(text.pads && ty.name.is_text());
                columns.push(column);
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

    pub(super) fn adb_columns(
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

    pub(super) fn check_adb_name(&mut self, name: &str) {
        self.problems.extend(adb_name(name).err());
    }
}

/// 1 to 127 characters, a letter or underscore first (target-adb-and-dts.md 3.1).
pub(super) fn adb_name(name: &str) -> Result<(), Problem> {
    let starts = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if starts && name.chars().count() <= 127 {
        return Ok(());
    }
    Err(Problem::refuse(
        name,
        "the target takes names of 1 to 127 characters that begin with a letter or underscore",
        "rename it at the source, or exclude it",
    ))
}

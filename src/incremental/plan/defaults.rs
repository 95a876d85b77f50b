//! Defaults that a statement's text does not tell: the zone in which a TIMESTAMP literal was meant (source-drainer.md 10.3), bytes that are no
//! UTF-8 (TiDB makes x'efbfbd' of x'ff', for the rows that are there and for new ones), and what the rows that were there got in a column that
//! is new.
//!
//! The source is asked as of the statement's commit. Where nobody can answer (no TiDB connection, history gone), a literal is taken
//! as UTC and CURRENT_TIMESTAMP as the time of the commit, and a note of the DDL says so.

use super::{Ask, Planner};
use crate::model::{Column, ColumnDefault, Dialect, Table, TableName, TypeName};
use crate::sql::ddl::ast::AlterClause;
use crate::task::spec::LossyPolicy;

/// What the rows that were there hold in a new column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// The bytes of its text, in zone +00:00.
    Value(Vec<u8>),
    /// NULL, or there were no rows.
    Nothing,
    /// The source cannot say; this is the time of the commit.
    Assumed(String),
}

impl Planner<'_> {
    /// Puts the defaults of the source's own definition, where TIMESTAMPs are in UTC and bytes are what rows get, in place of what the text has;
    /// `only` one column, or all. False when the source must be asked first; `asked` is the table's name after the statement.
    pub(super) fn settle_defaults(
        &mut self,
        table: &mut Table,
        only: Option<&str>,
        asked: &TableName,
    ) -> bool {
        let open = |column: &Column| {
            let untold = match &column.default {
                Some(ColumnDefault::Literal(text)) => {
                    column.ty.name == TypeName::Timestamp && !text.starts_with("0000")
                }
                Some(ColumnDefault::Bits(bytes)) => {
                    column.ty.name.is_binary() && std::str::from_utf8(bytes).is_err()
                }
                _ => false,
            };
            untold && only.is_none_or(|only| column.name.eq_ignore_ascii_case(only))
        };
        if !table.columns.iter().any(open) {
            return true;
        }
        match self.facts.defaults.get(&asked.key()) {
            None => {
                self.ask = Some(Ask::Defaults(asked.clone()));
                return false;
            }
            Some(None) => {
                for column in table.columns.iter().filter(|column| open(column)) {
                    let what = match column.ty.name {
                        TypeName::Timestamp => {
                            "a TIMESTAMP default in the zone of a session that the stream does not tell: taken as UTC"
                        }
                        _ => {
                            "a default that is no UTF-8: taken as the statement has it, though TiDB may have spoiled it, for the source cannot be asked; copy the table again if it matters"
                        }
                    };
                    self.steps.notes.push(format!("`{}` has {what}", column.name));
                }
            }
            Some(Some(known)) => {
                for column in table.columns.iter_mut().filter(|column| open(column)) {
                    if let Some(known) = known.column(&column.name) {
                        column.default.clone_from(&known.default);
                    }
                }
            }
        }
        true
    }

    /// What the rows that are there hold in a new column is its default as TiDB spoiled it, byte for byte. False when the source must be asked
    /// first.
    pub(super) fn settle_bytes(
        &mut self,
        table: &mut Table,
        clause: &AlterClause,
        asked: &TableName,
    ) -> bool {
        let AlterClause::AddColumn { column: added, .. } = clause else { return true };
        let Some(column) =
            table.columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(&added.name))
        else {
            return true;
        };
        match &column.default {
            Some(ColumnDefault::Bits(bytes))
                if column.ty.name.is_binary() && std::str::from_utf8(bytes).is_err() => {}
            _ => return true,
        }
        match self.facts.existing.get(&(asked.key(), column.name.to_lowercase())) {
            Some(Existing::Value(bytes)) => column.default = Some(ColumnDefault::Bits(bytes.clone())),
            // The source's definition may tell.
            Some(Existing::Nothing | Existing::Assumed(_)) => {}
            None => {
                self.ask = Some(Ask::Existing { table: asked.clone(), column: column.name.clone() });
                return false;
            }
        }
        true
    }

    /// What existing rows hold in a column that `clause` adds with a default that was computed; None when the source must be asked first.
    pub(super) fn existing_rows(&mut self, clause: &AlterClause, asked: &TableName) -> Option<Existing> {
        let AlterClause::AddColumn { column, .. } = clause else { return Some(Existing::Nothing) };
        let computed = matches!(
            column.default,
            Some(ColumnDefault::CurrentTimestamp { .. } | ColumnDefault::Expression(_))
        );
        // Whether there are rows decides whether their zero date may be.
        let zero_date = self.catalog.dialect() == Dialect::Adb
            && self.catalog.spec().lossy.zero_date == LossyPolicy::Refuse
            && column.default.is_none()
            && !column.nullable
            && matches!(column.ty.name, TypeName::Date | TypeName::DateTime | TypeName::Timestamp);
        if !(computed || zero_date) || column.generated.is_some() {
            return Some(Existing::Nothing);
        }
        match self.facts.existing.get(&(asked.key(), column.name.to_lowercase())) {
            Some(Existing::Assumed(time)) if zero_date => Some(Existing::Assumed(time.clone())),
            Some(Existing::Assumed(time)) => {
                if matches!(column.default, Some(ColumnDefault::Expression(_))) {
                    return Some(Existing::Nothing);
                }
                self.steps.notes.push(format!(
                    "existing rows get the time of this DDL's commit in `{}`: the source, whose own time may be a little earlier, cannot be asked",
                    column.name
                ));
                Some(Existing::Assumed(time.clone()))
            }
            Some(known) => Some(known.clone()),
            None => {
                self.ask = Some(Ask::Existing { table: asked.clone(), column: column.name.clone() });
                None
            }
        }
    }
}

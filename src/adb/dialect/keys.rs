//! The keys of a table's plan.
//!
//! A key that the target cannot have is left out with a warning: no key but the identity is needed for rows to be right.

use std::collections::BTreeSet;

use super::charset::TargetText;
use super::mysql_limits;
use super::plan::Plan;
use super::table::{GeneratedColumn, TargetColumn, TargetKey};
use crate::model::{ColumnType, Key, KeyKind, KeyPart};

impl Plan<'_> {
    pub(super) fn mysql_keys(
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
                    KeyPart::Column { name, .. }
                        if kind == KeyKind::Primary
                            && source.column(name).is_some_and(|column| column.generated.is_some()) =>
                    {
                        obstacle = Some("MariaDB takes no generated column in a primary key");
                    }
                    KeyPart::Column { name, prefix } => {
                        let width =
                            source.column_index(name).and_then(|at| texts.get(at)).map_or(0, |(ty, text)| {
                                match prefix {
                                    Some(length) if ty.name.is_text() => u64::from(*length) * text.width(),
                                    Some(length) => u64::from(*length),
                                    None => mysql_limits::width_in_key(ty, text),
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
                Some(why)
                    if source.identity().is_some_and(|identity| std::ptr::eq(identity, key))
                        && !overridden =>
                {
                    self.refuse(
                        &object,
                        format!("this key identifies the rows and cannot be on the target: {why}"),
                        "name another key in tables.<t>.primary_key, or exclude the table",
                    )
                }
                Some(why) => self.warn(
                    &object,
                    format!("this index is left out: {why}"),
                    "add one on the target by hand if queries need it",
                ),
            }
        }
        keys
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

/// A unique key that contains every column of the identity cannot collide before the identity does.
pub(super) fn other_unique_keys(
    keys: &[TargetKey],
    identity: Option<&[usize]>,
    columns: &[TargetColumn],
) -> bool {
    let unique = keys.iter().filter(|key| key.is_unique());
    let Some(identity) = identity else { return unique.count() > 0 };
    let names: BTreeSet<String> = identity
        .iter()
        .filter_map(|index| columns.get(*index))
        .map(|column| column.name.to_lowercase())
        .collect();
    let in_key = |key: &TargetKey, whole: bool| {
        key.parts
            .iter()
            .filter(|(_, prefix)| !whole || prefix.is_none())
            .map(|(name, _)| name.to_lowercase())
            .collect::<BTreeSet<_>>()
    };
    let mut own = false;
    unique.into_iter().any(|key| {
        if in_key(key, true).is_superset(&names) {
            return false;
        }
        // The identity itself may have prefixes.
        let is_own = !own && in_key(key, false) == names;
        own |= is_own;
        !is_own
    })
}

pub(super) fn adb_keys(identity: Option<&[usize]>, columns: &[TargetColumn]) -> Vec<TargetKey> {
    let Some(identity) = identity else { return Vec::new() };
    let parts = identity
        .iter()
        .filter_map(|index| columns.get(*index))
        .map(|column| (column.name.clone(), None))
        .collect();
    vec![TargetKey { name: "PRIMARY".to_owned(), kind: KeyKind::Primary, parts }]
}

//! A table as AnalyticDB defines it: read from CREATE TABLE, judged by its rules, written as SHOW CREATE TABLE and for the MariaDB behind.

use crate::column::{Column, comment};
use crate::refusal::{Refusal, limit, refuse, unsupported};
use crate::token::{Cursor, Kind, Token, quote_name, quote_text};
use crate::types::Family;

pub const HIDDEN_KEY: &str = "__adb_auto_id__";
const KEY_BYTES: u32 = 3072;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distribution {
    Hash(Vec<String>),
    Broadcast,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As written inside VALUE(...).
    pub text: String,
    pub column: String,
    pub lifecycle: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub primary: Vec<String>,
    /// Name and column.
    pub indexes: Vec<(String, String)>,
    pub distribution: Option<Distribution>,
    pub partition: Option<Partition>,
    /// INDEX_ALL and the like, with the value as written.
    pub options: Vec<(String, String)>,
    pub comment: String,
}

const OPTIONS: [&str; 6] =
    ["INDEX_ALL", "STORAGE_POLICY", "HOT_PARTITION_COUNT", "BLOCK_SIZE", "ENGINE", "TABLE_PROPERTIES"];

fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// Lower case letter first, at most 64 characters, no `__`, not `analyticdb`.
pub fn check_database(name: &str) -> Result<(), Refusal> {
    let first = name.chars().next().is_some_and(|letter| letter.is_ascii_lowercase());
    if !first || name.chars().count() > 64 || name.contains("__") || name == "analyticdb" {
        return Err(unsupported(format!("{name} is not a name for a database")));
    }
    Ok(())
}

impl Table {
    /// From the `(` behind the table's name to the end of the statement.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        let mut table = Self {
            columns: Vec::new(),
            primary: Vec::new(),
            indexes: Vec::new(),
            distribution: None,
            partition: None,
            options: Vec::new(),
            comment: String::new(),
        };
        cursor.expect("(")?;
        loop {
            table.element(cursor)?;
            if !cursor.take(",") {
                break;
            }
        }
        cursor.expect(")")?;
        while !cursor.is_at_end() {
            table.tail(cursor)?;
            let _ = cursor.take(",");
        }
        table.judge()?;
        Ok(table)
    }

    fn element(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
        for word in ["unique", "foreign", "constraint", "spatial", "check", "fulltext", "ann"] {
            if cursor.starts(word) {
                return Err(unsupported(format!("{} is not supported in a table", word.to_uppercase())));
            }
        }
        if cursor.take("primary key") {
            self.primary = cursor.name_list()?;
        } else if cursor.take("key") || cursor.take("index") || cursor.take("clustered key") {
            self.indexes.push(index(cursor)?);
        } else {
            let (column, primary) = Column::parse(cursor)?;
            if primary {
                self.primary.push(column.name.clone());
            }
            self.columns.push(column);
        }
        Ok(())
    }

    fn tail(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
        if cursor.take("distributed by") || cursor.take("distribute by") {
            self.distribution = Some(if cursor.take("broadcast") {
                Distribution::Broadcast
            } else {
                cursor.expect("hash")?;
                Distribution::Hash(cursor.name_list()?)
            });
        } else if cursor.take("partition by value") {
            self.partition = Some(partition(cursor)?);
        } else if cursor.take("comment") {
            let _ = cursor.take("=");
            self.comment = comment(cursor)?;
        } else {
            let name = cursor.name()?.to_uppercase();
            if !OPTIONS.contains(&name.as_str()) {
                return Err(unsupported(format!("table option {name} is not supported")));
            }
            let _ = cursor.take("=");
            let Some(value) = cursor.next() else { return Err(format!("{name} has no value").into()) };
            self.set_option(&name, &String::from_utf8_lossy(value.raw));
        }
        Ok(())
    }

    pub fn set_option(&mut self, name: &str, value: &str) {
        self.options.retain(|(other, _)| other != name);
        self.options.push((name.to_owned(), value.to_owned()));
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| same(&column.name, name))
    }

    /// In the primary, distribution or partition key.
    pub fn is_key(&self, name: &str) -> bool {
        let hash = match &self.distribution {
            Some(Distribution::Hash(columns)) => columns.as_slice(),
            _ => &[],
        };
        self.primary.iter().chain(hash).any(|key| same(key, name))
            || self.partition.as_ref().is_some_and(|partition| same(&partition.column, name))
    }

    pub fn judge(&self) -> Result<(), Refusal> {
        if self.columns.len() > 4096 {
            return Err(limit("a table has more than 4096 columns"));
        }
        for (n, column) in self.columns.iter().enumerate() {
            if self.columns[..n].iter().any(|other| same(&other.name, &column.name)) {
                return Err(refuse(1060, format!("Duplicate column name '{}'", column.name)));
            }
        }
        let known = |name: &String| match self.column(name) {
            Some(_) => Ok(()),
            None => Err(refuse(1072, format!("Key column '{name}' doesn't exist in table"))),
        };
        self.primary.iter().try_for_each(known)?;
        self.indexes.iter().map(|(_, column)| column).try_for_each(known)?;
        let in_primary = |name: &String| {
            known(name)?;
            if !self.primary.is_empty() && !self.primary.iter().any(|key| same(key, name)) {
                return Err(unsupported(format!(
                    "the primary key must contain the distribution and partition columns, {name} is not in it"
                )));
            }
            Ok(())
        };
        if let Some(Distribution::Hash(columns)) = &self.distribution {
            columns.iter().try_for_each(in_primary)?;
        }
        match &self.partition {
            Some(_) if self.distribution == Some(Distribution::Broadcast) => {
                return Err(unsupported("a broadcast table has no partitions"));
            }
            Some(partition) => in_primary(&partition.column)?,
            None if self.options.iter().any(|(name, _)| name == "HOT_PARTITION_COUNT") => {
                return Err(unsupported("HOT_PARTITION_COUNT needs partitions"));
            }
            None => {}
        }
        Ok(())
    }

    /// As SHOW CREATE TABLE gives it; [`Table::parse`] reads it back.
    pub fn show(&self, name: &str) -> String {
        let mut lines: Vec<_> = self.columns.iter().map(Column::show).collect();
        let list =
            |names: &[String]| names.iter().map(|name| quote_name(name)).collect::<Vec<_>>().join(", ");
        if !self.primary.is_empty() {
            lines.push(format!("PRIMARY KEY ({})", list(&self.primary)));
        }
        lines.extend(
            self.indexes
                .iter()
                .map(|(name, column)| format!("KEY {} ({})", quote_name(name), quote_name(column))),
        );
        let mut text = format!("CREATE TABLE {} (\n {}\n)", quote_name(name), lines.join(",\n "));
        match &self.distribution {
            Some(Distribution::Hash(columns)) => {
                text.push_str(&format!(" DISTRIBUTED BY HASH({})", list(columns)))
            }
            Some(Distribution::Broadcast) => text.push_str(" DISTRIBUTED BY BROADCAST"),
            None => {}
        }
        if let Some(partition) = &self.partition {
            text.push_str(&format!(" PARTITION BY VALUE({})", partition.text));
            if let Some(lifecycle) = &partition.lifecycle {
                text.push_str(&format!(" LIFECYCLE {lifecycle}"));
            }
        }
        for (name, value) in &self.options {
            text.push_str(&format!(" {name}={value}"));
        }
        if !self.comment.is_empty() {
            text.push_str(&format!(" COMMENT={}", quote_text(&self.comment)));
        }
        text
    }

    /// What a key of MariaDB may take of a column that is in it.
    pub fn key_bytes(&self, name: &str) -> Option<u32> {
        let column = self.column(self.primary.iter().find(|key| same(key, name))?)?;
        let texts = self.primary.iter().filter(|key| {
            self.column(key).is_some_and(|column| matches!(column.kind.family, Family::Text | Family::Binary))
        });
        let wanted = |column: &Column| match column.kind.family {
            Family::Text => column.kind.length.unwrap_or(KEY_BYTES).saturating_mul(4),
            Family::Binary => column.kind.length.unwrap_or(KEY_BYTES),
            Family::Decimal { .. } => 20,
            _ => 8,
        };
        let all: u32 =
            self.primary.iter().filter_map(|key| self.column(key)).map(wanted).fold(0, u32::saturating_add);
        let count = u32::try_from(texts.count()).unwrap_or(1).max(1);
        let others = 20
            * (u32::try_from(self.primary.len()).unwrap_or(0)
                - count.min(u32::try_from(self.primary.len()).unwrap_or(0)));
        // A declared length is no limit: what is left is shared out.
        Some(if all <= KEY_BYTES {
            wanted(column) + (KEY_BYTES - all) / count
        } else {
            (KEY_BYTES - others) / count
        })
    }

    /// CREATE TABLE for the MariaDB behind, with the primary key and no index else. `name` is quoted.
    pub fn physical(&self, name: &str) -> String {
        let mut lines: Vec<_> =
            self.columns.iter().map(|column| column.physical(self.key_bytes(&column.name))).collect();
        if self.primary.is_empty() {
            lines.push(format!("`{HIDDEN_KEY}` BIGINT NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY"));
        } else {
            let keys: Vec<_> = self.primary.iter().map(|key| quote_name(key)).collect();
            lines.push(format!("PRIMARY KEY ({})", keys.join(", ")));
            // MariaDB wants a key that begins with it.
            let counted = self.columns.iter().find(|column| column.auto_increment);
            if let Some(column) = counted.filter(|column| !same(&column.name, &self.primary[0])) {
                lines.push(format!("KEY ({})", quote_name(&column.name)));
            }
        }
        format!("CREATE TABLE {name} ({})", lines.join(", "))
    }
}

/// `[name] (column)`.
pub fn index(cursor: &mut Cursor<'_>) -> Result<(String, String), Refusal> {
    let name = if cursor.starts("(") { None } else { Some(cursor.name()?) };
    let columns = cursor.name_list();
    if columns.is_err() && cursor.starts("(") {
        return Err(unsupported("prefix indexes are not supported"));
    }
    let columns = columns?;
    let [column] = columns.as_slice() else { return Err(unsupported("an index has one column")) };
    Ok((name.unwrap_or_else(|| column.clone()), column.clone()))
}

/// `(column | DATE_FORMAT(column, '...') | FROM_UNIXTIME(...)) [LIFECYCLE n]`.
pub fn partition(cursor: &mut Cursor<'_>) -> Result<Partition, Refusal> {
    let from = cursor.at;
    cursor.skip_brackets()?;
    let inner = &cursor.tokens[from + 1..cursor.at - 1];
    let column = match inner {
        [column] => column.value(),
        [function, open, rest @ ..]
            if open.is("(") && (function.is("date_format") || function.is("from_unixtime")) =>
        {
            let is_name = |token: &&Token<'_>| {
                matches!(token.kind, Kind::Word | Kind::Name) && !token.is("from_unixtime")
            };
            let name = rest.iter().find(is_name);
            name.map(|token| token.value()).ok_or_else(|| "a partition needs a column".to_owned())?
        }
        _ => {
            return Err(unsupported("PARTITION BY VALUE takes a column, DATE_FORMAT or FROM_UNIXTIME of it"));
        }
    };
    let text = cursor.raw(from + 1, cursor.at - 1);
    let lifecycle = if cursor.take("lifecycle") { cursor.next().map(|token| token.value()) } else { None };
    Ok(Partition { text, column, lifecycle })
}

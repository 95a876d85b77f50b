//! A captured history (tests/fixtures/histories): messages of a Drainer, and the rows that its tables ended with.

use std::path::{Path, PathBuf};

use super::cell::{self, Kind};
use super::compare::{Column, row_text};

/// The folder of one history under one Drainer zone: `A/UTC`, `A/Asia_Shanghai`, ...
pub struct History {
    folder: PathBuf,
}

/// A table as it ended on the source.
pub struct FinalTable {
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl FinalTable {
    /// The rows in these of its columns, as [`super::compare::rows`] gives them.
    pub fn texts(&self, columns: &[Column]) -> Vec<String> {
        let place = |column: &Column| {
            self.columns.iter().position(|own| own.name == column.name).expect("its column")
        };
        let places: Vec<_> = columns.iter().map(place).collect();
        let mut texts: Vec<_> =
            self.rows.iter().map(|row| row_text(places.iter().map(|place| row[*place].clone()))).collect();
        texts.sort_unstable();
        texts
    }
}

impl History {
    pub fn open(name: &str) -> Self {
        let folder = Path::new(crate::ROOT).join("tests/fixtures/histories").join(name);
        assert!(folder.is_dir(), "no history {name}");
        Self { folder }
    }

    /// The messages, as `produce` reads them.
    pub fn messages(&self) -> PathBuf {
        self.folder.join("messages.jsonl.gz")
    }

    /// The schemas that the history made.
    pub fn schemas(&self) -> Vec<String> {
        let names = std::fs::read_to_string(self.folder.join("final/databases.txt")).unwrap();
        let own = |name: &&str| !["mysql", "test"].contains(name) && !name.ends_with("_SCHEMA");
        names.lines().filter(own).map(str::to_owned).collect()
    }

    /// The base tables of final/, without temporary ones: what they hold is never in the stream.
    pub fn tables(&self) -> Vec<FinalTable> {
        let index = std::fs::read(self.folder.join("final/index.json")).unwrap();
        let index: Vec<serde_json::Value> = serde_json::from_slice(&index).unwrap();
        let base = index.iter().filter(|entry| entry["type"] == "BASE TABLE");
        base.filter_map(|entry| self.table(entry["schema"].as_str()?, entry["table"].as_str()?)).collect()
    }

    fn table(&self, schema: &str, name: &str) -> Option<FinalTable> {
        let file = |ending| {
            let base = format!("{schema}.{name}").replace(['/', ' '], "_");
            std::fs::read(self.folder.join("final").join(base + ending)).unwrap()
        };
        let create = String::from_utf8(file(".sql")).unwrap();
        if create.starts_with("CREATE GLOBAL TEMPORARY") {
            return None;
        }
        let types = column_types(&create);
        let text = file(".tsv");
        let mut lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
        let header = String::from_utf8(lines.next()?.to_vec()).unwrap();
        let columns: Vec<_> = header
            .split('\t')
            .map(|name| {
                let found = types.iter().find(|(column, ..)| column == name);
                let (_, data_type, generated) =
                    found.unwrap_or_else(|| panic!("{schema}: no type of {name}"));
                Column { name: name.to_owned(), kind: Kind::of(data_type), generated: *generated }
            })
            .collect();
        let rows = lines
            .map(|line| {
                let cells = line.split(|byte| *byte == b'\t').zip(&columns);
                cells.map(|(text, column)| cell::from_tsv(column.kind, text)).collect()
            })
            .collect();
        Some(FinalTable { schema: schema.to_owned(), name: name.to_owned(), columns, rows })
    }
}

/// Name and first word of the type of each column of a SHOW CREATE TABLE, and whether it is generated.
fn column_types(create: &str) -> Vec<(String, String, bool)> {
    let column = regex::Regex::new(r"^  `((?:[^`]|``)+)` ([a-z]+)").unwrap();
    create
        .lines()
        .filter_map(|line| Some((column.captures(line)?, line.contains(" GENERATED ALWAYS AS "))))
        .map(|(found, generated)| (found[1].replace("``", "`"), found[2].to_owned(), generated))
        .collect()
}

//! Random schemas, values and transactions through the encoder double: however they are cut into batches, and in whatever order the
//! statements of one step run, the target ends as if each row of the source's end had been written once.
//!
//! What a value becomes in SQL is not asked here (docs/fidelity.md): the expectation is written by the same code, from an empty target.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate::adb::dialect::{TableOptions, TargetTable};
use tidegate::adb::writer::Job;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::binlog::{Kind, Message};
use tidegate::incremental::batch::{Batch, Limits, Part, Piece, Place, pieces};
use tidegate::incremental::catalog::Tracked;
use tidegate::incremental::layout::Layout;
use tidegate::model::{Dialect, TableName, Tso, Value, Zone};
use tidegate::sql::ddl::{self, ast::Statement};

/// A cell that owns its bytes.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Int(value) => Value::Int(*value),
            Self::UInt(value) => Value::UInt(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Text(text) => Value::Text(text.as_bytes()),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

/// How the source compares a key column.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Exact,
    /// Trailing spaces do not count.
    Padded,
    /// Nor does case.
    Folded,
}

struct Type {
    sql: &'static str,
    /// As Drainer calls it.
    mysql: &'static str,
    compare: Compare,
    /// May be part of a key.
    key: bool,
    value: fn(u32) -> Cell,
}

const fn plain(sql: &'static str, mysql: &'static str, value: fn(u32) -> Cell) -> Type {
    Type { sql, mysql, compare: Compare::Exact, key: true, value }
}

/// Few values, so that keys meet, and the odd ones among them.
const TYPES: &[Type] = &[
    plain("TINYINT", "tinyint", |n| Cell::Int(i64::from(n % 9) - 4)),
    plain("INT UNSIGNED", "int", |n| Cell::UInt(u64::from(n % 5) * 1_073_741_823)),
    plain("MEDIUMINT", "mediumint", |n| match n % 7 {
        // An old Drainer sends text.
        6 => Cell::Text("-8388608".to_owned()),
        n => Cell::Int(i64::from(n) - 3),
    }),
    plain("BIGINT", "bigint", |n| Cell::Int([i64::MIN, -1, 0, 1, i64::MAX][n as usize % 5])),
    plain("BIGINT UNSIGNED", "bigint", |n| Cell::UInt([0, 1, 1 << 63, u64::MAX][n as usize % 4])),
    plain("DECIMAL(20,6)", "decimal", |n| {
        // Padded or not, it is one number.
        Cell::Text(
            ["1.5", "1.500000", "-0.000001", "0", "0.000000", "99999999999999.999999"][n as usize % 6]
                .to_owned(),
        )
    }),
    plain("DATE", "date", |n| Cell::Text(format!("2024-02-{:02}", n % 6 + 24))),
    plain("DATETIME(3)", "datetime", |n| Cell::Text(format!("2024-01-01 00:00:0{}.{:03}", n % 2, n % 3))),
    plain("TIMESTAMP", "timestamp", |n| Cell::Text(format!("2024-10-27 0{}:30:00", n % 4))),
    plain("YEAR", "year", |n| Cell::Text(["0", "1901", "2155", "1970"][n as usize % 4].to_owned())),
    plain("ENUM('b','a','','3')", "enum", |n| Cell::UInt(u64::from(n % 4) + 1)),
    plain("SET('x','y','3')", "set", |n| Cell::UInt(u64::from(n % 8))),
    plain("BIT(12)", "bit", |n| Cell::Bytes(vec![(n % 3) as u8, (n % 5) as u8 * 63])),
    plain("VARBINARY(20)", "varbinary", |n| Cell::Bytes(b"\0'\\\"\xff\n a"[..n as usize % 9].to_vec())),
    plain("BINARY(3)", "binary", |n| Cell::Bytes(vec![b'a', (n % 3) as u8, 0])),
    Type {
        compare: Compare::Padded,
        ..plain("VARCHAR(30) COLLATE utf8mb4_bin", "varchar", |n| {
            Cell::Text(["a", "a ", "A", "", "it's \\ \"b\"", "𝒳,(`"][n as usize % 6].to_owned())
        })
    },
    Type {
        compare: Compare::Folded,
        ..plain("VARCHAR(30) COLLATE utf8mb4_general_ci", "varchar", |n| {
            Cell::Text(["a", "A ", "aB", "Ab  ", "", "c"][n as usize % 6].to_owned())
        })
    },
    Type { key: false, ..plain("TEXT", "text", |n| Cell::Text("long \n\0'".repeat(n as usize % 5))) },
    Type { key: false, ..plain("DOUBLE", "double", |n| Cell::Double(f64::from(n) / 7.0)) },
    Type { key: false, ..plain("FLOAT", "float", |n| Cell::Double(f64::from(n as f32 * 1.1))) },
    Type {
        key: false,
        ..plain("JSON", "json", |n| Cell::Bytes(format!("{{\"a\": [{n}, \"'\"]}}").into_bytes()))
    },
];

#[derive(Debug, Clone)]
struct Schema {
    /// Indices of TYPES; the first columns are the key.
    columns: Vec<usize>,
    keys: usize,
    /// PRIMARY KEY, or UNIQUE over NOT NULL columns.
    primary: bool,
    /// A change of a key is a deletion and an insertion.
    clustered: bool,
    /// A generated column, which UPDATEs carry as NULL, at the end.
    generated: bool,
    dialect: Dialect,
    /// One entry per row, as an old Drainer writes.
    old_drainer: bool,
}

type Row = Vec<Cell>;

impl Schema {
    fn types(&self) -> impl Iterator<Item = &'static Type> + '_ {
        self.columns.iter().map(|at| &TYPES[*at])
    }

    fn sql(&self) -> String {
        let mut parts: Vec<String> = self
            .types()
            .enumerate()
            .map(|(at, ty)| format!("c{at} {} {}", ty.sql, if at < self.keys { "NOT NULL" } else { "NULL" }))
            .collect();
        if self.generated {
            parts.push("g VARCHAR(99) AS (CONCAT('g', c0)) STORED".to_owned());
        }
        let key: Vec<_> = (0..self.keys).map(|at| format!("c{at}")).collect();
        let kind = if self.primary { "PRIMARY KEY" } else { "UNIQUE KEY u" };
        parts.push(format!("{kind} ({})", key.join(", ")));
        format!("CREATE TABLE t ({})", parts.join(", "))
    }

    fn tracked(&self) -> Tracked {
        let Statement::CreateTable { mut table, .. } = ddl::parse(self.sql().as_bytes()).unwrap().remove(0)
        else {
            panic!("{}", self.sql())
        };
        table.name = TableName::new("s", "t");
        let target =
            TargetTable::new(self.dialect, &table, TableName::new("s", "t"), &TableOptions::default())
                .unwrap();
        Tracked { table, target, hidden: Vec::new(), keep_other_columns: false, snapshot: Tso(0) }
    }

    /// The key as the source compares it.
    fn class(&self, row: &Row) -> String {
        let folded = self.types().take(self.keys).zip(row).map(|(ty, cell)| match (ty.compare, cell) {
            (Compare::Padded, Cell::Text(text)) => format!("{:?}", text.trim_end_matches(' ')),
            (Compare::Folded, Cell::Text(text)) => format!("{:?}", text.trim_end_matches(' ').to_lowercase()),
            (Compare::Exact, Cell::Text(text)) if ty.mysql == "decimal" => {
                format!("{:?}", text.parse::<f64>().unwrap())
            }
            (Compare::Exact, Cell::Text(text)) if ty.mysql == "mediumint" => {
                format!("{:?}", Cell::Int(text.parse().unwrap()))
            }
            (_, cell) => format!("{cell:?}"),
        });
        folded.collect::<Vec<_>>().join(",")
    }

    fn empty(&self) -> Table {
        let names: Vec<String> = (0..self.columns.len()).map(|at| format!("c{at}")).collect();
        let mut columns: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(self.types().map(|ty| ty.mysql)).collect();
        if self.generated {
            columns.push(("g", "varchar"));
        }
        let key: Vec<&str> = columns.iter().take(self.keys).map(|(name, _)| *name).collect();
        Table::new("s", "t", &columns, if self.primary { &key } else { &[] })
    }

    /// As it stands in a message; `real` = the generated value too.
    fn values<'a>(&self, row: &'a Row, real: bool) -> Vec<Value<'a>> {
        let mut values: Vec<Value<'a>> = row.iter().map(Cell::value).collect();
        if self.generated {
            values.push(if real { Value::Text(b"g") } else { Value::Null });
        }
        values
    }
}

#[derive(Debug, Clone)]
enum Change {
    /// INSERT, or UPDATE of the row with this key.
    Put(Row),
    /// The nth row.
    Remove(usize),
    /// The nth row gets the key of this one.
    Move(usize, Row),
}

fn schema() -> impl Strategy<Value = Schema> {
    let of_key: Vec<usize> = (0..TYPES.len()).filter(|at| TYPES[*at].key).collect();
    let key = proptest::collection::vec(proptest::sample::select(of_key), 1..4);
    let rest = proptest::collection::vec(0..TYPES.len(), 0..5);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (key, rest, flags).prop_map(|(key, rest, (primary, clustered, generated, adb, old_drainer))| Schema {
        keys: key.len(),
        columns: [key, rest].concat(),
        primary,
        clustered,
        generated,
        dialect: if adb { Dialect::Adb } else { Dialect::Mysql },
        old_drainer,
    })
}

fn row(schema: &Schema) -> impl Strategy<Value = Row> + use<> {
    let (columns, keys) = (schema.columns.clone(), schema.keys);
    proptest::collection::vec(any::<(u32, u8)>(), columns.len()).prop_map(move |random| {
        let cells = random.iter().zip(&columns).enumerate();
        cells
            .map(
                |(at, ((n, null), ty))| {
                    if at >= keys && null % 4 == 0 { Cell::Null } else { (TYPES[*ty].value)(*n) }
                },
            )
            .collect()
    })
}

fn history() -> impl Strategy<Value = (Schema, Vec<Vec<Change>>)> {
    schema().prop_flat_map(|schema| {
        let change = prop_oneof![
            5 => row(&schema).prop_map(Change::Put),
            2 => any::<usize>().prop_map(Change::Remove),
            3 => (any::<usize>(), row(&schema)).prop_map(|(nth, row)| Change::Move(nth, row)),
        ];
        let transactions = proptest::collection::vec(proptest::collection::vec(change, 1..6), 1..12);
        (Just(schema), transactions)
    })
}

/// The source: rows by the class of their key.
#[derive(Default)]
struct Source {
    rows: BTreeMap<String, Row>,
}

impl Source {
    /// Carries a change out and adds what Drainer sends for it.
    fn run(&mut self, schema: &Schema, change: &Change, mut sent: Table) -> Table {
        match change {
            Change::Put(new) => {
                let class = schema.class(new);
                match self.rows.insert(class, new.clone()) {
                    None => sent.insert(&schema.values(new, true)),
                    Some(old) if old == *new => sent,
                    Some(old) => {
                        let respelled = old[..schema.keys] != new[..schema.keys];
                        if schema.clustered && respelled {
                            sent = sent.delete(&schema.values(&old, true));
                            sent.insert(&schema.values(new, true))
                        } else {
                            sent.update(&schema.values(&old, false), &schema.values(new, false))
                        }
                    }
                }
            }
            Change::Remove(nth) => match self.nth(*nth) {
                Some(class) => {
                    let old = self.rows.remove(&class).unwrap();
                    sent.delete(&schema.values(&old, true))
                }
                None => sent,
            },
            Change::Move(nth, key) => {
                let Some(class) = self.nth(*nth) else { return sent };
                let mut new = self.rows[&class].clone();
                new[..schema.keys].clone_from_slice(&key[..schema.keys]);
                let to = schema.class(&new);
                if to != class && self.rows.contains_key(&to) {
                    return sent;
                }
                let old = self.rows.remove(&class).unwrap();
                self.rows.insert(to, new.clone());
                if old == new {
                    sent
                } else if schema.clustered {
                    sent.delete(&schema.values(&old, true)).insert(&schema.values(&new, true))
                } else {
                    sent.update(&schema.values(&old, false), &schema.values(&new, false))
                }
            }
        }
    }

    fn nth(&self, nth: usize) -> Option<String> {
        self.rows.keys().nth(nth.checked_rem(self.rows.len())?).cloned()
    }
}

/// A target that understands REPLACE and DELETE by key, and compares keys as its columns do.
struct Target<'a> {
    schema: &'a Schema,
    /// Key as it is compared -> the row's tuple.
    rows: BTreeMap<String, Vec<String>>,
}

impl Target<'_> {
    fn key(&self, literals: &[String]) -> String {
        let folded = self.schema.types().zip(literals).map(|(ty, literal)| {
            if ty.mysql == "decimal" {
                return literal.trim_matches('\'').parse::<f64>().unwrap().to_string();
            }
            let loose = self.schema.dialect == Dialect::Mysql && ty.compare != Compare::Exact;
            let text = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).filter(|_| loose);
            match (text, ty.compare) {
                (Some(text), Compare::Folded) => text.trim_end_matches(' ').to_lowercase(),
                (Some(text), _) => text.trim_end_matches(' ').to_owned(),
                (None, _) => literal.clone(),
            }
        });
        folded.collect::<Vec<_>>().join(",")
    }

    fn run(&mut self, sql: &str) {
        if let Some(rest) = sql.strip_prefix("REPLACE INTO `s`.`t` (") {
            let (_, values) = rest.split_once(") VALUES ").unwrap();
            for tuple in split(values) {
                let tuple = split(inside(&tuple));
                self.rows.insert(self.key(&tuple[..self.schema.keys]), tuple);
            }
        } else if let Some(rest) = sql.strip_prefix("DELETE FROM `s`.`t` WHERE ") {
            let (_, keys) = rest.split_once(" IN ").unwrap();
            for tuple in split(inside(keys)) {
                let tuple = if self.schema.keys == 1 { vec![tuple] } else { split(inside(&tuple)) };
                self.rows.remove(&self.key(&tuple));
            }
        } else {
            panic!("{sql}");
        }
    }

    fn send(&mut self, batch: &Arc<Batch>, part: Part<'_>, backwards: bool) {
        self.steps(steps(batch, part, backwards));
    }

    fn steps(&mut self, statements: impl IntoIterator<Item = Vec<String>>) {
        statements.into_iter().flatten().for_each(|sql| self.run(&sql));
    }
}

/// The statements of each step.
fn steps(batch: &Arc<Batch>, part: Part<'_>, backwards: bool) -> [Vec<String>; 2] {
    let limits = Limits { rows: 3, bytes: 120, keys: 2, connections: 4 };
    pieces(batch, limits, part).map(|mut step| {
        if backwards {
            step.reverse();
        }
        let text = |piece: Piece| {
            let mut sql = Vec::new();
            piece.build(&mut sql).unwrap();
            String::from_utf8_lossy(&sql).into_owned()
        };
        step.into_iter().map(text).collect()
    })
}

/// Batches on their way to a target: what one need not wait for goes out before, amid or behind what is left of the one before it.
struct Flights<'t, 's> {
    target: &'t mut Target<'s>,
    earlier: Arc<Batch>,
    left: [Vec<String>; 2],
}

impl<'t, 's> Flights<'t, 's> {
    fn new(target: &'t mut Target<'s>) -> Self {
        Self { target, earlier: Arc::default(), left: Default::default() }
    }

    fn send(&mut self, batch: Batch, overtaken: usize, backwards: bool) {
        let batch = Arc::new(batch);
        let held = batch.behind(&self.earlier);
        let [first, second] = std::mem::take(&mut self.left);
        let mut order = vec![first, second];
        // A batch does not begin with what had to wait before it is through with the rest.
        let free = steps(&batch, Part::Free(&held), backwards).concat();
        order.insert(overtaken, free);
        self.target.steps(order);
        self.left = steps(&batch, Part::Held(&held), backwards);
        self.earlier = batch;
    }

    fn land(self) {
        self.target.steps(self.left);
    }
}

fn inside(text: &str) -> &str {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or_else(|| panic!("{text}"))
}

/// At the commas outside of quotes and parentheses.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts
}

struct Folding<'a> {
    tracked: &'a Tracked,
    layout: Option<Arc<Layout>>,
    batch: Batch,
}

impl<'a> Folding<'a> {
    fn new(tracked: &'a Tracked) -> Self {
        Self { tracked, layout: None, batch: Batch::default() }
    }

    fn message(&mut self, bytes: &[u8], offset: usize) {
        let message = Message::parse(bytes).unwrap();
        message.validate().unwrap();
        assert_eq!(Binlog::try_from(&message).unwrap().encode_to_vec(), bytes);
        let Kind::Dml(tables) = message.kind else { panic!() };
        let mut nth = 0;
        for table in tables {
            let table = table.unwrap();
            let layout = self.layout.get_or_insert_with(|| {
                Arc::new(Layout::new(self.tracked, &table.columns, &Arc::new(Zone::Utc)).unwrap())
            });
            let slot = self.batch.slot(layout).unwrap();
            for mutation in table.mutations() {
                let place = Place { offset: offset as i64, nth };
                nth += 1;
                self.batch.fold(slot, &mutation.unwrap(), place, 0).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_table_ends_like_its_source(
        (schema, transactions) in history(),
        // Of a batch that ends there: how many steps of the one before are done when it begins.
        cuts in proptest::collection::vec(proptest::option::of(0..3_usize), 12),
        backwards in any::<bool>(),
        repeat_from in 0..12_usize,
    ) {
        let tracked = schema.tracked();
        let mut source = Source::default();
        let mut messages = Vec::new();
        for (at, changes) in transactions.iter().enumerate() {
            let mut tables = Vec::new();
            let mut table = schema.empty();
            for change in changes {
                table = source.run(&schema, change, table);
                if schema.old_drainer && !table.mutations.is_empty() {
                    tables.push(std::mem::replace(&mut table, schema.empty()));
                }
            }
            tables.extend((!table.mutations.is_empty()).then_some(table));
            if !tables.is_empty() {
                messages.push(Binlog::dml(at as u64 + 1, tables).encode_to_vec());
            }
        }
        // A crash: a stretch up to the end is applied twice.
        let mut target = Target { schema: &schema, rows: BTreeMap::new() };
        let mut flights = Flights::new(&mut target);
        let mut folding = Folding::new(&tracked);
        for (at, bytes) in messages.iter().chain(messages.iter().skip(repeat_from)).enumerate() {
            folding.message(bytes, at);
            if let Some(overtaken) = cuts[at % cuts.len()] {
                flights.send(std::mem::take(&mut folding.batch), overtaken, backwards);
            }
        }
        flights.send(folding.batch, 0, backwards);
        flights.land();
        // Each row of the end, written once.
        let mut expected = Target { schema: &schema, rows: BTreeMap::new() };
        for row in source.rows.values() {
            let mut folding = Folding::new(&tracked);
            let table = schema.empty().insert(&schema.values(row, true));
            folding.message(&Binlog::dml(1, vec![table]).encode_to_vec(), 0);
            expected.send(&Arc::new(folding.batch), Part::Whole, false);
        }
        prop_assert_eq!(target.rows, expected.rows, "{}", schema.sql());
    }
}

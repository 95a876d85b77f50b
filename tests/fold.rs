//! Folding: whatever is cut into batches, and in whatever order the statements of one step run, the target ends like the source.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate::adb::dialect::{Collations, Constant, Mapping, TableOptions, TargetTable};
use tidegate::adb::writer::Job;
use tidegate::binlog::encode::{Binlog, Encode, Table};
use tidegate::binlog::{Kind, Message};
use tidegate::incremental::batch::{Batch, Limits, Part, Place, pieces};
use tidegate::incremental::catalog::Tracked;
use tidegate::incremental::layout::Layout;
use tidegate::model::{Dialect, TableName, Tso, Value, Zone};
use tidegate::sql::ddl::{self, ast::Statement};
use tidegate::task::spec::Operations;

fn tracked(sql: &str) -> Tracked {
    tracked_with(sql, TableOptions::default())
}

fn tracked_with(sql: &str, options: TableOptions) -> Tracked {
    let statement = ddl::parse(sql.as_bytes()).unwrap().remove(0);
    let Statement::CreateTable { mut table, .. } = statement else { panic!("{sql}") };
    table.name = TableName::new("s", "t");
    let options = TableOptions { collations: Collations::default(), ..options };
    let target = TargetTable::new(Dialect::Mysql, &table, TableName::new("s", "t"), &options).unwrap();
    Tracked { table, target, hidden: Vec::new(), keep_other_columns: false, snapshot: Tso(0) }
}

fn integer(value: i64) -> Value<'static> {
    Value::Int(value)
}

#[derive(Debug, Clone)]
enum Change {
    Put(i64, i64),
    Remove(i64),
    /// A row gets another key.
    Move(i64, i64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = 0..12_i64;
    let change = prop_oneof![
        4 => (key.clone(), any::<i16>()).prop_map(|(key, value)| Change::Put(key, value.into())),
        2 => key.clone().prop_map(Change::Remove),
        2 => (key.clone(), key).prop_map(|(from, to)| Change::Move(from, to)),
    ];
    proptest::collection::vec(change, 1..60)
}

/// The source: carries a change out and gives the message that Drainer sends, None when there was nothing to change.
fn source(rows: &mut BTreeMap<i64, i64>, change: &Change, clustered: bool) -> Option<Table> {
    let table = Table::new("s", "t", &[("id", "bigint"), ("v", "int")], &["id"]);
    let row = |id: i64, value: i64| [integer(id), integer(value)];
    match *change {
        Change::Put(id, value) => match rows.insert(id, value) {
            None => Some(table.insert(&row(id, value))),
            Some(old) => Some(table.update(&row(id, old), &row(id, value))),
        },
        Change::Remove(id) => rows.remove(&id).map(|value| table.delete(&row(id, value))),
        Change::Move(from, to) => {
            if from == to || rows.contains_key(&to) {
                return None;
            }
            let value = rows.remove(&from)?;
            rows.insert(to, value);
            Some(if clustered {
                table.delete(&row(from, value)).insert(&row(to, value))
            } else {
                table.update(&row(from, value), &row(to, value))
            })
        }
    }
}

/// A target that understands the two statements.
fn run(rows: &mut BTreeMap<i64, i64>, sql: &str) {
    let numbers = |text: &str| -> Vec<i64> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '-'))
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().unwrap())
            .collect()
    };
    if let Some(values) = sql.strip_prefix("REPLACE INTO `s`.`t` (`id`,`v`) VALUES ") {
        for pair in numbers(values).chunks(2) {
            rows.insert(pair[0], pair[1]);
        }
    } else if let Some(keys) = sql.strip_prefix("DELETE FROM `s`.`t` WHERE `id` IN ") {
        for key in numbers(keys) {
            rows.remove(&key);
        }
    } else {
        panic!("{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_target_ends_like_the_source(
        changes in changes(),
        cuts in proptest::collection::vec(any::<bool>(), 60),
        clustered in any::<bool>(),
        backwards in any::<bool>(),
        repeat_from in 0..60_usize,
    ) {
        let tracked = tracked("CREATE TABLE t (id BIGINT PRIMARY KEY, v INT)");
        let mut rows = BTreeMap::new();
        let messages: Vec<Vec<u8>> = changes
            .iter()
            .filter_map(|change| source(&mut rows, change, clustered))
            .enumerate()
            .map(|(at, table)| Binlog::dml(at as u64 + 1, vec![table]).encode_to_vec())
            .collect();
        // A crash: a stretch up to the end is applied twice.
        let again = messages.iter().skip(repeat_from);
        let mut target = BTreeMap::new();
        let mut layout: Option<Arc<Layout>> = None;
        let mut batch = Batch::default();
        for (at, bytes) in messages.iter().chain(again).enumerate() {
            let message = Message::parse(bytes).unwrap();
            let Kind::Dml(tables) = message.kind else { panic!() };
            for table in tables {
                let table = table.unwrap();
                let layout = layout.get_or_insert_with(|| {
                    Arc::new(Layout::new(&tracked, &table.columns, &Arc::new(Zone::Utc)).unwrap())
                });
                let slot = batch.slot(layout).unwrap();
                for (nth, mutation) in table.mutations().enumerate() {
                    let place = Place { offset: at as i64, nth: nth as u64 };
                    batch.fold(slot, &mutation.unwrap(), place, 0).unwrap();
                }
            }
            if cuts[at % cuts.len()] {
                send(std::mem::take(&mut batch), &mut target, backwards);
            }
        }
        send(batch, &mut target, backwards);
        prop_assert_eq!(target, rows);
    }
}

fn send(batch: Batch, target: &mut BTreeMap<i64, i64>, backwards: bool) {
    let limits = Limits { rows: 3, bytes: 80, keys: 2, connections: 4 };
    for mut step in pieces(&Arc::new(batch), limits, Part::Whole) {
        if backwards {
            step.reverse();
        }
        for piece in step {
            let mut sql = Vec::new();
            piece.build(&mut sql).unwrap();
            run(target, &String::from_utf8(sql).unwrap());
        }
    }
}

fn statements(tracked: &Tracked, table: Table) -> [Vec<String>; 2] {
    let bytes = Binlog::dml(1, vec![table]).encode_to_vec();
    let message = Message::parse(&bytes).unwrap();
    let Kind::Dml(tables) = message.kind else { panic!() };
    let mut batch = Batch::default();
    for table in tables {
        let table = table.unwrap();
        let layout = Arc::new(Layout::new(tracked, &table.columns, &Arc::new(Zone::Utc)).unwrap());
        let slot = batch.slot(&layout).unwrap();
        for mutation in table.mutations() {
            batch.fold(slot, &mutation.unwrap(), Place { offset: 0, nth: 0 }, 0).unwrap();
        }
    }
    let limits = Limits { rows: 100, bytes: 1 << 20, keys: 100, connections: 1 };
    pieces(&Arc::new(batch), limits, Part::Whole).map(|step| {
        step.iter()
            .map(|piece| {
                let mut sql = Vec::new();
                piece.build(&mut sql).unwrap();
                String::from_utf8(sql).unwrap()
            })
            .collect()
    })
}

fn text(value: &str) -> Value<'_> {
    Value::Text(value.as_bytes())
}

#[test]
fn a_key_that_changes_only_its_case_is_deleted_before_it_is_written() {
    let tracked = tracked("CREATE TABLE t (a VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, b INT)");
    let table = Table::new("s", "t", &[("a", "varchar"), ("b", "int")], &["a"])
        .delete(&[text("Abc "), integer(1)])
        .insert(&[text("aBC"), integer(1)]);
    let [first, second] = statements(&tracked, table);
    assert_eq!(first, ["DELETE FROM `s`.`t` WHERE `a` IN ('Abc ')"]);
    assert_eq!(second, ["REPLACE INTO `s`.`t` (`a`,`b`) VALUES ('aBC',1)"]);
}

#[test]
fn generated_and_unknown_columns_are_left_out_and_missing_ones_keep_their_value() {
    let tracked = tracked("CREATE TABLE t (id INT PRIMARY KEY, a INT, g INT AS (a + 1) STORED, late INT)");
    let columns = [("id", "int"), ("a", "int"), ("g", "int"), ("not_yet", "int")];
    let row = [integer(1), integer(2), integer(3), integer(4)];
    let [upserts, _] = statements(&tracked, Table::new("s", "t", &columns, &["id"]).insert(&row));
    assert_eq!(
        upserts,
        [
            "INSERT INTO `s`.`t` (`id`,`a`) VALUES (1,2) ON DUPLICATE KEY UPDATE `id`=VALUES(`id`),`a`=VALUES(`a`)"
        ]
    );
}

/// AnalyticDB refuses to set a column of the key.
#[test]
fn rows_that_lack_columns_leave_the_key_alone_on_adb() {
    let mut tracked = tracked("CREATE TABLE t (id INT PRIMARY KEY, a INT, late INT)");
    let options = TableOptions::default();
    tracked.target =
        TargetTable::new(Dialect::Adb, &tracked.table, TableName::new("s", "t"), &options).unwrap();
    let row = [integer(1), integer(2)];
    let table = Table::new("s", "t", &[("id", "int"), ("a", "int")], &["id"]).insert(&row);
    assert_eq!(
        statements(&tracked, table)[0],
        ["INSERT INTO `s`.`t` (`id`,`a`) VALUES (1,2) ON DUPLICATE KEY UPDATE `a`=VALUES(`a`)"]
    );
    let table = Table::new("s", "t", &[("id", "int")], &["id"]).insert(&row[..1]);
    assert_eq!(statements(&tracked, table)[0], ["INSERT INTO `s`.`t` (`id`) VALUES (1)"]);
}

#[test]
fn composite_keys_are_deleted_as_tuples_in_the_order_of_the_key() {
    let tracked = tracked("CREATE TABLE t (a INT, b INT, c INT, PRIMARY KEY (c, a))");
    let columns = [("a", "int"), ("b", "int"), ("c", "int")];
    let row = [integer(1), integer(2), integer(3)];
    let [deletes, _] = statements(&tracked, Table::new("s", "t", &columns, &["a", "c"]).delete(&row));
    assert_eq!(deletes, ["DELETE FROM `s`.`t` WHERE (`c`,`a`) IN ((3,1))"]);
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    insert: bool,
    update: bool,
    delete: bool,
}

/// The target if each change came alone: what is sent, in order, each by the row as it is after it.
fn one_by_one(changes: &[Change], sent: Sent, clustered: bool) -> BTreeMap<i64, i64> {
    let (mut rows, mut target) = (BTreeMap::new(), BTreeMap::new());
    let put = |target: &mut BTreeMap<i64, i64>, id: i64, value: i64| {
        if value >= 0 {
            target.insert(id, value);
        } else if sent.delete {
            target.remove(&id);
        }
    };
    for change in changes {
        match *change {
            Change::Put(id, value) => {
                let known = rows.insert(id, value).is_some();
                if if known { sent.update } else { sent.insert } {
                    put(&mut target, id, value);
                }
            }
            Change::Remove(id) => {
                if rows.remove(&id).is_some() && sent.delete {
                    target.remove(&id);
                }
            }
            Change::Move(from, to) if from != to && !rows.contains_key(&to) => {
                let Some(value) = rows.remove(&from) else { continue };
                rows.insert(to, value);
                // With a clustered key TiDB sends a deletion and an insertion.
                let (leaves, comes) = if clustered {
                    (sent.delete, sent.insert)
                } else {
                    (sent.update && sent.delete, sent.update)
                };
                if leaves {
                    target.remove(&from);
                }
                if comes {
                    put(&mut target, to, value);
                }
            }
            Change::Move(..) => {}
        }
    }
    target
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn filters_and_kinds_of_changes_fold_as_if_each_change_came_alone(
        changes in changes(),
        cuts in proptest::collection::vec(any::<bool>(), 60),
        clustered in any::<bool>(),
        repeat_from in 0..60_usize,
        kinds in 1..8_u8,
    ) {
        let sent = Sent { insert: kinds & 1 > 0, update: kinds & 2 > 0, delete: kinds & 4 > 0 };
        let operations = Operations { insert: sent.insert, update: sent.update, delete: sent.delete };
        let options = TableOptions { filter: Some("v >= 0".to_owned()), operations, ..TableOptions::default() };
        let tracked = tracked_with("CREATE TABLE t (id BIGINT PRIMARY KEY, v INT)", options);
        let mut rows = BTreeMap::new();
        let messages: Vec<Vec<u8>> = changes
            .iter()
            .filter_map(|change| source(&mut rows, change, clustered))
            .map(|table| Binlog::dml(1, vec![table]).encode_to_vec())
            .collect();
        let mut target = BTreeMap::new();
        let mut batch = Batch::default();
        let mut layout: Option<Arc<Layout>> = None;
        // A crash: a stretch up to the end is applied twice.
        for (at, bytes) in messages.iter().chain(messages.iter().skip(repeat_from)).enumerate() {
            let message = Message::parse(bytes).unwrap();
            let Kind::Dml(tables) = message.kind else { panic!() };
            for table in tables {
                let table = table.unwrap();
                let layout = layout.get_or_insert_with(|| {
                    Arc::new(Layout::new(&tracked, &table.columns, &Arc::new(Zone::Utc)).unwrap())
                });
                let slot = batch.slot(layout).unwrap();
                for mutation in table.mutations() {
                    batch.fold(slot, &mutation.unwrap(), Place { offset: 0, nth: 0 }, 0).unwrap();
                }
            }
            if cuts[at % cuts.len()] {
                send(std::mem::take(&mut batch), &mut target, false);
            }
        }
        send(batch, &mut target, false);
        prop_assert_eq!(target, one_by_one(&changes, sent, clustered));
    }
}

#[test]
fn rows_and_keys_of_a_merged_table_carry_their_source() {
    let constant = Constant { column: "src".to_owned(), value: "it's".to_owned() };
    let options = TableOptions { mapping: Mapping::new(None, Some(constant)), ..TableOptions::default() };
    let tracked = tracked_with("CREATE TABLE t (id INT PRIMARY KEY, a INT)", options);
    let columns = [("id", "int"), ("a", "int")];
    let table = Table::new("s", "t", &columns, &["id"])
        .insert(&[integer(1), integer(2)])
        .delete(&[integer(3), integer(4)]);
    let [first, second] = statements(&tracked, table);
    assert_eq!(
        first,
        [
            "DELETE FROM `s`.`t` WHERE (`id`,`src`) IN ((3,'it\\'s'))",
            "REPLACE INTO `s`.`t` (`id`,`a`,`src`) VALUES (1,2,'it\\'s')",
        ]
    );
    assert!(second.is_empty());
}

#[test]
fn a_row_that_changes_often_takes_its_room_once() {
    let tracked = tracked("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(100))");
    let table = || Table::new("s", "t", &[("id", "bigint"), ("v", "varchar")], &["id"]);
    let row = |id, text: &'static str| [integer(id), Value::Text(text.as_bytes())];
    let (mut batch, mut layout, mut sizes) = (Batch::default(), None, Vec::new());
    // Shorter, longer, gone, back again; a second row lies in between.
    for (nth, changed) in [
        table().insert(&row(1, "long enough")),
        table().insert(&row(2, "another")),
        table().update(&row(1, "long enough"), &row(1, "short")),
        table().update(&row(1, "short"), &row(1, "long again")),
        table().delete(&row(1, "long again")),
        table().insert(&row(1, "and back")),
        table().update(&row(1, "and back"), &row(1, "longer than it ever was")),
        table().update(&row(1, "longer than it ever was"), &row(1, "the last")),
    ]
    .into_iter()
    .enumerate()
    {
        let payload = Binlog::dml(nth as u64 + 1, vec![changed]).encode_to_vec();
        let message = Message::parse(&payload).unwrap();
        let Kind::Dml(tables) = message.kind else { panic!("not a DML") };
        for change in tables {
            let change = change.unwrap();
            let layout = layout.get_or_insert_with(|| {
                Arc::new(Layout::new(&tracked, &change.columns, &Arc::new(Zone::Utc)).unwrap())
            });
            let slot = batch.slot(layout).unwrap();
            for mutation in change.mutations() {
                let place = Place { offset: nth as i64, nth: 0 };
                batch.fold(slot, &mutation.unwrap(), place, 0).unwrap();
            }
        }
        sizes.push(batch.bytes());
    }
    assert!(sizes[1..6].iter().all(|size| *size == sizes[1]), "{sizes:?}");
    assert!(sizes[6] > sizes[1] && sizes[7] == sizes[6], "{sizes:?}");
    let limits = Limits { rows: 100, bytes: 1 << 20, keys: 100, connections: 1 };
    let [first, second] = pieces(&Arc::new(batch), limits, Part::Whole);
    let mut sql = Vec::new();
    first.iter().chain(&second).for_each(|piece| piece.build(&mut sql).unwrap());
    assert_eq!(
        String::from_utf8(sql).unwrap(),
        "REPLACE INTO `s`.`t` (`id`,`v`) VALUES (1,'the last'),(2,'another')"
    );
}

/// Batches of several sources of one table: each part knows its keys, and what comes behind it waits for them.
#[test]
fn what_comes_behind_a_part_of_a_batch_waits_for_its_keys() {
    let layouts = ["t", "u"].map(|name| {
        let constant = Constant { column: "src".to_owned(), value: name.to_owned() };
        let options = TableOptions { mapping: Mapping::new(None, Some(constant)), ..TableOptions::default() };
        let mut tracked = tracked_with("CREATE TABLE t (id BIGINT PRIMARY KEY, v INT)", options);
        tracked.table.name = TableName::new("s", name);
        let empty = Table::new("s", name, &[("id", "bigint"), ("v", "int")], &["id"]);
        let bytes = Binlog::dml(1, vec![empty.clone()]).encode_to_vec();
        let Kind::Dml(tables) = Message::parse(&bytes).unwrap().kind else { panic!() };
        let change = tables.into_iter().next().unwrap().unwrap();
        (Arc::new(Layout::new(&tracked, &change.columns, &Arc::new(Zone::Utc)).unwrap()), empty)
    });
    let folded = |ids: std::ops::Range<i64>| {
        let mut batch = Batch::default();
        for (layout, empty) in &layouts {
            for id in ids.clone() {
                let table = empty.clone().insert(&[integer(id), integer(0)]);
                let bytes = Binlog::dml(1, vec![table]).encode_to_vec();
                let Kind::Dml(tables) = Message::parse(&bytes).unwrap().kind else { panic!() };
                let slot = batch.slot(layout).unwrap();
                for mutation in tables.into_iter().next().unwrap().unwrap().mutations() {
                    batch.fold(slot, &mutation.unwrap(), Place { offset: 0, nth: 0 }, 0).unwrap();
                }
            }
        }
        batch
    };
    let rows = |batch: &Arc<Batch>, part: Part<'_>| -> u64 {
        let limits = Limits { rows: 100, bytes: 1 << 20, keys: 100, connections: 1 };
        pieces(batch, limits, part).iter().flatten().map(Job::rows).sum()
    };
    let parts = folded(0..4).split("s.t");
    assert_eq!(parts.len(), 2);
    for part in &parts {
        // One source more than the part has: its rows are somebody else's in the same table.
        let next = Arc::new(folded(2..6));
        let held = next.behind(part);
        assert_eq!((rows(&next, Part::Held(&held)), rows(&next, Part::Free(&held))), (6, 2));
    }
    let first = folded(0..4);
    let next = Arc::new(folded(2..6));
    // Several sources at once are not told apart.
    assert_eq!(rows(&next, Part::Free(&next.behind(&first))), 0);
}

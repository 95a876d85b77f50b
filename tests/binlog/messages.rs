use proptest::prelude::*;
use tidegate::binlog::encode::{self, Binlog, Cell, Encode, Mutation, Row};
use tidegate::binlog::{Counts, Detail, Fingerprint, Kind, Malformed, Message, MutationKind, describe};
use tidegate::model::Value;

use super::fixtures;

fn walk(payload: &[u8]) -> Result<Counts, Malformed> {
    Message::parse(payload)?.validate()
}

#[test]
fn every_captured_message_decodes() {
    let mut messages = 0;
    for captured in fixtures::all() {
        let message = Message::parse(&captured.payload).unwrap_or_else(|e| panic!("{}: {e}", captured.name));
        let counts = message.validate().unwrap_or_else(|e| panic!("{}: {e}", captured.name));
        if let Some(commit_ts) = captured.commit_ts {
            assert_eq!(message.commit_ts.0, commit_ts, "{}", captured.name);
        }
        assert_eq!(matches!(message.kind, Kind::Dml(_)), counts.tables > 0, "{}", captured.name);
        messages += 1;
    }
    assert_eq!(messages, 45 + 7 + 786 + 870 + 154 + 154);
}

/// prost reads the same from the bytes, and Drainer's bytes come out again.
#[test]
fn what_is_read_encodes_to_the_same_bytes() {
    for captured in fixtures::all() {
        let message = Message::parse(&captured.payload).unwrap();
        let read = Binlog::try_from(&message).unwrap();
        assert_eq!(read, Binlog::decode(captured.payload.as_slice()).unwrap(), "{}", captured.name);
        assert!(read.encode_to_vec() == captured.payload, "{}", captured.name);
    }
}

#[test]
fn an_old_drainer_has_no_keys_and_no_lengths() {
    let captured = fixtures::read("drainer/v2.1.jsonl");
    let message = Message::parse(&captured[13].payload).unwrap();
    let Kind::Dml(tables) = message.kind else { panic!("not a DML") };
    let table = tables.iter().next().unwrap().unwrap();
    assert_eq!((table.schema, table.table), (&b"e1"[..], &b"t"[..]));
    assert!(table.unique_keys().unwrap().is_empty());
    assert_eq!(table.columns[0].mysql_type, b"bigint");
    assert!(table.columns[0].is_primary_key);
    assert_eq!(table.columns[0].flen, None);
    let mutation = table.mutations().next().unwrap().unwrap();
    assert_eq!(mutation.kind, MutationKind::Update);
    assert!(mutation.old.is_some());
}

#[test]
fn values_arrive_as_drainer_wrote_them() {
    let captured = fixtures::read("drainer/v7.5-translator.jsonl");
    // gc (id, a, v virtual, s stored, nv, u): insert, update, delete
    let message = Message::parse(&captured[1].payload).unwrap();
    let Kind::Dml(tables) = message.kind else { panic!("not a DML") };
    let table = tables.iter().next().unwrap().unwrap();
    assert_eq!(table.unique_keys().unwrap().len(), 3);
    assert_eq!(table.unique_keys().unwrap()[2].columns, [b"a", b"u"]);
    let mutations: Vec<_> = table.mutations().map(|m| m.unwrap()).collect();
    let values = |row: tidegate::binlog::RowBytes| {
        row.values().map(|v| format!("{:?}", v.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(values(mutations[0].row), ["Int(1)", "Int(10)", "Null", "Int(20)", "Int(0)", "Text([113])"]);
    assert_eq!(
        values(mutations[1].old.unwrap()),
        ["Int(1)", "Int(10)", "Null", "Null", "Null", "Text([113])"]
    );
    assert_eq!(mutations[2].kind, MutationKind::Delete);
}

#[test]
fn entries_of_one_table_share_their_columns() {
    let table = |id| {
        encode::Table::new("s", "t", &[("id", "int"), ("v", "varchar")], &["id"])
            .insert(&[Value::Int(id), Value::Text(b"x")])
    };
    let other = encode::Table::new("s", "t", &[("id", "int")], &["id"]).insert(&[Value::Int(9)]);
    let payload = Binlog::dml(1, vec![table(1), table(2), other]).encode_to_vec();
    let message = Message::parse(&payload).unwrap();
    let Kind::Dml(tables) = message.kind else { panic!("not a DML") };
    let tables: Vec<_> = tables.iter().map(|table| table.unwrap()).collect();
    assert!(std::ptr::eq(&*tables[0].columns, &*tables[1].columns));
    assert_eq!(tables[0].columns_bytes(), tables[1].columns_bytes());
    assert_ne!(tables[1].columns_bytes(), tables[2].columns_bytes());
    assert_eq!(tables[2].columns.len(), 1);
}

#[test]
fn fields_may_come_in_any_order_and_unknown_ones_are_skipped() {
    let plain = encode::Table::new("s", "t", &[("id", "int")], &["id"]).insert(&[Value::Int(7)]);
    let binlog = Binlog::dml(5, vec![plain.clone()]);
    // dml_data (twice, they merge), an unknown field of each wire type, commit_ts, type
    let dml = binlog.dml_data.clone().unwrap().encode_to_vec();
    let mut bytes = Vec::new();
    for _ in 0..2 {
        bytes.extend([0x1a, dml.len() as u8]);
        bytes.extend(&dml);
    }
    bytes.extend([0x38, 0x01, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0x4a, 0x01, 0xff, 0x55, 0, 0, 0, 0]);
    bytes.extend([0x10, 0x05, 0x08, 0x00]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.validate().unwrap().inserts, 2);
    let read = Binlog::try_from(&message).unwrap();
    assert_eq!(read, Binlog::dml(5, vec![plain.clone(), plain]));
    assert_eq!(read, Binlog::decode(bytes.as_slice()).unwrap());
}

#[test]
fn a_cell_without_fields_is_empty_and_null_beats_values() {
    let columns = [("a", "varchar"), ("b", "blob"), ("c", "int"), ("d", "json"), ("e", "int")];
    let mut table = encode::Table::new("s", "t", &columns, &[]);
    let cells = vec![
        Cell::default(),
        Cell { is_null: Some(false), ..Cell::default() },
        Cell { is_null: Some(true), int64_value: Some(3), ..Cell::default() },
        Cell { bytes_value: Some(b"1".into()), ..Cell::default() },
        Cell { int64_value: Some(3), uint64_value: Some(4), ..Cell::default() },
    ];
    let row = Row { columns: cells };
    table.mutations.push(Mutation { kind: encode::INSERT, row, change_row: None });
    let payload = Binlog::dml(5, vec![table]).encode_to_vec();
    let message = Message::parse(&payload).unwrap();
    let Kind::Dml(tables) = message.kind else { panic!("not a DML") };
    let table = tables.iter().next().unwrap().unwrap();
    let values: Vec<_> =
        table.mutations().next().unwrap().unwrap().row.values().map(|v| v.unwrap()).collect();
    let wanted = [Value::Text(b""), Value::Bytes(b""), Value::Null, Value::Bytes(b"1"), Value::UInt(4)];
    assert_eq!(values, wanted);
}

#[test]
fn what_drainer_never_writes_is_refused_with_its_place() {
    let table = || encode::Table::new("s", "t", &[("id", "int"), ("v", "int")], &["id"]);
    let row = [Value::Int(1), Value::Int(2)];
    let good = Binlog::dml(5, vec![table().insert(&row)]);
    assert!(walk(&good.encode_to_vec()).is_ok());
    let bent = |bend: &dyn Fn(&mut Binlog)| {
        let mut binlog = good.clone();
        bend(&mut binlog);
        walk(&binlog.encode_to_vec()).unwrap_err()
    };
    fn first(binlog: &mut Binlog) -> &mut encode::Table {
        &mut binlog.dml_data.as_mut().unwrap().tables[0]
    }
    type Bend<'a> = &'a dyn Fn(&mut Binlog);
    let cases: [(&str, Bend<'_>); 14] = [
        ("unknown type of message", &|b| b.kind = 3),
        ("no commit_ts", &|b| b.commit_ts = 0),
        ("no commit_ts", &|b| b.commit_ts = -4),
        ("does not go with the type", &|b| b.kind = encode::DDL),
        ("does not go with the type", &|b| b.dml_data = None),
        ("does not go with the type", &|b| b.ddl_data = Some(encode::DdlData::default())),
        ("without ddl_query", &|b| {
            (b.kind, b.dml_data, b.ddl_data) = (encode::DDL, None, Some(encode::DdlData::default()))
        }),
        ("without schema_name", &|b| first(b).schema_name = None),
        ("without table_name", &|b| first(b).table_name = None),
        ("fewer cells", &|b| drop(first(b).mutations[0].row.columns.pop())),
        ("more cells", &|b| first(b).mutations[0].row.columns.push(Cell::default())),
        ("fewer cells", &|b| first(b).mutations[0].row.columns.clear()),
        ("unknown type of mutation", &|b| first(b).mutations[0].kind = 3),
        ("old image", &|b| first(b).mutations[0].kind = encode::UPDATE),
    ];
    for (what, bend) in cases {
        let malformed = bent(bend);
        assert!(malformed.what.contains(what), "{malformed} is not about: {what}");
    }
    for bytes in [&b""[..], b"\x08\x00", b"\x10\x05", b"not protobuf", b"{\"id\":1}", b"\x0b\x0c"] {
        assert!(walk(bytes).is_err(), "{bytes:?}");
    }
    let error = walk(b"\x08\x00\x10\x05\x1a\x05ab").unwrap_err();
    assert_eq!((error.offset, error.what), (6, "a field that is longer than what is there"));
    let error = error.at("obinlog", tidegate::model::Offset(12));
    assert_eq!(error.kind, tidegate::error::ErrorKind::CorruptMessage);
    assert_eq!(error.object.as_deref(), Some("topic obinlog offset 12"));
    assert!(error.hint.is_some());
}

#[test]
fn fingerprints_tell_a_copy_from_another_transaction() {
    let table = |id| encode::Table::new("s", "t", &[("id", "int")], &["id"]).insert(&[Value::Int(id)]);
    let print = |binlog: Binlog| {
        let payload = binlog.encode_to_vec();
        let message = Message::parse(&payload).unwrap();
        Fingerprint::new(&message, &message.validate().unwrap())
    };
    let first = print(Binlog::dml(5, vec![table(1)]));
    assert_eq!(first, print(Binlog::dml(5, vec![table(1)])));
    let other_bytes = print(Binlog::dml(5, vec![table(2)]));
    assert_eq!(first.shape, other_bytes.shape);
    assert_ne!(first.hash, other_bytes.hash);
    assert_ne!(first.shape, print(Binlog::dml(5, vec![table(1), table(1)])).shape);
    assert_ne!(first.shape, print(Binlog::ddl(5, "s", "t", "drop table t")).shape);
}

#[test]
fn messages_are_described_without_values_unless_asked() {
    let table = || {
        encode::Table::new("shop", "orders", &[("id", "int"), ("note", "varchar")], &["id"])
            .insert(&[Value::Int(1), Value::Text(b"it's \xe9")])
    };
    let old = [Value::Int(1), Value::Null];
    let payload = Binlog::dml(470653877579153410, vec![table(), table().update(&old, &old)]).encode_to_vec();
    let message = Message::parse(&payload).unwrap();
    let shape = describe(&message, Detail::Shape).unwrap().to_string();
    assert_eq!(
        shape,
        "commit_ts 470653877579153410 (2026-11-23T02:47:39.857Z), 294 bytes: transaction on 1 table(s)\n  \
         shop.orders: 2 inserts, 1 updates, 0 deletes\n    columns id int*, note varchar\n    keys PRIMARY(id)"
    );
    let values = describe(&message, Detail::Values(3)).unwrap().to_string();
    assert!(values.ends_with("insert (1, 'it\\'s \\xe9')\n    update (1, NULL) was (1, NULL)"), "{values}");
    let payload = Binlog::ddl(1 << 18, "shop", "", "CREATE DATABASE `shop`;").encode_to_vec();
    let ddl = describe(&Message::parse(&payload).unwrap(), Detail::Shape).unwrap();
    assert!(ddl.to_string().ends_with("DDL on database shop\n  CREATE DATABASE `shop`;"));
    assert_eq!(serde_json::to_value(&ddl).unwrap()["kind"], "ddl");
    for captured in fixtures::all() {
        describe(&Message::parse(&captured.payload).unwrap(), Detail::Values(5)).unwrap();
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error_or_complete() {
    for captured in fixtures::all().into_iter().filter(|captured| captured.payload.len() < 1500) {
        for length in 0..captured.payload.len() {
            // A cut at the end of a top-level field leaves type and commit_ts without data, which is refused too.
            assert!(walk(&captured.payload[..length]).is_err(), "{} cut to {length}", captured.name);
        }
    }
}

fn small_messages() -> Vec<Vec<u8>> {
    fixtures::all().into_iter().map(|c| c.payload).filter(|payload| payload.len() < 4000).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = walk(&bytes);
    }

    #[test]
    fn random_tables_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut payload = vec![0x08, 0x00, 0x10, 0x05, 0x1a, bytes.len() as u8 + 2, 0x0a, bytes.len() as u8];
        payload.extend(bytes);
        let _ = walk(&payload);
    }
}

/// After validation no iterator fails, and prost agrees with the walker wherever both accept the bytes.
#[test]
fn flipped_bits_never_panic_and_never_read_as_something_else() {
    let messages = small_messages();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30_000) };
    let flips = prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4);
    let strategy = (0..messages.len(), flips);
    proptest::test_runner::TestRunner::new(config)
        .run(&strategy, |(chosen, flips)| {
            let mut payload = messages[chosen].clone();
            for (place, bit) in flips {
                let place = place.index(payload.len());
                payload[place] ^= 1 << bit;
            }
            if walk(&payload).is_ok() {
                let read = Binlog::try_from(&Message::parse(&payload).unwrap()).unwrap();
                let prost = Binlog::decode(payload.as_slice());
                prop_assert!(prost.is_ok(), "prost refuses what the walker accepts: {prost:?}");
                let mut prost = prost.unwrap();
                if !normalise(&mut prost) {
                    return Ok(());
                }
                // NaN is not equal to itself, its bytes are.
                prop_assert_eq!(read.encode_to_vec(), prost.encode_to_vec());
            }
            Ok(())
        })
        .unwrap();
}

/// The walker's view of what only protobuf's letter allows: absent names of DDL and keys are empty, cells have one field.
/// False when a cell has several values: prost does not tell which came last.
fn normalise(binlog: &mut Binlog) -> bool {
    binlog.time_zone = None;
    if let Some(ddl) = &mut binlog.ddl_data {
        ddl.schema_name.get_or_insert_default();
        ddl.table_name.get_or_insert_default();
    }
    for table in binlog.dml_data.iter_mut().flat_map(|dml| &mut dml.tables) {
        for key in &mut table.unique_keys {
            key.name.get_or_insert_default();
        }
        let types: Vec<Vec<u8>> = table.column_info.iter().map(|c| c.mysql_type.clone()).collect();
        let rows = table.mutations.iter_mut().flat_map(|m| [Some(&mut m.row), m.change_row.as_mut()]);
        for row in rows.flatten() {
            for (cell, mysql_type) in row.columns.iter_mut().zip(&types) {
                let is_null = cell.is_null.take();
                let values = [
                    cell.int64_value.is_some(),
                    cell.uint64_value.is_some(),
                    cell.double_value.is_some(),
                    cell.bytes_value.is_some(),
                    cell.string_value.is_some(),
                ];
                let values = values.into_iter().filter(|value| *value).count();
                if is_null == Some(true) {
                    *cell = Cell { is_null: Some(true), ..Cell::default() };
                } else if values > 1 {
                    return false;
                } else if values == 0 {
                    let binary = [&b"bit"[..], b"json", b"binary", b"varbinary"];
                    let blobs = [&b"tinyblob"[..], b"blob", b"mediumblob", b"longblob"];
                    let binary = [&binary[..], &blobs[..]].concat();
                    *cell = if binary.contains(&mysql_type.as_slice()) {
                        Value::Bytes(b"").into()
                    } else {
                        Value::Text(b"").into()
                    };
                }
            }
        }
    }
    true
}

prop_compose! {
    fn cell()(kind in 0..6, int in any::<i64>(), uint in any::<u64>(), double in any::<f64>(),
              bytes in prop::collection::vec(any::<u8>(), 0..20)) -> Cell {
        match kind {
            0 => Value::Null.into(),
            1 => Value::Int(int).into(),
            2 => Value::UInt(uint).into(),
            3 => Value::Double(double).into(),
            4 => Value::Bytes(&bytes).into(),
            _ => Value::Text(&bytes).into(),
        }
    }
}

fn row(width: usize) -> impl Strategy<Value = Row> {
    prop::collection::vec(cell(), width).prop_map(|columns| Row { columns })
}

fn table() -> impl Strategy<Value = encode::Table> {
    (0..6usize).prop_flat_map(|width| {
        let mutation = (row(width), prop::option::of(row(width)), any::<bool>()).prop_map(
            |(row, change_row, delete)| {
                let plain = if delete { encode::DELETE } else { encode::INSERT };
                let kind = if change_row.is_some() { encode::UPDATE } else { plain };
                Mutation { kind, row, change_row }
            },
        );
        prop::collection::vec(mutation, 0..4).prop_map(move |mutations| {
            let names = ["a", "b", "c", "d", "e", "f"];
            let columns: Vec<_> = names.iter().take(width).map(|name| (*name, "int")).collect();
            let mut table = encode::Table::new("s", "t", &columns, &["a"]);
            table.mutations = mutations;
            table
        })
    })
}

proptest! {
    #[test]
    fn any_transaction_is_read_as_written(tables in prop::collection::vec(table(), 0..4), ts in 1..i64::MAX) {
        let written = Binlog::dml(ts as u64, tables).encode_to_vec();
        let message = Message::parse(&written).unwrap();
        message.validate().unwrap();
        prop_assert_eq!(Binlog::try_from(&message).unwrap().encode_to_vec(), written);
    }
}

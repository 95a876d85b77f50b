//! What makes a table pass or fail, by table.

use super::super::existing::{ExistingColumn, ExistingTable};
use super::*;
use crate::model::{Column, ColumnType, Generated, Key, KeyPart, TypeName};
use crate::precheck::CheckOutcome::{Fail, Pass, Skipped, Warn};

fn column(name: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        ty: ColumnType::new(TypeName::Int),
        nullable,
        default: None,
        auto_increment: false,
        on_update_now: false,
        generated: None,
        comment: String::new(),
    }
}

fn key(kind: KeyKind, columns: &[&str]) -> Key {
    Key {
        name: None,
        kind,
        parts: columns
            .iter()
            .map(|name| KeyPart::Column { name: (*name).to_owned(), prefix: None })
            .collect(),
        clustered: None,
    }
}

fn table(name: &str, columns: Vec<Column>, keys: Vec<Key>) -> SourceTable {
    let (schema, table) = name.split_once('.').unwrap();
    let name = TableName::new(schema, table);
    SourceTable {
        name: name.clone(),
        target: name.clone(),
        rows: 1,
        bytes: 1,
        definition: Some(Ok(Table {
            name,
            columns,
            keys,
            charset: None,
            collation: None,
            comment: String::new(),
            partitioning: None,
            temporary: false,
            time_to_live: false,
        })),
    }
}

fn ordinary(name: &str) -> SourceTable {
    table(name, vec![column("id", false), column("a", true)], vec![key(KeyKind::Primary, &["id"])])
}

fn inventory(tables: Vec<SourceTable>) -> Inventory {
    Inventory { tables, ..Inventory::default() }
}

fn spec(extra: serde_json::Value) -> Spec {
    let mut spec = serde_json::json!({
        "name": "t", "source": {"tidb": "s", "kafka": "k", "topic": "x"}, "target": "d",
        "objects": {"include": ["*.*"]},
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

#[test]
fn a_definition_that_was_not_read_is_an_outage_and_one_that_is_not_understood_is_none() {
    let told = |kind| {
        let mut broken = ordinary("a.b");
        broken.definition = Some(Err(crate::error::Error::new(kind, "no table")));
        crate::precheck::plans::types(&inventory(vec![ordinary("a.a"), broken]), &[], &BTreeSet::new())
            .into_item("tables.types", &[])
    };
    let (unread, unknown) =
        (told(crate::error::ErrorKind::Unreachable), told(crate::error::ErrorKind::SchemaMismatch));
    assert!(
        unread.blocks() && unread.outage && unread.detail.contains("1 table could not be read"),
        "{unread:?}"
    );
    assert!(unknown.blocks() && !unknown.outage && unknown.detail.contains("not understood"), "{unknown:?}");
}

#[test]
fn rules_of_tables_are_judged_by_the_tables() {
    let columns = || vec![column("id", false), column("a", false), column("b", true)];
    let found = inventory(vec![
        table("a.x", columns(), vec![key(KeyKind::Primary, &["id"])]),
        table("a.y", columns(), vec![key(KeyKind::Primary, &["id"]), key(KeyKind::Unique, &["a"])]),
    ]);
    let judge = |tables: serde_json::Value| {
        let spec = spec(serde_json::json!({"objects": {"include": ["a.*"], "tables": tables}}));
        let selection = Selection::new(&spec).unwrap();
        let plans = plans::plans(&found, &spec, Dialect::Mysql, Some(&selection), None);
        [
            rules::mapping(&plans, Some(&selection)),
            rules::filters(&plans),
            rules::primary_keys(&plans, Some(&selection)),
            plans::types(&found, &plans, &BTreeSet::new()),
        ]
        .map(|finding| finding.outcome)
    };
    assert_eq!(judge(serde_json::json!({})), [Pass, Pass, Pass, Pass]);
    let missing = serde_json::json!({"a.x": {"columns": {"exclude": ["none"]}}});
    assert_eq!(judge(missing), [Warn, Pass, Pass, Pass]);
    for filter in ["c = 1", "a = '1'", "a LIKE '1%'"] {
        let filter = serde_json::json!({"a.x": {"filter": filter}});
        assert_eq!(judge(filter), [Pass, Fail, Pass, Pass]);
    }
    let key = |table: &str, name: &str| {
        let mut tables = serde_json::json!({});
        tables[table] = serde_json::json!({"primary_key": [name]});
        judge(tables)
    };
    assert_eq!(key("a.x", "a"), [Pass, Pass, Warn, Pass], "nothing makes it unique");
    assert_eq!(key("a.y", "a"), [Pass, Pass, Pass, Pass]);
    assert_eq!(key("a.y", "b"), [Pass, Pass, Pass, Fail], "it may be NULL");
    let excluded = serde_json::json!({"a.y": {"columns": {"exclude": ["ID"]}}});
    assert_eq!(judge(excluded), [Pass, Pass, Pass, Fail], "it is the key");
    let other = serde_json::json!({"a.y": {"columns": {"exclude": ["id"]}, "primary_key": ["a"]}});
    assert_eq!(judge(other), [Pass, Pass, Pass, Pass]);
}

#[test]
fn merged_tables_must_be_alike() {
    let merge = |second: SourceTable| {
        let spec = spec(serde_json::json!({
            "objects": {"include": ["*.*"], "schemas": {"a": {"target": "m"}, "b": {"target": "m"}}},
            "merge": {"column": "src", "value": "{schema}.{table}"},
        }));
        let selection = Selection::new(&spec).unwrap();
        let mut found = inventory(vec![ordinary("a.t"), second]);
        for table in &mut found.tables {
            table.target = selection.target(&table.name);
        }
        let plans = plans::plans(&found, &spec, Dialect::Mysql, Some(&selection), None);
        rules::merge(&plans, &spec).into_item("x", &[])
    };
    assert_eq!(merge(ordinary("b.t")).outcome, Pass);
    let wider = vec![column("id", false), column("a", true), column("more", true)];
    let item = merge(table("b.t", wider, vec![key(KeyKind::Primary, &["id"])]));
    assert_eq!(item.outcome, Fail);
    assert!(item.objects[0].contains("`more`") && item.objects[0].contains("a.t"), "{item:?}");
}

fn there(columns: &[(&str, bool)]) -> ExistingTable {
    ExistingTable {
        columns: columns
            .iter()
            .map(|(name, optional)| ExistingColumn { name: (*name).to_owned(), optional: *optional })
            .collect(),
    }
}

#[test]
fn names_that_the_source_does_not_have_fail() {
    let mut found = inventory(vec![ordinary("a.b")]);
    assert_eq!(selected(&found).outcome, Pass);
    found.missing.push(TableName::new("a", "c"));
    assert_eq!(selected(&found).outcome, Fail);
    assert_eq!(selected(&Inventory::default()).outcome, Fail);
}

#[test]
fn tables_without_a_key_need_a_policy() {
    let keyless = || {
        inventory(vec![
            ordinary("a.good"),
            table("a.bad", vec![column("u", true)], vec![key(KeyKind::Unique, &["u"])]),
        ])
    };
    let of = |policy: &str, dialect| {
        keys(&keyless(), &spec(serde_json::json!({"tables_without_key": policy})), dialect, None)
    };
    assert_eq!(of("refuse", Dialect::Mysql).outcome, Fail);
    assert_eq!(of("match_row", Dialect::Mysql).outcome, Pass);
    assert_eq!(of("match_row", Dialect::Adb).outcome, Fail);
    assert_eq!(of("refuse", Dialect::Mysql).into_item("x", &[]).objects, ["a.bad"]);

    let named = spec(serde_json::json!({
        "objects": {"include": ["a.*"], "tables": {"a.bad": {"primary_key": ["u"]}}}
    }));
    let selection = Selection::new(&named).unwrap();
    assert_eq!(keys(&keyless(), &named, Dialect::Adb, Some(&selection)).outcome, Pass);
}

#[test]
fn a_key_of_generated_columns_is_none() {
    let mut hash = column("h", false);
    hash.generated = Some(Generated { expression: "md5(a)".to_owned(), stored: true });
    let columns = vec![hash, column("id", false)];
    let only = inventory(vec![table("a.b", columns.clone(), vec![key(KeyKind::Primary, &["h"])])]);
    assert_eq!(generated_keys(&only, None).outcome, Fail);
    assert_eq!(keys(&only, &spec(serde_json::json!({})), Dialect::Mysql, None).outcome, Pass);
    let both = vec![key(KeyKind::Primary, &["h"]), key(KeyKind::Unique, &["id"])];
    assert_eq!(generated_keys(&inventory(vec![table("a.b", columns, both)]), None).outcome, Pass);
}

#[test]
fn two_tables_must_not_become_one() {
    let to =
        |name: &str, target: &str| SourceTable { target: TableName::new("dw", target), ..ordinary(name) };
    let of = |tables, spec: &Spec, dialect, existing: &Existing| {
        names(&inventory(tables), spec, dialect, Some(existing)).outcome
    };
    let plain = spec(serde_json::json!({}));
    let exact = Existing::of(false, []);
    let folded = Existing::of(true, []);
    assert_eq!(of(vec![to("a.t", "t"), to("b.t", "t")], &plain, Dialect::Mysql, &exact), Fail);
    assert_eq!(of(vec![to("a.t", "t"), to("b.t", "T")], &plain, Dialect::Mysql, &exact), Pass);
    assert_eq!(of(vec![to("a.t", "t"), to("b.t", "T")], &plain, Dialect::Mysql, &folded), Fail);
    assert_eq!(of(vec![to("a.t", "t"), to("b.t", "T")], &plain, Dialect::Adb, &exact), Fail);
    let merged = spec(serde_json::json!({"merge": {"column": "s", "value": "v"}}));
    assert_eq!(of(vec![to("a.t", "t"), to("b.t", "t")], &merged, Dialect::Mysql, &exact), Pass);
}

#[test]
fn names_follow_the_rules_of_the_target() {
    for (schema, adb, mysql) in [
        ("shop", true, true),
        ("my__shop", false, true),
        ("Shop", false, true),
        ("analyticdb", false, true),
        ("mysql", false, false),
    ] {
        assert_eq!(schema_fault(schema, Dialect::Adb).is_none(), adb, "{schema}");
        assert_eq!(schema_fault(schema, Dialect::Mysql).is_none(), mysql, "{schema}");
    }
    assert!(name_fault("1st", Dialect::Adb).is_some() && name_fault("1st", Dialect::Mysql).is_none());
    assert!(name_fault("__adb_auto_id__", Dialect::Adb).is_some());
    assert!(name_fault(&"x".repeat(65), Dialect::Mysql).is_some());
    assert!(name_fault("_x", Dialect::Adb).is_none());
}

#[test]
fn a_table_whose_rows_the_source_deletes_by_their_age_is_warned_of() {
    let mut expiring = ordinary("a.b");
    if let Some(Ok(table)) = &mut expiring.definition {
        table.time_to_live = true;
    }
    assert_eq!(time_to_live(&inventory(vec![ordinary("a.c")])).outcome, Pass);
    let found = time_to_live(&inventory(vec![ordinary("a.c"), expiring]));
    assert_eq!(found.outcome, Warn);
}

#[test]
fn too_many_columns_are_seen() {
    let wide = |count: usize| {
        let columns = (0..count).map(|n| column(&format!("c{n}"), false)).collect();
        inventory(vec![table("a.b", columns, vec![])])
    };
    assert_eq!(columns(&wide(1017), Dialect::Mysql).outcome, Pass);
    assert_eq!(columns(&wide(1018), Dialect::Mysql).outcome, Fail);
    assert_eq!(columns(&wide(4096), Dialect::Adb).outcome, Pass);
    assert_eq!(columns(&wide(4097), Dialect::Adb).outcome, Fail);
}

#[test]
fn tables_on_the_target_are_in_the_way_or_must_fit() {
    let found = inventory(vec![ordinary("a.b")]);
    let of = |extra, table: Option<ExistingTable>| {
        let tables = table.map(|table| (TableName::new("a", "b"), table));
        let spec = spec(extra);
        let plans = plans::plans(&found, &spec, Dialect::Mysql, None, None);
        existing_tables(&found, &plans, &spec, &HashSet::new(), &Ok(Existing::of(false, tables))).outcome
    };
    let same = there(&[("ID", false), ("a", true)]);
    assert_eq!(of(serde_json::json!({}), None), Pass);
    assert_eq!(of(serde_json::json!({}), Some(same.clone())), Fail);
    let keep = || serde_json::json!({"existing_tables": "keep"});
    assert_eq!(of(keep(), Some(same.clone())), Pass);
    assert_eq!(of(keep(), Some(there(&[("id", false)]))), Fail);
    assert_eq!(of(keep(), Some(there(&[("id", false), ("a", true), ("x", true)]))), Warn);
    assert_eq!(of(keep(), Some(there(&[("id", false), ("a", true), ("x", false)]))), Fail);
    let stream_only = || serde_json::json!({"phases": {"schema": false, "full": false}});
    assert_eq!(of(stream_only(), None), Fail);
    assert_eq!(of(stream_only(), Some(same)), Pass);
}

#[test]
fn distribution_columns_join_the_key_or_are_refused() {
    let found = inventory(vec![table(
        "a.b",
        vec![column("id", false), column("a", true), column("day", false)],
        vec![key(KeyKind::Primary, &["id"])],
    )]);
    let of = |options: serde_json::Value, dialect| {
        let spec = spec(serde_json::json!({
            "objects": {"include": ["a.*"], "tables": {"a.b": options}}
        }));
        let selection = Selection::new(&spec).unwrap();
        let plans = plans::plans(&found, &spec, dialect, Some(&selection), None);
        let types = plans::types(&found, &plans, &BTreeSet::new());
        (types.outcome, plans::distribution(&plans, dialect))
    };
    let plain = of(serde_json::json!({"distribute_by": ["ID"]}), Dialect::Adb);
    assert_eq!((plain.0, plain.1.outcome, plain.1.hint), (Pass, Pass, None));
    let (types, widened) = of(serde_json::json!({"distribute_by": ["day"]}), Dialect::Adb);
    assert_eq!((types, widened.into_item("x", &[]).objects), (Pass, vec!["a.b: day".to_owned()]));
    assert_eq!(of(serde_json::json!({"distribute_by": ["a"]}), Dialect::Adb).0, Fail);
    assert_eq!(of(serde_json::json!({"distribute_by": ["zz"]}), Dialect::Adb).0, Fail);
    assert_eq!(of(serde_json::json!({}), Dialect::Mysql).1.outcome, Skipped);
}

#[test]
fn types_that_the_target_lacks_fail_with_their_cure() {
    let mut wide = column("price", true);
    wide.ty = ColumnType { length: Some(65), scale: Some(2), ..ColumnType::new(TypeName::Decimal) };
    let found = inventory(vec![
        ordinary("a.good"),
        table("a.bad", vec![column("id", false), wide], vec![key(KeyKind::Primary, &["id"])]),
    ]);
    let of = |dialect, told: &BTreeSet<TableName>| {
        let plans = plans::plans(&found, &spec(serde_json::json!({})), dialect, None, None);
        plans::types(&found, &plans, told)
    };
    assert_eq!(of(Dialect::Mysql, &BTreeSet::new()).outcome, Pass);
    let item = of(Dialect::Adb, &BTreeSet::new()).into_item("x", &[]);
    assert_eq!((item.outcome, item.object_count), (Fail, 1));
    assert!(item.objects[0].starts_with("a.bad.price"), "{item:?}");
    assert!(item.hint.unwrap().contains("lossy.decimal"));
    let told = BTreeSet::from([TableName::new("a", "bad")]);
    assert_eq!(of(Dialect::Adb, &told).outcome, Pass);
}

use std::collections::BTreeSet;

use super::*;
use crate::adb::dialect::fixture::{column, every_type, key, table};
use crate::model::KeyKind;

mod mariadb;

fn source() -> Table {
    table(
        "t",
        vec![
            column("id", "int not null"),
            column("v", "varchar(20)"),
            column("e", "enum(a,b)"),
            column("c", "decimal(10,2)"),
            column("dt", "datetime(3)"),
        ],
        vec![key(KeyKind::Primary, "", "id"), key(KeyKind::Unique, "uv", "v")],
    )
}

fn target() -> TableName {
    TableName::new("dw", "t")
}

fn wanted(dialect: Dialect) -> Wanted {
    Wanted::new(dialect, &source(), target(), &TableOptions::default())
}

fn existing_column(name: &str, column_type: &str, nullable: bool) -> ExistingColumn {
    let text = column_type.contains("char") || column_type.contains("text");
    ExistingColumn {
        name: name.to_owned(),
        column_type: column_type.to_owned(),
        nullable,
        charset: text.then(|| "utf8mb4".to_owned()),
        collation: text.then(|| "utf8mb4_bin".to_owned()),
        generated: false,
    }
}

fn existing_key(name: &str, columns: &[&str]) -> ExistingKey {
    let parts = columns.iter().map(|column| (Some((*column).to_owned()), None)).collect();
    ExistingKey { name: name.to_owned(), parts }
}

/// The source's table as a MariaDB shows it.
fn existing() -> ExistingTable {
    ExistingTable {
        name: target(),
        is_view: false,
        columns: vec![
            existing_column("id", "int(11)", false),
            existing_column("v", "varchar(20)", true),
            existing_column("e", "enum('a','b')", true),
            existing_column("c", "decimal(10,2)", true),
            existing_column("dt", "datetime(3)", true),
        ],
        unique_keys: Some(vec![existing_key("PRIMARY", &["id"]), existing_key("uv", &["v"])]),
    }
}

fn state(tables: Vec<ExistingTable>) -> TargetState {
    TargetState {
        databases: BTreeSet::from(["dw".to_owned()]),
        tables: tables.into_iter().map(|table| (table.name.clone(), table)).collect(),
        ..TargetState::default()
    }
}

fn refused(plan: &SchemaPlan) -> Vec<String> {
    plan.refusals().map(ToString::to_string).collect()
}

#[test]
fn what_is_missing_is_created() {
    let empty = TargetState::default();
    let plan = plan(Dialect::Mysql, &[wanted(Dialect::Mysql)], &empty, ExistingTables::Refuse);
    assert_eq!(plan.databases[0].sql, "CREATE DATABASE IF NOT EXISTS `dw`");
    assert_eq!(plan.tables[0].action, Action::Create);
    assert!(plan.tables[0].statements[0].starts_with("CREATE TABLE `dw`.`t`"));
}

#[test]
fn existing_tables_are_refused_unless_they_are_wanted_or_ours() {
    let state = state(vec![existing()]);
    let go = |policy, ours| {
        let wanted = Wanted { ours, ..wanted(Dialect::Mysql) };
        let plan = plan(Dialect::Mysql, &[wanted], &state, policy);
        assert!(plan.databases.is_empty() && plan.tables[0].statements.is_empty());
        plan.tables[0].action
    };
    assert_eq!(go(ExistingTables::Refuse, false), Action::Refuse);
    assert_eq!(go(ExistingTables::Refuse, true), Action::Use);
    assert_eq!(go(ExistingTables::Keep, false), Action::Use);
    assert_eq!(go(ExistingTables::Replace, false), Action::Use);
}

#[test]
fn differences_that_lose_rows_or_values_are_refused() {
    let go = |change: &dyn Fn(&mut ExistingTable)| {
        let mut table = existing();
        change(&mut table);
        let plan = plan(Dialect::Mysql, &[wanted(Dialect::Mysql)], &state(vec![table]), ExistingTables::Keep);
        refused(&plan).join("; ")
    };
    let typed = |at: usize, column_type: &str| {
        let column_type = column_type.to_owned();
        go(&move |table: &mut ExistingTable| table.columns[at].column_type.clone_from(&column_type))
    };
    for (found, expected) in [
        (go(&|table| table.columns.truncate(4)), "dw.t.dt: is missing; the source has datetime(3)"),
        (
            go(&|table| table.columns.push(existing_column("x", "int(11)", true))),
            "dw.t.x: is not a column of the source: every REPLACE would reset it",
        ),
        (
            go(&|table| table.columns[1].nullable = false),
            "dw.t.v: is NOT NULL, the source's column may be NULL",
        ),
        (
            go(&|table| table.columns[1].generated = true),
            "dw.t.v: is a generated column on the target, an ordinary one at the source",
        ),
        (
            go(&|table| table.columns[1].collation = Some("utf8mb4_general_ci".to_owned())),
            "a collation in which different keys of the source are equal",
        ),
        (go(&|table| table.columns[1].charset = Some("latin1".to_owned())), "a character set that lacks"),
        (typed(0, "smallint(6)"), "dw.t.id: is smallint(6), the source needs int: a smaller range"),
        (typed(0, "int(10) unsigned"), "a smaller range"),
        (typed(1, "varchar(19)"), "shorter"),
        (typed(1, "char(20)"), "strips trailing spaces"),
        (typed(1, "tinyint(4)"), "another type"),
        (typed(2, "enum('b','a')"), "other labels"),
        (typed(2, "enum('a')"), "other labels"),
        (typed(2, "varchar(5)"), "another type"),
        (typed(3, "decimal(10,3)"), "fewer digits"),
        (typed(4, "datetime"), "fewer fractional digits"),
        (typed(4, "timestamp(3)"), "another type"),
        (go(&|table| table.unique_keys = Some(vec![])), "has no primary or unique key over exactly (id)"),
        (
            go(&|table| table.unique_keys.as_mut().unwrap().push(existing_key("c", &["c"]))),
            "is a unique key that the source does not have",
        ),
        (go(&|table| table.is_view = true), "is a view"),
    ] {
        assert!(found.contains(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn wider_tables_are_used() {
    let go = |change: &dyn Fn(&mut ExistingTable)| {
        let mut table = existing();
        change(&mut table);
        let plan = plan(Dialect::Mysql, &[wanted(Dialect::Mysql)], &state(vec![table]), ExistingTables::Keep);
        assert_eq!(refused(&plan), [""; 0]);
        plan.tables[0].table.clone().unwrap().has_other_unique_keys
    };
    assert!(go(&|_| {}));
    assert!(go(&|table| table.columns[0].column_type = "bigint(20)".to_owned()));
    assert!(go(&|table| table.columns[0].column_type = "decimal(20,0)".to_owned()));
    assert!(go(&|table| table.columns[1].column_type = "text".to_owned()));
    assert!(go(&|table| table.columns[2].column_type = "enum('a','b','c')".to_owned()));
    assert!(go(&|table| table.columns[3].column_type = "decimal(12,4)".to_owned()));
    assert!(go(&|table| table.columns[4].column_type = "datetime(6)".to_owned()));
    assert!(go(&|table| {
        table.columns.push(ExistingColumn { generated: true, ..existing_column("x", "int(11)", true) });
    }));
    assert!(!go(&|table| {
        table.unique_keys = Some(vec![existing_key("PRIMARY", &["id"]), existing_key("more", &["id", "c"])]);
    }));
}

#[test]
fn two_tables_never_share_a_place() {
    let mut other = wanted(Dialect::Mysql);
    other.source = TableName::new("shop", "other");
    other.target = TableName::new("DW", "T");
    let plan =
        plan(Dialect::Mysql, &[wanted(Dialect::Mysql), other], &TargetState::default(), ExistingTables::Keep);
    assert_eq!(refused(&plan).len(), 2);
    assert!(plan.databases.is_empty());
}

#[test]
fn adb_takes_only_its_own_database_names_and_tells_little_of_keys() {
    let mut named = wanted(Dialect::Adb);
    named.target = TableName::new("Dw__x", "t");
    let refusal = plan(Dialect::Adb, &[named], &TargetState::default(), ExistingTables::Keep);
    assert!(refused(&refusal)[0].contains("database names"));
    let mut found = existing();
    found.columns[2] = existing_column("e", "varchar(10)", true);
    found.columns[4].column_type = "datetime".to_owned();
    found.unique_keys = None;
    let used = plan(Dialect::Adb, &[wanted(Dialect::Adb)], &state(vec![found]), ExistingTables::Keep);
    assert_eq!((used.tables[0].action, refused(&used).len()), (Action::Use, 0));
    assert_eq!(used.tables[0].problems.len(), 1);
}

#[test]
fn a_prefix_that_identifies_is_compared_with_its_length() {
    let source =
        table("t", vec![column("v", "varchar(20) not null")], vec![key(KeyKind::Primary, "", "v(3)")]);
    let wanted = Wanted::new(Dialect::Mysql, &source, target(), &TableOptions::default());
    let go = |prefix| {
        let found = ExistingTable {
            columns: vec![existing_column("v", "varchar(20)", false)],
            unique_keys: Some(vec![ExistingKey {
                name: "PRIMARY".to_owned(),
                parts: vec![(Some("V".to_owned()), prefix)],
            }]),
            ..existing()
        };
        let plan =
            plan(Dialect::Mysql, std::slice::from_ref(&wanted), &state(vec![found]), ExistingTables::Keep);
        plan.tables[0].action
    };
    assert_eq!((go(Some(3)), go(Some(4)), go(None)), (Action::Use, Action::Refuse, Action::Refuse));
}

/// A worker is a spawned task.
#[allow(dead_code)]
fn futures_are_send(session: &mut Session, plan: &SchemaPlan) {
    fn is_send<T: Send>(_: T) {}
    is_send(apply(session, plan, |_| {}));
    is_send(create(session, Dialect::Mysql, &[], ExistingTables::Keep, |_| {}));
    is_send(done(session, &crate::adb::dialect::Done::Rerun));
    is_send(crate::adb::dialect::verify(session, Dialect::Adb));
}

use super::fixture::{column, every_type, generated, key, table, with_default};
use super::*;
use crate::adb::encode::{Encoder, Form};
use crate::model::{Column, ColumnDefault, Dialect, KeyKind, Table, TableName};
use crate::sql::ddl::ast::{AlterClause, ColumnPosition};
use crate::task::spec::{LossyPolicies, LossyPolicy, TableKind};

fn dw(name: &str) -> TableName {
    TableName::new("dw", name)
}

fn planned(dialect: Dialect, source: &Table, options: &TableOptions) -> TargetTable {
    TargetTable::new(dialect, source, dw(&source.name.table), options).unwrap()
}

/// Statement, identity and warnings in one text.
fn shown(table: &TargetTable) -> String {
    let identity: Vec<_> = table.identity_columns().map(|column| column.name.as_str()).collect();
    let warnings: Vec<_> = table.warnings.iter().map(ToString::to_string).collect();
    format!(
        "{};\n\nidentity: {}\nother unique keys: {}\nwarnings:\n{}",
        create_table(table),
        identity.join(", "),
        table.has_other_unique_keys,
        warnings.join("\n")
    )
}

fn refusals(dialect: Dialect, source: &Table, options: &TableOptions) -> Vec<String> {
    TargetTable::new(dialect, source, dw("t"), options)
        .expect_err("is refused")
        .iter()
        .filter(|problem| problem.is_refusal())
        .map(ToString::to_string)
        .collect()
}

fn simple() -> Table {
    table(
        "t",
        vec![
            column("id", "bigint not null"),
            column("user_id", "int not null"),
            column("at", "datetime not null"),
            column("note", "varchar(20)"),
        ],
        vec![key(KeyKind::Primary, "", "id")],
    )
}

#[test]
fn every_type_on_mysql() {
    insta::assert_snapshot!(shown(&planned(Dialect::Mysql, &every_type(), &TableOptions::default())));
}

#[test]
fn every_type_on_adb() {
    insta::assert_snapshot!(shown(&planned(Dialect::Adb, &every_type(), &TableOptions::default())));
}

#[test]
fn adb_places_distribution_and_partition_first_in_the_primary_key() {
    let options = TableOptions {
        distribute_by: Some(vec!["USER_ID".to_owned()]),
        partition_by: Some("date_format(at, '%Y%m')".to_owned()),
        lifecycle_partitions: Some(36),
        ..TableOptions::default()
    };
    let table = planned(Dialect::Adb, &simple(), &options);
    let sql = create_table(&table);
    assert!(sql.contains("PRIMARY KEY (`user_id`, `at`, `id`)"), "{sql}");
    assert!(
        sql.ends_with(
            ") DISTRIBUTED BY HASH(`user_id`) PARTITION BY VALUE(DATE_FORMAT(`at`, '%Y%m')) LIFECYCLE 36"
        ),
        "{sql}"
    );
    assert_eq!(table.identity, Some(vec![1, 2, 0]));
    let dimension = TableOptions { kind: TableKind::Dimension, ..TableOptions::default() };
    assert!(
        create_table(&planned(Dialect::Adb, &simple(), &dimension)).ends_with(") DISTRIBUTED BY BROADCAST")
    );
}

#[test]
fn adb_refuses_layouts_that_cannot_be() {
    let options = |change: fn(&mut TableOptions)| {
        let mut options = TableOptions::default();
        change(&mut options);
        refusals(Dialect::Adb, &simple(), &options).join("; ")
    };
    for (found, expected) in [
        (options(|options| options.distribute_by = Some(vec!["nope".to_owned()])), "does not have"),
        (options(|options| options.distribute_by = Some(vec!["note".to_owned()])), "may be NULL"),
        (options(|options| options.partition_by = Some("YEAR(at)".to_owned())), "a partition is"),
        (
            options(|options| options.partition_by = Some("FROM_UNIXTIME(at, '%Y')".to_owned())),
            "does not fit",
        ),
        (options(|options| options.lifecycle_partitions = Some(3)), "without partition_by"),
        (
            options(|options| {
                options.kind = TableKind::Dimension;
                options.distribute_by = Some(vec!["id".to_owned()]);
            }),
            "dimension table",
        ),
        (options(|options| options.primary_key = Some(vec![])), "names no column"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    let keyless = table("t", vec![column("a", "int not null")], vec![]);
    assert!(refusals(Dialect::Adb, &keyless, &TableOptions::default())[0].contains("no primary key"));
    assert_eq!(planned(Dialect::Mysql, &keyless, &TableOptions::default()).identity, None);
    let named = table("1t", vec![column("2a", "int not null")], vec![key(KeyKind::Primary, "", "2a")]);
    let place = |name: &str| TargetTable::new(Dialect::Adb, &named, dw(name), &TableOptions::default());
    assert_eq!(place("1t").unwrap_err().len(), 2);
    assert_eq!(place("t").unwrap_err().len(), 1, "the table's name on the target counts, not the source's");
}

#[test]
fn lossy_policies_choose_types_or_refuse() {
    let source = table(
        "t",
        vec![
            column("id", "int not null"),
            column("c", "decimal(65,30)"),
            column("dt", "datetime(6)"),
            column("t", "time"),
            column("d", "date"),
        ],
        vec![key(KeyKind::Primary, "", "id")],
    );
    let strict = LossyPolicies { fraction: LossyPolicy::Refuse, ..LossyPolicies::default() };
    let options = |lossy| TableOptions { lossy, ..TableOptions::default() };
    assert_eq!(
        refusals(Dialect::Adb, &source, &options(strict)),
        [
            "shop.t.c: decimal(65,30) has more than the 38 digits of the target",
            "shop.t.dt: datetime(6) is finer than the milliseconds of the target"
        ]
    );
    let types = |policy| {
        let lossy = LossyPolicies { time: policy, zero_date: policy, decimal: policy, fraction: policy };
        planned(Dialect::Adb, &source, &options(lossy))
            .columns
            .iter()
            .map(|column| column.type_text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(LossyPolicy::Clamp), ["int", "decimal(38,3)", "datetime", "time", "date"]);
    assert_eq!(
        types(LossyPolicy::Varchar),
        ["int", "varchar(67)", "varchar(26)", "varchar(26)", "varchar(26)"]
    );
}

#[test]
fn no_policy_bends_a_key() {
    let source = table(
        "t",
        vec![column("c", "decimal(40,2) not null"), column("dt", "datetime(6) not null")],
        vec![key(KeyKind::Primary, "", "c, dt")],
    );
    let clamp = LossyPolicies {
        time: LossyPolicy::Clamp,
        zero_date: LossyPolicy::Clamp,
        decimal: LossyPolicy::Clamp,
        fraction: LossyPolicy::Clamp,
    };
    let options = TableOptions { lossy: clamp, ..TableOptions::default() };
    assert_eq!(refusals(Dialect::Adb, &source, &options).len(), 2);
}

#[test]
fn mysql_rows_and_keys_fit_its_limits() {
    let source = table(
        "t",
        vec![
            column("id", "int not null"),
            column("a", "varchar(16000)"),
            with_default("b", "varchar(15000)", "x"),
            column("k", "varchar(800) charset latin1"),
        ],
        vec![
            key(KeyKind::Primary, "", "id"),
            key(KeyKind::Unique, "k", "k"),
            key(KeyKind::Index, "a", "a(700)"),
        ],
    );
    let table = planned(Dialect::Mysql, &source, &TableOptions::default());
    let types: Vec<_> =
        table.columns.iter().map(|column| column.type_text.split(' ').next().unwrap()).collect();
    assert_eq!(types, ["int", "text", "varchar(15000)", "varchar(800)"]);
    assert_eq!(table.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["PRIMARY", "a"]);
    assert!(!table.has_other_unique_keys);
    let long = fixture::table(
        "t",
        vec![column("k", "varchar(800) charset latin1 not null")],
        vec![key(KeyKind::Primary, "", "k")],
    );
    assert!(refusals(Dialect::Mysql, &long, &TableOptions::default())[0].contains("3,072"));
    let full = fixture::table(
        "t",
        vec![column("k", "varchar(768) charset utf8mb4 not null")],
        vec![key(KeyKind::Primary, "", "k")],
    );
    assert!(TargetTable::new(Dialect::Mysql, &full, dw("t"), &TableOptions::default()).is_ok());
}

#[test]
fn a_primary_key_of_generated_columns_is_left_out() {
    let source = table(
        "t",
        vec![column("a", "int"), generated("g", "int not null", "`a` * 10", true)],
        vec![key(KeyKind::Primary, "", "g")],
    );
    let table = planned(Dialect::Mysql, &source, &TableOptions::default());
    assert_eq!((table.identity, table.keys.len(), table.warnings.len()), (None, 0, 1));
}

#[test]
fn an_overridden_key_makes_the_sources_keys_plain() {
    let mut source = simple();
    source.keys.push(key(KeyKind::Unique, "un", "note"));
    let options = TableOptions {
        primary_key: Some(vec!["user_id".to_owned(), "id".to_owned()]),
        ..TableOptions::default()
    };
    let table = planned(Dialect::Mysql, &source, &options);
    let sql = create_table(&table);
    assert!(
        sql.contains("PRIMARY KEY (`user_id`, `id`),\n  KEY `source_primary` (`id`),\n  KEY `un` (`note`)"),
        "{sql}"
    );
    assert_eq!((table.identity.clone(), table.has_other_unique_keys), (Some(vec![1, 0]), false));
}

#[test]
fn bytewise_sources_get_bytewise_collations() {
    let options = TableOptions {
        bytewise: true,
        collations: Collations::new(["utf8mb4_nopad_bin".to_owned()]),
        ..TableOptions::default()
    };
    let sql = create_table(&planned(Dialect::Mysql, &simple(), &options));
    assert!(sql.contains("`note` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NULL"), "{sql}");
}

// ALTER

fn change(
    dialect: Dialect,
    before: &Table,
    clause: &AlterClause,
    after: &Table,
) -> Result<Vec<String>, String> {
    changed(dialect, before, clause, after, &AlterContext::default())
}

fn changed(
    dialect: Dialect,
    before: &Table,
    clause: &AlterClause,
    after: &Table,
    context: &AlterContext<'_>,
) -> Result<Vec<String>, String> {
    alter(dialect, before, clause, after, &dw("t"), &TableOptions::default(), context)
        .map(|statements| {
            statements
                .into_iter()
                .map(|statement| statement.sql.replace("ALTER TABLE `dw`.`t` ", "").replace(TEXT, ""))
                .collect()
        })
        .map_err(|problem| problem.detail)
}

const TEXT: &str = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

fn add(column: &Column, position: Option<ColumnPosition>) -> AlterClause {
    AlterClause::AddColumn { column: column.clone(), position, keys: vec![], if_not_exists: false }
}

/// The simple table with a column more at a place.
fn grown(column: &Column, at: usize) -> Table {
    let mut table = simple();
    table.columns.insert(at, column.clone());
    table
}

fn modified(name: &str, text: &str) -> (AlterClause, Table) {
    let mut table = simple();
    let new = column(name, text);
    let at = table.column_index(name).unwrap();
    table.columns[at] = new.clone();
    (AlterClause::ChangeColumn { old: name.to_owned(), column: new, position: None, if_exists: false }, table)
}

#[test]
fn added_columns_keep_their_place_on_mysql() {
    let new = with_default("n", "int not null", "0");
    let first = Some(ColumnPosition::First);
    let behind = Some(ColumnPosition::After("user_id".to_owned()));
    let go =
        |dialect, at, position| change(dialect, &simple(), &add(&new, position), &grown(&new, at)).unwrap();
    assert_eq!(go(Dialect::Mysql, 4, None), ["ADD COLUMN `n` int NOT NULL DEFAULT '0'"]);
    assert_eq!(go(Dialect::Mysql, 0, first.clone()), ["ADD COLUMN `n` int NOT NULL DEFAULT '0' FIRST"]);
    assert_eq!(go(Dialect::Mysql, 2, behind), ["ADD COLUMN `n` int NOT NULL DEFAULT '0' AFTER `user_id`"]);
    assert_eq!(go(Dialect::Adb, 0, first), ["ADD COLUMN `n` int NOT NULL DEFAULT 0"]);
}

#[test]
fn rows_that_are_there_get_the_sources_implicit_value_on_adb() {
    let lossy = LossyPolicies { zero_date: LossyPolicy::Varchar, ..LossyPolicies::default() };
    let options = TableOptions { lossy, ..TableOptions::default() };
    for (ty, expected) in [
        ("enum(a,b) not null", "varchar(1) NOT NULL DEFAULT 'a'"),
        ("set(a,b) not null", "varchar(3) NOT NULL DEFAULT ''"),
        ("bit(3) not null", "varchar(20) NOT NULL DEFAULT '0'"),
        ("bigint unsigned not null", "decimal(20,0) NOT NULL DEFAULT 0"),
        ("decimal(5,2) not null", "decimal(5,2) NOT NULL DEFAULT 0.00"),
        ("datetime(6) not null", "varchar(26) NOT NULL DEFAULT '0000-00-00 00:00:00.000000'"),
        ("json not null", "json NOT NULL"),
        ("blob not null", "varbinary NOT NULL"),
        ("binary(2) not null", "varbinary(2) NOT NULL DEFAULT x'0000'"),
        ("enum(a,b)", "varchar(1) NULL"),
    ] {
        let new = column("n", ty);
        let clause = add(&new, None);
        let plan = alter(
            Dialect::Adb,
            &simple(),
            &clause,
            &grown(&new, 4),
            &dw("t"),
            &options,
            &AlterContext::default(),
        );
        let sql = &plan.unwrap()[0].sql;
        assert_eq!(*sql, format!("ALTER TABLE `dw`.`t` ADD COLUMN `n` {expected}"), "{ty}");
    }
}

#[test]
fn existing_rows_get_their_time_also_where_it_is_text_on_adb() {
    let lossy = LossyPolicies { zero_date: LossyPolicy::Varchar, ..LossyPolicies::default() };
    let options = TableOptions { lossy, ..TableOptions::default() };
    let context = AlterContext { existing_rows: Some("2024-01-02 03:04:05"), ..AlterContext::default() };
    for (ty, null) in [("datetime", "NULL"), ("datetime not null", "NOT NULL")] {
        let new = Column { default: Some(ColumnDefault::CurrentTimestamp { fsp: 0 }), ..column("n", ty) };
        let clause = add(&new, None);
        let plan =
            alter(Dialect::Adb, &simple(), &clause, &grown(&new, 4), &dw("t"), &options, &context).unwrap();
        let expected =
            format!("ALTER TABLE `dw`.`t` ADD COLUMN `n` varchar(26) {null} DEFAULT '2024-01-02 03:04:05'");
        assert_eq!(plan[0].sql, expected);
    }
}

#[test]
fn a_default_of_binary_is_padded_on_adb_as_rows_are() {
    let new = with_default("n", "binary(4) not null", "a");
    let sql = change(Dialect::Adb, &simple(), &add(&new, None), &grown(&new, 4)).unwrap();
    assert_eq!(sql, ["ADD COLUMN `n` varbinary(4) NOT NULL DEFAULT x'61000000'"]);
    for ty in ["binary(100) not null", "binary(255)"] {
        let new = with_default("n", ty, "a");
        assert!(change(Dialect::Adb, &simple(), &add(&new, None), &grown(&new, 4)).is_err(), "{ty}");
    }
    let new = column("n", "binary(100) not null");
    assert!(change(Dialect::Adb, &simple(), &add(&new, None), &grown(&new, 4)).is_err());
}

#[test]
fn a_table_keeps_its_place_on_adb_when_its_new_name_is_none() {
    let pairs = [(dw("t"), dw("0t"))];
    assert!(rename_tables(Dialect::Adb, &pairs).unwrap_err().detail.contains("names of 1 to 127"));
    assert!(move_if_there(Dialect::Adb, &pairs[0].0, &pairs[0].1).is_none());
    assert_eq!(rename_tables(Dialect::Mysql, &pairs).unwrap().len(), 1);
}

#[test]
fn a_column_too_many_moves_another_out_of_the_row() {
    let before = table(
        "t",
        vec![column("id", "int not null"), column("a", "varchar(9000)")],
        vec![key(KeyKind::Primary, "", "id")],
    );
    let new = column("b", "varchar(8000)");
    let mut after = before.clone();
    after.columns.push(new.clone());
    assert_eq!(
        change(Dialect::Mysql, &before, &add(&new, None), &after).unwrap(),
        ["MODIFY COLUMN `a` text NULL", "ADD COLUMN `b` varchar(8000) NULL"]
    );
}

#[test]
fn existing_rows_get_what_the_source_gave_them() {
    let new = Column {
        default: Some(ColumnDefault::CurrentTimestamp { fsp: 0 }),
        ..column("n", "timestamp not null")
    };
    let context = AlterContext { existing_rows: Some("2024-01-02 03:04:05"), ..AlterContext::default() };
    let go = |dialect, context: &AlterContext<'_>| {
        alter(
            dialect,
            &simple(),
            &add(&new, None),
            &grown(&new, 4),
            &dw("t"),
            &TableOptions::default(),
            context,
        )
        .unwrap()
    };
    let sql: Vec<_> = go(Dialect::Mysql, &context).into_iter().map(|step| step.sql).collect();
    assert_eq!(
        sql,
        [
            "ALTER TABLE `dw`.`t` ADD COLUMN `n` timestamp NOT NULL DEFAULT '2024-01-02 03:04:05'",
            "ALTER TABLE `dw`.`t` MODIFY COLUMN `n` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP"
        ]
    );
    assert_eq!(go(Dialect::Adb, &context).len(), 1);
    assert!(go(Dialect::Mysql, &AlterContext::default())[0].warning.is_some());
    let plain = column("n", "timestamp not null");
    assert_eq!(
        change(Dialect::Mysql, &simple(), &add(&plain, None), &grown(&plain, 4)).unwrap(),
        ["ADD COLUMN `n` timestamp NOT NULL DEFAULT '0000-00-00 00:00:00'"]
    );
}

#[test]
fn generated_columns_exist_on_mysql_where_their_expression_is_portable() {
    let portable = generated("g", "int", "`id` + 1", true);
    let other = generated("g", "int", "uuid_short()", true);
    let go = |dialect, new: &Column| change(dialect, &simple(), &add(new, None), &grown(new, 4)).unwrap();
    assert_eq!(go(Dialect::Mysql, &portable), ["ADD COLUMN `g` int GENERATED ALWAYS AS (`id` + 1) STORED"]);
    assert_eq!(go(Dialect::Mysql, &other), [""; 0]);
    assert_eq!(go(Dialect::Adb, &portable), [""; 0]);
    let drop = AlterClause::DropColumn { name: "g".to_owned(), if_exists: false };
    assert_eq!(change(Dialect::Adb, &grown(&portable, 4), &drop, &simple()).unwrap(), [""; 0]);
    assert_eq!(change(Dialect::Mysql, &grown(&portable, 4), &drop, &simple()).unwrap(), ["DROP COLUMN `g`"]);
}

#[test]
fn columns_are_renamed_and_changed() {
    let mut renamed = simple();
    renamed.columns[3].name = "remark".to_owned();
    let clause = AlterClause::RenameColumn { old: "note".to_owned(), new: "remark".to_owned() };
    for dialect in [Dialect::Mysql, Dialect::Adb] {
        assert_eq!(
            change(dialect, &simple(), &clause, &renamed).unwrap(),
            ["RENAME COLUMN `note` TO `remark`"]
        );
    }
    renamed.columns[3].ty.length = Some(300);
    let clause = AlterClause::ChangeColumn {
        old: "note".to_owned(),
        column: renamed.columns[3].clone(),
        position: None,
        if_exists: false,
    };
    assert_eq!(
        change(Dialect::Mysql, &simple(), &clause, &renamed).unwrap(),
        ["CHANGE COLUMN `note` `remark` varchar(300) NULL"]
    );
    assert_eq!(
        change(Dialect::Adb, &simple(), &clause, &renamed).unwrap(),
        ["RENAME COLUMN `note` TO `remark`"]
    );
}

#[test]
fn adb_widens_and_refuses_the_rest() {
    for (name, text, mysql, adb) in [
        (
            "user_id",
            "bigint not null",
            "MODIFY COLUMN `user_id` bigint NOT NULL",
            Ok("MODIFY COLUMN `user_id` bigint NOT NULL"),
        ),
        ("user_id", "int", "MODIFY COLUMN `user_id` int NULL", Ok("MODIFY COLUMN `user_id` int NULL")),
        ("note", "varchar(20) not null", "MODIFY COLUMN `note` varchar(20) NOT NULL", Ok("")),
        ("note", "text", "MODIFY COLUMN `note` text NULL", Ok("")),
        (
            "user_id",
            "smallint not null",
            "MODIFY COLUMN `user_id` smallint NOT NULL",
            Err("cannot change int to smallint"),
        ),
        (
            "user_id",
            "varchar(5) not null",
            "MODIFY COLUMN `user_id` varchar(5) NOT NULL",
            Err("cannot change"),
        ),
        ("id", "bigint unsigned not null", "MODIFY COLUMN `id` bigint unsigned NOT NULL", Err("primary key")),
        ("at", "datetime not null", "", Ok("")),
    ] {
        let (clause, after) = modified(name, text);
        assert_eq!(change(Dialect::Mysql, &simple(), &clause, &after).unwrap().concat(), mysql);
        match (change(Dialect::Adb, &simple(), &clause, &after), adb) {
            (Ok(found), Ok(expected)) => assert_eq!(found.concat(), expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{name} {text}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn new_labels_mean_nothing_to_adb_unless_they_move_the_old() {
    let with = |labels: &str| {
        let mut table = simple();
        table.columns[3] = column("note", labels);
        table
    };
    let go = |to: &str| {
        let clause = AlterClause::ChangeColumn {
            old: "note".to_owned(),
            column: column("note", to),
            position: None,
            if_exists: false,
        };
        change(Dialect::Adb, &with("enum(a,b)"), &clause, &with(to))
    };
    assert_eq!(go("enum(a,b,c)").unwrap(), [""; 0]);
    assert!(go("enum(b,a)").is_err());
}

#[test]
fn what_the_source_rewrites_within_one_type_of_adb_is_no_nothing() {
    let with = |ty: &str| {
        let mut table = simple();
        table.columns[3] = column("note", ty);
        table
    };
    for (from, to, stays) in [
        ("datetime(3)", "datetime(2)", false),
        ("datetime(2)", "datetime(3)", true),
        ("time(1)", "time", false),
        // As text: its digits are spelled.
        ("datetime(4)", "datetime(6)", false),
        ("binary(4)", "binary(6)", false),
        ("varbinary(4)", "binary(4)", false),
        ("binary(4)", "varbinary(4)", true),
        ("varchar(9)", "char(9)", false),
        ("char(9)", "varchar(9)", true),
        ("varchar(9)", "varchar(20)", true),
        ("float(9,3)", "float(9,2)", false),
    ] {
        let clause = AlterClause::ChangeColumn {
            old: "note".to_owned(),
            column: column("note", to),
            position: None,
            if_exists: false,
        };
        let lossy = LossyPolicies { fraction: LossyPolicy::Varchar, ..LossyPolicies::default() };
        let options = TableOptions { lossy, ..TableOptions::default() };
        let context = AlterContext::default();
        let found = alter(Dialect::Adb, &with(from), &clause, &with(to), &dw("t"), &options, &context);
        assert_eq!(found.map_err(|problem| problem.detail).is_ok(), stays, "{from} to {to}");
    }
}

#[test]
fn keys_of_adb_never_change() {
    let mut after = simple();
    after.keys.clear();
    let drop = AlterClause::DropPrimaryKey;
    assert!(change(Dialect::Adb, &simple(), &drop, &after).is_err());
    assert_eq!(change(Dialect::Mysql, &simple(), &drop, &after).unwrap(), ["DROP PRIMARY KEY"]);
    let mut after = simple();
    after.columns.remove(0);
    let drop = AlterClause::DropColumn { name: "id".to_owned(), if_exists: false };
    assert!(change(Dialect::Adb, &simple(), &drop, &after).is_err());
}

#[test]
fn indexes_follow_on_mysql() {
    let mut before = simple();
    before.keys.push(key(KeyKind::Index, "", "note"));
    let add = |kind, name: &str, parts: &str| {
        let new = key(kind, name, parts);
        let mut after = before.clone();
        after.keys.push(new.clone());
        let clause = AlterClause::AddKey { key: new, if_not_exists: false };
        assert_eq!(change(Dialect::Adb, &before, &clause, &after).unwrap(), [""; 0]);
        change(Dialect::Mysql, &before, &clause, &after).unwrap().concat()
    };
    assert_eq!(add(KeyKind::Unique, "uk", "user_id, note(5)"), "ADD UNIQUE KEY `uk` (`user_id`, `note`(5))");
    assert_eq!(add(KeyKind::Index, "", "note, at"), "ADD KEY `note_2` (`note`, `at`)");
    assert_eq!(add(KeyKind::Index, "x", "(lower(note))"), "");
    assert_eq!(add(KeyKind::Fulltext, "f", "note"), "");
    let drop = AlterClause::DropKey { name: "NOTE".to_owned(), if_exists: false };
    assert_eq!(change(Dialect::Mysql, &before, &drop, &simple()).unwrap(), ["DROP INDEX `note`"]);
    let absent = AlterClause::DropKey { name: "none".to_owned(), if_exists: true };
    assert_eq!(change(Dialect::Mysql, &before, &absent, &before).unwrap(), [""; 0]);
}

#[test]
fn defaults_comments_and_character_sets() {
    let mut after = simple();
    after.columns[1].default = Some(ColumnDefault::Literal("7".to_owned()));
    let clause = AlterClause::SetDefault {
        column: "user_id".to_owned(),
        default: Some(ColumnDefault::Literal("7".to_owned())),
    };
    assert_eq!(
        change(Dialect::Mysql, &simple(), &clause, &after).unwrap(),
        ["ALTER COLUMN `user_id` SET DEFAULT '7'"]
    );
    let clause = AlterClause::SetDefault { column: "user_id".to_owned(), default: None };
    assert_eq!(
        change(Dialect::Mysql, &after, &clause, &simple()).unwrap(),
        ["ALTER COLUMN `user_id` DROP DEFAULT"]
    );
    assert_eq!(change(Dialect::Adb, &after, &clause, &simple()).unwrap(), [""; 0]);
    let mut after = simple();
    after.comment = "it's".to_owned();
    let clause = AlterClause::Comment { text: "it's".to_owned() };
    assert_eq!(change(Dialect::Mysql, &simple(), &clause, &after).unwrap(), ["COMMENT = 'it\\'s'"]);
    let mut before = simple();
    (before.charset, before.collation) = (Some("utf8".to_owned()), Some("utf8_bin".to_owned()));
    let clause = AlterClause::ConvertCharset { charset: "utf8mb4".to_owned(), collation: None };
    assert_eq!(
        change(Dialect::Mysql, &before, &clause, &simple()).unwrap(),
        [format!("CONVERT TO{TEXT}").replace(TEXT, "")]
    );
    assert_eq!(change(Dialect::Adb, &before, &clause, &simple()).unwrap(), [""; 0]);
}

#[test]
fn defaults_of_times_and_numbers_that_are_text_are_spelled_as_rows_are() {
    for (ty, said, spelled) in [
        ("date", "2020-01-01", Some("2020-01-01")),
        ("date", "20200101", None),
        ("datetime", "2020-01-01", Some("2020-01-01 00:00:00")),
        ("datetime(3)", "2020-01-01", Some("2020-01-01 00:00:00.000")),
        ("datetime(3)", "2020-01-01 01:02:03.5", Some("2020-01-01 01:02:03.500")),
        ("datetime", "2020-01-01 01:02:03.5", None),
        ("timestamp", "2020-01-01T01:02:03", None),
        ("timestamp", "2020-1-1 01:02:03", None),
        ("time", "-838:59:59", Some("-838:59:59")),
        ("datetime(1)", "2020-01-01.5", None),
        ("time", "-00:00:00", None),
        ("decimal(65,2)", "-0.0", None),
        ("time(1)", "01:02:03", Some("01:02:03.0")),
        ("time", "1:2", None),
        ("time", "010203", None),
        ("time", "001:02:03", None),
        ("decimal(65,2)", "3.1", Some("3.10")),
        ("decimal(65,2)", "-7", Some("-7.00")),
        ("decimal(65,2)", "007", None),
        ("decimal(65,2)", "1e3", None),
        ("decimal(65,0)", "5", Some("5")),
        ("decimal(65,0)", "5.00", None),
        ("varchar(9)", "1:2", Some("1:2")),
    ] {
        let column = with_default("c", ty, said);
        let default = ColumnDefault::Literal(said.to_owned());
        let encoder = Encoder::new("c", Form::Text { latin1: false });
        let found = default::value(Dialect::Adb, &column, &default, "varchar(26)", &encoder).ok().flatten();
        assert_eq!(found, spelled.map(crate::sql::literal::string), "{ty} DEFAULT '{said}'");
    }
}

#[test]
fn partitions_become_deletes() {
    let drop = AlterClause::DropPartitions { names: vec!["p0".to_owned()], if_exists: false };
    let context = AlterContext { partition_condition: Some("`id` < 10"), ..AlterContext::default() };
    for dialect in [Dialect::Mysql, Dialect::Adb] {
        assert_eq!(
            changed(dialect, &simple(), &drop, &simple(), &context).unwrap(),
            ["DELETE FROM `dw`.`t` WHERE `id` < 10"]
        );
    }
    assert!(change(Dialect::Mysql, &simple(), &drop, &simple()).is_err());
    let all = AlterClause::TruncatePartitions { names: None };
    assert_eq!(change(Dialect::Mysql, &simple(), &all, &simple()).unwrap(), ["TRUNCATE TABLE `dw`.`t`"]);
}

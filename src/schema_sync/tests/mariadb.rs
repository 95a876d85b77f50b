//! Against a real server: `TIDEGATE_TEST_MARIADB=host:port`, user root without a password.

use super::*;
use crate::adb;
use crate::adb::dialect::{
    AlterContext, Done, RELAXED_MODE, STRICT_MODE, TargetStatement, alter, drop_database, drop_table,
    rename_tables, swap_tables, truncate_table,
};
use crate::adb::encode::Pushed;
use crate::model::{Column, Value, Zone};
use crate::sql::ddl::ast::AlterClause;
use crate::sql::literal;

async fn session() -> Option<Session> {
    adb::session_for_tests("TIDEGATE_TEST_MARIADB").await
}

fn database(of: &str) -> String {
    format!("tidegate_{of}_{}", std::process::id())
}

async fn options(session: &mut Session) -> TableOptions {
    TableOptions { collations: collations(session, Dialect::Mysql).await.unwrap(), ..TableOptions::default() }
}

/// Column, value, and what the server shows as text (`HEX` for octets).
fn edge_values() -> Vec<(&'static str, Value<'static>, &'static str)> {
    fn text(text: &'static str) -> Value<'static> {
        Value::Text(text.as_bytes())
    }
    let single = |number: f32| Value::Double(f64::from(number));
    vec![
        ("b1", Value::Int(1), "1"),
        ("t1", Value::Int(-128), "-128"),
        ("t1u", Value::UInt(255), "255"),
        ("s1", Value::Int(-32768), "-32768"),
        ("s1u", Value::UInt(65535), "65535"),
        ("m1", text("-8388608"), "-8388608"),
        ("m1u", Value::UInt(16_777_215), "16777215"),
        ("i1", Value::Int(-2_147_483_648), "-2147483648"),
        ("i1u", Value::UInt(4_294_967_295), "4294967295"),
        ("z1", Value::UInt(7), "00000007"),
        ("g1", Value::Int(i64::MIN), "-9223372036854775808"),
        ("g1u", Value::UInt(u64::MAX - 1), "18446744073709551614"),
        ("f1", single(1.1), "1.1"),
        ("f1", single(-3.4e38), "-3.4e38"),
        ("f1", single(1e-10), "0.0000000001"),
        ("f1", single(16_777_217.0), "16777200"),
        ("f2", single(-1234.567), "-1234.567"),
        ("f1u", single(3.4e38), "3.4e38"),
        ("d1", Value::Double(std::f64::consts::PI), "3.141592653589793"),
        ("d1", Value::Double(-1.7976931348623157e308), "-1.7976931348623157e308"),
        ("d1", Value::Double(1e-300), "1e-300"),
        ("d2", Value::Double(12.3456), "12.3456"),
        ("c1", text("-9999999999"), "-9999999999"),
        ("c2", text("-12345678901234.567891"), "-12345678901234.567891"),
        ("c2", text("3.1"), "3.100000"),
        (
            "c3",
            text("12345678901234567890123456789012345.123456789012345678901234567890"),
            "12345678901234567890123456789012345.123456789012345678901234567890",
        ),
        ("c3", text("-0.000000000000000000000000000001"), "-0.000000000000000000000000000001"),
        ("c4", text("999.99"), "999.99"),
        ("bt1", Value::Bytes(&[1]), "01"),
        ("bt10", Value::Bytes(&[3, 255]), "03FF"),
        ("bt64", Value::Bytes(&[255; 8]), "FFFFFFFFFFFFFFFF"),
        ("y1", text("0"), "0000"),
        ("y1", text("1901"), "1901"),
        ("y1", text("2155"), "2155"),
        ("d", text("1000-01-01"), "1000-01-01"),
        ("d", text("0000-00-00"), "0000-00-00"),
        ("d", text("2020-00-00"), "2020-00-00"),
        ("d", text("2020-02-31"), "2020-02-31"),
        ("dt", text("2020-01-00 00:00:00"), "2020-01-00 00:00:00"),
        ("dt", text("1000-01-01 00:00:00"), "1000-01-01 00:00:00"),
        ("dt3", text("1999-12-31 23:59:59.999"), "1999-12-31 23:59:59.999"),
        ("dt6", text("9999-12-31 23:59:59.999999"), "9999-12-31 23:59:59.999999"),
        ("ts", text("1970-01-01 08:00:01"), "1970-01-01 00:00:01"),
        ("ts", text("0000-00-00 00:00:00"), "0000-00-00 00:00:00"),
        ("ts3", text("2038-01-19 11:14:07.999"), "2038-01-19 03:14:07.999"),
        ("t0", text("-838:59:59"), "-838:59:59"),
        ("t0", text("-00:00:01"), "-00:00:01"),
        ("t3", text("-00:00:00.001"), "-00:00:00.001"),
        ("t6", text("-12:34:56.654321"), "-12:34:56.654321"),
        ("c", text("abc"), "abc"),
        ("v", text("HÉLLO 😀"), "HÉLLO 😀"),
        ("v", text("O'Brien; DROP TABLE x; -- "), "O'Brien; DROP TABLE x; -- "),
        ("v", text(" lead\t\"q\" \\ back\n\r\u{1a}\0nul"), " lead\t\"q\" \\ back\n\r\u{1a}\0nul"),
        ("u3", text("中文"), "中文"),
        ("l1", Value::Text(b"\xe9\x80"), "é€"),
        ("l1", text("中文"), "中文"),
        ("lt1", text("plain"), "plain"),
        ("gb", text("中文GBK"), "中文GBK"),
        ("v09", text("x "), "x "),
        ("cb", Value::Bytes(b"ab\0\0\0"), "6162000000"),
        ("bi", Value::Bytes(&[1, 2, 0, 0, 0, 0]), "010200000000"),
        ("vbi", Value::Bytes(&[0, 255, 0, 255]), "00FF00FF"),
        ("vbi", Value::Bytes(b"'\\\n"), "275C0A"),
        ("tb", Value::Bytes(&[0]), "00"),
        ("bl", Value::Bytes(&[0xde, 0xad, 0xbe, 0xef, 0]), "DEADBEEF00"),
        ("tt", text("tiny"), "tiny"),
        ("txl", text(""), ""),
        ("e", Value::UInt(5), "中文"),
        ("e", Value::UInt(4), "it's"),
        ("s", Value::UInt(7), "x,y,z"),
        ("s", Value::UInt(0), ""),
        (
            "j",
            Value::Bytes(
                r#"{"big": 18446744073709551615, "s": "\u003c&>\\u0001\\n'", "k": [2.5, null, "中😀"]}"#
                    .as_bytes(),
            ),
            r#"{"big": 18446744073709551615, "s": "\u003c&>\\u0001\\n'", "k": [2.5, null, "中😀"]}"#,
        ),
        ("n", Value::Null, ""),
    ]
}

/// [`every_type`] and the finer types that ADB does not take.
fn all_types() -> Table {
    let mut table = every_type();
    for (name, text) in [("c3", "decimal(65,30)"), ("dt6", "datetime(6)"), ("t6", "time(6)")] {
        table.columns.push(column(name, text));
    }
    table
}

#[tokio::test]
async fn every_type_is_created_written_and_read_back() {
    let Some(mut session) = session().await else { return };
    let schema = database("types");
    let target = TableName::new(&schema, "every");
    let options = options(&mut session).await;
    let wanted = Wanted::new(Dialect::Mysql, &all_types(), target.clone(), &options);
    session.execute(drop_database(Dialect::Mysql, &schema).sql).await.unwrap();

    let mut created = Vec::new();
    let policy = ExistingTables::Refuse;
    let plan = create(&mut session, Dialect::Mysql, std::slice::from_ref(&wanted), policy, |table| {
        created.push(table.clone());
    })
    .await
    .unwrap();
    assert_eq!((plan.tables[0].action, &created[..]), (Action::Create, &[target.clone()][..]));
    // After a crash between CREATE TABLE and our note of it: the plan is run again.
    apply(&mut session, &plan, |_| {}).await.unwrap();
    // What we created passes our own comparison.
    let again = Wanted { ours: true, ..wanted };
    let plan = create(&mut session, Dialect::Mysql, &[again], policy, |_| {}).await.unwrap();
    assert_eq!(plan.tables[0].action, Action::Use);

    let table = plan.tables[0].table.clone().unwrap();
    let name = literal::table_name(&target);
    let shanghai = Zone::parse("Asia/Shanghai").unwrap();
    for (number, (column, value, expected)) in edge_values().into_iter().enumerate() {
        let column = table.column(column).unwrap();
        let mut literal = Vec::new();
        let pushed = column.encoder.push(value, &shanghai, &mut literal).unwrap();
        assert_eq!(pushed, Pushed::PLAIN, "{}", column.name);
        let quoted = literal::name(&column.name);
        // A row that carries the column's value twice, as REPLACE does.
        let mut insert =
            format!("REPLACE INTO {name} (id, en, upd, {quoted}) VALUES ({number}, 1, NOW(), ").into_bytes();
        insert.extend_from_slice(&literal);
        insert.push(b')');
        let done = session.execute(&insert).await.unwrap_or_else(|error| panic!("{}: {error}", column.name));
        assert_eq!(done.warnings, 0, "{}", column.name);
        let octets = ["bit", "binary", "varbinary", "tinyblob", "blob"]
            .iter()
            .any(|base| column.type_text.split('(').next() == Some(base));
        let shown = if octets { format!("HEX({quoted})") } else { format!("CAST({quoted} AS CHAR)") };
        let shown = if column.type_text.starts_with("bit") {
            let digits = column.type_text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap();
            format!("LPAD(HEX({quoted}), {}, '0')", digits.div_ceil(8) * 2)
        } else {
            shown
        };
        let found: Option<Option<String>> =
            session.first(&format!("SELECT {shown} FROM {name} WHERE id = {number}")).await.unwrap();
        assert_eq!(found.flatten().unwrap_or_default(), expected, "{}", column.name);
        if column.encoder.is_comparable() {
            let mut matching =
                format!("SELECT COUNT(*) FROM {name} WHERE id = {number} AND {quoted} <=> ").into_bytes();
            matching.extend_from_slice(&literal);
            let rows: Option<u64> = session.first(&String::from_utf8_lossy(&matching)).await.unwrap();
            assert_eq!(rows, Some(1), "{} does not equal its own literal", column.name);
        }
    }
    let long = vec![b'\''; 1000];
    let mut insert = format!("REPLACE INTO {name} (id, en, upd, lb) VALUES (999, 1, NOW(), ").into_bytes();
    table.column("lb").unwrap().encoder.push(Value::Bytes(&long), &Zone::Utc, &mut insert).unwrap();
    insert.push(b')');
    session.execute(&insert).await.unwrap();
    let found: Option<Vec<u8>> =
        session.first(&format!("SELECT lb FROM {name} WHERE id = 999")).await.unwrap();
    assert_eq!(found, Some(long));
    session.execute(drop_database(Dialect::Mysql, &schema).sql).await.unwrap();
    session.close().await;
}

#[tokio::test]
async fn the_error_value_of_an_enum_needs_a_relaxed_session() {
    let Some(mut session) = session().await else { return };
    let schema = database("relaxed");
    let options = options(&mut session).await;
    let source = table(
        "t",
        vec![column("id", "int not null"), column("e", "enum(a,b)")],
        vec![key(KeyKind::Primary, "", "id")],
    );
    let wanted = Wanted::new(Dialect::Mysql, &source, TableName::new(&schema, "t"), &options);
    let plan =
        create(&mut session, Dialect::Mysql, &[wanted], ExistingTables::Replace, |_| {}).await.unwrap();
    let mut literal = Vec::new();
    let encoder = &plan.tables[0].table.as_ref().unwrap().columns[1].encoder;
    assert_eq!(encoder.push(Value::UInt(0), &Zone::Utc, &mut literal).unwrap(), Pushed::RELAXED);
    let insert = format!("REPLACE INTO `{schema}`.t VALUES (1, {})", String::from_utf8_lossy(&literal));
    assert_eq!(session.execute(&insert).await.unwrap_err().kind, ErrorKind::ValueRefused);
    session.execute(RELAXED_MODE).await.unwrap();
    assert_eq!(session.execute(&insert).await.unwrap().warnings, 1);
    session.execute(STRICT_MODE).await.unwrap();
    let found: Option<u64> = session.first(&format!("SELECT e + 0 FROM `{schema}`.t")).await.unwrap();
    assert_eq!(found, Some(0));
    session.execute(drop_database(Dialect::Mysql, &schema).sql).await.unwrap();
    session.close().await;
}

/// Runs statements, and holds each predicate false before and true after.
async fn run(session: &mut Session, statements: &[TargetStatement]) {
    for statement in statements {
        if statement.done != Done::Rerun {
            assert!(!done(session, &statement.done).await.unwrap(), "before: {}", statement.sql);
        }
        session.execute(&statement.sql).await.unwrap_or_else(|error| panic!("{}: {error}", statement.sql));
        if statement.done != Done::Rerun {
            assert!(done(session, &statement.done).await.unwrap(), "after: {}", statement.sql);
        } else {
            session
                .execute(&statement.sql)
                .await
                .unwrap_or_else(|error| panic!("again {}: {error}", statement.sql));
        }
    }
}

#[tokio::test]
async fn statements_take_effect_and_their_predicates_tell() {
    let Some(mut session) = session().await else { return };
    let schema = database("statements");
    let options = options(&mut session).await;
    let target = TableName::new(&schema, "t");
    run(&mut session, &[create_database_statement(Dialect::Mysql, &schema, Some("latin1"), None)]).await;
    let first = source();
    let planned = TargetTable::new(Dialect::Mysql, &first, target.clone(), &options).unwrap();
    run(&mut session, &[adb::dialect::create_table_statement(&planned)]).await;

    let mut table = first;
    let mut step = async |change: &dyn Fn(&mut Table), clause: AlterClause, context: AlterContext<'_>| {
        let before = table.clone();
        change(&mut table);
        let statements =
            alter(Dialect::Mysql, &before, &clause, &table, &target, &options, &context).unwrap();
        assert!(!statements.is_empty(), "{clause:?}");
        run(&mut session, &statements).await;
    };
    let none = AlterContext::default();
    let added = Column {
        default: Some(crate::model::ColumnDefault::CurrentTimestamp { fsp: 3 }),
        ..column("at", "timestamp(3) not null")
    };
    let existing = AlterContext { existing_rows: Some("2024-01-02 03:04:05.678"), ..none };
    step(
        &|table| table.columns.insert(0, added.clone()),
        AlterClause::AddColumn {
            column: added.clone(),
            position: Some(crate::sql::ddl::ast::ColumnPosition::First),
            keys: vec![],
            if_not_exists: false,
        },
        existing,
    )
    .await;
    let generated =
        adb::dialect::fixture::generated("g", "varchar(30) not null", "concat(`v`, _utf8mb4'-', `id`)", true);
    step(
        &|table| table.columns.push(generated.clone()),
        AlterClause::AddColumn {
            column: generated.clone(),
            position: None,
            keys: vec![],
            if_not_exists: false,
        },
        none,
    )
    .await;
    let renamed = column("w", "varchar(300)");
    step(
        &|table| {
            table.columns.retain(|column| column.name != "g");
        },
        AlterClause::DropColumn { name: "g".to_owned(), if_exists: false },
        none,
    )
    .await;
    step(
        &|table| {
            let at = table.column_index("v").unwrap();
            table.columns[at] = renamed.clone();
            table.keys[1] = key(KeyKind::Unique, "uv", "w");
        },
        AlterClause::ChangeColumn {
            old: "v".to_owned(),
            column: renamed.clone(),
            position: None,
            if_exists: false,
        },
        none,
    )
    .await;
    step(
        &|table| {
            let at = table.column_index("w").unwrap();
            table.columns[at].name = "W".to_owned();
            table.keys[1] = key(KeyKind::Unique, "uv", "W");
        },
        AlterClause::RenameColumn { old: "w".to_owned(), new: "W".to_owned() },
        none,
    )
    .await;
    let enumerated = column("e", "enum(z,a,b)");
    step(
        &|table| {
            let at = table.column_index("e").unwrap();
            table.columns[at] = enumerated.clone();
        },
        AlterClause::ChangeColumn {
            old: "e".to_owned(),
            column: enumerated.clone(),
            position: None,
            if_exists: false,
        },
        none,
    )
    .await;
    step(
        &|table| {
            let at = table.column_index("c").unwrap();
            table.columns[at].default = Some(crate::model::ColumnDefault::Literal("1.50".to_owned()));
        },
        AlterClause::SetDefault { column: "c".to_owned(), default: None },
        none,
    )
    .await;
    let index = key(KeyKind::Index, "", "W(10), dt");
    step(
        &|table| table.keys.push(index.clone()),
        AlterClause::AddKey { key: index.clone(), if_not_exists: false },
        none,
    )
    .await;
    step(
        &|table| table.keys[2].name = Some("ix".to_owned()),
        AlterClause::RenameKey { old: "W".to_owned(), new: "ix".to_owned() },
        none,
    )
    .await;
    step(
        &|table| {
            table.keys.remove(2);
        },
        AlterClause::DropKey { name: "IX".to_owned(), if_exists: false },
        none,
    )
    .await;
    step(
        &|table| {
            table.keys.remove(0);
        },
        AlterClause::DropPrimaryKey,
        none,
    )
    .await;
    let primary = key(KeyKind::Primary, "", "id");
    step(
        &|table| table.keys.push(primary.clone()),
        AlterClause::AddKey { key: primary.clone(), if_not_exists: false },
        none,
    )
    .await;
    step(
        &|table| table.comment = "it's; new".to_owned(),
        AlterClause::Comment { text: "it's; new".to_owned() },
        none,
    )
    .await;
    step(
        &|table| table.collation = Some("utf8mb4_general_ci".to_owned()),
        AlterClause::ConvertCharset { charset: "utf8mb4".to_owned(), collation: None },
        none,
    )
    .await;
    let delete = AlterContext { partition_condition: Some("`id` < 10"), ..none };
    step(&|_| {}, AlterClause::DropPartitions { names: vec!["p".to_owned()], if_exists: false }, delete)
        .await;

    let wanted = Wanted { ours: true, ..Wanted::new(Dialect::Mysql, &table, target.clone(), &options) };
    let plan = create(&mut session, Dialect::Mysql, &[wanted], ExistingTables::Refuse, |_| {}).await.unwrap();
    assert_eq!(plan.tables[0].action, Action::Use, "the altered table is as one created so");

    let other = TableName::new(&schema, "Other");
    run(&mut session, &rename_tables(Dialect::Mysql, &[(target.clone(), other.clone())]).unwrap()).await;
    let planned = TargetTable::new(Dialect::Mysql, &source(), target.clone(), &options).unwrap();
    run(&mut session, &[adb::dialect::create_table_statement(&planned)]).await;
    run(&mut session, &swap_tables(Dialect::Mysql, &target, &other)).await;
    let lower = TableName::new(&schema, "other");
    if introspect(&mut session, Dialect::Mysql, &[]).await.unwrap().case_sensitive {
        run(&mut session, &rename_tables(Dialect::Mysql, &[(other, lower.clone())]).unwrap()).await;
    }
    run(
        &mut session,
        &[truncate_table(&target), drop_table(&target), drop_database(Dialect::Mysql, &schema)],
    )
    .await;
    session.close().await;
}

#[tokio::test]
async fn wide_tables_fit_the_server() {
    let Some(mut session) = session().await else { return };
    let schema = database("wide");
    let options = options(&mut session).await;
    let columns = |count: usize, text: &str| {
        let mut columns = vec![column("id", "int not null")];
        columns.extend((0..count).map(|number| column(&format!("c{number}"), text)));
        columns
    };
    let wanted: Vec<_> = [
        (300, "varchar(50)"),
        (20, "varchar(4000)"),
        (3, "varchar(16383)"),
        (300, "varbinary(200)"),
        (150, "text"),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (count, text))| {
        let primary = key(KeyKind::Primary, "", "id");
        let prefix = key(KeyKind::Index, "", "c0(10), c1(10)");
        let source = table(&format!("w{number}"), columns(count, text), vec![primary, prefix]);
        let target = TableName::new(&schema, &source.name.table);
        Wanted::new(Dialect::Mysql, &source, target, &options)
    })
    .collect();
    let plan = create(&mut session, Dialect::Mysql, &wanted, ExistingTables::Refuse, |_| {}).await.unwrap();
    assert!(plan.tables.iter().all(|table| table.action == Action::Create));
    let full = vec!["REPEAT('中', 50)"; 300].join(",");
    session.execute(format!("INSERT INTO `{schema}`.w0 VALUES (1, {full})")).await.unwrap();
    let again: Vec<_> = wanted.into_iter().map(|wanted| Wanted { ours: true, ..wanted }).collect();
    let plan = create(&mut session, Dialect::Mysql, &again, ExistingTables::Refuse, |_| {}).await.unwrap();
    assert!(plan.tables.iter().all(|table| table.action == Action::Use));
    session.execute(drop_database(Dialect::Mysql, &schema).sql).await.unwrap();
    session.close().await;
}

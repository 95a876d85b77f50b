//! Tables for tests, in few words.

use crate::model::{
    Column, ColumnDefault, ColumnType, Generated, Key, KeyKind, KeyPart, Table, TableName, TypeName,
};

/// `column("a", "varchar(20) not null")`: type, length and scale, then `unsigned`, `zerofill`, `not null`, `charset x`, `collate x`.
/// Labels are separated by commas, unquoted.
pub(crate) fn column(name: &str, text: &str) -> Column {
    let (head, tail) = match text.find('(') {
        Some(open) => {
            let close = text.rfind(')').unwrap();
            ((&text[..open], &text[open + 1..close]), &text[close + 1..])
        }
        None => match text.split_once(' ') {
            Some((head, tail)) => ((head, ""), tail),
            None => ((text, ""), ""),
        },
    };
    let (base, arguments) = head;
    let mut ty = ColumnType::new(serde_json::from_value::<TypeName>(base.into()).unwrap());
    if matches!(ty.name, TypeName::Enum | TypeName::Set) {
        ty.labels = arguments.split(',').map(str::to_owned).collect();
    } else {
        let mut numbers = arguments.split(',').filter_map(|number| number.parse().ok());
        (ty.length, ty.scale) = (numbers.next(), numbers.next());
    }
    let words: Vec<_> = tail.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|other| *other == word).map(|at| words[at + 1].to_owned());
    ty.unsigned = words.contains(&"unsigned");
    ty.zerofill = words.contains(&"zerofill");
    ty.charset = after("charset");
    ty.collation = after("collate");
    Column {
        name: name.to_owned(),
        ty,
        nullable: !tail.contains("not null"),
        default: None,
        auto_increment: false,
        on_update_now: false,
        generated: None,
        comment: String::new(),
    }
}

pub(crate) fn with_default(name: &str, text: &str, default: &str) -> Column {
    Column { default: Some(ColumnDefault::Literal(default.to_owned())), ..column(name, text) }
}

pub(crate) fn generated(name: &str, text: &str, expression: &str, stored: bool) -> Column {
    let generated = Generated { expression: expression.to_owned(), stored };
    Column { generated: Some(generated), ..column(name, text) }
}

/// `key(KeyKind::Index, "ix", "a, b(10)")`; an empty name is none.
pub(crate) fn key(kind: KeyKind, name: &str, parts: &str) -> Key {
    let parts = parts
        .split(", ")
        .map(|part| match part.strip_suffix(')').and_then(|part| part.split_once('(')) {
            Some(("", expression)) => KeyPart::Expression(expression.to_owned()),
            Some((name, prefix)) => {
                KeyPart::Column { name: name.to_owned(), prefix: Some(prefix.parse().unwrap()) }
            }
            None => KeyPart::Column { name: part.to_owned(), prefix: None },
        })
        .collect();
    let name = match kind {
        KeyKind::Primary => Some("PRIMARY".to_owned()),
        _ => Some(name.to_owned()).filter(|name| !name.is_empty()),
    };
    Key { name, kind, parts, clustered: None }
}

/// A table `shop.<name>` in utf8mb4_bin.
pub(crate) fn table(name: &str, columns: Vec<Column>, keys: Vec<Key>) -> Table {
    Table {
        name: TableName::new("shop", name),
        columns,
        keys,
        charset: Some("utf8mb4".to_owned()),
        collation: Some("utf8mb4_bin".to_owned()),
        comment: String::new(),
        partitioning: None,
        temporary: false,
        time_to_live: false,
    }
}

/// Every type of TiDB, as in the fixture tables num, str and tm, with defaults of every kind.
pub(crate) fn every_type() -> Table {
    let current = |name: &str, text: &str, fsp: u32| Column {
        default: Some(ColumnDefault::CurrentTimestamp { fsp }),
        on_update_now: true,
        ..column(name, text)
    };
    let bits = |name: &str, text: &str, bytes: &[u8]| Column {
        default: Some(ColumnDefault::Bits(bytes.to_vec())),
        ..column(name, text)
    };
    let mut columns = vec![
        Column { auto_increment: true, ..column("id", "bigint(20) unsigned not null") },
        with_default("b1", "tinyint(1) not null", "0"),
        column("t1", "tinyint(4)"),
        column("t1u", "tinyint(3) unsigned"),
        column("s1", "smallint(6)"),
        column("s1u", "smallint(5) unsigned"),
        column("m1", "mediumint(9)"),
        column("m1u", "mediumint(8) unsigned"),
        with_default("i1", "int(11)", "-5"),
        column("i1u", "int(10) unsigned"),
        column("z1", "int(8) unsigned zerofill"),
        column("g1", "bigint(20)"),
        column("g1u", "bigint(20) unsigned"),
        column("f1", "float"),
        column("f2", "float(7,3)"),
        column("f1u", "float unsigned"),
        with_default("d1", "double", "1.5"),
        column("d2", "double(10,4)"),
        column("c1", "decimal(10,0)"),
        with_default("c2", "decimal(20,6)", "3.1"),
        column("c4", "decimal(5,2) unsigned"),
        bits("bt1", "bit(1)", &[1]),
        bits("bt10", "bit(10)", &[2, 1]),
        column("bt64", "bit(64)"),
        with_default("y1", "year(4)", "2020"),
        column("d", "date"),
        column("dt", "datetime"),
        column("dt3", "datetime(3)"),
        with_default("dtd", "datetime", "1999-12-31 23:59:59"),
        column("ts", "timestamp"),
        column("ts3", "timestamp(3)"),
        column("tsn", "timestamp not null"),
        current("upd", "timestamp(3) not null", 3),
        column("t0", "time"),
        column("t3", "time(3)"),
        column("c", "char(10)"),
        column("v", "varchar(50) collate utf8mb4_general_ci"),
        with_default("vb", "varchar(20) not null", "it's"),
        column("u3", "varchar(20) charset utf8 collate utf8_bin"),
        column("l1", "varchar(20) charset latin1 collate latin1_bin"),
        column("lt1", "text charset latin1"),
        column("asc1", "varchar(10) charset ascii"),
        column("gb", "varchar(20) charset gbk collate gbk_chinese_ci"),
        column("v09", "varchar(20) collate utf8mb4_0900_ai_ci"),
        column("cb", "char(5) charset binary"),
        column("bi", "binary(6)"),
        bits("vbi", "varbinary(20)", &[0, 0xff]),
        column("tt", "tinytext"),
        with_default("tx", "text", "dropped"),
        column("txl", "text(70000)"),
        column("mt", "mediumtext"),
        column("lt", "longtext"),
        column("tb", "tinyblob"),
        column("bl", "blob"),
        column("mb", "mediumblob"),
        column("lb", "longblob"),
        column("e", "enum(a,b,c d,it's,中文)"),
        with_default("en", "enum(p,q,r) not null", "r"),
        column("s", "set(x,y,z)"),
        column("j", "json"),
        Column {
            default: Some(ColumnDefault::Expression("UUID()".to_owned())),
            ..column("ux", "varchar(36)")
        },
        Column {
            default: Some(ColumnDefault::Null),
            comment: "it's \"a\" comment".to_owned(),
            ..column("n", "int")
        },
    ];
    columns.push(generated("gv", "int not null", "`t1` + 5", false));
    columns.push(generated("gs", "varchar(40)", "concat(`v`, _utf8mb4'-', `t1`)", true));
    columns.push(generated("gj", "varchar(20)", "`j`->>'$.n'", false));
    let mut table = table(
        "every",
        columns,
        vec![
            key(KeyKind::Primary, "", "id"),
            key(KeyKind::Unique, "u", "i1, vb"),
            key(KeyKind::Unique, "", "id, i1"),
            key(KeyKind::Index, "p", "v(3), tx(8)"),
            key(KeyKind::Index, "", "v"),
            key(KeyKind::Index, "x", "(lower(v))"),
            key(KeyKind::Fulltext, "f", "tx"),
            key(KeyKind::Index, "kgv", "gv"),
            key(KeyKind::Index, "kgj", "gj"),
        ],
    );
    table.comment = "all; types".to_owned();
    table
}

//! What a DDL event of the stream does to the target: the naming traps of source-drainer.md 0.10 to 0.13, 4 and 10.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tidegate::adb::dialect::Collations;
use tidegate::incremental::catalog::{Catalog, Resolved};
use tidegate::incremental::plan::{Event, Existing, Facts, Plan, plan, texts};
use tidegate::model::{Dialect, Table, TableName};
use tidegate::sql::ddl;
use tidegate::sql::ddl::ast::Statement;
use tidegate::task::selection::Selection;
use tidegate::task::spec::Spec;
use tidegate::task::standing::Standing;

struct Follower {
    catalog: Catalog,
    /// What the source says when it is asked.
    facts: Facts,
}

impl Follower {
    fn new(include: &[&str], extra: serde_json::Value) -> Self {
        Self::on(Dialect::Mysql, include, extra)
    }

    fn on(dialect: Dialect, include: &[&str], extra: serde_json::Value) -> Self {
        let mut spec = serde_json::json!({
            "name": "t", "source": {"kafka": "k", "topic": "x"}, "target": "m",
            "objects": {"include": include}, "tables_without_key": "match_row",
            "phases": {"schema": false, "full": false, "incremental": true},
        });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let selection = Selection::new(&spec).unwrap();
        Self {
            catalog: Catalog::new(Arc::new(spec), Arc::new(selection), dialect, Collations::default()),
            facts: Facts::default(),
        }
    }

    /// Plans the event, takes its change in and gives its statements.
    fn follow(&mut self, schema: &str, table: &str, text: &str) -> Result<Vec<String>, String> {
        let statements = ddl::parse(text.as_bytes()).map_err(|fault| fault.to_string())?;
        let planned = plan(Event { schema, table }, &statements, &self.catalog, &self.facts)
            .map_err(|error| format!("{error}"))?;
        let Plan::Do(steps) = planned else { return Err("asks the source".to_owned()) };
        self.catalog.apply(&steps.change);
        Ok(texts(&steps.statements))
    }

    /// The statements of an event, the tables that are copied again, and the notes.
    fn steps(&mut self, schema: &str, table: &str, text: &str) -> (Vec<String>, Vec<String>, String) {
        let statements = ddl::parse(text.as_bytes()).unwrap();
        let planned = plan(Event { schema, table }, &statements, &self.catalog, &self.facts)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let Plan::Do(steps) = planned else { panic!("{text}: {planned:?}") };
        self.catalog.apply(&steps.change);
        let again = steps.resync.iter().map(|resync| resync.table.to_string()).collect();
        (texts(&steps.statements), again, steps.notes.join("; "))
    }

    /// The message and the hint of a refusal.
    fn refused(&mut self, schema: &str, table: &str, text: &str) -> String {
        let statements = ddl::parse(text.as_bytes()).unwrap();
        let error = plan(Event { schema, table }, &statements, &self.catalog, &self.facts).unwrap_err();
        format!("{error} {}", error.hint.clone().unwrap_or_default())
    }

    /// What the source will say of a table.
    fn source_has(&mut self, schema: &str, table: &str, text: &str) {
        let mut definition = definition(text);
        definition.name = TableName::new(schema, table);
        self.facts.tables.insert(definition.name.key(), definition);
    }

    fn ok(&mut self, schema: &str, table: &str, text: &str) -> Vec<String> {
        self.follow(schema, table, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn rows_go_to(&mut self, schema: &str, table: &str) -> String {
        match self.catalog.resolve(&TableName::new(schema, table)).unwrap() {
            Resolved::Table(tracked) => tracked.target.name.to_string(),
            other => format!("{other:?}"),
        }
    }
}

fn definition(text: &str) -> Table {
    match ddl::parse(text.as_bytes()).unwrap().pop() {
        Some(Statement::CreateTable { table, .. }) => table,
        other => panic!("{text}: {other:?}"),
    }
}

fn all() -> Follower {
    Follower::new(&["*.*"], serde_json::json!({"ddl": {"drop_database": "apply"}}))
}

#[test]
fn a_drop_of_two_tables_comes_twice_and_drops_each_once() {
    let mut stream = all();
    stream.ok("s", "", "CREATE DATABASE s");
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    stream.ok("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("s", "a", "DROP TABLE `a`, `b`"), ["DROP TABLE IF EXISTS `s`.`a`"]);
    assert_eq!(stream.rows_go_to("s", "b"), "s.b");
    assert_eq!(stream.ok("s", "b", "DROP TABLE `a`, `b`"), ["DROP TABLE IF EXISTS `s`.`b`"]);
    assert_eq!(stream.rows_go_to("s", "b"), "Dropped");
}

#[test]
fn a_rename_across_schemas_names_only_the_new_place() {
    let mut stream = all();
    stream.ok("e1", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    stream.ok("e2", "", "CREATE DATABASE e2");
    let statements = stream.ok("e2", "t2", "rename table t to e2.t2");
    // Empty at the start of the copy, e2 may have no database on the target yet.
    assert!(statements[0].starts_with("CREATE DATABASE IF NOT EXISTS `e2`"), "{statements:?}");
    assert_eq!(statements[1..], ["RENAME TABLE `e1`.`t` TO `e2`.`t2`"]);
    assert_eq!(stream.rows_go_to("e2", "t2"), "e2.t2");
    // Late rows under the old name belong to the same table.
    assert_eq!(stream.rows_go_to("e1", "t"), "e2.t2");
    stream.ok("e1", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    assert_eq!(stream.rows_go_to("e1", "t"), "e1.t");
}

#[test]
fn an_unqualified_old_name_that_fits_twice_is_refused() {
    let mut stream = all();
    stream.ok("e1", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    stream.ok("e3", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    let error = stream.follow("e2", "t2", "RENAME TABLE t TO e2.t2").unwrap_err();
    assert!(error.contains("e1.t") && error.contains("e3.t"), "{error}");
}

#[test]
fn names_that_cannot_be_told_apart_stop_only_a_task_that_has_them() {
    let mut stream = Follower::new(&["mine.*"], serde_json::json!({}));
    stream.ok("e1", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    stream.ok("e3", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("e2", "t2", "RENAME TABLE t TO e2.t2"), Vec::<String>::new());
    assert_eq!(stream.ok("e2", "t3", "CREATE TABLE e2.t3 LIKE t"), Vec::<String>::new());
}

#[test]
fn a_table_does_not_go_for_a_rename_in_schemas_never_heard_of() {
    let mut stream = Follower::new(&["shop.*"], serde_json::json!({}));
    stream.ok("shop", "orders", "CREATE TABLE orders (id INT PRIMARY KEY)");
    let error = stream.follow("other", "o2", "ALTER TABLE orders RENAME other.o2").unwrap_err();
    assert!(error.contains("shop.orders"), "{error}");
    assert_eq!(stream.rows_go_to("shop", "orders"), "shop.orders");
}

#[test]
fn a_rename_without_a_schema_stops_where_the_table_may_be_of_a_schema_not_followed() {
    let mut stream = Follower::new(&["shop.*", "old.*"], serde_json::json!({}));
    stream.ok("shop", "orders", "CREATE TABLE orders (id INT PRIMARY KEY)");
    stream.ok("old", "seen", "CREATE TABLE seen (id INT PRIMARY KEY)");
    for text in ["ALTER TABLE orders RENAME old.o2", "RENAME TABLE orders TO old.o2"] {
        let told = stream.refused("old", "o2", text);
        assert!(
            told.contains("shop.orders, or a table of another schema") && told.contains("tidb"),
            "{told}"
        );
    }
    let told = stream.refused("old", "o3", "RENAME TABLE seen TO shop.s, orders TO old.o3");
    assert!(told.contains("old.seen, shop.orders"), "{told}");
    assert_eq!(stream.rows_go_to("shop", "orders"), "shop.orders");
}

#[test]
fn a_rename_without_a_schema_asks_the_source_which_table_it_was() {
    let mut stream = with_tidb(Dialect::Mysql, &["shop.*", "old.*"], serde_json::json!({}));
    for schema in ["shop", "old"] {
        for table in ["orders", "seen"] {
            stream.ok(schema, table, &format!("CREATE TABLE {table} (id INT PRIMARY KEY)"));
        }
    }
    let new = TableName::new("old", "o2");
    let text = "ALTER TABLE orders RENAME old.o2";
    assert!(stream.follow("old", "o2", text).unwrap_err().contains("asks"));
    // Nobody can say, or what is said does not fit.
    for answer in [None, Some(TableName::new("shop", "seen"))] {
        stream.facts.before.insert(new.key(), answer);
        assert!(stream.refused("old", "o2", text).contains("old.orders, shop.orders"));
    }
    stream.facts.before.insert(new.key(), Some(TableName::new("shop", "orders")));
    assert_eq!(stream.ok("old", "o2", text), ["RENAME TABLE `shop`.`orders` TO `old`.`o2`"]);
    // One answer tells the schema of every name of the statement, also of a new one.
    stream.facts.before.insert(TableName::new("x", "s").key(), Some(TableName::new("shop", "seen")));
    let statements = stream.ok("x", "s", "RENAME TABLE old.orders TO o3, seen TO x.s");
    assert_eq!(statements, ["RENAME TABLE `old`.`orders` TO `shop`.`o3`"]);
    assert_eq!(stream.rows_go_to("old", "seen"), "old.seen");
}

#[test]
fn a_swap_with_an_unqualified_name_asks_for_the_table_by_its_last_name() {
    let mut stream = with_tidb(Dialect::Mysql, &["shop.*"], serde_json::json!({}));
    stream.ok("shop", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    stream.ok("shop", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    stream.facts.before.insert(TableName::new("shop", "b").key(), Some(TableName::new("shop", "a")));
    let statements = stream.ok("shop", "b", "RENAME TABLE a TO shop.x, shop.b TO a, shop.x TO shop.b");
    assert_eq!(statements.len(), 3, "{statements:?}");
    assert_eq!(statements[2], "RENAME TABLE `shop`.`x` TO `shop`.`b`");
}

#[test]
fn a_table_of_the_same_name_stays_when_one_that_is_not_ours_is_renamed() {
    let mut stream = with_tidb(Dialect::Mysql, &["shop.*"], serde_json::json!({}));
    stream.ok("shop", "orders", "CREATE TABLE orders (id INT PRIMARY KEY)");
    stream.ok("far", "away", "CREATE TABLE away (id INT PRIMARY KEY)");
    stream.facts.before.insert(TableName::new("far", "o2").key(), Some(TableName::new("other", "orders")));
    assert_eq!(stream.ok("far", "o2", "RENAME TABLE orders TO far.o2"), Vec::<String>::new());
    assert_eq!(stream.rows_go_to("shop", "orders"), "shop.orders");
}

#[test]
fn a_default_that_is_no_utf8_is_what_the_source_made_of_it() {
    let text = "ALTER TABLE t ADD COLUMN b VARBINARY(9) DEFAULT x'00ff41'";
    let mut stream = all();
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    assert!(stream.follow("s", "t", text).unwrap_err().contains("asks"));
    let key = (TableName::new("s", "t").key(), "b".to_owned());
    stream.facts.existing.insert(key.clone(), Existing::Assumed(String::new()));
    stream.facts.defaults.insert(TableName::new("s", "t").key(), None);
    let (statements, _, notes) = stream.steps("s", "t", text);
    assert!(statements[0].to_lowercase().contains("00ff41") && notes.contains("no UTF-8"), "{notes}");
    stream.ok("s", "t", "ALTER TABLE t DROP COLUMN b");
    stream.facts.existing.insert(key, Existing::Value(vec![0, 0xef, 0xbf, 0xbd, 0x41]));
    assert!(stream.ok("s", "t", text)[0].to_lowercase().contains("00efbfbd41"));
    // A whole definition, and SET DEFAULT: as the source shows it.
    let mut known = definition("CREATE TABLE u (b VARBINARY(9) DEFAULT '\u{fffd}x')");
    known.name = TableName::new("s", "u");
    let create = "CREATE TABLE u (id INT PRIMARY KEY, b VARBINARY(9) DEFAULT x'ff78')";
    assert!(stream.follow("s", "u", create).unwrap_err().contains("asks"));
    stream.facts.defaults.insert(known.name.key(), Some(known));
    let shown =
        |statement: &str| statement.to_lowercase().contains("efbfbd78") || statement.contains("\u{fffd}x");
    let statements = stream.ok("s", "u", create);
    assert!(shown(&statements[0]), "{statements:?}");
    let statements = stream.ok("s", "u", "ALTER TABLE u ALTER COLUMN b SET DEFAULT x'fe78'");
    assert!(statements.is_empty() || shown(&statements[0]), "{statements:?}");
}

#[test]
fn the_year_0_as_a_default_is_2000_as_in_tidb() {
    let mut stream = all();
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    let statements = stream.ok("s", "t", "ALTER TABLE t ADD COLUMN y YEAR DEFAULT 0");
    assert!(statements[0].ends_with("DEFAULT 2000"), "{statements:?}");
}

#[test]
fn a_rename_spelled_in_other_letters_finds_the_table_as_it_is_called() {
    let mut stream = all();
    stream.ok("s", "Orders", "CREATE TABLE Orders (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("s", "b", "RENAME TABLE oRDERS TO b"), ["RENAME TABLE `s`.`Orders` TO `s`.`b`"]);
    assert_eq!(stream.ok("s", "C", "ALTER TABLE B RENAME C"), ["RENAME TABLE `s`.`b` TO `s`.`C`"]);
    assert_eq!(stream.rows_go_to("s", "c"), "s.C");
}

#[test]
fn rows_that_are_there_get_the_json_null_in_a_new_not_null_column() {
    let mut stream = all();
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    let statements = stream.ok("s", "t", "ALTER TABLE t ADD COLUMN j JSON NOT NULL FIRST");
    assert_eq!(
        statements,
        [
            "ALTER TABLE `s`.`t` ADD COLUMN `j` json NOT NULL DEFAULT 'null' FIRST",
            "ALTER TABLE `s`.`t` MODIFY COLUMN `j` json NOT NULL"
        ]
    );
}

#[test]
fn after_a_multi_rename_rows_under_stale_names_find_their_table() {
    let mut stream = all();
    for table in ["a", "c"] {
        stream.ok("s", table, &format!("CREATE TABLE {table} (id INT PRIMARY KEY)"));
    }
    let statements = stream.ok("s", "d", "RENAME TABLE `a` TO `b`, `c` TO `d`");
    assert_eq!(statements, ["RENAME TABLE `s`.`a` TO `s`.`b`", "RENAME TABLE `s`.`c` TO `s`.`d`"]);
    assert_eq!(stream.rows_go_to("s", "a"), "s.b");
    assert_eq!(stream.rows_go_to("s", "d"), "s.d");
    // source-drainer.md 10.5: the event of DROP TABLE b says a.
    assert_eq!(stream.ok("s", "a", "DROP TABLE `b`"), ["DROP TABLE IF EXISTS `s`.`b`"]);
    // With a new a in place, the statement's own list decides.
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("s", "c", "DROP TABLE `d`"), ["DROP TABLE IF EXISTS `s`.`d`"]);
    assert_eq!(stream.rows_go_to("s", "a"), "s.a");
}

#[test]
fn create_like_takes_the_only_table_of_that_name() {
    let mut stream = all();
    stream.ok("x", "s", "CREATE TABLE s (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(5))");
    let statements = stream.ok("y", "t", "create table y.t like s");
    let created = statements.last().unwrap();
    assert!(
        created.contains("`y`.`t`") && created.to_lowercase().contains("bigint") && created.contains("`v`"),
        "{created}"
    );
}

#[test]
fn a_multi_clause_alter_becomes_one_statement_per_column() {
    let mut stream = all();
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY, m3 INT)");
    let statements = stream.ok("s", "t", "ALTER TABLE `t` ADD COLUMN `m5` INT DEFAULT 5, DROP COLUMN `m3`");
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert!(
        statements[0].contains("ADD COLUMN `m5`") && statements[1].contains("DROP COLUMN `m3`"),
        "{statements:?}"
    );
}

#[test]
fn truncating_and_dropping_partitions_deletes_their_rows() {
    let mut stream = all();
    stream.ok(
        "s",
        "p",
        "CREATE TABLE `p` (`id` INT PRIMARY KEY) PARTITION BY RANGE (`id`) (PARTITION `p0` VALUES LESS THAN (10),PARTITION `p1` VALUES LESS THAN (20))",
    );
    for (text, expected) in
        [("ALTER TABLE p TRUNCATE PARTITION p0", "10"), ("ALTER TABLE p DROP PARTITION p1", "20")]
    {
        let statements = stream.ok("s", "p", text);
        assert_eq!(statements.len(), 1, "{statements:?}");
        assert!(
            statements[0].starts_with("DELETE FROM `s`.`p` WHERE") && statements[0].contains(expected),
            "{statements:?}"
        );
    }
}

#[test]
fn what_is_not_selected_changes_nothing_on_the_target() {
    let mut stream = Follower::new(&["shop.orders", "crm.*"], serde_json::json!({}));
    assert_eq!(stream.ok("shop", "", "CREATE DATABASE shop"), Vec::<String>::new());
    assert_eq!(stream.ok("shop", "tmp", "CREATE TABLE tmp (id INT PRIMARY KEY)"), Vec::<String>::new());
    assert_eq!(stream.ok("shop", "tmp", "ALTER TABLE tmp ADD COLUMN a INT"), Vec::<String>::new());
    assert_eq!(stream.rows_go_to("shop", "tmp"), "Unselected");
    let statements = stream.ok("shop", "orders", "CREATE TABLE orders (id INT PRIMARY KEY)");
    assert!(
        statements[0].starts_with("CREATE DATABASE") && statements[1].starts_with("CREATE TABLE"),
        "{statements:?}"
    );
    assert!(stream.ok("crm", "", "CREATE DATABASE crm")[0].contains("`crm`"));
    // A rename out of the selection leaves the data; one into it cannot bring the rows.
    assert_eq!(stream.ok("shop", "old_orders", "RENAME TABLE orders TO old_orders"), Vec::<String>::new());
    assert_eq!(stream.rows_go_to("shop", "old_orders"), "Unselected");
    assert!(stream.follow("shop", "orders", "RENAME TABLE tmp TO orders").is_err());
}

#[test]
fn policies_stop_ignore_or_apply() {
    let mut stream = Follower::new(
        &["s.*"],
        serde_json::json!({"ddl": {"add_column": "ignore", "truncate_table": "stop"}}),
    );
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("s", "t", "ALTER TABLE t ADD COLUMN a INT"), Vec::<String>::new());
    let error = stream.follow("s", "t", "TRUNCATE TABLE t").unwrap_err();
    assert!(error.contains("truncate_table"), "{error}");
    let error = stream.follow("s", "", "DROP DATABASE s").unwrap_err();
    assert!(error.contains("drop_database"), "{error}");
}

#[test]
fn views_sequences_and_tidb_specials_are_passed_over() {
    let mut stream = all();
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    for (table, text) in [
        ("v", "CREATE VIEW `v` AS SELECT 1"),
        ("sq", "CREATE SEQUENCE `sq` START WITH 10"),
        ("t", "ALTER TABLE `t` SET TIFLASH REPLICA 1"),
        ("t", "ALTER TABLE `t` /*T![ttl] REMOVE TTL */"),
        ("t", "ALTER TABLE `t` COMPACT"),
    ] {
        assert_eq!(stream.ok("s", table, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn renamed_schemas_and_tables_go_where_the_spec_says() {
    let mut stream = Follower::new(
        &["shop.*"],
        serde_json::json!({"objects": {"include": ["shop.*"], "schemas": {"shop": {"target": "dw"}},
            "tables": {"shop.orders": {"target": "dw.all_orders"}}}}),
    );
    assert!(stream.ok("shop", "", "CREATE DATABASE shop")[0].contains("`dw`"));
    assert!(
        stream
            .ok("shop", "orders", "CREATE TABLE orders (id INT PRIMARY KEY)")
            .last()
            .unwrap()
            .contains("`dw`.`all_orders`")
    );
    assert_eq!(stream.ok("shop", "orders", "TRUNCATE orders"), ["TRUNCATE TABLE `dw`.`all_orders`"]);
}

fn with_tidb(dialect: Dialect, include: &[&str], mut extra: serde_json::Value) -> Follower {
    extra["source"] = serde_json::json!({"tidb": "db", "kafka": "k", "topic": "x"});
    Follower::on(dialect, include, extra)
}

const TWO: [&str; 2] = ["CREATE TABLE sw1 (id INT PRIMARY KEY)", "CREATE TABLE sw2 (id INT PRIMARY KEY)"];

#[test]
fn swapped_tables_are_set_aside_until_the_source_tells_them_apart() {
    for include in [&["s.*"][..], &["s.sw1", "s.sw2"]] {
        let mut stream = with_tidb(Dialect::Mysql, include, serde_json::json!({}));
        stream.ok("s", "sw1", TWO[0]);
        stream.ok("s", "sw2", TWO[1]);
        let (statements, again, notes) =
            stream.steps("s", "sw2", "RENAME TABLE `sw1` TO `swt`, `sw2` TO `sw1`, `swt` TO `sw2`");
        assert_eq!(
            statements,
            [
                "RENAME TABLE `s`.`sw1` TO `s`.`swt`",
                "RENAME TABLE `s`.`sw2` TO `s`.`sw1`",
                "RENAME TABLE `s`.`swt` TO `s`.`sw2`"
            ]
        );
        assert!(again.is_empty() && notes.contains("ALTER TABLE"), "{again:?} {notes}");
        for table in ["sw1", "sw2"] {
            assert!(stream.rows_go_to("s", table).starts_with("Aside"));
        }
        // Drainer has learned the name of the one that it had wrong.
        let (_, again, _) = stream.steps("s", "sw1", "ALTER TABLE sw1 COMMENT 'told'");
        let mut again = again;
        again.sort();
        assert_eq!(again, ["s.sw1", "s.sw2"]);
        for table in ["sw1", "sw2"] {
            let entry = stream.catalog.table(&TableName::new("s", table)).unwrap();
            assert!(entry.standing.is_resync() && !stream.catalog.is_unclear(entry));
        }
        // Once more, before they are copied: what they wait for now is said.
        stream.steps("s", "sw2", "RENAME TABLE sw1 TO swt, sw2 TO sw1, swt TO sw2");
        for table in ["sw1", "sw2"] {
            let standing = &stream.catalog.table(&TableName::new("s", table)).unwrap().standing;
            assert!(format!("{standing:?}").contains("until an ALTER TABLE"), "{standing:?}");
        }
    }
    let mut alone = all();
    alone.ok("s", "sw1", TWO[0]);
    alone.ok("s", "sw2", TWO[1]);
    let text = alone.refused("s", "sw2", "RENAME TABLE sw1 TO swt, sw2 TO sw1, swt TO sw2");
    assert!(text.contains("s.sw1") && text.contains("source.tidb"), "{text}");
}

/// Drainer sends the rows of `b` as `a` until it has seen a DDL of `b` alone: a new `a` makes both unclear.
#[test]
fn a_new_table_under_a_stale_name_is_not_taken_for_the_old_one() {
    let mut stream =
        with_tidb(Dialect::Mysql, &["s.*", "r.*"], serde_json::json!({"ddl": {"drop_database": "apply"}}));
    for table in ["a", "c", "e"] {
        stream.ok("s", table, &format!("CREATE TABLE {table} (id INT PRIMARY KEY)"));
    }
    stream.ok("s", "d", "RENAME TABLE a TO b, c TO d");
    assert_eq!(stream.rows_go_to("s", "a"), "s.b");
    let (_, again, notes) = stream.steps("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    assert!(
        again.is_empty()
            && notes.contains("one name s.a")
            && notes.contains("ALTER TABLE (a comment will do) of s.b"),
        "{notes}"
    );
    assert!(stream.rows_go_to("s", "a").starts_with("Aside"));
    // source-drainer.md 10.5: its event bears the stale name.
    let (statements, again, _) = stream.steps("s", "a", "DROP TABLE b");
    assert_eq!((statements.len(), again), (1, vec!["s.a".to_owned()]));
    assert!(statements[0].contains("`s`.`b`"));
    // Across schemas an ALTER tells the name and not the schema.
    stream.ok("r", "x", "CREATE TABLE r.x (id INT PRIMARY KEY)");
    stream.ok("s", "y", "RENAME TABLE s.d TO s.dd, r.x TO s.y");
    assert_eq!(stream.rows_go_to("r", "y"), "s.y");
    let (_, _, notes) = stream.steps("r", "y", "CREATE TABLE r.y (id INT PRIMARY KEY)");
    assert!(notes.contains("RENAME TABLE of s.y by itself"), "{notes}");
    assert!(stream.steps("s", "y", "ALTER TABLE s.y COMMENT 'told'").1.is_empty());
    stream.steps("s", "z", "RENAME TABLE s.y TO s.z");
    let (_, again, _) = stream.steps("s", "y", "RENAME TABLE s.z TO s.y");
    assert!(again.is_empty());
    assert!(!stream.catalog.is_unclear(stream.catalog.table(&TableName::new("r", "y")).unwrap()));
}

#[test]
fn rows_that_the_target_would_turn_otherwise_are_copied_where_they_can_be() {
    let create = "CREATE TABLE t (id INT PRIMARY KEY, b BIT(9), v VARCHAR(9))";
    let mut stream = with_tidb(Dialect::Mysql, &["s.*"], serde_json::json!({}));
    stream.ok("s", "t", create);
    let (statements, again, _) =
        stream.steps("s", "t", "ALTER TABLE t ADD COLUMN n INT, MODIFY COLUMN v INT");
    assert_eq!((statements.len(), again), (1, vec!["s.t".to_owned()]));
    let mut alone = all();
    alone.ok("s", "t", create);
    let (statements, _, notes) = alone.steps("s", "t", "ALTER TABLE t MODIFY COLUMN v INT");
    assert!(statements.len() == 1 && notes.contains("tidb connection"), "{notes}");
    assert!(alone.refused("s", "t", "ALTER TABLE t MODIFY COLUMN b LONGTEXT").contains("source.tidb"));
}

#[test]
fn what_comes_into_the_selection_is_copied() {
    let mut stream = with_tidb(Dialect::Mysql, &["s.t"], serde_json::json!({}));
    stream.ok("s", "other", "CREATE TABLE other (id INT PRIMARY KEY)");
    assert_eq!(stream.steps("s", "t", "RENAME TABLE other TO t").1, ["s.t"]);
    assert_eq!(stream.rows_go_to("s", "t"), "s.t");
    // From a schema of which the task knows nothing.
    let mut stream = with_tidb(Dialect::Adb, &["s.t"], serde_json::json!({}));
    assert!(stream.follow("s", "t", "RENAME TABLE x.u TO s.t").unwrap_err().contains("asks"));
    stream.source_has("s", "t", "CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    assert_eq!(stream.steps("s", "t", "RENAME TABLE x.u TO s.t").1, ["s.t"]);
    assert_eq!(stream.rows_go_to("s", "t"), "s.t");
}

#[test]
fn adb_copies_what_it_cannot_move_between_databases() {
    let mut stream = with_tidb(Dialect::Adb, &["e1.*", "e2.*"], serde_json::json!({}));
    stream.ok("e1", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
    let (statements, again, _) = stream.steps("e2", "t", "RENAME TABLE e1.t TO e2.t");
    assert_eq!(
        (statements, again),
        (
            vec!["CREATE DATABASE IF NOT EXISTS `e2`".to_owned(), "DROP TABLE IF EXISTS `e1`.`t`".to_owned()],
            vec!["e2.t".to_owned()]
        )
    );
}

#[test]
fn a_table_alone_stops_at_a_name_that_adb_does_not_take() {
    let mut stream =
        with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({"errors": {"table": "stop_table"}}));
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    stream.ok("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    // By itself: the stream stops the table, which stays in its place.
    assert!(stream.refused("s", "0a", "RENAME TABLE s.a TO s.`0a`").contains("names of 1 to 127"));
    // Of several: the next one needs its place.
    let (statements, again, _) = stream.steps("s", "a", "RENAME TABLE s.a TO s.`0a`, s.b TO s.a");
    assert_eq!(statements, ["DROP TABLE IF EXISTS `s`.`a`", "ALTER TABLE `s`.`b` RENAME `s`.`a`"]);
    assert_eq!(again, ["s.0a"]);
    // Nobody needs its place.
    let mut stream =
        with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({"errors": {"table": "stop_table"}}));
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    stream.ok("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    let (statements, again, notes) = stream.steps("s", "c", "RENAME TABLE s.a TO s.`0a`, s.b TO s.c");
    assert_eq!(
        (statements.concat().as_str(), again.concat().as_str()),
        ("ALTER TABLE `s`.`b` RENAME `s`.`c`", "s.0a")
    );
    assert!(notes.contains("it stays s.a"), "{notes}");
    // On its way through such a name.
    let mut stream =
        with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({"errors": {"table": "stop_table"}}));
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    stream.ok("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    let swap = "RENAME TABLE s.a TO s.`0t`, s.b TO s.a, s.`0t` TO s.b";
    let (statements, again, _) = stream.steps("s", "b", swap);
    assert_eq!(statements, ["DROP TABLE IF EXISTS `s`.`a`", "ALTER TABLE `s`.`b` RENAME `s`.`a`"]);
    assert!(again.contains(&"s.b".to_owned()), "{again:?}");
    let mut whole = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
    whole.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    whole.ok("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)");
    let refused = whole.refused("s", "a", "RENAME TABLE s.a TO s.`0a`, s.b TO s.a");
    assert!(refused.contains("names of 1 to 127"), "{refused}");
}

#[test]
fn a_table_keeps_its_collation_in_another_schema() {
    let mut stream = all();
    stream.ok("a", "", "CREATE DATABASE a");
    stream.ok("b", "", "CREATE DATABASE b CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
    stream.ok("a", "t", "CREATE TABLE a.t (v VARCHAR(9) PRIMARY KEY)");
    let like = stream.ok("b", "u", "CREATE TABLE b.u LIKE a.t");
    let create = like.last().unwrap();
    assert!(create.contains("COLLATE utf8mb4_bin") && !create.contains("general_ci"), "{create}");
    stream.ok("b", "t", "RENAME TABLE a.t TO b.t");
    let added = stream.ok("b", "t", "ALTER TABLE b.t ADD COLUMN w VARCHAR(9)");
    assert!(added[0].contains("COLLATE utf8mb4_bin"), "{added:?}");
}

#[test]
fn rows_that_move_without_messages_are_copied_when_policy_applies() {
    let create =
        "CREATE TABLE p (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))";
    let exchange = "ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE u";
    let mut stream = with_tidb(Dialect::Mysql, &["s.*"], serde_json::json!({"ddl": {"other": "apply"}}));
    stream.ok("s", "p", create);
    stream.ok("s", "u", "CREATE TABLE u (id INT PRIMARY KEY)");
    assert_eq!(stream.steps("s", "p", exchange).1, ["s.p", "s.u"]);
    stream.ok("s", "u", "DROP TABLE u");
    stream.source_has("s", "u2", "CREATE TABLE u2 (id INT PRIMARY KEY)");
    assert_eq!(stream.steps("s", "u2", "FLASHBACK TABLE u TO u2").1, ["s.u2"]);
    stream.source_has("s", "u", "CREATE TABLE u (id INT PRIMARY KEY)");
    assert_eq!(stream.steps("s", "u", "RECOVER TABLE u").1, ["s.u"]);
    assert!(stream.refused("s", "", "FLASHBACK DATABASE s").contains("new task"));
    let cluster = "FLASHBACK CLUSTER TO TIMESTAMP '2026-01-01 00:00:00'";
    assert!(stream.refused("", "", cluster).contains("new task"));
    let mut stops = with_tidb(Dialect::Mysql, &["s.*"], serde_json::json!({}));
    stops.ok("s", "p", create);
    assert!(stops.refused("s", "p", exchange).contains("ddl.other"));
    assert!(stops.refused("s", "u", "RECOVER TABLE u").contains("ddl.other"));
}

#[test]
fn partitions_that_no_condition_tells_are_a_reason_to_copy() {
    let mut stream = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
    stream.ok("s", "k", "CREATE TABLE k (id INT PRIMARY KEY) PARTITION BY KEY (id) PARTITIONS 4");
    assert_eq!(stream.steps("s", "k", "ALTER TABLE k TRUNCATE PARTITION p1").1, ["s.k"]);
    let text = "CREATE TABLE c (v VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY) PARTITION BY LIST COLUMNS (v) (PARTITION p0 VALUES IN ('a'), PARTITION p1 VALUES IN ('b'))";
    stream.ok("s", "c", text);
    assert_eq!(stream.steps("s", "c", "ALTER TABLE c DROP PARTITION p1").1, ["s.c"]);
    // The source's binary collations pay no heed to spaces at the end.
    stream.ok("s", "b", &text.replace("general_ci", "bin").replace(" c ", " b "));
    assert_eq!(stream.steps("s", "b", "ALTER TABLE b DROP PARTITION p1").1, ["s.b"]);
    let hash = "CREATE TABLE h (u BIGINT UNSIGNED PRIMARY KEY) PARTITION BY HASH (u) PARTITIONS 4";
    stream.ok("s", "h", hash);
    assert_eq!(stream.steps("s", "h", "ALTER TABLE h TRUNCATE PARTITION p1").1, ["s.h"]);
    // AnalyticDB takes 2,000 values of a list.
    for (table, values, again) in [("l1", 2_000, false), ("l2", 2_001, true)] {
        let values: Vec<String> = (0..values).map(|n| n.to_string()).collect();
        let create = format!(
            "CREATE TABLE {table} (n INT PRIMARY KEY) PARTITION BY LIST (n) (PARTITION p0 VALUES IN ({}), PARTITION p1 VALUES IN (5000))",
            values.join(",")
        );
        stream.ok("s", table, &create);
        let (statements, copied, _) =
            stream.steps("s", table, &format!("ALTER TABLE {table} TRUNCATE PARTITION p0"));
        assert_eq!((copied.len(), statements.len()), (usize::from(again), usize::from(!again)), "{table}");
    }
}

#[test]
fn a_shorter_type_cuts_on_adb_what_the_source_has_cut() {
    let mut stream = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
    let create = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), a INT, s SMALLINT, b BIT(8), x VARBINARY(9), c TEXT, y TEXT, f FLOAT, d DECIMAL(9,2), g DOUBLE(9,2))";
    stream.ok("s", "t", create);
    for (text, expected) in [
        ("v VARCHAR(3)", &["UPDATE `s`.`t` SET `v` = LEFT(`v`, 3) WHERE CHAR_LENGTH(`v`) > 3"][..]),
        ("v VARCHAR(30)", &[]),
        ("c VARCHAR(9)", &["UPDATE `s`.`t` SET `c` = LEFT(`c`, 9) WHERE CHAR_LENGTH(`c`) > 9"]),
        (
            "a MEDIUMINT",
            &[
                "UPDATE `s`.`t` SET `a` = 8388607 WHERE `a` > 8388607",
                "UPDATE `s`.`t` SET `a` = -8388608 WHERE `a` < -8388608",
            ],
        ),
        ("a INT", &[]),
        ("y TEXT COLLATE utf8mb4_general_ci COMMENT 'x'", &[]),
        ("v VARCHAR(30) COLLATE utf8mb4_general_ci", &[]),
        ("s SMALLINT UNSIGNED", &["UPDATE `s`.`t` SET `s` = 0 WHERE `s` < 0"]),
    ] {
        let (statements, again, _) = stream.steps("s", "t", &format!("ALTER TABLE t MODIFY COLUMN {text}"));
        let cuts: Vec<&str> =
            statements.iter().map(String::as_str).filter(|sql| sql.starts_with("UPDATE")).collect();
        assert_eq!((cuts, again.len()), (expected.to_vec(), 0), "{text}: {statements:?}");
    }
    for text in [
        "b BIT(3)",
        "x VARBINARY(4)",
        "y TINYTEXT",
        "f FLOAT UNSIGNED",
        "d DECIMAL(9,2) UNSIGNED",
        "g DOUBLE(5,2)",
    ] {
        let told = stream.refused("s", "t", &format!("ALTER TABLE t MODIFY COLUMN {text}"));
        assert!(told.contains("set ddl.modify_column to rebuild"), "{text}: {told}");
    }
}

#[test]
fn existing_rows_of_a_new_column_follow_the_lossy_policies() {
    let created = |policy: &str| {
        let spec = serde_json::json!({"lossy": {"zero_date": policy, "time": policy, "fraction": policy}});
        let mut stream = Follower::on(Dialect::Adb, &["s.*"], spec);
        stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
        let there = Existing::Value(b"0000-00-00".to_vec());
        stream.facts.existing.insert((TableName::new("s", "t"), "d".to_owned()), there);
        stream
    };
    let mut refuses = created("refuse");
    for column in ["d DATE NOT NULL", "m DATETIME DEFAULT '2020-02-30 00:00:00'", "c TIME DEFAULT '25:00:00'"]
    {
        let told = refuses.refused("s", "t", &format!("ALTER TABLE t ADD COLUMN {column}"));
        assert!(told.contains("existing rows"), "{column}: {told}");
    }
    let mut clamps = created("clamp");
    for (column, expected) in [
        ("d DATE NOT NULL", "0001-01-01"),
        ("c TIME DEFAULT '25:00:00'", "23:59:59"),
        ("f DATETIME(6) DEFAULT '2020-01-01 00:00:00.123456'", "00.123'"),
    ] {
        let (statements, _, notes) = clamps.steps("s", "t", &format!("ALTER TABLE t ADD COLUMN {column}"));
        assert!(statements[0].contains(expected), "{column}: {statements:?}");
        assert!(notes.contains("the lossy policies"), "{column}: {notes}");
    }
}

#[test]
fn what_adb_cannot_alter_stops_with_the_way_or_is_rebuilt() {
    let cases = [
        ("ALTER TABLE t MODIFY COLUMN v VARCHAR(20)", "modify_column"),
        ("ALTER TABLE t MODIFY COLUMN id BIGINT", "modify_column"),
        ("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (n)", "modify_column"),
        ("ALTER TABLE t RENAME COLUMN id TO id2", "rename_column"),
    ];
    for (text, kind) in cases {
        let create = "CREATE TABLE t (id INT, v INT, n INT, u INT NOT NULL, PRIMARY KEY (id) NONCLUSTERED)";
        let mut stream = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
        stream.ok("s", "t", create);
        let told = stream.refused("s", "t", text);
        assert!(told.contains(&format!("set ddl.{kind} to rebuild")), "{text}: {told}");
        if kind == "modify_column" {
            assert!(
                told.contains("INSERT INTO `s`.`t_new`")
                    && told.contains("ALTER TABLE `s`.`t_new` RENAME `s`.`t`"),
                "{told}"
            );
        }
        let mut stream = with_tidb(
            Dialect::Adb,
            &["s.*"],
            serde_json::json!({"ddl": {"modify_column": "rebuild", "rename_column": "rebuild"}}),
        );
        stream.ok("s", "t", create);
        assert_eq!(stream.steps("s", "t", text).1, ["s.t"], "{text}");
    }
}

#[test]
fn adb_gets_one_statement_per_column_and_a_note_for_what_is_dropped() {
    let mut stream = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    let (statements, again, notes) = stream.steps(
        "s",
        "t",
        "ALTER TABLE t ADD COLUMN a INT FIRST, ADD UNIQUE KEY uk (a), ADD COLUMN b INT AFTER a, DROP COLUMN v, \
         ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id), DEFAULT CHARACTER SET utf8mb4",
    );
    assert_eq!(
        statements,
        [
            "ALTER TABLE `s`.`t` ADD COLUMN `a` int NULL",
            "ALTER TABLE `s`.`t` ADD COLUMN `b` int NULL",
            "ALTER TABLE `s`.`t` DROP COLUMN `v`"
        ]
    );
    assert!(again.is_empty());
    for what in ["index uk", "place", "foreign key", "character set"] {
        assert!(notes.contains(what), "{what}: {notes}");
    }
}

#[test]
fn the_shadow_tables_of_an_online_ddl_go_by_policy() {
    let gh_ost = [
        ("_t_gho", "create /* gh-ost */ table `s`.`_t_gho` like `s`.`t`"),
        ("_t_gho", "alter /* gh-ost */ table `s`.`_t_gho` add column c int"),
        ("_t_ghc", "create /* gh-ost */ table `s`.`_t_ghc` (id bigint auto_increment, primary key(id))"),
        ("t", "rename /* gh-ost */ table `s`.`t` to `s`.`_t_del`, `s`.`_t_gho` to `s`.`t`"),
    ];
    for dialect in [Dialect::Mysql, Dialect::Adb] {
        let follower = |mode: &str| {
            let mut stream = with_tidb(dialect, &["s.*"], serde_json::json!({"online_ddl": {"mode": mode}}));
            stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
            stream
        };
        let mut follow = follower("follow");
        for (table, text) in gh_ost {
            assert!(follow.steps("s", table, text).1.is_empty());
        }
        assert_eq!(follow.rows_go_to("s", "t"), "s.t");
        // source-drainer.md 10.5: the event names the table that has the name now.
        assert_eq!(follow.ok("s", "t", "drop table `s`.`_t_del`"), ["DROP TABLE IF EXISTS `s`.`_t_del`"]);
        assert_eq!(follow.rows_go_to("s", "t"), "s.t");

        let mut ignore = follower("ignore");
        for (at, (table, text)) in gh_ost.into_iter().enumerate() {
            let (statements, again, _) = ignore.steps("s", table, text);
            assert!(statements.is_empty(), "{statements:?}");
            assert_eq!(again, if at == 3 { vec!["s.t".to_owned()] } else { Vec::new() });
        }
        assert_eq!(ignore.rows_go_to("s", "t"), "s.t");
        assert_eq!(ignore.rows_go_to("s", "_t_del"), "Unselected");
        assert!(ignore.ok("s", "t", "drop table `s`.`_t_del`").is_empty());
        assert_eq!(ignore.rows_go_to("s", "t"), "s.t");

        let mut stop = follower("stop");
        let told = stop.refused("s", "_t_new", "CREATE TABLE `s`.`_t_new` LIKE `s`.`t`");
        assert!(told.contains("s.t") && told.contains("online_ddl.mode"), "{told}");
    }
}

#[test]
fn a_like_of_an_unqualified_table_asks_the_source() {
    let mut stream = with_tidb(Dialect::Mysql, &["s.*"], serde_json::json!({}));
    stream.ok("s", "u", "CREATE TABLE u (id INT PRIMARY KEY)");
    assert!(stream.follow("s", "t", "CREATE TABLE s.t LIKE u").unwrap_err().contains("asks"));
    stream.source_has("s", "t", "CREATE TABLE t (id BIGINT PRIMARY KEY)");
    assert!(stream.ok("s", "t", "CREATE TABLE s.t LIKE u")[0].contains("bigint"));
}

#[test]
fn a_column_that_may_no_longer_be_null_stays_as_it_is_on_adb() {
    let mut stream = with_tidb(Dialect::Adb, &["s.*"], serde_json::json!({}));
    stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY, n INT)");
    let (statements, again, notes) = stream.steps("s", "t", "ALTER TABLE t MODIFY COLUMN n INT NOT NULL");
    assert!(statements.is_empty() && again.is_empty(), "{statements:?}");
    assert!(notes.contains("definition of n"), "{notes}");
}
fn ruled(tables: serde_json::Value, extra: serde_json::Value) -> Follower {
    let mut more = extra;
    more["objects"] = serde_json::json!({"include": ["s.*", "r.*"], "tables": tables});
    Follower::new(&["s.*", "r.*"], more)
}

#[test]
fn ddl_of_columns_goes_by_their_rules() {
    let rules = serde_json::json!({"s.t": {"columns": {"exclude": ["note"], "rename": {"uid": "user_id"}}}});
    let mut stream = ruled(rules, serde_json::json!({}));
    let create = stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY, uid INT, note TEXT, KEY (uid))");
    let create = create.last().unwrap();
    assert!(create.contains("`user_id` int") && create.contains("KEY `uid` (`user_id`)"), "{create}");
    assert!(!create.contains("note"), "{create}");
    let one = |stream: &mut Follower, text: &str| stream.ok("s", "t", text).join("; ");
    assert_eq!(one(&mut stream, "ALTER TABLE t DROP COLUMN note"), "");
    assert_eq!(one(&mut stream, "ALTER TABLE t ADD COLUMN note INT FIRST"), "");
    assert!(one(&mut stream, "ALTER TABLE t MODIFY COLUMN uid BIGINT").contains("`user_id` bigint"));
    assert!(one(&mut stream, "ALTER TABLE t ADD INDEX two (uid, id)").contains("(`user_id`, `id`)"));
    assert!(one(&mut stream, "ALTER TABLE t ADD COLUMN b INT AFTER uid").ends_with("AFTER `user_id`"));
    assert!(
        one(&mut stream, "ALTER TABLE t RENAME COLUMN uid TO account")
            .contains("RENAME COLUMN `user_id` TO `account`")
    );
    assert!(
        one(&mut stream, "ALTER TABLE t CHANGE COLUMN account uid INT")
            .contains("CHANGE COLUMN `account` `user_id`")
    );
    for (text, word) in [
        ("ALTER TABLE t RENAME COLUMN note TO remark", "none of its values"),
        ("ALTER TABLE t DROP COLUMN note, RENAME COLUMN b TO note", "has its values"),
        ("ALTER TABLE t ADD COLUMN user_id INT", "two columns"),
    ] {
        let error = stream.follow("s", "t", text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
    assert!(one(&mut stream, "ALTER TABLE t DROP COLUMN uid").contains("DROP COLUMN `user_id`"));
}

#[test]
fn two_tables_never_go_into_one_without_a_merge() {
    let rules = serde_json::json!({"s.a": {"target": "s.b"}});
    let mut stream = ruled(rules, serde_json::json!({}));
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    let error = stream.follow("s", "b", "CREATE TABLE b (id INT PRIMARY KEY)").unwrap_err();
    assert!(error.contains("s.b") && error.contains("s.a"), "{error}");
    stream.ok("s", "c", "CREATE TABLE c LIKE a");
    let error = stream.follow("s", "B", "RENAME TABLE c TO B").unwrap_err();
    assert!(error.contains("s.a"), "{error}");
    let mut lower = Follower::new(&["*.*"], serde_json::json!({"names": "lower"}));
    lower.ok("S", "T", "CREATE TABLE S.T (id INT PRIMARY KEY)");
    assert_eq!(lower.ok("S", "t", "RENAME TABLE S.T TO S.t"), Vec::<String>::new());
    assert!(lower.ok("S", "U", "CREATE TABLE S.U LIKE S.t").join("").contains("`s`.`u`"));
    assert_eq!(lower.ok("S", "V", "RENAME TABLE S.U TO S.V"), ["RENAME TABLE `s`.`u` TO `s`.`v`"]);
}

#[test]
fn a_renamed_table_keeps_the_rules_by_which_its_rows_were_written() {
    let rules = serde_json::json!({"s.a": {"filter": "id > 5"}, "s.b": {"filter": "id > 5"}});
    let mut stream = ruled(rules, serde_json::json!({}));
    stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY)");
    assert_eq!(stream.ok("s", "b", "RENAME TABLE a TO b"), ["RENAME TABLE `s`.`a` TO `s`.`b`"]);
    let error = stream.follow("s", "c", "RENAME TABLE b TO c").unwrap_err();
    assert!(error.contains("filter"), "{error}");
    let error = stream.follow("s", "b", "ALTER TABLE b CHANGE COLUMN id number INT").unwrap_err();
    assert!(error.contains("filter"), "{error}");
}

/// Tables that are not the task's, after a RENAME of several: rows of theirs come under a name that its globs take.
#[test]
fn rows_of_strangers_under_stale_names_are_passed_over() {
    let spec = serde_json::json!({
        "objects": {"include": ["*.*"], "exclude": ["a.t", "b.u", "b.tmp"]},
        "source": {"tidb": "d", "kafka": "k", "topic": "x"},
        "phases": {"schema": true, "full": true, "incremental": true},
    });
    let mut stream = Follower::new(&["*.*"], spec);
    stream.ok("a", "t", "RENAME TABLE b.u TO b.tmp, t TO b.u, b.tmp TO t");
    // The last one's new name in its old schema; the other is sent under its old name.
    assert_eq!(stream.rows_go_to("b", "t"), "Unselected");
    assert_eq!(stream.rows_go_to("b", "other"), "Unknown");
    stream.ok("b", "u", "ALTER TABLE b.u COMMENT 'told'");
    stream.ok("a", "t", "ALTER TABLE a.t ADD COLUMN n INT");
    assert_eq!(stream.rows_go_to("b", "t"), "Unselected", "an ALTER does not tell the schema");
    // As the source of another it is unknown, as it was.
    assert_eq!(stream.follow("s", "l", "CREATE TABLE s.l LIKE a.t"), Err("asks the source".to_owned()));
    // One that is let in.
    stream.source_has("a", "mine", "CREATE TABLE mine (id INT PRIMARY KEY)");
    let (_, again, _) = stream.steps("a", "mine", "RENAME TABLE a.t TO a.mine");
    assert_eq!(again, ["a.mine"]);
    stream.ok("b", "u", "DROP TABLE b.u");
    assert_eq!(stream.ok("b", "t", "CREATE TABLE b.t (id INT PRIMARY KEY)").len(), 2);
    assert_eq!(stream.rows_go_to("b", "t"), "b.t");
}

#[test]
fn a_table_has_ddl_policies_of_its_own() {
    let rules = serde_json::json!({"s.a": {"ddl": {"truncate_table": "ignore", "drop_table": "stop"}}});
    let mut stream = ruled(rules, serde_json::json!({}));
    for table in ["a", "b"] {
        stream.ok("s", table, &format!("CREATE TABLE {table} (id INT PRIMARY KEY)"));
    }
    assert!(stream.ok("s", "a", "TRUNCATE TABLE a").is_empty());
    assert_eq!(stream.ok("s", "b", "TRUNCATE TABLE b"), ["TRUNCATE TABLE `s`.`b`"]);
    assert!(stream.follow("s", "a", "DROP TABLE a").is_err());
}

#[test]
fn ddl_is_off_for_merged_tables_but_others_may_join() {
    let rules =
        serde_json::json!({"s.a": {"target": "m.t"}, "r.a": {"target": "m.t"}, "r.b": {"target": "m.t"}});
    let merge = serde_json::json!({"merge": {"column": "src", "value": "{schema}.{table}"}, "tables_without_key": "refuse"});
    let mut stream = ruled(rules, merge);
    let made = stream.ok("s", "a", "CREATE TABLE a (id INT PRIMARY KEY, v INT)");
    assert!(made.last().unwrap().contains("PRIMARY KEY (`id`, `src`)"), "{made:?}");
    assert!(stream.ok("r", "a", "CREATE TABLE a (id INT PRIMARY KEY, v INT)").is_empty());
    for text in
        ["TRUNCATE TABLE a", "ALTER TABLE a ADD COLUMN w INT", "ALTER TABLE a ADD INDEX (v)", "DROP TABLE a"]
    {
        assert!(stream.ok("r", "a", text).is_empty(), "{text}");
    }
    let error = stream.follow("r", "b", "CREATE TABLE b (id INT PRIMARY KEY, v BIGINT)").unwrap_err();
    assert!(error.contains("r.b") && error.contains("`v`"), "{error}");
    for text in [
        "ALTER TABLE a DROP PRIMARY KEY, ADD PRIMARY KEY (v)",
        "ALTER TABLE a RENAME COLUMN v TO w",
        "RENAME TABLE a TO c",
    ] {
        assert!(stream.follow("s", "a", text).is_err(), "{text}");
    }
}

/// Rows of a table may come under every name that leads to it: a resync must know when another table takes one.
#[test]
fn the_names_of_a_table_are_those_that_lead_to_it() {
    let mut it = Follower::new(&["a.*"], serde_json::json!({}));
    it.follow("a", "log", "CREATE TABLE log (id INT PRIMARY KEY)").unwrap();
    it.follow("a", "log_1", "RENAME TABLE log TO log_1").unwrap();
    let of = TableName::new("a", "log_1");
    assert!(it.catalog.names_of(&of).contains(&TableName::new("a", "log")));
    it.follow("a", "log", "CREATE TABLE log (id INT PRIMARY KEY)").unwrap();
    assert!(!it.catalog.names_of(&of).contains(&TableName::new("a", "log")));
}

#[test]
fn names_between_of_a_rename_in_a_schema_that_is_not_ours_concern_nobody() {
    let mut it =
        Follower::new(&["a.*"], serde_json::json!({"source": {"tidb": "s", "kafka": "k", "topic": "x"}}));
    it.follow("a", "t", "CREATE TABLE t (id INT PRIMARY KEY)").unwrap();
    it.follow("b", "t", "CREATE TABLE b.t (id INT PRIMARY KEY)").unwrap();
    it.follow("b", "u", "CREATE TABLE b.u (id INT PRIMARY KEY)").unwrap();
    let (statements, again, _) = it.steps("b", "u", "RENAME TABLE b.t TO b.w, b.u TO b.t, b.w TO b.u");
    assert!(statements.is_empty() && again.is_empty(), "{statements:?} {again:?}");
}

/// A merged table that is to be copied again is renamed at the source: the table of the others stays on the target.
#[test]
fn a_shared_table_is_not_dropped_when_one_that_is_copied_again_is_renamed() {
    use tidegate::task::standing::Standing;
    let mut it = Follower::new(
        &["a.*", "b.*"],
        serde_json::json!({"objects": {"include": ["a.*", "b.*"], "schemas": {"a": {"target": "m"}, "b": {"target": "m"}}},
            "merge": {"column": "__source", "value": "{schema}.{table}"}}),
    );
    it.follow("a", "t", "CREATE TABLE a.t (id INT PRIMARY KEY)").unwrap();
    it.follow("b", "t", "CREATE TABLE b.t (id INT PRIMARY KEY)").unwrap();
    let change = it.catalog.stand(&TableName::new("a", "t"), Standing::resync("asked")).unwrap();
    it.catalog.apply(&change);
    let (statements, _, _) = it.steps("a", "t2", "RENAME TABLE a.t TO a.t2");
    assert!(!statements.iter().any(|statement| statement.contains("DROP")), "{statements:?}");
}

/// A task that has read the stream from its first message has seen every table made: the only one of the name is meant.
#[test]
fn a_stream_read_from_its_first_message_knows_every_table() {
    let mut it = Follower::new(&["a*.*"], serde_json::json!({"start_at": "earliest"}));
    it.follow("a_ren", "r1c", "CREATE TABLE r1c (id INT PRIMARY KEY)").unwrap();
    let statements = it.follow("a_ren2", "r1d", "ALTER TABLE `r1c` RENAME AS `a_ren2`.`r1d`").unwrap();
    assert_eq!(statements.last().unwrap(), "RENAME TABLE `a_ren`.`r1c` TO `a_ren2`.`r1d`");
    it.follow("a_other", "r1d", "CREATE TABLE r1d (id INT PRIMARY KEY)").unwrap();
    assert!(it.follow("a_x", "r", "ALTER TABLE r1d RENAME a_x.r").is_err());
}

/// A table of the task that a person has paused.
fn paused(stream: &mut Follower, name: &TableName) {
    let change = stream.catalog.stand(name, Standing::Paused).unwrap();
    stream.catalog.apply(&change);
}

#[test]
fn a_table_that_is_not_followed_moves_with_its_source() {
    for (dialect, moved) in [
        (Dialect::Mysql, "RENAME TABLE `s`.`t` TO `s`.`u`"),
        (Dialect::Adb, "ALTER TABLE `s`.`t` RENAME `s`.`u`"),
    ] {
        let mut stream = with_tidb(dialect, &["s.*", "far.*"], serde_json::json!({}));
        stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)");
        paused(&mut stream, &TableName::new("s", "t"));
        assert_eq!(stream.ok("s", "u", "RENAME TABLE t TO u"), [moved]);
        assert_eq!(stream.rows_go_to("s", "u"), "Aside(TableName { schema: \"s\", table: \"u\" })");
        // The name is free.
        assert!(
            stream.ok("s", "t", "CREATE TABLE t (id INT PRIMARY KEY)")[0].starts_with("CREATE TABLE `s`.`t`")
        );
        let (statements, _, notes) = stream.steps("far", "u", "RENAME TABLE s.u TO far.u");
        match dialect {
            Dialect::Mysql => assert_eq!(statements.last().unwrap(), "RENAME TABLE `s`.`u` TO `far`.`u`"),
            Dialect::Adb => assert!(statements.is_empty() && notes.contains("it stays s.u"), "{notes}"),
        }
    }
}

/// Under `stop_table` a stream without a TiDB is followed through everything: what nobody can follow is left to a resync that never comes.
#[test]
fn without_a_source_single_tables_are_given_up_instead_of_the_task() {
    let mut stream = Follower::new(
        &["s.*"],
        serde_json::json!({"errors": {"table": "stop_table"}, "ddl": {"other": "apply"}}),
    );
    for name in ["t", "u"] {
        stream.ok("s", name, &format!("CREATE TABLE {name} (id INT PRIMARY KEY)"));
    }
    let (_, mut again, _) = stream.steps("s", "u", "RENAME TABLE t TO w, u TO t, w TO u");
    again.sort();
    assert_eq!(again, ["s.t", "s.u"]);
    stream.ok("s", "t", "DROP TABLE t");
    let (_, again, _) = stream.steps("s", "t", "RECOVER TABLE t");
    assert_eq!(again, ["s.t"]);
    let (_, again, _) = stream.steps("s", "guest", "RENAME TABLE far.guest TO s.guest");
    assert_eq!(again, ["s.guest"]);
}

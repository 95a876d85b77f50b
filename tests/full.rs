//! Full sync from a real TiDB into a real MariaDB (TIDEGATE_TEST_TIDB and TIDEGATE_TEST_MARIADB, host:port).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "full/support.rs"]
mod support;

use std::time::Duration;

use mysql_async::prelude::Queryable;
use support::{Bench, connect};
use tidegate::adb::dialect::{Constant, Mapping, TableOptions, TargetTable};
use tidegate::error::ErrorKind;
use tidegate::model::{Dialect, Offset, Table, TableName, Tso};
use tidegate::task::spec::ExistingTables;
use tidegate::tidb::{Source, drainers, hand_over};

const TABLES: &str = include_str!("full/tables.sql");

#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_key_arrives_as_of_the_snapshot() {
    let Some(mut bench) = Bench::new("types").await else { return };
    bench.on_source(TABLES).await;
    bench.spec.tuning.chunk_rows = 2;
    bench.spec.tuning.batch_rows = 3;
    let snapshot = bench.now().await;
    // none of this may be seen
    bench
        .on_source(
            "DELETE FROM num WHERE id = 1;\nUPDATE tm SET d = '2000-01-01';\nINSERT INTO p_hash VALUES (100, 1);\n\
             ALTER TABLE h_ci ADD COLUMN later int DEFAULT 5;\nDROP TABLE pk_bin;\nTRUNCATE TABLE h_unsigned;\n",
        )
        .await;
    let tables = bench.tables(snapshot).await;
    assert!(tables.len() > 25, "{}", tables.len());
    let names: Vec<&str> = tables.iter().map(|(table, _)| table.name.table.as_str()).collect();
    assert!(!names.iter().any(|name| ["v1", "sq1", "tmp1"].contains(name)), "{names:?}");
    assert!(names.contains(&"pk_bin"), "the catalog is that of the snapshot");
    bench.create(&tables).await;
    let summary = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap();
    bench.assert_equal(&tables, snapshot).await;
    assert_eq!(summary.tables, tables.len());
    for (table, chunks) in [("h_ci", 7), ("h_time", 3), ("h_unsigned", 3), ("pk_cl", 2), ("empty_int", 1)] {
        assert_eq!(bench.chunks(table).await, (chunks, chunks), "{table}");
    }
    let shown: u64 = bench.progress.tables().values().map(|counters| counters.rows_copied).sum();
    assert_eq!(shown, summary.rows);
    // a run after the last has nothing to do
    let again = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap();
    assert_eq!(again.rows, summary.rows);
    assert_eq!(
        bench.progress.tables().values().map(|counters| counters.rows_copied).sum::<u64>(),
        summary.rows
    );
}

/// A table of 200,000 rows in no dense order, whose chunks have to be walked.
const LARGE: &str = "CREATE TABLE big (id bigint PRIMARY KEY, a int, b varchar(20), c decimal(10,2));\n\
    CREATE TABLE keys2 (a varchar(20) COLLATE utf8mb4_general_ci, b int, v int, PRIMARY KEY (a, b) CLUSTERED);\n";

async fn fill(bench: &Bench, rows: i64) {
    bench.on_source(LARGE).await;
    let mut connection = connect(&bench.source).await;
    connection.query_drop(format!("USE `{}`", bench.database)).await.unwrap();
    for start in (0..rows).step_by(5000) {
        let ids = start..(start + 5000).min(rows);
        let values: Vec<String> =
            ids.clone().map(|n| format!("({},{n},'row {n}',{n}.25)", n * 1_000_003)).collect();
        connection.query_drop(format!("INSERT INTO big VALUES {}", values.join(","))).await.unwrap();
        if start < 20_000 {
            let values: Vec<String> =
                ids.map(|n| format!("('{}{}',{n},{n})", ["a", "A", "b"][(n % 3) as usize], n % 7)).collect();
            connection.query_drop(format!("INSERT INTO keys2 VALUES {}", values.join(","))).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_copy_goes_on_without_reading_finished_chunks_again() {
    let Some(mut bench) = Bench::new("resume").await else { return };
    fill(&bench, 200_000).await;
    bench.spec.tuning.chunk_rows = 2000;
    bench.spec.throttle.full_rows_per_second = Some(60_000);
    let snapshot = bench.now().await;
    let tables = bench.tables(snapshot).await;
    bench.create(&tables).await;

    let job = bench.job(tables.clone(), snapshot);
    let cancel = job.cancel.clone();
    let running = tokio::spawn({
        let job = job.clone();
        async move { tidegate::full::run(job).await }
    });
    while bench.chunks("big").await.0 < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cancel.cancel();
    let cancelled = tokio::time::Instant::now();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled, "{error}");
    assert!(cancelled.elapsed() < Duration::from_secs(15), "{:?}", cancelled.elapsed());
    let (done, _) = bench.chunks("big").await;
    assert!(done < 100);

    // rows of finished chunks are taken away, and rows that the source gets now are not of the snapshot
    let first = bench.store.copy_chunks(&bench.task, &bench.name("big")).await.unwrap();
    let finished: u64 = first.iter().filter(|chunk| chunk.done).map(|chunk| chunk.rows).sum();
    assert!(finished >= 10 * 2000);
    let first_done = first.iter().find(|chunk| chunk.done).unwrap().n;
    assert_eq!(first_done, 0, "chunks are taken in order");
    bench.on_target("DELETE FROM big WHERE id < 1000003000").await;
    bench
        .on_source("UPDATE big SET a = -1 WHERE id > 100000000000;\nDELETE FROM keys2 WHERE b > 10000;\n")
        .await;

    bench.spec.throttle.full_rows_per_second = None;
    let summary = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap();
    assert_eq!(summary.rows, 220_000);
    assert_eq!(
        bench.scalar(&bench.target, "SELECT COUNT(*) FROM big").await,
        199_000,
        "finished chunks were not read"
    );
    let (done, all) = bench.chunks("big").await;
    assert_eq!((done, all), (100, 100));
    // put them back, and all is as it was at the snapshot
    let values: Vec<String> =
        (0..1000).map(|n: i64| format!("({},{n},'row {n}',{n}.25)", n * 1_000_003)).collect();
    bench.on_target(&format!("INSERT INTO big VALUES {}", values.join(","))).await;
    bench.assert_equal(&tables, snapshot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_on_both_sides_do_not_change_the_outcome() {
    lost_connections(Dialect::Mysql, "lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_do_not_change_the_outcome_on_analyticdb_either() {
    lost_connections(Dialect::Adb, "adb_gone").await;
}

async fn lost_connections(dialect: Dialect, test: &str) {
    let Some(mut bench) = Bench::on(dialect, test).await else { return };
    fill(&bench, 60_000).await;
    bench.spec.tuning.chunk_rows = 1000;
    bench.spec.tuning.batch_rows = 100;
    bench.spec.throttle.full_rows_per_second = Some(30_000);
    let snapshot = bench.now().await;
    let tables = bench.tables(snapshot).await;
    bench.create(&tables).await;
    let running = tokio::spawn(tidegate::full::run(bench.job(tables.clone(), snapshot)));
    let (mut source, mut target) = (connect(&bench.source).await, connect(&bench.target).await);
    let reading = format!(
        "SELECT ID, IFNULL(INFO,'') FROM information_schema.processlist WHERE INFO LIKE 'SELECT `id`%{}%'",
        bench.database
    );
    let mut killed = 0;
    while !running.is_finished() {
        for id in bench.store.sessions(&bench.task, None).await.unwrap() {
            killed += usize::from(target.query_drop(format!("KILL {id}")).await.is_ok());
        }
        let readers: Vec<(u64, String)> = source.query(&reading).await.unwrap();
        for (id, _) in readers {
            let _ = source.query_drop(format!("KILL TIDB {id}")).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let summary = running.await.unwrap().unwrap();
    assert!(killed > 4, "{killed}");
    assert_eq!(summary.rows, 80_000);
    bench.assert_equal(&tables, snapshot).await;
    assert!(
        bench.store.sessions(&bench.task, None).await.unwrap().is_empty(),
        "no session of the run is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_snapshot_leaves_no_ghosts() {
    let Some(bench) = Bench::new("ghosts").await else { return };
    bench
        .on_source("CREATE TABLE k (id int PRIMARY KEY);\nCREATE TABLE n (a int);\nINSERT INTO k VALUES (1),(2);\nINSERT INTO n VALUES (1),(1);\n")
        .await;
    let first = bench.now().await;
    let tables = bench.tables(first).await;
    bench.create(&tables).await;
    bench.run(bench.job(tables.clone(), first)).await.unwrap();
    bench.on_source("DELETE FROM k WHERE id = 1;\nDELETE FROM n LIMIT 1;\nINSERT INTO k VALUES (3);\n").await;
    let second = bench.now().await;
    let summary = bench.run(bench.job(tables.clone(), second)).await.unwrap();
    assert_eq!(summary.rows, 3);
    bench.assert_equal(&tables, second).await;
    assert_eq!(bench.progress.rows_copied.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_copy_that_begins_again_removes_the_rows_of_its_own_source_alone() {
    let Some(bench) = Bench::new("merged").await else { return };
    let fill = |table: &str| {
        format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v int);\nINSERT INTO {table} VALUES (0,0),(1,1),(2,2);\n"
        )
    };
    bench.on_source(&[fill("a"), fill("b")].concat()).await;
    let merged = |tables: Vec<(Table, TargetTable)>| -> Vec<(Table, TargetTable)> {
        let merge = |(table, _): (Table, TargetTable)| {
            let constant = Constant { column: "src".to_owned(), value: table.name.table.clone() };
            let options = TableOptions {
                mapping: Mapping::new(None, Some(constant)),
                filter: Some("id > 0".to_owned()),
                ..TableOptions::default()
            };
            let place = TableName::new(bench.database.clone(), "all_of_them");
            let target = TargetTable::new(Dialect::Mysql, &table, place, &options).unwrap();
            (table, target)
        };
        tables.into_iter().map(merge).collect()
    };
    let first = bench.now().await;
    let tables = merged(bench.tables(first).await);
    bench.create(&tables[..1]).await;
    assert_eq!(bench.run(bench.job(tables, first)).await.unwrap().rows, 4);
    bench.on_target("INSERT INTO all_of_them VALUES (1, 9, 'of another task')").await;
    bench.on_source("DELETE FROM a WHERE id = 1;\n").await;
    let second = bench.now().await;
    let tables = merged(bench.tables(second).await);
    assert_eq!(bench.run(bench.job(tables, second)).await.unwrap().rows, 3);
    let mut target = connect(&bench.target).await;
    let rows: Vec<(String, i32)> = target
        .query(format!("SELECT src, id FROM `{}`.all_of_them ORDER BY src, id", bench.database))
        .await
        .unwrap();
    let row = |source: &str, id| (source.to_owned(), id);
    assert_eq!(rows, [row("a", 2), row("b", 1), row("b", 2), row("of another task", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_there_win_and_are_never_removed() {
    let Some(mut bench) = Bench::new("keep").await else { return };
    bench.on_source("CREATE TABLE k (id int PRIMARY KEY, v int);\nINSERT INTO k VALUES (1,1),(2,2);\n").await;
    bench.spec.existing_tables = ExistingTables::Keep;
    let first = bench.now().await;
    let tables = bench.tables(first).await;
    bench.create(&tables).await;
    bench.on_target("INSERT INTO k VALUES (2,20),(9,90)").await;
    bench.run(bench.job(tables.clone(), first)).await.unwrap();
    assert_eq!(bench.scalar(&bench.target, "SELECT SUM(v) FROM k").await, 1 + 20 + 90);
    // a new snapshot would need an empty table, which is not ours to make
    let error = bench.run(bench.job(tables.clone(), bench.now().await)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("full_keep.k"), "{error}");
    assert_eq!(bench.scalar(&bench.target, "SELECT COUNT(*) FROM k").await, 3);

    bench.on_source("DROP TABLE k;\nCREATE TABLE n (a int);\nINSERT INTO n VALUES (1);\n").await;
    let later = bench.now().await;
    let tables = bench.tables(later).await;
    bench.create(&tables).await;
    bench.on_target("INSERT INTO n VALUES (7)").await;
    let error = bench.run(bench.job(tables, later)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert_eq!(bench.scalar(&bench.target, "SELECT SUM(a) FROM n").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_equal_on_the_target_alone_stop_the_copy() {
    let Some(bench) = Bench::new("collide").await else { return };
    bench.on_source("CREATE TABLE k (a varchar(10) PRIMARY KEY);\nINSERT INTO k VALUES ('a'),('A');\n").await;
    let snapshot = bench.now().await;
    let tables = bench.tables(snapshot).await;
    bench.create(&tables).await;
    bench.on_target("ALTER TABLE k MODIFY a varchar(10) COLLATE utf8mb4_general_ci NOT NULL").await;
    let error = bench.run(bench.job(tables, snapshot)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SchemaMismatch, "{error}");
    assert!(error.to_string().contains("full_collide.k chunk 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_value_names_table_and_chunk_but_not_the_value() {
    let Some(mut bench) = Bench::new("refused").await else { return };
    bench
        .on_source("CREATE TABLE k (a int PRIMARY KEY, b varchar(30));\nINSERT INTO k VALUES (1,'secret value');\nCREATE TABLE ok (a int PRIMARY KEY);\nINSERT INTO ok VALUES (1);\n")
        .await;
    let snapshot = bench.now().await;
    let tables = bench.tables(snapshot).await;
    bench.create(&tables).await;
    bench.on_target("ALTER TABLE k MODIFY b int").await;
    let error = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ValueRefused, "{error}");
    assert!(error.to_string().starts_with("full_refused.k chunk 0: "), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");

    // with stop_table the others go on
    bench.spec.errors.table = tidegate::task::spec::TableErrorPolicy::StopTable;
    let summary = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap();
    assert_eq!((summary.tables, summary.stopped.len()), (1, 1));
    // and a later run takes the table up again
    bench.on_target("ALTER TABLE k MODIFY b varchar(30)").await;
    let summary = bench.run(bench.job(tables.clone(), snapshot)).await.unwrap();
    assert_eq!((summary.tables, summary.stopped.len()), (2, 0));
    bench.assert_equal(&tables, snapshot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hand_over_reads_the_end_first_and_guards_the_snapshot() {
    let Some(bench) = Bench::new("handover").await else { return };
    let source = Source::new(bench.source.clone());
    let before = source.current_tso().await.unwrap();
    let taken = hand_over(&source, async || Ok(Offset(7))).await.unwrap();
    assert!(before < taken.snapshot);
    assert_eq!((taken.start_offset, taken.guards.alive()), (Offset(7), 2));
    let mut guards = taken.guards;
    assert!(guards.ping().await.is_empty());
    let mut connection = connect(&bench.source).await;
    connection.query_drop(format!("KILL TIDB {}", guards.connection_ids()[0])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(guards.ping().await.len(), 1);
    assert_eq!(guards.alive(), 1);
    guards.release().await;

    let drainers = drainers(&bench.source, &mut None).await.unwrap();
    assert_eq!(drainers.len(), 1, "{drainers:?}");
    assert!(drainers[0].max_commit_ts > Tso(0));
    assert!(source.gc_safe_point().await.unwrap().unwrap() < taken.snapshot);
    let lost = source.tables_at(Tso(1000), |_| true).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::SnapshotLost, "{lost}");
}

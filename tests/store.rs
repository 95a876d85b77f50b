//! What a worker keeps in the store survives it, and nobody else's hand moves it.

#![allow(clippy::unwrap_used)]

use sqlx::Connection;
use tidegate::error::{Error, ErrorKind};
use tidegate::housekeeping::{Retention, sweep};
use tidegate::model::{Epoch, Offset, Position, TableName, TaskId, Tso};
use tidegate::store::{CatalogVersion, Checkpoint, DdlRecord, DdlState, Store, Use};
use tidegate::task::standing::{Standing, TableCommand};

const EPOCH: Epoch = Epoch(3);

struct Kept {
    store: Store,
    task: TaskId,
    folder: tempfile::TempDir,
}

async fn kept() -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.db");
    let store = Store::open(&path).await.unwrap();
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("insert into tasks (id, name, spec, epoch, created_at, updated_at) values ('t_1', 't', '{}', 3, 0, 0)")
        .execute(&mut raw)
        .await
        .unwrap();
    let task = TaskId("t_1".to_owned());
    store.begin(&task, EPOCH, &checkpoint()).await.unwrap();
    Kept { store, task, folder }
}

fn at(offset: i64, commit_ts: u64) -> Position {
    Position { next_offset: Offset(offset), commit_ts: Tso(commit_ts) }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        snapshot: Tso(100),
        start_offset: Offset(5),
        position: at(5, 0),
        cluster_id: "c".to_owned(),
        topic: "x".to_owned(),
        watermark: Tso(0),
        schema_done: false,
        full_done: false,
        bytewise: true,
        mark: 0,
        anchor: Some("00ff".to_owned()),
        updated_at_ms: 0,
    }
}

fn record(statements: &[&str], state: DdlState) -> DdlRecord {
    DdlRecord {
        n: 0,
        commit_ts: Tso(150),
        offset: Offset(7),
        schema_name: "s".to_owned(),
        table_name: "t".to_owned(),
        source_text: "ALTER".to_owned(),
        notes: Vec::new(),
        statements: statements.iter().map(|text| (*text).to_owned()).collect(),
        steps_done: 0,
        state,
        decision: None,
        error: None,
        created_at_ms: 0,
        finished_at_ms: None,
    }
}

fn version(commit_ts: u64, definition: &str) -> CatalogVersion {
    CatalogVersion {
        key: TableName::new("s", "t"),
        commit_ts: Tso(commit_ts),
        definition: serde_json::json!(definition).to_string(),
    }
}

#[tokio::test]
async fn the_checkpoint_moves_only_from_where_it_is_and_only_by_the_run_that_owns_it() {
    let Kept { store, task, folder: _folder } = kept().await;
    store.advance(&task, EPOCH, at(5, 0), at(9, 120), Tso(119)).await.unwrap();
    for (epoch, from) in [(EPOCH, at(5, 0)), (Epoch(2), at(9, 120)), (Epoch(4), at(9, 120))] {
        let error = store.advance(&task, epoch, from, at(20, 200), Tso(0)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    }
    let now = store.checkpoint(&task).await.unwrap().unwrap();
    assert_eq!((now.position, now.watermark, now.start_offset), (at(9, 120), Tso(119), Offset(5)));
    // A watermark never goes back.
    store.advance(&task, EPOCH, at(9, 120), at(10, 121), Tso(50)).await.unwrap();
    assert_eq!(store.checkpoint(&task).await.unwrap().unwrap().watermark, Tso(119));
}

#[tokio::test]
async fn a_ddl_cut_off_after_a_step_goes_on_at_the_next() {
    let Kept { store, task, folder: _folder } = kept().await;
    let pending = record(&["A", "B", "C"], DdlState::Pending);
    let (n, done) = store.ddl_begin(&task, EPOCH, &pending).await.unwrap();
    assert_eq!(done, 0);
    store.ddl_step(&task, EPOCH, n, 2).await.unwrap();
    assert_eq!(store.ddl_begin(&task, EPOCH, &pending).await.unwrap(), (n, 2));
    // Its last step is taken out by a policy: what is done stays done.
    assert_eq!(store.ddl_begin(&task, EPOCH, &record(&["A", "B"], DdlState::Pending)).await.unwrap(), (n, 2));
    assert_eq!(store.ddl_begin(&task, EPOCH, &record(&["A", "X"], DdlState::Pending)).await.unwrap(), (n, 1));
    let through = record(&["A", "X"], DdlState::Done);
    let moved = Some((at(5, 0), at(8, 150), Tso(0)));
    store.ddl_finish(&task, EPOCH, &through, &[], &[version(150, "1")], moved).await.unwrap();
    let known = store.ddl_by_commit_ts(&task, Tso(150)).await.unwrap().unwrap();
    assert_eq!((known.state, known.steps_done, known.n), (DdlState::Done, 2, n));
    assert_eq!(store.checkpoint(&task).await.unwrap().unwrap().position, at(8, 150));
}

#[tokio::test]
async fn a_failed_ddl_that_its_policy_now_ignores_is_passed_over() {
    let Kept { store, task, folder: _folder } = kept().await;
    let failed = record(&[], DdlState::Pending);
    let error = Error::new(ErrorKind::StatementRefused, "the task stops at drop_database by policy");
    store.ddl_failed(&task, EPOCH, &failed, &error).await.unwrap();
    assert_eq!(store.ddl_by_commit_ts(&task, Tso(150)).await.unwrap().unwrap().state, DdlState::Failed);
    let passed = record(&[], DdlState::Ignored);
    let moved = Some((at(5, 0), at(8, 150), Tso(0)));
    store.ddl_finish(&task, EPOCH, &passed, &[], &[], moved).await.unwrap();
    let list = store.ddl_list(&task, 0, 10).await.unwrap();
    assert_eq!(list.len(), 1);
    assert!(list[0].state == DdlState::Ignored && list[0].error.is_none());
}

#[tokio::test]
async fn the_newest_layout_is_the_one_applied_last_also_after_a_ddl_ahead_of_its_place() {
    let Kept { store, task, folder: _folder } = kept().await;
    store.schema_done(&task, EPOCH, &[], &[version(100, "at the snapshot")]).await.unwrap();
    let mut ahead = record(&[], DdlState::Done);
    ahead.commit_ts = Tso(170);
    store.ddl_finish(&task, EPOCH, &ahead, &[], &[version(170, "renamed ahead")], None).await.unwrap();
    store
        .ddl_finish(
            &task,
            EPOCH,
            &record(&[], DdlState::Done),
            &[],
            &[version(150, "altered in its place")],
            None,
        )
        .await
        .unwrap();
    let (_, tables) = store.catalog(&task).await.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].definition, "\"altered in its place\"");
}

#[tokio::test]
async fn sessions_are_remembered_until_they_are_known_to_be_gone() {
    let Kept { store, task, folder: _folder } = kept().await;
    // TiDB's ids have 64 bits.
    let wide = (1 << 63) + 5;
    for id in [7, wide] {
        store.session_opened(&task, EPOCH, id, Use::Task).await.unwrap();
    }
    let mut ids = store.sessions(&task, None).await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [7, wide]);
    store.sessions_gone(&task, EPOCH, &[7]).await.unwrap();
    assert_eq!(store.sessions(&task, None).await.unwrap(), [wide]);
}

fn entry(name: &TableName, standing: serde_json::Value) -> CatalogVersion {
    CatalogVersion {
        key: name.key(),
        commit_ts: Tso(100),
        definition: serde_json::json!({"table": {"table": {"name": name}, "standing": standing}}).to_string(),
    }
}

#[tokio::test]
async fn states_of_tables_follow_the_catalog_and_the_newest_command_counts() {
    let Kept { store, task, folder: _folder } = kept().await;
    let (old, new) = (TableName::new("S", "Old"), TableName::new("S", "New"));
    let paused = serde_json::json!({"state": "paused"});
    store.change_tables(&task, EPOCH, &[entry(&old, paused.clone())], &[], None).await.unwrap();
    let states = store.table_states(&[&task]).await.unwrap().remove(&task).unwrap();
    assert!(
        states.len() == 1 && states[0].name == old && states[0].standing == Standing::Paused,
        "{states:?}"
    );
    // Renamed: the old name is an alias, the state goes with the table.
    let alias = CatalogVersion {
        key: old.key(),
        commit_ts: Tso(110),
        definition: serde_json::json!({"alias": {"of": new}}).to_string(),
    };
    store.change_tables(&task, EPOCH, &[alias, entry(&new, paused)], &[], None).await.unwrap();
    let states = store.table_states(&[&task]).await.unwrap().remove(&task).unwrap();
    assert!(states.len() == 1 && states[0].name == new, "{states:?}");

    store.ask_of_tables(&task, TableCommand::Pause, std::slice::from_ref(&new)).await.unwrap();
    store.ask_of_tables(&task, TableCommand::Resync, std::slice::from_ref(&new)).await.unwrap();
    assert_eq!(store.table_commands(&task).await.unwrap(), [(new.key(), TableCommand::Resync)]);
    // A worker that took the older word leaves the newer one there, and one of an older run changes nothing.
    let following = [entry(&new, serde_json::json!(null))];
    store.change_tables(&task, EPOCH, &[], &[(new.key(), TableCommand::Pause)], None).await.unwrap();
    assert_eq!(store.table_commands(&task).await.unwrap().len(), 1);
    let taken = [(new.key(), TableCommand::Resync)];
    assert!(store.change_tables(&task, Epoch(EPOCH.0 - 1), &following, &taken, None).await.is_err());
    store.change_tables(&task, EPOCH, &following, &taken, None).await.unwrap();
    assert!(store.table_commands(&task).await.unwrap().is_empty());
    assert!(store.table_states(&[&task]).await.unwrap().is_empty());
}

/// A snapshot that is lost begins anew, and what a person said of a table still counts; what an error said does not.
#[tokio::test]
async fn words_about_tables_outlive_a_lost_snapshot() {
    let Kept { store, task, folder: _folder } = kept().await;
    let names = ["paused", "skipped", "stopped", "asked"].map(|name| TableName::new("S", name));
    let standings = [
        serde_json::json!({"state": "paused"}),
        serde_json::json!({"state": "skipped"}),
        serde_json::to_value(Standing::Stopped { error: Error::internal("x") }).unwrap(),
        serde_json::json!({"state": "paused"}),
    ];
    let versions: Vec<_> =
        names.iter().zip(standings).map(|(name, standing)| entry(name, standing)).collect();
    store.change_tables(&task, EPOCH, &versions, &[], None).await.unwrap();
    store.ask_of_tables(&task, TableCommand::Resync, &names[3..]).await.unwrap();
    for _ in 0..2 {
        store.begin(&task, EPOCH, &checkpoint()).await.unwrap();
        assert!(store.table_states(&[&task]).await.unwrap().is_empty());
        let mut asked = store.table_commands(&task).await.unwrap();
        asked.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            (names[3].key(), TableCommand::Resync),
            (names[0].key(), TableCommand::Pause),
            (names[1].key(), TableCommand::Skip),
        ];
        assert_eq!(asked, expected);
    }
}

#[tokio::test]
async fn copies_in_the_making_are_known_until_they_are_gone() {
    let Kept { store, task, folder: _folder } = kept().await;
    let (one, other) = (TableName::new("S", "One"), TableName::new("s", "other"));
    for shadow in [&one, &other, &one] {
        store.shadow_made(&task, EPOCH, shadow).await.unwrap();
    }
    assert!(store.shadow_gone(&task, Epoch(EPOCH.0 - 1), &one).await.is_err());
    store.shadow_gone(&task, EPOCH, &other).await.unwrap();
    assert_eq!(store.shadows(&task).await.unwrap(), [one]);
}

#[test]
fn a_slow_disk_is_waited_for() {
    let slow = tidegate::error::Error::from(sqlx::Error::PoolTimedOut);
    assert!(matches!(slow.policy(), tidegate::error::Policy::Retry(_)), "{slow}");
}

const DAY_MS: i64 = 86_400_000;

/// Everything that grows with time has an end. How long it is kept stands in docs/operations.md.
#[tokio::test]
async fn history_is_swept_and_what_still_counts_stays() {
    let Kept { store, task, folder } = kept().await;
    let path = folder.path().join("tidegate.db");
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let now = tidegate::store::now_ms();
    let (young, old) = (now - 14 * DAY_MS, now - 16 * DAY_MS);
    let series = |rows: i64| {
        format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {rows})")
    };
    for sql in [
        // DDL of four weeks and of today: the newest 10,000 stay, how old they may be.
        format!(
            "{} insert into ddl (task_id, n, commit_ts, offset, schema_name, table_name, source_text, statements, state, created_at)
             select 't_1', n, 1000 + n, n, 's', 't', 'ALTER', '[]', 'done', {old} from s",
            series(10_003)
        ),
        // The newest letter stays, so that its number is not given again; an open one stays however old.
        format!(
            "insert into dead_letters (task_id, n, schema_name, table_name, schema_key, table_key, phase, operation, key_columns, key_bytes,
                 columns, offset, nth, commit_ts, error, state, created_at, updated_at)
             select 't_1', column1, 's', 't', 's', 't', 'incremental', 'insert', '[]', x'00', '[]', column1, 0, 1, '{{}}', column2, {old}, column3
             from (values (1, 'discarded', {old}), (2, 'open', {old}), (3, 'retried', {young}), (4, 'superseded', {old}))"
        ),
        // An alert that goes on and on tells of itself again and again.
        format!(
            "insert into alerts (id, rule, kind, task_id, task_name, state, since, resolved_at, detail, told_at)
             select column1, 'r', 'lag', 't_1', 't', column2, {old}, column3, '', {old}
             from (values (1, 'firing', null), (2, 'resolved', {old}), (3, 'resolved', {young}))"
        ),
        format!(
            "insert into alert_deliveries (id, rule, alert_id, event, body, state, next_at, created_at)
             select column1, 'r', column2, 'repeated', '', column3, 0, column4 from (values
             (1, 1, 'delivered', {old}), (2, 1, 'pending', {old}), (3, 1, 'delivered', {young}), (4, 2, 'delivered', {young}),
             (5, null, 'failed', {old}))"
        ),
        format!(
            "insert into task_logs (task_id, at, level, target, message, fields)
             select 't_1', iif(n <= 4500, {old}, {young}), 3, '', '', '{{}}' from (select n from ({} select n from s) order by n)",
            series(4510)
        ),
        format!(
            "insert into events (at, kind, message) select column1, 'x', '' from (values ({old}), ({young}))"
        ),
        format!(
            "insert into idempotency (caller, key, request, answer, created_at) values ('', 'a', x'00', x'00', {young}), ('', 'b', x'00', x'00', {now})"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut raw).await.unwrap();
    }
    sweep(&store, Retention { event_days: 15, event_rows: 1000 }).await;
    for (what, sql, left) in [
        ("DDL", "select n from ddl where n < 7", vec![4, 5, 6]),
        ("letters", "select n from dead_letters", vec![2, 3, 4]),
        ("alerts", "select id from alerts", vec![1, 3]),
        ("messages", "select id from alert_deliveries", vec![2, 3]),
        ("log lines", "select min(id) from task_logs", vec![4501]),
        ("events", "select count(*) from events", vec![1]),
        ("answers", "select count(*) from idempotency", vec![1]),
    ] {
        let found: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&mut raw).await.unwrap();
        assert_eq!(found, left, "{what}");
    }
    let catalog = "select count(*) from catalog";
    for commit_ts in [100, 150, 120] {
        store.schema_done(&task, EPOCH, &[], &[version(commit_ts, "a layout")]).await.unwrap();
        let versions: i64 = sqlx::query_scalar(catalog).fetch_one(&mut raw).await.unwrap();
        assert_eq!(versions, 1, "of a name the newest version alone is kept");
    }
}

//! A source and a target with tables for one test, and a comparison that shares no code with the product.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use tidegate::adb::dialect::{TableOptions, TargetTable, create_database, create_table};
use tidegate::adb::throttle::Gate;
use tidegate::adb::writer::end_sessions;
use tidegate::engine::progress::Progress;
use tidegate::error::Result;
use tidegate::full::{self, FullSync, Summary};
use tidegate::model::{Dialect, Epoch, MysqlEndpoint, Table, TableName, TaskId, Tls, Tso};
use tidegate::store::{Store, Use};
use tidegate::task::spec::Spec;
use tidegate::tidb::Source;
use tokio_util::sync::CancellationToken;

/// host:port of both servers, or None with a loud note.
pub fn servers(test: &str, target: &str) -> Option<(MysqlEndpoint, MysqlEndpoint)> {
    let endpoint = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        let (host, port) = text.rsplit_once(':')?;
        Some(MysqlEndpoint {
            host: host.to_owned(),
            port: port.parse().ok()?,
            user: "root".to_owned(),
            password: Default::default(),
            tls: Tls::default(),
        })
    };
    let both = endpoint("TIDEGATE_TEST_TIDB").zip(endpoint(target));
    if both.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: TIDEGATE_TEST_TIDB and {target} are not set");
    }
    both
}

pub async fn connect(to: &MysqlEndpoint) -> Conn {
    let options =
        OptsBuilder::default().ip_or_hostname(to.host.clone()).tcp_port(to.port).user(Some(to.user.clone()));
    let mut connection = Conn::new(options.prefer_socket(false)).await.unwrap();
    connection.query_drop("SET NAMES utf8mb4").await.unwrap();
    connection.query_drop("SET time_zone = '+00:00'").await.unwrap();
    connection
}

/// One test's database on both sides, and its store.
pub struct Bench {
    pub source: MysqlEndpoint,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    pub database: String,
    pub store: Store,
    pub task: TaskId,
    pub progress: Arc<Progress>,
    pub spec: Spec,
    folder: tempfile::TempDir,
}

impl Bench {
    /// None when the servers are not given.
    pub async fn new(test: &str) -> Option<Self> {
        Self::on(Dialect::Mysql, test).await
    }

    /// With MariaDB or the stand-in for AnalyticDB as the target.
    pub async fn on(dialect: Dialect, test: &str) -> Option<Self> {
        let (variable, cascade) = match dialect {
            Dialect::Mysql => ("TIDEGATE_TEST_MARIADB", ""),
            Dialect::Adb => ("TIDEGATE_TEST_ADB", " CASCADE"),
        };
        let (source, target) = servers(test, variable)?;
        let database = format!("full_{test}");
        let mut on_source = connect(&source).await;
        let mut on_target = connect(&target).await;
        for (connection, how) in [(&mut on_source, ""), (&mut on_target, cascade)] {
            connection.query_drop(format!("DROP DATABASE IF EXISTS `{database}`{how}")).await.unwrap();
        }
        on_source.query_drop(format!("CREATE DATABASE `{database}`")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tidegate.db")).await.unwrap();
        let spec = serde_json::from_value(serde_json::json!({
            "name": test, "source": {"tidb": "a"}, "target": "b", "objects": {"include": [format!("{database}.*")]},
        }))
        .unwrap();
        let bench = Self {
            source,
            target,
            dialect,
            database,
            store,
            task: TaskId(format!("t_{test}")),
            progress: Arc::default(),
            spec,
            folder,
        };
        bench.task_row().await;
        Some(bench)
    }

    async fn task_row(&self) {
        use sqlx::Connection;
        let path: PathBuf = self.folder.path().join("tidegate.db");
        let mut file =
            sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        sqlx::query(
            "insert into tasks (id, name, spec, epoch, created_at, updated_at) values (?, ?, '{}', 1, 0, 0)",
        )
        .bind(&self.task.0)
        .bind(&self.task.0)
        .execute(&mut file)
        .await
        .unwrap();
    }

    /// Runs statements that end in `;` at the end of a line.
    pub async fn on_source(&self, sql: &str) {
        let mut connection = connect(&self.source).await;
        connection.query_drop(format!("USE `{}`", self.database)).await.unwrap();
        for statement in sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            connection
                .query_drop(statement)
                .await
                .unwrap_or_else(|error| panic!("{error}: {statement:.200}"));
        }
    }

    pub async fn on_target(&self, sql: &str) {
        let mut connection = connect(&self.target).await;
        connection.query_drop(format!("USE `{}`", self.database)).await.unwrap();
        connection.query_drop(sql).await.unwrap();
    }

    pub async fn tables(&self, at: Tso) -> Vec<(Table, TargetTable)> {
        let source = Source::new(self.source.clone());
        let tables = source.tables_at(at, |name| name.schema == self.database).await.unwrap();
        tables
            .into_iter()
            .map(|table| {
                let options = TableOptions::default();
                let target = TargetTable::new(self.dialect, &table, table.name.clone(), &options)
                    .unwrap_or_else(|problems| panic!("{}: {problems:?}", table.name));
                (table, target)
            })
            .collect()
    }

    pub async fn create(&self, tables: &[(Table, TargetTable)]) {
        let mut connection = connect(&self.target).await;
        connection.query_drop(create_database(self.dialect, &self.database, None, None)).await.unwrap();
        connection.query_drop(format!("USE `{}`", self.database)).await.unwrap();
        for (_, target) in tables {
            let sql = create_table(target);
            connection.query_drop(&sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
        }
    }

    pub fn job(&self, tables: Vec<(Table, TargetTable)>, snapshot: Tso) -> FullSync {
        FullSync {
            store: self.store.clone(),
            task: self.task.clone(),
            epoch: Epoch(1),
            source: self.source.clone(),
            target: self.target.clone(),
            dialect: self.dialect,
            tables,
            snapshot,
            spec: Arc::new(self.spec.clone()),
            progress: Arc::clone(&self.progress),
            sessions: Use::Task,
            gate: Gate::of_task(self.spec.throttle),
            cancel: CancellationToken::new(),
            drain: CancellationToken::new(),
        }
    }

    /// As the worker does it.
    pub async fn run(&self, job: FullSync) -> Result<Summary> {
        end_sessions(&job.target, job.dialect, &job.store, &job.task, job.epoch, None).await?;
        full::run(job).await
    }

    pub async fn now(&self) -> Tso {
        Source::new(self.source.clone()).current_tso().await.unwrap()
    }

    /// Chunks that are in the target, and all that are planned.
    pub async fn chunks(&self, table: &str) -> (usize, usize) {
        let chunks = self.store.copy_chunks(&self.task, &self.name(table)).await.unwrap();
        (chunks.iter().filter(|chunk| chunk.done).count(), chunks.len())
    }

    pub fn name(&self, table: &str) -> TableName {
        TableName::new(&self.database, table)
    }

    pub async fn scalar(&self, at: &MysqlEndpoint, sql: &str) -> i64 {
        let mut connection = connect(at).await;
        connection.query_drop(format!("USE `{}`", self.database)).await.unwrap();
        connection.query_first(sql).await.unwrap().unwrap()
    }

    /// Fails unless every table has the same rows on the target as on the source at the snapshot.
    pub async fn assert_equal(&self, tables: &[(Table, TargetTable)], at: Tso) {
        let mut source = connect(&self.source).await;
        source.query_drop(format!("SET tidb_snapshot = '{at}'")).await.unwrap();
        let mut target = connect(&self.target).await;
        for (table, _) in tables {
            let expected = rows(&mut source, table).await;
            let found = rows(&mut target, table).await;
            for (row, count) in &expected {
                assert_eq!(found.get(row), Some(count), "{}: missing on the target: {row:.2000}", table.name);
            }
            for (row, count) in &found {
                assert_eq!(expected.get(row), Some(count), "{}: only on the target: {row:.2000}", table.name);
            }
        }
    }
}

/// Rows as text with their number of occurrences.
async fn rows(connection: &mut Conn, table: &Table) -> BTreeMap<String, usize> {
    let quote = |name: &str| format!("`{}`", name.replace('`', "``"));
    let columns: Vec<_> = table.columns.iter().filter(|column| column.generated.is_none()).collect();
    let select: Vec<String> = columns
        .iter()
        .map(|column| match format!("{:?}", column.ty.name).as_str() {
            "Enum" | "Set" | "Bit" => format!("{} | 0", quote(&column.name)),
            _ => quote(&column.name),
        })
        .collect();
    let name = format!("{}.{}", quote(&table.name.schema), quote(&table.name.table));
    let found: Vec<Row> =
        connection.exec(format!("SELECT {} FROM {name}", select.join(", ")), ()).await.unwrap();
    let mut counts = BTreeMap::new();
    for row in found {
        let cells: Vec<String> = row
            .unwrap()
            .into_iter()
            .zip(&columns)
            .map(|(cell, column)| {
                normal(cell, &format!("{:?}", column.ty.name), column.ty.charset.as_deref())
            })
            .collect();
        *counts.entry(cells.join(" | ")).or_insert(0) += 1;
    }
    counts
}

/// Two servers' ways of sending one value.
fn normal(cell: Value, ty: &str, charset: Option<&str>) -> String {
    match cell {
        Value::Bytes(bytes) if ty == "Json" => {
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap().to_string()
        }
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => format!("{text:?}"),
            Err(error) if charset == Some("latin1") => {
                format!("{:?}", error.into_bytes().into_iter().map(char::from).collect::<String>())
            }
            Err(error) => format!("{:02x?}", error.into_bytes()),
        },
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => format!("{:?}", number + 0.0),
        Value::Double(number) => format!("{:?}", number + 0.0),
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            format!("{negative} {}:{minutes}:{seconds}.{micros}", days * 24 + u32::from(hours))
        }
        other => format!("{other:?}"),
    }
}

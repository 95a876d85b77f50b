//! Plain sessions to the stack's TiDB, MariaDB and stand-in for AnalyticDB, apart from the product's own code.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use super::stack::{Dialect, Stack};

async fn log_in(port: u16, user: &str, password: Option<&str>) -> mysql_async::Result<Conn> {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(user))
        .pass(password)
        .prefer_socket(false)
        .tcp_nodelay(true)
        .setup(vec!["SET time_zone = '+00:00'", "SET NAMES utf8mb4"]);
    Conn::new(options).await
}

async fn connect(port: u16) -> Conn {
    log_in(port, "root", None).await.unwrap_or_else(|error| panic!("log in at port {port}: {error}"))
}

pub async fn tidb(stack: &Stack) -> Conn {
    connect(stack.tidb_port).await
}

pub async fn mariadb(stack: &Stack) -> Conn {
    connect(stack.mariadb_port).await
}

pub async fn adb(stack: &Stack) -> Conn {
    connect(stack.adb_port).await
}

/// The target of the tests on this stack.
pub async fn target(stack: &Stack) -> Conn {
    connect(stack.target().1).await
}

pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Runs statements one by one.
pub async fn run(connection: &mut Conn, statements: &[&str]) {
    for statement in statements {
        connection
            .query_drop(*statement)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", statement.chars().take(200).collect::<String>()));
    }
}

/// Statements about users and privileges, those of one test at a time: in TiDB each reloads what all of them have done, and a slow
/// reload writes an older picture over a newer one.
pub async fn users(connection: &mut Conn, statements: &[&str]) {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    run(connection, statements).await;
}

/// Changes the password of a user of the server at this port, and waits until the server lets it in.
pub async fn set_password(port: u16, user: &str, password: &str) {
    let alter = format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'");
    let mut root = connect(port).await;
    users(&mut root, &[&alter]).await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = log_in(port, user, Some(password)).await {
        assert!(std::time::Instant::now() < end, "{user} with a new password: {error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        users(&mut root, &["FLUSH PRIVILEGES"]).await;
    }
}

/// The timestamp that TiDB has reached.
pub async fn current_tso(tidb: &mut Conn) -> u64 {
    let row: mysql_async::Row = tidb.query_first("SHOW MASTER STATUS").await.unwrap().unwrap();
    row.get::<u64, _>(1).expect("a position")
}

/// Drops the schemas on both sides, so that a test starts from nothing.
pub async fn drop_schemas(stack: &Stack, schemas: &[&str]) {
    let cascade = if stack.dialect == Dialect::Adb { " CASCADE" } else { "" };
    for (mut connection, how) in [(tidb(stack).await, ""), (target(stack).await, cascade)] {
        for schema in schemas {
            run(&mut connection, &[&format!("DROP DATABASE IF EXISTS {}{how}", quote(schema))]).await;
        }
    }
}

/// Names of the base tables of a schema, in order; none when there is no such schema.
pub async fn tables(connection: &mut Conn, schema: &str) -> Vec<String> {
    // Not from information_schema: there TiDB fails on a view whose table is gone, and shows some tables twice.
    let show = format!("SHOW FULL TABLES FROM {} WHERE Table_type = 'BASE TABLE'", quote(schema));
    let rows: Result<Vec<(String, String)>, _> = connection.query(show).await;
    let mut names: Vec<_> = match rows {
        Ok(rows) => rows.into_iter().map(|(name, _)| name).collect(),
        // Unknown database
        Err(mysql_async::Error::Server(error)) if error.code == 1049 => Vec::new(),
        Err(error) => panic!("tables of {schema}: {error}"),
    };
    names.sort_unstable();
    names.dedup();
    names
}

pub async fn count(connection: &mut Conn, table: &str) -> u64 {
    connection.query_first(format!("SELECT COUNT(*) FROM {table}")).await.unwrap().unwrap()
}

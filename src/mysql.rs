//! A cancel-safe session over mysql_async, for TiDB and for targets.
//!
//! A bare mysql_async connection whose statement was cancelled hands that statement's rows to the next one. Here the
//! connection is taken out while a statement runs and put back only after it completed: a session whose call was cancelled or
//! failed below the protocol is broken for good, and says so.
//!
//! A network that swallows packets tells nobody. So the server is asked, on another connection, after a statement that is silent
//! for long: one that is at work may take all the time it needs, one that has let go of us, or a server that cannot be reached,
//! is an outage.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Row, SslOpts};
use secrecy::ExposeSecret;

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::{MysqlEndpoint, TlsMode};

/// Time to reach the server and log in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the few questions after a login, and for a goodbye.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A statement that is silent for so long is asked after, and again as often.
const QUIET: Duration = Duration::from_secs(15);

/// A server that says it is through with our statement gets this long to let us know.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

/// How long the server may be silent between two rows, whatever it says it is doing: it may wait for us to take rows that a
/// network swallows.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);

/// What the protocol's servers take at most.
const LARGEST_PACKET: usize = 1 << 30;

/// Statements that [`Session::execute_rows`] keeps prepared; every one of them is on the server too, which has some thousand for all.
const PREPARED: usize = 8;

const NOT_SUPPORTED: u16 = 1295;

/// Answers to rows of parameters from a server that takes them as text: wrong arguments, an unknown statement (a proxy has moved us to another
/// server), not supported, and not with a binary log of statements.
const NO_ROWS: [u16; 4] = [1210, 1243, NOT_SUPPORTED, 4033];

/// The table was changed again and again while it was prepared.
const CHANGED: u16 = 1615;

/// What mysql_async 0.37 looks for in the text of a refused certificate to know that the name alone was wrong. rustls no longer says it by itself
/// (blackbeam/mysql_async#404), but it quotes the name that was expected. A name is looked at last, behind signatures and dates; this one
/// is on no certificate.
const NO_NAME: &str = "NotValidForName";

/// Maps a server's error number and text to what it means for us; each edge (tidb, adb) has its own.
pub type Classify = fn(u16, &str) -> ErrorKind;

/// Takes the rows of [`Session::stream`], one by one.
pub trait RowSink: Send {
    fn take(&mut self, row: Row) -> impl Future<Output = Result<()>> + Send;
}

/// What a statement without rows reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub affected_rows: u64,
    pub warnings: u16,
}

/// One logged-in connection.
pub struct Session {
    /// None while a statement runs, and for ever after one that did not complete.
    connection: Option<Conn>,
    options: Opts,
    place: String,
    side: Endpoint,
    classify: Classify,
    id: u64,
    version: String,
    /// Bytes of a statement that the server takes.
    largest: usize,
    /// Whether the server takes many rows of parameters at once; None: it was not asked yet.
    takes_rows: Option<bool>,
    round_trip: Duration,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold the password.
        f.debug_struct("Session").field("place", &self.place).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, logs in and runs the `setup` statements.
    ///
    /// # Errors
    /// `Unreachable` for time-outs and network failures, `AccessDenied` for refused logins, else what `classify` says.
    pub async fn connect(
        to: &MysqlEndpoint,
        side: Endpoint,
        classify: Classify,
        setup: &[&str],
    ) -> Result<Self> {
        let mut options = OptsBuilder::default()
            .ip_or_hostname(to.host.clone())
            .tcp_port(to.port)
            .user(Some(to.user.clone()))
            .pass(to.password.get().map(|password| password.expose_secret().to_owned()))
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .tcp_nodelay(true)
            // The driver would cut a larger statement into packets that the server takes for several: `execute` looks first.
            .max_allowed_packet(Some(LARGEST_PACKET))
            .stmt_cache_size(if side == Endpoint::Target { PREPARED } else { 0 });
        if to.tls.mode != TlsMode::Disabled {
            let mut tls = SslOpts::default();
            if let Some(pem) = &to.tls.ca {
                tls = tls.with_root_certs(vec![pem.clone().into_bytes().into()]);
            }
            tls = match to.tls.mode {
                TlsMode::VerifyFull | TlsMode::Disabled => tls,
                TlsMode::VerifyCa => tls
                    .with_danger_skip_domain_validation(true)
                    .with_danger_tls_hostname_override(Some(NO_NAME)),
                TlsMode::Required => {
                    tls.with_danger_skip_domain_validation(true).with_danger_accept_invalid_certs(true)
                }
            };
            options = options.ssl_opts(tls);
        }
        let place = format!("{}:{}", to.host, to.port);
        let options = Opts::from(options);
        let silent = |what: &str, limit: Duration| {
            Error::new(ErrorKind::Unreachable, format!("no answer to {what} within {} s", limit.as_secs()))
                .endpoint(side)
                .hint("check host, port and firewall")
                .object(&place)
        };
        let failed = |error: mysql_async::Error| map_error(&error, side, classify).object(&place);
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options.clone()))
            .await
            .map_err(|_| silent("a login", CONNECT_TIMEOUT))?
            .map_err(failed)?;
        let (packet, id, round_trip) = tokio::time::timeout(SETUP_TIMEOUT, prepare(&mut connection, setup))
            .await
            .map_err(|_| silent("the first statements of a session", SETUP_TIMEOUT))?
            .map_err(failed)?;
        let (major, minor, patch) = connection.server_version();
        Ok(Self {
            id,
            version: format!("{major}.{minor}.{patch}"),
            connection: Some(connection),
            options,
            place,
            side,
            classify,
            largest: packet,
            takes_rows: None,
            round_trip,
        })
    }

    /// Waits for an answer as long as the server is at work on it.
    ///
    /// # Errors
    /// `Unreachable` when the server has let go of the connection, or cannot be reached at all. What the server itself answers, and
    /// a connection that breaks, is the inner result.
    async fn watched<T>(
        &self,
        limit: Option<Duration>,
        answer: impl Future<Output = mysql_async::Result<T>>,
    ) -> Result<mysql_async::Result<T>> {
        let mut answer = pin!(answer);
        // Most are there already: no timer for them.
        if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            return Ok(answer);
        }
        let began = tokio::time::Instant::now();
        loop {
            if let Ok(answer) = tokio::time::timeout(QUIET, answer.as_mut()).await {
                return Ok(answer);
            }
            let lost = tokio::select! {
                biased;
                answer = answer.as_mut() => return Ok(answer),
                lost = self.lost() => lost,
            };
            let silent = began.elapsed();
            let cause = match lost {
                Some(Lost::Idle) => match tokio::time::timeout(ON_ITS_WAY, answer.as_mut()).await {
                    Ok(answer) => return Ok(answer),
                    Err(_) => "the server is through with it",
                },
                Some(Lost::Gone) => "the server has ended the connection",
                Some(Lost::Unreachable) => "the server cannot be reached",
                None if limit.is_some_and(|limit| silent >= limit) => "no row came for too long",
                None => continue,
            };
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("no answer to a statement for {} s: {cause}", silent.as_secs()),
            )
            .endpoint(self.side)
            .object(&self.place)
            .hint(
                "the network or a proxy on the way swallows packets; the task goes on over a new connection",
            ));
        }
    }

    /// Asks on a connection of its own what became of this one. None: it is at work, or nothing is known.
    async fn lost(&self) -> Option<Lost> {
        let mut other = match tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(self.options.clone())).await {
            Ok(Ok(other)) => other,
            // It answers.
            Ok(Err(mysql_async::Error::Server(_))) => return None,
            Ok(Err(_)) | Err(_) => return Some(Lost::Unreachable),
        };
        let sql = format!("SELECT command FROM information_schema.processlist WHERE id = {}", self.id);
        let command = tokio::time::timeout(SETUP_TIMEOUT, other.query_first::<String, _>(sql)).await;
        tokio::spawn(tokio::time::timeout(CLOSE_TIMEOUT, other.disconnect()));
        match command {
            Ok(Ok(Some(command))) if command.eq_ignore_ascii_case("sleep") => Some(Lost::Idle),
            // Another server of a TiDB cluster may have answered: it knows its own connections only.
            Ok(Ok(None)) if self.side == Endpoint::Source => None,
            Ok(Ok(None)) => Some(Lost::Gone),
            Ok(Ok(Some(_)) | Err(mysql_async::Error::Server(_))) => None,
            Ok(Err(_)) | Err(_) => Some(Lost::Unreachable),
        }
    }

    /// Lowers the size of the largest statement that is sent.
    pub fn limit_statements(&mut self, bytes: usize) {
        self.largest = self.largest.min(bytes);
    }

    /// The server's number for this connection, for KILL.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// False when the server is known to take no rows of parameters.
    pub fn may_take_rows(&self) -> bool {
        self.takes_rows != Some(false)
    }

    /// What a question without work took when the session began.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// It is known to be nearer than it seemed.
    pub fn set_round_trip(&mut self, time: Duration) {
        self.round_trip = time;
    }

    /// Ends the connection: it is in a state that no other statement may meet.
    pub fn give_up(&mut self) {
        self.connection = None;
    }

    /// major.minor.patch of the handshake.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// True when a statement was cancelled, the connection failed or was given up: open another session.
    pub fn is_broken(&self) -> bool {
        self.connection.is_none()
    }

    fn take(&mut self) -> Result<Conn> {
        self.connection.take().ok_or_else(|| {
            Error::new(ErrorKind::Unreachable, "the connection was lost in an earlier statement")
                .endpoint(self.side)
        })
    }

    fn too_large(&self, bytes: usize) -> Error {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        Error::new(
            ErrorKind::StatementRefused,
            format!(
                "a statement of {:.1} MiB; the server takes {:.1} MiB, and a single row alone may be too large for it",
                mib(bytes),
                mib(self.largest)
            ),
        )
        .endpoint(self.side)
        .hint(
            "raise max_allowed_packet on a MySQL target (AnalyticDB's 16 MB are fixed) or lower tuning.batch_bytes; \
             a row that is too large by itself must be shortened at the source, or its table excluded",
        )
    }

    /// Puts the connection back unless the failure was below the protocol.
    fn finish<T>(&mut self, connection: Conn, result: Result<mysql_async::Result<T>>) -> Result<T> {
        match result? {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) => {
                if matches!(error, mysql_async::Error::Server(_)) {
                    self.connection = Some(connection);
                }
                Err(map_error(&error, self.side, self.classify))
            }
        }
    }

    /// Runs a statement that gives no rows.
    ///
    /// # Errors
    /// `StatementRefused` without a try when it is larger than what the server takes.
    pub async fn execute(&mut self, sql: impl AsRef<[u8]> + Send) -> Result<Done> {
        // The command byte counts too.
        if sql.as_ref().len() + 1 >= self.largest {
            return Err(self.too_large(sql.as_ref().len()));
        }
        let mut connection = self.take()?;
        let result = self.watched(None, connection.query_drop(sql.as_ref())).await;
        let done = Done { affected_rows: connection.affected_rows(), warnings: connection.get_warnings() };
        self.finish(connection, result).map(|()| done)
    }

    /// Runs a statement with `?` in it for all these rows at once, as MariaDB can from 10.2 on (COM_STMT_BULK_EXECUTE: to the server it is
    /// one statement of many rows, which it need not parse). The values of a place are of one type, or NULL.
    ///
    /// None when the server does not take it so, and nothing was done: send it as text.
    pub async fn execute_rows(&mut self, sql: &str, rows: Vec<Params>) -> Result<Option<Done>> {
        if !self.may_take_rows() || packet_of(&rows) >= self.largest as u64 {
            return Ok(None);
        }
        let ask = self.takes_rows.is_none();
        let mut connection = self.take()?;
        let result = self.watched(None, execute_rows(&mut connection, ask, sql, rows)).await;
        let done = Done { affected_rows: connection.affected_rows(), warnings: connection.get_warnings() };
        let taken = self.finish(connection, result)?;
        self.takes_rows = Some(taken != Taken::Never);
        Ok((taken == Taken::Yes).then_some(done))
    }

    /// Runs a query over the text protocol and collects its rows.
    pub async fn query<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Vec<T>> {
        let mut connection = self.take()?;
        let result = self.watched(None, connection.query(sql)).await;
        self.finish(connection, result)
    }

    /// The first row of a query over the text protocol.
    pub async fn first<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Option<T>> {
        let mut connection = self.take()?;
        let result = self.watched(None, connection.query_first(sql)).await;
        self.finish(connection, result)
    }

    /// Runs a query over the binary protocol and gives each row to `sink`: the server is read no faster than rows are taken.
    /// An error of the sink ends the query and breaks the session.
    pub async fn stream<S: RowSink>(&mut self, sql: &str, sink: &mut S) -> Result<()> {
        let mut connection = self.take()?;
        let result = self.rows(&mut connection, sql, sink).await?;
        self.finish(connection, Ok(result))
    }

    async fn rows<S: RowSink>(
        &self,
        connection: &mut Conn,
        sql: &str,
        sink: &mut S,
    ) -> Result<mysql_async::Result<()>> {
        /// The server's own answer goes out as it is.
        macro_rules! answer {
            ($result:expr) => {
                match $result? {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                }
            };
        }
        let statement = answer!(self.watched(None, connection.prep(sql)).await);
        let mut rows = answer!(self.watched(None, connection.exec_iter(&statement, ())).await);
        while let Some(row) = answer!(self.watched(Some(ROW_TIMEOUT), rows.next()).await) {
            sink.take(row).await?;
        }
        answer!(self.watched(None, rows.drop_result()).await);
        self.watched(None, connection.close(statement)).await
    }

    /// True when the server answers.
    pub async fn ping(&mut self) -> Result<()> {
        let mut connection = self.take()?;
        let result = self.watched(None, connection.ping()).await;
        self.finish(connection, result)
    }

    /// Says goodbye to the server.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // The server closes its side either way.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.disconnect()).await;
        }
    }
}

/// What became of a connection whose statement is not answered.
enum Lost {
    /// The server waits for the next statement.
    Idle,
    Gone,
    Unreachable,
}

/// What every session is asked first; gives the largest packet that the server takes, its number for the connection, and how long a question
/// took.
async fn prepare(connection: &mut Conn, setup: &[&str]) -> mysql_async::Result<(usize, u64, Duration)> {
    for statement in setup {
        connection.query_drop(*statement).await?;
    }
    let packet = match connection.query_first::<u64, _>("SELECT @@max_allowed_packet").await {
        Ok(Some(bytes)) => usize::try_from(bytes).unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET),
        Ok(None) | Err(mysql_async::Error::Server(_)) => LARGEST_PACKET,
        Err(error) => return Err(error),
    };
    let asked = Instant::now();
    // The handshake has 32 bits of it, TiDB's have 64; a server that does not know the function keeps to the handshake.
    let id = match connection.query_first::<u64, _>("SELECT CONNECTION_ID()").await {
        Ok(Some(id)) => id,
        Ok(None) | Err(mysql_async::Error::Server(_)) => u64::from(connection.id()),
        Err(error) => return Err(error),
    };
    Ok((packet, id, asked.elapsed()))
}

/// What became of rows of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    /// This statement goes as text.
    Not,
    /// All of them do.
    Never,
}

async fn execute_rows(
    connection: &mut Conn,
    ask: bool,
    sql: &str,
    rows: Vec<Params>,
) -> mysql_async::Result<Taken> {
    use mysql_async::Error::Server;
    if ask {
        // The driver would send row by row to a server without it, and does not say which servers those are. Where there is the command, it
        // is refused for a SELECT.
        match connection.exec_batch("SELECT ?", [(1,), (2,)]).await {
            Err(Server(error)) if error.code == NOT_SUPPORTED => {}
            Ok(()) | Err(Server(_)) => return Ok(Taken::Never),
            Err(error) => return Err(error),
        }
    }
    let statement = match connection.prep(sql).await {
        Ok(statement) => statement,
        // Too many of them on the server, say; what is wrong with the statement itself, the text will tell.
        Err(Server(_)) => return Ok(Taken::Not),
        Err(error) => return Err(error),
    };
    match connection.exec_batch(&statement, rows).await {
        Ok(()) => Ok(Taken::Yes),
        Err(Server(error)) if NO_ROWS.contains(&error.code) => Ok(Taken::Never),
        Err(Server(error)) if error.code == CHANGED => Ok(Taken::Not),
        Err(error) => Err(error),
    }
}

/// Bytes of the packet that these rows make.
fn packet_of(rows: &[Params]) -> u64 {
    let values = rows.iter().flat_map(|row| match row {
        Params::Positional(values) => values.as_slice(),
        Params::Named(_) | Params::Empty => &[],
    });
    // Each with a byte that tells a NULL; the types of at most 4,096 columns before them.
    16 * 1024 + values.map(|value| value.bin_len() + 1).sum::<u64>()
}

fn map_error(error: &mysql_async::Error, side: Endpoint, classify: Classify) -> Error {
    match error {
        mysql_async::Error::Server(server) => {
            Error::new(classify(server.code, &server.message), without_values(&server.message))
                .code(server.code)
        }
        mysql_async::Error::Io(mysql_async::IoError::Tls(tls)) => tls_refused(tls),
        // A handshake that fails on the way comes as trouble of the connection.
        mysql_async::Error::Io(mysql_async::IoError::Io(io)) if io.get_ref().is_some_and(is_tls) => {
            tls_refused(io)
        }
        mysql_async::Error::Io(io) => Error::new(ErrorKind::Unreachable, io.to_string()),
        mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => {
            Error::new(ErrorKind::Unreachable, "the server closed the connection")
        }
        other => Error::new(ErrorKind::Internal, other.to_string()),
    }
    .endpoint(side)
}

fn is_tls(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    cause.is::<rustls::Error>()
}

fn tls_refused(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::AccessDenied, format!("TLS: {cause}"))
        .hint("check the connection's tls.mode and tls.ca against the server's certificate")
}

/// A server's message without the values that it quotes. `near '...'` of a syntax error holds a piece of the statement, `value:
/// '...'` and `entry '...'` a cell of a row; names of columns and keys stand elsewhere and stay.
fn without_values(message: &str) -> String {
    const BEFORE: [&str; 8] = [
        "near '",
        "near \"",
        "value: '",
        "value '",
        "entry '",
        "argument '",
        "string: '",
        "partition for value ",
    ];
    let Some((at, lead)) = BEFORE.iter().filter_map(|lead| message.find(lead).map(|at| (at, lead))).min()
    else {
        return message.to_owned();
    };
    let (kept, rest) = message.split_at(at + lead.len());
    // The value may hold quotes itself: what follows it is known, or nothing is.
    let tail = [" for column ", " for key ", " for type ", " at line ", " at row ", " to "]
        .iter()
        .filter_map(|tail| rest.rfind(&format!("'{tail}")))
        .max()
        .and_then(|end| rest.get(end..));
    format!("{kept}...{}", tail.unwrap_or("'"))
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn server_messages_keep_names_and_lose_values() {
        for (message, expected) in [
            ("Duplicate entry 'o'brien-7' for key 'PRIMARY'", "Duplicate entry '...' for key 'PRIMARY'"),
            (
                "Incorrect integer value: 'secret' for column `s`.`t`.`c` at row 1",
                "Incorrect integer value: '...' for column `s`.`t`.`c` at row 1",
            ),
            ("Truncated incorrect DOUBLE value: 'secret'", "Truncated incorrect DOUBLE value: '...'"),
            (
                "You have an error in your SQL syntax; check the manual for the right syntax to use near 'x','secret')' at line 1",
                "You have an error in your SQL syntax; check the manual for the right syntax to use near '...' at line 1",
            ),
            ("Invalid utf8mb4 character string: 'sec'", "Invalid utf8mb4 character string: '...'"),
            ("Data too long for column 'c' at row 1", "Data too long for column 'c' at row 1"),
            ("Table 's.t' doesn't exist", "Table 's.t' doesn't exist"),
        ] {
            assert_eq!(without_values(message), expected);
        }
    }
}

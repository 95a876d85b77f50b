//! One connection of a client, and its own connection to MariaDB: logins, connection ids, values and results pass through untouched, statements are
//! judged on their way. So KILL, the process list and every type of the protocol are MariaDB's real ones.

use std::collections::HashMap;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;

use crate::catalog::Catalog;
use crate::plan::{self, Change, Plan};
use crate::refusal::{Refusal, refuse};
use crate::script::{Action, Script};
use crate::token::Cursor;
use crate::wire;

struct Prepared {
    head: Vec<u8>,
    writes: bool,
    one_affected: bool,
}

pub struct Relay {
    client_in: BufReader<TcpStream>,
    client: BufWriter<TcpStream>,
    server_in: BufReader<TcpStream>,
    server: BufWriter<TcpStream>,
    database: Option<String>,
    prepared: HashMap<u32, Prepared>,
    catalog: Catalog,
    script: Script,
    /// Of the next packet to the client.
    number: u8,
}

/// What a command is answered with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    One,
    Rows,
    Prepare,
}

/// What is left to do with a statement that may run.
#[derive(Default)]
struct Fate {
    late: Option<std::time::Duration>,
    cut_after: bool,
    twice: bool,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut as asked")
}

impl Relay {
    pub fn connect(client: TcpStream, port: u16, catalog: Catalog, script: Script) -> io::Result<Self> {
        let server = TcpStream::connect(("127.0.0.1", port))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self {
            client_in: BufReader::new(client.try_clone()?),
            client: BufWriter::new(client),
            server_in: BufReader::new(server.try_clone()?),
            server: BufWriter::new(server),
            database: None,
            prepared: HashMap::new(),
            catalog,
            script,
            number: 0,
        })
    }

    pub fn run(mut self) -> io::Result<()> {
        if !self.login()? {
            return Ok(());
        }
        loop {
            let (command, number) = wire::read_packet(&mut self.client_in)?;
            self.number = number.wrapping_add(1);
            self.command(&command)?;
            self.client.flush()?;
        }
    }

    fn login(&mut self) -> io::Result<bool> {
        let (greeting, mut number) = wire::read_packet(&mut self.server_in)?;
        if wire::is_error(&greeting) {
            wire::write_packet(&mut self.client, &greeting, &mut number)?;
            self.client.flush()?;
            return Ok(false);
        }
        wire::write_packet(&mut self.client, &wire::greeting(&greeting, plan::VERSION), &mut number)?;
        self.client.flush()?;
        let mut first = true;
        loop {
            let (answer, mut number) = wire::read_packet(&mut self.client_in)?;
            if first {
                self.database = wire::login_database(&answer);
                first = false;
            }
            wire::write_packet(&mut self.server, &answer, &mut number)?;
            self.server.flush()?;
            let (reply, mut number) = wire::read_packet(&mut self.server_in)?;
            wire::write_packet(&mut self.client, &reply, &mut number)?;
            self.client.flush()?;
            match reply.first() {
                Some(0) => return Ok(true),
                Some(0xff) => return Ok(false),
                _ => {}
            }
        }
    }

    fn command(&mut self, command: &[u8]) -> io::Result<()> {
        let (Some(kind), body) = (command.first(), command.get(1..).unwrap_or_default()) else {
            return Err(cut());
        };
        match kind {
            0x01 => Err(cut()),
            0x02 => {
                if self.forward(command, Answer::One, true, false)?.is_none() {
                    self.database = Some(String::from_utf8_lossy(body).into_owned());
                }
                Ok(())
            }
            0x03 => self.query(body),
            0x0e | 0x1a | 0x1f => self.forward(command, Answer::One, true, false).map(drop),
            0x16 => self.prepare(body),
            0x17 => self.execute(command),
            0x18 | 0x19 => {
                wire::write_packet(&mut self.server, command, &mut 0)?;
                self.server.flush()
            }
            _ => self.error(&refuse(1047, "Unknown command")),
        }
    }

    fn error(&mut self, refusal: &Refusal) -> io::Result<()> {
        wire::write_packet(
            &mut self.client,
            &wire::error_packet(refusal.code, &refusal.text),
            &mut self.number,
        )
    }

    /// What tests ask for with this statement; None when it was answered with an error.
    fn fate(&mut self, sql: &[u8], writes: bool) -> io::Result<Option<Fate>> {
        let mut fate = Fate::default();
        for action in self.script.meet(sql, writes) {
            match action {
                Action::Refuse(refusal) => {
                    self.error(&refusal)?;
                    return Ok(None);
                }
                Action::Slow(pause) => sleep(pause),
                Action::CutBefore => return Err(cut()),
                Action::CutAfter => fate.cut_after = true,
                Action::CutLate(pause) => fate.late = Some(pause),
                Action::Twice => fate.twice = true,
            }
        }
        Ok(Some(fate))
    }

    fn query(&mut self, sql: &[u8]) -> io::Result<()> {
        let Some(fate) = self.fate(sql, plan::is_write(sql))? else { return Ok(()) };
        let catalog = self.catalog.clone();
        let _one_by_one = plan::is_definition(sql).then(|| catalog.defining());
        let planned = plan::plan(sql, self.database.as_deref(), &catalog.lock());
        match planned {
            Err(refusal) => {
                self.script.refused(sql, &refusal);
                self.error(&refusal)
            }
            Ok(Plan::Run { sql: changed, writes, one_affected }) => {
                let mut command = vec![0x03];
                command.extend_from_slice(changed.as_deref().unwrap_or(sql));
                let failed = self.run_one(&command, &fate, one_affected)?;
                self.note(sql, writes, failed.as_ref());
                if failed.is_none() {
                    let mut cursor = Cursor::new(&sql[..sql.len().min(300)]);
                    if cursor.take("use") {
                        self.database = cursor.name().ok();
                    }
                }
                Ok(())
            }
            Ok(Plan::Define { statements, change }) => self.define(sql, &fate, &statements, change),
        }
    }

    /// MariaDB's own objections to writes count as refused too.
    fn note(&self, sql: &[u8], writes: bool, failed: Option<&(u16, String)>) {
        if let (true, Some((code, text))) = (writes, failed) {
            self.script.refused(sql, &Refusal { code: *code, text: text.clone() });
        }
    }

    fn run_one(
        &mut self,
        command: &[u8],
        fate: &Fate,
        one_affected: bool,
    ) -> io::Result<Option<(u16, String)>> {
        if let Some(pause) = fate.late {
            let _ = self.client.get_ref().shutdown(Shutdown::Both);
            sleep(pause);
        }
        if fate.twice {
            self.forward(command, Answer::Rows, false, false)?;
        }
        let silent = fate.late.is_some() || fate.cut_after;
        let failed = self.forward(command, Answer::Rows, !silent, one_affected)?;
        if silent { Err(cut()) } else { Ok(failed) }
    }

    fn define(&mut self, sql: &[u8], fate: &Fate, statements: &[String], change: Change) -> io::Result<()> {
        if let Some(pause) = fate.late {
            let _ = self.client.get_ref().shutdown(Shutdown::Both);
            sleep(pause);
        }
        for statement in statements {
            let mut command = vec![0x03];
            command.extend_from_slice(statement.as_bytes());
            if let Some((code, text)) = self.forward(&command, Answer::Rows, false, false)? {
                let failed = Refusal { code, text };
                self.script.refused(sql, &failed);
                return self.error(&failed);
            }
        }
        let catalog = self.catalog.clone();
        let mut state = catalog.lock();
        match change {
            Change::Nothing => {}
            Change::Put(name, table) => state.put(&name, *table)?,
            Change::Remove(name) => state.remove(&name)?,
            Change::Rename(from, to) => state.rename(&from, &to)?,
            Change::RemoveSchema(schema) => state.remove_schema(&schema)?,
        }
        if fate.late.is_some() || fate.cut_after {
            return Err(cut());
        }
        wire::write_packet(&mut self.client, &wire::ok_packet(0), &mut self.number)
    }

    fn prepare(&mut self, sql: &[u8]) -> io::Result<()> {
        let catalog = self.catalog.clone();
        let planned = plan::plan(sql, self.database.as_deref(), &catalog.lock());
        match planned {
            Ok(Plan::Run { sql: changed, writes, one_affected }) => {
                let mut command = vec![0x16];
                command.extend_from_slice(changed.as_deref().unwrap_or(sql));
                let head = sql[..sql.len().min(2000)].to_vec();
                self.forward_prepare(&command, Prepared { head, writes, one_affected })
            }
            Ok(Plan::Define { .. }) => self.error(&refuse(1295, "a definition cannot be prepared")),
            Err(refusal) => {
                self.script.refused(sql, &refusal);
                self.error(&refusal)
            }
        }
    }

    fn execute(&mut self, command: &[u8]) -> io::Result<()> {
        let id = command
            .get(1..5)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
            .ok_or_else(cut)?;
        let Some(prepared) = self.prepared.get(&id) else {
            return self.error(&refuse(1243, "Unknown prepared statement"));
        };
        let (head, writes, one_affected) = (prepared.head.clone(), prepared.writes, prepared.one_affected);
        let Some(fate) = self.fate(&head, writes)? else { return Ok(()) };
        let failed = self.run_one(command, &fate, one_affected)?;
        self.note(&head, writes, failed.as_ref());
        Ok(())
    }

    fn forward_prepare(&mut self, command: &[u8], prepared: Prepared) -> io::Result<()> {
        // The id is in the first packet of the answer.
        wire::write_packet(&mut self.server, command, &mut 0)?;
        self.server.flush()?;
        let (first, _) = wire::read_packet(&mut self.server_in)?;
        if let Some(id) = first.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
            && first[0] == 0
        {
            self.prepared.insert(id, prepared);
        }
        self.answer(first, Answer::Prepare, true, false).map(drop)
    }

    /// Sends a command to MariaDB and its answer to the client, if it is to have it. Gives the error that MariaDB answered with.
    fn forward(
        &mut self,
        command: &[u8],
        kind: Answer,
        tell: bool,
        one_affected: bool,
    ) -> io::Result<Option<(u16, String)>> {
        wire::write_packet(&mut self.server, command, &mut 0)?;
        self.server.flush()?;
        let (first, _) = wire::read_packet(&mut self.server_in)?;
        self.answer(first, kind, tell, one_affected)
    }

    fn answer(
        &mut self,
        first: Vec<u8>,
        kind: Answer,
        tell: bool,
        one_affected: bool,
    ) -> io::Result<Option<(u16, String)>> {
        let failed = wire::is_error(&first).then(|| wire::read_error(&first));
        let ok = first.first() == Some(&0);
        // Series of packets that follow, each up to an EOF.
        let series = match kind {
            _ if failed.is_some() => 0,
            Answer::One => 0,
            Answer::Rows => {
                if ok {
                    0
                } else {
                    2
                }
            }
            Answer::Prepare => {
                let count = |at: usize| first.get(at..at + 2).is_some_and(|bytes| bytes != [0, 0]);
                usize::from(count(5)) + usize::from(count(7))
            }
        };
        let first = if one_affected && ok { wire::with_one_affected(&first) } else { first };
        self.tell(&first, tell)?;
        for _ in 0..series {
            loop {
                let (packet, _) = wire::read_packet(&mut self.server_in)?;
                self.tell(&packet, tell)?;
                if wire::is_error(&packet) {
                    return Ok(Some(wire::read_error(&packet)));
                }
                if wire::is_eof(&packet) {
                    break;
                }
            }
        }
        Ok(failed)
    }

    fn tell(&mut self, packet: &[u8], tell: bool) -> io::Result<()> {
        if tell { wire::write_packet(&mut self.client, packet, &mut self.number) } else { Ok(()) }
    }
}

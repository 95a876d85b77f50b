//! A client of the MariaDB behind, for the stand-in's own tables: root without a password, statements as text.

use std::io::{self, BufReader};
use std::net::TcpStream;

use crate::wire;

pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

/// Rows of texts; None is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

impl Client {
    pub fn connect(port: u16) -> io::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        let mut reader = BufReader::new(writer.try_clone()?);
        let (_, mut number) = wire::read_packet(&mut reader)?;
        // Protocol 4.1, secure connection, plugin: all of 16 MiB, utf8mb4.
        let mut login = (1_u32 << 9 | 1 << 15 | 1 << 19 | 1).to_le_bytes().to_vec();
        login.extend_from_slice(&(1_u32 << 24).to_le_bytes());
        login.push(45);
        login.extend_from_slice(&[0; 23]);
        login.extend_from_slice(b"root\0\0mysql_native_password\0");
        number += 1;
        let mut client = Self { reader, writer };
        wire::write_packet(&mut client.writer, &login, &mut number)?;
        let (answer, _) = wire::read_packet(&mut client.reader)?;
        if answer.first() != Some(&0) {
            return Err(io::Error::other("MariaDB does not let root in without a password"));
        }
        Ok(client)
    }

    pub fn query(&mut self, sql: &str) -> io::Result<Rows> {
        let mut command = vec![3];
        command.extend_from_slice(sql.as_bytes());
        wire::write_packet(&mut self.writer, &command, &mut 0)?;
        let (first, _) = wire::read_packet(&mut self.reader)?;
        if wire::is_error(&first) {
            let (code, text) = wire::read_error(&first);
            return Err(io::Error::other(format!("{code} {text} in {sql}")));
        }
        if first.first() == Some(&0) {
            return Ok(Vec::new());
        }
        while !wire::is_eof(&wire::read_packet(&mut self.reader)?.0) {}
        let mut rows = Vec::new();
        loop {
            let (packet, _) = wire::read_packet(&mut self.reader)?;
            if wire::is_eof(&packet) {
                return Ok(rows);
            }
            let mut at = 0;
            let mut row = Vec::new();
            while at < packet.len() {
                if packet[at] == 0xfb {
                    row.push(None);
                    at += 1;
                    continue;
                }
                let (length, took) = wire::length_encoded(&packet[at..]);
                let from = at + took;
                at = from + usize::try_from(length).unwrap_or(0);
                row.push(Some(String::from_utf8_lossy(&packet[from..at]).into_owned()));
            }
            rows.push(row);
        }
    }
}

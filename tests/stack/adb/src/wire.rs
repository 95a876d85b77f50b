//! The MySQL protocol as far as a relay must read it: packets, OK and ERR.

use std::io::{self, Read, Write};

const PIECE: usize = 0xff_ffff;

/// A whole message: pieces of 16 MiB are joined. Gives the number of its last piece too.
pub fn read_packet(from: &mut impl Read) -> io::Result<(Vec<u8>, u8)> {
    let mut message = Vec::new();
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head)?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        let start = message.len();
        message.resize(start + length, 0);
        from.read_exact(&mut message[start..])?;
        if length < PIECE {
            return Ok((message, head[3]));
        }
    }
}

/// Writes a message and moves the number on.
pub fn write_packet(to: &mut impl Write, message: &[u8], number: &mut u8) -> io::Result<()> {
    let mut rest = message;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        let length = piece.len();
        to.write_all(&[length as u8, (length >> 8) as u8, (length >> 16) as u8, *number])?;
        to.write_all(piece)?;
        *number = number.wrapping_add(1);
        if length < PIECE {
            return Ok(());
        }
        rest = after;
    }
}

pub fn error_packet(code: u16, text: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend_from_slice(&code.to_le_bytes());
    packet.extend_from_slice(b"#HY000");
    packet.extend_from_slice(text.as_bytes());
    packet
}

/// Number and text of an ERR packet.
pub fn read_error(packet: &[u8]) -> (u16, String) {
    let code = u16::from_le_bytes([packet[1], packet[2]]);
    let text = String::from_utf8_lossy(&packet[3..]).into_owned();
    (code, if text.starts_with('#') { text[6..].to_owned() } else { text })
}

/// OK in autocommit mode.
pub fn ok_packet(affected: u8) -> Vec<u8> {
    vec![0, affected, 0, 2, 0, 0, 0]
}

/// An OK packet that tells of one affected row.
pub fn with_one_affected(packet: &[u8]) -> Vec<u8> {
    let (_, after) = length_encoded(&packet[1..]);
    let mut changed = vec![0, 1];
    changed.extend_from_slice(&packet[1 + after..]);
    changed
}

/// A length-encoded number and the bytes it took.
pub fn length_encoded(bytes: &[u8]) -> (u64, usize) {
    let of = |count: usize| bytes[1..=count].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match bytes[0] {
        0xfc => (of(2), 3),
        0xfd => (of(3), 4),
        0xfe => (of(8), 9),
        small => (u64::from(small), 1),
    }
}

pub fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

pub fn is_error(packet: &[u8]) -> bool {
    packet.first() == Some(&0xff)
}

/// The greeting as AnalyticDB's: another version, and nothing that this relay does not follow (TLS, compression, several statements at once,
/// MariaDB's own extensions, results without EOF).
pub fn greeting(packet: &[u8], version: &str) -> Vec<u8> {
    let end = 1 + packet[1..].iter().position(|byte| *byte == 0).unwrap_or(0);
    let mut changed = vec![packet[0]];
    changed.extend_from_slice(version.as_bytes());
    let tail = changed.len() + 1;
    changed.extend_from_slice(&packet[end..]);
    let low = tail + 4 + 8 + 1;
    let high = low + 5;
    let capabilities = u32::from_le_bytes([changed[low], changed[low + 1], changed[high], changed[high + 1]]);
    const COMPRESS: u32 = 1 << 5;
    const LOCAL_FILES: u32 = 1 << 7;
    const TLS: u32 = 1 << 11;
    const MULTI_STATEMENTS: u32 = 1 << 16;
    const MULTI_RESULTS: u32 = 1 << 17 | 1 << 18;
    const SESSION_TRACK: u32 = 1 << 23;
    const DEPRECATE_EOF: u32 = 1 << 24;
    let kept = (capabilities | 1)
        & !(COMPRESS | LOCAL_FILES | TLS | MULTI_STATEMENTS | MULTI_RESULTS | SESSION_TRACK | DEPRECATE_EOF);
    changed[low..low + 2].copy_from_slice(&kept.to_le_bytes()[..2]);
    changed[high..high + 2].copy_from_slice(&kept.to_le_bytes()[2..]);
    changed[high + 3..high + 13].fill(0);
    changed
}

/// The database that a client names when it logs in.
pub fn login_database(packet: &[u8]) -> Option<String> {
    const WITH_DATABASE: u32 = 1 << 3;
    const LENGTH_ENCODED_PASSWORD: u32 = 1 << 21;
    const SHORT_PASSWORD: u32 = 1 << 15;
    let capabilities = u32::from_le_bytes(packet.get(..4)?.try_into().ok()?);
    let text = |from: usize| -> Option<(String, usize)> {
        let length = packet.get(from..)?.iter().position(|byte| *byte == 0)?;
        Some((String::from_utf8_lossy(&packet[from..from + length]).into_owned(), from + length + 1))
    };
    let (_, mut at) = text(32)?;
    if capabilities & (LENGTH_ENCODED_PASSWORD | SHORT_PASSWORD) != 0 {
        at += 1 + usize::from(*packet.get(at)?);
    } else {
        at = text(at)?.1;
    }
    if capabilities & WITH_DATABASE == 0 {
        return None;
    }
    text(at).map(|(name, _)| name).filter(|name| !name.is_empty())
}

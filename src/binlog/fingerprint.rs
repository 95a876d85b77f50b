//! What makes a message recognisable when it comes again.
//!
//! After an unclean restart Drainer sends a range of messages again, mostly byte for byte (source-drainer.md 0.6). While DDL was
//! pending the bytes of the copy may differ (10.9), so the numbers of changes decide whether it is the same transaction, and
//! the hash only says whether the bytes are the same too.

use serde::{Deserialize, Serialize};

use crate::binlog::message::{Counts, Kind, Message};
use crate::model::Tso;

/// What a message does, coarse enough to be the same in every copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Numbers of changes; more than `u32::MAX` counts as that.
    Dml {
        inserts: u32,
        updates: u32,
        deletes: u32,
    },
    Ddl,
    Resolved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    pub commit_ts: Tso,
    pub shape: Shape,
    /// [`hash`] of the payload.
    pub hash: u64,
}

impl Fingerprint {
    /// `counts` comes from [`Message::validate`].
    pub fn new(message: &Message<'_>, counts: &Counts) -> Self {
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let shape = match message.kind {
            Kind::Dml(_) => Shape::Dml {
                inserts: narrow(counts.inserts),
                updates: narrow(counts.updates),
                deletes: narrow(counts.deletes),
            },
            Kind::Ddl(_) => Shape::Ddl,
            Kind::Resolved => Shape::Resolved,
        };
        Self { commit_ts: message.commit_ts, shape, hash: hash(message.as_bytes()) }
    }
}

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// XXH64 with seed 0. Checkpoints keep it, so it must stay the same in every release and on every machine; it guards against
/// mix-ups, not against an attacker.
pub fn hash(bytes: &[u8]) -> u64 {
    let (blocks, mut rest) = bytes.as_chunks::<32>();
    let mut h = if blocks.is_empty() { P5 } else { long(blocks) };
    h = h.wrapping_add(bytes.len() as u64);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        h = (h ^ round(0, u64::from_le_bytes(*word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        let word = u64::from(u32::from_le_bytes(*word));
        h = (h ^ word.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = tail;
    }
    for byte in rest {
        h = (h ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h = (h ^ (h >> 33)).wrapping_mul(P2);
    h = (h ^ (h >> 29)).wrapping_mul(P3);
    h ^ (h >> 32)
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn long(blocks: &[[u8; 32]]) -> u64 {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let [a, b, c, d] = lanes;
    let mut h = a
        .rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18));
    for lane in lanes {
        h = (h ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh64() {
        assert_eq!(hash(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(hash(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(hash(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(hash(b"Nobody inspects the spammish repetition"), 0xFBCE_A83C_8A37_8BF1);
    }
}

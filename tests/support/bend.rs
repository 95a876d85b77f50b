//! Bytes that are no longer what they were.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Bits flipped, bytes changed, put in or taken out, a piece from elsewhere, the end cut off.
pub fn bend(bytes: &mut Vec<u8>, rng: &mut StdRng, pieces: &[&str]) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, rng.random()),
            4 if !pieces.is_empty() => drop(bytes.splice(at..at, pieces.choose(rng).unwrap().bytes())),
            5 if rng.random_range(0..4) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
}

//! One cell of a row, borrowed from the message or result set that carries it.

/// A value as the source carries it. ENUM and SET arrive as numbers, BIT as big-endian bytes, temporal
/// values, DECIMAL and YEAR as text, JSON as its text in `Bytes` (source-drainer.md 3.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Null,
    Int(i64),
    UInt(u64),
    /// FLOAT columns too: the stream widens them; the column's type says to print as f32.
    Double(f64),
    /// Character data; may be invalid UTF-8 (source-drainer.md 0.1).
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

//! Protobuf's wire format, read in place: a [`Reader`] walks the fields of one message and never copies, recurses or allocates.
//!
//! It promises: any bytes give fields or a [`Malformed`], never a panic. Lengths are checked against what is there before they
//! are used, so a lie about a length costs nothing. Groups (deprecated, never written by Drainer) are refused, so nesting is as
//! deep as the code that asks for it.

use crate::error::{Endpoint, Error, ErrorKind};
use crate::model::Offset;

/// Why a payload is not what Drainer writes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {offset} of the message")]
pub struct Malformed {
    /// Byte of the message at which reading stopped.
    pub offset: usize,
    pub what: &'static str,
}

impl Malformed {
    /// The error that stops a task: names topic and offset, and says what an operator can do.
    pub fn at(&self, topic: &str, offset: Offset) -> Error {
        Error::new(ErrorKind::CorruptMessage, format!("not a message of Drainer: {self}"))
            .endpoint(Endpoint::Kafka)
            .object(format!("topic {topic} offset {offset}"))
            .hint(
                "Check that the topic is written by Drainer (db-type = \"kafka\") and by nothing else. \
                 If the message is known to be harmless, start the task after this offset; \
                 otherwise run the full sync of the tables again.",
            )
    }
}

/// A part of the message, and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a> {
    pub bytes: &'a [u8],
    pub start: usize,
}

impl<'a> Slice<'a> {
    pub fn reader(self) -> Reader<'a> {
        Reader { rest: self.bytes, end: self.start + self.bytes.len() }
    }

    pub fn end(self) -> usize {
        self.start + self.bytes.len()
    }

    /// The bytes from `from` to `to`, both counted from the beginning of the message; empty when they are not inside.
    pub fn between(self, from: usize, to: usize) -> Slice<'a> {
        let bytes = from
            .checked_sub(self.start)
            .zip(to.checked_sub(self.start))
            .and_then(|(from, to)| self.bytes.get(from..to))
            .unwrap_or_default();
        Slice { bytes, start: from }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(Slice<'a>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub tag: u32,
    /// Where its key begins.
    pub start: usize,
    pub content: Content<'a>,
}

impl<'a> Field<'a> {
    #[inline]
    pub fn varint(&self) -> Result<u64, Malformed> {
        match self.content {
            Content::Varint(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    #[inline]
    pub fn fixed64(&self) -> Result<u64, Malformed> {
        match self.content {
            Content::Fixed64(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    #[inline]
    pub fn bytes(&self) -> Result<Slice<'a>, Malformed> {
        match self.content {
            Content::Bytes(slice) => Ok(slice),
            _ => Err(self.wrong_type()),
        }
    }

    #[cold]
    fn wrong_type(&self) -> Malformed {
        Malformed { offset: self.start, what: "a field of another wire type than the protocol says" }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Where `rest` ends, counted from the beginning of the message.
    end: usize,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing more will come; iterators do this after an error.
    pub fn stop(&mut self) {
        self.end = self.position();
        self.rest = &[];
    }

    /// The next field, `None` at the end.
    #[inline(always)]
    pub fn field(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.position();
        let key = self.varint()?;
        let tag = u32::try_from(key).map_or(0, |key| key >> 3);
        if tag == 0 {
            return Err(Malformed { offset: start, what: "a field number that cannot be" });
        }
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(self.fixed64()?),
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            _ => return Err(Malformed { offset: start, what: "a group or an unknown wire type" }),
        };
        Ok(Some(Field { tag, start, content }))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                // The tenth byte has room for one bit.
                if place == 9 && *byte > 1 {
                    break;
                }
                self.rest = self.rest.get(place + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed { offset: self.position(), what: "a number that ends too early or is too long" })
    }

    #[inline(always)]
    fn fixed64(&mut self) -> Result<u64, Malformed> {
        match self.rest.split_first_chunk::<8>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(u64::from_le_bytes(*bytes))
            }
            None => Err(self.cut_short()),
        }
    }

    #[inline(always)]
    fn take(&mut self, length: u64) -> Result<Slice<'a>, Malformed> {
        let start = self.position();
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(Slice { bytes, start })
            }
            None => Err(self.cut_short()),
        }
    }

    #[cold]
    fn cut_short(&self) -> Malformed {
        Malformed { offset: self.position(), what: "a field that is longer than what is there" }
    }
}

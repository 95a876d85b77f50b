//! One value of the source as a literal of the target.
//!
//! An [`Encoder`] is chosen once per column ([`crate::adb::dialect::TargetTable`]) and used for every row of both phases. It
//! takes values as the stream carries them and as TiDB's binary protocol gives them (`Text` and `Bytes` mean the same to every
//! encoder; ENUM, SET and BIT as numbers) and allocates nothing per value. Two promises: a literal means exactly the source's value
//! on the target, or the caller is told ([`Pushed`], [`ValueFault`]); and a literal compared with `<=>` finds the row that it
//! was written to, except where a value was clamped.
//!
//! | source value | mysql | adb |
//! |---|---|---|
//! | integers | digits | digits |
//! | FLOAT | the exact double of the f32: it compares equal, and the shortest text of the largest is out of range | the same |
//! | NaN, infinity | fault | fault |
//! | BIT | digits | `'digits'` |
//! | YEAR | digits (the *string* '0' would be 2000) | digits |
//! | ENUM | number; 0 (the error value `''`) needs a session without strict mode: RELAXED | label, `''` for 0 |
//! | SET | number | labels joined by commas |
//! | text, valid UTF-8 | `'...'` | `'...'` |
//! | text, invalid UTF-8, latin1 column | each byte as its cp1252 character | the same |
//! | text, invalid UTF-8, other columns | fault | fault |
//! | binary | `x'..'`, from 256 bytes on `_binary'..'` (half the packet) | `x'..'` |
//! | TIMESTAMP | converted to UTC; AMBIGUOUS in a repeated hour | the same |
//! | TIME outside 00:00:00..23:59:59 | as it is | `lossy.time`: fault, clamped to the nearer end, or text |
//! | zero date, zero month or day, 31st of February | as it is | `lossy.zero_date`: fault, clamped (NULL for a zero date if nullable, else the nearest day), or text |
//! | more than 3 fractional digits | as they are | `lossy.fraction`: fault, clamped (cut), or text; zeros are cut without a count |
//! | DECIMAL beyond 38 digits | as it is | `lossy.decimal`: refused in the plan, clamped (rounded, or the largest), or text |

mod key;
mod number;
mod temporal;

use std::fmt;

use crate::adb::parameters::Parameter;
use crate::error::{Endpoint, Error, ErrorKind};
use crate::model::{LossyCounts, LossyRule, Value, Zone};
use crate::sql::literal;

pub(crate) use number::DecimalLimit;
pub(crate) use temporal::{Temporal, TemporalKind, ZeroDate, has_shape};

/// What was special about a value, or-ed together over a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed(u8);

impl Pushed {
    pub const PLAIN: Self = Self(0);
    /// Strict mode refuses this literal: run the row's statement under [`crate::adb::dialect::RELAXED_MODE`], and let
    /// exactly one warning 1265 per such value pass.
    pub const RELAXED: Self = Self(1);
    /// The TIMESTAMP lies in an hour that the source's zone repeats or skips.
    pub const AMBIGUOUS: Self = Self(2);
    /// A lossy policy changed the value.
    pub const TIME: Self = Self(4);
    pub const ZERO_DATE: Self = Self(8);
    pub const DECIMAL: Self = Self(16);
    pub const FRACTION: Self = Self(32);

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The target has the source's value.
    pub fn is_exact(self) -> bool {
        self.0 & !Self::RELAXED.0 == 0
    }

    fn rules(self) -> impl Iterator<Item = LossyRule> {
        LossyRule::ALL.into_iter().filter(move |rule| {
            self.contains(match rule {
                LossyRule::Time => Self::TIME,
                LossyRule::ZeroDate => Self::ZERO_DATE,
                LossyRule::Decimal => Self::DECIMAL,
                LossyRule::Fraction => Self::FRACTION,
                LossyRule::RepeatedHour => Self::AMBIGUOUS,
            })
        })
    }
}

impl std::ops::BitOr for Pushed {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Pushed {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A value that the target cannot hold, or that is not what its column promises. Names the column, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueFault {
    pub column: String,
    pub reason: &'static str,
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}`: {}", self.column, self.reason)
    }
}

impl std::error::Error for ValueFault {}

impl From<ValueFault> for Error {
    fn from(fault: ValueFault) -> Self {
        Error::new(ErrorKind::ValueRefused, fault.to_string()).endpoint(Endpoint::Target).hint(fault.cure())
    }
}

impl ValueFault {
    fn cure(&self) -> &'static str {
        match self.reason {
            temporal::OUTSIDE_A_DAY => {
                "set lossy.time to `clamp` (counted; never in a key) and resume, or repair the value at the source; `varchar` (exact, as text) takes a new task"
            }
            temporal::NO_CALENDAR_DATE => {
                "set lossy.zero_date to `clamp` (counted; never in a key) and resume, or repair the value at the source; `varchar` (exact, as text) takes a new task"
            }
            temporal::TOO_FINE => {
                "repair the value at the source, or copy the table with lossy.fraction `clamp` (counted) or `varchar` (exact, as text)"
            }
            NOT_UTF8 => {
                "repair the text at the source: find it by `column <> CONVERT(CONVERT(column USING utf8mb4) USING binary)`, or exclude the table"
            }
            BEYOND_LABELS => {
                "if the topic gets the DDL that adds the label, resume then; else copy the table again (POST .../tables/resync)"
            }
            _ => "repair the value at the source, or exclude the table",
        }
    }
}

type Reason = &'static str;

/// How the values of a column are written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    Integer,
    Float,
    Double,
    /// `limit`: the target's digits where they are fewer than the source's.
    Decimal {
        limit: Option<DecimalLimit>,
        quoted: bool,
    },
    Bits {
        quoted: bool,
    },
    Year,
    Temporal(Temporal),
    /// `latin1`: invalid UTF-8 is cp1252.
    Text {
        latin1: bool,
    },
    /// `long_as_string`: `_binary'..'` for long values.
    Binary {
        long_as_string: bool,
    },
    EnumNumber {
        labels: u64,
    },
    SetNumber {
        mask: u64,
    },
    EnumLabel(Box<[Box<str>]>),
    SetLabels(Box<[Box<str>]>),
    Json,
}

/// Writes the values of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    column: Box<str>,
    form: Form,
    /// The target would take a value that ends in a space for the one without it.
    refuses_trailing_spaces: bool,
}

/// From here on `_binary'..'` is the better literal: x'..' takes two bytes of packet for each byte.
const LONG_BINARY: usize = 256;

impl Encoder {
    pub(crate) fn new(column: &str, form: Form) -> Self {
        Self { column: column.into(), form, refuses_trailing_spaces: false }
    }

    /// For a key column of text whose target ignores trailing spaces and whose source does not.
    pub(crate) fn refusing_trailing_spaces(self, refuses: bool) -> Self {
        Self { refuses_trailing_spaces: refuses, ..self }
    }

    /// Appends the literal of a value; `zone` is that of TIMESTAMP text. After a fault `out` is as before.
    ///
    /// # Errors
    /// The value cannot be on the target as the policies stand, or is not of the column's type.
    pub fn push(&self, value: Value<'_>, zone: &Zone, out: &mut Vec<u8>) -> Result<Pushed, ValueFault> {
        let start = out.len();
        self.literal(value, zone, out).map_err(|reason| {
            out.truncate(start);
            self.fault(reason)
        })
    }

    pub fn column(&self) -> &str {
        &self.column
    }

    /// Counts what a rule changed about a value that was pushed.
    pub fn count(&self, pushed: Pushed, counts: &mut LossyCounts) {
        if !pushed.is_exact() {
            pushed.rules().for_each(|rule| counts.add(&self.column, rule, 1));
        }
    }

    /// Whether `<=>` with the literal finds exactly the rows that hold the value. JSON does not compare with text on every server.
    pub fn is_comparable(&self) -> bool {
        !matches!(self.form, Form::Json)
    }

    /// Appends a spelling that is the same for two values exactly when the target holds the same for both: that of a value of the source
    /// as the target gets it, and, with `held`, that of a value as the target gives it back.
    ///
    /// # Errors
    /// The value cannot be sent. `out` is then as before.
    pub fn push_held(&self, value: Value<'_>, held: bool, out: &mut Vec<u8>) -> Result<(), ValueFault> {
        let start = out.len();
        if let (true, Value::Text(text) | Value::Bytes(text)) = (held && self.is_text_of_numbers(), value) {
            literal::push_string(out, text);
            return Ok(());
        }
        self.push(value, &Zone::Utc, out)?;
        if value == Value::Null {
            return Ok(());
        }
        let literal = out.get(start..).unwrap_or_default();
        let spelled = match &self.form {
            // The target may have more digits.
            Form::Decimal { .. } => {
                let digits: Vec<u8> = literal.iter().copied().filter(|byte| *byte != b'\'').collect();
                let mut key = Vec::new();
                self.push_key(Value::Text(&digits), &mut key).map(|()| key)?
            }
            Form::Json => match value {
                Value::Text(text) | Value::Bytes(text) => {
                    match serde_json::from_slice::<serde_json::Value>(text) {
                        Ok(json) => json.to_string().into_bytes(),
                        Err(_) => return Ok(()),
                    }
                }
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        out.truncate(start);
        out.extend_from_slice(&spelled);
        Ok(())
    }

    /// Bytes of a key's value that are equal exactly when the target holds one value: like [`Encoder::push_key`], but of text whose bytes
    /// the target has otherwise.
    ///
    /// # Errors
    /// The value is not of the column's type. `out` is then as before.
    pub fn push_held_key(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ValueFault> {
        if !matches!(self.form, Form::Text { latin1: true }) {
            return self.push_key(value, out);
        }
        let mut spelled = Vec::new();
        self.push(value, &Zone::Utc, &mut spelled)?;
        out.extend_from_slice(&(spelled.len() as u64).to_be_bytes());
        out.extend_from_slice(&spelled);
        Ok(())
    }

    /// The source has numbers (places of labels, bits), the target their text.
    pub fn is_text_of_numbers(&self) -> bool {
        matches!(self.form, Form::EnumLabel(_) | Form::SetLabels(_) | Form::Bits { quoted: true })
    }

    /// The target holds places of labels, which it would give back as labels.
    pub fn is_label_number(&self) -> bool {
        matches!(self.form, Form::EnumNumber { .. } | Form::SetNumber { .. })
    }

    /// Both servers find a row by an equal value of this column, whichever of them the value came from.
    pub fn finds_on_both(&self) -> bool {
        matches!(
            self.form,
            Form::Integer
                | Form::Decimal { .. }
                | Form::Year
                | Form::Temporal(_)
                | Form::Text { latin1: false }
                | Form::Binary { .. }
        )
    }

    /// Whether the other encoder gives the same literal for every value that both take: the rows that are there stay true.
    pub(crate) fn writes_like(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            // New labels at the end change nothing.
            (Form::EnumLabel(old), Form::EnumLabel(new)) | (Form::SetLabels(old), Form::SetLabels(new)) => {
                new.starts_with(old)
            }
            (Form::EnumNumber { .. }, Form::EnumNumber { .. })
            | (Form::SetNumber { .. }, Form::SetNumber { .. }) => true,
            (old, new) => old == new,
        }
    }

    /// What its literals are as parameters.
    pub fn parameter(&self) -> Parameter {
        match self.form {
            Form::Integer
            | Form::Bits { quoted: false }
            | Form::Year
            | Form::EnumNumber { .. }
            | Form::SetNumber { .. } => Parameter::Integer,
            Form::Float | Form::Double => Parameter::Double,
            Form::Decimal { .. }
            | Form::Bits { quoted: true }
            | Form::Temporal(_)
            | Form::Text { .. }
            | Form::Binary { .. }
            | Form::EnumLabel(_)
            | Form::SetLabels(_)
            | Form::Json => Parameter::Bytes,
        }
    }

    fn fault(&self, reason: Reason) -> ValueFault {
        ValueFault { column: self.column.to_string(), reason }
    }

    fn literal(&self, value: Value<'_>, zone: &Zone, out: &mut Vec<u8>) -> Result<Pushed, Reason> {
        if value == Value::Null {
            out.extend_from_slice(b"NULL");
            return Ok(Pushed::PLAIN);
        }
        match &self.form {
            Form::Integer => number::push_integer(out, value)?,
            Form::Float => {
                let single = number::double(value)? as f32;
                if !single.is_finite() {
                    return Err("beyond the range of FLOAT");
                }
                push_exponent(out, f64::from(single));
            }
            Form::Double => push_exponent(out, number::double(value)?),
            Form::Decimal { limit, quoted } => return number::push_decimal(out, value, *limit, *quoted),
            Form::Bits { quoted: false } => push_digits(out, number::bits(value)?),
            Form::Bits { quoted: true } => {
                out.push(b'\'');
                push_digits(out, number::bits(value)?);
                out.push(b'\'');
            }
            Form::Year => push_digits(out, number::year(value)?),
            Form::Temporal(temporal) => return temporal.push(bytes(value)?, zone, out),
            Form::Text { latin1 } => {
                let text = bytes(value)?;
                if self.refuses_trailing_spaces && text.ends_with(b" ") {
                    return Err(
                        "a key that ends in a space: the target takes it for the one without, the source does not",
                    );
                }
                return push_text(out, text, *latin1);
            }
            Form::Binary { long_as_string } => {
                let bytes = bytes(value)?;
                if *long_as_string && bytes.len() >= LONG_BINARY {
                    out.extend_from_slice(b"_binary");
                    literal::push_string(out, bytes);
                } else {
                    literal::push_hex(out, bytes);
                }
            }
            Form::EnumNumber { labels } => {
                let number = number::bits(value)?;
                if number > *labels {
                    return Err(BEYOND_LABELS);
                }
                push_digits(out, number);
                if number == 0 {
                    return Ok(Pushed::RELAXED);
                }
            }
            Form::SetNumber { mask } => {
                let number = number::bits(value)?;
                if number & !mask != 0 {
                    return Err(BEYOND_LABELS);
                }
                push_digits(out, number);
            }
            Form::EnumLabel(labels) => {
                let number = number::bits(value)?;
                let label = match number.checked_sub(1) {
                    None => "",
                    Some(index) => usize::try_from(index)
                        .ok()
                        .and_then(|index| labels.get(index))
                        .ok_or(BEYOND_LABELS)?,
                };
                literal::push_string(out, label.as_bytes());
            }
            Form::SetLabels(labels) => {
                let number = number::bits(value)?;
                if labels.len() < 64 && number >> labels.len() != 0 {
                    return Err(BEYOND_LABELS);
                }
                out.push(b'\'');
                let chosen = labels.iter().enumerate().filter(|(bit, _)| number >> bit & 1 == 1);
                for (place, (_, label)) in chosen.enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    literal::push_escaped(out, label.as_bytes());
                }
                out.push(b'\'');
            }
            Form::Json => return push_text(out, bytes(value)?, false),
        }
        Ok(Pushed::PLAIN)
    }
}

const NOT_UTF8: Reason = "not UTF-8, which is all that the target takes as text";
const BEYOND_LABELS: Reason = "a number beyond the column's labels: the known schema is older than the row";

/// The fault of a label that the known definition of its column has not.
pub fn is_beyond_labels(error: &Error) -> bool {
    error.kind == ErrorKind::ValueRefused && error.message.ends_with(BEYOND_LABELS)
}

/// Character data and octets, which some readers tell apart and some do not.
fn bytes(value: Value<'_>) -> Result<&[u8], Reason> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => Ok(bytes),
        Value::Null | Value::Int(_) | Value::UInt(_) | Value::Double(_) => Err("a number where text is due"),
    }
}

fn push_text(out: &mut Vec<u8>, text: &[u8], latin1: bool) -> Result<Pushed, Reason> {
    if std::str::from_utf8(text).is_ok() {
        literal::push_string(out, text);
    } else if latin1 {
        out.push(b'\'');
        for byte in text {
            match byte {
                0..0x80 => literal::push_escaped(out, &[*byte]),
                _ => out.extend_from_slice(cp1252(*byte).encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.push(b'\'');
    } else {
        return Err(NOT_UTF8);
    }
    Ok(Pushed::PLAIN)
}

/// The character that MySQL's latin1 means by a byte: cp1252, whose five gaps are the control characters of ISO 8859-1.
fn cp1252(byte: u8) -> char {
    const UPPER: [char; 32] = [
        '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
        '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}',
        '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}',
        '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
    ];
    usize::from(byte).checked_sub(0x80).and_then(|at| UPPER.get(at)).copied().unwrap_or(char::from(byte))
}

fn push_digits(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// With an exponent a literal is a double for the server; without one it would be a DECIMAL with at most 30 decimals.
/// A finite number.
fn push_exponent(out: &mut Vec<u8>, value: f64) {
    let mut buffer = ryu::Buffer::new();
    let digits = buffer.format_finite(value).as_bytes();
    out.extend_from_slice(digits);
    if !digits.contains(&b'e') {
        out.extend_from_slice(b"e0");
    }
}

#[cfg(test)]
mod tests;

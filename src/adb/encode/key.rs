//! Values as bytes that are equal exactly when the source holds one value: what folding compares.
//!
//! Texts that a collation calls equal still differ here (design.md 10.8: lanes are chosen by a coarser class). Each value is self-delimiting, so
//! different tuples of one table's key never give the same bytes.

use super::{Encoder, Form, Reason, ValueFault, bytes, number};
use crate::model::Value;

const NULL: u8 = 0;
const BYTES: u8 = 1;
const NEGATIVE: u8 = 2;
const NUMBER: u8 = 3;
const DOUBLE: u8 = 4;

impl Encoder {
    /// Appends the canonical bytes of a value: decimals without needless zeros, -0 as 0, FLOAT as f32, NULL unlike any value.
    /// TIMESTAMP text is taken as it is: within one source it is in one zone.
    ///
    /// # Errors
    /// The value is not of the column's type. `out` is then as before.
    pub fn push_key(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ValueFault> {
        let start = out.len();
        self.canonical(value, out).map_err(|reason| {
            out.truncate(start);
            self.fault(reason)
        })
    }

    fn canonical(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        if value == Value::Null {
            out.push(NULL);
            return Ok(());
        }
        match &self.form {
            Form::Integer => push_integer(out, number::integer(value)?),
            Form::Year => push_integer(out, number::year(value)?),
            Form::Bits { .. }
            | Form::EnumNumber { .. }
            | Form::SetNumber { .. }
            | Form::EnumLabel(_)
            | Form::SetLabels(_) => push_integer(out, i128::from(number::bits(value)?)),
            Form::Float => push_double(out, f64::from(number::double(value)? as f32)),
            Form::Double => push_double(out, number::double(value)?),
            Form::Decimal { .. } => match value {
                Value::Text(text) | Value::Bytes(text) => push_decimal(out, text)?,
                other => {
                    let mut digits = [0; 40];
                    let length = print(&mut digits, number::integer(other)?);
                    push_decimal(out, digits.get(..length).unwrap_or_default())?;
                }
            },
            Form::Temporal(_) => {
                let text = bytes(value)?;
                let trimmed = match text.contains(&b'.') {
                    true => trim_end(trim_end(text, b'0'), b'.'),
                    false => text,
                };
                push_bytes(out, &[trimmed]);
            }
            Form::Text { .. } | Form::Binary { .. } | Form::Json => push_bytes(out, &[bytes(value)?]),
        }
        Ok(())
    }
}

fn push_integer(out: &mut Vec<u8>, number: i128) {
    out.push(if number < 0 { NEGATIVE } else { NUMBER });
    out.extend_from_slice(&(number.unsigned_abs() as u64).to_be_bytes());
}

fn push_double(out: &mut Vec<u8>, number: f64) {
    out.push(DOUBLE);
    // -0.0 + 0.0 is 0.0
    out.extend_from_slice(&(number + 0.0).to_bits().to_be_bytes());
}

fn push_decimal(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Reason> {
    let decimal = number::Decimal::parse(text).ok_or("not a decimal number")?;
    let fraction = trim_end(decimal.fraction, b'0');
    let zero = decimal.integer.is_empty() && fraction.is_empty();
    let sign: &[u8] = if decimal.negative && !zero { b"-" } else { b"" };
    let point: &[u8] = if fraction.is_empty() { b"" } else { b"." };
    push_bytes(out, &[sign, decimal.integer, point, fraction]);
    Ok(())
}

fn push_bytes(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(BYTES);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn trim_end(mut text: &[u8], byte: u8) -> &[u8] {
    while let Some((last, rest)) = text.split_last() {
        if *last != byte {
            break;
        }
        text = rest;
    }
    text
}

fn print(buffer: &mut [u8; 40], number: i128) -> usize {
    use std::io::Write;
    let mut rest = buffer.as_mut_slice();
    // 40 bytes hold every i128.
    let _ = write!(rest, "{number}");
    40 - rest.len()
}

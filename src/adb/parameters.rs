//! Statements of many rows whose values go as parameters: MariaDB then parses one row and no value, which takes it half the time
//! (docs/performance.md).
//!
//! Rows are kept as the text of literals that [`super::encode`] makes, for every server takes that. Here the text becomes values again.

use std::borrow::Cow;
use std::time::Duration;

use mysql_async::{Params, Value};

use crate::error::Result;
use crate::mysql::{Done, Session};

/// A statement of fewer rows goes as text: for it alone a server would have to prepare a statement.
const LEAST_ROWS: u64 = 16;

/// A server that is no further away gets so many rows at once: the driver holds them in several forms. A further one gets the whole
/// statement.
const NEAR: Duration = Duration::from_millis(1);
const NEAR_ROWS: usize = 1024;

/// Values of a part: some 100 bytes of memory each, whatever they are.
const MOST_VALUES: usize = 1 << 16;

/// How the values of a column are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    Integer,
    Double,
    /// Text as it is, octets, and decimal numbers.
    Bytes,
}

/// What all rows of a statement share.
#[derive(Debug)]
pub struct Template {
    /// `REPLACE INTO t (a,b,c) VALUES (?,?,'x')`
    query: String,
    parameters: Vec<Parameter>,
    /// Of every row, behind its parameters: `,'x')`.
    rest: Vec<u8>,
    /// Bytes before the first row, and behind the last.
    head: usize,
    tail: usize,
}

impl Template {
    /// `head` ends with ` VALUES `; `rest` is what stands behind the parameters in every row, without its parenthesis. None for a
    /// statement without parameters.
    pub fn new(head: &[u8], parameters: Vec<Parameter>, rest: &[u8], tail: &[u8]) -> Option<Self> {
        let marks = vec!["?"; parameters.len()].join(",");
        let rest = [rest, b")"].concat();
        let query = String::from_utf8([head, b"(", marks.as_bytes(), &rest, tail].concat()).ok()?;
        (!parameters.is_empty()).then_some(Self {
            query,
            parameters,
            rest,
            head: head.len(),
            tail: tail.len(),
        })
    }

    /// So many rows that the text begins with, and what follows them; None when one holds another literal than its column promises.
    fn rows<'a>(&self, mut text: &'a [u8], most: usize) -> Option<(Vec<Params>, &'a [u8])> {
        let mut rows = Vec::new();
        loop {
            let mut values = Vec::with_capacity(self.parameters.len());
            let mut before: &[u8] = b"(";
            for parameter in &self.parameters {
                let (value, rest) = parameter.take(text.strip_prefix(before)?)?;
                values.push(value);
                (text, before) = (rest, b",");
            }
            text = text.strip_prefix(self.rest.as_slice())?;
            rows.push(Params::Positional(values));
            if text.is_empty() {
                return Some((rows, text));
            }
            text = text.strip_prefix(b",")?;
            if rows.len() >= most {
                return Some((rows, text));
            }
        }
    }
}

/// A statement of many rows on its way: by parameters where they pay and the server takes them, else as text.
#[derive(Debug)]
pub struct Sending<'a> {
    statement: &'a [u8],
    template: Option<&'a Template>,
    /// Rows that were not sent yet.
    rest: &'a [u8],
}

impl<'a> Sending<'a> {
    /// `rows`: of the statement.
    pub fn new(statement: &'a [u8], template: Option<&'a Template>, rows: u64) -> Self {
        let parts = template.filter(|_| rows >= LEAST_ROWS).and_then(|template| {
            let end = statement.len().checked_sub(template.tail)?;
            Some((template, statement.get(template.head..end)?))
        });
        Self {
            statement,
            template: parts.map(|(template, _)| template),
            rest: parts.map_or(statement, |(_, rows)| rows),
        }
    }

    /// Sends the statement, or its next part, and awaits the answer; None when all is sent. What was sent before an error is in the target.
    pub async fn next(&mut self, session: &mut Session) -> Result<Option<Done>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if let Some(template) = self.template.filter(|_| session.may_take_rows()) {
            let most = if session.round_trip() < NEAR { NEAR_ROWS } else { usize::MAX };
            let most = most.min((MOST_VALUES / template.parameters.len()).max(1));
            if let Some((rows, rest)) = template.rows(self.rest, most)
                && let Some(done) = session.execute_rows(&template.query, rows).await?
            {
                self.rest = rest;
                return Ok(Some(done));
            }
        }
        let text = self.rest_as_text();
        self.rest = &[];
        session.execute(text).await.map(Some)
    }

    /// The statement of the rows that were not sent yet.
    fn rest_as_text(&self) -> Cow<'a, [u8]> {
        let head = self.template.map_or(0, |template| template.head);
        let sent =
            self.statement.len() - self.template.map_or(0, |template| head + template.tail) - self.rest.len();
        if sent == 0 {
            return Cow::Borrowed(self.statement);
        }
        let (head, rows) = self.statement.split_at_checked(head).unwrap_or_default();
        Cow::Owned([head, rows.get(sent..).unwrap_or_default()].concat())
    }
}

impl Parameter {
    /// The value of the literal that the text begins with, and what follows it.
    fn take(self, text: &[u8]) -> Option<(Value, &[u8])> {
        if let Some(rest) = text.strip_prefix(b"NULL") {
            return Some((Value::NULL, rest));
        }
        match self {
            Self::Integer => {
                let (digits, rest) = number(text)?;
                let value = match digits.parse() {
                    Ok(number) => Value::Int(number),
                    Err(_) => Value::UInt(digits.parse().ok()?),
                };
                Some((value, rest))
            }
            Self::Double => {
                let (digits, rest) = number(text)?;
                Some((Value::Double(digits.parse().ok()?), rest))
            }
            Self::Bytes => {
                let (bytes, rest) = if let Some(text) = text.strip_prefix(b"x'") {
                    hex(text)?
                } else if let Some(text) = text.strip_prefix(b"_binary'").or_else(|| text.strip_prefix(b"'"))
                {
                    string(text)?
                } else {
                    let (digits, rest) = number(text)?;
                    (digits.as_bytes().to_vec(), rest)
                };
                Some((Value::Bytes(bytes), rest))
            }
        }
    }
}

/// Up to the end of the value.
fn number(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b',' | b')'))?;
    let (number, rest) = text.split_at_checked(end)?;
    let is_number = number.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'e'));
    let number = std::str::from_utf8(number).ok()?;
    (is_number && number.ends_with(|last: char| last.is_ascii_digit())).then_some((number, rest))
}

/// Up to and with the closing quote; undoes [`crate::sql::literal::push_escaped`].
fn string(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut bytes = Vec::new();
    loop {
        let (clean, rest) = text.split_at_checked(memchr::memchr2(b'\'', b'\\', text)?)?;
        bytes.extend_from_slice(clean);
        match rest {
            [b'\\', escaped, rest @ ..] => {
                bytes.push(match escaped {
                    b'0' => 0,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b'Z' => 0x1a,
                    b'\'' | b'\\' => *escaped,
                    _ => return None,
                });
                text = rest;
            }
            [b'\'', rest @ ..] => return Some((bytes, rest)),
            _ => return None,
        }
    }
}

/// Up to and with the closing quote.
fn hex(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (digits, rest) = text.split_at_checked(memchr::memchr(b'\'', text)?)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, odd) = digits.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<Vec<_>>>()?;
    odd.is_empty().then_some((bytes, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::adb::encode::{Encoder, Form, Temporal, TemporalKind};
    use crate::adb::session_for_tests;
    use crate::model::{self, Zone};
    use crate::sql::literal::{push_hex, push_string};

    fn values(parameters: Vec<Parameter>, rest: &str, statement: &str) -> Option<Vec<Vec<Value>>> {
        let template =
            Template::new(b"REPLACE INTO t VALUES ", parameters, rest.as_bytes(), b" TAIL").unwrap();
        let sending = Sending::new(statement.as_bytes(), Some(&template), LEAST_ROWS);
        let (rows, rest) = template.rows(sending.rest, usize::MAX)?;
        assert!(rest.is_empty());
        Some(rows.into_iter().map(|row| row.into_values(None).unwrap()).collect())
    }

    #[test]
    fn literals_become_values() {
        use Parameter::{Bytes, Double, Integer};
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let found = values(
            vec![Integer, Double, Bytes, Bytes],
            ",'shop'",
            r"REPLACE INTO t VALUES (-9223372036854775808,-0e0,12.50,x'00ff','shop'),(18446744073709551615,1.5e-7,NULL,_binary'\0\'','shop'),(NULL,NULL,'it\'s, \\ (\n\r\Z)',x'','shop') TAIL",
        );
        let expected = vec![
            vec![Value::Int(i64::MIN), Value::Double(-0.0), bytes("12.50"), Value::Bytes(vec![0, 255])],
            vec![Value::UInt(u64::MAX), Value::Double(1.5e-7), Value::NULL, bytes("\0'")],
            vec![Value::NULL, Value::NULL, bytes("it's, \\ (\n\r\u{1a})"), bytes("")],
        ];
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_is_no_such_literal_stays_text() {
        for (parameter, literal) in [
            (Parameter::Integer, "'1'"),
            (Parameter::Integer, "1.5"),
            (Parameter::Integer, "18446744073709551616"),
            (Parameter::Integer, ""),
            (Parameter::Double, "e"),
            (Parameter::Bytes, "CONVERT('a' USING gbk)"),
            (Parameter::Bytes, "'open"),
            (Parameter::Bytes, "'a\\q'"),
            (Parameter::Bytes, "x'0'"),
            (Parameter::Bytes, "x'0g'"),
            (Parameter::Bytes, "DEFAULT"),
        ] {
            let statement = format!("REPLACE INTO t VALUES ({literal}) TAIL");
            assert_eq!(values(vec![parameter], "", &statement), None, "{literal}");
        }
        let one = vec![Parameter::Integer];
        for statement in [
            "",
            "REPLACE INTO t VALUES  TAIL",
            "REPLACE INTO t VALUES (1,2) TAIL",
            "REPLACE INTO t VALUES (1), TAIL",
        ] {
            assert_eq!(values(one.clone(), "", statement), None, "{statement}");
        }
    }

    #[test]
    fn what_was_sent_is_not_in_the_rest() {
        let template = Template::new(b"I ", vec![Parameter::Integer], b"", b" TAIL").unwrap();
        let mut sending = Sending::new(b"I (1),(2),(3) TAIL", Some(&template), LEAST_ROWS);
        assert_eq!(*sending.rest_as_text(), *b"I (1),(2),(3) TAIL");
        (_, sending.rest) = template.rows(sending.rest, 2).unwrap();
        assert_eq!(*sending.rest_as_text(), *b"I (3) TAIL");
        assert_eq!(*Sending::new(b"I (1)", None, 1).rest_as_text(), *b"I (1)");
    }

    #[tokio::test]
    async fn mariadb_takes_rows_of_parameters_in_parts_and_tidb_takes_text() {
        for (variable, by_parameters) in [("TIDEGATE_TEST_MARIADB", true), ("TIDEGATE_TEST_TIDB", false)] {
            let Some(mut session) = session_for_tests(variable).await else { continue };
            let schema = format!("tidegate_parameters_{}", std::process::id());
            session.execute(format!("CREATE DATABASE {schema}")).await.unwrap();
            let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(9), x INT)");
            session.execute(create).await.unwrap();
            let head = format!("REPLACE INTO {schema}.t (id,v,x) VALUES ");
            let template =
                Template::new(head.as_bytes(), vec![Parameter::Integer, Parameter::Bytes], b",7", b"")
                    .unwrap();
            let rows: Vec<_> = (0..3000)
                .map(|id| format!("({id},{},7)", if id % 3 == 0 { "NULL" } else { "'a''b'" }))
                .collect();
            let statement = format!("{head}{}", rows.join(",").replace("''", "\\'"));
            let mut sending = Sending::new(statement.as_bytes(), Some(&template), 3000);
            let (mut parts, mut rows) = (0, 0);
            while let Some(done) = sending.next(&mut session).await.unwrap() {
                parts += 1;
                rows += done.affected_rows;
            }
            let expected_parts = if !by_parameters {
                1
            } else if session.round_trip() < NEAR {
                3
            } else {
                1
            };
            assert_eq!((parts, rows), (expected_parts, 3000), "{variable}");
            let count = format!("SELECT COUNT(*), COUNT(v), SUM(v = 'a\\'b'), SUM(x) FROM {schema}.t");
            let found: Option<(u64, u64, u64, u64)> = session.first(&count).await.unwrap();
            assert_eq!(found, Some((3000, 2000, 2000, 21000)), "{variable}");
            session.execute(format!("DROP DATABASE {schema}")).await.unwrap();
            session.close().await;
        }
    }

    /// A form of every kind, with a value for it.
    fn form_and_value() -> impl Strategy<Value = (Form, Vec<u8>, Kind)> {
        let labels = || ["a", "c,d", "it's", ""].map(Box::from).into();
        let temporal = |kind| Form::Temporal(Temporal::exact(kind));
        let number = any::<i64>().prop_map(|n| n.to_string().into_bytes());
        let small = (0..4_u64).prop_map(|n| n.to_string().into_bytes());
        let double =
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| n.to_le_bytes().to_vec());
        let single = any::<f32>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| f64::from(n).to_le_bytes().to_vec());
        let text = any::<String>().prop_map(String::into_bytes);
        let octets = prop::collection::vec(any::<u8>(), 0..600);
        prop_oneof![
            number.clone().prop_map(|v| (Form::Integer, v, Kind::Number)),
            number.prop_map(|v| (Form::Bits { quoted: false }, v, Kind::Number)),
            small.clone().prop_map(|v| (Form::Bits { quoted: true }, v, Kind::Number)),
            (1901..=2155_u64).prop_map(|n| (Form::Year, n.to_string().into_bytes(), Kind::Number)),
            small.clone().prop_map(|v| (Form::EnumNumber { labels: 4 }, v, Kind::Number)),
            small.clone().prop_map(|v| (Form::SetNumber { mask: 15 }, v, Kind::Number)),
            small.clone().prop_map(move |v| (Form::EnumLabel(labels()), v, Kind::Number)),
            small.prop_map(move |v| (Form::SetLabels(labels()), v, Kind::Number)),
            double.prop_map(|v| (Form::Double, v, Kind::Double)),
            single.prop_map(|v| (Form::Float, v, Kind::Double)),
            "-?[0-9]{1,40}(\\.[0-9]{1,30})?"
                .prop_map(|v| { (Form::Decimal { limit: None, quoted: false }, v.into_bytes(), Kind::Text) }),
            "[0-9]{1,40}".prop_map(|v| (
                Form::Decimal { limit: None, quoted: true },
                v.into_bytes(),
                Kind::Text
            )),
            "[0-9]{4}-[0-1][0-9]-[0-3][0-9]".prop_map(move |v| (
                temporal(TemporalKind::Date),
                v.into_bytes(),
                Kind::Text
            )),
            "[0-9]{4}-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"
                .prop_map(move |v| (temporal(TemporalKind::DateTime), v.into_bytes(), Kind::Text)),
            "-?[0-9]{2,3}:[0-5][0-9]:[0-5][0-9]".prop_map(move |v| (
                temporal(TemporalKind::Time),
                v.into_bytes(),
                Kind::Text
            )),
            text.clone().prop_map(|v| (Form::Text { latin1: false }, v, Kind::Text)),
            octets.clone().prop_map(|v| (Form::Text { latin1: true }, v, Kind::Text)),
            octets.clone().prop_map(|v| (Form::Binary { long_as_string: true }, v, Kind::Octets)),
            octets.prop_map(|v| (Form::Binary { long_as_string: false }, v, Kind::Octets)),
            text.prop_map(|v| (Form::Json, v, Kind::Text)),
        ]
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Kind {
        Number,
        Double,
        Text,
        Octets,
    }

    proptest! {
        /// What a column's encoder writes becomes a parameter of the kind that it promises, and nothing of what follows.
        #[test]
        fn every_form_becomes_its_parameter((form, bytes, kind) in form_and_value()) {
            let number = || std::str::from_utf8(&bytes).unwrap().parse::<i64>().unwrap();
            let value = match kind {
                Kind::Number => model::Value::Int(number()),
                Kind::Double => model::Value::Double(f64::from_le_bytes(bytes.clone().try_into().unwrap())),
                Kind::Text => model::Value::Text(&bytes),
                Kind::Octets => model::Value::Bytes(&bytes),
            };
            let encoder = Encoder::new("c", form.clone());
            let mut literal = Vec::new();
            encoder.push(value, &Zone::Utc, &mut literal).unwrap();
            literal.extend_from_slice(b",7)");
            let (taken, rest) = encoder.parameter().take(&literal).unwrap();
            prop_assert_eq!(rest, b",7)");
            match (&form, taken) {
                (Form::Bits { quoted: false }, taken) => {
                    let bits = number() as u64;
                    prop_assert!(taken == Value::UInt(bits) || taken == Value::Int(bits as i64));
                }
                (Form::Integer | Form::Year | Form::EnumNumber { .. } | Form::SetNumber { .. }, taken) => {
                    prop_assert_eq!(taken, Value::Int(number()));
                }
                (Form::Double | Form::Float, Value::Double(taken)) => {
                    prop_assert_eq!(model::Value::Double(taken), value);
                }
                (Form::EnumLabel(_) | Form::SetLabels(_), taken) => {
                    prop_assert!(matches!(taken, Value::Bytes(_)));
                }
                // Without what the form itself makes of them.
                (Form::Temporal(_) | Form::Text { latin1: true }, Value::Bytes(taken)) => {
                    prop_assert!(std::str::from_utf8(&taken).is_ok());
                }
                (_, taken) => prop_assert_eq!(taken, Value::Bytes(bytes.clone())),
            }
        }

        #[test]
        fn every_text_and_every_octets_come_back(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
        ) {
            let mut statement = b"I ".to_vec();
            for (nth, text) in texts.iter().enumerate() {
                statement.extend_from_slice(if nth > 0 { b",(" } else { b"(" });
                push_string(&mut statement, text);
                statement.push(b',');
                push_hex(&mut statement, text);
                statement.push(b')');
            }
            let template = Template::new(b"I ", vec![Parameter::Bytes; 2], b"", b"").unwrap();
            let mut sending = Sending::new(&statement, Some(&template), LEAST_ROWS);
            let mut rows = Vec::new();
            while !sending.rest.is_empty() {
                let (part, rest) = template.rows(sending.rest, 3).unwrap();
                prop_assert!(part.len() == 3 || rest.is_empty());
                rows.extend(part);
                sending.rest = rest;
            }
            prop_assert_eq!(rows.len(), texts.len());
            for (row, text) in rows.into_iter().zip(texts) {
                prop_assert_eq!(row.into_values(None).unwrap(), vec![Value::Bytes(text.clone()), Value::Bytes(text)]);
            }
        }
    }
}

//! Says in one line what a message of the topic holds, or why it is none of Drainer's. Values of rows are never shown.

use std::fmt;

use super::finding::{counted, instant};
use crate::binlog::{Detail, Message, describe, describe::Content};
use crate::model::Tso;

/// Tables named in a line.
const TABLES_SHOWN: usize = 3;

/// 2015-01-01: no TiDB is older.
const FIRST_TSO_MS: i64 = 1_420_070_400_000;

/// What a message holds, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub commit_ts: Tso,
    content: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = instant(self.commit_ts.physical_ms());
        write!(f, "{}, committed {time} (commit_ts {})", self.content, self.commit_ts)
    }
}

/// # Errors
/// Why the bytes are not a message of Drainer, in words.
pub(super) fn inspect(payload: &[u8]) -> Result<Summary, String> {
    if payload.first().is_some_and(|first| matches!(first, b'{' | b'[')) {
        return Err("it is JSON, as TiCDC's canal-json or another tool writes it".to_owned());
    }
    let message = Message::parse(payload).map_err(|reason| reason.to_string())?;
    message.validate().map_err(|reason| reason.to_string())?;
    let commit_ts = message.commit_ts;
    if commit_ts.physical_ms() < FIRST_TSO_MS {
        return Err(format!("its commit_ts {commit_ts} is no time of a TiDB"));
    }
    let description = describe(&message, Detail::Shape).map_err(|reason| reason.to_string())?;
    Ok(Summary { commit_ts, content: words(&description.content) })
}

fn words(content: &Content) -> String {
    match content {
        Content::Dml { tables } => {
            let mut parts: Vec<String> = tables
                .iter()
                .take(TABLES_SHOWN)
                .map(|table| {
                    let counts: Vec<String> =
                        [(table.inserts, "insert"), (table.updates, "update"), (table.deletes, "delete")]
                            .into_iter()
                            .filter(|(count, _)| *count > 0)
                            .map(|(count, noun)| counted(count, noun))
                            .collect();
                    format!("{}.{} ({})", table.schema, table.table, counts.join(", "))
                })
                .collect();
            if tables.len() > TABLES_SHOWN {
                parts.push(counted((tables.len() - TABLES_SHOWN) as u64, "more table"));
            }
            format!("rows of {}", parts.join(", "))
        }
        Content::Ddl { schema, table, query } => {
            let name = if table.is_empty() { schema.clone() } else { format!("{schema}.{table}") };
            // The first two words tell what it is; no literal is among them.
            let plain = |word: &&str| word.chars().all(|letter| letter.is_ascii_alphabetic());
            let verb: Vec<&str> = query.split_whitespace().take(2).take_while(plain).collect();
            format!("DDL on {name} ({})", verb.join(" ").to_uppercase())
        }
        Content::Resolved => "a watermark".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
        [&[field << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    /// type, and 470666140698542080 as commit_ts
    fn head(kind: u8) -> Vec<u8> {
        let mut out = vec![8, kind, 16];
        let mut ts = 470_666_140_698_542_080_u64;
        while ts >= 0x80 {
            out.push(ts as u8 | 0x80);
            ts >>= 7;
        }
        out.push(ts as u8);
        out
    }

    fn rows(values: usize) -> Vec<u8> {
        let column = bytes(3, &[bytes(1, b"id"), bytes(2, b"int"), vec![24, 1]].concat());
        let row = bytes(1, &[16, 7]).repeat(values);
        let mutation = |kind| bytes(4, &[vec![8, kind], bytes(2, &row)].concat());
        let table =
            [bytes(1, b"shop"), bytes(2, b"orders"), column, mutation(0), mutation(0), mutation(2)].concat();
        [head(0), bytes(3, &bytes(1, &table))].concat()
    }

    #[test]
    fn rows_are_counted_per_table() {
        assert_eq!(
            inspect(&rows(1)).unwrap().to_string(),
            "rows of shop.orders (2 inserts, 1 delete), committed 2026-11-23T15:47:19.945Z (commit_ts 470666140698542080)"
        );
    }

    #[test]
    fn ddl_is_named_without_its_text() {
        let query = b"create database `shop` /* x */ comment 'secret'";
        let ddl = [bytes(1, b"shop"), bytes(2, b""), bytes(3, query)].concat();
        let summary = inspect(&[head(1), bytes(4, &ddl)].concat()).unwrap().to_string();
        assert!(summary.starts_with("DDL on shop (CREATE DATABASE), committed 2026-11-23T"), "{summary}");
    }

    #[test]
    fn what_drainer_did_not_write_is_told_apart() {
        assert!(inspect(br#"{"type":"INSERT"}"#).unwrap_err().contains("JSON"));
        let whole = rows(1);
        assert!(inspect(&whole[..whole.len() - 1]).is_err());
        assert!(inspect(&rows(2)).is_err());
        assert!(inspect(b"").is_err());
        assert!(inspect(b"hello world").is_err());
        let early = [vec![8, 2, 16, 5]].concat();
        assert!(inspect(&early).unwrap_err().contains("no time"));
    }
}

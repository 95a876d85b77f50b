//! Options of a table or partition: character set, comment, and the many that mean nothing to a target.

use super::column_type;
use super::cursor::Cursor;
use super::error::DdlError;
use super::token::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TableOption {
    /// None = DEFAULT.
    Charset(Option<String>),
    Collation(Option<String>),
    Comment(String),
    /// Known, without effect on rows or layout.
    Harmless(String),
    /// Whether the source deletes rows by their age, which no message says.
    TimeToLive(bool),
}

/// `NAME [=] value` with one token of value; among them the direct placement of TiDB v5.3 and v5.4 (PRIMARY_REGION and what follows it).
const SIMPLE: &[&str] = &[
    "AFFINITY",
    "ATTRIBUTES",
    "AUTOEXTEND_SIZE",
    "AUTO_ID_CACHE",
    "AUTO_INCREMENT",
    "AUTO_RANDOM_BASE",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "COMPRESSION",
    "CONNECTION",
    "CONSTRAINTS",
    "DELAY_KEY_WRITE",
    "ENCRYPTION",
    "ENGINE",
    "ENGINE_ATTRIBUTE",
    "FOLLOWERS",
    "FOLLOWER_CONSTRAINTS",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "LEADER_CONSTRAINTS",
    "LEARNERS",
    "LEARNER_CONSTRAINTS",
    "MAX_ROWS",
    "MIN_ROWS",
    "NODEGROUP",
    "PACK_KEYS",
    "PAGE_CHECKSUM",
    "PAGE_COMPRESSED",
    "PAGE_COMPRESSION_LEVEL",
    "PASSWORD",
    "PRE_SPLIT_REGIONS",
    "PRIMARY_REGION",
    "REGIONS",
    "ROW_FORMAT",
    "SCHEDULE",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "SHARD_ROW_ID_BITS",
    "STATS_AUTO_RECALC",
    "STATS_BUCKETS",
    "STATS_COL_CHOICE",
    "STATS_COL_LIST",
    "STATS_OPTIONS",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "STATS_SAMPLE_RATE",
    "STATS_TOPN",
    "TABLESPACE",
    "TABLE_CHECKSUM",
    "TRANSACTIONAL",
    "TTL_JOB_INTERVAL",
    "VOTERS",
    "VOTER_CONSTRAINTS",
];

/// One option where it stands.
pub(super) fn table_option(cursor: &mut Cursor<'_>) -> Result<Option<TableOption>, DdlError> {
    let mark = cursor.mark();
    let default = cursor.take(&["DEFAULT"]);
    if let Some(charset) = column_type::charset_clause(cursor)? {
        return Ok(Some(TableOption::Charset(charset)));
    }
    if let Some(collation) = column_type::collation_clause(cursor)? {
        return Ok(Some(TableOption::Collation(collation)));
    }
    if default {
        cursor.back(mark);
        return Ok(None);
    }
    if cursor.take(&["COMMENT"]) {
        cursor.take_symbol("=");
        return Ok(Some(TableOption::Comment(cursor.bare_text("a comment")?)));
    }
    let what = cursor.word(0);
    if cursor.take(&["PLACEMENT", "POLICY"])
        || cursor.take(&["DATA", "DIRECTORY"])
        || cursor.take(&["INDEX", "DIRECTORY"])
        || cursor.take(&["STORAGE", "ENGINE"])
    {
        value(cursor)?;
    } else if cursor.is(0, "FORCE") && (cursor.is(1, "AUTO_INCREMENT") || cursor.is(1, "AUTO_RANDOM_BASE")) {
        cursor.advance();
        cursor.advance();
        value(cursor)?;
    } else if cursor.take(&["TTL"]) {
        time_to_live(cursor)?;
        return Ok(Some(TableOption::TimeToLive(true)));
    } else if cursor.take(&["TTL_ENABLE"]) {
        cursor.take_symbol("=");
        let enabled = cursor.bare_text("'ON' or 'OFF'")?;
        return Ok(Some(TableOption::TimeToLive(!enabled.eq_ignore_ascii_case("OFF"))));
    } else if cursor.take(&["UNION"]) {
        cursor.take_symbol("=");
        cursor.group()?;
    } else if cursor.is_kind(0, Kind::Word) && SIMPLE.contains(&what.as_str()) {
        cursor.advance();
        value(cursor)?;
    } else {
        return Ok(None);
    }
    Ok(Some(TableOption::Harmless(what.to_ascii_lowercase())))
}

/// `[=] value`: a word, a name, a string or a number.
pub(super) fn value(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    cursor.take_symbol("=");
    if cursor.is_symbol(0, "-") {
        cursor.advance();
    }
    if cursor.peek(0).is_none_or(|token| token.kind == Kind::Symbol) {
        return Err(cursor.expected("a value"));
    }
    cursor.advance();
    Ok(())
}

/// `[=] column + INTERVAL n unit`. The rows that the source deletes by it are in no message.
fn time_to_live(cursor: &mut Cursor<'_>) -> Result<(), DdlError> {
    cursor.take_symbol("=");
    cursor.name("a column name")?;
    cursor.expect_symbol("+")?;
    cursor.expect(&["INTERVAL"])?;
    if cursor.is_symbol(0, "(") {
        cursor.group()?;
    } else {
        value(cursor)?;
    }
    cursor.name("a unit of time")?;
    Ok(())
}

/// `ALGORITHM [=] x`, `LOCK [=] x` where it stands.
pub(super) fn algorithm_or_lock(cursor: &mut Cursor<'_>) -> Result<bool, DdlError> {
    let here = cursor.take_any(&["ALGORITHM", "LOCK"]);
    if here {
        value(cursor)?;
    }
    Ok(here)
}

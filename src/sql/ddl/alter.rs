//! The clauses of ALTER TABLE.

use crate::model::Partitioning;

use super::ast::{AlterClause, ColumnPosition};
use super::charset;
use super::column;
use super::column_type;
use super::create;
use super::cursor::Cursor;
use super::error::DdlError;
use super::key::{self, Element};
use super::partition;
use super::table_option::{self, TableOption};

type Clauses = Vec<AlterClause>;

/// Every clause in the order of the text; at least one.
pub(super) fn clauses(cursor: &mut Cursor<'_>) -> Result<Clauses, DdlError> {
    let mut clauses = Vec::new();
    loop {
        let options = clause(cursor, &mut clauses)?;
        // Options and partitioning may follow options without a comma.
        let joined = options && (is_partitioning(cursor) || is_option(cursor));
        if !joined && !cursor.take_symbol(",") && !is_partitioning(cursor) {
            break;
        }
    }
    Ok(clauses)
}

fn is_partitioning(cursor: &Cursor<'_>) -> bool {
    cursor.are(&["PARTITION", "BY"]) || cursor.are(&["REMOVE", "PARTITIONING"])
}

fn is_option(cursor: &mut Cursor<'_>) -> bool {
    let mark = cursor.mark();
    let option = matches!(table_option::table_option(cursor), Ok(Some(_)));
    cursor.back(mark);
    option
}

fn harmless(what: impl Into<String>) -> AlterClause {
    AlterClause::Harmless { what: what.into() }
}

/// Reads one clause (several for `ADD COLUMN (...)`); true when it was an option of the table.
fn clause(cursor: &mut Cursor<'_>, out: &mut Clauses) -> Result<bool, DdlError> {
    let mark = cursor.mark();
    let word = cursor.word(0);
    if let Some(option) = option(cursor)? {
        merge_option(out, option);
        return Ok(true);
    }
    cursor.advance();
    let clause = match word.as_str() {
        "ADD" => return add(cursor, out).map(|()| false),
        "DROP" => drop(cursor)?,
        "MODIFY" => {
            cursor.take(&["COLUMN"]);
            let if_exists = cursor.if_exists();
            change(cursor, None, if_exists)?
        }
        "CHANGE" => {
            cursor.take(&["COLUMN"]);
            let if_exists = cursor.if_exists();
            let old = cursor.name("a column name")?;
            change(cursor, Some(old), if_exists)?
        }
        "ALTER" => alter(cursor)?,
        "RENAME" => rename(cursor)?,
        "CONVERT" => {
            cursor.expect(&["TO"])?;
            let charset = column_type::charset_clause(cursor)?;
            let charset = charset.ok_or_else(|| cursor.expected("`CHARACTER SET`"))?;
            let collation = column_type::collation_clause(cursor)?.flatten();
            let charset = charset.unwrap_or_else(|| "default".to_owned());
            AlterClause::ConvertCharset { charset, collation }
        }
        "TRUNCATE" | "REORGANIZE" | "EXCHANGE" | "COALESCE" | "PARTITION" => partitions(cursor, mark, &word)?,
        "FIRST" if cursor.take(&["PARTITION", "LESS", "THAN"]) => {
            AlterClause::FirstPartition { bound: cursor.group_items()? }
        }
        // What a TiDB writes as ADD or REORGANIZE PARTITION: no row moves, but the partitions are not listed any more.
        "LAST" | "MERGE" | "SPLIT" if interval(cursor, &word) => {
            cursor.group()?;
            let text = cursor.source_since(mark);
            AlterClause::SetPartitioning { partitioning: Some(Partitioning::Other { text }) }
        }
        "REMOVE" if cursor.take(&["PARTITIONING"]) => AlterClause::SetPartitioning { partitioning: None },
        "REMOVE" if cursor.take(&["TTL"]) => harmless("remove ttl"),
        "SET" if cursor.take(&["TIFLASH", "REPLICA"]) || cursor.take(&["HYPO", "TIFLASH", "REPLICA"]) => {
            create::tiflash_replica(cursor)?;
            harmless("tiflash replica")
        }
        "ANALYZE" | "CHECK" | "OPTIMIZE" | "REPAIR" | "REBUILD" if cursor.is(0, "PARTITION") => {
            cursor.skip_statement();
            harmless(format!("{} partition", word.to_ascii_lowercase()))
        }
        // The columns of ORDER BY hold commas; it is the last clause.
        "COMPACT" | "ORDER" => {
            cursor.skip_statement();
            harmless(word.to_ascii_lowercase())
        }
        "DISABLE" | "ENABLE" if cursor.take(&["KEYS"]) => harmless("keys"),
        "CACHE" | "NOCACHE" | "FORCE" | "SECONDARY_LOAD" | "SECONDARY_UNLOAD" => {
            harmless(word.to_ascii_lowercase())
        }
        "WITH" | "WITHOUT" if cursor.take(&["VALIDATION"]) => harmless("validation"),
        _ => {
            cursor.back(mark);
            return Err(not_understood(cursor));
        }
    };
    out.push(clause);
    Ok(false)
}

fn not_understood(cursor: &Cursor<'_>) -> DdlError {
    cursor.expected("a clause of ALTER TABLE")
}

/// LAST PARTITION, MERGE FIRST PARTITION, SPLIT MAXVALUE PARTITION, each LESS THAN (bound).
fn interval(cursor: &mut Cursor<'_>, word: &str) -> bool {
    match word {
        "LAST" => cursor.take(&["PARTITION", "LESS", "THAN"]),
        "MERGE" => cursor.take(&["FIRST", "PARTITION", "LESS", "THAN"]),
        _ => cursor.take(&["MAXVALUE", "PARTITION", "LESS", "THAN"]),
    }
}

fn option(cursor: &mut Cursor<'_>) -> Result<Option<TableOption>, DdlError> {
    if table_option::algorithm_or_lock(cursor)? {
        return Ok(Some(TableOption::Harmless("algorithm or lock".to_owned())));
    }
    table_option::table_option(cursor)
}

/// Character set and collation of one statement are one clause.
fn merge_option(out: &mut Clauses, option: TableOption) {
    match (option, out.last_mut()) {
        (
            TableOption::Collation(collation),
            Some(AlterClause::DefaultCharset { charset: Some(_), collation: missing @ None }),
        ) => *missing = collation,
        (TableOption::Collation(collation), _) => {
            let charset = collation.as_deref().map(|name| charset::of_collation(name).to_owned());
            out.push(AlterClause::DefaultCharset { charset, collation });
        }
        (TableOption::Charset(charset), _) => {
            out.push(AlterClause::DefaultCharset { charset, collation: None });
        }
        (TableOption::Comment(text), _) => out.push(AlterClause::Comment { text }),
        (TableOption::Harmless(what), _) => out.push(harmless(what)),
        (TableOption::TimeToLive(on), _) => out.push(harmless(if on { "ttl" } else { "remove ttl" })),
    }
}

fn add(cursor: &mut Cursor<'_>, out: &mut Clauses) -> Result<(), DdlError> {
    if cursor.take(&["PARTITION"]) {
        cursor.if_not_exists();
        cursor.take_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        out.push(if cursor.take(&["PARTITIONS"]) {
            AlterClause::ChangePartitionCount { by: i64::from(cursor.number("a number of partitions")?) }
        } else {
            AlterClause::AddPartitions { partitioning: partition::definitions(cursor)? }
        });
        return partition::update_indexes(cursor);
    }
    let statistics = ["CARDINALITY", "CORRELATION", "DEPENDENCY"].iter().any(|kind| cursor.is(2, kind));
    if cursor.is(0, "STATS_EXTENDED") && (statistics || cursor.is(1, "IF")) {
        cursor.advance();
        cursor.if_not_exists();
        cursor.name("a name")?;
        cursor.name("a kind of statistics")?;
        cursor.group()?;
        out.push(harmless("extended statistics"));
        return Ok(());
    }
    if let Some(element) = key::constraint(cursor)? {
        push_element(out, element, None, false);
        return Ok(());
    }
    cursor.take(&["COLUMN"]);
    let if_not_exists = cursor.if_not_exists();
    if cursor.take_symbol("(") {
        for element in cursor.list(key::element)? {
            push_element(out, element, None, if_not_exists);
        }
        return cursor.expect_symbol(")");
    }
    let written = column::column(cursor)?;
    let position = position(cursor)?;
    push_element(out, Element::Column(written), position, if_not_exists);
    Ok(())
}

fn push_element(out: &mut Clauses, element: Element, position: Option<ColumnPosition>, if_not_exists: bool) {
    out.push(match element {
        Element::Column(mut written) => {
            written.settle(None);
            AlterClause::AddColumn { column: written.column, position, keys: written.keys, if_not_exists }
        }
        Element::Key { key, if_not_exists } => AlterClause::AddKey { key, if_not_exists },
        Element::ForeignKey { .. } => harmless("foreign key"),
        Element::Check => harmless("check"),
    });
}

fn position(cursor: &mut Cursor<'_>) -> Result<Option<ColumnPosition>, DdlError> {
    if cursor.take(&["FIRST"]) {
        return Ok(Some(ColumnPosition::First));
    }
    if cursor.take(&["AFTER"]) {
        return Ok(Some(ColumnPosition::After(cursor.name("a column name")?)));
    }
    Ok(None)
}

/// What follows MODIFY (`old` is None) or CHANGE and the old name.
fn change(cursor: &mut Cursor<'_>, old: Option<String>, if_exists: bool) -> Result<AlterClause, DdlError> {
    let mark = cursor.mark();
    let mut written = column::column(cursor)?;
    let position = position(cursor)?;
    if !written.keys.is_empty() {
        cursor.back(mark);
        return Err(cursor.expected("a changed column without a key, as in TiDB"));
    }
    written.settle(None);
    let column = written.column;
    let old = old.unwrap_or_else(|| column.name.clone());
    Ok(AlterClause::ChangeColumn { old, column, position, if_exists })
}

fn drop(cursor: &mut Cursor<'_>) -> Result<AlterClause, DdlError> {
    if cursor.take(&["PRIMARY", "KEY"]) {
        return Ok(AlterClause::DropPrimaryKey);
    }
    if cursor.take_any(&["INDEX", "KEY"]) {
        let if_exists = cursor.if_exists();
        return Ok(AlterClause::DropKey { name: cursor.name("a key name")?, if_exists });
    }
    if cursor.take(&["PARTITION"]) {
        let if_exists = cursor.if_exists();
        return Ok(AlterClause::DropPartitions { names: partition_names(cursor)?, if_exists });
    }
    // In TiDB a constraint that is dropped by name is a check.
    let other = if cursor.take(&["FOREIGN", "KEY"]) {
        Some("foreign key")
    } else if cursor.take_any(&["CHECK", "CONSTRAINT"]) {
        Some("check")
    } else if cursor.is(0, "STATS_EXTENDED") && (cursor.is_name(1) || cursor.is(1, "IF")) {
        cursor.advance();
        Some("extended statistics")
    } else {
        None
    };
    if let Some(what) = other {
        cursor.if_exists();
        cursor.name("a name")?;
        return Ok(harmless(what));
    }
    cursor.take(&["COLUMN"]);
    let if_exists = cursor.if_exists();
    let name = cursor.name("a column name")?;
    cursor.take_any(&["RESTRICT", "CASCADE"]);
    Ok(AlterClause::DropColumn { name, if_exists })
}

fn alter(cursor: &mut Cursor<'_>) -> Result<AlterClause, DdlError> {
    if cursor.take(&["INDEX"]) {
        cursor.name("an index name")?;
        if !cursor.take_any(&["VISIBLE", "INVISIBLE"]) {
            return Err(cursor.expected("`VISIBLE` or `INVISIBLE`"));
        }
        return Ok(harmless("index visibility"));
    }
    if cursor.take_any(&["CHECK", "CONSTRAINT"]) {
        cursor.name("a constraint name")?;
        if !key::enforced(cursor) {
            return Err(cursor.expected("`ENFORCED` or `NOT ENFORCED`"));
        }
        return Ok(harmless("check"));
    }
    cursor.take(&["COLUMN"]);
    let column = cursor.name("a column name")?;
    if cursor.take(&["SET", "DEFAULT"]) {
        let default = column::default(cursor)?;
        return Ok(AlterClause::SetDefault { column, default: Some(default) });
    }
    if cursor.take(&["DROP", "DEFAULT"]) {
        return Ok(AlterClause::SetDefault { column, default: None });
    }
    Err(cursor.expected("`SET DEFAULT` or `DROP DEFAULT`"))
}

fn rename(cursor: &mut Cursor<'_>) -> Result<AlterClause, DdlError> {
    if cursor.take(&["COLUMN"]) {
        let (old, new) = renamed(cursor, "a column name")?;
        return Ok(AlterClause::RenameColumn { old, new });
    }
    if cursor.take_any(&["INDEX", "KEY"]) {
        let (old, new) = renamed(cursor, "an index name")?;
        return Ok(AlterClause::RenameKey { old, new });
    }
    let _ = cursor.take_any(&["TO", "AS"]) || cursor.take_symbol("=");
    Ok(AlterClause::Rename { to: cursor.object_name("a table name")? })
}

fn renamed(cursor: &mut Cursor<'_>, what: &str) -> Result<(String, String), DdlError> {
    let old = cursor.name(what)?;
    cursor.expect(&["TO"])?;
    Ok((old, cursor.name(what)?))
}

/// The clauses that begin with a verb for partitions; `word` is the verb, `mark` its place.
fn partitions(cursor: &mut Cursor<'_>, mark: usize, word: &str) -> Result<AlterClause, DdlError> {
    if word == "PARTITION" {
        if cursor.take(&["BY"]) {
            let partitioning = Some(partition::partitioning(cursor)?);
            return Ok(AlterClause::SetPartitioning { partitioning });
        }
        cursor.name("a partition name")?;
        return match table_option::table_option(cursor)? {
            Some(TableOption::Harmless(what)) => Ok(harmless(format!("partition {what}"))),
            _ => Err(cursor.expected("`ATTRIBUTES` or `PLACEMENT POLICY`")),
        };
    }
    if !cursor.take(&["PARTITION"]) {
        cursor.back(mark);
        return Err(not_understood(cursor));
    }
    if word == "EXCHANGE" {
        let partition = cursor.name("a partition name")?;
        cursor.expect(&["WITH", "TABLE"])?;
        let table = cursor.object_name("a table name")?;
        if cursor.take_any(&["WITH", "WITHOUT"]) {
            cursor.expect(&["VALIDATION"])?;
        }
        return Ok(AlterClause::ExchangePartition { partition, table });
    }
    cursor.take_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
    match word {
        "COALESCE" => {
            let by = -i64::from(cursor.number("a number of partitions")?);
            Ok(AlterClause::ChangePartitionCount { by })
        }
        "TRUNCATE" if cursor.take(&["ALL"]) => Ok(AlterClause::TruncatePartitions { names: None }),
        "TRUNCATE" => Ok(AlterClause::TruncatePartitions { names: Some(partition_names(cursor)?) }),
        _ if !cursor.is_name(0) => Ok(harmless("reorganize partition")),
        _ => {
            let names = partition_names(cursor)?;
            cursor.expect(&["INTO"])?;
            let partitioning = partition::definitions(cursor)?;
            partition::update_indexes(cursor)?;
            Ok(AlterClause::ReorganizePartitions { names, partitioning })
        }
    }
}

fn partition_names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, DdlError> {
    cursor.list(|cursor| cursor.name("a partition name"))
}

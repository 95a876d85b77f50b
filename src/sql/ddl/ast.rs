//! What a DDL statement of the source says, with names as written (unqualified ones are resolved by the catalog).

use serde::{Deserialize, Serialize};

use crate::model::{Column, ColumnDefault, Key, Partitioning, Table, TableName};

/// `[schema.]name` as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    pub schema: Option<String>,
    pub name: String,
}

impl ObjectName {
    /// Fills in the schema where the text has none.
    pub fn or_schema(&self, schema: &str) -> TableName {
        TableName::new(self.schema.as_deref().unwrap_or(schema), &self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "statement", rename_all = "snake_case")]
pub enum Statement {
    CreateDatabase {
        name: String,
        if_not_exists: bool,
        charset: Option<String>,
        collation: Option<String>,
    },
    /// `name` is None for `ALTER DATABASE CHARACTER SET ...` of the session's schema.
    AlterDatabase {
        name: Option<String>,
        charset: Option<String>,
        collation: Option<String>,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    /// `table.name.schema` is empty where the text has none.
    CreateTable {
        name: ObjectName,
        if_not_exists: bool,
        table: Table,
    },
    CreateTableLike {
        name: ObjectName,
        source: ObjectName,
        if_not_exists: bool,
        /// GLOBAL TEMPORARY: its rows are in no message.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        temporary: bool,
    },
    DropTable {
        names: Vec<ObjectName>,
        if_exists: bool,
        temporary: bool,
    },
    TruncateTable {
        name: ObjectName,
    },
    /// In the order of the text; each pair sees the effect of those before it.
    RenameTable {
        pairs: Vec<(ObjectName, ObjectName)>,
    },
    AlterTable {
        name: ObjectName,
        clauses: Vec<AlterClause>,
    },
    CreateIndex {
        table: ObjectName,
        key: Key,
        if_not_exists: bool,
    },
    DropIndex {
        table: ObjectName,
        name: String,
        if_exists: bool,
    },
    /// CREATE [OR REPLACE] VIEW, DROP VIEW, ALTER VIEW.
    View {
        names: Vec<ObjectName>,
    },
    /// RECOVER TABLE, FLASHBACK TABLE/DATABASE/CLUSTER: rows come back without row events.
    Recover {
        names: Vec<ObjectName>,
    },
    /// Known and without effect on rows or layout of a target: sequences, placement policies, TiFlash, users, statistics, ...
    Harmless {
        what: String,
    },
}

/// Where ADD/MODIFY/CHANGE COLUMN puts the column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnPosition {
    First,
    After(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "clause", rename_all = "snake_case")]
pub enum AlterClause {
    /// `keys`: from column-level PRIMARY KEY / UNIQUE.
    AddColumn {
        column: Column,
        position: Option<ColumnPosition>,
        keys: Vec<Key>,
        if_not_exists: bool,
    },
    DropColumn {
        name: String,
        if_exists: bool,
    },
    /// MODIFY [COLUMN] (`old` equals the new name) and CHANGE [COLUMN].
    ChangeColumn {
        old: String,
        column: Column,
        position: Option<ColumnPosition>,
        if_exists: bool,
    },
    RenameColumn {
        old: String,
        new: String,
    },
    /// ALTER COLUMN SET/DROP DEFAULT.
    SetDefault {
        column: String,
        default: Option<ColumnDefault>,
    },
    AddKey {
        key: Key,
        if_not_exists: bool,
    },
    DropPrimaryKey,
    DropKey {
        name: String,
        if_exists: bool,
    },
    RenameKey {
        old: String,
        new: String,
    },
    Rename {
        to: ObjectName,
    },
    /// CONVERT TO CHARACTER SET: columns change too.
    ConvertCharset {
        charset: String,
        collation: Option<String>,
    },
    /// [DEFAULT] CHARACTER SET / COLLATE: only the default for later columns.
    DefaultCharset {
        charset: Option<String>,
        collation: Option<String>,
    },
    Comment {
        text: String,
    },
    AddPartitions {
        partitioning: PartitionDefinitions,
    },
    DropPartitions {
        names: Vec<String>,
        if_exists: bool,
    },
    /// FIRST PARTITION LESS THAN (bound) of interval partitioning: the partitions in front of the one with this bound go. A TiDB writes the DROP
    /// PARTITION that it stands for.
    FirstPartition {
        bound: Vec<String>,
    },
    /// None = ALL
    TruncatePartitions {
        names: Option<Vec<String>>,
    },
    /// REORGANIZE PARTITION names INTO (...).
    ReorganizePartitions {
        names: Vec<String>,
        partitioning: PartitionDefinitions,
    },
    ExchangePartition {
        partition: String,
        table: ObjectName,
    },
    /// ALTER TABLE ... PARTITION BY ... ; None = REMOVE PARTITIONING
    SetPartitioning {
        partitioning: Option<Partitioning>,
    },
    /// ADD PARTITION PARTITIONS n (positive) and COALESCE PARTITION n (negative) of HASH and KEY.
    ChangePartitionCount {
        by: i64,
    },
    /// Known and without effect on rows or layout: index visibility, foreign keys, checks, AUTO_INCREMENT, TTL, TIFLASH, ALGORITHM, ...
    Harmless {
        what: String,
    },
}

/// Partition definitions in ADD and REORGANIZE PARTITION, source text as in [`Partitioning`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionDefinitions {
    Range(Vec<(String, Vec<String>)>),
    List(Vec<(String, Vec<Vec<String>>)>),
    /// HASH and KEY: names alone.
    Named(Vec<String>),
}

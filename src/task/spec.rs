//! The spec of a task as users write and read it (api.md section 4): plain data with its defaults.
//! [`crate::task::selection`] compiles the names in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::table_spec::{ColumnRules, Operation, Operations, TableDdl, TableKind, TableSpec};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Unique; can be changed.
    #[schema(pattern = "^[a-z0-9-]{1,63}$")]
    pub name: String,
    /// Words of your own to select tasks by: `?label=env=prod`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where rows and changes come from.
    pub source: SourceSpec,
    /// Name of an `adb` or `mysql` connection.
    pub target: String,
    /// What the task does, in this order.
    #[serde(default)]
    pub phases: Phases,
    /// Where an incremental-only task starts.
    #[serde(default)]
    pub start_at: Option<StartAt>,
    /// Which tables, and what they are called on the target.
    pub objects: Objects,
    /// Case of the target's names, where no rule gives one.
    #[serde(default)]
    pub names: NameCase,
    /// What to do with tables that are on the target already.
    #[serde(default)]
    pub existing_tables: ExistingTables,
    /// What to do with each kind of DDL in the stream.
    #[serde(default)]
    pub ddl: DdlPolicies,
    /// Tools that change tables by way of a copy (gh-ost, pt-osc).
    #[serde(default)]
    pub online_ddl: OnlineDdl,
    /// What becomes of values that AnalyticDB does not have.
    #[serde(default)]
    pub lossy: LossyPolicies,
    /// What one bad row or table does to the task, and how long trouble is tried again.
    #[serde(default)]
    pub errors: ErrorPolicies,
    /// What to do with tables that have neither a primary key nor a unique one over NOT NULL columns.
    #[serde(default)]
    pub tables_without_key: TablesWithoutKey,
    /// Many tables of one layout into one.
    #[serde(default)]
    pub merge: Option<Merge>,
    /// Ids of precheck items whose warnings are accepted.
    #[serde(default)]
    pub waivers: Vec<String>,
    /// The most that the task may do in a second.
    #[serde(default)]
    pub throttle: Throttle,
    /// Sizes; the defaults suit most.
    #[serde(default)]
    pub tuning: Tuning,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Name of a `tidb` connection; may be left out for incremental alone.
    #[serde(default)]
    pub tidb: Option<String>,
    /// Name of a `kafka` connection; may be left out without incremental.
    #[serde(default)]
    pub kafka: Option<String>,
    /// The topic that Drainer writes to; by Drainer's default `<cluster id>_obinlog`.
    #[serde(default)]
    #[schema(pattern = "^[a-zA-Z0-9._-]{1,249}$")]
    pub topic: Option<String>,
    /// Who writes the topic.
    #[serde(default)]
    pub format: SourceFormat,
    /// Zone of the Drainer process (source-drainer.md 0.3): an IANA name or a fixed offset such as `+08:00`.
    #[serde(default = "utc")]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    #[default]
    Drainer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    /// Create the tables on the target.
    pub schema: bool,
    /// Copy the rows that are there.
    pub full: bool,
    /// Follow the topic from then on.
    pub incremental: bool,
}

impl Default for Phases {
    fn default() -> Self {
        Self { schema: true, full: true, incremental: true }
    }
}

/// `"earliest"`, `"latest"`, `{"offset": "12"}`, `{"tso": "..."}` or `{"time": "..."}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    Earliest,
    Latest,
    Offset(String),
    Tso(String),
    /// RFC 3339
    Time(String),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// `schema.table`; `*` and `?` are globs outside backticks.
    #[schema(min_items = 1, max_items = 10000)]
    pub include: Vec<String>,
    /// What of that is left out, in the same form.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Rules of whole schemas, by the source's name.
    #[serde(default)]
    pub schemas: BTreeMap<String, SchemaSpec>,
    /// Rules of single tables, by `schema.table` at the source.
    #[serde(default)]
    pub tables: BTreeMap<String, TableSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaSpec {
    /// Name of the schema on the target.
    #[serde(default)]
    pub target: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameCase {
    #[default]
    AsSource,
    Lower,
    Upper,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExistingTables {
    /// Precheck fails when a table of the same name exists.
    #[default]
    Refuse,
    /// Rows already there win in full sync.
    Keep,
    /// Rows of the source replace rows already there.
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DdlPolicy {
    Apply,
    Ignore,
    Stop,
    /// Apply; where the target cannot follow, copy the table again in its new layout. For the four kinds about columns.
    Rebuild,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DdlPolicies {
    /// CREATE DATABASE, and its charset.
    pub create_database: DdlPolicy,
    /// DROP DATABASE.
    pub drop_database: DdlPolicy,
    /// CREATE TABLE.
    pub create_table: DdlPolicy,
    /// DROP TABLE.
    pub drop_table: DdlPolicy,
    /// TRUNCATE TABLE.
    pub truncate_table: DdlPolicy,
    /// RENAME TABLE.
    pub rename_table: DdlPolicy,
    /// ADD COLUMN.
    pub add_column: DdlPolicy,
    /// DROP COLUMN.
    pub drop_column: DdlPolicy,
    /// RENAME COLUMN, and CHANGE to another name.
    pub rename_column: DdlPolicy,
    /// MODIFY COLUMN, and CHANGE to another type or default.
    pub modify_column: DdlPolicy,
    /// what adds, drops, empties and exchanges partitions.
    pub partition: DdlPolicy,
    /// CREATE and DROP VIEW.
    pub view: DdlPolicy,
    /// what is none of these and not known to be harmless.
    pub other: DdlPolicy,
}

impl Default for DdlPolicies {
    fn default() -> Self {
        use DdlPolicy::{Apply, Ignore, Stop};
        Self {
            create_database: Apply,
            drop_database: Stop,
            create_table: Apply,
            drop_table: Apply,
            truncate_table: Apply,
            rename_table: Apply,
            add_column: Apply,
            drop_column: Apply,
            rename_column: Apply,
            modify_column: Apply,
            partition: Apply,
            view: Ignore,
            other: Stop,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineDdl {
    /// What to do with their shadow tables.
    pub mode: OnlineDdlMode,
    /// Regular expressions on names of tables; the first group is the name of the real table.
    pub shadow_patterns: Vec<String>,
}

impl Default for OnlineDdl {
    fn default() -> Self {
        Self {
            mode: OnlineDdlMode::Follow,
            shadow_patterns: vec!["^_(.+)_(gho|ghc|del)$".to_owned(), "^_(.+)_(new|old)$".to_owned()],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnlineDdlMode {
    /// Shadow tables are synchronised like any.
    Follow,
    /// Shadow tables are left out; the real table is copied again when one takes its place.
    Ignore,
    /// The task stops at the first shadow table.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossyPolicy {
    /// Precheck fails; a value met later stops the task.
    Refuse,
    /// The nearest value that fits, counted; never in a key, distribution or partition column.
    Clamp,
    /// The column becomes VARCHAR on the target and holds the source's text.
    Varchar,
}

/// What becomes of values that AnalyticDB does not have (docs/fidelity.md); on mysql every value is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossyPolicies {
    /// TIME outside 00:00:00 to 23:59:59.
    pub time: LossyPolicy,
    /// Dates that no calendar has: `0000-00-00`, a zero month or day, the 31st of February.
    pub zero_date: LossyPolicy,
    /// DECIMAL of more than 38 digits.
    pub decimal: LossyPolicy,
    /// Times finer than milliseconds.
    pub fraction: LossyPolicy,
}

impl Default for LossyPolicies {
    fn default() -> Self {
        Self {
            time: LossyPolicy::Refuse,
            zero_date: LossyPolicy::Refuse,
            decimal: LossyPolicy::Refuse,
            fraction: LossyPolicy::Clamp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorPolicies {
    /// A row that the target refuses.
    pub row: RowErrorPolicy,
    /// An error that concerns one table.
    pub table: TableErrorPolicy,
    /// More rows than this set aside stop the task.
    pub dead_letter_limit: u32,
    /// How long an endpoint that cannot be reached is tried again, without progress in between; milliseconds.
    #[schema(minimum = 0, maximum = 31536000000u64)]
    pub connection_retry_ms: u64,
    /// How long deadlocks, lock waits and busy servers are tried again; milliseconds.
    #[schema(minimum = 0, maximum = 31536000000u64)]
    pub other_retry_ms: u64,
}

impl Default for ErrorPolicies {
    fn default() -> Self {
        Self {
            row: RowErrorPolicy::Stop,
            table: TableErrorPolicy::StopTask,
            dead_letter_limit: 1000,
            connection_retry_ms: 43_200_000,
            other_retry_ms: 600_000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowErrorPolicy {
    Stop,
    DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableErrorPolicy {
    StopTask,
    /// An error that concerns one table stops that table; the others go on, and a resync brings it back.
    StopTable,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TablesWithoutKey {
    #[default]
    Refuse,
    /// A change finds its row by all columns; MySQL targets only.
    MatchRow,
}

/// Many tables into one; DDL is off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// Column that says where a row came from.
    pub column: String,
    /// What it holds; `{task}`, `{schema}` and `{table}` are filled in.
    pub value: String,
}

/// null = no limit, 0 = stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    pub full_rows_per_second: Option<u64>,
    pub full_bytes_per_second: Option<u64>,
    pub incremental_rows_per_second: Option<u64>,
    pub incremental_bytes_per_second: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Connections to the target.
    #[schema(minimum = 1, maximum = 256)]
    pub connections: u32,
    /// Bound of everything the task holds in flight.
    #[schema(minimum = 16777216)]
    pub memory_bytes: u64,
    /// Rows of one chunk of full sync.
    #[schema(minimum = 1, maximum = 10000000)]
    pub chunk_rows: u64,
    /// Rows of one statement.
    #[schema(minimum = 1, maximum = 100000)]
    pub batch_rows: u32,
    /// Bytes of one statement.
    #[schema(minimum = 1024, maximum = 67108864)]
    pub batch_bytes: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connections: 8,
            memory_bytes: 268_435_456,
            chunk_rows: 50_000,
            batch_rows: 4096,
            batch_bytes: 4_194_304,
        }
    }
}

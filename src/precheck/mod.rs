//! Asks source, stream and target what a task will need of them, before it needs it; tests connections; lists what they hold.
//!
//! [`run`] answers with one item per question, never with an error: what could not be asked is said in the item. Nothing is
//! written anywhere. Messages name objects, figures and settings; never a secret, never a row's value.

mod broker;
mod catalog;
mod connection;
mod existing;
mod finding;
mod grants;
mod inventory;
mod message;
mod plans;
mod rules;
mod server;
mod source;
mod stream;
mod tables;
mod target;

#[cfg(test)]
mod stack_tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use catalog::{CatalogTable, CatalogTopic, catalog_kafka, catalog_mysql};
pub use connection::{TestStep, test_kafka, test_mysql};
pub use source::RENAMES;

use self::finding::Finding;
use self::inventory::Inventory;
use self::server::Server;
use crate::error::Endpoint;
use crate::model::{Dialect, KafkaEndpoint, MysqlEndpoint, TableName};
use crate::task::selection::Selection;
use crate::task::spec::Spec;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Pass,
    /// Blocks the start unless the spec waives it.
    Warn,
    /// Blocks the start.
    Fail,
    /// Not asked, or no answer to be had; blocks nothing.
    Skipped,
}

/// The answer to one question.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PrecheckItem {
    /// `source.`, `kafka.`, `target.` or `tables.` and the subject.
    pub id: String,
    pub outcome: CheckOutcome,
    /// The first 20 objects concerned.
    pub objects: Vec<String>,
    pub object_count: u64,
    /// What was found, with its figures.
    pub detail: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// True for warnings: the spec may list the id in `waivers`.
    pub waivable: bool,
    pub waived: bool,
    /// No answer came. A task that starts waits for what may be over in a moment.
    #[serde(skip)]
    pub outage: bool,
}

/// What a precheck looks at: the task, and its connections with their secrets opened.
#[derive(Debug, Clone)]
pub struct PrecheckInput {
    pub spec: Arc<Spec>,
    /// None where incremental sync alone follows the topic.
    pub source: Option<MysqlEndpoint>,
    /// None without incremental sync.
    pub kafka: Option<KafkaEndpoint>,
    pub target: MysqlEndpoint,
    pub dialect: Dialect,
    /// Tables of the target that the task made before it was reset: they are not in its way.
    pub own: HashSet<TableName>,
}

/// True when the task may not start: a failure, or a warning that is not waived.
pub fn blocks(items: &[PrecheckItem]) -> bool {
    items.iter().any(PrecheckItem::blocks)
}

impl PrecheckItem {
    pub fn blocks(&self) -> bool {
        match self.outcome {
            CheckOutcome::Fail => true,
            CheckOutcome::Warn => !self.waived,
            CheckOutcome::Pass | CheckOutcome::Skipped => false,
        }
    }
}

/// Asks everything; source, Kafka and target at the same time, each question with a time limit.
pub async fn run(input: PrecheckInput) -> Vec<PrecheckItem> {
    let spec = &*input.spec;
    let mut source = input.source.as_ref().map(|endpoint| Server::new(endpoint, Endpoint::Source));
    let mut target = Server::new(&input.target, Endpoint::Target);
    let selection = Selection::new(spec);

    let (mut of_source, of_kafka, mut of_target, inventory) = tokio::join!(
        Box::pin(of_source(source.as_mut(), spec)),
        Box::pin(stream::checks(input.kafka.as_ref(), spec)),
        Box::pin(target::checks(&mut target, spec, input.dialect)),
        Box::pin(inventory_of(input.source.as_ref(), &selection)),
    );

    let nothing = Inventory::default();
    let known = inventory.as_ref().unwrap_or(&nothing);
    let schemas = target_schemas(known, selection.as_ref().ok());
    let names: Vec<TableName> = known.tables.iter().map(|table| table.name.clone()).collect();
    let (read, write, of_tables) = tokio::join!(
        Box::pin(read_privileges(source.as_mut(), &of_source, &names)),
        Box::pin(write_privileges(&mut target, &of_target, &input, &schemas)),
        Box::pin(tables::checks(&input, &inventory, &schemas)),
    );
    of_source.push(("source.privileges", read));
    of_target.push(("target.privileges", write));
    if let Some(source) = source {
        source.close().await;
    }
    target.close().await;
    of_source
        .into_iter()
        .chain(of_kafka)
        .chain(of_target)
        .chain(of_tables)
        .map(|(id, finding)| finding.into_item(id, &spec.waivers))
        .collect()
}

async fn of_source(server: Option<&mut Server>, spec: &Spec) -> Vec<(&'static str, Finding)> {
    if let Some(server) = server {
        return source::checks(server, spec).await;
    }
    let finding = if spec.phases.full || spec.phases.schema {
        Finding::fail(
            "schema and full sync read TiDB, and the task names no tidb connection",
            "set source.tidb, or turn phases.schema and phases.full off",
        )
    } else {
        Finding::skipped("the task follows the topic alone: it has no tidb connection")
    };
    vec![("source.connect", finding)]
}

/// What the source holds of the selection, or why that is not known.
async fn inventory_of(
    source: Option<&MysqlEndpoint>,
    selection: &Result<Selection, Vec<crate::task::fault::Fault>>,
) -> Result<Inventory, Finding> {
    let selection = selection.as_ref().map_err(|faults| {
        Finding::fail("objects of the spec cannot be used", "correct the names in objects")
            .objects(faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)))
    })?;
    let Some(source) = source else {
        return Err(Finding::skipped(
            "without a tidb connection tables are known only once the stream names them",
        ));
    };
    inventory::read(source, selection)
        .await
        .map_err(|error| Finding::skipped(format!("the tables of the source could not be read: {error}")))
}

/// Where the task writes, as far as that is known before it runs.
fn target_schemas(inventory: &Inventory, selection: Option<&Selection>) -> BTreeSet<String> {
    let mut schemas: BTreeSet<String> =
        inventory.tables.iter().map(|table| table.target.schema.clone()).collect();
    if let Some(selection) = selection {
        schemas.extend(selection.literals().map(|name| selection.target(name).schema));
    }
    schemas
}

fn is_connected(findings: &[(&'static str, Finding)]) -> bool {
    findings.first().is_some_and(|(_, connected)| connected.outcome == CheckOutcome::Pass)
}

async fn read_privileges(
    server: Option<&mut Server>,
    of_source: &[(&'static str, Finding)],
    tables: &[TableName],
) -> Finding {
    match server {
        Some(server) if is_connected(of_source) => source::privileges(server, tables).await,
        _ => Finding::skipped("no login to the source"),
    }
}

async fn write_privileges(
    server: &mut Server,
    of_target: &[(&'static str, Finding)],
    input: &PrecheckInput,
    schemas: &BTreeSet<String>,
) -> Finding {
    if !is_connected(of_target) {
        return Finding::skipped("no login to the target");
    }
    target::privileges(server, &input.spec, input.dialect, schemas).await
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_unwaived_warnings_block() {
        let item = |finding: Finding, waivers: &[&str]| {
            finding.into_item("a", &waivers.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
        };
        assert!(!blocks(&[item(Finding::pass(""), &[]), item(Finding::skipped(""), &[])]));
        assert!(blocks(&[item(Finding::warn("", ""), &[])]));
        assert!(!blocks(&[item(Finding::warn("", ""), &["a"])]));
        assert!(blocks(&[item(Finding::fail("", ""), &["a"])]));
    }
}

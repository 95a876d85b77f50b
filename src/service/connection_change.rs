//! What a change of a connection does to the tasks that use it, and whether it still leads to where their data is.

use std::collections::HashSet;

use super::connections::{ENDPOINT_PATIENCE, too_slow};
use super::{Answer, Refusal, Service};
use crate::binlog::Topic;
use crate::engine::endpoints::Opened;
use crate::error::{Endpoint, Error};
use crate::model::{MysqlEndpoint, TableName};
use crate::precheck;
use crate::store::tasks::TaskRow;
use crate::task::change::{Effect, EffectKind, differences};
use crate::task::connection::ConnectionSettings;
use crate::task::selection::Selection;
use crate::task::status::Status;

/// Another address: it may be another server.
pub fn is_elsewhere(old: &ConnectionSettings, new: &ConnectionSettings) -> bool {
    match (old, new) {
        (ConnectionSettings::Mysql(old), ConnectionSettings::Mysql(new)) => {
            (&old.host, old.port) != (&new.host, new.port)
        }
        (ConnectionSettings::Kafka(old), ConnectionSettings::Kafka(new)) => old.brokers != new.brokers,
        _ => true,
    }
}

/// What each changed field does to the tasks.
pub fn effects(
    old: &ConnectionSettings,
    new: &ConnectionSettings,
    same_secret: bool,
    users: &[TaskRow],
) -> Vec<Effect> {
    let value = |settings: &ConnectionSettings| serde_json::to_value(settings).unwrap_or_default();
    let fields = differences(&value(old), &value(new));
    let names = |wanted: &dyn Fn(Status) -> bool| -> String {
        let names: Vec<_> = users.iter().filter(|task| wanted(task.status)).map(TaskRow::name).collect();
        names.join(", ")
    };
    let running = names(&|status| status == Status::Running);
    let failed = names(&|status| status == Status::Failed);
    let resume =
        if failed.is_empty() { String::new() } else { format!("; resume {failed}, which has failed") };
    // A client of Kafka keeps the password that it was made with.
    let in_place = matches!(new, ConnectionSettings::Mysql(_)) && fields.is_empty();
    let (effect, detail) = if running.is_empty() {
        (EffectKind::NextStart, format!("no task that uses it runs{resume}"))
    } else if in_place {
        let detail = format!(
            "{running}: the next session logs in with it; open sessions live on, nothing is repeated{resume}"
        );
        (EffectKind::NextBatch, detail)
    } else {
        let detail = format!(
            "{running}: what is under way is finished, then the run connects anew and goes on at its checkpoint{resume}"
        );
        (EffectKind::Restart, detail)
    };
    let secret = (!same_secret).then(|| new.secret_pointer().to_owned());
    let changed = fields.into_iter().chain(secret);
    changed.map(|field| Effect { field, effect, detail: detail.clone() }).collect()
}

impl Service {
    /// That the new address leads to where the data of the connection's tasks is.
    pub(super) async fn same_identity(&self, name: &str, opened: &Opened, users: &[TaskRow]) -> Answer<()> {
        let checked = async {
            for task in users.iter().filter(|task| task.phase.is_some() && task.status != Status::Stopped) {
                let other = match opened {
                    Opened::Kafka(endpoint) => {
                        let topic =
                            Topic::new(endpoint, task.spec.source.topic.as_deref().unwrap_or_default())?;
                        self.other_cluster(task, &topic).await?
                    }
                    Opened::Tidb(endpoint) => self.other_server(task, endpoint, Endpoint::Source).await?,
                    Opened::Target(endpoint, _) => {
                        self.other_server(task, endpoint, Endpoint::Target).await?
                    }
                };
                if let Some(why) = other {
                    return Err(Refusal::IdentityChanged(format!(
                        "connection {name} is used by task {}: {why}",
                        task.name()
                    )));
                }
            }
            Ok(())
        };
        tokio::time::timeout(ENDPOINT_PATIENCE, checked).await.map_err(|_| too_slow())?
    }

    async fn other_cluster(&self, task: &TaskRow, topic: &Topic) -> Answer<Option<String>> {
        let Some(checkpoint) = self.store.checkpoint(&task.id).await? else { return Ok(None) };
        if checkpoint.cluster_id.is_empty() {
            return Ok(None);
        }
        let found = topic.cluster_id().await?;
        Ok((found != checkpoint.cluster_id).then(|| {
            format!("its checkpoint belongs to Kafka cluster {}, this is {found}", checkpoint.cluster_id)
        }))
    }

    /// A server that has none of the task's tables is not the one that the task works with.
    async fn other_server(
        &self,
        task: &TaskRow,
        endpoint: &MysqlEndpoint,
        side: Endpoint,
    ) -> Answer<Option<String>> {
        let selection =
            Selection::new(&task.spec).map_err(|faults| Error::internal(format!("{faults:?}")))?;
        let known = self.store.known_tables(&task.id).await?;
        let known = known.into_iter().map(|(schema, table)| TableName::new(schema, table));
        let expected: HashSet<TableName> = known
            .filter(|name| selection.selects(name))
            .map(|name| if side == Endpoint::Target { selection.target(&name).key() } else { name.key() })
            .collect();
        if expected.is_empty() {
            return Ok(None);
        }
        let tables = precheck::catalog_mysql(endpoint, side, None).await?;
        let there = |name: TableName| expected.contains(&name.key());
        let any = tables.into_iter().any(|table| there(TableName::new(table.schema, table.table)));
        Ok((!any).then(|| format!("the server there has none of its {} tables", expected.len())))
    }
}

//! The target's share of a reset: the task's own tables are emptied or dropped.
//!
//! What is to be done is on record before the first statement, each table is taken off the record when it is done, and the next
//! run of the task begins with what is left. So a crash in between leaves no task that goes on over emptied tables.

use crate::adb;
use crate::adb::dialect::{drop_table, truncate_table};
use crate::adb::writer::{Use, end_sessions};
use crate::crash;
use crate::error::Result;
use crate::model::{Dialect, Epoch, MysqlEndpoint, TaskId};
use crate::store::{OwnState, Store};

/// Does what is on record. Sessions of earlier runs are ended before: a statement of theirs could fill a table again.
pub async fn finish(
    target: &MysqlEndpoint,
    dialect: Dialect,
    store: &Store,
    task: &TaskId,
    epoch: Epoch,
) -> Result<()> {
    let waiting: Vec<_> = store
        .own_tables(task)
        .await?
        .into_iter()
        .filter(|own| matches!(own.state, OwnState::Truncate | OwnState::Drop))
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    end_sessions(target, dialect, store, task, epoch, None).await?;
    let mut session = adb::connect(target, dialect).await?;
    store.session_opened(task, epoch, session.id(), Use::Task).await?;
    for own in waiting {
        let (statement, gone) = match own.state {
            OwnState::Drop => (drop_table(&own.name), true),
            _ => (truncate_table(&own.name), false),
        };
        session.execute(&statement.sql).await.map_err(|error| error.object(&own.name))?;
        crash::point("reset.table");
        if gone {
            store.own_table_gone(task, epoch, &own.name).await?;
        } else {
            store.made_tables(task, epoch, std::slice::from_ref(&own.name)).await?;
        }
        crash::point("reset.forgotten");
        tracing::info!(task.id = %task, table = %own.name, dropped = gone, "table of a reset task");
    }
    let id = session.id();
    session.close().await;
    store.sessions_gone(task, epoch, &[id]).await
}

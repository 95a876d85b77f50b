//! `/tasks/{task}/tables/{pause, resume, resync, skip}`: commands for single tables while the others go on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::task_view::Task;
use super::tasks::CommandAnswer;
use crate::model::TableName;
use crate::service::Service;
use crate::task::change::{Effect, EffectKind};
use crate::task::standing::TableCommand;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(pause_tables))
        .routes(routes!(resume_tables))
        .routes(routes!(resync_tables))
        .routes(routes!(skip_tables))
}

/// A table as the source spells it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTable {
    pub schema: String,
    pub table: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTables {
    pub tables: Vec<NamedTable>,
}

async fn command(
    service: &Service,
    task: &str,
    command: TableCommand,
    mut params: Params,
    body: serde_json::Value,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let named = check::<NamedTables>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let tables: Vec<TableName> =
        named.tables.into_iter().map(|name| TableName::new(name.schema, name.table)).collect();
    let asked = service.ask_of_tables(task, command, &tables, wait, dry_run).await?;
    let status =
        if dry_run || (asked.reached && !wait.is_zero()) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let effects = asked
        .changed
        .iter()
        .map(|name| Effect {
            field: "/tables".to_owned(),
            effect: EffectKind::Now,
            detail: format!("{} {name}", command.as_str()),
        })
        .collect();
    let task = Task::view(service, asked.task).await?;
    Ok((status, Json(CommandAnswer { task, effects })).into_response())
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $command:ident;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "progress",
            params(
                ("task" = String, Path, description = "id or name"),
                ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for the effect"),
                ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
            ),
            request_body = NamedTables,
            responses(
                (status = 202, body = CommandAnswer, description = "on its way"),
                (status = 200, body = CommandAnswer, description = "the effect is reached (with wait_ms), or dry_run"),
            ))]
        async fn $name(
            State(service): State<Service>,
            Segments(task): Segments<String>,
            params: Params,
            JsonBody(body): JsonBody,
        ) -> Result<Response, Problem> {
            command(&service, &task, TableCommand::$command, params, body).await
        }
    )+};
}

commands! {
    /// Passes the rows of these tables over until they are resumed.
    pause_tables, "/tasks/{task}/tables/pause", Pause;
    /// Brings paused or skipped tables back by a resync, for their rows were passed over.
    resume_tables, "/tasks/{task}/tables/resume", Resume;
    /// Copies these tables again beside the stream: the cure of a stopped table, and of one that differs.
    resync_tables, "/tasks/{task}/tables/resync", Resync;
    /// Leaves these tables out of the task. During full sync it takes effect when the stream begins, or with the next run.
    skip_tables, "/tasks/{task}/tables/skip", Skip;
}

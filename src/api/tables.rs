//! `/tasks/{task}/tables`: how each table stands.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{Page, decode};
use super::problem::Problem;
use super::request::{Params, Segments};
use super::task_view::ErrorView;
use super::time::rfc3339;
use crate::engine::progress::{Phase, Stage, TableCounters};
use crate::model::{LossyCount, TableName};
use crate::observe::measure::{full_is_through, lag_ms, percent};
use crate::service::Service;
use crate::store::tasks::TaskRow;
use crate::store::{CopyState, CopyTable, TableState as Aside};
use crate::task::selection::Selection;
use crate::task::standing::Standing;
use crate::task::status::Status;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(list_tables)).routes(routes!(get_table))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Known, nothing done yet.
    Waiting,
    Copying,
    /// Its rows are in the target; incremental sync has not begun.
    Copied,
    /// Incremental sync keeps it in step.
    Following,
    /// It has an error of its own.
    Failed,
    /// Stopped by an error of its own under `errors.table = stop_table`: see `error`; a resync brings it back.
    Stopped,
    /// By command; its rows are passed over.
    Paused,
    /// By command: the task leaves it out.
    Skipped,
    /// To be copied again; see `reason`.
    Resync,
    /// Its new copy takes in what changed meanwhile.
    CatchingUp,
    /// Its new copy takes its place.
    Swapping,
}

impl TableState {
    const WORDS: &[(&str, Self)] = &[
        ("waiting", Self::Waiting),
        ("copying", Self::Copying),
        ("copied", Self::Copied),
        ("following", Self::Following),
        ("failed", Self::Failed),
        ("stopped", Self::Stopped),
        ("paused", Self::Paused),
        ("skipped", Self::Skipped),
        ("resync", Self::Resync),
        ("catching_up", Self::CatchingUp),
        ("swapping", Self::Swapping),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, state)| *state)
    }

    fn of(standing: &Standing, stage: Option<Stage>) -> Option<Self> {
        Some(match (standing, stage) {
            // What was removed is none of the task's tables.
            (Standing::Following | Standing::Removed { .. }, _) => return None,
            (Standing::Stopped { .. }, _) => Self::Stopped,
            (Standing::Paused, _) => Self::Paused,
            (Standing::Skipped, _) => Self::Skipped,
            (Standing::Resync { .. }, None) => Self::Resync,
            (Standing::Resync { .. }, Some(Stage::Copying)) => Self::Copying,
            (Standing::Resync { .. }, Some(Stage::CatchingUp)) => Self::CatchingUp,
            (Standing::Swapping { .. }, _) | (_, Some(Stage::Swapping)) => Self::Swapping,
        })
    }
}

/// Where a table goes.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetName {
    pub schema: String,
    pub table: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TableView {
    pub schema: String,
    pub table: String,
    pub target: TargetName,
    pub state: TableState,
    /// Rows that full sync expects to copy.
    pub rows_estimated: Option<u64>,
    /// Rows that full sync has copied.
    pub rows_copied: Option<u64>,
    /// Of its copy, 0 to 100.
    pub percent: Option<f64>,
    /// Bytes of the statements that copied it.
    pub bytes_copied: Option<u64>,
    /// Row changes of the stream, in this run.
    pub changes_applied: Option<u64>,
    /// Commit time of the last change applied.
    #[schema(format = DateTime)]
    pub last_commit_at: Option<String>,
    /// The lag of the task: its tables move together.
    pub lag_ms: Option<i64>,
    /// Row changes passed over in this run because the table did not follow.
    pub changes_passed: Option<u64>,
    /// Since when it is stopped, paused, skipped or being copied again.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Why it is copied again.
    pub reason: Option<String>,
    /// Values that are on the target otherwise than on the source, by column and rule, since the table was last copied.
    pub lossy: Vec<LossyCount>,
    pub error: Option<ErrorView>,
}

/// All tables known to a task, by name.
async fn tables(service: &Service, row: &TaskRow) -> Result<Vec<TableView>, Problem> {
    struct Known {
        name: TableName,
        counters: Option<TableCounters>,
        copied: Option<CopyTable>,
    }
    let mut known: BTreeMap<TableName, Known> = BTreeMap::new();
    for (schema, table) in service.store.known_tables(&row.id).await? {
        let name = TableName::new(schema, table);
        known.insert(name.key(), Known { name, counters: None, copied: None });
    }
    for copied in service.store.copy_tables(&row.id).await? {
        if !known.is_empty() && !known.contains_key(&copied.name.key()) {
            continue;
        }
        let name = copied.name.clone();
        known.entry(name.key()).or_insert(Known { name, counters: None, copied: None }).copied = Some(copied);
    }
    let seen = service.registry.seen(&row.id);
    // Once the catalog is there, a name that it does not have is dropped or renamed away.
    let complete = !known.is_empty();
    for (name, counters) in seen.iter().flat_map(|seen| seen.progress.tables()) {
        if complete && !known.contains_key(&name.key()) {
            continue;
        }
        let entry = known.entry(name.key()).or_insert(Known { name, counters: None, copied: None });
        entry.counters = Some(counters);
    }
    let states = service.store.table_states(&[&row.id]).await?.remove(&row.id).unwrap_or_default();
    let states: HashMap<TableName, Aside> =
        states.into_iter().map(|state| (state.name.key(), state)).collect();
    let mut lossy: BTreeMap<TableName, Vec<LossyCount>> = BTreeMap::new();
    for (name, counts) in service.store.lossy_counts(&row.id).await? {
        lossy.entry(name.key()).or_default().extend(counts);
    }
    let checkpoints = service.store.checkpoint_views(&[&row.id]).await?;
    let lag = lag_ms(row, seen.as_ref().map(|seen| &*seen.progress), checkpoints.get(&row.id));
    let selection = Selection::new(&row.spec).map_err(|faults| Problem::internal(format!("{faults:?}")))?;
    let through = full_is_through(row);
    let views = known.into_values().filter(|known| selection.selects(&known.name)).map(|known| {
        let target = selection.target(&known.name);
        let counters = known.counters.as_ref();
        let copied = known.copied.as_ref();
        let rows_estimated =
            counters.and_then(|table| table.rows_estimated).or(copied.and_then(|table| table.rows_estimated));
        let rows_copied = counters.map(|table| table.rows_copied).max(copied.map(|table| table.rows_copied));
        let bytes_copied =
            counters.map(|table| table.bytes_copied).max(copied.map(|table| table.bytes_copied));
        let aside = states.get(&known.name.key());
        let stage = counters.and_then(|table| table.stage);
        let standing = aside.map(|state| &state.standing);
        let (reason, error) = match standing {
            Some(Standing::Stopped { error }) => (None, Some(error)),
            Some(Standing::Resync { reason, error }) => (Some(reason.clone()), error.as_ref()),
            _ => (None, copied.and_then(|table| table.error.as_ref())),
        };
        let done = through || copied.is_some_and(|table| table.state == CopyState::Done);
        let following = row.phase == Some(Phase::Incremental) && row.status != Status::Finished;
        let state = if let Some(state) = standing.and_then(|standing| TableState::of(standing, stage)) {
            state
        } else if error.is_some() {
            TableState::Failed
        } else if following {
            TableState::Following
        } else if done {
            TableState::Copied
        } else if rows_copied.unwrap_or(0) > 0 || copied.is_some() {
            TableState::Copying
        } else {
            TableState::Waiting
        };
        TableView {
            lossy: lossy.remove(&known.name.key()).unwrap_or_default(),
            schema: known.name.schema,
            table: known.name.table,
            target: TargetName { schema: target.schema, table: target.table },
            state,
            rows_estimated,
            rows_copied,
            percent: percent(rows_copied.unwrap_or(0), rows_estimated, done && row.spec.phases.full),
            bytes_copied,
            changes_applied: counters.map(|table| table.changes_applied),
            last_commit_at: counters.and_then(|table| table.last_commit_ms).map(rfc3339),
            lag_ms: lag.filter(|_| following && standing.is_none()),
            changes_passed: counters.map(|table| table.changes_passed),
            since: aside.map(|state| rfc3339(state.since_ms)),
            reason,
            error: error.map(|error| ErrorView::new(error, aside.map(|state| state.since_ms))),
        }
    });
    Ok(views.collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Name,
    Lag,
    Rows,
}

/// Lists the tables of a task.
#[utoipa::path(get, path = "/tasks/{task}/tables", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("schema" = Option<String>, Query),
        ("state" = Option<TableState>, Query),
        ("has_error" = Option<bool>, Query),
        ("order" = Option<String>, Query, description = "name (default), lag or rows; lag and rows from the largest"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<TableView>)))]
async fn list_tables(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<TableView>>, Problem> {
    let schema = params.text("schema");
    let words: Vec<_> = TableState::WORDS.iter().map(|(word, _)| *word).collect();
    let state = params.parsed("state", &format!("one of {}", words.join(", ")), TableState::parse);
    let has_error = params.parsed("has_error", "true or false", |text| text.parse::<bool>().ok());
    let order = params
        .parsed("order", "one of name, lag, rows", |text| match text {
            "name" => Some(Order::Name),
            "lag" => Some(Order::Lag),
            "rows" => Some(Order::Rows),
            _ => None,
        })
        .unwrap_or(Order::Name);
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let row = service.task(&task).await?;
    let filter = format!("tables {} {schema:?} {state:?} {has_error:?} {order:?}", row.id);
    let after = decode(&filter, cursor.as_deref())?;

    let mut items = tables(&service, &row).await?;
    items.retain(|table| {
        schema.as_ref().is_none_or(|schema| table.schema.to_lowercase() == schema.to_lowercase())
            && state.is_none_or(|state| table.state == state)
            && has_error.is_none_or(|wanted| table.error.is_some() == wanted)
    });
    // From the largest, then by name: one text that sorts like that is both order and cursor.
    let key = |table: &TableView| {
        let first = match order {
            Order::Name => 0,
            Order::Lag => u64::MAX - table.lag_ms.and_then(|lag| u64::try_from(lag).ok()).unwrap_or(0),
            Order::Rows => u64::MAX - table.rows_copied.unwrap_or(0),
        };
        format!("{first:020}\0{}\0{}", table.schema, table.table)
    };
    items.sort_by_cached_key(key);
    items.retain(|table| after.is_empty() || key(table) > after);
    Ok(Json(Page::cut(items, limit, &filter, key)))
}

/// One table of a task.
#[utoipa::path(get, path = "/tasks/{task}/tables/{schema}/{table}", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("schema" = String, Path, description = "percent-encoded"),
        ("table" = String, Path, description = "percent-encoded"),
    ),
    responses((status = 200, body = TableView)))]
async fn get_table(
    State(service): State<Service>,
    Segments((task, schema, table)): Segments<(String, String, String)>,
    params: Params,
) -> Result<Json<TableView>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let wanted = TableName::new(schema, table);
    let found = tables(&service, &row)
        .await?
        .into_iter()
        .find(|view| TableName::new(view.schema.as_str(), view.table.as_str()).key() == wanted.key());
    found.map(Json).ok_or_else(|| Problem::not_found(format!("the task does not know a table {wanted}")))
}

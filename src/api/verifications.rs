//! `/tasks/{task}/verifications`: are source and target equal, where not, and the cure.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::dead_letters::values;
use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode};
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::table_commands::NamedTable;
use super::task_view::{ErrorView, Task};
use super::time::{of_tso, rfc3339, tso};
use crate::model::TableName;
use crate::service::Service;
use crate::service::verifications::RepairPlan;
use crate::store::tasks::TaskRow;
use crate::store::{DifferenceRow, Mode, Order, Repair, VerificationRow, VerifiedTable};
use crate::task::change::{Effect, EffectKind};

/// Tables that one answer names.
const TABLES: u32 = 500;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(create_verification, list_verifications))
        .routes(routes!(get_verification))
        .routes(routes!(cancel_verification))
        .routes(routes!(repair_verification))
        .routes(routes!(list_differences))
}

/// How fast a verification reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationThrottle {
    /// Of each side; null = no limit.
    #[schema(minimum = 1)]
    pub rows_per_second: Option<u64>,
}

/// What is to be compared, and how.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationInput {
    /// schema: definitions alone. count: and numbers of rows. checksum: and every value of every row, what differs is counted. rows: and each row that differs is named.
    pub mode: Mode,
    /// null = all that the task follows.
    pub tables: Option<Vec<NamedTable>>,
    pub throttle: Option<VerificationThrottle>,
    /// Tables that are not compared by then are inconclusive; null = no limit.
    #[schema(minimum = 1)]
    pub max_duration_ms: Option<u64>,
    /// differences: what differs is written again as soon as it is found out, as by `/repair`.
    pub repair: Repair,
}

impl Default for VerificationInput {
    fn default() -> Self {
        Self { mode: Mode::Rows, tables: None, throttle: None, max_duration_ms: None, repair: Repair::Never }
    }
}

/// Rows that are not the same on both sides.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowCounts {
    /// The source has them and the target has not.
    pub missing: i64,
    /// The target has them and the source has not.
    pub surplus: i64,
    /// Both have them, with other values.
    pub different: i64,
    /// They changed each time they were looked at.
    pub unsettled: i64,
}

/// A comparison of source and target.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verification {
    pub n: i64,
    /// queued, running, finished, cancelled, failed; more may come.
    pub state: String,
    /// equal, different, inconclusive (neither could be shown: the tables say why); null until it is finished.
    pub verdict: Option<String>,
    pub mode: Mode,
    /// Tables asked for; null = all.
    pub only: Option<Vec<String>>,
    pub throttle: VerificationThrottle,
    pub max_duration_ms: Option<u64>,
    pub repair: Repair,
    /// The first timestamp at which the source was read: what committed up to then is what the verdict speaks of. null before.
    pub tso: Option<String>,
    #[schema(format = DateTime)]
    pub tso_time: Option<String>,
    pub tables_total: i64,
    pub tables_compared: i64,
    /// Different or inconclusive.
    pub tables_unequal: i64,
    /// Of both sides.
    pub rows_compared: i64,
    pub rows: RowCounts,
    /// Of a failed one.
    pub error: Option<ErrorView>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub ended_at: Option<String>,
}

impl From<&VerificationRow> for Verification {
    fn from(row: &VerificationRow) -> Self {
        let (missing, surplus, different, unsettled) = row.rows;
        let known = row.tso.0.cast_signed();
        Self {
            n: row.n,
            state: row.state.clone(),
            verdict: row.verdict.clone(),
            mode: row.wanted.mode,
            only: row.wanted.tables.as_ref().map(|tables| tables.iter().map(ToString::to_string).collect()),
            throttle: VerificationThrottle { rows_per_second: row.wanted.rows_per_second },
            max_duration_ms: row.wanted.max_duration_ms,
            repair: row.wanted.repair,
            tso: tso(known),
            tso_time: of_tso(known),
            tables_total: row.tables.0,
            tables_compared: row.tables.1,
            tables_unequal: row.tables.2,
            rows_compared: row.rows_compared,
            rows: RowCounts { missing, surplus, different, unsettled },
            error: row.error.as_ref().map(|error| ErrorView::new(error, row.ended_at)),
            created_at: rfc3339(row.created_at),
            ended_at: row.ended_at.map(rfc3339),
        }
    }
}

/// One table of a verification.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableVerification {
    pub schema: String,
    pub table: String,
    /// equal, different, inconclusive; null until it is compared.
    pub verdict: Option<String>,
    /// What is different, or why nothing could be shown.
    pub detail: Option<String>,
    /// As far as they were read; null where they were not counted.
    pub source_rows: Option<i64>,
    pub target_rows: Option<i64>,
    pub rows: RowCounts,
}

impl From<VerifiedTable> for TableVerification {
    fn from(table: VerifiedTable) -> Self {
        let found = table.found;
        Self {
            schema: table.name.schema,
            table: table.name.table,
            verdict: table.verdict,
            detail: found.detail,
            source_rows: found.source_rows,
            target_rows: found.target_rows,
            rows: RowCounts {
                missing: found.missing,
                surplus: found.surplus,
                different: found.different,
                unsettled: found.unsettled,
            },
        }
    }
}

/// Rows that were named, by what became of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepairCounts {
    pub open: i64,
    /// The task's run is to write them again.
    pub pending: i64,
    pub repaired: i64,
}

/// A verification with its tables.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerificationWithTables {
    #[serde(flatten)]
    pub verification: Verification,
    pub repairs: RepairCounts,
    /// Those that are not equal first; at most 500.
    pub tables: Vec<TableVerification>,
}

async fn whole(
    service: &Service,
    task: &TaskRow,
    row: &VerificationRow,
) -> Result<VerificationWithTables, Problem> {
    let tables = service.store.verified_tables(&task.id, row.n, TABLES).await?;
    let (open, pending, repaired) = service.store.difference_counts(&task.id, row.n).await?;
    Ok(VerificationWithTables {
        verification: Verification::from(row),
        repairs: RepairCounts { open, pending, repaired },
        tables: tables.into_iter().map(TableVerification::from).collect(),
    })
}

/// What a write of this resource did.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerificationAnswer {
    /// null: with dry_run, where there is none yet.
    pub verification: Option<VerificationWithTables>,
    pub effects: Vec<Effect>,
    pub task: Task,
}

async fn answer(
    service: &Service,
    status: StatusCode,
    task: TaskRow,
    row: Option<&VerificationRow>,
    effects: Vec<Effect>,
) -> Result<Response, Problem> {
    let verification = match row {
        Some(row) => Some(whole(service, &task, row).await?),
        None => None,
    };
    let task = Task::view(service, task).await?;
    Ok((status, Json(VerificationAnswer { verification, effects, task })).into_response())
}

fn effect(detail: String) -> Vec<Effect> {
    vec![Effect { field: "/verifications".to_owned(), effect: EffectKind::Now, detail }]
}

/// Compares source and target while the task goes on: each row is read from the source as of a time that the target has reached, and what differs is looked at again until it is equal or stands still. One at a time for a task; the last 20 are kept.
#[utoipa::path(post, path = "/tasks/{task}/verifications", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for its end"),
        ("dry_run" = Option<bool>, Query, description = "true answers whether it could begin, and does nothing"),
    ),
    request_body = VerificationInput,
    responses(
        (status = 202, body = VerificationAnswer, description = "on its way"),
        (status = 200, body = VerificationAnswer, description = "it is over (with wait_ms), or dry_run"),
    ))]
async fn create_verification(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let wanted =
        check::<VerificationInput>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    let order = Order {
        mode: wanted.mode,
        tables: wanted
            .tables
            .map(|tables| tables.into_iter().map(|name| TableName::new(name.schema, name.table)).collect()),
        rows_per_second: wanted.throttle.unwrap_or_default().rows_per_second,
        max_duration_ms: wanted.max_duration_ms,
        repair: wanted.repair,
    };
    let effects = effect("source and target are compared; nothing is stopped for it".to_owned());
    if dry_run {
        let task = service.may_verify(&task, &order).await?;
        return answer(&service, StatusCode::OK, task, None, effects).await;
    }
    let (task, row) = service.verify(&task, order, wait).await?;
    let status = if row.is_over() && !wait.is_zero() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(&service, status, task, Some(&row), effects).await
}

/// Lists the verifications of a task, the newest first, without their tables.
#[utoipa::path(get, path = "/tasks/{task}/verifications", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Verification>)))]
async fn list_verifications(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<Verification>>, Problem> {
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let row = service.task(&task).await?;
    let filter = format!("verifications {}", row.id);
    let before = decode(&filter, cursor.as_deref())?.parse().unwrap_or(i64::MAX);
    let rows = service.store.verifications(&row.id, before, limit + 1).await?;
    let page = Page::cut(rows, limit, &filter, |row| row.n.to_string());
    Ok(Json(page.map(|row| Verification::from(&row))))
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::new(ProblemCode::InvalidParameter, "n must be a number"))
}

/// A verification with its tables.
#[utoipa::path(get, path = "/tasks/{task}/verifications/{n}", tag = "progress",
    params(("task" = String, Path, description = "id or name"), ("n" = i64, Path)),
    responses((status = 200, body = VerificationWithTables)))]
async fn get_verification(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    params: Params,
) -> Result<Json<VerificationWithTables>, Problem> {
    params.finish()?;
    let task = service.task(&task).await?;
    let row = service.verification(&task, number(&n)?).await?;
    Ok(Json(whole(&service, &task, &row).await?))
}

/// Ends a verification; what it found so far stays. Repairs that are still pending are withdrawn.
#[utoipa::path(post, path = "/tasks/{task}/verifications/{n}/cancel", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("n" = i64, Path),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    responses((status = 200, body = VerificationAnswer)))]
async fn cancel_verification(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    mut params: Params,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let (n, task) = (number(&n)?, service.task(&task).await?);
    let effects = match service.verification(&task, n).await?.is_over() {
        true => Vec::new(),
        false => effect(format!("verification {n} ends; what it found so far stays")),
    };
    let (task, row) = service.cancel_verification(&task.id.0, n, dry_run).await?;
    answer(&service, StatusCode::OK, task, Some(&row), effects).await
}

/// Writes the rows that differ again as the source has them, in their place between the changes of the stream. Tables whose rows are not named (mode checksum or count, no key), or where 10,000 or more differ, are copied again. A task that stands still does it when it goes on.
#[utoipa::path(post, path = "/tasks/{task}/verifications/{n}/repair", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("n" = i64, Path),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait until the rows are written"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
    ),
    responses(
        (status = 202, body = VerificationAnswer, description = "on its way"),
        (status = 200, body = VerificationAnswer, description = "the rows are written, or refused: `repairs` and the differences tell (with wait_ms; tables that are copied again are not waited for); or dry_run"),
    ))]
async fn repair_verification(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    mut params: Params,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let n = number(&n)?;
    let (task, row, RepairPlan { rows, resync }) = service.repair(&task, n, wait, dry_run).await?;
    let mut effects = Vec::new();
    if rows > 0 {
        effects.extend(effect(format!("{rows} rows are written again as the source has them")));
    }
    effects.extend(resync.iter().map(|name| Effect {
        field: "/tables".to_owned(),
        effect: EffectKind::Now,
        detail: format!("resync {name}"),
    }));
    let pending = service.store.difference_counts(&task.id, n).await?.1;
    let status =
        if dry_run || (pending == 0 && !wait.is_zero()) { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(&service, status, task, Some(&row), effects).await
}

/// A row that is not the same on both sides.
#[derive(Debug, Serialize, ToSchema)]
pub struct Difference {
    pub seq: i64,
    pub schema: String,
    pub table: String,
    /// missing, surplus, different
    pub kind: String,
    /// Columns of the target whose values differ.
    pub columns: Vec<String>,
    /// Values of the columns that identify the row: text as text, numbers as decimal strings, bytes as `{"base64"}`.
    pub key: Map<String, JsonValue>,
    /// open, pending (its repair is asked for), repaired
    pub state: String,
    /// Why its repair was refused.
    pub error: Option<ErrorView>,
}

impl TryFrom<DifferenceRow> for Difference {
    type Error = Problem;

    fn try_from(row: DifferenceRow) -> Result<Self, Problem> {
        Ok(Self {
            seq: row.seq,
            key: values(&row.key_columns, &row.key)?,
            schema: row.table.schema,
            table: row.table.table,
            kind: row.kind,
            columns: row.columns,
            state: if row.state == "asked" { "pending".to_owned() } else { row.state },
            error: row.error.as_ref().map(|error| ErrorView::new(error, None)),
        })
    }
}

/// Rows that differ, by their keys; never other values. Of mode rows.
#[utoipa::path(get, path = "/tasks/{task}/verifications/{n}/differences", tag = "progress", extensions(("x-role" = json!("operator"))),
    params(
        ("task" = String, Path, description = "id or name"),
        ("n" = i64, Path),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Difference>)))]
async fn list_differences(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    mut params: Params,
) -> Result<Json<Page<Difference>>, Problem> {
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let task = service.task(&task).await?;
    let n = number(&n)?;
    service.verification(&task, n).await?;
    let filter = format!("differences {} {n}", task.id);
    let after = decode(&filter, cursor.as_deref())?.parse().unwrap_or(0);
    let rows = service.store.differences(&task.id, n, after, limit + 1).await?;
    let page = Page::cut(rows, limit, &filter, |row| row.seq.to_string());
    let items = page.items.into_iter().map(Difference::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

//! `/tasks/{task}/dead-letters`: row changes that the target refused and that were set aside.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode};
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::table_commands::NamedTable;
use super::task_view::{ErrorView, Task};
use super::time::{of_tso, rfc3339, tso};
use crate::binlog::row::cells;
use crate::model::{TableName, Value};
use crate::service::Service;
use crate::service::letters::LetterDecision;
use crate::store::{LetterColumn, LetterRow, Which};
use crate::task::change::{Effect, EffectKind};
use crate::task::fault::Fault;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list_dead_letters))
        .routes(routes!(get_dead_letter))
        .routes(routes!(retry_dead_letter))
        .routes(routes!(discard_dead_letter))
        .routes(routes!(retry_dead_letters))
        .routes(routes!(discard_dead_letters))
}

/// A row change that was set aside, without its values.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    pub n: i64,
    pub schema: String,
    pub table: String,
    /// full, incremental
    pub phase: String,
    /// insert, update, delete
    pub operation: String,
    /// Names of the columns that identify the row.
    pub key_columns: Vec<String>,
    /// open, retried, discarded, superseded (a later change of the row is in the target); more may come.
    pub state: String,
    /// A retry is asked for and not done yet.
    pub retry_pending: bool,
    /// How often the target refused it.
    pub attempts: i64,
    /// Why a retry is refused; null = it is not.
    pub blocked: Option<String>,
    pub error: ErrorView,
    /// Of its message in the topic; null in full sync.
    pub offset: Option<String>,
    /// Row changes of the message before this one; null in full sync.
    pub position_in_message: Option<u64>,
    pub commit_tso: Option<String>,
    #[schema(format = DateTime)]
    pub commit_time: Option<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&LetterRow> for DeadLetter {
    fn from(row: &LetterRow) -> Self {
        let stream = row.offset >= 0;
        Self {
            n: row.n,
            schema: row.table.schema.clone(),
            table: row.table.table.clone(),
            phase: row.phase.clone(),
            operation: row.operation.clone(),
            key_columns: row.key_columns.clone(),
            state: row.state.clone(),
            retry_pending: row.asked,
            attempts: row.attempts,
            blocked: row.blocked.clone(),
            error: ErrorView::new(&row.error, None),
            offset: stream.then(|| row.offset.to_string()),
            position_in_message: stream.then_some(row.nth),
            commit_tso: tso(row.commit_ts),
            commit_time: of_tso(row.commit_ts),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// A row change with its values: text as text, numbers as decimal strings, bytes as `{"base64"}`, NULL as null.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterWithImages {
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The row as it was; null for an insert.
    pub old: Option<Map<String, JsonValue>>,
    /// The row as it shall be; null for a delete.
    pub new: Option<Map<String, JsonValue>>,
}

fn image(row: &LetterRow, bytes: Option<&[u8]>) -> Result<Option<Map<String, JsonValue>>, Problem> {
    bytes.map(|bytes| values(&row.columns, bytes)).transpose()
}

/// Values of a row of the store by the names of their columns.
pub fn values(columns: &[LetterColumn], bytes: &[u8]) -> Result<Map<String, JsonValue>, Problem> {
    let mut image = Map::new();
    for (column, value) in columns.iter().zip(cells(bytes)) {
        let value = value.map_err(|fault| Problem::internal(format!("an image of the store: {fault}")))?;
        let value = match value {
            None => json!(""),
            Some(Value::Null) => JsonValue::Null,
            Some(Value::Int(number)) => json!(number.to_string()),
            Some(Value::UInt(number)) => json!(number.to_string()),
            Some(Value::Double(number)) => json!(number.to_string()),
            Some(Value::Bytes(bytes)) => json!({"base64": STANDARD.encode(bytes)}),
            Some(Value::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({"base64": STANDARD.encode(bytes)}),
            },
        };
        image.insert(column.name.clone(), value);
    }
    Ok(image)
}

/// Lists row changes that were set aside, in the order in which they were.
#[utoipa::path(get, path = "/tasks/{task}/dead-letters", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("state" = Option<String>, Query, description = "open, retried, discarded, superseded"),
        ("schema" = Option<String>, Query, description = "with table: of this table alone"),
        ("table" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<DeadLetter>)))]
async fn list_dead_letters(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let states = ["open", "retried", "discarded", "superseded"];
    let state = params.parsed("state", &format!("one of {}", states.join(", ")), |text| {
        states.contains(&text).then(|| text.to_owned())
    });
    let (schema, table) = (params.text("schema"), params.text("table"));
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let table = match (schema, table) {
        (Some(schema), Some(table)) => Some(TableName::new(schema, table)),
        (None, None) => None,
        _ => {
            return Err(Problem::new(
                ProblemCode::InvalidParameter,
                "schema and table name a table together",
            ));
        }
    };
    let row = service.task(&task).await?;
    let filter = format!("dead letters {} {state:?} {table:?}", row.id);
    let after = decode(&filter, cursor.as_deref())?.parse().unwrap_or(0);
    let rows =
        service.store.letters_after(&row.id, after, state.as_deref(), table.as_ref(), limit + 1).await?;
    let page = Page::cut(rows, limit, &filter, |row| row.n.to_string());
    Ok(Json(page.map(|row| DeadLetter::from(&row))))
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::new(ProblemCode::InvalidParameter, "n must be a number"))
}

/// A row change that was set aside, with both its images.
#[utoipa::path(get, path = "/tasks/{task}/dead-letters/{n}", tag = "progress", extensions(("x-role" = json!("operator"))),
    params(("task" = String, Path, description = "id or name"), ("n" = i64, Path)),
    responses((status = 200, body = DeadLetterWithImages)))]
async fn get_dead_letter(
    State(service): State<Service>,
    Segments((task, n)): Segments<(String, String)>,
    params: Params,
) -> Result<Json<DeadLetterWithImages>, Problem> {
    params.finish()?;
    let row = service.task(&task).await?;
    let n = number(&n)?;
    let found = service.store.letter(&row.id, n).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("the task has no dead letter {n}")))?;
    Ok(Json(DeadLetterWithImages {
        old: image(&found, found.old_row.as_deref())?,
        new: image(&found, found.new_row.as_deref())?,
        letter: DeadLetter::from(&found),
    }))
}

/// Which letters: exactly one of the three.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSelection {
    /// true: all that are open.
    #[serde(default)]
    pub all: bool,
    #[serde(default)]
    #[schema(max_items = 10000)]
    pub numbers: Option<Vec<i64>>,
    /// All open ones of these tables.
    #[serde(default)]
    pub tables: Option<Vec<NamedTable>>,
}

/// Letters after a decision.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLettersAnswer {
    /// The first 500, as they are now.
    pub items: Vec<DeadLetter>,
    /// All that were meant.
    pub count: usize,
    pub effects: Vec<Effect>,
    pub task: Task,
}

async fn decide(
    service: &Service,
    task: &str,
    which: &Which,
    decision: LetterDecision,
    mut params: Params,
) -> Result<Response, Problem> {
    let (wait, dry_run) = (params.wait(), params.flag("dry_run", false));
    params.finish()?;
    let decided = service.decide_letters(task, which, decision, wait, dry_run).await?;
    let done = dry_run || decision == LetterDecision::Discard || (decided.reached && !wait.is_zero());
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let (word, effect) = match decision {
        LetterDecision::Retry => ("sent to the target again by the task's run", EffectKind::NextStart),
        LetterDecision::Discard => ("discarded: the target stays without them", EffectKind::Now),
    };
    let runs = decided.task.status == crate::task::status::Status::Running;
    let effect = if runs { EffectKind::Now } else { effect };
    let effects = if decided.count == 0 {
        Vec::new()
    } else {
        let detail = format!("{} dead letters: {word}", decided.count);
        vec![Effect { field: "/dead-letters".to_owned(), effect, detail }]
    };
    let answer = DeadLettersAnswer {
        items: decided.letters.iter().map(DeadLetter::from).collect(),
        count: decided.count,
        effects,
        task: Task::view(service, decided.task).await?,
    };
    Ok((status, Json(answer)).into_response())
}

fn selection(body: JsonValue) -> Result<Which, Problem> {
    let wanted =
        check::<DeadLetterSelection>(body).and_then(|checked| checked.finish()).map_err(Problem::invalid)?;
    match (wanted.all, wanted.numbers, wanted.tables) {
        (true, None, None) => Ok(Which::All),
        (false, Some(numbers), None) => Ok(Which::Numbers(numbers)),
        (false, None, Some(tables)) => Ok(Which::Tables(
            tables.into_iter().map(|name| TableName::new(name.schema, name.table)).collect(),
        )),
        _ => Err(Problem::invalid(vec![Fault::new(
            "",
            "invalid",
            "say which: {\"all\": true}, {\"numbers\": [...]} or {\"tables\": [...]}",
        )])),
    }
}

macro_rules! decisions {
    ($($(#[$doc:meta])* $one:ident, $one_path:literal, $many:ident, $many_path:literal, $decision:ident;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $one_path, tag = "progress",
            params(
                ("task" = String, Path, description = "id or name"),
                ("n" = i64, Path),
                ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for the effect"),
                ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
            ),
            responses(
                (status = 202, body = DeadLettersAnswer, description = "on its way"),
                (status = 200, body = DeadLettersAnswer, description = "the effect is reached, or dry_run"),
            ))]
        async fn $one(
            State(service): State<Service>,
            Segments((task, n)): Segments<(String, String)>,
            params: Params,
        ) -> Result<Response, Problem> {
            let n = number(&n)?;
            let row = service.task(&task).await?;
            if service.store.letter(&row.id, n).await?.is_none() {
                return Err(Problem::not_found(format!("the task has no dead letter {n}")));
            }
            decide(&service, &task, &Which::Numbers(vec![n]), LetterDecision::$decision, params).await
        }

        $(#[$doc])*
        #[utoipa::path(post, path = $many_path, tag = "progress",
            params(
                ("task" = String, Path, description = "id or name"),
                ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60000, description = "wait for the effect"),
                ("dry_run" = Option<bool>, Query, description = "true answers the same and does nothing"),
            ),
            request_body = DeadLetterSelection,
            responses(
                (status = 202, body = DeadLettersAnswer, description = "on its way"),
                (status = 200, body = DeadLettersAnswer, description = "the effect is reached, or dry_run"),
            ))]
        async fn $many(
            State(service): State<Service>,
            Segments(task): Segments<String>,
            params: Params,
            JsonBody(body): JsonBody,
        ) -> Result<Response, Problem> {
            decide(&service, &task, &selection(body)?, LetterDecision::$decision, params).await
        }
    )+};
}

decisions! {
    /// Sends open dead letters to the target again, each unless a later change of its row is there. One that is refused again stays open.
    retry_dead_letter, "/tasks/{task}/dead-letters/{n}/retry", retry_dead_letters, "/tasks/{task}/dead-letters/retry", Retry;
    /// Gives open dead letters up: their rows stay on the target as they are.
    discard_dead_letter, "/tasks/{task}/dead-letters/{n}/discard", discard_dead_letters, "/tasks/{task}/dead-letters/discard", Discard;
}

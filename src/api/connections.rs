//! `/connections`: endpoints with their credentials.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::effects::Effects;
use super::page::{Page, decode};
use super::problem::{Problem, ProblemCode, ProblemError};
use super::request::{JsonBody, Params, Segments, etag, if_match};
use super::shape::check;
use super::time::rfc3339;
use crate::precheck::{CatalogTable, CatalogTopic, CheckOutcome, TestStep};
use crate::service::Service;
use crate::service::connections::Catalog;
use crate::store::connections::ConnectionRow;
use crate::task::change::{Effect, merge_patch};
use crate::task::connection::{
    ConnectionInput, ConnectionSettings, KafkaKind, MysqlKind, SaslMechanism, TlsSettings,
};

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list_connections))
        .routes(routes!(test_settings))
        .routes(routes!(get_connection, put_connection, patch_connection, delete_connection))
        .routes(routes!(test_connection))
        .routes(routes!(get_catalog))
}

/// A secret as it is read: whether there is one.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    pub set: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MysqlConnection {
    pub name: String,
    pub kind: MysqlKind,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: SecretView,
    pub tls: TlsSettings,
    pub version: i64,
    /// Names of the tasks that use it.
    pub used_by: Vec<String>,
    pub use_count: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SaslView {
    pub mechanism: SaslMechanism,
    pub user: String,
    pub password: SecretView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConnection {
    pub name: String,
    pub kind: KafkaKind,
    pub brokers: Vec<String>,
    pub sasl: Option<SaslView>,
    pub tls: TlsSettings,
    pub version: i64,
    /// Names of the tasks that use it.
    pub used_by: Vec<String>,
    pub use_count: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A connection as it is read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Connection {
    Mysql(MysqlConnection),
    Kafka(KafkaConnection),
}

impl Connection {
    fn new(row: ConnectionRow, used_by: Vec<String>) -> Self {
        let password = SecretView { set: row.secret.is_some() };
        let (created_at, updated_at) = (rfc3339(row.created_at), rfc3339(row.updated_at));
        match row.settings {
            ConnectionSettings::Mysql(settings) => Self::Mysql(MysqlConnection {
                name: row.name,
                kind: settings.kind,
                host: settings.host,
                port: settings.port,
                user: settings.user,
                password,
                tls: settings.tls,
                version: row.version,
                use_count: used_by.len() as u64,
                used_by,
                created_at,
                updated_at,
            }),
            ConnectionSettings::Kafka(settings) => Self::Kafka(KafkaConnection {
                name: row.name,
                kind: settings.kind,
                brokers: settings.brokers,
                sasl: settings.sasl.map(|sasl| SaslView {
                    mechanism: sasl.mechanism,
                    user: sasl.user,
                    password,
                }),
                tls: settings.tls,
                version: row.version,
                use_count: used_by.len() as u64,
                used_by,
                created_at,
                updated_at,
            }),
        }
    }
}

/// What reads carry beside what can be written: taken back without a word.
const READ_ONLY: [&str; 6] = ["version", "used_by", "use_count", "created_at", "updated_at", "effects"];

/// Takes read-only fields out; a name must be the path's.
fn writable(mut body: Value, name: &str) -> Result<Value, Problem> {
    if let Value::Object(fields) = &mut body {
        for field in READ_ONLY {
            fields.remove(field);
        }
        if let Some(given) = fields.remove("name")
            && given != name
        {
            let detail = format!("must be \"{name}\", the name in the path: connections cannot be renamed");
            let error = ProblemError {
                pointer: Some("/name".to_owned()),
                code: "invalid".to_owned(),
                detail,
                ..ProblemError::default()
            };
            return Err(Problem::faults(ProblemCode::InvalidBody, vec![error]));
        }
    }
    Ok(body)
}

fn input(body: Value) -> Result<ConnectionInput, Problem> {
    check(body).and_then(super::shape::Checked::finish).map_err(Problem::invalid)
}

async fn view(service: &Service, row: ConnectionRow) -> Result<Connection, Problem> {
    let used_by = service.store.connection_users(&row.name).await?;
    Ok(Connection::new(row, used_by))
}

/// Lists connections by name.
#[utoipa::path(get, path = "/connections", tag = "connections",
    params(
        ("kind" = Option<String>, Query, description = "tidb, kafka, adb or mysql"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Connection>)))]
async fn list_connections(
    State(service): State<Service>,
    mut params: Params,
) -> Result<Json<Page<Connection>>, Problem> {
    let kinds = ["tidb", "kafka", "adb", "mysql"];
    let kind = params.parsed("kind", "one of tidb, kafka, adb, mysql", |text| {
        kinds.iter().copied().find(|kind| *kind == text)
    });
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let filter = format!("connections {kind:?}");
    let after = decode(&filter, cursor.as_deref())?;
    let rows = service.store.connections_after(&after, kind, limit + 1).await?;
    let page = Page::cut(rows, limit, &filter, |row| row.name.clone());
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        items.push(view(&service, row).await?);
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One connection; its secret reads as whether there is one.
#[utoipa::path(get, path = "/connections/{name}", tag = "connections",
    params(("name" = String, Path)),
    responses((status = 200, body = Connection, headers(("etag" = String)))))]
async fn get_connection(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let row = service.connection(&name).await?;
    Ok((etag(row.version), Json(view(&service, row).await?)).into_response())
}

/// A connection after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionAnswer {
    #[serde(flatten)]
    pub connection: Connection,
    /// What the change does to the tasks that use it; empty when nothing changed.
    pub effects: Vec<Effect>,
}

async fn keep(
    service: &Service,
    name: &str,
    body: Value,
    headers: &HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let (verify, dry_run) = (params.flag("verify", true), params.flag("dry_run", false));
    params.finish()?;
    if !is_name(name) {
        let error = ProblemError::parameter("name", "invalid", "must match ^[a-z0-9-]{1,63}$");
        return Err(Problem::faults(ProblemCode::InvalidParameter, vec![error]));
    }
    let input = input(writable(body, name)?)?;
    let kept = service.put_connection(name, input, if_match(headers)?, verify, dry_run).await?;
    let status = if kept.created && !dry_run { StatusCode::CREATED } else { StatusCode::OK };
    let version = etag(kept.row.version);
    let connection = view(service, kept.row).await?;
    Ok((status, version, Json(ConnectionAnswer { connection, effects: kept.effects })).into_response())
}

/// Whether a name is one of ours.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(plain)
}

/// Creates or replaces a connection, once it has logged in.
#[utoipa::path(put, path = "/connections/{name}", tag = "connections",
    params(
        ("name" = String, Path, pattern = "^[a-z0-9-]{1,63}$"),
        ("verify" = Option<bool>, Query, description = "false keeps it without logging in"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to replace"),
    ),
    request_body = ConnectionInput,
    responses((status = 200, body = ConnectionAnswer), (status = 201, body = ConnectionAnswer)))]
async fn put_connection(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    keep(&service, &name, body, &headers, params).await
}

/// Changes a connection by a merge patch (RFC 7396), once it has logged in.
#[utoipa::path(patch, path = "/connections/{name}", tag = "connections",
    params(
        ("name" = String, Path),
        ("verify" = Option<bool>, Query, description = "false keeps it without logging in"),
        ("dry_run" = Option<bool>, Query, description = "true answers the same and keeps nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to change"),
    ),
    request_body(content = Value, description = "The fields of a connection to change; null = default"),
    responses((status = 200, body = ConnectionAnswer)))]
async fn patch_connection(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
    headers: HeaderMap,
    JsonBody(patch): JsonBody,
) -> Result<Response, Problem> {
    let row = service.connection(&name).await?;
    let mut body = serde_json::to_value(Connection::new(row, Vec::new())).map_err(Problem::internal)?;
    // null of a secret clears it; null of anything else brings the default back.
    merge_patch(&mut body, patch, |key| key == "password");
    keep(&service, &name, body, &headers, params).await
}

/// Deletes a connection that no task uses.
#[utoipa::path(delete, path = "/connections/{name}", tag = "connections",
    params(
        ("name" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "true answers with the effects and does nothing"),
        ("if-match" = Option<String>, Header, description = "ETag of the version to delete"),
    ),
    responses((status = 204), (status = 200, body = Effects, description = "with dry_run")))]
async fn delete_connection(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    service.delete_connection(&name, if_match(&headers)?, dry_run).await?;
    Ok(Effects::of_delete(dry_run, || format!("connection {name} is deleted with its secret")))
}

/// What a test found, step by step.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestReport {
    pub outcome: CheckOutcome,
    pub steps: Vec<TestStep>,
}

impl TestReport {
    fn new(steps: Vec<TestStep>) -> Self {
        let has = |outcome| steps.iter().any(|step| step.outcome == outcome);
        let outcome = if has(CheckOutcome::Fail) {
            CheckOutcome::Fail
        } else if has(CheckOutcome::Warn) {
            CheckOutcome::Warn
        } else {
            CheckOutcome::Pass
        };
        Self { outcome, steps }
    }
}

/// Tries settings that are not kept.
#[utoipa::path(post, path = "/connections/test", tag = "connections",
    request_body = ConnectionInput,
    responses((status = 200, body = TestReport)))]
async fn test_settings(
    State(service): State<Service>,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Json<TestReport>, Problem> {
    params.finish()?;
    Ok(Json(TestReport::new(service.test_settings(input(body)?).await?)))
}

/// Tries a connection as it is kept.
#[utoipa::path(post, path = "/connections/{name}/test", tag = "connections",
    params(("name" = String, Path)),
    responses((status = 200, body = TestReport)))]
async fn test_connection(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Json<TestReport>, Problem> {
    params.finish()?;
    Ok(Json(TestReport::new(service.test_connection(&name).await?)))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CatalogItem {
    Table(CatalogTable),
    Topic(CatalogTopic),
}

impl CatalogItem {
    fn key(&self) -> (&str, &str) {
        match self {
            Self::Table(table) => (&table.schema, &table.table),
            Self::Topic(topic) => (&topic.topic, ""),
        }
    }
}

/// What the endpoint holds: tables with estimates and keys, or topics with their range.
#[utoipa::path(get, path = "/connections/{name}/catalog", tag = "connections",
    params(
        ("name" = String, Path),
        ("schema" = Option<String>, Query, description = "tables of this schema only"),
        ("topic" = Option<String>, Query, description = "this topic only, with its first and last message in words"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<CatalogItem>)))]
async fn get_catalog(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
) -> Result<Json<Page<CatalogItem>>, Problem> {
    let row = service.connection(&name).await?;
    let parameter = if row.settings.kind() == "kafka" { "topic" } else { "schema" };
    let only = params.text(parameter);
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let filter = format!("catalog {name} {only:?}");
    let after = decode(&filter, cursor.as_deref())?;
    let mut items: Vec<CatalogItem> = match service.catalog(&name, only.as_deref()).await? {
        Catalog::Tables(tables) => tables.into_iter().map(CatalogItem::Table).collect(),
        Catalog::Topics(topics) => topics.into_iter().map(CatalogItem::Topic).collect(),
    };
    items.sort_by(|a, b| a.key().cmp(&b.key()));
    if !after.is_empty() {
        let (schema, table) = after.split_once('\0').unwrap_or((&after, ""));
        items.retain(|item| item.key() > (schema, table));
    }
    Ok(Json(Page::cut(items, limit, &filter, |item| {
        let (schema, table) = item.key();
        format!("{schema}\0{table}")
    })))
}

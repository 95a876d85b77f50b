//! `/tokens`: who may call. A secret is shown once, in the answer that made it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::effects::Effects;
use super::page::{Page, decode};
use super::problem::Problem;
use super::request::{JsonBody, Params, Segments};
use super::shape::check;
use super::time::{parse_rfc3339, rfc3339};
use crate::access::Role;
use crate::service::Service;
use crate::service::tokens::NewToken;
use crate::store::tokens::TokenRow;
use crate::task::fault::Fault;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(list_tokens, create_token)).routes(routes!(get_token, delete_token))
}

/// A token as it is read: all but its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    pub name: String,
    pub role: Role,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The caller who made it; null = the file of the first token.
    pub created_by: Option<String>,
    /// null = never.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    pub expired: bool,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            expired: !row.is_valid(crate::store::now_ms()),
            name: row.name,
            role: row.role,
            created_at: rfc3339(row.created_at),
            created_by: row.created_by,
            expires_at: row.expires_at.map(rfc3339),
        }
    }
}

/// A token just after it was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedToken {
    #[serde(flatten)]
    pub token: Token,
    /// Send it as `Authorization: Bearer ...`. It is shown this once and kept nowhere; null with dry_run.
    pub secret: Option<String>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenInput {
    #[schema(pattern = "^[a-z0-9-]{1,63}$")]
    pub name: String,
    pub role: Role,
    /// null = never.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// Lists tokens by name.
#[utoipa::path(get, path = "/tokens", tag = "access", extensions(("x-role" = json!("admin"))),
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = Page<Token>)))]
async fn list_tokens(
    State(service): State<Service>,
    mut params: Params,
) -> Result<Json<Page<Token>>, Problem> {
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.finish()?;
    let after = decode("tokens", cursor.as_deref())?;
    let mut rows = service.store.tokens().await?;
    rows.retain(|row| row.name > after);
    rows.truncate(limit as usize + 1);
    Ok(Json(Page::cut(rows, limit, "tokens", |row| row.name.clone()).map(Token::from)))
}

/// Makes a token. The first one must be an admin's: from then on every call needs a token.
#[utoipa::path(post, path = "/tokens", tag = "access", extensions(("x-role" = json!("admin"))),
    params(("dry_run" = Option<bool>, Query, description = "true judges the request and makes nothing")),
    request_body = TokenInput,
    responses((status = 201, body = CreatedToken), (status = 200, body = CreatedToken, description = "with dry_run")))]
async fn create_token(
    State(service): State<Service>,
    mut params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    let checked = check::<TokenInput>(body).map_err(Problem::invalid)?;
    let expires_at = checked.value.expires_at.as_deref().map(parse_rfc3339);
    let bad = matches!(expires_at, Some(None));
    let detail = "must be a time like 2030-01-31T00:00:00Z";
    let input = checked
        .and(bad.then(|| Fault::new("/expires_at", "invalid", detail)))
        .finish()
        .map_err(Problem::invalid)?;
    let new = NewToken { name: input.name, role: input.role, expires_at: expires_at.flatten() };
    let (row, secret) = service.create_token(new, dry_run).await?;
    let location: [(HeaderName, String); 2] = [
        (header::LOCATION, format!("{}/tokens/{}", super::BASE, row.name)),
        // No cache on the way keeps a secret.
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let secret = secret.map(|secret| secret.expose_secret().to_owned());
    let answer = Json(CreatedToken { token: row.into(), secret });
    if dry_run {
        return Ok(answer.into_response());
    }
    Ok((StatusCode::CREATED, location, answer).into_response())
}

/// One token.
#[utoipa::path(get, path = "/tokens/{name}", tag = "access", extensions(("x-role" = json!("admin"))),
    params(("name" = String, Path)),
    responses((status = 200, body = Token)))]
async fn get_token(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Json<Token>, Problem> {
    params.finish()?;
    Ok(Json(service.token(&name).await?.into()))
}

/// Revokes a token: its next call is refused, its streams of events end.
#[utoipa::path(delete, path = "/tokens/{name}", tag = "access", extensions(("x-role" = json!("admin"))),
    params(("name" = String, Path), ("dry_run" = Option<bool>, Query, description = "true answers with the effects and does nothing")),
    responses((status = 204), (status = 200, body = Effects, description = "with dry_run")))]
async fn delete_token(
    State(service): State<Service>,
    Segments(name): Segments<String>,
    mut params: Params,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry_run", false);
    params.finish()?;
    service.delete_token(&name, dry_run).await?;
    Ok(Effects::of_delete(dry_run, || format!("token {name} is revoked: its next call is refused")))
}

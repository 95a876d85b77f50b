//! What a write did, or would do with `?dry_run=true`, where the answer is nothing else.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::task::change::{Effect, EffectKind};

#[derive(Debug, Serialize, ToSchema)]
pub struct Effects {
    /// Empty when it was so already.
    pub effects: Vec<Effect>,
}

impl Effects {
    /// The answer of a DELETE: nothing, or with `dry_run` what would be gone.
    pub fn of_delete(dry_run: bool, detail: impl FnOnce() -> String) -> Response {
        if !dry_run {
            return StatusCode::NO_CONTENT.into_response();
        }
        let effect = Effect { field: String::new(), effect: EffectKind::Now, detail: detail() };
        Json(Self { effects: vec![effect] }).into_response()
    }
}

//! Asks source, stream and target what a task will need of them, before it needs it.
//!
//! [`run`] answers with one item per question, never with an error: what could not be asked is said in the item. Nothing is
//! written anywhere. Messages name objects, figures and settings; never a secret, never a row's value.

mod finding;
mod grants;
mod message;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
}

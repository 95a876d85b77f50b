//! Who calls: roles, and the caller of the request that is being answered.
//!
//! The caller goes with the request's own asynchronous task ([`Caller::scope`]), so that everything written down on its behalf
//! (store/events.rs) names who did it and from where without any layer in between handing it on. Work of the server itself has
//! no caller.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a caller may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads: no images of rows, no secrets.
    Viewer,
    /// Everything but tokens, backup and DDL replacement.
    Operator,
    Admin,
}

impl Role {
    pub const ALL: &[Self] = &[Self::Viewer, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name of the caller while the server has no tokens and serves its own machine only.
pub const LOCAL: &str = "local";

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token, or [`LOCAL`].
    pub name: Arc<str>,
    pub role: Role,
    /// Address of the other end of the connection; behind a proxy, the proxy's.
    pub peer: Option<Arc<str>>,
}

tokio::task_local! {
    static CALLER: Caller;
}

impl Caller {
    /// Runs a future as this caller's. A task spawned within it is nobody's, unless it is scoped again.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CALLER.scope(self, future).await
    }

    /// On whose behalf the present asynchronous task works; None = the server's own.
    pub fn current() -> Option<Self> {
        CALLER.try_with(Clone::clone).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_spelt_as_in_json() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert_eq!(Role::parse(role.as_str()), Some(*role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}

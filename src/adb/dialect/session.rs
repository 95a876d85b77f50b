//! What a session on the target must be like before anything is written, and the check that it is.

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::Dialect;
use crate::mysql::Session;

/// Strict, so that no value is bent in silence; an AUTO_INCREMENT column takes 0 as 0; dates that TiDB took (zero, zero month or
/// day, 31st of February) are taken.
pub const STRICT_MODE: &str = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'";

/// The same without strictness: for a statement whose values are [`crate::adb::encode::Pushed::RELAXED`] and no other.
pub const RELAXED_MODE: &str =
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'";

/// Statements for every new session on the target (design.md 10.13), before [`verify`].
pub fn target_session_setup(dialect: Dialect) -> Vec<String> {
    let statements: &[&str] = match dialect {
        Dialect::Mysql => &[
            "SET NAMES utf8mb4",
            "SET SESSION time_zone = '+00:00'",
            STRICT_MODE,
            "SET SESSION foreign_key_checks = 0",
            "SET SESSION sql_safe_updates = 0",
            "SET SESSION autocommit = 1",
        ],
        // Its sql_mode, keys and transactions are not those of MySQL; only what its manual names.
        Dialect::Adb => &["SET NAMES utf8mb4", "SET SESSION time_zone = '+00:00'"],
    };
    statements.iter().map(|statement| (*statement).to_owned()).collect()
}

/// Reads back what [`target_session_setup`] set: a proxy may swallow SET.
///
/// # Errors
/// `Configuration` when the session is not as asked.
pub async fn verify(session: &mut Session, dialect: Dialect) -> Result<()> {
    let wrong = |what: String| {
        Error::new(ErrorKind::Configuration, what)
            .endpoint(Endpoint::Target)
            .hint("connect to the server itself, not through a proxy that drops SET statements")
    };
    let epoch: Option<String> = session.first("SELECT CAST(FROM_UNIXTIME(0) AS CHAR)").await?;
    if !epoch.as_deref().is_some_and(|text| text.starts_with("1970-01-01 00:00:00")) {
        return Err(wrong("the target does not take the session time zone +00:00".to_owned()));
    }
    if dialect == Dialect::Adb {
        return Ok(());
    }
    let row: Option<(String, i64, String, String)> = session
        .first("SELECT @@SESSION.sql_mode, @@SESSION.foreign_key_checks, @@SESSION.character_set_client, @@SESSION.character_set_connection")
        .await?;
    let Some((mode, foreign_keys, client, connection)) = row else {
        return Err(wrong("the target does not show its session variables".to_owned()));
    };
    let has = |name: &str| mode.split(',').any(|part| part == name);
    let unwanted = ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "NO_ZERO_DATE", "NO_ZERO_IN_DATE"];
    if !has("STRICT_ALL_TABLES") || !has("NO_AUTO_VALUE_ON_ZERO") || unwanted.into_iter().any(has) {
        return Err(wrong(format!("the target's session has sql_mode `{mode}`")));
    }
    if foreign_keys != 0 {
        return Err(wrong("the target's session checks foreign keys".to_owned()));
    }
    if client != "utf8mb4" || connection != "utf8mb4" {
        return Err(wrong(format!("the target's session has the character sets {client} and {connection}")));
    }
    Ok(())
}

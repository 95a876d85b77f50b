//! Pages of lists: `{"items", "next_cursor"}`. A cursor is the key of the last item, bound to the list's filter and order.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::problem::{Problem, ProblemCode};

#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Send it back as `cursor` to read on; null = this was the last page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page from one item more than the limit: the surplus says that there is a next page.
    pub fn cut(mut items: Vec<T>, limit: u32, filter: &str, key: impl FnOnce(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| encode(filter, &key(last)));
        Self { items, next_cursor }
    }

    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

fn fingerprint(filter: &str) -> String {
    Sha256::digest(filter.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn encode(filter: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{key}", fingerprint(filter)))
}

/// The key that a cursor stands for; empty without a cursor.
pub fn decode(filter: &str, cursor: Option<&str>) -> Result<String, Problem> {
    let Some(cursor) = cursor else { return Ok(String::new()) };
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.as_deref()
        .and_then(|text| text.strip_prefix(fingerprint(filter).as_str()))
        .map(str::to_owned)
        .ok_or_else(|| {
            Problem::new(
                ProblemCode::InvalidCursor,
                "this cursor was not given by this list with this filter and order",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_bound_to_its_filter() {
        let page = Page::cut(vec!["a", "b", "c"], 2, "tasks?status=running", |key| (*key).to_owned());
        assert_eq!(page.items, ["a", "b"]);
        let cursor = page.next_cursor.unwrap();
        assert_eq!(decode("tasks?status=running", Some(&cursor)).unwrap(), "b");
        assert!(decode("tasks?status=failed", Some(&cursor)).is_err());
        assert!(decode("tasks?status=running", Some("!")).is_err());
        assert!(Page::cut(vec!["a", "b"], 2, "", |key| (*key).to_owned()).next_cursor.is_none());
    }
}

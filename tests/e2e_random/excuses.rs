//! Stops that Tidegate documents: the history holds what causes them, and the task says what cures them.

use super::history::History;

/// A DDL that the Drainer stage sent late (/drainer/reorder): nothing can be said of the rows between.
const LATE: &str = "comes after newer transactions";

/// Mark of the statement, a part of the error's text, the reason.
const STOPS: &[(&str, &str, &str)] = &[(
    "unqualified",
    "has no schema in this statement",
    "an old name without its schema that fits several tables",
)];

pub fn of_stop(error: &str, history: &History) -> Option<&'static str> {
    if error.contains(LATE) {
        return Some("a DDL that came late");
    }
    STOPS
        .iter()
        .find(|(mark, text, _)| history.marks.contains(mark) && error.contains(text))
        .map(|(_, _, reason)| *reason)
}

/// Refused before anything is copied.
const REFUSALS: &[(&str, &str)] = &[];

pub fn of_precheck(items: &str, _: &History) -> Option<&'static str> {
    REFUSALS.iter().find(|(text, _)| items.contains(text)).map(|(_, reason)| *reason)
}

//! When a field of a spec may change, and what a change of it does.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::fault::{Fault, child};
use super::spec::{LossyPolicies, LossyPolicy};
use super::status::Status;

/// When a field may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At any time.
    Live,
    /// While no run writes.
    Paused,
    /// Before the first start only.
    BeforeStart,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Paused => "paused",
            Self::BeforeStart => "before_start",
        }
    }

    pub fn allowed_from(self) -> &'static [Status] {
        match self {
            Self::Live => Status::ALL,
            Self::Paused => &[Status::Created, Status::Paused, Status::Failed],
            Self::BeforeStart => &[Status::Created],
        }
    }
}

/// By pointer; the longest prefix counts. In the document as `x-change`.
pub const CHANGES: [(&str, Change); 24] = [
    ("/name", Change::Live),
    ("/labels", Change::Live),
    ("/source", Change::BeforeStart),
    // The cure of a task that followed the topic alone until it met what only the source can tell.
    ("/source/tidb", Change::Paused),
    ("/source/topic", Change::Paused),
    ("/source/time_zone", Change::Paused),
    ("/target", Change::BeforeStart),
    ("/phases", Change::BeforeStart),
    ("/start_at", Change::BeforeStart),
    ("/objects", Change::Live),
    ("/names", Change::BeforeStart),
    ("/existing_tables", Change::BeforeStart),
    ("/ddl", Change::Live),
    ("/online_ddl", Change::Live),
    ("/lossy", Change::BeforeStart),
    // Between refuse and clamp, which make the same column.
    ("/lossy/time", Change::Paused),
    ("/lossy/zero_date", Change::Paused),
    ("/errors", Change::Live),
    ("/tables_without_key", Change::BeforeStart),
    ("/merge", Change::BeforeStart),
    ("/waivers", Change::Live),
    ("/throttle", Change::Live),
    ("/tuning", Change::Live),
    ("", Change::BeforeStart),
];

pub fn change_of(pointer: &str) -> Change {
    let covers = |prefix: &str| pointer == prefix || pointer.starts_with(&format!("{prefix}/"));
    CHANGES
        .iter()
        .filter(|(prefix, _)| covers(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(Change::BeforeStart, |(_, change)| *change)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// In force with the answer.
    Now,
    /// When the task is started or resumed next; a run in progress goes on as it began.
    NextStart,
}

/// What a change of one field does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Effect {
    /// JSON pointer into the spec; `/desired` for commands.
    pub field: String,
    pub effect: EffectKind,
    pub detail: String,
}

/// Pointers of all fields that differ; a list counts as one field.
pub fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(old, new, "", &mut found);
    found
}

fn collect(old: &Value, new: &Value, pointer: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
            found.extend(gone.map(|(key, _)| child(pointer, key)));
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => collect(before, value, &child(pointer, key), found),
                    None => found.push(child(pointer, key)),
                }
            }
        }
        (old, new) if old != new => found.push(pointer.to_owned()),
        _ => {}
    }
}

/// Effects of changing these fields in this state, or the fields that the state forbids.
pub fn judge(fields: &[String], status: Status) -> Result<Vec<Effect>, Vec<Fault>> {
    let mut effects = Vec::new();
    let mut faults = Vec::new();
    for field in fields {
        let change = change_of(field);
        if !change.allowed_from().contains(&status) {
            let words: Vec<_> = change.allowed_from().iter().map(|status| status.as_str()).collect();
            let detail = format!("can be changed only while the task is {}", words.join(", "));
            faults.push(Fault::new(field.as_str(), "locked", detail));
        } else if field.starts_with("/objects") && status != Status::Created {
            let detail = "the tables of a started task cannot be changed yet by this build: create another task for them";
            faults.push(Fault::new(field.as_str(), "not_supported", detail));
        } else {
            let now = field == "/name" || field.starts_with("/labels");
            let (effect, detail) = if now {
                (EffectKind::Now, "in force now")
            } else if matches!(status, Status::Created | Status::Paused | Status::Failed) {
                (EffectKind::NextStart, "in force when the task runs")
            } else {
                (EffectKind::NextStart, "in force after the task is paused and resumed")
            };
            effects.push(Effect { field: field.clone(), effect, detail: detail.to_owned() });
        }
    }
    if faults.is_empty() { Ok(effects) } else { Err(faults) }
}

/// Policies that would give a column another type: after the start they stay what they are.
pub fn retyped(old: &LossyPolicies, new: &LossyPolicies) -> Vec<Fault> {
    [("/lossy/time", old.time, new.time), ("/lossy/zero_date", old.zero_date, new.zero_date)]
        .into_iter()
        .filter(|(_, old, new)| old != new && [old, new].contains(&&LossyPolicy::Varchar))
        .map(|(field, ..)| {
            let detail =
                "from or to varchar can be changed only while the task is created: the columns are there";
            Fault::new(field, "locked", detail)
        })
        .collect()
}

/// Applies a merge patch (RFC 7396): null takes a field out, so that its default comes back; lists replace.
/// Where `keeps_null` says so, null stays a value.
pub fn merge_patch(target: &mut Value, patch: Value, keeps_null: fn(&str) -> bool) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(fields) = target {
        for (key, value) in patch {
            if value.is_null() && !keeps_null(&key) {
                fields.remove(&key);
            } else {
                merge_patch(fields.entry(key).or_insert(Value::Null), value, keeps_null);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_follows_the_standard() {
        // RFC 7396, appendix A
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut found = target;
            merge_patch(&mut found, patch, |_| false);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn fields_are_locked_by_state() {
        let fields = |text: &[&str]| text.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        let all = fields(&["/target", "/source/tidb", "/source/time_zone", "/tuning/connections", "/name"]);
        assert_eq!(judge(&all, Status::Created).unwrap().len(), 5);
        let locked = |status| -> Vec<String> {
            judge(&all, status).unwrap_err().into_iter().map(|fault| fault.pointer).collect()
        };
        assert_eq!(locked(Status::Paused), ["/target"]);
        assert_eq!(change_of("/source/kafka"), Change::BeforeStart);
        assert_eq!(locked(Status::Running), ["/target", "/source/tidb", "/source/time_zone"]);
        assert_eq!(change_of("/ddl/other"), Change::Live);
        assert_eq!(change_of("/names"), Change::BeforeStart);
        assert_eq!(change_of("/lossy/decimal"), Change::BeforeStart);
        assert_eq!(change_of("/lossy/time"), Change::Paused);
    }

    #[test]
    fn a_lossy_policy_that_makes_another_column_is_locked() {
        let old = LossyPolicies::default();
        assert!(retyped(&old, &LossyPolicies { time: LossyPolicy::Clamp, ..old }).is_empty());
        let text = LossyPolicies { time: LossyPolicy::Varchar, ..old };
        assert_eq!(retyped(&old, &text).len(), 1);
        assert_eq!(retyped(&text, &old).len(), 1);
    }

    #[test]
    fn differences_are_leaves() {
        let old = json!({"a": {"b": 1, "c": [1]}, "d": 1});
        let new = json!({"a": {"b": 2, "c": [1, 2]}, "e": 1});
        assert_eq!(differences(&old, &new), ["/d", "/a/b", "/a/c", "/e"]);
        assert!(differences(&old, &old).is_empty());
    }
}

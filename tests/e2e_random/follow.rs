//! Follows one history with a task for each target, does what a person would do where a task stops and says the cure, and compares in the
//! end.
//!
//! A table may be left out of the comparison only where the task itself said that it does not follow it: the precheck refused it
//! and the spec excludes it, or it is stopped, with an error that excuses.rs lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use reqwest::Method;
use serde_json::{Value, json};

use super::excuses::{self, Cure};
use super::history::{self, History, Mode};
use support::api::{self, Api};
use support::stack::{Dialect, Stack};
use support::{compare, sql};

/// How long a history's task may take to reach its end.
const PATIENCE: Duration = Duration::from_secs(900);

const POLL: Duration = Duration::from_millis(50);

/// How a history ended that did not fail.
#[derive(Debug, Default)]
pub struct Ending {
    pub tables: u64,
    pub rows: u64,
    /// Tables that are not compared, or the one stop of the whole task, by the reason.
    pub excused: BTreeMap<&'static str, u64>,
    /// Cures that helped.
    pub cured: BTreeMap<&'static str, u64>,
    /// The task stands still: no table is compared.
    pub stopped: bool,
}

/// Runs a history and follows it into each of the stack's targets; how it ended in each, and seconds by what they were spent on.
pub async fn history(
    stacks: &[Stack],
    api: &Api,
    history: &mut History,
    steps: usize,
) -> (Vec<Result<Ending, String>>, BTreeMap<&'static str, f64>) {
    let mut follows: Vec<Follow<'_>> =
        stacks.iter().map(|stack| Follow::new(stack, api, history.seed)).collect();
    let mut faults: Vec<Option<String>> = vec![None; stacks.len()];
    let mut spent = BTreeMap::new();
    let mut clock = Instant::now();
    let mut lap = |what: &'static str| {
        *spent.entry(what).or_default() += clock.elapsed().as_secs_f64();
        clock = Instant::now();
    };
    let source = &stacks[0];
    let mut start = None;
    if history.mode == Mode::Whole {
        history.begin().await;
        history.steps(steps / 2).await;
        lap("source");
    } else {
        // Everything of the history comes after this offset.
        start = Some(end(source).await);
        lap("settle");
    }
    for (follow, fault) in follows.iter_mut().zip(&mut faults) {
        *fault = follow.begin(history, start).await.err();
    }
    lap("start");
    if history.mode != Mode::Whole {
        history.begin().await;
        history.steps(steps / 2).await;
    }
    history.steps(steps - steps / 2).await;
    if history.marks.contains("multi_rename") {
        history.tell_apart(false).await;
    }
    lap("source");
    loop {
        let end = end(source).await;
        lap("settle");
        let before = history.log.len();
        for (follow, fault) in follows.iter_mut().zip(&mut faults) {
            if fault.is_none() && !follow.ending.stopped {
                *fault = follow.reach(history, end).await.err();
            }
        }
        lap("reach");
        // A cure at the source is the business of every task.
        if history.log.len() == before {
            break;
        }
    }
    for (follow, fault) in follows.iter_mut().zip(&mut faults) {
        if fault.is_none() && !follow.ending.stopped {
            *fault = follow.compare(history).await.err();
        }
    }
    lap("compare");
    let endings = follows.into_iter().zip(faults);
    (endings.map(|(follow, fault)| fault.map_or(Ok(follow.ending), Err)).collect(), spent)
}

/// Times that the Drainer stopped where a real one exits, and was started again without what it stopped at.
pub static STOPS: AtomicU64 = AtomicU64::new(0);

/// The topic's end once it has everything that is committed now.
async fn end(stack: &Stack) -> i64 {
    let now = sql::current_tso(&mut sql::tidb(stack).await).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = stack.drainer(Method::GET, "/drainer/status").await;
        if status["state"] == "stopped" {
            let fatal = status["last_fatal"].as_str().unwrap_or_default();
            let at = fatal.trim_start_matches("commit_ts ").split(':').next().unwrap_or_default();
            STOPS.fetch_add(1, Ordering::Relaxed);
            eprintln!("the Drainer stopped and passes over the transaction: {fatal}");
            let path = format!("/drainer/restart?back_messages=0&ignore_commit_ts={at}");
            // Another history may have done so.
            let _ = stack.try_drainer(Method::POST, &path).await;
        } else if status["watermark"].as_u64().unwrap_or(0) >= now {
            return stack.end_offset(&stack.topic).await;
        }
        assert!(Instant::now() < deadline, "the Drainer stage does not reach {now}: {status}");
        tokio::time::sleep(POLL).await;
    }
}

pub fn task(stack: &Stack, seed: u64) -> String {
    format!("{}{seed}", stack.target().0)
}

struct Follow<'a> {
    stack: &'a Stack,
    api: &'a Api,
    task: String,
    ending: Ending,
    /// Schema and name of tables that are not compared.
    left_out: BTreeSet<(String, String)>,
    cures: BTreeSet<&'static str>,
}

impl<'a> Follow<'a> {
    fn new(stack: &'a Stack, api: &'a Api, seed: u64) -> Self {
        let (ending, left_out, cures) = Default::default();
        Self { stack, api, task: task(stack, seed), ending, left_out, cures }
    }

    /// Makes the task and starts it: from the offset, or with a copy of what is there.
    async fn begin(&mut self, history: &mut History, start: Option<i64>) -> Result<(), String> {
        let mut more = self.policies(history);
        if let Some(start) = start {
            more["start_at"] = json!({"offset": start.to_string()});
            more["phases"] = json!({"schema": false, "full": false, "incremental": true});
        }
        more["target"] = json!(self.stack.target().0);
        let include = history.include();
        let include: Vec<&str> = include.iter().map(String::as_str).collect();
        let mut spec = api::spec(&self.task, self.stack, &include, &more);
        if history.mode != Mode::Whole {
            spec["source"].as_object_mut().unwrap().remove("tidb");
        }
        self.api.create_task(&spec).await;
        self.start(history, "start").await?;
        if history.mode == Mode::Beside {
            // With one from the beginning the precheck wants tables.
            let wanted = |task: &Value| task["phase"] == "incremental";
            self.api.wait_for(&self.task, "incremental", PATIENCE, wanted).await;
            self.api.complete(&self.task, "pause").await;
            self.patch(&json!({"source": {"tidb": "tidb"}})).await?;
            self.api.command(&self.task, "resume").await;
        }
        Ok(())
    }

    /// What the spec says beyond its objects: by the seed, so that the policies meet all kinds of histories.
    fn policies(&self, history: &History) -> Value {
        let mut more = json!({
            "ddl": {"drop_database": "apply"},
            "tuning": {"chunk_rows": 50, "connections": 3},
            "labels": {"mode": format!("{:?}", history.mode)},
        });
        api::merge(&mut more, &api::policies(self.stack));
        // AnalyticDB refuses many a table of a history, and the others go on.
        if self.stack.dialect == Dialect::Adb || history.seed.is_multiple_of(2) {
            api::merge(&mut more, &json!({"errors": {"table": "stop_table"}}));
        }
        if history.mode == Mode::Whole
            && (self.stack.dialect == Dialect::Adb || history.seed.is_multiple_of(3))
        {
            let rebuild = json!({"ddl": {
                "modify_column": "rebuild", "rename_column": "rebuild", "add_column": "rebuild", "drop_column": "rebuild",
            }});
            api::merge(&mut more, &rebuild);
        }
        more
    }

    /// Precheck and start. What the precheck refuses is cured at the source where it says how, else excluded.
    async fn start(&mut self, history: &mut History, command: &str) -> Result<(), String> {
        let task = self.task.clone();
        loop {
            let precheck = self.api.post(&format!("/tasks/{task}/precheck"), &json!({})).await;
            let failed = api::items(&precheck, &["fail"]);
            let warned = api::items(&precheck, &["warn"]);
            // Those of others may be in it too: nobody knows in which schema an unqualified name was meant.
            let ours = |object: &Value| {
                let mut tables = history.tables();
                tables.any(|(schema, table)| {
                    object
                        .as_str()
                        .is_some_and(|object| object.eq_ignore_ascii_case(&format!("{schema}.{table}")))
                })
            };
            let renamed = |item: &Value| {
                item["id"] == "source.renames"
                    && item["objects"].as_array().is_some_and(|objects| objects.iter().any(ours))
            };
            if warned.iter().any(renamed) {
                // Before the run's own precheck the history may have gone on.
                if !self.first("renames before the start") && !self.first("renames before the start, again") {
                    return Err(format!("the cure does not help: {warned:?}"));
                }
                history.tell_apart(true).await;
                continue;
            }
            if failed.is_empty() {
                if !warned.is_empty() {
                    let waivers: Vec<_> = warned.iter().map(|item| item["id"].clone()).collect();
                    self.patch(&json!({"waivers": waivers})).await?;
                }
                break;
            }
            let text = failed.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
            if failed.iter().any(|item| item["id"] == "tables.selected")
                && self.first("a table that the target takes")
            {
                history.plain().await;
                continue;
            }
            let before = self.left_out.len();
            for item in &failed {
                let Some(reason) = excuses::of_precheck(item, self.stack.dialect) else { continue };
                for object in item["objects"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    self.leave_out(history, object, reason);
                }
            }
            if self.left_out.len() == before {
                return Err(format!("the precheck fails:\n{text}"));
            }
            let exclude: Vec<String> = self
                .left_out
                .iter()
                .map(|(schema, table)| format!("{}.{}", sql::quote(schema), sql::quote(table)))
                .collect();
            self.patch(&json!({"objects": {"exclude": exclude}})).await?;
        }
        self.api.command(&task, command).await;
        Ok(())
    }

    /// The table that an object of a precheck item is, or is in.
    fn leave_out(&mut self, history: &History, object: &str, reason: &'static str) {
        let found = history.tables().find(|(schema, table)| {
            let name = format!("{schema}.{table}");
            object
                .strip_prefix(&name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':', ' ']))
        });
        if let Some((schema, table)) = found
            && self.left_out.insert((schema.to_owned(), table.to_owned()))
        {
            *self.ending.excused.entry(reason).or_default() += 1;
        }
    }

    async fn patch(&self, change: &Value) -> Result<(), String> {
        let path = format!("/tasks/{}/spec", self.task);
        let answer = self.api.send(Method::PATCH, &path, Some(change)).await;
        if answer.status.is_success() { Ok(()) } else { Err(format!("{change}: {:#}", answer.body)) }
    }

    /// Each cure is tried once.
    fn first(&mut self, cure: &'static str) -> bool {
        let first = self.cures.insert(cure);
        if first {
            *self.ending.cured.entry(cure).or_default() += 1;
        }
        first
    }

    /// Waits until the task has everything and no table is being copied. Or it stands still for a reason that is documented.
    async fn reach(&mut self, history: &mut History, mut end: i64) -> Result<(), String> {
        let task = self.task.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(POLL).await;
            let state = self.api.task(&task).await;
            if Instant::now() > deadline {
                let tables = self.tables().await;
                let aside: Vec<_> = tables.iter().filter(|table| table["state"] != "following").collect();
                return Err(format!(
                    "not at offset {end} in time; {aside:?}: {}",
                    self.api.story(&task, &state).await
                ));
            }
            if state["status"] == "failed" {
                // The history went on between the precheck that was asked for and that of the run, or behind that.
                let error = &state["last_error"];
                let outran = error["message"].as_str().is_some_and(|text| text.starts_with("precheck: "))
                    || (state["phase"] == "schema" && excuses::of_table(error, self.stack.dialect).is_some());
                if outran && self.first("a precheck that the source outran") {
                    self.start(history, "resume").await?;
                    end = self::end(self.stack).await;
                    continue;
                }
                if self.cure(history, error).await? {
                    end = self::end(self.stack).await;
                    continue;
                }
                let taken = self.is_left(excuses::taken_place(error)).await.then_some(excuses::TAKEN);
                let Some(reason) = excuses::of_stop(error, history).or(taken) else {
                    return Err(format!("failed: {}", self.api.story(&task, &state).await));
                };
                self.ending.stopped = true;
                *self.ending.excused.entry(reason).or_default() += 1;
                return Ok(());
            }
            let reached = api::next_offset(&state).is_some_and(|next| next >= end);
            if state["status"] != "running" || state["phase"] != "incremental" || !reached {
                continue;
            }
            let tables = self.tables().await;
            let waits =
                |table: &Value| table["reason"].as_str().is_some_and(|text| text.contains("RENAME TABLE of"));
            if tables.iter().any(|table| table["state"] == "resync" && waits(table))
                && self.first("renamed away and back")
            {
                history.tell_apart(true).await;
                end = self::end(self.stack).await;
                continue;
            }
            let busy = ["waiting", "copying", "copied", "resync", "catching_up", "swapping", "failed"];
            // A copy is tried again for ever, also where it cannot come to an end.
            let excused = |table: &Value| {
                table["state"] == "failed" && excuses::of_table(&table["error"], self.stack.dialect).is_some()
            };
            let is_busy = |table: &Value| busy.contains(&table["state"].as_str().unwrap_or_default());
            if tables.iter().any(|table| is_busy(table) && !excused(table)) {
                continue;
            }
            let stopped: Vec<&Value> =
                tables.iter().filter(|table| table["state"] == "stopped" || excused(table)).collect();
            if !stopped.is_empty() && history.mode != Mode::Stream && self.first("tables copied again") {
                let names: Vec<Value> = stopped
                    .iter()
                    .map(|table| json!({"schema": table["schema"], "table": table["table"]}))
                    .collect();
                if stopped.iter().any(|table| table["error"].to_string().contains(excuses::UNHEARD)) {
                    history.tell_apart(false).await;
                }
                self.api.post(&format!("/tasks/{task}/tables/resync"), &json!({"tables": names})).await;
                end = self::end(self.stack).await;
                continue;
            }
            let said = self.said().await;
            for table in stopped {
                let name = |field: &str| table[field].as_str().unwrap_or_default().to_owned();
                let (schema, of) = (name("schema"), name("table"));
                // It may be called otherwise by now than where it was made.
                let object = table["error"]["object"].as_str().unwrap_or_default().replace('`', "");
                let stays = [format!("{schema}.{of}"), object].iter().any(|place| is_left(&said, place));
                let taken = || {
                    let message = table["error"]["message"].as_str()?;
                    let exists =
                        message.ends_with("already exists") || message.ends_with("that is not the task's");
                    (stays && exists).then_some(excuses::TAKEN)
                };
                let mut reason = excuses::of_table(&table["error"], self.stack.dialect).or_else(taken);
                let message = table["error"]["message"].as_str().unwrap_or_default();
                if message.ends_with("keys that differ on the source are equal on the target") {
                    let mut source = sql::tidb(self.stack).await;
                    let broken = excuses::breaks_its_keys(&mut source, &schema, &of).await;
                    reason = broken.then_some(excuses::BROKEN_KEY);
                }
                let Some(reason) = reason else {
                    return Err(format!(
                        "a table is stopped: {table:#}\n{}",
                        self.api.story(&task, &state).await
                    ));
                };
                if self.left_out.insert((schema, of)) {
                    *self.ending.excused.entry(reason).or_default() += 1;
                }
            }
            return Ok(());
        }
    }

    /// Does what the error's hint says, if that is known here and was not done yet.
    async fn cure(&mut self, history: &mut History, error: &Value) -> Result<bool, String> {
        let Some((name, cure)) = excuses::cure(error) else { return Ok(false) };
        if !self.first(name) {
            return Ok(false);
        }
        match cure {
            Cure::Patch(change) => self.patch(&serde_json::from_str(change).unwrap()).await?,
            Cure::TellApart => history.tell_apart(true).await,
            Cure::CopyAgain => {
                history.tell_apart(false).await;
                let tables = self.tables().await;
                let object = error["object"].as_str().unwrap_or_default();
                let is_it = |table: &&Value| {
                    let name = |field: &str| table[field].as_str().unwrap_or_default();
                    object.ends_with(&format!("{}.{}", name("schema"), name("table")))
                };
                let names: Vec<Value> = tables
                    .iter()
                    .filter(is_it)
                    .map(|table| json!({"schema": table["schema"], "table": table["table"]}))
                    .collect();
                let path = format!("/tasks/{}/tables/resync", self.task);
                if !self
                    .api
                    .send(Method::POST, &path, Some(&json!({"tables": names})))
                    .await
                    .status
                    .is_success()
                {
                    return Ok(false);
                }
            }
        }
        self.api.command(&self.task, "resume").await;
        Ok(true)
    }

    async fn tables(&self) -> Vec<Value> {
        let list = self.api.get(&format!("/tasks/{}/tables?limit=500", self.task)).await;
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The task has said that it left a table in this place.
    async fn is_left(&self, place: Option<&str>) -> bool {
        let Some(place) = place else { return false };
        let said = self.said().await;
        told(&said, format!("it stays {place}, in the way of the next table of that name"))
            || told(&said, format!("{place} left the selection as"))
    }

    /// What the task has said of its DDL and its tables.
    async fn said(&self) -> String {
        let task = self.task.clone();
        let ddl = self.api.get(&format!("/tasks/{task}/ddl?limit=500")).await;
        let events = self.api.get(&format!("/tasks/{task}/events?limit=500")).await;
        format!("{} {}", ddl["items"], events["items"])
    }

    /// The target's tables, once copies in the making that nobody wants any more are gone.
    async fn places(&self, target: &mut Conn, schema: &str) -> Vec<String> {
        for _ in 0..100 {
            let found = sql::tables(target, schema).await;
            if !found.iter().any(|name| name.starts_with("_tidegate_")) {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
        sql::tables(target, schema).await
    }

    async fn compare(&mut self, history: &History) -> Result<(), String> {
        let said = self.said().await;
        let (mut source, mut target) = (sql::tidb(self.stack).await, sql::target(self.stack).await);
        let mut faults = Vec::new();
        for schema in &history.schemas {
            let left_out = |name: &str| {
                self.left_out
                    .iter()
                    .any(|(of, table)| of == schema && table.to_lowercase() == name.to_lowercase())
            };
            let tables = sql::tables(&mut source, schema).await;
            for surplus in self.places(&mut target, schema).await {
                // A table that is not followed keeps its place on the target when it is renamed.
                let stays = told(&said, format!("it stays {schema}.{surplus}"))
                    || told(&said, format!("{schema}.{surplus} left the selection"));
                if !stays
                    && !left_out(&surplus)
                    && !tables.iter().any(|table| table.eq_ignore_ascii_case(&surplus))
                {
                    faults.push(format!("{schema}.{surplus} is only on the target"));
                }
            }
            for name in tables.into_iter().filter(|name| !left_out(name)) {
                let quoted = format!("{}.{}", sql::quote(schema), sql::quote(&name));
                if let Err(error) = source.query_drop(format!("SELECT * FROM {quoted}")).await
                    && let Some(reason) = excuses::of_read(&error.to_string())
                {
                    *self.ending.excused.entry(reason).or_default() += 1;
                    continue;
                }
                if excuses::breaks_its_keys(&mut source, schema, &name).await {
                    *self.ending.excused.entry(excuses::BROKEN_KEY).or_default() += 1;
                    continue;
                }
                self.ending.rows += sql::count(&mut source, &quoted).await;
                self.ending.tables += 1;
                let name = (schema.clone(), name);
                // Without a source the target converts values by its own rules, and rows that are there get another time.
                let converted = |column: &compare::Column| {
                    let name = &column.name;
                    [
                        format!("values of `{name}` become "),
                        format!("the time of this DDL's commit in `{name}`"),
                    ]
                    .into_iter()
                    .any(|note| told(&said, note))
                };
                if history.mode == Mode::Stream
                    && compare::columns(&mut target, &name).await.iter().any(converted)
                {
                    *self.ending.excused.entry("values that only the source knows").or_default() += 1;
                    continue;
                }
                if let Some(fault) = compare::table(&mut source, &name, &mut target, &name).await {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let again = compare::table(&mut source, &name, &mut target, &name).await;
                    let again =
                        again.map_or("equal", |again| if again == fault { "the same" } else { "different" });
                    faults.push(format!("{fault}\ncompared again after 2 s: {again}"));
                }
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        let state = self.api.task(&self.task).await;
        Err(format!(
            "source and target differ in {} of {} tables:\n{}\n{}",
            faults.len(),
            self.ending.tables,
            faults.join("\n"),
            self.api.story(&self.task, &state).await
        ))
    }
}

/// Ends the tasks; what is left of them goes unless it is to be kept.
pub async fn clean(stacks: &[Stack], api: &Api, history: &History, keep: bool) {
    for stack in stacks {
        let task = task(stack, history.seed);
        let path = format!("/tasks/{task}/stop?wait_ms=30000");
        let _ = api.try_send(Method::POST, &path, Some(&json!({}))).await;
        if !keep {
            let _ = api.try_send(Method::DELETE, &format!("/tasks/{task}"), None).await;
        }
    }
    if !keep {
        history::drop_schemas(stacks, &history.schemas).await;
    }
}

/// Whether the events hold this text.
/// The task has said that a table stays in a place that the text names.
fn is_left(said: &str, text: &str) -> bool {
    let text = Value::from(text).to_string();
    let places = said.split("it stays ").skip(1).filter_map(|rest| rest.split(", in the way of").next());
    places.into_iter().any(|place| text.contains(place))
}

fn told(said: &str, text: String) -> bool {
    said.contains(Value::from(text).to_string().trim_matches('"'))
}

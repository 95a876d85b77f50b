//! Tables whose rows Drainer may send under stale names, because of a RENAME of several tables in the past.
//!
//! After such a statement Drainer goes on under old names, also when it is started again, until each of the tables has seen a DDL of its own
//! (source-drainer.md 0.12, 10.4); one from another schema, a RENAME or TRUNCATE. A task that starts later finds nothing of it in the
//! stream; the source's history of DDL tells.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::error::{Endpoint, Error, ErrorKind, Result};
use crate::model::TableName;
use crate::mysql::Session;
use crate::sql::ddl;
use crate::sql::ddl::ast::{ObjectName, Statement};
use crate::sql::literal;
use crate::task::selection::Selection;

/// A table that was renamed together with others and has seen no DDL of its own since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenamedTogether {
    pub table: TableName,
    /// Folded names under which its rows may come: every one of the statement that renamed it, in every schema of it.
    pub names: BTreeSet<TableName>,
}

impl RenamedTogether {
    /// Whether rows of the task's tables may come under a name of another, or the other way round.
    fn concerns(&self, selection: &Selection) -> bool {
        selection.selects(&self.table) || self.names.iter().any(|name| selection.selects(name))
    }
}

/// A RENAME of several tables, as the history has it.
#[derive(Debug)]
struct Rename {
    job: u64,
    schema: String,
    pairs: Vec<(ObjectName, ObjectName)>,
}

impl Rename {
    fn read(job: u64, schema: Option<String>, query: &[u8]) -> Option<Self> {
        let statements = ddl::parse(query).ok()?;
        let pairs = statements.into_iter().find_map(|statement| match statement {
            Statement::RenameTable { pairs } => Some(pairs),
            _ => None,
        })?;
        Some(Self { job, schema: schema.unwrap_or_default(), pairs })
    }

    /// The schema of unqualified names: a job has that of its last new name, the session's own nobody recorded.
    fn session(&self) -> Option<&str> {
        let (_, last) = self.pairs.last()?;
        last.schema.is_none().then_some(self.schema.as_str())
    }

    /// Whether a table may have come from another schema.
    fn crosses(&self) -> bool {
        let names = || self.pairs.iter().flat_map(|(old, new)| [old, new]);
        let said = |name: &ObjectName| name.schema.as_deref().or(self.session()).map(str::to_lowercase);
        names().map(said).collect::<BTreeSet<_>>().len() > 1
    }

    /// Whether it may have made this table what it is called now.
    fn made(&self, table: &TableName) -> bool {
        let said = |name: &ObjectName| name.schema.clone().or(self.session().map(str::to_owned));
        self.pairs.iter().any(|(_, new)| {
            new.name.to_lowercase() == table.table.to_lowercase()
                && said(new).is_none_or(|schema| schema.to_lowercase() == table.schema.to_lowercase())
        })
    }

    fn may_concern(&self, selection: &Selection) -> bool {
        // Nobody recorded in which schema an unqualified name was meant.
        let untold = |name: &ObjectName| name.schema.is_none() && self.session().is_none();
        self.pairs.iter().flat_map(|(old, new)| [old, new]).any(untold)
            || self.names(&TableName::new(&self.schema, "")).iter().any(|name| selection.selects(name))
    }

    fn names(&self, table: &TableName) -> BTreeSet<TableName> {
        let names = || self.pairs.iter().flat_map(|(old, new)| [old, new]);
        let mut schemas: BTreeSet<&str> = names().filter_map(|name| name.schema.as_deref()).collect();
        schemas.extend([self.session().unwrap_or(&table.schema), &self.schema]);
        names()
            .flat_map(|name| schemas.iter().map(|schema| TableName::new(*schema, &name.name).key()))
            .collect()
    }
}

/// How the history calls a RENAME of several tables.
const RENAMES: &str = "rename tables";

/// Jobs of a table that Drainer passes over (source-drainer.md 4.3): they teach it nothing.
const UNSEEN: [&str; 9] = [
    "update tiflash replica status",
    "lock table",
    "unlock table",
    "alter table cache",
    "alter table nocache",
    "alter table attributes",
    "alter table partition attributes",
    "alter table placement",
    "alter table partition placement",
];

/// A job of the history: id, type, state, the table's id and name, schema, and the text of a RENAME of several tables.
type Job = (u64, String, String, u64, Option<String>, Option<String>, Option<Vec<u8>>);

/// How long a RENAME that is under way is waited for.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Those that concern a selection, among the last `most` statements of the history, of which a server reads some thousand a second. A source that
/// keeps no such history (before 4.0) renames no tables together.
///
/// # Errors
/// `Contention` while such a statement is under way: a snapshot has its names already, and not every server of the cluster yet.
pub async fn renamed_together(
    session: &mut Session,
    selection: &Selection,
    most: u32,
) -> Result<Vec<RenamedTogether>> {
    let until = Instant::now() + UNDER_WAY;
    let jobs = loop {
        let jobs: Vec<Job> = match last_jobs(session, most).await {
            Err(error) if error.kind == ErrorKind::Missing => return Ok(Vec::new()),
            jobs => jobs?,
        };
        let under_way = |(job, kind, state, .., schema, query): &Job| {
            let done = kind == RENAMES && state == "done";
            let rename =
                query.as_ref().filter(|_| done).and_then(|query| Rename::read(*job, schema.clone(), query));
            rename.is_some_and(|rename| rename.may_concern(selection))
        };
        let Some((job, ..)) = jobs.iter().find(|job| under_way(job)) else { break jobs };
        if Instant::now() > until {
            return Err(Error::new(
                ErrorKind::Contention,
                format!("the RENAME of DDL job {job} is under way"),
            )
            .endpoint(Endpoint::Source)
            .hint("ADMIN SHOW DDL JOBS shows it; a long transaction may hold it up"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (mut renames, mut own) = (Vec::new(), HashMap::<Of, Learned>::new());
    for (job, kind, state, id, table, schema, query) in jobs {
        if let Some(query) = query {
            renames.extend(Rename::read(job, schema, &query).filter(|_| state == "synced"));
        } else if kind != RENAMES
            && matches!(state.as_str(), "synced" | "done")
            && !UNSEEN.contains(&kind.as_str())
        {
            let truncate = kind == "truncate table";
            let of = match (schema, table) {
                (Some(schema), Some(table)) if truncate => Of::Name(TableName::new(schema, table).key()),
                _ => Of::Id(id),
            };
            let last = own.entry(of).or_default();
            last.name = job.max(last.name);
            if truncate || kind == "rename table" {
                last.schema = job.max(last.schema);
            }
        }
    }
    if renames.is_empty() {
        return Ok(Vec::new());
    }
    // As they were spelled: TiDB looks these up, where a function of the name would make it look at every table.
    let names: BTreeSet<&str> =
        renames.iter().flat_map(|rename| &rename.pairs).map(|(_, new)| new.name.as_str()).collect();
    let names = names.into_iter().map(literal::string).collect::<Vec<_>>().join(", ");
    let tables: Vec<(String, String, u64)> = session
        .query(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TIDB_TABLE_ID FROM information_schema.tables WHERE TABLE_NAME IN ({names})"
        ))
        .await
        .map_err(super::passing)?;
    let tables = tables.into_iter().map(|(schema, table, id)| (TableName::new(schema, table), id)).collect();
    let mut found = stale(&renames, tables, &own);
    found.retain(|stale| stale.concerns(selection));
    Ok(found)
}

async fn last_jobs(session: &mut Session, most: u32) -> Result<Vec<Job>> {
    session
        .query(&format!(
            "SELECT JOB_ID, JOB_TYPE, STATE, TABLE_ID, TABLE_NAME, DB_NAME, IF(JOB_TYPE = '{RENAMES}', QUERY, NULL) \
             FROM information_schema.ddl_jobs LIMIT {most}"
        ))
        .await
}

/// The last DDL of a table by itself: any tells Drainer its name, a RENAME or TRUNCATE its schema too.
#[derive(Debug, Clone, Copy, Default)]
struct Learned {
    name: u64,
    schema: u64,
}

/// The table of a job. A TRUNCATE is listed under the id that it ends, so it is known by the name.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Of {
    Id(u64),
    /// Folded.
    Name(TableName),
}

fn stale(
    renames: &[Rename],
    tables: BTreeMap<TableName, u64>,
    own: &HashMap<Of, Learned>,
) -> Vec<RenamedTogether> {
    tables
        .into_iter()
        .filter_map(|(table, id)| {
            let of = |of: &Of| own.get(of).copied().unwrap_or_default();
            let (by_id, by_name) = (of(&Of::Id(id)), of(&Of::Name(table.key())));
            let learned =
                Learned { name: by_id.name.max(by_name.name), schema: by_id.schema.max(by_name.schema) };
            let until = |rename: &Rename| if rename.crosses() { learned.schema } else { learned.name };
            let since: Vec<&Rename> =
                renames.iter().filter(|rename| rename.job > until(rename) && rename.made(&table)).collect();
            let names: BTreeSet<TableName> = since.iter().flat_map(|rename| rename.names(&table)).collect();
            (!names.is_empty()).then_some(RenamedTogether { table, names })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(job: u64, schema: &str, query: &str) -> Rename {
        Rename::read(job, Some(schema.to_owned()), query.as_bytes()).unwrap()
    }

    #[test]
    fn a_table_is_stale_until_it_has_a_ddl_of_its_own() {
        let renames = [
            rename(10, "s", "RENAME TABLE s.a TO s.b, c TO d"),
            rename(20, "x", "rename table q to r, b to x.e"),
        ];
        let table = |schema: &str, name: &str| TableName::new(schema, name);
        // b of job 10 is x.e of job 20; another s.b was made after it.
        let tables = BTreeMap::from([
            (table("s", "b"), 7),
            (table("s", "D"), 2),
            (table("x", "e"), 1),
            (table("t", "d"), 9),
        ]);
        let found = |own: &[(u64, u64)]| -> Vec<String> {
            let own = own.iter().map(|(id, job)| (Of::Id(*id), Learned { name: *job, schema: *job }));
            stale(&renames, tables.clone(), &own.collect())
                .into_iter()
                .map(|stale| stale.table.to_string())
                .collect()
        };
        assert_eq!(found(&[(1, 5), (2, 6), (7, 15), (9, 1)]), ["s.D", "x.e"]);
        assert_eq!(found(&[(1, 25), (2, 11), (7, 15), (9, 12)]), [""; 0]);
        let learned = |job| Learned { name: job, schema: job };
        let own = [(Of::Id(2), learned(11)), (Of::Id(7), learned(15)), (Of::Id(9), learned(12))];
        let own = HashMap::from(own);
        let stale = stale(&renames, tables.clone(), &own);
        let names: Vec<String> = stale[0].names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["x.b", "x.e", "x.q", "x.r"]);
    }

    #[test]
    fn an_alter_does_not_tell_the_schema() {
        let across = [rename(10, "a", "RENAME TABLE a.t TO a.u, b.v TO a.t")];
        let names: Vec<_> =
            across[0].names(&TableName::new("a", "t")).iter().map(|name| name.to_string()).collect();
        assert_eq!(names, ["a.t", "a.u", "a.v", "b.t", "b.u", "b.v"], "the new name in the old schema too");
        let within = [rename(10, "a", "RENAME TABLE a.t TO a.u, a.v TO a.t")];
        let tables = BTreeMap::from([(TableName::new("a", "t"), 1)]);
        let found = |renames: &[Rename], name, schema| {
            stale(renames, tables.clone(), &HashMap::from([(Of::Id(1), Learned { name, schema })])).len()
        };
        assert_eq!((found(&across, 20, 0), found(&across, 20, 20)), (1, 0));
        // A TRUNCATE does, though the table has another id after it.
        let own = HashMap::from([(Of::Name(TableName::new("a", "t")), Learned { name: 20, schema: 20 })]);
        assert!(stale(&across, tables.clone(), &own).is_empty());
        assert_eq!((found(&within, 5, 5), found(&within, 20, 0)), (1, 0));
    }

    #[test]
    fn one_under_way_concerns_those_whose_names_it_has_or_may_have() {
        let spec: crate::task::spec::Spec = serde_json::from_value(serde_json::json!({
            "name": "t", "source": {"kafka": "k", "topic": "x"}, "target": "t", "objects": {"include": ["s.*"]},
        }))
        .unwrap();
        let selection = Selection::new(&spec).unwrap();
        for (schema, query, concerns) in [
            ("s", "RENAME TABLE a TO b, c TO d", true),
            ("r", "RENAME TABLE a TO b, c TO d", false),
            ("r", "RENAME TABLE r.a TO r.b, s.c TO r.d", true),
            ("r", "RENAME TABLE r.a TO r.b, r.c TO r.d", false),
            // In which schema it was said, nobody knows.
            ("r", "RENAME TABLE a TO b, c TO r.d", true),
        ] {
            assert_eq!(rename(1, schema, query).may_concern(&selection), concerns, "{schema}: {query}");
        }
    }

    #[test]
    fn what_is_no_rename_is_nothing() {
        assert!(Rename::read(1, None, b"ALTER TABLE a RENAME b").is_none());
        assert!(Rename::read(1, None, b"").is_none());
    }
}

//! The rows of one table.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rand::Rng;

use super::Run;
use crate::adb::dialect::{TargetTable, own_rows};
use crate::error::{Error, ErrorKind, Result};
use crate::full::keyed::{Keyed, KeyedTable};
use crate::model::Table;
use crate::sql::literal;
use crate::store::{Difference, LetterColumn, Mode, TableFound, Verdict};
use crate::task::spec::Operations;

/// What was found, the columns of the key, and the rows that differ.
pub type Compared = (TableFound, Vec<LetterColumn>, Vec<Difference>);

/// A table, and what it is on the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub table: Table,
    pub target: TargetTable,
    /// The target has columns that the source has not, by policy.
    pub keep_other_columns: bool,
    /// The target keeps rows that the source has emptied or dropped whole, by policy.
    pub keeps_rows: bool,
}

/// Rows of a page at most, and their bytes, about.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 16 << 20;
/// Keys of one statement that looks rows up.
const LOOK_UP: usize = 500;
/// Rows that are looked at again together.
const TOGETHER: usize = 2000;
/// A table with so many differences is different enough.
const MOST: usize = 10_000;
/// Looks at a row that differs before it counts as unsettled.
const ROUNDS: u32 = 8;
/// Looks in a row that find the same two images of a row, so that it counts as different.
const LOOKS: u32 = 3;

pub fn inconclusive(why: impl Into<String>) -> TableFound {
    TableFound { verdict: Some(Verdict::Inconclusive), detail: Some(why.into()), ..TableFound::default() }
}

/// A row that differed.
struct Candidate {
    key: Vec<u8>,
    /// Its two images then, and in how many looks in a row.
    seen: Option<u64>,
    times: u32,
}

impl Candidate {
    /// Remembers what it is; never certain.
    fn was(&mut self, images: u64) -> bool {
        self.seen = Some(images);
        false
    }

    /// Certain when it is as it was in the looks before.
    fn is(&mut self, images: u64) -> bool {
        self.times = if self.seen.replace(images) == Some(images) { self.times + 1 } else { 1 };
        self.times >= LOOKS
    }

    /// Certain when it is as it was.
    fn stays(&mut self, images: u64) -> bool {
        self.seen == Some(images)
    }
}

type Candidates = HashMap<Vec<u8>, Candidate>;

fn images(source: Option<&Keyed>, target: Option<&Keyed>) -> u64 {
    let mut hasher = DefaultHasher::new();
    source.map(|row| &row.content).hash(&mut hasher);
    target.map(|row| &row.content).hash(&mut hasher);
    hasher.finish()
}

/// Compares the rows of a table.
pub async fn rows(run: &mut Run, planned: &Planned) -> Result<Compared> {
    let mut table = KeyedTable::new(&planned.table, &planned.target)?;
    run.moment(false).await?;
    if run.job.order.mode == Mode::Count || !table.has_key() {
        let contents = run.job.order.mode != Mode::Count;
        let found = sums(run, planned, &mut table, contents).await?;
        return Ok((found, Vec::new(), Vec::new()));
    }
    let operations = planned.target.operations;
    let mut pass = Pass {
        operations,
        judges_surplus: !planned.keeps_rows && operations.delete && operations.update,
        page_rows: 100,
        look_up: 100,
        candidates: Candidates::new(),
        confirmed: HashMap::new(),
        unsettled: 0,
    };
    let walked = pass.walk(run, &mut table).await;
    let over = run.is_over() && !pass.confirmed.is_empty();
    let (source_rows, target_rows) = match walked {
        Ok(counts) => counts,
        // What was found is true.
        Err(_) if over => (None, None),
        Err(error) => return Err(error),
    };
    let mut found = TableFound {
        source_rows: source_rows.map(|rows| rows.cast_signed()),
        target_rows: target_rows.map(|rows| rows.cast_signed()),
        unsettled: pass.unsettled,
        ..TableFound::default()
    };
    let (mut details, mut differences) = (Vec::new(), Vec::new());
    for difference in std::mem::take(&mut pass.confirmed).into_values() {
        match difference.kind {
            "missing" => found.missing += 1,
            "surplus" => found.surplus += 1,
            _ => found.different += 1,
        }
        differences.push(difference);
    }
    let all = found.missing + found.surplus + found.different;
    if over {
        details.push("the time for the verification was over in the middle of it".to_owned());
    } else if all >= MOST as i64 {
        details.push(format!("at least {all} rows differ: the rest was not compared"));
    } else if !table.found_from_target() && pass.judges_surplus {
        // What only the target has was not looked for by its key.
        let counted = sums(run, planned, &mut table, false).await?;
        let surplus = counted.target_rows.unwrap_or(0) - counted.source_rows.unwrap_or(0) + found.missing;
        match counted.verdict {
            Some(Verdict::Inconclusive) => found.unsettled += 1,
            _ if surplus > 0 => {
                found.surplus = surplus;
                details.push("rows that only the target has were counted, not named".to_owned());
            }
            _ => {}
        }
    }
    if found.unsettled > 0 {
        details
            .push(format!("{} rows changed too often, or could not be found by their key", found.unsettled));
    }
    found.verdict = Some(if found.missing + found.surplus + found.different > 0 {
        Verdict::Different
    } else if found.unsettled > 0 {
        Verdict::Inconclusive
    } else {
        Verdict::Equal
    });
    found.detail = (!details.is_empty()).then(|| details.join("; "));
    if run.job.order.mode != Mode::Rows {
        differences.clear();
    }
    Ok((found, table.key_columns(), differences))
}

/// Where a page ended: canonical and encoded key.
type Last = (Vec<u8>, Vec<u8>);

struct Pass {
    operations: Operations,
    /// Rows that only the target has are wrong.
    judges_surplus: bool,
    /// Rows of the next page, and keys of the next look-up: fewer where rows are large.
    page_rows: usize,
    look_up: usize,
    candidates: Candidates,
    /// By canonical key.
    confirmed: HashMap<Vec<u8>, Difference>,
    unsettled: i64,
}

impl Pass {
    /// Both passes. The number of rows on either side, where it was read to its end.
    async fn walk(
        &mut self,
        run: &mut Run,
        table: &mut KeyedTable<'_>,
    ) -> Result<(Option<u64>, Option<u64>)> {
        let source_rows = self.source(run, table).await?;
        let target_rows = self.target(run, table).await?;
        self.settle(run, table).await?;
        Ok((source_rows, target_rows))
    }

    fn is_enough(&self) -> bool {
        self.confirmed.len() >= MOST
    }

    fn rows_of(&mut self, rows: usize, bytes: usize) {
        let fit = PAGE_BYTES / (bytes / rows.max(1)).max(1);
        self.page_rows = fit.clamp(2, PAGE_ROWS);
        self.look_up = fit.clamp(1, LOOK_UP);
    }

    /// Looks for each row of the source on the target. The number of rows, None when it was left early.
    async fn source(&mut self, run: &mut Run, table: &mut KeyedTable<'_>) -> Result<Option<u64>> {
        let (mut from, mut count): (Option<Last>, u64) = (None, 0);
        loop {
            run.moment(false).await?;
            let limit = self.page_rows;
            let sql = table.source_page(from.as_ref().map(|(_, key)| key.as_slice()), limit)?;
            let (mut page, mut last) = (HashMap::new(), None);
            let (mut read, mut bytes, mut cut) = (0, 0, false);
            run.read_source(&sql, |row| {
                read += 1;
                // What lies behind is read again: the next page begins at the last row that was kept.
                cut = cut || bytes > 2 * PAGE_BYTES;
                if cut {
                    return Ok(());
                }
                let cells = row.unwrap();
                let key = table.key_of_source(&cells)?;
                let again = from.as_ref().is_some_and(|from| from.0 == key.0);
                last = Some(key);
                if again {
                    return Ok(());
                }
                let Some((canonical, keyed)) = table.of_source(&cells)? else { return Ok(()) };
                bytes += keyed.content.len() + keyed.key.len() + canonical.len();
                page.insert(canonical, keyed);
                Ok(())
            })
            .await?;
            count += page.len() as u64;
            self.rows_of(page.len(), bytes);
            let rows = page.len() as u64;
            self.look_on_target(run, table, page).await?;
            run.count(rows).await?;
            if self.candidates.len() >= TOGETHER {
                self.settle(run, table).await?;
            }
            if read < limit && !cut {
                return Ok(Some(count));
            }
            if self.is_enough() {
                return Ok(None);
            }
            goes_on(from.as_ref(), last.as_ref())?;
            from = last;
        }
    }

    /// Compares a page of the source with the same rows of the target.
    async fn look_on_target(
        &mut self,
        run: &mut Run,
        table: &mut KeyedTable<'_>,
        page: HashMap<Vec<u8>, Keyed>,
    ) -> Result<()> {
        let mut page: Vec<(Vec<u8>, Keyed)> = page.into_iter().collect();
        while !page.is_empty() {
            let rest = page.len().saturating_sub(self.look_up);
            let mut wanted: HashMap<Vec<u8>, Keyed> = page.drain(rest..).collect();
            let sql = table.target_rows(wanted.values().map(|row| row.key.as_slice()))?;
            let candidates = &mut self.candidates;
            run.read_target(&sql, |row| {
                let (canonical, found) = table.of_target(&row.unwrap())?;
                if let Some(row) = wanted.remove(&canonical)
                    && row.content != found.content
                {
                    let seen = Some(images(Some(&row), Some(&found)));
                    candidates.insert(canonical, Candidate { key: row.key, seen, times: 1 });
                }
                Ok(())
            })
            .await?;
            for (canonical, row) in wanted {
                let seen = Some(images(Some(&row), None));
                self.candidates.insert(canonical, Candidate { key: row.key, seen, times: 1 });
            }
        }
        Ok(())
    }

    /// Looks for each key of the target at the source. The number of rows, None when it was left early.
    async fn target(&mut self, run: &mut Run, table: &mut KeyedTable<'_>) -> Result<Option<u64>> {
        // What is missing here must not be there.
        self.settle(run, table).await?;
        let (mut from, mut count): (Option<Last>, u64) = (None, 0);
        while !self.is_enough() {
            run.moment(false).await?;
            let sql = table.target_keys_page(from.as_ref().map(|(_, key)| key.as_slice()), PAGE_ROWS)?;
            let (mut page, mut last, mut read) = (HashMap::new(), None, 0);
            run.read_target(&sql, |row| {
                read += 1;
                let (canonical, keyed) = table.of_target_key(&row.unwrap())?;
                last = Some((canonical.clone(), keyed.key.clone()));
                page.insert(canonical, keyed.key);
                Ok(())
            })
            .await?;
            if let Some((canonical, _)) = &from {
                page.remove(canonical);
            }
            count += page.len() as u64;
            for canonical in page.keys() {
                if self.confirmed.get(canonical).is_some_and(|difference| difference.kind == "missing") {
                    // It is there, and the target did not find it by its key.
                    self.confirmed.remove(canonical);
                    self.unsettled += 1;
                }
            }
            let rows = page.len() as u64;
            if table.found_from_target() {
                self.look_at_source(run, table, page).await?;
            }
            run.count(rows).await?;
            if self.candidates.len() >= TOGETHER {
                self.settle(run, table).await?;
            }
            if read < PAGE_ROWS {
                return Ok(Some(count));
            }
            goes_on(from.as_ref(), last.as_ref())?;
            from = last;
        }
        Ok(None)
    }

    async fn look_at_source(
        &mut self,
        run: &mut Run,
        table: &mut KeyedTable<'_>,
        page: HashMap<Vec<u8>, Vec<u8>>,
    ) -> Result<()> {
        let mut page: Vec<(Vec<u8>, Vec<u8>)> = page.into_iter().collect();
        while !page.is_empty() {
            let rest = page.len().saturating_sub(self.look_up);
            let mut wanted: HashMap<Vec<u8>, Vec<u8>> = page.drain(rest..).collect();
            let sql = table.source_keys(wanted.values().map(Vec::as_slice))?;
            run.read_source(&sql, |row| {
                if let Some(canonical) = table.of_source_key(&row.unwrap())? {
                    wanted.remove(&canonical);
                }
                Ok(())
            })
            .await?;
            for (canonical, key) in wanted {
                self.candidates.entry(canonical).or_insert(Candidate { key, seen: None, times: 0 });
            }
        }
        Ok(())
    }

    /// Looks at what differed until it is equal, stands still, or was looked at often enough.
    async fn settle(&mut self, run: &mut Run, table: &mut KeyedTable<'_>) -> Result<()> {
        let mut open = std::mem::take(&mut self.candidates);
        if open.is_empty() {
            return Ok(());
        }
        if run.is_still().await? {
            // As of the task's position, and as of now: a row that the source has changed since says nothing.
            run.moment(true).await?;
            self.look(run, table, &mut open, Candidate::was).await?;
            run.now().await?;
            self.look(run, table, &mut open, Candidate::stays).await?;
            self.unsettled += open.len() as i64;
            return Ok(());
        }
        for round in 0..ROUNDS {
            if open.is_empty() {
                return Ok(());
            }
            pause(round).await;
            run.moment(true).await?;
            self.look(run, table, &mut open, Candidate::is).await?;
        }
        self.unsettled += open.len() as i64;
        Ok(())
    }

    /// Looks at rows once. Those that are equal go; of the others `judge` says whether they are different for certain.
    async fn look(
        &mut self,
        run: &mut Run,
        table: &mut KeyedTable<'_>,
        open: &mut Candidates,
        judge: fn(&mut Candidate, u64) -> bool,
    ) -> Result<()> {
        let mut all: Vec<(Vec<u8>, Candidate)> = open.drain().collect();
        while !all.is_empty() {
            let part = all.split_off(all.len().saturating_sub(self.look_up));
            let keys = || part.iter().map(|(_, candidate)| candidate.key.as_slice());
            let (source_sql, target_sql) = (table.source_rows(keys())?, table.target_rows(keys())?);
            let (mut at_source, mut on_target) = (HashMap::new(), HashMap::new());
            run.read_source(&source_sql, |row| {
                at_source.extend(table.of_source(&row.unwrap())?);
                Ok(())
            })
            .await?;
            run.read_target(&target_sql, |row| {
                on_target.extend([table.of_target(&row.unwrap())?]);
                Ok(())
            })
            .await?;
            for (canonical, mut candidate) in part {
                let (source, target) = (at_source.get(&canonical), on_target.get(&canonical));
                let (kind, columns, wanted) = match (source, target) {
                    (None, None) => continue,
                    (Some(_), None) => {
                        ("missing", Vec::new(), self.operations.insert && self.operations.update)
                    }
                    (None, Some(_)) => ("surplus", Vec::new(), self.judges_surplus),
                    (Some(one), Some(other)) if one.content == other.content => continue,
                    (Some(one), Some(other)) => {
                        ("different", table.differing(&one.content, &other.content), self.operations.update)
                    }
                };
                if !wanted {
                    continue;
                }
                if judge(&mut candidate, images(source, target)) {
                    self.confirmed.insert(canonical, Difference { kind, columns, key: candidate.key });
                } else {
                    open.insert(canonical, candidate);
                }
            }
        }
        Ok(())
    }
}

/// Before a look at what differed: at distances that nothing which comes and goes will keep.
async fn pause(round: u32) {
    let longest = 100_u64 << round.min(4);
    let millis = if round == 0 { 0 } else { rand::rng().random_range(longest / 2..=longest) };
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// # Errors
/// The page brought nothing new: more rows than fit into one have the same key.
fn goes_on(from: Option<&Last>, last: Option<&Last>) -> Result<()> {
    if last.is_some() && from.map(|(canonical, _)| canonical) != last.map(|(canonical, _)| canonical) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SchemaMismatch,
        "too many rows share one key, so that they cannot be told from each other",
    ))
}

/// Compares numbers of rows and, with `contents`, sums over their values: for tables without a key.
async fn sums(
    run: &mut Run,
    planned: &Planned,
    table: &mut KeyedTable<'_>,
    contents: bool,
) -> Result<TableFound> {
    let all = planned.target.operations == Operations::default();
    if !all {
        return Ok(inconclusive(
            "its `operations` leave changes out, so its number of rows is not that of the source",
        ));
    }
    let (mut before, mut times) = (None, 0);
    for round in 0..ROUNDS {
        pause(round).await;
        let still = run.is_still().await?;
        if round > 0 && still {
            run.now().await?;
        } else {
            run.moment(round > 0).await?;
        }
        let source = source_sum(run, planned, table, contents).await?;
        let target = target_sum(run, planned, table, contents).await?;
        run.count(source.0 + target.0).await?;
        times = if before.replace((source, target)) == Some((source, target)) { times + 1 } else { 1 };
        let verdict = if source == target {
            Verdict::Equal
        } else if planned.keeps_rows && target.0 > source.0 {
            return Ok(inconclusive("the target keeps rows that the source has emptied, by policy"));
        } else if times >= if still { 2 } else { LOOKS } {
            Verdict::Different
        } else {
            continue;
        };
        let (rows, held) = (source.0.cast_signed(), target.0.cast_signed());
        return Ok(TableFound {
            verdict: Some(verdict),
            detail: (verdict == Verdict::Different && rows == held).then(|| {
                "as many rows, but not the same ones; without a key they cannot be named".to_owned()
            }),
            source_rows: Some(rows),
            target_rows: Some(held),
            missing: (rows - held).max(0),
            surplus: (held - rows).max(0),
            different: i64::from(verdict == Verdict::Different && rows == held),
            unsettled: 0,
        });
    }
    Ok(inconclusive("it changed each time it was looked at"))
}

/// Rows, and a sum over their values that does not depend on their order.
type Sum = (u64, u128);

fn add(sum: &mut Sum, content: &[u8]) {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, content).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    sum.0 += 1;
    sum.1 = sum.1.wrapping_add(half(0) << 64 | half(1));
}

async fn source_sum(
    run: &mut Run,
    planned: &Planned,
    table: &mut KeyedTable<'_>,
    contents: bool,
) -> Result<Sum> {
    let mut sum = (0, 0);
    if !contents && planned.target.filter.is_none() {
        let sql = format!("SELECT COUNT(*) FROM {}", literal::table_name(&planned.table.name));
        run.read_source(&sql, |row| counted(row, &mut sum)).await?;
        return Ok(sum);
    }
    run.read_source(&table.source_all(), |row| {
        if let Some((_, keyed)) = table.of_source(&row.unwrap())? {
            add(&mut sum, &keyed.content);
        }
        Ok(())
    })
    .await?;
    if !contents {
        sum.1 = 0;
    }
    Ok(sum)
}

async fn target_sum(
    run: &mut Run,
    planned: &Planned,
    table: &mut KeyedTable<'_>,
    contents: bool,
) -> Result<Sum> {
    let mut sum = (0, 0);
    if contents {
        run.read_target(&table.target_all(), |row| {
            let (_, keyed) = table.of_target(&row.unwrap())?;
            add(&mut sum, &keyed.content);
            Ok(())
        })
        .await?;
        return Ok(sum);
    }
    let condition = own_rows(&planned.target).map_or(String::new(), |own| format!(" WHERE {own}"));
    let sql = format!("SELECT COUNT(*) FROM {}{condition}", literal::table_name(&planned.target.name));
    run.read_target(&sql, |row| counted(row, &mut sum)).await?;
    Ok(sum)
}

fn counted(row: mysql_async::Row, sum: &mut Sum) -> Result<()> {
    sum.0 = row.get(0).ok_or_else(|| Error::internal("COUNT(*) without a number"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_order_but_on_repeats() {
        let sum = |rows: &[&[u8]]| {
            let mut sum = (0, 0);
            rows.iter().for_each(|row| add(&mut sum, row));
            sum
        };
        assert_eq!(sum(&[b"a", b"b"]), sum(&[b"b", b"a"]));
        assert_ne!(sum(&[b"a", b"a"]), sum(&[b"b", b"b"]));
        assert_ne!(sum(&[b"a", b"a", b"b"]), sum(&[b"a", b"b", b"b"]));
    }
}

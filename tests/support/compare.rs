//! Are two tables the same? Asked of the servers by plain SELECTs, apart from the product's own code.
//!
//! All columns are read over the binary protocol with the session zone at +00:00, generated ones included; the rows are
//! compared as multisets, so that tables without a key are compared too. AnalyticDB has no generated columns: there they must be missing.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::cell::{self, Kind};
use super::sql::{self, quote};

/// Rows of a table that only one side has, shown at most.
const SHOWN: usize = 5;

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub generated: bool,
}

/// Schema and name.
pub type Name = (String, String);

/// Columns in their order; empty when there is no such table.
pub async fn columns(connection: &mut Conn, table: &Name) -> Vec<Column> {
    // Not of information_schema: after a RENAME of several tables this TiDB has columns of tables that are no more under a name there.
    let rows: Vec<mysql_async::Row> = connection
        .query(format!("SHOW COLUMNS FROM {}.{}", quote(&table.0), quote(&table.1)))
        .await
        .or_else(|error| match error {
            mysql_async::Error::Server(server) if matches!(server.code, 1049 | 1146) => Ok(Vec::new()),
            other => Err(other),
        })
        .unwrap();
    let text = |row: &mysql_async::Row, name: &str| row.get::<String, _>(name).unwrap();
    rows.iter()
        .map(|row| {
            let extra = text(row, "Extra").to_uppercase();
            let generated = ["VIRTUAL", "STORED", "PERSISTENT"].iter().any(|word| extra.contains(word));
            let kind = Kind::of(text(row, "Type").split(['(', ' ']).next().unwrap_or_default());
            Column { name: text(row, "Field"), kind, generated }
        })
        .collect()
}

/// All rows, each as one text, sorted.
pub async fn rows(connection: &mut Conn, table: &Name, columns: &[Column]) -> Result<Vec<String>, String> {
    let list: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
    let select = format!("SELECT {} FROM {}.{}", list.join(", "), quote(&table.0), quote(&table.1));
    let rows: Vec<mysql_async::Row> =
        connection.exec(&select, ()).await.map_err(|error| error.to_string())?;
    let mut texts: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let cells = row.unwrap().into_iter().zip(columns);
            row_text(cells.map(|(value, column)| cell::from_server(column.kind, &value)))
        })
        .collect();
    texts.sort_unstable();
    Ok(texts)
}

/// A row as one text that no other row has.
pub fn row_text(cells: impl Iterator<Item = Option<String>>) -> String {
    cells
        .map(|cell| cell.map_or("NULL".to_owned(), |text| format!("{text:?}")))
        .collect::<Vec<_>>()
        .join(" | ")
}

/// What two sorted lists do not share, in words; None when they are equal.
pub fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let (missing, surplus) = (only_in(expected, found), only_in(found, expected));
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let show = |what: &str, rows: &[&String]| {
        let lines = rows.iter().take(SHOWN).map(|row| format!("\n    {}", shorten(row)));
        format!("\n  {} rows only in {what}{}", rows.len(), lines.collect::<String>())
    };
    Some(format!("{}{}", show("the source", &missing), show("the target", &surplus)))
}

fn shorten(row: &str) -> String {
    match row.char_indices().nth(1500) {
        Some((end, _)) => format!("{}...", &row[..end]),
        None => row.to_owned(),
    }
}

/// Items of `left` that `right` lacks, both sorted, counted with their repeats.
fn only_in<'a>(left: &'a [String], right: &[String]) -> Vec<&'a String> {
    let mut right = right.iter().peekable();
    left.iter()
        .filter(|item| {
            while right.next_if(|other| *other < *item).is_some() {}
            right.next_if(|other| other == item).is_none()
        })
        .collect()
}

/// Is this the stand-in for AnalyticDB?
pub async fn is_adb(connection: &mut Conn) -> bool {
    connection.query_first::<String, _>("SELECT adb_version()").await.is_ok()
}

/// The source's columns as the target holds them: a BIT that became text is read as text, everything else keeps the source's spelling.
pub fn as_on(columns: &[Column], target: &[Column]) -> Vec<Column> {
    let on_target = |name: &str| target.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    columns
        .iter()
        .map(|column| match on_target(&column.name) {
            Some(other) if column.kind == Kind::Bit && other.kind == Kind::Text => other.clone(),
            _ => column.clone(),
        })
        .collect()
}

/// Compares a table of the source with one of the target; None when they hold the same.
pub async fn table(source: &mut Conn, from: &Name, target: &mut Conn, to: &Name) -> Option<String> {
    let mut expected_columns = columns(source, from).await;
    let found_columns = columns(target, to).await;
    if is_adb(target).await {
        expected_columns.retain(|column| !column.generated);
    }
    let names = |columns: &[Column]| {
        let mut names: Vec<_> = columns.iter().map(|column| column.name.to_lowercase()).collect();
        names.sort_unstable();
        names
    };
    let what = format!("{}.{}", from.0, from.1);
    if names(&expected_columns) != names(&found_columns) {
        return Some(format!(
            "{what}: columns {:?} on the source, {:?} on the target",
            names(&expected_columns),
            names(&found_columns)
        ));
    }
    let expected =
        rows(source, from, &expected_columns).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = match rows(target, to, &as_on(&expected_columns, &found_columns)).await {
        Ok(rows) => rows,
        Err(error) => return Some(format!("{what}: the target cannot be read: {error}")),
    };
    let columns: Vec<_> = expected_columns.iter().map(|column| column.name.as_str()).collect();
    difference(&expected, &found)
        .map(|text| format!("{what} ({} rows on the source; {}){text}", expected.len(), columns.join(", ")))
}

/// Compares schemas: the same tables with the same rows. The number of tables and rows, or what differs.
pub async fn schemas(
    source: &mut Conn,
    target: &mut Conn,
    schemas: &[(&str, &str)],
) -> Result<(usize, u64), String> {
    let (mut count, mut row_count, mut faults) = (0, 0, Vec::new());
    for (from, to) in schemas {
        let tables = sql::tables(source, from).await;
        let found = sql::tables(target, to).await;
        for surplus in
            found.iter().filter(|name| !tables.iter().any(|table| table.eq_ignore_ascii_case(name)))
        {
            faults.push(format!("{to}.{surplus} is only on the target"));
        }
        for name in tables {
            row_count += sql::count(source, &format!("{}.{}", quote(from), quote(&name))).await;
            let to = ((*to).to_owned(), name.clone());
            faults.extend(table(source, &((*from).to_owned(), name), target, &to).await);
            count += 1;
        }
    }
    if faults.is_empty() {
        return Ok((count, row_count));
    }
    Err(format!("source and target differ in {} of {count} tables:\n{}", faults.len(), faults.join("\n")))
}

/// Asserts that each schema has the same tables with the same rows on both sides; gives the number of tables and rows.
pub async fn assert_schemas_equal(
    source: &mut Conn,
    target: &mut Conn,
    names: &[(&str, &str)],
) -> (usize, u64) {
    let (count, rows) = schemas(source, target, names).await.unwrap_or_else(|faults| panic!("{faults}"));
    assert!(count > 0, "there is nothing to compare");
    (count, rows)
}

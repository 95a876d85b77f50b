//! Statements on rows: INSERT keeps what is there, REPLACE and UPDATE go by the primary key, conditions are bounded.

use crate::catalog::State;
use crate::plan::{Plan, resolve};
use crate::refusal::{Refusal, limit, unsupported};
use crate::table::Table;
use crate::token::{Cursor, Kind, Token, quote_name, tokens};

const IN_ITEMS: usize = 2000;
const WHERE_ITEMS: usize = 256;

/// The head of an INSERT or REPLACE is short; its values are not.
const HEAD: usize = 4096;

pub fn insert(sql: &[u8], database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    let mut head = Cursor::new(&sql[..sql.len().min(HEAD)]);
    let replaces = head.take("replace");
    let _ = head.take("insert");
    let _ = head.take("low_priority") || head.take("delayed") || head.take("high_priority");
    let ignore = head.peek().filter(|_| head.take("ignore"));
    if head.starts("overwrite") {
        return Err(unsupported("the stand-in does not overwrite partitions"));
    }
    let _ = head.take("into");
    let name = resolve(head.table()?, database)?;
    // A table that is not there is MariaDB's to refuse.
    let Some(table) = state.table(&name) else {
        return Ok(Plan::Run { sql: None, writes: true, one_affected: false });
    };
    let updates = on_duplicate(sql)?;
    if replaces {
        if table.primary.is_empty() {
            return Err(unsupported(format!("REPLACE needs a primary key, {}.{} has none", name.0, name.1)));
        }
        return Ok(Plan::Run { sql: None, writes: true, one_affected: false });
    }
    if let Some(at) = updates {
        judge_update(&sql[at..], table)?;
        return Ok(Plan::Run { sql: None, writes: true, one_affected: true });
    }
    let Some(key) = table.primary.first() else {
        return Ok(Plan::Run { sql: None, writes: true, one_affected: false });
    };
    // The row that is there stays; INSERT IGNORE would bend values too.
    let mut changed = Vec::with_capacity(sql.len() + 100);
    match ignore {
        Some(word) => {
            changed.extend_from_slice(&sql[..word.at]);
            changed.extend_from_slice(&sql[word.end()..]);
        }
        None => changed.extend_from_slice(sql),
    }
    while changed.last().is_some_and(|last| last.is_ascii_whitespace() || *last == b';') {
        changed.pop();
    }
    let column = format!("{}.{}", quote_name(&name.1), quote_name(key));
    changed.extend_from_slice(format!("\n ON DUPLICATE KEY UPDATE {column} = {column}").as_bytes());
    Ok(Plan::Run { sql: Some(changed), writes: true, one_affected: false })
}

/// Where the assignments of ON DUPLICATE KEY UPDATE begin. Refuses a second statement.
fn on_duplicate(sql: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut last: [Option<Token<'_>>; 4] = [None; 4];
    let mut over = false;
    for token in tokens(sql) {
        if over {
            return Err(unsupported("one statement at a time"));
        }
        if token.kind == Kind::Symbol {
            over = token.raw == b";";
            last = [None; 4];
            continue;
        }
        last.rotate_left(1);
        last[3] = Some(token);
        let words = ["on", "duplicate", "key", "update"];
        if last.iter().zip(words).all(|(token, word)| token.is_some_and(|token| token.is(word))) {
            return Ok(Some(token.end()));
        }
    }
    Ok(None)
}

/// `a = VALUES(a), b = 'literal'` on columns outside of the key.
fn judge_update(sql: &[u8], table: &Table) -> Result<(), Refusal> {
    let mut cursor = Cursor::new(sql);
    loop {
        let mut column = cursor.name()?;
        while cursor.take(".") {
            column = cursor.name()?;
        }
        if table.is_key(&column) {
            return Err(unsupported(format!("ON DUPLICATE KEY UPDATE cannot change key column {column}")));
        }
        cursor.expect("=")?;
        if cursor.take("values") {
            cursor.skip_brackets()?;
        } else {
            let _ = cursor.take("-") || cursor.take("x");
            let literal = cursor.next().is_some_and(|token| {
                matches!(token.kind, Kind::Text | Kind::Number)
                    || token.is("null")
                    || token.is("true")
                    || token.is("false")
            });
            if !literal {
                return Err(unsupported("ON DUPLICATE KEY UPDATE takes VALUES(column) and literals only"));
            }
        }
        if cursor.is_at_end() {
            return Ok(());
        }
        if !cursor.take(",") {
            return Err(unsupported("ON DUPLICATE KEY UPDATE takes VALUES(column) and literals only"));
        }
    }
}

pub fn update(sql: &[u8], database: Option<&str>, state: &State) -> Result<Plan, Refusal> {
    judge_conditions(sql)?;
    let run = Plan::Run { sql: None, writes: true, one_affected: false };
    let mut cursor = Cursor::new(sql);
    cursor.expect("update")?;
    let name = resolve(cursor.table()?, database)?;
    let Some(table) = state.table(&name) else { return Ok(run) };
    if table.primary.is_empty() {
        return Err(unsupported(format!("UPDATE needs a primary key, {}.{} has none", name.0, name.1)));
    }
    if !cursor.take("set") {
        return Err(unsupported("the stand-in updates one table, without an alias"));
    }
    let (mut depth, mut expects_column) = (0, true);
    while let Some(token) = cursor.next() {
        if token.is("where") && depth == 0 {
            break;
        }
        if expects_column {
            let mut column = token.value();
            while cursor.take(".") {
                column = cursor.name()?;
            }
            if table.is_key(&column) {
                return Err(unsupported(format!("UPDATE cannot change key column {column}")));
            }
            expects_column = false;
        } else if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
        } else if token.is(",") && depth == 0 {
            expects_column = true;
        }
    }
    Ok(run)
}

/// IN lists and conditions behind WHERE, and a second statement.
pub fn judge_conditions(sql: &[u8]) -> Result<(), Refusal> {
    // Of each open bracket: Some(items) when it is the list of an IN.
    let mut open: Vec<Option<usize>> = Vec::new();
    let (mut conditions, mut in_where, mut between, mut after_in, mut over) = (0, false, false, false, false);
    for token in tokens(sql) {
        if over {
            return Err(unsupported("one statement at a time"));
        }
        if token.is("(") {
            open.push(after_in.then_some(1));
        } else if token.is(")") {
            open.pop();
        } else if token.is(",") {
            if let Some(Some(items)) = open.last_mut() {
                *items += 1;
                if *items > IN_ITEMS {
                    return Err(limit(format!("an IN list has more than {IN_ITEMS} items")));
                }
            }
        } else if token.is("where") {
            (in_where, conditions) = (true, 1);
        } else if token.is("between") {
            between = true;
        } else if in_where && (token.is("and") || token.is("or")) {
            if between && token.is("and") {
                between = false;
            } else {
                conditions += 1;
                if conditions > WHERE_ITEMS {
                    return Err(limit(format!("WHERE has more than {WHERE_ITEMS} conditions")));
                }
            }
        } else if token.is(";") {
            over = true;
        }
        after_in = token.is("in");
    }
    Ok(())
}

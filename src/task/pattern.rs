//! Names as a spec writes them: `schema.table`, backticks around what is special, `*` and `?` as globs outside them.
//!
//! Matching is without case, as TiDB compares names. The canonical spelling quotes a run of characters only where it must.

use std::fmt;

/// Longest schema or table name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Schemas that belong to TiDB or MySQL itself: never part of a task.
const SYSTEM_SCHEMAS: [&str; 5] =
    ["information_schema", "performance_schema", "metrics_schema", "mysql", "sys"];

/// True for a schema of the server's own, whatever its case.
pub fn is_system_schema(schema: &str) -> bool {
    SYSTEM_SCHEMAS.iter().any(|system| system.eq_ignore_ascii_case(schema))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// A schema or table name that may hold globs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    pieces: Vec<Piece>,
    /// The same in lower case, for matching.
    folded: Vec<Piece>,
}

impl NamePattern {
    fn new(pieces: Vec<Piece>) -> Result<Self, String> {
        if pieces.is_empty() {
            return Err("a name is empty".to_owned());
        }
        if pieces.iter().filter(|piece| !matches!(piece, Piece::Many)).count() > MAX_NAME_CHARS {
            return Err(format!("a name is longer than {MAX_NAME_CHARS} characters"));
        }
        let mut folded = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            match piece {
                Piece::Char(letter) => folded.extend(letter.to_lowercase().map(Piece::Char)),
                other => folded.push(*other),
            }
        }
        Ok(Self { pieces, folded })
    }

    /// The name when it holds no glob, as it was written.
    pub fn literal(&self) -> Option<String> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Char(letter) => Some(*letter),
                Piece::One | Piece::Many => None,
            })
            .collect()
    }

    /// True for `*`: every name matches.
    pub fn is_everything(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Many))
    }

    /// `name` must be in lower case.
    pub fn matches_folded(&self, name: &str) -> bool {
        // One step back to the last `*` is enough: an earlier one cannot do better.
        let mut pieces = self.folded.as_slice();
        let mut letters = name.chars();
        let mut last_many: Option<(&[Piece], std::str::Chars<'_>)> = None;
        loop {
            match pieces.split_first() {
                Some((Piece::Many, rest)) => {
                    pieces = rest;
                    last_many = Some((rest, letters.clone()));
                    continue;
                }
                Some((Piece::One, rest)) => {
                    if letters.next().is_some() {
                        pieces = rest;
                        continue;
                    }
                }
                Some((Piece::Char(wanted), rest)) => {
                    if letters.next() == Some(*wanted) {
                        pieces = rest;
                        continue;
                    }
                }
                None => {
                    if letters.as_str().is_empty() {
                        return true;
                    }
                }
            }
            let Some((rest, from)) = &mut last_many else { return false };
            if from.next().is_none() {
                return false;
            }
            pieces = rest;
            letters = from.clone();
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$' | '-');
        for run in self.pieces.chunk_by(|a, b| matches!((a, b), (Piece::Char(_), Piece::Char(_)))) {
            match run.first() {
                Some(Piece::One) => f.write_str("?")?,
                Some(Piece::Many) => f.write_str("*")?,
                _ => {
                    let text: String = run
                        .iter()
                        .filter_map(|piece| match piece {
                            Piece::Char(letter) => Some(*letter),
                            Piece::One | Piece::Many => None,
                        })
                        .collect();
                    if text.chars().all(plain) {
                        f.write_str(&text)?;
                    } else {
                        write!(f, "`{}`", text.replace('`', "``"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `schema.table`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    pub schema: NamePattern,
    pub table: NamePattern,
}

impl TablePattern {
    /// Both names when neither holds a glob, as written.
    pub fn literal(&self) -> Option<(String, String)> {
        Some((self.schema.literal()?, self.table.literal()?))
    }

    /// Parses `schema.table`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let [schema, table] = <[NamePattern; 2]>::try_from(parse_names(text)?).map_err(|names| {
            format!(
                "\"{text}\" has {} name{}; write schema.table, with backticks around a name that holds a dot",
                names.len(),
                if names.len() == 1 { "" } else { "s" },
            )
        })?;
        Ok(Self { schema, table })
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Parses one name (a schema).
pub fn parse_name(text: &str) -> Result<NamePattern, String> {
    let [name] = <[NamePattern; 1]>::try_from(parse_names(text)?)
        .map_err(|_| format!("\"{text}\" is not one name; put backticks around a name that holds a dot"))?;
    Ok(name)
}

/// Splits at dots outside backticks.
fn parse_names(text: &str) -> Result<Vec<NamePattern>, String> {
    let mut names = Vec::new();
    let mut pieces = Vec::new();
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match (letter, quoted) {
            ('`', true) if letters.peek() == Some(&'`') => {
                letters.next();
                pieces.push(Piece::Char('`'));
            }
            ('`', _) => quoted = !quoted,
            ('\0', _) => return Err("a name holds a NUL character".to_owned()),
            (_, true) => pieces.push(Piece::Char(letter)),
            ('.', false) => names.push(NamePattern::new(std::mem::take(&mut pieces))?),
            ('?', false) => pieces.push(Piece::One),
            // `**` means `*`
            ('*', false) => {
                if pieces.last() != Some(&Piece::Many) {
                    pieces.push(Piece::Many);
                }
            }
            (_, false) if letter.is_whitespace() => {
                return Err(format!("\"{text}\" holds a blank outside backticks"));
            }
            (_, false) => pieces.push(Piece::Char(letter)),
        }
    }
    if quoted {
        return Err(format!("\"{text}\" has a backtick that is not closed"));
    }
    names.push(NamePattern::new(pieces)?);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, schema: &str, table: &str) -> bool {
        let pattern = TablePattern::parse(pattern).unwrap();
        pattern.schema.matches_folded(&schema.to_lowercase())
            && pattern.table.matches_folded(&table.to_lowercase())
    }

    #[test]
    fn globs_match_outside_backticks_only_and_without_case() {
        for (pattern, schema, table, expected) in [
            ("shop.*", "SHOP", "Orders", true),
            ("Shop.orders", "shop", "ORDERS", true),
            ("shop.tmp_*", "shop", "tmp_", true),
            ("shop.tmp_*", "shop", "tmp", false),
            ("sh?p.o*s", "shop", "orders", true),
            ("sh?p.o*s", "shp", "orders", false),
            ("`a.b`.`c*`", "a.b", "c*", true),
            ("`a.b`.`c*`", "a.b", "cd", false),
            ("*.*", "any", "thing", true),
            ("s.*a*b*c", "s", "xxaybbzcc", true),
            ("s.*a*b*c", "s", "xxaybbzcd", false),
            ("s.`x`*", "s", "xyz", true),
        ] {
            assert_eq!(matches(pattern, schema, table), expected, "{pattern} {schema} {table}");
        }
    }

    #[test]
    fn canonical_spelling_quotes_only_where_it_must() {
        for (text, canonical) in [
            ("`shop`.`orders`", "shop.orders"),
            ("`a.b`.`c`", "`a.b`.c"),
            ("`we``ird`.`x y`", "`we``ird`.`x y`"),
            ("s.**", "s.*"),
            ("s.a`b`*", "s.ab*"),
            ("s.`*`*", "s.`*`*"),
        ] {
            assert_eq!(TablePattern::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for text in ["", "orders", "a.b.c", ".a", "a.", "`a.b", "a .b", &format!("a.{}", "x".repeat(65))] {
            assert!(TablePattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_spelling_means_the_same(text in "[a-cA-C.`*? ]{1,12}") {
            if let Ok(pattern) = TablePattern::parse(&text) {
                let again = TablePattern::parse(&pattern.to_string()).unwrap();
                prop_assert_eq!(&again, &pattern);
                prop_assert_eq!(again.to_string(), pattern.to_string());
            }
        }
    }
}

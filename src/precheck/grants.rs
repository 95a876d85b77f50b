//! What `SHOW GRANTS` says, for TiDB, MySQL, MariaDB and AnalyticDB alike. Pure text work.
//!
//! Privileges on single columns, routines and proxies are left out: none of them is of use to a sync.

/// Lines of `SHOW GRANTS`, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grants {
    entries: Vec<Entry>,
    /// Granted roles as written, quoted: `'reader'@'%'`.
    pub roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    scope: Scope,
    /// Upper case; `ALL` for ALL PRIVILEGES.
    privileges: Vec<String>,
    /// A partial revoke (MySQL 8): takes a schema out of a global grant.
    revoked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Global,
    /// The name may hold `%` and `_`, escaped by a backslash where they are meant literally.
    Schema(String),
    Table(String, String),
}

impl Grants {
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut grants = Self::default();
        for line in lines {
            let line = line.trim().trim_end_matches(';');
            let (rest, revoked) = match (strip_word(line, "GRANT"), strip_word(line, "REVOKE")) {
                (Some(rest), _) => (rest, false),
                (None, Some(rest)) => (rest, true),
                (None, None) => continue,
            };
            match split_at_word(rest, " ON ") {
                Some((privileges, object)) => grants.add_privileges(privileges, object, revoked),
                None => {
                    if let Some((roles, _)) = split_at_word(rest, " TO ") {
                        grants.roles.extend(split_list(roles).into_iter().map(str::to_owned));
                    }
                }
            }
        }
        grants
    }

    fn add_privileges(&mut self, privileges: &str, object: &str, revoked: bool) {
        let end = if revoked { " FROM " } else { " TO " };
        let object = split_at_word(object, end).map_or(object, |(object, _)| object).trim();
        let object = strip_word(object, "TABLE").unwrap_or(object).trim();
        let Some(scope) = scope(object) else { return };
        let privileges: Vec<String> = split_list(privileges)
            .into_iter()
            .filter(|privilege| !privilege.contains('('))
            .map(|privilege| match privilege.to_ascii_uppercase() {
                all if all == "ALL PRIVILEGES" => "ALL".to_owned(),
                other => other,
            })
            .collect();
        // USAGE stays as what it is: a login that is understood to have nothing.
        if !privileges.is_empty() {
            self.entries.push(Entry { scope, privileges, revoked });
        }
    }

    /// Adds what another answer shows.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// True when nothing was understood: the server's `SHOW GRANTS` has another form.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.roles.is_empty()
    }

    /// True when the privilege holds server-wide.
    pub fn allows_global(&self, privilege: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| !entry.revoked && entry.scope == Scope::Global && entry.gives(privilege))
    }

    /// True when the privilege holds for every table of the schema.
    pub fn allows_schema(&self, privilege: &str, schema: &str) -> bool {
        let of_schema = |entry: &&Entry| match &entry.scope {
            Scope::Schema(pattern) => like(pattern, schema) && entry.gives(privilege),
            Scope::Global | Scope::Table(..) => false,
        };
        let revoked = self.entries.iter().filter(|entry| entry.revoked).any(|entry| of_schema(&entry));
        (self.allows_global(privilege) && !revoked)
            || self.entries.iter().filter(|entry| !entry.revoked).any(|entry| of_schema(&entry))
    }

    /// Where all of these privileges hold together: `*.*`, schemas and tables.
    pub fn scopes(&self, privileges: &[&str]) -> Vec<String> {
        if privileges.iter().all(|privilege| self.allows_global(privilege)) {
            return vec!["*.*".to_owned()];
        }
        let mut scopes: Vec<String> = self
            .entries
            .iter()
            .filter(|entry| !entry.revoked)
            .filter_map(|entry| match &entry.scope {
                Scope::Global => None,
                Scope::Schema(schema) => {
                    let plain = schema.replace("\\_", "_").replace("\\%", "%");
                    privileges
                        .iter()
                        .all(|privilege| self.allows_schema(privilege, &plain))
                        .then(|| format!("{plain}.*"))
                }
                Scope::Table(schema, table) => privileges
                    .iter()
                    .all(|privilege| self.allows_table(privilege, schema, table))
                    .then(|| format!("{schema}.{table}")),
            })
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    pub fn allows_table(&self, privilege: &str, schema: &str, table: &str) -> bool {
        self.allows_schema(privilege, schema)
            || self.entries.iter().any(|entry| match &entry.scope {
                Scope::Table(of, name) => {
                    !entry.revoked && same(of, schema) && same(name, table) && entry.gives(privilege)
                }
                Scope::Global | Scope::Schema(_) => false,
            })
    }
}

impl Entry {
    fn gives(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|own| own == "ALL" || own.eq_ignore_ascii_case(privilege))
    }
}

fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// `*.*`, `schema.*`, `schema.table`, each part quoted or not; None for what is no table.
fn scope(object: &str) -> Option<Scope> {
    let (first, rest) = name(object)?;
    let (second, rest) = name(rest.strip_prefix('.')?)?;
    match (first.as_str(), second.as_str()) {
        _ if !rest.trim().is_empty() => None,
        ("*", "*") => Some(Scope::Global),
        (_, "*") => Some(Scope::Schema(first)),
        _ => Some(Scope::Table(first, second)),
    }
}

/// The name at the start of the text, unquoted, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|first| matches!(first, '`' | '"'));
    let Some(quote) = quote else {
        let end = text.find(['.', ' ']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut out = String::new();
    let mut rest = text.get(1..)?;
    loop {
        let (part, after) = rest.split_once(quote)?;
        out.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                out.push(quote);
                rest = more;
            }
            None => return Some((out, after)),
        }
    }
}

/// The text after a leading keyword.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = (text.get(..word.len())?, text.get(word.len()..)?);
    (head.eq_ignore_ascii_case(word) && rest.starts_with(' ')).then(|| rest.trim_start())
}

/// Splits at the first keyword (with its blanks, upper case) outside quotes and parentheses.
fn split_at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    outside(text).find_map(|(at, _)| {
        let found = text.get(at..at + word.len())?;
        found.eq_ignore_ascii_case(word).then_some(())?;
        Some((text.get(..at)?, text.get(at + word.len()..)?))
    })
}

/// Splits at commas outside quotes and parentheses.
fn split_list(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, letter) in outside(text) {
        if letter == ',' {
            parts.extend(text.get(start..at));
            start = at + 1;
        }
    }
    parts.extend(text.get(start..));
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Characters outside quotes and parentheses, with their places.
fn outside(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut quote = None;
    let mut depth = 0_u32;
    text.char_indices().filter(move |(_, letter)| {
        match (quote, letter) {
            (Some(open), letter) => {
                if open == *letter {
                    quote = None;
                }
                return false;
            }
            (None, '`' | '\'' | '"') => quote = Some(*letter),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) => return depth == 0,
        }
        false
    })
}

/// SQL LIKE without case, `\` escapes.
fn like(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| matches(rest, text.get(skip..).unwrap_or(&[]))),
            Some(('_', rest)) => text.split_first().is_some_and(|(_, text)| matches(rest, text)),
            Some(('\\', rest)) => match (rest.split_first(), text.split_first()) {
                (Some((wanted, rest)), Some((found, text))) => wanted == found && matches(rest, text),
                _ => false,
            },
            Some((wanted, rest)) => {
                text.split_first().is_some_and(|(found, text)| wanted == found && matches(rest, text))
            }
        }
    }
    let fold = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    matches(&fold(pattern), &fold(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_schema_and_table_grants_reach_as_far_as_they_say() {
        let grants = Grants::parse([
            "GRANT USAGE ON *.* TO 'sync'@'%'",
            "GRANT REPLICATION CLIENT, PROCESS ON *.* TO `sync`@`%` WITH GRANT OPTION",
            "GRANT SELECT, INSERT ON `dw`.* TO `sync`@`%`",
            "GRANT SELECT ON pc.nokey TO 'sync'@'%'",
            "GRANT ALL PRIVILEGES ON `a``b on c`.* TO 'sync'@'%'",
        ]);
        assert!(grants.allows_global("PROCESS") && grants.allows_global("replication client"));
        assert!(!grants.allows_global("SELECT"));
        let nothing = Grants::parse(["GRANT USAGE ON *.* TO `low`@`%` IDENTIFIED BY PASSWORD '*A'"]);
        assert!(
            !nothing.is_empty() && !nothing.allows_schema("SELECT", "s"),
            "a login without rights is understood"
        );
        assert!(grants.allows_schema("INSERT", "DW") && !grants.allows_schema("DELETE", "dw"));
        assert!(grants.allows_table("SELECT", "pc", "nokey") && !grants.allows_table("SELECT", "pc", "t"));
        assert!(!grants.allows_schema("SELECT", "pc"));
        assert!(grants.allows_schema("DROP", "a`b on c"));
    }

    #[test]
    fn privileges_on_columns_routines_and_proxies_are_no_privileges_on_tables() {
        let grants = Grants::parse([
            "GRANT SELECT(a), INSERT (a, `b`), UPDATE ON pc.t TO 'u1'@'%'",
            "GRANT EXECUTE ON FUNCTION `pc`.`f` TO 'u1'@'%'",
            "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION",
        ]);
        assert!(!grants.allows_table("SELECT", "pc", "t"));
        assert!(grants.allows_table("UPDATE", "pc", "t"));
        assert!(!grants.allows_table("EXECUTE", "pc", "f"));
    }

    #[test]
    fn roles_are_collected_as_written() {
        let grants =
            Grants::parse(["GRANT 'r1'@'%', `r2`@`%` TO 'u1'@'%'", "GRANT SELECT ON `x`.* TO `u1`@`%`"]);
        assert_eq!(grants.roles, ["'r1'@'%'", "`r2`@`%`"]);
    }

    #[test]
    fn a_partial_revoke_takes_a_schema_out_of_a_global_grant() {
        let grants =
            Grants::parse(["GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `secret`.* FROM `u`@`%`"]);
        assert!(grants.allows_schema("SELECT", "shop") && !grants.allows_schema("SELECT", "secret"));
    }

    #[test]
    fn schema_names_are_patterns() {
        let grants =
            Grants::parse(["GRANT SELECT ON `dw\\_%`.* TO 'u'@'%'", "GRANT DROP ON `d_w`.* TO 'u'@'%'"]);
        assert!(grants.allows_schema("SELECT", "dw_a") && !grants.allows_schema("SELECT", "dwxa"));
        assert!(grants.allows_schema("DROP", "dxw") && !grants.allows_schema("DROP", "dw"));
    }

    #[test]
    fn scopes_are_where_everything_holds() {
        let grants = Grants::parse([
            "GRANT SELECT ON *.* TO 'u'@'%'",
            "GRANT INSERT, DELETE ON `a\\_b`.* TO 'u'@'%'",
            "GRANT INSERT ON `c`.* TO 'u'@'%'",
        ]);
        assert_eq!(grants.scopes(&["SELECT"]), ["*.*"]);
        assert_eq!(grants.scopes(&["SELECT", "INSERT", "DELETE"]), ["a_b.*"]);
    }

    #[test]
    fn all_without_the_word_privileges_counts() {
        assert!(Grants::parse(["GRANT ALL ON *.* TO 'sync'@'%'"]).allows_table("INDEX", "a", "b"));
        assert!(Grants::parse(["something else"]).is_empty());
    }

    #[test]
    fn odd_text_is_survived() {
        for line in [
            "GRANT",
            "GRANT ",
            "GRANT SELECT ON",
            "GRANT é ON `a TO b",
            "REVOKE ON . FROM",
            "GRANT ( ON ) TO",
        ] {
            let _ = Grants::parse([line]);
        }
    }
}

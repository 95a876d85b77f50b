//! A place in a list of tokens, and the questions the grammar asks there.

use super::ast::ObjectName;
use super::error::DdlError;
use super::literal;
use super::token::{Kind, Token};
use super::writer::{self, Writer};

pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    writer: Writer,
}

/// Words that no statement of a TiDB has as an unquoted name. Refusing them keeps a clause that we do not know from being
/// read as a column of that name.
const RESERVED: &[&str] = &[
    "ADD",
    "ALTER",
    "AND",
    "AS",
    "BY",
    "CHANGE",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "CONSTRAINT",
    "CONVERT",
    "CREATE",
    "DATABASE",
    "DEFAULT",
    "DROP",
    "EXISTS",
    "FOREIGN",
    "FROM",
    "FULLTEXT",
    "GENERATED",
    "IF",
    "IN",
    "INDEX",
    "INTO",
    "KEY",
    "KEYS",
    "LIKE",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "PARTITION",
    "PRIMARY",
    "REFERENCES",
    "RENAME",
    "SELECT",
    "SET",
    "SPATIAL",
    "TABLE",
    "TO",
    "UNIQUE",
    "UPDATE",
    "USING",
    "VALUES",
    "WHERE",
    "WITH",
];

/// Introducers that say nothing to a connection in utf8mb4; left out of captured text, for not every target knows them.
fn is_plain_introducer(word: &str) -> bool {
    ["_utf8mb4", "_utf8", "_utf8mb3"].iter().any(|introducer| introducer.eq_ignore_ascii_case(word))
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, tokens: &'a [Token]) -> Self {
        Self { text, tokens, at: 0, writer: writer::writer(text, tokens) }
    }

    /// A place to come [`Self::back`] to.
    pub fn mark(&self) -> usize {
        self.at
    }

    pub fn back(&mut self, mark: usize) {
        self.at = mark;
    }

    pub fn peek(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at.saturating_add(ahead)).copied()
    }

    fn slice(&self, token: Token) -> &'a str {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    /// The token's own text; empty at the end.
    pub fn raw(&self, ahead: usize) -> &'a str {
        self.peek(ahead).map(|token| self.slice(token)).unwrap_or_default()
    }

    pub fn is_kind(&self, ahead: usize, kind: Kind) -> bool {
        self.peek(ahead).is_some_and(|token| token.kind == kind)
    }

    pub fn advance(&mut self) {
        self.at = self.at.saturating_add(1).min(self.tokens.len());
    }

    pub fn at_end_of_text(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// At `;` or at the end of the text.
    pub fn at_end(&self) -> bool {
        self.at_end_of_text() || self.is_symbol(0, ";")
    }

    pub fn expected(&self, what: impl Into<String>) -> DdlError {
        let position = self.peek(0).map_or(self.text.len(), |token| token.start);
        DdlError::new(position, self.raw(0), what)
    }

    /// The unquoted word there, in upper case; empty for anything else.
    pub fn word(&self, ahead: usize) -> String {
        if self.is_kind(ahead, Kind::Word) { self.raw(ahead).to_ascii_uppercase() } else { String::new() }
    }

    pub fn is(&self, ahead: usize, word: &str) -> bool {
        self.is_kind(ahead, Kind::Word) && self.raw(ahead).eq_ignore_ascii_case(word)
    }

    /// True when all of `words` stand here in this order.
    pub fn are(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.is(ahead, word))
    }

    /// Goes past `words` when they all stand here in this order.
    pub fn take(&mut self, words: &[&str]) -> bool {
        let here = self.are(words);
        if here {
            self.at = self.at.saturating_add(words.len());
        }
        here
    }

    pub fn take_any(&mut self, words: &[&str]) -> bool {
        let here = words.iter().any(|word| self.is(0, word));
        if here {
            self.advance();
        }
        here
    }

    pub fn expect(&mut self, words: &[&str]) -> Result<(), DdlError> {
        if self.take(words) { Ok(()) } else { Err(self.expected(format!("`{}`", words.join(" ")))) }
    }

    pub fn is_symbol(&self, ahead: usize, symbol: &str) -> bool {
        self.is_kind(ahead, Kind::Symbol) && self.raw(ahead) == symbol
    }

    pub fn take_symbol(&mut self, symbol: &str) -> bool {
        let here = self.is_symbol(0, symbol);
        if here {
            self.advance();
        }
        here
    }

    pub fn expect_symbol(&mut self, symbol: &str) -> Result<(), DdlError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(format!("`{symbol}`"))) }
    }

    pub fn if_exists(&mut self) -> bool {
        self.take(&["IF", "EXISTS"])
    }

    pub fn if_not_exists(&mut self) -> bool {
        self.take(&["IF", "NOT", "EXISTS"])
    }

    /// True when a name can stand here. Text in double quotes is one: with ANSI_QUOTES off the source would have refused it.
    pub fn is_name(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Some(token) => match token.kind {
                Kind::Name => true,
                Kind::Word => {
                    let word = self.slice(token);
                    !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
                }
                Kind::Text => self.slice(token).starts_with('"'),
                Kind::Number | Kind::Bits | Kind::Symbol => false,
            },
            None => false,
        }
    }

    /// A name in the spelling of the text; `what` is for the error.
    pub fn name(&mut self, what: &str) -> Result<String, DdlError> {
        if !self.is_name(0) {
            return Err(self.expected(what));
        }
        let raw = self.raw(0);
        let name = if self.is_kind(0, Kind::Word) {
            raw.to_owned()
        } else {
            literal::unquote(raw).filter(|name| !name.is_empty()).ok_or_else(|| self.expected(what))?
        };
        self.advance();
        Ok(name)
    }

    pub fn object_name(&mut self, what: &str) -> Result<ObjectName, DdlError> {
        let first = self.name(what)?;
        if self.take_symbol(".") {
            // Behind a dot no word is reserved.
            let name = if self.is_kind(0, Kind::Word) {
                let name = self.raw(0).to_owned();
                self.advance();
                name
            } else {
                self.name(what)?
            };
            return Ok(ObjectName { schema: Some(first), name });
        }
        Ok(ObjectName { schema: None, name: first })
    }

    /// `item, item, ...`, at least one.
    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DdlError>,
    ) -> Result<Vec<T>, DdlError> {
        let mut items = vec![item(self)?];
        while self.take_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(name, name, ...)`
    pub fn names_in_parentheses(&mut self, what: &str) -> Result<Vec<String>, DdlError> {
        self.expect_symbol("(")?;
        let names = self.list(|cursor| cursor.name(what))?;
        self.expect_symbol(")")?;
        Ok(names)
    }

    /// A string of those that TiDB's canonical form writes without escapes: labels and options of tables.
    pub fn bare_text(&mut self, what: &str) -> Result<String, DdlError> {
        if self.writer != Writer::Canonical || !self.is_kind(0, Kind::Text) {
            return self.text(what);
        }
        let text = literal::unquote_bare(self.raw(0)).ok_or_else(|| self.expected(what))?;
        self.advance();
        Ok(text)
    }

    /// A label of ENUM or SET in a string.
    pub fn label(&mut self) -> Result<String, DdlError> {
        if self.writer == Writer::ShowCreate && self.is_kind(0, Kind::Text) && self.raw(0).contains('\\') {
            return Err(self.expected("a label without a backslash").hint(
                "SHOW CREATE TABLE writes labels with backslashes in a form that can be read in two ways: leave this table out",
            ));
        }
        self.bare_text("a label")
    }

    /// A string; neighbours are one string, as in MySQL, and introducers are dropped.
    pub fn text(&mut self, what: &str) -> Result<String, DdlError> {
        if self.is_introducer() {
            self.advance();
        }
        if !self.is_kind(0, Kind::Text) {
            return Err(self.expected(what));
        }
        let mut out = String::new();
        while self.is_kind(0, Kind::Text) {
            out.push_str(&literal::unquote(self.raw(0)).ok_or_else(|| self.expected(what))?);
            self.advance();
        }
        Ok(out)
    }

    /// `_utf8mb4` in front of a string or bit literal.
    pub fn is_introducer(&self) -> bool {
        self.is_kind(0, Kind::Word)
            && self.raw(0).starts_with('_')
            && (self.is_kind(1, Kind::Text) || self.is_kind(1, Kind::Bits))
    }

    pub fn number(&mut self, what: &str) -> Result<u32, DdlError> {
        let number = if self.is_kind(0, Kind::Number) { self.raw(0).parse().ok() } else { None };
        let number = number.ok_or_else(|| self.expected(what))?;
        self.advance();
        Ok(number)
    }

    /// `(n)` where it stands.
    pub fn length(&mut self) -> Result<Option<u32>, DdlError> {
        if !self.take_symbol("(") {
            return Ok(None);
        }
        let length = self.number("a length")?;
        self.expect_symbol(")")?;
        Ok(Some(length))
    }

    /// `(...)` as source text without the outer parentheses. The parentheses inside are matched, the rest is not looked at.
    pub fn group(&mut self) -> Result<String, DdlError> {
        let (first, end) = self.skip_group()?;
        Ok(self.source(first, end))
    }

    /// `(item, item, ...)` as the source text of each item, at least one.
    pub fn group_items(&mut self) -> Result<Vec<String>, DdlError> {
        let (first, end) = self.skip_group()?;
        let mut items = Vec::new();
        let mut item = first;
        let mut depth = 0_usize;
        for at in first..=end {
            // `end` is the closing parenthesis: it ends the last item.
            match self.symbol_at(at) {
                "(" => depth += 1,
                ")" if at < end => depth = depth.saturating_sub(1),
                ")" => {}
                "," if depth == 0 => {}
                _ => continue,
            }
            if at == end || (depth == 0 && self.symbol_at(at) == ",") {
                if item == at {
                    let after = self.mark();
                    self.back(at);
                    let error = self.expected("a value");
                    self.back(after);
                    return Err(error);
                }
                items.push(self.source(item, at));
                item = at + 1;
            }
        }
        Ok(items)
    }

    fn symbol_at(&self, at: usize) -> &'a str {
        match self.tokens.get(at) {
            Some(token) if token.kind == Kind::Symbol => self.slice(*token),
            _ => "",
        }
    }

    /// Goes past `(...)`; gives the tokens between the parentheses as `first..end`.
    fn skip_group(&mut self) -> Result<(usize, usize), DdlError> {
        self.expect_symbol("(")?;
        let first = self.at;
        let mut depth = 1_usize;
        while !self.at_end() {
            match self.raw(0) {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            let here = self.at;
            self.advance();
            if depth == 0 {
                return Ok((first, here));
            }
        }
        Err(self.expected("`)`"))
    }

    /// The text of the tokens from `mark` up to here.
    pub fn source_since(&self, mark: usize) -> String {
        self.source(mark, self.at)
    }

    /// Text of `first..end` with single blanks where the source has any, comments gone, and without plain introducers.
    fn source(&self, first: usize, end: usize) -> String {
        let mut out = String::new();
        let mut previous: Option<usize> = None;
        let tokens = self.tokens.get(first..end).unwrap_or_default();
        for (at, token) in tokens.iter().enumerate() {
            if previous.is_some_and(|previous| previous < token.start) {
                out.push(' ');
            }
            previous = Some(token.end);
            let text = self.slice(*token);
            let before_text = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Text);
            if token.kind == Kind::Word && before_text && is_plain_introducer(text) {
                previous = tokens.get(at + 1).map(|next| next.start);
                continue;
            }
            out.push_str(text);
        }
        out
    }

    /// Goes to the end of the statement: the rest has no meaning for us.
    pub fn skip_statement(&mut self) {
        while !self.at_end() {
            self.advance();
        }
    }
}

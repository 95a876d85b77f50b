//! SQL as tokens over bytes: values need not be UTF-8, and a statement of 16 MB is read without a copy.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// In backticks.
    Name,
    /// In quotes, the quotes included.
    Text,
    Number,
    Symbol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub raw: &'a [u8],
    pub at: usize,
}

impl Token<'_> {
    pub fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Symbol) && self.raw.eq_ignore_ascii_case(word.as_bytes())
    }

    /// The end in the statement.
    pub fn end(&self) -> usize {
        self.at + self.raw.len()
    }

    /// A name without its backticks, a text without its quotes and escapes, anything else as it stands.
    pub fn value(&self) -> String {
        let text = String::from_utf8_lossy(self.raw);
        match self.kind {
            Kind::Name => text[1..text.len() - 1].replace("``", "`"),
            Kind::Text => {
                let quote = &text[..1];
                let inner = text[1..text.len() - 1].replace(&quote.repeat(2), quote);
                let mut plain = String::new();
                let mut letters = inner.chars();
                while let Some(letter) = letters.next() {
                    plain.push(match letter {
                        '\\' => match letters.next() {
                            Some('n') => '\n',
                            Some('t') => '\t',
                            Some('r') => '\r',
                            Some('0') => '\0',
                            Some(other) => other,
                            None => '\\',
                        },
                        other => other,
                    });
                }
                plain
            }
            _ => text.into_owned(),
        }
    }
}

pub struct Tokens<'a> {
    sql: &'a [u8],
    at: usize,
}

pub fn tokens(sql: &[u8]) -> Tokens<'_> {
    Tokens { sql, at: 0 }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte == b'@' || byte >= 0x80
}

impl Tokens<'_> {
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            let skipped = match rest {
                [b' ' | b'\t' | b'\r' | b'\n', ..] => 1,
                [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n', ..] => {
                    rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1)
                }
                [b'/', b'*', ..] => {
                    rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |end| end + 2)
                }
                _ => return,
            };
            self.at += skipped;
        }
    }

    fn quoted(&self, quote: u8) -> usize {
        let mut at = self.at + 1;
        while let Some(byte) = self.sql.get(at) {
            if *byte == b'\\' && quote != b'`' {
                at += 2;
            } else if *byte == quote {
                if self.sql.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            } else {
                at += 1;
            }
        }
        self.sql.len()
    }

    /// The end of a number that may go on behind `end` with a signed exponent: `1e+03`.
    fn number(&self, end: usize) -> usize {
        let signed = match self.sql.get(end..) {
            Some([b'+' | b'-', digits @ ..]) if matches!(self.sql.get(end - 1), Some(b'e' | b'E')) => digits,
            _ => return end,
        };
        let digits = signed.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let hex = self.sql[self.at..end].starts_with(b"0x");
        if hex || digits == 0 { end } else { end + 1 + digits }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let start = self.at;
        let first = *self.sql.get(start)?;
        let run = |good: fn(u8) -> bool| {
            self.sql[start..]
                .iter()
                .position(|byte| !good(*byte))
                .map_or(self.sql.len(), |length| start + length)
        };
        let (kind, end) = match first {
            b'`' => (Kind::Name, self.quoted(b'`')),
            b'\'' | b'"' => (Kind::Text, self.quoted(first)),
            b'0'..=b'9' => {
                (Kind::Number, self.number(run(|byte| byte.is_ascii_alphanumeric() || byte == b'.')))
            }
            byte if in_word(byte) => (Kind::Word, run(in_word)),
            _ => (Kind::Symbol, start + 1),
        };
        self.at = end;
        Some(Token { kind, raw: &self.sql[start..end], at: start })
    }
}

/// Tokens with a place in them, for definitions.
pub struct Cursor<'a> {
    pub tokens: Vec<Token<'a>>,
    pub at: usize,
    pub sql: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(sql: &'a [u8]) -> Self {
        let mut tokens: Vec<_> = tokens(sql).collect();
        if tokens.last().is_some_and(|last| last.is(";")) {
            tokens.pop();
        }
        Self { tokens, at: 0, sql }
    }

    pub fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    pub fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Takes these words if they are what comes.
    pub fn take(&mut self, words: &str) -> bool {
        let words: Vec<_> = words.split(' ').collect();
        let there = words
            .iter()
            .enumerate()
            .all(|(n, word)| self.tokens.get(self.at + n).is_some_and(|token| token.is(word)));
        if there {
            self.at += words.len();
        }
        there
    }

    pub fn starts(&self, words: &str) -> bool {
        words
            .split(' ')
            .enumerate()
            .all(|(n, word)| self.tokens.get(self.at + n).is_some_and(|token| token.is(word)))
    }

    /// A name, plain or in backticks.
    pub fn name(&mut self) -> Result<String, String> {
        match self.next() {
            Some(token) if matches!(token.kind, Kind::Word | Kind::Name) => Ok(token.value()),
            other => Err(self.unexpected("a name", other)),
        }
    }

    pub fn expect(&mut self, words: &str) -> Result<(), String> {
        if self.take(words) {
            return Ok(());
        }
        let next = self.peek();
        Err(self.unexpected(words, next))
    }

    pub fn unexpected(&self, wanted: &str, found: Option<Token<'_>>) -> String {
        let found =
            found.map_or("the end".to_owned(), |token| String::from_utf8_lossy(token.raw).into_owned());
        format!("expected {wanted}, found {found}")
    }

    /// The raw text from one token up to, not including, another.
    pub fn raw(&self, from: usize, to: usize) -> String {
        if from >= to {
            return String::new();
        }
        String::from_utf8_lossy(&self.sql[self.tokens[from].at..self.tokens[to - 1].end()]).into_owned()
    }

    /// Skips a bracketed list whose `(` is next.
    pub fn skip_brackets(&mut self) -> Result<(), String> {
        self.expect("(")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some(token) if token.is("(") => depth += 1,
                Some(token) if token.is(")") => depth -= 1,
                Some(_) => {}
                None => return Err("a bracket is not closed".to_owned()),
            }
        }
        Ok(())
    }

    /// `(a, b)`; a prefix length or direction is an error.
    pub fn name_list(&mut self) -> Result<Vec<String>, String> {
        self.expect("(")?;
        let mut names = vec![self.name()?];
        while self.take(",") {
            names.push(self.name()?);
        }
        self.expect(")")?;
        Ok(names)
    }

    /// `[schema.]table`.
    pub fn table(&mut self) -> Result<(Option<String>, String), String> {
        let first = self.name()?;
        if self.take(".") { Ok((Some(first), self.name()?)) } else { Ok((None, first)) }
    }
}

pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_becomes_tokens() {
        let sql = b"/* c */ SELECT `a``b`, 'it''s \\' x', 1.5e3 -- rest\n FROM t#end";
        let found: Vec<_> = tokens(sql).map(|token| token.value()).collect();
        assert_eq!(found, ["SELECT", "a`b", ",", "it's ' x", ",", "1.5e3", "FROM", "t"]);
    }

    #[test]
    fn a_number_ends_behind_its_exponent() {
        let found: Vec<_> = tokens(b"1e+03,-2.5E-7,2-1,0x1e+3").map(|token| token.value()).collect();
        assert_eq!(found, ["1e+03", ",", "-", "2.5E-7", ",", "2", "-", "1", ",", "0x1e", "+", "3"]);
    }

    #[test]
    fn values_need_not_be_utf8_nor_closed() {
        assert_eq!(tokens(b"x '\xff\xfe'").count(), 2);
        assert_eq!(tokens(b"'open").count(), 1);
        assert_eq!(tokens(b"/* open").count(), 0);
    }
}

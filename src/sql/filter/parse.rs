//! From text to [`Expr`]. Precedence as in MySQL: comparison, NOT, AND, OR.

use super::{Comparison, Expr, Literal, Operand, SyntaxFault, Temporal};
use crate::sql::ddl::literal;
use crate::sql::ddl::token::{Kind, Token, tokens};

/// Parentheses and NOTs around one comparison.
const DEPTH: usize = 64;

/// Bytes of a filter.
const LENGTH: usize = 65_536;

const RESERVED: [&str; 10] = ["AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "FALSE"];

pub(super) fn condition(text: &str) -> Result<Expr, SyntaxFault> {
    if text.len() > LENGTH {
        return Err(SyntaxFault {
            offset: LENGTH,
            expected: format!("at most {LENGTH} bytes"),
            found: "more text".to_owned(),
        });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, at: 0, depth: 0 };
    let expr = parser.or()?;
    if parser.at < tokens.len() {
        return Err(parser.expected("AND, OR or the end of the filter"));
    }
    Ok(expr)
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn token(&self, ahead: usize) -> Option<(Kind, &'a str)> {
        let token = self.tokens.get(self.at + ahead)?;
        Some((token.kind, self.text.get(token.start..token.end)?))
    }

    fn expected(&self, what: &str) -> SyntaxFault {
        let offset = self.tokens.get(self.at).map_or(self.text.len(), |token| token.start);
        let rest = self.text.get(offset..).unwrap_or_default();
        let mut found: String = rest.chars().take(30).collect();
        if found.len() < rest.len() {
            found.push_str("...");
        }
        let found = if found.is_empty() { "the end of the filter".to_owned() } else { format!("`{found}`") };
        SyntaxFault { offset, expected: what.to_owned(), found }
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.token(ahead), Some((Kind::Word, text)) if text.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.token(0), Some((Kind::Symbol, text)) if text == symbol);
        self.at += usize::from(found);
        found
    }

    fn deeper(&mut self) -> Result<(), SyntaxFault> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.expected("fewer nested parentheses and NOTs")) } else { Ok(()) }
    }

    fn or(&mut self) -> Result<Expr, SyntaxFault> {
        let mut parts = vec![self.and()?];
        while self.take_word("OR") {
            parts.push(self.and()?);
        }
        Ok(joined(parts, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, SyntaxFault> {
        let mut parts = vec![self.not()?];
        while self.take_word("AND") {
            parts.push(self.not()?);
        }
        Ok(joined(parts, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, SyntaxFault> {
        if self.take_word("NOT") {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Expr, SyntaxFault> {
        if self.take_symbol("(") {
            self.deeper()?;
            let inner = self.or()?;
            self.depth -= 1;
            if !self.take_symbol(")") {
                return Err(self.expected("AND, OR or `)`"));
            }
            return Ok(inner);
        }
        if let Some(literal) = self.literal()? {
            if let Some(comparison) = self.comparison() {
                let operand = self.operand("a column: a comparison needs one side that is a column")?;
                return Ok(Expr::Compare(operand, comparison.turned(), literal));
            }
            return match literal {
                Literal::Boolean(value) => Ok(Expr::Constant(Some(value))),
                Literal::Null => Ok(Expr::Constant(None)),
                _ => Err(self.expected("a comparison (=, !=, <>, <, <=, >, >=) with a column")),
            };
        }
        let operand = self.operand("a column, NOT, `(` or a literal")?;
        if let Some(comparison) = self.comparison() {
            let Some(literal) = self.literal()? else {
                return Err(self.expected("a literal: columns are compared with literals only"));
            };
            return Ok(Expr::Compare(operand, comparison, literal));
        }
        if self.take_word("IS") {
            let not = self.take_word("NOT");
            if !self.take_word("NULL") {
                return Err(self.expected("NULL"));
            }
            return Ok(negated(not, Expr::IsNull(operand)));
        }
        let not = self.take_word("NOT");
        let expr = if self.take_word("IN") {
            Expr::In(operand, self.list()?)
        } else if self.take_word("BETWEEN") {
            let low = self.due("a literal")?;
            if !self.take_word("AND") {
                return Err(self.expected("AND"));
            }
            let high = self.due("a literal")?;
            Expr::And(vec![
                Expr::Compare(operand.clone(), Comparison::GreaterOrEqual, low),
                Expr::Compare(operand, Comparison::LessOrEqual, high),
            ])
        } else if self.take_word("LIKE") {
            match self.due("a pattern in quotes")? {
                Literal::Text(pattern) => Expr::Like(operand, pattern),
                _ => {
                    self.at -= 1;
                    return Err(self.expected("a pattern in quotes"));
                }
            }
        } else if not {
            return Err(self.expected("IN, BETWEEN or LIKE"));
        } else {
            return Err(self.expected("a comparison, IN, BETWEEN, LIKE, IS or NOT"));
        };
        Ok(negated(not, expr))
    }

    fn list(&mut self) -> Result<Vec<Literal>, SyntaxFault> {
        if !self.take_symbol("(") {
            return Err(self.expected("`(`"));
        }
        let mut list = vec![self.due("a literal")?];
        while self.take_symbol(",") {
            list.push(self.due("a literal")?);
        }
        if self.take_symbol(")") { Ok(list) } else { Err(self.expected("`,` or `)`")) }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let (Kind::Symbol, text) = self.token(0)? else { return None };
        let comparison = match text {
            "=" => Comparison::Equal,
            "!=" | "<>" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn operand(&mut self, expected: &str) -> Result<Operand, SyntaxFault> {
        let named = |token| matches!(token, Some((Kind::Word | Kind::Name, _)));
        let binary = self.is_word(0, "BINARY")
            && named(self.token(1))
            && !RESERVED.iter().any(|word| self.is_word(1, word));
        self.at += usize::from(binary);
        let column = match self.token(0) {
            Some((Kind::Word, text)) if !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word)) => {
                text.to_owned()
            }
            Some((Kind::Name, text)) => {
                literal::unquote(text).ok_or_else(|| self.expected("a name in backticks"))?
            }
            _ => return Err(self.expected(expected)),
        };
        self.at += 1;
        match self.token(0) {
            Some((Kind::Symbol, "(")) => Err(self.expected("a comparison: functions are not known here")),
            Some((Kind::Symbol, ".")) => Err(self.expected("a column without its table's name")),
            _ => Ok(Operand { column, binary }),
        }
    }

    fn due(&mut self, expected: &str) -> Result<Literal, SyntaxFault> {
        self.literal()?.ok_or_else(|| self.expected(expected))
    }

    /// None when there is none; then nothing is taken.
    fn literal(&mut self) -> Result<Option<Literal>, SyntaxFault> {
        let Some((kind, text)) = self.token(0) else { return Ok(None) };
        let unreadable = |parser: &Self| parser.expected("a readable literal");
        let (literal, taken) = match kind {
            Kind::Number => (Literal::Number(text.to_owned()), 1),
            Kind::Symbol if matches!(text, "-" | "+") => match self.token(1) {
                Some((Kind::Number, digits)) => {
                    let sign = if text == "-" { "-" } else { "" };
                    (Literal::Number(format!("{sign}{digits}")), 2)
                }
                _ => return Err(self.expected("a number behind its sign")),
            },
            Kind::Text if text.starts_with(['N', 'n']) => return Err(self.expected("a string without N")),
            Kind::Text => (Literal::Text(literal::unquote(text).ok_or_else(|| unreadable(self))?), 1),
            Kind::Bits => (Literal::Bytes(literal::bits(text).ok_or_else(|| unreadable(self))?), 1),
            Kind::Word => match (text.to_ascii_uppercase().as_str(), self.token(1)) {
                ("NULL", _) => (Literal::Null, 1),
                ("TRUE", _) => (Literal::Boolean(true), 1),
                ("FALSE", _) => (Literal::Boolean(false), 1),
                (word @ ("DATE" | "TIME" | "TIMESTAMP"), Some((Kind::Text, quoted))) => {
                    let temporal = match word {
                        "DATE" => Temporal::Date,
                        "TIME" => Temporal::Time,
                        _ => Temporal::Timestamp,
                    };
                    let inner = literal::unquote(quoted).ok_or_else(|| unreadable(self))?;
                    (Literal::Temporal(temporal, inner), 2)
                }
                _ => return Ok(None),
            },
            Kind::Name | Kind::Symbol => return Ok(None),
        };
        self.at += taken;
        Ok(Some(literal))
    }
}

fn joined(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn negated(not: bool, expr: Expr) -> Expr {
    if not { Expr::Not(Box::new(expr)) } else { expr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_mysql() {
        let same = |one: &str, other: &str| {
            assert_eq!(condition(one).unwrap(), condition(other).unwrap(), "{one} | {other}");
        };
        same("a = 1 OR b = 2 AND c = 3", "a = 1 OR (b = 2 AND c = 3)");
        same("NOT a = 1 AND b = 2", "(NOT (a = 1)) AND (b = 2)");
        same("a NOT BETWEEN 1 AND 2 AND b = 3", "(NOT (a >= 1 AND a <= 2)) AND b = 3");
        same("5 < `a`", "a > 5");
        same("a <> -5", "a != -5");
        same("date = DATE'2020-01-01' and TRUE", "`date` = date '2020-01-01' AND true");
        same("binary = 'x'", "`binary` = \"x\"");
        assert_ne!(condition("BINARY a = 'x'").unwrap(), condition("a = 'x'").unwrap());
    }

    #[test]
    fn faults_say_where_and_what_was_expected() {
        for (text, offset, expected) in [
            ("", 0, "a column"),
            ("id >", 4, "a literal"),
            ("id > 10 x", 8, "AND, OR or the end"),
            ("id + 1 > 2", 3, "a comparison"),
            ("id > other", 5, "compared with literals only"),
            ("1 = 1", 4, "a column"),
            ("UPPER(name) = 'A'", 5, "functions are not known"),
            ("t.id = 1", 1, "without its table's name"),
            ("id IN ()", 7, "a literal"),
            ("id IN (1, 2", 11, "`,` or `)`"),
            ("(id = 1", 7, "`)`"),
            ("name LIKE 5", 10, "a pattern"),
            ("id IS TRUE", 6, "NULL"),
            ("id = 1; DROP TABLE t", 6, "AND, OR or the end"),
            ("id = 1 -- x", 7, "without a comment"),
            ("id = 'a", 5, "readable"),
            ("id <=> 1", 3, "a comparison"),
            ("a || b", 2, "a comparison"),
            ("id = (SELECT 1)", 5, "literals only"),
        ] {
            let fault = condition(text).unwrap_err();
            assert_eq!(fault.offset, offset, "{text}: {fault}");
            assert!(fault.expected.contains(expected), "{text}: {fault}");
        }
        let deep = format!("{}a = 1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(condition(&deep).unwrap_err().expected.contains("fewer nested"));
        assert!(condition(&format!("{}a = 1", "NOT ".repeat(10_000))).is_err());
        assert!(condition(&"x".repeat(100_000)).is_err());
    }
}

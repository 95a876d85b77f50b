//! A column's type as text (ours, or the target's own spelling of it) taken apart to be compared.

/// A type taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) base: String,
    pub(super) numbers: Vec<u64>,
    pub(super) labels: Vec<String>,
    pub(super) unsigned: bool,
    pub(super) charset: Option<String>,
    pub(super) collation: Option<String>,
}

impl Shape {
    /// `decimal(10,2) unsigned`, `enum('a','it''s')`, `varchar(9) CHARACTER SET x COLLATE y`.
    pub(super) fn parse(text: &str) -> Self {
        let (head, tail) = match text.find('(') {
            Some(open) => {
                let close = closing(text, open);
                (
                    (text.get(..open).unwrap_or_default(), text.get(open + 1..close).unwrap_or_default()),
                    text.get(close + 1..).unwrap_or_default(),
                )
            }
            None => match text.split_once(' ') {
                Some((base, tail)) => ((base, ""), tail),
                None => ((text, ""), ""),
            },
        };
        let (base, arguments) = head;
        let words: Vec<_> = tail.split_whitespace().map(str::to_lowercase).collect();
        let after = |word: &str| {
            words.iter().position(|other| other == word).and_then(|at| words.get(at + 1)).cloned()
        };
        Self {
            base: base.trim().to_lowercase(),
            numbers: arguments.split(',').filter_map(|number| number.trim().parse().ok()).collect(),
            labels: if arguments.contains('\'') { labels(arguments) } else { Vec::new() },
            unsigned: words.iter().any(|word| word == "unsigned"),
            charset: after("set"),
            collation: after("collate"),
        }
    }

    pub(super) fn number(&self, at: usize, default: u64) -> u64 {
        self.numbers.get(at).copied().unwrap_or(default)
    }

    /// Smallest and largest integer.
    pub(super) fn range(&self) -> Option<(i128, i128)> {
        let bits = match self.base.as_str() {
            "tinyint" | "boolean" => 8,
            "smallint" => 16,
            "mediumint" => 24,
            "int" | "integer" => 32,
            "bigint" => 64,
            "decimal" => {
                let digits = self.number(0, 10).saturating_sub(self.number(1, 0)).min(38);
                let largest = 10_i128.pow(digits as u32) - 1;
                return Some((if self.unsigned { 0 } else { -largest }, largest));
            }
            _ => return None,
        };
        Some(if self.unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) })
    }

    /// Most bytes of a value; `width` of a character.
    pub(super) fn bytes(&self, width: u64) -> Option<u64> {
        Some(match self.base.as_str() {
            "char" | "varchar" if self.numbers.is_empty() => u64::MAX,
            "char" | "varchar" => self.number(0, 1) * width,
            "varbinary" if self.numbers.is_empty() => u64::MAX,
            "binary" | "varbinary" => self.number(0, 1),
            "tinytext" | "tinyblob" => 255,
            "text" | "blob" => 65_535,
            "mediumtext" | "mediumblob" => 16_777_215,
            "longtext" | "longblob" => u64::from(u32::MAX),
            _ => return None,
        })
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.base.as_str(), "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext")
    }

    pub(super) fn is_binary(&self) -> bool {
        matches!(self.base.as_str(), "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob")
    }
}

/// The parenthesis that closes the one at `open`, outside quotes.
fn closing(text: &str, open: usize) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(open + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'\'' => quoted = !quoted,
            b')' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// `'a','it''s'` and `'it\'s'`.
fn labels(text: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut label = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => match chars.next() {
                Some('n') => label.push('\n'),
                Some('r') => label.push('\r'),
                Some('0') => label.push('\0'),
                Some('Z') => label.push('\u{1a}'),
                other => label.extend(other),
            },
            '\'' if quoted && chars.peek() == Some(&'\'') => {
                chars.next();
                label.push('\'');
            }
            '\'' => {
                if quoted {
                    labels.push(std::mem::take(&mut label));
                }
                quoted = !quoted;
            }
            c if quoted => label.push(c),
            _ => {}
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_labels_are_read() {
        let expected = ["a", "it's", "b\\", "c,d)"];
        for text in [
            r"enum('a','it''s','b\\','c,d)')",
            r"enum('a','it\'s','b\\','c,d)') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        ] {
            assert_eq!(Shape::parse(text).labels, expected, "{text}");
        }
    }

    #[test]
    fn types_are_taken_apart() {
        let shape = Shape::parse("decimal(10,2) unsigned zerofill");
        assert_eq!((shape.base.as_str(), shape.numbers, shape.unsigned), ("decimal", vec![10, 2], true));
        let shape = Shape::parse("varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
        assert_eq!(
            (shape.charset.as_deref(), shape.collation.as_deref()),
            (Some("utf8mb4"), Some("utf8mb4_bin"))
        );
        assert_eq!(Shape::parse("bigint unsigned").range(), Some((0, (1 << 64) - 1)));
    }
}

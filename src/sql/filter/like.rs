//! LIKE over characters or bytes, with `\` as its escape.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `%`
    Any,
    /// `_`
    One,
    Char(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    /// None for a backslash in front of anything but `%`, `_` and itself: versions differ about it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            parts.push(match character {
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Char(characters.next().filter(|next| matches!(next, '%' | '_' | '\\'))?),
                other => Part::Char(other),
            });
        }
        Some(Self(parts))
    }

    /// Linear but for `%`, at which it comes back to the last one only.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (mut rest, mut at) = (text.chars(), 0);
        let mut back: Option<(std::str::Chars<'_>, usize)> = None;
        loop {
            let mut ahead = rest.clone();
            let character = ahead.next();
            let step = match (self.0.get(at), character) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    back = Some((rest.clone(), at));
                    at += 1;
                    continue;
                }
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Char(wanted)), Some(character)) => *wanted == character,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if step {
                (rest, at) = (ahead, at + 1);
                continue;
            }
            let Some((from, any)) = &mut back else { return false };
            if from.next().is_none() {
                return false;
            }
            (rest, at) = (from.clone(), *any + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("a%", "abc", true),
            ("%c", "abcc", true),
            ("a%b%c", "axxbyyc", true),
            ("a%b%c", "axxbyyd", false),
            ("_", "é", true),
            ("__", "é", false),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("a\\\\%", "a\\b", true),
            ("A", "a", false),
            ("a ", "a", false),
            ("%%%a", "ba", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::parse("a\\b").is_none() && Pattern::parse("a\\").is_none());
        let many = "%a".repeat(30);
        assert!(!Pattern::parse(&many).unwrap().matches(&"a".repeat(29)));
    }
}

//! The values behind quoted text, as MySQL and TiDB read it with backslash escapes on.

/// Content of `` `name` ``, `'text'`, `"text"` or `N'text'` given with its quotes. None when the quotes do not match.
pub(in crate::sql) fn unquote(raw: &str) -> Option<String> {
    let quoted = raw.strip_prefix(['N', 'n']).unwrap_or(raw);
    let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"' | '`'))?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character == quote {
            // The second of a doubled quote.
            characters.next();
            out.push(quote);
        } else if character == '\\' && quote != '`' {
            match characters.next()? {
                '0' => out.push('\0'),
                'b' => out.push('\u{8}'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'Z' => out.push('\u{1a}'),
                // Kept for LIKE, also outside of it.
                wildcard @ ('%' | '_') => out.extend(['\\', wildcard]),
                other => out.push(other),
            }
        } else {
            out.push(character);
        }
    }
    Some(out)
}

/// Content of `'text'` in which a backslash is a character like others.
pub(super) fn unquote_bare(raw: &str) -> Option<String> {
    let inner = raw.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inner.replace("''", "'"))
}

/// Big-endian bytes of `b'101'`, `0b101`, `x'0f'` or `0xf`. None when a digit is wrong, or `x''` has an odd number of them.
pub(in crate::sql) fn bits(raw: &str) -> Option<Vec<u8>> {
    let mut characters = raw.chars();
    let (digits, radix, pad) = match (characters.next()?, characters.next()?) {
        ('b' | 'B', '\'') => (characters.as_str().strip_suffix('\'')?, 2, true),
        ('0', 'b' | 'B') => (characters.as_str(), 2, true),
        ('x' | 'X', '\'') => (characters.as_str().strip_suffix('\'')?, 16, false),
        ('0', 'x' | 'X') => (characters.as_str(), 16, true),
        _ => return None,
    };
    let per_byte = if radix == 2 { 8 } else { 2 };
    let missing = (per_byte - digits.len() % per_byte) % per_byte;
    if missing > 0 && !pad {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / per_byte + 1);
    let mut byte = 0_u32;
    for (at, digit) in std::iter::repeat_n('0', missing).chain(digits.chars()).enumerate() {
        byte = byte * radix + digit.to_digit(radix)?;
        if at % per_byte == per_byte - 1 {
            out.push(u8::try_from(byte).ok()?);
            byte = 0;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes() {
        for (raw, value) in [
            ("''", ""),
            ("'it''s'", "it's"),
            ("\"a\"\"b'c\"", "a\"b'c"),
            ("`a``b\\n`", "a`b\\n"),
            (r"'\0\b\n\r\t\Z\\\'\x\f\%\_'", "\0\u{8}\n\r\t\u{1a}\\'xf\\%\\_"),
            ("N'中'", "中"),
        ] {
            assert_eq!(unquote(raw).as_deref(), Some(value), "{raw}");
        }
        assert_eq!(unquote("'a"), None);
        assert_eq!(unquote("'"), None);
        assert_eq!(unquote(""), None);
    }

    #[test]
    fn bit_and_hex_literals_are_bytes() {
        for (raw, value) in [
            ("b'0'", Some(vec![0])),
            ("b''", Some(vec![])),
            ("B'100000001'", Some(vec![1, 1])),
            ("0b11", Some(vec![3])),
            ("x'00fF'", Some(vec![0, 255])),
            ("0xF", Some(vec![15])),
            ("x'f'", None),
            ("b'2'", None),
            ("x'中中'", None),
        ] {
            assert_eq!(bits(raw), value, "{raw}");
        }
    }
}

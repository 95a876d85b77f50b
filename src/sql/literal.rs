//! Names and values as SQL text, appended to a buffer that becomes one statement.

/// Appends `` `name` ``.
pub fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(b'`');
    for byte in name.bytes() {
        if byte == b'`' {
            out.push(b'`');
        }
        out.push(byte);
    }
    out.push(b'`');
}

/// `` `name` `` as a string.
pub fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `schema`.`table` ``.
pub fn table_name(table: &crate::model::TableName) -> String {
    format!("{}.{}", name(&table.schema), name(&table.table))
}

/// Appends `'text'` with the escapes that every MySQL-protocol server takes while NO_BACKSLASH_ESCAPES is off.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'\'');
    push_escaped(out, text);
    out.push(b'\'');
}

/// 1 for a byte that needs an escape. Numbers and no branches: so the compiler looks at 16 bytes at once.
fn special(byte: u8) -> u8 {
    u8::from(byte == b'\'')
        | u8::from(byte == b'\\')
        | u8::from(byte == 0)
        | u8::from(byte == b'\n')
        | u8::from(byte == b'\r')
        | u8::from(byte == 0x1a)
}

/// The first byte that needs an escape. Most text has none, so it is looked at in blocks.
fn first_special(text: &[u8]) -> Option<usize> {
    let (blocks, _) = text.as_chunks::<32>();
    let clean = blocks.iter().take_while(|block| block.iter().fold(0, |any, byte| any | special(*byte)) == 0);
    let clean = clean.count() * 32;
    let rest = text.get(clean..)?;
    rest.iter().position(|byte| special(*byte) == 1).map(|at| clean + at)
}

/// What stands between the quotes of [`push_string`]. Copies runs between bytes that need an escape.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = first_special(rest) {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((special, after)) = tail.split_first() else { break };
        out.push(b'\\');
        out.push(match special {
            0 => b'0',
            b'\n' => b'n',
            b'\r' => b'r',
            0x1a => b'Z',
            other => *other,
        });
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// `'text'` as a string, for DDL.
pub fn string(text: &str) -> String {
    let mut out = Vec::new();
    push_string(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends `x'00ff'`.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2 + 3);
    out.extend_from_slice(b"x'");
    for byte in bytes {
        out.extend([byte >> 4, byte & 15].iter().filter_map(|nibble| DIGITS.get(usize::from(*nibble))));
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out);
        out
    }

    #[test]
    fn an_escape_is_found_at_any_place_of_a_long_text() {
        for length in [0, 1, 31, 32, 33, 64, 100] {
            for place in 0..length {
                let mut plain = vec![b'x'; length];
                plain[place] = b'\n';
                let mut expected = plain.clone();
                expected.splice(place..=place, *b"\\n");
                assert_eq!(text(|out| push_escaped(out, &plain)), expected, "{place} of {length}");
            }
        }
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(text(|out| push_name(out, "a`b")), b"`a``b`");
        assert_eq!(text(|out| push_string(out, b"it's\\ \0\n\r\x1a\xe9")), b"'it\\'s\\\\ \\0\\n\\r\\Z\xe9'");
        assert_eq!(text(|out| push_hex(out, &[0, 0xff])), b"x'00ff'");
    }
}

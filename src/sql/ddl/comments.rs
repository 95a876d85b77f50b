//! Takes comments out of a text without moving a byte: positions in the result are positions in the original.
//!
//! sqlparser's tokenizer treats `/*T! ... */` as white space and gives the content of `/*! ... */` positions of its own, so
//! both are dealt with here: a comment becomes blanks, an executable comment loses its markers and keeps its content. Rules as
//! in TiDB's own lexer: versions and features are not looked at, and an executable comment ends at the first `*/` outside
//! strings and plain comments.

use super::error::DdlError;

/// The text with blanks for comments, checked to be UTF-8.
pub(super) fn unwrap(text: &[u8]) -> Result<String, DdlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut executable_since = None;
    while let Some(first) = rest.first() {
        let position = text.len() - rest.len();
        let (length, keep) = match first {
            b'\'' | b'"' | b'`' => (quoted(rest, *first), true),
            b'#' => (line(rest), false),
            b'-' if line_comment(rest) => (line(rest), false),
            b'/' if rest.starts_with(b"/*") => match executable_marker(rest) {
                Some(marker) => {
                    executable_since = Some(position);
                    (marker, false)
                }
                None => match find(rest, b"*/", 2) {
                    Some(end) => (end, false),
                    None => return Err(unterminated(position)),
                },
            },
            b'*' if executable_since.is_some() && rest.starts_with(b"*/") => {
                executable_since = None;
                (2, false)
            }
            _ => (1, true),
        };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        if keep {
            out.extend_from_slice(piece);
        } else {
            out.extend(piece.iter().map(|_| b' '));
        }
        rest = after;
    }
    if let Some(position) = executable_since {
        return Err(unterminated(position));
    }
    String::from_utf8(out).map_err(|error| {
        DdlError::new(error.utf8_error().valid_up_to(), "a byte outside UTF-8", "UTF-8 text")
            .hint("Drainer sends DDL as UTF-8; this event holds other bytes outside comments")
    })
}

fn unterminated(position: usize) -> DdlError {
    DdlError::new(position, "/*", "a comment that ends with `*/`")
}

/// Length of a quoted piece with both quotes; to the end of the text when it is not closed (the tokenizer refuses it then).
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        if escaped {
            escaped = false;
        } else if *byte == b'\\' && quote != b'`' {
            escaped = true;
        } else if *byte == quote {
            // A doubled quote opens at once again, which comes to the same.
            return at + 1;
        }
    }
    text.len()
}

fn line(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len())
}

/// `--` opens a comment only in front of a blank or at the end.
fn line_comment(text: &[u8]) -> bool {
    text.starts_with(b"--")
        && text.get(2).is_none_or(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let tail = text.get(from..)?;
    tail.windows(what.len()).position(|window| window == what).map(|at| from + at + what.len())
}

/// Length of `/*!`, `/*!90000`, `/*T!`, `/*T!30100` or `/*T![feature,feature]`.
fn executable_marker(text: &[u8]) -> Option<usize> {
    let marker = if text.starts_with(b"/*!") {
        3
    } else if text.starts_with(b"/*T!") {
        4
    } else {
        return None;
    };
    let tail = text.get(marker..)?;
    if marker == 4 && tail.first() == Some(&b'[') {
        return find(text, b"]", marker);
    }
    let digits = tail.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    Some(if digits >= 5 { marker + digits } else { marker })
}

#[cfg(test)]
mod tests {
    use super::unwrap;

    fn text(sql: &str) -> String {
        let out = unwrap(sql.as_bytes()).unwrap();
        assert_eq!(out.len(), sql.len(), "no byte moves");
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_blanks_and_executable_ones_are_text() {
        assert_eq!(text("a /* x */ b -- c\nd # e\nf"), "a b d f");
        assert_eq!(text("a/*T![auto_rand] AUTO_RANDOM(5) */b"), "a AUTO_RANDOM(5) b");
        assert_eq!(text("/*T! X=4 */ /*!90000 Y=2 */ /*!Z*/ /*T!30100 R */"), "X=4 Y=2 Z R");
        assert_eq!(text("/*!40101 DEFAULT '*/' /* in */ x */ y"), "DEFAULT '*/' x y");
        assert_eq!(text("'/* no */' `/*` \"--\" 'it''s \\' -- '"), "'/* no */' `/*` \"--\" 'it''s \\' -- '");
        assert_eq!(text("/*+ HINT */ a--b /*M! x */"), "a--b");
        assert_eq!(text("a --"), "a");
    }

    #[test]
    fn invalid_utf8_is_refused_where_it_stands_unless_in_a_comment() {
        assert!(unwrap(b"/* \xe9 */ a").is_ok());
        assert_eq!(unwrap(b"ab '\xe9'").unwrap_err().position, 4);
        assert_eq!(unwrap(b"ab /* c").unwrap_err().position, 3);
        assert_eq!(unwrap(b"ab /*! c").unwrap_err().position, 3);
    }
}

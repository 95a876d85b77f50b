//! Temporal values of the binary protocol as the text that the stream carries (source-drainer.md 3.1): exactly `fsp`
//! fractional digits, zero dates kept, TIME with hours beyond 24 and a sign.

use std::io::Write;

/// `2020-02-29`
pub fn push_date(out: &mut Vec<u8>, year: u16, month: u8, day: u8) {
    // writing to memory does not fail
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// `2020-02-29 12:34:56.789`
pub fn push_datetime(out: &mut Vec<u8>, date: (u16, u8, u8), time: (u8, u8, u8), micros: u32, fsp: u32) {
    push_date(out, date.0, date.1, date.2);
    let _ = write!(out, " {:02}:{:02}:{:02}", time.0, time.1, time.2);
    push_fraction(out, micros, fsp);
}

/// `-838:59:59.000`
pub fn push_time(out: &mut Vec<u8>, negative: bool, days: u32, time: (u8, u8, u8), micros: u32, fsp: u32) {
    if negative {
        out.push(b'-');
    }
    let hours = u64::from(days) * 24 + u64::from(time.0);
    let _ = write!(out, "{hours:02}:{:02}:{:02}", time.1, time.2);
    push_fraction(out, micros, fsp);
}

fn push_fraction(out: &mut Vec<u8>, micros: u32, fsp: u32) {
    if fsp > 0 {
        let end = out.len() + 1 + fsp.min(6) as usize;
        let _ = write!(out, ".{micros:06}");
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn temporal_values_have_exactly_their_digits() {
        assert_eq!(text(|out| push_date(out, 0, 0, 0)), "0000-00-00");
        assert_eq!(text(|out| push_datetime(out, (2020, 2, 29), (1, 2, 3), 4, 0)), "2020-02-29 01:02:03");
        assert_eq!(
            text(|out| push_datetime(out, (2020, 2, 29), (1, 2, 3), 4, 6)),
            "2020-02-29 01:02:03.000004"
        );
        assert_eq!(
            text(|out| push_datetime(out, (1999, 12, 31), (23, 59, 59), 999_000, 3)),
            "1999-12-31 23:59:59.999"
        );
        assert_eq!(text(|out| push_time(out, true, 34, (22, 59, 59), 0, 0)), "-838:59:59");
        assert_eq!(text(|out| push_time(out, true, 0, (0, 0, 0), 1000, 3)), "-00:00:00.001");
        assert_eq!(text(|out| push_time(out, false, 0, (0, 0, 0), 0, 6)), "00:00:00.000000");
    }
}

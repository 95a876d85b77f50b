use proptest::prelude::*;

use super::*;
use crate::task::spec::LossyPolicy;

fn push(form: Form, value: Value<'_>) -> Result<(String, Pushed), ValueFault> {
    push_in(form, value, &Zone::Utc)
}

fn push_in(form: Form, value: Value<'_>, zone: &Zone) -> Result<(String, Pushed), ValueFault> {
    let mut out = b"x".to_vec();
    let result = Encoder::new("c", form).push(value, zone, &mut out);
    assert_eq!(out.remove(0), b'x');
    assert!(result.is_ok() || out.is_empty(), "a fault leaves the buffer as it was");
    result.map(|pushed| (String::from_utf8_lossy(&out).into_owned(), pushed))
}

fn plain(form: Form, value: Value<'_>) -> String {
    let (text, pushed) = push(form, value).unwrap();
    assert_eq!(pushed, Pushed::PLAIN, "{text}");
    text
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.as_bytes())
}

fn decimal(limit: Option<DecimalLimit>) -> Form {
    Form::Decimal { limit, quoted: false }
}

fn labels(labels: &[&str]) -> Box<[Box<str>]> {
    labels.iter().map(|label| (*label).into()).collect()
}

const EXACT: fn(TemporalKind) -> Form = |kind| Form::Temporal(Temporal::exact(kind));

#[test]
fn numbers() {
    for (form, value, expected) in [
        (Form::Integer, Value::Int(i64::MIN), "-9223372036854775808"),
        (Form::Integer, Value::UInt(u64::MAX), "18446744073709551615"),
        (Form::Integer, text("-8388608"), "-8388608"),
        (Form::Integer, Value::Null, "NULL"),
        (Form::Float, Value::Double(f64::from(1.1_f32)), "1.100000023841858e0"),
        (Form::Float, Value::Double(f64::from(f32::MIN)), "-3.4028234663852886e38"),
        (Form::Double, Value::Double(-1.7976931348623157e308), "-1.7976931348623157e308"),
        (Form::Double, Value::Double(1e-300), "1e-300"),
        (Form::Double, Value::Double(-0.0), "-0.0e0"),
        (Form::Double, text("2.5"), "2.5e0"),
        (decimal(None), text("-0.000000000000000000000000000001"), "-0.000000000000000000000000000001"),
        (decimal(None), text("3.1"), "3.1"),
        (decimal(None), Value::Int(5), "5"),
        (Form::Decimal { limit: None, quoted: true }, text("-1.50"), "'-1.50'"),
        (Form::Bits { quoted: false }, Value::Bytes(&[0, 5]), "5"),
        (Form::Bits { quoted: false }, Value::Bytes(&[0xff; 8]), "18446744073709551615"),
        (Form::Bits { quoted: false }, Value::Int(-1), "18446744073709551615"),
        (Form::Bits { quoted: true }, Value::Bytes(&[3, 0xff]), "'1023'"),
        (Form::Year, text("0"), "0"),
        (Form::Year, text("2155"), "2155"),
        (Form::Year, Value::UInt(1901), "1901"),
    ] {
        assert_eq!(plain(form, value), expected);
    }
}

#[test]
fn what_is_no_such_number_is_refused() {
    for (form, value) in [
        (Form::Integer, text("5; DROP TABLE t")),
        (Form::Integer, text("")),
        (Form::Integer, text("1.5")),
        (Form::Integer, text("18446744073709551616")),
        (Form::Double, Value::Double(f64::NAN)),
        (Form::Double, Value::Double(f64::INFINITY)),
        (Form::Float, Value::Double(1e300)),
        (decimal(None), text("1e5")),
        (decimal(None), text(".")),
        (decimal(None), text("1'2")),
        (decimal(None), Value::Double(1.5)),
        (Form::Year, text("1900")),
        (Form::Year, text("now")),
        (Form::Bits { quoted: false }, Value::Bytes(&[0; 9])),
        (Form::EnumNumber { labels: 2 }, Value::UInt(3)),
        (Form::EnumNumber { labels: 2 }, Value::Double(1.5)),
        (Form::SetNumber { mask: 7 }, Value::UInt(8)),
        (Form::EnumLabel(labels(&["a"])), Value::UInt(2)),
        (Form::SetLabels(labels(&["a"])), Value::UInt(2)),
        (Form::Text { latin1: false }, Value::Int(1)),
    ] {
        let fault = push(form, value).unwrap_err();
        assert_eq!(fault.column, "c");
    }
}

#[test]
fn decimals_are_rounded_to_the_nearest_that_fits() {
    let limit = Some(DecimalLimit { integer: 3, scale: 2 });
    for (value, expected, changed) in [
        ("1.50", "01.50", false),
        ("-999.99", "-0999.99", false),
        ("1.5000", "01.50", false),
        ("1.005", "01.01", true),
        ("1.004", "01.00", true),
        ("9.995", "10.00", true),
        ("-999.995", "-999.99", true),
        ("1000", "999.99", true),
        ("-0001234.5", "-999.99", true),
    ] {
        let (found, pushed) = push(decimal(limit), text(value)).unwrap();
        assert_eq!((found.as_str(), !pushed.is_exact()), (expected, changed), "{value}");
    }
    let whole = Some(DecimalLimit { integer: 3, scale: 0 });
    assert_eq!(push(decimal(whole), text("99.5")).unwrap().0, "100");
    assert_eq!(push(decimal(whole), text("999.5")).unwrap().0, "999");
}

#[test]
fn enums_and_sets() {
    let number = |value| push(Form::EnumNumber { labels: 3 }, value).unwrap();
    assert_eq!(number(Value::UInt(3)), ("3".to_owned(), Pushed::PLAIN));
    assert_eq!(number(Value::Double(2.0)), ("2".to_owned(), Pushed::PLAIN));
    assert_eq!(number(Value::UInt(0)), ("0".to_owned(), Pushed::RELAXED));
    assert_eq!(plain(Form::SetNumber { mask: 7 }, Value::UInt(0)), "0");
    let label = |number| plain(Form::EnumLabel(labels(&["a", "it's", "中文"])), Value::UInt(number));
    assert_eq!((label(0), label(2), label(3)), ("''".to_owned(), "'it\\'s'".to_owned(), "'中文'".to_owned()));
    let set = |number| plain(Form::SetLabels(labels(&["x", "y", "z'"])), Value::UInt(number));
    assert_eq!((set(0), set(5), set(7)), ("''".to_owned(), "'x,z\\''".to_owned(), "'x,y,z\\''".to_owned()));
}

#[test]
fn text_and_octets() {
    let utf8 = Form::Text { latin1: false };
    assert_eq!(
        plain(utf8.clone(), text("O'Brien; DROP TABLE x; -- 😀\0")),
        "'O\\'Brien; DROP TABLE x; -- 😀\\0'"
    );
    assert_eq!(plain(utf8.clone(), Value::Bytes(b"")), "''");
    assert_eq!(push(utf8, Value::Text(b"\xe9")).unwrap_err().reason, NOT_UTF8);
    let latin1 = Form::Text { latin1: true };
    assert_eq!(plain(latin1.clone(), Value::Text(b"\xe9'\x80\x81")), "'é\\'€\u{81}'");
    assert_eq!(plain(latin1, text("é")), "'é'");
    let binary = Form::Binary { long_as_string: true };
    assert_eq!(plain(binary.clone(), Value::Bytes(b"\0'\xff")), "x'0027ff'");
    assert!(plain(binary, Value::Bytes(&[b'a'; 256])).starts_with("_binary'aaa"));
    assert!(plain(Form::Binary { long_as_string: false }, Value::Bytes(&[b'a'; 256])).starts_with("x'6161"));
    assert_eq!(plain(Form::Json, Value::Bytes(br#"{"a": "\u003c'\n"}"#)), r#"'{"a": "\\u003c\'\\n"}'"#);
}

#[test]
fn temporal_values_pass_as_they_are() {
    for (kind, value, expected) in [
        (TemporalKind::Date, "2020-00-00", "'2020-00-00'"),
        (TemporalKind::Date, "0000-00-00", "'0000-00-00'"),
        (TemporalKind::DateTime, "9999-12-31 23:59:59.999999", "'9999-12-31 23:59:59.999999'"),
        (TemporalKind::Timestamp, "0000-00-00 00:00:00", "'0000-00-00 00:00:00'"),
        (TemporalKind::Time, "-838:59:59", "'-838:59:59'"),
        (TemporalKind::Time, "-00:00:00.001", "'-00:00:00.001'"),
        (TemporalKind::Time, "-12:34:56.654321", "'-12:34:56.654321'"),
    ] {
        assert_eq!(plain(EXACT(kind), text(value)), expected);
    }
    for (kind, value) in [
        (TemporalKind::Date, "2020-01-01'"),
        (TemporalKind::Date, "20-01-01"),
        (TemporalKind::DateTime, "2020-01-01"),
        (TemporalKind::DateTime, "2020-01-01 00:00:00.1234567"),
        (TemporalKind::Timestamp, "2020-01-01T00:00:00"),
        (TemporalKind::Time, "1:00:00"),
        (TemporalKind::Time, "12:00"),
        (TemporalKind::Time, "now()"),
        (TemporalKind::Time, ""),
    ] {
        assert!(push(EXACT(kind), text(value)).is_err(), "{value}");
    }
}

#[test]
fn timestamps_become_utc() {
    let shanghai = Zone::parse("Asia/Shanghai").unwrap();
    let stamp = |value| push_in(EXACT(TemporalKind::Timestamp), text(value), &shanghai).unwrap();
    assert_eq!(stamp("1970-01-01 08:00:01.500"), ("'1970-01-01 00:00:01.500'".to_owned(), Pushed::PLAIN));
    assert_eq!(stamp("1991-09-15 01:00:00"), ("'1991-09-14 16:00:00'".to_owned(), Pushed::AMBIGUOUS));
    let (plain, _) = push_in(EXACT(TemporalKind::DateTime), text("1970-01-01 08:00:01"), &shanghai).unwrap();
    assert_eq!(plain, "'1970-01-01 08:00:01'");
}

#[test]
fn lossy_policies_bend_or_refuse() {
    let form = |kind, zero_date, time, fraction| Form::Temporal(Temporal { kind, zero_date, time, fraction });
    let date = |zero| form(TemporalKind::Date, zero, None, Some(LossyPolicy::Clamp));
    let stamp = |zero, fraction| form(TemporalKind::DateTime, zero, None, Some(fraction));
    let time = |policy| form(TemporalKind::Time, ZeroDate::Keep, Some(policy), Some(LossyPolicy::Clamp));
    use LossyPolicy::{Clamp, Refuse};
    for (form, value, expected, changed) in [
        (date(ZeroDate::Null), "0000-00-00", "NULL", true),
        (date(ZeroDate::FirstDay), "0000-00-00", "'0001-01-01'", true),
        (date(ZeroDate::Null), "2020-00-00", "'2020-01-01'", true),
        (date(ZeroDate::Null), "2020-05-01", "'2020-05-01'", false),
        (stamp(ZeroDate::FirstDay, Clamp), "0000-00-00 00:00:00.000000", "'0001-01-01 00:00:00'", true),
        (stamp(ZeroDate::Null, Clamp), "2020-01-00 10:00:00", "'2020-01-01 10:00:00'", true),
        (date(ZeroDate::Null), "2023-02-31", "'2023-02-28'", true),
        (date(ZeroDate::Null), "2000-02-29", "'2000-02-29'", false),
        (date(ZeroDate::Null), "2100-02-29", "'2100-02-28'", true),
        (date(ZeroDate::FirstDay), "2020-06-31", "'2020-06-30'", true),
        (date(ZeroDate::FirstDay), "2020-00-31", "'2020-01-31'", true),
        (stamp(ZeroDate::Null, Clamp), "2020-01-02 10:00:00.123456", "'2020-01-02 10:00:00.123'", true),
        (stamp(ZeroDate::Null, Clamp), "2020-01-02 10:00:00.120000", "'2020-01-02 10:00:00.120'", false),
        (stamp(ZeroDate::Null, Refuse), "2020-01-02 10:00:00.120000", "'2020-01-02 10:00:00.120'", false),
        (time(Clamp), "-838:59:59", "'00:00:00'", true),
        (time(Clamp), "-00:00:00.001", "'00:00:00'", true),
        (time(Clamp), "24:00:00", "'23:59:59'", true),
        (time(Clamp), "24:00:00.0", "'23:59:59.9'", true),
        (time(Clamp), "838:59:59.000000", "'23:59:59.999'", true),
        (time(Refuse), "-00:00:00.000", "'00:00:00.000'", false),
        (time(Refuse), "23:59:59.999999", "'23:59:59.999'", true),
    ] {
        let (found, pushed) = push(form, text(value)).unwrap();
        assert_eq!((found.as_str(), !pushed.is_exact()), (expected, changed), "{value}");
    }
    for (form, value) in [
        (date(ZeroDate::Refuse), "0000-00-00"),
        (stamp(ZeroDate::Refuse, Clamp), "2020-00-01 00:00:00"),
        (stamp(ZeroDate::Null, Refuse), "2020-01-02 10:00:00.1234"),
        (time(Refuse), "100:00:00"),
        (time(Refuse), "-00:00:01"),
    ] {
        assert!(push(form, text(value)).is_err(), "{value}");
    }
}

fn key(form: &Form, value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new("c", form.clone()).push_key(value, &mut out).unwrap();
    out
}

#[test]
fn keys_are_equal_when_values_are() {
    let stamp = EXACT(TemporalKind::DateTime);
    for (form, left, right, equal) in [
        (decimal(None), text("1.500"), text("1.5"), true),
        (decimal(None), text("-0.00"), text("0"), true),
        (decimal(None), text("007"), Value::Int(7), true),
        (decimal(None), text("10"), text("1"), false),
        (decimal(None), text("-1"), text("1"), false),
        (Form::Double, Value::Double(-0.0), Value::Double(0.0), true),
        (Form::Float, Value::Double(1.1), Value::Double(f64::from(1.1_f32)), true),
        (Form::Integer, Value::Int(5), Value::UInt(5), true),
        (Form::Integer, Value::Int(5), text("5"), true),
        (Form::Integer, Value::Int(-1), Value::UInt(1), false),
        (Form::Integer, Value::Int(-1), Value::UInt(u64::MAX), false),
        (Form::EnumNumber { labels: 3 }, Value::UInt(2), Value::Double(2.0), true),
        (Form::Year, text("0"), Value::UInt(0), true),
        (stamp, text("2020-01-01 00:00:00.500"), text("2020-01-01 00:00:00.5"), true),
        (Form::Text { latin1: false }, text("a"), text("A"), false),
        (Form::Text { latin1: false }, text(""), Value::Null, false),
        (Form::Text { latin1: false }, text("a"), Value::Bytes(b"a"), true),
    ] {
        assert_eq!(key(&form, left) == key(&form, right), equal, "{left:?} {right:?}");
    }
}

proptest! {
    #[test]
    fn key_tuples_never_collide(a in any::<Option<String>>(), b in any::<Option<String>>(), c in any::<Option<String>>(), d in any::<Option<String>>()) {
        let tuple = |parts: [&Option<String>; 2]| {
            let value = |part: &Option<String>| key(&Form::Text { latin1: false }, part.as_deref().map_or(Value::Null, text));
            parts.map(value).concat()
        };
        prop_assert_eq!(tuple([&a, &b]) == tuple([&c, &d]), (&a, &b) == (&c, &d));
    }

    #[test]
    fn floats_survive_their_text(bits in any::<u32>()) {
        let single = f32::from_bits(bits);
        prop_assume!(single.is_finite());
        let literal = plain(Form::Float, Value::Double(f64::from(single)));
        prop_assert_eq!(literal.parse::<f64>().unwrap(), f64::from(single));
    }

    #[test]
    fn doubles_survive_their_text(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        prop_assert_eq!(plain(Form::Double, Value::Double(double)).parse::<f64>().unwrap(), double);
    }

    #[test]
    fn no_value_leaves_its_quotes(bytes in any::<Vec<u8>>()) {
        for form in [Form::Text { latin1: true }, Form::Binary { long_as_string: true }, EXACT(TemporalKind::Time), decimal(None)] {
            let mut out = Vec::new();
            if Encoder::new("c", form).push(Value::Text(&bytes), &Zone::Utc, &mut out).is_ok() && out.contains(&b'\'') {
                let inner: Vec<u8> = out.iter().copied().skip_while(|byte| *byte != b'\'').skip(1).collect();
                let mut escaped = false;
                let end = inner.iter().position(|byte| {
                    let ends = *byte == b'\'' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    ends
                });
                prop_assert_eq!(end, Some(inner.len() - 1));
            }
        }
    }
}

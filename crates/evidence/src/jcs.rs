//! Canonical JSON (RFC 8785): one text for one value.
//!
//! Members are sorted by their names' UTF-16 code units, numbers are written as ECMAScript writes them, strings escape only what they must.
//! Where RFC 8785 would round a large integer to the nearest double, this refuses: a signed statement must not say another number.

mod writer;

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Number, Value};

/// A value that has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JcsError {
    /// A number that a double would change, or that is none.
    #[error("the number `{0}` cannot be written exactly as a JSON double: write it as a string")]
    Number(String),
    /// Anything else, such as an object with two members of one name.
    #[error("it has no canonical JSON: {0}")]
    Other(String),
}

impl serde::ser::Error for JcsError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }
}

/// The canonical text of a value.
pub fn canonical(value: &Value) -> Result<Vec<u8>, JcsError> {
    of(value)
}

/// The canonical text of whatever can be serialized, without a tree of it in memory.
pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, JcsError> {
    let mut out = String::new();
    value.serialize(writer::Writer(&mut out))?;
    Ok(out.into_bytes())
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            // Writing to a `String` cannot fail.
            '\0'..='\u{1f}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn number_text(number: &Number) -> Result<String, JcsError> {
    let text = number.as_f64().and_then(ecmascript).ok_or_else(|| JcsError::Number(number.to_string()))?;
    if number.is_f64() || text == number.to_string() { Ok(text) } else { Err(JcsError::Number(number.to_string())) }
}

/// `Number::toString` of ECMA-262, section 6.1.6.1.20; `None` for infinities and NaN.
fn ecmascript(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    if value == 0.0 {
        return Some("0".to_owned());
    }
    // Rust gives the shortest digits that read back as the same double, as ECMAScript asks, but of two equally near ones it may take the
    // odd: printing to that many digits takes the even one.
    let shortest = format!("{:e}", value.abs());
    let decimals = shortest.find('e')?.saturating_sub(2);
    let nearest = format!("{:.decimals$e}", value.abs());
    let scientific = if nearest.parse() == Ok(value.abs()) { nearest } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e')?;
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().ok()?;
    let sign = if value < 0.0 { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let (count, point) = (i32::try_from(digits.len()).ok()?, exponent + 1);
    Some(if count <= point && point <= 21 {
        format!("{sign}{digits}{}", zeros(point - count))
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
        format!("{sign}{whole}.{fraction}")
    } else if -6 < point && point <= 0 {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{sign}{first}{dot}{rest}e{exponent:+}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    /// RFC 8785, appendix B.
    #[test]
    fn numbers_agree_with_the_rfc() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(ecmascript(f64::from_bits(bits)).unwrap(), expected);
        }
        assert_eq!(ecmascript(f64::NAN), None);
        assert_eq!(ecmascript(f64::INFINITY), None);
    }

    /// RFC 8785, section 3.2.3.
    #[test]
    fn members_are_sorted_by_utf_16() {
        let value = json!({"\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh", "1": "One",
            "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"});
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\
            \"\u{20ac}\":\"Euro Sign\",\"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(text(&value), expected);
    }

    /// RFC 8785, section 3.2.2.
    #[test]
    fn values_agree_with_the_rfc() {
        let value: Value = serde_json::from_str(
            r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
                "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
        )
        .unwrap();
        assert_eq!(
            text(&value),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(text(&json!({"a": [], "b": {}, "c": [[1]]})), r#"{"a":[],"b":{},"c":[[1]]}"#);
    }

    #[test]
    fn integers_that_a_double_would_change_are_refused() {
        for good in [
            json!(9_007_199_254_740_991_u64),
            json!(-9_007_199_254_740_991_i64),
            json!(9_007_199_254_740_994_u64),
            json!(0),
        ] {
            assert_eq!(text(&good), good.to_string());
        }
        for bad in [json!(9_007_199_254_740_993_u64), json!(u64::MAX), json!(i64::MIN)] {
            assert!(canonical(&json!([bad])).is_err(), "{bad}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<u32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// Another way to the same text: compare names as big-endian UTF-16 bytes, leave scalars to `serde_json`.
    fn oracle(value: &Value) -> String {
        match value {
            Value::Array(items) => format!("[{}]", items.iter().map(oracle).collect::<Vec<_>>().join(",")),
            Value::Object(members) => {
                let key = |name: &str| name.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
                let sorted: std::collections::BTreeMap<_, _> = members.iter().map(|(n, v)| (key(n), (n, v))).collect();
                let texts: Vec<_> =
                    sorted.values().map(|(n, v)| format!("{}:{}", Value::from(n.as_str()), oracle(v))).collect();
                format!("{{{}}}", texts.join(","))
            }
            scalar => scalar.to_string(),
        }
    }

    #[test]
    fn what_is_serialized_without_a_tree_reads_as_with_one() {
        #[derive(serde::Serialize)]
        enum Kind {
            Unit,
            One(u8),
            Two(u8, char),
            Named { b: Option<u8>, a: () },
        }
        #[derive(serde::Serialize)]
        struct All {
            z: Vec<Kind>,
            a: std::collections::BTreeMap<String, f32>,
            #[serde(flatten)]
            more: Value,
        }
        let z = vec![Kind::Unit, Kind::One(1), Kind::Two(2, 'x'), Kind::Named { b: None, a: () }];
        let all = All { z, a: [("k".to_owned(), 0.5)].into(), more: json!({"m": {"y": 1, "x": [true]}}) };
        let tree = serde_json::to_value(&all).unwrap();
        assert_eq!(of(&all).unwrap(), oracle(&tree).into_bytes());
        assert_eq!(of(&all).unwrap(), canonical(&tree).unwrap());

        let twice = All { z: Vec::new(), a: [].into(), more: json!({"z": 1}) };
        assert!(of(&twice).unwrap_err().to_string().contains("`z` is there twice"));
        assert!(of(&f64::NAN).is_err(), "not null, as in JSON that nobody signs");
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle_and_reads_back(value in values()) {
            let canonical = text(&value);
            prop_assert_eq!(&canonical, &oracle(&value));
            prop_assert_eq!(serde_json::from_str::<Value>(&canonical).unwrap(), value);
        }

        #[test]
        fn doubles_read_back_as_themselves(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let read = ecmascript(value).unwrap().parse::<f64>().unwrap();
            prop_assert!(read.to_bits() == bits || read.abs() + value.abs() == 0.0);
        }
    }
}

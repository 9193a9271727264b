//! The forms in which a secret may be seen without being written as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Bytes that must not be in a log, and what they would betray.
#[derive(Debug, Clone)]
pub(super) struct Needle {
    pub(super) name: String,
    pub(super) form: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

/// All forms of `value`, each once.
pub(super) fn needles(name: &str, value: &[u8]) -> Vec<Needle> {
    let lossy = String::from_utf8_lossy(value);
    let json = json_inside(&lossy);
    let hex_text = hex(value);
    let decimal = |separator: &str| value.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        ("plain", value.to_vec()),
        ("json", json.clone().into_bytes()),
        ("json in json", json_inside(&json).into_bytes()),
        ("hex", hex_text.to_uppercase().into_bytes()),
        ("hex", hex_text.into_bytes()),
        ("bytes", decimal(", ").into_bytes()),
        ("bytes", decimal(",").into_bytes()),
    ];
    for upper in [true, false] {
        for form in [true, false] {
            all.push(("url", percent(value, upper, form).into_bytes()));
        }
    }
    for offset in 0..3 {
        all.push(("base64", base64_inside(value, offset, &STANDARD_NO_PAD)));
        all.push(("base64", base64_inside(value, offset, &URL_SAFE_NO_PAD)));
    }
    let mut seen = BTreeSet::new();
    all.retain(|(_, bytes)| seen.insert(bytes.clone()));
    all.into_iter().map(|(form, bytes)| Needle { name: name.to_owned(), form, bytes }).collect()
}

/// As a JSON string without its quotes.
fn json_inside(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Percent-encoded (RFC 3986), or as a form does it: a space is a plus sign.
fn percent(value: &[u8], upper: bool, form: bool) -> String {
    let mut out = String::new();
    for &byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' if form => out.push('+'),
            _ if upper => write!(out, "%{byte:02X}").expect("writing to a string cannot fail"),
            _ => write!(out, "%{byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    out
}

/// The letters that `value` becomes inside of a longer base64 text, where it begins `offset` (mod 3) bytes after a group's start:
/// letters that also depend on its neighbours are cut off.
fn base64_inside(value: &[u8], offset: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut text = engine.encode([vec![0; offset].as_slice(), value].concat()).into_bytes();
    if !(offset + value.len()).is_multiple_of(3) {
        text.pop();
    }
    text.split_off([0, 2, 3].get(offset).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    use base64::Engine as _;

    const SECRET: &str = "p\"ä/ s\\cr+et?<>-\n0123456789";

    fn found(text: &str) -> Option<&'static str> {
        let all = needles("x", SECRET.as_bytes());
        all.iter().find(|n| text.as_bytes().windows(n.bytes.len()).any(|w| w == n.bytes)).map(|n| n.form)
    }

    #[test]
    fn each_form_is_found_inside_of_other_text() {
        let json = serde_json::json!({"secret": SECRET}).to_string();
        let bytes = SECRET.as_bytes();
        let cases = [
            ("plain", format!("key={SECRET};")),
            ("json", json.clone()),
            ("json in json", serde_json::json!({"body": json}).to_string()),
            ("hex", format!("0x{}", hex(bytes))),
            ("hex", hex(bytes).to_uppercase()),
            ("url", "a=p%22%C3%A4%2F%20s%5Ccr%2Bet%3F%3C%3E-%0A0123456789&b".to_owned()),
            ("url", "a=p%22%c3%a4%2f+s%5ccr%2bet%3f%3c%3e-%0a0123456789&b".to_owned()),
            ("bytes", format!("Secret({bytes:?})")),
            ("bytes", serde_json::to_string(bytes).unwrap()),
        ];
        for (form, text) in cases {
            assert_eq!(found(&text), Some(form), "{text}");
        }
    }

    #[test]
    fn base64_is_found_at_each_offset_and_with_any_neighbour() {
        for before in ["", "u", "us", "user:", "\u{ff}\u{ff}"] {
            for after in ["", "\n", "\u{ff}", "zz"] {
                let text = format!("{before}{SECRET}{after}");
                for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert_eq!(found(&encoded), Some("base64"), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn other_text_is_not_found() {
        assert_eq!(found("p\"ä/ s\\cr+et?<>- 0123456789"), None);
        assert_eq!(found(""), None);
    }
}

//! Writing asciicast, version 2: a header line, then `[seconds, "o" | "i" | "r" | "m", text]`, a line each.
//!
//! The format holds text. Bytes that are none become U+FFFD; a character that comes in two pieces stays whole.

use std::time::Duration;

use domain::Timestamp;
use serde_json::json;

/// What a player has to know before the first event.
#[derive(Debug, Clone)]
pub struct Header {
    /// When it began.
    pub at: Timestamp,
    /// What it is called.
    pub title: String,
}

/// The size of a terminal until it says another one.
const SIZE: (u16, u16) = (80, 24);
/// No terminal is larger: a player must not be made to hold what somebody likes.
const SIZE_MAX: u16 = 1_000;

impl Header {
    pub(super) fn line(&self) -> String {
        let (width, height) = SIZE;
        let timestamp = self.at.as_seconds();
        format!(
            "{}\n",
            json!({"version": 2, "width": width, "height": height, "timestamp": timestamp, "title": self.title})
        )
    }
}

/// An event's line.
fn line(at: Duration, kind: char, text: &str) -> String {
    let seconds = format!("{}.{:06}", at.as_secs(), at.subsec_micros());
    format!("[{seconds}, \"{kind}\", {}]\n", serde_json::Value::from(text))
}

/// What went by at a moment; empty where nothing that is whole came.
pub(super) fn text(at: Duration, kind: char, text: &str) -> String {
    if text.is_empty() { String::new() } else { line(at, kind, text) }
}

/// A new size of the terminal; empty where it says none: no columns or rows mean that it is not known (RFC 4254, 6.2), as of a terminal that no
/// window shows.
pub(super) fn resize(at: Duration, columns: u16, rows: u16) -> String {
    if columns == 0 || rows == 0 {
        return String::new();
    }
    line(at, 'r', &format!("{}x{}", columns.min(SIZE_MAX), rows.min(SIZE_MAX)))
}

/// Something that is said about the recording.
pub(super) fn mark(at: Duration, what: &str) -> String {
    line(at, 'm', what)
}

/// Makes text of bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character whose end has not come.
    rest: Vec<u8>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let (mut text, mut left) = (String::with_capacity(all.len()), all.as_slice());
        loop {
            let (good, bad) = match std::str::from_utf8(left) {
                Ok(good) => {
                    text.push_str(good);
                    return text;
                }
                Err(error) => {
                    let (good, bad) = left.split_at(error.valid_up_to());
                    (good, error.error_len().map_or(Err(bad), |length| Ok(bad.get(length..).unwrap_or_default())))
                }
            };
            text.push_str(std::str::from_utf8(good).unwrap_or_default());
            match bad {
                Ok(after) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    left = after;
                }
                Err(begun) => {
                    self.rest = begun.to_vec();
                    return text;
                }
            }
        }
    }

    /// What has begun comes to no end.
    pub(super) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.rest).is_empty() { "" } else { "\u{fffd}" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let at = Duration::from_micros(1_234_567);
        assert_eq!(text(at, 'o', "a\r\n\u{1b}[1m\"\u{2028}"), "[1.234567, \"o\", \"a\\r\\n\\u001b[1m\\\"\u{2028}\"]\n");
        assert_eq!(resize(Duration::ZERO, 1, 60_000), "[0.000000, \"r\", \"1x1000\"]\n");
        for (columns, rows) in [(0, 0), (0, 24), (80, 0)] {
            assert_eq!(resize(Duration::ZERO, columns, rows), "");
        }
        assert_eq!(text(at, 'o', ""), "");
        let header = Header { at: Timestamp::from_millis(1_700_000_000_999), title: "a\nb".to_owned() }.line();
        assert_eq!(header.matches('\n').count(), 1);
        let header: serde_json::Value = serde_json::from_str(&header).unwrap();
        assert_eq!((&header["version"], &header["timestamp"]), (&json!(2), &json!(1_700_000_000)));
    }

    proptest! {
        #[test]
        fn text_in_any_pieces_is_the_same_text(bytes: Vec<u8>, cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let (mut decoder, mut pieces, mut left) = (Decoder::default(), String::new(), bytes.as_slice());
            for cut in cuts {
                let (piece, rest) = left.split_at(cut.min(left.len()));
                pieces.push_str(&decoder.push(piece));
                left = rest;
            }
            pieces.push_str(&decoder.push(left));
            pieces.push_str(decoder.finish());
            prop_assert_eq!(pieces, String::from_utf8_lossy(&bytes));
        }
    }
}

//! What of a port's greeting is the same tomorrow.

/// Longest greeting, in characters.
const CHARS: usize = 200;
const DAYS_AND_MONTHS: &[&str] = &[
    "mon", "tue", "wed", "thu", "fri", "sat", "sun", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep",
    "oct", "nov", "dec",
];

/// A word that looks like a time, a date, a counter or a nonce.
fn is_volatile(word: &str) -> bool {
    let plain = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = plain.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits > 0 && digits == plain.len();
    word.contains('<')
        || word.contains('>')
        || (word.contains(':') && digits >= 3)
        || (is_number && (digits >= 4 || plain.len() <= 2))
        || (digits >= 3 && plain.len() >= 12 && !plain.contains('.'))
        || ((word.starts_with('+') || word.starts_with('-')) && digits == 4)
        || DAYS_AND_MONTHS.contains(&plain.to_ascii_lowercase().as_str())
}

/// The first line, printable, with what changes from one greeting to the next as `*`; none when the port says nothing in text.
pub(super) fn steady(said: &[u8]) -> Option<String> {
    let line = said.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty())?;
    // A protocol in binary: its bytes are nonces and counters.
    if line.iter().filter(|byte| !byte.is_ascii_graphic() && **byte != b' ').count() * 8 > line.len() {
        return None;
    }
    let text: String = line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' }).collect();
    let mut words: Vec<&str> = Vec::new();
    for (at, word) in text.split_whitespace().enumerate() {
        // The first word of FTP's and SMTP's is a code, and SSH's line names versions only (RFC 4253, section 4.2).
        if at > 0 && !text.starts_with("SSH-") && is_volatile(word) {
            if words.last() != Some(&"*") {
                words.push("*");
            }
        } else {
            words.push(word);
        }
    }
    let text: String = words.join(" ").chars().take(CHARS).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changes_from_one_greeting_to_the_next_is_left_out() {
        for (said, expect) in [
            ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", Some("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3")),
            (
                "220 mx1.example.com ESMTP Postfix; Sat, 28 Nov 2026 03:10:11 +0000\r\n",
                Some("220 mx1.example.com ESMTP Postfix; *"),
            ),
            ("+OK POP3 ready <1896.697170952@mx1>\r\n", Some("+OK POP3 ready *")),
            ("\u{1}\u{2}\u{3}\u{4}5.7", None),
            ("", None),
        ] {
            assert_eq!(steady(said.as_bytes()).as_deref(), expect, "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_always_printable(said in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(steady(&said).is_none_or(|text| text.len() <= CHARS && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')));
        }
    }
}

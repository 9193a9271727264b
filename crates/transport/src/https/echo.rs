//! Whether a reply repeats a secret, also in the forms in which services write what they were sent: escaped for JSON, URLs or HTML, in base64
//! or in hexadecimal.
//!
//! **Not for** a service that wants to hide it: whoever has the secret can write it in a way that nobody knows.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem;
use zeroize::Zeroizing;

/// Undoes one way of writing; none where nothing was written so.
type Form = fn(&[u8]) -> Option<Vec<u8>>;

/// Shortest text that is looked for in replies: shorter ones are in everything.
const NEEDLE_MIN: usize = 6;

/// What a secret looks like in a reply.
pub(super) struct Echo {
    /// As it is, and as forms write its blanks.
    plain: Vec<Zeroizing<Vec<u8>>>,
    /// In base64, whatever stands before and behind it, so that it is found in `user:password` and in a token that holds it.
    base64: Vec<Zeroizing<String>>,
    hex: Option<Zeroizing<String>>,
}

impl Echo {
    /// What is too short to look for is found nowhere.
    pub(super) fn new(secret: &[u8]) -> Self {
        if secret.len() < NEEDLE_MIN {
            return Self { plain: Vec::new(), base64: Vec::new(), hex: None };
        }
        let in_forms = secret.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect();
        let mut hex = Zeroizing::new(String::with_capacity(2 * secret.len()));
        for byte in secret {
            let _ = write!(hex, "{byte:02x}");
        }
        Self {
            plain: vec![Zeroizing::new(secret.to_owned()), Zeroizing::new(in_forms)],
            base64: in_base64(secret),
            hex: Some(hex),
        }
    }

    /// Also this text, which is in base64 already.
    pub(super) fn or_base64(mut self, text: &str) -> Self {
        self.base64.push(Zeroizing::new(text.trim_end_matches('=').to_owned()));
        self
    }

    /// Whether these bytes hold the secret in any of the forms.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let forms: [Form; 3] = [without_escapes, without_percents, without_entities];
        // A JSON text may hold a URL or HTML, and what looks like an escape of one kind may be none: any of them are undone, one after another.
        let mut views = vec![Cow::Borrowed(bytes)];
        for undo in forms {
            let undone: Vec<_> = views.iter().filter_map(|view| undo(view)).map(Cow::Owned).collect();
            views.extend(undone);
        }
        views.iter().any(|view| self.is_as_written_in(view))
    }

    fn is_as_written_in(&self, bytes: &[u8]) -> bool {
        let url_alphabet: Vec<u8> = bytes
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect();
        self.plain.iter().any(|needle| memmem::find(bytes, needle).is_some())
            || self.base64.iter().any(|needle| memmem::find(&url_alphabet, needle.as_bytes()).is_some())
            || self.hex.as_ref().is_some_and(|hex| memmem::find(&bytes.to_ascii_lowercase(), hex.as_bytes()).is_some())
    }
}

/// The part of a text in base64 that a secret alone decides, for each of the three places in which it can begin.
fn in_base64(secret: &[u8]) -> Vec<Zeroizing<String>> {
    let place = |before: usize| {
        let text =
            Zeroizing::new(STANDARD_NO_PAD.encode(vec![0; before].iter().chain(secret).copied().collect::<Vec<u8>>()));
        let (first, last) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        Zeroizing::new(text.get(first..last).unwrap_or_default().to_owned())
    };
    (0..3).map(place).filter(|needle| needle.len() >= NEEDLE_MIN).collect()
}

/// Text without JSON's escapes, and JavaScript's `\xHH`. Nothing where there are none.
fn without_escapes(bytes: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', bytes)?;
    let (mut out, mut rest, mut high) = (Vec::with_capacity(bytes.len()), bytes, None::<u32>);
    while let [first, after @ ..] = rest {
        let (b'\\', [kind, behind @ ..]) = (first, after) else {
            out.push(*first);
            rest = after;
            continue;
        };
        rest = behind;
        let digits = match kind {
            b'u' => 4,
            b'x' => 2,
            b'n' => {
                out.push(b'\n');
                continue;
            }
            b'r' => {
                out.push(b'\r');
                continue;
            }
            b't' => {
                out.push(b'\t');
                continue;
            }
            b'b' => {
                out.push(8);
                continue;
            }
            b'f' => {
                out.push(12);
                continue;
            }
            other => {
                out.push(*other);
                continue;
            }
        };
        let Some((code, behind)) = number(rest, digits, 16) else {
            out.push(*kind);
            continue;
        };
        rest = behind;
        match (high.take(), code) {
            (_, 0xd800..=0xdbff) => high = Some(code),
            (Some(high), 0xdc00..=0xdfff) => push(&mut out, 0x1_0000 + ((high - 0xd800) << 10 | (code - 0xdc00))),
            _ => push(&mut out, code),
        }
    }
    Some(out)
}

/// Text without `%HH`. Nothing where there are none.
fn without_percents(bytes: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', bytes)?;
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        let found = if *first == b'%' { number(after, 2, 16) } else { None };
        let (byte, behind) = match found {
            Some((code, behind)) => (u8::try_from(code).unwrap_or_default(), behind),
            None => (*first, after),
        };
        out.push(byte);
        rest = behind;
    }
    Some(out)
}

/// Text without the entities of HTML and XML that stand for what they escape. Nothing where there are none.
fn without_entities(bytes: &[u8]) -> Option<Vec<u8>> {
    const NAMED: [(&[u8], u8); 5] =
        [(b"amp;", b'&'), (b"lt;", b'<'), (b"gt;", b'>'), (b"quot;", b'"'), (b"apos;", b'\'')];
    memchr::memchr(b'&', bytes)?;
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'&' {
            out.push(*first);
            continue;
        }
        if let Some((name, byte)) = NAMED.iter().find(|(name, _)| after.starts_with(name)) {
            out.push(*byte);
            rest = after.get(name.len()..).unwrap_or_default();
            continue;
        }
        let numbered = match after {
            [b'#', b'x' | b'X', digits @ ..] => Some((digits, 16)),
            [b'#', digits @ ..] => Some((digits, 10)),
            _ => None,
        };
        let end = |digits: &[u8]| digits.iter().take(8).position(|byte| *byte == b';');
        let code = numbered.and_then(|(digits, radix)| number(digits, end(digits)?, radix));
        match code {
            Some((code, [_, behind @ ..])) => {
                push(&mut out, code);
                rest = behind;
            }
            _ => out.push(b'&'),
        }
    }
    Some(out)
}

/// So many digits as a number, and what follows.
fn number(bytes: &[u8], digits: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, behind) = bytes.split_at_checked(digits)?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((u32::from_str_radix(text, radix).ok()?, behind))
}

fn push(out: &mut Vec<u8>, code: u32) {
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "Pl4nted/\"key\"+é&<~\\%41";

    fn joined<T>(parts: impl Iterator<Item = T>, form: impl Fn(T) -> String) -> String {
        parts.map(form).collect()
    }

    fn hex() -> String {
        joined(SECRET.bytes(), |byte| format!("{byte:02x}"))
    }

    fn percent(text: &str, hex: impl Fn(u8) -> String) -> String {
        let one = |byte: u8| {
            if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{}", hex(byte)) }
        };
        text.bytes().map(one).collect()
    }

    #[test]
    fn attack_59_a_secret_is_found_in_every_form_in_which_services_write_what_they_were_sent() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
        let json = serde_json::to_string(SECRET).unwrap();
        let escaped = joined(SECRET.encode_utf16(), |unit| format!("\\u{unit:04X}"));
        let entities = joined(SECRET.chars(), |c| format!("&#x{:x};", u32::from(c)));
        let decimal = joined(SECRET.chars(), |c| format!("&#{};", u32::from(c)));
        for (form, text) in [
            ("as it is", SECRET.to_owned()),
            ("json", json.clone()),
            ("json with slashes escaped", json.replace('/', "\\/")),
            ("json in ascii", json.replace('é', "\\u00e9").replace('&', "\\u0026").replace('<', "\\u003C")),
            ("json with everything escaped", escaped.clone()),
            ("javascript", SECRET.replace('\\', "\\\\").replace('/', "\\x2f").replace('"', "\\\"")),
            ("percent", percent(SECRET, |byte| format!("{byte:02X}"))),
            ("percent in lower case", percent(SECRET, |byte| format!("{byte:02x}"))),
            ("percent, every byte", joined(SECRET.bytes(), |byte| format!("%{byte:02X}"))),
            ("percent in json in ascii", percent(SECRET, |byte| format!("{byte:02X}")).replace('%', "\\u0025")),
            ("html", SECRET.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")),
            ("html by number", entities),
            ("html by decimal number", decimal),
            ("html in json", json.replace('&', "&amp;").replace('<', "&lt;")),
            ("hex", hex()),
            ("hex in upper case", hex().to_uppercase()),
            ("base64", STANDARD.encode(SECRET)),
            ("base64 with slashes escaped", STANDARD.encode(SECRET).replace('/', "\\/")),
            (
                "base64 with percents",
                STANDARD.encode(SECRET).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
            ),
            ("base64url", URL_SAFE.encode(SECRET)),
            ("base64url without padding", URL_SAFE_NO_PAD.encode(SECRET)),
            ("base64 of a pair", STANDARD.encode(format!("user:{SECRET}"))),
            ("base64 of json", URL_SAFE.encode(format!("{{\"k\":\"{SECRET}\"}}"))),
        ] {
            let reply = format!("{{\"you sent\": \"{text}\"}} \\ 100% & more");
            assert!(Echo::new(SECRET.as_bytes()).is_in(reply.as_bytes()), "{form}: {reply}");
            assert!(!Echo::new(b"another-secret-41").is_in(reply.as_bytes()), "{form}");
        }
        assert!(Echo::new(b"in two words+1").is_in(b"?q=in+two+words%2B1"), "a form's blanks");
        assert!(!Echo::new(b"abcde").is_in(b"abcde"), "too short to mean anything");
        assert!(Echo::new(b"abc").or_base64("dXNlcjphYmM=").is_in(b"authorization: Basic dXNlcjphYmM="));
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_stands_in_base64(
            secret in proptest::collection::vec(any::<u8>(), 6..40),
            before in proptest::collection::vec(any::<u8>(), 0..9),
            behind in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let text = base64::engine::general_purpose::URL_SAFE.encode([&*before, &*secret, &*behind].concat());
            prop_assert!(Echo::new(&secret).is_in(text.as_bytes()));
        }

        #[test]
        fn whatever_a_reply_holds_is_read_to_its_end(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'%'), Just(b'&'), Just(b'#'), Just(b'u'), Just(b'd'), Just(b'8'), Just(b';'), any::<u8>()], 0..200,
        )) {
            prop_assert!(!Echo::new(&[b'z'; 250]).is_in(&bytes));
        }
    }
}

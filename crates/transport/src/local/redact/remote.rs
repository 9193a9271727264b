//! The same of a host where nobody can tell which file a link led to when it was read: a hash of a password goes wherever it stands.

use super::{SHADOW, in_etc, name, shadow};
use crate::call::CallError;

/// The bytes of the file at `path` without secrets; an error where nothing would be left.
pub(crate) fn file(path: &str, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
    let body = super::file(path, body)?;
    // Its lines have their states in place of hashes by now, which are no hashes.
    if in_etc(path) && SHADOW.contains(&name(path)) {
        return Ok(body);
    }
    if body.contains(&b'$') || body.split(|byte| *byte == b'\n').any(is_shadow_line) {
        return Ok(hashes(&body));
    }
    Ok(body)
}

/// Whether a line is one of shadow(5): nine fields, those of ages numbers or empty.
fn is_shadow_line(line: &[u8]) -> bool {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    fields.len() == 9
        && fields.iter().skip(2).take(6).all(|field| field.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-'))
}

/// Without crypt(5) hashes, whatever is around them.
fn hashes(body: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if is_shadow_line(line.strip_suffix(b"\n").unwrap_or(line)) {
            out.extend(shadow(line));
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            let (before, from) = rest.split_at(at);
            out.extend_from_slice(before);
            let of_hash = |byte: &u8| byte.is_ascii_alphanumeric() || b"./$=,+-".contains(byte);
            let length = from.iter().position(|byte| !of_hash(byte)).unwrap_or(from.len());
            let (word, after) = from.split_at(length);
            if is_hash(word) {
                out.extend_from_slice(b"<redacted>");
            } else {
                out.extend_from_slice(word);
            }
            rest = after;
        }
        out.extend_from_slice(rest);
    }
    out
}

/// Whether a word that begins with `$` is `$algorithm$…$hash`.
fn is_hash(word: &[u8]) -> bool {
    let parts: Vec<&[u8]> = word.split(|byte| *byte == b'$').collect();
    let known = parts.get(1).and_then(|name| std::str::from_utf8(name).ok()).is_some_and(|name| {
        ["y", "gy", "7", "6", "5", "sha1", "1", "2", "2a", "2b", "2x", "2y", "3", "argon2i", "argon2id"].contains(&name)
    });
    known
        && parts.len() >= 4 - usize::from(word.starts_with(b"$2"))
        && parts.last().is_some_and(|hash| hash.len() >= 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_link_led_to_far_away_loses_its_hashes_under_any_name() {
        let shown = |body: &str| String::from_utf8(file("/home/u/.ssh/authorized_keys", body.into()).unwrap()).unwrap();
        assert_eq!(
            shown("root:$y$j9T$abcdefgh$0123456789abcdefghijk:19782:0:99999:7:::\nd:AbCdEfGhIjKlM:1:0:9:7:::\n"),
            "root:set yescrypt:19782:0:99999:7:::\nd:set des:1:0:9:7:::\n"
        );
        assert_eq!(
            shown(
                "u:0:1:$6$salt$0123456789012345678901234567890123456789abc,$2b$12$0123456789012345678901.123456789\n"
            ),
            "u:0:1:<redacted>\n"
        );
        for plain in ["echo $1$2 ${HOME}\n", "a:b:c\n", "price $5$ and $6$short$x\n"] {
            assert_eq!(shown(plain), plain);
        }
    }

    proptest! {
        #[test]
        fn no_hash_survives_under_any_name(salt in "[a-z]{8}", hash in "[A-Za-z0-9./]{22,60}", before in "[a-z: ]{0,9}") {
            let line = format!("{before}$6${salt}${hash} after\n");
            let got = file("/x", line.into_bytes()).unwrap();
            prop_assert!(!String::from_utf8(got).unwrap().contains(&hash));
        }
    }
}

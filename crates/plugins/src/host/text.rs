//! The small grammars that Linux configuration files share. Pure; every function accepts any text.

use std::collections::BTreeMap;

/// Text from bytes; what is not UTF-8 becomes U+FFFD.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// At most `max` bytes of `text`, without control characters.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

/// Lines that say something, trimmed, with their numbers from 1: no blanks, no `#` comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .map(|(n, line)| (n, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// `KEY=value` lines as shells and systemd read them: quotes around the whole value go, the last assignment wins.
pub(super) fn assignments(text: &str) -> BTreeMap<String, String> {
    lines(text)
        .filter_map(|(_, line)| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), unquote(value.trim()).to_owned()))
        .collect()
}

/// `key value` lines (login.defs, chrony.conf): the last wins.
pub(super) fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    lines(text)
        .map(|(_, line)| line.split_once(char::is_whitespace).map_or((line, ""), |(key, value)| (key, value.trim())))
}

/// Without one pair of quotes around it.
pub(super) fn unquote(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

/// Sections of an INI file: (section, key, value) in order. `\` at a line's end continues it.
pub(super) fn ini(text: &str) -> Vec<(String, String, String)> {
    let (mut section, mut out) = (String::new(), Vec::new());
    for (_, line) in joined(text) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            out.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    out
}

/// Lines with their first numbers, those that end in `\` joined with the next.
pub(super) fn joined(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (part, continues) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match out.last_mut() {
            Some((_, last)) if open => {
                last.push(' ');
                last.push_str(part.trim_start());
            }
            _ => out.push((number, part.to_owned())),
        }
        open = continues;
    }
    out
}

/// The fourth part and the first of `name:x:ID:…` lines, the first name of an id wins.
pub(super) fn ids(text: &str) -> BTreeMap<u32, String> {
    let mut out = BTreeMap::new();
    for (_, line) in lines(text) {
        let mut parts = line.split(':');
        if let (Some(name), Some(id)) = (parts.next(), parts.nth(1).and_then(|id| id.parse().ok())) {
            out.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    out
}

/// Whether a shell pattern (`*`, `?`, `[a-z]`, `[!a]`) matches the whole name. Linear in memory, at most quadratic in time.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        let step = match (pattern.get(p), name.get(n)) {
            (Some('*'), _) => {
                retry = Some((p, n));
                p += 1;
                continue;
            }
            (Some('['), Some(c)) => class(&pattern, p, *c),
            (Some('?'), Some(_)) => Some(p + 1),
            (Some(want), Some(c)) if want == c => Some(p + 1),
            _ => None,
        };
        match (step, retry) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((star, from))) => {
                retry = Some((star, from + 1));
                (p, n) = (star + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Where the pattern goes on after the class that begins at `start`, if the class holds `c`; an unclosed class is a plain `[`.
fn class(pattern: &[char], start: usize, c: char) -> Option<usize> {
    let negated = matches!(pattern.get(start + 1), Some('!' | '^'));
    let first = start + 1 + usize::from(negated);
    let Some(end) = (first + 1..pattern.len()).find(|i| pattern.get(*i) == Some(&']')) else {
        return (c == '[').then_some(start + 1);
    };
    let set = pattern.get(first..end).unwrap_or_default();
    let mut held = set.contains(&c);
    for range in set.windows(3) {
        if let [low, '-', high] = range {
            held |= (*low..=*high).contains(&c);
        }
    }
    (held != negated).then_some(end + 1)
}

/// `dir/name`, or `name` where it is absolute.
pub(super) fn join(dir: &str, name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{}/{name}", dir.trim_end_matches('/')) }
}

/// What is before the last `/`.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(dir, _)| if dir.is_empty() { "/" } else { dir })
}

/// What is after the last `/`.
pub(super) fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Permission bits as four octal digits.
pub(super) fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

/// `YYYY-MM-DD` of a day since 1970 (proleptic Gregorian calendar).
pub(super) fn date(day: i64) -> Option<String> {
    if !(-719_468..=2_932_896).contains(&day) {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(format!("{year:04}-{month:02}-{day_of_month:02}"))
}

/// A number where it is one, else the text.
pub(super) fn scalar(text: &str) -> serde_json::Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Into::into)
}

/// A key in lower snake case: what is not a letter or digit becomes `_`.
pub(super) fn snake(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// `CamelCase` in lower snake case.
pub(super) fn snake_from_camel(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A word such as `db.password=hunter2` with the value cut when its key names a secret, and `user:password@` cut from URLs.
pub(super) fn without_secret(word: &str) -> String {
    const NAMES: [&str; 8] = ["pass", "secret", "token", "apikey", "api_key", "credential", "privkey", "auth"];
    if let Some((key, _)) = word.split_once('=')
        && NAMES.iter().any(|name| key.to_ascii_lowercase().contains(name))
    {
        return format!("{key}=<redacted>");
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority_end = rest.find('/').unwrap_or(rest.len());
        if let Some(at) = rest.get(..authority_end).and_then(|authority| authority.rfind('@')) {
            return format!("{scheme}://<redacted>{}", rest.get(at..).unwrap_or_default());
        }
    }
    word.to_owned()
}

/// FNV-1a, for short stable ids of long texts; not for security.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expect) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "ab", false),
            ("?[0-9]", "x7", true),
            ("[!a]b", "ab", false),
            ("[x", "[x", true),
            ("", "", true),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn days_become_dates() {
        for (day, expect) in [(0, "1970-01-01"), (19_782, "2024-02-29"), (20_088, "2024-12-31"), (-1, "1969-12-31")] {
            assert_eq!(date(day).as_deref(), Some(expect));
        }
        assert_eq!(date(i64::MAX), None);
    }

    #[test]
    fn secrets_are_cut_from_words() {
        for (word, expect) in [
            ("root=/dev/vda", "root=/dev/vda"),
            ("rd.luks.PASSphrase=x", "rd.luks.PASSphrase=<redacted>"),
            ("https://u:p@h/x", "https://<redacted>@h/x"),
            ("https://h/x@y", "https://h/x@y"),
        ] {
            assert_eq!(without_secret(word), expect);
        }
    }

    #[test]
    fn ini_sections_and_continued_lines_are_read() {
        let got = ini("[Unit]\nDescription=a \\\n  b\n# c\n[Service]\nUser = x\n");
        assert_eq!(got[0], ("Unit".into(), "Description".into(), "a  b".into()));
        assert_eq!(got[1], ("Service".into(), "User".into(), "x".into()));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_grammar_panic(text in "(?s).{0,200}", other in "[*?\\[\\]!a-c-]{0,24}", day: i64) {
            let _ = (assignments(&text), ini(&text), joined(&text), ids(&text), words(&text).count(), date(day));
            let _ = (matches(&text, &other), matches(&other, &text), without_secret(&text), snake_from_camel(&text));
            prop_assert!(printable(&text, 7).len() <= 7);
        }
    }
}

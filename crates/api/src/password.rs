//! Which new passwords are accepted: by length and by what attackers try first, not by classes of characters (NIST SP 800-63B, section 5.1.1.2).
//!
//! `data/common-passwords.bin` holds the first four bytes of SHA-256 of each of some 49,000 breached passwords, sorted: an entry can be looked up,
//! not read, and another text is taken for one of them about once in 90,000 times. `data/common-passwords.md` says where it comes from.

use domain::{Error, Limits};
use unicode_normalization::UnicodeNormalization as _;

static COMMON: &[u8] = include_bytes!("../data/common-passwords.bin");
/// What decorates a common password at most: a year, a date, `!!!`.
const DECORATION_CHARS: usize = 8;
/// What has to be left of a password without its owner's name, address and the product's name.
const OWN_CHARS_LEFT: usize = 8;
/// A shorter piece that is repeated is no password.
const REPEATED_CHARS_MIN: usize = 6;

/// Refuses a password that its owner may not choose. `own`: their address and name.
pub(crate) fn check_new(password: &str, own: &[&str]) -> Result<(), Error> {
    if password.chars().count() < Limits::PASSWORD_CHARS_MIN
        || password.len() > Limits::PASSWORD_BYTES_MAX
        || password.contains('\0')
    {
        return Err(Error::invalid("new", "use 12 characters or more (at most 1,024 bytes)"));
    }
    let folded = fold(password);
    if is_pattern(&folded) {
        return Err(Error::invalid("new", "use something that is not one piece repeated or a row of neighbours"));
    }
    if is_common(&folded) {
        return Err(Error::invalid(
            "new",
            "use another one: this is on lists of breached passwords, or is one of those with a few characters added",
        ));
    }
    if is_own(&folded, own) {
        return Err(Error::invalid("new", "use something that is not made of your name, your address or `cairn`"));
    }
    Ok(())
}

/// One form for what people write in several: compatibility forms, case.
fn fold(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).collect()
}

/// Whether a folded text is on the list.
fn is_listed(text: &str) -> bool {
    let digest = crypto::sha256(text.as_bytes()).0;
    let (entries, _) = COMMON.as_chunks::<4>();
    digest.first_chunk::<4>().is_some_and(|begin| entries.binary_search(begin).is_ok())
}

/// Letters for the digits and signs that stand for them; `one` is what `1` and `!` stand for.
fn plain_letters(text: &str, one: char) -> String {
    let plain = |c| match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        other => other,
    };
    text.chars().map(plain).collect()
}

/// Whether it is on the list, as it is, without a little at its ends, or with letters instead of what stands for them.
fn is_common(folded: &str) -> bool {
    let candidate = |text: &str| {
        let core = text.trim_matches(|c: char| !c.is_alphabetic());
        let decoration = text.chars().count() - core.chars().count();
        is_listed(text) || (decoration <= DECORATION_CHARS && core.chars().count() >= 4 && is_listed(core))
    };
    let stripped = folded.trim_matches(|c: char| !c.is_alphabetic());
    let decoration = folded.chars().count() - stripped.chars().count();
    candidate(folded)
        || ['i', 'l'].iter().any(|one| {
            candidate(&plain_letters(folded, *one))
                || (decoration <= DECORATION_CHARS && is_listed(&plain_letters(stripped, *one)))
        })
}

/// Whether it is one short or common piece over and over, or a row such as `abcdefghijkl` or `210987654321`.
fn is_pattern(folded: &str) -> bool {
    let chars: Vec<char> = folded.chars().collect();
    let repeats = |period: &usize| chars.iter().zip(chars.iter().skip(*period)).all(|(a, b)| a == b);
    let period = (1..=chars.len() / 2).find(repeats);
    let piece: Option<String> = period.map(|period| chars.iter().take(period).collect());
    let is_repeated = piece.is_some_and(|piece| piece.chars().count() < REPEATED_CHARS_MIN || is_common(&piece));
    let steps = |step: i64| {
        chars.windows(2).all(|pair| match pair {
            [a, b] => {
                let distance = i64::from(u32::from(*b)) - i64::from(u32::from(*a));
                // `9` goes on with `0`.
                distance == step || (a.is_ascii_digit() && b.is_ascii_digit() && distance == -9 * step)
            }
            _ => true,
        })
    };
    is_repeated || steps(1) || steps(-1)
}

/// Whether little is left without the words of the owner's address and name and the product's.
fn is_own(folded: &str, own: &[&str]) -> bool {
    let mut words: Vec<String> = vec!["cairn".to_owned()];
    for text in own {
        let text = fold(text);
        words.extend(
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() >= 3).map(str::to_owned),
        );
        words.push(text);
    }
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut left = folded.to_owned();
    for word in words.iter().filter(|word| !word.is_empty()) {
        left = left.replace(word.as_str(), "");
    }
    left.len() < folded.len() && left.chars().filter(|c| c.is_alphanumeric()).count() < OWN_CHARS_LEFT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: [&str; 2] = ["margarete.holzapfel@example.org", "Margarete Holzapfel"];

    fn refusal(password: &str) -> Option<String> {
        check_new(password, &OWN).err().map(|error| error.to_string())
    }

    #[test]
    fn the_list_is_sorted_and_of_the_size_that_its_source_has() {
        let (entries, rest) = COMMON.as_chunks::<4>();
        assert!(rest.is_empty() && entries.len() > 49_000, "{}", entries.len());
        assert!(entries.windows(2).all(|pair| pair[0] < pair[1]));
        for word in ["password", "123456", "qwerty", "iloveyou", "1q2w3e4r5t6y"] {
            assert!(is_listed(word), "{word}");
        }
        let strangers = (0..10_000).filter(|n| is_listed(&format!("no one ever chose {n}"))).count();
        assert!(strangers <= 3, "{strangers} of 10,000 other texts were taken for listed ones");
    }

    #[test]
    fn length_counts_and_classes_of_characters_do_not() {
        for good in [
            "correct horse battery staple",
            "kurz aber zw\u{f6}lf",
            "zzzzqjxkvbpw",
            "8320 9174 2265 7",
            "\u{1f980}\u{1f98a}\u{1f43b}\u{1f428}\u{1f42f}\u{1f981}\u{1f42e}\u{1f437}\u{1f438}\u{1f435}\u{1f414}\u{1f427}",
            &"ab c".repeat(256).replace('c', "xyzq")[..1_024],
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for bad in ["", "elevenchars", &"x".repeat(1_025), "with a NUL \0 inside"] {
            assert!(refusal(bad).unwrap().contains("12 characters"), "{bad}");
        }
    }

    #[test]
    fn breached_passwords_are_refused_also_in_other_clothes() {
        for bad in [
            "1q2w3e4r5t6y",
            "Password1234",
            "PASSWORD2026!",
            "p@ssw0rd2026",
            "!!!password!!!",
            "123password123",
            "\u{ff30}assword1234",
            "iloveyou2026!!",
            "Qwertyuiop12",
        ] {
            assert!(refusal(bad).is_some_and(|message| message.contains("breached")), "{bad}");
        }
        for bad in
            ["passwordpassword", "abcabcabcabc", "aaaaaaaaaaaaa", "123456789012", "abcdefghijklm", "210987654321"]
        {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        // A common word in a phrase is no common password, and enough of one's own makes one's own.
        for good in ["password of a red door", "monkey-83-74-92-83", "dragon eats my cereal"] {
            assert_eq!(refusal(good), None, "{good}");
        }
    }

    #[test]
    fn a_password_made_of_its_owner_or_of_the_product_is_refused() {
        for bad in [
            "margarete.holzapfel@example.org",
            "MargareteHolzapfel1",
            "holzapfel2026!",
            "cairn-cairn-1",
            "Cairn!Margarete",
            "example.org2026",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        assert_eq!(refusal("margarete walks past a tall cairn"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_check_panic(text in "\\PC{0,40}", own in "\\PC{0,10}") {
            drop(check_new(&text, &[&own]));
        }
    }
}

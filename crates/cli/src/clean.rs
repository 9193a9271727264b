//! Text of others made safe to show: what a server or a target sent cannot move the cursor, change colours, reorder or hide text.

use std::borrow::Cow;

/// Whether a terminal would act on the character, or show nothing for it, rather than show it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// One line of harmless text. White space becomes a blank; anything else unsafe becomes `�`, and does not vanish: two names that differ
/// only there must not look the same.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_unsafe(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_and_bidirectional_tricks_lose_their_effect() {
        for (input, expect) in [
            ("web-1", "web-1"),
            ("Größe 日本 🦀", "Größe 日本 🦀"),
            ("a\u{1b}[31mred", "a\u{fffd}[31mred"),
            ("a\u{9b}31mred", "a\u{fffd}31mred"),
            ("a\r\nerror: no", "a  error: no"),
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("a\u{200b}b\u{2028}c\0", "a\u{fffd}b\u{fffd}c\u{fffd}"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
        ] {
            assert_eq!(clean(input), expect, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_and_nothing_vanishes(text in any::<String>()) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(is_unsafe));
            prop_assert_eq!(cleaned.chars().count(), text.chars().count());
        }
    }
}

//! A recorded session made safe to show in somebody else's terminal.
//!
//! What a program wrote was meant for another terminal, perhaps by somebody who knew that an auditor would look: sequences that set a title or the
//! clipboard, ask the terminal something (it would answer as if the auditor typed), redefine keys, or hide text. What is known to be harmless passes;
//! everything else is left out.

use std::mem;

use crate::clean::is_unsafe;

/// Puts a terminal back as it was: attributes, character set, scrolling, wrapping, the cursor, the screen.
pub(crate) const RESET: &str = "\u{1b}[0m\u{1b}(B\u{1b}[r\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l\r\n";

/// Longest sequence that moves the cursor or sets a colour.
const SEQUENCE_MAX: usize = 64;
/// Most parameters of one. Terminals keep sixteen or more, and differ in what they make of those after them.
const PARAMETERS_MAX: usize = 16;
/// Longest text of a sequence that holds one: whoever begins one and does not end it must not hide what follows.
const TEXT_MAX: usize = 4_096;
/// Private modes that change only what is seen: origin, wrapping, the cursor, the other screen.
const MODES: [&str; 7] = ["6", "7", "25", "47", "1047", "1048", "1049"];

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and a byte that says that another one follows.
    Charset(char),
    /// After ESC `[`.
    Sequence(String),
    /// In the text of a sequence; its length, and whether ESC came, which may end it.
    Hidden(usize, bool),
}

/// What passes between two terminals.
#[derive(Debug, Default)]
pub(crate) struct Screen(State);

impl Screen {
    /// What of this text is shown.
    pub(crate) fn pass(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.0 = Self::step(mem::take(&mut self.0), c, &mut out);
        }
        out
    }

    fn step(state: State, c: char, out: &mut String) -> State {
        match (state, c) {
            (State::Hidden(_, true), '\\') | (State::Hidden(..), '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}') => {
                State::Text
            }
            (State::Hidden(length, _), '\u{1b}') => State::Hidden(length + 1, true),
            // A line of its own would be hidden: what pretends to be a title is none.
            (State::Hidden(..), '\n') => Self::reveal(c, out),
            (State::Hidden(length, _), _) if length >= TEXT_MAX => Self::reveal(c, out),
            // ESC that ended nothing begins something else.
            (State::Hidden(_, true), _) => Self::step(State::Escape, c, out),
            (State::Hidden(length, false), _) => State::Hidden(length + 1, false),
            (_, '\u{1b}') => State::Escape,
            (State::Escape, '[') => State::Sequence(String::new()),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Hidden(0, false),
            (State::Escape, '(' | ')' | '*' | '+' | '-' | '.' | '/' | ' ' | '#' | '%') => State::Charset(c),
            (State::Escape, '7' | '8' | 'D' | 'E' | 'M') => {
                out.extend(['\u{1b}', c]);
                State::Text
            }
            (State::Charset('('), 'B' | '0') => {
                out.extend(['\u{1b}', '(', c]);
                State::Text
            }
            (State::Sequence(mut parameters), ' '..='?') if parameters.len() < SEQUENCE_MAX => {
                parameters.push(c);
                State::Sequence(parameters)
            }
            (State::Sequence(parameters), '@'..='~') => {
                if let Some(sequence) = harmless(&parameters, c) {
                    out.push_str(&sequence);
                }
                State::Text
            }
            (State::Escape | State::Charset(_) | State::Sequence(_), _) => State::Text,
            (State::Text, '\n' | '\r' | '\t' | '\u{8}') => {
                out.push(c);
                State::Text
            }
            (State::Text, _) => {
                if !is_unsafe(c) {
                    out.push(c);
                }
                State::Text
            }
        }
    }

    fn reveal(c: char, out: &mut String) -> State {
        out.push(char::REPLACEMENT_CHARACTER);
        Self::step(State::Text, c, out)
    }
}

/// The sequence, if it only moves the cursor, erases, scrolls or sets colours on the screen.
fn harmless(parameters: &str, last: char) -> Option<String> {
    if let Some(modes) = parameters.strip_prefix('?') {
        let known = modes.split(';').all(|mode| MODES.contains(&mode));
        return (matches!(last, 'h' | 'l') && known).then(|| format!("\u{1b}[{parameters}{last}"));
    }
    if !parameters.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
        || parameters.split(';').count() > PARAMETERS_MAX
    {
        return None;
    }
    match last {
        'm' => Some(colours(parameters)),
        '@' | 'A'..='H' | 'J'..='M' | 'P' | 'S' | 'T' | 'X' | '`' | 'a' | 'd'..='f' | 'r' => {
            Some(format!("\u{1b}[{parameters}{last}"))
        }
        _ => None,
    }
}

/// Attributes without the one that conceals, which is for hiding. Each has a sequence of its own: what one terminal takes for the rest of a colour is
/// an attribute for another.
fn colours(parameters: &str) -> String {
    // `08` is 8, and what is empty is 0.
    let number = |text: &str| {
        let digits = text.trim_start_matches('0');
        if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
    };
    let mut given = parameters.split(';').map(number);
    let mut out = String::new();
    while let Some(one) = given.next() {
        let whole = match one.as_str() {
            "38" | "48" => {
                let kind = given.next().unwrap_or_default();
                let count = match kind.as_str() {
                    "5" => 1,
                    "2" => 3,
                    _ => break,
                };
                let rest: Vec<String> = given.by_ref().take(count).collect();
                if rest.len() < count {
                    break;
                }
                [vec![one, kind], rest].concat().join(";")
            }
            "8" => continue,
            _ => one,
        };
        out.extend(["\u{1b}[", &whole, "m"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_harm_a_terminal_or_hide_something_is_left_out() {
        for (text, expect) in [
            ("plain é 日\r\n\tx\u{8}", "plain é 日\r\n\tx\u{8}"),
            ("\u{1b}[1;31mred\u{1b}[m\u{1b}[2J\u{1b}[10;5H", "\u{1b}[1m\u{1b}[31mred\u{1b}[0m\u{1b}[2J\u{1b}[10;5H"),
            ("\u{1b}[38;5;8mgrey\u{1b}[38;2;8;8;8mx", "\u{1b}[38;5;8mgrey\u{1b}[38;2;8;8;8mx"),
            ("\u{1b}[?1049h\u{1b}[?25l\u{1b}(0q\u{1b}(B", "\u{1b}[?1049h\u{1b}[?25l\u{1b}(0q\u{1b}(B"),
            // Title, clipboard, link; each with both ends.
            ("a\u{1b}]0;evil\u{7}b\u{1b}]52;c;cm0gLXJm\u{1b}\\c\u{1b}]8;;http://x\u{1b}\\d", "abcd"),
            // What a terminal answers as if it were typed.
            ("\u{1b}[c\u{1b}[>c\u{1b}[6n\u{1b}[?6n\u{1b}[21t\u{1b}[5i\u{1b}Zx", "x"),
            ("\u{1b}P$q q\u{1b}\\\u{1b}PTmux;x\u{1b}\\\u{1b}_Ga=T\u{1b}\\\u{1b}^x\u{1b}\\\u{1b}Xx\u{1b}\\y", "y"),
            // Keys, mouse, paste, printing, a reset, eight bits.
            (
                "\u{1b}[?1h\u{1b}[?1000h\u{1b}[?2004h\u{1b}[?25;1000h\u{1b}=\u{1b}>\u{1b}c\u{9b}31mx\u{7}\u{e}\u{f}",
                "31mx",
            ),
            ("\u{1b}[8mhidden\u{1b}[1;8mx", "hidden\u{1b}[1mx"),
            // However it is written, and wherever it stands.
            ("\u{1b}[08mhidden\u{1b}[000008m\u{1b}[;8mx", "hidden\u{1b}[0mx"),
            ("\u{1b}[38;5;8mx\u{1b}[038;05;008mx", "\u{1b}[38;5;8mx\u{1b}[38;5;8mx"),
            ("\u{1b}[38;2;1;8mx\u{1b}[38;5mx\u{1b}[38mx", "xxx"),
            ("\u{1b}[1;1;1;1;1;1;1;1;1;1;1;1;1;1;38;5;8mx", "x"),
            ("\u{1b}[1;1;1;1;1;1;1;1;1;1;1;1;1;38;5;8;8mx", "x"),
            ("\u{202e}txt.exe", "txt.exe"),
            // Who ends nothing hides nothing.
            ("\u{1b}]0;rm -rf /\nnext", "\u{fffd}\nnext"),
            ("\u{1b}]0;a\u{1b}[31mred", "\u{1b}[31mred"),
            ("\u{1b}[1\u{1b}[1mx", "\u{1b}[1mx"),
        ] {
            assert_eq!(Screen::default().pass(text), expect, "{text:?}");
        }
        let endless = format!("\u{1b}]{}shown", "x".repeat(TEXT_MAX));
        assert!(Screen::default().pass(&endless).ends_with("shown"));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_leaves_only_known_sequences(text in "(\u{1b}|\\[|\\]|\\?|[0-9;]|[a-zA-Z]|\u{7}|\\PC|.){0,60}", cut in 0_usize..60) {
            let whole = Screen::default().pass(&text);
            let at = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            let mut screen = Screen::default();
            let pieces = format!("{}{}", screen.pass(&text[..at]), screen.pass(&text[at..]));
            prop_assert_eq!(&pieces, &whole);
            for after in whole.split('\u{1b}').skip(1) {
                prop_assert!(after.starts_with(['[', '(', '7', '8', 'D', 'E', 'M']), "{:?}", whole);
            }
            prop_assert!(!whole.chars().any(|c| c.is_control() && !"\u{1b}\n\r\t\u{8}".contains(c)), "{:?}", whole);
        }
    }
}

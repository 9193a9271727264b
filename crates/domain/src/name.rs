//! Names that people choose: checked where they enter, safe to print everywhere after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Limits};

macro_rules! text_type {
    ($name:ident, $field:literal) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A name for URLs and the command line: 1 to 63 of `a-z`, `0-9`, `-`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Slug(String);
text_type!(Slug, "slug");

impl FromStr for Slug {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.len() > 63 || !edge(text.chars().next()) || !edge(text.chars().last()) || !text.chars().all(inside) {
            return Err(Error::invalid(
                "slug",
                "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or a digit",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A name that people read: 1 to 128 characters, no control, bidirectional-override or line-breaking characters, no
/// white space at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DisplayName(String);
text_type!(DisplayName, "name");

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{200b}'..='\u{200f}')
}

impl FromStr for DisplayName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let chars = text.chars().count();
        if chars == 0 || chars > Limits::NAME_CHARS || text.trim() != text || text.chars().any(is_unprintable) {
            return Err(Error::invalid(
                "name",
                "use 1 to 128 printable characters without white space at the beginning or end",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A user's login name, in the form of an address; kept in lower case so that one mailbox is one user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Email(String);
text_type!(Email, "email");

impl FromStr for Email {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        let valid = lower.len() <= 254
            && lower
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b',' | b';' | b'`'))
            && lower.split_once('@').is_some_and(|(local, host)| {
                !local.is_empty()
                    && !host.is_empty()
                    && !host.contains('@')
                    && !host.starts_with('.')
                    && !host.ends_with('.')
            });
        if valid { Ok(Self(lower)) } else { Err(Error::invalid("email", "use an address such as `ann@example.com`")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        for good in ["a", "prod-2", "0x"] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a-", "Admin", "a_b", "a/b", "%2e", "\u{202e}a", &"a".repeat(64)] {
            assert!(bad.parse::<Slug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_carry_no_terminal_or_bidirectional_tricks() {
        assert!("Größe 10 – prod".parse::<DisplayName>().is_ok());
        for bad in ["", " a", "a\n", "a\u{1b}[31m", "a\u{202e}b", "a\0b", "a\u{2028}b"] {
            assert!(bad.parse::<DisplayName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_mailbox_is_one_user() {
        assert_eq!("Ann@Example.com".parse::<Email>().unwrap(), "ann@example.com".parse().unwrap());
        for bad in ["ann", "@x", "ann@", "a b@x", "a@b@c", "a@.x"] {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
    }
}

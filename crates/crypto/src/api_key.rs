//! API keys in text form: `sk_`, a public id of 12, a secret of 32 and a checksum of 6 letters and digits; 53 characters in all.

use domain::Rng;

use crate::checked::{self, Checked};

/// What every key begins with.
pub const PREFIX: &str = "sk_";

/// A key that is well formed, which says nothing about whether it exists.
pub struct ApiKey(Checked);

/// Whether a text has a key's shape, whatever its checksum says: what looks like one is not logged.
pub fn is_shaped(text: &str) -> bool {
    checked::is_shaped(PREFIX, text)
}

impl ApiKey {
    /// A new key: 190 random bits behind an id of 71.
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(Checked::generate(PREFIX, rng))
    }

    /// A text that has the shape and the checksum.
    pub fn parse(text: &str) -> Option<Self> {
        Checked::parse(PREFIX, text).map(Self)
    }

    /// The public part that a database is asked for.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// The whole key. Hash it with [`crate::password::hash_password`], or show it once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn a_key_has_the_documented_form_and_parses_back() {
        let key = ApiKey::generate(&CountingRng::default());
        assert_eq!(key.expose().len(), 53);
        assert!(key.expose().starts_with(&format!("sk_{}", key.id())));
        let again = ApiKey::parse(key.expose()).unwrap();
        assert_eq!((again.expose(), again.id()), (key.expose(), key.id()));
    }

    #[test]
    fn attack_13_every_changed_character_is_noticed_without_a_database() {
        let key = ApiKey::generate(&CountingRng::default());
        for at in 0..key.expose().len() {
            for other in ['a', 'B', '7', '_', '.', ' ', '\0'] {
                let mut changed: Vec<char> = key.expose().chars().collect();
                if changed[at] != other {
                    changed[at] = other;
                    assert!(ApiKey::parse(&changed.iter().collect::<String>()).is_none(), "{at} {other:?}");
                }
            }
        }
        let text = key.expose();
        for other in [&text[..52], &format!("{text}a"), &text.to_uppercase(), &format!(" {text}"), "", "sk_", "é"] {
            assert!(ApiKey::parse(other).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_passes_by_chance(text in "sk_[0-9a-zA-Z]{49,51}|.{0,60}") {
            prop_assert!(ApiKey::parse(&text).is_none());
        }
    }
}

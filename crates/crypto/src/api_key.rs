//! API keys in text form: `sk_`, a public id of 12, a secret of 32 and a checksum of 6 letters and digits; 53 characters in all.
//!
//! The checksum is the first 8 bytes of SHA-256 of the 47 characters before it, as a big-endian number modulo 62^6, in six digits of base
//! 62 (`a-z`, `A-Z`, `0-9`). It keeps nobody out who computes it: it tells a typing mistake without a look into the database, and lets a
//! scanner of source code know a key from what merely looks like one.

use domain::Rng;
use zeroize::Zeroizing;

use crate::{constant_time_eq, sha256, token};

/// What every key begins with.
pub const PREFIX: &str = "sk_";
const ID: usize = 12;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const SIGNED: usize = PREFIX.len() + ID + SECRET;

/// A key that is well formed, which says nothing about whether it exists.
pub struct ApiKey(Zeroizing<String>);

pub(crate) fn checksum(signed: &str) -> String {
    let digest = sha256(signed.as_bytes());
    let number = digest.0.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    token::base62(number, CHECKSUM)
}

/// Whether a text has a key's shape, whatever its checksum says: what looks like one is not logged.
pub fn is_shaped(text: &str) -> bool {
    text.len() == SIGNED + CHECKSUM
        && text.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl ApiKey {
    /// A new key: 190 random bits behind an id of 71.
    pub fn generate(rng: &dyn Rng) -> Self {
        let random = Zeroizing::new(token::random_token(rng, ID + SECRET));
        let mut text = Zeroizing::new(String::with_capacity(SIGNED + CHECKSUM));
        text.push_str(PREFIX);
        text.push_str(&random);
        let sum = checksum(&text);
        text.push_str(&sum);
        Self(text)
    }

    /// A text that has the shape and the checksum.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_shaped(text) {
            return None;
        }
        let (signed, sum) = text.split_at_checked(SIGNED)?;
        let fits = constant_time_eq(sum.as_bytes(), checksum(signed).as_bytes());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The public part that a database is asked for.
    pub fn id(&self) -> &str {
        self.0.get(PREFIX.len()..PREFIX.len() + ID).unwrap_or_default()
    }

    /// The whole key. Hash it with [`crate::password::hash_password`], or show it once.
    pub fn expose(&self) -> &str {
        &self.0
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
    fn the_checksum_is_the_documented_one() {
        // Computed apart from this code: python3 -c 'import hashlib,string as s; t="sk_"+"a"*44; a=s.ascii_lowercase+s.ascii_uppercase+s.digits;
        // n=int.from_bytes(hashlib.sha256(t.encode()).digest()[:8],"big")%62**6; print("".join(a[n//62**i%62] for i in range(5,-1,-1)))'
        let signed = format!("sk_{}", "a".repeat(44));
        assert_eq!(checksum(&signed), "B8TPA6");
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

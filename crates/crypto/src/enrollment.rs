//! Enrollment tokens in text form: `et_`, a public id of 12, a secret of 32 and a checksum of 6 letters and digits, like an API key.

use domain::{Digest, Rng};
use zeroize::Zeroizing;

use crate::checked::{self, Checked};
use crate::sha256;

/// What every token begins with.
pub const PREFIX: &str = "et_";
/// Keeps the stored digest from being equal to an unsalted SHA-256 of the same text elsewhere.
const DOMAIN: &[u8] = b"cairn enrollment token v1\0";

/// A token that is well formed, which says nothing about whether it exists.
pub struct EnrollmentToken(Checked);

/// Whether a text has a token's shape, whatever its checksum says: what looks like one is not logged.
pub fn is_shaped(text: &str) -> bool {
    checked::is_shaped(PREFIX, text)
}

impl EnrollmentToken {
    /// A new token: 190 random bits behind an id of 71.
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

    /// The stored form of the secret. A single round is enough: nobody guesses 190 bits. Compare with [`crate::constant_time_eq`].
    pub fn secret_hash(&self) -> Digest {
        sha256(&Zeroizing::new([DOMAIN, self.0.secret().as_bytes()].concat()))
    }

    /// The whole token, to be shown once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key;
    use crate::test_rng::CountingRng;

    #[test]
    fn a_token_has_the_documented_form_and_parses_back() {
        let rng = CountingRng::default();
        let token = EnrollmentToken::generate(&rng);
        assert_eq!(token.expose().len(), 53);
        let again = EnrollmentToken::parse(token.expose()).unwrap();
        assert_eq!((again.id(), again.secret_hash()), (token.id(), token.secret_hash()));
        let other = EnrollmentToken::generate(&rng);
        assert!(other.id() != token.id() && other.secret_hash() != token.secret_hash());
    }

    #[test]
    fn attack_13_every_changed_character_is_noticed_and_no_api_key_is_a_token() {
        let rng = CountingRng::default();
        let token = EnrollmentToken::generate(&rng);
        for at in 0..token.expose().len() {
            for other in ['a', 'B', '7', '_', '.', ' ', '\0'] {
                let mut changed: Vec<char> = token.expose().chars().collect();
                if changed[at] != other {
                    changed[at] = other;
                    assert!(EnrollmentToken::parse(&changed.iter().collect::<String>()).is_none(), "{at} {other:?}");
                }
            }
        }
        let key = api_key::ApiKey::generate(&rng);
        let renamed = key.expose().replacen("sk_", "et_", 1);
        assert!(EnrollmentToken::parse(key.expose()).is_none() && EnrollmentToken::parse(&renamed).is_none());
        for bad in ["", "et_", "é"] {
            assert!(EnrollmentToken::parse(bad).is_none(), "{bad}");
        }
    }
}

//! Enrollment tokens in text form: `et_`, a public id of 12, a secret of 32 and a checksum of 6 letters and digits, like an API key.

use domain::{Digest, Rng};
use zeroize::Zeroizing;

use crate::{api_key, constant_time_eq, sha256, token};

/// What every token begins with.
pub const PREFIX: &str = "et_";
const ID: usize = 12;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const SIGNED: usize = PREFIX.len() + ID + SECRET;
/// Keeps the stored digest from being equal to an unsalted SHA-256 of the same text elsewhere.
const DOMAIN: &[u8] = b"cairn enrollment token v1\0";

/// A token that is well formed, which says nothing about whether it exists.
pub struct EnrollmentToken(Zeroizing<String>);

/// Whether a text has a token's shape, whatever its checksum says: what looks like one is not logged.
pub fn is_shaped(text: &str) -> bool {
    text.len() == SIGNED + CHECKSUM
        && text.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl EnrollmentToken {
    /// A new token: 190 random bits behind an id of 71.
    pub fn generate(rng: &dyn Rng) -> Self {
        let random = Zeroizing::new(token::random_token(rng, ID + SECRET));
        let mut text = Zeroizing::new(String::with_capacity(SIGNED + CHECKSUM));
        text.push_str(PREFIX);
        text.push_str(&random);
        let sum = api_key::checksum(&text);
        text.push_str(&sum);
        Self(text)
    }

    /// A text that has the shape and the checksum.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_shaped(text) {
            return None;
        }
        let (signed, sum) = text.split_at_checked(SIGNED)?;
        let fits = constant_time_eq(sum.as_bytes(), api_key::checksum(signed).as_bytes());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The public part that a database is asked for.
    pub fn id(&self) -> &str {
        self.0.get(PREFIX.len()..PREFIX.len() + ID).unwrap_or_default()
    }

    /// The stored form of the secret. A single round is enough: nobody guesses 190 bits. Compare with [`crate::constant_time_eq`].
    pub fn secret_hash(&self) -> Digest {
        let secret = self.0.get(PREFIX.len() + ID..SIGNED).unwrap_or_default();
        sha256(&Zeroizing::new([DOMAIN, secret.as_bytes()].concat()))
    }

    /// The whole token, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

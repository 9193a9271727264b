//! Sessions of the command line in text form: `cs_`, a public id of 10 letters and digits, `.`, a secret of 24 (143 bits).

use domain::{Digest, Rng};
use zeroize::Zeroizing;

use crate::{sha256, token};

/// What every token begins with.
pub const PREFIX: &str = "cs_";
const ID: usize = 10;
const SECRET: usize = 24;
/// Keeps the stored digest from being equal to an unsalted SHA-256 of the same text elsewhere.
const DOMAIN: &[u8] = b"cairn cli session v1\0";

/// A token that is well formed, which says nothing about whether its session exists.
pub struct CliToken(Zeroizing<String>);

/// Whether a text has a token's shape.
pub fn is_shaped(text: &str) -> bool {
    let fits = |part: &str, chars: usize| part.len() == chars && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(id, secret)| fits(id, ID) && fits(secret, SECRET))
}

impl CliToken {
    /// A new token.
    pub fn generate(rng: &dyn Rng) -> Self {
        let random = Zeroizing::new(token::random_token(rng, ID + SECRET));
        let (id, secret) = random.split_at_checked(ID).unwrap_or_default();
        Self(Zeroizing::new([PREFIX, id, ".", secret].concat()))
    }

    /// A text that has the shape.
    pub fn parse(text: &str) -> Option<Self> {
        is_shaped(text).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The public part that a database is asked for.
    pub fn id(&self) -> &str {
        self.0.get(PREFIX.len()..PREFIX.len() + ID).unwrap_or_default()
    }

    /// The stored form of the secret. A single round is enough: nobody guesses 143 bits. Compare with [`crate::constant_time_eq`].
    pub fn secret_hash(&self) -> Digest {
        let secret = self.0.get(PREFIX.len() + ID + 1..).unwrap_or_default();
        let input = Zeroizing::new([DOMAIN, secret.as_bytes()].concat());
        sha256(&input)
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
        let token = CliToken::generate(&rng);
        assert_eq!((token.expose().len(), token.expose().as_bytes()[13]), (38, b'.'));
        let again = CliToken::parse(token.expose()).unwrap();
        assert_eq!((again.id(), again.secret_hash()), (token.id(), token.secret_hash()));
        let other = CliToken::generate(&rng);
        assert!(other.id() != token.id() && other.secret_hash() != token.secret_hash());
    }

    #[test]
    fn what_has_another_form_is_refused() {
        let good = format!("cs_{}.{}", "a".repeat(10), "b".repeat(24));
        assert!(CliToken::parse(&good).is_some());
        for bad in [
            "",
            "cs_",
            "cs_.",
            &good[1..],
            &good[..37],
            &format!("{good}c"),
            &good.replace('.', "_"),
            &good.replace('.', ".."),
            &good.to_uppercase(),
            &good.replace('b', "é"),
            &format!(" {good}"),
        ] {
            assert!(CliToken::parse(bad).is_none(), "{bad}");
        }
    }
}

//! Secrets in a text form that scanners recognise: a prefix of 3 characters, a public id of 12, a secret of 32 and a checksum of 6 letters
//! and digits; 53 characters in all. API keys and enrollment tokens have it.
//!
//! The checksum is the first 8 bytes of SHA-256 of the 47 characters before it, as a big-endian number modulo 62^6, in six digits of base
//! 62 (`a-z`, `A-Z`, `0-9`). It keeps nobody out who computes it: it tells a typing mistake without a look into the database, and lets a
//! scanner of source code know a secret from what merely looks like one.

use domain::Rng;
use zeroize::Zeroizing;

use crate::{constant_time_eq, sha256, token};

const PREFIX: usize = 3;
const ID: usize = 12;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const SIGNED: usize = PREFIX + ID + SECRET;

fn checksum(signed: &str) -> String {
    let digest = sha256(signed.as_bytes());
    let number = digest.0.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    token::base62(number, CHECKSUM)
}

/// Whether a text has the shape, whatever its checksum says.
pub(crate) fn is_shaped(prefix: &str, text: &str) -> bool {
    text.len() == SIGNED + CHECKSUM
        && text.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A text of this form, which says nothing about whether it exists.
pub(crate) struct Checked(Zeroizing<String>);

impl Checked {
    /// A new one: 190 random bits behind an id of 71.
    pub(crate) fn generate(prefix: &str, rng: &dyn Rng) -> Self {
        let random = Zeroizing::new(token::random_token(rng, ID + SECRET));
        let mut text = Zeroizing::new(String::with_capacity(SIGNED + CHECKSUM));
        text.push_str(prefix);
        text.push_str(&random);
        let sum = checksum(&text);
        text.push_str(&sum);
        Self(text)
    }

    /// A text that has the shape and the checksum.
    pub(crate) fn parse(prefix: &str, text: &str) -> Option<Self> {
        if !is_shaped(prefix, text) {
            return None;
        }
        let (signed, sum) = text.split_at_checked(SIGNED)?;
        let fits = constant_time_eq(sum.as_bytes(), checksum(signed).as_bytes());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The public part.
    pub(crate) fn id(&self) -> &str {
        self.0.get(PREFIX..PREFIX + ID).unwrap_or_default()
    }

    /// The secret part.
    pub(crate) fn secret(&self) -> &str {
        self.0.get(PREFIX + ID..SIGNED).unwrap_or_default()
    }

    /// All of it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_documented_one() {
        // Computed apart from this code: python3 -c 'import hashlib,string as s; t="sk_"+"a"*44; a=s.ascii_lowercase+s.ascii_uppercase+s.digits;
        // n=int.from_bytes(hashlib.sha256(t.encode()).digest()[:8],"big")%62**6; print("".join(a[n//62**i%62] for i in range(5,-1,-1)))'
        let signed = format!("sk_{}", "a".repeat(44));
        assert_eq!(checksum(&signed), "B8TPA6");
    }
}

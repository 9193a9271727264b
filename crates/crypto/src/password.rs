//! Passwords: bcrypt over a digest, so that every byte of a long password counts (bcrypt itself ignores all after the 72nd).
//!
//! The stored form is bcrypt's usual `$2b$<cost>$<salt and hash>`; its input is base64(SHA-256(domain || password)). The domain keeps
//! the digest from being equal to an unsalted SHA-256 that leaked elsewhere. All functions take as long as bcrypt takes: run them off
//! the async threads and under a concurrency limit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::Rng;
use zeroize::Zeroizing;

use crate::{CryptoError, Sha256};

/// Costs that are accepted, also in a stored hash: each step doubles the time, and 14 takes over a second.
pub const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
const DOMAIN: &[u8] = b"cairn password v1\0";

fn prehash(password: &str) -> Zeroizing<String> {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(password.as_bytes());
    let digest = Zeroizing::new(hash.finish().0);
    Zeroizing::new(STANDARD.encode(digest.as_slice()))
}

/// Hashes a password for storage. `cost` is 4 to 14; 12 is usual.
pub fn hash_password(password: &str, cost: u32, rng: &dyn Rng) -> Result<String, CryptoError> {
    if !COSTS.contains(&cost) {
        return Err(CryptoError::Cost);
    }
    let mut salt = [0u8; 16];
    rng.fill(&mut salt);
    let parts = bcrypt::non_truncating_hash_with_salt(prehash(password).as_bytes(), cost, salt)
        .map_err(|_| CryptoError::Cost)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}

/// Whether `password` is the one that was stored. A stored hash that [`hash_password`] cannot have written is no password's.
pub fn verify_password(password: &str, stored: &str) -> bool {
    let cost = stored_cost(stored).is_some_and(|cost| COSTS.contains(&cost));
    cost && bcrypt::non_truncating_verify(prehash(password).as_bytes(), stored).unwrap_or(false)
}

/// Spends the time of one [`verify_password`] at this cost: for a user who does not exist, so that the answer's time does not tell.
pub fn spend_like(cost: u32) {
    let cost = cost.clamp(*COSTS.start(), *COSTS.end());
    let outcome = bcrypt::non_truncating_hash_with_salt(prehash("").as_bytes(), cost, [0; 16]);
    std::hint::black_box(outcome.is_ok());
}

/// The cost in a stored hash of exactly the form `$2b$NN$` and 53 letters, so that a tampered one neither stalls nor trips the library.
fn stored_cost(stored: &str) -> Option<u32> {
    let rest = stored.strip_prefix("$2b$")?;
    let (cost, rest) = rest.split_once('$')?;
    let well_formed = cost.len() == 2
        && cost.bytes().all(|b| b.is_ascii_digit())
        && rest.len() == 53
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    if well_formed { cost.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn the_right_password_verifies_and_others_do_not() {
        let rng = CountingRng::default();
        let stored = hash_password("correct horse", 4, &rng).unwrap();
        assert!(stored.starts_with("$2b$04$") && stored.len() == 60);
        assert!(verify_password("correct horse", &stored));
        for wrong in ["", "correct hors", "correct horse\0", "Correct horse"] {
            assert!(!verify_password(wrong, &stored), "{wrong:?}");
        }
        assert_ne!(hash_password("correct horse", 4, &rng).unwrap(), stored, "salted");
    }

    #[test]
    fn attack_15_every_byte_counts_past_72_and_past_a_nul() {
        let rng = CountingRng::default();
        let long = "a".repeat(72);
        let stored = hash_password(&format!("{long}b"), 4, &rng).unwrap();
        assert!(verify_password(&format!("{long}b"), &stored));
        assert!(!verify_password(&format!("{long}c"), &stored));
        assert!(!verify_password(&long, &stored));
        let with_nul = hash_password("a\0b", 4, &rng).unwrap();
        assert!(!verify_password("a\0c", &with_nul));
        assert!(!verify_password("a", &with_nul));
    }

    #[test]
    fn attack_16_hostile_stored_hashes_are_refused_at_once() {
        let good = hash_password("x", 4, &CountingRng::default()).unwrap();
        let tail = &good[7..];
        let hostile = [
            format!("$2b$31${tail}"),
            format!("$2b$15${tail}"),
            format!("$2b$03${tail}"),
            format!("$2b$00${tail}"),
            format!("$2b$99${tail}"),
            format!("$2b$+4${tail}"),
            format!("$2a$04${tail}"),
            format!("$2x$04${tail}"),
            format!("$2b$04${}", &tail[..52]),
            format!("$2b$04${tail}a"),
            format!("$2b$04${}é", &tail[..51]),
            format!("$2b$04é{}", &tail[1..]),
            format!("é{}", &good[2..]),
            "$2b$04$".to_owned(),
            String::new(),
            "x".to_owned(),
            "$".repeat(60),
            "🦀".repeat(15),
        ];
        let start = Instant::now();
        for stored in hostile {
            assert!(!verify_password("x", &stored), "{stored}");
        }
        // Cost 31 alone would take hours; the bound only has to tell hours from nothing.
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn costs_outside_the_range_are_refused_and_dummy_work_never_fails() {
        for cost in [0, 3, 15, 31, u32::MAX] {
            assert_eq!(hash_password("x", cost, &CountingRng::default()), Err(CryptoError::Cost));
        }
        spend_like(4);
        spend_like(0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_stored_text_makes_verify_panic(stored in r"\$2b\$0[4-6]\$[./A-Za-z0-9]{50,54}|.{0,70}") {
            prop_assert!(!verify_password("x", &stored));
        }
    }
}

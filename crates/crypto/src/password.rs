//! Passwords: bcrypt or PBKDF2 over a digest, so that every byte of a long password counts (bcrypt itself ignores all after the 72nd).
//!
//! Two stored forms, told apart by their beginning:
//! - `$2b$<cost>$<salt and hash>`, bcrypt's usual one;
//! - `$pbkdf2-sha256$<iterations>$<salt>$<hash>`, PBKDF2 with HMAC-SHA-256 (SP 800-132), salt and hash in unpadded base64. It is the only one
//!   in a FIPS build, where a bcrypt hash is no password's.
//!
//! The input of both is base64(SHA-256(domain || password)), the password in Unicode's form NFC (RFC 8265, section 4.2), so that one text is one
//! password on every keyboard. The domain keeps the digest from being equal to an unsalted SHA-256 that leaked elsewhere. All functions take as
//! long as the hash takes: run them off the async threads and under a concurrency limit.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use domain::Rng;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::{CryptoError, Sha256};

/// Costs that are accepted, also in a stored hash: each step doubles the time, and 14 takes over a second.
pub const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// Iterations of a new PBKDF2 hash: what OWASP's Password Storage Cheat Sheet asks for with HMAC-SHA-256.
pub const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// Iterations that are accepted in a stored hash: more would let whoever can write to the database stall a server.
const ITERATIONS_STORED: std::ops::RangeInclusive<u32> = 600_000..=2_400_000;
const PBKDF2_PREFIX: &str = "$pbkdf2-sha256$";
const DOMAIN: &[u8] = b"cairn password v1\0";
/// Whether new hashes are bcrypt's.
const WITH_BCRYPT: bool = cfg!(all(feature = "bcrypt", not(feature = "fips")));

fn prehash(password: &str) -> Zeroizing<String> {
    let password = Zeroizing::new(password.nfc().collect::<String>());
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(password.as_bytes());
    let digest = Zeroizing::new(hash.finish().0);
    Zeroizing::new(STANDARD.encode(digest.as_slice()))
}

/// Hashes a password for storage. `cost` is bcrypt's, 4 to 14; 12 is usual. A FIPS build uses [`ITERATIONS`] of PBKDF2 instead.
pub fn hash_password(password: &str, cost: u32, rng: &dyn Rng) -> Result<String, CryptoError> {
    if !COSTS.contains(&cost) {
        return Err(CryptoError::Cost);
    }
    let mut salt = [0u8; 16];
    rng.fill(&mut salt);
    if WITH_BCRYPT { bcrypt_hash(password, cost, salt) } else { Ok(pbkdf2_hash(password, ITERATIONS, &salt)) }
}

/// Hashes a password with PBKDF2 in any build, for an installation that is going to be a FIPS one.
pub fn hash_password_pbkdf2(password: &str, rng: &dyn Rng) -> String {
    let mut salt = [0u8; 16];
    rng.fill(&mut salt);
    pbkdf2_hash(password, ITERATIONS, &salt)
}

/// Whether `password` is the one that was stored. A stored hash that this module cannot have written is no password's.
pub fn verify_password(password: &str, stored: &str) -> bool {
    if let Some((iterations, salt, hash)) = stored_pbkdf2(stored) {
        return pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, prehash(password).as_bytes(), &hash)
            .is_ok();
    }
    stored_cost(stored).is_some_and(|cost| COSTS.contains(&cost)) && bcrypt_verify(password, stored)
}

/// Whether a stored hash is of the form that every build verifies.
pub fn is_pbkdf2(stored: &str) -> bool {
    stored_pbkdf2(stored).is_some()
}

/// Spends the time of one [`verify_password`] at this cost: for a user who does not exist, so that the answer's time does not tell.
pub fn spend_like(cost: u32) {
    let cost = cost.clamp(*COSTS.start(), *COSTS.end());
    if WITH_BCRYPT {
        std::hint::black_box(bcrypt_hash("", cost, [0; 16]).is_ok());
    } else {
        spend_like_pbkdf2();
    }
}

/// The same for an installation that stores passwords with PBKDF2.
pub fn spend_like_pbkdf2() {
    std::hint::black_box(pbkdf2_hash("", ITERATIONS, &[0; 16]).len());
}

fn pbkdf2_hash(password: &str, iterations: NonZeroU32, salt: &[u8; 16]) -> String {
    let mut hash = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prehash(password).as_bytes(), &mut hash);
    format!("{PBKDF2_PREFIX}{iterations}${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash))
}

/// Iterations, salt and hash of a stored PBKDF2 hash in its one spelling.
fn stored_pbkdf2(stored: &str) -> Option<(NonZeroU32, [u8; 16], [u8; 32])> {
    let mut parts = stored.strip_prefix(PBKDF2_PREFIX)?.split('$');
    let (iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let number: u32 = iterations.parse().ok()?;
    let known = parts.next().is_none() && ITERATIONS_STORED.contains(&number) && number.to_string() == iterations;
    let salt = STANDARD_NO_PAD.decode(salt).ok()?.try_into().ok()?;
    let hash = STANDARD_NO_PAD.decode(hash).ok()?.try_into().ok()?;
    known.then_some((NonZeroU32::new(number)?, salt, hash))
}

#[cfg(all(feature = "bcrypt", not(feature = "fips")))]
fn bcrypt_hash(password: &str, cost: u32, salt: [u8; 16]) -> Result<String, CryptoError> {
    let parts = bcrypt::non_truncating_hash_with_salt(prehash(password).as_bytes(), cost, salt)
        .map_err(|_| CryptoError::Cost)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}

#[cfg(all(feature = "bcrypt", not(feature = "fips")))]
fn bcrypt_verify(password: &str, stored: &str) -> bool {
    bcrypt::non_truncating_verify(prehash(password).as_bytes(), stored).unwrap_or(false)
}

#[cfg(not(all(feature = "bcrypt", not(feature = "fips"))))]
fn bcrypt_hash(_: &str, _: u32, _: [u8; 16]) -> Result<String, CryptoError> {
    Err(CryptoError::Cost)
}

#[cfg(not(all(feature = "bcrypt", not(feature = "fips"))))]
fn bcrypt_verify(_: &str, _: &str) -> bool {
    false
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

    /// bcrypt of `x` at cost 4, as the default build stores it.
    const BCRYPT_OF_X: &str = "$2b$04$.OC/.OC/.OC/.OC/.OC/.Oc5v/Sk64v0JgShX3VI/DV.TJ4fLTbF6";

    #[test]
    fn the_right_password_verifies_and_others_do_not() {
        let rng = CountingRng::default();
        let stored = hash_password("correct horse", 4, &rng).unwrap();
        let form = if WITH_BCRYPT { "$2b$04$" } else { "$pbkdf2-sha256$600000$" };
        assert!(stored.starts_with(form), "{stored}");
        assert!(verify_password("correct horse", &stored));
        for wrong in ["", "correct hors", "correct horse\0", "Correct horse"] {
            assert!(!verify_password(wrong, &stored), "{wrong:?}");
        }
        assert_ne!(hash_password("correct horse", 4, &rng).unwrap(), stored, "salted");
    }

    #[test]
    fn one_text_is_one_password_however_its_accents_are_composed() {
        let stored = hash_password("caf\u{e9}", 4, &CountingRng::default()).unwrap();
        assert!(verify_password("cafe\u{301}", &stored));
        assert!(!verify_password("cafe", &stored));
        // Compatibility forms stay apart: NFC, not NFKC.
        assert!(!verify_password("\u{ff43}af\u{e9}", &stored));
    }

    #[test]
    fn a_pbkdf2_hash_is_good_in_every_build_and_a_bcrypt_hash_in_one_with_bcrypt() {
        let stored = hash_password_pbkdf2("correct horse", &CountingRng::default());
        assert!(verify_password("correct horse", &stored) && !verify_password("correct hors", &stored));
        assert_eq!(verify_password("x", BCRYPT_OF_X), WITH_BCRYPT);
        assert!(!verify_password("y", BCRYPT_OF_X));
        assert!(is_pbkdf2(&stored) && !is_pbkdf2(BCRYPT_OF_X));
    }

    /// RFC 7914, section 11: the primitive with the module's parameters.
    #[test]
    fn pbkdf2_agrees_with_rfc_7914() {
        let mut out = [0u8; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(80_000).unwrap(), b"NaCl", b"Password", &mut out);
        assert_eq!(domain::Digest(out).to_hex(), "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56");
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
        let tail = &BCRYPT_OF_X[7..];
        let good = hash_password_pbkdf2("x", &CountingRng::default());
        let (salt, hash) = good.strip_prefix("$pbkdf2-sha256$600000$").unwrap().split_once('$').unwrap();
        let pbkdf2 = |middle: &str| format!("$pbkdf2-sha256${middle}");
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
            format!("é{}", &BCRYPT_OF_X[2..]),
            "$2b$04$".to_owned(),
            String::new(),
            "x".to_owned(),
            "$".repeat(60),
            "🦀".repeat(15),
            pbkdf2(&format!("4294967295${salt}${hash}")),
            pbkdf2(&format!("2400001${salt}${hash}")),
            pbkdf2(&format!("599999${salt}${hash}")),
            pbkdf2(&format!("1${salt}${hash}")),
            pbkdf2(&format!("0${salt}${hash}")),
            pbkdf2(&format!("0600000${salt}${hash}")),
            pbkdf2(&format!("+600000${salt}${hash}")),
            pbkdf2(&format!("-600000${salt}${hash}")),
            pbkdf2(&format!("600000${salt}${hash}$")),
            pbkdf2(&format!("600000${salt}${hash}=")),
            pbkdf2(&format!("600000$${hash}")),
            pbkdf2(&format!("600000${salt}$")),
            pbkdf2(&format!("600000${salt}AAAA${hash}")),
            pbkdf2(""),
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
        spend_like_pbkdf2();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_stored_text_makes_verify_panic(stored in r"\$2b\$0[4-6]\$[./A-Za-z0-9]{50,54}|\$pbkdf2-sha256\$[0-9]{1,9}\$[A-Za-z0-9+/]{0,24}\$[A-Za-z0-9+/]{0,45}|.{0,70}") {
            prop_assert!(!verify_password("x", &stored));
        }
    }
}

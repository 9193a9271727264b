//! One-time passwords of authenticator apps: TOTP (RFC 6238) over HOTP (RFC 4226) with SHA-1, six digits and 30 seconds.
//!
//! These parameters are what every app understands. HMAC does not need SHA-1 to resist collisions, and it is used for nothing else here.

use aws_lc_rs::hmac;
use domain::{Rng, Secret};

use crate::constant_time_eq;

/// Bytes of a new secret: as many as the hash has (RFC 4226, section 4).
const SECRET_BYTES: usize = 20;
/// Seconds of one step.
pub const STEP_S: i64 = 30;
/// Digits of a code.
pub const DIGITS: usize = 6;
/// How many steps a clock may be off, either way (RFC 6238, section 5.2).
const DRIFT_STEPS: i64 = 1;

/// A new secret.
pub fn new_secret(rng: &dyn Rng) -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0u8; SECRET_BYTES]);
    rng.fill(bytes.as_mut_slice());
    Secret::new(bytes.as_slice())
}

/// A secret as apps take it: base 32 (RFC 4648, section 6) without padding.
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut out, mut buffer, mut bits) = (String::with_capacity(bytes.len() * 8 / 5 + 1), 0u32, 0u32);
    let letter =
        |five: u32| usize::try_from(five & 31).ok().and_then(|at| ALPHABET.get(at)).copied().map_or('A', char::from);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(letter(buffer >> bits));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(letter(buffer << (5 - bits)));
    }
    out
}

/// The six digits of a step (RFC 4226, section 5.3).
pub fn code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(tag.as_ref().last().copied().unwrap_or_default() & 0x0f);
    let word = tag.as_ref().get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    format!("{:06}", (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000)
}

/// The step that `code` is of, if it is one of those around `now_seconds` and later than `last_step`: no step counts twice.
pub fn matching_step(secret: &[u8], given: &str, now_seconds: i64, last_step: i64) -> Option<i64> {
    let now = now_seconds.div_euclid(STEP_S);
    let mut found = None;
    // Every step is tried, so that the time says nothing about which one it was.
    for step in now - DRIFT_STEPS..=now + DRIFT_STEPS {
        let expected = u64::try_from(step).map(|step| code(secret, step)).unwrap_or_default();
        if !expected.is_empty() && constant_time_eq(expected.as_bytes(), given.as_bytes()) && step > last_step {
            found = Some(step);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::CountingRng;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_agree_with_rfc_4226_appendix_d() {
        let expected =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, expected) in (0..).zip(expected) {
            assert_eq!(code(SECRET, counter), expected);
        }
    }

    #[test]
    fn codes_agree_with_rfc_6238_appendix_b() {
        // Its eight digits, of which six digits are the last six.
        for (seconds, expected) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(matching_step(SECRET, &expected[2..], seconds, -1), Some(seconds / STEP_S), "{seconds}");
        }
    }

    #[test]
    fn one_step_of_drift_is_forgiven_and_no_step_counts_twice() {
        let now = 1_000_000_000;
        let step = now / STEP_S;
        let at = |step: i64| code(SECRET, step.unsigned_abs());
        for drift in -3..=3 {
            let found = matching_step(SECRET, &at(step + drift), now, -1);
            assert_eq!(found, (drift.abs() <= 1).then_some(step + drift), "{drift}");
        }
        assert_eq!(matching_step(SECRET, &at(step), now, step), None, "a step that was used");
        assert_eq!(matching_step(SECRET, &at(step - 1), now, step), None, "an earlier one");
        assert_eq!(matching_step(SECRET, &at(step + 1), now, step), Some(step + 1));
        for given in ["", "0", "12345", "1234567", "abcdef", " 12345", "１２３４５６"] {
            assert_eq!(matching_step(SECRET, given, now, -1), None, "{given}");
        }
        assert_eq!(matching_step(SECRET, &code(SECRET, 0), -10_000, -10_000_000), None, "before 1970");
    }

    #[test]
    fn base32_agrees_with_rfc_4648() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), expected);
        }
        assert_eq!(base32(new_secret(&CountingRng::default()).expose()).len(), 32);
    }
}

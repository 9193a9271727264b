//! The two codes of a sign-in on another device (RFC 8628): a long one that the device keeps, a short one that a person types.
//!
//! The short one uses the 20 consonants of RFC 8628, section 6.1: no vowel makes a word of it, and no letter looks like a digit. It holds 34
//! bits, is shown as `XXXX-XXXX`, and may be typed in any case, with or without the dash.

use domain::{Digest, Rng};
use zeroize::Zeroizing;

use crate::{sha256, token};

const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const USER_CODE: usize = 8;
const DEVICE_CODE: usize = 43;

/// A new code for the device: 256 bits.
pub fn device_code(rng: &dyn Rng) -> Zeroizing<String> {
    Zeroizing::new(token::random_token(rng, DEVICE_CODE))
}

/// The stored form of a device's code; none for what is no such code.
pub fn device_code_hash(code: &str) -> Option<Digest> {
    let fits = code.len() == DEVICE_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| sha256(&Zeroizing::new([b"cairn device code v1\0", code.as_bytes()].concat())))
}

/// A new code for a person, as it is shown.
pub fn user_code(rng: &dyn Rng) -> String {
    let mut code = token::random_of(rng, LETTERS, USER_CODE);
    code.insert(USER_CODE / 2, '-');
    code
}

/// The stored form of a person's code however they typed it; none for what is no such code.
pub fn user_code_hash(typed: &str) -> Option<Digest> {
    if typed.len() > 64 {
        return None;
    }
    let letters = typed.bytes().filter(|byte| !matches!(byte, b'-' | b' '));
    let code: Vec<u8> = letters.map(|byte| byte.to_ascii_uppercase()).collect();
    let fits = code.len() == USER_CODE && code.iter().all(|byte| LETTERS.contains(byte));
    fits.then(|| sha256(&[&b"cairn user code v1\0"[..], &code].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn a_code_is_understood_however_it_is_typed() {
        let rng = CountingRng::default();
        let code = user_code(&rng);
        assert!(code.len() == 9 && code.as_bytes()[4] == b'-', "{code}");
        let hash = user_code_hash(&code).unwrap();
        for typed in [code.to_lowercase(), code.replace('-', ""), format!(" {} ", code.replace('-', " - "))] {
            assert_eq!(user_code_hash(&typed), Some(hash), "{typed}");
        }
        assert_ne!(user_code_hash(&user_code(&rng)), Some(hash));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for bad in ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "0CDF-GHJK", "BCDF_GHJK", "ВCDF-GHJK", &"-".repeat(65)]
        {
            assert_eq!(user_code_hash(bad), None, "{bad}");
        }
        let code = device_code(&CountingRng::default());
        assert!(device_code_hash(&code).is_some());
        for bad in ["", &code[1..], &format!("{}a", &*code), &code.replace(|_: char| true, "-")] {
            assert_eq!(device_code_hash(bad), None, "{bad}");
        }
    }
}

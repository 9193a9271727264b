//! Random text for one-time passwords, keys and ids.

use domain::Rng;

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// `chars` letters and digits, each with the same probability: 5.95 bits of entropy per character.
pub fn random_token(rng: &dyn Rng, chars: usize) -> String {
    random_of(rng, ALPHABET, chars)
}

/// `chars` letters of an alphabet of 2 to 256 ASCII letters, each with the same probability.
pub(crate) fn random_of(rng: &dyn Rng, alphabet: &[u8], chars: usize) -> String {
    let mut token = String::with_capacity(chars);
    let mut random = zeroize::Zeroizing::new([0u8; 64]);
    // Bytes above the last whole multiple of the alphabet are thrown away: taking them would favour the first letters.
    let whole = 256 - 256 % alphabet.len();
    while token.len() < chars {
        rng.fill(random.as_mut_slice());
        let fair = random.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < whole);
        let letters = fair.filter_map(|byte| alphabet.get(byte % alphabet.len()));
        token.extend(letters.take(chars - token.len()).map(|letter| char::from(*letter)));
    }
    token
}

/// A number as `chars` digits of base 62, the most significant first; what does not fit is cut off at the left.
pub(crate) fn base62(mut number: u64, chars: usize) -> String {
    let mut digits = Vec::with_capacity(chars);
    for _ in 0..chars {
        let digit = usize::try_from(number % 62).unwrap_or_default();
        digits.extend(ALPHABET.get(digit).map(|letter| char::from(*letter)));
        number /= 62;
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn tokens_have_the_length_and_the_alphabet() {
        let rng = CountingRng::default();
        for chars in [0, 1, 24, 63, 64, 65, 1_000] {
            let token = random_token(&rng, chars);
            assert_eq!(token.len(), chars);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert_ne!(random_token(&rng, 24), random_token(&rng, 24));
    }

    #[test]
    fn every_letter_is_equally_likely() {
        let token = random_token(&CountingRng::default(), 62_000);
        let mut counts = std::collections::BTreeMap::new();
        for letter in token.chars() {
            *counts.entry(letter).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 62);
        // Seeded, so the outcome is fixed; 1,000 +- 6 standard deviations, far inside what the biased method would give (1,211).
        assert!(counts.values().all(|n| (810..=1_190).contains(n)), "{counts:?}");
    }
}

//! Random text for one-time passwords, keys and ids.

use domain::Rng;

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// `chars` letters and digits, each with the same probability: 5.95 bits of entropy per character.
pub fn random_token(rng: &dyn Rng, chars: usize) -> String {
    let mut token = String::with_capacity(chars);
    let mut random = zeroize::Zeroizing::new([0u8; 64]);
    while token.len() < chars {
        rng.fill(random.as_mut_slice());
        // Bytes of 248 and above are thrown away: 256 is no multiple of 62, and taking them would favour the first letters.
        let letters = random.iter().filter(|byte| **byte < 248).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        token.extend(letters.take(chars - token.len()).map(|letter| char::from(*letter)));
    }
    token
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

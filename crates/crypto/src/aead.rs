//! Sealing values at rest: AES-256-GCM (NIST SP 800-38D).
//!
//! A sealed value is `version (1) || nonce (12) || ciphertext || tag (16)`. The version byte is authenticated with the associated
//! data, and the associated data names the value's place (tenant, row, column), so that a value cannot be moved. Nonces are random:
//! use one key for far fewer than 2^32 values.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, RandomizedNonceKey, Tag, UnboundKey};
use domain::{Rng, Secret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::CryptoError;

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// An AES-256 key: wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct AeadKey([u8; 32]);

impl AeadKey {
    /// Takes the key's bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new random key.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut key = Self([0; 32]);
        rng.fill(&mut key.0);
        key
    }

    /// The key's bytes, to be sealed under another key or written to a file of mode 0600.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn cipher(&self) -> Result<LessSafeKey, CryptoError> {
        UnboundKey::new(&AES_256_GCM, &self.0).map(LessSafeKey::new).map_err(|_| CryptoError::Key)
    }

    /// The primitive: the plaintext of `ciphertext || tag`.
    pub(crate) fn open_in(&self, nonce: &[u8], aad: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Open)?;
        let length = body.len().checked_sub(TAG_LEN).ok_or(CryptoError::Open)?;
        let mut body = Zeroizing::new(body.to_vec());
        self.cipher()?.open_in_place(nonce, Aad::from(aad), &mut body).map_err(|_| CryptoError::Open)?;
        body.truncate(length);
        Ok(body)
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[key]")
    }
}

/// The caller's associated data with the version in front.
fn bound(aad: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], aad].concat())
}

/// Seals `plaintext` for the place that `aad` names. A FIPS build lets the module make the nonce, as SP 800-38D, section 8.2.2, and the module's
/// approval ask for; `rng` is then not used.
pub fn seal(key: &AeadKey, aad: &[u8], plaintext: &[u8], rng: &dyn Rng) -> Result<Vec<u8>, CryptoError> {
    // Encrypted in a buffer that never grows, so that no plaintext is left behind by a reallocation.
    let mut body = Zeroizing::new(plaintext.to_vec());
    let (nonce, tag) = if cfg!(feature = "fips") {
        seal_with_own_nonce(key, aad, &mut body)?
    } else {
        let mut nonce = [0u8; NONCE_LEN];
        rng.fill(&mut nonce);
        let tag = key
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound(aad), &mut body)
            .map_err(|_| CryptoError::Seal)?;
        (nonce, tag)
    };
    Ok([&[VERSION], nonce.as_slice(), &body, tag.as_ref()].concat())
}

/// Encrypts in place; the library makes the nonce.
fn seal_with_own_nonce(key: &AeadKey, aad: &[u8], body: &mut [u8]) -> Result<([u8; NONCE_LEN], Tag), CryptoError> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, &key.0).map_err(|_| CryptoError::Key)?;
    let (nonce, tag) = cipher.seal_in_place_separate_tag(bound(aad), body).map_err(|_| CryptoError::Seal)?;
    Ok((*nonce.as_ref(), tag))
}

/// Opens what [`seal`] made with the same key and the same `aad`.
pub fn open(key: &AeadKey, aad: &[u8], sealed: &[u8]) -> Result<Secret, CryptoError> {
    let (version, rest) = sealed.split_first().ok_or(CryptoError::Open)?;
    if *version != VERSION {
        return Err(CryptoError::SealedVersion);
    }
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(CryptoError::Open)?;
    key.open_in(nonce, bound(aad).as_ref(), body).map(|plaintext| Secret::new(plaintext.as_slice()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn sealed_values_open_only_in_their_place_and_with_their_key() {
        let rng = CountingRng::default();
        let (key, other) = (AeadKey::generate(&rng), AeadKey::generate(&rng));
        let sealed = seal(&key, b"ten_a/crd_1/secret", b"hunter2", &rng).unwrap();
        assert_eq!(sealed.len(), 1 + 12 + 7 + 16);
        assert_eq!(open(&key, b"ten_a/crd_1/secret", &sealed).unwrap().expose(), b"hunter2");
        assert_eq!(open(&key, b"ten_a/crd_2/secret", &sealed).unwrap_err(), CryptoError::Open);
        assert_eq!(open(&key, b"", &sealed).unwrap_err(), CryptoError::Open);
        assert_eq!(open(&other, b"ten_a/crd_1/secret", &sealed).unwrap_err(), CryptoError::Open);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let rng = CountingRng::default();
        let key = AeadKey::generate(&rng);
        let sealed = seal(&key, b"place", b"hunter2", &rng).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, b"place", &bad).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, b"place", &sealed[..length]).is_err(), "length {length}");
        }
        assert!(open(&key, b"place", &[sealed.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn what_is_sealed_with_a_nonce_of_the_library_opens_like_any_other() {
        let key = AeadKey::from_bytes([7; 32]);
        let mut body = *b"hunter2";
        let (nonce, tag) = seal_with_own_nonce(&key, b"place", &mut body).unwrap();
        let sealed = [&[VERSION], nonce.as_slice(), &body, tag.as_ref()].concat();
        assert_eq!(open(&key, b"place", &sealed).unwrap().expose(), b"hunter2");
        assert!(open(&key, b"elsewhere", &sealed).is_err());
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let rng = CountingRng::default();
        let key = AeadKey::generate(&rng);
        assert_ne!(seal(&key, b"", b"x", &rng).unwrap(), seal(&key, b"", b"x", &rng).unwrap());
        assert_eq!(format!("{key:?}"), "[key]");
    }

    proptest! {
        #[test]
        fn no_bytes_make_open_panic(bytes: Vec<u8>) {
            prop_assert!(open(&AeadKey::from_bytes([7; 32]), b"", &bytes).is_err());
        }

        #[test]
        fn every_value_comes_back(plaintext: Vec<u8>, aad: Vec<u8>) {
            let key = AeadKey::from_bytes([7; 32]);
            let sealed = seal(&key, &aad, &plaintext, &CountingRng::default()).unwrap();
            let opened = open(&key, &aad, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), plaintext.as_slice());
        }
    }
}

//! Sealing a secret to one process: HPKE in base mode (RFC 9180) with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
//!
//! The recipient makes its key pair when it starts and keeps it in memory only, so what is sealed to it dies with it. The sender is
//! not authenticated by this: whoever uses it knows its peer otherwise.

use domain::Secret;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};

use crate::CryptoError;

/// Bytes of a public key: an uncompressed point.
pub const PUBLIC_KEY_BYTES: usize = 65;

/// A key pair to which secrets are sealed. Its private half is wiped on drop.
pub struct Recipient {
    public: HpkePublicKey,
    private: HpkePrivateKey,
}

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The encapsulated key.
    pub enc: Vec<u8>,
    /// The ciphertext with its tag.
    pub ciphertext: Vec<u8>,
}

impl Recipient {
    /// A new key pair, by the library's own generator.
    pub fn generate() -> Result<Self, CryptoError> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| CryptoError::Key)?;
        Ok(Self { public, private })
    }

    /// The public half.
    pub fn public(&self) -> &[u8] {
        &self.public.0
    }

    /// Opens what was sealed to this key, for this use (`info`) and place (`aad`).
    pub fn open(&self, info: &[u8], aad: &[u8], sealed: &Sealed) -> Result<Secret, CryptoError> {
        let enc = EncapsulatedSecret(sealed.enc.clone());
        let opened = SUITE.open(&enc, info, aad, &sealed.ciphertext, &self.private);
        opened.map(Secret::new).map_err(|_| CryptoError::Open)
    }
}

/// Seals a secret to a public key, for one use (`info`) and place (`aad`).
pub fn seal_to(public: &[u8], info: &[u8], aad: &[u8], secret: &Secret) -> Result<Sealed, CryptoError> {
    if public.len() != PUBLIC_KEY_BYTES {
        return Err(CryptoError::Key);
    }
    let public = HpkePublicKey(public.to_vec());
    let (enc, ciphertext) = SUITE.seal(info, aad, secret.expose(), &public).map_err(|_| CryptoError::Seal)?;
    Ok(Sealed { enc: enc.0, ciphertext })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens_it_and_only_for_its_use_and_place() {
        let (ours, other) = (Recipient::generate().unwrap(), Recipient::generate().unwrap());
        let sealed = seal_to(ours.public(), b"use", b"place", &Secret::new("hunter2")).unwrap();
        assert_eq!(ours.open(b"use", b"place", &sealed).unwrap().expose(), b"hunter2");
        assert!(!sealed.ciphertext.windows(7).any(|window| window == b"hunter2"));
        assert!(other.open(b"use", b"place", &sealed).is_err());
        assert!(ours.open(b"other", b"place", &sealed).is_err());
        assert!(ours.open(b"use", b"other", &sealed).is_err());
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert!(ours.open(b"use", b"place", &changed).is_err(), "{at}");
        }
        for at in [0, 1, 40] {
            let mut changed = sealed.clone();
            changed.enc[at] ^= 1;
            assert!(ours.open(b"use", b"place", &changed).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for bad in [&[][..], &[4; 65], &[0; 65], &[4; 64]] {
            assert!(seal_to(bad, b"", b"", &Secret::new("x")).is_err());
        }
    }
}

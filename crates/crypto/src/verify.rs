//! Verifying signatures by keys that others made: ECDSA over P-256 and RSASSA-PKCS1-v1_5, both with SHA-256 (FIPS 186-5).
//!
//! Only verification: no private key of these kinds is ever held.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::CryptoError;

/// Shortest RSA modulus, in bits.
const RSA_BITS_MIN: usize = 2_048;
/// Longest RSA modulus, in bytes: the time of a verification grows with it.
const RSA_BYTES_MAX: usize = 512;

/// A point of the curve P-256 as a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P256Point {
    x: [u8; 32],
    y: [u8; 32],
}

impl P256Point {
    /// Takes the coordinates, big-endian; refuses what is not on the curve.
    pub fn new(x: &[u8], y: &[u8]) -> Result<Self, CryptoError> {
        let coordinate = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| CryptoError::Key);
        let point = Self { x: coordinate(x)?, y: coordinate(y)? };
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.uncompressed()).map_err(|_| CryptoError::Key)?;
        Ok(point)
    }

    /// SEC 1, section 2.3.3.
    fn uncompressed(&self) -> Vec<u8> {
        [[4].as_slice(), &self.x, &self.y].concat()
    }

    /// The first coordinate.
    pub fn x(&self) -> &[u8; 32] {
        &self.x
    }

    /// The second coordinate.
    pub fn y(&self) -> &[u8; 32] {
        &self.y
    }

    /// Verifies a signature in its DER form (RFC 3279, section 2.2.3).
    pub fn verify_der(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.uncompressed())
            .verify(message, signature)
            .map_err(|_| CryptoError::Signature)
    }
}

/// An RSA public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl RsaKey {
    /// Takes modulus and exponent, big-endian without leading zeros; refuses moduli under 2,048 bits, and exponents but 65,537.
    pub fn new(n: &[u8], e: &[u8]) -> Result<Self, CryptoError> {
        let zeros = n.first().map_or(8, |first| first.leading_zeros() as usize);
        let bits = (n.len() * 8).saturating_sub(zeros);
        let is_odd = n.last().is_some_and(|last| last & 1 == 1);
        if zeros == 8 || bits < RSA_BITS_MIN || n.len() > RSA_BYTES_MAX || !is_odd || e != [1, 0, 1] {
            return Err(CryptoError::Key);
        }
        Ok(Self { n: n.to_vec(), e: e.to_vec() })
    }

    /// The modulus.
    pub fn modulus(&self) -> &[u8] {
        &self.n
    }

    /// The exponent.
    pub fn exponent(&self) -> &[u8] {
        &self.e
    }

    /// Verifies a signature of the modulus's length (RFC 8017, section 8.2.2).
    pub fn verify_pkcs1_sha256(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if signature.len() != self.n.len() {
            return Err(CryptoError::Signature);
        }
        RsaPublicKeyComponents { n: &self.n, e: &self.e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| CryptoError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};

    use super::*;

    #[test]
    fn a_p256_signature_verifies_for_its_message_and_in_its_form_only() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let key = P256Point::new(&point[1..33], &point[33..]).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
        assert_eq!(key.verify_der(b"message", signature.as_ref()), Ok(()));
        assert_eq!(key.verify_der(b"messag", signature.as_ref()), Err(CryptoError::Signature));
        for length in 0..signature.as_ref().len() {
            assert!(key.verify_der(b"message", &signature.as_ref()[..length]).is_err(), "{length}");
        }
        assert!(key.verify_der(b"message", &[signature.as_ref(), &[0]].concat()).is_err());
        // r = s = 0, and the fixed form.
        assert!(key.verify_der(b"message", &[0x30, 6, 2, 1, 0, 2, 1, 0]).is_err());
        assert!(key.verify_der(b"message", &[0; 64]).is_err());
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_no_key() {
        let zero = [0; 32];
        let mut off = [0; 32];
        off[31] = 1;
        assert_eq!(P256Point::new(&zero, &zero), Err(CryptoError::Key));
        assert_eq!(P256Point::new(&off, &off), Err(CryptoError::Key));
        assert_eq!(P256Point::new(&[0xff; 32], &off), Err(CryptoError::Key));
        assert_eq!(P256Point::new(&[1; 31], &off), Err(CryptoError::Key));
    }

    #[test]
    fn an_rsa_signature_verifies_for_its_message_and_weak_keys_are_refused() {
        let pair = RsaPair::generate(KeySize::Rsa2048).unwrap();
        // RSAPublicKey (RFC 8017, appendix A.1.1) of 2,048 bits: the modulus is behind two headers of four bytes and a zero.
        let modulus = pair.public_key().as_ref()[9..265].to_vec();
        let key = RsaKey::new(&modulus, &[1, 0, 1]).unwrap();
        let mut signature = vec![0; modulus.len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();
        assert_eq!(key.verify_pkcs1_sha256(b"message", &signature), Ok(()));
        assert_eq!(key.verify_pkcs1_sha256(b"other", &signature), Err(CryptoError::Signature));
        assert!(key.verify_pkcs1_sha256(b"message", &signature[1..]).is_err());
        for (n, e) in [
            (&modulus[..255], [1, 0, 1].as_slice()),
            (&modulus, &[3]),
            (&modulus, &[0, 1, 0, 1]),
            (&modulus, &[]),
            (&[&[0], modulus.as_slice()].concat(), &[1, 0, 1]),
            (&[0xff; 513], &[1, 0, 1]),
            (&[&modulus[..255], &[0x10]].concat(), &[1, 0, 1]),
            (&[], &[1, 0, 1]),
        ] {
            assert_eq!(RsaKey::new(n, e), Err(CryptoError::Key));
        }
    }
}

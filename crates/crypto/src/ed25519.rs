//! Ed25519 signatures (RFC 8032, FIPS 186-5), verified strictly.
//!
//! Strictly means: a public key must be a canonical encoding and not of small order (one signature by such a key would verify for many
//! messages), and the signature's `S` must be below the group's order (no second signature can be made from a first).

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{Digest, Secret};
use zeroize::Zeroizing;

use crate::{CryptoError, sha256};

/// PKCS #8 version 1 (RFC 8410) up to the 32 bytes of the seed.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// SubjectPublicKeyInfo (RFC 8410) up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// The prime 2^255 - 19 that the curve is over, little-endian.
const FIELD_PRIME: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// The `y` of the eight points whose order divides 8, little-endian without the sign bit of `x`.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = FIELD_PRIME;
        minus_one[0] = 0xec;
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// A private key. Its seed is wiped on drop.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new key from the library's own random generator.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::new(Ed25519KeyPair::generate().map_err(|_| CryptoError::Key)?)
    }

    /// Reads a key in PKCS #8 DER, as [`SigningKey::to_pkcs8`] and `openssl genpkey -algorithm ed25519 -outform DER` write it.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CryptoError> {
        Self::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| CryptoError::Key)?)
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, CryptoError> {
        let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| CryptoError::Key)?;
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed.as_ref()).map_err(|_| CryptoError::Key)?);
        let public = PublicKey::from_bytes(pair.public_key().as_ref())?;
        Ok(Self { seed, pair, public })
    }

    /// The key in PKCS #8 version 1 DER, 48 bytes.
    pub fn to_pkcs8(&self) -> Secret {
        Secret::new([PKCS8_PREFIX.as_slice(), self.seed.as_slice()].concat())
    }

    /// What the private key is made from.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0u8; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[signing key {}]", self.public.fingerprint())
    }
}

/// A public key: canonical and not of small order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads the 32 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let raw = <[u8; 32]>::try_from(bytes).map_err(|_| CryptoError::Key)?;
        let mut y = raw;
        if let Some(last) = y.last_mut() {
            *last &= 0x7f;
        }
        // Little-endian numbers compare from their last byte.
        let is_canonical = y.iter().rev().lt(FIELD_PRIME.iter().rev());
        if !is_canonical || SMALL_ORDER_Y.contains(&y) {
            return Err(CryptoError::Key);
        }
        Ok(Self(raw))
    }

    /// Reads a SubjectPublicKeyInfo in DER, exactly 44 bytes.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, CryptoError> {
        Self::from_bytes(der.strip_prefix(SPKI_PREFIX.as_slice()).ok_or(CryptoError::Key)?)
    }

    /// Reads one PEM block of the label `PUBLIC KEY` with nothing else around it but white space.
    pub fn from_pem(text: &str) -> Result<Self, CryptoError> {
        let inside = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let base64: String = inside.ok_or(CryptoError::Key)?.split_ascii_whitespace().collect();
        Self::from_spki_der(&STANDARD.decode(base64).map_err(|_| CryptoError::Key)?)
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SubjectPublicKeyInfo in DER (RFC 8410), 44 bytes.
    pub fn to_spki_der(&self) -> [u8; 44] {
        let mut der = [0u8; 44];
        let (prefix, key) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        key.copy_from_slice(&self.0);
        der
    }

    /// The key as `openssl` writes it.
    pub fn to_pem(&self) -> String {
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(self.to_spki_der()))
    }

    /// SHA-256 of the SubjectPublicKeyInfo: the key's name in statements and bundles.
    pub fn fingerprint(&self) -> Digest {
        sha256(&self.to_spki_der())
    }

    /// Checks a 64-byte signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| CryptoError::Signature)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[public key {}]", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn from_seed(hex: &str) -> SigningKey {
        SigningKey::from_pkcs8(&[PKCS8_PREFIX.as_slice(), &bytes(hex)].concat()).unwrap()
    }

    #[test]
    fn keys_and_signatures_agree_with_rfc_8032() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let key = from_seed(seed);
            assert_eq!(key.public().as_bytes().as_slice(), bytes(public));
            assert_eq!(key.sign(&bytes(message)).as_slice(), bytes(signature));
            key.public().verify(&bytes(message), &bytes(signature)).unwrap();
        }
    }

    #[test]
    fn small_order_and_non_canonical_keys_are_refused() {
        let mut points: Vec<[u8; 32]> = SMALL_ORDER_Y.to_vec();
        // y = p and y = p + 1 are second spellings of 0 and 1; y = p + 2 to 2^255 - 1 of numbers that are not small-order.
        for low in 0xed..=0xff {
            let mut y = FIELD_PRIME;
            y[0] = low;
            points.push(y);
        }
        for mut point in points {
            for sign in [0, 0x80] {
                point[31] = point[31] & 0x7f | sign;
                assert_eq!(PublicKey::from_bytes(&point), Err(CryptoError::Key), "{}", Digest(point));
            }
        }
    }

    #[test]
    fn a_malleable_s_is_refused() {
        // S + L, where L = 2^252 + 27742317777372353535851937790883648493 is the group's order.
        let order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let key = from_seed("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let mut signature = key.sign(b"message");
        let mut carry = 0u16;
        for (s, l) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*s) + u16::from(l) + carry;
            *s = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(key.public().verify(b"message", &signature), Err(CryptoError::Signature));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let key = SigningKey::generate().unwrap();
        let signature = key.sign(b"message");
        for bit in 0..signature.len() * 8 {
            let mut bad = signature;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.public().verify(b"message", &bad), Err(CryptoError::Signature), "bit {bit}");
        }
        assert!(key.public().verify(b"message", &signature[..63]).is_err());
        assert!(key.public().verify(b"message", &[signature.as_slice(), &[0]].concat()).is_err());
        assert!(key.public().verify(b"massage", &signature).is_err());
        assert!(SigningKey::generate().unwrap().public().verify(b"message", &signature).is_err());
    }

    #[test]
    fn keys_survive_their_files() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8().expose()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.sign(b"x"), key.sign(b"x"));
        let public = key.public();
        assert_eq!(PublicKey::from_spki_der(&public.to_spki_der()), Ok(public));
        assert_eq!(PublicKey::from_pem(&public.to_pem()), Ok(public));
        assert!(PublicKey::from_pem(&format!("x{}", public.to_pem())).is_err());
        assert!(PublicKey::from_pem(&public.to_pem().repeat(2)).is_err());
        assert!(PublicKey::from_spki_der(&public.to_spki_der()[..43]).is_err());
        assert!(SigningKey::from_pkcs8(b"").is_err());
        assert!(!format!("{key:?}").contains(&Digest(*key.seed).to_hex()));
    }

    /// The example key of RFC 8410, section 10.
    #[test]
    fn fingerprints_are_of_the_spki_of_rfc_8410() {
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = PublicKey::from_pem(pem).unwrap();
        assert_eq!(key.to_pem(), pem);
        assert_eq!(key.fingerprint(), sha256(&key.to_spki_der()));
    }
}

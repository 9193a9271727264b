//! The primitives of SNMPv3's user-based security model: keys from passwords (RFC 3414, appendix A), message authentication (RFC 3414,
//! RFC 7860) and privacy (RFC 3414, RFC 3826, and AES with longer keys as net-snmp and Cisco do it).
//!
//! **Not for** message formats, engines or time windows: those are `transport`'s.
//!
//! Invariants:
//! - MD5 and DES are here because devices know nothing better. They are absent from a FIPS build and from one without the feature `legacy`,
//!   where [`MasterKey::derive`] and [`LocalKey::privacy`] refuse them;
//! - SHA and AES are the module's own in every build;
//! - keys are wiped when they are dropped.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::{CryptoError, constant_time_eq};

#[cfg(all(feature = "legacy", not(feature = "fips")))]
mod legacy;

/// How much repeated password is hashed into a key (RFC 3414, A.2).
const STRETCHED: usize = 1_048_576;
/// Shortest password (RFC 3414, 11.2).
pub const PASSWORD_BYTES_MIN: usize = 8;

/// How messages are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// HMAC-MD5-96 (RFC 3414).
    Md5,
    /// HMAC-SHA-96 (RFC 3414).
    Sha1,
    /// HMAC-128-SHA-224 (RFC 7860).
    Sha224,
    /// HMAC-192-SHA-256 (RFC 7860).
    Sha256,
    /// HMAC-256-SHA-384 (RFC 7860).
    Sha384,
    /// HMAC-384-SHA-512 (RFC 7860).
    Sha512,
}

/// How messages are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// CBC-DES (RFC 3414).
    Des,
    /// CFB128-AES-128 (RFC 3826).
    Aes128,
    /// The same with 192 bits; short keys are prolonged as in draft-blumenthal-aes-usm-04.
    Aes192,
    /// The same with 256 bits; short keys are prolonged as in draft-blumenthal-aes-usm-04.
    Aes256,
    /// 192 bits; short keys are prolonged as in draft-reeder-snmpv3-usm-3desede-00, which is what Cisco does.
    Aes192Cisco,
    /// 256 bits; short keys are prolonged as in draft-reeder-snmpv3-usm-3desede-00, which is what Cisco does.
    Aes256Cisco,
}

impl Authentication {
    /// Bytes of the code in a message.
    pub const fn code_bytes(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }

    /// Whether this build has it.
    pub const fn is_available(self) -> bool {
        !matches!(self, Self::Md5) || cfg!(all(feature = "legacy", not(feature = "fips")))
    }

    fn sha(self) -> Option<(&'static digest::Algorithm, hmac::Algorithm)> {
        Some(match self {
            Self::Md5 => return None,
            Self::Sha1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha224 => (&digest::SHA224, hmac::HMAC_SHA224),
            Self::Sha256 => (&digest::SHA256, hmac::HMAC_SHA256),
            Self::Sha384 => (&digest::SHA384, hmac::HMAC_SHA384),
            Self::Sha512 => (&digest::SHA512, hmac::HMAC_SHA512),
        })
    }

    /// The hash of pieces in order.
    #[cfg_attr(
        all(feature = "legacy", not(feature = "fips")),
        expect(clippy::unnecessary_wraps, reason = "fails in a build without the feature")
    )]
    fn hash<'a>(self, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let Some((sha, _)) = self.sha() else {
            #[cfg(all(feature = "legacy", not(feature = "fips")))]
            return Ok(legacy::md5(pieces));
            #[cfg(not(all(feature = "legacy", not(feature = "fips"))))]
            return Err(CryptoError::Unavailable);
        };
        let mut context = digest::Context::new(sha);
        pieces.for_each(|piece| context.update(piece));
        Ok(Zeroizing::new(context.finish().as_ref().to_vec()))
    }
}

impl Privacy {
    /// Whether this build has it.
    pub const fn is_available(self) -> bool {
        !matches!(self, Self::Des) || cfg!(all(feature = "legacy", not(feature = "fips")))
    }

    /// Bytes of its key; DES's are a key and what the initialization vector is made from.
    const fn key_bytes(self) -> usize {
        match self {
            Self::Des | Self::Aes128 => 16,
            Self::Aes192 | Self::Aes192Cisco => 24,
            Self::Aes256 | Self::Aes256Cisco => 32,
        }
    }

    fn aes(self) -> Option<&'static Algorithm> {
        match self {
            Self::Des => None,
            Self::Aes128 => Some(&AES_128),
            Self::Aes192 | Self::Aes192Cisco => Some(&AES_192),
            Self::Aes256 | Self::Aes256Cisco => Some(&AES_256),
        }
    }
}

/// The key of a password, good for every engine (`Ku`). Making one hashes a megabyte: keep it.
pub struct MasterKey {
    authentication: Authentication,
    key: Zeroizing<Vec<u8>>,
}

impl MasterKey {
    /// Makes the key of a password.
    pub fn derive(authentication: Authentication, password: &[u8]) -> Result<Self, CryptoError> {
        if password.len() < PASSWORD_BYTES_MIN {
            return Err(CryptoError::Key);
        }
        Ok(Self { authentication, key: stretch(authentication, password)? })
    }

    /// The key for one engine (`Kul`).
    pub fn localize(&self, engine_id: &[u8]) -> Result<LocalKey, CryptoError> {
        let key = localized(self.authentication, &self.key, engine_id)?;
        Ok(LocalKey { authentication: self.authentication, key })
    }
}

fn stretch(authentication: Authentication, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    // A whole number of passwords, so that the next piece goes on where this one ends.
    let block = Zeroizing::new(password.repeat((4_096 / password.len().max(1)).max(1)));
    let whole = STRETCHED / block.len().max(1);
    let rest = block.get(..STRETCHED - whole * block.len()).unwrap_or_default();
    authentication.hash(std::iter::repeat_n(block.as_slice(), whole).chain([rest]))
}

fn localized(authentication: Authentication, key: &[u8], engine_id: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    authentication.hash([key, engine_id, key].into_iter())
}

/// The key of a password for one engine.
pub struct LocalKey {
    authentication: Authentication,
    key: Zeroizing<Vec<u8>>,
}

impl LocalKey {
    /// The code of a message whose own code is zeros.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut code = match self.authentication.sha() {
            Some((_, algorithm)) => hmac::sign(&hmac::Key::new(algorithm, &self.key), message).as_ref().to_vec(),
            #[cfg(all(feature = "legacy", not(feature = "fips")))]
            None => legacy::hmac_md5(&self.key, message)?,
            #[cfg(not(all(feature = "legacy", not(feature = "fips"))))]
            None => return Err(CryptoError::Unavailable),
        };
        code.truncate(self.authentication.code_bytes());
        Ok(code)
    }

    /// Whether `code` is the one of a message whose own code is zeros.
    pub fn verify(&self, message: &[u8], code: &[u8]) -> Result<(), CryptoError> {
        if constant_time_eq(&self.sign(message)?, code) { Ok(()) } else { Err(CryptoError::Signature) }
    }

    /// The key for privacy, of a password for privacy.
    pub fn privacy(&self, privacy: Privacy, engine_id: &[u8]) -> Result<PrivacyKey, CryptoError> {
        if !privacy.is_available() {
            return Err(CryptoError::Unavailable);
        }
        let mut key = self.key.clone();
        let mut last = self.key.clone();
        while key.len() < privacy.key_bytes() {
            last = match privacy {
                Privacy::Aes192Cisco | Privacy::Aes256Cisco => {
                    let next = stretch(self.authentication, &last)?;
                    localized(self.authentication, &next, engine_id)?
                }
                _ => self.authentication.hash([key.as_slice()].into_iter())?,
            };
            key = Zeroizing::new([key.as_slice(), last.as_slice()].concat());
        }
        key.truncate(privacy.key_bytes());
        Ok(PrivacyKey { privacy, key })
    }
}

/// A key that encrypts for one engine.
pub struct PrivacyKey {
    privacy: Privacy,
    key: Zeroizing<Vec<u8>>,
}

impl PrivacyKey {
    /// Encrypts in place (DES pads with zeros first). `salt` must never repeat under this key. Returns the privacy parameters of the message.
    #[cfg_attr(not(feature = "legacy"), expect(clippy::ptr_arg, reason = "DES makes it longer"))]
    pub fn seal(&self, boots: u32, time: u32, salt: u64, data: &mut Vec<u8>) -> Result<[u8; 8], CryptoError> {
        let Some(aes) = self.privacy.aes() else {
            #[cfg(all(feature = "legacy", not(feature = "fips")))]
            {
                let parameters = (u64::from(boots) << 32 | salt & u64::from(u32::MAX)).to_be_bytes();
                legacy::des_seal(&self.key, parameters, data)?;
                return Ok(parameters);
            }
            #[cfg(not(all(feature = "legacy", not(feature = "fips"))))]
            return Err(CryptoError::Unavailable);
        };
        let parameters = salt.to_be_bytes();
        let key = UnboundCipherKey::new(aes, &self.key).map_err(|_| CryptoError::Key)?;
        let key = EncryptingKey::cfb128(key).map_err(|_| CryptoError::Key)?;
        let iv = EncryptionContext::Iv128(FixedLength::from(iv(boots, time, parameters)));
        key.less_safe_encrypt(data, iv).map_err(|_| CryptoError::Seal)?;
        Ok(parameters)
    }

    /// Decrypts in place. The plaintext of DES may be followed by up to seven bytes of padding.
    pub fn open(&self, boots: u32, time: u32, parameters: [u8; 8], data: &mut [u8]) -> Result<(), CryptoError> {
        let Some(aes) = self.privacy.aes() else {
            #[cfg(all(feature = "legacy", not(feature = "fips")))]
            return legacy::des_open(&self.key, parameters, data);
            #[cfg(not(all(feature = "legacy", not(feature = "fips"))))]
            return Err(CryptoError::Unavailable);
        };
        let key = UnboundCipherKey::new(aes, &self.key).map_err(|_| CryptoError::Key)?;
        let key = DecryptingKey::cfb128(key).map_err(|_| CryptoError::Key)?;
        let iv = DecryptionContext::Iv128(FixedLength::from(iv(boots, time, parameters)));
        key.decrypt(data, iv).map(drop).map_err(|_| CryptoError::Open)
    }
}

/// RFC 3826, 3.1.2.1: boots, time, salt.
fn iv(boots: u32, time: u32, salt: [u8; 8]) -> [u8; 16] {
    (u128::from(boots) << 96 | u128::from(time) << 64 | u128::from(u64::from_be_bytes(salt))).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn local(authentication: Authentication, password: &[u8]) -> LocalKey {
        MasterKey::derive(authentication, password).unwrap().localize(&ENGINE).unwrap()
    }

    #[test]
    fn keys_agree_with_rfc_3414_appendix_a3() {
        let sha = MasterKey::derive(Authentication::Sha1, b"maplesyrup").unwrap();
        assert_eq!(hex(&sha.key), "9fb5cc0381497b3793528939ff788d5d79145211");
        assert_eq!(hex(&sha.localize(&ENGINE).unwrap().key), "6695febc9288e36282235fc7151f128497b38f3f");
        if Authentication::Md5.is_available() {
            let md5 = MasterKey::derive(Authentication::Md5, b"maplesyrup").unwrap();
            assert_eq!(hex(&md5.key), "9faf3283884e92834ebc9847d8edd963");
            assert_eq!(hex(&md5.localize(&ENGINE).unwrap().key), "526f5eed9fcce26f8964c2930787d82b");
        }
    }

    #[test]
    fn a_code_is_as_long_as_its_rfc_says_and_of_this_message_and_key_only() {
        for authentication in [
            Authentication::Md5,
            Authentication::Sha1,
            Authentication::Sha224,
            Authentication::Sha256,
            Authentication::Sha384,
            Authentication::Sha512,
        ] {
            if !authentication.is_available() {
                assert_eq!(
                    MasterKey::derive(authentication, b"maplesyrup").err(),
                    Some(CryptoError::Unavailable),
                    "{authentication:?}"
                );
                continue;
            }
            let key = local(authentication, b"maplesyrup");
            let code = key.sign(b"message").unwrap();
            assert_eq!(code.len(), authentication.code_bytes());
            key.verify(b"message", &code).unwrap();
            assert!(key.verify(b"messagf", &code).is_err());
            assert!(key.verify(b"message", &code[..code.len() - 1]).is_err());
            assert!(key.verify(b"message", b"").is_err());
            assert!(local(authentication, b"maplesirup").verify(b"message", &code).is_err());
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_engine_time_and_salt_only() {
        for privacy in [
            Privacy::Des,
            Privacy::Aes128,
            Privacy::Aes192,
            Privacy::Aes256,
            Privacy::Aes192Cisco,
            Privacy::Aes256Cisco,
        ] {
            let key = local(Authentication::Sha1, b"maplesyrup");
            if !privacy.is_available() {
                assert_eq!(key.privacy(privacy, &ENGINE).err(), Some(CryptoError::Unavailable));
                continue;
            }
            let key = key.privacy(privacy, &ENGINE).unwrap();
            let plain = b"a scoped PDU of some length".to_vec();
            let mut data = plain.clone();
            let parameters = key.seal(3, 400, 7, &mut data).unwrap();
            assert_ne!(data[..plain.len()], plain[..]);
            let mut opened = data.clone();
            key.open(3, 400, parameters, &mut opened).unwrap();
            assert_eq!(opened[..plain.len()], plain[..], "{privacy:?}");
            let mut other = data.clone();
            let mut changed = parameters;
            changed[7] ^= 1;
            key.open(3, 400, changed, &mut other).unwrap();
            assert_ne!(other[..plain.len()], plain[..], "{privacy:?}");
        }
    }

    #[test]
    fn the_two_ways_to_prolong_a_key_differ_only_where_it_is_too_short() {
        for (authentication, differ) in [(Authentication::Sha1, true), (Authentication::Sha256, false)] {
            let key = local(authentication, b"maplesyrup");
            let one = key.privacy(Privacy::Aes256, &ENGINE).unwrap();
            let two = key.privacy(Privacy::Aes256Cisco, &ENGINE).unwrap();
            assert_eq!(one.key != two.key, differ, "{authentication:?}");
        }
    }

    #[test]
    fn short_passwords_are_refused() {
        for bad in [&b""[..], b"1234567"] {
            assert_eq!(MasterKey::derive(Authentication::Sha256, bad).err(), Some(CryptoError::Key));
        }
    }

    #[test]
    fn des_refuses_what_is_no_whole_number_of_blocks() {
        if Privacy::Des.is_available() {
            let key = local(Authentication::Sha1, b"maplesyrup").privacy(Privacy::Des, &ENGINE).unwrap();
            assert_eq!(key.open(1, 1, [0; 8], &mut [0; 9]), Err(CryptoError::Open));
        }
    }
}

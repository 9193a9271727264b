//! SSH public keys as their one-line text has them (RFC 4253, 5656, 8709), their fingerprints, and OpenSSH certificates of them.
//!
//! **Not for** the protocol, or for verifying signatures of such keys: `transport` and OpenSSH do that.

mod certificate;
mod private;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::{CryptoError, ed25519, sha256};

pub use certificate::{Certificate, CertificateKind};
pub use private::private_key;

/// Longest key, in bytes: RSA of 16,384 bits takes a little over two thousand.
const KEY_BYTES_MAX: usize = 4_096;
/// Smallest modulus of RSA, in bytes.
const RSA_BYTES_MIN: usize = 256;

/// Reads SSH's length-prefixed fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(field)
    }
}

/// Appends a length-prefixed field.
fn put(out: &mut Vec<u8>, field: &[u8]) {
    // Whatever is put here is bounded long before 4 GiB.
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(field);
}

/// A curve of ECDSA: its name and the bytes of a point.
type Curve = (&'static [u8], usize);

/// Kinds of keys.
const KINDS: [(&str, Option<Curve>); 5] = [
    ("ssh-ed25519", None),
    ("ecdsa-sha2-nistp256", Some((b"nistp256", 65))),
    ("ecdsa-sha2-nistp384", Some((b"nistp384", 97))),
    ("ecdsa-sha2-nistp521", Some((b"nistp521", 133))),
    ("ssh-rsa", None),
];

/// A public key: of a known kind, of the form that its kind has, with nothing behind it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: &'static str,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads the bytes of RFC 4253, section 6.6.
    pub fn from_bytes(blob: &[u8]) -> Result<Self, CryptoError> {
        let mut fields = Fields(blob);
        let name = fields.next().filter(|_| blob.len() <= KEY_BYTES_MAX).ok_or(CryptoError::Key)?;
        let known = KINDS.iter().find(|(kind, _)| kind.as_bytes() == name);
        let (kind, curve) = known.ok_or(CryptoError::Key)?;
        let fits = match (*kind, curve) {
            ("ssh-ed25519", _) => fields.next().is_some_and(|raw| ed25519::PublicKey::from_bytes(raw).is_ok()),
            (_, Some((curve, bytes))) => {
                let named = fields.next() == Some(*curve);
                named && fields.next().is_some_and(|point| point.len() == *bytes && point.first() == Some(&4))
            }
            _ => {
                let number = |field: &[u8]| field.first().is_some_and(|byte| byte & 0x80 == 0);
                fields.next().is_some_and(number)
                    && fields.next().is_some_and(|modulus| number(modulus) && modulus.len() >= RSA_BYTES_MIN)
            }
        };
        if fits && fields.0.is_empty() { Ok(Self { kind, blob: blob.to_vec() }) } else { Err(CryptoError::Key) }
    }

    /// An Ed25519 key.
    pub fn of_ed25519(key: &ed25519::PublicKey) -> Self {
        let mut blob = Vec::with_capacity(51);
        put(&mut blob, b"ssh-ed25519");
        put(&mut blob, key.as_bytes());
        Self { kind: "ssh-ed25519", blob }
    }

    /// `ssh-ed25519`, …
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The bytes of RFC 4253, section 6.6.
    pub fn as_bytes(&self) -> &[u8] {
        &self.blob
    }

    /// As people compare it, and `ssh-keygen -l` shows it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(&self.blob).0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl FromStr for PublicKey {
    type Err = CryptoError;

    /// Reads `TYPE BASE64`, with or without a comment behind it; one line.
    fn from_str(text: &str) -> Result<Self, CryptoError> {
        let text = text.trim();
        let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
        let (Some(kind), Some(blob)) = (words.next(), words.next().filter(|_| !text.contains(['\n', '\r']))) else {
            return Err(CryptoError::Key);
        };
        if blob.len() > KEY_BYTES_MAX.div_ceil(3) * 4 {
            return Err(CryptoError::Key);
        }
        let key = Self::from_bytes(&STANDARD.decode(blob).map_err(|_| CryptoError::Key)?)?;
        if key.kind == kind { Ok(key) } else { Err(CryptoError::Key) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by `ssh-keygen -t ed25519`, with what `ssh-keygen -l` shows of it.
    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_is_read_and_written_as_openssh_does() {
        let key: PublicKey = format!("  {A} me@host\n").parse().unwrap();
        assert_eq!((key.to_string().as_str(), key.kind()), (A, "ssh-ed25519"));
        assert_eq!(PublicKey::from_bytes(key.as_bytes()), Ok(key.clone()));
        let raw = ed25519::PublicKey::from_bytes(&key.as_bytes()[19..]).unwrap();
        assert_eq!(PublicKey::of_ed25519(&raw), key);
    }

    #[test]
    fn what_is_no_whole_key_of_its_kind_is_refused() {
        let (_, base64) = A.split_once(' ').unwrap();
        let blob = STANDARD.decode(base64).unwrap();
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut blob = blob.clone();
            change(&mut blob);
            blob
        };
        for bad in [
            with(&|blob| blob.push(0)),
            with(&|blob| blob.truncate(50)),
            with(&|blob| blob[14] = b'8'),
            with(&|blob| blob[3] = 0xff),
            with(&|blob| blob[19..].fill(0)),
            Vec::new(),
        ] {
            assert_eq!(PublicKey::from_bytes(&bad), Err(CryptoError::Key), "{bad:?}");
        }
        for text in ["", "ssh-ed25519", &format!("ssh-rsa {base64}"), &A.replace(' ', "\n"), &format!("{A}\n{A}")] {
            assert_eq!(text.parse::<PublicKey>(), Err(CryptoError::Key), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..52) {
            let _ = PublicKey::from_bytes(&bytes);
            let key: PublicKey = A.parse().unwrap();
            let mixed = [&key.as_bytes()[..cut.min(key.as_bytes().len())], &bytes].concat();
            let _ = PublicKey::from_bytes(&mixed);
        }
    }
}

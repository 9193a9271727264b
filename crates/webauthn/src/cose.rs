//! Public keys as COSE writes them (RFC 9052, RFC 9053), of the three algorithms that are offered.

use crypto::verify;

use crate::cbor::Value;
use crate::{Refused, cbor};

const KTY: i64 = 1;
const ALG: i64 = 3;
const CRV: i64 = -1;
const X: i64 = -2;
const Y: i64 = -3;
const N: i64 = -1;
const E: i64 = -2;

/// A credential's public key: valid, and strong enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// ECDSA over P-256 with SHA-256 (-7).
    Es256 {
        /// The point.
        point: verify::P256Point,
    },
    /// RSASSA-PKCS1-v1_5 with SHA-256 (-257).
    Rs256 {
        /// Modulus and exponent.
        key: verify::RsaKey,
    },
    /// Ed25519 (-8).
    EdDsa {
        /// The key.
        key: [u8; 32],
    },
}

impl PublicKey {
    /// The algorithms' numbers at IANA, in the order in which they are preferred.
    pub const ALGORITHMS: [i64; 3] = [-8, -7, -257];

    /// The number of this key's algorithm.
    pub fn algorithm(&self) -> i64 {
        match self {
            Self::EdDsa { .. } => -8,
            Self::Es256 { .. } => -7,
            Self::Rs256 { .. } => -257,
        }
    }

    /// Reads a COSE_Key of exactly the members that its algorithm has.
    pub(crate) fn from_cose(key: &Value) -> Result<Self, Refused> {
        let bytes = |label: i64| key.at(label).and_then(Value::bytes).ok_or(Refused::Key);
        let number = |label: i64| key.at(label).and_then(Value::integer);
        let (parsed, members) = match (number(KTY), number(ALG)) {
            (Some(2), Some(-7)) if number(CRV) == Some(1) => {
                let point = verify::P256Point::new(bytes(X)?, bytes(Y)?).map_err(|_| Refused::Key)?;
                (Self::Es256 { point }, 5)
            }
            (Some(3), Some(-257)) => {
                let rsa = verify::RsaKey::new(bytes(N)?, bytes(E)?).map_err(|_| Refused::Key)?;
                (Self::Rs256 { key: rsa }, 4)
            }
            (Some(1), Some(-8)) if number(CRV) == Some(6) => {
                let bytes = <[u8; 32]>::try_from(bytes(X)?).map_err(|_| Refused::Key)?;
                crypto::ed25519::PublicKey::from_bytes(&bytes).map_err(|_| Refused::Key)?;
                (Self::EdDsa { key: bytes }, 4)
            }
            _ => return Err(Refused::Key),
        };
        if key.entries() == Some(members) { Ok(parsed) } else { Err(Refused::Key) }
    }

    /// Reads what [`PublicKey::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        Self::from_cose(&cbor::read_all(bytes).ok_or(Refused::Key)?)
    }

    /// The key as a canonical COSE_Key.
    pub fn to_bytes(&self) -> Vec<u8> {
        let string = |out: &mut Vec<u8>, bytes: &[u8]| {
            // A byte string under 65,536 bytes, its length in the shortest form.
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            let [high, low] = length.to_be_bytes();
            match length {
                0..=23 => out.push(0x40 | low),
                24..=255 => out.extend([0x58, low]),
                _ => out.extend([0x59, high, low]),
            }
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Es256 { point } => {
                let mut out = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
                string(&mut out, point.x());
                out.push(0x22);
                string(&mut out, point.y());
                out
            }
            Self::Rs256 { key } => {
                let mut out = vec![0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20];
                string(&mut out, key.modulus());
                out.push(0x21);
                string(&mut out, key.exponent());
                out
            }
            Self::EdDsa { key } => {
                let mut out = vec![0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21];
                string(&mut out, key);
                out
            }
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        match self {
            Self::Es256 { point } => point.verify_der(message, signature),
            Self::Rs256 { key } => key.verify_pkcs1_sha256(message, signature),
            Self::EdDsa { key } => {
                crypto::ed25519::PublicKey::from_bytes(key).and_then(|key| key.verify(message, signature))
            }
        }
        .map_err(|_| Refused::Signature)
    }
}

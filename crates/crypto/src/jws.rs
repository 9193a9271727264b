//! Tokens that others signed: JSON Web Signatures (RFC 7515) with a public key out of a key set (RFC 7517), strictly parsed (RFC 8725).
//!
//! The algorithm is one of a short list and bound to the key: an RSA key verifies RS256 and PS256 (only the one that it names, if it names one),
//! a P-256 key ES256, a P-384 key ES384, an Ed25519 key `EdDSA`. There is no `none`, no MAC, and no header member that brings or names a key
//! elsewhere. What `iss`, `aud` and `nonce` must be is the caller's to check.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use crate::jwt::decode;
use crate::{CryptoError, ed25519, strict_json};

/// Longest token, in bytes: an ID token may list the groups of its user.
pub const TOKEN_BYTES_MAX: usize = 64 * 1_024;
/// Most keys of a set that are looked at.
const KEYS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

/// What verifies, under the one spelling that a header may use.
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("RS256", Algorithm::Rs256),
    ("PS256", Algorithm::Ps256),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
    // RFC 9864's name for the same.
    ("Ed25519", Algorithm::EdDsa),
];

fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

#[derive(Debug, Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(ed25519::PublicKey),
}

#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    /// The only algorithm that the key says it is for.
    only: Option<Algorithm>,
    material: Material,
}

impl Key {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = matches!(
            (&self.material, algorithm),
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Material::P256(_), Algorithm::Es256)
                | (Material::P384(_), Algorithm::Es384)
                | (Material::Ed25519(_), Algorithm::EdDsa)
        );
        fits && self.only.is_none_or(|only| only == algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let ecdsa = |algorithm: &'static EcdsaVerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Material::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
            }
            (Material::P256(point), Algorithm::Es256) => ecdsa(&ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), Algorithm::Es384) => ecdsa(&ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(key), Algorithm::EdDsa) => key.verify(message, signature).is_ok(),
            _ => false,
        }
    }
}

/// Reads one key of a set; none for what cannot verify anything here: another type, curve or use, a private key, a weak or broken one.
fn key(jwk: &Value) -> Option<Key> {
    let jwk = jwk.as_object()?;
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| decode(text(name)?).ok();
    let for_signatures = jwk.get("use").is_none_or(|usage| usage == "sig");
    let may_verify =
        jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    // Somebody published a private key: whoever reads it can sign.
    if !for_signatures || !may_verify || jwk.contains_key("d") || jwk.contains_key("k") {
        return None;
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(name) => Some(algorithm(name.as_str()?)?),
    };
    let point = |bytes_each: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == bytes_each && y.len() == bytes_each).then(|| [&[4u8][..], &x, &y].concat())
    };
    let material = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // An exponent of 1 makes every message its own signature; the modulus' size is checked by the library.
            let odd = e.last().is_some_and(|last| last & 1 == 1);
            (odd && e != [1] && e.len() <= 4 && n.first() != Some(&0)).then_some(Material::Rsa { n, e })?
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(ed25519::PublicKey::from_bytes(&bytes("x")?).ok()?),
        _ => return None,
    };
    Some(Key { kid: text("kid").map(str::to_owned), only, material })
}

/// The public keys of somebody who signs tokens.
#[derive(Debug, Clone)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that cannot verify anything here are left out; a set without any other is refused.
    pub fn parse(text: &[u8]) -> Result<Self, CryptoError> {
        let set = strict_json::parse(text).ok_or(CryptoError::Key)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(CryptoError::Key)?;
        let keys: Vec<Key> = keys.iter().take(KEYS_MAX).filter_map(key).collect();
        if keys.is_empty() { Err(CryptoError::Key) } else { Ok(Self(keys)) }
    }
}

/// Why a token does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It is no token of an accepted form: other algorithm, other header members, other encoding.
    #[error("the token is malformed or signed with an algorithm that is not accepted")]
    Malformed,
    /// The set holds no key that the token names and that its algorithm may use: the set may be old.
    #[error("the token names a key that is not known")]
    UnknownKey,
    /// The key is there and the signature is not its own.
    #[error("the token's signature does not verify")]
    Signature,
}

/// The claims of a token that one of `keys` signed.
pub fn verify(token: &str, keys: &KeySet) -> Result<Value, JwsError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(JwsError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(JwsError::Malformed)?;
    if claims.contains('.') {
        return Err(JwsError::Malformed);
    }
    let part = |text: &str| decode(text).map_err(|_| JwsError::Malformed);
    let header = strict_json::parse(&part(header)?).ok_or(JwsError::Malformed)?;
    let (algorithm, kid) = header.as_object().and_then(named).ok_or(JwsError::Malformed)?;
    let signature = part(signature)?;
    let fitting: Vec<&Key> =
        keys.0.iter().filter(|key| key.is_for(algorithm) && (kid.is_none() || key.kid.as_deref() == kid)).collect();
    // Without a name only one key can be meant: trying all would let any of them speak for any other.
    if fitting.is_empty() || (kid.is_none() && fitting.len() > 1) {
        return Err(JwsError::UnknownKey);
    }
    if !fitting.iter().any(|key| key.verifies(algorithm, signed.as_bytes(), &signature)) {
        return Err(JwsError::Signature);
    }
    let claims = strict_json::parse(&part(claims)?).ok_or(JwsError::Malformed)?;
    if claims.is_object() { Ok(claims) } else { Err(JwsError::Malformed) }
}

/// The algorithm and the key's name. Certificate thumbprints (`x5t`) are let pass, since Entra ID sends them, and are not looked at; whatever
/// else a header says is refused.
fn named(header: &Map<String, Value>) -> Option<(Algorithm, Option<&str>)> {
    for (name, value) in header {
        let known = match name.as_str() {
            "alg" | "kid" | "x5t" | "x5t#S256" => value.is_string(),
            "typ" => value.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")),
            _ => false,
        };
        if !known {
            return None;
        }
    }
    let algorithm = algorithm(header.get("alg")?.as_str()?)?;
    Some((algorithm, header.get("kid").and_then(Value::as_str)))
}

#[cfg(test)]
#[path = "jws/tests.rs"]
mod tests;

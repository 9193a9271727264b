//! ES512 (RFC 7518, section 3.4): ECDSA over P-521 with SHA-512, and tokens that are signed with it.
//!
//! A token's header is `alg` = `ES512`, `kid` and `typ` = `JWT`, each exactly once and nothing else: no other algorithm, no key that the token
//! brings or names elsewhere, no extension. A key's name is its thumbprint (RFC 7638), so that it cannot be another key's. What `iss`, `aud` and
//! the times must be is the caller's to check.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Secret;
use serde_json::{Value, json};

use crate::jwt::{TOKEN_BYTES_MAX, decode};
use crate::{CryptoError, sha256, strict_json};

/// Bytes of a coordinate, and of each half of a signature.
const HALF_BYTES: usize = 66;
/// Bytes of a signature: `r` and `s`, big-endian.
pub const SIGNATURE_BYTES: usize = 2 * HALF_BYTES;
/// Bytes of a public key: SEC 1, section 2.3.3, uncompressed.
pub const PUBLIC_BYTES: usize = 1 + 2 * HALF_BYTES;
/// Most keys of a set.
const KEYS_MAX: usize = 16;

/// A private key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new key from the library's own random generator.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::new(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).map_err(|_| CryptoError::Key)?)
    }

    /// Reads a key in PKCS #8 DER, as [`SigningKey::to_pkcs8`] writes it.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CryptoError> {
        Self::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, der).map_err(|_| CryptoError::Key)?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, CryptoError> {
        let public = PublicKey::from_bytes(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key in PKCS #8 version 1 DER.
    pub fn to_pkcs8(&self) -> Result<Secret, CryptoError> {
        Ok(Secret::new(self.pair.to_pkcs8v1().map_err(|_| CryptoError::Key)?.as_ref().to_vec()))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A token with these claims.
    pub fn sign_jwt(&self, claims: &Value) -> Result<String, CryptoError> {
        let header = json!({"alg": "ES512", "kid": self.public.kid(), "typ": "JWT"}).to_string();
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| CryptoError::Key)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[signing key {}]", self.public.kid())
    }
}

/// A public key: a point of the curve.
#[derive(Clone)]
pub struct PublicKey {
    parsed: ParsedPublicKey,
    kid: String,
}

impl PublicKey {
    /// Reads the point, uncompressed; refuses what is not on the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != PUBLIC_BYTES {
            return Err(CryptoError::Key);
        }
        let parsed = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, bytes).map_err(|_| CryptoError::Key)?;
        let (x, y) = coordinates(bytes);
        // RFC 7638, section 3.2: the required members in the order of their names.
        let members = format!(r#"{{"crv":"P-521","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(sha256(members.as_bytes()).0);
        Ok(Self { parsed, kid })
    }

    /// The point, uncompressed.
    pub fn as_bytes(&self) -> &[u8] {
        self.parsed.as_ref()
    }

    /// Its name: the thumbprint (RFC 7638), base64url.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Verifies a signature in JOSE's form: `r` and `s`, 66 bytes each.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if signature.len() != SIGNATURE_BYTES {
            return Err(CryptoError::Signature);
        }
        self.parsed.verify_sig(message, signature).map_err(|_| CryptoError::Signature)
    }

    /// The key as a member of a key set (RFC 7517).
    pub fn to_jwk(&self) -> Value {
        let (x, y) = coordinates(self.as_bytes());
        json!({"kty": "EC", "crv": "P-521", "x": x, "y": y, "kid": self.kid, "use": "sig", "alg": "ES512"})
    }

    /// Reads a member of a key set; none for what is not exactly a key for ES512 under its own name.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let jwk = jwk.as_object()?;
        let is = |name: &str, value: &str| jwk.get(name).and_then(Value::as_str) == Some(value);
        let fits = is("kty", "EC") && is("crv", "P-521") && is("use", "sig") && is("alg", "ES512");
        if !fits || jwk.contains_key("d") {
            return None;
        }
        let half = |name: &str| decode(jwk.get(name)?.as_str()?).ok().filter(|bytes| bytes.len() == HALF_BYTES);
        let key = Self::from_bytes(&[&[4u8][..], &half("x")?, &half("y")?].concat()).ok()?;
        is("kid", &key.kid).then_some(key)
    }
}

fn coordinates(point: &[u8]) -> (String, String) {
    let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(HALF_BYTES).unwrap_or_default();
    (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

/// The public keys of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// These keys.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// Reads a JSON Web Key Set (RFC 7517). Keys for anything but ES512, and under a name that is not their own, are left out; a set without
    /// any other is refused.
    pub fn parse(text: &[u8]) -> Result<Self, CryptoError> {
        let set = strict_json::parse(text).ok_or(CryptoError::Key)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(CryptoError::Key)?;
        let keys: Vec<_> = keys.iter().take(KEYS_MAX).filter_map(PublicKey::from_jwk).collect();
        if keys.is_empty() { Err(CryptoError::Key) } else { Ok(Self(keys)) }
    }

    /// The set as it is published.
    pub fn to_json(&self) -> Value {
        json!({"keys": self.0.iter().map(PublicKey::to_jwk).collect::<Vec<_>>()})
    }

    /// Whether it holds a key of this name.
    pub fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid == kid)
    }
}

/// Why a token does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Es512Error {
    /// It is no token of the accepted form: another algorithm, other header members, another encoding.
    #[error("the token is malformed or signed with an algorithm that is not accepted")]
    Malformed,
    /// The set holds no key of this name: the set may be old, or the key was withdrawn.
    #[error("the token names a key that is not known")]
    UnknownKey,
    /// The key is there and the signature is not its own.
    #[error("the token's signature does not verify")]
    Signature,
}

/// The claims of a token that the key which it names signed, if the set holds it.
pub fn verify_jwt(token: &str, keys: &KeySet) -> Result<Value, Es512Error> {
    let malformed = |_: CryptoError| Es512Error::Malformed;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Es512Error::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Es512Error::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Es512Error::Malformed)?;
    if claims.contains('.') {
        return Err(Es512Error::Malformed);
    }
    let header = strict_json::parse(&decode(header).map_err(malformed)?).ok_or(Es512Error::Malformed)?;
    let member = |name: &str| header.get(name).and_then(Value::as_str);
    let exact = header.as_object().is_some_and(|members| members.len() == 3);
    let (true, Some("ES512"), Some("JWT"), Some(kid)) = (exact, member("alg"), member("typ"), member("kid")) else {
        return Err(Es512Error::Malformed);
    };
    let signature = decode(signature).map_err(malformed)?;
    let key = keys.0.iter().find(|key| key.kid == kid).ok_or(Es512Error::UnknownKey)?;
    key.verify(signed.as_bytes(), &signature).map_err(|_| Es512Error::Signature)?;
    let claims = strict_json::parse(&decode(claims).map_err(malformed)?).ok_or(Es512Error::Malformed)?;
    if claims.is_object() { Ok(claims) } else { Err(Es512Error::Malformed) }
}

#[cfg(test)]
#[path = "es512/tests.rs"]
mod tests;

//! Tokens that are good only together with a key, and the proofs that somebody holds it: JWT with `cnf` (RFC 7800, with the thumbprint of RFC
//! 7638) and proofs in the shape of DPoP (RFC 9449), both Ed25519 only (RFC 8037) and strictly parsed (RFC 8725).
//!
//! A proof is of one request: its method, its path with its query, the digest of its body, the token that goes with it, a time, an id of its
//! own, and a number that its signer never uses twice. It differs from RFC 9449 in three points. `htu` is the path with its query and not a
//! URL, since one server is reached under many names, also through a relay; which installation is meant says `aud`. `n` is the number and
//! `bd` the digest of the body. What the claims must be is the caller's to check.
//!
//! No token of one kind is one of another: each has a `typ` of its own (RFC 8725, section 3.11).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Digest;
use serde_json::{Map, Value, json};

use crate::ed25519::{PublicKey, SigningKey};
use crate::jwt::decode;
use crate::{CryptoError, constant_time_eq, sha256, strict_json};

/// Longest credential, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4 * 1_024;
/// Longest proof, in bytes: the longest path fits in.
pub const PROOF_BYTES_MAX: usize = 16 * 1_024;
const CREDENTIAL_TYP: &str = "cairn-fleet+jwt";
const PROOF_TYP: &str = "dpop+jwt";
/// Shortest and longest id of a proof, in characters.
const ID_CHARS: std::ops::RangeInclusive<usize> = 16..=64;

/// A public key as a JSON Web Key (RFC 8037).
pub fn to_jwk(key: &PublicKey) -> Value {
    json!({"crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(key.as_bytes())})
}

/// Reads a JSON Web Key: exactly these three members, so that no private key and no other purpose passes for one.
pub fn from_jwk(jwk: &Value) -> Result<PublicKey, CryptoError> {
    let jwk = jwk.as_object().ok_or(CryptoError::Key)?;
    let is = |name: &str, value: &str| jwk.get(name).and_then(Value::as_str) == Some(value);
    if jwk.len() != 3 || !is("kty", "OKP") || !is("crv", "Ed25519") {
        return Err(CryptoError::Key);
    }
    let x = jwk.get("x").and_then(Value::as_str).ok_or(CryptoError::Key)?;
    PublicKey::from_bytes(&decode(x).map_err(|_| CryptoError::Key)?)
}

/// A key's name (RFC 7638): base64url of SHA-256 of its canonical JSON Web Key.
pub fn thumbprint(key: &PublicKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
    encode(&sha256(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes()))
}

fn encode(digest: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

fn sign(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let mut token =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(token.as_bytes()));
    token.push('.');
    token.push_str(&signature);
    token
}

/// A token taken apart.
struct Parts<'a> {
    signed: &'a str,
    header: Map<String, Value>,
    signature: Vec<u8>,
}

fn split(token: &str, bytes_max: usize) -> Result<Parts<'_>, CryptoError> {
    if token.len() > bytes_max {
        return Err(CryptoError::Token);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(CryptoError::Token)?;
    let (header, claims) = signed.split_once('.').ok_or(CryptoError::Token)?;
    if claims.contains('.') {
        return Err(CryptoError::Token);
    }
    let Some(Value::Object(header)) = strict_json::parse(&decode(header)?) else { return Err(CryptoError::Token) };
    Ok(Parts { signed, header, signature: decode(signature)? })
}

fn has(header: &Map<String, Value>, typ: &str, members: usize) -> bool {
    let is = |name: &str, value: &str| header.get(name).and_then(Value::as_str) == Some(value);
    header.len() == members && is("alg", "EdDSA") && is("typ", typ)
}

/// The claims of a token whose signature verifies.
fn claims(signed: &str) -> Result<Map<String, Value>, CryptoError> {
    let (_, claims) = signed.split_once('.').ok_or(CryptoError::Token)?;
    match strict_json::parse(&decode(claims)?) {
        Some(Value::Object(claims)) => Ok(claims),
        _ => Err(CryptoError::Token),
    }
}

/// Signs a credential. `claims` has to hold `cnf`: see [`is_bound_to`].
pub fn sign_credential(claims: &Value, key: &SigningKey) -> String {
    sign(&json!({"alg": "EdDSA", "typ": CREDENTIAL_TYP}), claims, key)
}

/// The claims of a credential that one of `keys` signed.
pub fn verify_credential(token: &str, keys: &[PublicKey]) -> Result<Value, CryptoError> {
    let Parts { signed, header, signature } = split(token, CREDENTIAL_BYTES_MAX)?;
    if !has(&header, CREDENTIAL_TYP, 2) {
        return Err(CryptoError::Token);
    }
    if !keys.iter().any(|key| key.verify(signed.as_bytes(), &signature).is_ok()) {
        return Err(CryptoError::Signature);
    }
    claims(signed).map(Value::Object)
}

/// The claim that binds a token to a key.
pub fn confirmation(key: &PublicKey) -> Value {
    json!({"jkt": thumbprint(key)})
}

/// Whether verified claims bind their token to this key and to nothing else.
pub fn is_bound_to(claims: &Value, key: &PublicKey) -> bool {
    let Some(confirmed) = claims.get("cnf").and_then(Value::as_object) else { return false };
    let named = confirmed.get("jkt").and_then(Value::as_str).unwrap_or_default();
    confirmed.len() == 1 && constant_time_eq(named.as_bytes(), thumbprint(key).as_bytes())
}

/// What a proof says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `htm`: the request's method.
    pub method: String,
    /// `htu`: the request's path, with its query.
    pub target: String,
    /// `iat`: when it was signed, in seconds since 1970.
    pub at_s: i64,
    /// `jti`: its own id, 16 to 64 characters.
    pub id: String,
    /// `n`: greater than in every proof that this key signed before.
    pub number: i64,
    /// `bd`: SHA-256 of the request's body.
    pub body: Digest,
    /// `ath`: SHA-256 of the token that goes with it.
    pub token: Digest,
    /// `aud`: the installation that it is for; none only where it is not known yet.
    pub audience: Option<String>,
}

/// Signs a proof.
pub fn sign_proof(statement: &Statement, key: &SigningKey) -> String {
    let mut claims = json!({
        "htm": statement.method,
        "htu": statement.target,
        "iat": statement.at_s,
        "jti": statement.id,
        "n": statement.number,
        "bd": encode(&statement.body),
        "ath": encode(&statement.token),
    });
    if let (Some(audience), Some(claims)) = (&statement.audience, claims.as_object_mut()) {
        claims.insert("aud".to_owned(), Value::from(audience.as_str()));
    }
    sign(&json!({"alg": "EdDSA", "typ": PROOF_TYP, "jwk": to_jwk(&key.public())}), &claims, key)
}

/// Whose proof it is, and what it says. That the key is the right one is the caller's to check.
pub fn verify_proof(proof: &str) -> Result<(PublicKey, Statement), CryptoError> {
    let Parts { signed, header, signature } = split(proof, PROOF_BYTES_MAX)?;
    if !has(&header, PROOF_TYP, 3) {
        return Err(CryptoError::Token);
    }
    let key = from_jwk(header.get("jwk").ok_or(CryptoError::Token)?)?;
    key.verify(signed.as_bytes(), &signature)?;
    let claims = claims(signed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(CryptoError::Token);
    let number = |name: &str| claims.get(name).and_then(Value::as_i64).ok_or(CryptoError::Token);
    let digest = |name: &str| {
        let bytes = decode(&text(name)?)?;
        <[u8; 32]>::try_from(bytes.as_slice()).map(Digest).map_err(|_| CryptoError::Token)
    };
    let audience = claims.contains_key("aud").then(|| text("aud")).transpose()?;
    let statement = Statement {
        method: text("htm")?,
        target: text("htu")?,
        at_s: number("iat")?,
        id: text("jti")?,
        number: number("n")?,
        body: digest("bd")?,
        token: digest("ath")?,
        audience,
    };
    let sound = ID_CHARS.contains(&statement.id.len()) && statement.id.bytes().all(|byte| byte.is_ascii_graphic());
    // Nothing that is not looked at: a member that another version minds must not pass for one that was checked.
    let known = 7 + usize::from(statement.audience.is_some());
    if sound && statement.number >= 0 && claims.len() == known { Ok((key, statement)) } else { Err(CryptoError::Token) }
}

#[cfg(test)]
#[path = "possession/tests.rs"]
mod tests;

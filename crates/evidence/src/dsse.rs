//! Signing statements: DSSE envelopes, kept as the signed bytes themselves so that `openssl` verifies them without any JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::Digest;

use crate::statement::{Statement, StatementError};

/// The payload type of every statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// DSSE's pre-authentication encoding: `DSSEv1 <length> <type> <length> <body>`, lengths in decimal.
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// A signed statement. A bundle holds it in three forms: these two, and [`SignedStatement::envelope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatement {
    /// The bytes that were signed.
    pub pae: Vec<u8>,
    /// Ed25519 over `pae`.
    pub sig: [u8; 64],
    /// The key's fingerprint.
    pub keyid: Digest,
}

impl SignedStatement {
    /// A statement that was signed earlier. Checks the signature.
    pub fn stored(pae: Vec<u8>, sig: [u8; 64], key: &PublicKey) -> Result<Self, StatementError> {
        key.verify(&pae, &sig).map_err(|_| StatementError::Signature)?;
        body(&pae).ok_or(StatementError::Encoding)?;
        Ok(Self { pae, sig, keyid: key.fingerprint() })
    }

    /// The same as a DSSE envelope in canonical JSON. Every part is plain ASCII that needs no escape.
    pub fn envelope(&self) -> Vec<u8> {
        // Nothing makes one of these from bytes that have no body.
        let payload = STANDARD.encode(body(&self.pae).unwrap_or_default());
        let (keyid, sig) = (self.keyid, STANDARD.encode(self.sig));
        format!(
            r#"{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"{keyid}","sig":"{sig}"}}]}}"#
        )
        .into_bytes()
    }

    /// What it says.
    pub(crate) fn statement(&self) -> Result<Statement, StatementError> {
        Statement::from_json(body(&self.pae).ok_or(StatementError::Encoding)?)
    }

    /// SHA-256 of the signed bytes: how other statements refer to this one.
    pub fn digest(&self) -> Digest {
        crypto::sha256(&self.pae)
    }
}

/// Signs a statement's canonical JSON ([`Statement::to_json`]).
pub fn sign(statement_json: &[u8], key: &SigningKey) -> SignedStatement {
    let pae = pae(PAYLOAD_TYPE, statement_json);
    let (sig, keyid) = (key.sign(&pae), key.public().fingerprint());
    SignedStatement { pae, sig, keyid }
}

/// Checks the signature over `pae` and reads the statement out of those same bytes.
pub fn verify(pae: &[u8], sig: &[u8], key: &PublicKey) -> Result<Statement, StatementError> {
    key.verify(pae, sig).map_err(|_| StatementError::Signature)?;
    Statement::from_json(body(pae).ok_or(StatementError::Encoding)?)
}

/// The body inside a pre-authentication encoding of [`PAYLOAD_TYPE`]; `None` unless encoding it again gives the same bytes.
pub(crate) fn body(bytes: &[u8]) -> Option<&[u8]> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} ", PAYLOAD_TYPE.len());
    let rest = bytes.strip_prefix(head.as_bytes())?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (length, body) = (rest.get(..space)?, rest.get(space + 1..)?);
    (length == body.len().to_string().as_bytes()).then_some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_encoding_agrees_with_the_dsse_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn the_envelope_is_canonical_json() {
        let signed = sign(b"{}", &SigningKey::generate().unwrap());
        let value = serde_json::from_slice(&signed.envelope()).unwrap();
        assert_eq!(crate::jcs::canonical(&value).unwrap(), signed.envelope());
    }

    #[test]
    fn a_signed_body_that_is_no_statement_is_refused() {
        let key = SigningKey::generate().unwrap();
        let signed = sign(b"{}", &key);
        assert!(matches!(verify(&signed.pae, &signed.sig, &key.public()), Err(StatementError::Malformed(_))));
        let raw = b"DSSEv1 28 application/vnd.in-toto+json 02 {}";
        assert_eq!(verify(raw, &key.sign(raw), &key.public()), Err(StatementError::Encoding));
    }

    proptest! {
        #[test]
        fn bodies_come_back(content: Vec<u8>) {
            let (ours, other) = (pae(PAYLOAD_TYPE, &content), pae("text/plain", &content));
            prop_assert_eq!(body(&ours), Some(content.as_slice()));
            prop_assert_eq!(body(&other), None);
        }
    }
}

//! An authenticator and the browser around it, in software: real keys, real signatures, and every field open to be made wrong.
#![allow(clippy::unwrap_used, reason = "test code: where the harness fails, the test fails")]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// What a credential signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA over P-256.
    Es256,
    /// RSASSA-PKCS1-v1_5.
    Rs256,
    /// Ed25519.
    EdDsa,
}

enum Key {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// What a browser returns for a new credential.
#[derive(Debug, Clone)]
pub struct Created {
    /// What the browser was asked.
    pub client_data_json: Vec<u8>,
    /// What the authenticator made.
    pub attestation_object: Vec<u8>,
}

/// What a browser returns for a credential that it has.
#[derive(Debug, Clone)]
pub struct Got {
    /// What the browser was asked.
    pub client_data_json: Vec<u8>,
    /// What the authenticator adds.
    pub authenticator_data: Vec<u8>,
    /// Over both.
    pub signature: Vec<u8>,
}

/// An authenticator with one credential, in a browser that is on one page.
pub struct Authenticator {
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// The relying party that the credential is for.
    pub party: String,
    /// Where the browser is.
    pub origin: String,
    /// Whether the page is inside another one.
    pub cross_origin: bool,
    /// The flags of the next answer, without those that say what follows.
    pub flags: u8,
    /// The counter; each assertion counts one on, unless it is 0.
    pub sign_count: u32,
    key: Key,
}

/// Present and verified.
pub const PRESENT_AND_VERIFIED: u8 = 0b101;
/// Present only.
pub const PRESENT: u8 = 1;

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    match bytes.len() {
        0..=23 => out.push(0x40 | length[1]),
        24..=255 => out.extend([0x58, length[1]]),
        _ => out.extend([0x59, length[0], length[1]]),
    }
    out.extend_from_slice(bytes);
}

/// The modulus in an RSAPublicKey of 2,048 bits (RFC 8017, appendix A.1.1): behind two headers of four bytes and a zero.
fn rsa_2048_modulus(der: &[u8]) -> &[u8] {
    assert_eq!((der.len(), &der[4..9]), (270, [0x02, 0x82, 0x01, 0x01, 0x00].as_slice()));
    &der[9..265]
}

impl Authenticator {
    /// A new credential for a relying party, whose one page is `origin`.
    pub fn new(algorithm: Algorithm, party: &str, origin: &str) -> Self {
        let key = match algorithm {
            Algorithm::Es256 => Key::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
            Algorithm::Rs256 => Key::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Algorithm::EdDsa => Key::EdDsa(Ed25519KeyPair::generate().unwrap()),
        };
        let mut credential_id = vec![0; 32];
        aws_lc_rs::rand::fill(&mut credential_id).unwrap();
        Self {
            credential_id,
            party: party.to_owned(),
            origin: origin.to_owned(),
            cross_origin: false,
            flags: PRESENT_AND_VERIFIED,
            sign_count: 1,
            key,
        }
    }

    /// The public key as COSE writes it.
    pub fn cose_key(&self) -> Vec<u8> {
        let mut out;
        match &self.key {
            Key::Es256(pair) => {
                let point = pair.public_key().as_ref();
                out = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
                bytes(&mut out, &point[1..33]);
                out.push(0x22);
                bytes(&mut out, &point[33..]);
            }
            Key::Rs256(pair) => {
                out = vec![0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20];
                bytes(&mut out, rsa_2048_modulus(pair.public_key().as_ref()));
                out.push(0x21);
                bytes(&mut out, &[1, 0, 1]);
            }
            Key::EdDsa(pair) => {
                out = vec![0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21];
                bytes(&mut out, pair.public_key().as_ref());
            }
        }
        out
    }

    /// The browser's part for a challenge.
    pub fn client_data(&self, kind: &str, challenge: &[u8]) -> Vec<u8> {
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        json!({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross_origin})
            .to_string()
            .into_bytes()
    }

    /// The authenticator's part, with the credential in it or not.
    pub fn authenticator_data(&self, with_credential: bool) -> Vec<u8> {
        let mut out = digest(&SHA256, self.party.as_bytes()).as_ref().to_vec();
        out.push(if with_credential { self.flags | 0x40 } else { self.flags });
        out.extend(self.sign_count.to_be_bytes());
        if with_credential {
            out.extend([0; 16]);
            out.extend(u16::try_from(self.credential_id.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&self.credential_id);
            out.extend(self.cose_key());
        }
        out
    }

    /// Signs any bytes with the credential.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Es256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Key::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Key::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Makes the credential known for a challenge, without attestation.
    pub fn create(&self, challenge: &[u8]) -> Created {
        let mut object = vec![0xa3];
        object.extend(b"\x63fmt\x64none\x67attStmt\xa0\x68authData");
        bytes(&mut object, &self.authenticator_data(true));
        Created { client_data_json: self.client_data("webauthn.create", challenge), attestation_object: object }
    }

    /// Signs a challenge.
    pub fn get(&mut self, challenge: &[u8]) -> Got {
        if self.sign_count != 0 {
            self.sign_count += 1;
        }
        let (client_data_json, authenticator_data) =
            (self.client_data("webauthn.get", challenge), self.authenticator_data(false));
        let signed = [authenticator_data.as_slice(), digest(&SHA256, &client_data_json).as_ref()].concat();
        let signature = self.sign(&signed);
        Got { client_data_json, authenticator_data, signature }
    }
}

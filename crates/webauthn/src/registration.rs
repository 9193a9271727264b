//! Registering a credential (section 7.1).

use crate::authenticator_data::AuthenticatorData;
use crate::{AUTHENTICATOR_BYTES_MAX, PublicKey, Refused, RelyingParty, UserVerification, cbor, client_data};

/// A credential to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id, unique among all users.
    pub credential_id: Vec<u8>,
    /// Its public key.
    pub public_key: PublicKey,
    /// Its signature counter.
    pub sign_count: u32,
    /// Whether the authenticator verified the user.
    pub user_verified: bool,
}

/// Checks what a browser returned for `challenge`.
pub fn register(
    party: &RelyingParty,
    challenge: &[u8],
    verification: UserVerification,
    client_data_json: &[u8],
    attestation_object: &[u8],
) -> Result<Registered, Refused> {
    client_data::check(client_data_json, "webauthn.create", challenge, party)?;
    let malformed = Refused::Malformed("attestation object");
    if attestation_object.len() > AUTHENTICATOR_BYTES_MAX {
        return Err(malformed);
    }
    let object = cbor::read_all(attestation_object).ok_or(malformed)?;
    let (Some(format), Some(statement), Some(bytes)) = (
        object.named("fmt").and_then(cbor::Value::text),
        object.named("attStmt"),
        object.named("authData").and_then(cbor::Value::bytes),
    ) else {
        return Err(malformed);
    };
    let data = AuthenticatorData::parse(bytes)?;
    data.check(party, verification)?;
    let (user_verified, sign_count) = (data.user_verified(), data.sign_count);
    let credential = data.credential.ok_or(malformed)?;
    match (format, statement.entries()) {
        ("none", Some(0)) => {}
        // Signed by the credential itself: a browser passes it on also where none was asked for.
        ("packed", Some(2)) => {
            let algorithm = statement.named("alg").and_then(cbor::Value::integer);
            let signature = statement.named("sig").and_then(cbor::Value::bytes).ok_or(Refused::Attestation)?;
            if algorithm != Some(credential.key.algorithm()) {
                return Err(Refused::Attestation);
            }
            let signed = [bytes, &crypto::sha256(client_data_json).0].concat();
            credential.key.verify(&signed, signature)?;
        }
        _ => return Err(Refused::Attestation),
    }
    Ok(Registered { credential_id: credential.id, public_key: credential.key, sign_count, user_verified })
}

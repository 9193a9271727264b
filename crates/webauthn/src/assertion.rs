//! Signing in with a credential (section 7.2).

use crate::authenticator_data::AuthenticatorData;
use crate::{PublicKey, Refused, RelyingParty, UserVerification, client_data};

/// What a browser returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Which credential signed. The caller finds its key, and checks whose it is.
    pub credential_id: Vec<u8>,
    /// What the browser was asked, by whom.
    pub client_data_json: Vec<u8>,
    /// What the authenticator adds.
    pub authenticator_data: Vec<u8>,
    /// Over both.
    pub signature: Vec<u8>,
}

/// A credential was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticated {
    /// The signature counter to be stored.
    pub sign_count: u32,
    /// Whether the authenticator verified the user.
    pub user_verified: bool,
}

/// Checks what a browser returned for `challenge` with the stored key and counter of the credential.
pub fn authenticate(
    party: &RelyingParty,
    challenge: &[u8],
    verification: UserVerification,
    key: &PublicKey,
    sign_count: u32,
    assertion: &Assertion,
) -> Result<Authenticated, Refused> {
    client_data::check(&assertion.client_data_json, "webauthn.get", challenge, party)?;
    let data = AuthenticatorData::parse(&assertion.authenticator_data)?;
    data.check(party, verification)?;
    let signed = [assertion.authenticator_data.as_slice(), &crypto::sha256(&assertion.client_data_json).0].concat();
    key.verify(&signed, &assertion.signature)?;
    // An authenticator without a counter says 0 each time; one that counts goes on.
    if (data.sign_count != 0 || sign_count != 0) && data.sign_count <= sign_count {
        return Err(Refused::Counter);
    }
    Ok(Authenticated { sign_count: data.sign_count, user_verified: data.user_verified() })
}

//! Challenges to passkeys: signed, so that nothing is stored until one is answered, and bound to what they are for.
//!
//! A challenge is the SHA-256 of its `state`, a token of this installation that names the purpose, the account or sign-in or session that it
//! is for, and when it expires. Whoever answers sends the `state` back; that it is answered once is `store`'s to see to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::jwt::{self, Claims};
use domain::{ChallengeId, Error, Timestamp};
use serde_json::{Value, json};
use webauthn::{Assertion, PublicKey, RelyingParty, UserVerification};
use wire::session::{PasskeyAnswer, PasskeyChallenge};

use crate::state::ApiState;

/// The `aud` of a challenge's state.
const AUDIENCE: &str = "cairn-passkey";
/// How long a challenge may be answered, in milliseconds.
const CHALLENGE_MS: i64 = 5 * 60_000;

/// What a challenge is for, and whom: a state for one is none for another.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// A new passkey, in this session.
    Register(String),
    /// The second step of this sign-in.
    SecondStep(String),
    /// A fresh proof in this session.
    StepUp(String),
    /// A sign-in by the passkey alone.
    SignIn,
}

impl Purpose {
    fn text(&self) -> String {
        match self {
            Self::Register(session) => format!("register {session}"),
            Self::SecondStep(sign_in) => format!("second-step {sign_in}"),
            Self::StepUp(session) => format!("step-up {session}"),
            Self::SignIn => "sign-in".to_owned(),
        }
    }
}

/// A challenge that was found to be ours and alive.
pub(crate) struct Challenge {
    pub(crate) id: ChallengeId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expires_at: Timestamp,
}

/// For whom passkeys are made here.
pub(crate) fn party(state: &ApiState) -> Result<&RelyingParty, Error> {
    state.settings.relying_party.as_ref().ok_or_else(|| {
        Error::conflict(
            "passkeys are off here: set `session.passkey_origin` to the console's address in the configuration",
        )
    })
}

/// A challenge with the options that a browser takes, to which `options` adds.
pub(crate) fn ask(state: &ApiState, purpose: &Purpose, options: Value) -> PasskeyChallenge {
    let now = state.store.clock().now();
    let expires_at = now.plus_millis(CHALLENGE_MS);
    let id = ChallengeId::generate(&**state.store.clock(), &**state.store.rng());
    let claims = json!({
        "iss": state.settings.installation,
        "aud": AUDIENCE,
        "jti": id,
        "for": purpose.text(),
        "iat": now.as_seconds(),
        "exp": expires_at.as_seconds(),
    });
    let token = jwt::sign_hs256(&claims, state.jwt_secret.expose());
    let mut options = options;
    if let Some(options) = options.as_object_mut() {
        options.insert("challenge".to_owned(), json!(URL_SAFE_NO_PAD.encode(crypto::sha256(token.as_bytes()).0)));
        options.insert("timeout".to_owned(), json!(CHALLENGE_MS));
    }
    PasskeyChallenge { state: token, expires_at, options }
}

/// Reads a challenge's state back.
pub(crate) fn challenge(state: &ApiState, purpose: &Purpose, token: &str) -> Result<Challenge, Error> {
    let unknown = || Error::invalid("state", "this is no challenge of ours, or it has expired: ask for a new one");
    let claims = jwt::verify_hs256(token, state.jwt_secret.expose()).map_err(|_| unknown())?;
    let claims = Claims::new(&claims);
    claims.check_times(state.store.clock().now().as_seconds()).map_err(|_| unknown())?;
    let ours = claims.text("iss") == Some(state.settings.installation.as_str())
        && claims.text("aud") == Some(AUDIENCE)
        && claims.text("for") == Some(purpose.text().as_str());
    let id = claims.text("jti").and_then(|id| id.parse().ok());
    match (ours, id, claims.seconds("exp")) {
        (true, Some(id), Some(exp)) => Ok(Challenge {
            id,
            bytes: crypto::sha256(token.as_bytes()).0.to_vec(),
            expires_at: Timestamp::from_millis(exp.saturating_mul(1_000)),
        }),
        _ => Err(unknown()),
    }
}

/// Bytes that a browser wrote in base64url.
pub(crate) fn bytes(field: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Error::invalid(field, "use base64url without padding, as `toJSON()` writes it"))
}

/// The answer to a challenge, for `store` to check.
pub(crate) fn answer(
    state: &ApiState,
    purpose: &Purpose,
    answer: &PasskeyAnswer,
) -> Result<store::PasskeyAnswer, Error> {
    let challenge = challenge(state, purpose, &answer.state)?;
    let response = &answer.credential.response;
    Ok(store::PasskeyAnswer {
        party: party(state)?.clone(),
        challenge: challenge.bytes,
        challenge_id: challenge.id,
        expires_at: challenge.expires_at,
        verification: UserVerification::Any,
        assertion: Assertion {
            credential_id: bytes("id", &answer.credential.id)?,
            client_data_json: bytes("clientDataJSON", &response.client_data_json)?,
            authenticator_data: bytes("authenticatorData", &response.authenticator_data)?,
            signature: bytes("signature", &response.signature)?,
        },
    })
}

fn descriptors(ids: &[Vec<u8>]) -> Vec<Value> {
    ids.iter().map(|id| json!({"type": "public-key", "id": URL_SAFE_NO_PAD.encode(id)})).collect()
}

/// The options for a new passkey.
pub(crate) fn creation_options(party: &RelyingParty, user: &store::UserRow, known: &[Vec<u8>]) -> Value {
    let kinds: Vec<Value> =
        PublicKey::ALGORITHMS.iter().map(|algorithm| json!({"type": "public-key", "alg": algorithm})).collect();
    json!({
        "rp": {"id": party.id, "name": "Cairn"},
        "user": {
            "id": URL_SAFE_NO_PAD.encode(user.id.as_uuid().as_bytes()),
            "name": user.email.as_str(),
            "displayName": user.name,
        },
        "pubKeyCredParams": kinds,
        "excludeCredentials": descriptors(known),
        "authenticatorSelection": {"residentKey": "preferred", "userVerification": "preferred"},
        "attestation": "none",
    })
}

/// The options for a passkey that is there: one of these, or whichever the user picks.
pub(crate) fn request_options(party: &RelyingParty, known: Option<&[Vec<u8>]>) -> Value {
    json!({
        "rpId": party.id,
        "allowCredentials": descriptors(known.unwrap_or_default()),
        "userVerification": if known.is_some() { "preferred" } else { "required" },
    })
}

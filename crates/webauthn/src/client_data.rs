//! `clientDataJSON`: what the browser says it was asked, by whom.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::{CLIENT_DATA_BYTES_MAX, Refused, RelyingParty};

/// The members that are checked. Others may be there (section 5.8.1); one of these twice may not.
#[derive(Deserialize)]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<String>,
}

/// Checks the browser's part of a ceremony of this type.
pub(crate) fn check(bytes: &[u8], kind: &str, challenge: &[u8], party: &RelyingParty) -> Result<(), Refused> {
    if bytes.len() > CLIENT_DATA_BYTES_MAX {
        return Err(Refused::Malformed("client data"));
    }
    let data: ClientData = serde_json::from_slice(bytes).map_err(|_| Refused::Malformed("client data"))?;
    if data.r#type != kind {
        return Err(Refused::Ceremony);
    }
    // Compared as text: the one spelling that a browser gives these bytes. A short challenge could be guessed.
    let expected = URL_SAFE_NO_PAD.encode(challenge);
    if challenge.len() < 16 || !crypto::constant_time_eq(data.challenge.as_bytes(), expected.as_bytes()) {
        return Err(Refused::Challenge);
    }
    if data.origin != party.origin || data.cross_origin || data.top_origin.is_some() {
        return Err(Refused::Origin);
    }
    Ok(())
}

//! Sessions of the command line, and how one begins on another device (in the shape of RFC 8628).

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::session::Me;

/// Makes a session of the command line from the session that asks.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CliSessionCreate {
    /// What asks, for people.
    #[schema(example = "cairn 0.1.0 on laptop")]
    pub client: String,
}

/// A session of the command line that has just begun. The token is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct CliSessionCreated {
    /// Send it as `Authorization: Bearer cs_…`.
    pub token: String,
    /// When it ends at the latest; after three days without use it ends before.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// Whose it is.
    pub me: Me,
}

/// Begins a sign-in that somebody approves in a browser.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceCodeCreate {
    /// What asks, for the person who approves.
    #[schema(example = "cairn 0.1.0 on laptop")]
    pub client: String,
}

/// A sign-in that waits. The device's code is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct DeviceCodeCreated {
    /// For [`DeviceTokenCreate`]; whoever has it gets the session.
    pub device_code: String,
    /// For the person, who types it into the page.
    #[schema(example = "WDJB-MJHT")]
    pub user_code: String,
    /// The page, relative to the server's address.
    #[schema(example = "/device")]
    pub verification_uri: String,
    /// How long it waits, in seconds.
    pub expires_in: u32,
    /// How long to wait between two questions, in seconds.
    pub interval: u32,
}

/// Looks for the sign-in that waits under a code.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceShow {
    /// The code that the device shows; case, spaces and hyphens do not matter.
    #[schema(example = "WDJB-MJHT")]
    pub user_code: String,
}

/// A sign-in that waits, as the person who may approve it sees it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DeviceLogin {
    /// Its id.
    pub id: String,
    /// What asks, in its own words.
    pub client: String,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// Asks for the session. Until it was approved the answer is 400 with the code `authorization_pending` (ask again after the interval), `slow_down`
/// (and wait 5 seconds longer from now on), `access_denied` or `expired_token`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenCreate {
    /// The device's code.
    pub device_code: String,
}

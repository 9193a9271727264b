//! API keys: for machines, in one tenant, with one role.

use domain::{ApiKeyId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a key. It never holds more than its owner: it is refused while its owner could not give its role.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyCreate {
    /// Its name, once in the tenant.
    #[schema(example = "ci")]
    pub name: String,
    /// What it may do: a role that does not hold more than yours.
    #[schema(example = "read-only")]
    pub role: String,
    /// Until when it is good; without it until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// From where it is good, e.g. `10.0.0.0/8`; empty: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// Gives a key a new secret.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRotate {
    /// How long the secret so far is good too, in seconds, up to 30 days; default one day, 0: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u32>,
}

/// A key, without its secret.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// `active`, `expired`, `revoked`, or `suspended`: its owner could not give its role any more.
    pub state: String,
    /// Who answers for it.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// Their login name.
    pub owner_email: String,
    /// From where it is good; empty: from everywhere.
    pub networks: Vec<String>,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Until when it is good.
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// Since when it is revoked.
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
    /// From where it was last used.
    pub last_used_ip: Option<String>,
    /// Until when the secret before the last rotation is good too.
    #[schema(value_type = Option<String>)]
    pub old_secret_until: Option<Timestamp>,
}

/// A key with the secret that it has just got, which is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct ApiKeyCreated {
    /// The key.
    pub api_key: ApiKey,
    /// Send it as `Authorization: Bearer sk_…`.
    pub secret: String,
}
